// SPDX-License-Identifier: BSL-1.0
//
// INTx of real devices, level-triggered, on their way through the real I/O APIC and pt's
// level_route to a guest that serves its device by itself: once for each end of interrupt, until
// the device is served.
//
// QEMU 7.2's lines take no time: where the host unmasks one that is asserted, its interrupt is
// there before the guest's next instruction. On hardware the guest may get some instructions
// further.
#include "../guest_tests/host.hpp"
#include "../guest_tests/instructions.hpp"
#include "../svm_interrupts.hpp"

#include "../../../../examples/kernel/interrupts.hpp"
#include "../../../../examples/kernel/io_apic.hpp"
#include "../edu.hpp"
#include "../nic.hpp"

#include "pt/lapic/bus.hpp"
#include "pt/lapic/level_route.hpp"
#include "pt/pci/bar.hpp"
#include "pt/svm/nested_page_fault.hpp"

namespace {

using guest_tests::hlt;
using guest_tests::nop;
using guest_tests::only_vcpu;
using kernel::check;
using kernel::check_equal;
using kernel::edu;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::io_apic;
using kernel::nic;
using kernel::virtual_interrupts;
using pt::gpa;
using pt::svm::exit_code;

/// The guest's line, by the vector that it has programmed; and another one, an edge, of a higher
/// class.
constexpr std::uint8_t line_vector = 0x71;
constexpr std::uint8_t edge_vector = 0x93;

/// The guest's EOI register, in a page that is not mapped.
constexpr std::uint32_t end_of_interrupt = 0xFEE0'00B0;

// ------------------------------------------------------------------------------------- the host's
// side

/// The devices' lines, by the numbers that their route knows them by.
enum line : std::uint32_t { of_edu = 0, of_nic = 1 };
constexpr std::uint8_t host_vectors[] = {0x41, 0x52};

/// The inputs of the I/O APIC that the lines end at.
unsigned inputs[2];

std::uint64_t redirection(std::uint8_t vector) {
    constexpr std::uint64_t level_active_low = 1U << 15 | 1U << 13;
    return std::uint64_t{kernel::apic_id()} << 56 | level_active_low | vector;
}

/// Finds the input that a device's line ends at. `request` raises the line, `acknowledge` lowers
/// it.
bool find_input(line of, void (*request)(), void (*acknowledge)()) {
    io_apic device;
    constexpr std::uint8_t first = 0x60;
    unsigned found = 0;
    for (unsigned input = io_apic::first_pci_input; input <= io_apic::last_pci_input; ++input) {
        const auto vector = static_cast<std::uint8_t>(first + input);
        kernel::forget_interrupts();
        kernel::call_at(vector, acknowledge);
        device.set_entry(input, redirection(vector));
        request();
        kernel::pause_for(1'000'000);
        if (kernel::taken(vector) != 0) {
            inputs[of] = input;
            ++found;
        }
        acknowledge();
        device.mask(input);
        kernel::call_at(vector, nullptr);
    }
    return found == 1;
}

edu* the_edu = nullptr;
nic* the_nic = nullptr;
void request_of_edu() { the_edu->request_interrupt(); }
void serve_edu() { the_edu->acknowledge_interrupts(); }
void request_of_nic() { the_nic->request_interrupt(); }
void serve_nic() { the_nic->acknowledge_interrupts(); }

/// host_lines: the inputs of the I/O APIC.
struct host_inputs {
    void mask(std::uint32_t n) { io_apic{}.hold(inputs[n]); }
    void unmask(std::uint32_t n) { io_apic{}.let_go(inputs[n]); }
};

using bus_type = pt::lapic::bus<only_vcpu>;

/// guest_line: a pin of the guest's I/O APIC, which is programmed for line_vector, level-triggered.
struct guest_pin {
    bus_type* bus;
    pt::lapic::wire_level* level;
    unsigned* messages;

