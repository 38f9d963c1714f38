// SPDX-License-Identifier: BSL-1.0
// Random guests through a shadow ring: every legal packet reaches the NIC once, in order and byte
// by byte; no other packet does, and no byte that is not the guest's.
#include "pt/e1000e/shadow_ring.hpp"

#include "mediation.hpp"

#include <catch2/catch_test_macros.hpp>

#include <string_view>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr std::string_view no_fault{};

using namespace mediation;

constexpr u32 frames = 512;
constexpr u32 pages = 256;
constexpr u32 ring_pages = 40; ///< room for two rings of up to 64 descriptors, from page 1 on
constexpr u32 real_ring = 64;
using testbed = machine<frames, pages, real_ring, 4096, 64, 128, 48, 2>;

struct line {
    u64 low;
    u64 high;
};

/// A packet as a guest writes it, and what the NIC must get of it.
struct packet_of_guest {
    std::vector<line> ring{};
    u32 contexts = 0; ///< descriptors before its own
    bool legal = true;
    std::vector<u8> bytes{};
    u64 first = 0; ///< fields of the first piece
    u64 last = 0;  ///< and of the last one
    u64 offsets = 0;
    u64 command = 0;
};

class guest {
public:
    explicit guest(u64 seed) : random_{seed}, m_{std::make_unique<testbed>(1U, 2U, 4U)} {
        std::vector<u32> order(frames);
        std::iota(order.begin(), order.end(), 0U);
        if (some(4) != 0) { // else all lie together
            std::shuffle(order.begin(), order.end(), random_);
        }
        for (u32 i = 0; i < pages; ++i) {
            m_->memory.frame_of[i] = order[i];
        }
        for (u8& byte : m_->memory.bytes) {
            byte = static_cast<u8>(random_());
        }
        for (u32 i = ring_pages; i < pages; ++i) {
            if (some(12) == 0) {
                m_->memory.frame_of[i] = nowhere;
            }
        }
        constexpr u64 choices[] = {1, 7, page, ~u64{0}};
        m_->memory.longest_piece = choices[some(4)];
        m_->shadow.write(0x0000, vlan_mode_ ? 1U << 30 : 0U); // CTRL.VME
        program(page);
    }

    void turn() {
        while (some(3) != 0 && offer()) {}
        after(m_->shadow.step(static_cast<u32>(some(chance() ? 10 : 200))));
        if (scribbles_) {
            scribble();
        } else if (some(20) == 0) {
            revoke();
        }
        m_->device.run(static_cast<u32>(some(12)));
        compare();
        if (some(300) == 0) {
            start_anew();
        }
        check();
    }

    /// Until all that the guest gave is done.
    void drain() {
        for (unsigned i = 0; i < 1000 && (head_ != tail_ || m_->shadow.in_flight() != 0); ++i) {
            after(m_->shadow.step());
            m_->device.run();
            compare();
            check();
        }
        if (head_ != tail_ || !expected_.empty() || m_->shadow.in_flight() != 0 ||
            m_->ring.free_descriptors() != real_ring - 1) {
            blame("not all is done");
        }
    }

    [[nodiscard]] std::string wrong() const { return wrong_; }

    u64 sent = 0;
    u64 segmented_sent = 0;
    u64 dropped = 0;
    u64 resets = 0;
    u64 moves = 0;

private:
    struct descriptor {
        bool reports;
        u64 after; ///< it may be done when the NIC has sent so many packets
    };

    u64 some(u64 count) { return random_() % count; }
    bool chance() { return some(2) == 0; }
    void blame(const char* what) {
        if (wrong_.empty()) {
            wrong_ = what;
        }
    }

    // ------------------------------------------------------------------------------------- packets

