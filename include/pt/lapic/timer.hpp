// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/registers.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace pt::lapic {

/// Guest time, for the timer of a virtual local APIC. ticks(): the timer's input clock, before the
/// divider. tsc(): the guest's time-stamp counter. Both never go back while a guest runs.
template <class C>
concept timer_clock = policy<C> && requires(C& time) {
    { time.ticks() } -> std::same_as<std::uint64_t>;
    { time.tsc() } -> std::same_as<std::uint64_t>;
};

/// What a VMM grants a periodic timer, which may be programmed to fire without end. The defaults are
/// made for an input clock of 1 GHz.
struct timer_limits {
    /// In ticks of the input clock: interrupts of a periodic timer do not follow each other sooner. The
    /// ticks of a period that is shorter merge. 0: no limit.
    std::uint64_t minimum_period = 20'000;
    /// So many ticks of a period that is not shorter are made up for when they could not be delivered in
    /// time; the others merge. One is kept always, as IRR does.
    std::uint32_t most_owed_ticks = 1'000;

    friend constexpr bool operator==(const timer_limits&, const timer_limits&) = default;
};

/// A moment at which a VMM should look at a virtual processor again, by one of the two clocks.
struct deadline {
    enum class clock : std::uint8_t { none, ticks, tsc };
    clock of = clock::none;
    /// Absolute. By tsc: it has come once the clock shows this or more. By ticks, which may pass 2^64: once
    /// the clock minus this is below 2^63.
    std::uint64_t at = 0;

    friend constexpr bool operator==(const deadline&, const deadline&) = default;
};

/// How the timer's interrupt stands in the local APIC.
enum class timer_interrupt : std::uint8_t {
    deliverable, ///< neither of the others
    requested,   ///< its vector is in IRR: an earlier tick has not been taken yet
    masked,      ///< by its LVT entry: time goes on, and its ticks are gone
};

/// Everything that a timer is, as plain numbers. Ticks of the input clock are relative to the moment of
/// save(), so that a guest which continues later, or elsewhere, does so where it was.
struct timer_state {
    timer_mode mode = timer_mode::one_shot;
    std::uint8_t divide_shift = 1;      ///< the divider is 2 to this power, 0..7
    std::uint32_t initial_count = 0;    ///< 0 in TSC-deadline mode
    std::uint32_t owed = 0;             ///< ticks that came due and were not delivered yet
    std::uint64_t ticks_left = 0;       ///< until the count ends; 0: it does not run
    std::uint64_t ticks_since_last = 0; ///< since the last delivery, as far as the limits care
    std::uint64_t tsc_deadline = 0;     ///< absolute, as the guest wrote it; 0: not armed

    friend constexpr bool operator==(const timer_state&, const timer_state&) = default;
};

/// The timer of a local APIC [sdm, APIC Timer]: its registers and what came of them, without a clock of
/// its own and without an interrupt: the local APIC asks expired() whether to request one.
///
/// The n-th tick of a periodic count is due n * count * divider ticks of the input clock after its
/// start, however late anybody looks. Each is delivered once, as far as the limits go; those that
/// cannot be yet are owed. Owed ticks are dropped when the guest starts a new count, arms a new deadline,
/// masks the interrupt, or changes to or from TSC-deadline mode; of a count that becomes one-shot, or a short
/// period, one is kept.
class timer {
public:
    constexpr timer() = default;
    explicit constexpr timer(timer_limits limits) : limits_{limits} {}

    /// Power-up and INIT: one-shot, divided by 2, stopped. The limits stay.
    constexpr void reset() { *this = timer{limits_}; }

    /// The mode in the LVT entry. Between one-shot and periodic the count goes on, and a count that has
    /// ended stays so; any other change stops the timer, and count and deadline are 0. In the reserved
    /// mode, 3, nothing can be started.
    template <timer_clock C>
    constexpr void set_mode(C& clock, timer_mode to);

