// SPDX-License-Identifier: BSL-1.0
#include "../../vtd_model/rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <map>
#include <memory>
#include <random>
#include <utility>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::GiB;
using pt::hpa;
using pt::iova;
using pt::KiB;
using pt::MiB;
using pt::range;
using pt::pci::function_address;
using pt::vtd::table_mode;
using pt::vtd::translation;
using pt::vtd::unit_options;
using pt::vtd::second_stage::read_write;
using stale_set = pt::paging::stale_set<iova>;

constexpr std::uint16_t nic = 0x28;
constexpr function_address nic_function{0, 0, 5, 0};
constexpr std::uint32_t IVA = 0xF0;
constexpr std::uint32_t IOTLB = 0xF8;

/// A function 00:05.0 in domain 7 behind a unit that translates, everything redeemed.
template <class Hardware>
struct scene {
    Hardware& machine;
    unit_of<Hardware> unit;
    tables_of<Hardware> domain;
    pt::vtd::domain_invalidator<unit_of<Hardware>> invalidator{unit, 7};
    bool ready = false;

    explicit constexpr scene(Hardware& hardware_model, unit_options chosen = by_registers(),
                             unsigned levels = 4)
        : machine{hardware_model},
          unit{driver(machine, chosen)},
          domain{{&machine}, format_of(machine, levels), {&machine}} {
        ready = unit.start() &&
                unit.attach(nic_function,
                            translation::second_stage(domain.root().value(), domain.format(), 7));
    }
    constexpr bool map(std::uint64_t from, std::uint64_t size, std::uint64_t to) {
        auto ticket = domain.map({iova{from}, size}, hpa{to}, read_write);
        return ticket && ticket->redeem(invalidator);
    }
    constexpr bool leave() {
        bool ok = unit.detach(nic_function).has_value();
        ok = machine.dma(nic, 0x1000, true).reason ==
                 (unit.mode() == table_mode::legacy ? 0x2 : 0x41) &&
             ok;
        auto owed = domain.retire();
        ok = owed.redeem(invalidator) && ok;
        ok = unit.stop() && ok;
        ok = unit.retire() && ok;
        return ok && machine.in_use == 0 && machine.violations == 0;
    }
};

/// A unit that is on, by registers, without a function behind it.
template <class Hardware>
struct bare {
    unit_of<Hardware> unit;
    pt::vtd::domain_invalidator<unit_of<Hardware>> invalidator{unit, 7};

    explicit bare(Hardware& machine) : unit{driver(machine, by_registers())} {
        REQUIRE(unit.start());
        machine.forget_journal();
    }
    bare(const bare&) = delete;
    bare& operator=(const bare&) = delete;
    ~bare() {
        if (!unit.stop() || !unit.retire()) {
            unit.leak();
            FAIL_CHECK("the unit did not stop");
        }
    }
    /// Of one range, with or without tables.
    pt::result<void> forget(range<iova> stale, bool tables_too) {
        return invalidator.invalidate(stale_set{&stale, 1, tables_too});
    }
};

