// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/bridge.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// A function that answered a scan.
struct found_function {
    function_address address{};
    identity id{};

    friend constexpr bool operator==(const found_function&, const found_function&) = default;
};

/// Where a scan of one bus stands: at `found`, or at the end, where its address is not valid().
/// Functions 1 to 7 of a device are asked only if function 0 is there and its Header Type says
/// multi-function [pci].
struct bus_cursor {
    found_function found{{0, 0, 32, 0}, {}};

    [[nodiscard]] constexpr bool at_end() const { return !found.address.valid(); }

    /// To the first function that answers, from `first` on.
    template <config_access Config>
    constexpr void seek(Config& config, function_address first) {
        found.address = first;
        while (!at_end()) {
            found.id = read<identity>(config, found.address);
            if (found.id.present()) {
                return;
            }
            found.address = after(config);
        }
    }
    /// To the next function that answers.
    template <config_access Config>
    constexpr void next(Config& config) {
        seek(config, after(config));
    }

private:
    /// Whom to ask after `found`.
    template <config_access Config>
    [[nodiscard]] constexpr function_address after(Config& config) const {
        function_address asked = found.address;
        const bool more = asked.function == 0 ? is_multi_function(config) : asked.function < 7;
        if (more) {
            ++asked.function;
        } else {
            ++asked.device;
            asked.function = 0;
        }
        return asked;
    }
    template <config_access Config>
    [[nodiscard]] constexpr bool is_multi_function(Config& config) const {
        return found.id.present() && !found.id.not_ready() &&
               read<header_type>(config, found.address)[header_type::multi_function];
    }
};

/// The end of a bus_scan.
struct bus_scan_end {};

/// The functions of one bus as a lazy range, in order of device and function. A function that is
/// there but not ready is found, with an id that says so (identity::not_ready); scan again once it
/// is. The iterators refer to the range, which must outlive them and stay where it is.
template <config_access Config>
class bus_scan {
public:
    using value_type = found_function;

    class iterator {
    public:
        using value_type = found_function;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        explicit constexpr iterator(const bus_scan& scan) : scan_{&scan} {
            Config config = scan_->config_;
            cursor_.seek(config, scan_->first_);
        }

        [[nodiscard]] constexpr found_function operator*() const { return cursor_.found; }
        [[nodiscard]] constexpr const found_function* operator->() const { return &cursor_.found; }
        constexpr iterator& operator++() {
            Config config = scan_->config_;
            cursor_.next(config);
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }

        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.cursor_.found.address == b.cursor_.found.address;
        }
        friend constexpr bool operator==(const iterator& at, bus_scan_end) {
            return at.cursor_.at_end();
        }

    private:
        const bus_scan* scan_ = nullptr;
        bus_cursor cursor_{};
    };

    constexpr bus_scan(Config config, std::uint8_t bus, std::uint16_t segment)
        : config_{config}, first_{segment, bus, 0, 0} {}

    [[nodiscard]] constexpr iterator begin() const& { return iterator{*this}; }
    constexpr iterator begin() const&& = delete; // it would refer to what is gone
    [[nodiscard]] constexpr bus_scan_end end() const { return {}; }

private:
    [[no_unique_address]] Config config_;
    function_address first_;
};

/// The functions of `bus`.
template <config_access Config>
[[nodiscard]] constexpr bus_scan<Config> scan_bus(Config config, std::uint8_t bus,
                                                  std::uint16_t segment = 0) {
    return {config, bus, segment};
}

/// Whether buses may lie behind a function of that layout.
[[nodiscard]] constexpr bool has_buses_behind(header_layout layout) {
    return layout == header_layout::bridge || layout == header_layout::cardbus_bridge;
}

/// A function that answered a scan of the tree.
struct tree_function {
    function_address address{};
    identity id{};
    header_layout layout{};               ///< `device` for one that is not ready
    function_address bridge{0, 0, 32, 0}; ///< the one above; not valid() on the first bus
    std::uint8_t depth = 0;               ///< bridges above it

    friend constexpr bool operator==(const tree_function&, const tree_function&) = default;
};

/// The end of a tree_scan.
struct tree_scan_end {};

/// The functions of a bus and of all buses behind it as a lazy range, depth first: a bridge, of
/// either type, is followed by what is on its secondary bus, and then by its neighbours.
///
/// The scan trusts no bus number. It enters a secondary bus if its number lies above the bridge's
/// own bus, not above the subordinate bus of any bridge on the way, nor of this one, and was not
/// entered before: each bus is asked at most once, and the scan ends, whatever the bridges say. An
/// unassigned one (0) has no such number.
///
/// A bridge's bus numbers are read when the scan moves on from it: the body of a loop may assign
/// them. The iterators refer to the range, which must outlive them and stay where it is; each keeps
/// the way that it has come, in less than 1 KiB.
template <config_access Config>
class tree_scan {
public:
    using value_type = tree_function;

