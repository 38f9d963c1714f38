// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/interrupt_index.hpp"
#include "pt/vtd/interrupt_message.hpp"

#include <cstdint>

/// Interrupt requests in remappable format: they name no processor but an entry of the interrupt
/// remapping table [vt-d, "Interrupt Requests in Remappable Format"].
namespace pt::vtd {

/// The address to which a request in remappable format is written. Bits 63:32 are 0; bits 1:0 mean
/// nothing.
struct remappable_address : reg<remappable_address, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<31, 20, std::uint16_t> interrupt_identifier{}; // FEEh
    static constexpr bits<19,  5, std::uint16_t> handle_14_0{};
    static constexpr bits< 4,  4, bool>          remappable{};           // Interrupt Format
    static constexpr bits< 3,  3, bool>          subhandle_valid{};      // SHV
    static constexpr bits< 2,  2, bool>          handle_15{};
    // clang-format on
    static constexpr field_list fields{interrupt_identifier, handle_14_0, remappable,
                                       subhandle_valid, handle_15};
};

/// The data of a request in remappable format whose subhandle is valid. Without one, the data mean
/// nothing to the unit.
struct remappable_data : reg<remappable_data, std::uint32_t> {
    using reg::reg;
    static constexpr bits<15, 0, std::uint16_t> subhandle{};
    static constexpr field_list fields{subhandle};
};

/// The message for entry `index`: for MSI-X, each vector with an entry of its own, and for MSI with
/// one vector.
[[nodiscard]] constexpr interrupt_message remappable_message(interrupt_index index) {
    using address = remappable_address;
    return {address{address::interrupt_identifier(std::uint16_t{0xFEE}),
                    address::handle_14_0(static_cast<std::uint16_t>(index.raw & 0x7FFF)),
                    address::remappable(true), address::handle_15((index.raw & 0x8000) != 0)}
                .raw,
            0};
}

/// The message for MSI with as many vectors as the block has entries. The function puts the
/// vector's number into the low bits of the data, which are the subhandle, and the unit adds it to
/// the handle: vector i comes through entry block[i].
[[nodiscard]] constexpr interrupt_message remappable_message(interrupt_block block) {
    interrupt_message message = remappable_message(block.first);
    if (block.size_log2 != 0) {
        message.address |= remappable_address::subhandle_valid.mask;
    }
    return message;
}

/// What a device asks for when it writes into the interrupt range.
struct interrupt_request {
    enum class format : std::uint8_t {
        compatibility, ///< names a processor and a vector itself: blocked unless GCMD.CFI allows it
        remappable,
    };
    format kind = format::compatibility;
    /// Of the entry, for the remappable format. Handle and subhandle may add up to more than 16
    /// bits, or lie beyond the table: fault reason 0x21.
    std::uint32_t index = 0;

    friend constexpr bool operator==(const interrupt_request&, const interrupt_request&) = default;

    /// As a unit with interrupt remapping on understands the message. errc::absent with the address
    /// when it is outside the interrupt range, and so a write to memory; errc::malformed with the
    /// data when reserved bits of it are set (fault reason 0x20).
    [[nodiscard]] static constexpr result<interrupt_request> of(interrupt_message message) {
        using address = remappable_address;
        const address to{message.address};
        if (message.address >> 32 != 0 || to[address::interrupt_identifier] != 0xFEE) {
            return error{errc::absent, message.address};
        }
        if (!to[address::remappable]) {
            return interrupt_request{};
        }
        std::uint32_t index = to[address::handle_14_0] | (to[address::handle_15] ? 0x8000U : 0U);
        if (to[address::subhandle_valid]) {
            if ((message.data & ~remappable_data::subhandle.mask) != 0) {
                return error{errc::malformed, message.data};
            }
            index += remappable_data{message.data}[remappable_data::subhandle];
        }
        return interrupt_request{format::remappable, index};
    }
};

/// What level is asserted on an input of an I/O APIC.
enum class interrupt_polarity : std::uint8_t { active_high = 0, active_low = 1 };

/// An entry of an I/O APIC's redirection table in remappable format [vt-d, "I/OxAPIC Programming"].
struct io_apic_remappable_entry : reg<io_apic_remappable_entry, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 49, std::uint16_t>                   index_14_0{};
    static constexpr bits<48, 48, bool>                            remappable{};      // Format
    static constexpr bits<16, 16, bool>                            mask{};
    static constexpr bits<15, 15, interrupt_trigger>               trigger_mode{};
    static constexpr bits<14, 14, bool, access::read_only>         remote_irr{};
    static constexpr bits<13, 13, interrupt_polarity>              polarity{};
    static constexpr bits<12, 12, bool, access::read_only>         delivery_status{};
    static constexpr bits<11, 11, bool>                            index_15{};
    static constexpr bits<10,  8, std::uint8_t, access::zero>      delivery_mode{};   // 000b
    static constexpr bits< 7,  0, std::uint8_t>                    vector{};
    // clang-format on
    static constexpr field_list fields{
        index_14_0, remappable,      mask,     trigger_mode,  remote_irr,
        polarity,   delivery_status, index_15, delivery_mode, vector};

    /// For interrupts through that entry, masked at first. Vector and trigger mode must be those of
    /// the entry: the I/O APIC compares the vector of a level-triggered interrupt with the one in
    /// the EOI. errc::out_of_range with a vector below 16.
    static constexpr result<io_apic_remappable_entry> of(interrupt_index through,
                                                         std::uint8_t vector_of_entry,
                                                         interrupt_trigger trigger,
                                                         interrupt_polarity active) {
        using entry = io_apic_remappable_entry;
        if (vector_of_entry < 16) {
            return error{errc::out_of_range, vector_of_entry};
        }
        return entry{entry::index_14_0(static_cast<std::uint16_t>(through.raw & 0x7FFF)),
                     entry::remappable(true),
                     entry::mask(true),
                     entry::trigger_mode(trigger),
                     entry::polarity(active),
                     entry::index_15((through.raw & 0x8000) != 0),
                     entry::vector(vector_of_entry)};
    }

    /// Which entry its interrupts go through. errc::not_supported when it is in compatibility
    /// format; errc::malformed when the delivery mode is not 0 or reserved bits are set.
    [[nodiscard]] constexpr result<interrupt_index> index() const {
        if (!(*this)[remappable]) {
            return error{errc::not_supported, raw};
        }
        if ((*this)[delivery_mode] != 0 || (raw & reserved) != 0) {
            return error{errc::malformed, raw};
        }
        return interrupt_index{
            static_cast<std::uint16_t>((*this)[index_14_0] | ((*this)[index_15] ? 0x8000U : 0U))};
    }

private:
    static constexpr std::uint64_t reserved = 0x0000'FFFF'FFFE'0000; // 47:17
};

} // namespace pt::vtd
