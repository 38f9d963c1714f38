// SPDX-License-Identifier: BSL-1.0
//
// A dump of arbitrary bytes: reading it ends and stays inside; what was read, written again as lspci
// writes it, reads the same; what is refused names a line that the text has.
#include "pt/hosted/lspci_dump.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace {

using pt::hosted::config_snapshot;
using pt::hosted::dump_error;
using pt::hosted::lspci_dump;

void require(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

std::string hexadecimal(std::size_t value) {
    const std::string_view digits{"0123456789abcdef"};
    std::string text{digits[value >> 4 & 0xF], digits[value & 0xF]};
    return value > 0xFF ? digits[value >> 8] + text : text;
}

std::string written(const config_snapshot& snapshot) {
    std::string text;
    for (const auto& function : snapshot.functions()) {
        text += std::string{function.address.text().data()} + " somebody";
        for (std::size_t i = 0; i < function.bytes.size(); ++i) {
            text += i % 16 == 0 ? "\n" + hexadecimal(i) + ":" : "";
            text += " " + hexadecimal(function.bytes[i]);
        }
        text += "\n\n";
    }
    return text;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // Half of the inputs begin in a row, so that more than the search for one is tried. A copy of
    // exactly this size: AddressSanitizer sees the first character too far.
    const std::string_view begin{size != 0 && data[0] % 2 != 0 ? "00:1f.2 x\n00:" : ""};
    std::vector<char> bytes(begin.begin(), begin.end());
    bytes.insert(bytes.end(), data, data + size);
    bytes.shrink_to_fit();
    const std::string_view text{bytes.data(), bytes.size()};
    const auto read = lspci_dump::read(text);
    if (const auto* const wrong = std::get_if<dump_error>(&read)) {
        const auto lines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1;
        require(wrong->line <= lines && !wrong->what.empty());
        require(std::all_of(wrong->what.begin(), wrong->what.end(),
                            [](char c) { return c >= ' ' && c <= '~'; }));
        return 0;
    }
    const auto& snapshot = std::get<config_snapshot>(read);
    require(!snapshot.functions().empty());
    const auto again = lspci_dump::read(written(snapshot));
    const auto* const same = std::get_if<config_snapshot>(&again);
    require(same != nullptr && same->functions().size() == snapshot.functions().size());
    for (const auto& function : snapshot.functions()) {
        require(!function.bytes.empty() && function.bytes.size() <= 4096);
        const auto* const found = same->find(function.address);
        require(found != nullptr && found->bytes == function.bytes);
    }
    return 0;
}
