// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/guest_space.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/vector_source.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/lapic/message.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_pieces.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/msi_x_table.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/virtual_function_view.hpp"
#include "pt/pci/virtual_msi_x.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"
#include "pt/vtd/requester.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace pt::assign {

/// What to do with a function that nobody knows how to reset (errc::not_supported).
enum class reset_need : std::uint8_t {
    required, ///< it is not assigned
    /// It is, and keeps in its registers what was there. For a function that only one guest ever
    /// has, or whose driver resets it by itself.
    where_possible,
};

/// What an assigned function is made of, besides what its guest has.
template <vmm V>
struct device_parts {
    typename V::host_config config;
    typename V::registers registers; ///< this function's BARs, as the host has mapped them
    typename V::interrupts interrupts;
    typename V::wire wire;
    typename V::reset reset;
    /// As many MSI-X vectors as the guest may have of it; they outlive the function. None: no
    /// MSI-X.
    pci::msi_x_vector* vectors = nullptr;
    std::uint16_t vector_count = 0;
    typename V::mutex mutex{}; ///< of the guest's view of it; another one than the guest's
};

/// An assigned function, as its guest uses it: the view of it, and what follows from each change
/// that the guest makes there, for the guest's tables, for its interrupts, and for the function
/// itself. (It is the lower half of `assigned_device`, which a VMM uses.)
///
/// The function is told what kind of interrupt to use, with the host's messages and all vectors
/// unmasked; which vectors the guest has masked is the view's to remember. A message of the guest's
/// is bound to the host vector of the same number.
template <vmm V>
class guest_function {
    /// Base Address registers and the expansion ROM's.
    static constexpr std::size_t view_bars = pci::expansion_rom_index + std::size_t{1};

public:
    /// The guest's change of a BAR, of the power state, and its demand for a reset.
    struct events {
        guest_function* of;
        constexpr pci::bar_place bar_changed(const pci::bar_change& change) {
            return of->bar_changed(change);
        }
        constexpr void power_state_changed(pci::power_state, pci::power_state) {}
        constexpr void reset() { of->reset_by_guest(); }
    };
    /// The way of its interrupts.
    struct route {
        guest_function* of;
        constexpr void use(pci::interrupt_kind kind, std::uint16_t vectors) {
            of->use(kind, vectors);
        }
        constexpr void open(pci::interrupt_source source, pci::interrupt_message message) {
            of->open(source, message);
        }
        constexpr void close(pci::interrupt_source source) { of->close(source); }
        constexpr void send(pci::interrupt_source, pci::interrupt_message message) {
            of->send(message);
        }
        /// The function's own vectors stay unmasked, so that nothing is held back there.
        constexpr bool pending(pci::interrupt_source) { return false; }
    };
    using view_type = pci::virtual_function_view<typename V::host_config, events, route,
                                                 typename V::registers, typename V::mutex>;

    constexpr guest_function(guest_space<V>& space, const vtd::requester& who,
                             const device_parts<V>& parts)
        : space_{space}, parts_{parts}, who_{who}, attachment_{who}, view_{parts.config,
                                                                           who.function(),
                                                                           events{this},
                                                                           route{this},
                                                                           parts.registers,
                                                                           parts.mutex} {}
    guest_function(const guest_function&) = delete; // the view refers to it
    guest_function& operator=(const guest_function&) = delete;

    /// What the guest is shown.
    [[nodiscard]] constexpr view_type& view() { return view_; }
    /// Whose requests are the function's, in the host.
    [[nodiscard]] constexpr const vtd::requester& requester() const { return who_; }
    [[nodiscard]] constexpr pci::function_address host() const { return who_.function(); }
    /// What V::dma knows of it.
    [[nodiscard]] constexpr typename V::dma::attachment_type& attachment() { return attachment_; }
    /// What V::interrupts has for its vectors; empty while it is nobody's.
    [[nodiscard]] constexpr typename V::interrupts::block_type& interrupts() { return block_; }
    [[nodiscard]] constexpr const typename V::interrupts::block_type& interrupts() const {
        return block_;
    }
    /// The device's own BARs, sized, as they were when it was assigned.
    [[nodiscard]] constexpr const pci::bar_list& bars() const { return bars_; }

    /// How the guest reaches the parts of a BAR for memory.
    [[nodiscard]] constexpr pci::bar_pieces pieces(const pci::bar& device) const {
        if (device.kind == pci::bar_kind::rom) {
            // Nobody executes a ROM in place [pci], and whether it is decoded is the host's affair:
            // it is read through V::registers.
            const pci::bar_part whole{device.index, 0, device.size};
            return pci::bar_pieces::of(device, {.vectors = 1, .table = whole, .pending_bits = {}});
        }
        return pci::bar_pieces::of(device, view_.msi_x());
    }

    /// The function requests an interrupt by its vector of that number, for which there is no
    /// route, because the guest masks it: the view remembers it.
    constexpr void request(std::uint16_t vector) {
        // At most one of the two is on. If none is, it came late, and is for nobody.
        if (!view_.request({pci::interrupt_kind::msi_x, vector})) {
            static_cast<void>(view_.request({pci::interrupt_kind::msi, vector}));
        }
    }

