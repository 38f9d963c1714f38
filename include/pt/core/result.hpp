// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace pt {

/// What went wrong. Each name says what the caller can do about it; the operation's documentation
/// says which of them it can return.
enum class errc : std::uint8_t {
    none,
    out_of_frames,    ///< the table_memory has no frame left
    already_mapped,   ///< something is mapped there; nothing was changed
    not_mapped,       ///< nothing is mapped there
    misaligned,       ///< the address or the size is not a multiple of what is needed
    out_of_range,     ///< beyond the width, the size or the count that the hardware has
    not_supported,    ///< the hardware lacks the capability
    reserved_address, ///< an address that may never be used so, e.g. the interrupt range of an iova
    absent,           ///< no such function, capability or unit
    malformed,        ///< bytes from a guest, a device or firmware break the format
    refused,          ///< a policy of the VMM forbids it
    busy,             ///< no room now: ring or queue full
    time_out,         ///< the hardware did not answer in time
    hardware_fault,   ///< the hardware reported an error
};

/// The name of the code as it is written in `errc`.
[[nodiscard]] constexpr const char* name(errc code) {
    switch (code) {
    case errc::none: return "none";
    case errc::out_of_frames: return "out_of_frames";
    case errc::already_mapped: return "already_mapped";
    case errc::not_mapped: return "not_mapped";
    case errc::misaligned: return "misaligned";
    case errc::out_of_range: return "out_of_range";
    case errc::not_supported: return "not_supported";
    case errc::reserved_address: return "reserved_address";
    case errc::absent: return "absent";
    case errc::malformed: return "malformed";
    case errc::refused: return "refused";
    case errc::busy: return "busy";
    case errc::time_out: return "time_out";
    case errc::hardware_fault: return "hardware_fault";
    }
    return "unknown";
}

/// What went wrong, and at which address, port, offset or index (the operation says which).
struct error {
    errc code = errc::none;
    std::uint64_t where = 0;

    friend constexpr bool operator==(const error&, const error&) = default;
};

/// Where a result keeps its T. A trivially copyable T lies beside the error, and the result is
/// itself trivially copyable.
template <class T, bool = std::is_trivially_copyable_v<T>&& std::is_default_constructible_v<T>>
class result_storage {
protected:
    constexpr explicit result_storage(T&& value) : value_{std::move(value)} {}
    constexpr explicit result_storage(pt::error why) : error_{why} {}

    T value_{};
    pt::error error_{};
};

/// Any other T lives in a union and only where there is a value. Such a result is returned and its
/// value moved out, but the result itself is neither moved nor assigned: std::construct_at, the one
/// way to revive a union member at compile time, is in no header that the core may include.
template <class T>
class result_storage<T, false> {
protected:
    constexpr explicit result_storage(T&& value) : value_{std::move(value)} {}
    constexpr explicit result_storage(pt::error why) : none_{}, error_{why} {}
    result_storage(const result_storage&) = delete;
    result_storage& operator=(const result_storage&) = delete;
    constexpr ~result_storage() {
        if (error_.code == errc::none) {
            value_.~T();
        }
    }

    union {
        char none_;
        T value_;
    };
    pt::error error_{};
};

/// Either a T or an error; the member names are those of std::expected, which neither gcc 12 in
/// C++20 mode nor clang 14 has. Asking for the one that is not there is a broken contract.
template <class T = void>
class [[nodiscard]] result : private result_storage<T> {
    using storage = result_storage<T>;

public:
    using value_type = T;
    using error_type = pt::error;

    // NOLINTNEXTLINE(google-explicit-constructor): `return value;` is the purpose of the type
    constexpr result(T&& value) : storage{std::move(value)} {}
    // NOLINTNEXTLINE(google-explicit-constructor)
    constexpr result(const T& value) requires std::copy_constructible<T> : storage{T{value}} {}
    // NOLINTNEXTLINE(google-explicit-constructor): so is `return error{...};`
    constexpr result(pt::error why) : storage{why} {
        expects(why.code != errc::none, "an error result needs a code other than none");
    }

    [[nodiscard]] constexpr bool has_value() const { return this->error_.code == errc::none; }
    [[nodiscard]] constexpr explicit operator bool() const { return has_value(); }

    [[nodiscard]] constexpr T& value() & { return check(), this->value_; }
    [[nodiscard]] constexpr const T& value() const& { return check(), this->value_; }
    [[nodiscard]] constexpr T&& value() && { return check(), std::move(this->value_); }
    [[nodiscard]] constexpr T& operator*() & { return value(); }
    [[nodiscard]] constexpr const T& operator*() const& { return value(); }
    [[nodiscard]] constexpr T&& operator*() && { return std::move(*this).value(); }
    [[nodiscard]] constexpr T* operator->() { return &value(); }
    [[nodiscard]] constexpr const T* operator->() const { return &value(); }

    [[nodiscard]] constexpr pt::error error() const {
        expects(!has_value(), "result::error() of a result that holds a value");
        return this->error_;
    }

    template <class U>
    [[nodiscard]] constexpr T value_or(U&& otherwise) const& {
        return has_value() ? this->value_ : static_cast<T>(std::forward<U>(otherwise));
    }

    /// `f(value)` if there is one, where f returns a result; else the error.
    template <class F>
    [[nodiscard]] constexpr auto and_then(F&& f) && -> std::invoke_result_t<F, T&&> {
        if (!has_value()) {
            return this->error_;
        }
        return std::forward<F>(f)(std::move(this->value_));
    }

    /// `f(value)` wrapped in a result if there is a value; else the error.
    template <class F>
    [[nodiscard]] constexpr auto transform(F&& f) && -> result<std::invoke_result_t<F, T&&>> {
        if (!has_value()) {
            return this->error_;
        }
        if constexpr (std::is_void_v<std::invoke_result_t<F, T&&>>) {
            std::forward<F>(f)(std::move(this->value_));
            return {};
        } else {
            return std::forward<F>(f)(std::move(this->value_));
        }
    }

    friend constexpr bool operator==(const result& a,
                                     const result& b) requires std::equality_comparable<T> {
        return a.error_ == b.error_ && (!a.has_value() || a.value_ == b.value_);
    }

private:
    constexpr void check() const {
        expects(has_value(), "result::value() of a result that holds an error");
    }
};

/// Success without a value, or an error.
template <>
class [[nodiscard]] result<void> {
public:
    using value_type = void;
    using error_type = pt::error;

    constexpr result() = default;
    // NOLINTNEXTLINE(google-explicit-constructor): `return error{...};` is the purpose of the type
    constexpr result(pt::error why) : error_{why} {
        expects(why.code != errc::none, "an error result needs a code other than none");
    }

    [[nodiscard]] constexpr bool has_value() const { return error_.code == errc::none; }
    [[nodiscard]] constexpr explicit operator bool() const { return has_value(); }
    constexpr void value() const {
        expects(has_value(), "result::value() of a result that holds an error");
    }
    [[nodiscard]] constexpr pt::error error() const {
        expects(!has_value(), "result::error() of a result that holds a value");
        return error_;
    }

    /// `f()` if this is a success, where f returns a result; else the error.
    template <class F>
    [[nodiscard]] constexpr auto and_then(F&& f) const -> std::invoke_result_t<F> {
        if (!has_value()) {
            return error_;
        }
        return std::forward<F>(f)();
    }

    friend constexpr bool operator==(const result&, const result&) = default;

private:
    pt::error error_{};
};

} // namespace pt
