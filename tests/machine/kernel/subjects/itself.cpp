// SPDX-License-Identifier: BSL-1.0
//
// The kernel itself: what every other subject believes of it. Told to, it fails in each way that
// the runner must notice.
#include "../../../../examples/kernel/interrupts.hpp"
#include "../kernel.hpp"

#include "pt/core/contract.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::told;

void fail_as_told() {
    check("this one holds", true);
    if (told("check")) {
        check("this one does not", false);
    } else if (told("result")) {
        check("this one does not", pt::result<>{pt::error{pt::errc::time_out, 0x28}});
    } else if (told("number")) {
        check_equal("this one does not", 0x1F, 0xFFFF'0000'0000'0000);
    } else if (told("name")) {
        check("this one holds", true); // a second time
    } else if (told("exception")) {
        asm volatile("ud2");
    } else if (told("contract")) {
        pt::expects(false, "a broken contract");
    } else if (told("lost")) {
        kernel::print("ok nobody has counted this one\n");
    } else if (told("status")) {
        kernel::print("end of 1 checks\n");
        kernel::ports{}.out32(pt::io_port{0xF4}, 5);
    } else if (told("hang")) {
        asm volatile("cli; hlt");
    } else if (told("reset")) {
        const struct [[gnu::packed]] {
            std::uint16_t limit = 0;
            std::uint64_t base = 0;
        } no_gates;
        asm volatile("lidt %0; ud2" : : "m"(no_gates));
    }
}

/// Whether all registers are after an interrupt what they were before.
bool registers_survive() {
    bool survived = false;
    asm volatile("push %%rbp\n"
                 ".set value, 0x1234\n"
                 ".irp name, rax,rbx,rcx,rdx,rsi,rdi,rbp,r8,r9,r10,r11,r12,r13,r14,r15\n"
                 "mov $value, %%\\name\n"
                 ".set value, value + 1\n"
                 ".endr\n"
                 "int $0x31\n"
                 ".set value, 0x1234\n"
                 ".irp name, rax,rbx,rcx,rdx,rsi,rdi,rbp,r8,r9,r10,r11,r12,r13,r14,r15\n"
                 "cmp $value, %%\\name\n"
                 "jne 1f\n"
                 ".set value, value + 1\n"
                 ".endr\n"
                 "1: sete %%al\n"
                 "pop %%rbp"
                 : "=a"(survived)
                 :
                 : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                   "r15", "cc", "memory");
    return survived;
}

void run() {
    if (told("failing")) {
        fail_as_told();
        return;
    }

    // Static storage is zeroed and initialised, which boot.S and the loader did.
    static std::uint64_t zeroed[1000];
    static const char* initialised = "as it is written";
    std::uint64_t any = 0;
    for (const volatile std::uint64_t& word : zeroed) {
        any |= word;
    }
    check_equal("static storage is zeroed", any, 0);
    check_equal("static storage is initialised", static_cast<std::uint64_t>(*initialised), 'a');
    check("a word is only told as a whole", told("word") && !told("wor") && !told("ord"));

    // Frames.
    const std::uint64_t before = kernel::all_frames().free_frames();
    auto memory = kernel::memory();
    const auto a = memory.allocate(pt::frame_contents::zeroed);
    const auto b = memory.allocate(pt::frame_contents::zeroed);
    if (check("there are frames", a) && check("and more of them", b)) {
        check("frames are apart and zeroed", *a != *b && kernel::is_zero(*a, 4 * pt::KiB));
        memory.release(*a);
        memory.release(*b);
    }
    check_equal("released frames are free", kernel::all_frames().free_frames(), before);
    const pt::hpa large = kernel::take_large_frame();
    check("a large frame is aligned", large.is_aligned(2 * pt::MiB));
    check("and zeroed", kernel::is_zero(large, 2 * pt::MiB));
    kernel::pointer_to<std::uint8_t>(large)[2 * pt::MiB - 1] = 1;
    check("one byte that is not zero is found", !kernel::is_zero(large, 2 * pt::MiB));
    kernel::fill(large, 2 * pt::MiB, 3);
    check("what was filled is found", kernel::is_filled(large, 2 * pt::MiB, 3));
    kernel::pointer_to<std::uint8_t>(large)[0x12'3456] ^= 1;
    check("one wrong bit is found", !kernel::is_filled(large, 2 * pt::MiB, 3));
    check("another seed is another pattern", !kernel::is_filled(large, 16, 4));

    // Time and interrupts. An interrupt of its own, by the local APIC's register for them.
    kernel::clock clock;
    const std::uint64_t start = clock.now();
    kernel::pause_for(5'000'000);
    const std::uint64_t passed = clock.now() - start;
    check("the clock goes on while the processor waits",
          passed >= 5'000'000 && passed < kernel::patience);
    check("no interrupt comes by itself", kernel::nothing_arrives());
    constexpr std::uint32_t interrupt_command = 0x300;
    kernel::mmio local_apic{pt::hpa{0xFEE0'0000}};
    for (unsigned vector = 0x30; vector <= 0xEF; ++vector) {
        local_apic.write32(interrupt_command, 1U << 18 | vector); // to itself, fixed
    }
    bool all = true;
    for (unsigned vector = 0x30; vector <= 0xEF; ++vector) {
        all = all && kernel::arrives(static_cast<std::uint8_t>(vector));
    }
    check("every vector of the tests' has its way through", all);
    check_equal("and comes once", kernel::taken_in_all(), 0xEF - 0x30 + 1);
    kernel::forget_interrupts();
    check("what is forgotten does not come again", kernel::nothing_arrives());
    check("registers survive an interrupt", registers_survive());
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"itself", run};

} // namespace
