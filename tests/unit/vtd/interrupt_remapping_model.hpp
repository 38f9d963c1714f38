// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/invalidation.hpp"

#include <cstddef>
#include <cstdint>

/// Interrupt remapping a second time, from the manual's text [vt-d, "Interrupt Remapping"], in plain
/// numbers: what becomes of a write to the interrupt range, and a unit that caches all it may.
namespace interrupt_model {

struct outcome {
    enum class kind { memory, unremapped, delivered, posted, blocked };
    kind what = kind::memory;
    unsigned reason = 0;   ///< of what was blocked
    bool recorded = false; ///< and whether that leaves a record
    unsigned vector = 0;
    std::uint64_t destination = 0; ///< or the address of the descriptor
    unsigned mode = 0;             ///< DLM, TM, RH, DM as they stand in bits 7:2; or URG

    friend constexpr bool operator==(const outcome&, const outcome&) = default;
};

/// How the unit is set up.
struct setting {
    std::uint32_t entries = 256;
    bool extended = false;      ///< IRTA.EIME
    bool compatibility = false; ///< GCMD.CFI
    bool posting = true;        ///< CAP.PI
};

constexpr bool any(std::uint64_t word, unsigned high, unsigned low) {
    return (word << (63 - high) >> (63 - high + low)) != 0;
}

/// A request that has found its entry.
constexpr outcome through(std::uint64_t low, std::uint64_t high, std::uint16_t source,
                          const setting& unit) {
    const bool recorded = (low >> 1 & 1) == 0;
    const auto blocked = [&](unsigned reason) {
        return outcome{.what = outcome::kind::blocked, .reason = reason, .recorded = recorded};
    };
    if ((low & 1) == 0) {
        return blocked(0x22);
    }
    const bool posted = (low >> 15 & 1) != 0;
    if (posted && unit.posting) {
        if (any(low, 7, 2) || any(low, 13, 12) || any(low, 37, 24) || any(high, 31, 20)) {
            return blocked(0x24);
        }
    } else {
        const unsigned delivery = low >> 5 & 7;
        if (any(low, 15, 12) || any(low, 31, 24) || any(high, 63, 20) || delivery == 3 ||
            delivery == 6 || (!unit.extended && (any(low, 39, 32) || any(low, 63, 48)))) {
            return blocked(0x24);
        }
    }
    const auto sid = static_cast<std::uint16_t>(high);
    const unsigned bus = source >> 8;
    bool verified = false;
    switch (high >> 18 & 3) {
    case 0: verified = true; break;
    case 1:
        switch (high >> 16 & 3) {
        case 0: verified = sid == source; break;
        case 1: verified = (sid & 0xFFFB) == (source & 0xFFFB); break;
        case 2: verified = (sid & 0xFFF9) == (source & 0xFFF9); break;
        case 3: verified = (sid & 0xFFF8) == (source & 0xFFF8); break;
        }
        break;
    // QEMU 7.2 has the first and the last bus the other way round; the manual wins.
    case 2: verified = bus >= (sid >> 8) && bus <= (sid & 0xFFU); break;
    }
    if (!verified) {
        return blocked(0x26);
    }
    outcome done{.vector = static_cast<unsigned>(low >> 16 & 0xFF)};
    if (posted) {
        done.what = outcome::kind::posted;
        done.destination = (high >> 32 << 32) | (low >> 38 << 6);
        done.mode = low >> 14 & 1;
    } else {
        done.what = outcome::kind::delivered;
        done.destination = unit.extended ? low >> 32 : low >> 40 & 0xFF;
        done.mode = low >> 2 & 0x3F;
    }
    return done;
}

/// A device's write. `entry_of(index)` reaches a pair of qwords.
template <class Entries>
constexpr outcome remap(std::uint64_t address, std::uint32_t data, std::uint16_t source,
                        const setting& unit, Entries entry_of) {
    const auto unqualified = [](unsigned reason) {
        return outcome{.what = outcome::kind::blocked, .reason = reason, .recorded = true};
    };
    if (address < 0xFEE0'0000 || address > 0xFEEF'FFFF) {
        return {};
    }
    if ((address >> 4 & 1) == 0) {
        return unit.extended || !unit.compatibility ? unqualified(0x25)
                                                    : outcome{.what = outcome::kind::unremapped};
    }
    auto index = static_cast<std::uint32_t>((address >> 5 & 0x7FFF) | (address >> 2 & 1) << 15);
    if ((address >> 3 & 1) != 0) {
        if (data > 0xFFFF) {
            return unqualified(0x20);
        }
        index += data;
    }
    if (index >= unit.entries) {
        return unqualified(0x21);
    }
    const std::uint64_t* const entry = entry_of(index);
    return through(entry[0], entry[1], source, unit);
}

/// A unit with a table of `Entries` entries. It reads what was published, and what it has read once it
/// knows until it is told to forget. A device sends requests whenever something happened.
template <std::uint32_t Entries>
struct machine {
    static constexpr std::uint64_t base = 0x12'3456'7000;

    std::uint64_t cap = std::uint64_t{1} << 59; ///< PI
    std::uint64_t ecap = 0xF0'0018;             ///< MHMV 15, EIM, IR
    setting unit{.entries = Entries};
    bool caching_mode = false;
    bool backwards = false; ///< runs of words become visible with the last one first

