// SPDX-License-Identifier: BSL-1.0
//
// The kernels that were built, and sections for what their boots report.
#pragma once

#include "report.hpp"

#include <functional>
#include <string>
#include <vector>

namespace runner {

/// The compilers of the kernels.
std::vector<std::string> compilers();

/// What a compiler has made: "kernel.COMPILER.EXTENSION" where the kernels are.
std::string kernel_file(const std::string& compiler, const std::string& extension);

/// Makes a section of the test case, and in it one for each check that the boot reports, and one
/// for how it ended. Catch2 runs a test case anew for each section; `boot` is called once.
///
/// `name` says all that makes this boot differ from others: by that name Catch2 knows a section, and
/// would not enter another one of the same name. It is an error if one run through the test case
/// comes to it twice.
void section_of_boot(const std::string& name, const std::function<run()>& boot);

} // namespace runner
