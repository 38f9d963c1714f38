// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "timer.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

/// A local APIC as the manual tells it [sdm, Advanced Programmable Interrupt Controller (APIC)]:
/// slow, plain, and without anything of pt, so that a misreading would have to be made twice. Where
/// the manual leaves something open, docs/lapic.md says what pt does, and so does this.
namespace lapic_model {

// Offsets of the memory-mapped registers [sdm, Local APIC Register Address Map].
enum : unsigned {
    at_id = 0x020,
    at_version = 0x030,
    at_tpr = 0x080,
    at_apr = 0x090,
    at_ppr = 0x0A0,
    at_eoi = 0x0B0,
    at_remote_read = 0x0C0,
    at_ldr = 0x0D0,
    at_dfr = 0x0E0,
    at_svr = 0x0F0,
    at_isr = 0x100,
    at_tmr = 0x180,
    at_irr = 0x200,
    at_esr = 0x280,
    at_cmci = 0x2F0,
    at_icr_low = 0x300,
    at_icr_high = 0x310,
    at_timer = 0x320,
    at_thermal = 0x330,
    at_performance = 0x340,
    at_lint0 = 0x350,
    at_lint1 = 0x360,
    at_error = 0x370,
    at_initial_count = 0x380,
    at_current_count = 0x390,
    at_divide = 0x3E0,
    at_self_ipi = 0x3F0, ///< MSR 0x83F only
};

enum class mode { disabled, xapic, x2apic };

/// Delivery modes by number [sdm, Interrupt Command Register].
enum : int { fixed = 0, lowest = 1, smi = 2, nmi = 4, init = 5, start_up = 6, extint = 7 };

/// An interrupt message under way.
struct sent {
    int delivery = fixed;
    int vector = 0;
    bool level = false;
    int shorthand = 0;
    bool logical = false;
    bool wide = false; ///< 32 bits of destination
    std::uint32_t destination = 0;

    friend bool operator==(const sent&, const sent&) = default;
};

/// What an access led to.
struct outcome {
    bool fault = false; ///< #GP(0)
    std::uint64_t value = 0;
    std::optional<sent> send{};
    bool ended = false; ///< an EOI, of a vector in service
    int ended_vector = 0;
    bool broadcast = false;
};

/// What an entry into the guest delivers.
struct entry {
    enum class what { nothing, again, nmi, extint, vector };
    what event = what::nothing;
    int vector = 0;
    bool interrupt_window = false;
    bool nmi_window = false;
    int held_class = 0; ///< of the vector that TPR alone holds back
};

struct limits {
    std::uint64_t minimum_period = 0;
    std::uint32_t most_owed = 0;
};

class processor {
public:
    // What the model of processor has, and this guest was given.
    std::uint32_t id = 0;
    bool bootstrap = false;
    std::uint32_t version = 0;
    bool offers_suppression = true; ///< of the broadcast of EOI
    limits timer_limits;

    std::uint64_t base = 0;
    std::set<int> irr;
    std::set<int> isr;
    std::set<int> tmr;
    std::uint32_t tpr = 0;
    std::uint32_t ldr = 0;
    std::uint32_t dfr = 0;
    std::uint32_t svr = 0;
    std::uint32_t esr = 0;
    std::uint32_t errors = 0; ///< since ESR was last written
    std::uint32_t icr_low = 0;
    std::uint32_t icr_high = 0;
    std::map<unsigned, std::uint32_t> lvt;
    timer counter;
    std::uint64_t ticks = 0; ///< of the input clock, so far
    std::uint64_t tsc = 0;
    std::uint64_t owed = 0;      ///< timer interrupts that found the one before still in IRR
    std::uint64_t last_tick = 0; ///< when the timer started, or its interrupt was last put into IRR

    bool smi_latch = false;
    bool nmi_latch = false;
    bool init_latch = false; ///< the registers have been reset, the processor has not noticed yet
    bool extint_latch = false;
    std::optional<int> start_up_vector;
    bool waits_for_start_up = false;
    bool wire[2] = {false, false}; ///< LINT0 and LINT1 are asserted

    // --- Reset ----------------------------------------------------------------------------------

