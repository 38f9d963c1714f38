// SPDX-License-Identifier: BSL-1.0
//
// Which IN, OUT, INS and OUTS exit, as pt's map says it and as the processor decides it; what an
// exit says of the instruction; and that a guest cannot tell what pt completes from what the
// processor does.
#include "../guest_tests/instructions.hpp"
#include "../guest_tests/io_decisions.hpp"
#include "../guest_tests/io_forms.hpp"
#include "../svm.hpp"

#include "pt/core/width.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/guest_ports.hpp"
#include "pt/vcpu/io_completion.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/string_io.hpp"

namespace {

using guest_tests::exit_says;
using guest_tests::for_each_form;
using guest_tests::hlt;
using guest_tests::io_form;
using guest_tests::port_in_dx;
using kernel::check;
using kernel::guest;
using kernel::guest_mode;
using pt::io_port;
using pt::width;
using pt::svm::exit_code;
using enum pt::vcpu::io_direction;

// -------------------------------------------------------------------------- what the exit says

/// What IN reads of a port that is open. QEMU 7.2 reads 0 where nobody answers an access that is not
/// aligned, and from the hot-plugging of processors, which ends where configuration space begins.
std::uint64_t answer_of_qemu(io_port port, width size) {
    constexpr pt::range<io_port> hot_plugging{io_port{0xCD8}, 0x20};
    const bool aligned = port.raw % size_of(size) == 0;
    return aligned && !hot_plugging.contains(port) ? pt::all_ones(size) : 0;
}

void decisions() {
    guest machine;
    guest_tests::io_decisions{machine, answer_of_qemu}.run();
}

void words() {
    guest machine;
    for_each_form(machine,
                  [&](const io_form& each) { check(each.name, exit_says(machine, each)); });
}

// --------------------------------------------------------------------------------- the completion

/// guest_memory: one to one, each segment from 0 on.
struct flat_memory {
    guest* machine;

    pt::vcpu::guest_place locate(pt::vcpu::logical_address place, std::uint32_t size,
                                 pt::vcpu::memory_access) {
        return {.address = pt::gpa{place.offset}, .size = size};
    }
    void read(pt::gpa place, std::uint8_t* to, std::size_t count) {
        __builtin_memcpy(to, machine->at<void>(place), count);
    }
    void write(pt::gpa place, const std::uint8_t* from, std::size_t count) {
        __builtin_memcpy(machine->at<void>(place), from, count);
    }
};

/// guest_ports: a device that answers with a pattern, and remembers what it is sent.
struct model_port {
    std::uint32_t answer = ~0U; ///< of which an access reads as much as it is wide
    std::uint32_t step = 0;     ///< added after each
    std::uint32_t sent[8] = {};
    unsigned count = 0;