    /// What could not be done before may be possible now. Not from inside an access of the guest.
    constexpr void retry() {
        if (is_dead()) {
            view_.close();
            block();
        }
        view_.retry_bars();
    }

    // ---------------------------------------------------------------------- for assigned_device

    [[nodiscard]] constexpr device_parts<V>& parts() { return parts_; }
    [[nodiscard]] constexpr guest_parts<V>& guest_side() { return space_.parts(); }
    [[nodiscard]] constexpr guest_space<V>& space() { return space_; }

    /// It becomes function `number` of the guest, which has sized those BARs.
    constexpr void join(std::uint16_t number, const pci::bar_list& sized, reset_need need) {
        number_ = number;
        bars_ = sized;
        need_ = need;
        for (placement& each : placements_) {
            each = {};
        }
        last_message_ = {};
        last_failure_ = {};
        for (const result<pci::bar>& each : bars_) {
            if (each && each->kind == pci::bar_kind::io) {
                port_bar& ports = ports_[each->index];
                ports.host = io_port{static_cast<std::uint16_t>(each->address)};
                ports.owner = vmx::port_owner{std::uint32_t{number} << 8 | each->index};
                space_.add_ports(ports);
            }
        }
    }
    /// It is not any more; all its BARs are nowhere. A retry() that has begun before blocks it no
    /// more, since its attachment may be released by then.
    constexpr void leave() {
        for (const result<pci::bar>& each : bars_) {
            if (each && each->kind == pci::bar_kind::io) {
                space_.remove_ports(ports_[each->index]);
            }
        }
        const scoped_lock held{space_.parts().mutex};
        bars_ = {};
        atomic::store(&dead_, std::uint32_t{0});
        is_blocked_ = is_block_reported_ = false;
    }

    /// Why the kind of interrupt that the guest uses could not be turned on.
    [[nodiscard]] constexpr result<void> last_failure() const {
        return last_failure_.code != errc::none ? last_failure_ : result<void>{};
    }

    /// Whether a reset that ended with it is as good as done.
    [[nodiscard]] constexpr bool is_tolerable(const error& why) const {
        return why.code == errc::not_supported && need_ == reset_need::where_possible;
    }

    /// Success, if no BAR is anywhere. Otherwise why one of them could not be taken away.
    [[nodiscard]] constexpr result<void> is_nowhere() const {
        for (const placement& each : placements_) {
            if (each.now) {
                return each.why.code != errc::none ? each.why
                                                   : error{errc::busy, each.now.address()};
            }
        }
        return {};
    }

private:
    /// What became of a BAR.
    struct placement {
        pci::bar_place now{};
        pci::bar_place wanted{}; ///< and not given,
        error why{};             ///< for that reason, which was reported
    };
    /// A message that was reported.
    struct rejected_message {
        bool any = false;
        pci::interrupt_source source{};
        pci::interrupt_message message{};

        friend constexpr bool operator==(const rejected_message&,
                                         const rejected_message&) = default;
    };

    constexpr pci::bar_place bar_changed(const pci::bar_change& wanted) {
        pci::bar_change change = wanted;
        if (is_dead()) {
            change.to = {};
        }
        bar_outcome done = change.device.kind == pci::bar_kind::io
                               ? space_.move(ports_[change.device.index], change)
                               : space_.move(number_, change, pieces(change.device));
        if (is_dead() && done.why.code == errc::none) {
            done.why = {errc::hardware_fault, host().source_id()};
        }
        placement& known = placements_[change.device.index];
        known.now = done.place;
        if (done.place == wanted.to) {
            known.why = {};
        } else if (known.why != done.why || known.wanted != wanted.to) {
            known.wanted = wanted.to;
            known.why = done.why;
            report(rejection::subject::bar, change.device.index, wanted.to.address(), done.why);
        }
        return done.place;
    }

    // --------------------------------------------------------------------------- interrupts

