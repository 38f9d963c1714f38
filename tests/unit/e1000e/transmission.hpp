// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bus.hpp"
#include "traffic.hpp"

#include "pt/core/policy.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_engine.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/e1000e/vlan_tag.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

/// tx_ring, the driver, against tx_engine, the device.
namespace both_sides {

using namespace pt::e1000e;
using pt::errc;
using pt::iova;
using pt::result;
using traffic::random_numbers;

// ------------------------------------------------------------------------------------ the device

/// What the device reaches, and whether it kept to it.
struct device_memory {
    shared_bus::ring* descriptors;
    shared_bus::buffers* data;
    std::vector<std::uint8_t> zeros = std::vector<std::uint8_t>(16);
    static constexpr std::uint64_t zeros_at = 0x5'0000'0FF8; // across a page's end
    const char* fault = nullptr;
    bool reported_at_once = false; ///< a DD was written for a descriptor without IDE
    bool reported_later = false;

    void blame(const char* what) { fault = fault == nullptr ? what : fault; }

    result<> read(iova at, std::uint8_t* to, std::size_t count) {
        if (data->contains(at.raw, count)) {
            std::memcpy(to, data->at(at.raw), count);
        } else if (descriptors->contains(at.raw, count)) {
            descriptors->read(at.raw, to, count);
        } else if (at.raw >= zeros_at && at.raw - zeros_at <= 16 &&
                   count <= 16 - (at.raw - zeros_at)) {
            std::memcpy(to, zeros.data() + (at.raw - zeros_at), count);
        } else {
            blame("the device reads what it was not given");
            return pt::error{errc::not_mapped, at.raw};
        }
        return {};
    }
    /// Only the status is written back, and only where RS asks for it [82574].
    result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        if (count != 1 || !descriptors->contains(at.raw, 1) || at.raw % 16 != 12) {
            blame("the device writes something else than a status");
            return pt::error{errc::not_mapped, at.raw};
        }
        const auto offset = static_cast<std::uint32_t>(at.raw - descriptors->base().raw - 4);
        const std::uint64_t command = descriptors->load(offset);
        if ((command >> 27 & 1) == 0 || (command >> 32 & 1) != 0 || (*from & 1) == 0) {
            blame("a status without RS, or twice, or without DD");
        }
        ((command >> 31 & 1) == 0 ? reported_at_once : reported_later) = true;
        descriptors->write(at.raw, from, count);
        return {};
    }
};
struct device_memory_handle {
    device_memory* of;
    result<> read(iova at, std::uint8_t* to, std::size_t count) { return of->read(at, to, count); }
    result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        return of->write(at, from, count);
    }
};
static_assert(pt::bus_memory<device_memory_handle>);

using engine = tx_engine<device_memory_handle>;

/// The registers: the engine's, and those that have nothing to do but be there.
struct device {
    engine* transmitter;
    const char* fault = nullptr;
    std::uint32_t tail_writes = 0;

    std::uint32_t read32(std::uint32_t offset) {
        if (transmitter->owns(offset)) {
            return transmitter->read(offset);
        }
        if (offset == 0x1000) {
            return 20 << 16 | 20; // PBA
        }
        fault = "a register is read that transmission does not need";
        return 0;
    }
    void write32(std::uint32_t offset, std::uint32_t value) {
        tail_writes += offset == 0x3818 || offset == 0x3918 ? 1 : 0;
        if (transmitter->owns(offset)) {
            return transmitter->write(offset, value);
        }
        if (offset != 0x410) { // TIPG
            fault = "a register is written that transmission does not need";
        }
    }
};
struct device_registers {
    device* of;
    std::uint32_t read32(std::uint32_t offset) { return of->read32(offset); }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write32(std::uint32_t offset, std::uint32_t value) { of->write32(offset, value); }
    void write64(std::uint32_t, std::uint64_t) {}
};

using ring = tx_ring<device_registers, shared_bus::ring_memory, shared_bus::order>;

