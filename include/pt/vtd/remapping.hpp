// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/attached_function.hpp"
#include "pt/vtd/attachment.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/domain_ids.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/fault_limiter.hpp"
#include "pt/vtd/protection_domain.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/second_stage_limits.hpp"
#include "pt/vtd/translation.hpp"
#include "pt/vtd/unit.hpp"
#include "pt/vtd/unit_lookup.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::vtd {

/// What remapping::handle_faults() did.
struct fault_pass {
    unsigned faults = 0; ///< that were taken
    /// Something is pending still, so that no further event will come: come back later. Where this
    /// goes on, mask the event of the unit and look again after a while.
    bool more = false;
};

/// All remapping units of a machine, as its DMAR table lists them: which of them serves a function,
/// what they have in common, the domain ids, the quarantine for functions that no guest has,
/// faults, and the lock around the hardware.
///
///     pt::vtd::remapping vtd{policies, table, bridges};
///     for (const pt::vtd::drhd& place : table.each<pt::vtd::drhd>()) {
///         vtd.add(...);                       // units live where the VMM puts them
///     }
///     vtd.start();                            // every function is blocked from here on
///
/// The mutex of the policies is held over each operation that touches a unit. No callback that runs
/// under it may call back.
template <remapping_policies Policies, pci::bridge_bus_numbers Bridges, std::size_t DomainIds = 256>
class remapping {
public:
    using policies_type = Policies;
    using unit_type = unit<Policies>;
    using attachment_type = attachment<remapping>;

    /// Of how many functions the faults are counted at the same time.
    static constexpr std::size_t faulting_functions = 16;

    /// For the machine of that table, whose bytes outlive this.
    constexpr remapping(const Policies& given, const dmar& table, Bridges bridges,
                        fault_limits faults = {})
        : policies_{given},
          table_{table},
          bridges_{bridges},
          limiter_{given.clock, faults},
          quarantine_{*this} {}
    remapping(const remapping&) = delete;
    remapping& operator=(const remapping&) = delete;
    constexpr ~remapping() {
        expects(!quarantine_.is_ready(), "the remapping of a machine went away before retire()");
    }

    [[nodiscard]] constexpr const Policies& policies() const { return policies_; }
    [[nodiscard]] constexpr const dmar& table() const { return table_; }
    [[nodiscard]] constexpr const Bridges& bridges() const { return bridges_; }

    /// Adds one unit of the table, which stays at its place from now on; all of them before
    /// start(), and before the first function is attached. errc::busy with its register base later;
    /// already_mapped when it is there already.
    constexpr result<void> add(unit_type& hardware) {
        const scoped_lock held{policies_.mutex};
        if (quarantine_.is_ready() || ids_.any_given()) {
            return error{errc::busy, hardware.register_base().raw};
        }
        for (const unit_type* u = first_; u != nullptr; u = u->next_) {
            if (u->register_base() == hardware.register_base()) {
                return error{errc::already_mapped, hardware.register_base().raw};
            }
        }
        hardware.next_ = first_;
        first_ = &hardware;
        ids_.restrict_to(hardware.capabilities());
        return {};
    }

    /// What second-stage tables may use that all units walk, with the fewest levels that reach
    /// input addresses of `input_width` bits. errc::absent without units; errc::not_supported with
    /// the width where they have no such number of levels in common; errc::out_of_range for a host
    /// address width of the table that cannot be.
    [[nodiscard]] constexpr result<second_stage::limits> limits(unsigned input_width) const {
        if (first_ == nullptr) {
            return error{errc::absent, input_width};
        }
        std::uint8_t widths = 0xFF;
        for (const unit_type* u = first_; u != nullptr; u = u->next_) {
            widths = static_cast<std::uint8_t>(
                widths & u->capabilities()[capability::supported_address_widths]);
        }
        const result<unsigned> levels = second_stage::fewest_levels(widths, input_width);
        if (!levels) {
            return levels.error();
        }
        result<second_stage::limits> usable = first_->limits(*levels, table_.host_address_width());
        for (const unit_type* u = first_->next_; u != nullptr && usable; u = u->next_) {
            const result<second_stage::limits> more =
                u->limits(*levels, table_.host_address_width());
            if (!more) {
                return more;
            }
            usable = second_stage::common(*usable, *more);
        }
        if (usable && usable->input_width < input_width) {
            return error{errc::not_supported, input_width};
        }
        return usable;
    }

