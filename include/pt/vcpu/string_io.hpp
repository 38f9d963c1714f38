// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/address_size.hpp"
#include "pt/vcpu/element_place.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/guest_ports.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/rflags_register.hpp"

#include <cstdint>

namespace pt::vcpu {

/// The registers that INS and OUTS use; RFLAGS is only read, for DF.
struct string_registers {
    std::uint64_t rcx = 0;
    std::uint64_t rsi = 0;
    std::uint64_t rdi = 0;
    std::uint64_t rflags = 0;

    friend constexpr bool operator==(const string_registers&, const string_registers&) = default;
};

enum class string_io_state : std::uint8_t {
    finished,   ///< the instruction is done: RIP moves behind it
    unfinished, ///< elements remain: call again, or resume the guest with RIP where it is
    faulted,    ///< the guest gets an exception, with RIP where it is
    refused,    ///< the ports answered with an error: the element was not transferred
};

/// How far an INS or OUTS came. The registers are right in every state: they count exactly the
/// elements that were transferred.
struct string_io_progress {
    string_io_state state = string_io_state::finished;
    event fault{};         ///< of `faulted`
    std::uint64_t cr2 = 0; ///< of `faulted`: what CR2 must hold if it is a page fault
    pt::error refusal{};   ///< of `refused`: what the ports said

    friend constexpr bool operator==(const string_io_progress&,
                                     const string_io_progress&) = default;
};

/// Executes INS or OUTS, with or without REP, up to `most_elements` elements (not 0) in one call: a
/// REP with a count of 2^64-1 is a guest's right, and interrupts arrive between two elements.
/// Nothing but the registers is kept from call to call, so that between two the VMM may as well
/// enter the guest, which executes the rest of the instruction and exits again.
///
/// An INS knows that its destination can be written before it reads the port: no byte of a device
/// is lost to a page fault. An OUTS has read its source before it writes the port. An element that
/// faults or is refused leaves registers, memory and the device as if it had not been tried.
///
/// The checks of IOPL and of the I/O-permission bitmap in the TSS come before the exit and are not
/// repeated [sdm] [amd]. An instruction that is neither INS nor OUTS is refused with
/// errc::not_supported.
template <guest_memory Memory, guest_ports Ports>
[[nodiscard]] constexpr string_io_progress string_io(const io_instruction& instruction,
                                                     string_registers& registers, Memory& memory,
                                                     Ports& ports, std::uint32_t most_elements) {
    expects(most_elements != 0, "a call that transfers nothing never finishes");
    if (!instruction.string) {
        return {.state = string_io_state::refused,
                .refusal = {errc::not_supported, instruction.port.raw}};
    }
    const bool in = instruction.direction == io_direction::in;
    const segment_register segment = in ? segment_register::es : instruction.segment;
    const memory_access access = in ? memory_access::write : memory_access::read;
    const address_size addresses = instruction.addresses;
    const std::uint64_t size = size_of(instruction.size);
    const rflags_register rflags{registers.rflags};
    const std::uint64_t step = rflags[rflags_register::direction] ? 0 - size : size;
    std::uint64_t& index = in ? registers.rdi : registers.rsi;

    for (std::uint32_t done = 0;; ++done) {
        if (instruction.rep && (registers.rcx & address_mask(addresses)) == 0) {
            return {.state = string_io_state::finished};
        }
        if (done == most_elements) {
            return {.state = string_io_state::unfinished};
        }

        const element_place place = locate_element(
            memory, {segment, index & address_mask(addresses)}, size_of(instruction.size), access);
        if (place.fault.present) {
            return {.state = string_io_state::faulted, .fault = place.fault, .cr2 = place.cr2};
        }
        if (in) {
            const result<std::uint32_t> value = ports.read(instruction.port, instruction.size);
            if (!value) {
                return {.state = string_io_state::refused, .refusal = value.error()};
            }
            write_element(memory, place, *value);
        } else {
            const result<void> sent =
                ports.write(instruction.port, instruction.size,
                            static_cast<std::uint32_t>(read_element(memory, place)));
            if (!sent) {
                return {.state = string_io_state::refused, .refusal = sent.error()};
            }
        }

        index = register_after(index, addresses, index + step);
        if (!instruction.rep) {
            return {.state = string_io_state::finished};
        }
        registers.rcx = register_after(registers.rcx, addresses, registers.rcx - 1);
    }
}

} // namespace pt::vcpu
