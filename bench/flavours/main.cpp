// SPDX-License-Identifier: BSL-1.0
// Measures the rows of one flavour. This file must not include anything of pt; row.hpp says why.
#include "row.hpp"

#include <benchmark/benchmark.h>

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t page = 4096;

void run_on(unsigned processor) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor, &only);
    (void)pthread_setaffinity_np(pthread_self(), sizeof only, &only); // or wherever it likes
}

/// Memory in large pages where the system has them, so that the host's own page walks, which are not
/// what is measured, are few; for the engine and for the floors alike.
bench::region touched_region(std::size_t frames) {
    constexpr std::size_t large_page = std::size_t{2} << 20;
    const std::size_t bytes = frames * (page + sizeof(std::uint64_t)) + 2 * large_page;
    void* const start =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) {
        std::perror("memory for tables");
        std::exit(EXIT_FAILURE);
    }
    const auto aligned = (reinterpret_cast<std::uintptr_t>(start) + large_page - 1) & -large_page;
    auto* const words = reinterpret_cast<std::uint64_t*>(aligned);
    (void)madvise(words, bytes - large_page, MADV_HUGEPAGE);
    std::fill_n(words, frames * (page / sizeof(std::uint64_t) + 1), ~std::uint64_t{0});
    return {words, words + frames * (page / sizeof(std::uint64_t)), frames};
}

/// Runs its half of a row whenever the first thread says so. Both wait without sleeping.
class second_thread {
public:
    explicit second_thread(const bench::row& work) : work_{work}, thread_{[this] { serve(); }} {
        while (done_.load() != 0) {}
    }
    ~second_thread() {
        stop_ = true;
        begin_ = asked_ + 1;
        thread_.join();
    }
    second_thread(const second_thread&) = delete;
    second_thread& operator=(const second_thread&) = delete;

    void begin() { begin_.store(++asked_, std::memory_order_release); }
    bool finish() {
        while (done_.load(std::memory_order_acquire) != asked_) {}
        return good_;
    }

private:
    void serve() {
        run_on(1);
        done_ = 0;
        for (std::uint64_t served = 1;; ++served) {
            while (begin_.load(std::memory_order_acquire) != served) {}
            if (stop_) {
                return;
            }
            good_ = work_.run(1) && good_;
            done_.store(served, std::memory_order_release);
        }
    }

    const bench::row& work_;
    std::uint64_t asked_ = 0;
    bool good_ = true;
    alignas(64) std::atomic<std::uint64_t> begin_{0};
    std::atomic<bool> stop_{false};
    alignas(64) std::atomic<std::uint64_t> done_{~std::uint64_t{0}};
    std::thread thread_;
};

using clock = std::chrono::steady_clock;

/// Runs once and says how long it took; undoes it outside of that time.
bool run_once(const bench::row& work, second_thread* second, clock::duration& time) {
    const auto start = clock::now();
    if (second != nullptr) {
        second->begin();
    }
    bool good = work.run(0);
    if (second != nullptr) {
        good = second->finish() && good;
    }
    time = clock::now() - start;
    return work.undo() && good;
}

void measure(benchmark::State& state, const bench::row& work, const bench::region& memory) {
    if (!work.set_up(memory)) {
        state.SkipWithError("set_up() failed");
        return;
    }
    {
        const auto second = work.threads == 2 ? std::make_unique<second_thread>(work) : nullptr;
        clock::duration time{};
        bool good = run_once(work, second.get(), time); // and the caches are warm
        for (auto _ : state) {
            good = good && run_once(work, second.get(), time);
            state.SetIterationTime(std::chrono::duration<double>(time).count() /
                                   static_cast<double>(work.pieces));
            if (!good) {
                state.SkipWithError("run() or undo() failed");
                break;
            }
        }
    }
    work.tear_down();
}

std::vector<bench::row> all_rows;

} // namespace

int main(int argc, char** argv) {
    run_on(0);
    const bench::add_row add = [](const bench::row& work) { all_rows.push_back(work); };
    bench::add_fill_rows(add);
    bench::add_single_rows(add);
    bench::add_translate_rows(add);
    bench::add_split_join_rows(add);
    bench::add_two_threads_rows(add);
    bench::add_size_rows(add);
    bench::add_local_apic_rows(add);
    bench::add_io_exit_rows(add);
    bench::add_e1000e_transmit_rows(add);
    bench::add_e1000e_engine_rows(add);
    bench::add_assign_exit_rows(add);
    bench::add_assign_change_rows(add);

    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return EXIT_FAILURE;
    }

    // Rows that need more than half of the machine's memory are left out.
    const auto available = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) / 2;
    std::size_t frames = 0;
    for (const bench::row& work : all_rows) {
        frames = work.frames <= available ? std::max(frames, work.frames) : frames;
    }
    run_on(0);
    const bench::region memory = touched_region(frames);
    for (const bench::row& work : all_rows) {
        const std::string name = std::string{bench::flavour} + "/" + work.name;
        if (work.frames > frames) {
            std::fprintf(stderr, "%s: left out, it needs more than half of the memory\n",
                         name.c_str());
            continue;
        }
        benchmark::RegisterBenchmark(
            name.c_str(),
            [&work, &memory](benchmark::State& state) { measure(state, work, memory); })
            ->UseManualTime()
            ->Iterations(work.runs)
            ->Unit(benchmark::kNanosecond);
    }
    benchmark::RunSpecifiedBenchmarks();
    return EXIT_SUCCESS;
}
