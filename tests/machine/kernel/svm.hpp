// SPDX-License-Identifier: BSL-1.0
//
// A small hypervisor in this kernel: one virtual processor with 2 MiB of memory, which pt's nested
// tables map page by page. QEMU is the processor, and says what pt's words must agree with.
//
// What the guest executes is small, and stands as bytes beside the check, with its assembly. What
// the guest under VMX (../bochs/vmx.hpp) does as well is in guest_tests.
//
//     kernel::guest machine;
//     machine.start(kernel::guest_mode::real);
//     machine.execute({0xFA, 0xF4}); // cli; hlt
//     kernel::check("it halts", machine.exits_with(exit_code::hlt));
//
// All that the guest's gates lead to is one VMMCALL for each vector: see handled().
//
// QEMU 7.2 has neither nRIP nor decode assists, nor V_NMI. What else it does not do as [amd] says
// stands beside the checks.
#pragma once

#include "../../../examples/kernel/svm.hpp"
#include "guest_memory.hpp"
#include "kernel.hpp"
#include "mapped_memory.hpp"

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/paging/x86_64.hpp"
#include "pt/svm/event.hpp"
#include "pt/svm/exit.hpp"
#include "pt/svm/interrupt_control.hpp"
#include "pt/svm/io_permission_map.hpp"
#include "pt/svm/msr_permission_map.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace kernel {

// ----------------------------------------------------------------------------------- the guest

/// invalidator: everything, at the next entry.
class next_entry_flush {
public:
    explicit next_entry_flush(pt::hpa vmcb) : vmcb_{vmcb} {}
    pt::result<> invalidate(const pt::paging::stale_set<pt::gpa>&) {
        pointer_to<vmcb>(vmcb_)->tlb_control = 1; // all of it, whatever ASID
        return {};
    }

private:
    pt::hpa vmcb_;
};

/// The one virtual processor and its memory. Only one exists at a time.
class guest : public mapped_memory<pt::x86_64::nested_paging, next_entry_flush> {
public:
    /// Why it exits, by names that the guest under VMX has as well.
    struct exits {
        static constexpr auto hypercall = pt::svm::exit_code::vmmcall;
        static constexpr auto hlt = pt::svm::exit_code::hlt;
        static constexpr auto cpuid = pt::svm::exit_code::cpuid;
        static constexpr auto io_instruction = pt::svm::exit_code::ioio;
        static constexpr auto missing_page = pt::svm::exit_code::nested_page_fault;
        static constexpr auto interrupt_window = pt::svm::exit_code::vintr;
        static constexpr pt::svm::exit_code exception(pt::vcpu::exception_vector vector) {
            return static_cast<pt::svm::exit_code>(
                static_cast<std::uint64_t>(pt::svm::exit_code::exception_0) +
                static_cast<std::uint64_t>(vector));
        }
    };
    /// The instruction that makes it exit, VMMCALL.
    static constexpr std::uint8_t hypercall[] = {0x0F, 0x01, 0xD9};

    /// Turns SVM on, and makes a VMCB and the nested tables.
    guest() : guest(take_frame()) {}
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    /// Turns SVM off. Every frame of the nested tables must come back.
    ~guest();

    /// A processor as it is before the first instruction in that mode, with all memory mapped and
    /// made anew, all ports and MSRs closed, and interrupts off.
    void start(guest_mode mode);

    /// Puts instructions to `code`, or elsewhere, and lets the guest go on there at its next entry.
    void execute(std::initializer_list<std::uint8_t> instructions, pt::gpa place = code);
    /// The same without instructions.
    void go_to(pt::gpa place) { words().rip = place.raw; }

    /// As the last exit left them, and for the next entry; RAX is here and not in words().
    registers general{};
    [[nodiscard]] vmcb& words() { return *pointer_to<vmcb>(vmcb_); }
    [[nodiscard]] const vmcb& words() const { return *pointer_to<const vmcb>(vmcb_); }

