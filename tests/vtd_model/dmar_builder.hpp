// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vtd_model {

/// A table under construction; the offsets are those of the specification, written out.
struct dmar_builder {
    std::vector<std::uint8_t> bytes;
    std::size_t start = 0; ///< of the structure that was begun last

    constexpr dmar_builder() {
        for (const char c : {'D', 'M', 'A', 'R'}) {
            number(static_cast<std::uint8_t>(c), 1);
        }
        number(0, 4);  // length
        number(1, 1);  // revision
        number(0, 1);  // checksum
        number(0, 26); // who made it
        number(38, 1); // host address width, minus one
        number(5, 1);  // flags
        number(0, 10);
    }
    constexpr dmar_builder& number(std::uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) {
            bytes.push_back(i < 8 ? static_cast<std::uint8_t>(value >> 8 * i) : std::uint8_t{0});
        }
        return *this;
    }
    constexpr dmar_builder& structure(unsigned type, unsigned length) {
        start = bytes.size();
        return number(type, 2).number(length, 2);
    }
    /// The structure that was begun last ends here, whatever length it was given.
    constexpr dmar_builder& end() {
        bytes[start + 2] = static_cast<std::uint8_t>(bytes.size() - start);
        bytes[start + 3] = static_cast<std::uint8_t>((bytes.size() - start) >> 8);
        return *this;
    }
    constexpr dmar_builder& scope(unsigned type, unsigned id, unsigned bus,
                                  const std::vector<unsigned>& path, unsigned flags = 0) {
        number(type, 1).number(6 + path.size(), 1).number(flags, 2).number(id, 1).number(bus, 1);
        for (const unsigned byte : path) {
            number(byte, 1);
        }
        return *this;
    }
    constexpr dmar_builder& drhd(unsigned length, unsigned flags, std::uint64_t base,
                                 unsigned segment = 0) {
        return structure(0, length).number(flags, 2).number(segment, 2).number(base, 8);
    }
    constexpr dmar_builder& rmrr(unsigned length, std::uint64_t base, std::uint64_t limit,
                                 unsigned segment = 0) {
        return structure(1, length)
            .number(0, 2)
            .number(segment, 2)
            .number(base, 8)
            .number(limit, 8);
    }
    constexpr dmar_builder& atsr(unsigned length, unsigned flags, unsigned segment = 0) {
        return structure(2, length).number(flags, 2).number(segment, 2);
    }
    constexpr dmar_builder& satc(unsigned length, unsigned flags, unsigned segment = 0) {
        return structure(5, length).number(flags, 2).number(segment, 2);
    }
    /// With length and checksum in their places.
    constexpr std::vector<std::uint8_t> table() const {
        auto made = bytes;
        for (unsigned i = 0; i < 4; ++i) {
            made[4 + i] = static_cast<std::uint8_t>(made.size() >> 8 * i);
        }
        return summed(made);
    }
    static constexpr std::vector<std::uint8_t> summed(std::vector<std::uint8_t> made) {
        made[9] = 0;
        unsigned sum = 0;
        for (const auto byte : made) {
            sum += byte;
        }
        made[9] = static_cast<std::uint8_t>(0U - sum);
        return made;
    }
};

} // namespace vtd_model
