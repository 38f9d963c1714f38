// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/time_limit.hpp"
#include "pt/e1000e/tx_descriptor.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

/// Newer members of the family (I219 and later) hang when they are reset, or put to sleep, while they
/// still hold descriptors; then nothing but a reset by PCI brings them back. No datasheet tells of it:
/// the facts are those of the public drivers.
namespace pt::e1000e {

/// Descriptor ring status: the word at 0xE4 in the configuration space of I219 and later.
struct descriptor_ring_status : reg<descriptor_ring_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset = 0xE4; ///< in configuration space
    static constexpr bits<8, 8, bool, access::read_only> flush_required{};
    static constexpr field_list fields{flush_required};
};

/// Future Extended NVM 11, of I219 and later.
struct fextnvm11 : reg<fextnvm11, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x5BBC;
    static constexpr bits<13, 13, bool> disable_mulr_fix{};
    static constexpr field_list fields{disable_mulr_fix};
};

/// The transmit ring of queue 0 as its driver programmed it.
struct flushed_ring {
    iova base{};             ///< where the device finds it
    std::uint32_t count = 0; ///< descriptors
    iova data{};             ///< 512 bytes that the device may read; they never reach the wire
};

/// What flush_rings() had to do.
enum class ring_flush : std::uint8_t {
    not_needed,           ///< nothing is held, or no ring was ever programmed
    transmit,             ///< the transmit ring held something
    transmit_and_receive, ///< the receive ring did
};

/// Makes the NIC let go of the descriptors that it holds, before reset(), recover() or sleep. For I219
/// and later, while nobody sends, and before any buffer of its rings is given up: what they hold may
/// still be sent and filled. `memory` are the descriptors of the transmit ring; `ring_status()` reads
/// the word at 0xE4 of the function's configuration space. Afterwards the transmitter is enabled and the
/// ring's content is lost: reset() is next. Errors:
///   absent (STATUS's offset)        the registers read all ones
///   refused (TDBAL's offset)        the NIC has another ring than this one, e.g. one of firmware
///   hardware_fault (TDH's, TDT's)   the register is no index of the ring
///   busy (TDT's offset)             the ring is full: no room for one more descriptor
///   hardware_fault (0xE4)           it still holds descriptors
/// All but the first leave only a reset by PCI; all but the last have written FEXTNVM11 at most.
template <mmio_io Mmio, dma_memory Memory, barrier Barrier, clock Clock, std::invocable RingStatus>
    requires std::same_as<std::invoke_result_t<RingStatus&>, std::uint16_t>
[[nodiscard]] constexpr result<ring_flush> flush_rings(Mmio mmio, Memory memory, Barrier order,
                                                       Clock time, flushed_ring ring,
                                                       RingStatus&& ring_status) {
    constexpr std::uint32_t all_ones = ~std::uint32_t{0};
    const auto required = [&] {
        return descriptor_ring_status{ring_status()}[descriptor_ring_status::flush_required];
    };
    if (read<status>(mmio).raw == all_ones) {
        return error{errc::absent, status::offset};
    }
    write(mmio, read<fextnvm11>(mmio).write_back().with(fextnvm11::disable_mulr_fix(true)));
    const std::uint32_t bytes = read<tdlen>(mmio).raw;
    if (bytes == 0 || !required()) {
        return ring_flush::not_needed;
    }

    const std::uint64_t base = std::uint64_t{read<tdbah>(mmio).raw} << 32U | read<tdbal>(mmio).raw;
    if (base != ring.base.raw || bytes / tx_descriptor_size != ring.count) {
        return error{errc::refused, tdbal::offset};
    }
    const std::uint32_t head = read<tdh>(mmio).raw;
    const std::uint32_t tail = read<tdt>(mmio).raw;
    if (head >= ring.count) {
        return error{errc::hardware_fault, tdh::offset};
    }
    if (tail >= ring.count) {
        return error{errc::hardware_fault, tdt::offset};
    }
    const std::uint32_t next = tail + 1 == ring.count ? 0 : tail + 1;
    if (next == head) {
        return error{errc::busy, tdt::offset};
    }

    // A packet that never ends, since it has no EOP: taking its first descriptor pushes out what the
    // transmitter holds, and nothing of it is sent.
    using command = legacy_tx_command;
    const std::uint32_t at = tail * tx_descriptor_size;
    memory.write64(at + tx_buffer_address::offset,
                   tx_buffer_address{tx_buffer_address::buffer_address(ring.data)}.raw);
    memory.write64(at + command::offset, command{command::length(512), command::ifcs(true)}.raw);
    order.release(); // the descriptor first, then the tail
    write(mmio, read<tctl>(mmio).write_back().with(tctl::en(true)));
    write(mmio, tdt{tdt::tail(static_cast<std::uint16_t>(next))});
    static_cast<void>(read<status>(mmio)); // pushes the writes out to the device
    let_pass(time, 250'000);
    if (!required()) {
        return ring_flush::transmit;
    }

    // The receiver, turned on for a moment with these thresholds, fetches all of its descriptors.
    const rctl receiver = read<rctl>(mmio).write_back();
    write(mmio, receiver.with(rctl::en(false)));
    static_cast<void>(read<status>(mmio));
    let_pass(time, 150'000);
    const rxdctl thresholds{read<rxdctl>(mmio).write_back().raw & ~std::uint32_t{0x3FFF}};
    write(mmio, thresholds.with(rxdctl::pthresh(31), rxdctl::hthresh(1), rxdctl::gran(true)));
    write(mmio, receiver.with(rctl::en(true)));
    static_cast<void>(read<status>(mmio));
    let_pass(time, 150'000);
    write(mmio, receiver.with(rctl::en(false)));
    if (required()) {
        return error{errc::hardware_fault, descriptor_ring_status::offset};
    }
    return ring_flush::transmit_and_receive;
}

} // namespace pt::e1000e
