// SPDX-License-Identifier: BSL-1.0
//
// Which RDMSR and WRMSR exit, as pt's bitmap says it and as the processor decides it; and the
// x2APIC's MSRs, which the bitmap leaves to a processor that virtualizes them.
#include "../../kernel/random.hpp"
#include "../virtual_interrupts.hpp"

#include "pt/vcpu/msr.hpp"
#include "pt/vmx/msr_bitmap.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::processor_based;
using kernel::secondary;
using kernel::virtual_interrupts;
using kernel::vmcs_field;
using kernel::vmwrite;
using pt::vcpu::msr_access;
using pt::vmx::exit_reason;
using pt::vmx::msr_bitmap;
using pt::vmx::x2apic_virtualization;

/// A bitmap that the guest runs with, all closed.
msr_bitmap use_bitmap(guest& machine, pt::hpa page) {
    vmwrite(vmcs_field::msr_bitmap, page.raw);
    machine.turn_on(processor_based::msr_bitmaps);
    return msr_bitmap{kernel::pointer_to(page)};
}

/// Executes RDMSR or WRMSR, and gives why the guest exits: for that, or by the VMCALL behind it or
/// in the handler of #GP.
exit_reason access(guest& machine, std::uint32_t msr, msr_access how, std::uint32_t value = 0) {
    machine.general.rcx = msr;
    machine.general.rax = value;
    machine.general.rdx = 0;
    const auto opcode = static_cast<std::uint8_t>(how == msr_access::read ? 0x32 : 0x30);
    machine.execute({0x0F, opcode, 0x0F, 0x01, 0xC1}); // rdmsr or wrmsr; vmcall
    vmwrite(vmcs_field::guest_rsp, guest::stack.raw);
    return machine.enter() ? machine.reason() : exit_reason::entry_failure_guest_state;
}

struct tally {
    unsigned exits = 0;
    unsigned passes = 0;
    unsigned wrong = 0;
};

void try_access(guest& machine, const msr_bitmap& bitmap, std::uint32_t msr, msr_access how,
                tally& all) {
    const exit_reason own = how == msr_access::read ? exit_reason::rdmsr : exit_reason::wrmsr;
    const bool expected = bitmap.exits(msr, how);
    const exit_reason got = access(machine, msr, how);
    all.exits += got == own ? 1 : 0;
    all.passes += got == exit_reason::vmcall ? 1 : 0;
    if (got != (expected ? own : exit_reason::vmcall)) {
        if (++all.wrong <= 4) {
            kernel::say("MSR ", std::uint64_t{msr}, ", access ", static_cast<std::uint64_t>(how),
                        ": reason ", static_cast<std::uint64_t>(got));
        }
    }
}

/// Both accesses to each MSR of the range.
void try_range(guest& machine, const msr_bitmap& bitmap, pt::vcpu::msr_range msrs, tally& all) {
    for (std::uint32_t i = 0; i <= msrs.last - msrs.first; ++i) {
        try_access(machine, bitmap, msrs.first + i, msr_access::read, all);
        try_access(machine, bitmap, msrs.first + i, msr_access::write, all);
    }
}

