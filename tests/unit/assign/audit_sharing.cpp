// SPDX-License-Identifier: BSL-1.0
// What two guests may not have in common: each resource once, and random claims against a model that
// colours every number.
#include "pt/assign/audit_sharing.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace {

using namespace pt::assign;
using pt::errc;
using pt::gpa;
using pt::hpa;
using pt::io_port;
using pt::vtd::translation;

struct record {
    finding found[8]{};
    std::size_t count = 0;

    constexpr void operator()(const finding& f) { found[count++] = f; }
};

constexpr record audited(list_of<ownership> guests) {
    claimed_numbers room[16]{};
    record said;
    const auto done = audit_sharing(guests, room, 16, said);
    pt::expects(done && done->findings == said.count, "the summary counts otherwise");
    return said;
}
constexpr bool only(const record& said, owned_resource what, std::uint64_t first,
                    std::uint64_t last) {
    return said.count == 1 && said.found[0] == finding{.kind = finding_kind::shared,
                                                       .what = what,
                                                       .guest = 1,
                                                       .other = 2,
                                                       .first = first,
                                                       .last = last};
}

constexpr pt::vtd::second_stage::format four_levels{{.levels = 4}};

constexpr bool each_resource() {
    // Guest-physical addresses are each guest's own; the second page of the first is shared.
    constexpr owned_pages pages_1[]{{.at = {gpa{0}, 0x3000}, .host = hpa{0x10'0000}},
                                    {.at = {gpa{0x9000}, 0x1000}, .use = page_use::local_apic}};
    constexpr owned_pages pages_2[]{{.at = {gpa{0}, 0x1000}, .host = hpa{0x10'1000}},
                                    {.at = {gpa{0x9000}, 0x1000}, .use = page_use::local_apic}};
    // The same host port, forwarded by one of them.
    constexpr owned_ports ports_1[]{{.at = {io_port{0xC000}, 8}, .host = io_port{0xC000}}};
    constexpr owned_ports ports_2[]{
        {.at = {io_port{0xD000}, 8}, .host = io_port{0xC007}, .way = port_way::forwarded}};
    constexpr owned_function functions_1[]{{.address = {0, 0, 5, 0}}};
    constexpr owned_function functions_2[]{{.address = {0, 0, 5, 0}, .unit = 1}};
    constexpr owned_function segment_1[]{{.address = {1, 0, 5, 0}}};
    constexpr owned_domain domains_1[]{
        {.through = translation::second_stage(hpa{0x5000}, four_levels, 4)}};
    constexpr owned_domain domains_2[]{
        {.through = translation::second_stage(hpa{0x6000}, four_levels, 4)}};
    constexpr owned_domain other_unit[]{
        {.unit = 1, .through = translation::second_stage(hpa{0x6000}, four_levels, 4)}};
    constexpr owned_domain same_root[]{
        {.through = translation::second_stage(hpa{0x5000}, four_levels, 6)}};
    // Another device plays in each guest, at no place of the host; units number their own.
    constexpr owned_pages played[]{{.at = {gpa{0}, 0x1000}, .use = page_use::emulated}};
    constexpr owned_domain high_id[]{
        {.through = translation::second_stage(hpa{0x7000}, four_levels, 0x8004)}};
    constexpr owned_vector vectors_1[]{{.entry = {3}, .to = {.vector = 0x41, .destination_id = 1}}};
    constexpr owned_vector vectors_2[]{{.entry = {3}, .to = {.vector = 0x41, .destination_id = 2}}};
    constexpr owned_vector vectors_of_unit_1[]{
        {.entry = {3}, .unit = 1, .to = {.vector = 0x41, .destination_id = 2}}};
    constexpr owned_vector same_vector[]{
        {.entry = {4}, .to = {.vector = 0x41, .destination_id = 1}}};
    constexpr owned_vector posted_1[]{{.entry = {5}, .descriptor = hpa{0x8000}}};
    constexpr owned_vector posted_2[]{{.entry = {6}, .descriptor = hpa{0x8000}}};
    const auto pair = [](ownership a, ownership b) {
        a.guest = 1;
        b.guest = 2;
        const ownership both[]{a, b};
        return audited(both);
    };
    return only(pair({.pages = pages_1}, {.pages = pages_2}), owned_resource::pages, 0x10'1000,
                0x10'1FFF) &&
           only(pair({.ports = ports_1}, {.ports = ports_2}), owned_resource::ports, 0xC007,
                0xC007) &&
           only(pair({.functions = functions_1}, {.functions = functions_2}),
                owned_resource::functions, 0x28, 0x28) &&
           pair({.functions = functions_1}, {.functions = segment_1}).count == 0 &&
           only(pair({.domains = domains_1}, {.domains = domains_2}), owned_resource::domain_ids, 4,
                4) &&
           pair({.domains = domains_1}, {.domains = other_unit}).count == 0 &&
           pair({.domains = high_id}, {.domains = other_unit}).count == 0 &&
           pair({.pages = played}, {.pages = played}).count == 0 &&
           pair({.vectors = vectors_1}, {.vectors = vectors_of_unit_1}).count == 0 &&
           only(pair({.domains = domains_1}, {.domains = same_root}), owned_resource::table_roots,
                0x5000, 0x5000) &&
           only(pair({.vectors = vectors_1}, {.vectors = vectors_2}),
                owned_resource::interrupt_entry, 3, 3) &&
           only(pair({.vectors = vectors_1}, {.vectors = same_vector}), owned_resource::host_vector,
                0x141, 0x141) &&
           only(pair({.vectors = posted_1}, {.vectors = posted_2}), owned_resource::descriptors,
                0x8000, 0x803F) &&
           // A guest may have two gpa for one page of its own.
           pair({.pages = pages_1}, {.guest = 2}).count == 0;
}
constexpr bool room() {
    constexpr owned_ports ports[]{{}, {}, {}, {}, {}}; // g++ 12 reads no element of ports[5]{}
    constexpr owned_function functions[2]{};
    const ownership guests[]{{.guest = 1, .ports = ports}, {.guest = 2, .functions = functions}};
    claimed_numbers few[4]{};
    const auto ignore = [](const finding&) {};
    const auto refused = audit_sharing(guests, few, 4, ignore);
    claimed_numbers enough[5]{};
    return room_for_sharing(guests) == 5 && !refused &&
           refused.error() == pt::error{errc::out_of_range, 5} &&
           audit_sharing(guests, enough, 5, ignore).has_value() && room_for_sharing({}) == 0 &&
           audit_sharing({}, nullptr, 0, ignore).has_value();
}
static_assert(each_resource() && room());

TEST_CASE("what two guests share is found, whatever it is", "[assign][audit]") {
    REQUIRE(each_resource());
}
TEST_CASE("sharing needs room for the numbers that are most", "[assign][audit]") {
    REQUIRE(room());
}

TEST_CASE("random claims: exactly the numbers of two owners are found", "[assign][audit]") {
    std::mt19937_64 random{3};
    for (unsigned round = 0; round != 3000; ++round) {
        const std::size_t guests = 1 + random() % 4;
        std::vector<std::vector<owned_pages>> pages(guests);
        std::map<std::uint64_t, std::set<std::size_t>> colours;
        for (std::size_t g = 0; g != guests; ++g) {
            for (std::uint64_t n = random() % 6; n != 0; --n) {
                const std::uint64_t host = random() % 60;
                const std::uint64_t size = 1 + random() % (random() % 3 == 0 ? 40 : 4);
                pages[g].push_back({.at = {gpa{0x1000 * n}, size}, .host = hpa{host}});
                for (std::uint64_t p = host; p != host + size; ++p) {
                    colours[p].insert(g);
                }
            }
        }
        std::vector<ownership> owners;
        for (std::size_t g = 0; g != guests; ++g) {
            owners.push_back({.guest = static_cast<std::uint16_t>(g),
                              .pages = {pages[g].data(), pages[g].size()}});
        }
        std::vector<claimed_numbers> numbers(room_for_sharing({owners.data(), guests}));
        std::set<std::uint64_t> said;
        std::size_t findings = 0;
        REQUIRE(audit_sharing({owners.data(), guests}, numbers.data(), numbers.size(),
                              [&](const finding& found) {
                                  ++findings;
                                  REQUIRE(found.guest < found.other);
                                  for (std::uint64_t p = found.first; p <= found.last; ++p) {
                                      REQUIRE(colours[p].count(found.guest) != 0);
                                      REQUIRE(colours[p].count(found.other) != 0);
                                      said.insert(p);
                                  }
                              }));
        std::set<std::uint64_t> right;
        for (const auto& [page, of] : colours) {
            if (of.size() > 1) {
                right.insert(page);
            }
        }
        REQUIRE(said == right);
        REQUIRE(findings <= numbers.size());
    }
}

} // namespace
