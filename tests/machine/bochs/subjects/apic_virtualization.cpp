// SPDX-License-Identifier: BSL-1.0
//
// The processor works with pt's register page as its virtual-APIC page: what it reads there is what
// pt's local APIC answers, and what it does there is what pt's local APIC would have done.
#include "../virtual_interrupts.hpp"

#include "pt/vmx/apic_exit.hpp"

namespace {

using kernel::apic_linear;
using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::handled_event;
using kernel::secondary;
using kernel::virtual_interrupts;
using pt::gpa;
using pt::mmio_width;
using pt::vmx::exit_reason;

// Registers by their offsets [sdm, Local APIC Register Address Map].
constexpr std::uint32_t tpr = 0x080;
constexpr std::uint32_t eoi = 0x0B0;

/// No tick ever comes, so that two local APICs can have equal registers.
constexpr kernel::time_stamps standing_clock{.slower_by = 63};

/// A guest in 64-bit mode whose APIC page is the APIC-access page.
class guest_with_page {
public:
    explicit guest_with_page(
        pt::lapic::fixed_interrupts how = pt::lapic::fixed_interrupts::injected)
        : interrupts{machine, how, standing_clock} {
        machine.start(guest_mode::long_64);
        show_apic_page(machine);
        use_apic_access_page(machine);
        interrupts.use_page();
    }

