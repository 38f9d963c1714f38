// SPDX-License-Identifier: BSL-1.0
#include "pt/lapic/injector.hpp"

#include "pt/core/policy.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/vmx/exit.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt;

/// What the VMM of docs/lapic.md keeps in its VMCS, as far as this matters here.
struct vmcs {
    std::uint64_t rflags = 0x202;
    std::uint32_t interruptibility = 0;
    std::uint32_t idt_vectoring = 0;
    std::uint32_t idt_vectoring_error_code = 0;
    std::uint32_t exit_instruction_length = 0;
    std::uint32_t entry_interruption = 0;
    std::uint32_t entry_error_code = 0;
    std::uint32_t entry_instruction_length = 0;
    std::uint32_t processor_controls = 0;
};

constexpr std::uint32_t interrupt_window_exiting = 1U << 2;

struct guest {
    vmcs* fields;
    constexpr bool can_take_interrupt() {
        return vmx::can_take_external_interrupt(
            fields->rflags, vmx::interruptibility_state{fields->interruptibility},
            vmx::activity_state::active);
    }
};

/// The lines before VM entry in docs/lapic.md.
template <class Injector>
constexpr void before_entry(vmcs& fields, Injector& injector) {
    const auto [event, window] =
        injector.before_entry(vmx::reinject(vmx::idt_vectoring_information{fields.idt_vectoring}));
    fields.entry_interruption = event.raw;
    if (event.needs_error_code()) {
        fields.entry_error_code = fields.idt_vectoring_error_code;
    }
    if (event.needs_instruction_length()) {
        fields.entry_instruction_length = fields.exit_instruction_length;
    }
    if (event.needs_nmi_blocking_cleared()) {
        using blocking = vmx::interruptibility_state;
        fields.interruptibility =
            blocking{fields.interruptibility}.with(blocking::blocking_by_nmi(false)).raw;
    }
    fields.processor_controls = (fields.processor_controls & ~interrupt_window_exiting) |
                                (window ? interrupt_window_exiting : 0);
}

struct machine {
    lapic::register_page page;
    lapic::local_apic apic{page};
    vmcs fields;
    lapic::injector<guest> injector{apic, guest{&fields}};

    constexpr machine() { apic.set_spurious_interrupt_vector(0x1FF); }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    constexpr bool window() const {
        return (fields.processor_controls & interrupt_window_exiting) != 0;
    }
};

static_assert(vcpu_state<guest>);

TEST_CASE("nothing pending: nothing is injected and no window requested", "[lapic][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        before_entry(vm.fields, vm.injector);
        return vm.fields.entry_interruption == 0 && !vm.window();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an interrupt waits for the window while IF is clear or STI or MOV SS blocks",
          "[lapic][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.apic.accept(0x31, lapic::trigger_mode::edge);
        const auto waits = [&](std::uint64_t rflags, std::uint32_t interruptibility) {
            vm.fields.rflags = rflags;
            vm.fields.interruptibility = interruptibility;
            before_entry(vm.fields, vm.injector);
            return vm.fields.entry_interruption == 0 && vm.window() && vm.page.irr.contains(0x31) &&
                   !vm.page.isr.contains(0x31);
        };
        bool good = waits(0x002, 0) && waits(0x202, 1) && waits(0x202, 2);
        // The window opens: it is injected, once, and the request goes away.
        vm.fields.rflags = 0x202;
        vm.fields.interruptibility = 0;
        before_entry(vm.fields, vm.injector);
        good = good && vm.fields.entry_interruption == 0x8000'0031 && !vm.window();
        good = good && !vm.page.irr.contains(0x31) && vm.page.isr.contains(0x31);
        before_entry(vm.fields, vm.injector);
        return good && vm.fields.entry_interruption == 0 && !vm.window();
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an interrupted delivery comes first, and a pending interrupt asks for the window",
          "[lapic][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.apic.accept(0x31, lapic::trigger_mode::edge);
        before_entry(vm.fields, vm.injector);
        bool good = vm.fields.entry_interruption == 0x8000'0031;
        // An EPT violation in the middle of that delivery; meanwhile 0x52, of a higher class, arrives.
        vm.fields.idt_vectoring = 0x8000'1031;
        vm.apic.accept(0x52, lapic::trigger_mode::edge);
        before_entry(vm.fields, vm.injector);
        good = good && vm.fields.entry_interruption == 0x8000'0031 && vm.window();
        good = good && vm.page.irr.contains(0x52) &&
               vm.page.isr.contains(0x31); // neither lost nor doubled
        // The delivery succeeds, the window opens.
        vm.fields.idt_vectoring = 0;
        before_entry(vm.fields, vm.injector);
        good = good && vm.fields.entry_interruption == 0x8000'0052 && !vm.window();
        return good && vm.apic.eoi().vector == 0x52 && vm.apic.eoi().vector == 0x31;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("a lower class that waits for an EOI does not ask for the window", "[lapic][rule 26]") {
    constexpr auto check = [] {
        machine vm;
        vm.apic.accept(0x52, lapic::trigger_mode::edge);
        vm.apic.accept(0x31, lapic::trigger_mode::edge);
        before_entry(vm.fields, vm.injector);
        bool good = vm.fields.entry_interruption == 0x8000'0052 && !vm.window();
        vm.fields.rflags = 0x002; // the handler runs with IF clear
        before_entry(vm.fields, vm.injector);
        good = good && vm.fields.entry_interruption == 0 && !vm.window();
        good = good && vm.apic.eoi().vector == 0x52;
        before_entry(vm.fields, vm.injector);
        good = good && vm.window();
        vm.fields.rflags = 0x202;
        before_entry(vm.fields, vm.injector);
        return good && vm.fields.entry_interruption == 0x8000'0031;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what a re-injected event needs arrives in the VMCS", "[lapic][rule 32]") {
    constexpr auto check = [] {
        machine vm;
        vm.fields.idt_vectoring = 0x8000'1B0E; // page fault
        vm.fields.idt_vectoring_error_code = 6;
        before_entry(vm.fields, vm.injector);
        bool good = vm.fields.entry_interruption == 0x8000'0B0E && vm.fields.entry_error_code == 6;
        vm.fields.idt_vectoring = 0x8000'0480; // INT 0x80
        vm.fields.exit_instruction_length = 2;
        before_entry(vm.fields, vm.injector);
        good = good && vm.fields.entry_interruption == 0x8000'0480 &&
               vm.fields.entry_instruction_length == 2;
        vm.fields.idt_vectoring = 0x8000'0202; // NMI, whose delivery has set blocking by NMI
        vm.fields.interruptibility = 8;
        before_entry(vm.fields, vm.injector);
        return good && vm.fields.entry_interruption == 0x8000'0202 &&
               vm.fields.interruptibility == 0;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an exception of the VMM's own takes the entry as well", "[lapic]") {
    constexpr auto check = [] {
        machine vm;
        vm.apic.accept(0x31, lapic::trigger_mode::edge);
        using entry = vmx::entry_interruption_information;
        const entry general_protection{entry::valid(true), entry::deliver_error_code(true),
                                       entry::type(vmx::interruption_type::hardware_exception),
                                       entry::vector(13)};
        const auto [event, window] = vm.injector.before_entry(general_protection);
        bool good = event.raw == 0x8000'0B0D && window && vm.apic.pending() == 0x31;
        before_entry(vm.fields, vm.injector);
        return good && vm.fields.entry_interruption == 0x8000'0031;
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
