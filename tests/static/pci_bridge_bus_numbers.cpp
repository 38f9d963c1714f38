// SPDX-License-Identifier: BSL-1.0
// Who tells bus numbers: models and near misses of the concept.
#include "pt/pci/bridge_bus_numbers.hpp"

#include <cstdint>

namespace {

using namespace pt::pci;

static_assert(bridge_bus_numbers<archetype::bridge_bus_numbers>);
static_assert(bridge_bus_numbers<config_bus_numbers<archetype::config_access>>);
static_assert(sizeof(config_bus_numbers<archetype::config_access>) == 1,
              "an empty policy costs nothing");

struct without_error {
    bus_numbers read(function_address);
};
struct only_the_secondary {
    pt::result<std::uint8_t> read(function_address);
};
struct by_source_id {
    pt::result<bus_numbers> read(std::uint16_t);
};
struct not_kept_by_value : archetype::bridge_bus_numbers {
    not_kept_by_value(const not_kept_by_value&) = delete;
};
static_assert(!bridge_bus_numbers<without_error>);
static_assert(!bridge_bus_numbers<only_the_secondary>);
static_assert(!bridge_bus_numbers<by_source_id>);
static_assert(!bridge_bus_numbers<not_kept_by_value>);
static_assert(!bridge_bus_numbers<archetype::config_access>);

} // namespace
