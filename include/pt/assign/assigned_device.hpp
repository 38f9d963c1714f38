// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/dma_path.hpp"
#include "pt/assign/guest.hpp"
#include "pt/assign/guest_function.hpp"
#include "pt/assign/vmm.hpp"
#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/shown_capabilities.hpp"
#include "pt/pci/virtual_function_view.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vtd/requester.hpp"

#include <cstdint>

namespace pt::assign {

/// How a function is given to a guest.
struct assign_options {
    pci::function_address at{}; ///< where the guest finds it
    pci::view_options view{};   ///< and how
    /// Its BARs, sized, for a function that cannot be asked: a virtual one (SR-IOV). Null: it is
    /// asked. What is not in the list, the guest does not have.
    const pci::bar_list* bars = nullptr;
    reset_need reset = reset_need::required;
};

/// One function that can be given to a guest: all of it, or an error and nothing changed.
///
///     pt::assign::assigned_device<my_vmm> nic{guest, requester, {...}};
///     nic.assign({.at = {0, 0, 3, 0}});
///     ...
///     nic.remove();
///
/// While it is assigned, it follows everything that the guest does with it; see guest_function. The
/// VMM calls assign() and remove() of one device on one processor at a time. The device outlives
/// every handler of the guest that was entered before remove() has returned.
template <vmm V>
class assigned_device : private guest_function<V> {
    using function = guest_function<V>;

public:
    using parts = device_parts<V>;

    /// The function is nobody's, and no driver of the host uses it.
    constexpr assigned_device(guest<V>& to, const vtd::requester& who, const parts& given)
        : function{to, who, given}, guest_{to} {}
    constexpr ~assigned_device() { expects(!is_assigned(), "a device went away before remove()"); }

    using function::bars;
    using function::interrupts;
    using function::requester;
    using function::view;

    /// Whether the guest has it, or there is something left of it that remove() could not give
    /// back.
    [[nodiscard]] constexpr bool is_assigned() const { return has_attachment_; }

    /// Gives the function to the guest: it is blocked and reset, the guest's interrupts are paid
    /// for, it is shown, and last of all its requests go through the guest's tables. From then on
    /// BARs, interrupts and resets are as the guest wants them, without the VMM.
    ///
    /// errc::busy with the source id: it is assigned. errc::absent: no function answers.
    /// errc::refused with the address of a BAR that is not inside the guest's `windows`. errc::
    /// out_of_range with the number of vectors, where it has more than an interrupt_path can give.
    /// errc::not_supported: nobody knows how to reset it. Errors of
    /// pci::virtual_function_view::open(), of pci::config_routes::add(), of claims::keep_back(),
    /// and of the policies: dma_path, interrupt_path, function_reset.
    ///
    /// After an error all is as before. Where hardware did not answer even then, so that something
    /// is left, is_assigned() still is true; assign() or remove() go on with it.
    constexpr result<void> assign(const assign_options& options) {
        if (is_complete_) {
            return error{errc::busy, function::host().source_id()};
        }
        if (is_assigned()) {
            if (const result<void> cleared = remove(); !cleared) {
                return cleared;
            }
        }
        const result<void> done = give(options);
        if (!done) {
            static_cast<void>(remove());
            return done;
        }
        is_complete_ = true;
        function::guest_side().reports.changed();
        return {};
    }

    /// Takes the function away: it is blocked, the guest finds it no more, its BARs are nowhere,
    /// the hardware has forgotten it, it is reset, and nothing of its interrupts is left. After a
    /// success anybody may have it, and its Command is what it was; but if it could not be reset
    /// (reset_need::where_possible) it is no bus master. Nothing to do is a success.
    ///
    /// An error is that of the hardware, or of the reset: what comes after it is not done. Again. A
    /// function that a reset does not bring back is blocked and no more the guest's, which can
    /// retire(); but the guest outlives it still.
    constexpr result<void> remove() {
        is_complete_ = false;
        if (!is_assigned()) {
            return {};
        }
        auto& dma = function::guest_side().dma;
        if (const result<void> blocked = dma.block(function::attachment()); !blocked) {
            return blocked;
        }
        if (is_routed_) {
            is_routed_ = false;
            static_cast<void>(guest_.unplug(at_));
        }
        if (is_joined_) {
            if (const result<void> gone = leave_guest(); !gone) {
                return gone;
            }
        }
        if (was_shown_) {
            if (const result<void> reset = clean(); !reset) {
                return reset;
            }
        }
        if (const result<void> closed =
                function::parts().interrupts.close(requester(), function::interrupts());
            !closed) {
            return closed;
        }
        if (has_command_) {
            has_command_ = false;
            write_command(command_);
        }
        const result<void> released = dma.release(function::attachment());
        has_attachment_ = !released;
        function::guest_side().reports.changed();
        return released;
    }

private:
    constexpr result<void> give(const assign_options& options) {
        auto& config = function::parts().config;
        const pci::function_address host = function::host();
        // A virtual function has no ids of its own.
        if (!options.view.shown_as.present() && !pci::read<pci::identity>(config, host).present()) {
            return error{errc::absent, host.source_id()};
        }
        if (const result<void> blocked = function::guest_side().dma.block(function::attachment());
            !blocked) {
            has_attachment_ = is_owed(blocked.error().code);
            return blocked;
        }
        has_attachment_ = true;

        const pci::bar_list sized =
            options.bars != nullptr ? *options.bars : pci::size_bars(config, host);
        if (const result<void> allowed = check(sized); !allowed) {
            return allowed;
        }
        command_ = pci::read<pci::command>(config, host);
        has_command_ = true;
        write_command(command_.with(pci::command::io_space(true), pci::command::memory_space(true),
                                    pci::command::bus_master(false),
                                    pci::command::interrupt_disable(true)));
        if (const result<void> reset = reset_function(options.reset); !reset) {
            return reset;
        }

        const std::uint16_t msi_x_vectors = msi_x_vectors_of(options);
        const std::uint16_t msi_vectors = msi_vectors_of(options);
        const std::uint16_t vectors = msi_vectors > msi_x_vectors ? msi_vectors : msi_x_vectors;
        if (const result<void> opened =
                function::parts().interrupts.open(requester(), vectors, function::interrupts());
            !opened) {
            return opened;
        }
        if (const result<void> joined = guest_.add(*this, sized, options.reset); !joined) {
            return joined;
        }
        is_joined_ = true;

        pci::view_options shown = options.view;
        shown.has_wire = shown.has_wire && V::wire::exists;
        if (const result<void> open =
                view().open(sized, function::parts().vectors, msi_x_vectors, shown);
            !open) {
            return open;
        }
        was_shown_ = true;
        if (const result<void> wired = function::last_failure(); !wired) {
            return wired;
        }
        at_ = options.at;
        if (const result<void> routed = guest_.plug_in(at_, view()); !routed) {
            return routed;
        }
        is_routed_ = true;
        // A function that went away meanwhile may have hidden its MSI-X, whose pages are open then.
        if (pci::read<pci::command>(config, host).raw == 0xFFFF) {
            return error{errc::absent, host.source_id()};
        }
        return function::guest_side().dma.attach(function::attachment());
    }

