// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "bus.hpp"
#include "traffic.hpp"

#include "pt/core/policy.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_engine.hpp"
#include "pt/e1000e/rx_ring.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

/// rx_engine, the device, against rx_ring, the driver.
namespace both_sides {

namespace e1000e = pt::e1000e;

/// Buffers of one size at odd addresses. The device may write to those that it was told of.
struct posted_buffers {
    enum class owner : std::uint8_t { driver, queued, device };

    posted_buffers(std::uint32_t count, std::uint32_t size)
        : size_{size},
          stride_{size + 5},
          bytes_(std::size_t{count} * stride_, stale),
          owners_(count) {}

    static constexpr std::uint8_t stale = 0xE7;
    static constexpr std::uint64_t base = 0xFFFF'FFFF'0000'0003;

    [[nodiscard]] std::uint64_t address(std::uint32_t n) const {
        return base + std::uint64_t{n} * stride_;
    }
    [[nodiscard]] std::uint8_t* at(std::uint32_t n) {
        return bytes_.data() + std::size_t{n} * stride_;
    }
    [[nodiscard]] bool write(std::uint64_t to, const std::uint8_t* from, std::size_t count) {
        if (to < base || to - base >= bytes_.size()) {
            return false;
        }
        const auto n = static_cast<std::uint32_t>((to - base) / stride_);
        const std::uint64_t skipped = (to - base) % stride_;
        if (owners_[n] != owner::device || skipped > size_ || count > size_ - skipped) {
            return false;
        }
        std::memcpy(at(n) + skipped, from, count);
        return true;
    }

    std::uint32_t size_;
    std::uint32_t stride_;
    std::vector<std::uint8_t> bytes_;
    std::vector<owner> owners_;
};

/// What the device reaches: descriptors to read and write, buffers to write.
struct receiving_memory {
    shared_bus::ring* descriptors;
    posted_buffers* data;
    const char* fault = nullptr;

