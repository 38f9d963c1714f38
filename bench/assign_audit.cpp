// SPDX-License-Identifier: BSL-1.0
// The isolation audit of a guest's pages: a million pages of 4 KiB, and half a million of 2 MiB, all as
// they should be and then all wrong, against a loop that loads each entry of the same tables once.

#include "pt/assign/audit_pages.hpp"
#include "pt/core/address.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace {

using pt::gpa;
using pt::hpa;
using pt::KiB;
using pt::range;

constexpr std::uint64_t base = 0x40'0000'0000; // where the tables lie, as the guest's host sees it
constexpr std::uint64_t memory = 0x80'0000'0000;
constexpr std::size_t million = 1 << 20;

/// Tables over pages of that level from gpa 0 on, which lead to host memory in order: a root, the
/// tables between, and those of the leaves.
class tree {
public:
    tree(unsigned leaf_level, std::size_t pages, std::uint64_t leaf) {
        std::vector<std::size_t> tables{(pages + 511) / 512};
        for (unsigned level = leaf_level; level != 4; ++level) {
            tables.insert(tables.begin(), (tables.front() + 511) / 512);
        }
        std::size_t all = 0;
        for (const std::size_t count : tables) {
            all += count;
        }
        words_.resize(all * 512);
        std::size_t first = 0;
        for (std::size_t i = 0; i + 1 != tables.size(); ++i) {
            const std::size_t below = first + tables[i];
            for (std::size_t k = 0; k != tables[i + 1]; ++k) {
                words_[first * 512 + k] = (base + (below + k) * 4 * KiB) | 7;
            }
            first = below;
        }
        const std::uint64_t step = std::uint64_t{4 * KiB} << 9 * (leaf_level - 1);
        for (std::size_t i = 0; i != pages; ++i) {
            words_[first * 512 + i] = (memory + i * step) | leaf;
        }
        size_ = pages * step;
        bits_.resize(static_cast<std::size_t>(pt::paging::frame_bitmap::words_for(frames())));
    }

    [[nodiscard]] std::uint64_t size() const { return size_; } ///< bytes that the guest has
    [[nodiscard]] range<hpa> frames() const { return {hpa{base}, words_.size() * 8}; }
    [[nodiscard]] pt::paging::image_reader reader() const { return {frames(), words_.data()}; }
    /// An empty set: forgetting what was seen is part of an audit.
    pt::paging::frame_bitmap seen() {
        bits_.assign(bits_.size(), 0);
        return {frames(), bits_.data(), bits_.size()};
    }
    [[nodiscard]] const std::vector<std::uint64_t>& words() const { return words_; }

private:
    std::vector<std::uint64_t> words_;
    std::vector<std::uint64_t> bits_;
    std::uint64_t size_ = 0;
};

constexpr std::uint64_t small_page = 0x37; // EPT: all rights, write-back
constexpr std::uint64_t large_page = 0xB7;
constexpr std::uint64_t device_page = 0x03; // second stage: read, write

const pt::ept::format ept{pt::ept::capabilities{0x3'4141}, 46};
const pt::vtd::second_stage::format second_stage{{.levels = 4, .output_width = 46}};

/// The least that an audit has to do: each entry of the same tables is loaded, and looked at.
void read_tables(benchmark::State& state, const tree& tables) {
    for (auto _ : state) {
        std::uint64_t sum = 0;
        for (const std::uint64_t entry : tables.words()) {
            sum += entry;
        }
        benchmark::DoNotOptimize(sum);
        benchmark::ClobberMemory();
    }
}
void floor_read_tables(benchmark::State& state) { read_tables(state, {1, million, small_page}); }
void floor_read_tables_2m(benchmark::State& state) {
    read_tables(state, {2, million / 2, large_page});
}
BENCHMARK(floor_read_tables)->Unit(benchmark::kMillisecond);
BENCHMARK(floor_read_tables_2m)->Unit(benchmark::kMillisecond);

/// `host` is where the guest's memory should lie; `findings` what the audit has to find.
template <class Format>
void audit(benchmark::State& state, const Format& format, tree tables, std::uint64_t host,
           std::uint64_t findings) {
    const pt::assign::owned_pages pages[]{{.at = {gpa{0}, tables.size()}, .host = hpa{host}}};
    const pt::assign::ownership owner{.guest = 1, .pages = pages};
    for (auto _ : state) {
        const auto report = [](const pt::assign::finding& found) {
            benchmark::DoNotOptimize(found.first);
        };
        pt::assign::audit_summary summary;
        if constexpr (std::is_same_v<typename Format::address, gpa>) {
            summary = pt::assign::audit_pages(format, tables.reader(), hpa{base}, tables.seen(),
                                              owner, report);
        } else {
            summary = pt::assign::audit_dma(format, tables.reader(), hpa{base}, tables.seen(),
                                            owner, report);
        }
        if (summary.findings != findings) {
            state.SkipWithError("the audit found something else");
        }
    }
}
void audit_pages_million(benchmark::State& state) {
    audit(state, ept, {1, million, small_page}, memory, 0);
}
void audit_pages_million_wrong(benchmark::State& state) {
    audit(state, ept, {1, million, small_page}, memory + 4 * KiB, 1);
}
void audit_dma_million(benchmark::State& state) {
    audit(state, second_stage, {1, million, device_page}, memory, 1); // the interrupt range
}
void audit_pages_2m(benchmark::State& state) {
    audit(state, ept, {2, million / 2, large_page}, memory, 0);
}
BENCHMARK(audit_pages_million)->Unit(benchmark::kMillisecond);
BENCHMARK(audit_pages_million_wrong)->Unit(benchmark::kMillisecond);
BENCHMARK(audit_dma_million)->Unit(benchmark::kMillisecond);
BENCHMARK(audit_pages_2m)->Unit(benchmark::kMillisecond);

} // namespace
