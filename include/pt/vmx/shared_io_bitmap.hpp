// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vmx {

/// Who keeps ports open: any number by which the VMM tells its owners apart, e.g. the
/// bus/device/function of the device whose BAR it is.
enum class port_owner : std::uint32_t {};

/// A range of ports that one owner keeps open.
struct kept_ports {
    port_owner owner{};
    range<io_port> ports{}; ///< empty: this slot is free
};

/// An I/O bitmap with several owners: a port is open exactly as long as some owner keeps it. The BARs
/// of two devices, or two BARs of one, may overlap, because guests may program them so; when one of
/// them goes away, the ports of the other stay open.
class shared_io_bitmap {
public:
    /// `slots` is the VMM's memory, one slot for each range that can be kept at the same time.
    constexpr shared_io_bitmap(io_bitmap bitmap, kept_ports* slots, std::size_t slot_count)
        : bitmap_{bitmap}, slots_{slots}, slot_count_{slot_count} {
        for (std::size_t i = 0; i != slot_count_; ++i) {
            slots_[i] = {};
        }
    }

    /// `owner` keeps `ports` open from now on; each open needs its own close. errc::refused with the
    /// first protected port in the range, errc::busy when no slot is free; then nothing has changed.
    constexpr result<> open(port_owner owner, range<io_port> ports) {
        if (ports.empty()) {
            return {};
        }
        kept_ports* const slot = find({}, range<io_port>{});
        if (slot == nullptr) {
            return error{errc::busy, ports.first().raw};
        }
        if (const result<> opened = bitmap_.open(ports); !opened) {
            return opened;
        }
        *slot = {owner, ports};
        return {};
    }

    /// Takes back one open of exactly these ports by this owner; the ports that nobody else keeps
    /// close. errc::absent with the first port when the owner does not keep this range.
    constexpr result<> close(port_owner owner, range<io_port> ports) {
        if (ports.empty()) {
            return {};
        }
        kept_ports* const slot = find(owner, ports);
        if (slot == nullptr) {
            return error{errc::absent, ports.first().raw};
        }
        release(*slot);
        return {};
    }

    /// Takes back everything that the owner keeps.
    constexpr void close_all(port_owner owner) {
        for (std::size_t i = 0; i != slot_count_; ++i) {
            if (slots_[i].owner == owner && !slots_[i].ports.empty()) {
                release(slots_[i]);
            }
        }
    }

    /// As io_bitmap::exits.
    [[nodiscard]] constexpr bool exits(io_port port, width size) const {
        return bitmap_.exits(port, size);
    }

private:
    constexpr kept_ports* find(port_owner owner, range<io_port> ports) {
        for (std::size_t i = 0; i != slot_count_; ++i) {
            if (slots_[i].owner == owner && slots_[i].ports == ports) {
                return &slots_[i];
            }
        }
        return nullptr;
    }

    /// Frees the slot and closes those of its ports that no slot keeps any more, run by run, so that a
    /// port that stays open never closes in between.
    constexpr void release(kept_ports& slot) {
        const range<io_port> ports = slot.ports;
        slot = {};
        std::uint32_t port = ports.first().raw;
        const std::uint32_t end = port + static_cast<std::uint32_t>(ports.size());
        while (port < end) {
            std::uint32_t open_until = port;  // end of the kept range around `port`
            std::uint32_t closed_until = end; // start of the next kept range after `port`
            for (std::size_t i = 0; i != slot_count_; ++i) {
                const range<io_port> kept = slots_[i].ports;
                const std::uint32_t kept_first = kept.first().raw;
                const std::uint32_t kept_end = kept_first + static_cast<std::uint32_t>(kept.size());
                if (kept_first <= port && kept_end > open_until) {
                    open_until = kept_end;
                }
                if (!kept.empty() && kept_first > port && kept_first < closed_until) {
                    closed_until = kept_first;
                }
            }
            if (open_until > port) {
                port = open_until;
            } else {
                bitmap_.close({io_port{static_cast<std::uint16_t>(port)}, closed_until - port});
                port = closed_until;
            }
        }
    }

    io_bitmap bitmap_;
    kept_ports* slots_;
    std::size_t slot_count_;
};

} // namespace pt::vmx
