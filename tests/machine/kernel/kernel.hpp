// SPDX-License-Identifier: BSL-1.0
//
// A small kernel in which pt runs as it does in a hypervisor: freestanding, without a library, on a
// processor that takes the devices' interrupts. QEMU boots it; each boot runs one subject. (Bochs
// boots it, too, with the subjects of ../bochs.)
//
// To add tests: put a file into subjects/, in the form of
//
//     #include "../kernel.hpp"
//     namespace {
//     void run() {
//         auto unit = ...;
//         if (!kernel::check("the unit answers", unit)) return; // a result: prints the error
//         kernel::check_equal("GSTS says so", unit->status().raw, 0x8000'0000);
//     }
//     [[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"my_subject", run};
//     } // namespace
//
// and a TEST_CASE to runner/kernel.cpp that says on which machines it runs:
//
//     TEST_CASE("what it proves", "[kernel]") { run_in_kernel("my_subject", every_unit); }
//
// The names of the checks of one subject are all different. A check that must hold before the next
// makes sense is asked in an `if`. What comes on the command line after the subject (the words of a
// run) is asked by told("word"). No test can hang: the runner has a time limit for a boot.
//
// There is one processor and one stack. Interrupts are off, except in pause_for and wait_until: so
// a test sees none of them in between, and what an interrupt counts needs no lock.
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/ecam.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/port_config_access.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace kernel {

// ------------------------------------------------------------------------- tests and output

/// Checks that belong together and share a boot.
struct alignas(16) subject {
    const char* name;
    void (*run)();
};
static_assert(sizeof(subject) == 16, "the linker lays them out as an array");

/// Text and numbers (in hexadecimal) to the serial port.
void print(const char* text);
void print(std::uint64_t number);

/// A line of text and numbers, for whoever reads the log of a failure.
template <class... Parts>
void say(Parts... parts) {
    print("  ");
    (print(parts), ...);
    print("\n");
}

/// Begins the report of a check, and gives back whether it holds; where not, a reason follows.
bool report(const char* name, bool holds);

/// Begins another part of a subject: these words come before the names of its checks, so that the
/// same checks can be made in each, and `more` after them. nullptr: none any more.
void begin_part(const char* words, const char* more = nullptr);

/// Reports a named check: "ok NAME" or "FAILED NAME: why" to the runner. Gives back whether it
/// holds.
inline bool check(const char* name, bool holds) {
    report(name, holds);
    print("\n");
    return holds;
}

/// Success, or an error whose code and place are shown.
template <class T>
bool check(const char* name, const pt::result<T>& outcome) {
    if (!report(name, outcome.has_value())) {
        print(pt::name(outcome.error().code));
        print(" at ");
        print(outcome.error().where);
    }
    print("\n");
    return outcome.has_value();
}

/// The error that is expected, and no other.
template <class T>
bool check_error(const char* name, const pt::result<T>& outcome, pt::errc expected) {
    const bool holds = !outcome && outcome.error().code == expected;
    if (!report(name, holds)) {
        print(outcome ? "success" : pt::name(outcome.error().code));
        print(" where ");
        print(pt::name(expected));
        print(" is expected");
    }
    print("\n");
    return holds;
}

bool check_equal(const char* name, std::uint64_t got, std::uint64_t expected);

/// Whether the word is on the command line.
bool told(const char* word);

/// Ends the run as a failed one: for what makes all that would follow senseless.
[[noreturn]] void give_up(const char* why);

// ---------------------------------------------------------------------------- pt's policies

/// port_io
struct ports {
    std::uint8_t in8(pt::io_port port) {
        std::uint8_t value = 0;
        asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port.raw) : "memory");
        return value;
    }
    std::uint16_t in16(pt::io_port port) {
        std::uint16_t value = 0;
        asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port.raw) : "memory");
        return value;
    }
    std::uint32_t in32(pt::io_port port) {
        std::uint32_t value = 0;
        asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port.raw) : "memory");
        return value;
    }
    void out8(pt::io_port port, std::uint8_t value) {
        asm volatile("outb %0, %1" : : "a"(value), "Nd"(port.raw) : "memory");
    }
    void out16(pt::io_port port, std::uint16_t value) {
        asm volatile("outw %0, %1" : : "a"(value), "Nd"(port.raw) : "memory");
    }
    void out32(pt::io_port port, std::uint32_t value) {
        asm volatile("outl %0, %1" : : "a"(value), "Nd"(port.raw) : "memory");
    }
};

