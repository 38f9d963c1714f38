// SPDX-License-Identifier: BSL-1.0
// The driver's ring on one thread and the device's engine on another, as guest and VMM are: between
// them are the ring's memory, the buffers, and the tail. A buffer that is reused too early, or a
// descriptor that is shown before it is whole, is a wrong frame here and a race to the thread
// sanitizer.
#include "bus.hpp"
#include "traffic.hpp"

#include "pt/core/policy.hpp"
#include "pt/e1000e/tx_engine.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

namespace {

using namespace pt::e1000e;
using pt::iova;
using pt::result;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t packets = 20'000;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::uint64_t packets = 20'000;
#else
constexpr std::uint64_t packets = 200'000;
#endif
#else
constexpr std::uint64_t packets = 200'000;
#endif

constexpr std::uint32_t TDT = 0x3818;

struct memory {
    shared_bus::ring* descriptors;
    shared_bus::buffers* data;

    result<> read(iova at, std::uint8_t* to, std::size_t count) {
        if (descriptors->contains(at.raw, count)) {
            descriptors->read(at.raw, to, count);
        } else if (data->contains(at.raw, count)) {
            std::memcpy(to, data->at(at.raw), count);
        } else {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        return {};
    }
    result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        if (!descriptors->contains(at.raw, count)) {
            return pt::error{pt::errc::refused, at.raw};
        }
        descriptors->write(at.raw, from, count);
        return {};
    }
};
using engine = tx_engine<memory>;

/// The tail goes to the other thread by itself; all other registers are written before that begins.
struct registers {
    engine* device;
    std::atomic<std::uint32_t>* tail;

    std::uint32_t read32(std::uint32_t offset) { return device->read(offset); }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write32(std::uint32_t offset, std::uint32_t value) {
        if (offset == TDT) {
            tail->store(value, std::memory_order_release);
        } else {
            device->write(offset, value);
        }
    }
    void write64(std::uint32_t, std::uint64_t) {}
};

struct outcome {
    std::uint64_t frames = 0;
    std::uint64_t wrong_frames = 0;
    std::uint64_t wrong_cookies = 0;
    std::uint64_t wrong_steps = 0;
    bool too_late = false;
};

outcome run(std::uint32_t count, tx_report report) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    shared_bus::ring descriptors{count, 0x10'0000'0000};
    shared_bus::buffers data{1U << 16, 0x20'0000'0000};
    std::vector<traffic::frames> wanted(count); // packet n in element n modulo count
    std::vector<std::uint64_t> buffers_end(count);
    const auto frame_buffer = std::make_unique<std::uint8_t[]>(2'048);
    engine device{{&descriptors, &data}, frame_buffer.get(), 2'048};
    std::vector<tx_slot> slots(count);
    std::atomic<std::uint32_t> tail{0};
    std::atomic<bool> finished{false};
    tx_settings settings;
    settings.report = report;
    tx_ring ring{registers{&device, &tail},
                 shared_bus::ring_memory{&descriptors},
                 shared_bus::order{},
                 descriptors.base(),
                 slots.data(),
                 count,
                 settings};
    outcome seen;
    if (!ring.start()) {
        seen.too_late = true;
        return seen;
    }

    std::thread other{[&] {
        traffic::random_numbers random{2};
        while (!finished.load(std::memory_order_relaxed)) {
            device.write(TDT, tail.load(std::memory_order_acquire));
            const tx_step done =
                device.step({.descriptors = 1 + random.up_to(60), .frames = 1 + random.up_to(60)},
                            [&](const std::uint8_t* frame, std::size_t length) {
                                seen.wrong_frames +=
                                    wanted[seen.frames % count].is(0, frame, length) ? 0 : 1;
                                ++seen.frames;
                                return true;
                            });
            seen.wrong_steps += done.fault.code != pt::errc::none || done.dropped != 0 ? 1 : 0;
            if (done.why == tx_stop::idle) {
                std::this_thread::yield();
            }
        }
    }};

    traffic::random_numbers random{3};
    traffic::packet packet;
    std::vector<std::uint8_t> bytes;
    std::uint64_t sent = 0;
    std::uint64_t back = 0;
    while (back != packets && !seen.too_late) {
        for (std::uint32_t left = random.up_to(40); left != 0 && sent != packets; --left) {
            if (ring.in_flight() + 2 >= count) {
                break; // the ring's end, and the slots' here
            }
            traffic::generate_plain(random, {.largest_frame = 1'514}, packet);
            if (packet.size < 20) {
                continue;
            }
            traffic::as_in_memory(packet, bytes);
            const std::uint64_t mark = data.mark();
            const std::uint64_t place = data.take(bytes.size());
            if (place == 0) {
                break;
            }
            std::memcpy(data.at(place), bytes.data(), bytes.size());
            traffic::on_the_wire(packet, wanted[sent % count]);
            buffers_end[sent % count] = data.mark();
            const std::uint32_t half = packet.size / 2;
            const fragment pieces[]{{iova{place}, half}, {iova{place + half}, packet.size - half}};
            const fragment whole{iova{place}, packet.size};
            const bool in_two = random.once_in(3);
            if (!ring.enqueue(in_two ? pieces : &whole, in_two ? 2 : 1, sent)) {
                data.undo(mark);
                break;
            }
            ++sent;
        }
        ring.advance_tail();
        ring.reclaim([&](std::uint64_t cookie) {
            seen.wrong_cookies += cookie == back ? 0 : 1;
            data.release(buffers_end[back % count]); // and overwrites them
            ++back;
        });
        if (ring.free_descriptors() < 2) {
            std::this_thread::yield();
        }
        seen.too_late = std::chrono::steady_clock::now() > deadline;
    }
    finished = true;
    other.join();
    return seen;
}

TEST_CASE("driver and device on two threads", "[e1000e][threads]") {
    for (const std::uint32_t count : {16U, 512U}) {
        for (const tx_report report :
             {tx_report::each_packet(), tx_report::every(7), tx_report::while_idle()}) {
            INFO(count << " descriptors, reports " << report.interval());
            const outcome seen = run(count, report);
            CHECK_FALSE(seen.too_late);
            CHECK(seen.frames == packets);
            CHECK(seen.wrong_frames == 0);
            CHECK(seen.wrong_cookies == 0);
            CHECK(seen.wrong_steps == 0);
        }
    }
}

} // namespace
