// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/resizable_bar.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace pt::pci;
using pci_fake::event;
using pci_fake::listed;
using pt::errc;
using pt::error;
using pt::width;

constexpr function_address gpu = listed::address;
constexpr std::uint64_t one_mib = 0x10'0000;

/// A graphics card: BAR 0, 64-bit and prefetchable, of 256 MiB and resizable up to 8 GiB; the
/// capability is at 0x200.
struct card : listed {
    constexpr card() {
        express();
        extend(0x100, 0x0001);
        extend(0x200, 0x0015);
        put(0x204, 4, 0x0003'F000); // 256 MiB (bit 12) to 8 GiB (bit 17)
        put(0x208, 4, 0x0000'0820); // 256 MiB now, one BAR, number 0
        allow(0x209, 1, 0x3F);
        functions[0].bar(0x10, 0xF000'0000, 0xE000'000C);
        functions[0].bar(0x14, 0xFFFF'FFFF, 0x0000'0000);
        put(0x04, 2, 0x0006);
    }
};

/// The card's behaviour: the size in Control decides which bits of the BAR there are.
struct card_config {
    card* at;
    bool stuck = false; ///< the BAR keeps its size, whatever Control says
    bool stale = false; ///< the BAR shows its old address until it is written

    constexpr std::uint32_t read(function_address address, std::uint16_t offset, width size) {
        return at->config().read(address, offset, size);
    }
    constexpr void write(function_address address, std::uint16_t offset, width size,
                         std::uint32_t value) {
        at->config().write(address, offset, size, value);
        if (offset == 0x208 && !stuck) {
            const std::uint64_t mask = ~((one_mib << at->functions[0].bytes[0x209]) - 1);
            at->allow(0x10, 8, mask);
            at->put(0x10, 8, (at->get(0x10, 8) & (stale ? ~std::uint64_t{0} : mask)) | 0xC);
        }
        if (offset == 0x10 && stale) {
            at->put(0x10, 4, (value & ~((one_mib << at->functions[0].bytes[0x209]) - 1)) | 0xC);
        }
    }
};
static_assert(config_access<card_config>);

constexpr resizable_bar bar_0(card& d) { return *read_resizable_bars(d.config(), gpu)->find(0); }

/// Whether Command's memory bit was off at every write to the BAR and to Control.
constexpr bool written_only_while_off(const card& d) {
    std::uint32_t command = 6;
    for (std::size_t n = 0; n < d.machine.writes(); ++n) {
        const event write = d.machine.write(n);
        if (write.offset == 0x04) {
            command = write.value;
        } else if ((command & 3) != 0) {
            return false;
        }
    }
    return command == 6 && d.machine.writes() != 0 && !d.machine.out_of_bounds;
}

} // namespace

TEST_CASE("Resizable BAR: which sizes a BAR can have, and which it has", "[pci]") {
    constexpr auto holds = [] {
        card d;
        const auto found = read_resizable_bars(d.config(), gpu);
        if (!found || found->size() != 1) {
            return false;
        }
        const resizable_bar bar = *found->begin();
        return bar.index == 0 && bar.size == 256 * one_mib && bar.sizes == 0x3F00 &&
               !bar.supports(128 * one_mib) && bar.supports(256 * one_mib) &&
               bar.supports(8192 * one_mib) && !bar.supports(16384 * one_mib) && !bar.supports(0) &&
               !bar.supports(300 * one_mib) && !bar.supports(4096) && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("Resizable BAR: up to six, and up to 8 EiB in the upper bits of Control", "[pci]") {
    constexpr auto holds = [] {
        listed d;
        d.express();
        d.extend(0x100, 0x0015);
        for (unsigned n = 0; n < 6; ++n) {
            d.put(0x104 + 8 * n, 4, n == 5 ? 0x8000'0010 : 0);
            // Only the first one's count means something.
            d.put(0x108 + 8 * n, 4,
                  (n == 0 ? 6U << 5 : 7U << 5) | (5 - n) | 43U << 8 | (n == 5 ? 0x8001'0000U : 0));
        }
        const auto found = read_resizable_bars(d.config(), gpu);
        const auto last = found ? found->find(0) : error{errc::absent};
        return found && found->size() == 6 && found->begin()->index == 5 && last &&
               last->size == std::uint64_t{1} << 63 && last->supports(one_mib) &&
               last->supports(one_mib << 27) && last->supports(one_mib << 28) &&
               last->supports(std::uint64_t{1} << 63) && !last->supports(one_mib << 26) &&
               !last->supports(one_mib << 29) && last->at.offset == 0x128 &&
               found->find(6).error() == error{errc::absent, 6};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("Resizable BAR: impossible counts, indices and sizes are malformed", "[pci][rule 4]") {
    constexpr auto with = [](std::uint32_t control, std::uint32_t second) {
        listed d;
        d.express();
        d.extend(0x100, 0x0015);
        d.put(0x108, 4, control);
        d.put(0x110, 4, second);
        const auto found = read_resizable_bars(d.config(), gpu);
        return !found && d.only_read() ? found.error() : error{};
    };
    constexpr auto at_the_end = [](std::size_t offset, std::uint32_t count) {
        listed d;
        d.express();
        d.extend(0x100, 0x0001);
        d.extend(offset, 0x0015);
        if (offset + 12 <= 0x1000) {
            d.put(offset + 8, 4, count << 5);
        }
        for (unsigned n = 1; offset + 8 * n + 12 <= 0x1000; ++n) {
            d.put(offset + 8 * n + 8, 4, n);
        }
        const auto found = read_resizable_bars(d.config(), gpu);
        return !found && d.only_read() ? found.error() : error{};
    };
    constexpr auto holds = [=] {
        return with(0x00, 0) == error{errc::malformed, 0x100} &&    // none
               with(0xE0, 1) == error{errc::malformed, 0x100} &&    // seven
               with(0x26, 0) == error{errc::malformed, 0x100} &&    // BAR 6
               with(0x40, 0x07) == error{errc::malformed, 0x108} && // BAR 7
               with(0x41, 0x01) == error{errc::malformed, 0x108} && // BAR 1 twice
               with(0x2C20, 0) == error{errc::malformed, 0x100} &&  // 16 EiB
               with(0x41, 0x02) == error{} &&                       // sound
               at_the_end(0xFF4, 1) == error{} && at_the_end(0xFEC, 2) == error{} &&
               at_the_end(0xFF4, 2) == error{errc::malformed, 0xFF4} &&
               at_the_end(0xFF8, 1) == error{errc::malformed, 0xFF8};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR gets its new size and its new address while nothing is decoded", "[pci][rule 6]") {
    constexpr auto holds = [] {
        card d;
        const resizable_bar entry = bar_0(d);
        d.machine.event_count = 0;
        const auto moved = resize_bar(card_config{&d}, gpu, entry, 8192 * one_mib, 0x40'0000'0000);
        return moved &&
               *moved == bar{bar_kind::mem64, true, 0, 0x10, 0x40'0000'0000, 8192 * one_mib} &&
               d.get(0x10, 8) == 0x40'0000'000C && d.get(0x208, 4) == 0x0D20 &&
               d.get(0x04, 2) == 6 && written_only_while_off(d);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("address bits that a BAR had before it grew are gone before it is sized",
          "[pci][rule 6]") {
    constexpr auto holds = [] {
        card d; // at 0xE000'0000: no multiple of 8 GiB
        const auto moved = resize_bar(card_config{.at = &d, .stale = true}, gpu, bar_0(d),
                                      8192 * one_mib, 0x40'0000'0000);
        return moved && moved->size == 8192 * one_mib && d.get(0x10, 8) == 0x40'0000'000C;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a size or an address that cannot be changes nothing", "[pci][rule 6]") {
    constexpr auto refused = [](std::uint64_t size, std::uint64_t address, error expected) {
        card d;
        const resizable_bar entry = bar_0(d);
        const auto moved = resize_bar(card_config{&d}, gpu, entry, size, address);
        return !moved && moved.error() == expected && d.get(0x10, 8) == 0xE000'000C &&
               d.get(0x208, 4) == 0x0820 && d.get(0x04, 2) == 6;
    };
    constexpr auto holds = [=] {
        const std::uint64_t gib = 1024 * one_mib;
        return refused(16 * gib, 0, {errc::not_supported, 16 * gib}) &&
               refused(0, 0, {errc::not_supported, 0}) &&
               refused(8 * gib, 0x4000'0000, {errc::misaligned, 0x4000'0000});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a BAR that does not take its size, or its address, is as it was", "[pci][rule 6]") {
    constexpr auto holds = [] {
        card deaf; // Control takes no size
        deaf.allow(0x209, 1, 0);
        card half;   // Control takes it, the BAR does not
        card narrow; // the new address has more bits than the BAR
        bool good = true;
        const auto entry = bar_0(deaf);
        good &= resize_bar(deaf.config(), gpu, entry, 512 * one_mib, 0x40'0000'0000).error() ==
                error{errc::hardware_fault, 0x10};
        good &= resize_bar(card_config{&half, true}, gpu, entry, 512 * one_mib, 0x40'0000'0000)
                    .error() == error{errc::hardware_fault, 0x10};
        narrow.allow(0x14, 4, 0xFF);
        good &= resize_bar(narrow.config(), gpu, entry, 256 * one_mib, 0x100'0000'0000).error() ==
                error{errc::hardware_fault, 0x10};
        for (const card* d : {&deaf, &half, &narrow}) {
            good &= d->get(0x10, 8) == 0xE000'000C && d->get(0x208, 4) == 0x0820 &&
                    d->get(0x04, 2) == 6 && written_only_while_off(*d);
        }
        return good;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("what the capability calls a BAR may be none, or ports", "[pci][rule 6]") {
    constexpr auto holds = [] {
        card none;
        none.functions[0].bar(0x10, 0, 0);
        none.functions[0].bar(0x14, 0, 0);
        card ports;
        ports.functions[0].bar(0x10, 0xFFFF'FFE0, 0x0000'C001);
        const auto entry = bar_0(none);
        return resize_bar(none.config(), gpu, entry, 512 * one_mib, 0).error() ==
                   error{errc::absent, 0x10} &&
               resize_bar(ports.config(), gpu, entry, 512 * one_mib, 0).error() ==
                   error{errc::malformed, 0x10} &&
               none.get(0x208, 4) == 0x0820 && ports.get(0x208, 4) == 0x0820 &&
               ports.get(0x10, 4) == 0xC001;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
