// SPDX-License-Identifier: BSL-1.0
// The ways of a passed-through device's interrupts: host vectors (MSI) and level-triggered lines (INTx).
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/lapic/level_route.hpp"

#include "pt/core/result.hpp"
#include "pt/lapic/interrupt_lines.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

namespace {

using namespace pt;
using namespace pt::lapic;

constexpr message to_vector(std::uint8_t vector, std::uint32_t destination = 0) {
    return {.vector = vector, .destination = destination};
}

TEST_CASE("a bound host vector is the guest's message, every part of it", "[lapic][routes]") {
    constexpr auto check = [] {
        host_vector_routes routes;
        const message sent[] = {
            {},
            {.vector = 0xFF, .destination = 0xFFFF'FFFF},
            {.delivery = delivery_mode::extint, .trigger = trigger_mode::level},
            {.delivery = delivery_mode::nmi, .mode = destination_mode::logical},
            {.format = destination_format::x2apic, .destination = 0x8000'0001},
        };
        bool good = true;
        for (std::uint8_t i = 0; i != 5; ++i) {
            const auto host = static_cast<std::uint8_t>(0x20 + i * 0x37);
            good = good && routes.bind(host, sent[i]).has_value();
        }
        for (std::uint8_t i = 0; i != 5; ++i) {
            const auto host = static_cast<std::uint8_t>(0x20 + i * 0x37);
            good = good && routes.find(host) == sent[i];
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("bind, rebind and unbind say what is wrong and change nothing then", "[lapic][routes]") {
    constexpr auto check = [] {
        host_vector_routes routes;
        bool good = routes.find(0x41) == error{errc::absent, 0x41} &&
                    routes.unbind(0x41) == error{errc::absent, 0x41} &&
                    routes.rebind(0x41, to_vector(0x31)) == error{errc::absent, 0x41} &&
                    routes.find(0x41) == error{errc::absent, 0x41};
        // The host's exceptions.
        good = good && routes.bind(31, to_vector(0x31)) == error{errc::out_of_range, 31} &&
               routes.bind(0, to_vector(0x31)) == error{errc::out_of_range, 0} &&
               routes.bind(32, to_vector(0x31)).has_value() &&
               routes.bind(255, to_vector(0x31)).has_value();
        good = good && routes.bind(0x41, to_vector(0x31)).has_value() &&
               routes.bind(0x41, to_vector(0x32)) == error{errc::busy, 0x41} &&
               routes.find(0x41) == to_vector(0x31);
        // A shorthand is for IPIs.
        const message broadcast{.to = shorthand::all_including_self};
        good = good && routes.rebind(0x41, broadcast) == error{errc::malformed, 0x41} &&
               routes.bind(0x42, broadcast) == error{errc::malformed, 0x42} &&
               routes.find(0x41) == to_vector(0x31) && !routes.find(0x42);
        good = good && routes.rebind(0x41, to_vector(0x33, 7)).has_value() &&
               routes.find(0x41) == to_vector(0x33, 7);
        good = good && routes.unbind(0x41).has_value() && !routes.find(0x41) &&
               routes.bind(0x41, to_vector(0x34)).has_value();
        return good && routes.find(0x41) == to_vector(0x34) && routes.find(32) == to_vector(0x31);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a CPU that looks up while another rebinds sees the old message or the new one",
          "[lapic][routes][threads]") {
    host_vector_routes routes;
    // Vector and destination agree in each of them, so that parts of two messages show.
    constexpr std::uint32_t parts = 0x0101'0101;
    REQUIRE(routes.bind(0x41, to_vector(1, parts)));
    std::atomic<bool> is_over{false};
    std::atomic<unsigned> torn{0};
    std::thread reader{[&] {
        while (!is_over) {
            const auto found = routes.find(0x41);
            torn += found && found->destination == found->vector * parts ? 0 : 1;
        }
    }};
    unsigned failed = 0;
    for (std::uint32_t i = 0; i != 200'000; ++i) {
        const auto vector = static_cast<std::uint8_t>(i % 255 + 1);
        failed += routes.rebind(0x41, to_vector(vector, vector * parts)) ? 0 : 1;
    }
    is_over = true;
    reader.join();
    REQUIRE(failed == 0);
    REQUIRE(torn == 0);
}

constexpr std::uint64_t line(unsigned n) { return std::uint64_t{1} << n; }
constexpr std::uint64_t all_masked = ~std::uint64_t{0};

/// Lines that only count.
struct wiring {
    std::uint64_t masked = all_masked; // bit n
    wire_level guest = wire_level::deasserted;
    unsigned changes = 0; // of the guest's line
    bool told_twice = false;
};
struct host {
    wiring* of;
    constexpr void mask(std::uint32_t n) { of->masked |= line(n); }
    constexpr void unmask(std::uint32_t n) { of->masked &= ~line(n); }
};
struct guest {
    wiring* of;
    constexpr void set(wire_level level) {
        of->told_twice = of->told_twice || of->guest == level;
        of->guest = level;
        ++of->changes;
    }
};
using counted_route = level_route<host, guest>;

constexpr bool is_asserted(const wiring& wires) { return wires.guest == wire_level::asserted; }

TEST_CASE("INTx: masked from the host's interrupt to the guest's end of interrupt",
          "[lapic][routes]") {
    constexpr auto check = [] {
        wiring wires;
        counted_route route{host{&wires}, guest{&wires}};
        route.open(0);
        bool good = wires.masked == ~line(0) && !is_asserted(wires);
        route.host_interrupt(0);
        good = good && wires.masked == all_masked && is_asserted(wires) &&
               route.level() == wire_level::asserted;
        // What was on its way when the line was masked.
        route.host_interrupt(0);
        route.host_interrupt(0);
        good = good && wires.masked == all_masked && wires.changes == 1;
        route.end_of_interrupt();
        good = good && wires.masked == ~line(0) && !is_asserted(wires) &&
               route.level() == wire_level::deasserted;
        // An end without an interrupt: the guest's EOI of something else on that pin.
        route.end_of_interrupt();
        good = good && wires.masked == ~line(0) && wires.changes == 2;
        // The device still asserts.
        route.host_interrupt(0);
        return good && wires.masked == all_masked && is_asserted(wires) && !wires.told_twice;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a line that is closed while it asserts lets go, and the others keep the guest's line",
          "[lapic][routes]") {
    constexpr auto check = [] {
        wiring wires;
        counted_route route{host{&wires}, guest{&wires}};
        route.open(3);
        route.open(5);
        route.host_interrupt(3);
        route.host_interrupt(5);
        bool good = wires.masked == all_masked && wires.changes == 1;
        route.close(3);
        good = good && is_asserted(wires) && wires.masked == all_masked;
        route.close(5);
        good = good && !is_asserted(wires) && wires.masked == all_masked;
        // The guest ends what it had begun; and what comes late finds a closed line.
        route.end_of_interrupt();
        good = good && wires.masked == all_masked;
        wires.masked = 0; // by whoever: it does not stay so
        route.host_interrupt(3);
        good = good && wires.masked == line(3) && !is_asserted(wires);
        route.close(3); // again
        route.open(3);
        route.open(3);
        good = good && (wires.masked & line(3)) == 0;
        route.host_interrupt(3);
        return good && is_asserted(wires) && !wires.told_twice;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("devices that share a line of the guest: one end of interrupt, all are looked at again",
          "[lapic][routes]") {
    constexpr auto check = [] {
        wiring wires;
        counted_route route{host{&wires}, guest{&wires}};
        route.open(0);
        route.open(1);
        route.open(63);
        route.host_interrupt(0);
        route.host_interrupt(1);
        route.end_of_interrupt();
        bool good =
            wires.masked == (all_masked & ~line(0) & ~line(1) & ~line(63)) && !is_asserted(wires);
        // The guest has served the first alone; the second interrupts again, which is a new assertion.
        route.host_interrupt(1);
        good = good && is_asserted(wires) && wires.changes == 3 && (wires.masked & 3) == 2;
        route.host_interrupt(0);
        return good && wires.changes == 3 && (wires.masked & 3) == 3 && !wires.told_twice;
    };
    static_assert(check());
    REQUIRE(check());
}

/// Devices with level-triggered lines, a host with a mask for each, a pin of a guest's I/O APIC that
/// sends a message when it becomes asserted and nothing while that is in service, and a guest.
struct level_machine {
    static constexpr std::uint32_t lines = 3;
    struct host_side {
        level_machine* of;
        void mask(std::uint32_t n) { of->is_masked[n] = true; }
        void unmask(std::uint32_t n) { of->is_masked[n] = false; }
    };
    struct guest_side {
        level_machine* of;
        void set(wire_level level) {
            REQUIRE(level != of->pin); // only when it changes
            of->pin = level;
            of->sends();
        }
    };

    bool asserts[lines] = {}; // the devices
    bool is_masked[lines] = {true, true, true};
    bool is_open[lines] = {};
    wire_level pin = wire_level::deasserted;
    bool is_pin_masked = false;
    bool remote_irr = false; // sent, and not ended
    bool is_pending = false; // at the guest's local APIC
    bool in_service = false;
    std::uint64_t host_interrupts[lines] = {};
    std::uint64_t ends = 0;
    level_route<host_side, guest_side> route{host_side{this}, guest_side{this}};

    level_machine() = default;
    level_machine(const level_machine&) = delete;
    level_machine& operator=(const level_machine&) = delete;

    void sends() {
        if (pin == wire_level::asserted && !remote_irr && !is_pin_masked) {
            remote_irr = is_pending = true;
        }
    }
    /// The host's processor takes what its interrupt controller has. Whether there was something.
    bool host_takes(std::uint32_t n) {
        if (!asserts[n] || is_masked[n]) {
            return false;
        }
        ++host_interrupts[n];
        route.host_interrupt(n);
        return true;
    }
    void guest_takes() {
        if (is_pending && !in_service) {
            is_pending = false;
            in_service = true;
        }
    }
    void guest_ends() {
        if (!in_service) {
            return;
        }
        in_service = false;
        ++ends;
        route.end_of_interrupt();
        remote_irr = false;
        sends();
    }
};

TEST_CASE("a level line to a guest, against a plain model: nothing is lost, no storm, never stuck",
          "[lapic][routes][rule 27]") {
    const auto machine = std::make_unique<level_machine>();
    level_machine& vm = *machine;
    std::mt19937 random{27}; // NOLINT(cert-msc51-cpp): the same sequence each time
    const auto one_in = [&](unsigned n) { return random() % n == 0; };
    std::uint64_t served = 0;
    std::uint64_t spurious = 0;
    std::uint64_t openings[level_machine::lines] = {};
    for (int round = 0; round != 2'000; ++round) {
        for (int step = 0; step != 50; ++step) {
            const auto n = static_cast<std::uint32_t>(random() % level_machine::lines);
            switch (random() % 12) {
            case 0:
            case 1: vm.asserts[n] = true; break;
            case 2: vm.asserts[n] = vm.asserts[n] && !one_in(8); break; // without being served
            case 3:
            case 4:
            case 5: vm.host_takes(n); break;
            case 6: vm.guest_takes(); break;
            case 7: // the handler: serves one of the devices, or none
                if (vm.in_service) {
                    served += vm.asserts[n] ? 1 : 0;
                    spurious += vm.asserts[n] ? 0 : 1;
                    vm.asserts[n] = false;
                }
                break;
            case 8: vm.guest_ends(); break;
            case 9: vm.route.end_of_interrupt(); break; // of something else on that vector
            case 10:
                vm.is_pin_masked = one_in(4);
                vm.sends();
                break;
            default:
                if (one_in(4)) {
                    vm.is_open[n] = !vm.is_open[n];
                    vm.is_open[n] ? vm.route.open(n) : vm.route.close(n);
                    openings[n] += vm.is_open[n] ? 1 : 0;
                }
                break;
            }
            // What is asserted is masked, what is closed is masked, and nothing else is.
            const bool asserted = vm.pin == wire_level::asserted;
            bool holds = false;
            for (std::uint32_t i = 0; i != level_machine::lines; ++i) {
                REQUIRE((vm.is_open[i] || vm.is_masked[i]));
                holds = holds || (vm.is_open[i] && vm.is_masked[i]);
            }
            REQUIRE(asserted == holds);
        }
        // Everybody does what he has to, in a bounded number of steps: every device is served.
        vm.is_pin_masked = false;
        vm.sends();
        for (std::uint32_t n = 0; n != level_machine::lines; ++n) {
            if (!vm.is_open[n]) {
                vm.is_open[n] = true;
                vm.route.open(n);
                ++openings[n];
            }
        }
        std::uint64_t interrupts = 0;
        const std::uint64_t ends_before = vm.ends;
        for (int turn = 0; turn != 4; ++turn) {
            for (std::uint32_t n = 0; n != level_machine::lines; ++n) {
                interrupts += vm.host_takes(n) ? 1 : 0;
                REQUIRE_FALSE(vm.host_takes(n)); // no storm
            }
            vm.guest_takes();
            if (vm.in_service) {
                for (bool& device : vm.asserts) {
                    served += device ? 1 : 0;
                    device = false;
                }
            }
            vm.guest_ends();
        }
        for (const bool device : vm.asserts) {
            REQUIRE_FALSE(device);
        }
        REQUIRE(vm.pin == wire_level::deasserted);
        REQUIRE_FALSE(vm.remote_irr);
        REQUIRE(interrupts <= level_machine::lines * (vm.ends - ends_before + 1));
        for (const bool masked : vm.is_masked) {
            REQUIRE_FALSE(masked);
        }
    }
    REQUIRE(served > 5'000);
    REQUIRE(spurious > 100);
}

TEST_CASE("a guest that never ends its interrupt, or never serves the device, makes no storm",
          "[lapic][routes]") {
    const auto machine = std::make_unique<level_machine>();
    level_machine& vm = *machine;
    vm.route.open(0);
    vm.asserts[0] = true;
    for (int i = 0; i != 100; ++i) {
        vm.host_takes(0);
        vm.guest_takes();
    }
    REQUIRE(vm.host_interrupts[0] == 1);
    for (int i = 0; i != 100; ++i) { // ends, and does not serve
        vm.guest_ends();
        vm.host_takes(0);
        vm.guest_takes();
    }
    REQUIRE(vm.ends == 100);
    REQUIRE(vm.host_interrupts[0] == 101);
}

TEST_CASE("with a mutex, interrupts of the host and ends of the guest on two CPUs",
          "[lapic][routes][threads]") {
    // The device asserts until it was served `requests` times; the host interrupts whenever it may.
    struct shared {
        std::mutex lock;
        std::atomic<std::thread::id> owner{};
        std::atomic<bool> asserts{false};
        std::atomic<bool> is_masked{true};
        std::atomic<bool> pin{false};
        std::atomic<unsigned> without_lock{0};
        void check() { without_lock += owner == std::this_thread::get_id() ? 0 : 1; }
    } wires;
    struct by_mutex {
        shared* of;
        void lock() {
            of->lock.lock();
            of->owner = std::this_thread::get_id();
        }
        void unlock() {
            of->owner = std::thread::id{};
            of->lock.unlock();
        }
    };
    struct host_side {
        shared* of;
        void mask(std::uint32_t) {
            of->check();
            of->is_masked = true;
        }
        void unmask(std::uint32_t) {
            of->check();
            of->is_masked = false;
        }
    };
    struct guest_side {
        shared* of;
        void set(wire_level level) {
            of->check();
            of->pin = level == wire_level::asserted;
        }
    };
    level_route<host_side, guest_side, by_mutex> route{host_side{&wires}, guest_side{&wires},
                                                       by_mutex{&wires}};
    constexpr unsigned requests = 20'000;
    route.open(0);
    std::atomic<bool> is_over{false};
    std::thread host_cpu{[&] {
        while (!is_over) {
            if (wires.asserts && !wires.is_masked) {
                route.host_interrupt(0);
            }
            std::this_thread::yield();
        }
    }};
    unsigned served = 0;
    // A request that is lost would wait for ever; this many looks are far more than it takes.
    std::uint64_t looks = 0;
    while (served != requests && looks != 200'000'000) {
        ++looks;
        wires.asserts = true;
        if (wires.pin) {
            wires.asserts = false;
            ++served;
            route.end_of_interrupt();
        } else {
            std::this_thread::yield();
        }
    }
    is_over = true;
    host_cpu.join();
    REQUIRE(served == requests);
    route.close(0);
    REQUIRE(wires.without_lock == 0);
}

} // namespace
