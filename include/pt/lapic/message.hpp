// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"

#include <cstdint>

/// The virtual local APIC [sdm, Advanced Programmable Interrupt Controller (APIC)].
namespace pt::lapic {

/// What a message does to the processor that it reaches, as bits 10:8 of ICR and of MSI data say it.
enum class delivery_mode : std::uint8_t {
    fixed = 0,
    lowest_priority = 1, ///< fixed, to the one of the destinations with the lowest priority
    smi = 2,
    nmi = 4,
    init = 5,
    start_up = 6, ///< the vector is the number of the 4-KiB page where execution begins; IPIs only
    extint = 7,   ///< the vector is asked of an external controller (8259); not for IPIs
};

enum class destination_mode : std::uint8_t { physical = 0, logical = 1 };
enum class trigger_mode : std::uint8_t { edge = 0, level = 1 };
enum class shorthand : std::uint8_t {
    none = 0,
    self = 1,
    all_including_self = 2,
    all_excluding_self = 3,
};

/// How wide a destination is: 8 bits with 0xFF for everybody, or 32 bits with 0xFFFF'FFFF for
/// everybody. It is the form of the sender, not of the receivers.
enum class destination_format : std::uint8_t { xapic, x2apic };

/// An interrupt message on its way to the local APICs of one guest: an IPI, an MSI, or what an I/O
/// APIC sends.
struct message {
    delivery_mode delivery = delivery_mode::fixed;
    std::uint8_t vector = 0; ///< of no meaning for SMI, NMI, INIT and ExtINT
    trigger_mode trigger =
        trigger_mode::edge;         ///< of fixed and lowest priority; all else is an edge
    shorthand to = shorthand::none; ///< other than none: mode and destination mean nothing
    destination_mode mode = destination_mode::physical;
    destination_format format = destination_format::xapic;
    std::uint32_t destination = 0;

    friend constexpr bool operator==(const message&, const message&) = default;
};

/// Whether it goes to everybody, physical or logical alike: a destination of all ones, in the width of
/// its form [sdm].
[[nodiscard]] constexpr bool is_broadcast(const message& sent) {
    return sent.destination == (sent.format == destination_format::x2apic ? 0xFFFF'FFFF : 0xFF);
}

/// The message that a device sends by writing `data` to `address` in compatibility format [sdm, Message
/// Signalled Interrupts]: what the guest programmed into an MSI capability or an MSI-X table entry
/// (pci::interrupt_message has just these two). Both come from the guest; reserved bits are ignored.
///
/// With the redirection hint in the address, a fixed interrupt to a logical destination goes to the one
/// of its processors with the lowest priority; a physical destination is a single processor anyway.
///
/// errc::out_of_range with the address: it is not in 0xFEE00000..0xFEEFFFFF, so it is a write to memory
/// and no interrupt. errc::malformed with the data: a delivery mode that is reserved in a message (3,
/// and 6: a start-up is an IPI), or a level-triggered de-assert, which is no interrupt.
[[nodiscard]] constexpr result<message> message_of_msi(std::uint64_t address, std::uint32_t data) {
    constexpr std::uint64_t window = 0xFEE0'0000;
    if ((address & ~std::uint64_t{0xF'FFFF}) != window) {
        return error{errc::out_of_range, address};
    }
    const auto bit = [](std::uint64_t word, unsigned n) { return ((word >> n) & 1) != 0; };
    auto delivery = static_cast<delivery_mode>((data >> 8) & 7);
    const bool is_level = bit(data, 15);
    const bool is_assert = bit(data, 14);
    if (delivery == delivery_mode{3} || delivery == delivery_mode::start_up ||
        (is_level && !is_assert)) {
        return error{errc::malformed, data};
    }
    const bool is_redirected = bit(address, 3);
    const bool is_logical = bit(address, 2);
    if (delivery == delivery_mode::fixed && is_redirected && is_logical) {
        delivery = delivery_mode::lowest_priority;
    }
    return message{
        .delivery = delivery,
        .vector = static_cast<std::uint8_t>(data),
        .trigger = is_level ? trigger_mode::level : trigger_mode::edge,
        .mode = is_logical ? destination_mode::logical : destination_mode::physical,
        .destination = static_cast<std::uint32_t>((address >> 12) & 0xFF),
    };
}

} // namespace pt::lapic
