// SPDX-License-Identifier: BSL-1.0
#include "fake_machine.hpp"

#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using pci_fake::config;
using pci_fake::event;
using pci_fake::function;
using pci_fake::machine;
using pt::errc;
using pt::error;

constexpr pt::pci::function_address nic{0, 0, 5, 0};

/// A function whose one capability, at `offset`, has this id and Message Control.
constexpr function with_capability(std::size_t offset, std::uint8_t id, std::uint16_t control) {
    function made{nic, 0x10D3'8086};
    made.put(0x06, 2, 0x0010); // Status: there is a list
    made.put(0x34, 1, offset);
    made.put(offset, 1, id);
    made.put(offset + 2, 2, control);
    made.allow(offset + 2, 2, id == 5 ? 0x0071 : 0xC000);
    made.allow(offset + 4, 8, ~std::uint64_t{0});
    made.allow(offset + 12, 4, 0xFFFF'FFFF);
    return made;
}

/// The writes that arrived, in order: offset, size, value.
constexpr bool writes_are(const machine& seen, const event* expected, std::size_t count) {
    if (seen.writes() != count || seen.out_of_bounds) {
        return false;
    }
    for (std::size_t i = 0; i < count; ++i) {
        const event written = seen.write(i);
        if (!(written.offset == expected[i].offset && written.size == expected[i].size &&
              written.value == expected[i].value)) {
            return false;
        }
    }
    return true;
}

// The four layouts [pci]: data lies at 8 after a 32-bit address and at 12 after a 64-bit one; masks
// come behind the data and move nothing.
constexpr bool message_is_written_while_off(std::uint16_t control, std::uint64_t address) {
    const bool is_64 = (control & 0x80) != 0;
    function device = with_capability(0xD0, 0x05, static_cast<std::uint16_t>(control | 0x31));
    machine seen{&device, 1};
    if (!pt::pci::enable_msi(config{&seen}, nic, {address, 0x4041})) {
        return false;
    }
    const auto off = static_cast<std::uint32_t>(control); // 8 vectors and enable are gone
    const event with_32[] = {{true, nic, 0xD2, 2, off},
                             {true, nic, 0xD4, 4, static_cast<std::uint32_t>(address)},
                             {true, nic, 0xD8, 2, 0x4041},
                             {true, nic, 0xD2, 2, off | 1}};
    const event with_64[] = {{true, nic, 0xD2, 2, off},
                             {true, nic, 0xD4, 4, static_cast<std::uint32_t>(address)},
                             {true, nic, 0xD8, 4, static_cast<std::uint32_t>(address >> 32)},
                             {true, nic, 0xDC, 2, 0x4041},
                             {true, nic, 0xD2, 2, off | 1}};
    return is_64 ? writes_are(seen, with_64, 5) : writes_are(seen, with_32, 4);
}

constexpr bool all_four_layouts() {
    return message_is_written_while_off(0x0000, 0xFEE0'0000) &&
           message_is_written_while_off(0x0100, 0xFEE0'1000) &&
           message_is_written_while_off(0x0080, 0x12'FEE0'0000) &&
           message_is_written_while_off(0x0180, 0xFEE0'F000);
}
static_assert(all_four_layouts());

constexpr bool refused_msi_changes_nothing(std::size_t offset, std::uint8_t id,
                                           std::uint64_t address, error expected) {
    function device = with_capability(offset, id, 0x0000);
    machine seen{&device, 1};
    const auto answer = pt::pci::enable_msi(config{&seen}, nic, {address, 0x41});
    return !answer && answer.error() == expected && seen.writes() == 0 && !seen.out_of_bounds;
}
static_assert(refused_msi_changes_nothing(0x50, 0x05, 0xFEE0'0002,
                                          {errc::misaligned, 0xFEE0'0002}));

constexpr bool msi_x_of(std::uint16_t control, std::uint32_t table, std::uint32_t pba,
                        pt::pci::msi_x_layout expected) {
    function device = with_capability(0xA0, 0x11, control);
    device.put(0xA4, 4, table);
    device.put(0xA8, 4, pba);
    machine seen{&device, 1};
    const auto layout = pt::pci::read_msi_x(config{&seen}, nic);
    return layout && *layout == expected && seen.writes() == 0;
}
// What lspci prints of an 82574L: "MSI-X: Enable- Count=5 Masked-", "Vector table: BAR=3
// offset=00000000", "PBA: BAR=3 offset=00002000".
static_assert(msi_x_of(0x0004, 0x0000'0003, 0x0000'2003, {5, {3, 0, 80}, {3, 0x2000, 8}}));

} // namespace

TEST_CASE("an MSI message changes only while the capability is off", "[pci][rule 7]") {
    REQUIRE(all_four_layouts());
}

TEST_CASE("an MSI that cannot be is refused and nothing is written", "[pci][rule 7]") {
    CHECK(refused_msi_changes_nothing(0x50, 0x05, 0xFEE0'0002, {errc::misaligned, 0xFEE0'0002}));
    CHECK(refused_msi_changes_nothing(0x50, 0x05, 0x1'FEE0'0000,
                                      {errc::out_of_range, 0x1'FEE0'0000}));
    CHECK(refused_msi_changes_nothing(0x50, 0x11, 0xFEE0'0000, {errc::absent, 0x05}));
    // A capability in the last dword has no room for the message.
    CHECK(refused_msi_changes_nothing(0xFC, 0x05, 0xFEE0'0000, {errc::malformed, 0xFC}));
}

TEST_CASE("MSI-X: table size is the field plus one, 16 bytes each", "[pci][rule 7]") {
    CHECK(msi_x_of(0x0004, 0x0000'0003, 0x0000'2003, {5, {3, 0, 80}, {3, 0x2000, 8}}));
    CHECK(msi_x_of(0x0000, 0x0000'1000, 0x0000'0F01, {1, {0, 0x1000, 16}, {1, 0xF00, 8}}));
    CHECK(msi_x_of(0xC7FF, 0xFFFF'FFFD, 0x0000'8004,
                   {2048, {5, 0xFFFF'FFF8, 32768}, {4, 0x8000, 256}}));
    // 64 vectors fill one qword of pending bits, 65 need two.
    CHECK(msi_x_of(0x003F, 0, 0, {64, {0, 0, 1024}, {0, 0, 8}}));
    CHECK(msi_x_of(0x0040, 0, 0, {65, {0, 0, 1040}, {0, 0, 16}}));
}

TEST_CASE("MSI-X: a BIR above 5 is reserved", "[pci][rule 7]") {
    for (const std::uint32_t bir : {6U, 7U}) {
        function device = with_capability(0xA0, 0x11, 0);
        machine seen{&device, 1};
        device.put(0xA4, 4, bir);
        CHECK(pt::pci::read_msi_x(config{&seen}, nic).error() == error{errc::malformed, 0xA4});
        device.put(0xA4, 4, 0);
        device.put(0xA8, 4, bir);
        CHECK(pt::pci::read_msi_x(config{&seen}, nic).error() == error{errc::malformed, 0xA8});
    }
    function device = with_capability(0xF8, 0x11, 0); // 12 bytes do not fit
    machine seen{&device, 1};
    CHECK(pt::pci::read_msi_x(config{&seen}, nic).error() == error{errc::malformed, 0xF8});
    CHECK_FALSE(seen.out_of_bounds);
}
