// SPDX-License-Identifier: BSL-1.0
//
// Events that VMRUN delivers by pt's words: the guest's own handler runs, with the return address,
// the flags and the error code that it would find without a hypervisor.
#include "../guest_tests/injection.hpp"
#include "../svm.hpp"

#include "pt/svm/event.hpp"
#include "pt/vcpu/event.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using pt::svm::event_injection;
using tests = guest_tests::injection<guest>;

/// VMRUN asks nothing: this is why pt asks.
void nothing_is_asked(guest& machine, tests& all) {
    all.prepare();
    machine.set_interrupt_flag(false);
    check("pt would not inject while RFLAGS.IF is 0",
          !pt::svm::can_take_external_interrupt(machine.words().rflags,
                                                machine.words().interrupt_state,
                                                machine.words().interrupt_control));
    machine.deliver(pt::vcpu::external_interrupt(0x77));
    check_equal("the processor would", machine.enter_for_event().vector, 0x77);
}

/// Which words VMRUN refuses. Of the exceptions, 31 is left out: it is one of those that [amd]
/// reserves, and a processor may refuse them. QEMU 7.2 does so with 31 and with no other.
void refused(guest& machine, tests& all) {
    unsigned wrong = 0;
    unsigned refusals = 0;
    for (unsigned type = 0; type < 8; ++type) {
        for (unsigned vector = 0; vector < 256; ++vector) {
            using pt::svm::injection_type;
            const injection_type kind{static_cast<std::uint8_t>(type)};
            if (kind == injection_type::exception && vector == 31) {
                continue;
            }
            const event_injection words{event_injection::valid(true), event_injection::type(kind),
                                        event_injection::vector(static_cast<std::uint8_t>(vector))};
            // Each time anew: QEMU 7.2 leaves the host's state in a VMCB that it refuses.
            machine.start(guest_mode::protected_32);
            all.prepare();
            machine.words().injection = words;
            const bool entered = machine.enter();
            refusals += entered ? 0 : 1;
            if (entered != pt::svm::injection_accepted(words)) {
                ++wrong;
                kernel::say("EVENTINJ ", words.raw);
            }
        }
    }
    check_equal("pt knows what VMRUN refuses", wrong, 0);
    // Four reserved types, and no exception has the vector 2 or one from 32 on.
    check_equal("and it does refuse", refusals, 4 * 256 + 1 + 224);
}

void run() {
    guest machine;
    // Without V_NMI, what else there is to say of an NMI only the VMM knows.
    tests all{machine, [](const guest&, const pt::vcpu::event&) { return true; }};
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        all.every_kind();
        all.every_vector();
        nothing_is_asked(machine, all);
    }
    kernel::begin_part(nullptr);
    refused(machine, all);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"svm_injection", run};

} // namespace
