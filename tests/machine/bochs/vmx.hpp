// SPDX-License-Identifier: BSL-1.0
//
// A small hypervisor in the kernel of ../kernel: one virtual processor with 2 MiB of memory, which
// pt's EPT maps page by page. Bochs is the processor, and says what pt's words must agree with.
//
// To add tests: as kernel.hpp tells, a file in subjects/ and a TEST_CASE in runner/vmx.cpp. What
// the guest executes is small, and stands as bytes beside the check, with its assembly.
//
//     kernel::guest machine;
//     machine.start(kernel::guest_mode::real);
//     machine.execute({0xFA, 0xF4}); // cli; hlt
//     kernel::check("it halts", machine.exits_with(exit_reason::hlt));
//
// All that the guest's gates lead to is one VMCALL for each vector: see handled().
#pragma once

#include "../kernel/kernel.hpp"

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/vcpu/event.hpp"
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

/// The general registers but RSP.
struct registers {
    std::uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi;
    std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
};

/// Real mode; 32-bit protected mode without paging; 64-bit mode with pages of 4 KiB, one to one.
enum class guest_mode : std::uint8_t { real, protected_32, long_64 };
inline constexpr guest_mode every_mode[] = {guest_mode::real, guest_mode::protected_32,
                                            guest_mode::long_64};
const char* name(guest_mode mode);

/// An event that has arrived at the guest's handler, as the handler finds it on its stack.
struct handled_event {
    bool any = false;
    std::uint8_t vector = 0;
    std::uint64_t return_address = 0;
    std::uint64_t rflags = 0;
    bool has_error_code = false;
    std::uint64_t error_code = 0;
};

/// The one virtual processor and its memory. Only one exists at a time.
class guest {
public:
    // Where things are in the guest's memory.
    static constexpr pt::gpa gates_real{0x0000};
    static constexpr pt::gpa descriptors{0x1000};
    static constexpr pt::gpa gates{0x2000};
    static constexpr pt::gpa page_tables{0x3000}; ///< levels 4, 3, 2 and 1
    static constexpr pt::gpa handlers{0x8000};    ///< 8 bytes for each vector
    static constexpr pt::gpa stack_page{0x9000};
    static constexpr pt::gpa stack{0x9F00}; ///< the stack pointer at the start
    static constexpr pt::gpa code{0xA000};
    static constexpr pt::gpa data{0xC000}; ///< this page and the next are the tests'
    static constexpr std::uint64_t memory_size = 2 * pt::MiB;

    /// Enters VMX operation, and makes a VMCS and the EPT.
    explicit guest(pt::ept::options options = {});
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    /// Leaves VMX operation. Every frame of the EPT must come back.
    ~guest();

    /// A processor as it is before the first instruction in that mode, with all memory mapped and
    /// made anew, all ports closed, and interrupts off.
    void start(guest_mode mode);
    [[nodiscard]] guest_mode mode() const { return mode_; }

    /// Puts instructions to `code`, or behind it, and lets the guest go on there at its next entry.
    void execute(std::initializer_list<std::uint8_t> instructions, pt::gpa place = code);
    /// The same without instructions.
    void go_to(pt::gpa place) { vmwrite(vmcs_field::guest_rip, place.raw); }

    registers general{};

    [[nodiscard]] std::uint64_t rip() const { return vmread(vmcs_field::guest_rip); }
    [[nodiscard]] std::uint64_t rsp() const { return vmread(vmcs_field::guest_rsp); }
    [[nodiscard]] std::uint64_t rflags() const { return vmread(vmcs_field::guest_rflags); }
    void set_interrupt_flag(bool on);
    [[nodiscard]] pt::vmx::interruptibility_state blocking() const;
    void set_blocking(pt::vmx::interruptibility_state blocking);
    [[nodiscard]] pt::vmx::activity_state activity() const;
    /// Over the instruction that exited.
    void skip_instruction();

    void turn_on(processor_based control) { set(control, true); }
    void turn_off(processor_based control) { set(control, false); }
    void turn_on(secondary control) { set(control, true); }
    void turn_off(secondary control) { set(control, false); }
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

    /// Enters the guest. True: it exited. False: entry failed, by an instruction error or by the
    /// reason's `entry_failure`. A guest that does not exit by itself ends the run.
    bool enter();
    /// The VM-instruction error of the last entry; 0 if the instruction succeeded.
    [[nodiscard]] std::uint64_t instruction_error() const { return instruction_error_; }
    /// Enters, and is true if that reason made the guest exit.
    bool exits_with(pt::vmx::exit_reason expected);

    [[nodiscard]] pt::vmx::exit_reason_word reason() const;
    [[nodiscard]] std::uint64_t qualification() const;
    [[nodiscard]] pt::vmx::idt_vectoring_information idt_vectoring() const;
    /// The event whose delivery the exit interrupted, by pt's words.
    [[nodiscard]] pt::vcpu::event interrupted() const;

    /// After an exit: what has arrived, if it is the VMCALL of a handler.
    [[nodiscard]] handled_event handled() const;
    /// Enters, and gives what arrives at a handler then.
    handled_event enter_for_event();
    /// Lets the handler end at the next entry, as IRET does; an error code is taken from the stack.
    void end_handler();

    /// Memory at a guest-physical address.
    template <class T>
    [[nodiscard]] T* at(pt::gpa place) {
        return pointer_to<T>(memory_ + place.raw);
    }
    template <class T>
    [[nodiscard]] const T* at(pt::gpa place) const {
        return pointer_to<const T>(memory_ + place.raw);
    }
    [[nodiscard]] pt::hpa host_address(pt::gpa place) const { return memory_ + place.raw; }

    using tables = pt::paging::table<pt::ept::format, memory_policy>;
    [[nodiscard]] tables& ept() { return ept_; }
    [[nodiscard]] const pt::ept::format& format() const { return ept_.format(); }
    /// Change what the guest may do with the page there.
    void protect(pt::gpa page, pt::ept::attributes rights);
    void unmap(pt::gpa page);
    /// Back to its memory, with all rights.
    void map(pt::gpa page);
    /// Writes the entry for that page, past pt, and removes what the processor caches.
    void write_entry(pt::gpa page, std::uint64_t entry, unsigned level = 1);
    [[nodiscard]] std::uint64_t entry(pt::gpa page, unsigned level = 1);

    pt::vmx::io_bitmap& ports() { return ports_; }

private:
    void set(processor_based control, bool on);
    void set(secondary control, bool on);
    void write_host_state();
    void write_memory();
    void write_guest_state();

    std::uint64_t* entry_place(pt::gpa page, unsigned level);

    std::uint64_t frames_before_;
    tables ept_;
    pt::hpa memory_;
    pt::hpa vmxon_region_;
    pt::hpa vmcs_region_;
    pt::hpa bitmap_a_;
    pt::hpa bitmap_b_;
    pt::vmx::io_bitmap ports_;
    guest_mode mode_ = guest_mode::real;
    bool launched_ = false;
    std::uint64_t instruction_error_ = 0;
};

} // namespace kernel
