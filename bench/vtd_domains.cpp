// SPDX-License-Identifier: BSL-1.0
// What pages cost that are taken away from a device one by one, against one invalidation for all of
// them, and what it costs to put a function through a guest's tables and to take it back. The unit
// answers at once: the head follows the tail, the status of a wait is there when the tail is
// written, and GCMD is GSTS. So this is what the processor does; hardware's own time is no part of
// it.

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

namespace {

constexpr std::size_t frame_count = 64;

struct alignas(4096) machine {
    std::uint64_t frames[frame_count][512] = {};
    std::uint64_t registers[512] = {};
    std::size_t allocated = 0;
    std::size_t free[frame_count] = {};
    std::size_t free_count = 0;
};

/// The unit: CAP and ECAP as QEMU has them.
struct instant_unit {
    machine* m;

    std::uint32_t read32(std::uint32_t offset) {
        const std::uint32_t at = offset == 0x1C ? 0x18 : offset;
        return static_cast<std::uint32_t>(m->registers[at / 8] >> (at % 8 * 8));
    }
    std::uint64_t read64(std::uint32_t offset) {
        return m->registers[(offset == 0x80 ? 0x88 : offset) / 8];
    }
    void write32(std::uint32_t offset, std::uint32_t value) { m->registers[offset / 8] = value; }
    void write64(std::uint32_t offset, std::uint64_t value) {
        if (offset != 0x88) {
            m->registers[offset / 8] = value;
            return;
        }
        // The waits between the old tail and the new one.
        std::uint64_t* const queue = m->frames[m->registers[0x90 / 8] >> 12];
        for (std::uint64_t at = m->registers[0x88 / 8]; at != value; at = (at + 16) % 4096) {
            const std::uint64_t low = queue[at / 8];
            if ((low & 0x2F) == 0x25) {
                const std::uint64_t to = queue[at / 8 + 1];
                m->frames[to >> 12][to % 4096 / 8] = low >> 32;
            }
        }
        m->registers[0x88 / 8] = value;
    }
};
struct no_time {
    std::uint64_t now() { return 0; }
};
struct pool {
    machine* m;

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        const std::size_t n = m->free_count != 0 ? m->free[--m->free_count] : m->allocated++;
        if (n >= frame_count) {
            return pt::error{pt::errc::out_of_frames, 0};
        }
        if (contents == pt::frame_contents::zeroed) {
            std::memset(m->frames[n], 0, sizeof m->frames[n]);
        }
        return pt::hpa{n * 4096};
    }
    void release(pt::hpa frame) { m->free[m->free_count++] = frame.raw / 4096; }
    std::uint64_t* entries(pt::hpa frame) { return m->frames[frame.raw / 4096]; }
};

using policies = pt::vtd::policies<instant_unit, no_time, pool, pt::paging::coherent_publication>;
using unit = pt::vtd::unit<policies>;
using bridges = pt::pci::archetype::bridge_bus_numbers;
using remapping = pt::vtd::remapping<policies, bridges>;
using domain = pt::vtd::domain<remapping>;
using attachment = pt::vtd::attachment<remapping>;

/// A table with one unit that includes all.
std::vector<std::uint8_t> one_unit() {
    std::vector<std::uint8_t> table(64);
    std::memcpy(table.data(), "DMAR", 4);
    table[4] = 64;
    table[8] = 1;
    table[36] = 38;
    table[50] = 16;
    table[52] = 1;
    table[58] = 0xD9;
    table[59] = 0xFE;
    unsigned sum = 0;
    for (const std::uint8_t byte : table) {
        sum += byte;
    }
    table[9] = static_cast<std::uint8_t>(0U - sum);
    return table;
}

/// A machine with translation on, and a guest with a function.
struct running {
    std::unique_ptr<machine> memory = std::make_unique<machine>();
    std::vector<std::uint8_t> bytes = one_unit();
    policies chosen{{}, {memory.get()}};
    pt::vtd::dmar table = pt::vtd::dmar::read(bytes.data(), bytes.size()).value();
    remapping vtd{chosen, table, bridges{}};
    std::optional<unit> hardware;
    std::optional<domain> guest;
    attachment nic{pt::pci::function_address{0, 0, 5, 0}};

    running() {
        memory->registers[0x00 / 8] = 0x10;
        memory->registers[0x08 / 8] = 0x00d2'008c'222f'0606;
        memory->registers[0x10 / 8] = 0x0000'0000'00f0'0f4a;
        for (const pt::vtd::drhd& place : table.each<pt::vtd::drhd>()) {
            auto taken = unit::take(chosen, {memory.get()}, place);
            hardware.emplace(std::move(*taken));
        }
        vtd.add(*hardware).value();
        vtd.start().value();
        guest.emplace(vtd, vtd.limits(40).value());
    }
    running(const running&) = delete;
    running& operator=(const running&) = delete;
    ~running() {
        vtd.release(nic).value();
        guest->retire().value();
        vtd.stop().value();
        vtd.retire().value();
        hardware->retire().value();
    }
};

constexpr std::uint64_t page_count = 512;

constexpr pt::range<pt::iova> page(std::uint64_t n) {
    return {pt::iova{0x10'0000 + n * 4096}, 4096};
}

/// 512 pages that are mapped one by one, of which `take_away` is measured.
template <class TakeAway>
void unmap_512(benchmark::State& state, TakeAway take_away) {
    running m;
    if (!m.guest->attach(m.nic)) {
        state.SkipWithError("not attached");
        return;
    }
    for (auto _ : state) {
        state.PauseTiming();
        for (std::uint64_t n = 0; n < page_count; ++n) {
            m.guest
                ->map(page(n), pt::hpa{0x1000'0000 + n * 4096}, pt::vtd::second_stage::read_write)
                .value();
        }
        state.ResumeTiming();
        take_away(*m.guest);
    }
}

void vtd_unmap_512_single(benchmark::State& state) {
    unmap_512(state, [](domain& guest) {
        for (std::uint64_t n = 0; n < page_count; ++n) {
            guest.unmap(page(n)).value();
        }
    });
}
void vtd_unmap_512_batched(benchmark::State& state) {
    unmap_512(state, [](domain& guest) {
        domain::batch changes{guest};
        for (std::uint64_t n = 0; n < page_count; ++n) {
            changes.unmap(page(n)).value();
        }
        changes.flush().value();
    });
}
/// A function comes to a guest and goes, each in force when it is over.
void vtd_attach_detach(benchmark::State& state) {
    running m;
    m.guest->map(page(0), pt::hpa{0x1000'0000}, pt::vtd::second_stage::read_write).value();
    for (auto _ : state) {
        if (!m.guest->attach(m.nic) || !m.vtd.release(m.nic)) {
            state.SkipWithError("refused");
            break;
        }
        benchmark::ClobberMemory();
    }
}

BENCHMARK(vtd_unmap_512_single);
BENCHMARK(vtd_unmap_512_batched);
BENCHMARK(vtd_attach_detach);

} // namespace
