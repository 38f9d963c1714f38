// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"

#include <cstdint>
#include <utility>

namespace vmm::pc {

/// The model-specific registers that kernels look at without asking, for a machine whose memory is
/// all write-back and which has nothing to set there [sdm, Model-Specific Registers] [amd]. Those of
/// the local APIC and those that the processor keeps (EFER, FS.base, PAT, ...) are not here. `Tsc` is
/// a callable that gives the guest's time-stamp counter.
template <class Tsc>
class model_specific_registers {
public:
    explicit constexpr model_specific_registers(Tsc tsc) : tsc_{std::move(tsc)} {}

    /// RDMSR. errc::absent with the number: #GP(0).
    [[nodiscard]] constexpr pt::result<std::uint64_t> read(std::uint32_t number) {
        switch (number) {
        case time_stamp_counter: return std::uint64_t{tsc_()};
        case feature_control: return std::uint64_t{1};    // locked, VMX off
        case bios_sign_id: return std::uint64_t{1} << 32; // revision 1 of the microcode
        case misc_enable: return misc_enable_;
        case mtrr_default_type: return mtrr_default_type_;
        case lfence_configuration: return std::uint64_t{2}; // [amd] LFENCE serializes
        default: break;
        }
        if (is_zero(number)) {
            return std::uint64_t{0};
        }
        return pt::error{pt::errc::absent, number};
    }

    /// WRMSR. errc::absent or errc::malformed with the number: #GP(0), nothing has changed.
    constexpr pt::result<void> write(std::uint32_t number, std::uint64_t value) {
        switch (number) {
        case time_stamp_counter: // stays the host's: RDTSC does not exit
        case bios_update_trigger:
        case bios_sign_id: return {};
        case misc_enable: misc_enable_ = misc_fixed | (value & misc_writable); return {};
        case mtrr_default_type:
            if (!is_default_type(value)) {
                return pt::error{pt::errc::malformed, number};
            }
            mtrr_default_type_ = value;
            return {};
        default: break;
        }
        if (is_zero(number) && is_writable(number)) {
            return {}; // and stays 0
        }
        return pt::error{pt::errc::absent, number};
    }

private:
    static constexpr std::uint32_t time_stamp_counter = 0x10;
    static constexpr std::uint32_t platform_id = 0x17;
    static constexpr std::uint32_t feature_control = 0x3A;
    static constexpr std::uint32_t bios_update_trigger = 0x79;
    static constexpr std::uint32_t bios_sign_id = 0x8B;
    static constexpr std::uint32_t mtrr_capability = 0xFE;
    static constexpr std::uint32_t machine_check_capability = 0x179;
    static constexpr std::uint32_t machine_check_status = 0x17A;
    static constexpr std::uint32_t performance_status = 0x198;
    static constexpr std::uint32_t misc_enable = 0x1A0;
    static constexpr std::uint32_t debug_control = 0x1D9;
    static constexpr std::uint32_t mtrr_default_type = 0x2FF;
    static constexpr std::uint32_t system_configuration = 0xC001'0010;
    static constexpr std::uint32_t hardware_configuration = 0xC001'0015;
    static constexpr std::uint32_t interrupt_pending = 0xC001'0055;
    static constexpr std::uint32_t lfence_configuration = 0xC001'1029;

    // IA32_MISC_ENABLE: fast strings (writable); branch trace and PEBS are not there.
    static constexpr std::uint64_t misc_fixed = 1U << 11 | 1U << 12;
    static constexpr std::uint64_t misc_writable = 1;

    /// There is nothing to tell: no machine-check banks, no variable or fixed MTRR, no performance
    /// state, no last branch.
    static constexpr bool is_zero(std::uint32_t number) {
        switch (number) {
        case platform_id:
        case mtrr_capability:
        case machine_check_capability:
        case machine_check_status:
        case performance_status:
        case debug_control:
        case system_configuration:
        case hardware_configuration:
        case interrupt_pending: return true;
        default: return false;
        }
    }
    static constexpr bool is_writable(std::uint32_t number) {
        return number != platform_id && number != mtrr_capability &&
               number != machine_check_capability && number != performance_status;
    }

    /// A type that exists, and E; FE is reserved where there are no fixed ranges.
    static constexpr bool is_default_type(std::uint64_t value) {
        const std::uint64_t type = value & 0xFF;
        return (value & ~std::uint64_t{0x8FF}) == 0 &&
               (type == 0 || type == 1 || (type >= 4 && type <= 6));
    }

    [[no_unique_address]] Tsc tsc_;
    std::uint64_t misc_enable_ = misc_fixed | misc_writable;
    std::uint64_t mtrr_default_type_ = 0x806; // enabled, write-back
};

} // namespace vmm::pc
