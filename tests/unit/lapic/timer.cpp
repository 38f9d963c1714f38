// SPDX-License-Identifier: BSL-1.0
// The timer of the local APIC, beside one that counts each tick of the input clock by itself.
#include "pt/lapic/timer.hpp"
#include "pt/lapic/timer_mode.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>
#include <type_traits>

namespace {

using namespace pt::lapic;
using stands = timer_interrupt;

/// Two counters that the test moves.
struct moments {
    std::uint64_t ticks = 0;
    std::uint64_t tsc = 0;
};
struct test_clock {
    moments* now;
    constexpr std::uint64_t ticks() { return now->ticks; }
    constexpr std::uint64_t tsc() { return now->tsc; }
};
static_assert(timer_clock<test_clock>);

/// DCR as [sdm, Divide Configuration Register] has it, by hand.
constexpr divide_configuration divided_by(unsigned divisor) {
    switch (divisor) {
    case 1: return divide_configuration{0b1011};
    case 2: return divide_configuration{0b0000};
    case 4: return divide_configuration{0b0001};
    case 8: return divide_configuration{0b0010};
    case 16: return divide_configuration{0b0011};
    case 32: return divide_configuration{0b1000};
    case 64: return divide_configuration{0b1001};
    default: return divide_configuration{0b1010}; // 128
    }
}

// --- the second model: one tick of the input clock at a time ------------------------------------

class slow_timer {
public:
    explicit slow_timer(timer_limits limits) : limits_{limits} {}

    void tick() {
        ++since_;
        if (count_ == 0) {
            return;
        }
        if (++phase_ == divisor_) {
            phase_ = 0;
            if (--count_ == 0) {
                due();
                count_ = mode_ == timer_mode::periodic ? initial_ : 0;
            }
        }
    }
    void set_mode(timer_mode to) {
        const auto counting = [](timer_mode m) { return static_cast<int>(m) < 2; };
        if (to == mode_) {
            return;
        }
        if (!counting(to) || !counting(mode_)) { // rule 29
            count_ = 0;
            initial_ = 0;
            deadline_ = 0;
            owed_ = 0;
        }
        mode_ = to;
        if (to == timer_mode::one_shot && owed_ > 1) {
            owed_ = 1;
        }
    }
    void set_divisor(unsigned divisor) {
        if (divisor != divisor_) {
            divisor_ = divisor;
            phase_ = 0;
        }
        owed_ = owed_ < most() ? owed_ : most();
    }
    void set_initial_count(std::uint32_t count) {
        if (static_cast<int>(mode_) < 2) {
            initial_ = count;
            count_ = count;
            phase_ = 0;
            owed_ = 0;
            since_ = count != 0 ? 0 : since_;
        }
    }
    void set_deadline(std::uint64_t tsc) {
        if (mode_ == timer_mode::tsc_deadline) {
            deadline_ = tsc;
            owed_ = 0;
        }
    }
    bool look(std::uint64_t tsc, stands how) {
        if (deadline_ != 0 && deadline_ <= tsc) {
            deadline_ = 0;
            owed_ = 1;
        }
        if (how == stands::masked) {
            owed_ = 0;
        }
        const bool held = mode_ == timer_mode::periodic && since_ < limits_.minimum_period;
        if (how != stands::deliverable || owed_ == 0 || held) {
            return false;
        }
        --owed_;
        since_ = 0;
        return true;
    }
    [[nodiscard]] std::uint32_t count() const { return count_; }
    [[nodiscard]] std::uint32_t initial() const { return initial_; }
    [[nodiscard]] std::uint64_t deadline() const { return deadline_; }
    [[nodiscard]] std::uint32_t owed() const { return owed_; }

private:
    [[nodiscard]] std::uint32_t most() const {
        if (mode_ == timer_mode::periodic &&
            std::uint64_t{initial_} * divisor_ >= limits_.minimum_period &&
            limits_.most_owed_ticks > 1) {
            return limits_.most_owed_ticks;
        }
        return 1;
    }
    void due() {
        if (owed_ < most()) {
            ++owed_;
        }
    }

