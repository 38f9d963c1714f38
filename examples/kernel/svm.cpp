// SPDX-License-Identifier: BSL-1.0
#include "svm.hpp"

#include "end.hpp"
#include "processor.hpp"

namespace kernel {

void turn_on_svm(pt::hpa host_state) {
    constexpr std::uint64_t vm_cr_svm_disable = 1U << 4;
    constexpr std::uint32_t svm = 1U << 2; // CPUID Fn8000_0001, ECX
    constexpr std::uint32_t nested_paging = 1U << 0;
    if ((cpuid(0x8000'0001).c & svm) == 0) {
        give_up("a processor without SVM");
    }
    if ((read_msr(msr::vm_cr) & vm_cr_svm_disable) != 0) {
        give_up("firmware has disabled SVM");
    }
    if ((cpuid(0x8000'000A).d & nested_paging) == 0) {
        give_up("a processor without nested paging");
    }
    write_msr(msr::efer, read_msr(msr::efer) | efer_svm_enable | efer_no_execute_enable);
    write_msr(msr::vm_hsave_pa, host_state.raw);
}

void turn_off_svm() {
    write_msr(msr::efer, read_msr(msr::efer) & ~(efer_svm_enable | efer_no_execute_enable));
}

pt::x86_64::nested_paging nested_format() {
    constexpr std::uint32_t pages_1g = 1U << 26;
    return pt::x86_64::nested_paging{physical_width(),
                                     {.pages_1g = (cpuid(0x8000'0001).d & pages_1g) != 0}};
}

bool has_next_rip() {
    constexpr std::uint32_t next_rip_save = 1U << 3;
    return (cpuid(0x8000'000A).d & next_rip_save) != 0;
}

} // namespace kernel