    /// [sdm, Local APIC State After Power-Up or Reset]
    void power_up() {
        base = 0xFEE0'0000 | 1U << 11 | (bootstrap ? 1U << 8 : 0U);
        smi_latch = nmi_latch = init_latch = extint_latch = false;
        start_up_vector.reset();
        waits_for_start_up = !bootstrap;
        wire[0] = wire[1] = false;
        reset_registers();
    }
    void reset_registers() {
        irr.clear();
        isr.clear();
        tmr.clear();
        tpr = 0;
        dfr = 0xFFFF'FFFF;
        svr = 0xFF;
        esr = 0;
        errors = 0;
        icr_low = icr_high = 0;
        for (const unsigned entry_at :
             {at_cmci, at_timer, at_thermal, at_performance, at_lint0, at_lint1, at_error}) {
            lvt[entry_at] = masked_bit;
        }
        counter = timer{};
        owed = 0;
        extint_latch = false;
        ldr = now_in() == mode::x2apic ? derived_ldr() : 0;
    }
    /// [sdm, Local APIC State After It Receives an INIT-Deassert Message, x2APIC State
    /// Transitions]: as after power-up, but for the APIC id and the mode.
    void take_init_message() {
        reset_registers();
        nmi_latch = false;
        smi_latch = false;
        init_latch = true;
        start_up_vector.reset();
        waits_for_start_up = !bootstrap;
    }

    // --- Modes ----------------------------------------------------------------------------------

    [[nodiscard]] mode now_in() const {
        if ((base & 1U << 11) == 0) {
            return mode::disabled;
        }
        return (base & 1U << 10) != 0 ? mode::x2apic : mode::xapic;
    }
    [[nodiscard]] bool software_enabled() const { return (svr & 0x100) != 0; }
    /// [sdm, Deriving Logical x2APIC ID from the Local x2APIC ID]
    [[nodiscard]] std::uint32_t derived_ldr() const { return (id >> 4 << 16) | 1U << (id & 15); }

    static constexpr std::uint64_t bootstrap_bit = 1U << 8;
    /// [sdm, Enabling or Disabling the Local APIC; x2APIC Mode Transitions]. `reserved`: bits that
    /// must be 0.
    outcome write_base(std::uint64_t value, std::uint64_t reserved) {
        const bool enable = (value & 1U << 11) != 0;
        const bool extended = (value & 1U << 10) != 0;
        const mode before = now_in();
        if ((value & reserved) != 0 || (extended && !enable) ||
            (before == mode::disabled && extended) ||
            (before == mode::x2apic && enable && !extended)) {
            return {.fault = true};
        }
        const std::uint64_t old = base;
        base = (value & ~bootstrap_bit) | (base & bootstrap_bit); // who it is, is not for software
        const mode after = now_in();
        if (after == mode::disabled && base != old) {
            reset_registers(); // "the APIC may return to" its state after power-up: pt's does
        } else if (after == mode::x2apic && before != after) {
            ldr = derived_ldr(); // "most of the APIC register states" stay
            icr_high = 0;
        }
        return {};
    }

    // --- Priority [sdm, Interrupt, Task, and Processor Priority] --------------------------------

    [[nodiscard]] static int highest(const std::set<int>& of) {
        return of.empty() ? 0 : *of.rbegin();
    }
    [[nodiscard]] int task_class() const { return static_cast<int>(tpr >> 4 & 15); }
    [[nodiscard]] int service_class() const { return highest(isr) >> 4; }
    /// The sub-class is open to the model of processor when both classes are equal; pt has TPR's.
    [[nodiscard]] int ppr() const {
        if (task_class() >= service_class()) {
            return static_cast<int>(tpr & 0xFF);
        }
        return service_class() << 4;
    }
    [[nodiscard]] int deliverable() const {
        const int vector = highest(irr);
        return vector >> 4 > ppr() >> 4 ? vector : 0;
    }

    // --- Acceptance -----------------------------------------------------------------------------

