// SPDX-License-Identifier: BSL-1.0
//
// Which IN, OUT, INS and OUTS exit, as pt's map says it and as the processor decides it; what an
// exit says of the instruction; and that a guest cannot tell what pt completes from what the
// processor does.
#include "../svm.hpp"

#include "pt/core/width.hpp"
#include "pt/svm/io_exit.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/guest_ports.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/string_io.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::check_error;
using kernel::guest;
using kernel::guest_mode;
using pt::io_port;
using pt::width;
using pt::svm::exit_code;
using pt::vcpu::address_size;
using pt::vcpu::io_direction;
using pt::vcpu::io_instruction;
using pt::vcpu::segment_register;
using enum io_direction;
using enum address_size;
using enum segment_register;

constexpr std::uint8_t hlt = 0xF4;

// -------------------------------------------------------------------------- what the exit says

/// The segment whose override prefix stands before the instruction, or DS.
segment_register segment_of(const std::uint8_t* bytes, std::uint8_t prefixes) {
    segment_register found = ds;
    for (std::uint8_t i = 0; i != prefixes; ++i) {
        switch (bytes[i]) {
        case 0x26: found = es; break;
        case 0x2E: found = cs; break;
        case 0x36: found = ss; break;
        case 0x3E: found = ds; break;
        case 0x64: found = fs; break;
        case 0x65: found = gs; break;
        default: break;
        }
    }
    return found;
}

/// What QEMU does not report of INS and OUTS, from the instruction's bytes.
pt::svm::string_operand operand_of(const guest& machine) {
    const auto* const bytes = machine.at<std::uint8_t>(pt::gpa{machine.rip()});
    const auto prefixes =
        pt::vcpu::prefixes_of(bytes, pt::vcpu::longest_instruction, code_size_of(machine.mode()));
    address_size addresses = bits_64;
    switch (machine.mode()) {
    case guest_mode::real: addresses = prefixes.address_size ? bits_32 : bits_16; break;
    case guest_mode::protected_32: addresses = prefixes.address_size ? bits_16 : bits_32; break;
    case guest_mode::long_64: addresses = prefixes.address_size ? bits_32 : bits_64; break;
    }
    return {addresses, segment_of(bytes, prefixes.count)};
}

