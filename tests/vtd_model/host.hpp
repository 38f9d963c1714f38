// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// A machine as remapping units see it. A unit walks what was published, never what was only
/// stored; with a write buffer, only what that let through; and a frame that was given back is no
/// table any more. Nothing here uses pt's VT-d headers.
namespace vtd_model {

/// What software did, in order.
struct event {
    enum class kind : std::uint8_t {
        publish, ///< one entry at `where` became visible
        table,   ///< a whole table did
        write32, ///< a register
        write64,
        release, ///< a frame went back to the allocator
    };
    kind what = kind::publish;
    std::uint64_t where = 0;
    std::uint64_t value = 0;
    unsigned unit = 0; ///< of a register write, where there are several

    friend constexpr bool operator==(const event&, const event&) = default;
};

/// How one request of a device ended.
struct outcome {
    bool reached = false;    ///< it went to memory, at `to`
    bool translated = false; ///< and through the tables
    bool interrupt = false;  ///< it was an interrupt request
    std::uint64_t to = 0;
    unsigned reason = 0;     ///< why it was blocked
    bool aborted = false;    ///< blocked by abort mode, which gives no reason
    bool protection = false; ///< blocked by a protected memory region, which records no fault
};

/// Memory as the units reach it, and the judge over software.
struct memory_bus {
    constexpr memory_bus() = default;
    memory_bus(const memory_bus&) = delete;
    memory_bus& operator=(const memory_bus&) = delete;

    constexpr virtual void blame(const char* what) = 0;
    constexpr virtual void note(event happened) = 0;
    /// Whether a frame of tables lies there, and whether somebody owns it.
    [[nodiscard]] constexpr virtual bool has(std::uint64_t address) const = 0;
    [[nodiscard]] constexpr virtual bool taken(std::uint64_t address) const = 0;
    /// What software stored, what it published, what a write buffer let through.
    [[nodiscard]] constexpr virtual std::uint64_t stored_at(std::uint64_t address) const = 0;
    [[nodiscard]] constexpr virtual std::uint64_t published_at(std::uint64_t address) const = 0;
    [[nodiscard]] constexpr virtual std::uint64_t visible_at(std::uint64_t address) const = 0;
    /// Whether the aligned pair of words there was stored at once.
    [[nodiscard]] constexpr virtual bool at_once(std::uint64_t address) const = 0;
    /// A coherent write by hardware.
    constexpr virtual void write(std::uint64_t address, std::uint64_t word) = 0;
    constexpr virtual void flush_write_buffer() = 0;
    constexpr virtual ~memory_bus() = default;
};

/// What looks on while software changes memory: the units.
struct onlooker {
    constexpr onlooker() = default;
    onlooker(const onlooker&) = delete;
    onlooker& operator=(const onlooker&) = delete;

    /// `words` from `address` are about to be published.
    constexpr virtual void arriving(std::uint64_t address, std::size_t words) = 0;
    /// A step of software is over.
    constexpr virtual void step() = 0;
    /// A frame is given back.
    constexpr virtual void released(std::uint64_t frame) = 0;

protected:
    ~onlooker() = default;
};

template <std::size_t Frames>
struct host : memory_bus {
    static constexpr std::uint64_t base = 0x4000'0000; ///< where the table frames lie
    static constexpr std::uint64_t junk = 0xFFFF'FFFF'FFFF'FFFF;

    std::uint64_t stored[Frames * 512]{};
    std::uint64_t published[Frames * 512]{};
    std::uint64_t visible[Frames * 512]{}; ///< behind the write buffer, where there is one
    bool used[Frames]{};
    std::size_t in_use = 0;
    std::size_t limit = Frames; ///< allocation fails beyond

    /// Entries that were published, and that arrive when the publication is complete.
    struct run {
        std::size_t first;
        std::size_t count;
    };
    run under_way[8]{};
    std::size_t runs_under_way = 0;

    /// Pairs of words that a wide store wrote, until they were published.
    std::size_t pairs[8]{};
    std::size_t pair_count = 0;
    /// Two words that are published together were stored at once, by a store that this host does
    /// not see.
    bool trust_pairs = false;

    onlooker* units[4]{};
    std::size_t unit_count = 0;

    event journal[1024]{};
    std::size_t events = 0;

    const char* violation = nullptr; ///< the first thing that software did wrong
    std::size_t violations = 0;

    constexpr host() {
        for (std::size_t f = 0; f < Frames; ++f) {
            spoil(f);
        }
    }

    constexpr void blame(const char* what) final {
        if (violation == nullptr) {
            violation = what;
        }
        ++violations;
    }
    constexpr void note(event happened) final {
        if (events < 1024) {
            journal[events++] = happened;
        }
    }
    constexpr void forget_journal() { events = 0; }
    constexpr void forgive() {
        violation = nullptr;
        violations = 0;
    }

    [[nodiscard]] static constexpr bool is_frame(std::uint64_t address) {
        return address >= base && address < base + Frames * 4096;
    }
    [[nodiscard]] static constexpr std::size_t frame_of(std::uint64_t address) {
        return static_cast<std::size_t>((address - base) / 4096);
    }
    [[nodiscard]] static constexpr std::size_t word_of(std::uint64_t address) {
        return static_cast<std::size_t>((address - base) / 8);
    }

