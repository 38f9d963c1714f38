// SPDX-License-Identifier: BSL-1.0
//
// Executing memory instructions, at compile time. Flags are written as the letters of [sdm]; the cases
// are computed by hand.
#include "pt/vcpu/element_place.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/instruction_bytes.hpp"
#include "pt/vcpu/memory_access.hpp"
#include "pt/vcpu/memory_instruction.hpp"
#include "pt/vcpu/rflags_register.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using namespace pt::vcpu;
using pt::gpa;
using pt::mmio_width;
using enum memory_operation;
using enum mmio_width;

// The status flags by their places in RFLAGS.
constexpr std::uint64_t CF = 0x001, PF = 0x004, AF = 0x010, ZF = 0x040, SF = 0x080, OF = 0x800;
static_assert(rflags_register::status == (CF | PF | AF | ZF | SF | OF));
static_assert(rflags_register::direction.mask == 0x400 && rflags_register::trap.mask == 0x100 &&
              rflags_register::interrupt_enable.mask == 0x200 &&
              rflags_register::resume.mask == 0x1'0000 &&
              rflags_register::io_privilege_level.mask == 0x3000);

constexpr computed flagged(std::uint64_t value, std::uint64_t flags) {
    return {value, rflags_register{flags}};
}
constexpr computed run(memory_operation what, std::uint64_t a, std::uint64_t b, mmio_width size,
                       std::uint64_t flags = 0) {
    return compute(what, a, b, size, rflags_register{flags});
}

static_assert(run(add, 0xFF, 1, byte) == flagged(0, CF | PF | AF | ZF));
static_assert(run(add, 0x7FFF, 1, word) == flagged(0x8000, PF | AF | SF | OF));
static_assert(run(add, 1, 1, qword, 0x202 | CF) == flagged(2, 0x202)); // IF stays
static_assert(run(add_with_carry, 0xFFFF'FFFF, 0, dword, CF) == flagged(0, CF | PF | AF | ZF));
static_assert(run(subtract, 0, 1, qword) == flagged(~0ULL, CF | PF | AF | SF));
static_assert(run(subtract_with_borrow, 0x80, 0, byte, CF) == flagged(0x7F, AF | OF));
static_assert(run(compare, 5, 5, dword, CF) == flagged(0, PF | ZF));
static_assert(run(logical_and, 0xF0, 0x8F, byte, CF | OF) == flagged(0x80, SF));
static_assert(run(exclusive_or, 3, 3, word) == flagged(0, PF | ZF));
static_assert(run(inclusive_or, 1, 2, byte) == flagged(3, PF));
static_assert(run(increment, 0xFF, 0x77, byte, CF) == flagged(0, CF | PF | AF | ZF));
static_assert(run(decrement, 0, 0, byte) == flagged(0xFF, PF | AF | SF));
static_assert(run(negate, 0x80, 0, byte) == flagged(0x80, CF | SF | OF));
static_assert(run(negate, 0, 0, byte, CF) == flagged(0, PF | ZF));
static_assert(run(complement, 0x0F, 0, byte, CF | ZF) == flagged(0xF0, CF | ZF));
static_assert(run(bit_test_and_set, 0, 33, dword) == flagged(2, 0)); // modulo 32
static_assert(run(bit_test_and_reset, 0xFFFF, 15, word) == flagged(0x7FFF, CF));
static_assert(run(bit_test_and_complement, 0, 63, qword, CF) == flagged(1ULL << 63, 0));
static_assert(run(bit_test, 4, 2, word) == flagged(4, CF));

// 8 and 16 bits leave the rest of a register, 32 bits clear what is above.
constexpr std::uint64_t after(register_operand to, mmio_width size, std::uint64_t value) {
    general_registers registers{};
    registers[general_register::rbx] = 0x1122'3344'5566'7788;
    registers.assign(to, size, value);
    return registers[general_register::rbx];
}
constexpr register_operand bl{general_register::rbx};
constexpr register_operand bh{general_register::rbx, true};
static_assert(after(bl, byte, 0xFFAA) == 0x1122'3344'5566'77AA);
static_assert(after(bh, byte, 0xFFAA) == 0x1122'3344'5566'AA88);
static_assert(after(bl, word, 0xABCDE) == 0x1122'3344'5566'BCDE);
static_assert(after(bl, dword, ~0ULL) == 0xFFFF'FFFF);
static_assert(after(bl, qword, 7) == 7);

/// Memory in which each byte is its address, in pieces of three bytes that lie far apart.
struct scattered {
    std::uint8_t written[8]{};

    constexpr guest_place locate(logical_address at, std::uint32_t, memory_access) {
        return {.address = gpa{at.offset / 3 * 0x100 + at.offset % 3},
                .size = static_cast<std::uint32_t>(3 - at.offset % 3)};
    }
    constexpr void read(gpa place, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = static_cast<std::uint8_t>(place.raw / 0x100 * 3 + place.raw % 0x100 + i);
        }
    }
    constexpr void write(gpa place, const std::uint8_t* from, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            written[(place.raw / 0x100 * 3 + place.raw % 0x100 + i) % 8] = from[i];
        }
    }
};

constexpr bool an_element_is_gathered_from_its_pieces() {
    scattered memory;
    const auto place = locate_element(memory, {segment_register::ds, 8}, 8, memory_access::read);
    if (place.count != 4 || place.pieces[0].size != 1 || place.pieces[3].size != 1 ||
        read_element(memory, place) != 0x0F0E'0D0C'0B0A'0908) {
        return false;
    }
    write_element(memory, place, 0x8877'6655'4433'2211);
    for (unsigned i = 0; i != 8; ++i) {
        if (memory.written[i] != 0x11 * (i + 1)) {
            return false;
        }
    }
    return true;
}
static_assert(an_element_is_gathered_from_its_pieces());

constexpr bool an_instruction_is_fetched_piece_by_piece() {
    scattered memory;
    instruction_bytes of{.rip = 2, .code = code_size::bits_32};
    unsigned fetches = 0;
    while (of.count != longest_instruction) {
        if (fetch_more(memory, of).fault.present || ++fetches > 6) {
            return false;
        }
    }
    for (unsigned i = 0; i != longest_instruction; ++i) {
        if (of.bytes[i] != i + 2) {
            return false;
        }
    }
    return fetches == 6; // 1, four times 3, and 2
}
static_assert(an_instruction_is_fetched_piece_by_piece());

} // namespace
