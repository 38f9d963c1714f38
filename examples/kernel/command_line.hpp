// SPDX-License-Identifier: BSL-1.0
//
// The words that the loader passes to the kernel.
#pragma once

#include "pt/core/result.hpp"

#include <cstdint>
#include <initializer_list>

namespace kernel {

/// All of them, separated by blanks; at first none.
void set_command_line(const char* all);
const char* command_line();

/// Whether the word is on the command line.
bool told(const char* word);
/// What stands behind `start` in the first word that begins with it, up to the next blank or the
/// end; nullptr if there is none.
const char* told_after(const char* start);
/// The same as a decimal number, or one in hexadecimal after 0x. errc::absent: there is no such
/// word; errc::malformed: no such number.
pt::result<std::uint64_t> number_told(const char* start);

/// The first word, behind the program's name, that is none of these; nullptr: all of them are known.
/// One that ends in '=' stands for all that begin with it.
const char* unknown_word(std::initializer_list<const char*> known);

/// Whether a word of the command line, as told_after() gives it, is that one.
bool is_word(const char* at, const char* word);

} // namespace kernel
