// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../pc/interval_timer.hpp"
#include "../pc/run_end.hpp"
#include "../world.hpp"
#include "host_clock.hpp"
#include "virtual_pc.hpp"

#include "pt/core/contract.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm {

/// What a VMM does itself beside its guests. on_interrupt(vector): the host's own; or of a line whose
/// level_route is the VMM's. after_exit(guest): an exit of that guest, by its place in the list, has been
/// handled; an audit, for example.
template <class H>
concept scheduler_hooks = requires(H& host, std::uint8_t vector, std::size_t guest) {
    { host.on_interrupt(vector) } -> std::same_as<void>;
    { host.after_exit(guest) } -> std::same_as<void>;
};

/// The least model.
struct no_hooks {
    void on_interrupt(std::uint8_t) {}
    void after_exit(std::size_t) {}
};

/// Runs guests in turn on one CPU, until the run of each has ended. One that halts gives its time to the
/// others; when all do, the CPU halts until an interrupt or the next timer.
///
/// All that are ready get the same time, however they try to get more: whoever had least is next. One that
/// a timer or an interrupt wakes is served at once, unless it had more than the one that runs; and whose
/// exits take long waits for as long afterwards.
template <class Pc, host_clock Clock, scheduler_hooks Host = no_hooks>
class scheduler {
public:
    /// How long a guest runs at a time while others are ready.
    static constexpr std::uint64_t slice = 5'000'000;
    static constexpr std::size_t most_guests = 8;

    /// The guests outlive this.
    constexpr scheduler(Pc* const* guests, std::size_t count, Clock clock, Host host = {})
        : guests_{guests}, count_{count}, clock_{std::move(clock)}, host_{std::move(host)} {
        pt::expects(count <= most_guests, "there are more guests than a scheduler takes");
    }

    /// Until all have ended, or `nanoseconds` have passed: those that have not ended then, end by
    /// run_end::time_limit.
    void run(std::uint64_t nanoseconds) {
        const std::uint64_t start = clock_.now();
        const std::uint64_t limit =
            nanoseconds > pc::never - start ? pc::never : start + nanoseconds;
        while (is_any_left()) {
            if (clock_.now() >= limit) {
                for (std::size_t i = 0; i != count_; ++i) {
                    guests_[i]->stop(pc::run_end::time_limit);
                }
                return;
            }
            const std::size_t next = next_to_run();
            if (next != count_) {
                run_turn(next, limit);
            } else if (is_any_left()) {
                halt(limit);
            }
        }
    }

private:
    /// Of one guest: interrupts that are not its own are for the others, then for the VMM.
    struct hooks {
        scheduler& all;
        std::size_t running;

        bool pass_on(std::uint8_t vector) { return all.give(vector, running); }
        void after_exit() { all.host_.after_exit(running); }
    };

    bool has_ended(std::size_t i) const { return guests_[i]->end() != pc::run_end::none; }
    bool is_any_left() const {
        for (std::size_t i = 0; i != count_; ++i) {
            if (!has_ended(i)) {
                return true;
            }
        }
        return false;
    }

    /// The one that had least of those that are ready; count_: all sleep.
    std::size_t next_to_run() {
        std::size_t next = count_;
        for (std::size_t i = 0; i != count_; ++i) {
            if (!has_ended(i) && !guests_[i]->sleeps() &&
                (next == count_ || had_[i] < had_[next])) {
                next = i;
            }
        }
        return next;
    }
    void run_turn(std::size_t of, std::uint64_t limit) {
        const std::uint64_t begun = clock_.now();
        bool slept[most_guests];
        for (std::size_t i = 0; i != count_; ++i) {
            slept[i] = guests_[i]->sleeps();
        }
        hooks around{*this, of};
        static_cast<void>(guests_[of]->run(end_of_turn(of, begun, limit), around));
        had_[of] += clock_.now() - begun;
        for (std::size_t i = 0; i != count_; ++i) { // who slept saves up no more than a slice
            if (slept[i] && had_[i] + slice < had_[of]) {
                had_[i] = had_[of] - slice;
            }
        }
    }
    /// When it is somebody else's turn.
    std::uint64_t end_of_turn(std::size_t of, std::uint64_t now, std::uint64_t limit) {
        std::uint64_t end = limit;
        for (std::size_t i = 0; i != count_; ++i) {
            if (i == of || has_ended(i)) {
                continue;
            }
            const std::uint64_t lead = had_[i] > had_[of] ? had_[i] - had_[of] : 0;
            std::uint64_t then = now + lead + slice;
            if (guests_[i]->sleeps()) { // never so soon that nobody gets anywhere
                const std::uint64_t at_least = now + (lead > slice / 50 ? lead : slice / 50);
                const std::uint64_t deadline = guests_[i]->next_deadline();
                then = deadline > at_least ? deadline : at_least;
            }
            end = then < end ? then : end;
        }
        return end;
    }
    /// Whether the turn of the one that runs is over, because another one has woken up. count_: nobody
    /// runs.
    bool give(std::uint8_t vector, std::size_t running) {
        for (std::size_t i = 0; i != count_; ++i) {
            if (i == running || has_ended(i)) {
                continue;
            }
            const bool slept = guests_[i]->sleeps();
            if (guests_[i]->take_interrupt(vector)) {
                return slept && !guests_[i]->sleeps(); // it may not be able to take it
            }
        }
        host_.on_interrupt(vector);
        return false;
    }

    void halt(std::uint64_t limit) {
        std::uint64_t next = limit;
        Pc* any = nullptr;
        for (std::size_t i = 0; i != count_; ++i) {
            if (!has_ended(i)) {
                any = guests_[i];
                if (!any->sleeps()) {
                    return; // something came meanwhile
                }
                const std::uint64_t deadline = any->next_deadline();
                next = deadline < next ? deadline : next;
            }
        }
        const std::uint64_t now = clock_.now();
        if (any == nullptr || next <= now) {
            return;
        }
        const vm_exit exit = any->virtual_processor().halt(next - now);
        if (exit.kind == exit_kind::external_interrupt) {
            static_cast<void>(give(exit.vector, count_));
            any->virtual_processor().end_interrupt();
        }
    }

    Pc* const* guests_;
    std::size_t count_;
    std::uint64_t had_[most_guests]{}; ///< nanoseconds
    Clock clock_;
    Host host_;
};

} // namespace vmm
