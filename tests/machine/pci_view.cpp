// SPDX-License-Identifier: BSL-1.0
//
// pt's view of an assigned function, over real models of devices: QEMU's e1000e (an 82574L) and its
// NVMe controller, which has a 64-bit BAR and its MSI-X table in the middle of it. Guests reach them
// at other addresses than the host's, by port accesses in the order in which Linux, FreeBSD and
// Windows make them.
//
// Two judges. A record of all that arrives at the real devices: never a probe value, a BAR, an MSI
// or a power state. And a second machine, in which the same scripts drive the same devices without
// pt: what a guest reads is what it would read there.
//
// Where QEMU 7.2 is not the hardware, and the scripts look away: memory that nothing answers reads
// zeros; a function in D3hot still decodes, and comes back from there as it was although it does not
// say so (No_Soft_Reset). Parity Error Response is wired to 0, as a PCI Express function inside the
// root complex may do; a guest of the view can write it.

#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"

#include "pt/pci/bar.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/bar_pieces.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/ecam.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/port_config_access.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/virtual_function_view.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <range/v3/algorithm/any_of.hpp>

namespace pci = pt::pci;
using emulator::qemu;
using emulator::qemu_mmio;
using emulator::qemu_ports;
using pci::function_address;
using pt::mmio_width;
using pt::width;

namespace {

using strings = std::vector<std::string>;
const strings no_strings;

std::string text(const char* form, auto... values) {
    char line[160];
    std::snprintf(line, sizeof line, form, values...);
    return line;
}

using ull = unsigned long long;

// ------------------------------------------------------------------------------ the machines

constexpr function_address guest_nic{0, 0, 3, 0};
constexpr function_address guest_nvme{0, 0, 4, 0};
constexpr function_address host_nic{0, 0, 9, 0};
constexpr function_address host_nvme{0, 0, 12, 0};

constexpr const char* mac = "52:54:00:12:34:56";
constexpr std::uint32_t mac_low = 0x1200'5452; // RAL0 of that address [82574]

qemu::options options(const char* name, function_address nic, function_address nvme) {
    return {.arguments = {"-machine", "q35", "-accel", "tcg", "-nodefaults", "-no-user-config",
                          "-display", "none", "-m", "64", "-netdev", "hubport,id=n0,hubid=0",
                          "-device", text("e1000e,netdev=n0,addr=%x,mac=%s", nic.device, mac),
                          "-drive", "driver=null-co,read-zeroes=on,if=none,id=d0", "-device",
                          text("nvme,drive=d0,serial=pt,addr=%x", nvme.device)},
            .name = name};
}

/// What firmware does: turns q35's window for configuration space on (PCIEXBAR of the host bridge).
constexpr pt::hpa ecam_base{0xB000'0000};

void open_ecam(qemu& machine) {
    pci::port_config_access config{qemu_ports{machine}};
    config.write({}, 0x64, width::dword, 0);
    config.write({}, 0x60, width::dword, static_cast<std::uint32_t>(ecam_base.raw) | 1);
}

/// A machine that a guest drives as it is: nothing of pt.
class bare_machine {
public:
    bare_machine() { open_ecam(machine_); }

    std::uint32_t in(std::uint16_t port, width size) {
        switch (size) {
        case width::byte: return machine_.in8(port);
        case width::word: return machine_.in16(port);
        default: return machine_.in32(port);
        }
    }
    void out(std::uint16_t port, width size, std::uint32_t value) {
        switch (size) {
        case width::byte: return machine_.out8(port, static_cast<std::uint8_t>(value));
        case width::word: return machine_.out16(port, static_cast<std::uint16_t>(value));
        default: return machine_.out32(port, value);
        }
    }
    std::uint32_t load(std::uint64_t address) { return machine_.read32(address); }
    void store(std::uint64_t address, std::uint32_t value) { machine_.write32(address, value); }

private:
    qemu machine_{options("bare", guest_nic, guest_nvme)};
};

/// A write that arrived at a real function.
struct device_write {
    function_address function;
    std::uint16_t offset = 0;
    width size{};
    std::uint32_t value = 0;

    friend bool operator==(const device_write&, const device_write&) = default;
};

/// The host's configuration space, all of it, and a record of what is written there.
class recorded_config {
public:
    recorded_config(qemu& machine, std::vector<device_write>& writes)
        : config_{qemu_mmio{machine, ecam_base}}, writes_{&writes} {}

    std::uint32_t read(function_address function, std::uint16_t offset, width size) {
        return config_.read(function, offset, size);
    }
    void write(function_address function, std::uint16_t offset, width size, std::uint32_t value) {
        writes_->push_back({function, offset, size, value});
        config_.write(function, offset, size, value);
    }

private:
    pci::ecam_config_access<qemu_mmio> config_;
    std::vector<device_write>* writes_;
};
static_assert(pci::config_access<recorded_config>);

std::string text(pci::bar_place place) {
    return place ? text("%llx", static_cast<ull>(place.address())) : "nowhere";
}

/// What the VMM knows of one assigned function: where its BARs are for the guest, as its events
/// tell, and what else was told.
struct told {
    strings events;
    strings route;
    std::map<unsigned, std::pair<pci::bar, std::uint64_t>> mapped; ///< by index: to where

    strings take_events() { return std::exchange(events, {}); }
    strings take_route() { return std::exchange(route, {}); }
};

struct telling_events {
    told* to;

    pci::bar_place bar_changed(const pci::bar_change& change) {
        to->events.push_back(text("bar %d: ", change.device.index) + text(change.from) + " to " +
                             text(change.to));
        // It must be where the events have left it.
        const auto known = to->mapped.find(change.device.index);
        const auto at =
            known == to->mapped.end() ? pci::bar_place{} : pci::bar_place{known->second.second};
        if (at != change.from) {
            to->events.push_back("and it was not there");
        }
        to->mapped.erase(change.device.index);
        if (change.to) {
            to->mapped[change.device.index] = {change.device, change.to.address()};
        }
        return change.to;
    }
    void power_state_changed(pci::power_state from, pci::power_state state) {
        to->events.push_back(
            text("power %u to %u", static_cast<unsigned>(from), static_cast<unsigned>(state)));
    }
    void reset() { to->events.push_back("reset"); }
};
static_assert(pci::function_events<telling_events>);

struct telling_route {
    told* to;

    void open(pci::interrupt_source source, pci::interrupt_message message) {
        say("open", source,
            source.kind == pci::interrupt_kind::intx
                ? ""
                : text(": %x at %llx", message.data, static_cast<ull>(message.address)));
    }
    void close(pci::interrupt_source source) { say("close", source, ""); }
    void send(pci::interrupt_source source, pci::interrupt_message message) {
        say("send", source, text(": %x at %llx", message.data, static_cast<ull>(message.address)));
    }
    void use(pci::interrupt_kind, std::uint16_t) {}
    bool pending(pci::interrupt_source) { return false; }

private:
    void say(const char* what, pci::interrupt_source source, const std::string& rest) {
        constexpr const char* kinds[]{"intx", "msi", "msi-x"};
        to->route.push_back(
            text("%s %s %u", what, kinds[static_cast<unsigned>(source.kind)], source.vector) +
            rest);
    }
};
static_assert(pci::interrupt_route<telling_route>);

/// The memory of a device's BARs, where the host has placed them.
struct host_bar_memory {
    qemu* machine;
    const std::array<std::uint64_t, 7>* bases;

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, mmio_width size) {
        const std::uint64_t at = (*bases)[bar] + offset;
        switch (size) {
        case mmio_width::byte: return machine->read8(at);
        case mmio_width::word: return machine->read16(at);
        case mmio_width::dword: return machine->read32(at);
        case mmio_width::qword: break;
        }
        return machine->read64(at);
    }
    void write(std::uint8_t bar, std::uint64_t offset, mmio_width size, std::uint64_t value) {
        const std::uint64_t at = (*bases)[bar] + offset;
        switch (size) {
        case mmio_width::byte: return machine->write8(at, static_cast<std::uint8_t>(value));
        case mmio_width::word: return machine->write16(at, static_cast<std::uint16_t>(value));
        case mmio_width::dword: return machine->write32(at, static_cast<std::uint32_t>(value));
        case mmio_width::qword: break;
        }
        machine->write64(at, value);
    }
};
static_assert(pci::bar_memory<host_bar_memory>);

using view_type =
    pci::virtual_function_view<recorded_config, telling_events, telling_route, host_bar_memory>;

/// A real function and what a guest is shown of it. The host places its BARs and lets it decode.
struct assigned {
    assigned(qemu& machine, std::vector<device_write>& writes, function_address where,
             std::uint64_t memory, std::uint64_t ports)
        : host{where},
          view{recorded_config{machine, writes}, host, telling_events{&said}, telling_route{&said},
               host_bar_memory{&machine, &bases}} {
        open_ecam(machine);
        pci::port_config_access config{qemu_ports{machine}};
        sized = pci::size_bars(config, host);
        for (const auto& each : sized) {
            REQUIRE(each);
            std::uint64_t& next = each->kind == pci::bar_kind::io ? ports : memory;
            next = (next + each->size - 1) / each->size * each->size;
            REQUIRE(pci::write_bar(config, host, *each, next));
            bases[each->index] = next;
            next += each->size;
        }
        // The list is what the view is told: with the host's addresses. What the guest shall reach
        // is decoded all the time, the ROM too.
        sized = pci::size_bars(config, host);
        using pci::command;
        pci::write(config, host, command{command::io_space(true), command::memory_space(true)});
        if (bases[pci::expansion_rom_index] != 0) {
            config.write(host, 0x30, width::dword,
                         static_cast<std::uint32_t>(bases[pci::expansion_rom_index]) | 1);
        }
        writes.clear();
        const auto opened =
            view.open(sized, vectors.data(), static_cast<std::uint16_t>(vectors.size()));
        INFO((opened ? ""
                     : text("%s at %llx", pt::name(opened.error().code),
                            static_cast<ull>(opened.error().where))));
        REQUIRE(opened);
    }

