// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/reg.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace pt::pci {

/// CONFIG_ADDRESS, the dword at port 0xCF8 of configuration mechanism #1 [pci]. Bits 30:24 and 1:0
/// are reserved and read 0.
struct config_address : reg<config_address, std::uint32_t> {
    using reg::reg;

    // clang-format off
    static constexpr bits<31, 31, bool>         enable{};
    static constexpr bits<23, 16, std::uint8_t> bus{};
    static constexpr bits<15, 11, std::uint8_t> device{};
    static constexpr bits<10,  8, std::uint8_t> function{};
    static constexpr bits< 7,  2, std::uint8_t> register_number{}; ///< counts dwords
    // clang-format on
    static constexpr field_list fields{enable, bus, device, function, register_number};

    /// What to write in order to reach the dword that holds byte `offset` of the function. The
    /// function must be valid() and the offset below 256; the segment does not take part.
    [[nodiscard]] static constexpr config_address select(function_address target,
                                                         std::uint16_t offset) {
        expects(offset < 256, "CONFIG_ADDRESS reaches the first 256 bytes of a function");
        return config_address{enable(true), bus(target.bus), device(target.device),
                              function(target.function),
                              register_number(static_cast<std::uint8_t>(offset >> 2))};
    }

    /// The function that is selected. The register does not tell the segment.
    [[nodiscard]] constexpr function_address target(std::uint16_t segment = 0) const {
        return {segment, (*this)[bus], (*this)[device], (*this)[function]};
    }

    /// The selected dword's offset in configuration space, in bytes.
    [[nodiscard]] constexpr std::uint16_t offset() const {
        return static_cast<std::uint16_t>((*this)[register_number] * 4);
    }
};

} // namespace pt::pci
