// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/real_time_clock.hpp"

#include "test_clock.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <ctime>

namespace {

using vmm::pc::calendar_time;
using vmm_pc_test::test_clock;
using rtc = vmm::pc::real_time_clock<test_clock>;

constexpr std::uint64_t second = 1'000'000'000;
constexpr std::uint64_t gib = std::uint64_t{1} << 30;

std::uint8_t read(rtc& clock, std::uint8_t index) {
    clock.select(index);
    return clock.read();
}
void write(rtc& clock, std::uint8_t index, std::uint8_t value) {
    clock.select(index);
    clock.write(value);
}

} // namespace

TEST_CASE("dates are those of the C library", "[vmm_pc][rtc]") {
    for (std::uint64_t seconds = 0; seconds < 10'000'000'000; seconds += 7'654'321) {
        const auto time = static_cast<std::time_t>(seconds);
        std::tm expected{};
        REQUIRE(gmtime_r(&time, &expected) != nullptr);
        const calendar_time is = calendar_time::of(seconds);
        REQUIRE(is == calendar_time{static_cast<std::uint32_t>(expected.tm_year + 1900),
                                    static_cast<std::uint8_t>(expected.tm_mon + 1),
                                    static_cast<std::uint8_t>(expected.tm_mday),
                                    static_cast<std::uint8_t>(expected.tm_hour),
                                    static_cast<std::uint8_t>(expected.tm_min),
                                    static_cast<std::uint8_t>(expected.tm_sec),
                                    static_cast<std::uint8_t>(expected.tm_wday + 1)});
    }
}

TEST_CASE("the time reads in the form that register B says", "[vmm_pc][rtc]") {
    std::uint64_t time = 0;
    rtc clock{test_clock{&time}, 1'700'000'000 - 3, gib}; // 2023-11-14 22:13:17, a Tuesday
    time = 3 * second;
    CHECK(read(clock, 0x00) == 0x20);
    CHECK(read(clock, 0x02) == 0x13);
    CHECK(read(clock, 0x04) == 0x22);
    CHECK(read(clock, 0x06) == 3);
    CHECK(read(clock, 0x07) == 0x14);
    CHECK(read(clock, 0x08) == 0x11);
    CHECK(read(clock, 0x09) == 0x23);
    CHECK(read(clock, 0x32) == 0x20);
    CHECK(read(clock, 0x8A) == 0x26); // bit 7 of the index is the NMI mask
    CHECK(read(clock, 0x0D) == 0x80);
    write(clock, 0x0B, 0x04); // binary, 12 hours
    CHECK(read(clock, 0x09) == 23);
    CHECK(read(clock, 0x04) == (0x80 | 10));
    write(clock, 0x00, 0); // the time cannot be set
    CHECK(read(clock, 0x00) == 20);
    time += second - 100'000;
    CHECK((read(clock, 0x0A) & 0x80) != 0); // an update is near
    time += 100'000;
    CHECK((read(clock, 0x0A) & 0x80) == 0);
    CHECK(read(clock, 0x00) == 21);
}

TEST_CASE("the periodic interrupt comes at its rate and waits for register C", "[vmm_pc][rtc]") {
    std::uint64_t time = 5 * second + 17;
    rtc clock{test_clock{&time}, 0, gib};
    CHECK(clock.next_interrupt() == vmm::pc::never);
    write(clock, 0x0A, 0x26); // 1024 Hz
    write(clock, 0x0B, 0x42);
    (void)read(clock, 0x0C);
    unsigned interrupts = 0;
    const std::uint64_t start = time;
    while (time < start + second) {
        time = clock.next_interrupt();
        REQUIRE(clock.interrupts());
        REQUIRE(clock.next_interrupt() == vmm::pc::never); // not before it was served
        CHECK((read(clock, 0x0C) & 0xC0) == 0xC0);
        REQUIRE_FALSE(clock.interrupts());
        ++interrupts;
    }
    CHECK(interrupts >= 1024);
    CHECK(interrupts <= 1025);
    CHECK(read(clock, 0x0C) == 0); // both flags have been told
}

TEST_CASE("the update-ended interrupt comes each second", "[vmm_pc][rtc]") {
    std::uint64_t time = second / 2;
    rtc clock{test_clock{&time}, 0, gib};
    write(clock, 0x0B, 0x12);
    CHECK(clock.next_interrupt() == second);
    time = second - 1;
    CHECK_FALSE(clock.interrupts());
    time = second;
    CHECK(clock.interrupts());
    CHECK((read(clock, 0x0C) & 0x90) == 0x90);
    CHECK(clock.next_interrupt() == 2 * second);
}

TEST_CASE("IRQ 8 is what is flagged and enabled, at every moment", "[vmm_pc][rtc]") {
    std::uint64_t time = 0; // [MC146818]: IRQF = PF * PIE + AF * AIE + UF * UIE
    rtc clock{test_clock{&time}, 0, gib};
    write(clock, 0x0B, 0x42);
    (void)read(clock, 0x0C);
    time += second / 100;
    CHECK(clock.interrupts());
    write(clock, 0x0B, 0x02); // disabled: the line falls, the flag stays
    CHECK_FALSE(clock.interrupts());
    write(clock, 0x0B, 0x42);
    CHECK(clock.interrupts());
    CHECK((read(clock, 0x0C) & 0xC0) == 0xC0);
    CHECK_FALSE(clock.interrupts());
}

TEST_CASE("SET stops updates, and what they request", "[vmm_pc][rtc]") {
    std::uint64_t time = second - 100'000;
    rtc clock{test_clock{&time}, 0, gib};
    write(clock, 0x0B, 0x12);
    CHECK((read(clock, 0x0A) & 0x80) != 0);
    write(clock, 0x0B, 0x92);
    CHECK(read(clock, 0x0B) == 0x82); // it clears UIE
    CHECK((read(clock, 0x0A) & 0x80) == 0);
    (void)read(clock, 0x0C);
    time = 3 * second;
    CHECK(read(clock, 0x0C) == 0x40); // no update has ended
    CHECK(clock.next_interrupt() == vmm::pc::never);
}

TEST_CASE("the memory's size is in the CMOS memory", "[vmm_pc][rtc]") {
    std::uint64_t time = 0;
    rtc small{test_clock{&time}, 0, 48 * gib / 1024};
    CHECK((read(small, 0x15) | read(small, 0x16) << 8) == 640);
    CHECK((read(small, 0x30) | read(small, 0x31) << 8) == 47 * 1024); // KiB above 1 MiB
    CHECK((read(small, 0x34) | read(small, 0x35) << 8) == 32 * 16);   // 64 KiB above 16 MiB
    rtc large{test_clock{&time}, 0, 3 * gib};
    CHECK((read(large, 0x17) | read(large, 0x18) << 8) == 0xFFFF);
    CHECK((read(large, 0x34) | read(large, 0x35) << 8) == (3 * 1024 - 16) * 16);
    write(large, 0x0F, 0x0A);
    CHECK(read(large, 0x0F) == 0x0A); // the rest is memory
}
