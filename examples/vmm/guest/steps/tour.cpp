// SPDX-License-Identifier: BSL-1.0
//
// The short way through all of it, for somebody who looks on: a BAR that moves, one frame and its interrupt, and
// a descriptor that points to memory which is not the guest's.
#include "../attacks/raw_rings.hpp"
#include "../interrupts.hpp"
#include "../link.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../steps.hpp"

namespace guest {
namespace {

using pt::e1000e::tx_descriptor;

constexpr std::uint64_t new_place = 0xD300'0000;

alignas(4096) tx_descriptor transmit_ring[8];

void send_one(nic& device, const char* text) {
    if (!check(device.bring_up(), "the NIC is reset, and its link set up")) {
        return;
    }
    tell("its address is ", device.address());
    link rings{device};
    const auto vector = device.use(device.best_kind(), nic_vector);
    if (!check(vector, "it interrupts by ", name(device.best_kind()), ", with vector ",
               std::uint64_t{nic_vector}) ||
        !check(rings.start(), "its rings start")) {
        return;
    }
    const link_memory& memory = memory_of_links();
    tell("the transmit ring is at ", link::iova_of(memory.transmit_ring).raw,
         " of this memory, the frame at ", link::iova_of(memory.transmit_buffers[0]).raw);
    forget_interrupts();
    take_causes();
    check(rings.send({everybody, device.address(), frame_kind::plain, 1, text}),
          "a frame is in the ring, and the tail has moved");
    check(arrives(*vector), "the interrupt is here");
    check(rings.wait_until_sent(), "and the NIC says that the frame is sent");
    rings.stop();
    check(device.shut_down(), "it is shut down");
}

void aim(nic& device, std::uint64_t place) {
    if (!check(device.bring_up(), "the NIC is reset, and its link set up")) {
        return;
    }
    tell("a descriptor says that there is a frame at ", place);
    kernel::mmio registers = device.registers();
    transmit_ring[0] = whole_frame_at(place, 64);
    start_raw_transmitter(registers, {.base = link::iova_of(transmit_ring).raw, .tail = 1});
    pause_for(millisecond);
    tell("what the NIC reads there, this guest does not know");
    check(device.shut_down(), "it is shut down");
}

} // namespace

void take_tour(nic& device) {
    guard_memory();

    step("Move the registers");
    tell("they are at ", device.memory().address);
    device.turn_on();
    check(device.move_memory(new_place), "BAR 0 says ", new_place);
    kernel::mmio registers = device.registers();
    check(pt::read<pt::e1000e::status>(registers).raw != ~std::uint32_t{0}, "and there they are");

    step("Send a frame");
    send_one(device, "a frame through VT-d");

    step("Aim at somebody else's memory");
    aim(device, end_of_ram().raw);
    check(memory_is_intact(), "this guest's memory is as it was");

    step("And go on");
    send_one(device, "and another one");
}

} // namespace guest
