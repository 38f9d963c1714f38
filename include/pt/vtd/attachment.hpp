// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/attached_function.hpp"
#include "pt/vtd/requester.hpp"

#include <cstdint>

namespace pt::vtd {

template <class Remapping>
class attachment;
template <class Remapping>
class protection_domain;

/// The place of an attachment in the list of a domain.
template <class Remapping>
struct attachment_link {
    attachment<Remapping>* owner = nullptr;
    protection_domain<Remapping>* in = nullptr;
    attachment_link* next = nullptr;
};

/// A function that is, or will be, in a domain. It belongs to the VMM, which keeps it beside
/// whatever else it knows of the device, and stays at its place while attached(). It is in one
/// domain at a time. (After a move in which the unit did not answer, it holds on to both until a
/// later call succeeds, since the unit may have either in its caches.)
template <class Remapping>
class attachment {
public:
    using unit_type = typename Remapping::unit_type;

    /// A function without device TLB, or with ATS off.
    explicit constexpr attachment(requester who) : who_{who}, function_{who.function()} {}
    /// A function that may use its device TLB while it is in a domain, but not in the quarantine;
    /// see remapping::turn_device_tlb_on(). ATS is off in it now. `invalidate_queue_depth`, 1 to
    /// 32, is what its ATS capability says.
    constexpr attachment(requester who, std::uint8_t invalidate_queue_depth)
        : who_{who},
          function_{who.function(), who.physical_function().source_id(), invalidate_queue_depth},
          has_device_tlb_{true} {
        function_.device_tlb_is_on = false;
    }

    attachment(const attachment&) = delete;
    attachment& operator=(const attachment&) = delete;
    constexpr ~attachment() { expects(!attached(), "an attachment went away before release()"); }

    [[nodiscard]] constexpr const requester& who() const { return who_; }
    /// Whether a unit has an entry for the function, or may have one in a cache still.
    [[nodiscard]] constexpr bool attached() const { return unit_ != nullptr; }
    /// The unit that serves it; null unless attached.
    [[nodiscard]] constexpr unit_type* hardware() const { return unit_; }

private:
    friend Remapping;
    friend protection_domain<Remapping>;

    requester who_;
    attached_function function_;
    bool has_device_tlb_ = false;
    bool settled_ = true; ///< the last change of the entry succeeded
    unit_type* unit_ = nullptr;
    attachment_link<Remapping> current_{this};
    attachment_link<Remapping> former_{this}; ///< of a move that did not succeed
};

} // namespace pt::vtd
