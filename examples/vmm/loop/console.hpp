// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm {

/// Where the COM1 of a guest goes: bytes to `Sink`, a callable that takes one, as they come; or, when
/// guests share the sink, in whole lines with the guest's number before each.
template <class Sink>
class console {
public:
    explicit constexpr console(Sink sink) : sink_{std::move(sink)} {}
    /// `guest`: 0..9.
    constexpr console(Sink sink, unsigned guest)
        : sink_{std::move(sink)}, label_{static_cast<char>('0' + guest % 10)} {}

    console(const console&) = delete; // the line that has begun is here once
    console& operator=(const console&) = delete;

    constexpr void put(std::uint8_t byte) {
        if (label_ == 0) {
            sink_(byte);
            return;
        }
        if (size_ == sizeof line_) { // longer than a line
            flush();
        }
        line_[size_++] = byte;
        if (byte == '\n') {
            flush();
        }
    }

    /// What has begun goes out, too.
    constexpr void flush() {
        if (size_ == 0) {
            return;
        }
        for (const char letter : {'[', label_, ']', ' '}) {
            sink_(static_cast<std::uint8_t>(letter));
        }
        for (std::size_t i = 0; i != size_; ++i) {
            sink_(line_[i]);
        }
        if (line_[size_ - 1] != '\n') {
            sink_(std::uint8_t{'\n'});
        }
        size_ = 0;
    }

private:
    [[no_unique_address]] Sink sink_;
    std::uint8_t line_[200] = {};
    std::size_t size_ = 0;
    char label_ = 0; ///< 0: none
};

/// A console as the output of a serial port: a handle.
template <class Sink>
struct to_console {
    console<Sink>* out;
    constexpr void operator()(std::uint8_t byte) const { out->put(byte); }
};

} // namespace vmm
