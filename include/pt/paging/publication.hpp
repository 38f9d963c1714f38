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
    constexpr void publish(const std::uint64_t*, std::size_t) {}
    constexpr void complete() {
        if (!std::is_constant_evaluated()) {
            asm volatile("" ::: "memory");
        }
    }
};

/// The instructions that write a cache line back to memory [sdm].
enum class line_write_back : std::uint8_t {
    clflush,    ///< every processor that has VT-d has it; one line after the other
    clflushopt, ///< CPUID (7,0).EBX bit 23: several lines at a time
    clwb,       ///< CPUID (7,0).EBX bit 24: and they stay in the cache
};

/// For hardware that walks memory behind the caches' back: each changed line is written back.
template <line_write_back Instruction>
struct line_publication {
    static constexpr std::uintptr_t line = 64;

    constexpr void publish(const std::uint64_t* first, std::size_t count) {
        if (std::is_constant_evaluated() || count == 0) {
            return;
        }
        const auto begin = reinterpret_cast<std::uintptr_t>(first) & ~(line - 1);
        const auto end = reinterpret_cast<std::uintptr_t>(first + count);
        asm volatile("" ::: "memory"); // the compiler has stored what is to be written back
        for (std::uintptr_t at = begin; at < end; at += line) {
            // NOLINTNEXTLINE(performance-no-int-to-ptr): the walk goes by cache lines
            auto& byte = *reinterpret_cast<volatile char*>(at);
            if constexpr (Instruction == line_write_back::clflush) {
                asm volatile("clflush %0" : "+m"(byte));
            } else if constexpr (Instruction == line_write_back::clflushopt) {
                asm volatile("clflushopt %0" : "+m"(byte));
            } else {
                asm volatile("clwb %0" : "+m"(byte));
            }
        }
    }
    /// SFENCE orders CLFLUSHOPT and CLWB with later stores; CLFLUSH is ordered by MFENCE on every
    /// processor.
    constexpr void complete() {
        if (std::is_constant_evaluated()) {
            return;
        }
        if constexpr (Instruction == line_write_back::clflush) {
            asm volatile("mfence" ::: "memory");
        } else {
            asm volatile("sfence" ::: "memory");
        }
    }
};

using clflush_publication = line_publication<line_write_back::clflush>;
using clflushopt_publication = line_publication<line_write_back::clflushopt>;
using clwb_publication = line_publication<line_write_back::clwb>;

static_assert(publication<coherent_publication> && publication<clflush_publication> &&
              publication<clflushopt_publication> && publication<clwb_publication>);

} // namespace pt::paging
