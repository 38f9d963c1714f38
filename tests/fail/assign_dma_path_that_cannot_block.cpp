// SPDX-License-Identifier: BSL-1.0
// expect: dma_path
// expect-gcc: 'dma\.block\(function\)' is invalid
// expect-clang: 'dma\.block\(function\)' would be invalid
// A function that cannot be blocked would keep its way to the memory of a guest that has lost it.
#include "pt/assign/dma_path.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/requester.hpp"

struct my_dma {
    struct attachment_type {
        explicit attachment_type(pt::vtd::requester) {}
    };
    static constexpr bool isolates = true;

    pt::result<void> map(pt::range<pt::gpa>, pt::hpa) { return {}; }
    pt::result<void> unmap(pt::range<pt::gpa>) { return {}; }
    pt::result<void> attach(attachment_type&) { return {}; }
#ifdef PT_FAIL
    // block is forgotten
#else
    pt::result<void> block(attachment_type&) { return {}; }
#endif
    pt::result<void> release(attachment_type&) { return {}; }
    pt::result<void> settle() { return {}; }
};
static_assert(pt::assign::dma_path<my_dma>);
