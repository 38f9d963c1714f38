// SPDX-License-Identifier: BSL-1.0
#include "svm.hpp"

#include "../../../examples/kernel/processor.hpp"

#include "pt/svm/io_exit.hpp"
#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_completion.hpp"

namespace kernel {

// ------------------------------------------------------------------------------- making a guest

guest::guest(pt::hpa vmcb_page)
    : mapped_memory{nested_format(), pt::x86_64::ram, next_entry_flush{vmcb_page}},
      vmcb_{vmcb_page},
      host_{take_frame()},
      maps_{take_large_frame()},
      io_map_{pointer_to(io_pages())},
      msr_map_{pointer_to(msr_pages())} {
    turn_on_svm(take_frame());
}

guest::~guest() {
    retire();
    turn_off_svm();
}

void guest::start(guest_mode mode) {
    general = {};
    build(mode, hypercall);
    map_all();
    static_cast<void>(ports().close(pt::vmx::io_bitmap::all_ports));
    static_cast<void>(msr_map_.close({0, 0xFFFF'FFFF}, pt::vcpu::msr_access::read_write));
    words() = {};
    write_controls();
    write_state();
}

void guest::write_controls() {
    vmcb& to = words();
    for (const intercept each :
         {intercept::intr, intercept::nmi, intercept::cpuid, intercept::hlt, intercept::ioio,
          intercept::msr, intercept::shutdown, intercept::vmrun, intercept::vmmcall}) {
        turn_on(each);
    }
    to.iopm_base_pa = io_pages().raw;
    to.msrpm_base_pa = msr_pages().raw;
    to.guest_asid = 1;
    to.tlb_control = 1;
    using control = pt::svm::virtual_interrupt_control;
    to.interrupt_control = control{control::v_intr_masking(true)};
    to.nested_paging = 1;
    const auto root = tables().root();
    const auto pointer =
        root ? format().nested_cr3(*root) : pt::result<pt::x86_64::cr3>{root.error()};
    if (!pointer) {
        give_up("pt's nested tables are not for this processor");
    }
    to.nested_cr3 = pointer->raw;
}

void guest::write_state() {
    vmcb& to = words();
    const bool real = mode() == guest_mode::real;
    const bool long_mode = mode() == guest_mode::long_64;
    const std::uint32_t limit = real ? 0xFFFF : 0xFFFF'FFFF;
    const std::uint16_t data_attributes = real ? 0x093 : 0xC93;
    const std::uint16_t code_attributes = real ? 0x09B : long_mode ? 0xA9B : 0xC9B;
    const vmcb_segment data_segment{real ? std::uint16_t{0} : data_selector, data_attributes, limit,
                                    0};
    to.es = to.ss = to.ds = to.fs = to.gs = data_segment;
    to.cs = {real ? std::uint16_t{0} : code_selector, code_attributes, limit, 0};
    to.tr = {task_selector, 0x08B, 0x67, 0};
    to.gdtr = {.selector = 0, .attributes = 0, .limit = descriptors_limit, .base = descriptors.raw};
    to.idtr = {
        .selector = 0, .attributes = 0, .limit = gates_size() - 1, .base = gates_of_mode().raw};
    to.cr0 = cr0_extension_type | (real ? 0 : cr0_protection_enable) | (long_mode ? cr0_paging : 0);
    to.cr3 = page_tables.raw;
    to.cr4 = long_mode ? cr4_physical_address_extension : 0;
    to.efer = efer_svm_enable | // VMRUN takes no other, whatever the guest believes [amd]
              (long_mode ? efer_long_mode_enable | efer_long_mode_active : 0);
    to.dr6 = 0xFFFF'0FF0;
    to.dr7 = 0x400;
    to.rflags = rflags_reserved_1;
    to.rsp = stack.raw;
    to.rip = code.raw;
    to.pat = 0x0007'0406'0007'0406; // as after reset
}

// ------------------------------------------------------------------------------ driving a guest

void guest::execute(std::initializer_list<std::uint8_t> instructions, pt::gpa place) {
    put(instructions, place);
    go_to(place);
}

bool guest::interrupt_flag() const { return (words().rflags & rflags_interrupt_flag) != 0; }

void guest::set_interrupt_flag(bool on) {
    const std::uint64_t others = words().rflags & ~rflags_interrupt_flag;
    words().rflags = on ? others | rflags_interrupt_flag : others;
}

std::uint8_t guest::instruction_length() const {
    const auto length = pt::vcpu::instruction_length(
        at<std::uint8_t>(pt::gpa{rip()}), pt::vcpu::longest_instruction, code_size_of(mode()));
    if (!length) {
        say("RIP ", rip());
        give_up("an instruction without a length");
    }
    return *length;
}

pt::result<pt::vcpu::io_instruction> guest::io_instruction() const {
    // QEMU has no decode assists.
    const pt::vcpu::code_size size_of_code = code_size_of(mode());
    const auto prefixes = pt::vcpu::prefixes_of(at<std::uint8_t>(pt::gpa{rip()}),
                                                pt::vcpu::longest_instruction, size_of_code);
    return pt::svm::io_instruction_of(pt::svm::ioio_exit_information{words().exit_info_1},
                                      words().exit_info_2 - rip(),
                                      pt::svm::string_operand_of(prefixes, size_of_code));
}

void guest::skip_instruction() {
    words().rip = pt::vcpu::rip_after(rip(), instruction_length(), code_size_of(mode()));
    words().interrupt_state = words().interrupt_state.after_instruction();
}

void guest::deliver(const pt::vcpu::event& event) {
    using pt::svm::return_address;
    const pt::svm::injection_words what =
        pt::svm::injection_of(event, pt::vcpu::mode_of(words().cr0));
    if (what.injection[pt::svm::event_injection::valid] &&
        !pt::svm::injection_accepted(what.injection)) {
        give_up("pt injects what VMRUN refuses");
    }
    words().injection = what.injection;
    if (what.returns_to == return_address::next_rip && has_next_rip()) {
        words().next_rip = rip() + what.instruction_length;
    } else if (what.returns_to != return_address::rip) {
        words().rip = rip() + what.instruction_length;
    }
}

bool guest::enter() {
    words().rax = general.rax;
    svm_enter(general.by_number(), vmcb_.raw, host_.raw);
    general.rax = words().rax;
    words().tlb_control = 0;
    // QEMU 7.2 stores "invalid" as 32 bits, and the host's state as if it were the guest's.
    return static_cast<std::uint32_t>(reason()) !=
           static_cast<std::uint32_t>(pt::svm::exit_code::invalid);
}

void guest::say_exit() const {
    say("exit ", static_cast<std::uint64_t>(reason()), ", information ", words().exit_info_1, " ",
        words().exit_info_2, ", interrupted ", words().exit_interrupt.raw, ", RIP ", rip());
}

bool guest::exits_with(pt::svm::exit_code expected) {
    if (!enter() || reason() != expected) {
        say_exit();
        return false;
    }
    return true;
}

handled_event guest::handled() const {
    return reason() == pt::svm::exit_code::vmmcall ? handled_at(rip(), rsp()) : handled_event{};
}

handled_event guest::enter_for_event() {
    return exits_with(pt::svm::exit_code::vmmcall) ? handled() : handled_event{};
}

void guest::end_handler() {
    const handled_event ending = handled();
    if (!ending.any) {
        give_up("no handler runs that could end");
    }
    if (ending.has_error_code) {
        words().rsp += slot_size();
    }
    skip_instruction();
}

} // namespace kernel