    function_address host;
    told said;
    std::array<std::uint64_t, 7> bases{}; ///< where the host has the BARs
    pci::bar_list sized;
    std::array<pci::msi_x_vector, 80> vectors{};
    view_type view;
};

/// A machine whose functions a guest sees through pt: a small VMM. Ports and memory of BARs are
/// where the views' events have put them.
class vmm {
public:
    vmm() {
        REQUIRE(routes_.add(guest_nic, nic.view));
        REQUIRE(routes_.add(guest_nvme, nvme.view));
        // The guest's interrupts are open at first: take note, and begin.
        CHECK(nic.said.take_route() == strings{"open intx 0"});
        CHECK(nvme.said.take_route() == strings{"open intx 0"});
        CHECK(nic.said.take_events().empty());
        for (assigned* const each : {&nic, &nvme}) {
            for (std::uint16_t offset = 0x10; offset < 0x34; offset += 4) {
                bars_before_.push_back(raw_.read(each->host, offset, width::dword));
            }
        }
    }

    std::uint32_t in(std::uint16_t port, width size) {
        const pci::port_answer answer = config_.read(pt::io_port{port}, size);
        if (answer.claim == pci::port_claim::none) {
            const auto there = find_port(port);
            return !there                ? pt::all_ones(size)
                   : size == width::byte ? machine.in8(*there)
                   : size == width::word ? machine.in16(*there)
                                         : machine.in32(*there);
        }
        REQUIRE(answer.claim == pci::port_claim::whole);
        return answer.value;
    }
    void out(std::uint16_t port, width size, std::uint32_t value) {
        const pci::port_claim claim = config_.write(pt::io_port{port}, size, value);
        if (claim == pci::port_claim::none) {
            if (const auto there = find_port(port)) {
                REQUIRE(size == width::dword);
                machine.out32(*there, value);
            }
            return;
        }
        REQUIRE(claim == pci::port_claim::whole);
    }
    std::uint32_t load(std::uint64_t address) {
        const auto place = find(address);
        return !place           ? 0 // as QEMU's memory where nothing is
               : place->trapped ? static_cast<std::uint32_t>(place->of->view.read_memory(
                                      place->bar, place->offset, mmio_width::dword))
                                : machine.read32(place->host);
    }
    void store(std::uint64_t address, std::uint32_t value) {
        const auto place = find(address);
        if (place && place->trapped) {
            place->of->view.write_memory(place->bar, place->offset, mmio_width::dword, value);
        } else if (place) {
            machine.write32(place->host, value);
        }
    }

    /// Whether the guest reaches something there without leaving to the VMM.
    bool is_mapped(std::uint64_t address) {
        const auto place = find(address);
        return place && !place->trapped;
    }

    /// ECAM as the guest sees it.
    auto ecam() { return pci::ecam{pci::config_router{routes_}}; }

