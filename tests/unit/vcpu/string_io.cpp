// SPDX-License-Identifier: BSL-1.0
#include "pt/vcpu/string_io.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/guest_ports.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace pt::vcpu;
using pt::errc;
using pt::gpa;
using pt::io_port;
using pt::width;

constexpr std::uint64_t backwards = 0x400; // RFLAGS.DF

/// A guest: segments with a base each, pages of 4 KiB in arbitrary frames. What happens is written
/// down.
struct guest {
    std::map<segment_register, std::uint64_t> bases;
    std::map<std::uint64_t, std::uint64_t> frames; // linear page -> frame, both by number
    std::map<std::uint64_t, bool> read_only;       // linear pages
    std::map<std::uint64_t, std::uint8_t> memory;  // by gpa
    std::vector<std::string> log;
    std::vector<std::uint32_t> written;   // what the port got
    std::uint32_t next = 0x4030'2010;     // what it gives: each next one is 0x01010101 more
    std::optional<unsigned> refuse_after; // so many port accesses
    unsigned accesses = 0;

    std::uint8_t& at_linear(std::uint64_t linear) {
        return memory[frames.at(linear >> 12) << 12 | (linear & 0xFFF)];
    }
};

struct guest_view {
    guest* g;

    guest_place locate(logical_address at, std::uint32_t size, memory_access access) {
        const std::uint64_t linear = g->bases[at.segment] + at.offset;
        const std::uint64_t page = linear >> 12;
        const bool write = access == memory_access::write;
        g->log.emplace_back(write ? "locate to write" : "locate to read");
        if (g->frames.count(page) == 0 || (write && g->read_only[page])) {
            const auto code =
                static_cast<std::uint32_t>((write ? 2 : 0) + (g->frames.count(page) != 0 ? 1 : 0));
            return {.fault = exception(exception_vector::page_fault, code), .cr2 = linear};
        }
        const std::uint64_t left = 0x1000 - (linear & 0xFFF);
        (void)size; // says how much lies together, be it more than what is asked for
        return {.address = gpa{g->frames[page] << 12 | (linear & 0xFFF)},
                .size = static_cast<std::uint32_t>(left)};
    }
    void read(gpa place, std::uint8_t* to, std::size_t count) {
        g->log.emplace_back("read");
        for (std::size_t i = 0; i != count; ++i) {
            to[i] = g->memory[place.raw + i];
        }
    }
    void write(gpa place, const std::uint8_t* from, std::size_t count) {
        g->log.emplace_back("write");
        for (std::size_t i = 0; i != count; ++i) {
            g->memory[place.raw + i] = from[i];
        }
    }
};
static_assert(guest_memory<guest_view>);

struct device {
    guest* g;

    bool refuses() { return g->refuse_after && g->accesses >= *g->refuse_after; }

    pt::result<std::uint32_t> read(io_port port, width size) {
        if (refuses()) {
            return pt::error{errc::busy, port.raw};
        }
        ++g->accesses;
        g->log.emplace_back("in");
        const std::uint32_t value = g->next & pt::all_ones(size);
        g->next += 0x0101'0101;
        return value;
    }
    pt::result<void> write(io_port port, width, std::uint32_t value) {
        if (refuses()) {
            return pt::error{errc::busy, port.raw};
        }
        ++g->accesses;
        g->log.emplace_back("out");
        g->written.push_back(value);
        return {};
    }
};
static_assert(guest_ports<device>);

io_instruction outs(width size) {
    return {.port = io_port{0x1F0}, .size = size, .direction = io_direction::out, .string = true};
}
io_instruction ins(width size) {
    return {.port = io_port{0x1F0}, .size = size, .direction = io_direction::in, .string = true};
}
io_instruction rep(io_instruction instruction) {
    instruction.rep = true;
    return instruction;
}

string_io_progress run(const io_instruction& instruction, string_registers& registers, guest& g,
                       std::uint32_t most = 1'000'000) {
    guest_view memory{&g};
    device ports{&g};
    return string_io(instruction, registers, memory, ports, most);
}

/// Linear pages 0x10, 0x11, 0x12 in frames that are neither in order nor together; page offsets
/// hold their own low byte.
guest three_pages() {
    guest g;
    g.frames = {{0x10, 0x77}, {0x11, 0x33}, {0x12, 0x55}};
    for (std::uint64_t linear = 0x1'0000; linear != 0x1'3000; ++linear) {
        g.at_linear(linear) = static_cast<std::uint8_t>(linear + (linear >> 12));
    }
    return g;
}

