// SPDX-License-Identifier: BSL-1.0
//
// The judge is objdump: of random bytes in 16-, 32- and 64-bit code, pt must know exactly the
// instructions that it promises, and find the operands that objdump prints. What they then do is
// judged in memory_access.cpp.
#include "pt/vcpu/memory_instruction.hpp"

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/address_size.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace pt::vcpu;
using pt::errc;
using pt::mmio_width;

constexpr code_size all_codes[] = {code_size::bits_16, code_size::bits_32, code_size::bits_64};
constexpr std::size_t slot = 32; // bytes from one instruction to the next; NOPs in between

/// The instruction at each multiple of `slot`, as objdump prints it in Intel's syntax.
std::vector<std::string> ask_objdump(const std::vector<std::uint8_t>& bytes, code_size code) {
    std::string file = (std::filesystem::temp_directory_path() / "pt-operands-XXXXXX").string();
    const int descriptor = mkstemp(file.data());
    REQUIRE(descriptor >= 0);
    std::FILE* const out = fdopen(descriptor, "wb");
    REQUIRE(out != nullptr);
    REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size());
    REQUIRE(std::fclose(out) == 0);
    const std::string machine = code == code_size::bits_64   ? "i386:x86-64"
                                : code == code_size::bits_32 ? "i386"
                                                             : "i8086";
    const std::string command = "LC_ALL=C objdump -D -z -b binary -M intel -m " + machine +
                                " --insn-width=16 '" + file + "' 2>/dev/null";
    std::FILE* const pipe = popen(command.c_str(), "r"); // NOLINT(cert-env33-c)
    REQUIRE(pipe != nullptr);
    std::vector<std::string> found;
    char line[1024];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
        const std::string text = line;
        const std::size_t colon = text.find(":\t");
        const std::size_t tab = text.find('\t', colon + 2);
        if (colon == std::string::npos || tab == std::string::npos) {
            continue;
        }
        found.resize(bytes.size() / slot);
        if (const std::size_t at = std::stoul(text, nullptr, 16); at % slot == 0) {
            const std::string instruction = text.substr(tab + 1);
            found.at(at / slot) = instruction.substr(0, instruction.find_first_of("#\n"));
        }
    }
    pclose(pipe);
    std::filesystem::remove(file);
    return found;
}

// --- Both as words that can be compared ---------------------------------------------------------

/// An instruction as it is printed.
struct printed {
    std::string mnemonic;
    std::vector<std::string> operands;
};

/// Without its prefixes, which objdump prints where they have no effect or another than in the operands.
printed parsed(const std::string& text) {
    static const std::set<std::string> prefixes{
        "lock",     "rep",      "repz", "repnz", "bnd", "data16", "data32", "addr16", "addr32",
        "xacquire", "xrelease", "es",   "cs",    "ss",  "ds",     "fs",     "gs",     "notrack"};
    printed found;
    std::istringstream words{text};
    for (std::string word; found.mnemonic.empty() && words >> word;) {
        if (prefixes.count(word) == 0 && word.rfind("rex", 0) != 0) {
            found.mnemonic = word;
        }
    }
    if (found.mnemonic == "movabs") {
        found.mnemonic = "mov";
    }
    std::string rest;
    std::getline(words, rest);
    rest.erase(std::remove(rest.begin(), rest.end(), ' '), rest.end());
    std::istringstream parts{rest};
    for (std::string operand; std::getline(parts, operand, ',');) {
        found.operands.push_back(operand);
    }
    return found;
}

const char* const register_names[4][16] = {
    {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b",
     "r13b", "r14b", "r15b"},
    {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w",
     "r14w", "r15w"},
    {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d",
     "r13d", "r14d", "r15d"},
    {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
     "r14", "r15"},
};
unsigned log2_of(unsigned size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }

std::string name_of(register_operand reg, unsigned size) {
    static const char* const high[] = {"ah", "ch", "dh", "bh"};
    return reg.high_byte ? high[static_cast<unsigned>(reg.name)]
                         : register_names[log2_of(size)][static_cast<unsigned>(reg.name)];
}