/// narrow_mmio_io: memory at its physical address, below 4 GiB.
class mmio {
public:
    explicit constexpr mmio(pt::hpa base) : base_{base} {}

    std::uint8_t read8(std::uint32_t offset) { return at<std::uint8_t>(offset); }
    std::uint16_t read16(std::uint32_t offset) { return at<std::uint16_t>(offset); }
    std::uint32_t read32(std::uint32_t offset) { return at<std::uint32_t>(offset); }
    std::uint64_t read64(std::uint32_t offset) { return at<std::uint64_t>(offset); }
    void write8(std::uint32_t offset, std::uint8_t value) { at<std::uint8_t>(offset) = value; }
    void write16(std::uint32_t offset, std::uint16_t value) { at<std::uint16_t>(offset) = value; }
    void write32(std::uint32_t offset, std::uint32_t value) { at<std::uint32_t>(offset) = value; }
    void write64(std::uint32_t offset, std::uint64_t value) { at<std::uint64_t>(offset) = value; }

private:
    template <class Word>
    volatile Word& at(std::uint32_t offset) {
        return *reinterpret_cast<volatile Word*>(static_cast<std::uintptr_t>(base_.raw + offset));
    }

    pt::hpa base_;
};

/// clock: the machine's HPET, which counts nanoseconds of the machine's time.
struct clock {
    std::uint64_t now();
};

/// dma_memory: the memory of a frame or more from a physical address on. mmio's accesses are whole,
/// and the compiler neither leaves them out nor moves them.
using dma_memory = mmio;

/// barrier: x86 keeps the order of stores and of loads to write-back memory, so it is the compiler
/// that must not change it.
struct barrier {
    void release() { asm volatile("" : : : "memory"); }
    void acquire() { asm volatile("" : : : "memory"); }
};

static_assert(pt::port_io<ports> && pt::narrow_mmio_io<mmio> && pt::dma_memory<dma_memory>);
static_assert(pt::clock<clock> && pt::barrier<barrier>);

// ----------------------------------------------------------------------------------- memory

using frames = pt::frame_pool<pt::identity_map>;
/// table_memory, by value.
using memory_policy = pt::identity_memory<pt::pool_frames<pt::identity_map>>;

/// Where frames come from: to count those that are free.
frames& all_frames();
inline memory_policy memory() { return memory_policy{all_frames().source()}; }

/// A zeroed frame of 4 KiB, which nobody gives back.
pt::hpa take_frame();
/// How many frames those who may give them back have: all that are gone, but for take_frame()'s.
std::uint64_t frames_in_use();
/// 2 MiB of zeros, aligned to as much, which nobody gives back.
pt::hpa take_large_frame();

/// The memory at a physical address, for the processor.
template <class T = std::uint64_t>
T* pointer_to(pt::hpa place) {
    return reinterpret_cast<T*>(static_cast<std::uintptr_t>(place.raw));
}

/// Fills memory with bytes that depend on the seed and on the place, none of them 0.
void fill(pt::hpa place, std::uint64_t size, std::uint8_t seed);
/// Whether it holds what fill() wrote.
bool is_filled(pt::hpa place, std::uint64_t size, std::uint8_t seed);
/// Whether it holds zeros.
bool is_zero(pt::hpa place, std::uint64_t size);

// ----------------------------------------------------------------- firmware's tables and PCI

struct bytes {
    const std::byte* data = nullptr;
    std::size_t size = 0;
};

/// An ACPI table by its signature, e.g. "DMAR"; no data if firmware has none.
bytes acpi_table(const char* signature);

/// config_access through 0xCF8 and 0xCFC, by value.
using port_config = pt::pci::port_config_access<ports>;
inline port_config config() { return port_config{ports{}, pt::pci::config_latch::ours}; }

/// config_access through memory, by value. Firmware has turned it on.
using ecam_config = pt::pci::ecam_config_access<mmio>;
ecam_config ecam();

/// Turns memory decoding and bus mastering of a function on, and gives its registers: those of BAR
/// 0, which firmware has placed. errc::absent with the source id: no such function, or no such BAR.
pt::result<mmio> open_function(pt::pci::function_address function);

} // namespace kernel
