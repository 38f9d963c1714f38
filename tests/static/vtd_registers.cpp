// SPDX-License-Identifier: BSL-1.0
// Layouts against the tables of the VT-d specification, written down here a second time as plain
// masks, and against values that real units report.
#include "pt/vtd/event.hpp"
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
static_assert(advanced_fault_log::offset == 0x58 && protected_memory_enable::offset == 0x64 &&
              protected_low_memory_base::offset == 0x68 &&
              protected_low_memory_limit::offset == 0x6C &&
              protected_high_memory_base::offset == 0x70 &&
              protected_high_memory_limit::offset == 0x78 &&
              invalidation_queue_head::offset == 0x80 && invalidation_queue_tail::offset == 0x88 &&
              invalidation_queue_address::offset == 0x90 &&
              invalidation_completion_status::offset == 0x9C &&
              invalidation_queue_error_record::offset == 0xB0 &&
              interrupt_remapping_table_address::offset == 0xB8 &&
              page_request_queue_head::offset == 0xC0 && page_request_queue_tail::offset == 0xC8 &&
              page_request_queue_address::offset == 0xD0 && page_request_status::offset == 0xDC);
static_assert(sizeof(advanced_fault_log) == 8 && sizeof(protected_memory_enable) == 4 &&
              sizeof(protected_low_memory_base) == 4 && sizeof(protected_low_memory_limit) == 4 &&
              sizeof(protected_high_memory_base) == 8 && sizeof(protected_high_memory_limit) == 8 &&
              sizeof(invalidation_queue_head) == 8 && sizeof(invalidation_queue_tail) == 8 &&
              sizeof(invalidation_queue_address) == 8 &&
              sizeof(invalidation_completion_status) == 4 &&
              sizeof(invalidation_queue_error_record) == 8 &&
              sizeof(interrupt_remapping_table_address) == 8 &&
              sizeof(page_request_queue_head) == 8 && sizeof(page_request_queue_tail) == 8 &&
              sizeof(page_request_queue_address) == 8 && sizeof(page_request_status) == 4);
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
static_assert(mask<cap>(cap::enhanced_command) == 0x2000'0000'0000'0000);
static_assert(mask<cap>(cap::first_stage_5_level_paging) == 0x1000'0000'0000'0000);
static_assert(mask<cap>(cap::posted_interrupts) == 0x0800'0000'0000'0000);
static_assert(mask<cap>(cap::first_stage_1g) == 0x0100'0000'0000'0000);
static_assert(mask<cap>(cap::advanced_fault_logging) == 0x08);

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
static_assert(mask<ecap>(ecap::interrupt_remapping_required) == 0x4000'0000'0000'0000);
static_assert(mask<ecap>(ecap::extended_interrupt_mode_required) == 0x2000'0000'0000'0000);
static_assert(mask<ecap>(ecap::rdt_configuration) == 0x1000'0000'0000'0000);
static_assert(mask<ecap>(ecap::host_permission_1g) == 0x0800'0000'0000'0000);
static_assert(mask<ecap>(ecap::stop_marker) == 0x0400'0000'0000'0000);
static_assert(mask<ecap>(ecap::second_stage_io_read_write) == 0x0200'0000'0000'0000);
static_assert(mask<ecap>(ecap::pasid_in_translated_request) == 0x0100'0000'0000'0000);
static_assert(mask<ecap>(ecap::host_permission_table) == 0x0080'0000'0000'0000);
static_assert(mask<ecap>(ecap::rid_priv) == 0x0020'0000'0000'0000);
static_assert(mask<ecap>(ecap::abort_dma_mode) == 0x0010'0000'0000'0000);
static_assert(mask<ecap>(ecap::performance_monitoring) == 0x0008'0000'0000'0000);
static_assert(mask<ecap>(ecap::tdx_connect) == 0x0004'0000'0000'0000);
static_assert(mask<ecap>(ecap::rid_pasid) == 0x0002'0000'0000'0000);
static_assert(mask<ecap>(ecap::scalable_mode_page_walk_coherency) == 0x0001'0000'0000'0000);
static_assert(mask<ecap>(ecap::first_stage_translation) == 0x0000'8000'0000'0000);
static_assert(mask<ecap>(ecap::second_stage_translation) == 0x0000'4000'0000'0000);
static_assert(mask<ecap>(ecap::second_stage_accessed_dirty) == 0x0000'2000'0000'0000);
static_assert(mask<ecap>(ecap::virtual_command) == 0x0000'1000'0000'0000);
static_assert(mask<ecap>(ecap::page_request_drain) == 0x0000'0400'0000'0000);
static_assert(mask<ecap>(ecap::device_tlb_invalidation_throttle) == 0x0000'0200'0000'0000);
static_assert(mask<ecap>(ecap::pasid) == 0x0000'0100'0000'0000);
static_assert(mask<ecap>(ecap::extended_accessed_flag) == 0x0000'0004'0000'0000);
static_assert(mask<ecap>(ecap::no_write_flag) == 0x0000'0002'0000'0000);
static_assert(mask<ecap>(ecap::supervisor_request) == 0x0000'0000'8000'0000);
static_assert(mask<ecap>(ecap::execute_request) == 0x0000'0000'4000'0000);
static_assert(mask<ecap>(ecap::page_request) == 0x0000'0000'2000'0000);
static_assert(mask<ecap>(ecap::nested_translation) == 0x0000'0000'0400'0000);
static_assert(mask<ecap>(ecap::memory_type) == 0x0000'0000'0200'0000);
static_assert(mask<ecap>(ecap::pasid_size) == 0x0000'00F8'0000'0000);
static_assert(mask<ecap>(ecap::maximum_handle_mask) == 0x00F0'0000);

constexpr ecap qemu_ecap{0x0000'0000'00f0'0f4a};
static_assert(qemu_ecap[ecap::iotlb_offset] * 16 == 0xF0);
static_assert(qemu_ecap[ecap::queued_invalidation] && qemu_ecap[ecap::interrupt_remapping] &&
              qemu_ecap[ecap::pass_through]);
static_assert(!qemu_ecap[ecap::page_walk_coherency] && !qemu_ecap[ecap::device_tlb] &&
              !qemu_ecap[ecap::snoop_control] && !qemu_ecap[ecap::scalable_mode] &&
              !qemu_ecap[ecap::extended_interrupt_mode]);
static_assert(qemu_ecap[ecap::maximum_handle_mask] == 15);

// The graphics unit of an Intel Core processor of the second generation, and the unit of the other
// devices of the seventh, as their datasheets list the reset values.
constexpr ecap core2_ecap{0x0000'0000'00F0'101A};
static_assert(core2_ecap[ecap::maximum_handle_mask] == 15 && core2_ecap[ecap::iotlb_offset] == 16 &&
              core2_ecap[ecap::extended_interrupt_mode] && core2_ecap[ecap::interrupt_remapping] &&
              core2_ecap[ecap::queued_invalidation] && !core2_ecap[ecap::device_tlb] &&
              !core2_ecap[ecap::pass_through] && !core2_ecap[ecap::page_walk_coherency]);
constexpr ecap core7_ecap{0x0000'0000'00F0'50DA};
static_assert(core7_ecap[ecap::iotlb_offset] * 16 == 0x500 && core7_ecap[ecap::snoop_control] &&
              core7_ecap[ecap::pass_through] && core7_ecap[ecap::extended_interrupt_mode] &&
              !core7_ecap[ecap::pasid] && !core7_ecap[ecap::page_request]);
constexpr cap core3_cap{0x00C9'0080'2066'0262};
static_assert(core3_cap[cap::maximum_address_mask] == 9 && core3_cap[cap::drain_reads] &&
              core3_cap[cap::fault_recording_offset] * 16 == 0x200 &&
              core3_cap[cap::maximum_guest_address_width] == 38 &&
              core3_cap[cap::supported_address_widths] == 0b10 &&
              core3_cap[cap::protected_high_memory] && core3_cap[cap::protected_low_memory] &&
              core3_cap[cap::number_of_domains] == 2 && !core3_cap[cap::second_stage_2m] &&
              core3_cap[cap::page_selective_invalidation] && core3_cap[cap::zero_length_read]);

// A unit in scalable mode that has all stages: SMTS, FSTS, SSTS, NEST, PASIDs of 20 bits, SRS.
constexpr ecap scalable_ecap{
    ecap::reported(ecap::scalable_mode(true), ecap::first_stage_translation(true),
                   ecap::second_stage_translation(true), ecap::nested_translation(true),
                   ecap::pasid(true), ecap::pasid_size(19), ecap::supervisor_request(true))};
static_assert(scalable_ecap.raw == 0x0000'C998'8400'0000);

// GCMD and GSTS
using gcmd = global_command;
// GCMD is a command and nothing else: what software composes is all there is, and nothing is read back.
static_assert(gcmd::translation_enable.kind == pt::access::write_only &&
              gcmd::compatibility_format_interrupt.writable);
static_assert(gcmd{0}.after_write(~std::uint32_t{0}).raw == 0);
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
static_assert(rta{rta::second_stage_io_read_write_enable(true)}.raw == 0x80);

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
static_assert(mask<interrupt_fault_record_low>(interrupt_fault_record_low::interrupt_index) ==
              0xFFFF'0000'0000'0000);
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

// AFLOG, PMEN and its regions
using aflog = advanced_fault_log;
static_assert(aflog{aflog::log(hpa{0x7F'FFFF'F000}), aflog::size(7)}.raw == 0x7F'FFFF'FE00);
using pmen = protected_memory_enable;
static_assert(pmen{pmen::enable(true)}.raw == 0x8000'0000);
static_assert(mask<pmen>(pmen::enabled) == 1 && !decltype(pmen::enabled)::writable);
static_assert(protected_low_memory_base{0xFFE0'0000}[protected_low_memory_base::base] ==
              hpa{0xFFE0'0000});
static_assert(protected_low_memory_limit{0x001F'FFFF}[protected_low_memory_limit::limit] ==
              hpa{0x1F'FFFF});
static_assert(protected_high_memory_base{0x12'0000'0000}[protected_high_memory_base::base] ==
              hpa{0x12'0000'0000});
static_assert(protected_high_memory_limit{0x12'3FFF'FFFF}[protected_high_memory_limit::limit] ==
              hpa{0x12'3FFF'FFFF});

// IQH, IQT, IQA: bytes, whatever a descriptor's size is
using iqh = invalidation_queue_head;
using iqt = invalidation_queue_tail;
using iqa = invalidation_queue_address;
static_assert(mask<iqh>(iqh::head) == 0x7'FFF0 && !decltype(iqh::head)::writable);
static_assert(mask<iqt>(iqt::tail) == 0x7'FFF0);
static_assert(iqh{~std::uint64_t{0}}[iqh::head] == queue_offset{0x7'FFF0});
static_assert(iqt{iqt::tail(queue_offset{16 * 3})}.raw == 0x30); // the fourth of 128 bits
static_assert(iqt{iqt::tail(queue_offset{32 * 3})}.raw == 0x60); // and of 256
static_assert(iqa{iqa::queue(hpa{0x1234'5000}), iqa::size(7)}.raw == 0x1234'5007);
static_assert(iqa{iqa::descriptor_width(iqa::width::descriptor_256)}.raw == 0x800);
static_assert(mask<iqa>(iqa::queue) == 0xFFFF'FFFF'FFFF'F000 && mask<iqa>(iqa::size) == 7);

// ICS, IQERCD
using ics = invalidation_completion_status;
static_assert(ics{ics::wait_completed(true)}.raw == 1 && ics{1}.write_back().raw == 0);
using iqercd = invalidation_queue_error_record;
constexpr iqercd errors{0xAAAA'BBBB'0000'0006};
static_assert(errors[iqercd::completion_source_id] == 0xAAAA &&
              errors[iqercd::time_out_source_id] == 0xBBBB &&
              errors[iqercd::queue_error] == invalidation_queue_error::tail_misaligned);
static_assert(mask<iqercd>(iqercd::queue_error) == 0xF);
static_assert(static_cast<unsigned>(invalidation_queue_error::not_available) == 0 &&
              static_cast<unsigned>(invalidation_queue_error::tail_invalid) == 1 &&
              static_cast<unsigned>(invalidation_queue_error::fetch_failed) == 2 &&
              static_cast<unsigned>(invalidation_queue_error::descriptor_type_invalid) == 3 &&
              static_cast<unsigned>(invalidation_queue_error::descriptor_reserved_bits) == 4 &&
              static_cast<unsigned>(invalidation_queue_error::descriptor_width_invalid) == 5 &&
              static_cast<unsigned>(invalidation_queue_error::table_mode_invalid) == 7);

// IRTA
using irta = interrupt_remapping_table_address;
static_assert(irta{irta::table(hpa{0x7'6543'2000}), irta::extended_interrupt_mode_enable(true),
                   irta::size(15)}
                  .raw == 0x7'6543'280F);

static_assert(mask<irta>(irta::size) == 0xF);

// PQH, PQT, PQA, PRS
static_assert(mask<page_request_queue_head>(page_request_queue_head::head) == 0x7'FFE0);
static_assert(mask<page_request_queue_tail>(page_request_queue_tail::tail) == 0x7'FFE0);
using pqa = page_request_queue_address;
static_assert(pqa{pqa::queue(hpa{0xFFFF'F000}), pqa::size(3)}.raw == 0xFFFF'F003 &&
              mask<pqa>(pqa::size) == 7);
using prs = page_request_status;
static_assert(prs{prs::overflow(true)}.raw == 2 && prs{prs::pending(true)}.raw == 1);
static_assert(prs{3}.write_back().raw == 0);

// FECTL, IECTL, PECTL and the three that follow each
static_assert(offset_of<event_control>(unit_event::fault) == 0x38 &&
              offset_of<event_data>(unit_event::fault) == 0x3C &&
              offset_of<event_address>(unit_event::fault) == 0x40 &&
              offset_of<event_upper_address>(unit_event::fault) == 0x44);
static_assert(offset_of<event_control>(unit_event::invalidation_completion) == 0xA0 &&
              offset_of<event_data>(unit_event::invalidation_completion) == 0xA4 &&
              offset_of<event_address>(unit_event::invalidation_completion) == 0xA8 &&
              offset_of<event_upper_address>(unit_event::invalidation_completion) == 0xAC);
static_assert(offset_of<event_control>(unit_event::page_request) == 0xE0 &&
              offset_of<event_data>(unit_event::page_request) == 0xE4 &&
              offset_of<event_address>(unit_event::page_request) == 0xE8 &&
              offset_of<event_upper_address>(unit_event::page_request) == 0xEC);
static_assert(event_control{event_control::interrupt_mask(true)}.raw == 0x8000'0000);
static_assert(mask<event_control>(event_control::interrupt_pending) == 0x4000'0000 &&
              !decltype(event_control::interrupt_pending)::writable);
static_assert(event_control{0x2AAA'5555}.with(event_control::interrupt_mask(true)).raw ==
              0xAAAA'5555);
static_assert(mask<event_data>(event_data::message_data) == 0xFFFF);
static_assert(mask<event_address>(event_address::message_address) == 0xFFFF'FFFC);
static_assert(mask<event_upper_address>(event_upper_address::message_upper_address) == 0xFFFF'FFFF);

// Root and context entries
static_assert(root_entry{root_entry::present(true), root_entry::context_table(hpa{0x5000})}.raw ==
              0x5001);
static_assert(context_entry_low{context_entry_low::present(true),
                                context_entry_low::second_stage_table(hpa{0x12'3456'7000})}
                  .raw == 0x12'3456'7001);
static_assert(context_entry_high{context_entry_high::address_width(1),
                                 context_entry_high::domain_id(0xABCD)}
                  .raw == 0xAB'CD01);
static_assert(context_entry_high{context_entry_high::address_width(3)}.raw == 0x003);
using low = context_entry_low;
static_assert(low{low::translation_type(low::type::pass_through)}.raw == 0x8);
static_assert(low{low::translation_type(low::type::with_device_tlb)}.raw == 0x4);
static_assert(low{low::fault_processing_disable(true)}.raw == 0x2);

} // namespace
