// SPDX-License-Identifier: BSL-1.0
// expect: vcpu_state
// expect-gcc: 'vcpu\.can_take_nmi\(\)' is invalid
// expect-clang: 'vcpu\.can_take_nmi\(\)' would be invalid
// What cannot say whether NMIs are blocked would let one nest into the guest's NMI handler.
#include "pt/core/archetype.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"

#include <cstdint>

struct stopped_clock {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
using apic = pt::lapic::local_apic<stopped_clock>;

struct interrupts_only {
    bool can_take_interrupt() { return true; }
};

#ifdef PT_FAIL
using my_injector = pt::lapic::injector<interrupts_only, apic>;
#else
using my_injector = pt::lapic::injector<pt::archetype::vcpu_state, apic>;
#endif
static_assert(sizeof(my_injector) != 0);
