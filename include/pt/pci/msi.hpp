// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

namespace pt::pci {

/// Message Control of the MSI capability, 2 bytes into it [pci].
struct msi_message_control : reg<msi_message_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 2;

    // clang-format off
    static constexpr bits<8, 8, bool, access::read_only>         per_vector_masking{};
    static constexpr bits<7, 7, bool, access::read_only>         address_64{};
    static constexpr bits<6, 4, std::uint8_t>                    enabled_vectors{}; ///< log2
    static constexpr bits<3, 1, std::uint8_t, access::read_only> capable_vectors{}; ///< log2
    static constexpr bits<0, 0, bool>                            enable{};
    // clang-format on
    static constexpr field_list fields{per_vector_masking, address_64, enabled_vectors,
                                       capable_vectors, enable};
};

/// What the function writes, and where, to request an interrupt.
struct msi_message {
    std::uint64_t address = 0; ///< a multiple of 4
    std::uint16_t data = 0;

    friend constexpr bool operator==(const msi_message&, const msi_message&) = default;
};

/// Gives a function's MSI capability one vector with that message, unmasks it, and turns it on. The
/// capability is off while the message changes, so that no half-written one is sent. The function
/// sends it only as a bus master (Command), and must not have MSI-X on at the same time [pci].
/// errc::absent when the function has no MSI; errc::misaligned for an address that is not a multiple
/// of 4; errc::out_of_range for one above 4 GiB where the capability has 32 bits; errc::malformed
/// with the offset of a capability that runs past the end of the first 256 bytes.
template <config_access Config>
constexpr result<void> enable_msi(Config config, function_address function, msi_message message) {
    const auto found = capabilities(config, function).find(capability_id::msi);
    if (!found) {
        return found.error();
    }
    using control = msi_message_control;
    const auto at = [&](unsigned bytes) {
        return static_cast<std::uint16_t>(found->offset + bytes);
    };
    const control before{static_cast<std::uint16_t>(
        config.read(function, at(control::offset_in_capability), width::word))};
    // [pci] message data follows the address, and the masks follow at the next dword.
    const unsigned data = before[control::address_64] ? 12 : 8;
    const unsigned mask = data + 4;
    const unsigned size = before[control::per_vector_masking] ? mask + 8 : data + 2;
    if (found->offset + size > conventional_config_space_size) {
        return error{errc::malformed, found->offset};
    }
    if (message.address % 4 != 0) {
        return error{errc::misaligned, message.address};
    }
    if (!before[control::address_64] && (message.address >> 32) != 0) {
        return error{errc::out_of_range, message.address};
    }
    const auto put_control = [&](control value) {
        config.write(function, at(control::offset_in_capability), width::word, value.raw);
    };
    const control off =
        before.write_back().with(control::enable(false), control::enabled_vectors(0));
    put_control(off);
    config.write(function, at(4), width::dword, static_cast<std::uint32_t>(message.address));
    if (before[control::address_64]) {
        config.write(function, at(8), width::dword,
                     static_cast<std::uint32_t>(message.address >> 32));
    }
    config.write(function, at(data), width::word, message.data);
    if (before[control::per_vector_masking]) {
        // 0 after reset, but whoever had the function before may have left vector 0 masked.
        const std::uint32_t masked = config.read(function, at(mask), width::dword);
        config.write(function, at(mask), width::dword, masked & ~std::uint32_t{1});
    }
    put_control(off.with(control::enable(true)));
    return {};
}

} // namespace pt::pci
