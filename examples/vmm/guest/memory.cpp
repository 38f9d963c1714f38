// SPDX-License-Identifier: BSL-1.0
#include "memory.hpp"

#include "output.hpp"

#include "../../kernel/processor.hpp"

#include <cstddef>

extern "C" {
extern const std::uint8_t load_start[]; // kernel.ld; the program's text begins here
}

namespace guest {
namespace {

pt::gpa ram_end{0};
const std::uint8_t* map = nullptr;
std::uint32_t map_length = 0;

constexpr std::uint32_t kind_ram = 1;

/// Calls each(base, length, kind) for each entry of the memory map.
template <class F>
void for_each_region(F each) {
    for (std::uint32_t at = 0; at + sizeof(kernel::multiboot_memory) <= map_length;) {
        const auto& entry = *reinterpret_cast<const kernel::multiboot_memory*>(map + at);
        each(entry.base, entry.length, entry.kind);
        at += entry.size + 4;
    }
}

alignas(4096) std::uint64_t window_level_3[512];
alignas(4096) std::uint64_t window_level_2[512];
alignas(4096) std::uint64_t window_level_1[512];
constexpr unsigned window_slot = 1; // of level 4: behind the 512 GiB that boot.S uses the start of
constexpr std::uint64_t window_base = std::uint64_t{window_slot} << 39;
constexpr std::uint64_t large_page = 2 * pt::MiB;

constexpr std::uint64_t present_writable = 0x003;

/// Has the processor see what the tables above say now.
void load_window() {
    std::uint64_t level_4 = 0;
    asm volatile("mov %%cr3, %0" : "=r"(level_4));
    window_level_3[0] = address_of(window_level_2) | present_writable;
    reinterpret_cast<volatile std::uint64_t*>(level_4)[window_slot] =
        address_of(window_level_3) | present_writable;
    asm volatile("mov %0, %%cr3" : : "r"(level_4) : "memory");
}

// Twice as large, so that it can be aligned here: a section with that alignment would leave a gap
// in the file, which a multiboot loader copies in one piece.
constexpr std::size_t guarded_size = 256 * pt::KiB;
alignas(4096) std::uint8_t guarded_memory[2 * guarded_size];
std::uint32_t code_sum = 0;

volatile std::uint8_t* guarded() {
    const std::uint64_t first = address_of(guarded_memory);
    return guarded_memory + (guarded_size - first % guarded_size) % guarded_size;
}

constexpr std::uint8_t guard_byte(std::size_t index) {
    return static_cast<std::uint8_t>(index * 29 + (index >> 8) * 7 + 3);
}

std::uint32_t sum_of_code() {
    constexpr std::size_t some = 32 * pt::KiB;
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i != some; ++i) {
        sum = (sum << 5 | sum >> 27) ^ load_start[i];
    }
    return sum;
}

} // namespace

void start_memory(const kernel::multiboot_information& loaded) {
    using information = kernel::multiboot_information;
    if (loaded.has(information::has_memory_sizes)) {
        ram_end = pt::gpa{pt::MiB + std::uint64_t{loaded.upper_memory} * pt::KiB};
        tell("RAM from 1 MiB to ", ram_end.raw);
    }
    if (loaded.has(information::has_memory_map)) {
        map = kernel::pointer_to<const std::uint8_t>(pt::hpa{loaded.memory_map});
        map_length = loaded.memory_map_length;
        for_each_region([](std::uint64_t base, std::uint64_t length, std::uint32_t kind) {
            tell(digits{base, 9}, " to ", digits{base + length - 1, 9},
                 kind == kind_ram ? ": RAM" : ": not RAM");
            if (kind == kind_ram && base <= pt::MiB && base + length > ram_end.raw) {
                ram_end = pt::gpa{base + length};
            }
        });
    }
}

pt::gpa end_of_ram() { return ram_end; }

bool is_ram(pt::gpa place) {
    bool found = place.raw < 640 * pt::KiB || (place.raw >= pt::MiB && place < ram_end);
    for_each_region([&](std::uint64_t base, std::uint64_t length, std::uint32_t kind) {
        found = found || (kind == kind_ram && place.raw >= base && place.raw - base < length);
    });
    return found;
}

unsigned physical_width() {
    return kernel::cpuid(0x8000'0000).a >= 0x8000'0008 ? kernel::physical_width() : 36;
}

void* window_to(std::uint64_t physical) {
    constexpr std::uint64_t large_uncacheable = 0x080 | 0x018;
    const std::uint64_t first = physical & ~(large_page - 1);
    window_level_2[0] = first | large_uncacheable | present_writable;
    window_level_2[1] = (first + large_page) | large_uncacheable | present_writable;
    load_window();
    return reinterpret_cast<void*>(window_base + (physical - first));
}

std::uint8_t* unmapped_behind(const void* page) {
    window_level_1[0] = address_of(page) | present_writable;
    window_level_2[2] = address_of(window_level_1) | present_writable;
    load_window();
    return reinterpret_cast<std::uint8_t*>(window_base + 2 * large_page + 4096);
}

void guard_memory() {
    volatile std::uint8_t* const area = guarded();
    for (std::size_t i = 0; i != guarded_size; ++i) {
        area[i] = guard_byte(i);
    }
    code_sum = sum_of_code();
}

bool memory_is_intact() {
    const volatile std::uint8_t* const area = guarded();
    for (std::size_t i = 0; i != guarded_size; ++i) {
        if (area[i] != guard_byte(i)) {
            return false;
        }
    }
    return code_sum == sum_of_code();
}

pt::range<pt::gpa> guarded_area() { return {pt::gpa{address_of(guarded())}, guarded_size}; }

} // namespace guest
