// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"

#include <cstdint>

/// The entries of the interrupt remapping table (IRTE) [vt-d, "Interrupt Remapping Table Entry for
/// Remapped Interrupts", "... for Posted Interrupts"]. Each has 128 bits; the halves are registers
/// of their own, whose bits are numbered from 0.
namespace pt::vtd {

/// How processors are named in the entries of a table: by an xAPIC id of 8 bits, or by an x2APIC id
/// of 32 (IRTA.EIME, which needs ECAP.EIM). One for the whole table.
enum class apic_mode : std::uint8_t { xapic, x2apic };

/// DLM. Values 3 and 6 are reserved.
enum class interrupt_delivery : std::uint8_t {
    fixed = 0,
    lowest_priority = 1,
    smi = 2,
    nmi = 4,
    init = 5,
    ext_int = 7,
};
/// DM
enum class interrupt_destination : std::uint8_t { physical = 0, logical = 1 };
/// TM
enum class interrupt_trigger : std::uint8_t { edge = 0, level = 1 };
/// SVT: which source ids an entry serves. Value 3 is reserved.
enum class source_validation : std::uint8_t {
    none = 0,      ///< all
    source_id = 1, ///< that of the entry, as far as SQ compares it
    bus = 2,       ///< those on a range of buses
};
/// SQ: which bits of the function number are not compared.
enum class source_id_qualifier : std::uint8_t {
    all_bits = 0, ///< every bit is compared
    ignore_bit_2 = 1,
    ignore_bits_2_1 = 2,
    ignore_bits_2_0 = 3, ///< any function of the device
};

/// Bits 63:0 of an entry for a remapped interrupt.
struct remapped_interrupt_low : reg<remapped_interrupt_low, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 32, std::uint32_t>         destination_id{};           // DST
    static constexpr bits<23, 16, std::uint8_t>          vector{};                   // V
    static constexpr bits<15, 15, bool>                  posted{};                   // IM, 0 here
    static constexpr bits<11,  8, std::uint8_t>          available{};                // AVAIL
    static constexpr bits< 7,  5, interrupt_delivery>    delivery_mode{};            // DLM
    static constexpr bits< 4,  4, interrupt_trigger>     trigger_mode{};             // TM
    static constexpr bits< 3,  3, bool>                  redirection_hint{};         // RH
    static constexpr bits< 2,  2, interrupt_destination> destination_mode{};         // DM
    static constexpr bits< 1,  1, bool>                  fault_processing_disable{}; // FPD
    static constexpr bits< 0,  0, bool>                  present{};                  // P
    // clang-format on
    static constexpr field_list fields{destination_id,   vector,           posted,
                                       available,        delivery_mode,    trigger_mode,
                                       redirection_hint, destination_mode, fault_processing_disable,
                                       present};
};

/// Bits 127:64 of an entry for a remapped interrupt.
struct remapped_interrupt_high : reg<remapped_interrupt_high, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<19, 18, source_validation>   source_validation_type{}; // SVT
    static constexpr bits<17, 16, source_id_qualifier> qualifier{};              // SQ
    static constexpr bits<15,  0, std::uint16_t>       source_id{};              // SID
    // clang-format on
    static constexpr field_list fields{source_validation_type, qualifier, source_id};
};

/// Bits 63:0 of an entry for a posted interrupt.
struct posted_interrupt_low : reg<posted_interrupt_low, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// PDA-L: bits 31:6 of the descriptor's address.
    static constexpr bits<63, 38, std::uint32_t> descriptor_31_6{};
    static constexpr bits<23, 16, std::uint8_t>  vector{};                   // V, of the guest
    static constexpr bits<15, 15, bool>          posted{};                   // IM, 1 here
    static constexpr bits<14, 14, bool>          urgent{};                   // URG
    static constexpr bits<11,  8, std::uint8_t>  available{};                // AVAIL
    static constexpr bits< 1,  1, bool>          fault_processing_disable{}; // FPD
    static constexpr bits< 0,  0, bool>          present{};                  // P
    // clang-format on
    static constexpr field_list fields{descriptor_31_6,          vector, posted, urgent, available,
                                       fault_processing_disable, present};
};

