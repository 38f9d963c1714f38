// SPDX-License-Identifier: BSL-1.0
// Three virtual processors on threads of their own send each other IPIs, each through its ICR, and take,
// inject and end what arrives. Nobody looks into his inbox unless he was notified, so that a notification
// that is missing stops the test; a sender repeats a vector only when its receivers have handled the last
// one, so that one that is lost or doubled shows in the counts.

#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace {

using namespace pt::lapic;

constexpr std::uint32_t vcpu_count = 3;
constexpr std::uint64_t rounds = 200'000;

struct no_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct always {
    bool can_take_interrupt() { return true; }
    bool can_take_nmi() { return true; }
};

/// By which of its forms an IPI names its receivers.
enum class way : std::uint8_t { physical, logical, all_but_self };
constexpr std::array ways{way::physical, way::logical, way::all_but_self};

/// Sender and way can be read from the vector; all of one sender are of one class.
constexpr std::uint8_t vector_of(std::uint32_t from, way by, std::uint32_t to) {
    return static_cast<std::uint8_t>(0x40 + 0x30 * from + 0x10 * static_cast<std::uint32_t>(by) +
                                     (by == way::all_but_self ? 0 : to));
}

struct virtual_processor {
    register_page page{};
    inbox box{};
    local_apic<no_time> apic;
    injector<always, local_apic<no_time>> injection{apic, always{}};
    std::atomic<bool> kicked{false};
    /// How often each vector was handled here.
    std::array<std::atomic<std::uint64_t>, 256> handled{};

    explicit virtual_processor(std::uint32_t id) : apic{page, box, {.apic_id = id}, {}} {}
};

struct all_vcpus {
    std::array<virtual_processor, vcpu_count>* of;
    std::uint32_t count() const { return vcpu_count; }
    pt::lapic::inbox& inbox(std::uint32_t n) const { return (*of)[n].box; }
    void notify(std::uint32_t n, notification) const { (*of)[n].kicked = true; }
};

class machine {
public:
    machine() {
        for (std::uint32_t n = 0; n != vcpu_count; ++n) {
            (void)write(n, 0x0F0, 0x1FF);
            (void)write(n, 0x0D0, 1U << (24 + n)); // flat
        }
    }

    /// What the thread of virtual processor n does. False: it waited in vain.
    bool live(std::uint32_t n) {
        const auto last_time = std::chrono::steady_clock::now() + std::chrono::seconds{60};
        std::array<std::uint64_t, 256> sent{};
        for (std::uint64_t turn = 0; !done(n, sent); ++turn) {
            bool did_something = false;
            if (vcpus_[n].kicked.exchange(false)) {
                take_all(n);
                did_something = true;
            }
            for (const way by : ways) {
                for (std::uint32_t to = 0; to != vcpu_count; ++to) {
                    did_something = send(n, by, to, sent) || did_something;
                }
            }
            if (turn % 64 == 0) { // what senders go by changes, and means the same
                (void)write(n, 0x0D0, 1U << (24 + n));
                (void)write(n, 0x0F0, 0x1FF);
                (void)write(n, 0x080, 0);
            }
            if (!did_something) {
                if (std::chrono::steady_clock::now() > last_time) {
                    return false;
                }
                std::this_thread::yield();
            }
        }
        return true;
    }

    /// Whether each vector was handled as often as it was sent.
    bool exact() const {
        for (std::uint32_t from = 0; from != vcpu_count; ++from) {
            for (const way by : ways) {
                for (std::uint32_t to = 0; to != vcpu_count; ++to) {
                    if (from != to && handled(to, vector_of(from, by, to)) != rounds) {
                        return false;
                    }
                }
            }
        }
        return true;
    }
    bool quiet() {
        for (virtual_processor& vcpu : vcpus_) {
            if (vcpu.injection.before_entry() != entry_decision{} ||
                vcpu.page.isr != vector_set{}) {
                return false;
            }
        }
        return true;
    }

private:
    std::uint64_t handled(std::uint32_t n, std::uint8_t vector) const {
        return vcpus_[n].handled[vector];
    }
    effect write(std::uint32_t n, std::uint32_t offset, std::uint32_t value) {
        return vcpus_[n].apic.write(offset, pt::mmio_width::dword, value);
    }

    void take_all(std::uint32_t n) {
        virtual_processor& vcpu = vcpus_[n];
        for (;;) {
            const entry_decision decision = vcpu.injection.before_entry();
            if (!decision.event.present) {
                return;
            }
            (void)write(n, 0x0B0, 0);
            ++vcpu.handled[decision.event.vector];
        }
    }

    /// Sends one, if all its receivers have handled the one before.
    bool send(std::uint32_t n, way by, std::uint32_t to, std::array<std::uint64_t, 256>& sent) {
        const std::uint8_t vector = vector_of(n, by, to);
        if (to == n || sent[vector] == rounds || !all_handled(n, by, to, sent[vector])) {
            return false;
        }
        ++sent[vector];
        const std::uint32_t destination = by == way::logical ? 1U << to : to;
        const std::uint32_t command = vector | (by == way::logical ? 1U << 11 : 0U) |
                                      (by == way::all_but_self ? 3U << 18 : 0U);
        (void)write(n, 0x310, destination << 24);
        const effect asked = write(n, 0x300, command);
        return bus_.deliver(n, asked.command).reached ==
               (by == way::all_but_self ? vcpu_count - 1 : 1);
    }
    bool all_handled(std::uint32_t n, way by, std::uint32_t to, std::uint64_t times) const {
        if (by != way::all_but_self) {
            return handled(to, vector_of(n, by, to)) == times;
        }
        for (std::uint32_t other = 0; other != vcpu_count; ++other) {
            if (other != n && handled(other, vector_of(n, by, to)) != times) {
                return false;
            }
        }
        return true;
    }

    /// Everything of its own is sent and handled, and everything of the others is handled here.
    bool done(std::uint32_t n, const std::array<std::uint64_t, 256>& sent) const {
        for (std::uint32_t other = 0; other != vcpu_count; ++other) {
            for (const way by : ways) {
                if (other != n && (sent[vector_of(n, by, other)] != rounds ||
                                   handled(n, vector_of(other, by, n)) != rounds)) {
                    return false;
                }
            }
        }
        return true;
    }

    std::array<virtual_processor, vcpu_count> vcpus_{virtual_processor{0}, virtual_processor{1},
                                                     virtual_processor{2}};
    bus<all_vcpus> bus_{all_vcpus{&vcpus_}};
};

TEST_CASE("IPIs between running virtual processors are neither lost nor doubled",
          "[lapic][rule 31][threads]") {
    static_assert(vector_of(2, way::all_but_self, 0) == 0xC0);
    const auto m = std::make_unique<machine>();
    std::array<bool, vcpu_count> lived{};
    std::vector<std::thread> threads;
    for (std::uint32_t n = 0; n != vcpu_count; ++n) {
        threads.emplace_back([&, n] { lived[n] = m->live(n); });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (const bool one : lived) {
        REQUIRE(one);
    }
    REQUIRE(m->exact());
    REQUIRE(m->quiet());
}

} // namespace
