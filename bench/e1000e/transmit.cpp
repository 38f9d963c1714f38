// SPDX-License-Identifier: BSL-1.0
// The driver's transmit path without a device: registers and ring are ordinary memory, and a
// descriptor reads as done as soon as it is looked at. The floors are the stores that the device needs
// to see in any case: 16 bytes for each descriptor, then the tail.
#include "../flavours/row.hpp"

#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <cstddef>
#include <cstdint>
#include <new>

namespace bench {
namespace {

using pt::e1000e::fragment;
using pt::e1000e::tx_packet;
using pt::e1000e::tx_report;

constexpr std::uint32_t ring_size = 256;
constexpr std::uint32_t batch = 32;
constexpr std::uint64_t times = 4096;
constexpr std::uint32_t tail_register = 0x3818;

/// A window of registers in memory.
struct registers {
    volatile std::uint32_t* window;
    std::uint32_t read32(std::uint32_t offset) { return window[offset / 4]; }
    void write32(std::uint32_t offset, std::uint32_t value) { window[offset / 4] = value; }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write64(std::uint32_t, std::uint64_t) {}
};

/// Ordinary memory. DD is set on the way of a real load, so that no time is spent on playing the
/// device.
struct done_at_once {
    std::uint64_t* ring;
    std::uint64_t read64(std::uint32_t offset) {
        return __atomic_load_n(at(offset), __ATOMIC_RELAXED) | 1ULL << 32;
    }
    void write64(std::uint32_t offset, std::uint64_t value) { *at(offset) = value; }

    [[nodiscard]] std::uint64_t* at(std::uint32_t offset) const {
        return reinterpret_cast<std::uint64_t*>(reinterpret_cast<char*>(ring) + offset);
    }
};

/// x86: stores to write-back memory are seen before a later store to uncached memory.
struct compiler_order {
    void release() { asm volatile("" : : : "memory"); }
    void acquire() { asm volatile("" : : : "memory"); }
};

class nic_memory {
public:
    explicit nic_memory(const region& all)
        : ring_{all.entries},
          window_{reinterpret_cast<volatile std::uint32_t*>(all.entries + std::size_t{2} * 4096)},
          slots_{new (all.entries + slots_at) pt::e1000e::tx_slot[ring_size]} {
        for (std::uint32_t i = 0; i != 2 * ring_size; ++i) {
            ring_[i] = 0;
        }
        for (std::uint32_t i = 0; i != 0x5000 / 4; ++i) {
            window_[i] = 0;
        }
    }
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    // Half a page apart in their pages: a load waits for a store of shortly before that has the same
    // offset in another page.
    static constexpr std::size_t slots_at = std::size_t{16} * 512 + 256;

