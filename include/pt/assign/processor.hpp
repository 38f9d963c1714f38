// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/answer.hpp"
#include "pt/assign/claims.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/effect.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/vcpu/element_place.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/instruction_bytes.hpp"
#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/memory_access.hpp"
#include "pt/vcpu/memory_instruction.hpp"
#include "pt/vcpu/memory_violation.hpp"
#include "pt/vcpu/string_io.hpp"

#include <cstdint>
#include <utility>

namespace pt::assign {

/// One virtual processor of a guest, as an exit loop meets it: what each exit means to the guest's
/// ports, its trapped memory, its local APIC and its functions, and what the next entry delivers.
///
///     exit -> interrupted(what it interrupted) -> on_...() -> [raise(answer.event)] -> before_entry()
///
/// No handler waits, and none keeps anything from call to call: what an exit leaves unfinished, the
/// guest executes again. Whatever a guest does, nothing is demanded of it.
///
/// The CPU that runs the virtual processor calls, between an exit and the next entry; Apic and
/// Injector are that processor's own (lapic::local_apic, lapic::injector). Several processors of a
/// guest run at the same time.
template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
class processor {
public:
    /// String instructions transfer at most so many elements in one exit, so that interrupts come in
    /// between.
    static constexpr std::uint32_t most_elements = 64;

    /// `number` is the virtual processor's in the guest's vcpu_set. The guest, its local APIC and its
    /// injector outlive this.
    constexpr processor(guest<V>& of, std::uint32_t number, Apic& apic, Injector& injector,
                        Memory memory)
        : guest_{&of},
          apic_{&apic},
          injector_{&injector},
          number_{number},
          apic_page_{apic.base()},
          memory_{std::move(memory)} {}

    // The page that a guest may have moved its local APIC to is claimed once.
    processor(const processor&) = delete;
    processor& operator=(const processor&) = delete;

    // Exits by an instruction. Its length in bytes is the processor's word, and `advance` of the
    // answer. not_mine, too, where the length is 0: nobody could say how to go on.

    /// IN, OUT, INS or OUTS at a port that exits. `registers` get what it reads; RFLAGS is read for DF.
    /// not_mine: nobody answers at the port, no register has changed.
    constexpr answer on_io(const vcpu::io_instruction& instruction,
                           vcpu::general_registers& registers, std::uint64_t rflags) {
        if (instruction.length == 0) {
            return not_mine();
        }
        return instruction.string ? on_string_io(instruction, registers, rflags)
                                  : on_accumulator_io(instruction, registers);
    }

    /// RDMSR: the local APIC's; what it has not, or not in its mode, is a #GP(0).
    constexpr answer on_read_msr(vcpu::general_registers& registers, std::uint8_t length);
    /// WRMSR, likewise; and a #GP(0) where IA32_APIC_BASE would move the page over something else of
    /// the guest's: its memory, a BAR, a device, another processor's page. It follows to where nothing
    /// is, if the guest's claims have a slot for it. (The page at 0xFEE00000 is the VMM's to reserve,
    /// and stays reserved.)
    constexpr answer on_write_msr(const vcpu::general_registers& registers, std::uint8_t length);

    /// MOV from CR8 to that register.
    constexpr answer on_read_cr8(vcpu::general_registers& registers, vcpu::general_register to,
                                 std::uint8_t length) {
        if (length == 0) {
            return not_mine();
        }
        registers[to] = apic_->cr8();
        return resume_behind(length);
    }
    /// MOV to CR8 from that register.
    constexpr answer on_write_cr8(const vcpu::general_registers& registers,
                                  vcpu::general_register from, std::uint8_t length) {
        if (length == 0) {
            return not_mine();
        }
        if (!apic_->set_cr8(registers[from])) {
            return general_protection();
        }
        return resume_behind(length);
    }

