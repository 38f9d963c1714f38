// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

namespace pt::vtd {

/// The registers of one remapping unit: where they are, how an order is given, and how long it may
/// take. A small handle by which every part of the unit's driver reaches it; the copies are equal.
///
/// Every wait for the hardware has a time limit: errc::time_out with the offset of the register
/// that did not answer. A unit that is gone (all ones) never fakes success.
template <mmio_io Mmio, clock Clock>
class register_window {
public:
    /// How long an order to the unit may take, in nanoseconds; generous, since a drain waits for
    /// the devices' own requests.
    static constexpr std::uint64_t patience = 1'000'000'000;

    /// The unit whose registers `mmio` reaches, `size` bytes of them (4 KiB unless firmware says
    /// more). errc::absent when nothing answers there; errc::malformed when the unit's capability
    /// registers place other registers outside the window, over the fixed ones or over each other,
    /// or name no address width.
    static constexpr result<register_window> open(Mmio mmio, std::uint64_t size, Clock time) {
        const version implemented = pt::read<version>(mmio);
        const capability cap{pt::read<capability>(mmio)};
        const extended_capability ecap{pt::read<extended_capability>(mmio)};
        if (implemented.raw == ~std::uint32_t{0} || implemented.raw == 0 ||
            cap.raw == ~std::uint64_t{0} || ecap.raw == ~std::uint64_t{0}) {
            return error{errc::absent, version::offset};
        }
        // From version 6 on, a unit may have no second stage at all.
        const bool has_second_stage =
            implemented[version::major] < 6 || ecap[extended_capability::second_stage_translation];
        if (has_second_stage &&
            (cap[capability::supported_address_widths] & supported_widths) == 0) {
            return error{errc::malformed, capability::offset};
        }
        // In units of 16 bytes: IVA with the IOTLB register, the fault recording registers, and the
        // end of the registers that every such unit has at fixed places.
        const std::uint64_t iotlb = ecap[extended_capability::iotlb_offset];
        const std::uint64_t records = cap[capability::fault_recording_offset];
        const std::uint64_t end = records + cap[capability::fault_recording_registers] + 1U;
        const bool protects =
            cap[capability::protected_low_memory] || cap[capability::protected_high_memory];
        const std::uint64_t fixed = ecap[extended_capability::page_request]          ? 0xF
                                    : ecap[extended_capability::queued_invalidation] ? 0xC
                                    : protects                                       ? 0x8
                                                                                     : 0x5;
        if (iotlb < fixed || records < fixed || (iotlb + 1) * 16 > size || end * 16 > size ||
            (records <= iotlb && iotlb < end)) {
            return error{errc::malformed, capability::offset};
        }
        return register_window{mmio, time, cap, ecap};
    }

    [[nodiscard]] constexpr capability capabilities() const { return cap_; }
    [[nodiscard]] constexpr extended_capability extended_capabilities() const { return ecap_; }

    /// A register with a fixed place.
    template <mmio_register R>
    [[nodiscard]] constexpr R read() {
        return pt::read<R>(mmio_);
    }
    template <mmio_register R>
    constexpr void write(R value) {
        pt::write(mmio_, value);
    }
    /// A register without one; for the offsets see below.
    template <class R>
    [[nodiscard]] constexpr R read_at(std::uint32_t offset) {
        if constexpr (sizeof(typename R::word) == 8) {
            return R{mmio_.read64(offset)};
        } else {
            return R{mmio_.read32(offset)};
        }
    }
    template <class R>
    constexpr void write_at(std::uint32_t offset, R value) {
        if constexpr (sizeof(typename R::word) == 8) {
            mmio_.write64(offset, value.raw);
        } else {
            mmio_.write32(offset, value.raw);
        }
    }
    /// One dword, where a register must not be written as a whole.
    constexpr void write_dword(std::uint32_t offset, std::uint32_t value) {
        mmio_.write32(offset, value);
    }

