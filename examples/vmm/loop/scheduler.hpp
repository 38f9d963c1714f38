// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../pc/interval_timer.hpp"
#include "../pc/run_end.hpp"
#include "../world.hpp"
#include "host_clock.hpp"
#include "virtual_pc.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm {

/// What a VMM does itself beside its guests: the least model. on_interrupt(vector): the host's own; or of
/// a line whose level_route is the VMM's. after_exit(pc): each exit of a guest has been handled; an
/// audit, for example.
struct no_hooks {
    void on_interrupt(std::uint8_t) {}
    template <class Pc>
    void after_exit(Pc&) {}
};

/// Runs guests in turn on one CPU, until the run of each has ended. One that halts gives its time to the
/// others; when all do, the CPU halts until an interrupt or the next timer. `Host` is the VMM's hooks, as
/// no_hooks has them.
template <class Pc, host_clock Clock, class Host = no_hooks>
class scheduler {
public:
    /// How long a guest runs at a time while others are ready.
    static constexpr std::uint64_t slice = 5'000'000;

    /// The guests outlive this.
    constexpr scheduler(Pc* const* guests, std::size_t count, Clock clock, Host host = {})
        : guests_{guests}, count_{count}, clock_{std::move(clock)}, host_{std::move(host)} {}

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
            bool all_sleep = true;
            for (std::size_t i = 0; i != count_; ++i) {
                if (has_ended(i) || guests_[i]->sleeps()) {
                    continue;
                }
                hooks of{*this, i};
                all_sleep =
                    guests_[i]->run(end_of_turn(i, limit), of) != progress::ready && all_sleep;
            }
            if (all_sleep && is_any_left()) {
                halt(limit);
            }
        }
    }

private:
    /// Of one guest: interrupts that are not its own are for the others, then for the VMM.
    struct hooks {
        scheduler& all;
        std::size_t running;

        /// Whether another guest has something to do now.
        bool on_interrupt(std::uint8_t vector) { return all.give(vector, running); }
        void after_exit(Pc& pc) { all.host_.after_exit(pc); }
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

    bool give(std::uint8_t vector, std::size_t except) {
        for (std::size_t i = 0; i != count_; ++i) {
            if (i != except && !has_ended(i) && guests_[i]->take_interrupt(vector)) {
                return true;
            }
        }
        host_.on_interrupt(vector);
        return false;
    }

    /// Until the others want something.
    std::uint64_t end_of_turn(std::size_t of, std::uint64_t limit) {
        std::uint64_t end = limit;
        const std::uint64_t now = clock_.now();
        for (std::size_t i = 0; i != count_; ++i) {
            if (i == of || has_ended(i)) {
                continue;
            }
            const std::uint64_t turn = now + slice;
            const std::uint64_t next = guests_[i]->sleeps() ? guests_[i]->next_deadline() : turn;
            // A timer that is always due may not take the whole of the other's time.
            const std::uint64_t at_least = now + slice / 50;
            const std::uint64_t then = next > at_least ? next : at_least;
            end = then < end ? then : end;
        }
        return end;
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
    Clock clock_;
    Host host_;
};

} // namespace vmm