    void set(pt::lapic::wire_level now) {
        *level = now;
        if (now == pt::lapic::wire_level::asserted) {
            *messages +=
                bus->deliver({.vector = line_vector, .trigger = pt::lapic::trigger_mode::level})
                    .reached;
        }
    }
};

using route_type = pt::lapic::level_route<host_inputs, guest_pin>;
static_assert(pt::lapic::host_lines<host_inputs> && pt::lapic::guest_line<guest_pin>);

route_type* current_route = nullptr; // for the host's interrupt handler
template <line Of>
void take_line() {
    current_route->host_interrupt(Of);
}

// ----------------------------------------------------------------------------------- the exit loop

class machine_of_guest {
public:
    explicit machine_of_guest(guest& machine) : machine_{machine}, interrupts_{machine} {
        machine.start(guest_mode::protected_32);
        kernel::forget_interrupts();
        current_route = &route_;
        kernel::call_at(host_vectors[of_edu], take_line<of_edu>);
        kernel::call_at(host_vectors[of_nic], take_line<of_nic>);
        for (const line each : {of_edu, of_nic}) {
            io_apic device;
            device.set_entry(inputs[each], redirection(host_vectors[each]) | 1U << 16);
        }
    }
    machine_of_guest(const machine_of_guest&) = delete;
    machine_of_guest& operator=(const machine_of_guest&) = delete;
    ~machine_of_guest() {
        io_apic device;
        for (const line each : {of_edu, of_nic}) {
            device.mask(inputs[each]);
            kernel::call_at(host_vectors[each], nullptr);
        }
        serve_edu();
        serve_nic();
    }

    [[nodiscard]] virtual_interrupts& interrupts() { return interrupts_; }
    [[nodiscard]] const pt::lapic::register_page& page() { return interrupts_.apic().registers(); }
    [[nodiscard]] route_type& route() { return route_; }
    [[nodiscard]] bool is_asserted() const { return pin_ == pt::lapic::wire_level::asserted; }

    /// How often what happened.
    unsigned messages = 0;   ///< to the guest's local APIC
    unsigned ends = 0;       ///< of the line, by the guest
    unsigned other_ends = 0; ///< by the guest, and not broadcast
    [[nodiscard]] static std::uint32_t interrupts_of(line n) {
        return kernel::taken(host_vectors[n]);
    }

    /// Up to an exit that is not one of the machine's own.
    exit_code run() {
        for (;;) {
            interrupts_.decide();
            if (!interrupts_.enter() || !handle_exit()) {
                return machine_.reason();
            }
        }
    }
    /// The same, up to a handler of the guest. Its end is where the test sends the guest.
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
        case exit_code::intr: asm volatile("sti; nop; cli" : : : "memory"); return true;
        case exit_code::vintr: return true;
        case exit_code::nested_page_fault: return write_apic();
        default: return false;
        }
    }

    /// movl $immediate, displacement
    bool write_apic() {
        const auto what = pt::svm::violation_of(
            pt::svm::nested_page_fault_information{machine_.words().exit_info_1},
            gpa{machine_.words().exit_info_2});
        const auto* const bytes = machine_.at<std::uint8_t>(gpa{machine_.rip()});
        if (what.address.raw != end_of_interrupt || !what.write || bytes[0] != 0xC7 ||
            bytes[1] != 0x05) {
            return false;
        }
        machine_.skip_instruction();
        const auto offset = static_cast<std::uint32_t>(what.address - interrupts_.apic().base());
        const auto effect = interrupts_.apic().write(offset, pt::mmio_width::dword, 0);
        if (effect.kind == pt::lapic::effect_kind::end_of_interrupt) {
            if (effect.ended.broadcast && effect.ended.vector == line_vector) {
                ++ends;
                route_.end_of_interrupt();
            } else {
                other_ends += effect.ended.broadcast ? 0 : 1;
            }
        }
        return true;
    }

    guest& machine_;
    virtual_interrupts interrupts_;
    bus_type bus_{only_vcpu{&interrupts_.inbox()}};
    pt::lapic::wire_level pin_ = pt::lapic::wire_level::deasserted;
    route_type route_{host_inputs{}, guest_pin{&bus_, &pin_, &messages}};
};

// ----------------------------------------------------------------------------------- the guest's
// code

/// Ends of its handlers.
constexpr gpa end_unserved = guest::data;
constexpr gpa end_served = guest::data + 0x100;
constexpr gpa end_and_serve = guest::data + 0x200;

/// movl $value, address
void put_store(guest& machine, gpa place, std::uint32_t address, std::uint32_t value) {
    machine.put({0xC7, 0x05}, place);
    __builtin_memcpy(machine.at<void>(place + 2), &address, sizeof address);
    __builtin_memcpy(machine.at<void>(place + 6), &value, sizeof value);
}
constexpr std::uint64_t store_size = 10;

