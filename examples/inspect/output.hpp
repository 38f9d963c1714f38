// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <string_view>

namespace inspect {

/// Text for a terminal, with colour or without.
class painter {
public:
    explicit painter(bool in_colour) : in_colour_{in_colour} {}

    /// In colour if standard output is a terminal, and neither NO_COLOR nor a dumb terminal asks
    /// for none.
    static painter for_standard_output();

    [[nodiscard]] std::string strong(std::string_view text) const { return put("1", text); }
    [[nodiscard]] std::string faint(std::string_view text) const { return put("2", text); }
    [[nodiscard]] std::string good(std::string_view text) const { return put("32", text); }
    [[nodiscard]] std::string careful(std::string_view text) const { return put("33", text); }
    [[nodiscard]] std::string bad(std::string_view text) const { return put("1;31", text); }

private:
    [[nodiscard]] std::string put(std::string_view how, std::string_view text) const;

    bool in_colour_;
};

/// The text with what a terminal might obey, and JSON cannot hold, replaced by question marks.
std::string printable(std::string_view text);

/// "128 KiB"; as many bytes as it is.
std::string size_text(unsigned long long bytes);

} // namespace inspect
