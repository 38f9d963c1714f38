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

// ------------------------------------------------------------------------------------ the VMCS

/// Fields by their encodings [sdm, Field Encoding in VMCS].
enum class vmcs_field : std::uint32_t {
    guest_es_selector = 0x0800, // cs, ss, ds, fs, gs, ldtr and tr follow, 2 apart
    guest_interrupt_status = 0x0810,
    host_es_selector = 0x0C00, // cs, ss, ds, fs, gs and tr follow
    host_cs_selector = 0x0C02,
    host_ss_selector = 0x0C04,
    host_ds_selector = 0x0C06,
    host_tr_selector = 0x0C0C,
    io_bitmap_a = 0x2000,
    io_bitmap_b = 0x2002,
    msr_bitmap = 0x2004,
    virtual_apic_address = 0x2012,
    apic_access_address = 0x2014,
    ept_pointer = 0x201A,
    eoi_exit_bitmap_0 = 0x201C, // 1, 2 and 3 follow
    guest_physical_address = 0x2400,
    link_pointer = 0x2800,
    guest_efer = 0x2806,
    host_efer = 0x2C02,
    pin_based_controls = 0x4000,
    processor_based_controls = 0x4002,
    exception_bitmap = 0x4004,
    cr3_target_count = 0x400A,
    exit_controls = 0x400C,
    entry_controls = 0x4012,
    entry_interruption_information = 0x4016,
    entry_error_code = 0x4018,
    entry_instruction_length = 0x401A,
    tpr_threshold = 0x401C,
    secondary_controls = 0x401E,
    instruction_error = 0x4400,
    exit_reason = 0x4402,
    exit_interruption_information = 0x4404,
    exit_error_code = 0x4406,
    idt_vectoring_information = 0x4408,
    idt_vectoring_error_code = 0x440A,
    exit_instruction_length = 0x440C,
    exit_instruction_information = 0x440E,
    guest_es_limit = 0x4800, // cs, ss, ds, fs, gs, ldtr and tr follow
    guest_gdtr_limit = 0x4810,
    guest_idtr_limit = 0x4812,
    guest_es_access_rights = 0x4814, // cs, ss, ds, fs, gs, ldtr and tr follow
    guest_interruptibility = 0x4824,
    guest_activity = 0x4826,
    preemption_timer = 0x482E,
    exit_qualification = 0x6400,
    guest_linear_address = 0x640A,
    guest_cr0 = 0x6800,
    guest_cr3 = 0x6802,
    guest_cr4 = 0x6804,
    guest_es_base = 0x6806, // cs, ss, ds, fs, gs, ldtr and tr follow
    guest_gdtr_base = 0x6816,
    guest_idtr_base = 0x6818,
    guest_dr7 = 0x681A,
    guest_rsp = 0x681C,
    guest_rip = 0x681E,
    guest_rflags = 0x6820,
    guest_pending_debug_exceptions = 0x6822,
    host_cr0 = 0x6C00,
    host_cr3 = 0x6C02,
    host_cr4 = 0x6C04,
    host_gdtr_base = 0x6C0C,
    host_idtr_base = 0x6C0E,
    host_rip = 0x6C16,
};

/// Of the current VMCS. The run ends where there is no such field.
std::uint64_t vmread(vmcs_field field);
void vmwrite(vmcs_field field, std::uint64_t value);

/// EOI_EXIT0..3.
constexpr vmcs_field eoi_exit_bitmap_field(unsigned index) {
    return static_cast<vmcs_field>(static_cast<std::uint32_t>(vmcs_field::eoi_exit_bitmap_0) +
                                   2 * index);
}

// Controls that tests turn on and off [sdm, VM-Execution Control Fields].
enum class processor_based : std::uint32_t {
    interrupt_window_exiting = 1U << 2,
    hlt_exiting = 1U << 7,
    cr8_load_exiting = 1U << 19,
    cr8_store_exiting = 1U << 20,
    tpr_shadow = 1U << 21,
    nmi_window_exiting = 1U << 22,
    io_bitmaps = 1U << 25,
    msr_bitmaps = 1U << 28,
    secondary_controls = 1U << 31,
};
enum class secondary : std::uint32_t {
    virtualize_apic_accesses = 1U << 0,
    ept = 1U << 1,
    virtualize_x2apic_mode = 1U << 4,
    unrestricted_guest = 1U << 7,
    apic_register_virtualization = 1U << 8,
    virtual_interrupt_delivery = 1U << 9,
};

/// invalidator: INVEPT of all contexts, whatever is stale.
struct invept {
    pt::result<> invalidate(const pt::paging::stale_set<pt::gpa>&);
};

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
    void deliver(const pt::vcpu::event& event) { write(pt::vmx::entry_of(event)); }
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
    void write_host_state();
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
