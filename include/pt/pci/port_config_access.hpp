// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_address.hpp"

#include <cstdint>

namespace pt::pci {

/// What becomes of the selection that was in the machine's CONFIG_ADDRESS before an access.
enum class config_latch : std::uint8_t {
    kept, ///< it is there again afterwards: others use the ports too
    ours, ///< it is lost: nobody else uses the ports
};

/// The machine's own configuration space through the ports 0xCF8 and 0xCFC, configuration mechanism
/// #1 [pci]. It reaches the first Form::reach bytes of the functions of segment 0; everything else
/// reads all ones.
///
/// An access is two I/O instructions with the selection in the hardware between them, and whoever
/// shares the ports must not come between.
///
/// - What pt interrupts, such as an operating system below or beside the VMM that was between its
///   own two instructions, finds its selection as it left it: config_latch::kept, the default. That
///   takes one IN and one OUT more. A VMM that owns the ports alone says config_latch::ours.
/// - What could interrupt pt, or run on another processor at the same time, is kept out by the
///   mutex. It is held from before the latch is read until it is as it was, and must be the one
///   that the others take; where an interrupt handler uses the ports, locking keeps interrupts out.
template <port_io PortIo, config_address_form Form = config_address, mutex Mutex = no_mutex>
class port_config_access {
public:
    explicit constexpr port_config_access(PortIo ports, config_latch latch = config_latch::kept,
                                          Mutex guard = {})
        : ports_{ports}, guard_{guard}, latch_{latch} {}

    [[nodiscard]] constexpr std::uint32_t read(function_address function, std::uint16_t offset,
                                               width size) {
        std::uint32_t value = all_ones(size);
        select(function, offset, size, [&](io_port data) {
            switch (size) {
            case width::byte: value = ports_.in8(data); break;
            case width::word: value = ports_.in16(data); break;
            case width::dword: value = ports_.in32(data); break;
            }
        });
        return value;
    }

    constexpr void write(function_address function, std::uint16_t offset, width size,
                         std::uint32_t value) {
        select(function, offset, size, [&](io_port data) {
            switch (size) {
            case width::byte: ports_.out8(data, static_cast<std::uint8_t>(value)); break;
            case width::word: ports_.out16(data, static_cast<std::uint16_t>(value)); break;
            case width::dword: ports_.out32(data, value); break;
            }
        });
    }

private:
    static constexpr io_port address_port{0xCF8};
    static constexpr io_port data_port{0xCFC};

    /// Calls `access` with the data port while the dword is selected; not at all when the mechanism
    /// cannot reach it.
    template <class Access>
    constexpr void select(function_address function, std::uint16_t offset, width size,
                          Access access) {
        expects(is_one_config_access(offset, size), "a configuration access lies inside one dword");
        if (function.segment != 0 || !function.valid() || offset >= Form::reach) {
            return;
        }
        const scoped_lock held{guard_};
        const bool kept = latch_ == config_latch::kept;
        const std::uint32_t before = kept ? ports_.in32(address_port) : 0;
        ports_.out32(address_port, Form::select(function, offset).raw);
        access(data_port + (offset & 3U));
        if (kept) {
            ports_.out32(address_port, before);
        }
    }

    [[no_unique_address]] PortIo ports_;
    [[no_unique_address]] Mutex guard_;
    config_latch latch_;
};

} // namespace pt::pci
