// SPDX-License-Identifier: BSL-1.0
// Which remapping unit serves a function: what a VMM asks once for each function that it assigns.
// The floor reads the same bytes without a check and looks at the same bridges, as somebody would
// write it who trusts the table. The bridges' numbers are in memory; a machine's cost a
// configuration access each, next to which all of this is nothing.

#include "pt/core/result.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/unit_lookup.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace {

using pt::pci::function_address;

/// A server of two sockets: eight units with four root ports each, on bus 0x00, 0x20, 0x40 ..., and
/// a ninth that includes all. Behind port n of unit u are buses 0x20 * u + 4 * n + 1 to + 4.
constexpr unsigned units = 8;
constexpr unsigned ports = 4;

std::vector<std::uint8_t> server_table() {
    std::vector<std::uint8_t> table(48);
    const auto put = [&](std::initializer_list<unsigned> bytes) {
        for (const unsigned byte : bytes) {
            table.push_back(static_cast<std::uint8_t>(byte));
        }
    };
    std::memcpy(table.data(), "DMAR", 4);
    table[8] = 1;
    table[36] = 45;
    for (unsigned unit = 0; unit < units; ++unit) {
        put({0, 0, 16 + 8 * ports, 0, 0, 0, 0, 0, 0, 0, unit, 0xC0, 0, 0, 0, 0});
        for (unsigned port = 0; port < ports; ++port) {
            put({2, 8, 0, 0, 0, 0x20 * unit, port + 1, 0});
        }
    }
    put({0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xFF, 0xC0, 0, 0, 0, 0, 3, 8, 0, 0, 8, 0xF0, 0x1F, 7});
    table[4] = static_cast<std::uint8_t>(table.size());
    table[5] = static_cast<std::uint8_t>(table.size() >> 8);
    std::uint8_t sum = 0;
    for (const std::uint8_t byte : table) {
        sum = static_cast<std::uint8_t>(sum + byte);
    }
    table[9] = static_cast<std::uint8_t>(0U - sum);
    return table;
}

/// The dword at 0x18 of each function by its source id, 0 where there is no bridge.
std::vector<std::uint32_t> server_bridges() {
    std::vector<std::uint32_t> numbers(0x1'0000);
    for (std::uint32_t unit = 0; unit < units; ++unit) {
        for (std::uint32_t port = 0; port < ports; ++port) {
            const std::uint32_t bus = 0x20 * unit;
            const std::uint32_t first = bus + 4 * port + 1;
            numbers[bus << 8 | (port + 1) << 3] = (first + 3) << 16 | first << 8 | bus;
        }
    }
    return numbers;
}

struct known_bridges {
    const std::uint32_t* numbers;

    pt::result<pt::pci::bus_numbers> read(function_address bridge) {
        const std::uint32_t found = numbers[bridge.source_id()];
        if (found == 0) {
            return pt::error{pt::errc::absent, bridge.source_id()};
        }
        return pt::pci::bus_numbers{found};
    }
};

/// Functions behind ports of all units, and some that only the last one serves.
std::vector<function_address> functions() {
    std::vector<function_address> asked(1024);
    std::mt19937 random{26};
    for (function_address& each : asked) {
        const auto bus = static_cast<std::uint8_t>(random() % (std::size_t{0x20} * units));
        each = {0, bus, static_cast<std::uint8_t>(random() % 32), 0};
    }
    return asked;
}

std::size_t trusting_scan(const std::uint8_t* table, const std::uint32_t* bridges,
                          function_address function) {
    std::uint32_t length = 0;
    std::memcpy(&length, table + 4, sizeof length);
    std::size_t index = 0;
    std::size_t all = 99;
    for (std::size_t at = 48; at < length;) {
        std::uint16_t head[4]; // type, length, flags, segment
        std::memcpy(head, table + at, sizeof head);
        if (head[0] == 0 && head[3] == function.segment) {
            for (std::size_t scope = at + 16; scope < at + head[1]; scope += table[scope + 1]) {
                if (table[scope] != 1 && table[scope] != 2) {
                    continue;
                }
                const auto place = [&](std::size_t hop) { // 7:3 device, 2:0 function
                    return static_cast<unsigned>(table[hop] << 3 | table[hop + 1]);
                };
                unsigned bus = table[scope + 5];
                std::size_t hop = scope + 6;
                const std::size_t last = scope + table[scope + 1] - 2U;
                for (; hop < last; hop += 2) {
                    bus = bridges[bus << 8 | place(hop)] >> 8 & 0xFF;
                }
                const unsigned id = bus << 8 | place(hop);
                if (id == function.source_id()) {
                    return index;
                }
                const std::uint32_t behind = bridges[id];
                if (table[scope] == 2 && (behind >> 8 & 0xFF) <= function.bus &&
                    function.bus <= (behind >> 16 & 0xFF)) {
                    return index;
                }
            }
            if ((head[2] & 1) != 0) {
                all = index;
            }
        }
        index += head[0] == 0 ? 1U : 0U;
        at += head[1];
    }
    return all;
}

void floor_dmar_scan(benchmark::State& state) {
    const auto table = server_table();
    const auto bridges = server_bridges();
    const auto asked = functions();
    std::size_t n = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(trusting_scan(table.data(), bridges.data(), asked[n++ % 1024]));
    }
}

void vtd_dmar_lookup(benchmark::State& state) {
    const auto bytes = server_table();
    const auto bridges = server_bridges();
    const auto asked = functions();
    const auto table = pt::vtd::dmar::read(bytes.data(), bytes.size());
    if (!table) {
        state.SkipWithError("no table");
        return;
    }
    for (const function_address function : asked) {
        const auto unit = pt::vtd::unit_for(*table, function, known_bridges{bridges.data()});
        if (!unit || unit->index != trusting_scan(bytes.data(), bridges.data(), function)) {
            state.SkipWithError("another answer than the floor's");
            return;
        }
    }
    std::size_t n = 0;
    for (auto _ : state) {
        const auto unit =
            pt::vtd::unit_for(*table, asked[n++ % 1024], known_bridges{bridges.data()});
        benchmark::DoNotOptimize(unit->index);
    }
}

/// Reading and checking the whole table, once when a machine starts.
void vtd_dmar_read(benchmark::State& state) {
    const auto bytes = server_table();
    for (auto _ : state) {
        const auto table = pt::vtd::dmar::read(bytes.data(), bytes.size());
        benchmark::DoNotOptimize(table.has_value());
        benchmark::ClobberMemory();
    }
}

BENCHMARK(floor_dmar_scan);
BENCHMARK(vtd_dmar_lookup);
BENCHMARK(vtd_dmar_read);

} // namespace
