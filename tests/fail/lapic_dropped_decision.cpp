// SPDX-License-Identifier: BSL-1.0
// expect-gcc: ignoring return value of .*before_entry.*-Werror=unused-result
// expect-clang: ignoring return value of function declared with 'nodiscard'.*-Werror,-Wunused-result
// A decision is as good as delivered: one that nobody looks at is an interrupt that is lost.
#include "pt/core/archetype.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"

#include <cstdint>

struct stopped_clock {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
using injector =
    pt::lapic::injector<pt::archetype::vcpu_state, pt::lapic::local_apic<stopped_clock>>;

bool enter(injector& injection) {
#ifdef PT_FAIL
    injection.before_entry();
    return true;
#else
    return injection.before_entry().event.present;
#endif
}
