// SPDX-License-Identifier: BSL-1.0
#include "pt/assign/processor.hpp"

#include "pt/assign/answer.hpp"
#include "pt/assign/claims.hpp"
#include "pt/core/address.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/processor_signal.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/memory_violation.hpp"

#include <catch2/catch_test_macros.hpp>

#include "processor_rig.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace processor_rig;
using assign::answer;
using assign::inject;
using assign::not_mine;
using assign::resume_again;
using assign::resume_behind;
using enum general_register;
using strings = std::vector<std::string>;
using bytes = std::vector<std::uint8_t>;

const answer general_protection =
    inject(vcpu::exception(vcpu::exception_vector::general_protection, 0));
answer page_fault(std::uint32_t code, std::uint64_t cr2) {
    return inject(vcpu::exception(vcpu::exception_vector::page_fault, code), cr2);
}

vcpu::io_instruction in(std::uint16_t port, width size) {
    return {.port = io_port{port}, .size = size, .direction = vcpu::io_direction::in, .length = 2};
}
vcpu::io_instruction out(std::uint16_t port, width size) {
    return {.port = io_port{port}, .size = size, .length = 2};
}
vcpu::io_instruction string(vcpu::io_instruction of, bool rep) {
    of.string = true;
    of.rep = rep;
    return of;
}

// --- I/O instructions ---------------------------------------------------------------------------

