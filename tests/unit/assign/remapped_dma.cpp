// SPDX-License-Identifier: BSL-1.0
// A guest's devices behind VT-d, on the model of a remapping unit: what a request reaches, and what
// is left of each change when the unit fails in it.
#include "../vtd/domain_rig.hpp"

#include "pt/assign/remapped_dma.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::gpa;
using pt::hpa;
using pt::range;
using pt::assign::is_owed;
using pt::assign::remapped_dma;

using dma_type = remapped_dma<rig::domain>;
static_assert(pt::assign::dma_path<dma_type>);
static_assert(dma_type::isolates);
static_assert(pt::assign::dma_path<remapped_dma<rig::locked_domain>>);

constexpr range<gpa> memory(std::uint64_t first, std::uint64_t page_count = 1) {
    return {gpa{first}, page_count * 4096};
}

TEST_CASE("what is mapped is reached by the guest's functions, and nothing else, at compile time",
          "[assign][dma]") {
    constexpr auto works = [] {
        using hardware = fake_unit<16>;
        using policies = pt::vtd::policies<registers<hardware>, fake_clock<hardware>,
                                           frames<hardware>, publisher<hardware>>;
        using unit = pt::vtd::unit<policies>;
        using machine = pt::vtd::remapping<policies, pt::pci::archetype::bridge_bus_numbers, 64>;
        hardware fake;
        fake.latency = 0;
        const auto bytes = dmar_builder{}.drhd(0, 1, 0xFED9'0000).end().table();
        const auto table = pt::vtd::dmar::read(bytes.data(), bytes.size());
        const policies chosen{{&fake}, {&fake}, {&fake}};
        auto taken = unit::take(chosen, {&fake}, *table->each<pt::vtd::drhd>().begin(),
                                {.invalidation = pt::vtd::invalidation_interface::registers});
        unit driver{std::move(*taken)};
        machine vtd{chosen, *table, {}};
        bool right = vtd.add(driver) && vtd.start();
        {
            pt::vtd::domain<machine> guest{vtd, *vtd.limits(39)};
            remapped_dma dma{guest, vtd};
            typename decltype(dma)::attachment_type node{pt::pci::function_address{0, 0, 5, 0}};
            right = right && dma.map(memory(0x1000), hpa{0x10'0000}) && dma.attach(node);
            right = right && fake.dma(0x28, 0x1234, true).to == 0x10'0234;
            right = right && fake.dma(0x28, 0x2234, true).reason == 5;
            right = right && dma.unmap(memory(0x1000)) && fake.dma(0x28, 0x1234, true).reason == 5;
            right = right && dma.settle() && dma.block(node) && dma.release(node);
            right = right && fake.dma(0x28, 0x1234, true).reason == 2;
            right = right && guest.retire();
        }
        right = right && vtd.stop() && vtd.retire() && driver.retire();
        return right && fake.in_use == 0 && fake.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

/// A guest, and what it has.
struct guest_of {
    rig::domain domain;
    dma_type dma;

    explicit guest_of(rig& m) : domain{*m.vtd, m.vtd->limits(40).value()}, dma{domain, *m.vtd} {}

    [[nodiscard]] bool maps(std::uint64_t address) const {
        return domain.tables().translate(pt::iova{address}).has_value();
    }
};

TEST_CASE("a function comes, is blocked, and goes; saying it twice changes nothing",
          "[assign][dma]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guest_of a{*m};
    guest_of b{*m};
    dma_type::attachment_type node{nic};
    REQUIRE(a.dma.map(memory(0x1000, 4), hpa{memory_of(0)}));
    REQUIRE(b.dma.map(memory(0x1000, 4), hpa{memory_of(1)}));
    for (int twice = 0; twice < 2; ++twice) {
        REQUIRE(a.dma.attach(node));
        CHECK(m->dma(1, nic, 0x1234).to == memory_of(0, 0x234));
        CHECK(m->dma(1, nic, 0x1234, false).to == memory_of(0, 0x234));
    }
    for (int twice = 0; twice < 2; ++twice) {
        REQUIRE(a.dma.block(node));
        CHECK_FALSE(m->dma(1, nic, 0x1234).reached);
        CHECK(node.attached());
    }
    REQUIRE(b.dma.attach(node));
    CHECK(m->dma(1, nic, 0x1234).to == memory_of(1, 0x234));
    REQUIRE(a.dma.attach(node)); // and moves
    CHECK(m->dma(1, nic, 0x1234).to == memory_of(0, 0x234));
    for (int twice = 0; twice < 2; ++twice) {
        REQUIRE(a.dma.release(node));
        CHECK_FALSE(node.attached());
        CHECK_FALSE(m->dma(1, nic, 0x1234).reached);
    }
    REQUIRE(a.dma.block(node)); // one that nobody had yet
    CHECK_FALSE(m->dma(1, nic, 0x1234).reached);
    REQUIRE(a.dma.release(node));
    REQUIRE(a.domain.retire());
    REQUIRE(b.domain.retire());
    CHECK(m->end());
}

TEST_CASE("one source id is of one guest: another attachment of it is refused", "[assign][dma]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guest_of a{*m};
    guest_of b{*m};
    // Two cards on the conventional bus 2 send everything as device 0 of it.
    constexpr pt::pci::function_address bridged{0, 2, 0, 0};
    dma_type::attachment_type first{bridged};
    dma_type::attachment_type second{bridged};
    REQUIRE(a.dma.map(memory(0x1000), hpa{memory_of(0)}));
    REQUIRE(b.dma.map(memory(0x1000), hpa{memory_of(1)}));
    REQUIRE(a.dma.attach(first));
    for (const pt::result<void>& other :
         {b.dma.attach(second), a.dma.attach(second), b.dma.block(second)}) {
        CHECK(other == error{errc::refused, 0x0200});
        CHECK_FALSE(second.attached());
        CHECK(m->dma(0, bridged, 0x1234).to == memory_of(0, 0x234));
    }
    CHECK(b.dma.release(second));
    CHECK(m->dma(0, bridged, 0x1234).to == memory_of(0, 0x234));
    // In the quarantine it is somebody's, too.
    REQUIRE(a.dma.block(first));
    CHECK(b.dma.attach(second) == error{errc::refused, 0x0200});
    CHECK_FALSE(m->dma(0, bridged, 0x1234).reached);
    REQUIRE(a.dma.release(first));
    REQUIRE(b.dma.attach(second));
    CHECK(m->dma(0, bridged, 0x1234).to == memory_of(1, 0x234));
    REQUIRE(b.dma.release(second));
    REQUIRE(a.domain.retire());
    REQUIRE(b.domain.retire());
    CHECK(m->end());
}

TEST_CASE("memory that firmware reserved for a function decides whether it can be attached",
          "[assign][dma]") {
    auto table = machine_table();
    table.rmrr(0, 0x7B80'0000, 0x7B80'0FFF).scope(1, 0, 0, {5, 0}).end();
    const auto m = std::make_unique<rig>(table);
    m->start();
    rig::domain domain{*m->vtd, m->vtd->limits(40).value()};
    dma_type strict{domain, *m->vtd};
    dma_type lenient{domain, *m->vtd, pt::vtd::reserved_memory::ignored};
    dma_type::attachment_type node{nic};
    REQUIRE(strict.map(memory(0x1000), hpa{memory_of(0)}));
    CHECK(strict.attach(node) == error{errc::refused, 0x7B80'0000});
    CHECK_FALSE(node.attached());
    CHECK_FALSE(m->dma(1, nic, 0x1000).reached);
    REQUIRE(lenient.attach(node));
    CHECK(m->dma(1, nic, 0x1000).to == memory_of(0));
    CHECK_FALSE(m->dma(1, nic, 0x7B80'0000).reached);
    REQUIRE(strict.release(node));
    REQUIRE(domain.retire());
    CHECK(m->end());
}

TEST_CASE("what the tables refuse changes nothing, and nothing is owed", "[assign][dma]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guest_of a{*m};
    dma_type::attachment_type node{nic};
    REQUIRE(a.dma.attach(node));
    REQUIRE(a.dma.map(memory(0x1000, 2), hpa{memory_of(0)}));
    const auto is = [&](const pt::result<void>& done, errc code) {
        return !done && done.error().code == code && !is_owed(code) && a.maps(0x1000) &&
               a.maps(0x2000) && !a.maps(0x3000) && !a.maps(0xFEE0'0000) && a.dma.settle() &&
               m->dma(1, nic, 0x2234).to == memory_of(0, 0x1234);
    };
    CHECK(is(a.dma.map(memory(0x2000, 2), hpa{memory_of(1)}), errc::already_mapped));
    CHECK(is(a.dma.map({gpa{0x3000}, 0x800}, hpa{memory_of(1)}), errc::misaligned));
    CHECK(is(a.dma.map(memory(0xFEDF'F000, 2), hpa{memory_of(1)}),
             errc::reserved_address)); // rule 19
    CHECK(is(a.dma.map(memory(std::uint64_t{1} << 48), hpa{memory_of(1)}), errc::out_of_range));
    CHECK(is(a.dma.unmap(memory(std::uint64_t{1} << 48)), errc::out_of_range));
    CHECK(is(a.dma.unmap({gpa{0x1000}, 0x1800}), errc::misaligned));
    m->memory.limit = m->memory.in_use;
    CHECK(is(a.dma.map(memory(0x4000'0000), hpa{memory_of(1)}), errc::out_of_frames));
    m->memory.limit = rig::frame_count;
    REQUIRE(a.dma.release(node));
    REQUIRE(a.domain.retire());
    CHECK(m->end());
}

TEST_CASE("a function that no unit serves stays out", "[assign][dma]") {
    const auto m = std::make_unique<rig>();
    m->start();
    guest_of a{*m};
    dma_type::attachment_type node{pt::pci::function_address{7, 0, 1, 0}};
    CHECK(a.dma.attach(node).error().code == errc::absent);
    CHECK(a.dma.block(node).error().code == errc::absent);
    CHECK_FALSE(node.attached());
    CHECK(a.dma.release(node));
    REQUIRE(a.domain.retire());
    CHECK(m->end());
}

// ---- a unit that fails

enum class failure : std::uint8_t { stall, refusal, vanishing };
enum class change : std::uint8_t { map, unmap, attach, block, release };

void break_at(remapping_unit& unit, failure what, unsigned point) {
    switch (what) {
    case failure::stall: unit.stall_at = unit.orders + point; break;
    case failure::refusal: unit.refuse_at = unit.orders + point; break;
    case failure::vanishing: unit.vanish_at = unit.accesses + point; break;
    }
}

/// One change that fails at one point; whether anything failed.
bool fails(change what, failure how, bool caching, unsigned point) {
    const auto m = std::make_unique<rig>();
    m->unit[1].cap |= caching ? cap_cm : 0;
    m->start();
    guest_of a{*m};
    dma_type::attachment_type node{nic};
    a.dma.map(memory(0x1000), hpa{memory_of(0)}).value();
    if (what != change::attach) {
        a.dma.attach(node).value();
        CHECK(m->dma(1, nic, 0x1234).reached); // and is in the unit's cache
        CHECK_FALSE(m->dma(1, nic, 0x5234).reached);
    }
    break_at(m->unit[1], how, point);
    pt::result<void> done{};
    const auto run = [&] {
        switch (what) {
        case change::map: return a.dma.map(memory(0x5000, 2), hpa{memory_of(0, 0x4000)});
        case change::unmap: return a.dma.unmap(memory(0x1000));
        case change::attach: return a.dma.attach(node);
        case change::block: return a.dma.block(node);
        case change::release: break;
        }
        return a.dma.release(node);
    };
    done = run();
    const bool failed = !done;
    if (failed) {
        CHECK(is_owed(done.error().code));
        // As the interface says it: of the tables at once, of the unit when it answers.
        CHECK_FALSE(a.maps(0x5000));
        CHECK(a.maps(0x1000) == (what != change::unmap));
        repair(m->unit[1]);
        if (what == change::map || what == change::unmap) {
            REQUIRE(a.dma.settle());
            CHECK_FALSE(m->dma(1, nic, 0x5234).reached);
            CHECK(m->dma(1, nic, 0x1234).reached == (what == change::map));
        }
        if (what != change::unmap) {
            REQUIRE(run());
        }
    }
    repair(m->unit[1]);
    switch (what) {
    case change::map: CHECK(m->dma(1, nic, 0x5234).to == memory_of(0, 0x4234)); break;
    case change::attach: CHECK(m->dma(1, nic, 0x1234).to == memory_of(0, 0x234)); break;
    default: CHECK_FALSE(m->dma(1, nic, 0x1234).reached); break;
    }
    CHECK(a.dma.release(node));
    CHECK(a.domain.retire());
    CHECK(m->end());
    return failed;
}

TEST_CASE("a unit that fails anywhere in a change is owed it, and the rest is as it was said to be",
          "[assign][dma][failing]") {
    for (const change what :
         {change::map, change::unmap, change::attach, change::block, change::release}) {
        for (const bool caching : {false, true}) {
            for (const failure how : {failure::stall, failure::refusal, failure::vanishing}) {
                unsigned point = 1;
                for (bool failed = true; failed && point < 100; ++point) {
                    CAPTURE(static_cast<int>(what), caching, static_cast<int>(how), point);
                    failed = fails(what, how, caching, point);
                }
                CHECK(point < 100);
                // A unit that caches nothing of what is absent is not asked when memory appears.
                const bool asks = caching || what != change::map;
                CHECK((point > 2) == asks);
            }
        }
    }
}

} // namespace
