// SPDX-License-Identifier: BSL-1.0
// The words of #VMEXIT and VMRUN against values put together by hand from the manual's figures.

#include "pt/svm/event.hpp"
#include "pt/svm/exit.hpp"
#include "pt/svm/interrupt_control.hpp"
#include "pt/svm/nested_page_fault.hpp"

#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::svm;

static_assert(sizeof(event_injection) == 8 && std::is_trivially_copyable_v<event_injection>);
static_assert(sizeof(exit_interrupt_information) == 8);
static_assert(sizeof(nested_page_fault_information) == 8);
static_assert(sizeof(virtual_interrupt_control) == 8);

// [amd] Appendix C: one of each ten, and the ends.
static_assert(static_cast<std::uint64_t>(exit_code::cr0_write) == 0x10);
static_assert(static_cast<std::uint64_t>(exit_code::exception_0) == 0x40);
static_assert(static_cast<std::uint64_t>(exit_code::vintr) == 0x64);
static_assert(static_cast<std::uint64_t>(exit_code::tr_write) == 0x6D);
static_assert(static_cast<std::uint64_t>(exit_code::cpuid) == 0x72);
static_assert(static_cast<std::uint64_t>(exit_code::iret) == 0x74);
static_assert(static_cast<std::uint64_t>(exit_code::hlt) == 0x78);
static_assert(static_cast<std::uint64_t>(exit_code::ioio) == 0x7B);
static_assert(static_cast<std::uint64_t>(exit_code::shutdown) == 0x7F);
static_assert(static_cast<std::uint64_t>(exit_code::vmmcall) == 0x81);
static_assert(static_cast<std::uint64_t>(exit_code::icebp) == 0x88);
static_assert(static_cast<std::uint64_t>(exit_code::xsetbv) == 0x8D);
static_assert(static_cast<std::uint64_t>(exit_code::cr0_write_trap) == 0x90);
static_assert(static_cast<std::uint64_t>(exit_code::invpcid) == 0xA2);
static_assert(static_cast<std::uint64_t>(exit_code::idle_hlt) == 0xA6);
static_assert(static_cast<std::uint64_t>(exit_code::nested_page_fault) == 0x400);
static_assert(static_cast<std::uint64_t>(exit_code::vmgexit) == 0x403);
static_assert(static_cast<std::int64_t>(exit_code::invalid) == -1);
static_assert(static_cast<std::int64_t>(exit_code::invalid_pmc) == -4);

static_assert(number_of(exit_code{0x18}, exit_code::cr0_write) == std::uint8_t{8});
static_assert(number_of(exit_code{0x4E}, exit_code::exception_0) == std::uint8_t{14});
static_assert(number_of(exit_code{0x5F}, exit_code::exception_0) == std::uint8_t{31});
static_assert(number_of(exit_code{0x60}, exit_code::exception_0) ==
              pt::error{pt::errc::absent, 0x60});
static_assert(number_of(exit_code{0x0F}, exit_code::cr0_write) ==
              pt::error{pt::errc::absent, 0x0F});
static_assert(number_of(exit_code{0x20}, exit_code::cr0_write) ==
              pt::error{pt::errc::absent, 0x20});
static_assert(number_of(exit_code{0x2F}, exit_code::dr0_read) == std::uint8_t{15});
static_assert(number_of(exit_code{0x98}, exit_code::cr0_write_trap) == std::uint8_t{8});
static_assert(number_of(exit_code::hlt, exit_code::hlt) == pt::error{pt::errc::absent, 0x78});

