// SPDX-License-Identifier: BSL-1.0
// The device's sides of transmission and reception over real tables: a guest's EPT and a domain's
// second stage, whose pages lie apart, where some are missing and some may not be written.
#include "pt/e1000e/rx_engine.hpp"
#include "pt/e1000e/tx_engine.hpp"
#include "pt/memory/arena.hpp"
#include "pt/memory/translated_memory.hpp"
#include "pt/paging/table_translation.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

namespace {

using namespace pt;
using pt::e1000e::rx_engine;
using pt::e1000e::rx_outcome;
using pt::e1000e::tx_engine;
using pt::e1000e::tx_stop;
using bytes = std::vector<std::uint8_t>;

// Registers and bits of descriptors [82574].
constexpr std::uint32_t RCTL = 0x0100, RDBAL = 0x2800, RDLEN = 0x2808, RDH = 0x2810, RDT = 0x2818;
constexpr std::uint32_t TCTL = 0x0400, TDBAL = 0x3800, TDLEN = 0x3808, TDH = 0x3810, TDT = 0x3818;
constexpr std::uint32_t receives = 1U << 1 | 3U << 3 | 1U << 5 | 1U << 26; // EN UPE MPE LPE SECRC
constexpr std::uint32_t transmits = 1U << 1;                               // EN
constexpr std::uint64_t legacy = 0x0B00'0000;                              // EOP IFCS RS
constexpr std::uint64_t DD = 1ULL << 32, EOP = 1ULL << 33;                 // as received

// What the device sees, and where it lies: no two neighbours lie together.
constexpr std::uint64_t ring = 0x1'0000; // two pages: 512 descriptors
constexpr std::uint64_t buffers = 0x2'0000;
constexpr std::uint64_t read_only = 0x2'3000;
constexpr std::uint64_t missing = 0x2'4000;
constexpr std::uint64_t unreadable = 0x2'5000;
const std::map<std::uint64_t, std::uint64_t> places{
    {ring, 7 * GiB},
    {ring + 0x1000, 3 * GiB},
    {buffers, 5 * GiB},
    {buffers + 0x1000, 2 * GiB},
    {buffers + 0x2000, 9 * GiB},
    {read_only, 4 * GiB},
    {unreadable, 6 * GiB},
};

/// The frames, each in an allocation of its own; no others are reached.
struct host {
    std::map<std::uint64_t, std::vector<std::uint64_t>> frames;

    host() {
        for (const auto& [at, where] : places) {
            frames[where].resize(512);
        }
    }
    std::uint8_t& at(std::uint64_t address) {
        auto& frame = frames.at(places.at(address & ~0xFFFULL));
        return reinterpret_cast<std::uint8_t*>(frame.data())[address & 0xFFF];
    }
    void put(std::uint64_t address, const bytes& data) {
        for (const std::uint8_t byte : data) {
            at(address++) = byte;
        }
    }
    bytes get(std::uint64_t address, std::size_t count) {
        bytes data;
        for (; count != 0; --count) {
            data.push_back(at(address++));
        }
        return data;
    }
    void put64(std::uint64_t address, std::uint64_t value) {
        for (unsigned i = 0; i != 8; ++i) {
            at(address + i) = static_cast<std::uint8_t>(value >> 8 * i);
        }
    }
    std::uint64_t get64(std::uint64_t address) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i != 8; ++i) {
            value |= std::uint64_t{at(address + i)} << 8 * i;
        }
        return value;
    }
    void descriptor(std::uint32_t index, std::uint64_t low, std::uint64_t high,
                    std::uint64_t base = ring) {
        put64(base + 16 * index, low);
        put64(base + 16 * index + 8, high);
    }
    std::uint64_t status(std::uint32_t index, std::uint64_t base = ring) {
        return get64(base + 16 * index + 8);
    }
};
struct host_map {
    host* of;
    std::uint64_t* pointer(hpa frame) const { return of->frames.at(frame.raw).data(); }
};

/// Nobody walks these tables but the engines.
struct nobody {
    template <class Stale>
    constexpr result<void> invalidate(const Stale&) {
        return {};
    }
};

struct guest_memory { // of a VM
    using address = gpa;
    static constexpr auto ram = ept::ram;
    static constexpr ept::attributes read_only{.read = true, .type = ept::memory_type::write_back};
    static constexpr auto unreadable = ept::device_memory;
    static auto tables(arena<12>& frames) {
        return paging::table{frames.memory(), ept::format{ept::capabilities{0xF01'0673'4141}, 46}};
    }
};
struct domain { // of an assigned device
    using address = iova;
    using attributes = vtd::second_stage::attributes;
    static constexpr attributes ram{.read = true, .write = true};
    static constexpr attributes read_only{.read = true};
    static constexpr attributes unreadable{.write = true};
    static auto tables(arena<12>& frames) {
        return paging::table{
            frames.memory(),
            vtd::second_stage::format{{.levels = 4, .largest_page = paging::page_size::size_2m}},
            paging::coherent_publication{}};
    }
};

