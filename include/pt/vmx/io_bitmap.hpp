// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/bit_range.hpp"
#include "pt/vcpu/bitmap_change.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::vmx {

/// The I/O bitmaps A and B [sdm]: one bit for each I/O port, 0x0000..0x7FFF in A and 0x8000..0xFFFF
/// in B; an access to a port whose bit is 1 exits. Closed: the bit is 1 and the access exits; open:
/// it goes to the real port.
///
/// This is a handle on two pages of the VMM, who puts their hpa into the VMCS. By the manual they
/// change only while no processor is in VMX non-root operation with a VMCS that refers to them;
/// what it does otherwise is unpredictable [sdm, Software Access to Related Structures]. opening()
/// and closing() say beforehand whether there is a reason to bring the processors out.
///
/// One processor changes the bitmap at a time; the VMM's lock sees to that. exits(), and so any
/// exit handler, needs no lock: it reads the pages alone, and finds each port as it was before a
/// change or as it is after. There is no list that a change could take away under a reader.
class io_bitmap {
public:
    /// Qwords in each of the two 4-KiB pages.
    static constexpr std::size_t words_per_page = 512;
    static constexpr range<io_port> all_ports{io_port{0}, 0x1'0000};

    /// CONFIG_ADDRESS and CONFIG_DATA [pci], between which 0xCF9 is the reset register of PCs. A
    /// guest that reaches them reaches the configuration space of every device, so they never open.
    static constexpr range<io_port> protected_ports{io_port{0xCF8}, 8};

    /// The ports of an I/O BAR at that address. A BAR has 32 bits and a guest writes all of them,
    /// so that a cast could make ports of any number: errc::out_of_range with the address where
    /// they do not all lie in 0..0xFFFF.
    [[nodiscard]] static constexpr result<range<io_port>> ports_of_bar(std::uint64_t address,
                                                                       std::uint64_t size) {
        if (address >= all_ports.size() || size > all_ports.size() - address) {
            return error{errc::out_of_range, address};
        }
        return range{io_port{static_cast<std::uint16_t>(address)}, size};
    }

    /// Takes over the pages `a` and `b`, each 512 qwords, and closes every port, whatever they
    /// held.
    constexpr io_bitmap(std::uint64_t* a, std::uint64_t* b) : io_bitmap{a, b, nullptr, 0} {}

    /// The same for a VMM that knows of `count` further ranges of ports of its machine which no
    /// guest may reach wherever it puts its BARs, e.g. interrupt controllers, timers, ACPI, its own
    /// console. They never open either. The array is read at each open, and outlives the bitmap.
    constexpr io_bitmap(std::uint64_t* a, std::uint64_t* b, const range<io_port>* also_protected,
                        std::size_t count)
        : a_{a}, b_{b}, also_protected_{also_protected}, also_protected_count_{count} {
        set_whole(a_, words_per_page, all_closed);
        set_whole(b_, words_per_page, all_closed);
    }

    /// From now on accesses to `ports` do not exit. errc::refused with the first protected port in
    /// the range, and then nothing has changed.
    constexpr result<vcpu::bitmap_change> open(range<io_port> ports) {
        if (ports.empty()) {
            return vcpu::bitmap_change{};
        }
        const vcpu::bit_range bits = bits_of(ports);
        if (touches_protected(bits)) [[unlikely]] {
            return refusal(ports);
        }
        return vcpu::bitmap_change{.opened = fill(bits, all_open)};
    }

    /// From now on accesses to `ports` exit.
    constexpr vcpu::bitmap_change close(range<io_port> ports) {
        return {.closed = !ports.empty() && fill(bits_of(ports), all_closed)};
    }

    /// What open(ports) would answer; nothing changes.
    [[nodiscard]] constexpr result<vcpu::bitmap_change> opening(range<io_port> ports) const {
        if (ports.empty()) {
            return vcpu::bitmap_change{};
        }
        const vcpu::bit_range bits = bits_of(ports);
        if (touches_protected(bits)) {
            return refusal(ports);
        }
        return vcpu::bitmap_change{.opened = differs(bits, all_open)};
    }

    /// What close(ports) would answer; nothing changes.
    [[nodiscard]] constexpr vcpu::bitmap_change closing(range<io_port> ports) const {
        return {.closed = !ports.empty() && differs(bits_of(ports), all_closed)};
    }

    /// Whether the processor exits on an IN, OUT, INS or OUTS of that size at `port`: when any port
    /// that it touches is closed, and always when it runs past port 0xFFFF.
    [[nodiscard]] constexpr bool exits(io_port port, width size) const {
        const std::uint32_t last = port.raw + size_of(size) - 1;
        if (last >= all_ports.size()) {
            return true;
        }
        const std::uint32_t shift = port.raw % 64;
        std::uint64_t bits = atomic::load_relaxed(word(port.raw / 64U)) >> shift;
        if (last / 64 != port.raw / 64U) {
            bits |= atomic::load_relaxed(word(last / 64)) << (64 - shift);
        }
        return (bits & ((std::uint64_t{1} << size_of(size)) - 1)) != 0;
    }

private:
    static constexpr std::uint64_t all_open = 0;
    static constexpr std::uint64_t all_closed = ~all_open;

    /// The qword with the bits of ports 64 * index on.
    [[nodiscard]] constexpr std::uint64_t* word(std::uint32_t index) const {
        return index < words_per_page ? a_ + index : b_ + (index - words_per_page);
    }
    /// The bits of `ports`, which is not empty, as if the pages lay side by side.
    [[nodiscard]] static constexpr vcpu::bit_range bits_of(range<io_port> ports) {
        const std::uint32_t first = ports.first().raw;
        return {first, first + static_cast<std::uint32_t>(ports.size()) - 1};
    }

    [[nodiscard]] constexpr bool touches_protected(vcpu::bit_range bits) const {
        constexpr vcpu::bit_range config = bits_of(protected_ports);
        if (bits.first <= config.last && config.first <= bits.last) {
            return true;
        }
        for (std::size_t i = 0; i != also_protected_count_; ++i) {
            const range<io_port> other = also_protected_[i];
            if (!other.empty() && bits.first <= bits_of(other).last &&
                bits_of(other).first <= bits.last) {
                return true;
            }
        }
        return false;
    }
    /// errc::refused with the first protected port in the range, of which there is one.
    [[nodiscard, gnu::cold, gnu::noinline]] constexpr error refusal(range<io_port> ports) const {
        range<io_port> hit = ports.intersection(protected_ports);
        for (std::size_t i = 0; i != also_protected_count_; ++i) {
            const range<io_port> other = ports.intersection(also_protected_[i]);
            if (!other.empty() && (hit.empty() || other.first() < hit.first())) {
                hit = other;
            }
        }
        return {errc::refused, hit.first().raw};
    }

    constexpr bool fill(vcpu::bit_range bits, std::uint64_t value) {
        const std::uint32_t first = bits.first_word();
        if (first == bits.last_word()) { // a BAR of up to 64 ports, as it is aligned
            return vcpu::replace_bits(word(first), bits.mask(first), value);
        }
        return fill_words(bits, value);
    }
    [[gnu::noinline]] constexpr bool fill_words(vcpu::bit_range bits, std::uint64_t value) {
        const std::uint32_t first = bits.first_word();
        const std::uint32_t last = bits.last_word();
        constexpr std::uint32_t page = words_per_page;
        bool changed = vcpu::replace_bits(word(first), bits.mask(first), value);
        std::uint32_t next = first + 1;
        if (next < page) {
            const std::uint32_t end = last < page ? last : page;
            changed |= fill_whole(a_ + next, end - next, value);
            next = end;
        }
        if (next < last) {
            changed |= fill_whole(b_ + (next - page), last - next, value);
        }
        changed |= vcpu::replace_bits(word(last), bits.mask(last), value);
        return changed;
    }
    [[nodiscard]] constexpr bool differs(vcpu::bit_range bits, std::uint64_t value) const {
        for (std::uint32_t i = bits.first_word(); i <= bits.last_word(); ++i) {
            if (((atomic::load_relaxed(word(i)) ^ value) & bits.mask(i)) != 0) {
                return true;
            }
        }
        return false;
    }

    /// What is right already is only looked at, up to the first word that is not.
    static constexpr bool fill_whole(std::uint64_t* words, std::size_t count, std::uint64_t value) {
        std::size_t right = 0;
        while (right != count && atomic::load_relaxed(words + right) == value) {
            ++right;
        }
        set_whole(words + right, count - right, value);
        return right != count;
    }
    static constexpr void set_whole(std::uint64_t* words, std::size_t count, std::uint64_t value) {
        // The BARs of [pci], which have 256 ports at most, end here.
        constexpr std::size_t few = 8;
        if (count <= few || std::is_constant_evaluated()) {
            for (std::size_t i = 0; i != count; ++i) {
                atomic::store_relaxed(words + i, value);
            }
        } else {
            // All bytes are alike, so that a word which is filled in pieces has no bit that is
            // neither old nor new. A freestanding compiler does not see that in the loop.
            __builtin_memset(words, static_cast<std::uint8_t>(value),
                             count * sizeof(std::uint64_t));
        }
    }

    std::uint64_t* a_;
    std::uint64_t* b_;
    const range<io_port>* also_protected_;
    std::size_t also_protected_count_;
};

} // namespace pt::vmx
