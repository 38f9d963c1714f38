// SPDX-License-Identifier: BSL-1.0
//
// What a kernel reports of itself, whichever machine it runs on.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace runner {

/// One check that the kernel has reported.
struct check {
    std::string name;
    bool holds = false;
    std::string why; ///< it does not
};

/// A boot, from the emulator's start to its end.
struct run {
    std::vector<check> checks;
    std::string log;  ///< all that the kernel printed
    std::string said; ///< what the emulator itself printed
    /// Why the checks are not all that there is to say: it was not the kernel's last line that
    /// ended the machine, or lines are missing, or two checks have one name.
    std::optional<std::string> defect;
};

/// Reads the checks out of `done.log` into `done.checks`, and gives back the defect, if there is
/// one.
std::optional<std::string> read_checks(run& done);

} // namespace runner
