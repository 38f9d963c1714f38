// SPDX-License-Identifier: BSL-1.0
#include "io_apics.hpp"

#include "interrupts.hpp"
#include "local_apic.hpp"

#include "../../kernel/acpi.hpp"
#include "../../kernel/mmio.hpp"

#include <cstddef>

namespace guest {
namespace {

constinit io_apic_inputs machines{};

std::uint8_t byte_at(const kernel::bytes& table, std::size_t at) {
    return std::to_integer<std::uint8_t>(table.data[at]);
}

} // namespace

io_apic_inputs& io_apics() { return machines; }

void io_apic_inputs::look_at_firmware() {
    const kernel::bytes madt = kernel::acpi_table("APIC");
    has_madt_ = madt.data != nullptr;
    constexpr std::size_t structures = 44; // header, address of the local APICs, flags
    constexpr std::uint8_t source_override = 2;
    for (std::size_t at = structures; at + 2 <= madt.size;) {
        const std::uint8_t length = byte_at(madt, at + 1);
        if (length < 2 || length > madt.size - at) {
            return;
        }
        if (byte_at(madt, at) == source_override && length >= 10) {
            const unsigned line = byte_at(madt, at + 3) & 15U;
            const unsigned input = byte_at(madt, at + 4);
            const unsigned polarity = byte_at(madt, at + 8) & 3U;
            inputs_[line] = input;
            if (input < 24) {
                told_active_high_[input] = polarity == 1;
            }
        }
        at += length;
    }
}

std::uint8_t io_apic_inputs::vector_of(unsigned input) const {
    return static_cast<std::uint8_t>(first_input_vector + input % 24);
}

void io_apic_inputs::open_edge(unsigned input, std::uint8_t vector) {
    open(input, vector, {.active_low = false, .level = false});
}

void io_apic_inputs::open_level(unsigned input) {
    open(input, vector_of(input),
         {.active_low = input >= 24 || !told_active_high_[input], .level = true});
}

void io_apic_inputs::open(unsigned input, std::uint8_t vector, input_signal signal) {
    // Bits 63:56 are the destination, 15 the trigger mode, 13 the polarity [82093AA].
    registers_.set_entry(input, std::uint64_t{local_apic::id() & 0xFF} << 56 |
                                    (signal.level ? 1U << 15 : 0U) |
                                    (signal.active_low ? 1U << 13 : 0U) | vector);
}

unsigned io_apic_inputs::count() {
    kernel::mmio window{kernel::io_apic::place};
    window.write32(0x00, 1); // its version
    return (window.read32(0x10) >> 16 & 0xFF) + 1;
}

} // namespace guest
