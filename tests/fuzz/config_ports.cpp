// SPDX-License-Identifier: BSL-1.0
//
// A guest's arbitrary I/O accesses against config_ports over one function. The oracle is plain
// bytes and masks: it takes every access apart into the bytes of the bus, and knows no register
// and no type of pt.
#include "pt/pci/config_ports.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using pt::width;
using pt::pci::function_address;
using pt::pci::port_claim;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

constexpr function_address present{5, 0, 3, 1};

/// 256 bytes of which only odd bits can be written, and the last access that arrived.
struct space {
    std::uint8_t bytes[256]{};
    unsigned accesses = 0;
    std::uint16_t last_offset = 0;
    unsigned last_size = 0;
    function_address last_address{};
};

struct space_config {
    space* at;

    void note(function_address address, std::uint16_t offset, width size) const {
        const unsigned count = static_cast<unsigned>(size);
        demand(count == 1 || count == 2 || count == 4);
        demand(offset % 4 + count <= 4 && offset + count <= sizeof at->bytes);
        demand(address.segment == 5 && address.device < 32 && address.function < 8);
        ++at->accesses;
        at->last_offset = offset;
        at->last_size = count;
        at->last_address = address;
    }
    std::uint32_t read(function_address address, std::uint16_t offset, width size) const {
        note(address, offset, size);
        std::uint32_t value = 0;
        for (unsigned i = 0; i < static_cast<unsigned>(size); ++i) {
            value |= std::uint32_t{address == present ? at->bytes[offset + i] : std::uint8_t{0xFF}}
                     << 8 * i;
        }
        return value;
    }
    void write(function_address address, std::uint16_t offset, width size,
               std::uint32_t value) const {
        note(address, offset, size);
        demand(static_cast<std::uint64_t>(value) >> 8 * static_cast<unsigned>(size) == 0);
        for (unsigned i = 0; address == present && i < static_cast<unsigned>(size); ++i) {
            const unsigned kept = at->bytes[offset + i] & 0x55U;
            at->bytes[offset + i] = static_cast<std::uint8_t>(kept | (value >> 8 * i & 0xAA));
        }
    }
};

/// What the guest must see.
struct oracle {
    std::uint8_t latch[4]{};
    std::uint8_t bytes[256]{};

    [[nodiscard]] bool enabled() const { return latch[3] >= 0x80; }
    [[nodiscard]] bool reaches() const {
        // 00:03.1: bus 0, device 3 and function 1 are 00011'001 in the second byte.
        return enabled() && latch[2] == 0 && latch[1] == 0x19;
    }
    [[nodiscard]] std::uint8_t data(unsigned lane) const {
        return reaches() ? bytes[latch[0] + lane] : 0xFF;
    }
    void set_data(unsigned lane, unsigned value) {
        if (reaches()) {
            std::uint8_t& byte = bytes[latch[0] + lane];
            byte = static_cast<std::uint8_t>((byte & 0x55U) | (value & 0xAAU));
        }
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    space real{};
    oracle model{};
    for (unsigned i = 0; i < 256; ++i) {
        real.bytes[i] = model.bytes[i] = static_cast<std::uint8_t>(i * 29 + 7);
    }
    pt::pci::config_ports ports{space_config{&real}, present.segment};

    // Eight bytes an access: what, the port twice, and the value.
    for (; size >= 8; input += 8, size -= 8) {
        const bool is_write = (input[0] & 1) != 0;
        const unsigned count = 1U << (input[0] >> 1 & 3) % 3;
        const auto access = static_cast<width>(count);
        // Mostly near the ports, else anywhere.
        const unsigned port =
            (input[0] & 0x80) != 0 ? input[1] + 256U * input[2] : 0xCF0 + (input[1] & 31U);
        std::uint32_t value = input[4] | static_cast<std::uint32_t>(input[5]) << 8 |
                              static_cast<std::uint32_t>(input[6]) << 16 |
                              static_cast<std::uint32_t>(input[7]) << 24;
        if ((input[0] & 0x40) != 0) {
            value = 0x8000'1900 | (value & 0xFF); // mostly the function that is there
        }

        unsigned inside = 0;
        for (unsigned i = 0; i < count; ++i) {
            inside += port + i >= 0xCFC && port + i < 0xD00 ? 1 : 0;
        }
        const bool is_latch = port == 0xCF8 && count == 4;
        const port_claim expected = is_latch || inside == count ? port_claim::whole
                                    : inside != 0               ? port_claim::part
                                                                : port_claim::none;
        const unsigned before = real.accesses;
        const pt::io_port at{static_cast<std::uint16_t>(port)};

        if (is_write) {
            demand(ports.write(at, access, value) == expected);
            for (unsigned i = 0; expected == port_claim::whole && i < count; ++i) {
                const unsigned byte = value >> 8 * i & 0xFF;
                if (is_latch) {
                    constexpr std::uint8_t exists[4] = {0xFC, 0xFF, 0xFF, 0x80};
                    model.latch[i] = static_cast<std::uint8_t>(byte & exists[i]);
                } else {
                    model.set_data(port + i - 0xCFC, byte);
                }
            }
        } else {
            const auto answer = ports.read(at, access);
            demand(answer.claim == expected);
            for (unsigned i = 0; i < 4; ++i) {
                const unsigned byte = answer.value >> 8 * i & 0xFF;
                if (i >= count) {
                    demand(byte == 0);
                } else if (expected != port_claim::whole) {
                    demand(byte == 0xFF);
                } else {
                    demand(byte == (is_latch ? model.latch[i] : model.data(port + i - 0xCFC)));
                }
            }
        }

        // One bus access for one configuration access, and none for anything else.
        const bool forwarded = expected == port_claim::whole && !is_latch && model.enabled();
        demand(real.accesses == before + (forwarded ? 1 : 0));
        if (forwarded) {
            demand(real.last_offset == model.latch[0] + (port - 0xCFC) && real.last_size == count);
            demand(real.last_address.bus == model.latch[2] &&
                   real.last_address.device * 8 + real.last_address.function == model.latch[1]);
        }
        for (unsigned i = 0; i < 256; ++i) {
            demand(real.bytes[i] == model.bytes[i]);
        }
    }
    return 0;
}
