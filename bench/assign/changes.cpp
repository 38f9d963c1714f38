// SPDX-License-Identifier: BSL-1.0
// What changes for a guest as a whole: a function comes and goes, and a BAR moves, from the guest's first
// OUT to the entry after its last one. The floor of the former touches the same registers of the same
// hardware in the same order and stores the same words into the remapping unit's tables; that of
// the latter stores the entries.
#include "../flavours/row.hpp"
#include "machine.hpp"

#include "pt/core/atomic.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

namespace bench {
namespace {

constexpr std::size_t frames = 1024;

// --------------------------------------------------------------------------- assign and remove

/// A function that nobody has is assigned.
class assign_function {
public:
    explicit assign_function(const region& all) : m{all} {}
    [[nodiscard]] bool ready() const { return m.ready(); }
    bool run(unsigned) { return m.assign(); }
    bool undo() { return m.remove(); }

    machine m;
};

/// A function that its guest uses, with all BARs somewhere and MSI-X on, is removed.
class remove_function {
public:
    explicit remove_function(const region& all) : m{all} { good_ = m.ready() && undo(); }
    [[nodiscard]] bool ready() const { return good_; }
    bool run(unsigned) { return m.remove(); }
    bool undo() { return m.assign() && m.drive(); }

    machine m;

private:
    bool good_ = false;
};

/// Does again what a row did to the hardware, and nothing else.
template <class Row>
class replayed {
public:
    explicit replayed(const region& all) : row_{all} {
        if (!row_.ready() || !row_.run(0) || !row_.undo()) { // from now on all tables are there
            return;
        }
        hardware& host = row_.m.host;
        std::memcpy(before_, all.entries, sizeof before_);
        tail_ = host.queue_tail();
        host.log.is_kept = true;
        good_ = row_.run(0);
        host.log.is_kept = false;
        for (std::size_t i = 0; i != words; ++i) {
            if (all.entries[i] != before_[i] && store_count_ != words) {
                stores_[store_count_++] = {&all.entries[i], all.entries[i]};
            }
        }
        end_ = host.queue_tail();
        host.queue_tail() = tail_;
    }
    replayed(const replayed&) = delete;
    replayed& operator=(const replayed&) = delete;
    ~replayed() { row_.m.host.queue_tail() = end_; }

    [[nodiscard]] bool ready() const {
        return good_ && row_.m.host.log.count != journal::capacity && store_count_ != 0;
    }
    bool run(unsigned) {
        hardware& host = row_.m.host;
        for (std::size_t i = 0; i != host.log.count; ++i) {
            const touch& each = host.log.touches[i];
            const auto offset = static_cast<std::uint16_t>(each.at);
            const auto size = static_cast<width>(each.size);
            const auto value = static_cast<std::uint32_t>(each.value);
            switch (each.what) {
            case touched::config_read: keep(host.read_config(offset, size)); break;
            case touched::config_write: host.write_config(offset, size, value); break;
            case touched::bar_read: keep(host.read_bar(each.at)); break;
            case touched::bar_write: host.write_bar(each.at, each.value); break;
            case touched::unit_read32: keep(host.read_unit32(each.at)); break;
            case touched::unit_read64: keep(host.read_unit64(each.at)); break;
            case touched::unit_write32: host.write_unit32(each.at, value); break;
            case touched::unit_write64: host.write_unit64(each.at, each.value); break;
            }
        }
        for (std::size_t i = 0; i != store_count_; ++i) {
            *stores_[i].to = stores_[i].value;
        }
        keep(this);
        return true;
    }
    bool undo() {
        row_.m.host.queue_tail() = tail_;
        return true;
    }

private:
    struct store {
        std::uint64_t* to;
        std::uint64_t value;
    };
    static constexpr std::size_t words = std::size_t{32} * 512; ///< the unit's frames

    Row row_;
    std::uint64_t before_[words]{};
    store stores_[words]{};
    std::size_t store_count_ = 0;
    std::uint64_t tail_ = 0;
    std::uint64_t end_ = 0;
    bool good_ = false;
};

// ------------------------------------------------------------------------------------ a BAR moves

constexpr std::uint64_t moves = 64;
constexpr std::uint64_t register_pages = 32; ///< of BAR 0
constexpr std::uint64_t msi_x_pages = 2;     ///< that are mapped of BAR 3: the second and the last

/// The guest writes a register of configuration space by two instructions, each of which exits.
class bar_moves {
public:
    explicit bar_moves(const region& all) : m_{all} {
        good_ = m_.ready() && m_.assign() && m_.drive();
        seen_ = m_.invalidations;
    }
    [[nodiscard]] bool ready() const { return good_; }
    bool undo() { return true; }

protected:
    bool place(std::uint64_t at) {
        return m_.write_config(0x10, width::dword, static_cast<std::uint32_t>(unknown(at)));
    }
    /// Whether the processors were told to forget, since the last time, once for each move at least.
    bool was_flushed() {
        return m_.invalidations - std::exchange(seen_, m_.invalidations) >= moves;
    }

