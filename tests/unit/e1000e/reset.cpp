// SPDX-License-Identifier: BSL-1.0
#include "pt/e1000e/reset.hpp"

#include "pt/core/archetype.hpp"
#include "pt/e1000e/rx_ring.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::e1000e::family;
using pt::e1000e::reset_report;

// The datasheet's offsets and bits [82574], as plain numbers.
constexpr std::uint32_t CTRL = 0x0000;
constexpr std::uint32_t STATUS = 0x0008;
constexpr std::uint32_t EECD = 0x0010;
constexpr std::uint32_t ICR = 0x00C0;
constexpr std::uint32_t IMC = 0x00D8;
constexpr std::uint32_t RCTL = 0x0100;
constexpr std::uint32_t TCTL = 0x0400;
constexpr std::uint32_t disable_master = 1U << 2;
constexpr std::uint32_t RST = 1U << 26;
constexpr std::uint32_t master_status = 1U << 19;
constexpr std::uint32_t auto_read_done = 1U << 9;
constexpr std::uint32_t EN = 1U << 1;
constexpr std::uint64_t never = ~std::uint64_t{0};

/// The registers of a NIC that is reset; time goes on by 100 ns with each register access and with
/// each look at the clock. `fault` is the first thing that was done in a wrong order.
struct nic {
    // How long it takes, in nanoseconds
    std::uint64_t quiet_after = 500'000;
    std::uint64_t reset_takes = 2'000'000;
    std::uint64_t eeprom_takes = 3'000'000; ///< from the end of the reset
    std::uint64_t gone_at = never;
    std::uint64_t drain = 10'000'000; ///< what the rings need to finish
    bool is_8254x = false;

    // What it holds
    std::uint64_t now = 0;
    std::uint32_t ctrl = 0x0000'0240; // SLU, speed 1000
    std::uint32_t rctl = 0x0400'8002;
    std::uint32_t tctl = 0x3003'F0FA;
    std::uint32_t mask = 0x0000'0097;
    std::uint32_t causes = 0x8000'0081;
    std::uint64_t disabled_since = never;
    std::uint64_t quiet_since = never;
    std::uint64_t reset_since = never;
    unsigned resets = 0;
    const char* fault = nullptr;

    constexpr void blame(const char* what) {
        if (fault == nullptr) {
            fault = what;
        }
    }
    [[nodiscard]] constexpr bool gone() const { return now >= gone_at; }
    [[nodiscard]] constexpr bool in_reset() const {
        return reset_since != never && now - reset_since < reset_takes;
    }
    [[nodiscard]] constexpr bool master_enabled() const {
        return quiet_since == never || quiet_after == never || now - quiet_since < quiet_after;
    }

    constexpr void access() {
        now += 100;
        if (reset_since != never && now - reset_since < 1'000) {
            blame("an access within 1 us of CTRL.RST");
        }
    }
    constexpr std::uint32_t read32(std::uint32_t offset) {
        access();
        if (gone()) {
            return 0xFFFF'FFFF;
        }
        if (in_reset() && offset != CTRL && offset != STATUS) {
            blame("a register other than CTRL was read during the reset");
        }
        switch (offset) {
        case CTRL: return in_reset() ? ctrl | RST : ctrl;
        case STATUS: return 0x0000'0083U | (!is_8254x && master_enabled() ? master_status : 0U);
        case EECD:
            if (is_8254x) {
                blame("EECD.AUTO_RD was looked for where it is another bit");
            }
            return resets != 0 && now - reset_since - reset_takes >= eeprom_takes ? auto_read_done
                                                                                  : 0;
        case ICR: {
            if (mask != 0) {
                blame("ICR was read with interrupts enabled");
            }
            const std::uint32_t read = causes;
            causes = 0;
            return read;
        }
        case RCTL: return rctl;
        case TCTL: return tctl;
        default: blame("a register that a reset does not need was read"); return 0;
        }
    }
    constexpr void write32(std::uint32_t offset, std::uint32_t value) {
        access();
        if (gone()) {
            return;
        }
        if (in_reset()) {
            blame("a register was written during the reset");
        }
        switch (offset) {
        case CTRL: write_ctrl(value); break;
        case IMC: mask &= ~value; break;
        case RCTL: rctl = value; break;
        case TCTL: tctl = value; break;
        default: blame("a register that a reset does not need was written"); break;
        }
        if (disabled_since == never && ((rctl | tctl) & EN) == 0) {
            disabled_since = now;
        }
    }
    constexpr void write_ctrl(std::uint32_t value) {
        if ((value & disable_master) != 0 && (ctrl & disable_master) == 0) {
            if (is_8254x) {
                blame("a reserved bit of CTRL was set");
            }
            if (disabled_since == never || now - disabled_since < drain) {
                blame("DMA was ended before receiver and transmitter had finished");
            }
            quiet_since = now;
        }
        ctrl = value & ~RST;
        if ((value & RST) == 0) {
            return;
        }
        if (mask != 0 || disabled_since == never || now - disabled_since < drain) {
            blame("CTRL.RST: interrupts enabled, or receiver or transmitter not finished");
        }
        if (!is_8254x && (ctrl & disable_master) == 0) {
            blame("CTRL.RST without GIO_MASTER_DISABLE");
        }
        if (!is_8254x && master_enabled() && quiet_after != never) {
            blame("CTRL.RST before DMA had ended");
        }
        // Everything has its initial value afterwards; here, causes come up once more.
        ++resets;
        reset_since = now;
        ctrl = rctl = tctl = 0;
        mask = 0x10;
        causes = 0x8000'0004;
        quiet_since = never;
    }
};