template <class Kit>
struct machine {
    using table = decltype(Kit::tables(std::declval<arena<12>&>()));
    using translation = decltype(paging::table_translation{std::declval<table&>()});
    using bus = translated_memory<translation, host_map>;

    host memory;
    arena<12> frames;
    table tables{Kit::tables(frames)};
    std::uint8_t frame[16'384];

    machine() {
        for (const auto& [at, where] : places) {
            map(at, at == ::read_only    ? Kit::read_only
                    : at == ::unreadable ? Kit::unreadable
                                         : Kit::ram);
        }
    }
    ~machine() {
        nobody hardware;
        (void)tables.retire().redeem(hardware);
    }
    template <class Attributes>
    void map(std::uint64_t at, Attributes how) {
        REQUIRE(tables.map({typename Kit::address{at}, 4 * KiB}, hpa{places.at(at)}, how));
    }
    void unmap(std::uint64_t at) {
        nobody hardware;
        auto owed = tables.unmap({typename Kit::address{at}, 4 * KiB});
        REQUIRE(owed);
        REQUIRE(owed->redeem(hardware));
    }
    bus device() { return {translation{tables}, {&memory}}; }
};

bytes some(std::size_t count) {
    static std::mt19937 random{1};
    bytes data(count);
    for (std::uint8_t& byte : data) {
        byte = static_cast<std::uint8_t>(random());
    }
    return data;
}

/// A transmitter over the tables, and what left it.
template <class Kit>
struct transmitter : machine<Kit> {
    tx_engine<typename machine<Kit>::bus> nic{this->device(), this->frame, sizeof this->frame};
    std::vector<bytes> frames_sent;

    transmitter(std::uint64_t base, std::uint32_t size, std::uint32_t head) {
        nic.write(TDBAL, static_cast<std::uint32_t>(base));
        nic.write(TDLEN, size);
        nic.write(TDH, head);
        nic.write(TDT, head);
        nic.write(TCTL, transmits);
    }
    auto step(std::uint32_t tail) {
        nic.write(TDT, tail);
        return nic.step({}, [&](const std::uint8_t* data, std::size_t length) {
            frames_sent.emplace_back(data, data + length);
            return true;
        });
    }
};

template <class Kit>
struct receiver : machine<Kit> {
    rx_engine<typename machine<Kit>::bus> nic{this->device()};

