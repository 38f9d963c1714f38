// SPDX-License-Identifier: BSL-1.0
#include "pt/vtd/event.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>

namespace {

using pt::errc;
using pt::error;
using pt::vtd::interrupt_message;
using pt::vtd::is_event_pending;
using pt::vtd::mask_event;
using pt::vtd::program_event;
using pt::vtd::unit_event;
using pt::vtd::unmask_event;

constexpr std::uint64_t QI = 1U << 1;
constexpr std::uint64_t EIM = 1U << 4;
constexpr std::uint64_t PRS = 1U << 29;
constexpr std::uint32_t IM = 1U << 31;
constexpr std::uint32_t IP = 1U << 30;
constexpr std::uint32_t reserved = 0x2AAA'5555; ///< of FECTL, as some unit has them

/// The event registers of a unit [vt-d], as plain words at 0x38, 0xA0 and 0xE0. It sends a message when
/// one waits and the event is not masked, and never a message of registers that are being changed.
struct event_hardware {
    std::uint64_t ecap = 0xF00F4A | QI | EIM | PRS;
    std::uint32_t words[64]{};
    bool gone = false;
    bool pending[3]{};
    std::size_t happens_after = ~std::size_t{0}; ///< the write after which a fault happens

    struct {
        std::uint64_t address;
        std::uint32_t data;
    } sent[8]{};
    std::size_t messages = 0;
    std::uint32_t written[16]{}; ///< where, in order
    std::size_t writes = 0;
    bool kept_reserved_bits = true;
    bool wrote_reserved_upper = false;

    static constexpr std::uint32_t places[3]{0x38, 0xA0, 0xE0};

