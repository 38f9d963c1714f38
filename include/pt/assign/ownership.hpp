// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/list_of.hpp"
#include "pt/assign/memory_reach.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/interrupt_index.hpp"
#include "pt/vtd/translation.hpp"

#include <cstdint>

/// What a guest owns, as the audit takes it: lists that the VMM keeps from what it has promised, and
/// not from the tables that are audited against them.
namespace pt::assign {

/// What may be done with a page.
struct page_rights {
    bool read = false;
    bool write = false;
    bool execute = false; ///< instruction fetches; devices make none

    friend constexpr bool operator==(page_rights, page_rights) = default;
};

/// What is behind guest-physical addresses.
enum class page_use : std::uint8_t {
    memory,            ///< host memory, to be mapped
    registers,         ///< registers of an assigned function, to be mapped as uncacheable memory
    trapped_registers, ///< of an assigned function too, but accesses exit: the pages of MSI-X
    local_apic,        ///< accesses exit: the guest's local APIC
    emulated, ///< accesses exit: a device that the VMM plays, a ROM, a BAR smaller than a page
    /// What firmware reserved for a function of the guest (RMRR), mapped one to one for devices:
    /// processors do not reach it.
    reserved_region,
};

/// Whether every access of a processor must exit, so that nothing may be mapped for it.
[[nodiscard]] constexpr bool is_trapped(page_use use) {
    return use != page_use::memory && use != page_use::registers;
}

/// Guest-physical pages, and where they lie in the host.
struct owned_pages {
    range<gpa> at{};
    hpa host{}; ///< of the first; of no meaning for local_apic and emulated
    page_rights rights{.read = true, .write = true, .execute = true};
    memory_reach reach = memory_reach::processors_and_devices;
    page_use use = page_use::memory;
};

/// How a guest gets to ports that it owns.
enum class port_way : std::uint8_t {
    open,      ///< by itself: guest and host numbers are the same, and the bitmap lets it
    forwarded, ///< accesses exit, and the VMM makes them
};

/// Ports of an assigned function.
struct owned_ports {
    range<io_port> at{}; ///< as the guest knows them
    io_port host{};      ///< the host's number of the first
    port_way way = port_way::open;
};

/// A function that is the guest's.
struct owned_function {
    pci::function_address address{};
    std::uint16_t unit = 0; ///< which remapping unit serves it: the VMM's own numbers
    /// Its entry may let it translate by itself (ATS), so that requests which it calls translated
    /// go unchecked: the VMM trusts it.
    bool device_tlb = false;

    /// The unit in bits 31:16 and the source id in 15:0: functions are in this order.
    [[nodiscard]] constexpr std::uint32_t place() const {
        return std::uint32_t{unit} << 16 | std::uint32_t{address.bus} << 8 |
               (address.device & 31U) << 3 | (address.function & 7U);
    }
};

/// What the guest's functions behind one unit are put through.
struct owned_domain {
    std::uint16_t unit = 0;
    vtd::translation through;
};

/// An entry of a unit's interrupt remapping table that serves the guest.
struct owned_vector {
    vtd::interrupt_index entry{};
    std::uint16_t unit = 0;
    vtd::interrupt_requester from{};
    vtd::interrupt_target to{}; ///< of a posted entry its vector alone counts: the guest's
    hpa descriptor{};           ///< of a posted entry; 0: the entry is one for remapped interrupts

    /// The unit in bits 31:16 and the index in 15:0: vectors are in this order.
    [[nodiscard]] constexpr std::uint32_t place() const {
        return std::uint32_t{unit} << 16 | entry.raw;
    }
};

/// All that one guest owns. An element that belongs to nobody else is in one list only once.
struct ownership {
    /// The owner that stands for the VMM itself and whatever it keeps.
    static constexpr std::uint16_t host = 0xFFFF;

    std::uint16_t guest = 0;             ///< its number, for the explanations
    list_of<owned_pages> pages{};        ///< ascending by `at`, none overlaps another
    list_of<owned_ports> ports{};        ///< ascending by `at`, none overlaps another
    list_of<owned_function> functions{}; ///< ascending by unit, then by address
    list_of<owned_domain> domains{};     ///< in any order; as a rule one for each unit
    list_of<owned_vector> vectors{};     ///< ascending by unit, then by entry
    bool dma_isolated = true;            ///< the functions' requests are translated by a unit
    bool interrupts_isolated = true; ///< and so are their interrupts: compatibility format blocked
    /// The PAT by which nested tables name memory types (IA32_PAT of the host); as after reset.
    std::uint64_t page_attribute_table = 0x0007'0406'0007'0406;
};

} // namespace pt::assign
