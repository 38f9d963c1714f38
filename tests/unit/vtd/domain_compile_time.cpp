// SPDX-License-Identifier: BSL-1.0
// A whole life of a domain as a constant expression, which no undefined behaviour survives: from
// the bytes of a DMAR table to a function that reaches its guest, moves, and is blocked.
#include "../../vtd_model/dmar_builder.hpp"
#include "../../vtd_model/fake_unit.hpp"

#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

#include <catch2/catch_test_macros.hpp>

#include <utility>

namespace {

using namespace vtd_model;
using pt::hpa;
using pt::iova;

using hardware = fake_unit<16>;
using policies = pt::vtd::policies<registers<hardware>, fake_clock<hardware>, frames<hardware>,
                                   publisher<hardware>>;
using unit = pt::vtd::unit<policies>;
using machine = pt::vtd::remapping<policies, pt::pci::archetype::bridge_bus_numbers, 64>;

constexpr pt::range<iova> page{iova{0x1000}, 0x1000};

TEST_CASE("a function comes, moves and goes at compile time", "[vtd][domain]") {
    constexpr auto works = [] {
        hardware fake;
        fake.latency = 0;
        const auto bytes = dmar_builder{}.drhd(0, 1, 0xFED9'0000).end().table();
        const auto table = pt::vtd::dmar::read(bytes.data(), bytes.size());
        const policies chosen{{&fake}, {&fake}, {&fake}};
        auto taken = unit::take(chosen, {&fake}, *table->each<pt::vtd::drhd>().begin(),
                                {.invalidation = pt::vtd::invalidation_interface::registers});
        unit driver{std::move(*taken)};
        machine vtd{chosen, *table, {}};
        bool right = vtd.add(driver) && vtd.start();
        {
            pt::vtd::domain<machine> guest{vtd, *vtd.limits(39)};
            pt::vtd::attachment<machine> node{pt::pci::function_address{0, 0, 5, 0}};
            right = right && guest.map(page, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
            right = right && fake.dma(0x28, 0x1234, true).reason == 1;
            right = right && guest.attach(node) && fake.dma(0x28, 0x1234, true).to == 0x10'0234;
            right = right && guest.unmap(page) && fake.dma(0x28, 0x1234, true).reason == 5;
            right = right && vtd.quarantine(node) && vtd.release(node);
            right = right && fake.dma(0x28, 0x1234, true).reason == 2;
            right = right && guest.retire();
        }
        right = right && vtd.stop() && vtd.retire() && driver.retire();
        return right && fake.in_use == 0 && fake.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

} // namespace
