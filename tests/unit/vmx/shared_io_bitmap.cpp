// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/shared_io_bitmap.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/bitmap_change.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::range;
using pt::width;
using pt::vcpu::bitmap_change;
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
        (void)bitmap.close_all(nic);
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

TEST_CASE("a change is reported for the bits: the second owner opens nothing, the first one closes "
          "nothing",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        constexpr bitmap_change nothing{};
        constexpr bitmap_change opened{.opened = true};
        constexpr bitmap_change closed{.closed = true};
        pages memory;
        kept_ports slots[4];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 4};
        const range<io_port> bar{io_port{0xC000}, 32};
        const range<io_port> inside{io_port{0xC008}, 8};
        bool good = bitmap.opening(bar) == opened && bitmap.exits(io_port{0xC000}, width::byte);
        good = good && bitmap.open(nic, bar) == opened;
        good = good && bitmap.opening(inside) == nothing && bitmap.open(disk, inside) == nothing;
        good = good && bitmap.closing(disk, inside) == nothing; // the NIC still has it
        good = good && bitmap.closing(nic, bar) == closed;      // but the disk has not all of it
        good = good && bitmap.closing(nic, inside) == error{errc::absent, 0xC008};
        good = good && !bitmap.exits(io_port{0xC000}, width::dword); // so far only questions
        good = good && bitmap.close(nic, bar) == closed && bitmap.close(disk, inside) == closed;

        good = good && bitmap.open(nic, bar) == opened && bitmap.open(disk, bar) == nothing &&
               bitmap.open(disk, inside) == nothing;
        good = good && bitmap.close_all(disk) == nothing && bitmap.close_all(disk) == nothing;
        good = good && bitmap.close_all(nic) == closed && bitmap.close_all(nic) == nothing;

        // A port that one owner has twice is open once.
        good = good && bitmap.open(nic, bar) == opened && bitmap.open(nic, inside) == nothing;
        good =
            good && bitmap.close_all(nic) == closed && bitmap.exits(io_port{0xC008}, width::byte);

        // opening() foretells errors too.
        good = good && bitmap.opening({io_port{0xCF0}, 32}) == error{errc::refused, 0xCF8};
        for (std::uint16_t i = 0; i != 4; ++i) {
            good = good && bitmap.open(nic, {io_port{i}, 1}) == opened;
        }
        good = good && bitmap.opening({io_port{0xCF0}, 32}) == error{errc::busy, 0xCF0};
        good = good && bitmap.open(nic, {io_port{0xCF0}, 32}) == error{errc::busy, 0xCF0};
        return good && bitmap.opening({io_port{0xCF0}, 0}) == nothing &&
               bitmap.closing(disk, {io_port{0xCF0}, 0}) == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a BAR whose numbers differ in guest and host does not open", "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[1];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 1};
        const range<io_port> real{io_port{0xC000}, 32};
        bool good = true;
        for (const range<io_port> guest : {range{io_port{0xC020}, 32}, range{io_port{0xC000}, 64},
                                           range{io_port{0xC000}, 16}, range{io_port{0xC000}, 0}}) {
            good = good && bitmap.open_identity(nic, guest, real) ==
                               error{errc::refused, guest.first().raw};
        }
        for (std::uint32_t port = 0xBFE0; port != 0xC060; ++port) {
            good = good && bitmap.exits(io_port{static_cast<std::uint16_t>(port)}, width::byte);
        }
        // Nor has a refusal taken the only slot.
        good = good && bitmap.open_identity(nic, real, real) == bitmap_change{.opened = true};
        good = good && !bitmap.exits(io_port{0xC01C}, width::dword);
        good = good && bitmap.close(nic, real).has_value();
        const range<io_port> config{io_port{0xCF8}, 8};
        return good && bitmap.open_identity(nic, config, config) == error{errc::refused, 0xCF8};
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a BAR moves by opening first: a refused place leaves the old one, and common ports "
          "never close",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[2];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 2};
        const range<io_port> from{io_port{0xC000}, 64};
        const range<io_port> to{io_port{0xC020}, 64};
        bool good = bitmap.open(nic, from).has_value();
        good = good && bitmap.open(nic, {io_port{0xCC0}, 64}) == error{errc::refused, 0xCF8};
        good = good && !bitmap.exits(io_port{0xC000}, width::dword);
        good = good && bitmap.open(nic, to).has_value() && bitmap.close(nic, from).has_value();
        return good && bitmap.exits(io_port{0xC01F}, width::byte) &&
               !bitmap.exits(io_port{0xC020}, width::dword) &&
               !bitmap.exits(io_port{0xC05C}, width::dword);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what one owner keeps never exits while others open and close around it",
          "[vmx][rule 22][threads]") {
    // Xen walked a list of ports while another processor changed it (CVE-2026-42487).
    pages memory;
    kept_ports slots[8];
    shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 8};
    REQUIRE(bitmap.open(nic, {io_port{0xC010}, 4}));
    std::atomic<bool> done{false};
    std::atomic<unsigned> asked{0};
    unsigned wrong = 0;
    std::thread reader{[&] {
        while (!done.load(std::memory_order_relaxed)) {
            wrong += bitmap.exits(io_port{0xC010}, width::dword) ||
                     !bitmap.exits(io_port{0xC00F}, width::word);
            asked.fetch_add(1, std::memory_order_relaxed);
        }
    }};
    const auto change_everything = [&] {
        // Both are in the word of what is kept; the first covers it.
        return bitmap.open(disk, {io_port{0xC010}, 256}) &&
               bitmap.open(disk, {io_port{0xC020}, 16}) &&
               bitmap.close(disk, {io_port{0xC010}, 256}) &&
               bitmap.close(disk, {io_port{0xC020}, 16});
    };
    bool good = true;
    for (int i = 0; i < 60'000 || asked.load() < 1'000'000; ++i) {
        good = good && change_everything();
    }
    done = true;
    reader.join();
    CHECK(good);
    REQUIRE(wrong == 0);
}

