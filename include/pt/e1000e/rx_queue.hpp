// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_descriptor.hpp"

#include <cstdint>

namespace pt::e1000e {

/// The registers of one receive queue as a guest sees them [82574]: what a device's side of reception
/// is told. It does no work itself.
///
/// RDBAL, RDBAH, RDLEN, RDH, RDT and RXDCTL are the queue's own. RCTL, RDTR, RADV, RSRPD, RXCSUM,
/// RFCTL and VET the NIC has once: a VMM passes their writes to everything that owns them and reads
/// any of the copies. Of CTRL, which is the VMM's, only VME and RST are taken notice of when it is
/// written here. The delay timers of RDTR and RADV are the VMM's, and so is what RDTR.FPD commands:
/// the delay ends at once. FPD reads as 0.
class rx_queue {
    template <class R>
    [[nodiscard]] constexpr std::uint32_t place_of(const R&) const {
        if constexpr (queue_register<R>) {
            return offset_of<R>(number_);
        } else {
            return R::offset;
        }
    }

    /// Calls found(register) with the register at `offset`, if it is here; says whether it is.
    template <class Self, class F>
    static constexpr bool find(Self& self, std::uint32_t offset, F&& found) {
        const auto is = [&](auto& candidate) {
            if (offset != self.place_of(candidate)) {
                return false;
            }
            found(candidate);
            return true;
        };
        return is(self.rdt_) || is(self.rdh_) || is(self.rctl_) || is(self.rdbal_) ||
               is(self.rdbah_) || is(self.rdlen_) || is(self.rxdctl_) || is(self.rdtr_) ||
               is(self.radv_) || is(self.rsrpd_) || is(self.rxcsum_) || is(self.rfctl_) ||
               is(self.vet_);
    }

public:
    constexpr explicit rx_queue(queue number = queue::first) : number_{number} {}

    [[nodiscard]] constexpr queue number() const { return number_; }

    /// What a reset of the NIC does: every register has its initial value.
    constexpr void reset() { *this = rx_queue{number_}; }

    /// Whether the register at `offset`, in bytes, has its value here.
    [[nodiscard]] constexpr bool owns(std::uint32_t offset) const {
        return find(*this, offset, [](const auto&) {});
    }

    /// What the guest reads at `offset`; 0 where owns() is false.
    [[nodiscard]] constexpr std::uint32_t read(std::uint32_t offset) const {
        std::uint32_t value = 0;
        find(*this, offset, [&](const auto& found) { value = found.raw; });
        return value;
    }

    /// What the guest writes; ignored where owns() is false, apart from CTRL. Reserved bits stay 0,
    /// and so do those that software only writes. RDH takes a value only while RCTL.EN is clear.
    /// CTRL.RST is a reset().
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        if (offset == ctrl::offset) {
            if (ctrl{value}[ctrl::rst]) {
                return reset();
            }
            vlan_mode_ = ctrl{value}[ctrl::vme];
        } else if (offset != offset_of<rdh>(number_) || !enabled()) {
            find(*this, offset, [&](auto& found) { found = found.after_write(value); });
        }
    }

    /// Whether frames are received: RCTL.EN.
    [[nodiscard]] constexpr bool enabled() const { return rctl_[rctl::en]; }

    /// Whether RDBA, RDLEN, RDH and RDT describe a ring: it has descriptors, head and tail are among
    /// them, and it ends within the address space.
    [[nodiscard]] constexpr bool valid() const {
        const std::uint64_t length = rdlen_.raw;
        return length != 0 && head() < count() && tail() < count() &&
               base().raw + (length - 1) >= base().raw;
    }

    /// Where the ring begins.
    [[nodiscard]] constexpr iova base() const {
        return iova{static_cast<std::uint64_t>(rdbah_.raw) << 32U | rdbal_.raw};
    }
    /// Descriptors in the ring: 0, or a multiple of 8 up to 65,528.
    [[nodiscard]] constexpr std::uint32_t count() const { return rdlen_.raw / rx_descriptor_size; }
    [[nodiscard]] constexpr std::uint32_t head() const { return rdh_.raw; }
    [[nodiscard]] constexpr std::uint32_t tail() const { return rdt_.raw; }