    machine m_;

private:
    std::uint64_t seen_ = 0;
    bool good_ = false;
};

/// With decoding on: 2 exits.
class move_on_the_fly : public bar_moves {
public:
    using bar_moves::bar_moves;
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i != moves; ++i) {
            good = place(i % 2 == 0 ? registers_there : registers_here) && good;
        }
        return was_flushed() && good;
    }
};

/// As drivers do it: decoding off, the address, decoding on: 6 exits, and the other BAR for memory goes
/// and comes as well.
class move_with_decoding_off : public bar_moves {
public:
    using bar_moves::bar_moves;
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i != moves; ++i) {
            good = m_.write_config(0x04, width::word, 5) && good;
            good = place(i % 2 == 0 ? registers_there : registers_here) && good;
            good = m_.write_config(0x04, width::word, 7) && good;
        }
        return was_flushed() && good;
    }
};

/// What any VMM has to store: the new leaves, the old ones, and what the guest wrote.
class leaf_stores {
public:
    explicit leaf_stores(const region& all) : leaves_{all.entries} {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    static constexpr std::uint64_t device_leaf = 3; ///< EPT: read, write; memory type 0

    void out(std::uint32_t value) {
        latch_ = value;
        keep(this);
    }
    void map(std::uint64_t at, std::uint64_t pages, std::uint64_t host) {
        std::uint64_t* const first = leaves_ + (unknown(at) >> 12) % 512;
        for (std::uint64_t i = 0; i != pages; ++i) {
            store(first[i], (host + i * 4 * KiB) | device_leaf);
        }
        keep(this);
    }
    void unmap(std::uint64_t at, std::uint64_t pages) {
        std::uint64_t* const first = leaves_ + (unknown(at) >> 12) % 512;
        for (std::uint64_t i = 0; i != pages; ++i) {
            store(first[i], 0);
        }
        keep(this);
    }

private:
    /// Hardware walks the table: an entry is one store, in `native` too.
    static void store(std::uint64_t& entry, std::uint64_t value) {
        pt::atomic::store_relaxed(&entry, value);
    }

    std::uint64_t* leaves_;
    std::uint32_t latch_ = 0;
};

class move_leaves : public leaf_stores {
public:
    using leaf_stores::leaf_stores;
    bool run(unsigned) {
        for (std::uint64_t i = 0; i != moves; ++i) {
            const std::uint64_t to = i % 2 == 0 ? registers_there : registers_here;
            const std::uint64_t from = i % 2 == 0 ? registers_here : registers_there;
            out(0x8000'1810);
            out(static_cast<std::uint32_t>(to));
            map(to, register_pages, nic_registers);
            unmap(from, register_pages);
        }
        return true;
    }
};

class move_leaves_twice : public leaf_stores {
public:
    using leaf_stores::leaf_stores;
    bool run(unsigned) {
        for (std::uint64_t i = 0; i != moves; ++i) {
            const std::uint64_t to = i % 2 == 0 ? registers_there : registers_here;
            const std::uint64_t from = i % 2 == 0 ? registers_here : registers_there;
            out(0x8000'1804);
            out(5);
            unmap(from, register_pages);
            unmap(msi_x_here + 0x1000, msi_x_pages / 2);
            unmap(msi_x_here + 0x3000, msi_x_pages / 2);
            out(0x8000'1810);
            out(static_cast<std::uint32_t>(to));
            out(0x8000'1804);
            out(7);
            map(to, register_pages, nic_registers);
            map(msi_x_here + 0x1000, msi_x_pages / 2, nic_msi_x + 0x1000);
            map(msi_x_here + 0x3000, msi_x_pages / 2, nic_msi_x + 0x3000);
        }
        return true;
    }
};

} // namespace

void add_assign_change_rows(add_row add) {
    add(row_of<replayed<assign_function>>::make("floor_assign", 1, 256, frames));
    add(row_of<assign_function>::make("assign", 1, 256, frames));
    add(row_of<replayed<remove_function>>::make("floor_remove", 1, 256, frames));
    add(row_of<remove_function>::make("remove", 1, 256, frames));
    add(row_of<move_leaves>::make("floor_bar_move", moves, 64, frames));
    add(row_of<move_on_the_fly>::make("bar_move", moves, 64, frames));
    add(row_of<move_leaves_twice>::make("floor_bar_move_decoding_off", moves, 64, frames));
    add(row_of<move_with_decoding_off>::make("bar_move_decoding_off", moves, 64, frames));
}

} // namespace bench
