// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

/// The Base Address registers of the header. Where Enhanced Allocation fixes an address
/// (enhanced_allocation.hpp) its register reads 0 and ignores writes: such a BAR is absent here.
namespace pt::pci {

/// What a Base Address register decodes, and how wide its address is.
enum class bar_kind : std::uint8_t {
    io,    ///< ports
    mem32, ///< memory anywhere in 32 bits
    mem1m, ///< memory below 1 MiB, an old form
    mem64, ///< memory anywhere in 64 bits; takes two registers
    rom,   ///< the expansion ROM
};

/// Base Address registers that a header has room for: 6, 2, or (other layouts) 0.
[[nodiscard]] constexpr std::uint8_t bar_count(header_layout layout) {
    switch (layout) {
    case header_layout::device: return 6;
    case header_layout::bridge: return 2;
    default: return 0;
    }
}

/// The index by which the Expansion ROM Base Address register goes, after the six others.
inline constexpr std::uint8_t expansion_rom_index = 6;

/// The offset of Base Address register `index`, or of the expansion ROM's. errc::absent with the
/// index where the layout has no such register.
[[nodiscard]] constexpr result<std::uint16_t> bar_offset(header_layout layout, std::uint8_t index) {
    if (index < bar_count(layout)) {
        return static_cast<std::uint16_t>(0x10 + 4 * index);
    }
    if (index == expansion_rom_index && layout == header_layout::device) {
        return std::uint16_t{0x30};
    }
    if (index == expansion_rom_index && layout == header_layout::bridge) {
        return std::uint16_t{0x38};
    }
    return error{errc::absent, index};
}

/// One Base Address register, or the two of a mem64, decoded.
struct bar {
    bar_kind kind = bar_kind::mem32;
    bool prefetchable = false;
    std::uint8_t index = 0;    ///< 0..5, or expansion_rom_index
    std::uint16_t offset = 0;  ///< of its (first) register in configuration space
    std::uint64_t address = 0; ///< a port, or an address in the memory of whoever wrote it there
    std::uint64_t size = 0;    ///< bytes or ports, a power of two; 0 as long as nobody has asked

    /// How many registers it takes.
    [[nodiscard]] constexpr unsigned registers() const { return kind == bar_kind::mem64 ? 2 : 1; }

