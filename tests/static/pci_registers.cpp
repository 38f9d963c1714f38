// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/bridge.hpp"
#include "pt/pci/cardbus.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_address.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include <cstdint>
#include <type_traits>

using namespace pt::pci;
using pt::width;

namespace {

// CONFIG_ADDRESS, worked by hand from the figure in [pci].
using ca = config_address;
static_assert(ca{ca::enable(true), ca::bus(0), ca::device(31), ca::function(2)}.raw == 0x8000'FA00);
static_assert(ca::select({0, 0x12, 0x0A, 5}, 0x43).raw == 0x8012'5540);
static_assert(ca::select({0, 0xFF, 0x1F, 7}, 0xFF).raw == 0x80FF'FFFC);
static_assert(ca{0x80FF'FFFC}.target() == function_address{0, 0xFF, 0x1F, 7});
static_assert(ca{0x8012'5540}.target(9) == function_address{9, 0x12, 0x0A, 5});
static_assert(ca{0x8012'5540}.offset() == 0x40);
// An offset that the register cannot name is no value, not another register's.
template <std::uint16_t Offset>
concept selectable = requires {
    typename std::integral_constant<std::uint32_t, ca::select({}, Offset).raw>;
};
static_assert(selectable<0xFF> && !selectable<0x100> && !selectable<0x400> && !selectable<0xFFF>);
static_assert(sizeof(ca) == 4 && std::is_trivially_copyable_v<ca> && std::is_standard_layout_v<ca>);

// A configuration access is any run of bytes inside one dword.
static_assert(is_one_config_access(0, width::dword) && is_one_config_access(1, width::word) &&
              is_one_config_access(3, width::byte) && is_one_config_access(0xFFC, width::dword) &&
              is_one_config_access(0xFFF, width::byte));
static_assert(!is_one_config_access(3, width::word) && !is_one_config_access(1, width::dword) &&
              !is_one_config_access(0x1000, width::byte));

// Models of config_access, and what only looks like one.
struct a_model {
    std::uint32_t read(function_address, std::uint16_t, width);
    void write(function_address, std::uint16_t, width, std::uint32_t);
};
struct without_write {
    std::uint32_t read(function_address, std::uint16_t, width);
};
struct narrow_read {
    std::uint8_t read(function_address, std::uint16_t, width);
    void write(function_address, std::uint16_t, width, std::uint32_t);
};
struct not_copyable : a_model {
    not_copyable(const not_copyable&) = delete;
};
static_assert(config_access<a_model>);
static_assert(!config_access<without_write>);
static_assert(!config_access<narrow_read>);
static_assert(!config_access<not_copyable>);

// A register that would not be one access, or that has no place, is none.
struct word_over_a_dword_boundary : pt::reg<word_over_a_dword_boundary, std::uint16_t> {
    static constexpr std::uint16_t offset = 0x07;
};
struct without_a_place : pt::reg<without_a_place, std::uint16_t> {};
static_assert(config_register<command> && config_register<header_type>);
static_assert(!config_register<word_over_a_dword_boundary> && !config_register<without_a_place>);

// Where the header's registers are and how wide [pci].
template <class R, unsigned Offset, unsigned Size>
inline constexpr bool
    stands = config_register<R>&& R::offset == Offset &&
             sizeof(R) == Size&& std::is_trivially_copyable_v<R>&& std::is_standard_layout_v<R>;
static_assert(stands<identity, 0x00, 4> && stands<command, 0x04, 2> && stands<status, 0x06, 2> &&
              stands<class_code, 0x08, 4> && stands<cache_line_size, 0x0C, 1> &&
              stands<latency_timer, 0x0D, 1> && stands<header_type, 0x0E, 1> &&
              stands<bist, 0x0F, 1> && stands<bus_numbers, 0x18, 4> && stands<subsystem, 0x2C, 4> &&
              stands<capabilities_pointer, 0x34, 1> && stands<interrupt_line, 0x3C, 1> &&
              stands<interrupt_pin, 0x3D, 1> && stands<min_gnt, 0x3E, 1> &&
              stands<max_lat, 0x3F, 1> && stands<cardbus_cis_pointer, 0x28, 4>);
static_assert(cardbus_cis_pointer{0x3000'4007}[cardbus_cis_pointer::rom_image] == 3 &&
              cardbus_cis_pointer{0x3000'4007}[cardbus_cis_pointer::offset_in_qwords] == 0x800 &&
              cardbus_cis_pointer{0x3000'4007}[cardbus_cis_pointer::address_space] == 7);

// Which bits software can write, and which it clears by writing 1 [pci]; all others it cannot change.
template <class R, unsigned Written, unsigned Cleared = 0>
inline constexpr bool
    changes = R::fields.mask_of(pt::access::read_write) ==
              Written&& R::fields.mask_of(pt::access::write_1_to_clear) == Cleared;
static_assert(changes<identity, 0> && changes<command, 0x077F> && changes<status, 0, 0xF900> &&
              changes<class_code, 0> && changes<cache_line_size, 0xFF> &&
              changes<latency_timer, 0xFF> && changes<header_type, 0> && changes<bist, 0x40> &&
              changes<bus_numbers, 0xFFFF'FFFF> && changes<cardbus_cis_pointer, 0> &&
              changes<subsystem, 0> && changes<capabilities_pointer, 0> &&
              changes<interrupt_line, 0xFF> && changes<interrupt_pin, 0> && changes<min_gnt, 0> &&
              changes<max_lat, 0> && changes<expansion_rom_base_address, 0xFFFF'F801>);

// The first 16 bytes of an 82574L as QEMU shows it after reset: 8086:10d3, Ethernet controller.
static_assert(identity{0x10D3'8086}[identity::vendor_id] == 0x8086 &&
              identity{0x10D3'8086}[identity::device_id] == 0x10D3 &&
              identity{0x10D3'8086}.present());
static_assert(!identity{0xFFFF'FFFF}.present() && !identity{0}.present() &&
              !identity{0x0000'FFFF}.present());
static_assert(identity{0xFFFF'0001}.present() && identity{0xFFFF'0001}.not_ready());
static_assert(class_code{0x0200'0003}[class_code::base_class] == base_class::network &&
              class_code{0x0106'0103}[class_code::sub_class] == 0x06 &&
              class_code{0x0106'0103}[class_code::programming_interface] == 0x01 &&
              class_code{0x0106'0103}[class_code::revision_id] == 0x03);
static_assert(header_type{0x81}[header_type::multi_function] &&
              header_type{0x81}[header_type::layout] == header_layout::bridge);
static_assert(bus_numbers{0x40'05'02'01}[bus_numbers::primary] == 1 &&
              bus_numbers{0x40'05'02'01}[bus_numbers::secondary] == 2 &&
              bus_numbers{0x40'05'02'01}[bus_numbers::subordinate] == 5);

// Command, bit by bit: io, memory, master are 2:0, interrupt disable is 10.
static_assert(command{command::io_space(true), command::memory_space(true),
                      command::bus_master(true), command::interrupt_disable(true)}
                  .raw == 0x0407);
// Status: writing back what was read clears nothing; the device clears what is written 1 only.
static_assert(status{0xFFFF}.write_back().raw == 0x06B9);
static_assert(status{0xFFFF}.after_write(0x8000).raw == 0x7FFF);
static_assert(status{0x0010}.after_write(0xFFFF).raw == 0x0010);

// Header type 01h, in the order of the figure in [pci-bridge].
static_assert(stands<io_base, 0x1C, 1> && stands<io_limit, 0x1D, 1> &&
              stands<secondary_status, 0x1E, 2> && stands<memory_base, 0x20, 2> &&
              stands<memory_limit, 0x22, 2> && stands<prefetchable_memory_base, 0x24, 2> &&
              stands<prefetchable_memory_limit, 0x26, 2> &&
              stands<prefetchable_base_upper_32, 0x28, 4> &&
              stands<prefetchable_limit_upper_32, 0x2C, 4> && stands<io_base_upper_16, 0x30, 2> &&
              stands<io_limit_upper_16, 0x32, 2> && stands<bridge_control, 0x3E, 2>);
static_assert(bus_numbers{0x40'05'02'01}[bus_numbers::secondary_latency_timer] == 0x40);
static_assert(io_base{0x51}[io_base::address_15_12] == 5 &&
              io_base{0x51}[io_base::addressing] == io_addressing::bits_32 &&
              io_limit{0xD0}[io_limit::address_15_12] == 0xD &&
              io_limit{0xD0}[io_limit::addressing] == io_addressing::bits_16);
static_assert(prefetchable_memory_base{0xC781}[prefetchable_memory_base::address_31_20] == 0xC78 &&
              prefetchable_memory_base{0xC781}[prefetchable_memory_base::addressing] ==
                  prefetchable_addressing::bits_64);
// What a write changes: the low four bits of a base or limit never.
static_assert(io_base{0x01}.after_write(0xFF).raw == 0xF1 &&
              io_limit{0x51}.after_write(0).raw == 0x01 &&
              memory_base{0}.after_write(0xFFFF).raw == 0xFFF0 &&
              memory_limit{0xFFF0}.after_write(0).raw == 0 &&
              prefetchable_memory_base{1}.after_write(0xFFFF).raw == 0xFFF1 &&
              prefetchable_memory_limit{1}.after_write(0xFFF0).raw == 0xFFF1 &&
              prefetchable_base_upper_32{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'FFFF &&
              prefetchable_limit_upper_32{5}.after_write(0).raw == 0 &&
              io_base_upper_16{0}.after_write(0xFFFF).raw == 0xFFFF &&
              io_limit_upper_16{5}.after_write(0).raw == 0);
// Secondary Status as Status, without the capabilities list and the interrupt.
static_assert(secondary_status{0xFFFF}.after_write(0xFFFF).raw == 0x06FF &&
              secondary_status{0xFFFF}.write_back().raw == 0x06A0 &&
              secondary_status{0x4000}[secondary_status::received_system_error]);
// Bridge Control: the status of the discard timer is cleared by 1, bits 15:12 stay.
static_assert(bridge_control{0x0000}.after_write(0xFFFF).raw == 0x0BFF &&
              bridge_control{0xFFFF}.after_write(0x0400).raw == 0xF000 &&
              bridge_control{0xFFFF}.write_back().raw == 0xFBFF);
static_assert(
    bridge_control{bridge_control::secondary_bus_reset(true)}.raw == 0x0040 &&
    bridge_control{bridge_control::vga_enable(true), bridge_control::vga_16_bit_decode(true)}.raw ==
        0x0018);

// Header type 02h, in the order of its figure.
static_assert(stands<cardbus::socket_base, 0x10, 4> &&
              stands<cardbus::capabilities_pointer, 0x14, 1> &&
              stands<cardbus::secondary_status, 0x16, 2> &&
              stands<cardbus::memory_base_0, 0x1C, 4> && stands<cardbus::memory_limit_0, 0x20, 4> &&
              stands<cardbus::memory_base_1, 0x24, 4> && stands<cardbus::memory_limit_1, 0x28, 4> &&
              stands<cardbus::io_base_0, 0x2C, 4> && stands<cardbus::io_limit_0, 0x30, 4> &&
              stands<cardbus::io_base_1, 0x34, 4> && stands<cardbus::io_limit_1, 0x38, 4> &&
              stands<cardbus::bridge_control, 0x3E, 2> && stands<cardbus::subsystem, 0x40, 4> &&
              stands<cardbus::legacy_mode_base, 0x44, 4>);
static_assert(cardbus::socket_base{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'F000 &&
              cardbus::memory_base_0{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'F000 &&
              cardbus::memory_limit_0{0xFFFF'F000}.after_write(0x0FFF).raw == 0 &&
              cardbus::memory_base_1{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'F000 &&
              cardbus::memory_limit_1{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'F000 &&
              cardbus::io_base_0{1}.after_write(0xFFFF'FFFC).raw == 0xFFFF'FFFD &&
              cardbus::io_limit_0{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'FFFC &&
              cardbus::io_base_1{0}.after_write(0xFFFF'FFFF).raw == 0xFFFF'FFFC &&
              cardbus::io_limit_1{1}.after_write(0).raw == 1 &&
              cardbus::bridge_control{0xF810}.after_write(0x07EF).raw == 0xFFFF &&
              cardbus::secondary_status{0xFFFF}.after_write(0xFFFF).raw == 0x06FF &&
              cardbus::subsystem{0x143D'10CF}.after_write(0).raw == 0x143D'10CF &&
              cardbus::legacy_mode_base{1}.after_write(0x3E0).raw == 0x3E1);

} // namespace
