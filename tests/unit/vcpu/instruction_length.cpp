// SPDX-License-Identifier: BSL-1.0
//
// The judges are others' tools: the assembler that translates this file gives the encodings and
// lengths of named instructions, and objdump those of random ones.
#include "pt/vcpu/instruction_length.hpp"

#include "pt/core/result.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using pt::errc;
using pt::vcpu::code_size;
using pt::vcpu::instruction_length;

std::string in_hex(const std::vector<std::uint8_t>& bytes) {
    std::string text;
    for (const std::uint8_t byte : bytes) {
        const char digits[] = "0123456789abcdef";
        text += {digits[byte >> 4], digits[byte & 15], ' '};
    }
    return text;
}

pt::result<std::uint8_t> length(const std::vector<std::uint8_t>& bytes, code_size code) {
    return instruction_length(bytes.data(), bytes.size(), code);
}

// --- What the assembler says --------------------------------------------------------------------

// Each instruction as its length and its bytes; a length of 0 ends a table. First every instruction
// that a processor can be told to intercept and how device models are accessed, as far as all code
// has them; then what only 16- and 32-bit code has, and what only 64-bit code has.
// asm has no operands here: the percent signs are single.
asm(R"(
.macro is text:vararg
.byte 2f - 1f
1: \text
2:
.endm

.macro everywhere
is inb $0x60, %al
is inw $0x60, %ax
is inl $0x60, %eax
is inb %dx, %al
is inw %dx, %ax
is inl %dx, %eax
is outb %al, $0x80
is outw %ax, $0x80
is outl %eax, $0x80
is outb %al, %dx
is outw %ax, %dx
is outl %eax, %dx
is insb
is insw
is insl
is rep insb
is rep insw
is rep insl
is outsb
is outsw
is outsl
is rep outsb
is rep outsw
is rep outsl
is rep outsb %fs:(%esi), %dx
is outsw %cs:(%esi), %dx
is rep insl %dx, %es:(%edi)
is hlt
is cpuid
is rdmsr
is wrmsr
is rdtsc
is rdtscp
is rdpmc
is invd
is wbinvd
is wbnoinvd
is vmcall
is vmmcall
is vmrun
is vmload
is vmsave
is stgi
is clgi
is skinit
is invlpga
is vmlaunch
is vmresume
is vmxoff
is vmfunc
is xgetbv
is xsetbv
is monitor
is mwait
is monitorx
is mwaitx
is encls
is enclu
is enclv
is pconfig
is clac
is stac
is xend
is serialize
is .byte 0x0f, 0x01, 0xfd # RDPRU
is pause
is clts
is getsec
is rsm
is int3
is int $0x80
is iretw
is iretl
is pushf
is popf
is ud2
is lmsw %ax
is lldt %ax
is ltr %ax
is sldt %eax
is str %eax
is smsw %eax
is cli
is sti
is nop
is .byte 0xf1 # INT1
is rdrand %ax
is rdrand %eax
is rdseed %ax
is rdseed %eax
is umonitor %eax
is umwait %eax
is tpause %eax
is invlpg (%ebx)
is lgdt (%ebx)
is lidt (%ebx)
is sgdt (%ebx)
is sidt (%ebx)
is smsw (%ebx)
is lmsw 4(%ebx)
is lldt 4(%esp)
is ltr 4(%ebp)
is sldt 0x400(%ebp)
is str (%ebp)
is vmptrld (%ebx)
is vmptrst (%ebx)
is vmclear (%ebx)
is vmxon (%ebx)
is xsaves (%ebx)
is xrstors (%ebx)
is xsave 0x40(%ebx)
is clflush (%ebx)
is lock cmpxchg8b (%ebx)
is movb %al, (%ebx)
is movl %eax, 4(%ebx,%ecx,8)
is movw $7, 0x400(%ebx)
is movl $7, (%ebp)
is movb $7, 1(%esp)
is movl %eax, 0x1234(,%ecx,4)
is movzbl (%ebx), %eax
is movzwl (%ebx), %eax
is movsbl (%ebx), %eax
is movswl (%ebx), %eax
is movbe %eax, (%ebx)
is movbe (%ebx), %ax
is stosb
is rep stosl
is movsw
is rep movsl
is lodsb
is repne scasb
is lock andl $1, (%ebx)
is andl $0x12345678, (%ebx)
is orw $0x1234, 2(%ebx)
is xorb %al, (%ebx)
is addl (%ebx), %eax
is subw %ax, 2(%ebx)
is cmpb $3, (%ebx)
is cmpl $0x1234567, (%ebx)
is testb $1, (%ebx)
is testl $1, (%ebx)
is testw $1, (%ebx)
is notl (%ebx)
is negb (%ebx)
is incl (%ebx)
is xchgl %eax, (%ebx)
is btl %eax, (%ebx)
is lock btsl $3, (%ebx)
is btrw $3, (%ebx)
is lock cmpxchgl %eax, (%ebx)
is lock xaddb %al, (%ebx)
is pushw (%ebx)
is enter $16, $1
is leave
is movaps %xmm0, (%ebx)
is palignr $3, (%ebx), %xmm1
is pshufb (%ebx), %xmm1
is fxsave (%ebx)
is crc32b (%ebx), %eax
is popcnt (%ebx), %eax
is imull $1000, (%ebx), %eax
.endm

.macro not_in_64_bit_mode
is movl %cr0, %eax
is movl %eax, %cr4
is movl %dr7, %edx
is movl %edx, %dr0
is into
is invpcid (%ebx), %eax
is invept (%ebx), %eax
is invvpid (%ebx), %eax
is vmread %eax, (%ebx)
is vmwrite (%ebx), %eax
is bound %eax, (%ebx)
is les (%ebx), %eax
is lds (%ebx), %eax
is lcallw $0x10, $0x1234
is lcalll $0x10, $0x12345678
is ljmpw $8, $4
is ljmpl $8, $4
is daa
is aam
is pushal
is popaw
is arpl %ax, (%ebx)
is incl %eax
is decw %di
is pushl $0x12345678
is pushw $0x1234
is push %cs
is outsb %ss:(%si), %dx
is rep insw %dx, %es:(%di)
is invlpg (%bx,%si)
is invlpg 4(%bp)
is movl %eax, 0x400(%di)
is movw $0x1234, (%bp)
is lock orl $0x12345678, %fs:0x12(%bx,%di)
.endm

.macro in_64_bit_mode
is movq %cr0, %rax
is movq %rax, %cr8
is movq %cr8, %r9
is movq %dr7, %r10
is movq %rdx, %dr0
is invpcid (%rbx), %rax
is invept (%r9), %r10
is invvpid (%rbx), %rax
is vmread %rax, %rbx
is vmwrite (%r9), %r10
is iretq
is rdrand %r11
is rdseed %rax
is xsaves64 (%rbx)
is xrstors64 (%r12)
is invlpg (%rip)
is invlpg 0x1234
is invlpg (%r12)
is invlpg (%r13)
is invlpg -8(%rsp)
is invlpg 0x400(%r13,%r14,2)
is lgdt 0x40(%rsp)
is lidt (%rip)
is sldt %rax
is smsw %r9
is str %r9
is swapgs
is sysretq
is sysretl
is syscall
is rep outsl (%rsi), %dx
is rep insb %dx, %es:(%rdi)
is movabs $0x123456789abcdef0, %rax
is movabs $0x123456789abcdef0, %r15
is movabs %al, 0x123456789abcdef0
is movabs 0x123456789abcdef0, %rax
is movq $-1, (%rbx)
is movq %rax, 8(%rbx)
is movslq (%rbx), %rax
is movzbq (%r9), %r10
is lock cmpxchg16b (%r9)
is testq $1, (%rbx)
is testb $1, (%r9)
is addq $0x1234567, 0x40(%rbx,%rcx)
is xchgq %rax, (%r9)
is andb $1, 0x1234(%rip)
is lock btsq $40, (%rbx)
is pushq $0x1234567
is movw $0x1234, %gs:0x10(%r12)
is rep movsq
is movnti %rax, (%rbx)
is call .+0x100
is jmp .+0x10000
is movl %fs:0, %eax
.endm

.pushsection .rodata
pt_test_code_16:
.code16
everywhere
not_in_64_bit_mode
.byte 0
pt_test_code_32:
.code32
everywhere
not_in_64_bit_mode
.byte 0
pt_test_code_64:
.code64
everywhere
in_64_bit_mode
.byte 0
.popsection

.purgem is
.purgem everywhere
.purgem not_in_64_bit_mode
.purgem in_64_bit_mode
)");