    friend constexpr bool operator==(const bar&, const bar&) = default;
};

/// The bits of a (low) register that are no address: what it is, and the ROM's enable bit.
[[nodiscard]] constexpr std::uint32_t bar_flag_bits(bar_kind kind) {
    switch (kind) {
    case bar_kind::io: return 0x3;
    case bar_kind::rom: return 0x7FF;
    default: return 0xF;
    }
}

/// Decodes what register `index` holds; `high` is what the next one holds, and matters only when
/// `low` says that the two are one. A register of 0 may as well not be implemented: only sizing
/// tells. errc::absent with the index where the layout has no such register; errc::malformed with
/// the offset for the reserved memory type 11 and for a 64-bit one in the last register.
[[nodiscard]] constexpr result<bar> decode_bar(header_layout layout, std::uint8_t index,
                                               std::uint32_t low, std::uint32_t high) {
    const auto offset = bar_offset(layout, index);
    if (!offset) {
        return offset.error();
    }
    bar decoded{};
    decoded.index = index;
    decoded.offset = *offset;
    if (index == expansion_rom_index) {
        decoded.kind = bar_kind::rom;
    } else if ((low & 1U) != 0) {
        decoded.kind = bar_kind::io;
    } else {
        decoded.prefetchable = (low & 8U) != 0;
        switch (low >> 1 & 3U) {
        case 0: decoded.kind = bar_kind::mem32; break;
        case 1: decoded.kind = bar_kind::mem1m; break;
        case 2: decoded.kind = bar_kind::mem64; break;
        default: return error{errc::malformed, *offset};
        }
    }
    if (decoded.kind == bar_kind::mem64) {
        if (index + 1 >= bar_count(layout)) {
            return error{errc::malformed, *offset};
        }
        decoded.address = std::uint64_t{high} << 32;
    }
    decoded.address |= low & ~bar_flag_bits(decoded.kind);
    return decoded;
}

/// The size that the writable address bits of a register stand for: the lowest of them [pci]. 0 if
/// no sound register looks like that: the bits must be one run. The run reaches the top of the
/// address, but an I/O register may lack bits 31:16 [pci], one below 1 MiB bits 31:20, and a mem64
/// the bits above what the device can address (Intel's VMD has 42).
[[nodiscard]] constexpr std::uint64_t bar_size(bar_kind kind, std::uint64_t writable) {
    if (writable == 0) {
        return 0;
    }
    const unsigned lowest = static_cast<unsigned>(std::countr_zero(writable));
    const unsigned highest = static_cast<unsigned>(std::bit_width(writable)) - 1;
    const std::uint64_t run = writable >> lowest;
    if ((run & (run + 1)) != 0) {
        return 0;
    }
    const unsigned demanded = kind == bar_kind::io ? 15 : kind == bar_kind::mem1m ? 19 : 31;
    if (highest < demanded || (kind != bar_kind::mem64 && lowest > demanded)) {
        return 0;
    }
    return std::uint64_t{1} << lowest;
}

/// The last address that a register of that kind can decode.
[[nodiscard]] constexpr std::uint64_t bar_last_address(bar_kind kind) {
    switch (kind) {
    case bar_kind::io: return 0xFFFF; // the ports that x86 has
    case bar_kind::mem1m: return 0xF'FFFF;
    case bar_kind::mem64: return ~std::uint64_t{0};
    default: return 0xFFFF'FFFF;
    }
}

/// Whether the BAR can be moved there. errc::misaligned: not a multiple of the size.
/// errc::out_of_range: its end is beyond what the kind can decode.
[[nodiscard]] constexpr result<void> check_bar_address(const bar& sized, std::uint64_t address) {
    expects(sized.size != 0 && (sized.size & (sized.size - 1)) == 0,
            "a BAR is sized before it is moved");
    const std::uint64_t last = bar_last_address(sized.kind);
    if ((address & (sized.size - 1)) != 0) {
        return error{errc::misaligned, address};
    }
    if (sized.size - 1 > last || address > last - (sized.size - 1)) {
        return error{errc::out_of_range, address};
    }
    return {};
}

/// Base Address registers of a function, wherever they lie: in its header, or in a capability
/// (sr_iov.hpp). Whoever writes to them sees to it that nothing is decoded meanwhile: a half-written
/// or an all-ones address would answer on the bus, or reach a hypervisor's mapper.
template <config_access Config>
class bar_registers {
public:
    constexpr bar_registers(Config config, function_address function)
        : config_{config}, function_{function} {}

    /// What the registers of `which` hold, flags included; high half in bits 63:32.
    [[nodiscard]] constexpr std::uint64_t read(const bar& which) {
        std::uint64_t value = config_.read(function_, which.offset, width::dword);
        if (which.registers() == 2) {
            value |= std::uint64_t{config_.read(function_, high_offset(which), width::dword)} << 32;
        }
        return value;
    }
    constexpr void write(const bar& which, std::uint64_t value) {
        config_.write(function_, which.offset, width::dword, static_cast<std::uint32_t>(value));
        if (which.registers() == 2) {
            config_.write(function_, high_offset(which), width::dword,
                          static_cast<std::uint32_t>(value >> 32));
        }
    }

    /// Sizes a BAR whose kind and place are known, and leaves in it what was there. errc::absent
    /// with the offset where nothing is implemented, errc::malformed with it as of size_bar below.
    [[nodiscard]] constexpr result<bar> size(bar decoded) {
        const std::uint64_t flags = bar_flag_bits(decoded.kind);
        const std::uint64_t before = read(decoded);
        decoded.address = before & ~flags;

        // All ones, flags too: they are read-only, and some VMMs know a probe by exactly this value.
        // In the ROM's register they are not, bit 0 turns it on.
        write(decoded, decoded.kind == bar_kind::rom ? ~flags : ~std::uint64_t{0});
        const std::uint64_t ones = read(decoded);
        // A register at the very top and one that ignores writes look alike so far.
        const bool unchanged = (ones & ~flags) == decoded.address;
        std::uint64_t zeros = 0;
        if (unchanged && decoded.address != 0) {
            write(decoded, 0);
            zeros = read(decoded) & ~flags;
        }
        write(decoded, before);

        if (ones == 0 && before == 0) {
            return error{errc::absent, decoded.offset};
        }
        const std::uint64_t writable = ones & ~flags;
        const std::uint64_t rom_enable = decoded.kind == bar_kind::rom ? 1 : 0;
        const bool flags_kept = (ones & flags) == (before & flags & ~rom_enable);
        decoded.size = bar_size(decoded.kind, writable);
        if (!flags_kept || zeros != 0 || decoded.size == 0 || (decoded.address & ~writable) != 0) {
            return error{errc::malformed, decoded.offset};
        }
        return decoded;
    }

