// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/paging/x86_64.hpp"

#include "walker.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

// What a test needs to know of a format: how to make it, attributes to try, and the hardware that
// walks it. The walkers get the same capabilities as the format, each in its own terms.
namespace paging_model {

/// EPT. `Flags`: accessed and dirty flags. `Everything`: mode-based execute control and all other
/// controls that give a bit a meaning.
template <unsigned Levels, bool Flags = false, bool Everything = false>
struct ept_kit_with {
    using format = pt::ept::format;
    using address = pt::gpa;
    using attributes = pt::ept::attributes;

    static constexpr unsigned levels = Levels;
    static constexpr unsigned input_width = 12 + 9 * Levels;
    static constexpr unsigned output_width = 46;
    static constexpr bool caches_not_mapped = false;
    static constexpr bool sets_flags = Flags;
    static constexpr bool bit_7_in_4k = false;
    static constexpr std::uint64_t present_bits = Everything ? 0b100'0000'0111 : 0b111;
    static constexpr std::uint64_t nothing = std::uint64_t{1} << 63; // suppress #VE

    pt::paging::page_size largest = pt::paging::page_size::size_1g;

    [[nodiscard]] constexpr format make() const {
        const auto level = static_cast<unsigned>(largest);
        std::uint64_t reported =
            1 | std::uint64_t{0b11} << 6 | std::uint64_t{1} << 14; // [sdm, A.10]
        reported |= std::uint64_t{level >= 2} << 16 | std::uint64_t{level >= 3} << 17;
        reported |= std::uint64_t{0b101} << 21;
        return format{pt::ept::capabilities{reported},
                      output_width,
                      {.levels = Levels,
                       .accessed_dirty = Flags,
                       .mode_based_execute = Everything,
                       .supervisor_shadow_stack = Everything,
                       .sub_page_write_permissions = Everything,
                       .guest_paging_verification = Everything,
                       .paging_write = Everything}};
    }
    [[nodiscard]] constexpr ept_walker hardware() const {
        const auto level = static_cast<unsigned>(largest);
        return {.levels = Levels,
                .physical_width = output_width,
                .execute_only = true,
                .pages_2m = level >= 2,
                .pages_1g = level >= 3,
                .accessed_dirty = Flags,
                .mode_based_execute = Everything};
    }
    /// Bytes of the largest page that the hardware takes.
    [[nodiscard]] constexpr std::uint64_t largest_page(const attributes& a) const {
        return a.sub_page_write_permissions ? 4096
                                            : std::uint64_t{4096} << 9 * (unsigned(largest) - 1);
    }

    static constexpr attributes choices[] = {
        pt::ept::ram,
        pt::ept::device_memory,
        {.read = true,
         .type = pt::ept::memory_type::write_combining,
         .user_execute = Everything,
         .sub_page_write_permissions = Everything},
        {.execute = true,
         .type = pt::ept::memory_type::write_through,
         .verify_guest_paging = Everything},
        {.read = true,
         .execute = true,
         .type = pt::ept::memory_type::write_protected,
         .ignore_pat = true,
         .user_execute = !Everything,
         .paging_write = Everything},
        {.read = true, .write = true, .supervisor_shadow_stack = Everything, .suppress_ve = false},
        {.execute = !Everything, .user_execute = true},
    };
    static constexpr attributes write_protected(attributes a) {
        a.write = false;
        a.paging_write = false;
        a.supervisor_shadow_stack = false;
        a.sub_page_write_permissions = false;
        return a;
    }
    static constexpr outcome expected(const attributes& a, std::uint64_t output) {
        outcome made;
        made.what = outcome::kind::translated;
        made.read = a.read;
        made.write = a.write;
        made.execute = a.execute;
        made.user_execute = Everything ? a.user_execute : a.execute;
        made.ignore_pat = a.ignore_pat;
        made.type = static_cast<unsigned>(a.type);
        made.extra =
            std::uint64_t{a.verify_guest_paging} << 57 | std::uint64_t{a.paging_write} << 58 |
            std::uint64_t{a.supervisor_shadow_stack} << 60 |
            std::uint64_t{a.sub_page_write_permissions} << 61 | std::uint64_t{a.suppress_ve} << 63;
        made.output = output;
        return made;
    }
};
using ept_kit = ept_kit_with<4>;
using ept_flags_kit = ept_kit_with<4, true>;
using ept5_kit = ept_kit_with<5, false, true>;
using ept5_flags_kit = ept_kit_with<5, true, true>;

template <unsigned Levels, bool StaleWhenMapped = false, bool Flags = false>
struct second_stage_kit {
    using format = pt::vtd::second_stage::format;
    using address = pt::iova;
    using attributes = pt::vtd::second_stage::attributes;

