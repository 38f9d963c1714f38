// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/bar.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/virtual_function_view.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <sstream>
#include <type_traits>

/// A device of plain bytes, a guest in front of its view, and a VMM that writes down what it is told.
namespace view_fixture {

using pt::errc;
using pt::error;
using pt::mmio_width;
using pt::width;
using pt::pci::bar;
using pt::pci::bar_kind;
using pt::pci::interrupt_kind;

inline constexpr pt::pci::function_address host_address{0, 3, 0, 0};

inline constexpr std::uint64_t nowhere = ~std::uint64_t{0};

/// One thing that the VMM was told, as plain numbers.
struct happening {
    enum class what : std::uint8_t { none, bar, power, reset, open, close, send, read, write };

    what kind = what::none;
    std::uint64_t a = 0, b = 0, c = 0, d = 0;

    friend constexpr bool operator==(const happening&, const happening&) = default;
    friend std::ostream& operator<<(std::ostream& out, const happening& it) {
        const char* const names[] = {"none",  "bar",  "power", "reset", "open",
                                     "close", "send", "read",  "write"};
        return out << std::hex << names[static_cast<unsigned>(it.kind)] << ' ' << it.a << ' '
                   << it.b << ' ' << it.c << ' ' << it.d << std::dec;
    }
};

constexpr happening bar_moves(unsigned index, std::uint64_t from, std::uint64_t to) {
    return {happening::what::bar, index, from, to};
}
constexpr happening power_goes(unsigned from, unsigned to) {
    return {happening::what::power, from, to};
}
constexpr happening resets() { return {happening::what::reset}; }
constexpr happening opens(interrupt_kind kind, unsigned vector, std::uint64_t address,
                          std::uint32_t data) {
    return {happening::what::open, static_cast<unsigned>(kind), vector, address, data};
}
constexpr happening closes(interrupt_kind kind, unsigned vector) {
    return {happening::what::close, static_cast<unsigned>(kind), vector};
}
constexpr happening sends(interrupt_kind kind, unsigned vector, std::uint64_t address,
                          std::uint32_t data) {
    return {happening::what::send, static_cast<unsigned>(kind), vector, address, data};
}
constexpr happening reads(unsigned bar, std::uint64_t offset, unsigned size) {
    return {happening::what::read, bar, offset, size};
}
constexpr happening writes(unsigned bar, std::uint64_t offset, unsigned size, std::uint64_t value) {
    return {happening::what::write, bar, offset, size, value};
}

/// What the VMM was told since it was last asked.
struct diary {
    happening entries[96]{};
    std::size_t count = 0;
    bool overflow = false;