    /// Moves a sized BAR to an address that check_bar_address() allows, flags unchanged, and gives
    /// it as it is now. errc::hardware_fault with the offset: the register does not hold the
    /// address; what was there is back.
    [[nodiscard]] constexpr result<bar> place(bar sized, std::uint64_t address) {
        const std::uint64_t before = read(sized);
        const std::uint64_t after = address | (before & bar_flag_bits(sized.kind));
        write(sized, after);
        if (read(sized) != after) {
            write(sized, before);
            return error{errc::hardware_fault, sized.offset};
        }
        sized.address = address;
        return sized;
    }

protected:
    [[no_unique_address]] Config config_;
    function_address function_;

private:
    static constexpr std::uint16_t high_offset(const bar& which) {
        return static_cast<std::uint16_t>(which.offset + 4);
    }
};

/// While it lives, the function decodes neither ports nor memory; then its Command is as it was
/// before. The Base Address registers of its header change only meanwhile.
///
/// A bridge forwards nothing downstream meanwhile, a console is mute, and some host bridges cut off
/// memory itself: the VMM knows which functions it may ask.
template <config_access Config>
class decoding_off : public bar_registers<Config> {
public:
    constexpr decoding_off(Config config, function_address function)
        : bar_registers<Config>{config, function}, before_{pci::read<command>(config, function)} {
        if (decoded()) {
            pci::write(config, function,
                       before_.with(command::io_space(false), command::memory_space(false)));
        }
    }
    constexpr ~decoding_off() {
        if (decoded()) {
            pci::write(this->config_, this->function_, before_);
        }
    }
    decoding_off(const decoding_off&) = delete;
    decoding_off& operator=(const decoding_off&) = delete;

private:
    /// All ones is no Command but what is read where nobody is; a function that is plugged in there
    /// meanwhile must not be given it.
    [[nodiscard]] constexpr bool decoded() const {
        return before_.raw != 0xFFFF &&
               (before_[command::io_space] || before_[command::memory_space]);
    }

    command before_;
};

/// Decodes register `index` as it is, without a write; the size stays 0. Errors of decode_bar;
/// errc::absent with the offset also where the register holds 0, not implemented or not yet
/// assigned, or where no function answers.
template <config_access Config>
[[nodiscard]] constexpr result<bar> read_bar(Config config, function_address function,
                                             std::uint8_t index) {
    const auto layout = read<header_type>(config, function)[header_type::layout];
    const auto offset = bar_offset(layout, index);
    if (!offset) {
        return offset.error();
    }
    const std::uint32_t low = config.read(function, *offset, width::dword);
    if (low == 0 || !read<identity>(config, function).present()) {
        return error{errc::absent, *offset};
    }
    auto decoded = decode_bar(layout, index, low, 0);
    if (decoded && decoded->kind == bar_kind::mem64) {
        const auto next = static_cast<std::uint16_t>(*offset + 4);
        return decode_bar(layout, index, low, config.read(function, next, width::dword));
    }
    return decoded;
}

/// Sizes register `index` while decoding is off, and leaves in it what was there. The expansion
/// ROM's enable bit is 0 meanwhile. Errors as of size_bar below.
template <config_access Config>
[[nodiscard]] constexpr result<bar> size_bar(decoding_off<Config>& registers, header_layout layout,
                                             std::uint8_t index) {
    const auto offset = bar_offset(layout, index);
    if (!offset) {
        return offset.error();
    }
    // First as a single register: what it is tells how many it takes.
    bar single{};
    single.kind = index == expansion_rom_index ? bar_kind::rom : bar_kind::mem32;
    single.offset = *offset;
    const auto decoded =
        decode_bar(layout, index, static_cast<std::uint32_t>(registers.read(single)), 0);
    if (!decoded) {
        return decoded.error();
    }
    return registers.size(*decoded);
}

/// Decodes and sizes register `index` of a function, with decoding off meanwhile. errc::absent
/// where there is no such function or register, or it is not implemented; errc::malformed with the
/// offset where it does not behave as a Base Address register must: reserved memory type, a 64-bit
/// one in the last register, address bits that are not one run, flags or addresses that do not hold
/// still.
template <config_access Config>
[[nodiscard]] constexpr result<bar> size_bar(Config config, function_address function,
                                             std::uint8_t index) {
    if (!read<identity>(config, function).present()) {
        return error{errc::absent, index};
    }
    const auto layout = read<header_type>(config, function)[header_type::layout];
    decoding_off<Config> registers{config, function};
    return size_bar(registers, layout, index);
}

/// The Base Address registers of a function, in order, the expansion ROM last. The upper half of a
/// 64-bit one is no entry, and one that is not implemented is none either; one that is malformed is
/// an error with its offset, and says nothing about the others.
class bar_list {
public:
    using value_type = result<bar>;

