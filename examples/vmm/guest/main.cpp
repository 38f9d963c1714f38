// SPDX-License-Identifier: BSL-1.0
//
// A guest that uses pt as a driver's library: it finds the network controller, moves its BARs,
// takes its interrupts and sends frames, and tells all of it on COM1. It knows nothing of who runs
// it: a virtual machine monitor, or QEMU or a PC itself (multiboot 1). Its end is a write to port
// 0xF4.
//
// Words of the command line:
//   attack=NAME      one of the hostile variants instead; attack=list: their names, one a line
//   tour             the short way through all of it, for somebody who looks on
//   bare             there is nobody below whom an attack could hurt: it leaves that out
//   strict           checks what the manuals say and QEMU does not do, too
//   role=sender, role=receiver, peer=MAC, frames=N   exchanges frames with another guest
//   interrupts=msi-x, msi or wire    that kind only
//   nic=BB:DD.F      which one, if there are several; nic=none: there is none, and what needs one is left out
//   no-loopback      the NIC's PHY has none (Bochs' 82540EM)
//   x2apic           stays in x2APIC mode, if the processor has it
#include "attempt.hpp"
#include "interrupts.hpp"
#include "io_apics.hpp"
#include "link.hpp"
#include "local_apic.hpp"
#include "memory.hpp"
#include "nic.hpp"
#include "output.hpp"
#include "steps.hpp"
#include "variants.hpp"

#include "../../kernel/command_line.hpp"
#include "../../kernel/end.hpp"
#include "../../kernel/mmio.hpp"
#include "../../kernel/multiboot.hpp"
#include "../../kernel/start.hpp"

#include "pt/core/address.hpp"

#include <cstdint>

namespace guest {
namespace {

/// What is written to port 0xF4. QEMU makes 2 * code + 1 of it: 99, and 3.
constexpr std::uint32_t success = 0x31;
constexpr std::uint32_t failure = 0x01;

[[noreturn]] void end() {
    kernel::print("\nend of run: ");
    show(decimal{checks_made()});
    kernel::print(" checks, ");
    show(decimal{checks_failed()});
    kernel::print(" failed\n");
    kernel::end(checks_failed() == 0 && checks_made() != 0 ? success : failure);
}

[[noreturn]] void list_variants() {
    for (const variant& each : variants()) {
        kernel::print(each.name);
        kernel::print("\n");
    }
    kernel::end(success);
}

const variant* find_variant(const char* name) {
    for (const variant& each : variants()) {
        if (kernel::is_word(name, each.name)) {
            return &each;
        }
    }
    return nullptr;
}

/// What came with the kernel, with its FNV-1a sum of 32 bits.
void tell_modules(const kernel::multiboot_information& loaded) {
    if (!loaded.has(kernel::multiboot_information::has_modules)) {
        return;
    }
    for (std::uint32_t i = 0; i != loaded.module_count; ++i) {
        const kernel::multiboot_module& each = *loaded.module(i);
        std::uint32_t sum = 0x811C'9DC5;
        for (std::uint32_t at = each.start; at != each.end; ++at) {
            sum = (sum ^ *kernel::pointer_to<const std::uint8_t>(pt::hpa{at})) * 0x0100'0193;
        }
        tell("module ", kernel::pointer_to<const char>(pt::hpa{each.words}), ": ",
             decimal{each.end - each.start}, " bytes, sum ", decimal{sum});
    }
}

void run_attack(const variant& chosen, nic& device) {
    step("The attack");
    tell(chosen.name, ": ", chosen.what);
    guard_memory();
    chosen.run(device);
    step("Afterwards");
    if (faults_taken() != 0) {
        tell(decimal{faults_taken()},
             " instructions faulted: ", decimal{faults_taken(general_protection)}, " #GP, ",
             decimal{faults_taken(page_fault)}, " #PF, ", decimal{faults_taken(invalid_opcode)},
             " #UD");
    }
    check(memory_is_intact(), "the guest's memory is as it was");
    device.look_again();
    check_that_it_sends(device, chosen.name);
}

void check_timers_and_local_apic() {
    check_local_apic();
    check_x2apic();
    check_interval_timer();
}

void run_as_driver(nic& device) {
    check_bars(device);
    check_timers_and_local_apic();
    check_interrupts(device);
    check_traffic(device);
}

} // namespace
} // namespace guest

void kernel::run(const multiboot_information& loaded) {
    using namespace guest;
    if (kernel::told("attack=list")) {
        list_variants();
    }
    kernel::print("pt's guest: ");
    kernel::print(kernel::command_line());
    kernel::print("\n");

    step("Memory");
    start_memory(loaded);
    tell_modules(loaded);
    const bool counts = guest::clock::start();
    start_interrupts();
    tell_processor();
    check(counts, "the interval timer's channel 2 counts");
    io_apics().look_at_firmware();

    const char* const attack = kernel::told_after("attack=");
    const variant* const chosen = attack != nullptr ? find_variant(attack) : nullptr;
    if (attack != nullptr && chosen == nullptr) {
        kernel::give_up("there is no attack of that name: see attack=list");
    }
    const bool tour = kernel::told("tour");
    const bool without_nic = kernel::told("nic=none");
    if (without_nic && (attack != nullptr || tour || kernel::told_after("role=") != nullptr)) {
        kernel::give_up("an attack, the tour and a role want a network controller: not nic=none");
    }
    if (attack == nullptr && !tour) {
        check_configuration_mechanism();
    }
    check_functions();
    auto device = nic::find();
    if (without_nic) {
        check(!device, "there is no network controller, as was said");
        check_timers_and_local_apic();
        guest::end();
    }
    if (!check(device, "there is a network controller that this driver knows")) {
        guest::end();
    }
    tell("it is ", device->function(), ", and its registers are at ", device->memory().address);
    if (chosen != nullptr) {
        run_attack(*chosen, *device);
    } else if (tour) {
        take_tour(*device);
    } else if (kernel::told_after("role=") != nullptr) {
        exchange_frames(*device);
    } else {
        run_as_driver(*device);
    }
    guest::end();
}
