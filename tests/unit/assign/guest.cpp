// SPDX-License-Identifier: BSL-1.0
// What the VMM gives to a guest and takes from it: done, or an error and everything as before.
#include "simulated_vmm.hpp"

#include "../../paging_model/contract.hpp"

#include "pt/assign/compatibility_interrupts.hpp"
#include "pt/core/archetype.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

using namespace simulated;
using pt::assign::is_owed;
using pt::assign::memory_reach;

constexpr range<gpa> more{gpa{0x4000'0000}, 0x3000};
constexpr hpa more_at{0x5'0000'3000};
using lines = std::vector<std::string>;

struct scene {
    std::unique_ptr<host_machine> host = std::make_unique<host_machine>();
    std::unique_ptr<guest_machine> g = std::make_unique<guest_machine>(*host);
    std::unique_ptr<nic> n = std::make_unique<nic>(*g);

    scene() { n->assign().value(); }
    ~scene() {
        n.reset();
        CHECK(g->is_right());
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;
};

TEST_CASE("memory is the processors' and the devices', or the processors' alone",
          "[assign][guest]") {
    scene s;
    auto& guest = s.g->guest;
    REQUIRE(guest.give_memory(more, more_at));
    CHECK(s.g->reach(0x4000'2000) == "500005000");
    CHECK(s.n->dma_to(0x4000'2008) == "500005008");
    CHECK(s.g->audit().empty());
    CHECK(guest.take_memory({more.first(), 0x1000}) == error{errc::absent, 0x4000'0000});
    REQUIRE(guest.take_memory(more));
    CHECK(s.g->reach(0x4000'2000) == "nowhere");
    CHECK(s.n->dma_to(0x4000'2008) == "blocked");
    CHECK(guest.use_of(more.first()) == error{errc::absent, 0x4000'0000});
    REQUIRE(guest.give_memory(more, more_at, memory_reach::processors_only));
    CHECK(s.g->reach(0x4000'2000) == "500005000");
    CHECK(s.n->dma_to(0x4000'2008) == "blocked");
    CHECK(s.g->audit().empty());
    REQUIRE(guest.take_memory(more));
    CHECK(guest.take_memory(apic_page) == error{errc::absent, 0xFEE0'0000});
    CHECK(guest.take_memory({}) == error{errc::absent, 0});
}

TEST_CASE("memory does not lie where something else is", "[assign][guest]") {
    scene s;
    auto& guest = s.g->guest;
    s.g->place(3, 0x4000'0000);
    s.g->decode(2);
    const auto before = s.g->mapped();
    CHECK(guest.give_memory({gpa{0x3FFF'F000}, 0x2000}, more_at) ==
          error{errc::refused, 0x4000'0000});
    CHECK(guest.give_memory({gpa{0xFEDF'F000}, 0x2000}, more_at) ==
          error{errc::refused, 0xFEE0'0000});
    CHECK(guest.give_memory({gpa{0x1000}, 0x1000}, more_at) == error{errc::refused, 0x1000});
    CHECK(guest.give_memory({gpa{0x5000'0800}, 0x1000}, more_at).error().code == errc::misaligned);
    CHECK(guest.give_memory({gpa{std::uint64_t{1} << 48}, 0x1000}, more_at).error().code ==
          errc::out_of_range);
    // No device gets at what is there [vt-d]; so it is for processors only.
    CHECK(guest.give_memory({gpa{0xFEE1'0000}, 0x1000}, more_at).error().code ==
          errc::reserved_address);
    CHECK(guest.give_memory({gpa{0x5000'0000}, 0}, more_at).error().code == errc::out_of_range);
    CHECK(guest.reserve({gpa{0x5000'0000}, 0x1000}, space_use::memory).error().code ==
          errc::not_supported);
    CHECK(s.g->mapped() == before);
    CHECK(s.g->space.size() == 4);
    CHECK(s.g->audit().empty());
    REQUIRE(guest.give_memory({gpa{0xFEE1'0000}, 0x1000}, more_at, memory_reach::processors_only));
}

TEST_CASE("whichever call fails in give_memory(), nothing is given", "[assign][guest][failing]") {
    unsigned failures = 0;
    for (unsigned times = 1; times <= 3; ++times) {
        for (unsigned at = 1;; ++at) {
            CAPTURE(at, times);
            REQUIRE(at < 50);
            scene s;
            const snapshot before = look_at(*s.g, *s.n);
            s.host->faults.fail(at, times);
            const auto given = s.g->guest.give_memory(more, more_at);
            const bool was_reached = s.host->faults.calls >= at;
            s.host->faults.stop();
            if (given) { // perhaps it was only that the hardware does not know yet
                CHECK(s.g->guest.settle());
                CHECK(s.g->reach(0x4000'0000) == "500003000");
                CHECK(s.n->dma_to(0x4000'0000) == "500003000");
            } else {
                ++failures;
                CHECK(s.g->reach(0x4000'0000) == "nowhere");
                REQUIRE(s.g->guest.settle());
                CHECK(look_at(*s.g, *s.n) == before);
                CHECK(s.n->dma_to(0x4000'0000) == "blocked");
                REQUIRE(s.g->guest.give_memory(more, more_at));
            }
            CHECK(s.g->audit().empty());
            REQUIRE(s.g->guest.take_memory(more));
            CHECK(look_at(*s.g, *s.n) == before);
            if (!was_reached) {
                break;
            }
        }
    }
    CHECK(failures >= 9);
}

TEST_CASE("what could not be taken away for good is nobody's until settle() succeeds",
          "[assign][guest][failing]") {
    unsigned failures = 0;
    for (unsigned times = 1; times <= 3; ++times) {
        for (unsigned at = 1;; ++at) {
            CAPTURE(at, times);
            REQUIRE(at < 50);
            scene s;
            const snapshot before = look_at(*s.g, *s.n);
            REQUIRE(s.g->guest.give_memory(more, more_at));
            s.host->faults.fail(at, times);
            const auto taken = s.g->guest.take_memory(more);
            const bool was_reached = s.host->faults.calls >= at;
            CHECK(s.g->reach(0x4000'0000) == "nowhere");
            if (!taken) {
                ++failures;
                CHECK((is_owed(taken.error().code)));
                CHECK(s.g->guest.use_of(more.first()).value() == space_use::owed);
                CHECK_FALSE(s.g->guest.is_settled());
                s.host->faults.fail(1, 1000);
                CHECK_FALSE(s.g->guest.settle());
                CHECK(s.g->guest.reserve(more, space_use::device) ==
                      error{errc::refused, 0x4000'0000});
            }
            s.host->faults.stop();
            if (!taken && times == 2) { // whoever wants the place has it paid for
                REQUIRE(s.g->guest.reserve(more, space_use::device));
                REQUIRE(s.g->guest.unreserve(more));
            }
            REQUIRE(s.g->guest.settle());
            CHECK(look_at(*s.g, *s.n) == before);
            CHECK(s.g->audit().empty());
            if (!was_reached) {
                break;
            }
        }
    }
    CHECK(failures >= 3);
}

TEST_CASE("the audit over what owned() says finds damage of each kind", "[assign][guest][audit]") {
    scene s;
    s.g->place(3, 0x9000'0000);
    s.g->place(4, 0x9001'0000);
    s.g->place(5, 0x9001'0200); // in the same page
    s.g->place(2, 0xC000);
    s.g->decode(3);
    REQUIRE(s.g->audit().empty());
    const auto damaged = [&] {
        const lines found = s.g->audit();
        return found.size() == 1 ? found[0] : std::to_string(found.size()) + " findings";
    };
    {
        auto stray = s.g->ept.map({gpa{0x5000'0000}, 0x1000}, more_at, pt::ept::ram);
        REQUIRE(stray);
        CHECK(damaged().find("0x50000000") != std::string::npos);
        auto gone = s.g->ept.unmap({gpa{0x5000'0000}, 0x1000});
        gone->leak();
    }
    {
        auto table = s.g->ept.map({gpa{0x9000'0000}, 0x1000}, hpa{0xE000'0000},
                                  pt::ept::device_memory); // the MSI-X table
        REQUIRE(table);
        CHECK(damaged().find("0x90000000") != std::string::npos);
        auto gone = s.g->ept.unmap({gpa{0x9000'0000}, 0x1000});
        gone->leak();
    }
    {
        s.g->cpus.bitmap_a[1] = ~std::uint64_t{1};
        CHECK(damaged().find("0x40") != std::string::npos);
        s.g->cpus.bitmap_a[1] = ~std::uint64_t{0};
    }
    {
        REQUIRE(s.g->domain.map({pt::iova{0x7000'0000}, 0x1000}, more_at,
                                pt::vtd::second_stage::read_write));
        CHECK(damaged().find("0x70000000") != std::string::npos);
        REQUIRE(s.g->domain.unmap({pt::iova{0x7000'0000}, 0x1000}));
    }
    CHECK(s.g->audit().empty());
    pt::assign::ownership_lists<4, 4, 4, 16> small;
    CHECK(s.g->guest.owned(small.room(), 0).error() == error{errc::busy, 4});
}

TEST_CASE("a guest retires when its functions are gone, again if hardware did not answer",
          "[assign][guest][failing]") {
    for (unsigned at = 1; at <= 4; ++at) {
        CAPTURE(at);
        scene s;
        REQUIRE(s.g->guest.give_memory(more, more_at, memory_reach::processors_only));
        CHECK(s.g->guest.retire() == error{errc::busy, 1});
        CHECK(s.g->reach(0x4000'0000) == "500003000");
        REQUIRE(s.n->device.remove());
        s.host->faults.fail(at);
        const auto retired = s.g->guest.retire();
        const bool was_reached = s.host->faults.calls >= at;
        CHECK(s.g->mapped().empty());
        s.host->faults.stop();
        CHECK((retired || was_reached));
        REQUIRE(s.g->guest.settle());
        REQUIRE(s.g->guest.retire());
        CHECK(s.g->arena.free_frames() == table_frames);
        CHECK(s.g->guest.use_of(gpa{0}) == error{errc::absent, 0});
        CHECK(s.g->guest.use_of(apic_page.first()).value() == space_use::local_apic);
        REQUIRE(s.g->domain.retire());
    }
}

TEST_CASE("loads and stores at what the VMM plays, and at nothing", "[assign][guest]") {
    scene s;
    auto& guest = s.g->guest;
    REQUIRE(guest.write_memory(gpa{0xFED0'0010}, mmio_width::dword, 0x1'0000'0007));
    CHECK(guest.read_memory(gpa{0xFED0'0010}, mmio_width::qword).value() == 7);
    CHECK(guest.read_memory(gpa{0xFEE0'0020}, mmio_width::dword) ==
          error{errc::absent, 0xFEE0'0020}); // the local APIC is the processor's to answer for
    CHECK(guest.write_memory(gpa{~std::uint64_t{0}}, mmio_width::qword, 1) ==
          error{errc::absent, ~std::uint64_t{0}});
    // Partly memory: not what one access of a device is.
    s.g->place(4, ram_size);
    s.g->decode(2);
    CHECK(guest.read_memory(gpa{ram_size - 2}, mmio_width::dword) ==
          error{errc::not_supported, ram_size - 2});
    const unsigned writes = s.n->hardware().memory_writes;
    CHECK(guest.write_memory(gpa{ram_size - 2}, mmio_width::dword, 0) ==
          error{errc::not_supported, ram_size - 2});
    CHECK(s.n->hardware().memory_writes == writes);
    CHECK(guest.read_port(io_port{0x80}, width::byte) == error{errc::absent, 0x80});
    CHECK(guest.write_port(io_port{0xFFFE}, width::dword, 0) == error{errc::absent, 0xFFFE});
    CHECK(guest.read_port(io_port{0x3F6}, width::dword).value() == 0x0000'FFFF);
}

TEST_CASE("to settle what is settled costs the hardware nothing", "[assign][guest]") {
    scene s;
    REQUIRE(s.g->guest.settle());
    CHECK(s.g->guest.is_settled());
    const unsigned calls = s.host->faults.calls;
    REQUIRE(s.g->guest.settle());
    CHECK(s.host->faults.calls == calls);
    s.g->place(3, 0x9000'0000);
    s.g->decode(2);
    REQUIRE(s.g->guest.settle());
    CHECK(s.g->guest.is_settled());
}

TEST_CASE("reports tell of each change that the guest can reach", "[assign][guest]") {
    scene s;
    const auto changes = [&] { return std::exchange(s.g->book.changes, 0) != 0; };
    changes();
    s.g->place(3, 0x9000'0000);
    CHECK_FALSE(changes());
    s.g->decode(2);
    CHECK(changes());
    s.g->place(2, 0xC000);
    s.g->decode(3);
    CHECK(changes());
    s.g->place(3, 0x1000); // over memory: it goes away
    CHECK(changes());
    s.g->place(3, 0x2000);
    CHECK_FALSE(changes());
    REQUIRE(s.g->guest.give_memory(more, more_at));
    CHECK(changes());
}

// ------------------------------------------------------------------------------ at compile time

/// The least of everything, for a function whose bytes are pci_fake's.
struct least_vmm {
    using host_config = pci_fake::config;
    using host_ports = pt::archetype::port_io;
    using registers = pt::pci::archetype::bar_memory;
    using pages = pt::paging::table<pt::ept::format, pt::arena_memory<8>>;
    using processors = pt::assign::archetype::guest_processors;
    using dma = pt::assign::archetype::dma_path;
    using interrupts = pt::assign::compatibility_interrupts<pt::assign::vector_pool<>>;
    using wire = pt::assign::no_wire;
    using vcpus = pt::lapic::archetype::vcpu_set;
    using reset = pt::assign::archetype::function_reset;
    using platform = pt::assign::no_platform;
    using reports = pt::assign::no_reports;
    using mutex = pt::no_mutex;
};
static_assert(pt::assign::vmm<least_vmm>);

constexpr bool path_holds() {
    pci_fake::function device{{0, 0, 2, 0}, 0x100E'8086};
    device.bar(0x10, 0xFFFF'C000, 0xE000'0000);
    device.bar(0x14, 0xFFFF'FFC0, 0x0000'C001);
    pci_fake::machine machine{&device, 1};
    pt::arena<8> arena{hpa{0x100'0000}};
    least_vmm::pages ept{arena.memory(), pt::ept::format{pt::ept::capabilities{0x4040}, 40}};
    std::uint64_t a[512]{};
    std::uint64_t b[512]{};
    pt::vmx::kept_ports kept[2]{};
    pt::vmx::shared_io_bitmap ports{pt::vmx::io_bitmap{a, b}, kept, 2};
    pt::assign::claim<gpa> space_slots[8]{};
    pt::assign::claims<gpa> space{space_slots};
    pt::assign::claim<io_port> port_slots[2]{};
    pt::assign::claims<io_port> port_space{port_slots};
    pt::lapic::bus<least_vmm::vcpus> bus{least_vmm::vcpus{}};
    pt::lapic::host_vector_routes routes;
    pt::assign::host_vectors vectors{0x40, 0x4F};
    bool good = true;
    {
        pt::assign::guest<least_vmm> guest{{.pages = ept,
                                            .memory = pt::ept::ram,
                                            .device_memory = pt::ept::device_memory,
                                            .processors = {},
                                            .room = {space, port_space, ports, routes},
                                            .windows = windows,
                                            .port_windows = port_windows,
                                            .host_ports = {},
                                            .dma = {},
                                            .bus = bus,
                                            .platform = {},
                                            .reports = {}}};
        good &=
            guest.give_memory({gpa{0}, 0x20'0000}, hpa{0x1000'0000}, memory_reach::processors_only)
                .has_value();
        good &= guest.reserve(apic_page, space_use::local_apic).has_value();
        {
            pt::assign::assigned_device<least_vmm> nic{
                guest,
                pt::pci::function_address{0, 0, 2, 0},
                {.config = {&machine},
                 .registers = {},
                 .interrupts = least_vmm::interrupts{pt::assign::vector_pool{vectors, 0}},
                 .wire = {},
                 .reset = {}}};
            good &= nic.assign({.at = {0, 0, 3, 0}}).error().code == errc::not_supported;
            good &=
                nic.assign({.at = {0, 0, 3, 0}, .reset = pt::assign::reset_need::where_possible})
                    .has_value();
            // The router's void pointer is not for compile time.
            const auto write = [&](std::uint16_t offset, std::uint32_t value) {
                nic.view().write(offset, width::dword, value);
            };
            write(0x10, 0x9000'0000);
            write(0x14, 0xC000);
            write(0x04, 7);
            good &= ept.translate(gpa{0x9000'3008})->output.raw == 0xE000'3008;
            good &= !ports.exits(io_port{0xC03F}, width::byte);
            write(0x10, 0x0000'0000 | 0x1'0000); // over memory
            good &= !ept.translate(gpa{0x9000'3008});
            good &= ept.translate(gpa{0x1'0000})->output.raw == 0x1001'0000;
            good &= guest.settle().has_value() && nic.remove().has_value();
            good &= ports.exits(io_port{0xC03F}, width::byte);
        }
        good &= guest.retire().has_value();
    }
    return good && arena.free_frames() == 8;
}

TEST_CASE("a whole path holds at compile time", "[assign][guest]") {
    static_assert(path_holds());
    REQUIRE(path_holds());
}

TEST_CASE("a guest does not go away before its functions, nor a device before remove()",
          "[assign][guest][contract]") {
    scene s;
    CHECK(paging_model::breaks_contract([&] {
        pt::assign::assigned_device<vmm>* const device = &s.n->device;
        device->~assigned_device();
    }));
    CHECK(paging_model::breaks_contract([&] {
        pt::assign::guest<vmm>* const guest = &s.g->guest;
        using type = pt::assign::guest<vmm>;
        guest->~type();
    }));
}

} // namespace
