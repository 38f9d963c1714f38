// SPDX-License-Identifier: BSL-1.0
// The isolation audit of ports: single rules, and random bitmaps against a port-by-port model.
#include "pt/assign/audit_ports.hpp"
#include "pt/svm/io_permission_map.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using namespace pt::assign;
using pt::io_port;
using pt::range;

struct record {
    finding found[8]{};
    std::size_t count = 0;
    audit_summary summary{};

    constexpr void operator()(const finding& f) { found[count++] = f; }
};

constexpr range<io_port> ports(std::uint16_t first, std::uint64_t count) {
    return {io_port{first}, count};
}
constexpr finding about(finding_kind kind, std::uint64_t first, std::uint64_t last,
                        std::uint64_t expected = 0) {
    return {.kind = kind, .guest = 1, .first = first, .last = last, .expected = expected};
}

/// Ports 0xC000..0xC01F open, as the guest owns them; 0xD000.. are forwarded to 0xE000.
constexpr owned_ports guest_ports[]{
    {.at = ports(0xC000, 0x20), .host = io_port{0xC000}},
    {.at = ports(0xD000, 8), .host = io_port{0xE000}, .way = port_way::forwarded}};

struct bitmap {
    std::uint64_t words[3 * 512]{};

    constexpr bitmap() {
        for (std::uint64_t& word : words) {
            word = ~std::uint64_t{0};
        }
    }
    constexpr void open(std::uint32_t first, std::uint32_t last) {
        for (std::uint32_t port = first; port <= last; ++port) {
            words[port / 64] &= ~(std::uint64_t{1} << port % 64);
        }
    }
    constexpr void close(std::uint32_t port) { words[port / 64] |= std::uint64_t{1} << port % 64; }
};

constexpr record audited(const bitmap& map, const ownership& owner) {
    record said;
    said.summary = audit_ports(map.words, map.words + 512, owner, said);
    return said;
}
constexpr ownership guest{.guest = 1, .ports = guest_ports};

constexpr bool right_bitmap() {
    bitmap map;
    map.open(0xC000, 0xC01F);
    return audited(map, guest).count == 0 && audited(bitmap{}, {.guest = 1}).summary.clean();
}
constexpr bool open_and_not_the_guests() {
    bitmap map;
    map.open(0xC000, 0xC01F);
    map.open(0x3F8, 0x3F8);
    map.open(0x7FFF, 0x8000); // the last port of A and the first of B: neighbours
    map.open(0xFFFF, 0xFFFF);
    const record said = audited(map, guest);
    return said.count == 3 && said.summary.findings == 3 &&
           said.found[0] == about(finding_kind::port_not_owned, 0x3F8, 0x3F8) &&
           said.found[1] == about(finding_kind::port_not_owned, 0x7FFF, 0x8000) &&
           said.found[2] == about(finding_kind::port_not_owned, 0xFFFF, 0xFFFF);
}
constexpr bool closed_or_not_forwarded() {
    bitmap map;
    map.open(0xC000, 0xC01F);
    map.close(0xC004);
    map.open(0xD002, 0xD003);
    const record said = audited(map, guest);
    return said.count == 2 && said.found[0] == about(finding_kind::port_closed, 0xC004, 0xC004) &&
           said.found[1] == about(finding_kind::port_not_forwarded, 0xD002, 0xD003, 0xE002);
}
constexpr bool configuration_ports() {
    constexpr owned_ports mine[]{{.at = ports(0xCF8, 8), .host = io_port{0xCF8}}};
    const ownership owner{.guest = 1, .ports = mine};
    bitmap map;
    map.open(0xCF7, 0xD00);
    const record said = audited(map, owner); // owned or not
    bitmap closed;
    closed.open(0xCF9, 0xCFB);
    const record partly = audited(closed, {.guest = 1});
    return said.count == 3 && said.found[0].kind == finding_kind::port_not_owned &&
           said.found[1] == about(finding_kind::config_port_open, 0xCF8, 0xCFF) &&
           said.found[2] == about(finding_kind::port_not_owned, 0xD00, 0xD00) &&
           partly.count == 1 &&
           partly.found[0] == about(finding_kind::config_port_open, 0xCF9, 0xCFB);
}
constexpr bool the_last_port() {
    constexpr owned_ports mine[]{{.at = ports(0xFFF0, 0x10), .host = io_port{0xFFF0}}};
    const ownership owner{.guest = 1, .ports = mine};
    bitmap map;
    map.open(0xFFF0, 0xFFFF);
    if (audited(map, owner).count != 0) {
        return false;
    }
    // SVM has bits for the ports behind, which an access of 4 bytes at 0xFFFF would touch.
    record said;
    audit_ports(map.words, owner, said);
    if (said.count != 0) {
        return false;
    }
    for (std::uint32_t beyond = 0x1'0000; beyond != 0x1'0004; ++beyond) {
        bitmap wrapped = map;
        wrapped.open(beyond, beyond);
        record found;
        found.summary = audit_ports(wrapped.words, owner, found);
        const bool touched = beyond < 0x1'0003;
        if (found.count != (touched ? 1U : 0U) || found.summary.findings != found.count ||
            (touched && found.found[0] != about(finding_kind::port_wrap_open, 0xFFFF, 0xFFFF))) {
            return false;
        }
    }
    return true;
}
constexpr bool lists() {
    constexpr owned_ports backwards[]{{.at = ports(0x200, 8)}, {.at = ports(0x100, 8)}};
    constexpr owned_ports empty[]{{.at = ports(0x10, 0)}};
    const record said = audited(bitmap{}, {.guest = 1, .ports = backwards});
    const record nothing = audited(bitmap{}, {.guest = 1, .ports = empty});
    return nothing.count == 1 && nothing.found[0].first == 0 && said.count == 1 &&
           said.found[0].kind == finding_kind::disordered_list &&
           said.found[0].what == owned_resource::ports && said.found[0].first == 1;
}
static_assert(right_bitmap());
static_assert(open_and_not_the_guests());
static_assert(closed_or_not_forwarded());
static_assert(configuration_ports());
static_assert(lists());

