// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/pci/config_register.hpp"

#include <cstdint>

/// The registers of the configuration space header [pci]. Each is read and written with one access
/// of its own size: read<command>(config, function).
namespace pt::pci {

/// Device ID and Vendor ID, the first dword of every function.
struct identity : reg<identity, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x00;

    // clang-format off
    static constexpr bits<31, 16, std::uint16_t, access::read_only> device_id{};
    static constexpr bits<15,  0, std::uint16_t, access::read_only> vendor_id{};
    // clang-format on
    static constexpr field_list fields{device_id, vendor_id};

    /// Whether a function answered. 0xFFFF is no vendor's id [pci], and neither is 0, which some
    /// boards yield for an empty slot.
    [[nodiscard]] constexpr bool present() const {
        return (*this)[vendor_id] != 0xFFFF && (*this)[vendor_id] != 0;
    }
    /// Whether the function is there but not ready after a reset: vendor id 0x0001, which
    /// Configuration Request Retry Status yields when software has asked to see it [pcie].
    [[nodiscard]] constexpr bool not_ready() const { return (*this)[vendor_id] == 0x0001; }
};

/// Command. 16 bits: the dword at its offset holds Status too, which a wider write would clear.
struct command : reg<command, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x04;

    // clang-format off
    static constexpr bits<15, 11, std::uint8_t, access::preserve> reserved_15_11{};
    static constexpr bits<10, 10, bool>                           interrupt_disable{};
    static constexpr bits< 9,  9, bool>                           fast_back_to_back_enable{};
    static constexpr bits< 8,  8, bool>                           serr_enable{};
    static constexpr bits< 7,  7, bool, access::preserve>         reserved_7{};
    static constexpr bits< 6,  6, bool>                           parity_error_response{};
    static constexpr bits< 5,  5, bool>                           vga_palette_snoop{};
    static constexpr bits< 4,  4, bool>                           memory_write_and_invalidate{};
    static constexpr bits< 3,  3, bool>                           special_cycles{};
    static constexpr bits< 2,  2, bool>                           bus_master{};
    static constexpr bits< 1,  1, bool>                           memory_space{};
    static constexpr bits< 0,  0, bool>                           io_space{};
    // clang-format on
    static constexpr field_list fields{reserved_15_11,
                                       interrupt_disable,
                                       fast_back_to_back_enable,
                                       serr_enable,
                                       reserved_7,
                                       parity_error_response,
                                       vga_palette_snoop,
                                       memory_write_and_invalidate,
                                       special_cycles,
                                       bus_master,
                                       memory_space,
                                       io_space};
};

/// Status. Errors are cleared by writing 1.
struct status : reg<status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x06;

    // clang-format off
    static constexpr bits<15, 15, bool, access::write_1_to_clear>  detected_parity_error{};
    static constexpr bits<14, 14, bool, access::write_1_to_clear>  signaled_system_error{};
    static constexpr bits<13, 13, bool, access::write_1_to_clear>  received_master_abort{};
    static constexpr bits<12, 12, bool, access::write_1_to_clear>  received_target_abort{};
    static constexpr bits<11, 11, bool, access::write_1_to_clear>  signaled_target_abort{};
    static constexpr bits<10,  9, std::uint8_t, access::read_only> devsel_timing{};
    static constexpr bits< 8,  8, bool, access::write_1_to_clear>  master_data_parity_error{};
    static constexpr bits< 7,  7, bool, access::read_only>         fast_back_to_back_capable{};
    static constexpr bits< 6,  6, bool, access::zero>              reserved_6{};
    static constexpr bits< 5,  5, bool, access::read_only>         capable_of_66_mhz{};
    static constexpr bits< 4,  4, bool, access::read_only>         capabilities_list{};
    static constexpr bits< 3,  3, bool, access::read_only>         interrupt_status{};
    static constexpr bits< 2,  1, std::uint8_t, access::zero>      reserved_2_1{};
    /// It can be accessed at once after a reset [pcie].
    static constexpr bits< 0,  0, bool, access::read_only>         immediate_readiness{};
    // clang-format on
    static constexpr field_list fields{detected_parity_error,
                                       signaled_system_error,
                                       received_master_abort,
                                       received_target_abort,
                                       signaled_target_abort,
                                       devsel_timing,
                                       master_data_parity_error,
                                       fast_back_to_back_capable,
                                       reserved_6,
                                       capable_of_66_mhz,
                                       capabilities_list,
                                       interrupt_status,
                                       reserved_2_1,
                                       immediate_readiness};
};

/// The base class, what a function is at first glance [pci]. A function may say any other number.
enum class base_class : std::uint8_t {
    unclassified = 0x00, ///< built before there were class codes
    mass_storage = 0x01,
    network = 0x02,
    display = 0x03,
    multimedia = 0x04,
    memory = 0x05,
    bridge = 0x06,
    simple_communication = 0x07,
    base_system_peripheral = 0x08,
    input = 0x09,
    docking_station = 0x0A,
    processor = 0x0B,
    serial_bus = 0x0C,
    wireless = 0x0D,
    intelligent_io = 0x0E,
    satellite_communication = 0x0F,
    encryption = 0x10,
    signal_processing = 0x11,
    processing_accelerator = 0x12,
    non_essential_instrumentation = 0x13,
    other = 0xFF, ///< fits no class
};

