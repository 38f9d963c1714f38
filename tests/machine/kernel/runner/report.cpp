// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <set>
#include <string_view>

namespace runner {
namespace {

/// Takes what follows `start` if the line begins with it.
bool take(std::string_view& line, std::string_view start) {
    const bool is = line.starts_with(start);
    if (is) {
        line.remove_prefix(start.size());
    }
    return is;
}

} // namespace

std::optional<std::string> read_checks(run& done) {
    std::optional<std::string> announced;
    std::optional<std::string> gave_up;
    std::set<std::string> names;
    std::optional<std::string> twice;
    std::string_view rest = done.log;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        if (take(line, "ok ")) {
            done.checks.push_back({std::string{line}, true, {}});
        } else if (take(line, "FAILED ")) {
            const std::size_t colon = line.find(": ");
            const std::size_t why = colon == std::string_view::npos ? line.size() : colon + 2;
            done.checks.push_back(
                {std::string{line.substr(0, colon)}, false, std::string{line.substr(why)}});
        } else if (take(line, "end of ")) {
            announced = std::string{line};
            continue;
        } else {
            if (take(line, "gave up: ")) {
                gave_up = "the kernel gave up: " + std::string{line};
            }
            continue;
        }
        if (!names.insert(done.checks.back().name).second) {
            twice = "two checks have the name: " + done.checks.back().name;
        }
    }
    if (gave_up || twice) {
        return gave_up ? gave_up : twice;
    }
    if (!announced) {
        return "the kernel did not reach its end";
    }
    if (*announced != std::to_string(done.checks.size()) + " checks") {
        return "of " + *announced + " there are " + std::to_string(done.checks.size());
    }
    if (done.checks.empty()) {
        return "nothing was checked";
    }
    return std::nullopt;
}

} // namespace runner
