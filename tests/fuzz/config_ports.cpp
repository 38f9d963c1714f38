// SPDX-License-Identifier: BSL-1.0
//
// A guest's arbitrary accesses to configuration space: through the ports with both forms of
// CONFIG_ADDRESS, and through the ECAM window, all over one router whose routes come and go. Most
// functions have another address in the host than in the guest. The oracle is plain bytes and
// masks: it takes every access apart into bytes, and knows no register and no type of pt.
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/ecam.hpp"
#include "pt/pci/function_config.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

using pt::mmio_width;
using pt::width;
using pt::pci::function_address;
using pt::pci::port_claim;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

constexpr std::size_t function_count = 5;
constexpr std::uint16_t segment = 5;

/// Bus, device and function as 16 bits, in the guest and in the host. The host's numbers are partly
/// the guest's of another function. The last one is emulated and has none in the host.
constexpr unsigned guest_ids[function_count] = {0x0019, 0x0018, 0x0120, 0x03FF, 0x0208};
constexpr unsigned host_ids[function_count] = {0x0019, 0x0200, 0x0018, 0x4010, 0x1'0000};

/// 4096 bytes, of which only odd bits can be written, and the bytes that the last access of the
/// guest touched.
struct space {
    std::uint8_t bytes[4096]{};
    unsigned accesses = 0;
    unsigned touched = 0;
    std::uint64_t lowest_touched = 4096;

    void touch(std::uint16_t offset, unsigned count) {
        demand(count == 1 || count == 2 || count == 4);
        demand(offset % 4 + count <= 4 && offset + count <= 4096);
        // Lowest first, and no byte twice.
        demand(touched == 0 || offset == lowest_touched + touched);
        lowest_touched = touched == 0 ? offset : lowest_touched;
        touched += count;
        ++accesses;
    }
    std::uint32_t read(std::uint16_t offset, width size) {
        touch(offset, static_cast<unsigned>(size));
        std::uint32_t value = 0;
        for (unsigned i = 0; i < static_cast<unsigned>(size); ++i) {
            value |= std::uint32_t{bytes[offset + i]} << 8 * i;
        }
        return value;
    }
    void write(std::uint16_t offset, width size, std::uint32_t value) {
        touch(offset, static_cast<unsigned>(size));
        demand(static_cast<std::uint64_t>(value) >> 8 * static_cast<unsigned>(size) == 0);
        for (unsigned i = 0; i < static_cast<unsigned>(size); ++i) {
            const unsigned kept = bytes[offset + i] & 0x55U;
            bytes[offset + i] = static_cast<std::uint8_t>(kept | (value >> 8 * i & 0xAA));
        }
    }
};

/// The host, which nobody may ask for any other function than those that the guest was given.
struct host_config {
    space* functions;

    [[nodiscard]] space& at(function_address address) const {
        demand(address.segment == 0);
        for (std::size_t i = 0; i < function_count; ++i) {
            if (host_ids[i] == address.bus * 256U + address.device * 8U + address.function) {
                return functions[i];
            }
        }
        __builtin_trap();
    }
    [[nodiscard]] std::uint32_t read(function_address address, std::uint16_t offset,
                                     width size) const {
        return at(address).read(offset, size);
    }
    void write(function_address address, std::uint16_t offset, width size,
               std::uint32_t value) const {
        at(address).write(offset, size, value);
    }
};

constexpr function_address address_of(unsigned id, std::uint16_t in_segment) {
    return {in_segment, static_cast<std::uint8_t>(id >> 8), static_cast<std::uint8_t>(id / 8 % 32),
            static_cast<std::uint8_t>(id % 8)};
}

/// What the guest must see.
struct oracle {
    std::uint8_t bytes[function_count][4096]{};
    bool routed[function_count]{};

    /// The byte of the function with that number, null if the guest has none.
    std::uint8_t* byte(unsigned id, unsigned offset) {
        for (std::size_t i = 0; i < function_count; ++i) {
            if (routed[i] && guest_ids[i] == id) {
                return bytes[i] + offset;
            }
        }
        return nullptr;
    }
    static void store(std::uint8_t* to, std::uint64_t value) {
        if (to != nullptr) {
            *to = static_cast<std::uint8_t>((*to & 0x55U) | (value & 0xAAU));
        }
    }
    static std::uint64_t load(const std::uint8_t* from) { return from != nullptr ? *from : 0xFF; }
};

struct access {
    bool is_write;
    unsigned count; ///< bytes
    std::uint64_t at;
    std::uint64_t value;
};

/// One IN or OUT. `latch` is what 0xCF8 must hold. Returns how many bytes of a function it touched.
template <class Ports>
unsigned through_ports(Ports& ports, oracle& model, std::uint32_t& latch, bool extended,
                       const access& now) {
    const unsigned port = now.at & 0xFFFF;
    const auto size = static_cast<width>(now.count);
    const pt::io_port at{static_cast<std::uint16_t>(port)};
    unsigned inside = 0;
    for (unsigned i = 0; i < now.count; ++i) {
        inside += port + i >= 0xCFC && port + i < 0xD00 ? 1 : 0;
    }
    const bool is_latch = port == 0xCF8 && now.count == 4;
    const port_claim expected = is_latch || inside == now.count ? port_claim::whole
                                : inside != 0                   ? port_claim::part
                                                                : port_claim::none;
    const bool data = inside == now.count;
    const unsigned id = latch >> 8 & 0xFFFF;
    const unsigned offset = (latch & 0xFC) + (extended ? latch >> 16 & 0xF00 : 0);
    const auto byte = [&](unsigned i) {
        return latch >> 31 != 0 ? model.byte(id, offset + (port + i - 0xCFC)) : nullptr;
    };
    const unsigned touched = data && byte(0) != nullptr ? now.count : 0;

    if (now.is_write) {
        demand(ports.write(at, size, static_cast<std::uint32_t>(now.value)) == expected);
        for (unsigned i = 0; data && i < now.count; ++i) {
            oracle::store(byte(i), now.value >> 8 * i);
        }
        if (is_latch) {
            latch = static_cast<std::uint32_t>(now.value) & (extended ? 0x8FFF'FFFC : 0x80FF'FFFC);
        }
    } else {
        const auto answer = ports.read(at, size);
        std::uint64_t seen = 0;
        for (unsigned i = 0; i < now.count; ++i) {
            seen |= (is_latch ? latch >> 8 * i & 0xFF
                     : data   ? oracle::load(byte(i))
                              : 0xFF)
                    << 8 * i;
        }
        demand(answer.claim == expected && answer.value == seen);
    }
    demand(ports.selected().raw == latch);
    return touched;
}

/// One load or store to a window that shows buses 1 to 3. Returns how many bytes of a function it
/// touched.
template <class Window>
unsigned through_window(Window& window, oracle& model, const access& now) {
    const auto size = static_cast<mmio_width>(now.count);
    const auto byte = [&](unsigned i) -> std::uint8_t* {
        const std::uint64_t at = now.at % 4096 + i; // of the function
        if (now.at >= 3 * 0x10'0000 || at >= 4096) {
            return nullptr;
        }
        return model.byte(static_cast<unsigned>(now.at >> 12) + 0x100, static_cast<unsigned>(at));
    };
    unsigned touched = 0;
    std::uint64_t seen = 0;
    for (unsigned i = 0; i < now.count; ++i) {
        touched += byte(i) != nullptr ? 1 : 0;
        seen |= oracle::load(byte(i)) << 8 * i;
    }
    if (now.is_write) {
        window.write(now.at, size, now.value);
        for (unsigned i = 0; i < now.count; ++i) {
            oracle::store(byte(i), now.value >> 8 * i);
        }
    } else {
        demand(window.read(now.at, size) == seen);
    }
    return touched;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    static space real[function_count];
    static oracle model;
    for (std::size_t n = 0; n < function_count; ++n) {
        for (unsigned i = 0; i < 4096; ++i) {
            real[n].bytes[i] = model.bytes[n][i] = static_cast<std::uint8_t>(i * 29 + i / 256 + n);
        }
        model.routed[n] = false;
    }
    const host_config host{real};
    using real_function = pt::pci::host_function<host_config>;
    real_function hosts[4]{{host, address_of(host_ids[0], 0)},
                           {host, address_of(host_ids[1], 0)},
                           {host, address_of(host_ids[2], 0)},
                           {host, address_of(host_ids[3], 0)}};
    space& emulated = real[4];

    pt::pci::config_routes<4> routes; // one fewer than there are functions
    const pt::pci::config_router router{routes};
    pt::pci::config_ports conventional{router, segment};
    pt::pci::config_ports<pt::pci::config_router, pt::pci::extended_config_address> extended{
        router, segment};
    pt::pci::ecam window{router, {.segment = segment, .first_bus = 1, .last_bus = 3}};
    std::uint32_t latches[2]{};

    const auto change_route = [&](std::size_t which, bool add) {
        const function_address guest = address_of(guest_ids[which], segment);
        std::size_t count = 0;
        for (const bool routed : model.routed) {
            count += routed ? 1 : 0;
        }
        if (add) {
            const auto added =
                which == 4 ? routes.add(guest, emulated) : routes.add(guest, hosts[which]);
            demand(added.has_value() == (!model.routed[which] && count < 4));
            model.routed[which] = model.routed[which] || added.has_value();
        } else {
            demand(routes.remove(guest).has_value() == model.routed[which]);
            model.routed[which] = false;
        }
    };
    for (std::size_t which = 0; which < 4; ++which) {
        change_route(which, true);
    }

    // Thirteen bytes an access: what, where, and the value.
    for (; size >= 13; input += 13, size -= 13) {
        const unsigned what = input[0];
        access now{(what & 4) != 0, 1U << (what >> 3 & 3), 0, 0};
        for (unsigned i = 0; i < 4; ++i) {
            now.at |= std::uint64_t{input[1 + i]} << 8 * i;
        }
        for (unsigned i = 0; i < 8; ++i) {
            now.value |= std::uint64_t{input[5 + i]} << 8 * i;
        }
        const bool anywhere = (what & 0x40) != 0;
        for (space& function : real) {
            function.accesses = function.touched = 0;
        }

        unsigned touched = 0;
        if ((what & 3) == 3) {
            change_route(input[1] % function_count, (what & 4) != 0);
            continue;
        }
        if ((what & 3) == 2) {
            if (!anywhere) { // in a function that may be there, or just before it or behind it
                const std::uint64_t id = guest_ids[input[4] % function_count];
                now.at = (id << 12) - 0x10'0000 + now.at % 0x1020 - 16;
            } else if ((what & 0x80) != 0) {
                now.at |= now.value << 32;
            }
            touched = through_window(window, model, now);
        } else {
            now.count = now.count == 8 ? 4 : now.count;
            now.at = anywhere ? now.at & 0xFFFF : 0xCF0 + (now.at & 31);
            if ((what & 0x20) == 0) { // selects a function that may be there
                const std::uint64_t id = guest_ids[input[4] % function_count];
                now.value = 0x8000'0000 | (now.value & 0x7F00'00FF) | id << 8;
            }
            touched = (what & 1) != 0 ? through_ports(extended, model, latches[1], true, now)
                                      : through_ports(conventional, model, latches[0], false, now);
        }

        // One function at most, each byte of it that is meant, and one access through the ports.
        unsigned arrived = 0;
        unsigned accesses = 0;
        unsigned functions = 0;
        for (const space& function : real) {
            arrived += function.touched;
            accesses += function.accesses;
            functions += function.touched != 0 ? 1 : 0;
        }
        demand(arrived == touched && functions == (touched != 0 ? 1 : 0));
        demand((what & 3) == 2 ? accesses <= 4 : accesses == functions);
        for (std::size_t n = 0; n < function_count; ++n) {
            demand(std::memcmp(real[n].bytes, model.bytes[n], sizeof real[n].bytes) == 0);
        }
    }
    return 0;
}
