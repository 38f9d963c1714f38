// SPDX-License-Identifier: BSL-1.0
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
              stands<interrupt_pin, 0x3D, 1>);

// The first 16 bytes of an 82574L as QEMU shows it after reset: 8086:10d3, Ethernet controller.
static_assert(identity{0x10D3'8086}[identity::vendor_id] == 0x8086 &&
              identity{0x10D3'8086}[identity::device_id] == 0x10D3 &&
              identity{0x10D3'8086}.present());
static_assert(!identity{0xFFFF'FFFF}.present() && !identity{0}.present() &&
              !identity{0x0000'FFFF}.present());
static_assert(identity{0xFFFF'0001}.present() && identity{0xFFFF'0001}.not_ready());
static_assert(class_code{0x0200'0003}[class_code::base_class] == 0x02 &&
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
static_assert(status{0xFFFF}.write_back().raw == 0x06B8);
static_assert(status{0xFFFF}.after_write(0x8000).raw == 0x7FFF);
static_assert(status{0x0010}.after_write(0xFFFF).raw == 0x0010);

} // namespace
