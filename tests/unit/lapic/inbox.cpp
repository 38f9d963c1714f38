// SPDX-License-Identifier: BSL-1.0
// Which messages a local APIC takes, and what becomes of them, one after the other. Concurrency is in
// posted_interrupt_descriptor.cpp and concurrent_posts.cpp.
#include "pt/lapic/inbox.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <random>
#include <set>

namespace {

using namespace pt::lapic;
using a = inbox_addressing;
using s = inbox_signals;

constexpr a enabled{a::mode(apic_mode::xapic), a::software_enabled(true)};

inbox with(a as) {
    inbox one;
    one.publish(as);
    return one;
}
constexpr message of(delivery_mode mode, std::uint8_t vector = 0) {
    return {.delivery = mode, .vector = vector};
}

// --- destinations, beside the manual's rules in sets --------------------------------------------

/// Everybody that a message names, by [sdm, Determining IPI Destination], written as the manual tells it:
/// a local APIC is a member of a cluster with a number inside it.
struct receiver {
    apic_mode mode;
    std::uint32_t id;
    std::uint8_t ldr;
    std::uint8_t dfr;
};

bool named_by_the_manual(const receiver& r, const message& m) {
    if (r.mode == apic_mode::disabled) {
        return false;
    }
    // Broadcast, in physical and logical mode.
    if (m.destination == (m.format == destination_format::xapic ? 0xFFU : 0xFFFF'FFFFU)) {
        return true;
    }
    if (m.mode == destination_mode::physical) {
        return m.destination == r.id;
    }
    std::set<std::uint64_t> mine; // (cluster, member)
    std::set<std::uint64_t> named;
    const auto add = [](std::set<std::uint64_t>& to, std::uint64_t cluster, std::uint64_t members) {
        for (unsigned i = 0; i < 16; ++i) {
            if (((members >> i) & 1) != 0) {
                to.insert(cluster * 16 + i);
            }
        }
    };
    if (r.mode == apic_mode::x2apic) {
        mine.insert(r.id & 0xF'FFFF); // cluster id[19:4], member id[3:0]
        add(named, m.destination >> 16, m.destination & 0xFFFF);
    } else if (m.destination > 0xFF) {
        return false;
    } else if (r.dfr == 0xF) { // flat
        add(mine, 0, r.ldr);
        add(named, 0, m.destination);
    } else if (r.dfr == 0) { // cluster
        add(mine, r.ldr / 16U, r.ldr % 16U);
        add(named, m.destination / 16, m.destination % 16);
    }
    for (const std::uint64_t one : mine) {
        if (named.contains(one)) {
            return true;
        }
    }
    return false;
}

TEST_CASE("a destination names whom the manual's rules name", "[lapic][rule 30]") {
    std::mt19937_64 random{30};
    const auto id = [&random]() -> std::uint32_t {
        switch (random() % 4) {
        case 0: return static_cast<std::uint32_t>(random() % 4);
        case 1: return static_cast<std::uint32_t>(random() % 0x100);
        case 2: return static_cast<std::uint32_t>(0x10000U << random() % 4 | 1U << random() % 16);
        default: return random() % 2 != 0 ? 0xFF : 0xFFFF'FFFF;
        }
    };
    unsigned named = 0;
    for (unsigned i = 0; i < 300'000; ++i) {
        constexpr apic_mode modes[] = {apic_mode::disabled, apic_mode::xapic, apic_mode::x2apic};
        receiver r{
            modes[random() % 3], id(), static_cast<std::uint8_t>(random()),
            static_cast<std::uint8_t>(random() % 3 == 0 ? random() % 16 : random() % 2 * 0xF)};
        if (r.mode != apic_mode::x2apic) {
            r.id &= 0xFF;
        }
        if (random() % 3 == 0) {
            r.ldr = static_cast<std::uint8_t>(1U << random() % 8);
        }
        message m{.mode = static_cast<destination_mode>(random() % 2),
                  .format = static_cast<destination_format>(random() % 2)};
        m.destination = m.format == destination_format::xapic ? id() & 0xFF : id();
        const inbox one = with(a{a::mode(r.mode), a::apic_id(r.id), a::logical_apic_id(r.ldr),
                                 a::destination_model(r.dfr)});
        INFO("mode " << static_cast<int>(r.mode) << " id " << r.id << " ldr " << int{r.ldr}
                     << " dfr " << int{r.dfr} << " to " << m.destination << " logical "
                     << static_cast<int>(m.mode));
        const bool expected = named_by_the_manual(r, m);
        REQUIRE(one.matches(m) == expected);
        named += expected ? 1U : 0U;
    }
    CHECK(named > 30'000);
}

constexpr bool matches_by_hand() {
    const a flat{a::mode(apic_mode::xapic), a::apic_id(3), a::logical_apic_id(0x28),
                 a::destination_model(0xF)};
    const a cluster = flat.with(a::destination_model(0));
    const a x2apic{a::mode(apic_mode::x2apic), a::apic_id(0x123)};
    const auto logical = [](std::uint32_t to, destination_format format) {
        return message{.mode = destination_mode::logical, .format = format, .destination = to};
    };
    const auto narrow = destination_format::xapic;
    const auto wide = destination_format::x2apic;
    return flat.matches({.destination = 3}) && !flat.matches({.destination = 0x28}) &&
           flat.matches(logical(0x08, narrow)) && !flat.matches(logical(0x03, narrow)) &&
           cluster.matches(logical(0x2C, narrow)) && !cluster.matches(logical(0x18, narrow)) &&
           !cluster.matches(logical(0x24, narrow)) &&
           // APIC id 0x123: cluster 0x12, member 3 [sdm, Logical Destination Mode in x2APIC Mode]
           x2apic.matches(logical(0x0012'0008, wide)) &&
           !x2apic.matches(logical(0x12'0004, wide)) &&
           !x2apic.matches(logical(0x0013'0008, wide)) &&
           // Everybody is what the sender's form has for it.
           x2apic.matches({.destination = 0xFF}) &&
           !x2apic.matches({.format = wide, .destination = 0xFF}) &&
           flat.matches({.format = wide, .destination = 0xFFFF'FFFF}) &&
           !a{}.matches({.destination = 0xFF}) && !a{}.matches({.destination = 0});
}
static_assert(matches_by_hand());

TEST_CASE("destinations by hand", "[lapic]") { CHECK(matches_by_hand()); }

// --- what is taken ----------------------------------------------------------------------------

TEST_CASE("edge-triggered vectors go to the descriptor, level-triggered ones beside it",
          "[lapic]") {
    inbox one = with(enabled);
    CHECK_FALSE(one.may_hold_arrivals());
    CHECK(one.post({.vector = 0x80}) == notification::by_vector);
    CHECK(one.may_hold_arrivals());
    CHECK(one.post({.delivery = delivery_mode::lowest_priority, .vector = 0x31}) ==
          notification::not_needed);
    CHECK(one.posted.requests[2] == 1);
    // Its own notification: a processor that takes the notification vector in the guest clears ON.
    CHECK(one.post({.vector = 0x80, .trigger = trigger_mode::level}) == notification::by_exit);
    CHECK(one.post({.vector = 0xFF, .trigger = trigger_mode::level}) == notification::not_needed);
    one.posted.control_word = 0;
    CHECK(one.may_hold_arrivals());
    const arrivals found = one.harvest();
    CHECK((found.edge.contains(0x80) && found.edge.contains(0x31)));
    CHECK((found.level.contains(0x80) && found.level.contains(0xFF)));
    CHECK_FALSE(found.level.contains(0x31));
    CHECK(one.harvest() == arrivals{});
    CHECK_FALSE(one.may_hold_arrivals());
}

TEST_CASE("a software-disabled local APIC takes NMI, SMI, INIT and start-up, and no vectors",
          "[lapic][rule 27]") {
    inbox one = with(enabled.with(a::software_enabled(false)));
    CHECK_FALSE(one.takes_vectors());
    CHECK(one.post({.vector = 0x80}) == notification::not_needed);
    CHECK(one.post({.vector = 3}) == notification::not_needed);
    CHECK(one.post({.vector = 0x80, .trigger = trigger_mode::level}) == notification::not_needed);
    CHECK(one.post(of(delivery_mode::lowest_priority, 0x80)) == notification::not_needed);
    CHECK(one.post(of(delivery_mode::extint)) == notification::not_needed);
    CHECK(one.harvest() == arrivals{});
    CHECK(one.post(of(delivery_mode::nmi)) == notification::by_exit);
    CHECK(one.post(of(delivery_mode::smi)) == notification::not_needed);
    CHECK(one.post(of(delivery_mode::init)) == notification::not_needed);
    CHECK(one.post(of(delivery_mode::start_up, 0x9F)) == notification::not_needed);
    CHECK(one.harvest().signals == s{s::nmi(true), s::smi(true), s::init(true), s::start_up(true),
                                     s::start_up_vector(0x9F)});
}

TEST_CASE("a hardware-disabled local APIC hears nothing", "[lapic]") {
    inbox one =
        with(a{a::software_enabled(true), a::destination_model(0xF), a::logical_apic_id(1)});
    for (unsigned mode = 0; mode < 8; ++mode) {
        CHECK(one.post(of(static_cast<delivery_mode>(mode), 0x80)) == notification::not_needed);
    }
    CHECK(one.harvest() == arrivals{});
    CHECK_FALSE(one.takes_vectors());
}

TEST_CASE("vectors 0..15 become the error that they are, from whom ever they come", "[lapic]") {
    inbox one = with(enabled);
    CHECK(one.post({.vector = 15}) == notification::by_exit);
    CHECK(one.harvest() == arrivals{.signals = s{s::receive_illegal_vector(true)}});
    CHECK(one.post({.vector = 0, .trigger = trigger_mode::level}) == notification::by_exit);
    CHECK(one.harvest() == arrivals{.signals = s{s::receive_illegal_vector(true)}});
    CHECK(one.posted.post(15) == notification::by_vector); // as VT-d does for a device
    CHECK(one.posted.post(16) == notification::not_needed);
    const arrivals found = one.harvest();
    CHECK(found.signals == s{s::receive_illegal_vector(true)});
    CHECK(found.edge.words[0] == 1U << 16);
    // Other signals of few bits do not become vectors: a start-up's is a page number.
    CHECK(one.post(of(delivery_mode::start_up, 3)) == notification::by_exit);
    CHECK(one.harvest() == arrivals{.signals = s{s::start_up(true), s::start_up_vector(3)}});
}

TEST_CASE("INIT takes back a start-up before it; after it, the first one counts",
          "[lapic][rule 30]") {
    inbox one = with(enabled);
    CHECK(one.post(of(delivery_mode::start_up, 0x11)) == notification::by_exit);
    CHECK(one.post(of(delivery_mode::nmi)) == notification::not_needed);
    CHECK(one.post(of(delivery_mode::init)) == notification::not_needed);
    CHECK(one.signals == s{s::init(true), s::nmi(true)}.raw);
    CHECK(one.post(of(delivery_mode::start_up, 0x22)) == notification::not_needed);
    CHECK(one.post(of(delivery_mode::start_up, 0x44)) == notification::not_needed);
    CHECK(one.harvest().signals ==
          s{s::init(true), s::nmi(true), s::start_up(true), s::start_up_vector(0x22)});
}

TEST_CASE("one latch each: what comes again before a harvest is one", "[lapic]") {
    inbox one = with(enabled);
    for (const delivery_mode mode :
         {delivery_mode::nmi, delivery_mode::smi, delivery_mode::extint}) {
        CHECK(one.post(of(mode)) == notification::by_exit);
        CHECK(one.post(of(mode)) == notification::not_needed);
        CHECK(one.harvest().signals.raw != 0);
        CHECK(one.harvest().signals.raw == 0);
    }
    CHECK(one.post(of(static_cast<delivery_mode>(3), 0x80)) == notification::not_needed);
    CHECK(one.post(of(static_cast<delivery_mode>(0xFF), 0x80)) == notification::not_needed);
    CHECK(one.harvest() == arrivals{});
}

TEST_CASE("SN holds back the notifications of edge-triggered vectors and of nothing else",
          "[lapic]") {
    inbox one = with(enabled);
    one.posted.suppress();
    CHECK(one.post({.vector = 0x80}) == notification::not_needed);
    CHECK(one.post({.vector = 0x81, .trigger = trigger_mode::level}) == notification::by_exit);
    CHECK(one.may_hold_arrivals());
    CHECK(one.harvest().edge.contains(0x80));
    CHECK(one.may_hold_arrivals()); // ON says nothing while SN is set
}

TEST_CASE("PPR is read where the owner stores it", "[lapic]") {
    const auto page = std::make_unique<register_page>();
    inbox one;
    CHECK(one.priority() == 0);
    one.page = page.get();
    pt::atomic::store_relaxed(&page->ppr.raw, 0x5AU);
    CHECK(one.priority() == 0x5A);
}

constexpr bool works_at_compile_time() {
    inbox one;
    one.publish(enabled);
    (void)one.post({.vector = 0x42});
    (void)one.post(of(delivery_mode::init));
    (void)one.post(of(delivery_mode::start_up, 9));
    const arrivals found = one.harvest();
    return found.edge.contains(0x42) && found.signals[s::init] &&
           found.signals[s::start_up_vector] == 9 && !one.may_hold_arrivals();
}
static_assert(works_at_compile_time());

} // namespace
