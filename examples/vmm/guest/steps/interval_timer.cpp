// SPDX-License-Identifier: BSL-1.0
#include "../interrupts.hpp"
#include "../io_apics.hpp"
#include "../output.hpp"
#include "../steps.hpp"

#include "../../../kernel/ports.hpp"

namespace guest {
namespace {

constexpr pt::io_port channel_0{0x40};
constexpr pt::io_port control_word{0x43};

void start_channel_0(std::uint8_t control, std::uint16_t count) {
    kernel::ports io;
    io.out8(control_word, control);
    io.out8(channel_0, static_cast<std::uint8_t>(count));
    io.out8(channel_0, static_cast<std::uint8_t>(count >> 8));
}
constexpr std::uint8_t mode_0 = 0x30; // low and high byte; the output goes up at the end
constexpr std::uint8_t mode_2 = 0x34; // rate generator

std::uint16_t latched_count() {
    kernel::ports io;
    io.out8(control_word, 0x00);
    const std::uint8_t low = io.in8(channel_0);
    return static_cast<std::uint16_t>(low | io.in8(channel_0) << 8);
}

} // namespace

void check_interval_timer() {
    step("The interval timer through the I/O APIC");
    io_apic_inputs& inputs = io_apics();
    inputs.look_at_firmware();
    const unsigned input = inputs.input_of_line(0);
    tell("an I/O APIC of ", decimal{inputs.count()}, " inputs; ",
         inputs.has_madt() ? "firmware says" : "without firmware's word",
         " that the timer is input ", decimal{input});
    clock time;
    constexpr std::uint16_t a_millisecond = 1193; // of 1.193182 MHz

    start_channel_0(mode_2, a_millisecond);
    const std::uint16_t one = latched_count();
    const std::uint64_t begun = time.now();
    bool moves = false;
    while (!moves && time.now() - begun < 100 * millisecond) {
        moves = latched_count() != one;
    }
    check(moves && one <= a_millisecond, "its count can be latched, and moves");

    forget_interrupts();
    inputs.open_edge(input, interval_timer_vector);
    const std::uint64_t first = time.now();
    const bool came = wait_until([] { return taken(interval_timer_vector) >= 50; });
    const std::uint64_t needed = time.now() - first;
    // Half the time is enough: who was held up catches up.
    check(came && needed >= 25 * millisecond,
          "as a rate generator of 1 kHz it interrupts fifty times in ", microseconds_of{needed});
    inputs.mask(input);
    let_in();
    const std::uint32_t until_masked = taken(interval_timer_vector);
    pause_for(8 * millisecond);
    check_equal(taken(interval_timer_vector), until_masked, "masked at the I/O APIC, none comes");

    start_channel_0(mode_0, 2 * a_millisecond);
    pause_for(4 * millisecond); // the edge is past: it was masked
    forget_interrupts();
    inputs.open_edge(input, interval_timer_vector);
    start_channel_0(mode_0, 2 * a_millisecond);
    check(arrives(interval_timer_vector), "in mode 0 it interrupts at the end of its count");
    pause_for(8 * millisecond);
    check_equal(taken(interval_timer_vector), 1, "once");
    inputs.mask(input);
}

} // namespace guest
