// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"

#include "disk_layout.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// Files that run.py has put on the disk for the VMM: the guests, and their modules.
class disk_files {
public:
    /// Reads the directory. errc::malformed with a sector: there is none, or it is not in order;
    /// otherwise as disk::read().
    template <class Disk>
    pt::result<void> open(Disk& from) {
        using namespace disk_layout;
        std::byte sector[sector_size];
        if (const auto done = from.read(directory_sector, 1, sector); !done) {
            return done;
        }
        directory head{};
        __builtin_memcpy(&head, sector, sizeof head);
        if (head.magic != directory_magic || head.files > most_files) {
            return pt::error{pt::errc::malformed, directory_sector};
        }
        for (std::uint32_t i = 0; i < head.files; ++i) {
            const std::uint32_t at = directory_sector + 1 + i;
            if (const auto done = from.read(at, 1, sector); !done) {
                return done;
            }
            __builtin_memcpy(&entries_[i], sector, sizeof entries_[i]);
            if (entries_[i].words[words_size - 1] != '\0') {
                return pt::error{pt::errc::malformed, at};
            }
        }
        count_ = head.files;
        return {};
    }

    [[nodiscard]] std::uint32_t count() const { return count_; }
    /// The file's name and the words behind it, as a multiboot loader gives them.
    [[nodiscard]] const char* words(std::uint32_t file) const { return entries_[file].words; }
    /// In bytes.
    [[nodiscard]] std::uint32_t size(std::uint32_t file) const { return entries_[file].size; }
    /// Bytes that load() needs: whole sectors.
    [[nodiscard]] std::uint64_t room(std::uint32_t file) const {
        return std::uint64_t{sectors_of(file)} * disk_layout::sector_size;
    }

    /// Reads a file to `room` bytes of memory. As disk::read().
    template <class Disk>
    pt::result<void> load(Disk& from, std::uint32_t file, std::byte* to) const {
        return from.read(entries_[file].first_sector, sectors_of(file), to);
    }

private:
    [[nodiscard]] std::uint32_t sectors_of(std::uint32_t file) const {
        constexpr std::uint32_t each = disk_layout::sector_size;
        return entries_[file].size / each + (entries_[file].size % each != 0 ? 1 : 0);
    }

    std::uint32_t count_ = 0;
    disk_layout::file_entry entries_[disk_layout::most_files]{};
};

} // namespace vmm