void decisions() {
    // Numbers that the processor has no registers at, around the ends of what the page has bits
    // for.
    constexpr pt::vcpu::msr_range ranges[] = {{0x1E80, 0x1FFF}, {0xC000'1E80, 0xC000'1FFF}};
    guest machine;
    machine.start(guest_mode::long_64);
    msr_bitmap bitmap = use_bitmap(machine, kernel::take_frame());

    tally closed;
    for (const pt::vcpu::msr_range& each : ranges) {
        try_range(machine, bitmap, each, closed);
    }
    check("all closed, all exits", closed.wrong == 0 && closed.passes == 0 && closed.exits != 0);

    tally some;
    kernel::random_numbers random{0x2545'F491};
    bool opened = true;
    for (const pt::vcpu::msr_range& each : ranges) {
        for (std::uint32_t msr = each.first; msr <= each.last; ++msr) {
            const std::uint32_t how = random() % 4;
            opened = opened && (how == 0 || bitmap.open(msr, msr_access{std::uint8_t(how)}));
        }
    }
    for (const pt::vcpu::msr_range& each : ranges) {
        try_range(machine, bitmap, each, some);
    }
    check("some open", opened);
    check_equal("every decision is the processor's", some.wrong, 0);
    check("and both happen", some.exits > 300 && some.passes > 300);

    tally open;
    for (const pt::vcpu::msr_range& each : ranges) {
        opened = opened && bitmap.open(each, msr_access::read_write);
        try_range(machine, bitmap, each, open);
    }
    check("all open, nothing exits", opened && open.wrong == 0 && open.exits == 0);

    tally outside;
    constexpr pt::vcpu::msr_range without_bit[] = {{0x2000, 0x2010},
                                                   {0x3FF0, 0x4010},
                                                   {0xBFFF'FFF0, 0xBFFF'FFFF},
                                                   {0xC000'2000, 0xC000'2010},
                                                   {0xFFFF'FFF0, 0xFFFF'FFFF}};
    for (const pt::vcpu::msr_range& each : without_bit) {
        try_range(machine, bitmap, each, outside);
    }
    check("what has no bit exits", outside.wrong == 0 && outside.passes == 0);
}

// -------------------------------------------------------------------------------- the x2APIC's
// MSRs

struct level {
    const char* name;
    x2apic_virtualization by_the_processor;
    unsigned reads; ///< so many registers the processor reads from the page
    void (*turn_on)(guest&);
};
constexpr level levels[] = {
    {"nothing virtualized", x2apic_virtualization::none, 0, [](guest&) {}},
    {"TPR shadow", x2apic_virtualization::tpr_shadow, 1,
     [](guest& machine) { machine.turn_on(secondary::virtualize_x2apic_mode); }},
    {"register virtualization", x2apic_virtualization::register_reads, 39,
     [](guest& machine) {
         machine.turn_on(secondary::virtualize_x2apic_mode);
         machine.turn_on(secondary::apic_register_virtualization);
     }},
    {"interrupt delivery", x2apic_virtualization::interrupt_delivery, 40,
     [](guest& machine) {
         machine.turn_on(secondary::virtualize_x2apic_mode);
         machine.turn_on(secondary::apic_register_virtualization);
         machine.turn_on(secondary::virtual_interrupt_delivery);
     }},
};

/// A local APIC in x2APIC mode whose registers hold something.
void fill(virtual_interrupts::apic_type& apic) {
    constexpr std::uint64_t x2apic_enabled_bootstrap = 0xFEE0'0D00;
    static_cast<void>(apic.write_msr(0x1B, x2apic_enabled_bootstrap));
    constexpr std::uint32_t values[][2] = {
        {0x80F, 0x1EF}, {0x832, 0x2'00D1},    {0x833, 0xD2}, {0x835, 0x1'0700},
        {0x837, 0xFE},  {0x838, 0x1234'5678}, {0x83E, 0xB}};
    for (const auto& each : values) {
        static_cast<void>(apic.write_msr(each[0], each[1]));
    }
}

void check_reads(guest& machine, const msr_bitmap& bitmap, virtual_interrupts& interrupts,
                 unsigned expected) {
    unsigned answered = 0;
    unsigned wrong = 0;
    for (std::uint32_t msr = 0x800; msr <= 0x8FF; ++msr) {
        const exit_reason got = access(machine, msr, msr_access::read);
        if (bitmap.exits(msr, msr_access::read)) {
            wrong += got == exit_reason::rdmsr ? 0 : 1;
            continue;
        }
        ++answered;
        const auto answer = interrupts.apic().read_msr(msr);
        const std::uint64_t read = machine.general.rdx << 32 | machine.general.rax;
        if (got != exit_reason::vmcall || machine.handled().any || !answer || *answer != read) {
            ++wrong;
            kernel::say("MSR ", std::uint64_t{msr}, ": reason ", static_cast<std::uint64_t>(got),
                        ", ", read, " where pt has ", answer.value_or(0));
        }
    }
    check_equal("so many reads do not exit", answered, expected);
    check_equal("they give what pt's local APIC has, the others exit", wrong, 0);
}

void check_writes(guest& machine, const msr_bitmap& bitmap, virtual_interrupts& interrupts) {
    constexpr std::uint32_t tpr = 0x808;
    unsigned wrong = 0;
    for (std::uint32_t msr = 0x800; msr <= 0x8FF; ++msr) {
        if (bitmap.exits(msr, msr_access::write)) {
            wrong += access(machine, msr, msr_access::write) == exit_reason::wrmsr ? 0 : 1;
        }
    }
    check_equal("a closed write exits", wrong, 0);
    if (!bitmap.exits(tpr, msr_access::write)) {
        const exit_reason got = access(machine, tpr, msr_access::write, 0x30);
        interrupts.apic().after_hardware();
        check("TPR is written without an exit",
              got == exit_reason::vmcall && interrupts.apic().read_msr(tpr).value_or(0) == 0x30);
    }
}

/// The guest interrupts itself and signals the end, and neither exits.
void check_self_ipi(guest& machine, virtual_interrupts& interrupts) {
    constexpr std::uint8_t vector = 0x51;
    constexpr pt::gpa handler_end{0xB000};
    let_handlers_go_to(machine, handler_end);
    machine.execute({0xB9, 0x0B, 0x08, 0x00, 0x00, // mov $0x80B, %ecx
                     0x31, 0xC0, 0x31, 0xD2,       // xor %eax, %eax; xor %edx, %edx
                     0x0F, 0x30, 0x48, 0xCF},      // wrmsr; iretq
                    handler_end);
    machine.general.rcx = 0x83F;
    machine.general.rax = vector;
    machine.execute({0x0F, 0x30, 0xFB, 0x90, 0xF4}); // wrmsr; sti; nop; hlt
    const kernel::handled_event found = interrupts.runs_to_handler();
    const pt::lapic::register_page& page = interrupts.apic().registers();
    check("a self-IPI arrives without an exit",
          found.any && found.vector == vector && page.isr.highest() == vector);
    machine.skip_instruction();
    check("and ends without one", interrupts.runs_until(exit_reason::hlt) &&
                                      page.isr.highest() == 0 && interrupts.apic().pending() == 0);
}

void x2apic() {
    guest machine;
    const pt::hpa page = kernel::take_frame();
    check("the processor virtualizes x2APIC mode", guest::has(secondary::virtualize_x2apic_mode));
    for (const level& each : levels) {
        kernel::begin_part(each.name);
        const bool delivers = each.by_the_processor == x2apic_virtualization::interrupt_delivery;
        virtual_interrupts interrupts{
            machine, delivers ? pt::lapic::fixed_interrupts::virtual_interrupt_delivery
                              : pt::lapic::fixed_interrupts::injected};
        machine.start(guest_mode::long_64);
        msr_bitmap bitmap = use_bitmap(machine, page);
        static_cast<void>(bitmap.virtualize_x2apic(each.by_the_processor));
        interrupts.use_page();
        each.turn_on(machine);
        fill(interrupts.apic());
        interrupts.decide();
        check_reads(machine, bitmap, interrupts, each.reads);
        check_writes(machine, bitmap, interrupts);
        if (delivers) {
            check_self_ipi(machine, interrupts);
        }
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"msr_bitmap", decisions};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"x2apic_msrs", x2apic};

} // namespace