    /// DCR. The count that was reached stays, and is counted down by the new divider from now on.
    template <timer_clock C>
    constexpr void set_divide(C& clock, divide_configuration by);

    /// Starts a count; 0 stops it. Ignored in TSC-deadline mode.
    template <timer_clock C>
    constexpr void set_initial_count(C& clock, std::uint32_t count);

    /// IA32_TSC_DEADLINE; 0 disarms. A deadline that has passed expires at once. Ignored outside of
    /// TSC-deadline mode.
    constexpr void set_tsc_deadline(std::uint64_t tsc);

    [[nodiscard]] constexpr timer_mode mode() const { return mode_; }
    /// 0 in TSC-deadline mode.
    [[nodiscard]] constexpr std::uint32_t initial_count() const { return initial_count_; }
    /// CCR: 0 when the count has ended; count, count - 1, ..., 1, count, ... of a periodic one. 0 in
    /// TSC-deadline mode.
    template <timer_clock C>
    [[nodiscard]] constexpr std::uint32_t current_count(C& clock) const;
    /// IA32_TSC_DEADLINE: 0 when it is not armed, or expired() has found it passed.
    [[nodiscard]] constexpr std::uint64_t tsc_deadline() const { return tsc_deadline_; }
    /// Ticks that came due by the last look and were not delivered yet. Where the processor delivers
    /// interrupts by itself, make the EOI of the timer's vector exit as long as it is not 0.
    [[nodiscard]] constexpr std::uint32_t owed() const { return owed_; }

    /// Lets time come in. True: the timer's interrupt is to be requested now; never unless
    /// `deliverable`. Ask before each entry, at each access of the guest to its local APIC and when
    /// next() has come. Bounded work, however long ago the last look was.
    template <timer_clock C>
    [[nodiscard]] constexpr bool expired(C& clock, timer_interrupt stands) {
        if (!running_ && owed_ == 0 && tsc_deadline_ == 0) {
            return false;
        }
        return look(clock, stands);
    }

    /// When to ask expired() again at the latest; not before now. None while masked, or when nothing comes
    /// by time alone.
    template <timer_clock C>
    [[nodiscard]] constexpr deadline next(C& clock, timer_interrupt stands) const;

    /// The state at this moment. It goes on here all the same.
    template <timer_clock C>
    [[nodiscard]] constexpr timer_state save(C& clock);

    /// Goes on from a saved state. errc::malformed for one that no timer can have; nothing has changed.
    /// Owed ticks beyond the limits of this timer merge.
    template <timer_clock C>
    constexpr result<void> restore(C& clock, const timer_state& saved);

    friend constexpr bool operator==(const timer&, const timer&) = default;

private:
    static constexpr bool counts(timer_mode mode) {
        return mode == timer_mode::one_shot || mode == timer_mode::periodic;
    }
    /// Moments are compared by their difference, so that a clock may pass 2^64.
    static constexpr bool has_come(std::uint64_t moment, std::uint64_t now) {
        return (now - moment) >> 63 == 0;
    }
    /// From one moment to a later one; 0 if it is not later.
    static constexpr std::uint64_t elapsed(std::uint64_t from, std::uint64_t to) {
        return has_come(from, to) ? to - from : 0;
    }
    [[nodiscard]] constexpr std::uint64_t period() const {
        return std::uint64_t{initial_count_} << divide_shift_;
    }
    /// How many ticks are made up for, at most; owed_ is never more.
    [[nodiscard]] constexpr std::uint32_t most_owed() const {
        const bool all = mode_ == timer_mode::periodic && period() >= limits_.minimum_period;
        return all && limits_.most_owed_ticks > 1 ? limits_.most_owed_ticks : 1;
    }
    constexpr void merge_owed() { owed_ = owed_ < most_owed() ? owed_ : most_owed(); }
    /// How long the next interrupt is held back by the limits.
    [[nodiscard]] constexpr std::uint64_t held_back(std::uint64_t now) const {
        const std::uint64_t since = elapsed(last_, now);
        return mode_ == timer_mode::periodic && since < limits_.minimum_period
                   ? limits_.minimum_period - since
                   : 0;
    }
    constexpr void count_until(std::uint64_t now);
    [[nodiscard]] constexpr std::uint32_t current_count_at(std::uint64_t now) const;
    template <timer_clock C>
    constexpr bool look(C& clock, timer_interrupt stands);