struct window {
    nic* device;
    constexpr std::uint32_t read32(std::uint32_t offset) { return device->read32(offset); }
    constexpr void write32(std::uint32_t offset, std::uint32_t v) { device->write32(offset, v); }
    constexpr std::uint64_t read64(std::uint32_t) {
        device->blame("a 64-bit access");
        return 0;
    }
    constexpr void write64(std::uint32_t, std::uint64_t) { device->blame("a 64-bit access"); }
};
struct stopwatch {
    nic* device;
    constexpr std::uint64_t now() { return device->now += 100; }
};

constexpr auto reset(nic& device, family members = family::pci_express) {
    return pt::e1000e::reset(window{&device}, stopwatch{&device}, members);
}

constexpr bool a_reset_in_order() {
    nic device;
    device.quiet_after = 1'000;
    device.reset_takes = 1'500;
    device.eeprom_takes = 1'000;
    device.drain = 20'000; // 10 ms would be too many steps for a compiler
    pt::e1000e::reset_limits limits;
    limits.drain = 20'000;
    const auto done =
        pt::e1000e::reset(window{&device}, stopwatch{&device}, family::pci_express, limits);
    return done.has_value() && done->master_was_quiet && done->eeprom_was_read &&
           device.resets == 1 && device.mask == 0 && device.causes == 0 && device.fault == nullptr;
}
static_assert(a_reset_in_order());

TEST_CASE("a reset masks interrupts, drains, ends DMA, resets, and leaves no cause",
          "[e1000e][82574]") {
    REQUIRE(a_reset_in_order());
    nic device;
    const auto done = reset(device);
    REQUIRE(done.has_value());
    CHECK(*done == reset_report{.master_was_quiet = true, .eeprom_was_read = true});
    CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    CHECK(device.resets == 1);
    CHECK(device.mask == 0);
    CHECK(device.causes == 0);
    // 10 ms to drain, 0.5 ms of DMA, 2 ms of reset, 3 ms of EEPROM, and nothing else that takes time
    CHECK(device.now >= 15'500'000);
    CHECK(device.now < 15'600'000);
}

TEST_CASE("8254x has neither master disable nor EECD.AUTO_RD", "[e1000e][8254x]") {
    nic device;
    device.is_8254x = true;
    const auto done = reset(device, family::pci);
    REQUIRE(done.has_value());
    CHECK(*done == reset_report{});
    CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    CHECK(device.resets == 1);
    CHECK(device.mask == 0);
    CHECK(device.causes == 0);
}

TEST_CASE("DMA that does not end is reported, and the NIC is reset all the same", "[e1000e]") {
    nic device;
    device.quiet_after = never;
    const auto done = reset(device);
    REQUIRE(done.has_value());
    CHECK(!done->master_was_quiet);
    CHECK(done->eeprom_was_read);
    CHECK(device.resets == 1);
    CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    CHECK(device.now > 100'000'000);
    CHECK(device.now < 120'000'000);
}

TEST_CASE("a reset that does not end is a time-out, after the limit", "[e1000e]") {
    nic device;
    device.reset_takes = 1'000'000'000;
    CHECK(reset(device).error() == error{errc::time_out, 0x0000});
    CHECK(device.now > 110'000'000);
    CHECK(device.now < 115'000'000);
    CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
}

TEST_CASE("an EEPROM that is never read is reported after the limit", "[e1000e]") {
    nic device;
    device.eeprom_takes = 1'000'000'000;
    const auto done = reset(device);
    REQUIRE(done.has_value());
    CHECK(done->master_was_quiet);
    CHECK(!done->eeprom_was_read);
    CHECK(device.mask == 0);
    CHECK(device.now < 45'000'000);
}

