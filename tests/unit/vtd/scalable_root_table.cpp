// SPDX-License-Identifier: BSL-1.0
// The root table in scalable mode against a unit of its own: a second model of the tables, the
// caches and the invalidations, in plain numbers from the manual [vt-d]. The caches keep all that
// was not invalidated, and a device sends requests after each single store that became visible.
#include "pt/core/wide_store.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/root_table.hpp"
#include "pt/vtd/translation.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::gpa;
using pt::hpa;
using pt::pci::function_address;
using pt::vtd::attached_function;
using pt::vtd::translation;

using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// 4 levels, 65536 domains, draining; scalable mode with first, second and nested stage, 20 bits of
// PASID, page-walk coherency, snoop control, pass-through, device TLBs that are throttled together.
constexpr u64 model_cap = 0x00d2'008c'222f'0606;
constexpr u64 model_ecap = u64{1} << 48 | u64{1} << 47 | u64{1} << 46 | u64{1} << 45 |
                           u64{1} << 43 | u64{1} << 41 | u64{1} << 40 | u64{19} << 35 |
                           u64{1} << 26 | 0x00f0'0fcf;

/// How a request went: through which tables, or why not at all.
struct outcome {
    unsigned blocked =
        0; ///< where the walk ended: 1 root, 2 context, 3 PASID, 4 directory, 5 entry
    unsigned type = 0;
    u16 domain_id = 0;
    u64 second = 0;
    u64 first = 0;
    unsigned address_width = 0;

    friend constexpr bool operator==(const outcome&, const outcome&) = default;
};

struct machine {
    static constexpr std::size_t frame_count = 24;
    static constexpr u64 base = 0x8000'0000;

    alignas(16) u64 stored[frame_count * 512]{};
    u64 published[frame_count * 512]{};
    bool used[frame_count]{};
    std::size_t in_use = 0;
    std::size_t limit = frame_count;
    u64 cap = model_cap;
    u64 ecap = model_ecap;
    u64 root = 0;
    unsigned violations = 0;
    const char* violation = nullptr;

    std::vector<std::pair<std::size_t, std::size_t>> under_way;
    struct request_to {
        std::size_t word;
        u64 value;
    };
    std::vector<request_to> journal; ///< visible stores, by word index
    std::vector<u64> asked[2];       ///< both words of each descriptor
    std::vector<std::pair<u64, u64>> pending;
    unsigned calls = 0;
    unsigned fail_at = 0;    ///< the call of the port, counted from 1, that fails
    bool fails_late = false; ///< and is carried out nevertheless

    struct cached_context {
        u16 source_id;
        u64 low, high;
        bool present;
        unsigned blocked;
    };
    struct cached_pasid {
        u16 source_id;
        u32 pasid;
        u16 tag; ///< 0 for what is absent
        bool present;
        unsigned blocked;
        u64 word[3];
    };
    struct cached_page { ///< what was translated by a PASID entry
        u16 domain_id;
        u32 pasid;
        outcome through;
    };
    struct device_page {
        u16 source_id;
        u32 pasid; ///< none: ~0
        outcome through;
    };
    std::vector<cached_context> contexts;
    std::vector<cached_pasid> pasids;
    std::vector<cached_page> pages;
    std::vector<device_page> device_pages;

    static constexpr u32 none = ~u32{0};
    struct {
        bool runs = false;
        u16 source_id = 0;
        u32 pasid = none;
        bool keeps = false; ///< in its device TLB
        std::vector<outcome> seen;
    } hammer;

    void blame(const char* what) {
        violation = violation == nullptr ? what : violation;
        ++violations;
    }
    bool caching_mode() const { return (cap >> 7 & 1) != 0; }

    u64 word_at(u64 address) {
        const std::size_t i = (address - base) / 8;
        if (address < base || i >= frame_count * 512 || !used[i / 512]) {
            blame("hardware walked something that is no table");
            return 0;
        }
        return published[i];
    }
    void reserved(bool is_set, const char* what) {
        if (is_set) {
            blame(what);
        }
    }

    // ---- a request
    // ---------------------------------------------------------------------------------