std::string hex(std::uint64_t number) {
    std::ostringstream text;
    text << "0x" << std::hex << number;
    return text.str();
}

/// `SIZE seg:base+index*scale+displacement`: the form that both sides are brought into.
std::string place(const std::string& size, const std::string& segment, const std::string& base,
                  const std::string& index, unsigned scale, std::uint64_t displacement) {
    return size + " " + segment + ":" + base + "+" + index + "*" + std::to_string(scale) + "+" +
           hex(displacement);
}

std::string as_text(const memory_operand& operand, mmio_width size) {
    static const char* const segments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
    static const char* const sizes[] = {"BYTE", "WORD", "DWORD", "QWORD"};
    const unsigned width = log2_of(static_cast<unsigned>(operand.addresses));
    const auto reg = [&](bool there, general_register name) {
        return there ? std::string{register_names[width][static_cast<unsigned>(name)]} : "";
    };
    const std::string base = operand.relative_to_rip ? (width == 3 ? "rip" : "eip")
                                                     : reg(operand.has_base, operand.base);
    return place(sizes[log2_of(size_of(size))], segments[static_cast<unsigned>(operand.segment)],
                 base, reg(operand.has_index, operand.index), operand.has_index ? operand.scale : 1,
                 operand.displacement & address_mask(operand.addresses));
}

/// What objdump prints as `DWORD PTR fs:[eax+ecx*4-0x10]` (without blanks), or `ds:0x1234`.
std::string as_text(std::string operand, const std::string& size_without, std::uint64_t mask) {
    std::string size = size_without;
    if (const std::size_t at = operand.find("PTR"); at != std::string::npos) {
        size = operand.substr(0, at);
        operand = operand.substr(at + 3);
    }
    std::string segment;
    if (operand.size() > 2 && operand[2] == ':') {
        segment = operand.substr(0, 2);
        operand = operand.substr(3);
    }
    std::string base;
    std::string index;
    unsigned scale = 1;
    std::uint64_t displacement = 0;
    const auto is_end = [](char c) { return c == '+' || c == '-' || c == '[' || c == ']'; };
    for (std::size_t at = 0; at < operand.size();) {
        const bool negative = operand[at] == '-';
        at += is_end(operand[at]) ? 1 : 0;
        const std::size_t end = static_cast<std::size_t>(
            std::find_if(operand.begin() + static_cast<std::ptrdiff_t>(at), operand.end(), is_end) -
            operand.begin());
        const std::string term = operand.substr(at, end - at);
        at = end;
        if (term.empty()) {
            continue;
        }
        if (const std::size_t star = term.find('*'); star != std::string::npos) {
            index = term.substr(0, star);
            scale = static_cast<unsigned>(std::stoul(term.substr(star + 1)));
        } else if (term[0] >= '0' && term[0] <= '9') {
            const std::uint64_t number = std::stoull(term, nullptr, 16);
            displacement = negative ? 0 - number : number;
        } else if (base.empty()) {
            base = term;
        } else {
            index = term;
        }
    }
    if (index == "eiz" || index == "riz") {
        index.clear();
        scale = 1;
    }
    if (segment.empty()) {
        const bool is_stack =
            base == "bp" || base == "ebp" || base == "rbp" || base == "esp" || base == "rsp";
        segment = is_stack ? "ss" : "ds";
    }
    return place(size, segment, base, index, scale, displacement & mask);
}

bool is_memory(const std::string& operand) {
    return operand.find('[') != std::string::npos || operand.find(':') != std::string::npos;
}

