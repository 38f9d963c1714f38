// SPDX-License-Identifier: BSL-1.0
//
// What the subject e1000_transmit means to have on the wire, worked out once more by the rules of the
// protocols themselves, and without pt.
#pragma once

#include <string>
#include <vector>

namespace runner {

/// A frame as it is on the wire, without the frame check sequence.
struct meant_frame {
    std::string what; ///< for whoever reads that it is not there
    std::string bytes;
};

/// All of them, in the order of the wire.
std::vector<meant_frame> meant_frames();

} // namespace runner
