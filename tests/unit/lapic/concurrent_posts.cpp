// SPDX-License-Identifier: BSL-1.0
// Ten million posts on several CPUs, and one owner that sleeps until it is told. Requests of one vector merge, so each
// vector is posted again only after the owner has acknowledged it: then a lost one stops its poster for good, a doubled
// one is found at once, and an owner that was not told never wakes. Both of the former end at the time limit.
#include "pt/lapic/inbox.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace {

using namespace pt::lapic;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr unsigned scale = 4;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr unsigned scale = 4;
#else
constexpr unsigned scale = 1;
#endif
#else
constexpr unsigned scale = 1;
#endif

constexpr std::uint64_t posts = 10'000'000 / scale;
constexpr std::uint64_t rounds = 400'000 / scale;
constexpr unsigned posters = 2;

/// What one poster sends: numbered, and each again only after the last one was acknowledged.
constexpr unsigned kinds = 256 + 1; // the vectors; NMI
constexpr unsigned nmi = 256;

struct machine {
    inbox box;
    std::atomic<std::uint64_t> sent[kinds]{};
    std::atomic<std::uint64_t> acknowledged[kinds]{};
    std::atomic<std::uint64_t> kicks{0};
    std::atomic<unsigned> posting{posters};
    std::atomic<std::uint64_t> finished{0}; // rounds, of all posters together
    std::atomic<bool> too_late{false};

    machine() {
        using a = inbox_addressing;
        box.publish(a{a::mode(apic_mode::x2apic), a::software_enabled(true)});
    }
};

/// Of each poster, some vectors are level-triggered: kinds 6 and 7 of eight.
message message_for(unsigned kind) {
    if (kind == nmi) {
        return {.delivery = delivery_mode::nmi};
    }
    return {.vector = static_cast<std::uint8_t>(kind),
            .trigger = kind % 8 >= 6 ? trigger_mode::level : trigger_mode::edge};
}

bool post(machine& m, unsigned kind) {
    const std::uint64_t number = m.sent[kind].load(std::memory_order_relaxed);
    if (m.acknowledged[kind].load(std::memory_order_acquire) != number) {
        return false; // the last one is still on its way
    }
    m.sent[kind].store(number + 1, std::memory_order_release);
    if (m.box.post(message_for(kind)) != notification::not_needed) {
        m.kicks.fetch_add(1);
    }
    return true;
}

/// As fast as acknowledgements allow.
void post_all(machine& m, unsigned poster) {
    std::uint64_t left = posts / posters;
    while (left != 0 && !m.too_late.load(std::memory_order_relaxed)) {
        bool any = false;
        for (unsigned kind = 16 + poster; kind < kinds && left != 0; kind += posters) {
            if (post(m, kind)) {
                --left;
                any = true;
            }
        }
        if (!any) {
            std::this_thread::yield();
        }
    }
    --m.posting;
}

/// A few in each round, and the next round when all posters have all of theirs acknowledged: so that there is
/// nobody whose next post would wake an owner that was not told.
void post_in_rounds(machine& m, unsigned poster) {
    for (std::uint64_t round = 0; round != rounds; ++round) {
        const unsigned first = static_cast<unsigned>(round * 7 % 64);
        const unsigned count = 1 + static_cast<unsigned>((round + poster * 3) % 4);
        for (unsigned i = 0; i < count; ++i) {
            post(m, 16 + poster + posters * (first + i));
        }
        for (unsigned i = 0; i < count; ++i) {
            const unsigned kind = 16 + poster + posters * (first + i);
            while (m.acknowledged[kind].load(std::memory_order_acquire) !=
                   m.sent[kind].load(std::memory_order_relaxed)) {
                if (m.too_late.load(std::memory_order_relaxed)) {
                    return;
                }
                std::this_thread::yield();
            }
        }
        m.finished.fetch_add(1);
        while (m.finished.load() < (round + 1) * posters) {
            if (m.too_late.load(std::memory_order_relaxed)) {
                return;
            }
            std::this_thread::yield();
        }
    }
    --m.posting;
}

struct owner {
    machine& m;
    std::uint64_t taken[kinds]{};
    std::uint64_t harvests = 0;
    bool doubled = false;

    void take(unsigned kind) {
        ++taken[kind];
        // Each was sent once since the last time.
        doubled = doubled || m.sent[kind].load(std::memory_order_acquire) != taken[kind];
        m.acknowledged[kind].store(taken[kind], std::memory_order_release);
    }
    void harvest() {
        ++harvests;
        const arrivals found = m.box.harvest();
        for (unsigned v = 0; v < 256; ++v) {
            const auto vector = static_cast<std::uint8_t>(v);
            if (found.edge.contains(vector) || found.level.contains(vector)) {
                take(v);
            }
        }
        if (found.signals[inbox_signals::nmi]) {
            take(nmi);
        }
    }
    /// Sleeps, and wakes by kicks and by nothing else.
    void run() {
        const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds{60};
        std::uint64_t seen = 0;
        for (std::uint32_t round = 0;; ++round) {
            while (m.kicks.load() == seen && m.posting.load() != 0) {
                std::this_thread::yield();
                if (std::chrono::steady_clock::now() > limit) {
                    m.too_late.store(true);
                    return;
                }
            }
            const bool last = m.posting.load() == 0;
            const std::uint64_t kicks = m.kicks.load();
            if (kicks == seen && last) {
                return;
            }
            seen = kicks;
            harvest();
            // It is moved, and preempted, while the others post.
            if (round % 3 == 1 && m.box.posted.retarget(notification_target::x2apic(round, 0xF2))) {
                harvest();
            }
            if (round % 4 == 2) {
                m.box.posted.suppress();
                if (round % 8 == 2) {
                    std::this_thread::yield();
                }
                if (m.box.posted.unsuppress()) {
                    harvest();
                }
            }
        }
    }
};

/// Returns how many were posted; what goes wrong is checked here.
std::uint64_t run(void (*poster)(machine&, unsigned)) {
    machine m;
    owner one{m};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < posters; ++i) {
        threads.emplace_back(poster, std::ref(m), i);
    }
    one.run();
    for (std::thread& thread : threads) {
        thread.join();
    }
    REQUIRE_FALSE(m.too_late);
    CHECK_FALSE(one.doubled);
    std::uint64_t sent = 0;
    std::uint64_t wrong = 0;
    for (unsigned kind = 0; kind < kinds; ++kind) {
        sent += m.sent[kind];
        wrong += m.sent[kind] != one.taken[kind] ? 1U : 0U;
    }
    CHECK(wrong == 0);
    CHECK_FALSE(m.box.may_hold_arrivals());
    // A harvest allows one notification for edges and one for the rest.
    CHECK(m.kicks <= 2 * (one.harvests + 1));
    return sent;
}

TEST_CASE("ten million posts on two CPUs: none is lost and none doubled",
          "[lapic][threads][rule 31]") {
    CHECK(run(post_all) == posts / posters * posters);
}

TEST_CASE("posters that wait for each other never wait for ever: no notification is missed",
          "[lapic][threads][rule 31]") {
    CHECK(run(post_in_rounds) >= rounds * posters);
}

} // namespace