/// `registers`: edu's, which the guest sees where the host has them.
void put_ends(guest& machine, gpa registers) {
    constexpr std::uint8_t iret = 0xCF;
    const auto acknowledge = static_cast<std::uint32_t>(registers.raw + 0x64);
    put_store(machine, end_unserved, end_of_interrupt, 0);
    machine.put({iret}, end_unserved + store_size);
    put_store(machine, end_served, acknowledge, 1);
    put_store(machine, end_served + store_size, end_of_interrupt, 0);
    machine.put({iret}, end_served + 2 * store_size);
    put_store(machine, end_and_serve, end_of_interrupt, 0);
    put_store(machine, end_and_serve + store_size, acknowledge, 1);
    machine.put({iret}, end_and_serve + 2 * store_size);
}

/// A guest whose code is two NOPs and HLT, with interrupts on, and whose edu's line is open.
void begin(guest& machine, machine_of_guest& around, gpa registers) {
    put_ends(machine, registers);
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(true);
    around.route().open(of_edu);
}

/// The guest's handler of the line has begun: one interrupt, level-triggered, is in service and
/// none requested, and the device is held back.
bool is_handler(machine_of_guest& around, const handled_event& found) {
    return found.any && found.vector == line_vector && around.page().isr.contains(line_vector) &&
           around.page().tmr.contains(line_vector) && !around.page().irr.contains(line_vector) &&
           around.is_asserted() && io_apic{}.is_masked(inputs[of_edu]);
}

/// The guest goes on, and the host waits until it believes that nothing comes any more.
void check_end(guest& machine, machine_of_guest& around, unsigned times) {
    const bool halts = around.run() == exit_code::hlt && machine.rip() == guest::code.raw + 2;
    if (!check("then the guest goes on", halts)) {
        machine.say_exit();
    }
    kernel::pause_for(kernel::long_enough);
    check_equal("the host was interrupted so often", machine_of_guest::interrupts_of(of_edu),
                times);
    check_equal("the guest got as many messages", around.messages, times);
    check_equal("and ended as many", around.ends, times);
    check("the line waits", !around.is_asserted() && !io_apic{}.is_masked(inputs[of_edu]));
    check("nothing is in service or pending", around.interrupts().apic().pending() == 0 &&
                                                  around.page().isr == pt::lapic::vector_set{} &&
                                                  around.page().irr == pt::lapic::vector_set{});
}

// --------------------------------------------------------------------------------------- the
// subjects

void served(guest& machine, machine_of_guest& around) {
    check("open, and nothing asserts", kernel::nothing_arrives());
    request_of_edu();
    check("the handler runs", is_handler(around, around.run_to_handler()));
    kernel::pause_for(kernel::long_enough);
    check_equal("while it runs the host is not interrupted again",
                machine_of_guest::interrupts_of(of_edu), 1);
    machine.go_to(end_served);
    check("and ends, with its device served",
          around.run() == exit_code::hlt && around.ends == 1 && !around.is_asserted());

    machine.go_to(guest::code);
    request_of_edu();
    check("the next one arrives, too", is_handler(around, around.run_to_handler()));
    machine.go_to(end_served);
    check_end(machine, around, 2);
}

/// Each end brings the next one, before the guest has gone on.
void not_served(guest& machine, machine_of_guest& around) {
    constexpr unsigned times = 50;
    request_of_edu();
    unsigned right = 0;
    for (unsigned i = 1; i <= times; ++i) {
        const handled_event found = around.run_to_handler();
        right += is_handler(around, found) && found.return_address == guest::code.raw &&
                         machine_of_guest::interrupts_of(of_edu) == i && around.messages == i &&
                         around.ends == i - 1
                     ? 1
                     : 0;
        machine.go_to(i < times ? end_unserved : end_served);
    }
    check_equal("each end of interrupt brings one more", right, times);
    check_end(machine, around, times);
}

/// As hardware does it: the one that comes between EOI and the service is for nothing.
void served_late(guest& machine, machine_of_guest& around) {
    request_of_edu();
    check("the handler runs", is_handler(around, around.run_to_handler()));
    machine.go_to(end_and_serve);
    check("and once more, for it was too early", is_handler(around, around.run_to_handler()) &&
                                                     machine_of_guest::interrupts_of(of_edu) == 2);
    machine.go_to(end_unserved);
    check_end(machine, around, 2);
}

