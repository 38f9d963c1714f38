// SPDX-License-Identifier: BSL-1.0
//
// From an interrupt of the real local APIC to the guest's handler and its end: by pt's routes, bus,
// local APIC and injector, with the guest's own EOI.
#include "../guest_tests/host.hpp"
#include "../guest_tests/instructions.hpp"
#include "../svm_interrupts.hpp"

#include "../../../../examples/kernel/interrupts.hpp"

#include "pt/lapic/bus.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/svm/nested_page_fault.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_completion.hpp"

namespace {

using guest_tests::hlt;
using guest_tests::host_apic;
using guest_tests::initial_count;
using guest_tests::interrupt_host;
using guest_tests::lvt_timer;
using guest_tests::nop;
using guest_tests::only_vcpu;
using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::virtual_interrupts;
using pt::gpa;
using pt::svm::exit_code;

// ------------------------------------------------------------------------- the machine around it

using bus_type = pt::lapic::bus<only_vcpu>;
using routes_type = pt::lapic::host_vector_routes;
routes_type* current_routes = nullptr; // for the host's interrupt handler
bus_type* current_bus = nullptr;
unsigned delivered = 0;

/// The host's handler of a vector that is a guest's.
template <std::uint8_t Vector>
void give_to_guest() {
    if (const auto sent = current_routes->find(Vector)) {
        delivered += current_bus->deliver(*sent).reached;
    }
}

/// An edge-triggered MSI to the guest's local APIC 0, as the guest programs its device.
pt::lapic::message msi(std::uint8_t vector) {
    return *pt::lapic::message_of_msi(0xFEE0'0000, vector);
}

class machine_of_guest {
public:
    explicit machine_of_guest(guest& machine) : machine_{machine}, interrupts_{machine} {
        current_routes = &routes_;
        current_bus = &bus_;
        delivered = 0;
        kernel::forget_interrupts();
        kernel::call_at(0x41, give_to_guest<0x41>);
        kernel::call_at(0x52, give_to_guest<0x52>);
        kernel::call_at(0x33, give_to_guest<0x33>);
    }
    machine_of_guest(const machine_of_guest&) = delete;
    machine_of_guest& operator=(const machine_of_guest&) = delete;
    ~machine_of_guest() {
        kernel::call_at(0x41, nullptr);
        kernel::call_at(0x52, nullptr);
        kernel::call_at(0x33, nullptr);
    }

    [[nodiscard]] virtual_interrupts& interrupts() { return interrupts_; }
    [[nodiscard]] routes_type& routes() { return routes_; }
    unsigned physical_exits = 0;
    unsigned apic_exits = 0;

    /// The exit loop, up to an exit that is not one of the machine's own.
    exit_code run() {
        for (;;) {
            interrupts_.decide();
            if (!interrupts_.enter() || !handle_exit()) {
                return machine_.reason();
            }
        }
    }
    /// The same, up to a handler of the guest.
    handled_event run_to_handler() {
        if (run() == exit_code::vmmcall) {
            return machine_.handled();
        }
        machine_.say_exit();
        return {};
    }

private:
    bool handle_exit() {
        switch (machine_.reason()) {
        case exit_code::intr:
            ++physical_exits;
            asm volatile("sti; nop; cli" : : : "memory"); // all that wait, the highest first
            return true;
        case exit_code::vintr: return true;
        case exit_code::nested_page_fault: ++apic_exits; return access_page();
        case exit_code::msr: ++apic_exits; return access_msr();
        default: break;
        }
        const auto control = pt::svm::number_of(machine_.reason(), exit_code::cr0_write);
        if (control && *control == 8) {
            const bool taken = interrupts_.apic().set_cr8(machine_.general.rax).has_value();
            machine_.skip_instruction();
            return taken;
        }
        return false;
    }

    /// The guest's MOV to or from its xAPIC page. Of all forms, those that this guest has.
    bool access_page() {
        const auto what = pt::svm::violation_of(
            pt::svm::nested_page_fault_information{machine_.words().exit_info_1},
            gpa{machine_.words().exit_info_2});
        auto& apic = interrupts_.apic();
        if (what.address.align_down(4 * pt::KiB) != apic.base() || what.mapped ||
            !what.final_translation) {
            return false;
        }
        const auto offset = static_cast<std::uint32_t>(what.address - apic.base());
        const auto* const bytes = machine_.at<std::uint8_t>(gpa{machine_.rip()});
        switch (bytes[0]) {
        case 0xA1: // mov moffs, %eax
            if (!what.read || what.write) {
                return false;
            }
            machine_.general.rax = apic.read(offset, pt::mmio_width::dword);
            break;
        case 0xA3: // mov %eax, moffs
            if (!what.write) {
                return false;
            }
            perform(apic.write(offset, pt::mmio_width::dword, machine_.general.rax));
            break;
        case 0xC7: { // movl $immediate, displacement
            std::uint32_t value = 0;
            __builtin_memcpy(&value, bytes + 6, sizeof value);
            if (!what.write || bytes[1] != 0x05) {
                return false;
            }
            perform(apic.write(offset, pt::mmio_width::dword, value));
            break;
        }
        default: return false;
        }
        machine_.skip_instruction();
        return true;
    }

    bool access_msr() {
        auto& apic = interrupts_.apic();
        const auto number = static_cast<std::uint32_t>(machine_.general.rcx);
        if (!apic.handles_msr(number)) {
            return false;
        }
        const std::uint64_t low = machine_.general.rax & 0xFFFF'FFFF;
        if (machine_.words().exit_info_1 != 0) {
            const auto done = apic.write_msr(number, machine_.general.rdx << 32 | low);
            if (!done) {
                return general_protection();
            }
            perform(*done);
        } else {
            const auto value = apic.read_msr(number);
            if (!value) {
                return general_protection();
            }
            machine_.general.rax = *value & 0xFFFF'FFFF;
            machine_.general.rdx = *value >> 32;
        }
        machine_.skip_instruction();
        return true;
    }
    bool general_protection() {
        return interrupts_.injector()
            .raise(pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0))
            .has_value();
    }

    void perform(const pt::lapic::effect& effect) {
        if (effect.kind == pt::lapic::effect_kind::send) {
            bus_.deliver(0, effect.command);
        }
    }

    guest& machine_;
    virtual_interrupts interrupts_;
    routes_type routes_;
    bus_type bus_{only_vcpu{&interrupts_.inbox()}};
};

/// Routines of the guest that end its handlers: EOI, and back. The VMM of the tests sends the guest
/// there when a handler has told what arrived.
constexpr gpa end_with_eoi = guest::data;

void put_xapic_end(guest& machine) {
    // movl $0, 0xfee000b0; iret
    machine.put({0xC7, 0x05, 0xB0, 0x00, 0xE0, 0xFE, 0x00, 0x00, 0x00, 0x00, 0xCF}, end_with_eoi);
}
void put_x2apic_end(guest& machine) {
    // mov $0x80b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr; iretq
    machine.put({0xB9, 0x0B, 0x08, 0x00, 0x00, 0x31, 0xC0, 0x31, 0xD2, 0x0F, 0x30, 0x48, 0xCF},
                end_with_eoi);
}
/// Turns x2APIC mode on, and halts: mov $0x1b, %ecx; rdmsr; or $0xc00, %eax; wrmsr; hlt
void start_x2apic(guest& machine, machine_of_guest& around) {
    machine.execute(
        {0xB9, 0x1B, 0x00, 0x00, 0x00, 0x0F, 0x32, 0x0D, 0x00, 0x0C, 0x00, 0x00, 0x0F, 0x30, hlt});
    check("the guest turns x2APIC mode on",
          around.run() == exit_code::hlt &&
              around.interrupts().apic().current_mode() == pt::lapic::apic_mode::x2apic);
}

/// The next handler is that of `vector`; it ends with the guest's own EOI.
void check_next(const char* name, guest& machine, machine_of_guest& around, std::uint8_t vector,
                gpa returns_to) {
    const handled_event found = around.run_to_handler();
    const unsigned before = around.apic_exits;
    const bool in_service = around.interrupts().apic().registers().isr.contains(vector);
    machine.go_to(end_with_eoi);
    const bool holds =
        found.any && found.vector == vector && found.return_address == returns_to.raw && in_service;
    if (!check(name, holds)) {
        kernel::say("vector ", std::uint64_t{found.vector}, ", return address ",
                    found.return_address, ", physical exits ", std::uint64_t{around.physical_exits},
                    ", APIC exits ", std::uint64_t{before});
    }
}

void check_end(guest& machine, machine_of_guest& around, gpa place) {
    check("then the guest goes on", around.run() == exit_code::hlt && machine.rip() == place.raw);
    check("nothing is in service or pending",
          around.interrupts().apic().pending() == 0 &&
              around.interrupts().apic().registers().isr == pt::lapic::vector_set{});
}

// ----------------------------------------------------------------------------------- the subjects

void bind_all(machine_of_guest& around) {
    check("vectors are bound", around.routes().bind(0x41, msi(0x71)).has_value() &&
                                   around.routes().bind(0x52, msi(0x55)).has_value() &&
                                   around.routes().bind(0x33, msi(0x93)).has_value());
}

/// Three at once: the host takes them in the order of its vectors, the guest in that of its own.
void in_order(guest& machine, machine_of_guest& around) {
    bind_all(around);
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(true);
    interrupt_host(0x41);
    interrupt_host(0x52);
    interrupt_host(0x33);
    check_next("the highest arrives first", machine, around, 0x93, guest::code);
    check_equal("one exit was enough for all", around.physical_exits, 1);
    check_equal("each vector of the host came", kernel::taken_in_all(), 3);
    check_equal("each reached the guest", delivered, 3);
    // The others wait for the window that the guest's IRET opens; there, and not before its EOI.
    check_next("then the next", machine, around, 0x71, guest::code);
    check_next("then the last", machine, around, 0x55, guest::code);
    check_end(machine, around, guest::code + 2);
    check_equal("the guest has ended each", around.apic_exits, 3);
}

/// While a handler runs: a higher one interrupts it, as soon as it lets interrupts in; a lower one
/// waits for its EOI.
void nested(guest& machine, machine_of_guest& around) {
    bind_all(around);
    machine.execute({nop, hlt});
    machine.set_interrupt_flag(true);
    interrupt_host(0x41);
    const handled_event first = around.run_to_handler();
    check("the first arrives", first.any && first.vector == 0x71);
    // The handler goes on: sti; nop; nop; then its end.
    const gpa handler = guest::data + 0x100;
    machine.execute({0xFB, nop, nop, hlt}, handler);
    interrupt_host(0x52);
    interrupt_host(0x33);
    check_next("the higher one comes into its handler", machine, around, 0x93, handler + 2);
    check("the lower one does not",
          around.run() == exit_code::hlt && machine.rip() == handler.raw + 3);
    check("but waits", around.interrupts().apic().registers().irr.contains(0x55));
    machine.set_interrupt_flag(false);
    machine.go_to(end_with_eoi);
    check_next("and comes behind it", machine, around, 0x55, guest::code);
    check_end(machine, around, guest::code + 1);
}

/// An interrupt in the middle of the guest's own work, in which nothing else exits.
void in_a_loop(guest& machine, machine_of_guest& around) {
    bind_all(around);
    machine.execute({nop, 0xEB, 0xFD}); // 1: nop; jmp 1b
    machine.set_interrupt_flag(true);
    kernel::mmio apic = host_apic();
    const std::uint32_t before = apic.read32(lvt_timer);
    apic.write32(lvt_timer, 0x41); // one-shot
    apic.write32(initial_count, 50'000);
    const handled_event found = around.run_to_handler();
    apic.write32(lvt_timer, before);
    check("the loop is interrupted", found.any && found.vector == 0x71 &&
                                         (found.return_address == guest::code.raw ||
                                          found.return_address == guest::code.raw + 1));
    check_equal("once", around.physical_exits, 1);
    machine.put({hlt}, guest::code);
    machine.put({hlt}, guest::code + 1);
    machine.go_to(end_with_eoi);
    check("it returns into it",
          around.run() == exit_code::hlt && machine.rip() == found.return_address);
}

/// A guest that halts: the VMM waits in its place.
void while_halted(guest& machine, machine_of_guest& around) {
    bind_all(around);
    machine.execute({hlt, nop, hlt});
    machine.set_interrupt_flag(true);
    check("the guest halts", around.run() == exit_code::hlt);
    auto& injector = around.interrupts().injector();
    machine.skip_instruction();
    check("nothing would wake it", !injector.wakes());
    interrupt_host(0x52);
    check("an interrupt of the host comes", kernel::arrives(0x52));
    check("and does", injector.wakes());
    check_next("it arrives behind HLT", machine, around, 0x55, guest::code + 1);
    check_end(machine, around, guest::code + 2);
}

/// What is not the guest's stays the host's.
void unbound(guest& machine, machine_of_guest& around) {
    bind_all(around);
    check("one is unbound", around.routes().unbind(0x41).has_value());
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(true);
    interrupt_host(0x41);
    interrupt_host(0x44);
    check("nothing of it reaches the guest", around.run() == exit_code::hlt);
    check("the host has had both", kernel::taken(0x41) == 1 && kernel::taken(0x44) == 1);
    check_equal("none was delivered", delivered, 0);
}

struct test {
    const char* name;
    void (*run)(guest&, machine_of_guest&);
};
constexpr test tests[] = {{"three at once", in_order},
                          {"in a handler", nested},
                          {"in a loop", in_a_loop},
                          {"while it halts", while_halted},
                          {"what is not bound", unbound}};

void by_xapic() {
    guest machine;
    for (const test& each : tests) {
        kernel::begin_part(each.name);
        machine_of_guest around{machine};
        machine.start(guest_mode::protected_32);
        put_xapic_end(machine);
        each.run(machine, around);
    }
    kernel::begin_part(nullptr);
}

void by_x2apic() {
    guest machine;
    for (const test& each : tests) {
        kernel::begin_part(each.name);
        machine_of_guest around{machine};
        machine.start(guest_mode::long_64);
        put_x2apic_end(machine);
        start_x2apic(machine, around);
        around.apic_exits = 0;
        each.run(machine, around);
    }
    kernel::begin_part(nullptr);
}

// --------------------------------------------------------------------------- registers of its own

/// The guest's TPR, by CR8 and by its page, holds interrupts back.
void task_priority() {
    guest machine;
    kernel::begin_part("by CR8");
    {
        machine_of_guest around{machine};
        machine.start(guest_mode::long_64);
        machine.words().cr_write_intercepts = 1U << 8;
        put_x2apic_end(machine);
        start_x2apic(machine, around);
        bind_all(around);
        interrupt_host(0x41); // is 0x71
        machine.general.rax = 7;
        // mov %rax, %cr8; sti; nop; nop; hlt
        machine.execute({0x44, 0x0F, 0x22, 0xC0, 0xFB, nop, nop, hlt});
        machine.set_interrupt_flag(false);
        check("a class that TPR has waits",
              around.run() == exit_code::hlt && machine.rip() == guest::code.raw + 7);
        check_equal("MOV CR8 is seen in TPR", around.interrupts().apic().registers().tpr.raw, 0x70);
        check("and for no window", !around.interrupts().decided().interrupt_window);
        machine.general.rax = 6;
        machine.execute({0x44, 0x0F, 0x22, 0xC0, nop, hlt});
        check_next("a lower TPR lets it in", machine, around, 0x71, guest::code + 4);
        check_end(machine, around, guest::code + 5);
    }
    kernel::begin_part("by the page");
    {
        machine_of_guest around{machine};
        machine.start(guest_mode::protected_32);
        put_xapic_end(machine);
        bind_all(around);
        interrupt_host(0x41);
        interrupt_host(0x33); // is 0x93
        // movl $0x80, 0xfee00080; sti; nop; nop; mov 0xfee00080, %eax; hlt
        machine.execute({0xC7, 0x05, 0x80, 0x00, 0xE0, 0xFE, 0x80, 0x00, 0x00, 0x00, 0xFB, nop, nop,
                         0xA1, 0x80, 0x00, 0xE0, 0xFE, hlt});
        machine.set_interrupt_flag(false);
        check_next("what is above TPR arrives", machine, around, 0x93, guest::code + 12);
        check("what is not waits",
              around.run() == exit_code::hlt && machine.rip() == guest::code.raw + 18);
        check_equal("the guest reads TPR", machine.general.rax, 0x80);
        // movl $0, 0xfee00080; nop; hlt
        machine.execute({0xC7, 0x05, 0x80, 0x00, 0xE0, 0xFE, 0x00, 0x00, 0x00, 0x00, nop, hlt});
        check_next("until TPR is lower", machine, around, 0x71, guest::code + 10);
        check_end(machine, around, guest::code + 11);
    }
    kernel::begin_part(nullptr);
}

/// An IPI of the guest to itself goes the way of every message; what an MSR does not allow is #GP.
void own_messages() {
    guest machine;
    kernel::begin_part("by the page");
    {
        machine_of_guest around{machine};
        machine.start(guest_mode::protected_32);
        put_xapic_end(machine);
        // mov $0x40066, %eax; mov %eax, 0xfee00300; nop; hlt: fixed, to itself
        machine.execute({0xB8, 0x66, 0x00, 0x04, 0x00, 0xA3, 0x00, 0x03, 0xE0, 0xFE, nop, hlt});
        machine.set_interrupt_flag(true);
        check_next("an IPI to itself arrives", machine, around, 0x66, guest::code + 10);
        check_end(machine, around, guest::code + 11);
        check_equal("the host has nothing of it", around.physical_exits, 0);
    }
    kernel::begin_part("by MSR");
    {
        machine_of_guest around{machine};
        machine.start(guest_mode::long_64);
        put_x2apic_end(machine);
        start_x2apic(machine, around);
        // mov $0x83f, %ecx; mov $0x66, %eax; xor %edx, %edx; wrmsr; nop; hlt: SELF IPI
        machine.execute({0xB9, 0x3F, 0x08, 0x00, 0x00, 0xB8, 0x66, 0x00, 0x00, 0x00, 0x31, 0xD2,
                         0x0F, 0x30, nop, hlt});
        machine.set_interrupt_flag(true);
        check_next("an IPI to itself arrives", machine, around, 0x66, guest::code + 14);
        check_end(machine, around, guest::code + 15);

        // mov $0x80b, %ecx; mov $1, %eax; xor %edx, %edx; wrmsr: EOI takes 0 only
        machine.execute({0xB9, 0x0B, 0x08, 0x00, 0x00, 0xB8, 0x01, 0x00, 0x00, 0x00, 0x31, 0xD2,
                         0x0F, 0x30, hlt});
        const handled_event fault = around.run_to_handler();
        check("a reserved bit is #GP(0)", fault.any && fault.vector == 13 && fault.has_error_code &&
                                              fault.error_code == 0 &&
                                              fault.return_address == guest::code.raw + 12);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_xapic_interrupts",
                                                                         by_xapic};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_x2apic_interrupts",
                                                                          by_x2apic};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"svm_task_priority",
                                                                         task_priority};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject fourth{"svm_own_messages",
                                                                          own_messages};

} // namespace
