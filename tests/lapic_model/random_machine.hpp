// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "machine.hpp"

#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/saved_state.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/vcpu/event.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

/// The library and the model side by side: one machine of each, the same operations for both, and
/// whatever can be seen is compared. Where the numbers come from, a random generator or a fuzzer,
/// is for the caller to say.
namespace lapic_model {

/// The two disagree.
struct difference {
    std::string what;
};

struct fake_time {
    std::uint64_t ticks = 0;
    std::uint64_t tsc = 0;
};
struct fake_clock {
    fake_time* now;
    std::uint64_t ticks() const { return now->ticks; }
    std::uint64_t tsc() const { return now->tsc; }
};

struct wishes {
    bool takes_interrupts = true;
    bool takes_nmi = true;
};
struct wishing_vcpu {
    wishes* of;
    bool can_take_interrupt() const { return of->takes_interrupts; }
    bool can_take_nmi() const { return of->takes_nmi; }
};
struct fixed_controller {
    static constexpr std::uint8_t vector =
        0x0B; // what a guest could have given an 8259: below 16 too
    std::uint8_t acknowledge() const { return vector; }
};

using real_apic = pt::lapic::local_apic<fake_clock>;
using real_injector = pt::lapic::injector<wishing_vcpu, real_apic, fixed_controller>;

struct real_processor {
    std::unique_ptr<pt::lapic::register_page> page = std::make_unique<pt::lapic::register_page>();
    std::unique_ptr<pt::lapic::inbox> inbox = std::make_unique<pt::lapic::inbox>();
    std::unique_ptr<real_apic> apic;
    std::unique_ptr<real_injector> injector;
    wishes wish;
    unsigned notified = 0;
    unsigned notified_since = 0;   ///< it last looked
    bool may_sleep = true;         ///< it has looked into its inbox since it was last notified
    bool has_late_ticks = false;   ///< time went on, and it has not looked since
    pt::vcpu::event delivered{};   ///< by the last entry
    pt::vcpu::event interrupted{}; ///< what the last exit broke off, or an exception of the VMM's
};

/// How the machine is set up.
struct setting {
    std::array<std::uint32_t, 4> ids{0, 1, 2, 3};
    pt::lapic::timer_limits limits{};
    bool offers_suppression = true;
    bool looks_in_time = true; ///< or late, which needs limits that are none
};

/// What the mixture reached, so that a test can demand that it is worth something.
struct reached {
    unsigned vectors = 0;
    unsigned nmis = 0;
    unsigned extints = 0;
    unsigned again = 0;
    unsigned windows = 0;
    unsigned nmi_windows = 0;
    unsigned held = 0;
    unsigned broadcasts = 0;
    unsigned ipis = 0;
    unsigned arbitrations = 0;
    unsigned messages = 0;
    unsigned faults = 0;
    unsigned ticks = 0;
    unsigned inits = 0;
    unsigned start_ups = 0;
    unsigned smis = 0;
    unsigned restores = 0;
    unsigned base_changes = 0;
    unsigned x2apic_accesses = 0;
    unsigned xapic_accesses = 0;
    unsigned errors_seen = 0;
    unsigned owed_ticks = 0;

    reached& operator+=(const reached& other) {
        vectors += other.vectors;
        nmis += other.nmis;
        extints += other.extints;
        again += other.again;
        windows += other.windows;
        nmi_windows += other.nmi_windows;
        held += other.held;
        broadcasts += other.broadcasts;
        ipis += other.ipis;
        arbitrations += other.arbitrations;
        messages += other.messages;
        faults += other.faults;
        ticks += other.ticks;
        inits += other.inits;
        start_ups += other.start_ups;
        smis += other.smis;
        restores += other.restores;
        base_changes += other.base_changes;
        x2apic_accesses += other.x2apic_accesses;
        xapic_accesses += other.xapic_accesses;
        errors_seen += other.errors_seen;
        owed_ticks += other.owed_ticks;
        return *this;
    }
};

/// Choice: a callable that yields std::uint64_t.
template <class Choice>
class random_machine {
public:
    random_machine(Choice choice, const setting& as) : choice_{std::move(choice)}, setting_{as} {
        model_.processors.resize(count);
        for (unsigned n = 0; n != count; ++n) {
            real_processor& real = real_[n];
            real.apic = make_apic(n, *real.page, *real.inbox);
            connect(n);
            processor& one = model_.processors[n];
            one.id = as.ids[n];
            one.bootstrap = n == 0;
            one.offers_suppression = as.offers_suppression;
            one.timer_limits = {as.limits.minimum_period, as.limits.most_owed_ticks};
            one.version = real.page->version.raw; // the maker's choice
            one.ticks = time_->ticks;
            one.tsc = time_->tsc;
            one.power_up();
        }
    }
    random_machine(const random_machine&) = delete;
    random_machine& operator=(const random_machine&) = delete;

