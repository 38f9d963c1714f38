// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "faults.hpp"

#include <cstddef>
#include <cstdint>

namespace vtd_model {

/// What a translation came from, which decides what makes the unit forget it.
enum class stage : std::uint8_t { second, first, nested };

struct cached_context {
    bool valid = false;
    std::uint16_t source_id = 0;
    std::uint16_t domain_id = 0; ///< legacy mode
    bool present = false;
    unsigned reason = 0;
    std::uint64_t low = 0;
    std::uint64_t high = 0;
};
struct cached_pasid {
    bool valid = false;
    std::uint16_t source_id = 0;
    std::uint32_t pasid = 0;
    std::uint16_t domain_id = 0;
    bool present = false;
    bool silent = false; ///< fault processing disable, of the directory or of the entry
    unsigned reason = 0;
    std::uint64_t word[3]{};
};
/// Which addresses of which address space an entry of the IOTLB or of the paging-structure cache is
/// about.
struct cached_range {
    stage from = stage::second;
    std::uint16_t domain_id = 0;
    std::uint32_t pasid = 0; ///< not of the second stage alone
    std::uint64_t address = 0;
    std::uint64_t size = 0;

    [[nodiscard]] constexpr bool holds(std::uint64_t where) const {
        return address <= where && where - address < size;
    }
    [[nodiscard]] constexpr bool meets(std::uint64_t other, std::uint64_t other_size) const {
        return address < other + other_size && other < address + size;
    }
    [[nodiscard]] constexpr bool same_space(const cached_range& other) const {
        return from == other.from && domain_id == other.domain_id && pasid == other.pasid;
    }
};
struct cached_page {
    bool valid = false;
    cached_range of{};
    std::uint64_t to = 0;
    bool read = false;
    bool write = false;
    bool execute = false; ///< of the first stage, as are the next two
    bool user = false;
    bool dirty = false;
    bool present = false;
};
/// The paging-structure cache: where the table for `address` at `level` lies.
struct cached_table {
    bool valid = false;
    cached_range of{};
    unsigned level = 0;
    std::uint64_t table = 0;
    bool read = false;
    bool write = false;
    bool execute = false;
    bool user = false;
};
struct cached_interrupt {
    bool valid = false;
    unsigned index = 0;
    bool present = false;
    std::uint64_t low = 0;
    std::uint64_t high = 0;
};
/// What a device keeps in its own TLB.
struct device_page {
    bool valid = false;
    std::uint16_t source_id = 0;
    bool has_pasid = false;
    std::uint32_t pasid = 0;
    std::uint64_t address = 0;
    std::uint64_t to = 0;
    bool read = false;
    bool write = false;
};

// No templates and no generic lambdas below: clang 14 instantiates those of a class that is no
// template only at the end, which is too late for a static_assert.

/// A unit's caches, which keep what was not invalidated, and how each is emptied.
struct unit_caches : unit_faults {
    using unit_faults::unit_faults;

    [[nodiscard]] constexpr std::size_t cached_contexts() const {
        std::size_t n = 0;
        for (const cached_context& entry : contexts) {
            n += entry.valid ? 1 : 0;
        }
        return n;
    }
    [[nodiscard]] constexpr std::size_t cached_pasids() const {
        std::size_t n = 0;
        for (const cached_pasid& entry : pasids) {
            n += entry.valid ? 1 : 0;
        }
        return n;
    }
    [[nodiscard]] constexpr std::size_t cached_translations() const {
        std::size_t n = 0;
        for (const cached_page& entry : pages) {
            n += entry.valid ? 1 : 0;
        }
        return n;
    }
    [[nodiscard]] constexpr std::size_t cached_interrupts() const {
        std::size_t n = 0;
        for (const cached_interrupt& entry : interrupts) {
            n += entry.valid ? 1 : 0;
        }
        return n;
    }
    [[nodiscard]] constexpr std::size_t device_translations() const {
        std::size_t n = 0;
        for (const device_page& entry : device_pages) {
            n += entry.valid ? 1 : 0;
        }
        return n;
    }

protected:
    cached_context contexts[16]{};
    cached_pasid pasids[16]{};
    cached_page pages[64]{};
    cached_table tables[32]{};
    cached_interrupt interrupts[32]{};
    device_page device_pages[16]{};
    std::size_t next_context = 0;
    std::size_t next_pasid = 0;
    std::size_t next_page = 0;
    std::size_t next_table = 0;
    std::size_t next_interrupt = 0;
    std::size_t next_device_page = 0;

    /// What a cache lets go when it is full; hardware may forget at any time.
    static constexpr std::size_t place(std::size_t& next, std::size_t size) {
        return next++ % size;
    }

