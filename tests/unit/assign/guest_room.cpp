// SPDX-License-Identifier: BSL-1.0
#include "pt/assign/guest_room.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace pt;

constexpr bool lists_hold_as_many_as_they_say() {
    std::uint64_t a[512]{};
    std::uint64_t b[512]{};
    assign::guest_lists<2, 1, 1> lists{vmx::io_bitmap{a, b}};
    const assign::guest_room room = lists.room();
    bool ok = room.space.add({.place = {gpa{0}, 4096}}) &&
              room.space.add({.place = {gpa{8192}, 4096}}) &&
              room.space.add({.place = {gpa{4096}, 4096}}).error().code == errc::busy;
    ok = ok && room.port_space.add({.place = {io_port{0x3F8}, 8}}) &&
         room.port_space.add({.place = {io_port{0x2F8}, 8}}).error().code == errc::busy;
    ok = ok && room.ports.open(vmx::port_owner{1}, {io_port{0xC000}, 32}) &&
         room.ports.open(vmx::port_owner{1}, {io_port{0xD000}, 32}).error().code == errc::busy;
    // The next room() is the same one, and what is open is so in the bitmap.
    ok = ok && lists.room().space.size() == 2 && (b[0x4000 / 64] & 0xFFFF'FFFF) == 0;
    return ok && b[0xD000 / 64 - 512] == ~std::uint64_t{0};
}
static_assert(lists_hold_as_many_as_they_say());

} // namespace

TEST_CASE("a guest's lists hold as many places, ports and open ranges as they say", "[assign]") {
    CHECK(lists_hold_as_many_as_they_say());
}
