// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <utility>

namespace vmm::pc {

/// What CPUID leaves in EAX, EBX, ECX and EDX.
struct cpuid_registers {
    std::uint32_t eax = 0;
    std::uint32_t ebx = 0;
    std::uint32_t ecx = 0;
    std::uint32_t edx = 0;

    friend constexpr bool operator==(const cpuid_registers&, const cpuid_registers&) = default;
};

/// What CPUID says that depends on the guest, or on the machine that the VMM makes for it.
struct cpuid_machine {
    std::uint32_t apic_id = 0;
    std::uint8_t physical_address_width = 36; ///< MAXPHYADDR of the guest
    std::uint32_t tsc_kilohertz = 0;          ///< 0: not known
    std::uint32_t apic_kilohertz = 0;         ///< of the local APIC timer's input clock
};

/// CPUID of a guest with one processor [sdm, CPUID] [amd]. `Host` is a callable (leaf, subleaf) that
/// gives the host's answer, from which the processor's name, its caches and those features are taken
/// that need nothing of a VMM: no MSR of their own, no state that must be switched (so no XSAVE and
/// nothing that needs it), no VM-execution control. The local APIC is pt's: x2APIC mode and the
/// TSC-deadline timer are there whatever the host has.
template <class Host>
class virtual_cpuid {
public:
    constexpr virtual_cpuid(Host host, cpuid_machine machine)
        : host_{std::move(host)}, machine_{machine} {}

    /// Whether the local APIC is enabled in IA32_APIC_BASE: CPUID tells that too.
    enum class local_apic_state : std::uint8_t { disabled, enabled };

    [[nodiscard]] constexpr cpuid_registers answer(std::uint32_t leaf, std::uint32_t subleaf,
                                                   local_apic_state apic) {
        switch (leaf) {
        case 0x0: return with_eax(host_(leaf, 0U), highest_leaf);
        case 0x1: return features(host_(leaf, 0U), apic);
        case 0x2: return host_(leaf, 0U);
        case 0x4: return cache(host_(leaf, subleaf));
        case 0x6: return {.eax = 1U << 2}; // ARAT: the APIC timer runs in every power state
        case 0x7: return subleaf == 0 ? structured_features(host_(leaf, 0U)) : cpuid_registers{};
        case 0xB: return topology(subleaf);
        case 0x4000'0000: return signature();
        case 0x4000'0010: return {.eax = machine_.tsc_kilohertz, .ebx = machine_.apic_kilohertz};
        case 0x8000'0000: return with_eax(host_(leaf, 0U), highest_extended());
        case 0x8000'0001: return extended_features(host_(leaf, 0U));
        case 0x8000'0002:
        case 0x8000'0003:
        case 0x8000'0004:
        case 0x8000'0005:
        case 0x8000'0006: return leaf <= highest_extended() ? host_(leaf, 0U) : cpuid_registers{};
        case 0x8000'0007: // invariant TSC
            return {.edx = leaf <= highest_extended() ? host_(leaf, 0U).edx & 1U << 8 : 0U};
        case 0x8000'0008: return address_sizes();
        default: return {};
        }
    }

private:
    static constexpr std::uint32_t highest_leaf = 0xB;

    static constexpr std::uint32_t bits(std::initializer_list<unsigned> numbers) {
        std::uint32_t mask = 0;
        for (const unsigned number : numbers) {
            mask |= 1U << number;
        }
        return mask;
    }

    static constexpr cpuid_registers with_eax(cpuid_registers registers, std::uint32_t eax) {
        registers.eax = eax;
        return registers;
    }

    constexpr std::uint32_t highest_extended() {
        const std::uint32_t host = host_(0x8000'0000U, 0U).eax;
        return host < 0x8000'0008 ? host : 0x8000'0008;
    }

    constexpr cpuid_registers features(cpuid_registers host, local_apic_state apic) const {
        // SSE3, PCLMULQDQ, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, RDRAND
        constexpr std::uint32_t shown_ecx = bits({0, 1, 9, 13, 19, 20, 22, 23, 25, 30});
        constexpr std::uint32_t added_ecx = bits({21, 24, 31}); // x2APIC, TSC-deadline, hypervisor
        // FPU VME DE PSE TSC MSR PAE MCE CX8 SEP MTRR PGE MCA CMOV PAT PSE-36 CLFSH MMX FXSR SSE SSE2
        constexpr std::uint32_t shown_edx =
            bits({0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26});
        const std::uint32_t apic_bit = apic == local_apic_state::enabled ? 1U << 9 : 0;
        constexpr std::uint32_t cache_line = 0xFF00;
        return {.eax = host.eax,
                .ebx = machine_.apic_id << 24 | 1U << 16 | (host.ebx & cache_line),
                .ecx = (host.ecx & shown_ecx) | added_ecx,
                .edx = (host.edx & shown_edx) | apic_bit};
    }

    /// Deterministic cache parameters: nobody shares a cache here.
    static constexpr cpuid_registers cache(cpuid_registers host) {
        host.eax &= 0x3FFF; // bits 31:26 cores and 25:14 threads, both minus one
        return host;
    }

    static constexpr cpuid_registers structured_features(cpuid_registers host) {
        // FSGSBASE, BMI1, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA
        constexpr std::uint32_t shown_ebx = bits({0, 3, 7, 8, 9, 18, 19, 20, 23, 24, 29});
        constexpr std::uint32_t shown_edx = bits({4}); // fast short REP MOVSB
        return {.ebx = host.ebx & shown_ebx, .edx = host.edx & shown_edx};
    }

    constexpr cpuid_registers topology(std::uint32_t subleaf) const {
        const std::uint32_t level_type = subleaf < 2 ? subleaf + 1 : 0; // threads, then cores
        return {.ebx = subleaf < 2 ? 1U : 0U,
                .ecx = level_type << 8 | (subleaf & 0xFF),
                .edx = machine_.apic_id};
    }

    /// Who plays the machine, in twelve letters; the leaf with its clocks, which several VMMs have.
    static constexpr cpuid_registers signature() {
        return {.eax = 0x4000'0010, .ebx = four("pt e"), .ecx = four("xamp"), .edx = four("le\0")};
    }
    static constexpr std::uint32_t four(const char* letters) {
        std::uint32_t word = 0;
        for (unsigned i = 0; i != 4; ++i) {
            word |= std::uint32_t{static_cast<std::uint8_t>(letters[i])} << 8 * i;
        }
        return word;
    }

    static constexpr cpuid_registers extended_features(cpuid_registers host) {
        constexpr std::uint32_t shown_ecx = bits({0, 5, 8}); // LAHF, LZCNT, PREFETCHW
        // What leaf 1 says too, where it is said twice [amd]; SYSCALL, NX, 1-GiB pages, long mode
        constexpr std::uint32_t shown_edx =
            bits({0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 20, 23, 24, 26, 29});
        return {.eax = host.eax,
                .ebx = host.ebx,
                .ecx = host.ecx & shown_ecx,
                .edx = host.edx & shown_edx};
    }

    /// 48 bits of linear address: five-level paging is hidden.
    constexpr cpuid_registers address_sizes() const {
        return {.eax = 48U << 8 | machine_.physical_address_width};
    }

    [[no_unique_address]] Host host_;
    cpuid_machine machine_;
};

} // namespace vmm::pc
