// SPDX-License-Identifier: BSL-1.0
//
// Which IN, OUT, INS and OUTS exit, as pt's bitmap says it and as the processor decides it; and
// what an exit says of the instruction.
#include "../vmx.hpp"

#include "pt/core/width.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vmx/io_exit.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::check_error;
using kernel::guest;
using kernel::guest_mode;
using kernel::vmcs_field;
using kernel::vmread;
using pt::io_port;
using pt::width;
using pt::vcpu::io_direction;
using pt::vcpu::io_instruction;
using pt::vcpu::segment_register;
using pt::vmx::exit_reason;
using qualification = pt::vmx::io_instruction_qualification;

/// What the exit says, by pt's words.
pt::result<io_instruction> instruction_of_exit() {
    const auto field = [](vmcs_field which) { return static_cast<std::uint32_t>(vmread(which)); };
    return pt::vmx::io_instruction_of(
        qualification{vmread(vmcs_field::exit_qualification)},
        pt::vmx::io_instruction_information{field(vmcs_field::exit_instruction_information)},
        field(vmcs_field::exit_instruction_length));
}

// ---------------------------------------------------------------------------------- the decision

/// An instruction of 64-bit mode, whose port is in DX.
struct access {
    std::uint8_t bytes[2]; ///< the first is 0x66 or NOP
    io_instruction what;   ///< but for the port
};

constexpr access access_of(std::uint8_t opcode, width size, io_direction direction, bool string) {
    const std::uint8_t prefix = size == width::word ? 0x66 : 0x90;
    return {{prefix, opcode},
            {.size = size,
             .direction = direction,
             .string = string,
             .segment = string && direction == io_direction::in ? segment_register::es
                                                                : segment_register::ds,
             .length = static_cast<std::uint8_t>(size == width::word ? 2 : 1)}};
}

using enum io_direction;
constexpr access accesses[] = {
    access_of(0xEC, width::byte, in, false),  access_of(0xED, width::word, in, false),
    access_of(0xED, width::dword, in, false), access_of(0xEE, width::byte, out, false),
    access_of(0xEF, width::word, out, false), access_of(0xEF, width::dword, out, false),
    access_of(0x6C, width::byte, in, true),   access_of(0x6D, width::word, in, true),
    access_of(0x6D, width::dword, in, true),  access_of(0x6E, width::byte, out, true),
    access_of(0x6F, width::word, out, true),  access_of(0x6F, width::dword, out, true),
};
constexpr unsigned access_count = sizeof accesses / sizeof accesses[0];
constexpr pt::gpa place_of(unsigned index) { return guest::code + 8 * index; }

void put_accesses(guest& machine) {
    for (unsigned i = 0; i < access_count; ++i) {
        machine.execute({accesses[i].bytes[0], accesses[i].bytes[1], 0x0F, 0x01, 0xC1}, // vmcall
                        place_of(i));
    }
}

struct tally {
    unsigned exits = 0;
    unsigned passes = 0;
    unsigned wrong_decisions = 0;
    unsigned wrong_instructions = 0; ///< an exit says something else than what was executed
    unsigned not_floating = 0;       ///< a port that was let through is not one of nobody's
};

void try_access(guest& machine, unsigned index, std::uint16_t port, tally& all) {
    const access& form = accesses[index];
    machine.general.rdx = port;
    machine.general.rax = 0;
    machine.general.rsi = machine.general.rdi = guest::data.raw;
    machine.go_to(place_of(index));
    const bool entered = machine.enter();
    const exit_reason reason = machine.reason();
    const bool exits = entered && reason == exit_reason::io_instruction;
    const bool passes = entered && reason == exit_reason::vmcall;
    if (exits) {
        ++all.exits;
        io_instruction expected = form.what;
        expected.port = io_port{port};
        const auto said = instruction_of_exit();
        if (!said || !(*said == expected)) {
            ++all.wrong_instructions;
        }
    } else if (passes) {
        ++all.passes;
        const std::uint64_t ones = pt::all_ones(form.what.size);
        if (form.what.direction == in && !form.what.string && machine.general.rax != ones) {
            ++all.not_floating;
        }
    }
    if (!(exits || passes) || exits != machine.ports().exits(io_port{port}, form.what.size)) {
        if (++all.wrong_decisions == 1) {
            kernel::say("port ", std::uint64_t{port}, ", form ", std::uint64_t{index}, ": reason ",
                        static_cast<std::uint64_t>(reason));
        }
    }
}

/// Each form at each port of the range.
tally try_all(guest& machine, std::uint32_t first, std::uint32_t last, std::uint32_t step = 1) {
    tally all;
    for (std::uint32_t port = first; port <= last; port += step) {
        for (unsigned i = 0; i < access_count; ++i) {
            try_access(machine, i, static_cast<std::uint16_t>(port), all);
        }
    }
    return all;
}

void check_tally(const tally& all) {
    check_equal("every decision is the processor's", all.wrong_decisions, 0);
    check_equal("every exit says what was executed", all.wrong_instructions, 0);
    check_equal("what passes reaches nobody", all.not_floating, 0);
}

