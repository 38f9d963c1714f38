// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"

#include <cstddef>
#include <cstdint>

/// A remapping unit in legacy mode, written from the VT-d specification [vt-d] and from nothing
/// else: offsets and bits are plain numbers, so that a wrong one in pt does not agree with itself.
/// It is stricter than hardware and than QEMU: what the manual forbids is blamed, its caches keep
/// what was not invalidated, and nothing is finished at once.
namespace vtd_model {

// Registers [vt-d, "Register Descriptions"]
inline constexpr std::uint32_t VER = 0x00;
inline constexpr std::uint32_t CAP = 0x08;
inline constexpr std::uint32_t ECAP = 0x10;
inline constexpr std::uint32_t GCMD = 0x18;
inline constexpr std::uint32_t GSTS = 0x1C;
inline constexpr std::uint32_t RTADDR = 0x20;
inline constexpr std::uint32_t CCMD = 0x28;
inline constexpr std::uint32_t FSTS = 0x34;

inline constexpr std::uint32_t TE = 1U << 31;
inline constexpr std::uint32_t SRTP = 1U << 30;
inline constexpr std::uint32_t SFL = 1U << 29;
inline constexpr std::uint32_t EAFL = 1U << 28;
inline constexpr std::uint32_t WBF = 1U << 27;
inline constexpr std::uint32_t QIE = 1U << 26;
inline constexpr std::uint32_t IRE = 1U << 25;
inline constexpr std::uint32_t SIRTP = 1U << 24;
inline constexpr std::uint32_t CFI = 1U << 23;
inline constexpr std::uint32_t persistent = TE | EAFL | QIE | IRE | CFI;
inline constexpr std::uint32_t once = SRTP | SFL | WBF | SIRTP;

/// CAP and ECAP as QEMU 7.2 reports them: 65536 domains, 3 and 4 levels, MGAW 48, one fault record
/// at 0x220, 2-MiB and 1-GiB pages, page-selective invalidation up to 2^18 pages, draining; queued
/// invalidation, interrupt remapping, pass-through, IVA at 0xF0.
inline constexpr std::uint64_t qemu_cap = 0x00d2'008c'222f'0606;
inline constexpr std::uint64_t qemu_ecap = 0x0000'0000'00f0'0f4a;

inline constexpr std::uint64_t cap_rwbf = 1U << 4;
inline constexpr std::uint64_t cap_cm = 1U << 7;
inline constexpr std::uint64_t cap_esrtps = std::uint64_t{1} << 63;

template <std::size_t Frames>
struct fake_unit : host<Frames> {
    using host<Frames>::blame;
    using host<Frames>::note;
    using self = fake_unit;

    // How it was built
    std::uint32_t ver = 0x10;
    std::uint64_t cap = qemu_cap;
    std::uint64_t ecap = qemu_ecap;
    unsigned host_address_width = 39;

    // Registers
    std::uint32_t gsts = 0;
    std::uint64_t rtaddr = 0;
    std::uint64_t ccmd = 0;
    std::uint64_t iva = 0;
    std::uint64_t iotlb = 0;
    std::uint32_t fsts = 0; ///< bits 7:2 and PFO; PPF and FRI are made up on reading
    std::uint64_t records[256][2]{};
    unsigned next_record = 0;
    unsigned first_pending = 0;
    unsigned pending_before = 0;

    // What the registers do not show
    std::uint64_t root = 0;
    bool has_root = false;
    unsigned owes = 0; ///< 2: context cache and IOTLB after SRTP; 1: IOTLB
    bool iva_is_fresh = false;

    // How it misbehaves
    unsigned latency = 2;   ///< how often a status is read before an order is carried out
    unsigned orders = 0;    ///< that were given so far
    unsigned stall_at = 0;  ///< the order, counted from 1, that is not carried out
    unsigned refuse_at = 0; ///< the invalidation, counted as orders, that is refused
    unsigned claim = 0;     ///< what that refusal puts into CAIG or IAIG
    unsigned accesses = 0;  ///< to registers so far
    unsigned vanish_at = 0; ///< the access, counted from 1, at which the unit goes away
    bool gone = false;
    unsigned hostile_fri = 256; ///< below 256: what FSTS claims

