// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/pasid.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

TEST_CASE("PASID: width and permissions", "[pci]") {
    constexpr auto holds = [] {
        listed d;
        d.express();
        d.extend(0x100, 0x001B);
        d.put(0x104, 4, 0x0003'1402); // 20 bits, execute; enabled with execute
        const auto found = read_pasid(d.config(), listed::address);
        return found && found->capability[pasid_capability::max_pasid_width] == 20 &&
               found->capability[pasid_capability::execute_permission_supported] &&
               !found->capability[pasid_capability::privileged_mode_supported] &&
               found->control[pasid_control::enable] &&
               found->control[pasid_control::execute_permission_enable] &&
               !found->control[pasid_control::privileged_mode_enable] && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a PASID has 20 bits and not more", "[pci]") {
    constexpr auto holds = [] {
        bool good = true;
        for (unsigned bits = 0; bits < 32; ++bits) {
            listed d;
            d.express();
            d.extend(0x100, 0x001B);
            d.put(0x104, 4, bits << 8);
            const auto found = read_pasid(d.config(), listed::address);
            good &= bits <= 20 ? found.has_value() : found.error() == error{errc::malformed, 0x100};
        }
        listed beyond;
        beyond.express();
        beyond.extend(0x100, 0x0001);
        beyond.extend(0xFFC, 0x001B);
        listed none;
        none.express();
        return good && beyond.only_read() &&
               read_pasid(beyond.config(), listed::address).error() ==
                   error{errc::malformed, 0xFFC} &&
               read_pasid(none.config(), listed::address).error() == error{errc::absent, 0x1B};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