TEST_CASE("a NIC that is gone, at whatever moment, is absent within the limits", "[e1000e]") {
    // before, while draining, while DMA ends, during the reset, while the EEPROM is read
    for (const std::uint64_t when : {0U, 5'000'000U, 10'200'000U, 11'000'000U, 14'000'000U}) {
        nic device;
        device.gone_at = when;
        INFO("gone at " << when);
        CHECK(reset(device).error() == error{errc::absent, 0x0008});
        // All ones have CTRL.RST set, so only there the limit is waited for.
        CHECK(device.now < (when == 11'000'000 ? 125'000'000 : 15'000'000));
    }
    nic device;
    device.gone_at = 0;
    CHECK(reset(device).error().code == errc::absent);
    CHECK(device.now < 1'000); // at once
    CHECK(pt::e1000e::reset(pt::archetype::mmio_io{}, pt::archetype::clock{}).error() ==
          error{errc::absent, 0x0008});
}

TEST_CASE("set_link_up sets SLU and forces neither speed nor duplex", "[e1000e][82574]") {
    nic device;
    device.ctrl = 0x5010'1A20; // VME, RFCE, a bit that is not ours, FRCDPLX, FRCSPD, 1000, ASDE
    REQUIRE(pt::e1000e::set_link_up(window{&device}).has_value());
    CHECK(device.ctrl == 0x5010'0241); // SLU and FD on; FRCSPD (11), FRCDPLX (12), ASDE (5) off
    CHECK(device.resets == 0);
    device.gone_at = 0;
    CHECK(pt::e1000e::set_link_up(window{&device}) == error{errc::absent, 0x0000});
}

/// A ring with packets in flight that remembers what was done to it.
struct ring {
    nic* device;
    window mmio{device};
    std::vector<std::uint64_t> held{7, 8, 9};
    std::string story;
    pt::result<> starts;
    family kind = family::pci_express;

    window& registers() { return mmio; }
    family members() const { return kind; }
    template <class F>
    std::uint32_t abandon(F&& each) {
        story += device->resets == 0 ? "abandoned before the reset " : "abandoned ";
        const auto cookies = std::move(held);
        held.clear();
        for (const std::uint64_t cookie : cookies) {
            each(cookie);
        }
        return static_cast<std::uint32_t>(cookies.size());
    }
    pt::result<> start() {
        story += (device->ctrl & 0x40) != 0 ? "started " : "started without link ";
        return starts;
    }
};

// A receive ring is recovered in the same way, and says what it was made for.
using receive_ring =
    pt::e1000e::rx_ring<pt::archetype::mmio_io, pt::archetype::dma_memory, pt::archetype::barrier>;
static_assert(pt::e1000e::recoverable_ring<receive_ring, void (*)(std::uint64_t)>);

constexpr bool a_receive_ring_knows_its_family() {
    pt::e1000e::rx_slot slots[8];
    const receive_ring old{{}, {}, {}, pt::iova{0}, slots, 8, {.members = family::pci}};
    const receive_ring usual{{}, {}, {}, pt::iova{0}, slots, 8};
    return old.members() == family::pci && usual.members() == family::pci_express;
}
static_assert(a_receive_ring_knows_its_family());

TEST_CASE("recover hands the cookies back after the reset and starts the ring", "[e1000e]") {
    nic device;
    ring hung{&device, {&device}, {7, 8, 9}, {}, {}, family::pci_express};
    std::vector<std::uint64_t> back;
    const auto take = [&](std::uint64_t cookie) { back.push_back(cookie); };
    SECTION("it works again") {
        const auto done = pt::e1000e::recover(hung, stopwatch{&device}, take);
        REQUIRE(done.has_value());
        CHECK(*done == reset_report{});
        CHECK(hung.story == "abandoned started ");
        CHECK(back == std::vector<std::uint64_t>{7, 8, 9});
        CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    }
    SECTION("a NIC that is gone: the cookies come back") {
        device.gone_at = 0;
        CHECK(pt::e1000e::recover(hung, stopwatch{&device}, take).error() ==
              error{errc::absent, 0x0008});
        CHECK(back == std::vector<std::uint64_t>{7, 8, 9});
        CHECK(hung.story == "abandoned before the reset ");
    }
    SECTION("a NIC that may still work: they do not") {
        device.reset_takes = never / 2;
        CHECK(pt::e1000e::recover(hung, stopwatch{&device}, take).error() ==
              error{errc::time_out, 0x0000});
        CHECK(back.empty());
        CHECK(hung.story.empty());
        CHECK(hung.held.size() == 3);
    }
    SECTION("what start() says") {
        hung.starts = error{errc::hardware_fault, 0x400};
        CHECK(pt::e1000e::recover(hung, stopwatch{&device}, take).error() ==
              error{errc::hardware_fault, 0x400});
        CHECK(back.size() == 3);
    }
    SECTION("the family is the ring's, and the limits are passed on") {
        device.is_8254x = true;
        hung.kind = family::pci;
        pt::e1000e::reset_limits limits;
        limits.drain = 12'000'000;
        CHECK(pt::e1000e::recover(hung, stopwatch{&device}, take, limits).has_value());
        CHECK(device.now > 14'000'000);
        CHECK((device.fault == nullptr ? "" : device.fault) == std::string{});
    }
}

} // namespace