/// Bits 127:64 of an entry for a posted interrupt.
struct posted_interrupt_high : reg<posted_interrupt_high, std::uint64_t> {
    using reg::reg;
    // clang-format off
    /// PDA-H: bits 63:32 of the descriptor's address.
    static constexpr bits<63, 32, std::uint32_t>       descriptor_63_32{};
    static constexpr bits<19, 18, source_validation>   source_validation_type{}; // SVT
    static constexpr bits<17, 16, source_id_qualifier> qualifier{};              // SQ
    static constexpr bits<15,  0, std::uint16_t>       source_id{};              // SID
    // clang-format on
    static constexpr field_list fields{descriptor_63_32, source_validation_type, qualifier,
                                       source_id};
};

/// Whose interrupt requests an entry serves, by source id (pci::function_address::source_id()). A
/// request of anybody else is blocked with fault reason 0x26.
struct interrupt_requester {
    source_validation type = source_validation::source_id;
    source_id_qualifier qualifier = source_id_qualifier::all_bits;
    std::uint16_t source_id = 0; ///< of type bus: the first bus in bits 15:8, the last in 7:0

    friend constexpr bool operator==(const interrupt_requester&,
                                     const interrupt_requester&) = default;

    /// One function, I/O APIC or HPET, or the bridge that lends its source id to what is behind it.
    static constexpr interrupt_requester exactly(std::uint16_t source_id) {
        return {source_validation::source_id, source_id_qualifier::all_bits, source_id};
    }
    /// Some functions of one device: e.g. one whose phantom functions send its interrupts.
    static constexpr interrupt_requester ignoring(source_id_qualifier qualifier,
                                                  std::uint16_t source_id) {
        return {source_validation::source_id, qualifier, source_id};
    }
    /// Everything on the buses first..last: what is behind a bridge from PCI Express to PCI, whose
    /// requests carry the bridge's source id or that of device 0 on its secondary bus. An empty
    /// range is refused where an entry is made of it.
    static constexpr interrupt_requester buses(std::uint8_t first, std::uint8_t last) {
        return {source_validation::bus, source_id_qualifier::all_bits,
                static_cast<std::uint16_t>(first << 8 | last)};
    }
    /// Anybody at all: each device behind the unit, those of guests too, can raise the interrupt.
    static constexpr interrupt_requester any_source() {
        return {source_validation::none, source_id_qualifier::all_bits, 0};
    }

    /// Whether the unit lets requests with that source id pass. A reserved type serves nobody.
    [[nodiscard]] constexpr bool serves(std::uint16_t requester) const {
        switch (type) {
        case source_validation::none: return true;
        case source_validation::source_id: {
            constexpr std::uint16_t ignored[] = {0, 0b100, 0b110, 0b111};
            return ((requester ^ source_id) & ~ignored[static_cast<unsigned>(qualifier) & 3]) == 0;
        }
        case source_validation::bus:
            return source_id >> 8 <= requester >> 8 && requester >> 8 <= (source_id & 0xFF);
        }
        return false;
    }
};

/// Where a remapped interrupt goes.
struct interrupt_target {
    std::uint8_t vector = 0; ///< 16..255; 0 unless the delivery mode is fixed or lowest priority
    /// An APIC id, or a logical id: below 256 where the table is in xAPIC mode.
    std::uint32_t destination_id = 0;
    interrupt_destination destination_mode = interrupt_destination::physical;
    interrupt_delivery delivery_mode = interrupt_delivery::fixed;
    interrupt_trigger trigger_mode = interrupt_trigger::edge;
    bool redirection_hint = false;         ///< to one of the processors that the destination names
    bool fault_processing_disable = false; ///< what is blocked here leaves no fault record

    friend constexpr bool operator==(const interrupt_target&, const interrupt_target&) = default;
};

