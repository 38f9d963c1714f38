// SPDX-License-Identifier: BSL-1.0
//
// The guest itself: what every other test believes of it, in each mode.
#pragma once

#include "../guest_memory.hpp"
#include "../kernel.hpp"

#include <cstdint>

namespace guest_tests {

template <class Guest>
void first_steps(Guest& machine, kernel::guest_mode mode) {
    using kernel::check;
    using kernel::check_equal;
    using exits = typename Guest::exits;
    machine.start(mode);
    machine.execute({0x90, 0xF4}); // nop; hlt
    check("it halts", machine.exits_with(exits::hlt));
    check_equal("where it should", machine.rip(), Guest::code.raw + 1);

    machine.general.rbx = 0x1234'5678'9ABC'DEF0;
    machine.general.r15 = 15;
    machine.execute({0x89, 0xD8, 0x0F, 0xA2, 0xF4}); // mov %bx, %ax; cpuid; hlt
    check("CPUID exits", machine.exits_with(exits::cpuid));
    const std::uint64_t moved = mode == kernel::guest_mode::real ? 0xDEF0 : 0x9ABC'DEF0;
    check_equal("registers arrive in the guest and come back", machine.general.rax, moved);
    check_equal("the others stay", machine.general.r15, 15);
    machine.skip_instruction();
    check("the guest goes on behind it",
          machine.exits_with(exits::hlt) && machine.rip() == Guest::code.raw + 4);

    machine.execute({0xCD, 0x41, 0xF4}); // int $0x41; hlt
    const kernel::handled_event event = machine.enter_for_event();
    check_equal("an interrupt's handler runs", event.vector, 0x41);
    check_equal("and can return", event.return_address, Guest::code.raw + 2);
    check("there is no error code", event.any && !event.has_error_code);
    machine.end_handler();
    check("it returns", machine.exits_with(exits::hlt));
    check_equal("to where it said", machine.rip(), Guest::code.raw + 2);
    check_equal("with the stack as it was", machine.rsp(), Guest::stack.raw);
}

} // namespace guest_tests
