// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace pt::pci {

/// Where a byte of configuration space lies in memory, counted from where bus 0 begins: Enhanced
/// Configuration Access Mechanism [pcie]. 28 bits, so that one segment takes 256 MiB.
struct ecam_address : reg<ecam_address, std::uint32_t> {
    using reg::reg;

    // clang-format off
    static constexpr bits<27, 20, std::uint8_t> bus{};
    static constexpr bits<19, 15, std::uint8_t> device{};
    static constexpr bits<14, 12, std::uint8_t> function{};
    static constexpr bits<11,  8, std::uint8_t> extended_register_number{}; ///< counts 256 bytes
    static constexpr bits< 7,  2, std::uint8_t> register_number{};          ///< counts dwords
    static constexpr bits< 1,  0, std::uint8_t> byte{};                     ///< of the dword
    // clang-format on
    static constexpr field_list fields{
        bus, device, function, extended_register_number, register_number, byte};

    /// Where byte `offset` of the function lies. The function must be valid() and the offset below
    /// 4096; the segment does not take part.
    [[nodiscard]] static constexpr ecam_address select(function_address target,
                                                       std::uint16_t offset) {
        expects(offset < config_space_size, "a function has 4096 bytes of configuration space");
        return ecam_address{bus(target.bus),
                            device(target.device),
                            function(target.function),
                            extended_register_number(static_cast<std::uint8_t>(offset >> 8)),
                            register_number(static_cast<std::uint8_t>(offset >> 2 & 0x3F)),
                            byte(static_cast<std::uint8_t>(offset & 3))};
    }

    /// The function whose space it is in. The address does not tell the segment.
    [[nodiscard]] constexpr function_address target(std::uint16_t segment = 0) const {
        return {segment, (*this)[bus], (*this)[device], (*this)[function]};
    }

    /// The offset in the function's configuration space, in bytes.
    [[nodiscard]] constexpr std::uint16_t offset() const {
        return static_cast<std::uint16_t>(
            raw & (extended_register_number.mask | register_number.mask | byte.mask));
    }
};

/// Which buses of one segment a window of memory shows; the window begins with the first of them.
/// Firmware tells these numbers, in the table MCFG; the address there is that of bus 0, even if
/// another one is the first. A window whose last bus is below its first is empty.
struct ecam_window {
    std::uint16_t segment = 0;
    std::uint8_t first_bus = 0;
    std::uint8_t last_bus = 255;

    /// In bytes: 1 MiB a bus.
    [[nodiscard]] constexpr std::uint64_t size() const {
        return last_bus < first_bus ? 0 : bus_size * (last_bus - first_bus + 1U);
    }

    /// Whether the window shows that function's configuration space. It need not exist for that.
    [[nodiscard]] constexpr bool contains(function_address function) const {
        return function.valid() && function.segment == segment && function.bus >= first_bus &&
               function.bus <= last_bus;
    }

    /// Where in the window byte `offset` of the function lies. The window must contain the
    /// function, and the offset must be below 4096.
    [[nodiscard]] constexpr std::uint32_t offset_of(function_address function,
                                                    std::uint16_t offset) const {
        expects(contains(function), "the window shows other buses");
        return ecam_address::select(function, offset).raw - first_bus * bus_size;
    }

    /// What lies at an offset below size().
    [[nodiscard]] constexpr ecam_address address_at(std::uint64_t offset_in_window) const {
        expects(offset_in_window < size(), "the window ends before that");
        return ecam_address{static_cast<std::uint32_t>(offset_in_window) + first_bus * bus_size};
    }

    friend constexpr bool operator==(const ecam_window&, const ecam_window&) = default;

private:
    static constexpr std::uint32_t bus_size = 0x10'0000;
};

/// The machine's own configuration space through memory. It reaches all 4096 bytes of the functions
/// in its window; everything else reads all ones. An access is one access to the window, so nobody
/// needs to be kept out.
///
/// `memory` is the window mapped uncached, from the first byte of the first bus on. [pcie] obliges
/// the machine to give software some way to know that a write has arrived; where a plain store does
/// not tell, waiting is the business of this policy.
template <narrow_mmio_io Mmio>
class ecam_config_access {
public:
    explicit constexpr ecam_config_access(Mmio memory, ecam_window window = {})
        : memory_{memory}, window_{window} {}

