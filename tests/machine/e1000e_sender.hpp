// SPDX-License-Identifier: BSL-1.0
//
// The first NIC's driver: pt's transmit ring, buffers in pieces all over the NIC's memory, and what
// must be on the wire because of it.
#pragma once

#include "e1000e_machine.hpp"

#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace e1000e_machine {

/// "none" if the frames are those, in this order; else what differs first.
inline std::string difference(const std::vector<bytes>& seen, const std::vector<bytes>& meant) {
    for (std::size_t i = 0; i < std::max(seen.size(), meant.size()); ++i) {
        const std::string frame =
            "frame " + std::to_string(i) + " of " + std::to_string(meant.size()) + ": ";
        if (i == seen.size()) {
            return frame + "is missing";
        }
        if (i == meant.size()) {
            return frame + "nobody sent it: " + vtd_machine::text(seen[i]).substr(0, 160);
        }
        if (seen[i] != meant[i]) {
            const auto [at, other] = std::mismatch(seen[i].begin(), seen[i].end(), //
                                                   meant[i].begin(), meant[i].end());
            const auto digits = [](bytes::const_iterator from, const bytes& of) {
                return vtd_machine::text(
                    bytes(from, from + std::min<std::ptrdiff_t>(16, of.end() - from)));
            };
            return frame + "from byte " + std::to_string(at - seen[i].begin()) + " on " +
                   digits(at, seen[i]) + " and not " + digits(other, meant[i]) + "; " +
                   std::to_string(seen[i].size()) + " bytes, and not " +
                   std::to_string(meant[i].size());
        }
    }
    return "none";
}

/// Where pt is told that the headers of a conversation are, behind a tag of so many bytes in
/// memory.
inline pt::e1000e::header_layout layout(const flow& of, std::size_t tag = 0) {
    return {.ip = static_cast<std::uint8_t>(flow::ip_at + tag),
            .transport_at = static_cast<std::uint8_t>(of.transport_at() + tag),
            .version = of.version == internet::v4 ? pt::e1000e::ip_version::v4
                                                  : pt::e1000e::ip_version::v6,
            .protocol = of.protocol == carried::tcp ? pt::e1000e::transport::tcp
                                                    : pt::e1000e::transport::udp};
}
inline pt::e1000e::tx_offload offload(const flow& of, left_to_nic what, std::size_t tag = 0) {
    using pt::e1000e::tx_offload;
    switch (what) {
    case left_to_nic::ip_checksum: return got(tx_offload::ip_checksum(layout(of, tag)));
    case left_to_nic::transport_checksum:
        return got(tx_offload::transport_checksum(layout(of, tag)));
    case left_to_nic::checksums: return got(tx_offload::checksums(layout(of, tag)));
    case left_to_nic::nothing:
    case left_to_nic::segments: break;
    }
    return {};
}
inline pt::e1000e::tx_offload segmentation(const flow& of, std::size_t segment_size) {
    return got(pt::e1000e::tx_offload::segmentation(layout(of),
                                                    static_cast<std::uint8_t>(of.header_length()),
                                                    static_cast<std::uint16_t>(segment_size)));
}

/// Has the tag put in by the NIC.
inline pt::e1000e::tx_request with_tag(pt::e1000e::tx_request request, std::uint16_t tag) {
    request.tagging = pt::e1000e::vlan_insertion::insert;
    request.tag = pt::e1000e::vlan_tag{tag};
    return request;
}

/// CTRL.VME: without it no tag is put in, and none taken out.
inline void enable_tags(nic& of) {
    using pt::e1000e::ctrl;
    pt::write(of.registers, pt::read<ctrl>(of.registers).write_back().with(ctrl::vme(true)));
}

/// A packet for which the NIC has something to do, its frame as it must be, and the request.
struct job {
    bytes frame;
    bytes meant;
    pt::e1000e::tx_request request;
    flow of;
};

