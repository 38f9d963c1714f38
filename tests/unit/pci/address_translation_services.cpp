// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/address_translation_services.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

TEST_CASE("ATS: a queue depth of 0 means 32, the smallest translation is 4 KiB << n", "[pci]") {
    constexpr auto holds = [] {
        listed d;
        d.express();
        d.extend(0x100, 0x000F);
        d.put(0x104, 4, 0x8004'0060); // enabled, 64 KiB; page aligned, global invalidate, depth 0
        const auto ats = read_address_translation_services(d.config(), listed::address);
        bool good = ats && ats->invalidate_queue_depth() == 32 &&
                    ats->smallest_translation() == 0x1'0000 &&
                    ats->capability[ats_capability::page_aligned_request] &&
                    ats->capability[ats_capability::global_invalidate_supported] &&
                    ats->control[ats_control::enable];
        d.put(0x104, 4, 0x001F'0011);
        const auto most = read_address_translation_services(d.config(), listed::address);
        good &= most && most->invalidate_queue_depth() == 17 &&
                most->smallest_translation() == std::uint64_t{1} << 43 &&
                !most->control[ats_control::enable];
        return good && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("ATS: absent, and past the end of the space", "[pci][rule 4]") {
    constexpr auto holds = [] {
        listed none;
        none.express();
        listed beyond;
        beyond.express();
        beyond.extend(0x100, 0x0001);
        beyond.extend(0xFFC, 0x000F);
        return read_address_translation_services(none.config(), listed::address).error() ==
                   error{errc::absent, 0x0F} &&
               read_address_translation_services(beyond.config(), listed::address).error() ==
                   error{errc::malformed, 0xFFC} &&
               beyond.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