    /// Switches DMA remapping on in every unit, after which a function without an entry is blocked.
    /// What the host itself needs is attached before. The units that are on stay on when one fails;
    /// call it again. Errors as of unit::start(); before anything was switched, errc::out_of_frames
    /// and errc::busy when the quarantine cannot be made, and errc::absent with the register base
    /// of a unit of the table that was not added: the functions behind it would reach everything.
    constexpr result<void> start() {
        const scoped_lock held{policies_.mutex};
        if (first_ == nullptr) {
            return error{errc::absent};
        }
        for (const drhd place : table_.template each<drhd>()) {
            if (!has_unit_at(place.register_base)) {
                return error{errc::absent, place.register_base.raw};
            }
        }
        if (const result<void> ready = quarantine_.prepare(); !ready) {
            return ready;
        }
        return each([](unit_type& u) { return u.start(); });
    }
    /// As unit::start_interrupt_remapping() in every unit. errc::not_supported, before anything was
    /// switched, with the register base of a unit that lacks it, since devices behind it could
    /// raise any interrupt; or with the offset of the table's flags, where firmware says that the
    /// machine cannot.
    constexpr result<void> start_interrupt_remapping() {
        const scoped_lock held{policies_.mutex};
        if (!table_.flags()[dmar_flags::interrupt_remapping]) {
            return error{errc::not_supported, dmar::flags_offset};
        }
        const result<void> all = each([](unit_type& u) {
            return u.interrupts().size() != 0 ? result<void>{}
                                              : error{errc::not_supported, u.register_base().raw};
        });
        return all ? each([](unit_type& u) { return u.start_interrupt_remapping(); }) : all;
    }
    /// As unit::stop() and unit::resume() in every unit, up to the first error; call it again.
    constexpr result<void> stop() {
        const scoped_lock held{policies_.mutex};
        return each([](unit_type& u) { return u.stop(); });
    }
    constexpr result<void> resume() {
        const scoped_lock held{policies_.mutex};
        return each([](unit_type& u) { return u.resume(); });
    }

    /// Takes a function from whatever domain it is in, and puts it where nothing is mapped: its
    /// requests are blocked and recorded as faults of missing rights. For functions that no guest
    /// has. Errors as of domain::attach(); errc::refused before start().
    constexpr result<void> quarantine(attachment_type& node) {
        const scoped_lock held{policies_.mutex};
        return quarantine_.attach(node);
    }
    /// Ends the attachment: the function has no entry any more, and is blocked. Nothing to do is a
    /// success. On an error of the unit it stays attached, with an entry that is not present.
    constexpr result<void> release(attachment_type& node) {
        const scoped_lock held{policies_.mutex};
        return node.attached() ? let_go(node) : result<void>{};
    }

    /// Lets the function translate by itself: `turn_on()` sets the enable bit of its ATS
    /// capability, and from then on each invalidation of its domain reaches its device TLB.
    /// errc::refused unless it is attached and was declared to have one.
    ///
    /// A function that does not answer makes these invalidations fail (device_in_time_out()). Turn
    /// it off then, by a reset for example, and make the same call again.
    template <class Switch>
    constexpr result<void> turn_device_tlb_on(attachment_type& node, Switch turn_on) {
        const scoped_lock held{policies_.mutex};
        if (!node.attached() || !node.has_device_tlb_) {
            return error{errc::refused, node.who().function().source_id()};
        }
        node.function_.device_tlb_is_on = true;
        turn_on();
        return {};
    }
    /// After `turn_off()` the function has no device TLB: ATS is off, or it was reset.
    template <class Switch>
    constexpr void turn_device_tlb_off(attachment_type& node, Switch turn_off) {
        const scoped_lock held{policies_.mutex};
        turn_off();
        node.function_.device_tlb_is_on = false;
    }

