// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include <cstddef>
#include <cstdint>

/// Enhanced Allocation (EA) [pcie]: a capability by which a function, most often one inside the
/// chip, says where its ranges are instead of asking. A BAR that EA stands for reads 0 in the header
/// (bar.hpp) or in SR-IOV, and takes no address.
namespace pt::pci {

/// Num Entries.
struct enhanced_allocation_count : reg<enhanced_allocation_count, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 2;

    static constexpr bits<5, 0, std::uint8_t, access::read_only> entries{};
    static constexpr field_list fields{entries};
};

/// The second dword in functions with a type 01h header; fixed bus numbers, 0 where not fixed. In
/// others the entries begin here.
struct enhanced_allocation_bus_numbers : reg<enhanced_allocation_bus_numbers, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 4;

    // clang-format off
    static constexpr bits<15, 8, std::uint8_t, access::read_only> fixed_subordinate{};
    static constexpr bits< 7, 0, std::uint8_t, access::read_only> fixed_secondary{};
    // clang-format on
    static constexpr field_list fields{fixed_subordinate, fixed_secondary};
};

/// What a range is for: the BAR Equivalent Indicator (BEI). 15 is reserved; fixed_range says
/// not_indicated then.
enum class bar_equivalent : std::uint8_t {
    bar_0 = 0,
    bar_1 = 1,
    bar_2 = 2,
    bar_3 = 3,
    bar_4 = 4,
    bar_5 = 5,
    behind_bridge = 6, ///< of the functions on the secondary bus
    not_indicated = 7,
    expansion_rom = 8,
    vf_bar_0 = 9, ///< of the first VF; those of the others follow
    vf_bar_1 = 10,
    vf_bar_2 = 11,
    vf_bar_3 = 12,
    vf_bar_4 = 13,
    vf_bar_5 = 14,
};

/// What a range is: Primary and Secondary Properties. Other numbers are reserved.
enum class range_properties : std::uint8_t {
    memory = 0x00,
    prefetchable_memory = 0x01,
    io = 0x02,
    vf_prefetchable_memory = 0x03,
    vf_memory = 0x04,
    behind_bridge_memory = 0x05,
    behind_bridge_prefetchable_memory = 0x06,
    behind_bridge_io = 0x07,
    unavailable_memory = 0xFD, ///< addresses that nothing else may use either
    unavailable_io = 0xFE,
    unavailable = 0xFF,
};

/// The first dword of an entry.
struct enhanced_allocation_entry_type : reg<enhanced_allocation_entry_type, std::uint32_t> {
    using reg::reg;

    // clang-format off
    static constexpr bits<31, 31, bool>                                enable{};
    static constexpr bits<30, 30, bool, access::read_only>             writable{};
    static constexpr bits<23, 16, range_properties, access::read_only> secondary_properties{};
    static constexpr bits<15,  8, range_properties, access::read_only> primary_properties{};
    static constexpr bits< 7,  4, pci::bar_equivalent, access::read_only> bar_equivalent{};
    static constexpr bits< 2,  0, std::uint8_t, access::read_only>     entry_size{}; ///< dwords that follow
    // clang-format on
    static constexpr field_list fields{
        enable, writable, secondary_properties, primary_properties, bar_equivalent, entry_size};
};

/// The second dword of an entry (Base) and the third (MaxOffset), each with a fourth or fifth for
/// the upper half where is_64bit says so.
struct enhanced_allocation_field : reg<enhanced_allocation_field, std::uint32_t> {
    using reg::reg;

    static constexpr bits<31, 2, std::uint32_t> value_in_dwords{};
    static constexpr bits<1, 1, bool, access::read_only> is_64bit{};
    static constexpr field_list fields{value_in_dwords, is_64bit};
};

/// One range of a function, like a BAR that cannot be sized: its size need be no power of two.
struct fixed_range {
    std::uint16_t offset = 0; ///< of its entry in configuration space
    pci::bar_equivalent equivalent = bar_equivalent::not_indicated;
    range_properties properties = range_properties::unavailable;
    bool enabled = false;
    bool writable = false;     ///< the address can be changed; the size never
    bool is_64bit = false;     ///< the address has 64 bits
    std::uint64_t address = 0; ///< of the first byte or port
    std::uint64_t size = 0;    ///< bytes or ports, a multiple of 4

