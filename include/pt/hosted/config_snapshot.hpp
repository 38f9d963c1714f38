// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !__STDC_HOSTED__
#error "pt/hosted needs a hosted standard library: include the freestanding headers instead"
#endif

#include "pt/core/width.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace pt::hosted {

/// The configuration spaces of some functions as they were at one moment, each as far as whoever
/// made the copy could or would see: 64, 256 or 4096 bytes, or any other number.
class config_snapshot {
public:
    /// One function and its first bytes.
    struct function {
        pci::function_address address;
        std::vector<std::uint8_t> bytes;

        /// Whether these bytes of its space are there.
        [[nodiscard]] bool holds(std::size_t offset, std::size_t size) const {
            return offset <= bytes.size() && size <= bytes.size() - offset;
        }
    };

    /// The functions in the order in which they were added.
    [[nodiscard]] const std::vector<function>& functions() const { return functions_; }

    /// That function, or null. The pointer is good until the next add.
    [[nodiscard]] const function* find(pci::function_address address) const {
        const auto found = places_.find(address);
        return found == places_.end() ? nullptr : &functions_[found->second];
    }

    /// Adds a function; false, and nothing changes, if it is there already. Bytes beyond the 4096
    /// of a configuration space are dropped.
    bool add(pci::function_address address, std::vector<std::uint8_t> bytes) {
        if (!places_.try_emplace(address, functions_.size()).second) {
            return false;
        }
        if (bytes.size() > pci::config_space_size) {
            bytes.resize(pci::config_space_size);
        }
        functions_.push_back({address, std::move(bytes)});
        return true;
    }

    /// A model of pci::config_access over a snapshot, which must outlive it. A byte that the
    /// snapshot does not hold reads all ones; writes vanish.
    class config {
    public:
        config() = default;
        explicit config(const config_snapshot& snapshot) : snapshot_{&snapshot} {}

        [[nodiscard]] std::uint32_t read(pci::function_address address, std::uint16_t offset,
                                         width size) const {
            const function* const found = snapshot_ != nullptr ? snapshot_->find(address) : nullptr;
            std::uint32_t value = 0;
            for (unsigned i = size_of(size); i-- > 0;) {
                const bool held = found != nullptr && found->holds(offset + i, 1);
                value = value << 8 | (held ? found->bytes[offset + i] : 0xFFU);
            }
            return value;
        }
        void write(pci::function_address, std::uint16_t, width, std::uint32_t) const {}

    private:
        const config_snapshot* snapshot_ = nullptr;
    };
    static_assert(pci::config_access<config>);

    [[nodiscard]] config access() const { return config{*this}; }

private:
    std::vector<function> functions_;
    std::map<pci::function_address, std::size_t> places_;
};

} // namespace pt::hosted
