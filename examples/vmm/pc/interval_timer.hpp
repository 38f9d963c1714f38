// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/lapic/local_wire.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// No deadline: a moment that does not come.
inline constexpr std::uint64_t never = ~std::uint64_t{0};

/// The 8254 of a PC [8254]: three counters of 16 bits at ports 0x40..0x42, the control word at 0x43,
/// and system control port B at 0x61, which has the gate and the output of counter 2. Counter 0 is
/// IRQ 0.
///
/// Nothing runs: what a counter holds follows from the time that has passed since it was loaded. All
/// six modes count; the modes that a gate triggers are of use for counter 2 only, since the gates of
/// the others are tied high.
template <pt::clock Clock>
class interval_timer {
public:
    /// Of the input clock, in Hz.
    static constexpr std::uint64_t frequency = 1'193'182;

    explicit constexpr interval_timer(Clock clock) : clock_{std::move(clock)} {}

    /// Port 0x40 + number, of which the low two bits count. The control word reads as nothing.
    constexpr std::uint8_t read(std::uint16_t number) {
        number &= 3U;
        return number == 3 ? std::uint8_t{0xFF} : counters_[number].read(now());
    }

    constexpr void write(std::uint16_t number, std::uint8_t value) {
        number &= 3U;
        if (number != 3) {
            counters_[number].write(value, now());
            return;
        }
        const unsigned select = value >> 6U;
        if (select != 3) {
            counters_[select].control(value & 0x3FU, now());
            return;
        }
        for (unsigned i = 0; i != 3; ++i) { // read-back command
            if ((value >> (i + 1) & 1U) == 0) {
                continue;
            }
            if ((value & 0x20U) == 0) { // active low
                counters_[i].latch_count(now());
            }
            if ((value & 0x10U) == 0) {
                counters_[i].latch_status(now());
            }
        }
    }

    /// Port 0x61. Bit 0 is the gate of counter 2 and bit 1 the speaker's switch; bit 4 toggles as
    /// memory is refreshed, every 15 microseconds; bit 5 is the output of counter 2.
    constexpr std::uint8_t read_control() {
        const unsigned refresh = static_cast<unsigned>(now() / 18) & 1U;
        return static_cast<std::uint8_t>(control_ | refresh << 4U |
                                         (counters_[2].output(now()) ? 0x20U : 0U));
    }
    constexpr void write_control(std::uint8_t value) {
        control_ = value & 3U;
        counters_[2].set_gate((value & 1U) != 0 ? level::asserted : level::deasserted, now());
    }

    /// Whether IRQ 0 has risen since this was last asked; several times count as one, as in a
    /// controller that was not served.
    [[nodiscard]] constexpr bool take_tick() { return counters_[0].take_edges(now()); }

    /// When IRQ 0 rises next, in nanoseconds of the clock; or `never`.
    [[nodiscard]] constexpr std::uint64_t next_tick() {
        const std::uint64_t tick = counters_[0].next_edge(now());
        return tick == never ? never : nanoseconds(tick);
    }

private:
    using level = pt::lapic::wire_level;
    static constexpr std::uint64_t second = 1'000'000'000;

    /// Input clocks since time 0, without a product of more than 64 bits.
    constexpr std::uint64_t now() {
        const std::uint64_t time = clock_.now();
        return time / second * frequency + time % second * frequency / second;
    }
    /// The first nanosecond in which now() is `tick`.
    static constexpr std::uint64_t nanoseconds(std::uint64_t tick) {
        const std::uint64_t rest = tick % frequency * second;
        return tick / frequency * second + (rest + frequency - 1) / frequency;
    }

    /// One counter. Times are in input clocks; `start` is when it began to count down from `count`.
    struct counter {
        enum class mode : std::uint8_t {
            interrupt_on_terminal_count,
            retriggerable_one_shot,
            rate_generator,
            square_wave,
            software_strobe,
            hardware_strobe,
        };

