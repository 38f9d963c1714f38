// SPDX-License-Identifier: BSL-1.0
#include "../../paging_model/contract.hpp"
#include "../../vtd_model/rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>
#include <utility>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::pci::function_address;
using pt::vtd::context_entry;
using pt::vtd::context_entry_low;

using hardware = fake_unit<16>;
using root_table = root_table_of<hardware>;
constexpr std::uint32_t IOTLB = 0xF8;

constexpr function_address nic{0, 1, 5, 2}; // source id 0x012A
constexpr std::uint16_t nic_id = 0x012A;

// What a context entry for a table at `root`, 4 levels (AW 2), domain 7 must look like.
constexpr std::uint64_t low_of(std::uint64_t root) { return root | 1; }
constexpr std::uint64_t high_7 = 0x702;

constexpr std::uint64_t context_device(std::uint16_t source_id, std::uint16_t domain_id) {
    return 0xE000'0000'0000'0000 | std::uint64_t{source_id} << 16 | domain_id;
}
constexpr std::uint64_t iotlb_domain(std::uint16_t domain_id) {
    return 0xA003'0000'0000'0000 | std::uint64_t{domain_id} << 32;
}

/// A unit that translates with an empty root table, and a domain 7 where iova 0x1000 leads to
/// 0x10'0000.
template <class Hardware>
struct scene {
    Hardware& machine;
    unit_of<Hardware> unit = driver(machine);
    root_table_of<Hardware> root =
        std::move(*root_table_of<Hardware>::create({&machine}, {&machine}));
    domain_of<Hardware> domain{{&machine}, format_of(machine), {&machine}};
    invalidator_of<Hardware> invalidator{unit, 7};
    bool ready = false;

