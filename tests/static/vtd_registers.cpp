// SPDX-License-Identifier: BSL-1.0
// Layouts against the tables of the VT-d specification, written down here a second time as plain
// masks, and against values that real units report.
#include "pt/vtd/registers.hpp"
#include "pt/vtd/tables.hpp"

#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::vtd;
using pt::hpa;
using pt::iova;

template <class R, class Field>
constexpr auto mask(Field) {
    static_assert(std::is_same_v<typename Field::owner, R>);
    return Field::mask;
}
template <class R>
constexpr bool is_plain = std::is_trivially_copyable_v<R>&& std::is_standard_layout_v<R>;

static_assert(version::offset == 0x00 && capability::offset == 0x08 &&
              extended_capability::offset == 0x10 && global_command::offset == 0x18 &&
              global_status::offset == 0x1C && root_table_address::offset == 0x20 &&
              context_command::offset == 0x28 && fault_status::offset == 0x34);
static_assert(sizeof(version) == 4 && sizeof(capability) == 8 && sizeof(extended_capability) == 8 &&
              sizeof(global_command) == 4 && sizeof(global_status) == 4 &&
              sizeof(root_table_address) == 8 && sizeof(context_command) == 8 &&
              sizeof(fault_status) == 4 && sizeof(invalidate_address) == 8 &&
              sizeof(iotlb_invalidate) == 8 && sizeof(fault_record_low) == 8 &&
              sizeof(fault_record_high) == 8);
static_assert(is_plain<capability> && is_plain<global_command> && is_plain<context_entry>);