/// Any conversation, any size from no payload to jumbo frames, any of the checksums, and perhaps a
/// tag.
inline job any_job(random_bytes& random) {
    flow of{.version = random.between(0, 1) == 0 ? internet::v4 : internet::v6,
            .protocol = random.between(0, 1) == 0 ? carried::tcp : carried::udp};
    of.ip_options = random.between(0, 3) == 0 ? 8 : 0;
    of.tcp_options = of.protocol == carried::tcp ? random.between(0, 10) * 4 : 0;
    const left_to_nic what =
        std::array{left_to_nic::nothing, left_to_nic::transport_checksum, left_to_nic::checksums,
                   of.version == internet::v4 ? left_to_nic::ip_checksum
                                              : left_to_nic::checksums}[random.between(0, 3)];
    packet one{.sequence = static_cast<std::uint32_t>(random.between(0, 0xFFFF'FFFF)),
               .identification = static_cast<std::uint16_t>(random.between(0, 0xFFFF))};
    one.payload =
        random(random.between(0, 7) == 0 ? random.between(0, 8'800) : random.between(0, 1'460));
    const bytes frame = handed_over(of, one, what);
    const bytes meant = finished(of, one);
    const auto tag = static_cast<std::uint16_t>(random.between(0, 0xFFFF));
    job all{.frame = frame, .meant = meant, .request = {}, .of = of};
    switch (random.between(0, 3)) {
    case 0: // put in by the NIC
        all.request = with_tag({.offload = offload(of, what)}, tag);
        all.meant = tagged(meant, tag);
        break;
    case 1: // in memory
        all.request.offload = offload(of, what, 4);
        all.frame = tagged(frame, tag);
        all.meant = tagged(meant, tag);
        break;
    default: all.request.offload = offload(of, what);
    }
    return all;
}

/// Where one ring lies and where its packets do.
struct sender_place {
    iova ring = first_ring;
    std::uint64_t part = 0; ///< of the buffers: 0 or 1
};

/// A transmit ring with its packets. Every packet's buffers are overwritten as soon as the ring has
/// given its cookie back, and cookies are checked: each once, in order.
class sender {
public:
    using ring_type = pt::e1000e::tx_ring<qemu_mmio, ring_memory, qemu_order>;

    sender(nic& of, std::uint32_t count, pt::e1000e::tx_settings settings = {},
           sender_place place = {})
        : nic_{&of},
          slots_(count),
          first_scattered_{buffers + place.part * scattered_part},
          first_together_{device_memory::together + place.part * together_part},
          ring{of.registers, {&of.memory, place.ring}, {}, place.ring, slots_.data(),
               count,        for_model(of, settings)} {
        of.memory.fill(padding, 64, 0);
    }

    /// Puts a frame into the NIC's memory, in pieces that are cut anywhere behind the first `whole`
    /// bytes.
    std::vector<fragment> place(const bytes& frame, std::size_t pieces, std::size_t whole = 1) {
        std::set<std::size_t> ends{frame.size()};
        while (ends.size() < std::min(pieces, frame.size() - whole + 1)) {
            ends.insert(cut_.between(whole, frame.size()));
        }
        std::vector<fragment> all;
        std::size_t begin = 0;
        for (const std::size_t end : ends) {
            const iova at = room_for(end - begin);
            nic_->memory.write(at, frame.data() + begin, end - begin);
            all.push_back({at, static_cast<std::uint32_t>(end - begin)});
            begin = end;
        }
        return all;
    }

    /// Enqueues a packet that must become `meant` on the wire.
    pt::result<> enqueue(const bytes& frame, std::vector<bytes> meant, std::size_t pieces = 1,
                         const pt::e1000e::tx_request& request = {}) {
        // The headers of segments lie in one piece [82574].
        const std::size_t header = request.offload.header_length();
        std::vector<fragment> all = place(frame, pieces, std::max(header, std::size_t{1}));
        pt::result<> put = ring.enqueue(all.data(), all.size(), next_cookie_, request);
        if (put) {
            in_flight_.push_back({std::move(all), meant.size()});
            ++next_cookie_;
            // What the NIC pads by itself has 17 bytes [82574]; 8254x is given nothing to pad.
            const std::size_t least = nic_->members == family::pci ? 60 : 17;
            for (bytes& each : meant) {
                each.resize(each.size() + (frame.size() < least ? least - frame.size() : 0));
                on_wire.push_back(std::move(each));
            }
        }
        return put;
    }
    /// Sends it at once, or as soon as there is room.
    void send(const bytes& frame, const std::vector<bytes>& meant, std::size_t pieces = 1,
              const pt::e1000e::tx_request& request = {}) {
        pt::result<> put = enqueue(frame, meant, pieces, request);
        for (unsigned tries = 0; !put && put.error().code == errc::busy; ++tries) {
            if (tries == 1000) {
                throw std::runtime_error{"the ring stays full"};
            }
            ring.advance_tail();
            reclaim();
            put = enqueue(frame, meant, pieces, request);
        }
        got(std::move(put));
        ring.advance_tail();
    }
    void send(const bytes& frame, std::size_t pieces = 1) { send(frame, {frame}, pieces); }

    /// Takes back what is done.
    std::uint32_t reclaim() {
        return ring.reclaim([this](std::uint64_t cookie) { take_back(cookie); });
    }
    /// Takes back everything, which QEMU is done with.
    void reclaim_all() {
        for (unsigned tries = 0; ring.in_flight() != 0; ++tries) {
            if (tries == 10) {
                throw std::runtime_error{"packets stay in the ring"};
            }
            reclaim();
        }
    }
    /// What is done with packets that the NIC did not send, if nobody has asked for on_wire since.
    auto unsent() {
        return [this](std::uint64_t cookie) {
            on_wire.resize(on_wire.size() - in_flight_.front().frames);
            take_back(cookie);
        };
    }

    /// Whether a cookie that was not the oldest one was given back.
    [[nodiscard]] bool in_order() const { return in_order_; }
    [[nodiscard]] std::uint64_t sent() const { return next_cookie_; }

private:
    struct packet_in_flight {
        std::vector<fragment> pieces;
        std::size_t frames; ///< that it becomes
    };

    static constexpr std::uint64_t scattered_part =
        (device_memory::scattered_size - 128 * KiB) / 2 / page * page;
    static constexpr std::uint64_t together_part = device_memory::together_size / 2;

    static pt::e1000e::tx_settings for_model(const nic& of, pt::e1000e::tx_settings settings) {
        settings.members = of.members;
        settings.padding = padding;
        return settings;
    }

    /// Small pieces in single pages, where e1000e may not run over a seam; e1000 may.
    iova room_for(std::size_t size) {
        if (nic_->members == family::pci_express && size > page) {
            const iova at = first_together_ + together_used_;
            if (together_used_ + size > together_part) {
                together_used_ = 0;
                return room_for(size);
            }
            together_used_ += size;
            return at;
        }
        const std::uint64_t left_in_page = page - scattered_used_ % page;
        if (nic_->members == family::pci_express && size > left_in_page) {
            scattered_used_ += left_in_page;
        }
        if (scattered_used_ + size > scattered_part) {
            scattered_used_ = 0;
        }
        const iova at = first_scattered_ + scattered_used_;
        scattered_used_ += size;
        return at;
    }

    void take_back(std::uint64_t cookie) {
        in_order_ = in_order_ && cookie == next_back_ && !in_flight_.empty();
        ++next_back_;
        if (!in_flight_.empty()) {
            for (const fragment& piece : in_flight_.front().pieces) {
                nic_->memory.fill(piece.address, piece.length, 0xEE);
            }
            in_flight_.pop_front();
        }
    }

    nic* nic_;
    std::vector<pt::e1000e::tx_slot> slots_;
    iova first_scattered_;
    iova first_together_;
    std::uint64_t scattered_used_ = 0;
    std::uint64_t together_used_ = 0;
    random_bytes cut_{7};
    std::deque<packet_in_flight> in_flight_;
    std::uint64_t next_cookie_ = 0;
    std::uint64_t next_back_ = 0;
    bool in_order_ = true;

public:
    ring_type ring;
    std::vector<bytes> on_wire; ///< what must be there by now
};

} // namespace e1000e_machine
