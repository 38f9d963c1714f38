// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <compare>
#include <cstdint>

namespace pt {

inline constexpr std::uint64_t KiB = 1024;
inline constexpr std::uint64_t MiB = 1024 * KiB;
inline constexpr std::uint64_t GiB = 1024 * MiB;
inline constexpr std::uint64_t TiB = 1024 * GiB;

/// A point in one address space, in bytes. Points of different spaces do not mix, and no point is
/// a host pointer: a memory policy is the only way from an hpa to something that can be read.
/// point - point = size, point + size = point; point + point does not compile. Arithmetic wraps as
/// the machine's does; `range` is where ends are checked.
template <class Space, class Word = std::uint64_t>
struct address {
    using word = Word;

    Word raw{};

    constexpr address() = default;
    explicit constexpr address(Word value) : raw{value} {}

    friend constexpr bool operator==(address, address) = default;
    friend constexpr auto operator<=>(address, address) = default;

    friend constexpr address operator+(address point, std::uint64_t size) {
        return address{static_cast<Word>(point.raw + size)};
    }
    friend constexpr address operator-(address point, std::uint64_t size) {
        return address{static_cast<Word>(point.raw - size)};
    }
    friend constexpr std::uint64_t operator-(address a, address b) {
        return static_cast<Word>(a.raw - b.raw);
    }
    constexpr address& operator+=(std::uint64_t size) { return *this = *this + size; }
    constexpr address& operator-=(std::uint64_t size) { return *this = *this - size; }

    /// Whether the point is a multiple of `size`, a power of two.
    [[nodiscard]] constexpr bool is_aligned(std::uint64_t size) const {
        return (raw & (size - 1)) == 0;
    }
    /// The multiple of `size`, a power of two, at or below the point.
    [[nodiscard]] constexpr address align_down(std::uint64_t size) const {
        return address{static_cast<Word>(raw & ~(size - 1))};
    }
    /// How far the point lies above align_down(size).
    [[nodiscard]] constexpr std::uint64_t offset_in(std::uint64_t size) const {
        return raw & (size - 1);
    }
};

struct guest_physical_space;
struct host_physical_space;
struct io_virtual_space;
struct io_port_space;

/// Guest-physical: what the guest believes to be physical memory. EPT translates it.
using gpa = address<guest_physical_space>;
/// Host-physical: what the memory controller sees. Tables hold it.
using hpa = address<host_physical_space>;
/// What a device puts on the bus. The IOMMU translates it; for an assigned device it is the number
/// of a gpa, and saying so takes a visible conversion.
using iova = address<io_virtual_space>;
/// An x86 I/O port.
using io_port = address<io_port_space, std::uint16_t>;

/// Whether T is one of the address types, and so lies in a register without being shifted.
template <class T>
inline constexpr bool is_address = false;
template <class Space, class Word>
inline constexpr bool is_address<address<Space, Word>> = true;

} // namespace pt
