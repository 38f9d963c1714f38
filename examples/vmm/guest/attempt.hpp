// SPDX-License-Identifier: BSL-1.0
//
// Instructions that may fault: the exception is counted, and the program goes on.
#pragma once

#include "pt/core/result.hpp"

#include <cstdint>
#include <type_traits>

extern "C" bool attempt_call(void (*action)(void*), void* with);

namespace guest {

/// Exceptions that attacks meet [sdm].
inline constexpr std::uint8_t invalid_opcode = 6;
inline constexpr std::uint8_t general_protection = 13;
inline constexpr std::uint8_t page_fault = 14;

/// An exception that ended an attempt.
struct fault {
    std::uint8_t vector = 0;
    std::uint64_t error_code = 0;
    std::uint64_t instruction = 0; ///< RIP
    std::uint64_t address = 0;     ///< CR2, of a page fault
};
/// The last one.
const fault& last_fault();
/// How many attempts were ended so, in all and with that vector.
std::uint32_t faults_taken();
std::uint32_t faults_taken(std::uint8_t vector);

/// Calls action(). False: an exception ended it, of which last_fault() tells. What it had changed
/// by then stays changed.
template <class Action>
bool attempt(Action&& action) {
    using type = std::remove_reference_t<Action>;
    return attempt_call([](void* with) { (*static_cast<type*>(with))(); },
                        const_cast<void*>(static_cast<const void*>(&action)));
}

/// RDMSR and WRMSR. errc::refused with the vector of the exception.
pt::result<std::uint64_t> try_read_msr(std::uint32_t number);
pt::result<void> try_write_msr(std::uint32_t number, std::uint64_t value);

/// Whether it is refused by a general-protection exception, as [sdm] says of what is reserved.
template <class T>
bool is_protected(const pt::result<T>& outcome) {
    return !outcome && outcome.error().where == general_protection;
}

} // namespace guest
