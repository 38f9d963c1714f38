// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/counted_report.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/finding_run.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/registers.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// The isolation audit of interrupts.
namespace pt::assign {

/// The interrupt remapping table of one unit, live or from a dump.
struct interrupt_entries {
    const std::uint64_t* words = nullptr;        ///< two for each entry
    std::uint32_t count = 0;                     ///< of entries: 2^(IRTA.S + 1), at most 65536
    vtd::apic_mode mode = vtd::apic_mode::xapic; ///< IRTA.EIME
    std::uint16_t unit = 0;                      ///< its number in owned_function and owned_vector

    /// The table that IRTA names, all of which lies at `words` for the caller.
    [[nodiscard]] static constexpr interrupt_entries of(vtd::interrupt_remapping_table_address irta,
                                                        const std::uint64_t* words,
                                                        std::uint16_t unit = 0) {
        using address = vtd::interrupt_remapping_table_address;
        return {words, std::uint32_t{2} << irta[address::size],
                irta[address::extended_interrupt_mode_enable] ? vtd::apic_mode::x2apic
                                                              : vtd::apic_mode::xapic,
                unit};
    }
};

/// One audit of one unit's entries under way; the function below is the way to it.
template <class Report>
class vector_audit {
public:
    constexpr vector_audit(const interrupt_entries& table, const ownership& owner, Report& report)
        : table_{table}, owner_{owner}, told_{report} {}

    constexpr audit_summary run() {
        if (disordered()) {
            return {.findings = told_.count};
        }
        const owned_vector* next = owner_.vectors.begin();
        const owned_vector* const end = owner_.vectors.end();
        while (next != end && next->unit < table_.unit) {
            ++next;
        }
        for (std::uint32_t index = 0; index < table_.count; ++index) {
            const std::uint64_t* const words = table_.words + std::size_t{2} * index;
            const vtd::interrupt_entry entry{paging::load_entry(words),
                                             paging::load_entry(words + 1)};
            if (next != end && next->unit == table_.unit && next->entry.raw == index) {
                compare(*next, entry);
                ++next;
            } else if (entry.present()) {
                stray(index, entry);
            }
        }
        for (; next != end && next->unit == table_.unit; ++next) { // beyond the table
            compare(*next, {});
        }
        run_.flush();
        return {.findings = told_.count, .tables = 1, .leaves = table_.count};
    }

private:
    [[nodiscard]] constexpr finding about(finding_kind kind, std::uint32_t index) const {
        return {.kind = kind,
                .guest = owner_.guest,
                .first = index,
                .last = index,
                .unit = table_.unit};
    }

    constexpr bool disordered() {
        for (std::size_t i = 1; i < owner_.vectors.size(); ++i) {
            if (owner_.vectors[i].place() <= owner_.vectors[i - 1].place()) {
                return tell_disordered(owned_resource::interrupt_entry, i);
            }
        }
        for (std::size_t i = 1; i < owner_.functions.size(); ++i) {
            if (owner_.functions[i].place() <= owner_.functions[i - 1].place()) {
                return tell_disordered(owned_resource::functions, i);
            }
        }
        return false;
    }
    constexpr bool tell_disordered(owned_resource what, std::size_t index) {
        told_({.kind = finding_kind::disordered_list,
               .what = what,
               .guest = owner_.guest,
               .first = index,
               .last = index});
        return true;
    }

    /// An entry that is the guest's.
    constexpr void compare(const owned_vector& owned, const vtd::interrupt_entry& entry) {
        finding tell = about(finding_kind::vector_missing, owned.entry.raw);
        tell.function = pci::function_address::from_source_id(owned.from.source_id);
        tell.expected_to = {owned.to.vector, owned.to.destination_id, owned.to.delivery_mode};
        tell.expected = owned.descriptor.raw;
        if (!entry.present()) {
            run_.add(tell);
            return;
        }
        if (!describe(entry, tell)) {
            tell.kind = finding_kind::vector_malformed;
            run_.add(tell);
            return;
        }
        if (!leads_to(owned, entry)) {
            const bool stray = entry.is_posted() && !posts_into(owned, hpa{tell.host});
            tell.kind = stray ? finding_kind::vector_posted : finding_kind::vector_elsewhere;
            run_.add(tell);
        }
        const vtd::interrupt_requester from = entry.requester();
        if (!same_sources(from, owned.from)) {
            tell.kind = from.type == vtd::source_validation::none
                            ? finding_kind::vector_any_source
                            : finding_kind::vector_wrong_source;
            tell.expected = owned.from.source_id;
            tell.found = from.source_id;
            run_.add(tell);
        }
    }
    static constexpr bool posts_into(const owned_vector& owned, hpa descriptor) {
        return owned.descriptor != hpa{0} && descriptor == owned.descriptor;
    }
    /// Of an entry that hardware takes.
    [[nodiscard]] constexpr bool leads_to(const owned_vector& owned,
                                          const vtd::interrupt_entry& entry) const {
        if (entry.is_posted()) {
            const auto to = entry.posted();
            return to && posts_into(owned, to->descriptor) && to->vector == owned.to.vector;
        }
        auto to = entry.remapped(table_.mode);
        if (!to || owned.descriptor != hpa{0}) {
            return false;
        }
        to->fault_processing_disable = owned.to.fault_processing_disable; // of no interest here
        return *to == owned.to;
    }

