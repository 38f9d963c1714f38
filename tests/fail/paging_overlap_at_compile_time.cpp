// SPDX-License-Identifier: BSL-1.0
// expect: contract_failed
// A guest that is put together wrongly by the compiler is no program: here a device's registers would
// lie on RAM.
#include "pt/core/contract.hpp"
#include "pt/memory/arena.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"

#ifdef PT_FAIL
constexpr pt::gpa registers{0x3F'F000};
#else
constexpr pt::gpa registers{0x40'0000};
#endif

constexpr auto built() {
    pt::arena<4> frames{pt::hpa{0x20'0000}};
    pt::paging::table guest{frames.memory(), pt::ept::format{pt::ept::capabilities{0x1'4040}, 36}};
    pt::expects(guest.map({pt::gpa{0}, 4 * pt::MiB}, pt::hpa{0}, pt::ept::ram).has_value(), "RAM");
    pt::expects(
        guest.map({registers, 4096}, pt::hpa{0xDF20'0000}, pt::ept::device_memory).has_value(),
        "registers");
    return guest.detach() ? frames.image() : pt::table_image<4>{};
}
constexpr auto tables = built();
static_assert(tables.entries[0] != 0);
