// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace runner {

/// What became of a program.
struct execution {
    std::string out;     ///< its standard output
    std::string err;     ///< its standard error
    bool in_time = true; ///< it ended by itself; otherwise it was killed
    int status = 0;      ///< as waitpid reports it
};

/// Runs a program, found by PATH, with its arguments and without input, until it closes its output,
/// or until `limit` is over in real time. Exit status 127: there is no such program. It does not
/// outlive this one.
execution execute(const std::vector<std::string>& command, std::chrono::seconds limit);

} // namespace runner
