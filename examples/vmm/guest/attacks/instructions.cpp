// SPDX-License-Identifier: BSL-1.0
//
// Instructions with an operand in a device's registers. A VMM that has to carry them out itself is
// held against the processor: each one is executed on a dword of memory first, and what it does
// there is what it must do to a register that keeps all of its bits.
#include "../attempt.hpp"
#include "../interrupts.hpp"
#include "../local_apic.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include <cstddef>

namespace guest {
namespace {

constexpr std::uint64_t arithmetic = 0x8D5;          ///< CF PF AF ZF SF OF
constexpr std::uint64_t logical = arithmetic - 0x10; ///< AF is undefined
constexpr std::uint64_t bit_test = 0x001;            ///< only CF is defined
constexpr std::uint64_t none = 0;

struct form {
    const char* name;
    std::uint8_t length;
    std::uint8_t bytes[16];
    std::uint64_t flags; ///< that are compared
};

/// All with the operand at [rdi], or at [rsi] for those that read there.
constexpr form common[] = {
    {"mov [], eax", 2, {0x89, 0x07}, none},
    {"mov eax, []", 2, {0x8B, 0x07}, none},
    {"mov [], imm32", 6, {0xC7, 0x07, 0x78, 0x56, 0x34, 0x12}, none},
    {"mov r8d, []; mov eax, r8d", 6, {0x44, 0x8B, 0x07, 0x44, 0x89, 0xC0}, none},
    {"movsxd rax, []", 3, {0x48, 0x63, 0x07}, none},
    {"add [], eax", 2, {0x01, 0x07}, arithmetic},
    {"add eax, []", 2, {0x03, 0x07}, arithmetic},
    {"or [], eax", 2, {0x09, 0x07}, logical},
    {"or eax, []", 2, {0x0B, 0x07}, logical},
    {"adc [], eax", 2, {0x11, 0x07}, arithmetic},
    {"adc eax, []", 2, {0x13, 0x07}, arithmetic},
    {"sbb [], eax", 2, {0x19, 0x07}, arithmetic},
    {"sbb eax, []", 2, {0x1B, 0x07}, arithmetic},
    {"and [], eax", 2, {0x21, 0x07}, logical},
    {"and eax, []", 2, {0x23, 0x07}, logical},
    {"sub [], eax", 2, {0x29, 0x07}, arithmetic},
    {"sub eax, []", 2, {0x2B, 0x07}, arithmetic},
    {"xor [], eax", 2, {0x31, 0x07}, logical},
    {"xor eax, []", 2, {0x33, 0x07}, logical},
    {"cmp [], eax", 2, {0x39, 0x07}, arithmetic},
    {"cmp eax, []", 2, {0x3B, 0x07}, arithmetic},
    {"add [], imm32", 6, {0x81, 0x07, 0xFF, 0xFF, 0xFF, 0x7F}, arithmetic},
    {"or [], imm32", 6, {0x81, 0x0F, 0x01, 0x02, 0x04, 0x08}, logical},
    {"adc [], imm32", 6, {0x81, 0x17, 0xFF, 0xFF, 0xFF, 0xFF}, arithmetic},
    {"sbb [], imm32", 6, {0x81, 0x1F, 0x00, 0x00, 0x00, 0x80}, arithmetic},
    {"and [], imm32", 6, {0x81, 0x27, 0xF0, 0xF0, 0xF0, 0xF0}, logical},
    {"sub [], imm32", 6, {0x81, 0x2F, 0x11, 0x11, 0x11, 0x11}, arithmetic},
    {"xor [], imm32", 6, {0x81, 0x37, 0x55, 0x55, 0x55, 0x55}, logical},
    {"cmp [], imm32", 6, {0x81, 0x3F, 0x00, 0x00, 0x00, 0x40}, arithmetic},
    {"add [], imm8", 3, {0x83, 0x07, 0x80}, arithmetic},
    {"or [], imm8", 3, {0x83, 0x0F, 0x81}, logical},
    {"adc [], imm8", 3, {0x83, 0x17, 0xFF}, arithmetic},
    {"sbb [], imm8", 3, {0x83, 0x1F, 0x01}, arithmetic},
    {"and [], imm8", 3, {0x83, 0x27, 0xF0}, logical},
    {"sub [], imm8", 3, {0x83, 0x2F, 0x7F}, arithmetic},
    {"xor [], imm8", 3, {0x83, 0x37, 0xFF}, logical},
    {"cmp [], imm8", 3, {0x83, 0x3F, 0x7F}, arithmetic},
    {"test [], eax", 2, {0x85, 0x07}, logical},
    {"test [], imm32", 6, {0xF7, 0x07, 0x00, 0x00, 0x00, 0x80}, logical},
    {"xchg [], eax", 2, {0x87, 0x07}, none},
    {"not []", 2, {0xF7, 0x17}, none},
    {"neg []", 2, {0xF7, 0x1F}, arithmetic},
    {"inc []", 2, {0xFF, 0x07}, arithmetic},
    {"dec []", 2, {0xFF, 0x0F}, arithmetic},
    {"bt [], 31", 4, {0x0F, 0xBA, 0x27, 0x1F}, bit_test},
    {"bts [], 3", 4, {0x0F, 0xBA, 0x2F, 0x03}, bit_test},
    {"btr [], 4", 4, {0x0F, 0xBA, 0x37, 0x04}, bit_test},
    {"btc [], 5", 4, {0x0F, 0xBA, 0x3F, 0x05}, bit_test},
    {"lock add [], eax", 3, {0xF0, 0x01, 0x07}, arithmetic},
    {"lock xchg [], eax", 3, {0xF0, 0x87, 0x07}, none},
    {"lock inc []", 3, {0xF0, 0xFF, 0x07}, arithmetic},
    {"lock bts [], 7", 5, {0xF0, 0x0F, 0xBA, 0x2F, 0x07}, bit_test},
    {"stosd", 1, {0xAB}, none},
    {"lodsd", 1, {0xAD}, none},
    {"rep stosd, once", 2, {0xF3, 0xAB}, none},
    {"mov [edi], eax", 3, {0x67, 0x89, 0x07}, none},
    {"mov fs:[], eax", 3, {0x64, 0x89, 0x07}, none},
    {"mov [rdi + 0], eax", 3, {0x89, 0x47, 0x00}, none},
    {"mov [rdi + 0], eax, 32 bits of 0", 6, {0x89, 0x87, 0x00, 0x00, 0x00, 0x00}, none},
    {"mov [rdi + r8 * 8], eax", 4, {0x42, 0x89, 0x04, 0xC7}, none},
    {"mov [], eax behind nine prefixes",
     11,
     {0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65, 0x3E, 0x3E, 0x3E, 0x89, 0x07},
     none},
};

/// What drivers do not do to registers. Whoever runs the guest may carry it out, or have it fault.
constexpr form odd[] = {
    {"mov [], al", 2, {0x88, 0x07}, none},
    {"mov al, []", 2, {0x8A, 0x07}, none},
    {"mov [], ax", 3, {0x66, 0x89, 0x07}, none},
    {"mov [], rax", 3, {0x48, 0x89, 0x07}, none},
    {"mov rax, []", 3, {0x48, 0x8B, 0x07}, none},
    {"movzx eax, byte []", 3, {0x0F, 0xB6, 0x07}, none},
    {"movzx eax, word []", 3, {0x0F, 0xB7, 0x07}, none},
    {"movsx eax, byte []", 3, {0x0F, 0xBE, 0x07}, none},
    {"movsx rax, word []", 4, {0x48, 0x0F, 0xBF, 0x07}, none},
    {"or byte [], 1", 3, {0x80, 0x0F, 0x01}, none},
    {"add qword [], rax", 3, {0x48, 0x01, 0x07}, none},
    {"cmpxchg [], ecx", 3, {0x0F, 0xB1, 0x0F}, none},
    {"lock cmpxchg [], ecx", 4, {0xF0, 0x0F, 0xB1, 0x0F}, none},
    {"xadd [], eax", 3, {0x0F, 0xC1, 0x07}, none},
    {"cmpxchg8b []", 3, {0x0F, 0xC7, 0x0F}, none},
    {"lock cmpxchg16b []", 5, {0xF0, 0x48, 0x0F, 0xC7, 0x0F}, none},
    {"movnti [], eax", 3, {0x0F, 0xC3, 0x07}, none},
    {"movbe eax, []", 4, {0x0F, 0x38, 0xF0, 0x07}, none},
    {"shl [], 1", 2, {0xD1, 0x27}, none},
    {"rol [], 5", 3, {0xC1, 0x07, 0x05}, none},
    {"shld [], eax, 4", 4, {0x0F, 0xA4, 0x07, 0x04}, none},
    {"imul eax, []", 3, {0x0F, 0xAF, 0x07}, none},
    {"mul []", 2, {0xF7, 0x27}, none},
    {"div []", 2, {0xF7, 0x37}, none},
    {"cmovz eax, []", 3, {0x0F, 0x44, 0x07}, none},
    {"setz []", 3, {0x0F, 0x94, 0x07}, none},
    {"bt [], eax, far behind", 3, {0x0F, 0xA3, 0x07}, none},
    {"bts [], eax, far behind", 3, {0x0F, 0xAB, 0x07}, none},
    {"bsf eax, []", 3, {0x0F, 0xBC, 0x07}, none},
    {"popcnt eax, []", 4, {0xF3, 0x0F, 0xB8, 0x07}, none},
    {"crc32 eax, []", 5, {0xF2, 0x0F, 0x38, 0xF1, 0x07}, none},
    {"push []; add rsp, 8", 6, {0xFF, 0x37, 0x48, 0x83, 0xC4, 0x08}, none},
    {"push rax; pop []", 3, {0x50, 0x8F, 0x07}, none},
    {"mov [], ds", 2, {0x8C, 0x1F}, none},
    {"mov es, []", 2, {0x8E, 0x07}, none},
    {"call far []", 2, {0xFF, 0x1F}, none},
    {"jmp far []", 2, {0xFF, 0x2F}, none},
    {"lfs eax, []", 3, {0x0F, 0xB4, 0x07}, none},
    {"lgs rax, []", 4, {0x48, 0x0F, 0xB5, 0x07}, none},
    {"lss eax, []", 3, {0x0F, 0xB2, 0x07}, none},
    {"sgdt []", 3, {0x0F, 0x01, 0x07}, none},
    {"sidt []", 3, {0x0F, 0x01, 0x0F}, none},
    {"sldt []", 3, {0x0F, 0x00, 0x07}, none},
    {"str []", 3, {0x0F, 0x00, 0x0F}, none},
    {"verr []", 3, {0x0F, 0x00, 0x27}, none},
    {"smsw []", 3, {0x0F, 0x01, 0x27}, none},
    {"fld dword []; ffree", 4, {0xD9, 0x07, 0xDD, 0xC0}, none},
    {"fist dword []", 2, {0xDB, 0x17}, none},
    {"fnstenv []", 2, {0xD9, 0x37}, none},
    {"movups xmm0, []", 3, {0x0F, 0x10, 0x07}, none},
    {"movups [], xmm0", 3, {0x0F, 0x11, 0x07}, none},
    {"movdqu xmm0, []", 4, {0xF3, 0x0F, 0x6F, 0x07}, none},
    {"vmovdqu ymm0, []", 4, {0xC5, 0xFE, 0x6F, 0x07}, none},
    {"fxsave []", 3, {0x0F, 0xAE, 0x07}, none},
    {"clflush []", 3, {0x0F, 0xAE, 0x3F}, none},
    {"prefetcht0 []", 3, {0x0F, 0x18, 0x0F}, none},
    {"invlpg []", 3, {0x0F, 0x01, 0x3F}, none},
    {"xlatb", 1, {0xD7}, none},
    {"insd", 1, {0x6D}, none},
    {"outsd", 1, {0x6F}, none},
    {"cmpsd", 1, {0xA7}, none},
    {"scasd", 1, {0xAF}, none},
    {"movsd", 1, {0xA5}, none},
    {"movsb", 1, {0xA4}, none},
    {"lock mov [], eax", 3, {0xF0, 0x89, 0x07}, none},
    {"rep mov [], eax", 3, {0xF3, 0x89, 0x07}, none},
    {"an undefined opcode", 3, {0x0F, 0xFF, 0x07}, none},
    {"sixteen bytes",
     16,
     {0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x3E, 0x89,
      0x07},
     none},
};

alignas(4096) std::uint8_t code[3 * 4096];
constexpr std::uint8_t ret = 0xC3;

/// What an instruction finds and leaves.
struct machine_state {
    std::uint64_t rax;
    std::uint64_t rcx;
    std::uint64_t rflags;
    bool faulted;
};

/// Executes the bytes at `at` of the code area with RDI and RSI at the operand.
machine_state execute(const form& which, std::size_t at, std::uint64_t operand, std::uint64_t rax) {
    for (std::size_t i = 0; i != which.length; ++i) {
        const_cast<volatile std::uint8_t&>(code[at + i]) = which.bytes[i];
    }
    const_cast<volatile std::uint8_t&>(code[at + which.length]) = ret;
    machine_state state{rax, 1, 0, false};
    state.faulted = !attempt([&] {
        std::uint64_t rdi = operand;
        std::uint64_t rsi = operand;
        std::uint64_t rbx = operand;
        std::uint64_t rdx = 0x80;
        // R8 is 0 for the form with an index; CF is set, for those that add it. After a jump the
        // processor executes what was written [sdm, Handling Self- and Cross-Modifying Code].
        asm volatile("xor %%r8d, %%r8d; stc; call *%[code]; pushfq; popq %[flags]; cld"
                     : "+a"(state.rax), "+c"(state.rcx), "+D"(rdi), "+S"(rsi), "+b"(rbx),
                       "+d"(rdx), [flags] "=&r"(state.rflags)
                     : [code] "r"(code + at)
                     : "memory", "cc", "r8");
    });
    return state;
}

struct device_register {
    const char* name;
    std::uint64_t address;
};

void compare_forms(const device_register& what, std::size_t at) {
    alignas(64) static volatile std::uint32_t memory[16];
    auto* const device = reinterpret_cast<volatile std::uint32_t*>(what.address);
    unsigned wrong = 0;
    unsigned tried = 0;
    for (const form& each : common) {
        for (const std::uint32_t value : {0x8000'0010U, 0x7FFF'FFFFU, 0U}) {
            const std::uint64_t rax = value == 0 ? 0xFFFF'FFFF'FFFF'FFFF : 0x0000'0001'8000'00F1;
            memory[0] = value;
            const machine_state meant = execute(each, at, address_of(memory), rax);
            const std::uint32_t left = memory[0];
            *device = value;
            const machine_state got = execute(each, at, what.address, rax);
            const std::uint32_t held = *device;
            ++tried;
            const bool same = got.faulted == meant.faulted && got.rax == meant.rax &&
                              held == left && ((got.rflags ^ meant.rflags) & each.flags) == 0;
            if (!same) {
                ++wrong;
                tell("  ", each.name, " with ", std::uint64_t{value}, ": left ",
                     std::uint64_t{held}, " where memory has ", std::uint64_t{left}, ", RAX ",
                     got.rax, " and ", meant.rax, ", RFLAGS ", got.rflags, " and ", meant.rflags,
                     got.faulted ? ", it faulted" : "");
            }
        }
    }
    *device = 0;
    check_equal(wrong, 0, what.name, ": ", decimal{tried},
                " instructions did what they do to memory",
                at % 4096 == 0 ? "" : ", with bytes on two pages");
}

void try_odd_forms(const device_register& what) {
    const std::uint32_t before = faults_taken();
    for (const form& each : odd) {
        static_cast<void>(execute(each, 0, what.address, 0x0000'0000'0000'1000));
    }
    asm volatile("mov %0, %%es; mov %0, %%ds; mov %0, %%ss" : : "r"(0x10));
    tell(decimal{sizeof odd / sizeof odd[0]}, " others on ", what.name, ": ",
         decimal{faults_taken() - before}, " faults");
    check(true, "the program goes on");
}

/// Moffs, which has the address in the instruction.
void compare_absolute(const device_register& what) {
    form store{"mov [moffs], eax", 9, {0xA3}, none};
    form load{"mov eax, [moffs]", 9, {0xA1}, none};
    for (unsigned i = 0; i != 8; ++i) {
        store.bytes[1 + i] = load.bytes[1 + i] = static_cast<std::uint8_t>(what.address >> 8 * i);
    }
    auto* const device = reinterpret_cast<volatile std::uint32_t*>(what.address);
    *device = 0;
    static_cast<void>(execute(store, 0, 0, 0x1234'5670));
    check_equal(*device, 0x1234'5670, what.name, ": with its address in the instruction, written");
    check_equal(execute(load, 0, 0, 0).rax, 0x1234'5670, "and read");
    *device = 0;
}

/// Accesses that begin on one page and end on the next.
void cross_pages(std::uint64_t page_end, const char* what) {
    const std::uint32_t before = faults_taken();
    for (std::uint64_t at = page_end - 7; at != page_end; ++at) {
        attempt([&] { static_cast<void>(*reinterpret_cast<volatile std::uint64_t*>(at)); });
        attempt([&] { static_cast<void>(*reinterpret_cast<volatile std::uint32_t*>(at)); });
        attempt([&] { static_cast<void>(*reinterpret_cast<volatile std::uint16_t*>(at)); });
    }
    tell("reads across the end of ", what, ": ", decimal{faults_taken() - before}, " faults");
    check(true, "the program goes on");
}

} // namespace

void attack_instructions(nic& device) {
    std::uint64_t cr4 = 0;
    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    asm volatile("mov %0, %%cr4" : : "r"(cr4 | 1U << 9)); // OSFXSR: SSE instructions are there
    take_timer();

    if (!local_apic::is_x2apic()) {
        const std::uint64_t page = local_apic::base()[pt::lapic::apic_base::base].raw;
        // The timer is masked, so its initial count is a register like memory.
        using lvt = pt::lapic::local_vector_entry;
        local_apic::write(lvt_timer_offset, lvt{lvt::masked(true), lvt::vector(timer_vector)}.raw);
        const device_register count{"the timer's initial count", page + initial_count_offset};
        compare_forms(count, 0);
        compare_forms(count, 4095);
        compare_absolute(count);
        try_odd_forms(count);
        cross_pages(page + 4096, "the local APIC's page");
        restore_interrupts();
    }
    device.turn_on();
    static_cast<void>(device.bring_up());
    if (const auto table = device.msi_x_table()) {
        const auto layout = device.msi_x();
        const std::uint64_t place =
            device.bars().find(layout->table.bar)->address + layout->table.offset;
        const device_register data{"an MSI-X entry's data", place + 8};
        compare_forms(data, 0);
        compare_forms(data, 4095);
        compare_absolute(data);
        try_odd_forms(data);
        cross_pages(place + 4096 - layout->table.offset % 4096, "the MSI-X table's page");
    } else {
        tell("the NIC has no MSI-X");
    }
    const device_register base{"the NIC's TDBAH",
                               device.memory().address + pt::e1000e::tdbah::offset};
    compare_forms(base, 0);
    compare_absolute(base);
    asm volatile("mov %0, %%cr4" : : "r"(cr4));
    give_timer();
    restore_interrupts();
}

} // namespace guest
