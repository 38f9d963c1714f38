// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include <concepts>
#include <cstdint>

/// What the attributes of each table format mean to the audit. A VMM with a format of its own writes
/// the same functions beside it.
namespace pt::assign {

/// What an entry allows: in any case, and under circumstances that the tables do not tell (the mode
/// of the processor, sub-page permissions, ...). What is reachable is bounded by `most`, what can be
/// relied upon by `least`.
struct rights_bounds {
    page_rights least{};
    page_rights most{};
    /// A leaf's: there may be writes whatever the entries above it say.
    bool written_anyway = false;

    /// What is left where both must allow it.
    friend constexpr rights_bounds operator&(const rights_bounds& a, const rights_bounds& b) {
        rights_bounds left{both(a.least, b.least), both(a.most, b.most),
                           a.written_anyway || b.written_anyway};
        left.most.write = left.most.write || left.written_anyway;
        return left;
    }
    friend constexpr bool operator==(const rights_bounds&, const rights_bounds&) = default;

private:
    static constexpr page_rights both(page_rights a, page_rights b) {
        return {a.read && b.read, a.write && b.write, a.execute && b.execute};
    }
};

/// Nothing is taken away.
inline constexpr rights_bounds every_right{{true, true, true}, {true, true, true}};

[[nodiscard]] constexpr bool any(page_rights rights) {
    return rights.read || rights.write || rights.execute;
}

/// Of EPT. A page that is not writable can be written to by page walks, as a shadow stack, or in
/// parts, where the VMM turned that on; the tables do not say whether it did.
[[nodiscard]] constexpr rights_bounds rights_of(const ept::format&, const ept::attributes& a) {
    const bool perhaps =
        a.paging_write || a.supervisor_shadow_stack || a.sub_page_write_permissions;
    return {{a.read, a.write, a.execute && a.user_execute},
            {a.read, a.write || perhaps, a.execute || a.user_execute},
            perhaps};
}
[[nodiscard]] constexpr rights_bounds rights_of(const vtd::second_stage::format&,
                                                const vtd::second_stage::attributes& a) {
    return {{a.read, a.write, false}, {a.read, a.write, false}};
}
/// Of nested paging, in which every access is one of user mode [amd]; and of VT-d's first stage, in
/// which the device says what mode it means.
template <class Address>
[[nodiscard]] constexpr rights_bounds rights_of(const x86_64::format<Address>&,
                                                const x86_64::attributes& a) {
    constexpr bool nested = std::same_as<Address, gpa>;
    const bool perhaps = a.user || !nested;
    return {{a.user, a.user && a.write, a.user && a.execute},
            {perhaps, perhaps && a.write, perhaps && a.execute}};
}

/// Whether the processor may keep what it reads there in its caches, whatever the guest's PAT says.
[[nodiscard]] constexpr bool is_cached(const ept::format&, const ept::attributes& a,
                                       std::uint64_t /*page_attribute_table*/) {
    return a.type == ept::memory_type::write_back || a.type == ept::memory_type::write_through ||
           a.type == ept::memory_type::write_protected;
}
/// Types of a device's accesses are not the tables' affair.
[[nodiscard]] constexpr bool is_cached(const vtd::second_stage::format&,
                                       const vtd::second_stage::attributes&, std::uint64_t) {
    return false;
}
/// PAT encodings: 0 uncacheable, 1 write-combining, 4 write-through, 5 write-protected, 6
/// write-back, 7 uncached.
template <class Address>
[[nodiscard]] constexpr bool is_cached(const x86_64::format<Address>&, const x86_64::attributes& a,
                                       std::uint64_t page_attribute_table) {
    const auto type = page_attribute_table >> (a.pat_entry & 7) * 8 & 7;
    return std::same_as<Address, gpa> && type >= 4 && type <= 6;
}

[[nodiscard]] constexpr table_kind kind_of(const ept::format&) { return table_kind::ept; }
[[nodiscard]] constexpr table_kind kind_of(const vtd::second_stage::format&) {
    return table_kind::second_stage;
}
template <class Address>
[[nodiscard]] constexpr table_kind kind_of(const x86_64::format<Address>&) {
    return std::same_as<Address, gpa> ? table_kind::nested_paging : table_kind::first_stage;
}

} // namespace pt::assign
