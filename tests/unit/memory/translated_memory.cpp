// SPDX-License-Identifier: BSL-1.0
#include "pt/memory/translated_memory.hpp"

#include "pt/core/archetype.hpp"

#include "../../paging_model/contract.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

namespace {

using pt::dma_access;
using pt::dma_piece;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::KiB;
using pt::result;

static_assert(
    pt::bus_memory<pt::translated_memory<pt::archetype::dma_translation, pt::identity_map>>);
static_assert(
    std::is_empty_v<pt::translated_memory<pt::archetype::dma_translation, pt::identity_map>>);

/// A host whose frames lie in memory in another order than their numbers have, and a device that
/// sees some of them at other addresses again. What it may do is in `rights`.
struct machine {
    static constexpr std::size_t frames = 16;
    static constexpr std::uint64_t host_base = 0x7'0000'0000;
    static constexpr std::uint64_t bus_base = 0x2'0000'0000; ///< of page 0
    enum : unsigned { nothing = 0, reading = 1, writing = 2 };

    alignas(4096) std::uint8_t bytes[frames * 4 * KiB];
    std::size_t frame_of[frames];
    unsigned rights[frames];
    std::uint64_t longest = ~std::uint64_t{0}; ///< piece
    std::vector<std::uint64_t> mapped{};       ///< frames that the map was asked for

