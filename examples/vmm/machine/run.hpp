// SPDX-License-Identifier: BSL-1.0
//
// The run of a freestanding VMM, once its guests stand: the loop, the audits, the end.
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/command_line.hpp"
#include "../../kernel/end.hpp"
#include "../loop/scheduler.hpp"
#include "../pc/run_end.hpp"
#include "auditor.hpp"
#include "guest_pc.hpp"
#include "log.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// What the words of the command line ask for:
///
///     timeout=SECONDS         of the machine's time; 60
///     guests=N                how many; 1
///     memory=MIB              of each; 64
///     audit=each-step|never   each-step
///     story                   the log becomes one
struct run_options {
    std::uint64_t seconds = 60;
    std::size_t guests = 1;
    std::uint64_t memory = 64 * pt::MiB;
    audit_time audits = audit_time::each_step;
};
/// The run ends where the words make no sense.
run_options options_told(std::size_t most_guests);

/// What an event of the host's is to the VMM: the least model. on_interrupt(vector): an interrupt that is
/// of no guest. after_exit(guest): after an exit of that guest, by its number, and before the audit.
struct no_host_events {
    void on_interrupt(std::uint8_t vector) {
        say("an interrupt for nobody: vector ", std::uint64_t{vector});
    }
    void after_exit(unsigned) {}
};

/// The hooks of the scheduler: by reference, what the VMM does itself.
template <class Pc, class Audit, class Events>
struct run_hooks {
    Pc* const* guests;
    std::size_t count;
    Audit* audit;
    Events* events;

    void on_interrupt(std::uint8_t vector) { events->on_interrupt(vector); }
    void after_exit(Pc& of) {
        unsigned number = 0;
        while (guests[number] != &of) {
            ++number;
        }
        events->after_exit(number);
        if (!audit->after_step()) {
            for (std::size_t i = 0; i != count; ++i) {
                guests[i]->stop(pc::run_end::failed);
            }
        }
    }
};

/// Runs the guests to their ends, and says how they came to them.
template <class V, class Audit, class Events>
void run_guests(guest_pc<V>* const* guests, std::size_t count, std::uint64_t seconds, Audit& audit,
                Events& events) {
    using pc_type = typename guest_pc<V>::pc_type;
    pc_type* pcs[Audit::most_guests]{};
    for (std::size_t i = 0; i != count; ++i) {
        pcs[i] = &guests[i]->pc();
    }
    using hooks = run_hooks<pc_type, Audit, Events>;
    scheduler<pc_type, kernel::clock, hooks> all{pcs, count, kernel::clock{},
                                                 hooks{pcs, count, &audit, &events}};
    constexpr std::uint64_t second = 1'000'000'000;
    all.run(seconds * second);
    for (std::size_t i = 0; i != count; ++i) {
        pc_type& each = *pcs[i];
        guests[i]->flush();
        const guest_events& events_of = guests[i]->events();
        say("guest ", decimal{i}, " ", pc::explain(each.end()), ", after ", decimal{each.exits()},
            " exits, ", decimal{events_of.changes}, " changes, and ", decimal{events_of.rejections},
            " rejections");
        if (each.end() != pc::run_end::exit_port) {
            each.dump([](const auto&... parts) { say(parts...); });
        }
    }
}

/// Says how often was audited, and gives whether nothing was found.
template <class Audit>
bool tell_audits(const Audit& audit) {
    say("audited ", decimal{audit.audits()}, " times, ", decimal{audit.findings()},
        " findings; the last time ", decimal{audit.last().tables}, " tables, of ",
        decimal{audit.last().leaves}, " pages, ports, functions and interrupts");
    return audit.findings() == 0;
}

/// The last line of the log, and the end of the machine: by the first guest that went wrong, or by the
/// first one; or by what the VMM has to say against the run (null: nothing).
template <class V>
[[noreturn]] void end_run(guest_pc<V>* const* guests, std::size_t count, const char* defect) {
    if (defect != nullptr) {
        give_up(defect);
    }
    std::size_t decides = 0;
    for (std::size_t i = count; i-- != 0;) {
        auto& each = guests[i]->pc();
        if (each.end() != pc::run_end::exit_port ||
            each.exit_code() != guests[0]->pc().exit_code()) {
            decides = i;
        }
    }
    auto& pc = guests[decides]->pc();
    if (pc.end() == pc::run_end::exit_port) {
        say("end of run: status ", std::uint64_t{pc.exit_code()});
        kernel::end(pc.exit_code());
    }
    if (pc.end() == pc::run_end::time_limit) {
        give_up("time limit");
    }
    say("end of run: guest ", decimal{decides}, " ", pc::explain(pc.end()));
    kernel::end(kernel::run_failed);
}

} // namespace vmm
