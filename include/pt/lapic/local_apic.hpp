// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/vector_set.hpp"

#include <cstdint>

namespace pt::lapic {

enum class trigger_mode : std::uint8_t { edge = 0, level = 1 };

/// What became of an interrupt message.
enum class acceptance : std::uint8_t {
    accepted,          ///< it is now in IRR
    already_pending,   ///< it was in IRR and has merged with the earlier one
    illegal_vector,    ///< 0..15: dropped, noted for ESR, and told by the error interrupt
    software_disabled, ///< dropped: the guest has disabled its local APIC
};

/// What an EOI ended.
struct end_of_interrupt {
    std::uint8_t vector; ///< the vector that left ISR; 0: none was in service, nothing happened
    bool broadcast;      ///< level-triggered: the I/O APICs hear of it (re-sample the line, unmask)
};

/// The virtual local APIC of one virtual processor: acceptance, priority and EOI of fixed interrupts.
/// Its state is the register page, which the VMM brings.
///
/// The calls for one local APIC are made by one CPU at a time: the one that runs the virtual processor,
/// between an exit and the next entry, or under the VMM's lock.
class local_apic {
public:
    /// Vectors below are illegal for the local APIC.
    static constexpr std::uint8_t first_legal_vector = 16;

    /// Takes over the page and puts it into the state after power-up.
    explicit constexpr local_apic(register_page& page) : page_{&page} { reset(); }

    // Interrupts that are pending are here once, not in copies.
    local_apic(const local_apic&) = delete;
    local_apic& operator=(const local_apic&) = delete;

    /// The state after power-up [sdm]: nothing pending or in service, software-disabled, every LVT entry
    /// masked. The id and the reserved bytes stay as they are.
    constexpr void reset() {
        page_->version = local_apic_version::reported(
            local_apic_version::eoi_broadcast_suppression(true),
            local_apic_version::max_lvt_entry(6), local_apic_version::version(0x14));
        page_->tpr = {};
        page_->apr = 0;
        page_->ppr = {};
        page_->eoi = 0;
        page_->remote_read = 0;
        page_->logical_destination = 0;
        page_->destination_format = 0xFFFF'FFFF;
        page_->svr = spurious_interrupt_vector{spurious_interrupt_vector::vector(0xFF)};
        page_->isr = {};
        page_->tmr = {};
        page_->irr = {};
        page_->esr = {};
        page_->icr_low = 0;
        page_->icr_high = 0;
        for (local_vector_entry register_page::*entry : local_vector_table) {
            page_->*entry = local_vector_entry{local_vector_entry::masked(true)};
        }
        page_->initial_count = 0;
        page_->current_count = 0;
        page_->divide_configuration = 0;
        errors_ = {};
    }

    /// A fixed interrupt arrives, from a device, an IPI or the local vector table.
    constexpr acceptance accept(std::uint8_t vector, trigger_mode mode) {
        if (!is_software_enabled()) {
            return acceptance::software_disabled;
        }
        if (vector < first_legal_vector) {
            note_error(error_status::reported(error_status::receive_illegal_vector(true)));
            return acceptance::illegal_vector;
        }
        if (mode == trigger_mode::level) {
            page_->tmr.insert(vector);
        } else {
            page_->tmr.erase(vector);
        }
        const bool was_pending = page_->irr.contains(vector);
        page_->irr.insert(vector);
        return was_pending ? acceptance::already_pending : acceptance::accepted;
    }

    /// The vector that the processor would take now if it takes interrupts at all: the highest in IRR,
    /// provided that its class is above the processor priority. 0: none. A halted virtual processor
    /// wakes when this is not 0 and it can take interrupts.
    [[nodiscard]] constexpr std::uint8_t pending() const {
        const std::uint8_t vector = page_->irr.highest();
        return vector / 16 > page_->ppr[processor_priority::priority_class] ? vector
                                                                            : std::uint8_t{0};
    }

    /// The processor takes pending(): it moves from IRR to ISR and is returned. 0: none was pending.
    constexpr std::uint8_t acknowledge() {
        const std::uint8_t vector = pending();
        if (vector != 0) {
            page_->irr.erase(vector);
            page_->isr.insert(vector);
            update_processor_priority(vector);
        }
        return vector;
    }

    /// The guest writes EOI: the highest vector in service is done.
    constexpr end_of_interrupt eoi() {
        const std::uint8_t vector = page_->isr.highest();
        if (vector == 0) {
            return {0, false};
        }
        page_->isr.erase(vector);
        update_processor_priority(page_->isr.highest());
        return {vector, page_->tmr.contains(vector) &&
                            !page_->svr[spurious_interrupt_vector::suppress_eoi_broadcast]};
    }

    /// The guest writes TPR, or a processor with a TPR shadow has written it in the page.
    constexpr void set_task_priority(std::uint32_t written) {
        page_->tpr = page_->tpr.after_write(written);
        update_processor_priority(page_->isr.highest());
    }

    /// The guest writes SVR. Software-disabling masks the local vector table and keeps what is pending
    /// and in service [sdm]; both are still delivered and ended.
    constexpr void set_spurious_interrupt_vector(std::uint32_t written) {
        page_->svr = page_->svr.after_write(written);
        if (!is_software_enabled()) {
            for (local_vector_entry register_page::*entry : local_vector_table) {
                page_->*entry = (page_->*entry).with(local_vector_entry::masked(true));
            }
        }
    }

    /// The guest writes ESR, any value: what went wrong since the last such write can now be read, and
    /// the next error raises the error interrupt again.
    constexpr void latch_error_status() {
        page_->esr = errors_;
        errors_ = {};
    }

    [[nodiscard]] constexpr bool is_software_enabled() const {
        return page_->svr[spurious_interrupt_vector::software_enabled];
    }

    /// What the guest reads.
    [[nodiscard]] constexpr const register_page& registers() const { return *page_; }

private:
    static constexpr local_vector_entry register_page::*local_vector_table[] = {
        &register_page::lvt_cmci,           &register_page::lvt_timer,
        &register_page::lvt_thermal_sensor, &register_page::lvt_performance_counters,
        &register_page::lvt_lint0,          &register_page::lvt_lint1,
        &register_page::lvt_error,
    };

    /// The first error since the guest wrote ESR raises the error interrupt [sdm, Error Handling]. An
    /// illegal vector in the error entry itself is then not the first any more, which ends it.
    constexpr void note_error(error_status seen) {
        const bool armed = errors_ == error_status{};
        errors_.raw |= seen.raw;
        if (armed && !page_->lvt_error[local_vector_entry::masked]) {
            accept(page_->lvt_error[local_vector_entry::vector], trigger_mode::edge);
        }
    }

    /// `in_service`: ISRV, the highest vector in ISR or 0. The class of PPR is the higher class of the
    /// two; for equal classes [sdm] leaves the sub-class open, and this is what APIC virtualization does.
    constexpr void update_processor_priority(std::uint8_t in_service) {
        const bool task = page_->tpr[task_priority::priority_class] >= in_service / 16;
        page_->ppr = processor_priority{task ? page_->tpr.raw & 0xFF : in_service & 0xF0U};
    }

    register_page* page_;
    error_status errors_{}; // since the guest last wrote ESR
};

/// A local APIC as interrupt_sink: each raise is an edge.
struct edge_sink {
    local_apic* apic;
    constexpr void raise(std::uint8_t vector) const { apic->accept(vector, trigger_mode::edge); }
};
static_assert(interrupt_sink<edge_sink>);

} // namespace pt::lapic
