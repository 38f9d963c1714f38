// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/answer.hpp"
#include "pt/assign/claims.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/processor.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/effect.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/processor_signal.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"

#include "../pc/cpuid.hpp"
#include "../pc/guest_memory.hpp"
#include "../pc/guest_ram.hpp"
#include "../pc/model_specific_registers.hpp"
#include "../pc/multiboot.hpp"
#include "../pc/run_end.hpp"
#include "../world.hpp"
#include "board.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm {

/// What run() has come to.
enum class progress : std::uint8_t {
    ready, ///< it had its time, or others have something to do
    halts, ///< it waits for an interrupt
    ended, ///< virtual_pc::end() says how
};

/// What the loop of one guest asks of those around it. pass_on(vector): an interrupt of the host's that is
/// not the guest's; whether somebody has something to do now. after_exit(): an exit has been handled.
template <class H>
concept loop_hooks = requires(H& hooks, std::uint8_t vector) {
    { hooks.pass_on(vector) } -> std::same_as<bool>;
    { hooks.after_exit() } -> std::same_as<void>;
};

/// A guest's PC with its processor: the exit loop. It knows neither VMX nor SVM nor KVM, which are
/// `World`, nor what is assigned to the guest, which is assign::guest's. `Cpuid` is a callable (leaf,
/// subleaf) that gives the host's answer to CPUID.
template <pt::assign::vmm V, world World, class Board, class Cpuid>
class virtual_pc {
public:
    using guest_type = pt::assign::guest<V>;
    using memory_type = pc::guest_memory<World>;
    using injector_type = pt::lapic::injector<state_of<World>, typename Board::apic_type,
                                              typename Board::interrupt_acknowledge>;
    using processor_type =
        pt::assign::processor<V, typename Board::apic_type, injector_type, memory_type>;

    /// `physical_address_width`: MAXPHYADDR of the guest, as `hardware` has it. All references outlive this.
    virtual_pc(World& world, guest_type& guest, Board& hardware, pc::guest_ram ram, Cpuid cpuid,
               std::uint8_t physical_address_width)
        : world_{world},
          guest_{guest},
          board_{hardware},
          injector_{hardware.apic(), state_of<World>{&world}, hardware.acknowledge()},
          processor_{guest, 0, hardware.apic(), injector_,
                     memory_type{world, ram, physical_address_width}},
          cpuid_{std::move(cpuid),
                 {.apic_id = hardware.apic().apic_id(),
                  .physical_address_width = physical_address_width,
                  .tsc_kilohertz = hardware.time().clock.tsc_kilohertz(),
                  .apic_kilohertz = Board::time_type::kilohertz}},
          msrs_{time_stamp_counter{&hardware}} {}

    virtual_pc(const virtual_pc&) = delete;
    virtual_pc& operator=(const virtual_pc&) = delete;

    /// Takes the guest's space for what this PC plays: local APIC, I/O APIC, ports, and 00:00.0. Errors of
    /// guest::reserve(), guest::reserve_ports() and guest::plug_in().
    pt::result<void> reserve_devices() {
        using chipset = typename Board::chipset_type;
        const pt::range<pt::gpa> local_apic{pt::lapic::apic_base::default_base, 4 * pt::KiB};
        if (const auto taken = guest_.reserve(local_apic, pt::assign::space_use::local_apic);
            !taken) {
            return taken;
        }
        if (const auto taken =
                guest_.reserve(chipset::io_apic_registers, pt::assign::space_use::device);
            !taken) {
            return taken;
        }
        for (const pt::range<pt::io_port>& each : chipset::ports) {
            if (const auto taken = guest_.reserve_ports(each); !taken) {
                return taken;
            }
        }
        return guest_.plug_in({0, 0, 0, 0}, board_.host_bridge());
    }

    /// The guest begins with that kernel.
    void start(const pc::multiboot_kernel& kernel) {
        board_.start();
        world_.set_state(multiboot_state(kernel.entry));
        world_.general() = {};
        world_.general()[pt::vcpu::general_register::rax] = pc::multiboot_kernel::magic;
        world_.general()[pt::vcpu::general_register::rbx] = kernel.information;
    }