    /// [sdm, Error Handling]. The first error since ESR was written raises the error interrupt.
    void note(unsigned bit) {
        const bool first = errors == 0;
        errors |= 1U << bit;
        if (!first || (lvt[at_error] & masked_bit) != 0) {
            return;
        }
        const int vector = static_cast<int>(lvt[at_error] & 0xFF);
        if (vector < 16) {
            errors |= 1U << 6;
            return;
        }
        put(vector, false);
    }
    /// A fixed interrupt, from the bus or from the local vector table.
    void accept(int vector, bool level) {
        if (!software_enabled() || now_in() == mode::disabled) {
            return;
        }
        if (vector < 16) {
            note(6);
            return;
        }
        put(vector, level);
    }
    void put(int vector, bool level) {
        irr.insert(vector);
        if (level) {
            tmr.insert(vector);
        } else {
            tmr.erase(vector);
        }
    }
    /// What a message of any delivery mode does to a processor that it reaches.
    void receive(int delivery, int vector, bool level) {
        if (now_in() == mode::disabled) {
            return;
        }
        switch (delivery) {
        case fixed:
        case lowest: accept(vector, level); break;
        case smi: smi_latch = true; break;
        case nmi: nmi_latch = true; break;
        case init: take_init_message(); break;
        case start_up: // "SIPI counts only while waiting for it", and the first one does
            if (waits_for_start_up && !start_up_vector) {
                start_up_vector = vector;
            }
            break;
        case extint: // not among the messages that a software-disabled APIC responds to
            extint_latch = extint_latch || software_enabled();
            break;
        default: break;
        }
    }

    // --- Local vector table ---------------------------------------------------------------------

    static constexpr std::uint32_t masked_bit = 1U << 16;
    static constexpr std::uint32_t remote_irr_bit = 1U << 14;

    [[nodiscard]] static std::uint32_t writable_of(unsigned entry_at) {
        switch (entry_at) {
        case at_timer: return 0x0007'00FF;
        case at_error: return 0x0001'00FF;
        case at_lint0:
        case at_lint1: return 0x0001'A7FF;
        default: return 0x0001'07FF;
        }
    }
    void write_lvt(unsigned entry_at, std::uint32_t value) {
        std::uint32_t& held = lvt[entry_at];
        held = (value & writable_of(entry_at)) | (held & remote_irr_bit);
        if (!software_enabled()) {
            held |= masked_bit;
        }
        if ((held >> 8 & 7) != fixed || (held & 1U << 15) == 0) {
            held &= ~remote_irr_bit; // it has a meaning for fixed, level-triggered interrupts only
        }
        if (entry_at == at_timer) {
            const unsigned code = held >> 17 & 3;
            const timer::mode before = counter.how;
            counter.set_mode(code == 0   ? timer::mode::one_shot
                             : code == 1 ? timer::mode::periodic
                             : code == 2 ? timer::mode::tsc_deadline
                                         : timer::mode::reserved);
            const bool goes_on =
                before == counter.how || (timer::counts(before) && timer::counts(counter.how));
            if ((held & masked_bit) != 0 || !goes_on) {
                owed = 0;
            }
            if (before != counter.how) {
                owe(0); // of a count that becomes one-shot, one is kept
            }
            bring_timer_up_to_date();
        }
        if (entry_at == at_lint0 || entry_at == at_lint1) {
            look_at_wire(entry_at == at_lint0 ? 0 : 1);
        }
    }
    /// One of the sources that has no wire: thermal sensor, performance counters, CMCI.
    void raise(unsigned entry_at) {
        const std::uint32_t held = lvt[entry_at];
        if (now_in() == mode::disabled || (held & masked_bit) != 0) {
            return;
        }
        const int delivery = static_cast<int>(held >> 8 & 7);
        if (delivery == init) {
            return; // not supported for these entries, and nothing is handled
        }
        if (entry_at == at_performance) {
            lvt[at_performance] |= masked_bit; // the local APIC sets the mask by itself
        }
        if (delivery == fixed || delivery == smi || delivery == nmi) {
            receive(delivery, static_cast<int>(held & 0xFF), false);
        }
    }
    void set_wire(int which, bool asserted) {
        const bool rises = asserted && !wire[which];
        wire[which] = asserted;
        if (now_in() == mode::disabled) {
            nmi_latch = nmi_latch || (which == 1 && rises); // LINT1 is the NMI pin then
            return;
        }
        const std::uint32_t held = lvt[which == 0 ? at_lint0 : at_lint1];
        if (rises && (held & masked_bit) == 0) {
            const int delivery = static_cast<int>(held >> 8 & 7);
            const bool level = (held & 1U << 15) != 0;
            if (delivery == smi || delivery == nmi || delivery == init ||
                (delivery == fixed && !level)) {
                receive(delivery, static_cast<int>(held & 0xFF), false);
            }
        }
        look_at_wire(which);
    }
    /// A level-sensitive wire asks for as long as it is asserted and not in service already.
    void look_at_wire(int which) {
        if (now_in() == mode::disabled) {
            return;
        }
        std::uint32_t& held = lvt[which == 0 ? at_lint0 : at_lint1];
        const bool fixed_level = (held >> 8 & 7) == fixed && (held & 1U << 15) != 0;
        if (wire[which] && fixed_level && (held & (masked_bit | remote_irr_bit)) == 0) {
            const int vector = static_cast<int>(held & 0xFF);
            accept(vector, true);
            if (vector >= 16) {
                held |= remote_irr_bit;
            }
        }
    }
    /// ExtINT is always level-sensitive on a wire; as a message it is remembered.
    [[nodiscard]] bool extint_pending() const {
        if (now_in() == mode::disabled) {
            return wire[0]; // LINT0 is the INTR pin then
        }
        for (const unsigned which : {0U, 1U}) {
            const std::uint32_t held = lvt.at(which == 0 ? at_lint0 : at_lint1);
            if (wire[which] && (held & masked_bit) == 0 && (held >> 8 & 7) == extint) {
                return true;
            }
        }
        return extint_latch;
    }

