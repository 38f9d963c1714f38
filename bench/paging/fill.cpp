// SPDX-License-Identifier: BSL-1.0
// One call that maps much, or unmaps it: the engine against loops that fill the same tables.
#include "../flavours/row.hpp"
#include "floors.hpp"
#include "tables.hpp"

#include <cstdint>

namespace bench {
namespace {

// ------------------------------------------------------------------------------------------- floors

template <unsigned leaf_level, std::uint64_t input, std::uint64_t size>
class fill {
public:
    explicit fill(const region& all) : root_{all.entries} {
        floors::fill_table<0>(root_, floors::empty);
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        std::uint64_t* next = root_ + floors::entries_per_table;
        constexpr std::uint64_t leaf = leaf_level == 1 ? floors::ram : floors::large_ram;
        floors::build_below<leaf_level>(root_, next, input, size, 4 * GiB + leaf);
        keep(next);
        return true;
    }
    bool undo() { return true; }

private:
    std::uint64_t* root_;
};

/// 64 leaves in each of 256 tables, not all at the same place in the table, as such a row of lines
/// would fall into few sets of the cache.
constexpr std::size_t few_tables = 256;
constexpr std::uint64_t few_inputs(std::size_t i) { return i * 512 * GiB + i % 7 * 64 * GiB; }

class fill_64 {
public:
    explicit fill_64(const region& all) : tables_{all.entries + floors::entries_per_table} {
        for (std::size_t i = 0; i < few_tables; ++i) {
            floors::fill_table<0>(tables_ + i * floors::entries_per_table, floors::empty);
        }
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        for (std::size_t i = 0; i < few_tables; ++i) {
            std::uint64_t* const first = tables_ + i * floors::entries_per_table + i % 7 * 64;
            std::uint64_t entry = few_inputs(i) | floors::large_ram;
            keep(first);
#pragma GCC unroll 8
            for (std::size_t k = 0; k < 64; ++k, entry += GiB) {
                first[k] = entry;
            }
        }
        return true;
    }
    bool undo() { return true; }

private:
    std::uint64_t* tables_;
};

/// Fills a table and has each of its lines written back.
///
/// 2 MiB of tables: 0.27 (0.23 in some runs) and 0.29 line by line; 0.31 and 0.25 table by table;
/// 0.33 and 0.26 eight tables at a time; all lines at the end 0.35 and 0.27. MOVNTI, which leaves
/// nothing to write back and is no plain store, 0.18.
template <class Line>
void fill_and_write_back(std::uint64_t* table, std::uint64_t entry, Line write_back) {
    constexpr std::size_t line = 8;
    if constexpr (floors::has_vectors) {
        floors::fill_table<4 * KiB>(table, entry);
        for (std::size_t i = 0; i < floors::entries_per_table; i += line) {
            write_back(table + i);
        }
    } else {
        for (std::size_t i = 0; i < floors::entries_per_table; i += line) {
#pragma GCC unroll 8
            for (std::size_t k = i; k < i + line; ++k, entry += 4 * KiB) {
                table[k] = entry;
            }
            write_back(table + i);
        }
    }
}

using line_of_entries = const std::uint64_t[8];
struct clwb {
    void operator()(const std::uint64_t* line) const {
        asm volatile("clwb %0" : : "m"(*reinterpret_cast<line_of_entries*>(line)));
    }
};
struct clflushopt {
    void operator()(const std::uint64_t* line) const {
        asm volatile("clflushopt %0" : : "m"(*reinterpret_cast<line_of_entries*>(line)));
    }
};

template <class Line>
class fill_write_back {
public:
    explicit fill_write_back(const region& all) : root_{all.entries} {
        floors::fill_table<0>(root_, 0);
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        constexpr std::uint64_t read_write = 3;
        constexpr std::uint64_t in_root = 4 * GiB / (512 * GiB);
        constexpr std::uint64_t in_upper = 4 * GiB / GiB;
        constexpr Line write_back{};
        std::uint64_t* const upper = root_ + floors::entries_per_table;
        std::uint64_t* const middle = upper + floors::entries_per_table;
        std::uint64_t* const lower = middle + floors::entries_per_table;
        for (std::size_t i = 0; i < floors::entries_per_table; ++i) {
            fill_and_write_back(lower + i * floors::entries_per_table,
                                (4 * GiB + i * 2 * MiB) | read_write, write_back);
        }
        fill_and_write_back(middle, reinterpret_cast<std::uintptr_t>(lower) | read_write,
                            write_back);
        floors::fill_table<0>(upper, 0);
        upper[in_upper] = reinterpret_cast<std::uintptr_t>(middle) | read_write;
        for (std::size_t i = 0; i < floors::entries_per_table; i += 8) {
            write_back(upper + i);
        }
        asm volatile("sfence" : : : "memory");
        root_[in_root] = reinterpret_cast<std::uintptr_t>(upper) | read_write;
        write_back(root_ + in_root);
        asm volatile("sfence" : : : "memory");
        return true;
    }
    bool undo() { return true; }

private:
    std::uint64_t* root_;
};

// ------------------------------------------------------------------------------------------- engine

template <page_size largest, std::uint64_t input, std::uint64_t size>
class ept_map : tree<> {
public:
    explicit ept_map(const region& all) : tree<>{all, ept_format} {}
    using tree<>::ready;
    bool run(unsigned) { return map(input, size, 4 * GiB, pt::ept::ram, largest); }
    bool undo() { return unmap(input, size) && rewind(); }
};

/// `keeper`: each table that is mapped into has one other page, and so is there already.
template <bool keeper>
class ept_map_1g : tree<> {
public:
    explicit ept_map_1g(const region& all) : tree<>{all, ept_format} {
        for (std::size_t i = 0; keeper && i < few_tables; ++i) {
            const std::uint64_t page = i * 512 * GiB + 511 * GiB;
            require(map(page, GiB, page, pt::ept::ram));
        }
        set_mark();
    }
    using tree<>::ready;
    bool run(unsigned) {
        bool good = true;
        for (std::size_t i = 0; i < few_tables; ++i) {
            const std::uint64_t first = few_inputs(i);
            good = map(first, 64 * GiB, first, pt::ept::ram) && good;
        }
        return good;
    }
    bool undo() {
        bool good = true;
        for (std::size_t i = 0; i < few_tables; ++i) {
            good = unmap(few_inputs(i), 64 * GiB) && good;
        }
        return rewind() && good;
    }
};

template <class Publication>
class vtd_map : tree<vtd_table<Publication>> {
    using base = tree<vtd_table<Publication>>;

public:
    explicit vtd_map(const region& all) : base{all, vtd_format} {}
    using base::ready;
    bool run(unsigned) {
        return this->map(4 * GiB, GiB, 4 * GiB, pt::vtd::second_stage::read_write,
                         page_size::size_4k);
    }
    bool undo() { return this->unmap(4 * GiB, GiB) && this->rewind(); }
};

class ept_unmap : tree<> {
public:
    explicit ept_unmap(const region& all) : tree<>{all, ept_format} { require(map_all()); }
    using tree<>::ready;
    bool run(unsigned) { return unmap(4 * GiB, GiB); }
    bool undo() { return rewind() && map_all(); }

private:
    bool map_all() { return map(4 * GiB, GiB, 4 * GiB, pt::ept::ram, page_size::size_4k); }
};

/// CPUID (7,0).EBX bit 24 [sdm].
bool has_clwb() {
    std::uint32_t eax = 7;
    std::uint32_t ebx = 0;
    std::uint32_t ecx = 0;
    std::uint32_t edx = 0;
    asm("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (ebx >> 24 & 1) != 0;
}

} // namespace

void add_fill_rows(add_row add) {
    constexpr std::size_t few = 600;
    constexpr std::size_t many = 64 * 513 + 8;
    constexpr std::uint64_t at = 4 * GiB;

    add(row_of<fill<1, at, GiB>>::make("floor_fill_1GiB", 1, 100, few));
    add(row_of<ept_map<page_size::size_4k, at, GiB>>::make("ept_map_4k_1GiB", 1, 100, few));
    add(row_of<vtd_map<pt::paging::coherent_publication>>::make("vtd_map_4k_1GiB", 1, 100, few));
    add(row_of<ept_unmap>::make("ept_unmap_4k_1GiB", 1, 100, few));

    add(row_of<fill<1, 64 * GiB, 64 * GiB>>::make("floor_fill_64GiB", 1, 3, many));
    add(row_of<ept_map<page_size::size_4k, 64 * GiB, 64 * GiB>>::make("ept_map_4k_64GiB", 1, 3,
                                                                      many));
    add(row_of<fill<2, 64 * GiB, 64 * GiB>>::make("floor_fill_32768", 1, 400, few));
    add(row_of<ept_map<page_size::size_2m, 64 * GiB, 64 * GiB>>::make("ept_map_2m_64GiB", 1, 400,
                                                                      few));
    add(row_of<fill_64>::make("floor_fill_64", few_tables, 100, few));
    add(row_of<ept_map_1g<true>>::make("ept_map_1g_64GiB", few_tables, 100, few));
    add(row_of<ept_map_1g<false>>::make("ept_map_1g_64GiB_new_table", few_tables, 100, few));

    constexpr const char* write_back_floor = "floor_fill_clwb_1GiB";
    constexpr const char* noncoherent = "vtd_map_4k_1GiB_noncoherent";
    if (has_clwb()) {
        using pt::paging::clwb_publication;
        add(row_of<fill_write_back<clwb>>::make(write_back_floor, 1, 100, few));
        add(row_of<vtd_map<clwb_publication>>::make(noncoherent, 1, 100, few));
    } else {
        using pt::paging::clflushopt_publication;
        add(row_of<fill_write_back<clflushopt>>::make(write_back_floor, 1, 100, few));
        add(row_of<vtd_map<clflushopt_publication>>::make(noncoherent, 1, 100, few));
    }
}

} // namespace bench
