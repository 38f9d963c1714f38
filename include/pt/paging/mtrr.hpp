// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/ept.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

/// Memory type range registers: which memory type the processor uses for which host-physical address
/// where no EPT entry decides [sdm, "Memory Type Range Registers (MTRRs)"]. Under EPT the MTRRs do not
/// take part, so a VMM copies their types into the EPT entries.
///
/// The SMRRs are left alone: they act in system-management mode only, and outside of it no access
/// reaches the memory that they cover.
namespace pt::mtrr {

/// IA32_MTRRCAP. The register exists if CPUID.01H:EDX bit 12 is set.
struct capabilities : reg<capabilities, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t msr = 0x0FE;
    // clang-format off
    static constexpr bits<11, 11, bool, access::read_only>         smrr{};
    static constexpr bits<10, 10, bool, access::read_only>         write_combining{}; // WC
    static constexpr bits< 8,  8, bool, access::read_only>         fixed_ranges{};    // FIX
    static constexpr bits< 7,  0, std::uint8_t, access::read_only> variable_ranges{}; // VCNT
    // clang-format on
    static constexpr field_list fields{smrr, write_combining, fixed_ranges, variable_ranges};
};

/// IA32_MTRR_DEF_TYPE.
struct default_type : reg<default_type, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t msr = 0x2FF;
    // clang-format off
    static constexpr bits<11, 11, bool>             enabled{};       ///< E; 0: all memory is UC
    static constexpr bits<10, 10, bool>             fixed_enabled{}; ///< FE; nothing without E
    static constexpr bits< 7,  0, ept::memory_type> type{};          ///< where no range matches
    // clang-format on
    static constexpr field_list fields{enabled, fixed_enabled, type};
};

/// One of the eleven fixed-range registers, IA32_MTRR_FIX64K_00000 to IA32_MTRR_FIX4K_F8000: the types
/// of eight ranges of the same size, the lowest in the low bits.
struct fixed_range : reg<fixed_range, std::uint64_t> {
    using reg::reg;
    // clang-format off
    static constexpr bits<63, 56, ept::memory_type> type_7{};
    static constexpr bits<55, 48, ept::memory_type> type_6{};
    static constexpr bits<47, 40, ept::memory_type> type_5{};
    static constexpr bits<39, 32, ept::memory_type> type_4{};
    static constexpr bits<31, 24, ept::memory_type> type_3{};
    static constexpr bits<23, 16, ept::memory_type> type_2{};
    static constexpr bits<15,  8, ept::memory_type> type_1{};
    static constexpr bits< 7,  0, ept::memory_type> type_0{};
    // clang-format on
    static constexpr field_list fields{type_7, type_6, type_5, type_4,
                                       type_3, type_2, type_1, type_0};
};

/// Where a fixed-range register is, and what it covers: eight ranges of `size` bytes from `first` on.
struct fixed_range_place {
    std::uint32_t msr;
    hpa first;
    std::uint64_t size;
};

