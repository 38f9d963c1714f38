// SPDX-License-Identifier: BSL-1.0
// The concepts of a function's ways to its guest: their models, those of the documentation, and near
// misses.
#include "pt/assign/compatibility_interrupts.hpp"
#include "pt/assign/dma_path.hpp"
#include "pt/assign/function_reset.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/standard_reset.hpp"
#include "pt/assign/unprotected_dma.hpp"
#include "pt/assign/vector_pool.hpp"
#include "pt/assign/vector_source.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/archetype.hpp"

#include <cstdint>
#include <type_traits>

// What a kernel has.
namespace kernel {

int allocate_vectors(std::uint16_t count, std::uint16_t alignment);
void free_vectors(std::uint8_t first, std::uint16_t count);
std::uint16_t smallest_power_of_two(std::uint16_t count);
extern std::uint32_t boot_processor_apic_id;
struct my_registers {};
pt::result<void> reset_by_ctrl_rst(my_registers&);

} // namespace kernel

namespace {

using namespace kernel;
using namespace pt::assign;
using pt::result;

// ---- models

static_assert(dma_path<unprotected_dma>);
static_assert(vector_source<vector_pool<pt::archetype::mutex>>);
static_assert(interrupt_path<compatibility_interrupts<archetype::vector_source>>);
static_assert(
    function_reset<standard_reset<pt::pci::archetype::config_access, pt::archetype::clock>>);
static_assert(wire_path<no_wire>);

// What costs nothing: policies that are empty.
static_assert(std::is_empty_v<unprotected_dma> && std::is_empty_v<no_wire>);
static_assert(std::is_empty_v<compatibility_interrupts<archetype::vector_source>>);
static_assert(sizeof(vector_pool<>) == 16);

// docs/policies/vector_source.md
struct my_vectors {
    pt::result<pt::assign::host_vector_block> allocate(std::uint16_t count) {
        const int first = allocate_vectors(count, smallest_power_of_two(count));
        if (first < 0)
            return pt::error{pt::errc::busy, count};
        return pt::assign::host_vector_block{static_cast<std::uint8_t>(first), count};
    }
    void release(const pt::assign::host_vector_block& block) {
        free_vectors(block.first, block.count);
    }
    std::uint32_t destination() { return boot_processor_apic_id; }
};
static_assert(vector_source<my_vectors>);

// docs/policies/wire_path.md
struct my_route {
    void open(std::uint32_t);
    void close(std::uint32_t);
};
template <class Route>
struct line_of_route {
    static constexpr bool exists = true;
    Route* route;
    std::uint32_t line;

    pt::result<void> open() { return route->open(line), pt::result<void>{}; }
    void close() { route->close(line); }
};
static_assert(pt::assign::wire_path<line_of_route<my_route>>);

// docs/policies/function_reset.md
template <class Standard>
struct nic_reset {
    Standard standard;
    my_registers registers;

    pt::result<void> reset(pt::pci::function_address function) {
        if (const auto done = standard.reset(function);
            done || done.error().code == pt::errc::time_out)
            return done;
        return reset_by_ctrl_rst(registers);
    }
};
static_assert(function_reset<
              nic_reset<standard_reset<pt::pci::archetype::config_access, pt::archetype::clock>>>);

// ---- near misses

struct attached_by_number : archetype::dma_path {
    struct attachment_type {
        explicit constexpr attachment_type(std::uint16_t) {}
    };
};
static_assert(!dma_path<attached_by_number>); // what is attached is a requester

struct without_a_word_on_isolation {
    using attachment_type = archetype::dma_path::attachment_type;
    result<void> map(pt::range<pt::gpa>, pt::hpa);
    result<void> unmap(pt::range<pt::gpa>);
    result<void> attach(attachment_type&);
    result<void> block(attachment_type&);
    result<void> release(attachment_type&);
    result<void> settle();
};
static_assert(!dma_path<without_a_word_on_isolation>);
struct with_it : without_a_word_on_isolation {
    static constexpr bool isolates = true;
};
static_assert(dma_path<with_it>);
struct from_bus_addresses : archetype::dma_path {
    result<void> map(pt::range<pt::iova>, pt::hpa);
};
static_assert(!dma_path<from_bus_addresses>);

struct block_that_cannot_be_empty : archetype::interrupt_path {
    struct block_type : archetype::interrupt_path::block_type {
        explicit block_type(int);
    };
};
static_assert(!interrupt_path<block_that_cannot_be_empty>);

struct gives_a_vector : archetype::vector_source {
    result<std::uint8_t> allocate(std::uint16_t);
};
static_assert(!vector_source<gives_a_vector>); // and not a block
struct nowhere {
    result<host_vector_block> allocate(std::uint16_t);
    void release(const host_vector_block&);
};
static_assert(!vector_source<nowhere>);

struct open_that_cannot_fail : no_wire {
    void open();
};
static_assert(!wire_path<open_that_cannot_fail>);
struct reset_that_cannot_fail {
    void reset(pt::pci::function_address);
};
static_assert(!function_reset<reset_that_cannot_fail>);

// ---- which errors leave something owed

static_assert(is_owed(pt::errc::time_out) && is_owed(pt::errc::hardware_fault) &&
              is_owed(pt::errc::absent));
static_assert(!is_owed(pt::errc::none) && !is_owed(pt::errc::refused) &&
              !is_owed(pt::errc::already_mapped) && !is_owed(pt::errc::out_of_frames));

} // namespace
