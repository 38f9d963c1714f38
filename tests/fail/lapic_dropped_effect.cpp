// SPDX-License-Identifier: BSL-1.0
// expect-gcc: ignoring returned value of type 'pt::lapic::effect'.*-Werror=unused-result
// expect-clang: ignoring return value of function declared with 'nodiscard'.*-Werror,-Wunused-result
// A write to a local APIC may send an IPI or end an interrupt: one whose effect nobody looks at is lost.
#include "pt/lapic/local_apic.hpp"

#include <cstdint>

struct stopped_clock {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};

bool send(pt::lapic::local_apic<stopped_clock>& apic) {
#ifdef PT_FAIL
    apic.write(0x300, pt::mmio_width::dword, 0x61);
    return true;
#else
    return apic.write(0x300, pt::mmio_width::dword, 0x61).kind == pt::lapic::effect_kind::send;
#endif
}
