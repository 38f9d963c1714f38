// SPDX-License-Identifier: BSL-1.0
//
// A small hypervisor in the kernel of ../kernel: one virtual processor with 2 MiB of memory, which
// pt's EPT maps page by page. Bochs is the processor, and says what pt's words must agree with.
//
// To add tests: as kernel.hpp tells, a file in subjects/ and a TEST_CASE in runner/vmx.cpp. What
// the guest executes is small, and stands as bytes beside the check, with its assembly. What the
// guest under SVM (../kernel/svm.hpp) does as well is in ../kernel/guest_tests.
//
//     kernel::guest machine;
//     machine.start(kernel::guest_mode::real);
//     machine.execute({0xFA, 0xF4}); // cli; hlt
//     kernel::check("it halts", machine.exits_with(exit_reason::hlt));
//
// All that the guest's gates lead to is one VMCALL for each vector: see handled().
#pragma once

#include "../../../examples/kernel/vmx.hpp"
#include "../kernel/guest_memory.hpp"
#include "../kernel/kernel.hpp"
#include "../kernel/mapped_memory.hpp"

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vmx/exit.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace kernel {

// ----------------------------------------------------------------------------------- the guest

/// The one virtual processor and its memory. Only one exists at a time.
class guest : public mapped_memory<pt::ept::format, invept> {
public:
    /// Why it exits, by names that the guest under SVM has as well.
    struct exits {
        static constexpr auto hypercall = pt::vmx::exit_reason::vmcall;
        static constexpr auto hlt = pt::vmx::exit_reason::hlt;
        static constexpr auto cpuid = pt::vmx::exit_reason::cpuid;
        static constexpr auto io_instruction = pt::vmx::exit_reason::io_instruction;
        static constexpr auto missing_page = pt::vmx::exit_reason::ept_violation;
        static constexpr auto interrupt_window = pt::vmx::exit_reason::interrupt_window;
        static constexpr pt::vmx::exit_reason exception(pt::vcpu::exception_vector) {
            return pt::vmx::exit_reason::exception_or_nmi;
        }
    };
    /// The instruction that makes it exit, VMCALL.
    static constexpr std::uint8_t hypercall[] = {0x0F, 0x01, 0xC1};

    /// Enters VMX operation, and makes a VMCS and the EPT.
    explicit guest(pt::ept::options options = {});
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    /// Leaves VMX operation. Every frame of the EPT must come back.
    ~guest();

    /// A processor as it is before the first instruction in that mode, with all memory mapped and
    /// made anew, all ports closed, and interrupts off.
    void start(guest_mode mode);

    /// Puts instructions to `code`, or elsewhere, and lets the guest go on there at its next entry.
    void execute(std::initializer_list<std::uint8_t> instructions, pt::gpa place = code);
    /// The same without instructions.
    void go_to(pt::gpa place) { vmwrite(vmcs_field::guest_rip, place.raw); }

    registers general{};

    [[nodiscard]] std::uint64_t rip() const { return vmread(vmcs_field::guest_rip); }
    [[nodiscard]] std::uint64_t rsp() const { return vmread(vmcs_field::guest_rsp); }
    [[nodiscard]] std::uint64_t rflags() const { return vmread(vmcs_field::guest_rflags); }
    [[nodiscard]] bool interrupt_flag() const;
    void set_interrupt_flag(bool on);
    [[nodiscard]] pt::vmx::interruptibility_state blocking() const;
    void set_blocking(pt::vmx::interruptibility_state blocking);
    [[nodiscard]] pt::vmx::activity_state activity() const;
    /// Of the instruction that exited, in bytes.
    [[nodiscard]] std::uint8_t instruction_length() const {
        return static_cast<std::uint8_t>(vmread(vmcs_field::exit_instruction_length));
    }
    /// Over the instruction that exited.
    void skip_instruction();

    void turn_on(processor_based control) { set(control, true); }
    void turn_off(processor_based control) { set(control, false); }
    void turn_on(secondary control) { set(control, true); }
    void turn_off(secondary control) { set(control, false); }
    void turn_on(pt::vcpu::exception_vector what) {
        vmwrite(vmcs_field::exception_bitmap,
                vmread(vmcs_field::exception_bitmap) | 1U << static_cast<unsigned>(what));
    }
    /// Whether this processor has it.
    [[nodiscard]] static bool has(secondary control);
    [[nodiscard]] static bool has_monitor_trap_flag();
    [[nodiscard]] static pt::ept::capabilities capabilities();
    /// IA32_VMX_BASIC bit 56 and IA32_VMX_MISC bit 30.
    [[nodiscard]] static bool takes_any_error_code();
    [[nodiscard]] static bool takes_zero_instruction_length();

    /// Delivers that at the next entry, by pt's words.
    void deliver(const pt::vcpu::event& event) {
        write(pt::vmx::entry_of(event, pt::vcpu::mode_of(vmread(vmcs_field::guest_cr0))));
    }
    void write(const pt::vmx::entry_words& words);

    /// The next entry, and no other, ends after so many ticks of the VMX-preemption timer.
    void exit_after(std::uint64_t ticks) { preemption_ticks_ = ticks; }
    /// IA32_VMX_MISC bits 4:0: that timer counts when this bit of the time-stamp counter changes.
    [[nodiscard]] static unsigned preemption_timer_bit();

    /// Enters the guest. True: it exited. False: entry failed, by an instruction error or by the
    /// reason's `entry_failure`. A guest that does not exit by itself ends the run.
    bool enter();
    /// The VM-instruction error of the last entry; 0 if the instruction succeeded.
    [[nodiscard]] std::uint64_t instruction_error() const { return instruction_error_; }
    /// Enters, and is true if that reason made the guest exit.
    bool exits_with(pt::vmx::exit_reason expected);

    /// Where an exit was not the one that is expected: what it was.
    void say_exit() const;

    [[nodiscard]] pt::vmx::exit_reason_word reason_word() const;
    [[nodiscard]] pt::vmx::exit_reason reason() const {
        return reason_word()[pt::vmx::exit_reason_word::basic];
    }
    [[nodiscard]] std::uint64_t qualification() const;
    [[nodiscard]] pt::vmx::idt_vectoring_information idt_vectoring() const;
    /// The event whose delivery the exit interrupted, by pt's words.
    [[nodiscard]] pt::vcpu::event interrupted() const;
    /// Whether anything holds an event back.
    [[nodiscard]] bool is_blocked() const { return blocking().raw != 0; }
    /// Whether the next entry delivers an event.
    [[nodiscard]] bool will_deliver() const {
        return vmread(vmcs_field::entry_interruption_information) >> 31 != 0;
    }
    /// Whether there is such an event.
    [[nodiscard]] bool was_interrupted() const {
        return idt_vectoring()[pt::vmx::idt_vectoring_information::valid];
    }
    /// The exception that made it exit.
    [[nodiscard]] pt::vcpu::event exception() const;
    /// The I/O instruction that made it exit, by pt's words.
    [[nodiscard]] pt::result<pt::vcpu::io_instruction> io_instruction() const;
    /// The address that a page is missing at.
    [[nodiscard]] pt::gpa missing_address() const {
        return pt::gpa{vmread(vmcs_field::guest_physical_address)};
    }

    /// After an exit: what has arrived, if it is the VMCALL of a handler.
    [[nodiscard]] handled_event handled() const;
    /// Enters, and gives what arrives at a handler then.
    handled_event enter_for_event();
    /// Lets the handler end at the next entry, as IRET does; an error code is taken from the stack.
    void end_handler();

    pt::vmx::io_bitmap& ports() { return ports_; }

private:
    void set(processor_based control, bool on);
    void set(secondary control, bool on);
    void write_controls();
    void write_guest_state();

    pt::hpa vmxon_region_;
    pt::hpa vmcs_region_;
    pt::hpa bitmap_a_;
    pt::hpa bitmap_b_;
    pt::vmx::io_bitmap ports_;
    bool launched_ = false;
    static constexpr std::uint64_t long_enough = 100'000'000; // about two seconds of the machine's
    std::uint64_t preemption_ticks_ = long_enough;
    std::uint64_t instruction_error_ = 0;
};

} // namespace kernel