/// Where a posted interrupt goes: into a posted-interrupt descriptor [sdm, "Posted-Interrupt
/// Processing"], whose own notification vector then goes to the processor that it names.
struct posted_target {
    hpa descriptor{};        ///< a multiple of 64
    std::uint8_t vector = 0; ///< in the guest, 16..255
    bool urgent = false;     ///< a notification even where the descriptor suppresses them (SN)
    bool fault_processing_disable = false; ///< what is blocked here leaves no fault record

    friend constexpr bool operator==(const posted_target&, const posted_target&) = default;
};

/// One entry, as the table holds it.
struct interrupt_entry {
    std::uint64_t low = 0;  ///< bits 63:0
    std::uint64_t high = 0; ///< bits 127:64

    friend constexpr bool operator==(const interrupt_entry&, const interrupt_entry&) = default;

    /// A present entry for a remapped interrupt, for a table in that mode. errc::out_of_range with
    /// the vector, the destination id or the range of buses that cannot be; errc::not_supported
    /// with the delivery mode when it is reserved, or is none that can be level-triggered.
    static constexpr result<interrupt_entry> remapped(const interrupt_target& to,
                                                      interrupt_requester from, apic_mode mode) {
        using low = remapped_interrupt_low;
        using high = remapped_interrupt_high;
        const bool has_vector = to.delivery_mode == interrupt_delivery::fixed ||
                                to.delivery_mode == interrupt_delivery::lowest_priority;
        if (!is_known(to.delivery_mode) ||
            (!has_vector && to.trigger_mode != interrupt_trigger::edge)) {
            return error{errc::not_supported, static_cast<std::uint64_t>(to.delivery_mode)};
        }
        if (has_vector ? to.vector < first_legal_vector : to.vector != 0) {
            return error{errc::out_of_range, to.vector};
        }
        if (mode == apic_mode::xapic && to.destination_id > 0xFF) {
            return error{errc::out_of_range, to.destination_id};
        }
        if (const result<void> sound = check(from); !sound) {
            return sound.error();
        }
        return interrupt_entry{
            low{low::destination_id(mode == apic_mode::xapic ? to.destination_id << xapic_shift
                                                             : to.destination_id),
                low::vector(to.vector), low::delivery_mode(to.delivery_mode),
                low::trigger_mode(to.trigger_mode), low::redirection_hint(to.redirection_hint),
                low::destination_mode(to.destination_mode),
                low::fault_processing_disable(to.fault_processing_disable), low::present(true)}
                .raw,
            high{high::source_validation_type(from.type), high::qualifier(from.qualifier),
                 high::source_id(from.source_id)}
                .raw};
    }

    /// A present entry for a posted interrupt; only where CAP.PI is set. errc::out_of_range with
    /// the vector or the range of buses that cannot be; errc::misaligned with the descriptor.
    static constexpr result<interrupt_entry> posted(const posted_target& to,
                                                    interrupt_requester from) {
        using low = posted_interrupt_low;
        using high = posted_interrupt_high;
        if (to.vector < first_legal_vector) {
            return error{errc::out_of_range, to.vector};
        }
        if (!to.descriptor.is_aligned(64)) {
            return error{errc::misaligned, to.descriptor.raw};
        }
        if (const result<void> sound = check(from); !sound) {
            return sound.error();
        }
        const std::uint64_t descriptor = to.descriptor.raw;
        return interrupt_entry{
            low{low::descriptor_31_6(static_cast<std::uint32_t>(descriptor) >> 6),
                low::vector(to.vector), low::posted(true), low::urgent(to.urgent),
                low::fault_processing_disable(to.fault_processing_disable), low::present(true)}
                .raw,
            high{high::descriptor_63_32(static_cast<std::uint32_t>(descriptor >> 32)),
                 high::source_validation_type(from.type), high::qualifier(from.qualifier),
                 high::source_id(from.source_id)}
                .raw};
    }

