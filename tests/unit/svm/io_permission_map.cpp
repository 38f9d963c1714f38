// SPDX-License-Identifier: BSL-1.0
#include "pt/svm/io_permission_map.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::range;
using pt::width;
using pt::svm::io_permission_map;

/// [amd] IN and OUT Behavior: the map is a linear array of bits; the bits of all bytes of the
/// access are looked at, and nothing is said of a wrap, so that those of 0x10000 on are in the
/// third page.
bool intercepted(const std::vector<std::uint64_t>& words, std::uint32_t port, unsigned bytes) {
    std::vector<std::uint8_t> raw(words.size() * 8);
    std::memcpy(raw.data(), words.data(), raw.size());
    for (std::uint32_t bit = port; bit != port + bytes; ++bit) {
        if ((raw.at(bit / 8) >> (bit % 8) & 1) != 0) {
            return true;
        }
    }
    return false;
}

TEST_CASE("three pages of ones, whatever they held: every port is intercepted until it is opened",
          "[svm][rule 22]") {
    std::vector<std::uint64_t> words(io_permission_map::word_count + 1, 0x1234);
    const io_permission_map map{words.data()};
    for (std::size_t i = 0; i != io_permission_map::word_count; ++i) {
        REQUIRE(words[i] == 0xFFFF'FFFF'FFFF'FFFF);
    }
    REQUIRE(io_permission_map::word_count * 8 == 12 * 1024);
    REQUIRE(words.back() == 0x1234);
    REQUIRE(map.ports().exits(io_port{0}, width::byte));
}

TEST_CASE("an access that runs past port 0xFFFF is intercepted by the third page",
          "[svm][rule 22]") {
    std::vector<std::uint64_t> words(io_permission_map::word_count);
    const io_permission_map map{words.data()};
    auto ports = map.ports();
    REQUIRE(ports.open({io_port{0xFF00}, 0x100}));
    REQUIRE(ports.open({io_port{0}, 0x100}));
    for (const std::uint32_t port : {0xFFFCU, 0xFFFDU, 0xFFFEU, 0xFFFFU}) {
        for (const width size : {width::byte, width::word, width::dword}) {
            const bool past = port + pt::size_of(size) > 0x1'0000;
            CHECK(intercepted(words, port, pt::size_of(size)) == past);
            CHECK(ports.exits(io_port{static_cast<std::uint16_t>(port)}, size) == past);
        }
    }
}

TEST_CASE("what exits() says is what AMD's processor finds in the map, under owners too",
          "[svm][rule 22]") {
    std::vector<std::uint64_t> words(io_permission_map::word_count);
    const io_permission_map map{words.data()};
    pt::vmx::kept_ports slots[8];
    pt::vmx::shared_io_bitmap ports{map.ports(), slots, 8};
    auto random = [engine = std::mt19937{15}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong = 0;
    unsigned open = 0;
    for (int step = 0; step != 300; ++step) {
        const std::uint32_t seams[] = {0x7FF0, 0xFFE0, 0x1000};
        const auto first = static_cast<std::uint16_t>(seams[random() % 3] + random() % 16);
        const std::uint64_t size = 1 + random() % 16;
        const pt::vmx::port_owner owner{random() % 3};
        if (random() % 3 == 0 || !ports.open(owner, {io_port{first}, size})) {
            (void)ports.close_all(owner);
        }
        for (std::uint32_t port = first - 4U; port != first + 20U && port <= 0xFFFF; ++port) {
            for (const width wide : {width::byte, width::word, width::dword}) {
                const bool exits = ports.exits(io_port{static_cast<std::uint16_t>(port)}, wide);
                wrong += exits != intercepted(words, port, pt::size_of(wide));
                open += !exits;
            }
        }
    }
    REQUIRE(wrong == 0);
    REQUIRE(open > 1'000);
}

TEST_CASE("the configuration ports and those that the VMM names never open here either",
          "[svm][rule 22]") {
    constexpr auto check = [] {
        constexpr range<io_port> console[] = {{io_port{0x3F8}, 8}};
        std::uint64_t words[io_permission_map::word_count]{};
        auto ports = io_permission_map{words, console, 1}.ports();
        return ports.open({io_port{0x3F0}, 16}) == error{errc::refused, 0x3F8} &&
               ports.open({io_port{0xCF8}, 1}) == error{errc::refused, 0xCF8} &&
               ports.open({io_port{0x2F8}, 8}).has_value() &&
               !ports.exits(io_port{0x2F8}, width::dword) && words[0x2F8 / 64] != ~0ULL;
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
