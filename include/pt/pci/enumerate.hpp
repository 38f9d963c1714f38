// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// A function that answered a scan.
struct found_function {
    function_address address{};
    identity id{};

    friend constexpr bool operator==(const found_function&, const found_function&) = default;
};

/// The end of a bus_scan.
struct bus_scan_end {};

/// The functions of one bus as a lazy range, in order of device and function. Functions 1 to 7 of a
/// device are asked only if function 0 is there and its Header Type says multi-function [pci]. A
/// function that is there but not ready is found, with an id that says so (identity::not_ready);
/// scan again once it is.
template <config_access Config>
class bus_scan {
public:
    using value_type = found_function;

    class iterator {
    public:
        using value_type = found_function;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        constexpr iterator(Config config, function_address first)
            : config_{config}, found_{first, {}} {
            seek();
        }

        [[nodiscard]] constexpr found_function operator*() const { return found_; }
        [[nodiscard]] constexpr const found_function* operator->() const { return &found_; }
        constexpr iterator& operator++() {
            advance();
            seek();
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
        friend constexpr bool operator==(const iterator& at, bus_scan_end) {
            return !at.found_.address.valid();
        }

    private:
        constexpr void advance() {
            function_address& at = found_.address;
            if (multi_function_ && at.function < 7) {
                ++at.function;
            } else {
                ++at.device;
                at.function = 0;
                multi_function_ = false;
            }
        }

        /// To the first function that answers, from this one on.
        constexpr void seek() {
            for (; found_.address.valid(); advance()) {
                found_.id = read<identity>(config_, found_.address);
                if (!found_.id.present()) {
                    continue;
                }
                if (found_.address.function == 0 && !found_.id.not_ready()) {
                    multi_function_ =
                        read<header_type>(config_, found_.address)[header_type::multi_function];
                }
                return;
            }
        }

        [[no_unique_address]] Config config_{};
        found_function found_{{0, 0, 32, 0}, {}};
        bool multi_function_ = false;
    };

    constexpr bus_scan(Config config, std::uint8_t bus, std::uint16_t segment)
        : config_{config}, first_{segment, bus, 0, 0} {}

    [[nodiscard]] constexpr iterator begin() const { return {config_, first_}; }
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

} // namespace pt::pci
