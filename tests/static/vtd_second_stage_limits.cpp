// SPDX-License-Identifier: BSL-1.0
// What CAP and ECAP allow second-stage tables (rule 17): bit positions by hand from the manual.
#include "pt/vtd/second_stage_limits.hpp"

#include <cstdint>

namespace {

using namespace pt::vtd::second_stage;
using pt::errc;
using pt::vtd::capability;
using pt::vtd::extended_capability;
using enum pt::paging::page_size;

// SAGAW in 12:8 is a bitmap: bit 1 for 3 levels, bit 2 for 4, bit 3 for 5; bits 0 and 4 are reserved.
static_assert(fewest_levels(0b00010, 39).value() == 3 && fewest_levels(0b00010, 1).value() == 3);
static_assert(fewest_levels(0b00010, 40).error() == pt::error{errc::not_supported, 40});
static_assert(fewest_levels(0b00110, 39).value() == 3 && fewest_levels(0b00110, 40).value() == 4);
static_assert(fewest_levels(0b00100, 39).value() == 4 && fewest_levels(0b00100, 48).value() == 4);
static_assert(fewest_levels(0b01110, 49).value() == 5 && fewest_levels(0b01000, 39).value() == 5);
static_assert(fewest_levels(0b01110, 57).value() == 5);
static_assert(fewest_levels(0b01110, 58).error() == pt::error{errc::not_supported, 58});
static_assert(fewest_levels(0b10001, 30).error() == pt::error{errc::not_supported, 30});
static_assert(fewest_levels(0b01010 & 0b00110, 39).value() == 3); // common to both, and that is all
static_assert(fewest_levels(0b01010 & 0b00110, 48).error().code == errc::not_supported);

constexpr auto of(std::uint64_t cap, std::uint64_t ecap, unsigned levels, unsigned width = 39) {
    return limits_of(capability{cap}, extended_capability{ecap}, levels, width);
}
constexpr std::uint64_t any_levels = 0x0E00;
constexpr bool levels_by_sagaw() {
    for (std::uint64_t sagaw = 0; sagaw < 32; ++sagaw) {
        for (unsigned levels = 0; levels < 70; ++levels) {
            const bool walks = (levels == 3 && (sagaw & 2) != 0) ||
                               (levels == 4 && (sagaw & 4) != 0) ||
                               (levels == 5 && (sagaw & 8) != 0);
            const auto got = of(sagaw << 8, 0, levels);
            if (walks ? !got || got->levels != levels
                      : got || !(got.error() == pt::error{errc::not_supported, levels})) {
                return false;
            }
        }
    }
    return true;
}
static_assert(levels_by_sagaw());

// MGAW in 21:16 is a width minus one; the format cuts off what its levels do not reach.
static_assert(of(any_levels | 38 << 16, 0, 4)->input_width == 39);
static_assert(of(any_levels | 47 << 16, 0, 3)->input_width == 48 &&
              format{*of(any_levels | 47 << 16, 0, 3)}.input_width() == 39);
static_assert(of(any_levels | 56 << 16, 0, 5)->input_width == 57 &&
              format{*of(any_levels | 56 << 16, 0, 5)}.input_width() == 57);
static_assert(of(any_levels | 63 << 16, 0, 5)->input_width == 64 &&
              format{*of(any_levels | 63 << 16, 0, 5)}.input_width() == 57);

// SLLPS in 35:34. 1 GiB without 2 MiB is not used: a split would need 2 MiB.
static_assert(of(any_levels, 0, 4)->largest_page == size_4k &&
              of(any_levels | std::uint64_t{1} << 34, 0, 4)->largest_page == size_2m &&
              of(any_levels | std::uint64_t{3} << 34, 0, 4)->largest_page == size_1g &&
              of(any_levels | std::uint64_t{2} << 34, 0, 4)->largest_page == size_4k);

// Caching mode (CAP bit 7) caches absence, a write buffer (bit 4) holds entries back.
static_assert(!of(any_levels, 0, 4)->stale_when_mapped &&
              of(any_levels | 0x80, 0, 4)->stale_when_mapped &&
              of(any_levels | 0x10, 0, 4)->stale_when_mapped);
// Snoop control is bit 7 of ECAP. Nothing in legacy mode tells of flags, and nothing of bit 62.
static_assert(!of(any_levels, 0, 4)->snoop_control && of(any_levels, 0x80, 4)->snoop_control);
static_assert(!of(~std::uint64_t{0}, ~std::uint64_t{0}, 4)->accessed_dirty &&
              !of(~std::uint64_t{0}, ~std::uint64_t{0}, 4)->transient_mapping);

// The host address width is the DMAR table's.
static_assert(of(any_levels, 0, 4, 32)->output_width == 32 &&
              of(any_levels, 0, 4, 52)->output_width == 52);
static_assert(of(any_levels, 0, 4, 31).error() == pt::error{errc::out_of_range, 31} &&
              of(any_levels, 0, 4, 53).error() == pt::error{errc::out_of_range, 53} &&
              of(any_levels, 0, 4, 0).error() == pt::error{errc::out_of_range, 0} &&
              of(any_levels, 0, 4, 256).error() == pt::error{errc::out_of_range, 256});

} // namespace
