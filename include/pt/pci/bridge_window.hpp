// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <bit>
#include <cstdint>

namespace pt::pci {

/// What a PCI-to-PCI bridge forwards to the buses behind it [pci-bridge].
enum class window_kind : std::uint8_t {
    io,           ///< ports; a bridge may lack it
    memory,       ///< memory that must not be prefetched, in the first 4 GiB
    prefetchable, ///< memory that may be; a bridge may lack it
};

/// Windows begin and end at multiples of this: 4 KiB of ports, 1 MiB of memory.
[[nodiscard]] constexpr std::uint64_t window_granularity(window_kind kind) {
    return kind == window_kind::io ? 4 * KiB : 1 * MiB;
}

/// A window of a bridge: the addresses from base to limit, both included. The bridge forwards them
/// only while its Command allows that space.
struct bridge_window {
    window_kind kind = window_kind::memory;
    std::uint64_t base = 0;
    std::uint64_t limit = 0;
    /// How wide its addresses are, says the bridge: 16 or 32 for ports, 32 or 64 for memory.
    std::uint8_t address_bits = 32;

    [[nodiscard]] constexpr bool contains(std::uint64_t address) const {
        return base <= address && address <= limit;
    }

    friend constexpr bool operator==(const bridge_window&, const bridge_window&) = default;
};

/// The registers of one window. Base and Limit stand side by side and change at once; their upper
/// halves, if there are any, stand apart. Those of the I/O window are half as wide as the others',
/// and otherwise alike.
template <config_access Config>
class window_registers {
public:
    constexpr window_registers(Config config, function_address bridge, window_kind kind)
        : config_{config}, bridge_{bridge}, kind_{kind} {}

    /// Base and Limit as addresses, upper halves included. The four bits that tell how wide the
    /// addresses are stay right below the address.
    struct value {
        std::uint64_t base = 0;
        std::uint64_t limit = 0;

        friend constexpr bool operator==(const value&, const value&) = default;
    };

    [[nodiscard]] constexpr bool of_a_bridge() {
        return pci::read<header_type>(config_, bridge_)[header_type::layout] ==
               header_layout::bridge;
    }
    /// Of Base; errors name the window by it.
    [[nodiscard]] constexpr std::uint16_t offset() const {
        switch (kind_) {
        case window_kind::io: return io_base::offset;
        case window_kind::memory: return memory_base::offset;
        case window_kind::prefetchable: break;
        }
        return prefetchable_memory_base::offset;
    }
    /// How many bits of an address Base and Limit know of; the upper halves have as many more.
    [[nodiscard]] constexpr unsigned lower_bits() const { return 8 * size_of(lower_half()); }

    /// Base and Limit with these addresses, and with what tells their width as in `held`.
    [[nodiscard]] constexpr value placed(const value& held, std::uint64_t base,
                                         std::uint64_t limit) const {
        return {(base & ~low_bits()) | (held.base & low_bits()),
                (limit & ~low_bits()) | (held.limit & low_bits())};
    }
    /// A window that forwards nothing: its base is above its limit.
    [[nodiscard]] constexpr value closed(const value& held) const {
        return placed(held, all_ones(lower_half()), 0);
    }
    [[nodiscard]] constexpr bridge_window decode(const value& held) const {
        return {kind_, held.base & ~low_bits(), held.limit | low_bits(),
                static_cast<std::uint8_t>(lower_bits() * (has_upper_halves(held) ? 2 : 1))};
    }
    /// Whether Base and Limit agree on a width of addresses, and on none that is reserved.
    [[nodiscard]] constexpr bool sound(const value& held) const {
        const unsigned widest = kind_ == window_kind::memory ? 0 : 1;
        return addressing(held.base) == addressing(held.limit) && addressing(held.base) <= widest;
    }
    /// Whether the bridge says so; it may still hard-wire them to 0.
    [[nodiscard]] constexpr bool has_upper_halves(const value& held) const {
        return addressing(held.base) != 0;
    }

    [[nodiscard]] constexpr value read() {
        const std::uint32_t both = get(offset());
        value held{(both << register_bits()) & all_ones(lower_half()),
                   both >> register_bits() << register_bits()};
        if (sound(held) && has_upper_halves(held)) {
            held.base |= std::uint64_t{get(upper_base())} << lower_bits();
            held.limit |= std::uint64_t{get(upper_limit())} << lower_bits();
        }
        return held;
    }

