// SPDX-License-Identifier: BSL-1.0
#include "random.hpp"
#include "saved_header.hpp"

#include "../interrupts.hpp"
#include "../io_apics.hpp"
#include "../local_apic.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include "../../../kernel/ports.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/pci/enumerate.hpp"

namespace guest {
namespace {

namespace pci = pt::pci;

constexpr std::uint32_t mark_register = pt::e1000e::tdbal::offset;
constexpr std::uint32_t mark = 0x5A5A'1230;

void write_bar(const nic& device, const pci::bar& held, std::uint32_t value) {
    kernel::port_config config = kernel::config();
    config.write(device.function(), held.offset, pt::width::dword, value);
}

/// BAR 0 to a place that it must not get, and back. Between the two, `look` is called.
template <class Look>
void put_over(nic& device, std::uint64_t place, Look look) {
    kernel::mmio registers = device.registers();
    registers.write32(mark_register, mark);
    write_bar(device, device.memory(), static_cast<std::uint32_t>(place));
    look();
    write_bar(device, device.memory(), static_cast<std::uint32_t>(device.memory().address));
    check_equal(registers.read32(mark_register), mark, "back at its place it answers as before");
}

} // namespace

void attack_bar_over_ram(nic& device) {
    device.turn_on();
    const pt::range<pt::gpa> area = guarded_area();
    tell("over ", area.first().raw, ", memory of the guest's");
    put_over(device, area.first().raw, [&] {
        check(memory_is_intact(), "the memory is there, and not the registers");
        kernel::mmio place{pt::hpa{area.first().raw}};
        const std::uint32_t before = place.read32(mark_register);
        place.write32(mark_register, ~before);
        check_equal(place.read32(mark_register), static_cast<std::uint32_t>(~before),
                    "and it takes what is written");
        place.write32(mark_register, before);
    });
    tell("over the program's own code");
    put_over(device, pt::MiB, [] { check(memory_is_intact(), "the code runs on"); });
    tell("over address 0");
    const std::uint32_t first = *kernel::pointer_to<volatile std::uint32_t>(pt::hpa{mark_register});
    put_over(device, 0, [first] {
        check_equal(*kernel::pointer_to<volatile std::uint32_t>(pt::hpa{mark_register}), first,
                    "the memory is there");
    });
    tell("across the end of RAM");
    const std::uint64_t last = (end_of_ram() - 1).align_down(device.memory().size).raw;
    const volatile std::uint32_t* const end =
        kernel::pointer_to<volatile std::uint32_t>(pt::hpa{last});
    const std::uint32_t held = *end;
    put_over(device, last, [&] { check_equal(*end, held, "the memory before the end is there"); });
    for (const std::uint64_t place : {0xA'0000ULL, 0xC'0000ULL, 0xE'0000ULL}) {
        tell("over ", place, ", where old machines have their ROMs");
        put_over(device, place, [place] {
            tell("  there reads ",
                 *kernel::pointer_to<volatile std::uint32_t>(pt::hpa{place + mark_register}));
        });
    }
}

void attack_bar_over_apic(nic& device) {
    device.turn_on();
    const auto version = local_apic::read<pt::lapic::local_apic_version>();
    const auto timer_answers = [&] {
        forget_interrupts();
        pause_for(millisecond);
        return taken(timer_vector) != 0;
    };
    tell("over the local APIC");
    put_over(device, 0xFEE0'0000, [&] {
        check_equal(local_apic::read<pt::lapic::local_apic_version>().raw, version.raw,
                    "the local APIC answers");
        check(timer_answers(), "and its timer interrupts");
    });
    tell("over the I/O APIC");
    const unsigned inputs = io_apics().count();
    put_over(device, 0xFEC0'0000,
             [&] { check_equal(io_apics().count(), inputs, "the I/O APIC answers"); });
    for (const std::uint64_t place : {0xFED0'0000ULL, 0xFED8'0000ULL, 0xFFFE'0000ULL}) {
        tell("over ", place, ", where platforms have devices and firmware");
        put_over(device, place, [] {});
    }

    const auto held = device.ports();
    if (!held) {
        tell("it has no ports");
        return;
    }
    if (is_bare()) {
        tell("bare: its ports stay where they are, since on QEMU they win over the platform's");
        return;
    }
    // Ports that the platform keeps, each with one that is looked at.
    struct platform_port {
        const char* what;
        std::uint16_t port;
    };
    kernel::ports io;
    for (const platform_port each :
         {platform_port{"the 8259", 0x21}, platform_port{"COM1", 0x3FF},
          platform_port{"CONFIG_ADDRESS", 0xCF8}, platform_port{"the exit port", 0xF4}}) {
        const auto place =
            static_cast<std::uint16_t>(each.port & ~static_cast<std::uint16_t>(held->size - 1));
        tell("its ports over ", each.what, ", at ", place);
        io.out8(pt::io_port{0x3FF}, 0x5C); // the scratch register
        write_bar(device, *held, place | 1U);
        check_equal(io.in8(pt::io_port{0x21}), 0xFF, "the 8259's mask is there");
        check_equal(io.in8(pt::io_port{0x3FF}), 0x5C, "COM1's scratch register is there");
        kernel::port_config config = kernel::config();
        check((config.read(device.function(), 0, pt::width::word)) == 0x8086,
              "configuration space is reached");
        write_bar(device, *held, static_cast<std::uint32_t>(held->address | 1));
    }
}

void attack_bar_over_bar(nic& device) {
    device.turn_on();
    const saved_header saved{device.function()};
    kernel::mmio registers = device.registers();
    kernel::port_config config = kernel::config();
    for (const pt::result<pci::bar>& other : device.bars()) {
        if (!other || other->index == 0 || other->kind == pci::bar_kind::io ||
            other->kind == pci::bar_kind::rom || other->registers() != 1) {
            continue;
        }
        tell("BAR 0 over BAR ", decimal{other->index}, " of the same function");
        registers.write32(mark_register, mark);
        const auto place = static_cast<std::uint32_t>(other->address & ~(device.memory().size - 1));
        write_bar(device, device.memory(), place);
        kernel::mmio both{pt::hpa{place}};
        tell("  there reads ", both.read32(mark_register));
        for (std::uint32_t at = 0; at < 0x4000; at += 0x404) {
            static_cast<void>(both.read32(at & ~3U));
        }
        tell("BAR ", decimal{other->index}, " moves away, and BAR 0 back");
        saved.restore();
        check_equal(registers.read32(mark_register), mark, "BAR 0 answers at its place");
        tell("BAR ", decimal{other->index}, " over BAR 0");
        write_bar(device, *other,
                  static_cast<std::uint32_t>(device.memory().address & ~(other->size - 1)));
        tell("  there reads ", registers.read32(mark_register));
        saved.restore();
        check_equal(registers.read32(mark_register), mark, "apart, BAR 0 answers again");
    }
    const auto functions = pci::scan_tree(config, 0);
    for (const pci::tree_function& each : functions) {
        if (each.address == device.function() || each.layout != pci::header_layout::device) {
            continue;
        }
        for (const pt::result<pci::bar>& theirs : pci::read_bars(config, each.address)) {
            const std::uint64_t size = device.memory().size;
            if (!theirs || theirs->kind == pci::bar_kind::io ||
                theirs->kind == pci::bar_kind::rom || theirs->address < pt::GiB ||
                theirs->address >= 4 * pt::GiB) {
                continue;
            }
            const std::uint64_t place = theirs->address & ~(size - 1);
            tell("over BAR ", decimal{theirs->index}, " of ", each.address, ", at ", place);
            put_over(device, place, [place] {
                tell("  there reads ", kernel::mmio{pt::hpa{place}}.read32(mark_register));
            });
        }
    }
}

void attack_bar_half_written(nic& device) {
    device.turn_on();
    const saved_header saved{device.function()};
    kernel::port_config config = kernel::config();
    kernel::mmio registers = device.registers();
    registers.write32(mark_register, mark);
    const auto here = [&] { return registers.read32(mark_register) == mark; };
    random_numbers random{7};

    tell("byte by byte, from its place to its place by way of all others, while it decodes");
    for (unsigned round = 0; round != 200; ++round) {
        const auto offset = static_cast<std::uint16_t>(0x10 + random.below(4));
        // On a bare machine the ports and the ROM stay where they are: there they would win.
        config.write(device.function(), offset, pt::width::byte, random() & 0xFF);
    }
    saved.restore();
    check(here(), "with its old address it answers again");

    tell("words");
    for (unsigned round = 0; round != 200; ++round) {
        const auto offset = static_cast<std::uint16_t>(0x10 + 2 * random.below(2));
        config.write(device.function(), offset, pt::width::word, random() & 0xFFFF);
    }
    saved.restore();
    check(here(), "it answers again");

    tell("all ones, and away: nobody writes the address for a while");
    config.write(device.function(), 0x10, pt::width::dword, 0xFFFF'FFFF);
    pause_for(long_enough);
    check(memory_is_intact(), "the guest's memory is there");
    check_equal(
        local_apic::read<pt::lapic::local_apic_version>()[pt::lapic::local_apic_version::version] &
            0xF0U,
        0x10, "the local APIC is there");
    saved.restore();
    check(here(), "it answers again");

    tell("decoding on and off in between, a thousand times");
    for (unsigned round = 0; round != 1000; ++round) {
        switch (random.below(4)) {
        case 0: config.write(device.function(), 0x04, pt::width::byte, random() & 0x07); break;
        case 1: config.write(device.function(), 0x10, pt::width::dword, 0xFFFF'FFFF); break;
        case 2:
            config.write(device.function(), 0x10, pt::width::dword, random() | 0x4000'0000);
            break;
        default:
            config.write(device.function(), static_cast<std::uint16_t>(0x10 + random.below(4)),
                         pt::width::byte, random() & 0xFF);
            break;
        }
    }
    saved.restore();
    check(here(), "it answers again");
    check(memory_is_intact(), "the guest's memory is there");

    const auto functions = pci::scan_tree(config, 0);
    for (const pci::tree_function& each : functions) {
        if (each.layout != pci::header_layout::device) {
            continue;
        }
        for (const pt::result<pci::bar>& held : pci::read_bars(config, each.address)) {
            if (!held || held->kind != pci::bar_kind::mem64) {
                continue;
            }
            tell("one half of the 64-bit BAR ", decimal{held->index}, " of ", each.address);
            const saved_header theirs{each.address};
            const auto upper = static_cast<std::uint16_t>(held->offset + 4);
            for (const std::uint32_t half : {0xFFFF'FFFFU, 0x0000'0001U, 0x8000'0000U, 0U}) {
                config.write(each.address, upper, pt::width::dword, half);
                config.write(each.address, held->offset, pt::width::dword, 0xFFFF'FFFF);
                config.write(each.address, held->offset, pt::width::dword, half);
                config.write(each.address, upper, pt::width::byte, 0);
            }
            theirs.restore();
            const auto now = pci::read_bar(config, each.address, held->index);
            check(now && now->address == held->address, "whole again it is at its place");
        }
    }
}

} // namespace guest