    /// A present entry that is not the guest's. It concerns the guest if one of its functions can
    /// use it.
    constexpr void stray(std::uint32_t index, const vtd::interrupt_entry& entry) {
        const vtd::interrupt_requester from = entry.requester();
        const owned_function* const served = first_served(from);
        if (served == nullptr) {
            return;
        }
        finding tell = about(finding_kind::vector_not_owned, index);
        tell.function = served->address;
        if (!describe(entry, tell)) {
            return; // hardware blocks it
        }
        if (from.type == vtd::source_validation::none) {
            tell.kind = finding_kind::vector_any_source;
        } else if (entry.is_posted()) {
            tell.kind = finding_kind::vector_posted;
        }
        run_.add(tell);
    }

    /// Writes into `tell` where the entry leads. Whether it leads anywhere.
    constexpr bool describe(const vtd::interrupt_entry& entry, finding& tell) const {
        if (entry.is_posted()) {
            const auto to = entry.posted();
            if (to) {
                tell.host = to->descriptor.raw;
                tell.to.vector = to->vector;
            }
            return to.has_value();
        }
        const auto to = entry.remapped(table_.mode);
        if (to) {
            tell.to = {to->vector, to->destination_id, to->delivery_mode};
        }
        return to.has_value();
    }

    static constexpr bool same_sources(const vtd::interrupt_requester& a,
                                       const vtd::interrupt_requester& b) {
        if (a.type != b.type) {
            return false;
        }
        // The qualifier means nothing where buses are compared, and nothing at all where none are.
        return a.type == vtd::source_validation::none ||
               (a.source_id == b.source_id &&
                (a.type == vtd::source_validation::bus || a.qualifier == b.qualifier));
    }

    /// The guest's first function behind this unit that the entry serves; null if none.
    [[nodiscard]] constexpr const owned_function*
    first_served(const vtd::interrupt_requester& from) const {
        std::uint32_t low = 0; // of the source ids that can be served at all
        std::uint32_t high = 0xFFFF;
        if (from.type == vtd::source_validation::source_id) {
            low = from.source_id & 0xFFF8U; // at most three bits are not compared
            high = low | 7U;
        } else if (from.type == vtd::source_validation::bus) {
            low = from.source_id & 0xFF00U;
            high = (from.source_id & 0xFFU) << 8 | 0xFFU;
        }
        const std::uint32_t unit = std::uint32_t{table_.unit} << 16;
        const owned_function* at = owner_.functions.begin();
        for (std::size_t left = owner_.functions.size(); left != 0;) {
            const std::size_t half = left / 2;
            const bool below = at[half].place() < (unit | low);
            at += below ? half + 1 : 0;
            left = below ? left - half - 1 : half;
        }
        for (; at != owner_.functions.end() && at->place() <= (unit | high); ++at) {
            if (from.serves(static_cast<std::uint16_t>(at->place()))) {
                return at;
            }
        }
        return nullptr;
    }

    interrupt_entries table_;
    const ownership& owner_;
    counted_report<Report> told_;
    finding_run<counted_report<Report>> run_{told_};
};

/// Compares a unit's interrupt remapping table with `owner.vectors`: every entry that is the guest's
/// must be present, lead where it should and serve its function alone, and no other entry may serve
/// one of `owner.functions` behind this unit. Entries that serve none of them are of no concern to
/// this guest. That requests in compatibility format are blocked is not in the table:
/// audit_confinement().
template <finding_report Report>
constexpr audit_summary audit_vectors(const interrupt_entries& table, const ownership& owner,
                                      Report&& report) {
    return vector_audit<std::remove_reference_t<Report>>{table, owner, report}.run();
}

} // namespace pt::assign
