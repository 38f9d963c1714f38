// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <type_traits>

// Page walks as the manuals describe them, for tests. Nothing of pt is used here: where the library
// and this file disagree, one of them has misread the manual.
namespace paging_model {

/// What becomes of one input address.
struct outcome {
    enum class kind : unsigned char {
        not_mapped,
        translated,
        misconfigured, ///< EPT misconfiguration, or a VT-d fault for a reserved bit
        lost,          ///< the walk left the memory that holds tables
    };
    kind what = kind::not_mapped;
    bool read = false;
    bool write = false;
    bool execute = false;
    bool ignore_pat = false;
    bool snoop = false;
    unsigned type = 0;
    std::uint64_t output = 0;
    std::uint64_t page = 0;          ///< size in bytes of the page that maps the address
    const char* complaint = nullptr; ///< what is misconfigured

    /// Whether software above sees the same; the size of the page is the tables' own affair.
    friend constexpr bool operator==(const outcome& a, const outcome& b) {
        return a.what == b.what && a.read == b.read && a.write == b.write &&
               a.execute == b.execute && a.ignore_pat == b.ignore_pat && a.snoop == b.snoop &&
               a.type == b.type && a.output == b.output;
    }
};

constexpr outcome misconfigured(const char* complaint) {
    return {.what = outcome::kind::misconfigured, .complaint = complaint};
}

constexpr bool bit(std::uint64_t word, unsigned n) { return ((word >> n) & 1) != 0; }
/// Bits high:low of `word`, in place.
constexpr std::uint64_t bits(std::uint64_t word, unsigned high, unsigned low) {
    return high < low ? 0 : word & (~std::uint64_t{0} >> (63 - high)) & (~std::uint64_t{0} << low);
}

/// As hardware reads: what is in memory now.
constexpr std::uint64_t load(const std::uint64_t* at) {
    if (std::is_constant_evaluated()) {
        return *at;
    }
    return *static_cast<const volatile std::uint64_t*>(at);
}

/// A processor that walks EPT with 4 levels [sdm, "EPT Translation Mechanism", "EPT Misconfigurations"].
struct ept_walker {
    unsigned physical_width = 52; ///< MAXPHYADDR
    bool execute_only = false;
    bool pages_2m = false;
    bool pages_1g = false;

    /// `read(frame, index)` gives the address of an entry, or null where there is no memory.
    template <class Read>
    constexpr outcome walk(Read read, std::uint64_t root, std::uint64_t input) const {
        outcome found{.read = true, .write = true, .execute = true};
        std::uint64_t table = root;
        for (unsigned level = 4;; --level) { // 4: PML4E, 3: PDPTE, 2: PDE, 1: PTE
            const unsigned low = 12 + 9 * (level - 1);
            const std::uint64_t* const at =
                read(table, static_cast<unsigned>((input >> low) & 0x1FF));
            if (at == nullptr) {
                return {.what = outcome::kind::lost};
            }
            const std::uint64_t entry = load(at);
            if (bits(entry, 2, 0) == 0) {
                return {};
            }
            if (!bit(entry, 0) && bit(entry, 1)) {
                return misconfigured("write without read");
            }
            if (!bit(entry, 0) && bit(entry, 2) && !execute_only) {
                return misconfigured("execute-only without the capability");
            }
            if (bits(entry, 51, physical_width) != 0) {
                return misconfigured("address bits at or above MAXPHYADDR");
            }
            const bool page = level == 1 || bit(entry, 7);
            if (page && (level == 4 || (level == 3 && !pages_1g) || (level == 2 && !pages_2m))) {
                return misconfigured("bit 7 is reserved here");
            }
            found.read = found.read && bit(entry, 0);
            found.write = found.write && bit(entry, 1);
            found.execute = found.execute && bit(entry, 2);
            if (!page) {
                if (bits(entry, 6, 3) != 0) {
                    return misconfigured("bits 6:3 of an entry that points to a table");
                }
                table = bits(entry, 51, 12);
                continue;
            }
            if (bits(entry, low - 1, 12) != 0) {
                return misconfigured("low address bits of a large page");
            }
            found.type = static_cast<unsigned>((entry >> 3) & 7);
            if (found.type == 2 || found.type == 3 || found.type == 7) {
                return misconfigured("reserved memory type");
            }
            found.ignore_pat = bit(entry, 6);
            found.what = outcome::kind::translated;
            found.output = bits(entry, 51, low) | bits(input, low - 1, 0);
            found.page = std::uint64_t{1} << low;
            return found;
        }
    }
};

/// A remapping unit that walks second-stage tables [vt-d, "Second-Stage Paging Entries"].
struct second_stage_walker {
    unsigned levels = 4;
    unsigned host_width = 52;
    bool pages_2m = false;
    bool pages_1g = false;
    bool snoop_control = false;

    template <class Read>
    constexpr outcome walk(Read read, std::uint64_t root, std::uint64_t input) const {
        outcome found{.read = true, .write = true};
        std::uint64_t table = root;
        for (unsigned level = levels;; --level) {
            const unsigned low = 12 + 9 * (level - 1);
            const std::uint64_t* const at =
                read(table, static_cast<unsigned>((input >> low) & 0x1FF));
            if (at == nullptr) {
                return {.what = outcome::kind::lost};
            }
            const std::uint64_t entry = load(at);
            if (bits(entry, 1, 0) == 0) {
                return {};
            }
            if (bits(entry, 51, host_width) != 0) {
                return misconfigured("address bits at or above the host address width");
            }
            if (bit(entry, 62)) {
                return misconfigured("bit 62");
            }
            const bool page = level == 1 || bit(entry, 7);
            if (page && (level == 4 || (level == 3 && !pages_1g) || (level == 2 && !pages_2m))) {
                return misconfigured("bit 7 is reserved here");
            }
            if (bit(entry, 11) && !(page && snoop_control)) {
                return misconfigured("bit 11 without snoop control, or in no leaf");
            }
            found.read = found.read && bit(entry, 0);
            found.write = found.write && bit(entry, 1);
            if (!page) {
                table = bits(entry, 51, 12);
                continue;
            }
            if (bits(entry, low - 1, 12) != 0) {
                return misconfigured("low address bits of a large page");
            }
            if (!found.read && !found.write) {
                return {};
            }
            found.snoop = bit(entry, 11);
            found.what = outcome::kind::translated;
            found.output = bits(entry, 51, low) | bits(input, low - 1, 0);
            found.page = std::uint64_t{1} << low;
            return found;
        }
    }
};

} // namespace paging_model
