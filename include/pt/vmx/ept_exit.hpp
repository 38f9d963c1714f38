// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/vcpu/memory_violation.hpp"

#include <cstdint>

namespace pt::vmx {

/// Exit qualification for EPT violations, 64 bits [sdm].
struct ept_violation_qualification : reg<ept_violation_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// Not of an instruction: trace or sampling output, user-interrupt delivery.
    static constexpr bits<16, 16, bool, access::read_only> asynchronous{};
    static constexpr bits<15, 15, bool, access::read_only> guest_paging_verification{};
    /// Bit 60 of the EPT entry that maps the page. Undefined without supervisor shadow-stack control
    /// in the EPTP, and where no entry maps a page.
    static constexpr bits<14, 14, bool, access::read_only> supervisor_shadow_stack{};
    static constexpr bits<13, 13, bool, access::read_only> shadow_stack_access{};
    /// The exit undid NMI blocking in the middle of an IRET: set blocking by NMI before the guest
    /// resumes. Undefined when the IDT-vectoring information is valid.
    static constexpr bits<12, 12, bool, access::read_only> nmi_unblocking_due_to_iret{};

    // 11..9 say something about the guest's own paging only with the capability "advanced VM-exit
    // information for EPT violations", and when bits 7 and 8 are both 1: see has_advanced_information.
    static constexpr bits<11, 11, bool, access::read_only> linear_execute_disable{};
    static constexpr bits<10, 10, bool, access::read_only> linear_writable{};
    static constexpr bits< 9,  9, bool, access::read_only> linear_user_mode{};

    /// 1: the access to the translation of a linear address; 0: to a guest paging-structure entry
    /// during the walk. Defined when guest_linear_address_valid.
    static constexpr bits< 8,  8, bool, access::read_only> access_to_translation{};
    static constexpr bits< 7,  7, bool, access::read_only> guest_linear_address_valid{};

    // 6..3: what the EPT allows there, the logical AND over all levels; all 0 when not present.
    // Bit 6 is undefined without mode-based execute control.
    static constexpr bits< 6,  6, bool, access::read_only> user_executable{};
    static constexpr bits< 5,  5, bool, access::read_only> executable{};
    static constexpr bits< 4,  4, bool, access::read_only> writable{};
    static constexpr bits< 3,  3, bool, access::read_only> readable{};

    // 2..0: what the guest did. A read-modify-write sets data_write, and data_read or not; with the
    // EPT's accessed and dirty flags enabled, a walk of the guest's tables sets both.
    static constexpr bits< 2,  2, bool, access::read_only> instruction_fetch{};
    static constexpr bits< 1,  1, bool, access::read_only> data_write{};
    static constexpr bits< 0,  0, bool, access::read_only> data_read{};
    // clang-format on
    static constexpr field_list fields{asynchronous,
                                       guest_paging_verification,
                                       supervisor_shadow_stack,
                                       shadow_stack_access,
                                       nmi_unblocking_due_to_iret,
                                       linear_execute_disable,
                                       linear_writable,
                                       linear_user_mode,
                                       access_to_translation,
                                       guest_linear_address_valid,
                                       user_executable,
                                       executable,
                                       writable,
                                       readable,
                                       instruction_fetch,
                                       data_write,
                                       data_read};

    /// Whether bits 11..9 are defined, on a processor that has the capability.
    [[nodiscard]] constexpr bool has_advanced_information() const {
        return (*this)[guest_linear_address_valid] && (*this)[access_to_translation];
    }
};

/// What an EPT-violation exit says to a handler of either loop. `address`: the field "guest-physical
/// address"; `linear_address`: the field "guest linear address", which counts only where the
/// qualification says that it is valid.
///
/// An EPT misconfiguration (exit reason 49) has no qualification: the field is undefined, and only the
/// guest-physical address is there. It is an error of whoever wrote the tables, never of the guest.
[[nodiscard]] constexpr vcpu::memory_violation
violation_of(ept_violation_qualification qualification, gpa address, std::uint64_t linear_address) {
    using ept = ept_violation_qualification;
    const bool linear = qualification[ept::guest_linear_address_valid];
    return {.address = address,
            .read = qualification[ept::data_read],
            .write = qualification[ept::data_write],
            .execute = qualification[ept::instruction_fetch],
            // Bit 6 is left out: it is undefined without mode-based execute control.
            .mapped = qualification[ept::readable] || qualification[ept::writable] ||
                      qualification[ept::executable],
            // Without a linear address bit 8 is undefined, and no table of the guest was walked.
            .final_translation = !linear || qualification[ept::access_to_translation],
            .asynchronous = qualification[ept::asynchronous],
            .has_linear_address = linear,
            .linear_address = linear ? linear_address : 0};
}

} // namespace pt::vmx