    /// What arrived at the real functions, judged: nothing of what is the host's.
    void check_devices_untouched() {
        for (const device_write& each : writes) {
            INFO(text("write of %x to %x", each.value, each.offset));
            // Command, in which the host's decoding stays on and only bus mastering and memory
            // write and invalidate change; Status, of which only errors are cleared (bit 4 is
            // written as it is read); of PCI Express's Device Control, which QEMU 7.2 has at 0xE8
            // (NIC) and 0x88 (NVMe), what is the guest's; cache line size and latency timer.
            const std::uint16_t express = each.function == host_nic ? 0xE0 : 0x80;
            const bool to_command = each.offset == 0x04 && (each.value & 0xFFEB) == 0x0003 &&
                                    (each.value >> 16 & ~0xF910U) == 0;
            const bool to_status = (each.offset == 0x06 && (each.value & ~0xF910U) == 0) ||
                                   (each.offset == 0x07 && (each.value & ~0xF9U) == 0);
            const bool to_express = each.offset == express + 8 && each.size == width::word &&
                                    (each.value & ~0x7810U) == 0;
            const bool to_header = (each.offset == 0x0C || each.offset == 0x0D);
            CHECK((to_command || to_status || to_express || to_header));
        }
        std::size_t n = 0;
        for (assigned* const each : {&nic, &nvme}) {
            for (std::uint16_t offset = 0x10; offset < 0x34; offset += 4) {
                CHECK(raw_.read(each->host, offset, width::dword) == bars_before_[n++]);
            }
            CHECK((raw_.read(each->host, 0x04, width::word) & 3) == 3);
        }
        // The capabilities of the NIC: power management, MSI and MSI-X as after reset.
        CHECK((raw_.read(host_nic, 0xCC, width::word) & 3) == 0);
        for (std::uint16_t offset = 0xD4; offset < 0xE0; offset += 4) {
            CHECK(raw_.read(host_nic, offset, width::dword) == 0);
        }
        CHECK((raw_.read(host_nic, 0xD2, width::word) & 1) == 0);
        CHECK((raw_.read(host_nic, 0xA2, width::word) & 0xC000) == 0);
        check_table_untouched(nic.bases[3], 5);
        check_table_untouched(nvme.bases[0] + 0x2000, 65);
    }

