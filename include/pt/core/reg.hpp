// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace pt {

/// How the hardware treats a field, in the manuals' terms. Bits that no field names are kept as
/// they are by every operation here.
enum class access : std::uint8_t {
    read_write,       ///< RW: software reads back what it wrote
    read_only,        ///< RO: writes are ignored
    write_only,       ///< WO: a command, which reads as 0
    write_1_to_clear, ///< RW1C: writing 1 clears the bit, writing 0 leaves it
    preserve,         ///< RsvdP: software writes back what it read
    zero,             ///< RsvdZ: software writes 0
};

/// A field's value on its way into a register: its bits already in place.
template <class Field>
struct field_value {
    typename Field::word bits;
};

/// Bits High..Low of Register, both inclusive and numbered as the manual prints them, meant as T:
/// bool, an unsigned integer, an enumeration, or an address, whose bits stand in place and are not
/// shifted (a field 51..12 of type hpa holds the address of a 4-KiB frame).
template <class Register, class Word, unsigned High, unsigned Low, class T, access Access>
struct field {
    using owner = Register;
    using word = Word;
    using type = T;

    static_assert(Low <= High, "a field is given as high bit, low bit");
    static_assert(High < 8 * sizeof(Word), "a field must lie inside its register");
    static_assert(!std::same_as<T, bool> || High == Low, "a bool field has one bit");

    static constexpr unsigned high = High;
    static constexpr unsigned low = Low;
    static constexpr unsigned width = High - Low + 1;
    static constexpr access kind = Access;
    static constexpr Word value_mask =
        static_cast<Word>(~std::uint64_t{0} >> (64U - width)); // before shifting
    static constexpr Word mask = static_cast<Word>(value_mask << Low);

    /// Whether software may choose the value it writes.
    static constexpr bool writable = Access == access::read_write || Access == access::write_only ||
                                     Access == access::write_1_to_clear;

    /// The value, for building or changing a register; it must fit.
    constexpr field_value<field> operator()(T value) const {
        if constexpr (is_address<T>) {
            expects((value.raw & ~static_cast<std::uint64_t>(mask)) == 0,
                    "the address does not fit the field");
            return {static_cast<Word>(value.raw)};
        } else {
            const auto wide = static_cast<std::uint64_t>(value);
            if constexpr (!std::same_as<T, bool>) {
                expects(wide <= value_mask, "the value does not fit the field");
            }
            return {static_cast<Word>(wide << Low)};
        }
    }

    static constexpr T get(Word raw) {
        if constexpr (is_address<T>) {
            return T{static_cast<typename T::word>(raw & mask)};
        } else {
            return static_cast<T>((raw >> Low) & value_mask);
        }
    }
};

/// All fields of one register, in the manual's order. Overlapping ones do not compile, and a field
/// that is missing here cannot be used.
template <class... Fields>
struct field_list {
    using word = std::common_type_t<typename Fields::word...>;

    constexpr explicit field_list(Fields...) {}

    static constexpr word mask_of(access kind) {
        return static_cast<word>((word{0} | ... | (Fields::kind == kind ? Fields::mask : word{0})));
    }
    template <class Field>
    static constexpr bool contains = (std::same_as<Field, Fields> || ...);

    static constexpr bool disjoint = [] {
        word seen = 0;
        return ((((seen & Fields::mask) == 0) && ((seen |= Fields::mask), true)) && ...);
    }();
    static_assert(disjoint, "two fields of this register overlap");
};

/// A register or a table entry: one word and a list of fields over it.
///
///     struct config_address : reg<config_address, std::uint32_t> {
///         using reg::reg;
///         static constexpr bits<31, 31, bool> enable{};
///         static constexpr bits<23, 16, std::uint8_t> bus{};
///         static constexpr field_list fields{enable, bus};
///     };
///     config_address{config_address::enable(true)}[config_address::bus] == 0
///
/// A register is a trivially copyable value; reading and writing the hardware is somebody else's
/// task (core/mmio.hpp).
template <class Register, class Word>
struct reg {
    static_assert(std::unsigned_integral<Word>);
    using word = Word;

    template <unsigned High, unsigned Low, class T, access Access = access::read_write>
    using bits = field<Register, Word, High, Low, T, Access>;

    Word raw{};

    constexpr reg() = default;
    explicit constexpr reg(Word value) : raw{value} {}

    /// A value that software composes: the given fields, all other bits 0. Fields that software
    /// cannot choose do not compile here.
    template <class... Fields>
        requires(sizeof...(Fields) > 0)
    explicit constexpr reg(field_value<Fields>... values) { raw = Register{}.with(values...).raw; }

    /// A value as the hardware reports it, read-only fields included: for device models and tests.
    template <class... Fields>
    static constexpr Register reported(field_value<Fields>... values) {
        (listed<Fields>(), ...);
        return Register{static_cast<Word>((Word{0} | ... | values.bits))};
    }

    template <class Field>
        requires std::same_as<typename Field::owner, Register>
    [[nodiscard]] constexpr typename Field::type operator[](Field) const {
        listed<Field>();
        return Field::get(raw);
    }

    /// A copy in which software has chosen the given fields; the other bits stay.
    template <class... Fields>
    [[nodiscard]] constexpr Register with(field_value<Fields>... values) const {
        (listed<Fields>(), ...);
        static_assert((Fields::writable && ...), "software cannot write this field");
        constexpr Word replaced = static_cast<Word>((Word{0} | ... | Fields::mask));
        return Register{static_cast<Word>((raw & static_cast<Word>(~replaced)) |
                                          (Word{0} | ... | values.bits))};
    }

    /// What to write to the hardware after reading this value so that nothing changes: reserved-zero
    /// bits and write-1-to-clear bits are 0. Begin a read-modify-write with it.
    [[nodiscard]] constexpr Register write_back() const {
        constexpr auto all = Register::fields;
        constexpr Word dropped =
            static_cast<Word>(all.mask_of(access::write_1_to_clear) | all.mask_of(access::zero));
        return Register{static_cast<Word>(raw & static_cast<Word>(~dropped))};
    }

    /// What the hardware holds after software writes `written`, of which only the bits in `lanes`
    /// arrive (byte enables): the device's side of the access kinds.
    [[nodiscard]] constexpr Register after_write(Word written,
                                                 Word lanes = static_cast<Word>(~Word{0})) const {
        constexpr auto all = Register::fields;
        const Word taken = static_cast<Word>(lanes & all.mask_of(access::read_write));
        const Word cleared =
            static_cast<Word>(written & lanes & all.mask_of(access::write_1_to_clear));
        return Register{static_cast<Word>(
            (raw & static_cast<Word>(~taken) & static_cast<Word>(~cleared)) | (written & taken))};
    }

    friend constexpr bool operator==(const reg&, const reg&) = default;

private:
    template <class Field>
    static constexpr void listed() {
        static_assert(std::same_as<typename Field::owner, Register>,
                      "this field belongs to another register");
        static_assert(decltype(Register::fields)::template contains<Field>,
                      "this field is missing in the register's list `fields`");
    }
};

} // namespace pt
