// SPDX-License-Identifier: BSL-1.0
// expect: this field is missing in the register's list .fields.
// A field outside the list would escape the overlap check and the access kinds.
#include "pt/core/reg.hpp"

#include <cstdint>

struct command : pt::reg<command, std::uint16_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> io_space{};
    static constexpr bits<1, 1, bool> memory_space{};
#ifdef PT_FAIL
    static constexpr pt::field_list fields{io_space};
#else
    static constexpr pt::field_list fields{io_space, memory_space};
#endif
};
constexpr bool decodes_memory = command{2}[command::memory_space];
static_assert(decodes_memory);
