// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/bridge_window.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

using pt::errc;
using pt::error;
using pt::width;
using pt::pci::bridge_window;
using pt::pci::close_window;
using pt::pci::function_address;
using pt::pci::probe_window;
using pt::pci::read_window;
using pt::pci::window_kind;
using pt::pci::write_window;

namespace {

constexpr function_address bridge{0, 0, 0x1C, 0};

/// A PCI-to-PCI bridge on bus 0 that decodes both spaces. `upper_io` and `upper_memory` are the bits
/// of the upper halves that can be written; the windows say that they have some if `wide`.
constexpr pci_fake::function a_bridge(bool wide, std::uint32_t upper_io = 0xFFFF,
                                      std::uint32_t upper_memory = 0xFFFF'FFFF) {
    pci_fake::function made{bridge, 0x9D10'8086};
    made.put(0x04, 2, 0x0007);
    made.put(0x0E, 1, 1);
    made.allow(0x1C, 2, 0xF0F0);
    made.allow(0x20, 4, 0xFFF0'FFF0);
    made.allow(0x24, 4, 0xFFF0'FFF0);
    if (wide) {
        made.put(0x1C, 2, 0x0101);
        made.put(0x24, 4, 0x0001'0001);
        made.allow(0x28, 4, upper_memory);
        made.allow(0x2C, 4, upper_memory);
        made.allow(0x30, 2, upper_io);
        made.allow(0x32, 2, upper_io);
    }
    return made;
}

struct span {
    std::uint64_t first = 1; ///< above last: nothing
    std::uint64_t last = 0;

    [[nodiscard]] constexpr bool empty() const { return first > last; }
    [[nodiscard]] constexpr bool inside(span other) const {
        return empty() || (other.first <= first && last <= other.last);
    }
    friend constexpr bool operator==(span a, span b) {
        return (a.empty() && b.empty()) || (a.first == b.first && a.last == b.last);
    }
};

/// What a bridge with these bytes forwards, worked out from the figures in [pci-bridge].
constexpr span forwarded(const pci_fake::function& at, window_kind kind) {
    span all{};
    switch (kind) {
    case window_kind::io:
        if (at.writable[0x1C] == 0) {
            return {};
        }
        all = {at.bytes[0x1C] / 16 * 0x1000ULL, at.bytes[0x1D] / 16 * 0x1000ULL + 0xFFF};
        if (at.bytes[0x1C] % 16 == 1) {
            all.first += at.get(0x30, 2) * 0x1'0000;
            all.last += at.get(0x32, 2) * 0x1'0000;
        }
        break;
    case window_kind::memory:
        all = {at.get(0x20, 2) / 16 * 0x10'0000ULL, at.get(0x22, 2) / 16 * 0x10'0000ULL + 0xF'FFFF};
        break;
    case window_kind::prefetchable:
        if (at.writable[0x24] == 0) {
            return {};
        }
        all = {at.get(0x24, 2) / 16 * 0x10'0000ULL, at.get(0x26, 2) / 16 * 0x10'0000ULL + 0xF'FFFF};
        if (at.bytes[0x24] % 16 == 1) {
            all.first += at.get(0x28, 4) << 32;
            all.last += at.get(0x2C, 4) << 32;
        }
        break;
    }
    return all;
}

/// What the bridge forwarded after each single write, of all kinds.
struct history {
    pci_fake::machine* machine;
    window_kind kind;
    span states[32]{};
    std::size_t count = 0;
    bool others_changed = false;
    bool switched_off = false;
};

struct watched_config {
    history* past;

    constexpr std::uint32_t read(function_address address, std::uint16_t offset, width size) {
        return pci_fake::config{past->machine}.read(address, offset, size);
    }
    constexpr void write(function_address address, std::uint16_t offset, width size,
                         std::uint32_t value) {
        const pci_fake::function before = *past->machine->functions;
        pci_fake::config{past->machine}.write(address, offset, size, value);
        const pci_fake::function& now = *past->machine->functions;
        past->states[past->count++ % 32] = forwarded(now, past->kind);
        for (const auto kind : {window_kind::io, window_kind::memory, window_kind::prefetchable}) {
            past->others_changed |=
                kind != past->kind && !(forwarded(now, kind) == forwarded(before, kind));
        }
        past->switched_off |= now.get(4, 2) != 0x0007;
    }
};

/// Puts the registers to what forwards that, as a driver of the model and not of pt.
constexpr void preset(pci_fake::function& at, window_kind kind, span wanted) {
    const std::uint64_t unit = kind == window_kind::io ? 0x1000 : 0x10'0000;
    const unsigned lower = kind == window_kind::io ? 16 : 32;
    const std::size_t place = kind == window_kind::io       ? 0x1C
                              : kind == window_kind::memory ? 0x20
                                                            : 0x24;
    const std::size_t size = kind == window_kind::io ? 1 : 2;
    const std::uint64_t flags = at.get(place, size) % 16;
    const std::uint64_t units = (1ULL << lower) / unit;
    const auto base = wanted.empty() ? units - 1 : wanted.first / unit;
    const auto limit = wanted.empty() ? 0 : wanted.last / unit;
    at.put(place, size, base % units * 16 + flags);
    at.put(place + size, size, limit % units * 16 + flags);
    if (flags == 1) {
        at.put(kind == window_kind::io ? 0x30 : 0x28, 2 * size, base / units);
        at.put(kind == window_kind::io ? 0x32 : 0x2C, 2 * size, limit / units);
    }
}

constexpr bool same_bytes(const pci_fake::function& a, const pci_fake::function& b) {
    for (std::size_t i = 0; i < 256; ++i) {
        if (a.bytes[i] != b.bytes[i]) {
            return false;
        }
    }
    return true;
}

/// Moves the window from one place to another, and looks at each state in between.
constexpr bool moves(bool wide, window_kind kind, span from, span to) {
    pci_fake::function one = a_bridge(wide);
    preset(one, window_kind::io, {0, 0x1FFF});
    preset(one, window_kind::memory, {0x20'0000, 0x3F'FFFF});
    preset(one, window_kind::prefetchable, {0x40'0000, 0x5F'FFFF});
    preset(one, kind, from);
    pci_fake::machine machine{&one, 1};
    history past{&machine, kind};
    watched_config config{&past};
    bool good = true;
    if (to.empty()) {
        good &= close_window(config, bridge, kind).has_value();
        good &= read_window(config, bridge, kind).error().code == errc::absent;
    } else {
        const std::uint8_t bits = kind == window_kind::io       ? (wide ? 32 : 16)
                                  : kind == window_kind::memory ? 32
                                                                : (wide ? 64 : 32);
        const auto placed = write_window(config, bridge, kind, to.first, to.last - to.first + 1);
        good &= placed && *placed == bridge_window{kind, to.first, to.last, bits};
        good &= read_window(config, bridge, kind) == placed;
    }
    // Nothing can shut a limit whose upper half is all ones at once; then a part stays open.
    const std::uint64_t no_undercut = kind == window_kind::io ? 0xFFFF'0000 : 0xFFFF'FFFF'0000'0000;
    for (std::size_t i = 0; i < past.count; ++i) {
        const span now = past.states[i];
        const bool part = (now.inside(from) && (from.last & no_undercut) == no_undercut) ||
                          (now.inside(to) && (to.last & no_undercut) == no_undercut);
        good &= now.empty() || now == from || now == to || part;
    }
    return good && past.count > 0 && past.count <= 32 && forwarded(one, kind) == to &&
           !past.others_changed && !past.switched_off && !machine.out_of_bounds;
}

constexpr span nothing{};

} // namespace

TEST_CASE("a window as the manual's figures have it", "[pci]") {
    constexpr auto holds = [] {
        pci_fake::function one = a_bridge(false);
        pci_fake::machine machine{&one, 1};
        const pci_fake::config config{&machine};
        // I/O, 16 bits: 0x5000..0x6FFF
        one.put(0x1C, 2, 0x6050);
        // Memory: 0xF1100000..0xF12FFFFF
        one.put(0x20, 4, 0xF120'F110);
        // Prefetchable, 32 bits: one MiB below 4 GiB; the upper halves are not implemented
        one.put(0x24, 4, 0xFFF0'FFF0);
        bool good = read_window(config, bridge, window_kind::io) ==
                        bridge_window{window_kind::io, 0x5000, 0x6FFF, 16} &&
                    read_window(config, bridge, window_kind::memory) ==
                        bridge_window{window_kind::memory, 0xF110'0000, 0xF12F'FFFF, 32} &&
                    read_window(config, bridge, window_kind::prefetchable) ==
                        bridge_window{window_kind::prefetchable, 0xFFF0'0000, 0xFFFF'FFFF, 32};
        // 32 bits of I/O: 0x0001'F000..0x0002'0FFF; 64 bits of memory across 4 GiB
        one.put(0x1C, 2, 0x01F1);
        one.put(0x30, 4, 0x0002'0001);
        one.put(0x24, 4, 0x0001'FFF1);
        one.put(0x28, 4, 0x0000'0001);
        one.put(0x2C, 4, 0x0000'0002);
        const bridge_window wide{window_kind::prefetchable, 0x1'FFF0'0000, 0x2'000F'FFFF, 64};
        good &= read_window(config, bridge, window_kind::io) ==
                bridge_window{window_kind::io, 0x1'F000, 0x2'0FFF, 32};
        good &= read_window(config, bridge, window_kind::prefetchable) == wide;
        good &= wide.contains(0x1'FFF0'0000) && wide.contains(0x2'000F'FFFF) &&
                !wide.contains(0x1'FFEF'FFFF) && !wide.contains(0x2'0010'0000);
        // With 32 bits, upper halves are nothing, whatever they hold.
        one.put(0x24, 4, 0xFFF0'FFF0);
        good &= read_window(config, bridge, window_kind::prefetchable)->limit == 0xFFFF'FFFF;
        return good && machine.writes() == 0 && !machine.out_of_bounds;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a window whose base is above its limit is closed", "[pci]") {
    pci_fake::function one = a_bridge(true);
    pci_fake::machine machine{&one, 1};
    const pci_fake::config config{&machine};
    one.put(0x1C, 2, 0x01F1);
    one.put(0x20, 4, 0x0000'FFF0);
    one.put(0x24, 4, 0xFFF1'0001); // open, were it not for the upper halves
    one.put(0x28, 4, 1);
    CHECK(read_window(config, bridge, window_kind::io).error() == error{errc::absent, 0x1C});
    CHECK(read_window(config, bridge, window_kind::memory).error() == error{errc::absent, 0x20});
    CHECK(read_window(config, bridge, window_kind::prefetchable).error() ==
          error{errc::absent, 0x24});
    CHECK(machine.writes() == 0);
}

TEST_CASE("only a PCI-to-PCI bridge has windows", "[pci]") {
    for (const unsigned layout : {0U, 2U, 3U, 0x7FU}) {
        pci_fake::function one = a_bridge(true);
        one.put(0x0E, 1, layout);
        pci_fake::machine machine{&one, 1};
        const pci_fake::config config{&machine};
        for (const function_address asked : {bridge, function_address{0, 7, 0, 0}}) {
            const error absent{errc::absent, 0x20};
            CHECK(read_window(config, asked, window_kind::memory).error() == absent);
            CHECK(probe_window(config, asked, window_kind::memory).error() == absent);
            CHECK(close_window(config, asked, window_kind::memory).error() == absent);
            CHECK(write_window(config, asked, window_kind::memory, 0, 0x10'0000).error() == absent);
        }
        CHECK(machine.writes() == 0);
    }
}

TEST_CASE("reserved and disagreeing widths of addresses are malformed", "[pci]") {
    struct wrong {
        window_kind kind;
        std::size_t at;
        std::uint8_t base;
        std::uint8_t limit;
    };
    for (const wrong& each : {wrong{window_kind::io, 0x1C, 0x11, 0x10},
                              {window_kind::io, 0x1C, 0x10, 0x11},
                              {window_kind::io, 0x1C, 0x12, 0x12},
                              {window_kind::memory, 0x20, 0x11, 0x11},
                              {window_kind::memory, 0x20, 0x10, 0x11},
                              {window_kind::prefetchable, 0x24, 0x1F, 0x1F},
                              {window_kind::prefetchable, 0x24, 0x11, 0x10}}) {
        CAPTURE(each.at, each.base, each.limit);
        pci_fake::function one = a_bridge(true);
        one.put(each.at, 1, each.base);
        one.put(each.at + (each.kind == window_kind::io ? 1 : 2), 1, each.limit);
        pci_fake::machine machine{&one, 1};
        const pci_fake::config config{&machine};
        const error malformed{errc::malformed, each.at};
        CHECK(read_window(config, bridge, each.kind).error() == malformed);
        CHECK(probe_window(config, bridge, each.kind).error() == malformed);
        CHECK(close_window(config, bridge, each.kind).error() == malformed);
        CHECK(write_window(config, bridge, each.kind, 0x10'0000, 0x10'0000).error() == malformed);
        CHECK(machine.writes() == 0);
    }
}

TEST_CASE("only a write tells a window at 0 from one that is not implemented", "[pci]") {
    constexpr auto holds = [] {
        bool good = true;
        for (const auto kind : {window_kind::io, window_kind::prefetchable}) {
            pci_fake::function one = a_bridge(false); // all of it 0
            pci_fake::machine machine{&one, 1};
            history past{&machine, kind};
            watched_config config{&past};
            const unsigned bits = kind == window_kind::io ? 16 : 32;
            good &= read_window(config, bridge, kind)->base == 0 && past.count == 0;
            good &= probe_window(config, bridge, kind) == bits;
            // Shut for a moment, never elsewhere.
            const span at_zero = forwarded(one, kind);
            good &= past.count == 2 && past.states[0].empty() && past.states[1] == at_zero &&
                    !at_zero.empty() && !past.others_changed && !past.switched_off;

            const std::size_t place = kind == window_kind::io ? 0x1C : 0x24;
            one.allow(place, 4, 0);
            if (kind == window_kind::io) {
                one.allow(0x1E, 2, 0);
            }
            good &= read_window(config, bridge, kind)->base == 0; // it looks the same
            good &= probe_window(config, bridge, kind).error() == error{errc::absent, place};
            good &= write_window(config, bridge, kind, 0, 0x10'0000).error() ==
                    error{errc::not_supported, place};
            good &= close_window(config, bridge, kind).has_value();
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("probing finds the bits that the upper halves really have", "[pci]") {
    constexpr auto bits = [](std::uint32_t upper_io, std::uint32_t upper_memory, window_kind kind) {
        pci_fake::function one = a_bridge(true, upper_io, upper_memory);
        preset(one, kind,
               kind == window_kind::io ? span{0x2000, 0x4FFF} : span{0xC000'0000, 0xCFFF'FFFF});
        const pci_fake::function before = one;
        pci_fake::machine machine{&one, 1};
        history past{&machine, kind};
        const auto found = probe_window(watched_config{&past}, bridge, kind);
        for (std::size_t i = 0; i < past.count; ++i) {
            if (!past.states[i].empty() && !(past.states[i] == forwarded(before, kind))) {
                return 1U;
            }
        }
        return !same_bytes(one, before) ? 2U : found ? *found : 3U;
    };
    STATIC_REQUIRE(bits(0xFFFF, 0xFFFF'FFFF, window_kind::io) == 32);
    CHECK(bits(0xFFFF, 0xFFFF'FFFF, window_kind::io) == 32);
    CHECK(bits(0xFFFF, 0xFFFF'FFFF, window_kind::memory) == 32);
    CHECK(bits(0xFFFF, 0xFFFF'FFFF, window_kind::prefetchable) == 64);
    CHECK(bits(0xFFFF, 0x3FF, window_kind::prefetchable) == 42);
    CHECK(bits(0, 0, window_kind::io) == 16);
    CHECK(bits(0, 0, window_kind::prefetchable) == 32);
    CHECK(bits(0xFFFF, 0xFFFF'0000, window_kind::prefetchable) == 3); // holes
}

TEST_CASE("moving a window never forwards what is in neither place", "[pci]") {
    constexpr auto io_16 = [] {
        const span places[]{nothing, {0, 0xFFF}, {0x1000, 0x2FFF}, {0xF000, 0xFFFF}, {0, 0xFFFF}};
        bool good = true;
        for (const span from : places) {
            for (const span to : places) {
                good &= moves(false, window_kind::io, from, to);
            }
        }
        return good;
    };
    constexpr auto io_32 = [] {
        const span places[]{nothing,
                            {0, 0xFFF},
                            {0x1000, 0x2FFF},
                            {0xF000, 0x1'0FFF},
                            {0x5'8000, 0x9'7FFF},
                            {0xFFFF'0000, 0xFFFF'FFFF}};
        bool good = true;
        for (const span from : places) {
            for (const span to : places) {
                good &= moves(true, window_kind::io, from, to);
            }
        }
        return good;
    };
    constexpr auto memory = [] {
        const span places[]{nothing,
                            {0, 0xF'FFFF},
                            {0xC000'0000, 0xC7FF'FFFF},
                            {0xFFF0'0000, 0xFFFF'FFFF},
                            {0, 0xFFFF'FFFF}};
        bool good = true;
        for (const bool wide : {false, true}) {
            for (const span from : places) {
                for (const span to : places) {
                    good &= moves(wide, window_kind::memory, from, to);
                    good &= wide || moves(false, window_kind::prefetchable, from, to);
                }
            }
        }
        return good;
    };
    constexpr auto prefetchable = [] {
        const span places[]{nothing,
                            {0, 0xF'FFFF},
                            {0xC000'0000, 0xC7FF'FFFF},
                            {0xFFF0'0000, 0x1'000F'FFFF},
                            {0x4000'0000, 0x3'7FFF'FFFF},
                            {0x1'0000'0000, 0x1'0FFF'FFFF},
                            {0x40'8000'0000, 0x60'7FFF'FFFF},
                            {0x70'C000'0000, 0x70'C00F'FFFF},
                            {0xFFFF'FFFF'8000'0000, 0xFFFF'FFFF'FFFF'FFFF},
                            {0x12'0000'0000, 0xFFFF'FFFF'800F'FFFF}};
        bool good = true;
        for (const span from : places) {
            for (const span to : places) {
                good &= moves(true, window_kind::prefetchable, from, to);
            }
        }
        return good;
    };
    STATIC_REQUIRE(moves(true, window_kind::prefetchable, {0x1'0000'0000, 0x2'FFFF'FFFF},
                         {0xC000'0000, 0xC7FF'FFFF}));
    STATIC_REQUIRE(moves(true, window_kind::io, {0, 0xFFF}, nothing));
    CHECK(io_16());
    CHECK(io_32());
    CHECK(memory());
    CHECK(prefetchable());
}

TEST_CASE("a window in units that the bridge does not have, or out of its reach, is refused",
          "[pci]") {
    constexpr auto holds = [] {
        struct wrong {
            bool wide;
            window_kind kind;
            std::uint64_t base;
            std::uint64_t size;
            error why;
        };
        constexpr std::uint64_t MiB = 0x10'0000;
        const wrong all[]{
            {false, window_kind::io, 0x1800, 0x1000, {errc::misaligned, 0x1800}},
            {false, window_kind::io, 0x1000, 0x0800, {errc::misaligned, 0x0800}},
            {false, window_kind::io, 0x1000, 0, {errc::misaligned, 0}},
            {false, window_kind::memory, 0x1000, MiB, {errc::misaligned, 0x1000}},
            {false, window_kind::memory, MiB, MiB + 1, {errc::misaligned, MiB + 1}},
            {false, window_kind::io, 0xF000, 0x2000, {errc::out_of_range, 0xF000}},
            {false, window_kind::io, 0x1'0000, 0x1000, {errc::out_of_range, 0x1'0000}},
            {true, window_kind::io, 0x1'0000'0000, 0x1000, {errc::out_of_range, 0x1'0000'0000}},
            {true, window_kind::memory, 0xFFF0'0000, 2 * MiB, {errc::out_of_range, 0xFFF0'0000}},
            {true, window_kind::memory, 0x1'0000'0000, MiB, {errc::out_of_range, 0x1'0000'0000}},
            {false,
             window_kind::prefetchable,
             0x1'0000'0000,
             MiB,
             {errc::out_of_range, 0x1'0000'0000}},
            {true,
             window_kind::prefetchable,
             ~std::uint64_t{0} - MiB + 1,
             2 * MiB,
             {errc::out_of_range, ~std::uint64_t{0} - MiB + 1}},
        };
        bool good = true;
        for (const wrong& each : all) {
            pci_fake::function one = a_bridge(each.wide);
            preset(one, each.kind, nothing);
            const pci_fake::function before = one;
            pci_fake::machine machine{&one, 1};
            const pci_fake::config config{&machine};
            const auto placed = write_window(config, bridge, each.kind, each.base, each.size);
            good &= !placed && placed.error() == each.why && same_bytes(one, before);
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a window out of reach of upper halves that lack bits is refused beforehand", "[pci]") {
    pci_fake::function one = a_bridge(true, 0, 0xFF);
    preset(one, window_kind::prefetchable, {0x5'0000'0000, 0x5'FFFF'FFFF});
    const pci_fake::function before = one;
    pci_fake::machine machine{&one, 1};
    history past{&machine, window_kind::prefetchable};
    const watched_config config{&past};
    CHECK(write_window(config, bridge, window_kind::prefetchable, 0x105'0000'0000, 0x10'0000)
              .error() == error{errc::out_of_range, 0x105'0000'0000});
    CHECK(write_window(config, bridge, window_kind::io, 0x1'0000, 0x1000).error() ==
          error{errc::out_of_range, 0x1'0000});
    CHECK(same_bytes(one, before));
    for (std::size_t i = 0; i < past.count; ++i) {
        CHECK((past.states[i].empty() || past.states[i] == span{0x5'0000'0000, 0x5'FFFF'FFFF}));
    }
    CHECK(write_window(config, bridge, window_kind::prefetchable, 0xFF'0000'0000, 0x10'0000));
}

TEST_CASE("registers that do not hold a window are an error, and what was there is back", "[pci]") {
    struct broken {
        window_kind kind;
        std::size_t at;
        std::size_t count;
        std::uint64_t mask;
    };
    for (const broken& each :
         {broken{window_kind::io, 0x1C, 2, 0x7070}, broken{window_kind::memory, 0x20, 4, 0xFFF0},
          broken{window_kind::memory, 0x20, 4, 0xFFF0'0FF0},
          broken{window_kind::prefetchable, 0x24, 4, 0xFFF0'0000},
          broken{window_kind::prefetchable, 0x2C, 4, 0}}) {
        CAPTURE(each.at, each.mask);
        pci_fake::function one = a_bridge(true);
        const bool is_io = each.kind == window_kind::io;
        preset(one, each.kind, is_io ? span{0x2000, 0x3FFF} : span{0x0C00'0000, 0x0CFF'FFFF});
        one.allow(each.at, each.count, each.mask);
        const pci_fake::function before = one;
        pci_fake::machine machine{&one, 1};
        const pci_fake::config config{&machine};
        const std::uint16_t base_offset = is_io                              ? 0x1C
                                          : each.kind == window_kind::memory ? 0x20
                                                                             : 0x24;
        const auto placed = is_io ? write_window(config, bridge, each.kind, 0xC000, 0x2000)
                            : each.kind == window_kind::memory
                                ? write_window(config, bridge, each.kind, 0xE000'0000, 0x40'0000)
                                : write_window(config, bridge, each.kind, 0x8'E000'0000, 0x40'0000);
        REQUIRE_FALSE(placed);
        CHECK(placed.error() == error{errc::hardware_fault, base_offset});
        CHECK(same_bytes(one, before));
    }
}

TEST_CASE("a bridge that vanishes meanwhile is an error, whenever it does", "[pci]") {
    for (std::size_t gone_after = 1; gone_after < 30; ++gone_after) {
        pci_fake::function one = a_bridge(true);
        pci_fake::machine machine{&one, 1};
        machine.removed_after = gone_after;
        const pci_fake::config config{&machine};
        const auto placed =
            write_window(config, bridge, window_kind::prefetchable, 0x8'0000'0000, 0x10'0000);
        CHECK((placed || machine.event_count >= gone_after));
        CHECK_FALSE(machine.out_of_bounds);
        if (machine.event_count <= gone_after) {
            CHECK(placed);
        } else {
            CHECK_FALSE(placed);
        }
    }
}
