// SPDX-License-Identifier: BSL-1.0
// From what a guest writes into an I/O BAR to the ports that do not exit.

#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/header.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <random>

namespace {

using pt::errc;
using pt::error;
using pt::io_port;
using pt::result;
using pt::width;
using pt::vmx::io_bitmap;
using pt::vmx::kept_ports;
using pt::vmx::port_owner;
using pt::vmx::shared_io_bitmap;

struct pages {
    std::uint64_t a[io_bitmap::words_per_page]{};
    std::uint64_t b[io_bitmap::words_per_page]{};
};

constexpr port_owner nic{0x0028};
constexpr port_owner disk{0x0030};

/// What a VMM does when its guest has written `guest` into the I/O BAR of a device whose own one
/// holds `host`, both with the flags that a register has.
constexpr result<pt::vcpu::bitmap_change> bar_written(shared_io_bitmap& bitmap, port_owner owner,
                                                      std::uint32_t guest, std::uint32_t host,
                                                      std::uint64_t size) {
    constexpr auto type_0 = pt::pci::header_layout::device;
    const auto there = pt::pci::decode_bar(type_0, 2, guest, 0);
    const auto here = pt::pci::decode_bar(type_0, 2, host, 0);
    if (!there || !here) {
        return there ? here.error() : there.error();
    }
    const auto guest_ports = io_bitmap::ports_of_bar(there->address, size);
    const auto host_ports = io_bitmap::ports_of_bar(here->address, size);
    if (!guest_ports || !host_ports) {
        return guest_ports ? host_ports.error() : guest_ports.error();
    }
    return bitmap.open_identity(owner, *guest_ports, *host_ports);
}

TEST_CASE("an I/O BAR opens when guest and device have it at the same ports, and else not",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[4];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 4};
        // BAR 2 of an 82574L: 32 ports, bit 0 says I/O.
        bool good = bar_written(bitmap, nic, 0xC001, 0xC001, 32).has_value();
        good = good && !bitmap.exits(io_port{0xC01C}, width::dword) &&
               bitmap.exits(io_port{0xC01D}, width::dword);
        good =
            good && bar_written(bitmap, disk, 0xC041, 0xD001, 32) == error{errc::refused, 0xC040};
        // The guest's 32 bits are not cut to 16 before they are compared.
        good = good && bar_written(bitmap, disk, 0x1'D001, 0xD001, 32) ==
                           error{errc::out_of_range, 0x1'D000};
        good = good && bar_written(bitmap, disk, 0xFFFF'FFFF, 0xD001, 32) ==
                           error{errc::out_of_range, 0xFFFF'FFFC};
        // Up to the last port, and not past it.
        good = good && bar_written(bitmap, disk, 0xFFE1, 0xFFE1, 32).has_value() &&
               !bitmap.exits(io_port{0xFFFC}, width::dword);
        good = good &&
               bar_written(bitmap, disk, 0xFFF1, 0xFFF1, 32) == error{errc::out_of_range, 0xFFF0};
        // Over the configuration ports, even if the device has really been put there.
        good = good && bar_written(bitmap, disk, 0xC01, 0xC01, 256) == error{errc::refused, 0xCF8};
        return good && bitmap.exits(io_port{0xD000}, width::byte) &&
               bitmap.exits(io_port{0xC00}, width::byte) &&
               bitmap.exits(io_port{0xFFDF}, width::byte);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("two devices that a guest has put at one place: each keeps its ports when the other goes",
          "[vmx][rule 22]") {
    constexpr auto check = [] {
        pages memory;
        kept_ports slots[4];
        shared_io_bitmap bitmap{io_bitmap{memory.a, memory.b}, slots, 4};
        bool good = bar_written(bitmap, nic, 0xC001, 0xC001, 64).has_value() &&
                    bar_written(bitmap, disk, 0xC021, 0xC021, 32).has_value();
        good = good && bitmap.close_all(nic) == pt::vcpu::bitmap_change{.closed = true};
        good = good && bitmap.exits(io_port{0xC01F}, width::byte) &&
               !bitmap.exits(io_port{0xC020}, width::dword) &&
               !bitmap.exits(io_port{0xC03C}, width::dword);
        good = good && bitmap.close_all(disk) == pt::vcpu::bitmap_change{.closed = true};
        return good && bitmap.exits(io_port{0xC020}, width::byte);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("whatever a guest writes into its BAR, it opens the device's own ports or none",
          "[vmx][rule 22]") {
    const auto memory = std::make_unique<pages>();
    kept_ports slots[2];
    shared_io_bitmap bitmap{io_bitmap{memory->a, memory->b}, slots, 2};
    auto random = [engine = std::mt19937{22022}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong = 0;
    unsigned opened = 0;
    for (int step = 0; step != 100'000; ++step) {
        const std::uint64_t size = 4U << random() % 15; // to 64K
        const std::uint32_t places[] = {0xC00, 0xCF8, 0xFFF0, 0x8000, 0, random() % 0x1'0000};
        const auto host =
            static_cast<std::uint32_t>(places[random() % 6] & ~(size - 1) & 0xFFFF) | 1;
        const std::uint32_t guests[] = {host, host ^ 1U << random() % 32, random() | 1};
        const std::uint32_t guest = guests[random() % 3] | 1;
        // [pci]: bits 31:2 are the address, bit 1 is reserved.
        const std::uint64_t first = guest & 0xFFFF'FFFC;
        const bool config = first < 0xD00 && first + size > 0xCF8;
        const bool expected = first == (host & 0xFFFF'FFFC) && first + size <= 0x1'0000 && !config;
        const auto answer = bar_written(bitmap, nic, guest, host, size);
        wrong += answer.has_value() != expected;
        opened += answer.has_value();
        bool all_exit = true;
        for (std::size_t i = 0; i != io_bitmap::words_per_page && !expected; ++i) {
            all_exit =
                all_exit && memory->a[i] == ~std::uint64_t{0} && memory->b[i] == ~std::uint64_t{0};
        }
        wrong += !all_exit;
        wrong += bitmap.close_all(nic).closed != expected;
    }
    REQUIRE(wrong == 0);
    REQUIRE(opened > 10'000); // or nothing was tried
}

} // namespace
