// SPDX-License-Identifier: BSL-1.0
// Who gets a message. The local APICs are inboxes with an address; nobody reads what they hold but these
// tests.
#include "pt/lapic/bus.hpp"

#include "pt/lapic/inbox.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/vcpu_set.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace pt::lapic;

constexpr std::uint32_t everybody = 0xFFFF'FFFF;

/// What a local APIC is found by, as the test wants it.
struct address {
    apic_mode mode = apic_mode::xapic;
    std::uint32_t id = 0;
    std::uint8_t logical_id = 0;
    std::uint8_t model = 0xF; // flat
    bool enabled = true;
};

struct vcpus {
    pt::lapic::inbox* inboxes;
    std::uint32_t* notified;
    std::uint32_t size;
    constexpr std::uint32_t count() { return size; }
    constexpr pt::lapic::inbox& inbox(std::uint32_t n) { return inboxes[n]; }
    constexpr void notify(std::uint32_t n, notification) { ++notified[n]; }
};

struct machine {
    static constexpr std::uint32_t most = 8;
    std::uint32_t count;
    inbox inboxes[most]{};
    std::uint32_t notified[most]{};
    register_page pages[most]{};
    pt::lapic::bus<vcpus> bus;

    explicit constexpr machine(std::uint32_t size)
        : count{size}, bus{vcpus{inboxes, notified, size}} {
        for (std::uint32_t n = 0; n != count; ++n) {
            inboxes[n].page = &pages[n];
            place(n, {.id = n});
        }
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    constexpr void place(std::uint32_t n, const address& at) {
        using word = inbox_addressing;
        inboxes[n].publish(word{word::apic_id(at.id), word::logical_apic_id(at.logical_id),
                                word::destination_model(at.model),
                                word::software_enabled(at.enabled), word::mode(at.mode)});
    }
    constexpr void set_priority(std::uint32_t n, std::uint8_t ppr) {
        pages[n].ppr = processor_priority{ppr};
    }

    /// How often each was notified. (Compared in a loop: gcc 12 joins comparisons of neighbours into one,
    /// and then cannot evaluate it at compile time.)
    constexpr bool were_notified(std::initializer_list<std::uint32_t> times) const {
        const std::uint32_t* of = notified;
        for (const std::uint32_t expected : times) {
            if (*of++ != expected) {
                return false;
            }
        }
        return true;
    }

    /// Bit n: virtual processor n has got the message, whatever it is. Empties all inboxes.
    constexpr std::uint32_t receivers() {
        std::uint32_t found = 0;
        for (std::uint32_t n = 0; n != count; ++n) {
            if (inboxes[n].harvest() != arrivals{}) {
                found |= 1U << n;
            }
        }
        return found;
    }
    /// Who gets `sent` from virtual processor 0, provided that `reached` counts them.
    constexpr std::uint32_t to_whom(const message& sent) {
        const std::uint32_t reached = bus.deliver(0, sent).reached;
        const std::uint32_t found = receivers();
        std::uint32_t counted = 0;
        for (std::uint32_t n = 0; n != count; ++n) {
            counted += found >> n & 1;
        }
        return counted == reached ? found : ~0U;
    }
};

constexpr message physical(std::uint32_t destination, std::uint8_t vector = 0x31) {
    return {.vector = vector, .destination = destination};
}
constexpr message logical(std::uint32_t destination, std::uint8_t vector = 0x31) {
    return {.vector = vector, .mode = destination_mode::logical, .destination = destination};
}
constexpr message in_32_bits(message sent) {
    sent.format = destination_format::x2apic;
    return sent;
}
constexpr message by(shorthand to) { return {.vector = 0x31, .to = to, .destination = 2}; }

TEST_CASE("a physical destination is the local APIC with that id, whatever its number",
          "[lapic][bus]") {
    constexpr auto check = [] {
        machine vm{4};
        bool good = vm.to_whom(physical(0)) == 1 && vm.to_whom(physical(3)) == 8 &&
                    vm.to_whom(physical(4)) == 0;
        // Ids that are the numbers of others, and ids beyond the count.
        vm.place(0, {.id = 1});
        vm.place(1, {.id = 0});
        vm.place(2, {.id = 0x80});
        vm.place(3, {.mode = apic_mode::x2apic, .id = 0x1234});
        good = good && vm.to_whom(physical(0)) == 2 && vm.to_whom(physical(1)) == 1 &&
               vm.to_whom(physical(2)) == 0 && vm.to_whom(physical(0x80)) == 4;
        return good && vm.to_whom(in_32_bits(physical(0x1234))) == 8 &&
               vm.to_whom(physical(0x34)) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("broadcast is 0xFF or 0xFFFFFFFF, by the sender's form", "[lapic][bus][rule 30]") {
    constexpr auto check = [] {
        machine vm{3};
        vm.place(2, {.mode = apic_mode::x2apic, .id = 2});
        return vm.to_whom(physical(0xFF)) == 7 && vm.to_whom(logical(0xFF)) == 7 &&
               vm.to_whom(in_32_bits(physical(everybody))) == 7 &&
               vm.to_whom(in_32_bits(logical(everybody))) == 7 &&
               vm.to_whom(in_32_bits(physical(0xFF))) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("flat, cluster and x2APIC logical destinations", "[lapic][bus][rule 30]") {
    constexpr auto check = [] {
        machine vm{4};
        for (std::uint32_t n = 0; n != 4; ++n) {
            vm.place(n, {.id = n, .logical_id = static_cast<std::uint8_t>(1U << n)});
        }
        bool good = vm.to_whom(logical(0x05)) == 5 && vm.to_whom(logical(0xF0)) == 0;
        // Two clusters of two: 0x11 0x12, 0x21 0x22.
        constexpr std::uint8_t clustered[] = {0x11, 0x12, 0x21, 0x22};
        for (std::uint32_t n = 0; n != 4; ++n) {
            vm.place(n, {.id = n, .logical_id = clustered[n], .model = 0});
        }
        good = good && vm.to_whom(logical(0x13)) == 3 && vm.to_whom(logical(0x22)) == 8 &&
               vm.to_whom(logical(0x33)) == 0 && vm.to_whom(logical(0x2F)) == 12;
        // x2APIC: cluster id >> 4, member 1 << (id & 15) [sdm, Deriving Logical x2APIC ID].
        constexpr std::uint32_t ids[] = {0x00, 0x01, 0x13, 0x1F};
        for (std::uint32_t n = 0; n != 4; ++n) {
            vm.place(n, {.mode = apic_mode::x2apic, .id = ids[n]});
        }
        return good && vm.to_whom(in_32_bits(logical(0x0000'0003))) == 3 &&
               vm.to_whom(in_32_bits(logical(0x0001'8008))) == 12 &&
               vm.to_whom(in_32_bits(logical(0x0002'8008))) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("shorthands stay in the guest and need no destination", "[lapic][bus][rule 30]") {
    constexpr auto check = [] {
        machine vm{3};
        bool good = vm.to_whom(by(shorthand::self)) == 1 &&
                    vm.to_whom(by(shorthand::all_including_self)) == 7 &&
                    vm.to_whom(by(shorthand::all_excluding_self)) == 6;
        // A device has no self.
        good = good && vm.bus.deliver(by(shorthand::self)).reached == 0;
        good = good && vm.bus.deliver(by(shorthand::all_excluding_self)).reached == 3;
        vm.receivers();
        // One that is disabled by IA32_APIC_BASE hears nothing.
        vm.place(1, {.mode = apic_mode::disabled, .id = 1});
        message init = by(shorthand::all_excluding_self);
        init.delivery = delivery_mode::init;
        return good && vm.to_whom(init) == 4;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("every delivery mode arrives as what it is", "[lapic][bus]") {
    constexpr auto check = [] {
        machine vm{2};
        const auto found = [&](delivery_mode delivery, trigger_mode trigger) {
            vm.bus.deliver(
                0, {.delivery = delivery, .vector = 0x42, .trigger = trigger, .destination = 1});
            return vm.inboxes[1].harvest();
        };
        using enum delivery_mode;
        bool good = found(fixed, trigger_mode::edge).edge.contains(0x42) &&
                    found(fixed, trigger_mode::level).level.contains(0x42) &&
                    found(lowest_priority, trigger_mode::edge).edge.contains(0x42) &&
                    found(lowest_priority, trigger_mode::level).level.contains(0x42);
        good = good && found(smi, trigger_mode::edge).signals[inbox_signals::smi] &&
               found(nmi, trigger_mode::edge).signals[inbox_signals::nmi] &&
               found(init, trigger_mode::edge).signals[inbox_signals::init] &&
               found(extint, trigger_mode::edge).signals[inbox_signals::extint];
        const inbox_signals started = found(start_up, trigger_mode::edge).signals;
        return good && started[inbox_signals::start_up] &&
               started[inbox_signals::start_up_vector] == 0x42;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("lowest priority goes to the lowest PPR, among equals in turn", "[lapic][bus]") {
    constexpr auto check = [] {
        machine vm{4};
        message sent = physical(0xFF);
        sent.delivery = delivery_mode::lowest_priority;
        vm.set_priority(0, 0x40);
        vm.set_priority(1, 0x20);
        vm.set_priority(2, 0x30);
        vm.set_priority(3, 0x21);
        bool good = vm.to_whom(sent) == 2 && vm.to_whom(sent) == 2;
        vm.set_priority(1, 0x50);
        good = good && vm.to_whom(sent) == 8;
        // 0, 1 and 3 are equal and 2 is higher: each gets one of three.
        vm.set_priority(0, 0x10);
        vm.set_priority(1, 0x10);
        vm.set_priority(3, 0x10);
        const std::uint32_t three[] = {vm.to_whom(sent), vm.to_whom(sent), vm.to_whom(sent)};
        good = good && (three[0] | three[1] | three[2]) == 0b1011 &&
               three[0] + three[1] + three[2] == 0b1011 && vm.to_whom(sent) == three[0];
        // A software-disabled one does not take part, and with nobody left nobody gets it.
        vm.place(3, {.id = 3, .enabled = false});
        vm.place(1, {.id = 1, .enabled = false});
        good = good && vm.to_whom(sent) == 1 && vm.to_whom(sent) == 1;
        vm.place(0, {.id = 0, .enabled = false});
        vm.place(2, {.id = 2, .enabled = false});
        return good && vm.to_whom(sent) == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("software-disabled: fixed does not arrive and does not count; INIT, NMI and SMI do",
          "[lapic][bus][rule 27]") {
    constexpr auto check = [] {
        machine vm{2};
        vm.place(1, {.id = 1, .enabled = false});
        const auto found = [&](delivery_mode delivery) {
            message sent = physical(1);
            sent.delivery = delivery;
            return vm.to_whom(sent);
        };
        using enum delivery_mode;
        return found(fixed) == 0 && found(lowest_priority) == 0 && found(extint) == 0 &&
               found(init) == 2 && found(nmi) == 2 && found(smi) == 2 && found(start_up) == 2;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a virtual processor is notified once until it looks, and never of its own messages",
          "[lapic][bus]") {
    constexpr auto check = [] {
        machine vm{3};
        vm.bus.deliver(0, physical(1, 0x31));
        vm.bus.deliver(0, physical(1, 0x32));
        vm.bus.deliver(2, physical(1, 0x31));
        bool good = vm.were_notified({0, 1, 0});
        vm.receivers();
        vm.bus.deliver(physical(1, 0x33));
        good = good && vm.were_notified({0, 2, 0});
        vm.receivers();
        vm.bus.deliver(0, by(shorthand::all_including_self));
        good = good && vm.were_notified({0, 3, 1});
        // The sender has not looked yet; what comes from elsewhere meanwhile need not tell it either.
        vm.bus.deliver(1, physical(0));
        good = good && vm.were_notified({0, 3, 1}) && (vm.receivers() & 1) == 1;
        vm.bus.deliver(1, physical(0));
        return good && vm.were_notified({1, 3, 1});
    };
    static_assert(check());
    REQUIRE(check());
}

/// [sdm, Determining IPI Destination], once more and slowly.
bool is_destination(const address& of, const message& sent) {
    if (of.mode == apic_mode::disabled) {
        return false;
    }
    const std::uint32_t all = sent.format == destination_format::xapic ? 0xFF : everybody;
    if (sent.destination == all) {
        return true;
    }
    if (sent.mode == destination_mode::physical) {
        return sent.destination == of.id;
    }
    if (of.mode == apic_mode::x2apic) {
        const std::uint32_t cluster = of.id / 16;
        return sent.destination / 0x1'0000 == cluster &&
               (sent.destination % 0x1'0000 & 1U << of.id % 16) != 0;
    }
    if (of.model == 0xF) {
        return (sent.destination & of.logical_id) != 0 && sent.destination < 0x100;
    }
    if (of.model == 0) {
        return sent.destination < 0x100 && sent.destination / 16 == of.logical_id / 16 &&
               (sent.destination % 16 & of.logical_id % 16) != 0;
    }
    return false;
}

/// Remembers how each was told last.
struct told_vcpus {
    pt::lapic::inbox* inboxes;
    notification* told;
    constexpr std::uint32_t count() { return 2; }
    constexpr pt::lapic::inbox& inbox(std::uint32_t n) { return inboxes[n]; }
    constexpr void notify(std::uint32_t n, notification how) { told[n] = how; }
};

TEST_CASE("the notification vector is enough for what the processor finds in the descriptor",
          "[lapic][bus][rule 31]") {
    constexpr auto check = [] {
        inbox inboxes[2]{};
        notification told[2]{};
        pt::lapic::bus<told_vcpus> bus{told_vcpus{inboxes, told}};
        using word = inbox_addressing;
        inboxes[1].publish(
            word{word::apic_id(1), word::software_enabled(true), word::mode(apic_mode::xapic)});
        const auto sending = [&](delivery_mode delivery, trigger_mode trigger) {
            told[1] = notification::not_needed;
            message sent = physical(1);
            sent.vector = 0x61;
            sent.delivery = delivery;
            sent.trigger = trigger;
            bus.deliver(sent);
            (void)inboxes[1].harvest();
            return told[1];
        };
        using enum delivery_mode;
        bool good = sending(fixed, trigger_mode::edge) == notification::by_vector;
        good = good && sending(fixed, trigger_mode::level) == notification::by_exit;
        for (const delivery_mode other : {nmi, smi, init, start_up, extint}) {
            good = good && sending(other, trigger_mode::edge) == notification::by_exit;
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("random messages among random local APICs reach whom a plain model says",
          "[lapic][bus][rule 30]") {
    constexpr unsigned count = 8;
    std::mt19937_64 random{30}; // NOLINT(cert-msc51-cpp): the same sequence each time
    const auto below = [&](std::uint64_t end) {
        return static_cast<std::uint32_t>(random() % end);
    };
    const auto vm = std::make_unique<machine>(count);
    std::vector<address> at(count);
    std::uint32_t reached_all = 0;
    std::uint32_t chosen[count] = {};
    for (int round = 0; round != 2'000; ++round) {
        const std::uint32_t base = below(4) == 0 ? 0x100 * below(16) : 0;
        std::vector<std::uint8_t> priority(count);
        for (std::uint32_t n = 0; n != count; ++n) {
            constexpr apic_mode modes[] = {apic_mode::xapic, apic_mode::xapic, apic_mode::x2apic,
                                           apic_mode::disabled};
            constexpr std::uint8_t models[] = {0xF, 0xF, 0, 0, 7};
            at[n].mode = base != 0 ? apic_mode::x2apic : modes[below(4)];
            at[n].id = base + (round % 2 == 0 ? n : (n * 5 + 3) % 16);
            at[n].logical_id = static_cast<std::uint8_t>(
                below(2) == 0 ? 1U << below(8) : below(3) * 16 + (1U << below(4)));
            at[n].model = models[below(5)];
            at[n].enabled = below(5) != 0;
            priority[n] = static_cast<std::uint8_t>(below(3) * 16 + below(2));
            vm->place(n, at[n]);
            vm->set_priority(n, priority[n]);
        }
        for (int i = 0; i != 50; ++i) {
            constexpr delivery_mode modes[] = {delivery_mode::fixed, delivery_mode::fixed,
                                               delivery_mode::lowest_priority, delivery_mode::nmi};
            message sent{.delivery = modes[below(4)],
                         .vector = static_cast<std::uint8_t>(16 + below(240)),
                         .to = below(4) == 0 ? static_cast<shorthand>(below(4)) : shorthand::none,
                         .mode = static_cast<destination_mode>(below(2)),
                         .format = static_cast<destination_format>(below(2)),
                         .destination = below(3) == 0   ? below(0x100)
                                        : below(2) == 0 ? base + below(20)
                                                        : base / 16 * 0x1'0000 + below(0x40)};
            if (below(8) == 0) {
                sent.destination = below(2) == 0 ? 0xFF : everybody;
            }
            const std::uint32_t from = below(count + 1); // count: a device
            std::uint32_t expected = 0;
            for (std::uint32_t n = 0; n != count; ++n) {
                const bool is_in = sent.to == shorthand::none          ? is_destination(at[n], sent)
                                   : at[n].mode == apic_mode::disabled ? false
                                   : sent.to == shorthand::self        ? n == from
                                   : sent.to == shorthand::all_excluding_self ? n != from
                                                                              : true;
                const bool takes = at[n].enabled || sent.delivery == delivery_mode::nmi;
                expected |= is_in && takes ? 1U << n : 0;
            }
            const std::uint32_t reached =
                from == count ? vm->bus.deliver(sent).reached : vm->bus.deliver(from, sent).reached;
            const std::uint32_t found = vm->receivers();
            reached_all += reached;
            if (sent.delivery != delivery_mode::lowest_priority) {
                REQUIRE(found == expected);
                REQUIRE(reached == static_cast<std::uint32_t>(__builtin_popcount(expected)));
                continue;
            }
            REQUIRE(reached == (expected != 0 ? 1 : 0));
            REQUIRE(__builtin_popcount(found) == static_cast<int>(reached));
            REQUIRE((found & ~expected) == 0);
            for (std::uint32_t n = 0; n != count; ++n) {
                for (std::uint32_t other = 0; found == 1U << n && other != count; ++other) {
                    REQUIRE(((expected >> other & 1) == 0 || priority[n] <= priority[other]));
                }
                chosen[n] += found >> n & 1;
            }
        }
    }
    REQUIRE(reached_all > 20'000);
    for (const std::uint32_t times : chosen) {
        REQUIRE(times > 100); // nobody is left out for ever
    }
}

TEST_CASE("any CPU delivers at any time: each message of lowest priority reaches exactly one",
          "[lapic][bus][threads]") {
    constexpr unsigned count = 4;
    constexpr std::uint32_t rounds = 200;
    const auto vm = std::make_unique<machine>(count);
    message sent = physical(0xFF);
    sent.delivery = delivery_mode::lowest_priority;
    for (std::uint32_t round = 0; round != rounds; ++round) {
        // Each thread has vectors of its own, so that no two messages merge.
        std::atomic<std::uint32_t> reached{0};
        const auto deliver = [&](std::uint8_t first) {
            for (std::uint8_t vector = first; vector != first + 100; ++vector) {
                message mine = sent;
                mine.vector = vector;
                reached += vm->bus.deliver(mine).reached;
            }
        };
        std::thread other{deliver, std::uint8_t{20}};
        deliver(std::uint8_t{120});
        other.join();
        std::uint32_t times[256] = {};
        for (std::uint32_t n = 0; n != count; ++n) {
            const arrivals found = vm->inboxes[n].harvest();
            for (unsigned vector = 0; vector != 256; ++vector) {
                times[vector] += found.edge.contains(static_cast<std::uint8_t>(vector)) ? 1 : 0;
            }
        }
        REQUIRE(reached == 200);
        for (unsigned vector = 0; vector != 256; ++vector) {
            REQUIRE(times[vector] == (vector >= 20 && vector < 220 ? 1 : 0));
        }
    }
}

} // namespace