extern "C" {
extern const std::uint8_t pt_test_code_16[];
extern const std::uint8_t pt_test_code_32[];
extern const std::uint8_t pt_test_code_64[];
}

std::vector<std::vector<std::uint8_t>> assembled(code_size code) {
    const std::uint8_t* at = code == code_size::bits_16   ? pt_test_code_16
                             : code == code_size::bits_32 ? pt_test_code_32
                                                          : pt_test_code_64;
    std::vector<std::vector<std::uint8_t>> instructions;
    for (; *at != 0; at += 1 + *at) {
        instructions.emplace_back(at + 1, at + 1 + *at);
    }
    return instructions;
}

constexpr code_size all_codes[] = {code_size::bits_16, code_size::bits_32, code_size::bits_64};

TEST_CASE("each instruction is as long as the assembler made it", "[vcpu][instruction_length]") {
    for (const code_size code : all_codes) {
        const auto instructions = assembled(code);
        REQUIRE(instructions.size() == (code == code_size::bits_64 ? 215 : 195));
        for (const auto& instruction : instructions) {
            CAPTURE(static_cast<int>(code), in_hex(instruction));
            REQUIRE(length(instruction, code) == static_cast<std::uint8_t>(instruction.size()));
            // What lies behind it does not matter.
            for (const int behind : {0x00, 0x0F, 0x66, 0xFF}) {
                std::vector<std::uint8_t> more = instruction;
                more.resize(20, static_cast<std::uint8_t>(behind));
                REQUIRE(length(more, code) == static_cast<std::uint8_t>(instruction.size()));
            }
        }
    }
}

