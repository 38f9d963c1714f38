// SPDX-License-Identifier: BSL-1.0
// A function's messages through interrupt remapping entries, on the model of a remapping unit: what
// arrives at which vector, from whom, and what is left when any step fails.
#include "../../vtd_model/rig.hpp"
#include "../vtd/domain_rig.hpp"

#include "../../paging_model/contract.hpp"

#include "pt/assign/remapped_interrupts.hpp"
#include "pt/assign/vector_pool.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::assign::host_vector_block;
using pt::assign::host_vectors;
using pt::assign::remapped_interrupts;
using pt::assign::vector_pool;
using pt::pci::interrupt_message;
using pt::vtd::interrupt_requester;

/// A machine with one unit, for the compiler.
template <class Unit>
struct one_unit {
    Unit* unit;

    template <class Operation>
    constexpr auto with_unit_of(const pt::vtd::requester&, Operation operation) {
        return operation(*unit);
    }
};

/// What the function does when it requests interrupt `vector` by MSI: it puts the number into the low
/// bits of the data.
template <class Hardware>
constexpr interrupt_outcome request(Hardware& hardware, std::uint16_t source,
                                    const interrupt_message& programmed, unsigned vector,
                                    unsigned vectors_log2 = 0) {
    const std::uint32_t numbered = (1U << vectors_log2) - 1;
    return hardware.interrupt(source, programmed.address,
                              (programmed.data & ~numbered) | (vector & numbered));
}

TEST_CASE("each vector of a function has an entry, which leads to a vector of the host",
          "[assign][interrupts]") {
    constexpr auto works = [](bool caching) {
        using hardware = fake_unit<12>;
        hardware machine;
        machine.cap |= caching ? cap_cm : 0;
        auto unit = driver(machine);
        bool ok = unit.start().has_value() && unit.start_interrupt_remapping().has_value();
        one_unit<unit_of<hardware>> vtd{&unit};
        host_vectors vectors{0x40, 0xFF};
        remapped_interrupts path{vtd, vector_pool{vectors, 0x17}};
        typename decltype(path)::block_type block;
        const pt::vtd::requester who{pt::pci::function_address{0, 0, 5, 0}};
        ok = ok && path.open(who, 4, block).has_value() &&
             block.vectors() == host_vector_block{0x40, 4};
        for (unsigned i = 0; i < 4; ++i) {
            const auto by_msi = request(machine, 0x28, path.msi(block, 2), i, 2);
            const auto by_msi_x = request(machine, 0x28, path.msi_x(block, i), 0);
            for (const interrupt_outcome& o : {by_msi, by_msi_x}) {
                ok = ok && o.delivered && o.remapped && o.vector == 0x40 + i &&
                     o.destination == 0x17 && o.delivery_mode == 0 && !o.level && !o.logical;
            }
            // Its neighbour, with the very same write.
            ok = ok && request(machine, 0x29, path.msi_x(block, i), 0).reason == 0x26;
        }
        ok = ok && request(machine, 0x28, path.msi(block, 0), 0).vector == 0x40;
        const interrupt_message first = path.msi_x(block, 0);
        ok = ok && path.close(who, block).has_value() && block.vectors().count == 0 &&
             !vectors.is_taken(0x40);
        ok = ok && request(machine, 0x28, first, 0).reason == 0x22;
        return ok && unit.stop().has_value() && unit.retire().has_value() &&
               machine.violations == 0;
    };
    STATIC_REQUIRE(works(false));
    REQUIRE(works(false));
    REQUIRE(works(true));
}

// ---- on a machine with three units

using pool_path = remapped_interrupts<rig::remapping, vector_pool<>>;
static_assert(pt::assign::interrupt_path<pool_path>);

void start_all(rig& m) {
    m.start();
    m.vtd->start_interrupt_remapping().value();
}
/// Whether none of the function's unit's 256 entries is in use.
bool has_all_entries(rig& m, pt::pci::function_address who) {
    return m.vtd
        ->with_unit_of(who,
                       [](auto& unit) -> pt::result<void> {
                           const auto all = unit.interrupts().allocate(256);
                           return all ? unit.interrupts().release(*all, unit) : all.error();
                       })
        .has_value();
}
bool has_all_vectors(const host_vectors& vectors) {
    for (unsigned v = 0; v < 256; ++v) {
        if (vectors.is_taken(static_cast<std::uint8_t>(v))) {
            return false;
        }
    }
    return true;
}

