// SPDX-License-Identifier: BSL-1.0
#include "command_line.hpp"

namespace kernel {
namespace {

const char* words = "";

/// If `text` begins with `word`, what comes after it.
const char* after(const char* text, const char* word) {
    for (; *word != '\0'; ++text, ++word) {
        if (*text != *word) {
            return nullptr;
        }
    }
    return text;
}

bool ends_word(char character) { return character == ' ' || character == '\0'; }

/// 16 and above: no digit.
unsigned digit_of(char character) {
    if (character >= '0' && character <= '9') {
        return static_cast<unsigned>(character - '0');
    }
    const char lower = static_cast<char>(character | 0x20);
    return lower >= 'a' && lower <= 'f' ? static_cast<unsigned>(lower - 'a') + 10 : 16;
}

} // namespace

void set_command_line(const char* all) { words = all; }
const char* command_line() { return words; }

const char* told_after(const char* start) {
    for (const char* at = words; *at != '\0'; ++at) {
        const char* const rest = after(at, start);
        if (rest != nullptr && (at == words || at[-1] == ' ')) {
            return rest;
        }
    }
    return nullptr;
}

bool is_word(const char* at, const char* word) {
    const char* const rest = after(at, word);
    return rest != nullptr && ends_word(*rest);
}

bool told(const char* word) {
    for (const char* at = words; *at != '\0'; ++at) {
        if ((at == words || at[-1] == ' ') && is_word(at, word)) {
            return true;
        }
    }
    return false;
}

const char* unknown_word(std::initializer_list<const char*> known) {
    for (const char* at = words;;) {
        while (!ends_word(*at)) {
            ++at;
        }
        while (*at == ' ') {
            ++at;
        }
        if (*at == '\0') {
            return nullptr;
        }
        bool is_known = false;
        for (const char* const each : known) {
            const char* const rest = after(at, each);
            is_known = is_known || (rest != nullptr && (rest[-1] == '=' || ends_word(*rest)));
        }
        if (!is_known) {
            return at;
        }
    }
}

pt::result<std::uint64_t> number_told(const char* start) {
    const char* at = told_after(start);
    if (at == nullptr) {
        return pt::error{pt::errc::absent, 0};
    }
    const char* const digits = after(at, "0x");
    const std::uint64_t base = digits == nullptr ? 10 : 16;
    at = digits == nullptr ? at : digits;
    if (ends_word(*at)) {
        return pt::error{pt::errc::malformed, 0};
    }
    std::uint64_t number = 0;
    for (; !ends_word(*at); ++at) {
        const unsigned digit = digit_of(*at);
        if (digit >= base || number > (~std::uint64_t{0} - digit) / base) {
            return pt::error{pt::errc::malformed, number};
        }
        number = number * base + digit;
    }
    return number;
}

} // namespace kernel
