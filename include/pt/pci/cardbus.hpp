// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/pci/config_register.hpp"

#include <cstdint>

/// The registers of header type 02h, a PCI-to-CardBus bridge [pc-card]. Its bus numbers are as a
/// PCI-to-PCI bridge's, in bridge.hpp; what precedes 0x10 is in header.hpp. A window is closed when
/// its base is above its limit.
namespace pt::pci::cardbus {

/// How many bits of an I/O address a window decodes. The other numbers are reserved.
enum class io_addressing : std::uint8_t { bits_16 = 0, bits_32 = 1 };

/// CardBus Socket / ExCA Base Address: 4 KiB of memory with the socket's own registers.
struct socket_base : reg<socket_base, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x10;

    // clang-format off
    static constexpr bits<31, 12, std::uint32_t>                    address_31_12{};
    static constexpr bits<11,  0, std::uint16_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_12, always_zero};
};

/// Capabilities Pointer, here and not at 0x34.
struct capabilities_pointer : reg<capabilities_pointer, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x14;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> pointer{};
    static constexpr field_list fields{pointer};
};

/// Secondary Status: as Status, for the card.
struct secondary_status : reg<secondary_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x16;

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

/// Memory Base 0: the first address of memory window 0; bits 11:0 are 0. Bridge Control says
/// whether the window may be prefetched.
struct memory_base_0 : reg<memory_base_0, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x1C;

    // clang-format off
    static constexpr bits<31, 12, std::uint32_t>                    address_31_12{};
    static constexpr bits<11,  0, std::uint16_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_12, always_zero};
};

/// Memory Limit 0: the last address of memory window 0; bits 11:0 are 1.
struct memory_limit_0 : reg<memory_limit_0, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x20;

    // clang-format off
    static constexpr bits<31, 12, std::uint32_t>                    address_31_12{};
    static constexpr bits<11,  0, std::uint16_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_12, always_zero};
};

/// Memory Base 1: as Memory Base 0, of window 1.
struct memory_base_1 : reg<memory_base_1, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x24;

    // clang-format off
    static constexpr bits<31, 12, std::uint32_t>                    address_31_12{};
    static constexpr bits<11,  0, std::uint16_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_12, always_zero};
};

/// Memory Limit 1: as Memory Limit 0, of window 1.
struct memory_limit_1 : reg<memory_limit_1, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x28;

    // clang-format off
    static constexpr bits<31, 12, std::uint32_t>                    address_31_12{};
    static constexpr bits<11,  0, std::uint16_t, access::read_only> always_zero{};
    // clang-format on
    static constexpr field_list fields{address_31_12, always_zero};
};

/// I/O Base 0: the first port of I/O window 0, a multiple of 4. With 16-bit addressing bits 31:16
/// are hard-wired to 0.
struct io_base_0 : reg<io_base_0, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x2C;

    // clang-format off
    static constexpr bits<31, 2, std::uint32_t>                    address_31_2{};
    static constexpr bits< 1, 0, io_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_31_2, addressing};
};

/// I/O Limit 0: the last four ports of I/O window 0; bits 1:0 of the last one's number are 1.
struct io_limit_0 : reg<io_limit_0, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x30;

    // clang-format off
    static constexpr bits<31, 2, std::uint32_t>                    address_31_2{};
    static constexpr bits< 1, 0, io_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_31_2, addressing};
};

/// I/O Base 1: as I/O Base 0, of window 1.
struct io_base_1 : reg<io_base_1, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x34;

    // clang-format off
    static constexpr bits<31, 2, std::uint32_t>                    address_31_2{};
    static constexpr bits< 1, 0, io_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_31_2, addressing};
};

/// I/O Limit 1: as I/O Limit 0, of window 1.
struct io_limit_1 : reg<io_limit_1, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x38;

    // clang-format off
    static constexpr bits<31, 2, std::uint32_t>                    address_31_2{};
    static constexpr bits< 1, 0, io_addressing, access::read_only> addressing{};
    // clang-format on
    static constexpr field_list fields{address_31_2, addressing};
};

/// Bridge Control.
struct bridge_control : reg<bridge_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x3E;

    // clang-format off
    static constexpr bits<15, 11, std::uint8_t, access::preserve> reserved_15_11{};
    static constexpr bits<10, 10, bool>                           write_posting_enable{};
    static constexpr bits< 9,  9, bool>                           memory_1_prefetch_enable{};
    static constexpr bits< 8,  8, bool>                           memory_0_prefetch_enable{};
    static constexpr bits< 7,  7, bool>                           ireq_int_enable{}; ///< as ExCA says, not as INTx
    static constexpr bits< 6,  6, bool>                           cardbus_reset{};
    static constexpr bits< 5,  5, bool>                           master_abort_mode{};
    static constexpr bits< 4,  4, bool, access::preserve>         reserved_4{};
    static constexpr bits< 3,  3, bool>                           vga_enable{};
    static constexpr bits< 2,  2, bool>                           isa_enable{};
    static constexpr bits< 1,  1, bool>                           serr_enable{};
    static constexpr bits< 0,  0, bool>                           parity_error_response{};
    // clang-format on
    static constexpr field_list fields{reserved_15_11,
                                       write_posting_enable,
                                       memory_1_prefetch_enable,
                                       memory_0_prefetch_enable,
                                       ireq_int_enable,
                                       cardbus_reset,
                                       master_abort_mode,
                                       reserved_4,
                                       vga_enable,
                                       isa_enable,
                                       serr_enable,
                                       parity_error_response};
};

/// Subsystem ID and Subsystem Vendor ID, here and not at 0x2C. Firmware may write them in some.
struct subsystem : reg<subsystem, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x40;

    // clang-format off
    static constexpr bits<31, 16, std::uint16_t, access::read_only> subsystem_id{};
    static constexpr bits<15,  0, std::uint16_t, access::read_only> subsystem_vendor_id{};
    // clang-format on
    static constexpr field_list fields{subsystem_id, subsystem_vendor_id};
};

/// PC Card 16-bit IF Legacy Mode Base Address: where a driver for 16-bit cards finds the socket's
/// registers, as ports.
struct legacy_mode_base : reg<legacy_mode_base, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x44;

    // clang-format off
    static constexpr bits<31, 1, std::uint32_t>           address_31_1{};
    static constexpr bits< 0, 0, bool, access::read_only> is_io{}; ///< always 1
    // clang-format on
    static constexpr field_list fields{address_31_1, is_io};
};

} // namespace pt::pci::cardbus
