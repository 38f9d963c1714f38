// SPDX-License-Identifier: BSL-1.0
// expect: vcpu_set
// A message that is put into a copy of an inbox reaches nobody.
#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/vcpu_set.hpp"

#include <cstdint>

struct my_vcpus {
    pt::lapic::inbox* inboxes;

    std::uint32_t count() { return 4; }
#ifdef PT_FAIL
    pt::lapic::inbox inbox(std::uint32_t n) { return inboxes[n]; }
#else
    pt::lapic::inbox& inbox(std::uint32_t n) { return inboxes[n]; }
#endif
    void notify(std::uint32_t, pt::lapic::notification) {}
};
static_assert(sizeof(pt::lapic::bus<my_vcpus>) != 0);
