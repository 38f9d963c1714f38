// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/access_control_services.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

TEST_CASE("ACS of a root port: what it can do and what is on", "[pci]") {
    constexpr auto holds = [] {
        using cap = acs_capability;
        using ctl = acs_control;
        listed
            d; // SV, TB, RR, CR, UF; of these SV, RR, CR, UF on, as an operating system leaves it
        d.express();
        d.extend(0x100, 0x0001);
        d.extend(0x148, 0x000D);
        d.put(0x14C, 2, 0x001F);
        d.put(0x14E, 2, 0x001D);
        const auto acs = read_access_control_services(d.config(), listed::address);
        return acs && acs->at.offset == 0x148 && acs->capability[cap::source_validation] &&
               acs->capability[cap::translation_blocking] &&
               acs->capability[cap::p2p_request_redirect] &&
               acs->capability[cap::p2p_completion_redirect] &&
               acs->capability[cap::upstream_forwarding] &&
               !acs->capability[cap::p2p_egress_control] &&
               !acs->capability[cap::direct_translated_p2p] &&
               acs->control[ctl::source_validation_enable] &&
               !acs->control[ctl::translation_blocking_enable] &&
               acs->control[ctl::p2p_request_redirect_enable] &&
               acs->control[ctl::p2p_completion_redirect_enable] &&
               acs->control[ctl::upstream_forwarding_enable] && acs->egress_vector_bits == 0 &&
               acs->size() == 8 && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("ACS: the Egress Control Vector has up to 256 bits, in whole dwords, inside the space",
          "[pci][rule 4]") {
    struct expectation {
        unsigned field;
        unsigned bits;
        unsigned size;
    };
    constexpr auto holds = [] {
        bool good = true;
        for (const auto& one : {expectation{1, 1, 12}, expectation{32, 32, 12},
                                expectation{33, 33, 16}, expectation{0, 256, 40}}) {
            const std::size_t last = 0x1000 - one.size;
            listed d;
            d.express();
            d.extend(0x100, 0x0001);
            d.extend(last, 0x000D);
            d.put(last + 4, 2, 0x0020 | one.field << 8);
            const auto acs = read_access_control_services(d.config(), listed::address);
            good &= acs && acs->egress_vector_bits == one.bits && acs->size() == one.size;
            listed beyond;
            beyond.express();
            beyond.extend(0x100, 0x0001);
            beyond.extend(last + 4, 0x000D);
            beyond.put(last + 8, 2, 0x0020 | one.field << 8);
            good &= read_access_control_services(beyond.config(), listed::address).error() ==
                    error{errc::malformed, last + 4};
            good &= beyond.only_read();
        }
        listed none;
        none.express();
        return good && read_access_control_services(none.config(), listed::address).error() ==
                           error{errc::absent, 0x0D};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