    timer_limits limits_{};
    timer_mode mode_ = timer_mode::one_shot;
    std::uint8_t divide_shift_ = 1;
    bool running_ = false;
    std::uint32_t initial_count_ = 0;
    std::uint32_t owed_ = 0;
    std::uint64_t end_ = 0;  // ticks: of the count that runs
    std::uint64_t last_ = 0; // ticks: when the count was started, or an interrupt last requested
    std::uint64_t tsc_deadline_ = 0;
};

/// Ends what ended until `now`, and begins the next period.
constexpr void timer::count_until(std::uint64_t now) {
    if (!running_ || !has_come(end_, now)) {
        return;
    }
    std::uint64_t due = 1;
    if (mode_ == timer_mode::periodic) {
        const std::uint64_t late = now - end_;
        if (late >= period()) { // the division is for those who looked away
            due += late / period();
        }
        end_ += due * period();
    } else {
        running_ = false;
    }
    const std::uint32_t room = most_owed() - owed_;
    owed_ += due < room ? static_cast<std::uint32_t>(due) : room;
}

/// While it runs.
constexpr std::uint32_t timer::current_count_at(std::uint64_t now) const {
    std::uint64_t left = end_ - now;
    if (has_come(end_, now)) { // it has ended, and nobody has looked since
        if (mode_ != timer_mode::periodic) {
            return 0;
        }
        left = period() - (now - end_) % period();
    }
    const std::uint64_t count = (left + (std::uint64_t{1} << divide_shift_) - 1) >> divide_shift_;
    return count < initial_count_ ? static_cast<std::uint32_t>(count) : initial_count_;
}

template <timer_clock C>
constexpr void timer::set_mode(C& clock, timer_mode to) {
    if (to == mode_) {
        return;
    }
    if (counts(to) && counts(mode_)) {
        if (running_) {
            count_until(clock.ticks());
        }
        mode_ = to;
        merge_owed();
    } else {
        running_ = false;
        initial_count_ = 0;
        owed_ = 0;
        tsc_deadline_ = 0;
        mode_ = to;
    }
}

template <timer_clock C>
constexpr void timer::set_divide(C& clock, divide_configuration by) {
    // 000 is 2, 001 is 4, ..., 110 is 128, and 111 is 1.
    const unsigned value = by[divide_configuration::divide_value_high] * 4U +
                           by[divide_configuration::divide_value_low];
    const auto shift = static_cast<std::uint8_t>((value + 1) % 8);
    if (running_ && shift != divide_shift_) {
        const std::uint64_t now = clock.ticks();
        count_until(now);
        const std::uint64_t count = current_count_at(now);
        end_ = now + (count << shift);
    }
    divide_shift_ = shift;
    merge_owed(); // the period may be a short one now
}

template <timer_clock C>
constexpr void timer::set_initial_count(C& clock, std::uint32_t count) {
    if (!counts(mode_)) {
        return;
    }
    initial_count_ = count;
    owed_ = 0;
    running_ = count != 0;
    if (running_) {
        last_ = clock.ticks();
        end_ = last_ + period();
    }
}

constexpr void timer::set_tsc_deadline(std::uint64_t tsc) {
    if (mode_ == timer_mode::tsc_deadline) {
        tsc_deadline_ = tsc;
        owed_ = 0;
    }
}

template <timer_clock C>
constexpr std::uint32_t timer::current_count(C& clock) const {
    return running_ ? current_count_at(clock.ticks()) : 0;
}

