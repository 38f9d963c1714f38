// SPDX-License-Identifier: BSL-1.0 assign() and remove() as one transaction each: every policy call
// fails once, or several times in a row, and then everything is as before.
#include "simulated_vmm.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>

namespace {

using namespace simulated;

/// What a driver does: BARs of every kind, MSI, DMA.
void drive(guest_machine& g) {
    g.place(0, 0x8000'0000);
    g.place(2, 0xC000); // where the host has it
    g.place(3, 0x9000'0000);
    g.place(4, 0x9001'0000);
    g.place(5, 0x9002'0200);
    g.decode(7);
    g.write(msi_at + 4, 4, 0xFEE0'0000);
    g.write(msi_at + 12, 2, 0x0051);
    g.write(msi_at + 2, 2, 0x0001);
}

TEST_CASE("a function is assigned, driven, and taken away, and nothing is left of it",
          "[assign][transaction]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto n = std::make_unique<nic>(*g);
    const snapshot before = look_at(*g, *n);
    CHECK(before.dma == "blocked");
    REQUIRE(n->assign());
    CHECK(n->device.is_assigned());
    CHECK(n->assign() == error{errc::busy, nic_at[0].source_id()});
    CHECK(g->read(0, 4) == 0x10D3'8086);
    CHECK(g->read(4, 2) == 0);                       // nothing is on
    CHECK(n->hardware().config.get(4, 2) == 0x0003); // at the device: decoding, and its wire
    CHECK(n->wire_is_open);
    CHECK(n->hardware().resets == 1);
    CHECK(n->dma_to(0x1234) == "1000001234");
    CHECK(n->dma_to(ram_size) == "blocked");
    drive(*g);
    CHECK(n->hardware().config.get(4, 2) == 0x0407); // a bus master with MSI
    CHECK(g->reach(0x8000'1000) == "2000001000");
    CHECK(g->open_ports().size() == 32);
    CHECK(g->guest.settle());
    CHECK(g->take_rejections().empty());

    REQUIRE(n->device.remove());
    CHECK(look_at(*g, *n) == before);
    CHECK(n->hardware().resets == 2);
    CHECK_FALSE(n->device.is_assigned());
    CHECK(n->device.remove()); // nothing to do
    CHECK(g->is_right());
    CHECK(host->vtd.right());
}

TEST_CASE("whichever call fails in assign(), everything is as before, and the next one succeeds",
          "[assign][transaction][failing]") {
    unsigned failures = 0;
    for (unsigned at = 1;; ++at) {
        CAPTURE(at);
        REQUIRE(at < 100);
        const auto host = std::make_unique<host_machine>();
        const auto g = std::make_unique<guest_machine>(*host);
        const auto n = std::make_unique<nic>(*g);
        const snapshot before = look_at(*g, *n);
        host->faults.fail(at);
        const auto done = n->assign();
        const bool was_reached = host->faults.calls >= at;
        host->faults.stop();
        if (!was_reached) {
            REQUIRE(done);
            break;
        }
        ++failures;
        REQUIRE_FALSE(done);
        CHECK_FALSE(n->device.is_assigned());
        CHECK(look_at(*g, *n) == before);
        REQUIRE(n->assign());
        drive(*g);
        CHECK(g->reach(0x9000'1000) == "e0001000");
        REQUIRE(n->device.remove());
        CHECK(look_at(*g, *n) == before);
        CHECK(g->is_right());
    }
    CHECK(failures == 5); // block, reset, open, wire, attach
}

TEST_CASE("when the way back fails too, remove() or assign() go on where it ended",
          "[assign][transaction][failing]") {
    for (const bool again : {false, true}) {
        for (unsigned at = 1; at <= 6; ++at) {
            for (unsigned times = 2; times <= 9; ++times) {
                CAPTURE(again, at, times);
                const auto host = std::make_unique<host_machine>();
                const auto g = std::make_unique<guest_machine>(*host);
                const auto n = std::make_unique<nic>(*g);
                const snapshot before = look_at(*g, *n);
                host->faults.fail(at, times);
                auto done = n->assign();
                for (unsigned tries = 0; !done && tries < 12 && n->device.is_assigned(); ++tries) {
                    if (n->dma_to(0x1234) != "blocked") {
                        CHECK(g->read(0, 4) == 0x10D3'8086); // in no other state
                    }
                    done = again ? n->assign() : n->device.remove();
                }
                host->faults.stop();
                if (again) {
                    REQUIRE((done || !n->device.is_assigned()));
                    REQUIRE((done || n->assign()));
                    CHECK(n->dma_to(0x1234) == "1000001234");
                }
                REQUIRE(n->device.remove());
                CHECK(look_at(*g, *n) == before);
                CHECK(g->is_right());
                CHECK(host->vtd.right());
            }
        }
    }
}

TEST_CASE("whichever call fails in remove(), it can be repeated, and then nothing is left",
          "[assign][transaction][failing]") {
    unsigned failures = 0;
    for (unsigned times = 1; times <= 3; ++times) {
        for (unsigned at = 1;; ++at) {
            CAPTURE(at, times);
            REQUIRE(at < 200);
            const auto host = std::make_unique<host_machine>();
            const auto g = std::make_unique<guest_machine>(*host);
            const auto other = std::make_unique<guest_machine>(*host, 1);
            const auto n = std::make_unique<nic>(*g);
            const snapshot before = look_at(*g, *n);
            REQUIRE(n->assign());
            drive(*g);
            host->faults.fail(at, times);
            auto done = n->device.remove();
            const bool was_reached = host->faults.calls >= at;
            failures += done ? 0 : 1;
            for (unsigned tries = 0; !done && tries < times + 1; ++tries) {
                CHECK(n->device.is_assigned());
                // Nobody else gets what may still be reached.
                const auto thief = std::make_unique<nic>(*other);
                host->faults.stop();
                CHECK_FALSE(thief->assign());
                host->faults.fail(1, times - tries - 1);
                done = n->device.remove();
            }
            host->faults.stop();
            REQUIRE(done);
            CHECK(look_at(*g, *n) == before);
            const auto next = std::make_unique<nic>(*other);
            REQUIRE(next->assign());
            CHECK(next->dma_to(0x1234) == "1400001234");
            CHECK(g->is_right());
            CHECK(other->is_right());
            if (!was_reached) {
                break;
            }
        }
    }
    CHECK(failures > 12);
}

TEST_CASE("a guest without slots, routes or vectors does not get the function", "[assign]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto n = std::make_unique<nic>(*g);
    const snapshot before = look_at(*g, *n);

    REQUIRE(g->space.keep_back(20));
    CHECK(n->assign().error().code == errc::busy);
    g->space.give_back(20);
    CHECK(look_at(*g, *n) == before);

    pt::pci::archetype::function_config bridge;
    REQUIRE(g->guest.plug_in({0, 0, 3, 0}, bridge));
    CHECK(n->assign() == error{errc::already_mapped, 0x18});
    CHECK(look_at(*g, *n) == before);
    CHECK(n->device.assign({.at = {0, 0, 32, 0}}) == error{errc::out_of_range, 32});
    CHECK(look_at(*g, *n) == before);
    REQUIRE(g->guest.unplug({0, 0, 3, 0}));

    pt::assign::vector_pool pool{host->vectors, 0};
    const auto taken = pool.allocate(32).value();
    CHECK(n->assign().error().code == errc::busy);
    pool.release(taken);
    CHECK(look_at(*g, *n) == before);
    CHECK(n->assign());
}

TEST_CASE("a device that claims to be in the host's memory is not assigned", "[assign][hostile]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto n = std::make_unique<nic>(*g);
    auto& config = n->hardware().config;
    const auto refused = [&](unsigned offset, std::uint32_t value, std::uint64_t where) {
        const auto old = static_cast<std::uint32_t>(config.get(offset, 4));
        config.put(offset, 4, value);
        const snapshot before = look_at(*g, *n);
        CHECK(n->assign() == error{errc::refused, where});
        CHECK(look_at(*g, *n) == before);
        config.put(offset, 4, old);
    };
    refused(0x1C, 0x0010'0000, 0x0010'0000); // memory
    refused(0x1C, 0xFEE0'0000, 0xFEE0'0000); // the host's local APIC
    refused(0x1C, 0, 0);                     // nowhere
    refused(0x1C, 0xE100'0000, 0xE100'0000); // behind the last byte of its window
    refused(0x14, 0x0000'0000, 0);           // the upper half of BAR 0
    refused(0x18, 0x0000'0CE1, 0x0CE0);      // with the host's CONFIG_ADDRESS
    refused(0x18, 0x0001'C001, 0x1'C000);    // no port at all
}

TEST_CASE("a function that nobody can reset is assigned only on demand, and is no bus master "
          "afterwards",
          "[assign]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto n = std::make_unique<nic>(*g);
    host->knows_how_to_reset = false;
    const snapshot before = look_at(*g, *n);
    CHECK(n->assign() == error{errc::not_supported, nic_at[0].source_id()});
    CHECK(look_at(*g, *n) == before);
    const auto where_possible = [&] {
        return n->device.assign(
            {.at = {0, 0, 3, 0}, .reset = pt::assign::reset_need::where_possible});
    };
    REQUIRE(where_possible());
    drive(*g);
    REQUIRE(n->device.remove());
    CHECK(n->hardware().config.get(4, 2) == 0x0003);
    CHECK_FALSE(n->hardware().msi_is_on());
    REQUIRE(where_possible());
}

TEST_CASE("a function that is gone is absent, and one that goes while assigned can be taken away",
          "[assign][hostile]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto n = std::make_unique<nic>(*g);
    auto& address = n->hardware().config.address;
    address = {0, 9, 0, 0};
    CHECK(n->assign() == error{errc::absent, nic_at[0].source_id()});
    address = nic_at[0];
    REQUIRE(n->assign());
    drive(*g);
    address = {0, 9, 0, 0}; // reads all ones from here on
    g->write(4, 2, 0);
    g->write(4, 2, 7);
    g->write(msi_at + 2, 2, 0);
    g->write(msi_x_at + 2, 2, 0x8000);
    CHECK(g->take_rejections().size() == 1); // MSI-X could not be turned on
    host->knows_how_to_reset = false;        // the error is the VMM's to judge
    CHECK(n->device.remove() == error{errc::not_supported, nic_at[0].source_id()});
    CHECK(n->dma_to(0x1234) == "blocked");
    address = nic_at[0]; // the VMM has brought it back
    host->knows_how_to_reset = true;
    CHECK(n->device.remove());
}

TEST_CASE("a function that no reset brings back is blocked, and keeps its guest from nothing",
          "[assign][remove][hostile]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto n = std::make_unique<nic>(*g);
    REQUIRE(n->assign());
    drive(*g);
    host->knows_how_to_reset = false;
    CHECK_FALSE(n->device.remove());
    CHECK(n->device.is_assigned());
    CHECK(n->dma_to(0x1234) == "blocked");
    CHECK(g->mapped().size() == 1);
    CHECK(g->open_ports().empty());
    CHECK(g->guest.retire()); // its memory is free again
    CHECK(g->mapped().empty());
    CHECK(host->vectors.is_taken(n->device.interrupts().vectors().first)); // nobody else's yet
    CHECK_FALSE(n->device.remove());
    host->knows_how_to_reset = true;
    CHECK(n->device.remove());
    CHECK_FALSE(n->device.is_assigned());
    CHECK(n->hardware().resets == 2);
}

} // namespace