    class iterator {
    public:
        using value_type = tree_function;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        explicit constexpr iterator(const tree_scan& scan) : scan_{&scan} {
            Config config = scan_->config_;
            const std::uint8_t bus = scan_->first_.bus;
            mark_entered(bus);
            last_bus_[bus] = 0xFF;
            cursor_.seek(config, scan_->first_);
            settle(config);
        }

        [[nodiscard]] constexpr tree_function operator*() const { return found_; }
        [[nodiscard]] constexpr const tree_function* operator->() const { return &found_; }
        constexpr iterator& operator++() {
            Config config = scan_->config_;
            if (!enter_secondary_bus(config)) {
                cursor_.next(config);
            }
            settle(config);
            return *this;
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }

        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.found_.address == b.found_.address;
        }
        friend constexpr bool operator==(const iterator& at, tree_scan_end) {
            return !at.found_.address.valid();
        }

    private:
        /// Descends to the bus behind `found_`, if there is one to enter.
        constexpr bool enter_secondary_bus(Config& config) {
            if (!has_buses_behind(found_.layout)) {
                return false;
            }
            const auto numbers = read<bus_numbers>(config, found_.address);
            const std::uint8_t bus = numbers[bus_numbers::secondary];
            const std::uint8_t above = last_bus_[found_.address.bus];
            const std::uint8_t own = numbers[bus_numbers::subordinate];
            const std::uint8_t last = own < above ? own : above;
            if (bus <= found_.address.bus || bus > last || was_entered(bus)) {
                return false;
            }
            mark_entered(bus);
            last_bus_[bus] = last;
            bridge_[bus] = found_.address.source_id();
            ++found_.depth;
            cursor_.seek(config, {found_.address.segment, bus, 0, 0});
            return true;
        }

        /// Takes what the cursor has found; at the end of a bus, goes on behind its bridge.
        constexpr void settle(Config& config) {
            while (cursor_.at_end() && found_.depth > 0) {
                --found_.depth;
                cursor_.found.address = bridge_above();
                cursor_.found.id = read<identity>(config, cursor_.found.address);
                cursor_.next(config);
            }
            found_.address = cursor_.found.address;
            found_.id = cursor_.found.id;
            found_.layout = header_layout::device;
            found_.bridge = found_.depth > 0 ? bridge_above() : function_address{0, 0, 32, 0};
            if (!cursor_.at_end() && !found_.id.not_ready()) {
                found_.layout = read<header_type>(config, found_.address)[header_type::layout];
            }
        }

        /// The bridge to the cursor's bus, which is not the first.
        [[nodiscard]] constexpr function_address bridge_above() const {
            const function_address& at = cursor_.found.address;
            return function_address::from_source_id(bridge_[at.bus], at.segment);
        }

        [[nodiscard]] constexpr bool was_entered(std::uint8_t bus) const {
            return (entered_[bus / 64] >> bus % 64 & 1U) != 0;
        }
        constexpr void mark_entered(std::uint8_t bus) {
            entered_[bus / 64] |= std::uint64_t{1} << bus % 64;
        }

        const tree_scan* scan_ = nullptr;
        bus_cursor cursor_{};
        tree_function found_{{0, 0, 32, 0}, {}, {}, {0, 0, 32, 0}, 0};
        // For each bus that was entered: the source id of the bridge to it, and the highest number
        // that a bus behind it may have.
        std::uint64_t entered_[4]{};
        std::uint16_t bridge_[256]{};
        std::uint8_t last_bus_[256]{};
    };

    /// Of a default-constructed config_access, from bus 0 on.
    constexpr tree_scan() requires std::default_initializable<Config> : tree_scan{Config{}, 0, 0} {}
    constexpr tree_scan(Config config, std::uint8_t first_bus, std::uint16_t segment)
        : config_{config}, first_{segment, first_bus, 0, 0} {}

    [[nodiscard]] constexpr iterator begin() const& { return iterator{*this}; }
    constexpr iterator begin() const&& = delete; // it would refer to what is gone
    [[nodiscard]] constexpr tree_scan_end end() const { return {}; }

private:
    [[no_unique_address]] Config config_;
    function_address first_;
};

/// The functions of `first_bus` and of the buses behind it. A machine may have several such trees:
/// firmware names the buses where they begin.
template <config_access Config>
[[nodiscard]] constexpr tree_scan<Config> scan_tree(Config config, std::uint8_t first_bus = 0,
                                                    std::uint16_t segment = 0) {
    return {config, first_bus, segment};
}

} // namespace pt::pci
