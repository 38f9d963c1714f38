// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// What to do about one fault.
enum class fault_verdict : std::uint8_t {
    report,  ///< worth a look
    drop,    ///< forget it
    silence, ///< forget it, and the function's later ones: they need not be recorded (FPD)
    stop, ///< forget it, and stop the function, which goes on in spite of that: Bus Master Enable
};

/// How many faults are worth a look.
struct fault_limits {
    std::uint64_t interval = 100'000'000; ///< in nanoseconds
    unsigned burst = 8;                   ///< of one function at once; then one in an interval
    unsigned total = 32;                  ///< of all functions together in an interval
};

/// Keeps a device that faults without end from keeping the VMM busy, in fixed room and with
/// `Capacity` steps for each fault.
///
/// Each function that faults has a level that rises by one with a fault and falls by one in an
/// interval. Above the burst the function is to be silenced: it is said once. At twice the burst it
/// is to be stopped, which is said once as well. All its other faults are dropped until the level
/// is down at 0 again, when the function is forgotten. A fault of a function for which there is no
/// room lowers every level by one instead (the counting of Misra and Gries): so a flood of invented
/// source ids makes the table forget functions with few faults, but not one that causes more than
/// one in Capacity + 1 of all.
template <clock Clock, std::size_t Capacity>
class fault_limiter {
    static_assert(Capacity > 0);

public:
    /// Every limit must be at least 1.
    explicit constexpr fault_limiter(Clock time, fault_limits limits = {})
        : clock_{time}, limits_{limits}, counted_until_{clock_.now()} {
        expects(limits.interval > 0 && limits.burst > 0 && limits.total > 0,
                "a fault limit of 0 would report nothing");
        expects(limits.burst <= ~0U / 2, "a burst beyond what a level can hold");
    }

    /// A fault of `function` happened now.
    constexpr fault_verdict admit(pci::function_address function) {
        let_fall();
        const std::size_t found = place_of(function);
        if (found == Capacity) {
            for (level& l : levels_) {
                --l.height; // none is 0: there would have been room
            }
            return within_total();
        }
        level& l = levels_[found];
        if (l.height == 0) {
            l = {function, 0, false, false};
        }
        if (l.height < 2 * limits_.burst) {
            ++l.height;
        }
        if (l.silenced) {
            // Some faults are recorded in any case, such as interrupt requests of a wrong format.
            const bool now = !l.stopped && l.height == 2 * limits_.burst;
            l.stopped = l.stopped || now;
            return now ? fault_verdict::stop : fault_verdict::drop;
        }
        if (l.height > limits_.burst) {
            l.silenced = true;
            return fault_verdict::silence;
        }
        return within_total();
    }

    /// Forgets a function, as if it had never caused a fault: after it was reset.
    constexpr void forget(pci::function_address function) {
        for (level& l : levels_) {
            if (l.function == function) {
                l.height = 0;
            }
        }
    }

private:
    struct level {
        pci::function_address function;
        unsigned height = 0; ///< 0: nobody's
        bool silenced = false;
        bool stopped = false;
    };

    constexpr void let_fall() {
        const std::uint64_t intervals = (clock_.now() - counted_until_) / limits_.interval;
        if (intervals == 0) {
            return;
        }
        counted_until_ += intervals * limits_.interval;
        reported_ = 0;
        for (level& l : levels_) {
            l.height = intervals < l.height ? l.height - static_cast<unsigned>(intervals) : 0;
        }
    }

    /// Where the function's level is, or else a free one, or else Capacity.
    constexpr std::size_t place_of(pci::function_address function) const {
        std::size_t place = Capacity;
        for (std::size_t i = 0; i < Capacity; ++i) {
            if (levels_[i].height == 0) {
                place = i;
            } else if (levels_[i].function == function) {
                return i;
            }
        }
        return place;
    }

    constexpr fault_verdict within_total() {
        if (reported_ == limits_.total) {
            return fault_verdict::drop;
        }
        ++reported_;
        return fault_verdict::report;
    }

    [[no_unique_address]] Clock clock_;
    fault_limits limits_;
    std::uint64_t counted_until_;
    unsigned reported_ = 0; ///< in this interval
    level levels_[Capacity]{};
};

} // namespace pt::vtd
