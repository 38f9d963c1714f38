// SPDX-License-Identifier: BSL-1.0
// Opening and closing ranges of ports, against the stores that cannot be avoided.

#include "pt/vmx/io_bitmap.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>

namespace {

using pt::io_port;
using pt::range;

struct alignas(4096) bitmap_pages {
    std::uint64_t a[pt::vmx::io_bitmap::words_per_page];
    std::uint64_t b[pt::vmx::io_bitmap::words_per_page];
};

/// All 65536 ports closed, then all that can open opened.
void io_bitmap_range_64k(benchmark::State& state) {
    bitmap_pages pages;
    pt::vmx::io_bitmap bitmap{pages.a, pages.b};
    for (auto _ : state) {
        bitmap.close(pt::vmx::io_bitmap::all_ports);
        benchmark::ClobberMemory();
        benchmark::DoNotOptimize(bitmap.open({io_port{0}, 0xCF8}));
        benchmark::DoNotOptimize(bitmap.open({io_port{0xD00}, 0x1'0000 - 0xD00}));
        benchmark::ClobberMemory();
    }
}

void floor_memset_8KiB(benchmark::State& state) {
    bitmap_pages pages;
    benchmark::DoNotOptimize(&pages); // or nobody would look at it
    for (auto _ : state) {
        std::memset(&pages, 0xFF, sizeof pages);
        benchmark::ClobberMemory();
        std::memset(&pages, 0x00, sizeof pages);
        benchmark::ClobberMemory();
    }
}

/// A BAR of 32 ports, as that of the 82574L, at a place that the guest chose: aligned to its size.
constexpr std::uint32_t bar_port(std::uint32_t n) { return 0x1000 + (n * 32) % 0xF000; }

void io_bitmap_range_32(benchmark::State& state) {
    bitmap_pages pages;
    pt::vmx::io_bitmap bitmap{pages.a, pages.b};
    std::uint32_t n = 0;
    for (auto _ : state) {
        const range<io_port> bar{io_port{static_cast<std::uint16_t>(bar_port(n++))}, 32};
        benchmark::DoNotOptimize(bitmap.open(bar));
        benchmark::ClobberMemory();
    }
}

void floor_or_word(benchmark::State& state) {
    bitmap_pages pages;
    std::memset(&pages, 0, sizeof pages);
    benchmark::DoNotOptimize(&pages);
    std::uint32_t n = 0;
    for (auto _ : state) {
        const std::uint32_t port = bar_port(n++);
        std::uint64_t* const page = port < 0x8000 ? pages.a : pages.b;
        page[port % 0x8000 / 64] |= std::uint64_t{0xFFFF'FFFF} << (port % 64);
        benchmark::ClobberMemory();
    }
}

BENCHMARK(floor_memset_8KiB);
BENCHMARK(io_bitmap_range_64k);
BENCHMARK(floor_or_word);
BENCHMARK(io_bitmap_range_32);

} // namespace
