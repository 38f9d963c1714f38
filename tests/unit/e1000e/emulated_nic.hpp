// SPDX-License-Identifier: BSL-1.0
// The emulated NIC of docs/e1000e_device.md.
#pragma once

#include "pt/core/policy.hpp"
#include "pt/e1000e/interrupt_registers.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/rx_engine.hpp"
#include "pt/e1000e/tx_engine.hpp"

#include <cstddef>
#include <cstdint>

namespace example {

namespace e1000e = pt::e1000e;

/// An 82574L that does not exist: its registers, over a guest's memory.
template <pt::bus_memory Memory>
class emulated_nic {
public:
    explicit emulated_nic(Memory guest) : tx_{guest, frame_, sizeof frame_}, rx_{guest} { reset(); }

    std::uint32_t read(std::uint32_t offset) {
        switch (offset) {
        case e1000e::ctrl::offset: return ctrl_.raw;
        case e1000e::status::offset: // 1000 Mb/s, link up, full duplex; DMA, unless it was ended
            return 0x83U | (ctrl_[e1000e::ctrl::gio_master_disable] ? 0 : 1U << 19);
        case e1000e::eecd::offset: return 0x200;          // the EEPROM was read
        case e1000e::pba::offset: return 20U << 16 | 20U; // KiB, out and in
        default: break;
        }
        if (interrupts_.owns(offset)) {
            return interrupts_.read(offset);
        }
        return tx_.owns(offset) ? tx_.read(offset) : rx_.read(offset);
    }

    void write(std::uint32_t offset, std::uint32_t value) {
        if (offset == e1000e::ctrl::offset && e1000e::ctrl{value}[e1000e::ctrl::rst]) {
            return reset();
        }
        if (offset == e1000e::ctrl::offset) {
            ctrl_ = e1000e::ctrl{value};
        }
        interrupts_.write(offset, value); // each takes what is its own
        tx_.write(offset, value);
        rx_.write(offset, value);
    }

    void reset() {
        ctrl_ = {};
        interrupts_.reset();
        tx_.reset();
        rx_.reset();
        rx_.write(e1000e::ral::offset, 0x1200'5452); // 52:54:00:12:34:56
        rx_.write(e1000e::rah::offset, 0x8000'5634);
    }

    /// Does some of the work that the guest has asked for; whether there may be more.
    template <class Sink>
    bool work(Sink&& sink) {
        const e1000e::tx_step done = tx_.step({}, sink);
        interrupts_.raise(done.causes);
        if (done.delayed_write_back) {
            interrupts_.raise(tx_.write_back_causes()); // without a timer: now
        }
        return done.why == e1000e::tx_stop::budget;
    }

    /// A frame for the guest.
    e1000e::rx_outcome deliver(const std::uint8_t* frame, std::size_t length) {
        const e1000e::rx_delivery done = rx_.deliver(frame, length);
        interrupts_.raise(done.causes);
        interrupts_.raise(done.delayed); // without a timer: now
        return done.outcome;
    }

    e1000e::interrupt_registers& interrupts() { return interrupts_; }

private:
    std::uint8_t frame_[16384];
    e1000e::tx_engine<Memory> tx_;
    e1000e::rx_engine<Memory> rx_;
    e1000e::interrupt_registers interrupts_;
    e1000e::ctrl ctrl_;
};

} // namespace example
