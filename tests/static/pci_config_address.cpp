// SPDX-License-Identifier: BSL-1.0
// CONFIG_ADDRESS in its two forms, against words taken apart by hand; what is a form, and what is
// none.
#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/pci/config_address.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/function_config.hpp"
#include "pt/pci/port_config_access.hpp"

#include <concepts>
#include <cstdint>

namespace {

using namespace pt::pci;
using pt::reg;

// 1'000'1111'00000010'11111'011'101010'00: AMD's bits 27:24 are 15, the register number 42.
constexpr std::uint32_t word = 0x8F02'FBA8;
constexpr function_address far{0, 2, 31, 3};

static_assert(config_address{word}.target() == far && config_address{word}.offset() == 0xA8);
static_assert(extended_config_address{word}.target(7) == function_address{7, 2, 31, 3});
static_assert(extended_config_address{word}.offset() == 0xFA8);
static_assert(config_address::select(far, 0xAB).raw == 0x8002'FBA8);
static_assert(extended_config_address::select(far, 0xFAB).raw == word);
static_assert(extended_config_address::select(far, 0xAB).raw == 0x8002'FBA8,
              "below 256 both are the same");
static_assert(config_address::reach == 256 && extended_config_address::reach == 4096);

// What software writes and what is there afterwards.
static_assert(config_address{}.after_write(0xFFFF'FFFF).raw == 0x80FF'FFFC);
static_assert(extended_config_address{}.after_write(0xFFFF'FFFF).raw == 0x8FFF'FFFC);

// config_address_form
static_assert(config_address_form<config_address> && config_address_form<extended_config_address>);
static_assert(!config_address_form<std::uint32_t> && !config_address_form<function_address>);

template <class Self, class Word = std::uint32_t>
struct form : reg<Self, Word> {
    using reg<Self, Word>::reg;
    static constexpr std::uint16_t reach = 256;
    static constexpr typename reg<Self, Word>::template bits<31, 31, bool> enable{};
    static constexpr pt::field_list fields{enable};
    static Self select(function_address, std::uint16_t);
    function_address target(std::uint16_t) const;
    std::uint16_t offset() const;
};
struct least : form<least> {
    using form::form;
};
struct no_reach : form<no_reach> {
    using form::form;
    static void reach();
};
struct no_enable : form<no_enable> {
    using form::form;
    static void enable();
};
struct select_of_a_number : form<select_of_a_number> {
    using form::form;
    static std::uint32_t select(function_address, std::uint16_t);
};
struct target_of_a_number : form<target_of_a_number> {
    using form::form;
    std::uint16_t target(std::uint16_t) const;
};
struct offset_wide : form<offset_wide> {
    using form::form;
    std::uint32_t offset() const;
};
struct of_64_bits : form<of_64_bits, std::uint64_t> {
    using form::form;
};
static_assert(config_address_form<least>);
static_assert(!config_address_form<no_reach> && !config_address_form<no_enable> &&
              !config_address_form<select_of_a_number> &&
              !config_address_form<target_of_a_number> && !config_address_form<offset_wide> &&
              !config_address_form<of_64_bits>);

// function_config
static_assert(function_config<pt::pci::archetype::function_config> &&
              function_config<host_function<pt::pci::archetype::config_access>>);
struct without_write : pt::pci::archetype::function_config {
    void write(std::uint16_t, pt::width, std::uint32_t) = delete;
};
struct without_read : pt::pci::archetype::function_config {
    std::uint32_t read(std::uint16_t, pt::width) = delete;
};
struct narrow_read : pt::pci::archetype::function_config {
    std::uint16_t read(std::uint16_t, pt::width);
};
static_assert(!function_config<without_write> && !function_config<without_read> &&
              !function_config<narrow_read> && !function_config<pt::pci::archetype::config_access>);

// The arguments tell the policies, the form is the conventional one unless somebody names another.
using pt::archetype::mutex;
using pt::archetype::port_io;
static_assert(std::same_as<decltype(port_config_access{port_io{}}),
                           port_config_access<port_io, config_address, pt::no_mutex>>);
static_assert(std::same_as<decltype(port_config_access{port_io{}, config_latch::ours}),
                           port_config_access<port_io>>);
static_assert(std::same_as<decltype(port_config_access{port_io{}, config_latch::kept, mutex{}}),
                           port_config_access<port_io, config_address, mutex>>);
static_assert(config_access<port_config_access<port_io, extended_config_address, mutex>>);
static_assert(sizeof(port_config_access<port_io>) <= 2, "empty policies cost nothing");
static_assert(std::same_as<decltype(config_ports{pt::pci::archetype::config_access{}}),
                           config_ports<pt::pci::archetype::config_access, config_address>>);

} // namespace
