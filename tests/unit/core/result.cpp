// SPDX-License-Identifier: BSL-1.0
#include "pt/core/result.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

namespace {

using pt::errc;
using pt::error;
using pt::result;

constexpr result<int> half(int n) {
    if (n % 2 != 0) {
        return error{errc::misaligned, static_cast<std::uint64_t>(n)};
    }
    return n / 2;
}

constexpr bool a_result_is_one_or_the_other() {
    result<int> good = half(42);
    const result<int> bad = half(7);
    bool right = good && good.has_value() && *good == 21 && good.value() == 21;
    right &= !bad && !bad.has_value() && bad.error() == error{errc::misaligned, 7};
    *good = 5;
    right &= good.value() == 5 && good.value_or(9) == 5 && bad.value_or(9) == 9;
    right &= good == result<int>{5} && !(good == bad) && bad == half(7) && !(bad == half(9));
    struct pair {
        int first = 1;
        int second = 2;
    };
    result<pair> both = pair{};
    both->second = 3;
    right &= std::as_const(both)->second == 3 && both->first == 1;
    return right;
}
static_assert(a_result_is_one_or_the_other());

constexpr bool a_chain_ends_at_the_first_error() {
    bool right = half(40).and_then(half).and_then(half) == result<int>{5};
    right &= half(20).and_then(half).and_then(half).error() == error{errc::misaligned, 5};
    int calls = 0;
    const auto count = [&](int n) {
        ++calls;
        return n + 1;
    };
    right &= half(8).transform(count) == result<int>{5} && calls == 1;
    right &= half(9).transform(count).error() == error{errc::misaligned, 9} && calls == 1;
    const result<> done = half(8).transform([&](int n) { calls += n; });
    right &= done.has_value() && calls == 5;
    right &= half(4).and_then([](int n) { return result<long>{n * 10L}; }).value() == 20L;
    return right;
}
static_assert(a_chain_ends_at_the_first_error());

constexpr bool success_needs_no_value() {
    const result<> good;
    const result<> bad = error{errc::busy, 3};
    int calls = 0;
    const auto next = [&]() -> result<> {
        ++calls;
        return error{errc::time_out, 9};
    };
    good.value();
    return good && !bad && bad.error() == error{errc::busy, 3} && good == result<>{} &&
           !(good == bad) && bad.and_then(next).error() == error{errc::busy, 3} && calls == 0 &&
           good.and_then(next).error() == error{errc::time_out, 9} && calls == 1;
}
static_assert(success_needs_no_value());

TEST_CASE("a result holds a value or an error", "[core]") {
    CHECK(a_result_is_one_or_the_other());
    CHECK(a_chain_ends_at_the_first_error());
    CHECK(success_needs_no_value());
}

/// Can only be moved, has no default, and counts how many of it there are.
class ticket {
public:
    constexpr ticket(int* alive, int number) : alive_{alive}, number_{number} { ++*alive_; }
    constexpr ticket(ticket&& other) : alive_{other.alive_}, number_{other.number_} { ++*alive_; }
    ticket& operator=(ticket&&) = delete;
    constexpr ~ticket() { --*alive_; }
    [[nodiscard]] constexpr int number() const { return number_; }

private:
    int* alive_;
    int number_;
};
static_assert(!std::is_default_constructible_v<ticket> && !std::is_copy_constructible_v<ticket>);
// Such a result is returned, and its value moved out; it is not itself passed on.
static_assert(!std::is_move_constructible_v<result<ticket>> &&
              !std::is_copy_constructible_v<result<ticket>> &&
              !std::is_move_assignable_v<result<ticket>>);

constexpr result<ticket> issue(int* alive, int number) {
    if (number < 0) {
        return error{errc::refused, 1};
    }
    return ticket{alive, number};
}

constexpr bool tickets_are_moved_and_none_is_lost() {
    int alive = 0;
    bool right = true;
    {
        result<ticket> held = issue(&alive, 3);
        right &= alive == 1 && held && held->number() == 3 && (*held).number() == 3;
        const ticket out = *std::move(held);
        right &= alive == 2 && out.number() == 3; // what was moved from is still there
        const result<ticket> none = issue(&alive, -1);
        right &= alive == 2 && !none && none.error() == error{errc::refused, 1};
        const ticket direct = issue(&alive, 4).value();
        right &= alive == 3 && direct.number() == 4;
        // A chain hands it on and never copies it.
        const auto next = [&](ticket&& t) { return issue(&alive, t.number() - 10); };
        right &= issue(&alive, 15).and_then(next).transform([](ticket&& t) {
            return t.number();
        }) == result<int>{5};
        right &= issue(&alive, 5).and_then(next).error() == error{errc::refused, 1};
        const result<ticket> passed =
            issue(&alive, 6).transform([](ticket&& t) { return ticket{std::move(t)}; });
        right &= alive == 4 && passed->number() == 6;
    }
    return right && alive == 0;
}
static_assert(tickets_are_moved_and_none_is_lost());

TEST_CASE("a result can hold what can only be moved", "[core]") {
    CHECK(tickets_are_moved_and_none_is_lost());
    const auto make = [](int n) -> result<std::unique_ptr<int>> {
        if (n < 0) {
            return error{errc::refused, 1};
        }
        return std::make_unique<int>(n);
    };
    const std::unique_ptr<int> out = make(4).value();
    CHECK(*out == 4);
    CHECK(make(-1).error() == error{errc::refused, 1});
}

TEST_CASE("each error code has its own name", "[core]") {
    std::set<std::string> names;
    for (int code = 0; code <= static_cast<int>(errc::hardware_fault); ++code) {
        names.insert(name(static_cast<errc>(code)));
    }
    CHECK(names.size() == static_cast<std::size_t>(errc::hardware_fault) + 1);
    CHECK(names.count("unknown") == 0);
    CHECK(std::string{name(errc::out_of_frames)} == "out_of_frames");
    CHECK(std::string{name(static_cast<errc>(0xEE))} == "unknown");
}

} // namespace
