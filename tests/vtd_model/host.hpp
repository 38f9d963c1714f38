// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

/// A machine as a remapping unit sees it. The unit walks what was published, never what was only
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

    friend constexpr bool operator==(const event&, const event&) = default;
};

/// One translated or blocked request of the device that never stops.
struct outcome {
    bool reached = false;    ///< it went to memory, at `to`
    bool translated = false; ///< and through the tables
    bool interrupt = false;  ///< it was an interrupt request
    std::uint64_t to = 0;
    unsigned reason = 0; ///< why it was blocked
};

template <std::size_t Frames>
struct host {
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

    event journal[1024]{};
    std::size_t events = 0;

    const char* violation = nullptr; ///< the first thing that software did wrong
    std::size_t violations = 0;

    constexpr host() {
        for (std::size_t f = 0; f < Frames; ++f) {
            spoil(f);
        }
    }

    constexpr void blame(const char* what) {
        if (violation == nullptr) {
            violation = what;
        }
        ++violations;
    }
    constexpr void note(event::kind what, std::uint64_t where, std::uint64_t value) {
        if (events < 1024) {
            journal[events++] = {what, where, value};
        }
    }
    constexpr void forget_journal() { events = 0; }

    [[nodiscard]] static constexpr bool is_frame(std::uint64_t address) {
        return address >= base && address < base + Frames * 4096;
    }
    [[nodiscard]] static constexpr std::size_t frame_of(std::uint64_t address) {
        return static_cast<std::size_t>((address - base) / 4096);
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
        machine->note(event::kind::release, frame.raw, 0);
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
        for (std::size_t k = i; k < i + count; ++k) {
            machine->published[k] = machine->stored[k];
        }
        machine->note(count == 512 ? event::kind::table : event::kind::publish, Host::base + i * 8,
                      machine->stored[i]);
        machine->between();
    }
};

} // namespace vtd_model
