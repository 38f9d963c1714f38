// SPDX-License-Identifier: BSL-1.0
#include "vmx.hpp"

#include "end.hpp"
#include "mmio.hpp"
#include "output.hpp"

extern "C" const char vmx_exit[]; // in vmx_entry.S

namespace kernel {
namespace {

struct feature_control : pt::reg<feature_control, std::uint64_t> {
    using reg::reg;
    static constexpr bits<2, 2, bool> vmx_outside_smx{};
    static constexpr bits<0, 0, bool> locked{};
    static constexpr pt::field_list fields{vmx_outside_smx, locked};
};

/// A register of a descriptor table as SGDT and SIDT store it.
struct [[gnu::packed]] table_register {
    std::uint16_t limit;
    std::uint64_t base;
};

} // namespace

void no_such_field(vmcs_field field) {
    print_line("  VMREAD or VMWRITE of ", static_cast<std::uint64_t>(field));
    give_up("there is no such field");
}

pt::result<> invept::invalidate(const pt::paging::stale_set<pt::gpa>&) {
    constexpr std::uint64_t all_contexts = 2;
    const std::uint64_t descriptor[2] = {0, 0};
    bool failed = false;
    asm volatile("invept %1, %2; setna %0"
                 : "=q"(failed)
                 : "m"(descriptor), "r"(all_contexts)
                 : "memory");
    if (failed) {
        return pt::error{pt::errc::hardware_fault, all_contexts};
    }
    return {};
}

std::uint32_t with_required(msr capability, std::uint32_t wanted) {
    const std::uint64_t reported = read_msr(capability);
    const auto required = static_cast<std::uint32_t>(reported);
    const auto allowed = static_cast<std::uint32_t>(reported >> 32);
    if ((wanted & ~allowed) != 0) {
        print_line("  of ", static_cast<std::uint64_t>(capability), ": ",
                   std::uint64_t{wanted & ~allowed});
        give_up("the processor lacks a control that is needed");
    }
    return wanted | required;
}

bool allows(msr capability, std::uint32_t control) {
    return (read_msr(capability) >> 32 & control) == control;
}

void enter_vmx_operation(pt::hpa region) {
    constexpr std::uint32_t vmx = 1U << 5; // CPUID 01H, ECX
    if ((cpuid(1).c & vmx) == 0) {
        give_up("a processor without VMX");
    }
    const feature_control firmware{read_msr(msr::feature_control)};
    if (!firmware[feature_control::locked]) {
        write_msr(
            msr::feature_control,
            firmware.with(feature_control::locked(true), feature_control::vmx_outside_smx(true))
                .raw);
    }
    const vmx_basic basic{read_msr(msr::vmx_basic)};
    if (!basic[vmx_basic::true_controls]) {
        give_up("a processor with the first version of VMX");
    }
    write_cr0(read_cr0() | read_msr(msr::vmx_cr0_fixed_0));
    write_cr4(read_cr4() | read_msr(msr::vmx_cr4_fixed_0));
    *pointer_to<std::uint32_t>(region) = basic[vmx_basic::revision];
    bool failed = false;
    asm volatile("vmxon %1; setna %0" : "=q"(failed) : "m"(region.raw) : "memory");
    if (failed) {
        give_up("VMXON fails");
    }
}

void leave_vmx_operation() { asm volatile("vmxoff" : : : "memory"); }

void prepare_vmcs(pt::hpa region) {
    *pointer_to<std::uint32_t>(region) = vmx_basic{read_msr(msr::vmx_basic)}[vmx_basic::revision];
    clear_vmcs(region);
}

void clear_vmcs(pt::hpa region) {
    bool failed = false;
    asm volatile("vmclear %1; setna %0" : "=q"(failed) : "m"(region.raw) : "memory");
    if (failed) {
        give_up("VMCLEAR fails");
    }
}

void make_current(pt::hpa vmcs) {
    bool failed = false;
    asm volatile("vmptrld %1; setna %0" : "=q"(failed) : "m"(vmcs.raw) : "memory");
    if (failed) {
        give_up("no VMCS becomes current");
    }
}

void write_host_state() {
    vmwrite(vmcs_field::host_cr0, read_cr0());
    vmwrite(vmcs_field::host_cr3, read_cr3());
    vmwrite(vmcs_field::host_cr4, read_cr4());
    // As in boot.S. It has no task-state segment, but the field must not be 0, and nobody looks
    // behind it as long as no stack is switched.
    constexpr std::uint16_t code_selector = 0x08;
    constexpr std::uint16_t data_selector = 0x10;
    constexpr std::uint16_t task_selector = 0x18;
    using enum vmcs_segment;
    vmwrite(vmcs_field::host_es_selector + cs, code_selector);
    for (const vmcs_segment each : {es, ss, ds}) {
        vmwrite(vmcs_field::host_es_selector + each, data_selector);
    }
    for (const vmcs_segment each : {fs, gs}) {
        vmwrite(vmcs_field::host_es_selector + each, 0);
    }
    vmwrite(vmcs_field::host_tr_selector, task_selector);
    table_register gdtr{};
    table_register idtr{};
    asm volatile("sgdt %0" : "=m"(gdtr));
    asm volatile("sidt %0" : "=m"(idtr));
    vmwrite(vmcs_field::host_gdtr_base, gdtr.base);
    vmwrite(vmcs_field::host_idtr_base, idtr.base);
    vmwrite(vmcs_field::host_efer, read_msr(msr::efer));
    vmwrite(vmcs_field::host_rip, reinterpret_cast<std::uintptr_t>(vmx_exit));
}

pt::ept::capabilities ept_capabilities() {
    return pt::ept::capabilities{read_msr(msr::vmx_ept_vpid)};
}

} // namespace kernel
