// SPDX-License-Identifier: BSL-1.0
// expect: table_memory
// expect-gcc: 'memory\.release\(frame\)' is invalid
// expect-clang: 'memory\.release\(frame\)' would be invalid
// A policy that lacks a member is refused by its concept's name, and the member is named.
#include "pt/core/archetype.hpp"
#include "pt/core/policy.hpp"

#include <cstdint>

struct my_frames {
    pt::result<pt::hpa> allocate(pt::frame_contents);
    std::uint64_t* entries(pt::hpa);
};

template <pt::table_memory Memory>
class engine {};

#ifdef PT_FAIL
using my_engine = engine<my_frames>;
#else
using my_engine = engine<pt::archetype::table_memory>;
#endif
static_assert(sizeof(my_engine) != 0);
