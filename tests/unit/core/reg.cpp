// SPDX-License-Identifier: BSL-1.0
#include "pt/core/reg.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>
#include <string_view>

// A name of its own: clang calls a constant in an unnamed namespace unused where only types use it.
namespace reg_test {

using pt::access;

// Each register is given twice: as pt has it, and as a drawing, from the highest bit down:
// w read-write, r read-only, c write-1-to-clear, p preserve, z zero, and . where no field is.

struct of_8 : pt::reg<of_8, std::uint8_t> {
    using reg::reg;
    static constexpr bits<7, 6, std::uint8_t> a{};
    static constexpr bits<5, 5, bool, access::read_only> b{};
    static constexpr bits<4, 4, bool, access::write_1_to_clear> c{};
    static constexpr bits<3, 3, bool, access::preserve> d{};
    static constexpr bits<2, 2, bool, access::zero> e{};
    static constexpr bits<0, 0, bool> f{};
    static constexpr pt::field_list fields{a, b, c, d, e, f};
    static constexpr std::string_view drawing = "wwrcpz.w";
};
struct of_16 : pt::reg<of_16, std::uint16_t> { // as the Status register of a function [pci]
    using reg::reg;
    static constexpr bits<15, 11, std::uint8_t, access::write_1_to_clear> errors{};
    static constexpr bits<10, 9, std::uint8_t, access::read_only> devsel{};
    static constexpr bits<8, 8, bool, access::write_1_to_clear> master_data_parity{};
    static constexpr bits<4, 4, bool, access::read_only> capabilities{};
    static constexpr bits<2, 0, std::uint8_t, access::zero> reserved{};
    static constexpr pt::field_list fields{errors, devsel, master_data_parity, capabilities,
                                           reserved};
    static constexpr std::string_view drawing = "cccccrrc...r.zzz";
};
struct of_32 : pt::reg<of_32, std::uint32_t> {
    using reg::reg;
    static constexpr bits<31, 31, bool, access::write_1_to_clear> top{};
    static constexpr bits<30, 24, std::uint8_t> high{};
    static constexpr bits<23, 16, std::uint8_t, access::preserve> kept{};
    static constexpr bits<15, 8, std::uint8_t, access::read_only> told{};
    static constexpr bits<7, 4, std::uint8_t, access::zero> none{};
    static constexpr bits<1, 0, std::uint8_t> low{};
    static constexpr pt::field_list fields{top, high, kept, told, none, low};
    static constexpr std::string_view drawing = "cwwwwwwwpppppppprrrrrrrrzzzz..ww";
};
enum class kind : std::uint8_t { none, one, two, three };
struct of_64 : pt::reg<of_64, std::uint64_t> { // like a table entry
    using reg::reg;
    static constexpr bits<63, 63, bool> top{};
    static constexpr bits<51, 12, pt::hpa> frame{};
    static constexpr bits<11, 10, kind> type{};
    static constexpr bits<9, 8, std::uint8_t, access::write_1_to_clear> seen{};
    static constexpr bits<7, 7, bool, access::read_only> told{};
    static constexpr bits<6, 3, std::uint8_t, access::zero> none{};
    static constexpr bits<2, 0, std::uint8_t> rights{};
    static constexpr pt::field_list fields{top, frame, type, seen, told, none, rights};
    static constexpr std::string_view drawing =
        "w...........wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwccrzzzzwww";
};

/// The rules of the access kinds, one bit at a time, on the drawing.
template <class R>
struct model {
    using word = typename R::word;
    static constexpr unsigned width = 8 * sizeof(word);
    static_assert(R::drawing.size() == width);

    static constexpr char kind_of(unsigned bit) { return R::drawing[width - 1 - bit]; }
    static constexpr bool at(word value, unsigned bit) { return ((value >> bit) & 1) != 0; }
    template <class F>
    static constexpr word each_bit(F&& f) {
        word out = 0;
        for (unsigned bit = 0; bit != width; ++bit) {
            out =
                static_cast<word>(out | static_cast<word>(word{f(bit) ? word{1} : word{0}} << bit));
        }
        return out;
    }