TEST_CASE("an instruction that is not there as a whole needs more bytes",
          "[vcpu][instruction_length]") {
    for (const code_size code : all_codes) {
        for (const auto& instruction : assembled(code)) {
            for (std::size_t there = 0; there != instruction.size(); ++there) {
                CAPTURE(static_cast<int>(code), in_hex(instruction), there);
                const std::vector<std::uint8_t> part(
                    instruction.begin(), instruction.begin() + static_cast<std::ptrdiff_t>(there));
                REQUIRE(length(part, code) == pt::error{errc::out_of_range, there});
            }
        }
    }
}

TEST_CASE("prefixes make an instruction longer, up to 15 bytes", "[vcpu][instruction_length]") {
    for (const code_size code : all_codes) {
        for (const auto& instruction : assembled(code)) {
            // A segment prefix changes nothing else.
            for (std::size_t prefixes = 0; prefixes != 20; ++prefixes) {
                std::vector<std::uint8_t> longer(prefixes, 0x2E);
                longer.insert(longer.end(), instruction.begin(), instruction.end());
                CAPTURE(static_cast<int>(code), in_hex(longer));
                if (longer.size() <= 15) {
                    REQUIRE(length(longer, code) == static_cast<std::uint8_t>(longer.size()));
                } else {
                    REQUIRE(length(longer, code) == pt::error{errc::malformed, 15});
                }
            }
        }
    }
}

TEST_CASE("REX counts only directly before the opcode", "[vcpu][instruction_length]") {
    // MOV EAX, imm32 and MOV RAX, imm64.
    const std::vector<std::uint8_t> rex{0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8};
    REQUIRE(length(rex, code_size::bits_64) == std::uint8_t{10});
    const std::vector<std::uint8_t> superseded{0x48, 0x2E, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8};
    REQUIRE(length(superseded, code_size::bits_64) == std::uint8_t{7});
    const std::vector<std::uint8_t> last_one{0x48, 0x40, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8};
    REQUIRE(length(last_one, code_size::bits_64) == std::uint8_t{7});
    const std::vector<std::uint8_t> with_66{0x66, 0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8};
    REQUIRE(length(with_66, code_size::bits_64) == std::uint8_t{11});
    // Elsewhere the same byte is DEC EAX, an instruction of its own.
    REQUIRE(length(rex, code_size::bits_32) == std::uint8_t{1});
    REQUIRE(length(rex, code_size::bits_16) == std::uint8_t{1});
}

