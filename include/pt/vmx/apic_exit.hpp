// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"

#include <cstdint>

namespace pt::vmx {

/// How the guest touched the APIC-access page. Values that are not here are not used.
enum class apic_access_type : std::uint8_t {
    linear_read = 0,  ///< by an instruction
    linear_write = 1, ///< by an instruction
    linear_instruction_fetch = 2,
    linear_event_delivery = 3, ///< read or write
    linear_monitoring = 4,
    guest_physical_event_delivery = 10,
    guest_physical_monitoring_or_trace = 11,
    guest_physical_instruction = 15, ///< fetch or execution
};

/// Exit qualification for APIC-access exits, 64 bits [sdm].
struct apic_access_qualification : reg<apic_access_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// Not of an instruction and not of event delivery: trace or sampling output.
    static constexpr bits<16, 16, bool, access::read_only>             asynchronous{};
    static constexpr bits<15, 12, apic_access_type, access::read_only> type{};
    static constexpr bits<11,  0, std::uint16_t, access::read_only>    page_offset{}; ///< see offset()
    // clang-format on
    static constexpr field_list fields{asynchronous, type, page_offset};

    /// Which byte of the page. errc::absent with the access type for guest-physical accesses, whose
    /// offset is undefined, and for types that are not used.
    [[nodiscard]] constexpr result<std::uint16_t> offset() const {
        if ((*this)[type] > apic_access_type::linear_monitoring) {
            return error{errc::absent, static_cast<std::uint64_t>((*this)[type])};
        }
        return (*this)[page_offset];
    }
};

/// Exit qualification for APIC-write exits, 64 bits [sdm]: the guest's write is already in the
/// virtual-APIC page, and the instruction is done.
struct apic_write_qualification : reg<apic_write_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<11, 0, std::uint16_t, access::read_only> page_offset{};
    // clang-format on
    static constexpr field_list fields{page_offset};
};

/// Exit qualification for exits by an EOI that the processor virtualized, 64 bits [sdm].
struct virtualized_eoi_qualification : reg<virtualized_eoi_qualification, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<7, 0, std::uint8_t, access::read_only> vector{};
    // clang-format on
    static constexpr field_list fields{vector};
};

} // namespace pt::vmx
