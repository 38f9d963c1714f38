// SPDX-License-Identifier: BSL-1.0
#include "../memory.hpp"
#include "../output.hpp"
#include "../steps.hpp"

#include "../../../kernel/pci.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"

namespace guest {
namespace {

namespace pci = pt::pci;
namespace e1000e = pt::e1000e;
using pci::command;

const char* name(pci::bar_kind kind) {
    switch (kind) {
    case pci::bar_kind::io: return "ports";
    case pci::bar_kind::mem32: return "memory, 32 bits";
    case pci::bar_kind::mem1m: return "memory below 1 MiB";
    case pci::bar_kind::mem64: return "memory, 64 bits";
    case pci::bar_kind::rom: break;
    }
    return "expansion ROM";
}

void set_decoding(pci::function_address function, bool ports, bool memory) {
    kernel::port_config config = kernel::config();
    pci::write(config, function,
               pci::read<command>(config, function)
                   .with(command::io_space(ports), command::memory_space(memory)));
}

/// Where BARs are moved to: the ports and the part of the address space that machines leave to PCI
/// functions, and where firmware, which begins at the other ends, has put nobody.
constexpr std::uint64_t free_memory = 0xD000'0000;
constexpr std::uint16_t free_ports = 0xD100;

/// A register that keeps what is written to it, while the transmitter is off.
constexpr std::uint32_t mark_register = e1000e::tdbal::offset;
constexpr std::uint32_t first_mark = 0x5A5A'1230;
constexpr std::uint32_t second_mark = 0x0F0F'4560;

void size_while_decoding(nic& device) {
    kernel::port_config config = kernel::config();
    device.turn_on();
    for (const pt::result<pci::bar>& each : device.bars()) {
        if (!each || each->kind == pci::bar_kind::rom || each->registers() != 1) {
            continue;
        }
        const std::uint32_t before = config.read(device.function(), each->offset, pt::width::dword);
        config.write(device.function(), each->offset, pt::width::dword, 0xFFFF'FFFF);
        const std::uint32_t ones = config.read(device.function(), each->offset, pt::width::dword);
        config.write(device.function(), each->offset, pt::width::dword, before);
        check_equal(pci::bar_size(each->kind, ones & ~pci::bar_flag_bits(each->kind)), each->size,
                    "BAR ", decimal{each->index}, " has the same size while it decodes");
    }
    kernel::mmio registers = device.registers();
    registers.write32(mark_register, first_mark);
    check_equal(registers.read32(mark_register), first_mark, "and the registers still answer");
}

void move_memory(nic& device) {
    const std::uint64_t old = device.memory().address;
    kernel::mmio before = device.registers();
    before.write32(mark_register, first_mark);
    const std::uint64_t new_place =
        free_memory + std::uint64_t{0x100'0000} * device.function().device;

    if (!check(device.move_memory(new_place), "BAR 0 moves to ", new_place)) {
        return;
    }
    kernel::mmio after = device.registers();
    check_equal(after.read32(mark_register), first_mark, "the registers are there");
    after.write32(mark_register, second_mark);
    check_equal(after.read32(mark_register), second_mark, "and take what is written");
    const std::uint32_t left = before.read32(mark_register);
    check(left != first_mark && left != second_mark, "where they were, they are no more");
    tell("there reads ", left);
    before.write32(mark_register, first_mark);
    check_equal(after.read32(mark_register), second_mark, "and a write there does not reach them");

    set_decoding(device.function(), true, false);
    const std::uint32_t off = after.read32(mark_register);
    check(off != second_mark, "with memory decoding off they answer nowhere");
    set_decoding(device.function(), true, true);
    check_equal(after.read32(mark_register), second_mark, "with it on they answer again");

    // A driver that writes the register while it decodes moves it at once.
    kernel::port_config config = kernel::config();
    config.write(device.function(), device.memory().offset, pt::width::dword,
                 static_cast<std::uint32_t>(old));
    check_equal(before.read32(mark_register), second_mark,
                "a single write moves them back while they decode");
    device.look_again();
    check_equal(device.memory().address, old, "and the BAR says so");
}

/// IOADDR and IODATA: a register's number, and the register. Not every model of the family has
/// them: then the ports answer, and that is all.
void move_ports(nic& device) {
    const auto held = device.ports();
    if (!held) {
        tell("it has no ports");
        return;
    }
    kernel::ports io;
    const auto old = pt::io_port{static_cast<std::uint16_t>(held->address)};
    const std::uint16_t to =
        static_cast<std::uint16_t>(free_ports + 0x100 * device.function().device);
    const auto value_by = [&](pt::io_port base) {
        io.out32(base, mark_register);
        return io.in32(base + 4);
    };
    kernel::mmio registers = device.registers();
    registers.write32(mark_register, first_mark);
    const std::uint32_t by_ports = value_by(old);
    const bool works = by_ports == first_mark;
    tell("by its ports a register reads ", by_ports,
         works ? ", as in memory" : ": this model has no registers there");

    kernel::port_config config = kernel::config();
    const auto moved = pci::write_bar(config, device.function(), *held, to);
    if (!check(moved, "BAR ", decimal{held->index}, " moves to port ", to)) {
        return;
    }
    check_equal(value_by(pt::io_port{to}), by_ports, "the ports answer there");
    const std::uint32_t left = io.in32(old + 4);
    check_equal(left, 0xFFFF'FFFF, "where they were, nobody answers");
    set_decoding(device.function(), false, true);
    check_equal(io.in32(pt::io_port{to} + 4), 0xFFFF'FFFF, "nor there with I/O decoding off");
    set_decoding(device.function(), true, true);
    check_equal(value_by(pt::io_port{to}), by_ports, "with it on they answer again");
    check(pci::write_bar(config, device.function(), *moved, held->address), "they move back");
    check_equal(value_by(old), by_ports, "and answer there");
}

/// A 64-bit BAR moves in halves, the lower one first, to above 4 GiB and back.
void move_64_bit_bar(pci::function_address function, const pci::bar& held) {
    kernel::port_config config = kernel::config();
    tell(function, " has a 64-bit BAR ", decimal{held.index}, ": ", held.size, " bytes at ",
         held.address);
    set_decoding(function, true, true);
    const auto first_dword = [](std::uint64_t place) {
        return *static_cast<volatile std::uint32_t*>(window_to(place));
    };
    const std::uint32_t before = first_dword(held.address);
    constexpr std::uint64_t new_place = 0x8'4000'0000;
    const auto upper = static_cast<std::uint16_t>(held.offset + 4);
    const auto move = [&](std::uint64_t to) {
        const std::uint32_t flags =
            config.read(function, held.offset, pt::width::dword) & pci::bar_flag_bits(held.kind);
        config.write(function, held.offset, pt::width::dword,
                     static_cast<std::uint32_t>(to) | flags);
        config.write(function, upper, pt::width::dword, static_cast<std::uint32_t>(to >> 32));
    };
    set_decoding(function, true, false);
    move(new_place);
    set_decoding(function, true, true);
    check_equal(first_dword(new_place), before, "moved in halves, it answers at ", new_place);
    const std::uint32_t left = first_dword(held.address);
    check(left != before || before == 0 || before == 0xFFFF'FFFF, "and no more where it was");
    move(held.address);
    check_equal(first_dword(held.address), before,
                "and moved back in halves while it decodes, where it was");
}

} // namespace

void check_bars(nic& device) {
    step("The network controller's Base Address registers");
    kernel::port_config config = kernel::config();
    for (const pt::result<pci::bar>& each : device.bars()) {
        if (check(each, "a BAR is sound")) {
            tell("BAR ", decimal{each->index}, ": ", name(each->kind), ", ", each->size, " at ",
                 each->address);
        }
    }
    size_while_decoding(device);
    move_memory(device);
    move_ports(device);

    bool found = false;
    const auto functions = pci::scan_tree(config, 0);
    for (const pci::tree_function& each : functions) {
        if (each.layout != pci::header_layout::device || found) {
            continue;
        }
        for (const pt::result<pci::bar>& held : pci::read_bars(config, each.address)) {
            if (held && held->kind == pci::bar_kind::mem64 && held->address != 0) {
                const auto sized = pci::size_bar(config, each.address, held->index);
                if (sized && !found) {
                    found = true;
                    move_64_bit_bar(each.address, *sized);
                }
            }
        }
    }
    if (!found) {
        tell("no function has a 64-bit BAR");
    }
}

} // namespace guest
