// SPDX-License-Identifier: BSL-1.0
//
// What a freestanding VMM has to say: lines on COM2. COM1 is its guests'.
#pragma once

#include "../../kernel/output.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace vmm {

/// A number in decimal; one without this is shown in hexadecimal.
struct decimal {
    std::uint64_t number;
};
/// A size in the largest unit that it is a multiple of: "64 MiB".
struct bytes_of {
    std::uint64_t size;
};
/// Text that fills so many columns, if it is shorter.
struct column {
    const char* text;
    unsigned width;
};

inline void show(const char* text) { kernel::print(text); }
inline void show(std::uint64_t number) { kernel::print(number); }
inline void show(decimal number) { kernel::print_decimal(number.number); }
void show(bytes_of size);
void show(column text);
/// "00:03.0"
void show(pt::pci::function_address function);
/// "time_out (0x8)"
void show(const pt::error& error);
/// "0x1000..0x1fff"
void show_range(std::uint64_t first, std::uint64_t last);
template <class Address>
void show(pt::range<Address> range) {
    show_range(range.first().raw, range.last().raw);
}

/// Starts COM2, and has all that is printed go there, whoever prints it.
void start_log();

/// A line.
template <class... Parts>
void say(const Parts&... parts) {
    (show(parts), ...);
    show("\n");
}

/// The host took an interrupt that is nobody's; 2: an NMI. A guest can have them come as often as it likes, also
/// when its run has ended: after a few, no line tells more.
void say_interrupt_for_nobody(std::uint8_t vector);

/// The words on which the log becomes a story that a person can follow.
void tell_story();
[[nodiscard]] bool is_story_told();

/// Of the story, the title of its next part; and a line.
void chapter(const char* title);
template <class... Parts>
void narrate(const Parts&... parts) {
    if (is_story_told()) {
        show("  ");
        say(parts...);
    }
}

/// The last line of the log, as run.py reads it: the run has ended without a guest's word.
[[noreturn]] void give_up(const char* what, const pt::error& why);
[[noreturn]] void give_up(const char* what);

/// Ends the run as a failed one, unless it is done.
template <class T>
void demand(const pt::result<T>& done, const char* what) {
    if (!done) {
        give_up(what, done.error());
    }
}
} // namespace vmm
