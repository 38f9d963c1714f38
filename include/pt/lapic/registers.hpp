// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

/// Registers of the local APIC, 32 bits each [sdm, Advanced Programmable Interrupt Controller];
/// `offset` is in bytes from the start of its 4-KiB register page.
namespace pt::lapic {

struct local_apic_id : reg<local_apic_id, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x020;
    static constexpr bits<31, 24, std::uint8_t> apic_id{};
    static constexpr field_list fields{apic_id};
};

struct local_apic_version : reg<local_apic_version, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x030;
    // clang-format off
    static constexpr bits<24, 24, bool, access::read_only>         eoi_broadcast_suppression{};
    static constexpr bits<23, 16, std::uint8_t, access::read_only> max_lvt_entry{}; ///< LVT entries minus one
    static constexpr bits< 7,  0, std::uint8_t, access::read_only> version{};
    // clang-format on
    static constexpr field_list fields{eoi_broadcast_suppression, max_lvt_entry, version};
};

/// TPR: interrupts of this class and below wait.
struct task_priority : reg<task_priority, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x080;
    static constexpr bits<7, 4, std::uint8_t> priority_class{};
    static constexpr bits<3, 0, std::uint8_t> sub_class{};
    static constexpr field_list fields{priority_class, sub_class};
};

/// PPR: the higher of the task priority and the highest interrupt in service.
struct processor_priority : reg<processor_priority, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0A0;
    static constexpr bits<7, 4, std::uint8_t, access::read_only> priority_class{};
    static constexpr bits<3, 0, std::uint8_t, access::read_only> sub_class{};
    static constexpr field_list fields{priority_class, sub_class};
};

/// SVR.
struct spurious_interrupt_vector : reg<spurious_interrupt_vector, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0F0;
    // clang-format off
    static constexpr bits<12, 12, bool>         suppress_eoi_broadcast{};
    static constexpr bits< 9,  9, bool>         focus_processor_checking_disabled{};
    static constexpr bits< 8,  8, bool>         software_enabled{};
    static constexpr bits< 7,  0, std::uint8_t> vector{};
    // clang-format on
    static constexpr field_list fields{suppress_eoi_broadcast, focus_processor_checking_disabled,
                                       software_enabled, vector};
};

/// ESR: errors since the last write but one.
struct error_status : reg<error_status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x280;
    static constexpr bits<7, 7, bool, access::read_only> illegal_register_address{};
    static constexpr bits<6, 6, bool, access::read_only> receive_illegal_vector{};
    static constexpr bits<5, 5, bool, access::read_only> send_illegal_vector{};
    static constexpr bits<4, 4, bool, access::read_only> redirectable_ipi{};
    static constexpr bits<3, 3, bool, access::read_only> receive_accept_error{};
    static constexpr bits<2, 2, bool, access::read_only> send_accept_error{};
    static constexpr bits<1, 1, bool, access::read_only> receive_checksum_error{};
    static constexpr bits<0, 0, bool, access::read_only> send_checksum_error{};
    static constexpr field_list fields{illegal_register_address, receive_illegal_vector,
                                       send_illegal_vector,      redirectable_ipi,
                                       receive_accept_error,     send_accept_error,
                                       receive_checksum_error,   send_checksum_error};
};

/// An entry of the local vector table; the fields that all of them have.
struct local_vector_entry : reg<local_vector_entry, std::uint32_t> {
    using reg::reg;
    static constexpr bits<16, 16, bool> masked{};
    static constexpr bits<7, 0, std::uint8_t> vector{};
    static constexpr field_list fields{masked, vector};
};

} // namespace pt::lapic
