// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"
#include "numbers.hpp"
#include "translation.hpp"

#include <cstddef>
#include <cstdint>

/// A remapping unit, written from the VT-d specification [vt-d] and from nothing else: offsets and
/// bits are plain numbers (numbers.hpp), so that a wrong one in pt does not agree with itself. It
/// is stricter than hardware and than QEMU: what the manual forbids is blamed (host::violation has
/// the first one), its caches keep what was not invalidated, and nothing is finished at once.
///
/// The machine
///   fake_unit<Frames> m;       a host with one unit: m.stored, m.used, m.journal, m.violation ...
///   host<Frames> h;            a host with as many units as are wanted, up to 4:
///   remapping_unit a{h}, b{h};    with frames<host<Frames>> and publisher<...> over &h
///   frames, publisher, wide_store    the policies over the host; registers, fake_clock over a unit
///   m.trust_pairs = true;      for a real 128-bit store, which the host cannot see: two words that
///                              are published together were stored at once
///   forgive(), forget_journal()
/// Properties, before use: ver, cap, ecap, host_address_width, latency, event_reserved; numbers.hpp
/// has the bits, and scalable_ecap all of scalable mode.
///
/// Devices
///   dma(source, address, write or access{}), dma_with_pasid(source, pasid, address, write)
///   device_tlb_dma(source, address, access{})    through the device's own TLB (ATS)
///   interrupt(source, address, data)             an MSI
///   hammer.{runs, source_id, address, write}     a request after each store and register write, in
///                                                .seen
///   guard.{runs, address}    after each store, register write and order: guard.opened is set when
///                            an untranslated request could reach `address` after a time when it
///                            could not; guard.closed says that it cannot at present
///
/// What goes wrong. Orders are numbered from 1, in `orders`: GCMD, PMEN, invalidations by register,
/// and descriptors when the queue takes them.
///   stall_at                 this one is never carried out (until recover())
///   refuse_at, claim         this invalidation is refused: less than asked in CAIG or IAIG; IQE
///   error_at                 this descriptor is invalid: IQE, the head stays at it
///   time_out_at, guilty      this descriptor's device does not confirm: ITE, the waits after it
///                            that were taken are aborted; `guilty` is named where the descriptor
///                            names no device
///   completion_error_at      ICE
///   late_at                  the status of this wait is written only by deliver_late()
///   vanish_at, gone          the unit goes away at this register access
///   hostile_fri              what FSTS claims
///   descriptors_per_look, device_latency    how fast the queue is
/// recover() ends stalls; power_loss() is a sleep: registers and caches are lost, memory stays.
///
/// What firmware left: firmware_translation, firmware_queue, firmware_interrupt_remapping,
/// firmware_protection, firmware_fault_event; record() for pending faults; registers by name.
///
/// What it tells: gsts and all other registers by name; cached_contexts(), cached_pasids(),
/// cached_translations(), cached_interrupts(), device_translations(), pending_waits(),
/// late_waits(), descriptors; `sent`: interrupts of its own; is_protected(address).
namespace vtd_model {

/// What `remapping_unit` and `fake_unit` share: the registers, and what happens to a unit.
struct unit_registers : unit_translation {
    // Time, which passes when somebody looks at it
    std::uint64_t time = 0;
    std::uint64_t tick = 10'000'000;

    /// A device that sends a request after each store and each register write.
    struct {
        bool runs = false;
        std::uint16_t source_id = 0;
        std::uint64_t address = 0;
        bool write = false;
        outcome seen[256]{};
        std::size_t count = 0;
    } hammer;

    /// Whether memory that was closed to untranslated requests was ever open again.
    struct {
        bool runs = false;
        std::uint64_t address = 0;
        bool closed = false;
        bool opened = false;
        std::uint32_t after = 0; ///< GSTS when it was
    } guard;

    template <std::size_t Frames>
    constexpr explicit unit_registers(host<Frames>& machine) : unit_translation{machine} {
        number = static_cast<unsigned>(machine.unit_count);
        machine.attach(*this);
    }

    // ---- registers -----------------------------------------------------------------------------

    [[nodiscard]] constexpr std::uint32_t iva_at() const {
        return static_cast<std::uint32_t>(ecap >> 8 & 0x3FF) * 16;
    }
    [[nodiscard]] constexpr std::uint32_t record_at() const {
        return static_cast<std::uint32_t>(cap >> 24 & 0x3FF) * 16;
    }