    pt::result<std::uint32_t> read(io_port, width size) {
        const std::uint32_t value = answer & pt::all_ones(size);
        answer += step;
        return value;
    }
    pt::result<void> write(io_port, width, std::uint32_t value) {
        sent[count++ % 8] = value;
        return {};
    }
};
static_assert(pt::vcpu::guest_memory<flat_memory> && pt::vcpu::guest_ports<model_port>);

/// What an exit loop does at an IOIO exit.
bool complete_exit(guest& machine, model_port& device, std::uint32_t elements_at_once) {
    const auto what = machine.io_instruction();
    if (!what) {
        return false;
    }
    if (!what->string) {
        if (what->direction == in) {
            const auto value = device.read(what->port, what->size);
            machine.general.rax =
                pt::vcpu::accumulator_after_in(machine.general.rax, what->size, *value);
        } else if (!device.write(what->port, what->size,
                                 pt::vcpu::out_value(machine.general.rax, what->size))) {
            return false;
        }
        machine.skip_instruction();
        return true;
    }
    flat_memory memory{&machine};
    pt::vcpu::string_registers registers{machine.general.rcx, machine.general.rsi,
                                         machine.general.rdi, machine.words().rflags};
    const auto progress = pt::vcpu::string_io(*what, registers, memory, device, elements_at_once);
    machine.general.rcx = registers.rcx;
    machine.general.rsi = registers.rsi;
    machine.general.rdi = registers.rdi;
    if (progress.state == pt::vcpu::string_io_state::finished) {
        machine.skip_instruction();
    }
    return progress.state == pt::vcpu::string_io_state::finished ||
           progress.state == pt::vcpu::string_io_state::unfinished;
}

/// Goes on until the guest halts, and completes what exits. False: another exit.
bool runs_to_halt(guest& machine, model_port& device, std::uint32_t elements_at_once = 1000) {
    while (machine.enter()) {
        if (machine.reason() == exit_code::hlt) {
            return true;
        }
        if (machine.reason() != exit_code::ioio ||
            !complete_exit(machine, device, elements_at_once)) {
            break;
        }
    }
    machine.say_exit();
    return false;
}

/// What an instruction leaves behind.
struct outcome {
    kernel::registers general;
    std::uint64_t rip;
    std::uint8_t memory[0x400];
};

void reset_data(guest& machine) {
    for (unsigned i = 0; i < sizeof(outcome::memory); ++i) {
        machine.at<std::uint8_t>(guest::data)[i] = static_cast<std::uint8_t>(i * 7 + 1);
    }
}
void keep(const guest& machine, outcome& left) {
    left.general = machine.general;
    left.rip = machine.rip();
    __builtin_memcpy(left.memory, machine.at<void>(guest::data), sizeof left.memory);
}
bool is_same(const outcome& a, const outcome& b) {
    return __builtin_memcmp(&a.general, &b.general, sizeof a.general) == 0 && a.rip == b.rip &&
           __builtin_memcmp(a.memory, b.memory, sizeof a.memory) == 0;
}

/// Each form once by the processor, with the port open, where nobody answers; and with the port
/// closed by pt, once at one go, and once element by element with the guest entered between two.
void beside_the_processor() {
    constexpr std::uint64_t direction_flag = 1U << 10;
    guest machine;
    static outcome by_processor;
    static outcome by_pt;
    for_each_form(machine, [&](const io_form& each) {
        const pt::range<io_port> port{each.what.port, 4};
        bool same = true;
        for (const bool down : {false, true}) {
            const auto prepare = [&] {
                set_registers(machine, each);
                machine.words().rflags &= ~direction_flag;
                machine.words().rflags |= down ? direction_flag : 0;
                reset_data(machine);
            };
            model_port nobody;
            prepare();
            same = machine.ports().open(port) && machine.exits_with(exit_code::hlt) && same;
            keep(machine, by_processor);
            static_cast<void>(machine.ports().close(port));
            for (const std::uint32_t at_once : {1000U, 1U}) {
                prepare();
                same = runs_to_halt(machine, nobody, at_once) && same;
                keep(machine, by_pt);
                same = is_same(by_processor, by_pt) && same;
            }
        }
        machine.words().rflags &= ~direction_flag;
        check(each.name, same);
    });
}

/// And with a device that says something.
void with_a_device() {
    guest machine;
    model_port device{.answer = 0x8765'4321};
    machine.start(guest_mode::long_64);
    const auto run = [&](std::initializer_list<std::uint8_t> instructions) {
        machine.general = {};
        machine.general.rax = 0xFFFF'FFFF'FFFF'FFFF;
        machine.general.rdx = port_in_dx;
        machine.general.rsi = machine.general.rdi = guest::data.raw;
        machine.execute(instructions);
        return runs_to_halt(machine, device);
    };
    kernel::begin_part("IN");
    check("to AL", run({0xEC, hlt}) && machine.general.rax == 0xFFFF'FFFF'FFFF'FF21);
    check("to AX", run({0x66, 0xED, hlt}) && machine.general.rax == 0xFFFF'FFFF'FFFF'4321);
    check("to EAX", run({0xED, hlt}) && machine.general.rax == 0x8765'4321);
    kernel::begin_part("OUT");
    const auto sends = [&](std::initializer_list<std::uint8_t> instructions, std::uint32_t value) {
        device.count = 0;
        return run(instructions) && device.count == 1 && device.sent[0] == value;
    };
    check("of AL", sends({0xEE, hlt}, 0xFF));
    check("of AX", sends({0x66, 0xEF, hlt}, 0xFFFF));
    check("of EAX", sends({0xEF, hlt}, 0xFFFF'FFFF));

    kernel::begin_part("INS");
    device = {.answer = 0x0201, .step = 0x0202};
    // mov $3, %cl; movzx %cl, %ecx; rep insw; hlt
    check("runs", run({0xB1, 0x03, 0x0F, 0xB6, 0xC9, 0x66, 0xF3, 0x6D, hlt}));
    const std::uint8_t stored[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06};
    check("stores what the device says",
          __builtin_memcmp(machine.at<void>(guest::data), stored, sizeof stored) == 0);
    check("and counts", machine.general.rcx == 0 && machine.general.rdi == guest::data.raw + 6);

    kernel::begin_part("OUTS");
    device = {};
    // mov $3, %cl; movzx %cl, %ecx; add $4, %esi; std; rep outsb; cld; hlt
    check("runs",
          run({0xB1, 0x03, 0x0F, 0xB6, 0xC9, 0x83, 0xC6, 0x04, 0xFD, 0xF3, 0x6E, 0xFC, hlt}));
    check("sends downwards what is in memory", device.count == 3 && device.sent[0] == 0x05 &&
                                                   device.sent[1] == 0x04 &&
                                                   device.sent[2] == 0x03);
    check("and counts", machine.general.rcx == 0 && machine.general.rsi == guest::data.raw + 1);
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_io_map", decisions};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_io_exit", words};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"svm_io_completion",
                                                                         beside_the_processor};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject fourth{"svm_io_device",
                                                                          with_a_device};

} // namespace
