// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "host.hpp"
#include "numbers.hpp"

#include <cstddef>
#include <cstdint>

namespace vtd_model {

/// An order under way: carried out when its status was read often enough.
struct order {
    bool active = false;
    bool stalled = false;
    bool refused = false;
    unsigned polls = 0;
    std::uint64_t value = 0;
};

/// The four registers of an event [vt-d, "Fault Event Control Register" and its like].
struct event_registers {
    std::uint32_t control = IM;
    std::uint32_t data = 0;
    std::uint32_t address = 0;
    std::uint32_t upper_address = 0;
    bool has_data = false;
    bool has_address = false;
    bool has_upper_address = false;
};

/// An interrupt that a unit sent on its own behalf.
struct message {
    enum class kind : std::uint8_t { fault, invalidation, page_request };
    kind what = kind::fault;
    std::uint64_t address = 0;
    std::uint32_t data = 0;

    friend constexpr bool operator==(const message&, const message&) = default;
};

/// The lowest layer of a unit: how it is built, how it misbehaves, and how it tells of faults.
struct unit_faults : onlooker {
    memory_bus* memory;
    unsigned number = 0; ///< among the units of the machine

    // How it was built
    std::uint32_t ver = 0x10;
    std::uint64_t cap = qemu_cap;
    std::uint64_t ecap = qemu_ecap;
    unsigned host_address_width = 39;
    bool has_error_record = true; ///< IQERCD says more than nothing
    /// What the reserved bits of FECTL, IECTL and PECTL hold, for software to keep.
    std::uint32_t event_reserved = 0x0123'4500;

    // Registers
    std::uint32_t gsts = 0;
    std::uint64_t rtaddr = 0;
    std::uint32_t fsts = 0; ///< bits 7:2 and PFO; PPF and FRI are made up on reading
    std::uint64_t records[256][2]{};
    unsigned next_record = 0;
    unsigned first_pending = 0;
    unsigned pending_before = 0;
    std::uint32_t ics = 0;
    std::uint32_t prs = 0;
    event_registers fault_event{.control = IM | event_reserved};
    event_registers invalidation_event{.control = IM | event_reserved};
    event_registers page_request_event{.control = IM | event_reserved};

    // What the registers do not show
    std::uint64_t root = 0;
    bool has_root = false;
    unsigned table_mode = 0; ///< 0 legacy, 1 scalable, 3 abort: of the root table that was taken
    /// What has to be emptied as a whole, and in this order, after SRTP: 3 the context cache, 2 the
    /// PASID cache (in scalable mode), 1 the IOTLB.
    unsigned owes = 0;

    // How it misbehaves
    unsigned latency = 2;   ///< how often a status is read before an order is carried out
    unsigned orders = 0;    ///< that were given so far, or taken from the queue
    unsigned stall_at = 0;  ///< the order, counted from 1, that is not carried out
    unsigned refuse_at = 0; ///< the invalidation, counted as orders, that is refused
    unsigned claim = 0;     ///< what that refusal puts into CAIG or IAIG
    unsigned accesses = 0;  ///< to registers so far
    unsigned vanish_at = 0; ///< the access, counted from 1, at which the unit goes away
    bool gone = false;
    unsigned hostile_fri = 256; ///< below 256: what FSTS claims

    /// What it sent.
    message sent[64]{};
    std::size_t sent_count = 0;

    constexpr explicit unit_faults(memory_bus& bus) : memory{&bus} {}

    [[nodiscard]] constexpr unsigned record_count() const {
        return static_cast<unsigned>(cap >> 40 & 0xFF) + 1;
    }
    [[nodiscard]] constexpr bool caching_mode() const { return (cap & cap_cm) != 0; }
    /// The table mode that software asked for last.
    [[nodiscard]] constexpr unsigned asked_mode() const {
        return static_cast<unsigned>(rtaddr >> 10 & 3);
    }

    /// Puts a fault into the next record, as hardware does.
    constexpr void record(std::uint64_t low, std::uint64_t high) {
        update_pending();
        if ((fsts & PFO) != 0) {
            return;
        }
        if (records[next_record][1] >> 63 != 0) {
            report(PFO);
            return;
        }
        const bool first = pending_before == 0;
        const bool others = (fsts & (PFO | IQE | ICE | ITE)) != 0;
        if (first) {
            first_pending = next_record;
        }
        records[next_record][0] = low;
        records[next_record][1] = high | std::uint64_t{1} << 63;
        next_record = (next_record + 1) % record_count();
        pending_before = 1;
        if (first && !others) { // what is pending already holds the event back
            raise(message::kind::fault);
        }
    }

