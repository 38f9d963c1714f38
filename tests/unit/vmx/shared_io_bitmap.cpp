// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/shared_io_bitmap.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::range;
using pt::width;
using pt::vmx::io_bitmap;
using pt::vmx::kept_ports;
using pt::vmx::port_owner;
using pt::vmx::shared_io_bitmap;

constexpr port_owner nic{0x0300};
constexpr port_owner disk{0x0400};

struct pages {
    std::uint64_t a[io_bitmap::words_per_page]{};
    std::uint64_t b[io_bitmap::words_per_page]{};
};

TEST_CASE("a port stays open while one owner keeps it", "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[4];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 4};
        const range<io_port> low{io_port{0xC000}, 32};
        const range<io_port> high{io_port{0xC010}, 32};
        bool good = bitmap.open(nic, low).has_value() && bitmap.open(disk, high).has_value();
        good = good && bitmap.close(nic, low).has_value();
        good = good && bitmap.exits(io_port{0xC00F}, width::byte) &&
               !bitmap.exits(io_port{0xC010}, width::dword);
        good = good && !bitmap.exits(io_port{0xC02C}, width::dword);
        good = good && bitmap.close(disk, high).has_value() &&
               bitmap.exits(io_port{0xC010}, width::byte);
        return good && bitmap.exits(io_port{0xC02F}, width::byte);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("nobody closes what another owner keeps, and each open needs its close",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[4];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 4};
        const range<io_port> bar{io_port{0xC000}, 32};
        bool good = bitmap.open(nic, bar).has_value() && bitmap.open(nic, bar).has_value();
        good = good && bitmap.close(disk, bar) == error{errc::absent, 0xC000};
        good = good && bitmap.close(nic, {io_port{0xC000}, 16}) == error{errc::absent, 0xC000};
        good = good && bitmap.close(nic, bar).has_value() &&
               !bitmap.exits(io_port{0xC000}, width::dword);
        good = good && bitmap.close(nic, bar).has_value() &&
               bitmap.exits(io_port{0xC000}, width::dword);
        return good && bitmap.close(nic, bar) == error{errc::absent, 0xC000};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("without a free slot, or with a protected port, an open changes nothing",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[2]{{disk, {io_port{1}, 1}},
                            {nic, {io_port{2}, 2}}}; // what the memory held before
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 2};
        bool good = bitmap.exits(io_port{1}, width::byte);
        good = good && bitmap.open(nic, {io_port{0}, 0x1'0000}) == error{errc::refused, 0xCF8};
        good = good && bitmap.open(nic, {io_port{0xC000}, 8}).has_value();
        good = good && bitmap.open(nic, {io_port{0xC000}, 0}).has_value(); // nothing takes no slot
        good = good && bitmap.open(disk, {io_port{0xFFFF}, 1}).has_value();
        good = good && bitmap.open(disk, {io_port{0xD000}, 8}) == error{errc::busy, 0xD000};
        good = good && bitmap.exits(io_port{0xD000}, width::byte);
        bitmap.close_all(nic);
        good = good && bitmap.exits(io_port{0xC000}, width::byte) &&
               !bitmap.exits(io_port{0xFFFF}, width::byte);
        good = good && bitmap.open(disk, {io_port{0xD000}, 8}).has_value();

        // No slots at all.
        shared_io_bitmap none{io_bitmap{memory.a, memory.b}, nullptr, 0};
        return good && none.open(nic, {io_port{0xC000}, 8}) == error{errc::busy, 0xC000};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("random owners and overlapping ranges: open exactly where the count is not 0",
          "[vmx][rule 22]") {
    constexpr std::size_t slot_count = 12;
    const auto memory = std::make_unique<pages>();
    kept_ports slots[slot_count];
    shared_io_bitmap bitmap{io_bitmap{memory->a, memory->b}, slots, slot_count};
    std::vector<int> keepers(0x10000, 0);
    std::vector<std::pair<std::uint32_t, std::pair<std::uint32_t, std::uint32_t>>>
        kept; // owner, first, size
    auto random = [engine = std::mt19937{2222}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong = 0;

    const auto count = [&](std::uint32_t first, std::uint32_t size, int step) {
        for (std::uint32_t i = 0; i != size; ++i) {
            keepers.at(first + i) += step;
        }
    };
    for (int step = 0; step != 20'000; ++step) {
        const std::uint32_t owner = random() % 4;
        const unsigned action = random() % 16;
        if (action < 8) {
            const std::uint32_t first =
                (0xFF00 + random() % 0x200) % 0x10000; // around the end and the start
            const std::uint32_t size = std::min(1 + random() % 150, 0x10000 - first);
            const bool opened =
                bitmap.open(port_owner{owner}, {io_port{static_cast<std::uint16_t>(first)}, size})
                    .has_value();
            wrong += opened != (kept.size() < slot_count);
            if (opened) {
                kept.push_back({owner, {first, size}});
                count(first, size, 1);
            }
        } else if (action < 15 && !kept.empty()) {
            const auto entry = kept[random() % kept.size()];
            const auto [first, size] = entry.second;
            const bool closed =
                bitmap.close(port_owner{owner}, {io_port{static_cast<std::uint16_t>(first)}, size})
                    .has_value();
            const auto mine = std::find(kept.begin(), kept.end(), std::pair{owner, entry.second});
            wrong += closed != (mine != kept.end());
            if (mine != kept.end()) {
                kept.erase(mine);
                count(first, size, -1);
            }
        } else if (action == 15) {
            bitmap.close_all(port_owner{owner});
            std::erase_if(kept, [&](const auto& entry) {
                if (entry.first == owner) {
                    count(entry.second.first, entry.second.second, -1);
                }
                return entry.first == owner;
            });
        }
        for (std::uint32_t offset = 0xFE00; offset != 0x10300; ++offset) {
            const auto port = static_cast<std::uint16_t>(offset);
            wrong += bitmap.exits(io_port{port}, width::byte) != (keepers[port] == 0);
        }
    }
    REQUIRE(wrong == 0);
}

} // namespace