    [[nodiscard]] std::uint64_t rip() const { return words().rip; }
    [[nodiscard]] std::uint64_t rsp() const { return words().rsp; }
    [[nodiscard]] std::uint64_t rflags() const { return words().rflags; }
    [[nodiscard]] bool interrupt_flag() const;
    void set_interrupt_flag(bool on);
    [[nodiscard]] bool in_interrupt_shadow() const {
        return words().interrupt_state[pt::svm::guest_interrupt_state::interrupt_shadow];
    }

    /// How many bytes the instruction at RIP has, by pt's decoder.
    [[nodiscard]] std::uint8_t instruction_length() const;
    /// Over the instruction at RIP.
    void skip_instruction();

    void turn_on(intercept what) { kernel::turn_on(words(), what); }
    void turn_off(intercept what) { kernel::turn_off(words(), what); }
    void turn_on(pt::vcpu::exception_vector what) { kernel::turn_on(words(), what); }
    void turn_off(pt::vcpu::exception_vector what) { kernel::turn_off(words(), what); }
    [[nodiscard]] static bool has_next_rip() { return kernel::has_next_rip(); }

    /// Delivers that at the next entry, by pt's words.
    void deliver(const pt::vcpu::event& event);

    /// Enters the guest. True: it exited. False: VMRUN did not take the VMCB.
    bool enter();
    /// Enters, and is true if the guest exits with that code.
    bool exits_with(pt::svm::exit_code expected);
    /// Where an exit was not the one that is expected: what it was.
    void say_exit() const;

    [[nodiscard]] pt::svm::exit_code reason() const { return words().exit_code; }
    /// The event whose delivery the exit interrupted, by pt's words.
    [[nodiscard]] pt::vcpu::event interrupted() const {
        return pt::svm::interrupted_event(words().exit_interrupt);
    }
    /// Whether anything that the VMCB tells holds an event back.
    [[nodiscard]] bool is_blocked() const { return in_interrupt_shadow(); }
    /// Whether the next entry delivers an event.
    [[nodiscard]] bool will_deliver() const {
        return words().injection[pt::svm::event_injection::valid];
    }
    /// Whether there is such an event, one that pt does not deliver again included.
    [[nodiscard]] bool was_interrupted() const {
        return words().exit_interrupt[pt::svm::exit_interrupt_information::valid];
    }
    /// The exception that made it exit.
    [[nodiscard]] pt::vcpu::event exception() const {
        return pt::svm::exit_event(reason(), words().exit_info_1, 0);
    }
    /// The I/O instruction that made it exit, by pt's words.
    [[nodiscard]] pt::result<pt::vcpu::io_instruction> io_instruction() const;
    /// The address that a page is missing at.
    [[nodiscard]] pt::gpa missing_address() const { return pt::gpa{words().exit_info_2}; }

    /// After an exit: what has arrived, if it is the VMMCALL of a handler.
    [[nodiscard]] handled_event handled() const;
    /// Enters, and gives what arrives at a handler then.
    handled_event enter_for_event();
    /// Lets the handler end at the next entry, as IRET does; an error code is taken from the stack.
    void end_handler();

    [[nodiscard]] pt::vmx::io_bitmap ports() { return io_map_.ports(); }
    [[nodiscard]] pt::svm::msr_permission_map& msrs() { return msr_map_; }

private:
    explicit guest(pt::hpa vmcb_page);
    [[nodiscard]] pt::hpa io_pages() const { return maps_; }
    [[nodiscard]] pt::hpa msr_pages() const { return maps_ + 16 * pt::KiB; }
    void write_controls();
    void write_state();

    pt::hpa vmcb_;
    pt::hpa host_; ///< VMSAVE and VMLOAD
    pt::hpa maps_; ///< both permission maps want pages that lie together
    pt::svm::io_permission_map io_map_;
    pt::svm::msr_permission_map msr_map_;
};

} // namespace kernel
