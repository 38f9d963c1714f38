// SPDX-License-Identifier: BSL-1.0
//
// Interrupts of the host that arrive while the guest runs: acknowledged by the exit, led to a
// vector of the guest by pt's routes and bus, taken by its local APIC, injected in the order of
// priority, and ended by the guest's own accesses.
#include "../../kernel/guest_tests/host.hpp"
#include "../virtual_interrupts.hpp"

#include "pt/lapic/bus.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/lapic/message.hpp"
#include "pt/vmx/apic_exit.hpp"
#include "pt/vmx/interruption.hpp"

namespace {

using guest_tests::host_apic;
using guest_tests::interrupt_host;
using guest_tests::only_vcpu;
using kernel::apic_linear;
using kernel::apic_page;
using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::virtual_interrupts;
using kernel::vmcs_field;
using kernel::vmread;
using kernel::vmwrite;
using pt::gpa;
using pt::vmx::exit_reason;

// ------------------------------------------------------------------- the host's own local APIC

void end_host_interrupt() { host_apic().write32(guest_tests::end_of_interrupt, 0); }

/// Has the host's timer raise timer_vector after so many ticks.
constexpr std::uint8_t timer_vector = 0xFE; // as in the kernel's interrupts.hpp
void start_host_timer(std::uint32_t ticks) {
    host_apic().write32(guest_tests::initial_count, ticks);
}

// ----------------------------------------------------------------------------- the guest's code

/// How the guest reaches its local APIC.
enum class way : std::uint8_t {
    ept_violation, ///< its page is not mapped
    apic_access,   ///< its page is the APIC-access page
    msr,           ///< x2APIC mode
};
constexpr way every_way[] = {way::ept_violation, way::apic_access, way::msr};
constexpr const char* names[] = {"by EPT violations", "by APIC-access exits", "by MSRs"};

constexpr std::uint32_t eoi_offset = 0x0B0;
constexpr std::uint32_t eoi_msr = 0x80B;
/// What handlers do after their VMCALL: they take their time, and signal EOI.
constexpr gpa handler_body{0xB000};
constexpr std::uint64_t body_size = 32;

/// Instructions during which each pending interrupt of the host arrives, and no interrupt window
/// opens. By [sdm] all arrive before the first. Bochs 2.7 lets none exit after an entry with
/// interrupts off until RFLAGS.IF changes; STI blocks until CLI is done.
void put_delay(guest& machine, gpa place) {
    for (std::uint64_t i = 0; i < body_size; i += 2) {
        machine.at<std::uint8_t>(place)[i] = 0xFB;     // sti
        machine.at<std::uint8_t>(place)[i + 1] = 0xFA; // cli
    }
}

void write_handlers(guest& machine, way by) {
    let_handlers_go_to(machine, handler_body);
    put_delay(machine, handler_body);
    if (by == way::msr) {
        machine.execute({0x0F, 0x30, 0x48, 0xCF}, handler_body + body_size); // wrmsr; iretq
    } else {
        machine.execute({0x89, 0x03, 0x48, 0xCF},
                        handler_body + body_size); // mov %eax, (%rbx); iretq
    }
    machine.general.rax = machine.general.rdx = 0;
    machine.general.rcx = eoi_msr;
    machine.general.rbx = apic_linear + eoi_offset;
}

// ------------------------------------------------------------------------------- the exit loop

/// A guest with routes from vectors of the host, and its loop.
class passthrough {
public:
    passthrough(guest& machine, way by)
        : machine_{machine}, by_{by}, interrupts_{machine}, bus_{only_vcpu{&interrupts_.inbox()}} {
        machine.start(guest_mode::long_64);
        show_apic_page(machine);
        write_handlers(machine, by);
        if (by == way::msr) {
            constexpr std::uint64_t enabled_x2apic_bootstrap = 0xD00;
            static_cast<void>(
                interrupts_.apic().write_msr(0x1B, apic_page.raw | enabled_x2apic_bootstrap));
        }
        if (by == way::apic_access) {
            use_apic_access_page(machine);
        }
    }
    ~passthrough() {
        auto removed = machine_.tables().unmap({apic_page, 4 * pt::KiB});
        check("the guest's APIC page goes", removed && removed->redeem(machine_.hardware()));
    }
    passthrough(const passthrough&) = delete;
    passthrough& operator=(const passthrough&) = delete;

