// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/vcpu/bit_range.hpp"
#include "pt/vcpu/bitmap_change.hpp"
#include "pt/vcpu/msr.hpp"
#include "pt/vcpu/protected_msrs.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vmx {

/// What of the x2APIC's MSRs the processor does by itself on the virtual-APIC page [sdm,
/// Virtualizing MSR-Based APIC Accesses], and so which of them need not exit. Each level includes
/// those above.
///
/// Only where the VMCS has the controls named here, and only while the guest's own APIC is in
/// x2APIC mode: the processor does these accesses whatever that mode is, and raises no #GP where
/// the guest's APIC would. With a control missing an open MSR is the *real* APIC's.
enum class x2apic_virtualization : std::uint8_t {
    /// All of 800H..8FFH exits. Right for every setting of the controls.
    none,
    /// 808H (TPR). "Virtualize x2APIC mode" and "use TPR shadow". Who wants to know of a TPR that
    /// falls sets the TPR threshold.
    tpr_shadow,
    /// Also reads of the registers that lie still in the page. "APIC-register virtualization" in
    /// addition. The page is one in x2APIC mode: ID and LDR are its, and bytes 7:4 of each register
    /// are 0.
    register_reads,
    /// Also reads of PPR, and writes of 80BH (EOI) and 83FH (self-IPI). "Virtual-interrupt
    /// delivery" and what that demands ("external-interrupt exiting") in addition to all of the
    /// above.
    interrupt_delivery,
};

/// The MSR bitmaps [sdm, MSR-Bitmap Address]: a 4-KiB page with a bit for each MSR in 0H..1FFFH and
/// in C0000000H..C0001FFFH, first for reads and then for writes. Closed: the bit is 1, RDMSR or
/// WRMSR exits; open: it is done on the real register. All other MSRs always exit.
///
/// A handle on a page of the VMM, who puts its hpa into the VMCS and sets "use MSR bitmaps". As
/// with the I/O bitmaps it changes while no processor runs a guest with it [sdm, Software Access to
/// Related Structures], one processor changes it at a time, and exits() needs no lock.
class msr_bitmap {
public:
    /// Qwords in the page.
    static constexpr std::size_t word_count = 512;
    static constexpr vcpu::msr_range low_msrs{0x0000'0000, 0x0000'1FFF};
    static constexpr vcpu::msr_range high_msrs{0xC000'0000, 0xC000'1FFF};
    static constexpr vcpu::msr_range x2apic_msrs{0x800, 0x8FF};

    /// Takes over the page, 512 qwords, and closes every MSR, whatever it held.
    explicit constexpr msr_bitmap(std::uint64_t* page) : page_{page} {
        for (std::size_t i = 0; i != word_count; ++i) {
            atomic::store_relaxed(page_ + i, ~std::uint64_t{0});
        }
    }

    /// From now on this access to the real MSRs does not exit. errc::out_of_range with the first
    /// MSR for which the page has no bit, errc::refused with the first that never opens
    /// (vcpu::never_open); then nothing has changed.
    constexpr result<vcpu::bitmap_change> open(vcpu::msr_range msrs, vcpu::msr_access access) {
        check(msrs);
        const vcpu::msr_range group = msrs.first <= low_msrs.last ? low_msrs : high_msrs;
        if (!group.contains(msrs.first)) {
            return error{errc::out_of_range, msrs.first};
        }
        if (!group.contains(msrs.last)) {
            return error{errc::out_of_range, group.last + std::uint64_t{1}};
        }
        if (const result<> allowed = vcpu::check_unprotected(msrs, access); !allowed) {
            return allowed.error();
        }
        return vcpu::bitmap_change{.opened = fill(msrs, access, 0)};
    }
    constexpr result<vcpu::bitmap_change> open(std::uint32_t msr, vcpu::msr_access access) {
        return open({msr, msr}, access);
    }

    /// From now on this access to the MSRs exits; those without a bit do so anyway.
    constexpr vcpu::bitmap_change close(vcpu::msr_range msrs, vcpu::msr_access access) {
        check(msrs);
        return {.closed = fill(msrs, access, ~std::uint64_t{0})};
    }
    constexpr vcpu::bitmap_change close(std::uint32_t msr, vcpu::msr_access access) {
        return close({msr, msr}, access);
    }

    /// Opens of the x2APIC's MSRs what the processor virtualizes, and closes the rest of
    /// 800H..8FFH.
    constexpr vcpu::bitmap_change virtualize_x2apic(x2apic_virtualization by_the_processor) {
        // Registers 00H..3FH are the first qword's; 40H on are none [sdm, x2APIC Register Address
        // Space].
        vcpu::bitmap_change change;
        for (std::uint32_t word = 0; word != x2apic_words; ++word) {
            const bool registers = word == 0;
            change |= replace(word_of(x2apic_msrs.first, vcpu::msr_access::read) + word,
                              ~(registers ? open_reads(by_the_processor) : 0));
            change |= replace(word_of(x2apic_msrs.first, vcpu::msr_access::write) + word,
                              ~(registers ? open_writes(by_the_processor) : 0));
        }
        return change;
    }