inline tx_request request_of(const traffic::packet& packet) {
    tx_request request;
    if (packet.inserts_tag) {
        request.tagging = vlan_insertion::insert;
        request.tag = vlan_tag{packet.inserted_tag};
    }
    if (packet.wanted == traffic::work::none) {
        return request;
    }
    const header_layout headers{.ip = static_cast<std::uint8_t>(packet.ip_at()),
                                .transport_at = static_cast<std::uint8_t>(packet.transport_at()),
                                .version = packet.v6 ? ip_version::v6 : ip_version::v4,
                                .protocol = packet.udp ? transport::udp : transport::tcp};
    switch (packet.wanted) {
    case traffic::work::ip_checksum:
        request.offload = tx_offload::ip_checksum(headers).value();
        break;
    case traffic::work::transport_checksum:
        request.offload = tx_offload::transport_checksum(headers).value();
        break;
    case traffic::work::segmentation:
        request.offload =
            tx_offload::segmentation(headers, static_cast<std::uint8_t>(packet.payload_at()),
                                     static_cast<std::uint16_t>(packet.segment_size))
                .value();
        break;
    default: request.offload = tx_offload::checksums(headers).value(); break;
    }
    return request;
}

/// One transmit ring from its start to its end, with all that is on its way.
class transmission {
public:
    transmission(std::uint64_t seed, std::uint32_t count, tx_settings settings,
                 traffic::limits within)
        : random_{seed},
          within_{within},
          settings_{settings},
          descriptors_{count, 0x7F'1234'5000 & ~std::uint64_t{0xF}},
          data_{(std::size_t{1} << 18) + count * std::size_t{160}, 0x12'3456'7001},
          memory_{&descriptors_, &data_},
          engine_{{&memory_}, frame_.get(), frame_size, settings.number},
          device_{&engine_},
          slots_(count),
          sent_(count),
          ring_{{&device_},    {&descriptors_}, {},      descriptors_.base(),
                slots_.data(), count,           settings} {
        engine_.write(0x0000, 1U << 30); // CTRL.VME
    }

    /// Sends `packets` packets, and whatever may happen meanwhile happens. What went wrong, if
    /// anything.
    std::string run(std::uint32_t packets) {
        if (!ring_.start()) {
            return "start";
        }
        const std::uint64_t end = next_ + packets;
        end_ = end;
        std::uint64_t idle = 0;
        while (next_ < end || ring_.in_flight() != 0) {
            const std::uint64_t before = next_ + reclaimed_ + seen_frames_;
            if (beside_) {
                beside_();
            }
            switch (random_.up_to(7)) {
            case 0:
            case 1: send_some(next_ < end ? end - next_ : 0); break;
            case 2: send_many(next_ < end ? end - next_ : 0); break;
            case 3:
            case 4:
            case 5:
                if (asleep_ != 0) {
                    --asleep_;
                } else {
                    work();
                }
                break;
            case 6: reclaim(); break;
            default: interrupt_it(); break;
            }
            if (memory_.fault != nullptr || device_.fault != nullptr || fault_ != nullptr) {
                return std::string{memory_.fault != nullptr   ? memory_.fault
                                   : device_.fault != nullptr ? device_.fault
                                                              : fault_} +
                       " at packet " + std::to_string(reclaimed_);
            }
            idle = next_ + reclaimed_ + seen_frames_ != before ? 0 : idle + 1;
            if (idle == 100'000) {
                return "stuck with " + std::to_string(ring_.in_flight()) + " in flight";
            }
        }
        if (paused_ && !ring_.resume()) {
            return "resume";
        }
        paused_ = false;
        if (!ring_.stop() ||
            engine_.step({}, [](const std::uint8_t*, std::size_t) { return true; }).why !=
                tx_stop::disabled) {
            return "stop";
        }
        return seen_ == next_ && reclaimed_ == next_ ? "" : "not all of it";
    }

    /// Where the frames go, once they were found right; false: no room now.
    void connect(std::function<bool(const std::uint8_t*, std::size_t)> wire) {
        wire_ = std::move(wire);
    }
    /// What happens beside: called between any two things that the driver or the device do.
    void beside(std::function<void()> what) { beside_ = std::move(what); }