// CAP
using cap = capability;
static_assert(mask<cap>(cap::enhanced_set_root_table_pointer) == 0x8000'0000'0000'0000);
static_assert(mask<cap>(cap::enhanced_set_interrupt_remap_pointer) == 0x4000'0000'0000'0000);
static_assert(mask<cap>(cap::drain_reads) == 0x0080'0000'0000'0000);
static_assert(mask<cap>(cap::drain_writes) == 0x0040'0000'0000'0000);
static_assert(mask<cap>(cap::maximum_address_mask) == 0x003F'0000'0000'0000);
static_assert(mask<cap>(cap::fault_recording_registers) == 0x0000'FF00'0000'0000);
static_assert(mask<cap>(cap::page_selective_invalidation) == 0x0000'0080'0000'0000);
static_assert(mask<cap>(cap::second_stage_1g) == 0x0000'0008'0000'0000);
static_assert(mask<cap>(cap::second_stage_2m) == 0x0000'0004'0000'0000);
static_assert(mask<cap>(cap::fault_recording_offset) == 0x0000'0003'FF00'0000);
static_assert(mask<cap>(cap::zero_length_read) == 0x0040'0000);
static_assert(mask<cap>(cap::maximum_guest_address_width) == 0x003F'0000);
static_assert(mask<cap>(cap::supported_address_widths) == 0x1F00);
static_assert(mask<cap>(cap::caching_mode) == 0x80);
static_assert(mask<cap>(cap::protected_high_memory) == 0x40);
static_assert(mask<cap>(cap::protected_low_memory) == 0x20);
static_assert(mask<cap>(cap::required_write_buffer_flushing) == 0x10);
static_assert(mask<cap>(cap::number_of_domains) == 0x07);

// QEMU 7.2, -device intel-iommu with interrupt remapping
constexpr cap qemu_cap{0x00d2'008c'222f'0606};
static_assert(qemu_cap[cap::number_of_domains] == 6); // 65536
static_assert(qemu_cap[cap::supported_address_widths] == 0b00110);
static_assert(qemu_cap[cap::maximum_guest_address_width] == 47);
static_assert(qemu_cap[cap::fault_recording_offset] * 16 == 0x220);
static_assert(qemu_cap[cap::fault_recording_registers] == 0);
static_assert(qemu_cap[cap::second_stage_2m] && qemu_cap[cap::second_stage_1g]);
static_assert(qemu_cap[cap::page_selective_invalidation]);
static_assert(qemu_cap[cap::maximum_address_mask] == 18);
static_assert(qemu_cap[cap::drain_reads] && qemu_cap[cap::drain_writes]);
static_assert(!qemu_cap[cap::caching_mode] && !qemu_cap[cap::required_write_buffer_flushing]);
static_assert(!qemu_cap[cap::protected_low_memory] && !qemu_cap[cap::protected_high_memory]);
static_assert(!qemu_cap[cap::enhanced_set_root_table_pointer]);
static_assert(version{0x10}[version::major] == 1 && version{0x10}[version::minor] == 0);

// The VT-d registers of an Intel Xeon E5 processor as its datasheet lists their reset values: MAMV
// 0x12, one fault record at 0x100, page-selective, 2 MiB and 1 GiB, MGAW 0x2F, 4 levels.
constexpr cap xeon_cap{std::uint64_t{1} << 55 | std::uint64_t{1} << 54 | std::uint64_t{0x12} << 48 |
                       std::uint64_t{1} << 39 | std::uint64_t{3} << 34 | std::uint64_t{0x10} << 24 |
                       std::uint64_t{0x2F} << 16 | std::uint64_t{4} << 8};
static_assert(xeon_cap[cap::maximum_address_mask] == 0x12);
static_assert(xeon_cap[cap::fault_recording_offset] * 16 == 0x100);
static_assert(xeon_cap[cap::maximum_guest_address_width] == 0x2F);
static_assert(xeon_cap[cap::supported_address_widths] == 4);

// ECAP
using ecap = extended_capability;
static_assert(mask<ecap>(ecap::scalable_mode) == 0x0000'0800'0000'0000);
static_assert(mask<ecap>(ecap::iotlb_offset) == 0x3'FF00);
static_assert(mask<ecap>(ecap::snoop_control) == 0x80);
static_assert(mask<ecap>(ecap::pass_through) == 0x40);
static_assert(mask<ecap>(ecap::extended_interrupt_mode) == 0x10);
static_assert(mask<ecap>(ecap::interrupt_remapping) == 0x08);
static_assert(mask<ecap>(ecap::device_tlb) == 0x04);
static_assert(mask<ecap>(ecap::queued_invalidation) == 0x02);
static_assert(mask<ecap>(ecap::page_walk_coherency) == 0x01);

constexpr ecap qemu_ecap{0x0000'0000'00f0'0f4a};
static_assert(qemu_ecap[ecap::iotlb_offset] * 16 == 0xF0);
static_assert(qemu_ecap[ecap::queued_invalidation] && qemu_ecap[ecap::interrupt_remapping] &&
              qemu_ecap[ecap::pass_through]);
static_assert(!qemu_ecap[ecap::page_walk_coherency] && !qemu_ecap[ecap::device_tlb] &&
              !qemu_ecap[ecap::snoop_control] && !qemu_ecap[ecap::scalable_mode] &&
              !qemu_ecap[ecap::extended_interrupt_mode]);

// GCMD and GSTS
using gcmd = global_command;
using gsts = global_status;
static_assert(gcmd{gcmd::translation_enable(true)}.raw == 0x8000'0000);
static_assert(gcmd{gcmd::set_root_table_pointer(true)}.raw == 0x4000'0000);
static_assert(gcmd{gcmd::set_fault_log(true)}.raw == 0x2000'0000);
static_assert(gcmd{gcmd::enable_advanced_fault_logging(true)}.raw == 0x1000'0000);
static_assert(gcmd{gcmd::write_buffer_flush(true)}.raw == 0x0800'0000);
static_assert(gcmd{gcmd::queued_invalidation_enable(true)}.raw == 0x0400'0000);
static_assert(gcmd{gcmd::interrupt_remapping_enable(true)}.raw == 0x0200'0000);
static_assert(gcmd{gcmd::set_interrupt_remap_table_pointer(true)}.raw == 0x0100'0000);
static_assert(gcmd{gcmd::compatibility_format_interrupt(true)}.raw == 0x0080'0000);
static_assert(mask<gsts>(gsts::translation_enabled) == 0x8000'0000);
static_assert(mask<gsts>(gsts::root_table_pointer) == 0x4000'0000);
static_assert(mask<gsts>(gsts::fault_log) == 0x2000'0000);
static_assert(mask<gsts>(gsts::advanced_fault_logging) == 0x1000'0000);
static_assert(mask<gsts>(gsts::write_buffer_flush) == 0x0800'0000);
static_assert(mask<gsts>(gsts::queued_invalidation_enabled) == 0x0400'0000);
static_assert(mask<gsts>(gsts::interrupt_remapping_enabled) == 0x0200'0000);
static_assert(mask<gsts>(gsts::interrupt_remap_table_pointer) == 0x0100'0000);
static_assert(mask<gsts>(gsts::compatibility_format_interrupt) == 0x0080'0000);
static_assert(gsts::carried_over == 0x96FF'FFFF);

// RTADDR
using rta = root_table_address;
static_assert(rta{rta::table(hpa{0x7F'FFFF'F000})}.raw == 0x7F'FFFF'F000);
static_assert(rta{rta::translation_table_mode(rta::mode::abort_dma)}.raw == 0xC00);
static_assert(rta{rta::translation_table_mode(rta::mode::scalable)}.raw == 0x400);

// CCMD, IOTLB, IVA
using ccmd = context_command;
static_assert(ccmd{ccmd::invalidate(true), ccmd::requested(context_granularity::global)}.raw ==
              0xA000'0000'0000'0000);
static_assert(ccmd{ccmd::invalidate(true), ccmd::requested(context_granularity::domain),
                   ccmd::domain_id(0xFFFF)}
                  .raw == 0xC000'0000'0000'FFFF);
static_assert(ccmd{ccmd::invalidate(true), ccmd::requested(context_granularity::device),
                   ccmd::function_mask(3), ccmd::source_id(0x1234), ccmd::domain_id(0x5678)}
                  .raw == 0xE000'0003'1234'5678);
static_assert(mask<ccmd>(ccmd::done) == 0x1800'0000'0000'0000);
using iotlb = iotlb_invalidate;
static_assert(iotlb{iotlb::invalidate(true), iotlb::requested(iotlb_granularity::global),
                    iotlb::drain_reads(true)}
                  .raw == 0x9002'0000'0000'0000);
static_assert(iotlb{iotlb::invalidate(true), iotlb::requested(iotlb_granularity::page),
                    iotlb::drain_writes(true), iotlb::domain_id(0xABCD)}
                  .raw == 0xB001'ABCD'0000'0000);
static_assert(mask<iotlb>(iotlb::done) == 0x0600'0000'0000'0000);
using iva = invalidate_address;
static_assert(iva{iva::address(iova{0xFFFF'FFFF'FFFF'F000}), iva::invalidation_hint(true),
                  iva::address_mask(63)}
                  .raw == 0xFFFF'FFFF'FFFF'F07F);

// FSTS
using fsts = fault_status;
static_assert(fsts{0x0000'A500}[fsts::fault_record_index] == 0xA5);
static_assert(mask<fsts>(fsts::page_request_overflow) == 0x80);
static_assert(mask<fsts>(fsts::invalidation_time_out) == 0x40);
static_assert(mask<fsts>(fsts::invalidation_completion) == 0x20);
static_assert(mask<fsts>(fsts::invalidation_queue) == 0x10);
static_assert(mask<fsts>(fsts::advanced_pending_fault) == 0x08);
static_assert(mask<fsts>(fsts::advanced_fault_overflow) == 0x04);
static_assert(mask<fsts>(fsts::primary_pending_fault) == 0x02);
static_assert(mask<fsts>(fsts::primary_fault_overflow) == 0x01);
static_assert((fsts{0xFFFF}.write_back().raw & 0xFD) == 0); // writing it back clears nothing

// FRCD
using high = fault_record_high;
static_assert(mask<fault_record_low>(fault_record_low::address) == 0xFFFF'FFFF'FFFF'F000);
static_assert(mask<high>(high::fault) == 0x8000'0000'0000'0000);
static_assert(mask<high>(high::type_1) == 0x4000'0000'0000'0000);
static_assert(mask<high>(high::address_type) == 0x3000'0000'0000'0000);
static_assert(mask<high>(high::pasid) == 0x0FFF'FF00'0000'0000);
static_assert(mask<high>(high::reason) == 0x0000'00FF'0000'0000);
static_assert(mask<high>(high::pasid_present) == 0x8000'0000);
static_assert(mask<high>(high::execute) == 0x4000'0000);
static_assert(mask<high>(high::privileged) == 0x2000'0000);
static_assert(mask<high>(high::type_2) == 0x1000'0000);
static_assert(mask<high>(high::source_id) == 0xFFFF);

// Root and context entries
static_assert(root_entry{root_entry::present(true), root_entry::context_table(hpa{0x5000})}.raw ==
              0x5001);
constexpr second_stage::format of_three{{.levels = 3}};
constexpr second_stage::format of_four{{.levels = 4}};
constexpr context_entry three = context_entry::translated(hpa{0x12'3456'7000}, of_three, 0xABCD);
static_assert(three.low.raw == 0x12'3456'7001 && three.high.raw == 0xAB'CD01);
constexpr context_entry four = context_entry::translated(hpa{0x1000}, of_four, 1);
static_assert(four.low.raw == 0x1001 && four.high.raw == 0x102);
static_assert(context_entry_high{context_entry_high::address_width(3)}.raw == 0x003);
using low = context_entry_low;
static_assert(low{low::translation_type(low::type::pass_through)}.raw == 0x8);
static_assert(low{low::translation_type(low::type::with_device_tlb)}.raw == 0x4);
static_assert(low{low::fault_processing_disable(true)}.raw == 0x2);

} // namespace
