// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "live_entries.hpp"

#include <cstddef>
#include <cstdint>

namespace vtd_model {

/// How software makes a unit forget: by register, and by the queue [vt-d, "Invalidation of
/// Translation Caches"].
struct unit_invalidation : unit_live_entries {
    using unit_live_entries::unit_live_entries;

    // Registers
    std::uint64_t ccmd = 0;
    std::uint64_t iva = 0;
    std::uint64_t iotlb = 0;
    std::uint64_t iqa = 0;
    std::uint64_t iqh = 0;
    std::uint64_t iqt = 0;
    std::uint64_t iqercd = 0;

    bool iva_is_fresh = false;
    bool owes_interrupts = false; ///< the interrupt entry cache after SIRTP

    // How the queue behaves. All of them are orders, counted from 1 as for stall_at.
    unsigned descriptors_per_look = 16;
    unsigned device_latency = 3;      ///< looks until a device confirms, or is given up
    unsigned error_at = 0;            ///< this descriptor is invalid: IQE
    unsigned time_out_at = 0;         ///< this one's device never confirms: ITE
    unsigned completion_error_at = 0; ///< ICE while this one is carried out, which goes well
    unsigned late_at = 0;             ///< the status of this wait is written by deliver_late()
    std::uint16_t guilty = 0;         ///< the device that is named when the descriptor names none
    std::uint64_t descriptors = 0;    ///< that were carried out

    /// What was held back comes now.
    constexpr void deliver_late() {
        for (std::size_t i = 0; i < late_count; ++i) {
            finish_wait(late[i]);
        }
        late_count = 0;
    }
    [[nodiscard]] constexpr std::size_t late_waits() const { return late_count; }
    [[nodiscard]] constexpr std::size_t pending_waits() const { return wait_count; }
    [[nodiscard]] constexpr bool queue_is_stalled() const { return queue_stalled; }

    /// Time passes for the queue: when the clock is read, and FSTS, IQH or ICS.
    constexpr void look() {
        if (gone) {
            return;
        }
        if (device_requests != 0) {
            if (device_timer > 0) {
                --device_timer;
            } else {
                end_device_requests();
            }
        }
        if (queue_polls > 0) {
            --queue_polls;
            return;
        }
        for (unsigned n = 0; n < descriptors_per_look && running(); ++n) {
            take_descriptor();
        }
    }

protected:
    order context;
    order translation;

    struct wait {
        std::uint64_t address = 0;
        std::uint32_t data = 0;
        bool writes = false;
        bool interrupts = false;
    };
    static constexpr std::size_t shadow_words = 2048;
    std::uint64_t
        shadow[shadow_words]{}; ///< the descriptors as they were when the tail was written
    wait waits[64]{};
    std::size_t wait_count = 0;
    wait late[8]{};
    std::size_t late_count = 0;
    bool fenced = false;
    bool queue_stalled = false;
    unsigned queue_polls = 0;
    unsigned device_requests = 0; ///< that no device has confirmed yet
    unsigned device_timer = 0;
    bool device_times_out = false;
    std::uint16_t device_blamed = 0;

    [[nodiscard]] constexpr bool wide_descriptors() const { return (iqa & 0x800) != 0; }
    [[nodiscard]] constexpr std::uint64_t descriptor_size() const {
        return wide_descriptors() ? 32 : 16;
    }
    [[nodiscard]] constexpr std::uint64_t queue_size() const {
        return std::uint64_t{4096} << (iqa & 7);
    }
    [[nodiscard]] constexpr std::uint64_t queue_base() const { return iqa & ~std::uint64_t{0xFFF}; }
    [[nodiscard]] constexpr bool running() const {
        return (gsts & QIE) != 0 && (fsts & (IQE | ITE)) == 0 && !queue_stalled && !fenced &&
               iqh != iqt;
    }

    // ---- by register ---------------------------------------------------------------------------

