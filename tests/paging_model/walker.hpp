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
        misconfigured, ///< EPT misconfiguration, or a fault for a reserved bit
        lost,          ///< the walk left the memory that holds tables
    };
    kind what = kind::not_mapped;
    bool read = false;
    bool write = false;
    bool execute = false; ///< EPT with mode-based execute control: from supervisor-mode addresses
    bool user_execute = false; ///< and from user-mode addresses
    bool user = false;         ///< x86-64: user-mode accesses too
    bool ignore_pat = false;
    bool snoop = false;
    bool transient = false;  ///< VT-d: not to be cached by devices
    unsigned type = 0;       ///< EPT: memory type; x86-64: which entry of the PAT
    std::uint64_t extra = 0; ///< further bits of the leaf that mean something, in place
    std::uint64_t output = 0;
    std::uint64_t page = 0;          ///< size in bytes of the page that maps the address
    bool accessed = false;           ///< the leaf's flag
    bool dirty = false;              ///< the leaf's flag, or the caches' memory of it
    const char* complaint = nullptr; ///< what is misconfigured

    /// Whether software above sees the same; the size of the page is the tables' own affair.
    friend constexpr bool operator==(const outcome& a, const outcome& b) {
        return a.what == b.what && a.read == b.read && a.write == b.write &&
               a.execute == b.execute && a.user_execute == b.user_execute && a.user == b.user &&
               a.ignore_pat == b.ignore_pat && a.snoop == b.snoop && a.transient == b.transient &&
               a.type == b.type && a.extra == b.extra && a.output == b.output;
    }
};