const std::map<std::string, memory_operation> mnemonics{
    {"add", memory_operation::add},
    {"or", memory_operation::inclusive_or},
    {"adc", memory_operation::add_with_carry},
    {"sbb", memory_operation::subtract_with_borrow},
    {"and", memory_operation::logical_and},
    {"sub", memory_operation::subtract},
    {"xor", memory_operation::exclusive_or},
    {"cmp", memory_operation::compare},
    {"test", memory_operation::test},
    {"mov", memory_operation::move},
    {"movzx", memory_operation::move_zero_extended},
    {"movsx", memory_operation::move_sign_extended},
    {"movsxd", memory_operation::move_sign_extended},
    {"xchg", memory_operation::exchange},
    {"inc", memory_operation::increment},
    {"dec", memory_operation::decrement},
    {"not", memory_operation::complement},
    {"neg", memory_operation::negate},
    {"bt", memory_operation::bit_test},
    {"bts", memory_operation::bit_test_and_set},
    {"btr", memory_operation::bit_test_and_reset},
    {"btc", memory_operation::bit_test_and_complement},
    {"movs", memory_operation::move_string},
    {"stos", memory_operation::store_string},
    {"lods", memory_operation::load_string},
};

bool is_general_register(const std::string& operand) {
    for (const auto& names : register_names) {
        if (std::find(std::begin(names), std::end(names), operand) != std::end(names)) {
            return true;
        }
    }
    return operand == "ah" || operand == "ch" || operand == "dh" || operand == "bh";
}

/// Whether pt has promised to know it.
bool is_promised(const printed& instruction) {
    if (mnemonics.count(instruction.mnemonic) == 0) {
        return false;
    }
    bool in_memory = false;
    for (const std::string& operand : instruction.operands) {
        in_memory = in_memory || is_memory(operand);
        if (!is_memory(operand) && !is_general_register(operand) && operand.rfind("0x", 0) != 0) {
            return false; // segment registers
        }
    }
    const bool is_bit = instruction.mnemonic[0] == 'b';
    return in_memory && (!is_bit || is_general_register(instruction.operands[1]) == false);
}

bool can_have_lock(const printed& instruction) {
    static const std::set<std::string> some{"add", "or",  "adc", "sbb", "and", "sub", "xor", "xchg",
                                            "inc", "dec", "not", "neg", "bts", "btr", "btc"};
    return some.count(instruction.mnemonic) != 0 && is_memory(instruction.operands[0]);
}

std::string in_hex(const std::uint8_t* bytes, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i != count; ++i) {
        const char digits[] = "0123456789abcdef";
        text += {digits[bytes[i] >> 4], digits[bytes[i] & 15], ' '};
    }
    return text;
}

void compare(const memory_instruction& found, const printed& expected) {
    REQUIRE(found.operation == mnemonics.at(expected.mnemonic));
    const std::uint64_t mask = address_mask(found.memory.addresses);
    static const char* const sizes[] = {"BYTE", "WORD", "DWORD", "QWORD"};
    const std::string size = sizes[log2_of(size_of(found.size))]; // MOV with an offset prints none

    std::vector<std::string> memory;
    std::vector<std::string> others;
    for (const std::string& operand : expected.operands) {
        (is_memory(operand) ? memory : others).push_back(operand);
    }
    if (found.operation == memory_operation::move_string) {
        REQUIRE(memory.size() == 2);
        REQUIRE(as_text(found.destination(), found.size) == as_text(memory[0], size, mask));
        REQUIRE(as_text(found.memory, found.size) == as_text(memory[1], size, mask));
        REQUIRE((found.reads() && found.writes()));
        return;
    }
    REQUIRE(memory.size() == 1);
    REQUIRE(as_text(found.memory, found.size) == as_text(memory[0], size, mask));
    if (others.empty()) {
        REQUIRE((!found.has_immediate && found.reads() && found.writes()));
        return;
    }
    REQUIRE(found.to_register == (expected.operands[0] == others[0]));
    if (others[0].rfind("0x", 0) == 0) {
        const std::uint64_t number = std::stoull(others[0], nullptr, 16);
        const bool is_bit = expected.mnemonic[0] == 'b';
        const std::uint64_t bits = is_bit ? 0xFF : all_ones(found.size);
        REQUIRE(found.has_immediate);
        REQUIRE((found.immediate & bits) == (number & bits));
    } else {
        REQUIRE(!found.has_immediate);
        REQUIRE(name_of(found.other, size_of(found.register_size)) == others[0]);
    }
}

