// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace lapic_model {

/// The timer of a local APIC [sdm, APIC Timer], as a counter that is really counted down: a divider
/// that swallows input ticks, and a count behind it. It knows the interval since the last step and
/// no absolute time, other than of the TSC that is compared with the deadline.
struct timer {
    enum class mode { one_shot, periodic, tsc_deadline, reserved };

    mode how = mode::one_shot;
    std::uint32_t divide_register = 0;
    std::uint32_t initial = 0;
    std::uint32_t count = 0;
    std::uint64_t divider_left = 2; ///< input ticks to the next decrement
    std::uint64_t deadline = 0;     ///< IA32_TSC_DEADLINE; 0: not armed

    /// [sdm, Divide Configuration Register]: bits 3, 1 and 0; 111 divides by 1, 000 by 2.
    [[nodiscard]] static std::uint64_t divisor(std::uint32_t dcr) {
        const unsigned code = (dcr & 3) + (dcr >> 3 & 1) * 4;
        const std::uint64_t table[8] = {2, 4, 8, 16, 32, 64, 128, 1};
        return table[code];
    }
    [[nodiscard]] std::uint64_t divisor() const { return divisor(divide_register); }

    void write_divide(std::uint32_t dcr) {
        if (divisor(dcr) != divisor()) {
            divider_left = divisor(dcr);
        }
        divide_register = dcr & 0xB;
    }
    /// Whether it is the count that runs: in the other modes the initial count cannot be written.
    [[nodiscard]] static bool counts(mode in) {
        return in == mode::one_shot || in == mode::periodic;
    }
    /// 0 stops the timer.
    void write_initial(std::uint32_t value) {
        if (!counts(how)) {
            return;
        }
        initial = value;
        count = value;
        divider_left = divisor();
    }
    /// The current-count register reads 0 in TSC-deadline mode.
    [[nodiscard]] std::uint32_t current() const { return counts(how) ? count : 0; }

    /// "Transitioning between TSC-deadline mode and other timer modes disarms the timer"; between
    /// the other two nothing starts again.
    void set_mode(mode next) {
        if (next != how && !(counts(next) && counts(how))) {
            count = 0;
            initial = 0;
            deadline = 0;
        }
        how = next;
    }
    /// The MSR is ignored, and reads 0, in the other modes.
    void write_deadline(std::uint64_t value) {
        if (how == mode::tsc_deadline) {
            deadline = value;
        }
    }
    /// Whether the deadline has come: it fires once and is 0 then.
    bool deadline_comes(std::uint64_t tsc) {
        if (how != mode::tsc_deadline || deadline == 0 || tsc < deadline) {
            return false;
        }
        deadline = 0;
        return true;
    }

    /// Input ticks until the count next reaches 0; 0: it never does.
    [[nodiscard]] std::uint64_t left() const {
        if (!counts(how) || count == 0) {
            return 0;
        }
        return divider_left + (std::uint64_t{count} - 1) * divisor();
    }
    /// Counts for so many input ticks, at most to the next time that the count reaches 0. Returns
    /// whether it did.
    bool count_down(std::uint64_t ticks) {
        const std::uint64_t all = left();
        if (all == 0) {
            return false;
        }
        if (ticks == all) {
            count = how == mode::periodic ? initial : 0;
            divider_left = divisor();
            return true;
        }
        while (ticks >= divider_left && ticks < 4 * divisor()) { // one by one, near the end
            ticks -= divider_left;
            divider_left = divisor();
            --count;
        }
        if (ticks >= divider_left) {
            ticks -= divider_left;
            count -= static_cast<std::uint32_t>(1 + ticks / divisor());
            ticks %= divisor();
            divider_left = divisor();
        }
        divider_left -= ticks;
        return false;
    }
    /// Input ticks from one end of the count to the next.
    [[nodiscard]] std::uint64_t period() const { return initial * divisor(); }
};

} // namespace lapic_model
