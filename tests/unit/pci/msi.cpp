// SPDX-License-Identifier: BSL-1.0
#include "fake_machine.hpp"

#include "pt/pci/bar.hpp"
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
    for (std::size_t byte = offset + 4; byte < offset + 24 && byte < 0x100; ++byte) {
        made.allow(byte, 1, 0xFF);
    }
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

// The four layouts [pci]: data lies at 8 after a 32-bit address and at 12 after a 64-bit one; the mask
// bits, where there are any, lie at 12 or 16, and vector 0 is bit 0.
constexpr bool message_is_written_while_off(std::uint16_t control, std::uint64_t address) {
    const bool is_64 = (control & 0x80) != 0;
    const bool has_masks = (control & 0x100) != 0;
    function device = with_capability(0xD0, 0x05, static_cast<std::uint16_t>(control | 0x31));
    if (has_masks) {
        device.put(is_64 ? 0xE0 : 0xDC, 4, 0x0000'00FF); // left behind: every vector is masked
    }
    machine seen{&device, 1};
    if (!pt::pci::enable_msi(config{&seen}, nic, {address, 0x4041})) {
        return false;
    }
    const auto off = static_cast<std::uint32_t>(control); // 8 vectors and enable are gone
    const auto low = static_cast<std::uint32_t>(address);
    const auto high = static_cast<std::uint32_t>(address >> 32);
    if (is_64) {
        const event plain[] = {{true, nic, 0xD2, 2, off},
                               {true, nic, 0xD4, 4, low},
                               {true, nic, 0xD8, 4, high},
                               {true, nic, 0xDC, 2, 0x4041},
                               {true, nic, 0xD2, 2, off | 1}};
        const event masked[] = {
            plain[0], plain[1], plain[2], plain[3], {true, nic, 0xE0, 4, 0x0000'00FE}, plain[4]};
        return has_masks ? writes_are(seen, masked, 6) : writes_are(seen, plain, 5);
    }
    const event plain[] = {{true, nic, 0xD2, 2, off},
                           {true, nic, 0xD4, 4, low},
                           {true, nic, 0xD8, 2, 0x4041},
                           {true, nic, 0xD2, 2, off | 1}};
    const event masked[] = {
        plain[0], plain[1], plain[2], {true, nic, 0xDC, 4, 0x0000'00FE}, plain[3]};
    return has_masks ? writes_are(seen, masked, 5) : writes_are(seen, plain, 4);
}

constexpr bool all_four_layouts() {
    return message_is_written_while_off(0x0000, 0xFEE0'0000) &&
           message_is_written_while_off(0x0100, 0xFEE0'1000) &&
           message_is_written_while_off(0x0080, 0x12'FEE0'0000) &&
           message_is_written_while_off(0x0180, 0xFEE0'F000);
}
static_assert(all_four_layouts());

constexpr bool refused_msi_changes_nothing(std::size_t offset, std::uint8_t id,
                                           std::uint64_t address, error expected,
                                           std::uint16_t control = 0x0000) {
    function device = with_capability(offset, id, control);
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

TEST_CASE("an MSI message changes, and its vector is unmasked, only while the capability is off",
          "[pci][rule 7]") {
    REQUIRE(all_four_layouts());
}

TEST_CASE("disable_msi clears the enable bit and writes nothing else", "[pci]") {
    constexpr auto holds = [] {
        function device = with_capability(0xD0, 0x05, 0x01B7);
        machine seen{&device, 1};
        const bool done = pt::pci::disable_msi(config{&seen}, nic).has_value();
        const event off[] = {{true, nic, 0xD2, 2, 0x01B6}};
        function other = with_capability(0xD0, 0x11, 0x8000);
        machine none{&other, 1};
        const auto absent = pt::pci::disable_msi(config{&none}, nic);
        return done && writes_are(seen, off, 1) && !absent && absent.error().code == errc::absent &&
               none.writes() == 0;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("an MSI that cannot be is refused and nothing is written", "[pci][rule 7]") {
    CHECK(refused_msi_changes_nothing(0x50, 0x05, 0xFEE0'0002, {errc::misaligned, 0xFEE0'0002}));
    CHECK(refused_msi_changes_nothing(0x50, 0x05, 0x1'FEE0'0000,
                                      {errc::out_of_range, 0x1'FEE0'0000}));
    CHECK(refused_msi_changes_nothing(0x50, 0x11, 0xFEE0'0000, {errc::absent, 0x05}));
    // A capability in the last dword has no room for the message.
    CHECK(refused_msi_changes_nothing(0xFC, 0x05, 0xFEE0'0000, {errc::malformed, 0xFC}));
}

TEST_CASE("each of the four MSI layouts may end with the first 256 bytes, and not beyond",
          "[pci][rule 7]") {
    struct layout {
        std::uint16_t control;
        std::size_t last; // 10, 14, 20 or 24 bytes, from a multiple of 4
    };
    for (const auto [control, last] :
         {layout{0x0000, 0xF4}, layout{0x0080, 0xF0}, layout{0x0100, 0xEC}, layout{0x0180, 0xE8}}) {
        CAPTURE(control);
        function device = with_capability(last, 0x05, control);
        machine seen{&device, 1};
        CHECK(pt::pci::enable_msi(config{&seen}, nic, {0xFEE0'0000, 0x41}));
        CHECK_FALSE(seen.out_of_bounds);
        for (std::size_t offset = last + 4; offset < 0x100; offset += 4) {
            CHECK(refused_msi_changes_nothing(offset, 0x05, 0xFEE0'0000, {errc::malformed, offset},
                                              control));
        }
    }
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

TEST_CASE("MSI-X: the table may name an absent BAR or lie past the end of its BAR",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        function device{nic, 0x10D3'8086};
        device.bar(0x10, 0xFFFF'C000, 0xC000'000C); // 16 KiB, 64 bits
        device.bar(0x14, 0xFFFF'FFFF, 0x20);
        device.bar(0x18, 0x0000'FFE0, 0x0000'C041); // 32 ports
        device.bar(0x1C, 0xFFFF'FFFF, 0);           // no BAR at all: malformed
        device.bar(0x20, 0xFFFF'F000, 0xFEB0'0000); // 4 KiB
        machine seen{&device, 1};
        const auto bars = pt::pci::size_bars(config{&seen}, nic);
        const auto is = [&](pt::pci::bar_part part, std::uint16_t offset) {
            const auto found = bar_of(part, bars);
            return found && found->offset == offset;
        };
        const auto fails = [&](pt::pci::bar_part part, error expected) {
            const auto found = bar_of(part, bars);
            return !found && found.error() == expected;
        };
        return is({0, 0, 80}, 0x10) && is({0, 0x3FB0, 80}, 0x10) && is({4, 0, 0x1000}, 0x20) &&
               fails({0, 0x3FB8, 80}, {errc::out_of_range, 0x3FB8}) &&
               fails({4, 0, 0x8000}, {errc::out_of_range, 0}) &&
               fails({4, 0xFFFF'FFF8, 16}, {errc::out_of_range, 0xFFFF'FFF8}) &&
               fails({1, 0, 16}, {errc::absent, 1}) && // an upper half
               fails({2, 0, 16}, {errc::absent, 2}) && // ports
               fails({3, 0, 16}, {errc::absent, 3}) && fails({5, 0, 16}, {errc::absent, 5});
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("read_msi: where the four layouts put address, data, mask and pending bits",
          "[pci][rule 7]") {
    struct expectation {
        std::uint16_t control;
        std::uint8_t vectors;
        unsigned data, mask, pending, size; // from the figures in [pci], in bytes from the header
    };
    constexpr auto holds = [] {
        const expectation all[]{
            {0x0000, 1, 0x08, 0, 0, 0x0A},       {0x0082, 2, 0x0C, 0, 0, 0x0E},
            {0x0106, 8, 0x08, 0x0C, 0x10, 0x14}, {0x018A, 32, 0x0C, 0x10, 0x14, 0x18},
            {0x0200, 1, 0x08, 0, 0, 0x0C}, // extended message data [pcie]
            {0x0280, 1, 0x0C, 0, 0, 0x10},       {0x0380, 1, 0x0C, 0x10, 0x14, 0x18}};
        bool good = true;
        for (const auto& one : all) {
            function device = with_capability(0xD0, 0x05, one.control);
            machine seen{&device, 1};
            const auto msi = pt::pci::read_msi(config{&seen}, nic);
            const bool masks = one.mask != 0;
            good &= msi && msi->offset == 0xD0 && msi->vectors == one.vectors &&
                    msi->is_64bit == (one.data == 0x0C) && msi->maskable == masks &&
                    msi->control_offset() == 0xD2 && msi->address_offset() == 0xD4 &&
                    msi->data_offset() == 0xD0 + one.data && msi->size() == one.size &&
                    (!masks || (msi->mask_offset() == 0xD0 + one.mask &&
                                msi->pending_offset() == 0xD0 + one.pending)) &&
                    (!msi->is_64bit || msi->upper_address_offset() == 0xD8) && seen.writes() == 0;
        }
        return good;
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("read_msi: more than 32 vectors are reserved, and it must fit", "[pci][rule 7]") {
    for (const std::uint16_t control : {std::uint16_t{0x000C}, std::uint16_t{0x000E}}) {
        CHECK(
            refused_msi_changes_nothing(0x50, 0x05, 0xFEE0'0000, {errc::malformed, 0x50}, control));
    }
    function device = with_capability(0xF4, 0x05, 0x0200); // 12 bytes with extended data
    machine seen{&device, 1};
    CHECK(pt::pci::read_msi(config{&seen}, nic));
    function beyond = with_capability(0xF8, 0x05, 0x0200);
    machine seen_beyond{&beyond, 1};
    CHECK(pt::pci::read_msi(config{&seen_beyond}, nic).error() == error{errc::malformed, 0xF8});
    CHECK(seen_beyond.writes() == 0);
}

TEST_CASE("enable_msi turns the 32 bits of data off that somebody left on", "[pci][rule 7]") {
    function device = with_capability(0x50, 0x05, 0x0600);
    device.allow(0x52, 2, 0x0471);
    device.put(0x5A, 2, 0x1234);
    machine seen{&device, 1};
    REQUIRE(pt::pci::enable_msi(config{&seen}, nic, {0xFEE0'0000, 0x41}));
    CHECK(device.get(0x52, 2) == 0x0201);
    CHECK(device.get(0x58, 2) == 0x41);
}