TEST_CASE(
    "of random instructions pt knows those that it promises, with the operands that objdump prints",
    "[vcpu][memory_instruction]") {
    constexpr unsigned count = 24'000;
    std::minstd_rand engine{77}; // NOLINT: the same ones each time
    const auto random = [&] { return static_cast<unsigned>(engine() >> 8); };
    for (const code_size code : all_codes) {
        std::vector<std::uint8_t> bytes(slot * count, 0x90);
        for (unsigned n = 0; n != count; ++n) {
            std::uint8_t* const at = &bytes[slot * n];
            unsigned used = 0;
            // Each prefix once at most, and one of a segment: objdump has its own rules for several.
            const std::uint8_t segments[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};
            const std::uint8_t prefixes[] = {
                0x66, 0x67, random() % 4 == 0 ? std::uint8_t{0xF0} : std::uint8_t{0x66},
                segments[random() % 6],
                random() % 2 == 0 ? std::uint8_t{0xF2} : std::uint8_t{0xF3}};
            for (unsigned i = random() % 5; i < 5; i += 1 + random() % 4) {
                if (used == 0 || at[used - 1] != prefixes[i]) {
                    at[used++] = prefixes[i];
                }
            }
            if (code == code_size::bits_64 && random() % 2 != 0) {
                at[used++] = static_cast<std::uint8_t>(0x40 + random() % 16);
            }
            if (n / 256 % 3 == 0) {
                at[used++] = 0x0F;
                constexpr std::uint8_t known[] = {0xB6, 0xB7, 0xBE, 0xBF, 0xBA};
                at[used++] = random() % 2 == 0 ? known[random() % 5] : static_cast<std::uint8_t>(n);
            } else {
                at[used++] = static_cast<std::uint8_t>(n);
            }
            while (used != 15) {
                at[used++] = static_cast<std::uint8_t>(random());
            }
        }
        const std::vector<std::string> expected = ask_objdump(bytes, code);
        if (expected.empty()) {
            SKIP("no objdump");
        }
        unsigned compared = 0;
        std::set<std::string> seen;
        for (unsigned n = 0; n != count; ++n) {
            const std::uint8_t* const at = &bytes[slot * n];
            const printed instruction = parsed(expected[n]);
            // It takes a REX before another prefix for an instruction of its own.
            if (expected[n].find("(bad)") != std::string::npos || instruction.mnemonic.empty()) {
                continue;
            }
            CAPTURE(static_cast<int>(code), in_hex(at, 15), expected[n]);
            const auto found = memory_instruction_of(at, slot, code);
            const bool has_lock = std::find(at, at + 5, 0xF0) != at + 5;
            if (found) {
                REQUIRE(is_promised(instruction));
                compare(*found, instruction);
                ++compared;
                seen.insert(instruction.mnemonic);
                continue;
            }
            // Longer than 15 bytes, or a LOCK that is a #UD; MOVSXD of 16 bits is left out.
            if (found.error().code == errc::malformed) {
                REQUIRE((found.error().where == 15 || (has_lock && !can_have_lock(instruction))));
                continue;
            }
            REQUIRE((!is_promised(instruction) || instruction.mnemonic == "movsxd"));
        }
        CAPTURE(static_cast<int>(code), compared);
        REQUIRE(compared > count / 5);
        REQUIRE(seen.size() == (code == code_size::bits_64 ? 25 : 24)); // all, with MOVSXD
    }
}

// --- Rules --------------------------------------------------------------------------------------

constexpr bool cut_short_it_asks_for_more() {
    // lock add word gs:[eax + ecx * 4 + 0x12345678], 0x1234 in 16-bit code.
    constexpr std::uint8_t bytes[] = {0xF0, 0x65, 0x67, 0x81, 0x84, 0x88,
                                      0x78, 0x56, 0x34, 0x12, 0x34, 0x12};
    for (std::size_t there = 0; there != sizeof bytes; ++there) {
        if (memory_instruction_of(bytes, there, code_size::bits_16) !=
            pt::error{errc::out_of_range, there}) {
            return false;
        }
    }
    const auto whole = memory_instruction_of(bytes, sizeof bytes, code_size::bits_16);
    return whole && whole->length == sizeof bytes && whole->size == mmio_width::word &&
           whole->immediate == 0x1234;
}
static_assert(cut_short_it_asks_for_more());