TEST_CASE("prefixes say which segment and what addresses an OUTS has",
          "[vcpu][instruction_length]") {
    using pt::vcpu::addresses_of;
    using pt::vcpu::prefixes_of;
    using pt::vcpu::segment_register;
    struct row {
        std::vector<std::uint8_t> bytes; ///< prefixes before OUTSB
        segment_register segment;
        segment_register segment_in_64_bit_mode;
    };
    using enum segment_register;
    const row rows[] = {
        {{0x6E}, ds, ds},
        {{0x26, 0x6E}, es, ds},
        {{0x2E, 0x6E}, cs, ds},
        {{0x36, 0x6E}, ss, ds},
        {{0x3E, 0x6E}, ds, ds},
        {{0x64, 0x6E}, fs, fs},
        {{0xF3, 0x65, 0x6E}, gs, gs},
        {{0x64, 0xF3, 0x65, 0x66, 0x6E}, gs, gs},
        {{0x65, 0x36, 0xF2, 0x6E}, ss, gs},
    };
    for (const row& outs : rows) {
        CAPTURE(in_hex(outs.bytes));
        const auto count = static_cast<std::uint8_t>(outs.bytes.size());
        for (const code_size code : all_codes) {
            const auto prefixes = prefixes_of(outs.bytes.data(), count, code);
            REQUIRE(prefixes.count == count - 1);
            REQUIRE(prefixes.segment ==
                    (code == code_size::bits_64 ? outs.segment_in_64_bit_mode : outs.segment));
        }
    }

    using pt::vcpu::address_size;
    const std::uint8_t bytes[] = {0x67, 0x67, 0x6E};
    const auto with = [&](code_size code) {
        return addresses_of(prefixes_of(bytes, 3, code), code);
    };
    const auto without = [&](code_size code) {
        return addresses_of(prefixes_of(bytes + 2, 1, code), code);
    };
    REQUIRE(without(code_size::bits_16) == address_size::bits_16);
    REQUIRE(without(code_size::bits_32) == address_size::bits_32);
    REQUIRE(without(code_size::bits_64) == address_size::bits_64);
    REQUIRE(with(code_size::bits_16) == address_size::bits_32);
    REQUIRE(with(code_size::bits_32) == address_size::bits_16);
    REQUIRE(with(code_size::bits_64) == address_size::bits_32);
}

TEST_CASE("MOV of a control or debug register has no operand in memory, whatever mod says",
          "[vcpu][instruction_length]") {
    // [sdm, MOV - Move to/from Control Registers]: the mod field is ignored. With rm = 4 and 5 any
    // other instruction has a SIB byte or a displacement.
    for (const int opcode : {0x20, 0x21, 0x22, 0x23}) {
        for (unsigned mod_rm = 0; mod_rm != 256; ++mod_rm) {
            for (const code_size code : all_codes) {
                const std::vector<std::uint8_t> mov{0x0F,
                                                    static_cast<std::uint8_t>(opcode),
                                                    static_cast<std::uint8_t>(mod_rm),
                                                    0x05,
                                                    0,
                                                    0,
                                                    0,
                                                    0};
                REQUIRE(length(mov, code) == std::uint8_t{3});
            }
        }
    }
}

