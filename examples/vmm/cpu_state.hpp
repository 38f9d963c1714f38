// SPDX-License-Identifier: BSL-1.0
//
// A virtual processor's state, in the words of neither VMX nor SVM nor KVM.
#pragma once

#include "pt/vcpu/code_size.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <cstdint>

namespace vmm {

/// A segment register. `rights`: bits 55:40 of a descriptor, and bit 16 for one that cannot be used
/// [sdm, Guest Register State].
struct segment_state {
    static constexpr std::uint32_t unusable = 1U << 16;

    std::uint16_t selector = 0;
    std::uint32_t rights = unusable;
    std::uint32_t limit = 0; ///< in bytes, whatever the granularity
    std::uint64_t base = 0;

    friend constexpr bool operator==(const segment_state&, const segment_state&) = default;
};

struct table_state {
    std::uint64_t base = 0;
    std::uint16_t limit = 0;

    friend constexpr bool operator==(const table_state&, const table_state&) = default;
};

/// What a virtual processor holds besides its general registers (of which RSP is one), as the guest
/// sees it.
struct cpu_state {
    static constexpr std::uint64_t cr0_protection_enable = 1U << 0;
    static constexpr std::uint64_t cr0_extension_type = 1U << 4;
    static constexpr std::uint64_t cr0_paging = 1U << 31;
    static constexpr std::uint64_t cr4_page_size_extensions = 1U << 4;
    static constexpr std::uint64_t cr4_physical_address_extension = 1U << 5;
    static constexpr std::uint64_t cr4_five_levels = 1U << 12;
    static constexpr std::uint64_t efer_long_mode_enable = 1U << 8;
    static constexpr std::uint64_t efer_long_mode_active = 1U << 10;
    static constexpr std::uint64_t rflags_reserved_1 = 1U << 1;
    static constexpr std::uint64_t rflags_trap_flag = 1U << 8;
    static constexpr std::uint64_t rflags_resume_flag = 1U << 16;

    std::uint64_t rip = 0;
    std::uint64_t rflags = rflags_reserved_1;
    std::uint64_t cr0 = cr0_extension_type;
    std::uint64_t cr2 = 0;
    std::uint64_t cr3 = 0;
    std::uint64_t cr4 = 0;
    std::uint64_t efer = 0;
    std::uint8_t cpl = 0;
    segment_state segments[6]{}; ///< by the numbers of pt::vcpu::segment_register
    segment_state ldtr{};
    segment_state tr{};
    table_state gdtr{};
    table_state idtr{};

    [[nodiscard]] constexpr const segment_state&
    operator[](pt::vcpu::segment_register which) const {
        return segments[static_cast<unsigned>(which)];
    }
    [[nodiscard]] constexpr segment_state& operator[](pt::vcpu::segment_register which) {
        return segments[static_cast<unsigned>(which)];
    }
    /// What kind of code runs.
    [[nodiscard]] constexpr pt::vcpu::code_size code_size() const {
        constexpr std::uint32_t long_mode = 1U << 13;    // L
        constexpr std::uint32_t default_size = 1U << 14; // D
        const std::uint32_t rights = (*this)[pt::vcpu::segment_register::cs].rights;
        if ((efer & efer_long_mode_active) != 0 && (rights & long_mode) != 0) {
            return pt::vcpu::code_size::bits_64;
        }
        return (rights & default_size) != 0 ? pt::vcpu::code_size::bits_32
                                            : pt::vcpu::code_size::bits_16;
    }

    friend constexpr bool operator==(const cpu_state&, const cpu_state&) = default;
};

/// The state in which a multiboot loader starts a kernel at that address: protected mode without
/// paging, all segments flat, interrupts off [Multiboot Specification]. EAX and EBX are the
/// loader's to set.
[[nodiscard]] constexpr cpu_state multiboot_state(std::uint32_t entry) {
    constexpr std::uint32_t flat_code = 0xC09B;
    constexpr std::uint32_t flat_data = 0xC093;
    constexpr std::uint32_t busy_task = 0x008B;
    cpu_state state{.rip = entry,
                    .cr0 = cpu_state::cr0_extension_type | cpu_state::cr0_protection_enable};
    for (segment_state& each : state.segments) {
        each = {.selector = 0x10, .rights = flat_data, .limit = 0xFFFF'FFFF};
    }
    state[pt::vcpu::segment_register::cs] = {
        .selector = 0x08, .rights = flat_code, .limit = 0xFFFF'FFFF};
    state.tr = {.rights = busy_task, .limit = 0xFFFF}; // a processor has one after reset
    state.gdtr.limit = 0xFFFF;
    state.idtr.limit = 0xFFFF;
    return state;
}

} // namespace vmm