    // Time, which passes when somebody looks at it
    std::uint64_t time = 0;
    std::uint64_t tick = 10'000'000;

    /// A device that sends a request after each store and each register write.
    struct {
        bool runs = false;
        std::uint16_t source_id = 0;
        std::uint64_t address = 0;
        bool write = false;
        outcome seen[256]{};
        std::size_t count = 0;
    } hammer;

    // ---- registers -----------------------------------------------------------------------------

    [[nodiscard]] constexpr std::uint32_t iva_at() const {
        return static_cast<std::uint32_t>(ecap >> 8 & 0x3FF) * 16;
    }
    [[nodiscard]] constexpr std::uint32_t record_at() const {
        return static_cast<std::uint32_t>(cap >> 24 & 0x3FF) * 16;
    }
    [[nodiscard]] constexpr unsigned record_count() const {
        return static_cast<unsigned>(cap >> 40 & 0xFF) + 1;
    }

    constexpr std::uint32_t read32(std::uint32_t at) {
        if (!present()) {
            return 0xFFFF'FFFF;
        }
        switch (at) {
        case VER: return ver;
        case GSTS: poll(command); return gsts;
        case FSTS: return fault_status();
        default: blame("a 32-bit read of no 32-bit register"); return 0;
        }
    }
    constexpr std::uint64_t read64(std::uint32_t at) {
        if (!present()) {
            return ~std::uint64_t{0};
        }
        switch (at) {
        case CAP: return cap;
        case ECAP: return ecap;
        case RTADDR: return rtaddr;
        case CCMD: poll(context); return ccmd;
        default: break;
        }
        if (at == iva_at() + 8) {
            poll(translation);
            return iotlb;
        }
        if (at >= record_at() && at < record_at() + 16 * record_count() && at % 8 == 0) {
            return records[(at - record_at()) / 16][at / 8 % 2];
        }
        blame("a 64-bit read of no 64-bit register");
        return 0;
    }
    constexpr void write32(std::uint32_t at, std::uint32_t value) {
        note(event::kind::write32, at, value);
        if (!present()) {
            return;
        }
        if (at == GCMD) {
            give_order(value);
        } else if (at == FSTS) {
            if ((value & 0xFFFF'0000) != 0) {
                blame("reserved bits of FSTS");
            }
            fsts &= ~(value & 0xFD);
        } else if (at >= record_at() && at < record_at() + 16 * record_count() && at % 16 == 12) {
            if ((value & 0x8000'0000) != 0) {
                records[(at - record_at()) / 16][1] &= ~(std::uint64_t{1} << 63);
            }
        } else {
            blame("a 32-bit write to no such register");
        }
        between();
    }
    constexpr void write64(std::uint32_t at, std::uint64_t value) {
        note(event::kind::write64, at, value);
        if (!present()) {
            return;
        }
        if (at == RTADDR) {
            if ((value & 0x3FF) != 0 || (value >> 10 & 3) == 2) {
                blame("reserved bits of RTADDR");
            }
            const bool aborting = (rtaddr >> 10 & 3) == 3;
            if ((gsts & TE) != 0 && ((value ^ rtaddr) >> 10 & 3) != 0 && !aborting) {
                blame("another table mode while translation is on");
            }
            if ((value >> host_address_width) != 0) {
                blame("a root table beyond the host address width");
            }
            rtaddr = value;
        } else if (at == CCMD) {
            write_context_command(value);
        } else if (at == iva_at()) {
            if ((value & 0xF80) != 0) {
                blame("reserved bits of IVA");
            }
            by_register();
            if (iotlb >> 63 != 0) {
                blame("IVA written during an invalidation");
            }
            iva = value;
            iva_is_fresh = true;
        } else if (at == iva_at() + 8) {
            write_iotlb(value);
        } else {
            blame("a 64-bit write to no such register");
        }
        between();
    }

    /// Whatever happens between two steps of the software.
    constexpr void between() {
        if (hammer.runs && hammer.count < 256) {
            hammer.seen[hammer.count++] = request(hammer.source_id, hammer.address, hammer.write);
        }
    }

    /// What was stalled is carried out late, and nothing stalls, is refused or vanishes any more.
    constexpr void recover() {
        stall_at = refuse_at = vanish_at = 0;
        gone = false;
        context.stalled = translation.stalled = false; // done when they are looked at again
        if (command.active && command.stalled) {
            command.active = command.stalled = false;
            carry_out(static_cast<std::uint32_t>(command.value));
        }
    }

    // ---- requests ------------------------------------------------------------------------------

    /// A request without PASID of `source_id`. The unit must be ready for it.
    constexpr outcome dma(std::uint16_t source_id, std::uint64_t address, bool write) {
        if ((gsts & TE) != 0 && owes != 0) {
            blame("translated before the caches were emptied after SRTP");
        }
        return request(source_id, address, write);
    }

    /// Puts a fault into the next record, as hardware does.
    constexpr void record(std::uint64_t low, std::uint64_t high) {
        update_pending();
        if ((fsts & 1) != 0) {
            return;
        }
        if (records[next_record][1] >> 63 != 0) {
            fsts |= 1;
            return;
        }
        if (pending_before == 0) {
            first_pending = next_record;
        }
        records[next_record][0] = low;
        records[next_record][1] = high | std::uint64_t{1} << 63;
        next_record = (next_record + 1) % record_count();
        pending_before = 1;
    }

    [[nodiscard]] constexpr std::size_t cached_contexts() const { return count(contexts); }
    [[nodiscard]] constexpr std::size_t cached_translations() const { return count(pages); }

private:
    /// An order under way: carried out when its status was read often enough.
    struct order {
        bool active = false;
        bool stalled = false;
        bool refused = false;
        unsigned polls = 0;
        std::uint64_t value = 0;
    };
    order command;
    order context;
    order translation;

    struct cached_context {
        bool valid = false;
        std::uint16_t source_id = 0;
        std::uint16_t domain_id = 0;
        bool present = false;
        unsigned reason = 0;
        std::uint64_t low = 0;
        std::uint64_t high = 0;
    };
    struct cached_page {
        bool valid = false;
        std::uint16_t domain_id = 0;
        std::uint64_t address = 0;
        std::uint64_t size = 0;
        std::uint64_t to = 0;
        bool read = false;
        bool write = false;
        bool present = false;
    };
    /// The paging-structure cache: where the table for `address` at `level` lies.
    struct cached_table {
        bool valid = false;
        std::uint16_t domain_id = 0;
        unsigned level = 0;
        std::uint64_t address = 0;
        std::uint64_t size = 0;
        std::uint64_t table = 0;
        bool read = false;
        bool write = false;
    };
    cached_context contexts[16]{};
    cached_page pages[64]{};
    cached_table tables[32]{};
    std::size_t next_context = 0;
    std::size_t next_page = 0;
    std::size_t next_table = 0;

    template <class Cache>
    static constexpr std::size_t count(const Cache& cache) {
        std::size_t valid = 0;
        for (const auto& entry : cache) {
            valid += entry.valid ? 1 : 0;
        }
        return valid;
    }

    constexpr bool present() {
        if (++accesses == vanish_at) {
            gone = true;
        }
        return !gone;
    }
    [[nodiscard]] constexpr bool caching_mode() const { return (cap & cap_cm) != 0; }

    constexpr void update_pending() {
        pending_before = 0;
        for (unsigned i = 0; i < record_count(); ++i) {
            if (records[i][1] >> 63 != 0) {
                pending_before = 1;
            }
        }
    }
    constexpr std::uint32_t fault_status() {
        update_pending();
        const unsigned index = hostile_fri < 256 ? hostile_fri : first_pending;
        // FRI means nothing while no fault is pending.
        return fsts | pending_before << 1 | (pending_before != 0 ? index : 0xA5) << 8;
    }

    constexpr void begin(order& o, std::uint64_t value) {
        ++orders;
        o = {true, orders == stall_at, orders == refuse_at, latency, value};
    }
    constexpr void poll(order& o) {
        if (!o.active || o.stalled) {
            return;
        }
        if (o.polls > 0) {
            --o.polls;
            return;
        }
        o.active = false;
        if (&o == &command) {
            carry_out(static_cast<std::uint32_t>(o.value));
        } else if (&o == &context) {
            finish_context();
        } else {
            finish_iotlb();
        }
    }

    // ---- GCMD ----------------------------------------------------------------------------------

    static constexpr unsigned ones(std::uint32_t word) {
        unsigned n = 0;
        for (; word != 0; word &= word - 1) {
            ++n;
        }
        return n;
    }
    constexpr void give_order(std::uint32_t value) {
        if (command.active && !command.stalled) {
            blame("an order before the last one was carried out");
        }
        if ((value & ~(persistent | once)) != 0) {
            blame("reserved bits of GCMD");
        }
        const std::uint32_t changed = (value ^ gsts) & persistent;
        if (ones(changed) + ones(value & once) > 1) {
            blame("more than one change in GCMD"); // or a state bit that was lost
        }
        if ((value & WBF) != 0 && (cap & cap_rwbf) == 0) {
            blame("a write-buffer flush where there is no write buffer");
        }
        if ((changed & value & TE) != 0) {
            if (!has_root) {
                blame("translation enabled before a root table was set");
            }
            if (owes != 0) {
                blame("translation enabled before the caches were emptied after SRTP");
            }
        }
        if (changed == 0 && (value & once) == 0) {
            return; // everything is as it is to be
        }
        begin(command, value);
        if ((value & SRTP) != 0) {
            gsts &= ~SRTP;
        }
        if ((value & WBF) != 0) {
            gsts |= WBF;
        }
        if (latency == 0) {
            poll(command);
        }
    }
    constexpr void carry_out(std::uint32_t value) {
        if ((value & SRTP) != 0) {
            gsts |= SRTP;
            root = rtaddr & ~std::uint64_t{0xFFF};
            has_root = true;
            owes = 2;
            if ((cap & cap_esrtps) != 0) {
                drop_contexts(0, 0, 1);
                drop_pages(1, 0, 0, 0, true);
                owes = 0;
            }
        }
        if ((value & WBF) != 0) {
            gsts &= ~WBF;
            this->let_through();
        }
        gsts = (gsts & ~persistent) | (value & persistent);
    }

    // ---- invalidation --------------------------------------------------------------------------

    constexpr void by_register() {
        if ((gsts & QIE) != 0) {
            blame("invalidation by register while the queue is on");
        }
    }
    constexpr void write_context_command(std::uint64_t value) {
        if ((value & 0x1FFF'FFFC'0000'0000) != 0) {
            blame("reserved or read-only bits of CCMD");
        }
        if (ccmd >> 63 != 0) {
            blame("CCMD written during an invalidation");
        }
        by_register();
        ccmd = value;
        if (value >> 63 != 0) {
            begin(context, value);
            if (latency == 0) {
                poll(context);
            }
        }
    }
    constexpr void finish_context() {
        const std::uint64_t value = context.value;
        const auto asked = static_cast<unsigned>(value >> 61 & 3);
        unsigned done = asked;
        if (context.refused) {
            done = claim;
        } else if (asked == 0) {
            blame("a context invalidation of no granularity");
        } else {
            drop_contexts(static_cast<std::uint16_t>(value >> 16),
                          static_cast<std::uint16_t>(value), asked,
                          static_cast<unsigned>(value >> 32 & 3));
            if (asked == 1 && owes == 2) {
                owes = 1;
            }
        }
        ccmd = (value & ~(std::uint64_t{1} << 63)) | std::uint64_t{done} << 59;
    }
    /// granularity 1: all; 2: of the domain; 3: of the function in the domain.
    constexpr void drop_contexts(std::uint16_t source_id, std::uint16_t domain_id,
                                 unsigned granularity, unsigned function_mask = 0) {
        const unsigned ignored = function_mask == 0   ? 0
                                 : function_mask == 1 ? 4
                                 : function_mask == 2 ? 6
                                                      : 7;
        for (cached_context& entry : contexts) {
            const bool same_domain = entry.domain_id == domain_id;
            const bool same_function = ((entry.source_id ^ source_id) & ~ignored) == 0;
            if (granularity == 1 || (granularity == 2 && same_domain) ||
                (granularity == 3 && same_domain && same_function)) {
                entry.valid = false;
            }
        }
    }

    constexpr void write_iotlb(std::uint64_t value) {
        if ((value & 0x4FFC'0000'FFFF'FFFF) != 0) {
            blame("reserved or read-only bits of the IOTLB register");
        }
        if (iotlb >> 63 != 0) {
            blame("the IOTLB register written during an invalidation");
        }
        by_register();
        const bool reads = (value >> 49 & 1) != 0;
        const bool writes = (value >> 48 & 1) != 0;
        if (value >> 63 != 0 && (reads != (cap >> 55 & 1) || writes != (cap >> 54 & 1))) {
            blame("an invalidation that does not drain what the unit can drain");
        }
        iotlb = value;
        if (value >> 63 != 0) {
            begin(translation, value);
            if (latency == 0) {
                poll(translation);
            }
        }
    }
    constexpr void finish_iotlb() {
        const std::uint64_t value = translation.value;
        const auto asked = static_cast<unsigned>(value >> 60 & 3);
        const auto domain_id = static_cast<std::uint16_t>(value >> 32);
        unsigned done = asked;
        if (translation.refused) {
            done = claim;
        } else if (asked == 0) {
            blame("an IOTLB invalidation of no granularity");
        } else if (asked == 3) {
            const auto mask = static_cast<unsigned>(iva & 0x3F);
            const std::uint64_t address = iva & ~std::uint64_t{0xFFF};
            const std::uint64_t size = std::uint64_t{4096} << mask;
            if (!iva_is_fresh) {
                blame("a page-selective invalidation without a new IVA");
            }
            if ((cap >> 39 & 1) == 0 || mask > (cap >> 48 & 0x3F)) {
                blame("a page-selective invalidation that the unit cannot do");
                done = 0;
            } else {
                if ((address & (size - 1)) != 0) {
                    blame("a page-selective invalidation that is not aligned");
                }
                drop_pages(3, domain_id, address, size, (iva >> 6 & 1) == 0);
            }
            iva_is_fresh = false;
        } else {
            drop_pages(asked, domain_id, 0, 0, true);
            if (asked == 1 && owes == 1) {
                owes = 0;
            }
        }
        iotlb = (value & ~(std::uint64_t{1} << 63)) | std::uint64_t{done} << 57;
    }
    constexpr void drop_pages(unsigned granularity, std::uint16_t domain_id, std::uint64_t address,
                              std::uint64_t size, bool tables_too) {
        const auto hit = [&](const auto& entry) {
            return granularity == 1 ||
                   (entry.domain_id == domain_id &&
                    (granularity == 2 ||
                     (entry.address < address + size && address < entry.address + entry.size)));
        };
        for (cached_page& entry : pages) {
            entry.valid = entry.valid && !hit(entry);
        }
        for (cached_table& entry : tables) {
            entry.valid = entry.valid && !(tables_too && hit(entry));
        }
    }

    // ---- translation ---------------------------------------------------------------------------

    /// What the walker sees at `address`; false where there is no table.
    constexpr bool walk(std::uint64_t address, std::uint64_t& entry) {
        if (!self::is_frame(address)) {
            return false;
        }
        const std::size_t f = self::frame_of(address);
        if (!this->used[f]) {
            blame("hardware walked a frame that was given back");
            return false;
        }
        const std::size_t i = (address - self::base) / 8;
        entry = (cap & cap_rwbf) != 0 ? this->visible[i] : this->published[i];
        return true;
    }

    constexpr outcome request(std::uint16_t source_id, std::uint64_t address, bool write) {
        if ((gsts & TE) == 0) {
            return arrive(address, false);
        }
        if (address >> 20 == 0xFEE && write) {
            outcome o;
            o.interrupt = true;
            return o;
        }
        const cached_context entry = look_up(source_id);
        if (!entry.present) {
            return block(entry, source_id, address, write, entry.reason);
        }
        const auto type = static_cast<unsigned>(entry.low >> 2 & 3);
        const auto width = static_cast<unsigned>(entry.high & 7);
        if (type == 2) {
            if ((cap >> 8 & 0x1F) >> (width + 1) != 0) {
                blame("a pass-through entry without the largest width");
            }
            return finish(entry, source_id, address, write, address);
        }
        const unsigned levels = width + 2;
        const unsigned reach = 12 + 9 * levels;
        const auto mgaw = static_cast<unsigned>(cap >> 16 & 0x3F) + 1;
        const unsigned usable = reach < mgaw ? reach : mgaw;
        if (usable < 64 && address >> usable != 0) {
            return block(entry, source_id, address, write, 4);
        }
        return walk_tables(entry, source_id, address, write, levels);
    }

    constexpr cached_context look_up(std::uint16_t source_id) {
        for (const cached_context& entry : contexts) {
            if (entry.valid && entry.source_id == source_id) {
                return entry;
            }
        }
        cached_context found = walk_context(source_id);
        if (found.present || caching_mode()) {
            found.valid = true;
            contexts[next_context++ % 16] = found;
        }
        return found;
    }
    constexpr cached_context walk_context(std::uint16_t source_id) {
        cached_context found{.source_id = source_id}; // what is absent belongs to domain 0
        const auto blocked = [&](unsigned reason) {
            found.reason = reason;
            return found;
        };
        const std::uint64_t beyond = ~std::uint64_t{0} << host_address_width;
        std::uint64_t low = 0;
        std::uint64_t high = 0;
        const std::uint64_t root_entry = root + std::uint64_t{source_id} / 256 * 16;
        if (!walk(root_entry, low) || !walk(root_entry + 8, high)) {
            return blocked(0x8);
        }
        if ((low & 1) == 0) {
            return blocked(0x1);
        }
        if ((low & (0xFFE | beyond)) != 0 || high != 0) {
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
        if ((low & (0xFF0 | beyond)) != 0 || (high & 0xFFFF'FFFF'FF00'0080) != 0) {
            return blocked(0xB);
        }
        const auto type = static_cast<unsigned>(low >> 2 & 3);
        const auto width = static_cast<unsigned>(high & 7);
        if (width > 4 || (cap >> (8 + width) & 1) == 0 || type == 3 ||
            (type == 1 && (ecap >> 2 & 1) == 0) || (type == 2 && (ecap >> 6 & 1) == 0)) {
            return blocked(0x3);
        }
        found.domain_id = static_cast<std::uint16_t>(high >> 8);
        if (caching_mode() && found.domain_id == 0) {
            blame("domain id 0, which caching mode reserves");
        }
        if (found.domain_id >> (4 + 2 * (cap & 7)) != 0) {
            blame("a domain id that the unit does not have");
        }
        found.present = true;
        return found;
    }

    constexpr outcome walk_tables(const cached_context& entry, std::uint16_t source_id,
                                  std::uint64_t address, bool write, unsigned levels) {
        const unsigned no_right = write ? 5 : 6;
        for (const cached_page& page : pages) {
            if (page.valid && page.domain_id == entry.domain_id && page.address <= address &&
                address - page.address < page.size) {
                return page.present && (write ? page.write : page.read)
                           ? finish(entry, source_id, address, write,
                                    page.to + (address - page.address))
                           : block(entry, source_id, address, write, no_right);
            }
        }
        cached_table at{.level = levels, .table = entry.low & ~std::uint64_t{0xFFF}};
        at.read = at.write = true;
        for (const cached_table& table : tables) {
            if (table.valid && table.domain_id == entry.domain_id && table.address <= address &&
                address - table.address < table.size && table.level < at.level) {
                at = table;
            }
        }
        const std::uint64_t beyond =
            (~std::uint64_t{0} << host_address_width) & 0x000F'FFFF'FFFF'FFFF;
        for (;; --at.level) {
            const unsigned shift = 12 + 9 * (at.level - 1);
            const std::uint64_t size = std::uint64_t{1} << shift;
            std::uint64_t found = 0;
            if (!walk(at.table + (address >> shift) % 512 * 8, found)) {
                return block(entry, source_id, address, write, 0x7);
            }
            const bool may_read = at.read && (found & 1) != 0;
            const bool may_write = at.write && (found & 2) != 0;
            cached_page page{.valid = true,
                             .domain_id = entry.domain_id,
                             .address = address & ~(size - 1),
                             .size = size,
                             .to = found & 0x000F'FFFF'FFFF'FFFF & ~(size - 1),
                             .read = may_read,
                             .write = may_write,
                             .present = true};
            if ((found & 3) == 0) {
                if (caching_mode()) {
                    page.present = false;
                    pages[next_page++ % 64] = page;
                }
                return block(entry, source_id, address, write, no_right);
            }
            const bool leaf = at.level == 1 || (found & 0x80) != 0;
            std::uint64_t reserved = beyond;
            if (leaf) {
                reserved |= (size - 1) & ~std::uint64_t{0xFFF}; // below the page's address
                reserved |= (ecap >> 7 & 1) == 0 ? 0x800U : 0U; // SNP without snoop control
                reserved |= (ecap >> 2 & 1) == 0 ? std::uint64_t{1} << 62 : 0; // TM
            }
            const bool too_large =
                leaf && at.level > 1 && (at.level > 3 || (cap >> (32 + at.level) & 1) == 0);
            if ((found & reserved) != 0 || too_large) {
                return block(entry, source_id, address, write, 0xC);
            }
            if (leaf) {
                pages[next_page++ % 64] = page;
                return (write ? may_write : may_read)
                           ? finish(entry, source_id, address, write,
                                    page.to + (address - page.address))
                           : block(entry, source_id, address, write, no_right);
            }
            at.table = found & 0x000F'FFFF'FFFF'F000;
            at.read = may_read;
            at.write = may_write;
            tables[next_table++ % 32] = {true, entry.domain_id, at.level - 1, page.address,
                                         size, at.table,        may_read,     may_write};
        }
    }

    constexpr outcome finish(const cached_context& entry, std::uint16_t source_id,
                             std::uint64_t address, bool write, std::uint64_t to) {
        if (to >> 20 == 0xFEE) {
            return block(entry, source_id, address, write, 0xE);
        }
        return arrive(to, true);
    }
    constexpr outcome arrive(std::uint64_t to, bool translated) {
        if (self::is_frame(to)) {
            blame("a device reached the tables");
        }
        outcome o;
        o.reached = true;
        o.translated = translated;
        o.to = to;
        return o;
    }
    constexpr outcome block(const cached_context& entry, std::uint16_t source_id,
                            std::uint64_t address, bool write, unsigned reason) {
        if ((entry.low & 2) == 0) {
            record(address & ~std::uint64_t{0xFFF}, std::uint64_t{source_id} |
                                                        std::uint64_t{reason} << 32 |
                                                        std::uint64_t{!write} << 62);
        }
        outcome o;
        o.reason = reason;
        return o;
    }
};

/// The mmio_io over a fake unit.
template <class Unit>
struct registers {
    Unit* unit;

    constexpr std::uint32_t read32(std::uint32_t at) { return unit->read32(at); }
    constexpr std::uint64_t read64(std::uint32_t at) { return unit->read64(at); }
    constexpr void write32(std::uint32_t at, std::uint32_t value) { unit->write32(at, value); }
    constexpr void write64(std::uint32_t at, std::uint64_t value) { unit->write64(at, value); }
};

/// The clock over a fake unit.
template <class Unit>
struct fake_clock {
    Unit* unit;

    constexpr std::uint64_t now() { return unit->time += unit->tick; }
};

} // namespace vtd_model
