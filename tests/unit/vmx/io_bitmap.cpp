// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/io_bitmap.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::range;
using pt::width;
using pt::vcpu::bitmap_change;
using pt::vmx::io_bitmap;

struct pages {
    std::uint64_t a[io_bitmap::words_per_page]{};
    std::uint64_t b[io_bitmap::words_per_page]{};
};

/// The processor's decision, written from the manual alone: a flag for each port, and an access
/// that needs a port beyond the last one wraps around, which exits.
struct slow_bitmap {
    std::vector<bool> closed = std::vector<bool>(0x10000, true);

    void set(std::uint32_t first, std::uint32_t count, bool value) {
        for (std::uint32_t i = 0; i != count; ++i) {
            closed.at(first + i) = value;
        }
    }
    /// Whether set() would change a flag.
    bool changes(std::uint32_t first, std::uint32_t count, bool value) const {
        for (std::uint32_t i = 0; i != count; ++i) {
            if (closed.at(first + i) != value) {
                return true;
            }
        }
        return false;
    }
    bool exits(std::uint32_t port, unsigned width) const {
        for (unsigned i = 0; i != width; ++i) {
            if (port + i >= closed.size() || closed[port + i]) {
                return true;
            }
        }
        return false;
    }
};

range<io_port> ports(std::uint32_t first, std::uint32_t size) {
    return {io_port{static_cast<std::uint16_t>(first)}, size};
}

/// Every port at every width; the number of disagreements.
unsigned disagreements(const io_bitmap& bitmap, const slow_bitmap& model) {
    unsigned count = 0;
    for (std::uint32_t port = 0; port != 0x10000; ++port) {
        for (const width size : {width::byte, width::word, width::dword}) {
            count += bitmap.exits(io_port{static_cast<std::uint16_t>(port)}, size) !=
                     model.exits(port, pt::size_of(size));
        }
    }
    return count;
}