    /// A violation of the second-stage tables. If the guest reaches the place by now, it tries again.
    /// Else its instruction at `at` is executed here, where a BAR has pages that are trapped, the local
    /// APIC its page, or the VMM a device. `at` needs RIP and the code size; its bytes if the processor
    /// gave some, or else they are fetched through `Memory`.
    ///
    /// not_mine: nobody answers there; or it is not an instruction that pt executes, a fetch, an access
    /// to the guest's own page tables, or no instruction's. Nothing has changed, but that an instruction
    /// which reads and writes has read.
    constexpr answer on_memory_violation(const vcpu::memory_violation& violation,
                                         vcpu::instruction_bytes at,
                                         vcpu::general_registers& registers, std::uint64_t& rflags);

    // Exits by what happens outside.

    /// The host's CPU took an interrupt with that vector: the guest's processors get the message that
    /// stands for it, or a function notes that it is pending. not_mine: it is the host's own, or of a
    /// function of another guest, whose guest::deliver() takes it.
    constexpr answer on_external_interrupt(std::uint8_t vector) {
        const auto accept = [this](const lapic::message& sent) { return apic_->accept(sent); };
        return guest_->deliver(vector, accept) ? resume_again() : not_mine();
    }

    /// The VMM's timer for next_timer() has expired.
    constexpr answer on_timer() {
        apic_->synchronize();
        return resume_again();
    }
    /// When on_timer() is to be called, at the latest; before each entry, and before waiting.
    [[nodiscard]] constexpr lapic::deadline next_timer() const { return apic_->next_deadline(); }

    // Around an entry.

    /// What the exit interrupted has not arrived: as lapic::injector::interrupted().
    constexpr void interrupted(const vcpu::event& event) { injector_->interrupted(event); }

    /// What an answer says to inject: as lapic::injector::raise(). errc::hardware_fault: a triple
    /// fault, the guest shuts down.
    constexpr result<void> raise(const vcpu::event& exception) {
        return injector_->raise(exception);
    }

    /// What the guest's functions still owe, and then what the entry delivers.
    [[nodiscard]] constexpr lapic::entry_decision before_entry() {
        static_cast<void>(guest_->settle()); // what it could not do was reported, and is still owed
        if (apic_page_ != apic_->base()) [[unlikely]] {
            leave_apic_page(); // it was reset
        }
        return injector_->before_entry();
    }

    /// Whether a virtual processor that halts, or waits for a start-up, goes on.
    [[nodiscard]] constexpr bool wakes() { return injector_->wakes(); }

private:
    static constexpr std::uint64_t page_size = 4 * KiB;

    /// An instruction's operands in memory for vcpu::execute(): where they lie, and whether it is there
    /// that the guest was stopped, so that somebody has to answer.
    struct operand {
        vcpu::element_place place{};
        bool trapped = false;
    };
    struct operands {
        processor* of;
        const operand& source;
        const operand& destination;
        constexpr result<std::uint64_t> read(mmio_width size) { return of->read(source, size); }
        constexpr result<void> write(mmio_width size, std::uint64_t value) {
            return of->write(destination, size, value);
        }
    };

    static constexpr answer general_protection() {
        return inject(vcpu::exception(vcpu::exception_vector::general_protection, 0));
    }

    constexpr answer on_accumulator_io(const vcpu::io_instruction& instruction,
                                       vcpu::general_registers& registers);
    constexpr answer on_string_io(const vcpu::io_instruction& instruction,
                                  vcpu::general_registers& registers, std::uint64_t rflags);

    constexpr operand locate(vcpu::logical_address at, mmio_width size, vcpu::memory_access access,
                             gpa violated);
    constexpr result<std::uint64_t> read(const operand& from, mmio_width size);
    constexpr result<void> write(const operand& to, mmio_width size, std::uint64_t value);
    /// f(address of the byte, bit of the operand where it begins).
    template <class F>
    static constexpr void for_each_byte(const vcpu::element_place& place, F&& f) {
        unsigned shift = 0;
        for (unsigned i = 0; i != place.count; ++i) {
            for (std::uint32_t n = 0; n != place.pieces[i].size; ++n) {
                f(place.pieces[i].address + n, shift);
                shift += 8;
            }
        }
    }
    constexpr result<std::uint64_t> read_device(gpa at, mmio_width size);
    constexpr result<void> write_device(gpa at, mmio_width size, std::uint64_t value);

