// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/power_management.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

constexpr function_address nic = listed::address;

} // namespace

TEST_CASE("power management of an 82574L: PME from D0, D3hot and D3cold", "[pci]") {
    constexpr auto holds = [] {
        listed d; // C822: version 2, DSI, PME support 11001; 2008: D0, PME off, data scale 1
        d.add(0xC8, 0x01);
        d.put(0xCA, 2, 0xC822);
        d.put(0xCC, 2, 0x2008);
        const auto pm = read_power_management(d.config(), nic);
        using pmc = power_management_capabilities;
        using pmcsr = power_management_control_status;
        return pm && pm->at.offset == 0xC8 && pm->capabilities[pmc::version] == 2 &&
               pm->capabilities[pmc::device_specific_initialization] &&
               !pm->capabilities[pmc::pme_clock] && !pm->capabilities[pmc::d1_support] &&
               !pm->capabilities[pmc::d2_support] && pm->capabilities[pmc::aux_current] == 0 &&
               pm->capabilities[pmc::pme_support] == 0b11001 &&
               pm->control_status[pmcsr::power_state] == power_state::d0 &&
               pm->control_status[pmcsr::no_soft_reset] &&
               pm->control_status[pmcsr::data_scale] == 1 &&
               !pm->control_status[pmcsr::pme_status] && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("entering D3hot neither clears PME_Status nor touches what is reserved",
          "[pci][rule 5]") {
    using pmcsr = power_management_control_status;
    constexpr pmcsr before{std::uint16_t{0x81F8}}; // status, enable, reserved 7:4, No_Soft_Reset
    constexpr pmcsr after = before.write_back().with(pmcsr::power_state(power_state::d3_hot));
    STATIC_REQUIRE(after.raw == 0x01FB);
    STATIC_REQUIRE(before.after_write(after.raw).raw == 0x81FB);
    STATIC_REQUIRE(before.after_write(0x8100).raw == 0x01F8);
}

TEST_CASE("power management: absent, past the end, of no version", "[pci][rule 4]") {
    constexpr auto holds = [] {
        listed none;
        none.add(0x50, 0x05);
        bool good = read_power_management(none.config(), nic).error() == error{errc::absent, 1};
        listed last;
        last.add(0xF8, 0x01);
        last.put(0xFA, 2, 3);
        good &= read_power_management(last.config(), nic).has_value();
        listed beyond;
        beyond.add(0xFC, 0x01);
        beyond.put(0xFE, 2, 3);
        good &= read_power_management(beyond.config(), nic).error() == error{errc::malformed, 0xFC};
        for (const unsigned version : {0U, 4U, 7U}) {
            listed odd;
            odd.add(0x50, 0x01);
            odd.put(0x52, 2, version);
            good &=
                read_power_management(odd.config(), nic).error() == error{errc::malformed, 0x50};
        }
        return good && beyond.only_read() && none.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