TEST_CASE("what pt does not know, or processors do not agree on, is not supported",
          "[vcpu][instruction_length]") {
    struct row {
        std::vector<std::uint8_t> bytes;
        std::size_t opcode;
        bool only_in_64_bit_mode;
    };
    const row rows[] = {
        {{0xC5, 0xF8, 0x77}, 0, false},                   // VZEROUPPER
        {{0xC4, 0xE2, 0x78, 0xF2, 0xC0}, 0, false},       // ANDN
        {{0x62, 0xF1, 0x7C, 0x48, 0x58, 0xC0}, 0, false}, // VADDPS with EVEX
        {{0x8F, 0xE9, 0x78, 0x12, 0xC0}, 0, false},       // LLWPCB, XOP
        {{0x2E, 0x0F, 0x04}, 1, false},                   // no instruction
        {{0x0F, 0x24, 0xC0}, 0, false},                   // MOV of a test register, Intel486
        {{0x0F, 0xFF, 0xC0}, 0, false},                   // UD0: with or without ModR/M
        {{0x0F, 0xB9, 0xC0}, 0, false},                   // UD1
        {{0x0F, 0xB8, 0xC0}, 0, false},                   // POPCNT without its prefix
        {{0x66, 0x0F, 0x78, 0xC0, 0x10, 0x20}, 1, false}, // EXTRQ
        {{0xF2, 0x0F, 0x78, 0xC0, 0x10, 0x20}, 1, false}, // INSERTQ
        {{0xD5, 0x08, 0x89, 0x00}, 0, true},              // REX2
        {{0x66, 0xE8, 0, 0, 0, 0}, 1, true},              // CALL: Intel ignores 66H
        {{0x66, 0xE9, 0, 0, 0, 0}, 1, true},              // JMP
        {{0x66, 0x48, 0x0F, 0x84, 0, 0, 0, 0}, 2, true},  // JE
    };
    for (const row& unknown : rows) {
        CAPTURE(in_hex(unknown.bytes));
        REQUIRE(length(unknown.bytes, code_size::bits_64) ==
                pt::error{errc::not_supported, unknown.opcode});
        if (!unknown.only_in_64_bit_mode) {
            REQUIRE(length(unknown.bytes, code_size::bits_32) ==
                    pt::error{errc::not_supported, unknown.opcode});
        } else {
            REQUIRE(length(unknown.bytes, code_size::bits_32).has_value());
        }
    }
    // The opcodes that 64-bit mode took away, as [sdm, Opcode Map] marks them with i64.
    for (const int opcode : {0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F,
                             0x60, 0x61, 0x62, 0x82, 0x9A, 0xC4, 0xC5, 0xCE, 0xD4, 0xD5, 0xEA}) {
        std::vector<std::uint8_t> bytes(15);
        bytes[0] = static_cast<std::uint8_t>(opcode);
        REQUIRE(length(bytes, code_size::bits_64) == pt::error{errc::not_supported, 0});
        REQUIRE(length(bytes, code_size::bits_32).has_value());
    }
}

// --- What objdump says --------------------------------------------------------------------------

struct disassembled {
    std::size_t length = 0; ///< 0: objdump says nothing about it
    std::string text;
};

constexpr std::size_t slot = 32; ///< bytes from one instruction to the next; NOPs in between

/// Asks objdump for the instruction at each multiple of `slot`; empty if there is none.
std::vector<disassembled> ask_objdump(const std::vector<std::uint8_t>& bytes, code_size code) {
    std::string file = (std::filesystem::temp_directory_path() / "pt-lengths-XXXXXX").string();
    const int descriptor = mkstemp(file.data());
    REQUIRE(descriptor >= 0);
    std::FILE* const out = fdopen(descriptor, "wb");
    REQUIRE(out != nullptr);
    REQUIRE(std::fwrite(bytes.data(), 1, bytes.size(), out) == bytes.size());
    REQUIRE(std::fclose(out) == 0);

    const std::string machine = code == code_size::bits_64   ? "i386:x86-64"
                                : code == code_size::bits_32 ? "i386"
                                                             : "i8086";
    const std::string command = "LC_ALL=C objdump -D -z -b binary -m " + machine +
                                " --insn-width=16 '" + file + "' 2>/dev/null";
    std::FILE* const pipe = popen(command.c_str(), "r"); // NOLINT(cert-env33-c)
    REQUIRE(pipe != nullptr);
    std::vector<disassembled> found(bytes.size() / slot);
    std::size_t lines = 0;
    char line[1024];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
        // An address, a colon, a tab, the bytes in hex, a tab, the instruction.
        const std::string text = line;
        const std::size_t colon = text.find(":\t");
        const std::size_t tab = text.find('\t', colon + 2);
        if (colon == std::string::npos || tab == std::string::npos) {
            continue;
        }
        ++lines;
        const std::size_t at = std::stoul(text, nullptr, 16);
        if (at % slot == 0) {
            const std::string hex = text.substr(colon + 2, tab - colon - 2);
            const auto digits =
                std::count_if(hex.begin(), hex.end(), [](char c) { return c != ' '; });
            found.at(at / slot) = {static_cast<std::size_t>(digits) / 2, text.substr(tab + 1)};
        }
    }
    pclose(pipe);
    std::filesystem::remove(file);
    if (lines == 0) {
        found.clear();
    }
    return found;
}