/// The fixed-range registers in the order of their addresses.
inline constexpr fixed_range_place fixed_range_places[] = {
    {0x250, hpa{0x0'0000}, 64 * KiB}, // IA32_MTRR_FIX64K_00000
    {0x258, hpa{0x8'0000}, 16 * KiB}, // IA32_MTRR_FIX16K_80000
    {0x259, hpa{0xA'0000}, 16 * KiB}, // IA32_MTRR_FIX16K_A0000
    {0x268, hpa{0xC'0000}, 4 * KiB},  // IA32_MTRR_FIX4K_C0000
    {0x269, hpa{0xC'8000}, 4 * KiB},  // IA32_MTRR_FIX4K_C8000
    {0x26A, hpa{0xD'0000}, 4 * KiB},  // IA32_MTRR_FIX4K_D0000
    {0x26B, hpa{0xD'8000}, 4 * KiB},  // IA32_MTRR_FIX4K_D8000
    {0x26C, hpa{0xE'0000}, 4 * KiB},  // IA32_MTRR_FIX4K_E0000
    {0x26D, hpa{0xE'8000}, 4 * KiB},  // IA32_MTRR_FIX4K_E8000
    {0x26E, hpa{0xF'0000}, 4 * KiB},  // IA32_MTRR_FIX4K_F0000
    {0x26F, hpa{0xF'8000}, 4 * KiB},  // IA32_MTRR_FIX4K_F8000
};
inline constexpr std::size_t fixed_range_count = 11;
static_assert(sizeof fixed_range_places == fixed_range_count * sizeof(fixed_range_place));

/// IA32_MTRR_PHYSBASEn. Of the base, the bits below MAXPHYADDR exist.
struct physical_base : reg<physical_base, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t msr(unsigned n) { return 0x200 + 2 * n; }
    // clang-format off
    static constexpr bits<51, 12, hpa>              base{};
    static constexpr bits< 7,  0, ept::memory_type> type{};
    // clang-format on
    static constexpr field_list fields{base, type};
};

/// IA32_MTRR_PHYSMASKn: the range is every address that agrees with the base where the mask is 1. A
/// mask with zeros between ones makes several ranges; the manual calls them discontinuous, and allows
/// them without recommending them.
struct physical_mask : reg<physical_mask, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t msr(unsigned n) { return 0x201 + 2 * n; }
    // clang-format off
    static constexpr bits<51, 12, std::uint64_t> mask{}; ///< bits 51:12 of what addresses are ANDed with
    static constexpr bits<11, 11, bool>          valid{};
    // clang-format on
    static constexpr field_list fields{mask, valid};
};

struct variable_range {
    physical_base base;
    physical_mask mask;
};

/// The type of memory that two ranges of these types cover: UC wins, WT wins over WB. For any other
/// two the manual leaves the processor's behaviour undefined, and UC is what nothing goes wrong with.
/// Encodings that the manual reserves count as UC.
[[nodiscard]] constexpr ept::memory_type overlap(ept::memory_type a, ept::memory_type b) {
    using enum ept::memory_type;
    const auto is_cached = [](ept::memory_type t) { return t == write_through || t == write_back; };
    if (is_cached(a) && is_cached(b)) {
        return a == b ? a : write_through;
    }
    const bool is_known = a == write_combining || a == write_protected;
    return a == b && is_known ? a : uncacheable;
}

/// Addresses that all have one memory type.
struct run {
    range<hpa> memory;
    ept::memory_type type = ept::memory_type::uncacheable;

    friend constexpr bool operator==(const run&, const run&) = default;
};

class run_list;

/// A copy of a processor's MTRRs, and what they say. All processors of a machine must have the same
/// [sdm]. Any values are taken: firmware's mistakes end in a type, and not in a trap.
struct registers {
    /// Further variable ranges would have the MSR numbers of the fixed ones.
    static constexpr unsigned variable_capacity =
        (fixed_range_places[0].msr - physical_base::msr(0)) / 2;

    mtrr::capabilities capabilities{};
    mtrr::default_type default_type{};
    fixed_range fixed[fixed_range_count]{};
    variable_range variable[variable_capacity]{};
    /// MAXPHYADDR: CPUID 80000008H, EAX bits 7:0. Without that leaf it is 36 [sdm]. Numbers outside of
    /// 20 to 52, which no processor reports, count as the nearest of these.
    unsigned physical_width = 36;

    /// The memory type of an address: what an access with paging off would use. UC at and above
    /// MAXPHYADDR, where no access goes.
    [[nodiscard]] constexpr ept::memory_type type_of(hpa address) const {
        if (address.raw >> width() != 0) {
            return ept::memory_type::uncacheable;
        }
        if (in_fixed_range(address.raw)) {
            const fixed_piece piece = fixed_piece_at(address.raw);
            const auto type =
                static_cast<ept::memory_type>(fixed[piece.index].raw >> (8 * piece.part) & 0xFF);
            return overlap(type, type);
        }
        bool matched = false;
        ept::memory_type type = type_without_match();
        for (unsigned n = 0; n != variable_count(); ++n) {
            if (differences(n, address.raw) == 0) {
                type = matched ? overlap(type, variable_type(n)) : variable_type(n);
                matched = true;
            }
        }
        return type;
    }

    /// `memory`, cut into runs of one type: a lazy range of `run`, ascending, without gaps. Two
    /// neighbours have different types; the exception is said at first_run().
    [[nodiscard]] constexpr run_list runs(range<hpa> memory) const&;
    run_list runs(range<hpa>) const&& = delete; ///< it would refer to registers that are gone

    /// The longest run that `memory` begins with; an empty one for no memory.
    ///
    /// The work is bounded, whatever the registers hold, because a run is made of at most `most_pieces`
    /// pieces. With contiguous masks no run needs that many. Discontiguous ones can be made so
    /// that only trying every address tells where the type changes; there a run may end although
    /// the next one has the same type.
    [[nodiscard]] constexpr run first_run(range<hpa> memory) const {
        if (memory.empty()) {
            return {};
        }
        const ept::memory_type type = type_of(memory.first());
        const std::uint64_t first = memory.first().raw;
        std::uint64_t last = last_of_piece(first, first);
        for (unsigned pieces = 1;
             pieces != most_pieces && last < memory.last().raw && type_of(hpa{last + 1}) == type;
             ++pieces) {
            last = last_of_piece(last + 1, first);
        }
        last = last < memory.last().raw ? last : memory.last().raw;
        return {range{memory.first(), last - first + 1}, type};
    }

    /// Between two ends of contiguous ranges, of which there are twice variable_capacity, lie at most
    /// 80 aligned powers of two; 88 more are the fixed ranges.
    static constexpr unsigned most_pieces = 8192;

private:
    struct fixed_piece {
        std::size_t index;  ///< of the register
        std::uint64_t part; ///< which of its eight ranges
        std::uint64_t last; ///< the last address of that range
    };

    static constexpr std::uint64_t fixed_end = 1 * MiB;

    /// At least what the fixed ranges take, and at most what the registers have room for.
    [[nodiscard]] constexpr unsigned width() const {
        return physical_width < 20 ? 20 : physical_width > 52 ? 52 : physical_width;
    }
    [[nodiscard]] constexpr bool is_enabled() const {
        return default_type[mtrr::default_type::enabled];
    }
    [[nodiscard]] constexpr bool in_fixed_range(std::uint64_t address) const {
        return address < fixed_end && is_enabled() &&
               default_type[mtrr::default_type::fixed_enabled] &&
               capabilities[mtrr::capabilities::fixed_ranges];
    }
    [[nodiscard]] constexpr unsigned variable_count() const {
        const unsigned count = capabilities[mtrr::capabilities::variable_ranges];
        return !is_enabled() ? 0 : count < variable_capacity ? count : variable_capacity;
    }
    [[nodiscard]] constexpr ept::memory_type type_without_match() const {
        const ept::memory_type type = default_type[mtrr::default_type::type];
        return is_enabled() ? overlap(type, type) : ept::memory_type::uncacheable;
    }
    [[nodiscard]] constexpr ept::memory_type variable_type(unsigned n) const {
        const ept::memory_type type = variable[n].base[physical_base::type];
        return overlap(type, type);
    }
    /// The address bits that a variable range compares.
    [[nodiscard]] constexpr std::uint64_t mask_of(unsigned n) const {
        return variable[n].mask.raw & physical_mask::mask.mask &
               ((std::uint64_t{1} << width()) - 1);
    }
    /// In which bits the address is not what the variable range wants; bit 0 if it is not valid.
    [[nodiscard]] constexpr std::uint64_t differences(unsigned n, std::uint64_t address) const {
        return variable[n].mask[physical_mask::valid]
                   ? (address ^ variable[n].base.raw) & mask_of(n)
                   : 1;
    }

    [[nodiscard]] static constexpr fixed_piece fixed_piece_at(std::uint64_t address) {
        std::size_t index = fixed_range_count - 1;
        while (address < fixed_range_places[index].first.raw) {
            --index;
        }
        const fixed_range_place& place = fixed_range_places[index];
        const std::uint64_t part = (address - place.first.raw) / place.size;
        return {index, part, place.first.raw + (part + 1) * place.size - 1};
    }

    /// On which address bits the variable ranges' type may depend inside the block of `size` bytes, a
    /// power of two, that begins at `block`. 0: the block has one type.
    [[nodiscard]] constexpr std::uint64_t bits_that_matter(std::uint64_t block,
                                                           std::uint64_t size) const {
        const std::uint64_t inside = size - 1;
        bool covered = false; // by a range that matches everywhere in the block
        ept::memory_type type = type_without_match();
        for (unsigned n = 0; n != variable_count(); ++n) {
            if (differences(n, block) == 0 && (mask_of(n) & inside) == 0) {
                type = covered ? overlap(type, variable_type(n)) : variable_type(n);
                covered = true;
            }
        }
        std::uint64_t bits = 0;
        bool is_mixed = false;
        for (unsigned n = 0; n != variable_count(); ++n) {
            if ((differences(n, block) & (~inside | 1)) != 0) {
                continue; // it matches nowhere in the block
            }
            // A range that cannot change the type which covers the block never does, whatever
            // else matches. Without such a type even the default's own can: WB over WT.
            const bool changes =
                covered ? overlap(type, variable_type(n)) != type : variable_type(n) != type;
            is_mixed = is_mixed || changes;
            bits |= changes || !covered ? mask_of(n) & inside : 0;
        }
        return is_mixed ? bits : 0;
    }

    /// The last address of a piece that begins at `at` and has one type, given that all of `from` to
    /// `at` has that type already.
    [[nodiscard]] constexpr std::uint64_t last_of_piece(std::uint64_t at,
                                                        std::uint64_t from) const {
        if (at >> width() != 0) {
            return ~std::uint64_t{0};
        }
        if (in_fixed_range(at)) {
            return fixed_piece_at(at).last;
        }
        // What a fixed range says proves nothing about addresses that are alike in the variable ones.
        from = in_fixed_range(from) ? fixed_end : from;
        // Grow the block around `at` for as long as its double has one type as well: because no
        // variable range tells its addresses apart; or because its lower half is known, and the
        // upper half is known too, or cannot be told from it.
        std::uint64_t size = 4 * KiB;
        for (; size >> width() == 0; size *= 2) {
            const std::uint64_t parent = at & ~(2 * size - 1);
            const std::uint64_t bits = bits_that_matter(parent, 2 * size);
            const bool halves_alike = parent >= from && ((at & size) != 0 || (bits & size) == 0);
            if (bits != 0 && !halves_alike) {
                break;
            }
        }
        return at | (size - 1);
    }
};

/// The end of a run_list.
struct run_list_end {};

/// The runs of one type in a range of memory, as a lazy range. It refers to the registers, which must
/// outlive it and its iterators.
class run_list {
public:
    using value_type = run;

    class iterator {
    public:
        using value_type = run;
        using difference_type = std::ptrdiff_t;

        constexpr iterator() = default;
        constexpr iterator(const registers& from, range<hpa> memory)
            : registers_{&from}, rest_{memory}, run_{from.first_run(memory)} {}

        [[nodiscard]] constexpr run operator*() const { return run_; }
        [[nodiscard]] constexpr const run* operator->() const { return &run_; }
        constexpr iterator& operator++() {
            const std::uint64_t size = run_.memory.size();
            return *this = iterator{*registers_, {rest_.first() + size, rest_.size() - size}};
        }
        constexpr iterator operator++(int) {
            iterator before = *this;
            ++*this;
            return before;
        }

        friend constexpr bool operator==(const iterator& a, const iterator& b) {
            return a.rest_ == b.rest_;
        }
        friend constexpr bool operator==(const iterator& at, run_list_end) {
            return at.rest_.empty();
        }

    private:
        const registers* registers_ = nullptr;
        range<hpa> rest_; ///< from the current run on
        run run_;
    };

    constexpr run_list(const registers& from, range<hpa> memory)
        : registers_{&from}, memory_{memory} {}

    [[nodiscard]] constexpr iterator begin() const { return {*registers_, memory_}; }
    [[nodiscard]] constexpr run_list_end end() const { return {}; }

private:
    const registers* registers_;
    range<hpa> memory_;
};

constexpr run_list registers::runs(range<hpa> memory) const& { return {*this, memory}; }

/// How a VMM reads one of its own processor's MSRs: RDMSR.
template <class R>
concept msr_reader = requires(R& read_msr, std::uint32_t msr) {
    { read_msr(msr) } -> std::same_as<std::uint64_t>;
};

/// Reads the MTRRs of the processor that runs, and none that it lacks; `physical_width` is MAXPHYADDR.
/// The processor must have MTRRs (CPUID.01H:EDX bit 12); where it has none, `registers{}` says what
/// then holds, UC everywhere. errc::out_of_range with VCNT if there are more variable ranges
/// than MSR numbers for them.
template <msr_reader Reader>
[[nodiscard]] constexpr result<registers> read(Reader&& read_msr, unsigned physical_width) {
    registers all{};
    all.physical_width = physical_width;
    all.capabilities = capabilities{read_msr(capabilities::msr)};
    all.default_type = default_type{read_msr(default_type::msr)};
    if (all.capabilities[capabilities::fixed_ranges]) {
        for (std::size_t i = 0; i != fixed_range_count; ++i) {
            all.fixed[i] = fixed_range{read_msr(fixed_range_places[i].msr)};
        }
    }
    const unsigned count = all.capabilities[capabilities::variable_ranges];
    if (count > registers::variable_capacity) {
        return error{errc::out_of_range, count};
    }
    for (unsigned n = 0; n != count; ++n) {
        all.variable[n].base = physical_base{read_msr(physical_base::msr(n))};
        all.variable[n].mask = physical_mask{read_msr(physical_mask::msr(n))};
    }
    return all;
}

} // namespace pt::mtrr
