// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/lapic/registers.hpp"
#include "pt/lapic/vector_set.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::lapic {

/// The local APIC's registers where the hardware has them [sdm, Local APIC Register Address Map]:
/// one 32-bit register at each multiple of 16 bytes. A page of this form can be a virtual-APIC
/// page.
struct alignas(4096) register_page {
    std::uint32_t reserved_000[8]{};
    alignas(16) local_apic_id id{};
    alignas(16) local_apic_version version{};
    alignas(16) std::uint32_t reserved_040[16]{};
    alignas(16) task_priority tpr{};
    alignas(16) std::uint32_t apr{};
    alignas(16) processor_priority ppr{};
    alignas(16) std::uint32_t eoi{};
    alignas(16) std::uint32_t remote_read{};
    alignas(16) std::uint32_t logical_destination{};
    alignas(16) std::uint32_t destination_format{};
    alignas(16) spurious_interrupt_vector svr{};
    vector_set isr{}; ///< in-service
    vector_set tmr{}; ///< trigger mode: 1 is level
    vector_set irr{}; ///< interrupt request
    alignas(16) error_status esr{};
    alignas(16) std::uint32_t reserved_290[24]{};
    alignas(16) local_vector_entry lvt_cmci{};
    alignas(16) std::uint32_t icr_low{};
    std::uint32_t icr_destination{}; ///< ICR 63:32 in x2APIC mode: there a virtual-APIC page has it
    alignas(16) std::uint32_t icr_high{}; ///< ICR 63:32 in xAPIC mode
    alignas(16) local_vector_entry lvt_timer{};
    alignas(16) local_vector_entry lvt_thermal_sensor{};
    alignas(16) local_vector_entry lvt_performance_counters{};
    alignas(16) local_vector_entry lvt_lint0{};
    alignas(16) local_vector_entry lvt_lint1{};
    alignas(16) local_vector_entry lvt_error{};
    alignas(16) std::uint32_t initial_count{};
    alignas(16) std::uint32_t current_count{};
    alignas(16) std::uint32_t reserved_3a0[16]{};
    alignas(16) std::uint32_t divide_configuration{};
    alignas(16) std::uint32_t self_ipi{};
    std::uint32_t reserved_400[0xC00 / 4]{};
};

static_assert(sizeof(register_page) == 4096);
static_assert(std::is_standard_layout_v<register_page> &&
              std::is_trivially_copyable_v<register_page>);
static_assert(offsetof(register_page, id) == local_apic_id::offset);
static_assert(offsetof(register_page, version) == local_apic_version::offset);
static_assert(offsetof(register_page, tpr) == task_priority::offset);
static_assert(offsetof(register_page, ppr) == processor_priority::offset);
static_assert(offsetof(register_page, eoi) == 0x0B0);
static_assert(offsetof(register_page, svr) == spurious_interrupt_vector::offset);
static_assert(offsetof(register_page, isr) == 0x100);
static_assert(offsetof(register_page, tmr) == 0x180);
static_assert(offsetof(register_page, irr) == 0x200);
static_assert(offsetof(register_page, esr) == error_status::offset);
static_assert(offsetof(register_page, lvt_cmci) == 0x2F0);
static_assert(offsetof(register_page, icr_low) == interrupt_command::offset);
static_assert(offsetof(register_page, icr_high) == interrupt_command::offset_high);
static_assert(offsetof(register_page, lvt_timer) == 0x320);
static_assert(offsetof(register_page, lvt_error) == 0x370);
static_assert(offsetof(register_page, divide_configuration) == 0x3E0);

/// The register at `offset`, a multiple of 16 bytes; null where [sdm] has none. The SELF IPI
/// register is there in x2APIC mode only. `Page`: register_page, or const register_page.
template <class Page>
    requires std::same_as<std::remove_const_t<Page>, register_page>
[[nodiscard]] constexpr auto register_at(Page& page, std::uint32_t offset)
    -> decltype(&page.tpr.raw) {
    if (offset >= 0x100 && offset < 0x280 && offset % 16 == 0) {
        auto& set = offset < 0x180 ? page.isr : offset < 0x200 ? page.tmr : page.irr;
        return &set.words[offset / 16 % 8].bits;
    }
    switch (offset) {
    case 0x020: return &page.id.raw;
    case 0x030: return &page.version.raw;
    case 0x080: return &page.tpr.raw;
    case 0x090: return &page.apr;
    case 0x0A0: return &page.ppr.raw;
    case 0x0B0: return &page.eoi;
    case 0x0C0: return &page.remote_read;
    case 0x0D0: return &page.logical_destination;
    case 0x0E0: return &page.destination_format;
    case 0x0F0: return &page.svr.raw;
    case 0x280: return &page.esr.raw;
    case 0x2F0: return &page.lvt_cmci.raw;
    case 0x300: return &page.icr_low;
    case 0x310: return &page.icr_high;
    case 0x320: return &page.lvt_timer.raw;
    case 0x330: return &page.lvt_thermal_sensor.raw;
    case 0x340: return &page.lvt_performance_counters.raw;
    case 0x350: return &page.lvt_lint0.raw;
    case 0x360: return &page.lvt_lint1.raw;
    case 0x370: return &page.lvt_error.raw;
    case 0x380: return &page.initial_count;
    case 0x390: return &page.current_count;
    case 0x3E0: return &page.divide_configuration;
    case 0x3F0: return &page.self_ipi;
    default: return nullptr;
    }
}

} // namespace pt::lapic
