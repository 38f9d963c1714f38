// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/bar.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>

using pt::errc;
using pt::error;
using pt::result;
using pt::pci::bar;
using pt::pci::bar_kind;
using pt::pci::bar_list;
using pt::pci::decode_bar;
using pt::pci::expansion_rom_index;
using pt::pci::function_address;
using pt::pci::header_layout;
using pt::pci::size_bar;
using pt::pci::size_bars;
using pt::pci::write_bar;

namespace {

constexpr function_address nic{0, 0, 5, 0};
constexpr std::uint16_t command_offset = 0x04;

struct device {
    pci_fake::function functions[1]{{nic, 0x10D3'8086}};
    pci_fake::machine machine{functions, 1};

    constexpr device() = default;
    device(const device&) = delete;
    device& operator=(const device&) = delete;

    constexpr pci_fake::config config() { return {&machine}; }
    constexpr void command(std::uint16_t value) { functions[0].put(4, 2, value); }
    constexpr std::uint64_t dword(std::size_t offset) const { return functions[0].get(offset, 4); }
    constexpr void bar(std::size_t offset, std::uint32_t mask, std::uint32_t value) {
        functions[0].bar(offset, mask, value);
    }
    /// Decoding ports and memory, a bus master, INTx disabled.
    constexpr void on() { command(0x0407); }

    constexpr result<pt::pci::bar> sized(std::uint8_t index) {
        return size_bar(config(), nic, index);
    }
    constexpr bool malformed(std::uint8_t index, std::uint64_t where) {
        const auto size = sized(index);
        return !size && size.error() == error{errc::malformed, where};
    }
    constexpr bool absent(std::uint8_t index) {
        const auto size = sized(index);
        return !size && size.error().code == errc::absent;
    }

    /// Whether no register from 0x10 to 0x3F was written while ports or memory were decoded, and
    /// nothing but Command and these was written at all.
    constexpr bool written_only_while_off(std::uint16_t command_before) const {
        std::uint32_t now = command_before;
        for (std::size_t i = 0; i < machine.event_count; ++i) {
            const pci_fake::event& at = machine.events[i];
            if (!at.is_write) {
                continue;
            }
            if (at.offset == command_offset && at.size == 2) {
                now = at.value;
            } else if (at.offset < 0x10 || at.offset >= 0x40 || at.size != 4 || (now & 3) != 0) {
                return false;
            }
        }
        return now == command_before && !machine.out_of_bounds;
    }
};

constexpr pci_fake::event write_of(std::uint16_t offset, unsigned size, std::uint32_t value) {
    return {true, nic, offset, size, value};
}

constexpr bool writes_are(const pci_fake::machine& machine,
                          std::initializer_list<pci_fake::event> expected) {
    if (machine.writes() != expected.size()) {
        return false;
    }
    std::size_t n = 0;
    for (const pci_fake::event& one : expected) {
        if (!(machine.write(n++) == one)) {
            return false;
        }
    }
    return true;
}

} // namespace

// ---- decoding ----

TEST_CASE("a register tells its kind, whether it is prefetchable, and the address", "[pci]") {
    constexpr auto decodes = [](std::uint8_t index, std::uint32_t low, std::uint32_t high,
                                const bar& expected) {
        const auto decoded = decode_bar(header_layout::device, index, low, high);
        return decoded && *decoded == expected;
    };
    constexpr auto holds = [=] {
        return decodes(0, 0xFEBC'0000, 0x1, {bar_kind::mem32, false, 0, 0x10, 0xFEBC'0000, 0}) &&
               decodes(1, 0xE000'0008, 0x1, {bar_kind::mem32, true, 1, 0x14, 0xE000'0000, 0}) &&
               decodes(2, 0x0000'C041, 0x1, {bar_kind::io, false, 2, 0x18, 0xC040, 0}) &&
               decodes(3, 0x000D'0002, 0x1, {bar_kind::mem1m, false, 3, 0x1C, 0xD'0000, 0}) &&
               decodes(4, 0xC000'000C, 0x20, {bar_kind::mem64, true, 4, 0x20, 0x20'C000'0000, 0}) &&
               decodes(6, 0xFEB8'0001, 0x1, {bar_kind::rom, false, 6, 0x30, 0xFEB8'0000, 0});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("type 11, and a 64-bit BAR in the last slot, are malformed", "[pci][rule 6]") {
    constexpr auto fails = [](header_layout layout, std::uint8_t index, std::uint32_t low,
                              error expected) {
        const auto decoded = decode_bar(layout, index, low, 0);
        return !decoded && decoded.error() == expected;
    };
    constexpr auto holds = [=] {
        return fails(header_layout::device, 0, 0xFEBC'0006, {errc::malformed, 0x10}) &&
               fails(header_layout::device, 5, 0xFEBC'0004, {errc::malformed, 0x24}) &&
               fails(header_layout::bridge, 1, 0xFEBC'000C, {errc::malformed, 0x14}) &&
               decode_bar(header_layout::bridge, 0, 0xFEBC'0004, 0).has_value() &&
               decode_bar(header_layout::device, 4, 0xFEBC'0004, 0).has_value();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the layouts have 6, 2 and no BARs, and the ROM is at 0x30 or 0x38", "[pci][rule 6]") {
    using pt::pci::bar_count;
    using pt::pci::bar_offset;
    STATIC_REQUIRE(bar_count(header_layout::device) == 6);
    STATIC_REQUIRE(bar_count(header_layout::bridge) == 2);
    STATIC_REQUIRE(bar_count(header_layout::cardbus_bridge) == 0);
    STATIC_REQUIRE(bar_count(header_layout{0x7F}) == 0);
    STATIC_REQUIRE(*bar_offset(header_layout::device, 5) == 0x24);
    STATIC_REQUIRE(*bar_offset(header_layout::device, expansion_rom_index) == 0x30);
    STATIC_REQUIRE(*bar_offset(header_layout::bridge, expansion_rom_index) == 0x38);
    STATIC_REQUIRE(bar_offset(header_layout::bridge, 2).error() == error{errc::absent, 2});
    STATIC_REQUIRE(bar_offset(header_layout::device, 7).error() == error{errc::absent, 7});
    STATIC_REQUIRE_FALSE(bar_offset(header_layout::cardbus_bridge, expansion_rom_index));
}

// ---- the size that address bits stand for ----

TEST_CASE("the size is the lowest of one run of address bits", "[pci][rule 6]") {
    using pt::pci::bar_size;
    constexpr auto holds = [] {
        return bar_size(bar_kind::mem32, 0xFFFF'FFF0) == 16 &&
               bar_size(bar_kind::mem32, 0xFFFE'0000) == 0x2'0000 &&
               bar_size(bar_kind::mem32, 0x8000'0000) == 0x8000'0000 &&
               bar_size(bar_kind::io, 0xFFFF'FFE0) == 32 && bar_size(bar_kind::io, 0xFFE0) == 32 &&
               bar_size(bar_kind::io, 0x00FF'FFFC) == 4 &&
               bar_size(bar_kind::mem1m, 0xFFFF'F000) == 0x1000 &&
               bar_size(bar_kind::mem1m, 0x000F'F000) == 0x1000 &&
               bar_size(bar_kind::mem64, 0xFFFF'FFFF'FFFF'C000) == 0x4000 &&
               bar_size(bar_kind::mem64, 0xFFFF'FFFF'0000'0000) == 0x1'0000'0000 &&
               bar_size(bar_kind::mem64, 0xFFFF'FFFC'0000'0000) == 0x4'0000'0000 &&
               bar_size(bar_kind::mem64, 0x8000'0000'0000'0000) == 0x8000'0000'0000'0000 &&
               // Region 4 of Intel's Volume Management Device, as asterinas#2893 shows it.
               bar_size(bar_kind::mem64, 0x0000'03FF'FFF0'0000) == 0x10'0000 &&
               bar_size(bar_kind::rom, 0xFFFC'0000) == 0x4'0000;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("address bits that are not one run up to the top have no size", "[pci][rule 6]") {
    using pt::pci::bar_size;
    constexpr auto holds = [] {
        return bar_size(bar_kind::mem32, 0) == 0 && bar_size(bar_kind::mem32, 0xFFFE'1000) == 0 &&
               bar_size(bar_kind::mem32, 0x0FFF'F000) == 0 &&
               bar_size(bar_kind::mem32, 0xDEAD'BEE0) == 0 && bar_size(bar_kind::io, 0x7FE0) == 0 &&
               bar_size(bar_kind::io, 0xFFFF'0000) == 0 && // more ports than there are
               bar_size(bar_kind::io, 0xFFFF'00E0) == 0 &&
               bar_size(bar_kind::mem1m, 0x0007'F000) == 0 &&
               bar_size(bar_kind::mem1m, 0xFFF0'0000) == 0 && // not below 1 MiB
               bar_size(bar_kind::mem64, 0x7FFF'FFF0) == 0 &&
               bar_size(bar_kind::mem64, 0xFFFF'FFFF'0000'FFF0) == 0 &&
               bar_size(bar_kind::rom, 0x00FF'F800) == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("no address bits ever yield a size that is no power of two", "[pci][rule 6]") {
    std::uint64_t random = 0x9E37'79B9'7F4A'7C15;
    for (int i = 0; i < 200'000; ++i) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        const unsigned low = static_cast<unsigned>(random >> 8 & 63);
        // Half of them arbitrary, half of them a run with perhaps one bit wrong.
        const std::uint64_t bits =
            (random & 1) != 0
                ? random
                : (~std::uint64_t{0} << low) ^ (random & std::uint64_t{1} << (random >> 16 & 63));
        for (const bar_kind kind :
             {bar_kind::io, bar_kind::mem32, bar_kind::mem1m, bar_kind::mem64, bar_kind::rom}) {
            const std::uint64_t size = pt::pci::bar_size(kind, bits);
            if (size == 0) {
                continue;
            }
            // A size was found: then counting in steps of it from 0 must reach each writable bit
            // and no other up to the highest.
            std::uint64_t rebuilt = 0;
            for (unsigned bit = 0; bit < 64; ++bit) {
                const std::uint64_t value = std::uint64_t{1} << bit;
                if (value >= size && value <= bits) {
                    rebuilt |= value;
                }
            }
            REQUIRE(rebuilt == bits);
        }
    }
}

// ---- sizing ----

TEST_CASE("sizing: decoding off, all ones, read, restore, decoding on, in that order",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.command(0x0407);
        d.functions[0].put(6, 2, 0xF910); // errors that a dword write to 4 would clear
        d.bar(0x10, 0xFFFE'0000, 0xFEBC'0000);
        const auto sized = d.sized(0);
        return sized && *sized == bar{bar_kind::mem32, false, 0, 0x10, 0xFEBC'0000, 0x2'0000} &&
               writes_are(d.machine, {write_of(4, 2, 0x0404), write_of(0x10, 4, 0xFFFF'FFFF),
                                      write_of(0x10, 4, 0xFEBC'0000), write_of(4, 2, 0x0407)}) &&
               d.dword(0x10) == 0xFEBC'0000 && d.functions[0].get(4, 4) == 0xF910'0407 &&
               d.written_only_while_off(0x0407);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the size is read while all ones are in the register", "[pci][rule 6]") {
    device d;
    d.on();
    d.bar(0x10, 0xFFFE'0000, 0xFEBC'0000);
    REQUIRE(d.sized(0));
    std::size_t ones = 0;
    while (!(d.machine.events[ones] == write_of(0x10, 4, 0xFFFF'FFFF))) {
        ++ones;
    }
    CHECK(d.machine.events[ones + 1] == pci_fake::event{false, nic, 0x10, 4, 0});
    CHECK(d.machine.events[ones + 2] == write_of(0x10, 4, 0xFEBC'0000));
}

TEST_CASE("with decoding off already, Command is not written", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.command(0x0404);
        d.bar(0x10, 0xFFFE'0000, 0);
        const auto sized = d.sized(0);
        return sized && sized->size == 0x2'0000 && sized->address == 0 &&
               writes_are(d.machine, {write_of(0x10, 4, 0xFFFF'FFFF), write_of(0x10, 4, 0)});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("both halves of a 64-bit BAR hold ones before the size is computed", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x18, 0xFFFF'C000, 0xC000'400C);
        d.bar(0x1C, 0xFFFF'FFFF, 0x0000'0020);
        const auto sized = d.sized(2);
        if (!sized || !(*sized == bar{bar_kind::mem64, true, 2, 0x18, 0x20'C000'4000, 0x4000})) {
            return false;
        }
        // From the first write of ones on: ones, ones, read, read, and back.
        std::size_t at = 0;
        while (!(d.machine.events[at] == write_of(0x18, 4, 0xFFFF'FFFF))) {
            ++at;
        }
        const pci_fake::event expected[]{
            write_of(0x18, 4, 0xFFFF'FFFF), write_of(0x1C, 4, 0xFFFF'FFFF),
            {false, nic, 0x18, 4, 0},       {false, nic, 0x1C, 4, 0},
            write_of(0x18, 4, 0xC000'400C), write_of(0x1C, 4, 0x20),
            write_of(4, 2, 0x0407)};
        for (const pci_fake::event& one : expected) {
            if (!(d.machine.events[at++] == one)) {
                return false;
            }
        }
        return at == d.machine.event_count;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("sizes of 4 GiB and more lie in the upper half alone", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0, 0x0000'000C);
        d.bar(0x14, 0xFFFF'FFFE, 0x0000'0040);
        const auto sized = d.sized(0);
        return sized &&
               *sized == bar{bar_kind::mem64, true, 0, 0x10, 0x40'0000'0000, 0x2'0000'0000};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an I/O BAR may hard-wire bits 31:16 to 0", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x18, 0x0000'FFE0, 0x0000'C041);
        d.bar(0x1C, 0xFFFF'FFE0, 0x0000'C061);
        const auto narrow = d.sized(2);
        const auto wide = d.sized(3);
        return narrow && *narrow == bar{bar_kind::io, false, 2, 0x18, 0xC040, 32} && wide &&
               *wide == bar{bar_kind::io, false, 3, 0x1C, 0xC060, 32};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("memory type 01 is below 1 MiB", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0x000F'8000, 0x000D'0002);
        const auto sized = d.sized(0);
        return sized && *sized == bar{bar_kind::mem1m, false, 0, 0x10, 0xD'0000, 0x8000};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the expansion ROM is never enabled by the probe, and stays as it was", "[pci][rule 6]") {
    constexpr auto holds = [](std::uint32_t enable) {
        device d;
        d.on();
        d.bar(0x30, 0xFFFC'0001, 0xFEB8'0000 | enable);
        const auto sized = d.sized(expansion_rom_index);
        return sized && *sized == bar{bar_kind::rom, false, 6, 0x30, 0xFEB8'0000, 0x4'0000} &&
               writes_are(d.machine,
                          {write_of(4, 2, 0x0404), write_of(0x30, 4, 0xFFFF'F800),
                           write_of(0x30, 4, 0xFEB8'0000 | enable), write_of(4, 2, 0x0407)});
    };
    STATIC_REQUIRE((holds(0) && holds(1)));
    REQUIRE((holds(0) && holds(1)));
}

TEST_CASE("a bridge's ROM is at 0x38, and its bus numbers are no BARs", "[pci][rule 6]") {
    device d;
    d.on();
    d.functions[0].put(0x0E, 1, 0x01);
    d.bar(0x10, 0xFFFF'F000, 0xFEB0'0000);
    d.bar(0x18, 0xFFFF'FFFF, 0x0002'0100); // bus numbers
    d.bar(0x38, 0xFFFF'F801, 0);
    const bar_list bars = size_bars(d.config(), nic);
    REQUIRE(bars.size() == 2);
    CHECK(bars.find(0)->size == 0x1000);
    CHECK(*bars.find(expansion_rom_index) == bar{bar_kind::rom, false, 6, 0x38, 0, 0x800});
    for (std::size_t i = 0; i < d.machine.event_count; ++i) {
        CHECK(d.machine.events[i].offset != 0x18);
    }
}

TEST_CASE("a register that is all zero is not implemented", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        return d.absent(0) && d.absent(5) && d.absent(expansion_rom_index) &&
               size_bars(d.config(), nic).size() == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR at the very top is sized, although all ones change nothing", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0xFFFF'F000, 0xFFFF'F000);
        const auto sized = d.sized(0);
        return sized && sized->size == 0x1000 && sized->address == 0xFFFF'F000 &&
               d.dword(0x10) == 0xFFFF'F000 && d.written_only_while_off(0x0407);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

// ---- broken silicon ----

TEST_CASE("read-only garbage has no size, and stays untouched", "[pci][rule 6]") {
    constexpr auto holds = [](std::uint32_t garbage) {
        device d;
        d.on();
        d.bar(0x10, 0, garbage);
        return d.malformed(0, 0x10) && d.written_only_while_off(0x0407);
    };
    // The third to sixth would be sizes if nobody asked whether the bits can be written.
    constexpr auto all = [=] {
        return holds(0xDEAD'BEE0) && holds(0x0000'0008) && holds(0xFFF0'0000) &&
               holds(0xFFFF'FFF0) && holds(0xFFFF'FF01) && holds(0xFFFF'FFFF) && holds(0x0000'0001);
    };
    STATIC_REQUIRE(all());
    REQUIRE(all());
}

TEST_CASE("address bits with holes, and flags that change, are malformed", "[pci][rule 6]") {
    constexpr auto holds = [](std::uint32_t mask, std::uint32_t value) {
        device d;
        d.on();
        d.bar(0x10, mask, value);
        return d.malformed(0, 0x10) && d.dword(0x10) == value && d.written_only_while_off(0x0407);
    };
    constexpr auto all = [=] {
        return holds(0xFFFE'1000, 0) && holds(0x0FFF'F000, 0) && // holes below and above
               holds(0xFFFF'FFFF, 0) &&                          // a plain register, no BAR
               holds(0xFFFF'F008, 0xFEB0'0000);                  // prefetchable at will
    };
    STATIC_REQUIRE(all());
    REQUIRE(all());
}

TEST_CASE("an address with a bit that all ones do not set is malformed", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0xFFFF'F000, 0xFEB0'0800);
        d.functions[0].write_1_to_clear[0x11] = 0x08;
        return d.malformed(0, 0x10) && d.written_only_while_off(0x0407);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a register that all ones clear is malformed, not absent", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0, 0xFEB0'0000);
        d.functions[0].write_1_to_clear[0x12] = 0xFF;
        d.functions[0].write_1_to_clear[0x13] = 0xFF;
        return d.malformed(0, 0x10);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a malformed BAR does not hide the others", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0xFFFF'0000, 0xFEB0'0006); // type 11
        d.bar(0x14, 0xFFFF'F000, 0xFEB1'0000);
        d.bar(0x24, 0xFFFF'F000, 0xFEB2'0004); // 64 bits, but there is no next register
        d.bar(0x30, 0xFFFF'F801, 0);
        const bar_list bars = size_bars(d.config(), nic);
        const result<bar>* at = bars.begin();
        return bars.size() == 4 && at[0].error() == error{errc::malformed, 0x10} &&
               at[1]->size == 0x1000 && at[2].error() == error{errc::malformed, 0x24} &&
               at[3]->kind == bar_kind::rom && !bars.find(0) && bars.find(1) && !bars.find(5);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the upper half of a malformed 64-bit BAR is no BAR of its own", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x10, 0xFFFE'1000, 0xFEB0'0004); // holes
        d.bar(0x14, 0xFFFF'FFFF, 0x0000'0003); // by itself it would be four ports at 0
        d.bar(0x18, 0xFFFF'F000, 0xFEB1'0000);
        const bar_list bars = size_bars(d.config(), nic);
        return bars.size() == 2 && bars.begin()->error() == error{errc::malformed, 0x10} &&
               bars.find(2) && d.dword(0x14) == 3 && d.written_only_while_off(0x0407);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an absent function has no BARs and is not written", "[pci][rule 3]") {
    device d;
    const function_address nobody{0, 0, 6, 0};
    CHECK(size_bars(d.config(), nobody).size() == 0);
    CHECK(pt::pci::read_bars(d.config(), nobody).size() == 0);
    CHECK(size_bar(d.config(), nobody, 0).error().code == errc::absent);
    CHECK(d.machine.writes() == 0);
}

TEST_CASE("what is read as Command where nobody is, is never written", "[pci][rule 3][rule 6]") {
    constexpr auto holds = [] {
        device d; // removed since it was sized; whoever is plugged in next would get all ones
        d.machine.function_count = 0;
        const bar sized{bar_kind::mem32, false, 0, 0x10, 0, 0x2'0000};
        const auto moved = write_bar(d.config(), nic, sized, 0xFEBC'0000);
        bool good = moved.error() == error{errc::hardware_fault, 0x10};
        for (std::size_t n = 0; n < d.machine.writes(); ++n) {
            good &= d.machine.write(n).offset != command_offset;
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a function that is removed in the middle never yields a size", "[pci][rule 6]") {
    const auto make = [](device& d) {
        d.on();
        d.bar(0x10, 0xFFFE'0000, 0xFEBC'0000);
        d.bar(0x14, 0xFFFF'C000, 0xC000'400C);
        d.bar(0x18, 0xFFFF'FFFF, 0x20);
        d.bar(0x1C, 0xFFE0, 0xC041);
        d.bar(0x30, 0xFFFC'0001, 0xFEB8'0000);
    };
    device whole;
    make(whole);
    const bar_list expected = size_bars(whole.config(), nic);
    REQUIRE(expected.size() == 4);
    const std::size_t accesses = whole.machine.event_count;

    for (std::size_t n = 1; n < accesses; ++n) {
        CAPTURE(n);
        device d;
        make(d);
        d.machine.removed_after = n;
        for (const auto& sized : size_bars(d.config(), nic)) {
            // What was sized before it went is right; the rest is an error.
            if (sized) {
                CHECK(*sized == *expected.find(sized->index));
            } else {
                CHECK(sized.error().code == errc::malformed);
            }
        }
    }
}

// ---- all of a function ----

TEST_CASE("the BARs of an 82574L: sizes, upper half skipped, one Command off and on",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d; // BAR0 128 KiB, BAR1 128 KiB, BAR2 32 ports, BAR3 16 KiB, ROM 256 KiB
        d.on();
        d.bar(0x10, 0xFFFE'0000, 0xFEBC'0000);
        d.bar(0x14, 0xFFFE'0000, 0xFEBE'0000);
        d.bar(0x18, 0xFFFF'FFE0, 0x0000'C041);
        d.bar(0x1C, 0xFFFF'C000, 0xFEB0'0000);
        d.bar(0x30, 0xFFFC'0001, 0xFEB8'0000);
        const bar expected[]{{bar_kind::mem32, false, 0, 0x10, 0xFEBC'0000, 0x2'0000},
                             {bar_kind::mem32, false, 1, 0x14, 0xFEBE'0000, 0x2'0000},
                             {bar_kind::io, false, 2, 0x18, 0xC040, 32},
                             {bar_kind::mem32, false, 3, 0x1C, 0xFEB0'0000, 0x4000},
                             {bar_kind::rom, false, 6, 0x30, 0xFEB8'0000, 0x4'0000}};
        std::size_t n = 0;
        bool good = true;
        for (const auto& sized : size_bars(d.config(), nic)) {
            good &= n < 5 && sized && *sized == expected[n];
            ++n;
        }
        std::size_t command_writes = 0;
        for (std::size_t i = 0; i < d.machine.event_count; ++i) {
            command_writes += d.machine.events[i].is_write && d.machine.events[i].offset == 4;
        }
        return good && n == 5 && command_writes == 2 && d.written_only_while_off(0x0407) &&
               d.dword(0x10) == 0xFEBC'0000 && d.dword(0x18) == 0xC041;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the walk skips upper halves, whatever they hold", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.bar(0x10, 0xFFFF'0000, 0xFEB0'0004);
        d.bar(0x14, 0xFFFF'FFFF, 0x0000'0007); // as a register of its own: type 11 with bit 0
        d.bar(0x18, 0xFFFF'0000, 0xFEB1'000C);
        d.bar(0x1C, 0xFFFF'FFFF, 0x0000'0000);
        const bar_list sized = size_bars(d.config(), nic);
        const std::size_t writes = d.machine.writes();
        const bar_list read = pt::pci::read_bars(d.config(), nic);
        const bool pure = d.machine.writes() == writes;
        return pure && sized.size() == 2 && sized.find(0)->address == 0x7'FEB0'0000 &&
               sized.find(2)->address == 0xFEB1'0000 && !sized.find(1) && !sized.find(3) &&
               read.size() == 2 && read.find(0)->address == 0x7'FEB0'0000 &&
               read.find(0)->size == 0 && read.find(2)->prefetchable;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a CardBus bridge and an unknown layout have no BARs here", "[pci][rule 6]") {
    for (const unsigned layout : {0x02U, 0x03U, 0x7FU}) {
        device d;
        d.on();
        d.functions[0].put(0x0E, 1, layout);
        d.bar(0x10, 0xFFFF'F000, 0xFEB0'0000);
        d.bar(0x30, 0xFFFF'F801, 0);
        CHECK(size_bars(d.config(), nic).size() == 0);
        CHECK(d.absent(0));
        CHECK(d.written_only_while_off(0x0407));
    }
}

// ---- moving ----

TEST_CASE("a 64-bit BAR moves in both halves while nothing is decoded", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x18, 0xFFFF'C000, 0xC000'400C);
        d.bar(0x1C, 0xFFFF'FFFF, 0x0000'0020);
        const auto sized = d.sized(2);
        d.machine.event_count = 0;
        const auto moved = write_bar(d.config(), nic, *sized, 0x47'0000'8000);
        return moved && *moved == bar{bar_kind::mem64, true, 2, 0x18, 0x47'0000'8000, 0x4000} &&
               writes_are(d.machine, {write_of(4, 2, 0x0404), write_of(0x18, 4, 0x0000'800C),
                                      write_of(0x1C, 4, 0x47), write_of(4, 2, 0x0407)}) &&
               d.dword(0x18) == 0x0000'800C && d.dword(0x1C) == 0x47;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a move keeps the ROM's enable bit as it is", "[pci][rule 6]") {
    constexpr auto holds = [](std::uint32_t enable) {
        device d;
        d.on();
        d.bar(0x30, 0xFFFC'0001, 0xFEB8'0000 | enable);
        const auto sized = d.sized(expansion_rom_index);
        const auto moved = write_bar(d.config(), nic, *sized, 0xFEA0'0000);
        return moved && d.dword(0x30) == (0xFEA0'0000 | enable);
    };
    STATIC_REQUIRE((holds(0) && holds(1)));
    REQUIRE((holds(0) && holds(1)));
}

TEST_CASE("an address that does not suit the BAR changes nothing", "[pci][rule 6]") {
    constexpr auto refused = [](const bar& sized, std::uint64_t address, errc code) {
        device d;
        d.on();
        const auto moved = write_bar(d.config(), nic, sized, address);
        return !moved && moved.error() == error{code, address} && d.machine.event_count == 0;
    };
    constexpr auto holds = [=] {
        const bar io{bar_kind::io, false, 2, 0x18, 0, 32};
        const bar mem32{bar_kind::mem32, false, 0, 0x10, 0, 0x2'0000};
        const bar mem1m{bar_kind::mem1m, false, 0, 0x10, 0, 0x8000};
        const bar mem64{bar_kind::mem64, false, 0, 0x10, 0, 0x2'0000'0000};
        const bar rom{bar_kind::rom, false, 6, 0x30, 0, 0x800};
        return refused(io, 0xC010, errc::misaligned) && refused(io, 0x1'0000, errc::out_of_range) &&
               refused(mem32, 0xFEBD'0000, errc::misaligned) &&
               refused(mem32, 0x1'0000'0000, errc::out_of_range) &&
               refused(mem1m, 0x10'0000, errc::out_of_range) &&
               refused(mem64, 0x1'0000'0000, errc::misaligned) &&
               refused(rom, 0x1'0000'0000, errc::out_of_range) &&
               refused(rom, 1, errc::misaligned); // the enable bit is no address
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR may lie at the very end of what it can decode", "[pci][rule 6]") {
    device d;
    d.bar(0x10, 0xFFFE'0000, 0);
    d.bar(0x18, 0xFFE0, 1);
    CHECK(write_bar(d.config(), nic, *d.sized(0), 0xFFFE'0000));
    CHECK(write_bar(d.config(), nic, *d.sized(2), 0xFFE0));
}

TEST_CASE("a register that does not take the address gets back what it held", "[pci][rule 6]") {
    constexpr auto holds = [] {
        device d;
        d.on();
        d.bar(0x18, 0xFFF0'0000, 0x0010'0004); // an Intel VMD: 42 bits of address
        d.bar(0x1C, 0x0000'03FF, 0x60);
        const auto sized = d.sized(2);
        const auto inside = write_bar(d.config(), nic, *sized, 0x3FF'0000'0000);
        const auto above = write_bar(d.config(), nic, *inside, 0x400'0000'0000);
        return sized && sized->size == 0x10'0000 && inside && !above &&
               above.error() == error{errc::hardware_fault, 0x18} && d.dword(0x18) == 0x4 &&
               d.dword(0x1C) == 0x3FF && d.functions[0].get(4, 2) == 0x0407 &&
               d.written_only_while_off(0x0407);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
