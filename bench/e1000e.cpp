// SPDX-License-Identifier: BSL-1.0
// The driver's transmit path without a device: registers and ring are ordinary memory, and a
// descriptor reads as done as soon as it is looked at. The floors are the stores that the device needs
// to see in any case: 16 bytes for each descriptor, then the tail.
#include "pt/e1000e/tx_ring.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

namespace {

constexpr std::uint32_t ring_size = 256;
constexpr std::uint32_t batch = 32;

struct registers {
    volatile std::uint32_t* window;
    std::uint32_t read32(std::uint32_t offset) { return window[offset / 4]; }
    void write32(std::uint32_t offset, std::uint32_t value) { window[offset / 4] = value; }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write64(std::uint32_t, std::uint64_t) {}
};

/// Loads are real loads; DD is set on the way, so that no time is spent on playing the device.
struct done_at_once {
    std::uint64_t* ring;
    std::uint64_t read64(std::uint32_t offset) {
        return __atomic_load_n(ring + offset / 8, __ATOMIC_RELAXED) | 1ULL << 32;
    }
    void write64(std::uint32_t offset, std::uint64_t value) {
        __atomic_store_n(ring + offset / 8, value, __ATOMIC_RELAXED);
    }
};

/// x86: stores to write-back memory are seen before a later store to uncached memory.
struct compiler_order {
    void release() { __atomic_signal_fence(__ATOMIC_RELEASE); }
    void acquire() { __atomic_signal_fence(__ATOMIC_ACQUIRE); }
};

struct machine {
    std::vector<std::uint32_t> window = std::vector<std::uint32_t>(0x4000 / 4);
    std::vector<std::uint64_t> memory = std::vector<std::uint64_t>(std::size_t{2} * ring_size);
    std::vector<pt::e1000e::tx_slot> slots = std::vector<pt::e1000e::tx_slot>(ring_size);
    pt::e1000e::tx_ring<registers, done_at_once, compiler_order> ring{
        {window.data()}, {memory.data()}, {}, pt::iova{0x1'0000}, slots.data(), ring_size};
};

void e1000e_send_reclaim_batch32(benchmark::State& state) {
    machine m;
    if (!m.ring.start()) {
        return state.SkipWithError("the ring does not start");
    }
    std::uint64_t cookies = 0;
    for (auto _ : state) {
        for (std::uint64_t i = 0; i != batch; ++i) {
            benchmark::DoNotOptimize(m.ring.enqueue({{pt::iova{i * 2048}, 60}}, i).has_value());
        }
        m.ring.advance_tail();
        m.ring.reclaim([&](std::uint64_t cookie) { cookies += cookie; });
    }
    if (cookies != std::uint64_t(state.iterations()) * (batch * (batch - 1) / 2)) {
        state.SkipWithError("a cookie was lost");
    }
    state.SetItemsProcessed(state.iterations() * batch);
}
BENCHMARK(e1000e_send_reclaim_batch32);

void e1000e_send_reclaim_single(benchmark::State& state) {
    machine m;
    if (!m.ring.start()) {
        return state.SkipWithError("the ring does not start");
    }
    std::uint64_t cookies = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(m.ring.send({{pt::iova{2048}, 60}}, 1).has_value());
        m.ring.reclaim([&](std::uint64_t cookie) { cookies += cookie; });
    }
    if (cookies != std::uint64_t(state.iterations())) {
        state.SkipWithError("a cookie was lost");
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(e1000e_send_reclaim_single);

using two_words [[gnu::vector_size(16)]] = std::uint64_t;

void floor_store16(benchmark::State& state, std::uint32_t descriptors) {
    std::vector<two_words> memory(ring_size);
    std::vector<std::uint32_t> window(0x4000 / 4);
    volatile std::uint32_t* const tail = window.data() + 0x3818 / 4;
    two_words* const ring = memory.data();
    std::uint32_t at = 0;
    for (auto _ : state) {
        for (std::uint64_t i = 0; i != descriptors; ++i) {
            ring[at] = two_words{i * 2048, 0x0B00'003C};
            at = at + 1 == ring_size ? 0 : at + 1;
        }
        benchmark::ClobberMemory();
        *tail = at;
    }
    benchmark::DoNotOptimize(ring);
    state.SetItemsProcessed(state.iterations() * descriptors);
}

void floor_store16_batch32(benchmark::State& state) { floor_store16(state, batch); }
BENCHMARK(floor_store16_batch32);

void floor_store16_single(benchmark::State& state) { floor_store16(state, 1); }
BENCHMARK(floor_store16_single);

} // namespace