    static constexpr unsigned count = 4;
    reached so_far;

    /// One operation, and a look at what is cheap to see; throws difference.
    void step() {
        const unsigned n = below(count);
        ++steps_;
        operate(n);
        compare_little(n);
        if (below(64) == 0) {
            compare_all();
        }
    }
    void compare_all() {
        for (unsigned n = 0; n != count; ++n) {
            settle(n);
            compare_registers(n);
            compare_little(n);
        }
    }
    /// The last operations, the newest last.
    [[nodiscard]] std::string history() const {
        std::ostringstream out;
        for (std::uint64_t i = steps_ > log_.size() ? steps_ - log_.size() : 0; i <= steps_; ++i) {
            const operation& one = log_[i % log_.size()];
            if (one.name != nullptr) {
                out << std::dec << i << ": vcpu " << one.vcpu << ' ' << one.name << std::hex << ' '
                    << one.a << ' ' << one.b << ' ' << one.c << '\n';
            }
        }
        for (unsigned n = 0; n != count; ++n) {
            const processor& one = model_.processors[n];
            out << std::hex << "model " << n << ": base " << one.base << ", svr " << one.svr
                << ", ppr " << one.ppr() << ", IRR " << listed(one.irr) << ", ISR "
                << listed(one.isr) << std::dec << ", errors " << one.errors << std::hex
                << ", LVT timer " << one.lvt.at(at_timer) << std::dec << ", initial "
                << one.counter.initial << ", left " << one.counter.left() << ", owed " << one.owed
                << ", since last " << one.ticks - one.last_tick << '\n';
            const pt::lapic::saved_state saved = real_[n].apic->save();
            const pt::lapic::timer_state& timer = saved.timer;
            out << "library: errors " << saved.errors << ", timer initial " << timer.initial_count
                << ", left " << timer.ticks_left << ", owed " << timer.owed << ", since last "
                << timer.ticks_since_last << '\n';
        }
        return out.str();
    }

private:
    static std::string listed(const std::set<int>& of) {
        std::ostringstream out;
        for (const int vector : of) {
            out << std::hex << vector << ' ';
        }
        return out.str();
    }

    struct operation {
        const char* name = nullptr;
        unsigned vcpu = 0;
        std::uint64_t a = 0, b = 0, c = 0;
    };
    struct vcpus {
        random_machine* of;
        std::uint32_t count() const { return random_machine::count; }
        pt::lapic::inbox& inbox(std::uint32_t n) const { return *of->real_[n].inbox; }
        void notify(std::uint32_t n, pt::lapic::notification) const {
            ++of->real_[n].notified;
            of->real_[n].may_sleep = false;
            // Once for edge-triggered vectors, once for everything else.
            of->demand(++of->real_[n].notified_since <= 2, "notified again before it looked");
        }
    };

    // --- Choices --------------------------------------------------------------------------------

    std::uint32_t below(std::uint32_t limit) {
        return static_cast<std::uint32_t>(choice_() % limit);
    }
    bool one_in(std::uint32_t n) { return below(n) == 0; }
    /// Few vectors, so that they meet.
    std::uint32_t some_vector() {
        switch (below(16)) {
        case 0: return below(16);  // illegal
        case 1: return below(256); // any
        default: return 0x30 + below(6) * 0x21;
        }
    }
    std::uint32_t some_delivery() {
        constexpr std::uint32_t usual[16] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 4, 4, 2, 7, 3, 6, 5};
        return usual[below(16)];
    }

    void note(const char* name, unsigned vcpu, std::uint64_t a = 0, std::uint64_t b = 0,
              std::uint64_t c = 0) {
        log_[steps_ % log_.size()] = {name, vcpu, a, b, c};
    }
    void demand(bool condition, const char* what) {
        if (!condition) {
            throw difference{what};
        }
    }
    void demand_equal(std::uint64_t library, std::uint64_t model, const char* what,
                      std::uint64_t where = 0) {
        if (library != model) {
            std::ostringstream out;
            out << what << std::hex << " (" << where << "): library " << library << ", model "
                << model;
            throw difference{out.str()};
        }
    }

    // --- The pair -------------------------------------------------------------------------------

    std::unique_ptr<real_apic> make_apic(unsigned n, pt::lapic::register_page& page,
                                         pt::lapic::inbox& inbox) {
        using namespace pt::lapic;
        return std::make_unique<real_apic>(
            page, inbox,
            identity{.apic_id = setting_.ids[n],
                     .role = n == 0 ? processor_role::bootstrap : processor_role::application,
                     .suppression = setting_.offers_suppression ? eoi_broadcast_suppression::offered
                                                                : eoi_broadcast_suppression::absent,
                     .physical_address_width = address_width},
            fake_clock{time_.get()}, setting_.limits);
    }
    void connect(unsigned n) {
        real_[n].injector = std::make_unique<real_injector>(
            *real_[n].apic, wishing_vcpu{&real_[n].wish}, fixed_controller{});
    }
    /// The owner looks at what has arrived and what has come due.
    void settle(unsigned n) {
        real_[n].apic->synchronize();
        looked(n);
    }
    void looked(unsigned n) {
        real_[n].may_sleep = true;
        real_[n].notified_since = 0;
        real_[n].has_late_ticks = false;
    }