TEST_CASE("an instruction that is not there as a whole needs more bytes",
          "[vcpu][memory_instruction]") {
    REQUIRE(cut_short_it_asks_for_more());
}

constexpr bool a_lock_that_is_an_exception_is_malformed() {
    constexpr std::uint8_t programs[][5] = {
        {0xF0, 0x89, 0x07},             // mov [rdi], eax
        {0xF0, 0x03, 0x07},             // add eax, [rdi]
        {0xF0, 0x39, 0x07},             // cmp [rdi], eax
        {0xF0, 0x85, 0x07},             // test [rdi], eax
        {0xF0, 0x0F, 0xBA, 0x27, 0x01}, // bt dword [rdi], 1
        {0xF0, 0xA4},                   // movsb
    };
    for (const auto& program : programs) {
        if (memory_instruction_of(program, 5, code_size::bits_64) !=
            pt::error{errc::malformed, 1}) {
            return false;
        }
    }
    return true;
}
static_assert(a_lock_that_is_an_exception_is_malformed());

TEST_CASE("a LOCK prefix where the processor raises #UD is malformed [sdm]",
          "[vcpu][memory_instruction]") {
    REQUIRE(a_lock_that_is_an_exception_is_malformed());
}

constexpr bool addresses_wrap_in_their_size() {
    general_registers r{};
    r[general_register::rbx] = 0xFFFF'FFFF'FFFF'FFF0;
    r[general_register::rsi] = 0x1234'0020;
    memory_operand operand{.addresses = address_size::bits_16,
                           .has_base = true,
                           .has_index = true,
                           .base = general_register::rbx,
                           .index = general_register::rsi};
    const bool narrow = operand.address(r, 0) == logical_address{segment_register::ds, 0x10};
    operand.addresses = address_size::bits_32;
    operand.scale = 4;
    operand.displacement = ~std::uint64_t{0};
    const bool medium = operand.address(r, 0) == logical_address{segment_register::ds, 0x48D0'006F};
    const memory_operand relative{.segment = segment_register::fs,
                                  .relative_to_rip = true,
                                  .displacement = ~std::uint64_t{0x1F}};
    return narrow && medium &&
           relative.address(r, 0x10) ==
               logical_address{segment_register::fs, 0xFFFF'FFFF'FFFF'FFF0};
}
static_assert(addresses_wrap_in_their_size());

TEST_CASE("an address wraps in the size that addresses have [sdm]", "[vcpu][memory_instruction]") {
    REQUIRE(addresses_wrap_in_their_size());
}

constexpr bool a_segment_prefix_counts_where_segments_do() {
    // mov eax, [ebp]: SS without a prefix, and DS only because of one.
    constexpr std::uint8_t plain[] = {0x8B, 0x45, 0x00};
    constexpr std::uint8_t with_ds[] = {0x3E, 0x8B, 0x45, 0x00};
    constexpr std::uint8_t fs_then_ds[] = {0x64, 0x3E, 0x8B, 0x45, 0x00};
    constexpr std::uint8_t stos[] = {0x64, 0xAB}; // always ES
    const auto segment = [](const std::uint8_t* bytes, std::size_t count, code_size code) {
        return memory_instruction_of(bytes, count, code)->memory.segment;
    };
    using enum segment_register;
    return segment(plain, 3, code_size::bits_32) == ss &&
           segment(with_ds, 4, code_size::bits_32) == ds &&
           segment(fs_then_ds, 5, code_size::bits_32) == ds &&
           segment(with_ds, 4, code_size::bits_64) == ss &&
           segment(fs_then_ds, 5, code_size::bits_64) == fs &&
           segment(stos, 2, code_size::bits_32) == es && segment(stos, 2, code_size::bits_64) == es;
}
static_assert(a_segment_prefix_counts_where_segments_do());

TEST_CASE("in 64-bit mode only FS and GS are segments, elsewhere the last prefix counts [sdm]",
          "[vcpu][memory_instruction]") {
    REQUIRE(a_segment_prefix_counts_where_segments_do());
}

} // namespace