    /// Runs the guest until the clock shows `until`, or it halts, or its run has ended.
    template <loop_hooks Hooks>
    progress run(std::uint64_t until, Hooks& hooks) {
        for (;;) {
            board_.update();
            if (has_ended()) {
                return progress::ended;
            }
            if (halts_) {
                if (!processor_.wakes()) {
                    return still_halts();
                }
                halts_ = false;
            }
            const std::uint64_t now = board_.time().clock.now();
            if (now >= until) {
                return progress::ready;
            }
            const pt::lapic::entry_decision decision = processor_.before_entry();
            if (decision.signal) {
                take_signal();
                continue;
            }
            const std::uint64_t deadline = board_.next_deadline();
            const std::uint64_t next = deadline < until ? deadline : until;
            // Never so short that a guest with timers which are always due comes to nothing.
            constexpr std::uint64_t shortest = 10'000;
            const bool goes_on =
                step(decision, next > now + shortest ? next - now : shortest, hooks);
            hooks.after_exit();
            if (!goes_on) {
                return progress::ready;
            }
        }
    }

    /// The host took an interrupt with that vector: whether it is this guest's.
    [[nodiscard]] bool take_interrupt(std::uint8_t vector) {
        return processor_.on_external_interrupt(vector).action != pt::assign::action::not_mine;
    }

    /// When the guest wants to run again, though it halts: in nanoseconds of the clock, or pc::never.
    [[nodiscard]] std::uint64_t next_deadline() { return board_.next_deadline(); }

    /// Whether it halts, and nothing has come that wakes it.
    [[nodiscard]] bool sleeps() {
        board_.update();
        return halts_ && !processor_.wakes();
    }

    /// How the run has ended; `none`: it has not.
    [[nodiscard]] pc::run_end end() const { return end_; }
    /// What the guest has written to its exit port, if that is how it ended.
    [[nodiscard]] std::uint32_t exit_code() { return board_.chipset().exit_code(); }
    /// Why, of run_end::failed; else null.
    [[nodiscard]] const char* why() const { return why_; }
    /// It had its time.
    void stop(pc::run_end how) {
        if (end_ == pc::run_end::none) {
            end_ = how;
        }
    }

    [[nodiscard]] World& virtual_processor() { return world_; }
    [[nodiscard]] guest_type& guest() { return guest_; }

    /// The state of the processor, what could interrupt it, and its last exits, oldest first. `line` is a
    /// callable that takes any number of texts and numbers and prints them as one line.
    template <class Line>
    void dump(Line&& line) {
        const cpu_state cpu = world_.state();
        const auto& cs = cpu[pt::vcpu::segment_register::cs];
        line("rip ", cpu.rip, "  rflags ", cpu.rflags, "  cs ", std::uint64_t{cs.selector}, ":",
             cs.base, "  privilege level ", std::uint64_t{cpu.cpl});
        line("cr0 ", cpu.cr0, "  cr2 ", cpu.cr2, "  cr3 ", cpu.cr3, "  cr4 ", cpu.cr4, "  efer ",
             cpu.efer);
        constexpr const char* names[16] = {
            "rax ", "  rcx ", "  rdx ", "  rbx ", "rsp ", "  rbp ", "  rsi ", "  rdi ",
            "r8  ", "  r9  ", "  r10 ", "  r11 ", "r12 ", "  r13 ", "  r14 ", "  r15 "};
        for (unsigned i = 0; i != 16; i += 4) {
            const auto* const raw = world_.general().raw + i;
            line(names[i], raw[0], names[i + 1], raw[1], names[i + 2], raw[2], names[i + 3],
                 raw[3]);
        }
        const pt::vcpu::instruction_bytes code = world_.code();
        std::uint64_t bytes[2] = {}; // in their order in memory
        for (unsigned i = 0; i < code.count && i < pt::vcpu::longest_instruction; ++i) {
            bytes[i / 8] |= std::uint64_t{code.bytes[i]} << (56 - 8 * (i % 8));
        }
        line("code, ", std::uint64_t{code.count}, " bytes: ", bytes[0], " ", bytes[1]);
        dump_interrupts(line);
        line(halts_ ? "it halts; its last exits:" : "its last exits:");
        for (std::size_t i = 0; i != kept_exits; ++i) {
            const seen_exit& each = exits_[(exit_count_ + i) % kept_exits];
            if (each.seen) {
                line("  ", name(each.kind), " at ", each.rip, ": ", each.words[0], " ",
                     each.words[1], " ", each.words[2], " ", each.words[3]);
            }
        }
        if (why_ != nullptr) {
            line(why_);
        }
    }
    /// How many exits there were.
    [[nodiscard]] std::uint64_t exits() const { return exit_count_; }