/// The device requests again while the guest's handler is at work, after it was served.
void requested_again(guest& machine, machine_of_guest& around) {
    request_of_edu();
    check("the handler runs", is_handler(around, around.run_to_handler()));
    serve_edu();
    request_of_edu();
    kernel::pause_for(kernel::long_enough);
    check_equal("the second request waits for the end", machine_of_guest::interrupts_of(of_edu), 1);
    machine.go_to(end_unserved);
    check("which brings it", is_handler(around, around.run_to_handler()));
    machine.go_to(end_served);
    check_end(machine, around, 2);
}

/// A guest that has interrupts off, and one that never comes to the end of its handler, have masked
/// their own device and nothing else.
void never_ends(guest& machine, machine_of_guest& around) {
    constexpr unsigned times = 50;
    machine.execute({0x0F, 0xA2, 0xEB, 0xFC}); // 1: cpuid; jmp 1b
    const auto run_long = [&] {
        unsigned exits = 0;
        for (unsigned i = 0; i < times && around.run() == exit_code::cpuid; ++i) {
            machine.skip_instruction();
            ++exits;
        }
        kernel::pause_for(kernel::long_enough);
        return exits == times && machine_of_guest::interrupts_of(of_edu) == 1 &&
               around.messages == 1 && around.ends == 0;
    };
    machine.set_interrupt_flag(false);
    request_of_edu();
    check("with interrupts off, there is one", run_long());
    check("which waits, and is masked at the host",
          around.page().irr.contains(line_vector) && around.page().tmr.contains(line_vector) &&
              around.is_asserted() && io_apic{}.is_masked(inputs[of_edu]));
    machine.execute({nop, nop, hlt});
    machine.set_interrupt_flag(true);
    check("it arrives", is_handler(around, around.run_to_handler()));
    const gpa handler = guest::data + 0x300;
    machine.execute({0x0F, 0xA2, 0xEB, 0xFC}, handler);
    check("in a handler without an end, there is one", run_long());
    machine.set_interrupt_flag(true);
    check("and one when it lets interrupts in", run_long());
    machine.set_interrupt_flag(false);
    machine.go_to(end_served);
    check_end(machine, around, 1);
}

/// An edge-triggered interrupt that comes into the handler is ended without the I/O APICs.
void with_an_edge(guest& machine, machine_of_guest& around) {
    request_of_edu();
    check("the handler runs", is_handler(around, around.run_to_handler()));
    const gpa handler = guest::data + 0x300;
    machine.execute({nop, hlt}, handler);
    machine.set_interrupt_flag(true);
    around.interrupts().raise(edge_vector);
    const handled_event found = around.run_to_handler();
    check("an edge comes into it", found.any && found.vector == edge_vector &&
                                       found.return_address == handler.raw &&
                                       !around.page().tmr.contains(edge_vector));
    machine.go_to(end_unserved);
    check("its end is not the line's", around.run() == exit_code::hlt &&
                                           machine.rip() == handler.raw + 1 && around.ends == 0 &&
                                           around.other_ends == 1 && around.is_asserted() &&
                                           machine_of_guest::interrupts_of(of_edu) == 1);
    machine.set_interrupt_flag(false);
    machine.go_to(end_served);
    check_end(machine, around, 1);
}

/// The line is closed while it is asserted: what the guest ends then opens nothing.
void closed(guest& machine, machine_of_guest& around) {
    request_of_edu();
    check("the handler runs", is_handler(around, around.run_to_handler()));
    around.route().close(of_edu);
    check("closed, it asserts nothing and is masked",
          !around.is_asserted() && io_apic{}.is_masked(inputs[of_edu]));
    machine.go_to(end_unserved);
    check("the guest ends what it has", around.run() == exit_code::hlt && around.ends == 1);
    kernel::pause_for(kernel::long_enough);
    check("but the device, which still asserts, interrupts nobody",
          machine_of_guest::interrupts_of(of_edu) == 1 && around.messages == 1 &&
              io_apic{}.is_masked(inputs[of_edu]));
    machine.go_to(guest::code);
    around.route().open(of_edu);
    check("open again, it comes", is_handler(around, around.run_to_handler()));
    machine.go_to(end_served);
    check_end(machine, around, 2);
}

