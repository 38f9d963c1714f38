// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "interrupts.hpp"

#include <cstddef>
#include <cstdint>

namespace vtd_model {

/// What a device asks for.
struct access {
    bool write = false;
    bool has_pasid = false;
    std::uint32_t pasid = 0;
    bool execute = false;
    bool privileged = false;
};

/// DMA remapping, in both modes [vt-d, "DMA Remapping"].
struct unit_translation : unit_interrupts {
    using unit_interrupts::unit_interrupts;

    /// A request without PASID of `source_id`. The unit must be ready for it.
    constexpr outcome dma(std::uint16_t source_id, std::uint64_t address, bool write) {
        return dma(source_id, address, access{.write = write});
    }
    constexpr outcome dma(std::uint16_t source_id, std::uint64_t address, access what) {
        if ((gsts & TE) != 0 && owes != 0) {
            memory->blame("translated before the caches were emptied after SRTP");
        }
        return request(source_id, address, what);
    }
    constexpr outcome dma_with_pasid(std::uint16_t source_id, std::uint32_t pasid,
                                     std::uint64_t address, bool write) {
        return dma(source_id, address, {.write = write, .has_pasid = true, .pasid = pasid});
    }

    /// A request of a device with a TLB of its own: it asks once for the translation, and uses it
    /// until it is told to forget it.
    constexpr outcome device_tlb_dma(std::uint16_t source_id, std::uint64_t address, access what) {
        const device_page* found = nullptr;
        for (const device_page& page : device_pages) {
            if (page.valid && page.source_id == source_id && page.has_pasid == what.has_pasid &&
                page.pasid == what.pasid && page.address == (address & ~std::uint64_t{0xFFF}) &&
                (what.write ? page.write : page.read)) {
                found = &page;
            }
        }
        if (found == nullptr) {
            const unsigned refused = device_tlb_refused(source_id, what);
            if (refused != 0) {
                return block(false, source_id, what, address, refused);
            }
            const outcome o = dma(source_id, address, what);
            if (o.reached && o.translated) {
                device_pages[place(next_device_page, 16)] = {true,
                                                             source_id,
                                                             what.has_pasid,
                                                             what.pasid,
                                                             address & ~std::uint64_t{0xFFF},
                                                             o.to & ~std::uint64_t{0xFFF},
                                                             true,
                                                             what.write};
            }
            return o;
        }
        const std::uint64_t to = found->to | (address & 0xFFF);
        if ((gsts & TE) != 0) {
            const unsigned refused = device_tlb_refused(source_id, what);
            if (refused != 0) {
                return block(false, source_id, what, address, refused);
            }
        }
        return arrive(to, true);
    }

protected:
    constexpr outcome request(std::uint16_t source_id, std::uint64_t address, access what) {
        if ((gsts & TE) == 0) {
            return is_protected(address) ? kept_out() : arrive(address, false);
        }
        if (address >> 20 == 0xFEE && what.write && !what.has_pasid) {
            outcome o;
            o.interrupt = true;
            return o;
        }
        if (table_mode == 3) {
            outcome o;
            o.aborted = true;
            return o;
        }
        if (table_mode == 1) {
            return scalable_request(source_id, address, what);
        }
        return legacy_request(source_id, address, what);
    }

private:
    /// Of which tables, with which rights already lost, and which reasons a fault has.
    struct space {
        cached_range as{}; ///< what its translations are tagged with
        bool scalable = false;
        std::uint64_t second_root = 0;
        unsigned second_levels = 0;
        bool second_tracks = false; ///< accessed and dirty bits in the second stage
        std::uint64_t first_root = 0;
        unsigned first_levels = 0;
        bool no_execute = false;
        bool write_protect = false;
    };
    struct reach {
        unsigned reason = 0;
        std::uint64_t to = 0;
    };

