// SPDX-License-Identifier: BSL-1.0
//
// Faults as QEMU's VT-d records them: each reason that can be provoked, by damaging by hand the
// tables that pt made, named right with whose request it was and where it aimed; overflow; the
// fault event.
//
// Where QEMU 7.2 is not the hardware:
// - In scalable mode it has the numbers of legacy mode, but for output in the interrupt range, and
//   0x58 for all that is wrong with a PASID directory or table. The table below names the manual's
//   besides.
// - It has one fault recording register, and records requests of one function as one fault as long
//   as that is pending.
// - In scalable mode it says that requests without a PASID had PASID 0, where a page was not
//   mapped.
#include "vtd_machine.hpp"

#include <cstdint>
#include <string>
#include <vector>

#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

using namespace vtd_machine;
using pt::vtd::fault_reason;
using pt::vtd::fault_status;

namespace {

using rig = driven_machine<>;

constexpr iova small{small_at};
/// Where QEMU has nothing to be read: between RAM and the devices.
constexpr std::uint64_t nowhere = 0x6000'0000;

/// What is wrong with the tables, for a write of edu_a to `small`.
struct damage {
    const char* what;
    hpa (*where)(rig&, const walk&); ///< the qword
    std::uint64_t cleared;
    std::uint64_t set;
    fault_reason legacy;
    fault_reason scalable_by_qemu;
    fault_reason scalable_by_manual; ///< not tested
};

hpa root_entry(rig&, const walk& w) { return w.root_entry; }
hpa context_entry(rig&, const walk& w) { return w.context_entry; }
hpa context_entry_high(rig&, const walk& w) { return w.context_entry + 8; }
hpa directory_entry(rig&, const walk& w) { return w.pasid_directory_entry; }
hpa pasid_entry(rig&, const walk& w) { return w.pasid_entry; }
hpa level_4(rig& m, const walk& w) { return w.entry(m, small, 4); }
hpa level_3(rig& m, const walk& w) { return w.entry(m, small, 3); }
hpa level_2(rig& m, const walk& w) { return w.entry(m, small, 2); }
hpa level_1(rig& m, const walk& w) { return w.entry(m, small, 1); }

constexpr std::uint64_t address_bits = 0x000F'FFFF'FFFF'F000;
/// Above the host address width.
constexpr std::uint64_t bit_50 = std::uint64_t{1} << 50;

using enum fault_reason;

// clang-format off
/// In both modes.
constexpr damage of_both[]{
    {"the root entry is not present", root_entry, 1, 0,
     root_entry_not_present, root_entry_not_present, scalable_root_entry_not_present},
    {"the root entry has a reserved bit", root_entry, 0, 0x10,
     root_entry_reserved_bits, root_entry_reserved_bits, scalable_root_entry_reserved_bits},
    {"the context table is nowhere", root_entry, address_bits, nowhere,
     context_table_access_error, context_table_access_error, scalable_context_table_access_error},
    {"the context entry is not present", context_entry, 1, 0,
     context_entry_not_present, context_entry_not_present, scalable_context_entry_not_present},
    {"the context entry has a reserved bit", context_entry, 0, bit_50,
     context_entry_reserved_bits, context_entry_reserved_bits,
     scalable_context_entry_reserved_bits},
    {"a second-stage table is nowhere", level_3, address_bits, nowhere,
     next_table_access_error, next_table_access_error, second_stage_next_table_access_error},
    {"a second-stage table may not be written", level_2, 2, 0,
     write_not_permitted, write_not_permitted, scalable_write_not_permitted},
    {"nothing is at level 4", level_4, ~std::uint64_t{0}, 0,
     write_not_permitted, write_not_permitted, scalable_write_not_permitted},
    {"the page may not be written", level_1, 2, 0,
     write_not_permitted, write_not_permitted, scalable_write_not_permitted},
    {"a second-stage leaf has a reserved bit", level_1, 0, bit_50,
     table_entry_reserved_bits, table_entry_reserved_bits, second_stage_entry_reserved_bits},
    {"a second-stage table entry has a reserved bit", level_3, 0, bit_50,
     table_entry_reserved_bits, table_entry_reserved_bits, second_stage_entry_reserved_bits},
    {"the page is in the interrupt range", level_1, address_bits, 0xFEE0'0000,
     output_in_interrupt_range, scalable_output_in_interrupt_range,
     scalable_output_in_interrupt_range},
};
constexpr fault_reason none{};
constexpr damage of_legacy_mode[]{
    {"the context entry has a width that the unit lacks", context_entry_high, 0, 7,
     context_entry_invalid, none, none},
    {"the context entry has a reserved translation type", context_entry, 0, 0xC,
     context_entry_invalid, none, none},
    {"the top second-stage table is nowhere", context_entry, address_bits, nowhere,
     context_entry_invalid, none, none},
};
constexpr damage of_scalable_mode[]{
    {"the PASID directory is nowhere", context_entry, address_bits, nowhere,
     none, pasid_table_access_error, pasid_directory_access_error},
    {"the PASID directory's entry is not present", directory_entry, 1, 0,
     none, pasid_table_access_error, pasid_directory_entry_not_present},
    {"the PASID table is nowhere", directory_entry, address_bits, nowhere,
     none, pasid_table_access_error, pasid_table_access_error},
    {"the PASID entry is not present", pasid_entry, 1, 0,
     none, pasid_table_access_error, pasid_entry_not_present},
    {"the PASID entry has a reserved translation type", pasid_entry, 0x1C0, 0,
     none, pasid_table_access_error, pasid_entry_invalid},
    {"the PASID entry has a width that the unit lacks", pasid_entry, 0, 0x1C,
     none, pasid_table_access_error, pasid_entry_invalid},
    {"the top second-stage table is nowhere", pasid_entry, address_bits, nowhere,
     none, context_entry_invalid, second_stage_top_table_access_error},
};
// clang-format on

/// Everything that the unit has cached goes.
void forget(rig& m) {
    got(m.unit.submit(pt::vtd::invalidate::context_cache()));
    got(m.unit.submit(pt::vtd::invalidate::iotlb(m.unit.capabilities())));
    got(m.unit.complete());
}

/// With edu_a and the NIC in the same guest's domain.
struct stand {
    explicit stand(shape of) : m{of}, a{m, guest_a} {
        a.map_memory();
        got(m.vtd.start());
        got(a.dma.attach(m.edu_a_attachment));
        got(a.dma.attach(m.edu_b_attachment));
        got(a.dma.attach(m.nic_attachment));
    }
    rig m;
    guest<rig> a;
};

} // namespace

