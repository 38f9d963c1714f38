// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/bitmap_change.hpp"
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

/// An I/O bitmap with several owners: a port is open exactly as long as some owner keeps it. The
/// BARs of two devices, or two BARs of one, may overlap, because guests may program them so; when
/// one of them goes away, the ports of the other stay open, and never close in between.
///
/// To move a BAR, open the new range before closing the old one: if the new one is refused, the old
/// one is still there, and ports that are in both never exit.
///
/// One processor changes it at a time, as with io_bitmap, and only that one reads the list of
/// owners; exits() reads the bits alone and needs no lock.
class shared_io_bitmap {
public:
    /// `slots` is the VMM's memory, one slot for each range that can be kept at the same time.
    /// Every port of the bitmap should be closed, as it is after its construction: what is open
    /// without an owner closes with the first owner that had it too.
    constexpr shared_io_bitmap(io_bitmap bitmap, kept_ports* slots, std::size_t slot_count)
        : bitmap_{bitmap}, slots_{slots}, slot_count_{slot_count} {
        for (std::size_t i = 0; i != slot_count_; ++i) {
            slots_[i] = {};
        }
    }

    /// `owner` keeps `ports` open from now on; each open needs its own close. errc::refused with
    /// the first protected port in the range, errc::busy with the first port when no slot is free;
    /// then nothing has changed.
    constexpr result<vcpu::bitmap_change> open(port_owner owner, range<io_port> ports) {
        if (ports.empty()) {
            return vcpu::bitmap_change{};
        }
        kept_ports* const slot = find({}, range<io_port>{});
        if (slot == nullptr) {
            return error{errc::busy, ports.first().raw};
        }
        const result<vcpu::bitmap_change> opened = bitmap_.open(ports);
        if (opened) {
            *slot = {owner, ports};
        }
        return opened;
    }

    /// open() for the BAR of a device, of which the guest has chosen the number `guest`, and which
    /// the real device decodes at `host`. An open port is not translated: where the two differ the
    /// guest would reach another device, so that this is errc::refused with the guest's first port,
    /// and the accesses are to exit and be forwarded. Otherwise as open.
    constexpr result<vcpu::bitmap_change> open_identity(port_owner owner, range<io_port> guest,
                                                        range<io_port> host) {
        if (guest != host) {
            return error{errc::refused, guest.first().raw};
        }
        return open(owner, guest);
    }

    /// Takes back one open of exactly these ports by this owner; the ports that nobody else keeps
    /// close. errc::absent with the first port when the owner does not keep this range.
    constexpr result<vcpu::bitmap_change> close(port_owner owner, range<io_port> ports) {
        if (ports.empty()) {
            return vcpu::bitmap_change{};
        }
        kept_ports* const slot = find(owner, ports);
        if (slot == nullptr) {
            return error{errc::absent, ports.first().raw};
        }
        return release(*slot);
    }

    /// Takes back everything that the owner keeps.
    constexpr vcpu::bitmap_change close_all(port_owner owner) {
        vcpu::bitmap_change change;
        for (std::size_t i = 0; i != slot_count_; ++i) {
            if (slots_[i].owner == owner && !slots_[i].ports.empty()) {
                change |= release(slots_[i]);
            }
        }
        return change;
    }

    /// What open() of these ports would answer, whoever the owner is; nothing changes.
    [[nodiscard]] constexpr result<vcpu::bitmap_change> opening(range<io_port> ports) const {
        if (!ports.empty() && find({}, range<io_port>{}) == nullptr) {
            return error{errc::busy, ports.first().raw};
        }
        return bitmap_.opening(ports);
    }

    /// What close(owner, ports) would answer; nothing changes.
    [[nodiscard]] constexpr result<vcpu::bitmap_change> closing(port_owner owner,
                                                                range<io_port> ports) const {
        if (ports.empty()) {
            return vcpu::bitmap_change{};
        }
        const kept_ports* const slot = find(owner, ports);
        if (slot == nullptr) {
            return error{errc::absent, ports.first().raw};
        }
        vcpu::bitmap_change change;
        for (auto run = first_run(*slot); !run.empty(); run = next_run(*slot, run)) {
            change |= bitmap_.closing(run);
        }
        return change;
    }

    /// As io_bitmap::exits; at any time and on any processor.
    [[nodiscard]] constexpr bool exits(io_port port, width size) const {
        return bitmap_.exits(port, size);
    }

private:
    [[nodiscard]] constexpr kept_ports* find(port_owner owner, range<io_port> ports) const {
        for (std::size_t i = 0; i != slot_count_; ++i) {
            if (slots_[i].owner == owner && slots_[i].ports == ports) {
                return &slots_[i];
            }
        }
        return nullptr;
    }

    constexpr vcpu::bitmap_change release(kept_ports& slot) {
        vcpu::bitmap_change change;
        for (auto run = first_run(slot); !run.empty(); run = next_run(slot, run)) {
            change |= bitmap_.close(run);
        }
        slot = {};
        return change;
    }

    // The ports of a slot that no other slot keeps, run by run.
    [[nodiscard]] constexpr range<io_port> first_run(const kept_ports& slot) const {
        return run_from(slot, slot.ports.first().raw);
    }
    [[nodiscard]] constexpr range<io_port> next_run(const kept_ports& slot,
                                                    range<io_port> run) const {
        return run_from(slot, run.last().raw + 1U);
    }
    /// The first run at `port` or above; empty when there is none.
    [[nodiscard]] constexpr range<io_port> run_from(const kept_ports& slot,
                                                    std::uint32_t port) const {
        const std::uint32_t end =
            slot.ports.first().raw + static_cast<std::uint32_t>(slot.ports.size());
        while (port < end) {
            std::uint32_t kept_until = port; // end of the other kept range around `port`
            std::uint32_t free_until = end;  // start of the next one after `port`
            for (std::size_t i = 0; i != slot_count_; ++i) {
                const range<io_port> kept = slots_[i].ports;
                if (&slots_[i] == &slot || kept.empty()) {
                    continue;
                }
                const std::uint32_t kept_first = kept.first().raw;
                const std::uint32_t kept_end = kept_first + static_cast<std::uint32_t>(kept.size());
                if (kept_first <= port && kept_end > kept_until) {
                    kept_until = kept_end;
                }
                if (kept_first > port && kept_first < free_until) {
                    free_until = kept_first;
                }
            }
            if (kept_until == port) {
                return {io_port{static_cast<std::uint16_t>(port)}, free_until - port};
            }
            port = kept_until;
        }
        return {};
    }

    io_bitmap bitmap_;
    kept_ports* slots_;
    std::size_t slot_count_;
};

} // namespace pt::vmx
