// SPDX-License-Identifier: BSL-1.0
// expect: software cannot write this field
#include "pt/core/reg.hpp"

#include <cstdint>

struct status : pt::reg<status, std::uint16_t> {
    using reg::reg;
    static constexpr bits<4, 4, bool, pt::access::read_only> capabilities_list{};
    static constexpr bits<13, 13, bool, pt::access::write_1_to_clear> received_master_abort{};
    static constexpr pt::field_list fields{capabilities_list, received_master_abort};
};

#ifdef PT_FAIL
constexpr auto value = status{}.with(status::capabilities_list(true));
#else
constexpr auto value = status{}.with(status::received_master_abort(true));
#endif
static_assert(value.raw == 0x2000);
