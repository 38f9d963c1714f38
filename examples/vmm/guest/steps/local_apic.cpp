// SPDX-License-Identifier: BSL-1.0
#include "../local_apic.hpp"
#include "../attempt.hpp"
#include "../interrupts.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../steps.hpp"

#include "../../../kernel/command_line.hpp"
#include "../../../kernel/processor.hpp"

#include "pt/lapic/registers.hpp"

namespace guest {
namespace {

using namespace pt::lapic;
using lvt = local_vector_entry;

void set_timer(timer_mode mode, std::uint8_t vector) {
    local_apic::write(lvt_timer_offset, lvt{lvt::mode(mode), lvt::vector(vector)}.raw);
}
void mask_timer(timer_mode mode) {
    local_apic::write(lvt_timer_offset,
                      lvt{lvt::mode(mode), lvt::masked(true), lvt::vector(timer_vector)}.raw);
}

interrupt_command to_self(std::uint8_t vector) {
    using icr = interrupt_command;
    return icr{icr::destination_shorthand(shorthand::self), icr::level_assert(true),
               icr::vector(vector)};
}

void check_registers() {
    const auto version = local_apic::read<local_apic_version>();
    tell("id ", decimal{local_apic::id()}, ", version ", version[local_apic_version::version], ", ",
         decimal{version[local_apic_version::max_lvt_entry] + 1U}, " local vectors");
    check((version[local_apic_version::version] & 0xF0) == 0x10, "it is an integrated one");
    using svr = spurious_interrupt_vector;
    const auto held = local_apic::read<svr>();
    check(held[svr::software_enabled] && held[svr::vector] == spurious_vector, "it is enabled");
    local_apic::write(task_priority{task_priority::priority_class(5)});
    check_equal(local_apic::read<task_priority>().raw, 0x50,
                "the task priority is what was written");
    check_equal(local_apic::read<processor_priority>()[processor_priority::priority_class], 5,
                "and the processor's follows");
    local_apic::write(task_priority{});
}

std::uint8_t in_service_then = 0;
bool was_in_service = false;
bool was_deferred = false;

void check_interprocessor_interrupts() {
    forget_interrupts();
    local_apic::send(to_self(high_vector));
    check(local_apic::has_vector(interrupt_request_offset, high_vector),
          "an IPI to itself is requested while interrupts are off");
    check_equal(taken(high_vector), 0, "and not taken");
    check(arrives(high_vector) && taken(high_vector) == 1, "it is taken when they are on, once");
    check(local_apic::has_no_vector(in_service_offset), "and after its end nothing is in service");

    // One of a lower class waits for the end of a higher one, and is taken then.
    on_vector(high_vector, [] {
        was_in_service = local_apic::has_vector(in_service_offset, high_vector);
        local_apic::send(to_self(low_vector));
        for (unsigned i = 0; i != 1000; ++i) {
            let_in();
        }
        was_deferred = taken(low_vector) == 0;
    });
    on_vector(low_vector, [] { in_service_then = low_vector; });
    forget_interrupts();
    local_apic::send(to_self(high_vector));
    const bool both = arrives(high_vector) && arrives(low_vector);
    on_vector(high_vector, nullptr);
    on_vector(low_vector, nullptr);
    check(was_in_service, "in its handler it is in service");
    check(was_deferred, "there one of a lower class waits");
    check(both && in_service_then == low_vector, "and comes afterwards");

    forget_interrupts();
    local_apic::write(task_priority{task_priority::priority_class(high_vector >> 4)});
    local_apic::send(to_self(high_vector));
    let_in();
    check_equal(taken(high_vector), 0, "the task priority holds its class back");
    local_apic::write(task_priority{});
    check(arrives(high_vector), "and lets it go");

    // CR8 is the same register [sdm].
    asm volatile("mov %0, %%cr8" : : "r"(std::uint64_t{0xE}));
    check_equal(local_apic::read<task_priority>()[task_priority::priority_class], 0xE,
                "CR8 is the task priority");
    asm volatile("mov %0, %%cr8" : : "r"(std::uint64_t{0}));

    if (local_apic::is_x2apic()) {
        write_msr(local_apic::msr_of(self_ipi::offset), low_vector);
        check(arrives(low_vector), "SELF IPI does the same");
    }
    forget_interrupts();
    using icr = interrupt_command;
    local_apic::send(icr{icr::destination(local_apic::id()), icr::delivery(delivery_mode::nmi),
                         icr::level_assert(true)});
    check(arrives(nmi_vector), "an NMI to itself arrives");
}

struct count_at {
    std::uint64_t count;
    std::uint64_t time;
};
/// The timer's count, and when that was: looked at again while somebody else had the processor.
count_at look_at_count() {
    clock time;
    count_at seen{};
    for (unsigned tries = 0; tries != 100; ++tries) {
        const std::uint64_t before = time.now();
        seen.count = local_apic::read(current_count_offset);
        seen.time = time.now();
        if (seen.time - before < 500 * microsecond) {
            break;
        }
    }
    return seen;
}

void check_timer() {
    clock time;
    take_timer();

    mask_timer(timer_mode::one_shot);
    local_apic::write(initial_count_offset, 0xFFFF'FFFF);
    const count_at begun = look_at_count();
    while (time.now() - begun.time < 2 * millisecond) {}
    const count_at ended = look_at_count();
    local_apic::write(initial_count_offset, 0);
    const std::uint64_t per_millisecond =
        (begun.count - ended.count) * millisecond / (ended.time - begun.time);
    tell("its timer counts ", decimal{per_millisecond}, " a millisecond");
    check_equal(local_apic::read(current_count_offset), 0, "an initial count of 0 stops it");
    if (!check(per_millisecond != 0 && per_millisecond < 100'000'000, "it counts")) {
        give_timer();
        return;
    }
    const auto count = static_cast<std::uint32_t>(per_millisecond);

    forget_interrupts();
    const std::uint64_t shot = time.now();
    set_timer(timer_mode::one_shot, timer_vector);
    local_apic::write(initial_count_offset, 3 * count);
    const bool came = wait_until([] { return taken(timer_vector) != 0; });
    const std::uint64_t after = time.now() - shot;
    check(came && after >= 2'500 * microsecond, "one-shot: 3 ms, and it comes after ",
          microseconds_of{after});
    pause_for(8 * millisecond);
    check_equal(taken(timer_vector), 1, "once");
    check_equal(local_apic::read(current_count_offset), 0, "and the count is 0");

    forget_interrupts();
    const std::uint64_t first = time.now();
    set_timer(timer_mode::periodic, timer_vector);
    local_apic::write(initial_count_offset, 2 * count);
    const bool often = wait_until([] { return taken(timer_vector) >= 5; });
    const std::uint64_t needed = time.now() - first;
    check(often && needed >= 7 * millisecond, "periodic: 2 ms, and five come in ",
          microseconds_of{needed});
    mask_timer(timer_mode::periodic);
    let_in();
    const std::uint32_t until_masked = taken(timer_vector);
    pause_for(8 * millisecond);
    check_equal(taken(timer_vector), until_masked, "masked, none comes");
    check(local_apic::read(current_count_offset) != 0, "while it still counts");
    local_apic::write(initial_count_offset, 0);

    if (!has_tsc_deadline()) {
        tell("this processor has no TSC-deadline mode");
        give_timer();
        return;
    }
    forget_interrupts();
    set_timer(timer_mode::tsc_deadline, timer_vector);
    asm volatile("mfence" : : : "memory"); // the entry before the MSR [sdm]
    local_apic::write(initial_count_offset, count);
    check_equal(local_apic::read(current_count_offset), 0,
                "TSC-deadline: the initial count does nothing");
    const std::uint64_t deadline = time_stamp() + clock::ticks_of(30 * millisecond);
    write_msr(tsc_deadline_msr, deadline);
    check_equal(read_msr(tsc_deadline_msr), deadline, "the deadline is what was written");
    const bool met = wait_until([] { return taken(timer_vector) != 0; });
    const std::uint64_t then = time_stamp();
    check(met && then >= deadline, "it comes at the deadline or after");
    check_equal(read_msr(tsc_deadline_msr), 0, "and the deadline is gone");
    forget_interrupts();
    write_msr(tsc_deadline_msr, time_stamp() + clock::ticks_of(3 * millisecond));
    write_msr(tsc_deadline_msr, 0);
    pause_for(8 * millisecond);
    check_equal(taken(timer_vector), 0, "0 disarms it");
    write_msr(tsc_deadline_msr, time_stamp() - 1);
    let_in();
    check(wait_until([] { return taken(timer_vector) == 1; }), "one that is over comes at once");
    mask_timer(timer_mode::one_shot);
    give_timer();
}

/// HLT with the timer as what wakes it.
void check_sleep() {
    clock time;
    const std::uint64_t begun = time.now();
    pause_for(5 * millisecond);
    check(time.now() - begun >= 5 * millisecond, "the processor sleeps and wakes up");
}

} // namespace

void tell_processor() {
    step("The processor");
    const kernel::cpuid_leaf vendor = kernel::cpuid(0);
    char text[13]{};
    const std::uint32_t words[3] = {vendor.b, vendor.d, vendor.c};
    for (unsigned i = 0; i != 12; ++i) {
        text[i] = static_cast<char>(words[i / 4] >> i % 4 * 8);
    }
    const kernel::cpuid_leaf version = kernel::cpuid(1);
    tell(static_cast<const char*>(text), ", signature ", version.a, ", ", decimal{physical_width()},
         " bits of physical address");
    tell(has_x2apic() ? "x2APIC" : "no x2APIC",
         has_tsc_deadline() ? ", TSC-deadline" : ", no TSC-deadline",
         has_hypervisor() ? ", says that it has a hypervisor" : "");
    tell("its time-stamp counter counts ", decimal{clock::ticks_per_millisecond()},
         " a millisecond");
    check(local_apic::base()[apic_base::bootstrap_processor], "it is the bootstrap processor");
}

void check_local_apic() {
    step(local_apic::is_x2apic() ? "The local APIC in x2APIC mode"
                                 : "The local APIC in xAPIC mode");
    check_registers();
    check_interprocessor_interrupts();
    check_timer();
    check_sleep();
}

void check_x2apic() {
    if (!has_x2apic()) {
        step("x2APIC mode");
        tell("this processor does not have it");
        return;
    }
    const apic_base before = local_apic::base();
    const std::uint32_t id = local_apic::id();
    write_msr(apic_base::msr, before.with(apic_base::mode(apic_mode::x2apic)).raw);
    local_apic::enable(spurious_vector);
    check_local_apic();
    check_equal(local_apic::id(), id, "its id is the same");
    check_equal(local_apic::read<x2apic_logical_destination>().raw,
                x2apic_logical_destination::of(id).raw, "and its logical id follows from it");
    check(is_protected(try_write_msr(apic_base::msr, before.raw)),
          "there is no way straight back to xAPIC mode");
    check(is_protected(try_write_msr(local_apic::msr_of(logical_destination::offset), 0)),
          "its logical id cannot be written");
    if (kernel::told("x2apic")) {
        tell("it stays in that mode");
        return;
    }
    write_msr(apic_base::msr, before.with(apic_base::mode(apic_mode::disabled)).raw);
    write_msr(apic_base::msr, before.raw);
    restore_interrupts();
    check_equal(local_apic::id(), id, "disabled and enabled anew it is in xAPIC mode again");
}

} // namespace guest