template <timer_clock C>
constexpr bool timer::look(C& clock, timer_interrupt stands) {
    std::uint64_t now = 0;
    if (mode_ == timer_mode::tsc_deadline) {
        if (tsc_deadline_ != 0 && clock.tsc() >= tsc_deadline_) {
            tsc_deadline_ = 0;
            owed_ = 1;
        }
    } else {
        now = clock.ticks();
        count_until(now);
    }
    if (stands == timer_interrupt::masked) {
        owed_ = 0;
    }
    if (stands != timer_interrupt::deliverable || owed_ == 0 || held_back(now) != 0) {
        return false;
    }
    --owed_;
    last_ = now;
    return true;
}

template <timer_clock C>
constexpr deadline timer::next(C& clock, timer_interrupt stands) const {
    using of = deadline::clock;
    const bool wants_delivery = owed_ != 0 && stands == timer_interrupt::deliverable;
    if (stands == timer_interrupt::masked || !(wants_delivery || running_ || tsc_deadline_ != 0)) {
        return {};
    }
    // Time alone can add nothing to what waits for the vector to leave IRR.
    if (stands == timer_interrupt::requested && owed_ >= most_owed()) {
        return {};
    }
    if (tsc_deadline_ != 0 && !wants_delivery) {
        return {of::tsc, tsc_deadline_};
    }
    const std::uint64_t now = clock.ticks();
    std::uint64_t wait = held_back(now);
    if (!wants_delivery && elapsed(now, end_) > wait) {
        wait = elapsed(now, end_);
    }
    constexpr std::uint64_t longest = ~std::uint64_t{0} >> 1; // a limit may be anything
    return {of::ticks, now + (wait < longest ? wait : longest)};
}

template <timer_clock C>
constexpr timer_state timer::save(C& clock) {
    const bool counting = counts(mode_) && (running_ || owed_ != 0);
    const std::uint64_t now = counting ? clock.ticks() : 0;
    count_until(now);
    const std::uint64_t since = elapsed(last_, now);
    const std::uint64_t minimum = limits_.minimum_period;
    return {
        .mode = mode_,
        .divide_shift = divide_shift_,
        .initial_count = initial_count_,
        .owed = owed_,
        .ticks_left = !running_               ? 0
                      : end_ - now < period() ? end_ - now
                                              : period(),
        .ticks_since_last = !counting         ? 0
                            : since < minimum ? since
                                              : minimum,
        .tsc_deadline = tsc_deadline_,
    };
}

template <timer_clock C>
constexpr result<void> timer::restore(C& clock, const timer_state& saved) {
    const auto mode = static_cast<std::uint8_t>(saved.mode);
    if (mode > 3 || saved.divide_shift > 7) {
        return error{errc::malformed, mode > 3 ? mode : saved.divide_shift};
    }
    const std::uint64_t count = std::uint64_t{saved.initial_count} << saved.divide_shift;
    if (!counts(saved.mode) && (saved.initial_count != 0 || saved.ticks_left != 0)) {
        return error{errc::malformed, saved.ticks_left};
    }
    if (saved.ticks_left > count) {
        return error{errc::malformed, saved.ticks_left};
    }
    if (saved.mode != timer_mode::tsc_deadline && saved.tsc_deadline != 0) {
        return error{errc::malformed, saved.tsc_deadline};
    }
    if (mode == 3 && saved.owed != 0) {
        return error{errc::malformed, saved.owed};
    }
    const std::uint64_t now = counts(saved.mode) ? clock.ticks() : 0;
    const std::uint64_t minimum = limits_.minimum_period;
    mode_ = saved.mode;
    divide_shift_ = saved.divide_shift;
    initial_count_ = saved.initial_count;
    running_ = saved.ticks_left != 0;
    end_ = now + saved.ticks_left;
    last_ = now - (saved.ticks_since_last < minimum ? saved.ticks_since_last : minimum);
    owed_ = saved.owed;
    merge_owed();
    tsc_deadline_ = saved.tsc_deadline;
    return {};
}

} // namespace pt::lapic
