// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/leaf_range.hpp"
#include "pt/paging/table_reader.hpp"

#include <cstdint>

namespace pt::paging {

/// Where `input` leads in tables that anybody may have written: an image, a dump, the tables of
/// another program. Nothing that they hold is trusted. The attributes are those of the leaf alone;
/// entries above it can only take rights away. (For tables of one's own there is
/// table::translate().)
///
/// errc::misaligned for the root; errc::out_of_range for an input that the format cannot translate;
/// errc::not_mapped; errc::malformed with an entry that the hardware would refuse; errc::absent
/// with a table that the reader does not have.
template <entry_format Format, table_reader Reader>
[[nodiscard]] constexpr result<translation<Format>>
translate(const Format& format, Reader reader, hpa root, typename Format::address input) {
    if (!root.is_aligned(4 * KiB)) {
        return error{errc::misaligned, root.raw};
    }
    if ((input.raw >> format.input_width()) != 0) {
        return error{errc::out_of_range, input.raw};
    }
    hpa table = root;
    for (unsigned level = format.levels(); level != 0; --level) {
        const std::uint64_t* const entries = reader.entries(table);
        if (entries == nullptr) {
            return error{errc::absent, table.raw};
        }
        const std::uint64_t entry = load_entry(entries + level_index(input.raw, level));
        if (!format.is_present(entry)) {
            break;
        }
        if (format.defect(entry, level) != entry_defect::none) {
            return error{errc::malformed, entry};
        }
        table = frame_of<Format>(entry, level);
        if (is_leaf<Format>(entry, level)) {
            return translation<Format>{table + input.offset_in(level_size(level)),
                                       static_cast<page_size>(level),
                                       format.attributes_of(entry, level)};
        }
    }
    return error{errc::not_mapped, input.raw};
}

} // namespace pt::paging