    /// Where `length` bytes are that are all there.
    u64 place(u64 length) {
        while (true) {
            const u64 at = ring_pages * page + some((pages - ring_pages) * page - length);
            const u32* const first = m_->memory.frame_of + at / page;
            const u32* const end = m_->memory.frame_of + (at + length - 1) / page + 1;
            if (std::find(first, end, nowhere) == end) {
                return at;
            }
        }
    }
    /// RS, and bits that must not matter.
    u64 noise() {
        const u64 reserved = u64{1} << 28 | some(128) << 33; // RPS, STA without DD, TS
        return (chance() ? RS : 0) | (chance() ? IDE : 0) | (some(4) == 0 ? reserved : 0);
    }
    /// A descriptor that transfers no data.
    line null(u64 command) {
        const bool has_address = chance();
        return {has_address ? place(1) : 0, command | noise() | (has_address ? 0 : some(100))};
    }
    /// Gives the packet `length` bytes from all over the guest's memory.
    void buffers(packet_of_guest& packet, u64 length, u64 command) {
        while (length != 0) {
            if (some(10) == 0) {
                packet.ring.push_back(null(command));
            }
            const u64 most = length < 190 ? length : 190;
            const u64 part = packet.ring.size() > 12 || chance() ? most : 1 + some(most);
            const u64 at = place(part);
            for (u64 i = 0; i < part; ++i) {
                packet.bytes.push_back(*m_->memory.at(at + i));
            }
            packet.ring.push_back({at, command | part | noise()});
            length -= part;
        }
        if (some(8) == 0) {
            packet.ring.push_back(null(command));
        }
        packet.ring.back().high |= EOP;
    }
    u64 packet_length() { return 17 + some(chance() ? 40 : 900); }

    packet_of_guest legacy() {
        packet_of_guest packet;
        const u64 length = packet_length();
        buffers(packet, length, 0);
        const u64 reach = some(4) == 0 ? 256 : 40;
        for (line& each : packet.ring) { // noise, where it does not count
            each.high |= css(some(reach)) | cso(some(reach)) | tag(some(0x10000)) |
                         (chance() ? IC : 0) | (chance() ? VLE : 0) | (chance() ? IFCS : 0);
        }
        const u64 start = packet.ring.front().high >> 40 & 0xFF;
        const u64 last = packet.ring.back().high;
        const u64 field = last >> 16 & 0xFF;
        const bool sum = (last & IC) != 0 && start < length && field < length - 1;
        const bool tags = vlan_mode_ && (last & VLE) != 0;
        const bool fcs = (last & IFCS) != 0 || sum || tags || length < 60;
        packet.first = sum ? css(start) : 0;
        packet.last =
            (sum ? IC | cso(field) : 0) | (tags ? VLE | (last >> 48 << 48) : 0) | (fcs ? IFCS : 0);
        return packet;
    }

