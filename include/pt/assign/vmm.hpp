// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/dma_path.hpp"
#include "pt/assign/function_reset.hpp"
#include "pt/assign/guest_processors.hpp"
#include "pt/assign/interrupt_path.hpp"
#include "pt/assign/platform.hpp"
#include "pt/assign/reports.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/vcpu_set.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/config_access.hpp"

#include <concepts>

namespace pt::assign {

/// The tables through which a guest's processors reach memory: a paging::table of gpa, whatever its
/// format and memory.
template <class P>
concept guest_pages = requires(P& pages, range<gpa> input, hpa output,
                               const typename P::attributes& how) {
    typename P::ticket;
    { pages.map(input, output, how) } -> std::same_as<result<typename P::ticket>>;
    { pages.unmap(input) } -> std::same_as<result<typename P::ticket>>;
    { pages.retire() } -> std::same_as<typename P::ticket>;
    { pages.format().input_width() } -> std::convertible_to<unsigned>;
    pages.batch();
};

/// The names that a VMM has for its policies: each is there. (Apart from `vmm`, so that the compiler
/// says which one is not.)
template <class V>
concept vmm_names = requires {
    typename V::host_config; // pci::config_access: the host's configuration space
    typename V::host_ports;  // port_io: the host's ports
    typename V::registers;   // pci::bar_memory: the host's mapping of one device's BARs
    typename V::pages;       // a paging::table of gpa: EPT or nested paging
    typename V::processors;  // guest_processors
    typename V::dma;         // dma_path: how functions reach the guest's memory
    typename V::interrupts;  // interrupt_path: how their messages reach the host
    typename V::wire;        // wire_path: how their INTx reaches the guest
    typename V::vcpus;       // lapic::vcpu_set
    typename V::reset;       // function_reset
    typename V::platform;    // platform: what the VMM itself plays
    typename V::reports;     // reports
    typename V::mutex;       // mutex: a spin lock, or no_mutex with one processor
};

/// A VMM: a struct that names its policies once, of which everything in assign is made.
template <class V>
concept vmm = vmm_names<V> && pci::config_access<typename V::host_config> &&
    port_io<typename V::host_ports> && pci::bar_memory<typename V::registers> &&
    guest_pages<typename V::pages> && guest_processors<typename V::processors> &&
    dma_path<typename V::dma> && interrupt_path<typename V::interrupts> &&
    wire_path<typename V::wire> && lapic::vcpu_set<typename V::vcpus> &&
    function_reset<typename V::reset> && platform<typename V::platform> &&
    reports<typename V::reports> && mutex<typename V::mutex>;

} // namespace pt::assign
