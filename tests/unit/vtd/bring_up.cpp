// SPDX-License-Identifier: BSL-1.0
// A unit is taken, and switched on from reset: which writes, in which order, with which values. The
// numbers are the manual's [vt-d]; take_over.cpp has the units that firmware left on.
#include "../../vtd_model/rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::vtd::apic_mode;
using pt::vtd::table_mode;
using pt::vtd::translation;
using pt::vtd::unit_options;
using hardware = fake_unit<8>;

constexpr std::uint64_t context_global = 0xA000'0000'0000'0000; // ICC, CIRG 01
constexpr std::uint64_t iotlb_global = 0x9003'0000'0000'0000;   // IVT, IIRG 01, DR, DW
constexpr std::uint32_t IOTLB = 0xF8;
constexpr std::uint16_t nic = 0x28;

// The frames that a unit takes, in the fake's order of allocation.
constexpr std::uint64_t frame(unsigned n) { return hardware::base + n * 4096; }

/// The descriptors in the queue, as long as there are any: both words of each.
template <class Hardware, std::size_t N>
constexpr bool queue_holds(const Hardware& machine, const std::uint64_t (&expected)[N][2]) {
    const std::uint64_t queue = machine.iqa & ~std::uint64_t{0xFFF};
    const std::uint64_t size = (machine.iqa & 0x800) != 0 ? 32 : 16;
    for (std::size_t i = 0; i < N; ++i) {
        const std::uint64_t at = queue + i * size;
        const std::uint64_t low = machine.stored_at(at);
        // Of a wait the status data is the queue's own affair; its type and flags are not.
        const std::uint64_t mask = (low & 0xF) == 5 ? 0xFFFF'FFFF : ~std::uint64_t{0};
        if ((low & mask) != expected[i][0] || machine.stored_at(at + 8) != expected[i][1]) {
            return false;
        }
    }
    return machine.iqt == N * size;
}

