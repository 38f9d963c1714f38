// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/interrupt_route.hpp"

#include <cstdint>

namespace pt::pci {

/// One vector of a virtual MSI-X table. The VMM provides as many as the guest shall have; all else
/// about them is the table's business.
class msi_x_vector {
    template <interrupt_route Route>
    friend class virtual_msi_x;

    interrupt_message message_{};
    bool masked_ = true;
    bool pending_ = false;
    bool open_ = false;
};

/// The MSI-X table and pending bits as a guest sees them [pci]: they live in the VMM, and never
/// reach the device's own.
template <interrupt_route Route>
class virtual_msi_x {
public:
    static constexpr unsigned entry_size = 16; ///< bytes a vector

    explicit constexpr virtual_msi_x(Route route) : route_{route} {}

    /// Takes `count` vectors of the VMM, which must outlive their use here; all are masked and the
    /// capability is off, as after reset.
    constexpr void assign(msi_x_vector* vectors, std::uint16_t count) {
        vectors_ = vectors;
        count_ = count;
        enabled_ = function_masked_ = false;
        for (std::uint16_t n = 0; n < count_; ++n) {
            vectors_[n] = {};
        }
    }

    [[nodiscard]] constexpr std::uint16_t size() const { return count_; }

    /// Message Control has changed.
    constexpr void control(bool enabled, bool function_masked) {
        if (enabled == enabled_ && function_masked == function_masked_) {
            return;
        }
        enabled_ = enabled;
        function_masked_ = function_masked;
        for (std::uint16_t n = 0; n < count_; ++n) {
            update(n, message::as_it_was);
        }
    }

    /// Power-on state.
    constexpr void reset() {
        control(false, false);
        for (std::uint16_t n = 0; n < count_; ++n) {
            vectors_[n] = {};
        }
    }

    /// A read of `size` bytes at `offset` of the table. Legal are dwords and qwords, aligned [pci];
    /// anything else, or past the end, reads all ones.
    [[nodiscard]] constexpr std::uint64_t read_table(std::uint64_t offset, mmio_width size) const {
        if (!legal(offset, size) || offset / entry_size >= count_) {
            return all_ones(size);
        }
        if (size == mmio_width::dword) {
            return dword(offset);
        }
        return dword(offset) | std::uint64_t{dword(offset + 4)} << 32;
    }

    /// A write, legal as a read is; any other vanishes. A qword arrives as a whole.
    constexpr void write_table(std::uint64_t offset, mmio_width size, std::uint64_t value) {
        if (!legal(offset, size) || offset / entry_size >= count_) {
            return;
        }
        const auto n = static_cast<std::uint16_t>(offset / entry_size);
        const interrupt_message before = vectors_[n].message_;
        put(offset, static_cast<std::uint32_t>(value));
        if (size == mmio_width::qword) {
            put(offset + 4, static_cast<std::uint32_t>(value >> 32));
        }
        update(n, vectors_[n].message_ == before ? message::as_it_was : message::changed);
    }

    /// A read of the pending bits, legal as those of the table are. Writes to them vanish [pci].
    [[nodiscard]] constexpr std::uint64_t read_pending(std::uint64_t offset, mmio_width size) {
        if (!legal(offset, size) || offset >= pending_size()) {
            return all_ones(size);
        }
        std::uint64_t bits = 0;
        for (unsigned i = 0; i < 8 * size_of(size) && 8 * offset + i < count_; ++i) {
            const auto n = static_cast<std::uint16_t>(8 * offset + i);
            const msi_x_vector& vector = vectors_[n];
            if (vector.pending_ || (enabled_ && !vector.open_ && route_.pending(source(n)))) {
                bits |= std::uint64_t{1} << i;
            }
        }
        return bits;
    }

    /// The device requests an interrupt: it is sent, or pending while the vector or the function is
    /// masked. errc::out_of_range with the number of a vector that the table does not have;
    /// errc::refused while the capability is off.
    constexpr result<void> request(std::uint16_t n) {
        if (n >= count_) {
            return error{errc::out_of_range, n};
        }
        if (!enabled_) {
            return error{errc::refused, n};
        }
        if (vectors_[n].open_) {
            route_.send(source(n), vectors_[n].message_);
        } else {
            vectors_[n].pending_ = true;
        }
        return {};
    }

private:
    static constexpr bool legal(std::uint64_t offset, mmio_width size) {
        return (size == mmio_width::dword || size == mmio_width::qword) &&
               offset % size_of(size) == 0;
    }
    static constexpr interrupt_source source(std::uint16_t n) { return {interrupt_kind::msi_x, n}; }

    /// In whole qwords [pci].
    [[nodiscard]] constexpr std::uint64_t pending_size() const {
        return (count_ + std::uint64_t{63}) / 64 * 8;
    }

    [[nodiscard]] constexpr std::uint32_t dword(std::uint64_t offset) const {
        const msi_x_vector& vector = vectors_[offset / entry_size];
        switch (offset % entry_size) {
        case 0: return static_cast<std::uint32_t>(vector.message_.address);
        case 4: return static_cast<std::uint32_t>(vector.message_.address >> 32);
        case 8: return vector.message_.data;
        default: return vector.masked_ ? 1 : 0; // Vector Control; its other bits are reserved
        }
    }
    constexpr void put(std::uint64_t offset, std::uint32_t value) {
        msi_x_vector& vector = vectors_[offset / entry_size];
        std::uint64_t& address = vector.message_.address;
        switch (offset % entry_size) {
        case 0: address = (address & ~std::uint64_t{0xFFFF'FFFF}) | (value & ~3U); break;
        case 4: address = (address & 0xFFFF'FFFF) | std::uint64_t{value} << 32; break;
        case 8: vector.message_.data = value; break;
        default: vector.masked_ = (value & 1) != 0;
        }
    }

    enum class message { as_it_was, changed };

    /// Tells the route what vector `n` is now, if that is news, and sends what is pending if it may.
    constexpr void update(std::uint16_t n, message news) {
        msi_x_vector& vector = vectors_[n];
        const bool was_open = vector.open_;
        vector.open_ = enabled_ && !function_masked_ && !vector.masked_;
        if (!vector.open_) {
            if (was_open) {
                route_.close(source(n));
            }
            return;
        }
        if (!was_open || news == message::changed) {
            route_.open(source(n), vector.message_);
        }
        if (vector.pending_) {
            vector.pending_ = false;
            route_.send(source(n), vector.message_);
        }
    }

    [[no_unique_address]] Route route_;
    msi_x_vector* vectors_ = nullptr;
    std::uint16_t count_ = 0;
    bool enabled_ = false;
    bool function_masked_ = false;
};

} // namespace pt::pci
