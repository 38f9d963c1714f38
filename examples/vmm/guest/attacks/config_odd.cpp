// SPDX-License-Identifier: BSL-1.0
#include "random.hpp"
#include "saved_header.hpp"

#include "../interrupts.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include "../../../kernel/ports.hpp"

#include "pt/core/mmio.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_address.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"

namespace guest {
namespace {

namespace pci = pt::pci;

constexpr pt::io_port address_port{0xCF8};
constexpr pt::width sizes[] = {pt::width::byte, pt::width::word, pt::width::dword};

std::uint32_t in(pt::io_port port, pt::width size) {
    kernel::ports io;
    switch (size) {
    case pt::width::byte: return io.in8(port);
    case pt::width::word: return io.in16(port);
    default: return io.in32(port);
    }
}
void out(pt::io_port port, pt::width size, std::uint32_t value) {
    kernel::ports io;
    switch (size) {
    case pt::width::byte: io.out8(port, static_cast<std::uint8_t>(value)); break;
    case pt::width::word: io.out16(port, static_cast<std::uint16_t>(value)); break;
    default: io.out32(port, value); break;
    }
}

bool is_there(pci::function_address function, std::uint32_t id) {
    kernel::port_config config = kernel::config();
    return pci::read<pci::identity>(config, function).raw == id;
}

/// What a write to configuration space may be on a bare machine, where a function's ports would win
/// over the platform's: its I/O decoding stays off.
std::uint32_t tamed(std::uint32_t value, std::uint32_t offset) {
    const bool hits_command = is_bare() && offset <= 0x04 && offset + 4 > 0x04;
    return hits_command ? value & ~(1U << 8 * (0x04 - offset)) : value;
}

/// Each port from CF8 to CFF, each size, both directions, in random order. Byte 0xCF9 is a PC's
/// reset register: its bits 1 and 2 stay 0, where they are no part of CONFIG_ADDRESS.
void all_ports(pci::function_address function, std::uint32_t id) {
    kernel::ports io;
    random_numbers random{3};
    for (unsigned i = 0; i != 4000; ++i) {
        const std::uint32_t offset = random.below(8);
        const pt::io_port port = address_port + offset;
        const pt::width size = sizes[random.below(3)];
        if (random.below(2) == 0) {
            static_cast<void>(in(port, size));
            continue;
        }
        std::uint32_t value = random();
        const bool is_address = offset == 0 && size == pt::width::dword;
        if (is_address) {
            if (is_bare()) { // no other function's registers
                value = pci::config_address::select(function, value & 0xFF).raw;
            }
        } else if (offset < 4) {
            const std::uint32_t reset = 1; // the place of CF9 in what is written
            if (offset <= reset && offset + pt::size_of(size) > reset) {
                value &= ~(0x06U << 8 * (reset - offset));
            }
            value = offset + pt::size_of(size) > 4 ? 0 : value; // reaches the data ports, too
        } else if (is_bare()) {
            const std::uint32_t selected = io.in32(address_port) & 0xFC;
            value = tamed(value, selected + (offset & 3U));
            if (offset + pt::size_of(size) > 8) {
                continue; // behind CFF there may be other devices
            }
        }
        out(port, size, value);
    }
    io.out32(address_port, 0);
    check(is_there(function, id),
          "4000 accesses of all sizes to CF8 to CFF: the function is there");
}

void all_functions() {
    kernel::port_config config = kernel::config();
    unsigned present = 0;
    for (const unsigned bus : {0U, 1U, 0x80U, 0xFFU}) {
        for (unsigned slot = 0; slot != 256; ++slot) {
            const pci::function_address function{0, static_cast<std::uint8_t>(bus),
                                                 static_cast<std::uint8_t>(slot >> 3),
                                                 static_cast<std::uint8_t>(slot & 7)};
            if (!pci::read<pci::identity>(config, function).present()) {
                continue;
            }
            ++present;
            for (std::uint16_t offset = 0; offset != 256; ++offset) {
                for (const pt::width size : sizes) {
                    if (pci::is_one_config_access(offset, size)) {
                        static_cast<void>(config.read(function, offset, size));
                    }
                }
            }
        }
    }
    tell(decimal{present},
         " functions, counted as whoever ignores bit 7 of Header Type counts them");
    check(present != 0, "every register of each was read in all sizes");
}

void write_other_functions(pci::function_address own) {
    if (is_bare()) {
        tell("bare: other functions are not written");
        return;
    }
    kernel::port_config config = kernel::config();
    random_numbers random{5};
    for (unsigned slot = 0; slot != 256; ++slot) {
        const auto function =
            pci::function_address::from_source_id(static_cast<std::uint16_t>(slot));
        if (function == own) {
            continue;
        }
        for (unsigned i = 0; i != 64; ++i) {
            config.write(function, static_cast<std::uint16_t>(4 * i), pt::width::dword, random());
        }
    }
    check(is_there(own, pci::read<pci::identity>(config, own).raw),
          "random dwords into every other function of bus 0");
}

void write_all_registers(const nic& device, std::uint32_t id, const saved_header& saved) {
    kernel::port_config config = kernel::config();
    random_numbers random{9};
    const pci::function_address function = device.function();
    for (unsigned round = 0; round != 6; ++round) {
        for (std::uint16_t offset = 0; offset != 256; ++offset) {
            const pt::width size = sizes[random.below(3)];
            if (!pci::is_one_config_access(offset, size)) {
                continue;
            }
            const std::uint32_t value = round == 0 ? 0xFFFF'FFFF : round == 1 ? 0 : random();
            config.write(function, offset, size, tamed(value, offset) & pt::all_ones(size));
        }
        saved.restore();
    }
    check(is_there(function, id), "all of its registers, with ones, zeros and at random");
    const std::uint32_t once = config.read(function, 0x04, pt::width::dword);
    for (unsigned i = 0; i != 256; ++i) {
        // Command and Status in one dword, and as bytes across the two.
        config.write(function, 0x04, pt::width::dword, tamed(random(), 0x04));
        config.write(function, 0x05, pt::width::word, random() & 0xFFFF);
    }
    saved.restore();
    check_equal(config.read(function, 0x04, pt::width::word), once & 0xFFFF,
                "Command holds what is put back");
}

void change_power(const nic& device, const saved_header& saved) {
    kernel::port_config config = kernel::config();
    const pci::function_address function = device.function();
    const auto power =
        pci::capabilities(config, function).find(pci::capability_id::power_management, 8);
    if (!power) {
        tell("it has no power management");
        return;
    }
    using pmcsr = pci::power_management_control_status;
    kernel::mmio registers = device.registers();
    for (unsigned round = 0; round != 3; ++round) {
        for (const unsigned state : {1U, 2U, 3U, 0U, 3U, 0U}) {
            pci::write(config, function, *power,
                       pmcsr{pmcsr::power_state(static_cast<pci::power_state>(state))});
            const std::uint32_t seen = pt::read<pt::e1000e::status>(registers).raw;
            registers.write32(pt::e1000e::imc::offset, 0xFFFF'FFFF);
            if (round == 0) {
                const auto now = pci::read<pmcsr>(config, function, *power);
                tell("D", decimal{state}, " was asked for: it says D",
                     decimal{static_cast<std::uint64_t>(now[pmcsr::power_state])},
                     ", STATUS reads ", seen);
            }
        }
    }
    pause_for(20 * millisecond);
    saved.restore();
    check(pt::read<pt::e1000e::status>(registers).raw != 0xFFFF'FFFF,
          "through all power states and back: it answers");
}

void reset_function(const nic& device, const saved_header& saved) {
    kernel::port_config config = kernel::config();
    const pci::function_address function = device.function();
    const auto express = pci::capabilities(config, function).find(pci::capability_id::pci_express);
    using pci::device_capabilities;
    if (!express ||
        !pci::read<device_capabilities>(
            config, function, *express)[device_capabilities::function_level_reset_capability]) {
        tell("it has no function-level reset");
        return;
    }
    using pci::device_control;
    for (unsigned round = 0; round != 3; ++round) {
        const auto before = pci::read<device_control>(config, function, *express);
        pci::write(config, function, *express,
                   before.with(device_control::initiate_function_level_reset(true)));
        if (round == 1) { // nobody may, and software does
            static_cast<void>(config.read(function, 0x10, pt::width::dword));
            config.write(function, 0x10, pt::width::dword, 0xFFFF'FFFF);
        }
        pause_for(100 * millisecond);
        if (round == 0) {
            tell("after a function-level reset Command is ",
                 config.read(function, 0x04, pt::width::word), ", BAR 0 ",
                 config.read(function, 0x10, pt::width::dword));
        }
        saved.restore();
    }
    kernel::mmio registers = device.registers();
    check(pt::read<pt::e1000e::status>(registers).raw != 0xFFFF'FFFF,
          "after three function-level resets it answers");
}

/// F bits and addresses of VPD, where there is one: a read that nobody waits for, and writes.
void use_vital_product_data(const nic& device) {
    kernel::port_config config = kernel::config();
    const auto vpd = pci::capabilities(config, device.function())
                         .find(pci::capability_id::vital_product_data, 8);
    if (!vpd) {
        tell("it has no vital product data");
        return;
    }
    const auto address = static_cast<std::uint16_t>(vpd->offset + 2);
    const auto data = static_cast<std::uint16_t>(vpd->offset + 4);
    for (std::uint32_t at = 0; at != 64; at += 3) {
        config.write(device.function(), address, pt::width::word, at | (at % 2 == 0 ? 0x8000 : 0));
        static_cast<void>(config.read(device.function(), data, pt::width::dword));
    }
    check(true, "vital product data were asked for in odd ways");
}

} // namespace

void attack_config_odd(nic& device) {
    kernel::port_config config = kernel::config();
    static_cast<void>(device.bring_up());
    if (is_bare()) {
        using pci::command;
        pci::write(config, device.function(),
                   pci::read<command>(config, device.function()).with(command::io_space(false)));
    }
    const saved_header saved{device.function()};
    const std::uint32_t id = pci::read<pci::identity>(config, device.function()).raw;
    all_functions();
    all_ports(device.function(), id);
    saved.restore();
    write_other_functions(device.function());
    saved.restore();
    write_all_registers(device, id, saved);
    change_power(device, saved);
    reset_function(device, saved);
    use_vital_product_data(device);
    saved.restore();
}

} // namespace guest
