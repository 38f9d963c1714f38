// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "log.hpp"

#include "pt/assign/list_of.hpp"

#include <cstddef>
#include <new>
#include <utility>

namespace vmm {

/// Static memory for up to `Count` objects that are made one after another, and whose addresses others
/// keep.
template <class T, std::size_t Count>
class static_vector {
public:
    constexpr static_vector() = default;
    static_vector(const static_vector&) = delete;
    static_vector& operator=(const static_vector&) = delete;

    /// A further one, from those arguments. The run ends when all are taken.
    template <class... Arguments>
    T& make(Arguments&&... arguments) {
        return make_by([&]() -> T { return T{std::forward<Arguments>(arguments)...}; });
    }
    /// A further one, as `maker` returns it.
    template <class Maker>
    T& make_by(Maker&& maker) {
        if (count_ == Count) {
            give_up("the VMM has no room for so much");
        }
        return *new (place_[count_++]) T(maker());
    }

    [[nodiscard]] std::size_t count() const { return count_; }
    [[nodiscard]] T& operator[](std::size_t i) {
        return *std::launder(reinterpret_cast<T*>(place_[i]));
    }
    /// All of them.
    [[nodiscard]] pt::assign::list_of<T> list() const {
        return {std::launder(reinterpret_cast<const T*>(place_[0])), count_};
    }

private:
    alignas(T) std::byte place_[Count][sizeof(T)]{};
    std::size_t count_ = 0;
};

} // namespace vmm
