// SPDX-License-Identifier: BSL-1.0
// Domain ids: how many there are, which of them may be used, and that none has two owners.
#include "domain_rig.hpp"

#include "../../paging_model/contract.hpp"
#include "pt/vtd/domain_ids.hpp"

#include <catch2/catch_test_macros.hpp>

#include <random>
#include <set>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::vtd::capability;
using pt::vtd::domain_id_set;

TEST_CASE("the number of domains is 16 to 65536 by ND, whose value 7 is reserved",
          "[vtd][domain]") {
    constexpr auto works = [] {
        const std::uint32_t counts[] = {16, 64, 256, 1024, 4096, 16384, 65536};
        for (std::uint64_t nd = 0; nd < 7; ++nd) {
            // Whatever the other bits are.
            if (pt::vtd::domain_id_count(capability{nd}) != counts[nd] ||
                pt::vtd::domain_id_count(capability{~std::uint64_t{7} | nd}) != counts[nd]) {
                return false;
            }
        }
        return pt::vtd::domain_id_count(capability{7}) <= 65536; // no id is beyond 16 bits
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("ids are those that every unit has, and 0 is not with caching mode on one of them",
          "[vtd][domain][rule 15]") {
    constexpr auto works = [] {
        domain_id_set<1000> ids;
        ids.restrict_to(capability{2});          // 256
        ids.restrict_to(capability{0 | cap_cm}); // 16, and caching mode
        ids.restrict_to(capability{6});          // 65536 take nothing back
        bool seen[16]{};
        for (int n = 0; n < 15; ++n) {
            const auto id = ids.allocate();
            if (!id || *id == 0 || *id >= 16 || seen[*id]) {
                return false;
            }
            seen[*id] = true;
        }
        const bool full = ids.allocate() == error{errc::busy, 16};
        ids.release(9);
        return full && ids.allocate().value() == 9 && !ids.allocate();
    };
    static_assert(works());
    REQUIRE(works());

    constexpr auto small =
        [] { // the capacity counts where it is less, and need be no multiple of 64
            domain_id_set<70> ids;
            ids.restrict_to(capability{6});
            unsigned n = 0;
            while (ids.allocate()) {
                ++n;
            }
            return n == 70 && ids.allocate() == error{errc::busy, 70};
        };
    static_assert(small());
    REQUIRE(small());
}

TEST_CASE("whatever is taken and given back, no id has two owners", "[vtd][domain]") {
    domain_id_set<300> ids;
    ids.restrict_to(capability{2}); // 256 of them
    std::set<std::uint16_t> out;
    std::mt19937 random{5};
    unsigned refusals = 0;
    for (int step = 0; step < 20000; ++step) {
        // It tends to be full for a while, then to be empty.
        if (random() % 100 < (step / 1000 % 2 == 0 ? 70U : 30U)) {
            const auto id = ids.allocate();
            REQUIRE(id.has_value() == (out.size() < 256));
            if (id) {
                REQUIRE(*id < 256);
                REQUIRE(out.insert(*id).second);
            } else {
                ++refusals;
            }
        } else if (!out.empty()) {
            auto which = out.begin();
            std::advance(which, random() % out.size());
            ids.release(*which);
            out.erase(which);
        }
    }
    CHECK(refusals > 100);
    CHECK(out.size() < 256);
}

TEST_CASE("an id is given back only by who has it", "[vtd][domain]") {
    using paging_model::breaks_contract;
    CHECK(breaks_contract([] {
        domain_id_set<100> ids;
        ids.release(3);
    }));
    CHECK(breaks_contract([] {
        domain_id_set<100> ids;
        static_cast<void>(ids.allocate());
        ids.release(200);
    }));
    CHECK_FALSE(breaks_contract([] {
        domain_id_set<100> ids;
        ids.release(*ids.allocate());
    }));
}

// ---- in a machine ------------------------------------------------------------------------------

TEST_CASE("no two domains of a machine have one id, and one is reused only after retire()",
          "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.cap &= ~std::uint64_t{7}; // 16 domains
    }
    m->unit[2].cap |= cap_cm; // one of the units reserves 0
    m->start();
    // 15 ids, of which the quarantine has one.
    std::vector<std::unique_ptr<rig::domain>> domains;
    std::vector<std::unique_ptr<rig::attachment>> nodes;
    std::set<unsigned> ids;
    const auto limits = m->vtd->limits(40).value();
    for (unsigned n = 0; n < 14; ++n) {
        domains.push_back(std::make_unique<rig::domain>(*m->vtd, limits));
        nodes.push_back(std::make_unique<rig::attachment>(
            pt::pci::function_address{0, 0, static_cast<std::uint8_t>(n + 4), 0}));
        REQUIRE(domains.back()->attach(*nodes.back()));
        ids.insert(entry_of(*m, 1, nodes.back()->who().function()).domain_id());
    }
    rig::attachment strange{pt::pci::function_address{0, 0, 0x1E, 0}};
    REQUIRE(m->vtd->quarantine(strange));
    ids.insert(entry_of(*m, 1, strange.who().function()).domain_id());
    CHECK(ids.size() == 15);
    CHECK(*ids.begin() == 1);
    CHECK(*ids.rbegin() == 15);

    rig::domain one_more{*m->vtd, limits};
    rig::attachment waiting{far};
    CHECK(one_more.attach(waiting) == error{errc::busy, 16});
    CHECK_FALSE(waiting.attached());
    rig::attachment through{disk};
    pt::vtd::pass_through_domain all{*m->vtd};
    CHECK(all.attach(through) == error{errc::busy, 16});

    // A function that was released, even all of them, frees no id; retire() does, and only when
    // empty.
    CHECK(domains[6]->retire() == error{errc::busy, nodes[6]->who().function().source_id()});
    REQUIRE(m->vtd->release(*nodes[6]));
    CHECK(one_more.attach(waiting) == error{errc::busy, 16});
    const auto freed = [&] {
        std::set<unsigned> used;
        for (std::size_t n = 0; n < 14; ++n) {
            used.insert(entry_of(*m, 1, nodes[n]->who().function()).domain_id());
        }
        used.insert(entry_of(*m, 1, strange.who().function()).domain_id());
        for (unsigned id = 1;; ++id) {
            if (!used.contains(id)) {
                return id;
            }
        }
    }();
    REQUIRE(domains[6]->retire());
    REQUIRE(one_more.attach(waiting));
    CHECK(entry_of(*m, 2, far).domain_id() == freed);
    // It may be used again, but with another id, of which there is none.
    CHECK(domains[6]->attach(*nodes[6]) == error{errc::busy, 16});

    for (std::size_t n = 0; n < 14; ++n) {
        REQUIRE(m->vtd->release(*nodes[n]));
        REQUIRE(domains[n]->retire());
    }
    REQUIRE(m->vtd->release(waiting));
    REQUIRE(one_more.retire());
    REQUIRE(all.retire());
    REQUIRE(m->vtd->release(strange));
    CHECK(m->end());
}

TEST_CASE("a domain that failed to get what it needs takes no id with it", "[vtd][domain]") {
    const auto m = std::make_unique<rig>();
    for (auto& one : m->unit) {
        one.cap &= ~std::uint64_t{7};
    }
    m->start();
    for (int n = 0; n < 40; ++n) { // more often than there are ids
        rig::domain guest{*m->vtd, m->vtd->limits(40).value()};
        rig::attachment node{n % 2 == 0 ? nic : card};
        m->memory.limit = m->memory.in_use + static_cast<std::size_t>(n % 2); // no frame, or one
        CHECK(guest.attach(node) == error{errc::out_of_frames, 0});
        CHECK_FALSE(node.attached());
        m->memory.limit = rig::frame_count;
        REQUIRE(guest.retire());
    }
    CHECK(m->end());
}

} // namespace