        std::uint64_t start = 0;
        std::uint64_t stopped = 0; ///< how far it had counted when the gate went low
        std::uint64_t edges = 0;   ///< of the output, before `start`
        std::uint64_t edges_taken = 0;
        std::uint32_t count = 0x10000;
        std::uint32_t next_count = 0; ///< for the next period or trigger; 0: none
        std::uint64_t next_start = 0; ///< of the period that next_count is for
        std::uint16_t latched = 0;
        mode how = mode::square_wave;
        std::uint8_t access = 3; ///< 1: low byte, 2: high byte, 3: low, then high
        std::uint8_t low = 0;    ///< written, while the high byte is not
        std::uint8_t status = 0;
        bool decimal = false;
        bool loaded = true; ///< a count has been written since the control word
        bool gate = true;
        bool triggered = false;   ///< the gate has risen since the count was written
        bool writes_high = false; ///< the next byte written, or read, is the high one
        bool reads_high = false;
        bool has_latched = false;
        bool has_status = false;

        constexpr bool is_periodic() const {
            return how == mode::rate_generator || how == mode::square_wave;
        }
        constexpr bool waits_for_gate() const {
            return how == mode::retriggerable_one_shot || how == mode::hardware_strobe;
        }
        constexpr bool is_counting() const {
            return loaded && (waits_for_gate() ? triggered : gate);
        }

        constexpr std::uint64_t elapsed(std::uint64_t now) const {
            if (!loaded || (waits_for_gate() && !triggered)) {
                return 0;
            }
            if (!gate && !waits_for_gate()) {
                return stopped;
            }
            return now < start ? 0 : now - start;
        }

        /// A count that was written while another one runs in a periodic mode follows it.
        constexpr void advance(std::uint64_t now) {
            if (next_count == 0 || !is_periodic()) {
                return;
            }
            if (now >= next_start) {
                edges += (next_start - start) / count;
                start = next_start;
                count = next_count;
                next_count = 0;
            }
        }

        constexpr bool output(std::uint64_t now) {
            advance(now);
            const std::uint64_t passed = elapsed(now);
            switch (how) {
            case mode::interrupt_on_terminal_count: return loaded && passed >= count;
            case mode::retriggerable_one_shot: return !triggered || passed >= count;
            case mode::rate_generator: return !is_counting() || passed % count != count - 1;
            case mode::square_wave: return !is_counting() || passed % count < (count + 1) / 2;
            case mode::software_strobe: return !loaded || passed != count;
            case mode::hardware_strobe: return !triggered || passed != count;
            }
            return true;
        }

        constexpr std::uint16_t value(std::uint64_t now) {
            advance(now);
            const std::uint64_t passed = elapsed(now);
            const std::uint64_t modulus = decimal ? 10'000 : 0x10000;
            std::uint64_t left = 0;
            if (how == mode::rate_generator) {
                left = count - passed % count;
            } else if (how == mode::square_wave) { // by two, once in each half
                const std::uint64_t in_period = passed % count;
                const std::uint64_t half = (count + 1) / 2;
                left = (count & ~1U) - 2 * (in_period < half ? in_period : in_period - half);
            } else {
                left = count + modulus - passed % modulus;
            }
            return written_as(static_cast<std::uint32_t>(left % modulus));
        }

        constexpr std::uint16_t written_as(std::uint32_t number) const {
            if (!decimal) {
                return static_cast<std::uint16_t>(number);
            }
            const std::uint32_t digits = number % 10 | number / 10 % 10 << 4U |
                                         number / 100 % 10 << 8U | number / 1000 % 10 << 12U;
            return static_cast<std::uint16_t>(digits);
        }

        /// Edges of the output, from low to high, up to now.
        constexpr std::uint64_t edges_until(std::uint64_t now) {
            advance(now);
            const std::uint64_t passed = elapsed(now);
            if (is_periodic()) {
                return edges + (is_counting() ? passed / count : 0);
            }
            return edges + (loaded && passed >= count + strobe() ? 1U : 0U);
        }
        /// A strobe ends, and is an edge, one clock behind the terminal count.
        constexpr std::uint64_t strobe() const {
            return how == mode::software_strobe || how == mode::hardware_strobe ? 1 : 0;
        }

        constexpr bool take_edges(std::uint64_t now) {
            const std::uint64_t all = edges_until(now);
            return std::exchange(edges_taken, all) != all;
        }

