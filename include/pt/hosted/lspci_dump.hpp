// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !__STDC_HOSTED__
#error "pt/hosted needs a hosted standard library: include the freestanding headers instead"
#endif

#include "pt/hosted/config_snapshot.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace pt::hosted {

/// Why a text is no dump: the line, counted from 1, and what is wrong with it. Line 0: the text as a
/// whole.
struct dump_error {
    std::size_t line = 0;
    std::string what;

    friend bool operator==(const dump_error&, const dump_error&) = default;
};

/// Reads what `lspci` prints with -x, -xxx or -xxxx, with -v or without, with segments or without:
/// for each function a line that begins with its address, and then rows of up to 16 bytes, each with
/// its offset. Other lines are lspci's text for people and are not looked at. Lines may end in CR LF.
///
/// A file may end anywhere, even in the middle of a row: what was there until then counts. Anywhere
/// else a row must be whole, continue the one before, and belong to a function, and no function may
/// come twice or without any row. Functions of segments above FFFF, which Linux makes up for what is
/// behind a VMD, are left out: no address of hardware names them.
class lspci_dump {
public:
    [[nodiscard]] static std::variant<config_snapshot, dump_error> read(std::string_view text) {
        lspci_dump reader;
        // Found once: a search after each line would be quadratic in the blanks at the end.
        const std::size_t last = text.find_last_not_of("\r\n \t");
        const char* const blanks = text.data() + (last == std::string_view::npos ? 0 : last + 1);
        while (!text.empty()) {
            const std::size_t end = text.find('\n');
            reader.ended_ = end == std::string_view::npos;
            std::string_view line = text.substr(0, end);
            text.remove_prefix(reader.ended_ ? text.size() : end + 1);
            reader.last_ = text.data() >= blanks;
            if (!line.empty() && line.back() == '\r') {
                line.remove_suffix(1);
            }
            ++reader.line_;
            if (auto wrong = reader.take(line)) {
                return std::move(*wrong);
            }
        }
        if (!reader.now_) {
            return dump_error{0, "no function in it; `lspci -xxx` writes such a file"};
        }
        if (auto wrong = reader.finish(true)) {
            return std::move(*wrong);
        }
        if (reader.snapshot_.functions().empty()) {
            return dump_error{0, "no function in it but those of segments above FFFF"};
        }
        return std::move(reader.snapshot_);
    }

private:
    using complaint = std::optional<dump_error>;

    static constexpr std::size_t row_size = 16;

    complaint take(std::string_view line) {
        const std::string_view word = line.substr(0, line.find_first_of(" \t"));
        const std::size_t size = word.size();
        // "00:1f.2", "0000:00:1f.2": a dot before the last character, a colon three before the dot
        if (size >= 7 && word[size - 2] == '.' && word[size - 5] == ':') {
            return take_function(word);
        }
        // "f0:", "ff0:"; and "1000:", which is too far
        if (size >= 3 && size <= 5 && word.back() == ':' &&
            (size < 5 || number(word.substr(0, 4)))) {
            return take_row(word.substr(0, size - 1), line.substr(size));
        }
        return {};
    }

    complaint take_function(std::string_view word) {
        constexpr std::size_t usual = pci::function_address_text::length;
        const std::size_t excess = word.size() > usual ? word.size() - usual : 0;
        const bool beyond = excess != 0 && number(word.substr(0, excess)).has_value();
        const std::string_view named = beyond ? word.substr(excess) : word;
        const auto address = pci::function_address::parse(named.data(), named.size());
        if (!address) {
            return here(quoted(word) + " is no address of a function that pt knows (ssss:bb:dd.f)");
        }
        if (auto wrong = finish(false)) {
            return wrong;
        }
        if (!beyond && snapshot_.find(*address) != nullptr) {
            return here("function " + std::string{address->text().data()} + " a second time");
        }
        now_ = *address;
        beyond_ = beyond;
        head_ = line_;
        return {};
    }

    complaint take_row(std::string_view offset_text, std::string_view rest) {
        const auto offset = number(offset_text);
        if (!offset) {
            return here(quoted(offset_text) + " is no hexadecimal offset");
        }
        if (!now_) {
            return here("a row of bytes before any function");
        }
        if (*offset >= pci::config_space_size) {
            return here("offset " + std::string{offset_text} + " is beyond configuration space");
        }
        if (*offset != bytes_.size()) {
            return here("offset " + std::string{offset_text} +
                        " does not continue the row before: " + hexadecimal(bytes_.size()) +
                        " is next");
        }
        std::size_t count = 0;
        while (true) {
            const std::size_t start = rest.find_first_not_of(" \t");
            if (start == std::string_view::npos) {
                break;
            }
            rest.remove_prefix(start);
            const std::string_view word = rest.substr(0, rest.find_first_of(" \t"));
            rest.remove_prefix(word.size());
            if (word.size() == 1 && rest.empty() && ended_ && number(word)) {
                break; // the file was cut in the middle of a byte
            }
            const auto byte = number(word);
            if (word.size() != 2 || !byte) {
                return here(quoted(word) + " is no byte of two hexadecimal digits");
            }
            if (count == row_size) {
                return here("more than 16 bytes in a row");
            }
            bytes_.push_back(static_cast<std::uint8_t>(*byte));
            ++count;
        }
        if (count < row_size && !last_) {
            return here("only " + std::to_string(count) +
                        " of 16 bytes in a row that is not the last");
        }
        return {};
    }

    /// Keeps the function that was read so far. The file's last one may have been cut off before
    /// its first row, and is none then, unless it is the only one.
    complaint finish(bool at_end) {
        if (!now_) {
            return {};
        }
        if (beyond_) {
            bytes_.clear();
        } else if (!bytes_.empty()) {
            snapshot_.add(*now_, std::exchange(bytes_, {}));
        } else if (!at_end || snapshot_.functions().empty()) {
            return dump_error{head_, "this function has no bytes: was it written with -x?"};
        }
        return {};
    }

    [[nodiscard]] dump_error here(std::string what) const { return {line_, std::move(what)}; }

    /// The value of up to four hexadecimal digits.
    static std::optional<std::size_t> number(std::string_view digits) {
        std::size_t value = 0;
        for (const char c : digits) {
            const std::size_t digit = std::string_view{"0123456789abcdef"}.find(
                c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
            if (digit == std::string_view::npos) {
                return {};
            }
            value = value << 4 | digit;
        }
        return digits.empty() || digits.size() > 4 ? std::nullopt : std::optional{value};
    }

    static std::string hexadecimal(std::size_t value) {
        std::string text;
        do {
            text.insert(text.begin(), "0123456789abcdef"[value & 0xF]);
            value >>= 4;
        } while (value != 0 || text.size() < 2);
        return text;
    }

    /// The word in quotation marks, with what a terminal might obey replaced, and not too long.
    static std::string quoted(std::string_view word) {
        std::string text{"\""};
        for (const char c : word.substr(0, 20)) {
            text += c >= ' ' && c <= '~' ? c : '?';
        }
        return text + (word.size() > 20 ? "...\"" : "\"");
    }

    config_snapshot snapshot_;
    std::optional<pci::function_address> now_; ///< whose rows come
    bool beyond_ = false;                      ///< in a segment that is none of hardware
    std::vector<std::uint8_t> bytes_;          ///< its bytes so far
    std::size_t head_ = 0;                     ///< the line where it began
    std::size_t line_ = 0;
    bool last_ = false;  ///< nothing but blanks comes after this line
    bool ended_ = false; ///< no line feed ends this line
};

} // namespace pt::hosted
