// SPDX-License-Identifier: BSL-1.0
// The local APIC's scan and the path of one interrupt. A floor is what an expert writes by hand for the
// same answer, in the same run; the sets are random and visited in an order that no branch predictor
// learns, because a guest's vectors are not the same each time either.

#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"

#include <benchmark/benchmark.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

namespace {

// Register pages are 4 KiB apart, so that no more than this many stay in an 8-way first-level cache.
constexpr std::size_t set_count = 8;

struct random_index {
    std::uint64_t state = 1;
    std::size_t next(std::uint64_t disturb = 0) {
        state = state * 6364136223846793005U + 1442695040888963407U + disturb;
        return state >> 61;
    }
};

/// `per_set` random legal vectors; 0: between none and seven.
std::vector<std::vector<std::uint8_t>> random_vectors(std::int64_t per_set) {
    auto random = [engine = std::mt19937{26}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    std::vector<std::vector<std::uint8_t>> all(set_count);
    for (auto& vectors : all) {
        const std::int64_t count = per_set != 0 ? per_set : static_cast<std::int64_t>(random() % 8);
        for (std::int64_t i = 0; i != count; ++i) {
            vectors.push_back(static_cast<std::uint8_t>(16 + random() % 240));
        }
    }
    return all;
}

/// The best layout for a scan, which the hardware's is not: a summary word and eight words in a row.
struct summarized_set {
    std::uint32_t summary = 0;
    std::uint32_t words[8] = {};
    void insert(std::uint8_t vector) {
        words[vector / 32] |= std::uint32_t{1} << (vector % 32);
        summary |= std::uint32_t{1} << (vector / 32);
    }
    [[nodiscard]] std::uint32_t highest() const {
        const auto top = static_cast<std::uint32_t>(31 - std::countl_zero(summary | 1));
        return top * 32 + static_cast<std::uint32_t>(31 - std::countl_zero(words[top] | 1));
    }
};

struct apic {
    std::unique_ptr<pt::lapic::register_page> page = std::make_unique<pt::lapic::register_page>();
    pt::lapic::local_apic local{*page};
    apic() { local.set_spurious_interrupt_vector(0x1FF); }
};

struct interruptible {
    bool can_take_interrupt() { return true; }
};

std::vector<apic> loaded_apics(std::int64_t per_set) {
    std::vector<apic> apics(set_count);
    const auto vectors = random_vectors(per_set);
    for (std::size_t i = 0; i != set_count; ++i) {
        for (const std::uint8_t vector : vectors[i]) {
            apics[i].local.accept(vector, pt::lapic::trigger_mode::edge);
        }
    }
    return apics;
}

std::vector<summarized_set> loaded_sets(std::int64_t per_set) {
    std::vector<summarized_set> sets(set_count);
    const auto vectors = random_vectors(per_set);
    for (std::size_t i = 0; i != set_count; ++i) {
        for (const std::uint8_t vector : vectors[i]) {
            sets[i].insert(vector);
        }
    }
    return sets;
}

void lapic_highest_pending(benchmark::State& state) {
    const auto apics = loaded_apics(state.range(0));
    random_index index;
    for (auto _ : state) {
        benchmark::DoNotOptimize(apics[index.next()].local.pending());
    }
}

void floor_lapic_scan(benchmark::State& state) {
    const auto sets = loaded_sets(state.range(0));
    random_index index;
    for (auto _ : state) {
        benchmark::DoNotOptimize(sets[index.next()].highest());
    }
}

void lapic_highest_pending_chain(benchmark::State& state) {
    const auto apics = loaded_apics(state.range(0));
    random_index index;
    std::uint64_t answer = 0;
    for (auto _ : state) {
        answer = apics[index.next(answer)].local.pending();
    }
    benchmark::DoNotOptimize(answer);
}

void floor_lapic_scan_chain(benchmark::State& state) {
    const auto sets = loaded_sets(state.range(0));
    random_index index;
    std::uint64_t answer = 0;
    for (auto _ : state) {
        answer = sets[index.next(answer)].highest();
    }
    benchmark::DoNotOptimize(answer);
}

void lapic_accept_inject_eoi(benchmark::State& state) {
    apic one;
    pt::lapic::injector injector{one.local, interruptible{}};
    random_index index;
    for (auto _ : state) {
        const auto vector = static_cast<std::uint8_t>(16 + index.next() % 240);
        one.local.accept(vector, pt::lapic::trigger_mode::edge);
        benchmark::DoNotOptimize(injector.before_entry());
        benchmark::DoNotOptimize(one.local.eoi());
    }
}

// Arguments: vectors in each set; 0 is a random number of them.
BENCHMARK(floor_lapic_scan)->Arg(0)->Arg(1)->Arg(16);
BENCHMARK(lapic_highest_pending)->Arg(0)->Arg(1)->Arg(16);
BENCHMARK(floor_lapic_scan_chain)->Arg(0)->Arg(1)->Arg(16);
BENCHMARK(lapic_highest_pending_chain)->Arg(0)->Arg(1)->Arg(16);
BENCHMARK(lapic_accept_inject_eoi);

} // namespace
