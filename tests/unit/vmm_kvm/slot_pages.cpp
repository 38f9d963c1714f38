// SPDX-License-Identifier: BSL-1.0
//
// The two places where the memory of a guest under KVM is written down say the same, also when one
// of them refuses. KVM itself is tried by pt-vmm-kvm --probe.
#include "../../../examples/vmm/kvm/slot_pages.hpp"

#include "pt/assign/guest_processors.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#include <map>

#include <catch2/catch_test_macros.hpp>

namespace {

using pt::errc;
using pt::gpa;
using pt::hpa;
using pt::KiB;

/// Page by page what the guest has, as KVM would be told.
struct slots {
    std::map<std::uint64_t, std::uint64_t> pages{};
    bool refuses = false;

    bool give_memory(pt::range<gpa> at, std::byte* from) {
        if (refuses) {
            return false;
        }
        for (std::uint64_t i = 0; i < at.size(); i += 4096) {
            pages[at.first().raw + i] = reinterpret_cast<std::uintptr_t>(from) + i;
        }
        return true;
    }
    void take_memory(pt::range<gpa> at) {
        std::erase_if(pages, [&](const auto& page) { return at.contains(gpa{page.first}); });
    }
};

using table = pt::paging::table<pt::ept::format, pt::arena_memory<16>>;
using slot_pages = vmm::kvm::slot_pages<table, slots>;
static_assert(pt::assign::guest_pages<slot_pages>);
static_assert(pt::assign::guest_processors<vmm::kvm::still_processors>);

/// EPT with four levels and pages of 2 MiB and 1 GiB [sdm, IA32_VMX_EPT_VPID_CAP].
constexpr pt::ept::capabilities every_page{1U << 6 | 1U << 14 | 1U << 16 | 1U << 17};

struct guest {
    pt::arena<16> frames{hpa{0x8000'0000}};
    table tables{frames.memory(), pt::ept::format{every_page, 48}};
    slots machine{};
    slot_pages pages{tables, machine};
    vmm::kvm::still_processors processors{};

    ~guest() { CHECK(pages.retire().redeem(processors).has_value()); }

    pt::result<void> map(std::uint64_t at, std::uint64_t size, std::uint64_t from) {
        auto done = pages.map({gpa{at}, size}, hpa{from}, pt::ept::ram);
        return done ? done->redeem(processors) : done.error();
    }
    pt::result<void> unmap(std::uint64_t at, std::uint64_t size) {
        auto done = pages.unmap({gpa{at}, size});
        return done ? done->redeem(processors) : done.error();
    }
    /// What the tables say.
    [[nodiscard]] std::map<std::uint64_t, std::uint64_t> table_pages() const {
        std::map<std::uint64_t, std::uint64_t> found;
        for (std::uint64_t at = 0; at < 0x40'0000; at += 4096) {
            if (const auto one = tables.translate(gpa{at})) {
                found[at] = one->output.raw;
            }
        }
        return found;
    }
};

} // namespace

TEST_CASE("KVM's slots say what the tables say", "[vmm]") {
    guest g;
    REQUIRE(g.map(0, 16 * KiB, 0x7F00'0000'0000).has_value());
    REQUIRE(g.map(0x20'0000, 8 * KiB, 0x7F00'0010'0000).has_value());
    CHECK(g.machine.pages.size() == 6);
    CHECK(g.machine.pages[0x20'1000] == 0x7F00'0010'1000);
    CHECK(g.machine.pages == g.table_pages());
    REQUIRE(g.unmap(0x1000, 4 * KiB).has_value());
    CHECK(g.machine.pages.size() == 5);
    CHECK(g.machine.pages == g.table_pages());
}

TEST_CASE("what the tables refuse does not reach KVM", "[vmm]") {
    guest g;
    REQUIRE(g.map(0, 16 * KiB, 0x7F00'0000'0000).has_value());
    const auto before = g.machine.pages;
    CHECK(g.map(0x3000, 8 * KiB, 0x7F00'0020'0000).error().code == errc::already_mapped);
    CHECK(g.map(0x1'0001, 4 * KiB, 0x7F00'0020'0000).error().code == errc::misaligned);
    CHECK(g.unmap(0x1'0001, 4 * KiB).error().code == errc::misaligned);
    CHECK(g.machine.pages == before);
    CHECK(g.table_pages() == before);
}

TEST_CASE("what KVM refuses does not stay in the tables", "[vmm]") {
    guest g;
    REQUIRE(g.map(0, 4 * KiB, 0x7F00'0000'0000).has_value());
    g.machine.refuses = true;
    CHECK(g.map(0x1'0000, 8 * KiB, 0x7F00'0020'0000).error() == pt::error{errc::refused, 0x1'0000});
    CHECK(g.table_pages() == g.machine.pages);
    g.machine.refuses = false;
    CHECK(g.map(0x1'0000, 8 * KiB, 0x7F00'0020'0000).has_value());
}

TEST_CASE("with the tables, all of the guest's memory is gone", "[vmm]") {
    guest g;
    REQUIRE(g.map(0, 16 * KiB, 0x7F00'0000'0000).has_value());
    REQUIRE(g.pages.retire().redeem(g.processors).has_value());
    CHECK(g.machine.pages.empty());
}
