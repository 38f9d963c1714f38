// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/vcpu/event.hpp"
#include "pt/vmx/ept_exit.hpp"
#include "pt/vmx/exit.hpp"
#include "pt/vmx/interruption.hpp"

#include <cstdint>

namespace pt::vmx {

/// Whether the exit came out of an IRET that had already ended blocking by NMI. If the guest is to run
/// that IRET again, set blocking by NMI in its interruptibility state first, or an NMI could come
/// inside its NMI handler [sdm, Resuming Guest Software after Handling an Exception]. If the guest is
/// given the exception that exited, leave it: a faulting IRET unblocks NMIs on a real machine too.
///
/// `qualification`: the exit qualification. The processor says it by bit 12: of the interruption
/// information for exceptions; of the qualification for EPT violations, a full page-modification log
/// and sub-page-permission events; other exits say nothing. When the IDT-vectoring information is
/// valid, and for double faults, the bit is undefined, and this is false.
[[nodiscard]] constexpr bool nmi_unblocked_by_iret(exit_reason reason, std::uint64_t qualification,
                                                   exit_interruption_information exited,
                                                   idt_vectoring_information interrupted) {
    using exit = exit_interruption_information;
    if (interrupted[idt_vectoring_information::valid]) {
        return false;
    }
    switch (reason) {
    case exit_reason::exception_or_nmi:
        return exited[exit::valid] && exited[exit::nmi_unblocking_due_to_iret] &&
               vcpu::exception_vector{exited[exit::vector]} != vcpu::exception_vector::double_fault;
    // The bit is at the same place in all three.
    case exit_reason::ept_violation:
    case exit_reason::page_modification_log_full:
    case exit_reason::spp_related_event:
        return ept_violation_qualification{
            qualification}[ept_violation_qualification::nmi_unblocking_due_to_iret];
    default: return false;
    }
}

} // namespace pt::vmx
