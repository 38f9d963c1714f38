// SPDX-License-Identifier: BSL-1.0
#include "interrupts.hpp"

#include "attempt.hpp"
#include "local_apic.hpp"
#include "output.hpp"

#include "../../kernel/end.hpp"
#include "../../kernel/gates.hpp"
#include "../../kernel/ports.hpp"

#include <initializer_list>

extern "C" {
extern std::uint64_t attempt_stack; // in attempt.S
extern const char attempt_failed[];
}

namespace guest {

namespace {

std::uint32_t counts[256];
void (*handlers[256])();
fault last{};
std::uint32_t faults[32];

bool timer_is_mine = true;
std::uint64_t timer_ticks_per_millisecond = 0;

/// Nothing comes from them; but who asks them gets the vector of their input 7 [8259A], which must be
/// none of the exceptions, as firmware has left it.
void mask_8259s() {
    kernel::ports io;
    const auto start = [&io](std::uint16_t port, std::uint8_t vector, std::uint8_t wiring) {
        io.out8(pt::io_port{port}, 0x11); // ICW1: edges, two of them, ICW4 follows
        const pt::io_port second{static_cast<std::uint16_t>(port + 1)};
        for (const std::uint8_t word : {vector, wiring, std::uint8_t{0x01}, std::uint8_t{0xFF}}) {
            io.out8(second, word); // ICW2, ICW3, ICW4, and the mask
        }
    };
    start(0x20, first_8259_vector, 1U << 2);
    start(0xA0, first_8259_vector + 8, 2);
}

void start_timer(std::uint32_t count) {
    using lvt = pt::lapic::local_vector_entry;
    local_apic::write(lvt_timer_offset, lvt{lvt::vector(timer_vector)}.raw);
    local_apic::write(initial_count_offset, count);
}

/// How fast the timer counts, with a divider of 1.
void measure_timer() {
    using lvt = pt::lapic::local_vector_entry;
    local_apic::write(lvt_timer_offset, lvt{lvt::masked(true), lvt::vector(timer_vector)}.raw);
    constexpr std::uint32_t most = ~std::uint32_t{0};
    local_apic::write(initial_count_offset, most);
    clock time;
    const std::uint64_t begun = time.now();
    std::uint64_t passed = 0;
    while (passed < 2 * millisecond) {
        passed = time.now() - begun;
    }
    const std::uint64_t counted = most - local_apic::read(current_count_offset);
    local_apic::write(initial_count_offset, 0);
    timer_ticks_per_millisecond = counted * millisecond / passed;
}

[[noreturn]] void end_by_exception(const kernel::interrupt_frame& frame, std::uint64_t address) {
    attempt_stack = 0;
    tell("exception ", decimal{frame.vector}, ", error code ", frame.error_code, ", at ", frame.rip,
         ", CR2 ", address, ", RSP ", frame.rsp);
    kernel::give_up("an exception that nobody expected");
}

void take_exception(kernel::interrupt_frame& frame) {
    std::uint64_t address = 0;
    asm volatile("mov %%cr2, %0" : "=r"(address));
    if (attempt_stack == 0) {
        end_by_exception(frame, address);
    }
    last = {static_cast<std::uint8_t>(frame.vector), frame.error_code, frame.rip, address};
    ++faults[frame.vector];
    frame.rip = reinterpret_cast<std::uintptr_t>(attempt_failed);
    frame.rsp = attempt_stack;
    frame.rflags &= ~std::uint64_t{1U << 9 | 1U << 8}; // IF, TF
}

} // namespace

const fault& last_fault() { return last; }
std::uint32_t faults_taken(std::uint8_t vector) { return faults[vector % 32]; }
std::uint32_t faults_taken() {
    std::uint32_t all = 0;
    for (const std::uint32_t each : faults) {
        all += each;
    }
    return all;
}

pt::result<std::uint64_t> try_read_msr(std::uint32_t number) {
    std::uint64_t value = 0;
    if (!attempt([&] { value = read_msr(number); })) {
        return pt::error{pt::errc::refused, last.vector};
    }
    return value;
}

pt::result<void> try_write_msr(std::uint32_t number, std::uint64_t value) {
    if (!attempt([&] { write_msr(number, value); })) {
        return pt::error{pt::errc::refused, last.vector};
    }
    return {};
}

void start_interrupts() {
    kernel::load_gates();
    restore_interrupts();
    measure_timer();
}

void restore_interrupts() {
    mask_8259s();
    local_apic::enable(spurious_vector);
}

std::uint32_t taken(std::uint8_t vector) { return counts[vector]; }

std::uint32_t taken_in_all() {
    std::uint32_t all = counts[nmi_vector];
    for (unsigned vector = 32; vector != 256; ++vector) {
        all += vector == timer_vector ? 0 : counts[vector];
    }
    return all;
}

std::uint8_t any_taken() {
    for (unsigned vector = 255; vector != 0; --vector) {
        if (vector != timer_vector && counts[vector] != 0) {
            return static_cast<std::uint8_t>(vector);
        }
    }
    return 0;
}

void forget_interrupts() {
    for (std::uint32_t& count : counts) {
        count = 0;
    }
}

void on_vector(std::uint8_t vector, void (*handler)()) { handlers[vector] = handler; }

void take_timer() {
    timer_is_mine = false;
    local_apic::write(initial_count_offset, 0);
    let_in(); // one may have come before that
    counts[timer_vector] = 0;
}
void give_timer() { timer_is_mine = true; }

void idle(std::uint64_t nanoseconds) {
    if (!timer_is_mine || timer_ticks_per_millisecond == 0) {
        let_in();
        return;
    }
    constexpr std::uint64_t longest = 100 * millisecond;
    const std::uint64_t time = nanoseconds < longest ? nanoseconds : longest;
    const std::uint64_t count = time * timer_ticks_per_millisecond / millisecond + 1;
    start_timer(count < 0xFFFF'FFFF ? static_cast<std::uint32_t>(count) : 0xFFFF'FFFF);
    // Interrupts are off for one more instruction after STI: none gets between it and HLT.
    asm volatile("sti; hlt; cli" : : : "memory");
    local_apic::write(initial_count_offset, 0);
}

} // namespace guest

extern "C" void interrupt_taken(kernel::interrupt_frame& frame) {
    using namespace guest;
    if (frame.vector < 32 && frame.vector != nmi_vector) {
        take_exception(frame);
        return;
    }
    // An exception of a handler is none of the attempt that it interrupts.
    const std::uint64_t interrupted = attempt_stack;
    attempt_stack = 0;
    ++counts[frame.vector];
    if (handlers[frame.vector] != nullptr) {
        handlers[frame.vector]();
    }
    // A spurious interrupt needs no end, nor does an NMI [sdm]; but others may have that vector,
    // too.
    const bool is_spurious = frame.vector == spurious_vector &&
                             !local_apic::has_vector(in_service_offset, spurious_vector);
    if (!is_spurious && frame.vector != nmi_vector) {
        local_apic::end_of_interrupt();
    }
    attempt_stack = interrupted;
}
