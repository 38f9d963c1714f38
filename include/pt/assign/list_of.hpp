// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>

namespace pt::assign {

/// Elements that lie together, in the memory of the caller.
template <class T>
class list_of {
public:
    constexpr list_of() = default;
    constexpr list_of(const T* first, std::size_t count) : first_{first}, count_{count} {}
    template <std::size_t Count>
    // NOLINTNEXTLINE(google-explicit-constructor): `.pages = pages` is the purpose of the type
    constexpr list_of(const T (&elements)[Count]) : list_of{elements, Count} {}

    [[nodiscard]] constexpr const T* begin() const { return first_; }
    [[nodiscard]] constexpr const T* end() const { return first_ + count_; }
    [[nodiscard]] constexpr std::size_t size() const { return count_; }
    [[nodiscard]] constexpr const T& operator[](std::size_t i) const { return first_[i]; }

private:
    const T* first_ = nullptr;
    std::size_t count_ = 0;
};

} // namespace pt::assign
