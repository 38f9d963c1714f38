// SPDX-License-Identifier: BSL-1.0
// docs/write_your_own_vmm.md, run: the loop of tests/freestanding/own_vmm.hpp, with the words that VMX
// would write [sdm], on a machine of simulated devices. The guest's driver is written out below.
#include "../../freestanding/own_vmm.hpp"

#include "pt/assign/processor.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vmx/interruption.hpp"

#include <catch2/catch_test_macros.hpp>

#include "simulated_vmm.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace simulated;
using own_vmm::vmx_exit;
using pt::vcpu::general_register;
using pt::vmx::exit_reason;

struct still_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
struct vcpu_of {
    const own_vmm::guest_state* state;
    bool can_take_interrupt() {
        return pt::vmx::can_take_external_interrupt(state->rflags, state->blocking,
                                                    state->activity);
    }
    bool can_take_nmi() { return pt::vmx::can_take_nmi(state->blocking, state->activity); }
};
/// A guest without paging, whose program is one instruction: MOV [RDI], EAX.
struct program_memory {
    pt::vcpu::guest_place locate(pt::vcpu::logical_address at, std::uint32_t,
                                 pt::vcpu::memory_access) {
        return {.address = gpa{at.offset},
                .size = static_cast<std::uint32_t>(0x1000 - (at.offset & 0xFFF))};
    }
    void read(gpa at, std::uint8_t* to, std::size_t count) {
        constexpr std::uint8_t program[]{0x89, 0x07};
        for (std::size_t i = 0; i != count; ++i) {
            const std::uint64_t byte = at.raw - 0x1000 + i;
            to[i] = byte < 2 ? program[byte] : std::uint8_t{0xF4};
        }
    }
    void write(gpa, const std::uint8_t*, std::size_t) {}
};

struct my_processor {
    using apic_type = pt::lapic::local_apic<still_time>;
    using injector_type = pt::lapic::injector<vcpu_of, apic_type>;

    own_vmm::guest_state state{};
    pt::lapic::register_page page{};
    apic_type apic;
    injector_type injector{apic, vcpu_of{&state}};
    pt::assign::processor<vmm, apic_type, injector_type, program_memory> cpu;

    explicit my_processor(guest_machine& of)
        : apic{page, of.inbox, {}, still_time{}},
          cpu{of.guest, 0, apic, injector, program_memory{}} {
        state.rflags = 0x202; // with interrupts enabled
    }
};

/// The guest, from exit to exit.
struct driver {
    my_processor& on;
    unsigned exits_of_the_vmm = 0;
    std::uint32_t delivered = 0; ///< VM-entry interruption information of the last entry

