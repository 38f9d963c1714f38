// SPDX-License-Identifier: BSL-1.0
// What the device's side of transmission is made of, and what it takes.
#include "pt/core/archetype.hpp"
#include "pt/e1000e/internet_checksum.hpp"
#include "pt/e1000e/tx_engine.hpp"
#include "pt/e1000e/tx_queue.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

using namespace pt::e1000e;

namespace {

using engine = tx_engine<pt::archetype::bus_memory>;

template <class M>
concept can_make_an_engine = requires(M memory, std::uint8_t* buffer) {
    tx_engine{memory, buffer, std::size_t{2048}};
};
template <class Sink>
concept can_sink = requires(engine nic, Sink sink) {
    nic.step({}, sink);
};

struct takes_all {
    bool operator()(const std::uint8_t*, std::size_t) { return true; }
};
struct says_nothing {
    void operator()(const std::uint8_t*, std::size_t) {}
};
struct changes_the_frame {
    bool operator()(std::uint8_t*, std::size_t) { return true; }
};

static_assert(can_make_an_engine<pt::archetype::bus_memory>);
static_assert(!can_make_an_engine<pt::archetype::dma_memory>); // offsets, not addresses
static_assert(can_sink<takes_all>);
static_assert(!can_sink<says_nothing>); // has to say whether it had room
static_assert(!can_sink<changes_the_frame>);

static_assert(!std::is_copy_constructible_v<engine> && !std::is_copy_assignable_v<engine>,
              "two engines do not build frames in one buffer");
static_assert(engine::tag_size == 4 && engine::least_capacity == 64);
static_assert(std::is_trivially_copyable_v<tx_queue> && std::is_trivially_copyable_v<tx_step> &&
              std::is_trivially_copyable_v<internet_checksum>);

// No memory answers, so nothing comes of a ring but a fault.
constexpr tx_step step_without_memory() {
    std::uint8_t buffer[64] = {};
    engine nic{{}, buffer, 64};
    nic.write(tdlen::offset, 128);
    nic.write(tctl::offset, tctl{tctl::en(true)}.raw);
    nic.write(tdt::offset, 1);
    return nic.step({}, [](const std::uint8_t*, std::size_t) { return true; });
}
static_assert(step_without_memory().why == tx_stop::memory_fault);
static_assert(step_without_memory().fault == pt::error{pt::errc::not_mapped, 0});
static_assert(step_without_memory().descriptors == 0);

} // namespace
