// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

namespace demo {

/// The frames in a pcap file, in order. A file that ends in the middle of a frame, as one that is
/// still being written may, yields the frames before it. Throws std::runtime_error, with the
/// file's name, when the file cannot be opened or is not a capture of Ethernet frames.
std::vector<std::vector<std::byte>> read_capture(const std::filesystem::path& file);

} // namespace demo
