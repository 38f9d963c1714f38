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

namespace pt::svm {

/// The MSR permissions map [amd, MSR Intercepts]: 8 KiB of contiguous memory, two bits for each
/// MSR, the low one for reads and the high one for writes, in vectors of 2 KiB for 0H..1FFFH,
/// C0000000H..C0001FFFH and C0010000H..C0011FFFH; the fourth is reserved. Closed: the bit is 1,
/// RDMSR or WRMSR is intercepted; open: it is done on the real register. All other MSRs are always
/// intercepted.
///
/// A handle on two pages of the VMM, who puts their hpa into MSRPM_BASE_PA and sets the intercept
/// MSR_PROT. One processor changes them at a time; exits() needs no lock.
class msr_permission_map {
public:
    /// Qwords in the two pages.
    static constexpr std::size_t word_count = 1024;
    /// Which MSRs have bits, in the order of the vectors.
    static constexpr vcpu::msr_range vectors[] = {
        {0x0000'0000, 0x0000'1FFF}, {0xC000'0000, 0xC000'1FFF}, {0xC001'0000, 0xC001'1FFF}};

    /// Takes over the pages, 1024 qwords, and closes every MSR, whatever they held.
    explicit constexpr msr_permission_map(std::uint64_t* pages) : pages_{pages} {
        for (std::size_t i = 0; i != word_count; ++i) {
            atomic::store_relaxed(pages_ + i, ~std::uint64_t{0});
        }
    }

    /// From now on this access to the real MSRs is not intercepted. errc::out_of_range with the
    /// first MSR that has no bits, errc::refused with the first that never opens (vcpu::never_open,
    /// among them the whole x2APIC); then nothing has changed.
    constexpr result<vcpu::bitmap_change> open(vcpu::msr_range msrs, vcpu::msr_access access) {
        check(msrs);
        for (std::uint32_t vector = 0; vector != vector_count; ++vector) {
            if (!vectors[vector].contains(msrs.first)) {
                continue;
            }
            if (!vectors[vector].contains(msrs.last)) {
                return error{errc::out_of_range, vectors[vector].last + std::uint64_t{1}};
            }
            if (const result<> allowed = vcpu::check_unprotected(msrs, access); !allowed) {
                return allowed.error();
            }
            return vcpu::bitmap_change{.opened = fill(vector, msrs, access, 0)};
        }
        return error{errc::out_of_range, msrs.first};
    }
    constexpr result<vcpu::bitmap_change> open(std::uint32_t msr, vcpu::msr_access access) {
        return open({msr, msr}, access);
    }

    /// From now on this access to the MSRs is intercepted; those without bits are so anyway.
    constexpr vcpu::bitmap_change close(vcpu::msr_range msrs, vcpu::msr_access access) {
        check(msrs);
        vcpu::bitmap_change change;
        for (std::uint32_t vector = 0; vector != vector_count; ++vector) {
            const vcpu::msr_range all = vectors[vector];
            const std::uint32_t first = msrs.first > all.first ? msrs.first : all.first;
            const std::uint32_t last = msrs.last < all.last ? msrs.last : all.last;
            if (first <= last) {
                change |= {.closed = fill(vector, {first, last}, access, ~std::uint64_t{0})};
            }
        }
        return change;
    }
    constexpr vcpu::bitmap_change close(std::uint32_t msr, vcpu::msr_access access) {
        return close({msr, msr}, access);
    }

    /// Whether the processor exits on RDMSR or WRMSR (for read_write: on either) of that MSR, the
    /// guest's ECX: always when it has no bits.
    [[nodiscard]] constexpr bool exits(std::uint32_t msr, vcpu::msr_access access) const {
        for (std::uint32_t vector = 0; vector != vector_count; ++vector) {
            if (vectors[vector].contains(msr)) {
                const std::uint32_t bit = 2 * (msr - vectors[vector].first);
                const std::uint64_t word =
                    atomic::load_relaxed(pages_ + words_per_vector * vector + bit / 64);
                return (word >> (bit % 64) & static_cast<std::uint64_t>(access)) != 0;
            }
        }
        return true;
    }

private:
    static constexpr std::uint32_t vector_count = 3;
    static constexpr std::size_t words_per_vector = 256;

    static constexpr void check(vcpu::msr_range msrs) {
        expects(msrs.first <= msrs.last, "a range of MSRs ends before it begins");
    }

    /// Sets the bits of that access for all of `msrs`, which lie in that vector, to those of
    /// `value`.
    constexpr bool fill(std::uint32_t vector, vcpu::msr_range msrs, vcpu::msr_access access,
                        std::uint64_t value) {
        // The numbers of msr_access are the two bits of an MSR; here they are 32 times side by
        // side.
        const std::uint64_t accesses = 0x5555'5555'5555'5555 * static_cast<std::uint64_t>(access);
        const vcpu::bit_range bits{2 * (msrs.first - vectors[vector].first),
                                   2 * (msrs.last - vectors[vector].first) + 1};
        std::uint64_t* const words = pages_ + words_per_vector * vector;
        bool changed = false;
        for (std::uint32_t i = bits.first_word(); i <= bits.last_word(); ++i) {
            changed |= vcpu::replace_bits(words + i, bits.mask(i) & accesses, value);
        }
        return changed;
    }

    std::uint64_t* pages_;
};

} // namespace pt::svm
