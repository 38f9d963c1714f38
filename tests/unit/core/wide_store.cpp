// SPDX-License-Identifier: BSL-1.0
#include "pt/core/wide_store.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

template <class Wide>
constexpr bool stores_both() {
    alignas(16) std::uint64_t entries[4] = {1, 2, 3, 4};
    Wide wide;
    wide.store(entries + 2, 0x1111'2222'3333'4444, 0xFFFF'FFFF'FFFF'FFFF);
    wide.store(entries, ~std::uint64_t{0}, 0);
    return entries[0] == ~std::uint64_t{0} && entries[1] == 0 &&
           entries[2] == 0x1111'2222'3333'4444 && entries[3] == ~std::uint64_t{0};
}

TEST_CASE("a wide store writes both halves and nothing beside them", "[core]") {
    static_assert(stores_both<pt::no_wide_store>());
    static_assert(stores_both<pt::cmpxchg16b_store>());
    CHECK(stores_both<pt::no_wide_store>());
    CHECK(stores_both<pt::cmpxchg16b_store>());
}

} // namespace
