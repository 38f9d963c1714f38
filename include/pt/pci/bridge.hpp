// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <cstdint>

/// The registers of header type 01h, a PCI-to-PCI bridge, from 0x18 on [pci-bridge]. Its two Base
/// Address registers and the expansion ROM's are in bar.hpp, the rest in header.hpp. What the bases
/// and limits mean together is in bridge_window.hpp.
namespace pt::pci {

/// The bus numbers of a bridge. The dword is the same in header type 02h.
struct bus_numbers : reg<bus_numbers, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x18;

    // clang-format off
    static constexpr bits<31, 24, std::uint8_t> secondary_latency_timer{}; ///< 0 in PCI Express
    static constexpr bits<23, 16, std::uint8_t> subordinate{}; ///< the highest bus behind it
    static constexpr bits<15,  8, std::uint8_t> secondary{};   ///< the bus right behind it
    static constexpr bits< 7,  0, std::uint8_t> primary{};     ///< the bus that it is on
    // clang-format on
    static constexpr field_list fields{secondary_latency_timer, subordinate, secondary, primary};
};

/// How many bits of an I/O address a bridge decodes. The other numbers are reserved.
enum class io_addressing : std::uint8_t { bits_16 = 0, bits_32 = 1 };

/// I/O Base: the window's first address; bits 11:0 are 0.
struct io_base : reg<io_base, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x1C;

    // clang-format off
    static constexpr bits<7, 4, std::uint8_t>                     address_15_12{};
    static constexpr bits<3, 0, io_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_15_12, addressing};
};

/// I/O Limit: the window's last address; bits 11:0 are 1.
struct io_limit : reg<io_limit, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x1D;

    // clang-format off
    static constexpr bits<7, 4, std::uint8_t>                     address_15_12{};
    static constexpr bits<3, 0, io_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_15_12, addressing};
};

/// Secondary Status: as Status, for the bus behind the bridge. Bit 14 tells that SERR# was seen
/// there, not that the bridge raised it.
struct secondary_status : reg<secondary_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x1E;

    // clang-format off
    static constexpr bits<15, 15, bool, access::write_1_to_clear>  detected_parity_error{};
    static constexpr bits<14, 14, bool, access::write_1_to_clear>  received_system_error{};
    static constexpr bits<13, 13, bool, access::write_1_to_clear>  received_master_abort{};
    static constexpr bits<12, 12, bool, access::write_1_to_clear>  received_target_abort{};
    static constexpr bits<11, 11, bool, access::write_1_to_clear>  signaled_target_abort{};
    static constexpr bits<10,  9, std::uint8_t, access::read_only> devsel_timing{};
    static constexpr bits< 8,  8, bool, access::write_1_to_clear>  master_data_parity_error{};
    static constexpr bits< 7,  7, bool, access::read_only>         fast_back_to_back_capable{};
    static constexpr bits< 6,  6, bool, access::zero>              reserved_6{};
    static constexpr bits< 5,  5, bool, access::read_only>         capable_of_66_mhz{};
    static constexpr bits< 4,  0, std::uint8_t, access::zero>      reserved_4_0{};
    // clang-format on
    static constexpr field_list fields{detected_parity_error,
                                       received_system_error,
                                       received_master_abort,
                                       received_target_abort,
                                       signaled_target_abort,
                                       devsel_timing,
                                       master_data_parity_error,
                                       fast_back_to_back_capable,
                                       reserved_6,
                                       capable_of_66_mhz,
                                       reserved_4_0};
};

/// Memory Base: the window's first address; bits 19:0 are 0.
struct memory_base : reg<memory_base, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x20;

    // clang-format off
    static constexpr bits<15, 4, std::uint16_t>                   address_31_20{};
    static constexpr bits< 3, 0, std::uint8_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_20, always_zero};
};

/// Memory Limit: the window's last address; bits 19:0 are 1.
struct memory_limit : reg<memory_limit, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x22;

    // clang-format off
    static constexpr bits<15, 4, std::uint16_t>                   address_31_20{};
    static constexpr bits< 3, 0, std::uint8_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_20, always_zero};
};

/// How many bits of a prefetchable address a bridge decodes. The other numbers are reserved.
enum class prefetchable_addressing : std::uint8_t { bits_32 = 0, bits_64 = 1 };

/// Prefetchable Memory Base: the window's first address; bits 19:0 are 0.
struct prefetchable_memory_base : reg<prefetchable_memory_base, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x24;

    // clang-format off
    static constexpr bits<15, 4, std::uint16_t>                              address_31_20{};
    static constexpr bits< 3, 0, prefetchable_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_31_20, addressing};
};

/// Prefetchable Memory Limit: the window's last address; bits 19:0 are 1.
struct prefetchable_memory_limit : reg<prefetchable_memory_limit, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x26;

    // clang-format off
    static constexpr bits<15, 4, std::uint16_t>                              address_31_20{};
    static constexpr bits< 3, 0, prefetchable_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_31_20, addressing};
};

