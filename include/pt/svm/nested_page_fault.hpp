// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/vcpu/memory_violation.hpp"

#include <cstdint>

namespace pt::svm {

/// EXITINFO1 of a nested page fault, 64 bits [amd, Nested versus Guest Page Faults, Fault Ordering;
/// RMP and VMPL Access Checks].
struct nested_page_fault_information : reg<nested_page_fault_information, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// The nested tables map a supervisor shadow-stack page there, and the VMCB has the check enabled.
    static constexpr bits<37, 37, bool, access::read_only> supervisor_shadow_stack{};

    // With SEV-SNP: a VMPL permission, sizes of page and RMP entry that differ, the guest's C-bit.
    static constexpr bits<36, 36, bool, access::read_only> vmpl{};
    static constexpr bits<35, 35, bool, access::read_only> size_mismatch{};
    static constexpr bits<34, 34, bool, access::read_only> encrypted{};

    static constexpr bits<33, 33, bool, access::read_only> guest_page_tables{}; ///< translating these
    static constexpr bits<32, 32, bool, access::read_only> final_address{};     ///< translating this
    static constexpr bits<31, 31, bool, access::read_only> rmp{};               ///< SEV-SNP: an RMP check
    static constexpr bits< 6,  6, bool, access::read_only> shadow_stack{};      ///< such an access
    static constexpr bits< 4,  4, bool, access::read_only> instruction_fetch{};
    /// A nested entry has a reserved bit set: the counterpart of an EPT misconfiguration, but some
    /// VMMs mark devices so.
    static constexpr bits< 3,  3, bool, access::read_only> reserved_bit{};
    static constexpr bits< 2,  2, bool, access::read_only> user{};              ///< nearly always 1
    /// Reads of the guest's page tables count as writes, unless "read only guest page tables" is on.
    static constexpr bits< 1,  1, bool, access::read_only> write{};
    static constexpr bits< 0,  0, bool, access::read_only> present{};
    // clang-format on
    static constexpr field_list fields{supervisor_shadow_stack,
                                       vmpl,
                                       size_mismatch,
                                       encrypted,
                                       guest_page_tables,
                                       final_address,
                                       rmp,
                                       shadow_stack,
                                       instruction_fetch,
                                       reserved_bit,
                                       user,
                                       write,
                                       present};
};

/// What a nested page fault says to a handler of either loop. `address`: EXITINFO2. SVM has no linear
/// address to report; the guest's instruction bytes may be in the VMCB [amd, Nested and Intercepted
/// #PF].
[[nodiscard]] constexpr vcpu::memory_violation violation_of(nested_page_fault_information fault,
                                                            gpa address) {
    using npf = nested_page_fault_information;
    const bool walk = fault[npf::guest_page_tables];
    const bool write = fault[npf::write];
    const bool fetch = fault[npf::instruction_fetch];
    return {.address = address,
            .read = walk || (!write && !fetch),
            .write = write,
            .execute = fetch,
            .mapped = fault[npf::present],
            .final_translation = !walk};
}

} // namespace pt::svm
