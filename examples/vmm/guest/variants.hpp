// SPDX-License-Identifier: BSL-1.0
//
// The hostile variants of the guest, by the word attack=NAME.
#pragma once

#include "nic.hpp"

#include <cstddef>

namespace guest {

struct variant {
    const char* name;
    const char* what; ///< it tries
    void (*run)(nic&);
};

/// All of them.
struct variant_list {
    const variant* first;
    std::size_t count;

    [[nodiscard]] const variant* begin() const { return first; }
    [[nodiscard]] const variant* end() const { return first + count; }
};
variant_list variants();

/// Whether the program runs on a machine of its own (the word `bare`): some attacks would destroy
/// what nobody protects there, and leave that out.
bool is_bare();

// Each tells what it tries and what it saw, and checks what must hold however the machine answers.
// It leaves the NIC where it can be brought up again, and memory as it was.
void attack_dma_outside(nic& device);
void attack_bar_over_ram(nic& device);
void attack_bar_over_apic(nic& device);
void attack_bar_over_bar(nic& device);
void attack_bar_half_written(nic& device);
void attack_msi_x_writes(nic& device);
void attack_port_probe(nic& device);
void attack_config_odd(nic& device);
void attack_interrupt_flood(nic& device);
void attack_ring_poison(nic& device);
void attack_apic_garbage(nic& device);
void attack_instructions(nic& device);
void attack_memory_map(nic& device);
void attack_reset_in_flight(nic& device);

} // namespace guest
