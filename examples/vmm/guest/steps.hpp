// SPDX-License-Identifier: BSL-1.0
//
// What the guest does in every run without an attack, as a plain driver would: each step tells and
// checks by itself.
#pragma once

#include "nic.hpp"

namespace guest {

void tell_processor();
void check_configuration_mechanism();
/// Lists the functions with their capabilities.
void check_functions();
/// Sizes, moves and finds again the BARs of the NIC, and a 64-bit one of whatever function has one.
void check_bars(nic& device);
/// The local APIC in the mode in which it is: registers, IPIs, priorities, the timer.
void check_local_apic();
/// To x2APIC mode, if the processor has it, and the same there; and back, unless the words say
/// x2apic.
void check_x2apic();
/// The 8254 through the I/O APIC.
void check_interval_timer();
/// Each kind of interrupt that the NIC has: requested, masked, pending.
void check_interrupts(nic& device);
/// Frames of several lengths and pieces, and one that it sends to itself.
void check_traffic(nic& device);
/// The short way through all of it: a BAR moves, a frame and its interrupt, DMA to what is not the
/// guest's.
void take_tour(nic& device);
/// role=sender or role=receiver, with peer=MAC: numbered frames and their answers.
void exchange_frames(nic& device);

} // namespace guest
