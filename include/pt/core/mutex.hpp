// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"

namespace pt {

/// The mutex of whoever has a single writer anyway.
struct no_mutex {
    constexpr void lock() {}
    constexpr void unlock() {}
};
static_assert(mutex<no_mutex>);

/// Holds a mutex for as long as it lives.
template <mutex M>
class scoped_lock {
public:
    explicit constexpr scoped_lock(M& guard) : guard_{guard} { guard_.lock(); }
    scoped_lock(const scoped_lock&) = delete;
    scoped_lock& operator=(const scoped_lock&) = delete;
    constexpr ~scoped_lock() { guard_.unlock(); }

private:
    M& guard_;
};

} // namespace pt