const string_io_progress finished{.state = string_io_state::finished};
const string_io_progress unfinished{.state = string_io_state::unfinished};

TEST_CASE("OUTS sends bytes, words and dwords from RSI upwards, least significant byte first",
          "[vcpu][string_io]") {
    guest g = three_pages();
    string_registers r{.rcx = 9, .rsi = 0x1'0020, .rdi = 0x1'0800};
    REQUIRE(run(outs(width::byte), r, g) == finished);
    REQUIRE(run(outs(width::word), r, g) == finished);
    REQUIRE(run(outs(width::dword), r, g) == finished);
    REQUIRE(g.written == std::vector<std::uint32_t>{0x30, 0x3231, 0x3635'3433});
    // Without REP neither the count nor the other index has a part in it.
    REQUIRE(r == string_registers{.rcx = 9, .rsi = 0x1'0027, .rdi = 0x1'0800});
}

TEST_CASE("INS stores what the port gives at RDI, and nothing beside it", "[vcpu][string_io]") {
    guest g = three_pages();
    const auto before = g.memory;
    string_registers r{.rcx = 3, .rsi = 7, .rdi = 0x1'0180};
    REQUIRE(run(rep(ins(width::word)), r, g) == finished);
    REQUIRE(r == string_registers{.rcx = 0, .rsi = 7, .rdi = 0x1'0186});
    unsigned changed = 0;
    for (const auto& [at, byte] : g.memory) {
        changed += byte != before.at(at);
    }
    REQUIRE(changed == 6);
    const std::uint8_t expected[] = {0x10, 0x20, 0x11, 0x21, 0x12, 0x22};
    for (unsigned i = 0; i != 6; ++i) {
        REQUIRE(g.at_linear(0x1'0180 + i) == expected[i]);
    }
}

TEST_CASE("with RFLAGS.DF the index goes down, and each element is still stored upwards",
          "[vcpu][string_io]") {
    guest g = three_pages();
    string_registers r{.rcx = 2, .rdi = 0x1'0100, .rflags = backwards | 2};
    REQUIRE(run(rep(ins(width::dword)), r, g) == finished);
    REQUIRE(r == string_registers{.rcx = 0, .rdi = 0x1'00F8, .rflags = backwards | 2});
    REQUIRE(g.at_linear(0x1'0100) == 0x10);
    REQUIRE(g.at_linear(0x1'0103) == 0x40);
    REQUIRE(g.at_linear(0x1'00FC) == 0x11);
    REQUIRE(g.at_linear(0x1'00FF) == 0x41);
}

TEST_CASE("REP with a count of 0 touches neither the port, nor memory, nor a register",
          "[vcpu][string_io]") {
    guest g;
    for (const address_size addresses :
         {address_size::bits_16, address_size::bits_32, address_size::bits_64}) {
        // The count is as wide as the address: what lies above it does not count.
        const std::uint64_t rcx = addresses == address_size::bits_16   ? 0xFFFF'FFFF'FFFF'0000
                                  : addresses == address_size::bits_32 ? 0xFFFF'FFFF'0000'0000
                                                                       : 0;
        for (io_instruction instruction : {rep(ins(width::byte)), rep(outs(width::dword))}) {
            instruction.addresses = addresses;
            const string_registers before{.rcx = rcx, .rsi = ~std::uint64_t{0}, .rdi = rcx};
            string_registers r = before;
            REQUIRE(run(instruction, r, g) == finished);
            REQUIRE(r == before);
        }
    }
    REQUIRE(g.log.empty());
}

TEST_CASE("16-bit addresses change SI, DI and CX alone, 32-bit ones clear the upper halves",
          "[vcpu][string_io]") {
    struct row {
        address_size addresses;
        std::uint64_t rflags, rcx, index, rcx_after, index_after, offset;
    };
    // From the manual's rules for results of 16, 32 and 64 bits in a 64-bit register.
    const row rows[] = {
        {address_size::bits_16, 0, 0xAAAA'BBBB'CCCC'0003, 0xAAAA'BBBB'CCCC'FFFE,
         0xAAAA'BBBB'CCCC'0002, 0xAAAA'BBBB'CCCC'0000, 0xFFFE},
        {address_size::bits_16, backwards, 0xAAAA'BBBB'CCCC'0001, 0xAAAA'BBBB'CCCC'0000,
         0xAAAA'BBBB'CCCC'0000, 0xAAAA'BBBB'CCCC'FFFE, 0},
        {address_size::bits_32, 0, 0xAAAA'BBBB'0000'0003, 0xAAAA'BBBB'FFFF'FFFE, 2, 0, 0xFFFF'FFFE},
        {address_size::bits_32, backwards, 0xAAAA'BBBB'8000'0000, 0xAAAA'BBBB'0000'0000,
         0x7FFF'FFFF, 0xFFFF'FFFE, 0},
        {address_size::bits_64, 0, 0xAAAA'BBBB'0000'0000, 0xFFFF'FFFF'FFFF'FFFE,
         0xAAAA'BBBA'FFFF'FFFF, 0, 0xFFFF'FFFF'FFFF'FFFE},
        {address_size::bits_64, backwards, 1, 0, 0, 0xFFFF'FFFF'FFFF'FFFE, 0},
    };
    for (const row& expected : rows) {
        for (io_instruction instruction : {rep(ins(width::word)), rep(outs(width::word))}) {
            const bool in = instruction.direction == io_direction::in;
            instruction.addresses = expected.addresses;
            guest g;
            g.frames = {{expected.offset >> 12, 1}};
            string_registers r{.rcx = expected.rcx,
                               .rsi = in ? 5 : expected.index,
                               .rdi = in ? expected.index : 5,
                               .rflags = expected.rflags};
            const string_io_progress progress = run(instruction, r, g, 1);
            REQUIRE(g.accesses == 1);
            // The count, as wide as the address, was 1 in the second row and in the last.
            REQUIRE(progress ==
                    (&expected == &rows[1] || &expected == &rows[5] ? finished : unfinished));
            REQUIRE(r == string_registers{.rcx = expected.rcx_after,
                                          .rsi = in ? 5 : expected.index_after,
                                          .rdi = in ? expected.index_after : 5,
                                          .rflags = expected.rflags});
        }
    }
}

TEST_CASE("an element that crosses the end of a page lies in two frames", "[vcpu][string_io]") {
    for (const unsigned first : {0x1'0FFDU, 0x1'0FFEU, 0x1'0FFFU}) {
        guest g = three_pages();
        string_registers r{.rsi = first, .rdi = first};
        REQUIRE(run(ins(width::dword), r, g) == finished);
        REQUIRE(run(outs(width::dword), r, g) == finished);
        REQUIRE(g.written == std::vector<std::uint32_t>{0x4030'2010});
        for (unsigned i = 0; i != 4; ++i) {
            const std::uint64_t linear = first + i;
            const std::uint64_t frame = linear < 0x1'1000 ? 0x7'7000 : 0x3'3000;
            REQUIRE(g.memory.at(frame + (linear & 0xFFF)) == 0x10 * (i + 1));
        }
    }
}

TEST_CASE("an INS that cannot store leaves the device alone: no byte of it is lost",
          "[vcpu][string_io]") {
    guest g = three_pages();
    g.read_only[0x11] = true;
    // The second page is the one that faults, and the first element only touches it.
    string_registers r{.rcx = 4, .rdi = 0x1'0FFA};
    const string_io_progress progress = run(rep(ins(width::dword)), r, g);
    REQUIRE(progress.state == string_io_state::faulted);
    REQUIRE(progress.fault == exception(exception_vector::page_fault, 3));
    REQUIRE(progress.cr2 == 0x1'1000);
    REQUIRE(g.accesses == 1);
    REQUIRE(r == string_registers{.rcx = 3, .rdi = 0x1'0FFE});
    REQUIRE(g.at_linear(0x1'0FFE) == static_cast<std::uint8_t>(0xFE + 0x10));

    // The guest's handler makes it writable, and nothing is missing.
    g.read_only[0x11] = false;
    REQUIRE(run(rep(ins(width::dword)), r, g) == finished);
    REQUIRE(g.accesses == 4);
    for (unsigned i = 0; i != 16; ++i) {
        REQUIRE(g.at_linear(0x1'0FFA + i) == 0x10 * (i % 4 + 1) + i / 4);
    }
}

TEST_CASE("an OUTS whose source faults writes nothing to the port", "[vcpu][string_io]") {
    guest g = three_pages();
    string_registers r{.rcx = 2, .rsi = 0x1'2FFE};
    const string_io_progress progress = run(rep(outs(width::dword)), r, g);
    REQUIRE(progress.state == string_io_state::faulted);
    REQUIRE(progress.fault == exception(exception_vector::page_fault, 0));
    REQUIRE(progress.cr2 == 0x1'3000);
    REQUIRE(g.log == std::vector<std::string>{"locate to read", "locate to read"});
    REQUIRE(r == string_registers{.rcx = 2, .rsi = 0x1'2FFE});
}

TEST_CASE(
    "the destination is checked before the port is read, the source read before it is written",
    "[vcpu][string_io]") {
    guest g = three_pages();
    string_registers r{.rsi = 0x1'0000, .rdi = 0x1'0000};
    REQUIRE(run(ins(width::byte), r, g) == finished);
    REQUIRE(g.log == std::vector<std::string>{"locate to write", "in", "write"});
    g.log.clear();
    REQUIRE(run(outs(width::byte), r, g) == finished);
    REQUIRE(g.log == std::vector<std::string>{"locate to read", "read", "out"});
}

TEST_CASE("a call transfers no more than it is allowed, and says how far it came",
          "[vcpu][string_io]") {
    guest g = three_pages();
    string_registers r{.rcx = ~std::uint64_t{0}, .rsi = 0x1'0000};
    REQUIRE(run(rep(outs(width::byte)), r, g, 100) == unfinished);
    REQUIRE(g.written.size() == 100);
    REQUIRE(r == string_registers{.rcx = ~std::uint64_t{0} - 100, .rsi = 0x1'0064});
    // A count that ends with the bound is done: the guest need not come back for nothing.
    r.rcx = 5;
    REQUIRE(run(rep(outs(width::byte)), r, g, 5) == finished);
    REQUIRE(r.rcx == 0);
}

TEST_CASE("a REP of 2^64-1 ends in the first fault", "[vcpu][string_io]") {
    guest g = three_pages();
    string_registers r{.rcx = ~std::uint64_t{0}, .rsi = 0x1'0000};
    REQUIRE(run(rep(outs(width::dword)), r, g).state == string_io_state::faulted);
    REQUIRE(r == string_registers{.rcx = ~std::uint64_t{0} - 0xC00, .rsi = 0x1'3000});
}

TEST_CASE("an element that the ports refuse has not been transferred", "[vcpu][string_io]") {
    for (const io_instruction& instruction : {rep(ins(width::word)), rep(outs(width::word))}) {
        guest g = three_pages();
        const bool in = instruction.direction == io_direction::in;
        g.refuse_after = 2;
        string_registers r{.rcx = 5, .rsi = 0x1'0000, .rdi = 0x1'0000};
        const string_io_progress progress = run(instruction, r, g);
        REQUIRE(progress.state == string_io_state::refused);
        REQUIRE(progress.refusal == pt::error{errc::busy, 0x1F0});
        REQUIRE(r.rcx == 3);
        REQUIRE((in ? r.rdi : r.rsi) == 0x1'0004);
        REQUIRE(g.at_linear(0x1'0004) == 0x14); // as it was
        g.refuse_after.reset();
        REQUIRE(run(instruction, r, g) == finished);
        REQUIRE(g.accesses == 5);
        REQUIRE((in ? r.rdi : r.rsi) == 0x1'000A);
    }
}

TEST_CASE("OUTS reads from the segment of its prefix, INS writes to ES whatever the prefix",
          "[vcpu][string_io]") {
    guest g = three_pages();
    g.bases = {{segment_register::ds, 0x1'0000},
               {segment_register::fs, 0x1'1000},
               {segment_register::es, 0x1'2000}};
    string_registers r{.rsi = 0x50, .rdi = 0x50};
    io_instruction out = outs(width::byte);
    io_instruction in = ins(width::byte);
    out.segment = segment_register::fs;
    in.segment = segment_register::fs;
    REQUIRE(run(out, r, g) == finished);
    REQUIRE(g.written == std::vector<std::uint32_t>{0x61});
    REQUIRE(run(in, r, g) == finished);
    REQUIRE(g.at_linear(0x1'1050) == 0x61);
    REQUIRE(g.at_linear(0x1'2050) == 0x10);
}

TEST_CASE("an IN or OUT of the accumulator is refused, and nothing happens", "[vcpu][string_io]") {
    guest g;
    io_instruction instruction = outs(width::byte);
    instruction.string = false;
    string_registers r{.rcx = 4};
    const string_io_progress progress = run(instruction, r, g);
    REQUIRE(progress.state == string_io_state::refused);
    REQUIRE(progress.refusal == pt::error{errc::not_supported, 0x1F0});
    REQUIRE(r == string_registers{.rcx = 4});
    REQUIRE(g.log.empty());
}

TEST_CASE("in pieces of any size it is the same instruction", "[vcpu][string_io]") {
    std::minstd_rand engine{6};
    const auto random = [&] { return static_cast<std::uint32_t>(engine() >> 8); };
    unsigned faults = 0;
    for (unsigned round = 0; round != 2000; ++round) {
        const width sizes[] = {width::byte, width::word, width::dword};
        const address_size address_sizes[] = {address_size::bits_32, address_size::bits_64};
        io_instruction instruction =
            random() % 2 != 0 ? rep(ins(sizes[random() % 3])) : rep(outs(sizes[random() % 3]));
        instruction.addresses = address_sizes[random() % 2];
        const string_registers start{.rcx = random() % 64,
                                     .rsi = 0x1'0FC0 + random() % 0x80,
                                     .rdi = 0x1'0FC0 + random() % 0x80,
                                     .rflags = random() % 2 != 0 ? backwards : 0};
        guest whole = three_pages();
        whole.read_only[0x10] = random() % 4 == 0;
        whole.read_only[0x11] = random() % 4 == 0;
        guest parts = whole;
        string_registers whole_registers = start;
        string_registers parts_registers = start;
        const string_io_progress expected = run(instruction, whole_registers, whole);
        string_io_progress progress = unfinished;
        for (unsigned calls = 0; progress == unfinished; ++calls) {
            REQUIRE(calls <= 64);
            progress = run(instruction, parts_registers, parts, 1 + random() % 7);
        }
        REQUIRE(progress == expected);
        REQUIRE(parts_registers == whole_registers);
        REQUIRE(parts.memory == whole.memory);
        REQUIRE(parts.written == whole.written);
        REQUIRE(parts.next == whole.next);

        // Byte by byte, as one would do it by hand: as many elements as the registers say.
        const unsigned size = pt::size_of(instruction.size);
        const bool in = instruction.direction == io_direction::in;
        const std::uint64_t done = start.rcx - whole_registers.rcx;
        REQUIRE(whole.accesses == done);
        guest by_hand = three_pages();
        std::uint64_t index = in ? start.rdi : start.rsi;
        for (std::uint64_t element = 0; element != done; ++element) {
            std::uint32_t sent = 0;
            for (unsigned i = 0; i != size; ++i) {
                if (in) {
                    by_hand.at_linear(index + i) =
                        static_cast<std::uint8_t>((0x4030'2010 + element * 0x0101'0101) >> 8 * i);
                } else {
                    sent += std::uint32_t{by_hand.at_linear(index + i)} << 8 * i;
                }
            }
            if (!in) {
                REQUIRE(whole.written.at(element) == sent);
            }
            index += start.rflags != 0 ? 0ULL - size : size;
        }
        REQUIRE(index == (in ? whole_registers.rdi : whole_registers.rsi));
        REQUIRE(by_hand.memory == whole.memory);
        if (expected.state == string_io_state::faulted) {
            // There is a byte of the next element that cannot be written.
            ++faults;
            REQUIRE(in);
            REQUIRE((whole.read_only[index >> 12] || whole.read_only[(index + size - 1) >> 12]));
        } else {
            REQUIRE(whole_registers.rcx == 0);
        }
    }
    REQUIRE(faults > 100);
}

struct host_log {
    std::vector<std::string>* log;

    std::uint8_t in8(io_port port) {
        return log->push_back("in8 " + std::to_string(port.raw)), 0x81;
    }
    std::uint16_t in16(io_port) { return log->push_back("in16"), 0x8001; }
    std::uint32_t in32(io_port) { return log->push_back("in32"), 0x8000'0001; }
    void out8(io_port, std::uint8_t value) { log->push_back("out8 " + std::to_string(value)); }
    void out16(io_port, std::uint16_t value) { log->push_back("out16 " + std::to_string(value)); }
    void out32(io_port, std::uint32_t value) { log->push_back("out32 " + std::to_string(value)); }
};

TEST_CASE("forwarded ports are one host access of the same size each", "[vcpu][io]") {
    std::vector<std::string> log;
    forwarded_ports ports{host_log{&log}};
    static_assert(guest_ports<decltype(ports)>);
    REQUIRE(*ports.read(io_port{7}, width::byte) == 0x81);
    REQUIRE(*ports.read(io_port{7}, width::word) == 0x8001);
    REQUIRE(*ports.read(io_port{7}, width::dword) == 0x8000'0001);
    REQUIRE(ports.write(io_port{7}, width::byte, 200).has_value());
    REQUIRE(ports.write(io_port{7}, width::word, 40000).has_value());
    REQUIRE(ports.write(io_port{7}, width::dword, 4'000'000'000).has_value());
    REQUIRE(log == std::vector<std::string>{"in8 7", "in16", "in32", "out8 200", "out16 40000",
                                            "out32 4000000000"});
}

} // namespace
