// SPDX-License-Identifier: BSL-1.0
// DMA without IOMMU: only what is at the same numbers in guest and host.
#include "pt/assign/unprotected_dma.hpp"

#include <catch2/catch_test_macros.hpp>

namespace {

using pt::errc;
using pt::error;
using pt::gpa;
using pt::hpa;
using pt::assign::unprotected_dma;

TEST_CASE("without an IOMMU a guest's devices are given nothing that lies elsewhere in the host",
          "[assign][dma]") {
    constexpr auto holds = [] {
        unprotected_dma dma;
        const pt::range<pt::gpa> memory{gpa{0x10'0000}, 0x4000};
        return dma.map(memory, hpa{0x10'0000}).has_value() &&
               dma.map(memory, hpa{0x10'1000}) == error{errc::refused, 0x10'0000} &&
               dma.map(memory, hpa{0x1'0010'0000}) == error{errc::refused, 0x10'0000} &&
               dma.map({gpa{0x1'0010'0000}, 0x1000}, hpa{0x10'0000}) ==
                   error{errc::refused, 0x1'0010'0000};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
    STATIC_REQUIRE_FALSE(unprotected_dma::isolates); // and nobody is told that it did
}

TEST_CASE("without an IOMMU a function is wherever it is said to be, and nothing is owed",
          "[assign][dma]") {
    constexpr auto holds = [] {
        unprotected_dma dma;
        unprotected_dma::attachment_type nic{pt::pci::function_address{0, 0, 3, 0}};
        return nic.who().function() == pt::pci::function_address{0, 0, 3, 0} && dma.attach(nic) &&
               dma.attach(nic) && dma.block(nic) && dma.block(nic) && dma.release(nic) &&
               dma.unmap({gpa{0}, 0x1000}) && dma.settle();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

} // namespace