    [[nodiscard]] constexpr const result<bar>* begin() const { return entries_; }
    [[nodiscard]] constexpr const result<bar>* end() const { return entries_ + count_; }
    [[nodiscard]] constexpr std::size_t size() const { return count_; }

    /// The one that starts in register `index`; errc::absent with the index if none does.
    [[nodiscard]] constexpr result<bar> find(std::uint8_t index) const {
        for (const result<bar>& entry : *this) {
            if (entry && entry->index == index) {
                return entry;
            }
        }
        return error{errc::absent, index};
    }

    /// Asks `get(index)` for each register that the layout has, and keeps what is there. Where that
    /// is malformed, `held(index)` tells whether the next register is its upper half all the same.
    template <class Get, class Held>
    static constexpr bar_list collect(header_layout layout, Get get, Held held) {
        bar_list list{};
        const auto take = [&](std::uint8_t index) -> unsigned {
            const result<bar> entry = get(index);
            if (!entry && entry.error().code == errc::absent) {
                return 1;
            }
            list.entries_[list.count_++] = entry;
            const result<bar> taken = entry ? entry : held(index);
            return taken ? taken->registers() : 1;
        };
        for (unsigned index = 0; index < bar_count(layout);) {
            index += take(static_cast<std::uint8_t>(index));
        }
        take(expansion_rom_index);
        return list;
    }

private:
    static constexpr result<bar> none{error{errc::absent}};

    result<bar> entries_[7]{none, none, none, none, none, none, none};
    std::size_t count_ = 0;
};

/// All of them as they are, without a write; sizes stay 0, and registers that hold 0 are left out.
/// An absent function has none.
template <config_access Config>
[[nodiscard]] constexpr bar_list read_bars(Config config, function_address function) {
    if (!read<identity>(config, function).present()) {
        return {};
    }
    const auto held = [&](std::uint8_t index) { return read_bar(config, function, index); };
    return bar_list::collect(read<header_type>(config, function)[header_type::layout], held, held);
}

/// All of them, sized; decoding is turned off once for all. An absent function has none.
template <config_access Config>
[[nodiscard]] constexpr bar_list size_bars(Config config, function_address function) {
    if (!read<identity>(config, function).present()) {
        return {};
    }
    const auto layout = read<header_type>(config, function)[header_type::layout];
    decoding_off<Config> registers{config, function};
    return bar_list::collect(
        layout, [&](std::uint8_t index) { return size_bar(registers, layout, index); },
        [&](std::uint8_t index) { return read_bar(config, function, index); });
}

/// Moves a sized BAR to `address`, with decoding off meanwhile, and gives it as it is now. Both
/// halves of a mem64 change before anything can see them. The ROM's enable bit stays as it is.
/// errc::misaligned: not a multiple of the size. errc::out_of_range: its end is beyond what the
/// kind can decode. errc::hardware_fault with the offset: the register does not hold the address;
/// what was there is back. With an error nothing has changed.
template <config_access Config>
[[nodiscard]] constexpr result<bar> write_bar(Config config, function_address function,
                                              const bar& sized, std::uint64_t address) {
    if (const auto allowed = check_bar_address(sized, address); !allowed) {
        return allowed.error();
    }
    decoding_off<Config> registers{config, function};
    return registers.place(sized, address);
}

} // namespace pt::pci
