// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include "interval_timer.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// Seconds since the beginning of 1970, without leap seconds, as a date.
struct calendar_time {
    std::uint32_t year = 1970;
    std::uint8_t month = 1; ///< 1..12
    std::uint8_t day = 1;   ///< 1..31
    std::uint8_t hour = 0;
    std::uint8_t minute = 0;
    std::uint8_t second = 0;
    std::uint8_t day_of_week = 5; ///< 1 is Sunday

    [[nodiscard]] static constexpr calendar_time of(std::uint64_t seconds) {
        calendar_time time{};
        std::uint64_t days = seconds / 86'400;
        const auto rest = static_cast<std::uint32_t>(seconds % 86'400);
        time.hour = static_cast<std::uint8_t>(rest / 3'600);
        time.minute = static_cast<std::uint8_t>(rest / 60 % 60);
        time.second = static_cast<std::uint8_t>(rest % 60);
        time.day_of_week = static_cast<std::uint8_t>((days + 4) % 7 + 1);
        constexpr std::uint64_t days_of_400_years = 146'097;
        time.year = static_cast<std::uint32_t>(1970 + days / days_of_400_years * 400);
        days %= days_of_400_years;
        while (days >= days_of(time.year)) {
            days -= days_of(time.year);
            ++time.year;
        }
        while (days >= days_of(time.year, time.month)) {
            days -= days_of(time.year, time.month);
            ++time.month;
        }
        time.day = static_cast<std::uint8_t>(days + 1);
        return time;
    }

    friend constexpr bool operator==(const calendar_time&, const calendar_time&) = default;

private:
    static constexpr bool is_leap(std::uint32_t year) {
        return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    }
    static constexpr std::uint32_t days_of(std::uint32_t year) { return is_leap(year) ? 366 : 365; }
    static constexpr std::uint32_t days_of(std::uint32_t year, std::uint32_t month) {
        constexpr std::uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        return days[month - 1] + (month == 2 && is_leap(year) ? 1U : 0U);
    }
};

/// The MC146818 of a PC [MC146818]: 128 bytes of CMOS memory behind an index at port 0x70 and data at
/// 0x71; the time, the periodic interrupt and the update-ended interrupt. No alarm, and the time
/// cannot be set: what the guest writes there is lost. It reads on while register B says SET, where
/// the chip's stands still.
template <pt::clock Clock>
class real_time_clock {
public:
    /// `seconds`: since the beginning of 1970, when `clock` shows 0. `memory`: bytes of RAM from
    /// address 0 on below 4 GiB, which firmware leaves in the CMOS memory for old kernels.
    constexpr real_time_clock(Clock clock, std::uint64_t seconds, std::uint64_t memory)
        : clock_{std::move(clock)}, epoch_{seconds} {
        bytes_[status_a] = 0x26; // 32768 Hz, divided to 1024
        bytes_[status_b] = hours_24;
        put(0x15, 640);
        const std::uint64_t above_1_mib = memory > 0x10'0000 ? (memory - 0x10'0000) / 1024 : 0;
        put(0x17, above_1_mib);
        put(0x30, above_1_mib);
        put(0x34, memory > 0x100'0000 ? (memory - 0x100'0000) / 0x1'0000 : 0);
    }

    /// Port 0x70; bit 7 masks NMI, of which this PC has none.
    constexpr void select(std::uint8_t index) { index_ = index & 0x7FU; }

    /// Port 0x71.
    constexpr std::uint8_t read() {
        const std::uint64_t now = clock_.now();
        update(now);
        const calendar_time time = calendar_time::of(epoch_ + now / second);
        switch (index_) {
        case 0x00: return digits(time.second);
        case 0x02: return digits(time.minute);
        case 0x04: return hours(time.hour);
        case 0x06: return digits(time.day_of_week);
        case 0x07: return digits(time.day);
        case 0x08: return digits(time.month);
        case 0x09: return digits(time.year % 100);
        case 0x32: return digits(time.year / 100);
        case status_a: return byte(bytes_[status_a] | (is_updating(now) ? 0x80U : 0U));
        case status_c:
            return byte(std::exchange(flags_, 0U) | (std::exchange(requests_, false) ? 0x80U : 0U));
        case status_d: return 0x80; // the battery is good
        default: return bytes_[index_];
        }
    }

    constexpr void write(std::uint8_t value) {
        const std::uint64_t now = clock_.now();
        update(now);
        switch (index_) {
        case status_a:
            bytes_[status_a] = value & 0x7FU;
            restart(now);
            break;
        case status_b:
            // SET clears UIE [MC146818].
            bytes_[status_b] = (value & stopped) != 0 ? byte(value & ~update_ended) : value;
            restart(now);
            break;
        case status_c:
        case status_d: break;
        default: bytes_[index_] = value; break;
        }
    }

    /// The level of IRQ 8: until the guest reads register C, or disables what has requested it.
    [[nodiscard]] constexpr bool interrupts() {
        update(clock_.now());
        return requests_;
    }

    /// When IRQ 8 rises next, in nanoseconds of the clock; or `never`.
    [[nodiscard]] constexpr std::uint64_t next_interrupt() {
        const std::uint64_t now = clock_.now();
        update(now);
        std::uint64_t next = never;
        if (requests_) {
            return next;
        }
        if ((bytes_[status_b] & periodic) != 0 && period() != 0) {
            const std::uint64_t tick = (ticks(now) / period() + 1) * period();
            next =
                tick / frequency * second + (tick % frequency * second + frequency - 1) / frequency;
        }
        if ((bytes_[status_b] & update_ended) != 0) {
            const std::uint64_t update = (now / second + 1) * second;
            next = update < next ? update : next;
        }
        return next;
    }

private:
    static constexpr std::uint64_t second = 1'000'000'000;
    static constexpr std::uint64_t frequency = 32'768;
    static constexpr std::uint8_t status_a = 0x0A;
    static constexpr std::uint8_t status_b = 0x0B;
    static constexpr std::uint8_t status_c = 0x0C;
    static constexpr std::uint8_t status_d = 0x0D;
    // Register B; `periodic` and `update_ended` also in register C.
    static constexpr unsigned stopped = 0x80; ///< SET: no updates
    static constexpr unsigned periodic = 0x40;
    static constexpr unsigned update_ended = 0x10;
    static constexpr unsigned binary = 0x04;
    static constexpr unsigned hours_24 = 0x02;

    static constexpr std::uint8_t byte(unsigned value) { return static_cast<std::uint8_t>(value); }
    static constexpr std::uint64_t ticks(std::uint64_t now) {
        return now / second * frequency + now % second * frequency / second;
    }
    constexpr void put(std::uint8_t index, std::uint64_t value) {
        const std::uint64_t most = value < 0xFFFF ? value : 0xFFFF;
        bytes_[index] = static_cast<std::uint8_t>(most);
        bytes_[index + 1U] = static_cast<std::uint8_t>(most >> 8U);
    }

    constexpr std::uint8_t digits(unsigned number) const {
        return (bytes_[status_b] & binary) != 0 ? byte(number)
                                                : byte(number / 10 << 4U | number % 10);
    }
    constexpr std::uint8_t hours(unsigned hour) const {
        if ((bytes_[status_b] & hours_24) != 0) {
            return digits(hour);
        }
        return byte(digits(hour % 12 == 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80U : 0U));
    }

    constexpr bool is_stopped() const { return (bytes_[status_b] & stopped) != 0; }
    /// For 244 microseconds before each update.
    constexpr bool is_updating(std::uint64_t now) const {
        return !is_stopped() && now % second >= second - 244'000;
    }

    /// Of the periodic interrupt, in ticks; 0: none. Rates 1 and 2 are those of 8 and 9 [MC146818].
    constexpr std::uint64_t period() const {
        const unsigned rate = bytes_[status_a] & 0xFU;
        if (rate == 0) {
            return 0;
        }
        return std::uint64_t{1} << ((rate < 3 ? rate + 7 : rate) - 1);
    }

    constexpr void restart(std::uint64_t now) {
        seen_periods_ = period() == 0 ? 0 : ticks(now) / period();
        update(now);
    }

    /// The flags that time has set since the last look.
    constexpr void update(std::uint64_t now) {
        const std::uint64_t periods = period() == 0 ? seen_periods_ : ticks(now) / period();
        if (std::exchange(seen_periods_, periods) != periods) {
            flags_ |= periodic;
        }
        const std::uint64_t seconds = now / second;
        if (std::exchange(seen_seconds_, seconds) != seconds && !is_stopped()) {
            flags_ |= update_ended;
        }
        requests_ = (flags_ & bytes_[status_b] & (periodic | update_ended)) != 0;
    }

    [[no_unique_address]] Clock clock_;
    std::uint64_t epoch_;
    std::uint64_t seen_periods_ = 0;
    std::uint64_t seen_seconds_ = 0;
    std::uint8_t bytes_[128] = {};
    std::uint8_t index_ = 0;
    unsigned flags_ = 0;
    bool requests_ = false;
};

} // namespace vmm::pc