TEST_CASE("a translation is stale before the ticket is redeemed, and gone after",
          "[vtd][rule 18]") {
    constexpr auto works = [](bool queued) {
        fake_unit<12> machine;
        scene s{machine, queued ? unit_options{} : by_registers()};
        bool ok = s.ready && s.map(0x1000, 0x1000, 0x10'0000);
        ok = ok && machine.dma(nic, 0x1FF8, true).to == 0x10'0FF8;
        {
            auto ticket = s.domain.unmap({iova{0x1000}, 0x1000});
            ok = ok && ticket && !ticket->empty();
            const std::size_t held = machine.in_use;
            ok = ok && machine.dma(nic, 0x1FF8, true).to == 0x10'0FF8; // cached: stale
            ok = ok && machine.in_use == held;                         // nothing came home yet
            ok = ok && ticket->redeem(s.invalidator) && ticket->empty();
            ok = ok && machine.in_use < held;
        }
        ok = ok && machine.dma(nic, 0x1FF8, true).reason == 0x5;
        ok = ok && s.map(0x1000, 0x1000, 0x20'0000) &&
             machine.dma(nic, 0x1FF8, true).to == 0x20'0FF8;
        return s.leave() && ok;
    };
    static_assert(works(true) && works(false));
    REQUIRE(works(true));
    REQUIRE(works(false));
}

TEST_CASE("pages of every size lead where the tables say", "[vtd]") {
    for (const unsigned levels : {3U, 4U}) {
        const auto machine = std::make_unique<fake_unit<48>>();
        scene s{*machine, by_registers(), levels};
        REQUIRE(s.ready);
        REQUIRE(s.map(4 * GiB, 2 * GiB, 8 * GiB));            // 1 GiB
        REQUIRE(s.map(2 * GiB + 2 * MiB, 4 * MiB, 64 * MiB)); // 2 MiB
        REQUIRE(s.map(0x1000, 12 * KiB, 32 * MiB + 0x5000));  // 4 KiB
        for (const std::uint64_t address :
             {4 * GiB, 5 * GiB + 0x1234'5678, 6 * GiB - 1, 2 * GiB + 2 * MiB, 2 * GiB + 6 * MiB - 1,
              std::uint64_t{0x1000}, std::uint64_t{0x3FFF}}) {
            const outcome o = machine->dma(nic, address, true);
            REQUIRE(o.reached);
            CHECK(hpa{o.to} == s.domain.translate(iova{address}).value().output);
        }
        for (const std::uint64_t address :
             {std::uint64_t{0}, std::uint64_t{0xFFF}, std::uint64_t{0x4000}, 2 * GiB + 6 * MiB,
              4 * GiB - 1, 6 * GiB}) {
            CHECK(machine->dma(nic, address, true).reason == 0x5);
            CHECK(machine->dma(nic, address, false).reason == 0x6);
        }
        CHECK(machine->dma(nic, std::uint64_t{1} << (levels == 3 ? 39 : 48), false).reason == 0x4);
        CHECK(s.leave());
    }
}

TEST_CASE("cached tables go with the tables: the hint is not given when tables changed",
          "[vtd][rule 18]") {
    const auto machine = std::make_unique<fake_unit<48>>();
    scene s{*machine};
    REQUIRE(s.ready);
    REQUIRE(s.map(0x1000, 0x2000, 0x10'0000));
    REQUIRE(machine->dma(nic, 0x1000, true).reached);
    REQUIRE(machine->dma(nic, 0x2000, true).reached);
    const auto hint_of_last = [&] {
        std::uint64_t iva = 0;
        for (std::size_t i = 0; i < machine->events; ++i) {
            if (machine->journal[i].where == IVA) {
                iva = machine->journal[i].value;
            }
        }
        return (iva >> 6 & 1) != 0;
    };
    {
        auto ticket = s.domain.unmap({iova{0x1000}, 0x1000}); // a leaf only
        REQUIRE(ticket->redeem(s.invalidator));
        CHECK(hint_of_last());
        CHECK(machine->dma(nic, 0x1000, true).reason == 0x5);
        CHECK(machine->dma(nic, 0x2000, true).to == 0x10'1000);
    }
    {
        auto ticket = s.domain.unmap({iova{0x2000}, 0x1000}); // and its table, which became empty
        REQUIRE(ticket->redeem(s.invalidator));
        CHECK_FALSE(hint_of_last());
        // The fake blames a walk through the frame that was given back.
        CHECK(machine->dma(nic, 0x2000, true).reason == 0x5);
    }
    CHECK(s.leave());
}

TEST_CASE("a redemption that fails keeps the frames, and a later one frees them",
          "[vtd][rule 21]") {
    for (const bool refused : {false, true}) {
        const auto machine = std::make_unique<fake_unit<48>>();
        scene s{*machine};
        REQUIRE(s.ready);
        REQUIRE(s.map(0x1000, 0x1000, 0x10'0000));
        REQUIRE(machine->dma(nic, 0x1000, true).reached);
        {
            auto ticket = s.domain.unmap({iova{0x1000}, 0x1000});
            const std::size_t held = machine->in_use;
            (refused ? machine->refuse_at : machine->stall_at) = machine->orders + 1;
            CHECK(ticket->redeem(s.invalidator) ==
                  error{refused ? errc::hardware_fault : errc::time_out, IOTLB});
            CHECK(machine->in_use == held);
            CHECK_FALSE(ticket->empty());
            CHECK(machine->dma(nic, 0x1000, true).to == 0x10'0000); // still cached
            if (!refused) { // still under way: nothing new is asked for, and IVA stays as it is
                const std::size_t before = machine->events;
                CHECK(ticket->redeem(s.invalidator) == error{errc::time_out, IOTLB});
                CHECK(machine->events == before);
                CHECK(machine->in_use == held);
            }
            machine->recover();
            REQUIRE(ticket->redeem(s.invalidator));
            CHECK(machine->in_use < held);
        }
        CHECK(machine->dma(nic, 0x1000, true).reason == 0x5);
        CHECK(s.leave());
        CHECK(machine->violation == nullptr);
    }
}

TEST_CASE("a clock that jumps while the unit works is no time-out", "[vtd]") {
    const auto machine = std::make_unique<fake_unit<8>>();
    machine->latency = 1;
    machine->tick = 10'000'000'000; // this processor slept for ten seconds at each look
    bare b{*machine};
    CHECK(b.unit.submit(pt::vtd::invalidate::context_cache()));
    CHECK(b.unit.submit(pt::vtd::invalidate::iotlb(b.unit.capabilities())));
    machine->latency = 5;
    CHECK(b.unit.submit(pt::vtd::invalidate::context_cache()) == error{errc::time_out, CCMD});
    machine->tick = 10'000'000; // it is awake again, and waits for what is under way
}

TEST_CASE("with caching mode, what was cached as absent is forgotten when it is mapped",
          "[vtd][rule 15]") {
    constexpr auto works = [] {
        fake_unit<8> machine;
        machine.cap |= cap_cm;
        scene s{machine};
        bool ok = s.ready && machine.dma(nic, 0x1000, false).reason == 0x6;
        ok = ok && machine.cached_translations() == 1;
        auto ticket = s.domain.map({iova{0x1000}, 0x1000}, hpa{0x10'0000}, read_write);
        ok = ok && ticket && !ticket->empty();
        ok = ok && machine.dma(nic, 0x1000, false).reason == 0x6;
        ok = ok && ticket->redeem(s.invalidator);
        ok = ok && machine.dma(nic, 0x1000, false).to == 0x10'0000;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a write buffer lets a new mapping through when its ticket is redeemed", "[vtd]") {
    constexpr auto works = [] {
        fake_unit<8> machine;
        machine.cap |= cap_rwbf;
        scene s{machine};
        bool ok = s.ready && machine.dma(nic, 0x1000, false).reason == 0x6;
        auto ticket = s.domain.map({iova{0x1000}, 0x1000}, hpa{0x10'0000}, read_write);
        ok = ok && ticket && !ticket->empty();
        ok = ok && machine.dma(nic, 0x1000, false).reason == 0x6;
        ok = ok && ticket->redeem(s.invalidator);
        ok = ok && machine.dma(nic, 0x1000, false).to == 0x10'0000;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("what a unit cannot do by pages it does by domain", "[vtd][rule 18]") {
    const auto machine = std::make_unique<fake_unit<8>>();
    event first;
    event last;
    const auto writes = [&](std::uint64_t cap, range<iova> stale) {
        machine->cap = cap;
        bare b{*machine};
        REQUIRE(b.forget(stale, false));
        CHECK(machine->violation == nullptr);
        const std::size_t events = machine->events;
        first = machine->journal[0];
        last = machine->journal[events == 0 ? 0 : events - 1];
        return events;
    };
    const event by_domain = order64(IOTLB, 0xA003'0007'0000'0000);
    CHECK(writes(qemu_cap, {iova{0x5000}, 0x1000}) == 2);
    CHECK(first == order64(IVA, 0x5000 | 0x40));
    CHECK(last == order64(IOTLB, 0xB003'0007'0000'0000));
    CHECK(writes(qemu_cap & ~(std::uint64_t{1} << 39), {iova{0x5000}, 0x1000}) == 1);
    CHECK(first == by_domain);
    // MAMV 18 is 1 GiB; a page more, or a range across a boundary, is too much.
    CHECK(writes(qemu_cap, {iova{1 * GiB}, 1 * GiB}) == 2);
    CHECK(first == order64(IVA, 0x4000'0000 | 0x40 | 18));
    CHECK(writes(qemu_cap, {iova{1 * GiB}, 1 * GiB + 0x1000}) == 1);
    CHECK(writes(qemu_cap, {iova{2 * GiB - 0x1000}, 0x2000}) == 1);
    CHECK(first == by_domain);
    CHECK(writes(qemu_cap & ~(std::uint64_t{0x3F} << 48), {iova{0x6000}, 0x2000}) == 1); // MAMV 0
    CHECK(writes(qemu_cap & ~(std::uint64_t{0x3F} << 48), {iova{0x7000}, 0x1000}) == 2);
    // No draining: DR and DW stay 0.
    CHECK(writes(qemu_cap & ~(std::uint64_t{3} << 54), {iova{0x5000}, 0x1000}) == 2);
    CHECK(last == order64(IOTLB, 0xB000'0007'0000'0000));
    // Nothing is stale: nothing is asked for.
    CHECK(writes(qemu_cap, {}) == 0);
}

TEST_CASE("the address mask is the least that covers the range", "[vtd][rule 18]") {
    const auto machine = std::make_unique<fake_unit<8>>();
    bare b{*machine};
    const auto check = [&](std::uint64_t first, std::uint64_t pages) {
        // Brute force: the smallest aligned power of two that holds both ends.
        unsigned mask = 0;
        while (first >> mask != (first + pages - 1) >> mask) {
            ++mask;
        }
        machine->forget_journal();
        REQUIRE(b.forget({iova{first * 4096}, pages * 4096}, true));
        if (mask > 18) {
            REQUIRE(machine->events == 1);
        } else {
            REQUIRE(machine->events == 2);
            REQUIRE(machine->journal[0] == order64(IVA, (first >> mask << mask) * 4096 | mask));
        }
    };
    for (std::uint64_t first = 0; first < 40; ++first) {
        for (std::uint64_t pages = 1; pages < 70; ++pages) {
            check(first, pages);
        }
    }
    std::mt19937_64 random{17};
    for (unsigned i = 0; i < 2000; ++i) {
        const std::uint64_t pages = 1 + random() % (std::uint64_t{1} << (1 + random() % 20));
        check(random() >> 29, pages);
    }
    CHECK(machine->violation == nullptr);
}

TEST_CASE("hostile MAMV and the largest range make no undefined shift", "[vtd][hostile]") {
    const auto machine = std::make_unique<fake_unit<8>>();
    machine->cap |= std::uint64_t{0x3F} << 48;
    bare b{*machine};
    CHECK(b.forget({iova{0}, ~std::uint64_t{0}}, false));
    CHECK(b.forget({iova{~std::uint64_t{0} - 4095}, 4096}, true));
}

TEST_CASE("a batch costs an invalidation for each range that does not touch another", "[vtd]") {
    const auto machine = std::make_unique<fake_unit<48>>();
    scene s{*machine};
    REQUIRE(s.ready);
    REQUIRE(s.map(0, 64 * 4096, 0x10'0000));
    auto all = s.domain.batch<10>();
    for (std::uint64_t page = 0; page < 20; page += 2) {
        REQUIRE(machine->dma(nic, page * 4096, true).reached);
        REQUIRE(all.add(s.domain.unmap({iova{page * 4096}, 4096}).value()));
    }
    auto more = s.domain.unmap({iova{30 * 4096}, 4096}).value();
    CHECK(all.add(more).error() == error{errc::busy, 30 * 4096});
    REQUIRE(more.redeem(s.invalidator));
    const unsigned before = machine->orders;
    REQUIRE(all.redeem(s.invalidator));
    CHECK(machine->orders == before + 10);
    for (std::uint64_t page = 0; page < 20; ++page) {
        CHECK(machine->dma(nic, page * 4096, true).reached == (page % 2 == 1));
    }
    CHECK(s.leave());
}

TEST_CASE("to give up all tables costs one invalidation of the domain", "[vtd]") {
    const auto machine = std::make_unique<fake_unit<48>>();
    scene s{*machine};
    REQUIRE(s.ready);
    REQUIRE(s.map(0, 64 * 4096, 0x10'0000));
    auto all = s.domain.batch<1>();
    for (std::uint64_t page = 0; page < 64; page += 63) {
        auto owed = s.domain.unmap({iova{page * 4096}, 4096}).value();
        if (!all.add(owed)) {
            owed.leak(); // the domain goes as a whole
        }
    }
    REQUIRE(s.unit.detach(nic_function));
    REQUIRE(all.add(s.domain.retire()));
    machine->forget_journal();
    const unsigned before = machine->orders;
    REQUIRE(all.redeem(s.invalidator));
    CHECK(machine->orders == before + 1);
    CHECK(machine->journal[0] == order64(IOTLB, 0xA003'0007'0000'0000));
    CHECK((s.unit.stop() && s.unit.retire()));
    CHECK((machine->in_use == 0 && machine->violations == 0));
}

TEST_CASE("nothing is ever mapped in the interrupt range", "[vtd][rule 19]") {
    const auto machine = std::make_unique<fake_unit<48>>();
    scene s{*machine};
    REQUIRE(s.ready);
    machine->forget_journal();
    CHECK(s.domain.map({iova{0xFEE0'0000}, 0x1000}, hpa{0}, read_write).error() ==
          error{errc::reserved_address, 0xFEE0'0000});
    CHECK(s.domain.map({iova{0}, 4 * GiB}, hpa{0}, read_write).error() ==
          error{errc::reserved_address, 0xFEE0'0000});
    CHECK(s.domain.map({iova{0xFEEF'F000}, 0x2000}, hpa{0}, read_write).error() ==
          error{errc::reserved_address, 0xFEEF'F000});
    CHECK(machine->events == 0);
    REQUIRE(s.map(0xFED0'0000, 0x10'0000, 0x10'0000));
    REQUIRE(s.map(0xFEF0'0000, 0x10'0000, 0x40'0000));
    CHECK(machine->dma(nic, 0xFEE0'0000, true).interrupt);
    CHECK(machine->dma(nic, 0xFEEF'FFFC, true).interrupt);
    CHECK(machine->dma(nic, 0xFEDF'FFFF, true).to == 0x1F'FFFF);
    CHECK(machine->dma(nic, 0xFEF0'0000, true).to == 0x40'0000);
    CHECK(s.leave());
}

TEST_CASE("nothing is ever mapped to the interrupt range", "[vtd][rule 19]") {
    constexpr auto works = [] {
        fake_unit<16> machine;
        scene s{machine};
        machine.forget_journal();
        const auto refused = [&](std::uint64_t size, std::uint64_t to, std::uint64_t where) {
            const std::size_t held = machine.in_use;
            const auto ticket = s.domain.map({iova{0}, size}, hpa{to}, read_write);
            return !ticket && ticket.error() == error{errc::reserved_address, where} &&
                   machine.in_use == held && machine.events == 0;
        };
        bool ok = s.ready;
        ok = ok && refused(0x1000, 0xFEE0'0000, 0xFEE0'0000);
        ok = ok && refused(0x1000, 0xFEEF'F000, 0xFEEF'F000);
        ok = ok && refused(0x2000, 0xFEDF'F000, 0xFEE0'0000);
        ok = ok && refused(0x10'0000, 0xFEE0'0000, 0xFEE0'0000);
        ok = ok && refused(0xFEE0'0000, 0x1000, 0xFEE0'0000); // its last page would be there
        ok = ok && refused(GiB, 0xC000'0000, 0xFEE0'0000);    // one large page around it
        // What lies right beside it is memory.
        ok = ok && s.map(0x1000, 0x1000, 0xFEDF'F000) && s.map(0x2000, 0x1000, 0xFEF0'0000);
        ok = ok && machine.dma(nic, 0x1FF8, true).to == 0xFEDF'FFF8;
        ok = ok && machine.dma(nic, 0x2000, true).to == 0xFEF0'0000;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("an invalidation is what was asked for up to the first error, and no more", "[vtd]") {
    enum class trouble { none, refused, stalled, gone };
    // `pages` that do not touch each other; 0: everything. `at`: the order that goes wrong.
    // `orders` in all: a flush and a request for each page, and none after one that failed.
    constexpr auto works = [](unsigned pages, trouble what, unsigned at, errc expected,
                              unsigned orders) {
        fake_unit<2> machine;
        machine.cap |= cap_rwbf; // so that there is more than one step to each request
        auto unit = driver(machine, by_registers());
        bool ok = unit.start().has_value();
        pt::vtd::domain_invalidator invalidator{unit, 7};
        range<iova> parts[8];
        for (unsigned i = 0; i < pages; ++i) {
            parts[i] = {iova{i * 0x10'0000}, 0x1000};
        }
        const stale_set stale = pages == 0 ? stale_set::all() : stale_set{parts, pages, false};
        const unsigned before = machine.orders;
        machine.refuse_at = what == trouble::refused ? before + at : 0;
        machine.stall_at = what == trouble::stalled ? before + at : 0;
        machine.vanish_at = what == trouble::gone ? machine.accesses + at : 0;
        const auto done = invalidator.invalidate(stale);
        ok = ok && (done ? errc::none : done.error().code) == expected &&
             machine.orders == before + orders && machine.violations == 0;
        machine.recover();
        return unit.stop() && unit.retire() && ok;
    };
    static_assert(works(0, trouble::none, 0, errc::none, 2));
    static_assert(works(3, trouble::none, 0, errc::none, 6));
    static_assert(works(3, trouble::refused, 4, errc::hardware_fault, 4));
    CHECK(works(0, trouble::none, 0, errc::none, 2));
    CHECK(works(1, trouble::none, 0, errc::none, 2));
    CHECK(works(8, trouble::none, 0, errc::none, 16));
    CHECK(works(0, trouble::refused, 2, errc::hardware_fault, 2));
    CHECK(works(3, trouble::refused, 4, errc::hardware_fault, 4));
    CHECK(works(3, trouble::stalled, 3, errc::time_out, 3)); // the write buffer
    CHECK(works(3, trouble::stalled, 4, errc::time_out, 4));
    CHECK(works(0, trouble::gone, 1, errc::absent, 0));
    CHECK(works(3, trouble::gone, 1, errc::absent, 0));
}

TEST_CASE("a long random life: the device reaches what the model says, and nothing else",
          "[vtd][rule 14][rule 15][rule 18]") {
    enum class way { registers, queue, scalable };
    struct variant {
        std::uint64_t cap;
        way how;
    };
    for (const variant v :
         {variant{0, way::registers}, variant{cap_cm, way::registers},
          variant{cap_rwbf, way::registers}, variant{cap_cm | cap_rwbf, way::registers},
          variant{0, way::queue}, variant{cap_cm | cap_rwbf, way::queue}, variant{0, way::scalable},
          variant{cap_cm, way::scalable}}) {
        for (const bool by_page : {true, false}) {
            const auto machine = std::make_unique<fake_unit<48>>();
            machine->cap |= v.cap;
            machine->ecap = v.how == way::scalable ? scalable_ecap : qemu_ecap;
            if (!by_page) {
                machine->cap &= ~(std::uint64_t{1} << 39);
            }
            scene s{*machine, v.how == way::registers ? by_registers()
                              : v.how == way::queue   ? unit_options{}
                                                      : in_scalable_mode()};
            REQUIRE(s.ready);
            std::map<std::uint64_t, std::uint64_t> model; // page to page
            std::mt19937 random{static_cast<std::uint32_t>(v.cap)};
            const auto pick = [&](std::uint32_t n) { return random() % n; };
            // Pages around a boundary of 2 MiB, so that both sizes and splits occur.
            const auto some_page = [&] { return std::uint64_t{256} + pick(1536); };
            for (unsigned step = 0; step < 400; ++step) {
                std::uint64_t first = some_page();
                std::uint64_t pages = 1 + pick(pick(4) == 0 ? 700 : 8);
                if (pick(3) == 0) {
                    first = 512 * (1 + pick(3));
                    pages = 512;
                }
                const std::uint64_t to = pick(2) == 0 ? 0x10'0000 + first : 0x20'0000 + pick(4096);
                if (pick(2) == 0) {
                    bool free = true;
                    for (std::uint64_t p = first; p < first + pages; ++p) {
                        free = free && !model.contains(p);
                    }
                    auto ticket = s.domain.map({iova{first * 4096}, pages * 4096}, hpa{to * 4096},
                                               read_write);
                    REQUIRE(ticket.has_value() == free);
                    if (free) {
                        REQUIRE(ticket->redeem(s.invalidator));
                        for (std::uint64_t p = 0; p < pages; ++p) {
                            model[first + p] = to + p;
                        }
                    }
                } else {
                    auto ticket = s.domain.unmap({iova{first * 4096}, pages * 4096});
                    REQUIRE(ticket);
                    REQUIRE(ticket->redeem(s.invalidator));
                    model.erase(model.lower_bound(first), model.lower_bound(first + pages));
                }
                for (unsigned i = 0; i < 16; ++i) {
                    const std::uint64_t page = some_page();
                    const outcome o = machine->dma(nic, page * 4096 + 8, pick(2) == 0);
                    const auto known = model.find(page);
                    REQUIRE(o.reached == (known != model.end()));
                    if (o.reached) {
                        REQUIRE(o.to == known->second * 4096 + 8);
                    }
                }
                REQUIRE(machine->violation == nullptr);
            }
            CHECK(s.leave());
        }
    }
}

} // namespace