/// The first byte that is not a prefix. The instructions here have their REX directly before the
/// opcode, because objdump takes any other for an instruction of its own.
std::size_t opcode_at(const std::uint8_t* bytes, code_size code) {
    const std::string prefixes = "\x66\x67\xF0\xF2\xF3\x26\x2E\x36\x3E\x64\x65";
    std::size_t at = 0;
    while (at != 15 && prefixes.find(static_cast<char>(bytes[at])) != std::string::npos) {
        ++at;
    }
    return at + (code == code_size::bits_64 && (bytes[at] & 0xF0) == 0x40 ? 1 : 0);
}

/// Whether pt says that it does not know this one, and objdump does.
bool is_left_out(const std::uint8_t* bytes, code_size code) {
    const std::size_t at = opcode_at(bytes, code);
    switch (bytes[at]) {
    case 0x62:
    case 0x8F:
    case 0xC4:
    case 0xC5:
    case 0xD5: // VEX and the like
    case 0xD6: return true;
    case 0xE8:
    case 0xE9: return code == code_size::bits_64;
    case 0x0F: break;
    default: return false;
    }
    switch (bytes[at + 1]) {
    case 0x24: // test registers
    case 0x26:
    case 0x78: // EXTRQ, INSERTQ
    case 0xA6: // instructions of VIA's processors
    case 0xA7:
    case 0xB9: // UD1, UD0
    case 0xFF: return true;
    default: return code == code_size::bits_64 && (bytes[at + 1] & 0xF0) == 0x80;
    }
}

TEST_CASE("random instructions are as long as objdump says", "[vcpu][instruction_length]") {
    const std::uint8_t prefixes[] = {0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26,
                                     0x2E, 0x36, 0x3E, 0x64, 0x65};
    constexpr unsigned count = 20'000;
    std::minstd_rand engine{2024};
    const auto random = [&] { return static_cast<unsigned>(engine() >> 8); };
    for (const code_size code : all_codes) {
        std::vector<std::uint8_t> bytes(slot * count, 0x90);
        for (unsigned n = 0; n != count; ++n) {
            std::uint8_t* const at = &bytes[slot * n];
            unsigned used = 0;
            for (unsigned left = random() % 4; left != 0; --left) {
                at[used++] = prefixes[random() % std::size(prefixes)];
            }
            if (code == code_size::bits_64 && random() % 2 != 0) {
                at[used++] = static_cast<std::uint8_t>(0x40 + random() % 16);
            }
            // Every opcode of both large maps in turn, and the two small ones now and then.
            if (n / 256 % 2 != 0) {
                at[used++] = 0x0F;
            }
            at[used++] = static_cast<std::uint8_t>(n);
            while (used != 15) {
                at[used++] = static_cast<std::uint8_t>(random());
            }
        }
        const std::vector<disassembled> expected = ask_objdump(bytes, code);
        if (expected.empty()) {
            SKIP("no objdump");
        }
        unsigned compared = 0;
        for (unsigned n = 0; n != count; ++n) {
            const std::uint8_t* const at = &bytes[slot * n];
            const std::size_t opcode = opcode_at(at, code);
            // objdump takes WAIT and a floating-point instruction behind it for one, and a REX
            // before another prefix for an instruction; it calls bad what no processor executes.
            if (expected[n].length == 0 || expected[n].text.find("(bad)") != std::string::npos ||
                at[opcode] == 0x9B || expected[n].length < opcode + 1) {
                continue;
            }
            CAPTURE(static_cast<int>(code), in_hex({at, at + 15}), expected[n].text);
            const pt::result<std::uint8_t> found = instruction_length(at, slot, code);
            if (!found) {
                REQUIRE((is_left_out(at, code) || expected[n].length > 15));
                continue;
            }
            REQUIRE(*found == expected[n].length);
            ++compared;
        }
        CAPTURE(static_cast<int>(code));
        REQUIRE(compared > count / 2);
    }
}

} // namespace
