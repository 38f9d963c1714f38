// SPDX-License-Identifier: BSL-1.0
#include "svm.hpp"

#include "pt/vcpu/instruction_length.hpp"
#include "pt/vcpu/io_completion.hpp"

extern "C" void svm_enter(kernel::registers* general, std::uint64_t vmcb, std::uint64_t host);

namespace kernel {
namespace {

// ------------------------------------------------------------------------- the processor itself

enum class msr : std::uint32_t {
    efer = 0xC000'0080,
    vm_cr = 0xC001'0114,
    vm_hsave_pa = 0xC001'0117,
};

std::uint64_t read_msr(msr which) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(which));
    return std::uint64_t{high} << 32 | low;
}

void write_msr(msr which, std::uint64_t value) {
    asm volatile("wrmsr" : : "c"(which), "a"(value), "d"(value >> 32) : "memory");
}

struct cpuid_leaf {
    std::uint32_t a = 0;
    std::uint32_t b = 0;
    std::uint32_t c = 0;
    std::uint32_t d = 0;
};
cpuid_leaf cpuid(std::uint32_t leaf) {
    cpuid_leaf found{.a = leaf};
    asm volatile("cpuid" : "+a"(found.a), "=b"(found.b), "+c"(found.c), "=d"(found.d));
    return found;
}

constexpr std::uint64_t efer_no_execute_enable = 1U << 11;
constexpr std::uint64_t efer_svm_enable = 1U << 12;
constexpr std::uint64_t vm_cr_svm_disable = 1U << 4;
constexpr std::uint64_t efer_long_mode_enable = 1U << 8;
constexpr std::uint64_t efer_long_mode_active = 1U << 10;
constexpr std::uint64_t cr0_protection_enable = 1U << 0;
constexpr std::uint64_t cr0_extension_type = 1U << 4;
constexpr std::uint64_t cr0_paging = 1U << 31;
constexpr std::uint64_t cr4_physical_address_extension = 1U << 5;
constexpr std::uint64_t rflags_reserved_1 = 1U << 1;
constexpr std::uint64_t rflags_interrupt_flag = 1U << 9;

pt::x86_64::nested_paging nested_format() {
    constexpr std::uint32_t pages_1g = 1U << 26;
    return pt::x86_64::nested_paging{cpuid(0x8000'0008).a & 0xFF,
                                     {.pages_1g = (cpuid(0x8000'0001).d & pages_1g) != 0}};
}

} // namespace

// ------------------------------------------------------------------------------- making a guest

guest::guest()
    : frames_before_{frames_in_use()},
      nested_{memory(), nested_format()},
      vmcb_{take_frame()},
      host_{take_frame()},
      maps_{take_large_frame()},
      io_map_{pointer_to(io_pages())},
      msr_map_{pointer_to(msr_pages())} {
    if ((read_msr(msr::vm_cr) & vm_cr_svm_disable) != 0) {
        give_up("firmware has disabled SVM");
    }
    constexpr std::uint32_t nested_paging = 1U << 0;
    if ((cpuid(0x8000'000A).d & nested_paging) == 0) {
        give_up("a processor without nested paging");
    }
    // The host's no-execute enable is that of the nested tables as well.
    write_msr(msr::efer, read_msr(msr::efer) | efer_svm_enable | efer_no_execute_enable);
    write_msr(msr::vm_hsave_pa, take_frame().raw);
}

guest::~guest() {
    tlb hardware{words()};
    check("the nested tables are retired", nested_.retire().redeem(hardware));
    check_equal("every frame of the nested tables is back", frames_in_use(), frames_before_);
    write_msr(msr::efer, read_msr(msr::efer) & ~(efer_svm_enable | efer_no_execute_enable));
}

void guest::start(guest_mode mode) {
    general = {};
    build(mode, {0x0F, 0x01, 0xD9}); // vmmcall
    tlb hardware{words()};
    auto mapped = nested_.remap({pt::gpa{0}, size}, host_address(pt::gpa{0}), pt::x86_64::ram,
                                pt::paging::page_size::size_4k);
    if (!mapped || !mapped->redeem(hardware)) {
        give_up("the guest's memory is not mapped");
    }
    ports().close(pt::vmx::io_bitmap::all_ports);
    msr_map_.close({0, 0xFFFF'FFFF}, pt::vcpu::msr_access::read_write);
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
    const auto root = nested_.root();
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

void guest::skip_instruction() {
    words().rip = pt::vcpu::rip_after(rip(), instruction_length(), code_size_of(mode()));
    words().interrupt_state = words().interrupt_state.after_instruction();
}

void guest::turn_on(intercept what) {
    const auto bit = static_cast<unsigned>(what);
    words().intercepts[bit / 32] |= 1U << (bit % 32);
}

void guest::turn_off(intercept what) {
    const auto bit = static_cast<unsigned>(what);
    words().intercepts[bit / 32] &= ~(1U << (bit % 32));
}

bool guest::has_next_rip() {
    constexpr std::uint32_t next_rip_save = 1U << 3;
    return (cpuid(0x8000'000A).d & next_rip_save) != 0;
}

void guest::deliver(const pt::vcpu::event& event) {
    using pt::svm::return_address;
    const pt::svm::injection_words what = pt::svm::injection_of(event);
    words().injection = what.injection;
    if (what.returns_to == return_address::next_rip && has_next_rip()) {
        words().next_rip = rip() + what.instruction_length;
    } else if (what.returns_to != return_address::rip) {
        words().rip = rip() + what.instruction_length;
    }
}

bool guest::enter() {
    words().rax = general.rax;
    svm_enter(&general, vmcb_.raw, host_.raw);
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

// ----------------------------------------------------------------------------------- its memory

pt::result<> guest::tlb::invalidate(const pt::paging::stale_set<pt::gpa>&) {
    words_.tlb_control = 1; // all of it, whatever ASID
    return {};
}

void guest::protect(pt::gpa page, pt::x86_64::attributes rights) {
    tlb hardware{words()};
    auto changed = nested_.protect({page, 4 * pt::KiB}, rights);
    if (!changed || !changed->redeem(hardware)) {
        give_up("a page is not protected");
    }
}

void guest::unmap(pt::gpa page) {
    tlb hardware{words()};
    auto changed = nested_.unmap({page, 4 * pt::KiB});
    if (!changed || !changed->redeem(hardware)) {
        give_up("a page is not unmapped");
    }
}

void guest::map(pt::gpa page) {
    tlb hardware{words()};
    auto changed = nested_.remap({page, 4 * pt::KiB}, host_address(page), pt::x86_64::ram);
    if (!changed || !changed->redeem(hardware)) {
        give_up("a page is not mapped");
    }
}

std::uint64_t* guest::entry_place(pt::gpa page, unsigned level) {
    const auto root = nested_.root();
    if (!root) {
        give_up("there are no tables");
    }
    pt::hpa table = *root;
    for (unsigned at_level = format().levels();; --at_level) {
        std::uint64_t* const place =
            pointer_to(table) + (page.raw >> (12 + 9 * (at_level - 1)) & 0x1FF);
        if (at_level == level) {
            return place;
        }
        table = pt::paging::frame_of<pt::x86_64::nested_paging>(*place, at_level);
    }
}

void guest::write_entry(pt::gpa page, std::uint64_t entry, unsigned level) {
    *static_cast<volatile std::uint64_t*>(entry_place(page, level)) = entry;
    words().tlb_control = 1;
}

std::uint64_t guest::entry(pt::gpa page, unsigned level) { return *entry_place(page, level); }

} // namespace kernel
