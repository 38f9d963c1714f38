// SPDX-License-Identifier: BSL-1.0
//
// The timer of the guest's local APIC, by the time of the processor: pt says when to look next, the
// VMX-preemption timer ends the guest's turn there, and the interrupt arrives at the guest's
// handler, which writes down when, by its own RDTSC.
//
// Bochs 2.7 counts one tick of the time-stamp counter for each instruction, and nothing else takes
// time: so how late an interrupt is here are the instructions of the exit loop. What holds on every
// processor is that none comes early, and how many there are.
#include "../virtual_interrupts.hpp"

#include "pt/lapic/registers.hpp"
#include "pt/vmx/interruptibility.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::time_stamps;
using kernel::virtual_interrupts;
using kernel::vmcs_field;
using kernel::vmwrite;
using pt::gpa;
using pt::lapic::timer_mode;
using pt::vmx::exit_reason;

// -------------------------------------------------------------------------- what the guest writes

// Its MSRs in x2APIC mode.
constexpr std::uint32_t lvt_timer = 0x832;
constexpr std::uint32_t initial_count = 0x838;
constexpr std::uint32_t current_count = 0x839;
constexpr std::uint32_t divide_configuration = 0x83E;
constexpr std::uint32_t tsc_deadline = 0x6E0;

constexpr std::uint8_t vector = 0x61;

constexpr std::uint64_t lvt(timer_mode mode) {
    return static_cast<std::uint64_t>(mode) << 17 | vector;
}
constexpr std::uint64_t masked = 1U << 16;

/// What DCR holds to divide by 2 to that power: 0 is 1011, 1 is 0000, 7 is 1010.
constexpr std::uint64_t divided(unsigned power) {
    const unsigned code = (power + 7) % 8;
    return (code & 3) | (code & 4) << 1;
}

// ----------------------------------------------------------------------------- the guest's code

/// The handler: it appends the time to the list that RDI points behind, counts in R15, signals EOI,
/// and changes no other register.
constexpr gpa handler{0xB000};
constexpr gpa times = guest::data;
constexpr std::uint64_t most_times = 1000;

void write_handler(guest& machine) {
    const auto distance = static_cast<std::uint32_t>(handler - (guest::handlers + 8 * vector + 5));
    auto* const code = machine.at<std::uint8_t>(guest::handlers + 8 * vector);
    code[0] = 0xE9; // jmp handler
    __builtin_memcpy(code + 1, &distance, sizeof distance);
    machine.put({0x50, 0x51, 0x52,             // push %rax; push %rcx; push %rdx
                 0x0F, 0x31,                   // rdtsc
                 0x48, 0xC1, 0xE2, 0x20,       // shl $32, %rdx
                 0x48, 0x09, 0xD0,             // or %rdx, %rax
                 0x48, 0x89, 0x07,             // mov %rax, (%rdi)
                 0x48, 0x83, 0xC7, 0x08,       // add $8, %rdi
                 0x49, 0xFF, 0xC7,             // inc %r15
                 0xB9, 0x0B, 0x08, 0x00, 0x00, // mov $0x80b, %ecx: EOI
                 0x31, 0xC0, 0x31, 0xD2,       // xor %eax, %eax; xor %edx, %edx
                 0x0F, 0x30,                   // wrmsr
                 0x5A, 0x59, 0x58,             // pop %rdx; pop %rcx; pop %rax
                 0x48, 0xCF},                  // iretq
                handler);
}

/// How the guest spends the time until an interrupt comes.
enum class way : std::uint8_t {
    busy,          ///< it looks at R15
    hlt_by_vmm,    ///< HLT exits; the VMM waits in its place
    hlt_by_state,  ///< HLT exits; the VMM enters it again in the activity state HLT
    hlt_by_itself, ///< HLT does not exit
};
constexpr way every_way[] = {way::busy, way::hlt_by_vmm, way::hlt_by_state, way::hlt_by_itself};
constexpr const char* names[] = {"the guest is busy", "the VMM waits for a guest that halts",
                                 "the guest halts, as the VMM enters it",
                                 "the guest halts by itself"};

// ------------------------------------------------------------------------------- the exit loop

