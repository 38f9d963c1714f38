// SPDX-License-Identifier: BSL-1.0
#include "interrupts.hpp"

#include "end.hpp"
#include "mmio.hpp"
#include "output.hpp"
#include "ports.hpp"

#include "pt/core/mmio.hpp"
#include "pt/core/reg.hpp"
#include "pt/lapic/registers.hpp"

namespace kernel {

namespace {

using pt::lapic::local_apic_id;
using pt::lapic::spurious_interrupt_vector;

// Registers of the local APIC that pt does not need [sdm, Local APIC Register Address Map].
struct end_of_interrupt : pt::reg<end_of_interrupt, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0B0;
    static constexpr bits<31, 0, std::uint32_t> zero{};
    static constexpr pt::field_list fields{zero};
};
struct lvt_timer : pt::reg<lvt_timer, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x320;
    enum class mode : std::uint8_t { one_shot = 0, periodic = 1, tsc_deadline = 2 };
    static constexpr bits<18, 17, mode> timer_mode{};
    static constexpr bits<16, 16, bool> masked{};
    static constexpr bits<7, 0, std::uint8_t> vector{};
    static constexpr pt::field_list fields{timer_mode, masked, vector};
};
struct lvt_lint0 : pt::reg<lvt_lint0, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x350;
    static constexpr bits<16, 16, bool> masked{};
    static constexpr pt::field_list fields{masked};
};
struct initial_count : pt::reg<initial_count, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x380;
    static constexpr bits<31, 0, std::uint32_t> count{};
    static constexpr pt::field_list fields{count};
};
struct divide_configuration : pt::reg<divide_configuration, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3E0;
    static constexpr bits<3, 0, std::uint8_t> divide{}; ///< 0b1011 is by 1
    static constexpr pt::field_list fields{divide};
};

constexpr std::uint32_t current_count = 0x390;

/// Of the local APIC's timer.
std::uint64_t ticks_per_millisecond = 1'000'000;

constexpr pt::hpa local_apic_base{0xFEE0'0000};
mmio local_apic() { return mmio{local_apic_base}; }

template <class Register>
void write(Register value) {
    mmio page = local_apic();
    pt::write(page, value);
}

std::uint32_t counts[256];
void (*actions[256])();
void (*all_taken)(std::uint8_t) = nullptr; // while take_pending_interrupts() runs
bool (*exception_handler)(interrupt_frame&) = nullptr;

} // namespace

void start_interrupts() {
    load_gates();

    // Firmware has left the 8259s on, and they come in here: its timer would go on. Bochs 2.7 lets
    // them in even then, so they are masked themselves.
    write(lvt_lint0{lvt_lint0::masked(true)});
    ports io;
    io.out8(pt::io_port{0x21}, 0xFF);
    io.out8(pt::io_port{0xA1}, 0xFF);

    using svr = spurious_interrupt_vector;
    write(svr{svr::software_enabled(true), svr::vector(spurious_vector)});
    write(divide_configuration{divide_configuration::divide(0b1011)});
    write(lvt_timer{lvt_timer::timer_mode(lvt_timer::mode::one_shot),
                    lvt_timer::vector(timer_vector)});
}

std::uint8_t apic_id() {
    mmio page = local_apic();
    return pt::read<local_apic_id>(page)[local_apic_id::apic_id];
}

std::uint32_t taken(std::uint8_t vector) { return counts[vector]; }

std::uint32_t taken_in_all() {
    std::uint32_t all = 0;
    for (unsigned vector = first_free_vector; vector <= last_free_vector; ++vector) {
        all += counts[vector];
    }
    return all;
}

void forget_interrupts() {
    for (std::uint32_t& count : counts) {
        count = 0;
    }
}

void call_at(std::uint8_t vector, void (*action)()) { actions[vector] = action; }

void end_interrupt() { write(end_of_interrupt{end_of_interrupt::zero(0)}); }

void take_pending_interrupts(void (*taken)(std::uint8_t vector)) {
    all_taken = taken;
    // The instruction behind STI is still protected.
    asm volatile("sti; nop; cli" : : : "memory");
    all_taken = nullptr;
}

void take_next_interrupts(void (*taken)(std::uint8_t vector)) {
    all_taken = taken;
    asm volatile("sti; hlt; cli" : : : "memory");
    all_taken = nullptr;
}

void handle_exceptions(bool (*handler)(interrupt_frame&)) { exception_handler = handler; }

pt::pci::msi_message compatibility_message(std::uint8_t vector) {
    return {local_apic_base.raw | std::uint64_t{apic_id()} << 12, vector};
}

void start_timer(std::uint64_t nanoseconds) {
    // Another rate than the one assumed makes the wait shorter or longer, and those who wait look
    // at the clock.
    constexpr std::uint64_t longest = 1'000'000'000;
    const std::uint64_t wanted = nanoseconds < longest ? nanoseconds : longest;
    const std::uint64_t count = wanted * ticks_per_millisecond / 1'000'000;
    const std::uint64_t least = wanted == 0 ? 0 : 1;
    write(initial_count{
        initial_count::count(static_cast<std::uint32_t>(count < least ? least : count))});
}

void measure_timer() {
    mmio page = local_apic();
    clock time;
    constexpr std::uint64_t millisecond = 1'000'000;
    constexpr std::uint32_t from = 0xFFFF'FFFF;
    write(lvt_timer{lvt_timer::masked(true), lvt_timer::vector(timer_vector)});
    write(initial_count{initial_count::count(from)});
    const std::uint64_t start = time.now();
    std::uint64_t passed = 0;
    while (passed < millisecond) {
        passed = time.now() - start;
    }
    const std::uint64_t ticks = from - page.read32(current_count);
    write(initial_count{initial_count::count(0)});
    write(lvt_timer{lvt_timer::timer_mode(lvt_timer::mode::one_shot),
                    lvt_timer::vector(timer_vector)});
    ticks_per_millisecond = ticks * millisecond / passed;
}

void wait_for_interrupt(std::uint64_t nanoseconds) {
    start_timer(nanoseconds);
    // Interrupts are off for one more instruction after STI: none gets between it and HLT.
    asm volatile("sti; hlt; cli" : : : "memory");
    start_timer(0);
}

void pause_for(std::uint64_t nanoseconds) {
    clock time;
    const std::uint64_t start = time.now();
    for (std::uint64_t passed = 0; passed < nanoseconds; passed = time.now() - start) {
        wait_for_interrupt(nanoseconds - passed);
    }
}

} // namespace kernel

extern "C" void interrupt_taken(kernel::interrupt_frame& frame) {
    using namespace kernel;
    if (frame.vector < 32) {
        if (exception_handler != nullptr && exception_handler(frame)) {
            return;
        }
        std::uint64_t address = 0;
        asm volatile("mov %%cr2, %0" : "=r"(address));
        print_line("  exception ", frame.vector, ", error code ", frame.error_code, ", at ",
                   frame.rip, ", CR2 ", address);
        give_up("exception");
    }
    const auto vector = static_cast<std::uint8_t>(frame.vector);
    if (all_taken != nullptr) {
        if (vector != spurious_vector) {
            all_taken(vector);
        }
        return;
    }
    ++counts[vector];
    if (actions[vector] != nullptr) {
        actions[vector]();
    }
    if (vector != spurious_vector) { // which needs no end [sdm]
        end_interrupt();
    }
}
