// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/entry_store.hpp"
#include "pt/vtd/scalable_tables.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// The PASID directory of one function with its tables of 64 entries each. The directory is one
/// frame, which has room for 15 bits of PASID. A view: the frames belong to the root table.
template <table_memory Memory>
class pasid_directory {
public:
    /// PASIDs below this have an entry.
    static constexpr std::uint32_t pasids = entries_per_table * entries_per_pasid_table;
    /// PDTS of such a directory: 2^(2 + 7) entries.
    static constexpr std::uint8_t size_field = 2;

    constexpr pasid_directory(Memory& memory, hpa directory)
        : memory_{&memory}, directory_{directory} {}

    /// The first of the eight words of the PASID's entry; null where it has no table.
    [[nodiscard]] constexpr std::uint64_t* find(std::uint32_t pasid) const {
        const pasid_directory_entry entry{*slot_of(pasid)};
        return entry[pasid_directory_entry::present]
                   ? entry_in(entry[pasid_directory_entry::pasid_table], pasid)
                   : nullptr;
    }
    /// The same; where it has no table it gets one. errc::out_of_frames.
    template <class Store>
    constexpr result<std::uint64_t*> ensure(std::uint32_t pasid, Store& store) {
        if (std::uint64_t* const found = find(pasid); found != nullptr) {
            return found;
        }
        const result<hpa> table = memory_->allocate(frame_contents::zeroed);
        if (!table) {
            return table.error();
        }
        store.publish_table(memory_->entries(*table));
        store.word(slot_of(pasid), pasid_directory_entry{pasid_directory_entry::present(true),
                                                         pasid_directory_entry::pasid_table(*table)}
                                       .raw);
        return entry_in(*table, pasid);
    }
    /// Calls `use(pasid, words)` for each entry that is not empty.
    template <class Use>
    constexpr void each(Use use) const {
        const std::uint64_t* const directory = memory_->entries(directory_);
        for (std::uint32_t i = 0; i < entries_per_table; ++i) {
            const pasid_directory_entry entry{directory[i]};
            if (!entry[pasid_directory_entry::present]) {
                continue;
            }
            std::uint64_t* const table =
                memory_->entries(entry[pasid_directory_entry::pasid_table]);
            for (std::uint32_t k = 0; k < entries_per_pasid_table; ++k) {
                std::uint64_t* const words = table + k * words_per_pasid_entry;
                if (words[0] != 0 || words[1] != 0) {
                    use(static_cast<std::uint32_t>(i * entries_per_pasid_table + k), words);
                }
            }
        }
    }
    /// Gives the directory and its tables back.
    constexpr void release() {
        const std::uint64_t* const directory = memory_->entries(directory_);
        for (std::size_t i = 0; i < entries_per_table; ++i) {
            const pasid_directory_entry entry{directory[i]};
            if (entry[pasid_directory_entry::present]) {
                memory_->release(entry[pasid_directory_entry::pasid_table]);
            }
        }
        memory_->release(directory_);
    }

private:
    constexpr std::uint64_t* slot_of(std::uint32_t pasid) const {
        return memory_->entries(directory_) + pasid / entries_per_pasid_table;
    }
    constexpr std::uint64_t* entry_in(hpa table, std::uint32_t pasid) const {
        return memory_->entries(table) + pasid % entries_per_pasid_table * words_per_pasid_entry;
    }

    Memory* memory_;
    hpa directory_;
};

} // namespace pt::vtd
