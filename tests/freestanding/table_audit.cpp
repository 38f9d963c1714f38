// SPDX-License-Identifier: BSL-1.0
//
// The auditor as a kernel is compiled, over each format and its own direct map; see
// passthrough.cpp.

#include "pt/memory/direct_map.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include <cstdint>

namespace kernel {

struct log {
    std::uint64_t* lines;

    void operator()(const pt::paging::finding& found) {
        *lines += *pt::paging::name(found.kind) != 0 && *pt::paging::name(found.defect) != 0;
    }
};

/// Whether the tables are sound and lead to none of themselves.
template <class Format>
bool is_sound(Format format, pt::hpa root, pt::range<pt::hpa> memory, std::uint64_t* words,
              log report) {
    const std::uint64_t needed = pt::paging::frame_bitmap::words_for(memory);
    const pt::paging::direct_map_reader reader{memory, pt::offset_map{0xFFFF'8000'0000'0000}};
    const pt::paging::frame_bitmap tables{memory, words, needed};
    const pt::paging::frame_bitmap seen{memory, words + needed, needed};
    std::uint64_t mapped = 0;
    const auto first = pt::paging::audit_leaves(
        format, reader, root, tables, report,
        [&mapped](const pt::paging::mapping<Format>& leaf) { mapped += leaf.input.size(); });
    return first.clean() && first.mapped() == mapped &&
           pt::paging::audit_reach(format, reader, root, seen, tables, report).clean();
}

template bool is_sound(pt::ept::format, pt::hpa, pt::range<pt::hpa>, std::uint64_t*, log);
template bool is_sound(pt::vtd::second_stage::format, pt::hpa, pt::range<pt::hpa>, std::uint64_t*,
                       log);
template bool is_sound(pt::x86_64::nested_paging, pt::hpa, pt::range<pt::hpa>, std::uint64_t*, log);
template bool is_sound(pt::x86_64::first_stage, pt::hpa, pt::range<pt::hpa>, std::uint64_t*, log);

/// A dump: null for what it does not hold.
bool is_sound_in_dump(pt::ept::format format, pt::hpa root, pt::range<pt::hpa> frames,
                      const std::uint64_t* image, std::uint64_t* words, log report) {
    return pt::paging::audit(
               format, pt::paging::image_reader{frames, image}, root,
               pt::paging::frame_bitmap{frames, words, pt::paging::frame_bitmap::words_for(frames)},
               report)
        .clean();
}

} // namespace kernel
