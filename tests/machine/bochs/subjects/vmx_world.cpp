// SPDX-License-Identifier: BSL-1.0
//
// The world of examples/vmm under VMX.
#include "../../../../examples/vmm/vmx/world.hpp"
#include "../../kernel/guest_tests/world.hpp"

namespace {

void modes() { guest_tests::check_world<vmm::vmx::world>(pt::ept::ram); }
void in_time() { guest_tests::check_world_in_time<vmm::vmx::world>(pt::ept::ram); }

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"vmx_world", modes};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"vmx_world_in_time",
                                                                          in_time};

} // namespace
