// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>

/// Configuration space as plain bytes, the model that the tests compare with. Nothing here uses the
/// registers or the rules of the code under test.
namespace pci_fake {

using pt::width;
using pt::pci::function_address;

/// One function: per byte what it holds, which bits a write changes, which bits a written 1 clears.
struct function {
    static constexpr std::size_t size = 4096;

    function_address address{};
    std::uint8_t bytes[size]{};
    std::uint8_t writable[size]{};
    std::uint8_t write_1_to_clear[size]{};

    constexpr void put(std::size_t offset, std::size_t count, std::uint64_t value) {
        for (std::size_t i = 0; i < count; ++i) {
            bytes[offset + i] = static_cast<std::uint8_t>(value >> 8 * i);
        }
    }
    constexpr void allow(std::size_t offset, std::size_t count, std::uint64_t mask) {
        for (std::size_t i = 0; i < count; ++i) {
            writable[offset + i] = static_cast<std::uint8_t>(mask >> 8 * i);
        }
    }
    [[nodiscard]] constexpr std::uint64_t get(std::size_t offset, std::size_t count) const {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < count; ++i) {
            value |= std::uint64_t{bytes[offset + i]} << 8 * i;
        }
        return value;
    }

    /// A type 0 function with ids, a Command whose defined bits can be written and a Status whose
    /// errors are cleared by 1.
    constexpr function(function_address where, std::uint32_t ids) : address{where} {
        put(0, 4, ids);
        allow(4, 2, 0x0547);
        write_1_to_clear[7] = 0xF9;
    }
    /// A dword of a BAR: `mask` are the bits that can be written, `value` what it holds.
    constexpr void bar(std::size_t offset, std::uint32_t mask, std::uint32_t value) {
        put(offset, 4, value);
        allow(offset, 4, mask);
    }
};

/// One access as it arrived.
struct event {
    bool is_write = false;
    function_address address{};
    std::uint16_t offset = 0;
    unsigned size = 0;
    std::uint32_t value = 0;

    friend constexpr bool operator==(const event&, const event&) = default;
};

/// Some functions, and what happened to them.
struct machine {
    function* functions = nullptr;
    std::size_t function_count = 0;

    event events[256]{};
    std::size_t event_count = 0;
    bool out_of_bounds = false;
    /// After that many accesses every function is gone; 0 for never.
    std::size_t removed_after = 0;

    constexpr machine(function* list, std::size_t count) : functions{list}, function_count{count} {}

    constexpr function* find(function_address address) const {
        for (std::size_t i = 0; i < function_count; ++i) {
            if (functions[i].address == address) {
                return functions + i;
            }
        }
        return nullptr;
    }

    constexpr function* arrived(const event& what) {
        if (what.offset % 4 + what.size > 4 || what.offset + what.size > function::size ||
            (what.size < 4 && what.is_write && what.value >> 8 * what.size != 0)) {
            out_of_bounds = true;
            return nullptr;
        }
        events[event_count++ % 256] = what;
        if (removed_after != 0 && event_count > removed_after) {
            return nullptr;
        }
        return find(what.address);
    }

    [[nodiscard]] constexpr std::size_t writes() const {
        std::size_t count = 0;
        for (std::size_t i = 0; i < event_count; ++i) {
            count += events[i].is_write ? 1 : 0;
        }
        return count;
    }
    /// The n-th write.
    [[nodiscard]] constexpr event write(std::size_t n) const {
        for (std::size_t i = 0; i < event_count; ++i) {
            if (events[i].is_write && n-- == 0) {
                return events[i];
            }
        }
        return {};
    }
};

/// The config_access to a machine.
struct config {
    machine* at = nullptr;

    constexpr std::uint32_t read(function_address address, std::uint16_t offset, width size) {
        const unsigned count = static_cast<unsigned>(size);
        const function* const target = at->arrived({false, address, offset, count, 0});
        return target != nullptr ? static_cast<std::uint32_t>(target->get(offset, count))
               : count == 4      ? 0xFFFF'FFFF
                                 : (1U << 8 * count) - 1;
    }
    constexpr void write(function_address address, std::uint16_t offset, width size,
                         std::uint32_t value) {
        const unsigned count = static_cast<unsigned>(size);
        function* const target = at->arrived({true, address, offset, count, value});
        if (target == nullptr) {
            return;
        }
        for (unsigned i = 0; i < count; ++i) {
            const unsigned arriving = value >> 8 * i & 0xFF;
            const unsigned mask = target->writable[offset + i];
            const unsigned cleared = arriving & target->write_1_to_clear[offset + i];
            const unsigned before = target->bytes[offset + i] & ~cleared;
            target->bytes[offset + i] =
                static_cast<std::uint8_t>((before & ~mask) | (arriving & mask));
        }
    }
};
static_assert(pt::pci::config_access<config>);

} // namespace pci_fake
