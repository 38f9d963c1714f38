// SPDX-License-Identifier: BSL-1.0
// Memory and policies for the examples of docs/e1000e.md and docs/e1000e_device.md: everything in one
// processor, where order is no question.
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace example {

using frame = std::vector<std::uint8_t>;

/// 64 KiB from address 0 on.
struct ram {
    alignas(16) std::uint8_t bytes[0x10000] = {};

    frame copy(std::size_t at, std::size_t length) const {
        return {bytes + at, bytes + at + length};
    }
};

/// As a device reaches it.
struct device_memory {
    ram* here;

    pt::result<> reach(pt::iova at, std::size_t count) const {
        const std::size_t size = sizeof here->bytes;
        const bool inside = at.raw <= size && count <= size - at.raw;
        return inside ? pt::result<>{} : pt::error{pt::errc::not_mapped, at.raw};
    }
    pt::result<> read(pt::iova at, std::uint8_t* to, std::size_t count) {
        const pt::result<> reached = reach(at, count);
        if (reached) {
            std::memcpy(to, here->bytes + at.raw, count);
        }
        return reached;
    }
    pt::result<> write(pt::iova at, const std::uint8_t* from, std::size_t count) {
        const pt::result<> reached = reach(at, count);
        if (reached) {
            std::memcpy(here->bytes + at.raw, from, count);
        }
        return reached;
    }
};
static_assert(pt::bus_memory<device_memory>);

/// The descriptors of a driver.
struct ring_memory {
    std::uint8_t* base;

    std::uint64_t read64(std::uint32_t offset) {
        std::uint64_t value = 0;
        std::memcpy(&value, base + offset, sizeof value);
        return value;
    }
    void write64(std::uint32_t offset, std::uint64_t value) {
        std::memcpy(base + offset, &value, sizeof value);
    }
};
static_assert(pt::dma_memory<ring_memory>);

struct same_processor {
    void release() {}
    void acquire() {}
};
static_assert(pt::barrier<same_processor>);

/// The registers of whatever has read(offset) and write(offset, value), as its driver reaches them.
template <class Device>
struct register_window {
    Device* device;

    std::uint32_t read32(std::uint32_t offset) { return device->read(offset); }
    void write32(std::uint32_t offset, std::uint32_t value) { device->write(offset, value); }
    std::uint64_t read64(std::uint32_t) { return ~std::uint64_t{0}; }
    void write64(std::uint32_t, std::uint64_t) {}
};

/// Where frames end up.
struct wire {
    std::vector<frame> frames;

    bool operator()(const std::uint8_t* bytes, std::size_t length) {
        frames.emplace_back(bytes, bytes + length);
        return true;
    }
};

} // namespace example