    alignas(16) std::uint64_t stored[2 * Entries]{};
    std::uint64_t visible[2 * Entries]{};
    std::uint64_t cached[2 * Entries]{};
    bool is_cached[Entries]{};

    // The queue
    std::uint64_t asked[8]{}; ///< first words of what was submitted and is not complete
    unsigned asked_count = 0;
    unsigned requests = 0;     ///< submitted so far
    std::uint64_t last = 0;    ///< the last of them
    unsigned port_calls = 0;   ///< so far
    unsigned fail_at = 0;      ///< the call, counted from 1, that fails
    bool fails_always = false; ///< and all later ones
    const char* violation = nullptr;

    /// The device that never stops, and what became of its requests.
    struct {
        bool runs = false;
        std::uint16_t source = 0;
        std::uint64_t address = 0;
        std::uint32_t data = 0;
        outcome seen[128]{};
        std::size_t count = 0;
    } device;

    constexpr void blame(const char* what) { violation = violation == nullptr ? what : violation; }

    constexpr outcome request(std::uint64_t address, std::uint32_t data, std::uint16_t source) {
        return remap(address, data, source, unit, [&](std::uint32_t index) {
            if (!is_cached[index]) {
                cached[2 * index] = visible[2 * index];
                cached[2 * index + 1] = visible[2 * index + 1];
                // Without caching mode, hardware keeps nothing of what is not present.
                is_cached[index] = caching_mode || (cached[2 * index] & 1) != 0;
            }
            return &cached[2 * index];
        });
    }
    /// The device sends a request, and one more as if nothing were cached: caches are small.
    constexpr void between() {
        if (device.runs && device.count + 2 <= 128) {
            device.seen[device.count++] = request(device.address, device.data, device.source);
            device.seen[device.count++] =
                remap(device.address, device.data, device.source, unit,
                      [&](std::uint32_t index) { return &visible[2 * index]; });
        }
    }
    constexpr bool saw(const outcome& what) const {
        for (std::size_t i = 0; i < device.count; ++i) {
            if (device.seen[i] == what) {
                return true;
            }
        }
        return false;
    }

    constexpr void make_visible(std::size_t word) {
        visible[word] = stored[word];
        between();
    }
    constexpr void forget(std::uint64_t descriptor) {
        // [vt-d, "Interrupt Entry Cache Invalidate Descriptor"]
        if ((descriptor & 0xF) != 4) {
            blame("this is no invalidation of interrupt entries");
            return;
        }
        if ((descriptor >> 4 & 1) == 0) {
            for (bool& known : is_cached) {
                known = false;
            }
            return;
        }
        const std::uint64_t mask = descriptor >> 27 & 31;
        const std::uint64_t first = descriptor >> 32 & 0xFFFF;
        if (mask > (ecap >> 20 & 15) || (first & ((std::uint64_t{1} << mask) - 1)) != 0) {
            blame("a mask that the unit does not have, or an index that is not aligned to it");
        }
        for (std::uint64_t i = first; i < first + (std::uint64_t{1} << mask) && i < Entries; ++i) {
            is_cached[i] = false;
        }
    }
    constexpr bool fails() {
        ++port_calls;
        return fail_at != 0 && (port_calls == fail_at || (fails_always && port_calls > fail_at));
    }
};

/// The invalidation_port of a machine.
template <class Machine>
struct queue {
    Machine* on;

    constexpr pt::result<void> submit(const pt::vtd::invalidation_descriptor& request) {
        on->between();
        if (on->fails() || on->asked_count == 8) {
            return pt::error{pt::errc::time_out, 1};
        }
        if (request.word[1] != 0 || request.word[2] != 0 || request.word[3] != 0) {
            on->blame("reserved words of a descriptor are set");
        }
        on->asked[on->asked_count++] = on->last = request.word[0];
        ++on->requests;
        return {};
    }
    constexpr pt::result<void> complete() {
        on->between();
        if (on->fails()) {
            on->asked_count = 0;
            return pt::error{pt::errc::time_out, 2};
        }
        for (unsigned i = 0; i < on->asked_count; ++i) {
            on->forget(on->asked[i]);
        }
        on->asked_count = 0;
        on->between();
        return {};
    }
    constexpr pt::vtd::capability capabilities() { return pt::vtd::capability{on->cap}; }
    constexpr pt::vtd::extended_capability extended_capabilities() {
        return pt::vtd::extended_capability{on->ecap};
    }
};

/// Its publication: each word by itself, in either order, with requests in between.
template <class Machine>
struct publisher {
    Machine* on;

    constexpr void publish(const std::uint64_t* first, std::size_t count) {
        const auto begin = static_cast<std::size_t>(first - on->stored);
        for (std::size_t i = 0; i < count; ++i) {
            on->make_visible(begin + (on->backwards ? count - 1 - i : i));
        }
    }
    constexpr void complete() {}
};

/// Its atomic wide store: both halves become visible at once.
template <class Machine>
struct whole_store {
    static constexpr bool atomic = true;
    Machine* on;

    constexpr void store(const std::uint64_t* slot, std::uint64_t low, std::uint64_t high) {
        const auto word = static_cast<std::size_t>(slot - on->stored);
        on->stored[word] = on->visible[word] = low;
        on->stored[word + 1] = on->visible[word + 1] = high;
        on->between();
    }
};

} // namespace interrupt_model