    receiver(std::uint64_t base, std::uint32_t size, std::uint32_t head) {
        nic.write(RDBAL, static_cast<std::uint32_t>(base));
        nic.write(RDLEN, size);
        nic.write(RDH, head);
        nic.write(RDT, head);
        nic.write(RCTL, receives); // buffers of 2,048 bytes
    }
    auto deliver(std::uint32_t tail, const bytes& data) {
        nic.write(RDT, tail);
        return nic.deliver(data.data(), data.size());
    }
};

TEMPLATE_TEST_CASE("a packet lies across pages that lie apart, and so does its ring",
                   "[e1000e][dma]", guest_memory, domain) {
    transmitter<TestType> m{ring, 8192, 255}; // the last descriptor of the first page
    const bytes data = some(9000);
    m.memory.put(buffers + 100, data);
    const bytes constant = some(200);
    m.memory.put(read_only + 0x300, constant); // to be read is enough
    m.memory.descriptor(255, buffers + 100, 9000 | legacy);
    m.memory.descriptor(256, read_only + 0x300, 200 | legacy);
    const auto done = m.step(257);
    CHECK(done.why == tx_stop::idle);
    CHECK(done.fault.code == errc::none);
    CHECK(m.frames_sent == std::vector<bytes>{data, constant});
    CHECK(m.memory.status(255) == (9000 | legacy | DD));
    CHECK(m.memory.status(256) == (200 | legacy | DD));
}

TEMPLATE_TEST_CASE("a packet of which a page is missing or not to be read is dropped",
                   "[e1000e][dma]", guest_memory, domain) {
    transmitter<TestType> m{ring, 8192, 0};
    const bytes data = some(100);
    m.memory.put(buffers, data);
    m.memory.descriptor(0, missing - 40, 100 | legacy);
    m.memory.descriptor(1, buffers, 100 | legacy);
    m.memory.descriptor(2, unreadable + 8, 100 | legacy);
    m.memory.descriptor(3, std::uint64_t{1} << 52, 100 | legacy);
    m.memory.descriptor(4, buffers, 100 | legacy);
    std::uint32_t tail = 0;
    for (const error& expected :
         {error{errc::not_mapped, missing}, error{}, error{errc::refused, unreadable + 8},
          error{errc::out_of_range, std::uint64_t{1} << 52}, error{}}) {
        const auto done = m.step(++tail);
        CHECK(done.why == tx_stop::idle);
        CHECK(done.fault == expected);
        CHECK(done.dropped == (expected.code == errc::none ? 0U : 1U));
        CHECK(m.memory.status(tail - 1) == (100 | legacy | DD));
    }
    CHECK(m.frames_sent == std::vector<bytes>{data, data});
}

TEMPLATE_TEST_CASE("a transmit ring that cannot be written or is missing stops, and goes on later",
                   "[e1000e][dma]", guest_memory, domain) {
    transmitter<TestType> m{read_only, 4096, 0};
    const bytes data = some(100);
    m.memory.put(buffers, data);
    m.memory.descriptor(0, buffers, 100 | legacy, read_only);
    for (int i = 0; i != 2; ++i) {
        const auto done = m.step(1);
        CHECK(done.why == tx_stop::memory_fault);
        CHECK(done.fault == error{errc::refused, read_only + 12});
        CHECK(m.nic.read(TDH) == 0);
        CHECK(m.memory.status(0, read_only) == (100 | legacy));
    }
    m.unmap(read_only);
    CHECK(m.step(1).fault == error{errc::not_mapped, read_only + 12});
    m.map(read_only, TestType::ram);
    CHECK(m.step(1).why == tx_stop::idle);
    CHECK(m.memory.status(0, read_only) == (100 | legacy | DD));
    CHECK(m.frames_sent == std::vector<bytes>{data}); // once

    m.unmap(read_only);
    m.memory.descriptor(1, buffers, 100 | legacy, read_only);
    const auto done = m.step(2);
    CHECK(done.why == tx_stop::memory_fault);
    CHECK(done.fault == error{errc::not_mapped, read_only + 16});
    CHECK(m.frames_sent.size() == 1);
}

TEMPLATE_TEST_CASE("a frame is put into buffers across pages that lie apart", "[e1000e][dma]",
                   guest_memory, domain) {
    receiver<TestType> m{ring, 8192, 255};
    const bytes data = some(3000);
    m.memory.descriptor(255, buffers + 0xC01, 0);
    m.memory.descriptor(256, buffers + 0x1FF0, 0);
    const auto done = m.deliver(257, data);
    CHECK(done.outcome == rx_outcome::taken);
    CHECK(done.descriptors == 2);
    bytes there = m.memory.get(buffers + 0xC01, 2048);
    const bytes rest = m.memory.get(buffers + 0x1FF0, 952);
    there.insert(there.end(), rest.begin(), rest.end());
    CHECK(there == data);
    CHECK((m.memory.status(255) & (0xFFFF | DD | EOP)) == (2048 | DD));
    CHECK((m.memory.status(256) & (0xFFFF | DD | EOP)) == (952 | DD | EOP));
    CHECK(m.memory.get(buffers + 0x1FF0 + 952, 64) == bytes(64)); // and nothing behind it
}

TEMPLATE_TEST_CASE("a frame whose buffer is missing or not to be written is not taken",
                   "[e1000e][dma]", guest_memory, domain) {
    receiver<TestType> m{ring, 8192, 0};
    const bytes data = some(100);
    struct wrong {
        std::uint64_t buffer;
        error expected;
    };
    for (const wrong& each : {wrong{read_only + 16, {errc::refused, read_only + 16}},
                              wrong{read_only - 40, {errc::refused, read_only}},
                              wrong{missing, {errc::not_mapped, missing}},
                              wrong{read_only - 0x1000 + 0xFFF, {errc::refused, read_only}}}) {
        m.memory.descriptor(0, each.buffer, 0);
        const auto done = m.deliver(1, data);
        CHECK(done.outcome == rx_outcome::memory_fault);
        CHECK(done.fault == each.expected);
        CHECK(m.nic.read(RDH) == 0);
        CHECK(m.memory.status(0) == 0);
    }
    CHECK(m.memory.get(read_only, 4096) == bytes(4096));
    m.memory.descriptor(0, buffers, 0); // the guest has a better one
    CHECK(m.deliver(1, data).outcome == rx_outcome::taken);
    CHECK(m.memory.get(buffers, 100) == data);
}

TEMPLATE_TEST_CASE("a receive ring that cannot be written or is missing takes nothing",
                   "[e1000e][dma]", guest_memory, domain) {
    receiver<TestType> m{read_only, 4096, 0};
    const bytes data = some(100);
    m.memory.descriptor(0, buffers, 0, read_only);
    const auto done = m.deliver(1, data);
    CHECK(done.outcome == rx_outcome::memory_fault);
    CHECK(done.fault == error{errc::refused, read_only + 8});
    CHECK(m.memory.status(0, read_only) == 0);
    m.unmap(read_only);
    CHECK(m.deliver(1, data).fault == error{errc::not_mapped, read_only});
    CHECK(m.nic.read(RDH) == 0);
    m.map(read_only, TestType::ram);
    CHECK(m.deliver(1, data).outcome == rx_outcome::taken);
    CHECK((m.memory.status(0, read_only) & (0xFFFF | DD | EOP)) == (100 | DD | EOP));
}

} // namespace