TEST_CASE("every port exits until it is opened, whatever the pages held", "[vmx][rule 22]") {
    pages memory;
    memory.a[0] = 0;
    memory.b[511] = 0x1234;
    const io_bitmap bitmap{memory.a, memory.b};
    REQUIRE(disagreements(bitmap, slow_bitmap{}) == 0);
    for (const std::uint64_t* page : {memory.a, memory.b}) {
        for (std::size_t i = 0; i != io_bitmap::words_per_page; ++i) {
            REQUIRE(page[i] == 0xFFFF'FFFF'FFFF'FFFF);
        }
    }
}

TEST_CASE("A covers ports 0x0000..0x7FFF and B 0x8000..0xFFFF, bit port%8 of byte port/8",
          "[vmx][rule 22]") {
    pages memory;
    io_bitmap bitmap{memory.a, memory.b};
    REQUIRE(bitmap.open(ports(0x7FFE, 5)));
    std::uint8_t a[4096];
    std::uint8_t b[4096];
    std::memcpy(a, memory.a, sizeof a);
    std::memcpy(b, memory.b, sizeof b);
    CHECK(a[0xFFF] == 0x3F); // 0x7FFE and 0x7FFF
    CHECK(b[0x000] == 0xF8); // 0x8000..0x8002
    CHECK(a[0xFFE] == 0xFF);
    CHECK(b[0x001] == 0xFF);
}

TEST_CASE("an access exits if any port that it touches is closed, and always past 0xFFFF",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        std::uint64_t a[io_bitmap::words_per_page]{};
        std::uint64_t b[io_bitmap::words_per_page]{};
        io_bitmap bitmap{a, b};
        bool good = bitmap.open({io_port{0xC000}, 3}).has_value();
        good = good && !bitmap.exits(io_port{0xC000}, width::byte) &&
               !bitmap.exits(io_port{0xC000}, width::word);
        good = good && bitmap.exits(io_port{0xC000}, width::dword); // 0xC003 is closed
        good = good && bitmap.exits(io_port{0xBFFF}, width::word) &&
               bitmap.exits(io_port{0xC002}, width::word);
        good = good && !bitmap.exits(io_port{0xC002}, width::byte);

        good = good && bitmap.open({io_port{0xFFFC}, 4}).has_value() &&
               bitmap.open({io_port{0}, 16}).has_value();
        good = good && !bitmap.exits(io_port{0xFFFC}, width::dword) &&
               !bitmap.exits(io_port{0xFFFE}, width::word);
        good = good && !bitmap.exits(io_port{0xFFFF}, width::byte);
        good = good && bitmap.exits(io_port{0xFFFF}, width::word) &&
               bitmap.exits(io_port{0xFFFD}, width::dword); // wraps into open ports
        good = good && bitmap.exits(io_port{0xFFFF}, width::dword) &&
               bitmap.exits(io_port{0xFFFE}, width::dword);

        good = good && bitmap.open({io_port{0x7FFE}, 4}).has_value() &&
               !bitmap.exits(io_port{0x7FFE}, width::dword); // A and B
        good = good && !bitmap.exits(io_port{0xF}, width::byte) &&
               bitmap.exits(io_port{0xF}, width::word);
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("ports 0xCF8..0xCFF never open, and a range with one of them opens nothing",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        std::uint64_t a[io_bitmap::words_per_page]{};
        std::uint64_t b[io_bitmap::words_per_page]{};
        io_bitmap bitmap{a, b};
        const auto refused = [&](std::uint16_t first, std::uint64_t size, std::uint16_t where) {
            return bitmap.open({io_port{first}, size}) == error{errc::refused, where};
        };
        bool good =
            refused(0xCF8, 1, 0xCF8) && refused(0xCF8, 8, 0xCF8) && refused(0xCFF, 1, 0xCFF);
        good = good && refused(0xCF0, 16, 0xCF8) && refused(0xCF9, 1, 0xCF9) &&
               refused(0xCFC, 0x100, 0xCFC);
        good = good && refused(0, 0xCF9, 0xCF8);    // one too many
        good = good && refused(0, 0x1'0000, 0xCF8); // a BAR of 64K
        for (std::size_t i = 0; i != io_bitmap::words_per_page; ++i) {
            good = good && a[i] == ~std::uint64_t{0} && b[i] == ~std::uint64_t{0};
        }
        // Its neighbours do open; nothing at all is no error.
        good = good && bitmap.open({io_port{0xCF0}, 8}).has_value() &&
               bitmap.open({io_port{0xD00}, 8}).has_value();
        good = good && bitmap.open({io_port{0xCF9}, 0}).has_value();
        for (std::uint16_t port = 0xCF8; port != 0xD00; ++port) {
            good = good && bitmap.exits(io_port{port}, width::byte);
        }
        return good && !bitmap.exits(io_port{0xCF7}, width::byte) &&
               bitmap.exits(io_port{0xCF7}, width::word) &&
               !bitmap.exits(io_port{0xD00}, width::dword);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a change says which way bits went, and nothing where all was so before",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        constexpr bitmap_change nothing{};
        constexpr bitmap_change opened{.opened = true};
        constexpr bitmap_change closed{.closed = true};
        std::uint64_t a[io_bitmap::words_per_page]{};
        std::uint64_t b[io_bitmap::words_per_page]{};
        io_bitmap bitmap{a, b};
        // Of one word, of the last and the first word of the pages, and of many words.
        bool good = true;
        for (const range<io_port> ports : {range{io_port{0xC000}, 32}, range{io_port{0x7FFF}, 2},
                                           range{io_port{0x1001}, 0xEFFE}}) {
            const io_port last = ports.last();
            good = good && bitmap.close(ports) == nothing && bitmap.closing(ports) == nothing;
            good = good && bitmap.opening(ports) == opened;
            good = good && bitmap.exits(last, width::byte); // the question changed nothing
            good = good && bitmap.open(ports) == opened && !bitmap.exits(last, width::byte);
            good = good && bitmap.open(ports) == nothing && bitmap.opening(ports) == nothing;

            // One bit is enough, wherever it is.
            for (const io_port one : {ports.first(), last, ports.first() + ports.size() / 2}) {
                good = good && bitmap.closing({one, 1}) == closed;
                good = good && !bitmap.exits(one, width::byte);
                good = good && bitmap.close({one, 1}) == closed;
                good = good && bitmap.opening(ports) == opened && bitmap.open(ports) == opened;
            }
            good = good && bitmap.closing(ports) == closed && bitmap.close(ports) == closed;
        }
        good = good && bitmap.opening({io_port{0xCF0}, 16}) == error{errc::refused, 0xCF8};
        good = good && bitmap.close({io_port{0xCF8}, 8}) == nothing;
        const range<io_port> none{io_port{0xC000}, 0};
        return good && bitmap.open(none) == nothing && bitmap.close(none) == nothing &&
               bitmap.opening(none) == nothing && bitmap.closing(none) == nothing;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("further ports of the machine never open either, and the first of all is named",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        // In no order, with an empty one, up to the last port: interrupt controllers, a console,
        // reset.
        constexpr range<io_port> machine[] = {{io_port{0x3F8}, 8},
                                              {io_port{0x20}, 2},
                                              {io_port{0xA0}, 2},
                                              {io_port{0x64}, 0},
                                              {io_port{0xFFFF}, 1}};
        std::uint64_t a[io_bitmap::words_per_page]{};
        std::uint64_t b[io_bitmap::words_per_page]{};
        io_bitmap bitmap{a, b, machine, 5};
        const auto refused = [&](std::uint16_t first, std::uint64_t size, std::uint16_t where) {
            const range<io_port> ports{io_port{first}, size};
            return bitmap.open(ports) == error{errc::refused, where} &&
                   bitmap.opening(ports) == error{errc::refused, where};
        };
        bool good = refused(0x21, 1, 0x21) && refused(0, 0x21, 0x20) && refused(0x80, 0x40, 0xA0);
        good = good && refused(0x3FF, 1, 0x3FF) && refused(0x3F0, 9, 0x3F8);
        good = good && refused(0, 0x1'0000, 0x20);
        good = good && refused(0xA0, 0xC60, 0xA0) && refused(0x400, 0xC00, 0xCF8);
        good = good && refused(0xFFFF, 1, 0xFFFF) && refused(0xFF00, 0x100, 0xFFFF);
        for (std::size_t i = 0; i != io_bitmap::words_per_page; ++i) {
            good = good && a[i] == ~std::uint64_t{0} && b[i] == ~std::uint64_t{0};
        }
        // Exactly between them, and where an empty range stands.
        good = good && bitmap.open({io_port{0x22}, 0x7E}).has_value() &&
               !bitmap.exits(io_port{0x64}, width::byte) &&
               bitmap.exits(io_port{0x21}, width::word);
        return good && bitmap.open({io_port{0xD00}, 0xF2FF}).has_value() &&
               bitmap.exits(io_port{0xFFFE}, width::word) &&
               !bitmap.exits(io_port{0xFFFE}, width::byte);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("random ranges of all sizes: each decision is that of the slow model", "[vmx][rule 22]") {
    // The two pages lie apart, between words of somebody else.
    constexpr std::uint64_t other = 0xA5A5'5A5A'A5A5'5A5A;
    constexpr std::size_t page = io_bitmap::words_per_page;
    std::vector<std::uint64_t> memory(2 * page + 30, other);
    io_bitmap bitmap{memory.data() + page + 20, memory.data() + 10};
    slow_bitmap model;
    auto random = [engine = std::mt19937{22}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong_results = 0;
    unsigned wrong_decisions = 0;
    for (int step = 0; step != 20'000; ++step) {
        // Sizes of all magnitudes; places around the seams of words, pages and the protected ports.
        const std::uint32_t size = random() % ((1U << random() % 16) + 1);
        const std::uint32_t seams[] = {
            0, 0x40, 0xCF8, 0xD00, 0x8000, 0xFFFF, random() % 0x10000, random() % 0x10000};
        const std::uint32_t seam = seams[random() % 8] + 0x10000 - random() % 70;
        const std::uint32_t first = seam % 0x10000;
        const std::uint32_t count = size < 0x10000 - first ? size : 0x10000 - first;
        if (random() % 2 == 0) {
            const bool hits = count != 0 && first < 0xD00 && first + count > 0xCF8;
            const auto foretold = bitmap.opening(ports(first, count));
            const auto opened = bitmap.open(ports(first, count));
            wrong_results += opened.has_value() == hits || foretold != opened;
            if (!hits) {
                const bitmap_change expected{.opened = model.changes(first, count, false)};
                wrong_results += opened != expected;
                model.set(first, count, false);
            }
        } else {
            const bitmap_change expected{.closed = model.changes(first, count, true)};
            wrong_results += bitmap.closing(ports(first, count)) != expected;
            wrong_results += bitmap.close(ports(first, count)) != expected;
            model.set(first, count, true);
        }
        for (std::uint32_t near = 0; near != 8; ++near) {
            const std::uint32_t port =
                ((near < 4 ? first : first + count) + near % 4 + 0x10000 - 2) % 0x10000;
            for (const width wide : {width::byte, width::word, width::dword}) {
                wrong_decisions += bitmap.exits(io_port{static_cast<std::uint16_t>(port)}, wide) !=
                                   model.exits(port, pt::size_of(wide));
            }
        }
        if (step % 1000 == 0) {
            wrong_decisions += disagreements(bitmap, model);
        }
    }
    REQUIRE(wrong_results == 0);
    REQUIRE(wrong_decisions == 0);
    for (std::size_t i = 0; i != 10; ++i) {
        REQUIRE(memory[i] == other);
        REQUIRE(memory[page + 10 + i] == other);
        REQUIRE(memory[2 * page + 20 + i] == other);
    }
}

} // namespace
