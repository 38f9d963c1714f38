// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/timer_mode.hpp"

#include <cstdint>

/// Registers of the local APIC [sdm, Advanced Programmable Interrupt Controller]; `offset` is in
/// bytes from the start of its 4-KiB register page. In x2APIC mode the register at `offset` is the
/// MSR 0x800 + offset / 16.
namespace pt::lapic {

/// Vectors below are illegal for the local APIC: no interrupt has one.
inline constexpr std::uint8_t first_legal_vector = 16;

/// What the local APIC is: EN and EXTD, bits 11:10 of IA32_APIC_BASE. 1 is not a mode [sdm].
enum class apic_mode : std::uint8_t {
    disabled = 0, ///< hardware-disabled: the processor behaves as one without a local APIC
    xapic = 2,    ///< registers in memory, ids of 8 bits
    x2apic = 3,   ///< registers are MSRs, ids of 32 bits
};

/// IA32_APIC_BASE, MSR 1BH.
struct apic_base : reg<apic_base, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t msr = 0x1B;
    // clang-format off
    static constexpr bits<51, 12, gpa>                     base{}; ///< of the register page; up to MAXPHYADDR
    static constexpr bits<11, 10, apic_mode>               mode{}; ///< EN, EXTD
    static constexpr bits< 8,  8, bool, access::read_only> bootstrap_processor{};
    // clang-format on
    static constexpr field_list fields{base, mode, bootstrap_processor};

    /// Where the page is after power-up.
    static constexpr gpa default_base{0xFEE0'0000};

    /// The bits that must be written as 0 on a processor with that MAXPHYADDR, 32..52.
    [[nodiscard]] static constexpr std::uint64_t reserved(unsigned physical_address_width) {
        return (~std::uint64_t{0} << physical_address_width) |
               ~(base.mask | mode.mask | bootstrap_processor.mask);
    }
};

struct local_apic_id : reg<local_apic_id, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x020;
    static constexpr bits<31, 24, std::uint8_t>
        apic_id{}; ///< xAPIC mode; in x2APIC mode: all 32 bits
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

/// LDR in xAPIC mode.
struct logical_destination : reg<logical_destination, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0D0;
    static constexpr bits<31, 24, std::uint8_t> logical_apic_id{};
    static constexpr field_list fields{logical_apic_id};
};

/// LDR in x2APIC mode: derived from the id, and read-only.
struct x2apic_logical_destination : reg<x2apic_logical_destination, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0D0;
    static constexpr bits<31, 16, std::uint16_t, access::read_only> cluster_id{};
    static constexpr bits<15, 0, std::uint16_t, access::read_only> logical_id{};
    static constexpr field_list fields{cluster_id, logical_id};

    /// [sdm, Deriving Logical x2APIC ID from the Local x2APIC ID]: clusters of 16, one bit each.
    [[nodiscard]] static constexpr x2apic_logical_destination of(std::uint32_t apic_id) {
        return reported(cluster_id(static_cast<std::uint16_t>(apic_id >> 4)),
                        logical_id(static_cast<std::uint16_t>(1U << (apic_id & 0xF))));
    }
};

/// DFR: which model the logical destinations of 8 bits follow. Not in x2APIC mode.
struct destination_format_register : reg<destination_format_register, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0E0;
    static constexpr std::uint8_t flat = 0xF;
    static constexpr std::uint8_t cluster = 0x0;
    static constexpr bits<31, 28, std::uint8_t>
        model{}; ///< `flat` or `cluster`; bits 27:0 are all ones
    static constexpr field_list fields{model};
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

/// ICR: one register of 64 bits in x2APIC mode; in xAPIC mode its halves are at `offset` and
/// `offset_high`, and a write of the lower one sends.
struct interrupt_command : reg<interrupt_command, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x300;
    static constexpr std::uint32_t offset_high = 0x310;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t>            destination{}; ///< xAPIC mode: bits 63:56
    static constexpr bits<19, 18, shorthand>                destination_shorthand{};
    static constexpr bits<15, 15, trigger_mode>             trigger{};
    static constexpr bits<14, 14, bool>                     level_assert{};
    static constexpr bits<12, 12, bool, access::read_only>  delivery_status{}; ///< xAPIC mode: send pending
    static constexpr bits<11, 11, destination_mode>         mode{};
    static constexpr bits<10,  8, delivery_mode>            delivery{};
    static constexpr bits< 7,  0, std::uint8_t>             vector{};
    // clang-format on
    static constexpr field_list fields{
        destination, destination_shorthand, trigger, level_assert, delivery_status, mode, delivery,
        vector};

    /// What software can write in bits 31:0.
    static constexpr auto writable_low =
        static_cast<std::uint32_t>(fields.mask_of(access::read_write));
};

/// An entry of the local vector table [sdm, Figure Local Vector Table]. Not every entry has all
/// fields: `bits_of_...` are those that software can write in each.
struct local_vector_entry : reg<local_vector_entry, std::uint32_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<18, 17, timer_mode>              mode{};            ///< timer
    static constexpr bits<16, 16, bool>                    masked{};
    static constexpr bits<15, 15, trigger_mode>            trigger{};         ///< LINT0, LINT1
    static constexpr bits<14, 14, bool, access::read_only> remote_irr{};      ///< LINT0, LINT1
    static constexpr bits<13, 13, bool>                    active_low{};      ///< LINT0, LINT1
    static constexpr bits<12, 12, bool, access::read_only> delivery_status{}; ///< send pending
    static constexpr bits<10,  8, delivery_mode>           delivery{};        ///< not timer and error
    static constexpr bits< 7,  0, std::uint8_t>            vector{};
    // clang-format on
    static constexpr field_list fields{mode,       trigger,         masked,   remote_irr,
                                       active_low, delivery_status, delivery, vector};

    static constexpr std::uint32_t bits_of_timer = mode.mask | masked.mask | vector.mask;
    static constexpr std::uint32_t bits_of_error = masked.mask | vector.mask;
    /// CMCI, thermal sensor, performance counters.
    static constexpr std::uint32_t bits_of_source = masked.mask | delivery.mask | vector.mask;
    /// LINT0, LINT1.
    static constexpr std::uint32_t bits_of_pin =
        masked.mask | trigger.mask | active_low.mask | delivery.mask | vector.mask;
};

/// DCR: by what the timer's input clock is divided.
struct divide_configuration : reg<divide_configuration, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3E0;
    static constexpr bits<3, 3, std::uint8_t> divide_value_high{}; ///< bit 2 of the divide value
    static constexpr bits<1, 0, std::uint8_t> divide_value_low{};  ///< bits 1:0 of it
    static constexpr field_list fields{divide_value_high, divide_value_low};
};

/// SELF IPI, x2APIC mode only.
struct self_ipi : reg<self_ipi, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x3F0;
    static constexpr bits<7, 0, std::uint8_t, access::write_only> vector{};
    static constexpr field_list fields{vector};
};

} // namespace pt::lapic
