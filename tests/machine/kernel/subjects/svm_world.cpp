// SPDX-License-Identifier: BSL-1.0
//
// The world of examples/vmm under SVM.
#include "../../../../examples/vmm/svm/world.hpp"
#include "../guest_tests/world.hpp"

namespace {

void modes() { guest_tests::check_world<vmm::svm::world>(pt::x86_64::ram); }
void in_time() { guest_tests::check_world_in_time<vmm::svm::world>(pt::x86_64::ram); }

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_world", modes};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_world_in_time",
                                                                          in_time};

} // namespace
