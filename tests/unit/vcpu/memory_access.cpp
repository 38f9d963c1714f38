// SPDX-License-Identifier: BSL-1.0
//
// The judge is this machine's processor: random instructions are written into an executable page and
// run there with random registers, flags and memory. Then pt decodes and executes the same bytes, and
// registers, memory, and the flags that [sdm] defines must be the same.
#include "pt/vcpu/memory_access.hpp"

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/memory_instruction.hpp"
#include "pt/vcpu/rflags_register.hpp"

#include <catch2/catch_test_macros.hpp>

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

using namespace pt::vcpu;
using pt::errc;
using pt::mmio_width;
using pt::result;

// --- The judge ----------------------------------------------------------------------------------

constexpr std::size_t operands_size = 256;

/// What one instruction finds and leaves.
struct machine {
    general_registers registers;
    std::uint64_t rflags = 0;
    std::uint8_t operands[operands_size]{};
};

/// A page of code and a page of data behind it, below 2 GiB so that addresses of 32 bits reach them.
class processor_under_load {
public:
    processor_under_load() {
        void* const at = mmap(nullptr, 0x2000, PROT_READ | PROT_WRITE | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        if (at != MAP_FAILED) {
            base_ = static_cast<std::uint8_t*>(at);
        }
    }
    ~processor_under_load() {
        if (base_ != nullptr) {
            munmap(base_, 0x2000);
        }
    }
    processor_under_load(const processor_under_load&) = delete;
    processor_under_load& operator=(const processor_under_load&) = delete;

    bool works() const { return base_ != nullptr; }
    std::uint64_t operands() const {
        return reinterpret_cast<std::uint64_t>(base_) + 0x1000 + operands_at;
    }
    /// Where the instruction under test begins: behind a fixed number of bytes.
    std::uint64_t rip() const { return reinterpret_cast<std::uint64_t>(base_) + before_size; }

    void run(const std::vector<std::uint8_t>& instruction, machine& m) {
        std::vector<std::uint8_t> code;
        const auto emit = [&code](std::initializer_list<unsigned> bytes) {
            for (const unsigned byte : bytes) {
                code.push_back(static_cast<std::uint8_t>(byte));
            }
        };
        // ModR/M with mod 0, rm 5: relative to RIP, into the page of data.
        const auto relative = [&](unsigned reg, std::size_t data) {
            code.push_back(static_cast<std::uint8_t>(reg << 3 | 5));
            const auto displacement = static_cast<std::uint32_t>(0x1000 + data - (code.size() + 4));
            for (unsigned i = 0; i != 4; ++i) {
                code.push_back(static_cast<std::uint8_t>(displacement >> 8 * i));
            }
        };
        const auto move = [&](unsigned opcode, unsigned reg, std::size_t data) {
            emit({reg < 8 ? 0x48U : 0x4CU, opcode});
            relative(reg & 7, data);
        };
        emit({0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57}); // what a caller keeps
        move(0x89, 4, host_rsp_at);
        emit({0xFF});
        relative(6, flags_at); // PUSH
        emit({0x9D});          // POPF
        for (unsigned reg = 0; reg != 16; ++reg) {
            move(0x8B, reg, registers_at + 8 * reg);
        }
        REQUIRE(code.size() == before_size);
        code.insert(code.end(), instruction.begin(), instruction.end());
        for (unsigned reg = 0; reg != 16; ++reg) {
            move(0x89, reg, registers_at + 8 * reg);
        }
        move(0x8B, 4, host_rsp_at);
        emit({0x9C, 0x8F}); // PUSHF, POP
        relative(0, flags_at);
        emit({0xFC}); // CLD
        emit({0x41, 0x5F, 0x41, 0x5E, 0x41, 0x5D, 0x41, 0x5C, 0x5D, 0x5B, 0xC3});

        std::uint8_t* const data = base_ + 0x1000;
        std::memcpy(base_, code.data(), code.size());
        std::memcpy(data + registers_at, m.registers.raw, sizeof m.registers.raw);
        std::memcpy(data + flags_at, &m.rflags, 8);
        std::memcpy(data + operands_at, m.operands, operands_size);
        const auto entry = reinterpret_cast<void (*)()>(base_);
        asm volatile("call *%0" // whose red zone is not used here: it pushes onto the stack
                     :
                     : "r"(entry)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
        std::memcpy(m.registers.raw, data + registers_at, sizeof m.registers.raw);
        std::memcpy(&m.rflags, data + flags_at, 8);
        std::memcpy(m.operands, data + operands_at, operands_size);
    }

private:
    static constexpr std::size_t before_size = 10 + 7 + 6 + 1 + 16 * 7;
    static constexpr std::size_t host_rsp_at = 0;
    static constexpr std::size_t flags_at = 8;
    static constexpr std::size_t registers_at = 16;
    static constexpr std::size_t operands_at = 0x400;

    std::uint8_t* base_ = nullptr;
};

// --- The accused --------------------------------------------------------------------------------

/// The operands' memory as pt reaches it: at the addresses that it computes, and nowhere else.
struct operand_memory {
    machine* m;
    std::uint64_t base;
    logical_address from;
    logical_address to;

    std::uint8_t* at(logical_address place, mmio_width size) const {
        const std::uint64_t offset = place.offset - base;
        return offset <= operands_size - size_of(size) ? m->operands + offset : nullptr;
    }
    result<std::uint64_t> read(mmio_width size) {
        std::uint64_t value = 0;
        const std::uint8_t* const source = at(from, size);
        if (source == nullptr) {
            return pt::error{errc::not_mapped, from.offset};
        }
        std::memcpy(&value, source, size_of(size));
        return value;
    }
    result<void> write(mmio_width size, std::uint64_t value) {
        std::uint8_t* const destination = at(to, size);
        if (destination == nullptr || (value & ~all_ones(size)) != 0) {
            return pt::error{errc::not_mapped, to.offset};
        }
        std::memcpy(destination, &value, size_of(size));
        return {};
    }
};
static_assert(operand_device<operand_memory>);

result<void> run_by_pt(const std::vector<std::uint8_t>& bytes, machine& m, std::uint64_t rip,
                       std::uint64_t operands) {
    const auto decoded = memory_instruction_of(bytes.data(), bytes.size(), code_size::bits_64);
    if (!decoded) {
        return decoded.error();
    }
    if (decoded->length != bytes.size()) {
        return pt::error{errc::malformed, decoded->length};
    }
    const std::uint64_t next = rip + decoded->length;
    for (unsigned elements = 0; elements != 100; ++elements) {
        operand_memory memory{&m, operands, decoded->memory.address(m.registers, next),
                              decoded->destination().address(m.registers, next)};
        const auto done = execute(*decoded, m.registers, m.rflags, memory);
        if (!done) {
            return done.error();
        }
        if (*done == instruction_state::finished) {
            return {};
        }
    }
    return pt::error{errc::time_out, 0};
}

// --- The cases ----------------------------------------------------------------------------------

using random_bits = std::mt19937_64;

/// An instruction of the tables in [sdm], without its prefixes and its operand.
struct shape {
    const char* name;
    std::vector<unsigned> opcode;
    int number = -1;     ///< ModR/M 5:3 where it belongs to the opcode
    unsigned immediate;  ///< bytes; 4: 2 with an operand-size prefix
    bool lockable;       ///< when the operand in memory is the destination
    std::uint64_t flags; ///< that it leaves undefined
    bool bytes_only = false;
    bool needs_rex_w = false;
};

constexpr std::uint64_t af = rflags_register::auxiliary_carry.mask;
constexpr std::uint64_t but_cf_and_zf =
    rflags_register::overflow.mask | rflags_register::sign.mask | af | rflags_register::parity.mask;

std::vector<shape> shapes() {
    std::vector<shape> all;
    const char* const names[] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"};
    for (unsigned n = 0; n != 8; ++n) {
        const bool is_logical = n == 1 || n == 4 || n == 6;
        const std::uint64_t undefined = is_logical ? af : 0;
        const bool lockable = n != 7;
        for (unsigned form = 0; form != 4; ++form) {
            all.push_back({names[n], {8 * n + form}, -1, 0, lockable && form < 2, undefined});
        }
        const int number = static_cast<int>(n);
        all.push_back({names[n], {0x80}, number, 1, lockable, undefined});
        all.push_back({names[n], {0x81}, number, 4, lockable, undefined});
        all.push_back({names[n], {0x83}, number, 1, lockable, undefined});
    }
    all.insert(all.end(), {
                              {"test", {0x84}, -1, 0, false, af},
                              {"test", {0x85}, -1, 0, false, af},
                              {"test", {0xF6}, 0, 1, false, af},
                              {"test", {0xF7}, 0, 4, false, af},
                              {"test", {0xF6}, 1, 1, false, af},
                              {"test", {0xF7}, 1, 4, false, af},
                              {"xchg", {0x86}, -1, 0, true, 0},
                              {"xchg", {0x87}, -1, 0, true, 0},
                              {"mov", {0x88}, -1, 0, false, 0},
                              {"mov", {0x89}, -1, 0, false, 0},
                              {"mov", {0x8A}, -1, 0, false, 0},
                              {"mov", {0x8B}, -1, 0, false, 0},
                              {"mov", {0xC6}, 0, 1, false, 0},
                              {"mov", {0xC7}, 0, 4, false, 0},
                              {"not", {0xF6}, 2, 0, true, 0},
                              {"not", {0xF7}, 2, 0, true, 0},
                              {"neg", {0xF6}, 3, 0, true, 0},
                              {"neg", {0xF7}, 3, 0, true, 0},
                              {"inc", {0xFE}, 0, 0, true, 0},
                              {"inc", {0xFF}, 0, 0, true, 0},
                              {"dec", {0xFE}, 1, 0, true, 0},
                              {"dec", {0xFF}, 1, 0, true, 0},
                              {"movzx", {0x0F, 0xB6}, -1, 0, false, 0},
                              {"movzx", {0x0F, 0xB7}, -1, 0, false, 0},
                              {"movsx", {0x0F, 0xBE}, -1, 0, false, 0},
                              {"movsx", {0x0F, 0xBF}, -1, 0, false, 0},
                              {"bt", {0x0F, 0xBA}, 4, 1, false, but_cf_and_zf},
                              {"bts", {0x0F, 0xBA}, 5, 1, true, but_cf_and_zf},
                              {"btr", {0x0F, 0xBA}, 6, 1, true, but_cf_and_zf},
                              {"btc", {0x0F, 0xBA}, 7, 1, true, but_cf_and_zf},
                          });
    return all;
}

/// A random instruction, and a machine on which its operand lies among `operands`.
struct test_case {
    std::vector<std::uint8_t> bytes;
    machine before;
};

std::uint8_t any_byte(random_bits& random) { return static_cast<std::uint8_t>(random()); }

/// Values with many edges: all ones, all zeros, sign bits, and anything.
std::uint64_t any_value(random_bits& random) {
    const std::uint64_t edges[] = {0,          1,          0x7F,       0x80,       0xFF,
                                   0x7FFF,     0x8000,     0xFFFF,     0x7FFFFFFF, 0x8000'0000,
                                   0xFFFFFFFF, 1ULL << 63, ~0ULL >> 1, ~0ULL};
    return random() % 4 == 0 ? edges[random() % (sizeof edges / sizeof *edges)] : random();
}

machine any_machine(random_bits& random) {
    machine m;
    for (std::uint64_t& reg : m.registers.raw) {
        reg = any_value(random);
    }
    m.rflags = 0x202 | (random() & rflags_register::status);
    for (std::size_t i = 0; i != operands_size; i += 8) {
        const std::uint64_t value = any_value(random);
        std::memcpy(m.operands + i, &value, 8);
    }
    return m;
}

void append(std::vector<std::uint8_t>& bytes, std::uint64_t number, unsigned count) {
    for (unsigned i = 0; i != count; ++i) {
        bytes.push_back(static_cast<std::uint8_t>(number >> 8 * i));
    }
}

/// ModR/M, SIB and displacement of an operand at `at`, by any of the ways there are, with registers
/// that make it so. None: these registers cannot.
std::optional<std::vector<std::uint8_t>> name_operand(random_bits& random, std::uint64_t at,
                                                      unsigned reg_field, bool short_addresses,
                                                      std::uint8_t& rex,
                                                      general_registers& registers) {
    std::vector<std::uint8_t> bytes;
    const auto mod = static_cast<unsigned>(random() % 3);
    const auto rm = static_cast<unsigned>(random() % 8);
    const bool sib = rm == 4;
    const auto sib_byte = any_byte(random);
    rex = static_cast<std::uint8_t>(rex | (random() & 3)); // REX.B, REX.X
    const unsigned base_field = sib ? sib_byte & 7U : rm;
    const unsigned base = base_field | (rex & 1U) << 3;
    const unsigned index = (sib_byte >> 3 & 7U) | (rex & 2U) << 2;
    const bool has_index = sib && index != 4;
    const bool has_base = mod != 0 || base_field != 5;
    if (!has_base && !sib) {
        return std::nullopt; // relative to RIP: a test of its own
    }
    bytes.push_back(static_cast<std::uint8_t>(mod << 6 | reg_field << 3 | rm));
    if (sib) {
        bytes.push_back(sib_byte);
    }
    std::uint64_t displacement = 0;
    unsigned count = 0;
    if (mod == 1) {
        count = 1;
        displacement = (random() & 0xFF) - 0x80; // -128 .. 127
    } else if (mod == 2 || !has_base) {
        count = 4;
        displacement = static_cast<std::uint64_t>(static_cast<std::int32_t>(random()));
    }
    const unsigned scale = sib ? sib_byte >> 6 : 0;
    if (has_base && has_index && base == index) {
        return std::nullopt;
    }
    if (has_base) {
        const std::uint64_t scaled = has_index ? registers.raw[index] << scale : 0;
        registers.raw[base] = at - displacement - scaled;
        if (short_addresses) { // what is above 32 bits does not count
            registers.raw[base] = (registers.raw[base] & 0xFFFF'FFFF) | (random() << 32);
        }
    } else if (has_index) {
        displacement = static_cast<std::uint64_t>(static_cast<std::int32_t>(at - 8 * 16));
        registers.raw[index] = std::uint64_t{128} >> scale;
    } else {
        displacement = at; // below 2 GiB
    }
    append(bytes, displacement, count);
    return bytes;
}

std::optional<test_case> any_case(random_bits& random, const shape& of, std::uint64_t operands) {
    test_case made{{}, any_machine(random)};
    const std::uint64_t at = operands + 64 + random() % 128;
    const bool short_addresses = random() % 4 == 0;
    const bool operand_size_prefix = random() % 4 == 0;
    const unsigned reg_field =
        of.number >= 0 ? static_cast<unsigned>(of.number) : static_cast<unsigned>(random() % 8);
    std::uint8_t rex = random() % 2 == 0 ? 0x40 : 0;
    if (rex != 0) {
        rex = static_cast<std::uint8_t>(rex | (random() & 0xC)); // REX.W, REX.R
    }
    std::uint8_t rex_of_operand = 0;
    const auto operand =
        name_operand(random, at, reg_field, short_addresses, rex_of_operand, made.before.registers);
    if (!operand) {
        return std::nullopt;
    }
    if (rex_of_operand != 0 && rex == 0) {
        rex = 0x40;
    }
    rex = static_cast<std::uint8_t>(rex | rex_of_operand);

    if (of.lockable && random() % 4 == 0) {
        made.bytes.push_back(0xF0);
    }
    if (random() % 8 == 0) {
        made.bytes.push_back(random() % 2 == 0 ? 0x3E : 0x26); // no segment in 64-bit mode
    }
    if (short_addresses) {
        made.bytes.push_back(0x67);
    }
    if (operand_size_prefix) {
        made.bytes.push_back(0x66);
    }
    if (rex != 0) {
        made.bytes.push_back(rex);
    }
    for (const unsigned byte : of.opcode) {
        made.bytes.push_back(static_cast<std::uint8_t>(byte));
    }
    made.bytes.insert(made.bytes.end(), operand->begin(), operand->end());
    const bool words = operand_size_prefix && (rex & 8) == 0;
    append(made.bytes, any_value(random), of.immediate == 4 && words ? 2 : of.immediate);
    return made;
}

std::string in_hex(const std::vector<std::uint8_t>& bytes) {
    std::string text;
    for (const std::uint8_t byte : bytes) {
        const char digits[] = "0123456789abcdef";
        text += {digits[byte >> 4], digits[byte & 15], ' '};
    }
    return text;
}

void compare_with(processor_under_load& processor, const test_case& given, const char* name,
                  std::uint64_t undefined) {
    machine by_processor = given.before;
    processor.run(given.bytes, by_processor);
    machine by_pt = given.before;
    const auto done = run_by_pt(given.bytes, by_pt, processor.rip(), processor.operands());
    INFO(name << ": " << in_hex(given.bytes));
    INFO("RFLAGS before " << given.before.rflags);
    if (!done) {
        INFO("error " << pt::name(done.error().code) << " at " << done.error().where);
        REQUIRE(done);
    }
    for (unsigned reg = 0; reg != 16; ++reg) {
        INFO("register " << reg);
        REQUIRE(by_pt.registers.raw[reg] == by_processor.registers.raw[reg]);
    }
    REQUIRE(std::memcmp(by_pt.operands, by_processor.operands, operands_size) == 0);
    REQUIRE((by_pt.rflags & ~undefined) == (by_processor.rflags & ~undefined));
}

TEST_CASE("an instruction with an operand in memory does what this machine's processor does",
          "[vcpu][memory_access]") {
    processor_under_load processor;
    if (!processor.works()) {
        SKIP("this system gives no executable memory");
    }
    random_bits random{20'261}; // NOLINT: the same cases each time
    for (const shape& of : shapes()) {
        for (unsigned made = 0; made < 300;) {
            if (const auto given = any_case(random, of, processor.operands())) {
                ++made;
                compare_with(processor, *given, of.name, of.flags);
            }
        }
    }
}

TEST_CASE(
    "MOVSXD, an operand relative to RIP and an absolute one are as on this machine's processor",
    "[vcpu][memory_access]") {
    processor_under_load processor;
    if (!processor.works()) {
        SKIP("this system gives no executable memory");
    }
    random_bits random{7}; // NOLINT
    for (unsigned made = 0; made != 400; ++made) {
        const std::uint64_t at = processor.operands() + random() % 200;
        const std::uint8_t rex = static_cast<std::uint8_t>(0x40 | (random() & 0xC));
        const std::uint8_t reg = static_cast<std::uint8_t>((random() & 7) << 3 | 5);
        const auto relative = [&](std::vector<std::uint8_t> begin, unsigned behind) {
            append(begin, at - (processor.rip() + begin.size() + 4 + behind), 4);
            append(begin, random(), behind);
            return begin;
        };
        compare_with(processor, {relative({rex, 0x63, reg}, 0), any_machine(random)}, "movsxd", 0);
        compare_with(processor, {relative({rex, 0x8B, reg}, 0), any_machine(random)}, "mov", 0);
        compare_with(processor, {relative({0x67, rex, 0x03, reg}, 0), any_machine(random)}, "add",
                     0);
        compare_with(processor, {relative({0x48, 0x81, 0x05}, 4), any_machine(random)}, "add", 0);
        compare_with(processor, {relative({0x66, 0x83, 0x2D}, 1), any_machine(random)}, "sub", 0);

        for (const unsigned opcode : {0xA0U, 0xA1U, 0xA2U, 0xA3U}) {
            std::vector<std::uint8_t> bytes;
            if (random() % 2 == 0) {
                bytes.push_back(0x66);
            }
            const bool short_address = random() % 2 == 0;
            if (short_address) {
                bytes.push_back(0x67);
            }
            if (random() % 2 == 0) {
                bytes.push_back(rex);
            }
            bytes.push_back(static_cast<std::uint8_t>(opcode));
            append(bytes, at, short_address ? 4 : 8);
            compare_with(processor, {bytes, any_machine(random)}, "mov", 0);
        }
    }
}

TEST_CASE("MOVS, STOS and LODS, repeated and backwards, are as on this machine's processor",
          "[vcpu][memory_access]") {
    processor_under_load processor;
    if (!processor.works()) {
        SKIP("this system gives no executable memory");
    }
    random_bits random{11}; // NOLINT
    for (unsigned made = 0; made != 3000; ++made) {
        const unsigned opcodes[] = {0xA4, 0xA5, 0xAA, 0xAB, 0xAC, 0xAD};
        test_case given{{}, any_machine(random)};
        if (random() % 2 == 0) {
            given.bytes.push_back(random() % 2 == 0 ? 0xF2 : 0xF3);
        }
        if (random() % 3 == 0) {
            given.bytes.push_back(0x66);
        }
        const bool short_addresses = random() % 3 == 0;
        if (short_addresses) {
            given.bytes.push_back(0x67);
        }
        if (random() % 3 == 0) {
            given.bytes.push_back(static_cast<std::uint8_t>(0x40 | (random() & 0xF)));
        }
        given.bytes.push_back(static_cast<std::uint8_t>(opcodes[random() % 6]));
        general_registers& r = given.before.registers;
        r[general_register::rcx] = random() % 5;
        r[general_register::rsi] = processor.operands() + 64 + random() % 128;
        r[general_register::rdi] = processor.operands() + 64 + random() % 128;
        if (short_addresses) {
            r[general_register::rcx] |= random() << 32;
            r[general_register::rsi] |= random() << 32;
            r[general_register::rdi] |= random() << 32;
        }
        given.before.rflags |= random() & rflags_register::direction.mask;
        compare_with(processor, given, "string", 0);
    }
}

// --- What a processor cannot show ---------------------------------------------------------------

/// Answers with a number, and notes what it is asked. `refused`: the n-th access is refused.
struct counted_device {
    unsigned accesses = 0;
    unsigned refused = ~0U;
    std::uint64_t written = 0;

    constexpr result<std::uint64_t> read(mmio_width) {
        if (accesses == refused) {
            return pt::error{errc::absent, 0};
        }
        ++accesses;
        return ~std::uint64_t{0}; // bits above the operand do not count
    }
    constexpr result<void> write(mmio_width, std::uint64_t value) {
        if (accesses == refused) {
            return pt::error{errc::absent, 1};
        }
        ++accesses;
        written = value;
        return {};
    }
};

constexpr bool a_refused_access_changes_nothing() {
    constexpr std::uint8_t programs[][5] = {
        {0x01, 0x07},             // add [rdi], eax
        {0x87, 0x07},             // xchg [rdi], eax
        {0xF0, 0x0F, 0xBA, 0x2F}, // lock bts dword [rdi], imm8
        {0xF3, 0xA4},             // rep movsb
        {0xAC},                   // lodsb
        {0xAA},                   // stosb
    };
    for (const auto& program : programs) {
        const auto instruction = memory_instruction_of(program, 5, code_size::bits_64);
        if (!instruction) {
            return false;
        }
        const unsigned all = (instruction->reads() ? 1U : 0U) + (instruction->writes() ? 1U : 0U);
        for (unsigned refused = 0; refused != all; ++refused) {
            general_registers registers{.raw = {1, 2, 3, 4, 5, 6, 7, 8}};
            const general_registers before = registers;
            std::uint64_t rflags = 0x8D5;
            counted_device device{.refused = refused};
            const auto done = execute(*instruction, registers, rflags, device);
            if (done || registers != before || rflags != 0x8D5 || device.accesses != refused) {
                return false;
            }
        }
    }
    return true;
}
static_assert(a_refused_access_changes_nothing());

TEST_CASE("an access that the device refuses leaves registers and flags as they were",
          "[vcpu][memory_access]") {
    REQUIRE(a_refused_access_changes_nothing());
}

constexpr bool a_count_of_16_bits_ignores_what_lies_above() {
    constexpr std::uint8_t rep_stosw[] = {0xF3, 0xAB};
    const auto instruction = memory_instruction_of(rep_stosw, 2, code_size::bits_16);
    general_registers registers{.raw = {0x1234, 0xFFFF'0000, 0, 0, 0, 0, 0, 0xABCD'FFFF}};
    const general_registers before = registers;
    std::uint64_t rflags = 2;
    counted_device device;
    // CX is 0: nothing happens.
    bool right = execute(*instruction, registers, rflags, device) == instruction_state::finished &&
                 registers == before && device.accesses == 0;
    registers[general_register::rcx] = 0xFFFF'0002;
    right = right &&
            execute(*instruction, registers, rflags, device) == instruction_state::unfinished &&
            registers[general_register::rcx] == 0xFFFF'0001 && device.written == 0x1234 &&
            registers[general_register::rdi] == 0xABCD'0001; // DI wraps
    return right &&
           execute(*instruction, registers, rflags, device) == instruction_state::finished &&
           registers[general_register::rcx] == 0xFFFF'0000 && device.accesses == 2;
}
static_assert(a_count_of_16_bits_ignores_what_lies_above());

TEST_CASE("REP with 16-bit addresses counts in CX and moves DI alone", "[vcpu][memory_access]") {
    REQUIRE(a_count_of_16_bits_ignores_what_lies_above());
}

} // namespace