/// Class Code (its three bytes) and Revision ID.
struct class_code : reg<class_code, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x08;

    // clang-format off
    static constexpr bits<31, 24, pci::base_class, access::read_only> base_class{};
    static constexpr bits<23, 16, std::uint8_t, access::read_only>    sub_class{};
    static constexpr bits<15,  8, std::uint8_t, access::read_only>    programming_interface{};
    static constexpr bits< 7,  0, std::uint8_t, access::read_only>    revision_id{};
    // clang-format on
    static constexpr field_list fields{base_class, sub_class, programming_interface, revision_id};
};

/// Cacheline Size, in dwords.
struct cache_line_size : reg<cache_line_size, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x0C;

    static constexpr bits<7, 0, std::uint8_t> dwords{};
    static constexpr field_list fields{dwords};
};

/// Latency Timer, in PCI bus clocks; 0 in PCI Express.
struct latency_timer : reg<latency_timer, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x0D;

    static constexpr bits<7, 0, std::uint8_t> clocks{};
    static constexpr field_list fields{clocks};
};

/// What lies from 0x10 on. The seven bits can hold more than these.
enum class header_layout : std::uint8_t {
    device = 0,         ///< type 00h
    bridge = 1,         ///< type 01h, PCI-to-PCI bridge
    cardbus_bridge = 2, ///< type 02h
};

/// Header Type.
struct header_type : reg<header_type, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x0E;

    // clang-format off
    static constexpr bits<7, 7, bool, access::read_only>          multi_function{};
    static constexpr bits<6, 0, header_layout, access::read_only> layout{};
    // clang-format on
    static constexpr field_list fields{multi_function, layout};
};

/// Built-in Self Test.
struct bist : reg<bist, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x0F;

    // clang-format off
    static constexpr bits<7, 7, bool, access::read_only>         capable{};
    static constexpr bits<6, 6, bool>                            start{};
    static constexpr bits<5, 4, std::uint8_t, access::preserve>  reserved_5_4{};
    static constexpr bits<3, 0, std::uint8_t, access::read_only> completion_code{};
    // clang-format on
    static constexpr field_list fields{capable, start, reserved_5_4, completion_code};
};

/// Interrupt Line: firmware's note of the interrupt controller's input; the hardware ignores it.
struct interrupt_line : reg<interrupt_line, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x3C;

    static constexpr bits<7, 0, std::uint8_t> input{};
    static constexpr field_list fields{input};
};

/// Interrupt Pin: 0 for none, 1..4 for INTA#..INTD#.
struct interrupt_pin : reg<interrupt_pin, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x3D;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> pin{};
    static constexpr field_list fields{pin};
};

/// Expansion ROM Base Address. Header type 00h only; type 01h has the same at 0x38. bar.hpp sizes and
/// moves it; whether it answers is for this register to say, besides Command.
struct expansion_rom_base_address : reg<expansion_rom_base_address, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x30;

    // clang-format off
    static constexpr bits<31, 11, std::uint32_t>                   base{}; ///< in units of 2 KiB
    static constexpr bits<10,  1, std::uint16_t, access::preserve> reserved_10_1{};
    static constexpr bits< 0,  0, bool>                            enable{};
    // clang-format on
    static constexpr field_list fields{base, reserved_10_1, enable};
};

/// MIN_GNT: how long the function likes to keep the bus, in units of 1/4 microsecond; 0 in PCI
/// Express. Header type 00h only.
struct min_gnt : reg<min_gnt, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x3E;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> quarter_microseconds{};
    static constexpr field_list fields{quarter_microseconds};
};

/// MAX_LAT: how often the function needs the bus, in units of 1/4 microsecond; 0 in PCI Express.
/// Header type 00h only.
struct max_lat : reg<max_lat, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x3F;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> quarter_microseconds{};
    static constexpr field_list fields{quarter_microseconds};
};

/// CardBus CIS Pointer: where a CardBus card's description of itself begins; 0 in all else. Header
/// type 00h only.
struct cardbus_cis_pointer : reg<cardbus_cis_pointer, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x28;

    // clang-format off
    static constexpr bits<31, 28, std::uint8_t, access::read_only>  rom_image{};
    static constexpr bits<27,  3, std::uint32_t, access::read_only> offset_in_qwords{};
    /// 0: configuration space, 1 to 6: Base Address register 0 to 5, 7: the expansion ROM.
    static constexpr bits< 2,  0, std::uint8_t, access::read_only>  address_space{};
    // clang-format on
    static constexpr field_list fields{rom_image, offset_in_qwords, address_space};
};

/// Subsystem ID and Subsystem Vendor ID. Header type 00h only.
struct subsystem : reg<subsystem, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x2C;

    // clang-format off
    static constexpr bits<31, 16, std::uint16_t, access::read_only> subsystem_id{};
    static constexpr bits<15,  0, std::uint16_t, access::read_only> subsystem_vendor_id{};
    // clang-format on
    static constexpr field_list fields{subsystem_id, subsystem_vendor_id};
};

/// Capabilities Pointer of header types 00h and 01h. Means something only if Status says that there
/// is a list; capability.hpp walks it.
struct capabilities_pointer : reg<capabilities_pointer, std::uint8_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0x34;

    static constexpr bits<7, 0, std::uint8_t, access::read_only> pointer{};
    static constexpr field_list fields{pointer};
};

} // namespace pt::pci
