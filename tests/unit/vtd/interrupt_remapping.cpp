// SPDX-License-Identifier: BSL-1.0
//
// The interrupt remapping table against a second model of the hardware, whose device sends a request
// after each word that becomes visible and around each order to the unit.
#include "interrupt_remapping_model.hpp"

#include "../../paging_model/contract.hpp"

#include "pt/core/archetype.hpp"
#include "pt/memory/arena.hpp"
#include "pt/vtd/interrupt_remapping_table.hpp"
#include "pt/vtd/remappable_message.hpp"

#include <catch2/catch_test_macros.hpp>

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

using interrupt_model::outcome;
using paging_model::breaks_contract;
using pt::errc;
using pt::error;
using pt::hpa;
using namespace pt::vtd;

template <std::uint32_t Entries>
using machine = interrupt_model::machine<Entries>;
template <class Machine>
using queue = interrupt_model::queue<Machine>;

/// The table of a machine: with an atomic wide store, or without.
template <class Machine>
using halves = interrupt_remapping_table<interrupt_model::publisher<Machine>>;
template <class Machine>
using whole = interrupt_remapping_table<interrupt_model::publisher<Machine>,
                                        interrupt_model::whole_store<Machine>>;

template <class Machine>
constexpr halves<Machine> by_halves(Machine& on, apic_mode mode = apic_mode::xapic) {
    on.unit.extended = mode == apic_mode::x2apic;
    return std::move(
        *halves<Machine>::over(hpa{Machine::base}, on.stored, on.unit.entries, mode, {&on}));
}
template <class Machine>
constexpr whole<Machine> as_a_whole(Machine& on, apic_mode mode = apic_mode::xapic) {
    on.unit.extended = mode == apic_mode::x2apic;
    return std::move(
        *whole<Machine>::over(hpa{Machine::base}, on.stored, on.unit.entries, mode, {&on}, {&on}));
}

constexpr std::uint16_t nic = 0x0128;
constexpr std::uint16_t other = 0x0130;
constexpr interrupt_requester from_nic = interrupt_requester::exactly(nic);

constexpr outcome blocked(unsigned reason) {
    return {.what = outcome::kind::blocked, .reason = reason, .recorded = true};
}
constexpr outcome delivered(unsigned vector, std::uint64_t destination, unsigned mode = 0) {
    return {.what = outcome::kind::delivered,
            .vector = vector,
            .destination = destination,
            .mode = mode};
}
constexpr outcome posted(unsigned vector, std::uint64_t descriptor, unsigned urgent = 0) {
    return {
        .what = outcome::kind::posted, .vector = vector, .destination = descriptor, .mode = urgent};
}

/// What becomes of the message of entry `index`.
template <class Machine>
constexpr outcome raise(Machine& on, interrupt_index index, std::uint16_t source) {
    const interrupt_message message = remappable_message(index);
    return on.request(message.address, message.data, source);
}
/// The device that never stops raises entry `index` from now on.
template <class Machine>
constexpr void start_device(Machine& on, interrupt_index index, std::uint16_t source) {
    const interrupt_message message = remappable_message(index);
    on.device.runs = true;
    on.device.source = source;
    on.device.address = message.address;
    on.device.data = message.data;
    on.device.count = 0;
}
/// Whether it saw nothing but these.
template <class Machine>
constexpr bool saw_only(const Machine& on, outcome a, outcome b) {
    for (std::size_t i = 0; i < on.device.count; ++i) {
        if (!(on.device.seen[i] == a) && !(on.device.seen[i] == b)) {
            return false;
        }
    }
    return on.device.count > 0 && on.device.count < 128;
}

// ---- one entry ----------------------------------------------------------------------------------

constexpr bool comes_and_goes(bool caching_mode, bool backwards) {
    machine<16> on;
    on.caching_mode = caching_mode;
    on.backwards = backwards;
    queue<machine<16>> port{&on};
    auto table = by_halves(on);
    const interrupt_index index = table.allocate().value()[0];
    bool ok = raise(on, index, nic) == blocked(0x22);

    // First by somebody else's device, which never gets through.
    constexpr interrupt_target to{.vector = 0x41, .destination_id = 3};
    start_device(on, index, other);
    ok = ok && table.set(index, to, from_nic, port);
    ok = ok && saw_only(on, blocked(0x22), blocked(0x26));
    ok = ok && table.clear(index, port);
    ok = ok && saw_only(on, blocked(0x22), blocked(0x26));

    start_device(on, index, nic);
    ok = ok && table.set(index, to, from_nic, port);
    ok = ok && saw_only(on, blocked(0x22), delivered(0x41, 3));
    ok = ok && raise(on, index, nic) == delivered(0x41, 3);
    ok = ok && raise(on, index, other) == blocked(0x26);

    start_device(on, index, nic);
    ok = ok && table.clear(index, port);
    ok = ok && saw_only(on, blocked(0x22), delivered(0x41, 3));
    ok = ok && raise(on, index, nic) == blocked(0x22);
    ok = ok && table.clear(index, port); // nothing to do
    ok = ok && table.release({index, 0}, port);
    ok = table.retire(port) && ok;
    return ok && on.violation == nullptr;
}
static_assert(comes_and_goes(false, false));
static_assert(comes_and_goes(true, true));

