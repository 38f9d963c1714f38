// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>

/// What lies where on the disk from which Bochs boots the VMM. run.py writes it, with the constants
/// that it reads in this file (so each is one line, and a number); the VMM reads it by disk.hpp.
///
///     sector 0                       the boot sector
///     sector 1                       the multiboot information and the VMM's command line
///     sector vmm_sector ...          the VMM, as it lies in memory
///     sector directory_sector        a directory
///     the sectors behind it          one file_entry each
///     from there on                  the files, each from the start of a sector
namespace vmm::disk_layout {

inline constexpr std::uint32_t sector_size = 512;
inline constexpr std::uint32_t information_sector = 1;
/// Where the boot sector puts it: the addresses in it are absolute.
inline constexpr std::uint32_t information_address = 0x7E00;
/// Bytes into the sector. The command line has what is left of it, less one byte for its end.
inline constexpr std::uint32_t command_line_offset = 64;
inline constexpr std::uint32_t vmm_sector = 2;
inline constexpr std::uint32_t directory_sector = 8192;
inline constexpr std::uint32_t most_files = 32;

/// "pt files", of the first byte the lowest bits.
inline constexpr std::uint64_t directory_magic = 0x73656c6966207470;
/// Bytes in an entry for the words of a file, its name first, as a multiboot loader gives them:
/// with the zero that ends them.
inline constexpr std::uint32_t words_size = 504;

/// The start of a sector. All numbers have their lowest byte first.
struct directory {
    std::uint64_t magic; ///< directory_magic
    std::uint32_t files; ///< entries that follow, at most most_files
};

/// One sector.
struct file_entry {
    std::uint32_t first_sector;
    std::uint32_t size; ///< in bytes
    char words[words_size];
};
static_assert(sizeof(directory) <= sector_size && sizeof(file_entry) == sector_size);

} // namespace vmm::disk_layout