    bool bind(std::uint8_t host_vector, std::uint8_t guest_vector) {
        const bool x2apic = by_ == way::msr;
        return routes_
            .bind(host_vector, {.vector = guest_vector,
                                .format = x2apic ? pt::lapic::destination_format::x2apic
                                                 : pt::lapic::destination_format::xapic,
                                .destination = interrupts_.apic().apic_id()})
            .has_value();
    }

    /// Runs the guest until it exits for something that this loop does not handle.
    exit_reason run() {
        for (;;) {
            interrupts_.decide();
            if (!interrupts_.enter()) {
                kernel::say("reason ", std::uint64_t{machine_.reason_word().raw});
                kernel::give_up("no entry");
            }
            const exit_reason reason = machine_.reason();
            if (!handle(reason)) {
                return reason;
            }
        }
    }

    /// Runs the guest until a handler of it begins, and gives its vector; 0: it halts instead.
    std::uint8_t next_handler() {
        const exit_reason reason = run();
        const kernel::handled_event found = machine_.handled();
        if (!found.any) {
            if (reason != exit_reason::hlt) {
                kernel::say("exit ", static_cast<std::uint64_t>(reason), ", RIP ", machine_.rip(),
                            ", qualification ", machine_.qualification());
            }
            return 0;
        }
        machine_.skip_instruction();
        return found.vector;
    }

    [[nodiscard]] unsigned host_interrupts() const { return host_interrupts_; }
    [[nodiscard]] unsigned ends() const { return ends_; }
    /// The vector that the last EOI ended.
    [[nodiscard]] std::uint8_t ended() const { return ended_; }
    [[nodiscard]] virtual_interrupts& interrupts() { return interrupts_; }

private:
    bool handle(exit_reason reason) {
        switch (reason) {
        case exit_reason::external_interrupt: return take_host_interrupt();
        case exit_reason::interrupt_window: return true;
        case exit_reason::ept_violation: {
            const gpa address{vmread(vmcs_field::guest_physical_address)};
            return by_ == way::ept_violation && address.align_down(4 * pt::KiB) == apic_page &&
                   write_apic(static_cast<std::uint32_t>(address.offset_in(4 * pt::KiB)));
        }
        case exit_reason::apic_access: {
            using qualification = pt::vmx::apic_access_qualification;
            const qualification access{machine_.qualification()};
            const auto offset = access.offset();
            return by_ == way::apic_access && offset &&
                   access[qualification::type] == pt::vmx::apic_access_type::linear_write &&
                   write_apic(*offset);
        }
        case exit_reason::wrmsr: {
            const auto done = interrupts_.apic().write_msr(
                static_cast<std::uint32_t>(machine_.general.rcx), machine_.general.rax);
            machine_.skip_instruction();
            return by_ == way::msr && done && take(*done);
        }
        default: return false;
        }
    }

    bool take_host_interrupt() {
        const auto vector = pt::vmx::acknowledged_vector(pt::vmx::exit_interruption_information{
            static_cast<std::uint32_t>(vmread(vmcs_field::exit_interruption_information))});
        if (!vector) {
            return false;
        }
        const auto message = routes_.find(*vector);
        if (!message || bus_.deliver(*message).reached != 1) {
            return false;
        }
        end_host_interrupt();
        ++host_interrupts_;
        return true;
    }

    /// The guest's MOV of EAX. The exit does not say how long the instruction is.
    bool write_apic(std::uint32_t offset) {
        constexpr std::uint64_t length = 2;
        vmwrite(vmcs_field::guest_rip, machine_.rip() + length);
        return take(interrupts_.apic().write(offset, pt::mmio_width::dword, machine_.general.rax));
    }

    bool take(const pt::lapic::effect& of) {
        if (of.kind == pt::lapic::effect_kind::end_of_interrupt) {
            ++ends_;
            ended_ = of.ended.vector;
        }
        return true;
    }