    [[nodiscard]] constexpr bool has(std::uint64_t address) const final {
        return is_frame(address);
    }
    [[nodiscard]] constexpr bool taken(std::uint64_t address) const final {
        return is_frame(address) && used[frame_of(address)];
    }
    [[nodiscard]] constexpr std::uint64_t stored_at(std::uint64_t address) const final {
        return stored[word_of(address)];
    }
    [[nodiscard]] constexpr std::uint64_t published_at(std::uint64_t address) const final {
        return published[word_of(address)];
    }
    [[nodiscard]] constexpr std::uint64_t visible_at(std::uint64_t address) const final {
        return visible[word_of(address)];
    }
    [[nodiscard]] constexpr bool at_once(std::uint64_t address) const final {
        if (trust_pairs) {
            return true;
        }
        for (std::size_t i = 0; i < pair_count; ++i) {
            if (pairs[i] == word_of(address) / 2) {
                return true;
            }
        }
        return false;
    }
    constexpr void write(std::uint64_t address, std::uint64_t word) final {
        const std::size_t i = word_of(address);
        stored[i] = published[i] = visible[i] = word;
    }
    constexpr void flush_write_buffer() final { let_through(); }

    constexpr void attach(onlooker& unit) { units[unit_count++] = &unit; }
    /// Whatever happens between two steps of the software.
    constexpr void between() {
        for (std::size_t i = 0; i < unit_count; ++i) {
            units[i]->step();
        }
    }

    /// A frame that nobody owns holds anything. (Constant evaluation saves the work.)
    constexpr void spoil(std::size_t f) {
        if (!std::is_constant_evaluated()) {
            for (std::size_t i = f * 512; i < (f + 1) * 512; ++i) {
                stored[i] = published[i] = visible[i] = junk;
            }
        }
    }
    constexpr void let_through() {
        for (std::size_t i = 0; i < Frames * 512; ++i) {
            if (visible[i] != published[i]) {
                visible[i] = published[i];
            }
        }
    }
};

/// The table_memory over the host's frames.
template <class Host>
struct frames {
    Host* machine;

    constexpr pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        if (machine->in_use >= machine->limit) {
            return pt::error{pt::errc::out_of_frames, 0};
        }
        std::size_t f = 0;
        while (machine->used[f]) {
            ++f;
        }
        machine->used[f] = true;
        ++machine->in_use;
        if (contents == pt::frame_contents::zeroed) {
            for (std::size_t i = f * 512; i < (f + 1) * 512; ++i) {
                machine->stored[i] = 0;
            }
        }
        return pt::hpa{Host::base + f * 4096};
    }
    constexpr void release(pt::hpa frame) {
        if (!Host::is_frame(frame.raw) || !machine->used[Host::frame_of(frame.raw)]) {
            machine->blame("a frame was given back that was not taken");
            return;
        }
        machine->note({event::kind::release, frame.raw, 0});
        for (std::size_t i = 0; i < machine->unit_count; ++i) {
            machine->units[i]->released(frame.raw);
        }
        machine->used[Host::frame_of(frame.raw)] = false;
        --machine->in_use;
        machine->spoil(Host::frame_of(frame.raw));
    }
    constexpr std::uint64_t* entries(pt::hpa frame) {
        return machine->stored + Host::frame_of(frame.raw) * 512;
    }
};

/// The publication to the host's walkers: what is published arrives when it has to, and not before.
/// After each run that arrives the machine may do something.
template <class Host>
struct publisher {
    Host* machine;

    constexpr void publish(const std::uint64_t* first, std::size_t count) {
        const std::ptrdiff_t distance =
            first - machine->stored; // elsewhere: no constant expression
        const auto i = static_cast<std::size_t>(distance);
        if (i / 512 >= sizeof(machine->used) || !machine->used[i / 512] || count > 512) {
            machine->blame("something was published that is no table");
            return;
        }
        if (machine->runs_under_way == 8) {
            arrive(0); // nothing is promised for so long
        }
        machine->under_way[machine->runs_under_way++] = {i, count};
    }
    constexpr void complete() {
        while (machine->runs_under_way != 0) {
            arrive(0);
        }
    }

private:
    constexpr void arrive(std::size_t n) {
        const auto [i, count] = machine->under_way[n];
        --machine->runs_under_way;
        for (std::size_t k = n; k < machine->runs_under_way; ++k) {
            machine->under_way[k] = machine->under_way[k + 1];
        }
        for (std::size_t unit = 0; unit < machine->unit_count; ++unit) {
            machine->units[unit]->arriving(Host::base + i * 8, count);
        }
        for (std::size_t k = i; k < i + count; ++k) {
            machine->published[k] = machine->stored[k];
        }
        forget_pairs(i, count);
        machine->note({count == 512 ? event::kind::table : event::kind::publish, Host::base + i * 8,
                       machine->stored[i]});
        machine->between();
    }
    constexpr void forget_pairs(std::size_t first, std::size_t count) {
        std::size_t kept = 0;
        for (std::size_t p = 0; p < machine->pair_count; ++p) {
            const std::size_t word = machine->pairs[p] * 2;
            if (word < first || word >= first + count) {
                machine->pairs[kept++] = machine->pairs[p];
            }
        }
        machine->pair_count = kept;
    }
};

/// The wide store into the host's frames: both words arrive together.
template <class Host>
struct wide_store {
    static constexpr bool atomic = true;

    Host* machine;

    constexpr void store(std::uint64_t* slot, std::uint64_t low, std::uint64_t high) {
        const auto i = static_cast<std::size_t>(slot - machine->stored);
        if (i % 2 != 0) {
            machine->blame("a wide store that is not aligned");
            return;
        }
        slot[0] = low;
        slot[1] = high;
        if (machine->pair_count == 8) {
            machine->blame("wide stores that were never published");
            machine->pair_count = 0;
        }
        machine->pairs[machine->pair_count++] = i / 2;
    }
};

} // namespace vtd_model