/// Prefetchable Base Upper 32 Bits. Nothing unless the addressing is of 64 bits.
struct prefetchable_base_upper_32 : reg<prefetchable_base_upper_32, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x28;

    static constexpr bits<31, 0, std::uint32_t> address_63_32{};
    static constexpr field_list fields{address_63_32};
};

/// Prefetchable Limit Upper 32 Bits. Nothing unless the addressing is of 64 bits.
struct prefetchable_limit_upper_32 : reg<prefetchable_limit_upper_32, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x2C;

    static constexpr bits<31, 0, std::uint32_t> address_63_32{};
    static constexpr field_list fields{address_63_32};
};

/// I/O Base Upper 16 Bits. Nothing unless the addressing is of 32 bits.
struct io_base_upper_16 : reg<io_base_upper_16, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x30;

    static constexpr bits<15, 0, std::uint16_t> address_31_16{};
    static constexpr field_list fields{address_31_16};
};

/// I/O Limit Upper 16 Bits. Nothing unless the addressing is of 32 bits.
struct io_limit_upper_16 : reg<io_limit_upper_16, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x32;

    static constexpr bits<15, 0, std::uint16_t> address_31_16{};
    static constexpr field_list fields{address_31_16};
};

/// Bridge Control. PCI Express has no use for bits 5 and 11:7 and hard-wires them to 0 [pcie].
struct bridge_control : reg<bridge_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x3E;

    // clang-format off
    static constexpr bits<15, 12, std::uint8_t, access::preserve> reserved_15_12{};
    static constexpr bits<11, 11, bool>                           discard_timer_serr_enable{};
    static constexpr bits<10, 10, bool, access::write_1_to_clear> discard_timer_status{};
    static constexpr bits< 9,  9, bool> secondary_discard_timer{};  ///< 2^10 clocks, not 2^15
    static constexpr bits< 8,  8, bool> primary_discard_timer{};    ///< 2^10 clocks, not 2^15
    static constexpr bits< 7,  7, bool> fast_back_to_back_enable{};
    static constexpr bits< 6,  6, bool> secondary_bus_reset{};      ///< for as long as it is 1
    static constexpr bits< 5,  5, bool> master_abort_mode{};        ///< report aborts
    static constexpr bits< 4,  4, bool> vga_16_bit_decode{};        ///< no aliases of VGA's ports
    static constexpr bits< 3,  3, bool> vga_enable{};
    static constexpr bits< 2,  2, bool> isa_enable{};   ///< not the last 768 of each 1024 ports
    static constexpr bits< 1,  1, bool> serr_enable{};
    static constexpr bits< 0,  0, bool> parity_error_response{};
    // clang-format on
    static constexpr field_list fields{reserved_15_12,
                                       discard_timer_serr_enable,
                                       discard_timer_status,
                                       secondary_discard_timer,
                                       primary_discard_timer,
                                       fast_back_to_back_enable,
                                       secondary_bus_reset,
                                       master_abort_mode,
                                       vga_16_bit_decode,
                                       vga_enable,
                                       isa_enable,
                                       serr_enable,
                                       parity_error_response};
};

/// Gives a bridge, of header type 01h or 02h, its bus numbers in one access; the latency timer
/// stays. Secondary and subordinate 0 take the buses away again. errc::absent with the register's
/// offset: no bridge. errc::out_of_range with the number that is wrong: the secondary bus is not
/// above the primary, or the subordinate is below the secondary. errc::hardware_fault with the
/// offset: the register does not hold them. With an error nothing has changed.
template <config_access Config>
[[nodiscard]] constexpr result<void> write_bus_numbers(Config config, function_address bridge,
                                                       std::uint8_t primary, std::uint8_t secondary,
                                                       std::uint8_t subordinate) {
    const auto layout = read<header_type>(config, bridge)[header_type::layout];
    if (layout != header_layout::bridge && layout != header_layout::cardbus_bridge) {
        return error{errc::absent, bus_numbers::offset};
    }
    const bool taken_away = secondary == 0 && subordinate == 0;
    if (!taken_away && secondary <= primary) {
        return error{errc::out_of_range, secondary};
    }
    if (subordinate < secondary) {
        return error{errc::out_of_range, subordinate};
    }
    const auto before = read<bus_numbers>(config, bridge);
    const auto wanted =
        before.with(bus_numbers::primary(primary), bus_numbers::secondary(secondary),
                    bus_numbers::subordinate(subordinate));
    write(config, bridge, wanted);
    if (read<bus_numbers>(config, bridge) != wanted) {
        write(config, bridge, before);
        return error{errc::hardware_fault, bus_numbers::offset};
    }
    return {};
}

} // namespace pt::pci