TEST_CASE("a number of vectors that is no power of two has no more of them than it has",
          "[assign][interrupts]") {
    const auto m = std::make_unique<rig>();
    start_all(*m);
    host_vectors vectors{0x40, 0x7F};
    pool_path path{*m->vtd, vector_pool{vectors, 3}};
    pool_path::block_type block;
    REQUIRE(path.open(nic, 5, block));
    CHECK(block.entries.size() == 8);
    const interrupt_message message = path.msi(block, 3);
    for (unsigned i = 0; i < 8; ++i) {
        const auto o = request(m->unit[1], nic.source_id(), message, i, 3);
        CHECK(o.delivered == (i < 5));
        CHECK((i < 5 ? o.vector == 0x40 + i : o.reason == 0x22));
    }
    CHECK_FALSE(vectors.is_taken(0x45));
    pool_path::block_type other;
    REQUIRE(path.open(disk, 2, other)); // behind the same unit
    CHECK(request(m->unit[1], disk.source_id(), path.msi_x(other, 1), 0).vector ==
          other.vectors()[1]);
    CHECK(request(m->unit[1], nic.source_id(), path.msi_x(other, 1), 0).reason == 0x26);
    CHECK(request(m->unit[1], disk.source_id(), path.msi_x(block, 1), 0).reason == 0x26);
    REQUIRE(path.close(disk, other));
    REQUIRE(path.close(nic, block));
    CHECK(path.close(nic, block));
    CHECK(has_all_vectors(vectors));
    CHECK(has_all_entries(*m, nic));
    CHECK(m->end());
}

TEST_CASE("behind a bridge to conventional PCI the VMM says whose messages they are",
          "[assign][interrupts]") {
    const auto m = std::make_unique<rig>();
    start_all(*m);
    host_vectors vectors{0x40, 0x7F};
    pool_path exact{*m->vtd, vector_pool{vectors, 3}};
    pool_path::block_type block;
    // The card's own source id is not what the unit sees: the bridge's, or device 0 of its bus.
    REQUIRE(exact.open(second_card, 1, block));
    CHECK(request(m->unit[0], 0x0200, exact.msi_x(block, 0), 0).reason == 0x26);
    REQUIRE(exact.close(second_card, block));

    pool_path path{*m->vtd, vector_pool{vectors, 3}, interrupt_requester::buses(2, 2)};
    REQUIRE(path.open(second_card, 2, block));
    CHECK(block.sender == interrupt_requester::buses(2, 2));
    CHECK(request(m->unit[0], 0x0200, path.msi_x(block, 1), 0).vector == 0x41);
    CHECK(request(m->unit[0], card.source_id(), path.msi_x(block, 1), 0).reason == 0x26);
    REQUIRE(path.close(second_card, block));

    pool_path nonsense{*m->vtd, vector_pool{vectors, 3}, interrupt_requester::buses(3, 2)};
    CHECK(nonsense.open(second_card, 2, block) == error{errc::out_of_range, 0x0302});
    CHECK(has_all_vectors(vectors));
    CHECK(has_all_entries(*m, card));
    CHECK(m->end());
}

TEST_CASE("opened once more, the function has the new vectors alone", "[assign][interrupts]") {
    const auto m = std::make_unique<rig>();
    start_all(*m);
    host_vectors vectors{0x40, 0x47};
    pool_path path{*m->vtd, vector_pool{vectors, 3}};
    pool_path::block_type block;
    REQUIRE(path.open(nic, 8, block)); // all there are
    const interrupt_message last = path.msi_x(block, 7);
    REQUIRE(path.open(nic, 1, block));
    CHECK(block.vectors() == host_vector_block{0x40, 1});
    CHECK(request(m->unit[1], nic.source_id(), last, 0).reason == 0x22);
    CHECK(request(m->unit[1], nic.source_id(), path.msi_x(block, 0), 0).vector == 0x40);
    REQUIRE(path.open(nic, 0, block));
    CHECK(block == pool_path::block_type{});
    CHECK(has_all_vectors(vectors));
    CHECK(has_all_entries(*m, nic));
    CHECK(m->end());
}

