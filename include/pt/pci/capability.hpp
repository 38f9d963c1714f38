// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// What a capability is [pci], [pcie]. A list may hold any other number.
enum class capability_id : std::uint8_t {
    null = 0x00,
    power_management = 0x01,
    agp = 0x02,
    vital_product_data = 0x03,
    slot_identification = 0x04,
    msi = 0x05,
    compact_pci_hot_swap = 0x06,
    pci_x = 0x07,
    hyper_transport = 0x08,
    vendor_specific = 0x09,
    debug_port = 0x0A,
    compact_pci_resource_control = 0x0B,
    hot_plug = 0x0C,
    bridge_subsystem_vendor_id = 0x0D,
    agp_8x = 0x0E,
    secure_device = 0x0F,
    pci_express = 0x10,
    msi_x = 0x11,
    sata = 0x12,
    advanced_features = 0x13,
    enhanced_allocation = 0x14,
    flattening_portal_bridge = 0x15,
};

/// What an extended capability is [pcie]; those that matter for passing a function through. A list
/// may hold any other number.
enum class extended_capability_id : std::uint16_t {
    null = 0x0000,
    advanced_error_reporting = 0x0001,
    virtual_channel = 0x0002,
    device_serial_number = 0x0003,
    power_budgeting = 0x0004,
    vendor_specific = 0x000B,
    access_control_services = 0x000D,
    alternative_routing_id = 0x000E,
    address_translation_services = 0x000F,
    single_root_io_virtualization = 0x0010,
    page_request_interface = 0x0013,
    resizable_bar = 0x0015,
    latency_tolerance_reporting = 0x0018,
    secondary_pci_express = 0x0019,
    pasid = 0x001B,
    designated_vendor_specific = 0x0023,
};

/// The first word of a capability.
struct capability_header : reg<capability_header, std::uint16_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<15, 8, std::uint8_t, access::read_only>  next{};
    static constexpr bits< 7, 0, capability_id, access::read_only> id{};
    // clang-format on
    static constexpr field_list fields{next, id};
};

/// The first dword of an extended capability.
struct extended_capability_header : reg<extended_capability_header, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 20, std::uint16_t, access::read_only>          next{};
    static constexpr bits<19, 16, std::uint8_t, access::read_only>           version{};
    static constexpr bits<15,  0, extended_capability_id, access::read_only> id{};
    // clang-format on
    static constexpr field_list fields{next, version, id};
};

/// A capability: what it is, and the offset of its header, a multiple of 4 in 0x40..0xFC.
struct capability {
    using id_type = capability_id;

    capability_id id{};
    std::uint16_t offset = 0;

    friend constexpr bool operator==(const capability&, const capability&) = default;
};

/// An extended capability: what it is, in which version, and the offset of its header, a multiple
/// of 4 in 0x100..0xFFC.
struct extended_capability {
    using id_type = extended_capability_id;

    extended_capability_id id{};
    std::uint8_t version = 0;
    std::uint16_t offset = 0;

    friend constexpr bool operator==(const extended_capability&,
                                     const extended_capability&) = default;
};

/// What the header at one place of a list says.
template <class Entry>
struct capability_link {
    Entry entry{};
    bool is_entry = false;  ///< false at what is no capability, such as all ones
    std::uint16_t next = 0; ///< the next place; 0 for none
};

/// The standard list: where it starts, 0 for nowhere, and how to read one of its headers.
struct standard_list {
    using entry = capability;

    /// The bytes that the list may lie in.
    static constexpr std::uint16_t first_offset = 0x40;
    static constexpr std::uint16_t end_offset = conventional_config_space_size;

    template <config_access Config>
    static constexpr std::uint16_t start(Config& config, function_address function) {
        if (!read<status>(config, function)[status::capabilities_list]) {
            return 0;
        }
        switch (read<header_type>(config, function)[header_type::layout]) {
        case header_layout::device:
        case header_layout::bridge:
            return followed(
                read<capabilities_pointer>(config, function)[capabilities_pointer::pointer]);
        case header_layout::cardbus_bridge:
            return followed(config.read(function, 0x14, width::byte));
        }
        return 0; // an unknown layout: nobody knows where the pointer is
    }

