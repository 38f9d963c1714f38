// SPDX-License-Identifier: BSL-1.0
// expect-gcc: could not convert|no matching function|cannot convert
// expect-clang: no viable conversion|no matching (member )?function
// A vector of a processor and the number of a table entry are not the same.
#include "pt/vtd/remappable_message.hpp"

using namespace pt::vtd;

interrupt_message msi_for([[maybe_unused]] interrupt_index entry,
                          [[maybe_unused]] std::uint8_t vector) {
#ifdef PT_FAIL
    return remappable_message(vector);
#else
    return remappable_message(entry);
#endif
}
