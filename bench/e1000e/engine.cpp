// SPDX-License-Identifier: BSL-1.0
// The device's side of transmission: packets of 64 bytes from a guest's memory behind an EPT in
// 4-KiB pages. Each costs three translations: of its descriptor, its bytes and its status.
#include "../flavours/row.hpp"
#include "../paging/tables.hpp"

#include "pt/core/address.hpp"
#include "pt/e1000e/tx_engine.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/translated_memory.hpp"
#include "pt/paging/table_translation.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace bench {
namespace {

constexpr std::uint32_t descriptors = 256;
constexpr std::uint32_t packets = 16 * (descriptors - 1); // one descriptor stays free
constexpr std::size_t packet_size = 64;
constexpr std::size_t buffer_distance = 2048;
constexpr std::size_t guest_size = 4096 + descriptors * buffer_distance;

/// A guest's memory: a ring in its first page, and a buffer for each descriptor behind it.
class guest {
public:
    guest() {
        for (std::size_t i = 0; i != guest_size; ++i) {
            memory_[i] = static_cast<std::uint8_t>(i * 7);
        }
    }

protected:
    [[nodiscard]] const std::uint8_t* packet(std::uint32_t n) const {
        return memory_ + buffer_of(n);
    }
    static constexpr std::size_t buffer_of(std::uint32_t n) { return 4096 + n * buffer_distance; }

    alignas(4096) std::uint8_t memory_[guest_size];
};

class copy_64b : public guest {
public:
    explicit copy_64b(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        for (std::uint32_t i = 0; i != packets; ++i) {
            __builtin_memcpy(frame_, packet(i % descriptors), packet_size);
            keep(frame_);
        }
        return true;
    }
    bool undo() { return true; }

private:
    alignas(64) std::uint8_t frame_[packet_size]{};
};

class engine_64b : public guest {
public:
    explicit engine_64b(const region& all)
        : ept_{all, ept_format}, engine_{{translation{ept_.tables}, {}}, frame_, sizeof frame_} {
        ept_.require(ept_.map(0, guest_size, reinterpret_cast<std::uintptr_t>(memory_),
                              pt::ept::ram, page_size::size_4k));
        for (std::uint32_t i = 0; i != descriptors; ++i) {
            const std::uint64_t address = buffer_of(i);
            // EOP, IFCS and RS: each packet is reported.
            const std::uint64_t command = packet_size | 0x0B00'0000;
            __builtin_memcpy(memory_ + std::size_t{16} * i, &address, 8);
            __builtin_memcpy(memory_ + std::size_t{16} * i + 8, &command, 8);
        }
        engine_.write(0x3808, 16 * descriptors); // TDLEN
        engine_.write(0x0400, 1U << 1);          // TCTL.EN
    }
    [[nodiscard]] bool ready() const { return ept_.ready(); }
    bool run(unsigned) {
        std::uint32_t sent = 0;
        for (std::uint32_t batch = 0; batch != packets / (descriptors - 1); ++batch) {
            tail_ = (tail_ + descriptors - 1) % descriptors;
            engine_.write(0x3818, tail_); // TDT
            const pt::e1000e::tx_step done =
                engine_.step({.descriptors = descriptors, .frames = descriptors},
                             [](const std::uint8_t* frame, std::size_t length) {
                                 keep(frame);
                                 return length == packet_size;
                             });
            sent += done.frames;
        }
        return sent == packets;
    }
    bool undo() { return true; }

private:
    using translation = decltype(pt::paging::table_translation{std::declval<ept_table&>()});
    using memory_of_guest = pt::translated_memory<translation, pt::identity_map>;

    tree<> ept_;
    alignas(64) std::uint8_t frame_[2048]{};
    pt::e1000e::tx_engine<memory_of_guest> engine_;
    std::uint32_t tail_ = 0;
};

} // namespace

void add_e1000e_engine_rows(add_row add) {
    constexpr std::size_t frames = 64; // of tables
    add(row_of<copy_64b>::make("floor_copy_64b", packets, 64, frames));
    add(row_of<engine_64b>::make("e1000e_engine_64b", packets, 64, frames));
}

} // namespace bench
