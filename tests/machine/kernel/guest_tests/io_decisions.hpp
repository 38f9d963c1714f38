// SPDX-License-Identifier: BSL-1.0
//
// Which IN, OUT, INS and OUTS exit, as pt's bitmap says it and as the processor decides it, and what
// the exit says of them.
#pragma once

#include "../guest_memory.hpp"
#include "../kernel.hpp"
#include "../random.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstdint>

namespace guest_tests {

using pt::io_port;
using pt::width;
using pt::vcpu::io_direction;
using pt::vcpu::io_instruction;
using enum pt::vcpu::io_direction;

/// An instruction of 64-bit mode, whose port is in DX.
struct io_access {
    std::uint8_t bytes[2]; ///< the first is 0x66 or NOP
    io_instruction what;   ///< but for the port
};

constexpr io_access io_access_of(std::uint8_t opcode, width size, io_direction direction,
                                 bool string) {
    const std::uint8_t prefix = size == width::word ? 0x66 : 0x90;
    return {{prefix, opcode},
            {.size = size,
             .direction = direction,
             .string = string,
             .segment = string && direction == in ? pt::vcpu::segment_register::es
                                                  : pt::vcpu::segment_register::ds,
             .length = static_cast<std::uint8_t>(size == width::word ? 2 : 1)}};
}

inline constexpr io_access io_accesses[] = {
    io_access_of(0xEC, width::byte, in, false),  io_access_of(0xED, width::word, in, false),
    io_access_of(0xED, width::dword, in, false), io_access_of(0xEE, width::byte, out, false),
    io_access_of(0xEF, width::word, out, false), io_access_of(0xEF, width::dword, out, false),
    io_access_of(0x6C, width::byte, in, true),   io_access_of(0x6D, width::word, in, true),
    io_access_of(0x6D, width::dword, in, true),  io_access_of(0x6E, width::byte, out, true),
    io_access_of(0x6F, width::word, out, true),  io_access_of(0x6F, width::dword, out, true),
};
inline constexpr unsigned io_access_count = sizeof io_accesses / sizeof io_accesses[0];
constexpr pt::gpa place_of(unsigned index) { return kernel::guest_memory::code + 8 * index; }

struct io_tally {
    unsigned exits = 0;
    unsigned passes = 0;
    unsigned wrong_decisions = 0;
    unsigned wrong_instructions = 0; ///< an exit says something else than what was executed
    unsigned wrong_answers = 0;      ///< of a port that was let through
};

/// What IN reads where it does not exit, in the machine that the guest runs in. None of the ports
/// that the tests open is a device's which minds.
using open_ports = std::uint64_t (*)(io_port, width);

/// Ports around a place where it matters.
struct port_window {
    std::uint16_t first;
    std::uint32_t size;
    std::uint16_t middle;

    [[nodiscard]] constexpr pt::range<io_port> ports() const { return {io_port{first}, size}; }
};

constexpr pt::range<io_port> one(std::uint16_t port) { return {io_port{port}, 1}; }

template <class Guest>
class io_decisions {
public:
    io_decisions(Guest& machine, open_ports answer) : machine_{machine}, answer_{answer} {}

    void run() {
        machine_.start(kernel::guest_mode::long_64);
        for (unsigned i = 0; i < io_access_count; ++i) {
            machine_.put({io_accesses[i].bytes[0], io_accesses[i].bytes[1]}, place_of(i));
            machine_.put({Guest::hypercall[0], Guest::hypercall[1], Guest::hypercall[2]},
                         place_of(i) + 2);
        }
        all_closed();
        in_each_pattern({"all open across the pages", "the first port of the second page closed",
                         "the first port of the second page open", "some open across the pages"},
                        {0x7FC0, 0x80, 0x8000});
        in_each_pattern({"all open in the second page", "the last port of a qword closed",
                         "the last port of a qword open", "some open in the second page"},
                        {0x9000, 0xC0, 0x907F});
        // The last dwords run past the end, whatever is open.
        in_each_pattern({"all open at the end", "a port near the end closed",
                         "a port near the end open", "some open at the end"},
                        {0xFF80, 0x80, 0xFFF0});
        config_ports();
        kernel::begin_part(nullptr);
    }

private:
    // Of each size there are four accesses: IN, OUT, INS, OUTS. Wider than a byte, they touch ports
    // before the last of them.
    static constexpr unsigned kinds = 4;