    [[nodiscard]] std::uint64_t frames() const { return seen_frames_; }
    /// How often the ring was found full.
    [[nodiscard]] std::uint64_t full() const { return full_; }

private:
    struct sent {
        traffic::frames wanted;
        std::uint64_t buffers_end = 0;
    };
    static constexpr std::size_t frame_size = 16'400;

    static std::uint64_t cookie_of(std::uint64_t number) { return number * 0x9E37'79B9'7F4A'7C15; }
    sent& slot_of(std::uint64_t number) { return sent_[number % sent_.size()]; }
    void blame(const char* what) { fault_ = fault_ == nullptr ? what : fault_; }

    /// The packet's bytes into buffers, in pieces with gaps between them; false: no room.
    /// Headers to segment by lie in the first piece.
    bool lay_out(std::uint32_t pieces, std::uint32_t headers) {
        const std::size_t size = bytes_.size();
        pieces = std::min(pieces, static_cast<std::uint32_t>(size) - headers + 1);
        const std::uint64_t mark = data_.mark();
        fragments_.clear();
        std::size_t from = 0;
        for (std::uint32_t left = pieces; left != 0; --left) {
            const std::size_t rest = size - from;
            const std::size_t most = rest - (left - 1);
            const std::size_t here = left == 1 ? rest
                                               : random_.between(from == 0 ? headers : 1,
                                                                 static_cast<std::uint32_t>(most));
            const std::uint32_t gap = random_.up_to(3);
            const std::uint64_t place = data_.take(here + gap);
            if (place == 0) {
                data_.undo(mark);
                return false;
            }
            std::memcpy(data_.at(place), bytes_.data() + from, here);
            fragments_.push_back({iova{place}, static_cast<std::uint32_t>(here)});
            from += here;
        }
        return true;
    }

    /// What the descriptors of a packet may be at the most, and whether it can be sent at all.
    [[nodiscard]] bool can_ever_be_sent(const tx_request& request) const {
        std::uint32_t length = 0;
        std::uint32_t needed = request.offload.needed() ? 1 : 0;
        for (const fragment& piece : fragments_) {
            length += piece.length;
            needed += (piece.length + 16'287) / 16'288;
        }
        const bool padded = length < 17;
        needed += padded ? 1 : 0;
        const std::uint32_t kept = settings_.report == tx_report::each_packet() ? 1 : 2;
        return needed + kept <= ring_.count() && (!padded || settings_.padding != iova{});
    }

    void send_some(std::uint64_t most) {
        const bool at_once = random_.once_in(2);
        for (std::uint64_t left = random_.up_to(40); left != 0 && most != 0; --left, --most) {
            traffic::generate(random_, within_, packet_);
            traffic::as_in_memory(packet_, bytes_);
            const std::uint32_t pieces = random_.once_in(4) ? random_.between(1, 16) : 1;
            const std::uint64_t mark = data_.mark();
            tx_request request = request_of(packet_);
            const std::uint32_t headers = request.offload.header_length();
            if (!lay_out(pieces, headers == 0 ? 1 : headers)) {
                break;
            }
            if (random_.once_in(4)) {
                request.interrupt = tx_interrupt::delayed;
            }
            sent& slot = slot_of(next_);
            if (ring_.in_flight() == ring_.count() - 1) {
                data_.undo(mark);
                break; // the test has no slot either
            }
            traffic::on_the_wire(packet_, slot.wanted);
            const bool plain = request.tagging == vlan_insertion::none &&
                               !request.offload.needed() &&
                               request.interrupt == tx_interrupt::at_once;
            const std::size_t count = fragments_.size();
            const fragment* const all = fragments_.data();
            const std::uint64_t cookie = cookie_of(next_);
            const bool was_empty = ring_.in_flight() == 0;
            announced_ =
                at_once ? next_ + 1 : announced_; // the device may see it before send() ends
            const result<> done = at_once ? (plain ? ring_.send(all, count, cookie)
                                                   : ring_.send(all, count, cookie, request))
                                          : (plain ? ring_.enqueue(all, count, cookie)
                                                   : ring_.enqueue(all, count, cookie, request));
            if (!done) {
                announced_ = announced_ == next_ + 1 ? next_ : announced_;
                data_.undo(mark);
                const bool can = can_ever_be_sent(request);
                if (done.error().code == errc::busy ? was_empty && can : can) {
                    blame("a packet that can be sent is refused");
                }
                if (done.error().code == errc::busy) {
                    ++full_;
                    break;
                }
                continue;
            }
            slot.buffers_end = data_.mark();
            const std::uint32_t last = (ring_.tail() + ring_.count() - 1) % ring_.count();
            const bool delayed = request.interrupt == tx_interrupt::delayed;
            if ((descriptors_.load(16 * last + 8) >> 31 & 1) !=
                (delayed && settings_.interrupt_delay != 0 ? 1 : 0)) {
                blame("IDE is not what was asked for");
            }
            ++next_;
        }
        if (random_.once_in(3)) {
            announced_ = next_;
            ring_.advance_tail();
        }
    }

    /// By send_all(): packets of one piece without any request.
    void send_many(std::uint64_t most) {
        std::uint64_t marks[65]{data_.mark()};
        tx_packet batch[64];
        std::uint32_t count = 0;
        const std::uint64_t slots = ring_.count() - 1 - ring_.in_flight();
        const std::uint64_t limit = most < slots ? most : slots;
        for (std::uint32_t left = random_.up_to(64); count < left && count < limit; ++count) {
            traffic::generate_plain(random_, within_, packet_);
            traffic::as_in_memory(packet_, bytes_);
            if (!lay_out(1, 1)) {
                break;
            }
            sent& slot = slot_of(next_ + count);
            traffic::on_the_wire(packet_, slot.wanted);
            slot.buffers_end = marks[count + 1] = data_.mark();
            batch[count] = {fragments_[0].address, fragments_[0].length, cookie_of(next_ + count)};
        }
        const std::uint32_t tails = device_.tail_writes;
        const tx_batch done = ring_.send_all(batch, count);
        if (device_.tail_writes - tails > 1) {
            blame("a batch writes the tail more than once");
        }
        if (done.sent > count || (done.sent == count) != (done.stopped.code == errc::none)) {
            return blame("a batch says something else than it did");
        }
        next_ += done.sent;
        announced_ = next_;
        data_.undo(marks[done.sent]); // what was not sent
        if (done.sent != count) {
            ++full_;
            const bool can = batch[done.sent].length >= 17 || settings_.padding != iova{};
            if (done.stopped.code == errc::busy ? ring_.in_flight() == 0 : can) {
                blame("a batch stops at a packet that can be sent");
            }
        }
    }

    void work() {
        memory_.reported_at_once = memory_.reported_later = false;
        const tx_budget budget{.descriptors = random_.up_to(80), .frames = random_.up_to(80)};
        const std::uint32_t refused_once_in = random_.once_in(4) ? random_.between(1, 8) : 0;
        std::uint32_t taken = 0;
        const tx_step done =
            engine_.step(budget, [&](const std::uint8_t* frame, std::size_t length) {
                if (seen_ >= announced_ || !slot_of(seen_).wanted.is(part_, frame, length)) {
                    blame("a frame that was not meant");
                    return true;
                }
                if ((refused_once_in != 0 && random_.once_in(refused_once_in)) ||
                    (wire_ && !wire_(frame, length))) {
                    return false;
                }
                ++taken;
                ++seen_frames_;
                if (++part_ == slot_of(seen_).wanted.count()) {
                    part_ = 0;
                    ++seen_;
                }
                return true;
            });
        const bool txdw = (done.causes.raw & 1) != 0;
        const std::uint32_t of_queue =
            settings_.number == pt::e1000e::queue::first ? 1U << 22 : 1U << 23;
        if (done.frames != taken || done.frames > budget.frames ||
            done.descriptors > budget.descriptors || done.dropped != 0 || done.malformed != 0 ||
            done.fault.code != errc::none) {
            blame("a step says something else than it did");
        }
        if (txdw != memory_.reported_at_once ||
            ((done.causes.raw & of_queue) != 0) != memory_.reported_at_once ||
            done.delayed_write_back != memory_.reported_later) {
            blame("TXDW without a write-back, or none with one");
        }
        if ((done.why == tx_stop::disabled) != paused_ || done.why == tx_stop::bad_ring ||
            done.why == tx_stop::memory_fault ||
            (done.why == tx_stop::refused && refused_once_in == 0 && !wire_)) {
            blame("a step ends for no reason");
        }
        if (paused_ && (done.frames != 0 || done.descriptors != 0)) {
            blame("a disabled transmitter works");
        }
    }

    void take_back(std::uint64_t cookie) {
        if (cookie != cookie_of(reclaimed_)) {
            blame("a cookie is out of order, or comes twice");
        }
        data_.release(slot_of(reclaimed_).buffers_end);
        ++reclaimed_;
    }
    void reclaim() {
        const std::uint64_t before = reclaimed_;
        const std::uint32_t packets = ring_.reclaim([&](std::uint64_t cookie) {
            if (reclaimed_ >= seen_) {
                blame("a cookie comes back before its last frame");
            }
            take_back(cookie);
        });
        if (reclaimed_ - before != packets || ring_.in_flight() != next_ - reclaimed_) {
            blame("the packets are miscounted");
        }
    }

    void interrupt_it() {
        const std::uint32_t what = random_.up_to(ring_.count() < 4'096 ? 63 : 1'023);
        if (what >= 11) {
            return;
        }
        if (what < 8) {
            if (!(paused_ ? ring_.resume() : ring_.pause())) {
                blame("pause or resume");
            }
            paused_ = !paused_;
        } else if (what == 8 && next_ != end_) { // the last ones have to come back by themselves
            // The driver gives up. What the device did not send by now never appears.
            const std::uint64_t before = next_ - reclaimed_;
            if (ring_.abandon([&](std::uint64_t cookie) { take_back(cookie); }) != before) {
                blame("abandon miscounts");
            }
            seen_ = announced_ = next_;
            part_ = 0;
            if (!ring_.start()) {
                blame("start after abandon");
            }
            paused_ = false;
        } else if (what == 9) {
            asleep_ = random_.up_to(ring_.count() < 4'096 ? 64 : 2'000); // the ring becomes full
        } else if (what == 10) {
            const result<> done = ring_.stop();
            if (done.has_value() != (next_ == reclaimed_)) {
                blame("stop");
            }
            if (done) {
                if (!ring_.start()) {
                    blame("start after stop");
                }
                paused_ = false;
            }
        }
    }

    random_numbers random_;
    traffic::limits within_;
    tx_settings settings_;
    shared_bus::ring descriptors_;
    shared_bus::buffers data_;
    device_memory memory_;
    std::unique_ptr<std::uint8_t[]> frame_ = std::make_unique<std::uint8_t[]>(frame_size);
    engine engine_;
    device device_;
    std::vector<tx_slot> slots_;
    std::vector<sent> sent_; ///< packet n in element n modulo the ring's size
    ring ring_;

    traffic::packet packet_;
    std::vector<std::uint8_t> bytes_;
    std::vector<fragment> fragments_;
    bool paused_ = false;
    std::uint32_t asleep_ = 0;    ///< steps that the device leaves out
    std::uint64_t end_ = 0;       ///< packets that are to be sent
    std::uint64_t next_ = 0;      ///< number of the next packet
    std::uint64_t announced_ = 0; ///< packets that the device may know of
    std::uint64_t seen_ = 0;      ///< packets of which all frames were seen
    std::size_t part_ = 0;        ///< frames of the next one that were seen
    std::uint64_t seen_frames_ = 0;
    std::uint64_t reclaimed_ = 0;
    std::uint64_t full_ = 0;
    const char* fault_ = nullptr;
    std::function<bool(const std::uint8_t*, std::size_t)> wire_;
    std::function<void()> beside_;
};

} // namespace both_sides
