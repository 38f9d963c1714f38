// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstdint>

namespace pt::vcpu {

/// The instruction that a virtual processor was about to execute, and as many of its bytes as are
/// known: none after a VM exit of VMX, up to 15 after a nested page fault where the processor has
/// decode assists [amd].
struct instruction_bytes {
    std::uint64_t rip = 0; ///< as an offset in the code segment
    code_size code = code_size::bits_64;
    std::uint8_t count = 0; ///< of bytes that are known, at most 15
    std::uint8_t bytes[longest_instruction]{};

    friend constexpr bool operator==(const instruction_bytes&, const instruction_bytes&) = default;
};

/// Why an instruction cannot be fetched: what the guest gets.
struct fetch_fault {
    event fault{};         ///< not present: there is none
    std::uint64_t cr2 = 0; ///< of a page fault

    friend constexpr bool operator==(const fetch_fault&, const fetch_fault&) = default;
};

/// Fetches the bytes behind those that are known: at least one, mostly all up to 15 or to the end of
/// the page. There must be less than 15. The processor that executes the instruction fetches no byte
/// behind its end, and neither has a fault there.
template <guest_memory Memory>
[[nodiscard]] constexpr fetch_fault fetch_more(Memory& memory, instruction_bytes& of) {
    expects(of.count < longest_instruction, "an instruction has 15 bytes at most");
    const std::uint64_t next = of.rip + of.count;
    const logical_address at{segment_register::cs,
                             of.code == code_size::bits_64 ? next : next & 0xFFFF'FFFF};
    std::uint32_t wanted = longest_instruction - std::uint32_t{of.count};
    guest_place place = memory.locate(at, wanted, memory_access::execute);
    if (place.fault.present) { // perhaps of a byte that is not the instruction's any more
        wanted = 1;
        place = memory.locate(at, wanted, memory_access::execute);
        if (place.fault.present) {
            return {place.fault, place.cr2};
        }
    }
    expects(place.size != 0, "a place in guest memory has at least one byte");
    const std::uint32_t got = place.size < wanted ? place.size : wanted;
    memory.read(place.address, of.bytes + of.count, got);
    of.count = static_cast<std::uint8_t>(of.count + got);
    return {};
}

} // namespace pt::vcpu