    /// Calls `operation(unit)` with the lock held, on the unit that serves the function; its
    /// result, or errc::absent when there is none. For what only the unit has: interrupt entries,
    /// PASIDs.
    template <class Operation>
    constexpr auto with_unit_of(const requester& who, Operation operation)
        -> decltype(operation(*static_cast<unit_type*>(nullptr))) {
        const scoped_lock held{policies_.mutex};
        const result<unit_type*> found = find_unit(who);
        if (!found) {
            return found.error();
        }
        return operation(**found);
    }
    /// The same for an I/O APIC, an HPET or an ACPI device, by its number in the table's scopes:
    /// `operation(unit, source)`, where `source` is whose source id its requests carry. Errors as
    /// of unit_for().
    template <class Operation>
    constexpr auto with_unit_of(device_scope_type type, std::uint8_t number, Operation operation)
        -> decltype(operation(*static_cast<unit_type*>(nullptr), pci::function_address{})) {
        const scoped_lock held{policies_.mutex};
        const result<numbered_device> device = unit_for(table_, type, number, bridges_);
        if (!device) {
            return device.error();
        }
        const result<unit_type*> found = find_unit(device->unit);
        if (!found) {
            return found.error();
        }
        return operation(**found, device->source);
    }
    /// The same on every unit, up to the first error.
    template <class Operation>
    constexpr result<void> with_each_unit(Operation operation) {
        const scoped_lock held{policies_.mutex};
        return each(operation);
    }

    /// Takes up to `at_most` faults from each unit and gives those that are worth a look to
    /// `report(fault, verdict)`: fault_verdict::report; fault_verdict::silence once for a function
    /// that floods, whose faults are not recorded any more by then where that can be;
    /// fault_verdict::stop once for one that goes on nevertheless, whose Bus Master Enable the VMM
    /// should clear. Errors of the invalidation queues, which come by the same event, are cleared
    /// as well; complete() tells of them.
    ///
    /// It may wait for the hardware under the lock, so it does not belong into the interrupt
    /// itself.
    template <class Report>
    constexpr fault_pass handle_faults(unsigned at_most, Report report) {
        const scoped_lock held{policies_.mutex};
        fault_pass pass{};
        for (unit_type* u = first_; u != nullptr; u = u->next_) {
            unsigned left = at_most;
            // What comes while anything is pending sends no event [vt-d], so the last look must
            // find nothing at all.
            for (bool pending = true; pending && left != 0;) {
                const unsigned taken = u->faults().drain(
                    left, [&](const fault_record& fault) { handle(*u, fault, report); });
                pass.faults += taken;
                left -= taken != 0 ? taken : 1; // errors of the queue count as well
                static_cast<void>(
                    u->faults().take_overflow()); // of what was lost, nothing is known
                u->check_invalidation_errors();
                pending = u->has_pending_faults();
            }
            pass.more = pass.more || (left == 0 && u->has_pending_faults());
        }
        return pass;
    }

    /// Has the faults of a function recorded again that was silenced, e.g. after its reset. Errors
    /// as of root_table::replace().
    constexpr result<void> report_faults_again(attachment_type& node) {
        const scoped_lock held{policies_.mutex};
        const pci::function_address function = node.who().function();
        if (!node.attached()) {
            return error{errc::not_mapped, function.source_id()};
        }
        const result<translation> now = node.unit_->functions().translation_of(function);
        if (!now) {
            return now.error();
        }
        const result<void> done = node.unit_->replace(node.function_, now->with_faults_enabled());
        if (done) {
            limiter_.forget(function);
        }
        return done;
    }

    /// Gives the quarantine up for good, for units that never answer again.
    constexpr void leak() {
        const scoped_lock held{policies_.mutex};
        quarantine_.leak();
    }
    /// Gives the quarantine back, after stop(); the units are retired by their owner. errc::busy
    /// with the source id of a function that is in it. On an error it may be called again.
    constexpr result<void> retire() {
        const scoped_lock held{policies_.mutex};
        return quarantine_.retire();
    }

private:
    friend class protection_domain<remapping>;
    template <class, mutex>
    friend class domain;
    template <class>
    friend class pass_through_domain;

    /// Second-stage tables in which nothing is mapped: one empty frame, of whatever depth.
    class quarantine_domain : public protection_domain<remapping> {
        using base = protection_domain<remapping>;

    public:
        explicit constexpr quarantine_domain(remapping& machine) : base{machine} {}