    /// Of IVA: 16 * ECAP.IRO.
    [[nodiscard]] constexpr std::uint32_t invalidate_address_offset() const {
        return std::uint32_t{ecap_[extended_capability::iotlb_offset]} * 16;
    }
    /// Of the IOTLB register.
    [[nodiscard]] constexpr std::uint32_t iotlb_invalidate_offset() const {
        return invalidate_address_offset() + 8;
    }
    /// How many fault recording registers there are, 1 to 256.
    [[nodiscard]] constexpr unsigned fault_records() const {
        return cap_[capability::fault_recording_registers] + 1U;
    }
    /// Of fault recording register `index`, 16 bytes: 16 * (CAP.FRO + index).
    [[nodiscard]] constexpr std::uint32_t fault_record_offset(unsigned index) const {
        return (std::uint32_t{cap_[capability::fault_recording_offset]} + index) * 16;
    }

    /// What is on, and how far the orders have come.
    [[nodiscard]] constexpr global_status status() { return read<global_status>(); }
    /// GSTS, or errc::absent when the unit is gone.
    [[nodiscard]] constexpr result<global_status> present_status() {
        const global_status now = status();
        if (now.raw == gone) {
            return error{errc::absent, global_status::offset};
        }
        return now;
    }

    /// Writes one change to GCMD on top of what is on already, and waits for `answer` in GSTS to be
    /// `expected` [vt-d, "Global Command Register"].
    template <class Command, class Status>
    constexpr result<void> order(field_value<Command> change, Status answer, bool expected) {
        if (const result<void> over = finish_invalidations(); !over) {
            return over;
        }
        const result<global_status> now = present_status();
        if (!now) {
            return now.error();
        }
        const global_command kept{now->raw & global_status::carried_over};
        write(kept.with(change));
        return wait(global_status::offset, [&] {
            const global_status s = status();
            return s.raw != gone && s[answer] == expected;
        });
    }

    /// Waits until no invalidation by register is under way, e.g. one that timed out: the unit
    /// takes one command at a time [vt-d, "Hardware Register Programming Considerations"].
    constexpr result<void> finish_invalidations() {
        if (const result<global_status> now = present_status(); !now) {
            return now.error();
        }
        const result<void> over = wait(context_command::offset, [&] {
            return !read<context_command>()[context_command::invalidate];
        });
        if (!over) {
            return over;
        }
        const std::uint32_t iotlb = iotlb_invalidate_offset();
        return wait(
            iotlb, [&] { return !read_at<iotlb_invalidate>(iotlb)[iotlb_invalidate::invalidate]; });
    }

    /// Waits until `done()` says so; `offset` names the register in errc::time_out.
    template <class Done>
    constexpr result<void> wait(std::uint32_t offset, Done done) {
        const std::uint64_t start = clock_.now();
        while (!done()) {
            if (clock_.now() - start > patience) {
                // Perhaps it was this processor that slept, and not the unit.
                return done() ? result<void>{} : error{errc::time_out, offset};
            }
        }
        return {};
    }

    /// Older units (CAP.RWBF) buffer writes to the tables and must be told to let them through
    /// before anything is invalidated; on the others this does nothing.
    constexpr result<void> flush_write_buffer() {
        if (!cap_[capability::required_write_buffer_flushing]) {
            return {};
        }
        return order(global_command::write_buffer_flush(true), global_status::write_buffer_flush,
                     false);
    }

    /// What every register reads of a unit that is not there.
    static constexpr std::uint32_t gone = ~std::uint32_t{0};
    /// SAGAW bits that mean something: 3, 4 and 5 levels.
    static constexpr unsigned supported_widths = 0b1110;

private:
    constexpr register_window(Mmio mmio, Clock time, capability cap, extended_capability ecap)
        : mmio_{mmio}, clock_{time}, cap_{cap}, ecap_{ecap} {}

    [[no_unique_address]] Mmio mmio_;
    [[no_unique_address]] Clock clock_;
    capability cap_;
    extended_capability ecap_;
};

} // namespace pt::vtd
