// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

namespace pt::vcpu {

/// What kind of code runs, by the code segment's descriptor [sdm] [amd]: the default sizes of
/// operands and addresses follow from it, and what an instruction pointer is.
enum class code_size : std::uint8_t {
    bits_16, ///< CS.D = 0: real mode, virtual-8086 mode, and 16-bit segments
    bits_32, ///< CS.D = 1 and not 64-bit mode
    bits_64, ///< 64-bit mode: IA32_EFER.LMA = 1 and CS.L = 1, whatever CS.D is
};

} // namespace pt::vcpu
