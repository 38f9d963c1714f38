// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::vcpu {

/// An address as an instruction has it [sdm, Logical and Linear Addresses].
struct logical_address {
    segment_register segment = segment_register::ds;
    std::uint64_t offset = 0;

    friend constexpr bool operator==(const logical_address&, const logical_address&) = default;
};

/// What an instruction does to memory; `execute`: its own bytes are fetched, through CS.
enum class memory_access : std::uint8_t { read, write, execute };

/// Where the first bytes of an access lie, or why the guest cannot make it.
struct guest_place {
    event fault{};          ///< if present, the guest gets this, and the rest means nothing
    std::uint64_t cr2 = 0;  ///< of a page fault: the linear address that CR2 must hold
    gpa address{};          ///< of the first byte
    std::uint32_t size = 0; ///< bytes from there on that lie together: at least 1

    friend constexpr bool operator==(const guest_place&, const guest_place&) = default;
};

/// The guest's memory as its instructions reach it, for an instruction that the VMM executes in the
/// guest's place.
///
/// locate checks an access of `size` bytes as the processor does, first against the segment (for
/// all of its bytes) and then against the guest's own page tables (for the bytes that lie together,
/// mostly those up to the end of the page), and sets accessed and dirty flags; for the rest it is
/// asked again. read and write are only called for what locate gave, and do not fail: where there
/// is no memory a read gives all ones and a write is lost.
template <class M>
concept guest_memory = policy<M> &&
    requires(M& memory, logical_address at, std::uint32_t size, memory_access access, gpa place,
             std::uint8_t* to, const std::uint8_t* from, std::size_t count) {
    { memory.locate(at, size, access) } -> std::same_as<guest_place>;
    { memory.read(place, to, count) } -> std::same_as<void>;
    { memory.write(place, from, count) } -> std::same_as<void>;
};

namespace archetype {

/// The least model: every access is a general-protection exception.
struct guest_memory {
    constexpr guest_place locate(logical_address, std::uint32_t, memory_access) {
        return {.fault = exception(exception_vector::general_protection, 0)};
    }
    constexpr void read(gpa, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = 0xFF;
        }
    }
    constexpr void write(gpa, const std::uint8_t*, std::size_t) {}
};
static_assert(vcpu::guest_memory<guest_memory>);

} // namespace archetype

} // namespace pt::vcpu
