// SPDX-License-Identifier: BSL-1.0
// The handlers of exits in front of a whole assigned function: everything that the guest does comes as
// an exit.
#include "simulated_vmm.hpp"

#include "pt/assign/answer.hpp"
#include "pt/assign/processor.hpp"
#include "pt/core/address.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/instruction_bytes.hpp"
#include "pt/vcpu/io_instruction.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <tuple>

namespace {

using namespace simulated;
using pt::assign::answer;
using pt::assign::inject;
using pt::assign::not_mine;
using pt::assign::resume_again;
using pt::assign::resume_behind;
using enum pt::vcpu::general_register;

struct no_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct always {
    bool can_take_interrupt() { return true; }
    bool can_take_nmi() { return true; }
};
/// Linear addresses are physical ones.
struct flat_memory {
    std::map<std::uint64_t, std::uint8_t>* bytes;

    pt::vcpu::guest_place locate(pt::vcpu::logical_address at, std::uint32_t,
                                 pt::vcpu::memory_access) {
        return {.address = gpa{at.offset},
                .size = static_cast<std::uint32_t>(0x1000 - (at.offset & 0xFFF))};
    }
    void read(gpa place, std::uint8_t* to, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            const auto found = bytes->find(place.raw + i);
            to[i] = found == bytes->end() ? std::uint8_t{0xFF} : found->second;
        }
    }
    void write(gpa place, const std::uint8_t* from, std::size_t count) {
        for (std::size_t i = 0; i != count; ++i) {
            (*bytes)[place.raw + i] = from[i];
        }
    }
};

using apic_type = pt::lapic::local_apic<no_time>;
using injector_type = pt::lapic::injector<always, apic_type>;

/// A guest with a NIC, and the one processor that drives it.
struct driver {
    host_machine host;
    guest_machine g{host};
    nic n{g};
    pt::lapic::register_page page{};
    apic_type apic{page, g.inbox, {.physical_address_width = 40}, no_time{}};
    injector_type injector{apic, always{}};
    std::map<std::uint64_t, std::uint8_t> bytes;
    pt::assign::processor<vmm, apic_type, injector_type, flat_memory> cpu{
        g.guest, 0, apic, injector, flat_memory{&bytes}};
    pt::vcpu::general_registers r;
    std::uint64_t rflags = 2;

    driver() {
        n.assign().value();
        (void)apic.write(0xF0, mmio_width::dword, 0x1FF);
    }