    [[nodiscard]] constexpr std::uint32_t read(function_address function, std::uint16_t offset,
                                               width size) {
        expects(is_one_config_access(offset, size), "a configuration access lies inside one dword");
        if (!window_.contains(function)) {
            return all_ones(size);
        }
        const std::uint32_t at = window_.offset_of(function, offset);
        switch (size) {
        case width::byte: return memory_.read8(at);
        case width::word: return memory_.read16(at);
        case width::dword: return memory_.read32(at);
        }
        return all_ones(size);
    }

    constexpr void write(function_address function, std::uint16_t offset, width size,
                         std::uint32_t value) {
        expects(is_one_config_access(offset, size), "a configuration access lies inside one dword");
        if (!window_.contains(function)) {
            return;
        }
        const std::uint32_t at = window_.offset_of(function, offset);
        switch (size) {
        case width::byte: memory_.write8(at, static_cast<std::uint8_t>(value)); break;
        case width::word: memory_.write16(at, static_cast<std::uint16_t>(value)); break;
        case width::dword: memory_.write32(at, value); break;
        }
    }

private:
    [[no_unique_address]] Mmio memory_;
    ecam_window window_;
};

/// The window as a guest sees it, in front of whatever the guest's functions are: what config_ports
/// is for the ports. The VMM leaves these guest-physical addresses unmapped, and passes on the
/// accesses that exit.
///
/// - An access inside one dword arrives as one access of its size: a byte written beside a
///   write-1-to-clear bit does not clear it.
/// - One that crosses from one dword into another, and every qword, is one access to each dword,
///   lowest first; [pcie] demands of no machine that it does this in one. Three bytes of a dword
///   are two accesses, the word being the aligned half of the dword.
/// - No access runs from one function into the next, or over the end of the window: bytes beyond
///   read as ones, and what is written to them vanishes. [pcie] leaves open what becomes of them.
template <config_access Config>
class ecam {
public:
    explicit constexpr ecam(Config config, ecam_window window = {})
        : config_{config}, window_{window} {}

    [[nodiscard]] constexpr ecam_window window() const { return window_; }

    /// The guest's load. `offset` is in bytes from the start of the window, and may be any.
    [[nodiscard]] constexpr std::uint64_t read(std::uint64_t offset, mmio_width size) {
        std::uint64_t value = all_ones(size);
        each_piece(offset, size, [&](ecam_address at, width piece, unsigned shift) {
            const std::uint64_t absent = std::uint64_t{all_ones(piece)} << shift;
            const std::uint64_t answer =
                config_.read(at.target(window_.segment), at.offset(), piece);
            value = (value & ~absent) | answer << shift;
        });
        return value;
    }

    /// The guest's store. Bits of `value` above the width are of no effect.
    constexpr void write(std::uint64_t offset, mmio_width size, std::uint64_t value) {
        each_piece(offset, size, [&](ecam_address at, width piece, unsigned shift) {
            config_.write(at.target(window_.segment), at.offset(), piece,
                          static_cast<std::uint32_t>(value >> shift) & all_ones(piece));
        });
    }

private:
    /// Calls `access` for each configuration access, with the place of its bits in the value.
    template <class Access>
    constexpr void each_piece(std::uint64_t offset, mmio_width size, Access access) {
        if (offset >= window_.size()) {
            return;
        }
        const ecam_address first = window_.address_at(offset);
        const unsigned in_function = config_space_size - first.offset();
        const unsigned end = size_of(size) < in_function ? size_of(size) : in_function;
        for (unsigned done = 0; done < end;) {
            const ecam_address at{first.raw + done};
            const unsigned lane = at[ecam_address::byte];
            unsigned bytes = end - done < 4 - lane ? end - done : 4 - lane;
            if (bytes == 3) {
                bytes = lane == 0 ? 2 : 1;
            }
            access(at, static_cast<width>(bytes), 8 * done);
            done += bytes;
        }
    }

    [[no_unique_address]] Config config_;
    ecam_window window_;
};

} // namespace pt::pci