    pt::result<> read(pt::iova at, std::uint8_t* to, std::size_t count) {
        if (!descriptors->contains(at.raw, count)) {
            fault = "the device reads something else than a descriptor";
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        descriptors->read(at.raw, to, count);
        return {};
    }
    pt::result<> write(pt::iova at, const std::uint8_t* from, std::size_t count) {
        if (descriptors->contains(at.raw, count)) {
            descriptors->write(at.raw, from, count);
        } else if (!data->write(at.raw, from, count)) {
            fault = "the device writes where it was given nothing";
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        return {};
    }
};
struct receiving_memory_handle {
    receiving_memory* of;
    pt::result<> read(pt::iova at, std::uint8_t* to, std::size_t count) {
        return of->read(at, to, count);
    }
    pt::result<> write(pt::iova at, const std::uint8_t* from, std::size_t count) {
        return of->write(at, from, count);
    }
};
static_assert(pt::bus_memory<receiving_memory_handle>);

using receiving_engine = e1000e::rx_engine<receiving_memory_handle>;

struct receiver_registers {
    receiving_engine* of;
    std::uint32_t read32(std::uint32_t offset) { return of->read(offset); }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write32(std::uint32_t offset, std::uint32_t value) { of->write(offset, value); }
    void write64(std::uint32_t, std::uint64_t) {}
};

using receive_ring =
    e1000e::rx_ring<receiver_registers, shared_bus::ring_memory, shared_bus::order>;

/// CRC-32 of Ethernet bit by bit, the last bit first [802.3].
inline std::uint32_t frame_check(const std::vector<std::uint8_t>& frame) {
    std::uint32_t crc = 0xFFFF'FFFF;
    for (const std::uint8_t byte : frame) {
        for (unsigned bit = 0; bit < 8; ++bit) {
            const std::uint32_t differs = (crc ^ byte >> bit) & 1;
            crc = crc >> 1 ^ (differs != 0 ? 0xEDB8'8320U : 0U);
        }
    }
    return ~crc;
}

/// What is known of a frame beside its bytes.
struct arriving {
    bool has_ipv4 = false;      ///< whose header checksum is right
    bool has_transport = false; ///< TCP or UDP, whose checksum the device must have looked at
    bool is_broken = false;     ///< and found wrong
};

/// One receive ring from its start to its end, with all that is on its way.
class reception {
public:
    reception(std::uint64_t seed, std::uint32_t count, const e1000e::rx_settings& settings,
              bool takes_tags_out)
        : random_{seed},
          settings_{settings},
          takes_tags_out_{takes_tags_out},
          descriptors_{count, 0x23'4567'89A0},
          data_{buffers_for(count, settings.buffer_size), settings.buffer_size},
          memory_{&descriptors_, &data_},
          engine_{{&memory_}, settings.number},
          slots_(count),
          ring_{{&engine_},    {&descriptors_}, {},       descriptors_.base(),
                slots_.data(), count,           settings_} {
        engine_.write(0x0000, takes_tags_out ? 1U << 30 : 0); // CTRL.VME
        for (std::uint32_t n = 0; n < data_.owners_.size(); ++n) {
            free_.push_back(n);
        }
    }

    [[nodiscard]] bool start() { return ring_.start().has_value(); }

    /// The station's address, in RAL and RAH of entry 0.
    void set_address(const std::uint8_t* address) {
        std::memcpy(station_, address, 6);
        engine_.write(0x5400, std::uint32_t{address[0]} | std::uint32_t{address[1]} << 8 |
                                  std::uint32_t{address[2]} << 16 |
                                  std::uint32_t{address[3]} << 24);
        engine_.write(0x5404, 1U << 31 | std::uint32_t{address[5]} << 8 | address[4]);
    }

    /// A frame from the wire; false: there was no room for it.
    bool deliver(const std::uint8_t* frame, std::size_t length, const arriving& says) {
        pending expected;
        expected.says = says;
        std::vector<std::uint8_t>& bytes = expected.bytes;
        bytes.assign(frame, frame + length);
        if (bytes.size() < 60) {
            bytes.resize(60, 0);
        }
        const std::size_t on_wire = bytes.size() + 4;
        const std::uint32_t crc = settings_.strip_crc ? 0 : frame_check(bytes);
        if (takes_tags_out_ && bytes[12] == 0x81 && bytes[13] == 0x00) {
            expected.has_tag = true;
            expected.tag = static_cast<std::uint16_t>(bytes[14] << 8 | bytes[15]);
            bytes.erase(bytes.begin() + 12, bytes.begin() + 16);
        }
        for (unsigned i = 0; i < (settings_.strip_crc ? 0U : 4U); ++i) {
            bytes.push_back(static_cast<std::uint8_t>(crc >> 8 * i));
        }
        const std::size_t needed =
            (bytes.size() + settings_.buffer_size - 1) / settings_.buffer_size;

        e1000e::rx_outcome outcome = e1000e::rx_outcome::taken;
        const bool is_group = (frame[0] & 1) != 0;
        const bool is_broadcast = std::memcmp(frame, "\xFF\xFF\xFF\xFF\xFF\xFF", 6) == 0;
        const bool wanted =
            std::memcmp(frame, station_, 6) == 0 || (is_broadcast && settings_.broadcast) ||
            (is_group ? settings_.multicast_promiscuous : settings_.unicast_promiscuous);
        if (paused_) {
            outcome = e1000e::rx_outcome::disabled;
        } else if (!wanted) {
            outcome = e1000e::rx_outcome::filtered;
        } else if (on_wire > (settings_.long_packets ? 16'384U : 1'522U)) {
            outcome = e1000e::rx_outcome::too_long;
        } else if (needed > announced_.size() - filled_) {
            outcome = e1000e::rx_outcome::no_descriptors;
        }
        const e1000e::rx_delivery done = engine_.deliver(frame, length);
        const bool taken = outcome == e1000e::rx_outcome::taken;
        if (done.outcome != outcome || done.descriptors != (taken ? needed : 0)) {
            blame("a frame is not treated as it should be");
        }
        const std::uint32_t rxt0 = 1U << 7;
        const std::uint32_t rxo = 1U << 6;
        if ((((done.causes.raw | done.delayed.raw) & rxt0) != 0) != taken ||
            ((done.causes.raw & rxo) != 0) != (outcome == e1000e::rx_outcome::no_descriptors)) {
            blame("RXT0 without a frame, or RXO without an overrun");
        }
        ++outcomes_[static_cast<std::size_t>(outcome)];
        if (taken) {
            filled_ += needed;
            expected_.push_back(std::move(expected));
        }
        return outcome != e1000e::rx_outcome::no_descriptors &&
               outcome != e1000e::rx_outcome::disabled;
    }

    /// One thing that a driver does now and then.
    void step() {
        switch (random_.up_to(15)) {
        case 0:
        case 1:
        case 2:
        case 3: post(); break;
        case 4: interrupt_it(); break;
        default: receive(); break;
        }
    }
    /// All that was delivered comes out, and then the ring ends.
    void drain() {
        receive();
        if (!expected_.empty() || assembled_size_ != 0) {
            blame("a frame that was taken did not come out");
        }
        abandon();
    }

    [[nodiscard]] std::string fault() const {
        return memory_.fault != nullptr ? memory_.fault : fault_ != nullptr ? fault_ : "";
    }
    [[nodiscard]] std::uint64_t outcomes(e1000e::rx_outcome outcome) const {
        return outcomes_[static_cast<std::size_t>(outcome)];
    }
    [[nodiscard]] std::uint64_t received() const { return received_; }

private:
    using owner = posted_buffers::owner;

    struct pending {
        std::vector<std::uint8_t> bytes;
        bool has_tag = false;
        std::uint16_t tag = 0;
        arriving says;
    };

    static std::uint32_t buffers_for(std::uint32_t count, std::uint32_t size) {
        const std::uint32_t most = (std::uint32_t{16} << 20) / size;
        return count < most ? count : most; // one more than the ring holds
    }
    static std::uint64_t cookie_of(std::uint32_t n) {
        return (std::uint64_t{n} + 1) * 0x9E37'79B9'7F4A'7C15;
    }
    void blame(const char* what) { fault_ = fault_ == nullptr ? what : fault_; }

    void announce() {
        for (; !queued_.empty(); queued_.pop_front()) {
            data_.owners_[queued_.front()] = owner::device;
            announced_.push_back(queued_.front());
        }
        ring_.advance_tail();
    }
    void post() {
        for (std::uint32_t left = random_.up_to(40); left != 0 && !free_.empty(); --left) {
            const std::size_t which = random_.up_to(static_cast<std::uint32_t>(free_.size() - 1));
            const std::uint32_t n = free_[which];
            const bool room = ring_.in_flight() != ring_.count() - 1;
            if (ring_.post(pt::iova{data_.address(n)}, cookie_of(n)).has_value() != room) {
                blame("a buffer is refused that fits, or taken that does not");
            }
            if (!room) {
                break;
            }
            std::swap(free_[which], free_.back());
            free_.pop_back();
            data_.owners_[n] = owner::queued;
            queued_.push_back(n);
        }
        if (random_.once_in(2)) {
            announce();
        }
    }

    void take(const e1000e::rx_piece& piece) {
        if (announced_.empty() || filled_ == 0 || expected_.empty()) {
            return blame("a buffer comes back that nothing is in");
        }
        const std::uint32_t n = announced_.front();
        announced_.pop_front();
        --filled_;
        if (piece.cookie != cookie_of(n) || piece.errors.any()) {
            return blame("a buffer is out of order, or has errors");
        }
        const pending& frame = expected_.front();
        const std::size_t left = frame.bytes.size() - assembled_size_;
        const std::size_t here = left < settings_.buffer_size ? left : settings_.buffer_size;
        const bool is_last = here == left;
        const e1000e::rx_place place =
            assembled_size_ == 0 ? (is_last ? e1000e::rx_place::only : e1000e::rx_place::first)
                                 : (is_last ? e1000e::rx_place::last : e1000e::rx_place::middle);
        if (piece.length != here || piece.place != place ||
            std::memcmp(data_.at(n), frame.bytes.data() + assembled_size_, here) != 0) {
            return blame("a piece of a frame is not what it should be");
        }
        for (std::size_t at = here; at < data_.stride_; ++at) {
            if (data_.at(n)[at] != posted_buffers::stale) {
                return blame("more was written than the frame is long");
            }
        }
        assembled_size_ += here;
        if (is_last) {
            check_report(piece, frame);
            assembled_size_ = 0;
            expected_.pop_front();
            ++received_;
        }
        std::memset(data_.at(n), posted_buffers::stale, here);
        data_.owners_[n] = owner::driver;
        free_.push_back(n);
    }
    void check_report(const e1000e::rx_piece& piece, const pending& frame) {
        using result = e1000e::checksum_result;
        if (piece.has_vlan != frame.has_tag || (frame.has_tag && piece.vlan.raw != frame.tag)) {
            blame("the tag is not the frame's");
        }
        if (frame.says.has_ipv4 && piece.ip_checksum != result::right) {
            blame("a good IP header is not found good");
        }
        if (frame.says.has_transport &&
            piece.transport_checksum != (frame.says.is_broken ? result::wrong : result::right)) {
            blame("a TCP or UDP checksum is misjudged");
        }
    }
    void receive() {
        const std::uint32_t before = ring_.in_flight();
        std::uint32_t came = 0;
        const std::uint32_t buffers = ring_.receive([&](const e1000e::rx_piece& piece) {
            ++came;
            if (fault_ == nullptr) {
                take(piece);
            }
        });
        if (buffers != came || ring_.in_flight() != before - came) {
            blame("the buffers are miscounted");
        }
        if (filled_ != 0) {
            blame("a filled buffer does not come back");
        }
    }
    void abandon() {
        receive(); // what has arrived
        std::deque<std::uint32_t> posted{announced_};
        posted.insert(posted.end(), queued_.begin(), queued_.end());
        const std::size_t expected = posted.size();
        const std::uint32_t buffers = ring_.abandon([&](std::uint64_t cookie) {
            if (posted.empty() || cookie != cookie_of(posted.front())) {
                return blame("abandon: a cookie is out of order");
            }
            data_.owners_[posted.front()] = owner::driver;
            free_.push_back(posted.front());
            posted.pop_front();
        });
        if (buffers != expected || !posted.empty()) {
            blame("abandon miscounts");
        }
        announced_.clear();
        queued_.clear();
    }
    void interrupt_it() {
        const std::uint32_t what = random_.up_to(31);
        if (what < 4) {
            if (!(paused_ ? ring_.resume() : ring_.pause())) {
                blame("pause or resume");
            }
            paused_ = !paused_;
        } else if (what == 4) {
            abandon();
            paused_ = false;
            if (!ring_.start()) {
                blame("start after abandon");
            }
        }
    }

    traffic::random_numbers random_;
    e1000e::rx_settings settings_;
    bool takes_tags_out_;
    std::uint8_t station_[6]{};
    shared_bus::ring descriptors_;
    posted_buffers data_;
    receiving_memory memory_;
    receiving_engine engine_;
    std::vector<e1000e::rx_slot> slots_;
    receive_ring ring_;

    std::vector<std::uint32_t> free_;
    std::deque<std::uint32_t> queued_;    ///< posted, the device does not know
    std::deque<std::uint32_t> announced_; ///< posted, the device knows
    std::size_t filled_ = 0;              ///< the first of them, which have a frame
    std::deque<pending> expected_;
    std::size_t assembled_size_ = 0; ///< of the first of them
    bool paused_ = false;
    std::uint64_t received_ = 0;
    std::uint64_t outcomes_[e1000e::rx_outcomes]{};
    const char* fault_ = nullptr;
};

} // namespace both_sides
