// SPDX-License-Identifier: BSL-1.0
// Interrupt remapping entries and messages against the tables of the VT-d specification, written down
// here a second time as plain masks, and against entries of a real machine.
#include "pt/core/archetype.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/interrupt_remapping_table.hpp"
#include "pt/vtd/remappable_message.hpp"

#include <cstdint>
#include <type_traits>
#include <utility>

namespace {

using namespace pt::vtd;
using pt::errc;
using pt::error;
using pt::hpa;

// Remapped, 63:0
using remapped = remapped_interrupt_low;
static_assert(remapped::present.mask == 0x1);
static_assert(remapped::fault_processing_disable.mask == 0x2);
static_assert(remapped::destination_mode.mask == 0x4);
static_assert(remapped::redirection_hint.mask == 0x8);
static_assert(remapped::trigger_mode.mask == 0x10);
static_assert(remapped::delivery_mode.mask == 0xE0);
static_assert(remapped::available.mask == 0xF00);
static_assert(remapped::posted.mask == 0x8000);
static_assert(remapped::vector.mask == 0x00FF'0000);
static_assert(remapped::destination_id.mask == 0xFFFF'FFFF'0000'0000);
// Posted, 63:0
using posted = posted_interrupt_low;
static_assert(posted::present.mask == 0x1 && posted::fault_processing_disable.mask == 0x2);
static_assert(posted::available.mask == 0xF00);
static_assert(posted::urgent.mask == 0x4000);
static_assert(posted::posted.mask == 0x8000);
static_assert(posted::vector.mask == 0x00FF'0000);
static_assert(posted::descriptor_31_6.mask == 0xFFFF'FFC0'0000'0000);
// 127:64 of both
static_assert(remapped_interrupt_high::source_id.mask == 0xFFFF);
static_assert(remapped_interrupt_high::qualifier.mask == 0x3'0000);
static_assert(remapped_interrupt_high::source_validation_type.mask == 0xC'0000);
static_assert(posted_interrupt_high::source_id.mask == 0xFFFF);
static_assert(posted_interrupt_high::qualifier.mask == 0x3'0000);
static_assert(posted_interrupt_high::source_validation_type.mask == 0xC'0000);
static_assert(posted_interrupt_high::descriptor_63_32.mask == 0xFFFF'FFFF'0000'0000);

static_assert(sizeof(interrupt_entry) == 16 && std::is_trivially_copyable_v<interrupt_entry>);
static_assert(std::is_trivially_copyable_v<interrupt_block> && sizeof(interrupt_index) == 2);

// A Kaby Lake machine in x2APIC mode, as Linux lists its table (ABI documentation of
// ir_translation_struct): source 00:0a.0, destination 80h, vector 24h; and 00:02.0, 2, 26h.
constexpr interrupt_target lowest(std::uint8_t vector, std::uint32_t destination) {
    return {.vector = vector,
            .destination_id = destination,
            .destination_mode = interrupt_destination::logical,
            .redirection_hint = true};
}
constexpr auto kaby_lake_0 = interrupt_entry::remapped(
    lowest(0x24, 0x80), interrupt_requester::exactly(0x50), apic_mode::x2apic);
static_assert(kaby_lake_0.value() == interrupt_entry{0x0000'0080'0024'000D, 0x0000'0000'0004'0050});
constexpr auto kaby_lake_1 = interrupt_entry::remapped(
    lowest(0xEF, 1), interrupt_requester::exactly(0x50), apic_mode::x2apic);
static_assert(kaby_lake_1.value() == interrupt_entry{0x0000'0001'00EF'000D, 0x0000'0000'0004'0050});
constexpr auto kaby_lake_2 = interrupt_entry::remapped(
    lowest(0x26, 2), interrupt_requester::exactly(0x10), apic_mode::x2apic);
static_assert(kaby_lake_2.value() == interrupt_entry{0x0000'0002'0026'000D, 0x0000'0000'0004'0010});
static_assert(
    interrupt_entry{0x0000'0080'0024'000D, 0x4'0050}.remapped(apic_mode::x2apic).value() ==
    lowest(0x24, 0x80));

// [rule 19] an xAPIC id is in bits 15:8 of the destination
constexpr auto to_xapic_5 = interrupt_entry::remapped(
    {.vector = 0x41, .destination_id = 5}, interrupt_requester::exactly(0x28), apic_mode::xapic);
static_assert(to_xapic_5.value() == interrupt_entry{0x0000'0500'0041'0001, 0x4'0028});
constexpr auto to_x2apic_5 = interrupt_entry::remapped(
    {.vector = 0x41, .destination_id = 5}, interrupt_requester::exactly(0x28), apic_mode::x2apic);
static_assert(to_x2apic_5.value() == interrupt_entry{0x0000'0005'0041'0001, 0x4'0028});

// [rule 19] a descriptor's address in two parts
constexpr auto to_descriptor = interrupt_entry::posted(
    {.descriptor = hpa{0x1234'5678'9ABC'DEC0}, .vector = 0x31, .urgent = true},
    interrupt_requester::exactly(0x28));
static_assert(to_descriptor.value().low >> 38 == 0x9ABC'DEC0 >> 6);
static_assert((to_descriptor.value().low & 0x3F'FFFF'FFFF) == 0x31'C001);
static_assert(to_descriptor.value().high == 0x1234'5678'0004'0028);
static_assert(to_descriptor.value().posted().value().descriptor == hpa{0x1234'5678'9ABC'DEC0});

// Whom an entry serves
static_assert(interrupt_requester{} == interrupt_requester::exactly(0)); // not anybody
constexpr auto high_of(interrupt_requester from) {
    return interrupt_entry::remapped({.vector = 16}, from, apic_mode::xapic).value().high;
}
static_assert(high_of(interrupt_requester::exactly(0xABCD)) == 0x4'ABCD);
static_assert(high_of(interrupt_requester::ignoring(source_id_qualifier::ignore_bits_2_0,
                                                    0xABC8)) == 0x7'ABC8);
static_assert(high_of(interrupt_requester::ignoring(source_id_qualifier::ignore_bit_2, 0)) ==
              0x5'0000);
static_assert(high_of(interrupt_requester::buses(0x12, 0x34)) == 0x8'1234);
static_assert(high_of(interrupt_requester::any_source()) == 0);

// Messages: 0xFEE, handle 14:0 in 19:5, format in 4, SHV in 3, handle 15 in 2
static_assert(remappable_message(interrupt_index{0}) == interrupt_message{0xFEE0'0010, 0});
static_assert(remappable_message(interrupt_index{1}) == interrupt_message{0xFEE0'0030, 0});
static_assert(remappable_message(interrupt_index{0x7FFF}) == interrupt_message{0xFEEF'FFF0, 0});
static_assert(remappable_message(interrupt_index{0x8000}) == interrupt_message{0xFEE0'0014, 0});
static_assert(remappable_message(interrupt_block{{8}, 3}) == interrupt_message{0xFEE0'0118, 0});
static_assert(remappable_message(interrupt_block{{8}, 0}) == interrupt_message{0xFEE0'0110, 0});

constexpr interrupt_request entry_number(std::uint32_t index) {
    return {interrupt_request::format::remappable, index};
}
static_assert(interrupt_request::of({0xFEE0'0118, 5}).value() == entry_number(13));
static_assert(interrupt_request::of({0xFEE0'0110, 5}).value() == entry_number(8));
static_assert(interrupt_request::of({0xFEE0'0014, 0xFFFF'FFFF}).value() == entry_number(0x8000));
static_assert(interrupt_request::of({0xFEEF'FFFC, 0xFFFF}).value() == entry_number(0x1'FFFE));
static_assert(interrupt_request::of({0xFEEF'FFFC, 0x1'0000}).error() ==
              error{errc::malformed, 0x1'0000});
static_assert(interrupt_request::of({0xFEE0'100C, 0x41}).value() == interrupt_request{});
static_assert(interrupt_request::of({0xFEDF'FFF0, 0}).error().code == errc::absent);
static_assert(interrupt_request::of({0xFEF0'0010, 0}).error().code == errc::absent);
static_assert(interrupt_request::of({0x1'FEE0'0010, 0}).error().code == errc::absent);

// I/O APIC: index in 63:49, format in 48, mask 16, level 15, active low 13, index 15 in 11
constexpr auto level_pin = io_apic_remappable_entry::of({0x8001}, 0x51, interrupt_trigger::level,
                                                        interrupt_polarity::active_low);
static_assert(level_pin.value().raw == 0x0003'0000'0001'A851);
static_assert(level_pin.value().with(io_apic_remappable_entry::mask(false)).raw ==
              0x0003'0000'0000'A851);
constexpr auto edge_pin = io_apic_remappable_entry::of({2}, 0x30, interrupt_trigger::edge,
                                                       interrupt_polarity::active_high);
static_assert(edge_pin.value().raw == 0x0005'0000'0001'0030);
static_assert(io_apic_remappable_entry::of({2}, 15, interrupt_trigger::edge,
                                           interrupt_polarity::active_high)
                  .error() == error{errc::out_of_range, 15});
static_assert(level_pin.value().index().value() == interrupt_index{0x8001});
static_assert(io_apic_remappable_entry{0xFFFF'0000'0000'F8FF}.index().value() ==
              interrupt_index{0xFFFF});
// a physical destination in compatibility format; a delivery mode; reserved bits
static_assert(io_apic_remappable_entry{0x0200'0000'0000'0031}.index().error().code ==
              errc::not_supported);
static_assert(io_apic_remappable_entry{0x0003'0000'0000'0131}.index().error().code ==
              errc::malformed);
static_assert(io_apic_remappable_entry{0x0003'0000'0002'0031}.index().error().code ==
              errc::malformed);
static_assert(io_apic_remappable_entry{0x0003'8000'0000'0031}.index().error().code ==
              errc::malformed);

// A table is moved, not copied.
using table = interrupt_remapping_table<pt::archetype::publication>;
static_assert(std::is_move_constructible_v<table> && !std::is_copy_constructible_v<table> &&
              !std::is_move_assignable_v<table>);

} // namespace