    // --- Operations -----------------------------------------------------------------------------

    void operate(unsigned n) {
        processor& one = model_.processors[n];
        switch (below(40)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7: write_sensibly(n); break;
        case 8:
        case 9: read_sensibly(n); break;
        case 10: hostile_mmio(n); break;
        case 11: hostile_msr(n); break;
        case 12: move_cr8(n); break;
        case 13:
        case 14:
        case 15: device_message(); break;
        case 16: local_event(n); break;
        case 17:
        case 18: change_wire(n); break;
        case 19:
        case 20:
        case 21:
        case 22: pass_time(); break;
        case 23:
        case 24:
        case 25:
        case 26:
        case 27:
        case 28:
        case 29: enter(n); break;
        case 30:
        case 31:
        case 32:
        case 33: access_register(n, at_eoi, true, 0); break;
        case 34: save_and_restore(n); break;
        case 35:
            if (one_in(8)) {
                change_mode(n);
            } else {
                accept_directly(n);
            }
            break;
        default: // most of the time, most of them run
            if (one.now_in() == mode::disabled) {
                write_msr(n, processor::msr_base, one.base | 1U << 11);
            } else if (one.waits_for_start_up && !one.start_up_vector) {
                send(n == 0 ? 1 : 0, one.id, 6, 0x9A);
            } else if (!one.software_enabled()) {
                access_register(n, at_svr, true, 0x1FF);
            } else {
                take_signals(n);
            }
            break;
        }
    }