    constexpr void by_register() {
        if ((gsts & QIE) != 0) {
            memory->blame("invalidation by register while the queue is on");
        }
        if (table_mode == 1) {
            memory->blame("invalidation by register in scalable mode");
        }
    }
    constexpr void write_context_command(std::uint64_t value) {
        if ((value & 0x1FFF'FFFC'0000'0000) != 0) {
            memory->blame("reserved or read-only bits of CCMD");
        }
        if (ccmd >> 63 != 0) {
            memory->blame("CCMD written during an invalidation");
        }
        if (iotlb >> 63 != 0) {
            memory->blame("CCMD written during an invalidation of the IOTLB");
        }
        by_register();
        ccmd = value;
        if (value >> 63 != 0) {
            begin(context, value);
            if (latency == 0) {
                poll_context();
            }
        }
    }
    constexpr void poll_context() {
        if (!ripe(context)) {
            return;
        }
        const std::uint64_t value = context.value;
        const auto asked = static_cast<unsigned>(value >> 61 & 3);
        unsigned done = asked;
        if (context.refused) {
            done = claim;
        } else if (asked == 0) {
            memory->blame("a context invalidation of no granularity");
        } else {
            forget_contexts(static_cast<std::uint16_t>(value >> 16),
                            static_cast<std::uint16_t>(value), asked,
                            static_cast<unsigned>(value >> 32 & 3));
        }
        ccmd = (value & ~(std::uint64_t{1} << 63)) | std::uint64_t{done} << 59;
    }

    constexpr void check_drains(bool reads, bool writes) {
        if (reads != (cap >> 55 & 1) || writes != (cap >> 54 & 1)) {
            memory->blame("an invalidation that does not drain what the unit can drain");
        }
    }
    constexpr void write_iotlb(std::uint64_t value) {
        if ((value & 0x4FFC'0000'FFFF'FFFF) != 0) {
            memory->blame("reserved or read-only bits of the IOTLB register");
        }
        if (iotlb >> 63 != 0) {
            memory->blame("the IOTLB register written during an invalidation");
        }
        if (ccmd >> 63 != 0) {
            memory->blame("the IOTLB register written during one of the context cache");
        }
        by_register();
        if (value >> 63 != 0) {
            check_drains((value >> 49 & 1) != 0, (value >> 48 & 1) != 0);
        }
        iotlb = value;
        if (value >> 63 != 0) {
            begin(translation, value);
            if (latency == 0) {
                poll_iotlb();
            }
        }
    }
    constexpr void poll_iotlb() {
        if (!ripe(translation)) {
            return;
        }
        const std::uint64_t value = translation.value;
        const auto asked = static_cast<unsigned>(value >> 60 & 3);
        const auto domain_id = static_cast<std::uint16_t>(value >> 32);
        unsigned done = asked;
        if (translation.refused) {
            done = claim;
        } else if (asked == 0) {
            memory->blame("an IOTLB invalidation of no granularity");
        } else if (asked == 3) {
            if (!iva_is_fresh) {
                memory->blame("a page-selective invalidation without a new IVA");
            }
            if (!forget_some_pages(domain_id, iva)) {
                done = 0;
            }
            iva_is_fresh = false;
        } else {
            forget_pages(asked, domain_id);
        }
        iotlb = (value & ~(std::uint64_t{1} << 63)) | std::uint64_t{done} << 57;
    }

    // ---- what both ways do ---------------------------------------------------------------------

    constexpr void forget_contexts(std::uint16_t source_id, std::uint16_t domain_id,
                                   unsigned granularity, unsigned function_mask) {
        drop_contexts(source_id, domain_id, granularity, function_mask);
        settle_contexts(source_id, domain_id, granularity, function_mask);
        if (granularity == 1 && owes == 3) {
            owes = table_mode == 1 ? 2 : 1;
        }
    }
    constexpr void forget_pasids(std::uint32_t pasid, std::uint16_t domain_id,
                                 unsigned granularity) {
        drop_pasids(pasid, domain_id, granularity);
        settle_pasids(pasid, domain_id, granularity);
        if (granularity == 3 && owes == 2) {
            owes = 1;
        }
    }
    constexpr void forget_pages(unsigned granularity, std::uint16_t domain_id) {
        drop_pages(granularity, domain_id, 0, 0, true);
        if (granularity == 1 && owes == 1) {
            owes = 0;
        }
    }
    /// The address, the hint and the mask of a page-selective invalidation, from IVA or a
    /// descriptor; false where the unit cannot do that.
    constexpr bool can_do_pages(std::uint64_t pages_asked) {
        const auto mask = static_cast<unsigned>(pages_asked & 0x3F);
        if ((cap >> 39 & 1) == 0 || mask > (cap >> 48 & 0x3F)) {
            memory->blame("a page-selective invalidation that the unit cannot do");
            return false;
        }
        const std::uint64_t size = std::uint64_t{4096} << mask;
        if ((pages_asked & ~std::uint64_t{0xFFF} & (size - 1)) != 0) {
            memory->blame("a page-selective invalidation that is not aligned");
        }
        return true;
    }
    constexpr bool forget_some_pages(std::uint16_t domain_id, std::uint64_t pages_asked) {
        if (!can_do_pages(pages_asked)) {
            return false;
        }
        drop_pages(3, domain_id, pages_asked & ~std::uint64_t{0xFFF},
                   std::uint64_t{4096} << (pages_asked & 0x3F), (pages_asked >> 6 & 1) == 0);
        return true;
    }
    constexpr void forget_interrupts(bool all, unsigned index, unsigned mask) {
        drop_interrupts(all, index, mask);
        settle_interrupts(all, index, mask);
        owes_interrupts = owes_interrupts && !all;
    }

    // ---- the queue -----------------------------------------------------------------------------

    constexpr void queue_error(unsigned why) {
        iqercd = (iqercd & ~std::uint64_t{0xF}) | why;
        report(IQE);
    }
    constexpr void write_queue_address(std::uint64_t value) {
        if ((value & 0x7F8) != 0 || value >> host_address_width != 0) {
            memory->blame("reserved bits of IQA");
        }
        if ((value & 0x800) != 0 && (ecap & (ecap_smts | ecap_adms)) == 0) {
            memory->blame("256-bit descriptors without scalable mode");
        }
        if ((gsts & QIE) != 0) {
            memory->blame("IQA written while the queue is on");
        }
        iqa = value;
    }
    constexpr void write_queue_tail(std::uint64_t value) {
        if ((value & ~std::uint64_t{0x7'FFF0}) != 0) {
            memory->blame("reserved bits of IQT");
            value &= 0x7'FFF0;
        }
        const std::uint64_t before = iqt;
        iqt = value;
        if ((gsts & QIE) == 0) {
            return;
        }
        if (value >= queue_size()) {
            memory->blame("a tail beyond the queue");
            queue_error(1);
            return;
        }
        if (value % descriptor_size() != 0) {
            memory->blame("a tail inside a descriptor");
            queue_error(6);
            return;
        }
        const std::uint64_t size = queue_size();
        const std::uint64_t waiting = (before - iqh) & (size - 1);
        const std::uint64_t added = (value - before) & (size - 1);
        if (waiting + added >= size) {
            memory->blame("the queue was overrun");
        }
        for (std::uint64_t at = before; at != value; at = (at + 8) & (size - 1)) {
            remember(at);
        }
        if (waiting == 0) {
            queue_polls = latency;
        }
        if (latency == 0) {
            look();
        }
    }
    constexpr void remember(std::uint64_t at) {
        if (memory->has(queue_base() + at)) {
            shadow[at / 8 % shadow_words] = memory->stored_at(queue_base() + at);
        }
    }
    /// Before QIES is set: what must be in order by then.
    constexpr void queue_starts() {
        if ((ecap & ecap_qi) == 0) {
            memory->blame("a queue on a unit that has none");
        }
        if (iqt != 0) {
            memory->blame("the queue switched on with a tail that is not 0");
        }
        if (ccmd >> 63 != 0 || iotlb >> 63 != 0) {
            memory->blame("the queue switched on during an invalidation by register");
        }
        if (asked_mode() == 1 && has_root && !wide_descriptors()) {
            memory->blame("128-bit descriptors in scalable mode");
        }
        const std::uint64_t last = queue_base() + queue_size() - 8;
        if (!memory->taken(queue_base()) || !memory->taken(last) ||
            queue_size() > shadow_words * 8) {
            memory->blame("a queue where the machine has no memory for it");
        }
    }
    constexpr void queue_stops() {
        const bool stuck = queue_stalled || (fsts & (IQE | ITE)) != 0;
        if (!stuck && (iqh != iqt || wait_count != 0)) {
            memory->blame("the queue switched off before it was empty");
        }
    }
    /// QIES is clear: nothing of the queue is under way any more.
    constexpr void queue_stopped() {
        deliver_late();
        wait_count = 0;
        iqh = 0;
        device_requests = 0;
        fenced = queue_stalled = false;
    }
    /// Software cleared an error: the descriptor at the head is read again.
    constexpr void queue_goes_on(std::uint32_t cleared) {
        if ((gsts & QIE) == 0) {
            return;
        }
        if ((cleared & IQE) != 0) {
            if (iqt >= queue_size()) {
                queue_error(1);
                return;
            }
            for (std::uint64_t i = 0; i < descriptor_size(); i += 8) {
                remember(iqh + i);
            }
            queue_polls = latency;
        }
    }

    constexpr void take_descriptor() {
        ++orders;
        if (orders == stall_at) {
            queue_stalled = true;
            return;
        }
        std::uint64_t word[4]{};
        for (std::uint64_t i = 0; i < descriptor_size() / 8; ++i) {
            const std::uint64_t at = iqh + i * 8;
            if (!memory->taken(queue_base() + at)) {
                memory->blame("the queue lies in a frame that was given back");
                queue_error(2);
                return;
            }
            word[i] = memory->stored_at(queue_base() + at);
            if (word[i] != shadow[at / 8 % shadow_words]) {
                memory->blame("a descriptor changed between head and tail");
            }
        }
        if (orders == error_at || orders == refuse_at) {
            queue_error(4);
            return;
        }
        const auto type = static_cast<unsigned>((word[0] & 0xF) | (word[0] >> 5 & 0x70));
        if (const unsigned wrong = fault_in(type, word); wrong != 0) {
            queue_error(wrong);
            return;
        }
        if (orders == completion_error_at) {
            iqercd = (iqercd & 0x0000'FFFF'FFFF'FFFF) | std::uint64_t{guilty} << 48;
            report(ICE);
        }
        ++descriptors;
        iqh = (iqh + descriptor_size()) & (queue_size() - 1);
        carry_out_descriptor(type, word[0], word[1]);
    }
    /// Why a descriptor is refused, as IQERCD says it; 0: it is not.
    [[nodiscard]] constexpr unsigned fault_in(unsigned type, const std::uint64_t (&word)[4]) const {
        // Types 6 and above are of scalable mode.
        const bool scalable = (ecap & ecap_smts) != 0 && asked_mode() == 1;
        if (!wide_descriptors() && asked_mode() == 1 && has_root) {
            return 5;
        }
        if ((word[2] | word[3]) != 0) {
            return type >= 1 && type <= 8 ? 4 : 3;
        }
        const auto granularity = static_cast<unsigned>(word[0] >> 4 & 3);
        const std::uint64_t mip = (ecap & ecap_dit) != 0 ? 0 : 0xFFF0'0000'0000'F000;
        std::uint64_t low = 0; // reserved bits
        std::uint64_t high = 0;
        switch (type) {
        case 1:
            low = 0xFFFC'0000'0000'F1C0;
            high = ~std::uint64_t{0};
            if (granularity == 0) {
                return 4;
            }
            break;
        case 2:
            low = 0xFFFF'FFFF'0000'F100;
            high = 0xF80;
            if (granularity == 0) {
                return 4;
            }
            break;
        case 3:
            if ((ecap & ecap_dt) == 0) {
                return 3;
            }
            low = 0x000F'0000'FFE0'01F0 | mip;
            high = 0xFFE;
            break;
        case 4:
            if ((ecap & ecap_ir) == 0) {
                return 3;
            }
            low = 0xFFFF'0000'07FF'F1E0;
            high = ~std::uint64_t{0};
            break;
        case 5:
            low = 0x0000'0000'FFFF'F100 | ((ecap & ecap_pds) != 0 ? 0U : 0x80U);
            high = 3;
            break;
        case 6:
            if (!scalable || granularity < 2) {
                return scalable ? 4 : 3;
            }
            low = 0xFFF0'0000'0000'F1C0;
            high = 0xF80;
            break;
        case 7:
            if (!scalable || granularity == 2) {
                return scalable ? 4 : 3;
            }
            low = 0xFFF0'0000'0000'F1C0;
            high = ~std::uint64_t{0};
            break;
        case 8:
            if (!scalable || (ecap & ecap_dt) == 0) {
                return 3;
            }
            low = mip;
            high = 0x7FE;
            break;
        default: return 3;
        }
        return (word[0] & low) != 0 || (word[1] & high) != 0 ? 4 : 0;
    }
    constexpr void carry_out_descriptor(unsigned type, std::uint64_t low, std::uint64_t high) {
        const auto granularity = static_cast<unsigned>(low >> 4 & 3);
        const auto domain_id = static_cast<std::uint16_t>(low >> 16);
        const auto pasid = static_cast<std::uint32_t>(low >> 32 & 0xF'FFFF);
        std::uint16_t device = guilty;
        bool of_device = false;
        switch (type) {
        case 1:
            forget_contexts(static_cast<std::uint16_t>(low >> 32), domain_id, granularity,
                            static_cast<unsigned>(low >> 48 & 3));
            break;
        case 2:
            check_drains((low >> 7 & 1) != 0, (low >> 6 & 1) != 0);
            if (granularity == 3) {
                (void)forget_some_pages(domain_id, high);
            } else {
                forget_pages(granularity, domain_id);
            }
            break;
        case 3:
            device = static_cast<std::uint16_t>(low >> 32);
            of_device = true;
            if (orders != time_out_at) {
                drop_device_pages(device, false, false, 0, high, (high & 1) != 0);
            }
            break;
        case 4:
            forget_interrupts((low >> 4 & 1) == 0, static_cast<unsigned>(low >> 32 & 0xFFFF),
                              static_cast<unsigned>(low >> 27 & 0x1F));
            break;
        case 5: take_wait(low, high); break;
        case 6:
            if (granularity == 2) {
                drop_pasid_pages(2, domain_id, pasid, 0, 0, true);
            } else if (can_do_pages(high)) {
                drop_pasid_pages(3, domain_id, pasid, high & ~std::uint64_t{0xFFF},
                                 std::uint64_t{4096} << (high & 0x3F), (high >> 6 & 1) == 0);
            }
            break;
        case 7: forget_pasids(pasid, domain_id, granularity); break;
        case 8:
            device = domain_id; // the source id has the same place
            of_device = true;
            if (orders != time_out_at) {
                drop_device_pages(device, true, (high & 1) != 0, pasid, high,
                                  (high >> 11 & 1) != 0);
            }
            break;
        default: break;
        }
        if (of_device || orders == time_out_at) {
            ++device_requests;
            device_timer = device_latency;
            if (orders == time_out_at) {
                device_times_out = true;
                device_blamed = device;
            }
        }
    }
    constexpr void take_wait(std::uint64_t low, std::uint64_t high) {
        const wait w{high & ~std::uint64_t{3}, static_cast<std::uint32_t>(low >> 32),
                     (low >> 5 & 1) != 0, (low >> 4 & 1) != 0};
        const auto same = [&](const wait& other) {
            return w.writes && other.writes && other.address == w.address && other.data == w.data;
        };
        bool reused = false;
        for (std::size_t i = 0; i < wait_count; ++i) {
            reused = reused || same(waits[i]);
        }
        for (std::size_t i = 0; i < late_count; ++i) {
            reused = reused || same(late[i]);
        }
        if (reused) {
            memory->blame("two waits with one status word and the same data");
        }
        if (orders == late_at && late_count < 8) {
            late[late_count++] = w;
        } else if (device_requests == 0) {
            finish_wait(w);
        } else if (wait_count < 64) {
            waits[wait_count++] = w;
            fenced = fenced || (low >> 6 & 1) != 0;
        } else {
            memory->blame("more waits at once than this fake can hold");
        }
    }
    constexpr void finish_wait(const wait& w) {
        if (w.writes) {
            const std::uint64_t at = w.address & ~std::uint64_t{7};
            if (!memory->taken(at)) {
                memory->blame("a status was written into a frame that was given back");
            } else {
                const auto shift = static_cast<unsigned>(w.address & 4) * 8;
                const std::uint64_t kept =
                    memory->stored_at(at) & ~(std::uint64_t{0xFFFF'FFFF} << shift);
                memory->write(at, kept | std::uint64_t{w.data} << shift);
            }
        }
        if (w.interrupts && (ics & 1) == 0) {
            ics |= 1;
            raise(message::kind::invalidation);
        }
    }
    constexpr void end_device_requests() {
        device_requests = 0;
        fenced = false;
        if (device_times_out) {
            device_times_out = false;
            wait_count = 0; // all that were taken are aborted
            iqercd = (iqercd & 0xFFFF'0000'FFFF'FFFF) | std::uint64_t{device_blamed} << 32;
            report(ITE);
            return;
        }
        for (std::size_t i = 0; i < wait_count; ++i) {
            finish_wait(waits[i]);
        }
        wait_count = 0;
    }

    /// A frame goes away that the queue may still need.
    constexpr void check_queue_frame(std::uint64_t frame) {
        if ((gsts & QIE) == 0) {
            return;
        }
        const auto within = [&](std::uint64_t address) {
            return (address & ~std::uint64_t{0xFFF}) == frame;
        };
        if (frame >= queue_base() && frame < queue_base() + queue_size()) {
            memory->blame("the queue's frame was given back while the queue is on");
        }
        bool awaited = false;
        for (std::size_t i = 0; i < wait_count; ++i) {
            awaited = awaited || (waits[i].writes && within(waits[i].address));
        }
        for (std::size_t i = 0; i < late_count; ++i) {
            awaited = awaited || (late[i].writes && within(late[i].address));
        }
        const std::uint64_t size = queue_size();
        std::uint64_t left = iqt < size ? (iqt - iqh) & (size - 1) : 0;
        for (std::uint64_t at = iqh; left >= descriptor_size(); left -= descriptor_size()) {
            const std::uint64_t low = shadow[at / 8 % shadow_words];
            const std::uint64_t high = shadow[(at / 8 + 1) % shadow_words];
            awaited = awaited || ((low & 0xF) == 5 && (low >> 5 & 1) != 0 && within(high));
            at = (at + descriptor_size()) & (size - 1);
        }
        if (awaited) {
            memory->blame("a frame was given back into which a status will be written");
        }
    }
    constexpr void reset_invalidation() {
        ccmd = iva = iotlb = iqa = iqh = iqt = iqercd = 0;
        iva_is_fresh = owes_interrupts = false;
        context = translation = {};
        wait_count = late_count = 0;
        fenced = queue_stalled = device_times_out = false;
        queue_polls = device_requests = device_timer = 0;
    }
};

} // namespace vtd_model