    /// In between, the bridge forwards what it did, nothing, or what it will: the upper halves shut
    /// the window before the lower ones change, and open it last. (A limit whose upper half is all
    /// ones cannot be undercut; then part of the old or the new window stays open.)
    constexpr void write(const value& wanted) {
        const bool with_upper_halves = has_upper_halves(wanted);
        if (with_upper_halves) {
            put(upper_base(), all_ones(lower_half()));
            put(upper_limit(), 0);
        }
        put(offset(), lower(wanted.base) >> register_bits() | lower(wanted.limit));
        if (with_upper_halves) {
            put(upper_limit(), upper(wanted.limit));
            put(upper_base(), upper(wanted.base));
        }
    }

    /// Whether the bridge implements the window, of which it holds `held`. Registers that are
    /// not implemented are hard-wired to 0, and so not if anything else is in them. Else a base
    /// above the limit is tried, with which the window is shut, not somewhere else.
    [[nodiscard]] constexpr bool implemented(const value& held) {
        if (held != value{}) {
            return true;
        }
        put(offset(), lower(closed(held).base) >> register_bits());
        const bool sticks = get(offset()) != 0;
        put(offset(), 0);
        return sticks;
    }
    /// The bits of the upper halves that can be written, tried with the base's, which shuts the
    /// window meanwhile.
    [[nodiscard]] constexpr std::uint32_t writable_upper_half() {
        const std::uint32_t before = get(upper_base());
        put(upper_base(), all_ones(lower_half()));
        const std::uint32_t writable = get(upper_base());
        put(upper_base(), before);
        return writable;
    }
    /// Of the base.
    [[nodiscard]] constexpr std::uint16_t upper_base() const {
        return kind_ == window_kind::io ? io_base_upper_16::offset
                                        : prefetchable_base_upper_32::offset;
    }

private:
    [[nodiscard]] constexpr std::uint16_t upper_limit() const {
        return kind_ == window_kind::io ? io_limit_upper_16::offset
                                        : prefetchable_limit_upper_32::offset;
    }
    /// Of Base and Limit together, and of each upper half.
    [[nodiscard]] constexpr width lower_half() const {
        return kind_ == window_kind::io ? width::word : width::dword;
    }
    /// Of Base or Limit alone.
    [[nodiscard]] constexpr unsigned register_bits() const { return lower_bits() / 2; }
    [[nodiscard]] constexpr std::uint64_t low_bits() const { return window_granularity(kind_) - 1; }

    [[nodiscard]] constexpr unsigned addressing(std::uint64_t base_or_limit) const {
        return static_cast<unsigned>(base_or_limit >> register_bits() & 0xF);
    }
    [[nodiscard]] constexpr std::uint32_t lower(std::uint64_t base_or_limit) const {
        return static_cast<std::uint32_t>(base_or_limit) & all_ones(lower_half());
    }
    [[nodiscard]] constexpr std::uint32_t upper(std::uint64_t base_or_limit) const {
        return lower(base_or_limit >> lower_bits());
    }

    [[nodiscard]] constexpr std::uint32_t get(std::uint16_t at) {
        return config_.read(bridge_, at, lower_half());
    }
    constexpr void put(std::uint16_t at, std::uint32_t bits) {
        config_.write(bridge_, at, lower_half(), bits);
    }

