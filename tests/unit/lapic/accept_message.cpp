// SPDX-License-Identifier: BSL-1.0
// A message that arrives on the CPU of the local APIC itself: the short way must decide as the bus does.
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt::lapic;

struct no_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct one {
    register_page page{};
    inbox box{};
    local_apic<no_time> apic;

    explicit one(std::uint32_t id) : apic{page, box, {.apic_id = id}, no_time{}} {
        (void)apic.write(0xF0, pt::mmio_width::dword, 0x1FF);
        (void)apic.write(0xD0, pt::mmio_width::dword, std::uint32_t{1} << (24 + id)); // LDR
    }
};
struct both {
    one* first;
    std::uint32_t count() { return 2; }
    pt::lapic::inbox& inbox(std::uint32_t n) { return first[n].box; }
    void notify(std::uint32_t, notification) {}
};

TEST_CASE("what is accepted without the inbox arrives where the bus would have brought it, and "
          "nowhere else",
          "[lapic][bus]") {
    unsigned taken = 0;
    for (const auto delivery : {delivery_mode::fixed, delivery_mode::lowest_priority,
                                delivery_mode::nmi, delivery_mode::extint}) {
        for (const auto trigger : {trigger_mode::edge, trigger_mode::level}) {
            for (const auto mode : {destination_mode::physical, destination_mode::logical}) {
                for (const std::uint32_t to : {0U, 1U, 2U, 3U, 0xFFU}) {
                    for (const std::uint8_t vector : {std::uint8_t{0x0F}, std::uint8_t{0x51}}) {
                        const message sent{.delivery = delivery,
                                           .vector = vector,
                                           .trigger = trigger,
                                           .mode = mode,
                                           .format = destination_format::xapic,
                                           .destination = to};
                        one by_bus[2]{one{0}, one{1}};
                        one by_itself[2]{one{0}, one{1}};
                        bus<both> first{both{by_bus}};
                        bus<both> second{both{by_itself}};
                        (void)first.deliver(sent);
                        if (by_itself[0].apic.accept(sent)) {
                            ++taken;
                        } else {
                            (void)second.deliver(sent);
                        }
                        for (unsigned n = 0; n != 2; ++n) {
                            CHECK(by_itself[n].apic.save() == by_bus[n].apic.save());
                        }
                    }
                }
            }
        }
    }
    CHECK(taken == 2); // fixed, edge-triggered, physical, to 0: a legal vector and another one
}

TEST_CASE("a local APIC that is disabled, by hardware or by software, accepts no message",
          "[lapic][bus]") {
    const message sent{.vector = 0x51, .destination = 0};
    one alone{0};
    CHECK(alone.apic.accept(sent));
    CHECK(alone.apic.pending() == 0x51);
    one software{0};
    (void)software.apic.write(0xF0, pt::mmio_width::dword, 0x0FF);
    CHECK(software.apic.accept(sent)); // it was for nobody else, and is gone
    CHECK(software.apic.pending() == 0);
    one hardware{0};
    (void)hardware.apic.write_msr(0x1B, 0xFEE0'0000);
    CHECK_FALSE(hardware.apic.accept(sent));
    message to_self = sent;
    to_self.to = shorthand::self; // has no sender
    CHECK_FALSE(alone.apic.accept(to_self));
}

} // namespace
