// SPDX-License-Identifier: BSL-1.0
//
// A processor for the loop that is none: its guests are lists of steps, most of which exit. It takes the
// events that the loop delivers, runs handlers for them, and keeps book.
#pragma once

#include "../../../examples/vmm/loop/host_clock.hpp"
#include "../../../examples/vmm/world.hpp"

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace toy {

/// The time of a host that the toys share. The TSC counts at 2 GHz.
struct host_time {
    std::uint64_t now = 1'000'000'000;
};
struct host_clock {
    host_time* time;
    std::uint64_t now() { return time->now; }
    std::uint64_t tsc() { return time->now * 2; }
    std::uint32_t tsc_kilohertz() { return 2'000'000; }
};
static_assert(vmm::host_clock<host_clock>);

class world;

struct step {
    enum class kind : std::uint8_t {
        exits, ///< with `exit`; `before` sets registers, `after` looks at them once it is done
        sti,
        cli,
        iret,
        spin, ///< until an interrupt takes it away, again and again
        does, ///< `before`, and no exit
        jump, ///< to the first step
    };
    kind what = kind::exits;
    vmm::vm_exit exit{};
    std::function<void(world&)> before{};
    std::function<void(world&)> after{};
};
using program = std::vector<step>;

/// A model of vmm::world.
class world {
public:
    static constexpr std::uint64_t per_exit = 1'000; ///< nanoseconds

    explicit world(host_time& time) : time_{&time} {}

    program main;
    std::map<unsigned, program> handlers; ///< by vector
    std::vector<pt::vcpu::event> delivered;
    std::vector<std::uint8_t>
        host_interrupts;           ///< that arrive while it spins or halts, one each time
    unsigned entry_fails_with = 0; ///< the vector of an event that the processor refuses
    unsigned ended_interrupts = 0;
    unsigned windows = 0; ///< entries that asked for the interrupt window
    std::uint64_t ran_for = 0;

    vmm::vm_exit run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds) {
        windows += decision.interrupt_window ? 1 : 0;
        time_->now += per_exit;
        ran_for += per_exit;
        if (decision.event.present) {
            if (decision.event.vector == entry_fails_with) {
                vmm::vm_exit exit = of(vmm::exit_kind::failed);
                exit.interrupted = decision.event;
                return exit;
            }
            delivered.push_back(decision.event);
            const auto handler = handlers.find(decision.event.vector);
            if (handler != handlers.end()) {
                stack_.push_back({&handler->second, 0, state_.rflags});
                state_.rflags &= ~interrupt_flag;
            }
        }
        for (unsigned steps = 0; steps != 1000; ++steps) {
            if (decision.interrupt_window && can_take_interrupt()) {
                return of(vmm::exit_kind::interrupt_window);
            }
            if (!host_interrupts.empty() && here().what == step::kind::spin) {
                return interrupt();
            }
            step& next = here();
            switch (next.what) {
            case step::kind::exits: {
                if (next.before) {
                    next.before(*this);
                }
                vmm::vm_exit exit = next.exit;
                if (exit.length == 0) {
                    exit.length = 2;
                }
                exit.io.length = exit.length;
                return exit;
            }
            case step::kind::sti: state_.rflags |= interrupt_flag; break;
            case step::kind::cli: state_.rflags &= ~interrupt_flag; break;
            case step::kind::iret: {
                const std::uint64_t rflags = stack_.back().rflags;
                stack_.pop_back();
                state_.rflags = rflags;
                continue;
            }
            case step::kind::does: next.before(*this); break;
            case step::kind::jump: position() = 0; continue;
            case step::kind::spin:
                time_->now += nanoseconds;
                ran_for += nanoseconds;
                return of(vmm::exit_kind::preempted);
            }
            ++position();
        }
        return of(vmm::exit_kind::failed);
    }

    vmm::vm_exit halt(std::uint64_t nanoseconds) {
        if (!host_interrupts.empty()) {
            return interrupt();
        }
        time_->now += nanoseconds;
        return of(vmm::exit_kind::preempted);
    }

    pt::vcpu::general_registers& general() { return general_; }
    [[nodiscard]] vmm::cpu_state state() const { return state_; }
    void set_state(const vmm::cpu_state& state) { state_ = state; }
    [[nodiscard]] std::uint64_t rflags() const { return state_.rflags; }
    void set_rflags(std::uint64_t value) { state_.rflags = value; }
    void set_cr2(std::uint64_t value) { state_.cr2 = value; }
    pt::vcpu::event finish_instruction(std::uint8_t) {
        const auto after = here().after;
        ++position();
        if (after) {
            after(*this);
        }
        return {};
    }
    [[nodiscard]] pt::vcpu::instruction_bytes code() const { return {}; }
    [[nodiscard]] bool can_take_interrupt() const { return (state_.rflags & interrupt_flag) != 0; }
    [[nodiscard]] bool can_take_nmi() const { return true; }
    pt::result<std::uint64_t> read_msr(std::uint32_t number) {
        return pt::error{pt::errc::absent, number};
    }
    pt::result<void> write_msr(std::uint32_t number, std::uint64_t) {
        return pt::error{pt::errc::absent, number};
    }
    void end_interrupt() { ++ended_interrupts; }

    /// The handler of an exception skips the instruction that raised it.
    void skip_interrupted() { ++stack_[stack_.size() - 2].position; }
    void begin() { stack_.assign(1, {&main, 0, 0}); }

private:
    static constexpr std::uint64_t interrupt_flag = 1U << 9;

    struct frame {
        program* steps;
        std::size_t position;
        std::uint64_t rflags;
    };

    step& here() {
        static step end{.what = step::kind::exits, .exit = {.kind = vmm::exit_kind::other}};
        frame& top = stack_.back();
        return top.position < top.steps->size() ? (*top.steps)[top.position] : end;
    }
    std::size_t& position() { return stack_.back().position; }
    static vmm::vm_exit of(vmm::exit_kind kind) {
        vmm::vm_exit exit{};
        exit.kind = kind;
        return exit;
    }
    vmm::vm_exit interrupt() {
        vmm::vm_exit exit = of(vmm::exit_kind::external_interrupt);
        exit.vector = host_interrupts.front();
        host_interrupts.erase(host_interrupts.begin());
        return exit;
    }

    host_time* time_;
    pt::vcpu::general_registers general_{};
    vmm::cpu_state state_{};
    std::vector<frame> stack_{{&main, 0, 0}};
};
static_assert(vmm::world<world>);