    static constexpr unsigned levels = Levels;
    static constexpr unsigned input_width = 12 + 9 * Levels;
    static constexpr unsigned output_width = 46;
    static constexpr bool caches_not_mapped = StaleWhenMapped;
    static constexpr bool sets_flags = Flags;
    static constexpr bool bit_7_in_4k = false;
    static constexpr std::uint64_t present_bits = 0b11;
    static constexpr std::uint64_t nothing = 0;

    pt::paging::page_size largest = pt::paging::page_size::size_1g;

    [[nodiscard]] constexpr format make() const {
        return format{{.levels = Levels,
                       .input_width = input_width,
                       .output_width = output_width,
                       .largest_page = largest,
                       .snoop_control = true,
                       .transient_mapping = true,
                       .accessed_dirty = Flags,
                       .stale_when_mapped = StaleWhenMapped}};
    }
    [[nodiscard]] constexpr second_stage_walker hardware() const {
        const auto level = static_cast<unsigned>(largest);
        return {.levels = Levels,
                .host_width = output_width,
                .pages_2m = level >= 2,
                .pages_1g = level >= 3,
                .snoop_control = true,
                .transient_mapping = true,
                .accessed_dirty = Flags};
    }
    [[nodiscard]] constexpr std::uint64_t largest_page(const attributes&) const {
        return std::uint64_t{4096} << 9 * (unsigned(largest) - 1);
    }

    static constexpr attributes choices[] = {
        pt::vtd::second_stage::read_write,
        {.read = true},
        {.write = true},
        {.read = true, .write = true, .snoop = true},
        {.read = true, .write = true, .transient_mapping = true},
    };
    static constexpr attributes write_protected(attributes a) {
        a.write = false;
        return a;
    }
    static constexpr outcome expected(const attributes& a, std::uint64_t output) {
        outcome made;
        made.what = outcome::kind::translated;
        made.read = a.read;
        made.write = a.write;
        made.snoop = a.snoop;
        made.transient = a.transient_mapping;
        made.output = output;
        return made;
    }
};

/// x86-64: nested paging where addresses are gpa, VT-d first stage where they are iova.
template <class Address, unsigned Levels>
struct x86_64_kit {
    using format = pt::x86_64::format<Address>;
    using address = Address;
    using attributes = pt::x86_64::attributes;

    static constexpr bool nested = std::is_same_v<Address, pt::gpa>;
    static constexpr unsigned levels = Levels;
    static constexpr unsigned output_width = Levels == 5 ? 52 : 46;
    // A guest has no more address bits than the host; of a device's, the lower half is canonical.
    static constexpr unsigned input_width = nested ? output_width : 11 + 9 * Levels;
    static constexpr bool caches_not_mapped = false;
    static constexpr bool sets_flags = true;
    static constexpr bool bit_7_in_4k = true; // PAT
    static constexpr std::uint64_t present_bits = 1;
    static constexpr std::uint64_t nothing = 0;

    pt::paging::page_size largest = pt::paging::page_size::size_1g; // 2 MiB at least

    [[nodiscard]] constexpr format make() const {
        return format{output_width,
                      {.levels = Levels, .pages_1g = largest == pt::paging::page_size::size_1g}};
    }
    [[nodiscard]] constexpr x86_64_walker hardware() const {
        return {.levels = Levels,
                .physical_width = output_width,
                .pages_1g = largest == pt::paging::page_size::size_1g,
                .nested = nested};
    }
    [[nodiscard]] constexpr std::uint64_t largest_page(const attributes&) const {
        return largest == pt::paging::page_size::size_1g ? pt::GiB : 2 * pt::MiB;
    }

    static constexpr attributes choices[] = {
        pt::x86_64::ram,
        pt::x86_64::device_memory,
        {.execute = true, .pat_entry = 4},
        {.write = true, .pat_entry = 7, .global = true},
        {.user = nested, .pat_entry = 6},
    };
    static constexpr attributes write_protected(attributes a) {
        a.write = false;
        return a;
    }
    static constexpr outcome expected(const attributes& a, std::uint64_t output) {
        outcome made;
        made.what = outcome::kind::translated;
        made.read = true;
        made.write = a.write;
        made.execute = a.execute;
        made.user = a.user;
        made.type = a.pat_entry;
        made.extra = std::uint64_t{a.global} << 8;
        made.output = output;
        return made;
    }
};
using nested_kit = x86_64_kit<pt::gpa, 4>;
using first_stage_kit = x86_64_kit<pt::iova, 5>;

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