    template <config_access Config>
    static constexpr capability_link<entry> at(Config& config, function_address function,
                                               std::uint16_t offset) {
        using header = capability_header;
        const header read{static_cast<std::uint16_t>(config.read(function, offset, width::word))};
        return {{read[header::id], offset},
                read[header::id] != capability_id{0xFF},
                followed(read[header::next])};
    }

private:
    /// The two low bits are reserved, and software masks them. All ones are no pointer.
    static constexpr std::uint16_t followed(std::uint32_t pointer) {
        return pointer < first_offset || pointer == 0xFF
                   ? std::uint16_t{0}
                   : static_cast<std::uint16_t>(pointer & 0xFCU);
    }
};

/// The extended list, which starts at 0x100 of every PCI Express function.
struct extended_list {
    using entry = extended_capability;

    static constexpr std::uint16_t first_offset = 0x100;
    static constexpr std::uint16_t end_offset = config_space_size;

    template <config_access Config>
    static constexpr std::uint16_t start(Config&, function_address) {
        return first_offset;
    }

    template <config_access Config>
    static constexpr capability_link<entry> at(Config& config, function_address function,
                                               std::uint16_t offset) {
        using header = extended_capability_header;
        const header read{config.read(function, offset, width::dword)};
        const auto next = static_cast<std::uint16_t>(read[header::next] & 0xFFCU);
        return {{read[header::id], read[header::version], offset},
                read.raw != 0 && read.raw != 0xFFFF'FFFF,
                next < first_offset ? std::uint16_t{0} : next};
    }
};

/// The end of a capability_list.
struct capability_list_end {};

/// A function's capabilities as a lazy range: each step of a range-for is one read of a header.
/// Each place of the space is visited at most once, so that the walk ends whatever the device says.
template <config_access Config, class List>
class capability_list {
public:
    using value_type = typename List::entry;

    class iterator {
    public:
        using value_type = typename List::entry;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        constexpr iterator(Config config, function_address function)
            : config_{config}, function_{function} {
            visit(List::start(config_, function_));
        }

        [[nodiscard]] constexpr value_type operator*() const { return link_.entry; }
        [[nodiscard]] constexpr const value_type* operator->() const { return &link_.entry; }
        constexpr iterator& operator++() {
            visit(link_.next);
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }

        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.offset_ == b.offset_;
        }
        friend constexpr bool operator==(const iterator& at, capability_list_end) {
            return at.offset_ == 0;
        }

    private:
        /// Stands at `offset` now, or at the end if that is 0, was visited, or holds no capability.
        constexpr void visit(std::uint16_t offset) {
            offset_ = 0;
            if (offset == 0) {
                return;
            }
            const unsigned place = (offset - List::first_offset) / 4U;
            const std::uint64_t bit = std::uint64_t{1} << place % 64;
            if ((visited_[place / 64] & bit) != 0) {
                return;
            }
            visited_[place / 64] |= bit;
            link_ = List::at(config_, function_, offset);
            if (link_.is_entry) {
                offset_ = offset;
            }
        }

        static constexpr std::size_t places = (List::end_offset - List::first_offset) / 4U;

        [[no_unique_address]] Config config_{};
        function_address function_{};
        std::uint16_t offset_ = 0; ///< 0 at the end
        capability_link<value_type> link_{};
        std::uint64_t visited_[(places + 63) / 64]{};
    };

    constexpr capability_list(Config config, function_address function)
        : config_{config}, function_{function} {}

    [[nodiscard]] constexpr iterator begin() const { return {config_, function_}; }
    [[nodiscard]] constexpr capability_list_end end() const { return {}; }

    /// The first one with that id; errc::absent with the id if there is none.
    [[nodiscard]] constexpr result<value_type> find(typename value_type::id_type id) const {
        for (const value_type found : *this) {
            if (found.id == id) {
                return found;
            }
        }
        return error{errc::absent, static_cast<std::uint64_t>(id)};
    }

private:
    [[no_unique_address]] Config config_;
    function_address function_;
};

/// The function's capabilities, in the order of its list; at most 48, none if there is no function.
template <config_access Config>
[[nodiscard]] constexpr auto capabilities(Config config, function_address function) {
    return capability_list<Config, standard_list>{config, function};
}

/// The function's extended capabilities; none if nothing is at 0x100. Behind a bridge to
/// conventional PCI some machines show the first 256 bytes again from 0x100 on: ask only functions
/// that have the PCI Express capability.
template <config_access Config>
[[nodiscard]] constexpr auto extended_capabilities(Config config, function_address function) {
    return capability_list<Config, extended_list>{config, function};
}

} // namespace pt::pci
