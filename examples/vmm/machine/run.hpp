// SPDX-License-Identifier: BSL-1.0
//
// The run of a freestanding VMM, once its guests stand: the loop, the audits, the end.
#pragma once

#include "../../kernel/clock.hpp"
#include "../../kernel/command_line.hpp"
#include "../../kernel/end.hpp"
#include "../loop/scheduler.hpp"
#include "../loop/verdict.hpp"
#include "../pc/run_end.hpp"
#include "auditor.hpp"
#include "guest_pc.hpp"
#include "log.hpp"
#include "static_vector.hpp"

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

/// What the VMM does itself, by reference, and the audit after it.
template <class Pc, class Audit, scheduler_hooks Events>
struct audited {
    Pc* const* guests;
    std::size_t count;
    Audit* audit;
    Events* events;

    void on_interrupt(std::uint8_t vector) { events->on_interrupt(vector); }
    void after_exit(std::size_t guest) {
        events->after_exit(guest);
        if (!audit->after_step()) {
            for (std::size_t i = 0; i != count; ++i) {
                guests[i]->stop(pc::run_end::failed);
            }
        }
    }
};

/// Runs the guests to their ends, and says how they came to them.
template <class V, std::size_t Most, class Audit, scheduler_hooks Events>
void run_guests(static_vector<guest_pc<V>, Most>& guests, std::uint64_t seconds, Audit& audit,
                Events& events) {
    using pc_type = typename guest_pc<V>::pc_type;
    const std::size_t count = guests.count();
    pc_type* pcs[Most]{};
    for (std::size_t i = 0; i != count; ++i) {
        pcs[i] = &guests[i].pc();
    }
    using hooks = audited<pc_type, Audit, Events>;
    scheduler<pc_type, kernel::clock, hooks> all{pcs, count, kernel::clock{},
                                                 hooks{pcs, count, &audit, &events}};
    constexpr std::uint64_t second = 1'000'000'000;
    all.run(seconds * second);
    for (std::size_t i = 0; i != count; ++i) {
        pc_type& each = *pcs[i];
        guests[i].flush();
        const guest_events& events_of = guests[i].events();
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

/// The last line of the log, and the end of the machine: by verdict(), or by what the VMM has to say
/// against the run (null: nothing).
template <class V, std::size_t Most>
[[noreturn]] void end_run(static_vector<guest_pc<V>, Most>& guests, const char* defect) {
    if (defect != nullptr) {
        give_up(defect);
    }
    auto& pc = verdict(
        guests.count(), [&](std::size_t i) -> auto& { return guests[i].pc(); },
        [](const auto&... parts) { say(parts...); });
    kernel::end(pc.end() == pc::run_end::exit_port ? pc.exit_code() : kernel::run_failed);
}

} // namespace vmm
