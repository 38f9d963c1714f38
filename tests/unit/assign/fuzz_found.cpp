// SPDX-License-Identifier: BSL-1.0
//
// What the fuzz target `assigned_device` has found, each as small
// as it gets.
#include "simulated_vmm.hpp"

#include "pt/assign/audit_sharing.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace simulated;

TEST_CASE(
    "guests whose functions have ROMs without a place, or small BARs in one page, share nothing",
    "[assign][audit]") {
    const auto host = std::make_unique<host_machine>();
    // BAR 5 of the second NIC is in the page of that of the first.
    host->devices[1].config.put(0x24, 4, 0xE001'1200);
    const auto g = std::make_unique<guest_machine>(*host);
    const auto other = std::make_unique<guest_machine>(*host, 1);
    const auto first = std::make_unique<nic>(*g, 0);
    const auto second = std::make_unique<nic>(*other, 1);
    for (const auto& [machine, device] :
         {std::pair{g.get(), first.get()}, std::pair{other.get(), second.get()}}) {
        REQUIRE(device->assign());
        machine->place(5, 0x9000'0000);
        machine->write(0x30, 4, 0xA000'0001);
        machine->decode(2);
    }
    pt::assign::ownership_lists<64, 16, 8, 64> lists[2];
    const pt::assign::ownership owners[]{g->guest.owned(lists[0].room(), 0).value(),
                                         other->guest.owned(lists[1].room(), 1).value()};
    std::vector<std::string> all;
    pt::assign::claimed_numbers room[128];
    REQUIRE(pt::assign::audit_sharing(owners, room, 128, [&](const pt::assign::finding& found) {
        all.emplace_back(pt::assign::explain(found).c_str());
    }));
    CHECK(all.empty());
    CHECK(g->audit().empty());
    CHECK(other->audit().empty());
}

TEST_CASE(
    "an I/O BAR that waits for the ports of another function gets them when that one is removed",
    "[assign][bar][transaction]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    const auto first = std::make_unique<nic>(*g, 0);
    const auto second = std::make_unique<nic>(*g, 1);
    REQUIRE(first->assign(3));
    REQUIRE(second->assign(4));
    g->place(2, 0xC100, 3);
    g->decode(1, 3);
    g->place(2, 0xC100, 4); // where the first one's is, and where the host has it
    g->decode(1, 4);
    REQUIRE(g->guest.settle());
    CHECK(g->open_ports().empty());
    REQUIRE(first->device.remove());
    REQUIRE(g->guest.settle());
    CHECK(g->open_ports().size() == 32);
}

TEST_CASE("a function that is pulled out during assign() is not assigned", "[assign][hostile]") {
    bool is_assigned = false;
    for (unsigned accesses = 1; !is_assigned; ++accesses) {
        CAPTURE(accesses);
        REQUIRE(accesses < 1000);
        const auto host = std::make_unique<host_machine>();
        const auto g = std::make_unique<guest_machine>(*host);
        const auto n = std::make_unique<nic>(*g);
        host->devices[0].answers = accesses;
        is_assigned = n->assign().has_value();
        CHECK((is_assigned || host->devices[0].answers == 0));
        host->devices[0].answers = ~0U;
        if (!is_assigned) { // it is back
            CHECK_FALSE(n->device.is_assigned());
            CHECK(n->dma_to(0x1234) == "blocked");
            host->devices[0].config = device{0}.config;
            REQUIRE(n->assign());
        }
        g->place(3, 0x9000'0000);
        g->decode(2);
        CHECK(g->reach(0x9000'0000) == "nowhere"); // where its MSI-X is
        CHECK(g->reach(0x9000'1000) == "e0001000");
    }
}

TEST_CASE("memory that could not be given, and that functions may reach still, is told as such",
          "[assign][transaction][failing]") {
    // The tables of the processors have no frame, and then the unit does not forget.
    unsigned told = 0;
    for (unsigned at = 1; at < 12; ++at) {
        CAPTURE(at);
        const auto host = std::make_unique<host_machine>();
        const auto g = std::make_unique<guest_machine>(*host);
        host->faults.fail(at, 2);
        const auto done = g->guest.give_memory({gpa{0x40'0000'0000}, 4 * KiB},
                                               hpa{vtd_domains::memory_of(0, 0x1000'0000)});
        host->faults.stop();
        const bool is_owed = !done && pt::assign::is_owed(done.error().code);
        const auto left = g->guest.use_of(gpa{0x40'0000'0000});
        CHECK((done || is_owed == (left == space_use::owed)));
        told += is_owed ? 1 : 0;
        REQUIRE(g->guest.settle());
        CHECK((done || !g->guest.use_of(gpa{0x40'0000'0000})));
    }
    CHECK(told >= 2); // dma.map() itself, and dma.unmap() after it
}

} // namespace
