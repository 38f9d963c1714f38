// SPDX-License-Identifier: BSL-1.0
//
// INS and OUTS with whatever registers, prefixes and page tables a guest has: a call ends and
// transfers no more than it may, memory is only touched where it was found, the device is asked
// once for each element and never for one that cannot be stored, and the registers say exactly how
// far it came.
#include "pt/vcpu/string_io.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using namespace pt::vcpu;
using pt::gpa;
using pt::io_port;
using pt::width;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

/// Bytes of the input, then zeros.
struct source {
    const std::uint8_t* at;
    std::size_t left;

    std::uint8_t byte() {
        if (left == 0) {
            return 0;
        }
        --left;
        return *at++;
    }
    std::uint64_t number(unsigned bytes) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i != bytes; ++i) {
            value |= std::uint64_t{byte()} << 8 * i;
        }
        return value;
    }
};

/// What one element has done so far.
struct machine {
    source input;
    io_instruction instruction;
    std::uint32_t located = 0;    ///< bytes of the element that were found
    std::uint32_t moved = 0;      ///< bytes of the element that were read or written
    std::uint64_t next_place = 0; ///< every place that is given out lies elsewhere
    gpa places[4]{};
    std::uint32_t sizes[4]{};
    unsigned count = 0;
    unsigned used = 0;
    std::uint32_t accesses = 0; ///< of the port
    bool port_done = false;
    bool faulted = false;
    bool refused = false;
    std::uint64_t offset = 0; ///< of the element

    [[nodiscard]] std::uint32_t size() const { return pt::size_of(instruction.size); }
    [[nodiscard]] bool in() const { return instruction.direction == io_direction::in; }

    void next_element_if_done() {
        if (port_done && (!in() || moved == size())) {
            located = moved = 0;
            count = used = 0;
            port_done = false;
        }
    }
};

struct memory_view {
    machine* m;

    guest_place locate(logical_address at, std::uint32_t size, memory_access access) {
        m->next_element_if_done();
        demand(!m->faulted && !m->refused && !m->port_done);
        demand(size == m->size() - m->located && size != 0);
        demand((access == memory_access::write) == m->in());
        demand(at.segment == (m->in() ? segment_register::es : m->instruction.segment));
        if (m->located == 0) {
            m->offset = at.offset;
        }
        demand(at.offset == m->offset + m->located);
        const std::uint8_t choice = m->input.byte();
        if (choice % 16 == 15) {
            m->faulted = true;
            return {.fault = exception(exception_vector::page_fault, choice), .cr2 = choice};
        }
        const std::uint32_t together = 1 + choice % 8; // may be more than was asked for
        m->next_place += 64;
        m->places[m->count] = gpa{m->next_place};
        m->sizes[m->count] = together < size ? together : size;
        m->located += m->sizes[m->count++];
        return {.address = gpa{m->next_place}, .size = together};
    }
    void read(gpa place, std::uint8_t* to, std::size_t count) {
        demand(!m->in() && !m->port_done);
        moves(place, count);
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = static_cast<std::uint8_t>(0xA0 + m->moved - count + i);
        }
    }
    void write(gpa place, const std::uint8_t* from, std::size_t count) {
        demand(m->in() && m->port_done);
        moves(place, count);
        for (std::size_t i = 0; i != count; ++i) {
            demand(from[i] == 0xA0 + m->moved - count + i);
        }
    }
    void moves(gpa place, std::size_t count) {
        demand(m->located == m->size() && m->used < m->count);
        demand(place == m->places[m->used] && count == m->sizes[m->used]);
        ++m->used;
        m->moved += static_cast<std::uint32_t>(count);
    }
};

struct port_view {
    machine* m;

    bool answers(io_port port, width size) {
        demand(port == m->instruction.port && size == m->instruction.size);
        demand(!m->faulted && !m->refused && !m->port_done && m->located == m->size());
        demand(m->moved == (m->in() ? 0 : m->size()));
        m->refused = m->input.byte() % 32 == 31;
        if (!m->refused) {
            m->port_done = true;
            ++m->accesses;
        }
        return !m->refused;
    }
    pt::result<std::uint32_t> read(io_port port, width size) {
        demand(m->in());
        if (!answers(port, size)) {
            return pt::error{pt::errc::busy, 1};
        }
        return 0xA3A2'A1A0U; // more than a byte or a word takes
    }
    pt::result<void> write(io_port port, width size, std::uint32_t value) {
        demand(!m->in() && value == (0xA3A2'A1A0U & pt::all_ones(size)));
        if (!answers(port, size)) {
            return pt::error{pt::errc::busy, 1};
        }
        return {};
    }
};

/// A number of `bits` bits within a register of 64, changed modulo its width.
std::uint64_t moved(std::uint64_t before, unsigned bits, std::uint64_t by) {
    switch (bits) {
    case 16: return before - before % 0x1'0000 + (before + by) % 0x1'0000;
    case 32: return (before + by) % 0x1'0000'0000;
    default: return before + by;
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t length) {
    machine m{.input = {data, length}, .instruction = {}};
    const width widths[] = {width::byte, width::word, width::dword};
    const address_size address_sizes[] = {address_size::bits_16, address_size::bits_32,
                                          address_size::bits_64};
    const std::uint8_t form = m.input.byte();
    const unsigned bits = 16U << form / 16 % 3;
    m.instruction = {.port = io_port{static_cast<std::uint16_t>(m.input.number(2))},
                     .size = widths[form % 3],
                     .direction = (form & 4) != 0 ? io_direction::in : io_direction::out,
                     .string = true,
                     .rep = (form & 8) != 0,
                     .addresses = address_sizes[form / 16 % 3],
                     .segment = static_cast<segment_register>(m.input.byte() % 6)};
    string_registers start{};
    start.rcx = m.input.number(8);
    start.rsi = m.input.number(8);
    start.rdi = m.input.number(8);
    start.rflags = m.input.number(2);
    const std::uint32_t most = 1U + m.input.byte();

    string_registers registers = start;
    memory_view memory{&m};
    port_view ports{&m};
    const string_io_progress progress = string_io(m.instruction, registers, memory, ports, most);

    const std::uint64_t done = m.accesses;
    const std::uint64_t step =
        (start.rflags & 0x400) != 0 ? std::uint64_t{0} - m.size() : std::uint64_t{m.size()};
    string_registers expected = start;
    for (std::uint64_t i = 0; i != done; ++i) {
        std::uint64_t& index = m.in() ? expected.rdi : expected.rsi;
        index = moved(index, bits, step);
        if (m.instruction.rep) {
            expected.rcx = moved(expected.rcx, bits, ~std::uint64_t{0});
        }
    }
    demand(registers == expected);
    demand(done <= most);
    const std::uint64_t count = !m.instruction.rep ? 1
                                : bits == 64       ? start.rcx
                                                   : start.rcx % (std::uint64_t{1} << bits);
    demand(done <= count);
    demand((progress.state == string_io_state::faulted) == m.faulted);
    demand((progress.state == string_io_state::refused) == m.refused);
    demand((progress.state == string_io_state::finished) == (done == count));
    demand(progress.state != string_io_state::unfinished || done == most);
    demand(progress.fault.present == m.faulted);
    return 0;
}