    constexpr void use(pci::interrupt_kind kind, std::uint16_t vectors) {
        switch (used_) {
        case pci::interrupt_kind::intx: set_interrupt_disable(true); break;
        case pci::interrupt_kind::msi:
            static_cast<void>(pci::disable_msi(parts_.config, host()));
            break;
        case pci::interrupt_kind::msi_x:
            static_cast<void>(pci::disable_msi_x(parts_.config, host()));
            break;
        }
        used_ = kind;
        if (is_dead() || vectors == 0) {
            return;
        }
        switch (kind) {
        case pci::interrupt_kind::intx: set_interrupt_disable(false); return;
        case pci::interrupt_kind::msi: report_interrupts(turn_on_msi(vectors)); return;
        case pci::interrupt_kind::msi_x: report_interrupts(turn_on_msi_x(vectors)); return;
        }
    }
    constexpr result<void> turn_on_msi(std::uint16_t vectors) {
        if (vectors > block_.vectors().count) {
            return error{errc::out_of_range, vectors}; // the device has changed its mind since
        }
        const auto log2 = static_cast<std::uint8_t>(std::countr_zero(vectors));
        const pci::interrupt_message message = parts_.interrupts.msi(block_, log2);
        return pci::enable_msi(parts_.config, host(),
                               {message.address, static_cast<std::uint16_t>(message.data)}, log2);
    }
    constexpr result<void> turn_on_msi_x(std::uint16_t vectors) {
        if (vectors > block_.vectors().count) {
            return error{errc::out_of_range, vectors};
        }
        return pci::enable_msi_x(
            parts_.config, host(), parts_.registers, view_.msi_x(), vectors,
            [&](std::uint16_t n) { return parts_.interrupts.msi_x(block_, n); });
    }
    constexpr void set_interrupt_disable(bool disabled) {
        const auto now = pci::read<pci::command>(parts_.config, host());
        if (now.raw != 0xFFFF) { // that is no Command but what is read where nobody is
            pci::write(parts_.config, host(), now.with(pci::command::interrupt_disable(disabled)));
        }
    }

    constexpr void open(pci::interrupt_source source, pci::interrupt_message message) {
        if (source.kind == pci::interrupt_kind::intx) {
            report_interrupts(parts_.wire.open());
            return;
        }
        const host_vector_block mine = block_.vectors();
        if (source.vector >= mine.count) {
            return; // use() has said so
        }
        auto& routes = space_.parts().room.routes;
        const std::uint8_t vector = mine[source.vector];
        const result<lapic::message> to = lapic::message_of_msi(message.address, message.data);
        const result<void> bound = !to                          ? to.error()
                                   : routes.rebind(vector, *to) ? result<void>{}
                                                                : routes.bind(vector, *to);
        if (bound) {
            return;
        }
        static_cast<void>(routes.unbind(vector));
        const rejected_message bad{true, source, message};
        if (last_message_ != bad) {
            last_message_ = bad;
            report(rejection::subject::message, source.vector, message.address, bound.error());
        }
    }
    constexpr void close(pci::interrupt_source source) {
        const host_vector_block mine = block_.vectors();
        if (source.kind == pci::interrupt_kind::intx) {
            parts_.wire.close();
        } else if (source.vector < mine.count) {
            static_cast<void>(space_.parts().room.routes.unbind(mine[source.vector]));
        }
    }
    constexpr void send(pci::interrupt_message message) {
        if (const auto to = lapic::message_of_msi(message.address, message.data)) {
            space_.parts().bus.deliver(*to);
        }
    }

    // -------------------------------------------------------------------------------- reset

    /// The view is at its power-on state. What the guest does next with the function waits for
    /// this.
    constexpr void reset_by_guest() {
        space_.wait_for_settle(); // it takes long: no second one before the next entry
        const result<void> done = parts_.reset.reset(host());
        if (done || is_tolerable(done.error())) {
            return;
        }
        atomic::store(&dead_, std::uint32_t{1});
        report(rejection::subject::reset, 0, 0, done.error());
        block();
        space_.wait_for_settle(); // where the view is closed
    }
    [[nodiscard]] constexpr bool is_dead() const { return atomic::load(&dead_) != 0; }
    /// Any processor, at any time.
    constexpr void block() {
        const scoped_lock held{space_.parts().mutex};
        if (!is_dead() || is_blocked_) {
            return;
        }
        const result<void> blocked = space_.parts().dma.block(attachment_);
        is_blocked_ = blocked.has_value();
        if (!is_blocked_) {
            space_.wait_for_settle();
            if (!is_block_reported_) {
                is_block_reported_ = true;
                report(rejection::subject::block, 0, 0, blocked.error());
            }
        }
    }

    constexpr void report_interrupts(const result<void>& done) {
        if (!done && last_failure_ != done.error()) {
            last_failure_ = done.error();
            report(rejection::subject::interrupts, 0, 0, last_failure_);
        }
    }
    constexpr void report(rejection::subject what, std::uint16_t number, std::uint64_t where,
                          error why) {
        space_.parts().reports.rejected({host(), what, number, where, why});
    }

    guest_space<V>& space_;
    device_parts<V> parts_;
    vtd::requester who_;
    typename V::dma::attachment_type attachment_;
    typename V::interrupts::block_type block_{};
    pci::bar_list bars_{};
    port_bar ports_[6]{};
    placement placements_[view_bars]{};
    std::uint16_t number_ = 0;
    reset_need need_ = reset_need::required;
    std::uint32_t dead_ = 0;  ///< not 0: a reset failed, and nobody knows what the function does
    bool is_blocked_ = false; ///< since then; by the space's mutex
    bool is_block_reported_ = false; ///< that it could not be; likewise
    pci::interrupt_kind used_ = pci::interrupt_kind::intx;
    rejected_message last_message_{};
    error last_failure_{};
    view_type view_;
};

} // namespace pt::assign
