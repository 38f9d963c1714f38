// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "fake_machine.hpp"

#include <cstddef>
#include <cstdint>

namespace pci_fake {

/// A function at 0000:01:00.0 with capability lists: add() and extend() link one more entry to the
/// end of theirs. Bytes are put in as a device has them.
struct listed {
    static constexpr function_address address{0, 1, 0, 0};

    function functions[1]{{address, 0x1572'8086}};
    pci_fake::machine machine{functions, 1};
    std::size_t last = 0;
    std::size_t last_extended = 0;

    constexpr listed() { functions[0].put(0x06, 2, 0x0010); } // Status: there is a list
    listed(const listed&) = delete;
    listed& operator=(const listed&) = delete;

    constexpr pci_fake::config config() { return {&machine}; }
    constexpr void put(std::size_t offset, std::size_t count, std::uint64_t value) {
        functions[0].put(offset, count, value);
    }
    constexpr void allow(std::size_t offset, std::size_t count, std::uint64_t mask) {
        functions[0].allow(offset, count, mask);
    }
    [[nodiscard]] constexpr std::uint64_t get(std::size_t offset, std::size_t count) const {
        return functions[0].get(offset, count);
    }

    constexpr void add(std::size_t offset, std::uint8_t id) {
        put(last == 0 ? 0x34 : last + 1, 1, offset);
        put(offset, 2, id);
        last = offset;
    }
    /// The PCI Express capability of an endpoint, version 2, without which there is no extended list.
    constexpr void express(std::size_t offset = 0x40) {
        add(offset, 0x10);
        put(offset + 2, 2, 0x0002);
    }
    /// The first one is to be at 0x100.
    constexpr void extend(std::size_t offset, std::uint16_t id, unsigned version = 1) {
        if (last_extended != 0) {
            put(last_extended, 4, (get(last_extended, 4) & 0xF'FFFF) | std::uint64_t{offset} << 20);
        }
        put(offset, 4, std::uint64_t{id} | std::uint64_t{version} << 16);
        last_extended = offset;
    }
    /// Whether nothing was written and every access was one that a bus can carry.
    [[nodiscard]] constexpr bool only_read() const {
        return machine.writes() == 0 && !machine.out_of_bounds;
    }
};

} // namespace pci_fake
