// SPDX-License-Identifier: BSL-1.0
//
// The length of whatever bytes a guest puts behind its RIP: nothing beyond what is available is
// read, the answer is one of those that are documented, and bytes that come in one by one lead to
// the same answer.
#include "pt/vcpu/instruction_length.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    using pt::errc;
    using pt::vcpu::code_size;

    for (const code_size code : {code_size::bits_16, code_size::bits_32, code_size::bits_64}) {
        const auto whole = pt::vcpu::instruction_length(input, size, code);
        // What lies beyond 15 bytes is of no account, and what lies beyond the instruction neither.
        const std::size_t visible = size < 15 ? size : 15;
        demand(pt::vcpu::instruction_length(input, visible, code) == whole);
        if (whole) {
            demand(*whole >= 1 && *whole <= visible);
        } else {
            const pt::error why = whole.error();
            demand((why.code == errc::out_of_range && size < 15 && why.where == size) ||
                   (why.code == errc::malformed && size >= 15 && why.where == 15) ||
                   (why.code == errc::not_supported && why.where < visible));
        }
        bool decided = false;
        for (std::size_t there = 0; there <= visible; ++there) {
            // Memory of just that size, so that the sanitizer sees every byte too many.
            const std::vector<std::uint8_t> part(input, input + there);
            const auto found = pt::vcpu::instruction_length(part.data(), there, code);
            if (whole) {
                decided = there >= *whole;
            } else if (whole.error().code == errc::not_supported) {
                decided = decided || found == whole; // known at the latest with all of it
            } else {
                decided = there == visible;
            }
            if (decided) {
                demand(found == whole);
            } else {
                demand(found == pt::error{errc::out_of_range, there});
            }
        }
        demand(decided);

        // A segment's prefix makes it one byte longer, or too long.
        std::vector<std::uint8_t> longer{0x3E};
        longer.insert(longer.end(), input, input + size);
        const auto prefixed = pt::vcpu::instruction_length(longer.data(), longer.size(), code);
        if (whole && *whole < 15) {
            demand(prefixed == static_cast<std::uint8_t>(*whole + 1));
        } else if (whole) {
            demand(prefixed == pt::error{errc::malformed, 15});
        } else {
            demand(!prefixed);
        }
    }
    return 0;
}
