// SPDX-License-Identifier: BSL-1.0
//
// Whatever writes to a function: BARs sized and moved, a bridge's windows probed, moved and closed,
// bus numbers given. The device is stable, each byte with arbitrary bits that can be written. An
// error leaves every byte as it was, and so do sizing and probing; a success leaves what was asked
// for, and all else as it was. BARs are never written while the function decodes.
#include "pt/pci/bar.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/bridge_window.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using namespace pt::pci;
using pt::width;

constexpr function_address target{0, 0x12, 3, 4};

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

/// Numbers that the input chooses; when it ends, it begins anew.
struct choices {
    const std::uint8_t* input;
    std::size_t size;
    std::size_t used = 0;

    std::uint64_t bytes(unsigned count) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            value = value << 8 | input[used++ % size];
        }
        return value;
    }
    /// Often at an edge: 0, all ones, one bit, a run to the top.
    std::uint64_t number() {
        const std::uint64_t how = bytes(1);
        switch (how % 4) {
        case 0: return how / 4 % 2 == 0 ? 0 : ~std::uint64_t{0};
        case 1: return std::uint64_t{1} << how / 4;
        case 2: return ~std::uint64_t{0} << how / 4;
        default: return bytes(8);
        }
    }
};

std::uint64_t joined(const std::uint8_t* first, unsigned count) {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < count; ++i) {
        value |= std::uint64_t{first[i]} << 8 * i;
    }
    return value;
}

struct device {
    std::uint8_t bytes[64]{};
    std::uint8_t writable[64]{};

    void put(unsigned offset, unsigned count, std::uint64_t value, std::uint64_t mask) {
        for (unsigned i = 0; i < count; ++i) {
            bytes[offset + i] = static_cast<std::uint8_t>(value >> 8 * i);
            writable[offset + i] = static_cast<std::uint8_t>(mask >> 8 * i);
        }
    }
    [[nodiscard]] std::uint64_t get(unsigned offset, unsigned count) const {
        return joined(bytes + offset, count);
    }
    [[nodiscard]] std::uint64_t mask(unsigned offset, unsigned count) const {
        return joined(writable + offset, count);
    }
    /// Whether it holds what `other` does, but for `count` bytes from `offset` on.
    [[nodiscard]] bool same_but(const device& other, unsigned offset = 0,
                                unsigned count = 0) const {
        for (unsigned i = 0; i < sizeof bytes; ++i) {
            if ((i < offset || i >= offset + count) && bytes[i] != other.bytes[i]) {
                return false;
            }
        }
        return true;
    }
};

struct device_config {
    device* at;

    std::uint32_t read(function_address asked, std::uint16_t offset, width size) const {
        const unsigned count = static_cast<unsigned>(size);
        demand(asked == target && offset % 4 + count <= 4 && offset + count <= 64);
        return static_cast<std::uint32_t>(at->get(offset, count));
    }
    void write(function_address asked, std::uint16_t offset, width size,
               std::uint32_t value) const {
        const unsigned count = static_cast<unsigned>(size);
        demand(asked == target && offset % 4 + count <= 4 && offset + count <= 64);
        demand(count == 4 || value >> 8 * count == 0);
        const bool of_a_bar = offset >= 0x10 && offset < (at->bytes[0x0E] == 0 ? 0x28 : 0x18);
        const bool of_the_rom = offset == (at->bytes[0x0E] == 0 ? 0x30 : 0x38);
        demand((!of_a_bar && !of_the_rom) || (at->bytes[4] & 3) == 0);
        for (unsigned i = 0; i < count; ++i) {
            const unsigned mask = at->writable[offset + i];
            at->bytes[offset + i] = static_cast<std::uint8_t>((at->bytes[offset + i] & ~mask) |
                                                              (value >> 8 * i & mask));
        }
    }
};

void bars(device& real, choices& next) {
    const device_config config{&real};
    const device before = real;
    const bar_list sized = size_bars(config, target);
    demand(real.same_but(before));
    for (const auto& each : sized) {
        if (!each) {
            continue;
        }
        const bar& one = *each;
        demand(one.size != 0 && (one.size & (one.size - 1)) == 0 && one.address % one.size == 0);
        demand((real.mask(one.offset, 4 * one.registers()) & ~(one.size - 1)) != 0);
        const std::uint64_t address =
            next.number() & (next.bytes(1) % 4 == 0 ? ~std::uint64_t{0} : ~(one.size - 1));
        const device held = real;
        const auto moved = write_bar(config, target, one, address);
        demand(moved ? real.same_but(held, one.offset, 4 * one.registers()) : real.same_but(held));
        if (moved) {
            const std::uint64_t flags = one.kind == bar_kind::io    ? 3
                                        : one.kind == bar_kind::rom ? 0x7FF
                                                                    : 15;
            const std::uint64_t now = real.get(one.offset, 4 * one.registers());
            demand((now & ~flags) == address && moved->address == address);
            demand((now & flags) == (held.get(one.offset, 4) & flags));
        }
    }
}

