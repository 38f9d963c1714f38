// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

namespace pt::pci {

/// Message Control of the MSI capability, 2 bytes into it [pci]; bits 10:9 are of [pcie].
struct msi_message_control : reg<msi_message_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 2;

    // clang-format off
    static constexpr bits<10, 10, bool>                            extended_message_data_enable{};
    static constexpr bits< 9,  9, bool, access::read_only>         extended_message_data_capable{};
    static constexpr bits< 8,  8, bool, access::read_only>         per_vector_masking{};
    static constexpr bits< 7,  7, bool, access::read_only>         address_64{};
    static constexpr bits< 6,  4, std::uint8_t>                    enabled_vectors{}; ///< log2
    static constexpr bits< 3,  1, std::uint8_t, access::read_only> capable_vectors{}; ///< log2
    static constexpr bits< 0,  0, bool>                            enable{};
    // clang-format on
    static constexpr field_list fields{extended_message_data_enable,
                                       extended_message_data_capable,
                                       per_vector_masking,
                                       address_64,
                                       enabled_vectors,
                                       capable_vectors,
                                       enable};
};

/// Which of its four layouts an MSI capability has, and where that puts its registers: Message
/// Address (one dword or two), Message Data (a word), Mask and Pending bits (a dword each). Offsets
/// are in configuration space.
struct msi_layout {
    std::uint16_t offset = 0;       ///< of the capability
    std::uint8_t vectors = 1;       ///< capable: 1, 2, 4, 8, 16 or 32
    bool is_64bit = false;          ///< the address has an upper dword
    bool maskable = false;          ///< it has Mask and Pending bits, one a vector
    bool has_extended_data = false; ///< the word after the data is its upper half [pcie]

    /// The layout of a capability at `offset` with that Message Control. errc::malformed with the
    /// offset for a reserved number of vectors (above 32), and where it runs past the first 256
    /// bytes.
    [[nodiscard]] static constexpr result<msi_layout> of(std::uint16_t offset,
                                                         msi_message_control control) {
        using mc = msi_message_control;
        const std::uint8_t log2 = control[mc::capable_vectors];
        const msi_layout layout{offset, static_cast<std::uint8_t>(1U << log2),
                                control[mc::address_64], control[mc::per_vector_masking],
                                control[mc::extended_message_data_capable]};
        if (log2 > 5 || !ends_within(offset, layout.size(), conventional_config_space_size)) {
            return error{errc::malformed, offset};
        }
        return layout;
    }

    [[nodiscard]] constexpr std::uint16_t control_offset() const { return at(2); }
    [[nodiscard]] constexpr std::uint16_t address_offset() const { return at(4); }
    /// Of the address's upper dword; means something only if is_64bit.
    [[nodiscard]] constexpr std::uint16_t upper_address_offset() const { return at(8); }
    [[nodiscard]] constexpr std::uint16_t data_offset() const { return at(is_64bit ? 12 : 8); }
    /// Means something only if maskable, and so does the next.
    [[nodiscard]] constexpr std::uint16_t mask_offset() const { return at(is_64bit ? 16 : 12); }
    [[nodiscard]] constexpr std::uint16_t pending_offset() const { return at(is_64bit ? 20 : 16); }

    /// Bytes, header included.
    [[nodiscard]] constexpr std::uint16_t size() const {
        const unsigned to_data = is_64bit ? 12 : 8;
        const unsigned after_data = maskable ? 12 : has_extended_data ? 4 : 2;
        return static_cast<std::uint16_t>(to_data + after_data);
    }

    friend constexpr bool operator==(const msi_layout&, const msi_layout&) = default;

private:
    [[nodiscard]] constexpr std::uint16_t at(unsigned bytes) const {
        return static_cast<std::uint16_t>(offset + bytes);
    }
};

/// errc::absent when the function has no MSI; errc::malformed as of msi_layout::of.
template <config_access Config>
[[nodiscard]] constexpr result<msi_layout> read_msi(Config config, function_address function) {
    const auto found = capabilities(config, function).find(capability_id::msi, 4);
    if (!found) {
        return found.error();
    }
    return msi_layout::of(found->offset, read<msi_message_control>(config, function, *found));
}

/// What the function writes, and where, to request an interrupt.
struct msi_message {
    std::uint64_t address = 0; ///< a multiple of 4
    std::uint16_t data = 0;

    friend constexpr bool operator==(const msi_message&, const msi_message&) = default;
};

/// Gives a function's MSI capability 2^vectors_log2 vectors with that message, unmasks them, and
/// turns it on; of several vectors, each puts its number into the low bits of the data [pci]. The
/// capability is off while the message changes, so that no half-written one is sent. The function
/// sends it only as a bus master (Command), and must not have MSI-X on at the same time [pci].
/// errc::misaligned for an address that is not a multiple of 4; errc::out_of_range for one above
/// 4 GiB where the capability has 32 bits, and with vectors_log2 for more vectors than it is
/// capable of; else the errors of read_msi.
template <config_access Config>
constexpr result<void> enable_msi(Config config, function_address function, msi_message message,
                                  std::uint8_t vectors_log2 = 0) {
    const auto layout = read_msi(config, function);
    if (!layout) {
        return layout.error();
    }
    if (message.address % 4 != 0) {
        return error{errc::misaligned, message.address};
    }
    if (!layout->is_64bit && (message.address >> 32) != 0) {
        return error{errc::out_of_range, message.address};
    }
    if (vectors_log2 > 5 || 1U << vectors_log2 > layout->vectors) {
        return error{errc::out_of_range, vectors_log2};
    }
    using control = msi_message_control;
    const capability msi{capability_id::msi, layout->offset};
    // Whoever had the function before may have left 32 bits of data on, and vectors masked.
    const control off = read<control>(config, function, msi)
                            .write_back()
                            .with(control::enable(false), control::enabled_vectors(vectors_log2),
                                  control::extended_message_data_enable(false));
    write(config, function, msi, off);
    config.write(function, layout->address_offset(), width::dword,
                 static_cast<std::uint32_t>(message.address));
    if (layout->is_64bit) {
        config.write(function, layout->upper_address_offset(), width::dword,
                     static_cast<std::uint32_t>(message.address >> 32));
    }
    config.write(function, layout->data_offset(), width::word, message.data);
    if (layout->maskable) {
        const std::uint32_t used = ~std::uint32_t{0} >> (32U - (1U << vectors_log2));
        const std::uint32_t masked = config.read(function, layout->mask_offset(), width::dword);
        config.write(function, layout->mask_offset(), width::dword, masked & ~used);
    }
    write(config, function, msi, off.with(control::enable(true)));
    return {};
}

/// Turns a function's MSI capability off; its message stays as it is. Errors of read_msi.
template <config_access Config>
constexpr result<void> disable_msi(Config config, function_address function) {
    const auto layout = read_msi(config, function);
    if (!layout) {
        return layout.error();
    }
    using control = msi_message_control;
    const capability msi{capability_id::msi, layout->offset};
    write(config, function, msi,
          read<control>(config, function, msi).write_back().with(control::enable(false)));
    return {};
}

} // namespace pt::pci
