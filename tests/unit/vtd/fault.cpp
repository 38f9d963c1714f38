// SPDX-License-Identifier: BSL-1.0
#include "pt/vtd/fault.hpp"
#include "pt/vtd/fault_log.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::vtd::fault_kind;
using pt::vtd::fault_reason;
using pt::vtd::fault_record;
using pt::vtd::fault_record_high;
using pt::vtd::fault_record_low;

constexpr std::uint32_t FSTS = 0x34;

// ---- one record --------------------------------------------------------------------------------

constexpr bool qemus_record() {
    const auto record = fault_record::decode(fault_record_low{0x5000'0000},
                                             fault_record_high{0xC0FF'FF06'0000'0028});
    return record == fault_record{.source = {0, 0, 5, 0},
                                  .page = iova{0x5000'0000},
                                  .type = fault_record::request::read,
                                  .reason = fault_reason::read_not_permitted};
}

TEST_CASE("a record that QEMU 7.2 wrote, with ones where there is no PASID", "[vtd]") {
    static_assert(qemus_record());
    CHECK(qemus_record());
}

constexpr fault_record decoded(std::uint64_t high, std::uint64_t low = 0) {
    return fault_record::decode(fault_record_low{low}, fault_record_high{high});
}

TEST_CASE("T1 and T2 say what was requested, and no other bit does", "[vtd]") {
    using enum fault_record::request;
    constexpr std::uint64_t t1 = std::uint64_t{1} << 62;
    constexpr std::uint64_t t2 = std::uint64_t{1} << 28;
    constexpr std::uint64_t reasons = std::uint64_t{0xFF} << 32;
    CHECK(decoded(0).type == write);
    CHECK(decoded(t2).type == page);
    CHECK(decoded(t1).type == read);
    CHECK(decoded(t1 | t2).type == atomic);
    CHECK(decoded(~(t1 | t2 | reasons)).type == write);
    CHECK(decoded(~t2).type == read);
}

TEST_CASE("every bit of a record goes where it belongs", "[vtd]") {
    const auto record = fault_record::decode(fault_record_low{~std::uint64_t{0}},
                                             fault_record_high{0x0000'0000'0000'FFFF}, 0xABCD);
    CHECK(record.page == iova{0xFFFF'FFFF'FFFF'F000});
    CHECK(record.source == pt::pci::function_address{0xABCD, 255, 31, 7});
    CHECK(record.reason == fault_reason{0});
    const auto other = decoded(0xB000'00EE'EFFF'0000, 0xFFF);
    CHECK(other.page == iova{0});
    CHECK(other.source == pt::pci::function_address{0, 0, 0, 0});
    CHECK(other.reason == fault_reason{0xEE});
    using enum fault_record::address_type;
    CHECK(decoded(0).address == untranslated);
    CHECK(decoded(std::uint64_t{1} << 60).address == translation_request);
    CHECK(decoded(std::uint64_t{2} << 60).address == translated);
    CHECK(decoded(std::uint64_t{3} << 60).address == reserved);
}

TEST_CASE("the PASID and what belongs to it are believed only with PASID Present", "[vtd]") {
    // F, T1 (read), PASID 0xABCDE, reason 0x86, PP, EXE, PRIV, 00:05.0
    const auto with = decoded(0xC'ABC'DE86'E000'0028 | std::uint64_t{1} << 63);
    CHECK(with.has_pasid);
    CHECK(with.pasid == 0xABCDE);
    CHECK(with.execute);
    CHECK(with.privileged);
    const auto without = decoded(0xCABC'DE86'6000'0028);
    CHECK_FALSE(without.has_pasid);
    CHECK(without.pasid == 0);
    CHECK_FALSE(without.execute);
    CHECK_FALSE(without.privileged);
    // EXE says something about a read only.
    CHECK_FALSE(decoded(0x8ABC'DE85'C000'0028).execute); // a write
    CHECK_FALSE(decoded(0x8ABC'DE85'D000'0028).execute); // a page request
    CHECK_FALSE(decoded(0xCABC'DE85'D000'0028).execute); // an AtomicOp
    CHECK(decoded(0xCABC'DE85'C000'0028).execute);
}

TEST_CASE("a blocked interrupt request has the index of its entry, and no address", "[vtd]") {
    for (unsigned reason = 0x20; reason <= 0x2B; ++reason) {
        const auto record =
            decoded(0xFFFF'FF00'F000'0028 | std::uint64_t{reason} << 32, 0xABCD'1234'5678'9000);
        // The manual leaves the index undefined for these, and has 0 below it for the others.
        const bool undefined = reason == 0x20 || reason == 0x25 || reason >= 0x29;
        CHECK(record ==
              fault_record{.source = {0, 0, 5, 0},
                           .page = iova{0},
                           .type = fault_record::request::write,
                           .reason = static_cast<fault_reason>(reason),
                           .has_interrupt_index = !undefined,
                           .interrupt_index = static_cast<std::uint16_t>(undefined ? 0 : 0xABCD)});
    }
}

TEST_CASE("each reason has a name of its own, and an unknown one has none", "[vtd]") {
    const std::string unknown = name(fault_reason{0});
    std::vector<std::string> names;
    for (unsigned code = 0; code < 256; ++code) {
        const auto reason = static_cast<fault_reason>(code);
        const std::string said = name(reason);
        CHECK((said == unknown) == (kind_of(reason) == fault_kind::unknown));
        if (said != unknown) {
            CHECK(std::find(names.begin(), names.end(), said) == names.end());
            names.push_back(said);
        }
    }
    CHECK(names.size() == 14 + 12 + 5 + 3 + 10 + 3 + 7 + 10 + 6 + 9 + 6);
}

// ---- the log -----------------------------------------------------------------------------------

/// The fault recording registers of a unit, as the manual describes primary fault logging, at 0x220.
struct recorder {
    unsigned count;
    struct fields {
        std::uint64_t low = 0;
        std::uint64_t high = 0;
    } records[256]{};
    fields in_the_making; ///< becomes visible at once, between the two dwords of the next read
    bool is_making = false;
    unsigned index = 0; ///< the internal one
    unsigned fri = 0;
    bool overflow = false;
    bool collapses = false;
    std::uint32_t others = 0;   ///< bits 7:2 of FSTS
    unsigned hostile_fri = 256; ///< below 256: what FSTS claims
    unsigned accesses = 0;
    unsigned vanish_at = ~0U;
    bool wrong_access = false;

    std::uint64_t happened = 0;

    explicit recorder(unsigned n) : count{n} {}

    [[nodiscard]] bool pending() const {
        return std::any_of(records, records + count,
                           [](const fields& r) { return r.high >> 63 != 0; });
    }
    /// `n` numbered faults, each of a function of its own.
    void faults(unsigned n) {
        for (unsigned i = 0; i < n; ++i) {
            ++happened;
            fault(happened << 12, 0x6'0000'0000 | happened % 65536);
        }
    }
    void fault(std::uint64_t low, std::uint64_t high) {
        if (overflow) {
            return;
        }
        for (unsigned i = 0; collapses && i < count; ++i) {
            if (records[i].high >> 63 != 0 && (records[i].high ^ high) % 65536 == 0) {
                return;
            }
        }
        if (records[index].high >> 63 != 0) {
            overflow = true;
            return;
        }
        if (!pending()) {
            fri = index;
        }
        records[index] = {low, high | std::uint64_t{1} << 63};
        index = (index + 1) % count;
    }

    std::uint32_t read32(std::uint32_t at) {
        if (++accesses >= vanish_at) {
            return 0xFFFF'FFFF;
        }
        if (at == 0x34) {
            const unsigned shown = hostile_fri < 256 ? hostile_fri : pending() ? fri : 0xA5;
            return others | (pending() ? 2U : 0U) | (overflow ? 1U : 0U) | shown << 8;
        }
        return 0x10;
    }
    std::uint64_t read64(std::uint32_t at) {
        if (++accesses >= vanish_at) {
            return ~std::uint64_t{0};
        }
        if (at == 0x08) {
            return 0x00d2'008c'222f'0606 | std::uint64_t{count - 1} << 40;
        }
        if (at == 0x10) {
            return 0xF00F4A;
        }
        if (at < 0x220 || at >= 0x220 + 16 * count || at % 8 != 0) {
            wrong_access = true;
            return 0;
        }
        const fields& r = records[(at - 0x220) / 16];
        if (at % 16 == 0) {
            return r.low;
        }
        const std::uint64_t lower = r.high & 0xFFFF'FFFF;
        if (is_making) {
            is_making = false;
            fault(in_the_making.low, in_the_making.high);
        }
        return lower | (r.high >> 32) << 32;
    }
    void write32(std::uint32_t at, std::uint32_t value) {
        ++accesses;
        if (at == 0x34) {
            if ((value & ~1U) != 0 || (pending() && (value & 1) != 0)) {
                wrong_access = true; // somebody else's error, or records were not read
            }
            overflow = overflow && (value & 1) == 0;
        } else if (at >= 0x220 && at < 0x220 + 16 * count && at % 16 == 12 &&
                   value == 0x8000'0000) {
            records[(at - 0x220) / 16].high &= ~(std::uint64_t{1} << 63);
        } else {
            wrong_access = true;
        }
    }
    void write64(std::uint32_t, std::uint64_t) { wrong_access = true; }
};

struct recorder_registers {
    recorder* unit;
    std::uint32_t read32(std::uint32_t at) { return unit->read32(at); }
    std::uint64_t read64(std::uint32_t at) { return unit->read64(at); }
    void write32(std::uint32_t at, std::uint32_t value) { unit->write32(at, value); }
    void write64(std::uint32_t at, std::uint64_t value) { unit->write64(at, value); }
};
struct no_clock {
    std::uint64_t now() { return 0; }
};
using log_of_recorder = pt::vtd::fault_log<recorder_registers, no_clock>;

log_of_recorder log_of(recorder& r, std::uint16_t segment = 0) {
    return log_of_recorder{
        pt::vtd::register_window<recorder_registers, no_clock>::open({&r}, 0x2000, {}).value(),
        segment};
}

TEST_CASE("faults come oldest first, around the ring", "[vtd][rule 16]") {
    for (const unsigned count : {1U, 2U, 5U, 8U, 256U}) {
        recorder r{count};
        auto log = log_of(r);
        std::uint64_t taken = 0;
        for (unsigned round = 0; round < 3 * count + 5; ++round) {
            const unsigned n = 1 + round % count;
            r.faults(n);
            for (unsigned i = 0; i < n; ++i) {
                const auto fault = log.take();
                REQUIRE(fault);
                CHECK(fault->page == iova{++taken << 12});
            }
            REQUIRE(log.take() == error{errc::absent, FSTS});
            REQUIRE_FALSE(log.take_overflow());
        }
        CHECK_FALSE(r.wrong_access);
    }
}

TEST_CASE("faults stay in order when new ones come between", "[vtd][rule 16]") {
    // The index in FSTS stays at the first record for as long as any is pending, so that going by
    // it alone would take record 0 again before 1 to 3.
    recorder r{4};
    auto log = log_of(r);
    r.faults(4);
    for (std::uint64_t expected = 1; expected < 100; ++expected) {
        const auto fault = log.take();
        REQUIRE(fault);
        CHECK(fault->page == iova{expected << 12});
        r.faults(1);
    }
    for (std::uint64_t expected = 100; expected < 104; ++expected) {
        CHECK(log.take().value().page == iova{expected << 12});
    }
    CHECK(log.take() == error{errc::absent, FSTS});
    CHECK_FALSE(log.take_overflow());
}

TEST_CASE("a log that moves takes along which fault is next", "[vtd][rule 16]") {
    recorder r{4};
    auto first = log_of(r);
    r.faults(4);
    CHECK(first.take().value().page == iova{0x1000});
    r.faults(1); // fault 5 goes into record 0, where the index in FSTS still is
    auto second = std::move(first);
    for (std::uint64_t expected = 2; expected < 6; ++expected) {
        CHECK(second.take().value().page == iova{expected << 12});
    }
    CHECK(second.take() == error{errc::absent, FSTS});
}

TEST_CASE("a driver that comes late starts at the oldest fault", "[vtd][rule 16]") {
    recorder r{4};
    {
        auto firmware = log_of(r);
        r.faults(3);
        while (firmware.take()) {}
    }
    r.faults(3); // records 3, 0, 1
    auto log = log_of(r, 0x0042);
    for (std::uint64_t expected = 4; expected < 7; ++expected) {
        const auto fault = log.take().value();
        CHECK(fault.page == iova{expected << 12});
        CHECK(fault.source.segment == 0x0042);
    }
    CHECK(log.take() == error{errc::absent, FSTS});
}

TEST_CASE("the unit starts again at record 0 when it was switched off and on", "[vtd]") {
    recorder r{4};
    auto log = log_of(r);
    r.faults(2);
    while (log.take()) {}
    r.index = 0;
    r.faults(3);
    for (std::uint64_t expected = 3; expected < 6; ++expected) {
        CHECK(log.take().value().page == iova{expected << 12});
    }
    CHECK(log.take() == error{errc::absent, FSTS});
}

TEST_CASE("a record is read after F was seen, not together with it", "[vtd][rule 16]") {
    // Record 0 is pending; the unit writes record 1, where FSTS points, between the two dwords of the
    // first read of it: the lower one is the old one.
    recorder r{2};
    auto log = log_of(r);
    r.faults(1);
    r.records[1].high = 0x1'0000'7777;
    r.hostile_fri = 1;
    r.in_the_making = {0x5000, 0x4000'0006'0000'1234};
    r.is_making = true;
    CHECK(log.take() == fault_record{.source = pt::pci::function_address::from_source_id(0x1234),
                                     .page = iova{0x5000},
                                     .type = fault_record::request::read,
                                     .reason = fault_reason::read_not_permitted});
    CHECK(log.take().value().page == iova{0x1000});
}

TEST_CASE("an overflow is told once, when all records were taken, and clears nothing else",
          "[vtd][rule 16]") {
    recorder r{2};
    auto log = log_of(r);
    r.faults(5);
    r.others = 0x70; // errors of the invalidation queue
    CHECK_FALSE(log.take_overflow());
    CHECK(log.take().value().page == iova{0x1000});
    CHECK_FALSE(log.take_overflow());
    r.faults(1); // dropped: the overflow stands
    CHECK(log.take().value().page == iova{0x2000});
    CHECK(log.take() == error{errc::absent, FSTS});
    CHECK(log.take_overflow());
    CHECK_FALSE(log.take_overflow());
    r.faults(1);
    CHECK(log.take().value().page == iova{0x7000});
    CHECK(log.take() == error{errc::absent, FSTS});
    CHECK_FALSE(log.take_overflow());
    CHECK(r.others == 0x70);
    CHECK_FALSE(r.wrong_access);
}

TEST_CASE("a unit that collapses the faults of one function loses none of others", "[vtd]") {
    recorder r{4};
    r.collapses = true;
    auto log = log_of(r);
    for (unsigned i = 0; i < 10; ++i) {
        r.fault(0x1000 * i, 0x6'0000'0028);
    }
    r.fault(0x9'9000, 0x6'0000'0030);
    CHECK(log.take().value().source == pt::pci::function_address{0, 0, 5, 0});
    CHECK(log.take().value().source == pt::pci::function_address{0, 0, 6, 0});
    CHECK(log.take() == error{errc::absent, FSTS});
}

TEST_CASE("drain hands over at most so many, in order, and says how many", "[vtd]") {
    recorder r{8};
    auto log = log_of(r);
    std::vector<std::uint64_t> pages;
    const auto keep = [&](const fault_record& fault) { pages.push_back(fault.page.raw >> 12); };
    CHECK(log.drain(5, keep) == 0);
    r.faults(7);
    CHECK(log.drain(0, keep) == 0);
    CHECK(log.drain(5, keep) == 5);
    CHECK(log.drain(5, keep) == 2);
    CHECK(pages == std::vector<std::uint64_t>{1, 2, 3, 4, 5, 6, 7});
    // A device that faults whenever somebody looks does not keep anybody.
    pages.clear();
    r.faults(8);
    const unsigned before = r.accesses;
    CHECK(log.drain(20, [&](const fault_record&) { r.faults(1); }) == 20);
    CHECK(r.accesses - before <= 20 * 5);
}

TEST_CASE("an index beyond the records, or a record that is none, is no access outside",
          "[vtd][hostile]") {
    for (const unsigned count : {1U, 3U, 255U}) {
        for (const unsigned index : {0U, 1U, 2U, 3U, 254U, 255U}) {
            recorder r{count};
            auto log = log_of(r);
            r.hostile_fri = index;
            r.faults(count);
            std::vector<std::uint64_t> pages;
            for (unsigned i = 0; i < count; ++i) {
                pages.push_back(log.take().value().page.raw >> 12);
            }
            CHECK(log.take() == error{errc::absent, FSTS});
            std::sort(pages.begin(), pages.end());
            for (unsigned i = 0; i < count; ++i) {
                CHECK(pages[i] == i + 1);
            }
            CHECK_FALSE(r.wrong_access);
        }
    }
    SECTION("PPF without any F") {
        recorder r{3};
        auto log = log_of(r);
        r.others = 2;
        const unsigned before = r.accesses;
        CHECK(log.take() == error{errc::absent, FSTS});
        CHECK(log.drain(1000, [](const fault_record&) {}) == 0);
        CHECK(r.accesses - before <= 8);
    }
    SECTION("gone at each access") {
        for (unsigned n = 1; n <= 5; ++n) {
            recorder r{3};
            auto log = log_of(r);
            r.faults(2);
            r.vanish_at = r.accesses + n;
            const auto fault = log.take();
            // The fifth is the write that removes the record.
            CHECK((n == 5 ? fault.has_value() : fault == error{errc::absent, FSTS}));
            CHECK(log.take() == error{errc::absent, FSTS});
            CHECK_FALSE(log.take_overflow());
        }
    }
}

} // namespace