// Nested page faults. A read of what is not mapped: user (bit 2), final address (32).
using npf = nested_page_fault_information;
using pt::vcpu::memory_violation;
constexpr pt::gpa page{0xFEE0'0300};
static_assert(violation_of(npf{0x1'0000'0004}, page) ==
              memory_violation{.address = page, .read = true});
// A write to what is mapped for reading.
static_assert(violation_of(npf{0x1'0000'0007}, page) ==
              memory_violation{.address = page, .write = true, .mapped = true});
// A fetch from a no-execute page.
static_assert(violation_of(npf{0x1'0000'0015}, page) ==
              memory_violation{.address = page, .execute = true, .mapped = true});
// A walk of the guest's tables counts as a write, and reads an entry in any case; with read-only guest
// page tables it may count as a read.
static_assert(violation_of(npf{0x2'0000'0006}, page) ==
              memory_violation{
                  .address = page, .read = true, .write = true, .final_translation = false});
static_assert(violation_of(npf{0x2'0000'0004}, page) ==
              memory_violation{.address = page, .read = true, .final_translation = false});
// Neither bit 32 nor 33, as processors before these bits: no walk that anybody knows of.
static_assert(violation_of(npf{0x4}, page).final_translation);
static_assert(npf{0x8}[npf::reserved_bit] && npf{0x40}[npf::shadow_stack] && npf{0x4}[npf::user]);
static_assert(npf{0x8000'0000}[npf::rmp] && npf{0x4'0000'0000}[npf::encrypted]);
static_assert(npf{0x8'0000'0000}[npf::size_mismatch] && npf{0x10'0000'0000}[npf::vmpl]);
static_assert(npf{0x20'0000'0000}[npf::supervisor_shadow_stack] &&
              npf{0x1'0000'0000}[npf::final_address]);

// Virtual interrupt control, offset 060h: V_TPR 3:0, V_IRQ 8, V_GIF 9, V_NMI 11, V_NMI_MASK 12,
// V_INTR_PRIO 19:16, V_IGN_TPR 20, V_INTR_MASKING 24, V_GIF enable 25, V_NMI_ENABLE 26, x2AVIC 30, AVIC
// 31, V_INTR_VECTOR 39:32.
using vic = virtual_interrupt_control;
static_assert(vic{vic::v_intr_masking(true), vic::v_tpr(5)}.raw == 0x0100'0005);
static_assert(vic{vic::v_nmi_enable(true), vic::v_nmi(true), vic::v_nmi_mask(true)}.raw ==
              0x0400'1800);
static_assert(vic{vic::v_gif_enable(true), vic::v_gif(true)}.raw == 0x0200'0200);
static_assert(vic{vic::avic_enable(true), vic::x2avic_enable(true)}.raw == 0xC000'0000);
static_assert(vic{vic::v_intr_vector(0x31), vic::v_irq(true), vic::v_intr_prio(3)}.raw ==
              0x31'0003'0100);
// The window: a virtual interrupt of the highest priority, not masked by V_TPR; the rest stays.
static_assert(vic{0x0100'0005}.with_interrupt_window().raw == 0x011F'0105);
static_assert(vic{0x011F'0105}.without_interrupt_window().raw == 0x0100'0005);
static_assert(vic{0x31'0103'0005}.with_interrupt_window().raw == 0x011F'0105);

using state = guest_interrupt_state;
static_assert(state{3}[state::interrupt_shadow] && state{2}[state::guest_interrupt_mask]);
static_assert(state{3}.after_instruction() == state{2});

// IF is bit 9. The shadow and a clear GIF hold an interrupt back, the VMM's own V_TPR does not.
constexpr vic masking{0x0100'000F};
static_assert(can_take_external_interrupt(0x202, state{0}, masking));
static_assert(!can_take_external_interrupt(0x002, state{0}, masking));
static_assert(!can_take_external_interrupt(0x202, state{1}, masking));
static_assert(can_take_external_interrupt(0x202, state{2}, masking));
static_assert(!can_take_external_interrupt(0x202, state{0}, vic{0x0300'0000}));
static_assert(can_take_external_interrupt(0x202, state{0}, vic{0x0300'0200}));

// NMI: the VMM's memory counts without NMI virtualization, the processor's with it.
static_assert(can_take_nmi(state{0}, masking, nmi_masking::unmasked));
static_assert(!can_take_nmi(state{0}, masking, nmi_masking::masked));
static_assert(!can_take_nmi(state{1}, masking, nmi_masking::unmasked));
static_assert(!can_take_nmi(state{0}, vic{0x0200'0000}, nmi_masking::unmasked)); // V_GIF is 0
static_assert(can_take_nmi(state{0}, vic{0x0400'0000}, nmi_masking::masked));
static_assert(!can_take_nmi(state{0}, vic{0x0400'1000}, nmi_masking::unmasked));
static_assert(can_take_nmi(state{0}, vic{0x0000'1000}, nmi_masking::unmasked)); // not enabled

} // namespace
