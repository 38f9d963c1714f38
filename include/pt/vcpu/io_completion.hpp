// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/width.hpp"
#include "pt/vcpu/code_size.hpp"

#include <cstdint>

/// What IN, OUT and other intercepted instructions leave in a guest's registers once the VMM has
/// done their work. What else an instruction does when it completes is in the words of VMX or SVM
/// and so is the loop's: it ends the blocking by STI and by MOV SS (SVM: the interrupt shadow), it
/// clears RFLAGS.RF, and with RFLAGS.TF set a debug exception follows it.
namespace pt::vcpu {

/// What OUT sends: AL, AX or EAX [sdm].
[[nodiscard]] constexpr std::uint32_t out_value(std::uint64_t rax, width size) {
    return static_cast<std::uint32_t>(rax) & all_ones(size);
}

/// RAX after an IN that reads `value`, whose bits above the width have no effect. IN to AL or AX
/// leaves the bits above; IN to EAX clears bits 63:32, as every 32-bit result does [sdm,
/// General-Purpose Registers in 64-Bit Mode].
[[nodiscard]] constexpr std::uint64_t accumulator_after_in(std::uint64_t rax, width size,
                                                           std::uint32_t value) {
    if (size == width::dword) {
        return value;
    }
    const std::uint64_t written = all_ones(size);
    return (rax & ~written) | (value & written);
}

/// RIP after an instruction of `length` bytes. Outside of 64-bit mode it has 32 bits and wraps
/// there, also in 16-bit code: IP does not wrap from FFFFH to 0 as on the 8086, the next fetch is
/// beyond the segment's limit and the guest gets its #GP by itself. The same holds in 64-bit mode
/// for a RIP that is not canonical.
[[nodiscard]] constexpr std::uint64_t rip_after(std::uint64_t rip, std::uint8_t length,
                                                code_size code) {
    const std::uint64_t next = rip + length;
    return code == code_size::bits_64 ? next : next & 0xFFFF'FFFF;
}

} // namespace pt::vcpu
