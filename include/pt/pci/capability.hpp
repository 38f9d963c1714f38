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

/// What an extended capability is [pcie]. A list may hold any other number.
enum class extended_capability_id : std::uint16_t {
    null = 0x0000,
    advanced_error_reporting = 0x0001,
    virtual_channel = 0x0002,
    device_serial_number = 0x0003,
    power_budgeting = 0x0004,
    root_complex_link_declaration = 0x0005,
    root_complex_internal_link_control = 0x0006,
    root_complex_event_collector_endpoint_association = 0x0007,
    multi_function_virtual_channel = 0x0008,
    virtual_channel_with_multi_function = 0x0009, ///< virtual_channel beside the one above
    root_complex_register_block = 0x000A,
    vendor_specific = 0x000B,
    configuration_access_correlation = 0x000C,
    access_control_services = 0x000D,
    alternative_routing_id = 0x000E,
    address_translation_services = 0x000F,
    single_root_io_virtualization = 0x0010,
    multi_root_io_virtualization = 0x0011,
    multicast = 0x0012,
    page_request_interface = 0x0013,
    resizable_bar = 0x0015,
    dynamic_power_allocation = 0x0016,
    tph_requester = 0x0017,
    latency_tolerance_reporting = 0x0018,
    secondary_pci_express = 0x0019,
    protocol_multiplexing = 0x001A,
    pasid = 0x001B,
    ln_requester = 0x001C,
    downstream_port_containment = 0x001D,
    l1_pm_substates = 0x001E,
    precision_time_measurement = 0x001F,
    pci_express_over_m_phy = 0x0020,
    frs_queueing = 0x0021,
    readiness_time_reporting = 0x0022,
    designated_vendor_specific = 0x0023,
    vf_resizable_bar = 0x0024,
    data_link_feature = 0x0025,
    physical_layer_16_gt = 0x0026,
    lane_margining_at_the_receiver = 0x0027,
    hierarchy_id = 0x0028,
    native_pcie_enclosure_management = 0x0029,
    physical_layer_32_gt = 0x002A,
    alternate_protocol = 0x002B,
    system_firmware_intermediary = 0x002C,
    shadow_functions = 0x002D,
    data_object_exchange = 0x002E,
    device_3 = 0x002F,
    integrity_and_data_encryption = 0x0030,
    physical_layer_64_gt = 0x0031,
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

/// Whether `size` bytes from `offset` on end at or before `end`.
[[nodiscard]] constexpr bool ends_within(std::uint16_t offset, unsigned size, std::uint16_t end) {
    return size <= end && offset <= end - size;
}

/// A capability: what it is, and the offset of its header, a multiple of 4 in 0x40..0xFC.
struct capability {
    using id_type = capability_id;

    capability_id id{};
    std::uint16_t offset = 0;

    /// Whether `size` bytes from its header on lie inside the space that its list is in.
    [[nodiscard]] constexpr bool has_room(unsigned size) const {
        return ends_within(offset, size, conventional_config_space_size);
    }

    friend constexpr bool operator==(const capability&, const capability&) = default;
};

/// An extended capability: what it is, in which version, and the offset of its header, a multiple
/// of 4 in 0x100..0xFFC.
struct extended_capability {
    using id_type = extended_capability_id;

    extended_capability_id id{};
    std::uint8_t version = 0;
    std::uint16_t offset = 0;

    /// Whether `size` bytes from its header on lie inside the space that its list is in.
    [[nodiscard]] constexpr bool has_room(unsigned size) const {
        return ends_within(offset, size, config_space_size);
    }

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

/// The end of a capability_list.
struct capability_list_end {};

/// A function's capabilities as a lazy range: each step of a range-for is one read of a header.
/// Each place of the space is visited at most once, so that the walk ends whatever the device says.
///
/// An iterator points into its list and must not outlive it. So it is default-constructible and
/// assignable whatever the Config is, and the list models a forward range for every Config.
template <config_access Config, class List>
class capability_list {
public:
    using value_type = typename List::entry;

    class iterator {
    public:
        using value_type = typename List::entry;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;

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
        friend capability_list;

        explicit constexpr iterator(const capability_list& list) : list_{&list} {
            Config config = list.config_;
            visit(List::start(config, list.function_));
        }

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
            Config config = list_->config_; // a handle; reading through it needs it mutable
            link_ = List::at(config, list_->function_, offset);
            if (link_.is_entry) {
                offset_ = offset;
            }
        }

        static constexpr std::size_t places = (List::end_offset - List::first_offset) / 4U;

        const capability_list* list_ = nullptr;
        std::uint16_t offset_ = 0; ///< 0 at the end
        capability_link<value_type> link_{};
        std::uint64_t visited_[(places + 63) / 64]{};
    };

    constexpr capability_list(Config config, function_address function)
        : config_{config}, function_{function} {}

    [[nodiscard]] constexpr iterator begin() const& { return iterator{*this}; }
    iterator begin() const&& = delete; ///< it would point into a list that is gone
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

    /// The first one with that id, which is to have `size` bytes, header included; errc::absent with
    /// the id if there is none, errc::malformed with its offset if it runs past the end of the
    /// space.
    [[nodiscard]] constexpr result<value_type> find(typename value_type::id_type id,
                                                    unsigned size) const {
        const auto found = find(id);
        if (found && !found->has_room(size)) {
            return error{errc::malformed, found->offset};
        }
        return found;
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

/// The extended list, which starts at 0x100 of every PCI Express function. Only there: a bridge to
/// conventional PCI may drop the upper bits of an offset, and its functions then show their first
/// 256 bytes again from 0x100 on. Every function of PCI Express has the PCI Express capability,
/// those integrated into the root complex and the virtual ones of SR-IOV too [pcie]; host bridges
/// without it exist, and nobody passes them through. PCI-X mode 2, which had the space as well, is
/// extinct.
struct extended_list {
    using entry = extended_capability;

    static constexpr std::uint16_t first_offset = 0x100;
    static constexpr std::uint16_t end_offset = config_space_size;

    template <config_access Config>
    static constexpr std::uint16_t start(Config& config, function_address function) {
        return capabilities(config, function).find(capability_id::pci_express) ? first_offset
                                                                               : std::uint16_t{0};
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

/// The function's extended capabilities; none if it lacks the PCI Express capability, or if nothing
/// is at 0x100. The first step walks the standard list.
template <config_access Config>
[[nodiscard]] constexpr auto extended_capabilities(Config config, function_address function) {
    return capability_list<Config, extended_list>{config, function};
}

} // namespace pt::pci
