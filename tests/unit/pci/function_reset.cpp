// SPDX-License-Identifier: BSL-1.0
// Resetting a function, on a model of one with a clock of its own: it knows the waits of [pcie] and
// [pci], and minds when they are not kept.
#include "pt/pci/function_reset.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <tuple>

namespace {

using namespace pt::pci;
using pt::errc;
using pt::error;

constexpr function_address card{0, 1, 0, 0};
constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t never = ~std::uint64_t{0};

/// A function of type 00h with two memory BARs, one of ports and a ROM, as firmware left it. It has
/// the capabilities that a test adds, and loses by a reset what hardware loses.
struct resettable {
    pci_fake::function is{card, 0x10D3'8086};
    std::uint8_t power_on[256]{};
    std::size_t last = 0;

    std::uint64_t time = 1000;
    std::uint64_t tick = ms; ///< that a look at the clock takes
    // What the function does.
    std::uint64_t pending_until = 0; ///< Transactions Pending
    std::uint64_t silent_for = 0;    ///< after a reset it reads all ones for so long
    std::uint64_t retries_for = 0;   ///< and its vendor id is 1 for so long
    bool ignores_resets = false;
    bool loses_bar_1 = false;
    bool keeps_bar_size = false; ///< of the reset, whatever is written
    std::size_t space = 256;     ///< of configuration
    // What came.
    std::uint64_t left_alone_until = 0;
    std::uint64_t reset_at = never;
    unsigned resets = 0;
    std::uint16_t command_at_reset = 0xFFFF;
    const char* wrong = nullptr;
    pci_fake::event writes[64]{};
    std::size_t write_count = 0;

    constexpr resettable() {
        is.put(0x04, 4, 0x0010'0000); // Status: there is a list
        is.put(0x3D, 1, 1);
        is.allow(0x0C, 2, 0xFFFF);
        is.bar(0x10, 0xFFFE'0000, 0);
        is.bar(0x14, 0xFFFF'C000, 0x4); // 64 bits
        is.bar(0x18, 0xFFFF'FFFF, 0);
        is.bar(0x1C, 0xFFE0, 0x1);
        is.bar(0x30, 0xFFFC'0001, 0);
        is.allow(0x3C, 1, 0xFF);
    }
    resettable(const resettable&) = delete;
    resettable& operator=(const resettable&) = delete;

    constexpr void add(std::size_t offset, std::uint8_t id) {
        is.put(last == 0 ? 0x34 : last + 1, 1, offset);
        is.put(offset, 2, id);
        last = offset;
    }
    /// Version 2; Device Capabilities 28 is function level reset. Max_Payload_Size outlives a
    /// function level reset [pcie], and nothing else here does.
    constexpr void express(bool resets_itself, std::uint16_t port_type = 0) {
        add(0x40, 0x10);
        is.put(0x42, 2, 2U | std::size_t{port_type} << 4);
        is.put(0x44, 4, resets_itself ? 0x1000'8000 : 0x8000);
        is.put(0x48, 2, 0x2010);
        is.allow(0x48, 2, 0x7FFF);
        is.allow(0x68, 2, 0x001F);
    }
    constexpr void advanced(std::uint8_t able) {
        add(0xB0, 0x13);
        is.put(0xB2, 2, 6U | std::size_t{able} << 8);
    }
    constexpr void power(bool keeps_state) {
        add(0xC8, 0x01);
        is.put(0xCA, 2, 0x0002);
        is.put(0xCC, 2, keeps_state ? 0x0008 : 0);
        is.allow(0xCC, 2, 0x0103);
        is.write_1_to_clear[0xCD] = 0x80;
    }
    /// MSI and MSI-X.
    constexpr void messages() {
        add(0xD0, 0x05);
        is.allow(0xD2, 2, 1);
        add(0xA0, 0x11);
        is.put(0xA2, 2, 4);
        is.allow(0xA2, 2, 0xC000);
    }
    /// BAR 0 can have 1 MiB, as after a reset, or 2 MiB.
    constexpr void resizable() {
        space = 4096;
        is.put(0x100, 4, 0x0001'0015);
        is.put(0x104, 4, 0x0000'0030);
        is.put(0x108, 4, 0x0000'0020);
        is.allow(0x109, 1, 0x3F);
    }
    /// Nothing more is added: so it is after power-on. Then the host programs it.
    constexpr void ready() {
        for (std::size_t i = 0; i < 256; ++i) {
            power_on[i] = is.bytes[i];
        }
        is.put(0x04, 2, 0x0047); // decodes, is a bus master, answers parity errors
        is.put(0x0C, 2, 0x2010);
        is.put(0x10, 4, 0xFEB0'0000);
        is.put(0x14, 4, 0x8000'0004);
        is.put(0x18, 4, 0x0000'00C0);
        is.put(0x1C, 4, 0x0000'E001);
        is.put(0x30, 4, 0xFEA0'0001);
        is.put(0x3C, 1, 11);
        if (power_on[0x40] == 0x10) {
            is.put(0x48, 2, 0x5030); // of the payload, and of reads
            is.put(0x68, 2, 0x0006);
        }
    }
    [[nodiscard]] constexpr bool is_as_programmed() const {
        const bool express = power_on[0x40] == 0x10;
        return is.get(0x04, 2) == 0x0047 && is.get(0x0C, 2) == 0x2010 &&
               is.get(0x10, 4) == 0xFEB0'0000 && is.get(0x14, 4) == 0x8000'0004 &&
               is.get(0x18, 4) == 0xC0 && is.get(0x1C, 4) == 0xE001 &&
               is.get(0x30, 4) == 0xFEA0'0001 && is.get(0x3C, 1) == 11 &&
               (!express || (is.get(0x48, 2) == 0x5030 && is.get(0x68, 2) == 0x0006));
    }

    // ---- what the function does

    constexpr void reset(std::uint64_t quiet_time) {
        left_alone_until = time + quiet_time;
        if (ignores_resets) {
            return;
        }
        ++resets;
        reset_at = time;
        command_at_reset = static_cast<std::uint16_t>(is.get(4, 2));
        for (std::size_t i = 0; i < 256; ++i) {
            is.bytes[i] = power_on[i];
        }
        is.put(0x109, 1, 0);
        is.allow(0x109, 1, keeps_bar_size ? 0 : 0x3F);
    }
    constexpr std::uint32_t read(std::uint16_t offset, unsigned size) {
        if (time < left_alone_until) {
            wrong = "it was not left alone";
        }
        const auto ones = static_cast<std::uint32_t>(~std::uint64_t{0} >> (64 - 8 * size));
        if (reset_at != never && time < reset_at + silent_for) {
            return ones;
        }
        if (reset_at != never && time < reset_at + retries_for) { // [pcie]: of Vendor ID alone
            if (offset != 0) {
                wrong = "a read that the root complex repeats until the processor gives up";
            }
            return offset == 0 && size >= 2 ? ones - 0xFFFE : ones;
        }
        is.put(0x4A, 1, power_on[0x40] == 0x10 && time < pending_until ? 0x20 : 0);
        is.put(0xB5, 1, power_on[0xB0] == 0x13 && time < pending_until ? 1 : 0);
        return static_cast<std::uint32_t>(is.get(offset, size));
    }
    constexpr void write(std::uint16_t offset, unsigned size, std::uint32_t value) {
        if (time < left_alone_until) {
            wrong = "it was not left alone";
        }
        if (write_count < 64) {
            writes[write_count++] = {true, card, offset, size, value};
        }
        if (reset_at != never && time < reset_at + silent_for) {
            return;
        }
        const bool decodes = (is.get(4, 2) & 3) != 0;
        if (decodes && ((offset >= 0x10 && offset < 0x34) || offset == 0x108)) {
            wrong = "a BAR was written while it was decoded";
        }
        const std::uint64_t power_before = is.get(0xCC, 2) & 3;
        for (unsigned i = 0; i < size; ++i) {
            const unsigned arriving = value >> 8 * i & 0xFF;
            const unsigned mask = is.writable[offset + i];
            const unsigned held =
                is.bytes[offset + i] & ~(arriving & is.write_1_to_clear[offset + i]);
            is.bytes[offset + i] = static_cast<std::uint8_t>((held & ~mask) | (arriving & mask));
        }
        if (loses_bar_1 && offset == 0x14 && resets != 0) {
            is.put(0x14, 4, 0x4000'0004);
        }
        if (power_on[0x40] == 0x10 && offset == 0x48 && size == 2 && (value & 0x8000) != 0) {
            const std::uint64_t payload = is.get(0x48, 2) & 0x00E0;
            const bool was_able = (is.get(0x44, 4) & 0x1000'0000) != 0;
            if (was_able) {
                reset(100 * ms);
                is.put(0x48, 2, (is.get(0x48, 2) & ~std::uint64_t{0xE0}) | payload);
            }
        }
        if (power_on[0xB0] == 0x13 && offset == 0xB4 && (value & 1) != 0) {
            reset(100 * ms);
        }
        if (power_on[0xC8] == 0x01 && offset == 0xCC) {
            const std::uint64_t power = value & 3;
            const bool keeps = (power_on[0xCC] & 8) != 0;
            if (power_before == 3 && power == 0 && !keeps) {
                reset(10 * ms);
            }
            left_alone_until = time + (power_before == power ? 0 : 10 * ms);
        }
    }
    [[nodiscard]] constexpr bool wrote(std::size_t n, std::uint16_t offset, unsigned size,
                                       std::uint32_t value) const {
        return n < write_count && writes[n] == pci_fake::event{true, card, offset, size, value};
    }
};

struct config {
    resettable* of;

    constexpr std::uint32_t read(function_address function, std::uint16_t offset, pt::width size) {
        return function == card && offset < of->space ? of->read(offset, pt::size_of(size))
                                                      : pt::all_ones(size);
    }
    constexpr void write(function_address function, std::uint16_t offset, pt::width size,
                         std::uint32_t value) {
        if (function == card) {
            of->write(offset, pt::size_of(size), value);
        } else {
            of->wrong = "another function was written to";
        }
    }
};
struct scripted_clock {
    resettable* of;
    constexpr std::uint64_t now() { return of->time += of->tick; }
};

constexpr pt::result<void> reset(resettable& f) {
    return reset_function(config{&f}, card, scripted_clock{&f});
}

TEST_CASE(
    "function level reset: quiet first, left alone for 100 ms, and as it was programmed after",
    "[pci][reset]") {
    constexpr auto works = [] {
        resettable f;
        f.express(true);
        f.messages();
        f.power(false);
        f.advanced(3);
        f.ready();
        f.is.put(0xD2, 2, 1); // as the guest left them
        f.is.put(0xA2, 2, 0x8004);
        bool ok = reset(f).has_value() && f.resets == 1 && f.wrong == nullptr;
        ok = ok && f.command_at_reset == 0x0440; // no bus master, no decoding, no wire
        ok = ok && f.time > f.reset_at + 100 * ms && f.time < f.reset_at + 200 * ms;
        ok = ok && f.is_as_programmed() && f.is.get(0xD2, 2) == 0 && f.is.get(0xA2, 2) == 4;
        // Command first and last; the reset keeps what Device Control had.
        ok = ok && f.wrote(0, 0x04, 2, 0x0440) && f.wrote(1, 0x48, 2, 0xD030);
        return ok && f.wrote(f.write_count - 1, 0x04, 2, 0x0047);
    };
    STATIC_REQUIRE(works());
    REQUIRE(works());
}

TEST_CASE("a function that asks for retries or is silent has a second", "[pci][reset]") {
    constexpr auto after = [](std::uint64_t silent, std::uint64_t retries) {
        resettable f;
        f.express(true);
        f.ready();
        f.silent_for = silent;
        f.retries_for = retries;
        const auto done = reset(f);
        const bool late = f.time >= f.reset_at + 1000 * ms;
        return done ? f.is_as_programmed() && f.wrong == nullptr && !late
                    : done == error{errc::time_out, 0} && late && f.time < f.reset_at + 1100 * ms &&
                          f.write_count == 2; // nothing after the reset
    };
    constexpr auto comes_back = [](std::uint64_t silent, std::uint64_t retries) {
        resettable f;
        f.express(true);
        f.ready();
        f.silent_for = silent;
        f.retries_for = retries;
        return reset(f).has_value();
    };
    STATIC_REQUIRE(after(500 * ms, 0));
    for (const auto& [silent, retries, back] :
         {std::tuple{150 * ms, 0 * ms, true}, std::tuple{950 * ms, 0 * ms, true},
          std::tuple{0 * ms, 950 * ms, true}, std::tuple{300 * ms, 600 * ms, true},
          std::tuple{1100 * ms, 0 * ms, false}, std::tuple{0 * ms, 1100 * ms, false},
          std::tuple{never / 2, 0 * ms, false}}) {
        CAPTURE(silent, retries);
        CHECK(after(silent, retries));
        CHECK(comes_back(silent, retries) == back);
    }
}

TEST_CASE("what the function has asked for is waited for, but not for ever", "[pci][reset]") {
    constexpr auto waits = [](bool express, std::uint64_t pending) {
        resettable f;
        if (express) {
            f.express(true);
        } else {
            f.advanced(3);
        }
        f.ready();
        f.pending_until = f.time + pending;
        const std::uint64_t begun = f.time;
        const bool ok = reset(f).has_value() && f.resets == 1 && f.wrong == nullptr;
        const std::uint64_t waited = f.reset_at - begun;
        return ok && (pending < 1000 * ms ? waited >= pending && waited < pending + 20 * ms
                                          : waited >= 1000 * ms && waited < 1020 * ms);
    };
    STATIC_REQUIRE(waits(true, 300 * ms));
    STATIC_REQUIRE(waits(false, 300 * ms));
    CHECK(waits(true, 0));
    CHECK(waits(false, 0));
    CHECK(waits(true, 5000 * ms));
    CHECK(waits(false, 5000 * ms));
}

TEST_CASE("which reset: the function's own before Advanced Features before power management",
          "[pci][reset]") {
    constexpr auto found = [](bool express, std::uint16_t port, std::uint8_t af, int pm) {
        resettable f;
        if (port != 0xFF) {
            f.express(express, port);
        }
        if (af != 0xFF) {
            f.advanced(af);
        }
        if (pm >= 0) {
            f.power(pm == 1);
        }
        f.ready();
        const auto way = find_reset_method(config{&f}, card);
        return f.write_count != 0                                ? 99
               : way                                             ? static_cast<int>(*way)
               : way.error() == error{errc::not_supported, 0x34} ? -1
                                                                 : -2;
    };
    STATIC_REQUIRE(found(true, 0, 3, 0) == 0);
    CHECK(found(true, 1, 3, 0) == 0);
    CHECK(found(true, 9, 3, 0) == 0);
    CHECK(found(true, 7, 0xFF, -1) == -1); // bit 15 of a bridge's Device Control is another one
    CHECK(found(false, 0, 3, 0) == 1);
    CHECK(found(false, 0xFF, 3, 0) == 1);
    CHECK(found(false, 0, 2, 0) == 2); // both bits, or none [pci]
    CHECK(found(false, 0, 1, 0) == 2);
    CHECK(found(false, 0, 2, -1) == -1);
    CHECK(found(false, 0, 0xFF, 0) == 2);
    CHECK(found(false, 0, 0xFF, 1) == -1); // No_Soft_Reset
    CHECK(found(false, 0, 0xFF, -1) == -1);
    CHECK(found(false, 0xFF, 0xFF, -1) == -1);
}

TEST_CASE("a function that cannot be reset is not written to", "[pci][reset]") {
    constexpr auto untouched = [] {
        resettable f;
        f.express(false);
        f.power(true);
        f.ready();
        return reset(f) == error{errc::not_supported, 0x34} && f.write_count == 0 &&
               f.is_as_programmed();
    };
    STATIC_REQUIRE(untouched());
    REQUIRE(untouched());

    resettable bridge;
    bridge.express(true);
    bridge.ready();
    bridge.is.put(0x0E, 1, 0x81);
    CHECK(reset(bridge) == error{errc::not_supported, 0x0E});
    CHECK(bridge.write_count == 0);

    resettable none;
    none.ready();
    CHECK(reset_function(config{&none}, {0, 1, 0, 1}, scripted_clock{&none}) ==
          error{errc::absent, 0x04});
    CHECK(none.wrong == nullptr);
}

TEST_CASE("Advanced Features resets too", "[pci][reset]") {
    constexpr auto works = [] {
        resettable f;
        f.advanced(3);
        f.ready();
        return reset(f).has_value() && f.resets == 1 && f.wrong == nullptr &&
               f.command_at_reset == 0x0440 && f.wrote(1, 0xB4, 1, 1) && f.is_as_programmed();
    };
    STATIC_REQUIRE(works());
    REQUIRE(works());
}

TEST_CASE("by D3hot: 10 ms there, 10 ms back, and what it cannot keep is restored",
          "[pci][reset]") {
    constexpr auto works = [](bool express) {
        resettable f;
        if (express) {
            f.express(false);
        }
        f.power(false);
        f.messages();
        f.ready();
        f.is.put(0xCC, 2, 0x8100); // PME_Status, which a read-modify-write must not clear
        f.is.put(0xD2, 2, 1);
        const std::uint64_t begun = f.time;
        const bool ok = reset(f).has_value() && f.resets == 1 && f.wrong == nullptr &&
                        f.command_at_reset == 0x0440 && f.is_as_programmed();
        return ok && f.reset_at >= begun + 10 * ms && f.time >= f.reset_at + 10 * ms &&
               f.time < f.reset_at + 100 * ms && f.wrote(1, 0xCC, 2, 0x0103) &&
               f.wrote(2, 0xCC, 2, 0x0100) && f.is.get(0xD2, 2) == 0;
    };
    STATIC_REQUIRE(works(true));
    STATIC_REQUIRE(works(false));
    REQUIRE(works(true));
    REQUIRE(works(false));
}

TEST_CASE(
    "a function that sleeps is woken up before its reset, and what it has is not lost by that",
    "[pci][reset]") {
    constexpr auto works = [](bool keeps_state) {
        resettable f;
        f.express(true);
        f.power(keeps_state);
        f.ready();
        f.is.put(0xCC, 1, keeps_state ? 0x0B : 0x03);
        return reset(f).has_value() && f.wrong == nullptr && f.resets == (keeps_state ? 1 : 2) &&
               f.command_at_reset == 0x0440 && f.is_as_programmed() && (f.is.get(0xCC, 2) & 3) == 0;
    };
    STATIC_REQUIRE(works(true));
    STATIC_REQUIRE(works(false));
    REQUIRE(works(true));
    REQUIRE(works(false));
}

TEST_CASE("a reset that did not happen is not believed", "[pci][reset][hostile]") {
    constexpr auto seen = [](unsigned method) {
        resettable f;
        f.express(method == 0);
        f.advanced(method == 1 ? 3 : 0);
        f.power(false);
        f.messages();
        f.ready();
        f.is.put(0xD2, 2, 1);
        f.ignores_resets = true;
        return reset(f) == error{errc::hardware_fault, 0x04} && f.is_as_programmed() &&
               f.is.get(0xD2, 2) == 0;
    };
    STATIC_REQUIRE(seen(0));
    CHECK(seen(0));
    CHECK(seen(1));
    CHECK(seen(2));

    // A function older than Interrupt Disable has no bit to tell it by.
    resettable old;
    old.is.allow(4, 2, 0x0147);
    old.advanced(3);
    old.ready();
    CHECK(reset(old));
    CHECK(old.is_as_programmed());
}

TEST_CASE("a register that does not come back is named, and nothing is decoded",
          "[pci][reset][hostile]") {
    constexpr auto seen = [] {
        resettable f;
        f.express(true);
        f.ready();
        f.loses_bar_1 = true;
        return reset(f) == error{errc::hardware_fault, 0x14} && (f.is.get(4, 2) & 7) == 0 &&
               f.wrong == nullptr;
    };
    STATIC_REQUIRE(seen());
    REQUIRE(seen());
}

TEST_CASE("a BAR that can have several sizes has the host's again before it is decoded",
          "[pci][reset]") {
    constexpr auto restored = [](bool comes_back) {
        resettable f;
        f.express(true);
        f.resizable();
        f.ready();
        f.is.put(0x109, 1, 1); // the host gave it 2 MiB
        f.keeps_bar_size = !comes_back;
        const auto done = reset(f);
        return f.resets == 1 && f.wrong == nullptr &&
               (comes_back
                    ? done && f.is.get(0x108, 4) == 0x0120 && f.is_as_programmed()
                    : done == error{errc::hardware_fault, 0x108} && (f.is.get(4, 2) & 7) == 0);
    };
    STATIC_REQUIRE(restored(true));
    STATIC_REQUIRE(restored(false));
    REQUIRE(restored(true));
    REQUIRE(restored(false));
}

TEST_CASE("a virtual function, which has no identity of its own, is reset like any other",
          "[pci][reset]") {
    resettable f;
    f.express(true);
    f.is.put(0, 4, 0xFFFF'FFFF);
    f.ready();
    f.silent_for = 400 * ms;
    CHECK(reset(f));
    CHECK(f.time >= f.reset_at + 400 * ms);
    CHECK(f.is_as_programmed());
}

/// Each read is anything.
struct liar {
    std::mt19937* random;
    unsigned* strays;
    std::uint32_t read(function_address, std::uint16_t offset, pt::width size) {
        // Often enough what lets it go on: a header of type 00h, a capability, one that is there.
        const auto any =
            static_cast<std::uint32_t>((*random)() % 4 == 0 ? 0xFFFF'FFFF : (*random)());
        const std::uint32_t usual = offset == 0x00   ? 0x10D3'8086
                                    : offset == 0x0E ? 0
                                    : offset == 0x06 ? 0x10
                                    : offset >= 0x40 ? (any & 0xFFFC'FF00) | 0x10
                                                     : any & 0x0000'0FFF;
        return ((*random)() % 3 != 0 ? usual : any) & pt::all_ones(size);
    }
    void write(function_address function, std::uint16_t offset, pt::width size,
               std::uint32_t value) {
        *strays += function != card || !is_one_config_access(offset, size) || offset >= 256 ||
                           value > pt::all_ones(size)
                       ? 1
                       : 0;
    }
};
struct ticking_clock {
    std::uint64_t* time;
    std::uint64_t now() { return *time += 5 * ms; }
};

TEST_CASE("whatever a function answers, its reset ends, and nobody else is written to",
          "[pci][reset][hostile]") {
    std::mt19937 random{28};
    unsigned ends[5]{};
    for (unsigned round = 0; round < 2000; ++round) {
        unsigned strays = 0;
        std::uint64_t time = 0;
        const auto done = reset_function(liar{&random, &strays}, card, ticking_clock{&time});
        REQUIRE(strays == 0);
        REQUIRE(time < 5000 * ms);
        const errc code = done ? errc::none : done.error().code;
        ++ends[code == errc::none            ? 0
               : code == errc::absent        ? 1
               : code == errc::not_supported ? 2
               : code == errc::time_out      ? 3
                                             : 4];
    }
    CHECK(ends[1] != 0); // it is a test of more than the first read
    CHECK(ends[2] != 0);
    CHECK(ends[3] != 0);
    CHECK(ends[0] + ends[4] != 0);
}

} // namespace