    /// The guest has nothing of it any more.
    constexpr result<void> leave_guest() {
        view().close();
        view().retry_bars(); // if it is not the first time
        if (const result<void> nowhere = function::is_nowhere(); !nowhere) {
            return nowhere;
        }
        if (const result<void> forgotten = function::space().flush_owed(); !forgotten) {
            return forgotten;
        }
        is_joined_ = false;
        guest_.remove(*this);
        return {};
    }
    /// Nothing of the guest is left in it.
    constexpr result<void> clean() {
        const result<void> reset = function::parts().reset.reset(function::host());
        if (!reset && !function::is_tolerable(reset.error())) {
            return reset;
        }
        was_shown_ = false;
        if (!reset) {
            // Whatever it was told to do, it does not do it to the host.
            command_ = command_.with(pci::command::bus_master(false));
        }
        return {};
    }

    /// A device could claim to be anywhere.
    [[nodiscard]] constexpr result<void> check(const pci::bar_list& sized) {
        for (const result<pci::bar>& each : sized) {
            if (!each) {
                return each.error();
            }
            if (each->kind == pci::bar_kind::rom) {
                continue; // nothing of it is mapped
            }
            bool allowed = false;
            if (each->kind == pci::bar_kind::io) {
                const auto ports = vmx::io_bitmap::ports_of_bar(each->address, each->size);
                allowed = ports && function::space().are_device_ports(*ports);
            } else {
                const auto memory = range<hpa>::checked(hpa{each->address}, each->size);
                allowed = memory && function::space().is_device_memory(*memory);
            }
            if (!allowed) {
                return error{errc::refused, each->address};
            }
        }
        return {};
    }

    constexpr result<void> reset_function(reset_need need) {
        const pci::function_address host = function::host();
        const result<void> reset = function::parts().reset.reset(host);
        if (reset || reset.error().code != errc::not_supported || need == reset_need::required) {
            return reset;
        }
        static_cast<void>(pci::disable_msi(function::parts().config, host));
        static_cast<void>(pci::disable_msi_x(function::parts().config, host));
        return {};
    }

    /// How many vectors the guest could ask for, of each kind.
    [[nodiscard]] constexpr std::uint16_t msi_vectors_of(const assign_options& options) {
        const auto layout = pci::read_msi(function::parts().config, function::host());
        return layout && options.view.shown.contains(pci::capability_id::msi) ? layout->vectors
                                                                              : std::uint16_t{0};
    }
    [[nodiscard]] constexpr std::uint16_t msi_x_vectors_of(const assign_options& options) {
        const auto layout = pci::read_msi_x(function::parts().config, function::host());
        const std::uint16_t most = function::parts().vector_count;
        if (!layout || !options.view.shown.contains(pci::capability_id::msi_x)) {
            return 0;
        }
        return layout->vectors < most ? layout->vectors : most;
    }

    constexpr void write_command(pci::command value) {
        auto& config = function::parts().config;
        // All ones is what is read where nobody is: what is plugged in there next must not be given
        // it.
        if (command_.raw != 0xFFFF) {
            pci::write(config, function::host(), value);
        }
    }

    guest<V>& guest_;
    pci::function_address at_{};
    pci::command command_{}; ///< as the host had it
    // What there is to give back.
    bool has_attachment_ = false;
    bool has_command_ = false;
    bool is_joined_ = false;
    bool was_shown_ = false; ///< and so it has to be reset
    bool is_routed_ = false;
    bool is_complete_ = false;
};

} // namespace pt::assign
