// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/ownership.hpp"

#include <cstddef>

namespace pt::assign {

/// Memory of the VMM for the lists of an ownership; guest::owned() fills it in.
struct ownership_room {
    owned_pages* pages = nullptr;
    /// Up to five for each BAR for memory, one for all else that is claimed.
    std::size_t page_count = 0;
    owned_ports* ports = nullptr;
    std::size_t port_count = 0;
    owned_function* functions = nullptr;
    std::size_t function_count = 0;
    owned_vector* vectors = nullptr;
    std::size_t vector_count = 0;
};

/// The same as one object.
template <std::size_t Pages, std::size_t Ports, std::size_t Functions, std::size_t Vectors>
struct ownership_lists {
    owned_pages pages[Pages]{};
    owned_ports ports[Ports]{};
    owned_function functions[Functions]{};
    owned_vector vectors[Vectors]{};

    [[nodiscard]] constexpr ownership_room room() {
        return {pages, Pages, ports, Ports, functions, Functions, vectors, Vectors};
    }
};

} // namespace pt::assign
