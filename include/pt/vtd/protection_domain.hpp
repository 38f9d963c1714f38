// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/attachment.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/translation.hpp"

#include <cstdint>

namespace pt::vtd {

/// What all kinds of domain have in common: an id that no other one has, and the functions in it.
/// The kinds are domain, pass_through_domain, and the quarantine of a remapping.
///
/// Everything here is called with the lock of the remapping held.
template <class Remapping>
class protection_domain {
public:
    using attachment_type = attachment<Remapping>;

    protection_domain(const protection_domain&) = delete;
    protection_domain& operator=(const protection_domain&) = delete;

protected:
    explicit constexpr protection_domain(Remapping& machine) : machine_{&machine} {}
    constexpr ~protection_domain() {
        expects(first_ == nullptr && !has_id_, "a domain went away before retire()");
    }

    [[nodiscard]] constexpr Remapping& machine() const { return *machine_; }

    /// The id, taken now if there is none yet. errc::busy when none is free.
    constexpr result<std::uint16_t> id() {
        if (!has_id_) {
            const result<std::uint16_t> taken = machine_->ids_.allocate();
            if (!taken) {
                return taken;
            }
            id_ = *taken;
            has_id_ = true;
        }
        return id_;
    }
    /// errc::busy while a function is attached.
    constexpr result<void> give_id_back() {
        if (first_ != nullptr) {
            return error{errc::busy, first_->owner->who().function().source_id()};
        }
        if (has_id_) {
            machine_->ids_.release(id_);
            has_id_ = false;
        }
        return {};
    }
    /// Forgets id and functions, and gives nothing back: a unit may use both still. Functions
    /// behind units that do answer are blocked; one that another domain holds as well stays there.
    constexpr void abandon() {
        while (first_ != nullptr) {
            attachment_type& node = *first_->owner;
            const bool elsewhere = (node.current_.in != nullptr && node.current_.in != this) ||
                                   (node.former_.in != nullptr && node.former_.in != this);
            if (!elsewhere && machine_->let_go(node)) {
                continue;
            }
            move(*first_, nullptr);
            if (node.current_.in == nullptr && node.former_.in == nullptr) {
                node.unit_ = nullptr;
                node.settled_ = true;
            }
        }
        has_id_ = false;
    }

    /// The same translation for a function that may translate by itself.
    static constexpr translation completed(const attachment_type& node, const translation& what) {
        return node.has_device_tlb_ ? what.with_device_tlb() : what;
    }

    /// Puts a function through `what(unit)`, a result<translation> with this domain's id, wherever
    /// the function was before.
    template <class What>
    constexpr result<void> take(attachment_type& node, What what) {
        if (node.attached() && !node.settled_) {
            // Nobody knows what the unit has of it: begin with a function that is blocked.
            if (const result<void> done = machine_->let_go(node); !done) {
                return done;
            }
        }
        protection_domain* const before = node.current_.in;
        if (before == this) {
            return error{errc::already_mapped, node.who_.function().source_id()};
        }
        using unit_type = typename Remapping::unit_type;
        const result<unit_type*> serving =
            before != nullptr ? result<unit_type*>{node.unit_} : machine_->find_unit(node.who_);
        if (!serving) {
            return serving.error();
        }
        unit_type& hardware = **serving;
        const result<translation> wanted = what(hardware);
        if (!wanted) {
            return wanted.error();
        }
        node.unit_ = &hardware;
        // What this domain invalidates has to reach the unit from before it can cache anything.
        relink(node, this, before);
        const pci::function_address function = node.who_.function();
        const result<translation> earlier = hardware.functions().translation_of(function);
        const result<void> done = before != nullptr ? hardware.replace(node.function_, *wanted)
                                                    : hardware.attach(node.function_, *wanted);
        if (done) {
            relink(node, this, nullptr);
            machine_->limiter_.forget(function); // its entry is a new one, in which faults count
        } else if (!(hardware.functions().translation_of(function) == earlier)) {
            node.settled_ = false; // the entry changed, and the hardware did not do its part
        } else {
            relink(node, before, nullptr);
            node.unit_ = before != nullptr ? node.unit_ : nullptr;
        }
        return done;
    }

    /// Takes what is stale out of the caches of every unit that a function of this domain is
    /// behind, and of the functions that keep translations themselves.
    constexpr result<void> invalidate(const paging::stale_set<iova>& stale) {
        result<void> all{};
        for (const attachment_link<Remapping>* link = first_; link != nullptr; link = link->next) {
            if (!is_first_behind_its_unit(*link)) {
                continue;
            }
            const result<void> done = invalidate_on(*link->owner->unit_, stale);
            if (!done && all) {
                all = done; // the others are told nevertheless
            }
        }
        return all;
    }

    /// Links are kept by the machine too, when it releases a function.
    static constexpr void relink(attachment_type& node, protection_domain* current,
                                 protection_domain* former) {
        move(node.current_, current);
        move(node.former_, former);
    }

private:
    friend Remapping;

    static constexpr void move(attachment_link<Remapping>& link, protection_domain* to) {
        if (link.in == to) {
            return;
        }
        if (link.in != nullptr) {
            attachment_link<Remapping>** at = &link.in->first_;
            while (*at != &link) {
                at = &(*at)->next;
            }
            *at = link.next;
        }
        link.in = to;
        if (to != nullptr) {
            link.next = to->first_;
            to->first_ = &link;
        }
    }

    constexpr bool is_first_behind_its_unit(const attachment_link<Remapping>& link) const {
        for (const attachment_link<Remapping>* l = first_; l != &link; l = l->next) {
            if (l->owner->unit_ == link.owner->unit_) {
                return false;
            }
        }
        return true;
    }

    template <class Unit> // The remapping's: its type is not known before it is complete.
    constexpr result<void> invalidate_on(Unit& hardware, const paging::stale_set<iova>& stale) {
        if (const result<void> asked = submit_stale(hardware, id_, stale); !asked) {
            return asked;
        }
        for (const attachment_link<Remapping>* l = first_; l != nullptr; l = l->next) {
            const attachment_type& node = *l->owner;
            if (node.unit_ == &hardware && node.has_device_tlb_ &&
                node.function_.device_tlb_is_on) {
                const device_tlb kept = node.function_.device_tlb(hardware.extended_capabilities());
                if (const result<void> asked = submit_device_tlb(hardware, kept, stale); !asked) {
                    return asked;
                }
            }
        }
        return hardware.complete();
    }

    Remapping* machine_;
    attachment_link<Remapping>* first_ = nullptr;
    std::uint16_t id_ = 0;
    bool has_id_ = false;
};

} // namespace pt::vtd
