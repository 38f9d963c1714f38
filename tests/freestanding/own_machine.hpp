// SPDX-License-Identifier: BSL-1.0
//
// What a kernel has before it has pt: access to ports and to registers, a clock, a lock, frames of
// memory. Each is a policy in the form in which pt wants it (docs/policies).
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"

#include <cstdint>

namespace kernel {

struct cpu_ports {
    std::uint8_t in8(pt::io_port p) {
        std::uint8_t v;
        asm volatile("inb %1, %0" : "=a"(v) : "Nd"(p.raw));
        return v;
    }
    std::uint16_t in16(pt::io_port p) {
        std::uint16_t v;
        asm volatile("inw %1, %0" : "=a"(v) : "Nd"(p.raw));
        return v;
    }
    std::uint32_t in32(pt::io_port p) {
        std::uint32_t v;
        asm volatile("inl %1, %0" : "=a"(v) : "Nd"(p.raw));
        return v;
    }
    void out8(pt::io_port p, std::uint8_t v) {
        asm volatile("outb %0, %1" : : "a"(v), "Nd"(p.raw));
    }
    void out16(pt::io_port p, std::uint16_t v) {
        asm volatile("outw %0, %1" : : "a"(v), "Nd"(p.raw));
    }
    void out32(pt::io_port p, std::uint32_t v) {
        asm volatile("outl %0, %1" : : "a"(v), "Nd"(p.raw));
    }
};

template <class Word>
// NOLINTNEXTLINE(readability-non-const-parameter): it is written to by whoever asks for the word
volatile Word& device_word(volatile unsigned char* at) {
    return *reinterpret_cast<volatile Word*>(at);
}

/// The registers of a remapping unit, which the kernel has mapped uncacheable.
struct mapped_registers {
    volatile unsigned char* base;

    std::uint32_t read32(std::uint32_t at) { return device_word<std::uint32_t>(base + at); }
    std::uint64_t read64(std::uint32_t at) { return device_word<std::uint64_t>(base + at); }
    void write32(std::uint32_t at, std::uint32_t v) { device_word<std::uint32_t>(base + at) = v; }
    void write64(std::uint32_t at, std::uint64_t v) { device_word<std::uint64_t>(base + at) = v; }
};

/// The BARs of one function and its ROM, likewise; null: it has none of that number.
struct mapped_bars {
    volatile unsigned char* bars[7];

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size) {
        if (bars[bar] == nullptr) {
            return pt::all_ones(size);
        }
        volatile unsigned char* const at = bars[bar] + offset;
        switch (size) {
        case pt::mmio_width::byte: return *at;
        case pt::mmio_width::word: return device_word<std::uint16_t>(at);
        case pt::mmio_width::dword: return device_word<std::uint32_t>(at);
        case pt::mmio_width::qword: break;
        }
        return device_word<std::uint64_t>(at);
    }
    void write(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size, std::uint64_t v) {
        if (bars[bar] == nullptr) {
            return;
        }
        volatile unsigned char* const at = bars[bar] + offset;
        switch (size) {
        case pt::mmio_width::byte: *at = static_cast<std::uint8_t>(v); break;
        case pt::mmio_width::word:
            device_word<std::uint16_t>(at) = static_cast<std::uint16_t>(v);
            break;
        case pt::mmio_width::dword:
            device_word<std::uint32_t>(at) = static_cast<std::uint32_t>(v);
            break;
        case pt::mmio_width::qword: device_word<std::uint64_t>(at) = v; break;
        }
    }
};

struct tsc_clock {
    std::uint64_t now() { return __builtin_ia32_rdtsc() / 3; }
};

struct spin_lock {
    unsigned char* taken;
    void lock() {
        while (__atomic_test_and_set(taken, __ATOMIC_ACQUIRE)) {
            __builtin_ia32_pause();
        }
    }
    void unlock() { __atomic_clear(taken, __ATOMIC_RELEASE); }
};

/// All tables of all guests take their frames from one pool, on any processor.
struct locked_frames {
    pt::pool_frames<pt::offset_map> pool;
    spin_lock guard;

    pt::result<pt::hpa> allocate() {
        const pt::scoped_lock held{guard};
        return pool.allocate();
    }
    void release(pt::hpa frame) {
        const pt::scoped_lock held{guard};
        pool.release(frame);
    }
};
using frames = pt::offset_memory<locked_frames>;

} // namespace kernel