    constexpr std::uint32_t read32(std::uint32_t at) {
        if (!present()) {
            return 0xFFFF'FFFF;
        }
        if (message::kind what{}; const unsigned n = event_register(at, what)) {
            return read_event(registers_of(what), n - 1);
        }
        switch (at) {
        case VER: return ver;
        case GSTS: poll_command(); return gsts;
        case FSTS: look(); return fault_status();
        case PMEN:
            poll_protection();
            watch();
            return pmen;
        case PLMBASE: return plmbase;
        case PLMLIMIT: return plmlimit;
        case IQH: look(); return static_cast<std::uint32_t>(iqh);
        case IQT: return static_cast<std::uint32_t>(iqt);
        case ICS: look(); return ics;
        case PRS: return prs;
        default: break;
        }
        if (in_records(at) && at % 4 == 0) {
            const std::uint64_t half = records[(at - record_at()) / 16][at / 8 % 2];
            return static_cast<std::uint32_t>(at % 8 == 0 ? half : half >> 32);
        }
        memory->blame("a 32-bit read of no 32-bit register");
        return 0;
    }
    constexpr std::uint64_t read64(std::uint32_t at) {
        if (!present()) {
            return ~std::uint64_t{0};
        }
        switch (at) {
        case CAP: return cap;
        case ECAP: return ecap;
        case RTADDR: return rtaddr;
        case CCMD: poll_context(); return ccmd;
        case PHMBASE: return phmbase;
        case PHMLIMIT: return phmlimit;
        case IQH: look(); return iqh;
        case IQT: return iqt;
        case IQA: return iqa;
        case IQERCD: return has_error_record ? iqercd : 0;
        case IRTA: return irta;
        default: break;
        }
        if (at == iva_at() + 8) {
            poll_iotlb();
            return iotlb;
        }
        if (in_records(at) && at % 8 == 0) {
            return records[(at - record_at()) / 16][at / 8 % 2];
        }
        memory->blame("a 64-bit read of no 64-bit register");
        return 0;
    }
    constexpr void write32(std::uint32_t at, std::uint32_t value) {
        memory->note({event::kind::write32, at, value, number});
        if (!present()) {
            return;
        }
        if (message::kind what{}; const unsigned n = event_register(at, what)) {
            write_event(what, n - 1, value);
        } else if (at == GCMD) {
            give_order(value);
        } else if (at == FSTS) {
            if ((value & 0xFFFF'0000) != 0) {
                memory->blame("reserved bits of FSTS");
            }
            const std::uint32_t cleared = fsts & value & 0xFD;
            fsts &= ~(value & 0xFD);
            serviced();
            queue_goes_on(cleared);
        } else if (at == PMEN) {
            write_protection(value);
        } else if (at == PLMBASE) {
            plmbase = static_cast<std::uint32_t>(region(value));
        } else if (at == PLMLIMIT) {
            plmlimit = static_cast<std::uint32_t>(region(value));
        } else if (at == IQT) {
            write_queue_tail(value);
        } else if (at == ICS) {
            if ((value & ~1U) != 0) {
                memory->blame("reserved bits of ICS");
            }
            ics &= ~value;
            serviced();
        } else if (at == PRS) {
            prs &= ~value;
            serviced();
        } else if (in_records(at) && at % 16 == 12) {
            if ((value & 0x8000'0000) != 0) {
                records[(at - record_at()) / 16][1] &= ~(std::uint64_t{1} << 63);
            }
            serviced();
        } else {
            memory->blame("a 32-bit write to no such register");
        }
        step();
    }
    constexpr void write64(std::uint32_t at, std::uint64_t value) {
        memory->note({event::kind::write64, at, value, number});
        if (!present()) {
            return;
        }
        if (at == RTADDR) {
            write_root_address(value);
        } else if (at == CCMD) {
            write_context_command(value);
        } else if (at == PHMBASE) {
            phmbase = region(value);
        } else if (at == PHMLIMIT) {
            phmlimit = region(value);
        } else if (at == IQT) {
            write_queue_tail(value);
        } else if (at == IQA) {
            write_queue_address(value);
        } else if (at == IRTA) {
            write_interrupt_table_address(value);
        } else if (at == iva_at()) {
            if ((value & 0xF80) != 0) {
                memory->blame("reserved bits of IVA");
            }
            by_register();
            if (iotlb >> 63 != 0) {
                memory->blame("IVA written during an invalidation");
            }
            iva = value;
            iva_is_fresh = true;
        } else if (at == iva_at() + 8) {
            write_iotlb(value);
        } else {
            memory->blame("a 64-bit write to no such register");
        }
        step();
    }

    /// Whatever happens between two steps of the software.
    constexpr void step() final {
        watch();
        if (hammer.runs && hammer.count < 256) {
            hammer.seen[hammer.count++] =
                request(hammer.source_id, hammer.address, access{.write = hammer.write});
        }
    }
    constexpr void released(std::uint64_t frame) final {
        check_queue_frame(frame);
        forget_table(frame);
    }

    // ---- what happens to a unit ----------------------------------------------------------------

    /// What was stalled is carried out late, and nothing stalls, is refused or vanishes any more.
    constexpr void recover() {
        stall_at = refuse_at = vanish_at = 0;
        error_at = time_out_at = completion_error_at = late_at = 0;
        gone = false;
        context.stalled = translation.stalled = false; // done when they are looked at again
        protection.stalled = false;
        queue_stalled = false;
        if (command.active && command.stalled) {
            command.active = command.stalled = false;
            carry_out(static_cast<std::uint32_t>(command.value));
        }
    }
    /// Power was lost: registers and caches are as after reset; memory is kept by somebody else.
    constexpr void power_loss() {
        reset_faults();
        reset_caches();
        reset_live_entries();
        reset_invalidation();
        reset_protection();
        reset_interrupts();
        command = {};
        sent_count = 0;
        guard.closed = false;
    }

    constexpr void firmware_translation(std::uint64_t root_table, unsigned mode = 0) {
        rtaddr = root_table | std::uint64_t{mode} << 10;
        gsts |= TE | SRTP;
        root = root_table;
        has_root = true;
        table_mode = mode;
        learn_root();
    }
    /// Its queue, with what is between `head` and `tail` still to do.
    constexpr void firmware_queue(std::uint64_t base, std::uint64_t head = 0,
                                  std::uint64_t tail = 0) {
        iqa = base;
        iqh = head;
        iqt = tail;
        gsts |= QIE;
        for (std::uint64_t at = 0; at < queue_size(); at += 8) {
            remember(at);
        }
    }
    /// `address` is IRTA: the table, EIME and the size.
    constexpr void firmware_interrupt_remapping(std::uint64_t address, bool compatibility = false) {
        irta = address;
        take_interrupt_table();
        owes_interrupts = false;
        gsts |= IRE | SIRTP | (compatibility ? CFI : 0U);
    }
    constexpr void firmware_protection(std::uint32_t low_base, std::uint32_t low_limit,
                                       std::uint64_t high_base = 0, std::uint64_t high_limit = 0) {
        cap |= cap_plmr | (high_limit != 0 ? cap_phmr : 0);
        plmbase = low_base;
        plmlimit = low_limit;
        phmbase = high_base;
        phmlimit = high_limit;
        pmen = EPM | PROTECTED;
    }
    constexpr void firmware_fault_event(std::uint32_t address, std::uint32_t data) {
        fault_event = {event_reserved, data, address, 0, true, true, true};
    }

private:
    order command;

    constexpr bool present() {
        if (++accesses == vanish_at) {
            gone = true;
        }
        return !gone;
    }
    [[nodiscard]] constexpr bool in_records(std::uint32_t at) const {
        return at >= record_at() && at < record_at() + 16 * record_count();
    }
    /// 1 to 4 for the control, data, address and upper address of an event; 0 for anything else.
    static constexpr unsigned event_register(std::uint32_t at, message::kind& what) {
        const std::uint32_t first = at >= PECTL ? PECTL : at >= IECTL ? IECTL : FECTL;
        if (at < first || at >= first + 16 || at % 4 != 0) {
            return 0;
        }
        what = first == FECTL   ? message::kind::fault
               : first == IECTL ? message::kind::invalidation
                                : message::kind::page_request;
        return (at - first) / 4 + 1;
    }

    constexpr void watch() {
        if (!guard.runs) {
            return;
        }
        const bool closed = (gsts & TE) != 0 || is_protected(guard.address);
        if (guard.closed && !closed && !guard.opened) {
            guard.opened = true;
            guard.after = gsts;
        }
        guard.closed = closed;
    }

    // ---- RTADDR and GCMD -----------------------------------------------------------------------

    constexpr void write_root_address(std::uint64_t value) {
        const auto mode = static_cast<unsigned>(value >> 10 & 3);
        if ((value & 0x3FF) != 0 || mode == 2) {
            memory->blame("reserved bits of RTADDR");
        }
        if ((mode == 1 && (ecap & ecap_smts) == 0) || (mode == 3 && (ecap & ecap_adms) == 0)) {
            memory->blame("a table mode that the unit does not have");
        }
        if ((gsts & TE) != 0 && mode != asked_mode() && asked_mode() != 3 && mode != 3 &&
            (cap & cap_esrtps) == 0) {
            memory->blame("another table mode while translation is on");
        }
        if (mode == 1 && (gsts & QIE) != 0 && !wide_descriptors()) {
            memory->blame("scalable mode while the queue has 128-bit descriptors");
        }
        if ((value >> host_address_width) != 0) {
            memory->blame("a root table beyond the host address width");
        }
        rtaddr = value;
    }
    static constexpr unsigned ones(std::uint32_t word) {
        unsigned n = 0;
        for (; word != 0; word &= word - 1) {
            ++n;
        }
        return n;
    }
    constexpr void poll_command() {
        if (ripe(command)) {
            carry_out(static_cast<std::uint32_t>(command.value));
        }
    }
    constexpr void give_order(std::uint32_t value) {
        if (ccmd >> 63 != 0 || iotlb >> 63 != 0) {
            memory->blame("an order while an invalidation by register is under way");
        }
        if (command.active && !command.stalled) {
            memory->blame("an order before the last one was carried out");
        }
        if ((value & ~(persistent | once)) != 0) {
            memory->blame("reserved bits of GCMD");
        }
        const std::uint32_t changed = (value ^ gsts) & persistent;
        if (ones(changed) + ones(value & once) > 1) {
            memory->blame("more than one change in GCMD"); // or a state bit that was lost
        }
        if ((value & WBF) != 0 && (cap & cap_rwbf) == 0) {
            memory->blame("a write-buffer flush where there is no write buffer");
        }
        if ((changed & value & TE) != 0) {
            if (!has_root) {
                memory->blame("translation enabled before a root table was set");
            }
            if (owes != 0) {
                memory->blame("translation enabled before the caches were emptied after SRTP");
            }
        }
        if ((changed & value & IRE) != 0) {
            if (!has_interrupt_table) {
                memory->blame("interrupt remapping enabled before a table was set");
            }
            if (owes_interrupts) {
                memory->blame("interrupt remapping enabled before the entry cache was emptied");
            }
        }
        if ((changed & QIE) != 0) {
            if ((value & QIE) != 0) {
                queue_starts();
            } else {
                queue_stops();
            }
        }
        if (changed == 0 && (value & once) == 0) {
            return; // everything is as it is to be
        }
        begin(command, value);
        if ((value & SRTP) != 0) {
            gsts &= ~SRTP;
        }
        if ((value & SIRTP) != 0) {
            gsts &= ~SIRTP;
        }
        if ((value & WBF) != 0) {
            gsts |= WBF;
        }
        if (latency == 0) {
            poll_command();
        }
    }
    constexpr void carry_out(std::uint32_t value) {
        if ((value & SRTP) != 0) {
            gsts |= SRTP;
            root = rtaddr & ~std::uint64_t{0xFFF};
            has_root = true;
            table_mode = asked_mode();
            owes = table_mode == 3 ? 0 : 3;
            learn_root();
            if ((cap & cap_esrtps) != 0) {
                forget_contexts(0, 0, 1, 0);
                forget_pasids(0, 0, 3);
                forget_pages(1, 0);
                owes = 0;
            }
        }
        if ((value & SIRTP) != 0) {
            gsts |= SIRTP;
            take_interrupt_table();
        }
        if ((value & WBF) != 0) {
            gsts &= ~WBF;
            memory->flush_write_buffer();
        }
        const std::uint32_t before = gsts;
        gsts = (gsts & ~persistent) | (value & persistent);
        if ((before & ~gsts & QIE) != 0) {
            queue_stopped();
        }
        if ((~before & gsts & QIE) != 0) {
            iqh = 0;
            queue_polls = 0;
        }
        watch();
    }
};

/// One more unit of a machine.
struct remapping_unit final : unit_registers {
    using unit_registers::unit_registers;
};

/// A machine with one unit.
template <std::size_t Frames>
struct fake_unit final : host<Frames>, unit_registers {
    constexpr fake_unit() : unit_registers{static_cast<host<Frames>&>(*this)} {}
    // NOLINTNEXTLINE(modernize-use-equals-default): gcc 12 takes no other in a constant expression
    constexpr ~fake_unit() final {}
};

/// The mmio_io over a fake unit.
template <class Unit>
struct registers {
    Unit* unit;

    constexpr std::uint32_t read32(std::uint32_t at) { return unit->read32(at); }
    constexpr std::uint64_t read64(std::uint32_t at) { return unit->read64(at); }
    constexpr void write32(std::uint32_t at, std::uint32_t value) { unit->write32(at, value); }
    constexpr void write64(std::uint32_t at, std::uint64_t value) { unit->write64(at, value); }
};

/// The clock over a fake unit: a look at it is time in which the queue works.
template <class Unit>
struct fake_clock {
    Unit* unit;

    constexpr std::uint64_t now() {
        unit->look();
        return unit->time += unit->tick;
    }
};

} // namespace vtd_model
