// SPDX-License-Identifier: BSL-1.0
#include "../../vtd_model/fake_unit.hpp"

#include "pt/vtd/register_invalidation.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::iova;
namespace invalidate = pt::vtd::invalidate;
using pt::vtd::capability;
using pt::vtd::invalidation_descriptor;
using pt::vtd::invalidation_hint;

using hardware = fake_unit<2>;
using window = pt::vtd::register_window<registers<hardware>, fake_clock<hardware>>;
using port = pt::vtd::register_invalidation<registers<hardware>, fake_clock<hardware>>;

constexpr std::uint32_t IVA = 0xF0;
constexpr std::uint32_t IOTLB = 0xF8;

constexpr port port_of(hardware& m) { return port{window::open({&m}, 4096, {&m}).value()}; }
constexpr event wrote(std::uint32_t where, std::uint64_t value) {
    return {event::kind::write64, where, value};
}
template <std::size_t N>
constexpr bool happened(const hardware& m, const event (&expected)[N]) {
    for (std::size_t i = 0; i < N; ++i) {
        if (i >= m.events || !(m.journal[i] == expected[i])) {
            return false;
        }
    }
    return m.events == N;
}

/// A request, what CCMD or IVA and IOTLB must be given for it, and the granularity of that.
struct request {
    invalidation_descriptor asked;
    std::uint32_t where;
    std::uint64_t iva; ///< 0: not written
    std::uint64_t command;
    unsigned granularity;
};
constexpr capability cap{qemu_cap}; // drains reads and writes
constexpr request requests[] = {
    {invalidate::context_cache(), CCMD, 0, 0xA000'0000'0000'0000, 1},
    {invalidate::context_cache(0xABCD), CCMD, 0, 0xC000'0000'0000'ABCD, 2},
    {invalidate::context_cache(0xABCD, 0x1234), CCMD, 0, 0xE000'0000'1234'ABCD, 3},
    {invalidate::context_cache(7, 0xFFFF, 3), CCMD, 0, 0xE000'0003'FFFF'0007, 3},
    {invalidate::iotlb(cap), IOTLB, 0, 0x9003'0000'0000'0000, 1},
    {invalidate::iotlb(cap, 0xABCD), IOTLB, 0, 0xA003'ABCD'0000'0000, 2},
    {invalidate::iotlb(cap, 7, {iova{0x1234'5000}, 2}, invalidation_hint::leaves_only), IOTLB,
     0x1234'4042, 0xB003'0007'0000'0000, 3},
    {invalidate::iotlb(cap, 7, {iova{0x5000}, 0}, invalidation_hint::tables_changed), IOTLB, 0x5000,
     0xB003'0007'0000'0000, 3},
};

TEST_CASE("what is asked of the queue is asked of the registers", "[vtd][rule 18]") {
    constexpr auto works = [] {
        for (const request& r : requests) {
            hardware m;
            m.cap |= cap_cm; // domain id 0 and all others are in range
            auto p = port_of(m);
            bool ok = p.submit(r.asked) && p.complete() && m.violation == nullptr && m.orders == 1;
            ok = ok && (r.iva != 0 ? happened(m, {wrote(IVA, r.iva), wrote(IOTLB, r.command)})
                                   : happened(m, {wrote(r.where, r.command)}));
            if (!ok) {
                return false;
            }
        }
        return true;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("a unit that cannot drain is not asked to", "[vtd][rule 18]") {
    for (const std::uint64_t drains : {0U, 1U, 2U}) {
        hardware m;
        m.cap = (m.cap & ~(std::uint64_t{3} << 54)) | drains << 54;
        auto p = port_of(m);
        CHECK(p.submit(invalidate::iotlb(p.capabilities(), 7)));
        CHECK(happened(m, {wrote(IOTLB, 0xA000'0007'0000'0000 | drains << 48)}));
        CHECK(m.violation == nullptr);
    }
}

TEST_CASE("the registers cannot do the rest", "[vtd]") {
    hardware m;
    auto p = port_of(m);
    for (const invalidation_descriptor& other :
         {invalidate::pasid_cache(), invalidate::pasid_based_iotlb(1, 2),
          invalidate::device_tlb({1, 0, 0}), invalidate::pasid_based_device_tlb({1, 0, 0}, 2),
          invalidate::interrupt_entries(), invalidate::wait(pt::hpa{0x1000}, 1),
          invalidate::wait_with_interrupt(), invalidation_descriptor{},
          invalidation_descriptor{{0x0F}}, invalidation_descriptor{{0x211}},
          invalidation_descriptor{{0x01}}, invalidation_descriptor{{0x02}}}) {
        CHECK(p.submit(other) == error{errc::not_supported, other.word[0]});
    }
    CHECK(m.events == 0);
    m.ver = 0x60; // from here on the manual has no registers for it
    CHECK(p.submit(invalidate::context_cache()) == error{errc::not_supported, VER});
    CHECK(p.submit(invalidate::iotlb(cap)) == error{errc::not_supported, VER});
    CHECK(m.events == 0);
    m.ver = 0x5F;
    CHECK(p.submit(invalidate::context_cache()));
    CHECK(p.capabilities().raw == m.cap);
    CHECK(p.extended_capabilities().raw == m.ecap);
    CHECK(m.violation == nullptr);
}

TEST_CASE("while the queue is on, the registers are left alone", "[vtd]") {
    hardware m;
    auto p = port_of(m);
    m.gsts |= QIE;
    for (const request& r : requests) {
        CHECK(p.submit(r.asked) == error{errc::busy, GSTS});
    }
    m.gone = true;
    for (const request& r : requests) {
        CHECK(p.submit(r.asked) == error{errc::absent, GSTS});
    }
    CHECK(m.events == 0);
}

TEST_CASE("an answer of less than was asked for is no success", "[vtd][hostile]") {
    const auto m = std::make_unique<hardware>();
    auto p = port_of(*m);
    for (const request& r : requests) {
        for (unsigned claim = 0; claim < 4; ++claim) {
            m->refuse_at = m->orders + 1;
            m->claim = claim;
            const auto done = p.submit(r.asked);
            if (claim != 0 && claim <= r.granularity) { // as much, or more
                CHECK(done);
            } else {
                CHECK(done == error{errc::hardware_fault, r.where});
            }
        }
    }
}

TEST_CASE("a request that hangs is not disturbed by the next one", "[vtd]") {
    for (const request& r : requests) {
        const auto m = std::make_unique<hardware>();
        auto p = port_of(*m);
        m->stall_at = m->orders + 1;
        const std::uint64_t before = m->time;
        CHECK(p.submit(r.asked) == error{errc::time_out, r.where});
        CHECK(m->time - before > 900'000'000);
        CHECK(m->time - before < 2'000'000'000);
        m->forget_journal();
        CHECK(p.submit(r.asked) == error{errc::time_out, r.where});
        CHECK(m->events == 0); // neither IVA nor the command
        m->recover();
        CHECK(p.submit(r.asked));
        CHECK(m->events == (r.iva != 0 ? 2 : 1));
        CHECK(m->violation == nullptr);
    }
}

TEST_CASE("the write buffer is let through before each request", "[vtd]") {
    for (const request& r : requests) {
        const auto m = std::make_unique<hardware>();
        m->cap |= cap_rwbf;
        auto p = port_of(*m);
        REQUIRE(p.submit(r.asked));
        CHECK(m->journal[0] == event{event::kind::write32, GCMD, WBF});
        CHECK(m->events == (r.iva != 0 ? 3 : 2));
        m->stall_at = m->orders + 1;
        m->forget_journal();
        CHECK(p.submit(r.asked) == error{errc::time_out, GSTS});
        CHECK(m->events == 1);
        CHECK(m->violation == nullptr);
    }
}

TEST_CASE("a unit that goes away at any access never fakes success", "[vtd][hostile]") {
    for (const request& r : requests) {
        for (unsigned at = 1; at < 20; ++at) {
            const auto m = std::make_unique<hardware>();
            m->cap |= cap_rwbf;
            auto p = port_of(*m);
            m->vanish_at = m->accesses + at;
            const auto done = p.submit(r.asked);
            CHECK((m->gone ? !done && (done.error().code == errc::absent ||
                                       done.error().code == errc::time_out)
                           : done.has_value()));
            if (!m->gone) {
                CHECK(at > 8); // every access was one of these
                break;
            }
        }
    }
}

} // namespace
