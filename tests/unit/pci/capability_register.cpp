// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/capability_register.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt::pci;
using pci_fake::event;
using pci_fake::listed;

constexpr function_address nic = listed::address;

template <class Word, std::uint16_t Offset>
struct some_register : pt::reg<some_register<Word, Offset>, Word> {
    using pt::reg<some_register<Word, Offset>, Word>::reg;
    static constexpr std::uint16_t offset_in_capability = Offset;
};
using byte_7 = some_register<std::uint8_t, 7>;
using word_2 = some_register<std::uint16_t, 2>;
using dword_4 = some_register<std::uint32_t, 4>;

// What is no single access in a capability that starts at a multiple of 4, or has no place, is none.
static_assert(capability_register<byte_7> && capability_register<word_2> &&
              capability_register<dword_4>);
static_assert(!capability_register<some_register<std::uint16_t, 3>>);
static_assert(!capability_register<some_register<std::uint32_t, 2>>);
static_assert(!capability_register<some_register<std::uint64_t, 8>>);
struct without_a_place : pt::reg<without_a_place, std::uint16_t> {};
static_assert(!capability_register<without_a_place>);
static_assert(any_capability<capability> && any_capability<extended_capability> &&
              !any_capability<std::uint16_t>);

} // namespace

TEST_CASE("a register of a capability is one access of its own size at its place",
          "[pci][rule 5]") {
    constexpr auto holds = [] {
        listed d;
        d.put(0x50, 8, 0x8877'6655'4433'2211);
        d.put(0x200, 8, 0x0807'0605'0403'0201);
        d.allow(0x52, 2, 0xFFFF);
        d.allow(0x204, 4, 0xFFFF'FFFF);
        auto config = d.config();
        const capability here{capability_id::msi, 0x50};
        const extended_capability there{extended_capability_id::pasid, 1, 0x200};
        bool good = read<byte_7>(config, nic, here).raw == 0x88 &&
                    read<word_2>(config, nic, here).raw == 0x4433 &&
                    read<dword_4>(config, nic, there).raw == 0x0807'0605;
        write(config, nic, here, word_2{std::uint16_t{0xAABB}});
        write(config, nic, there, dword_4{0x1234'5678U});
        const event expected[]{{false, nic, 0x57, 1, 0},
                               {false, nic, 0x52, 2, 0},
                               {false, nic, 0x204, 4, 0},
                               {true, nic, 0x52, 2, 0xAABB},
                               {true, nic, 0x204, 4, 0x1234'5678}};
        for (std::size_t n = 0; n < 5; ++n) {
            good &= d.machine.events[n] == expected[n];
        }
        return good && d.machine.event_count == 5 && d.get(0x50, 8) == 0x8877'6655'AABB'2211 &&
               d.get(0x204, 4) == 0x1234'5678;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a register beyond the end of the space reads all ones, and a write to it vanishes",
          "[pci][rule 3]") {
    constexpr auto holds = [] {
        listed d;
        d.put(0x100, 4, 0x0000'0001); // of another list: never read as the standard one's
        d.allow(0x100, 4, 0xFFFF'FFFF);
        auto config = d.config();
        const capability last{capability_id::msi, 0xFC};
        const extended_capability very_last{extended_capability_id::pasid, 1, 0xFFC};
        bool good = read<word_2>(config, nic, last).raw == 0 && d.machine.event_count == 1;
        good &= read<dword_4>(config, nic, last).raw == 0xFFFF'FFFF;
        good &= read<byte_7>(config, nic, last).raw == 0xFF;
        good &= read<dword_4>(config, nic, very_last).raw == 0xFFFF'FFFF;
        write(config, nic, last, dword_4{0xAAAA'AAAAU});
        write(config, nic, very_last, dword_4{0xAAAA'AAAAU});
        return good && d.machine.event_count == 1 && d.get(0x100, 4) == 1;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
