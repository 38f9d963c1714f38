// SPDX-License-Identifier: BSL-1.0
// One page a call: in order, which builds and takes down tables on the way, and at random in a guest
// of 64 GiB, whose tables are there.
#include "../flavours/row.hpp"
#include "floors.hpp"
#include "tables.hpp"

#include <cstdint>

namespace bench {
namespace {

constexpr std::uint64_t pages = 262'144;
constexpr std::uint64_t first = 4 * GiB; ///< in order: 1 GiB from here on

// ------------------------------------------------------------------------------------ random order

constexpr std::uint64_t guest = 64 * GiB;
constexpr std::uint64_t guest_pages = guest / (4 * KiB);

std::uint32_t order[pages];

/// A permutation of the guest's pages: multiplications by odd numbers, and shifts that can be undone.
constexpr std::uint64_t shuffled(std::uint64_t page) {
    constexpr std::uint64_t mask = guest_pages - 1;
    page = page * 0x5DEE'CE66'D & mask;
    page ^= page >> 13;
    page = page * 0x9E37'79B9 & mask;
    page ^= page >> 11;
    return page * 0x85EB'CA6B & mask;
}

/// The last page of each table is mapped beforehand and keeps the table; it is not in the order.
constexpr bool is_keeper(std::uint64_t page) { return page % 512 == 511; }

void make_order() {
    std::uint64_t next = 0;
    for (std::uint32_t& page : order) {
        std::uint64_t chosen = 511;
        while (is_keeper(chosen)) {
            chosen = shuffled(next++);
        }
        page = static_cast<std::uint32_t>(chosen);
    }
}

template <class F>
bool for_each_keeper(F f) {
    bool good = true;
    for (std::uint64_t page = 511; page < guest_pages; page += 512) {
        good = f(page * (4 * KiB)) && good;
    }
    return good;
}
template <class F>
bool for_each_at_random(F f) {
    bool good = true;
    for (const std::uint32_t page : order) {
        good = f(page * (4 * KiB)) && good;
    }
    return good;
}
template <class F>
bool for_each_in_order(F f) {
    bool good = true;
    const std::uint64_t begin = unknown(first);
    for (std::uint64_t i = 0; i < pages; ++i) {
        good = f(begin + i * 4 * KiB) && good;
    }
    return good;
}

// ------------------------------------------------------------------------------------------- floors

class walk_store {
public:
    explicit walk_store(const region& all) : frames_{all} {
        if (const pt::result<hpa> frame = frames_.allocate(); frame) {
            root_ = entries_of(frame->raw);
            floors::fill_table<0>(root_, floors::empty);
        }
        mark_ = frames_.mark();
    }

protected:
    bool store(std::uint64_t page) {
        return floors::walk_and_store(frames_, root_, page, page | floors::ram);
    }
    /// As if all tables but the root had come back.
    bool forget() {
        for (std::uint64_t frame = mark_; frame != frames_.mark(); frame += 4 * KiB) {
            frames_.release(hpa{frame});
        }
        floors::fill_table<0>(root_, floors::empty);
        return frames_.rewind(mark_);
    }

    pool frames_;
    std::uint64_t* root_ = nullptr;
    std::uint64_t mark_;
};

class walk_store_inorder : walk_store {
public:
    using walk_store::walk_store;
    [[nodiscard]] bool ready() const { return root_ != nullptr; }
    bool run(unsigned) {
        return for_each_in_order([this](std::uint64_t page)
                                     __attribute__((always_inline)) { return store(page); });
    }
    bool undo() { return forget(); }
};

class walk_store_random : walk_store {
public:
    explicit walk_store_random(const region& all) : walk_store{all} {
        make_order();
        good_ = root_ != nullptr &&
                for_each_keeper([this](std::uint64_t page)
                                    __attribute__((always_inline)) { return store(page); });
    }
    [[nodiscard]] bool ready() const { return good_; }
    bool run(unsigned) {
        return for_each_at_random([this](std::uint64_t page)
                                      __attribute__((always_inline)) { return store(page); });
    }
    bool undo() {
        return for_each_at_random([this](std::uint64_t page) __attribute__((always_inline)) {
            std::uint64_t* table = root_;
            for (unsigned level = 4; level > 1; --level) {
                table = floors::table_of(table[page >> floors::shift_of(level) & 511]);
            }
            table[page >> 12 & 511] = floors::empty;
            return true;
        });
    }

private:
    bool good_ = false;
};

/// As it is often written: each page is a walk from the root by a loop over the levels, and a table
/// is zeroed before it is filled.
class naive : walk_store {
public:
    using walk_store::walk_store;
    [[nodiscard]] bool ready() const { return root_ != nullptr; }
    bool run(unsigned) {
        return for_each_in_order([this](std::uint64_t page)
                                     __attribute__((always_inline)) { return map(page, 4); });
    }
    bool undo() { return forget(); }

private:
    [[gnu::noinline]] bool map(std::uint64_t page, unsigned levels) {
        pool_memory memory{&frames_};
        std::uint64_t* table = root_;
        for (unsigned level = levels; level > 1; --level) {
            std::uint64_t& slot = table[page >> floors::shift_of(level) & 511];
            if ((slot & floors::rights) == 0) {
                const pt::result<hpa> frame = memory.allocate(pt::frame_contents::zeroed);
                if (!frame) {
                    return false;
                }
                slot = frame->raw | floors::rights;
            } else if ((slot & floors::page_bit) != 0) {
                return false;
            }
            table = floors::table_of(slot);
        }
        std::uint64_t& slot = table[page >> 12 & 511];
        if ((slot & floors::rights) != 0) {
            return false;
        }
        slot = page | floors::ram;
        return true;
    }
};

// ------------------------------------------------------------------------------------------- engine

class ept_single : protected tree<> {
public:
    explicit ept_single(const region& all) : tree<>{all, ept_format} {}
    using tree<>::ready;

protected:
    [[gnu::always_inline]] bool map_one(std::uint64_t page) {
        return redeemed(tables.map({gpa{page}, 4 * KiB}, hpa{page}, pt::ept::ram));
    }
    [[gnu::always_inline]] bool unmap_one(std::uint64_t page) {
        return redeemed(tables.unmap({gpa{page}, 4 * KiB}));
    }