TEST_CASE("what cannot be opened leaves no vector and no entry taken", "[assign][interrupts]") {
    const auto m = std::make_unique<rig>();
    m->unit[2].ecap &= ~ecap_ir;
    m->start();
    host_vectors vectors{0x40, 0x7F};
    pool_path path{*m->vtd, vector_pool{vectors, 3}};
    pool_path::block_type block;
    // Off: a function could raise any vector by itself.
    CHECK(path.open(nic, 2, block) == error{errc::refused, GSTS});
    // Never: unit 2 does not do it.
    CHECK(path.open(far, 2, block) == error{errc::not_supported, ECAP});
    for (const auto behind : {0, 1}) {
        m->locks.armed = false;
        REQUIRE(m->driver[behind]->start_interrupt_remapping());
        m->locks.armed = true;
    }
    // Vectors.
    CHECK(path.open(nic, 65, block) == error{errc::out_of_range, 65});
    // Entries: 16 of 256 are left.
    std::vector<pt::vtd::interrupt_block> gone;
    for (const std::uint32_t count : {128U, 64U, 32U, 16U}) {
        gone.push_back(
            m->vtd->with_unit_of(nic, [&](auto& unit) { return unit.interrupts().allocate(count); })
                .value());
    }
    CHECK(path.open(nic, 17, block) == error{errc::busy, 32});
    CHECK(block == pool_path::block_type{});
    REQUIRE(path.open(nic, 16, block));
    REQUIRE(path.close(nic, block));
    // A processor that an entry of this table cannot name.
    pool_path elsewhere{*m->vtd, vector_pool{vectors, 0x100}};
    CHECK(elsewhere.open(nic, 2, block) == error{errc::out_of_range, 0x100});
    // A function that no unit serves.
    CHECK(path.open(pt::pci::function_address{7, 0, 1, 0}, 2, block).error().code == errc::absent);
    CHECK(block == pool_path::block_type{});
    CHECK(has_all_vectors(vectors));
    for (const pt::vtd::interrupt_block& one : gone) {
        REQUIRE(m->vtd->with_unit_of(
            nic, [&](auto& unit) { return unit.interrupts().release(one, unit); }));
    }
    CHECK(has_all_entries(*m, nic));
    CHECK(m->end());
}

/// Vectors some of which no device may raise.
struct partly_legal {
    int* given;
    pt::result<host_vector_block> allocate(std::uint16_t count) {
        ++*given;
        return host_vector_block{14, count};
    }
    void release(const host_vector_block&) { --*given; }
    std::uint32_t destination() { return 0; }
};

TEST_CASE("an entry that is refused leaves none", "[assign][interrupts]") {
    const auto m = std::make_unique<rig>();
    start_all(*m);
    int given = 0;
    remapped_interrupts path{*m->vtd, partly_legal{&given}};
    pool_path::block_type block;
    CHECK(path.open(nic, 4, block) == error{errc::out_of_range, 14});
    CHECK(given == 0);
    CHECK(block == pool_path::block_type{});
    CHECK(has_all_entries(*m, nic));
    CHECK(m->end());
}

enum class failure : std::uint8_t { stall, refusal, vanishing };

void break_at(remapping_unit& unit, failure what, unsigned point) {
    switch (what) {
    case failure::stall: unit.stall_at = unit.orders + point; break;
    case failure::refusal: unit.refuse_at = unit.orders + point; break;
    case failure::vanishing: unit.vanish_at = unit.accesses + point; break;
    }
}