void windows(device& real, choices& next) {
    const device_config config{&real};
    for (const auto kind : {window_kind::io, window_kind::memory, window_kind::prefetchable}) {
        const device before = real;
        const auto bits = probe_window(config, target, kind);
        demand(real.same_but(before) && (!bits || (*bits >= 16 && *bits <= 64)));

        const std::uint64_t unit = kind == window_kind::io ? 0x1000 : 0x10'0000;
        const std::uint64_t odd = next.bytes(1) % 8 == 0 ? 0 : unit - 1;
        const std::uint64_t base = next.number() & ~odd;
        const std::uint64_t size = next.number() & ~odd;
        const auto placed = write_window(config, target, kind, base, size);
        if (!placed) {
            demand(real.same_but(before));
        } else {
            demand(bits && base % unit == 0 && size % unit == 0 && base + (size - 1) >= base);
            const auto found = read_window(config, target, kind);
            demand(found && found->base == base && found->limit == base + (size - 1));
        }
        const device held = real;
        if (!close_window(config, target, kind)) {
            demand(real.same_but(held));
        } else {
            // One at 0 whose Base cannot be written is taken for one that the bridge lacks.
            const unsigned at = kind == window_kind::io       ? 0x1C
                                : kind == window_kind::memory ? 0x20
                                                              : 0x24;
            const bool lacking = (real.writable[at] & 0xF0) == 0 &&
                                 (kind == window_kind::io || real.writable[at + 1] == 0);
            demand(lacking || !read_window(config, target, kind));
        }
        // Secondary Status, and all that is no window, is never touched.
        demand(real.get(0x18, 4) == before.get(0x18, 4) &&
               real.get(0x1E, 2) == before.get(0x1E, 2));
        demand(real.get(0x34, 8) == before.get(0x34, 8) && real.get(0, 8) == before.get(0, 8));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    choices next{input, size};
    device real{};
    const bool bridge = next.bytes(1) % 2 != 0;
    real.put(0x00, 4, 0x1234'8086, 0);
    real.put(0x04, 2, next.bytes(1) % 8, 0x0547);
    real.put(0x0E, 1, bridge ? 1 : 0, 0);
    for (unsigned offset = 0x10; offset < 0x40; offset += 4) {
        real.put(offset, 4, next.number(), next.number());
    }
    // What a sound device has at those places, so that more than errors is seen.
    const unsigned last_bar = bridge ? 0x14 : 0x24;
    for (unsigned offset = 0x10; offset <= last_bar; offset += 4) {
        const std::uint64_t kind = next.bytes(1) % 8;
        const std::uint64_t mask = ~std::uint64_t{0} << (4 + next.bytes(1) % 28);
        const std::uint64_t address = next.number() & mask;
        switch (kind) {
        case 0: real.put(offset, 4, 0, 0); break;
        case 1: real.put(offset, 4, (address & 0xFF00) | 1, 0xFFE0); break;
        case 2: real.put(offset, 4, address | 8, mask); break;
        case 3: real.put(offset, 4, (address & 0xF'FFFF) | 2, mask & 0xF'FFFF); break;
        case 4:
            if (offset < last_bar) {
                real.put(offset, 8, address | 12, mask);
                offset += 4;
            }
            break;
        default: break; // arbitrary
        }
    }
    if (bridge && next.bytes(1) % 4 != 0) {
        const unsigned wide = next.bytes(1) % 2 != 0 ? 1 : 0;
        real.put(0x1C, 2, (next.number() & 0xF0F0) | wide * 0x0101, 0xF0F0);
        real.put(0x20, 4, next.number() & 0xFFF0'FFF0, 0xFFF0'FFF0);
        real.put(0x24, 4, (next.number() & 0xFFF0'FFF0) | wide * 0x1'0001, 0xFFF0'FFF0);
        const std::uint64_t upper = ~std::uint64_t{0} >> (32 + next.bytes(1) % 32);
        real.put(0x28, 4, next.number() & upper, upper);
        real.put(0x2C, 4, next.number() & upper, upper);
    }

    bars(real, next);
    if (bridge) {
        windows(real, next);
        const device before = real;
        const auto numbers = next.bytes(3);
        const auto primary = static_cast<std::uint8_t>(numbers);
        const auto secondary = static_cast<std::uint8_t>(numbers >> 8);
        const auto subordinate = static_cast<std::uint8_t>(numbers >> 16);
        if (write_bus_numbers(device_config{&real}, target, primary, secondary, subordinate)) {
            demand(real.same_but(before, 0x18, 3) && real.get(0x18, 3) == numbers);
        } else {
            demand(real.same_but(before));
        }
    }
    return 0;
}