TEST_CASE("bring-up from reset, by queue: queue, root, context cache, IOTLB, translation",
          "[vtd][rule 12][rule 13]") {
    constexpr auto works = [] {
        hardware machine;
        auto unit = driver(machine); // frame 0: interrupts, 1: queue, 2: status, 3: root
        bool ok = register_writes(machine) == 0 && machine.in_use == 4;
        ok = ok && unit.start().has_value();
        const event expected[] = {
            order64(IQT, 0),           order64(IQA, frame(1)),     order32(GCMD, 0x0400'0000),
            order64(RTADDR, frame(3)), order32(GCMD, 0x4400'0000), order64(IQT, 0x40),
            order32(GCMD, 0x8400'0000)};
        ok = ok && wrote(machine, expected);
        // Each wait is a fence with a status write; nothing of scalable mode.
        const std::uint64_t descriptors[][2] = {
            {0x11, 0}, {0x65, frame(2)}, {0xD2, 0}, {0x65, frame(2)}};
        ok = ok && queue_holds(machine, descriptors);
        ok = ok && machine.gsts == (TE | SRTP | QIE) && unit.status().raw == machine.gsts;
        ok = ok && machine.dma(nic, 0x5000, true).reason == 0x1;
        ok = ok && unit.stop().has_value() && machine.gsts == SRTP;
        ok = ok && unit.retire().has_value() && machine.in_use == 0;
        return ok && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("bring-up from reset, by registers: root, context cache, IOTLB, translation",
          "[vtd][rule 12][rule 13]") {
    constexpr auto works = [](bool has_queue) {
        hardware machine;
        if (!has_queue) {
            machine.ecap &= ~(ecap_qi | ecap_ir);
        }
        auto unit = driver(machine, has_queue ? by_registers() : unit_options{});
        bool ok = machine.in_use == 1 && unit.start().has_value();
        const event expected[] = {order64(RTADDR, frame(0)), order32(GCMD, 0x4000'0000),
                                  order64(CCMD, context_global), order64(IOTLB, iotlb_global),
                                  order32(GCMD, 0x8000'0000)};
        ok = ok && wrote(machine, expected) && machine.gsts == (TE | SRTP);
        ok = ok && machine.dma(nic, 0x5000, true).reason == 0x1;
        ok = ok && unit.stop().has_value() && machine.gsts == SRTP;
        return ok && unit.retire().has_value() && machine.in_use == 0 && machine.violations == 0;
    };
    static_assert(works(true) && works(false));
    REQUIRE(works(true));
    REQUIRE(works(false));
}

TEST_CASE("bring-up in scalable mode: wide descriptors, and the PASID cache between the others",
          "[vtd][rule 12][rule 13]") {
    constexpr auto works = [] {
        hardware machine;
        machine.ecap = scalable_ecap;
        auto unit = driver(machine, in_scalable_mode());
        bool ok = unit.start().has_value();
        const event expected[] = {order64(IQT, 0),
                                  order64(IQA, frame(1) | 0x800),
                                  order32(GCMD, 0x0400'0000),
                                  order64(RTADDR, frame(3) | 0x400),
                                  order32(GCMD, 0x4400'0000),
                                  order64(IQT, 6 * 32),
                                  order32(GCMD, 0x8400'0000)};
        ok = ok && wrote(machine, expected);
        const std::uint64_t descriptors[][2] = {
            {0x11, 0}, {0x65, frame(2)}, {0x37, 0}, {0x65, frame(2)}, {0xD2, 0}, {0x65, frame(2)}};
        ok = ok && queue_holds(machine, descriptors);
        ok = ok && machine.dma(nic, 0x5000, true).reason == 0x39;
        ok = ok && unit.stop().has_value() && unit.retire().has_value();
        return ok && machine.in_use == 0 && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("legacy mode on a unit with scalable mode: no descriptor that only scalable mode has",
          "[vtd][rule 13]") {
    // In legacy mode types 1 to 5 are valid and no others [vt-d, "List of Valid Descriptor Types
    // for Each Mode"], whatever the width.
    constexpr auto works = [] {
        hardware machine;
        machine.ecap = scalable_ecap;
        auto unit = driver(machine);
        bool ok = unit.start().has_value();
        const std::uint64_t descriptors[][2] = {
            {0x11, 0}, {0x65, frame(2)}, {0xD2, 0}, {0x65, frame(2)}};
        ok = ok && (machine.iqa & 0x800) != 0 && queue_holds(machine, descriptors);
        ok = ok && machine.rtaddr == frame(3);
        ok = ok && unit.stop().has_value() && unit.retire().has_value();
        return ok && machine.in_use == 0 && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a write buffer is flushed before the unit is told to look", "[vtd]") {
    constexpr auto works = [](bool queued) {
        hardware machine;
        machine.cap |= cap_rwbf;
        auto unit = driver(machine, queued ? unit_options{} : by_registers());
        bool ok = unit.start().has_value();
        if (queued) {
            const event expected[] = {order64(IQT, 0),
                                      order64(IQA, frame(1)),
                                      order32(GCMD, 0x0800'0000),
                                      order32(GCMD, 0x0400'0000),
                                      order32(GCMD, 0x0C00'0000),
                                      order64(RTADDR, frame(3)),
                                      order32(GCMD, 0x4400'0000),
                                      order32(GCMD, 0x0C00'0000),
                                      order64(IQT, 0x40),
                                      order32(GCMD, 0x8400'0000)};
            ok = ok && wrote(machine, expected);
        } else {
            const event expected[] = {order32(GCMD, 0x0800'0000),    order64(RTADDR, frame(0)),
                                      order32(GCMD, 0x4000'0000),    order32(GCMD, 0x0800'0000),
                                      order64(CCMD, context_global), order32(GCMD, 0x0800'0000),
                                      order64(IOTLB, iotlb_global),  order32(GCMD, 0x8000'0000)};
            ok = ok && wrote(machine, expected);
        }
        // Junk that was never flushed would be an entry with reserved bits.
        ok = ok && machine.dma(nic, 0, false).reason == 0x1;
        ok = ok && unit.stop().has_value() && unit.retire().has_value();
        return ok && machine.in_use == 0 && machine.violations == 0;
    };
    static_assert(works(true) && works(false));
    REQUIRE(works(true));
    REQUIRE(works(false));
}

TEST_CASE("drains are asked for exactly where the unit has them", "[vtd][rule 18]") {
    for (std::uint64_t drains = 0; drains < 4; ++drains) { // DWD, DRD
        const auto machine = std::make_unique<hardware>();
        machine->cap = (machine->cap & ~(std::uint64_t{3} << 54)) | drains << 54;
        auto unit = driver(*machine, by_registers());
        REQUIRE(unit.start());
        CHECK(machine->journal[machine->events - 2] ==
              order64(IOTLB, 0x9000'0000'0000'0000 | drains << 48));
        REQUIRE(unit.stop());
        REQUIRE(unit.retire());
        CHECK(machine->violation == nullptr);
    }
}

TEST_CASE("entries that are there before start() are in force at once", "[vtd]") {
    const auto machine = std::make_unique<fake_unit<16>>();
    machine->cap |= cap_cm;
    auto unit = driver(*machine);
    tables_of<fake_unit<16>> guest{{machine.get()}, format_of(*machine), {machine.get()}};
    pt::vtd::domain_invalidator forgets{unit, 7};
    {
        auto ticket =
            guest.map({iova{0x1000}, 0x1000}, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
        REQUIRE((ticket && ticket->redeem(forgets)));
    }
    REQUIRE(unit.attach(pt::pci::function_address{0, 0, 5, 0},
                        translation::second_stage(guest.root().value(), guest.format(), 7)));
    CHECK(register_writes(*machine) == 0); // the unit has seen nothing of it: nothing to forget
    REQUIRE(unit.start());
    CHECK(machine->dma(nic, 0x1008, true).to == 0x10'0008);
    CHECK(machine->dma(nic, 0x2008, true).reason == 0x5);
    CHECK(machine->dma(0x30, 0x1008, true).reason == 0x2);
    REQUIRE(unit.detach(pt::pci::function_address{0, 0, 5, 0}));
    CHECK(machine->dma(nic, 0x1008, true).reason == 0x2);
    {
        auto owed = guest.retire();
        REQUIRE(owed.redeem(forgets));
    }
    REQUIRE(unit.stop());
    REQUIRE(unit.retire());
    CHECK(machine->in_use == 0);
    CHECK(machine->violation == nullptr);
}

TEST_CASE("start() again changes nothing for a device, and is no new queue", "[vtd][rule 12]") {
    for (const bool queued : {true, false}) {
        const auto machine = std::make_unique<hardware>();
        auto unit = driver(*machine, queued ? unit_options{} : by_registers());
        REQUIRE(unit.start());
        machine->guard.address = 0x5000;
        machine->guard.runs = true;
        machine->forget_journal();
        REQUIRE(unit.start());
        for (std::size_t i = 0; i < machine->events; ++i) {
            CHECK(machine->journal[i].where != IQA);
            if (machine->journal[i].where == GCMD) {
                CHECK((machine->journal[i].value & TE) != 0);
                CHECK(((machine->journal[i].value & QIE) != 0) == queued);
            }
        }
        CHECK_FALSE(machine->guard.opened);
        CHECK(machine->violation == nullptr);
        machine->guard.runs = false;
        REQUIRE(unit.stop());
        REQUIRE(unit.retire());
    }
}

// ---- taking
// --------------------------------------------------------------------------------------

TEST_CASE("to take a unit is to write nothing to it", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    machine->gsts = TE | SRTP | QIE | IRE | SIRTP | CFI;
    const std::uint32_t before = machine->gsts;
    auto unit = driver(*machine);
    CHECK(register_writes(*machine) == 0);
    CHECK(machine->gsts == before);
    CHECK(unit.register_base() == hpa{0xFED9'0000});
    CHECK(unit.mode() == table_mode::legacy);
    CHECK(unit.interrupts().size() == 256);
    REQUIRE(unit.retire()); // it has never been given anything
    CHECK(register_writes(*machine) == 0);
    CHECK(machine->in_use == 0);
}

TEST_CASE("a unit is taken only where its registers make sense", "[vtd][hostile]") {
    const auto machine = std::make_unique<hardware>();
    const auto taken = [&](std::uint32_t ver, std::uint64_t cap, std::uint64_t ecap,
                           std::uint64_t window = 4096) {
        machine->ver = ver;
        machine->cap = cap;
        machine->ecap = ecap;
        auto unit = take(*machine, {}, window);
        if (!unit) {
            CHECK(machine->in_use == 0);
            return unit.error();
        }
        CHECK(unit->retire());
        return error{};
    };
    constexpr std::uint64_t ones = ~std::uint64_t{0};
    const error absent{errc::absent, 0};
    const error malformed{errc::malformed, CAP};
    CHECK(taken(0x10, qemu_cap, qemu_ecap) == error{});
    CHECK(taken(0xFFFF'FFFF, ones, ones) == absent);
    CHECK(taken(0xFFFF'FFFF, qemu_cap, qemu_ecap) == absent);
    CHECK(taken(0x10, ones, qemu_ecap) == absent);
    CHECK(taken(0x10, qemu_cap, ones) == absent);
    CHECK(taken(0, 0, 0) == absent);
    CHECK(taken(0x10, 0, 0) == malformed);
    CHECK(taken(0x10, 0, qemu_ecap) == malformed);
    CHECK(taken(0x10, qemu_cap, 0) == malformed); // IVA over VER
    // SAGAW without 3, 4 or 5 levels: 2 and 6 levels are nothing for us.
    CHECK(taken(0x10, qemu_cap & ~std::uint64_t{0x1F00}, qemu_ecap) == malformed);
    CHECK(taken(0x10, (qemu_cap & ~std::uint64_t{0x1F00}) | 0x1100, qemu_ecap) == malformed);
    // One record at 0x220 ends at 0x230; the IOTLB register ends at 0x100.
    CHECK(taken(0x10, qemu_cap, qemu_ecap, 0x230) == error{});
    CHECK(taken(0x10, qemu_cap, qemu_ecap, 0x22F) == malformed);
    // 256 records from 0x220 on end at 0x1220.
    const std::uint64_t many = qemu_cap | std::uint64_t{0xFF} << 40;
    CHECK(taken(0x10, many, qemu_ecap, 0x1220) == error{});
    CHECK(taken(0x10, many, qemu_ecap, 0x1000) == malformed);
    // The highest places that the fields can name.
    CHECK(taken(0x10, qemu_cap | std::uint64_t{0x3FF} << 24, qemu_ecap) == malformed);
    CHECK(taken(0x10, qemu_cap, qemu_ecap | 0x3FF00) == malformed);
}

TEST_CASE("from version 6 on a unit may have no second stage, and so no widths", "[vtd][hostile]") {
    constexpr std::uint64_t second_stage = std::uint64_t{1} << 46; // SSTS
    const auto machine = std::make_unique<hardware>();
    machine->cap &= ~std::uint64_t{0x1F00};
    machine->ver = 0x60;
    auto unit = take(*machine);
    REQUIRE(unit);
    CHECK(unit->limits(4, 39).error() == error{errc::not_supported, 4});
    CHECK(unit->retire());
    machine->ecap |= second_stage;
    CHECK(take(*machine).error() == error{errc::malformed, 0x08});
    machine->ecap &= ~second_stage;
    machine->ver = 0x50;
    CHECK(take(*machine).error() == error{errc::malformed, 0x08});
}

TEST_CASE("functions are attached to a unit whose start failed before it knew the tables",
          "[vtd][scalable][errors]") {
    unsigned half_started = 0;
    for (unsigned order = 1; order < 12; ++order) {
        const auto machine = std::make_unique<hardware>();
        machine->ecap = scalable_ecap;
        machine->cap |= cap_plmr | cap_phmr;
        machine->firmware_translation(foreign_frame(*machine)); // in legacy mode
        auto unit = driver(*machine, in_scalable_mode());
        machine->stall_at = machine->orders + order;
        const bool started = unit.start().has_value();
        if (!started && (machine->gsts & QIE) != 0 && machine->asked_mode() == 0) {
            ++half_started;
            // The unit is in legacy mode still, and would refuse what scalable mode has to forget.
            const auto format = format_of(*machine);
            CHECK(unit.attach(pt::pci::function_address::from_source_id(nic),
                              translation::second_stage(hpa{frame(7)}, format, 7)));
            CHECK((machine->fsts & IQE) == 0);
        }
        CHECK(machine->violation == nullptr);
        unit.leak();
    }
    CHECK(half_started != 0);
}

TEST_CASE("registers that lie over each other, over the fixed ones or outside are refused",
          "[vtd][hostile][rule 16]") {
    const auto machine = std::make_unique<fake_unit<1>>();
    using window_type = unit_of<fake_unit<1>>::window_type;
    struct kind {
        std::uint64_t cap;
        std::uint64_t ecap;
        std::uint32_t fixed_end; ///< of the registers that such a unit has at fixed places
    };
    const kind kinds[] = {{0, 0, 0x48},
                          {cap_plmr, 0, 0x80},
                          {cap_phmr, 0, 0x80},
                          {0, ecap_qi | ecap_ir, 0xC0},
                          {0, ecap_qi | ecap_ir | ecap_prs, 0xF0}};
    for (const kind& k : kinds) {
        for (std::uint64_t records = 0; records < 0x40; ++records) {      // FRO
            for (const std::uint64_t more : {0U, 1U, 3U, 0x1FU, 0xFFU}) { // NFR
                for (std::uint64_t iotlb = 0; iotlb < 0x48; ++iotlb) {    // IRO
                    machine->cap =
                        (qemu_cap & ~(std::uint64_t{0x3FF} << 24 | std::uint64_t{0xFF} << 40)) |
                        records << 24 | more << 40 | k.cap;
                    machine->ecap = (qemu_ecap & ~(std::uint64_t{0x3FF00} | ecap_qi | ecap_ir)) |
                                    iotlb << 8 | k.ecap;
                    // The same in bytes: all three places, none of which may meet another.
                    constexpr std::uint64_t window = 0x420;
                    const std::uint64_t place[3][2] = {{0, k.fixed_end},
                                                       {records * 16, (records + more + 1) * 16},
                                                       {iotlb * 16, iotlb * 16 + 16}};
                    bool fits = true;
                    for (unsigned i = 0; i < 3; ++i) {
                        fits = fits && place[i][1] <= window;
                        for (unsigned j = 0; j < i; ++j) {
                            fits =
                                fits && (place[i][1] <= place[j][0] || place[j][1] <= place[i][0]);
                        }
                    }
                    const auto opened = window_type::open({machine.get()}, window, {machine.get()});
                    if (opened.has_value() != fits ||
                        (!opened && opened.error() != error{errc::malformed, CAP})) {
                        FAIL("FRO " << records << ", NFR " << more << ", IRO " << iotlb << ", to "
                                    << k.fixed_end);
                    }
                }
            }
        }
    }
}

TEST_CASE("what the unit lacks is refused before anything is taken", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    const error lacks{errc::not_supported, ECAP};
    const auto taken = [&](std::uint64_t ecap, unit_options chosen, std::uint32_t ver = 0x10) {
        machine->ecap = ecap;
        machine->ver = ver;
        auto unit = take(*machine, chosen);
        if (!unit) {
            CHECK(machine->in_use == 0);
            return unit.error();
        }
        CHECK(unit->retire());
        CHECK(machine->in_use == 0);
        return error{};
    };
    const unit_options scalable = in_scalable_mode();
    SECTION("scalable mode needs SMTS, and the queue") {
        CHECK(taken(scalable_ecap, scalable) == error{});
        CHECK(taken(scalable_ecap & ~ecap_smts, scalable) == lacks);
        CHECK(taken(scalable_ecap & ~(ecap_qi | ecap_ir), scalable) == lacks);
        unit_options odd = scalable;
        odd.invalidation = pt::vtd::invalidation_interface::registers;
        CHECK(taken(scalable_ecap, odd) == lacks);
    }
    SECTION("the other table modes are none to take a unit for") {
        for (const unsigned mode : {2U, 3U}) {
            unit_options odd;
            odd.mode = static_cast<table_mode>(mode);
            CHECK(taken(scalable_ecap | ecap_adms, odd) == lacks);
        }
    }
    SECTION("local APICs with 32-bit ids need EIM, and EIMER needs them") {
        constexpr std::uint64_t eimer = std::uint64_t{1} << 61;
        const unit_options x2apic{.apics = apic_mode::x2apic};
        CHECK(taken(qemu_ecap & ~ecap_eim, x2apic) == lacks);
        CHECK(taken(qemu_ecap | ecap_eim, x2apic) == error{});
        CHECK(taken(qemu_ecap | ecap_eim, {}) == error{});
        CHECK(taken(qemu_ecap | ecap_eim | eimer, {}) == lacks);
        CHECK(taken(qemu_ecap | ecap_eim | eimer, x2apic) == error{});
        // Nothing is remapped without interrupt remapping.
        CHECK(taken(qemu_ecap & ~(ecap_eim | ecap_ir), x2apic) == error{});
    }
    SECTION("from version 6 on there is nothing but the queue") {
        CHECK(taken(qemu_ecap & ~(ecap_qi | ecap_ir), {}, 0x5F) == error{});
        CHECK(taken(qemu_ecap & ~(ecap_qi | ecap_ir), {}, 0x60) == lacks);
        CHECK(taken(qemu_ecap, by_registers(), 0x50) == error{});
        CHECK(taken(qemu_ecap, by_registers(), 0x60) == lacks);
        CHECK(taken(qemu_ecap, {}, 0x60) == error{});
    }
}

TEST_CASE("a table for interrupts of the VMM's own memory", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    const std::uint64_t base = foreign_frame(*machine);
    std::uint64_t* const entries = machine->stored + (base - hardware::base) / 8;
    const auto with = [&](std::uint64_t at, std::uint32_t count) {
        unit_options chosen;
        chosen.interrupts = {hpa{at}, entries, count};
        auto unit = take(*machine, chosen);
        if (!unit) {
            CHECK(machine->in_use == 1);
            return unit.error();
        }
        CHECK(unit->interrupts().size() == count);
        CHECK(unit->interrupts().base() == hpa{at});
        CHECK(machine->in_use == 4); // queue, status, root and what was there before
        CHECK(unit->retire());
        CHECK(machine->in_use == 1); // which stays the VMM's
        return error{};
    };
    CHECK(with(base, 128) == error{});
    CHECK(with(base, 256) == error{});
    CHECK(with(base + 16, 128) == error{errc::misaligned, base + 16});
    CHECK(with(base, 100) == error{errc::out_of_range, 100});
    CHECK(machine->violation == nullptr);
}

TEST_CASE("out of frames at each allocation: everything is given back", "[vtd]") {
    for (const bool queued : {true, false}) {
        const std::size_t needed = queued ? 4 : 1;
        for (std::size_t frames = 0; frames <= needed; ++frames) {
            const auto machine = std::make_unique<hardware>();
            machine->limit = frames;
            auto unit = take(*machine, queued ? unit_options{} : by_registers());
            CHECK(unit.has_value() == (frames == needed));
            if (unit) {
                CHECK(unit->retire());
            } else {
                CHECK(unit.error().code == errc::out_of_frames);
            }
            CHECK(machine->in_use == 0);
            CHECK(register_writes(*machine) == 0);
            CHECK(machine->violation == nullptr);
        }
    }
}

TEST_CASE("every CAP and ECAP bit flipped: a unit that works, or an error and no access outside",
          "[vtd][hostile]") {
    for (const std::uint64_t ecap : {qemu_ecap, scalable_ecap}) {
        for (unsigned bit = 0; bit < 128; ++bit) {
            const auto machine = std::make_unique<fake_unit<16>>();
            machine->ecap = ecap;
            (bit < 64 ? machine->cap : machine->ecap) ^= std::uint64_t{1} << bit % 64;
            auto unit = take(*machine);
            CAPTURE(bit);
            if (!unit) {
                // 3 ND of the records, IRO and SAGAW, or EIMER without EIM.
                CHECK((unit.error() == error{errc::malformed, CAP} || bit == 64 + 61));
                CHECK(machine->in_use == 0);
                continue;
            }
            CHECK(unit->start());
            CHECK(machine->dma(nic, 0x5000, true).reason == 0x1);
            CHECK(unit->faults().take());
            CHECK(unit->stop());
            CHECK(unit->retire());
            CHECK(machine->in_use == 0);
            CHECK(machine->violation == nullptr); // the fake blames every access to no register
        }
    }
}

TEST_CASE("a unit that vanishes while it is taken is absent, or as it seemed", "[vtd][hostile]") {
    for (unsigned at = 1; at < 10; ++at) {
        const auto machine = std::make_unique<hardware>();
        machine->vanish_at = at;
        auto unit = take(*machine);
        if (!unit) {
            CHECK(unit.error() == error{errc::absent, 0});
        } else {
            CHECK((!machine->gone || !unit->start()));
            unit->leak();
        }
    }
}

TEST_CASE("limits: what SAGAW, MGAW and the page sizes allow", "[vtd][rule 17]") {
    const auto machine = std::make_unique<hardware>();
    const auto limits = [&](std::uint64_t cap, unsigned levels, unsigned width,
                            std::uint64_t ecap = qemu_ecap) {
        machine->cap = cap;
        machine->ecap = ecap;
        auto unit = take(*machine, {}, 8192).value();
        const auto got = unit.limits(levels, width);
        CHECK(unit.retire());
        return got;
    };
    SECTION("levels are a bitmap") {
        for (std::uint64_t sagaw = 0; sagaw < 32; ++sagaw) {
            const std::uint64_t cap = (qemu_cap & ~std::uint64_t{0x1F00}) | sagaw << 8;
            if ((sagaw & 0b01110) == 0) {
                continue;
            }
            for (unsigned levels = 0; levels < 70; ++levels) {
                const bool walks = (levels == 3 && (sagaw & 2) != 0) ||
                                   (levels == 4 && (sagaw & 4) != 0) ||
                                   (levels == 5 && (sagaw & 8) != 0);
                const auto got = limits(cap, levels, 39);
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
            const std::uint64_t cap =
                (qemu_cap & ~(std::uint64_t{0x3F} << 16)) | std::uint64_t{mgaw} << 16;
            for (const unsigned levels : {3U, 4U}) {
                const auto got = limits(cap, levels, 46).value();
                CHECK(got.input_width == mgaw + 1);
                const unsigned reach = levels == 3 ? 39 : 48;
                CHECK(pt::vtd::second_stage::format{got}.input_width() ==
                      (mgaw + 1 < reach ? mgaw + 1 : reach));
            }
        }
    }
    SECTION("page sizes") {
        const std::uint64_t none = qemu_cap & ~(std::uint64_t{0xF} << 34);
        using enum pt::paging::page_size;
        CHECK(limits(none, 4, 39)->largest_page == size_4k);
        CHECK(limits(none | std::uint64_t{1} << 34, 4, 39)->largest_page == size_2m);
        CHECK(limits(none | std::uint64_t{3} << 34, 4, 39)->largest_page == size_1g);
        // 1 GiB without 2 MiB: a split would need 2 MiB.
        CHECK(limits(none | std::uint64_t{2} << 34, 4, 39)->largest_page == size_4k);
    }
    SECTION("the rest is taken over") {
        CHECK_FALSE(limits(qemu_cap, 4, 39)->stale_when_mapped);
        CHECK(limits(qemu_cap | cap_cm, 4, 39)->stale_when_mapped);
        // A write buffer has to be flushed after map() as well.
        CHECK(limits(qemu_cap | cap_rwbf, 4, 39)->stale_when_mapped);
        CHECK_FALSE(limits(qemu_cap, 4, 39)->snoop_control);
        CHECK(limits(qemu_cap, 4, 39, qemu_ecap | ecap_sc)->snoop_control);
    }
    SECTION("a host address width that no DMAR table can mean") {
        for (const unsigned width : {0U, 31U, 53U, 256U}) {
            CHECK(limits(qemu_cap, 4, width).error() == error{errc::out_of_range, width});
        }
        CHECK(limits(qemu_cap, 4, 32)->output_width == 32);
        CHECK(limits(qemu_cap, 4, 52)->output_width == 52);
    }
    CHECK(machine->in_use == 0);
}

} // namespace