    void exit(const vmx_exit& why) {
        const auto others = [this](const vmx_exit&, own_vmm::guest_state&) {
            ++exits_of_the_vmm;
            return pt::assign::resume_again();
        };
        const auto decision = own_vmm::turn(on.cpu, why, on.state, others);
        REQUIRE(decision);
        delivered = pt::vmx::entry_of(decision->event, pt::vcpu::processor_mode::protected_mode)
                        .information.raw;
    }
    // Exit qualification of I/O [sdm]: 2:0 size less one, 3 direction, 31:16 port.
    void out(std::uint64_t port, std::uint32_t value, std::uint64_t size = 4) {
        on.state.general[general_register::rax] = value;
        exit({.reason = exit_reason::io_instruction,
              .qualification = port << 16 | (size - 1),
              .instruction_length = 1});
    }
    std::uint32_t in(std::uint64_t port, std::uint64_t size = 4) {
        on.state.general[general_register::rax] = 0;
        exit({.reason = exit_reason::io_instruction,
              .qualification = port << 16 | 8 | (size - 1),
              .instruction_length = 1});
        return static_cast<std::uint32_t>(on.state.general[general_register::rax]);
    }
    std::uint32_t read(std::uint32_t offset) {
        out(0xCF8, 0x8000'1800 | offset);
        return in(0xCFC);
    }
    void write(std::uint32_t offset, std::uint32_t value) {
        out(0xCF8, 0x8000'1800 | offset);
        out(0xCFC, value);
    }
    // Exit qualification of an EPT violation [sdm]: 1 write, 7 linear address valid, 8 final access.
    void store(std::uint64_t address, std::uint32_t value) {
        on.state.rip = 0x1000;
        on.state.general[general_register::rax] = value;
        on.state.general[general_register::rdi] = address;
        on.state.rflags |= 1U << 16;                            // RF
        on.state.blocking = pt::vmx::interruptibility_state{1}; // by STI
        exit({.reason = exit_reason::ept_violation,
              .qualification = 1U << 8 | 1U << 7 | 1U << 1,
              .physical_address = address,
              .linear_address = address});
        CHECK(on.state.rip == 0x1002);
        CHECK(on.state.rflags == 0x202);
        CHECK(on.state.blocking.raw == 0);
    }
    void interrupt(unsigned host_vector) {
        exit({.reason = exit_reason::external_interrupt, .interruption = 1U << 31 | host_vector});
    }
};

struct ept_reader {
    pt::arena<table_frames>* arena;
    const std::uint64_t* entries(hpa frame) const { return arena->memory().entries(frame); }
};
struct unit_reader {
    rig::memory_type* memory;
    const std::uint64_t* entries(hpa frame) const {
        return vtd_model::frames<rig::memory_type>{memory}.entries(frame);
    }
};

struct whole_machine {
    std::unique_ptr<host_machine> host = std::make_unique<host_machine>();
    std::unique_ptr<guest_machine> guest = std::make_unique<guest_machine>(*host);
    std::unique_ptr<nic> card = std::make_unique<nic>(*guest);
    std::unique_ptr<my_processor> processor;

    std::optional<pt::vtd::translation> through;

    /// What the unit puts the card through, now that it is assigned.
    void learn_way() {
        const pt::vtd::requester& who = card->device.requester();
        const auto said = host->vtd.vtd->with_unit_of(
            who, [&](auto& unit) { return unit.functions().translation_of(who.function()); });
        through.emplace(said.value());
    }

    /// The audit's lines, one behind the other.
    std::string audit() {
        std::string lines;
        const auto print = [&](const char* line) { (lines += line) += '\n'; };
        const auto& second_stage = guest->domain.tables();
        std::uint64_t seen[table_frames / 64 + 1]{};
        std::uint64_t seen_by_device[rig::frame_count / 64 + 1]{};
        const range<hpa> frames{hpa{0x7000'0000}, table_frames * 4 * KiB};
        const range<hpa> unit_frames{hpa{rig::memory_type::base}, rig::frame_count * 4 * KiB};
        const bool clean = own_vmm::is_isolated(
            guest->guest,
            own_vmm::audited_tables{guest->ept.format(), ept_reader{&guest->arena},
                                    guest->ept.root().value(),
                                    pt::paging::frame_bitmap{frames, seen}},
            own_vmm::audited_tables{second_stage.format(), unit_reader{&host->vtd.memory},
                                    through.value().second_stage_root(),
                                    pt::paging::frame_bitmap{unit_frames, seen_by_device}},
            guest->cpus.bitmap_a, guest->cpus.bitmap_b, print);
        const pt::result<bool> confined = host->vtd.vtd->with_unit_of(
            card->device.requester(), [&](auto& unit) -> pt::result<bool> {
                return own_vmm::is_confined(
                    guest->guest, unit, through.value(), unit_reader{&host->vtd.memory},
                    pt::paging::frame_bitmap{unit_frames, seen_by_device}, print);
            });
        CHECK((clean && confined.value()) == lines.empty());
        return lines;
    }

    whole_machine() {
        // The fixture has furnished the guest; here the example does.
        guest->guest.take_memory({gpa{0}, ram_size}).value();
        guest->guest.unreserve(apic_page).value();
        guest->guest.unreserve_ports(played_ports).value();
        own_vmm::furnish(guest->guest, {hpa{vtd_domains::memory_of(0)}, ram_size}).value();
        processor = std::make_unique<my_processor>(*guest);
    }
};

TEST_CASE("docs/write_your_own_vmm.md: a guest finds its NIC, drives it, and loses it",
          "[assign][example]") {
    whole_machine m;
    guest_machine& g = *m.guest;
    nic& card = *m.card;
    driver guest{*m.processor};

    CHECK(g.guest.use_of(gpa{0xFEE0'0000}) == space_use::local_apic);
    CHECK(guest.read(0) == 0xFFFF'FFFF); // nobody is there
    REQUIRE(card.device.assign({.at = {0, 0, 3, 0}}));
    CHECK(guest.read(0) == 0x10D3'8086);
    m.learn_way();

    // It sizes a BAR, gives all of them places, and turns decoding and bus mastering on.
    guest.write(0x1C, 0xFFFF'FFFF);
    CHECK(guest.read(0x1C) == 0xFFFF'C000);
    guest.write(0x10, 0x8000'0000);
    guest.write(0x14, 0);
    guest.write(0x18, 0xC000); // ports, of the host's number
    guest.write(0x1C, 0x9000'0000);
    CHECK(g.reach(0x8000'0000) == "nowhere");
    guest.write(0x04, 0x0007);
    CHECK(g.reach(0x8000'0000) == "2000000000");
    CHECK(g.reach(0x9000'0000) == "nowhere"); // the page with the MSI-X table
    CHECK(g.reach(0x9000'1000) == "e0001000");
    CHECK(g.open_ports().size() == 32);
    CHECK(g.cpus.is_open(0xC000));

    // Ports of another number are forwarded.
    guest.write(0x18, 0x1000);
    CHECK(g.open_ports().empty());
    m.host->port_values[0xC004] = 0x5A;
    CHECK(guest.in(0x1004, 1) == 0x5A);

    // Nor do they cover what the VMM plays.
    guest.write(0x18, 0x03E0);
    guest.out(0x3F8, 'A', 1);
    CHECK(g.played.ports[0x3F8] == 'A');
    CHECK(m.host->port_accesses.size() == 1); // the one above

    // A BAR over the guest's own memory answers nowhere, and the VMM hears why.
    guest.write(0x1C, 0x0010'0000);
    CHECK(g.reach(0x0010'1000) == "1000101000"); // its memory
    CHECK(g.take_rejections() ==
          std::vector<rejection>{
              {nic_at[0], rejection::subject::bar, 3, 0x10'0000, {errc::refused, 0x10'0000}}});
    guest.write(0x1C, 0x9000'0000);
    CHECK(g.reach(0x9000'1000) == "e0001000");

    // Its local APIC, and MSI-X by stores to the table's page, which exit.
    guest.store(0xFEE0'00F0, 0x1FF);
    guest.write(msi_x_at, 0x8000'0011);
    guest.store(0x9000'0000, 0xFEE0'0000);
    guest.store(0x9000'0008, 0x61);
    guest.store(0x9000'000C, 0);
    const auto raised = m.host->raise(0, 0);
    CHECK(raised.delivered);
    CHECK(raised.remapped);
    CHECK(raised.vector != 0x61); // what the guest asked for is no vector of the host's
    guest.interrupt(raised.vector);
    CHECK(guest.delivered == 0x8000'0061);
    CHECK(guest.exits_of_the_vmm == 0);

    // Its DMA reaches the guest's memory and nothing behind it. All of it is proved, too; then the VMM
    // opens a port that it should not.
    CHECK(card.dma_to(0x1234) == "1000001234");
    CHECK(card.dma_to(ram_size) == "blocked");
    CHECK(m.audit().empty());
    g.cpus.bitmap_a[0x60 / 64] &= ~(std::uint64_t{1} << 0x60 % 64);
    CHECK(m.audit() == "guest 1: port 0x60 is open and not the guest's\n");
    g.cpus.bitmap_a[0x60 / 64] = ~std::uint64_t{0};
    REQUIRE(g.domain.map({pt::iova{ram_size}, 4 * KiB}, hpa{0x9'0000'0000}, vtd_domains::rw));
    CHECK(m.audit() == "guest 1: the second stage maps iova 0x200000..0x200fff to hpa 0x900000000, "
                       "which the guest does not own\n");
    REQUIRE(g.domain.unmap({pt::iova{ram_size}, 4 * KiB}));
    simulated::processors caches{&g.cpus, &m.host->faults};
    auto mapped = g.ept.map({gpa{ram_size}, 4 * KiB}, hpa{0x9'0000'0000}, pt::ept::ram);
    REQUIRE((mapped && mapped->redeem(caches)));
    CHECK(m.audit() ==
          "guest 1: EPT maps gpa 0x200000..0x200fff to hpa 0x900000000, which the guest "
          "does not own\n");
    auto unmapped = g.ept.unmap({gpa{ram_size}, 4 * KiB});
    REQUIRE((unmapped && unmapped->redeem(caches)));

    // The other NIC is put through the guest's tables, and this one may raise a vector of the host's.
    rig::attachment other{nic_at[1]};
    REQUIRE(g.domain.attach(other));
    CHECK(m.audit().starts_with("guest 1: function 00:06.0 is put through the guest's tables"));
    REQUIRE(m.host->vtd.vtd->release(other));
    const pt::vtd::requester& who = card.device.requester();
    REQUIRE(m.host->vtd.vtd->with_unit_of(who, [&](auto& unit) -> pt::result<void> {
        const auto entry = unit.interrupts().allocate(1).value();
        return unit.interrupts().set(
            entry[0], pt::vtd::interrupt_target{.vector = 0x30},
            pt::vtd::interrupt_requester::exactly(who.function().source_id()), unit);
    }));
    CHECK(m.audit().ends_with("lets function 00:05.0 raise vector 0x30 at APIC 0x0, which is not "
                              "the guest's\n"));

    // The example's end.
    REQUIRE(own_vmm::tear_down(card.device, g.guest));
    CHECK(card.dma_to(0x1234) == "blocked");
    CHECK(g.mapped().empty());
    CHECK(g.open_ports().empty());
    CHECK_FALSE(m.host->raise(0, 0).delivered);
    CHECK(g.is_right());
}

TEST_CASE("the example's loop asks the VMM where pt knows nobody", "[assign][example]") {
    whole_machine m;
    driver guest{*m.processor};
    const std::uint64_t rip = m.processor->state.rip;
    guest.exit({.reason = exit_reason::cpuid, .instruction_length = 2});
    guest.out(0x80, 0, 1);                             // nobody's port
    guest.interrupt(0x90);                             // the host's own vector
    guest.exit({.reason = exit_reason::io_instruction, // two bytes and one: no size
                .qualification = 2,
                .instruction_length = 1});
    CHECK(guest.exits_of_the_vmm == 4);
    CHECK(m.processor->state.rip == rip);
    CHECK(guest.delivered == 0);
}

TEST_CASE("the example's loop injects what an instruction has earned, and ends at a triple fault",
          "[assign][example]") {
    whole_machine m;
    driver guest{*m.processor};
    m.processor->state.general[general_register::rcx] = 0x80F; // x2APIC's, in xAPIC mode
    guest.exit({.reason = exit_reason::rdmsr, .instruction_length = 2});
    CHECK(guest.delivered == 0x8000'0B0D); // #GP with an error code
    // The delivery of a double fault is interrupted, by an instruction that is worth a #GP.
    const auto others = [](const vmx_exit&, own_vmm::guest_state&) {
        return pt::assign::resume_again();
    };
    const auto dead = own_vmm::turn(
        m.processor->cpu,
        {.reason = exit_reason::rdmsr, .vectoring = 0x8000'0B08, .instruction_length = 2},
        m.processor->state, others);
    REQUIRE_FALSE(dead);
    CHECK(dead.error().code == errc::hardware_fault);
}

} // namespace
