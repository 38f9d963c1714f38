// SPDX-License-Identifier: BSL-1.0
//
// Events that VM entry delivers by pt's words: the guest's own handler runs, with the return
// address, the flags and the error code that it would find without a hypervisor.
#include "../../kernel/guest_tests/injection.hpp"
#include "../vmx.hpp"

#include "pt/vcpu/event.hpp"
#include "pt/vmx/interruptibility.hpp"

namespace {

using kernel::check;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::vmcs_field;
using pt::vcpu::event;
using pt::vmx::exit_reason;
using tests = guest_tests::injection<guest>;

/// An NMI blocks others, and nothing else does.
bool blocks_nmis_rightly(const guest& machine, const event& delivered) {
    return machine.blocking()[pt::vmx::interruptibility_state::blocking_by_nmi] ==
           (delivered.type == pt::vcpu::event_type::nmi);
}

void wakes(guest& machine, tests& all, const char* name, const event& what) {
    all.prepare();
    machine.go_to(guest::code + tests::nops + 1); // behind HLT
    vmwrite(vmcs_field::guest_activity, static_cast<std::uint64_t>(pt::vmx::activity_state::hlt));
    machine.deliver(what);
    const handled_event found = machine.enter_for_event();
    const bool holds = all.is_right(found, what, tests::nops + 1) &&
                       vmread(vmcs_field::guest_activity) ==
                           static_cast<std::uint64_t>(pt::vmx::activity_state::active);
    if (!found.any) {
        check(name, false);
    } else {
        // To its IRET, too: where a VM entry must end blocking by NMI, Bochs 2.7 keeps it.
        machine.end_handler();
        check(name, machine.exits_with(exit_reason::hlt) && holds);
    }
}

void run() {
    guest machine;
    tests all{machine, blocks_nmis_rightly};
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        all.every_kind();
        all.every_vector();
        wakes(machine, all, "an interrupt ends HLT", pt::vcpu::external_interrupt(0x31));
        wakes(machine, all, "so does an NMI", pt::vcpu::nmi());
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"injection", run};

} // namespace