std::uint32_t random_state = 0x1234'5678;
std::uint32_t random() {
    random_state = random_state * 1'664'525 + 1'013'904'223;
    return random_state >> 16;
}

/// Ports that Bochs' machine does not have, around a place where it matters.
struct window {
    std::uint16_t first;
    std::uint32_t size;
    std::uint16_t middle;

    [[nodiscard]] constexpr pt::range<io_port> ports() const { return {io_port{first}, size}; }
};

constexpr pt::range<io_port> one(std::uint16_t port) { return {io_port{port}, 1}; }

tally try_window(guest& machine, const window& in) {
    return try_all(machine, in.first, in.first + in.size - 1);
}

// Of each size there are four accesses: IN, OUT, INS, OUTS. Wider than a byte, they touch ports
// before the last of them.
constexpr unsigned kinds = 4;

void all_closed(guest& machine) {
    kernel::begin_part("all closed");
    const tally all = try_all(machine, 0, 0xFFFF, 97);
    check_tally(all);
    check("nothing passes", all.passes == 0 && all.exits > 8000);
}

void all_open(guest& machine, const window& in) {
    check("they open", machine.ports().open(in.ports()));
    const tally all = try_window(machine, in);
    check_tally(all);
    check_equal("what runs out of the window exits", all.exits, kinds * (1 + 3));
}

void one_closed(guest& machine, const window& in) {
    check("they open", machine.ports().open(in.ports()));
    check("one closes", machine.ports().close(one(in.middle)).closed);
    const tally all = try_window(machine, in);
    check_tally(all);
    check_equal("what touches it exits", all.exits, kinds * (1 + 3) + kinds * (1 + 2 + 4));
}

void one_open(guest& machine, const window& in) {
    machine.ports().close(in.ports());
    check("one opens", machine.ports().open(one(in.middle)));
    const tally all = try_window(machine, in);
    check_tally(all);
    check_equal("a byte passes there and nothing else", all.passes, kinds);
}

void some_open(guest& machine, const window& in) {
    machine.ports().close(in.ports());
    bool opened = true;
    for (std::uint32_t i = 0; i < in.size; ++i) {
        if (random() % 4 != 0) {
            const auto port = static_cast<std::uint16_t>(in.first + i);
            opened = opened && machine.ports().open(one(port));
        }
    }
    check("some open", opened);
    const tally all = try_window(machine, in);
    check_tally(all);
    check("some pass", all.exits > 100 && all.passes > 100);
}

void in_each_pattern(guest& machine, const char* const (&names)[4], const window& in) {
    void (*const patterns[])(guest&, const window&) = {all_open, one_closed, one_open, some_open};
    for (unsigned i = 0; i < 4; ++i) {
        kernel::begin_part(names[i]);
        patterns[i](machine, in);
    }
    machine.ports().close(in.ports());
}

void config_ports(guest& machine) {
    kernel::begin_part("the ports of configuration space");
    check("what lies before them opens", machine.ports().open({io_port{0xCD8}, 0x20}));
    check("what lies behind them opens", machine.ports().open({io_port{0xD00}, 0x20}));
    check_error("they do not", machine.ports().open({io_port{0xCF0}, 0x20}), pt::errc::refused);
    const tally all = try_all(machine, 0xCE0, 0xD17);
    check_tally(all);
    // 8 bytes; words and dwords begin up to 1 and 3 ports before.
    check_equal("what touches them exits", all.exits, kinds * (8 + 9 + 11));
}

void decisions() {
    guest machine;
    machine.start(guest_mode::long_64);
    put_accesses(machine);
    all_closed(machine);
    in_each_pattern(machine,
                    {"all open between the pages A and B", "the first port of B closed",
                     "the first port of B open", "some open between the pages A and B"},
                    {0x7FC0, 0x80, 0x8000});
    in_each_pattern(machine,
                    {"all open in B", "the last port of a qword closed",
                     "the last port of a qword open", "some open in B"},
                    {0x9000, 0xC0, 0x907F});
    // The last dwords run past the end, whatever is open.
    in_each_pattern(machine,
                    {"all open at the end", "a port near the end closed",
                     "a port near the end open", "some open at the end"},
                    {0xFF80, 0x80, 0xFFF0});
    config_ports(machine);
    kernel::begin_part(nullptr);
}

// ----------------------------------------------------------------------- what the exit says

/// An instruction with what its exit must say.
struct form {
    const char* name;
    std::uint8_t bytes[4];
    std::uint8_t length;
    io_instruction what;
    pt::vmx::io_operand operand = pt::vmx::io_operand::dx;
};

constexpr std::uint16_t port_in_dx = 0xABCD;
constexpr std::uint16_t port_in_instruction = 0x92;

/// Puts what all forms have in common into one.
constexpr form complete(form made) {
    made.what.port =
        io_port{made.operand == pt::vmx::io_operand::dx ? port_in_dx : port_in_instruction};
    made.what.length = made.length;
    if (made.what.string && made.what.direction == in) {
        made.what.segment = segment_register::es;
    }
    return made;
}

