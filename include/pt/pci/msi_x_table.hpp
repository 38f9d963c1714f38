// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/interrupt_message.hpp"
#include "pt/pci/msi_x.hpp"

#include <cstdint>

/// A device's own MSI-X table, which the host programs. What a guest programs is virtual_msi_x.
namespace pt::pci {

/// Gives the first `count` vectors of a function the messages `message(n)`, unmasks them, masks all
/// others, and turns the capability on. The whole function is masked meanwhile, so that no
/// half-written message is sent. The function decodes memory then; it sends only as a bus master
/// (Command), and must not have MSI on at the same time [pci]. `where` is its table, inside a BAR
/// (bar_of).
///
/// errc::out_of_range with the count: the table has not so many; errc::absent: the function has no
/// MSI-X.
template <config_access Config, bar_memory Memory, class Message>
constexpr result<void> enable_msi_x(Config config, function_address function, Memory memory,
                                    const msi_x_layout& where, std::uint16_t count,
                                    Message message) {
    using control = msi_x_message_control;
    if (count > where.vectors) {
        return error{errc::out_of_range, count};
    }
    const auto found = capabilities(config, function).find(capability_id::msi_x, 12);
    if (!found) {
        return found.error();
    }
    const control off = read<control>(config, function, *found).write_back();
    write(config, function, *found, off.with(control::enable(true), control::function_mask(true)));
    for (std::uint16_t n = 0; n < where.vectors; ++n) {
        const std::uint64_t entry = where.table.offset + std::uint64_t{n} * 16;
        const auto put = [&](std::uint64_t at, std::uint32_t value) {
            memory.write(where.table.bar, entry + at, mmio_width::dword, value);
        };
        put(12, 1); // Vector Control: masked
        if (n < count) {
            const interrupt_message sent = message(n);
            put(0, static_cast<std::uint32_t>(sent.address));
            put(4, static_cast<std::uint32_t>(sent.address >> 32));
            put(8, sent.data);
            put(12, 0);
        }
    }
    write(config, function, *found, off.with(control::enable(true), control::function_mask(false)));
    return {};
}

/// Turns a function's MSI-X capability off; its table stays as it is. errc::absent: it has none.
template <config_access Config>
constexpr result<void> disable_msi_x(Config config, function_address function) {
    using control = msi_x_message_control;
    const auto found = capabilities(config, function).find(capability_id::msi_x, 12);
    if (!found) {
        return found.error();
    }
    write(config, function, *found,
          read<control>(config, function, *found).write_back().with(control::enable(false)));
    return {};
}

} // namespace pt::pci