    static constexpr word after_write(word before, word written, word lanes) {
        return each_bit([&](unsigned bit) {
            if (!at(lanes, bit)) {
                return at(before, bit);
            }
            switch (kind_of(bit)) {
            case 'w': return at(written, bit);
            case 'c': return at(before, bit) && !at(written, bit);
            default: return at(before, bit);
            }
        });
    }
    static constexpr word write_back(word before) {
        return each_bit([&](unsigned bit) {
            return at(before, bit) && kind_of(bit) != 'c' && kind_of(bit) != 'z';
        });
    }
    static constexpr word mask_of(char kind) {
        return each_bit([&](unsigned bit) { return kind_of(bit) == kind; });
    }
};

template <class R>
constexpr bool agrees_with_the_drawing(std::uint64_t before, std::uint64_t written,
                                       std::uint64_t lanes) {
    using word = typename R::word;
    const R held{static_cast<word>(before)};
    const auto out = static_cast<word>(written);
    const auto enabled = static_cast<word>(lanes);
    const auto all = static_cast<word>(~word{0});
    bool good = held.after_write(out, enabled).raw == model<R>::after_write(held.raw, out, enabled);
    good &= held.after_write(out).raw == model<R>::after_write(held.raw, out, all);
    good &= held.write_back().raw == model<R>::write_back(held.raw);
    // What write_back() promises: writing it changes nothing.
    good &= held.after_write(held.write_back().raw) == held;
    good &= held.after_write(out, 0) == held;
    return good;
}

template <class R>
constexpr bool masks_agree() {
    constexpr auto all = R::fields;
    return all.mask_of(access::read_write) == model<R>::mask_of('w') &&
           all.mask_of(access::read_only) == model<R>::mask_of('r') &&
           all.mask_of(access::write_1_to_clear) == model<R>::mask_of('c') &&
           all.mask_of(access::preserve) == model<R>::mask_of('p') &&
           all.mask_of(access::zero) == model<R>::mask_of('z');
}
static_assert(masks_agree<of_8>() && masks_agree<of_16>() && masks_agree<of_32>() &&
              masks_agree<of_64>());

constexpr bool a_few_at_compile_time() {
    bool good = true;
    std::uint64_t x = 0x9E37'79B9'7F4A'7C15;
    for (int i = 0; i != 20; ++i) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        const std::uint64_t y = x * 0x2545'F491'4F6C'DD1D;
        const std::uint64_t lanes = y * x;
        good &= agrees_with_the_drawing<of_8>(x, y, lanes);
        good &= agrees_with_the_drawing<of_16>(x, y, lanes);
        good &= agrees_with_the_drawing<of_32>(x, y, lanes);
        good &= agrees_with_the_drawing<of_64>(x, y, lanes);
    }
    return good;
}
static_assert(a_few_at_compile_time());

TEST_CASE("every access kind does to every bit what the manuals say", "[core][rule 5]") {
    CHECK(a_few_at_compile_time());
    unsigned wrong = 0;
    // All of an 8-bit register, byte enables in nibbles.
    for (unsigned before = 0; before != 256; ++before) {
        for (unsigned written = 0; written != 256; ++written) {
            for (const unsigned lanes : {0x00U, 0x0FU, 0xF0U, 0xFFU, 0xA5U}) {
                wrong += agrees_with_the_drawing<of_8>(before, written, lanes) ? 0 : 1;
            }
        }
    }
    std::mt19937_64 random{5};
    for (int i = 0; i != 2'000; ++i) {
        const std::uint64_t before = random();
        const std::uint64_t written = random();
        const std::uint64_t lanes = random();
        wrong += agrees_with_the_drawing<of_16>(before, written, lanes) ? 0 : 1;
        wrong += agrees_with_the_drawing<of_32>(before, written, lanes) ? 0 : 1;
        wrong += agrees_with_the_drawing<of_64>(before, written, lanes) ? 0 : 1;
    }
    CHECK(wrong == 0);
}

TEST_CASE("a byte that is not written keeps write-1-to-clear bits", "[core][pci][rule 5]") {
    // A dword at 0x04 spans Command and Status; one of the lanes at a time.
    constexpr of_16 held{0xF9FF};
    static_assert(held.after_write(0xFFFF, 0x00FF).raw == 0xF9FF);
    static_assert(held.after_write(0xFFFF, 0xFF00).raw == 0x00FF);
    static_assert(held.after_write(0x8000).raw == 0x79FF);
    CHECK(held.after_write(0x0000).raw == 0xF9FF);
}

constexpr bool fields_read_and_change() {
    constexpr of_64 entry{of_64::top(true), of_64::frame(pt::hpa{0x000F'FFFF'FFFF'F000}),
                          of_64::type(kind::two), of_64::rights(5)};
    bool good = entry.raw == 0x800F'FFFF'FFFF'F805;
    good &= entry[of_64::top] && entry[of_64::frame] == pt::hpa{0x000F'FFFF'FFFF'F000};
    good &= entry[of_64::type] == kind::two && entry[of_64::rights] == 5;
    // Everything else stays, unnamed bits included.
    constexpr of_64 full{~std::uint64_t{0}};
    good &= full.with(of_64::frame(pt::hpa{0x1000})).raw == 0xFFF0'0000'0000'1FFF;
    good &= full.with(of_64::type(kind::none), of_64::top(false)).raw == 0x7FFF'FFFF'FFFF'F3FF;
    good &= full[of_64::frame] == pt::hpa{0x000F'FFFF'FFFF'F000};
    // Read-only fields can be reported, and only so.
    constexpr of_64 told = of_64::reported(of_64::told(true), of_64::rights(1));
    good &= told.raw == 0x81 && told[of_64::told];
    good &= of_8::reported(of_8::a(3), of_8::b(true), of_8::d(true)).raw == 0xE8;
    good &= of_8{of_8::a(2)} == of_8{std::uint8_t{0x80}} && of_8{}.raw == 0;
    // A write-1-to-clear field can be chosen, so that it is cleared.
    good &= of_32{}.with(of_32::top(true)).raw == 0x8000'0000;
    return good;
}
static_assert(fields_read_and_change());

TEST_CASE("fields are read and changed one by one", "[core]") { CHECK(fields_read_and_change()); }

} // namespace reg_test