    [[nodiscard]] constexpr std::uint64_t beyond() const {
        return ~std::uint64_t{0} << host_address_width;
    }
    [[nodiscard]] constexpr unsigned widths() const {
        return static_cast<unsigned>(cap >> 8 & 0x1F);
    }
    constexpr void check_domain(std::uint16_t domain_id) {
        if (caching_mode() && domain_id == 0) {
            memory->blame("domain id 0, which caching mode reserves");
        }
        const unsigned nd = static_cast<unsigned>(cap & 7);
        if (nd < 6 && domain_id >> (4 + 2 * nd) != 0) {
            memory->blame("a domain id that the unit does not have");
        }
    }

    // ---- legacy mode ---------------------------------------------------------------------------

    constexpr outcome legacy_request(std::uint16_t source_id, std::uint64_t address, access what) {
        if (what.has_pasid) {
            return block(false, source_id, what, address, 0x31);
        }
        const cached_context entry = look_up_context(source_id);
        const bool silent = (entry.low & 2) != 0;
        if (!entry.present) {
            return block(silent, source_id, what, address, entry.reason);
        }
        const auto type = static_cast<unsigned>(entry.low >> 2 & 3);
        const auto width = static_cast<unsigned>(entry.high & 7);
        if (type == 2) {
            if (widths() >> (width + 1) != 0) {
                memory->blame("a pass-through entry without the largest width");
            }
            return finish(silent, source_id, what, address, address, 0xE, true);
        }
        const space s{.as = {.domain_id = entry.domain_id},
                      .second_root = entry.low & ~std::uint64_t{0xFFF},
                      .second_levels = width + 2};
        const reach r = second_stage(s, address, what.write);
        return r.reason != 0 ? block(silent, source_id, what, address, r.reason)
                             : finish(silent, source_id, what, address, r.to, 0xE, false);
    }
    constexpr cached_context look_up_context(std::uint16_t source_id) {
        for (const cached_context& entry : contexts) {
            if (entry.valid && entry.source_id == source_id) {
                return entry;
            }
        }
        cached_context found =
            table_mode == 1 ? walk_scalable_context(source_id) : walk_context(source_id);
        if (found.present || caching_mode()) {
            found.valid = true;
            contexts[place(next_context, 16)] = found;
        }
        return found;
    }
    constexpr cached_context walk_context(std::uint16_t source_id) {
        cached_context found{.source_id = source_id}; // what is absent belongs to domain 0
        const auto blocked = [&](unsigned reason) {
            found.reason = reason;
            return found;
        };
        std::uint64_t low = 0;
        std::uint64_t high = 0;
        const std::uint64_t root_entry = root + std::uint64_t{source_id} / 256 * 16;
        if (!walk(root_entry, low) || !walk(root_entry + 8, high)) {
            return blocked(0x8);
        }
        if ((low & 1) == 0) {
            return blocked(0x1);
        }
        if ((low & (0xFFE | beyond())) != 0 || high != 0) {
            return blocked(0xA);
        }
        const std::uint64_t context_entry =
            (low & ~std::uint64_t{0xFFF}) + std::uint64_t{source_id} % 256 * 16;
        if (!walk(context_entry, low) || !walk(context_entry + 8, high)) {
            return blocked(0x9);
        }
        found.low = low; // fault processing disable counts even where P is 0
        found.high = high;
        if ((low & 1) == 0) {
            return blocked(0x2);
        }
        if ((low & (0xFF0 | beyond())) != 0 || (high & 0xFFFF'FFFF'FF00'0080) != 0) {
            return blocked(0xB);
        }
        const auto type = static_cast<unsigned>(low >> 2 & 3);
        const auto width = static_cast<unsigned>(high & 7);
        if (width > 4 || (widths() >> width & 1) == 0 || type == 3 ||
            (type == 1 && (ecap & ecap_dt) == 0) || (type == 2 && (ecap & ecap_pt) == 0)) {
            return blocked(0x3);
        }
        found.domain_id = static_cast<std::uint16_t>(high >> 8);
        check_domain(found.domain_id);
        found.present = true;
        return found;
    }

    // ---- scalable mode -------------------------------------------------------------------------

    constexpr outcome scalable_request(std::uint16_t source_id, std::uint64_t address,
                                       access what) {
        const cached_context entry = look_up_context(source_id);
        const bool context_silent = (entry.low & 2) != 0;
        if (!entry.present) {
            return block(context_silent, source_id, what, address, entry.reason);
        }
        const std::uint64_t limit = std::uint64_t{1} << ((entry.low >> 9 & 7) + 7 + 6);
        std::uint32_t pasid = what.pasid;
        if (what.has_pasid) {
            if ((entry.low >> 3 & 1) == 0) {
                return block(context_silent, source_id, what, address, 0x45);
            }
            if (pasid >= limit) {
                return block(context_silent, source_id, what, address, 0x46);
            }
        } else {
            pasid = (ecap & ecap_rps) != 0 ? static_cast<std::uint32_t>(entry.high & 0xF'FFFF) : 0;
            what.privileged = (entry.high >> 20 & 1) != 0;
            if (pasid >= limit) {
                return block(context_silent, source_id, what, address, 0x48);
            }
        }
        const cached_pasid of = look_up_pasid(source_id, pasid, entry.low);
        const bool silent = context_silent || of.silent;
        if (!of.present) {
            return block(silent, source_id, what, address, of.reason);
        }
        if (what.privileged && (of.word[2] & 1) == 0) {
            return block(silent, source_id, what, address, 0x5D);
        }
        if (what.execute && (of.word[2] >> 1 & 1) == 0) {
            return block(silent, source_id, what, address, 0x5C);
        }
        const auto type = static_cast<unsigned>(of.word[0] >> 6 & 7);
        const auto width = static_cast<unsigned>(of.word[0] >> 2 & 7);
        if (type == 4) {
            if (widths() >> (width + 1) != 0) {
                memory->blame("a pass-through entry without the largest width");
            }
            return finish(silent, source_id, what, address, address, 0x87, true);
        }
        space s{.scalable = true};
        s.as.from = type == 1 ? stage::first : type == 2 ? stage::second : stage::nested;
        s.as.domain_id = of.domain_id;
        s.as.pasid = type == 2 ? 0 : pasid;
        s.second_root = of.word[0] & 0x000F'FFFF'FFFF'F000;
        s.second_levels = width + 2;
        s.second_tracks = (of.word[0] >> 9 & 1) != 0 && (ecap & ecap_ssads) != 0;
        s.first_root = of.word[2] & 0x000F'FFFF'FFFF'F000;
        s.first_levels = (of.word[2] >> 2 & 3) == 1 ? 5 : 4;
        s.write_protect = (of.word[2] >> 4 & 1) != 0;
        s.no_execute = (of.word[2] >> 5 & 1) != 0;
        const reach r =
            type == 2 ? second_stage(s, address, what.write) : first_stage(s, address, what);
        return r.reason != 0 ? block(silent, source_id, what, address, r.reason)
                             : finish(silent, source_id, what, address, r.to, 0x87, false);
    }
    constexpr cached_context walk_scalable_context(std::uint16_t source_id) {
        cached_context found{.source_id = source_id};
        const auto blocked = [&](unsigned reason) {
            found.reason = reason;
            return found;
        };
        std::uint64_t half = 0;
        if (!walk(root + std::uint64_t{source_id} / 128 * 8, half)) {
            return blocked(0x38);
        }
        if ((half & 1) == 0) {
            return blocked(0x39);
        }
        if ((half & (0xFFE | beyond())) != 0) {
            return blocked(0x3A);
        }
        const std::uint64_t at =
            (half & ~std::uint64_t{0xFFF}) + std::uint64_t{source_id} % 128 * 32;
        std::uint64_t word[4]{};
        for (unsigned i = 0; i < 4; ++i) {
            if (!walk(at + i * 8, word[i])) {
                return blocked(0x40);
            }
        }
        found.low = word[0];
        found.high = word[1];
        if ((word[0] & 1) == 0) {
            return blocked(0x41);
        }
        if ((word[0] & (0x1E0 | beyond())) != 0 || word[1] >> 21 != 0 || (word[2] | word[3]) != 0) {
            return blocked(0x42);
        }
        if (((word[0] >> 2 & 1) != 0 && (ecap & ecap_dt) == 0) ||
            ((word[0] >> 3 & 1) != 0 && (ecap & ecap_pasid) == 0) ||
            ((word[0] >> 4 & 1) != 0 && (ecap & ecap_prs) == 0)) {
            return blocked(0x43);
        }
        found.present = true;
        return found;
    }
    constexpr cached_pasid look_up_pasid(std::uint16_t source_id, std::uint32_t pasid,
                                         std::uint64_t context_low) {
        for (const cached_pasid& entry : pasids) {
            if (entry.valid && entry.source_id == source_id && entry.pasid == pasid) {
                return entry;
            }
        }
        cached_pasid found = walk_pasid(source_id, pasid, context_low & ~std::uint64_t{0xFFF});
        if (found.present || caching_mode()) {
            found.valid = true;
            pasids[place(next_pasid, 16)] = found;
        }
        return found;
    }
    constexpr cached_pasid walk_pasid(std::uint16_t source_id, std::uint32_t pasid,
                                      std::uint64_t directory) {
        cached_pasid found{.source_id = source_id, .pasid = pasid};
        const auto blocked = [&](unsigned reason) {
            found.reason = reason;
            return found;
        };
        std::uint64_t entry = 0;
        if (!walk(directory + std::uint64_t{pasid} / 64 * 8, entry)) {
            return blocked(0x50);
        }
        found.silent = (entry & 2) != 0;
        if ((entry & 1) == 0) {
            return blocked(0x51);
        }
        if ((entry & (0xFFC | beyond())) != 0) {
            return blocked(0x52);
        }
        const std::uint64_t at = (entry & ~std::uint64_t{0xFFF}) + std::uint64_t{pasid} % 64 * 64;
        std::uint64_t word[8]{};
        for (unsigned i = 0; i < 8; ++i) {
            if (!walk(at + i * 8, word[i])) {
                return blocked(0x58);
            }
        }
        found.silent = found.silent || (word[0] & 2) != 0;
        if ((word[0] & 1) == 0) {
            return blocked(0x59);
        }
        for (unsigned i = 0; i < 3; ++i) {
            found.word[i] = word[i];
        }
        found.domain_id = static_cast<std::uint16_t>(word[1]);
        const auto type = static_cast<unsigned>(word[0] >> 6 & 7);
        const bool first = type == 1 || type == 3;
        const bool second = type == 2 || type == 3;
        const std::uint64_t reserved_low = 0xC20 | (second ? beyond() & 0xFFFF'FFFF'FFFF'F000 : 0);
        if ((word[0] & reserved_low) != 0 || (word[1] & 0x7F'0000) != 0 ||
            (first && (word[2] & (0xF00 | (type == 1 ? beyond() : 0))) != 0) ||
            (word[3] | word[4] | word[5] | word[6] | word[7]) != 0) {
            return blocked(0x5A);
        }
        const auto width = static_cast<unsigned>(word[0] >> 2 & 7);
        const auto mode = static_cast<unsigned>(word[2] >> 2 & 3);
        if (type == 0 || type > 4 || (first && (ecap & ecap_fsts) == 0) ||
            (second && (ecap & ecap_ssts) == 0) || (type == 3 && (ecap & ecap_nest) == 0) ||
            (type == 4 && (ecap & ecap_pt) == 0) ||
            (second && (width > 4 || (widths() >> width & 1) == 0)) ||
            (first && (mode > 1 || (mode == 1 && (cap & cap_fs5lp) == 0)))) {
            return blocked(0x5B);
        }
        check_domain(found.domain_id);
        found.present = true;
        return found;
    }

    // ---- the second stage ----------------------------------------------------------------------

    constexpr reach second_stage(const space& s, std::uint64_t address, bool write) {
        const unsigned reach_of = 12 + 9 * s.second_levels;
        const auto mgaw = static_cast<unsigned>(cap >> 16 & 0x3F) + 1;
        const unsigned usable = reach_of < mgaw ? reach_of : mgaw;
        if (usable < 64 && address >> usable != 0) {
            return {.reason = s.scalable ? 0x84U : 0x4U};
        }
        const unsigned no_right = s.scalable ? (write ? 0x85U : 0x86U) : write ? 5U : 6U;
        const bool cached = s.as.from == stage::second;
        if (cached) {
            for (const cached_page& page : pages) {
                if (page.valid && page.of.same_space(s.as) && page.of.holds(address) &&
                    !(write && page.write && s.second_tracks && !page.dirty)) {
                    if (!page.present) {
                        return {.reason = s.scalable ? 0x79 : no_right};
                    }
                    if (!(write ? page.write : page.read)) {
                        return {.reason = no_right};
                    }
                    return {.to = page.to + (address - page.of.address)};
                }
            }
        }
        cached_table at{.level = s.second_levels, .table = s.second_root};
        at.read = at.write = true;
        for (const cached_table& table : tables) {
            if (cached && table.valid && table.of.same_space(s.as) && table.of.holds(address) &&
                table.level < at.level) {
                at = table;
            }
        }
        for (;; --at.level) {
            const unsigned shift = 12 + 9 * (at.level - 1);
            const std::uint64_t size = std::uint64_t{1} << shift;
            const std::uint64_t slot = at.table + (address >> shift) % 512 * 8;
            std::uint64_t found = 0;
            if (!walk(slot, found)) {
                return {.reason = !s.scalable ? 0x7U : at.level == s.second_levels ? 0x7BU : 0x78U};
            }
            const bool may_read = at.read && (found & 1) != 0;
            const bool may_write = at.write && (found & 2) != 0;
            cached_page page{.valid = true,
                             .of = s.as,
                             .to = found & 0x000F'FFFF'FFFF'FFFF & ~(size - 1),
                             .read = may_read,
                             .write = may_write,
                             .present = true};
            page.of.address = address & ~(size - 1);
            page.of.size = size;
            if ((found & 3) == 0) {
                if (caching_mode() && cached) {
                    page.present = false;
                    pages[place(next_page, 64)] = page;
                }
                return {.reason = s.scalable ? 0x79 : no_right};
            }
            const bool leaf = at.level == 1 || (found & 0x80) != 0;
            std::uint64_t reserved = beyond() & 0x000F'FFFF'FFFF'FFFF;
            if (leaf) {
                reserved |= (size - 1) & ~std::uint64_t{0xFFF};  // below the page's address
                reserved |= (ecap & ecap_sc) == 0 ? 0x800U : 0U; // SNP without snoop control
                reserved |= (ecap & ecap_dt) == 0 ? std::uint64_t{1} << 62 : 0; // TM
            }
            const bool too_large =
                leaf && at.level > 1 && (at.level > 3 || (cap >> (32 + at.level) & 1) == 0);
            if ((found & reserved) != 0 || too_large) {
                return {.reason = s.scalable ? 0x7AU : 0xCU};
            }
            if (s.second_tracks) {
                const bool allowed = write ? may_write : may_read;
                mark(slot, found, 0x100U | (leaf && write && allowed ? 0x200U : 0U));
                page.dirty = leaf && write && allowed;
            }
            if (leaf) {
                if (cached) {
                    pages[place(next_page, 64)] = page;
                }
                if (!(write ? may_write : may_read)) {
                    return {.reason = no_right};
                }
                return {.to = page.to + (address - page.of.address)};
            }
            at.table = found & 0x000F'FFFF'FFFF'F000;
            at.read = may_read;
            at.write = may_write;
            if (cached) {
                tables[place(next_table, 32)] = {.valid = true,
                                                 .of = page.of,
                                                 .level = at.level - 1,
                                                 .table = at.table,
                                                 .read = may_read,
                                                 .write = may_write};
            }
        }
    }
    /// Accessed and dirty bits, which hardware sets in memory.
    constexpr void mark(std::uint64_t slot, std::uint64_t found, std::uint64_t bits) {
        if ((found & bits) != bits) {
            memory->write(slot, found | bits);
        }
    }

    // ---- the first stage, alone or over the second ---------------------------------------------

    constexpr reach first_stage(const space& s, std::uint64_t address, access what) {
        const unsigned top = 12 + 9 * s.first_levels - 1;
        const std::uint64_t sign = address >> top;
        if (sign != 0 && sign != ~std::uint64_t{0} >> top) {
            return {.reason = 0x80};
        }
        for (const cached_page& page : pages) {
            if (page.valid && page.of.same_space(s.as) && page.of.holds(address) &&
                !(what.write && page.write && !page.dirty)) {
                if (!page.present) {
                    return {.reason = 0x71};
                }
                return {.reason = first_stage_refusal(s, page, what),
                        .to = page.to + (address - page.of.address)};
            }
        }
        cached_table at{.level = s.first_levels, .table = s.first_root};
        at.read = at.write = at.execute = at.user = true;
        for (const cached_table& table : tables) {
            if (table.valid && table.of.same_space(s.as) && table.of.holds(address) &&
                table.level < at.level) {
                at = table;
            }
        }
        for (;; --at.level) {
            const bool top_level = at.level == s.first_levels;
            const unsigned shift = 12 + 9 * (at.level - 1);
            const std::uint64_t size = std::uint64_t{1} << shift;
            std::uint64_t slot = at.table + (address >> shift) % 512 * 8;
            if (s.as.from == stage::nested) {
                const reach r = second_stage(s, slot, true); // accessed bits are written
                if (r.reason != 0) {
                    return {.reason = r.reason == 0x84   ? 0x74U
                                      : r.reason == 0x85 ? 0x77U
                                                         : r.reason};
                }
                slot = r.to;
            }
            std::uint64_t found = 0;
            if (!walk(slot, found)) {
                return {.reason = top_level ? 0x73U : 0x70U};
            }
            cached_page page{.valid = true,
                             .of = s.as,
                             .to = found & 0x000F'FFFF'FFFF'FFFF & ~(size - 1),
                             .read = true,
                             .write = at.write && (found & 2) != 0,
                             .execute = at.execute && found >> 63 == 0,
                             .user = at.user && (found & 4) != 0,
                             .present = true};
            page.of.address = address & ~(size - 1);
            page.of.size = size;
            if ((found & 1) == 0) {
                if (caching_mode()) {
                    page.present = false;
                    pages[place(next_page, 64)] = page;
                }
                return {.reason = 0x71};
            }
            const bool leaf = at.level == 1 || (found & 0x80) != 0;
            std::uint64_t reserved =
                s.as.from == stage::nested ? 0 : beyond() & 0x000F'FFFF'FFFF'FFFF;
            reserved |= s.no_execute ? 0 : std::uint64_t{1} << 63;
            if (leaf && at.level > 1) {
                reserved |= (size - 1) & ~std::uint64_t{0x1FFF}; // bit 12 is a memory type bit
            }
            const bool too_large =
                leaf && at.level > 1 && (at.level > 3 || (at.level == 3 && (cap & cap_fs1gp) == 0));
            if ((found & reserved) != 0 || too_large) {
                return {.reason = 0x72};
            }
            const unsigned refusal = leaf ? first_stage_refusal(s, page, what) : 0;
            page.dirty = leaf && what.write && refusal == 0;
            mark(slot, found, 0x20U | (page.dirty ? 0x40U : 0U));
            if (leaf) {
                std::uint64_t to = page.to + (address - page.of.address);
                if (refusal == 0 && s.as.from == stage::nested) {
                    const reach r = second_stage(s, to, what.write);
                    if (r.reason != 0) {
                        return r;
                    }
                    to = r.to;
                    // What is kept is no larger than either page.
                    page.of.address = address & ~std::uint64_t{0xFFF};
                    page.of.size = 4096;
                    page.to = to & ~std::uint64_t{0xFFF};
                }
                if (refusal == 0 || s.as.from == stage::first) {
                    pages[place(next_page, 64)] = page;
                }
                return {.reason = refusal, .to = to};
            }
            at.table = found & 0x000F'FFFF'FFFF'F000;
            at.write = page.write;
            at.execute = page.execute;
            at.user = page.user;
            tables[place(next_table, 32)] = {.valid = true,
                                             .of = page.of,
                                             .level = at.level - 1,
                                             .table = at.table,
                                             .read = true,
                                             .write = page.write,
                                             .execute = page.execute,
                                             .user = page.user};
        }
    }
    static constexpr unsigned first_stage_refusal(const space& s, const cached_page& page,
                                                  access what) {
        if (!page.user && !what.privileged) {
            return 0x81;
        }
        if (what.write && !page.write && (!what.privileged || s.write_protect)) {
            return 0x85;
        }
        if (what.execute && !page.execute) {
            return 0x82;
        }
        return 0;
    }

    // ---- the end of a request ------------------------------------------------------------------

    /// Why a device may not use a TLB of its own.
    constexpr unsigned device_tlb_refused(std::uint16_t source_id, access what) {
        if ((gsts & TE) == 0) {
            return 0;
        }
        const cached_context entry = look_up_context(source_id);
        if (!entry.present) {
            return entry.reason;
        }
        if (table_mode == 1) {
            return (entry.low >> 2 & 1) != 0 ? 0 : 0x44;
        }
        return what.has_pasid ? 0x31 : (entry.low >> 2 & 3) == 1 ? 0 : 0xD;
    }
    constexpr outcome finish(bool silent, std::uint16_t source_id, access what,
                             std::uint64_t address, std::uint64_t to, unsigned no_interrupt,
                             bool passes_through) {
        if (to >> 20 == 0xFEE) {
            return block(silent, source_id, what, address, no_interrupt);
        }
        if (is_protected(to) && (passes_through || protects_from_translated)) {
            return kept_out();
        }
        return arrive(to, true);
    }
    constexpr outcome arrive(std::uint64_t to, bool translated) {
        if (memory->has(to)) {
            memory->blame("a device reached the tables");
        }
        outcome o;
        o.reached = true;
        o.translated = translated;
        o.to = to;
        return o;
    }
    static constexpr outcome kept_out() {
        outcome o;
        o.protection = true;
        return o;
    }
    constexpr outcome block(bool silent, std::uint16_t source_id, access what,
                            std::uint64_t address, unsigned reason) {
        if (!silent) {
            std::uint64_t high = std::uint64_t{source_id} | std::uint64_t{reason} << 32 |
                                 std::uint64_t{!what.write} << 62;
            if (what.has_pasid) {
                high |= std::uint64_t{1} << 31 | std::uint64_t{what.pasid} << 40 |
                        std::uint64_t{what.execute} << 30 | std::uint64_t{what.privileged} << 29;
            }
            record(address & ~std::uint64_t{0xFFF}, high);
        }
        outcome o;
        o.reason = reason;
        return o;
    }
};

} // namespace vtd_model
