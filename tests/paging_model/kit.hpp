// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include "walker.hpp"

#include <cstddef>
#include <cstdint>

// What a test needs to know of a format: how to make it, attributes to try, and the hardware that
// walks it. The walkers get the same capabilities as the format, each in its own terms.
namespace paging_model {

struct ept_kit {
    using format = pt::ept::format;
    using address = pt::gpa;
    using attributes = pt::ept::attributes;

    static constexpr unsigned levels = 4;
    static constexpr unsigned input_width = 48;
    static constexpr unsigned output_width = 46;
    static constexpr bool caches_not_mapped = false;
    static constexpr std::uint64_t present_bits = 0b111;
    static constexpr std::uint64_t nothing = std::uint64_t{1} << 63; // suppress #VE

    pt::paging::page_size largest = pt::paging::page_size::size_1g;

    [[nodiscard]] constexpr format make() const {
        const auto level = static_cast<unsigned>(largest);
        std::uint64_t reported = 1 | std::uint64_t{1} << 6 | std::uint64_t{1} << 14; // [sdm, A.10]
        reported |= std::uint64_t{level >= 2} << 16 | std::uint64_t{level >= 3} << 17;
        return format{pt::ept::capabilities{reported}, output_width};
    }
    [[nodiscard]] constexpr ept_walker hardware() const {
        const auto level = static_cast<unsigned>(largest);
        return {.physical_width = output_width,
                .execute_only = true,
                .pages_2m = level >= 2,
                .pages_1g = level >= 3};
    }

    static constexpr attributes choices[] = {
        pt::ept::ram,
        pt::ept::device_memory,
        {.read = true, .type = pt::ept::memory_type::write_combining},
        {.execute = true, .type = pt::ept::memory_type::write_through},
        {.read = true,
         .execute = true,
         .type = pt::ept::memory_type::write_protected,
         .ignore_pat = true},
    };
    static constexpr outcome expected(const attributes& a, std::uint64_t output) {
        return {.what = outcome::kind::translated,
                .read = a.read,
                .write = a.write,
                .execute = a.execute,
                .ignore_pat = a.ignore_pat,
                .type = static_cast<unsigned>(a.type),
                .output = output};
    }
};

template <unsigned Levels, bool StaleWhenMapped = false>
struct second_stage_kit {
    using format = pt::vtd::second_stage::format;
    using address = pt::iova;
    using attributes = pt::vtd::second_stage::attributes;

    static constexpr unsigned levels = Levels;
    static constexpr unsigned input_width = 12 + 9 * Levels;
    static constexpr unsigned output_width = 46;
    static constexpr bool caches_not_mapped = StaleWhenMapped;
    static constexpr std::uint64_t present_bits = 0b11;
    static constexpr std::uint64_t nothing = 0;

    pt::paging::page_size largest = pt::paging::page_size::size_1g;

    [[nodiscard]] constexpr format make() const {
        return format{{.levels = Levels,
                       .input_width = input_width,
                       .output_width = output_width,
                       .largest_page = largest,
                       .snoop_control = true,
                       .stale_when_mapped = StaleWhenMapped}};
    }
    [[nodiscard]] constexpr second_stage_walker hardware() const {
        const auto level = static_cast<unsigned>(largest);
        return {.levels = Levels,
                .host_width = output_width,
                .pages_2m = level >= 2,
                .pages_1g = level >= 3,
                .snoop_control = true};
    }

    static constexpr attributes choices[] = {
        pt::vtd::second_stage::read_write,
        {.read = true},
        {.write = true},
        {.read = true, .write = true, .snoop = true},
    };
    static constexpr outcome expected(const attributes& a, std::uint64_t output) {
        return {.what = outcome::kind::translated,
                .read = a.read,
                .write = a.write,
                .snoop = a.snoop,
                .output = output};
    }
};

/// What the engine's own translate() says, in the walkers' terms.
template <class Kit, class Table>
constexpr outcome translated(const Table& table, std::uint64_t input) {
    const auto found = table.translate(typename Kit::address{input});
    if (!found) {
        return {};
    }
    outcome said = Kit::expected(found->attributes, found->output.raw);
    said.page = pt::paging::bytes(found->size);
    return said;
}

} // namespace paging_model