/// One that decodes instructions itself.
class decoding_world : public world {
public:
    using world::world;
    std::uint64_t read = 0;
    std::uint8_t cr8 = 0; ///< as the guest reads it
    void set_cr8(std::uint8_t value) { cr8 = value; }
    void finish_read(std::uint64_t value) {
        read = value;
        (void)finish_instruction(0);
    }
};
static_assert(vmm::decoding_world<decoding_world>);

// ------------------------------------------------------------------------------------ instructions

using pt::vcpu::general_register;

inline step exits(vmm::exit_kind kind, std::function<void(world&)> before = {},
                  std::function<void(world&)> after = {}) {
    step made{.before = std::move(before), .after = std::move(after)};
    made.exit.kind = kind;
    return made;
}
inline step out(std::uint16_t port, std::uint32_t value, pt::width size = pt::width::byte) {
    step made = exits(vmm::exit_kind::io,
                      [value](world& w) { w.general()[general_register::rax] = value; });
    made.exit.io = {
        .port = pt::io_port{port}, .size = size, .direction = pt::vcpu::io_direction::out};
    return made;
}
inline step in(std::uint16_t port, std::uint64_t* to, pt::width size = pt::width::byte) {
    step made = exits(
        vmm::exit_kind::io, [](world& w) { w.general()[general_register::rax] = 0; },
        [to](world& w) { *to = w.general()[general_register::rax]; });
    made.exit.io = {
        .port = pt::io_port{port}, .size = size, .direction = pt::vcpu::io_direction::in};
    return made;
}
inline step wrmsr(std::uint32_t number, const std::function<std::uint64_t()>& value) {
    return exits(vmm::exit_kind::write_msr, [number, value](world& w) {
        const std::uint64_t what = value();
        w.general()[general_register::rcx] = number;
        w.general()[general_register::rax] = what & 0xFFFF'FFFF;
        w.general()[general_register::rdx] = what >> 32;
    });
}
inline step wrmsr(std::uint32_t number, std::uint64_t value) {
    return wrmsr(number, [value] { return value; });
}
inline step rdmsr(std::uint32_t number, std::uint64_t* to) {
    return exits(
        vmm::exit_kind::read_msr,
        [number](world& w) { w.general()[general_register::rcx] = number; },
        [to](world& w) {
            *to = w.general()[general_register::rdx] << 32 | w.general()[general_register::rax];
        });
}
inline step hlt() { return exits(vmm::exit_kind::hlt); }
inline step sti() { return {.what = step::kind::sti}; }
inline step cli() { return {.what = step::kind::cli}; }
inline step iret() { return {.what = step::kind::iret}; }
inline step spin() { return {.what = step::kind::spin}; }
inline step jump() { return {.what = step::kind::jump}; }
inline step does(std::function<void(world&)> what) {
    return {.what = step::kind::does, .before = std::move(what)};
}

inline program operator+(program first, const program& second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

} // namespace toy