/// A guest with a timer, and its loop. Its timer counts the time-stamp counter, or a slower clock.
class timed_guest {
public:
    explicit timed_guest(guest& machine, way by = way::busy, unsigned slower_by = 0)
        : machine_{machine},
          by_{by},
          slower_by_{slower_by},
          interrupts_{machine, pt::lapic::fixed_interrupts::injected, time_stamps{slower_by}} {
        machine.start(guest_mode::long_64);
        write_handler(machine);
        constexpr std::uint64_t enabled_x2apic_bootstrap = 0xD00;
        static_cast<void>(apic().write_msr(0x1B, kernel::apic_page.raw | enabled_x2apic_bootstrap));
        machine.general.rdi = times.raw;
        machine.general.r15 = 0;
    }
    timed_guest(const timed_guest&) = delete;
    timed_guest& operator=(const timed_guest&) = delete;

    [[nodiscard]] virtual_interrupts::apic_type& apic() { return interrupts_.apic(); }

    /// A moment that lies between two looks at the clock.
    struct moment {
        std::uint64_t after;
        std::uint64_t before;
    };

    /// The guest writes an MSR, with interrupts off or as they are. Between which times it did.
    moment write(std::uint32_t number, std::uint64_t value) {
        machine_.general.rcx = number;
        machine_.general.rax = value & 0xFFFF'FFFF;
        machine_.general.rdx = value >> 32;
        return run({0x0F, 0x30}); // wrmsr
    }
    /// The guest reads one.
    std::uint64_t read(std::uint32_t number) {
        machine_.general.rcx = number;
        last_ = run({0x0F, 0x32}); // rdmsr
        return machine_.general.rdx << 32 | (machine_.general.rax & 0xFFFF'FFFF);
    }
    /// When the last read() was.
    [[nodiscard]] moment last() const { return last_; }

    /// Starts a count, in a mode and with a divider.
    moment start(timer_mode mode, unsigned divider, std::uint32_t count) {
        write(lvt_timer, lvt(mode));
        write(divide_configuration, divided(divider));
        return write(initial_count, count);
    }

    /// The guest takes interrupts until it has taken so many in all.
    void wait_for(std::uint64_t interrupts) {
        machine_.general.r10 = interrupts;
        machine_.set_interrupt_flag(by_ == way::busy);
        if (by_ == way::busy) {
            run({0xF3, 0x90,       // 1: pause
                 0x4D, 0x39, 0xD7, // cmp %r10, %r15
                 0x72, 0xF9});     // jb 1b
        } else {
            run({0x4D, 0x39, 0xD7, // 1: cmp %r10, %r15
                 0x73, 0x05,       // jae 2f
                 0xFB, 0xF4, 0xFA, // sti; hlt; cli
                 0xEB, 0xF6});     // jmp 1b; 2:
        }
    }
    /// The guest is busy until that time, with interrupts on or off.
    void pass_until(std::uint64_t time, bool takes_interrupts = true) {
        machine_.general.r11 = time;
        machine_.set_interrupt_flag(takes_interrupts);
        run({0x0F, 0x31,             // 1: rdtsc
             0x48, 0xC1, 0xE2, 0x20, // shl $32, %rdx
             0x48, 0x09, 0xD0,       // or %rdx, %rax
             0x4C, 0x39, 0xD8,       // cmp %r11, %rax
             0x72, 0xF2});           // jb 1b
        machine_.set_interrupt_flag(false);
    }

    /// How many interrupts the handler has seen, and when it saw the n-th, from 1 on.
    [[nodiscard]] std::uint64_t taken() const { return machine_.general.r15; }
    [[nodiscard]] std::uint64_t time_of(std::uint64_t n) const {
        return machine_.at<std::uint64_t>(times)[n - 1];
    }
    [[nodiscard]] unsigned timer_exits() const { return timer_exits_; }

    /// When `ticks` ticks of the timer's clock have passed since a moment: the earliest time that
    /// it can be, and the latest.
    [[nodiscard]] std::uint64_t earliest(moment start, std::uint64_t ticks) const {
        return ((start.after >> slower_by_) + ticks) << slower_by_;
    }
    [[nodiscard]] std::uint64_t latest(moment start, std::uint64_t ticks) const {
        return ((start.before >> slower_by_) + ticks) << slower_by_;
    }

private:
    /// Runs these instructions up to the VMCALL behind them.
    moment run(std::initializer_list<std::uint8_t> instructions) {
        machine_.put({0x0F, 0x01, 0xC1}, guest::code + instructions.size());
        machine_.execute(instructions);
        const std::uint64_t before = time_stamps{}.tsc();
        for (;;) {
            interrupts_.decide();
            let_it_halt();
            arm();
            if (!interrupts_.enter()) {
                machine_.say_exit();
                kernel::give_up("no entry");
            }
            if (machine_.reason() == exit_reason::vmcall && !machine_.handled().any) {
                return {before, time_stamps{}.tsc()};
            }
            if (!handle() || taken() >= most_times) {
                machine_.say_exit();
                kernel::give_up("an exit that is not the timer's");
            }
        }
    }

    /// Bochs 2.7 opens no interrupt window in the HLT state, which by [sdm] ends with it. There HLT
    /// exits as long as a window is asked for.
    void let_it_halt() {
        using enum kernel::processor_based;
        if (by_ == way::hlt_by_itself) {
            interrupts_.decided().interrupt_window ? machine_.turn_on(hlt_exiting)
                                                   : machine_.turn_off(hlt_exiting);
        }
    }

    /// Ends the guest's turn when pt wants to look at its timer.
    void arm() {
        using of = pt::lapic::deadline::clock;
        const pt::lapic::deadline next = apic().next_deadline();
        if (next.of == of::none) {
            return;
        }
        // The preemption timer counts when one bit of the time-stamp counter changes: not before
        // the deadline, and at most one count behind it.
        const std::uint64_t at = next.of == of::ticks ? next.at << slower_by_ : next.at;
        const unsigned bit = guest::preemption_timer_bit();
        const std::uint64_t due = (at + (std::uint64_t{1} << bit) - 1) >> bit;
        const std::uint64_t now = time_stamps{}.tsc() >> bit;
        machine_.exit_after(due > now ? due - now : 0);
    }

    bool handle() {
        const auto number = static_cast<std::uint32_t>(machine_.general.rcx);
        switch (machine_.reason()) {
        case exit_reason::preemption_timer_expired: ++timer_exits_; return true;
        case exit_reason::interrupt_window: return true;
        case exit_reason::wrmsr: {
            machine_.skip_instruction();
            const std::uint64_t low = machine_.general.rax & 0xFFFF'FFFF;
            return apic().write_msr(number, machine_.general.rdx << 32 | low).has_value();
        }
        case exit_reason::rdmsr: {
            machine_.skip_instruction();
            const auto value = apic().read_msr(number);
            machine_.general.rax = value ? *value & 0xFFFF'FFFF : 0;
            machine_.general.rdx = value ? *value >> 32 : 0;
            return value.has_value();
        }
        case exit_reason::hlt: return halt();
        default: return false;
        }
    }

    bool halt() {
        machine_.skip_instruction();
        machine_.set_blocking(machine_.blocking().after_instruction()); // STI was before HLT
        if (by_ == way::hlt_by_state) {
            vmwrite(vmcs_field::guest_activity, std::uint64_t(pt::vmx::activity_state::hlt));
            return true;
        }
        return by_ == way::hlt_by_itself || (by_ == way::hlt_by_vmm && sleep());
    }

    /// Until something wakes the guest. False: nothing would, or it does not.
    bool sleep() {
        using of = pt::lapic::deadline::clock;
        const pt::lapic::deadline next = apic().next_deadline();
        time_stamps clock{slower_by_};
        while (!interrupts_.injector().wakes()) {
            constexpr std::uint64_t long_enough = 10'000;
            const std::uint64_t now = next.of == of::tsc ? clock.tsc() : clock.ticks();
            if (next.of == of::none || now > next.at + long_enough) {
                return false;
            }
        }
        return true;
    }

    guest& machine_;
    way by_;
    unsigned slower_by_;
    virtual_interrupts interrupts_;
    moment last_{};
    unsigned timer_exits_ = 0;
};
using moment = timed_guest::moment;

/// Instructions of the exit loop and of the guest between the time of an interrupt and its
/// handler's RDTSC.
constexpr std::uint64_t late = 6'000;

/// The n-th interrupt, from 1 on, is due n periods behind the start: none is early, and each
/// arrives soon.
void check_times(const timed_guest& timed, moment start, std::uint64_t period, std::uint64_t many) {
    std::uint64_t early = 0;
    std::uint64_t latest = 0;
    for (std::uint64_t n = 1; n <= many; ++n) {
        const std::uint64_t time = timed.time_of(n);
        const std::uint64_t due = timed.latest(start, n * period);
        early += time < timed.earliest(start, n * period) ? 1 : 0;
        latest = time > due && time - due > latest ? time - due : latest;
    }
    check_equal("none is early", early, 0);
    if (!check("none is late", latest <= late)) {
        kernel::say("the latest by ", latest);
    }
}

// --------------------------------------------------------------------------------------- the tests

/// Ticks of its clock, above timer_limits::minimum_period.
constexpr std::uint64_t period = 40'000;

// What a check writes to the log takes time. So the guest is through with it before the first one.

void one_shot(guest& machine, way by, unsigned rate) {
    timed_guest timed{machine, by, rate};
    const moment start = timed.start(timer_mode::one_shot, 3, period / 8);
    timed.wait_for(1);
    const unsigned exits = timed.timer_exits();
    const std::uint64_t count = timed.read(current_count);
    timed.pass_until(timed.latest(start, 4 * period));
    check_equal("it comes once", timed.taken(), 1);
    check_times(timed, start, period, 1);
    check_equal("the count is over", count, 0);
    check("few exits were enough", exits <= 2);
    check_equal("and nothing exits for it any more", timed.timer_exits(), exits);
}

void periodic(guest& machine, way by, unsigned rate) {
    constexpr std::uint64_t many = 20;
    timed_guest timed{machine, by, rate};
    const moment start = timed.start(timer_mode::periodic, 4, period / 16);
    timed.wait_for(many);
    timed.pass_until(timed.latest(start, many * period + period / 2));
    const std::uint64_t taken = timed.taken();
    timed.write(initial_count, 0);
    timed.pass_until(timed.latest(start, (many + 4) * period));
    check_equal("as many come as there are periods", taken, many);
    check_times(timed, start, period, many);
    check("few exits were enough", timed.timer_exits() <= 2 * many);
    check_equal("none comes behind the end", timed.taken(), many);
}

void by_deadline(guest& machine, way by, unsigned rate) {
    timed_guest timed{machine, by, rate};
    timed.write(lvt_timer, lvt(timer_mode::tsc_deadline));
    const std::uint64_t first = time_stamps{}.tsc() + 200'000;
    timed.write(tsc_deadline, first);
    const std::uint64_t armed = timed.read(tsc_deadline);
    timed.write(initial_count, 1);
    const std::uint64_t counts = timed.read(current_count) | timed.read(initial_count);
    timed.wait_for(1);
    const unsigned exits = timed.timer_exits();
    const std::uint64_t disarmed = timed.read(tsc_deadline);
    // This one has passed by the time it is written.
    const moment second = timed.write(tsc_deadline, time_stamps{}.tsc());
    timed.wait_for(2);

    timed.write(tsc_deadline, time_stamps{}.tsc() + 100'000);
    timed.write(tsc_deadline, 0);
    timed.pass_until(time_stamps{}.tsc() + 150'000);
    timed.write(tsc_deadline, time_stamps{}.tsc() + 50'000);
    timed.write(lvt_timer, lvt(timer_mode::one_shot));
    timed.write(tsc_deadline, time_stamps{}.tsc() + 50'000);
    const std::uint64_t ignored = timed.read(tsc_deadline);
    timed.pass_until(time_stamps{}.tsc() + 150'000);

    check_equal("the deadline can be read", armed, first);
    check_equal("there is no count", counts, 0);
    check("it comes in time", timed.time_of(1) >= first && timed.time_of(1) <= first + late);
    check_equal("then it is disarmed", disarmed, 0);
    check("few exits were enough", exits <= 2);
    check("one that has passed comes at once", timed.time_of(2) <= second.before + late);
    check_equal("in another mode it is ignored", ignored, 0);
    check_equal("what is disarmed does not come", timed.taken(), 2);
}

// The following are about the count, and the guest is busy.

/// CCR lies between what it can be at the earliest and at the latest moment of the read.
bool is_plausible(moment start, moment read, std::uint64_t value, std::uint64_t count,
                  std::uint64_t divider, bool again) {
    const auto at = [&](std::uint64_t passed) {
        const std::uint64_t gone = passed / divider;
        return again ? count - gone % count : gone < count ? count - gone : 0;
    };
    const std::uint64_t least_passed = read.after > start.before ? read.after - start.before : 0;
    const std::uint64_t highest = at(least_passed);
    const std::uint64_t lowest = at(read.before - start.after);
    return lowest <= highest ? lowest <= value && value <= highest
                             : value >= lowest || value <= highest; // a period has ended meanwhile
}

void count_down(guest& machine) {
    constexpr std::uint64_t count = 100'000;
    timed_guest timed{machine};
    const moment start = timed.start(timer_mode::one_shot, 1, count);
    std::uint64_t before = count + 1;
    unsigned reads = 0;
    unsigned down = 0;
    unsigned plausible = 0;
    for (std::uint64_t value = before; value != 0 && reads < 1'000; ++reads) {
        timed.pass_until(time_stamps{}.tsc() + 3'000, false);
        value = timed.read(current_count);
        down += value < before ? 1 : 0;
        plausible += is_plausible(start, timed.last(), value, count, 2, false) ? 1 : 0;
        before = value;
    }
    const std::uint64_t initial = timed.read(initial_count);
    timed.pass_until(time_stamps{}.tsc() + 10'000);
    check("it is read many times", reads > 10 && reads < 100);
    check_equal("always less", down, reads);
    check_equal("and what it should be", plausible, reads);
    check_equal("the initial count stays", initial, count);
    check_equal("the interrupt waits until the guest takes it", timed.taken(), 1);

    constexpr unsigned many = 50;
    const moment anew = timed.start(timer_mode::periodic, 3, period / 8);
    plausible = 0;
    for (unsigned i = 0; i < many; ++i) {
        timed.pass_until(time_stamps{}.tsc() + 3'000);
        const std::uint64_t value = timed.read(current_count);
        plausible += is_plausible(anew, timed.last(), value, period / 8, 8, true) ? 1 : 0;
    }
    check_equal("a periodic one is what it should be", plausible, many);
}

/// A guest that looks at the deadline until it is 0.
void deadline_is_read(guest& machine) {
    timed_guest timed{machine};
    timed.write(lvt_timer, lvt(timer_mode::tsc_deadline));
    const std::uint64_t due = time_stamps{}.tsc() + 100'000;
    timed.write(tsc_deadline, due);
    unsigned reads = 0;
    moment armed{};
    while (timed.read(tsc_deadline) != 0 && reads < 1'000) {
        armed = timed.last();
        ++reads;
    }
    const moment disarmed = timed.last();
    timed.pass_until(time_stamps{}.tsc() + 10'000);
    check("it is read many times", reads > 10 && reads < 1'000);
    check("it is there until it has come", armed.after < due);
    check("and not any more when it has", disarmed.before >= due);
    check_equal("the interrupt waits until the guest takes it", timed.taken(), 1);
}

void mask(guest& machine) {
    timed_guest timed{machine};
    timed.write(divide_configuration, divided(0));
    timed.write(lvt_timer, lvt(timer_mode::periodic) | masked);
    const moment start = timed.write(initial_count, period);
    timed.pass_until(timed.latest(start, 5 * period + period / 2));
    const std::uint64_t taken = timed.taken();
    const unsigned exits = timed.timer_exits();
    const std::uint64_t value = timed.read(current_count);
    const moment read = timed.last();
    timed.write(lvt_timer, lvt(timer_mode::periodic));
    timed.wait_for(1);
    timed.pass_until(timed.latest(start, 8 * period + period / 2));
    check_equal("nothing comes", taken, 0);
    check_equal("nothing exits", exits, 0);
    check("the count goes on", is_plausible(start, read, value, period, 1, true));
    const std::uint64_t time = timed.time_of(1);
    check("what comes first is the next tick", time >= timed.earliest(start, 6 * period) &&
                                                   time <= timed.latest(start, 6 * period) + late);
    check_equal("and the others follow", timed.taken(), 3);
}

/// A period that no processor would survive: interrupts come at timer_limits::minimum_period, and
/// the guest gets on.
void shortest(guest& machine) {
    constexpr std::uint64_t least = pt::lapic::timer_limits{}.minimum_period;
    constexpr std::uint64_t many = 20;
    timed_guest timed{machine};
    const moment start = timed.start(timer_mode::periodic, 0, 1);
    timed.pass_until(timed.latest(start, many * least + least / 2));
    const std::uint64_t taken = timed.taken();
    const unsigned exits = timed.timer_exits();
    timed.write(initial_count, 0);
    const std::uint64_t stopped = timed.taken();
    timed.pass_until(time_stamps{}.tsc() + 4 * least);
    std::uint64_t early = 0;
    for (std::uint64_t n = 1; n <= taken; ++n) {
        early += timed.time_of(n) < timed.earliest(start, n * least) ? 1 : 0;
    }
    // Each is held back from the one before, which was late by the exit loop.
    check("it comes as often as the limit allows", taken >= many - 2 && taken <= many);
    check_equal("and no sooner", early, 0);
    check("few exits were enough", exits <= 2 * many);
    check("it stops", stopped <= taken + 1 && timed.taken() == stopped);
}

void made_up_for(guest& machine) {
    timed_guest timed{machine};
    const moment start = timed.start(timer_mode::periodic, 0, period);
    timed.pass_until(timed.latest(start, 5 * period + period / 2), false);
    const std::uint64_t while_off = timed.taken();
    timed.pass_until(timed.latest(start, 11 * period + period / 2));
    const std::uint64_t then = timed.taken();
    timed.pass_until(timed.latest(start, 12 * period + period / 2));
    check_equal("nothing comes while interrupts are off", while_off, 0);
    check_equal("then all that are due", then, 11);
    std::uint64_t early = 0;
    for (std::uint64_t n = 1; n <= then; ++n) {
        early += timed.time_of(n) < timed.earliest(start, n * period) ? 1 : 0;
    }
    check_equal("none is early", early, 0);
    check("the last one is in time again",
          timed.time_of(11) <= timed.latest(start, 11 * period) + late);
    check_equal("and it goes on by the period", timed.taken(), 12);
}

/// Between the modes that count nothing starts anew.
void changes(guest& machine) {
    timed_guest timed{machine};
    const moment start = timed.start(timer_mode::one_shot, 0, period);
    timed.pass_until(timed.latest(start, period / 2));
    timed.write(lvt_timer, lvt(timer_mode::periodic));
    timed.wait_for(3);
    timed.write(lvt_timer, lvt(timer_mode::one_shot));
    timed.pass_until(timed.latest(start, 7 * period));
    check_equal("the period that runs is the last", timed.taken(), 4);
    check_times(timed, start, period, 4);
}

void run() {
    struct waiting_test {
        const char* name;
        void (*run)(guest&, way, unsigned);
        unsigned slower_by;
    };
    constexpr waiting_test waiting[] = {{"one-shot", one_shot, 0},
                                        {"one-shot, at a 16th of the rate", one_shot, 4},
                                        {"periodic", periodic, 0},
                                        {"periodic, at a 16th of the rate", periodic, 4},
                                        {"TSC-deadline", by_deadline, 0}};
    struct counting_test {
        const char* name;
        void (*run)(guest&);
    };
    constexpr counting_test counting[] = {{"the current count", count_down},
                                          {"the current deadline", deadline_is_read},
                                          {"masked", mask},
                                          {"a period of 1", shortest},
                                          {"ticks that were not taken", made_up_for},
                                          {"one-shot, periodic, one-shot", changes}};
    guest machine;
    kernel::say("the preemption timer counts with bit ",
                std::uint64_t{guest::preemption_timer_bit()});
    for (const way by : every_way) {
        for (const waiting_test& each : waiting) {
            kernel::begin_part(names[static_cast<unsigned>(by)], each.name);
            each.run(machine, by, each.slower_by);
        }
    }
    for (const counting_test& each : counting) {
        kernel::begin_part(each.name);
        each.run(machine);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"virtual_timer", run};

} // namespace