    constexpr event_hardware() {
        for (const std::uint32_t at : places) {
            words[at / 4] = IM | reserved;
            words[at / 4 + 1] = 0x1111; // what firmware left
            words[at / 4 + 2] = 0x2222'2220;
            words[at / 4 + 3] = 0x3333'3300;
        }
    }
    constexpr std::uint32_t read32(std::uint32_t at) {
        if (gone) {
            return 0xFFFF'FFFF;
        }
        if (at == 0) {
            return 0x10;
        }
        for (unsigned i = 0; i < 3; ++i) {
            if (at == places[i]) {
                return words[at / 4] | (pending[i] ? IP : 0);
            }
        }
        return words[at / 4];
    }
    constexpr std::uint64_t read64(std::uint32_t at) {
        return gone ? ~std::uint64_t{0} : at == 0x08 ? 0x00d2'008c'222f'0606 : ecap;
    }
    constexpr void write32(std::uint32_t at, std::uint32_t value) {
        written[writes++ % 16] = at;
        for (unsigned i = 0; i < 3; ++i) {
            if (at == places[i] && (value & 0x3FFF'FFFF) != reserved) {
                kept_reserved_bits = false;
            }
            if (at == places[i] + 12 && (ecap & EIM) == 0) {
                wrote_reserved_upper = true;
            }
        }
        words[at / 4] = value & ~(at == 0x38 || at == 0xA0 || at == 0xE0 ? IP : 0);
        pending[0] = pending[0] || writes == happens_after;
        send();
    }
    constexpr void write64(std::uint32_t, std::uint64_t) { kept_reserved_bits = false; }

    /// Something happened that the event is for.
    constexpr void happen(unsigned i) {
        pending[i] = true;
        send();
    }
    constexpr void send() {
        for (unsigned i = 0; i < 3; ++i) {
            const std::uint32_t at = places[i] / 4;
            if (pending[i] && (words[at] & IM) == 0) {
                pending[i] = false;
                sent[messages++ % 8] = {words[at + 2] | std::uint64_t{words[at + 3]} << 32,
                                        words[at + 1]};
            }
        }
    }
};

struct event_registers {
    event_hardware* unit;
    constexpr std::uint32_t read32(std::uint32_t at) { return unit->read32(at); }
    constexpr std::uint64_t read64(std::uint32_t at) { return unit->read64(at); }
    constexpr void write32(std::uint32_t at, std::uint32_t value) { unit->write32(at, value); }
    constexpr void write64(std::uint32_t at, std::uint64_t value) { unit->write64(at, value); }
};
struct no_clock {
    constexpr std::uint64_t now() { return 0; }
};

constexpr auto window_of(event_hardware& unit) {
    return pt::vtd::register_window<event_registers, no_clock>::open({&unit}, 4096, {}).value();
}

TEST_CASE("a compatibility-format message has the id in 19:12 and the vector in 7:0", "[vtd]") {
    STATIC_REQUIRE(interrupt_message::compatibility(0x41, 0) ==
                   interrupt_message{0xFEE0'0000, 0x41});
    STATIC_REQUIRE(interrupt_message::compatibility(0xFE, 0xAB) ==
                   interrupt_message{0xFEEA'B000, 0xFE});
}

TEST_CASE("an x2APIC id has its upper 24 bits in the upper address", "[vtd]") {
    STATIC_REQUIRE(interrupt_message::extended(0x41, 0xFE) ==
                   interrupt_message::compatibility(0x41, 0xFE));
    STATIC_REQUIRE(interrupt_message::extended(0x30, 0x1234'56AB) ==
                   interrupt_message{0x1234'5600'FEEA'B000, 0x30});
    STATIC_REQUIRE(interrupt_message::extended(0x30, 0xFFFF'FFFF) ==
                   interrupt_message{0xFFFF'FF00'FEEF'F000, 0x30});
}

constexpr bool programmed(unit_event event, unsigned i) {
    event_hardware unit;
    const auto window = window_of(unit);
    const std::uint32_t at = event_hardware::places[i];
    const interrupt_message first = interrupt_message::extended(0x55, 0x102);
    const interrupt_message second = interrupt_message::compatibility(0x66, 7);
    bool right = program_event(window, event, first).has_value();
    // Masked before the three registers, unmasked after them.
    right = right && unit.writes == 5 && unit.written[0] == at && unit.written[4] == at &&
            unit.written[1] + unit.written[2] + unit.written[3] == 3 * at + 24;
    right = right && unit.messages == 0;
    unit.happen(i);
    right = right && unit.messages == 1 && unit.sent[0].address == 0x100'FEE0'2000 &&
            unit.sent[0].data == 0x55;
    // Set anew while it is live: nothing is mixed, and nothing of the old upper address is left.
    right = right && program_event(window, event, second).has_value();
    unit.happen(i);
    right = right && unit.messages == 2 && unit.sent[1].address == 0xFEE0'7000 &&
            unit.sent[1].data == 0x66;
    return right && unit.kept_reserved_bits;
}

TEST_CASE("data and address are written before the event is unmasked, reserved bits stay",
          "[vtd][rule 16]") {
    static_assert(programmed(unit_event::fault, 0));
    static_assert(programmed(unit_event::invalidation_completion, 1));
    static_assert(programmed(unit_event::page_request, 2));
    CHECK(programmed(unit_event::fault, 0));
    CHECK(programmed(unit_event::invalidation_completion, 1));
    CHECK(programmed(unit_event::page_request, 2));
}

TEST_CASE("a message is never made of old and new registers", "[vtd][rule 16]") {
    for (std::size_t n = 1; n <= 5; ++n) { // something happens after the n-th write
        event_hardware unit;
        const auto window = window_of(unit);
        REQUIRE(program_event(window, unit_event::fault, interrupt_message::extended(0x55, 0x102)));
        unit.writes = 0;
        unit.happens_after = n;
        REQUIRE(
            program_event(window, unit_event::fault, interrupt_message::compatibility(0x66, 7)));
        REQUIRE(unit.messages == 1);
        CHECK(unit.sent[0].address == 0xFEE0'7000);
        CHECK(unit.sent[0].data == 0x66);
    }
}

TEST_CASE("a masked event stays pending and comes when it is unmasked", "[vtd]") {
    event_hardware unit;
    const auto window = window_of(unit);
    REQUIRE(program_event(window, unit_event::fault, interrupt_message::compatibility(0x40, 1)));
    REQUIRE(mask_event(window, unit_event::fault));
    CHECK(is_event_pending(window, unit_event::fault) == false);
    unit.happen(0);
    CHECK(unit.messages == 0);
    CHECK(is_event_pending(window, unit_event::fault) == true);
    CHECK(is_event_pending(window, unit_event::page_request) == false);
    REQUIRE(unmask_event(window, unit_event::fault));
    CHECK(unit.messages == 1);
    CHECK(is_event_pending(window, unit_event::fault) == false);
    CHECK(unit.kept_reserved_bits);
}

TEST_CASE("what the unit does not have is an error, and nothing is written", "[vtd]") {
    const interrupt_message message = interrupt_message::compatibility(0x40, 1);
    const error no_such_event{errc::not_supported, 0x10};
    SECTION("no queued invalidation, no page requests: no such events") {
        event_hardware unit;
        unit.ecap = 0xF00000 | 0x0F00;
        const auto window = window_of(unit);
        CHECK(program_event(window, unit_event::fault, message));
        unit.writes = 0;
        for (const unit_event event :
             {unit_event::invalidation_completion, unit_event::page_request}) {
            CHECK(program_event(window, event, message) == no_such_event);
            CHECK(mask_event(window, event) == no_such_event);
            CHECK(unmask_event(window, event) == no_such_event);
            CHECK(is_event_pending(window, event) == no_such_event);
        }
        CHECK(unit.writes == 0);
    }
    SECTION("no extended interrupt mode: the upper address register is reserved") {
        event_hardware unit;
        unit.ecap &= ~EIM;
        const auto window = window_of(unit);
        CHECK(program_event(window, unit_event::fault, interrupt_message::extended(0x40, 0x100)) ==
              no_such_event);
        CHECK(unit.writes == 0);
        CHECK(program_event(window, unit_event::fault, message));
        CHECK_FALSE(unit.wrote_reserved_upper);
    }
    SECTION("an address that is no interrupt's") {
        event_hardware unit;
        const auto window = window_of(unit);
        for (const std::uint64_t address :
             {std::uint64_t{0}, std::uint64_t{0x1000}, std::uint64_t{0xFEDF'F000},
              std::uint64_t{0xFEF0'0000}, std::uint64_t{0xFEE0'0001}, std::uint64_t{0xFEE0'0002},
              std::uint64_t{0x1'FEE0'0000}, std::uint64_t{0x80'FEE0'0000}}) {
            CHECK(program_event(window, unit_event::fault, {address, 0x40}) ==
                  error{errc::reserved_address, address});
        }
        CHECK(program_event(window, unit_event::fault, {0xFEE0'0000, 0x1'0040}) ==
              error{errc::out_of_range, 0x1'0040});
        CHECK(unit.writes == 0);
    }
    SECTION("gone") {
        event_hardware unit;
        const auto window = window_of(unit);
        unit.gone = true;
        CHECK(program_event(window, unit_event::fault, message) == error{errc::absent, 0x38});
        CHECK(mask_event(window, unit_event::page_request) == error{errc::absent, 0xE0});
        CHECK(unmask_event(window, unit_event::invalidation_completion) ==
              error{errc::absent, 0xA0});
        CHECK(is_event_pending(window, unit_event::fault) == error{errc::absent, 0x38});
        CHECK(unit.writes == 0);
    }
}

} // namespace
