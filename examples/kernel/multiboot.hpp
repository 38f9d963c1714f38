// SPDX-License-Identifier: BSL-1.0
//
// What a multiboot loader of version 1 leaves in memory [Multiboot Specification 0.6.96]. Addresses
// are physical ones.
#pragma once

#include "mmio.hpp"

#include <cstdint>

namespace kernel {

struct multiboot_module {
    std::uint32_t start;
    std::uint32_t end; ///< behind its last byte
    std::uint32_t words;
    std::uint32_t reserved;
};

/// One of a list in which each begins `size` bytes behind the field `size` of the one before.
struct [[gnu::packed]] multiboot_memory {
    std::uint32_t size;
    std::uint64_t base;
    std::uint64_t length;
    std::uint32_t kind; ///< 1: RAM
};

struct multiboot_information {
    static constexpr std::uint32_t has_memory_sizes = 1U << 0;
    static constexpr std::uint32_t has_command_line = 1U << 2;
    static constexpr std::uint32_t has_modules = 1U << 3;
    static constexpr std::uint32_t has_memory_map = 1U << 6;
    static constexpr std::uint32_t has_loader_name = 1U << 9;

    std::uint32_t flags;
    std::uint32_t lower_memory; ///< KiB from 0 on
    std::uint32_t upper_memory; ///< KiB from 1 MiB on
    std::uint32_t boot_device;
    std::uint32_t command_line;
    std::uint32_t module_count;
    std::uint32_t modules;
    std::uint32_t symbols[4];
    std::uint32_t memory_map_length; ///< bytes
    std::uint32_t memory_map;
    std::uint32_t drives[2];
    std::uint32_t configuration_table;
    std::uint32_t loader_name;

    [[nodiscard]] bool has(std::uint32_t flag) const { return (flags & flag) != 0; }
    [[nodiscard]] const multiboot_module* module(std::uint32_t index) const {
        return pointer_to<const multiboot_module>(pt::hpa{modules}) + index;
    }
};

/// What the loader says it is, in EAX.
inline constexpr std::uint32_t multiboot_loader = 0x2BAD'B002;

} // namespace kernel
