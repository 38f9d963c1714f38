// SPDX-License-Identifier: BSL-1.0
// expect-gcc: config\.write\(function, offset, size, value\).* is invalid
// expect-clang: 'config\.write\(function, offset, size, value\)' would be invalid
#include "pt/pci/config_ports.hpp"

#include <cstdint>

struct functions {
    constexpr std::uint32_t read(pt::pci::function_address, std::uint16_t, pt::width size) {
        return pt::all_ones(size);
    }
#ifdef PT_FAIL
    // write is forgotten
#else
    constexpr void write(pt::pci::function_address, std::uint16_t, pt::width, std::uint32_t) {}
#endif
};

pt::pci::config_ports<functions> ports{functions{}};
