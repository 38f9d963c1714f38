// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/interval_timer.hpp"

#include "test_clock.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>

namespace {

using vmm_pc_test::test_clock;
using timer = vmm::pc::interval_timer<test_clock>;

constexpr std::uint64_t second = 1'000'000'000;

/// A time in the middle of input clock `tick`.
constexpr std::uint64_t at(std::uint64_t tick) {
    return (tick * second + second / 2) / timer::frequency;
}

/// The counters of [8254], Mode Definitions, clock by clock: what the pins and the counting element do
/// at each falling edge of CLK. Nothing here computes from elapsed time.
struct clocked_counter {
    unsigned mode;
    std::uint32_t initial;
    bool gate = true;
    bool output = false;
    bool is_loaded = false; ///< the count has gone to the counting element
    bool load = false;      ///< it goes at the next clock
    std::uint32_t count = 0;
    bool strobe_pending = false;

    clocked_counter(unsigned in_mode, std::uint32_t from) : mode{in_mode}, initial{from} {
        output = mode != 0;
        load = mode != 1 && mode != 5;
    }

    void set_gate(bool to) {
        if (to && !gate) {
            if (mode == 1 || mode == 5 || mode == 2 || mode == 3) {
                load = true;
            }
        }
        gate = to;
        if (!gate && (mode == 2 || mode == 3)) {
            output = true;
        }
    }

    void clock() {
        if (load) {
            load = false;
            is_loaded = true;
            count = initial;
            strobe_pending = true;
            if (mode == 1) {
                output = false;
            }
            if (mode == 3) {
                output = true;
                count = initial & ~1U;
                odd_high_ = (initial & 1U) != 0;
            }
            return;
        }
        if (!is_loaded) {
            return;
        }
        switch (mode) {
        case 0:
            if (gate) {
                count = (count - 1) & 0xFFFF;
                output = output || count == 0;
            }
            break;
        case 1:
            count = (count - 1) & 0xFFFF;
            output = output || count == 0;
            break;
        case 2:
            if (gate) {
                --count;
                output = count != 1;
                if (count == 0) {
                    count = initial;
                }
            }
            break;
        case 3: // the odd count is one clock longer in the high half
            if (gate) {
                if (count == 0 && output && odd_high_) {
                    odd_high_ = false;
                    swap();
                } else if (count == 2 && !(output && odd_high_)) {
                    swap();
                } else {
                    count -= 2;
                }
            }
            break;
        case 4:
            if (!gate) {
                break;
            }
            [[fallthrough]];
        case 5:
            output = true;
            count = (count - 1) & 0xFFFF;
            if (count == 0 && strobe_pending) {
                output = false;
                strobe_pending = false;
            }
            break;
        default: break;
        }
    }

private:
    void swap() {
        output = !output;
        count = initial & ~1U;
        odd_high_ = output && (initial & 1U) != 0;
    }
    bool odd_high_ = false;
};

std::uint16_t latched(timer& pit, unsigned channel) {
    pit.write(3, static_cast<std::uint8_t>(channel << 6));
    const std::uint16_t low = pit.read(static_cast<std::uint16_t>(channel));
    return static_cast<std::uint16_t>(low | pit.read(static_cast<std::uint16_t>(channel)) << 8);
}

bool output_by_status(timer& pit, unsigned channel) {
    pit.write(3, static_cast<std::uint8_t>(0xE0 | 2U << channel));
    return (pit.read(static_cast<std::uint16_t>(channel)) & 0x80) != 0;
}

} // namespace

TEST_CASE("every mode counts as the datasheet's counter does, clock by clock", "[vmm_pc][timer]") {
    std::mt19937 random{8254};
    for (unsigned mode = 0; mode != 6; ++mode) {
        for (const std::uint32_t count : {2U, 3U, 4U, 5U, 7U, 10U, 31U, 64U}) {
            INFO("mode " << mode << ", count " << count);
            std::uint64_t time = at(100);
            timer pit{test_clock{&time}};
            pit.write_control(1); // the gate is high
            pit.write(3, static_cast<std::uint8_t>(0xB0 | mode << 1));
            pit.write(2, static_cast<std::uint8_t>(count));
            pit.write(2, 0);
            clocked_counter model{mode, count};
            for (std::uint64_t tick = 101; tick != 400; ++tick) {
                time = at(tick);
                model.clock();
                REQUIRE(output_by_status(pit, 2) == model.output);
                REQUIRE(((pit.read_control() & 0x20) != 0) == model.output);
                if (model.is_loaded) {
                    REQUIRE(latched(pit, 2) == (model.count & 0xFFFF));
                }
                if (random() % 16 == 0) {
                    const bool gate = random() % 4 != 0;
                    pit.write_control(gate ? 1 : 0);
                    model.set_gate(gate);
                }
            }
        }
    }
}