    /// What people are told of an exit. The words are those of vm_exit.
    struct seen_exit {
        exit_kind kind = exit_kind::other;
        std::uint8_t vector = 0; ///< of external_interrupt
        bool seen = false;
        std::uint64_t rip = 0;
        std::uint64_t words[4]{};
    };
    /// The last one.
    [[nodiscard]] const seen_exit& last_exit() const {
        return exits_[(exit_count_ + kept_exits - 1) % kept_exits];
    }

private:
    struct time_stamp_counter {
        Board* board;
        std::uint64_t operator()() const { return board->time().clock.tsc(); }
    };

    static constexpr std::uint64_t interrupt_flag = 1U << 9;

    /// Of IRR and ISR the highest vector.
    template <class Line>
    void dump_interrupts(Line& line) {
        const auto& apic = board_.apic();
        const pt::lapic::register_page& page = apic.registers();
        const auto mode = apic.current_mode();
        line(mode == pt::lapic::apic_mode::disabled ? "local APIC turned off"
             : mode == pt::lapic::apic_mode::xapic  ? "local APIC in xAPIC mode"
                                                    : "local APIC in x2APIC mode",
             ": TPR ", std::uint64_t{page.tpr.raw}, "  IRR ", std::uint64_t{page.irr.highest()},
             "  ISR ", std::uint64_t{page.isr.highest()}, "  pending ",
             std::uint64_t{apic.pending()}, "  NMI ", std::uint64_t{apic.nmi_pending()},
             "  LVT timer ", std::uint64_t{page.lvt_timer.raw});
        const char* const asked = board_.chipset().interrupts() ? "the 8259s ask for an interrupt"
                                                                : "the 8259s ask for nothing";
        const std::uint64_t now = board_.time().clock.now();
        const std::uint64_t next = board_.next_deadline();
        if (next == pc::never) {
            line(asked, "; next timer: never");
        } else {
            line(asked, "; next timer in ", next > now ? next - now : 0, " ns");
        }
    }

    bool has_ended() {
        if (end_ == pc::run_end::none) {
            end_ = board_.chipset().ended();
        }
        return end_ != pc::run_end::none;
    }

    void fail(const char* why) {
        why_ = why;
        stop(pc::run_end::failed);
    }

    /// With interrupts off only an NMI wakes it: if nobody sends one, this was its end. (That a device's MSI
    /// could be one is not looked at.)
    progress still_halts() {
        if ((world_.rflags() & interrupt_flag) == 0 && !board_.can_send_nmi()) {
            stop(pc::run_end::halted);
            return progress::ended;
        }
        return progress::halts;
    }

    /// There is one processor, which began at once, and no system management mode: of what can come, INIT
    /// starts the machine anew.
    void take_signal() {
        if (board_.apic().next_signal().kind == pt::lapic::signal_kind::init) {
            stop(pc::run_end::reset);
        }
    }

    /// One exit. False: others have something to do.
    template <loop_hooks Hooks>
    bool step(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds, Hooks& hooks) {
        if constexpr (decoding_world<World>) {
            world_.set_cr8(static_cast<std::uint8_t>(board_.apic().cr8()));
        }
        const vm_exit exit = world_.run(decision, nanoseconds);
        exits_[exit_count_++ % kept_exits] = {
            exit.kind,
            exit.vector,
            true,
            exit.code.rip,
            {exit.words[0], exit.words[1], exit.words[2], exit.words[3]}};
        processor_.interrupted(exit.interrupted);
        if (exit.raise.present) {
            raise(exit.raise);
        }
        switch (exit.kind) {
        case exit_kind::handled:
        case exit_kind::interrupt_window: // before_entry() asks again
        case exit_kind::nmi_window:
        case exit_kind::preempted: break;
        case exit_kind::io:
            do_as_answered(processor_.on_io(exit.io, world_.general(), world_.rflags()),
                           "I/O of unknown length");
            break;
        case exit_kind::memory: on_memory(exit); break;
        case exit_kind::device_memory: on_device_memory(exit.device, exit.length); break;
        case exit_kind::external_interrupt: {
            const bool own = take_interrupt(exit.vector);
            const bool others = !own && hooks.pass_on(exit.vector);
            world_.end_interrupt();
            return !others;
        }
        case exit_kind::hlt:
            finish(exit.length);
            halts_ = true;
            break;
        case exit_kind::cpuid: on_cpuid(exit.length); break;
        case exit_kind::read_msr: on_read_msr(exit.length); break;
        case exit_kind::write_msr: on_write_msr(exit.length); break;
        case exit_kind::cr8: on_cr8(exit); break;
        case exit_kind::shutdown: stop(pc::run_end::shutdown); break;
        case exit_kind::hypercall: // there is nobody to call
            raise(pt::vcpu::exception(pt::vcpu::exception_vector::invalid_opcode));
            break;
        case exit_kind::failed:
            fail(exit.why != nullptr ? exit.why : "the processor does not enter the guest");
            break;
        case exit_kind::other:
            fail(exit.why != nullptr ? exit.why : "an exit that nobody expects");
            break;
        }
        return true;
    }

