// SPDX-License-Identifier: BSL-1.0
#include "output.hpp"

#include <cstdlib>

#include <unistd.h>

#include <fmt/format.h>

namespace inspect {

painter painter::for_standard_output() {
    const char* const no_color = std::getenv("NO_COLOR");
    const char* const term = std::getenv("TERM");
    const bool refused = (no_color != nullptr && *no_color != '\0') || term == nullptr ||
                         std::string_view{term} == "dumb";
    return painter{!refused && isatty(STDOUT_FILENO) != 0};
}

std::string painter::put(std::string_view how, std::string_view text) const {
    return in_colour_ ? fmt::format("\x1b[{}m{}\x1b[0m", how, text) : std::string{text};
}

std::string printable(std::string_view text) {
    std::string out;
    for (const char c : text) {
        out += c >= ' ' && c <= '~' ? c : '?';
    }
    return out;
}

std::string size_text(unsigned long long bytes) {
    static constexpr const char* units[]{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    unsigned unit = 0;
    while (bytes != 0 && bytes % 1024 == 0 && unit < 6) {
        bytes /= 1024;
        ++unit;
    }
    return fmt::format("{} {}", bytes, units[unit]);
}

} // namespace inspect
