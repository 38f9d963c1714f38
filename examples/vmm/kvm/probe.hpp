// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <string>
#include <vector>

namespace vmm::kvm {

/// Something that a guest does, and what became of it on this machine's KVM.
struct ability {
    std::string what;
    std::string defect;  ///< empty: it works
    bool needed = false; ///< without it no kernel boots
};

/// Tries this machine's KVM with small guests, of which none lasts longer than a moment. There are
/// variants in software that do not run everything. Throws `unavailable`.
std::vector<ability> try_abilities();

} // namespace vmm::kvm
