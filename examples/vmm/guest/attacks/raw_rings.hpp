// SPDX-License-Identifier: BSL-1.0
//
// The NIC's rings without pt's driver side, which would refuse what attacks want: registers and
// descriptors take any value [82574].
#pragma once

#include "../nic.hpp"

#include "../../../kernel/mmio.hpp"

#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_descriptor.hpp"
#include "pt/e1000e/tx_descriptor.hpp"

#include <cstdint>

namespace guest {

/// What a ring's registers are given.
struct raw_ring {
    std::uint64_t base = 0;
    std::uint32_t length = 128; ///< bytes
    std::uint32_t head = 0;
    std::uint32_t tail = 0;
};

inline void start_raw_transmitter(kernel::mmio mmio, const raw_ring& ring) {
    using namespace pt::e1000e;
    write(mmio, tdbal{static_cast<std::uint32_t>(ring.base)});
    write(mmio, tdbah{static_cast<std::uint32_t>(ring.base >> 32)});
    write(mmio, tdlen{ring.length});
    write(mmio, tdh{ring.head});
    write(mmio, tctl{tctl::en(true), tctl::psp(true), tctl::ct(0x0F), tctl::cold(0x3F)});
    write(mmio, tdt{ring.tail});
}

inline void start_raw_receiver(kernel::mmio mmio, const raw_ring& ring) {
    using namespace pt::e1000e;
    write(mmio, rdbal{static_cast<std::uint32_t>(ring.base)});
    write(mmio, rdbah{static_cast<std::uint32_t>(ring.base >> 32)});
    write(mmio, rdlen{ring.length});
    write(mmio, rdh{ring.head});
    write(mmio, rctl{rctl::en(true), rctl::upe(true), rctl::mpe(true), rctl::bam(true),
                     rctl::secrc(true)});
    write(mmio, rdt{ring.tail});
}

/// A descriptor for one piece of a frame, or all of it, that is reported.
inline pt::e1000e::tx_descriptor whole_frame_at(std::uint64_t buffer, std::uint16_t length) {
    using command = pt::e1000e::legacy_tx_command;
    return {buffer, command{command::length(length), command::eop(true), command::ifcs(true),
                            command::rs(true)}
                        .raw};
}

inline bool is_done(const volatile pt::e1000e::tx_descriptor& descriptor) {
    return pt::e1000e::legacy_tx_command{descriptor.high}[pt::e1000e::legacy_tx_command::dd];
}

} // namespace guest
