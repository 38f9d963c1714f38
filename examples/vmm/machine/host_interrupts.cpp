// SPDX-License-Identifier: BSL-1.0
#include "host_interrupts.hpp"

#include "../../kernel/interrupts.hpp"

#include "pt/lapic/vector_set.hpp"

namespace vmm::host_interrupts {
namespace {

pt::lapic::vector_set collected{};

void add(std::uint8_t vector) { collected.insert(vector); }

} // namespace

void collect() { kernel::take_pending_interrupts(add); }

void wait(std::uint64_t nanoseconds) {
    kernel::start_timer(nanoseconds);
    kernel::take_next_interrupts(add);
    kernel::start_timer(0);
}

pt::result<std::uint8_t> next() {
    const std::uint8_t highest = collected.highest();
    if (highest == 0) {
        return pt::error{pt::errc::absent, 0};
    }
    collected.erase(highest);
    return highest;
}

} // namespace vmm::host_interrupts