TEST_CASE("a bitmap that opens what the guest owns is clean", "[assign][audit]") {
    REQUIRE(right_bitmap());
}
TEST_CASE("a port that is open and not the guest's is found", "[assign][audit][rule 22]") {
    REQUIRE(open_and_not_the_guests());
}
TEST_CASE("the guest's ports are open or forwarded as they should be", "[assign][audit]") {
    REQUIRE(closed_or_not_forwarded());
    REQUIRE(lists());
}
TEST_CASE("no guest may have 0xCF8..0xCFF, owned or not", "[assign][audit][rule 22]") {
    REQUIRE(configuration_ports());
}
TEST_CASE("an access past port 0xFFFF exits, with SVM if its bits are set",
          "[assign][audit][rule 22]") {
    REQUIRE(the_last_port());
}

TEST_CASE("what pt's own bitmaps open for a guest is clean", "[assign][audit]") {
    std::vector<std::uint64_t> pages(pt::svm::io_permission_map::word_count);
    pt::svm::io_permission_map map{pages.data()};
    REQUIRE(map.ports().open(ports(0xC000, 0x20)));
    record said;
    audit_ports(pages.data(), guest, said);
    REQUIRE(said.count == 0);
    static_cast<void>(map.ports().close(ports(0xC010, 1)));
    audit_ports(pages.data(), guest, said);
    REQUIRE(said.count == 1);
}

TEST_CASE("random bitmaps are judged as port by port", "[assign][audit]") {
    std::mt19937_64 random{22};
    for (unsigned round = 0; round != 200; ++round) {
        std::vector<owned_ports> mine;
        std::uint64_t at = random() % 64;
        while (at < 0x1'0000 && mine.size() != 40) {
            const std::uint64_t size = std::min<std::uint64_t>(1 + random() % 300, 0x1'0000 - at);
            owned_ports next{.at = ports(static_cast<std::uint16_t>(at), size)};
            next.host = io_port{static_cast<std::uint16_t>(random() % 3 == 0 ? random() : at)};
            next.way =
                random() % 3 == 0 || next.host.raw != at ? port_way::forwarded : port_way::open;
            mine.push_back(next);
            at += size + random() % 2 * (random() % 3000);
        }
        bitmap map;
        for (const owned_ports& p : mine) {
            if (p.way == port_way::open) {
                map.open(p.at.first().raw, p.at.last().raw);
            }
        }
        // The configuration ports, where a range went over them, are left to the model.
        for (std::uint64_t n = random() % 6; n != 0; --n) {
            const auto first = static_cast<std::uint32_t>(random() % 0x1'0000);
            const auto last = std::min<std::uint32_t>(
                0xFFFF, first + static_cast<std::uint32_t>(random() % (n % 2 ? 3 : 500)));
            for (std::uint32_t p = first; p <= last; ++p) {
                random() % 4 == 0 ? map.close(p) : map.open(p, p);
            }
        }
        const ownership owner{.guest = 1, .ports = {mine.data(), mine.size()}};
        std::vector<finding_kind> said(0x1'0000, finding_kind::shared);
        std::vector<std::uint64_t> expected(0x1'0000);
        audit_ports(map.words, map.words + 512, owner, [&](const finding& found) {
            for (std::uint64_t p = found.first; p <= found.last; ++p) {
                REQUIRE(said[p] == finding_kind::shared); // once at most
                said[p] = found.kind;
                expected[p] = found.scattered ? 0 : found.expected + (p - found.first);
            }
        });
        for (std::uint32_t p = 0; p != 0x1'0000; ++p) {
            const bool is_open = (map.words[p / 64] >> p % 64 & 1) == 0;
            const auto owned = std::find_if(mine.begin(), mine.end(), [p](const owned_ports& o) {
                return p >= o.at.first().raw && p <= o.at.last().raw;
            });
            finding_kind right = finding_kind::shared; // nothing
            if (is_open && p >= 0xCF8 && p <= 0xCFF) {
                right = finding_kind::config_port_open;
            } else if (is_open && owned == mine.end()) {
                right = finding_kind::port_not_owned;
            } else if (is_open && owned->way == port_way::forwarded) {
                right = finding_kind::port_not_forwarded;
            } else if (!is_open && owned != mine.end() && owned->way == port_way::open) {
                right = finding_kind::port_closed;
            }
            if (said[p] != right) {
                FAIL("port " << p << ": " << name(said[p]) << " instead of " << name(right));
            }
            if (right == finding_kind::port_not_forwarded && expected[p] != 0) {
                REQUIRE(expected[p] == owned->host.raw + (p - owned->at.first().raw));
            }
        }
    }
}

} // namespace
