// SPDX-License-Identifier: BSL-1.0
// The isolation audit of root, context and PASID tables: single rules on entries written down bit by
// bit [vt-d, "Context Entry", "Scalable-Mode PASID Table Entry"], random tables against a model that
// looks each function up by its bits, and tables that pt itself made.
#include "pt/assign/audit_functions.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <vector>

namespace {

using namespace pt::assign;
using pt::hpa;
using pt::range;
using pt::vtd::translation;

constexpr std::uint64_t base = 0x7000'0000; // frame 0: the root table
constexpr std::uint64_t frame(std::uint64_t i) { return base + i * 4096; }
constexpr std::uint64_t ours = 0x1234'5000; // roots of second-stage tables
constexpr std::uint64_t theirs = 0x2345'6000;

struct record {
    finding found[8]{};
    std::size_t count = 0;
    audit_summary summary{};

    constexpr void operator()(const finding& f) { found[count++] = f; }
};

/// A handful of frames.
struct memory {
    std::uint64_t words[8 * 512]{};

    constexpr void set(std::size_t in, std::size_t at, std::uint64_t a, std::uint64_t b) {
        words[in * 512 + at] = a;
        words[in * 512 + at + 1] = b;
    }
};
constexpr range<hpa> frames{hpa{base}, 8 * 4096};

constexpr pt::vtd::second_stage::format four_levels{{.levels = 4}};
constexpr owned_domain domains[]{{.through = translation::second_stage(hpa{ours}, four_levels, 5)}};
constexpr owned_function functions[]{{.address = {0, 1, 2, 3}}, {.address = {0, 1, 31, 7}}};
constexpr ownership guest{.guest = 1, .functions = functions, .domains = domains};
constexpr std::uint64_t first_id = 0x113;
constexpr std::uint64_t last_id = 0x1FF;

constexpr record audited(const memory& of, const ownership& owner, std::uint64_t address,
                         std::uint16_t unit = 0) {
    std::uint64_t bits[1]{};
    record said;
    said.summary = audit_functions({.address = pt::vtd::root_table_address{address}, .unit = unit},
                                   pt::paging::image_reader{frames, of.words},
                                   pt::paging::frame_bitmap{frames, bits}, owner, said);
    return said;
}
constexpr std::uint64_t legacy = base;
constexpr std::uint64_t scalable = base | 1 << 10; // TTM 01b

// ---- legacy mode --------------------------------------------------------------------------------

/// Bits 127:64 of a context entry: DID, and AW, which is levels minus two.
constexpr std::uint64_t context_high(std::uint64_t domain_id, std::uint64_t levels) {
    return domain_id << 8 | (levels - 2);
}
constexpr memory right_legacy() {
    memory m;
    m.set(0, 2 * 1, frame(1) | 1, 0); // bus 1
    m.set(1, 2 * 0x13, ours | 1, context_high(5, 4));
    m.set(1, 2 * 0xFF, ours | 1, context_high(5, 4));
    m.set(1, 2 * 0x20, theirs | 1, context_high(6, 3)); // somebody else's
    return m;
}
constexpr bool only(const record& said, finding_kind kind, std::uint64_t id) {
    return said.count == 1 && said.summary.findings == 1 && said.found[0].kind == kind &&
           said.found[0].first == id && said.found[0].last == id && said.found[0].guest == 1;
}
constexpr record with_entry(std::uint64_t low, std::uint64_t high, std::size_t at = 0x13) {
    memory m = right_legacy();
    m.set(1, 2 * at, low, high);
    return audited(m, guest, legacy);
}

constexpr bool right_tables() {
    const record said = audited(right_legacy(), guest, legacy);
    return said.count == 0 && said.summary == audit_summary{0, 2, 3};
}
constexpr bool owned_functions_that_are_wrong() {
    const record levels = with_entry(ours | 1, context_high(5, 3));
    const record domain = with_entry(ours | 1, context_high(6, 4));
    const record elsewhere = with_entry(theirs | 1, context_high(5, 4));
    return only(with_entry(ours, context_high(5, 4)), finding_kind::function_missing, first_id) &&
           only(with_entry(1 | 2 << 2, context_high(5, 4)), finding_kind::function_pass_through,
                first_id) &&
           only(with_entry(ours | 1 | 1 << 2, context_high(5, 4)),
                finding_kind::function_device_tlb, first_id) &&
           only(with_entry(ours | 1 | 3 << 2, context_high(5, 4)), finding_kind::function_malformed,
                first_id) &&
           only(elsewhere, finding_kind::function_elsewhere, first_id) &&
           elsewhere.found[0].host == theirs && elsewhere.found[0].expected == ours &&
           only(levels, finding_kind::function_wrong_levels, first_id) &&
           levels.found[0].found == 3 && levels.found[0].expected == 4 &&
           only(domain, finding_kind::function_wrong_domain, first_id) &&
           domain.found[0].found == 6 && domain.found[0].expected == 5 &&
           domain.found[0].function == pt::pci::function_address{0, 1, 2, 3};
}
constexpr bool strangers() {
    return only(with_entry(ours | 1, context_high(9, 4), 0x20), finding_kind::function_not_owned,
                0x120) &&
           only(with_entry(theirs | 1, context_high(5, 4), 0x20), finding_kind::domain_id_shared,
                0x120) &&
           only(with_entry(1 | 2 << 2, context_high(5, 4), 0x20), finding_kind::domain_id_shared,
                0x120) &&
           with_entry(1 | 2 << 2, context_high(7, 4), 0x20).count == 0 &&      // the host's own
           with_entry(ours | 1 | 3 << 2, context_high(5, 4), 0x20).count == 0; // and blocked
}
constexpr bool a_device_tlb_that_is_trusted() {
    constexpr owned_function trusted[]{{.address = {0, 1, 2, 3}, .device_tlb = true},
                                       {.address = {0, 1, 31, 7}}};
    ownership owner = guest;
    owner.functions = trusted;
    memory m = right_legacy();
    m.set(1, 2 * 0x13, ours | 1 | 1 << 2, context_high(5, 4));
    return audited(m, owner, legacy).count == 0;
}
constexpr bool tables_that_cannot_be_read() {
    memory outside = right_legacy();
    outside.set(0, 2 * 1, 0x5000'0001, 0);
    const record lost = audited(outside, guest, legacy);
    memory looped = right_legacy();
    looped.set(0, 2 * 9, frame(0) | 1, 0);
    const record loop = audited(looped, guest, legacy);
    memory nothing;
    const record blocked = audited(nothing, guest, legacy);
    const record abort = audited(right_legacy(), guest, legacy | 3 << 10);
    const record reserved = audited(right_legacy(), guest, legacy | 2 << 10);
    return lost.count == 1 &&
           lost.found[0] == finding{.kind = finding_kind::function_unreadable,
                                    .guest = 1,
                                    .first = 0x100,
                                    .last = 0x1FF,
                                    .host = 0x5000'0000,
                                    .tables = pt::paging::finding_kind::outside,
                                    .function = {0, 1, 0, 0}} &&
           loop.count == 1 && loop.found[0].first == 0x900 &&
           loop.found[0].tables == pt::paging::finding_kind::used_twice && blocked.count == 2 &&
           blocked.found[0].kind == finding_kind::function_missing &&
           blocked.found[1].kind == finding_kind::function_missing &&
           blocked.found[1].first == last_id && abort.count == 2 &&
           abort.found[0].kind == finding_kind::function_missing && reserved.count == 1 &&
           reserved.found[0].kind == finding_kind::function_unreadable &&
           reserved.found[0].last == 0xFFFF;
}
static_assert(right_tables() && owned_functions_that_are_wrong() && strangers());
static_assert(a_device_tlb_that_is_trusted() && tables_that_cannot_be_read());

TEST_CASE("functions that are put through the guest's tables are clean", "[assign][audit]") {
    REQUIRE(right_tables());
    REQUIRE(a_device_tlb_that_is_trusted());
}
TEST_CASE("a function of the guest that is put through anything else is found",
          "[assign][audit][rule 17]") {
    REQUIRE(owned_functions_that_are_wrong());
}
TEST_CASE("no other function has the guest's tables or its domain id", "[assign][audit]") {
    REQUIRE(strangers());
}
TEST_CASE("what cannot be read is said of all functions that it decides about", "[assign][audit]") {
    REQUIRE(tables_that_cannot_be_read());
}

// ---- scalable mode ------------------------------------------------------------------------------

constexpr std::uint64_t pasid_low(std::uint64_t root, std::uint64_t type, std::uint64_t levels) {
    return root | (levels - 2) << 2 | type << 6 | 1;
}
/// Function 01:02.3 with its own directory (frame 2) and table (frame 3) of PASIDs.
constexpr memory right_scalable() {
    memory m;
    m.set(0, 2 * 1, frame(1) | 1, 0);             // bus 1, devices 0 to 15
    m.set(1, 4 * 0x13, frame(2) | 2 << 9 | 1, 0); // 512 entries, RID_PASID 0
    m.set(2, 0, frame(3) | 1, 0);                 // PASIDs 0 to 63
    m.set(3, 0, pasid_low(ours, 2, 4), 5);        // second stage
    return m;
}
constexpr owned_function one_function[]{{.address = {0, 1, 2, 3}}};
constexpr ownership scalable_guest{.guest = 1, .functions = one_function, .domains = domains};

constexpr bool right_scalable_tables() {
    memory upper = right_scalable();
    upper.set(0, 2 * 1, 0, frame(1) | 1); // devices 16 to 31: 01:12.3
    constexpr owned_function other[]{{.address = {0, 1, 0x12, 3}}};
    ownership owner = scalable_guest;
    owner.functions = other;
    const record said = audited(right_scalable(), scalable_guest, scalable);
    return said.count == 0 && said.summary == audit_summary{0, 4, 1} &&
           audited(upper, owner, scalable).count == 0;
}
constexpr record with_pasid(std::size_t pasid, std::uint64_t low, std::uint64_t middle,
                            std::uint64_t context = 0, std::uint64_t third = 0) {
    memory m = right_scalable();
    m.words[1 * 512 + 4 * 0x13] |= context;
    m.set(3, 8 * pasid, low, middle);
    m.words[3 * 512 + 8 * pasid + 2] = third;
    return audited(m, scalable_guest, scalable);
}
constexpr bool pasids() {
    constexpr std::uint64_t enabled = 1 << 3;
    const record other = with_pasid(7, pasid_low(theirs, 2, 4), 5, enabled);
    return with_pasid(7, pasid_low(theirs, 2, 4), 5).count == 0 && // requests cannot bring it
           with_pasid(7, pasid_low(ours, 2, 4), 5, enabled).count == 0 &&
           // A first stage of the guest's own, above its second stage.
           with_pasid(7, pasid_low(ours, 3, 4), 5, enabled, 0x9000).count == 0 &&
           only(other, finding_kind::function_elsewhere, first_id) && other.found[0].pasid == 7 &&
           // A first stage alone leads to host memory.
           only(with_pasid(7, pasid_low(ours, 1, 4), 5, enabled, 0x9000),
                finding_kind::function_elsewhere, first_id) &&
           only(with_pasid(7, pasid_low(0, 4, 4), 5, enabled), finding_kind::function_pass_through,
                first_id) &&
           only(with_pasid(7, pasid_low(ours, 5, 4), 5, enabled), finding_kind::function_malformed,
                first_id) &&
           only(with_pasid(0, pasid_low(ours, 2, 5), 5), finding_kind::function_wrong_levels,
                first_id) &&
           only(with_pasid(0, 0, 0), finding_kind::function_missing, first_id) &&
           only(with_pasid(0, pasid_low(ours, 2, 4), 5, 1 << 2), finding_kind::function_device_tlb,
                first_id);
}
constexpr bool scalable_tables_that_cannot_be_read() {
    memory m = right_scalable();
    m.words[2 * 512 + 100] = frame(3) | 1; // one table of PASIDs twice
    const record twice = audited(m, scalable_guest, scalable);
    memory large = right_scalable();
    large.words[1 * 512 + 4 * 0x13] |= 7 << 9; // 32 frames of directory, of which six are memory
    const record outside = audited(large, scalable_guest, scalable);
    return only(twice, finding_kind::function_unreadable, first_id) &&
           twice.found[0].tables == pt::paging::finding_kind::used_twice &&
           only(outside, finding_kind::function_unreadable, first_id);
}
static_assert(right_scalable_tables() && pasids() && scalable_tables_that_cannot_be_read());

TEST_CASE("in scalable mode each PASID of a function is looked at", "[assign][audit]") {
    REQUIRE(right_scalable_tables());
    REQUIRE(pasids());
    REQUIRE(scalable_tables_that_cannot_be_read());
}

/// Tables whose root is frame 0 are not those of a first stage, nor those behind another unit.
constexpr bool domains_are_told_apart() {
    constexpr owned_domain at_zero[]{
        {.through = translation::second_stage(hpa{0}, four_levels, 5)}};
    ownership owner = scalable_guest;
    owner.domains = at_zero;
    memory m = right_scalable();
    m.set(3, 0, pasid_low(0, 1, 4), 5);
    constexpr owned_domain elsewhere[]{
        {.through = translation::second_stage(hpa{ours}, four_levels, 5)},
        {.unit = 1, .through = translation::second_stage(hpa{theirs}, four_levels, 5)}};
    ownership both = scalable_guest;
    both.domains = elsewhere;
    memory of_other_unit = right_scalable();
    of_other_unit.set(3, 0, pasid_low(theirs, 2, 4), 5);
    return only(audited(m, owner, scalable), finding_kind::function_elsewhere, first_id) &&
           audited(right_scalable(), both, scalable).count == 0 &&
           only(audited(of_other_unit, both, scalable), finding_kind::function_elsewhere, first_id);
}
static_assert(domains_are_told_apart());

constexpr bool units() {
    constexpr owned_function behind_both[]{{.address = {0, 1, 2, 3}},
                                           {.address = {0, 1, 31, 7}},
                                           {.address = {0, 2, 0, 0}, .unit = 0xFFFF}};
    ownership owner = guest;
    owner.functions = behind_both;
    const record first = audited(right_legacy(), owner, legacy);
    const record second = audited(memory{}, owner, legacy, 0xFFFF);
    return first.count == 0 && only(second, finding_kind::function_missing, 0x200) &&
           second.found[0].unit == 0xFFFF;
}
static_assert(units());
TEST_CASE("a function is looked for in the tables of its unit alone", "[assign][audit]") {
    REQUIRE(units());
    REQUIRE(domains_are_told_apart());
}

TEST_CASE("random tables are judged as function by function", "[assign][audit]") {
    std::mt19937_64 random{17};
    const auto below = [&random](std::uint64_t end) { return random() % end; };
    std::map<finding_kind, unsigned> met;
    for (unsigned round = 0; round != 2000; ++round) {
        const bool is_scalable = below(2) != 0;
        const std::size_t count = 60;
        std::vector<std::uint64_t> words(count * 512);
        std::size_t next = 1;
        std::set<std::uint16_t> mine;
        struct request {
            std::uint64_t low;
            std::uint64_t middle;
            std::uint64_t pasid;
        };
        struct entry {
            bool with_pasids = false;
            bool device_tlb = false;
            std::uint64_t rid_pasid = 0;
            std::vector<request> requests;
        };
        std::map<std::uint16_t, entry> entries; // what was written
        const auto random_request = [&](std::uint64_t pasid) {
            constexpr std::uint64_t roots[] = {ours, ours, ours, theirs};
            const std::uint64_t type = below(4) != 0 ? 2 : below(8);
            return request{roots[below(4)] | (below(8) == 0 ? 3U : 2U) << 2 | type << 6 |
                               (below(8) != 0),
                           below(4) != 0 ? 5 : below(3) + 5, pasid};
        };
        for (const unsigned bus : {0U, 1U, 7U}) {
            for (const unsigned half : {0U, 0x80U}) {
                if ((!is_scalable && half != 0) || below(4) == 0) {
                    continue;
                }
                const std::size_t table = next++;
                words[std::size_t{2} * bus + (half != 0 ? 1 : 0)] = frame(table) | 1;
                for (std::uint64_t n = below(5); n != 0; --n) {
                    const std::uint64_t device = below(is_scalable ? 128 : 256);
                    const auto id = static_cast<std::uint16_t>(bus << 8 | half | device);
                    if (entries.count(id) != 0 || next + 2 > count) {
                        continue;
                    }
                    if (below(2) != 0) {
                        mine.insert(id);
                    }
                    entry made;
                    if (!is_scalable) {
                        const std::uint64_t type = below(4) != 0 ? 0 : below(4);
                        const std::uint64_t root = below(4) != 0 ? ours : theirs;
                        const std::uint64_t domain = below(4) != 0 ? 5 : 6;
                        const std::uint64_t levels = below(8) != 0 ? 4 : 3;
                        const std::uint64_t present = below(8) != 0;
                        words[table * 512 + 2 * device] = root | type << 2 | present;
                        words[table * 512 + 2 * device + 1] = context_high(domain, levels);
                        // The same, said as a PASID entry says it.
                        const std::uint64_t as[] = {2, 2, 4, 0};
                        made.device_tlb = type == 1 && present != 0;
                        made.requests = {
                            {root | (levels - 2) << 2 | as[type] << 6 | present, domain, 0}};
                    } else {
                        made.with_pasids = below(2) != 0;
                        made.device_tlb = below(8) == 0;
                        made.rid_pasid = below(2) * 70;
                        const std::uint64_t present = below(8) != 0;
                        words[table * 512 + 4 * device] =
                            frame(next) | std::uint64_t{made.with_pasids} << 3 |
                            std::uint64_t{made.device_tlb} << 2 | present; // 128 entries
                        words[table * 512 + 4 * device + 1] = made.rid_pasid;
                        const std::uint64_t group = below(2); // PASIDs 0..63 or 64..127
                        words[next * 512 + group] = frame(next + 1) | 1;
                        words[next * 512 + 128] = frame(0) | 1; // beyond the directory
                        for (const std::uint64_t n_pasid : {std::uint64_t{0}, std::uint64_t{6}}) {
                            const request r = random_request(group * 64 + n_pasid);
                            words[(next + 1) * 512 + 8 * n_pasid] = r.low;
                            words[(next + 1) * 512 + 8 * n_pasid + 1] = r.middle;
                            made.requests.push_back(r);
                        }
                        next += 2;
                        made.device_tlb = made.device_tlb && present != 0;
                        if (present == 0) {
                            made.requests.clear();
                        }
                    }
                    entries[id] = made;
                }
            }
        }
        if (below(3) == 0) {
            mine.insert(static_cast<std::uint16_t>(below(0x1'0000)));
        }
        std::vector<owned_function> list;
        list.reserve(mine.size());
        for (const std::uint16_t id : mine) {
            list.push_back({.address = pt::pci::function_address::from_source_id(id)});
        }
        const ownership owner{
            .guest = 1, .functions = {list.data(), list.size()}, .domains = domains};

        const range<hpa> all{hpa{base}, count * 4096};
        std::uint64_t bits[1]{};
        std::map<std::uint16_t, std::set<finding_kind>> said;
        audit_functions({.address = pt::vtd::root_table_address{is_scalable ? scalable : legacy}},
                        pt::paging::image_reader{all, words.data()},
                        pt::paging::frame_bitmap{all, bits}, owner, [&](const finding& found) {
                            for (std::uint64_t id = found.first; id <= found.last; ++id) {
                                said[static_cast<std::uint16_t>(id)].insert(found.kind);
                                ++met[found.kind];
                            }
                        });

        std::map<std::uint16_t, std::set<finding_kind>> right;
        for (const auto& [id, made] : entries) {
            const bool owned = mine.count(id) != 0;
            bool goes_through = false;
            const auto tell = [&, id = id](finding_kind kind) { right[id].insert(kind); };
            if (owned && made.device_tlb) {
                tell(finding_kind::function_device_tlb);
            }
            for (const request& r : made.requests) {
                const bool without = r.pasid == made.rid_pasid;
                if ((r.low & 1) == 0 || !(without || made.with_pasids)) {
                    continue;
                }
                goes_through = goes_through || without;
                const std::uint64_t type = r.low >> 6 & 7;
                const std::uint64_t root = r.low & ~std::uint64_t{0xFFF};
                const bool by_second_stage = type == 2 || type == 3;
                if (type == 0 || type > 4) {
                    if (owned) {
                        tell(finding_kind::function_malformed);
                    }
                } else if (owned && type == 4) {
                    tell(finding_kind::function_pass_through);
                } else if (owned && !(by_second_stage && root == ours)) {
                    tell(finding_kind::function_elsewhere);
                } else if (owned) {
                    if ((r.low >> 2 & 7) != 2) {
                        tell(finding_kind::function_wrong_levels);
                    }
                    if (r.middle != 5) {
                        tell(finding_kind::function_wrong_domain);
                    }
                } else if (by_second_stage && root == ours) {
                    tell(finding_kind::function_not_owned);
                } else if (r.middle == 5) {
                    tell(finding_kind::domain_id_shared);
                }
            }
            if (owned && !goes_through) {
                tell(finding_kind::function_missing);
            }
        }
        for (const std::uint16_t id : mine) {
            if (entries.count(id) == 0) {
                right[id].insert(finding_kind::function_missing);
            }
        }
        REQUIRE(said == right);
    }
    REQUIRE(met.size() == 9); // all but function_unreadable
}

} // namespace
