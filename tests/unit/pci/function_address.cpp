// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/function_address.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

using pt::errc;
using pt::error;
using pt::pci::function_address;

namespace {

constexpr auto parse(std::string_view text) {
    return function_address::parse(text.data(), text.size());
}

} // namespace

TEST_CASE("a function's address is read from its long and its short form", "[pci]") {
    constexpr auto holds = [] {
        return *parse("0000:00:1f.2") == function_address{0, 0, 0x1F, 2} &&
               *parse("00:1f.2") == function_address{0, 0, 0x1F, 2} &&
               *parse("ABCD:ef:0A.7") == function_address{0xABCD, 0xEF, 0x0A, 7};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a text that is no address is an error that names the place", "[pci]") {
    constexpr auto fails = [](std::string_view text, errc code, std::uint64_t where) {
        const auto read = parse(text);
        return !read && read.error() == error{code, where};
    };
    constexpr auto holds = [=] {
        return fails("", errc::malformed, 0) && fails("0:1f.2", errc::malformed, 6) &&
               fails("0000:00:1f.2 ", errc::malformed, 13) && // nothing around it
               fails("00-1f.2", errc::malformed, 2) && fails("00:1f:2", errc::malformed, 5) &&
               fails("0000:0g:1f.2", errc::malformed, 6) && fails("+0:1f.2", errc::malformed, 0) &&
               fails("00000:0:1f.2", errc::malformed, 4) &&
               fails("00:20.0", errc::out_of_range, 3) &&
               fails("0000:00:ff.0", errc::out_of_range, 8) &&
               fails("00:1f.8", errc::out_of_range, 6) && fails("00:1f.f", errc::out_of_range, 6);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a null inside the text is an error and the text is not read beyond its size", "[pci]") {
    // Heap memory of exactly that size: the address sanitizer watches its end.
    const std::string_view text = "00:1f.2";
    for (std::size_t size = 0; size < text.size(); ++size) {
        const std::vector<char> cut(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
        CHECK_FALSE(function_address::parse(cut.data(), cut.size()));
    }
    CHECK_FALSE(parse(std::string_view{"00:\0f.2", 7}));
}

TEST_CASE("every function's text reads back as the function", "[pci]") {
    for (unsigned source = 0; source < 0x10000; ++source) {
        const auto segment = static_cast<std::uint16_t>(source * 40503U);
        const auto address =
            function_address::from_source_id(static_cast<std::uint16_t>(source), segment);
        char expected[32];
        (void)std::snprintf(expected, sizeof expected, "%04x:%02x:%02x.%x", unsigned{segment},
                            source >> 8, source >> 3 & 31, source & 7);
        const auto text = address.text();
        REQUIRE(std::string{text.data()} == expected);
        REQUIRE(*function_address::parse(text.data(), text.size()) == address);
        REQUIRE(address.valid());
        REQUIRE(address.source_id() == source);
    }
}

TEST_CASE("the source id of 00:05.0 is 0x28", "[pci]") {
    // As QEMU's VT-d reports the function in its fault record.
    STATIC_REQUIRE(parse("00:05.0")->source_id() == 0x28);
    STATIC_REQUIRE(parse("ff:1f.7")->source_id() == 0xFFFF);
    STATIC_REQUIRE(parse("80:00.1")->source_id() == 0x8001);
}

TEST_CASE("addresses are ordered by segment, bus, device, function", "[pci]") {
    constexpr function_address ascending[] = {{0, 0, 0, 0}, {0, 0, 0, 7},    {0, 0, 1, 0},
                                              {0, 1, 0, 0}, {0, 255, 31, 7}, {1, 0, 0, 0}};
    for (std::size_t i = 1; i < std::size(ascending); ++i) {
        CHECK(ascending[i - 1] < ascending[i]);
    }
}

TEST_CASE("devices above 31 and functions above 7 are not valid", "[pci]") {
    STATIC_REQUIRE(function_address{0, 255, 31, 7}.valid());
    STATIC_REQUIRE_FALSE(function_address{0, 0, 32, 0}.valid());
    STATIC_REQUIRE_FALSE(function_address{0, 0, 0, 8}.valid());
}