    void try_access(unsigned index, std::uint16_t port, io_tally& all) {
        const io_access& form = io_accesses[index];
        machine_.general.rdx = port;
        machine_.general.rax = 0;
        machine_.general.rsi = machine_.general.rdi = Guest::data.raw;
        machine_.go_to(place_of(index));
        const bool entered = machine_.enter();
        const bool exits = entered && machine_.reason() == Guest::exits::io_instruction;
        const bool passes = entered && machine_.reason() == Guest::exits::hypercall;
        if (exits) {
            ++all.exits;
            io_instruction expected = form.what;
            expected.port = io_port{port};
            const auto said = machine_.io_instruction();
            if (!said || !(*said == expected) || machine_.instruction_length() != expected.length) {
                ++all.wrong_instructions;
            }
        } else if (passes) {
            ++all.passes;
            if (form.what.direction == in && !form.what.string &&
                machine_.general.rax != answer_(io_port{port}, form.what.size)) {
                ++all.wrong_answers;
            }
        }
        if (!(exits || passes) || exits != machine_.ports().exits(io_port{port}, form.what.size)) {
            if (++all.wrong_decisions == 1) {
                kernel::say("port ", std::uint64_t{port}, ", form ", std::uint64_t{index});
                machine_.say_exit();
            }
        }
    }

    /// Each form at each port of the range.
    io_tally try_all(std::uint32_t first, std::uint32_t last, std::uint32_t step = 1) {
        io_tally all;
        for (std::uint32_t port = first; port <= last; port += step) {
            for (unsigned i = 0; i < io_access_count; ++i) {
                try_access(i, static_cast<std::uint16_t>(port), all);
            }
        }
        return all;
    }
    io_tally try_window(const port_window& inside) {
        return try_all(inside.first, inside.first + inside.size - 1);
    }

    void check_tally(const io_tally& all) {
        kernel::check_equal("every decision is the processor's", all.wrong_decisions, 0);
        kernel::check_equal("every exit says what was executed", all.wrong_instructions, 0);
        kernel::check_equal("what passes reads what is there", all.wrong_answers, 0);
    }

    void all_closed() {
        kernel::begin_part("all closed");
        const io_tally all = try_all(0, 0xFFFF, 97);
        check_tally(all);
        kernel::check("nothing passes", all.passes == 0 && all.exits > 8000);
    }

    void all_open(const port_window& inside) {
        kernel::check("they open", machine_.ports().open(inside.ports()));
        const io_tally all = try_window(inside);
        check_tally(all);
        kernel::check_equal("what runs out of the window exits", all.exits, kinds * (1 + 3));
    }

    void one_closed(const port_window& inside) {
        kernel::check("they open", machine_.ports().open(inside.ports()));
        kernel::check("one closes", machine_.ports().close(one(inside.middle)).closed);
        const io_tally all = try_window(inside);
        check_tally(all);
        kernel::check_equal("what touches it exits", all.exits,
                            kinds * (1 + 3) + kinds * (1 + 2 + 4));
    }

    void one_open(const port_window& inside) {
        static_cast<void>(machine_.ports().close(inside.ports()));
        kernel::check("one opens", machine_.ports().open(one(inside.middle)));
        const io_tally all = try_window(inside);
        check_tally(all);
        kernel::check_equal("a byte passes there and nothing else", all.passes, kinds);
    }

    void some_open(const port_window& inside) {
        static_cast<void>(machine_.ports().close(inside.ports()));
        bool opened = true;
        for (std::uint32_t i = 0; i < inside.size; ++i) {
            if (random_() % 4 != 0) {
                const auto port = static_cast<std::uint16_t>(inside.first + i);
                opened = opened && machine_.ports().open(one(port));
            }
        }
        kernel::check("some open", opened);
        const io_tally all = try_window(inside);
        check_tally(all);
        kernel::check("some pass", all.exits > 100 && all.passes > 100);
    }

    void in_each_pattern(const char* const (&names)[4], const port_window& inside) {
        void (io_decisions::*const patterns[])(const port_window&) = {
            &io_decisions::all_open, &io_decisions::one_closed, &io_decisions::one_open,
            &io_decisions::some_open};
        for (unsigned i = 0; i < 4; ++i) {
            kernel::begin_part(names[i]);
            (this->*patterns[i])(inside);
        }
        static_cast<void>(machine_.ports().close(inside.ports()));
    }

    void config_ports() {
        kernel::begin_part("the ports of configuration space");
        kernel::check("what lies before them opens", machine_.ports().open({io_port{0xCE8}, 0x10}));
        kernel::check("what lies behind them opens", machine_.ports().open({io_port{0xD00}, 0x20}));
        kernel::check_error("they do not", machine_.ports().open({io_port{0xCF0}, 0x20}),
                            pt::errc::refused);
        const io_tally all = try_all(0xCE8, 0xD17);
        check_tally(all);
        // 8 bytes; words and dwords begin up to 1 and 3 ports before.
        kernel::check_equal("what touches them exits", all.exits, kinds * (8 + 9 + 11));
    }

    Guest& machine_;
    open_ports answer_;
    kernel::random_numbers random_{0x1234'5678};
};

} // namespace guest_tests
