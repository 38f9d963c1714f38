// SPDX-License-Identifier: BSL-1.0
//
// A guest that writes to the registers, its ring and its buffers whatever the bytes say, also while
// the engine reads them. A step does no more work than its budget allows, frames fit the buffer
// (around which the sanitizer stands), and nothing is written to the guest but the status of
// descriptors.
#include "reader.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/tx_engine.hpp"

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
    std::uint64_t read_bytes = 0;
    std::uint64_t writes = 0;

    [[nodiscard]] bool contains(iova at, std::size_t count) const {
        return count <= memory_size && at.raw - base <= memory_size - count;
    }
    void scribble() {
        const std::size_t at = input->number(2) % memory_size;
        bytes[at] = input->byte();
    }
    pt::result<> read(iova at, std::uint8_t* to, std::size_t count) {
        ++reads;
        read_bytes += count;
        if (!contains(at, count)) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        std::memcpy(to, &bytes[at.raw - base], count);
        if (restless) {
            scribble();
        }
        return {};
    }
    pt::result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        ++writes;
        demand(count == 1 && at.raw % 16 == 12 && (*from & 1) != 0);
        if (!contains(at, count) || at.raw - base >= writable) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        bytes[at.raw - base] = *from;
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

/// A descriptor that is more likely to mean something than 16 bytes of anything; often just at the
/// limits, where `capacity` is the engine's.
void put_descriptor(reader& input, guest& memory, std::size_t at, std::size_t capacity) {
    const std::uint8_t kind = input.byte();
    const std::uint64_t at_limit = capacity - 12 + input.byte() % 16;
    const std::uint64_t size = (kind & 4) != 0 ? at_limit : input.number(2) % 2048;
    std::uint64_t low = memory.base + input.number(2) % memory_size;
    std::uint64_t high = std::uint64_t{input.byte()} << 24; // the command
    constexpr std::uint64_t extended = 1U << 29;
    switch (kind & 3) {
    case 0: { // legacy
        const std::uint64_t checksum_at = (kind & 8) != 0 ? size - 1 : input.byte();
        high = (high & ~extended) | size | (checksum_at & 0xFF) << 16 |
               std::uint64_t{input.byte()} << 40 | input.number(2) << 48;
        break;
    }
    case 1: // data
        high |=
            extended | 1U << 20 | size | std::uint64_t{input.byte()} << 40 | input.number(2) << 48;
        break;
    case 2: { // context
        low = input.number(8);
        const std::uint64_t header = input.byte();
        const std::uint64_t segment = (kind & 4) != 0 ? at_limit - header : input.number(2);
        high |= extended | input.number(kind >> 4 & 3) | header << 40 | segment << 48;
        break;
    }
    default:
        low = (kind & 8) != 0 ? input.number(8) : low;
        high = input.number(8);
        break;
    }
    std::memcpy(&memory.bytes[at], &low, 8);
    std::memcpy(&memory.bytes[at + 8], &high, 8);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    reader input{bytes, size};
    guest memory{&input};
    // At the start of the address space, at its end, or somewhere.
    const std::uint8_t where = input.byte();
    memory.base = where % 4 == 0   ? 0
                  : where % 4 == 1 ? std::uint64_t{0} - memory_size
                                   : std::uint64_t{where} << 32;
    memory.restless = (where & 128) != 0;
    const std::size_t capacity = 64 + input.number(2) % ((where & 32) != 0 ? 256 : 9'000);
    const auto number = (where & 64) != 0 ? queue::second : queue::first;
    const auto buffer = std::make_unique<std::uint8_t[]>(capacity);
    tx_engine engine{guest_memory{&memory}, buffer.get(), capacity, number};

    // A ring that works, most of the time.
    const std::uint32_t of_queue = number == queue::second ? 0x100 : 0;
    const auto ring = [&](std::uint32_t offset, std::uint64_t value) {
        engine.write(offset + of_queue, static_cast<std::uint32_t>(value));
    };
    ring(0x3800, memory.base);
    ring(0x3804, memory.base >> 32);
    ring(0x3808, 128U * (1 + input.byte() % 16));
    engine.write(0x0000, 1U << 30);
    engine.write(0x0400, 0xA);

    while (input.left != 0) {
        const std::uint8_t what = input.byte();
        switch (what & 7) {
        case 0: { // a register
            constexpr std::uint32_t offsets[]{0x0000, 0x0038, 0x0400, 0x3800, 0x3804, 0x3808,
                                              0x3810, 0x3818, 0x3820, 0x3828, 0x382C, 0x3840};
            const std::uint32_t offset = offsets[(what >> 3) % 12] + input.byte() % 2 * 0x100U;
            engine.write(offset, static_cast<std::uint32_t>(input.number(4)));
            break;
        }
        case 1:
            engine.write(static_cast<std::uint32_t>(input.number(4)),
                         static_cast<std::uint32_t>(input.number(4)));
            demand(engine.owns(what) || engine.read(what) == 0);
            break;
        case 2:
        case 3: // descriptors from the start of the memory on
            put_descriptor(input, memory, std::size_t{16} * (input.byte() % 128), capacity);
            break;
        case 4:
            memory.scribble();
            memory.writable = (what & 0xF0) == 0xF0 ? input.number(2) : memory.writable;
            break;
        case 5: ring(0x3818, input.byte()); break;
        default: {
            const tx_budget budget{.descriptors = input.byte() % 80U, .frames = input.byte() % 80U};
            const std::uint8_t refused_after = what >> 3;
            memory.reads = memory.read_bytes = memory.writes = 0;
            const std::uint32_t head = engine.registers().head();
            const std::uint32_t count = engine.registers().count();
            std::uint32_t frames = 0;
            bool refused = false;
            const tx_step done =
                engine.step(budget, [&](const std::uint8_t* frame, std::size_t length) {
                    demand(!refused && length != 0 && length <= capacity);
                    demand(frame >= buffer.get() && frame + length <= buffer.get() + capacity);
                    refused = refused_after != 0 && frames + 1 == refused_after;
                    frames += refused ? 0 : 1;
                    return !refused;
                });
            demand(done.frames == frames && frames <= budget.frames);
            demand(done.descriptors <= budget.descriptors);
            demand(done.dropped <= done.descriptors + 1 && done.malformed <= done.descriptors + 1);
            demand((done.why == tx_stop::refused) == refused);
            demand(done.why != tx_stop::memory_fault || done.fault.code != pt::errc::none);
            const std::uint64_t units = std::uint64_t{done.descriptors} + done.frames + 2;
            demand(memory.reads <= 3 * units && memory.writes <= units);
            demand(memory.read_bytes <= units * (capacity + 256));
            if (done.why == tx_stop::disabled || done.why == tx_stop::bad_ring) {
                demand(memory.reads == 0 && frames == 0 && done.descriptors == 0);
            } else {
                demand(engine.registers().valid());
                demand(engine.registers().head() == (head + done.descriptors) % count);
            }
            demand(engine.has_work() || done.why == tx_stop::idle ||
                   done.why == tx_stop::disabled || done.why == tx_stop::bad_ring);
            break;
        }
        }
    }
    return 0;
}