    /// A page request that was lost, or that came: only the status and its event.
    constexpr void page_request(bool overflow) {
        prs |= overflow ? 2U : 1U;
        if (overflow) {
            report(PRO);
        }
        raise(message::kind::page_request);
    }

protected:
    /// Sets a bit of FSTS. What is pending already holds the event back.
    constexpr void report(std::uint32_t bit) {
        update_pending();
        const bool held_back = pending_before != 0 || (fsts & (PFO | IQE | ICE | ITE)) != 0;
        fsts |= bit;
        if (!held_back) {
            raise(message::kind::fault);
        }
    }

    constexpr void begin(order& o, std::uint64_t value) {
        ++orders;
        o = {true, orders == stall_at, orders == refuse_at, latency, value};
    }
    /// Whether it is time to carry the order out.
    static constexpr bool ripe(order& o) {
        if (!o.active || o.stalled) {
            return false;
        }
        if (o.polls > 0) {
            --o.polls;
            return false;
        }
        o.active = false;
        return true;
    }

    constexpr void update_pending() {
        pending_before = 0;
        for (unsigned i = 0; i < record_count(); ++i) {
            if (records[i][1] >> 63 != 0) {
                pending_before = 1;
            }
        }
    }
    constexpr std::uint32_t fault_status() {
        update_pending();
        const unsigned index = hostile_fri < 256 ? hostile_fri : first_pending;
        // FRI means nothing while no fault is pending.
        return fsts | pending_before << 1 | (pending_before != 0 ? index : 0xA5) << 8;
    }
    /// After software cleared something: what nobody waits for any more is not pending any more.
    constexpr void serviced() {
        if ((fault_status() & (PFO | PPF | IQE | ICE | ITE | PRO)) == 0) {
            fault_event.control &= ~IP;
        }
        if ((ics & 1) == 0) {
            invalidation_event.control &= ~IP;
        }
        if (prs == 0) {
            page_request_event.control &= ~IP;
        }
    }

    constexpr event_registers& registers_of(message::kind what) {
        return what == message::kind::fault          ? fault_event
               : what == message::kind::invalidation ? invalidation_event
                                                     : page_request_event;
    }
    constexpr void raise(message::kind what) {
        event_registers& event = registers_of(what);
        if ((event.control & IM) != 0) {
            event.control |= IP;
        } else {
            send(what);
        }
    }
    constexpr void send(message::kind what) {
        const event_registers& event = registers_of(what);
        if (sent_count < 64) {
            sent[sent_count++] = {what, std::uint64_t{event.upper_address} << 32 | event.address,
                                  event.data};
        }
    }
    /// A write to register `n` (control, data, address, upper address) of an event.
    constexpr void write_event(message::kind what, unsigned n, std::uint32_t value) {
        event_registers& event = registers_of(what);
        const bool masked = (event.control & IM) != 0;
        if (n != 0 && !masked) {
            memory->blame("the message of an event written while the event is unmasked");
        }
        if (n == 1) {
            event.data = value;
            event.has_data = true;
            if ((value >> 16) != 0) {
                memory->blame("reserved bits of an event's data");
            }
        } else if (n == 2) {
            event.address = value;
            event.has_address = true;
            if ((value & 3) != 0 || value >> 20 != 0xFEE) {
                memory->blame("an event's address that is no interrupt");
            }
        } else if (n == 3) {
            event.upper_address = value;
            event.has_upper_address = true;
            if ((value & 0xFF) != 0) {
                memory->blame("reserved bits of an event's upper address");
            }
        } else {
            if (((value ^ event.control) & ~(IM | IP)) != 0) {
                memory->blame("reserved bits of an event's control were not preserved");
            }
            if ((value & IM) == 0 && masked &&
                !(event.has_data && event.has_address &&
                  (event.has_upper_address || (ecap & ecap_eim) == 0))) {
                memory->blame("an event unmasked before its data and address were written");
            }
            event.control = (event.control & ~IM) | (value & IM);
            if ((event.control & (IM | IP)) == IP) {
                event.control &= ~IP;
                send(what);
            }
        }
    }
    static constexpr std::uint32_t read_event(const event_registers& event, unsigned n) {
        return n == 0   ? event.control
               : n == 1 ? event.data
               : n == 2 ? event.address
                        : event.upper_address;
    }
    constexpr void reset_faults() {
        gsts = fsts = ics = prs = 0;
        rtaddr = root = 0;
        has_root = false;
        table_mode = owes = 0;
        for (auto& one : records) {
            one[0] = one[1] = 0;
        }
        next_record = first_pending = pending_before = 0;
        fault_event = invalidation_event = page_request_event = {.control = IM | event_reserved};
    }
};

} // namespace vtd_model
