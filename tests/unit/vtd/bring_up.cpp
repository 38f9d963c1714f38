// SPDX-License-Identifier: BSL-1.0
#include "../../vtd_model/rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::hpa;
using hardware = fake_unit<6>;

constexpr std::uint64_t context_global = 0xA000'0000'0000'0000; // ICC, CIRG 01
constexpr std::uint64_t iotlb_global = 0x9003'0000'0000'0000;   // IVT, IIRG 01, DR, DW
constexpr std::uint32_t IOTLB = 0xF8;

TEST_CASE("bring-up from reset: root, context cache, IOTLB, translation",
          "[vtd][rule 12][rule 13]") {
    constexpr auto works = [] {
        hardware machine;
        auto unit = driver(machine);
        auto root = root_table_of<hardware>::create({&machine}, {&machine});
        machine.forget_journal();
        const bool done = unit.set_root_table(root->root()) && unit.enable_translation();
        const event expected[] = {order64(RTADDR, root->root().raw), order32(GCMD, 0x4000'0000),
                                  order64(CCMD, context_global), order64(IOTLB, iotlb_global),
                                  order32(GCMD, 0x8000'0000)};
        const bool blocked = machine.dma(0x0028, 0x5000, true).reason == 0x1;
        const bool off = unit.disable_translation().has_value();
        return done && wrote(machine, expected) == false && // disable_translation wrote once more
               machine.journal[machine.events - 1] == order32(GCMD, 0) && blocked && off &&
               root->retire(unit).has_value() && machine.in_use == 0 && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());

    constexpr auto exact = [] {
        hardware machine;
        auto unit = driver(machine);
        machine.forget_journal();
        const bool done = unit.set_root_table(hpa{0x7F'FFFF'F000}) && unit.enable_translation();
        const event expected[] = {order64(RTADDR, 0x7F'FFFF'F000), order32(GCMD, 0x4000'0000),
                                  order64(CCMD, context_global), order64(IOTLB, iotlb_global),
                                  order32(GCMD, 0x8000'0000)};
        return done && wrote(machine, expected) && machine.gsts == 0xC000'0000 &&
               machine.violations == 0;
    };
    static_assert(exact());
    REQUIRE(exact());
}

TEST_CASE("what firmware switched on stays on, and nothing is ordered twice", "[vtd][rule 12]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    // Translation with another root, interrupt remapping, compatibility format: all on.
    machine->gsts = TE | SRTP | IRE | SIRTP | CFI;
    machine->root = 0x1234'5000;
    machine->rtaddr = 0x1234'5000;
    machine->has_root = true;
    auto root = root_table_of<hardware>::create({machine.get()}, {machine.get()});
    CHECK(machine->dma(0x0010, 0x1000, false).reason == 0x8); // firmware's root is nowhere here
    machine->forget_journal();
    REQUIRE(unit.set_root_table(root->root()));
    REQUIRE(unit.enable_translation());
    const event expected[] = {order64(RTADDR, root->root().raw), order32(GCMD, 0xC280'0000),
                              order64(CCMD, context_global), order64(IOTLB, iotlb_global),
                              order32(GCMD, 0x8280'0000)};
    CHECK(wrote(*machine, expected));
    CHECK(machine->gsts == (TE | SRTP | IRE | SIRTP | CFI));
    CHECK(machine->dma(0x0010, 0x1000, false).reason == 0x1);
    REQUIRE(unit.disable_translation());
    CHECK(machine->gsts == (SRTP | IRE | SIRTP | CFI));
    CHECK(machine->violation == nullptr);
    CHECK(root->retire(unit));
}

TEST_CASE("what the old root had cached is gone with the new root", "[vtd][rule 13]") {
    const auto machine = std::make_unique<fake_unit<16>>();
    auto unit = driver(*machine);
    using root_table = root_table_of<fake_unit<16>>;
    domain_of<fake_unit<16>> domain{{machine.get()}, format_of(*machine), {machine.get()}};
    auto ticket =
        domain.map({pt::iova{0x1000}, 0x1000}, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
    REQUIRE((ticket && ticket->empty()));
    auto old_root = root_table::create({machine.get()}, {machine.get()});
    REQUIRE(old_root->attach(
        {0, 0, 5, 0}, pt::vtd::context_entry::translated(domain.root().value(), domain.format(), 7),
        unit));
    REQUIRE(unit.set_root_table(old_root->root()));
    REQUIRE(unit.enable_translation());
    REQUIRE(machine->dma(0x28, 0x1004, true).to == 0x10'0004);

    auto new_root = root_table::create({machine.get()}, {machine.get()});
    REQUIRE(unit.set_root_table(new_root->root()));
    CHECK(machine->dma(0x28, 0x1004, true).reason == 0x1);
    CHECK(old_root->retire(unit));
    CHECK(machine->dma(0x28, 0x1004, true).reason == 0x1);
    CHECK(unit.disable_translation());
    CHECK(new_root->retire(unit));
    auto owed = domain.retire();
    auto invalidator = invalidator_of<fake_unit<16>>{unit, 7};
    CHECK(owed.redeem(invalidator));
    CHECK(machine->in_use == 0);
    CHECK(machine->violation == nullptr);
}

TEST_CASE("while the queue is on, nothing is invalidated by register", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    machine->gsts = QIE;
    machine->forget_journal();
    const error busy{errc::busy, GSTS};
    CHECK(unit.set_root_table(hpa{0x1000}) == busy);
    CHECK(unit.invalidate_context() == busy);
    CHECK(unit.invalidate_context(0x28, 1) == busy);
    CHECK(unit.invalidate_iotlb() == busy);
    CHECK(unit.invalidate_iotlb(1) == busy);
    CHECK(unit.invalidate_iotlb(1, {pt::iova{0x1000}, 0x1000}, false) == busy);
    CHECK(machine->events == 0);
    CHECK(machine->violation == nullptr);
}

TEST_CASE("the table mode does not change while translation is on", "[vtd]") {
    for (const bool on : {false, true}) {
        for (const unsigned mode : {0U, 1U, 2U, 3U}) {
            const auto machine = std::make_unique<hardware>();
            auto unit = driver(*machine);
            machine->gsts = on ? TE | SRTP : SRTP;
            machine->rtaddr = 0x1000 | mode << 10;
            const auto set = unit.set_root_table(hpa{0x2000});
            if (on && (mode == 1 || mode == 2)) {
                CHECK(set == error{errc::busy, RTADDR});
                CHECK(machine->events == 0);
            } else {
                CHECK(set);
                CHECK(machine->rtaddr == 0x2000);
            }
            CHECK(machine->violation == nullptr);
        }
    }
}

TEST_CASE("a root table is the address of a frame", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    auto unit = driver(*machine);
    CHECK(unit.set_root_table(hpa{0x1008}) == error{errc::misaligned, 0x1008});
    CHECK(machine->events == 0);
}

TEST_CASE("a write buffer is flushed before the unit is told to look", "[vtd]") {
    constexpr auto works = [] {
        hardware machine;
        machine.cap |= cap_rwbf;
        auto unit = driver(machine);
        auto root = root_table_of<hardware>::create({&machine}, {&machine});
        machine.forget_journal();
        bool ok = unit.set_root_table(root->root()) && unit.enable_translation();
        const event expected[] = {order32(GCMD, 0x0800'0000),    order64(RTADDR, root->root().raw),
                                  order32(GCMD, 0x4000'0000),    order32(GCMD, 0x0800'0000),
                                  order64(CCMD, context_global), order32(GCMD, 0x0800'0000),
                                  order64(IOTLB, iotlb_global),  order32(GCMD, 0x8000'0000)};
        ok = ok && wrote(machine, expected);
        // Junk that was never flushed would be an entry with reserved bits.
        ok = ok && machine.dma(0x28, 0, false).reason == 0x1;
        ok = ok && unit.disable_translation() && root->retire(unit);
        return ok && machine.in_use == 0 && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a unit is taken over only where its registers make sense", "[vtd][hostile]") {
    const auto machine = std::make_unique<hardware>();
    const auto take = [&](std::uint32_t ver, std::uint64_t cap, std::uint64_t ecap,
                          std::uint64_t window = 4096) {
        machine->ver = ver;
        machine->cap = cap;
        machine->ecap = ecap;
        const auto unit = unit_of<hardware>::attach({machine.get()}, window, {machine.get()});
        return unit ? error{} : unit.error();
    };
    constexpr std::uint64_t ones = ~std::uint64_t{0};
    const error absent{errc::absent, 0};
    const error malformed{errc::malformed, CAP};
    CHECK(take(0x10, qemu_cap, qemu_ecap) == error{});
    CHECK(take(0xFFFF'FFFF, ones, ones) == absent);
    CHECK(take(0xFFFF'FFFF, qemu_cap, qemu_ecap) == absent);
    CHECK(take(0x10, ones, qemu_ecap) == absent);
    CHECK(take(0x10, qemu_cap, ones) == absent);
    CHECK(take(0, 0, 0) == absent);
    CHECK(take(0x10, 0, 0) == malformed);
    CHECK(take(0x10, 0, qemu_ecap) == malformed);
    CHECK(take(0x10, qemu_cap, 0) == malformed); // IVA over VER
    // SAGAW without 3, 4 or 5 levels: 2 and 6 levels are nothing for us.
    CHECK(take(0x10, qemu_cap & ~std::uint64_t{0x1F00}, qemu_ecap) == malformed);
    CHECK(take(0x10, (qemu_cap & ~std::uint64_t{0x1F00}) | 0x1100, qemu_ecap) == malformed);
    // One record at 0x220 ends at 0x230; the IOTLB register ends at 0x100.
    CHECK(take(0x10, qemu_cap, qemu_ecap, 0x230) == error{});
    CHECK(take(0x10, qemu_cap, qemu_ecap, 0x22F) == malformed);
    const std::uint64_t records_at_40 =
        (qemu_cap & ~(std::uint64_t{0x3FF} << 24)) | std::uint64_t{0x4} << 24;
    CHECK(take(0x10, records_at_40, qemu_ecap, 0x100) == error{});
    CHECK(take(0x10, records_at_40, qemu_ecap, 0xFF) == malformed);
    // 256 records from 0x220 on end at 0x1220.
    const std::uint64_t many = qemu_cap | std::uint64_t{0xFF} << 40;
    CHECK(take(0x10, many, qemu_ecap, 0x1220) == error{});
    CHECK(take(0x10, many, qemu_ecap, 0x1000) == malformed);
    // The highest places that the fields can name.
    CHECK(take(0x10, qemu_cap | std::uint64_t{0x3FF} << 24, qemu_ecap) == malformed);
    CHECK(take(0x10, qemu_cap, qemu_ecap | 0x3FF00) == malformed);
    // Records or IVA over the registers with a fixed place.
    CHECK(take(0x10, qemu_cap & ~(std::uint64_t{0x3FF} << 24), qemu_ecap) == malformed);
    CHECK(take(0x10, (qemu_cap & ~(std::uint64_t{0x3FF} << 24)) | std::uint64_t{3} << 24,
               qemu_ecap) == malformed);
    CHECK(take(0x10, qemu_cap, (qemu_ecap & ~std::uint64_t{0x3FF00}) | 0x300) == malformed);
}

TEST_CASE("registers that lie over each other, over the fixed ones or outside are refused",
          "[vtd][hostile][rule 16]") {
    const auto machine = std::make_unique<hardware>();
    for (std::uint64_t records = 0; records < 0x40; ++records) {      // FRO
        for (const std::uint64_t more : {0U, 1U, 3U, 0x1FU, 0xFFU}) { // NFR
            for (std::uint64_t iotlb = 0; iotlb < 0x48; ++iotlb) {    // IRO
                machine->cap =
                    (qemu_cap & ~(std::uint64_t{0x3FF} << 24 | std::uint64_t{0xFF} << 40)) |
                    records << 24 | more << 40;
                machine->ecap = (qemu_ecap & ~std::uint64_t{0x3FF00}) | iotlb << 8;
                // The same in bytes, one by one: who lies where?
                constexpr std::uint64_t window = 0x420;
                const auto in_records = [&](std::uint64_t byte) {
                    return byte >= records * 16 && byte < (records + more + 1) * 16;
                };
                const auto in_iotlb = [&](std::uint64_t byte) {
                    return byte >= iotlb * 16 && byte < iotlb * 16 + 16;
                };
                bool fits = true;
                for (std::uint64_t byte = 0; byte < 0x2000; ++byte) {
                    const bool fixed = byte < FSTS + 4;
                    fits = fits && int{fixed} + in_records(byte) + in_iotlb(byte) <= 1 &&
                           (byte < window || (!in_records(byte) && !in_iotlb(byte)));
                }
                const auto unit =
                    unit_of<hardware>::attach({machine.get()}, window, {machine.get()});
                if (unit.has_value() != fits ||
                    (!unit && unit.error() != error{errc::malformed, CAP})) {
                    FAIL("FRO " << records << ", NFR " << more << ", IRO " << iotlb);
                }
            }
        }
    }
}

TEST_CASE("without a root table, translation is not enabled", "[vtd][rule 12][rule 13]") {
    const error refused{errc::refused, GSTS};
    SECTION("after reset") {
        constexpr auto works = [] {
            hardware machine;
            machine.gsts = IRE | CFI; // what firmware may have on is nothing of the kind
            auto unit = driver(machine);
            const bool said = unit.enable_translation() == error{errc::refused, GSTS};
            return said && machine.events == 0 && machine.gsts == (IRE | CFI) &&
                   machine.violations == 0;
        };
        static_assert(works());
        REQUIRE(works());
    }
    SECTION("while the unit has not taken the root table") {
        const auto machine = std::make_unique<hardware>();
        auto unit = driver(*machine);
        machine->stall_at = 1;
        REQUIRE(unit.set_root_table(hpa{0x2000}) == error{errc::time_out, GSTS});
        machine->forget_journal();
        CHECK(unit.enable_translation() == refused);
        CHECK(machine->events == 0);
        machine->recover();
        REQUIRE(unit.set_root_table(hpa{0x2000}));
        CHECK(unit.enable_translation());
        CHECK(machine->gsts == (TE | SRTP));
        CHECK(machine->violation == nullptr);
    }
    SECTION("turning it off needs none") {
        const auto machine = std::make_unique<hardware>();
        auto unit = driver(*machine);
        CHECK(unit.disable_translation());
    }
}

TEST_CASE("every CAP and ECAP bit flipped: taken over or an error, and no access outside",
          "[vtd][hostile]") {
    for (unsigned bit = 0; bit < 128; ++bit) {
        const auto machine = std::make_unique<hardware>();
        (bit < 64 ? machine->cap : machine->ecap) ^= std::uint64_t{1} << bit % 64;
        auto unit = unit_of<hardware>::attach({machine.get()}, 4096, {machine.get()});
        if (!unit) {
            CHECK(unit.error() == error{errc::malformed, CAP});
            continue;
        }
        CHECK(unit->set_root_table(hpa{0x2000}));
        CHECK(unit->invalidate_iotlb(1, {pt::iova{0x1000}, 0x3000}, true));
        CHECK(unit->take_fault() == error{errc::absent, FSTS});
        CHECK(machine->violation == nullptr); // the fake blames every access to no register
    }
}

TEST_CASE("limits: what SAGAW, MGAW and the page sizes allow", "[vtd][rule 17]") {
    const auto machine = std::make_unique<hardware>();
    const auto with = [&](std::uint64_t cap, std::uint64_t ecap = qemu_ecap) {
        machine->cap = cap;
        machine->ecap = ecap;
        return unit_of<hardware>::attach({machine.get()}, 8192, {machine.get()}).value();
    };
    SECTION("levels are a bitmap") {
        for (std::uint64_t sagaw = 0; sagaw < 32; ++sagaw) {
            const std::uint64_t cap = (qemu_cap & ~std::uint64_t{0x1F00}) | sagaw << 8;
            if ((sagaw & 0b01110) == 0) {
                continue;
            }
            const auto unit = with(cap);
            for (unsigned levels = 0; levels < 70; ++levels) {
                const bool walks = (levels == 3 && (sagaw & 2) != 0) ||
                                   (levels == 4 && (sagaw & 4) != 0) ||
                                   (levels == 5 && (sagaw & 8) != 0);
                const auto got = unit.limits(levels, 39);
                REQUIRE(got.has_value() == walks);
                if (walks) {
                    CHECK(got->levels == levels);
                } else {
                    CHECK(got.error() == error{errc::not_supported, levels});
                }
            }
        }
    }
    SECTION("the width of an address is MGAW plus one, and never more than the levels reach") {
        for (const unsigned mgaw : {0U, 11U, 29U, 38U, 47U, 56U, 63U}) {
            const auto unit =
                with((qemu_cap & ~(std::uint64_t{0x3F} << 16)) | std::uint64_t{mgaw} << 16);
            for (const unsigned levels : {3U, 4U}) {
                const auto limits = unit.limits(levels, 46).value();
                CHECK(limits.input_width == mgaw + 1);
                const unsigned reach = levels == 3 ? 39 : 48;
                CHECK(pt::vtd::second_stage::format{limits}.input_width() ==
                      (mgaw + 1 < reach ? mgaw + 1 : reach));
            }
        }
    }
    SECTION("page sizes") {
        const std::uint64_t none = qemu_cap & ~(std::uint64_t{0xF} << 34);
        using enum pt::paging::page_size;
        CHECK(with(none).limits(4, 39)->largest_page == size_4k);
        CHECK(with(none | std::uint64_t{1} << 34).limits(4, 39)->largest_page == size_2m);
        CHECK(with(none | std::uint64_t{3} << 34).limits(4, 39)->largest_page == size_1g);
        // 1 GiB without 2 MiB: a split would need 2 MiB.
        CHECK(with(none | std::uint64_t{2} << 34).limits(4, 39)->largest_page == size_4k);
    }
    SECTION("the rest is taken over") {
        CHECK_FALSE(with(qemu_cap).limits(4, 39)->stale_when_mapped);
        CHECK(with(qemu_cap | cap_cm).limits(4, 39)->stale_when_mapped);
        // A write buffer has to be flushed after map() as well.
        CHECK(with(qemu_cap | cap_rwbf).limits(4, 39)->stale_when_mapped);
        CHECK_FALSE(with(qemu_cap).limits(4, 39)->snoop_control);
        CHECK(with(qemu_cap, qemu_ecap | 0x80).limits(4, 39)->snoop_control);
    }
    SECTION("a host address width that no DMAR table can mean") {
        const auto unit = with(qemu_cap);
        for (const unsigned width : {0U, 31U, 53U, 256U}) {
            CHECK(unit.limits(4, width).error() == error{errc::out_of_range, width});
        }
        CHECK(unit.limits(4, 32)->output_width == 32);
        CHECK(unit.limits(4, 52)->output_width == 52);
    }
    SECTION("domain ids: 4 + 2 ND bits, and ND 7 is reserved") {
        const std::uint32_t expected[] = {16, 64, 256, 1024, 4096, 16384, 65536, 65536};
        for (std::uint64_t nd = 0; nd < 8; ++nd) {
            CHECK(with((qemu_cap & ~std::uint64_t{7}) | nd).domain_ids() == expected[nd]);
        }
    }
}

TEST_CASE("a unit that vanished is absent, or out of time, and never done", "[vtd][hostile]") {
    for (unsigned at = 4; at < 40; ++at) { // 1 to 3 are the accesses of attach()
        const auto machine = std::make_unique<hardware>();
        machine->vanish_at = at;
        auto unit = driver(*machine);
        const auto set = unit.set_root_table(hpa{0x2000});
        const auto on = unit.enable_translation();
        if (!machine->gone) {
            CHECK((set && on));
            CHECK(at > 20); // the sweep went past the end of the bring-up
            break;
        }
        CHECK_FALSE((set && on));
        CHECK((on.error().code == errc::absent || on.error().code == errc::time_out));
        if (!set) {
            CHECK((set.error().code == errc::absent || set.error().code == errc::time_out));
        }
        CHECK(unit.invalidate_context() == error{errc::absent, GSTS});
        CHECK(unit.invalidate_iotlb() == error{errc::absent, GSTS});
        CHECK(unit.disable_translation() == error{errc::absent, GSTS});
        CHECK(unit.take_fault() == error{errc::absent, FSTS});
        CHECK_FALSE(unit.take_fault_overflow());
        CHECK(machine->violation == nullptr);
    }
}

} // namespace
