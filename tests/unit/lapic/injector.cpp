// SPDX-License-Identifier: BSL-1.0
#include "pt/lapic/injector.hpp"

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/vcpu/event.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <random>
#include <set>

namespace {

using namespace pt;
using namespace pt::lapic;
using vcpu::event;
using vcpu::exception_vector;

struct no_time {
    constexpr std::uint64_t ticks() { return 0; }
    constexpr std::uint64_t tsc() { return 0; }
};

/// What the guest's state says, as the VMM reads it from its VMCS or VMCB.
struct guest_state {
    bool interrupts = true;
    bool nmis = true;
};
struct guest {
    const guest_state* state;
    constexpr bool can_take_interrupt() { return state->interrupts; }
    constexpr bool can_take_nmi() { return state->nmis; }
};

struct pic_state {
    std::uint8_t vector = 0x08; // where a PC's firmware has IRQ 0
    unsigned acknowledged = 0;
};
struct pic {
    pic_state* state;
    constexpr std::uint8_t acknowledge() {
        ++state->acknowledged;
        return state->vector;
    }
};

using apic_type = local_apic<no_time>;

/// One virtual processor with a local APIC that the guest has enabled.
struct machine {
    register_page page{};
    pt::lapic::inbox inbox{};
    apic_type apic{page, inbox, identity{}, no_time{}};
    guest_state state{};
    pic_state controller{};
    injector<guest, apic_type, pic> injection;

