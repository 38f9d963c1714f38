// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_address.hpp"

#include <cstdint>

namespace pt::pci {

/// The machine's own configuration space through the ports 0xCF8 and 0xCFC, configuration mechanism
/// #1 [pci]. It reaches the first 256 bytes of the functions of segment 0; everything else reads
/// all ones.
///
/// An access is two I/O instructions with the selection in the hardware between them. Whoever else
/// uses the ports, another processor or an interrupt handler, must be kept out meanwhile.
template <port_io PortIo>
class port_config_access {
public:
    explicit constexpr port_config_access(PortIo ports) : ports_{ports} {}

    [[nodiscard]] constexpr std::uint32_t read(function_address function, std::uint16_t offset,
                                               width size) {
        if (!select(function, offset, size)) {
            return all_ones(size);
        }
        switch (size) {
        case width::byte: return ports_.in8(data_port(offset));
        case width::word: return ports_.in16(data_port(offset));
        case width::dword: return ports_.in32(data_port(offset));
        }
        return all_ones(size);
    }

    constexpr void write(function_address function, std::uint16_t offset, width size,
                         std::uint32_t value) {
        if (!select(function, offset, size)) {
            return;
        }
        switch (size) {
        case width::byte: ports_.out8(data_port(offset), static_cast<std::uint8_t>(value)); break;
        case width::word: ports_.out16(data_port(offset), static_cast<std::uint16_t>(value)); break;
        case width::dword: ports_.out32(data_port(offset), value); break;
        }
    }

private:
    constexpr bool select(function_address function, std::uint16_t offset, width size) {
        expects(is_one_config_access(offset, size), "a configuration access lies inside one dword");
        if (function.segment != 0 || !function.valid() ||
            offset >= conventional_config_space_size) {
            return false;
        }
        ports_.out32(io_port{0xCF8}, config_address::select(function, offset).raw);
        return true;
    }

    static constexpr io_port data_port(std::uint16_t offset) {
        return io_port{0xCFC} + (offset & 3U);
    }

    [[no_unique_address]] PortIo ports_;
};

} // namespace pt::pci