    /// Which bits of a function number do not count.
    static constexpr unsigned masked_functions(unsigned function_mask) {
        return function_mask == 0 ? 0 : function_mask == 1 ? 4 : function_mask == 2 ? 6 : 7;
    }
    /// granularity 1: all; 2: of the domain; 3: of the function, in legacy mode in the domain.
    constexpr bool forgets_context(std::uint16_t entry_source, std::uint16_t entry_domain,
                                   std::uint16_t source_id, std::uint16_t domain_id,
                                   unsigned granularity, unsigned function_mask) const {
        const bool scalable = table_mode == 1;
        const bool same_domain = !scalable && entry_domain == domain_id;
        const bool same_function =
            ((entry_source ^ source_id) & ~masked_functions(function_mask)) == 0;
        return granularity == 1 || (granularity == 2 && same_domain) ||
               (granularity == 3 && (scalable || same_domain) && same_function);
    }
    constexpr void drop_contexts(std::uint16_t source_id, std::uint16_t domain_id,
                                 unsigned granularity, unsigned function_mask) {
        for (cached_context& entry : contexts) {
            if (forgets_context(entry.source_id, entry.domain_id, source_id, domain_id, granularity,
                                function_mask)) {
                entry.valid = false;
            }
        }
    }
    /// granularity 0: of the domain; 1: of the PASID in the domain; 3: all.
    static constexpr bool forgets_pasid(std::uint32_t entry_pasid, std::uint16_t entry_domain,
                                        std::uint32_t pasid, std::uint16_t domain_id,
                                        unsigned granularity) {
        return granularity == 3 ||
               (entry_domain == domain_id && (granularity == 0 || entry_pasid == pasid));
    }
    constexpr void drop_pasids(std::uint32_t pasid, std::uint16_t domain_id, unsigned granularity) {
        for (cached_pasid& entry : pasids) {
            if (forgets_pasid(entry.pasid, entry.domain_id, pasid, domain_id, granularity)) {
                entry.valid = false;
            }
        }
    }
    /// An IOTLB invalidation. granularity 1: all; 2: of the domain; 3: of the pages in the domain,
    /// with all that is not of the second stage alone.
    constexpr void drop_pages(unsigned granularity, std::uint16_t domain_id, std::uint64_t address,
                              std::uint64_t size, bool tables_too) {
        const auto hit = [&](const cached_range& of) {
            return granularity == 1 ||
                   (of.domain_id == domain_id &&
                    (granularity == 2 || of.from != stage::second || of.meets(address, size)));
        };
        for (cached_page& entry : pages) {
            entry.valid = entry.valid && !hit(entry.of);
        }
        for (cached_table& entry : tables) {
            entry.valid = entry.valid && !(tables_too && hit(entry.of));
        }
    }
    /// A PASID-based IOTLB invalidation, which does not touch what is of the second stage alone.
    /// granularity 2: of the PASID in the domain; 3: of its pages.
    constexpr void drop_pasid_pages(unsigned granularity, std::uint16_t domain_id,
                                    std::uint32_t pasid, std::uint64_t address, std::uint64_t size,
                                    bool tables_too) {
        const auto hit = [&](const cached_range& of) {
            return of.from != stage::second && of.domain_id == domain_id && of.pasid == pasid &&
                   (granularity == 2 || of.meets(address, size));
        };
        for (cached_page& entry : pages) {
            entry.valid = entry.valid && !hit(entry.of);
        }
        for (cached_table& entry : tables) {
            entry.valid = entry.valid && !(tables_too && hit(entry.of));
        }
    }
    static constexpr bool forgets_interrupt(unsigned entry_index, bool all, unsigned index,
                                            unsigned mask) {
        return all || mask >= 16 || entry_index >> mask == index >> mask;
    }
    constexpr void drop_interrupts(bool all, unsigned index, unsigned mask) {
        for (cached_interrupt& entry : interrupts) {
            entry.valid = entry.valid && !forgets_interrupt(entry.index, all, index, mask);
        }
    }
    /// What a device forgets when it is told to: the address with S says how much.
    constexpr void drop_device_pages(std::uint16_t source_id, bool with_pasid, bool all_pasids,
                                     std::uint32_t pasid, std::uint64_t address, bool large) {
        unsigned shift = 12;
        if (large) { // as many ones above the page offset as double the size
            while (shift < 63 && (address >> shift & 1) != 0) {
                ++shift;
            }
            ++shift;
        }
        for (device_page& entry : device_pages) {
            const bool same_space = with_pasid
                                        ? entry.has_pasid && (all_pasids || entry.pasid == pasid)
                                        : !entry.has_pasid;
            const bool same_pages = shift >= 64 || entry.address >> shift == address >> shift;
            if (entry.source_id == source_id && same_space && same_pages) {
                entry.valid = false;
            }
        }
    }
    constexpr void reset_caches() {
        for (cached_context& entry : contexts) {
            entry.valid = false;
        }
        for (cached_pasid& entry : pasids) {
            entry.valid = false;
        }
        for (cached_page& entry : pages) {
            entry.valid = false;
        }
        for (cached_table& entry : tables) {
            entry.valid = false;
        }
        for (cached_interrupt& entry : interrupts) {
            entry.valid = false;
        }
        for (device_page& entry : device_pages) {
            entry.valid = false;
        }
    }
};

} // namespace vtd_model
