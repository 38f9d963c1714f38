// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/mmio.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/time_limit.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace pt::e1000e {

/// How long each step of a reset may take, in nanoseconds. The defaults are generous.
struct reset_limits {
    std::uint64_t drain = 10'000'000;   ///< given to packets that are under way; always waited for
    std::uint64_t master = 100'000'000; ///< until no DMA request is left
    std::uint64_t reset = 100'000'000;  ///< until CTRL.RST is clear
    std::uint64_t eeprom = 25'000'000;  ///< until the registers that the EEPROM holds are loaded
};

/// What a reset that succeeded has to tell.
struct reset_report {
    /// No DMA request was left when the reset began. If there was one, its data may still arrive:
    /// take the memory away from the device (IOMMU) before it is used anew. Always true on 8254x,
    /// which cannot tell.
    bool master_was_quiet = true;
    /// EECD.AUTO_RD was seen: the receive address and what else comes from the EEPROM is there, and
    /// is not written over any more. Not waited for on 8254x; members without the bit never set it.
    bool eeprom_was_read = true;

    friend constexpr bool operator==(const reset_report&, const reset_report&) = default;
};

/// EEPROM/Flash Control [82574]; other bits of it are not for drivers of rings.
struct eecd : reg<eecd, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0010;
    static constexpr bits<9, 9, bool, access::read_only> auto_rd{}; ///< loaded; not on 8254x
    static constexpr field_list fields{auto_rd};
};

/// Resets the NIC in order: masks all interrupts, turns receiver and transmitter off, lets them
/// finish, ends its DMA (CTRL.GIO_MASTER_DISABLE, not on 8254x), sets CTRL.RST, and leaves it with all
/// interrupts masked and no cause pending. What was programmed is lost, rings and link included; the
/// PHY keeps its state. Errors:
///   absent (STATUS's offset)  the registers read all ones
///   time_out (CTRL's offset)  CTRL.RST did not clear; the NIC is in no known state
///
/// Where firmware uses the PHY, too, take the ownership of MDIO (EXTCNF_CTRL) before [82574]. Members
/// from I219 on want flush_rings() before.
template <mmio_io Mmio, clock Clock>
[[nodiscard]] constexpr result<reset_report>
reset(Mmio mmio, Clock time, family members = family::pci_express, reset_limits limits = {}) {
    constexpr std::uint32_t all_ones = ~std::uint32_t{0};
    if (read<status>(mmio).raw == all_ones) {
        return error{errc::absent, status::offset};
    }
    reset_report report;
    // Reserved bits of IMC are written 1, so that no cause of any member is left [8254x].
    write(mmio, imc{all_ones});
    write(mmio, read<rctl>(mmio).write_back().with(rctl::en(false)));
    write(mmio, read<tctl>(mmio).write_back().with(tctl::en(false)));
    static_cast<void>(read<status>(mmio)); // pushes the writes out to the device
    let_pass(time, limits.drain);

    if (members == family::pci_express) {
        write(mmio, read<ctrl>(mmio).write_back().with(ctrl::gio_master_disable(true)));
        report.master_was_quiet = becomes_true(time, limits.master, [&] {
            const status now = read<status>(mmio);
            return now.raw == all_ones || !now[status::gio_master_enable];
        });
    }
    if (read<status>(mmio).raw == all_ones) {
        return error{errc::absent, status::offset};
    }

    write(mmio, read<ctrl>(mmio).write_back().with(ctrl::rst(true)));
    let_pass(time, 1'000); // no access for about 1 us [82574]
    if (!becomes_true(time, limits.reset, [&] { return !read<ctrl>(mmio)[ctrl::rst]; })) {
        return read<status>(mmio).raw == all_ones ? error{errc::absent, status::offset}
                                                  : error{errc::time_out, ctrl::offset};
    }
    if (members == family::pci_express) {
        report.eeprom_was_read =
            becomes_true(time, limits.eeprom, [&] { return read<eecd>(mmio)[eecd::auto_rd]; });
    }
    write(mmio, imc{all_ones});
    static_cast<void>(read<icr>(mmio)); // with everything masked, reading clears
    if (read<status>(mmio).raw == all_ones) {
        return error{errc::absent, status::offset};
    }
    return report;
}

/// Lets the MAC follow the PHY, which negotiates speed and duplex by itself: sets CTRL.SLU and forces
/// nothing. STATUS.LU and an LSC interrupt say when the link is there, some seconds later.
/// absent (CTRL's offset): the registers read all ones.
template <mmio_io Mmio>
[[nodiscard]] constexpr result<> set_link_up(Mmio mmio) {
    const ctrl control = read<ctrl>(mmio);
    if (control.raw == ~std::uint32_t{0}) {
        return error{errc::absent, ctrl::offset};
    }
    // With ASDE the MAC would listen for the speed itself and not to the PHY.
    write(mmio, control.write_back().with(ctrl::slu(true), ctrl::fd(true), ctrl::asde(false),
                                          ctrl::frcspd(false), ctrl::frcdplx(false)));
    return {};
}

/// A ring, of either direction, that can be emptied and started anew, and that knows its NIC.
template <class Ring, class F>
concept recoverable_ring = requires(Ring& ring, F& each) {
    { ring.abandon(each) } -> std::same_as<std::uint32_t>;
    { ring.start() } -> std::same_as<result<>>;
    { ring.members() } -> std::same_as<family>;
    requires mmio_io<std::remove_reference_t<decltype(ring.registers())>>;
};

/// Brings a hung ring back: resets the NIC, hands back the cookies of all packets in flight by
/// each(cookie), sets the link up, and starts the ring empty. The cookies come after the reset,
/// because until then the NIC may read or write the buffers behind them. Everything else that was
/// programmed is the caller's to program anew: the other rings, CTRL.VME and VET, the filters, IMS,
/// IVAR and the throttling of interrupts, and whatever of RCTL, RXCSUM and RFCTL no ring sets. If the
/// report says that the master was not quiet, buffers that came back are not yet safe to use; see
/// there.
///
/// Errors: those of reset(), set_link_up() and the ring's start(). After absent from reset() the
/// cookies have been handed back; after time_out they stay with the ring, because the NIC may still
/// work: take the memory away from it and abandon() the ring.
template <clock Clock, class F, recoverable_ring<F> Ring>
[[nodiscard]] constexpr result<reset_report> recover(Ring& ring, Clock time, F&& each,
                                                     reset_limits limits = {}) {
    const result<reset_report> done = reset(ring.registers(), time, ring.members(), limits);
    if (!done && done.error().code != errc::absent) {
        return done;
    }
    static_cast<void>(ring.abandon(each));
    if (!done) {
        return done;
    }
    if (const result<> link = set_link_up(ring.registers()); !link) {
        return link.error();
    }
    if (const result<> started = ring.start(); !started) {
        return started.error();
    }
    return done;
}

} // namespace pt::e1000e