    /// A register by the way that the mode has; `value` for a write.
    void access_register(unsigned n, unsigned offset, bool is_write, std::uint64_t value) {
        const processor& one = model_.processors[n];
        if (one.now_in() == mode::x2apic) {
            const std::uint32_t msr = 0x800 + offset / 16;
            is_write ? write_msr(n, msr, value) : read_msr(n, msr);
        } else {
            is_write ? write_mmio(n, offset, 4, value) : read_mmio(n, offset, 4);
        }
    }
    void write_sensibly(unsigned n) {
        const processor& one = model_.processors[n];
        const bool wide = one.now_in() == mode::x2apic;
        switch (below(20)) {
        case 0: access_register(n, at_tpr, true, below(0x80)); break;
        case 1:
            if (one_in(3)) { // ids that some of the four may have
                const std::uint32_t cluster = below(2) << 4 | 1U << below(4);
                access_register(n, at_ldr, true, (one_in(2) ? cluster : 1U << n) << 24);
            }
            break;
        case 2: access_register(n, at_dfr, true, one_in(2) ? 0xFFFF'FFFF : below(16) << 28); break;
        case 3:
            access_register(n, at_svr, true,
                            (one_in(16) ? 0 : 0x100U) | (one_in(2) ? 0x1000U : 0U) | below(256));
            break;
        case 4: access_register(n, at_esr, true, one_in(8) ? choice_() & 0xFFFF'FFFF : 0); break;
        case 5:
        case 6:
        case 7:
        case 8: command(n, wide); break;
        case 9:
        case 10: {
            const std::uint32_t kind = below(8);
            const std::uint32_t how = kind < 3 ? 0 : kind < 6 ? 1 : kind == 6 ? 2 : below(4);
            access_register(n, at_timer, true,
                            some_vector() | (one_in(4) ? 1U << 16 : 0U) | how << 17);
            break;
        }
        case 11:
            access_register(n, at_lint0 + below(2) * 16, true,
                            some_vector() | some_delivery() << 8 | (one_in(2) ? 0x8000U : 0U) |
                                (one_in(4) ? 0x2000U : 0U) | (one_in(4) ? 1U << 16 : 0U));
            break;
        case 12: {
            constexpr unsigned places[3] = {at_cmci, at_thermal, at_performance};
            access_register(n, places[below(3)], true,
                            some_vector() | some_delivery() << 8 | (one_in(4) ? 1U << 16 : 0U));
            break;
        }
        case 13:
            access_register(n, at_error, true, some_vector() | (one_in(4) ? 1U << 16 : 0U));
            break;
        case 14:
        case 15:
            access_register(n, at_initial_count, true,
                            one_in(8) ? choice_() & 0xFFFF'FFFF : below(40));
            break;
        case 16: access_register(n, at_divide, true, (below(8) >> 2) << 3 | below(4)); break;
        case 17: {
            const std::uint64_t soon = time_->tsc + below(100) - 20;
            write_msr(n, processor::msr_deadline, one_in(8) ? 0 : one_in(8) ? choice_() : soon);
            break;
        }
        case 18:
            if (wide) {
                write_msr(n, 0x83F, some_vector());
            } else {
                write_mmio(n, at_icr_high, 4, choice_() & 0xFFFF'FFFF);
            }
            break;
        default: // anything, anywhere
            access_register(n, below(0x40) * 16, true, choice_() & 0xFFFF'FFFF);
            break;
        }
    }
    std::uint32_t some_destination(bool wide, bool logical) {
        if (one_in(8)) {
            return wide ? 0xFFFF'FFFF : 0xFF;
        }
        if (one_in(16)) {
            return wide ? static_cast<std::uint32_t>(choice_()) : below(256);
        }
        const std::uint32_t id = setting_.ids[below(count)];
        if (!logical) {
            return wide ? id : id & 0xFF;
        }
        return wide ? (id >> 4 << 16) | (1 + below(15)) : below(2) << 4 | (1 + below(15));
    }
    void command(unsigned n, bool wide) {
        const bool logical = one_in(2);
        const std::uint32_t delivery = some_delivery();
        if ((delivery == 5 || delivery == 6) && !one_in(4)) {
            return; // INIT ends too much to come often
        }
        const std::uint32_t low = some_vector() | delivery << 8 | (logical ? 1U << 11 : 0U) |
                                  (one_in(8) ? 0 : 1U << 14) | (one_in(8) ? 1U << 15 : 0U) |
                                  (one_in(2) ? 0 : below(4)) << 18 |
                                  (one_in(32) ? 1U << below(32) & 0xFFF3'3000 : 0);
        const std::uint32_t destination = some_destination(wide, logical);
        if (wide) {
            write_msr(n, 0x830, std::uint64_t{destination} << 32 | low);
        } else {
            write_mmio(n, at_icr_high, 4, destination << 24);
            write_mmio(n, at_icr_low, 4, low);
        }
    }
    /// The machine's firmware or an operating system wakes somebody up.
    void send(unsigned from, std::uint32_t id, std::uint32_t delivery, std::uint32_t vector) {
        const processor& one = model_.processors[from];
        if (one.now_in() == mode::x2apic) {
            write_msr(from, 0x830, std::uint64_t{id} << 32 | 0x4000U | delivery << 8 | vector);
        } else if (one.now_in() == mode::xapic) {
            write_mmio(from, at_icr_high, 4, (id & 0xFF) << 24);
            write_mmio(from, at_icr_low, 4, 0x4000U | delivery << 8 | vector);
        }
    }
    void read_sensibly(unsigned n) {
        constexpr unsigned places[] = {at_tpr,   at_ppr,           at_esr,           at_timer,
                                       at_lint0, at_current_count, at_isr,           at_irr,
                                       at_svr,   at_ldr,           at_initial_count, at_error,
                                       at_tmr,   at_lint1,         at_performance};
        const unsigned offset = places[below(sizeof places / sizeof places[0])];
        const bool is_set = offset == at_isr || offset == at_irr || offset == at_tmr;
        access_register(n, offset + (is_set ? below(8) * 16 : 0), false, 0);
    }
    void hostile_mmio(unsigned n) {
        const unsigned bytes = 1U << below(4);
        const unsigned offset = one_in(8) ? static_cast<unsigned>(choice_()) & 0xFFFF'FFFF
                                          : below(one_in(4) ? 0x1010 : 0x410);
        if (one_in(2)) {
            read_mmio(n, offset, bytes);
        } else {
            write_mmio(n, offset, bytes, choice_());
        }
    }
    void hostile_msr(unsigned n) {
        const std::uint32_t msr = one_in(8) ? processor::msr_base : 0x800 + below(0x44);
        if (one_in(2)) {
            read_msr(n, msr);
        } else if (msr != processor::msr_base || one_in(8)) {
            const std::uint64_t value = one_in(2) ? choice_() & 0x1FF : choice_();
            if (msr == 0x830 && (value >> 8 & 7) == 5) {
                return;
            }
            write_msr(n, msr, value);
        } else {
            write_msr(n, msr, model_.processors[n].base | std::uint64_t{1} << below(64));
        }
    }
    void change_mode(unsigned n) {
        const std::uint64_t base = model_.processors[n].base & ~std::uint64_t{0xC00};
        constexpr std::uint64_t modes[4] = {0xC00, 0x800, 0, 0x400};
        const std::uint64_t moved = one_in(8) ? base ^ std::uint64_t{1} << (12 + below(20)) : base;
        write_msr(n, processor::msr_base, moved | modes[below(4)]);
    }

    // --- Each access to both --------------------------------------------------------------------

    void read_mmio(unsigned n, unsigned offset, unsigned bytes) {
        note("read", n, offset, bytes);
        ++so_far.xapic_accesses;
        looked(n);
        const std::uint64_t got = real_[n].apic->read(offset, static_cast<pt::mmio_width>(bytes));
        demand_equal(got, model_.processors[n].read(offset, bytes).value, "read", offset);
    }
    void write_mmio(unsigned n, unsigned offset, unsigned bytes, std::uint64_t value) {
        note("write", n, offset, bytes, value);
        ++so_far.xapic_accesses;
        looked(n);
        const auto got = real_[n].apic->write(offset, static_cast<pt::mmio_width>(bytes), value);
        compare_effect(n, got, model_.processors[n].write(offset, bytes, value), false);
    }
    void read_msr(unsigned n, std::uint32_t msr) {
        note("rdmsr", n, msr);
        demand(real_apic::handles_msr(msr), "does not handle the MSR");
        looked(n);
        const auto got = real_[n].apic->read_msr(msr);
        const outcome expected = model_.processors[n].read_msr(msr);
        demand_equal(!got.has_value(), expected.fault, "#GP of RDMSR", msr);
        if (got) {
            demand_equal(*got, expected.value, "RDMSR", msr);
            ++so_far.x2apic_accesses;
        } else {
            ++so_far.faults;
        }
    }
    void write_msr(unsigned n, std::uint32_t msr, std::uint64_t value) {
        note("wrmsr", n, msr, value);
        demand(real_apic::handles_msr(msr), "does not handle the MSR");
        looked(n);
        processor& one = model_.processors[n];
        const std::uint64_t base_before = one.base;
        const auto got = real_[n].apic->write_msr(msr, value);
        constexpr std::uint64_t reserved = 0x2FF | ~((std::uint64_t{1} << address_width) - 1);
        const outcome expected = one.write_msr(msr, value, reserved);
        demand_equal(!got.has_value(), expected.fault, "#GP of WRMSR", msr);
        if (!got) {
            ++so_far.faults;
            return;
        }
        ++so_far.x2apic_accesses;
        so_far.base_changes += one.base != base_before;
        compare_effect(n, *got, expected, one.base != base_before);
    }
    void move_cr8(unsigned n) {
        const std::uint64_t value = one_in(8) ? choice_() : below(9);
        note("mov cr8", n, value);
        settle(n);
        demand_equal(!real_[n].apic->set_cr8(value).has_value(),
                     model_.processors[n].write_cr8(value).fault, "#GP of MOV CR8");
    }
    void compare_effect(unsigned n, const pt::lapic::effect& got, const outcome& expected,
                        bool base_changes) {
        using pt::lapic::effect_kind;
        if (expected.ended) {
            demand(got.kind == effect_kind::end_of_interrupt, "no end of interrupt");
            demand_equal(got.ended.vector, static_cast<unsigned>(expected.ended_vector),
                         "EOI's vector");
            demand_equal(got.ended.broadcast, expected.broadcast, "EOI's broadcast");
            so_far.broadcasts += expected.broadcast;
        } else if (expected.send) {
            demand(got.kind == effect_kind::send, "not sent");
            compare_message(got.command, *expected.send);
            ++so_far.ipis;
            deliver(static_cast<int>(n), got.command, *expected.send);
        } else if (base_changes) {
            demand(got.kind == effect_kind::base_changed, "base_changed is not told");
        } else {
            demand(got.kind == effect_kind::nothing ||
                       (got.kind == effect_kind::end_of_interrupt && got.ended.vector == 0 &&
                        !got.ended.broadcast),
                   "an effect out of nothing");
        }
        const processor& one = model_.processors[n];
        demand_equal(real_[n].apic->base().raw, one.base & ~std::uint64_t{0xFFF}, "base");
        demand_equal(static_cast<unsigned>(real_[n].apic->current_mode()) & 3, mode_code(one),
                     "mode");
    }
    static unsigned mode_code(const processor& one) {
        using pt::lapic::apic_mode;
        switch (one.now_in()) {
        case mode::disabled: return static_cast<unsigned>(apic_mode::disabled);
        case mode::xapic: return static_cast<unsigned>(apic_mode::xapic);
        case mode::x2apic: break;
        }
        return static_cast<unsigned>(apic_mode::x2apic);
    }
    void compare_message(const pt::lapic::message& got, const sent& expected) {
        demand_equal(static_cast<unsigned>(got.delivery), static_cast<unsigned>(expected.delivery),
                     "delivery mode");
        demand_equal(static_cast<unsigned>(got.to), static_cast<unsigned>(expected.shorthand),
                     "shorthand");
        demand_equal(got.trigger == pt::lapic::trigger_mode::level, expected.level, "trigger mode");
        if (expected.delivery != smi && expected.delivery != nmi && expected.delivery != init) {
            demand_equal(got.vector, static_cast<unsigned>(expected.vector), "vector");
        }
        if (expected.shorthand == 0) {
            demand_equal(got.mode == pt::lapic::destination_mode::logical, expected.logical,
                         "destination mode");
            demand_equal(got.format == pt::lapic::destination_format::x2apic, expected.wide,
                         "destination format");
            demand_equal(got.destination, expected.destination, "destination");
        }
    }

    // --- Messages -------------------------------------------------------------------------------

    void device_message() {
        const bool logical = one_in(2);
        const std::uint64_t address = (one_in(32) ? choice_() : 0xFEE0'0000) |
                                      std::uint64_t{some_destination(false, logical)} << 12 |
                                      (one_in(4) ? 8U : 0U) | (logical ? 4U : 0U);
        std::uint32_t delivery = some_delivery();
        if (delivery == 5 && !one_in(8)) {
            delivery = 0;
        }
        const std::uint32_t data = some_vector() | delivery << 8 | (one_in(4) ? 0x8000U : 0U) |
                                   (one_in(4) ? 0 : 0x4000U) |
                                   (one_in(16) ? choice_() & 0xFFFF'3800 : 0);
        note("message", 0, address, data);
        const auto got = pt::lapic::message_of_msi(address, data);
        std::optional<sent> expected = machine::of_msi(address, data);
        demand_equal(got.has_value(), expected.has_value(), "whether it is an interrupt message");
        if (!got) {
            return;
        }
        compare_message(*got, *expected);
        ++so_far.messages;
        deliver(-1, *got, *expected);
    }
    void deliver(int from, const pt::lapic::message& real, const sent& what) {
        std::set<int> takers = model_.takers(from, what);
        const bool order_matters = what.level || what.delivery == init || what.delivery == lowest;
        for (unsigned n = 0; n != count; ++n) {
            // The library brings in messages before ticks that came first: nobody looked in
            // between.
            if (order_matters || real_[n].has_late_ticks) {
                settle(n);
            }
        }
        std::array<unsigned, count> notified{};
        for (unsigned n = 0; n != count; ++n) {
            notified[n] = real_[n].notified;
        }
        const std::set<int> candidates = model_.candidates(from, what);
        const auto done =
            from < 0 ? bus_.deliver(real) : bus_.deliver(static_cast<std::uint32_t>(from), real);
        if (what.delivery == lowest) {
            takers.clear();
            for (unsigned n = 0; n != count; ++n) {
                if (has_arrivals(n)) {
                    takers.insert(static_cast<int>(n));
                }
            }
            demand_equal(takers.size(), candidates.empty() ? 0U : 1U, "winners of the arbitration");
            for (const int n : takers) {
                demand(candidates.contains(n), "the winner has not the lowest priority");
                model_.processors[static_cast<std::size_t>(n)].receive(fixed, what.vector,
                                                                       what.level);
            }
            so_far.arbitrations += candidates.size() > 1;
        } else {
            model_.deliver(from, what);
        }
        demand_equal(done.reached, takers.size(), "reached");
        for (unsigned n = 0; n != count; ++n) {
            const bool meant = takers.contains(static_cast<int>(n));
            const bool told = real_[n].notified != notified[n];
            demand(meant || !told, "notified without a message");
            demand(static_cast<int>(n) == from || !has_arrivals(n) || !real_[n].may_sleep ||
                       from_itself_[n],
                   "a message and no notification");
            if (static_cast<int>(n) == from && has_arrivals(n)) {
                from_itself_[n] = true; // it looks by itself before it enters
            }
        }
        for (unsigned n = 0; n != count; ++n) {
            if (order_matters || from_itself_[n]) {
                settle(n);
                from_itself_[n] = false;
            }
        }
        so_far.inits += what.delivery == init && !takers.empty();
    }
    bool has_arrivals(unsigned n) {
        const pt::lapic::inbox& in = *real_[n].inbox;
        std::uint64_t any = in.signals;
        for (unsigned i = 0; i != 4; ++i) {
            any |= in.posted.requests[i] | in.level[i];
        }
        return any != 0;
    }
    void accept_directly(unsigned n) {
        const std::uint32_t vector = some_vector();
        const bool level = one_in(3);
        note("accept", n, vector, level);
        settle(n);
        using pt::lapic::acceptance;
        processor& one = model_.processors[n];
        const bool was = one.irr.contains(static_cast<int>(vector));
        const acceptance expected = one.now_in() == mode::disabled || !one.software_enabled()
                                        ? acceptance::software_disabled
                                    : vector < 16 ? acceptance::illegal_vector
                                    : was         ? acceptance::already_pending
                                                  : acceptance::accepted;
        one.accept(static_cast<int>(vector), level);
        const acceptance got = real_[n].apic->accept(static_cast<std::uint8_t>(vector),
                                                     level ? pt::lapic::trigger_mode::level
                                                           : pt::lapic::trigger_mode::edge);
        demand_equal(static_cast<unsigned>(got), static_cast<unsigned>(expected), "acceptance");
    }

    // --- Local events, time ---------------------------------------------------------------------

    void local_event(unsigned n) {
        using pt::lapic::local_source;
        constexpr std::pair<local_source, unsigned> sources[3] = {
            {local_source::cmci, at_cmci},
            {local_source::thermal_sensor, at_thermal},
            {local_source::performance_counters, at_performance}};
        const auto& which = sources[below(3)];
        note("local event", n, which.second);
        settle(n);
        real_[n].apic->raise(which.first);
        model_.processors[n].raise(which.second);
    }
    void change_wire(unsigned n) {
        const unsigned which = below(2);
        const bool asserted = one_in(2);
        note("wire", n, which, asserted);
        settle(n);
        real_[n].apic->set_wire(
            which == 0 ? pt::lapic::local_wire::lint0 : pt::lapic::local_wire::lint1,
            asserted ? pt::lapic::wire_level::asserted : pt::lapic::wire_level::deasserted);
        model_.processors[n].set_wire(static_cast<int>(which), asserted);
    }
    void pass_time() {
        std::uint64_t by = below(40);
        if (one_in(4)) { // just before, at, or just after the next event of somebody
            if (const auto due = model_.processors[below(count)].due_in()) {
                by = *due + below(3);
                by -= by != 0;
            }
        } else if (one_in(32)) {
            by = choice_() >> (24 + below(40));
        }
        // With limits it matters when somebody looks, so somebody does, whenever something is due.
        const bool looks_in_time = setting_.looks_in_time;
        const std::uint64_t longest = std::uint64_t{1} << (looks_in_time ? 12 : 32);
        by = by > longest ? longest : by;
        note("time", 0, by);
        for (unsigned n = 0; n != count; ++n) {
            settle(n); // what was sent before was there before
        }
        while (by != 0) {
            std::uint64_t part = by;
            for (unsigned n = 0; looks_in_time && n != count; ++n) {
                const auto due = model_.processors[n].due_in();
                part = due && *due != 0 && *due < part ? *due : part;
            }
            by -= part;
            time_->ticks += part;
            time_->tsc += part;
            model_.advance(part);
            for (unsigned n = 0; n != count; ++n) {
                real_[n].has_late_ticks = true;
                if (looks_in_time || one_in(2)) {
                    settle(n);
                }
            }
        }
    }

    // --- Into the guest -------------------------------------------------------------------------

    void take_signals(unsigned n) {
        note("signals", n);
        settle(n);
        processor& one = model_.processors[n];
        using pt::lapic::signal_kind;
        for (;;) {
            const auto got = real_[n].apic->next_signal();
            signal_kind expected = signal_kind::none;
            unsigned vector = 0;
            if (one.init_latch) {
                expected = signal_kind::init;
                one.init_latch = false;
                real_[n].interrupted = {};
                real_[n].delivered = {};
                connect(n); // what the injector held for this processor is gone with it
            } else if (one.waits_for_start_up && one.start_up_vector) {
                expected = signal_kind::start_up;
                vector = static_cast<unsigned>(*one.start_up_vector);
                one.start_up_vector.reset();
                one.waits_for_start_up = false;
                ++so_far.start_ups;
            } else if (one.smi_latch && !one.waits_for_start_up) {
                expected = signal_kind::smi;
                one.smi_latch = false;
                ++so_far.smis;
            }
            demand_equal(static_cast<unsigned>(got.kind), static_cast<unsigned>(expected),
                         "signal");
            if (expected == signal_kind::start_up) {
                demand_equal(got.vector, vector, "start-up vector");
            }
            if (expected == signal_kind::none) {
                break;
            }
        }
        demand_equal(real_[n].apic->waiting_for_start_up(), one.waits_for_start_up, "waits");
    }
    void enter(unsigned n) {
        take_signals(n);
        processor& one = model_.processors[n];
        real_processor& real = real_[n];
        if (one.waits_for_start_up) {
            return;
        }
        real.wish = {!one_in(4), !one_in(4)};
        bool again = false;
        if (real.delivered.present && one_in(8)) {
            real.interrupted = real.delivered;
            real.injector->interrupted(real.interrupted);
            // IF is not yet cleared, or it would not have begun.
            real.wish.takes_interrupts = true;
            again = true;
        } else if (one_in(16)) {
            real.interrupted =
                pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, below(0x1000));
            demand(real.injector->raise(real.interrupted).has_value(), "raise");
            again = true;
        }
        note("enter", n, real.wish.takes_interrupts, real.wish.takes_nmi, again);
        const auto got = real.injector->before_entry();
        const entry expected =
            one.before_entry(real.wish.takes_interrupts, real.wish.takes_nmi, again);
        pt::vcpu::event event{};
        switch (expected.event) {
        case entry::what::nothing: break;
        case entry::what::again:
            event = real.interrupted;
            ++so_far.again;
            break;
        case entry::what::nmi:
            event = pt::vcpu::nmi();
            ++so_far.nmis;
            break;
        case entry::what::extint:
            event = pt::vcpu::external_interrupt(fixed_controller::vector);
            ++so_far.extints;
            break;
        case entry::what::vector:
            event = pt::vcpu::external_interrupt(static_cast<std::uint8_t>(expected.vector));
            ++so_far.vectors;
            break;
        }
        demand_equal(got.event.present, event.present, "whether something is delivered");
        demand_equal(got.event.vector, event.vector, "delivered vector");
        demand(got.event == event, "delivered event");
        demand_equal(got.interrupt_window, expected.interrupt_window, "interrupt window");
        demand_equal(got.nmi_window, expected.nmi_window, "NMI window");
        demand_equal(got.tpr_threshold, static_cast<unsigned>(expected.held_class),
                     "TPR threshold");
        so_far.windows += expected.interrupt_window;
        so_far.nmi_windows += expected.nmi_window;
        so_far.held += expected.held_class != 0;
        real.delivered = event;
        settle(n);
        one.bring_timer_up_to_date();
    }

    // --- Save and restore -----------------------------------------------------------------------

    void save_and_restore(unsigned n) {
        note("save, restore", n);
        real_processor& real = real_[n];
        looked(n);
        const pt::lapic::saved_state state = real.apic->save();
        auto page = std::make_unique<pt::lapic::register_page>();
        auto inbox = std::make_unique<pt::lapic::inbox>();
        auto apic = make_apic(n, *page, *inbox);
        demand(apic->restore(state).has_value(), "its own state is not taken back");
        demand(apic->save() == state, "saved, restored and saved again is another state");
        real.page = std::move(page);
        real.inbox = std::move(inbox);
        real.apic = std::move(apic);
        real.delivered = {};
        connect(n);
        ++so_far.restores;
    }

    // --- Everything that can be seen ------------------------------------------------------------

    void compare_little(unsigned n) {
        settle(n);
        processor& one = model_.processors[n];
        one.bring_timer_up_to_date();
        const real_apic& apic = *real_[n].apic;
        demand_equal(apic.pending(), static_cast<unsigned>(one.deliverable()), "pending");
        demand_equal(apic.cr8(), one.cr8(), "CR8");
        demand_equal(apic.nmi_pending(), one.nmi_latch, "NMI pending");
        demand_equal(apic.extint_pending(), one.extint_pending(), "ExtINT pending");
        demand_equal(apic.registers().ppr.raw, static_cast<unsigned>(one.ppr()), "PPR");
        demand_equal(apic.is_software_enabled(), one.software_enabled(), "software-enabled");
        demand_equal(apic.has_work(), one.wakes(), "wakes");
        so_far.errors_seen += one.esr != 0;
        so_far.owed_ticks += one.owed != 0;

        const pt::lapic::deadline next = apic.next_deadline();
        using clock = pt::lapic::deadline::clock;
        const std::optional<std::uint64_t> due = one.due_in();
        // None where a tick waits for the vector to leave IRR, and the most that may wait do.
        if (due && (next.of != clock::none || one.owed == 0)) {
            demand(next.of != clock::none, "no deadline");
            const std::uint64_t now = next.of == clock::tsc ? time_->tsc : time_->ticks;
            if (one.owed == 0) {
                demand_equal(next.of == clock::tsc, one.counter.how == timer::mode::tsc_deadline,
                             "the deadline's clock");
                demand_equal(next.at - now, *due, "deadline");
            } else { // it may have been planned before the vector came into IRR in another way
                demand(next.at <= now + *due, "the deadline is too late");
            }
            ++so_far.ticks;
        }
    }
    void compare_registers(unsigned n) {
        processor& one = model_.processors[n];
        if (one.now_in() == mode::disabled) {
            return;
        }
        const bool wide = one.now_in() == mode::x2apic;
        for (unsigned offset = 0x20; offset <= at_divide; offset += 16) {
            if (wide ? processor::msr_readable(offset) : one.register_at(offset).has_value()) {
                access_register(n, offset, false, 0);
            }
        }
        read_msr(n, processor::msr_base);
        read_msr(n, processor::msr_deadline);
    }

    static constexpr std::uint8_t address_width = 40;

    Choice choice_;
    setting setting_;
    std::unique_ptr<fake_time> time_ = std::make_unique<fake_time>(fake_time{1'000'000, 5'000'000});
    machine model_;
    std::array<real_processor, count> real_;
    std::array<bool, count> from_itself_{};
    pt::lapic::bus<vcpus> bus_{vcpus{this}};
    std::array<operation, 64> log_{};
    std::uint64_t steps_ = 0;
};

} // namespace lapic_model