TEST_CASE("IRQ 0 comes at the rate that was programmed, and next_tick() knows when",
          "[vmm_pc][timer]") {
    std::uint64_t time = 12'345'678;
    timer pit{test_clock{&time}};
    pit.write(3, 0x34); // channel 0, both bytes, rate generator
    pit.write(0, 11932 & 0xFF);
    pit.write(0, 11932 >> 8);
    (void)pit.take_tick();
    const std::uint64_t start = time;
    for (unsigned i = 1; i <= 1000; ++i) {
        const std::uint64_t next = pit.next_tick();
        REQUIRE(next > time);
        time = next - 1;
        REQUIRE_FALSE(pit.take_tick());
        time = next;
        REQUIRE(pit.take_tick());
        REQUIRE_FALSE(pit.take_tick());
    }
    // 1000 periods of 11932 / 1193182 s, and the clock that loads.
    const double expected = 1000 * 11932.0 / 1193182.0 * 1e9;
    const double passed = static_cast<double>(time - start);
    CHECK(passed >= expected);
    CHECK(passed < expected + 2000);
}

TEST_CASE("ticks that nobody took are one", "[vmm_pc][timer]") {
    std::uint64_t time = 0;
    timer pit{test_clock{&time}};
    pit.write(3, 0x34);
    pit.write(0, 0xE8);
    pit.write(0, 0x03);
    time = second;
    CHECK(pit.take_tick());
    CHECK_FALSE(pit.take_tick());
}

TEST_CASE("a one-shot ticks once, and again when it is loaded again", "[vmm_pc][timer]") {
    for (const unsigned mode : {0U, 4U}) {
        std::uint64_t time = at(7);
        timer pit{test_clock{&time}};
        pit.write(3, static_cast<std::uint8_t>(0x30 | mode << 1));
        CHECK(pit.next_tick() == vmm::pc::never);
        (void)pit.take_tick();
        for (unsigned i = 0; i != 3; ++i) {
            pit.write(0, 100);
            pit.write(0, 0);
            const std::uint64_t next = pit.next_tick();
            time = next;
            CHECK(pit.take_tick());
            CHECK(pit.next_tick() == vmm::pc::never);
            time += second;
            CHECK_FALSE(pit.take_tick());
        }
    }
}

TEST_CASE("a count that is written while a periodic mode runs begins with the next period",
          "[vmm_pc][timer]") {
    std::uint64_t time = at(0);
    timer pit{test_clock{&time}};
    pit.write(3, 0x34);
    pit.write(0, 100);
    pit.write(0, 0); // loaded at clock 1
    time = at(51);
    pit.write(0, 200);
    pit.write(0, 0);
    CHECK(latched(pit, 0) == 50);
    time = at(100);
    CHECK(latched(pit, 0) == 1);
    time = at(101);
    CHECK(latched(pit, 0) == 200);
    CHECK(pit.take_tick());
    time = at(300);
    CHECK_FALSE(pit.take_tick());
    time = at(301);
    CHECK(pit.take_tick());
}

TEST_CASE("latches hold until they are read, single bytes and decimal counts read as such",
          "[vmm_pc][timer]") {
    std::uint64_t time = at(0);
    timer pit{test_clock{&time}};
    pit.write(3, 0x31); // mode 0, decimal
    pit.write(0, 0x00);
    pit.write(0, 0x20); // 2000
    time = at(2);
    CHECK(latched(pit, 0) == 0x1999);
    pit.write(3, 0xC2); // read-back: count and status of channel 0
    time = at(500);
    pit.write(3, 0x00);         // does not latch again
    CHECK(pit.read(0) == 0x31); // status: output low, loaded, both bytes, mode 0, decimal
    CHECK(pit.read(0) == 0x99);
    CHECK(pit.read(0) == 0x19);
    CHECK(latched(pit, 0) == 0x1501);

    pit.write(3, 0x10); // low byte only, binary
    pit.write(0, 0x80);
    time = at(600);
    CHECK(pit.read(0) == 0x1D); // 0x80 - 99
    pit.write(3, 0x20);         // high byte only
    pit.write(0, 0x80);
    time = at(601);
    CHECK(pit.read(0) == 0x80);
    CHECK(pit.read(0) == 0x80);
    pit.write(3, 0x34);
    pit.write(0, 0);
    pit.write(0, 0); // 65536
    time = at(603);
    CHECK(latched(pit, 0) == 0xFFFF);
    CHECK(pit.read(3) == 0xFF);
}

TEST_CASE("the time stamp counter can be calibrated by channel 2", "[vmm_pc][timer]") {
    // As kernels do it: gate up, speaker off, mode 0, 50 ms, poll bit 5 of port 0x61.
    std::uint64_t time = 987'654'321;
    timer pit{test_clock{&time}};
    pit.write_control(1);
    pit.write(3, 0xB0);
    pit.write(2, 59659 & 0xFF);
    pit.write(2, 59659 >> 8);
    const std::uint64_t start = time;
    unsigned toggles = 0;
    std::uint8_t before = pit.read_control();
    while ((pit.read_control() & 0x20) == 0) {
        time += 1'000;
        toggles += ((pit.read_control() ^ before) & 0x10) != 0 ? 1 : 0;
        before = pit.read_control();
        REQUIRE(time - start < second);
    }
    CHECK(time - start > 49'999'000);
    CHECK(time - start < 50'005'000);
    CHECK(toggles > 3'000); // memory refresh, every 15 microseconds
    CHECK(toggles < 3'400);
}