TEST_CASE("an entry appears and goes without a request through half of it",
          "[vtd][interrupts][rule 14]") {
    CHECK(comes_and_goes(false, false));
    CHECK(comes_and_goes(false, true));
    CHECK(comes_and_goes(true, false));
    CHECK(comes_and_goes(true, true));
}

constexpr bool says_what_it_does() {
    machine<16> on;
    queue<machine<16>> port{&on};
    auto table = by_halves(on);
    const interrupt_index index = table.allocate().value()[0];
    bool ok = table
                  .set(index,
                       interrupt_target{.vector = 0x77,
                                        .destination_id = 0x81,
                                        .destination_mode = interrupt_destination::logical,
                                        .delivery_mode = interrupt_delivery::lowest_priority,
                                        .trigger_mode = interrupt_trigger::level,
                                        .redirection_hint = true},
                       from_nic, port)
                  .has_value();
    // DLM 001, TM 1, RH 1, DM 1 in bits 7:2
    ok = ok && raise(on, index, nic) == delivered(0x77, 0x81, 0b001111);
    ok = ok && table.clear(index, port);
    ok = ok && table.set(index, interrupt_target{.vector = 0x77, .fault_processing_disable = true},
                         from_nic, port);
    ok = ok && raise(on, index, other).reason == 0x26 && !raise(on, index, other).recorded;
    ok = ok && table.clear(index, port);
    ok = ok && raise(on, index, other) == blocked(0x22); // recorded again: nothing is left of it
    ok = ok &&
         table.set(index,
                   posted_target{
                       .descriptor = hpa{0x1234'5678'9ABC'DEC0}, .vector = 0x33, .urgent = true},
                   from_nic, port);
    ok = ok && raise(on, index, nic) == posted(0x33, 0x1234'5678'9ABC'DEC0, 1);
    ok = table.retire(port) && ok;
    return ok && on.violation == nullptr;
}
static_assert(says_what_it_does());

TEST_CASE("every field of an entry means to the hardware what it says",
          "[vtd][interrupts][rule 19]") {
    CHECK(says_what_it_does());
}

TEST_CASE("what hardware would take amiss is an error, and nothing is written",
          "[vtd][interrupts]") {
    const auto on = std::make_unique<machine<16>>();
    queue<machine<16>> port{on.get()};
    auto table = by_halves(*on);
    const interrupt_index index = table.allocate().value()[0];
    const auto refused = [&](const auto& to, interrupt_requester from) {
        const auto answer = table.set(index, to, from, port);
        CHECK(on->requests == 0);
        CHECK_FALSE(table.entry(index).present());
        return answer.error();
    };
    using target = interrupt_target;
    for (unsigned vector = 0; vector < 16; ++vector) {
        const auto illegal = static_cast<std::uint8_t>(vector);
        CHECK(refused(target{.vector = illegal}, from_nic) == error{errc::out_of_range, vector});
        CHECK(refused(posted_target{.vector = illegal}, from_nic) ==
              error{errc::out_of_range, vector});
    }
    CHECK(refused(target{.vector = 0x41, .destination_id = 0x100}, from_nic) ==
          error{errc::out_of_range, 0x100});
    for (const unsigned reserved : {3U, 6U, 8U, 255U}) {
        CHECK(refused(target{.vector = 0x41,
                             .delivery_mode = static_cast<interrupt_delivery>(reserved)},
                      from_nic) == error{errc::not_supported, reserved});
    }
    for (const interrupt_delivery mode : {interrupt_delivery::smi, interrupt_delivery::nmi,
                                          interrupt_delivery::init, interrupt_delivery::ext_int}) {
        const auto number = static_cast<std::uint64_t>(mode);
        CHECK(refused(target{.vector = 0x41, .delivery_mode = mode}, from_nic) ==
              error{errc::out_of_range, 0x41});
        CHECK(refused(target{.delivery_mode = mode, .trigger_mode = interrupt_trigger::level},
                      from_nic) == error{errc::not_supported, number});
        CHECK(interrupt_entry::remapped({.delivery_mode = mode}, from_nic, apic_mode::xapic)
                  .value()
                  .low == (1 | number << 5));
    }
    CHECK(refused(target{.vector = 0x41}, interrupt_requester::buses(5, 4)) ==
          error{errc::out_of_range, 0x0504});
    CHECK(refused(posted_target{.vector = 0x41}, interrupt_requester::buses(5, 4)).code ==
          errc::out_of_range);
    CHECK(refused(target{.vector = 0x41}, {source_validation{3}, {}, 0}).code ==
          errc::out_of_range);
    CHECK(refused(target{.vector = 0x41}, {{}, source_id_qualifier{4}, 0}).code ==
          errc::out_of_range);
    CHECK(refused(posted_target{.descriptor = hpa{0x1020}, .vector = 0x41}, from_nic) ==
          error{errc::misaligned, 0x1020});

    on->cap = ~(std::uint64_t{1} << 59); // everything but PI
    CHECK(refused(posted_target{.vector = 0x41}, from_nic) == error{errc::not_supported, 0x08});
    REQUIRE(table.retire(port));

    auto extended = by_halves(*on, apic_mode::x2apic);
    const interrupt_index there = extended.allocate().value()[0];
    CHECK(
        extended.set(there, target{.vector = 0x41, .destination_id = 0xFFFF'FFFE}, from_nic, port));
    CHECK(raise(*on, there, nic) == delivered(0x41, 0xFFFF'FFFE));
    on->ecap &= ~std::uint64_t{0x10}; // no EIM
    CHECK(extended.change(there, target{.vector = 0x42}, from_nic, port).error() ==
          error{errc::not_supported, 0x10});
    REQUIRE(extended.retire(port));
}

TEST_CASE("an entry is used by whoever has allocated it, once, and before retire()",
          "[vtd][interrupts]") {
    const auto on = std::make_unique<machine<16>>();
    queue<machine<16>> port{on.get()};
    auto table = by_halves(*on);
    const interrupt_target to{.vector = 0x41};
    for (const std::uint16_t nobody :
         {std::uint16_t{0}, std::uint16_t{15}, std::uint16_t{16}, std::uint16_t{0xFFFF}}) {
        CHECK(table.set({nobody}, to, from_nic, port).error() == error{errc::absent, nobody});
        CHECK(table.change({nobody}, to, from_nic, port).error() == error{errc::absent, nobody});
        CHECK(table.clear({nobody}, port).error() == error{errc::absent, nobody});
        CHECK(table.entry({nobody}) == interrupt_entry{});
    }
    const interrupt_block one = table.allocate().value();
    CHECK(table.change(one[0], to, from_nic, port).error() == error{errc::not_mapped, 0});
    REQUIRE(table.set(one[0], to, from_nic, port));
    CHECK(table.set(one[0], to, from_nic, port).error() == error{errc::already_mapped, 0});
    CHECK(table.release({one.first, 1}, port).error() == error{errc::absent, 1});
    CHECK(table.release({{1}, 1}, port).error() == error{errc::misaligned, 1});
    CHECK(table.release({{16}, 0}, port).error() == error{errc::out_of_range, 16});
    CHECK(table.release({{0}, 5}, port).error().code == errc::out_of_range);
    CHECK(table.release({{0}, 64}, port).error().code == errc::out_of_range);
    CHECK(raise(*on, one[0], nic) == delivered(0x41, 0)); // all this changed nothing
    REQUIRE(table.release(one, port));
    CHECK(raise(*on, one[0], nic) == blocked(0x22));
    CHECK(table.release(one, port).error() == error{errc::absent, 0});

    CHECK(breaks_contract([&] { auto lost = by_halves(*on); }));
    REQUIRE(table.retire(port));
    CHECK(table.retire(port)); // again: nothing to do
    CHECK(breaks_contract([&] { (void)table.allocate(); }));
    CHECK(breaks_contract([&] { (void)table.set(one[0], to, from_nic, port); }));
    CHECK(breaks_contract([&] { (void)table.clear(one[0], port); }));
    CHECK(breaks_contract([&] { (void)table.release(one, port); }));
    CHECK(breaks_contract([&] { (void)table.entry(one[0]); }));
    CHECK(breaks_contract([&] { (void)table.address(); }));
    CHECK(breaks_contract([&] { (void)interrupt_block{{0}, 2}[4]; }));
    CHECK_FALSE(breaks_contract([&] {
        auto given_up = by_halves(*on);
        given_up.leak();
    }));
}

// ---- changes of a live entry --------------------------------------------------------------------

constexpr interrupt_target to_3{.vector = 0x41, .destination_id = 3};
constexpr interrupt_target to_9{.vector = 0x9E, .destination_id = 0xC};
constexpr posted_target post_a{.descriptor = hpa{0x1'2345'6780}, .vector = 0x51};
constexpr posted_target post_b{.descriptor = hpa{0xFFFE'DCBA'9840}, .vector = 0x6E};

/// An entry as it was set, then changed: each request goes one way or the other.
template <class Before, class After>
constexpr bool changes(const Before& before, outcome was, const After& after,
                       interrupt_requester from, outcome is, bool caching_mode) {
    machine<16> on;
    on.caching_mode = caching_mode;
    queue<machine<16>> port{&on};
    auto table = as_a_whole(on);
    const interrupt_index index = table.allocate().value()[0];
    bool ok = table.set(index, before, from_nic, port).has_value();
    ok = ok && raise(on, index, nic) == was; // and is cached
    const unsigned requests = on.requests;
    start_device(on, index, nic);
    ok = ok && table.change(index, after, from, port);
    ok = ok && saw_only(on, was, is) && on.saw(was) && on.saw(is);
    ok = ok && on.requests == requests + 1 && raise(on, index, nic) == is;
    ok = table.retire(port) && ok;
    return ok && on.violation == nullptr;
}
constexpr outcome at_3 = delivered(0x41, 3);
constexpr outcome at_9 = delivered(0x9E, 0xC);
constexpr outcome in_a = posted(0x51, 0x1'2345'6780);
constexpr outcome in_b = posted(0x6E, 0xFFFE'DCBA'9840);
static_assert(changes(to_3, at_3, to_9, from_nic, at_9, false));
static_assert(changes(to_3, at_3, post_a, from_nic, in_a, false));
static_assert(changes(post_a, in_a, post_b, from_nic, in_b, true));

TEST_CASE("a live entry changes in one step", "[vtd][interrupts][rule 14][rule 19]") {
    constexpr interrupt_requester from_other = interrupt_requester::exactly(other);
    for (const bool caching_mode : {false, true}) {
        CHECK(changes(to_3, at_3, to_9, from_nic, at_9, caching_mode));
        CHECK(changes(to_3, at_3, post_a, from_nic, in_a, caching_mode));
        CHECK(changes(post_a, in_a, to_3, from_nic, at_3, caching_mode));
        CHECK(changes(post_a, in_a, post_b, from_nic, in_b, caching_mode));
        CHECK(changes(to_3, at_3, to_9, from_other, blocked(0x26), caching_mode));
    }
}

TEST_CASE("without a wide store, one half of a live entry changes, or none",
          "[vtd][interrupts][rule 14][rule 19]") {
    const auto on = std::make_unique<machine<16>>();
    queue<machine<16>> port{on.get()};
    auto table = by_halves(*on);
    const interrupt_index index = table.allocate().value()[0];
    REQUIRE(table.set(index, to_3, from_nic, port));
    CHECK(raise(*on, index, nic) == at_3); // and is cached

    start_device(*on, index, nic);
    REQUIRE(table.change(index, to_9, from_nic, port)); // another vector and processor
    CHECK(saw_only(*on, at_3, at_9));
    CHECK(on->saw(at_3));
    CHECK(on->saw(at_9));

    start_device(*on, index, other);
    REQUIRE(table.change(index, to_9, interrupt_requester::exactly(other), port));
    CHECK(saw_only(*on, blocked(0x26), at_9));

    const interrupt_entry before = table.entry(index);
    const unsigned requests = on->requests;
    CHECK(table.change(index, to_3, from_nic, port).error() == error{errc::not_supported, 0});
    CHECK(table.change(index, post_a, interrupt_requester::exactly(other), port).error() ==
          error{errc::not_supported, 0});
    CHECK(table.entry(index) == before);
    CHECK(on->requests == requests);
    CHECK(raise(*on, index, other) == at_9);

    // As the manual lets anybody: block, and begin anew.
    REQUIRE(table.clear(index, port));
    REQUIRE(table.set(index, post_a, from_nic, port));
    start_device(*on, index, nic);
    posted_target next = post_a;
    next.vector = 0x52; // in the lower half
    REQUIRE(table.change(index, next, from_nic, port));
    CHECK(saw_only(*on, in_a, posted(0x52, 0x1'2345'6780)));
    CHECK(table.change(index, post_b, from_nic, port).error().code == errc::not_supported);
    CHECK(raise(*on, index, nic) == posted(0x52, 0x1'2345'6780));
    REQUIRE(table.retire(port));
}

// ---- a unit that does not answer ----------------------------------------------------------------

TEST_CASE("an operation that the unit did not finish can be repeated, and nothing is free before",
          "[vtd][interrupts]") {
    for (const bool caching_mode : {false, true}) {
        for (const unsigned call : {1U, 2U}) {
            INFO("call " << call << ", caching mode " << caching_mode);
            const auto on = std::make_unique<machine<16>>();
            on->caching_mode = caching_mode;
            queue<machine<16>> port{on.get()};
            auto table = as_a_whole(*on);
            const interrupt_block block = table.allocate(2).value();
            const interrupt_index index = block[1];
            const auto fail = [&] {
                on->port_calls = 0;
                on->fail_at = call;
            };
            const error time_out{errc::time_out, call};

            fail();
            CHECK(table.set(index, to_3, from_nic, port).error() == time_out);
            CHECK_FALSE(table.entry(index).present());
            CHECK(table.set(index, to_3, from_nic, port));
            CHECK(raise(*on, index, nic) == at_3);

            fail();
            CHECK(table.change(index, post_a, from_nic, port).error() == time_out);
            CHECK(raise(*on, index, nic) == at_3); // still cached
            CHECK(table.change(index, post_a, from_nic, port));
            CHECK(raise(*on, index, nic) == in_a);

            fail();
            CHECK(table.clear(index, port).error() == time_out);
            CHECK_FALSE(table.entry(index).present());
            CHECK(raise(*on, index, nic) == in_a); // still cached: the descriptor must stay
            fail();
            CHECK(table.release(block, port).error() == time_out);
            CHECK(raise(*on, index, nic) == in_a);
            CHECK(table.allocate(16).error() == error{errc::busy, 16});
            CHECK(table.allocate(2).value().first == interrupt_index{2}); // not that block
            CHECK(table.release({{2}, 1}, port));
            CHECK(table.clear(index, port));
            CHECK(raise(*on, index, nic) == blocked(0x22));
            CHECK(table.set(index, to_9, from_nic, port));
            fail();
            CHECK(table.release(block, port).error() == time_out);
            CHECK(table.release(block, port));
            CHECK(raise(*on, index, nic) == blocked(0x22));
            CHECK(table.allocate(16));

            fail();
            CHECK(table.retire(port).error() == time_out);
            const unsigned requests = on->requests;
            CHECK(table.retire(port));
            CHECK(on->requests == requests + 1);
            CHECK(on->violation == nullptr);
        }
    }
}

TEST_CASE("one invalidation covers a block, as far as the unit's masks reach",
          "[vtd][interrupts][rule 18]") {
    const auto on = std::make_unique<machine<256>>();
    queue<machine<256>> port{on.get()};
    on->ecap = 0x30'0018; // MHMV 3: eight entries
    auto table = by_halves(*on);
    REQUIRE(table.allocate(16).value() == interrupt_block{{0}, 4});
    const interrupt_block eight = table.allocate(8).value();
    REQUIRE(eight == interrupt_block{{16}, 3});
    REQUIRE(table.set(eight[5], to_3, from_nic, port));
    CHECK(on->last == 0x15'0000'0014); // one entry: IIDX in 47:32, IM 0, granularity 1, type 4
    const unsigned requests = on->requests;
    REQUIRE(table.release(eight, port));
    CHECK(on->last == 0x10'1800'0014); // IM 3 in 31:27
    REQUIRE(table.set({7}, to_3, from_nic, port));
    REQUIRE(table.release({{0}, 4}, port));
    CHECK(on->last == 0x4); // global
    CHECK(on->requests == requests + 3);
    REQUIRE(table.release(table.allocate(16).value(), port));
    CHECK(on->requests == requests + 3); // nothing was in use
    REQUIRE(table.retire(port));
    CHECK(on->last == 0x4);
    CHECK(on->requests == requests + 4);
    CHECK(on->violation == nullptr);
}

// ---- the table as a whole -----------------------------------------------------------------------

constexpr bool one_frame() {
    pt::arena<1> frames{hpa{0x7'0000'0000}};
    auto memory = frames.memory();
    machine<16> on;
    queue<machine<16>> port{&on};
    using table_type = interrupt_remapping_table<pt::archetype::publication>;
    auto made = table_type::create(memory, apic_mode::x2apic);
    bool ok = made.has_value() && !table_type::create(memory, apic_mode::xapic);
    auto table = std::move(*made);
    ok = ok && table.size() == 256 && table.base() == hpa{0x7'0000'0000};
    ok = ok && table.mode() == apic_mode::x2apic;
    ok = ok && table.address().raw == 0x7'0000'0807; // EIME, 2^(7 + 1) entries
    ok = ok && table.allocate(256) && !table.allocate();
    ok = table.retire(port) && ok;
    memory.release(table.base());
    return ok;
}
static_assert(one_frame());

TEST_CASE("a table in one frame has 256 entries", "[vtd][interrupts][rule 19]") {
    CHECK(one_frame());
}

TEST_CASE("the ready policies make a table that changes at once, on a real processor",
          "[vtd][interrupts][rule 14]") {
    alignas(4096) static std::uint64_t words[512];
    using ready = interrupt_remapping_table<pt::paging::clflush_publication, pt::cmpxchg16b_store>;
    machine<16> on;
    queue<machine<16>> port{&on};
    auto table = std::move(*ready::over(hpa{0x1000}, words, 256, apic_mode::x2apic));
    const interrupt_block block = table.allocate(4).value();
    REQUIRE(table.set(block[2], to_3, from_nic, port));
    CHECK((words[4] == 0x0000'0003'0041'0001 && words[5] == 0x4'0128));
    REQUIRE(table.change(block[2], post_b, interrupt_requester::exactly(other), port));
    CHECK((words[4] == 0xDCBA'9840'006E'8001 && words[5] == 0x0000'FFFE'0004'0130));
    REQUIRE(table.release(block, port));
    CHECK((words[4] == 0 && words[5] == 0));
    REQUIRE(table.retire(port));
}

TEST_CASE("the size of a table is told as its logarithm minus one", "[vtd][interrupts][rule 19]") {
    const auto on = std::make_unique<machine<65536>>();
    queue<machine<65536>> port{on.get()};
    using table_type = halves<machine<65536>>;
    std::uint64_t size = 0;
    for (std::uint32_t count = 2; count <= 65536; count *= 2, ++size) {
        for (std::uint64_t& word : on->stored) {
            word = ~std::uint64_t{0}; // a block is not clean
        }
        for (std::uint64_t& word : on->visible) {
            word = ~std::uint64_t{0};
        }
        on->unit.entries = count;
        auto table = by_halves(*on);
        CHECK(table.address().raw == (0x12'3456'7000 | size));
        CHECK(table.size() == count);
        CHECK(raise(*on, {static_cast<std::uint16_t>(count - 1)}, nic) == blocked(0x22));
        const interrupt_block all = table.allocate(count).value();
        CHECK(all.size() == count);
        const interrupt_index last = all[count - 1];
        CHECK(last.raw == count - 1);
        REQUIRE(table.set(last, to_3, from_nic, port));
        CHECK(raise(*on, last, nic) == at_3);
        REQUIRE(table.release(all, port)); // with a global invalidation at 65536: MHMV is 15
        CHECK(raise(*on, last, nic) == blocked(0x22));
        REQUIRE(table.retire(port));
    }
    CHECK(size == 16);
    CHECK(on->violation == nullptr);
    const auto over = [&](std::uint64_t base, std::uint32_t count) {
        return table_type::over(hpa{base}, on->stored, count, apic_mode::xapic, {on.get()}).error();
    };
    for (const std::uint32_t count : {0U, 1U, 3U, 255U, 65537U, 131072U, 0x8000'0000U}) {
        CHECK(over(0x1000, count) == error{errc::out_of_range, count});
    }
    CHECK(over(0x1800, 2) == error{errc::misaligned, 0x1800});
}

TEST_CASE("entries and aligned blocks are given out once, and come back", "[vtd][interrupts]") {
    const auto on = std::make_unique<machine<256>>();
    queue<machine<256>> port{on.get()};
    auto table = by_halves(*on);
    CHECK(table.allocate(0).error() == error{errc::out_of_range, 0});
    CHECK(table.allocate(3).error() == error{errc::out_of_range, 3});
    CHECK(table.allocate(512).error() == error{errc::out_of_range, 512});
    CHECK(table.allocate(0x8000'0000).error().code == errc::out_of_range);

    std::mt19937 random{19};
    std::set<std::uint32_t> taken;
    std::vector<interrupt_block> blocks;
    unsigned full = 0;
    for (unsigned round = 0; round < 4000; ++round) {
        if (random() % 5 < 3) {
            const std::uint32_t count = 1U << random() % 6;
            bool room = false; // whether an aligned row of that many is free
            for (std::uint32_t first = 0; first < 256 && !room; first += count) {
                room = taken.lower_bound(first) == taken.lower_bound(first + count);
            }
            const auto block = table.allocate(count);
            REQUIRE(block.has_value() == room);
            if (!block) {
                CHECK(block.error() == error{errc::busy, count});
                ++full;
                continue;
            }
            REQUIRE(block->size() == count);
            REQUIRE(block->first.raw % count == 0);
            for (std::uint32_t i = 0; i < count; ++i) {
                REQUIRE((*block)[i].raw < 256);
                REQUIRE(taken.insert((*block)[i].raw).second);
                if (random() % 2 == 0) {
                    REQUIRE(table.set((*block)[i], to_3, from_nic, port));
                }
            }
            blocks.push_back(*block);
        } else if (!blocks.empty()) {
            std::swap(blocks[random() % blocks.size()], blocks.back());
            REQUIRE(table.release(blocks.back(), port));
            for (std::uint32_t i = 0; i < blocks.back().size(); ++i) {
                taken.erase(blocks.back()[i].raw);
                REQUIRE(table.entry(blocks.back()[i]) == interrupt_entry{});
                REQUIRE(raise(*on, blocks.back()[i], nic) == blocked(0x22));
            }
            blocks.pop_back();
        }
    }
    CHECK(full > 100);
    CHECK(on->violation == nullptr);
    REQUIRE(table.retire(port));
}

// ---- messages -----------------------------------------------------------------------------------

TEST_CASE("a message leads to the entry that it was made for", "[vtd][interrupts]") {
    const auto on = std::make_unique<machine<65536>>();
    queue<machine<65536>> port{on.get()};
    auto table = by_halves(*on, apic_mode::x2apic);
    REQUIRE(table.allocate(65536));
    for (std::uint32_t i = 0; i < 65536; ++i) {
        const interrupt_index index{static_cast<std::uint16_t>(i)};
        REQUIRE(table.set(index, interrupt_target{.vector = 0x41, .destination_id = i}, from_nic,
                          port));
        REQUIRE(raise(*on, index, nic) == delivered(0x41, i));
        REQUIRE(interrupt_request::of(remappable_message(index)).value() ==
                interrupt_request{interrupt_request::format::remappable, i});
    }
    // MSI with several vectors: the function puts the vector's number into the low bits of the data.
    for (std::uint8_t log2 = 0; log2 <= 5; ++log2) {
        for (const std::uint32_t first : {0U, 32U, 0x7FE0U, 0x8000U, 0xFFE0U}) {
            const interrupt_block block{{static_cast<std::uint16_t>(first)}, log2};
            const interrupt_message message = remappable_message(block);
            for (std::uint32_t vector = 0; vector < block.size(); ++vector) {
                const std::uint32_t data = (message.data & ~(block.size() - 1)) | vector;
                CHECK(on->request(message.address, data, nic) == delivered(0x41, first + vector));
            }
        }
    }
    REQUIRE(table.retire(port));
}

TEST_CASE("any message means the same to pt and to the hardware", "[vtd][interrupts]") {
    std::mt19937_64 random{5};
    unsigned seen[4]{};
    const std::uint64_t entry[2]{};
    for (unsigned round = 0; round < 200'000; ++round) {
        std::uint64_t address = 0xFEE0'0000 | (random() & 0xF'FFFF);
        std::uint32_t data = static_cast<std::uint32_t>(random() & 0xFFFF);
        if (random() % 8 == 0) {
            address ^= std::uint64_t{1} << random() % 64;
        }
        if (random() % 8 == 0) {
            data = static_cast<std::uint32_t>(random());
        }
        std::uint32_t used = ~std::uint32_t{0};
        interrupt_model::setting unit{.entries = 0x2'0000};
        const outcome real =
            interrupt_model::remap(address, data, nic, unit, [&](std::uint32_t index) {
                used = index;
                return entry;
            });
        const auto ours = interrupt_request::of({address, data});
        if (real.what == outcome::kind::memory) {
            REQUIRE(ours.error() == error{errc::absent, address});
            ++seen[0];
        } else if (real.reason == 0x25) {
            REQUIRE(ours.value().kind == interrupt_request::format::compatibility);
            ++seen[1];
        } else if (real.reason == 0x20) {
            REQUIRE(ours.error() == error{errc::malformed, data});
            ++seen[2];
        } else {
            REQUIRE(real.reason == 0x22);
            REQUIRE(ours.value() == interrupt_request{interrupt_request::format::remappable, used});
            ++seen[3];
        }
    }
    CHECK((seen[0] > 100 && seen[1] > 100 && seen[2] > 100 && seen[3] > 100));
}

// ---- entries that somebody else wrote -----------------------------------------------------------

TEST_CASE("any entry means the same to pt and to the hardware", "[vtd][interrupts]") {
    std::mt19937_64 random{9};
    std::map<std::string, unsigned> seen;
    for (unsigned round = 0; round < 400'000; ++round) {
        // Mostly sound: reserved bits are clear but for one.
        const bool of_posted_format = random() % 2 == 0;
        std::uint64_t low =
            random() & (of_posted_format ? 0xFFFF'FFC0'00FF'CF03 : ~0x0000'0000'FF00'F000U);
        std::uint64_t high = random() & (of_posted_format ? 0xFFFF'FFFF'000F'FFFF : 0x000F'FFFF);
        const apic_mode mode = random() % 2 == 0 ? apic_mode::xapic : apic_mode::x2apic;
        if (of_posted_format) {
            low |= 0x8000;
        } else if (mode == apic_mode::xapic) {
            low &= 0x0000'FF00'FFFF'FFFF;
        }
        if (random() % 4 == 0) {
            (random() % 2 == 0 ? low : high) ^= std::uint64_t{1} << random() % 64;
        }
        const auto sid = static_cast<std::uint16_t>(high);
        const auto source =
            static_cast<std::uint16_t>(random() % 2 == 0 ? sid ^ (random() & 7) : random());
        const interrupt_model::setting unit{.extended = mode == apic_mode::x2apic};
        const outcome real = interrupt_model::through(low, high, source, unit);
        const interrupt_entry entry{low, high};
        const auto to = entry.remapped(mode);
        const auto post = entry.posted();
        const auto both = [&](errc code) {
            return to.error().code == (entry.is_posted() ? errc::not_supported : code) &&
                   post.error().code == (entry.is_posted() ? code : errc::not_supported);
        };
        INFO(std::hex << low << " " << high << " " << source);
        REQUIRE(entry.present() == (real.reason != 0x22));
        if (real.reason == 0x22) {
            REQUIRE((to.error().code == errc::absent && post.error().code == errc::absent));
            ++seen["absent"];
            continue;
        }
        if (real.reason == 0x24) {
            REQUIRE(both(errc::malformed));
            ++seen["malformed"];
            continue;
        }
        REQUIRE(entry.requester().serves(source) == (real.reason != 0x26));
        ++seen[real.reason == 0x26 ? "not served" : "served"];
        if (real.what == outcome::kind::delivered) {
            REQUIRE((to->vector == real.vector && to->destination_id == real.destination));
            REQUIRE(((low >> 2 & 1) == static_cast<unsigned>(to->destination_mode) &&
                     (low >> 3 & 1) == to->redirection_hint &&
                     (low >> 4 & 1) == static_cast<unsigned>(to->trigger_mode) &&
                     (low >> 5 & 7) == static_cast<unsigned>(to->delivery_mode)));
            ++seen["delivered"];
        } else if (real.what == outcome::kind::posted) {
            REQUIRE((post->vector == real.vector && post->descriptor.raw == real.destination &&
                     post->urgent == (real.mode == 1)));
            ++seen["posted"];
        }
        // What is decoded makes the same entry again.
        const auto again = entry.is_posted()
                               ? interrupt_entry::posted(*post, entry.requester())
                               : interrupt_entry::remapped(*to, entry.requester(), mode);
        if (again) {
            REQUIRE(again->low == (low & ~std::uint64_t{0xF00}));
            REQUIRE(again->high == high);
            ++seen["again"];
        }
    }
    for (const char* what :
         {"absent", "malformed", "not served", "served", "delivered", "posted", "again"}) {
        INFO(what);
        CHECK(seen[what] > 1000);
    }
}

// ---- everything at random -----------------------------------------------------------------------

/// `Table` by many operations, some of which the unit does not finish; what each entry must do is known
/// from the operations alone.
template <class Machine, class Table>
void operate(Machine& on, Table& table, unsigned seed) {
    queue<Machine> port{&on};
    std::mt19937 random{seed};
    struct expectation {
        outcome for_source;
        std::uint16_t source = 0;
    };
    std::map<std::uint16_t, expectation> entries; // allocated; a vector of 0 if not present
    const bool extended = on.unit.extended;
    unsigned unfinished = 0;
    for (unsigned round = 0; round < 6000; ++round) {
        on.port_calls = 0;
        on.fail_at = random() % 8 == 0 ? 1 + random() % 2 : 0;
        const auto index = static_cast<std::uint16_t>(random() % 20);
        const auto source = static_cast<std::uint16_t>(random());
        const auto vector = static_cast<std::uint8_t>(16 + random() % 240);
        const auto destination =
            static_cast<std::uint32_t>(random() & (extended ? 0xFFFF'FFFF : 0xFF));
        const std::uint64_t descriptor = (std::uint64_t{random()} << 32 | random()) & ~63ULL;
        const bool post = random() % 2 == 0;
        const outcome now = post ? posted(vector, descriptor) : delivered(vector, destination);
        const interrupt_requester from = interrupt_requester::exactly(source);
        const auto give = [&](auto operation) {
            return post ? operation(posted_target{.descriptor = hpa{descriptor}, .vector = vector})
                        : operation(
                              interrupt_target{.vector = vector, .destination_id = destination});
        };
        switch (random() % 5) {
        case 0:
            if (const auto block = table.allocate()) {
                REQUIRE(entries.emplace((*block)[0].raw, expectation{}).second);
            } else {
                REQUIRE(entries.size() == 16);
            }
            break;
        case 1:
        case 2: {
            const auto answer = give([&](auto to) { return table.set({index}, to, from, port); });
            const auto entry = entries.find(index);
            if (entry == entries.end()) {
                REQUIRE(answer.error().code == errc::absent);
            } else if (entry->second.for_source.vector != 0) {
                REQUIRE(answer.error().code == errc::already_mapped);
            } else {
                if (!answer) {
                    REQUIRE(answer.error().code == errc::time_out);
                    ++unfinished;
                    on.fail_at = 0;
                    REQUIRE(give([&](auto to) { return table.set({index}, to, from, port); }));
                }
                entry->second = {now, source};
            }
            break;
        }
        case 3: {
            const auto answer =
                give([&](auto to) { return table.change({index}, to, from, port); });
            const auto entry = entries.find(index);
            if (entry == entries.end()) {
                REQUIRE(answer.error().code == errc::absent);
            } else if (entry->second.for_source.vector == 0) {
                REQUIRE(answer.error().code == errc::not_mapped);
            } else if (!answer && answer.error().code == errc::not_supported) {
                break;
            } else {
                if (!answer) {
                    REQUIRE(answer.error().code == errc::time_out);
                    ++unfinished;
                    on.fail_at = 0;
                    REQUIRE(give([&](auto to) { return table.change({index}, to, from, port); }));
                }
                entry->second = {now, source};
            }
            break;
        }
        case 4: {
            const bool forever = random() % 2 == 0;
            const auto take = [&] {
                return forever ? table.release({{index}, 0}, port) : table.clear({index}, port);
            };
            const auto answer = take();
            if (!entries.contains(index)) {
                REQUIRE_FALSE(answer);
                break;
            }
            if (!answer) {
                REQUIRE(answer.error().code == errc::time_out);
                ++unfinished;
                on.fail_at = 0;
                REQUIRE(take());
            }
            entries[index] = {};
            if (forever) {
                entries.erase(index);
            }
            break;
        }
        }
        for (std::uint16_t i = 0; i < 20; ++i) {
            const auto entry = entries.find(i);
            const bool live = entry != entries.end() && entry->second.for_source.vector != 0;
            const std::uint16_t requester = live ? entry->second.source : source;
            const outcome seen = raise(on, {i}, requester);
            REQUIRE(seen == (live      ? entry->second.for_source
                             : i >= 16 ? blocked(0x21)
                                       : blocked(0x22)));
            if (live) {
                REQUIRE(
                    raise(on, {i}, static_cast<std::uint16_t>(requester ^ 1U << random() % 16)) ==
                    blocked(0x26));
            }
        }
    }
    CHECK(unfinished > 50);
    on.fail_at = 0;
    REQUIRE(table.retire(port));
    CHECK(on.violation == nullptr);
}

TEST_CASE("many operations: each entry does what was asked last", "[vtd][interrupts]") {
    for (const bool caching_mode : {false, true}) {
        for (const apic_mode mode : {apic_mode::xapic, apic_mode::x2apic}) {
            machine<16> first;
            first.caching_mode = caching_mode;
            auto table = as_a_whole(first, mode);
            operate(first, table, 1);
            machine<16> second;
            second.caching_mode = caching_mode;
            second.backwards = true;
            auto other_table = by_halves(second, mode);
            operate(second, other_table, 2);
        }
    }
}

} // namespace
