// SPDX-License-Identifier: BSL-1.0
//
// Which IN, OUT, INS and OUTS exit, as pt's bitmap says it and as the processor decides it; and
// what an exit says of the instruction.
#include "../../kernel/guest_tests/io_decisions.hpp"
#include "../../kernel/guest_tests/io_forms.hpp"
#include "../vmx.hpp"

#include "pt/vmx/io_exit.hpp"

namespace {

using guest_tests::io_form;
using kernel::guest;
using qualification = pt::vmx::io_instruction_qualification;

/// Nobody answers there on Bochs' machine.
std::uint64_t all_ones(pt::io_port, pt::width size) { return pt::all_ones(size); }

void decisions() {
    guest machine;
    guest_tests::io_decisions{machine, all_ones}.run();
}

void words() {
    guest machine;
    guest_tests::for_each_form(machine, [&](const io_form& each) {
        const bool holds = exit_says(machine, each);
        const auto operand = qualification{machine.qualification()}[qualification::operand];
        using enum pt::vmx::io_operand;
        kernel::check(each.name, holds && operand == (each.immediate ? immediate : dx));
    });
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"io_bitmap", decisions};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"io_instruction", words};

} // namespace