        [[nodiscard]] constexpr bool is_ready() const { return ready_; }

        constexpr result<void> prepare() {
            if (ready_) {
                return {};
            }
            const result<std::uint16_t> id = base::id();
            if (!id) {
                return id.error();
            }
            Policies& given = base::machine().policies_;
            const result<hpa> frame = given.memory.allocate(frame_contents::zeroed);
            if (!frame) {
                static_cast<void>(base::give_id_back());
                return frame.error();
            }
            given.publication.publish(given.memory.entries(*frame), entries_per_table);
            given.publication.complete();
            root_ = *frame;
            ready_ = true;
            return {};
        }
        constexpr result<void> attach(attachment_type& node) {
            if (!ready_) {
                return error{errc::refused, node.who().function().source_id()};
            }
            return base::take(node, [&](const unit_type& serving) -> result<translation> {
                const result<unsigned> levels = second_stage::fewest_levels(
                    serving.capabilities()[capability::supported_address_widths], 1);
                if (!levels) {
                    return levels.error();
                }
                return translation::second_stage(root_, second_stage::format{{.levels = *levels}},
                                                 base::id().value());
            });
        }
        constexpr result<void> retire() {
            if (!ready_) {
                return {};
            }
            if (const result<void> given = base::give_id_back(); !given) {
                return given;
            }
            base::machine().policies_.memory.release(root_);
            ready_ = false;
            return {};
        }
        constexpr void leak() {
            base::abandon();
            ready_ = false;
        }

    private:
        hpa root_{};
        bool ready_ = false;
    };

    constexpr result<void> let_go(attachment_type& node) {
        const result<void> done = node.unit_->detach(node.function_);
        if (!done && done.error().code != errc::not_mapped) {
            node.settled_ = false;
            return done;
        }
        protection_domain<remapping>::relink(node, nullptr, nullptr);
        node.unit_ = nullptr;
        node.settled_ = true;
        return {};
    }

    template <class Operation>
    constexpr result<void> each(Operation operation) {
        for (unit_type* u = first_; u != nullptr; u = u->next_) {
            if (const result<void> done = operation(*u); !done) {
                return done;
            }
        }
        return {};
    }

    [[nodiscard]] constexpr bool has_unit_at(hpa register_base) const {
        const unit_type* u = first_;
        while (u != nullptr && u->register_base() != register_base) {
            u = u->next_;
        }
        return u != nullptr;
    }
    constexpr result<unit_type*> find_unit(const requester& who) {
        const result<serving_unit> serving = unit_for(table_, who, bridges_);
        if (!serving) {
            return serving.error();
        }
        return find_unit(*serving);
    }
    constexpr result<unit_type*> find_unit(const serving_unit& serving) {
        for (unit_type* u = first_; u != nullptr; u = u->next_) {
            // Of the segment as well: firmware may name one unit for two, and it has tables for
            // one.
            if (u->register_base() == serving.definition.register_base &&
                u->segment() == serving.definition.segment) {
                return u;
            }
        }
        return error{errc::absent, serving.definition.register_base.raw};
    }

    template <class Report>
    constexpr void handle(unit_type& hardware, const fault_record& fault, Report& report) {
        const fault_verdict verdict = limiter_.admit(fault.source);
        if (verdict == fault_verdict::silence) {
            silence(hardware, fault.source);
        }
        if (verdict != fault_verdict::drop) {
            report(fault, verdict);
        }
    }

    /// A function without an entry is blocked, but its faults go on: only the VMM can stop it.
    constexpr void silence(unit_type& hardware, pci::function_address function) {
        const auto now = hardware.functions().translation_of(function);
        if (now) {
            attached_function same{function};
            same.device_tlb_is_on = false; // what it has kept stays right, and ATS may be off
            static_cast<void>(hardware.replace(same, now->with_faults_disabled()));
        }
    }

    Policies policies_;
    dmar table_;
    [[no_unique_address]] Bridges bridges_;
    unit_type* first_ = nullptr;
    domain_id_set<DomainIds> ids_{};
    fault_limiter<typename Policies::clock_type, faulting_functions> limiter_;
    quarantine_domain quarantine_;
};

} // namespace pt::vtd
