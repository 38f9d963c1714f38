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

/// The mutex of whoever has several writers, and sees to it himself that nothing but what may be shared
/// runs at the same time.
struct no_shared_mutex : no_mutex {
    constexpr void lock_shared() {}
    constexpr void unlock_shared() {}
};
static_assert(shared_mutex<no_shared_mutex>);

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

/// Holds a mutex together with others for as long as it lives.
template <shared_mutex M>
class scoped_shared_lock {
public:
    explicit constexpr scoped_shared_lock(M& guard) : guard_{guard} { guard_.lock_shared(); }
    scoped_shared_lock(const scoped_shared_lock&) = delete;
    scoped_shared_lock& operator=(const scoped_shared_lock&) = delete;
    constexpr ~scoped_shared_lock() { guard_.unlock_shared(); }

private:
    M& guard_;
};

} // namespace pt
