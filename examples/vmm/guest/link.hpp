// SPDX-License-Identifier: BSL-1.0
//
// Both rings of the NIC, by pt's driver side, with memory of the guest's behind them.
#pragma once

#include "frame.hpp"
#include "nic.hpp"

#include "../../kernel/mmio.hpp"

#include "pt/core/result.hpp"
#include "pt/e1000e/rx_ring.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <concepts>
#include <cstdint>

namespace guest {

/// Memory that the rings use. There is one of each in the program, and one link at a time.
inline constexpr std::uint32_t descriptors = 64;
inline constexpr std::uint32_t buffer_size = 2048;
struct link_memory {
    alignas(4096) std::uint64_t transmit_ring[2 * descriptors];
    alignas(4096) std::uint64_t receive_ring[2 * descriptors];
    alignas(4096) std::uint8_t transmit_buffers[descriptors][buffer_size];
    alignas(4096) std::uint8_t receive_buffers[descriptors][buffer_size];
    pt::e1000e::tx_slot transmit_slots[descriptors];
    pt::e1000e::rx_slot receive_slots[descriptors];
};
link_memory& memory_of_links();

class link {
public:
    /// The NIC is to be brought up before start().
    explicit link(nic& device);

    /// Starts both rings, and posts buffers for frames to anybody.
    [[nodiscard]] pt::result<void> start();
    /// Ends them; the NIC may write to its buffers until its next reset.
    void stop();

    /// Sends a frame of that length in as many pieces.
    [[nodiscard]] pt::result<void> send(const frame_header& header,
                                        std::uint32_t length = shortest_frame,
                                        std::uint32_t pieces = 1);
    /// Packets that the NIC is done with, since the start.
    [[nodiscard]] std::uint32_t sent();
    /// Waits until it is done with all.
    bool wait_until_sent(std::uint64_t nanoseconds = 2 * second);

    /// Calls each(seen_frame) for each frame of ours that has arrived.
    template <std::invocable<const seen_frame&> F>
    void receive(F&& each) {
        receiver_.receive([&](const pt::e1000e::rx_piece& piece) {
            std::uint8_t* const buffer = memory_of_links().receive_buffers[piece.cookie];
            const seen_frame seen = read_frame(buffer, piece.length);
            static_cast<void>(receiver_.post(iova_of(buffer), piece.cookie));
            if (seen.is_ours && !piece.errors.any()) {
                each(seen);
            }
        });
        receiver_.advance_tail();
    }

    static pt::iova iova_of(const volatile void* memory) {
        return pt::iova{reinterpret_cast<std::uintptr_t>(memory)};
    }

private:
    pt::e1000e::tx_ring<kernel::mmio, kernel::dma_memory, kernel::barrier> transmitter_;
    pt::e1000e::rx_ring<kernel::mmio, kernel::dma_memory, kernel::barrier> receiver_;
    std::uint32_t next_buffer_ = 0;
    std::uint32_t queued_ = 0;
    std::uint32_t returned_ = 0;
};

/// Brings the NIC up and sends one frame with that text, and takes its interrupt, of whatever kind
/// the NIC has; shuts it down again. Checks all of it.
bool check_that_it_sends(nic& device, const char* text);

} // namespace guest