constexpr outcome misconfigured(const char* complaint) {
    outcome found;
    found.what = outcome::kind::misconfigured;
    found.complaint = complaint;
    return found;
}
constexpr outcome lost() {
    outcome found;
    found.what = outcome::kind::lost;
    return found;
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
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/// The entries that a walk used, from the root on.
struct path {
    const std::uint64_t* at[5] = {};
    std::uint64_t entry[5] = {};
    unsigned count = 0;

    constexpr void add(const std::uint64_t* used, std::uint64_t value) {
        at[count] = used;
        entry[count++] = value;
    }
};

/// The table entry of a walk that `read(frame, index)` finds, or null where there is no memory.
/// Bits of the input address that choose it: nine, from bit `low` on.
template <class Read>
constexpr const std::uint64_t* choose(Read& read, std::uint64_t table, std::uint64_t input,
                                      unsigned low) {
    return read(table, static_cast<unsigned>((input >> low) & 0x1FF));
}

/// A processor that walks EPT with 4 or 5 levels [sdm, "EPT Translation Mechanism", "EPT
/// Misconfigurations"].
struct ept_walker {
    unsigned levels = 4;
    unsigned physical_width = 52; ///< MAXPHYADDR
    bool execute_only = false;
    bool pages_2m = false;
    bool pages_1g = false;
    bool accessed_dirty = false;     ///< EPTP bit 6
    bool mode_based_execute = false; ///< the VM-execution control

    static constexpr std::uint64_t accessed_flag = 1 << 8;
    static constexpr std::uint64_t dirty_flag = 1 << 9;

    template <class Read>
    constexpr outcome walk(Read read, std::uint64_t root, std::uint64_t input,
                           path* used = nullptr) const {
        outcome found;
        found.read = found.write = found.execute = found.user_execute = true;
        std::uint64_t table = root;
        for (unsigned level = levels;; --level) { // 5: PML5E, 4: PML4E, 3: PDPTE, 2: PDE, 1: PTE
            const unsigned low = 12 + 9 * (level - 1);
            const std::uint64_t* const at = choose(read, table, input, low);
            if (at == nullptr) {
                return lost();
            }
            const std::uint64_t entry = load(at);
            const bool user_execute = mode_based_execute ? bit(entry, 10) : bit(entry, 2);
            if (bits(entry, 2, 0) == 0 && !user_execute) {
                return {};
            }
            if (!bit(entry, 0) && bit(entry, 1)) {
                return misconfigured("write without read");
            }
            if (!bit(entry, 0) && (bit(entry, 2) || user_execute) && !execute_only) {
                return misconfigured("execute-only without the capability");
            }
            if (bits(entry, 51, physical_width) != 0) {
                return misconfigured("address bits at or above MAXPHYADDR");
            }
            const bool page = level == 1 || bit(entry, 7);
            if (page && (level >= 4 || (level == 3 && !pages_1g) || (level == 2 && !pages_2m))) {
                return misconfigured("bit 7 is reserved here");
            }
            if (used != nullptr) {
                used->add(at, entry);
            }
            found.read = found.read && bit(entry, 0);
            found.write = found.write && bit(entry, 1);
            found.execute = found.execute && bit(entry, 2);
            found.user_execute = found.user_execute && user_execute;
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
            // Verify guest paging, paging-write access, supervisor shadow stack, suppress #VE; and in
            // a PTE sub-page write permissions.
            constexpr std::uint64_t meaning = std::uint64_t{0b1001'0110} << 56;
            found.extra = entry & (meaning | std::uint64_t{level == 1} << 61);
            found.accessed = accessed_dirty && (entry & accessed_flag) != 0;
            found.dirty = accessed_dirty && (entry & dirty_flag) != 0;
            found.what = outcome::kind::translated;
            found.output = bits(entry, 51, low) | bits(input, low - 1, 0);
            found.page = std::uint64_t{1} << low;
            return found;
        }
    }
};

/// A remapping unit that walks second-stage tables with 3 to 5 levels [vt-d, "Second-Stage Paging
/// Entries"].
struct second_stage_walker {
    unsigned levels = 4;
    unsigned host_width = 52;
    bool pages_2m = false;
    bool pages_1g = false;
    bool snoop_control = false;
    bool transient_mapping = false; ///< bit 62 of a leaf means something; it is reserved elsewhere
    bool accessed_dirty = false;    ///< second-stage accessed/dirty enable of the PASID-table entry

    static constexpr std::uint64_t accessed_flag = 1 << 8;
    static constexpr std::uint64_t dirty_flag = 1 << 9;

    template <class Read>
    constexpr outcome walk(Read read, std::uint64_t root, std::uint64_t input,
                           path* used = nullptr) const {
        outcome found;
        found.read = found.write = true;
        std::uint64_t table = root;
        for (unsigned level = levels;; --level) {
            const unsigned low = 12 + 9 * (level - 1);
            const std::uint64_t* const at = choose(read, table, input, low);
            if (at == nullptr) {
                return lost();
            }
            const std::uint64_t entry = load(at);
            if (bits(entry, 1, 0) == 0) {
                return {};
            }
            if (bits(entry, 51, host_width) != 0) {
                return misconfigured("address bits at or above the host address width");
            }
            const bool page = level == 1 || bit(entry, 7);
            if (page && (level >= 4 || (level == 3 && !pages_1g) || (level == 2 && !pages_2m))) {
                return misconfigured("bit 7 is reserved here");
            }
            if (bit(entry, 62) && !(page && transient_mapping)) {
                return misconfigured("bit 62 without transient mapping, or in no leaf");
            }
            if (bit(entry, 11) && !(page && snoop_control)) {
                return misconfigured("bit 11 without snoop control, or in no leaf");
            }
            if (used != nullptr) {
                used->add(at, entry);
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
            found.transient = bit(entry, 62);
            found.accessed = accessed_dirty && (entry & accessed_flag) != 0;
            found.dirty = accessed_dirty && (entry & dirty_flag) != 0;
            found.what = outcome::kind::translated;
            found.output = bits(entry, 51, low) | bits(input, low - 1, 0);
            found.page = std::uint64_t{1} << low;
            return found;
        }
    }
};

/// A processor or a remapping unit that walks x86-64 tables with 4 or 5 levels: as nested paging
/// [amd, "Nested Paging"] or as first stage [vt-d, "First-Stage Paging Entries"]. In nested paging
/// every access counts as one of user mode.
struct x86_64_walker {
    unsigned levels = 4;
    unsigned physical_width = 52;
    bool pages_2m = true;
    bool pages_1g = false;
    bool no_execute = true; ///< EFER.NXE; bit 63 is reserved without it
    bool nested = true;

    static constexpr bool accessed_dirty = true; // not a choice in this format
    static constexpr std::uint64_t accessed_flag = 1 << 5;
    static constexpr std::uint64_t dirty_flag = 1 << 6;

    template <class Read>
    constexpr outcome walk(Read read, std::uint64_t root, std::uint64_t input,
                           path* used = nullptr) const {
        outcome found;
        found.read = found.write = found.execute = found.user = true;
        std::uint64_t table = root;
        for (unsigned level = levels;; --level) {
            const unsigned low = 12 + 9 * (level - 1);
            const std::uint64_t* const at = choose(read, table, input, low);
            if (at == nullptr) {
                return lost();
            }
            const std::uint64_t entry = load(at);
            if (!bit(entry, 0)) {
                return {};
            }
            if (bits(entry, 51, physical_width) != 0) {
                return misconfigured("address bits at or above the physical-address width");
            }
            if (bit(entry, 63) && !no_execute) {
                return misconfigured("bit 63 without EFER.NXE");
            }
            if (bit(entry, 8) && level >= 4 && nested) {
                return misconfigured("the global bit of a PML4E or PML5E");
            }
            const bool page = level == 1 || bit(entry, 7);
            if (page && (level >= 4 || (level == 3 && !pages_1g) || (level == 2 && !pages_2m))) {
                return misconfigured("bit 7 is reserved here");
            }
            if (used != nullptr) {
                used->add(at, entry);
            }
            found.write = found.write && bit(entry, 1);
            found.user = found.user && bit(entry, 2);
            found.execute = found.execute && !bit(entry, 63);
            if (!page) {
                table = bits(entry, 51, 12);
                continue;
            }
            if (bits(entry, low - 1, level == 1 ? 12 : 13) != 0) {
                return misconfigured("low address bits of a large page");
            }
            if (nested && !found.user) {
                return {};
            }
            const bool pat = bit(entry, level == 1 ? 7 : 12);
            found.type = static_cast<unsigned>((entry >> 3) & 3) | unsigned{pat} << 2;
            found.extra = bits(entry, 8, 8); // global
            found.accessed = (entry & accessed_flag) != 0;
            found.dirty = (entry & dirty_flag) != 0;
            found.what = outcome::kind::translated;
            found.output = bits(entry, 51, low) | bits(input, low - 1, 0);
            found.page = std::uint64_t{1} << low;
            return found;
        }
    }
};

enum class access_kind : unsigned char { read, write, execute };

constexpr bool permits(const outcome& found, access_kind kind) {
    return found.what == outcome::kind::translated &&
           (kind == access_kind::read    ? found.read
            : kind == access_kind::write ? found.write
                                         : found.execute);
}

/// The hardware makes an access by walking: in all entries that it uses, and only where the access is
/// allowed, it sets the accessed flag, and in the leaf the dirty flag when it writes. Each flag is set
/// by a locked operation that compares the rest of the entry [sdm, "Accessed and Dirty Flags for EPT"].
template <class Walker, class Read>
outcome use(const Walker& hardware, Read read, std::uint64_t root, std::uint64_t input,
            access_kind kind) {
    for (;;) {
        path used;
        outcome found = hardware.walk(read, root, input, &used);
        if (!hardware.accessed_dirty || !permits(found, kind)) {
            return found;
        }
        bool changed = false;
        for (unsigned i = 0; i < used.count && !changed; ++i) {
            const bool leaf = i + 1 == used.count;
            const std::uint64_t flags =
                Walker::accessed_flag |
                (leaf && kind == access_kind::write ? Walker::dirty_flag : 0);
            if ((used.entry[i] & flags) != flags) {
                std::uint64_t expected = used.entry[i];
                changed = !__atomic_compare_exchange_n(const_cast<std::uint64_t*>(used.at[i]),
                                                       &expected, expected | flags, false,
                                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
            }
        }
        if (!changed) {
            found.dirty = found.dirty || kind == access_kind::write;
            return found;
        }
    }
}

} // namespace paging_model