    constexpr void add(const happening& entry) {
        overflow |= count == 96;
        if (!overflow) {
            entries[count++] = entry;
        }
    }
    /// Whether it was exactly this, in this order; the page is turned.
    constexpr bool was(std::initializer_list<happening> expected) {
        bool same = !overflow && expected.size() == count;
        std::size_t n = 0;
        for (const happening& entry : expected) {
            same = same && entries[n] == entry;
            ++n;
        }
        if (!same && !std::is_constant_evaluated()) {
            complain(expected);
        }
        count = 0;
        overflow = false;
        return same;
    }

private:
    void complain(std::initializer_list<happening> expected) const;
};

/// The policies' memory; handles point to it.
struct vmm {
    diary told{};
    bool refuses = false;        ///< a BAR that shall be anywhere is nowhere
    bool is_stuck = false;       ///< a BAR stays where it was
    std::uint64_t held_back = 0; ///< bit n: the device itself holds back a request of vector n
    std::uint64_t answer = 0;    ///< what the memory behind the BARs reads
    bar last_bar{};              ///< of the last bar_changed
    interrupt_kind used{};       ///< what the route was told last that is in use,
    unsigned used_vectors = 0;   ///< and how many vectors of it
    unsigned uses = 0;           ///< how often it was told
};

struct events {
    vmm* at;
    constexpr pt::pci::bar_place bar_changed(const pt::pci::bar_change& change) {
        at->told.add(bar_moves(change.device.index, change.from ? change.from.address() : nowhere,
                               change.to ? change.to.address() : nowhere));
        at->last_bar = change.device;
        return at->is_stuck ? change.from : at->refuses ? pt::pci::bar_place{} : change.to;
    }
    constexpr void power_state_changed(pt::pci::power_state from, pt::pci::power_state to) {
        at->told.add(power_goes(static_cast<unsigned>(from), static_cast<unsigned>(to)));
    }
    constexpr void reset() { at->told.add(resets()); }
};

struct route {
    vmm* at;
    constexpr void use(interrupt_kind kind, std::uint16_t vectors) {
        at->used = kind;
        at->used_vectors = vectors;
        ++at->uses;
    }
    constexpr void open(pt::pci::interrupt_source source, pt::pci::interrupt_message message) {
        at->told.add(opens(source.kind, source.vector, message.address, message.data));
    }
    constexpr void close(pt::pci::interrupt_source source) {
        at->told.add(closes(source.kind, source.vector));
    }
    constexpr void send(pt::pci::interrupt_source source, pt::pci::interrupt_message message) {
        at->told.add(sends(source.kind, source.vector, message.address, message.data));
    }
    constexpr bool pending(pt::pci::interrupt_source source) {
        return source.vector < 64 && (at->held_back >> source.vector & 1) != 0;
    }
};

struct memory {
    vmm* at;
    constexpr std::uint64_t read(std::uint8_t bar, std::uint64_t offset, mmio_width size) {
        at->told.add(reads(bar, offset, size_of(size)));
        return at->answer & all_ones(size);
    }
    constexpr void write(std::uint8_t bar, std::uint64_t offset, mmio_width size,
                         std::uint64_t value) {
        at->told.add(writes(bar, offset, size_of(size), value));
    }
};

/// A BAR of the device, as the VMM has sized it.
constexpr bar bar_of_kind(unsigned index, bar_kind kind, std::uint64_t size,
                          bool prefetchable = false) {
    return {kind,
            prefetchable,
            static_cast<std::uint8_t>(index),
            static_cast<std::uint16_t>(index == 6 ? 0x30 : 0x10 + 4 * index),
            0xE000'0000, // where it is in the host: no business of the guest
            size};
}

constexpr pt::pci::bar_list bars(std::initializer_list<pt::result<bar>> all) {
    const auto get = [&](std::uint8_t index) -> pt::result<bar> {
        for (const pt::result<bar>& each : all) {
            if (each ? each->index == index : each.error().where == 0x10U + 4U * index) {
                return each;
            }
        }
        return error{errc::absent, index};
    };
    return pt::pci::bar_list::collect(pt::pci::header_layout::device, get, get);
}

using view_type = pt::pci::virtual_function_view<pci_fake::config, events, route, memory>;

/// The capabilities that the device of most tests has, at these offsets, in this order.
inline constexpr unsigned power_at = 0x40, msi_at = 0x50, vpd_at = 0x70, msi_x_at = 0x80,
                          vendor_at = 0x90, express_at = 0xA0;

struct world {
    pci_fake::function device{host_address, 0x10D3'8086};
    pci_fake::machine machine{&device, 1};
    vmm host{};
    pt::pci::msi_x_vector vectors[8]{};
    view_type view{pci_fake::config{&machine}, host_address, events{&host}, route{&host},
                   memory{&host}};

    /// A PCI Express function with what a guest drives: power management, MSI (64 bits, masks, 4
    /// vectors), MSI-X (5 vectors in BAR 3), FLR. Interrupt pin A. Decoding and bus mastering are
    /// on, as the host has them.
    constexpr world() {
        device.put(0x04, 4, 0x0010'0007);
        device.put(0x08, 4, 0x0200'0001); // Ethernet
        device.allow(0x0C, 2, 0xFFFF);
        device.put(0x2C, 4, 0xA01F'8086);
        device.put(0x34, 1, power_at);
        device.put(0x3C, 4, 0x0000'010B);
        device.allow(0x3C, 1, 0xFF);
        // As the host has placed them, and as they would take a write that must never come.
        for (unsigned offset = 0x10; offset < 0x28; offset += 4) {
            device.bar(offset, 0xFFFF'F000, 0xE000'0000);
        }
        device.bar(0x30, 0xFFFF'0001, 0xE100'0000);
        power(0xC822, 0x0000); // neither D1 (0x0200) nor D2 (0x0400)
        msi(0x0184);           // 64 bits, masks, 4 vectors
        capability(vpd_at, 0x03, msi_x_at);
        device.allow(vpd_at + 2, 6, 0xFFFF'FFFF'FFFF);
        msi_x(4, 0x0000'0003, 0x0000'2003);
        capability(vendor_at, 0x09, express_at);
        device.put(vendor_at + 2, 6, 0x1122'3344'0008);
        device.allow(vendor_at + 4, 4, 0xFFFF'FFFF);
        express();
    }

    constexpr void capability(unsigned at, unsigned id, unsigned next) {
        device.put(at, 2, next << 8 | id);
    }
    constexpr void power(unsigned capabilities, unsigned control) {
        capability(power_at, 0x01, msi_at);
        device.put(power_at + 2, 2, capabilities);
        device.put(power_at + 4, 2, control);
        device.allow(power_at + 4, 2, 0x1F03);
        device.write_1_to_clear[power_at + 5] = 0x80;
    }
    constexpr void msi(unsigned control) {
        capability(msi_at, 0x05, vpd_at);
        device.put(msi_at + 2, 2, control);
        device.allow(msi_at + 2, 2, 0x0071);
        device.allow(msi_at + 4, 4, 0xFFFF'FFFC);
        device.allow(msi_at + 8, 8, ~std::uint64_t{0});
        device.allow(msi_at + 16, 4, ~std::uint64_t{0});
    }
    constexpr void msi_x(unsigned table_size, std::uint32_t table, std::uint32_t pending) {
        capability(msi_x_at, 0x11, vendor_at);
        device.put(msi_x_at + 2, 2, table_size);
        device.allow(msi_x_at + 2, 2, 0xC000);
        device.put(msi_x_at + 4, 4, table);
        device.put(msi_x_at + 8, 4, pending);
    }
    constexpr void express() {
        capability(express_at, 0x10, 0);
        device.put(express_at + 2, 2, 0x0002);      // endpoint, version 2
        device.put(express_at + 4, 4, 0x1000'8FC1); // FLR, role-based errors, 256 bytes
        device.put(express_at + 8, 4, 0x0010'2810); // as reset leaves it; aux power
        device.allow(express_at + 8, 2, 0x7FFF);
        device.write_1_to_clear[express_at + 10] = 0x4F;
        device.put(express_at + 0x0C, 4, 0x0003'DC11);
        device.put(express_at + 0x10, 4, 0x1011'0040);
        device.allow(express_at + 0x10, 2, 0xFFDB);
        device.put(express_at + 0x24, 4, 0x0000'0812);
        device.allow(express_at + 0x28, 2, 0xFFFF);
        device.allow(express_at + 0x30, 2, 0xFFFF);
    }

    static constexpr pt::pci::bar_list usual_bars() {
        return bars({bar_of_kind(0, bar_kind::mem64, 0x4000, true),
                     bar_of_kind(2, bar_kind::io, 32), bar_of_kind(3, bar_kind::mem32, 0x4000),
                     bar_of_kind(4, bar_kind::mem1m, 0x1000),
                     bar_of_kind(6, bar_kind::rom, 0x1'0000)});
    }

    constexpr pt::result<void> open(const pt::pci::view_options& options = {},
                                    const pt::pci::bar_list& sized = usual_bars(),
                                    std::uint16_t count = 8) {
        return view.open(sized, vectors, count, options);
    }
    /// Opens, and forgets what the VMM and the device heard of it.
    constexpr bool opened(const pt::pci::view_options& options = {},
                          const pt::pci::bar_list& sized = usual_bars(), std::uint16_t count = 8) {
        const bool good = open(options, sized, count).has_value();
        host.told.count = 0;
        machine.event_count = 0;
        return good;
    }

    // The guest.
    constexpr std::uint32_t r8(unsigned at) { return view.read(u16(at), width::byte); }
    constexpr std::uint32_t r16(unsigned at) { return view.read(u16(at), width::word); }
    constexpr std::uint32_t r32(unsigned at) { return view.read(u16(at), width::dword); }
    constexpr void w8(unsigned at, std::uint32_t v) { view.write(u16(at), width::byte, v); }
    constexpr void w16(unsigned at, std::uint32_t v) { view.write(u16(at), width::word, v); }
    constexpr void w32(unsigned at, std::uint32_t v) { view.write(u16(at), width::dword, v); }

    /// The n writes that reached the device since it was last asked were these.
    constexpr bool device_saw(std::initializer_list<pci_fake::event> expected) {
        bool same = !machine.out_of_bounds && machine.event_count <= 256 &&
                    machine.writes() == expected.size();
        std::size_t n = 0;
        for (const pci_fake::event& each : expected) {
            same = same && machine.write(n) == each;
            ++n;
        }
        machine.event_count = 0;
        return same;
    }
    constexpr bool device_saw_nothing() { return device_saw({}); }

private:
    static constexpr std::uint16_t u16(unsigned value) { return static_cast<std::uint16_t>(value); }
};

constexpr pci_fake::event device_write(unsigned offset, unsigned size, std::uint32_t value) {
    return {true, host_address, static_cast<std::uint16_t>(offset), size, value};
}

inline void diary::complain(std::initializer_list<happening> expected) const {
    std::ostringstream text;
    text << "expected:";
    for (const happening& entry : expected) {
        text << "\n  " << entry;
    }
    text << "\nhappened:";
    for (std::size_t n = 0; n < count; ++n) {
        text << "\n  " << entries[n];
    }
    WARN(text.str());
}

} // namespace view_fixture
