// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

/// Resizable BAR, an extended capability [pcie]: some BARs of the function can have one of several
/// sizes. After the header come up to six pairs of these two registers.
namespace pt::pci {

/// Resizable BAR Capability Register of the first BAR; that of the next one is 8 bytes further.
struct resizable_bar_capability : reg<resizable_bar_capability, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    /// Bit n of the field: 1 MiB << n, up to 128 TiB.
    static constexpr bits<31, 4, std::uint32_t, access::read_only> supported_sizes{};
    static constexpr field_list fields{supported_sizes};
};

/// Resizable BAR Control Register of the first BAR; that of the next one is 8 bytes further.
struct resizable_bar_control : reg<resizable_bar_control, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 8;

    // clang-format off
    /// Bit n of the field: 256 TiB << n, up to 8 EiB.
    static constexpr bits<31, 16, std::uint16_t, access::read_only> supported_sizes{};
    static constexpr bits<15, 14, std::uint8_t, access::preserve>   reserved_15_14{};
    static constexpr bits<13,  8, std::uint8_t>                     bar_size{}; ///< 1 MiB << n
    static constexpr bits< 7,  5, std::uint8_t, access::read_only>  number_of_resizable_bars{}; ///< in the first
    static constexpr bits< 4,  3, std::uint8_t, access::preserve>   reserved_4_3{};
    static constexpr bits< 2,  0, std::uint8_t, access::read_only>  bar_index{}; ///< 0..5
    // clang-format on
    static constexpr field_list fields{supported_sizes,          reserved_15_14, bar_size,
                                       number_of_resizable_bars, reserved_4_3,   bar_index};
};

/// A BAR that can have several sizes.
struct resizable_bar {
    /// Where its two registers are: as if they were the first two of a capability there.
    extended_capability at{};
    std::uint8_t index = 0;  ///< of its (first) Base Address register, 0..5
    std::uint64_t sizes = 0; ///< the supported ones: bit n is 1 MiB << n, up to bit 43
    std::uint64_t size = 0;  ///< the present one, in bytes

    /// Whether it can have `bytes`.
    [[nodiscard]] constexpr bool supports(std::uint64_t bytes) const {
        return bytes >= MiB && (bytes & (bytes - 1)) == 0 && (sizes & bytes / MiB) != 0;
    }

    friend constexpr bool operator==(const resizable_bar&, const resizable_bar&) = default;
};

/// A function's resizable BARs, at most six, in the order of the capability.
class resizable_bar_list {
public:
    using value_type = resizable_bar;

    [[nodiscard]] constexpr const resizable_bar* begin() const { return entries_; }
    [[nodiscard]] constexpr const resizable_bar* end() const { return entries_ + count_; }
    [[nodiscard]] constexpr std::size_t size() const { return count_; }

    /// The one that starts in register `index`; errc::absent with the index if none does.
    [[nodiscard]] constexpr result<resizable_bar> find(std::uint8_t index) const {
        for (const resizable_bar& entry : *this) {
            if (entry.index == index) {
                return entry;
            }
        }
        return error{errc::absent, index};
    }

    /// Adds one; nothing happens beyond the sixth.
    constexpr void push_back(const resizable_bar& entry) {
        if (count_ < 6) {
            entries_[count_++] = entry;
        }
    }

private:
    resizable_bar entries_[6]{};
    std::size_t count_ = 0;
};

/// errc::absent when the function has no such capability. errc::malformed with its offset when it
/// runs past the end of the space, or counts none or more than six BARs; with that of a pair of
/// registers that names a BAR above 5 or one a second time, or a size above 8 EiB.
template <config_access Config>
[[nodiscard]] constexpr result<resizable_bar_list> read_resizable_bars(Config config,
                                                                       function_address function) {
    using control_register = resizable_bar_control;
    const auto at =
        extended_capabilities(config, function).find(extended_capability_id::resizable_bar, 12);
    if (!at) {
        return at.error();
    }
    const unsigned count =
        read<control_register>(config, function, *at)[control_register::number_of_resizable_bars];
    if (count == 0 || count > 6 || !at->has_room(4 + 8 * count)) {
        return error{errc::malformed, at->offset};
    }
    resizable_bar_list list;
    for (unsigned n = 0; n < count; ++n) {
        extended_capability pair = *at;
        pair.offset = static_cast<std::uint16_t>(at->offset + 8 * n);
        const auto capability = read<resizable_bar_capability>(config, function, pair);
        const auto control = read<control_register>(config, function, pair);
        const std::uint8_t index = control[control_register::bar_index];
        const std::uint8_t log2 = control[control_register::bar_size];
        if (index > 5 || log2 > 43 || list.find(index)) {
            return error{errc::malformed, pair.offset};
        }
        list.push_back({pair, index,
                        std::uint64_t{capability[resizable_bar_capability::supported_sizes]} |
                            std::uint64_t{control[control_register::supported_sizes]} << 28,
                        MiB << log2});
    }
    return list;
}

/// Gives a BAR another size and, because the old address seldom suits it, another address, all with
/// decoding off: what the function decodes afterwards is the new range and nothing in between. The
/// BAR as it is now is what sizing found, not what was asked for.
/// errc::not_supported with the size: not among the supported ones. errc::misaligned,
/// errc::out_of_range with the address: as of check_bar_address. errc::absent with the index: no such
/// function or register. errc::absent or errc::malformed with the BAR's offset: no sound BAR for
/// memory is there. errc::hardware_fault with that offset: the size or the address was not taken.
/// With an error both are as they were.
template <config_access Config>
[[nodiscard]] constexpr result<bar> resize_bar(Config config, function_address function,
                                               const resizable_bar& entry, std::uint64_t size,
                                               std::uint64_t address) {
    if (!entry.supports(size)) {
        return error{errc::not_supported, size};
    }
    if (!read<identity>(config, function).present()) {
        return error{errc::absent, entry.index};
    }
    const auto layout = read<header_type>(config, function)[header_type::layout];
    decoding_off<Config> registers{config, function};
    const auto before = size_bar(registers, layout, entry.index);
    if (!before) {
        return before;
    }
    if (before->kind != bar_kind::mem32 && before->kind != bar_kind::mem64) {
        return error{errc::malformed, before->offset};
    }
    bar wanted = *before;
    wanted.size = size;
    if (const auto allowed = check_bar_address(wanted, address); !allowed) {
        return allowed.error();
    }

    using control_register = resizable_bar_control;
    const std::uint64_t contents = registers.read(*before);
    const auto control = read<control_register>(config, function, entry.at);
    const auto log2 = static_cast<std::uint8_t>(std::countr_zero(size / MiB));
    write(config, function, entry.at, control.write_back().with(control_register::bar_size(log2)));

    // Whatever address bits are left of the old one, the new size may not have them.
    registers.write(*before, contents & bar_flag_bits(before->kind));
    const auto resized = size_bar(registers, layout, entry.index);
    if (resized && resized->kind == before->kind && resized->size == size) {
        if (const auto placed = registers.place(*resized, address)) {
            return placed;
        }
    }
    write(config, function, entry.at, control.write_back());
    registers.write(*before, contents);
    return error{errc::hardware_fault, before->offset};
}

} // namespace pt::pci