    // --- End of interrupt -----------------------------------------------------------------------

    outcome end_of_interrupt() {
        if (isr.empty()) {
            return {};
        }
        const int vector = *isr.rbegin();
        isr.erase(vector);
        const bool was_level = tmr.contains(vector);
        for (const int which : {0, 1}) {
            std::uint32_t& held = lvt[which == 0 ? at_lint0 : at_lint1];
            if ((held & remote_irr_bit) != 0 && static_cast<int>(held & 0xFF) == vector) {
                held &= ~remote_irr_bit;
                look_at_wire(which);
            }
        }
        return {
            .ended = true, .ended_vector = vector, .broadcast = was_level && (svr & 1U << 12) == 0};
    }

    // --- Interrupt command register -------------------------------------------------------------

    /// [sdm, Valid Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC ICR]
    std::optional<sent> command(bool wide) {
        const int delivery = static_cast<int>(icr_low >> 8 & 7);
        const int vector = static_cast<int>(icr_low & 0xFF);
        const int shorthand = static_cast<int>(icr_low >> 18 & 3);
        const bool asserts = (icr_low & 1U << 14) != 0;
        const bool level = (icr_low & 1U << 15) != 0;
        if (delivery == 3 || delivery == extint) {
            return {}; // reserved
        }
        if (delivery == init && level && !asserts) {
            return {}; // INIT level de-assert: nothing since the Pentium 4
        }
        if (delivery != fixed && (shorthand == 1 || shorthand == 2)) {
            return {}; // invalid with "self" and with "all including self"
        }
        if ((delivery == fixed || delivery == lowest) && vector < 16) {
            note(5);
            return {};
        }
        sent out{.delivery = delivery, .vector = vector, .shorthand = shorthand};
        if (shorthand == 0) {
            out.logical = (icr_low & 1U << 11) != 0;
            out.wide = wide;
            out.destination = wide ? icr_high : icr_high >> 24;
        }
        return out;
    }

    // --- Timer ----------------------------------------------------------------------------------