    /// Whether the unit takes any notice of the rest (of which it still heeds FPD if it does not).
    [[nodiscard]] constexpr bool present() const {
        return remapped_interrupt_low{low}[remapped_interrupt_low::present];
    }
    /// Which of the two formats it has.
    [[nodiscard]] constexpr bool is_posted() const {
        return remapped_interrupt_low{low}[remapped_interrupt_low::posted];
    }
    /// Whom it serves, in both formats.
    [[nodiscard]] constexpr interrupt_requester requester() const {
        using half = remapped_interrupt_high;
        const half bits{high};
        return {bits[half::source_validation_type], bits[half::qualifier], bits[half::source_id]};
    }

    /// What an entry for a remapped interrupt says in a table of that mode, whoever wrote it.
    /// errc::absent when it is not present (fault reason 0x22); errc::not_supported when it is of
    /// the posted format; errc::malformed with the word where reserved bits are set, or the
    /// delivery mode is reserved (0x24).
    [[nodiscard]] constexpr result<interrupt_target> remapped(apic_mode mode) const {
        using half = remapped_interrupt_low;
        const half bits{low};
        if (!present()) {
            return error{errc::absent, low};
        }
        if (is_posted()) {
            return error{errc::not_supported, low};
        }
        constexpr std::uint64_t xapic_reserved =
            half::destination_id.mask & ~(std::uint64_t{0xFF} << (32 + xapic_shift));
        if ((low & ~half::fields.mask_of(access::read_write)) != 0 ||
            (mode == apic_mode::xapic && (low & xapic_reserved) != 0) ||
            !is_known(bits[half::delivery_mode])) {
            return error{errc::malformed, low};
        }
        if ((high & ~remapped_interrupt_high::fields.mask_of(access::read_write)) != 0) {
            return error{errc::malformed, high};
        }
        return interrupt_target{.vector = bits[half::vector],
                                .destination_id = bits[half::destination_id] >>
                                                  (mode == apic_mode::xapic ? xapic_shift : 0),
                                .destination_mode = bits[half::destination_mode],
                                .delivery_mode = bits[half::delivery_mode],
                                .trigger_mode = bits[half::trigger_mode],
                                .redirection_hint = bits[half::redirection_hint],
                                .fault_processing_disable = bits[half::fault_processing_disable]};
    }

    /// What an entry for a posted interrupt says, whoever wrote it; errors as for the other format.
    [[nodiscard]] constexpr result<posted_target> posted() const {
        using lower = posted_interrupt_low;
        using upper = posted_interrupt_high;
        if (!present()) {
            return error{errc::absent, low};
        }
        if (!is_posted()) {
            return error{errc::not_supported, low};
        }
        if ((low & ~lower::fields.mask_of(access::read_write)) != 0) {
            return error{errc::malformed, low};
        }
        if ((high & ~upper::fields.mask_of(access::read_write)) != 0) {
            return error{errc::malformed, high};
        }
        const lower bits{low};
        return posted_target{.descriptor =
                                 hpa{std::uint64_t{upper{high}[upper::descriptor_63_32]} << 32 |
                                     std::uint64_t{bits[lower::descriptor_31_6]} << 6},
                             .vector = bits[lower::vector],
                             .urgent = bits[lower::urgent],
                             .fault_processing_disable = bits[lower::fault_processing_disable]};
    }

private:
    /// Vectors 0..15 are exceptions, or no interrupts at all [sdm].
    static constexpr unsigned first_legal_vector = 16;
    /// An xAPIC id is bits 15:8 of DST; the others are reserved then.
    static constexpr unsigned xapic_shift = 8;

    static constexpr bool is_known(interrupt_delivery mode) {
        const auto number = static_cast<unsigned>(mode);
        return number < 8 && number != 3 && number != 6;
    }
    static constexpr result<void> check(interrupt_requester from) {
        const bool bus = from.type == source_validation::bus;
        if (static_cast<unsigned>(from.type) > 2 || static_cast<unsigned>(from.qualifier) > 3 ||
            (bus && from.source_id >> 8 > (from.source_id & 0xFF))) {
            return error{errc::out_of_range, from.source_id};
        }
        return {};
    }
};

} // namespace pt::vtd
