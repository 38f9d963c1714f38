// SPDX-License-Identifier: BSL-1.0
#include "pt/vtd/fault.hpp"
#include "../../vtd_model/rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::vtd::fault_reason;
using pt::vtd::fault_record;
using pt::vtd::fault_record_high;
using pt::vtd::fault_record_low;
using hardware = fake_unit<16>;

constexpr std::uint64_t F = std::uint64_t{1} << 63;

TEST_CASE("a record that QEMU 7.2 wrote", "[vtd]") {
    constexpr auto works = [] {
        const auto record = fault_record::decode(fault_record_low{0x5000'0000},
                                                 fault_record_high{0xC0FF'FF06'0000'0028});
        return record == fault_record{.source = {0, 0, 5, 0},
                                      .page = iova{0x5000'0000},
                                      .type = fault_record::request::read,
                                      .reason = fault_reason::read_not_permitted};
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("T1 and T2 say what was requested, and no other bit does", "[vtd]") {
    using enum fault_record::request;
    const auto type = [](std::uint64_t high) {
        return fault_record::decode(fault_record_low{0}, fault_record_high{high}).type;
    };
    constexpr std::uint64_t t1 = std::uint64_t{1} << 62;
    constexpr std::uint64_t t2 = std::uint64_t{1} << 28;
    CHECK(type(0) == write);
    CHECK(type(t2) == page);
    CHECK(type(t1) == read);
    CHECK(type(t1 | t2) == atomic);
    CHECK(type(~(t1 | t2)) == write);
    CHECK(type(~t2) == read);
}

TEST_CASE("every bit of a record goes where it belongs", "[vtd]") {
    const auto record = fault_record::decode(fault_record_low{~std::uint64_t{0}},
                                             fault_record_high{0x0000'0000'0000'FFFF}, 0xABCD);
    CHECK(record.page == iova{0xFFFF'FFFF'FFFF'F000});
    CHECK(record.source == pt::pci::function_address{0xABCD, 255, 31, 7});
    CHECK(record.reason == fault_reason{0});
    const auto other =
        fault_record::decode(fault_record_low{0xFFF}, fault_record_high{0xB000'00EE'EFFF'0000});
    CHECK(other.page == iova{0});
    CHECK(other.source == pt::pci::function_address{0, 0, 0, 0});
    CHECK(other.reason == fault_reason{0xEE});
}

TEST_CASE("each reason has a name of its own, and an unknown one has none", "[vtd]") {
    const std::string unknown = name(fault_reason{0});
    std::vector<std::string> names;
    for (unsigned reason = 0; reason < 256; ++reason) {
        const std::string said = name(static_cast<fault_reason>(reason));
        if (reason >= 0x1 && reason <= 0xE) {
            CHECK(said != unknown);
            CHECK(std::find(names.begin(), names.end(), said) == names.end());
            names.push_back(said);
        } else {
            CHECK(said == unknown);
        }
    }
}

TEST_CASE("the manual's reasons, each provoked", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    domain_of<hardware> domain{{machine.get()}, format_of(*machine), {machine.get()}};
    invalidator_of<hardware> invalidator{unit, 7};
    auto root = std::move(*root_table_of<hardware>::create({machine.get()}, {machine.get()}));
    // 4 KiB read-only at 0x1000, write-only at 0x2000.
    struct {
        std::uint64_t from, to;
        bool read, write;
    } const pages[] = {{0x1000, 0x10'0000, true, false},
                       {0x2000, 0x20'0000, false, true},
                       {0x3000, 0x40'0000, true, true},
                       {0x4000'0000, 0x30'0000, true, true}};
    for (const auto& page : pages) {
        auto ticket = domain.map({iova{page.from}, 0x1000}, hpa{page.to},
                                 {.read = page.read, .write = page.write, .snoop = false});
        REQUIRE(ticket->redeem(invalidator));
    }
    REQUIRE(root.attach(
        {0, 0, 5, 0}, pt::vtd::context_entry::translated(domain.root().value(), domain.format(), 7),
        unit));
    REQUIRE(unit.set_root_table(root.root()));
    REQUIRE(unit.enable_translation());

    const auto expect = [&](std::uint16_t source_id, std::uint64_t address, bool write,
                            fault_reason reason) {
        REQUIRE_FALSE(machine->dma(source_id, address, write).reached);
        const auto fault = unit.take_fault();
        REQUIRE(fault);
        CHECK(*fault == fault_record{.source = pt::pci::function_address::from_source_id(source_id),
                                     .page = iova{address & ~std::uint64_t{0xFFF}},
                                     .type = write ? fault_record::request::write
                                                   : fault_record::request::read,
                                     .reason = reason});
        CHECK(unit.take_fault() == error{errc::absent, FSTS});
    };
    /// What somebody else scribbles over one entry, and how the device fares with it.
    const auto with = [&](std::uint64_t at, std::uint64_t value, auto then) {
        const std::size_t i = (at - hardware::base) / 8;
        const std::uint64_t before = machine->published[i];
        machine->published[i] = value;
        REQUIRE(unit.invalidate_context());
        REQUIRE(unit.invalidate_iotlb());
        then();
        machine->published[i] = before;
        REQUIRE(unit.invalidate_context());
        REQUIRE(unit.invalidate_iotlb());
    };
    const auto at = [&](std::uint64_t where) {
        return machine->published[(where - hardware::base) / 8];
    };
    const std::uint64_t root_slot = root.root().raw;
    const std::uint64_t context_slot = (at(root_slot) & ~std::uint64_t{0xFFF}) + 0x28 * 16;
    const std::uint64_t top = domain.root().value().raw;
    const std::uint64_t level3 = at(top) & 0x000F'FFFF'FFFF'F000;
    const std::uint64_t level2 = at(level3) & 0x000F'FFFF'FFFF'F000;
    const std::uint64_t level1 = at(level2) & 0x000F'FFFF'FFFF'F000;

    using enum fault_reason;
    expect(0x0100, 0x1000, false, root_entry_not_present);
    expect(0x0029, 0x1234, true, context_entry_not_present);
    with(context_slot + 8, 0x703, // 5 levels, which SAGAW does not have
         [&] { expect(0x28, 0x1000, false, context_entry_invalid); });
    with(context_slot, at(context_slot) | 0xC, // a reserved translation type
         [&] { expect(0x28, 0x1000, false, context_entry_invalid); });
    expect(0x28, std::uint64_t{1} << 48, false, address_beyond_width);
    expect(0x28, ~std::uint64_t{0}, true, address_beyond_width);
    expect(0x28, 0x1FFF, true, write_not_permitted);
    expect(0x28, 0x5000, true, write_not_permitted);
    expect(0x28, 0x2FFF, false, read_not_permitted);
    expect(0x28, 0x7F'FFFF'F000, false, read_not_permitted);
    with(top, 0x7000'0003, [&] { expect(0x28, 0x1000, false, next_table_access_error); });
    with(root_slot, 0x7000'0001, [&] { expect(0x28, 0x1000, false, context_table_access_error); });
    with(root_slot, at(root_slot) | 2,
         [&] { expect(0x28, 0x1000, false, root_entry_reserved_bits); });
    with(root_slot + 8, 1, [&] { expect(0x28, 0x1000, false, root_entry_reserved_bits); });
    with(context_slot + 8, 0x782,
         [&] { expect(0x28, 0x1000, false, context_entry_reserved_bits); });
    with(level1 + 8, at(level1 + 8) | std::uint64_t{1} << 45,
         [&] { expect(0x28, 0x1000, false, table_entry_reserved_bits); });
    with(level2, at(level2) | 0x80, // a 2-MiB page at an address of 4 KiB
         [&] { expect(0x28, 0x1000, false, table_entry_reserved_bits); });
    with(level1 + 8, at(level1 + 8) | 0x800, // snoop without snoop control
         [&] { expect(0x28, 0x1000, false, table_entry_reserved_bits); });
    with(level1 + 3 * 8, 0xFEE0'1003, // map() refuses it
         [&] { expect(0x28, 0x3000, false, output_in_interrupt_range); });
    CHECK(machine->dma(0x28, 0x4000'0008, true).to == 0x30'0008);
    REQUIRE(unit.set_root_table(hpa{0x1000}));
    expect(0x28, 0x1000, false, root_table_access_error);

    CHECK(unit.disable_translation());
    CHECK(root.retire(unit));
    auto owed = domain.retire();
    CHECK(owed.redeem(invalidator));
    CHECK(machine->violation == nullptr);
}

/// A unit with `count` records at 0x220, in which `n` numbered faults happened.
struct recorder {
    std::unique_ptr<hardware> machine = std::make_unique<hardware>();
    std::uint64_t happened = 0;

    explicit recorder(unsigned count) { machine->cap |= std::uint64_t{count - 1} << 40; }
    unit_of<hardware> unit(std::uint16_t segment = 0) {
        return unit_of<hardware>::attach({machine.get()}, 0x2000, {machine.get()}, segment).value();
    }
    void faults(unsigned n) {
        for (unsigned i = 0; i < n; ++i) {
            ++happened;
            machine->record(happened << 12, F | 0x6'0000'0000 | happened % 65536);
        }
    }
};

TEST_CASE("faults come oldest first, around the ring", "[vtd][rule 16]") {
    for (const unsigned count : {1U, 2U, 5U, 8U, 256U}) {
        recorder r{count};
        auto unit = r.unit();
        std::uint64_t taken = 0;
        for (unsigned round = 0; round < 3 * count + 5; ++round) {
            const unsigned n = 1 + round % count;
            r.faults(n);
            for (unsigned i = 0; i < n; ++i) {
                const auto fault = unit.take_fault();
                REQUIRE(fault);
                CHECK(fault->page == iova{++taken << 12});
            }
            REQUIRE(unit.take_fault() == error{errc::absent, FSTS});
            REQUIRE_FALSE(unit.take_fault_overflow());
        }
        CHECK(r.machine->violation == nullptr);
    }
}

TEST_CASE("faults stay in order when new ones come between", "[vtd][rule 16]") {
    // The index in FSTS stays at the first record for as long as any is pending, so that going by
    // it alone would take record 0 again before 1 to 3.
    recorder r{4};
    auto unit = r.unit();
    r.faults(4);
    for (std::uint64_t expected = 1; expected < 100; ++expected) {
        const auto fault = unit.take_fault();
        REQUIRE(fault);
        CHECK(fault->page == iova{expected << 12});
        r.faults(1);
    }
    for (std::uint64_t expected = 100; expected < 104; ++expected) {
        CHECK(unit.take_fault().value().page == iova{expected << 12});
    }
    CHECK(unit.take_fault() == error{errc::absent, FSTS});
    CHECK_FALSE(unit.take_fault_overflow());
}

TEST_CASE("a unit that moves takes along which fault is next", "[vtd][rule 16]") {
    recorder r{4};
    auto first = r.unit();
    r.faults(4);
    CHECK(first.take_fault().value().page == iova{0x1000});
    r.faults(1); // fault 5 goes into record 0, where the index in FSTS still is
    auto second = std::move(first);
    for (std::uint64_t expected = 2; expected < 6; ++expected) {
        CHECK(second.take_fault().value().page == iova{expected << 12});
    }
    CHECK(second.take_fault() == error{errc::absent, FSTS});
}

TEST_CASE("a driver that comes late starts at the oldest fault", "[vtd][rule 16]") {
    recorder r{4};
    {
        auto firmware = r.unit();
        r.faults(3);
        while (firmware.take_fault()) {}
    }
    r.faults(3); // records 3, 0, 1
    auto unit = r.unit(0x0042);
    for (std::uint64_t expected = 4; expected < 7; ++expected) {
        const auto fault = unit.take_fault().value();
        CHECK(fault.page == iova{expected << 12});
        CHECK(fault.source.segment == 0x0042);
    }
    CHECK(unit.take_fault() == error{errc::absent, FSTS});
}

TEST_CASE("an overflow is told once, loses the newest, and nothing else is cleared by it",
          "[vtd]") {
    recorder r{2};
    auto unit = r.unit();
    r.faults(5);
    r.machine->fsts |= 0xF0; // invalidation errors and page-request overflow, somebody else's
    CHECK(unit.take_fault().value().page == iova{0x1000});
    r.faults(1); // dropped: the overflow stands
    CHECK(unit.take_fault_overflow());
    CHECK_FALSE(unit.take_fault_overflow());
    CHECK(r.machine->fsts == 0xF0);
    r.faults(1); // 7, in the record that became free
    CHECK(unit.take_fault().value().page == iova{0x2000});
    CHECK(unit.take_fault().value().page == iova{0x7000});
    CHECK(unit.take_fault() == error{errc::absent, FSTS});
    CHECK(r.machine->violation == nullptr);
}

TEST_CASE("an index beyond the records, or a record that is none, is no access outside",
          "[vtd][hostile]") {
    for (const unsigned count : {1U, 3U, 255U}) {
        for (const unsigned index : {0U, 1U, 2U, 3U, 254U, 255U}) {
            recorder r{count};
            auto unit = r.unit();
            r.machine->hostile_fri = index;
            r.faults(count);
            std::vector<std::uint64_t> pages;
            for (unsigned i = 0; i < count; ++i) {
                pages.push_back(unit.take_fault().value().page.raw >> 12);
            }
            CHECK(unit.take_fault() == error{errc::absent, FSTS});
            std::sort(pages.begin(), pages.end());
            for (unsigned i = 0; i < count; ++i) {
                CHECK(pages[i] == i + 1);
            }
            CHECK(r.machine->violation == nullptr);
        }
    }
    SECTION("PPF without any F") {
        recorder r{3};
        auto unit = r.unit();
        r.machine->fsts |= 2;
        const unsigned before = r.machine->accesses;
        CHECK(unit.take_fault() == error{errc::absent, FSTS});
        CHECK(r.machine->accesses - before <= 4);
    }
    SECTION("gone between the status and the record") {
        for (unsigned n = 1; n <= 3; ++n) {
            recorder r{3};
            auto unit = r.unit();
            r.faults(2);
            r.machine->vanish_at = r.machine->accesses + n;
            const auto fault = unit.take_fault();
            CHECK((n == 3 || fault == error{errc::absent, FSTS}));
        }
    }
}

} // namespace
