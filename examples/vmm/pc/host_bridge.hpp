// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/width.hpp"
#include "pt/pci/function_config.hpp"

#include <cstdint>

namespace vmm::pc {

/// The function 00:00.0 that kernels look for before they believe that there is a PCI bus: the host
/// bridge of a PC (82441FX), with a header and nothing behind it [pci]. It cannot be written.
class host_bridge {
public:
    [[nodiscard]] constexpr std::uint32_t read(std::uint16_t offset, pt::width size) const {
        std::uint32_t value = 0;
        for (unsigned i = 0; i != pt::size_of(size); ++i) {
            value |= std::uint32_t{byte(offset + i)} << 8 * i;
        }
        return value;
    }
    constexpr void write(std::uint16_t, pt::width, std::uint32_t) {}

private:
    static constexpr std::uint8_t byte(unsigned offset) {
        constexpr std::uint32_t header[4] = {
            0x1237'8086, // device, vendor
            0x0280'0006, // status: medium DEVSEL, fast back-to-back; command: memory, bus master
            0x0600'0002, // host bridge; revision
            0x0000'0000, // header type 0
        };
        return offset < sizeof header
                   ? static_cast<std::uint8_t>(header[offset / 4] >> 8 * (offset % 4))
                   : std::uint8_t{0};
    }
};
static_assert(pt::pci::function_config<host_bridge>);

} // namespace vmm::pc