    [[no_unique_address]] Config config_;
    function_address bridge_;
    window_kind kind_;
};

/// The window as the registers have it, without a write. errc::absent with the offset of Base: no
/// PCI-to-PCI bridge, or the window is closed (its base is above its limit). errc::malformed with
/// that offset: Base and Limit disagree on the width of addresses, or name a reserved one.
///
/// Registers of an I/O or a prefetchable window that are not implemented hold 0 and read as an open
/// window from 0 on: only probe_window tells.
template <config_access Config>
[[nodiscard]] constexpr result<bridge_window> read_window(Config config, function_address bridge,
                                                          window_kind kind) {
    window_registers<Config> registers{config, bridge, kind};
    if (!registers.of_a_bridge()) {
        return error{errc::absent, registers.offset()};
    }
    const auto held = registers.read();
    if (!registers.sound(held)) {
        return error{errc::malformed, registers.offset()};
    }
    const bridge_window window = registers.decode(held);
    if (window.base > window.limit) {
        return error{errc::absent, registers.offset()};
    }
    return window;
}

/// How many bits of an address the bridge decodes for its window of that kind: 16 or more for
/// ports, 32 or more for memory. It writes to the registers, but nothing that opens the window
/// elsewhere, and leaves in them what was there; an open window is shut for a moment. errc::absent
/// with the offset of Base: no PCI-to-PCI bridge, or none that has such a window. errc::malformed
/// with an offset: reserved or disagreeing widths, or an upper half with holes.
template <config_access Config>
[[nodiscard]] constexpr result<unsigned> probe_window(Config config, function_address bridge,
                                                      window_kind kind) {
    window_registers<Config> registers{config, bridge, kind};
    if (!registers.of_a_bridge()) {
        return error{errc::absent, registers.offset()};
    }
    const auto held = registers.read();
    if (!registers.sound(held)) {
        return error{errc::malformed, registers.offset()};
    }
    if (!registers.implemented(held)) {
        return error{errc::absent, registers.offset()};
    }
    if (!registers.has_upper_halves(held)) {
        return registers.lower_bits();
    }
    // Some say that they have upper halves and have not, or not all of the bits.
    const std::uint32_t writable = registers.writable_upper_half();
    if ((writable & (writable + 1)) != 0) {
        return error{errc::malformed, registers.upper_base()};
    }
    return registers.lower_bits() + static_cast<unsigned>(std::bit_width(writable));
}

/// Puts the window at `base`, with `size` addresses, and gives it as it is now. At no time does the
/// bridge forward anything that is neither in the old nor in the new one. errc::misaligned with the
/// number that is not a multiple of window_granularity (a size of 0 is none). errc::out_of_range
/// with the base: the end lies beyond what the bridge decodes. errc::absent with the offset of
/// Base: no PCI-to-PCI bridge; errc::not_supported: none that has such a window. errc::malformed as
/// of probe_window. errc::hardware_fault: the registers do not hold it. With an error nothing has
/// changed.
template <config_access Config>
[[nodiscard]] constexpr result<bridge_window> write_window(Config config, function_address bridge,
                                                           window_kind kind, std::uint64_t base,
                                                           std::uint64_t size) {
    const std::uint64_t below = window_granularity(kind) - 1;
    if ((base & below) != 0) {
        return error{errc::misaligned, base};
    }
    if ((size & below) != 0 || size == 0) {
        return error{errc::misaligned, size};
    }
    window_registers<Config> registers{config, bridge, kind};
    if (!registers.of_a_bridge()) {
        return error{errc::absent, registers.offset()};
    }
    const auto address_bits = probe_window(config, bridge, kind);
    if (!address_bits) {
        const error why = address_bits.error();
        return why.code == errc::absent ? error{errc::not_supported, why.where} : why;
    }
    const std::uint64_t last = ~std::uint64_t{0} >> (64 - *address_bits);
    if (size - 1 > last || base > last - (size - 1)) {
        return error{errc::out_of_range, base};
    }
    const auto before = registers.read();
    const auto wanted = registers.placed(before, base, base + (size - 1));
    registers.write(wanted);
    if (registers.read() != wanted) {
        registers.write(before);
        return error{errc::hardware_fault, registers.offset()};
    }
    return registers.decode(wanted);
}

/// Closes the window, so that the bridge forwards nothing of that kind; one that it lacks is closed
/// already. errc::absent with the offset of Base: no PCI-to-PCI bridge. errc::malformed as of
/// read_window. errc::hardware_fault: the registers do not hold it. With an error nothing has
/// changed.
template <config_access Config>
[[nodiscard]] constexpr result<void> close_window(Config config, function_address bridge,
                                                  window_kind kind) {
    window_registers<Config> registers{config, bridge, kind};
    if (!registers.of_a_bridge()) {
        return error{errc::absent, registers.offset()};
    }
    const auto before = registers.read();
    if (!registers.sound(before)) {
        return error{errc::malformed, registers.offset()};
    }
    if (!registers.implemented(before)) {
        return {};
    }
    registers.write(registers.closed(before));
    if (registers.read() != registers.closed(before)) {
        registers.write(before);
        return error{errc::hardware_fault, registers.offset()};
    }
    return {};
}

} // namespace pt::pci