    /// Time goes on, event by event: a count that reaches 0, or an owed interrupt that may go.
    void advance(std::uint64_t by) {
        bring_timer_up_to_date();
        while (by != 0) {
            std::uint64_t step = by;
            if (const std::uint64_t left = counter.left(); left != 0) {
                step = std::min(step, left);
            }
            if (counter.how == timer::mode::tsc_deadline && counter.deadline > tsc) {
                step = std::min(step, counter.deadline - tsc);
            }
            if (const std::uint64_t wait = owed_wait(); wait != 0) {
                step = std::min(step, wait);
            }
            if (all_alike() && by >= 2 * counter.period()) {
                const std::uint64_t periods = by / counter.period();
                if (!timer_masked()) {
                    owe(static_cast<int>(lvt[at_timer] & 0xFF) < 16 ? 0 : periods);
                }
                by -= periods * counter.period();
                ticks += periods * counter.period();
                tsc += periods * counter.period();
                continue;
            }
            by -= step;
            ticks += step;
            tsc += step;
            if (counter.count_down(step)) {
                tick();
            }
            bring_timer_up_to_date();
        }
    }
    [[nodiscard]] bool timer_masked() const { return (lvt.at(at_timer) & masked_bit) != 0; }
    /// Whether each of the periods that come does nothing but to be owed.
    [[nodiscard]] bool all_alike() const {
        const int vector = static_cast<int>(lvt.at(at_timer) & 0xFF);
        return counter.how == timer::mode::periodic && counter.left() != 0 &&
               counter.left() == counter.period() &&
               (timer_masked() || irr.contains(vector) ||
                (vector < 16 && (errors & 1U << 6) != 0 && timer_limits.minimum_period == 0));
    }
    /// The limits are pt's. A periodic interrupt does not follow its start, or the one before,
    /// sooner than the minimum; ticks of periods that are not shorter are made up for, to some
    /// number.
    [[nodiscard]] std::uint64_t held_back() const {
        const std::uint64_t since = ticks - last_tick;
        return counter.how == timer::mode::periodic && since < timer_limits.minimum_period
                   ? timer_limits.minimum_period - since
                   : 0;
    }
    void owe(std::uint64_t due) {
        const bool each =
            counter.how == timer::mode::periodic && counter.period() >= timer_limits.minimum_period;
        const std::uint64_t most = each ? std::max<std::uint64_t>(timer_limits.most_owed, 1) : 1;
        owed = std::min(owed + due, most);
    }
    /// How long until an owed interrupt may be delivered; 0: there is none, or it waits for IRR.
    [[nodiscard]] std::uint64_t owed_wait() const {
        const bool waits = owed != 0 && !timer_masked() &&
                           !irr.contains(static_cast<int>(lvt.at(at_timer) & 0xFF));
        return waits ? held_back() : 0;
    }
    /// A tick came due. Each is delivered once, if need be later.
    void tick() {
        if (timer_masked() || now_in() == mode::disabled) {
            return;
        }
        owe(1);
    }
    void bring_timer_up_to_date() {
        if (counter.deadline_comes(tsc)) {
            tick();
        }
        const int vector = static_cast<int>(lvt[at_timer] & 0xFF);
        if (owed == 0 || timer_masked() || irr.contains(vector) || held_back() != 0) {
            return;
        }
        --owed;
        last_tick = ticks;
        if (vector < 16) { // in no IRR: the others that are due by now are the same error
            owed = 0;
            note(6);
        } else {
            put(vector, false);
        }
    }
    /// Input ticks until the timer next does something of its own accord that a guest or a VMM
    /// could notice; nothing: never.
    [[nodiscard]] std::optional<std::uint64_t> due_in() const {
        std::optional<std::uint64_t> soonest;
        const auto consider = [&](std::uint64_t when) {
            soonest = soonest ? std::min(*soonest, when) : when;
        };
        if (timer_masked() || now_in() == mode::disabled) {
            return {};
        }
        if (counter.left() != 0) {
            consider(std::max(counter.left(), held_back()));
        }
        if (counter.how == timer::mode::tsc_deadline && counter.deadline != 0) {
            consider(counter.deadline > tsc ? counter.deadline - tsc : 0);
        }
        if (owed_wait() != 0) {
            consider(owed_wait());
        }
        return soonest;
    }

    // --- Registers ------------------------------------------------------------------------------

