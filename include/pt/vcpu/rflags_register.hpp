// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

namespace pt::vcpu {

/// RFLAGS [sdm, EFLAGS Register].
struct rflags_register : reg<rflags_register, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<21, 21, bool>         identification{};            // ID
    static constexpr bits<20, 20, bool>         virtual_interrupt_pending{}; // VIP
    static constexpr bits<19, 19, bool>         virtual_interrupt{};         // VIF
    static constexpr bits<18, 18, bool>         alignment_check{};           // AC
    static constexpr bits<17, 17, bool>         virtual_8086_mode{};         // VM
    static constexpr bits<16, 16, bool>         resume{};                    // RF
    static constexpr bits<14, 14, bool>         nested_task{};               // NT
    static constexpr bits<13, 12, std::uint8_t> io_privilege_level{};        // IOPL
    static constexpr bits<11, 11, bool>         overflow{};                  // OF
    static constexpr bits<10, 10, bool>         direction{};                 // DF
    static constexpr bits< 9,  9, bool>         interrupt_enable{};          // IF
    static constexpr bits< 8,  8, bool>         trap{};                      // TF
    static constexpr bits< 7,  7, bool>         sign{};                      // SF
    static constexpr bits< 6,  6, bool>         zero{};                      // ZF
    static constexpr bits< 4,  4, bool>         auxiliary_carry{};           // AF
    static constexpr bits< 2,  2, bool>         parity{};                    // PF
    static constexpr bits< 0,  0, bool>         carry{};                     // CF
    // clang-format on
    static constexpr field_list fields{identification,
                                       virtual_interrupt_pending,
                                       virtual_interrupt,
                                       alignment_check,
                                       virtual_8086_mode,
                                       resume,
                                       nested_task,
                                       io_privilege_level,
                                       overflow,
                                       direction,
                                       interrupt_enable,
                                       trap,
                                       sign,
                                       zero,
                                       auxiliary_carry,
                                       parity,
                                       carry};

    /// Those that arithmetic instructions set: OF, SF, ZF, AF, PF, CF.
    static constexpr std::uint64_t status =
        overflow.mask | sign.mask | zero.mask | auxiliary_carry.mask | parity.mask | carry.mask;
};

} // namespace pt::vcpu