    guest machine;
    virtual_interrupts interrupts;
};

// ------------------------------------------------------------------------------------- TPR shadow

void tpr_shadow() {
    guest machine;
    virtual_interrupts interrupts{machine};
    machine.start(guest_mode::long_64);
    interrupts.use_page();
    auto& apic = interrupts.apic();

    machine.general.rax = 8;
    machine.execute({0x44, 0x0F, 0x22, 0xC0, 0x44, 0x0F, 0x20, 0xC3, 0xF4}); // mov %rax, %cr8
    check("CR8 does not exit", interrupts.runs_until(exit_reason::hlt));     // mov %cr8, %rbx; hlt
    check_equal("the guest reads what it wrote", machine.general.rbx, 8);
    check_equal("pt's local APIC has it as TPR", apic.read(tpr, mmio_width::dword), 0x80);
    check_equal("and as CR8", apic.cr8(), 8);

    // An interrupt of class 4 waits until TPR is below.
    constexpr std::uint8_t vector = 0x45;
    interrupts.raise(vector);
    machine.set_interrupt_flag(true);
    interrupts.decide();
    check("an interrupt that TPR holds back asks for no window",
          !interrupts.decided().event.present && !interrupts.decided().interrupt_window);
    check_equal("but for the threshold", interrupts.decided().tpr_threshold, 4);
    machine.general.rax = 5;
    machine.general.rdx = 4;
    machine.general.rcx = 3;
    machine.execute({0x44, 0x0F, 0x22, 0xC0, // mov %rax, %cr8
                     0x44, 0x0F, 0x22, 0xC2, // mov %rdx, %cr8
                     0x44, 0x0F, 0x22, 0xC1, // mov %rcx, %cr8
                     0x90, 0xF4});           // nop; hlt
    check("the guest exits below the threshold",
          interrupts.runs_until(exit_reason::tpr_below_threshold));
    check_equal("and not before", machine.rip(), guest::code.raw + 12);
    const handled_event found = interrupts.runs_to_handler();
    check("then the interrupt arrives",
          found.any && found.vector == vector && found.return_address == guest::code.raw + 12);
    check_equal("in service, it holds back, not TPR", interrupts.decided().tpr_threshold, 0);

    // One that neither the service nor TPR holds back needs no threshold.
    interrupts.raise(0x75);
    interrupts.decide();
    check("a higher one asks for the window",
          interrupts.decided().interrupt_window && interrupts.decided().tpr_threshold == 0);
}

// ------------------------------------------------------------------------ register virtualization

/// The registers whose reads the processor virtualizes [sdm, Virtualizing Reads from the
/// APIC-Access Page].
constexpr bool is_read_from_page(std::uint32_t offset) {
    switch (offset) {
    case 0x020:
    case 0x030:
    case 0x080:
    case 0x0B0:
    case 0x0D0:
    case 0x0E0:
    case 0x0F0:
    case 0x280:
    case 0x300:
    case 0x310:
    case 0x380:
    case 0x3E0: return true;
    default: return (offset >= 0x100 && offset < 0x280) || (offset >= 0x320 && offset < 0x380);
    }
}

/// Writes that let every register hold something.
struct written {
    std::uint32_t offset;
    std::uint32_t value;
};
constexpr written writes[] = {
    {0x0D0, 0x2100'0000}, {0x0E0, 0x0FFF'FFFF}, {0x0F0, 0x0000'01EF}, {0x320, 0x0002'00D1},
    {0x330, 0x0000'00D2}, {0x340, 0x0001'0400}, {0x350, 0x0000'8700}, {0x360, 0x0000'0400},
    {0x370, 0x0000'00FE}, {0x3E0, 0x0000'000B}, {0x380, 0x1234'5678}, {0x280, 0},
    {0x310, 0x0300'0000},
};

/// Reads each register as the guest does.
void check_reads(guest_with_page& all) {
    guest& machine = all.machine;
    unsigned from_page = 0;
    unsigned equal = 0;
    unsigned wrong = 0;
    for (std::uint32_t offset = 0; offset < 0x400; offset += 0x10) {
        machine.general.rbx = apic_linear + offset;
        machine.execute({0x8B, 0x03, 0x0F, 0x01, 0xC1}); // mov (%rbx), %eax; vmcall
        all.interrupts.decide();
        const bool entered = all.interrupts.enter();
        const exit_reason reason = machine.reason();
        using qualification = pt::vmx::apic_access_qualification;
        const qualification access{machine.qualification()};
        const bool exits = entered && reason == exit_reason::apic_access &&
                           access.offset().value_or(0) == offset &&
                           access[qualification::type] == pt::vmx::apic_access_type::linear_read;
        const bool reads = entered && reason == exit_reason::vmcall;
        if (reads != is_read_from_page(offset) || exits == reads) {
            ++wrong;
            kernel::say("offset ", std::uint64_t{offset}, ": reason ",
                        static_cast<std::uint64_t>(reason), ", qualification ",
                        machine.qualification());
        }
        if (reads) {
            ++from_page;
            const std::uint64_t answer = all.interrupts.apic().read(offset, mmio_width::dword);
            if (machine.general.rax == answer) {
                ++equal;
            } else {
                kernel::say("offset ", std::uint64_t{offset}, ": ", machine.general.rax, " where ",
                            answer, " is pt's answer");
            }
        }
    }
    check_equal("what the manual lists is read from the page", wrong, 0);
    check_equal("as pt's local APIC answers it", equal, from_page);
    check("and there is something", from_page > 30);
}

/// How many registers of the two are not equal.
unsigned differences(virtual_interrupts& one, virtual_interrupts& other) {
    unsigned different = 0;
    for (std::uint32_t offset = 0; offset < 0x400; offset += 0x10) {
        const std::uint64_t a = one.apic().read(offset, mmio_width::dword);
        const std::uint64_t b = other.apic().read(offset, mmio_width::dword);
        if (a != b) {
            ++different;
            kernel::say("offset ", std::uint64_t{offset}, ": ", a, " where ", b, " is written");
        }
    }
    return different;
}

/// Writes registers as the guest does, and by pt to another local APIC.
void check_writes(guest_with_page& all, virtual_interrupts& twin) {
    guest& machine = all.machine;
    unsigned exits = 0;
    unsigned different = 0;
    for (const written& each : writes) {
        machine.general.rbx = apic_linear + each.offset;
        machine.general.rax = each.value;
        machine.execute({0x89, 0x03, 0x0F, 0x01, 0xC1}); // mov %eax, (%rbx); vmcall
        all.interrupts.decide();
        const bool entered = all.interrupts.enter();
        const exit_reason reason = machine.reason();
        using qualification = pt::vmx::apic_write_qualification;
        const std::uint32_t offset =
            qualification{machine.qualification()}[qualification::page_offset];
        // The upper half of ICR is stored without an exit.
        constexpr std::uint32_t icr_high = 0x310;
        if (each.offset == icr_high) {
            exits += entered && reason == exit_reason::vmcall ? 1 : 0;
        } else if (entered && reason == exit_reason::apic_write && offset == each.offset) {
            ++exits;
            static_cast<void>(all.interrupts.apic().apic_write(offset));
        }
        static_cast<void>(twin.apic().write(each.offset, mmio_width::dword, each.value));
        different += differences(all.interrupts, twin);
    }
    check_equal("writes exit behind the instruction", exits, sizeof writes / sizeof writes[0]);
    check_equal("and have the effect of a write to pt's local APIC", different, 0);
}

void register_virtualization() {
    guest_with_page all;
    if (!check("the processor has it", guest::has(secondary::apic_register_virtualization))) {
        return;
    }
    all.machine.turn_on(secondary::apic_register_virtualization);
    virtual_interrupts twin{all.machine, pt::lapic::fixed_interrupts::injected, standing_clock};
    check_writes(all, twin);

    all.interrupts.raise(0x45);
    static_cast<void>(all.interrupts.apic().acknowledge());
    all.interrupts.raise(0xA7);
    all.interrupts.apic().accept(0x93, pt::lapic::trigger_mode::level);
    check_reads(all);
}

// -------------------------------------------------------------------- virtual-interrupt delivery

void write_handlers(guest& machine) {
    constexpr gpa handler_end{0xB000};
    let_handlers_go_to(machine, handler_end);
    machine.execute({0x89, 0x03, 0x48, 0xCF}, handler_end); // mov %eax, (%rbx); iretq
    machine.general.rax = 0;
    machine.general.rbx = apic_linear + eoi;
}

void virtual_delivery() {
    guest_with_page all{pt::lapic::fixed_interrupts::virtual_interrupt_delivery};
    guest& machine = all.machine;
    auto& interrupts = all.interrupts;
    auto& apic = interrupts.apic();
    if (!check("the processor has it", guest::has(secondary::virtual_interrupt_delivery))) {
        return;
    }
    machine.turn_on(secondary::apic_register_virtualization);
    machine.turn_on(secondary::virtual_interrupt_delivery);
    write_handlers(machine);

    constexpr auto level = pt::lapic::trigger_mode::level;
    interrupts.raise(0x45);
    interrupts.raise(0xC1);
    apic.accept(0x93, level);
    apic.accept(0xB3, level);
    machine.execute({0x90, 0xFB, 0x90, 0xF4}); // nop; sti; nop; hlt
    const auto next = [&] {
        const handled_event found = interrupts.runs_to_handler();
        if (found.any) {
            machine.skip_instruction();
        }
        return found.vector;
    };
    // The EOI of a level-triggered vector exits, for the I/O APICs to hear of it.
    const auto ends = [&](std::uint8_t vector) {
        using qualification = pt::vmx::virtualized_eoi_qualification;
        if (!interrupts.runs_until(exit_reason::virtualized_eoi)) {
            return false;
        }
        const pt::lapic::end_of_interrupt ended =
            apic.virtualized_eoi(qualification{machine.qualification()}[qualification::vector])
                .ended;
        return ended.vector == vector && ended.broadcast;
    };

    check_equal("the processor delivers the highest by itself", next(), 0xC1);
    check("nothing was injected, nor a window asked for",
          !interrupts.decided().event.present && !interrupts.decided().interrupt_window);
    check("it is in service",
          apic.registers().isr.highest() == 0xC1 && apic.registers().irr.highest() == 0xB3);
    check_equal("PPR is its class", apic.read(0x0A0, mmio_width::dword), 0xC0);
    // One that arrives meanwhile and is lower than what is in service waits.
    interrupts.raise(0x62);

    check_equal("the EOI of an edge does not exit, and the next handler begins", next(), 0xB3);
    check("the EOI of a level exits, with its vector", ends(0xB3));
    check_equal("then comes another level", next(), 0x93);
    check("whose EOI exits, too", ends(0x93));
    check_equal("then comes what has waited", next(), 0x62);
    check_equal("and then the lowest", next(), 0x45);
    check("the guest goes on",
          interrupts.runs_until(exit_reason::hlt) && machine.rsp() == guest::stack.raw);
    check("nothing is left", apic.registers().irr.highest() == 0 &&
                                 apic.registers().isr.highest() == 0 && apic.pending() == 0 &&
                                 !apic.has_work());
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"tpr_shadow", tpr_shadow};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{
    "apic_register_virtualization", register_virtualization};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{
    "virtual_interrupt_delivery", virtual_delivery};

} // namespace
