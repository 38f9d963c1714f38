// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/reg.hpp"
#include "pt/pci/function_address.hpp"

#include <concepts>
#include <cstdint>

namespace pt::pci {

/// CONFIG_ADDRESS, the dword at port 0xCF8 of configuration mechanism #1 [pci]. Bits 30:24 and 1:0
/// are reserved and read 0.
struct config_address : reg<config_address, std::uint32_t> {
    using reg::reg;

    /// How many bytes of a function's configuration space can be selected, from the first one on.
    static constexpr std::uint16_t reach = 256;

    // clang-format off
    static constexpr bits<31, 31, bool>         enable{};
    static constexpr bits<23, 16, std::uint8_t> bus{};
    static constexpr bits<15, 11, std::uint8_t> device{};
    static constexpr bits<10,  8, std::uint8_t> function{};
    static constexpr bits< 7,  2, std::uint8_t> register_number{}; ///< counts dwords
    // clang-format on
    static constexpr field_list fields{enable, bus, device, function, register_number};

    /// What to write in order to reach the dword that holds byte `offset` of the function. The
    /// function must be valid() and the offset below `reach`; the segment does not take part.
    [[nodiscard]] static constexpr config_address select(function_address target,
                                                         std::uint16_t offset) {
        expects(offset < reach, "CONFIG_ADDRESS reaches the first 256 bytes of a function");
        return config_address{enable(true), bus(target.bus), device(target.device),
                              function(target.function),
                              register_number(static_cast<std::uint8_t>(offset >> 2))};
    }

    /// The function that is selected. The register does not tell the segment.
    [[nodiscard]] constexpr function_address target(std::uint16_t segment = 0) const {
        return {segment, (*this)[bus], (*this)[device], (*this)[function]};
    }

    /// The selected dword's offset in configuration space, in bytes: the register's number stands
    /// where its multiple of 4 does.
    [[nodiscard]] constexpr std::uint16_t offset() const {
        return static_cast<std::uint16_t>(raw & register_number.mask);
    }
};

/// CONFIG_ADDRESS as AMD's processors extend it: bits 27:24 are bits 11:8 of the register's offset,
/// so that all 4096 bytes are in reach. The processor ignores them until its system software has
/// turned them on (EnableCf8ExtCfg, bit 46 of MSR 0xC001001F, in AMD's manuals of processors that
/// have it). Bits 30:28 and 1:0 are reserved and read 0.
struct extended_config_address : reg<extended_config_address, std::uint32_t> {
    using reg::reg;

    /// How many bytes of a function's configuration space can be selected, from the first one on.
    static constexpr std::uint16_t reach = 4096;

    // clang-format off
    static constexpr bits<31, 31, bool>         enable{};
    static constexpr bits<27, 24, std::uint8_t> extended_register_number{}; ///< counts 256 bytes
    static constexpr bits<23, 16, std::uint8_t> bus{};
    static constexpr bits<15, 11, std::uint8_t> device{};
    static constexpr bits<10,  8, std::uint8_t> function{};
    static constexpr bits< 7,  2, std::uint8_t> register_number{}; ///< counts dwords
    // clang-format on
    static constexpr field_list fields{enable,   extended_register_number, bus, device,
                                       function, register_number};

    /// What to write in order to reach the dword that holds byte `offset` of the function. The
    /// function must be valid() and the offset below `reach`; the segment does not take part.
    [[nodiscard]] static constexpr extended_config_address select(function_address target,
                                                                  std::uint16_t offset) {
        expects(offset < reach, "a function has 4096 bytes of configuration space");
        return extended_config_address{
            enable(true),
            extended_register_number(static_cast<std::uint8_t>(offset >> 8)),
            bus(target.bus),
            device(target.device),
            function(target.function),
            register_number(static_cast<std::uint8_t>(offset >> 2 & 0x3F))};
    }

    /// The function that is selected. The register does not tell the segment.
    [[nodiscard]] constexpr function_address target(std::uint16_t segment = 0) const {
        return {segment, (*this)[bus], (*this)[device], (*this)[function]};
    }

    /// The selected dword's offset in configuration space, in bytes.
    [[nodiscard]] constexpr std::uint16_t offset() const {
        return static_cast<std::uint16_t>((raw & extended_register_number.mask) >> 16 |
                                          (raw & register_number.mask));
    }
};

/// What the dword at port 0xCF8 means: config_address, or extended_config_address.
template <class R>
concept config_address_form = std::derived_from<R, reg<R, std::uint32_t>> &&
    requires(R selected, function_address target, std::uint16_t number) {
    { R::reach } -> std::convertible_to<std::uint16_t>;
    { selected[R::enable] } -> std::same_as<bool>;
    { R::select(target, number) } -> std::same_as<R>;
    { selected.target(number) } -> std::same_as<function_address>;
    { selected.offset() } -> std::same_as<std::uint16_t>;
};
static_assert(config_address_form<config_address>);
static_assert(config_address_form<extended_config_address>);

} // namespace pt::pci