TEST_CASE(
    "a unit that fails anywhere in open() lets nothing through, and all comes back by close()",
    "[assign][interrupts][failing]") {
    for (const bool caching : {false, true}) {
        for (const failure how : {failure::stall, failure::refusal, failure::vanishing}) {
            bool failed = true;
            unsigned failures = 0;
            for (unsigned point = 1; failed; ++point) {
                CAPTURE(caching, static_cast<int>(how), point);
                const auto m = std::make_unique<rig>();
                m->unit[1].cap |= caching ? cap_cm : 0;
                start_all(*m);
                host_vectors vectors{0x40, 0x43};
                pool_path path{*m->vtd, vector_pool{vectors, 3}};
                pool_path::block_type block;
                break_at(m->unit[1], how, point);
                const auto opened = path.open(nic, 4, block);
                failed = !opened;
                if (failed) {
                    ++failures;
                    CHECK((opened.error().code == errc::time_out ||
                           opened.error().code == errc::hardware_fault ||
                           opened.error().code == errc::absent ||
                           opened.error().code == errc::refused)); // GSTS of one that has gone
                    for (std::uint32_t index = 0; index < 256; ++index) {
                        m->locks.armed = false;
                        CHECK_FALSE(m->driver[1]
                                        ->interrupts()
                                        .entry({static_cast<std::uint16_t>(index)})
                                        .present());
                        m->locks.armed = true;
                    }
                    // Either all is back, or all is in the block, and nobody else gets the vectors.
                    CHECK(has_all_vectors(vectors) == (block.vectors().count == 0));
                    if (block.vectors().count != 0) {
                        CHECK(block.vectors() == host_vector_block{0x40, 4});
                        CHECK_FALSE(vector_pool{vectors, 0}.allocate(1));
                    }
                }
                repair(m->unit[1]);
                if (failed && point % 2 == 0) { // or simply once more
                    REQUIRE(path.open(nic, 4, block));
                    CHECK(request(m->unit[1], nic.source_id(), path.msi_x(block, 3), 0).vector ==
                          0x43);
                }
                REQUIRE(path.close(nic, block));
                CHECK(block == pool_path::block_type{});
                CHECK(has_all_vectors(vectors));
                CHECK(has_all_entries(*m, nic));
                CHECK(m->end());
                REQUIRE(point < 200);
            }
            CHECK(failures > 3);
        }
    }
}

TEST_CASE("a unit that fails anywhere in close() keeps vectors and entries until it answers",
          "[assign][interrupts][failing]") {
    for (const failure how : {failure::stall, failure::refusal, failure::vanishing}) {
        bool failed = true;
        unsigned failures = 0;
        for (unsigned point = 1; failed; ++point) {
            CAPTURE(static_cast<int>(how), point);
            const auto m = std::make_unique<rig>();
            start_all(*m);
            host_vectors vectors{0x40, 0x43};
            pool_path path{*m->vtd, vector_pool{vectors, 3}};
            pool_path::block_type block;
            REQUIRE(path.open(nic, 4, block));
            const interrupt_message first = path.msi_x(block, 0);
            REQUIRE(request(m->unit[1], nic.source_id(), first, 0).vector == 0x40); // cached now
            break_at(m->unit[1], how, point);
            failed = !path.close(nic, block);
            if (failed) {
                ++failures;
                CHECK(block.vectors() == host_vector_block{0x40, 4});
                CHECK_FALSE(vector_pool{vectors, 0}.allocate(1));
            }
            repair(m->unit[1]);
            REQUIRE(path.close(nic, block));
            CHECK(request(m->unit[1], nic.source_id(), first, 0).reason == 0x22);
            CHECK(has_all_vectors(vectors));
            CHECK(has_all_entries(*m, nic));
            CHECK(m->end());
            REQUIRE(point < 200);
        }
        CHECK(failures >= 1);
    }
}

TEST_CASE("messages for vectors that the block does not have are the programmer's error",
          "[assign][interrupts]") {
    using paging_model::breaks_contract;
    const auto m = std::make_unique<rig>();
    start_all(*m);
    host_vectors vectors{0x40, 0x43};
    pool_path path{*m->vtd, vector_pool{vectors, 3}};
    pool_path::block_type block;
    CHECK(breaks_contract([&] { static_cast<void>(path.msi(block, 0)); }));
    REQUIRE(path.open(nic, 3, block)); // and four entries
    CHECK(breaks_contract([&] { static_cast<void>(path.msi(block, 3)); }));
    CHECK(breaks_contract([&] { static_cast<void>(path.msi_x(block, 3)); }));
    CHECK_FALSE(breaks_contract([&] { static_cast<void>(path.msi(block, 2)); }));
    REQUIRE(path.close(nic, block));
    CHECK(m->end());
}

} // namespace
