// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/scope_resolution.hpp"

#include <cstddef>

namespace pt::vtd {

/// Memory that a function reaches for firmware's sake, and that must stay mapped to itself.
struct reserved_region {
    std::size_t offset = 0; ///< of the RMRR in the table
    range<hpa> memory;      ///< whole pages

    friend constexpr bool operator==(const reserved_region&, const reserved_region&) = default;
};

/// The reserved regions of one function as a lazy range of results. The error of an element tells
/// of one RMRR that is wrong, by its offset in the table; the others are found nevertheless.
///   errc::malformed     its limit is below its base; or a scope of it needs a bridge whose bus
///                       numbers cannot be, so that it might be the function's
///   errc::misaligned    it is not whole pages
///   errc::out_of_range  a scope of it has a hop that no bus can carry, likewise
template <pci::bridge_bus_numbers Bridges>
class reserved_region_list {
public:
    using value_type = result<reserved_region>;

    class iterator {
    public:
        using value_type = result<reserved_region>;
        using difference_type = std::ptrdiff_t;

        explicit constexpr iterator(const reserved_region_list& of)
            : at_{of.table_.structures().begin()}, who_{of.who_}, bridges_{of.bridges_} {
            seek();
        }

        [[nodiscard]] constexpr result<reserved_region> operator*() const { return found_; }
        constexpr iterator& operator++() {
            ++at_;
            seek();
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }
        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.at_ == b.at_;
        }
        friend constexpr bool operator==(const iterator& at, dmar_list_end end) {
            return at.at_ == end;
        }

    private:
        constexpr void seek() {
            while (!(at_ == dmar_list_end{}) && !is_wanted(*at_)) {
                ++at_;
            }
        }
        /// Whether the structure is an RMRR that is, or might be, the function's; `found_` then
        /// tells.
        constexpr bool is_wanted(const remapping_structure& structure) {
            if (structure.type != rmrr::type) {
                return false;
            }
            const rmrr report = rmrr::decode(structure.bytes);
            const auto covered =
                covers(report.scopes, report.segment, who_, bridges_, structure.offset);
            if (!covered) {
                found_ = covered.error();
                return true;
            }
            if (const auto memory = report.region()) {
                found_ = reserved_region{structure.offset, *memory};
            } else {
                found_ = error{memory.error().code, structure.offset};
            }
            return *covered;
        }

        remapping_structure_list::iterator at_;
        requester who_;
        [[no_unique_address]] Bridges bridges_;
        result<reserved_region> found_ = error{errc::absent};
    };

    constexpr reserved_region_list(const dmar& table, requester who, Bridges bridges)
        : table_{table}, who_{who}, bridges_{bridges} {}

    [[nodiscard]] constexpr iterator begin() const { return iterator{*this}; }
    [[nodiscard]] constexpr dmar_list_end end() const { return {}; }

private:
    dmar table_;
    requester who_;
    [[no_unique_address]] Bridges bridges_;
};

/// The reserved regions of a function, in the order of the table.
template <pci::bridge_bus_numbers Bridges>
[[nodiscard]] constexpr reserved_region_list<Bridges>
reserved_regions(const dmar& table, requester who, Bridges bridges) {
    return {table, who, bridges};
}

} // namespace pt::vtd
