// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"

#include <cstdint>

namespace pt::e1000e {

/// The tag control information of a VLAN tag [802.1q], as the descriptors' VLAN (or special) field
/// holds it [82574]. On the wire it is big-endian and follows the Ether type in VET.
struct vlan_tag : reg<vlan_tag, std::uint16_t> {
    using reg::reg;
    static constexpr bits<11, 0, std::uint16_t> vlan{}; ///< identifier
    static constexpr bits<12, 12, bool> cfi{};          ///< canonical form indicator
    static constexpr bits<15, 13, std::uint8_t> pri{};  ///< priority
    static constexpr field_list fields{vlan, cfi, pri};
};

} // namespace pt::e1000e
