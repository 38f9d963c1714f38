// SPDX-License-Identifier: BSL-1.0
//
// The checks that VM entry makes of an event, by pt and by the processor: random words in random
// states of a guest.
#include "../vmx.hpp"

#include "pt/vcpu/event.hpp"
#include "pt/vmx/entry_checks.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::vmcs_field;
using kernel::vmwrite;
using pt::vmx::activity_state;
using pt::vmx::entry_check;
using pt::vmx::entry_words;
using pt::vmx::exit_reason;
using pt::vmx::injection_context;
using state = pt::vmx::interruptibility_state;
using information = pt::vmx::entry_interruption_information;

constexpr std::uint64_t interrupt_flag = 1U << 9;

std::uint64_t random_state = 0x9E37'79B9'7F4A'7C15;
std::uint32_t random(std::uint32_t below) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return static_cast<std::uint32_t>(random_state >> 32) % below;
}

/// Words that are wrong in none, one or several of the ways in which they can be.
entry_words random_words() {
    constexpr std::uint32_t lengths[] = {0, 1, 2, 14, 15, 16, 0x8000'0001};
    const std::uint32_t vector = random(2) == 0 ? random(33) : random(256);
    const std::uint32_t reserved = random(16) == 0 ? 1U << (12 + random(19)) : 0;
    const std::uint32_t valid = random(16) == 0 ? 0 : 1U << 31;
    return {.information = information{valid | reserved | random(2) << 11 | random(8) << 8 |
                                       (random(4) == 0 ? 2 : vector)},
            .error_code = random(4) == 0 ? 1U << random(32) : random(0x1'0000),
            .instruction_length = lengths[random(7)]};
}

injection_context random_guest() {
    // Enclave interruption, bit 4, is as reserved as those above it: this processor has no enclaves.
    const std::uint32_t blocking = random(2) == 0    ? 0
                                   : random(16) == 0 ? 1U << (4 + random(28))
                                                     : random(16);
    return {.cr0 = vmread(vmcs_field::guest_cr0),
            .rflags = 0x2 | (random(3) != 0 ? interrupt_flag : 0),
            .blocking = state{blocking},
            .activity = random(2) == 0 ? activity_state::active : activity_state{random(5)},
            .virtual_nmis = true,
            .monitor_trap_flag_supported = guest::has_monitor_trap_flag(),
            .any_error_code = guest::takes_any_error_code(),
            .zero_instruction_length = guest::takes_zero_instruction_length()};
}

void write(guest& machine, const entry_words& words, const injection_context& context) {
    machine.write(words);
    machine.set_blocking(context.blocking);
    machine.execute({0xF4}); // hlt
    vmwrite(vmcs_field::guest_rsp, guest::stack.raw);
    vmwrite(vmcs_field::guest_rflags, context.rflags);
    vmwrite(vmcs_field::guest_activity, static_cast<std::uint64_t>(context.activity));
}

/// What the processor says, or nothing that the tests know.
enum class verdict : std::uint8_t { accepted, invalid_control_field, invalid_guest_state, other };

verdict verdict_of_processor(guest& machine) {
    constexpr std::uint64_t entry_with_invalid_control_fields = 7;
    if (machine.enter()) {
        return verdict::accepted;
    }
    if (machine.instruction_error() != 0) {
        return machine.instruction_error() == entry_with_invalid_control_fields
                   ? verdict::invalid_control_field
                   : verdict::other;
    }
    return machine.reason() == exit_reason::entry_failure_guest_state ? verdict::invalid_guest_state
                                                                      : verdict::other;
}

verdict verdict_of(entry_check said) {
    switch (said) {
    case entry_check::accepted: return verdict::accepted;
    case entry_check::invalid_control_field: return verdict::invalid_control_field;
    default: return verdict::invalid_guest_state;
    }
}

/// Whether Bochs does anything with a guest that is entered so.
bool is_for_bochs(const entry_words& words, const injection_context& context, verdict expected) {
    if (!words.information[information::valid]) {
        return expected != verdict::accepted || context.activity == activity_state::active;
    }
    // Bochs 2.7 ends with a panic where a pending MTF exit is injected; lets any exception and
    // software interrupt into a guest that halts, where [sdm] forbids all but #DB and #MC; takes
    // anything with the vector of #MC for it in a guest that shut down; and lets an NMI in while
    // virtual NMIs are blocked.
    using enum pt::vmx::interruption_type;
    const pt::vmx::interruption_type type = words.information[information::type];
    constexpr std::uint8_t machine_check = 18;
    if (context.activity == activity_state::shutdown && type != hardware_exception &&
        words.information[information::vector] == machine_check) {
        return false;
    }
    switch (type) {
    case other_event: return false;
    case external_interrupt: return true;
    case nmi: return !context.blocking[state::blocking_by_nmi];
    default: return context.activity != activity_state::hlt;
    }
}

struct tally {
    unsigned each[3] = {};
    unsigned wrong = 0;
};

tally try_many(guest& machine) {
    // [sdm] leaves it to the processor.
    injection_context sti = random_guest();
    sti.rflags = 0x2 | interrupt_flag;
    sti.blocking = state{state::blocking_by_sti(true)};
    sti.activity = activity_state::active;
    write(machine, pt::vmx::entry_of(pt::vcpu::nmi(), pt::vcpu::mode_of(sti.cr0)), sti);
    const bool nmi_while_sti_blocks = machine.enter();

    tally all;
    for (unsigned i = 0; i < 20'000; ++i) {
        const entry_words words = random_words();
        injection_context context = random_guest();
        context.nmi_while_sti_blocks = nmi_while_sti_blocks;
        const verdict expected = verdict_of(check_entry(words, context));
        if (!is_for_bochs(words, context, expected)) {
            continue;
        }
        write(machine, words, context);
        const verdict got = verdict_of_processor(machine);
        if (got != verdict::other) {
            ++all.each[static_cast<std::size_t>(got)];
        }
        if (got != expected && ++all.wrong <= 8) {
            kernel::say("information ", std::uint64_t{words.information.raw}, ", error code ",
                        std::uint64_t{words.error_code}, ", length ",
                        std::uint64_t{words.instruction_length}, ", RFLAGS ", context.rflags,
                        ", blocking ", std::uint64_t{context.blocking.raw}, ", activity ",
                        static_cast<std::uint64_t>(context.activity), ": ",
                        static_cast<std::uint64_t>(got), " where pt expects ",
                        static_cast<std::uint64_t>(expected));
        }
    }
    return all;
}

void run() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        const tally all = try_many(machine);
        check_equal("pt's verdict is always the processor's", all.wrong, 0);
        check("all verdicts are there",
              all.each[0] > 500 && all.each[1] > 500 && all.each[2] > 500);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"entry_checks", run};

} // namespace