    packet_of_guest data() {
        packet_of_guest packet;
        const u64 length = packet_length();
        if (!has_context_ || some(3) == 0) {
            has_context_ = true;
            const u64 reach = some(4) == 0 ? 256 : 40;
            offsets_ = some(reach) | some(reach) << 8 | some(reach) << 32 | some(reach) << 40 |
                       (chance() ? 0 : some(200)) << 16 | (chance() ? 0 : some(200)) << 48;
            command_ = (chance() ? TCP : 0) | (chance() ? IPV4 : 0);
            const u64 ignored = some(0x10'0000) | some(256) << 40 | some(0x10000) << 48;
            packet.ring.push_back({offsets_, DEXT | command_ | noise() | ignored});
            packet.contexts = 1;
        }
        buffers(packet, length, DATA);
        for (std::size_t i = packet.contexts; i != packet.ring.size(); ++i) {
            packet.ring[i].high |= tag(some(0x10000)) | (chance() ? IXSM : 0) |
                                   (chance() ? TXSM : 0) | some(64) << 42 | (chance() ? VLE : 0) |
                                   (chance() ? IFCS : 0);
        }
        const u64 first = packet.ring[packet.contexts].high;
        const u64 last = packet.ring.back().high;
        const auto fits = [length](u64 start, u64 field, u64 end) {
            return start < length && field + 2 <= length && (end == 0 || end >= start);
        };
        const bool ip = (first & IXSM) != 0 &&
                        fits(offsets_ & 0xFF, offsets_ >> 8 & 0xFF, offsets_ >> 16 & 0xFFFF);
        const bool own = (first & TXSM) != 0 &&
                         fits(offsets_ >> 32 & 0xFF, offsets_ >> 40 & 0xFF, offsets_ >> 48);
        const bool tags = vlan_mode_ && (last & VLE) != 0;
        const bool fcs = (last & IFCS) != 0 || ip || own || tags || length < 60;
        packet.first = packet.last = DATA | (ip ? IXSM : 0) | (own ? TXSM : 0) |
                                     (tags ? VLE | (last >> 48 << 48) : 0) | (fcs ? IFCS : 0);
        if (ip || own) {
            packet.offsets = (ip ? offsets_ & 0xFFFF'FFFF : 0) | (own ? offsets_ >> 32 << 32 : 0);
            packet.command = DEXT | command_;
        }
        return packet;
    }

    packet_of_guest segmented(u64 mss, u64 payload_is_off_by = 0) {
        packet_of_guest packet;
        const bool v4 = chance();
        const bool tcp = chance();
        const u64 ip = chance() ? 14 : 18;
        const u64 own = ip + (v4 ? 20 + 4 * some(6) : 40);
        const u64 header = own + (tcp ? 20 + 4 * some(6) : 8);
        const u64 payload = 1 + some(chance() ? 30 : 1200);
        packet.offsets =
            ip | (ip + 10) << 8 | (own - 1) << 16 | own << 32 | (own + (tcp ? 16 : 6)) << 40;
        packet.command = DEXT | TSE | (tcp ? TCP : 0) | (v4 ? IPV4 : 0) |
                         (payload + payload_is_off_by) | header << 40 | mss << 48;
        packet.ring.push_back({packet.offsets, packet.command | noise()});
        packet.contexts = 1;
        buffers(packet, header + payload, DATA | TSE);
        const u64 options = TXSM | (v4 ? IXSM : 0);
        for (std::size_t i = 1; i != packet.ring.size(); ++i) {
            packet.ring[i].high |= tag(some(0x10000)) | (i == 1 || chance() ? options : 0) |
                                   some(64) << 42 | (chance() ? VLE : 0) | (chance() ? IFCS : 0);
        }
        const u64 first = packet.ring[1].high;
        const bool tags = vlan_mode_ && (first & VLE) != 0;
        packet.first = packet.last =
            DATA | TSE | options | IFCS | (tags ? VLE | (first >> 48 << 48) : 0);
        if (!v4) { // no IP checksum is asked for
            packet.offsets &= ~u64{0xFFFF'FF00};
        }
        return packet;
    }

    packet_of_guest legal() {
        switch (some(3)) {
        case 0: return legacy();
        case 1: return data();
        default: return segmented(17 + some(1400));
        }
    }

    /// A legal packet, of which one thing is changed.
    packet_of_guest illegal() {
        packet_of_guest packet = legal();
        const auto begin = [&] { return packet.ring.begin() + packet.contexts; };
        const auto one = [&]() -> line& {
            return packet.ring[packet.contexts + some(packet.ring.size() - packet.contexts)];
        };
        const auto make_longer = [&] {
            packet.ring.insert(begin(), {0, packet.ring.back().high & ~EOP});
        };
        const auto instead = [&](packet_of_guest other) {
            packet = std::move(other);
            has_context_ = false; // what was made before is not given
        };
        const u64 own = chance() ? DATA : 0;
        switch (some(9)) {
        case 0: { // memory of somebody else, by its number; or behind the guest's last page
            line& bad = one();
            bad.low = chance() ? host_base + some(frames * page) : pages * page + some(1000);
            bad.high |= 1;
            break;
        }
        case 1: { // into a hole, or behind the last page
            line& bad = one();
            u64 hole = pages;
            for (u64 i = ring_pages; i < pages; ++i) {
                hole = m_->memory.frame_of[i] == nowhere && some(4) == 0 ? i : hole;
            }
            bad.low = hole * page - 10;
            bad.high = (bad.high & ~u64{0xFFFF}) | (11 + some(60));
            break;
        }
        case 2: { // legacy and data
            make_longer();
            u64& other = begin()->high;
            other = (other & DEXT) != 0 ? other & ~DEXT : (other & ~(u64{0xF} << 20)) | DATA;
            break;
        }
        case 3: { // a reserved type, or a context, in the middle
            make_longer();
            const u64 type = chance() ? 0 : 2 + some(14);
            packet.ring.insert(packet.ring.end() - 1, {0, DEXT | type << 20 | noise()});
            has_context_ = false;
            break;
        }
        case 4: // too short
            instead({.ring = {{place(16), own | some(9)}, {place(16), own | 1 | EOP | noise()}}});
            break;
        case 5: // too long
            instead({.ring = {{place(1), own | (own != 0 ? 0xF'FFFF : 0xFFFF) | EOP | noise()}}});
            break;
        case 6: instead(segmented(17 + some(1400), 1 + some(5))); break;
        case 7: instead(segmented(1 + some(16))); break;
        default: { // the end of the address space
            line& bad = one();
            bad.low = ~u64{0} - some(3);
            bad.high = (bad.high & ~u64{0xFFFF}) | (8 + some(60));
            break;
        }
        }
        packet.legal = false;
        return packet;
    }

    // ---------------------------------------------------------------------------- the guest's ring

    [[nodiscard]] u32 index(u64 number) const {
        return static_cast<u32>((first_ + number) % count_);
    }

    bool offer() {
        packet_of_guest packet = some(4) == 0 ? illegal() : legal();
        if (packet.ring.size() > count_ - 1 - (tail_ - head_)) {
            has_context_ = false;
            return false;
        }
        const u64 before = sent + expected_.size();
        for (std::size_t i = 0; i != packet.ring.size(); ++i) {
            const line& each = packet.ring[i];
            m_->put(index(tail_), each.low, each.high);
            const bool waits = packet.legal && i >= packet.contexts;
            in_ring_.push_back({(each.high & RS) != 0, waits                ? before + 1
                                                       : before == earlier_ ? 0
                                                                            : before});
            ++tail_;
        }
        if (packet.legal) {
            expected_.push_back(std::move(packet));
        }
        m_->shadow.write(TDT, index(tail_));
        return true;
    }

    void program(u64 base) {
        constexpr u32 counts[] = {32, 40, 64};
        count_ = counts[some(3)];
        first_ = some(count_);
        head_ = tail_ = taken_ = 0;
        in_ring_.clear();
        earlier_ = sent + expected_.size();
        base_ = base;
        m_->program(static_cast<u32>(base), count_, static_cast<u32>(first_));
    }

    // ------------------------------------------------------------------------------- what is right

    void after(const pt::e1000e::shadow_step& now) {
        taken_ += now.taken;
        dropped += now.dropped;
        with_nic_ += now.sent;
        for (u32 i = 0; i < now.done && !in_ring_.empty(); ++i) {
            const descriptor of = in_ring_.front();
            in_ring_.pop_front();
            if (m_->is_done(index(head_)) != of.reports) {
                blame("DD is where RS was not, or the other way round");
            }
            if (of.after > sent) {
                blame("a descriptor is done whose packet was not sent");
            }
            ++head_;
        }
        if (m_->shadow.read(TDH) != index(head_)) {
            blame("the head is not behind what is done");
        }
    }

    /// What the NIC has sent since the last time.
    void compare() {
        for (; seen_ != m_->device.sent_count; ++seen_) {
            if (expected_.empty() || with_nic_ == 0) {
                return blame("a packet that is none");
            }
            const auto& real = m_->device.sent[seen_ % 64];
            const packet_of_guest& packet = expected_.front();
            if (!std::equal(packet.bytes.begin(), packet.bytes.end(), real.bytes,
                            real.bytes + real.length)) {
                blame("other bytes");
            }
            const bool whole = real.pieces == 1; // the only piece is the first and the last
            if (real.first != (whole ? packet.first | packet.last : packet.first) ||
                real.last != (whole ? packet.first | packet.last : packet.last)) {
                blame("other fields");
            }
            if (real.offsets != packet.offsets || real.command != packet.command) {
                blame("another context");
            }
            ++sent;
            segmented_sent += (packet.command & TSE) != 0 ? 1 : 0;
            --with_nic_;
            expected_.pop_front();
        }
    }

    void check() {
        if (m_->device.fault != nullptr) {
            blame(m_->device.fault);
        }
        for (u32 i = 0; i < old_size_; ++i) {
            if (*m_->memory.at(old_base_ + i) != 0x5A) {
                old_size_ = 0;
                blame("a ring that is no longer there was written to");
            }
        }
    }

    // -------------------------------------------------------------------------------- what happens

    /// Changes descriptors that were read and are not done.
    void scribble() {
        for (u64 i = head_; i < taken_; ++i) {
            if (some(4) == 0) {
                m_->put(index(i), host_base + some(frames * page), random_() & ~DD);
            }
        }
    }

    /// Moves a page, if nobody but the guest has it.
    void revoke() {
        const u32 with_nic = m_->shadow.revoke();
        u32& frame = m_->memory.frame_of[1 + some(pages - 1)];
        const auto to = static_cast<u32>(some(frames));
        if (with_nic != 0 || frame == nowhere || m_->memory.belongs_to_guest(to)) {
            return;
        }
        u8* const bytes = m_->memory.bytes;
        std::copy_n(bytes + frame * page, page, bytes + to * page);
        std::fill_n(bytes + frame * page, page, u8{0xEE});
        frame = to;
        ++moves;
    }

    /// The driver begins anew, with another ring, and uses the memory of the old one.
    void start_anew() {
        ++resets;
        if (chance()) {
            m_->shadow.reset();
            m_->shadow.write(0x0000, vlan_mode_ ? 1U << 30 : 0U);
        } else {
            m_->shadow.write(TCTL, 0);
        }
        old_base_ = base_;
        old_size_ = count_ * 16;
        for (u32 i = 0; i < old_size_; ++i) {
            *m_->memory.at(old_base_ + i) = 0x5A;
        }
        expected_.resize(with_nic_); // what the NIC has will be sent, and nothing else
        has_context_ = false;
        program(base_ == page ? 20 * page : page);
    }

    std::mt19937_64 random_;
    std::unique_ptr<testbed> m_;
    std::deque<packet_of_guest> expected_{}; ///< legal packets that were not sent yet
    std::size_t with_nic_ = 0;               ///< of them, those that are in the real ring
    std::deque<descriptor> in_ring_{};       ///< those that are not done
    u64 earlier_ = 0;                        ///< packets that were given by rings before
    u64 first_ = 0;                          ///< index of descriptor 0
    u64 head_ = 0;
    u64 tail_ = 0;
    u64 taken_ = 0;
    u32 count_ = 0;
    u64 base_ = 0;
    u64 old_base_ = 0;
    u32 old_size_ = 0;
    u32 seen_ = 0;
    u64 offsets_ = 0; ///< of the guest's checksum context
    u64 command_ = 0;
    bool has_context_ = false;
    bool vlan_mode_ = chance();
    bool scribbles_ = chance();
    std::string wrong_{};
};

TEST_CASE("of random packets the legal ones are sent, each byte from the guest's memory",
          "[e1000e][random][rule 24][rule 25]") {
    u64 sent = 0;
    u64 segmented = 0;
    u64 dropped = 0;
    u64 resets = 0;
    u64 moves = 0;
    for (u64 seed = 1; seed <= 60; ++seed) {
        CAPTURE(seed);
        guest one{seed};
        for (unsigned turn = 0; turn < 600 && one.wrong().empty(); ++turn) {
            one.turn();
        }
        one.drain();
        REQUIRE(one.wrong() == no_fault);
        sent += one.sent;
        segmented += one.segmented_sent;
        dropped += one.dropped;
        resets += one.resets;
        moves += one.moves;
    }
    CHECK(sent > 10'000); // so that it tells something
    CHECK(segmented > 2'000);
    CHECK(dropped > 2'000);
    CHECK(resets > 30);
    CHECK(moves > 50);
}

} // namespace
