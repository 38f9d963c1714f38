// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/register_window.hpp"
#include "pt/vtd/registers.hpp"

#include <concepts>
#include <cstdint>

namespace pt::vtd {

/// The faults that a unit recorded, oldest first [vt-d, "Primary Fault Logging"].
///
/// A device can cause them without end: take a bounded number at a time, and let a fault_limiter
/// say which are worth a look. The unit sends no fault event while anything is pending, the errors
/// of the invalidation queue included: whoever stops early must come back by himself.
///
/// Advanced fault logging, to memory instead of registers, is not used: hardly any unit had it, the
/// newer revisions of the manual have taken it out, and the fault recording registers are
/// everywhere.
template <mmio_io Mmio, clock Clock>
class fault_log {
public:
    /// The log of the unit behind `window`, whose functions are in `segment`.
    explicit constexpr fault_log(register_window<Mmio, Clock> window, std::uint16_t segment = 0)
        : window_{window}, segment_{segment} {}

    constexpr fault_log(fault_log&&) noexcept = default; // where the oldest fault is moves along
    fault_log& operator=(fault_log&&) = delete;
    constexpr ~fault_log() = default;

    /// The oldest fault, removed from its record; errc::absent when there is none, or no unit.
    constexpr result<fault_record> take() {
        const fault_status status = window_.template read<fault_status>();
        if (!status[fault_status::primary_pending_fault] || status.raw == window_.gone) {
            oldest_ = unknown;
            return error{errc::absent, fault_status::offset};
        }
        // FRI stays where the first fault was recorded until none is pending. It has room for more
        // than there are records.
        const unsigned records = window_.fault_records();
        const unsigned first =
            oldest_ != unknown ? oldest_ : unsigned{status[fault_status::fault_record_index]};
        for (unsigned i = 0; i < records; ++i) {
            const unsigned index = (first + i) % records;
            const std::uint32_t at = window_.fault_record_offset(index);
            if (!is_recorded(read_high(at))) {
                continue;
            }
            // The unit may write a record in pieces, F as the last: only now it is complete.
            const auto low = window_.template read_at<fault_record_low>(at);
            const fault_record_high high = read_high(at);
            if (!is_recorded(high)) {
                break;
            }
            // F is the top bit of the record's last dword, the only one that software writes.
            window_.write_dword(at + 12,
                                static_cast<std::uint32_t>(fault_record_high::fault.mask >> 32));
            oldest_ = (index + 1) % records;
            return fault_record::decode(low, high, segment_);
        }
        return error{errc::absent, fault_status::offset};
    }

    /// Gives `sink` the oldest faults, each removed, `at_most` of them; how many there were. Fewer
    /// than `at_most`: none is left.
    template <std::invocable<const fault_record&> Sink>
    constexpr unsigned drain(unsigned at_most, Sink sink) {
        for (unsigned taken = 0; taken < at_most; ++taken) {
            const result<fault_record> fault = take();
            if (!fault) {
                return taken;
            }
            sink(*fault);
        }
        return at_most;
    }

    /// Whether faults were lost because all records were in use; asking makes the unit record
    /// again. That must not happen before every record was taken: until then this says false.
    constexpr bool take_overflow() {
        const fault_status status = window_.template read<fault_status>();
        if (!status[fault_status::primary_fault_overflow] ||
            status[fault_status::primary_pending_fault] || status.raw == window_.gone) {
            return false;
        }
        window_.write(fault_status{fault_status::primary_fault_overflow(true)});
        return true;
    }

private:
    static constexpr unsigned unknown = ~0U;

    constexpr fault_record_high read_high(std::uint32_t at) {
        return window_.template read_at<fault_record_high>(at + 8);
    }
    static constexpr bool is_recorded(fault_record_high high) {
        return high[fault_record_high::fault] && high.raw != ~std::uint64_t{0};
    }

    register_window<Mmio, Clock> window_;
    std::uint16_t segment_;
    unsigned oldest_ = unknown; ///< the record after the one taken last
};

} // namespace pt::vtd