    [[nodiscard]] static std::uint32_t bits_of(const std::set<int>& of, unsigned which) {
        std::uint32_t bits = 0;
        for (const int vector : of) {
            if (static_cast<unsigned>(vector) / 32 == which) {
                bits |= 1U << vector % 32;
            }
        }
        return bits;
    }
    /// Nothing for a reserved place.
    [[nodiscard]] std::optional<std::uint32_t> register_at(unsigned offset) {
        if (offset >= at_isr && offset < at_tmr) {
            return bits_of(isr, (offset - at_isr) / 16);
        }
        if (offset >= at_tmr && offset < at_irr) {
            return bits_of(tmr, (offset - at_tmr) / 16);
        }
        if (offset >= at_irr && offset < at_esr) {
            return bits_of(irr, (offset - at_irr) / 16);
        }
        if (lvt.contains(offset)) {
            return lvt[offset];
        }
        switch (offset) {
        case at_id: return now_in() == mode::x2apic ? id : id << 24;
        case at_version: return version;
        case at_tpr: return tpr;
        case at_ppr: return static_cast<std::uint32_t>(ppr());
        case at_apr:           // not in a processor that has an x2APIC, and no error either
        case at_remote_read:   // the same
        case at_eoi: return 0; // write only
        case at_ldr: return ldr;
        case at_dfr: return dfr;
        case at_svr: return svr;
        case at_esr: return esr;
        case at_icr_low: return icr_low;
        case at_icr_high: return icr_high;
        case at_initial_count: return counter.initial;
        case at_current_count: return counter.current();
        case at_divide: return counter.divide_register;
        default: return {};
        }
    }
    outcome write_register(unsigned offset, std::uint32_t value) {
        if (lvt.contains(offset)) {
            write_lvt(offset, value);
            return {};
        }
        switch (offset) {
        case at_tpr: tpr = value & 0xFF; break;
        case at_eoi: return end_of_interrupt();
        case at_ldr: ldr = value & 0xFF00'0000; break;
        case at_dfr: dfr = value | 0x0FFF'FFFF; break;
        case at_svr: write_svr(value); break;
        case at_esr:
            esr = errors;
            errors = 0;
            break;
        case at_icr_high: icr_high = value & 0xFF00'0000; break;
        case at_icr_low: icr_low = value & 0x000C'CFFF; return {.send = command(false)};
        case at_initial_count:
            if (timer::counts(counter.how)) {
                counter.write_initial(value);
                owed = 0;
                last_tick = value != 0 ? ticks : last_tick;
            }
            break;
        case at_divide:
            counter.write_divide(value);
            owe(0); // of a period that is a short one now, one is kept
            break;
        default: break; // read only
        }
        return {};
    }
    /// [sdm, Spurious-Interrupt Vector Register; Local APIC State After It Has Been Software
    /// Disabled]
    void write_svr(std::uint32_t value) {
        svr = value & svr_writable();
        if (!software_enabled()) {
            for (auto& [at, held] : lvt) {
                held |= masked_bit;
            }
            owed = 0;
        }
    }
    [[nodiscard]] std::uint32_t svr_writable() const { return offers_suppression ? 0x13FF : 0x3FF; }

    // --- The guest's accesses -------------------------------------------------------------------

    outcome read(unsigned offset, unsigned bytes) {
        const std::uint64_t all =
            bytes == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * bytes) - 1;
        if (now_in() != mode::xapic) {
            return {.value = all};
        }
        const unsigned inside = offset % 16;
        if (offset > 0xFFF || inside + bytes > 4) {
            return {.value = 0};
        }
        const std::optional<std::uint32_t> held = register_at(offset - inside);
        if (!held) {
            note(7);
            return {.value = 0};
        }
        return {.value = *held >> 8 * inside & all};
    }
    outcome write(unsigned offset, unsigned bytes, std::uint64_t value) {
        if (init_latch) {
            return {}; // the program that wrote is gone
        }
        if (now_in() != mode::xapic || offset > 0xFFF || bytes != 4 || offset % 16 != 0) {
            return {};
        }
        if (!register_at(offset)) {
            note(7);
            return {};
        }
        return write_register(offset, static_cast<std::uint32_t>(value));
    }

