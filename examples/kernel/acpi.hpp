// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

namespace kernel {

struct bytes {
    const std::byte* data = nullptr;
    std::size_t size = 0;
};

/// An ACPI table by its signature, e.g. "DMAR"; no data if firmware has none.
bytes acpi_table(const char* signature);

} // namespace kernel
