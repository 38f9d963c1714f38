// SPDX-License-Identifier: BSL-1.0
// expect: watchable_ring
// A watch looks at packets in flight; a ring without them is no ring for it.
#include "pt/core/archetype.hpp"
#include "pt/e1000e/tx_watch.hpp"

struct ring {
    pt::archetype::mmio_io mmio;
#ifdef PT_FAIL
    // nothing is in flight
#else
    std::uint32_t in_flight() const { return 0; }
#endif
    bool has_done() const { return false; }
    std::uint32_t tail() const { return 0; }
    pt::result<std::uint32_t> head() { return 0U; }
    void advance_tail() {}
    pt::e1000e::queue number() const { return pt::e1000e::queue::first; }
    pt::e1000e::family members() const { return pt::e1000e::family::pci_express; }
    pt::archetype::mmio_io& registers() { return mmio; }
};

void look(ring& posted) {
    pt::e1000e::tx_watch watch{pt::archetype::clock{}};
    watch.look(posted);
}
