// SPDX-License-Identifier: BSL-1.0
// What may stand where the view of a function asks for a policy, and that it asks for no more.

#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/function_config.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/virtual_bars.hpp"
#include "pt/pci/virtual_function_view.hpp"
#include "pt/pci/virtual_msi.hpp"
#include "pt/pci/virtual_msi_x.hpp"

#include <cstdint>
#include <memory>
#include <type_traits>

namespace archetype = pt::pci::archetype;

// They need no more of their policies than the concepts say.
template class pt::pci::virtual_bars<archetype::function_events>;
template class pt::pci::virtual_msi<archetype::interrupt_route>;
template class pt::pci::virtual_msi_x<archetype::interrupt_route>;
template class pt::pci::virtual_function_view<archetype::config_access, archetype::function_events,
                                              archetype::interrupt_route, archetype::bar_memory,
                                              pt::archetype::mutex>;

namespace {

using namespace pt::pci;
using pt::mmio_width;
using pt::result;
using pt::width;

using least_view = virtual_function_view<archetype::config_access, archetype::function_events,
                                         archetype::interrupt_route, archetype::bar_memory>;

// A view is a function's configuration space, and one thing: it is not copied.
static_assert(function_config<least_view>);
static_assert(!std::is_copy_constructible_v<least_view> &&
              !std::is_move_constructible_v<least_view> && !std::is_copy_assignable_v<least_view>);
static_assert(function_config<host_function<archetype::config_access>>);
static_assert(!config_access<least_view>);

// interrupt_route
struct routes : archetype::interrupt_route {};
static_assert(interrupt_route<routes>);
struct counts_what_it_sends : archetype::interrupt_route {
    constexpr int send(interrupt_source, interrupt_message) { return 1; }
};
static_assert(!interrupt_route<counts_what_it_sends>);
struct answers_int : archetype::interrupt_route {
    constexpr int pending(interrupt_source) { return 1; }
};
static_assert(!interrupt_route<answers_int>);
struct never_closes {
    constexpr void open(interrupt_source, interrupt_message) {}
    constexpr void send(interrupt_source, interrupt_message) {}
    constexpr void use(interrupt_kind, std::uint16_t) {}
    constexpr bool pending(interrupt_source) { return false; }
};
static_assert(!interrupt_route<never_closes>);
struct does_not_hear_which_kind {
    constexpr void open(interrupt_source, interrupt_message) {}
    constexpr void close(interrupt_source) {}
    constexpr void send(interrupt_source, interrupt_message) {}
    constexpr bool pending(interrupt_source) { return false; }
};
static_assert(!interrupt_route<does_not_hear_which_kind>);
struct takes_a_vector_alone : archetype::interrupt_route {
    constexpr void open(std::uint16_t, interrupt_message) {}
};
static_assert(!interrupt_route<takes_a_vector_alone>);
struct owns : archetype::interrupt_route { // a policy is copied
    std::unique_ptr<int> something;
};
static_assert(!interrupt_route<owns>);
static_assert(!interrupt_route<const routes>); // it may change
static_assert(!interrupt_route<int>);

// function_events
struct cannot_refuse : archetype::function_events {
    constexpr void bar_changed(const bar_change&) {}
};
static_assert(!function_events<cannot_refuse>);
struct says_why_and_not_where : archetype::function_events {
    constexpr result<void> bar_changed(const bar_change&) { return {}; }
};
static_assert(!function_events<says_why_and_not_where>);
struct refuses_with_bool : archetype::function_events {
    constexpr bool bar_changed(const bar_change&) { return false; }
};
static_assert(!function_events<refuses_with_bool>);
struct changes_the_change : archetype::function_events {
    constexpr bar_place bar_changed(bar_change& change) { return change.to; }
};
static_assert(!function_events<changes_the_change>);
struct never_resets {
    constexpr bar_place bar_changed(const bar_change&) { return {}; }
    constexpr void power_state_changed(power_state, power_state) {}
};
static_assert(!function_events<never_resets>);
struct sees_only_the_new_state : archetype::function_events {
    constexpr void power_state_changed(power_state) {}
};
static_assert(!function_events<sees_only_the_new_state>);

// bar_memory
struct dwords_only : archetype::bar_memory {
    constexpr std::uint32_t read(std::uint8_t, std::uint64_t, mmio_width) { return 0; }
};
static_assert(!bar_memory<dwords_only>);
struct of_configuration_width : archetype::bar_memory {
    constexpr std::uint64_t read(std::uint8_t, std::uint64_t, width) { return 0; }
};
static_assert(!bar_memory<of_configuration_width>);
struct read_only {
    constexpr std::uint64_t read(std::uint8_t, std::uint64_t, mmio_width) { return 0; }
};
static_assert(!bar_memory<read_only>);
struct one_bar : archetype::bar_memory {
    constexpr std::uint64_t read(std::uint64_t, mmio_width) { return 0; }
};
static_assert(!bar_memory<one_bar>);

// function_config
struct needs_an_address {
    constexpr std::uint32_t read(function_address, std::uint16_t, width) { return 0; }
    constexpr void write(function_address, std::uint16_t, width, std::uint32_t) {}
};
static_assert(!function_config<needs_an_address>);
struct reads_words {
    constexpr std::uint16_t read(std::uint16_t, width) { return 0; }
    constexpr void write(std::uint16_t, width, std::uint32_t) {}
};
static_assert(!function_config<reads_words>);
struct is_not_copied { // and need not be: a router points to it
    is_not_copied() = default;
    is_not_copied(const is_not_copied&) = delete;
    constexpr std::uint32_t read(std::uint16_t, width) { return 0; }
    constexpr void write(std::uint16_t, width, std::uint32_t) {}
};
static_assert(function_config<is_not_copied>);

// What only looks like a policy is refused where the view is named, not somewhere inside.
template <class Config, class Events, class Route, class Memory>
concept viewable = requires {
    typename virtual_function_view<Config, Events, Route, Memory>;
};
using c = archetype::config_access;
using e = archetype::function_events;
using r = archetype::interrupt_route;
using m = archetype::bar_memory;
static_assert(viewable<c, e, r, m>);
static_assert(!viewable<needs_an_address, e, r, dwords_only>);
static_assert(!viewable<least_view, e, r, m>);
static_assert(!viewable<c, cannot_refuse, r, m>);
static_assert(!viewable<c, e, never_closes, m>);
static_assert(!viewable<c, e, r, read_only>);

// Empty policies cost nothing beside what is kept anyway.
struct full : archetype::interrupt_route {
    void* to = nullptr;
};
static_assert(sizeof(virtual_msi_x<archetype::interrupt_route>) < sizeof(virtual_msi_x<full>));
static_assert(sizeof(least_view) < 16 * 1024);

} // namespace
