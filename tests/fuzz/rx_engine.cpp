// SPDX-License-Identifier: BSL-1.0
//
// A guest that writes to the registers and its ring whatever the bytes say, also while the engine
// reads it, and frames of any bytes. The work for a frame is bounded; a frame that is not taken
// moves the head past no buffer; what is written lies in the ring or in the buffers that the ring
// named.
#include "reader.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/rx_engine.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {

using namespace pt::e1000e;
using fuzz::demand;
using fuzz::reader;
using pt::iova;

constexpr std::size_t memory_size = 1U << 15;

struct guest {
    reader* input;
    std::unique_ptr<std::uint8_t[]> bytes = std::make_unique<std::uint8_t[]>(memory_size);
    std::uint64_t base = 0;
    bool restless = false;                ///< it writes while it is read
    std::uint64_t writable = memory_size; ///< bytes that the device may write
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;
    std::uint64_t written_bytes = 0;

    // Addresses that descriptors named during this delivery.
    static constexpr std::size_t most = 128;
    std::uint64_t named[most]{};
    std::size_t names = 0;
    std::uint64_t ring = 0;
    std::uint64_t ring_size = 0;
    std::uint64_t buffer_size = 0;

    [[nodiscard]] bool contains(iova at, std::size_t count) const {
        return count <= memory_size && at.raw - base <= memory_size - count;
    }
    void scribble() {
        const std::size_t at = input->number(2) % memory_size;
        bytes[at] = input->byte();
    }
    pt::result<> read(iova at, std::uint8_t* to, std::size_t count) {
        ++reads;
        demand(count == 16 && at.raw - ring <= ring_size - 16 && names < most);
        if (!contains(at, count)) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        std::memcpy(to, &bytes[at.raw - base], count);
        std::memcpy(&named[names++], to, 8);
        if (restless) {
            scribble();
        }
        return {};
    }
    pt::result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        ++writes;
        written_bytes += count;
        bool right = at.raw - ring < ring_size && count <= ring_size - (at.raw - ring);
        for (std::size_t i = 0; i < names && !right; ++i) {
            right = at.raw - named[i] < buffer_size && count <= buffer_size - (at.raw - named[i]);
        }
        demand(right);
        if (!contains(at, count) || at.raw - base >= writable) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        std::memcpy(&bytes[at.raw - base], from, count);
        return {};
    }
};
struct guest_memory {
    guest* of;
    pt::result<> read(iova at, std::uint8_t* to, std::size_t count) {
        return of->read(at, to, count);
    }
    pt::result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        return of->write(at, from, count);
    }
};