TEST_CASE("IN gives the accumulator what the port answers, OUT gives the port the accumulator",
          "[assign][processor]") {
    machine m;
    REQUIRE(m.ready);
    m.registers()[rax] = 0x1122'3344'5566'7788;
    REQUIRE(m.cpu.on_io(in(0x61, width::byte), m.registers(), 2) == resume_behind(2));
    REQUIRE(m.registers()[rax] == 0x1122'3344'5566'7761);
    REQUIRE(m.cpu.on_io(in(0x60, width::dword), m.registers(), 2) == resume_behind(2));
    REQUIRE(m.registers()[rax] == 0x6362'6160);
    m.registers()[rax] = 0x1122'3344'5566'7788;
    REQUIRE(m.cpu.on_io(out(0x64, width::word), m.registers(), 2) == resume_behind(2));
    REQUIRE(m.device.log == strings{"i1 61=61", "i4 60=63626160", "o2 64=7788"});
}

TEST_CASE("a port for which nobody answers is not pt's, and no register changes",
          "[assign][processor]") {
    machine m;
    m.registers()[rax] = 5;
    m.registers()[rcx] = 3;
    m.registers()[rsi] = 0x2000;
    m.registers()[rdi] = 0x3000;
    const general_registers before = m.registers();
    for (const auto& instruction :
         {in(0x300, width::byte), out(0x300, width::dword), string(in(0x300, width::word), true),
          string(out(0x300, width::word), false)}) {
        REQUIRE(m.cpu.on_io(instruction, m.registers(), 2) == not_mine());
        REQUIRE(m.registers() == before);
    }
    REQUIRE(m.ram(0x3000, 4) == 0x0302'0100);
    auto unknown = in(0x60, width::byte);
    unknown.length = 0; // nobody could say where RIP goes
    REQUIRE(m.cpu.on_io(unknown, m.registers(), 2) == not_mine());
    REQUIRE(m.device.log.empty());
}

TEST_CASE("configuration ports answer in every size: a function that is not there reads all ones "
          "[rule 2] [rule 3]",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    r[rax] = 0x8000'1000;
    REQUIRE(m.cpu.on_io(out(0xCF8, width::dword), r, 2) == resume_behind(2));
    r[rax] = 0;
    REQUIRE(m.cpu.on_io(in(0xCF8, width::dword), r, 2) == resume_behind(2));
    REQUIRE(r[rax] == 0x8000'1000);
    for (const width size : {width::byte, width::word, width::dword}) {
        for (std::uint16_t port = 0xCF5; port != 0xD00; ++port) {
            const unsigned last = port + size_of(size) - 1U;
            const bool touches_data = last >= 0xCFC && port <= 0xCFF;
            r[rax] = 0;
            const auto answer = m.cpu.on_io(in(port, size), r, 2);
            CAPTURE(port, size_of(size));
            if (touches_data || (port == 0xCF8 && size == width::dword)) {
                REQUIRE(answer == resume_behind(2));
                REQUIRE(r[rax] == (touches_data ? all_ones(size) : 0x8000'1000));
            } else {
                REQUIRE(answer == not_mine());
            }
        }
    }
}

TEST_CASE("a long REP goes on in portions, and its registers are right after each",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    r[rcx] = 2 * processor_type::most_elements + 1;
    r[rdi] = 0x2000;
    const auto ins = string(in(0x60, width::word), true);
    REQUIRE(m.cpu.on_io(ins, r, 2) == resume_again());
    REQUIRE(m.device.log.size() == processor_type::most_elements);
    REQUIRE(r[rcx] == processor_type::most_elements + 1);
    REQUIRE(r[rdi] == 0x2000 + 2 * processor_type::most_elements);
    REQUIRE(m.cpu.on_io(ins, r, 2) == resume_again());
    REQUIRE(m.cpu.on_io(ins, r, 2) == resume_behind(2));
    REQUIRE(r[rcx] == 0);
    REQUIRE(m.ram(0x2000 + 4 * processor_type::most_elements, 4) == 0x0302'6160);
}

TEST_CASE("a port that stops answering in the middle of a REP is not pt's from that element on",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    m.device.port_accesses = 2;
    r[rcx] = 5;
    r[rsi] = 0x2000;
    const auto outs = string(out(0x60, width::dword), true);
    REQUIRE(m.cpu.on_io(outs, r, 2) == resume_again());
    REQUIRE((r[rcx] == 3 && r[rsi] == 0x2008));
    REQUIRE(m.cpu.on_io(outs, r, 2) == not_mine());
    REQUIRE((r[rcx] == 3 && r[rsi] == 0x2008));
}

TEST_CASE("OUTS reads through the guest's tables, and its page fault is the guest's",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    m.linear.pages[0x10] = 0x3; // 0x10FFC is 0x3FFC
    m.linear.absent.insert(0x11);
    r[rcx] = 3;
    r[rsi] = 0x1'0FFC;
    REQUIRE(m.cpu.on_io(string(out(0x60, width::dword), true), r, 2) == page_fault(0, 0x1'1000));
    REQUIRE(m.device.log == strings{"o4 60=fffefdfc"});
    REQUIRE((r[rcx] == 2 && r[rsi] == 0x1'1000));
    // With DF it goes down.
    r[rcx] = 2;
    r[rsi] = 0x1'0004;
    REQUIRE(m.cpu.on_io(string(out(0x60, width::dword), true), r, 0x402) == resume_behind(2));
    REQUIRE(r[rsi] == 0xFFFC);
}

// --- Violations ---------------------------------------------------------------------------------

TEST_CASE("loads, stores and arithmetic at a device are executed, each with its own width",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    r[rdi] = 0xA'0010;
    r[rax] = 0x1122'3344'5566'7788;
    REQUIRE(m.violate(0xA'0010, {0x89, 0x07}) == resume_behind(2));             // mov [rdi], eax
    REQUIRE(m.violate(0xA'0014, {0x66, 0x89, 0x47, 0x04}) == resume_behind(4)); // +4: ax
    REQUIRE(m.violate(0xA'0010, {0x48, 0x89, 0x07}) == resume_behind(3));       // rax
    REQUIRE(m.violate(0xA'0010, {0xC6, 0x07, 0x5A}) == resume_behind(3));       // byte, 5Ah
    REQUIRE(m.violate(0xA'0010, {0x8B, 0x1F}) == resume_behind(2));             // mov ebx, [rdi]
    REQUIRE(r[rbx] == 0x1312'1110);
    REQUIRE(m.violate(0xA'0010, {0x0F, 0xB6, 0x0F}) == resume_behind(3)); // movzx ecx, byte
    REQUIRE(r[rcx] == 0x10);
    REQUIRE(m.violate(0xA'0010, {0x83, 0x0F, 0x01}) == resume_behind(3)); // or dword, 1
    REQUIRE(m.violate(0xA'0010, {0xF6, 0x07, 0x0F}) == resume_behind(3)); // test byte, 0Fh
    REQUIRE((m.first.rflags & 0x40) != 0);                                // ZF
    REQUIRE(m.device.log == strings{"w4 a0010=55667788", "w2 a0014=7788",
                                    "w8 a0010=1122334455667788", "w1 a0010=5a", "r4 a0010=13121110",
                                    "r1 a0010=10", "r4 a0010=13121110", "w4 a0010=13121111",
                                    "r1 a0010=10"});
}

TEST_CASE("bytes that the processor gave are used, and what they lack is fetched",
          "[assign][processor]") {
    machine m;
    m.registers()[rdi] = 0xA'0000;
    m.put(0x1000, {0x90, 0x90, 0x33, 0x22}); // what the guest has there by now
    vcpu::instruction_bytes at{.rip = 0x1000, .count = 2, .bytes = {0x8B, 0x07}};
    REQUIRE(m.cpu.on_memory_violation(m.violation(0xA'0000), at, m.registers(), m.first.rflags) ==
            resume_behind(2));
    REQUIRE(m.linear.located == 1); // of the operand alone
    at.bytes[0] = 0xC6;             // mov byte [rdi], imm8
    REQUIRE(m.cpu.on_memory_violation(m.violation(0xA'0000), at, m.registers(), m.first.rflags) ==
            resume_behind(3));
    REQUIRE(m.device.log == strings{"r4 a0000=3020100", "w1 a0000=33"});
}

TEST_CASE("an instruction is fetched to its end, and a fault behind its end is none",
          "[assign][processor]") {
    machine m;
    m.registers()[rdi] = 0xA'0000;
    m.put(0x1FFE, {0x8B, 0x07}); // mov eax, [rdi] at the very end of a page
    m.linear.absent.insert(0x2);
    const auto run = [&](std::uint64_t rip) {
        return m.cpu.on_memory_violation(m.violation(0xA'0000), {.rip = rip}, m.registers(),
                                         m.first.rflags);
    };
    REQUIRE(run(0x1FFE) == resume_behind(2));
    m.linear.code_limit = 0x1FFF; // likewise the end of the segment
    REQUIRE(run(0x1FFE) == resume_behind(2));
    m.linear.code_limit = 0x1FFE;
    REQUIRE(run(0x1FFE) == general_protection);
    m.linear.code_limit = ~std::uint64_t{0};

    m.put(0x1FFD, {0x8B, 0x87, 0x00}); // mov eax, [rdi + disp32], across the pages
    m.linear.pages[0x2] = 0x7;
    m.put(0x7000, {0x10, 0x00, 0x00});
    REQUIRE(run(0x1FFD) == page_fault(16, 0x2000)); // a fetch
    m.linear.absent.clear();
    m.device.log.clear();
    m.put(0x1FFD, {0x8B, 0x87, 0x10});
    m.put(0x7000, {0x00, 0x00, 0x00});
    REQUIRE(run(0x1FFD) == resume_behind(6));
    REQUIRE(m.device.log.empty() == false);
    m.linear.not_executable.insert(0x1);
    REQUIRE(run(0x1FFD) == page_fault(17, 0x1FFD));
}

TEST_CASE("what pt does not execute is not its own, and nothing has changed",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    r[rdi] = 0xA'0000;
    const general_registers before = r;
    for (const bytes& program : {
             bytes{0xF7, 0x27},             // mul dword [rdi]
             bytes{0x0F, 0x6F, 0x07},       // movq mm0, [rdi]
             bytes{0xFF, 0x37},             // push qword [rdi]
             bytes{0xC5, 0xF8, 0x10, 0x07}, // vmovups xmm0, [rdi]
             bytes{0x89, 0xC3},             // mov ebx, eax: no memory
             bytes{0xF0, 0x89, 0x07},       // lock mov: #UD
             bytes(15, 0x66),               // no end
             bytes{0x0F, 0xFF},             // UD0
         }) {
        REQUIRE(m.violate(0xA'0000, program) == not_mine());
        REQUIRE(r == before);
    }
    REQUIRE(m.device.log.empty());
    REQUIRE(m.first.rflags == 2);
}

TEST_CASE("fetches, walks of the guest's own tables and what no instruction did are not executed",
          "[assign][processor]") {
    machine m;
    m.registers()[rdi] = 0xA'0000;
    m.put(0x1000, {0x8B, 0x07});
    const auto run = [&](const vcpu::memory_violation& violation) {
        return m.cpu.on_memory_violation(violation, {.rip = 0x1000}, m.registers(), m.first.rflags);
    };
    REQUIRE(run({.address = gpa{0xA'0000}, .execute = true}) == not_mine());
    REQUIRE(run({.address = gpa{0xA'0000}, .read = true, .final_translation = false}) ==
            not_mine());
    REQUIRE(run({.address = gpa{0xA'0000}, .write = true, .asynchronous = true}) == not_mine());
    REQUIRE(m.device.log.empty());
    // Of memory that was given meanwhile all of them come again.
    REQUIRE(run({.address = gpa{0x5000}, .execute = true}) == resume_again());
    REQUIRE(run({.address = gpa{0x5000}, .read = true, .final_translation = false}) ==
            resume_again());
    REQUIRE(run({.address = gpa{0x5000}, .write = true, .asynchronous = true}) == resume_again());
    // But not if it was mapped, and does not allow it: that would never end.
    REQUIRE(run({.address = gpa{0x5000}, .execute = true, .mapped = true}) == not_mine());
    m.registers()[rdi] = 0x5000;
    REQUIRE(run({.address = gpa{0x5000}, .write = true, .mapped = true}) == not_mine());
}

TEST_CASE("where nobody answers is not pt's", "[assign][processor]") {
    machine m;
    m.registers()[rdi] = 0xC'0000;
    const general_registers before = m.registers();
    REQUIRE(m.violate(0xC'0000, {0x8B, 0x07}) == not_mine());
    REQUIRE(m.violate(0xC'0000, {0x89, 0x07}) == not_mine());
    REQUIRE(m.violate(0xC'0000, {0x01, 0x07}) == not_mine());
    REQUIRE(m.registers() == before);
    REQUIRE(m.first.rflags == 2);
    // A device that can be read only: the instruction has read it, and is given up.
    m.device.takes_writes = false;
    m.registers()[rdi] = 0xA'0000;
    REQUIRE(m.violate(0xA'0000, {0x01, 0x07}) == not_mine()); // add [rdi], eax
    REQUIRE(m.first.rflags == 2);
    REQUIRE(m.device.log == strings{"r4 a0000=3020100"});
}

TEST_CASE("an operand's own page fault is the guest's, a read-modify-write faults as a write",
          "[assign][processor]") {
    machine m;
    m.linear.pages[0x50] = 0xA0;
    m.registers()[rdi] = 0x5'0020;
    REQUIRE(m.violate(0xA'0020, {0x8B, 0x07}) == resume_behind(2));
    m.linear.read_only.insert(0x50);
    REQUIRE(m.violate(0xA'0020, {0x8B, 0x07}) == resume_behind(2));
    REQUIRE(m.violate(0xA'0020, {0x01, 0x07}) == page_fault(3, 0x5'0020)); // add [rdi], eax
    REQUIRE(m.violate(0xA'0020, {0x87, 0x07}) == page_fault(3, 0x5'0020)); // xchg
    REQUIRE(m.violate(0xA'0020, {0x39, 0x07}) == resume_behind(2));        // cmp only reads
    m.linear.absent.insert(0x50);
    REQUIRE(m.violate(0xA'0020, {0x8B, 0x07}) == page_fault(0, 0x5'0020));
    REQUIRE(m.device.log == strings{"r4 a0020=23222120", "r4 a0020=23222120", "r4 a0020=23222120"});
}

TEST_CASE("an instruction that does not touch the page of the exit is tried again",
          "[assign][processor]") {
    machine m; // another processor has written other code there, or other tables
    m.registers()[rdi] = 0xA'0000;
    REQUIRE(m.violate(0xB'0000, {0x8B, 0x07}) == resume_again());
    REQUIRE(m.device.log.empty());
    m.linear.pages[0xA0] = 0x5; // by now it is RAM
    REQUIRE(m.violate(0xA'0000, {0x8B, 0x07}) == resume_again());
}

TEST_CASE(
    "an operand across the end of the device is its bytes where it answers, and memory elsewhere",
    "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    // Linear 0x50000 is the device, 0x51000 is RAM at 0x6000.
    m.linear.pages[0x50] = 0xA0;
    m.linear.pages[0x51] = 0x6;
    r[rdi] = 0x5'0FFE;
    REQUIRE(m.violate(0xA'0FFE, {0x8B, 0x07}) == resume_behind(2)); // mov eax, [rdi]
    REQUIRE(r[rax] == 0x0100'FFFE);
    r[rax] = 0x1122'3344;
    REQUIRE(m.violate(0xA'0FFE, {0x89, 0x07}) == resume_behind(2));
    REQUIRE(m.ram(0x6000, 4) == 0x0302'1122);
    REQUIRE(m.device.log == strings{"r1 a0ffe=fe", "r1 a0fff=ff", "w1 a0ffe=44", "w1 a0fff=33"});
    m.device.log.clear();

    // The other way round: it begins in RAM.
    m.linear.pages[0x50] = 0x6;
    m.linear.pages[0x51] = 0xA0;
    r[rax] = 0x5566'7788;
    REQUIRE(m.violate(0xA'0000, {0x89, 0x07}) == resume_behind(2));
    REQUIRE(m.ram(0x6FFC, 4) == 0x7788'FDFC);
    REQUIRE(m.device.log == strings{"w1 a0000=66", "w1 a0001=55"});
    m.device.log.clear();

    // Nobody at all behind the device: reads are ones there, and writes vanish.
    m.linear.pages[0x50] = 0xA0;
    m.linear.pages[0x51] = 0xC0;
    REQUIRE(m.violate(0xA'0FFE, {0x8B, 0x07}) == resume_behind(2));
    REQUIRE(r[rax] == 0xFFFF'FFFE);
    REQUIRE(m.violate(0xA'0FFE, {0x89, 0x07}) == resume_behind(2));
    // And nobody where it exited: not pt's, and RAM has not changed.
    m.linear.pages[0x50] = 0x6;
    r[rax] = 0;
    REQUIRE(m.violate(0xC'0000, {0x89, 0x07}) == not_mine());
    REQUIRE(m.ram(0x6FFC, 4) == 0x7788'FDFC);
}

TEST_CASE("strings move between a device and memory, in portions", "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    r[rcx] = processor_type::most_elements + 2;
    r[rsi] = 0x2000;
    r[rdi] = 0xA'0000;
    const bytes rep_movsd{0xF3, 0xA5};
    REQUIRE(m.violate(0xA'0000, rep_movsd) == resume_again());
    REQUIRE(r[rcx] == 2);
    REQUIRE(m.device.log.size() == processor_type::most_elements);
    REQUIRE(m.device.log[1] == "w4 a0004=7060504");
    REQUIRE(m.violate(0xA'0000 + 4 * processor_type::most_elements, rep_movsd) == resume_behind(2));
    REQUIRE((r[rcx] == 0 && r[rsi] == 0x2000 + 4 * (processor_type::most_elements + 2)));
    m.device.log.clear();

    r[rsi] = 0xA'0021; // and back
    r[rdi] = 0x3001;
    REQUIRE(m.violate(0xA'0021, {0xA4}) == resume_behind(1)); // movsb
    REQUIRE(m.ram(0x3000, 4) == 0x0302'2100);
    r[rdi] = 0xA'0040;
    r[rax] = 0x77;
    r[rcx] = 2;
    REQUIRE(m.violate(0xA'0040, {0xF3, 0xAA}) == resume_behind(2)); // rep stosb
    r[rsi] = 0xA'0050;
    REQUIRE(m.violate(0xA'0050, {0x66, 0xAD}) == resume_behind(2)); // lodsw
    REQUIRE(r[rax] == 0x5150);
    REQUIRE(m.device.log == strings{"r1 a0021=21", "w1 a0040=77", "w1 a0041=77", "r2 a0050=5150"});
}

TEST_CASE("a REP that leaves the device's page is left to the processor again",
          "[assign][processor]") {
    machine m;
    general_registers& r = m.registers();
    m.linear.pages[0x50] = 0xA0;
    m.linear.pages[0x51] = 0x6;
    r[rcx] = 4;
    r[rdi] = 0x5'0FF8;
    r[rax] = 0;
    REQUIRE(m.violate(0xA'0FF8, {0xF3, 0xAB}) == resume_again()); // rep stosd
    REQUIRE((r[rcx] == 2 && r[rdi] == 0x5'1000));
    REQUIRE(m.ram(0x6000, 4) == 0x0302'0100); // not touched here
    // A fault in the middle comes with the registers of the elements that were done.
    m.linear.absent.insert(0x51);
    r[rcx] = 4;
    r[rdi] = 0x5'0FF8;
    REQUIRE(m.violate(0xA'0FF8, {0xF3, 0xAB}) == page_fault(2, 0x5'1000));
    REQUIRE((r[rcx] == 2 && r[rdi] == 0x5'1000));
    // And where the device ends inside of its page.
    m.device.end = 0xA'0FFC;
    r[rcx] = 4;
    r[rdi] = 0x5'0FF8;
    REQUIRE(m.violate(0xA'0FF8, {0xF3, 0xAB}) == resume_again());
    REQUIRE((r[rcx] == 3 && r[rdi] == 0x5'0FFC));
    REQUIRE(m.violate(0xA'0FFC, {0xF3, 0xAB}) == not_mine());
    REQUIRE((r[rcx] == 3 && r[rdi] == 0x5'0FFC));
    r[rcx] = 0;
    m.linear.absent.insert(0x50);
    REQUIRE(m.violate(0xA'0FFC, {0xF3, 0xAB}) ==
            resume_behind(2)); // nothing to do, nothing to fault
}

TEST_CASE("16-bit code reaches a device below 64 KiB with its own sizes", "[assign][processor]") {
    machine m;
    m.linear.pages[0x8] = 0xA0;
    m.registers()[rbx] = 0xFFFF'8010;
    m.registers()[rsi] = 0x1'0004;
    m.registers()[rax] = 0xAABB'CCDD;
    const auto code = vcpu::code_size::bits_16;
    REQUIRE(m.violate(0xA'0014, {0x89, 0x00}, code) == resume_behind(2)); // mov [bx + si], ax
    REQUIRE(m.violate(0xA'0014, {0x66, 0x8B, 0x08}, code) ==
            resume_behind(3)); // mov ecx, [bx + si]
    REQUIRE(m.registers()[rcx] == 0x1716'1514);
    REQUIRE(m.device.log == strings{"w2 a0014=ccdd", "r4 a0014=17161514"});
}

} // namespace
