// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_descriptor.hpp"

#include <cstdint>

namespace pt::e1000e {

/// The registers of one transmit queue as a guest sees them [82574]: what a device's side of
/// transmission is told. It does no work itself.
///
/// TDBAL, TDBAH, TDLEN, TDH, TDT, TXDCTL and TARC are the queue's own. TCTL, TIDV, TADV and VET the
/// NIC has once: a VMM passes their writes to everything that owns them and reads any of the
/// copies. Of CTRL, which is the VMM's, only VME and RST are taken notice of when it is written
/// here.
class tx_queue {
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
        return is(self.tdt_) || is(self.tdh_) || is(self.tctl_) || is(self.tdbal_) ||
               is(self.tdbah_) || is(self.tdlen_) || is(self.txdctl_) || is(self.tarc_) ||
               is(self.tidv_) || is(self.tadv_) || is(self.vet_);
    }

public:
    constexpr explicit tx_queue(queue number = queue::first) : number_{number} {}

    [[nodiscard]] constexpr queue number() const { return number_; }

    /// What a reset of the NIC does: every register has its initial value.
    constexpr void reset() { *this = tx_queue{number_}; }

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
    /// and so do those that software only writes. TDH takes a value only while TCTL.EN is clear.
    /// CTRL.RST is a reset().
    constexpr void write(std::uint32_t offset, std::uint32_t value) {
        if (offset == ctrl::offset) {
            if (ctrl{value}[ctrl::rst]) {
                return reset();
            }
            vlan_mode_ = ctrl{value}[ctrl::vme];
        } else if (offset == tctl::offset) {
            tctl_ = tctl_.after_write(value & ~tctl::swxoff.mask);
        } else if (offset != offset_of<tdh>(number_) || !tctl_[tctl::en]) {
            find(*this, offset, [&](auto& found) { found = found.after_write(value); });
        }
    }

    /// Whether a write at `offset` would now say where the ring is or where work on it begins, so
    /// that what was fetched from it is void.
    [[nodiscard]] constexpr bool places_ring(std::uint32_t offset) const {
        return offset == offset_of<tdbal>(number_) || offset == offset_of<tdbah>(number_) ||
               offset == offset_of<tdlen>(number_) ||
               (offset == offset_of<tdh>(number_) && !tctl_[tctl::en]);
    }

    /// Whether the queue may transmit: TCTL.EN, and TARC.ENABLE of the queue.
    [[nodiscard]] constexpr bool enabled() const { return tctl_[tctl::en] && tarc_[tarc::enable]; }

    /// Whether TDBA, TDLEN, TDH and TDT describe a ring: it has descriptors, head and tail are
    /// among them, and it ends within the address space.
    [[nodiscard]] constexpr bool valid() const {
        const std::uint64_t length = tdlen_.raw;
        return length != 0 && head() < count() && tail() < count() &&
               base().raw + (length - 1) >= base().raw;
    }

    /// Where the ring begins.
    [[nodiscard]] constexpr iova base() const {
        return iova{static_cast<std::uint64_t>(tdbah_.raw) << 32 | tdbal_.raw};
    }
    /// Descriptors in the ring: 0, or a multiple of 8 up to 65,528.
    [[nodiscard]] constexpr std::uint32_t count() const { return tdlen_.raw / tx_descriptor_size; }
    [[nodiscard]] constexpr std::uint32_t head() const { return tdh_.raw; }
    [[nodiscard]] constexpr std::uint32_t tail() const { return tdt_.raw; }

    /// Where the descriptor at `index` lies; defined for any index, within the ring below count().
    [[nodiscard]] constexpr iova address_of(std::uint32_t index) const {
        return base() + static_cast<std::uint64_t>(index) * tx_descriptor_size;
    }

    /// Descriptors from the head up to the tail, of a valid() ring.
    [[nodiscard]] constexpr std::uint32_t pending() const {
        return tail() >= head() ? tail() - head() : tail() + count() - head();
    }

    /// Moves the head past one descriptor of a valid() ring that is not empty, and says which
    /// causes that raises: TXQE where it was the last one, TXD_LOW where as many are left as
    /// TXDCTL.LWTHRESH says, in units of 8.
    constexpr icr advance_head() {
        const std::uint32_t next = head() + 1;
        tdh_.raw = next == count() ? 0 : next;
        const std::uint32_t left = pending();
        icr causes;
        if (left == 0) {
            causes.raw |= icr::txqe.mask;
        }
        if (left == 8U * txdctl_[txdctl::lwthresh]) {
            causes.raw |= icr::txd_low.mask;
        }
        return causes;
    }

    /// What a write-back raises: TXDW, and the cause of the queue for MSI-X. At once for a
    /// descriptor without IDE, else when TIDV or TADV has elapsed.
    [[nodiscard]] constexpr icr write_back_causes() const {
        return number_ == queue::first ? icr{icr::txdw(true), icr::txq0(true)}
                                       : icr{icr::txdw(true), icr::txq1(true)};
    }

    /// Whether a descriptor's VLE counts: CTRL.VME.
    [[nodiscard]] constexpr bool vlan_mode() const { return vlan_mode_; }
    /// How a VLAN tag begins on the wire: VET.
    [[nodiscard]] constexpr std::uint16_t vlan_ether_type() const { return vet_[vet::ether_type]; }
    /// Whether short packets are padded: TCTL.PSP.
    [[nodiscard]] constexpr bool pads_short_packets() const { return tctl_[tctl::psp]; }

private:
    queue number_;
    bool vlan_mode_ = false;
    tdbal tdbal_;
    tdbah tdbah_;
    tdlen tdlen_;
    tdh tdh_;
    tdt tdt_;
    txdctl txdctl_;
    tctl tctl_{tctl::psp(true), tctl::ct(0xF), tctl::cold(0x3F), tctl::mulr(true),
               tctl::rrthresh(1)};
    tidv tidv_;
    tadv tadv_;
    tarc tarc_{tarc::count(3), tarc::enable(true)};
    vet vet_{vet::ether_type(0x8100)};
};

} // namespace pt::e1000e