/// By pt's words.
pt::result<io_instruction> instruction_of_exit(const guest& machine) {
    return pt::svm::io_instruction_of(pt::svm::ioio_exit_information{machine.words().exit_info_1},
                                      machine.words().exit_info_2 - machine.rip(),
                                      operand_of(machine));
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
             .segment = string && direction == in ? es : ds,
             .length = static_cast<std::uint8_t>(size == width::word ? 2 : 1)}};
}

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
    const bool exits = entered && machine.reason() == exit_code::ioio;
    const bool passes = entered && machine.reason() == exit_code::vmmcall;
    if (exits) {
        ++all.exits;
        io_instruction expected = form.what;
        expected.port = io_port{port};
        const auto said = instruction_of_exit(machine);
        if (!said || !(*said == expected) || machine.instruction_length() != expected.length) {
            ++all.wrong_instructions;
        }
    } else if (passes) {
        ++all.passes;
        // QEMU 7.2 reads 0 where nobody answers an access that is not aligned.
        const bool aligned = port % size_of(form.what.size) == 0;
        const std::uint64_t ones = aligned ? pt::all_ones(form.what.size) : 0;
        if (form.what.direction == in && !form.what.string && machine.general.rax != ones) {
            ++all.not_floating;
        }
    }
    if (!(exits || passes) || exits != machine.ports().exits(io_port{port}, form.what.size)) {
        if (++all.wrong_decisions == 1) {
            kernel::say("port ", std::uint64_t{port}, ", form ", std::uint64_t{index});
            machine.say_exit();
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

void check_decisions(const tally& all) {
    check_equal("every decision is the processor's", all.wrong_decisions, 0);
    check_equal("every exit says what was executed", all.wrong_instructions, 0);
}
void check_tally(const tally& all) {
    check_decisions(all);
    check_equal("what passes reaches nobody", all.not_floating, 0);
}

std::uint32_t random_state = 0x1234'5678;
std::uint32_t random() {
    random_state = random_state * 1'664'525 + 1'013'904'223;
    return random_state >> 16;
}

/// Ports that QEMU's machine does not have, around a place where it matters.
struct window {
    std::uint16_t first;
    std::uint32_t size;
    std::uint16_t middle;

    [[nodiscard]] constexpr pt::range<io_port> ports() const { return {io_port{first}, size}; }
};

constexpr pt::range<io_port> one(std::uint16_t port) { return {io_port{port}, 1}; }

tally try_window(guest& machine, const window& inside) {
    return try_all(machine, inside.first, inside.first + inside.size - 1);
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

void all_open(guest& machine, const window& inside) {
    check("they open", machine.ports().open(inside.ports()));
    const tally all = try_window(machine, inside);
    check_tally(all);
    check_equal("what runs out of the window exits", all.exits, kinds * (1 + 3));
}

void one_closed(guest& machine, const window& inside) {
    check("they open", machine.ports().open(inside.ports()));
    check("one closes", machine.ports().close(one(inside.middle)).closed);
    const tally all = try_window(machine, inside);
    check_tally(all);
    check_equal("what touches it exits", all.exits, kinds * (1 + 3) + kinds * (1 + 2 + 4));
}

void one_open(guest& machine, const window& inside) {
    machine.ports().close(inside.ports());
    check("one opens", machine.ports().open(one(inside.middle)));
    const tally all = try_window(machine, inside);
    check_tally(all);
    check_equal("a byte passes there and nothing else", all.passes, kinds);
}

void some_open(guest& machine, const window& inside) {
    machine.ports().close(inside.ports());
    bool opened = true;
    for (std::uint32_t i = 0; i < inside.size; ++i) {
        if (random() % 4 != 0) {
            const auto port = static_cast<std::uint16_t>(inside.first + i);
            opened = opened && machine.ports().open(one(port));
        }
    }
    check("some open", opened);
    const tally all = try_window(machine, inside);
    check_tally(all);
    check("some pass", all.exits > 100 && all.passes > 100);
}

void in_each_pattern(guest& machine, const char* const (&names)[4], const window& inside) {
    void (*const patterns[])(guest&, const window&) = {all_open, one_closed, one_open, some_open};
    for (unsigned i = 0; i < 4; ++i) {
        kernel::begin_part(names[i]);
        patterns[i](machine, inside);
    }
    machine.ports().close(inside.ports());
}

void config_ports(guest& machine) {
    kernel::begin_part("the ports of configuration space");
    check("what lies before them opens", machine.ports().open({io_port{0xCE8}, 0x10}));
    check("what lies behind them opens", machine.ports().open({io_port{0xD00}, 0x20}));
    check_error("they do not", machine.ports().open({io_port{0xCF0}, 0x20}), pt::errc::refused);
    const tally all = try_all(machine, 0xCE8, 0xD17);
    check_decisions(
        all); // those before are somebody's: the hot-plugging of processors, which reads 0
    // 8 bytes; words and dwords begin up to 1 and 3 ports before.
    check_equal("what touches them exits", all.exits, kinds * (8 + 9 + 11));
}

void decisions() {
    guest machine;
    machine.start(guest_mode::long_64);
    for (unsigned i = 0; i < access_count; ++i) {
        machine.put({accesses[i].bytes[0], accesses[i].bytes[1], 0x0F, 0x01, 0xD9}, // vmmcall
                    place_of(i));
    }
    all_closed(machine);
    in_each_pattern(machine,
                    {"all open across the pages", "the first port of the second page closed",
                     "the first port of the second page open", "some open across the pages"},
                    {0x7FC0, 0x80, 0x8000});
    in_each_pattern(machine,
                    {"all open in the second page", "the last port of a qword closed",
                     "the last port of a qword open", "some open in the second page"},
                    {0x9000, 0xC0, 0x907F});
    // The last dwords run past the end, whatever is open.
    in_each_pattern(machine,
                    {"all open at the end", "a port near the end closed",
                     "a port near the end open", "some open at the end"},
                    {0xFF80, 0x80, 0xFFF0});
    config_ports(machine);
    kernel::begin_part(nullptr);
}

// ------------------------------------------------------------------------------------- the forms

/// An instruction with what its exit must say.
struct form {
    const char* name;
    std::uint8_t bytes[4]; ///< what is not used is HLT
    std::uint8_t length;
    io_instruction what; ///< but for port, length, and the segment of INS
    bool immediate = false;
};

constexpr std::uint16_t port_in_dx = 0x9ABC;
constexpr std::uint16_t port_in_instruction = 0x9C; // QEMU's machine has neither

constexpr form complete(form made) {
    made.what.port = io_port{made.immediate ? port_in_instruction : port_in_dx};
    made.what.length = made.length;
    if (made.what.string && made.what.direction == in) {
        made.what.segment = es;
    }
    return made;
}

constexpr bool immediate = true;

constexpr form forms_64[] = {
    {"in $0x9c, %al", {0xE4, 0x9C, hlt, hlt}, 2, {.size = width::byte, .direction = in}, immediate},
    {"in $0x9c, %ax",
     {0x66, 0xE5, 0x9C, hlt},
     3,
     {.size = width::word, .direction = in},
     immediate},
    {"in $0x9c, %eax",
     {0xE5, 0x9C, hlt, hlt},
     2,
     {.size = width::dword, .direction = in},
     immediate},
    {"out %al, $0x9c", {0xE6, 0x9C, hlt, hlt}, 2, {.size = width::byte}, immediate},
    {"out %eax, $0x9c", {0xE7, 0x9C, hlt, hlt}, 2, {.size = width::dword}, immediate},
    {"rex.w in %dx, %eax", {0x48, 0xED, hlt, hlt}, 2, {.size = width::dword, .direction = in}},
    {"rep in %dx, %al", {0xF3, 0xEC, hlt, hlt}, 2, {.size = width::byte, .direction = in}},
    {"out %ax, %dx", {0x66, 0xEF, hlt, hlt}, 2, {.size = width::word}},
    {"insb", {0x6C, hlt, hlt, hlt}, 1, {.size = width::byte, .direction = in, .string = true}},
    {"rep insb",
     {0xF3, 0x6C, hlt, hlt},
     2,
     {.size = width::byte, .direction = in, .string = true, .rep = true}},
    {"rep outsl", {0xF3, 0x6F, hlt, hlt}, 2, {.size = width::dword, .string = true, .rep = true}},
    {"addr32 insw",
     {0x67, 0x66, 0x6D, hlt},
     3,
     {.size = width::word, .direction = in, .string = true, .addresses = bits_32}},
    {"addr32 rep insl",
     {0x67, 0xF3, 0x6D, hlt},
     3,
     {.size = width::dword, .direction = in, .string = true, .rep = true, .addresses = bits_32}},
    {"addr32 rep outsb",
     {0x67, 0xF3, 0x6E, hlt},
     3,
     {.size = width::byte, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb %fs:", {0x64, 0x6E, hlt, hlt}, 2, {.size = width::byte, .string = true, .segment = fs}},
    {"outsw %gs:",
     {0x65, 0x66, 0x6F, hlt},
     3,
     {.size = width::word, .string = true, .segment = gs}},
};

constexpr form forms_32[] = {
    {"in $0x9c, %ax",
     {0x66, 0xE5, 0x9C, hlt},
     3,
     {.size = width::word, .direction = in},
     immediate},
    {"out %eax, $0x9c", {0xE7, 0x9C, hlt, hlt}, 2, {.size = width::dword}, immediate},
    {"insl",
     {0x6D, hlt, hlt, hlt},
     1,
     {.size = width::dword, .direction = in, .string = true, .addresses = bits_32}},
    {"addr16 insb",
     {0x67, 0x6C, hlt, hlt},
     2,
     {.size = width::byte, .direction = in, .string = true, .addresses = bits_16}},
    {"addr16 rep insw",
     {0x67, 0xF3, 0x66, 0x6D},
     4,
     {.size = width::word, .direction = in, .string = true, .rep = true, .addresses = bits_16}},
    {"rep outsw",
     {0xF3, 0x66, 0x6F, hlt},
     3,
     {.size = width::word, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb %es:",
     {0x26, 0x6E, hlt, hlt},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = es}},
    {"outsb %cs:",
     {0x2E, 0x6E, hlt, hlt},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = cs}},
    {"addr16 rep outsl %ss:",
     {0x67, 0xF3, 0x36, 0x6F},
     4,
     {.size = width::dword, .string = true, .rep = true, .addresses = bits_16, .segment = ss}},
    {"outsb %gs:",
     {0x65, 0x6E, hlt, hlt},
     2,
     {.size = width::byte, .string = true, .addresses = bits_32, .segment = gs}},
};

constexpr form forms_16[] = {
    {"in $0x9c, %al", {0xE4, 0x9C, hlt, hlt}, 2, {.size = width::byte, .direction = in}, immediate},
    {"in %dx, %ax", {0xED, hlt, hlt, hlt}, 1, {.size = width::word, .direction = in}},
    {"in %dx, %eax", {0x66, 0xED, hlt, hlt}, 2, {.size = width::dword, .direction = in}},
    {"out %eax, %dx", {0x66, 0xEF, hlt, hlt}, 2, {.size = width::dword}},
    {"insw",
     {0x6D, hlt, hlt, hlt},
     1,
     {.size = width::word, .direction = in, .string = true, .addresses = bits_16}},
    {"addr32 rep insl",
     {0x67, 0xF3, 0x66, 0x6D},
     4,
     {.size = width::dword, .direction = in, .string = true, .rep = true, .addresses = bits_32}},
    {"outsb",
     {0x6E, hlt, hlt, hlt},
     1,
     {.size = width::byte, .string = true, .addresses = bits_16}},
    {"rep outsw %es:",
     {0xF3, 0x26, 0x6F, hlt},
     3,
     {.size = width::word, .string = true, .rep = true, .addresses = bits_16, .segment = es}},
};

/// Calls `each` with each form of each mode, its instruction in place and HLT behind it.
template <class Each>
void for_each_form(guest& machine, Each each) {
    const auto in_mode = [&](guest_mode mode, const auto& forms) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        for (const form& raw : forms) {
            const form complete_form = complete(raw);
            const auto& bytes = complete_form.bytes;
            machine.put({bytes[0], bytes[1], bytes[2], bytes[3], hlt}, guest::code);
            each(complete_form);
        }
    };
    in_mode(guest_mode::long_64, forms_64);
    in_mode(guest_mode::protected_32, forms_32);
    in_mode(guest_mode::real, forms_16);
    kernel::begin_part(nullptr);
}

/// The registers before each of them: with bits set where an instruction leaves bits alone.
void set_registers(guest& machine, const form& of) {
    machine.general = {};
    machine.general.rax = 0x1122'3344'5566'7788;
    machine.general.rdx = port_in_dx;
    const std::uint64_t above = of.what.addresses == bits_16 ? 0xABCD'0000 : 0;
    machine.general.rcx = above + 3;
    machine.general.rsi = above + guest::data.raw + 0x100;
    machine.general.rdi = above + guest::data.raw + 0x200;
    machine.go_to(guest::code);
}

void words() {
    guest machine;
    for_each_form(machine, [&](const form& expected) {
        set_registers(machine, expected);
        const bool exits = machine.exits_with(exit_code::ioio);
        const auto instruction = instruction_of_exit(machine);
        if (!check(expected.name, exits && instruction && *instruction == expected.what &&
                                      machine.instruction_length() == expected.length)) {
            machine.say_exit();
        }
    });
}

// --------------------------------------------------------------------------------- the completion

/// guest_memory: one to one, each segment from 0 on.
struct flat_memory {
    guest* machine;

    pt::vcpu::guest_place locate(pt::vcpu::logical_address place, std::uint32_t size,
                                 pt::vcpu::memory_access) {
        return {.address = pt::gpa{place.offset}, .size = size};
    }
    void read(pt::gpa place, std::uint8_t* to, std::size_t count) {
        __builtin_memcpy(to, machine->at<void>(place), count);
    }
    void write(pt::gpa place, const std::uint8_t* from, std::size_t count) {
        __builtin_memcpy(machine->at<void>(place), from, count);
    }
};

/// guest_ports: a device that answers with a pattern, and remembers what it is sent.
struct model_port {
    std::uint32_t answer = ~0U; ///< of which an access reads as much as it is wide
    std::uint32_t step = 0;     ///< added after each
    std::uint32_t sent[8] = {};
    unsigned count = 0;

    pt::result<std::uint32_t> read(io_port, width size) {
        const std::uint32_t value = answer & pt::all_ones(size);
        answer += step;
        return value;
    }
    pt::result<void> write(io_port, width, std::uint32_t value) {
        sent[count++ % 8] = value;
        return {};
    }
};
static_assert(pt::vcpu::guest_memory<flat_memory> && pt::vcpu::guest_ports<model_port>);

/// What an exit loop does at an IOIO exit.
bool complete_exit(guest& machine, model_port& device, std::uint32_t elements_at_once) {
    const auto what = instruction_of_exit(machine);
    if (!what) {
        return false;
    }
    if (!what->string) {
        if (what->direction == in) {
            const auto value = device.read(what->port, what->size);
            machine.general.rax =
                pt::vcpu::accumulator_after_in(machine.general.rax, what->size, *value);
        } else if (!device.write(what->port, what->size,
                                 pt::vcpu::out_value(machine.general.rax, what->size))) {
            return false;
        }
        machine.skip_instruction();
        return true;
    }
    flat_memory memory{&machine};
    pt::vcpu::string_registers registers{machine.general.rcx, machine.general.rsi,
                                         machine.general.rdi, machine.words().rflags};
    const auto progress = pt::vcpu::string_io(*what, registers, memory, device, elements_at_once);
    machine.general.rcx = registers.rcx;
    machine.general.rsi = registers.rsi;
    machine.general.rdi = registers.rdi;
    if (progress.state == pt::vcpu::string_io_state::finished) {
        machine.skip_instruction();
    }
    return progress.state == pt::vcpu::string_io_state::finished ||
           progress.state == pt::vcpu::string_io_state::unfinished;
}

/// Goes on until the guest halts, and completes what exits. False: another exit.
bool runs_to_halt(guest& machine, model_port& device, std::uint32_t elements_at_once = 1000) {
    while (machine.enter()) {
        if (machine.reason() == exit_code::hlt) {
            return true;
        }
        if (machine.reason() != exit_code::ioio ||
            !complete_exit(machine, device, elements_at_once)) {
            break;
        }
    }
    machine.say_exit();
    return false;
}

/// What an instruction leaves behind.
struct outcome {
    kernel::registers general;
    std::uint64_t rip;
    std::uint8_t memory[0x400];
};

void reset_data(guest& machine) {
    for (unsigned i = 0; i < sizeof(outcome::memory); ++i) {
        machine.at<std::uint8_t>(guest::data)[i] = static_cast<std::uint8_t>(i * 7 + 1);
    }
}
void keep(const guest& machine, outcome& left) {
    left.general = machine.general;
    left.rip = machine.rip();
    __builtin_memcpy(left.memory, machine.at<void>(guest::data), sizeof left.memory);
}
bool is_same(const outcome& a, const outcome& b) {
    return __builtin_memcmp(&a.general, &b.general, sizeof a.general) == 0 && a.rip == b.rip &&
           __builtin_memcmp(a.memory, b.memory, sizeof a.memory) == 0;
}

/// Each form once by the processor, with the port open, where nobody answers; and with the port
/// closed by pt, once at one go, and once element by element with the guest entered between two.
void beside_the_processor() {
    constexpr std::uint64_t direction_flag = 1U << 10;
    guest machine;
    static outcome by_processor;
    static outcome by_pt;
    for_each_form(machine, [&](const form& each) {
        const pt::range<io_port> port{each.what.port, 4};
        bool same = true;
        for (const bool down : {false, true}) {
            const auto prepare = [&] {
                set_registers(machine, each);
                machine.words().rflags &= ~direction_flag;
                machine.words().rflags |= down ? direction_flag : 0;
                reset_data(machine);
            };
            model_port nobody;
            prepare();
            same = machine.ports().open(port) && machine.exits_with(exit_code::hlt) && same;
            keep(machine, by_processor);
            machine.ports().close(port);
            for (const std::uint32_t at_once : {1000U, 1U}) {
                prepare();
                same = runs_to_halt(machine, nobody, at_once) && same;
                keep(machine, by_pt);
                same = is_same(by_processor, by_pt) && same;
            }
        }
        machine.words().rflags &= ~direction_flag;
        check(each.name, same);
    });
}

/// And with a device that says something.
void with_a_device() {
    guest machine;
    model_port device{.answer = 0x8765'4321};
    machine.start(guest_mode::long_64);
    const auto run = [&](std::initializer_list<std::uint8_t> instructions) {
        machine.general = {};
        machine.general.rax = 0xFFFF'FFFF'FFFF'FFFF;
        machine.general.rdx = port_in_dx;
        machine.general.rsi = machine.general.rdi = guest::data.raw;
        machine.execute(instructions);
        return runs_to_halt(machine, device);
    };
    kernel::begin_part("IN");
    check("to AL", run({0xEC, hlt}) && machine.general.rax == 0xFFFF'FFFF'FFFF'FF21);
    check("to AX", run({0x66, 0xED, hlt}) && machine.general.rax == 0xFFFF'FFFF'FFFF'4321);
    check("to EAX", run({0xED, hlt}) && machine.general.rax == 0x8765'4321);
    kernel::begin_part("OUT");
    const auto sends = [&](std::initializer_list<std::uint8_t> instructions, std::uint32_t value) {
        device.count = 0;
        return run(instructions) && device.count == 1 && device.sent[0] == value;
    };
    check("of AL", sends({0xEE, hlt}, 0xFF));
    check("of AX", sends({0x66, 0xEF, hlt}, 0xFFFF));
    check("of EAX", sends({0xEF, hlt}, 0xFFFF'FFFF));

    kernel::begin_part("INS");
    device = {.answer = 0x0201, .step = 0x0202};
    // mov $3, %cl; movzx %cl, %ecx; rep insw; hlt
    check("runs", run({0xB1, 0x03, 0x0F, 0xB6, 0xC9, 0x66, 0xF3, 0x6D, hlt}));
    const std::uint8_t stored[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06};
    check("stores what the device says",
          __builtin_memcmp(machine.at<void>(guest::data), stored, sizeof stored) == 0);
    check("and counts", machine.general.rcx == 0 && machine.general.rdi == guest::data.raw + 6);

    kernel::begin_part("OUTS");
    device = {};
    // mov $3, %cl; movzx %cl, %ecx; add $4, %esi; std; rep outsb; cld; hlt
    check("runs",
          run({0xB1, 0x03, 0x0F, 0xB6, 0xC9, 0x83, 0xC6, 0x04, 0xFD, 0xF3, 0x6E, 0xFC, hlt}));
    check("sends downwards what is in memory", device.count == 3 && device.sent[0] == 0x05 &&
                                                   device.sent[1] == 0x04 &&
                                                   device.sent[2] == 0x03);
    check("and counts", machine.general.rcx == 0 && machine.general.rsi == guest::data.raw + 1);
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_io_map", decisions};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_io_exit", words};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"svm_io_completion",
                                                                         beside_the_processor};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject fourth{"svm_io_device",
                                                                          with_a_device};

} // namespace