    /// Whether the processor exits on RDMSR or WRMSR (for read_write: on either) of that MSR, the
    /// guest's ECX: always when it has no bit.
    [[nodiscard]] constexpr bool exits(std::uint32_t msr, vcpu::msr_access access) const {
        if (!low_msrs.contains(msr) && !high_msrs.contains(msr)) {
            return true;
        }
        return (vcpu::reads(access) && is_closed(msr, vcpu::msr_access::read)) ||
               (vcpu::writes(access) && is_closed(msr, vcpu::msr_access::write));
    }

private:
    static constexpr std::uint32_t words_per_bitmap = word_count / 4;
    static constexpr std::uint32_t x2apic_words = 4;

    static constexpr void check(vcpu::msr_range msrs) {
        expects(msrs.first <= msrs.last, "a range of MSRs ends before it begins");
    }

    /// The qword with the bit of `msr`, which has one; `access` is read or write. The four bitmaps:
    /// low reads, high reads, low writes, high writes.
    [[nodiscard]] static constexpr std::uint32_t word_of(std::uint32_t msr,
                                                         vcpu::msr_access access) {
        const std::uint32_t high = high_msrs.contains(msr) ? words_per_bitmap : 0;
        const std::uint32_t write = access == vcpu::msr_access::write ? 2 * words_per_bitmap : 0;
        return write + high + msr % (64 * words_per_bitmap) / 64;
    }
    [[nodiscard]] constexpr bool is_closed(std::uint32_t msr, vcpu::msr_access access) const {
        return (atomic::load_relaxed(page_ + word_of(msr, access)) >> (msr % 64) & 1) != 0;
    }

    constexpr bool fill(vcpu::msr_range msrs, vcpu::msr_access access, std::uint64_t value) {
        bool changed = false;
        for (const vcpu::msr_range group : {low_msrs, high_msrs}) {
            const std::uint32_t first = msrs.first > group.first ? msrs.first : group.first;
            const std::uint32_t last = msrs.last < group.last ? msrs.last : group.last;
            if (first > last) {
                continue;
            }
            if (vcpu::reads(access)) {
                changed |= fill_bitmap({first, last}, vcpu::msr_access::read, value);
            }
            if (vcpu::writes(access)) {
                changed |= fill_bitmap({first, last}, vcpu::msr_access::write, value);
            }
        }
        return changed;
    }
    /// One of the four bitmaps; it has bits for all of `msrs`.
    constexpr bool fill_bitmap(vcpu::msr_range msrs, vcpu::msr_access access, std::uint64_t value) {
        std::uint64_t* const words = page_ + word_of(msrs.first, access);
        const std::uint32_t first_bit = msrs.first % 64;
        const vcpu::bit_range bits{first_bit, first_bit + (msrs.last - msrs.first)};
        bool changed = false;
        for (std::uint32_t i = 0; i <= bits.last_word(); ++i) {
            changed |= vcpu::replace_bits(words + i, bits.mask(i), value);
        }
        return changed;
    }

    constexpr vcpu::bitmap_change replace(std::uint32_t word, std::uint64_t value) {
        const std::uint64_t before = atomic::load_relaxed(page_ + word);
        vcpu::replace_bits(page_ + word, ~std::uint64_t{0}, value);
        return {.opened = (before & ~value) != 0, .closed = (value & ~before) != 0};
    }

    /// Bit n: the register at 800H + n, which is that of the page at 16 * n.
    [[nodiscard]] static constexpr std::uint64_t registers(std::uint32_t first,
                                                           std::uint32_t last) {
        return vcpu::bit_range{first, last}.mask(0);
    }

    /// With "APIC-register virtualization" the processor reads whatever lies in the page, at any
    /// number and without a #GP. So the guest reads only registers that exist and can be read, and
    /// of which the page is true: not the current count (39H), which time changes and nobody writes
    /// there; not the ICR (30H), of which the page's form is that of xAPIC mode; not PPR (0AH)
    /// before the processor keeps it.
    [[nodiscard]] static constexpr std::uint64_t open_reads(x2apic_virtualization level) {
        std::uint64_t open = 0;
        if (level >= x2apic_virtualization::tpr_shadow) {
            open |= registers(0x08, 0x08);
        }
        if (level >= x2apic_virtualization::register_reads) {
            open |= registers(0x02, 0x03) | registers(0x0D, 0x0D) |
                    registers(0x0F, 0x0F); // ID, version, LDR, SVR
            open |= registers(0x10, 0x28); // ISR, TMR, IRR, ESR
            open |= registers(0x2F, 0x2F) | registers(0x32, 0x38) |
                    registers(0x3E, 0x3E); // LVT, counts, divide
        }
        if (level >= x2apic_virtualization::interrupt_delivery) {
            open |= registers(0x0A, 0x0A);
        }
        return open;
    }
    [[nodiscard]] static constexpr std::uint64_t open_writes(x2apic_virtualization level) {
        std::uint64_t open = 0;
        if (level >= x2apic_virtualization::tpr_shadow) {
            open |= registers(0x08, 0x08);
        }
        if (level >= x2apic_virtualization::interrupt_delivery) {
            open |= registers(0x0B, 0x0B) | registers(0x3F, 0x3F);
        }
        return open;
    }

    std::uint64_t* page_;
};

} // namespace pt::vmx