    timer_limits limits_;
    timer_mode mode_ = timer_mode::one_shot;
    unsigned divisor_ = 2;
    unsigned phase_ = 0; // ticks since the count last changed
    std::uint32_t initial_ = 0;
    std::uint32_t count_ = 0;
    std::uint32_t owed_ = 0;
    std::uint64_t since_ = ~std::uint64_t{0} / 2; // the last interrupt, or the start of the count
    std::uint64_t deadline_ = 0;
};

TEST_CASE("the timer is the same as one that counts every tick", "[lapic][timer][rule 29]") {
    std::mt19937_64 random{29};
    const auto any = [&random](std::uint64_t below) { return random() % below; };
    unsigned fired = 0;
    for (unsigned program = 0; program < 20'000; ++program) {
        const timer_limits limits{any(2) != 0 ? any(40) : 0, static_cast<std::uint32_t>(any(6))};
        timer fast{limits};
        slow_timer slow{limits};
        // Also across the end of the clock.
        moments now{any(2) != 0 ? any(1000) : std::uint64_t{0} - any(1000), any(100)};
        test_clock clock{&now};
        for (unsigned operation = 0; operation < 60; ++operation) {
            INFO("program " << program << ", operation " << operation);
            switch (any(16)) {
            case 0: {
                const auto mode = static_cast<timer_mode>(any(8) != 0 ? any(2) : any(4));
                fast.set_mode(clock, mode);
                slow.set_mode(mode);
                break;
            }
            case 1: {
                const unsigned divisor = 1U << any(any(4) != 0 ? 3 : 8);
                fast.set_divide(clock, divided_by(divisor));
                slow.set_divisor(divisor);
                break;
            }
            case 2:
            case 3: {
                const auto count = static_cast<std::uint32_t>(any(12));
                fast.set_initial_count(clock, count);
                slow.set_initial_count(count);
                break;
            }
            case 4: {
                const std::uint64_t tsc = any(4) != 0 ? now.tsc + any(50) : any(100);
                fast.set_tsc_deadline(tsc);
                slow.set_deadline(tsc);
                break;
            }
            case 5: {
                // It goes on elsewhere, where the clock is at another place.
                const timer_state saved = fast.save(clock);
                now.ticks += 1'000'000;
                fast = timer{limits};
                REQUIRE(fast.restore(clock, saved));
                REQUIRE(fast.save(clock) == saved);
                break;
            }
            default: break;
            }
            for (std::uint64_t left = any(4) != 0 ? any(12) : any(300); left != 0; --left) {
                ++now.ticks;
                now.tsc += 3;
                slow.tick();
            }
            REQUIRE(fast.current_count(clock) == slow.count());
            if (any(2) != 0) {
                const auto how = static_cast<stands>(any(8) < 5 ? 0 : any(3));
                const bool request = slow.look(now.tsc, how);
                REQUIRE(fast.expired(clock, how) == request);
                fired += request ? 1U : 0U;
                REQUIRE(fast.current_count(clock) == slow.count());
                REQUIRE(fast.initial_count() == slow.initial());
                REQUIRE(fast.tsc_deadline() == slow.deadline());
                REQUIRE(fast.owed() == slow.owed());
            }
        }
    }
    CHECK(fired > 10'000);
}

TEST_CASE("the deadline is the first moment at which there is something to do", "[lapic][timer]") {
    std::mt19937_64 random{30};
    const auto any = [&random](std::uint64_t below) { return random() % below; };
    unsigned checked = 0;
    for (unsigned program = 0; program < 20'000; ++program) {
        const timer_limits limits{any(60), static_cast<std::uint32_t>(any(5))};
        timer one{limits};
        slow_timer slow{limits};
        moments now{any(10'000), any(100)};
        test_clock clock{&now};
        const auto go_on = [&now, &slow](std::uint64_t ticks) {
            for (; ticks != 0; --ticks) {
                ++now.ticks;
                now.tsc += 3;
                slow.tick();
            }
        };
        const auto mode = static_cast<timer_mode>(any(3));
        one.set_mode(clock, mode);
        slow.set_mode(mode);
        const auto count = static_cast<std::uint32_t>(1 + any(20));
        one.set_initial_count(clock, count);
        slow.set_initial_count(count);
        const std::uint64_t armed = now.tsc + 1 + any(200);
        one.set_tsc_deadline(armed);
        slow.set_deadline(armed);
        for (unsigned turn = 0; turn < 6; ++turn) {
            go_on(any(3) != 0 ? any(4) : any(200));
            const auto before = any(4) == 0 ? stands::requested : stands::deliverable;
            REQUIRE(one.expired(clock, before) == slow.look(now.tsc, before));
            REQUIRE(one.next(clock, stands::masked) == deadline{});
            const deadline next = one.next(clock, stands::deliverable);
            if (next.of == deadline::clock::none) {
                REQUIRE(slow.owed() == 0);
                REQUIRE(slow.count() == 0);
                REQUIRE(slow.deadline() == 0);
                break;
            }
            const auto has_come = [&] {
                return next.at <= (next.of == deadline::clock::tsc ? now.tsc : now.ticks);
            };
            while (!has_come()) {
                slow_timer would = slow;
                REQUIRE_FALSE(would.look(now.tsc, stands::deliverable)); // not a tick too late
                go_on(1);
            }
            REQUIRE(one.expired(clock, stands::deliverable)); // and not one too soon
            REQUIRE(slow.look(now.tsc, stands::deliverable));
            ++checked;
        }
    }
    CHECK(checked > 10'000);
}

TEST_CASE("after a look that requested an interrupt, no deadline has come already",
          "[lapic][timer]") {
    moments now{~std::uint64_t{0} - 500, 0};
    test_clock clock{&now};
    timer one{{.minimum_period = 1'000, .most_owed_ticks = 10}};
    one.set_mode(clock, timer_mode::periodic);
    one.set_divide(clock, divided_by(1));
    one.set_initial_count(clock, 1'000'000);
    // Past the end of the clock: modulo 2^64, as the clock itself.
    CHECK(one.next(clock, stands::deliverable) ==
          deadline{deadline::clock::ticks, 1'000'000 - 501});
    now.ticks += 1'000'000; // around its end
    CHECK(one.expired(clock, stands::deliverable));
    CHECK(one.next(clock, stands::deliverable) ==
          deadline{deadline::clock::ticks, now.ticks + 1'000'000});
}

TEST_CASE("what waits for its vector to be taken wakes nobody: a guest that takes none",
          "[lapic][timer]") {
    // Its interrupts are off and its vector is in IRR: what could time add?
    for (const std::uint32_t count : {2U, 20'000U}) {
        moments now{};
        test_clock clock{&now};
        timer one{{.minimum_period = 100, .most_owed_ticks = 5}};
        one.set_mode(clock, timer_mode::periodic);
        one.set_divide(clock, divided_by(1));
        one.set_initial_count(clock, count);
        unsigned looks = 0;
        for (; looks < 100; ++looks) {
            const deadline next =
                one.next(clock, looks == 0 ? stands::deliverable : stands::requested);
            if (next.of == deadline::clock::none) {
                break;
            }
            CHECK(next.at >= now.ticks);
            now.ticks = next.at;
            CHECK(one.expired(clock, looks == 0 ? stands::deliverable : stands::requested) ==
                  (looks == 0));
        }
        CHECK(looks < 10);
        // Taken: what is owed comes at last.
        CHECK(one.next(clock, stands::deliverable).of == deadline::clock::ticks);
    }
}

TEST_CASE("a limit that nobody can want is no deadline in the past", "[lapic][timer]") {
    moments now{1'000, 0};
    test_clock clock{&now};
    timer one{{.minimum_period = ~std::uint64_t{0}}};
    one.set_mode(clock, timer_mode::periodic);
    one.set_initial_count(clock, 1);
    for (int look = 0; look < 3; ++look) {
        now.ticks += 10;
        (void)one.expired(clock, stands::deliverable);
        const deadline next = one.next(clock, stands::deliverable);
        CHECK(next.of == deadline::clock::ticks);
        CHECK((next.at - now.ticks) >> 63 == 0);
    }
}

TEST_CASE("a clock that jumped back leaves a state that can be restored", "[lapic][timer]") {
    moments now{10'000'000'000, 0};
    test_clock clock{&now};
    timer one;
    one.set_mode(clock, timer_mode::periodic);
    one.set_initial_count(clock, 1'000'000);
    now.ticks = 0;
    const timer_state saved = one.save(clock);
    timer other;
    CHECK(other.restore(clock, saved));
}

// --- by hand; also at compile time ------------------------------------------------------------

/// A count of 1, divided by 1, periodic: as many interrupts as the limit allows, and bounded work.
constexpr bool makes_no_storm() {
    moments now{};
    test_clock clock{&now};
    timer one{{.minimum_period = 100, .most_owed_ticks = 5}};
    one.set_mode(clock, timer_mode::periodic);
    one.set_divide(clock, divided_by(1));
    one.set_initial_count(clock, 1);
    unsigned requests = 0;
    for (unsigned look = 0; look < 1'000; ++look) {
        ++now.ticks;
        requests += one.expired(clock, stands::deliverable) ? 1U : 0U;
    }
    // One look after a very long time is one interrupt, and one is owed at most.
    now.ticks += std::uint64_t{1} << 62;
    const bool late = one.expired(clock, stands::deliverable);
    return requests == 10 && late && !one.expired(clock, stands::deliverable) && one.owed() <= 1 &&
           one.next(clock, stands::deliverable).at == now.ticks + 100;
}
static_assert(makes_no_storm());

/// The longest count: 0xFFFF'FFFF divided by 128, three times, from a clock near its end.
constexpr bool counts_the_longest() {
    moments now{~std::uint64_t{0} - 5, 0};
    test_clock clock{&now};
    timer one;
    one.set_mode(clock, timer_mode::periodic);
    one.set_divide(clock, divided_by(128));
    one.set_initial_count(clock, 0xFFFF'FFFF);
    bool right = one.current_count(clock) == 0xFFFF'FFFF;
    for (unsigned n = 0; n < 3; ++n) {
        now.ticks += std::uint64_t{0xFFFF'FFFF} * 128 - 1;
        right = right && !one.expired(clock, stands::deliverable) && one.current_count(clock) == 1;
        now.ticks += 1;
        right = right && one.expired(clock, stands::deliverable) &&
                one.current_count(clock) == 0xFFFF'FFFF;
    }
    return right;
}
static_assert(counts_the_longest());

/// Ticks are due at multiples of the period from the start, however late and unevenly one looks.
constexpr bool does_not_drift() {
    moments now{12'345, 0};
    test_clock clock{&now};
    timer one{{.minimum_period = 10, .most_owed_ticks = 1'000}};
    one.set_mode(clock, timer_mode::periodic);
    one.set_initial_count(clock, 50); // divided by 2 after reset: a period of 100
    std::uint64_t requests = 0;
    std::uint64_t late = 0;
    for (unsigned look = 0; look < 500; ++look) {
        late = (late * 7 + 3) % 91;
        now.ticks = 12'345 + look * 100 + late;
        requests += one.expired(clock, stands::deliverable) ? 1U : 0U;
    }
    return requests == 499 && one.current_count(clock) == (100 - late + 1) / 2;
}
static_assert(does_not_drift());

/// Ten periods while the first interrupt waits in IRR: nine are made up for, 10 ticks apart at least.
constexpr bool loses_no_tick() {
    moments now{};
    test_clock clock{&now};
    timer one{{.minimum_period = 10, .most_owed_ticks = 100}};
    one.set_mode(clock, timer_mode::periodic);
    one.set_divide(clock, divided_by(1));
    one.set_initial_count(clock, 100);
    now.ticks = 100;
    bool right = one.expired(clock, stands::deliverable);
    now.ticks = 1'050;
    right = right && !one.expired(clock, stands::requested) && one.owed() == 9;
    unsigned requests = 0;
    for (; now.ticks < 1'100; ++now.ticks) {
        requests += one.expired(clock, stands::deliverable) ? 1U : 0U;
    }
    return right && requests == 5 && one.owed() == 4;
}
static_assert(loses_no_tick());

/// The deadline of the guest's TSC: reads 0 once it has passed; one in the past expires at once.
constexpr bool expires_by_tsc() {
    moments now{0, 1'000};
    test_clock clock{&now};
    timer one;
    one.set_tsc_deadline(2'000); // ignored: not its mode
    bool right = one.tsc_deadline() == 0;
    one.set_mode(clock, timer_mode::tsc_deadline);
    one.set_initial_count(clock, 5); // ignored in it
    one.set_tsc_deadline(2'000);
    right = right && one.initial_count() == 0 && one.current_count(clock) == 0 &&
            one.next(clock, stands::deliverable) == deadline{deadline::clock::tsc, 2'000};
    now = {1'000'000, 1'999};
    right = right && !one.expired(clock, stands::deliverable);
    now.tsc = 2'000;
    right = right && one.expired(clock, stands::deliverable) && one.tsc_deadline() == 0 &&
            !one.expired(clock, stands::deliverable);
    one.set_tsc_deadline(1);
    right = right && one.expired(clock, stands::deliverable);
    one.set_tsc_deadline(3'000);
    one.set_mode(clock, timer_mode::one_shot); // disarms
    now.tsc = 4'000;
    return right && one.tsc_deadline() == 0 && !one.expired(clock, stands::deliverable);
}
static_assert(expires_by_tsc());

TEST_CASE("storm, longest count, drift, owed ticks and TSC deadline at run time too",
          "[lapic][timer]") {
    CHECK(makes_no_storm());
    CHECK(counts_the_longest());
    CHECK(does_not_drift());
    CHECK(loses_no_tick());
    CHECK(expires_by_tsc());
}

TEST_CASE("every value of DCR divides as the manual's table says", "[lapic][timer]") {
    const unsigned divisors[] = {2, 4, 8, 16, 32, 64, 128, 1}; // by bits 3, 1 and 0
    for (std::uint32_t written = 0; written < 32; ++written) { // bit 2 and those above mean nothing
        moments now{};
        test_clock clock{&now};
        timer one;
        one.set_divide(clock, divide_configuration{written});
        one.set_initial_count(clock, 3);
        const unsigned divisor = divisors[(written & 3) | ((written >> 1) & 4)];
        now.ticks = divisor * 3 - 1;
        CHECK_FALSE(one.expired(clock, stands::deliverable));
        now.ticks = divisor * 3;
        CHECK(one.expired(clock, stands::deliverable));
    }
}

TEST_CASE("a saved state that no timer can have is refused and changes nothing", "[lapic][timer]") {
    moments now{77, 5};
    test_clock clock{&now};
    timer one;
    one.set_initial_count(clock, 40);
    const timer before = one;
    timer_state good = one.save(clock);
    const auto refused = [&](auto change) {
        timer_state bad = good;
        change(bad);
        const auto said = one.restore(clock, bad);
        return !said && said.error().code == pt::errc::malformed && one == before;
    };
    CHECK(refused([](timer_state& s) { s.mode = static_cast<timer_mode>(4); }));
    CHECK(refused([](timer_state& s) { s.mode = static_cast<timer_mode>(0xFF); }));
    CHECK(refused([](timer_state& s) { s.mode = timer_mode::tsc_deadline; })); // it counts
    CHECK(refused([](timer_state& s) { s.divide_shift = 8; }));
    CHECK(refused([](timer_state& s) { s.ticks_left = 81; })); // 40 * 2
    CHECK(refused([](timer_state& s) { s.ticks_left = ~std::uint64_t{0}; }));
    CHECK(refused([](timer_state& s) { s.initial_count = 0; }));
    CHECK(refused([](timer_state& s) { s.tsc_deadline = 1; }));
    // Owed ticks of a VMM with other limits merge.
    good.owed = 0xFFFF'FFFF;
    good.ticks_since_last = ~std::uint64_t{0};
    REQUIRE(one.restore(clock, good));
    CHECK(one.owed() == 1);
    good.mode = timer_mode::periodic;
    good.initial_count = 0xFFFF'FFFF;
    REQUIRE(one.restore(clock, good));
    CHECK(one.owed() == timer_limits{}.most_owed_ticks);
}

TEST_CASE("random bytes for a state are refused or make a timer that works", "[lapic][timer]") {
    std::mt19937_64 random{31};
    for (unsigned i = 0; i < 20'000; ++i) {
        moments now{random(), random()};
        test_clock clock{&now};
        const timer_state any{
            .mode = static_cast<timer_mode>(random() % 5),
            .divide_shift = static_cast<std::uint8_t>(random() % 10),
            .initial_count = static_cast<std::uint32_t>(random() >> random() % 64),
            .owed = static_cast<std::uint32_t>(random()),
            .ticks_left = random() >> random() % 64,
            .ticks_since_last = random() >> random() % 64,
            .tsc_deadline = random() % 2 != 0 ? 0 : random(),
        };
        timer one;
        if (!one.restore(clock, any)) {
            REQUIRE(one == timer{});
            continue;
        }
        for (unsigned look = 0; look < 8; ++look) {
            const std::uint64_t at = now.ticks;
            const deadline next = one.next(clock, stands::deliverable);
            REQUIRE((next.of != deadline::clock::ticks || next.at >= at));
            (void)one.expired(clock, static_cast<stands>(random() % 3));
            REQUIRE(one.current_count(clock) <= one.initial_count());
            now.ticks += random() >> (1 + random() % 63);
            now.tsc += random() >> (1 + random() % 63);
        }
    }
}

} // namespace
