// SPDX-License-Identifier: BSL-1.0
// Messages that name the processor themselves. What is expected is the manual's figure of address
// and data [sdm, "Message Signalled Interrupts"].
#include "pt/assign/compatibility_interrupts.hpp"
#include "pt/assign/vector_pool.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using pt::errc;
using pt::error;
using pt::assign::compatibility_interrupts;
using pt::assign::host_vector_block;
using pt::assign::host_vectors;
using pt::assign::vector_pool;
using pt::pci::interrupt_message;

constexpr pt::vtd::requester nic{pt::pci::function_address{0, 0, 3, 0}};
using path_type = compatibility_interrupts<vector_pool<>>;
static_assert(pt::assign::interrupt_path<path_type>);
static_assert(!path_type::isolates);

TEST_CASE("messages in compatibility format: processor in 19:12, vector in 7:0",
          "[assign][interrupts]") {
    constexpr auto holds = [] {
        host_vectors vectors{0x40, 0x7F};
        path_type path{vector_pool{vectors, 0x21}};
        path_type::block_type block;
        bool ok =
            path.open(nic, 4, block).has_value() && block.vectors() == host_vector_block{0x40, 4};
        // The function puts 0..3 into bits 1:0 of the data.
        ok = ok && path.msi(block, 2) == interrupt_message{0xFEE2'1000, 0x40} &&
             path.msi(block, 0) == interrupt_message{0xFEE2'1000, 0x40};
        ok = ok && path.msi_x(block, 0) == interrupt_message{0xFEE2'1000, 0x40} &&
             path.msi_x(block, 3) == interrupt_message{0xFEE2'1000, 0x43};
        ok = ok && path.close(nic, block).has_value() && block.vectors().count == 0;
        ok = ok && !vectors.is_taken(0x40) && !vectors.is_taken(0x43);
        return ok && path.close(nic, block).has_value();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("opened once more a function has the new vectors and not the old ones",
          "[assign][interrupts]") {
    constexpr auto holds = [] {
        host_vectors vectors{0x40, 0x43};
        path_type path{vector_pool{vectors, 0}};
        path_type::block_type block;
        bool ok = path.open(nic, 4, block).has_value();
        ok = ok && path.open(nic, 2, block).has_value() &&
             block.vectors() == host_vector_block{0x40, 2} && !vectors.is_taken(0x42);
        ok = ok && path.open(nic, 0, block).has_value() && block.vectors().count == 0;
        return ok && !vectors.is_taken(0x40);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

struct low_vectors {
    unsigned* given;
    constexpr pt::result<host_vector_block> allocate(std::uint16_t count) {
        ++*given;
        return host_vector_block{8, count};
    }
    constexpr void release(const host_vector_block&) { --*given; }
    constexpr std::uint32_t destination() { return 0; }
};

TEST_CASE("what a message cannot say is refused, and nothing stays taken", "[assign][interrupts]") {
    constexpr auto holds = [] {
        host_vectors vectors{0x40, 0x43};
        path_type::block_type block;
        bool ok = true;
        for (const std::uint32_t apic : {0xFFU, 0x100U, 0xFFFF'FFFFU}) { // 255: all processors
            path_type path{vector_pool{vectors, apic}};
            ok = ok && path.open(nic, 1, block) == error{errc::out_of_range, apic};
        }
        path_type path{vector_pool{vectors, 0xFE}};
        ok = ok && path.open(nic, 5, block) == error{errc::out_of_range, 5};
        ok = ok && block == path_type::block_type{} && !vectors.is_taken(0x40);
        unsigned given = 0;
        compatibility_interrupts low{low_vectors{&given}};
        ok = ok && low.open(nic, 1, block) == error{errc::out_of_range, 8} && given == 0;
        return ok && block == path_type::block_type{};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

} // namespace
