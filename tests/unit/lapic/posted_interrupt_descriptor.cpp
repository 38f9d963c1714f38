// SPDX-License-Identifier: BSL-1.0
// Who posts, harvests, suppresses and retargets at the same time: all orders of their single steps. The library's own
// code runs here, in a namespace of its own in which each atomic operation first lets the others go on.
#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

#define pt stepped_pt // NOLINT(readability-identifier-naming)
#include "pt/core/atomic.hpp"

namespace {
void step();
void step_at(const void* word);
} // namespace

namespace stepped_pt::atomic {

using u64 = std::uint64_t;

template <>
constexpr u64 load(const u64* from) {
    if (!std::is_constant_evaluated()) {
        step_at(from);
    }
    return *from;
}
template <>
constexpr void store(u64* to, u64 value) {
    if (!std::is_constant_evaluated()) {
        step_at(to);
    }
    *to = value;
}
template <>
constexpr u64 exchange(u64* in, u64 value) {
    if (!std::is_constant_evaluated()) {
        step_at(in);
    }
    return std::exchange(*in, value);
}
template <>
constexpr u64 fetch_or(u64* in, u64 bits) {
    if (!std::is_constant_evaluated()) {
        step_at(in);
    }
    return std::exchange(*in, *in | bits);
}
template <>
constexpr u64 fetch_and(u64* in, u64 bits) {
    if (!std::is_constant_evaluated()) {
        step_at(in);
    }
    return std::exchange(*in, *in & bits);
}
template <>
constexpr bool compare_exchange(u64* in, u64& expected, u64 desired) {
    if (!std::is_constant_evaluated()) {
        step_at(in);
    }
    if (*in != expected) {
        expected = *in;
        return false;
    }
    *in = desired;
    return true;
}

} // namespace stepped_pt::atomic

#include "pt/lapic/inbox.hpp"
#include "pt/lapic/posted_interrupt_descriptor.hpp"
#undef pt

namespace {

using namespace stepped_pt::lapic;

// --- all schedules of some programs -----------------------------------------------------------

/// One program with a stack of its own.
struct fiber {
    ucontext_t context{};
    std::unique_ptr<char[]> stack = std::make_unique<char[]>(stack_size);
    std::function<void()> program;
    bool done = false;

    static constexpr std::size_t stack_size = 64 * 1024;

    void begin(std::function<void()> with);
    void go_on();
};

ucontext_t scheduler;
fiber* running = nullptr;

/// Another program may go on before what comes next.
void step() {
    if (running != nullptr) {
        swapcontext(&running->context, &scheduler);
    }
}

/// Words that one program alone touches: what happens to them is in no order with what others do.
std::vector<const void*> uncontested;

void step_at(const void* word) {
    for (const void* const one : uncontested) {
        if (one == word) {
            return;
        }
    }
    step();
}

void run_program() {
    running->program();
    running->done = true;
}

void fiber::begin(std::function<void()> with) {
    done = false;
    program = std::move(with);
    getcontext(&context);
    context.uc_stack.ss_sp = stack.get();
    context.uc_stack.ss_size = stack_size;
    context.uc_link = &scheduler;
    makecontext(&context, run_program, 0);
}

/// Up to its next step.
void fiber::go_on() {
    running = this;
    swapcontext(&scheduler, &context);
    running = nullptr;
}

/// Runs the programs in every order of their steps, each time in a world of its own, and `check` after
/// each. Returns how many orders there are.
template <class World>
std::size_t all_orders(std::initializer_list<void (*)(World&)> programs,
                       const std::function<void(const World&)>& check) {
    struct choice {
        std::size_t taken;
        std::size_t of;
    };
    std::vector<choice> path;
    std::vector<fiber> fibers(programs.size());
    std::size_t orders = 0;
    for (;;) {
        World world;
        std::size_t next = 0;
        for (std::size_t i = 0; i < fibers.size(); ++i) {
            fibers[i].begin([&world, program = programs.begin()[i]] { program(world); });
        }
        for (;;) {
            std::vector<fiber*> ready;
            for (fiber& one : fibers) {
                if (!one.done) {
                    ready.push_back(&one);
                }
            }
            if (ready.empty()) {
                break;
            }
            if (next == path.size()) {
                path.push_back({0, ready.size()});
            }
            ready[path[next++].taken]->go_on();
        }
        ++orders;
        check(world);
        while (!path.empty() && path.back().taken + 1 == path.back().of) {
            path.pop_back();
        }
        if (path.empty()) {
            return orders;
        }
        ++path.back().taken;
    }
}

// --- a virtual processor and who disturbs it --------------------------------------------------

/// What happened, told by those who did it.
struct account {
    unsigned posts[256]{}; ///< how often each vector
    unsigned taken[256]{};
    unsigned kicks = 0;     ///< notifications that posters found needed
    unsigned seen = 0;      ///< of those, which the owner knew when it last looked
    unsigned clears = 0;    ///< harvests: after each, one notification more may be needed
    bool doubled = false;   ///< more notifications than that
    unsigned signals = 0;   ///< bits of inbox_signals that were harvested, together
    bool must_look = false; ///< unsuppress() or retarget() said so and nobody has looked since
};

struct world : account {
    posted_interrupt_descriptor descriptor;

