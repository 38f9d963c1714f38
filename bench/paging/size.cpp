// SPDX-License-Identifier: BSL-1.0
// The cost of a guest's memory, from 1 MiB to 1 TiB in 4-KiB pages: for the plot in the documentation.
#include "../flavours/row.hpp"
#include "floors.hpp"
#include "tables.hpp"

#include <cstdint>

namespace bench {
namespace {

/// Small sizes are mapped several times in one measurement, each time under new tables.
constexpr std::uint64_t times(std::uint64_t size) { return size <= 64 * MiB ? 16 : 1; }
constexpr std::uint64_t input(std::uint64_t i) { return (i + 1) * TiB; }
constexpr std::size_t frames(std::uint64_t size) {
    const auto tables = [size](std::uint64_t covered) { return (size + covered - 1) / covered; };
    return 1 + times(size) * (tables(2 * MiB) + tables(GiB) + tables(512 * GiB));
}

template <std::uint64_t size>
class fill_size {
public:
    explicit fill_size(const region& all) : root_{all.entries} {
        floors::fill_table<0>(root_, floors::empty);
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        std::uint64_t* next = root_ + floors::entries_per_table;
        for (std::uint64_t i = 0; i < times(size); ++i) {
            floors::build_below<1>(root_, next, input(i), size, 4 * GiB + floors::ram);
            keep(next);
        }
        return true;
    }
    bool undo() { return true; }

private:
    std::uint64_t* root_;
};

template <std::uint64_t size>
class map_size : tree<> {
public:
    explicit map_size(const region& all) : tree<>{all, ept_format} {}
    using tree<>::ready;
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i < times(size); ++i) {
            good = map(input(i), size, 4 * GiB, pt::ept::ram, page_size::size_4k) && good;
        }
        return good;
    }
    bool undo() {
        bool good = true;
        for (std::uint64_t i = 0; i < times(size); ++i) {
            good = unmap(input(i), size) && good;
        }
        return rewind() && good;
    }
};

template <std::uint64_t size>
void add_size(add_row add, const char* floor, const char* engine) {
    constexpr unsigned runs = size <= 1 * GiB ? 50 : size <= 16 * GiB ? 5 : 1;
    add(row_of<fill_size<size>>::make(floor, times(size), runs, frames(size)));
    add(row_of<map_size<size>>::make(engine, times(size), runs, frames(size)));
}

} // namespace

void add_size_rows(add_row add) {
    add_size<1 * MiB>(add, "floor_fill_size/1MiB", "ept_map_4k_size/1MiB");
    add_size<4 * MiB>(add, "floor_fill_size/4MiB", "ept_map_4k_size/4MiB");
    add_size<16 * MiB>(add, "floor_fill_size/16MiB", "ept_map_4k_size/16MiB");
    add_size<64 * MiB>(add, "floor_fill_size/64MiB", "ept_map_4k_size/64MiB");
    add_size<256 * MiB>(add, "floor_fill_size/256MiB", "ept_map_4k_size/256MiB");
    add_size<1 * GiB>(add, "floor_fill_size/1GiB", "ept_map_4k_size/1GiB");
    add_size<4 * GiB>(add, "floor_fill_size/4GiB", "ept_map_4k_size/4GiB");
    add_size<16 * GiB>(add, "floor_fill_size/16GiB", "ept_map_4k_size/16GiB");
    add_size<64 * GiB>(add, "floor_fill_size/64GiB", "ept_map_4k_size/64GiB");
    add_size<256 * GiB>(add, "floor_fill_size/256GiB", "ept_map_4k_size/256GiB");
    add_size<1 * TiB>(add, "floor_fill_size/1TiB", "ept_map_4k_size/1TiB");
}

} // namespace bench
