// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <map>

namespace paging_model {

/// What is mapped, as a plain map of runs of pages: the whole truth about a set of tables, without
/// any table. A run is cut where something is removed; runs are never joined.
template <class Attributes>
class oracle {
public:
    struct run {
        std::uint64_t size;
        std::uint64_t output;
        Attributes attributes;
    };

    /// The first mapped address in [first, first + size), or `none`.
    static constexpr std::uint64_t none = ~std::uint64_t{0};
    [[nodiscard]] std::uint64_t first_mapped(std::uint64_t first, std::uint64_t size) const {
        if (const auto at = holding(first); at != runs_.end()) {
            return first;
        }
        const auto next = runs_.lower_bound(first);
        return next != runs_.end() && next->first - first < size ? next->first : none;
    }
    [[nodiscard]] const run* find(std::uint64_t input, std::uint64_t& output) const {
        const auto at = holding(input);
        if (at == runs_.end()) {
            return nullptr;
        }
        output = at->second.output + (input - at->first);
        return &at->second;
    }
    void map(std::uint64_t first, const run& what) { runs_[first] = what; }
    void unmap(std::uint64_t first, std::uint64_t size) {
        cut(first);
        cut(first + size);
        runs_.erase(runs_.lower_bound(first), runs_.lower_bound(first + size));
    }
    [[nodiscard]] std::uint64_t bytes() const {
        std::uint64_t sum = 0;
        for (const auto& [first, what] : runs_) {
            sum += what.size;
        }
        return sum;
    }

private:
    using runs = std::map<std::uint64_t, run>;

    [[nodiscard]] typename runs::const_iterator holding(std::uint64_t input) const {
        auto at = runs_.upper_bound(input);
        if (at == runs_.begin()) {
            return runs_.end();
        }
        --at;
        return input - at->first < at->second.size ? at : runs_.end();
    }
    void cut(std::uint64_t at) {
        const auto held = holding(at);
        if (held == runs_.end() || held->first == at) {
            return;
        }
        const std::uint64_t before = at - held->first;
        run rest = held->second;
        rest.size -= before;
        rest.output += before;
        runs_[held->first].size = before;
        runs_[at] = rest;
    }

    runs runs_;
};

} // namespace paging_model
