// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

#include <type_traits>

/// The least model of each policy: exactly what its concept demands and no more. A template that
/// compiles with these uses nothing beyond its concept. They do nothing; none of them is for use.
namespace pt::archetype {

struct table_memory {
    constexpr result<hpa> allocate(frame_contents) { return error{errc::out_of_frames}; }
    constexpr void release(hpa) {}
    constexpr std::uint64_t* entries(hpa) {
        std::uint64_t* none = nullptr;
        if (!std::is_constant_evaluated()) {
            asm("" : "+r"(none)); // a compiler that sees the null warns of every use
        }
        return none;
    }
};

struct frame_source {
    constexpr result<hpa> allocate() { return error{errc::out_of_frames}; }
    constexpr void release(hpa) {}
};

struct publication {
    constexpr void publish(const std::uint64_t*, std::size_t) {}
    constexpr void complete() {}
};

struct wide_store {
    static constexpr bool atomic = false;
    constexpr void store(std::uint64_t*, std::uint64_t, std::uint64_t) {}
};

struct mutex {
    constexpr void lock() {}
    constexpr void unlock() {}
};

struct shared_mutex : mutex {
    constexpr void lock_shared() {}
    constexpr void unlock_shared() {}
};

struct port_io {
    constexpr std::uint8_t in8(io_port) { return 0xFF; }
    constexpr std::uint16_t in16(io_port) { return 0xFFFF; }
    constexpr std::uint32_t in32(io_port) { return 0xFFFF'FFFF; }
    constexpr void out8(io_port, std::uint8_t) {}
    constexpr void out16(io_port, std::uint16_t) {}
    constexpr void out32(io_port, std::uint32_t) {}
};

struct mmio_io {
    constexpr std::uint32_t read32(std::uint32_t) { return ~std::uint32_t{0}; }
    constexpr std::uint64_t read64(std::uint32_t) { return ~std::uint64_t{0}; }
    constexpr void write32(std::uint32_t, std::uint32_t) {}
    constexpr void write64(std::uint32_t, std::uint64_t) {}
};

struct narrow_mmio_io : mmio_io {
    constexpr std::uint8_t read8(std::uint32_t) { return 0xFF; }
    constexpr std::uint16_t read16(std::uint32_t) { return 0xFFFF; }
    constexpr void write8(std::uint32_t, std::uint8_t) {}
    constexpr void write16(std::uint32_t, std::uint16_t) {}
};

struct dma_memory {
    constexpr std::uint64_t read64(std::uint32_t) { return 0; }
    constexpr void write64(std::uint32_t, std::uint64_t) {}
};

struct dma_translation {
    constexpr result<dma_piece> translate(iova at, std::uint64_t, dma_access) {
        return error{errc::not_mapped, at.raw};
    }
};

struct bus_memory {
    constexpr result<> read(iova at, std::uint8_t*, std::size_t) {
        return error{errc::not_mapped, at.raw};
    }
    constexpr result<> write(iova at, const std::uint8_t*, std::size_t) {
        return error{errc::not_mapped, at.raw};
    }
};

struct barrier {
    constexpr void release() {}
    constexpr void acquire() {}
};

struct clock {
    constexpr std::uint64_t now() { return 0; }
};

struct interrupt_sink {
    constexpr void raise(std::uint8_t) {}
};

struct vcpu_state {
    constexpr bool can_take_interrupt() { return false; }
    constexpr bool can_take_nmi() { return false; }
};

static_assert(pt::table_memory<table_memory>);
static_assert(pt::frame_source<frame_source>);
static_assert(pt::publication<publication>);
static_assert(pt::wide_store<wide_store>);
static_assert(pt::mutex<mutex> && !pt::shared_mutex<mutex>);
static_assert(pt::shared_mutex<shared_mutex>);
static_assert(pt::port_io<port_io>);
static_assert(pt::mmio_io<mmio_io>);
static_assert(pt::narrow_mmio_io<narrow_mmio_io>);
static_assert(pt::dma_memory<dma_memory>);
static_assert(pt::dma_translation<dma_translation>);
static_assert(pt::bus_memory<bus_memory>);
static_assert(pt::barrier<barrier>);
static_assert(pt::clock<clock>);
static_assert(pt::interrupt_sink<interrupt_sink>);
static_assert(pt::vcpu_state<vcpu_state>);

} // namespace pt::archetype
