// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/advanced_features.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

TEST_CASE("Advanced Features: six bytes that say whether there is a function level reset",
          "[pci]") {
    constexpr auto holds = [] {
        using cap = advanced_features_capabilities;
        listed both; // as an Intel ICH10 USB controller has it: 13 00 06 03 00 00
        both.add(0x98, 0x13);
        both.put(0x9A, 4, 0x0000'0306);
        const auto af = read_advanced_features(both.config(), listed::address);
        bool good = af && af->at.offset == 0x98 && af->capabilities[cap::function_level_reset] &&
                    af->capabilities[cap::transactions_pending];
        listed none;
        good &= read_advanced_features(none.config(), listed::address).error() ==
                error{errc::absent, 0x13};
        for (const unsigned length : {0U, 5U}) {
            listed small;
            small.add(0x98, 0x13);
            small.put(0x9A, 2, 0x0300 | length);
            good &= read_advanced_features(small.config(), listed::address).error() ==
                    error{errc::malformed, 0x98};
        }
        listed beyond;
        beyond.add(0xFC, 0x13);
        beyond.put(0xFE, 2, 0x0306);
        good &= read_advanced_features(beyond.config(), listed::address).error() ==
                error{errc::malformed, 0xFC};
        return good && both.only_read() && beyond.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
