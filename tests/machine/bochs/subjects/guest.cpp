// SPDX-License-Identifier: BSL-1.0
//
// The guest itself: what every other subject believes of it, in each mode.
#include "../vmx.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using pt::vmx::exit_reason;

void run() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        kernel::begin_part(name(mode));
        machine.start(mode);
        machine.execute({0x90, 0xF4}); // nop; hlt
        check("it halts", machine.exits_with(exit_reason::hlt));
        check_equal("where it should", machine.rip(), guest::code.raw + 1);

        machine.general.rbx = 0x1234'5678'9ABC'DEF0;
        machine.general.r15 = 15;
        machine.execute({0x89, 0xD8, 0x0F, 0xA2}); // mov %bx, %ax; cpuid
        check("CPUID exits", machine.exits_with(exit_reason::cpuid));
        const std::uint64_t moved = mode == guest_mode::real ? 0xDEF0 : 0x9ABC'DEF0;
        check_equal("registers arrive in the guest and come back", machine.general.rax, moved);
        check_equal("the others stay", machine.general.r15, 15);

        machine.execute({0xCD, 0x41, 0xF4}); // int $0x41; hlt
        const kernel::handled_event event = machine.enter_for_event();
        check_equal("an interrupt's handler runs", event.vector, 0x41);
        check_equal("and can return", event.return_address, guest::code.raw + 2);
        check("there is no error code", event.any && !event.has_error_code);
        machine.end_handler();
        check("it returns", machine.exits_with(exit_reason::hlt));
        check_equal("to where it said", machine.rip(), guest::code.raw + 2);
        check_equal("with the stack as it was", machine.rsp(), guest::stack.raw);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"guest", run};

} // namespace
