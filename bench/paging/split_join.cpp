// SPDX-License-Identifier: BSL-1.0
// One page of 2 MiB to 512 of 4 KiB, and back; measured over the 512 pages of 1 GiB, one call each.
#include "../flavours/row.hpp"
#include "floors.hpp"
#include "tables.hpp"

#include <cstdint>

namespace bench {
namespace {

constexpr std::uint64_t large_pages = 512;
constexpr std::uint64_t first = 4 * GiB;
constexpr std::uint64_t page(std::uint64_t i) { return first + i * 2 * MiB; }

// ------------------------------------------------------------------------------------------- floors

class fill_512 {
public:
    explicit fill_512(const region& all)
        : upper_{all.entries}, tables_{all.entries + floors::entries_per_table} {
        floors::fill_table<2 * MiB>(upper_, first | floors::large_ram);
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        for (std::uint64_t i = 0; i < large_pages; ++i) {
            std::uint64_t* const table = tables_ + i * floors::entries_per_table;
            floors::fill_table<4 * KiB>(table, page(i) | floors::ram);
            keep(table);
            upper_[i] = floors::to_table(table);
        }
        return true;
    }
    bool undo() { return true; }

private:
    std::uint64_t* upper_;
    std::uint64_t* tables_;
};

class read_512 {
public:
    explicit read_512(const region& all)
        : upper_{all.entries}, tables_{all.entries + floors::entries_per_table} {
        for (std::uint64_t i = 0; i < large_pages; ++i) {
            floors::fill_table<4 * KiB>(tables_ + i * floors::entries_per_table,
                                        page(i) | floors::ram);
        }
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i < large_pages; ++i) {
            std::uint64_t* const table = tables_ + i * floors::entries_per_table;
            good = floors::holds<4 * KiB>(table, page(i) | floors::ram) && good;
            keep(table);
            upper_[i] = page(i) | floors::large_ram;
        }
        return good;
    }
    bool undo() { return true; }

private:
    std::uint64_t* upper_;
    std::uint64_t* tables_;
};

// ------------------------------------------------------------------------------------------- engine

class guest : protected tree<> {
public:
    explicit guest(const region& all) : tree<>{all, ept_format} {
        require(map(first, GiB, first, pt::ept::ram, page_size::size_2m));
        set_mark();
    }
    using tree<>::ready;

protected:
    bool split_all() {
        bool good = true;
        for (std::uint64_t i = 0; i < large_pages; ++i) {
            good = redeemed(tables.split({gpa{unknown(page(i))}, 2 * MiB})) && good;
        }
        return good;
    }
    bool join_all() {
        bool good = true;
        for (std::uint64_t i = 0; i < large_pages; ++i) {
            good = redeemed(tables.join({gpa{unknown(page(i))}, 2 * MiB})) && good;
        }
        return good;
    }
};

class split_2m : public guest {
public:
    using guest::guest;
    bool run(unsigned) { return split_all(); }
    bool undo() { return join_all() && rewind(); }
};

class join_2m : public guest {
public:
    explicit join_2m(const region& all) : guest{all} { require(split_all()); }
    bool run(unsigned) { return join_all(); }
    bool undo() { return rewind() && split_all(); }
};

} // namespace

void add_split_join_rows(add_row add) {
    constexpr std::size_t frames = 600;
    add(row_of<fill_512>::make("floor_fill_512", large_pages, 100, frames));
    add(row_of<split_2m>::make("ept_split_2m", large_pages, 100, frames));
    add(row_of<read_512>::make("floor_read_512", large_pages, 100, frames));
    add(row_of<join_2m>::make("ept_join_2m", large_pages, 100, frames));
}

} // namespace bench