    /// Where the frame with this number is in `bytes`.
    static constexpr std::size_t slot(std::size_t frame) { return frame * 5 % frames; }
    std::uint8_t& at(std::uint64_t address) {
        const std::uint64_t offset = address - bus_base;
        return bytes[slot(frame_of[offset / (4 * KiB)]) * 4 * KiB + offset % (4 * KiB)];
    }
};

struct translation {
    machine* of;
    result<dma_piece> translate(iova at, std::uint64_t size, dma_access how) const {
        const std::uint64_t number = (at.raw - machine::bus_base) / (4 * KiB);
        const unsigned needed = how == dma_access::read ? machine::reading : machine::writing;
        if (number >= machine::frames || (of->rights[number] & needed) == 0) {
            return error{errc::refused, at.raw};
        }
        // Frames whose numbers follow each other are one piece, though they do not lie together.
        std::uint64_t rest = 4 * KiB - at.offset_in(4 * KiB);
        for (std::uint64_t next = number + 1;
             next < machine::frames && (of->rights[next] & needed) != 0 &&
             of->frame_of[next] == of->frame_of[number] + (next - number);
             ++next) {
            rest += 4 * KiB;
        }
        rest = rest < size ? rest : size;
        return dma_piece{hpa{machine::host_base + of->frame_of[number] * 4 * KiB} +
                             at.offset_in(4 * KiB),
                         rest < of->longest ? rest : of->longest};
    }
};

struct map {
    machine* of;
    [[nodiscard]] std::uint64_t* pointer(hpa frame) const {
        of->mapped.push_back(frame.raw);
        return reinterpret_cast<std::uint64_t*>(
            of->bytes + machine::slot((frame.raw - machine::host_base) / (4 * KiB)) * 4 * KiB);
    }
};

TEST_CASE("bytes are read and written where the translation says, piece by piece",
          "[memory][dma]") {
    std::mt19937_64 random{7};
    const auto some = [&random](std::uint64_t count) { return random() % count; };
    machine host{};
    pt::translated_memory memory{translation{&host}, map{&host}};
    std::vector<std::uint8_t> model(machine::frames * 4 * KiB); // at the device's addresses
    std::size_t refused = 0;
    std::size_t whole = 0;
    for (unsigned round = 0; round < 300; ++round) {
        CAPTURE(round);
        if (round % 20 == 0) {
            const std::size_t first = some(machine::frames);
            const bool shuffled = some(2) == 0;
            for (std::size_t i = 0; i < machine::frames; ++i) {
                host.frame_of[i] = shuffled ? (first + 7 * i) % machine::frames : i;
                host.rights[i] = some(8) == 0 ? static_cast<unsigned>(some(4)) : 3U;
            }
            for (std::size_t i = 0; i < model.size(); ++i) {
                model[i] = host.at(machine::bus_base + i) = static_cast<std::uint8_t>(random());
            }
            constexpr std::uint64_t choices[] = {1, 100, 5000, ~std::uint64_t{0}};
            host.longest = choices[some(4)];
        }
        const std::uint64_t offset = some(model.size());
        const std::uint64_t size = some(some(2) == 0 ? 64 : 20'000);
        const bool writes = some(2) == 0;
        std::vector<std::uint8_t> buffer(size + 2, 0xA5);
        for (std::size_t i = 1; i <= size; ++i) {
            buffer[i] = static_cast<std::uint8_t>(random());
        }
        const std::vector<std::uint8_t> before = buffer;
        // The model: the first byte that is refused ends it.
        std::uint64_t end = offset;
        while (end != offset + size && end < model.size() &&
               (host.rights[end / (4 * KiB)] & (writes ? 2U : 1U)) != 0) {
            ++end;
        }
        const iova at{machine::bus_base + offset};
        const result<> done = writes ? memory.write(at, buffer.data() + 1, size)
                                     : memory.read(at, buffer.data() + 1, size);
        if (end == offset + size) {
            REQUIRE(done);
            ++whole;
        } else {
            REQUIRE(done == error{errc::refused, machine::bus_base + end});
            ++refused;
        }
        bool same = buffer.front() == 0xA5 && buffer.back() == 0xA5;
        for (std::uint64_t i = offset; i < end; ++i) {
            if (writes) {
                model[i] = before[i - offset + 1];
            } else {
                same = same && buffer[i - offset + 1] == model[i];
            }
        }
        for (std::size_t i = 0; i < model.size(); ++i) {
            same = same && model[i] == host.at(machine::bus_base + i);
        }
        REQUIRE(same);
    }
    CHECK(refused > 30); // so that it tells something
    CHECK(whole > 50);
    CHECK(std::all_of(host.mapped.begin(), host.mapped.end(), [](std::uint64_t frame) {
        return frame % (4 * KiB) == 0 && frame - machine::host_base < machine::frames * 4 * KiB;
    }));
}

struct anything {
    static result<dma_piece> translate(iova, std::uint64_t size, dma_access) {
        return dma_piece{hpa{machine::host_base}, size};
    }
};

TEST_CASE("bytes behind the last address are out of range, and none is copied", "[memory][dma]") {
    machine host{};
    pt::translated_memory memory{anything{}, map{&host}};
    std::uint8_t bytes[16] = {};
    constexpr std::uint64_t last = ~std::uint64_t{0};
    CHECK(memory.read(iova{last - 15}, bytes, 16));
    CHECK(memory.write(iova{last}, bytes, 1));
    CHECK(memory.read(iova{last}, bytes, 0));
    host.mapped.clear();
    CHECK(memory.read(iova{last - 14}, bytes, 16) == error{errc::out_of_range, 0});
    CHECK(memory.write(iova{last}, bytes, 2) == error{errc::out_of_range, 0});
    CHECK(host.mapped.empty());
}

TEST_CASE("no byte is no access", "[memory][dma]") {
    pt::translated_memory memory{pt::archetype::dma_translation{}, pt::identity_map{}};
    CHECK(memory.read(iova{5}, nullptr, 0));
    CHECK(memory.write(iova{5}, nullptr, 0));
    std::uint8_t byte = 0;
    CHECK(memory.read(iova{5}, &byte, 1) == error{errc::not_mapped, 5});
}

/// Gives so many bytes, whatever it is asked for.
struct wrong_size {
    std::uint64_t gives;
    result<dma_piece> translate(iova, std::uint64_t, dma_access) const {
        return dma_piece{hpa{machine::host_base}, gives};
    }
};

TEST_CASE("a translation that gives no byte, or too many, breaks the contract", "[memory][dma]") {
    machine host{};
    std::uint8_t bytes[8] = {};
    const auto reads = [&](std::uint64_t size) {
        pt::translated_memory memory{wrong_size{size}, map{&host}};
        return paging_model::breaks_contract([&] { (void)memory.read(iova{0}, bytes, 8); });
    };
    CHECK_FALSE(reads(8));
    CHECK(reads(9));
    CHECK(reads(0));
}

TEST_CASE("an identity map needs no more than the translation", "[memory][dma]") {
    alignas(4096) static std::uint8_t frame[4096];
    struct own {
        static result<dma_piece> translate(iova at, std::uint64_t size, dma_access) {
            return dma_piece{hpa{reinterpret_cast<std::uintptr_t>(frame) + at.raw}, size};
        }
    };
    pt::translated_memory memory{own{}, pt::identity_map{}};
    const std::uint8_t out[4] = {1, 2, 3, 4};
    REQUIRE(memory.write(iova{100}, out, 4));
    CHECK(frame[99] == 0);
    CHECK(frame[103] == 4);
    CHECK(frame[104] == 0);
    std::uint8_t in[4] = {};
    REQUIRE(memory.read(iova{100}, in, 4));
    CHECK(in[0] == 1);
}

} // namespace