    explicit constexpr scene(Hardware& hardware_model) : machine{hardware_model} {
        auto ticket =
            domain.map({iova{0x1000}, 0x1000}, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
        ready = ticket && ticket->redeem(invalidator) && unit.set_root_table(root.root()) &&
                unit.enable_translation();
        machine.forget_journal();
    }
    constexpr context_entry entry() {
        return context_entry::translated(domain.root().value(), domain.format(), 7);
    }
    /// Everything goes home; whether that is all.
    constexpr bool leave() {
        machine.hammer.runs = false;
        bool ok = unit.disable_translation() && root.retire(unit);
        auto owed = domain.retire();
        ok = owed.redeem(invalidator) && ok;
        return ok && machine.in_use == 0 && machine.violations == 0;
    }
};

TEST_CASE("attach writes the half with the present bit last, then invalidates", "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        const std::uint64_t top = s.domain.root().value().raw;
        bool ok = s.ready && s.root.attach(nic, s.entry(), s.unit);
        const std::uint64_t root_slot = s.root.root().raw + 1 * 16;
        const std::uint64_t context =
            machine.stored[(root_slot - hardware::base) / 8] & ~std::uint64_t{1};
        const std::uint64_t slot = context + 0x2A * 16;
        const event expected[] = {{event::kind::table, context, 0},
                                  store(root_slot, context | 1),
                                  store(slot + 8, high_7),
                                  store(slot, low_of(top)),
                                  order64(CCMD, context_device(nic_id, 0)),
                                  order64(IOTLB, iotlb_domain(7))};
        ok = ok && happened(machine, expected);
        const outcome o = machine.dma(nic_id, 0x1234, true);
        ok = ok && o.reached && o.translated && o.to == 0x10'0234;
        ok = ok && machine.dma(0x0128, 0x1234, true).reason == 0x2;
        ok = ok && machine.dma(0x002A, 0x1234, true).reason == 0x1;
        ok = ok && s.root.entry(nic) == s.entry() && s.root.entry({0, 0, 0, 0}) == context_entry{};
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("detach clears present, invalidates, and only then the rest", "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        const std::uint64_t top = s.domain.root().value().raw;
        bool ok = s.ready && s.root.attach(nic, s.entry(), s.unit) &&
                  machine.dma(nic_id, 0x1000, false).reached;
        const std::uint64_t slot = machine.journal[3].where;
        machine.forget_journal();
        ok = ok && s.root.detach(nic, s.unit);
        const event expected[] = {store(slot, top), order64(CCMD, context_device(nic_id, 7)),
                                  order64(IOTLB, iotlb_domain(7)), store(slot, 0),
                                  store(slot + 8, 0)};
        ok = ok && happened(machine, expected) && machine.dma(nic_id, 0x1000, false).reason == 0x2;
        ok = ok && s.root.detach(nic, s.unit) == error{errc::not_mapped, nic_id};
        ok = ok && s.root.attach(nic, s.entry(), s.unit) &&
             machine.dma(nic_id, 0x1000, false).reached;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a device that never stops sees its domain or nothing, at every store",
          "[vtd][rule 14]") {
    for (const std::uint64_t variant : {std::uint64_t{0}, cap_cm, cap_rwbf, cap_cm | cap_rwbf}) {
        const auto machine = std::make_unique<hardware>();
        machine->cap |= variant;
        scene s{*machine};
        REQUIRE(s.ready);
        machine->hammer.source_id = nic_id;
        machine->hammer.address = 0x1008;
        machine->hammer.write = true;
        for (unsigned round = 0; round < 3; ++round) {
            machine->hammer.count = 0;
            machine->hammer.runs = true;
            REQUIRE(s.root.attach(nic, s.entry(), s.unit));
            CHECK(machine->dma(nic_id, 0x1008, true).to == 0x10'0008);
            REQUIRE(s.root.detach(nic, s.unit));
            CHECK(machine->dma(nic_id, 0x1008, true).reason == 0x2);
            machine->hammer.runs = false;
            REQUIRE(machine->hammer.count >= 8);
            for (std::size_t i = 0; i < machine->hammer.count; ++i) {
                const outcome& o = machine->hammer.seen[i];
                if (o.reached) {
                    CHECK((o.translated && o.to == 0x10'0008));
                } else {
                    CHECK((o.reason == 0x1 ||
                           o.reason == 0x2)); // never reserved bits or half an entry
                }
            }
        }
        CHECK(s.leave());
    }
}

TEST_CASE("with caching mode, what was cached of an absent entry is forgotten", "[vtd][rule 15]") {
    constexpr auto works = [] {
        hardware machine;
        machine.cap |= cap_cm;
        scene s{machine};
        bool ok = s.ready && machine.dma(nic_id, 0x1000, false).reason == 0x1;
        ok = ok && machine.cached_contexts() == 1;
        ok = ok && s.root.attach(nic, s.entry(), s.unit) &&
             machine.dma(nic_id, 0x1000, false).reached;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("what cannot be attached changes nothing", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    scene s{*machine};
    REQUIRE(s.ready);
    CHECK(s.root.attach({0, 1, 32, 0}, s.entry(), s.unit) == error{errc::out_of_range, 0x2000});
    CHECK(s.root.attach({0, 1, 0, 8}, s.entry(), s.unit) == error{errc::out_of_range, 0x8});
    CHECK(s.root.detach({0, 1, 255, 255}, s.unit) == error{errc::out_of_range, 0xFFFF});
    CHECK(s.root.entry({0, 1, 32, 0}) == context_entry{});
    context_entry absent = s.entry();
    absent.low = absent.low.with(context_entry_low::present(false));
    CHECK(s.root.attach(nic, absent, s.unit) == error{errc::not_supported, absent.low.raw});
    CHECK(s.root.detach(nic, s.unit) == error{errc::not_mapped, nic_id});
    machine->limit = machine->in_use;
    CHECK(s.root.attach(nic, s.entry(), s.unit).error().code == errc::out_of_frames);
    CHECK(machine->events == 0);
    machine->limit = 16;
    REQUIRE(s.root.attach(nic, s.entry(), s.unit));
    machine->forget_journal();
    context_entry other = context_entry::translated(hpa{0x5000}, format_of(*machine, 3), 9);
    CHECK(s.root.attach(nic, other, s.unit) == error{errc::already_mapped, nic_id});
    CHECK(machine->events == 0);
    CHECK(s.root.entry(nic) == s.entry());
    CHECK(s.leave());
}

TEST_CASE("an entry that the unit cannot take changes nothing and costs no frame",
          "[vtd][rule 15][rule 17]") {
    // Lacks 5 levels, pass-through and device TLBs, and has 256 domain ids.
    constexpr std::uint64_t cap = (qemu_cap & ~std::uint64_t{7}) | 2;
    constexpr std::uint64_t ecap = qemu_ecap & ~std::uint64_t{0x44};
    constexpr auto attached = [](std::uint64_t more_cap, std::uint64_t more_ecap,
                                 function_address who, std::uint64_t low_bits, unsigned width,
                                 std::uint16_t domain_id) {
        hardware machine;
        machine.cap = cap | more_cap;
        machine.ecap = ecap | more_ecap;
        scene s{machine};
        machine.forget_journal();
        const std::size_t held = machine.in_use;
        const context_entry entry{
            context_entry_low{s.domain.root().value().raw | low_bits},
            pt::vtd::context_entry_high{std::uint64_t{domain_id} << 8 | width}};
        const auto done = s.root.attach(who, entry, s.unit);
        const bool untouched =
            machine.events == 0 && machine.in_use == held && s.root.entry(who) == context_entry{};
        if (!s.leave() || untouched == done.has_value()) {
            return error{errc::none, 1}; // no error that anybody expects
        }
        if (done) {
            return error{};
        }
        // Where an entry is named, it is the one that was given.
        return done.error().code == errc::not_supported
                   ? error{errc::not_supported, done.error().where == entry.low.raw}
                   : done.error();
    };
    constexpr error good{};
    constexpr error not_supported{errc::not_supported, true};
    constexpr std::uint64_t translate = 0x1;
    constexpr std::uint64_t device_tlb = 0x5;
    constexpr std::uint64_t pass_through = 0x9;
    constexpr std::uint64_t reserved = 0xD;

    static_assert(attached(0, 0, nic, translate, 2, 7) == good);
    static_assert(attached(0, 0, nic, translate, 3, 7) == not_supported);
    CHECK(attached(0, 0, nic, translate, 2, 7) == good);
    // In another segment the unit has no say: a function with the same source id is not this one.
    CHECK(attached(0, 0, {1, 1, 5, 2}, translate, 2, 7) == error{errc::absent, 1});
    CHECK(attached(0, 0, {0xFFFF, 1, 5, 2}, translate, 2, 7) == error{errc::absent, 0xFFFF});
    CHECK(attached(0, 0, nic, translate, 2, 255) == good);
    CHECK(attached(0, 0, nic, translate, 2, 256) == error{errc::out_of_range, 256});
    CHECK(attached(0, 0, nic, translate, 2, 0xFFFF) == error{errc::out_of_range, 0xFFFF});
    CHECK(attached(0, 0, nic, translate, 2, 0) == good);
    CHECK(attached(cap_cm, 0, nic, translate, 2, 0) == error{errc::out_of_range, 0});
    CHECK(attached(cap_cm, 0, nic, translate, 2, 1) == good);
    CHECK(attached(0, 0, nic, translate, 1, 7) == good);
    for (const unsigned width : {0U, 3U, 4U, 5U, 6U, 7U}) {
        CHECK(attached(0, 0, nic, translate, width, 7) == not_supported);
    }
    CHECK(attached(0x0800, 0, nic, translate, 3, 7) == good);          // SAGAW has bit 3
    CHECK(attached(0x1100, 0, nic, translate, 0, 7) == not_supported); // 2 and 6 levels are not
    CHECK(attached(0x1100, 0, nic, translate, 4, 7) == not_supported); // ours even there
    CHECK(attached(0, 0, nic, device_tlb, 2, 7) == not_supported);
    CHECK(attached(0, 0x04, nic, device_tlb, 2, 7) == good);
    CHECK(attached(0, 0, nic, pass_through, 2, 7) == not_supported);
    CHECK(attached(0, 0x40, nic, pass_through, 2, 7) == good);
    CHECK(attached(0, 0x40, nic, pass_through, 1, 7) == not_supported); // not the largest
    CHECK(attached(0, 0x44, nic, reserved, 2, 7) == not_supported);
}

TEST_CASE("a unit accepts what the hardware would take, and nothing else", "[vtd][rule 17]") {
    using pt::vtd::context_entry_high;
    const auto hardware_takes = [](fake_unit<3>& machine, unit_of<fake_unit<3>>& unit,
                                   context_entry entry) {
        machine.published[512 + 2 * 0x28] = entry.low.raw;
        machine.published[512 + 2 * 0x28 + 1] = entry.high.raw;
        REQUIRE(unit.invalidate_context());
        REQUIRE(unit.invalidate_iotlb());
        machine.violation = nullptr;
        machine.violations = 0;
        return machine.dma(0x28, 0x1000, false).reason != 0x3 && machine.violations == 0;
    };
    unsigned taken = 0;
    unsigned refused = 0;
    for (std::uint64_t sagaw = 2; sagaw < 16; sagaw += 2) {
        for (const std::uint64_t nd : {0U, 2U, 6U, 7U}) {
            for (unsigned bits = 0; bits < 8; ++bits) {
                const auto machine = std::make_unique<fake_unit<3>>();
                machine->cap = (qemu_cap & ~std::uint64_t{0x1F07}) | sagaw << 8 | nd |
                               ((bits & 1) != 0 ? cap_cm : 0);
                machine->ecap = (qemu_ecap & ~std::uint64_t{0x44}) |
                                ((bits & 2) != 0 ? 0x40U : 0U) | ((bits & 4) != 0 ? 0x04U : 0U);
                // A root, a context table and an empty second-stage table, put there by hand.
                constexpr std::uint64_t base = fake_unit<3>::base;
                for (std::size_t i = 0; i < std::size_t{3} * 512; ++i) {
                    machine->published[i] = 0;
                }
                machine->published[0] = (base + 0x1000) | 1;
                machine->used[0] = machine->used[1] = machine->used[2] = true;
                auto unit = driver(*machine);
                REQUIRE(unit.set_root_table(hpa{base}));
                REQUIRE(unit.enable_translation());
                for (unsigned type = 0; type < 4; ++type) {
                    for (unsigned width = 0; width < 8; ++width) {
                        for (const unsigned id : {0U, 1U, 15U, 16U, 255U, 256U, 0xFFFFU}) {
                            const context_entry entry{
                                context_entry_low{(base + 0x2000) | type << 2 | 1},
                                context_entry_high{std::uint64_t{id} << 8 | width}};
                            const bool said = unit.accepts({0, 0, 5, 0}, entry).has_value();
                            if (said != hardware_takes(*machine, unit, entry)) {
                                FAIL("CAP " << machine->cap << ", ECAP " << machine->ecap
                                            << ", entry " << entry.low.raw << " "
                                            << entry.high.raw);
                            }
                            ++(said ? taken : refused);
                        }
                    }
                }
            }
        }
    }
    CHECK(taken > 1000);
    CHECK(refused > 1000);
}

/// docs/policies/context_invalidator.md: all units of a root table.
template <class Unit>
struct all_of {
    Unit* first;
    std::size_t count;

    template <class F>
    constexpr pt::result<void> each(F f) {
        for (std::size_t i = 0; i < count; ++i) {
            if (const pt::result<void> done = f(first[i]); !done) {
                return done;
            }
        }
        return {};
    }
    constexpr pt::result<void> accepts(function_address function, context_entry entry) {
        return each([&](Unit& u) { return u.accepts(function, entry); });
    }
    constexpr pt::result<void> invalidate_context() {
        return each([](Unit& u) { return u.invalidate_context(); });
    }
    constexpr pt::result<void> invalidate_context(std::uint16_t source_id,
                                                  std::uint16_t domain_id) {
        return each([&](Unit& u) { return u.invalidate_context(source_id, domain_id); });
    }
    constexpr pt::result<void> invalidate_iotlb() {
        return each([](Unit& u) { return u.invalidate_iotlb(); });
    }
    constexpr pt::result<void> invalidate_iotlb(std::uint16_t domain_id) {
        return each([&](Unit& u) { return u.invalidate_iotlb(domain_id); });
    }
};

TEST_CASE("a root table of several units takes what all of them take", "[vtd][rule 17]") {
    const auto machine = std::make_unique<hardware>();
    const auto weaker = std::make_unique<hardware>();
    weaker->cap = (qemu_cap & ~std::uint64_t{0x1F07}) | 0x0200; // 3 levels, 16 domain ids
    unit_of<hardware> units[] = {driver(*machine), driver(*weaker)};
    all_of<unit_of<hardware>> both{units, 2};
    auto root = root_table::create({machine.get()}, {machine.get()});
    const hpa somewhere{0x5000};
    const auto three = [&](std::uint16_t domain_id) {
        return context_entry::translated(somewhere, format_of(*weaker, 3), domain_id);
    };
    const auto four = context_entry::translated(somewhere, format_of(*machine, 4), 7);
    REQUIRE(units[0].accepts(nic, four));
    REQUIRE(units[0].accepts(nic, three(16)));
    machine->forget_journal();
    CHECK(root->attach(nic, four, both) == error{errc::not_supported, four.low.raw});
    CHECK(root->attach(nic, three(16), both) == error{errc::out_of_range, 16});
    CHECK(machine->events == 0);
    REQUIRE(root->attach(nic, three(15), both));
    CHECK((machine->orders == 2 && weaker->orders == 2)); // both were told
    REQUIRE(root->detach(nic, both));
    CHECK((machine->orders == 4 && weaker->orders == 4));
    CHECK(root->retire(both));
    CHECK(machine->in_use == 0);
    CHECK((machine->violation == nullptr && weaker->violation == nullptr));
}

TEST_CASE("functions and domains do not see each other", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    scene s{*machine};
    REQUIRE(s.ready);
    domain_of<hardware> second{{machine.get()}, format_of(*machine, 3), {machine.get()}};
    invalidator_of<hardware> second_invalidator{s.unit, 8};
    auto ticket = second.map({iova{0x1000}, 0x1000}, hpa{0x20'0000},
                             {.read = true, .write = false, .snoop = false});
    REQUIRE(ticket->redeem(second_invalidator));
    REQUIRE(s.root.attach({0, 0, 0, 0}, s.entry(), s.unit));
    REQUIRE(s.root.attach({0, 255, 31, 7},
                          context_entry::translated(second.root().value(), second.format(), 8),
                          s.unit));
    CHECK(machine->dma(0x0000, 0x1FFF, true).to == 0x10'0FFF);
    CHECK(machine->dma(0xFFFF, 0x1FFF, false).to == 0x20'0FFF);
    CHECK(machine->dma(0xFFFF, 0x1FFF, true).reason == 0x5);
    CHECK(machine->dma(0x00FF, 0x1FFF, true).reason == 0x2);
    // Detaching one leaves the other alone.
    REQUIRE(s.root.detach({0, 0, 0, 0}, s.unit));
    CHECK(machine->dma(0x0000, 0x1000, false).reason == 0x2);
    CHECK(machine->dma(0xFFFF, 0x1000, false).to == 0x20'0000);
    REQUIRE(s.root.detach({0, 255, 31, 7}, s.unit));
    auto owed = second.retire();
    CHECK(owed.redeem(second_invalidator));
    CHECK(s.leave());
}

// The invalidations of attach and detach are orders 1 and 2 after the journal was forgotten; with a
// write buffer, orders 1 to 4, of which 1 and 3 are the flushes.
TEST_CASE("an attach that fails leaves nothing open, and detach finishes it", "[vtd][rule 14]") {
    for (const bool refused : {false, true}) {
        for (const std::uint64_t variant : {std::uint64_t{0}, cap_cm, cap_rwbf}) {
            for (unsigned n = 1; n <= (variant == cap_rwbf ? 4U : 2U); ++n) {
                if (refused && variant == cap_rwbf && n % 2 == 1) {
                    continue; // a flush has no answer that could be a refusal
                }
                const auto machine = std::make_unique<hardware>();
                machine->cap |= variant;
                scene s{*machine};
                REQUIRE(s.ready);
                (refused ? machine->refuse_at : machine->stall_at) = machine->orders + n;
                // The device catches the entry while it is there.
                machine->hammer.source_id = nic_id;
                machine->hammer.address = 0x1000;
                machine->hammer.runs = true;
                const auto attached = s.root.attach(nic, s.entry(), s.unit);
                machine->hammer.runs = false;
                REQUIRE_FALSE(attached);
                CHECK(attached.error().code == (refused ? errc::hardware_fault : errc::time_out));
                CHECK_FALSE(s.root.entry(nic).low[context_entry_low::present]);
                const outcome meanwhile = machine->dma(nic_id, 0x1000, false);
                CHECK((!meanwhile.reached || meanwhile.to == 0x10'0000)); // never open
                CHECK(s.root.attach(nic, s.entry(), s.unit) == error{errc::already_mapped, nic_id});

                machine->recover();
                REQUIRE(s.root.detach(nic, s.unit));
                // With caching mode, that there was no context table may still be cached.
                const unsigned reason = machine->dma(nic_id, 0x1000, false).reason;
                CHECK((reason == 0x2 || (variant == cap_cm && reason == 0x1)));
                REQUIRE(s.root.attach(nic, s.entry(), s.unit));
                CHECK(machine->dma(nic_id, 0x1000, false).reached);
                CHECK(s.leave());
                CHECK(machine->violation == nullptr);
            }
        }
    }
}

TEST_CASE("a detach that fails is finished by the next one", "[vtd][rule 14]") {
    for (const bool refused : {false, true}) {
        for (unsigned n = 1; n <= 2; ++n) {
            const auto machine = std::make_unique<hardware>();
            scene s{*machine};
            REQUIRE(s.ready);
            REQUIRE(s.root.attach(nic, s.entry(), s.unit));
            REQUIRE(machine->dma(nic_id, 0x1000, true).reached);
            (refused ? machine->refuse_at : machine->stall_at) = machine->orders + n;
            const auto first = s.root.detach(nic, s.unit);
            CHECK(first ==
                  error{refused ? errc::hardware_fault : errc::time_out, n == 1 ? CCMD : IOTLB});
            CHECK_FALSE(s.root.entry(nic).low[context_entry_low::present]);
            CHECK(s.root.entry(nic).high ==
                  s.entry().high); // what has to be forgotten is still known
            if (!refused) {
                // Nothing is asked for while the last request is under way.
                const std::size_t before = machine->events;
                CHECK(s.root.detach(nic, s.unit).error().code == errc::time_out);
                for (std::size_t i = before; i < machine->events; ++i) {
                    CHECK((machine->journal[i].what != event::kind::write64 ||
                           machine->journal[i].where != (n == 1 ? CCMD : IOTLB)));
                }
            }
            machine->recover();
            REQUIRE(s.root.detach(nic, s.unit));
            CHECK(machine->dma(nic_id, 0x1000, true).reason == 0x2);
            CHECK(s.root.entry(nic) == context_entry{});
            CHECK(s.leave());
            CHECK(machine->violation == nullptr);
        }
    }
}

TEST_CASE("an answer of less than was asked for is no success", "[vtd][hostile]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    using operation = pt::result<void> (*)(unit_of<hardware>&);
    struct {
        operation run;
        unsigned asked;
        std::uint32_t where;
    } const all[] = {
        {[](auto& u) { return u.invalidate_context(); }, 1, CCMD},
        {[](auto& u) { return u.invalidate_context(nic_id, 7); }, 3, CCMD},
        {[](auto& u) { return u.invalidate_iotlb(); }, 1, IOTLB},
        {[](auto& u) { return u.invalidate_iotlb(7); }, 2, IOTLB},
        {[](auto& u) {
             return u.invalidate_iotlb(7, {iova{0x1000}, 0x1000}, false);
         },
         3, IOTLB},
    };
    for (const auto& one : all) {
        for (unsigned claim = 0; claim < 4; ++claim) {
            machine->refuse_at = machine->orders + 1;
            machine->claim = claim;
            const auto done = one.run(unit);
            if (claim != 0 && claim <= one.asked) { // as much, or more
                CHECK(done);
            } else {
                CHECK(done == error{errc::hardware_fault, one.where});
            }
        }
    }
}

TEST_CASE("retire gives every frame back, but only after the caches are empty", "[vtd]") {
    for (unsigned n = 0; n <= 2; ++n) {
        const auto machine = std::make_unique<hardware>();
        scene s{*machine};
        REQUIRE(s.ready);
        for (const unsigned bus : {0U, 1U, 128U, 255U}) {
            REQUIRE(s.root.attach({0, static_cast<std::uint8_t>(bus), 3, 0}, s.entry(), s.unit));
        }
        REQUIRE(machine->dma(0x8018, 0x1000, false).reached);
        const std::size_t held = machine->in_use;
        REQUIRE(s.unit.disable_translation());
        machine->forget_journal();
        if (n != 0) {
            machine->stall_at = machine->orders + n;
            CHECK(s.root.retire(s.unit) == error{errc::time_out, n == 1 ? CCMD : IOTLB});
            CHECK(machine->in_use == held);
            CHECK(s.root.entry({0, 128, 3, 0}) == s.entry());
            machine->recover();
            machine->forget_journal();
        }
        REQUIRE(s.root.retire(s.unit));
        CHECK(machine->in_use == held - 5); // root and four context tables
        REQUIRE(machine->events == 7);
        CHECK(machine->journal[0] == order64(CCMD, 0xA000'0000'0000'0000));
        CHECK(machine->journal[1] == order64(IOTLB, 0x9003'0000'0000'0000));
        for (std::size_t i = 2; i < 7; ++i) {
            CHECK(machine->journal[i].what == event::kind::release);
        }
        CHECK(machine->cached_contexts() == 0);
        CHECK(machine->cached_translations() == 0);
        CHECK(s.root.retire(s.unit)); // nothing more to give
        CHECK(machine->events == 7);
        CHECK(s.leave());
    }
}

TEST_CASE("a root table needs one frame, says so, and moves", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    machine->limit = 0;
    CHECK(root_table::create({machine.get()}, {machine.get()}).error().code == errc::out_of_frames);
    machine->limit = 1;
    auto made = root_table::create({machine.get()}, {machine.get()});
    REQUIRE(made);
    const hpa top = made->root();
    root_table moved = std::move(*made);
    CHECK(moved.root() == top);
    auto unit = driver(*machine);
    CHECK(moved.retire(unit));
    CHECK(machine->in_use == 0);
    CHECK(machine->violation == nullptr);
}

TEST_CASE("a unit that never answers costs its tables, and nothing else", "[vtd][hostile]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        bool ok = s.ready && s.root.attach(nic, s.entry(), s.unit);
        const std::size_t held = machine.in_use;
        machine.gone = true;
        ok = ok && s.root.retire(s.unit) == error{errc::absent, GSTS} && machine.in_use == held;
        s.root.leak();
        auto owed = s.domain.retire();
        ok = ok && owed.redeem(s.invalidator) == error{errc::absent, GSTS};
        owed.leak();
        // Hardware may walk them still: not one has come home, and root and domain may go away.
        return ok && machine.in_use == held && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a root table is not used after it was retired, leaked or moved, nor dropped before",
          "[vtd][contract]") {
    using paging_model::breaks_contract;
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    const context_entry entry = context_entry::translated(hpa{0x5000}, format_of(*machine), 7);
    const auto with_table = [&](auto use) {
        return breaks_contract([&] {
            auto root = root_table::create({machine.get()}, {machine.get()});
            use(*root);
        });
    };
    const auto retired = [&](root_table& root) { return root.retire(unit).has_value(); };
    const auto leaked = [](root_table& root) {
        root.leak();
        return true;
    };
    const auto moved = [&](root_table& root) {
        root_table other = std::move(root);
        return other.retire(unit).has_value();
    };
    CHECK(with_table([](root_table&) {})); // dropped
    const auto check = [&](auto end) {
        CHECK_FALSE(with_table([&](root_table& root) { (void)end(root); }));
        CHECK_FALSE(with_table([&](root_table& root) {
            (void)end(root);
            (void)retired(root); // says so, and does nothing
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.root();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.attach(nic, entry, unit).has_value();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.detach(nic, unit).has_value();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.entry(nic);
        }));
    };
    check(retired);
    check(leaked);
    check(moved);
}

} // namespace
