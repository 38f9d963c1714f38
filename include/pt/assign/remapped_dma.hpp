// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/dma_path.hpp"
#include "pt/core/address.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/attachment.hpp"
#include "pt/vtd/domain.hpp"

namespace pt::assign {

template <class Domain>
class remapped_dma;

/// DMA that VT-d translates: the guest's devices are in one domain, and reach what is mapped there;
/// a function that is blocked is in the quarantine of the remapping. A handle: domain and remapping
/// outlive it, and the remapping was started.
///
///     pt::assign::remapped_dma dma{domain, remapping};
///
/// A function behind a bridge to conventional PCI sends its requests under the bridge's source id,
/// or that of device 0 on its secondary bus [vt-d]: the requester names that one, and it is attached
/// once for all that is behind the bridge. Another attachment of it is refused, in this guest and
/// any other.
template <class Remapping, mutex Mutex>
class remapped_dma<vtd::domain<Remapping, Mutex>> {
public:
    using domain_type = vtd::domain<Remapping, Mutex>;
    using attachment_type = vtd::attachment<Remapping>;

    static constexpr bool isolates = true;

    /// `reserved`: what attach() does about memory that firmware reserved for the function.
    constexpr remapped_dma(domain_type& domain, Remapping& machine,
                           vtd::reserved_memory reserved = vtd::reserved_memory::must_be_mapped)
        : domain_{&domain}, machine_{&machine}, reserved_{reserved} {}

    /// Errors as of vtd::domain::map(), with nothing mapped. When is_owed(error.code), devices may
    /// reach the memory until settle() succeeds.
    constexpr result<void> map(range<gpa> memory, hpa to) {
        const range<iova> input = as_seen_by_device(memory);
        typename domain_type::batch change{*domain_};
        if (const result<void> mapped = change.map(input, to, vtd::second_stage::read_write);
            !mapped) {
            return mapped;
        }
        const result<void> seen = change.flush();
        if (!seen) {
            // Leaves that were just made go as they came: no table is split, no frame needed.
            static_cast<void>(change.unmap(input));
            change.leave();
        }
        return seen;
    }
    /// Errors as of vtd::domain::unmap().
    constexpr result<void> unmap(range<gpa> memory) {
        return domain_->unmap(as_seen_by_device(memory));
    }

    /// Errors as of vtd::domain::attach(), but for what is said at dma_path. When is_owed(error.code)
    /// the function is blocked, or where it was: attach, block or release it again.
    constexpr result<void> attach(attachment_type& function) {
        return unless_there(domain_->attach(function, reserved_), function);
    }
    /// Errors as of vtd::remapping::quarantine().
    constexpr result<void> block(attachment_type& function) {
        return unless_there(machine_->quarantine(function), function);
    }
    /// Errors as of vtd::remapping::release(): the function stays attached then, and is blocked.
    constexpr result<void> release(attachment_type& function) {
        return machine_->release(function);
    }
    /// Errors as of vtd::domain::flush().
    constexpr result<void> settle() { return domain_->flush(); }

private:
    static constexpr range<iova> as_seen_by_device(range<gpa> memory) {
        return {iova{memory.first().raw}, memory.size()};
    }
    /// errc::already_mapped of an attachment that is attached: it is there already. Of any other, the
    /// entry of its source id is somebody else's.
    static constexpr result<void> unless_there(const result<void>& done,
                                               const attachment_type& function) {
        if (done || done.error().code != errc::already_mapped) {
            return done;
        }
        return function.attached() ? result<void>{}
                                   : error{errc::refused, function.who().function().source_id()};
    }

    domain_type* domain_;
    Remapping* machine_;
    vtd::reserved_memory reserved_;
};

template <class Remapping, mutex Mutex>
remapped_dma(vtd::domain<Remapping, Mutex>&, Remapping&)
    -> remapped_dma<vtd::domain<Remapping, Mutex>>;
template <class Remapping, mutex Mutex>
remapped_dma(vtd::domain<Remapping, Mutex>&, Remapping&, vtd::reserved_memory)
    -> remapped_dma<vtd::domain<Remapping, Mutex>>;

} // namespace pt::assign
