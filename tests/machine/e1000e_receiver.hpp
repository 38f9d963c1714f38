// SPDX-License-Identifier: BSL-1.0
//
// The second NIC's driver: pt's receive ring, buffers all over the NIC's memory, and the frames
// that came.
#pragma once

#include "e1000e_machine.hpp"

#include "pt/e1000e/rx_ring.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <stdexcept>
#include <utility>
#include <vector>

namespace e1000e_machine {

/// A frame out of one buffer or several.
struct received {
    bytes frame;
    std::size_t pieces = 0;
    pt::e1000e::rx_piece last; ///< what the NIC says of it
};

/// As the NIC hands it over: padded with zeros to the least that a frame has, without CRC.
inline bytes delivered(const bytes& frame) { return padded(frame, 60); }
inline std::vector<bytes> delivered(std::vector<bytes> frames) {
    for (bytes& frame : frames) {
        frame = delivered(frame);
    }
    return frames;
}

/// A receive ring with its buffers, which lie one behind the other across the seams of single
/// pages. What of them no frame claims must be as it was, and cookies are checked: each once, in
/// order.
class receiver {
public:
    using ring_type = pt::e1000e::rx_ring<qemu_mmio, ring_memory, qemu_order>;

    receiver(nic& of, std::uint32_t count, const pt::e1000e::rx_settings& settings)
        : nic_{&of}, slots_(count), size_{settings.buffer_size}, ring{of.registers,
                                                                      {&of.memory, first_ring},
                                                                      {},
                                                                      first_ring,
                                                                      slots_.data(),
                                                                      count,
                                                                      settings} {
        for (std::uint32_t i = 0; i < count; ++i) {
            const iova at = buffers + offset + std::uint64_t{i} * size_;
            free_.push_back(at);
            of.memory.fill(at, size_, unwritten);
        }
    }

    /// Gives the ring as many buffers as it takes, at most `most`.
    void post(std::size_t most = ~std::size_t{0}) {
        for (; most != 0 && ring.free_descriptors() != 0; --most) {
            const iova at = free_.front();
            got(ring.post(at, next_cookie_));
            free_.pop_front();
            posted_.push_back(at);
            ++next_cookie_;
        }
        ring.advance_tail();
    }
    void start() {
        got(ring.start());
        post();
    }

    /// Takes what came, and leaves the buffers away.
    std::uint32_t take() {
        return ring.receive([this](const pt::e1000e::rx_piece& piece) {
            const iova at = take_back(piece.cookie);
            bytes content = nic_->memory.read(at, size_);
            untouched_ =
                untouched_ && piece.length <= size_ &&
                std::all_of(content.begin() + static_cast<std::ptrdiff_t>(piece.length),
                            content.end(), [](std::uint8_t byte) { return byte == unwritten; });
            nic_->memory.fill(at, piece.length, unwritten);
            using pt::e1000e::rx_place;
            const bool begins = piece.place == rx_place::only || piece.place == rx_place::first;
            places_ = places_ && begins == (now_.pieces == 0);
            now_.frame.insert(now_.frame.end(), content.begin(),
                              content.begin() + static_cast<std::ptrdiff_t>(piece.length));
            ++now_.pieces;
            if (piece.place == rx_place::only || piece.place == rx_place::last) {
                now_.last = piece;
                frames.push_back(std::move(now_));
                now_ = {};
            }
        });
    }
    /// Takes what came until nothing comes any more, and posts the buffers again.
    void collect() {
        for (unsigned rounds = 0; take() != 0; ++rounds) {
            if (rounds == 1000) {
                throw std::runtime_error{"buffers come back without end"};
            }
            post();
        }
    }
    void abandon() {
        ring.abandon([this](std::uint64_t cookie) { take_back(cookie); });
    }

    /// Whether each buffer came back once, in order, with nothing written behind its frame, and
    /// frames began and ended where they did.
    [[nodiscard]] bool in_order() const { return in_order_ && untouched_ && places_; }

    /// The frames since this was last asked.
    std::vector<bytes> contents() {
        std::vector<bytes> all;
        for (received& each : std::exchange(frames, {})) {
            all.push_back(std::move(each.frame));
        }
        return all;
    }

private:
    static constexpr std::uint8_t unwritten = 0xE7;
    static constexpr std::uint64_t offset = 0x7C; // so that no buffer begins with a page

    iova take_back(std::uint64_t cookie) {
        if (cookie != next_back_ || posted_.empty()) {
            in_order_ = false;
            throw std::runtime_error{"a buffer came back twice, or out of order"};
        }
        ++next_back_;
        const iova at = posted_.front();
        posted_.pop_front();
        free_.push_back(at);
        return at;
    }

    nic* nic_;
    std::vector<pt::e1000e::rx_slot> slots_;
    std::uint32_t size_;
    std::deque<iova> free_;
    std::deque<iova> posted_;
    std::uint64_t next_cookie_ = 0;
    std::uint64_t next_back_ = 0;
    received now_;
    bool in_order_ = true;
    bool untouched_ = true;
    bool places_ = true;

public:
    ring_type ring;
    std::vector<received> frames;
};

} // namespace e1000e_machine