    std::uint64_t* ring_;
    volatile std::uint32_t* window_;
    pt::e1000e::tx_slot* slots_;
};
constexpr std::size_t frames = 64;

/// A started ring on it. Each run has its own, a local object, as `at` in the floors is one: what the
/// compiler can keep in registers, it may.
class transmission : public nic_memory {
public:
    using nic_memory::nic_memory;

protected:
    using ring = pt::e1000e::tx_ring<registers, done_at_once, compiler_order>;
    ring make(tx_report report) {
        window_[0x400 / 4] = 0; // the transmitter is disabled
        return ring{{window_}, {ring_},           {}, pt::iova{0x1'0000}, slots_,
                    ring_size, {.report = report}};
    }
};

class send_batch : public transmission {
public:
    send_batch(const region& all, tx_report report) : transmission{all}, report_{report} {
        for (std::uint32_t i = 0; i != batch; ++i) {
            packets_[i] = {pt::iova{unknown(4096 + i * std::uint64_t{2048})},
                           static_cast<std::uint32_t>(unknown(60)), i};
        }
    }
    [[gnu::flatten]] bool run(unsigned) {
        ring nic = make(report_);
        if (!nic.start()) {
            return false;
        }
        std::uint64_t cookies = 0;
        std::uint64_t sent = 0;
        for (std::uint64_t i = 0; i != times; ++i) {
            sent += nic.send_all(packets_, batch).sent;
            nic.reclaim([&](std::uint64_t cookie) { cookies += cookie; });
        }
        return sent == times * batch && cookies == times * (batch * (batch - 1) / 2);
    }

private:
    tx_report report_;
    tx_packet packets_[batch]{};
};
/// One report for all of the batch.
class send_batch_reported_once : public send_batch {
public:
    explicit send_batch_reported_once(const region& all) : send_batch{all, tx_report::every(32)} {}
};
class send_batch_reported_each : public send_batch {
public:
    explicit send_batch_reported_each(const region& all)
        : send_batch{all, tx_report::each_packet()} {}
};

class send_single : public transmission {
public:
    using transmission::transmission;
    [[gnu::flatten]] bool run(unsigned) {
        ring nic = make(tx_report::each_packet());
        if (!nic.start()) {
            return false;
        }
        std::uint64_t cookies = 0;
        std::uint64_t sent = 0;
        const pt::iova address{unknown(2048)};
        const auto length = static_cast<std::uint32_t>(unknown(60));
        for (std::uint64_t i = 0; i != times * batch; ++i) {
            sent += nic.send({{address, length}}, 1).has_value() ? 1 : 0;
            nic.reclaim([&](std::uint64_t cookie) { cookies += cookie; });
        }
        return sent == times * batch && cookies == sent;
    }
};

/// One large packet of 16 fragments, which the NIC cuts into segments: a context descriptor and 16
/// data descriptors.
class send_segments : public transmission {
public:
    explicit send_segments(const region& all) : transmission{all} {
        pieces_[0] = {pt::iova{unknown(0x1000)}, 54};
        for (std::uint32_t i = 1; i != 16; ++i) {
            pieces_[i] = {pt::iova{unknown(i * std::uint64_t{8192})},
                          static_cast<std::uint32_t>(unknown(4096))};
        }
        const auto offload = pt::e1000e::tx_offload::segmentation({}, 54, 1460);
        if (offload) {
            request_.offload = *offload;
        }
    }
    [[gnu::flatten]] bool run(unsigned) {
        ring nic = make(tx_report::each_packet());
        if (!nic.start()) {
            return false;
        }
        std::uint64_t sent = 0;
        std::uint64_t back = 0;
        for (std::uint64_t i = 0; i != times; ++i) {
            sent += nic.send(pieces_, 16, i, request_).has_value() ? 1 : 0;
            back += nic.reclaim([](std::uint64_t) {});
        }
        return sent == times && back == times;
    }

private:
    fragment pieces_[16]{};
    pt::e1000e::tx_request request_{};
};

/// A plain loop over 16-byte descriptors, then the tail.
template <std::uint32_t Descriptors>
class store16 : public nic_memory {
public:
    using nic_memory::nic_memory;
    [[gnu::flatten]] bool run(unsigned) {
        auto* const ring = reinterpret_cast<descriptor*>(ring_);
        volatile std::uint32_t* const tail = window_ + tail_register / 4;
        const std::uint64_t rounds = Descriptors == 1 ? times * batch : times;
        const std::uint64_t command = unknown(0x0B00'003C);
        std::uint32_t at = 0;
        for (std::uint64_t i = 0; i != rounds; ++i) {
            for (std::uint64_t packet = 0; packet != Descriptors; ++packet) {
                ring[at] = {4096 + packet * 2048, command};
                at = at + 1 == ring_size ? 0 : at + 1;
            }
            asm volatile("" : : : "memory");
            *tail = at;
        }
        return true;
    }

private:
    struct [[gnu::may_alias]] descriptor {
        std::uint64_t address;
        std::uint64_t command;
    };
};

} // namespace

void add_e1000e_transmit_rows(add_row add) {
    add(row_of<store16<batch>>::make("floor_store16_batch32", times, 40, frames));
    add(row_of<send_batch_reported_once>::make("e1000e_send_reclaim_batch32", times, 40, frames));
    add(row_of<send_batch_reported_each>::make("e1000e_send_reclaim_batch32_each_reported", times,
                                               40, frames));
    add(row_of<store16<1>>::make("floor_store16_single", times * batch, 40, frames));
    add(row_of<send_single>::make("e1000e_send_reclaim_single", times * batch, 40, frames));
    add(row_of<store16<17>>::make("floor_store16_17", times, 40, frames));
    add(row_of<send_segments>::make("e1000e_tso_16_fragments", times, 40, frames));
}

} // namespace bench
