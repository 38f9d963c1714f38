// SPDX-License-Identifier: BSL-1.0
// The page-table engine against floors: the same memory filled, walked or read by loops that are
// written by hand and do nothing else. What counts is the ratio within one run.
#include "pt/paging/ept.hpp"
#include "pt/paging/publication.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include <benchmark/benchmark.h>

#include <sys/mman.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace {

using pt::GiB;
using pt::gpa;
using pt::hpa;
using pt::iova;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

/// Frames of one region, all of them touched before, that are reached at their own address. The
/// free ones lie in an array, the lowest on top.
class pool {
public:
    explicit pool(std::size_t count) : count_{count} {
        void* const start = mmap(nullptr, count * 4096, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (start == MAP_FAILED) {
            std::abort();
        }
        entries_ = static_cast<std::uint64_t*>(start);
        for (std::size_t i = 0; i < count * 512; ++i) {
            entries_[i] = ~std::uint64_t{0};
        }
        free_ = new std::uint64_t[count];
        for (std::size_t i = 0; i < count; ++i) {
            free_[i] = reinterpret_cast<std::uintptr_t>(entries_ + (count - 1 - i) * 512);
        }
        top_ = count;
    }
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;
    ~pool() {
        munmap(entries_, count_ * 4096);
        delete[] free_;
    }
    [[nodiscard]] std::uint64_t* entries() const { return entries_; }

private:
    friend struct pool_memory;
    std::uint64_t* entries_;
    std::uint64_t* free_;
    std::size_t count_;
    std::size_t top_;
};

struct pool_memory {
    pool* owner;
    pt::result<hpa> allocate(pt::frame_contents) { // nobody here asks for zeros
        if (owner->top_ == 0) {
            return pt::error{pt::errc::out_of_frames};
        }
        return hpa{owner->free_[--owner->top_]};
    }
    void release(hpa frame) { owner->free_[owner->top_++] = frame.raw; }
    std::uint64_t* entries(hpa frame) { return reinterpret_cast<std::uint64_t*>(frame.raw); }
};

struct no_caches {
    template <class Stale>
    pt::result<void> invalidate(const Stale&) {
        return {};
    }
};

constexpr pt::ept::format ept{pt::ept::capabilities{0xF01'0673'4141}, 52};
constexpr pt::vtd::second_stage::format second_stage{
    {.levels = 4, .input_width = 48, .output_width = 52, .largest_page = page_size::size_1g}};
using ept_table = pt::paging::table<pt::ept::format, pool_memory>;
template <pt::publication Publication>
using vtd_table = pt::paging::table<pt::vtd::second_stage::format, pool_memory, Publication>;

/// The time of one piece of work; what surrounds it is not measured.
template <class Work>
void measure(benchmark::State& state, Work&& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    benchmark::ClobberMemory();
    const auto end = std::chrono::steady_clock::now();
    state.SetIterationTime(std::chrono::duration<double>(end - start).count());
}

template <class Table>
void give_up(Table& tables) {
    no_caches hardware;
    auto owed = tables.retire();
    (void)owed.redeem(hardware);
}

// ------------------------------------------------------------------------------------------- floors

/// `tables` tables of leaves, one after the other, and `upper` tables that are nearly empty. All that
/// a loop over them can know is known when it is compiled.
template <std::size_t tables, std::size_t upper, std::uint64_t entry, std::uint64_t step>
void fill(benchmark::State& state) {
    pool frames{tables + upper};
    std::uint64_t* const entries = frames.entries();
    for (auto _ : state) {
        measure(state, [&] {
            std::uint64_t next = entry;
            for (std::size_t i = 0; i < tables * 512; ++i, next += step) {
                entries[i] = next;
            }
            for (std::size_t i = tables * 512; i < (tables + upper) * 512; ++i) {
                entries[i] = pt::ept::format::empty;
            }
        });
    }
}
void floor_fill_1GiB(benchmark::State& state) {
    fill<512, 2, 0x8000'0001'0000'0037, 4 * KiB>(state);
}
void floor_fill_32768(benchmark::State& state) {
    fill<64, 1, 0x8000'0001'0000'00B7, 2 * MiB>(state);
}

constexpr std::uint64_t address_bits = 0x000F'FFFF'FFFF'F000;
std::uint64_t* table_of(std::uint64_t entry) {
    return reinterpret_cast<std::uint64_t*>(entry & address_bits);
}

/// A walk that checks each entry, makes the tables that are missing, and stores one leaf.
// NOLINTNEXTLINE(readability-non-const-parameter): the tables are written through it
bool walk_and_store(pool_memory memory, std::uint64_t* table, std::uint64_t input,
                    std::uint64_t leaf) {
    for (unsigned shift = 39; shift > 12; shift -= 9) {
        std::uint64_t& slot = table[input >> shift & 511];
        if ((slot & 7) == 0) {
            const auto frame = memory.allocate(pt::frame_contents::any);
            if (!frame) {
                return false;
            }
            std::uint64_t* const made = memory.entries(*frame);
            for (std::size_t i = 0; i < 512; ++i) {
                made[i] = pt::ept::format::empty;
            }
            slot = frame->raw | 7;
        } else if ((slot & 0x80) != 0) {
            return false;
        }
        table = table_of(slot);
    }
    std::uint64_t& slot = table[input >> 12 & 511];
    if ((slot & 7) != 0) {
        return false;
    }
    slot = leaf;
    return true;
}
void floor_walk_store_inorder(benchmark::State& state) {
    for (auto _ : state) {
        pool frames{520};
        pool_memory memory{&frames};
        std::uint64_t* const root = memory.entries(*memory.allocate(pt::frame_contents::any));
        for (std::size_t i = 0; i < 512; ++i) {
            root[i] = pt::ept::format::empty;
        }
        measure(state, [&] {
            for (std::uint64_t page = 0; page < 1 * GiB; page += 4 * KiB) {
                benchmark::DoNotOptimize(
                    walk_and_store(memory, root, page, page | 0x8000'0001'0000'0037));
            }
        });
    }
}

/// 64 GiB in pages of 4 KiB: 128 MiB of tables, far more than the caches hold.
class large_guest {
public:
    static constexpr std::uint64_t size = 64 * GiB;
    large_guest() {
        if (!tables.map({gpa{0}, size}, hpa{0}, pt::ept::ram, page_size::size_4k)) {
            std::abort();
        }
    }
    ~large_guest() { give_up(tables); }
    pool frames{size / (2 * MiB) + 64 + 2};
    ept_table tables{pool_memory{&frames}, ept};

    /// A walk through all pages in an order that no prefetcher guesses; each step needs the last.
    static std::uint64_t next(std::uint64_t output) {
        return (output * 0x5DEE'CE66'D + 0xB000) & (size - 1) & ~(4 * KiB - 1);
    }
};
constexpr unsigned steps = 4096;

void floor_chase_dependent(benchmark::State& state) {
    large_guest guest;
    const std::uint64_t* const root = pool_memory{&guest.frames}.entries(*guest.tables.root());
    std::uint64_t at = 0;
    for (auto _ : state) {
        measure(state, [&] {
            for (unsigned i = 0; i < steps; ++i) {
                const std::uint64_t* table = table_of(root[at >> 39 & 511]);
                table = table_of(table[at >> 30 & 511]);
                table = table_of(table[at >> 21 & 511]);
                at = large_guest::next(table[at >> 12 & 511] & address_bits);
            }
            benchmark::DoNotOptimize(at);
        });
    }
}

// ------------------------------------------------------------------------------------------- engine

void ept_map_4k_1GiB(benchmark::State& state) {
    pool frames{520};
    ept_table tables{pool_memory{&frames}, ept};
    (void)tables.root();
    no_caches hardware;
    for (auto _ : state) {
        measure(state, [&] {
            auto done =
                tables.map({gpa{4 * GiB}, 1 * GiB}, hpa{4 * GiB}, pt::ept::ram, page_size::size_4k);
            benchmark::DoNotOptimize(done.has_value());
        });
        auto owed = tables.unmap({gpa{4 * GiB}, 1 * GiB});
        (void)owed->redeem(hardware);
    }
    give_up(tables);
}
template <pt::publication Publication>
void vtd_map(benchmark::State& state) {
    pool frames{520};
    vtd_table<Publication> tables{pool_memory{&frames}, second_stage};
    (void)tables.root();
    no_caches hardware;
    for (auto _ : state) {
        measure(state, [&] {
            auto done = tables.map({iova{4 * GiB}, 1 * GiB}, hpa{4 * GiB},
                                   pt::vtd::second_stage::read_write, page_size::size_4k);
            benchmark::DoNotOptimize(done.has_value());
        });
        auto owed = tables.unmap({iova{4 * GiB}, 1 * GiB});
        (void)owed->redeem(hardware);
    }
    give_up(tables);
}
void vtd_map_4k_1GiB(benchmark::State& state) { vtd_map<pt::paging::coherent_publication>(state); }
/// What a unit that does not snoop costs: 32768 lines are written back.
void vtd_map_4k_1GiB_noncoherent(benchmark::State& state) {
    vtd_map<pt::paging::flush_line_publication>(state);
}
void ept_map_2m_64GiB(benchmark::State& state) {
    pool frames{520};
    ept_table tables{pool_memory{&frames}, ept};
    (void)tables.root();
    no_caches hardware;
    for (auto _ : state) {
        measure(state, [&] {
            auto done = tables.map({gpa{64 * GiB}, 64 * GiB}, hpa{4 * GiB}, pt::ept::ram,
                                   page_size::size_2m);
            benchmark::DoNotOptimize(done.has_value());
        });
        auto owed = tables.unmap({gpa{64 * GiB}, 64 * GiB});
        (void)owed->redeem(hardware);
    }
    give_up(tables);
}
void ept_unmap_4k_1GiB(benchmark::State& state) {
    pool frames{520};
    ept_table tables{pool_memory{&frames}, ept};
    (void)tables.root();
    no_caches hardware;
    for (auto _ : state) {
        (void)tables.map({gpa{4 * GiB}, 1 * GiB}, hpa{4 * GiB}, pt::ept::ram, page_size::size_4k);
        measure(state, [&] {
            auto owed = tables.unmap({gpa{4 * GiB}, 1 * GiB});
            benchmark::DoNotOptimize(owed->redeem(hardware));
        });
    }
    give_up(tables);
}
void ept_map_4k_single_inorder(benchmark::State& state) {
    for (auto _ : state) {
        pool frames{520};
        ept_table tables{pool_memory{&frames}, ept};
        (void)tables.root();
        measure(state, [&] {
            for (std::uint64_t page = 0; page < 1 * GiB; page += 4 * KiB) {
                auto done = tables.map({gpa{page}, 4 * KiB}, hpa{4 * GiB + page}, pt::ept::ram);
                benchmark::DoNotOptimize(done.has_value());
            }
        });
        give_up(tables);
    }
}
void ept_translate_dependent(benchmark::State& state) {
    large_guest guest;
    std::uint64_t at = 0;
    for (auto _ : state) {
        measure(state, [&] {
            for (unsigned i = 0; i < steps; ++i) {
                const auto found = guest.tables.translate(gpa{at});
                if (!found) {
                    std::abort();
                }
                at = large_guest::next(found->output.raw);
            }
            benchmark::DoNotOptimize(at);
        });
    }
}

BENCHMARK(floor_fill_1GiB)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(ept_map_4k_1GiB)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(vtd_map_4k_1GiB)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(vtd_map_4k_1GiB_noncoherent)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(ept_unmap_4k_1GiB)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(floor_fill_32768)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(ept_map_2m_64GiB)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(floor_walk_store_inorder)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(ept_map_4k_single_inorder)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(floor_chase_dependent)->UseManualTime()->Unit(benchmark::kMicrosecond);
BENCHMARK(ept_translate_dependent)->UseManualTime()->Unit(benchmark::kMicrosecond);

} // namespace