    [[nodiscard]] constexpr bool is_apic_page(gpa at) const {
        return apic_->current_mode() == lapic::apic_mode::xapic &&
               at.align_down(page_size) == apic_->base();
    }
    constexpr result<lapic::effect> write_apic_base(std::uint64_t value);
    [[gnu::cold]] constexpr void leave_apic_page();
    constexpr void carry_out(const lapic::effect& effect);

    guest<V>* guest_;
    Apic* apic_;
    Injector* injector_;
    std::uint32_t number_;
    gpa apic_page_; ///< that this processor has claimed, or the one that the VMM has reserved
    [[no_unique_address]] Memory memory_;
};

// I/O instructions.

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr answer
processor<V, Apic, Injector, Memory>::on_accumulator_io(const vcpu::io_instruction& instruction,
                                                        vcpu::general_registers& registers) {
    std::uint64_t& rax = registers[vcpu::general_register::rax];
    const width size = instruction.size;
    if (instruction.direction == vcpu::io_direction::in) {
        const result<std::uint32_t> value = guest_->read_port(instruction.port, size);
        if (!value) {
            return not_mine();
        }
        rax = vcpu::accumulator_after_in(rax, size, *value);
    } else if (!guest_->write_port(instruction.port, size, vcpu::out_value(rax, size))) {
        return not_mine();
    }
    return resume_behind(instruction.length);
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr answer
processor<V, Apic, Injector, Memory>::on_string_io(const vcpu::io_instruction& instruction,
                                                   vcpu::general_registers& registers,
                                                   std::uint64_t rflags) {
    using enum vcpu::general_register;
    const vcpu::string_registers before{registers[rcx], registers[rsi], registers[rdi], rflags};
    vcpu::string_registers after = before;
    auto ports = guest_->ports();
    vcpu::string_io_progress progress{.state = vcpu::string_io_state::unfinished};
    for (std::uint32_t done = 0;
         done != most_elements && progress.state == vcpu::string_io_state::unfinished; ++done) {
        progress = vcpu::string_io(instruction, after, memory_, ports, 1);
        if (!guest_->is_settled()) {
            break; // each element is an instruction of its own: settle() comes before the next
        }
    }
    registers[rcx] = after.rcx;
    registers[rsi] = after.rsi;
    registers[rdi] = after.rdi;
    switch (progress.state) {
    case vcpu::string_io_state::finished: return resume_behind(instruction.length);
    case vcpu::string_io_state::unfinished: return resume_again();
    case vcpu::string_io_state::faulted: return inject(progress.fault, progress.cr2);
    case vcpu::string_io_state::refused: break;
    }
    // Elements went before the one that nobody takes: it comes again, alone.
    return after == before ? not_mine() : resume_again();
}

// Memory.

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr answer processor<V, Apic, Injector, Memory>::on_memory_violation(
    const vcpu::memory_violation& violation, vcpu::instruction_bytes at,
    vcpu::general_registers& registers, std::uint64_t& rflags) {
    if (!violation.mapped && guest_->use_of(violation.address) == space_use::memory) {
        return resume_again(); // given since
    }
    if (!violation.final_translation || violation.asynchronous || violation.execute) {
        return not_mine();
    }
    auto instruction = vcpu::memory_instruction_of(at.bytes, at.count, at.code);
    while (!instruction && instruction.error().code == errc::out_of_range) {
        if (const vcpu::fetch_fault unfetched = vcpu::fetch_more(memory_, at);
            unfetched.fault.present) {
            return inject(unfetched.fault, unfetched.cr2);
        }
        instruction = vcpu::memory_instruction_of(at.bytes, at.count, at.code);
    }
    if (!instruction) {
        return not_mine();
    }

    const std::uint64_t next_rip = vcpu::rip_after(at.rip, instruction->length, at.code);
    for (std::uint32_t done = 0; done != most_elements; ++done) {
        if (instruction->is_over(registers)) {
            return resume_behind(instruction->length);
        }
        const vcpu::memory_operand& source = instruction->memory;
        const vcpu::memory_operand destination = instruction->destination();
        // One that is read and written faults as a write.
        const bool is_one = instruction->writes() && source == destination;
        const operand from = instruction->reads() && !is_one
                                 ? locate(source.address(registers, next_rip), instruction->size,
                                          vcpu::memory_access::read, violation.address)
                                 : operand{};
        if (from.place.fault.present) {
            return inject(from.place.fault, from.place.cr2);
        }
        const operand to = instruction->writes()
                               ? locate(destination.address(registers, next_rip), instruction->size,
                                        vcpu::memory_access::write, violation.address)
                               : operand{};
        if (to.place.fault.present) {
            return inject(to.place.fault, to.place.cr2);
        }
        if (!from.trapped && !to.trapped) {
            // A REP has left the page. Or the guest has changed its code or its tables since the exit:
            // what it does now the processor knows best.
            return resume_again();
        }
        operands of{this, is_one ? to : from, to};
        const auto state = vcpu::execute(*instruction, registers, rflags, of);
        if (!state) {
            const bool reached_by_now =
                state.error().code == errc::already_mapped && !violation.mapped;
            return done != 0 || reached_by_now ? resume_again() : not_mine();
        }
        if (*state == vcpu::instruction_state::finished) {
            return resume_behind(instruction->length);
        }
    }
    return resume_again();
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr auto
processor<V, Apic, Injector, Memory>::locate(vcpu::logical_address at, mmio_width size,
                                             vcpu::memory_access access, gpa violated) -> operand {
    operand found{.place = vcpu::locate_element(memory_, at, size_of(size), access)};
    const std::uint64_t page = violated.raw / page_size;
    for (unsigned i = 0; i != found.place.count; ++i) {
        const vcpu::element_piece& piece = found.place.pieces[i];
        found.trapped =
            found.trapped || (piece.address.raw / page_size <= page &&
                              page <= (piece.address + (piece.size - 1)).raw / page_size);
    }
    return found;
}

/// One access, if the operand lies together. If it does not, or only a part of it is to memory, its
/// bytes one by one; of these somebody has to answer one.
template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr result<std::uint64_t> processor<V, Apic, Injector, Memory>::read(const operand& from,
                                                                           mmio_width size) {
    const vcpu::element_place& place = from.place;
    if (place.count == 1) {
        const auto value = read_device(place.pieces[0].address, size);
        if (value || value.error().code != errc::not_supported) {
            return value || from.trapped ? value : vcpu::read_element(memory_, place);
        }
    }
    std::uint64_t gathered = vcpu::read_element(memory_, place);
    error nobody{};
    bool answered = false;
    for_each_byte(place, [&](gpa at, unsigned shift) {
        const result<std::uint64_t> byte = read_device(at, mmio_width::byte);
        if (byte) {
            gathered = (gathered & ~(std::uint64_t{0xFF} << shift)) | (*byte & 0xFF) << shift;
            answered = true;
        } else {
            nobody = byte.error();
        }
    });
    if (from.trapped && !answered) {
        return nobody;
    }
    return gathered;
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr result<void> processor<V, Apic, Injector, Memory>::write(const operand& to,
                                                                   mmio_width size,
                                                                   std::uint64_t value) {
    const vcpu::element_place& place = to.place;
    if (place.count == 1) {
        const auto written = write_device(place.pieces[0].address, size, value);
        if (written || (to.trapped && written.error().code != errc::not_supported)) {
            return written;
        }
        if (written.error().code != errc::not_supported) {
            vcpu::write_element(memory_, place, value);
            return {};
        }
    }
    error nobody{};
    unsigned answered = 0; // bit n: byte n
    for_each_byte(place, [&](gpa at, unsigned shift) {
        const auto written = write_device(at, mmio_width::byte, value >> shift & 0xFF);
        if (written) {
            answered |= 1U << shift / 8;
        } else {
            nobody = written.error();
        }
    });
    if (to.trapped && answered == 0) {
        return nobody;
    }
    for_each_byte(place, [&](gpa at, unsigned shift) {
        if ((answered >> shift / 8 & 1) == 0) {
            const auto byte = static_cast<std::uint8_t>(value >> shift);
            memory_.write(at, &byte, 1);
        }
    });
    return {};
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr result<std::uint64_t> processor<V, Apic, Injector, Memory>::read_device(gpa at,
                                                                                  mmio_width size) {
    if (is_apic_page(at)) {
        return apic_->read(static_cast<std::uint32_t>(at.offset_in(page_size)), size);
    }
    return guest_->read_memory(at, size);
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr result<void> processor<V, Apic, Injector, Memory>::write_device(gpa at, mmio_width size,
                                                                          std::uint64_t value) {
    if (is_apic_page(at)) {
        carry_out(apic_->write(static_cast<std::uint32_t>(at.offset_in(page_size)), size, value));
        return {};
    }
    return guest_->write_memory(at, size, value);
}

// The local APIC.

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr void processor<V, Apic, Injector, Memory>::carry_out(const lapic::effect& effect) {
    switch (effect.kind) {
    case lapic::effect_kind::send: guest_->bus().deliver(number_, effect.command); break;
    case lapic::effect_kind::end_of_interrupt:
        if (effect.ended.broadcast) {
            guest_->platform().end_of_interrupt(effect.ended.vector);
        }
        break;
    case lapic::effect_kind::base_changed: // write_apic_base() knows
    case lapic::effect_kind::nothing: break;
    }
}

/// The new page is claimed before the local APIC is there, and the old one is given up thereafter.
template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr result<lapic::effect>
processor<V, Apic, Injector, Memory>::write_apic_base(std::uint64_t value) {
    const gpa wanted = lapic::apic_base{value}[lapic::apic_base::base];
    const gpa reserved = lapic::apic_base::default_base;
    const bool moves = wanted != apic_->base() && wanted != reserved;
    if (moves) {
        if (const result<void> taken = guest_->reserve({wanted, page_size}, space_use::local_apic);
            !taken) {
            return taken.error();
        }
    }
    const result<lapic::effect> written = apic_->write_msr(lapic::apic_base::msr, value);
    if (moves && apic_->base() != wanted) {
        static_cast<void>(guest_->unreserve({wanted, page_size}));
    }
    if (apic_->base() != apic_page_) {
        leave_apic_page();
    }
    return written;
}

/// The local APIC is elsewhere now.
template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr void processor<V, Apic, Injector, Memory>::leave_apic_page() {
    if (apic_page_ != lapic::apic_base::default_base) {
        static_cast<void>(guest_->unreserve({apic_page_, page_size}));
    }
    apic_page_ = apic_->base();
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr answer
processor<V, Apic, Injector, Memory>::on_read_msr(vcpu::general_registers& registers,
                                                  std::uint8_t length) {
    using enum vcpu::general_register;
    const auto number = static_cast<std::uint32_t>(registers[rcx]);
    if (!Apic::handles_msr(number) || length == 0) {
        return not_mine();
    }
    const result<std::uint64_t> value = apic_->read_msr(number);
    if (!value) {
        return general_protection();
    }
    registers[rax] = *value & 0xFFFF'FFFF;
    registers[rdx] = *value >> 32;
    return resume_behind(length);
}

template <vmm V, class Apic, class Injector, vcpu::guest_memory Memory>
constexpr answer
processor<V, Apic, Injector, Memory>::on_write_msr(const vcpu::general_registers& registers,
                                                   std::uint8_t length) {
    using enum vcpu::general_register;
    const auto number = static_cast<std::uint32_t>(registers[rcx]);
    if (!Apic::handles_msr(number) || length == 0) {
        return not_mine();
    }
    const std::uint64_t value = (registers[rax] & 0xFFFF'FFFF) | registers[rdx] << 32;
    const result<lapic::effect> written =
        number == lapic::apic_base::msr ? write_apic_base(value) : apic_->write_msr(number, value);
    if (!written) {
        return general_protection();
    }
    carry_out(*written);
    return resume_behind(length);
}

} // namespace pt::assign