/// For each port the ranges that are kept and hold it, each with its owner: sets of sets, without
/// any thought of runs of ports.
class slow_shared_bitmap {
public:
    struct keep {
        std::uint32_t owner;
        std::uint32_t first;
        std::uint32_t size;
        auto operator<=>(const keep&) const = default;
    };

    const std::vector<keep>& all() const { return all_; }
    bool open(std::uint32_t port) const { return !keepers_.at(port).empty(); }

    /// Whether it opened a port.
    bool add(keep one) {
        all_.push_back(one);
        bool opened = false;
        for (std::uint32_t port = one.first; port != one.first + one.size; ++port) {
            opened = opened || keepers_.at(port).empty();
            keepers_.at(port).insert(one);
        }
        return opened;
    }
    /// Whether it closed a port.
    bool remove(keep one) {
        all_.erase(std::find(all_.begin(), all_.end(), one));
        bool closed = false;
        for (std::uint32_t port = one.first; port != one.first + one.size; ++port) {
            keepers_.at(port).erase(keepers_.at(port).find(one));
            closed = closed || keepers_.at(port).empty();
        }
        return closed;
    }

private:
    std::vector<keep> all_;
    std::vector<std::multiset<keep>> keepers_ = std::vector<std::multiset<keep>>(0x10000);
};

TEST_CASE(
    "random owners and overlapping ranges: open exactly where the set of keepers is not empty",
    "[vmx][rule 22]") {
    constexpr std::size_t slot_count = 12;
    const auto memory = std::make_unique<pages>();
    kept_ports slots[slot_count];
    shared_io_bitmap bitmap{io_bitmap{memory->a, memory->b}, slots, slot_count};
    slow_shared_bitmap model;
    auto random = [engine = std::mt19937{2222}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong = 0;
    for (int step = 0; step != 10'000; ++step) {
        const std::uint32_t owner = random() % 4;
        const unsigned action = random() % 16;
        if (action < 8) {
            // Around the start, the end, and the seam of the two pages.
            const std::uint32_t seam = (random() % 2 == 0 ? 0xFF00 : 0x7F00) + random() % 0x200;
            const std::uint32_t first = seam % 0x10000;
            const std::uint32_t size = std::min(1 + random() % 150, 0x10000 - first);
            const range<io_port> ports{io_port{static_cast<std::uint16_t>(first)}, size};
            const auto foretold = bitmap.opening(ports);
            const auto opened = bitmap.open(port_owner{owner}, ports);
            wrong += opened != foretold;
            if (model.all().size() == slot_count) {
                wrong += opened != error{errc::busy, first};
            } else {
                wrong += opened != bitmap_change{.opened = model.add({owner, first, size})};
            }
        } else if (action < 15 && !model.all().empty()) {
            auto one = model.all()[random() % model.all().size()];
            one.owner = owner; // often not the one who keeps it
            const range<io_port> ports{io_port{static_cast<std::uint16_t>(one.first)}, one.size};
            const auto foretold = bitmap.closing(port_owner{owner}, ports);
            const auto closed = bitmap.close(port_owner{owner}, ports);
            wrong += closed != foretold;
            if (std::find(model.all().begin(), model.all().end(), one) == model.all().end()) {
                wrong += closed != error{errc::absent, one.first};
            } else {
                wrong += closed != bitmap_change{.closed = model.remove(one)};
            }
        } else if (action == 15) {
            bitmap_change expected;
            for (const auto& one : std::vector{model.all()}) {
                if (one.owner == owner) {
                    expected |= {.closed = model.remove(one)};
                }
            }
            wrong += bitmap.close_all(port_owner{owner}) != expected;
        }
        for (const std::uint32_t begin : {0x7E00U, 0xFE00U}) {
            for (std::uint32_t offset = begin; offset != begin + 0x500; ++offset) {
                const auto port = static_cast<std::uint16_t>(offset);
                wrong += bitmap.exits(io_port{port}, width::byte) == model.open(port);
            }
        }
    }
    REQUIRE(wrong == 0);
}

} // namespace