    world() { uncontested = {&descriptor.requests[1], &descriptor.requests[2]}; }

    void post(std::uint8_t vector) {
        ++posts[vector];
        if (descriptor.post(vector) == notification::by_vector) {
            kick();
        }
    }
    void kick() {
        ++kicks;
        doubled = doubled || kicks > clears + 1;
    }
    void harvest() {
        seen = kicks;
        must_look = false;
        ++clears; // not later than ON is cleared: a poster that sees that may already kick
        const posted_vectors found = descriptor.harvest();
        for (unsigned v = 0; v < 256; ++v) {
            taken[v] += found.contains(static_cast<std::uint8_t>(v)) ? 1U : 0U;
        }
    }
    /// What the owner does when it was kicked, and only then.
    void harvest_if_kicked() {
        step();
        if (kicks != seen || must_look) {
            harvest();
        }
    }
};

/// [vt-d, Interrupt Posting Hardware Operation]: one atomic change of the whole descriptor.
void vtd_posts(world& w, std::uint8_t vector, bool urgent = false) {
    step();
    ++w.posts[vector];
    w.descriptor.requests[vector / 64] |= std::uint64_t{1} << (vector % 64);
    const std::uint64_t told = urgent ? 1 : 3; // ON; SN does not hold back what is urgent
    if ((w.descriptor.control_word & told) == 0) {
        w.descriptor.control_word |= 1;
        w.kick();
    }
}

/// After all programs have ended: the owner sleeps unless it was told, and when it was, it harvests and
/// has everything.
void check_account(const world& after) {
    world w = after;
    REQUIRE_FALSE(w.doubled);
    if (w.kicks != w.seen || w.must_look) {
        w.harvest();
    }
    bool lost = false;
    bool doubled = false;
    for (unsigned v = 0; v < 256; ++v) {
        lost = lost || (w.posts[v] != 0 && w.taken[v] == 0);
        doubled = doubled || w.taken[v] > w.posts[v];
    }
    REQUIRE_FALSE(lost);
    REQUIRE_FALSE(doubled);
    REQUIRE((w.descriptor.control_word & 1) == 0);
}

void posts_33(world& w) { w.post(33); }
void posts_40(world& w) { w.post(40); } // the same word
void posts_200(world& w) { w.post(200); }
void posts_33_twice(world& w) {
    w.post(33);
    w.post(33);
}
void posts_33_and_200(world& w) {
    w.post(33);
    w.post(200);
}
void harvests_when_kicked(world& w) {
    w.harvest_if_kicked();
    w.harvest_if_kicked();
}
void harvests_at_will(world& w) {
    w.harvest();
    w.harvest_if_kicked();
}

TEST_CASE("posts beside harvests: nothing is lost, and the owner is told exactly once a harvest",
          "[lapic][rule 31]") {
    CHECK(all_orders<world>({posts_33, harvests_at_will}, check_account) > 50);
    CHECK(all_orders<world>({posts_33_and_200, harvests_when_kicked}, check_account) > 500);
    CHECK(all_orders<world>({posts_33_twice, harvests_at_will}, check_account) > 500);
}

TEST_CASE("two posters beside harvests, in one word and in two", "[lapic][rule 31]") {
    const auto harvest_once = [](world& w) { w.harvest(); };
    CHECK(all_orders<world>({posts_33, posts_40, harvest_once}, check_account) > 1'000);
    CHECK(all_orders<world>({posts_33, posts_200, harvest_once}, check_account) > 1'000);
    CHECK(all_orders<world>({posts_33, posts_33, harvest_once}, check_account) > 1'000);
    const auto device = [](world& w) {
        vtd_posts(w, 33);
        vtd_posts(w, 50);
    };
    CHECK(all_orders<world>({posts_33, device, harvests_at_will}, check_account) > 1'000);
}

TEST_CASE("what is posted while notifications are suppressed is found when they are not any more",
          "[lapic][rule 31]") {
    const auto preempted = [](world& w) {
        w.descriptor.suppress();
        step();
        w.must_look = w.descriptor.unsuppress() || w.must_look;
        w.harvest_if_kicked();
    };
    CHECK(all_orders<world>({posts_33, preempted}, check_account) > 100);
    CHECK(all_orders<world>({posts_33_and_200, preempted}, check_account) > 1'000);
    const auto device = [](world& w) {
        vtd_posts(w, 33);
        vtd_posts(w, 34, true);
    };
    CHECK(all_orders<world>({device, preempted}, check_account) > 50);
    // An owner that looks while it is suppressed: ON says nothing then.
    const auto looks = [](world& w) {
        w.descriptor.suppress();
        if (w.descriptor.may_hold_vectors()) {
            w.harvest();
        } else {
            w.doubled = true; // SN is set: it may not say no
        }
        w.must_look = w.descriptor.unsuppress() || w.must_look;
    };
    CHECK(all_orders<world>({posts_33, looks}, check_account) > 100);
}

TEST_CASE("may_hold_vectors says no only while the poster is not done", "[lapic][rule 31]") {
    const auto poster = [](world& w) {
        w.post(33);
        step();
        w.signals = 1; // its post has returned
    };
    const auto owner = [](world& w) {
        if ((w.signals & 1) != 0) {
            const bool says = w.descriptor.may_hold_vectors();
            w.doubled = w.doubled || !says;
        }
        step();
        if ((w.signals & 1) != 0) {
            const bool says = w.descriptor.may_hold_vectors();
            w.doubled = w.doubled || !says;
        }
    };
    std::size_t looked = 0;
    all_orders<world>({poster, owner}, [&looked](const world& w) {
        check_account(w);
        looked += w.signals;
    });
    CHECK(looked > 0);
}

TEST_CASE("a change of the place of notifications loses none", "[lapic][rule 31]") {
    const auto poster = [](world& w) {
        w.post(33);
        w.post(200);
    };
    const auto owner = [](world& w) {
        w.must_look = w.descriptor.retarget(notification_target::x2apic(0x89AB'CDEF, 0xF1));
        w.harvest_if_kicked();
    };
    const auto check = [](const world& w) {
        check_account(w);
        // NV and NDST are the new ones, SN is as it was, and the reserved bits are 0.
        REQUIRE((w.descriptor.control_word & ~std::uint64_t{1}) == 0x89AB'CDEF'00F1'0000);
    };
    CHECK(all_orders<world>({poster, owner}, check) > 500);

    // ON and SN survive.
    posted_interrupt_descriptor one;
    CHECK(one.post(77) == notification::by_vector);
    one.suppress();
    CHECK(one.retarget(notification_target::xapic(5, 0xF2)));
    CHECK(one.control_word == 0x0000'0500'00F2'0003);
    CHECK(one.target() == notification_target{0xF2, 0x500});
    CHECK(one.harvest().contains(77));
    CHECK_FALSE(one.retarget(notification_target::xapic(6, 0xF2)));
    CHECK(one.control_word == 0x0000'0600'00F2'0002);
}

// --- the inbox --------------------------------------------------------------------------------

struct post_box : account {
    inbox box;
    arrivals got;

    post_box() {
        using a = inbox_addressing;
        box.addressing = a{a::mode(apic_mode::xapic), a::software_enabled(true)}.raw;
        const posted_interrupt_descriptor& edges = box.posted;
        uncontested = {&box.addressing, &edges.requests[1], &edges.requests[2], &edges.requests[3],
                       &box.level[0],   &box.level[2],      &box.level[3]};
    }
    void post(const message& sent) {
        if (box.post(sent) != notification::not_needed) {
            ++kicks;
        }
    }
    void harvest() {
        seen = kicks;
        add(box.harvest());
    }
    void harvest_if_kicked() {
        step();
        if (kicks != seen) {
            harvest();
        }
    }
    void add(const arrivals& more) {
        for (unsigned i = 0; i < 4; ++i) {
            doubled = doubled || (got.edge.words[i] & more.edge.words[i]) != 0 ||
                      (got.level.words[i] & more.level.words[i]) != 0;
            got.edge.words[i] |= more.edge.words[i];
            got.level.words[i] |= more.level.words[i];
        }
        const std::uint64_t flags = 0x3F; // not level_requests, which is no signal of its own
        doubled = doubled || (got.signals.raw & more.signals.raw & flags) != 0;
        got.signals.raw |= more.signals.raw;
    }
};

constexpr message edge(std::uint8_t vector) { return {.vector = vector}; }
constexpr message level(std::uint8_t vector) {
    return {.vector = vector, .trigger = trigger_mode::level};
}
constexpr message of(delivery_mode mode, std::uint8_t vector = 0) {
    return {.delivery = mode, .vector = vector};
}

TEST_CASE("each message beside each harvest arrives once, and nobody sleeps over it",
          "[lapic][rule 31]") {
    const auto owner = [](post_box& w) {
        w.harvest_if_kicked();
        w.harvest_if_kicked();
    };
    const auto check = [](const post_box& after) {
        post_box w = after;
        if (w.kicks != w.seen) {
            w.harvest();
        }
        REQUIRE_FALSE(w.doubled);
        REQUIRE(w.got.edge.contains(33));
        REQUIRE(w.got.level.contains(66));
        REQUIRE(w.got.signals[inbox_signals::nmi]);
        REQUIRE_FALSE(w.box.may_hold_arrivals());
    };
    CHECK(all_orders<post_box>({[](post_box& w) {
                                    w.post(level(66));
                                    w.post(of(delivery_mode::nmi));
                                    w.post(edge(33));
                                },
                                owner},
                               check) > 1'000);
    // From two sides.
    const auto check_level = [](const post_box& after) {
        post_box w = after;
        if (w.kicks != w.seen) {
            w.harvest();
        }
        REQUIRE_FALSE(w.doubled);
        REQUIRE(w.got.level.contains(66));
        REQUIRE(w.got.level.contains(67));
    };
    CHECK(all_orders<post_box>({[](post_box& w) { w.post(level(66)); },
                                [](post_box& w) { w.post(level(67)); },
                                [](post_box& w) { w.harvest(); }},
                               check_level) > 500);
}

TEST_CASE("INIT and start-up from two sides: what is left is an order in which they came",
          "[lapic][rule 30]") {
    const auto check = [](const post_box& w) {
        using s = inbox_signals;
        const s left{w.box.signals};
        REQUIRE(w.kicks == 1); // the first one told the owner
        REQUIRE(left[s::init]);
        // Either start-up was first after the INIT, or both came before it.
        REQUIRE((left[s::start_up]
                     ? left[s::start_up_vector] == 0x12 || left[s::start_up_vector] == 0x21
                     : left[s::start_up_vector] == 0));
    };
    CHECK(all_orders<post_box>({[](post_box& w) { w.post(of(delivery_mode::init)); },
                                [](post_box& w) { w.post(of(delivery_mode::start_up, 0x12)); },
                                [](post_box& w) { w.post(of(delivery_mode::start_up, 0x21)); }},
                               check) > 100);
    const auto both = [](const post_box& after) {
        post_box w = after;
        if (w.kicks != w.seen) {
            w.harvest();
        }
        using s = inbox_signals;
        REQUIRE(w.got.signals[s::init]);
        REQUIRE(w.got.signals[s::start_up]); // it came after the INIT of the same sender
        REQUIRE(w.got.signals[s::start_up_vector] == 8);
        REQUIRE(w.got.signals[s::nmi]);
    };
    CHECK(all_orders<post_box>({[](post_box& w) {
                                    w.post(of(delivery_mode::init));
                                    w.post(of(delivery_mode::start_up, 8));
                                },
                                [](post_box& w) { w.post(of(delivery_mode::nmi)); },
                                [](post_box& w) { w.harvest(); }},
                               both) > 100);
}

// --- one after the other ----------------------------------------------------------------------

TEST_CASE("a post under SN sets its bit in PIR, and neither ON nor a notification", "[lapic]") {
    posted_interrupt_descriptor one;
    one.suppress();
    CHECK(one.post(99) == notification::not_needed);
    CHECK(one.notify() == notification::not_needed);
    CHECK(one.control_word == 2);
    CHECK(one.requests[1] == std::uint64_t{1} << 35);
    CHECK(one.unsuppress());
    CHECK(one.control_word == 1); // so that a look at ON finds it
    CHECK(one.post(100) == notification::not_needed);
    const posted_vectors found = one.harvest();
    CHECK((found.contains(99) && found.contains(100)));
    CHECK(one.harvest().empty());
    one.suppress();
    CHECK_FALSE(one.unsuppress());
    CHECK(one.post(99) == notification::by_vector);
}

TEST_CASE("vectors 0..15 that a device posts are reported, not hidden", "[lapic]") {
    posted_interrupt_descriptor one;
    CHECK(one.post(0) == notification::by_vector);
    CHECK(one.post(15) == notification::not_needed);
    CHECK(one.post(255) == notification::not_needed);
    const posted_vectors found = one.harvest();
    CHECK(found.words[0] == 0x8001);
    CHECK(found.words[3] == std::uint64_t{1} << 63);
}

} // namespace