        constexpr std::uint64_t next_edge(std::uint64_t now) {
            advance(now);
            if (!is_counting()) {
                return never;
            }
            if (is_periodic()) {
                const std::uint64_t next = start + (elapsed(now) / count + 1) * count;
                return next;
            }
            const std::uint64_t end = start + count + strobe();
            return now < end ? end : never;
        }

        constexpr void control(unsigned word, std::uint64_t now) {
            if ((word & 0x30U) == 0) {
                latch_count(now);
                return;
            }
            edges = edges_until(now);
            access = static_cast<std::uint8_t>(word >> 4U);
            const unsigned number = word >> 1U & 7U;
            how = mode{static_cast<std::uint8_t>(number > 5 ? number - 4 : number)};
            decimal = (word & 1U) != 0;
            loaded = false;
            triggered = false;
            writes_high = false;
            reads_high = false;
            has_latched = false;
            has_status = false;
            next_count = 0;
            stopped = 0;
        }

        constexpr void write(std::uint8_t byte, std::uint64_t now) {
            if (access == 3 && !writes_high) {
                low = byte;
                writes_high = true;
                if (how ==
                    mode::interrupt_on_terminal_count) { // counting stops until the other byte
                    edges = edges_until(now);
                    loaded = false;
                }
                return;
            }
            unsigned word = byte;
            if (access == 2) {
                word = unsigned{byte} << 8U;
            } else if (access == 3) {
                word = low | unsigned{byte} << 8U;
            }
            writes_high = false;
            load(word, now);
        }

        constexpr void load(unsigned word, std::uint64_t now) {
            const unsigned number = decimal ? (word & 0xFU) + (word >> 4U & 0xFU) * 10 +
                                                  (word >> 8U & 0xFU) * 100 + (word >> 12U) * 1000
                                            : word;
            const std::uint32_t wanted = number == 0 ? (decimal ? 10'000U : 0x10000U) : number;
            advance(now);
            if (is_counting() && (is_periodic() || waits_for_gate())) {
                next_count = wanted;
                next_start = start + (elapsed(now) / count + 1) * count;
                return;
            }
            edges = edges_until(now);
            count = wanted;
            start = now + 1; // the clock after the write loads it
            stopped = 0;
            loaded = true;
        }

        constexpr void set_gate(level to, std::uint64_t now) {
            const bool rises = to == level::asserted;
            if (rises == gate) {
                return;
            }
            advance(now);
            if (is_periodic() || (waits_for_gate() && rises)) {
                edges = edges_until(now);
            }
            if (!rises) {
                stopped = elapsed(now);
            } else if (is_periodic() || waits_for_gate()) {
                start = now + 1;
                triggered = loaded;
                if (next_count != 0) {
                    count = std::exchange(next_count, 0U);
                }
            } else {
                start = now - stopped;
            }
            gate = rises;
        }

        constexpr void latch_count(std::uint64_t now) {
            if (!has_latched) {
                latched = value(now);
                has_latched = true;
            }
        }

        constexpr void latch_status(std::uint64_t now) {
            if (has_status) {
                return;
            }
            const bool not_loaded = !loaded || next_count != 0 || now < start;
            status = static_cast<std::uint8_t>(
                (output(now) ? 0x80U : 0U) | (not_loaded ? 0x40U : 0U) | unsigned{access} << 4U |
                static_cast<unsigned>(how) << 1U | (decimal ? 1U : 0U));
            has_status = true;
        }

        constexpr std::uint8_t read(std::uint64_t now) {
            if (has_status) {
                has_status = false;
                return status;
            }
            const std::uint16_t word = has_latched ? latched : value(now);
            const bool high_byte = access == 2 || (access == 3 && reads_high);
            if (access == 3) {
                reads_high = !reads_high;
            }
            has_latched = has_latched && access == 3 && !high_byte;
            return static_cast<std::uint8_t>(high_byte ? word >> 8U : word & 0xFFU);
        }
    };

    [[no_unique_address]] Clock clock_;
    counter counters_[3]{};
    std::uint8_t control_ = 0;
};

} // namespace vmm::pc
