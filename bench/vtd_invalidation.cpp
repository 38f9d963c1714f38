// SPDX-License-Identifier: BSL-1.0
//
// Submitting one page-selective invalidation to a queue and telling the unit, against the stores that
// cannot be avoided: 16 bytes of descriptor and the tail. The registers are memory, and the unit has
// always taken everything: hardware's own time is no part of this.

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/vtd/invalidation_queue.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <emmintrin.h>
#include <memory>

namespace {

struct alignas(4096) unit_memory {
    std::uint64_t registers[512] = {};
    std::uint64_t frames[2][512] = {};
    std::uint64_t allocated = 0;
};

/// CAP, ECAP and VER of a unit with a queue; the head is where the tail is; GCMD is GSTS.
struct register_memory {
    volatile std::uint64_t* words;

    std::uint32_t read32(std::uint32_t offset) {
        const std::uint32_t at = offset == 0x1C ? 0x18 : offset;
        return static_cast<std::uint32_t>(words[at / 8] >> (at % 8 * 8));
    }
    std::uint64_t read64(std::uint32_t offset) {
        return words[(offset == 0x80 ? 0x88 : offset) / 8];
    }
    void write32(std::uint32_t offset, std::uint32_t value) { words[offset / 8] = value; }
    void write64(std::uint32_t offset, std::uint64_t value) { words[offset / 8] = value; }
};
struct no_time {
    std::uint64_t now() { return 0; }
};
struct two_frames {
    unit_memory* memory;

    pt::result<pt::hpa> allocate(pt::frame_contents) { return pt::hpa{4096 * ++memory->allocated}; }
    void release(pt::hpa) {}
    std::uint64_t* entries(pt::hpa frame) { return memory->frames[frame.raw / 4096 - 1]; }
};

void vtd_queue_submit_page(benchmark::State& state) {
    const auto memory = std::make_unique<unit_memory>();
    memory->registers[0x00 / 8] = 0x10;
    memory->registers[0x08 / 8] = 0x00d2'008c'222f'0606;
    memory->registers[0x10 / 8] = 0x0000'0000'00f0'0f4a;
    const register_memory registers{memory->registers};
    auto window = pt::vtd::register_window<register_memory, no_time>::open(registers, 4096, {});
    auto queue = pt::vtd::invalidation_queue<register_memory, no_time, two_frames>::create(
        *window, {memory.get()});
    if (!queue || !queue->start()) {
        state.SkipWithError("the queue does not start");
        return;
    }
    const pt::vtd::capability cap = queue->capabilities();
    std::uint64_t page = 0;
    for (auto _ : state) {
        const auto request = pt::vtd::invalidate::iotlb(cap, 7, {pt::iova{page++ << 12}, 0},
                                                        pt::vtd::invalidation_hint::leaves_only);
        if (!queue->submit(request) || !queue->start_pending()) {
            state.SkipWithError("not submitted");
            break;
        }
        benchmark::ClobberMemory();
    }
    queue->leak();
}

void floor_store16_single(benchmark::State& state) {
    const auto memory = std::make_unique<unit_memory>();
    volatile std::uint64_t* const tail = &memory->registers[0x88 / 8];
    std::uint64_t page = 0;
    for (auto _ : state) {
        const __m128i descriptor =
            _mm_set_epi64x(static_cast<long long>(page << 12 | 0x40), 0x7'00F2);
        _mm_store_si128(reinterpret_cast<__m128i*>(&memory->frames[0][page % 256 * 2]), descriptor);
        benchmark::ClobberMemory();
        ++page;
        *tail = page % 256 * 16;
    }
}

BENCHMARK(floor_store16_single);
BENCHMARK(vtd_queue_submit_page);

} // namespace