    answer out(unsigned port, unsigned size, std::uint32_t value) {
        r[rax] = value;
        return cpu.on_io({.port = io_port{static_cast<std::uint16_t>(port)},
                          .size = static_cast<width>(size),
                          .length = 1},
                         r, rflags);
    }
    std::uint64_t in(unsigned port, unsigned size) {
        r[rax] = 0;
        const answer done = cpu.on_io({.port = io_port{static_cast<std::uint16_t>(port)},
                                       .size = static_cast<width>(size),
                                       .direction = pt::vcpu::io_direction::in,
                                       .length = 1},
                                      r, rflags);
        return done == resume_behind(1) ? r[rax] : ~std::uint64_t{0};
    }
    void config(unsigned offset, unsigned size, std::uint32_t value) {
        REQUIRE(out(0xCF8, 4, 0x8000'1800 | (offset & 0xFC)) == resume_behind(1));
        REQUIRE(out(0xCFC + (offset & 3), size, value) == resume_behind(1));
    }
    std::uint64_t config(unsigned offset, unsigned size) {
        REQUIRE(out(0xCF8, 4, 0x8000'1800 | (offset & 0xFC)) == resume_behind(1));
        return in(0xCFC + (offset & 3), size);
    }
    /// An instruction at 0x1000 whose operand is [rdi].
    answer run(std::uint64_t rdi_is, std::initializer_list<unsigned> program) {
        r[rdi] = rdi_is;
        std::uint64_t at = 0x1000;
        for (const unsigned byte : program) {
            bytes[at++] = static_cast<std::uint8_t>(byte);
        }
        return cpu.on_memory_violation({.address = gpa{rdi_is}, .read = true}, {.rip = 0x1000}, r,
                                       rflags);
    }
    answer store(std::uint64_t at, std::uint64_t value, unsigned size = 4) {
        r[rax] = value;
        switch (size) {
        case 1: return run(at, {0x88, 0x07});
        case 2: return run(at, {0x66, 0x89, 0x07});
        case 4: return run(at, {0x89, 0x07});
        default: return run(at, {0x48, 0x89, 0x07});
        }
    }
    std::uint64_t load(std::uint64_t at, unsigned size = 4) {
        r[rax] = 0;
        const answer done = size == 1   ? run(at, {0x8A, 0x07})
                            : size == 2 ? run(at, {0x66, 0x8B, 0x07})
                            : size == 4 ? run(at, {0x8B, 0x07})
                                        : run(at, {0x48, 0x8B, 0x07});
        REQUIRE(done.action == pt::assign::action::resume);
        REQUIRE(done.advance != 0);
        return r[rax];
    }
    /// All BARs somewhere, decoding on.
    void place_all() {
        config(0x10, 4, 0x8000'0000);
        config(0x14, 4, 0);
        config(0x18, 4, 0xC800);
        config(0x1C, 4, 0x9000'0000);
        config(0x20, 4, 0x9001'0000);
        config(0x24, 4, 0x9001'0200);
        config(0x04, 2, 7);
    }
    /// The device's own MSI-X table, which is the host's.
    auto hardware_table() {
        std::map<std::uint64_t, std::uint64_t> table;
        for (std::uint64_t offset = 0; offset != 80; offset += 8) {
            table[offset] = n.hardware().word(3, offset, 8);
        }
        return table;
    }
    std::uint8_t host_vector(unsigned n_th) {
        return static_cast<std::uint8_t>(n.device.interrupts().vectors().first + n_th);
    }
};

TEST_CASE("a function is found, sized and placed by IN and OUT, in any size of access",
          "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    CHECK(d->config(0, 4) == 0x10D3'8086);
    CHECK(d->config(0, 2) == 0x8086);
    CHECK(d->config(3, 1) == 0x10);
    d->config(0x1C, 4, 0xFFFF'FFFF);
    CHECK(d->config(0x1C, 4) == 0xFFFF'C000);
    d->place_all();
    CHECK(d->g.reach(0x8000'1000) == "2000001000");
    CHECK(d->g.reach(0x9000'0000) == "nowhere"); // the page with the MSI-X table
    // Two bytes of CONFIG_DATA and two of nobody: byte by byte.
    CHECK(d->out(0xCF8, 4, 0x8000'1800) == resume_behind(1));
    CHECK(d->in(0xCFE, 4) == 0xFFFF'10D3);
    CHECK(d->in(0xCFB, 2) == 0x86FF);
    // A moved I/O BAR is forwarded to where the device has it.
    CHECK(d->out(0xC804, 4, 0x1234'5678) == resume_behind(1));
    CHECK(d->host.port_accesses.back() == std::tuple{true, 0xC004U, 4U, 0x1234'5678U});
    CHECK(d->in(0xC805, 1) == 0x56);
    // Behind its end is nobody.
    CHECK(d->out(0xC820, 1, 0) == not_mine());
    CHECK(d->g.is_right());
}

TEST_CASE("the MSI-X table is the guest's own, whatever the size of an access [rule 7]",
          "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    const auto table = d->hardware_table();
    const std::uint64_t at = 0x9000'0000;
    REQUIRE(d->store(at, 0xFEE0'0000) == resume_behind(2));
    REQUIRE(d->store(at + 8, 0x51) == resume_behind(2));
    REQUIRE(d->store(at + 16, 0x0000'0000'FEE0'0000, 8) == resume_behind(3));
    CHECK(d->load(at) == 0xFEE0'0000);
    CHECK(d->load(at + 8, 8) == 0x0000'0001'0000'0051);
    CHECK(d->load(at + 16, 8) == 0xFEE0'0000);
    for (const unsigned size : {1U, 2U, 4U, 8U}) {
        for (std::uint64_t offset = 0; offset != 24; ++offset) {
            REQUIRE(d->store(at + offset, ~std::uint64_t{0}, size).action ==
                    pt::assign::action::resume);
            static_cast<void>(d->load(at + offset, size));
        }
    }
    // Across the end of the page into registers that the guest reaches by itself, and before the BAR.
    CHECK(d->run(at + 0xFFE, {0x8B, 0x07}).action == pt::assign::action::resume);
    CHECK(d->run(at - 2, {0x8B, 0x07}).action == pt::assign::action::resume);
    CHECK(d->hardware_table() == table);
    CHECK(d->g.is_right());
}

TEST_CASE("a BAR below 4 KiB is reached access by access, and nothing beside it",
          "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    auto& memory = d->n.hardware().memory;
    for (unsigned i = 0; i != 0x100; ++i) {
        memory[{4, i}] = static_cast<std::uint8_t>(i);
    }
    for (unsigned i = 0; i != 0x200; ++i) {
        memory[{5, i}] = 0x55;
    }
    CHECK(d->load(0x9001'0010) == 0x1312'1110);
    CHECK(d->load(0x9001'0021, 1) == 0x21);
    CHECK(d->load(0x9001'00F8, 8) == 0xFFFE'FDFC'FBFA'F9F8);
    REQUIRE(d->store(0x9001'0040, 0xAABB, 2) == resume_behind(3));
    CHECK(d->n.hardware().word(4, 0x40, 4) == 0x4342'AABB);
    // The other BAR is in the same page, and a hole lies between them.
    CHECK(d->load(0x9001'0200) == 0x5555'5555);
    CHECK(d->run(0x9001'0180, {0x8B, 0x07}) == not_mine());
    CHECK(d->load(0x9001'00FE) == 0xFFFF'FFFE);
    const unsigned writes = d->n.hardware().memory_writes;
    REQUIRE(d->store(0x9001'01FE, 0x1122'3344) == resume_behind(2));
    CHECK(d->n.hardware().word(5, 0, 4) == 0x5555'1122);
    CHECK(d->n.hardware().memory_writes == writes + 2);
    // A read-modify-write is one read and one write of the device.
    const unsigned reads = d->n.hardware().memory_reads;
    REQUIRE(d->run(0x9001'0040, {0xF0, 0x83, 0x27, 0x0F}) ==
            resume_behind(4)); // lock and dword, 0Fh
    CHECK(d->n.hardware().word(4, 0x40, 4) == 0x0000'000B);
    CHECK(d->n.hardware().memory_reads == reads + 1);
}

TEST_CASE("what the guest reaches by itself meanwhile, it tries again", "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    const unsigned reads = d->n.hardware().memory_reads;
    CHECK(d->run(0x8000'0100, {0x8B, 0x07}) == resume_again()); // BAR 0, which is mapped
    CHECK(d->run(0x9000'1000, {0x89, 0x07}) == resume_again()); // BAR 3 behind the table
    CHECK(d->run(0x5000, {0x8B, 0x07}) == resume_again());      // memory
    CHECK(d->n.hardware().memory_reads == reads);
    d->config(4, 2, 5); // decoding off: nobody is there
    CHECK(d->run(0x8000'0100, {0x8B, 0x07}) == not_mine());
}

TEST_CASE("a local APIC does not move over a BAR, nor a BAR over a local APIC",
          "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    const auto move_to = [&](std::uint64_t at) {
        d->r[rcx] = 0x1B;
        d->r[rax] = at | 0x900;
        d->r[rdx] = 0;
        return d->cpu.on_write_msr(d->r, 2);
    };
    const answer refused =
        inject(pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0));
    CHECK(move_to(0x8000'1000) == refused);
    CHECK(move_to(0x9001'0000) == refused);
    REQUIRE(move_to(0xA000'0000) == resume_behind(2));
    d->config(0x10, 4, 0xA000'0000);
    d->config(0x14, 4, 0);
    CHECK(d->g.reach(0xA000'0000) == "nowhere");
    CHECK(d->g.take_rejections().size() == 1);
    CHECK(d->load(0xA000'0030) == 0x0006'0014); // the version register
    // It leaves, and the BAR has its place with the next entry.
    REQUIRE(move_to(0xFEE0'0000) == resume_behind(2));
    (void)d->cpu.before_entry();
    CHECK(d->g.reach(0xA000'0000) == "2000000000");
}

TEST_CASE("a BAR that waits for another's place has it at the next entry", "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    d->config(0x10, 4, 0x9000'0000); // where BAR 3 is
    d->config(0x14, 4, 0);
    CHECK(d->g.reach(0x9000'1000) == "e0001000");
    d->config(0x1C, 4, 0x8000'0000);
    (void)d->cpu.before_entry();
    CHECK(d->g.reach(0x9000'1000) == "2000001000");
    CHECK(d->g.reach(0x8000'1000) == "e0001000");
    CHECK(d->g.is_right());
}

TEST_CASE("a reset that the guest demands is done before it goes on", "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    const unsigned before = d->n.hardware().resets;
    d->config(express_at + 8, 2, 0xA810); // initiate a function-level reset
    (void)d->cpu.before_entry();
    CHECK(d->n.hardware().resets == before + 1);
    CHECK(d->config(4, 2) == 0);
    CHECK(d->g.is_right());
}

TEST_CASE("a REP that demands one reset after another has one of them in each exit",
          "[assign][processor][hostile]") {
    driver d;
    REQUIRE(d.out(0xCF8, 4, 0x8000'1800 | (express_at + 8)) == resume_behind(1));
    for (unsigned n = 0; n < 0x80; n += 2) { // of words: Initiate Function Level Reset
        d.bytes[0x2000 + n] = 0x00;
        d.bytes[0x2001 + n] = 0x80;
    }
    const pt::vcpu::io_instruction outsw{
        .port = io_port{0xCFC}, .size = width::word, .string = true, .rep = true, .length = 2};
    d.r[rsi] = 0x2000;
    d.r[rcx] = 3;
    const unsigned resets = d.n.hardware().resets;
    for (unsigned done = 1; done <= 3; ++done) {
        static_cast<void>(d.cpu.before_entry());
        CHECK(d.cpu.on_io(outsw, d.r, d.rflags) == (done == 3 ? resume_behind(2) : resume_again()));
        CHECK(d.n.hardware().resets == resets + done);
        CHECK(d.r[rcx] == 3 - done);
    }
}

TEST_CASE("a device's interrupt arrives with the guest's vector; a masked one when it is unmasked",
          "[assign][processor]") {
    const auto d = std::make_unique<driver>();
    d->place_all();
    const std::uint64_t at = 0x9000'0000;
    for (unsigned vector = 0; vector != 2; ++vector) {
        REQUIRE(d->store(at + 16 * vector, 0xFEE0'0000) == resume_behind(2));
        REQUIRE(d->store(at + 16 * vector + 8, 0x51 + 0x10 * vector) == resume_behind(2));
    }
    REQUIRE(d->store(at + 12, 0) == resume_behind(2)); // vector 0 is unmasked, 1 is not
    CHECK(d->cpu.on_external_interrupt(d->host_vector(0)) == resume_again()); // not enabled yet
    CHECK(d->cpu.before_entry().event.present == false);
    d->config(msi_x_at + 2, 2, 0x8000);
    CHECK(d->cpu.on_external_interrupt(d->host_vector(0)) == resume_again());
    CHECK(d->cpu.before_entry().event == pt::vcpu::external_interrupt(0x51));
    CHECK(d->cpu.on_external_interrupt(d->host_vector(1)) == resume_again());
    CHECK(d->cpu.before_entry().event.present == false);
    CHECK((d->load(at + 0x2000, 8) & 2) == 2); // pending
    REQUIRE(d->store(at + 16 + 12, 0) == resume_behind(2));
    CHECK(d->cpu.before_entry().event == pt::vcpu::external_interrupt(0x61));
    CHECK(d->cpu.on_external_interrupt(0x21) == not_mine());
    CHECK(d->g.is_right());
}

} // namespace