    bool map_all() { return map(first, pages * 4 * KiB, first, pt::ept::ram, page_size::size_4k); }
    bool unmap_all() { return unmap(first, pages * 4 * KiB); }

    bool map_keepers() {
        make_order();
        return for_each_keeper([this](std::uint64_t page)
                                   __attribute__((always_inline)) { return map_one(page); });
    }
    bool map_at_random() {
        return for_each_at_random([this](std::uint64_t page)
                                      __attribute__((always_inline)) { return map_one(page); });
    }
    bool unmap_at_random() {
        return for_each_at_random([this](std::uint64_t page)
                                      __attribute__((always_inline)) { return unmap_one(page); });
    }
};

class map_inorder : public ept_single {
public:
    using ept_single::ept_single;
    bool run(unsigned) {
        return for_each_in_order([this](std::uint64_t page)
                                     __attribute__((always_inline)) { return map_one(page); });
    }
    bool undo() { return unmap_all() && rewind(); }
};

class map_cursor : public ept_single {
public:
    using ept_single::ept_single;
    bool run(unsigned) {
        auto at = tables.cursor();
        return for_each_in_order([&at](std::uint64_t page) __attribute__((always_inline)) {
            return redeemed(at.map(gpa{page}, hpa{page}, pt::ept::ram));
        });
    }
    bool undo() { return unmap_all() && rewind(); }
};

class unmap_inorder : public ept_single {
public:
    explicit unmap_inorder(const region& all) : ept_single{all} { require(map_all()); }
    bool run(unsigned) {
        return for_each_in_order([this](std::uint64_t page)
                                     __attribute__((always_inline)) { return unmap_one(page); });
    }
    bool undo() { return rewind() && map_all(); }
};

class map_random : public ept_single {
public:
    explicit map_random(const region& all) : ept_single{all} { require(map_keepers()); }
    bool run(unsigned) { return map_at_random(); }
    bool undo() { return unmap_at_random(); }
};

class unmap_random : public ept_single {
public:
    explicit unmap_random(const region& all) : ept_single{all} {
        require(map_keepers() && map_at_random());
    }
    bool run(unsigned) { return unmap_at_random(); }
    bool undo() { return map_at_random(); }
};

} // namespace

void add_single_rows(add_row add) {
    constexpr std::size_t few = 600;
    constexpr std::size_t many = 64 * 513 + 8;

    add(row_of<walk_store_inorder>::make("floor_walk_store_inorder", pages, 4, few));
    add(row_of<map_inorder>::make("ept_map_4k_single_inorder", pages, 4, few));
    add(row_of<map_cursor>::make("ept_map_4k_cursor_inorder", pages, 4, few));
    add(row_of<unmap_inorder>::make("ept_unmap_4k_single_inorder", pages, 4, few));
    add(row_of<naive>::make("naive_map_4k_1GiB", 1, 4, few));

    add(row_of<walk_store_random>::make("floor_walk_store_random", pages, 2, many));
    add(row_of<map_random>::make("ept_map_4k_single_random", pages, 2, many));
    add(row_of<unmap_random>::make("ept_unmap_4k_single_random", pages, 2, many));
}

} // namespace bench
