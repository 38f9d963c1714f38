// SPDX-License-Identifier: BSL-1.0
// What the vocabulary's types can and cannot do, without running anything.
#include "pt/core/address.hpp"
#include "pt/core/mmio.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

using namespace pt;

// A name of its own: clang calls a constant in an unnamed namespace unused where only types use it.
namespace core_types {

// Addresses: of one space each, made explicitly, as large as their word.
template <class A, class B>
constexpr bool are_strangers =
    !std::convertible_to<A, B> && !std::constructible_from<A, B> && !requires(A a, B b) {
    a - b;
}
&&!requires(A a, B b) { a == b; }
&&!requires(A a, B b) { a < b; }
&&!requires(A a, B b) { a = b; };
static_assert(are_strangers<gpa, hpa> && are_strangers<hpa, gpa>);
static_assert(are_strangers<gpa, iova> && are_strangers<iova, gpa>);
static_assert(are_strangers<hpa, iova> && are_strangers<iova, hpa>);
static_assert(are_strangers<io_port, gpa> && are_strangers<gpa, io_port>);
static_assert(!are_strangers<gpa, gpa>, "the question can be answered with no");

template <class A>
constexpr bool is_a_point = std::regular<A>&& std::totally_ordered<A>&&
                                std::is_trivially_copyable_v<A>&& std::is_standard_layout_v<A> &&
                            sizeof(A) == sizeof(typename A::word) &&
                            !std::convertible_to<std::uint64_t, A> &&
                            !std::convertible_to<A, std::uint64_t> &&
                            !std::constructible_from<A, void*> &&
                            !std::constructible_from<bool, A> && !requires(A a) {
    a + a;
}
&&requires(A a) {
    {
        a + std::uint64_t { 1 }
        } -> std::same_as<A>;
    {
        a - std::uint64_t { 1 }
        } -> std::same_as<A>;
    { a - a } -> std::same_as<std::uint64_t>;
}
&&is_address<A>;
static_assert(is_a_point<gpa> && is_a_point<hpa> && is_a_point<iova> && is_a_point<io_port>);
static_assert(sizeof(io_port) == 2 && sizeof(gpa) == 8);
static_assert(!is_address<std::uint64_t>);

// Ranges and results are values, and as trivial as what they hold.
static_assert(std::is_trivially_copyable_v<range<gpa>>);
static_assert(!std::constructible_from<range<gpa>, hpa, std::uint64_t>);
template <class A, class B>
constexpr bool can_overlap = requires(range<A> a, range<B> b) {
    a.overlaps(b);
};
static_assert(can_overlap<gpa, gpa> && !can_overlap<gpa, hpa>);
static_assert(std::is_trivially_copyable_v<result<>> && std::is_trivially_copyable_v<result<hpa>>);
static_assert(std::is_trivially_copyable_v<error>);
static_assert(!std::convertible_to<result<hpa>, bool>, "only `if (r)`, by an explicit conversion");
static_assert(!std::convertible_to<result<hpa>, hpa>);
static_assert(!std::constructible_from<result<hpa>, gpa>);

struct move_only {
    move_only() = default;
    move_only(move_only&&) = default;
    move_only& operator=(move_only&&) = default;
};
static_assert(std::movable<result<move_only>> && !std::copyable<result<move_only>>);
static_assert(std::copyable<result<int>> && std::equality_comparable<result<int>>);
static_assert(!std::equality_comparable<result<move_only>>);

// Registers are words.
struct plain : reg<plain, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x10;
    static constexpr bits<7, 0, std::uint8_t> low{};
    static constexpr bits<31, 12, hpa> frame{};
    static constexpr field_list fields{low, frame};
};
static_assert(std::is_trivially_copyable_v<plain> && std::is_standard_layout_v<plain>);
static_assert(sizeof(plain) == 4 && alignof(plain) == 4);
static_assert(!std::convertible_to<std::uint32_t, plain> &&
              !std::convertible_to<plain, std::uint32_t>);
static_assert(std::same_as<decltype(plain{}[plain::low]), std::uint8_t>);
static_assert(std::same_as<decltype(plain{}[plain::frame]), hpa>);
static_assert(plain::low.width == 8 && plain::low.mask == 0xFF && plain::frame.mask == 0xFFFF'F000);

// A register with a place in a window; near misses: no place, a width that MMIO does not have, and
// something that is no register.
struct without_offset : reg<without_offset, std::uint32_t> {
    using reg::reg;
    static constexpr bits<0, 0, bool> b{};
    static constexpr field_list fields{b};
};
struct of_16_bits : reg<of_16_bits, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0;
    static constexpr bits<0, 0, bool> b{};
    static constexpr field_list fields{b};
};
struct no_register {
    using word = std::uint32_t;
    static constexpr std::uint32_t offset = 0;
    word raw = 0;
};
static_assert(mmio_register<plain>);
static_assert(!mmio_register<without_offset> && !mmio_register<of_16_bits> &&
              !mmio_register<no_register> && !mmio_register<std::uint32_t>);

// What a bus reads where nothing answers, by the size of the access.
static_assert(pt::size_of(pt::width::byte) == 1 && pt::size_of(pt::width::word) == 2 &&
              pt::size_of(pt::width::dword) == 4);
static_assert(pt::all_ones(pt::width::byte) == 0xFF && pt::all_ones(pt::width::word) == 0xFFFF &&
              pt::all_ones(pt::width::dword) == 0xFFFF'FFFF);

} // namespace core_types