    cached_context context_of(u16 source_id) {
        for (const cached_context& c : contexts) {
            if (c.source_id == source_id) {
                return c;
            }
        }
        cached_context c{source_id, 0, 0, false, 1};
        const u64 half = word_at(root + source_id / 256U * 16 + ((source_id & 0x80) != 0 ? 8 : 0));
        if ((half & 1) != 0) {
            reserved((half & 0xFFE) != 0, "reserved bits in a root entry");
            const u64 at = (half & ~u64{0xFFF}) + (source_id & 0x7FU) * 32;
            c = {source_id, word_at(at), word_at(at + 8), false, 2};
            if ((c.low & 1) != 0) {
                reserved((c.low & 0x1E0) != 0 || c.high >> 21 != 0 || word_at(at + 16) != 0 ||
                             word_at(at + 24) != 0,
                         "reserved bits in a context entry");
                c.present = true;
                c.blocked = 0;
            }
        }
        if (c.present || caching_mode()) {
            contexts.push_back(c);
        }
        return c;
    }
    cached_pasid pasid_of(const cached_context& c, u32 pasid) {
        for (const cached_pasid& p : pasids) {
            if (p.source_id == c.source_id && p.pasid == pasid) {
                return p;
            }
        }
        cached_pasid p{c.source_id, pasid, 0, false, 3, {}};
        if (pasid < (u32{1} << ((c.low >> 9 & 7) + 7)) * 64) {
            const u64 directory = word_at((c.low & ~u64{0xFFF}) + pasid / 64 * 8);
            p.blocked = 4;
            if ((directory & 1) != 0) {
                reserved((directory & 0xFFC) != 0, "reserved bits in a directory entry");
                const u64 at = (directory & ~u64{0xFFF}) + pasid % 64 * 64;
                for (unsigned i = 0; i < 3; ++i) {
                    p.word[i] = word_at(at + i * 8);
                }
                p.blocked = 5;
                if ((p.word[0] & 1) != 0) {
                    reserved((p.word[0] & 0xC20) != 0 || (p.word[1] & 0x007F'0000) != 0 ||
                                 (p.word[2] & 0xF00) != 0,
                             "reserved bits in a PASID entry");
                    for (unsigned i = 3; i < 8; ++i) {
                        reserved(word_at(at + i * 8) != 0, "reserved words of a PASID entry");
                    }
                    p.present = true;
                    p.blocked = 0;
                    p.tag = static_cast<u16>(p.word[1]);
                }
            }
        }
        if (p.present || caching_mode()) {
            pasids.push_back(p);
        }
        return p;
    }
    outcome request(u16 source_id, u32 pasid = none, bool keeps = false) {
        const cached_context c = context_of(source_id);
        if (!c.present) {
            return {.blocked = c.blocked};
        }
        if (pasid != none && (c.low & 8) == 0) {
            return {.blocked = 3};
        }
        const u32 goes_by = pasid == none ? static_cast<u32>(c.high & 0xF'FFFF) : pasid;
        const cached_pasid p = pasid_of(c, goes_by);
        if (!p.present) {
            return {.blocked = p.blocked};
        }
        const auto type = static_cast<unsigned>(p.word[0] >> 6 & 7);
        outcome through{0, type, p.tag, 0, 0, 0};
        if (type == 2 || type == 3) {
            through.second = p.word[0] & ~u64{0xFFF};
            through.address_width = static_cast<unsigned>(p.word[0] >> 2 & 7);
            reserved((cap >> (8 + through.address_width) & 1) == 0, "levels that it does not walk");
        }
        if (type == 1 || type == 3) {
            through.first = p.word[2] & ~u64{0xFFF};
        } else {
            reserved(p.word[2] != 0, "a first stage that is none");
        }
        reserved(type == 0 || type > 4, "no such translation type");
        reserved(p.tag == 0 && caching_mode(), "domain id 0, which caching mode reserves");
        for (const cached_page& page : pages) {
            if (page.domain_id == p.tag && page.through.type == type &&
                (type == 2 || page.pasid == goes_by)) {
                through = page.through; // stale or not
                break;
            }
        }
        pages.push_back({p.tag, goes_by, through});
        if (keeps && (c.low & 4) != 0) {
            device_pages.push_back({source_id, pasid, through});
        }
        return through;
    }
    void between() {
        if (hammer.runs) {
            hammer.seen.push_back(request(hammer.source_id, hammer.pasid, hammer.keeps));
        }
    }
    bool device_keeps(u16 source_id) const {
        for (const device_page& page : device_pages) {
            if (page.source_id == source_id) {
                return true;
            }
        }
        return false;
    }

    // ---- the invalidation port
    // ---------------------------------------------------------------------

    void carry_out(u64 low, u64 high) {
        const auto type = static_cast<unsigned>(low & 15);
        const auto granularity = static_cast<unsigned>(low >> 4 & 3);
        const auto domain_id = static_cast<u16>(low >> 16);
        const auto upper = static_cast<u32>(low >> 32);
        switch (type) {
        case 1: // context cache; the domain id says nothing in scalable mode
            std::erase_if(contexts, [&](const cached_context& c) {
                return granularity == 1 ||
                       (granularity == 3 && c.source_id == static_cast<u16>(upper));
            });
            break;
        case 2: // IOTLB
            reserved(granularity == 3, "a page-selective invalidation for an entry");
            reserved((low >> 6 & 3) != 3, "an invalidation that does not drain");
            std::erase_if(pages, [&](const cached_page& page) {
                return granularity == 1 || (page.domain_id == domain_id &&
                                            (page.through.type == 2 || page.through.type == 3));
            });
            break;
        case 3: // device TLB, without PASID
            reserved(high != (0x7FFF'FFFF'FFFF'F000 | 1), "not all of the device TLB");
            std::erase_if(device_pages, [&](const device_page& page) {
                return page.source_id == static_cast<u16>(upper) && page.pasid == none;
            });
            break;
        case 6: // PASID-based IOTLB
            reserved(granularity != 2, "not all of a PASID");
            std::erase_if(pages, [&](const cached_page& page) {
                return page.domain_id == domain_id && page.pasid == (upper & 0xF'FFFF) &&
                       page.through.type != 2;
            });
            break;
        case 7: // PASID cache
            std::erase_if(pasids, [&](const cached_pasid& p) {
                return granularity == 3 ||
                       (p.tag == domain_id &&
                        (granularity == 0 || (granularity == 1 && p.pasid == (upper & 0xF'FFFF))));
            });
            break;
        case 8: // PASID-based device TLB
            reserved(high != (0x7FFF'FFFF'FFFF'F000 | 1U << 11), "not all of a device TLB's PASID");
            std::erase_if(device_pages, [&](const device_page& page) {
                return page.source_id == static_cast<u16>(low >> 16) &&
                       page.pasid == (upper & 0xF'FFFF);
            });
            break;
        default: blame("a descriptor of no use here"); break;
        }
    }
    bool fails() { return ++calls == fail_at; }
};

struct frames {
    machine* of;

    pt::result<hpa> allocate(pt::frame_contents contents) {
        if (of->in_use >= of->limit) {
            return error{errc::out_of_frames, 0};
        }
        std::size_t f = 0;
        while (of->used[f]) {
            ++f;
        }
        of->used[f] = true;
        ++of->in_use;
        for (std::size_t i = f * 512; i < (f + 1) * 512; ++i) {
            of->stored[i] = contents == pt::frame_contents::zeroed ? 0 : ~u64{0};
            of->published[i] = 0x5A5A'5A5A'5A5A'5A5A; // until it is published
        }
        return hpa{machine::base + f * 4096};
    }
    void release(hpa frame) {
        const std::size_t f = (frame.raw - machine::base) / 4096;
        if (f >= machine::frame_count || !of->used[f]) {
            of->blame("a frame was given back that was not taken");
            return;
        }
        of->used[f] = false;
        --of->in_use;
        for (const auto& c : of->contexts) {
            of->reserved(c.present && (c.low & ~u64{0xFFF}) == frame.raw,
                         "a frame was given back while a cached entry points to it");
        }
    }
    u64* entries(hpa frame) { return of->stored + (frame.raw - machine::base) / 8; }
};
struct publisher {
    machine* of;

    void publish(const u64* first, std::size_t count) {
        of->under_way.emplace_back(static_cast<std::size_t>(first - of->stored), count);
    }
    void complete() {
        for (const auto& [first, count] : of->under_way) {
            for (std::size_t i = first; i < first + count; ++i) {
                of->published[i] = of->stored[i];
            }
            if (count < 512) {
                of->journal.push_back({first, of->stored[first]});
            }
            of->between();
        }
        of->under_way.clear();
    }
};
struct wide {
    static constexpr bool atomic = true;
    void store(u64* slot, u64 low, u64 high) {
        slot[0] = low;
        slot[1] = high;
    }
};
struct port {
    machine* of;

    pt::result<void> submit(const pt::vtd::invalidation_descriptor& d) {
        of->between();
        of->asked[0].push_back(d.word[0]);
        of->asked[1].push_back(d.word[1]);
        if (of->fails()) {
            of->pending.clear();
            return error{errc::busy, 1};
        }
        of->pending.emplace_back(d.word[0], d.word[1]);
        return {};
    }
    pt::result<void> complete() {
        of->between();
        const bool failing = of->fails();
        if (!failing || of->fails_late) {
            for (const auto& [low, high] : of->pending) {
                of->carry_out(low, high);
            }
        }
        of->pending.clear();
        of->between();
        if (failing) {
            return error{errc::time_out, 2};
        }
        return {};
    }
    pt::vtd::capability capabilities() const { return pt::vtd::capability{of->cap}; }
    pt::vtd::extended_capability extended_capabilities() const {
        return pt::vtd::extended_capability{of->ecap};
    }
};
static_assert(pt::vtd::invalidation_port<port>);

constexpr function_address nic{0, 1, 5, 2}; // source id 0x012A
constexpr u16 nic_id = 0x012A;
constexpr function_address far_off{0, 1, 21, 2}; // 0x01AA: the upper context table
constexpr u16 far_off_id = 0x01AA;

const pt::vtd::second_stage::format four{{.levels = 4}};
const pt::vtd::second_stage::format three{{.levels = 3}};
const translation old_domain = translation::second_stage(hpa{0x10'0000}, four, 7);
const translation new_domain = translation::second_stage(hpa{0x20'0000}, three, 8);
const translation guest_tables = translation::first_stage(hpa{0x30'0000}, 4, 9);
const translation both_stages = translation::nested(gpa{0x5000}, 4, hpa{0x40'0000}, four, 10);
const translation nothing = translation::pass_through(11);

constexpr outcome old_way{0, 2, 7, 0x10'0000, 0, 2};
constexpr outcome new_way{0, 2, 8, 0x20'0000, 0, 1};
constexpr outcome first_way{0, 1, 9, 0, 0x30'0000, 0};
constexpr outcome nested_way{0, 3, 10, 0x40'0000, 0x5000, 2};
constexpr outcome no_way{0, 4, 11, 0, 0, 0};

template <class Wide>
struct scene {
    std::unique_ptr<machine> hardware = std::make_unique<machine>();
    port to{hardware.get()};
    pt::vtd::root_table<frames, publisher, Wide> root{
        std::move(*pt::vtd::root_table<frames, publisher, Wide>::create(
            {hardware.get()}, pt::vtd::table_mode::scalable, {hardware.get()}))};

    explicit scene(u64 more_cap = 0) {
        hardware->cap |= more_cap;
        hardware->root = root.root().raw;
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;
    ~scene() {
        hardware->fail_at = 0;
        hardware->hammer.runs = false;
        hardware->root = 0;
        CHECK(root.retire(to));
        CHECK(hardware->in_use == 0);
        CHECK(std::string{hardware->violation == nullptr ? "none" : hardware->violation} == "none");
    }
    void start(u16 source_id, u32 pasid = machine::none) {
        hardware->hammer.seen.clear();
        hardware->hammer.source_id = source_id;
        hardware->hammer.pasid = pasid;
        hardware->hammer.runs = true;
    }
    /// Stops the device; how often it was blocked, or ~0 if it got anything but these.
    unsigned stop(outcome a, outcome b) {
        hardware->hammer.runs = false;
        unsigned blocked = 0;
        for (const outcome& o : hardware->hammer.seen) {
            if (o.blocked != 0) {
                ++blocked;
            } else if (!(o == a) && !(o == b)) {
                return ~0U;
            }
        }
        return blocked;
    }
};

TEST_CASE("in scalable mode a function's requests go through what it is attached to",
          "[vtd][scalable]") {
    const std::pair<translation, outcome> all[] = {{old_domain, old_way},
                                                   {new_domain, new_way},
                                                   {guest_tables, first_way},
                                                   {both_stages, nested_way},
                                                   {nothing, no_way}};
    for (const u64 caching : {u64{0}, u64{0x80}}) {
        for (const auto& [through, way] : all) {
            scene<pt::no_wide_store> s{caching};
            for (const auto& [who, id] : {std::pair{nic, nic_id}, std::pair{far_off, far_off_id}}) {
                CHECK(s.hardware->request(id).blocked != 0); // and with caching mode this is cached
                s.start(id);
                REQUIRE(s.root.attach(who, through, s.to));
                CHECK(s.stop(way, way) != ~0U);
                CHECK(s.hardware->request(id) == way);
                CHECK(s.hardware->request(id, 5).blocked == 3); // no PASIDs
                CHECK(s.root.translation_of(who) == through);
                CHECK(s.root.attach(who, through, s.to) == error{errc::already_mapped, id});
            }
            CHECK(s.hardware->request(0x0128).blocked == 2);
            CHECK(s.hardware->request(0x0228).blocked == 1);
            s.start(nic_id);
            REQUIRE(s.root.detach(nic, s.to));
            CHECK(s.stop(way, way) != ~0U);
            CHECK(s.hardware->request(nic_id).blocked == 2);
            CHECK(s.hardware->request(far_off_id) == way);
            CHECK(s.root.translation_of(nic) == error{errc::not_mapped, nic_id});
            CHECK(s.root.detach(nic, s.to) == error{errc::not_mapped, nic_id});
            REQUIRE(s.root.attach(nic, through, s.to));
            CHECK(s.hardware->request(nic_id) == way);
        }
    }
}

TEST_CASE("the present bit of a scalable context entry is stored last, after its tables",
          "[vtd][scalable][rule 14]") {
    scene<pt::no_wide_store> s;
    REQUIRE(s.root.attach(nic, old_domain.with_device_tlb().with_pasids(), s.to));
    const auto& stores = s.hardware->journal;
    // Directory entry, root entry, upper words of PASID entry 0, its word 0, context entry.
    REQUIRE(stores.size() == 6);
    const u64 directory = machine::base + stores[0].word * 8;
    CHECK(stores[0].value % 4096 == 1);
    CHECK(stores[1].word == 2);          // bus 1, lower half
    CHECK(stores[2].value == 0x80'0007); // page walk snoop, domain 7
    CHECK(stores[3].value == (0x10'0000 | 2U << 6 | 2U << 2 | 1));
    CHECK(stores[2].word == stores[3].word + 1);
    CHECK(stores[4].value == 0);
    CHECK(stores[5].value == (directory | 2U << 9 | 0x8 | 0x4 | 0x1));
    CHECK(stores[4].word == stores[5].word + 1);
    CHECK(stores[5].word % 512 == 0x2A * 4);
    // Device-selective context cache, PASID-selective PASID cache, domain-selective IOTLB.
    const std::vector<u64> expected{0x0000'012A'0000'0031, 0x0000'0000'0007'0017,
                                    0x0000'0000'0007'00E2};
    CHECK(s.hardware->asked[0] == expected);
}

TEST_CASE("what is invalidated of an entry that goes is what the manual's table says",
          "[vtd][scalable]") {
    const auto asked = [](const translation& through, bool device_tlb) {
        scene<pt::no_wide_store> s;
        const attached_function virtual_one{nic, 0x0100, 32};
        REQUIRE(s.root.attach(virtual_one, device_tlb ? through.with_device_tlb() : through, s.to));
        s.hardware->asked[0].clear();
        REQUIRE(s.root.detach(virtual_one, s.to));
        return s.hardware->asked[0];
    };
    constexpr u64 context = 0x0000'012A'0000'0031;
    // Device TLB: type 3, source id 47:32, pending 20:16 (0 for 32), physical function 63:52,
    // 15:12.
    constexpr u64 device = 0x0100'012A'0000'0003 & ~u64{0xFFF0'0000'0000'0000};
    constexpr u64 physical = u64{0x010} << 52;
    using list = std::vector<u64>;
    CHECK(asked(old_domain, false) == list{context, 0x0007'0017, 0x0007'00E2});
    CHECK(asked(guest_tables, false) == list{context, 0x0009'0017, 0x0009'0026});
    CHECK(asked(both_stages, false) == list{context, 0x000A'0017, 0x000A'00E2, 0x000A'0026});
    CHECK(asked(nothing, false) == list{context, 0x000B'0017, 0x000B'0026});
    CHECK(asked(old_domain, true) == list{context, 0x0007'0017, 0x0007'00E2, device | physical});
}

TEST_CASE("a PASID has a translation of its own", "[vtd][scalable]") {
    for (const u64 caching : {u64{0}, u64{0x80}}) {
        scene<pt::no_wide_store> s{caching};
        CHECK(s.root.attach_pasid(nic, 5, guest_tables, s.to) == error{errc::not_mapped, nic_id});
        REQUIRE(s.root.attach(far_off, old_domain, s.to));
        CHECK(s.root.attach_pasid(far_off, 5, guest_tables, s.to) ==
              error{errc::refused, far_off_id});
        REQUIRE(s.root.attach(nic, old_domain.with_pasids(), s.to));
        for (const u32 pasid : {1U, 63U, 64U, 0x7FFFU}) {
            CHECK(s.hardware->request(nic_id, pasid).blocked == (pasid < 64 ? 5U : 4U));
            s.start(nic_id, pasid);
            REQUIRE(s.root.attach_pasid(nic, pasid, both_stages, s.to));
            CHECK(s.stop(nested_way, nested_way) != ~0U);
            CHECK(s.hardware->request(nic_id, pasid) == nested_way);
            CHECK(s.hardware->request(nic_id) == old_way);
            CHECK(s.root.translation_of(nic, pasid) == both_stages);
            CHECK(s.root.attach_pasid(nic, pasid, nothing, s.to) ==
                  error{errc::already_mapped, pasid});
        }
        CHECK(s.root.attach_pasid(nic, 0, nothing, s.to) == error{errc::out_of_range, 0});
        CHECK(s.root.attach_pasid(nic, 0x8000, nothing, s.to) == error{errc::out_of_range, 0x8000});
        CHECK(s.root.attach_pasid(nic, ~0U, nothing, s.to) == error{errc::out_of_range, ~0U});
        CHECK(s.root.attach_pasid(nic, 2, nothing.with_pasids(), s.to) ==
              error{errc::not_supported, 2});
        s.start(nic_id, 64);
        REQUIRE(s.root.detach_pasid(nic, 64, s.to));
        CHECK(s.stop(nested_way, nested_way) != ~0U);
        CHECK(s.hardware->request(nic_id, 64).blocked == 5);
        CHECK(s.hardware->request(nic_id, 63) == nested_way);
        CHECK(s.root.detach_pasid(nic, 64, s.to) == error{errc::not_mapped, 64});
        CHECK(s.root.translation_of(nic, 64) == error{errc::not_mapped, 64});
        REQUIRE(s.root.attach_pasid(nic, 64, guest_tables, s.to));
        CHECK(s.hardware->request(nic_id, 64) == first_way);
        // All of them go with the function, and their tables with them.
        const std::size_t held = s.hardware->in_use;
        s.start(nic_id, 63);
        REQUIRE(s.root.detach(nic, s.to));
        CHECK(s.stop(nested_way, nested_way) != ~0U);
        CHECK(held - s.hardware->in_use == 1 + 3);
        CHECK(s.hardware->request(nic_id, 63).blocked == 2);
        for (const auto& p : s.hardware->pasids) {
            CHECK((p.source_id != nic_id || !p.present));
        }
    }
    scene<pt::no_wide_store> narrow;
    narrow.hardware->ecap = (model_ecap & ~(u64{0x1F} << 35)) | u64{7} << 35; // 8 bits
    REQUIRE(narrow.root.attach(nic, old_domain.with_pasids(), narrow.to));
    CHECK(narrow.root.attach_pasid(nic, 255, nothing, narrow.to));
    CHECK(narrow.root.attach_pasid(nic, 256, nothing, narrow.to) == error{errc::out_of_range, 256});
    scene<pt::no_wide_store> widest;
    widest.hardware->ecap = model_ecap | u64{0x1F} << 35; // 32 bits: more than there are PASIDs
    REQUIRE(widest.root.attach(nic, old_domain.with_pasids(), widest.to));
    CHECK(widest.root.attach_pasid(nic, 0x7FFF, nothing, widest.to));
}

template <class Wide>
void check_pasids_of_a_move(u64 caching) {
    scene<Wide> s{caching};
    const auto without_pasid = [&] { return s.hardware->request(nic_id); };
    const auto with_pasid = [&](u32 pasid) { return s.hardware->request(nic_id, pasid); };
    REQUIRE(s.root.attach(nic, old_domain.with_pasids(), s.to));
    REQUIRE(s.root.attach_pasid(nic, 5, both_stages, s.to));
    REQUIRE(s.root.attach_pasid(nic, 70, old_domain, s.to));
    CHECK(with_pasid(5) == nested_way);
    CHECK(with_pasid(70) == old_way);

    // What is said of the function alone leaves them where they are.
    REQUIRE(s.root.replace(nic, old_domain.with_pasids().with_faults_disabled(), s.to));
    CHECK(with_pasid(5) == nested_way);
    CHECK(with_pasid(70) == old_way);

    s.start(nic_id, 5);
    REQUIRE(s.root.replace(nic, new_domain.with_pasids(), s.to));
    CHECK(s.stop(nested_way, nested_way) != ~0U);
    CHECK(without_pasid() == new_way);
    CHECK(with_pasid(5).blocked == 5);
    CHECK(with_pasid(70).blocked == 5);
    CHECK(s.root.translation_of(nic, 5) == error{errc::not_mapped, 5});
    CHECK(s.root.detach_pasid(nic, 70, s.to) == error{errc::not_mapped, 70});

    REQUIRE(s.root.attach_pasid(nic, 5, new_domain, s.to));
    CHECK(with_pasid(5) == new_way);
    s.start(nic_id, 5);
    REQUIRE(s.root.replace(nic, new_domain, s.to)); // none any more
    CHECK(s.stop(new_way, new_way) != ~0U);
    CHECK(with_pasid(5).blocked == 3);
    REQUIRE(s.root.replace(nic, new_domain.with_pasids(), s.to));
    CHECK(with_pasid(5).blocked == 5);
}

TEST_CASE("PASIDs neither move along with their function nor stay behind", "[vtd][scalable]") {
    for (const u64 caching : {u64{0}, u64{0x80}}) {
        check_pasids_of_a_move<pt::no_wide_store>(caching);
        check_pasids_of_a_move<wide>(caching);
    }
}

/// From anything to anything; whether the device was blocked meanwhile.
template <class Wide>
bool moves(const translation& from, outcome before, const translation& to, outcome after,
           u64 caching) {
    scene<Wide> s{caching};
    REQUIRE(s.root.attach(nic, from, s.to));
    CHECK(s.hardware->request(nic_id) == before);
    s.start(nic_id);
    REQUIRE(s.root.replace(nic, to, s.to));
    const unsigned blocked = s.stop(before, after);
    CHECK(blocked != ~0U);
    CHECK(s.hardware->request(nic_id) == after);
    CHECK(s.root.translation_of(nic) == to);
    return blocked != 0;
}

TEST_CASE("a live PASID entry is replaced in one step or over one that is not present",
          "[vtd][scalable][rule 14]") {
    const std::pair<translation, outcome> all[] = {{old_domain, old_way},
                                                   {new_domain, new_way},
                                                   {guest_tables, first_way},
                                                   {both_stages, nested_way},
                                                   {nothing, no_way}};
    for (const u64 caching : {u64{0}, u64{0x80}}) {
        for (const auto& [from, before] : all) {
            for (const auto& [to, after] : all) {
                CAPTURE(caching, before.type, before.domain_id, after.type, after.domain_id);
                const bool same = from == to;
                // Word 2 is the first stage's: with it three words change.
                const bool narrow = before.first == after.first;
                CHECK(moves<pt::no_wide_store>(from, before, to, after, caching) == !same);
                CHECK(moves<wide>(from, before, to, after, caching) == !(same || narrow));
                CHECK(moves<pt::cmpxchg16b_store>(from, before, to, after, caching) ==
                      !(same || narrow));
            }
        }
    }
    // Another root under the same domain id: the old one's translations are not served any more.
    const auto elsewhere = translation::second_stage(hpa{0x50'0000}, four, 7);
    CHECK_FALSE(
        moves<pt::no_wide_store>(old_domain, old_way, elsewhere, {0, 2, 7, 0x50'0000, 0, 2}, 0));
}

TEST_CASE("silencing a function in scalable mode is one store to its context entry",
          "[vtd][scalable]") {
    scene<pt::no_wide_store> s;
    REQUIRE(s.root.attach(nic, old_domain.with_pasids(), s.to));
    REQUIRE(s.root.attach_pasid(nic, 9, guest_tables, s.to));
    const u64 context = s.hardware->journal[5].value;
    s.hardware->journal.clear();
    s.start(nic_id);
    const auto silent = old_domain.with_pasids().with_faults_disabled();
    REQUIRE(s.root.replace(nic, silent, s.to));
    CHECK(s.stop(old_way, old_way) == 0);
    REQUIRE(s.hardware->journal.size() == 1);
    CHECK(s.hardware->journal[0].value == (context | 2));
    CHECK(s.root.translation_of(nic) == silent);
    CHECK(s.hardware->request(nic_id, 9) == first_way);
    CHECK(s.hardware->context_of(nic_id).low == (context | 2)); // not from the cache
    REQUIRE(s.root.replace(nic, old_domain, s.to));
    CHECK(s.hardware->request(nic_id, 9).blocked == 3);
    CHECK(s.hardware->request(nic_id) == old_way);
    // Giving PASIDs back together with a move, however fast the old entry was cached again.
    REQUIRE(s.root.replace(nic, old_domain.with_pasids(), s.to));
    CHECK(s.hardware->request(nic_id, 9).blocked == 5);
    REQUIRE(s.root.attach_pasid(nic, 9, guest_tables, s.to));
    s.start(nic_id);
    REQUIRE(s.root.replace(nic, new_domain, s.to));
    CHECK(s.stop(old_way, new_way) != ~0U);
    CHECK(s.hardware->request(nic_id, 9).blocked == 3);
}

TEST_CASE(
    "a device TLB is emptied before what it keeps goes, and is told nothing before it is used",
    "[vtd][scalable][ats]") {
    for (const bool atomic : {false, true}) {
        const auto run = [](auto& s) {
            s.hardware->hammer.keeps = true;
            REQUIRE(s.root.attach(nic, old_domain.with_device_tlb().with_pasids(), s.to));
            for (const u64 word : s.hardware->asked[0]) {
                CHECK((word & 15) != 3); // ATS is not on yet: nobody would answer
            }
            REQUIRE(s.root.attach_pasid(nic, 9, guest_tables, s.to));
            (void)s.hardware->request(nic_id, machine::none, true);
            (void)s.hardware->request(nic_id, 9, true);
            CHECK(s.hardware->device_keeps(nic_id));
            // Moved, and still with a device TLB.
            REQUIRE(s.root.replace(nic, new_domain.with_device_tlb().with_pasids(), s.to));
            CHECK_FALSE(s.hardware->device_keeps(nic_id)); // its PASIDs have not moved along
            REQUIRE(s.root.attach_pasid(nic, 9, guest_tables, s.to));
            (void)s.hardware->request(nic_id, machine::none, true);
            (void)s.hardware->request(nic_id, 9, true);
            REQUIRE(s.root.detach_pasid(nic, 9, s.to));
            for (const auto& page : s.hardware->device_pages) {
                CHECK(page.pasid == machine::none);
            }
            CHECK(s.hardware->device_keeps(nic_id));
            // Moved to where it has none: blocked in between, whatever the store can do.
            s.start(nic_id);
            REQUIRE(s.root.replace(nic, old_domain, s.to));
            CHECK(s.stop(new_way, old_way) - 1U < 1000U);
            CHECK_FALSE(s.hardware->device_keeps(nic_id));
            CHECK(s.hardware->request(nic_id) == old_way);
        };
        if (atomic) {
            scene<wide> s;
            run(s);
        } else {
            scene<pt::no_wide_store> s;
            run(s);
        }
    }
}

TEST_CASE("a scalable attach that finds no frame leaves everything as it was", "[vtd][scalable]") {
    scene<pt::no_wide_store> s;
    const std::size_t held = s.hardware->in_use;
    for (std::size_t more = 0; more < 3; ++more) { // directory, table, context table
        s.hardware->limit = held + more;
        CHECK(s.root.attach(nic, old_domain, s.to).error().code == errc::out_of_frames);
        CHECK(s.hardware->in_use == held);
        CHECK(s.root.translation_of(nic) == error{errc::not_mapped, nic_id});
    }
    s.hardware->limit = held + 3;
    REQUIRE(s.root.attach(nic, old_domain.with_pasids(), s.to));
    CHECK(s.root.attach_pasid(nic, 64, nothing, s.to).error().code == errc::out_of_frames);
    CHECK(s.root.attach_pasid(nic, 63, nothing, s.to)); // in the table that there is
    s.hardware->limit = machine::frame_count;
}

TEST_CASE(
    "an operation whose invalidation fails leaves the old, the new or nothing, and is repeated",
    "[vtd][scalable][hostile]") {
    unsigned failures = 0;
    const auto run = [&]<class Wide>(Wide) {
        for (const u64 caching : {u64{0}, u64{0x80}}) {
            for (const bool late : {false, true}) {
                for (unsigned step = 0; step < 6; ++step) {
                    for (unsigned n = 1; n < 12; ++n) {
                        CAPTURE(Wide::atomic, caching, late, step, n);
                        scene<Wide> s{caching};
                        s.hardware->fails_late = late;
                        s.hardware->hammer.keeps = true;
                        const auto first = old_domain.with_device_tlb().with_pasids();
                        if (step > 0) {
                            REQUIRE(s.root.attach(nic, first, s.to));
                        }
                        if (step == 4) {
                            REQUIRE(s.root.attach_pasid(nic, 9, both_stages, s.to));
                        }
                        const auto operation = [&] {
                            switch (step) {
                            case 0: return s.root.attach(nic, first, s.to);
                            case 1: return s.root.replace(nic, new_domain.with_pasids(), s.to);
                            case 2:
                                return s.root.replace(
                                    nic, new_domain.with_device_tlb().with_pasids(), s.to);
                            case 3: return s.root.attach_pasid(nic, 9, both_stages, s.to);
                            case 4: return s.root.detach(nic, s.to);
                            default: return s.root.replace(nic, old_domain, s.to);
                            }
                        };
                        s.hardware->fail_at = s.hardware->calls + n;
                        const u32 pasid = step == 3 ? 9 : machine::none;
                        if (step > 0) {
                            (void)s.hardware->request(nic_id, machine::none, true);
                        }
                        s.start(nic_id, pasid);
                        const auto done = operation();
                        (void)s.hardware->request(nic_id, pasid);
                        CHECK(s.stop(step == 3 ? nested_way : old_way,
                                     step == 3 ? nested_way : new_way) != ~0U);
                        s.hardware->fail_at = 0;
                        if (done) {
                            continue; // there are no n calls
                        }
                        ++failures;
                        // Finished by what finishes it: itself, or the end of it.
                        if (step == 0 || step == 3) {
                            CHECK(operation().error().code == errc::already_mapped);
                        }
                        if (step == 0) {
                            CHECK(s.root.translation_of(nic) == error{errc::busy, 7});
                        }
                        if ((step == 1 || step == 2 || step == 5) && n % 2 == 0) {
                            REQUIRE(operation());
                            CHECK(s.hardware->request(nic_id) == (step == 5 ? old_way : new_way));
                            CHECK((step == 2 || !s.hardware->device_keeps(nic_id)));
                        }
                        if (step == 3) {
                            CHECK(s.root.translation_of(nic, 9) == error{errc::busy, 10});
                            REQUIRE(s.root.detach_pasid(nic, 9, s.to));
                            CHECK(s.hardware->request(nic_id, 9).blocked == 5);
                            CHECK(s.hardware->request(nic_id) == old_way);
                        }
                        s.hardware->hammer.keeps = false;
                        REQUIRE(s.root.detach(nic, s.to));
                        CHECK(s.hardware->request(nic_id).blocked == 2);
                        CHECK(s.hardware->request(nic_id, 9).blocked == 2);
                        CHECK_FALSE(s.hardware->device_keeps(nic_id));
                        for (const auto& p : s.hardware->pasids) {
                            CHECK_FALSE(p.present);
                        }
                        REQUIRE(s.root.attach(nic, guest_tables, s.to));
                        CHECK(s.hardware->request(nic_id) == first_way);
                    }
                }
            }
        }
    };
    run(pt::no_wide_store{});
    run(wide{});
    CHECK(failures > 150);
}

TEST_CASE("a unit without scalable mode, or without what is asked, is not given it",
          "[vtd][scalable][rule 17]") {
    const auto attached = [](u64 missing, const translation& through, u64 cap = model_cap) {
        scene<pt::no_wide_store> s;
        s.hardware->cap = cap;
        s.hardware->ecap = model_ecap & ~missing;
        const std::size_t held = s.hardware->in_use;
        const auto done = s.root.attach(nic, through, s.to);
        CHECK((done || (s.hardware->in_use == held && s.hardware->journal.empty())));
        return done ? error{} : done.error();
    };
    constexpr error lacks{errc::not_supported, 0x10};
    constexpr error good{};
    const pt::vtd::second_stage::format flagged{{.levels = 4, .accessed_dirty = true}};
    const auto with_flags = translation::second_stage(hpa{0x10'0000}, flagged, 7);
    CHECK(attached(u64{1} << 43, old_domain) == lacks);
    CHECK(attached(u64{1} << 46, old_domain) == lacks);
    CHECK(attached(u64{1} << 46, guest_tables) == good);
    CHECK(attached(u64{1} << 46, both_stages) == lacks);
    CHECK(attached(u64{1} << 47, guest_tables) == lacks);
    CHECK(attached(u64{1} << 47, old_domain) == good);
    CHECK(attached(u64{1} << 26, both_stages) == lacks);
    CHECK(attached(u64{1} << 26, guest_tables) == good);
    CHECK(attached(u64{1} << 45, with_flags) == lacks);
    CHECK(attached(0, with_flags) == good);
    CHECK(attached(u64{1} << 40, old_domain.with_pasids()) == lacks);
    CHECK(attached(1U << 2, old_domain.with_device_tlb()) == lacks);
    CHECK(attached(1U << 6, nothing) == lacks);
    CHECK(attached(0, nothing.with_device_tlb()) == good);
    CHECK(attached(1U << 7, old_domain.with_page_snoop()) == lacks);
    CHECK(attached(0, old_domain.with_page_snoop()) == good);
    // First-stage roots may come from a guest.
    CHECK(attached(0, translation::nested(gpa{0x5008}, 4, hpa{0x40'0000}, four, 10)) ==
          error{errc::misaligned, 0x5008});
    CHECK(attached(0, translation::nested(gpa{~u64{0xFFF}}, 4, hpa{0x40'0000}, four, 10)) ==
          error{errc::out_of_range, ~u64{0xFFF}});
    CHECK(attached(0, translation::nested(gpa{(u64{1} << 48) - 4096}, 4, hpa{0x40'0000}, four,
                                          10)) == good);
    CHECK(attached(0, translation::nested(gpa{u64{1} << 48}, 4, hpa{0x40'0000}, four, 10)) ==
          error{errc::out_of_range, u64{1} << 48});
    CHECK(attached(0, translation::first_stage(hpa{0x5000}, 3, 9)) ==
          error{errc::not_supported, 3});
    CHECK(attached(0, translation::first_stage(hpa{0x5000}, 0x104, 9)) ==
          error{errc::not_supported, 255});
    CHECK(attached(0, translation::first_stage(hpa{0x5000}, 5, 9)) ==
          error{errc::not_supported, 5});
    CHECK(attached(0, translation::first_stage(hpa{0x5000}, 5, 9), model_cap | u64{1} << 60) ==
          good);
}

} // namespace