    qemu machine{options("assigned", host_nic, host_nvme)};
    std::vector<device_write> writes;
    assigned nic{machine, writes, host_nic, 0xE000'0000, 0x4000};
    assigned nvme{machine, writes, host_nvme, 0xE800'0000, 0x5000};

private:
    struct reached {
        assigned* of = nullptr;
        std::uint8_t bar = 0;
        std::uint64_t offset = 0;
        std::uint64_t host = 0;
        bool trapped = false;
    };

    std::optional<reached> find(std::uint64_t address) {
        for (assigned* const each : {&nic, &nvme}) {
            for (const auto& [index, mapping] : each->said.mapped) {
                const auto& [bar, base] = mapping;
                if (bar.kind == pci::bar_kind::io || address < base || address - base >= bar.size) {
                    continue;
                }
                reached found{each, bar.index, address - base, bar.address + (address - base),
                              false};
                for (const pci::bar_piece& piece : pci::bar_pieces::of(bar, each->view.msi_x())) {
                    if (found.offset >= piece.part.offset &&
                        found.offset - piece.part.offset < piece.part.size) {
                        found.trapped = piece.how == pci::reach::trapped;
                    }
                }
                return found;
            }
        }
        return {};
    }
    std::optional<std::uint16_t> find_port(std::uint16_t port) {
        for (const auto& [index, mapping] : nic.said.mapped) {
            const auto& [bar, base] = mapping;
            if (bar.kind == pci::bar_kind::io && port >= base && port - base < bar.size) {
                return static_cast<std::uint16_t>(bar.address + (port - base));
            }
        }
        return {};
    }
    /// As after reset: no message, and each vector masked.
    void check_table_untouched(std::uint64_t table, unsigned vectors) {
        for (unsigned n = 0; n < vectors; ++n) {
            CHECK(machine.read64(table + 16 * n) == 0);
            CHECK(machine.read64(table + 16 * n + 8) == std::uint64_t{1} << 32);
        }
    }

    pci::config_routes<4> routes_;
    pci::config_ports<pci::config_router> config_{pci::config_router{routes_}};
    pci::port_config_access<qemu_ports> raw_{qemu_ports{machine}};
    std::vector<std::uint32_t> bars_before_;
};

// ------------------------------------------------------------------------------- the guests

/// A guest's accesses to one function by ports and by memory, and all that it reads.
template <class Machine>
class guest {
public:
    guest(Machine& machine, function_address function) : machine_{&machine}, function_{function} {}

    std::uint32_t config_read(std::uint16_t offset, width size) {
        select(offset);
        return note(text("config %x, %u bytes", offset, pt::size_of(size)),
                    machine_->in(data_port(offset), size));
    }
    void config_write(std::uint16_t offset, width size, std::uint32_t value) {
        select(offset);
        machine_->out(data_port(offset), size, value);
    }
    std::uint32_t read8(std::uint16_t offset) { return config_read(offset, width::byte); }
    std::uint32_t read16(std::uint16_t offset) { return config_read(offset, width::word); }
    std::uint32_t read32(std::uint16_t offset) { return config_read(offset, width::dword); }
    void write8(std::uint16_t offset, std::uint32_t v) { config_write(offset, width::byte, v); }
    void write16(std::uint16_t offset, std::uint32_t v) { config_write(offset, width::word, v); }
    void write32(std::uint16_t offset, std::uint32_t v) { config_write(offset, width::dword, v); }

    std::uint32_t load(std::uint64_t address) {
        return note(text("memory %llx", static_cast<ull>(address)), machine_->load(address));
    }
    void store(std::uint64_t address, std::uint32_t value) { machine_->store(address, value); }
    std::uint32_t in32(std::uint16_t port) {
        return note(text("port %x", port), machine_->in(port, width::dword));
    }
    void out32(std::uint16_t port, std::uint32_t value) {
        machine_->out(port, width::dword, value);
    }

    strings seen;

private:
    static std::uint16_t data_port(std::uint16_t offset) {
        return static_cast<std::uint16_t>(0xCFC + offset % 4);
    }
    void select(std::uint16_t offset) {
        machine_->out(0xCF8, width::dword,
                      0x8000'0000U | unsigned{function_.bus} << 16 |
                          unsigned{function_.device} << 11 | unsigned{function_.function} << 8 |
                          (offset & 0xFCU));
    }
    std::uint32_t note(const std::string& what, std::uint32_t value) {
        seen.push_back(what + text(": %x", value));
        return value;
    }

    Machine* machine_;
    function_address function_;
};

/// Runs a script on both machines, and demands that the guest reads the same.
template <class Script>
void run(vmm& passed, bare_machine& bare, function_address function, Script script) {
    guest<vmm> one{passed, function};
    guest<bare_machine> other{bare, function};
    script(one);
    script(other);
    REQUIRE(one.seen.size() == other.seen.size());
    strings differences;
    for (std::size_t n = 0; n < one.seen.size() && differences.size() < 8; ++n) {
        if (one.seen[n] != other.seen[n]) {
            differences.push_back(text("access %zu: ", n) + one.seen[n] + " for " + other.seen[n]);
        }
    }
    CHECK(differences == no_strings);
}

constexpr std::uint16_t command_at = 0x04;
constexpr std::uint32_t io_on = 1;
constexpr std::uint32_t memory_on = 2;
constexpr std::uint32_t master_on = 4;
constexpr std::uint32_t intx_off = 0x400;

/// Where a capability is, as all of them look for it: pointer by pointer.
std::uint16_t capability(auto& guest, std::uint32_t id) {
    if ((guest.read16(0x06) & 0x10) == 0) {
        return 0;
    }
    std::uint32_t at = guest.read8(0x34) & 0xFC;
    for (unsigned left = 48; at >= 0x40 && left > 0; --left) {
        const std::uint32_t header = guest.read16(static_cast<std::uint16_t>(at));
        if ((header & 0xFF) == id) {
            return static_cast<std::uint16_t>(at);
        }
        at = header >> 8 & 0xFC;
    }
    return 0;
}

// Linux: the header's facts one by one; each register sized by itself, low half before high half,
// with all decoding off if any was on; the ROM with the address bits alone.

void linux_size_register(auto& guest, std::uint16_t offset, std::uint32_t ones) {
    const std::uint32_t command = guest.read16(command_at);
    if ((command & (io_on | memory_on)) != 0) {
        guest.write16(command_at, command & ~(io_on | memory_on));
    }
    const auto probe = [&](std::uint16_t at, std::uint32_t mask) {
        const std::uint32_t held = guest.read32(at);
        guest.write32(at, held | mask);
        guest.read32(at);
        guest.write32(at, held);
        return held;
    };
    const std::uint32_t low = probe(offset, ones);
    if (offset != 0x30 && (low & 7) == 4) {
        probe(static_cast<std::uint16_t>(offset + 4), 0xFFFF'FFFF);
    }
    if ((command & (io_on | memory_on)) != 0) {
        guest.write16(command_at, command);
    }
}

void linux_size_all(auto& guest) {
    for (std::uint16_t offset = 0x10; offset <= 0x24; offset += 4) {
        const bool is_64bit = (guest.read32(offset) & 7) == 4;
        linux_size_register(guest, offset, 0xFFFF'FFFF);
        if (is_64bit) {
            offset += 4;
        }
    }
    linux_size_register(guest, 0x30, 0xFFFF'F800);
}

void linux_set_up(auto& guest) {
    guest.read32(0x00);
    guest.read8(0x0E);
    guest.read32(0x08);
    for (const std::uint32_t id : {0x10U, 0x01U, 0x05U, 0x11U}) {
        capability(guest, id);
    }
    guest.read8(0x3D);
    guest.read8(0x3C);
    guest.read16(0x2C);
    guest.read16(0x2E);
    linux_size_all(guest);
}

// FreeBSD: only the decoding that the register is about goes off; both halves of a 64-bit one hold
// ones before either is read.

void freebsd_size_all(auto& guest) {
    for (std::uint16_t offset = 0x10; offset <= 0x24; offset += 4) {
        const auto high_at = static_cast<std::uint16_t>(offset + 4);
        const std::uint32_t low = guest.read32(offset);
        const bool is_64bit = (low & 7) == 4;
        const std::uint32_t high = is_64bit ? guest.read32(high_at) : 0;
        const std::uint32_t command = guest.read16(command_at);
        guest.write16(command_at, command & ~((low & 1) != 0 ? io_on : memory_on));
        guest.write32(offset, 0xFFFF'FFFF);
        if (is_64bit) {
            guest.write32(high_at, 0xFFFF'FFFF);
        }
        guest.read32(offset);
        if (is_64bit) {
            guest.read32(high_at);
        }
        guest.write32(offset, low);
        if (is_64bit) {
            guest.write32(high_at, high);
        }
        guest.write16(command_at, command);
        if (is_64bit) {
            offset += 4;
        }
    }
}

// Windows: the whole header at once, with decoding as it is.

void windows_size_all(auto& guest) {
    std::array<std::uint32_t, 16> header{};
    for (std::uint16_t n = 0; n < 16; ++n) {
        header[n] = guest.read32(static_cast<std::uint16_t>(4 * n));
    }
    for (std::uint16_t n = 4; n < 10; ++n) {
        guest.write32(static_cast<std::uint16_t>(4 * n), 0xFFFF'FFFF);
    }
    guest.write32(0x30, 0xFFFF'FFFE);
    for (std::uint16_t n = 4; n < 10; ++n) {
        guest.read32(static_cast<std::uint16_t>(4 * n));
    }
    guest.read32(0x30);
    for (std::uint16_t n = 4; n < 10; ++n) {
        guest.write32(static_cast<std::uint16_t>(4 * n), header[n]);
    }
    guest.write32(0x30, header[12]);
    for (std::uint16_t n = 4; n < 13; ++n) {
        guest.read32(static_cast<std::uint16_t>(4 * n));
    }
}

/// The NIC's BARs at their first places in the guest, decoding on.
void place_nic(auto& guest) {
    guest.write32(0x10, 0xC100'0000);
    guest.write32(0x14, 0xC102'0000);
    guest.write32(0x18, 0x0000'C000);
    guest.write32(0x1C, 0xC104'0000);
    guest.write16(command_at, guest.read16(command_at) | io_on | memory_on);
}

const strings nic_appears{"bar 0: nowhere to c1000000", "bar 1: nowhere to c1020000",
                          "bar 2: nowhere to c000", "bar 3: nowhere to c1040000"};
const strings nic_disappears{"bar 0: c1000000 to nowhere", "bar 1: c1020000 to nowhere",
                             "bar 2: c000 to nowhere", "bar 3: c1040000 to nowhere"};

/// The NVMe controller's one BAR above 4 GiB, decoding on.
void place_nvme(auto& guest) {
    guest.write32(0x10, 0x4000'0000);
    guest.write32(0x14, 0x0000'0002);
    guest.write16(command_at, guest.read16(command_at) | memory_on);
}

const strings nvme_appears{"bar 0: nowhere to 240000000"};

strings operator+(strings a, const strings& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

} // namespace

TEST_CASE("at power-on a guest reads the bare function, but for what is the host's",
          "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    const auto differences = [&](function_address function) {
        guest<vmm> one{passed, function};
        guest<bare_machine> other{bare, function};
        strings found;
        for (std::uint16_t offset = 0; offset < 0x100; offset += 4) {
            const std::uint32_t shown = one.read32(offset);
            const std::uint32_t real = other.read32(offset);
            if (shown != real) {
                found.push_back(text("%x: %x for %x", offset, shown, real));
            }
        }
        return found;
    };
    // A NIC inside the root complex has no link, and no link registers [pcie]; QEMU's has some.
    CHECK(differences(guest_nic) == strings{"ec: 0 for 411", "f0: 0 for 110000"});
    CHECK(differences(guest_nvme) == no_strings);
    passed.check_devices_untouched();
}

TEST_CASE("Linux sets a NIC up", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    const auto on_both = [&](auto script) { run(passed, bare, guest_nic, script); };

    on_both([](auto& g) { linux_set_up(g); });
    CHECK(passed.nic.said.take_events().empty());
    on_both([](auto& g) { place_nic(g); });
    CHECK(passed.nic.said.take_events() == nic_appears);

    // The driver: bus mastering, the registers through memory and through ports. Of Command the
    // device sees the host's decoding, and the guest's bus mastering.
    const device_write slave{host_nic, 0x04, width::word, 0x0003};
    const device_write master{host_nic, 0x04, width::word, 0x0007};
    CHECK(passed.writes == std::vector{slave});
    on_both([](auto& g) {
        g.write16(command_at, g.read16(command_at) | master_on);
        g.read16(command_at);
        CHECK((g.load(0xC100'0008) & 3) == 3); // STATUS: full duplex, link up
        CHECK(g.load(0xC100'5400) == mac_low);
        g.out32(0xC000, 0x5400);
        CHECK(g.in32(0xC004) == mac_low);
    });
    CHECK(passed.writes == std::vector{slave, master});
    CHECK(passed.nic.said.take_events().empty());

    // The ROM, for as long as it takes to read it.
    on_both([](auto& g) {
        g.write32(0x30, 0xC108'0000);
        g.write32(0x30, g.read32(0x30) | 1);
        CHECK((g.load(0xC108'0000) & 0xFFFF) == 0xAA55);
        g.write32(0x30, g.read32(0x30) & ~1U);
        g.read32(0x30);
    });
    CHECK(passed.nic.said.take_events() ==
          strings{"bar 6: nowhere to c1080000", "bar 6: c1080000 to nowhere"});

    // A rescan finds the device at work: seven registers, decoding off and on for each.
    on_both([](auto& g) { linux_size_all(g); });
    strings expected;
    for (unsigned n = 0; n < 7; ++n) {
        expected = expected + nic_disappears + nic_appears;
    }
    CHECK(passed.nic.said.take_events() == expected);
    on_both([](auto& g) { CHECK(g.load(0xC100'5400) == mac_low); });
    passed.check_devices_untouched();
}

TEST_CASE("Linux sets an NVMe controller up, whose BAR has 64 bits", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    const auto on_both = [&](auto script) { run(passed, bare, guest_nvme, script); };

    on_both([](auto& g) { linux_set_up(g); });
    CHECK(passed.nvme.said.take_events().empty());
    on_both([](auto& g) { place_nvme(g); });
    CHECK(passed.nvme.said.take_events() == nvme_appears);
    on_both([](auto& g) {
        CHECK(g.load(0x2'4000'0008) >> 16 == 1); // VS
        g.load(0x2'4000'0000);                   // CAP, in two halves
        g.load(0x2'4000'0004);
        linux_size_register(g, 0x10, 0xFFFF'FFFF);
        CHECK(g.load(0x2'4000'0008) >> 16 == 1);
    });
    CHECK(passed.nvme.said.take_events() ==
          strings{"bar 0: 240000000 to nowhere", "bar 0: nowhere to 240000000"});
    passed.check_devices_untouched();
}

TEST_CASE("FreeBSD sizes with the other kind of decoding on", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) {
        place_nic(g);
        freebsd_size_all(g);
        CHECK(g.load(0xC100'5400) == mac_low);
    });
    const strings memory_off{"bar 0: c1000000 to nowhere", "bar 1: c1020000 to nowhere",
                             "bar 3: c1040000 to nowhere"};
    const strings memory_back{"bar 0: nowhere to c1000000", "bar 1: nowhere to c1020000",
                              "bar 3: nowhere to c1040000"};
    const strings memory = memory_off + memory_back;
    const strings io{"bar 2: c000 to nowhere", "bar 2: nowhere to c000"};
    // Registers 4 and 5 are not implemented, and read as memory.
    CHECK(passed.nic.said.take_events() ==
          nic_appears + memory + memory + io + memory + memory + memory);

    run(passed, bare, guest_nvme, [](auto& g) {
        place_nvme(g);
        freebsd_size_all(g);
        CHECK(g.load(0x2'4000'0008) >> 16 == 1);
    });
    const strings once{"bar 0: 240000000 to nowhere", "bar 0: nowhere to 240000000"};
    CHECK(passed.nvme.said.take_events() ==
          nvme_appears + once + once + once + once + once); // and 2 to 5
    passed.check_devices_untouched();
}

TEST_CASE("Windows sizes with decoding on, and nothing moves", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) {
        windows_size_all(g); // before anything is assigned
        place_nic(g);
    });
    CHECK(passed.nic.said.take_events() == nic_appears);
    run(passed, bare, guest_nic, [](auto& g) {
        windows_size_all(g);
        CHECK(g.load(0xC100'5400) == mac_low);
    });
    CHECK(passed.nic.said.take_events().empty());

    run(passed, bare, guest_nvme, [](auto& g) {
        windows_size_all(g);
        place_nvme(g);
    });
    CHECK(passed.nvme.said.take_events() == nvme_appears);
    run(passed, bare, guest_nvme, [](auto& g) {
        windows_size_all(g);
        CHECK(g.load(0x2'4000'0008) >> 16 == 1);
    });
    CHECK(passed.nvme.said.take_events().empty());

    // The device is disabled, gets other resources, and is enabled.
    run(passed, bare, guest_nic, [](auto& g) {
        g.write16(command_at, 0);
        g.write32(0x10, 0xC200'0000);
        g.write32(0x14, 0xC202'0000);
        g.write32(0x18, 0x0000'D000);
        g.write32(0x1C, 0xC204'0000);
        g.write16(command_at, io_on | memory_on | master_on);
        g.read16(command_at);
        CHECK(g.load(0xC200'5400) == mac_low);
        g.out32(0xD000, 0x5400);
        CHECK(g.in32(0xD004) == mac_low);
    });
    CHECK(passed.nic.said.take_events() ==
          nic_disappears + strings{"bar 0: nowhere to c2000000", "bar 1: nowhere to c2020000",
                                   "bar 2: nowhere to d000", "bar 3: nowhere to c2040000"});
    passed.check_devices_untouched();
}

TEST_CASE("a BAR that moves takes its device along, and leaves nothing", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) { place_nic(g); });
    run(passed, bare, guest_nvme, [](auto& g) { place_nvme(g); });
    passed.nic.said.take_events();
    passed.nvme.said.take_events();

    // With decoding on: one write, one move.
    run(passed, bare, guest_nic, [](auto& g) {
        CHECK((g.load(0xC100'0008) & 3) == 3);
        g.write32(0x10, 0xC300'0000);
        CHECK((g.load(0xC300'0008) & 3) == 3);
        CHECK(g.load(0xC100'0008) == 0);
    });
    CHECK(passed.nic.said.take_events() == strings{"bar 0: c1000000 to c3000000"});
    CHECK(passed.is_mapped(0xC300'0008));
    CHECK_FALSE(passed.is_mapped(0xC100'0008));

    // A 64-bit BAR moves once, whichever half comes first.
    run(passed, bare, guest_nvme, [](auto& g) {
        g.write32(0x10, 0x8000'0000);
        g.write32(0x14, 0x0000'0003);
        CHECK(g.load(0x3'8000'0008) >> 16 == 1);
        CHECK(g.load(0x2'4000'0008) == 0);
        g.write32(0x14, 0x0000'0001);
        g.write32(0x10, 0x1000'0000);
        CHECK(g.load(0x1'1000'0008) >> 16 == 1);
        CHECK(g.load(0x3'8000'0008) == 0);
        CHECK(g.load(0x1'8000'0008) == 0);
    });
    CHECK(passed.nvme.said.take_events() ==
          strings{"bar 0: 240000000 to 380000000", "bar 0: 380000000 to 110000000"});

    // Ports too.
    run(passed, bare, guest_nic, [](auto& g) {
        g.write32(0x18, 0x0000'E000);
        g.out32(0xE000, 0x5400);
        CHECK(g.in32(0xE004) == mac_low);
    });
    CHECK(passed.nic.said.take_events() == strings{"bar 2: c000 to e000"});
    passed.check_devices_untouched();
}

TEST_CASE("MSI-X, enabled as Linux does it, stays in the view", "[machine][pci][view][rule 7]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) { place_nic(g); });
    passed.nic.said.take_events();

    run(passed, bare, guest_nic, [](auto& g) {
        const std::uint16_t at = capability(g, 0x11);
        const auto control_at = static_cast<std::uint16_t>(at + 2);
        CHECK(at == 0xA0);
        const std::uint32_t control = g.read16(control_at);
        g.write16(control_at, control | 0xC000); // on, and all vectors masked
        g.read16(control_at);
        const std::uint32_t table = g.read32(static_cast<std::uint16_t>(at + 4));
        const std::uint64_t entries = 0xC104'0000 + (table & ~7U);
        for (std::uint64_t entry = entries; entry < entries + std::uint64_t{5} * 16; entry += 16) {
            g.load(entry + 12); // each masked, before and after
            g.store(entry + 12, 1);
        }
        for (unsigned n = 0; n < 2; ++n) {
            g.store(entries + 16 * n, 0xFEE0'1000);
            g.store(entries + 16 * n + 4, 0);
            g.store(entries + 16 * n + 8, 0x4041 + n);
        }
        g.write16(command_at, g.read16(command_at) | intx_off);
        g.write16(control_at, control | 0x8000);
        g.read16(control_at);
        g.store(entries + 12, 0);
        g.store(entries + 16 + 12, 0);
        for (unsigned n = 0; n < 5 * 4; ++n) {
            g.load(entries + 4 * n);
        }
        const std::uint32_t pending = g.read32(static_cast<std::uint16_t>(at + 8));
        CHECK(pending == 0x2003);
        CHECK(g.load(0xC104'2000) == 0);
        CHECK(g.load(0xC104'2004) == 0);
    });
    CHECK(passed.nic.said.take_route() == strings{"close intx 0", "open msi-x 0: 4041 at fee01000",
                                                  "open msi-x 1: 4042 at fee01000"});
    CHECK(passed.nic.said.take_events().empty());

    // What the device requests reaches the guest, or waits.
    CHECK(passed.nic.view.request({pci::interrupt_kind::msi_x, 1}));
    CHECK(passed.nic.view.request({pci::interrupt_kind::msi_x, 2}));
    CHECK(passed.nic.said.take_route() == strings{"send msi-x 1: 4042 at fee01000"});
    CHECK(passed.nic.view.read_memory(3, 0x2000, mmio_width::qword) == 4);
    CHECK(passed.machine.read32(passed.nic.bases[3] + 0x2000) == 0);

    // A vector changes its destination while masked, and everything is turned off again.
    run(passed, bare, guest_nic, [](auto& g) {
        g.store(0xC104'000C, 1);
        g.store(0xC104'0000, 0xFEE0'2000);
        g.store(0xC104'000C, 0);
        g.load(0xC104'0000);
        g.store(0xC104'0018, 0x4099); // and another one changes its message while it is open
        g.load(0xC104'0018);
        g.write16(0xA2, g.read16(0xA2) & ~0x8000U);
        g.read16(0xA2);
        g.write16(command_at, g.read16(command_at) & ~intx_off);
    });
    CHECK(passed.nic.said.take_route() == strings{"close msi-x 0", "open msi-x 0: 4041 at fee02000",
                                                  "open msi-x 1: 4099 at fee01000", "close msi-x 0",
                                                  "close msi-x 1", "open intx 0"});
    passed.check_devices_untouched();
}

TEST_CASE("trapped pages: the table is the view's, what shares its page the device's",
          "[machine][pci][view][rule 7]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) { place_nic(g); });
    run(passed, bare, guest_nvme, [](auto& g) { place_nvme(g); });

    // The NIC's BAR 3 has nothing but MSI-X, in its first and its third page.
    view_type& nic = passed.nic.view;
    CHECK_FALSE(passed.is_mapped(0xC104'0000));
    CHECK(passed.is_mapped(0xC104'1000));
    CHECK_FALSE(passed.is_mapped(0xC104'2000));
    CHECK(passed.is_mapped(0xC104'3000));
    nic.write_memory(3, 0x0, mmio_width::qword, 0x1234'5678'FEE0'0000);
    nic.write_memory(3, 0x8, mmio_width::qword, 0x77);
    CHECK(nic.read_memory(3, 0x0, mmio_width::qword) == 0x1234'5678'FEE0'0000);
    CHECK(nic.read_memory(3, 0x4, mmio_width::dword) == 0x1234'5678);
    CHECK(nic.read_memory(3, 0x8, mmio_width::qword) == 0x77);
    nic.write_memory(3, 0x0, mmio_width::byte, 0xFF); // no legal size: nothing happens
    nic.write_memory(3, 0x4, mmio_width::word, 0xFFFF);
    CHECK(nic.read_memory(3, 0x0, mmio_width::qword) == 0x1234'5678'FEE0'0000);
    CHECK(nic.read_memory(3, 0x0, mmio_width::word) == 0xFFFF);
    CHECK(nic.read_memory(3, 0x2000, mmio_width::qword) == 0);
    nic.write_memory(3, 0x2000, mmio_width::qword, ~std::uint64_t{0});
    CHECK(nic.read_memory(3, 0x2000, mmio_width::qword) == 0);
    passed.check_devices_untouched();

    // What is forwarded reads the same as directly, in each size that the registers take.
    for (const std::uint64_t offset : {0x0008ULL, 0x5400ULL, 0x5404ULL, 0x0018ULL, 0x0E00ULL}) {
        INFO(offset);
        CHECK(nic.read_memory(0, offset, mmio_width::dword) ==
              passed.machine.read32(passed.nic.bases[0] + offset));
    }
    nic.write_memory(0, 0x5200, mmio_width::dword, 0x1234'5678); // MTA[0]
    CHECK(passed.machine.read32(passed.nic.bases[0] + 0x5200) == 0x1234'5678);
    CHECK(nic.read_memory(2, 0, mmio_width::dword) == 0xFFFF'FFFF); // ports are no memory
    CHECK(nic.read_memory(0, 128 * pt::KiB - 2, mmio_width::dword) == 0xFFFF'FFFF);

    // NVMe: registers, table and pending bits in one BAR. The registers of the first two pages are
    // mapped; from the table's page on nothing is.
    view_type& nvme = passed.nvme.view;
    CHECK(passed.is_mapped(0x2'4000'0000));
    CHECK(passed.is_mapped(0x2'4000'1FFC));
    CHECK_FALSE(passed.is_mapped(0x2'4000'2000));
    CHECK_FALSE(passed.is_mapped(0x2'4000'3000));
    CHECK(nvme.read_memory(0, 0, mmio_width::qword) == passed.machine.read64(passed.nvme.bases[0]));
    CHECK(nvme.read_memory(0, 8, mmio_width::dword) >> 16 == 1);
    for (unsigned n = 0; n < 65; ++n) {
        nvme.write_memory(0, 0x2000 + 16 * n, mmio_width::dword, 0xFEE0'0000 + (n << 12));
        nvme.write_memory(0, 0x2000 + 16 * n + 8, mmio_width::dword, n);
    }
    for (unsigned n = 0; n < 65; ++n) {
        CHECK(nvme.read_memory(0, 0x2000 + 16 * n, mmio_width::qword) == 0xFEE0'0000 + (n << 12));
    }
    // Right after the table: the device's, which has nothing there.
    CHECK(nvme.read_memory(0, 0x2000 + 65 * 16, mmio_width::dword) ==
          passed.machine.read32(passed.nvme.bases[0] + 0x2000 + 65 * 16));
    passed.check_devices_untouched();
}

TEST_CASE("MSI stays in the view", "[machine][pci][view][rule 7]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) {
        place_nic(g);
        const std::uint16_t at = capability(g, 0x05);
        CHECK(at == 0xD0);
        const auto control_at = static_cast<std::uint16_t>(at + 2);
        const std::uint32_t control = g.read16(control_at);
        CHECK((control & 0x0080) != 0); // 64 bits
        g.write32(static_cast<std::uint16_t>(at + 4), 0xFEE0'300C);
        g.write32(static_cast<std::uint16_t>(at + 8), 0);
        g.write16(static_cast<std::uint16_t>(at + 12), 0x4051);
        g.write16(command_at, g.read16(command_at) | intx_off);
        // On, with eight vectors of the one that it is capable of.
        g.write16(control_at, control | 0x31);
        g.read16(control_at);
        for (std::uint16_t n = 0; n < 16; n += 4) {
            g.read32(static_cast<std::uint16_t>(at + n));
        }
        g.write16(control_at, control & ~1U);
        g.read16(control_at);
    });
    CHECK(passed.nic.said.take_route() ==
          strings{"close intx 0", "open msi 0: 4051 at fee0300c", "close msi 0"});
    passed.check_devices_untouched();
}

TEST_CASE("power states stay in the view", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nic, [](auto& g) {
        place_nic(g);
        const std::uint16_t at = capability(g, 0x01);
        CHECK(at == 0xC8);
        const auto control_at = static_cast<std::uint16_t>(at + 4);
        const std::uint32_t control = g.read16(control_at);
        CHECK((control & 8) == 0); // No_Soft_Reset
        g.write16(control_at, (control & ~3U) | 3);
        CHECK((g.read16(control_at) & 3) == 3);
        g.write16(control_at, control & ~3U);
        CHECK((g.read16(control_at) & 3) == 0);
    });
    // So coming back is a reset: Command and the BARs are as at power-on.
    CHECK(passed.nic.said.take_events() ==
          nic_appears + nic_disappears + strings{"power 0 to 3", "power 3 to 0", "reset"});
    guest<vmm> g{passed, guest_nic};
    CHECK(g.read16(command_at) == 0);
    CHECK(g.read32(0x10) == 0);
    passed.check_devices_untouched();
}

TEST_CASE("a function level reset by the guest is one of the view", "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    run(passed, bare, guest_nvme, [](auto& g) {
        place_nvme(g);
        const std::uint16_t express = capability(g, 0x10);
        const std::uint16_t msi_x = capability(g, 0x11);
        CHECK((g.read32(static_cast<std::uint16_t>(express + 4)) & 0x1000'0000) != 0); // it can
        g.write8(0x3C, 0x5A);
        g.write16(static_cast<std::uint16_t>(msi_x + 2), 0x8000);
        g.store(0x2'4000'2000, 0xFEE0'4000);
        g.store(0x2'4000'2008, 0x4061);
        g.store(0x2'4000'200C, 0);
        CHECK(g.load(0x2'4000'200C) == 0);

        const auto control_at = static_cast<std::uint16_t>(express + 8);
        g.write16(control_at, g.read16(control_at) | 0x8000);
        g.read16(control_at);
        for (std::uint16_t offset = 0; offset < 0x40; offset += 4) {
            g.read32(offset);
        }
        g.read32(msi_x);
        place_nvme(g); // the table is there again, as at power-on
        for (unsigned n = 0; n < 4; ++n) {
            g.load(0x2'4000'2000 + 4 * n);
        }
    });
    CHECK(passed.nvme.said.take_events() ==
          nvme_appears + strings{"bar 0: 240000000 to nowhere", "reset"} + nvme_appears);
    CHECK(passed.nvme.said.take_route() == strings{"close intx 0", "open msi-x 0: 4061 at fee04000",
                                                   "close msi-x 0", "open intx 0"});
    passed.check_devices_untouched(); // what is to be done with the device is the VMM's choice
}

TEST_CASE("PCI Express: error reports stay in the view", "[machine][pci][view]") {
    vmm passed;
    guest<vmm> g{passed, guest_nic};
    const std::uint16_t at = capability(g, 0x10);
    CHECK(at == 0xE0);
    const auto control_at = static_cast<std::uint16_t>(at + 8);
    // The bare function has no more than zeros here in QEMU 7.2.
    g.write16(control_at, g.read16(control_at) | 0x0F); // report every error
    CHECK((g.read16(control_at) & 0x0F) == 0x0F);
    g.write16(control_at, g.read16(control_at) & ~0x2U);
    CHECK((g.read16(control_at) & 0x0F) == 0x0D);
    CHECK(passed.writes.size() == 2);
    for (const device_write& each : passed.writes) {
        CHECK(each.offset == 0xE8);
        CHECK((each.value & 0xF) == 0);
    }
    passed.check_devices_untouched();
}

TEST_CASE("extended capabilities: the serial number is shown, error reporting is not",
          "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    auto ecam = passed.ecam();
    const std::uint64_t nic = std::uint64_t{guest_nic.source_id()} << 12;
    const auto shown = [&](std::uint64_t offset) {
        return ecam.read(nic + offset, mmio_width::dword);
    };
    const auto real = [&](std::uint64_t offset) { return bare.load(ecam_base.raw + nic + offset); };
    CHECK(real(0x100) == 0x1402'0001);  // error reporting, version 2, and the next at 0x140
    CHECK(shown(0x100) == 0x1400'0000); // a null capability keeps the place
    for (std::uint64_t offset = 0; offset < 0x100; offset += 4) {
        const bool link = offset == 0xEC || offset == 0xF0; // as above
        CHECK((shown(offset) == real(offset) || link));
    }
    for (std::uint64_t offset = 0x104; offset < 0x140; offset += 4) {
        CHECK(shown(offset) == 0);
    }
    for (std::uint64_t offset = 0x140; offset < 0x14C; offset += 4) {
        CHECK(shown(offset) == real(offset));
    }
    // The guest can write none of it.
    ecam.write(nic + 0x10C, mmio_width::dword, ~std::uint64_t{0});
    ecam.write(nic + 0x144, mmio_width::dword, ~std::uint64_t{0});
    CHECK(shown(0x144) == real(0x144));
    CHECK(passed.writes.empty());
}

TEST_CASE("accesses of any size in any order read what the bare function reads",
          "[machine][pci][view]") {
    vmm passed;
    bare_machine bare;
    constexpr std::uint16_t nic_msi = 0xD0;
    constexpr std::uint16_t nic_msi_data = 0xDC;
    // Registers whose bits a guest can write, by function: the header, MSI, MSI-X, and the power
    // state's neighbours, whatever is in between.
    const auto script = [](std::uint32_t seed, const std::vector<std::uint16_t>& dwords) {
        return [seed, dwords](auto& g) {
            std::mt19937 random{seed};
            for (unsigned n = 0; n < 3000; ++n) {
                constexpr std::array sizes{width::byte, width::word, width::dword};
                const width size = sizes[random() % 3];
                const std::uint16_t dword = dwords[random() % dwords.size()];
                const auto offset =
                    static_cast<std::uint16_t>(dword + random() % (5 - pt::size_of(size)));
                // Often what a probe writes, else anything.
                std::uint32_t value = random() % 3 == 0 ? 0xFFFF'FFFF : std::uint32_t(random());
                value &= random() % 8 == 0 ? 0 : 0xFFFF'FFFF;
                if (dword == command_at) {
                    value &= ~(0x40U >> 8 * (offset % 4)); // Parity Error Response
                }
                // QEMU lets a number of vectors stand that the function does not have while MSI is
                // off, and keeps the word after the data, where [pci] has none.
                if (dword == nic_msi) {
                    value &= ~(0x0070'0000U >> 8 * (offset % 4));
                }
                if (dword == nic_msi_data) {
                    value &= 0xFFFFU >> 8 * (offset % 4);
                }
                value &= pt::all_ones(size);
                if (random() % 2 == 0) {
                    g.config_write(offset, size, value);
                }
                g.config_read(offset, size);
                g.read32(dword);
            }
        };
    };
    std::vector<std::uint16_t> header;
    for (std::uint16_t offset = 0; offset < 0x40; offset += 4) {
        header.push_back(offset);
    }
    const auto with = [&](std::vector<std::uint16_t> more) {
        more.insert(more.end(), header.begin(), header.end());
        return more;
    };
    run(passed, bare, guest_nic,
        script(20240901, with({0xA0, 0xA4, 0xA8, nic_msi, 0xD4, 0xD8, nic_msi_data})));
    run(passed, bare, guest_nvme, script(20240902, with({0x40, 0x44, 0x48})));
    CHECK_FALSE(ranges::any_of(passed.nic.said.events + passed.nvme.said.events,
                               [](const std::string& line) { return line.starts_with("and"); }));
    passed.check_devices_untouched();
}

TEST_CASE("a closed view has taken everything back", "[machine][pci][view]") {
    vmm passed;
    guest<vmm> g{passed, guest_nic};
    place_nic(g);
    g.write16(command_at, g.read16(command_at) | master_on);
    passed.nic.said.take_events();
    passed.nic.view.close();
    CHECK(passed.nic.said.take_events() == nic_disappears);
    CHECK(passed.nic.said.take_route() == strings{"close intx 0"});
    CHECK(g.read32(0) == 0xFFFF'FFFF);
    CHECK(g.load(0xC100'0008) == 0);
    CHECK(passed.writes.back() == device_write{host_nic, 0x04, width::word, 0x0003});
    passed.check_devices_untouched();
}
