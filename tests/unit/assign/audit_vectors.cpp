// SPDX-License-Identifier: BSL-1.0
// The isolation audit of interrupt remapping tables: single rules on entries written down bit by bit
// [vt-d, "Interrupt Remapping Table Entry for Remapped Interrupts"], and random tables against a
// model that asks of each entry, by its bits, which function could use it.
#include "pt/assign/audit_vectors.hpp"
#include "pt/assign/audit_confinement.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <vector>

namespace {

using namespace pt::assign;
using pt::hpa;
using pt::vtd::interrupt_requester;

struct record {
    finding found[8]{};
    std::size_t count = 0;
    audit_summary summary{};

    constexpr void operator()(const finding& f) { found[count++] = f; }
};

constexpr std::uint16_t nic = 0x0028;   // 00:05.0
constexpr std::uint16_t other = 0x0030; // 00:06.0

/// Bits 63:0 of a present entry in xAPIC mode: fixed, edge, physical.
constexpr std::uint64_t entry_low(std::uint8_t vector, std::uint64_t apic_id) {
    return 1 | std::uint64_t{vector} << 16 | apic_id << 40;
}
constexpr std::uint64_t exactly = std::uint64_t{1} << 18; // SVT 01b, SQ 00b

constexpr owned_function functions[]{{.address = {0, 0, 5, 0}}};
constexpr owned_vector vectors[]{{.entry = {3},
                                  .from = interrupt_requester::exactly(nic),
                                  .to = {.vector = 0x41, .destination_id = 2}}};
constexpr ownership guest{.guest = 1, .functions = functions, .vectors = vectors};

struct table {
    std::uint64_t words[16]{}; // 8 entries
    constexpr table() { set(3, entry_low(0x41, 2), exactly | nic); }
    constexpr void set(unsigned i, std::uint64_t low, std::uint64_t high) {
        words[2 * i] = low;
        words[2 * i + 1] = high;
    }
};
constexpr record audited(const table& t, const ownership& owner = guest, std::uint16_t unit = 0) {
    record said;
    said.summary = audit_vectors({.words = t.words, .count = 8, .unit = unit}, owner, said);
    return said;
}

constexpr bool right_entries() {
    table t;
    t.set(4, entry_low(0x55, 0), exactly | other);                   // another guest's
    t.set(5, entry_low(0x56, 0) & ~std::uint64_t{1}, exactly | nic); // not present
    t.set(6, 1 << 15, exactly | other);                              // another guest's, posted
    const record said = audited(t);
    return said.count == 0 && said.summary == audit_summary{0, 1, 8};
}
constexpr bool an_entry_too_many() {
    table t;
    t.set(5, entry_low(0x42, 1), exactly | nic);
    const record said = audited(t);
    return said.count == 1 &&
           said.found[0] == finding{.kind = finding_kind::vector_not_owned,
                                    .guest = 1,
                                    .first = 5,
                                    .last = 5,
                                    .function = {0, 0, 5, 0},
                                    .to = {0x42, 1, pt::vtd::interrupt_delivery::fixed}};
}
constexpr bool sources_that_reach_the_function() {
    // SQ 11b: all functions of 00:05; SVT 10b: buses 0 to 1; SVT 00b: anybody; SVT 11b is reserved.
    table all_functions;
    all_functions.set(0, entry_low(0x42, 1), exactly | 3 << 16 | (nic | 6));
    table one_bit;
    one_bit.set(0, entry_low(0x42, 1), exactly | 1 << 16 | (nic | 2)); // ignores bit 2 alone
    table buses;
    buses.set(0, entry_low(0x42, 1), std::uint64_t{2} << 18 | 0x0001);
    table other_buses;
    other_buses.set(0, entry_low(0x42, 1), std::uint64_t{2} << 18 | 0x0102);
    table anybody;
    anybody.set(0, entry_low(0x42, 1), other);
    table reserved;
    reserved.set(0, entry_low(0x42, 1), std::uint64_t{3} << 18 | nic);
    return audited(all_functions).found[0].kind == finding_kind::vector_not_owned &&
           audited(all_functions).count == 1 && audited(one_bit).count == 0 &&
           audited(buses).count == 1 && audited(other_buses).count == 0 &&
           audited(anybody).count == 1 &&
           audited(anybody).found[0].kind == finding_kind::vector_any_source &&
           audited(reserved).count == 0;
}
constexpr bool an_owned_entry_that_is_wrong() {
    table absent;
    absent.words[6] &= ~std::uint64_t{1};
    table elsewhere;
    elsewhere.set(3, entry_low(0x41, 3), exactly | nic);
    table nmi;
    nmi.set(3, (entry_low(0x41, 2) & ~std::uint64_t{0xFF0000}) | 4 << 5, exactly | nic);
    table level;
    level.set(3, entry_low(0x41, 2) | 1 << 4, exactly | nic);
    table quiet; // FPD concerns fault records alone
    quiet.set(3, entry_low(0x41, 2) | 2, exactly | nic);
    table reserved_bit;
    reserved_bit.set(3, entry_low(0x41, 2) | std::uint64_t{1} << 32, exactly | nic);
    table anybody;
    anybody.set(3, entry_low(0x41, 2), nic);
    table somebody_else;
    somebody_else.set(3, entry_low(0x41, 2), exactly | other);
    table posted;
    posted.set(3, 1 | 1 << 15 | 0x41 << 16, exactly | nic);
    const record nmis = audited(nmi);
    const record wrong = audited(somebody_else);
    return audited(absent).count == 1 &&
           audited(absent).found[0].kind == finding_kind::vector_missing &&
           audited(elsewhere).count == 1 &&
           audited(elsewhere).found[0].kind == finding_kind::vector_elsewhere &&
           audited(elsewhere).found[0].to.destination_id == 3 &&
           audited(elsewhere).found[0].expected_to.destination_id == 2 && nmis.count == 1 &&
           nmis.found[0].kind == finding_kind::vector_elsewhere &&
           nmis.found[0].to.delivery_mode == pt::vtd::interrupt_delivery::nmi &&
           audited(level).count == 1 && audited(quiet).count == 0 &&
           audited(reserved_bit).count == 1 &&
           audited(reserved_bit).found[0].kind == finding_kind::vector_malformed &&
           audited(anybody).count == 1 &&
           audited(anybody).found[0].kind == finding_kind::vector_any_source && wrong.count == 1 &&
           wrong.found[0].kind == finding_kind::vector_wrong_source &&
           wrong.found[0].found == other && wrong.found[0].expected == nic &&
           audited(posted).count == 1 &&
           audited(posted).found[0].kind == finding_kind::vector_posted;
}
constexpr bool posted_entries() {
    constexpr owned_vector mine[]{{.entry = {3},
                                   .from = interrupt_requester::exactly(nic),
                                   .to = {.vector = 0x31},
                                   .descriptor = hpa{0x1'2345'6040}}};
    const ownership owner{.guest = 1, .functions = functions, .vectors = mine};
    // PDA-L: bits 31:6 of the descriptor in 63:38; PDA-H: bits 63:32 in 127:96.
    constexpr std::uint64_t low = 1 | 1 << 15 | 0x31 << 16 | std::uint64_t{0x2345'6040 >> 6} << 38;
    constexpr std::uint64_t high = exactly | nic | std::uint64_t{1} << 32;
    table right;
    right.set(3, low, high);
    table other_descriptor;
    other_descriptor.set(3, low, high + (std::uint64_t{1} << 32));
    table other_vector;
    other_vector.set(3, low ^ 1 << 16, high);
    table not_owned;
    not_owned.set(3, low, high);
    not_owned.set(7, low, high);
    const record stray = audited(not_owned, owner);
    return audited(right, owner).count == 0 && audited(other_descriptor, owner).count == 1 &&
           audited(other_descriptor, owner).found[0].kind == finding_kind::vector_posted &&
           audited(other_descriptor, owner).found[0].host == 0x2'2345'6040 &&
           audited(other_vector, owner).count == 1 &&
           audited(other_vector, owner).found[0].kind == finding_kind::vector_elsewhere &&
           audited(table{}, owner).count == 1 && // a remapped one where a posted one should be
           audited(table{}, owner).found[0].kind == finding_kind::vector_elsewhere &&
           stray.count == 1 && stray.found[0].kind == finding_kind::vector_posted &&
           stray.found[0].first == 7;
}
constexpr bool units_and_ends() {
    constexpr owned_function two[]{{.address = {0, 0, 5, 0}}, {.address = {0, 0, 6, 0}, .unit = 1}};
    constexpr owned_vector mine[]{{.entry = {3},
                                   .from = interrupt_requester::exactly(nic),
                                   .to = {.vector = 0x41, .destination_id = 2}},
                                  {.entry = {9},
                                   .unit = 1,
                                   .from = interrupt_requester::exactly(other),
                                   .to = {.vector = 0x51}}};
    const ownership owner{.guest = 1, .functions = two, .vectors = mine};
    table t;
    const record first = audited(t, owner);
    const record second = audited(t, owner, 1); // entry 9 is beyond the table
    constexpr owned_vector backwards[]{{.entry = {4}}, {.entry = {4}}};
    const record disorder = audited(t, {.guest = 1, .vectors = backwards});
    return first.count == 0 && second.count == 1 &&
           second.found[0].kind == finding_kind::vector_missing && second.found[0].first == 9 &&
           second.found[0].unit == 1 && disorder.count == 1 &&
           disorder.found[0].kind == finding_kind::disordered_list;
}
static_assert(right_entries() && an_entry_too_many() && sources_that_reach_the_function());
static_assert(an_owned_entry_that_is_wrong() && posted_entries() && units_and_ends());

TEST_CASE("entries as the guest owns them, and those of others, are clean", "[assign][audit]") {
    REQUIRE(right_entries());
}
TEST_CASE("an entry that a function of the guest can use, and that is not its, is found",
          "[assign][audit]") {
    REQUIRE(an_entry_too_many());
    REQUIRE(sources_that_reach_the_function());
}
TEST_CASE("an entry of the guest that is absent, or otherwise, is found", "[assign][audit]") {
    REQUIRE(an_owned_entry_that_is_wrong());
    REQUIRE(posted_entries());
}
// [vt-d, IRTA_REG]: the table in 63:12, EIME in 11, and 2^(S + 1) entries for S in 3:0.
constexpr bool a_table_as_the_register_names_it() {
    using address = pt::vtd::interrupt_remapping_table_address;
    constexpr std::uint64_t words[2]{};
    const auto small = interrupt_entries::of(address{0x1234'5000}, words);
    const auto large = interrupt_entries::of(address{0x1234'580F}, words, 3);
    return small.words == words && small.count == 2 && small.mode == pt::vtd::apic_mode::xapic &&
           small.unit == 0 && large.count == 65536 && large.mode == pt::vtd::apic_mode::x2apic &&
           large.unit == 3;
}
static_assert(a_table_as_the_register_names_it());
TEST_CASE("an interrupt remapping table is as long as IRTA says", "[assign][audit]") {
    REQUIRE(a_table_as_the_register_names_it());
}
TEST_CASE("entries are those of one unit", "[assign][audit]") { REQUIRE(units_and_ends()); }

constexpr bool what_no_table_shows() {
    record said;
    audit_confinement(guest, said);
    ownership open = guest;
    open.dma_isolated = false;
    open.interrupts_isolated = false;
    audit_confinement(open, said);
    open.functions = {};
    audit_confinement(open, said); // no function, no harm
    return said.count == 2 && said.found[0].kind == finding_kind::dma_not_isolated &&
           said.found[1].kind == finding_kind::interrupts_not_isolated;
}
static_assert(what_no_table_shows());
TEST_CASE("functions that no unit stands in front of are said", "[assign][audit]") {
    REQUIRE(what_no_table_shows());
}

/// Whether a unit lets `source_id` use the entry, by the bits of the manual.
bool can_use(std::uint64_t low, std::uint64_t high, std::uint16_t source_id) {
    const bool posted = (low >> 15 & 1) != 0;
    const std::uint64_t reserved_low = posted ? 0x0000'003F'FF00'30FC : 0xFFFF'00FF'FF00'7000;
    const std::uint64_t reserved_high = posted ? 0x0000'0000'FFF0'0000 : 0xFFFF'FFFF'FFF0'0000;
    const auto delivery = low >> 5 & 7;
    if ((low & 1) == 0 || (low & reserved_low) != 0 || (high & reserved_high) != 0 ||
        (!posted && (delivery == 3 || delivery == 6))) {
        return false;
    }
    const auto id = static_cast<std::uint16_t>(high);
    switch (high >> 18 & 3) {
    case 0: return true;
    case 1: {
        constexpr unsigned compared[] = {0xFFFF, 0xFFFB, 0xFFF9, 0xFFF8};
        return ((id ^ source_id) & compared[high >> 16 & 3]) == 0;
    }
    case 2: return (id >> 8) <= (source_id >> 8) && (source_id >> 8) <= (id & 0xFF);
    default: return false;
    }
}

TEST_CASE("random tables: every entry that a function of the guest can use is its own",
          "[assign][audit]") {
    std::mt19937_64 random{18};
    std::size_t strays = 0;
    for (unsigned round = 0; round != 3000; ++round) {
        std::set<std::uint16_t> mine;
        for (std::uint64_t n = random() % 4; n != 0; --n) {
            mine.insert(static_cast<std::uint16_t>((random() % 3 << 8) | random() % 16));
        }
        std::vector<owned_function> list;
        list.reserve(mine.size());
        for (const std::uint16_t id : mine) {
            list.push_back({.address = pt::pci::function_address::from_source_id(id)});
        }
        std::vector<std::uint64_t> words;
        std::vector<owned_vector> owned;
        for (std::uint16_t i = 0; i != 32; ++i) {
            const std::uint64_t id = (random() % 3 << 8) | random() % 16;
            std::uint64_t low =
                entry_low(static_cast<std::uint8_t>(16 + random() % 200), random() % 4);
            std::uint64_t high = exactly | id;
            if (!mine.empty() && random() % 4 == 0) {
                owned.push_back(
                    {.entry = {i},
                     .from = interrupt_requester::exactly(static_cast<std::uint16_t>(id)),
                     .to = {.vector = static_cast<std::uint8_t>(low >> 16),
                            .destination_id = static_cast<std::uint32_t>(low >> 40)}});
            } else {
                high = (random() % 4 << 18) | (random() % 4 << 16) |
                       (random() % 2 ? id : (random() % 3 << 8) | random() % 3);
                low ^= random() % 4 == 0 ? std::uint64_t{1} << random() % 64 : 0;
                high ^= random() % 8 == 0 ? std::uint64_t{1} << random() % 64 : 0;
            }
            words.push_back(low);
            words.push_back(high);
        }
        const ownership owner{.guest = 1,
                              .functions = {list.data(), list.size()},
                              .vectors = {owned.data(), owned.size()}};
        std::set<std::uint64_t> said;
        audit_vectors({.words = words.data(), .count = 32}, owner, [&](const finding& found) {
            REQUIRE((found.kind == finding_kind::vector_not_owned ||
                     found.kind == finding_kind::vector_any_source ||
                     found.kind == finding_kind::vector_posted));
            for (std::uint64_t i = found.first; i <= found.last; ++i) {
                REQUIRE(said.insert(i).second);
            }
        });
        std::set<std::uint64_t> right;
        for (std::uint16_t i = 0; i != 32; ++i) {
            bool is_owned = false;
            for (const owned_vector& v : owned) {
                is_owned = is_owned || v.entry.raw == i;
            }
            for (const std::uint16_t id : mine) {
                if (!is_owned &&
                    can_use(words[2 * std::size_t{i}], words[2 * std::size_t{i} + 1], id)) {
                    right.insert(i);
                }
            }
        }
        REQUIRE(said == right);
        strays += right.size();
    }
    REQUIRE(strays > 5000);
}

} // namespace
