// SPDX-License-Identifier: BSL-1.0
// What a guest's access to configuration space costs besides the exit: taking CONFIG_ADDRESS apart,
// and finding the function that is meant. A floor is what an expert writes by hand for the same
// answer, in the same run. Functions are visited in an order that no branch predictor learns.

#include "pt/pci/config_address.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/virtual_function_view.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

namespace {

namespace pci = pt::pci;

constexpr std::size_t function_count = 8;

struct random_index {
    std::uint64_t state = 1;
    std::size_t next() {
        state = state * 6364136223846793005U + 1442695040888963407U;
        return state >> 61;
    }
};

/// 256 bytes in memory, of the size of access that is asked for.
struct memory_function {
    std::uint8_t bytes[256]{};

    std::uint32_t read(std::uint16_t offset, pt::width size) {
        switch (size) {
        case pt::width::byte: return bytes[offset];
        case pt::width::word: return value_at<std::uint16_t>(offset);
        case pt::width::dword: return value_at<std::uint32_t>(offset);
        }
        return 0;
    }
    void write(std::uint16_t offset, pt::width, std::uint32_t value) {
        std::memcpy(bytes + offset, &value, sizeof value);
    }

private:
    template <class T>
    std::uint32_t value_at(std::uint16_t offset) const {
        T value;
        std::memcpy(&value, bytes + offset, sizeof value);
        return value;
    }
};

std::vector<memory_function> random_functions() {
    std::vector<memory_function> functions(function_count);
    std::mt19937 random{26};
    for (memory_function& function : functions) {
        for (std::uint8_t& byte : function.bytes) {
            byte = static_cast<std::uint8_t>(random());
        }
    }
    return functions;
}

/// What guests write to 0xCF8, all in the first-level cache.
std::vector<std::uint32_t> random_words() {
    std::vector<std::uint32_t> words(1024);
    std::mt19937 random{8};
    for (std::uint32_t& word : words) {
        word = static_cast<std::uint32_t>(random());
    }
    return words;
}

void floor_shift_mask(benchmark::State& state) {
    const auto words = random_words();
    std::size_t n = 0;
    for (auto _ : state) {
        const std::uint32_t word = words[n++ % 1024];
        std::uint32_t bus = word >> 16 & 0xFF;
        std::uint32_t device = word >> 11 & 0x1F;
        std::uint32_t function = word >> 8 & 7;
        std::uint32_t offset = word & 0xFC;
        benchmark::DoNotOptimize(bus);
        benchmark::DoNotOptimize(device);
        benchmark::DoNotOptimize(function);
        benchmark::DoNotOptimize(offset);
    }
}

void pci_config_address_decode(benchmark::State& state) {
    const auto words = random_words();
    std::size_t n = 0;
    for (auto _ : state) {
        const pci::config_address address{words[n++ % 1024]};
        const pci::function_address target = address.target();
        std::uint32_t bus = target.bus;
        std::uint32_t device = target.device;
        std::uint32_t function = target.function;
        std::uint32_t offset = address.offset();
        benchmark::DoNotOptimize(bus);
        benchmark::DoNotOptimize(device);
        benchmark::DoNotOptimize(function);
        benchmark::DoNotOptimize(offset);
    }
}

/// One call through a pointer to what reads the memory, when the function is known already.
void floor_indirect_call(benchmark::State& state) {
    struct route {
        std::uint32_t (*read)(void*, std::uint16_t, pt::width);
        void* function;
    };
    auto functions = random_functions();
    std::vector<route> routes;
    routes.reserve(function_count);
    for (memory_function& function : functions) {
        routes.push_back({[](void* to, std::uint16_t offset, pt::width size) {
                              return static_cast<memory_function*>(to)->read(offset, size);
                          },
                          &function});
    }
    benchmark::DoNotOptimize(routes.data());
    random_index index;
    for (auto _ : state) {
        const route& route = routes[index.next()];
        benchmark::DoNotOptimize(route.read(route.function, 0x10, pt::width::dword));
    }
}

/// A guest's IN of four bytes at 0xCFC, the function being selected already. Each of the guests has
/// selected another one, so that all eight are visited without an OUT between. The argument is the
/// distance of the functions' source ids: 8 for devices of one bus, 256 for a bus to each.
void pci_config_read_routed(benchmark::State& state) {
    auto functions = random_functions();
    pci::config_routes<function_count> routes;
    std::vector<pci::config_ports<pci::config_router>> guests;
    for (std::size_t i = 0; i != function_count; ++i) {
        const auto address = pci::function_address::from_source_id(
            static_cast<std::uint16_t>(i * static_cast<std::size_t>(state.range(0))));
        if (!routes.add(address, functions[i])) {
            state.SkipWithError("no route");
            return;
        }
        guests.emplace_back(pci::config_router{routes});
        guests.back().write(pt::io_port{0xCF8}, pt::width::dword,
                            pci::config_address::select(address, 0x10).raw);
    }
    benchmark::DoNotOptimize(guests.data());
    random_index index;
    for (auto _ : state) {
        benchmark::DoNotOptimize(
            guests[index.next()].read(pt::io_port{0xCFC}, pt::width::dword).value);
    }
}

struct no_events {
    pci::bar_place bar_changed(const pci::bar_change& change) { return change.to; }
    void power_state_changed(pci::power_state, pci::power_state) {}
    void reset() {}
};

/// The real function below a view, which is not asked for what the view knows.
struct endpoint_config {
    std::uint32_t read(pci::function_address, std::uint16_t offset, pt::width size) {
        const std::uint32_t dword = offset < 4 ? 0x10D3'8086 : 0;
        return dword >> 8 * (offset & 3) & pt::all_ones(size);
    }
    void write(pci::function_address, std::uint16_t, pt::width, std::uint32_t) {}
};

/// A guest reads a register that its driver reads again and again, of eight assigned functions: the
/// Interrupt Line, which is the view's own.
void pci_view_read(benchmark::State& state) {
    using view =
        pci::virtual_function_view<endpoint_config, no_events, pci::archetype::interrupt_route,
                                   pci::archetype::bar_memory>;
    std::vector<std::unique_ptr<view>> views;
    for (std::size_t i = 0; i != function_count; ++i) {
        views.push_back(std::make_unique<view>(endpoint_config{}, pci::function_address{},
                                               no_events{}, pci::archetype::interrupt_route{},
                                               pci::archetype::bar_memory{}));
        if (!views.back()->open({}, nullptr, 0)) {
            state.SkipWithError("not open");
            return;
        }
        views.back()->write(pci::interrupt_line::offset, pt::width::byte,
                            static_cast<std::uint32_t>(i));
    }
    benchmark::DoNotOptimize(views.data());
    random_index index;
    for (auto _ : state) {
        benchmark::DoNotOptimize(views[index.next()]->read(0x3C, pt::width::dword));
    }
}

BENCHMARK(floor_shift_mask);
BENCHMARK(pci_config_address_decode);
BENCHMARK(floor_indirect_call);
BENCHMARK(pci_config_read_routed)->Arg(8)->Arg(256);
BENCHMARK(pci_view_read);

} // namespace
