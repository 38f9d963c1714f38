// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/width.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <map>
#include <vector>

/// The functions of a dump as a config_access: a map from address to the bytes, or to something that
/// has them as its member `bytes`. What it does not hold reads all ones. A write fails the test:
/// nobody may write here.
template <class Functions>
struct dump_config_of {
    const Functions* functions;

    std::uint32_t read(pt::pci::function_address address, std::uint16_t offset,
                       pt::width size) const {
        const auto found = functions->find(address);
        const unsigned count = static_cast<unsigned>(size);
        if (found == functions->end() || offset + count > bytes_of(found->second).size()) {
            return pt::all_ones(size);
        }
        std::uint32_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            value |= std::uint32_t{bytes_of(found->second)[offset + i]} << 8 * i;
        }
        return value;
    }
    void write(pt::pci::function_address, std::uint16_t, pt::width, std::uint32_t) const {
        FAIL("a write to a dump");
    }

private:
    using bytes = std::vector<std::uint8_t>;

    static const bytes& bytes_of(const bytes& function) { return function; }
    template <class Function>
    static const bytes& bytes_of(const Function& function) {
        return function.bytes;
    }
};