    /// Whether the function decodes it as far as EA is concerned: Command has its say too.
    [[nodiscard]] constexpr bool usable() const {
        return enabled && properties < range_properties::unavailable_memory;
    }
    [[nodiscard]] constexpr bool is_io() const {
        return properties == range_properties::io ||
               properties == range_properties::behind_bridge_io ||
               properties == range_properties::unavailable_io;
    }
    [[nodiscard]] constexpr bool prefetchable() const {
        return properties == range_properties::prefetchable_memory ||
               properties == range_properties::vf_prefetchable_memory ||
               properties == range_properties::behind_bridge_prefetchable_memory;
    }

    friend constexpr bool operator==(const fixed_range&, const fixed_range&) = default;
};

/// A function's Enhanced Allocation capability, without its entries.
struct enhanced_allocation {
    capability at{};
    std::uint8_t entries = 0;      ///< 0..63
    std::uint16_t first_entry = 0; ///< offset in configuration space
    /// 0 where not fixed, and in functions that are no bridges.
    std::uint8_t fixed_secondary = 0;
    std::uint8_t fixed_subordinate = 0;

    friend constexpr bool operator==(const enhanced_allocation&,
                                     const enhanced_allocation&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it runs past the
/// first 256 bytes before its entries begin.
template <config_access Config>
[[nodiscard]] constexpr result<enhanced_allocation>
read_enhanced_allocation(Config config, function_address function) {
    using fixed_numbers = enhanced_allocation_bus_numbers;
    const bool bridge =
        read<header_type>(config, function)[header_type::layout] == header_layout::bridge;
    const auto at =
        capabilities(config, function).find(capability_id::enhanced_allocation, bridge ? 8 : 4);
    if (!at) {
        return at.error();
    }
    enhanced_allocation found{};
    found.at = *at;
    found.entries =
        read<enhanced_allocation_count>(config, function, *at)[enhanced_allocation_count::entries];
    found.first_entry = static_cast<std::uint16_t>(at->offset + (bridge ? 8 : 4));
    if (bridge) {
        const auto fixed = read<fixed_numbers>(config, function, *at);
        found.fixed_secondary = fixed[fixed_numbers::fixed_secondary];
        found.fixed_subordinate = fixed[fixed_numbers::fixed_subordinate];
    }
    return found;
}

/// A function's fixed ranges as a lazy range of result<fixed_range>, in the order of the capability.
/// errc::malformed with an entry's offset: it is too short for what it says it holds, runs past the
/// first 256 bytes (and is then the last), or its addresses would wrap.
///
/// An iterator points into its list and must not outlive it.
template <config_access Config>
class fixed_range_list {
public:
    using value_type = result<fixed_range>;

    class iterator {
    public:
        using value_type = result<fixed_range>;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;

        [[nodiscard]] constexpr value_type operator*() const { return entry_; }
        [[nodiscard]] constexpr const value_type* operator->() const { return &entry_; }
        constexpr iterator& operator++() {
            --left_;
            load();
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }

        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.left_ == b.left_;
        }

    private:
        friend fixed_range_list;

        explicit constexpr iterator(const fixed_range_list& list)
            : list_{&list}, next_{list.capability_.first_entry}, left_{list.capability_.entries} {
            load();
        }

        /// Decodes the entry at next_, and moves next_ behind it.
        constexpr void load() {
            using type = enhanced_allocation_entry_type;
            if (left_ == 0) {
                return;
            }
            const std::uint16_t here = next_;
            entry_ = error{errc::malformed, here};
            if (!ends_within(here, 4, conventional_config_space_size)) {
                left_ = 1;
                return;
            }
            const type first{dword(here)};
            const unsigned dwords = first[type::entry_size];
            if (!ends_within(here, 4 + 4 * dwords, conventional_config_space_size)) {
                left_ = 1;
                return;
            }
            next_ = static_cast<std::uint16_t>(here + 4 + 4 * dwords);
            if (dwords < 2) {
                return;
            }
            using field = enhanced_allocation_field;
            const field base{dword(here + 4U)};
            const field max_offset{dword(here + 8U)};
            const unsigned needed = 2U + base[field::is_64bit] + max_offset[field::is_64bit];
            if (dwords < needed) {
                return;
            }
            fixed_range range{};
            range.offset = here;
            range.equivalent = indicated(first[type::bar_equivalent]);
            range.properties =
                effective(first[type::primary_properties], first[type::secondary_properties]);
            range.enabled = first[type::enable];
            range.writable = first[type::writable];
            range.is_64bit = base[field::is_64bit];
            range.address = std::uint64_t{base[field::value_in_dwords]} * 4;
            // The two low bits of MaxOffset count as ones.
            std::uint64_t last = std::uint64_t{max_offset[field::value_in_dwords]} * 4 + 3;
            if (base[field::is_64bit]) {
                range.address |= std::uint64_t{dword(here + 12U)} << 32;
            }
            if (max_offset[field::is_64bit]) {
                last |= std::uint64_t{dword(here + 4 * needed)} << 32;
            }
            const std::uint64_t top = range.is_64bit ? ~std::uint64_t{0} : 0xFFFF'FFFF;
            if (last == ~std::uint64_t{0} || last > top - range.address) {
                return;
            }
            range.size = last + 1;
            entry_ = range;
        }

        [[nodiscard]] constexpr std::uint32_t dword(unsigned offset) const {
            Config config = list_->config_; // a handle; reading through it needs it mutable
            return config.read(list_->function_, static_cast<std::uint16_t>(offset), width::dword);
        }

        static constexpr bar_equivalent indicated(bar_equivalent equivalent) {
            return equivalent <= bar_equivalent::vf_bar_5 ? equivalent
                                                          : bar_equivalent::not_indicated;
        }
        static constexpr bool defined(range_properties properties) {
            return properties <= range_properties::behind_bridge_io ||
                   properties >= range_properties::unavailable_memory;
        }
        /// The secondary ones count where software does not know the primary [pcie].
        static constexpr range_properties effective(range_properties primary,
                                                    range_properties secondary) {
            return defined(primary)     ? primary
                   : defined(secondary) ? secondary
                                        : range_properties::unavailable;
        }

        const fixed_range_list* list_ = nullptr;
        std::uint16_t next_ = 0;
        std::uint8_t left_ = 0; ///< entries from this one on; 0 at the end
        value_type entry_{error{errc::absent}};
    };

    constexpr fixed_range_list(Config config, function_address function,
                               const enhanced_allocation& of)
        : config_{config}, function_{function}, capability_{of} {}

    [[nodiscard]] constexpr iterator begin() const& { return iterator{*this}; }
    iterator begin() const&& = delete; ///< it would point into a list that is gone
    [[nodiscard]] constexpr iterator end() const { return {}; }

    /// The first usable one that stands for that BAR; errc::absent with the number of `equivalent`
    /// if there is none.
    [[nodiscard]] constexpr result<fixed_range> find(bar_equivalent equivalent) const {
        for (const value_type& entry : *this) {
            if (entry && entry->usable() && entry->equivalent == equivalent) {
                return entry;
            }
        }
        return error{errc::absent, static_cast<std::uint64_t>(equivalent)};
    }

private:
    [[no_unique_address]] Config config_;
    function_address function_;
    enhanced_allocation capability_;
};

/// The ranges that the function says it has, instead of or beside its BARs; none without the
/// capability, or where read_enhanced_allocation finds it malformed.
template <config_access Config>
[[nodiscard]] constexpr fixed_range_list<Config> fixed_ranges(Config config,
                                                              function_address function) {
    const auto found = read_enhanced_allocation(config, function);
    return {config, function, found ? *found : enhanced_allocation{}};
}

} // namespace pt::pci
