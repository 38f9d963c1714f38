// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pt::vmx {

/// The I/O bitmaps A and B [sdm]: one bit for each I/O port, 0x0000..0x7FFF in A and 0x8000..0xFFFF
/// in B; an access to a port whose bit is 1 exits. Closed: the bit is 1 and the access exits; open:
/// it goes to the real port.
///
/// This is a handle on two pages of the VMM, who puts their hpa into the VMCS. One handle changes the
/// pages at a time, and only while no processor runs a guest with them: what the processor does when
/// an I/O bitmap changes under it is not defined [sdm, Software Access to Related Structures].
class io_bitmap {
public:
    /// Qwords in each of the two 4-KiB pages.
    static constexpr std::size_t words_per_page = 512;
    static constexpr range<io_port> all_ports{io_port{0}, 0x1'0000};

    /// CONFIG_ADDRESS and CONFIG_DATA [pci], between which 0xCF9 is the reset register of PCs. A guest
    /// that reaches them reaches the configuration space of every device, so they never open.
    static constexpr range<io_port> protected_ports{io_port{0xCF8}, 8};

    /// Takes over the pages `a` and `b`, each 512 qwords, and closes every port, whatever they held.
    constexpr io_bitmap(std::uint64_t* a, std::uint64_t* b) : a_{a}, b_{b} { close(all_ports); }

    /// From now on accesses to `ports` do not exit. errc::refused with the first protected port in the
    /// range, and then nothing has changed.
    constexpr result<> open(range<io_port> ports) {
        if (ports.overlaps(protected_ports)) {
            return error{errc::refused, ports.intersection(protected_ports).first().raw};
        }
        fill(ports, all_open);
        return {};
    }

    /// From now on accesses to `ports` exit.
    constexpr void close(range<io_port> ports) { fill(ports, all_closed); }

    /// Whether the processor exits on an IN or OUT of that size at `port`: when any port that it touches
    /// is closed, and always when it runs past port 0xFFFF.
    [[nodiscard]] constexpr bool exits(io_port port, width size) const {
        const std::uint32_t end = port.raw + size_of(size);
        if (end > all_ports.size()) {
            return true;
        }
        for (std::uint32_t touched = port.raw; touched != end; ++touched) {
            if (is_closed(touched)) {
                return true;
            }
        }
        return false;
    }

private:
    static constexpr std::uint32_t ports_per_page = 64 * words_per_page;
    static constexpr std::uint64_t all_open = 0;
    static constexpr std::uint64_t all_closed = ~all_open;

    [[nodiscard]] constexpr bool is_closed(std::uint32_t port) const {
        const std::uint64_t* page = port < ports_per_page ? a_ : b_;
        return ((page[port % ports_per_page / 64] >> (port % 64)) & 1) != 0;
    }

    constexpr void fill(range<io_port> ports, std::uint64_t value) {
        if (ports.empty()) {
            return;
        }
        const std::uint32_t first = ports.first().raw;
        const std::uint32_t last = ports.last().raw;
        if (first < ports_per_page) {
            fill(a_, first, last < ports_per_page ? last : ports_per_page - 1, value);
        }
        if (last >= ports_per_page) {
            fill(b_, first < ports_per_page ? 0 : first - ports_per_page, last - ports_per_page,
                 value);
        }
    }

    /// Bits first..last of one page.
    static constexpr void fill(std::uint64_t* page, std::uint32_t first, std::uint32_t last,
                               std::uint64_t value) {
        const std::uint64_t head = ~std::uint64_t{0} << (first % 64);
        const std::uint64_t tail = ~std::uint64_t{0} >> (63 - last % 64);
        const std::uint32_t word = first / 64;
        const std::uint32_t last_word = last / 64;
        if (word == last_word) {
            replace(page[word], head & tail, value);
            return;
        }
        replace(page[word], head, value);
        fill_words(page + word + 1, last_word - word - 1, value);
        replace(page[last_word], tail, value);
    }

    static constexpr void fill_words(std::uint64_t* words, std::size_t count, std::uint64_t value) {
        if (std::is_constant_evaluated()) {
            for (std::size_t i = 0; i != count; ++i) {
                words[i] = value;
            }
        } else {
            // All bytes are alike. A freestanding compiler does not see that in the loop.
            __builtin_memset(words, static_cast<std::uint8_t>(value),
                             count * sizeof(std::uint64_t));
        }
    }

    static constexpr void replace(std::uint64_t& word, std::uint64_t mask, std::uint64_t value) {
        word = (word & ~mask) | (value & mask);
    }

    std::uint64_t* a_;
    std::uint64_t* b_;
};

} // namespace pt::vmx