TEST_CASE("each fault reason that QEMU has, named right", "[vt-d][faults]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    stand with{of};
    rig& m = with.m;
    const bool scalable = of.mode == table_mode::scalable;
    const auto check = [&](const damage& wrong) {
        INFO(wrong.what);
        CHECK(m.writes(m.edu_a, small) == place(with.a.host_of(small)));
        const hpa at = wrong.where(m, walk{m, edu_a_function});
        const std::uint64_t sound = m.memory.load(at);
        m.memory.store(at, (sound & ~wrong.cleared) | wrong.set);
        forget(m);
        CHECK(m.writes(m.edu_a, small) == "nothing");
        CHECK(m.fault() == rig::blocked("edu_a", false, small,
                                        scalable ? wrong.scalable_by_qemu : wrong.legacy));
        m.memory.store(at, sound);
        forget(m);
        CHECK(m.writes(m.edu_a, small) == place(with.a.host_of(small)));
        CHECK(m.fault() == "none");
    };
    for (const damage& wrong : of_both) {
        check(wrong);
    }
    if (scalable) {
        for (const damage& wrong : of_scalable_mode) {
            check(wrong);
        }
    } else {
        for (const damage& wrong : of_legacy_mode) {
            check(wrong);
        }
    }

    // Whose it was, what it wanted and where.
    const iova unmapped{0x1'2345'6000};
    CHECK(with.a.reads(m, m.edu_a, unmapped + 0x78) == "nothing");
    CHECK(m.fault() == rig::blocked("edu_a", true, unmapped, read_not_permitted));
    CHECK(with.a.reads(m, m.edu_b, unmapped) == "nothing");
    CHECK(m.fault() == rig::blocked("edu_b", true, unmapped, read_not_permitted));
    m.edu_b.store_mark(unmapped);
    CHECK(m.fault() == rig::blocked("edu_b", false, unmapped, write_not_permitted));
    nic_driver<rig> driver{m, with.a.host_of(nic_driver<rig>::ring)};
    driver.send({{unmapped, 64}});
    CHECK(m.fault() == rig::blocked("nic", true, unmapped, read_not_permitted));
    for (const iova beyond : {iova{std::uint64_t{1} << 48}, iova{0xFFFF'FFFF'FFFF'F000}}) {
        m.edu_a.store_mark(beyond);
        CHECK(m.fault() == rig::blocked("edu_a", false, beyond, address_beyond_width));
    }
    CHECK(m.untouched());
}

TEST_CASE("a root table that is nowhere", "[vt-d][faults]") {
    rig m{{}};
    got(m.vtd.start());
    // Set by hand, translation stays on: pt sets no such root.
    m.emulator.write64((unit_registers + 0x20).raw, nowhere);
    m.emulator.write32((unit_registers + 0x18).raw, 0xC400'0000); // TE, SRTP, QIE
    CHECK(m.writes(m.edu_a, small) == "nothing");
    CHECK(m.fault() == rig::blocked("edu_a", false, small, root_table_access_error));
}

TEST_CASE("faults beyond the records: overflow is told, and recording goes on", "[vt-d][faults]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    stand with{of};
    rig& m = with.m;
    auto& log = m.unit.faults();
    CHECK(!log.take_overflow());

    const iova first{0x1'0000'0000};
    m.edu_a.store_mark(first);
    m.edu_b.store_mark(first + page); // there is one record
    CHECK(!log.take_overflow());      // not before all is taken
    REQUIRE(log.take() == [&] {
        pt::vtd::fault_record expected{.source = edu_a_function,
                                       .page = first,
                                       .type = pt::vtd::fault_record::request::write,
                                       .reason = write_not_permitted};
        expected.has_pasid = of.mode == table_mode::scalable; // QEMU says so
        return pt::result<pt::vtd::fault_record>{expected};
    }());
    CHECK(log.take().error() == pt::error{errc::absent, fault_status::offset});
    m.edu_b.store_mark(first + 2 * page); // lost, too
    CHECK(log.take().error().code == errc::absent);
    CHECK(log.take_overflow());
    CHECK(!log.take_overflow());
    m.edu_b.store_mark(first + 3 * page);
    CHECK(m.fault() == rig::blocked("edu_b", false, first + 3 * page, write_not_permitted));
    CHECK(m.unit.registers().read<fault_status>().raw == 0);
}

TEST_CASE("drain takes as many as it may", "[vt-d][faults]") {
    stand with{{}};
    rig& m = with.m;
    unsigned seen = 0;
    const auto count = [&](const pt::vtd::fault_record&) { ++seen; };
    CHECK(m.unit.faults().drain(10, count) == 0);
    m.edu_a.store_mark(iova{0x1'0000'0000});
    CHECK(m.unit.faults().drain(0, count) == 0);
    CHECK(m.unit.faults().drain(10, count) == 1);
    CHECK(m.unit.faults().drain(10, count) == 0);
    CHECK(seen == 1);
}