/// The line is closed while nothing asserts it.
void closed_before(guest& machine, machine_of_guest& around) {
    around.route().close(of_edu);
    request_of_edu();
    check("the device interrupts nobody",
          kernel::nothing_arrives() && around.run() == exit_code::hlt && around.messages == 0);
    machine.go_to(guest::code);
    around.route().open(of_edu);
    check("open again, it comes", is_handler(around, around.run_to_handler()));
    machine.go_to(end_served);
    check_end(machine, around, 1);
}

/// Both devices have one line of the guest; the guest serves edu, and the host the NIC for it.
void shared(guest& machine, machine_of_guest& around) {
    around.route().open(of_nic);
    request_of_edu();
    check("one device asserts the line", is_handler(around, around.run_to_handler()));
    request_of_nic();
    kernel::pause_for(kernel::long_enough);
    check("the other one, too, and the guest has nothing more of it",
          machine_of_guest::interrupts_of(of_nic) == 1 &&
              machine_of_guest::interrupts_of(of_edu) == 1 && around.messages == 1 &&
              io_apic{}.is_masked(inputs[of_nic]));
    machine.go_to(end_served);
    const handled_event found = around.run_to_handler();
    check("one is served: the other one interrupts again",
          found.any && found.vector == line_vector &&
              machine_of_guest::interrupts_of(of_nic) == 2 &&
              machine_of_guest::interrupts_of(of_edu) == 1 && around.messages == 2 &&
              io_apic{}.is_masked(inputs[of_nic]) && !io_apic{}.is_masked(inputs[of_edu]));
    request_of_edu();
    kernel::pause_for(kernel::long_enough);
    around.route().close(of_nic);
    check("one is closed: the line is asserted by the other one",
          around.is_asserted() && machine_of_guest::interrupts_of(of_edu) == 2);
    serve_nic();
    around.route().open(of_nic);
    machine.go_to(end_served);
    const bool halts = around.run() == exit_code::hlt;
    kernel::pause_for(kernel::long_enough);
    check("both are served", halts && machine_of_guest::interrupts_of(of_edu) == 2 &&
                                 machine_of_guest::interrupts_of(of_nic) == 2 &&
                                 around.messages == 2 && around.ends == 2);
    check("and both lines wait", !around.is_asserted() && !io_apic{}.is_masked(inputs[of_edu]) &&
                                     !io_apic{}.is_masked(inputs[of_nic]));
}

/// Where edu's registers are, if a guest without paging can reach them.
gpa registers_of_edu() {
    kernel::port_config access = kernel::config();
    for (const pt::result<pt::pci::bar>& held : pt::pci::read_bars(access, edu::place)) {
        if (held && held->index == 0 && held->address < 4 * pt::GiB) {
            return gpa{held->address};
        }
    }
    kernel::give_up("edu has no registers");
}

void run() {
    auto education = edu::open();
    auto network = nic::open(nic::first);
    if (!check("edu answers", education) || !check("the NIC answers", network)) {
        return;
    }
    the_edu = &*education;
    the_nic = &*network;
    if (!check("edu's line ends at one input", find_input(of_edu, request_of_edu, serve_edu)) ||
        !check("the NIC's line ends at one input", find_input(of_nic, request_of_nic, serve_nic)) ||
        !check("and at another one", inputs[of_edu] != inputs[of_nic])) {
        return;
    }
    struct test {
        const char* name;
        void (*run)(guest&, machine_of_guest&);
    };
    constexpr test tests[] = {{"served", served},
                              {"not served", not_served},
                              {"served after its end", served_late},
                              {"requested again", requested_again},
                              {"never ended", never_ends},
                              {"with an edge", with_an_edge},
                              {"closed", closed},
                              {"closed before", closed_before},
                              {"two devices", shared}};
    guest machine;
    const gpa registers = registers_of_edu();
    auto mapped = machine.tables().map({registers, 4 * pt::KiB}, pt::hpa{registers.raw},
                                       pt::x86_64::device_memory);
    if (!check("the guest has edu's registers", mapped && mapped->redeem(machine.hardware()))) {
        return;
    }
    for (const test& each : tests) {
        kernel::begin_part(each.name);
        machine_of_guest around{machine};
        begin(machine, around, registers);
        each.run(machine, around);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"svm_level_route", run};

} // namespace
