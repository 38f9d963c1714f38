// SPDX-License-Identifier: BSL-1.0 From the device's own registers, by way of the remapping unit,
// to the guest's local APIC, as the guest programs it. What the device sends is read from its
// registers as [pci] lays them out.
#include "simulated_vmm.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace simulated;
using vectors = std::vector<unsigned>;

struct scene {
    std::unique_ptr<host_machine> host = std::make_unique<host_machine>();
    std::unique_ptr<guest_machine> g = std::make_unique<guest_machine>(*host);
    std::unique_ptr<nic> n = std::make_unique<nic>(*g);

    scene() {
        n->assign().value();
        g->place(3, 0x9000'0000);
        g->decode(6);
    }
    ~scene() {
        n.reset();
        CHECK(g->is_right());
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    /// The guest programs vector n of its MSI-X table.
    void msi_x(unsigned vector, std::uint64_t address, std::uint32_t data, bool masked = false) {
        const std::uint64_t at = 0x9000'0000 + 16 * vector;
        auto& guest = g->guest;
        guest.write_memory(gpa{at}, mmio_width::qword, address).value();
        guest.write_memory(gpa{at + 8}, mmio_width::dword, data).value();
        guest.write_memory(gpa{at + 12}, mmio_width::dword, masked ? 1 : 0).value();
    }
    void msi(std::uint64_t address, std::uint32_t data, unsigned control) {
        g->write(msi_at + 4, 4, static_cast<std::uint32_t>(address));
        g->write(msi_at + 8, 4, static_cast<std::uint32_t>(address >> 32));
        g->write(msi_at + 12, 2, data);
        g->write(msi_at + 2, 2, control);
    }
    /// The device requests its vector; if the unit lets it through, the host takes an interrupt.
    bool raise(unsigned vector) {
        const auto o = host->raise(n->number, vector);
        if (!o.delivered) {
            return false;
        }
        g->guest.deliver(static_cast<std::uint8_t>(o.vector)).value();
        return true;
    }
};

TEST_CASE("the wire until the guest turns MSI or MSI-X on, and never two at once",
          "[assign][interrupts][rule 7]") {
    scene s;
    const auto& device = s.n->hardware();
    CHECK(s.n->wire_is_open);
    CHECK(device.wire_is_on());
    s.g->decode(0x406); // interrupt disable
    CHECK_FALSE(s.n->wire_is_open);
    CHECK_FALSE(device.wire_is_on());
    s.g->decode(6);
    CHECK(s.n->wire_is_open);

    s.msi(0xFEE0'0000, 0x51, 1);
    CHECK_FALSE(s.n->wire_is_open);
    CHECK(device.msi_is_on());
    CHECK((device.config.get(4, 2) & 0x400) != 0);
    s.g->write(msi_x_at + 2, 2, 0x8000); // [pci] forbids both; MSI-X it is
    CHECK_FALSE(device.msi_is_on());
    CHECK(device.msi_x_is_on());
    s.g->write(msi_x_at + 2, 2, 0);
    CHECK(device.msi_is_on());
    CHECK_FALSE(device.msi_x_is_on());
    s.g->write(msi_at + 2, 2, 0);
    CHECK(device.wire_is_on());
    CHECK(s.n->wire_is_open);
    s.g->write(power_at + 4, 2, 3); // D3hot
    CHECK_FALSE(s.n->wire_is_open);
    CHECK(s.g->take_rejections().empty());
}

TEST_CASE("MSI: several vectors, masks, pending ones, another message", "[assign][interrupts]") {
    scene s;
    s.n->hardware().config.put(msi_at + 16, 4, 0xF); // as somebody may have left it
    s.msi(0xFEE0'0000, 0x0060, 0x21);                // four vectors
    const auto& device = s.n->hardware();
    CHECK((device.config.get(msi_at + 2, 2) & 0x71) == 0x21);
    CHECK(device.config.get(msi_at + 4, 4) != 0xFEE0'0000); // the host's message, not the guest's
    CHECK((device.config.get(msi_at + 16, 4) & 0xF) == 0);
    for (unsigned v = 0; v < 4; ++v) {
        CHECK(s.raise(v));
        CHECK(s.g->arrived() == vectors{0x60 + v});
    }
    s.g->write(msi_at + 16, 4, 0x4); // the guest masks vector 2
    CHECK((device.config.get(msi_at + 16, 4) & 0xF) == 0);
    CHECK(s.raise(2));
    CHECK(s.raise(2));
    CHECK(s.g->arrived().empty());
    CHECK(s.g->read(msi_at + 20, 4) == 0x4);
    s.g->write(msi_at + 12, 2, 0x0070); // other vectors meanwhile
    CHECK(s.raise(1));
    CHECK(s.g->arrived() == vectors{0x71});
    s.g->write(msi_at + 16, 4, 0);
    CHECK(s.g->arrived() == vectors{0x72});
    CHECK(s.g->read(msi_at + 20, 4) == 0);
    s.g->write(msi_at + 2, 2, 0x11); // two vectors from now on
    CHECK((device.config.get(msi_at + 2, 2) & 0x71) == 0x11);
    CHECK(s.raise(1));
    CHECK_FALSE(s.raise(2));
    CHECK(s.g->arrived() == vectors{0x71});
    s.g->write(msi_at + 2, 2, 0x10);
    CHECK_FALSE(s.raise(0));
    CHECK(s.g->take_rejections().empty());
}

TEST_CASE("MSI-X: each vector has its message and its mask, the function has one too",
          "[assign][interrupts]") {
    scene s;
    const auto& device = s.n->hardware();
    s.g->write(msi_x_at + 2, 2, 0xC000); // on, and the function masked
    CHECK(device.msi_x_is_on());
    for (unsigned v = 0; v < 5; ++v) {
        CHECK(device.word(3, 16 * v + 12, 4) == 0);
        s.msi_x(v, 0xFEE0'0000, 0x80 + v, v == 4);
    }
    CHECK(s.raise(0)); // the device is not masked; the view remembers
    CHECK(s.raise(4));
    CHECK(s.g->arrived().empty());
    CHECK(s.g->guest.read_memory(gpa{0x9000'2000}, mmio_width::qword).value() == 0x11);
    s.g->write(msi_x_at + 2, 2, 0x8000);
    CHECK(s.g->arrived() == vectors{0x80});
    CHECK(s.g->guest.read_memory(gpa{0x9000'2000}, mmio_width::qword).value() == 0x10);
    CHECK(s.raise(3));
    CHECK(s.g->arrived() == vectors{0x83});
    s.msi_x(3, 0xFEE0'0000, 0xA3);
    CHECK(s.raise(3));
    CHECK(s.g->arrived() == vectors{0xA3});
    s.msi_x(4, 0xFEE0'0000, 0x84);
    CHECK(s.g->arrived() == vectors{0x84});
    CHECK_FALSE(s.raise(5)); // the device has five
    CHECK(s.g->take_rejections().empty());
}

TEST_CASE("a message to another address than a local APIC's reaches nobody, and is told once",
          "[assign][interrupts]") {
    scene s;
    s.msi(0x1000, 0x51, 1); // the guest's own memory
    auto told = s.g->take_rejections();
    REQUIRE(told.size() == 1);
    CHECK(
        told[0] ==
        rejection{nic_at[0], rejection::subject::message, 0, 0x1000, {errc::out_of_range, 0x1000}});
    CHECK(s.raise(0));
    CHECK(s.g->arrived().empty());
    s.g->write(msi_at + 2, 2, 0);
    s.g->write(msi_at + 2, 2, 1);
    CHECK(s.g->take_rejections().empty());
    s.g->write(msi_at + 12, 2, 0x0351); // with a delivery mode that is reserved, at a local APIC
    s.g->write(msi_at + 4, 4, 0xFEE0'0000);
    CHECK(s.g->take_rejections().size() == 2);
    s.g->write(msi_at + 12, 2, 0x0051);
    CHECK(s.raise(0));
    CHECK(s.g->arrived() == vectors{0x51});
    s.g->write(msi_at + 4, 4, 0x0000'1000); // and away again, while it is open
    CHECK(s.raise(0));
    CHECK(s.g->arrived().empty());
    CHECK(s.g->take_rejections().size() == 1);
    // To a local APIC that the guest does not have: nobody's, and no rejection; as on hardware.
    s.g->write(msi_at + 4, 4, 0xFEE0'5000);
    CHECK(s.raise(0));
    CHECK(s.g->arrived().empty());
    CHECK(s.g->take_rejections().empty());
}

TEST_CASE("below D0 nothing interrupts, and what a reset turned off stays off",
          "[assign][interrupts]") {
    scene s;
    s.msi(0xFEE0'0000, 0x51, 1);
    s.g->write(power_at + 4, 2, 3);
    CHECK_FALSE(s.n->hardware().msi_is_on());
    CHECK_FALSE(s.raise(0));
    const unsigned resets = s.n->hardware().resets;
    s.g->write(power_at + 4, 2, 0);
    CHECK(s.n->hardware().resets == resets + 1);
    CHECK_FALSE(s.n->hardware().msi_is_on());
    CHECK(s.n->hardware().wire_is_on());
    CHECK(s.n->wire_is_open);
    CHECK(s.g->read(4, 2) == 0);
}

TEST_CASE("a function level reset is done before the guest goes on",
          "[assign][interrupts][reset]") {
    scene s;
    s.msi(0xFEE0'0000, 0x51, 1);
    s.n->hardware().memory[{3, 0x1000}] = 0x77; // a register that the guest has set
    const unsigned resets = s.n->hardware().resets;
    s.g->write(express_at + 8, 2, 0x8000 | s.g->read(express_at + 8, 2));
    CHECK(s.n->hardware().resets == resets + 1);
    CHECK(s.n->hardware().word(3, 0x1000, 1) == 0);
    CHECK_FALSE(s.n->hardware().msi_is_on());
    CHECK(s.g->mapped().size() == 1); // BARs are nowhere
    CHECK(s.g->read(4, 2) == 0);
    CHECK((s.n->hardware().config.get(4, 2) & 7) == 3); // the host still decodes
    CHECK(s.n->dma_to(0) == "1000000000");              // and its tables are the same
    CHECK(s.g->guest.settle());
    s.g->place(3, 0x9000'0000);
    s.g->decode(6);
    s.msi(0xFEE0'0000, 0x52, 1);
    CHECK(s.raise(0));
    CHECK(s.g->arrived() == vectors{0x52});
}

TEST_CASE("a function whose reset fails is blocked, and the guest finds it no more",
          "[assign][interrupts][reset][failing]") {
    for (const unsigned times : {1U, 3U}) { // so that it cannot be blocked at first, either
        CAPTURE(times);
        scene s;
        s.g->place(2, 0xC000);
        s.g->decode(7);
        s.msi(0xFEE0'0000, 0x51, 1);
        const auto flr = 0x8000 | s.g->read(express_at + 8, 2);
        s.g->decode(0);
        s.g->write(msi_at + 2, 2, 0); // so that the first call that can fail is the reset
        s.g->select(express_at + 8, 3);
        s.host->faults.fail(1, times);
        s.g->guest.write_port(io_port{0xCFC}, width::word, flr).value();
        s.g->decode(7); // before settle(): nothing answers
        CHECK(s.g->mapped().size() == 1);
        CHECK(s.g->open_ports().empty());
        CHECK_FALSE(s.g->guest.is_settled());
        static_cast<void>(s.g->guest.settle());
        s.host->faults.stop();
        REQUIRE(s.g->guest.settle());
        CHECK(s.n->dma_to(0) == "blocked");
        CHECK(s.g->read(0, 4) == 0xFFFF'FFFF);
        CHECK_FALSE(s.n->wire_is_open);
        CHECK_FALSE(s.n->hardware().msi_is_on());
        const auto told = s.g->take_rejections();
        REQUIRE_FALSE(told.empty());
        CHECK(told[0] == rejection{nic_at[0],
                                   rejection::subject::reset,
                                   0,
                                   0,
                                   {errc::time_out, nic_at[0].source_id()}});
        unsigned blocks = 0;
        for (const rejection& each : told) {
            blocks += each.what == rejection::subject::block ? 1 : 0;
        }
        CHECK(blocks == (times == 1 ? 0 : 1));
        CHECK(s.n->device.is_assigned());
        REQUIRE(s.n->device.remove()); // which resets it, now with success
        REQUIRE(s.n->assign());
        CHECK(s.g->read(0, 4) == 0x10D3'8086);
        CHECK(s.n->dma_to(0) == "1000000000");
    }
}

TEST_CASE("a host vector leads to its own guest, and another function's messages nowhere",
          "[assign][interrupts][two guests]") {
    scene s;
    const auto other = std::make_unique<guest_machine>(*s.host, 1);
    const auto second = std::make_unique<nic>(*other, 1);
    REQUIRE(second->assign());
    s.msi(0xFEE0'0000, 0x51, 1);
    other->write(msi_at + 4, 4, 0xFEE0'0000);
    other->write(msi_at + 12, 2, 0x51);
    other->write(msi_at + 2, 2, 1);
    const auto first_vector = s.host->raise(0, 0).vector;
    const auto second_vector = s.host->raise(1, 0).vector;
    REQUIRE(s.host->raise(0, 0).delivered);
    REQUIRE(s.host->raise(1, 0).delivered);
    CHECK(first_vector != second_vector);
    CHECK(s.g->guest.deliver(static_cast<std::uint8_t>(second_vector)) ==
          error{errc::absent, second_vector});
    CHECK(other->guest.deliver(static_cast<std::uint8_t>(first_vector)) ==
          error{errc::absent, first_vector});
    CHECK(other->guest.deliver(static_cast<std::uint8_t>(second_vector)));
    CHECK(s.g->arrived().empty());
    CHECK(other->arrived() == vectors{0x51});
    // Device 1 writes what device 0 would.
    auto& thief = s.host->devices[1].config;
    const auto& victim = s.host->devices[0].config;
    thief.put(msi_at + 4, 8, victim.get(msi_at + 4, 8));
    thief.put(msi_at + 12, 2, victim.get(msi_at + 12, 2));
    CHECK_FALSE(s.host->raise(1, 0).delivered);
    CHECK(s.host->raise(0, 0).delivered);

    // Neither sees anything of the other's.
    CHECK(s.n->dma_to(0) == "1000000000");
    CHECK(second->dma_to(0) == "1400000000");
    for (const auto& [input, size, output] : other->mapped()) {
        CHECK((output >= vtd_domains::memory_of(1) && output < vtd_domains::memory_of(2)));
    }
    CHECK(other->read(0, 4, 5) == 0xFFFF'FFFF);
    CHECK(other->is_right());
}

TEST_CASE("fewer MSI-X vectors than the device has, or none, if the VMM gives no more",
          "[assign][interrupts]") {
    const auto host = std::make_unique<host_machine>();
    const auto g = std::make_unique<guest_machine>(*host);
    for (const std::uint16_t count : {std::uint16_t{2}, std::uint16_t{0}}) {
        const auto n = std::make_unique<nic>(*g, 0, count);
        REQUIRE(n->assign());
        if (count == 0) {
            CHECK(g->read(msi_at + 1, 1) != msi_x_at);
            continue;
        }
        CHECK(g->read(msi_x_at, 4) == (0x0001'0011U | express_at << 8));
        g->place(3, 0x9000'0000);
        g->decode(6);
        g->write(msi_x_at + 2, 2, 0x8000);
        CHECK(n->hardware().word(3, 16 + 12, 4) == 0);
        CHECK(n->hardware().word(3, 32 + 12, 4) == 1); // masked: nobody has that one
    }
}

TEST_CASE("a device that changes its mind between any two reads breaks nothing",
          "[assign][interrupts][hostile]") {
    unsigned assigned = 0;
    for (unsigned at = 1;; ++at) {
        CAPTURE(at);
        const auto host = std::make_unique<host_machine>();
        const auto g = std::make_unique<guest_machine>(*host);
        const auto n = std::make_unique<nic>(*g);
        auto& device = n->hardware();
        const snapshot before = look_at(*g, *n);
        host->config_reads = 0;
        host->surprise_at = at;
        const auto done = n->assign();
        const bool was_reached = host->config_reads >= at;
        host->surprise_at = 0;
        if (done) {
            ++assigned;
            g->place(3, 0x9000'0000);
            g->decode(6);
            for (const unsigned control : {0x51U, 0x21U, 0x01U}) { // 32 vectors, 4, 1
                g->write(msi_at + 2, 2, control);
                g->write(msi_at + 4, 4, 0xFEE0'0000);
            }
            g->write(msi_x_at + 2, 2, 0x8000);
            for (unsigned v = 0; v < 0x100; ++v) {
                static_cast<void>(g->guest.deliver(static_cast<std::uint8_t>(v)));
            }
            CHECK(g->audit().empty());
        }
        device.config.put(msi_at + 2, 2, 0x0184);
        device.config.put(msi_x_at + 2, 2, 0x0004);
        device.config.put(msi_x_at + 4, 4, 0x0000'0003);
        REQUIRE(n->device.remove());
        CHECK(look_at(*g, *n).vectors == before.vectors);
        CHECK(look_at(*g, *n).entries == before.entries);
        CHECK(look_at(*g, *n).mapped == before.mapped);
        CHECK(g->is_right());
        if (!was_reached) {
            break;
        }
    }
    CHECK(assigned > 20);
}

TEST_CASE("a device that claims other capabilities later does not get vectors of others",
          "[assign][interrupts][hostile]") {
    scene s;
    auto& config = s.n->hardware().config;
    s.msi(0xFEE0'0000, 0x51, 0x21);
    config.put(msi_at + 2, 2, 0x018A | 1); // 32 vectors, all of a sudden
    s.g->write(msi_at + 2, 2, 0x00);
    s.g->write(msi_at + 2, 2, 0x51);
    CHECK(s.host->raise(0, 5).vector == 0);
    s.g->write(msi_x_at + 2, 2, 0x8000);
    config.put(0x34, 1, 0); // no capabilities
    s.g->write(msi_x_at + 2, 2, 0);
    s.g->write(msi_at + 2, 2, 0x21);
    CHECK(s.g->take_rejections().size() == 1);
    config.put(0x34, 1, power_at);
}

} // namespace
