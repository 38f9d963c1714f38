// SPDX-License-Identifier: BSL-1.0
//
// DMA and interrupt remapping of the machine (VT-d), as this VMM uses it.
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/memory.hpp"
#include "../../kernel/mmio.hpp"
#include "../../kernel/pci.hpp"
#include "../machine/auditor.hpp"
#include "../machine/static_vector.hpp"

#include "pt/assign/audit.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/assign/remapped_dma.hpp"
#include "pt/core/wide_store.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/fault_limiter.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/translation.hpp"
#include "pt/vtd/unit.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::svm {

using remapping_policies = pt::vtd::policies<kernel::mmio, kernel::clock, kernel::memory_policy,
                                             pt::paging::clflush_publication, pt::cmpxchg16b_store>;
using remapping =
    pt::vtd::remapping<remapping_policies, pt::pci::config_bus_numbers<kernel::port_config>>;
using domain = pt::vtd::domain<remapping>;

/// All remapping units of the machine, on from the beginning: no function reaches anything unless a
/// guest has it.
class remapping_units {
public:
    static constexpr std::size_t most_units = 8;

    /// Takes all units of firmware's DMAR table, switches DMA and interrupt remapping on, and has their
    /// faults raise `fault_vector` here. The run ends where that cannot be.
    explicit remapping_units(std::uint8_t fault_vector);
    remapping_units(const remapping_units&) = delete;
    remapping_units& operator=(const remapping_units&) = delete;

    [[nodiscard]] remapping& all() { return all_; }
    [[nodiscard]] std::size_t count() const { return units_.count(); }
    [[nodiscard]] remapping::unit_type& operator[](std::size_t i) { return *units_[i]; }
    /// Which of them serves a function.
    [[nodiscard]] std::uint16_t unit_of(pt::pci::function_address function);

    /// The unit's interrupt: a line of the log for each fault that is worth one.
    void on_fault_event();
    /// Faults that were more than one interrupt had time for.
    void look_again() {
        if (more_) {
            on_fault_event();
        }
    }
    [[nodiscard]] std::uint64_t faults() const { return faults_; }

    /// Switches all off, and gives their tables back.
    pt::result<void> retire();

private:
    void tell(const pt::vtd::fault_record& fault, pt::vtd::fault_verdict verdict);

    remapping all_;
    static_vector<pt::result<remapping::unit_type>, most_units> units_{};
    std::uint64_t faults_ = 0;
    bool more_ = false;
};

/// What the functions of one guest are put through, on all units.
class guest_domain {
public:
    explicit guest_domain(remapping_units& units);

    [[nodiscard]] domain& tables() { return domain_; }
    /// For assign::guest.
    [[nodiscard]] pt::assign::remapped_dma<domain> path() {
        return pt::assign::remapped_dma{domain_, units_->all()};
    }
    /// For the audit: the same for each unit.
    [[nodiscard]] pt::assign::list_of<pt::assign::owned_domain> owned() const {
        return owned_.list();
    }

private:
    remapping_units* units_;
    domain domain_;
    static_vector<pt::assign::owned_domain, remapping_units::most_units> owned_{};
};

/// The part of the audit that concerns the units, for auditor: what each function is put through, what
/// it reaches there, and which interrupts it can raise. All of it is read where the unit reads it.
class unit_audit {
public:
    /// The domain of each guest, by its number.
    unit_audit(remapping_units& units, guest_domain* const* domains)
        : units_{&units}, domains_{domains} {}

    [[nodiscard]] std::uint16_t unit_of(pt::pci::function_address function) const {
        return units_->unit_of(function);
    }
    void complete(unsigned guest, pt::assign::ownership& owned);
    template <class Report>
    pt::assign::audit_summary audit(unsigned guest, const pt::assign::ownership& owned,
                                    const audit_means& means, Report& tell) {
        domain& of = domains_[guest]->tables();
        pt::assign::audit_summary all = pt::assign::audit_confinement(owned, tell);
        for (const pt::assign::owned_domain& each : domains_[guest]->owned()) {
            const pt::hpa root = each.through.second_stage_root();
            if (each.unit == 0) { // all units walk the same tables
                all += pt::assign::audit_dma(of.tables().format(), means.reader, root, means.seen,
                                             owned, tell);
                all += pt::assign::audit_table_frames(of.tables().format(), means.reader, root,
                                                      means.fresh(), means.own, owned.guest, tell);
            }
        }
        for (std::size_t i = 0; i != units_->count(); ++i) {
            // The tables of all guests meet those of the units, once.
            all +=
                pt::assign::audit_functions(function_tables_of(i), means.reader,
                                            guest == 0 ? means.seen : means.fresh(), owned, tell);
            all += pt::assign::audit_vectors(interrupt_entries_of(i), owned, tell);
        }
        return all;
    }

private:
    pt::assign::function_tables function_tables_of(std::size_t unit);
    pt::assign::interrupt_entries interrupt_entries_of(std::size_t unit);

    remapping_units* units_;
    guest_domain* const* domains_;
};

} // namespace vmm::svm