    /// Where the descriptor lies that is `distance` after the head of a valid() ring, at most
    /// count() away.
    [[nodiscard]] constexpr iova address_after_head(std::uint32_t distance) const {
        return base() + static_cast<std::uint64_t>(after_head(distance)) * rx_descriptor_size;
    }

    /// Descriptors that the device may fill: from the head up to the tail, of a valid() ring.
    [[nodiscard]] constexpr std::uint32_t available() const {
        return tail() >= head() ? tail() - head() : tail() + count() - head();
    }

    /// Moves the head of a valid() ring past `descriptors` of the available() ones, and says whether
    /// RXDMT0 is due: as few are left as RCTL.RDMTS says, a half, a quarter or an eighth of the ring.
    constexpr bool advance_head(std::uint32_t descriptors) {
        const std::uint32_t threshold = count() >> (1U + rctl_[rctl::rdmts]);
        const std::uint32_t before = available();
        rdh_.raw = after_head(descriptors);
        return before > threshold && available() <= threshold;
    }

    /// Bytes of a buffer, 256 to 16,384, as RCTL's FLXBUF, BSIZE and BSEX say. The combination that
    /// is reserved, BSEX with BSIZE 0, is taken for 2,048.
    [[nodiscard]] constexpr std::uint32_t buffer_size() const {
        if (rctl_[rctl::flxbuf] != 0) {
            return 1024U * rctl_[rctl::flxbuf];
        }
        const std::uint32_t size = 2048U >> rctl_[rctl::bsize];
        return rctl_[rctl::bsex] && size != 2048 ? 16 * size : size;
    }

    /// The most bytes of a packet, from destination to CRC, as RCTL.LPE says. A longer one is
    /// dropped.
    [[nodiscard]] constexpr std::uint32_t longest_packet() const {
        return rctl_[rctl::lpe] ? 16'384 : 1522;
    }

    /// Whether a packet raises the interrupt only after a delay: RDTR is not 0.
    [[nodiscard]] constexpr bool delays_interrupt() const { return rdtr_[rdtr::delay] != 0; }

    /// What a packet raises: RXT0, and the cause of the queue for MSI-X.
    [[nodiscard]] constexpr icr packet_causes() const {
        return number_ == queue::first ? icr{icr::rxt0(true), icr::rxq0(true)}
                                       : icr{icr::rxt0(true), icr::rxq1(true)};
    }

    /// Whether a packet of so many bytes in memory raises SRPD.
    [[nodiscard]] constexpr bool is_small(std::uint32_t bytes) const {
        return bytes <= rsrpd_[rsrpd::size];
    }

    /// Whether tags are taken out of packets: CTRL.VME.
    [[nodiscard]] constexpr bool vlan_mode() const { return vlan_mode_; }
    /// How a VLAN tag begins on the wire: VET.
    [[nodiscard]] constexpr std::uint16_t vlan_ether_type() const { return vet_[vet::ether_type]; }

    [[nodiscard]] constexpr rctl control() const { return rctl_; }
    [[nodiscard]] constexpr rxcsum checksum_control() const { return rxcsum_; }
    [[nodiscard]] constexpr rfctl filter_control() const { return rfctl_; }

private:
    [[nodiscard]] constexpr std::uint32_t after_head(std::uint32_t distance) const {
        const std::uint32_t index = head() + distance;
        return index >= count() ? index - count() : index;
    }

    queue number_;
    bool vlan_mode_ = false;
    rdbal rdbal_;
    rdbah rdbah_;
    rdlen rdlen_;
    rdh rdh_;
    rdt rdt_;
    rxdctl rxdctl_{rxdctl::wthresh(1)};
    rctl rctl_;
    rdtr rdtr_;
    radv radv_;
    rsrpd rsrpd_;
    rxcsum rxcsum_{rxcsum::ipofl(true), rxcsum::tuofl(true)};
    rfctl rfctl_;
    vet vet_{vet::ether_type(0x8100)};
};

} // namespace pt::e1000e
