// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace demo {

/// Something was not as it must be; the message says what.
class broken : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// Tells a person what happens, step by step, and stops at the first thing that is wrong.
class story {
public:
    void step(std::string_view title) {
        fmt::print("\n{}. {}\n", ++steps_, title);
        std::fflush(stdout);
    }
    template <class... Args>
    void tell(fmt::format_string<Args...> text, Args&&... args) {
        fmt::print("   {}\n", fmt::format(text, std::forward<Args>(args)...));
    }
    template <class... Args>
    void check(bool holds, fmt::format_string<Args...> text, Args&&... args) {
        const std::string claim = fmt::format(text, std::forward<Args>(args)...);
        if (!holds) {
            throw broken("this does not hold: " + claim);
        }
        ++checks_;
        fmt::print("   ok  {}\n", claim);
    }
    [[nodiscard]] unsigned checks() const { return checks_; }

private:
    unsigned steps_ = 0;
    unsigned checks_ = 0;
};

} // namespace demo
