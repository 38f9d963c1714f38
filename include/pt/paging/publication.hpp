// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::paging {

/// For hardware that snoops the caches when it walks: EPT always, and VT-d where the unit reports
/// page-walk coherency (ECAP.C). x86 makes stores visible in order, so only the compiler is told.
struct coherent_publication {
    constexpr void publish(const std::uint64_t*, std::size_t) {
        if (!std::is_constant_evaluated()) {
            asm volatile("" ::: "memory");
        }
    }
};

/// For hardware that walks memory behind the caches' back: each changed line is written back, and
/// later stores wait for it. CLFLUSH is ordered with stores to the line and with other CLFLUSH, and
/// every processor that has VT-d has it [sdm].
struct flush_line_publication {
    static constexpr std::uintptr_t line = 64;

    constexpr void publish(const std::uint64_t* first, std::size_t count) {
        if (std::is_constant_evaluated() || count == 0) {
            return;
        }
        const auto begin = reinterpret_cast<std::uintptr_t>(first) & ~(line - 1);
        const auto end = reinterpret_cast<std::uintptr_t>(first + count);
        for (std::uintptr_t at = begin; at < end; at += line) {
            // NOLINTNEXTLINE(performance-no-int-to-ptr): the walk goes by cache lines
            asm volatile("clflush %0" : "+m"(*reinterpret_cast<volatile char*>(at))::"memory");
        }
        asm volatile("mfence" ::: "memory");
    }
};

static_assert(publication<coherent_publication> && publication<flush_line_publication>);

} // namespace pt::paging