    guest& machine_;
    way by_;
    virtual_interrupts interrupts_;
    pt::lapic::bus<only_vcpu> bus_;
    pt::lapic::host_vector_routes routes_;
    unsigned host_interrupts_ = 0;
    unsigned ends_ = 0;
    std::uint8_t ended_ = 0;
};

// --------------------------------------------------------------------------------------- the tests

/// Vectors of the host, and those of the guest in another order.
struct pair {
    std::uint8_t host;
    std::uint8_t to_guest;
};
constexpr pair pairs[] = {{0x31, 0x91}, {0x52, 0x62}, {0x83, 0xC3}, {0xA4, 0x45}};
constexpr std::uint8_t by_priority[] = {0xC3, 0x91, 0x62, 0x45};

void raise_all(passthrough& through) {
    bool bound = true;
    for (const pair& each : pairs) {
        bound = bound && through.bind(each.host, each.to_guest);
    }
    check("routes are bound", bound);
    for (const unsigned i : {2U, 0U, 3U, 1U}) {
        interrupt_host(pairs[i].host);
    }
}

/// That handlers begin in this order, each ended before the next begins, and that nothing is left.
template <std::size_t N>
void check_order(guest& machine, passthrough& through, const std::uint8_t (&order)[N]) {
    unsigned right = 0;
    unsigned ended_right = 0;
    for (std::size_t i = 0; i < N; ++i) {
        const std::uint8_t vector = through.next_handler();
        right += vector == order[i] ? 1 : 0;
        ended_right += through.ends() == i && (i == 0 || through.ended() == order[i - 1]) ? 1 : 0;
        if (vector != order[i]) {
            kernel::say("handler ", std::uint64_t{vector}, " where ", std::uint64_t{order[i]},
                        " should run");
        }
    }
    check_equal("handlers run in the order of priority", right, N);
    check_equal("each ends before the next", ended_right, N);
    check_equal("then the guest goes on", through.next_handler(), 0);
    check("to its end", machine.rsp() == guest::stack.raw && through.ends() == N &&
                            through.ended() == order[N - 1]);
    check_equal("each interrupt of the host came once", through.host_interrupts(), N);
    const pt::lapic::register_page& page = through.interrupts().apic().registers();
    check("nothing is left in the local APIC", page.irr.highest() == 0 && page.isr.highest() == 0);
}

void while_off(guest& machine, way by) {
    passthrough through{machine, by};
    raise_all(through);
    put_delay(machine, guest::code);
    machine.execute({0xFB, 0x90, 0xF4}, guest::code + body_size); // sti; nop; hlt
    machine.go_to(guest::code);
    check_order(machine, through, by_priority);
}

void while_on(guest& machine, way by) {
    passthrough through{machine, by};
    raise_all(through);
    machine.execute({0x90, 0x90, 0xF4}); // nop; nop; hlt
    machine.set_interrupt_flag(true);
    // The first one that the processor acknowledges is injected at once; the others come in its
    // handler.
    constexpr std::uint8_t order[] = {0x45, 0xC3, 0x91, 0x62};
    check_order(machine, through, order);
}

void nested(guest& machine, way by) {
    passthrough through{machine, by};
    raise_all(through);
    __builtin_memset(machine.at<void>(handler_body), 0x90, body_size); // nop
    machine.execute({0x90, 0x90, 0xF4});                               // nop; nop; hlt
    machine.set_interrupt_flag(true);
    check_equal("a handler begins", through.next_handler(), 0x45);
    machine.set_interrupt_flag(true); // as if it began with STI
    check_equal("a higher one interrupts it", through.next_handler(), 0xC3);
    check_equal("and it had not ended", through.ends(), 0);
    machine.set_interrupt_flag(true);
    check_equal("lower ones wait for the end of that", through.next_handler(), 0x91);
    check("which came", through.ends() == 1 && through.ended() == 0xC3);
    check_equal("the last of them goes before the first handler", through.next_handler(), 0x62);
    check_equal("then all return", through.next_handler(), 0);
    check("in turn",
          through.ends() == 4 && through.ended() == 0x45 && machine.rsp() == guest::stack.raw);
}

void while_it_runs(guest& machine, way by) {
    passthrough through{machine, by};
    check("the timer is bound", through.bind(timer_vector, 0x55));
    machine.execute({0xF3, 0x90, 0xEB, 0xFC}); // pause; jmp back
    machine.set_interrupt_flag(true);
    start_host_timer(20'000);
    check_equal("the guest's handler runs", through.next_handler(), 0x55);
    check_equal("after one interrupt", through.host_interrupts(), 1);
    *machine.at<std::uint8_t>(guest::code + 2) = 0xF4; // hlt, in place of the jump
    check_equal("and it returns into the loop", through.next_handler(), 0);
    check("where it ended", machine.rip() == guest::code.raw + 2 && through.ended() == 0x55);
}

void run() {
    struct test {
        const char* name;
        void (*run)(guest&, way);
    };
    constexpr test tests[] = {{"while interrupts are off", while_off},
                              {"while they are on", while_on},
                              {"in handlers that allow it", nested},
                              {"while the guest is busy", while_it_runs}};
    guest machine;
    for (const way by : every_way) {
        for (const test& each : tests) {
            kernel::begin_part(names[static_cast<unsigned>(by)], each.name);
            each.run(machine, by);
        }
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"host_interrupts", run};

} // namespace