    // ------------------------------------------------------------------ what an answer asks for

    void finish(std::uint8_t length) {
        const pt::vcpu::event trap = world_.finish_instruction(length);
        if (trap.present) {
            raise(trap);
        }
    }

    void raise(const pt::vcpu::event& event, std::uint64_t cr2 = 0) {
        if (event.type == pt::vcpu::event_type::hardware_exception &&
            event.vector == static_cast<std::uint8_t>(pt::vcpu::exception_vector::page_fault)) {
            world_.set_cr2(cr2);
        }
        if (!processor_.raise(event)) {
            stop(pc::run_end::shutdown);
        }
    }
    void raise_general_protection() {
        raise(pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0));
    }

    /// `otherwise`: why the guest cannot go on when nobody is meant.
    void do_as_answered(const pt::assign::answer& answer, const char* otherwise) {
        switch (answer.action) {
        case pt::assign::action::resume:
            if (answer.advance != 0) {
                finish(answer.advance);
            }
            break;
        case pt::assign::action::inject: raise(answer.event, answer.cr2); break;
        case pt::assign::action::not_mine: fail(otherwise); break;
        }
    }

    // ---------------------------------------------------------------------------- kinds of exit

    void on_memory(const vm_exit& exit) {
        const std::uint64_t before = world_.rflags();
        std::uint64_t rflags = before;
        const pt::assign::answer answer =
            processor_.on_memory_violation(exit.memory, exit.code, world_.general(), rflags);
        if (rflags != before) {
            world_.set_rflags(rflags);
        }
        if (answer.action != pt::assign::action::not_mine) {
            do_as_answered(answer, nullptr);
        } else if (exit.memory.asynchronous) {
            fail("an access by no instruction, where the guest has no memory");
        } else if (exit.memory.final_translation) {
            // What the bus gives is all ones, and FFH FFH is no instruction. Of those that are, pt does
            // not execute each on a device's registers, and the guest is told so by the same exception.
            raise(pt::vcpu::exception(pt::vcpu::exception_vector::invalid_opcode));
        } else if (exit.memory.has_linear_address) {
            // An entry of the guest's page tables reads as all ones, too: reserved bits are set in it.
            constexpr std::uint32_t present = 1U << 0;
            constexpr std::uint32_t user = 1U << 2;
            constexpr std::uint32_t reserved = 1U << 3;
            const std::uint32_t by_user = world_.state().cpl == 3 ? user : 0;
            raise(pt::vcpu::exception(pt::vcpu::exception_vector::page_fault,
                                      present | reserved | by_user),
                  exit.memory.linear_address);
        } else {
            fail("the guest's page tables are where it has no memory");
        }
    }

    /// One access that KVM has decoded. (No other world makes this exit.)
    void on_device_memory(const device_access& access, std::uint8_t length) {
        if constexpr (decoding_world<World>) {
            std::uint64_t value = 0;
            for (unsigned done = 0; done < access.size && done < 8;) {
                // As many bytes at once as there are in the access, in the sizes that a bus has.
                unsigned size = 8;
                while (size > access.size - done || !access.address.is_aligned(size)) {
                    size /= 2;
                }
                const pt::gpa at = access.address + done;
                const auto width = static_cast<pt::mmio_width>(size);
                if (access.way == pt::vcpu::memory_access::write) {
                    write_device(at, width, access.data >> 8 * done & pt::all_ones(width));
                } else {
                    value |= (read_device(at, width) & pt::all_ones(width)) << 8 * done;
                }
                done += size;
            }
            if (access.way == pt::vcpu::memory_access::write) {
                finish(length);
            } else {
                world_.finish_read(value);
            }
        } else {
            fail("an access that nobody here decodes");
        }
    }
    [[nodiscard]] bool is_local_apic(pt::gpa at) {
        auto& apic = board_.apic();
        return apic.current_mode() == pt::lapic::apic_mode::xapic &&
               at.align_down(4 * pt::KiB) == apic.base();
    }
    std::uint64_t read_device(pt::gpa at, pt::mmio_width size) {
        if (is_local_apic(at)) {
            return board_.apic().read(static_cast<std::uint32_t>(at.offset_in(4 * pt::KiB)), size);
        }
        const auto value = guest_.read_memory(at, size);
        return value ? *value : pt::all_ones(size);
    }
    void write_device(pt::gpa at, pt::mmio_width size, std::uint64_t value) {
        if (!is_local_apic(at)) {
            static_cast<void>(guest_.write_memory(at, size, value));
            return;
        }
        const pt::lapic::effect effect =
            board_.apic().write(static_cast<std::uint32_t>(at.offset_in(4 * pt::KiB)), size, value);
        if (effect.kind == pt::lapic::effect_kind::send) {
            board_.bus().deliver(0, effect.command);
        } else if (effect.kind == pt::lapic::effect_kind::end_of_interrupt &&
                   effect.ended.broadcast) {
            board_.chipset().end_of_interrupt(effect.ended.vector);
        }
    }

    void on_cpuid(std::uint8_t length) {
        using enum pt::vcpu::general_register;
        using local_apic_state = typename pc::virtual_cpuid<Cpuid>::local_apic_state;
        auto& general = world_.general();
        const pc::cpuid_registers answer = cpuid_.answer(
            static_cast<std::uint32_t>(general[rax]), static_cast<std::uint32_t>(general[rcx]),
            board_.apic().current_mode() == pt::lapic::apic_mode::disabled
                ? local_apic_state::disabled
                : local_apic_state::enabled);
        general[rax] = answer.eax;
        general[rbx] = answer.ebx;
        general[rcx] = answer.ecx;
        general[rdx] = answer.edx;
        finish(length);
    }

    void on_read_msr(std::uint8_t length) {
        using enum pt::vcpu::general_register;
        auto& general = world_.general();
        const pt::assign::answer answer = processor_.on_read_msr(general, length);
        if (answer.action != pt::assign::action::not_mine) {
            do_as_answered(answer, nullptr);
            return;
        }
        const auto value = msrs_.read(static_cast<std::uint32_t>(general[rcx]));
        if (!value) {
            raise_general_protection();
            return;
        }
        general[rax] = *value & 0xFFFF'FFFF;
        general[rdx] = *value >> 32;
        finish(length);
    }

    void on_write_msr(std::uint8_t length) {
        using enum pt::vcpu::general_register;
        auto& general = world_.general();
        const pt::assign::answer answer = processor_.on_write_msr(general, length);
        if (answer.action != pt::assign::action::not_mine) {
            do_as_answered(answer, nullptr);
            return;
        }
        const std::uint64_t value = general[rdx] << 32 | (general[rax] & 0xFFFF'FFFF);
        if (!msrs_.write(static_cast<std::uint32_t>(general[rcx]), value)) {
            raise_general_protection();
            return;
        }
        finish(length);
    }

    void on_cr8(const vm_exit& exit) {
        auto& general = world_.general();
        do_as_answered(exit.cr8.way == cr8_access::direction::to_cr8
                           ? processor_.on_write_cr8(general, exit.cr8.with, exit.length)
                           : processor_.on_read_cr8(general, exit.cr8.with, exit.length),
                       "MOV CR8 of unknown length");
    }

    static constexpr std::size_t kept_exits = 16;

    World& world_;
    guest_type& guest_;
    Board& board_;
    injector_type injector_;
    processor_type processor_;
    pc::virtual_cpuid<Cpuid> cpuid_;
    pc::model_specific_registers<time_stamp_counter> msrs_;
    seen_exit exits_[kept_exits]{};
    std::uint64_t exit_count_ = 0;
    bool halts_ = false;
    pc::run_end end_ = pc::run_end::none;
    const char* why_ = nullptr;
};

} // namespace vmm
