// SPDX-License-Identifier: BSL-1.0
// The model that stands beside the library is itself held against examples and tables of the
// manual: registers after power-up, the worked numbers of the priorities, valid and invalid ICR
// commands, logical destinations, and what the timer shows tick by tick. Nothing of pt is here.
#include "../../lapic_model/machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <set>

namespace {

using namespace lapic_model;

constexpr std::uint64_t no_reserved_bits = 0;

processor powered_up(std::uint32_t id = 0, bool bootstrap = true) {
    processor one;
    one.id = id;
    one.bootstrap = bootstrap;
    one.version = 0x0106'0015;
    one.timer_limits.most_owed = 3;
    one.power_up();
    return one;
}
processor enabled(std::uint32_t id = 0) {
    processor one = powered_up(id);
    one.write(at_svr, 4, 0x1FF);
    return one;
}
std::uint64_t dword(processor& one, unsigned offset) { return one.read(offset, 4).value; }

TEST_CASE("the model's registers after power-up are those that the manual lists",
          "[lapic][model]") {
    processor one = powered_up(5, false);
    CHECK(one.base == 0xFEE0'0800);
    CHECK(dword(one, 0x20) == 0x0500'0000);
    for (const unsigned zero : {0x80U, 0xA0U, 0xD0U, 0x100U, 0x170U, 0x180U, 0x200U, 0x270U, 0x280U,
                                0x300U, 0x310U, 0x380U, 0x390U, 0x3E0U}) {
        CHECK(dword(one, zero) == 0);
    }
    CHECK(dword(one, 0xE0) == 0xFFFF'FFFF);
    CHECK(dword(one, 0xF0) == 0xFF);
    for (const unsigned entry_at : {0x2F0U, 0x320U, 0x330U, 0x340U, 0x350U, 0x360U, 0x370U}) {
        CHECK(dword(one, entry_at) == 0x1'0000);
    }
    CHECK(one.waits_for_start_up);
    CHECK_FALSE(powered_up().waits_for_start_up);
}

TEST_CASE("the model's priorities are the classes of TPR and of what is in service",
          "[lapic][model][rule 26]") {
    processor one = enabled();
    one.accept(0x51, false);
    one.accept(0x5F, true);
    one.accept(0x35, false);
    CHECK(one.deliverable() == 0x5F);
    CHECK(dword(one, 0x220) == (1U << 0x11 | 1U << 0x1F));
    one.write(at_tpr, 4, 0x50);
    CHECK(one.deliverable() == 0); // class 5 is not above class 5
    CHECK(one.before_entry(true, true, false).held_class == 5);
    one.write(at_tpr, 4, 0x4F);
    CHECK(one.before_entry(true, true, false).vector == 0x5F);
    CHECK(one.ppr() == 0x50);
    CHECK(one.deliverable() == 0);
    const outcome end = one.write(at_eoi, 4, 0);
    CHECK((end.ended && end.ended_vector == 0x5F && end.broadcast));
    CHECK(one.ppr() == 0x4F);
    CHECK(one.deliverable() == 0x51);
    one.write_cr8(2);
    CHECK(dword(one, at_tpr) == 0x20);
    CHECK(one.write_cr8(16).fault);
}

TEST_CASE("the model sends what the manual's table of valid ICR combinations lists",
          "[lapic][model][rule 28]") {
    struct row {
        int delivery;
        bool none, self, including, excluding;
    };
    // Delivery mode: no shorthand, self, all including self, all excluding self.
    constexpr row table[] = {{0, true, true, true, true},   {1, true, false, false, true},
                             {2, true, false, false, true}, {3, false, false, false, false},
                             {4, true, false, false, true}, {5, true, false, false, true},
                             {6, true, false, false, true}, {7, false, false, false, false}};
    for (const row& line : table) {
        const bool valid[4] = {line.none, line.self, line.including, line.excluding};
        for (unsigned shorthand = 0; shorthand != 4; ++shorthand) {
            for (const bool level : {false, true}) {
                processor one = enabled();
                const std::uint32_t command = 0x4044U | static_cast<unsigned>(line.delivery) << 8 |
                                              (level ? 1U << 15 : 0U) | shorthand << 18;
                const outcome out = one.write(at_icr_low, 4, command);
                INFO("delivery " << line.delivery << ", shorthand " << shorthand);
                CHECK(out.send.has_value() == valid[shorthand]);
                CHECK(dword(one, at_icr_low) == command);
                if (out.send) {
                    CHECK((out.send->delivery == line.delivery && !out.send->level));
                }
            }
        }
    }
    processor one = enabled();
    CHECK_FALSE(one.write(at_icr_low, 4, 0x8500).send); // INIT level de-assert
    CHECK(one.write(at_icr_low, 4, 0xC500).send);
    CHECK_FALSE(one.write(at_icr_low, 4, 0x400F).send);
    one.write(at_esr, 4, 0);
    CHECK(dword(one, at_esr) == 0x20);
}

TEST_CASE("the model finds logical destinations flat, by cluster and by x2APIC cluster",
          "[lapic][model][rule 30]") {
    machine all;
    for (const std::uint32_t id : {0x00U, 0x01U, 0x12U, 0x1FU}) {
        all.processors.push_back(enabled(id));
    }
    std::uint32_t n = 0;
    for (processor& one : all.processors) {
        one.write(at_ldr, 4, 0x0100'0000U << n++);
    }
    const auto to = [&](bool logical, std::uint32_t destination, bool wide = false) {
        return all.addressed(0, sent{.logical = logical, .wide = wide, .destination = destination});
    };
    CHECK(to(true, 0x05) == std::set{0, 2});
    CHECK(to(true, 0xF0).empty());
    CHECK(to(true, 0xFF).size() == 4);
    CHECK(to(false, 0x12) == std::set{2});
    CHECK(to(false, 0xFF).size() == 4);
    CHECK(to(false, 0xFF, true).empty());
    CHECK(to(false, 0xFFFF'FFFF, true).size() == 4);

    n = 0;
    for (processor& one : all.processors) { // clusters 2, 2, 3, 3; members 0 and 1 of each
        one.write(at_dfr, 4, 0);
        one.write(at_ldr, 4, ((2 + n / 2) << 4 | 1U << n % 2) << 24);
        ++n;
    }
    CHECK(to(true, 0x23) == std::set{0, 1});
    CHECK(to(true, 0x32) == std::set{3});
    CHECK(to(true, 0x13).empty());

    for (processor& one : all.processors) {
        REQUIRE_FALSE(one.write_msr(0x1B, one.base | 1U << 10, no_reserved_bits).fault);
    }
    // Cluster 1 holds ids 10H to 1FH; member 2 is id 12H and member 15 is id 1FH.
    CHECK(all.processors[3].read_msr(0x80D).value == 0x0001'8000);
    CHECK(to(true, 0x0001'8004, true) == std::set{2, 3});
    CHECK(to(true, 0x0000'0002, true) == std::set{1});
    CHECK(to(false, 0x1F, true) == std::set{3});
}

TEST_CASE("the model's timer counts as the manual says", "[lapic][model][rule 29]") {
    processor one = enabled();
    one.write(at_divide, 4, 0x1); // by 4
    one.write(at_timer, 4, 0x40);
    one.write(at_initial_count, 4, 3);
    for (unsigned tick = 0; tick != 12; ++tick) {
        CHECK(dword(one, at_current_count) == 3 - tick / 4);
        CHECK(one.due_in() == 12 - tick);
        CHECK(one.irr.empty());
        one.advance(1);
    }
    CHECK(dword(one, at_current_count) == 0);
    CHECK(one.irr == std::set{0x40});
    one.advance(1000);
    CHECK_FALSE(one.due_in());

    SECTION("periodic: the count starts again at once, and no tick is lost") {
        one.irr.clear();
        one.write(at_timer, 4, 0x2'0041);
        CHECK(dword(one, at_current_count) == 0); // a switch does not restart
        one.write(at_initial_count, 4, 3);
        one.advance(12 * 3 + 5);
        CHECK(dword(one, at_current_count) == 2);
        for (int tick = 0; tick != 3; ++tick) {
            one.bring_timer_up_to_date();
            CHECK(one.irr.erase(0x41) == 1);
        }
        one.bring_timer_up_to_date();
        CHECK(one.irr.empty());
    }
    SECTION("a divide change takes effect at once and keeps the count") {
        one.write(at_initial_count, 4, 100);
        one.advance(40);
        one.write(at_divide, 4, 0xB); // by 1
        CHECK(dword(one, at_current_count) == 90);
        CHECK(one.due_in() == 90);
    }
    SECTION("TSC deadline") {
        one.irr.clear();
        CHECK_FALSE(one.write_msr(0x6E0, one.tsc + 7, 0).fault);
        CHECK(one.read_msr(0x6E0).value == 0); // another mode
        one.write(at_initial_count, 4, 100);
        one.write(at_timer, 4, 0x4'0042);
        CHECK(dword(one, at_current_count) == 0);
        one.write_msr(0x6E0, one.tsc + 7, 0);
        one.write(at_initial_count, 4, 1);
        one.advance(6);
        CHECK(one.read_msr(0x6E0).value == one.tsc + 1);
        CHECK(one.irr.empty());
        one.advance(1);
        CHECK(one.read_msr(0x6E0).value == 0);
        CHECK(one.irr == std::set{0x42});
    }
}

TEST_CASE("one long step of the model's timer is as many single ones", "[lapic][model][rule 29]") {
    std::uint32_t random = 12345;
    const auto below = [&](std::uint32_t limit) {
        random = random * 1'664'525 + 1'013'904'223;
        return (random >> 8) % limit;
    };
    for (int round = 0; round != 400; ++round) {
        processor one = enabled();
        one.timer_limits = {below(3) * 10, below(4)};
        one.write(at_divide, 4, below(16));
        one.write(at_timer, 4, 0x40U | below(2) << 17);
        one.write(at_initial_count, 4, below(8));
        processor other = one;
        const std::uint32_t ticks = below(3000);
        one.advance(ticks);
        for (std::uint32_t i = 0; i != ticks; ++i) {
            other.advance(1);
        }
        CHECK(dword(one, at_current_count) == dword(other, at_current_count));
        CHECK((one.irr == other.irr && one.owed == other.owed && one.due_in() == other.due_in()));
    }
}

TEST_CASE("the model's level-sensitive wire asks again after EOI for as long as it is asserted",
          "[lapic][model]") {
    processor one = enabled();
    one.write(at_lint0, 4, 0x8060);
    one.set_wire(0, true);
    CHECK(one.before_entry(true, true, false).vector == 0x60);
    CHECK(dword(one, at_lint0) == 0xC060); // remote IRR
    CHECK(one.irr.empty());
    CHECK(one.write(at_eoi, 4, 0).broadcast);
    CHECK(one.irr == std::set{0x60});
    one.set_wire(0, false);
    CHECK(one.before_entry(true, true, false).vector == 0x60);
    one.write(at_eoi, 4, 0);
    CHECK((one.irr.empty() && dword(one, at_lint0) == 0x8060));
    one.write(at_lint0, 4, 0x0700);
    one.set_wire(0, true);
    CHECK(one.extint_pending());
    one.write(at_svr, 4, 0xFF);
    CHECK_FALSE(one.extint_pending()); // a software-disabled APIC masks every entry
    CHECK(dword(one, at_lint0) == 0x1'0700);
}

TEST_CASE("the model's errors are latched by a write and do not recurse",
          "[lapic][model][rule 26]") {
    processor one = enabled();
    one.write(at_error, 4, 0x0E); // itself illegal
    one.read(0x40, 4);
    CHECK(dword(one, at_esr) == 0);
    one.write(at_esr, 4, 7);
    CHECK(dword(one, at_esr) == 0xC0);
    one.write(at_error, 4, 0x70);
    one.accept(9, false);
    CHECK(one.irr == std::set{0x70});
    one.irr.clear();
    one.accept(9, false);
    CHECK(one.irr.empty()); // rearmed by a write only
    one.write(at_esr, 4, 0);
    one.write(at_esr, 4, 0);
    CHECK(dword(one, at_esr) == 0);
}

TEST_CASE("the model's APIC-base transitions are those of the manual's figure",
          "[lapic][model][rule 28]") {
    // EXTD and EN before and after; whether the change is allowed.
    constexpr bool allowed[3][3] = {{true, true, false}, {true, true, true}, {true, false, true}};
    constexpr std::uint64_t value[3] = {0xFEE0'0100, 0xFEE0'0900, 0xFEE0'0D00};
    for (unsigned from = 0; from != 3; ++from) {
        for (unsigned to = 0; to != 3; ++to) {
            processor one = powered_up(0x23);
            one.write_msr(0x1B, value[from > 1 ? 1 : from], 0);
            one.write_msr(0x1B, value[from], 0);
            REQUIRE(one.base == value[from]);
            INFO(from << " to " << to);
            CHECK(one.write_msr(0x1B, value[to], 0).fault == !allowed[from][to]);
            CHECK(one.base == (allowed[from][to] ? value[to] : value[from]));
        }
    }
    processor one = powered_up(0x23);
    CHECK(one.write_msr(0x1B, 0xFEE0'0500, 0).fault); // EXTD without EN
    CHECK(one.write_msr(0x1B, 0xFEE0'0901, 0xFF).fault);
    CHECK(one.write_msr(0x808, 0, 0).fault); // no MSRs in xAPIC mode
    one.write_msr(0x1B, 0xFEE0'0D00, 0);
    CHECK(one.read_msr(0x802).value == 0x23);
    CHECK(one.read_msr(0x80D).value == 0x0002'0008);
    for (const std::uint32_t absent :
         {0x800U, 0x809U, 0x80BU, 0x80CU, 0x80EU, 0x831U, 0x83FU, 0x840U, 0x8FFU}) {
        CHECK(one.read_msr(absent).fault);
    }
    for (const std::uint32_t read_only : {0x802U, 0x803U, 0x80AU, 0x80DU, 0x810U, 0x827U, 0x839U}) {
        CHECK(one.write_msr(read_only, 0, 0).fault);
    }
    CHECK(one.write_msr(0x80B, 1, 0).fault);
    CHECK_FALSE(one.write_msr(0x80B, 0, 0).fault);
    CHECK(one.write_msr(0x808, 0x100, 0).fault);
    CHECK(one.write_msr(0x830, 0x2000, 0).fault);
    CHECK(one.read(0x20, 4).value == 0xFFFF'FFFF);
}

TEST_CASE("the model's INIT keeps the id and the mode, and a start-up counts once after it",
          "[lapic][model][rule 30]") {
    processor one = powered_up(3, false);
    one.receive(start_up, 0x10, false);
    one.receive(start_up, 0x11, false);
    CHECK(one.start_up_vector == 0x10);
    one.start_up_vector.reset();
    one.waits_for_start_up = false;
    one.receive(start_up, 0x12, false);
    CHECK_FALSE(one.start_up_vector);
    one.write_msr(0x1B, one.base | 1U << 10, 0);
    one.write_msr(0x80F, 0x1FF, 0);
    one.write_msr(0x838, 77, 0);
    one.accept(0x40, false);
    one.receive(init, 0, false);
    CHECK((one.now_in() == mode::x2apic && one.irr.empty() && one.waits_for_start_up));
    CHECK(one.read_msr(0x802).value == 3);
    CHECK(one.read_msr(0x80F).value == 0xFF);
    CHECK(one.read_msr(0x838).value == 0);
    CHECK(one.read_msr(0x80D).value == 8);
}

} // namespace