using enum pt::vcpu::address_size;
using enum segment_register;
constexpr auto immediate = pt::vmx::io_operand::immediate;

constexpr form forms_64[] = {
    {"in $0x92, %al", {0xE4, 0x92}, 2, {.size = width::byte, .direction = in}, immediate},
    {"in $0x92, %ax", {0x66, 0xE5, 0x92}, 3, {.size = width::word, .direction = in}, immediate},
    {"in $0x92, %eax", {0xE5, 0x92}, 2, {.size = width::dword, .direction = in}, immediate},
    {"out %al, $0x92", {0xE6, 0x92}, 2, {.size = width::byte}, immediate},
    {"out %eax, $0x92", {0xE7, 0x92}, 2, {.size = width::dword}, immediate},
    {"rex.w in %dx, %eax", {0x48, 0xED}, 2, {.size = width::dword, .direction = in}},
    {"rep insb",
     {0xF3, 0x6C},
     2,
     {.size = width::byte, .direction = in, .string = true, .rep = true}},
    {"rep outsl", {0xF3, 0x6F}, 2, {.size = width::dword, .string = true, .rep = true}},
    {"addr32 insw",
     {0x67, 0x66, 0x6D},
     3,
     {.size = width::word, .direction = in, .string = true, .addresses = bits_32}},
    {"addr32 rep outsb",
     {0x67, 0xF3, 0x6E},
     3,
     {.size = width::byte, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb %fs:", {0x64, 0x6E}, 2, {.size = width::byte, .string = true, .segment = fs}},
    {"outsw %gs:", {0x65, 0x66, 0x6F}, 3, {.size = width::word, .string = true, .segment = gs}},
};

constexpr form forms_32[] = {
    {"in $0x92, %ax", {0x66, 0xE5, 0x92}, 3, {.size = width::word, .direction = in}, immediate},
    {"out %eax, $0x92", {0xE7, 0x92}, 2, {.size = width::dword}, immediate},
    {"insl",
     {0x6D},
     1,
     {.size = width::dword, .direction = in, .string = true, .addresses = bits_32}},
    {"addr16 insb",
     {0x67, 0x6C},
     2,
     {.size = width::byte, .direction = in, .string = true, .addresses = bits_16}},
    {"rep outsw",
     {0xF3, 0x66, 0x6F},
     3,
     {.size = width::word, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb %es:",
     {0x26, 0x6E},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = es}},
    {"outsb %cs:",
     {0x2E, 0x6E},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = cs}},
    {"addr16 rep outsl %ss:",
     {0x67, 0xF3, 0x36, 0x6F},
     4,
     {.size = width::dword, .string = true, .rep = true, .addresses = bits_16, .segment = ss}},
    {"outsb %gs:",
     {0x65, 0x6E},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = gs}},
};

constexpr form forms_16[] = {
    {"in $0x92, %al", {0xE4, 0x92}, 2, {.size = width::byte, .direction = in}, immediate},
    {"in %dx, %ax", {0xED}, 1, {.size = width::word, .direction = in}},
    {"out %eax, %dx", {0x66, 0xEF}, 2, {.size = width::dword}},
    {"insw",
     {0x6D},
     1,
     {.size = width::word, .direction = in, .string = true, .addresses = bits_16}},
    {"addr32 rep insl",
     {0x67, 0xF3, 0x66, 0x6D},
     4,
     {.size = width::dword, .direction = in, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb", {0x6E}, 1, {.size = width::byte, .string = true, .addresses = bits_16}},
    {"rep outsw %es:",
     {0xF3, 0x26, 0x6F},
     3,
     {.size = width::word, .string = true, .rep = true, .addresses = bits_16, .segment = es}},
};

template <std::size_t N>
void check_forms(guest& machine, guest_mode mode, const form (&forms)[N]) {
    kernel::begin_part(name(mode));
    machine.start(mode);
    for (const form& raw : forms) {
        const form expected = complete(raw);
        machine.general.rdx = port_in_dx;
        machine.general.rcx = 3;
        machine.general.rsi = machine.general.rdi = guest::data.raw;
        const auto& bytes = expected.bytes;
        machine.execute({bytes[0], bytes[1], bytes[2], bytes[3]});
        const bool exits = machine.exits_with(exit_reason::io_instruction);
        const qualification said{machine.qualification()};
        const auto instruction = instruction_of_exit();
        if (!check(expected.name, exits && instruction && *instruction == expected.what &&
                                      said[qualification::operand] == expected.operand)) {
            kernel::say("qualification ", said.raw, ", information ",
                        vmread(vmcs_field::exit_instruction_information), ", length ",
                        vmread(vmcs_field::exit_instruction_length));
        }
    }
}

void words() {
    guest machine;
    check_forms(machine, guest_mode::long_64, forms_64);
    check_forms(machine, guest_mode::protected_32, forms_32);
    check_forms(machine, guest_mode::real, forms_16);
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"io_bitmap", decisions};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"io_instruction", words};

} // namespace
