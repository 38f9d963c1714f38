// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"

#include <compare>
#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// The text of a function's address, always twelve characters and a terminating null:
/// "0000:00:1f.2".
struct function_address_text {
    static constexpr std::size_t length = 12;

    char characters[length + 1]{};

    [[nodiscard]] constexpr const char* data() const { return characters; }
    [[nodiscard]] constexpr std::size_t size() const { return length; }

    friend constexpr bool operator==(const function_address_text&,
                                     const function_address_text&) = default;
};

/// Which PCI function: the segment (PCI Express's name for a separate configuration space, 0 on
/// most machines), the bus, the device on it and the function of the device. Ordered as a scan
/// meets them.
struct function_address {
    std::uint16_t segment = 0;
    std::uint8_t bus = 0;
    std::uint8_t device = 0;   ///< 0..31
    std::uint8_t function = 0; ///< 0..7

    friend constexpr bool operator==(const function_address&, const function_address&) = default;
    friend constexpr auto operator<=>(const function_address&, const function_address&) = default;

    /// Whether device and function are numbers that a bus can carry.
    [[nodiscard]] constexpr bool valid() const { return device < 32 && function < 8; }

    /// The 16 bits by which requests of the function are known: bus 15:8, device 7:3, function 2:0.
    /// [vt-d] calls it the source id, [pcie] the requester id. The address must be valid().
    [[nodiscard]] constexpr std::uint16_t source_id() const {
        expects(valid(), "a source id has room for devices 0..31 and functions 0..7");
        return static_cast<std::uint16_t>(bus << 8 | device << 3 | function);
    }

    /// The function with that source id; every value is one.
    [[nodiscard]] static constexpr function_address from_source_id(std::uint16_t source_id,
                                                                   std::uint16_t segment = 0) {
        return {segment, static_cast<std::uint8_t>(source_id >> 8),
                static_cast<std::uint8_t>(source_id >> 3 & 31),
                static_cast<std::uint8_t>(source_id & 7)};
    }

    /// Reads "0000:00:1f.2", or "00:1f.2" for segment 0: hexadecimal in either case, every digit
    /// present, nothing around it. errc::malformed with the index of the first character that is
    /// wrong (or the size, when that is); errc::out_of_range with the index of a device or function
    /// number that no bus can carry.
    [[nodiscard]] static constexpr result<function_address> parse(const char* text,
                                                                  std::size_t size) {
        if (size != long_form_length && size != short_form_length) {
            return error{errc::malformed, size};
        }
        const char* const expected = form + (long_form_length - size);
        std::uint64_t digits = 0;
        for (std::size_t i = 0; i < size; ++i) {
            if (expected[i] != 'x') {
                if (text[i] != expected[i]) {
                    return error{errc::malformed, i};
                }
                continue;
            }
            const unsigned digit = digit_value(text[i]);
            if (digit > 15) {
                return error{errc::malformed, i};
            }
            digits = digits << 4 | digit;
        }
        const function_address read{
            static_cast<std::uint16_t>(digits >> 20), static_cast<std::uint8_t>(digits >> 12),
            static_cast<std::uint8_t>(digits >> 4), static_cast<std::uint8_t>(digits & 0xF)};
        if (read.device > 31) {
            return error{errc::out_of_range, size - 4};
        }
        if (read.function > 7) {
            return error{errc::out_of_range, size - 1};
        }
        return read;
    }

    /// The long form, in lower case. The address must be valid().
    [[nodiscard]] constexpr function_address_text text() const {
        expects(valid(), "the text form has room for devices 0..31 and functions 0..7");
        std::uint64_t digits = std::uint64_t{segment} << 20 | std::uint64_t{bus} << 12 |
                               std::uint64_t{device} << 4 | function;
        function_address_text written{};
        for (std::size_t i = long_form_length; i-- > 0;) {
            if (form[i] == 'x') {
                written.characters[i] = "0123456789abcdef"[digits & 0xF];
                digits >>= 4;
            } else {
                written.characters[i] = form[i];
            }
        }
        return written;
    }

private:
    static constexpr char form[] = "xxxx:xx:xx.x";
    static constexpr std::size_t long_form_length = function_address_text::length;
    static constexpr std::size_t short_form_length = long_form_length - 5;

    static constexpr unsigned digit_value(char c) {
        if (c >= '0' && c <= '9') {
            return static_cast<unsigned>(c - '0');
        }
        if (c >= 'a' && c <= 'f') {
            return static_cast<unsigned>(c - 'a') + 10;
        }
        if (c >= 'A' && c <= 'F') {
            return static_cast<unsigned>(c - 'A') + 10;
        }
        return 16;
    }
};

} // namespace pt::pci
