// SPDX-License-Identifier: BSL-1.0
#include "toy_pc.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace toy;
using vmm::exit_kind;
using vmm::pc::run_end;

constexpr std::uint64_t millisecond = 1'000'000;
constexpr std::uint64_t second = 1'000'000'000;

program say(const std::string& text) {
    program made;
    for (const char c : text) {
        made.push_back(out(0x3F8, static_cast<std::uint8_t>(c)));
    }
    return made;
}
program end_with(std::uint8_t code) { return {out(0xF4, code)}; }

/// As PC kernels do it: the 8259s at 0x20 and 0x28, nothing masked but what is asked.
program initialise_8259(std::uint8_t mask) {
    return {out(0x20, 0x11), out(0xA0, 0x11), out(0x21, 0x20), out(0xA1, 0x28), out(0x21, 4),
            out(0xA1, 2),    out(0x21, 1),    out(0xA1, 1),    out(0x21, mask), out(0xA1, 0xFF)};
}
program timer_at(std::uint32_t hertz) {
    const std::uint32_t count = 1'193'182 / hertz;
    return {out(0x43, 0x34), out(0x40, count & 0xFF), out(0x40, count >> 8)};
}
/// One of its registers, as KVM shows such an access.
program io_apic(std::uint32_t index, std::uint32_t value) {
    program made;
    for (const auto& [at, what] : {std::pair{0xFEC0'0000U, index}, {0xFEC0'0010U, value}}) {
        step each = exits(exit_kind::device_memory);
        each.exit.device = {
            .address = pt::gpa{at}, .way = pt::vcpu::memory_access::write, .size = 4, .data = what};
        made.push_back(each);
    }
    return made;
}
program x2apic_on() { return {wrmsr(0x1B, 0xFEE0'0D00), wrmsr(0x80F, 0x1FF)}; }

std::vector<unsigned> vectors(const world& of) {
    std::vector<unsigned> found;
    for (const auto& event : of.delivered) {
        found.push_back(event.vector);
    }
    return found;
}

std::string dump_of(pc::virtual_pc& of) {
    std::string text;
    of.dump([&](auto... parts) {
        const auto put = [&](auto part) {
            if constexpr (std::is_convertible_v<decltype(part), const char*>) {
                text += part;
            } else {
                text += std::to_string(part);
            }
        };
        (put(parts), ...);
        text += "\n";
    });
    return text;
}

} // namespace

TEST_CASE("a world for devices tells what of its ports is open, and invalidates what is cached",
          "[vmm_pc][loop]") {
    struct passes_through : world {
        using world::world;
        using format = pt::ept::format;
        using processors_type = pt::assign::archetype::guest_processors;
        static format second_level();
        pt::result<void> use_pages(const format&, pt::hpa);
        pt::vmx::io_bitmap ports();
        processors_type processors();
        pt::assign::audit_summary audit_ports(const pt::assign::ownership&,
                                              void (*)(const pt::assign::finding&));
    };
    struct without_audit : passes_through {
        void audit_ports() = delete;
    };
    struct keeps_translations : passes_through {
        using processors_type = int;
        processors_type processors();
    };
    STATIC_REQUIRE(vmm::passthrough_world<passes_through>);
    STATIC_REQUIRE_FALSE(vmm::passthrough_world<without_audit>);
    STATIC_REQUIRE_FALSE(vmm::passthrough_world<keeps_translations>);
}

TEST_CASE("a guest speaks and ends by its exit port", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    REQUIRE(guest.ready);
    guest.cpu.main = say("hello\n") + end_with(0x31);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(guest.pc.exit_code() == 0x31);
    CHECK(text == "hello\n");
    CHECK(guest.cpu.delivered.empty());
}

TEST_CASE("a guest begins as multiboot says", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    const vmm::cpu_state cpu = guest.cpu.state();
    CHECK(cpu.rip == 0x1'0000);
    CHECK((cpu.cr0 & 0x8000'0001) == 1); // protected, not paged
    CHECK((cpu.rflags & (1U << 9 | 1U << 17)) == 0);
    CHECK(guest.cpu.general()[general_register::rax] == 0x2BADB002);
    CHECK(guest.cpu.general()[general_register::rbx] == 0x5000);
}

TEST_CASE("the line for INTx is level-triggered from the beginning, and no other one",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    std::uint64_t first = 0;
    std::uint64_t second_8259 = 0;
    guest.cpu.main = program{in(0x4D0, &first), in(0x4D1, &second_8259)} + end_with(0);
    guest.run(second, time);
    CHECK(first == 0);
    CHECK(second_8259 == 1U << (11 - 8));
}

TEST_CASE("the interval timer comes by the 8259s and LINT0, at its rate, and wakes from HLT",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    unsigned ticks = 0;
    std::uint64_t first = 0;
    guest.cpu.handlers[0x20] = {does([&](world&) {
                                    ++ticks;
                                    first = first == 0 ? time.now : first;
                                }),
                                out(0x20, 0x20), iret()};
    guest.cpu.main = initialise_8259(0xFE) + timer_at(100) + program{sti()};
    for (unsigned i = 0; i != 50; ++i) {
        guest.cpu.main.push_back(hlt());
    }
    guest.cpu.main = guest.cpu.main + end_with(1);
    guest.run(10 * second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(ticks == 50);
    CHECK(vectors(guest.cpu) == std::vector<unsigned>(50, 0x20));
    CHECK(guest.cpu.windows == 0); // nothing waits once it has been acknowledged
    const std::uint64_t passed = time.now - first;
    CHECK(passed > 489 * millisecond); // 49 periods of 10 ms
    CHECK(passed < 492 * millisecond);
}

TEST_CASE("the interval timer comes by pin 2 of the I/O APIC", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    basic_pc<decoding_world> guest{time, text};
    unsigned ticks = 0;
    guest.cpu.handlers[0x51] = {does([&](world&) { ++ticks; }), wrmsr(0x80B, 0), iret()};
    guest.cpu.main = x2apic_on() + io_apic(0x14, 0x51) + timer_at(1000) + program{sti()};
    for (unsigned i = 0; i != 20; ++i) {
        guest.cpu.main.push_back(hlt());
    }
    guest.cpu.main = guest.cpu.main + end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(ticks == 20);
    CHECK(vectors(guest.cpu) == std::vector<unsigned>(20, 0x51));
}

TEST_CASE("the local APIC's timer comes in all its modes, on time", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    std::vector<std::uint64_t> at;
    guest.cpu.handlers[0x60] = {does([&](world&) { at.push_back(time.now); }), wrmsr(0x80B, 0),
                                iret()};
    std::uint64_t begin = 0;
    guest.cpu.main = x2apic_on() +
                     program{wrmsr(0x83E, 0xB),       // divide by 1
                             wrmsr(0x832, 0x60),      // one-shot
                             wrmsr(0x838, 3'000'000), // 3 ms at 1 GHz
                             does([&](world&) { begin = time.now; }),
                             sti(),
                             hlt(),
                             wrmsr(0x832, 0x2'0060), // periodic
                             wrmsr(0x838, 1'000'000),
                             hlt(),
                             hlt(),
                             hlt(),
                             wrmsr(0x838, 0),
                             wrmsr(0x832, 0x4'0060), // TSC-deadline
                             wrmsr(0x6E0, [&] { return host_clock{&time}.tsc() + 2 * 5'000'000; }),
                             hlt()} +
                     end_with(0);
    guest.run(second, time);
    REQUIRE(guest.pc.end() == run_end::exit_port);
    REQUIRE(at.size() == 5);
    const auto near = [](std::uint64_t is, std::uint64_t expected) {
        return is >= expected && is < expected + 30'000;
    };
    CHECK(near(at[0] - begin, 3 * millisecond - 1000)); // set one exit before `begin`
    CHECK(near(at[2] - at[1], millisecond - 3000));
    CHECK(near(at[3] - at[2], millisecond - 3000));
    CHECK(at[4] - at[3] >= 5 * millisecond);
    CHECK(at[4] - at[3] < 5 * millisecond + 30'000);
}

TEST_CASE("an interrupt waits for the window while the guest has interrupts off",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    bool is_on = false;
    bool too_early = false;
    guest.cpu.handlers[0x60] = {does([&](world&) { too_early = too_early || !is_on; }),
                                wrmsr(0x80B, 0), iret()};
    std::uint64_t value = 0;
    guest.cpu.main =
        x2apic_on() +
        program{wrmsr(0x83F, 0x60), // to itself
                in(0x61, &value),   in(0x61, &value), does([&](world&) { is_on = true; }), sti(),
                in(0x61, &value)} +
        end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(vectors(guest.cpu) == std::vector<unsigned>{0x60});
    CHECK_FALSE(too_early);
    CHECK(guest.cpu.windows == 3);
}

TEST_CASE("what nobody answers floats", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    std::uint64_t byte = 0;
    std::uint64_t dword = 0;
    guest.cpu.main =
        program{in(0x1234, &byte), out(0x1234, 5), in(0xFFFD, &dword, pt::width::dword)} +
        end_with(0);
    guest.run(second, time);
    CHECK(byte == 0xFF);
    CHECK(dword == 0xFFFF'FFFF);
    CHECK(guest.pc.end() == run_end::exit_port);
}

TEST_CASE("a kernel finds a PCI bus with a host bridge, which nobody can change",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    std::uint64_t id = 0;
    std::uint64_t type = 0;
    std::uint64_t command = 0;
    std::uint64_t beyond = 0;
    const auto select = [](std::uint32_t offset) {
        return out(0xCF8, 0x8000'0000 | offset, pt::width::dword);
    };
    guest.cpu.main = program{select(0x00),
                             in(0xCFC, &id, pt::width::dword),
                             select(0x08),
                             in(0xCFE, &type, pt::width::word),
                             select(0x04),
                             out(0xCFC, 0, pt::width::dword),
                             in(0xCFC, &command, pt::width::word),
                             select(0xFC),
                             in(0xCFC, &beyond, pt::width::dword)} +
                     end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(id == 0x1237'8086);
    CHECK(type == 0x0600);
    CHECK(command == 0x0006);
    CHECK(beyond == 0);
}

TEST_CASE("an MSR that is not there is #GP, and the guest goes on", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    std::uint64_t base = 0;
    std::uint64_t none = 0;
    guest.cpu.handlers[13] = {does([](world& w) { w.skip_interrupted(); }), iret()};
    guest.cpu.main = program{rdmsr(0x1B, &base), rdmsr(0xC001'FFFF, &none), wrmsr(0x1234, 1),
                             wrmsr(0x802, 0) /* x2APIC's, but it is off */} +
                     end_with(0);
    guest.run(second, time);
    CHECK(base == 0xFEE0'0900); // enabled, bootstrap processor
    CHECK(guest.pc.end() == run_end::exit_port);
    REQUIRE(guest.cpu.delivered.size() == 3);
    for (const auto& event : guest.cpu.delivered) {
        CHECK(event == pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0));
    }
}

TEST_CASE("CPUID follows the local APIC", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    const auto leaf = [](std::uint64_t number, std::uint64_t* edx) {
        return exits(
            exit_kind::cpuid,
            [number](world& w) {
                w.general()[general_register::rax] = number;
                w.general()[general_register::rcx] = 0;
            },
            [edx](world& w) { *edx = w.general()[general_register::rdx]; });
    };
    std::uint64_t on = 0;
    std::uint64_t off = 0;
    guest.cpu.main = program{leaf(1, &on), wrmsr(0x1B, 0xFEE0'0100), leaf(1, &off)} + end_with(0);
    guest.run(second, time);
    CHECK((on >> 9 & 1) == 1);
    CHECK((off >> 9 & 1) == 0);
}

TEST_CASE("HLT with interrupts off ends the run", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    guest.cpu.main = {cli(), hlt()};
    const std::uint64_t start = time.now;
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::halted);
    CHECK(time.now - start < millisecond);
}

TEST_CASE("HLT with interrupts off waits where an NMI can come", "[vmm_pc][loop]") {
    for (const program& wired : {io_apic(0x14, 0x400), program{wrmsr(0x835, 0x400)}}) {
        host_time time;
        std::string text;
        basic_pc<decoding_world> guest{time, text};
        guest.cpu.handlers[2] = {iret()};
        guest.cpu.main = initialise_8259(0xFE) + x2apic_on() + wired + timer_at(100) +
                         program{cli(), hlt()} + end_with(3);
        const std::uint64_t start = time.now;
        guest.run(second, time);
        CHECK(guest.pc.end() == run_end::exit_port);
        CHECK(vectors(guest.cpu) == std::vector<unsigned>{2});
        CHECK(time.now - start > 9 * millisecond);
    }
}

TEST_CASE("a guest that hangs has its time and no more", "[vmm_pc][loop]") {
    for (const program& hanging : {program{spin()}, program{sti(), hlt()}}) {
        host_time time;
        std::string text;
        pc guest{time, text};
        guest.cpu.main = hanging;
        const std::uint64_t start = time.now;
        guest.run(2 * second, time);
        CHECK(guest.pc.end() == run_end::time_limit);
        CHECK(time.now - start >= 2 * second);
        CHECK(time.now - start < 2 * second + 100 * millisecond);
    }
}

TEST_CASE("a reset, and turning off, end the run", "[vmm_pc][loop]") {
    const struct {
        program steps;
        run_end expected;
    } cases[] = {
        {{out(0xCF9, 0x02), out(0xCF9, 0x06)}, run_end::reset},
        {{out(0x64, 0xFE)}, run_end::reset},
        {{out(0x92, 0x03)}, run_end::reset},
        {{out(0x604, 0x3400, pt::width::word)}, run_end::power_off},
        {x2apic_on() + program{wrmsr(0x830, 0x4500)}, run_end::reset}, // INIT to itself
    };
    for (const auto& each : cases) {
        host_time time;
        std::string text;
        pc guest{time, text};
        guest.cpu.main = each.steps + program{spin()};
        guest.run(second, time);
        CHECK(guest.pc.end() == each.expected);
    }
}

TEST_CASE("a triple fault ends the run", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    {
        pc guest{time, text};
        guest.cpu.main = {exits(exit_kind::shutdown)};
        guest.run(second, time);
        CHECK(guest.pc.end() == run_end::shutdown);
    }
    pc guest{time, text}; // one that the loop itself would have to raise
    step broken = exits(exit_kind::handled);
    broken.exit.interrupted = pt::vcpu::exception(pt::vcpu::exception_vector::double_fault, 0);
    broken.exit.raise = pt::vcpu::exception(pt::vcpu::exception_vector::page_fault, 2);
    guest.cpu.main = {broken};
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::shutdown);
}

TEST_CASE("an event that an exit has interrupted is delivered again", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    step interrupted = exits(exit_kind::handled);
    interrupted.exit.interrupted = pt::vcpu::external_interrupt(0x77);
    guest.cpu.handlers[0x77] = {does([](world& w) { w.skip_interrupted(); }), iret()};
    guest.cpu.main = program{sti(), interrupted} + end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(vectors(guest.cpu) == std::vector<unsigned>{0x77});
}

TEST_CASE(
    "a processor that does not enter, and an exit that nobody knows, end the run with the reason",
    "[vmm_pc][loop]") {
    for (const exit_kind kind : {exit_kind::failed, exit_kind::other}) {
        host_time time;
        std::string text;
        pc guest{time, text};
        step bad = exits(kind);
        bad.exit.why = "said so";
        bad.exit.words[0] = 0x8000'0021;
        guest.cpu.main = {bad};
        guest.run(second, time);
        CHECK(guest.pc.end() == run_end::failed);
        CHECK(guest.pc.why() == std::string{"said so"});
        const std::string dump = dump_of(guest.pc);
        CHECK(dump.find(std::to_string(0x8000'0021)) != std::string::npos);
        CHECK(dump.find("said so") != std::string::npos);
        CHECK(dump.find(vmm::name(kind)) != std::string::npos);
    }
}

TEST_CASE("an entry that fails with an interrupt on its way ends the run", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    guest.cpu.entry_fails_with = 0x60;
    guest.cpu.main = x2apic_on() + program{sti(), wrmsr(0x83F, 0x60)} + end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::failed);
    CHECK(guest.pc.why() == std::string{"the processor does not enter the guest"});
    CHECK(vectors(guest.cpu).empty());
}

TEST_CASE("the state dump says what a guest that hangs could wait for", "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    {
        pc guest{time, text};
        guest.cpu.main = {out(0x43, 0x30), sti(), hlt()}; // no timer counts
        guest.run(second, time);
        const std::string dump = dump_of(guest.pc);
        CHECK(dump.find("local APIC in xAPIC mode: TPR 0  IRR 0  ISR 0  pending 0  NMI 0  "
                        "LVT timer 65536\n") != std::string::npos);
        CHECK(dump.find("the 8259s ask for nothing; next timer: never\n") != std::string::npos);
    }
    pc guest{time, text};
    guest.cpu.handlers[0x70] = {spin()}; // it never says EOI
    guest.cpu.main = initialise_8259(0xFE) + timer_at(100) + x2apic_on() +
                     program{wrmsr(0x83E, 0xB),           wrmsr(0x832, 0xE1),
                             wrmsr(0x838, 3'000'000'000), // 3 s at 1 GHz
                             wrmsr(0x808, 0x20),          sti(),
                             wrmsr(0x83F, 0x70),          wrmsr(0x83F, 0x71)} +
                     end_with(0);
    guest.run(second, time);
    const std::string dump = dump_of(guest.pc);
    CHECK(dump.find("local APIC in x2APIC mode: TPR 32  IRR 0  ISR 112  pending 0  NMI 0  "
                    "LVT timer 225\n") != std::string::npos);
    const std::string asked = "the 8259s ask for an interrupt; next timer in ";
    REQUIRE(dump.find(asked) != std::string::npos);
    const std::uint64_t left = std::stoull(dump.substr(dump.find(asked) + asked.size()));
    CHECK(left > 0);
    CHECK(left < 10 * millisecond); // of the interval timer's 100 Hz, and not of the 3 s
}

TEST_CASE("instructions at no memory: what pt cannot execute is #UD, and a hypercall too",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    guest.cpu.handlers[6] = {does([](world& w) { w.skip_interrupted(); }), iret()};
    const auto violation = [](std::vector<std::uint8_t> code, std::uint64_t at) {
        step made = exits(exit_kind::memory);
        made.exit.memory = {.address = pt::gpa{at}, .read = true};
        made.exit.code.code = pt::vcpu::code_size::bits_32;
        made.exit.code.count = static_cast<std::uint8_t>(code.size());
        std::copy(code.begin(), code.end(), made.exit.code.bytes);
        return made;
    };
    step fetch = violation({}, 0xA'0000);
    fetch.exit.memory.read = false;
    fetch.exit.memory.execute = true;
    std::uint64_t eax = 0;
    step load = violation({0xA1, 0x00, 0x00, 0x0A, 0x00}, 0xA'0000); // MOV EAX, [0A0000H]
    load.after = [&](world& w) { eax = w.general()[general_register::rax]; };
    guest.cpu.main =
        program{violation({0x0F, 0x10, 0x05, 0x00, 0x00, 0x0A, 0x00}, 0xA'0000), // MOVUPS
                fetch, exits(exit_kind::hypercall), load} +
        end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(vectors(guest.cpu) == std::vector<unsigned>(3, 6));
    CHECK(eax == 0xFFFF'FFFF); // nobody answers there
}

TEST_CASE("page tables where there is no memory are a page fault with reserved bits",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    step walk = exits(exit_kind::memory);
    walk.exit.memory = {.address = pt::gpa{0xA'0000},
                        .read = true,
                        .final_translation = false,
                        .has_linear_address = true,
                        .linear_address = 0x1234'5678};
    guest.cpu.handlers[14] = {does([](world& w) { w.skip_interrupted(); }), iret()};
    guest.cpu.main = program{walk} + end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    REQUIRE(guest.cpu.delivered.size() == 1);
    CHECK(guest.cpu.delivered[0] ==
          pt::vcpu::exception(pt::vcpu::exception_vector::page_fault, 0x9));
    CHECK(guest.cpu.state().cr2 == 0x1234'5678);
}

TEST_CASE("a world that decodes itself reaches the registers of the I/O and the local APIC",
          "[vmm_pc][loop]") {
    host_time time;
    std::string text;
    basic_pc<decoding_world> guest{time, text};
    std::vector<std::uint64_t> seen;
    const auto access = [&](std::uint64_t at, pt::vcpu::memory_access way, std::uint8_t size,
                            std::uint64_t data = 0) {
        step made = exits(exit_kind::device_memory, {},
                          [&](world& w) { seen.push_back(static_cast<decoding_world&>(w).read); });
        made.exit.device = {.address = pt::gpa{at}, .way = way, .size = size, .data = data};
        return made;
    };
    using enum pt::vcpu::memory_access;
    guest.cpu.main = program{access(0xFEC0'0000, write, 4, 1), access(0xFEC0'0010, read, 4),
                             access(0xFEE0'0030, read, 4),     access(0xFEE0'0080, write, 4, 0x20),
                             access(0xFEE0'0080, read, 4),     access(0xFED0'0000, read, 8)} +
                     end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    REQUIRE(seen.size() == 6);
    CHECK(seen[1] == 0x0017'0011);
    CHECK((seen[2] & 0xFF) == 0x14);
    CHECK(seen[4] == 0x20);
    CHECK(seen[5] == ~std::uint64_t{0});
}

TEST_CASE("a world that decodes itself is told the CR8 that the guest's local APIC has",
          "[vmm_pc][loop]") {
    struct without_cr8 : world {
        using world::world;
        void finish_read(std::uint64_t);
    };
    STATIC_REQUIRE_FALSE(vmm::decoding_world<without_cr8>); // or nobody would tell it
    host_time time;
    std::string text;
    basic_pc<decoding_world> guest{time, text};
    unsigned seen = 0;
    guest.cpu.main = x2apic_on() +
                     program{wrmsr(0x808, 0xB0), // TPR
                             does([&](world& w) { seen = static_cast<decoding_world&>(w).cr8; })} +
                     end_with(0);
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(seen == 0xB);
}

TEST_CASE("two guests share one CPU, and their lines do not mix", "[vmm_pc][loop][scheduler]") {
    host_time time;
    std::string text;
    pc first{time, text, 0};
    pc second_guest{time, text, 1};
    first.cpu.main = program{out(0x3F8, 'a'), out(0x3F8, 'x'), spin()};
    second_guest.cpu.main = say("b") + program{spin()};
    pc::virtual_pc* both[] = {&first.pc, &second_guest.pc};
    vmm::scheduler<pc::virtual_pc, host_clock> turns{both, 2, host_clock{&time}};
    turns.run(second);
    CHECK(first.pc.end() == run_end::time_limit);
    CHECK(second_guest.pc.end() == run_end::time_limit);
    // Fair: half of the second each.
    CHECK(first.cpu.ran_for > 480 * millisecond);
    CHECK(second_guest.cpu.ran_for > 480 * millisecond);
    first.com1.flush();
    second_guest.com1.flush();
    CHECK(text == "[0] ax\n[1] b\n");
}

TEST_CASE("a guest that halts gives its time to the other, and is back when its timer is due",
          "[vmm_pc][loop][scheduler]") {
    host_time time;
    std::string text;
    pc sleeper{time, text, 0};
    pc worker{time, text, 1};
    std::vector<std::uint64_t> at;
    sleeper.cpu.handlers[0x20] = {does([&](world&) { at.push_back(time.now); }), out(0x20, 0x20),
                                  iret()};
    sleeper.cpu.main = initialise_8259(0xFE) + timer_at(100) + program{sti(), hlt()};
    for (unsigned i = 0; i != 200; ++i) {
        sleeper.cpu.main.push_back(hlt());
    }
    worker.cpu.main = program{spin()};
    pc::virtual_pc* both[] = {&sleeper.pc, &worker.pc};
    vmm::scheduler<pc::virtual_pc, host_clock>{both, 2, host_clock{&time}}.run(second);
    REQUIRE(at.size() > 95); // 100 Hz for a second
    for (std::size_t i = 2; i != at.size(); ++i) {
        CHECK(at[i] - at[i - 1] > 9 * millisecond);
        CHECK(at[i] - at[i - 1] < 11 * millisecond); // and not a slice later
    }
    CHECK(worker.cpu.ran_for > 980 * millisecond);
}

TEST_CASE("an interrupt of the host reaches the guest that it is for, or the VMM, and is ended",
          "[vmm_pc][loop][scheduler]") {
    host_time time;
    std::string text;
    pc first{time, text, 0};
    pc other{time, text, 1};
    const pt::lapic::message to_guest{.vector = 0x45};
    REQUIRE(first.lists.room().routes.bind(0x50, to_guest));
    REQUIRE(other.lists.room().routes.bind(0x51, to_guest));
    for (pc* each : {&first, &other}) {
        each->cpu.handlers[0x45] = {wrmsr(0x80B, 0), iret()};
    }
    first.cpu.main = x2apic_on() + program{sti(), spin()};
    first.cpu.host_interrupts = {0x50, 0x51, 0x52};
    std::uint64_t woken = 0;
    other.cpu.main =
        x2apic_on() + program{sti(), hlt(), does([&](world&) { woken = time.now; })} + end_with(7);
    std::vector<unsigned> own;
    struct host {
        std::vector<unsigned>* seen;
        unsigned* exits;
        void on_interrupt(std::uint8_t vector) { seen->push_back(vector); }
        void after_exit(std::size_t guest) { ++exits[guest]; }
    };
    unsigned seen_exits[2] = {};
    pc::virtual_pc* both[] = {&other.pc, &first.pc}; // which halts before it comes
    const std::uint64_t start = time.now;
    vmm::scheduler<pc::virtual_pc, host_clock, host>{both, 2, host_clock{&time},
                                                     host{&own, seen_exits}}
        .run(100 * millisecond);
    CHECK(vectors(first.cpu) == std::vector<unsigned>{0x45});
    CHECK(vectors(other.cpu) == std::vector<unsigned>{0x45});
    CHECK(own == std::vector<unsigned>{0x52});
    CHECK(other.pc.end() == run_end::exit_port);
    CHECK(other.pc.exit_code() == 7);
    CHECK(first.pc.end() == run_end::time_limit);
    CHECK(first.cpu.ended_interrupts == 3);
    CHECK(seen_exits[0] == other.pc.exits());
    CHECK(seen_exits[1] == first.pc.exits());
    CHECK(woken - start < 50 * millisecond);
}

TEST_CASE("an interrupt that comes while all guests halt wakes the one that it is for",
          "[vmm_pc][loop][scheduler]") {
    host_time time;
    std::string text;
    pc guest{time, text};
    REQUIRE(guest.lists.room().routes.bind(0x50, {.vector = 0x45}));
    guest.cpu.handlers[0x45] = {wrmsr(0x80B, 0), iret()};
    guest.cpu.main = x2apic_on() + program{sti(), hlt()} + end_with(1);
    guest.cpu.host_interrupts = {0x50};
    const std::uint64_t start = time.now;
    guest.run(second, time);
    CHECK(guest.pc.end() == run_end::exit_port);
    CHECK(time.now - start < millisecond);
    CHECK(guest.cpu.ended_interrupts == 1);
}