/// A frame that may be IP, in an allocation of its own.
std::size_t make_frame(reader& input, std::unique_ptr<std::uint8_t[]>& frame) {
    const std::size_t length = input.number(2) % (input.byte() < 240 ? 400 : 17'000);
    frame = std::make_unique<std::uint8_t[]>(length);
    for (std::size_t i = 0; i < length && i < 100 && input.left != 0; ++i) {
        frame[i] = input.byte();
    }
    const auto put = [&](std::size_t at, std::uint32_t value) {
        if (at + 2 <= length) {
            frame[at] = static_cast<std::uint8_t>(value >> 8);
            frame[at + 1] = static_cast<std::uint8_t>(value);
        }
    };
    const std::uint8_t kind = input.byte();
    const std::size_t type_at = (kind & 1) != 0 ? 16 : 12;
    if (type_at == 16) {
        put(12, 0x8100);
    }
    switch (kind >> 1 & 3) {
    case 0:
        put(type_at, 0x0800);
        put(type_at + 2, 0x4500U | (kind >> 4));
        put(type_at + 4, static_cast<std::uint32_t>(length - type_at - 2));
        put(type_at + 10, (kind & 8) != 0 ? 0x4006 : 0x4011);
        put(type_at + 34, 0x5010); // a TCP acknowledgement
        break;
    case 1: put(type_at, 0x86DD); break;
    case 2:
        put(type_at, 46);
        put(type_at + 2, 0xAAAA);
        put(type_at + 4, 0x0300);
        put(type_at + 6, 0);
        break;
    default: break;
    }
    return length;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    reader input{bytes, size};
    guest memory{&input};
    const std::uint8_t where = input.byte();
    memory.base = where % 4 == 0   ? 0
                  : where % 4 == 1 ? std::uint64_t{0} - memory_size
                                   : std::uint64_t{where} << 32;
    memory.restless = (where & 128) != 0;
    const auto number = (where & 64) != 0 ? queue::second : queue::first;
    rx_engine engine{guest_memory{&memory}, number};

    // A ring that works, most of the time; it accepts all frames.
    const std::uint32_t of_queue = number == queue::second ? 0x100 : 0;
    const auto ring = [&](std::uint32_t offset, std::uint64_t value) {
        engine.write(offset + of_queue, static_cast<std::uint32_t>(value));
    };
    ring(0x2800, memory.base);
    ring(0x2804, memory.base >> 32);
    ring(0x2808, 128U * (1 + input.byte() % 16));
    engine.write(0x0000, std::uint32_t{input.byte()} << 24 & 1U << 30);
    engine.write(0x0100, 0x803A | std::uint32_t{input.byte()} << 16);
    engine.write(0x5008, std::uint32_t{input.byte()} << 8 & 0x8000);

    while (input.left != 0) {
        const std::uint8_t what = input.byte();
        switch (what & 7) {
        case 0: { // a register
            constexpr std::uint32_t offsets[]{0x0000, 0x0038, 0x0100, 0x2800, 0x2804, 0x2808,
                                              0x2810, 0x2818, 0x2820, 0x2828, 0x282C, 0x2C00,
                                              0x5000, 0x5008, 0x5200, 0x5400, 0x5404, 0x5600};
            const std::uint32_t offset = offsets[(what >> 3) % 18] + input.byte() % 2 * 0x100U;
            engine.write(offset, static_cast<std::uint32_t>(input.number(4)));
            break;
        }
        case 1:
            engine.write(static_cast<std::uint32_t>(input.number(4)),
                         static_cast<std::uint32_t>(input.number(4)));
            demand(engine.owns(what) || engine.read(what) == 0);
            break;
        case 2: { // a descriptor with a buffer
            const std::uint64_t buffer = memory.base + input.number(2) % memory_size;
            std::memcpy(&memory.bytes[std::size_t{16} * (input.byte() % 128)], &buffer, 8);
            break;
        }
        case 3: { // many of them
            const std::uint64_t from = input.number(2);
            for (std::uint64_t i = 0; i < 128; ++i) {
                const std::uint64_t buffer = memory.base + (from + i * 2'048) % memory_size;
                std::memcpy(&memory.bytes[std::size_t{16} * i], &buffer, 8);
            }
            break;
        }
        case 4:
            memory.scribble();
            memory.writable = (what & 0xF0) == 0xF0 ? input.number(2) : memory.writable;
            break;
        case 5: ring(0x2818, input.byte()); break;
        default: {
            std::unique_ptr<std::uint8_t[]> frame;
            const std::size_t length = make_frame(input, frame);
            memory.reads = memory.writes = memory.written_bytes = memory.names = 0;
            memory.ring = engine.registers().base().raw;
            memory.ring_size = std::uint64_t{16} * engine.registers().count();
            memory.buffer_size = engine.registers().buffer_size();
            const std::uint32_t head = engine.registers().head();
            const std::uint32_t count = engine.registers().count();
            const std::uint32_t available =
                engine.registers().valid() ? engine.registers().available() : 0;
            const rx_delivery done = engine.deliver(frame.get(), length);
            const std::uint64_t looked_at = memory.reads;
            demand(looked_at <= 96 && looked_at <= available);
            demand(memory.writes <= 4 * looked_at + 4);
            demand(memory.written_bytes <= length + 64 + 24 * looked_at);
            demand(done.descriptors <= looked_at);
            if (looked_at != 0) {
                demand(engine.registers().head() == (head + done.descriptors) % count);
            } else {
                demand(engine.registers().head() == head);
            }
            demand((done.outcome == rx_outcome::memory_fault) ==
                   (done.fault.code != pt::errc::none));
            switch (done.outcome) {
            case rx_outcome::taken:
                demand(done.descriptors != 0);
                demand(((done.causes.raw | done.delayed.raw) & 1U << 7) != 0);
                break;
            case rx_outcome::no_descriptors:
                demand((done.causes.raw & 1U << 6) != 0);
                for (std::uint32_t i = 0; i < done.descriptors; ++i) {
                    demand(memory.named[i] == 0);
                }
                break;
            case rx_outcome::memory_fault: demand(done.descriptors == 0); break;
            default: demand(looked_at == 0 && memory.writes == 0); break;
            }
            break;
        }
        }
    }
    return 0;
}