    /// [sdm, x2APIC Register Address Space]: what an MSR allows.
    [[nodiscard]] static bool msr_readable(unsigned offset) {
        return offset == at_id || offset == at_version || offset == at_tpr || offset == at_ppr ||
               offset == at_ldr || offset == at_svr || (offset >= at_isr && offset <= at_esr) ||
               offset == at_cmci || offset == at_icr_low ||
               (offset >= at_timer && offset <= at_current_count) || offset == at_divide;
    }
    /// The bits that may be 1 in what is written; nothing: no write at all.
    [[nodiscard]] std::optional<std::uint64_t> msr_writable(unsigned offset) const {
        switch (offset) {
        case at_tpr: return 0xFF;
        case at_eoi:
        case at_esr: return 0;
        case at_svr: return svr_writable();
        case at_icr_low: return 0xFFFF'FFFF'000C'DFFF; // Intel's processors ignore bit 12
        case at_timer:
        case at_cmci:
        case at_thermal:
        case at_performance:
        case at_error: return writable_of(offset) | 1U << 12;
        case at_lint0:
        case at_lint1: return writable_of(offset) | 1U << 12 | remote_irr_bit;
        case at_initial_count: return 0xFFFF'FFFF;
        case at_divide: return 0xB;
        case at_self_ipi: return 0xFF;
        default: return {};
        }
    }
    static constexpr std::uint32_t msr_base = 0x1B;
    static constexpr std::uint32_t msr_deadline = 0x6E0;

    outcome read_msr(std::uint32_t msr) {
        if (msr == msr_base) {
            return {.value = base};
        }
        if (msr == msr_deadline) {
            return {.value = counter.how == timer::mode::tsc_deadline ? counter.deadline : 0};
        }
        const unsigned offset = (msr - 0x800) * 16;
        if (now_in() != mode::x2apic || !msr_readable(offset)) {
            return {.fault = true};
        }
        if (offset == at_icr_low) {
            return {.value = std::uint64_t{icr_high} << 32 | icr_low};
        }
        return {.value = register_at(offset).value()};
    }
    outcome write_msr(std::uint32_t msr, std::uint64_t value, std::uint64_t reserved_of_base) {
        if (init_latch) {
            return {};
        }
        if (msr == msr_base) {
            return write_base(value, reserved_of_base);
        }
        if (msr == msr_deadline) {
            counter.write_deadline(value);
            owed = counter.how == timer::mode::tsc_deadline ? 0 : owed;
            bring_timer_up_to_date();
            return {};
        }
        const unsigned offset = (msr - 0x800) * 16;
        const std::optional<std::uint64_t> allowed = msr_writable(offset);
        if (now_in() != mode::x2apic || !allowed || (value & ~*allowed) != 0) {
            return {.fault = true};
        }
        if (offset == at_icr_low) {
            icr_low = static_cast<std::uint32_t>(value) & 0x000C'CFFF;
            icr_high = static_cast<std::uint32_t>(value >> 32);
            return {.send = command(true)};
        }
        if (offset == at_self_ipi) {
            if (value < 16) {
                note(5);
                return {};
            }
            return {.send = sent{.vector = static_cast<int>(value), .shorthand = 1}};
        }
        return write_register(offset, static_cast<std::uint32_t>(value));
    }
    [[nodiscard]] std::uint64_t cr8() const { return tpr >> 4; }
    outcome write_cr8(std::uint64_t value) {
        if (value > 15) {
            return {.fault = true};
        }
        if (!init_latch) {
            tpr = static_cast<std::uint32_t>(value) << 4;
        }
        return {};
    }

    // --- Into the guest -------------------------------------------------------------------------

    /// One event an entry: what was interrupted, NMI, ExtINT, the highest vector.
    entry before_entry(bool takes_interrupts, bool takes_nmi, bool interrupted) {
        entry out;
        if (interrupted) {
            out.event = entry::what::again;
        } else if (nmi_latch && takes_nmi) {
            out.event = entry::what::nmi;
            nmi_latch = false;
        } else if (extint_pending() && takes_interrupts) {
            out.event = entry::what::extint;
            extint_latch = false;
        } else if (deliverable() != 0 && takes_interrupts) {
            out.event = entry::what::vector;
            out.vector = deliverable();
            irr.erase(out.vector);
            isr.insert(out.vector);
        }
        out.nmi_window = nmi_latch;
        out.interrupt_window = extint_pending() || deliverable() != 0;
        const int waiting = highest(irr) >> 4;
        if (waiting > service_class() && waiting <= task_class()) {
            out.held_class = waiting;
        }
        return out;
    }
    /// Something would be delivered to a halted processor that takes interrupts.
    [[nodiscard]] bool wakes() const {
        if (waits_for_start_up) { // NMI and SMI are held until then
            return init_latch || start_up_vector;
        }
        return nmi_latch || smi_latch || init_latch || start_up_vector || extint_pending() ||
               deliverable() != 0;
    }
};

} // namespace lapic_model
