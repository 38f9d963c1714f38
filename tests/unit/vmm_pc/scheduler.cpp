// SPDX-License-Identifier: BSL-1.0
//
// Two guests of which one wants all the time there is. The guests are played: what they do with their time is said here,
// and an interrupt takes none.
#include "../../../examples/vmm/loop/scheduler.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

constexpr std::uint64_t microsecond = 1'000;
constexpr std::uint64_t millisecond = 1'000'000;
constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint8_t nic_vector = 0x50;

std::uint64_t time_now = 0;

struct played_clock {
    std::uint64_t now() { return time_now; }
    std::uint64_t tsc() { return time_now; }
    std::uint32_t tsc_kilohertz() { return 1'000'000; }
};

struct played_guest {
    // What it does.
    std::uint64_t interrupt_every = 0; ///< of its NIC, whoever runs; 0: never
    std::uint64_t exit_takes = 0;      ///< each time it runs, first
    std::uint64_t runs_for = 0;        ///< and then sleeps; 0: it does not
    std::uint64_t sleeps_for = vmm::pc::never;
    bool wakes = true; ///< by an interrupt

    std::uint64_t had = 0;
    unsigned turns = 0;
    std::uint64_t wakes_at = 0; ///< it sleeps until then
    std::uint64_t next_interrupt = 0;
    const played_guest* nic_owner = nullptr;
    vmm::pc::run_end ended = vmm::pc::run_end::none;

    vmm::pc::run_end end() const { return ended; }
    void stop(vmm::pc::run_end how) { ended = how; }
    bool sleeps() const { return wakes_at > time_now; }
    std::uint64_t next_deadline() const { return wakes_at; }
    bool take_interrupt(std::uint8_t vector) {
        if (vector != nic_vector || interrupt_every == 0) {
            return false;
        }
        wakes_at = wakes ? 0 : wakes_at;
        return true;
    }
    played_guest& virtual_processor() { return *this; }
    vmm::vm_exit halt(std::uint64_t nanoseconds) {
        time_now += nanoseconds;
        return {.kind = vmm::exit_kind::preempted};
    }
    void end_interrupt() {}

    template <class Hooks>
    vmm::progress run(std::uint64_t until, Hooks& hooks) {
        const std::uint64_t begun = time_now;
        ++turns;
        time_now += exit_takes;
        const std::uint64_t sleep = runs_for != 0 ? time_now + runs_for : vmm::pc::never;
        const std::uint64_t every = nic_owner->interrupt_every;
        const auto leave = [&](vmm::progress how) {
            had += time_now - begun;
            return how;
        };
        while (time_now < until) {
            const std::uint64_t interrupt =
                every != 0 ? (time_now / every + 1) * every : vmm::pc::never;
            std::uint64_t to = until < interrupt ? until : interrupt;
            to = sleep < to ? sleep : to;
            time_now = to > time_now ? to : time_now;
            if (time_now == interrupt && !take_interrupt(nic_vector) && hooks.pass_on(nic_vector)) {
                return leave(vmm::progress::ready);
            }
            if (time_now >= sleep) {
                wakes_at = sleeps_for == vmm::pc::never ? sleeps_for : time_now + sleeps_for;
                return leave(vmm::progress::halts);
            }
        }
        return leave(vmm::progress::ready);
    }
};

/// What of a second's hundredths a guest that only computes has beside `hog`.
std::uint64_t share_beside(played_guest hog) {
    time_now = 17;
    played_guest other{};
    hog.nic_owner = other.nic_owner = &hog;
    played_guest* both[] = {&hog, &other};
    vmm::scheduler<played_guest, played_clock>{both, 2, played_clock{}}.run(second);
    return other.had / (second / 100);
}

} // namespace

TEST_CASE("who computes has half of the time, whatever the other one does for more",
          "[vmm_pc][scheduler][hostile]") {
    CHECK(share_beside({}) >= 49);
    for (const std::uint64_t every :
         {millisecond, 100 * microsecond, 20 * microsecond, microsecond}) {
        CAPTURE(every);
        // It computes, too, and its NIC interrupts.
        CHECK(share_beside({.interrupt_every = every}) >= 49);
        // It sleeps for a moment just before each interrupt.
        CHECK(share_beside({.interrupt_every = every, .runs_for = every - every / 10}) >= 49);
        // It sets its timer and sleeps.
        CHECK(share_beside({.runs_for = every, .sleeps_for = 1}) >= 49);
    }
    // Each time it runs, it does something that cannot be interrupted.
    CHECK(share_beside({.exit_takes = 30 * millisecond}) >= 45);
    CHECK(share_beside({.exit_takes = 30 * millisecond, .runs_for = 1, .sleeps_for = 1}) >= 45);
}

TEST_CASE("who slept for long has no claim to the time", "[vmm_pc][scheduler]") {
    time_now = 0;
    played_guest busy{};
    played_guest late{.wakes_at = second / 2};
    busy.nic_owner = late.nic_owner = &busy;
    played_guest* both[] = {&busy, &late};
    vmm::scheduler<played_guest, played_clock>{both, 2, played_clock{}}.run(second);
    CHECK(late.had > 245 * millisecond);
    CHECK(late.had < 260 * millisecond); // half of the rest, and a slice
}

TEST_CASE("who cannot take an interrupt ends nobody's turn", "[vmm_pc][scheduler][hostile]") {
    time_now = 0;
    played_guest busy{};
    played_guest deaf{.interrupt_every = 100 * microsecond, .wakes = false};
    deaf.wakes_at = vmm::pc::never;
    busy.nic_owner = deaf.nic_owner = &deaf;
    played_guest* both[] = {&busy, &deaf};
    vmm::scheduler<played_guest, played_clock>{both, 2, played_clock{}}.run(second);
    CHECK(busy.turns == 1);
}

TEST_CASE("who sleeps most of the time is served at once", "[vmm_pc][scheduler]") {
    // Ten microseconds of work for each interrupt: nobody is held up, and nothing is lost.
    time_now = 0;
    played_guest busy{};
    played_guest prompt{.interrupt_every = millisecond, .runs_for = 10 * microsecond};
    busy.nic_owner = prompt.nic_owner = &prompt;
    prompt.wakes_at = vmm::pc::never;
    played_guest* both[] = {&busy, &prompt};
    vmm::scheduler<played_guest, played_clock>{both, 2, played_clock{}}.run(second);
    CHECK(prompt.had >= 998 * 10 * microsecond);
    CHECK(prompt.had <= 1000 * 10 * microsecond);
    CHECK(prompt.had + busy.had == second);
}
