// SPDX-License-Identifier: BSL-1.0
// expect: frame_source
// A memory names the policy that its source does not fulfil.
#include "pt/memory/direct_map.hpp"

struct bump_pointer {
    pt::result<pt::hpa> allocate() { return pt::hpa{0x1000}; }
#ifdef PT_FAIL
    void free(pt::hpa) {}
#else
    void release(pt::hpa) {}
#endif
};

pt::identity_memory<bump_pointer> memory{bump_pointer{}};