    constexpr explicit machine(fixed_interrupts how = fixed_interrupts::injected)
        : injection{apic, guest{&state}, pic{&controller}, how} {
        (void)apic.write(0xF0, mmio_width::dword, 0x1FF);
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    constexpr void arrive(delivery_mode delivery, std::uint8_t vector = 0) {
        (void)inbox.post({.delivery = delivery, .vector = vector});
    }
    constexpr void arrive(std::uint8_t vector) { arrive(delivery_mode::fixed, vector); }
    constexpr void set_tpr(std::uint8_t value) { (void)apic.write(0x80, mmio_width::dword, value); }
    constexpr std::uint8_t end() { return apic.write(0xB0, mmio_width::dword, 0).ended.vector; }

    constexpr entry_decision next() { return injection.before_entry(); }
};

constexpr entry_decision nothing{};
constexpr entry_decision only(const event& delivered) { return {.event = delivered}; }
constexpr event interrupt(std::uint8_t vector) { return vcpu::external_interrupt(vector); }
constexpr event page_fault = vcpu::exception(exception_vector::page_fault, 6);
constexpr event general_protection = vcpu::exception(exception_vector::general_protection, 0);
constexpr event double_fault = vcpu::exception(exception_vector::double_fault, 0);

TEST_CASE("nothing pending: nothing is delivered and no window requested",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        return vm.next() == nothing && !vm.injection.wakes();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an interrupt waits for the window, and arrives once", "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.state.interrupts = false;
        vm.arrive(0x31);
        bool good = !vm.injection.wakes();
        good = good && vm.next() == entry_decision{.interrupt_window = true};
        good = good && vm.next() == entry_decision{.interrupt_window = true};
        good = good && vm.page.irr.contains(0x31) && !vm.page.isr.contains(0x31);
        vm.state.interrupts = true;
        good = good && vm.injection.wakes() && vm.next() == only(interrupt(0x31));
        good = good && !vm.page.irr.contains(0x31) && vm.page.isr.contains(0x31);
        return good && vm.next() == nothing && vm.end() == 0x31 && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an interrupted delivery comes first, a higher vector that arrives meanwhile after it",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(0x31);
        bool good = vm.next() == only(interrupt(0x31));
        vm.injection.interrupted(interrupt(0x31));
        vm.arrive(0x52);
        good =
            good && vm.next() == entry_decision{.event = interrupt(0x31), .interrupt_window = true};
        good = good && vm.next() == only(interrupt(0x52));
        return good && vm.end() == 0x52 && vm.end() == 0x31 && vm.end() == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a lower class that waits for an EOI asks for no window", "[lapic][injector][rule 26]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(0x52);
        vm.arrive(0x31);
        bool good = vm.next() == only(interrupt(0x52));
        vm.state.interrupts = false; // the handler
        good = good && vm.next() == nothing && vm.end() == 0x52;
        good = good && vm.next() == entry_decision{.interrupt_window = true};
        vm.state.interrupts = true;
        return good && vm.next() == only(interrupt(0x31));
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("one event an entry: exception, NMI, ExtINT, the highest vector",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(0x31);
        vm.arrive(0x52);
        vm.arrive(delivery_mode::nmi);
        vm.arrive(delivery_mode::extint);
        bool good = vm.injection.raise(general_protection).has_value();
        good = good && vm.next() == entry_decision{.event = general_protection,
                                                   .interrupt_window = true,
                                                   .nmi_window = true};
        good = good && vm.next() == entry_decision{.event = vcpu::nmi(), .interrupt_window = true};
        good = good && vm.controller.acknowledged == 0;
        good =
            good && vm.next() == entry_decision{.event = interrupt(0x08), .interrupt_window = true};
        good = good && vm.controller.acknowledged == 1 && vm.next() == only(interrupt(0x52));
        // 0x31 waits for the end of 0x52; what comes by ExtINT is in no service.
        good = good && vm.next() == nothing && vm.end() == 0x52;
        return good && vm.next() == only(interrupt(0x31)) && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("TPR threshold: the class of an interrupt that only TPR holds back",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.set_tpr(0x60);
        bool good = vm.next() == nothing;
        vm.arrive(0x41);
        good = good && vm.next() == entry_decision{.tpr_threshold = 4};
        vm.arrive(0x61); // the same class as TPR: held back too, and the higher one
        good = good && vm.next() == entry_decision{.tpr_threshold = 6};
        vm.state.interrupts = false; // whether it could be taken does not matter
        good = good && vm.next() == entry_decision{.tpr_threshold = 6};
        vm.set_tpr(0x50); // the guest lowers TPR: now the window is what it waits for
        good = good && vm.next() == entry_decision{.interrupt_window = true};
        vm.state.interrupts = true;
        // With 0x61 in service it is that which holds 0x41 back.
        good = good && vm.next() == only(interrupt(0x61)) && vm.next() == nothing;
        return good && vm.end() == 0x61 && vm.next() == entry_decision{.tpr_threshold = 4};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("one NMI in service and one waiting; the waiting one asks for the NMI window",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(delivery_mode::nmi);
        bool good = vm.next() == only(vcpu::nmi());
        vm.state.nmis = false; // in its handler
        vm.arrive(delivery_mode::nmi);
        vm.arrive(delivery_mode::nmi); // the latch holds one
        good = good && !vm.injection.wakes();
        good = good && vm.next() == entry_decision{.nmi_window = true};
        // RFLAGS.IF is another matter.
        vm.arrive(0x31);
        good = good && vm.next() == entry_decision{.event = interrupt(0x31), .nmi_window = true};
        vm.state = {.interrupts = false, .nmis = true}; // IRET
        good = good && vm.injection.wakes() && vm.next() == only(vcpu::nmi());
        return good && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an NMI whose delivery was interrupted goes again although it has blocked NMIs itself",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(delivery_mode::nmi);
        bool good = vm.next() == only(vcpu::nmi());
        vm.state.nmis = false;
        vm.injection.interrupted(vcpu::nmi());
        vm.arrive(delivery_mode::nmi);
        good = good && vm.injection.wakes();
        good = good && vm.next() == entry_decision{.event = vcpu::nmi(), .nmi_window = true};
        vm.state.nmis = true;
        return good && vm.next() == only(vcpu::nmi()) && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an exception during the delivery of an interrupt goes first and loses nothing",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(0x31);
        bool good = vm.next() == only(interrupt(0x31));
        vm.injection.interrupted(interrupt(0x31)); // the guest's stack is not mapped
        good = good && vm.injection.raise(page_fault).has_value();
        vm.arrive(0x52);
        good = good && vm.next() == entry_decision{.event = page_fault, .interrupt_window = true};
        // Its handler runs with IF clear; 0x31 left IRR long ago, and still waits.
        vm.state.interrupts = false;
        good = good && vm.next() == entry_decision{.interrupt_window = true};
        vm.state.interrupts = true;
        good =
            good && vm.next() == entry_decision{.event = interrupt(0x31), .interrupt_window = true};
        return good && vm.next() == only(interrupt(0x52)) && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an exception during the delivery of an NMI goes first; the NMI waits for its window",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(delivery_mode::nmi);
        bool good = vm.next() == only(vcpu::nmi());
        vm.state.nmis = false;
        vm.injection.interrupted(vcpu::nmi());
        good = good && vm.injection.raise(page_fault).has_value();
        good = good && vm.next() == entry_decision{.event = page_fault, .nmi_window = true};
        good = good && vm.next() == entry_decision{.nmi_window = true};
        vm.state.nmis = true; // the exception handler's IRET
        return good && vm.next() == only(vcpu::nmi()) && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("exceptions combine as the manual's table says", "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        const auto delivered = [](const event& first, const event& second) {
            machine vm;
            vm.injection.interrupted(first);
            return vm.injection.raise(second) ? vm.next().event : event{};
        };
        const event invalid_opcode = vcpu::exception(exception_vector::invalid_opcode);
        bool good = delivered(general_protection, general_protection) == double_fault &&
                    delivered(page_fault, page_fault) == double_fault &&
                    delivered(page_fault, general_protection) == double_fault &&
                    delivered(general_protection, page_fault) == page_fault &&
                    delivered(invalid_opcode, page_fault) == page_fault &&
                    delivered({}, page_fault) == page_fault;
        // A triple fault changes nothing: a VMM may look at what there was.
        machine vm;
        vm.injection.interrupted(double_fault);
        good = good && vm.injection.raise(page_fault) == error{errc::hardware_fault, 14};
        return good && vm.next() == only(double_fault);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a software interrupt goes again with its instruction length, and before all others",
          "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        const event int_80{.present = true,
                           .type = vcpu::event_type::software_interrupt,
                           .vector = 0x80,
                           .instruction_length = 2};
        vm.arrive(0x31);
        vm.state.interrupts = false; // INT n does not ask
        vm.injection.interrupted(int_80);
        return vm.next() == entry_decision{.event = int_80, .interrupt_window = true};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a decision that was not carried out is made again", "[lapic][injector][rule 32]") {
    constexpr auto check = [] {
        const auto twice = [](auto prepare) {
            machine vm;
            prepare(vm);
            const entry_decision first = vm.next();
            vm.injection.interrupted(first.event);
            return first.event.present && vm.next() == first && vm.next() == nothing;
        };
        return twice([](machine& vm) { vm.arrive(0x31); }) &&
               twice([](machine& vm) { vm.arrive(delivery_mode::nmi); }) &&
               twice([](machine& vm) { vm.arrive(delivery_mode::extint); }) &&
               twice([](machine& vm) { vm.injection.raise(page_fault).value(); });
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("ExtINT without an external controller is dropped and keeps nobody awake",
          "[lapic][injector]") {
    constexpr auto check = [] {
        register_page page{};
        pt::lapic::inbox inbox{};
        apic_type apic{page, inbox, identity{}, no_time{}};
        (void)apic.write(0xF0, mmio_width::dword, 0x1FF);
        guest_state state{.interrupts = false};
        injector injection{apic, guest{&state}};
        (void)inbox.post({.delivery = delivery_mode::extint});
        bool good = injection.before_entry() == nothing && !apic.extint_pending();
        state.interrupts = true;
        (void)inbox.post({.delivery = delivery_mode::extint});
        return good && !injection.wakes() && injection.before_entry() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("with virtual-interrupt delivery fixed vectors are the processor's: RVI and SVI",
          "[lapic][injector]") {
    constexpr auto check = [] {
        machine vm{fixed_interrupts::virtual_interrupt_delivery};
        vm.arrive(0x31);
        vm.arrive(0x52);
        vm.state.interrupts = false;
        // RVI is the highest vector in IRR: bits 7:0.
        bool good = vm.next() == entry_decision{.status = guest_interrupt_status{0x0052}};
        good = good && !vm.injection.wakes();
        vm.state.interrupts = true;
        good = good && vm.injection.wakes();
        good = good && vm.next() == entry_decision{.status = guest_interrupt_status{0x0052}};
        // The processor delivers it, and exits in the middle.
        vm.page.irr.erase(0x52);
        vm.page.isr.insert(0x52);
        vm.apic.after_hardware();
        vm.injection.interrupted(interrupt(0x52));
        vm.arrive(delivery_mode::extint);
        good = good && vm.next() == entry_decision{.event = interrupt(0x52),
                                                   .interrupt_window = true,
                                                   .status = guest_interrupt_status{0x5231}};
        // TPR is the processor's too.
        vm.set_tpr(0x60);
        return good && vm.next() == entry_decision{.event = interrupt(0x08),
                                                   .status = guest_interrupt_status{0x5231}};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what has not arrived is saved and restored; reset and INIT drop it",
          "[lapic][injector][rule 31]") {
    constexpr auto check = [] {
        machine from;
        from.injection.interrupted(interrupt(0x31));
        from.injection.interrupted(vcpu::nmi());
        from.injection.raise(page_fault).value();
        machine to;
        bool good = to.injection.restore(from.injection.undelivered()).has_value();
        for (int i = 0; i != 4; ++i) {
            from.state.nmis = to.state.nmis = i != 1;
            good = good && from.next() == to.next();
        }
        good = good && to.injection.undelivered() == undelivered_events{};
        // Each kind in its own place.
        undelivered_events wrong{.exception = interrupt(0x31)};
        good = good && to.injection.restore(wrong) == error{errc::malformed, 0};
        wrong = {.external_interrupt = vcpu::nmi()};
        good = good && to.injection.restore(wrong) == error{errc::malformed, 0};
        wrong = {.nmi = static_cast<undelivered_nmi>(3)};
        good = good && to.injection.restore(wrong) == error{errc::malformed, 0};
        good = good && to.next() == nothing;
        machine dropped;
        dropped.injection.interrupted(interrupt(0x31));
        dropped.injection.interrupted(vcpu::nmi());
        dropped.injection.raise(page_fault).value();
        dropped.injection.reset();
        return good && dropped.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an INIT that comes at the last moment is not overrun by an entry",
          "[lapic][injector][rule 30]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(0x31);
        vm.arrive(delivery_mode::init);
        // Nothing is decided, and nothing taken.
        bool good = vm.next() == entry_decision{.signal = true} && vm.injection.wakes();
        good = good && vm.apic.next_signal().kind == signal_kind::init;
        vm.injection.reset();
        return good && vm.next() == nothing; // software-disabled now
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an SMI is a signal too", "[lapic][injector]") {
    constexpr auto check = [] {
        machine vm;
        vm.arrive(delivery_mode::smi);
        bool good = vm.injection.wakes() && vm.next().signal;
        good = good && vm.apic.next_signal().kind == signal_kind::smi;
        return good && vm.next() == nothing && !vm.injection.wakes();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a processor that waits for a start-up is not entered, and only that wakes it",
          "[lapic][injector][rule 30]") {
    constexpr auto check = [] {
        register_page page{};
        inbox arriving{};
        apic_type apic{page, arriving, identity{.apic_id = 1, .role = processor_role::application},
                       no_time{}};
        guest_state state{};
        injector<guest, apic_type> injection{apic, guest{&state}};
        bool good = injection.before_entry() == entry_decision{.signal = true};
        (void)arriving.post({.delivery = delivery_mode::nmi});
        good = good && !injection.wakes() && injection.before_entry().signal;
        (void)arriving.post({.delivery = delivery_mode::start_up, .vector = 7});
        good = good && injection.wakes() && injection.before_entry().signal;
        good = good && apic.next_signal() == processor_signal{signal_kind::start_up, 7};
        return good && injection.before_entry() == only(vcpu::nmi()); // it was latched
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an NMI that the processor keeps is not kept twice", "[lapic][injector]") {
    constexpr auto check = [] {
        machine vm;
        bool good = !vm.injection.hand_over_nmi();
        vm.state.nmis = false;
        vm.arrive(delivery_mode::nmi);
        good = good && vm.next() == entry_decision{.nmi_window = true};
        good = good && vm.injection.hand_over_nmi() && !vm.injection.hand_over_nmi();
        vm.state.nmis = true;
        good = good && vm.next() == nothing;
        // Nor one that an exception has overtaken.
        vm.injection.interrupted(vcpu::nmi());
        vm.injection.raise(page_fault).value();
        good = good && vm.next() == entry_decision{.event = page_fault, .nmi_window = true};
        return good && vm.injection.hand_over_nmi() && vm.next() == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE(
    "saved in the middle of a delivery, with its local APIC, a guest goes on elsewhere as here",
    "[lapic][injector][rule 31]") {
    constexpr auto check = [] {
        machine here;
        here.arrive(0x31);
        bool good = here.next() == only(interrupt(0x31));
        here.injection.interrupted(interrupt(0x31)); // in ISR, and not in the guest
        here.injection.raise(page_fault).value();
        here.arrive(0x52);
        here.arrive(0x33);
        here.arrive(delivery_mode::nmi); // still in the inbox
        machine there;
        good = good && there.apic.restore(here.apic.save()).has_value() &&
               there.injection.restore(here.injection.undelivered()).has_value();
        const event expected[]{page_fault, interrupt(0x31), vcpu::nmi(), interrupt(0x52)};
        for (machine* vm : {&here, &there}) {
            for (const event& next : expected) {
                good = good && vm->next().event == next;
            }
            good = good && vm->next() == nothing && vm->end() == 0x52 && vm->next() == nothing &&
                   vm->end() == 0x31 && vm->next() == only(interrupt(0x33)) && vm->end() == 0x33 &&
                   vm->end() == 0;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("events that no processor delivers are not restored", "[lapic][injector]") {
    const auto restores = [](event exception) {
        machine vm;
        return vm.injection.restore({.exception = exception}).has_value();
    };
    CHECK(restores(page_fault));
    CHECK(restores(vcpu::exception(exception_vector::page_fault))); // real mode has no error codes
    event wrong = page_fault;
    wrong.vector = 32;
    CHECK_FALSE(restores(wrong));
    wrong = page_fault;
    wrong.vector = 2;
    wrong.has_error_code = false;
    CHECK_FALSE(restores(wrong));
    CHECK_FALSE(restores(vcpu::exception(exception_vector::divide_error, 0)));
    event software{.present = true,
                   .type = vcpu::event_type::software_interrupt,
                   .vector = 0x80,
                   .instruction_length = 2};
    CHECK(restores(software));
    software.instruction_length = 0; // some processors take it
    CHECK(restores(software));
    event interrupt_with_code = interrupt(0x40);
    interrupt_with_code.has_error_code = true;
    machine vm;
    CHECK_FALSE(vm.injection.restore({.external_interrupt = interrupt_with_code}));
    for (const int length : {16, 255}) {
        software.instruction_length = static_cast<std::uint8_t>(length);
        CHECK_FALSE(restores(software));
    }
}

/// The same rules for one virtual processor, slowly: what must go next, by priority.
struct plain_model {
    std::set<int> requested;
    std::set<int> in_service;
    int tpr = 0;
    bool nmi_latched = false;
    bool extint_latched = false;
    // Taken and not arrived.
    int interrupt_on_its_way = -1;
    bool nmi_on_its_way = false;
    bool nmi_overtaken = false; // by an exception
    event exception_on_its_way{};

    static int class_of(const std::set<int>& of) { return of.empty() ? 0 : *of.rbegin() / 16; }
    int deliverable() const {
        const int highest = class_of(requested);
        return highest > class_of(in_service) && highest > tpr / 16 ? *requested.rbegin() : -1;
    }
    bool interrupt_waits() const {
        return interrupt_on_its_way >= 0 || extint_latched || deliverable() >= 0;
    }
    int threshold() const {
        const int highest = class_of(requested);
        return highest > class_of(in_service) && highest <= tpr / 16 ? highest : 0;
    }

    entry_decision next(const guest_state& state, std::uint8_t extint_vector) {
        entry_decision decision{.event = next_event(state, extint_vector)};
        decision.interrupt_window = interrupt_waits();
        decision.nmi_window = nmi_on_its_way || nmi_latched;
        decision.tpr_threshold = static_cast<std::uint8_t>(threshold());
        return decision;
    }
    event next_event(const guest_state& state, std::uint8_t extint_vector) {
        if (exception_on_its_way.present) {
            nmi_overtaken = nmi_on_its_way;
            const event taken = exception_on_its_way;
            exception_on_its_way = {};
            return taken;
        }
        if (nmi_on_its_way && !nmi_overtaken) {
            nmi_on_its_way = false;
            return vcpu::nmi();
        }
        if (interrupt_on_its_way >= 0 && state.interrupts) {
            const int vector = interrupt_on_its_way;
            interrupt_on_its_way = -1;
            return interrupt(static_cast<std::uint8_t>(vector));
        }
        if (nmi_on_its_way && state.nmis) {
            nmi_on_its_way = nmi_overtaken = false;
            return vcpu::nmi();
        }
        if (nmi_latched && state.nmis) {
            nmi_latched = false;
            return vcpu::nmi();
        }
        if (!state.interrupts || !interrupt_waits()) {
            return {};
        }
        if (extint_latched) {
            extint_latched = false;
            return interrupt(extint_vector);
        }
        const int vector = deliverable();
        requested.erase(vector);
        in_service.insert(vector);
        return interrupt(static_cast<std::uint8_t>(vector));
    }
    void did_not_arrive(const event& what) {
        if (what.present && what.type == vcpu::event_type::nmi) {
            nmi_on_its_way = true;
            nmi_overtaken = false;
        } else if (what.present && what.type == vcpu::event_type::external_interrupt) {
            interrupt_on_its_way = what.vector;
        } else if (what.present) {
            exception_on_its_way = what;
        }
    }
};

// Counts what the guest's handlers see, so that the model's own idea of loss does not matter.
TEST_CASE("random arrivals, exits, interrupted deliveries and failed entries: nothing is lost or "
          "doubled, and all comes in order and only when allowed",
          "[lapic][injector][rule 31][rule 32]") {
    const auto vm = std::make_unique<machine>();
    plain_model model;
    std::mt19937 random{881}; // NOLINT(cert-msc51-cpp): the same sequence each time
    const auto one_in = [&](unsigned n) { return random() % n == 0; };
    std::uint64_t accepted[256] = {};
    std::uint64_t handled[256] = {};
    std::uint64_t nmis_accepted = 0;
    std::uint64_t nmis_handled = 0;
    std::uint64_t exceptions_raised = 0;
    std::uint64_t exceptions_handled = 0;
    std::uint64_t interrupted_deliveries = 0;
    constexpr std::uint8_t extint_vector = 0x08; // below 16: no vector of the local APIC
    constexpr int steps = 200'000;
    for (int step = 0; step != steps; ++step) {
        const bool is_draining = step > steps - 1'000;
        if (!is_draining && one_in(3)) {
            const auto vector = static_cast<std::uint8_t>(0x20 + random() % 0x50);
            vm->arrive(vector);
            accepted[vector] += model.requested.insert(vector).second ? 1 : 0;
        }
        if (!is_draining && one_in(10)) {
            vm->arrive(delivery_mode::nmi);
            nmis_accepted += model.nmi_latched ? 0 : 1;
            model.nmi_latched = true;
        }
        if (!is_draining && one_in(10)) {
            vm->arrive(delivery_mode::extint);
            accepted[extint_vector] += model.extint_latched ? 0 : 1;
            model.extint_latched = true;
        }
        if (!is_draining && one_in(8) && !model.exception_on_its_way.present) {
            const event raised = one_in(2) ? page_fault : vcpu::exception(exception_vector::debug);
            REQUIRE(vm->injection.raise(raised));
            model.exception_on_its_way = raised;
            ++exceptions_raised;
        }
        // What the guest does.
        vm->state.interrupts = is_draining || one_in(2) ? true : !one_in(3);
        if (is_draining || one_in(6)) {
            vm->state.nmis = true; // IRET
        }
        if (one_in(is_draining ? 1 : 4)) {
            const int ended = model.in_service.empty() ? 0 : *model.in_service.rbegin();
            REQUIRE(vm->end() == ended);
            model.in_service.erase(ended);
        }
        if (is_draining || one_in(8)) {
            model.tpr = is_draining ? 0 : static_cast<int>(random() % 0x80);
            vm->set_tpr(static_cast<std::uint8_t>(model.tpr));
        }

        const entry_decision expected = model.next(vm->state, extint_vector);
        const bool would = vm->injection.wakes();
        const entry_decision got = vm->next();
        REQUIRE(got == expected);
        REQUIRE(would == got.event.present);

        const event& delivered = got.event;
        if (delivered.present && delivered.type == vcpu::event_type::nmi) {
            vm->state.nmis = false; // also if the delivery does not finish
        }
        if (!is_draining && one_in(3)) {
            vm->injection.interrupted(delivered); // by an exit, or the entry failed
            model.did_not_arrive(delivered);
            interrupted_deliveries += delivered.present ? 1 : 0;
        } else if (delivered.present) {
            switch (delivered.type) {
            case vcpu::event_type::external_interrupt: ++handled[delivered.vector]; break;
            case vcpu::event_type::nmi: ++nmis_handled; break;
            default: ++exceptions_handled; break;
            }
        }
    }
    for (unsigned vector = 0; vector != 256; ++vector) {
        REQUIRE(handled[vector] == accepted[vector]);
    }
    REQUIRE(nmis_handled == nmis_accepted);
    REQUIRE(exceptions_handled == exceptions_raised);
    REQUIRE(vm->next() == nothing);
    REQUIRE(nmis_handled > 1'000);
    REQUIRE(handled[extint_vector] > 1'000);
    REQUIRE(exceptions_handled > 1'000);
    REQUIRE(interrupted_deliveries > 1'000);
}

} // namespace
