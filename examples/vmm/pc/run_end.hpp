// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace vmm::pc {

/// How the run of a guest ends.
enum class run_end : std::uint8_t {
    none,       ///< it has not ended
    exit_port,  ///< the guest has written its exit code
    reset,      ///< it has reset its machine
    power_off,  ///< it has turned itself off
    halted,     ///< HLT with interrupts off: nothing wakes it any more
    shutdown,   ///< a triple fault
    failed,     ///< the VMM cannot go on with it
    time_limit, ///< it had its time
};

/// For people.
[[nodiscard]] constexpr const char* explain(run_end why) {
    switch (why) {
    case run_end::none: return "is still running";
    case run_end::exit_port: return "has written its exit code";
    case run_end::reset: return "has reset its machine";
    case run_end::power_off: return "has turned itself off";
    case run_end::halted: return "halts with interrupts off";
    case run_end::shutdown: return "shut down: a triple fault";
    case run_end::failed: return "cannot go on";
    case run_end::time_limit: return "did not end in time";
    }
    return "unknown";
}

} // namespace vmm::pc
