// SPDX-License-Identifier: BSL-1.0
#include "pt/core/mutex.hpp"

#include "pt/core/archetype.hpp"

#include <type_traits>

namespace {

struct counting {
    int* held;
    int* taken;
    constexpr void lock() { ++*held, ++*taken; }
    constexpr void unlock() { --*held; }
};

constexpr bool a_scope_holds_the_mutex() {
    int held = 0;
    int taken = 0;
    counting mutex{&held, &taken};
    bool right = true;
    {
        const pt::scoped_lock lock{mutex};
        right &= held == 1;
    }
    return right && held == 0 && taken == 1;
}
static_assert(a_scope_holds_the_mutex());

static_assert(std::is_empty_v<pt::no_mutex>);
static_assert(!std::is_copy_constructible_v<pt::scoped_lock<pt::archetype::mutex>>);

} // namespace
