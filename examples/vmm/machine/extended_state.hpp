// SPDX-License-Identifier: BSL-1.0
//
// What a processor holds of a guest that neither VMX nor SVM exchanges at an entry or exit. The VMM
// uses none of it, so it stays in the processor until another virtual processor takes its turn
// there.
#pragma once

#include "../../kernel/processor.hpp"

#include <cstdint>

namespace vmm {

/// The x87 and SSE registers, and the addresses of breakpoints. (XSAVE is hidden from guests, so
/// there is no more.)
class alignas(16) extended_state {
public:
    /// As INIT leaves them, for the x87 part and MXCSR.
    constexpr extended_state() {
        image_[0] = 0x7F; // FCW: 037FH
        image_[1] = 0x03;
        image_[24] = 0x80; // MXCSR: 1F80H
        image_[25] = 0x1F;
    }

    /// Lets this processor save and restore it. Once.
    static void allow() {
        constexpr std::uint64_t os_fxsave_fxrstor = 1U << 9;
        constexpr std::uint64_t os_simd_exceptions = 1U << 10;
        kernel::write_cr4(kernel::read_cr4() | os_fxsave_fxrstor | os_simd_exceptions);
    }

    void save() {
        asm volatile("fxsave64 %0" : "=m"(image_));
        asm volatile("mov %%dr0, %0" : "=r"(breakpoints_[0]));
        asm volatile("mov %%dr1, %0" : "=r"(breakpoints_[1]));
        asm volatile("mov %%dr2, %0" : "=r"(breakpoints_[2]));
        asm volatile("mov %%dr3, %0" : "=r"(breakpoints_[3]));
    }
    void restore() const {
        asm volatile("fxrstor64 %0" : : "m"(image_));
        asm volatile("mov %0, %%dr0" : : "r"(breakpoints_[0]));
        asm volatile("mov %0, %%dr1" : : "r"(breakpoints_[1]));
        asm volatile("mov %0, %%dr2" : : "r"(breakpoints_[2]));
        asm volatile("mov %0, %%dr3" : : "r"(breakpoints_[3]));
    }

private:
    std::uint8_t image_[512]{};
    std::uint64_t breakpoints_[4]{};
};

} // namespace vmm
