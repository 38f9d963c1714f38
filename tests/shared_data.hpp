// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

/// Data of real machines, which is not part of this repository: tests that find none are skipped.
namespace shared_data {

/// The files of one kind ("lspci", "dmar") in PT_SHARED_DATA, or else beside the repository; sorted.
inline std::vector<std::filesystem::path> files(const char* kind) {
    namespace fs = std::filesystem;
    const char* const told = std::getenv("PT_SHARED_DATA");
    const fs::path data =
        told != nullptr ? fs::path{told} : fs::path{PT_SOURCE_DIR} / ".." / "shared" / "data";
    std::vector<fs::path> found;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator{data / kind, none}) {
        found.push_back(entry.path());
    }
    std::sort(found.begin(), found.end());
    return found;
}

} // namespace shared_data
