// SPDX-License-Identifier: BSL-1.0
#include "random.hpp"
#include "raw_rings.hpp"

#include "../interrupts.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

namespace guest {
namespace {

using pt::e1000e::tx_descriptor;

constexpr std::uint32_t count = 64;
alignas(4096) tx_descriptor transmit_ring[count];
alignas(4096) tx_descriptor receive_ring[count];
alignas(4096) std::uint8_t buffer[2 * 16384];

bool is_there(kernel::mmio registers) {
    return pt::read<pt::e1000e::status>(registers).raw != ~std::uint32_t{0};
}

void fill_ring(tx_descriptor descriptor) {
    for (tx_descriptor& each : transmit_ring) {
        each = descriptor;
    }
}

/// One poisoned ring: the NIC must be there afterwards, and can be reset.
void try_transmitter(nic& device, const char* what, raw_ring ring) {
    ring.base = ring.base == 0 ? address_of(transmit_ring) : ring.base;
    kernel::mmio registers = device.registers();
    if (!device.bring_up()) {
        check(false, "the NIC can be reset");
        return;
    }
    start_raw_transmitter(registers, ring);
    for (std::uint32_t again = 0; again != 4; ++again) { // kicked once more
        pt::write(registers, pt::e1000e::tdt{ring.tail});
    }
    pause_for(millisecond);
    check(is_there(registers), "transmitter: ", what);
    tell("  head ", pt::read<pt::e1000e::tdh>(registers).raw, ", tail ",
         pt::read<pt::e1000e::tdt>(registers).raw);
}

void try_receiver(nic& device, const char* what, raw_ring ring) {
    ring.base = ring.base == 0 ? address_of(receive_ring) : ring.base;
    kernel::mmio registers = device.registers();
    if (!device.bring_up() || !device.loop_back()) {
        check(false, "the NIC can be reset");
        return;
    }
    for (tx_descriptor& each : receive_ring) {
        each = {address_of(buffer), 0};
    }
    start_raw_receiver(registers, ring);
    fill_ring(whole_frame_at(address_of(buffer) + 16384, 1514));
    start_raw_transmitter(registers,
                          {.base = address_of(transmit_ring), .length = 1024, .tail = 60});
    pause_for(millisecond);
    check(is_there(registers), "receiver: ", what);
    tell("  head ", pt::read<pt::e1000e::rdh>(registers).raw, ", tail ",
         pt::read<pt::e1000e::rdt>(registers).raw);
}

/// Any bits at all as descriptors. What the NIC reads may be anywhere; what it writes to is the
/// guest's.
void random_descriptors(nic& device) {
    random_numbers random{13};
    kernel::mmio registers = device.registers();
    bool good = true;
    for (unsigned round = 0; round != 40 && good; ++round) {
        good = device.bring_up().has_value();
        for (tx_descriptor& each : transmit_ring) {
            const std::uint64_t place = random.below(4) == 0
                                            ? random.wide()
                                            : address_of(buffer) + random.below(sizeof buffer);
            each = {place, random.wide()};
            if (random.below(2) == 0) { // an extended one, of some type
                // Not the upper bits of its length: it could be a million frames.
                each.high = (each.high & ~std::uint64_t{0xFF'F000}) | 1ULL << 29 |
                            std::uint64_t{random.below(3)} << 20;
            }
        }
        start_raw_transmitter(registers, {.base = address_of(transmit_ring),
                                          .length = 128 * (1 + random.below(8)),
                                          .head = random.below(80),
                                          .tail = random.below(80)});
        pause_for(200 * microsecond);
        good = good && is_there(registers);
    }
    check(good, "forty rings of random descriptors");
}

} // namespace

void attack_ring_poison(nic& device) {
    using command = pt::e1000e::legacy_tx_command;
    using data = pt::e1000e::data_tx_command;
    using context = pt::e1000e::context_tx_command;
    using type = pt::e1000e::tx_descriptor_type;
    const std::uint64_t place = address_of(buffer);

    fill_ring(whole_frame_at(place, 60));
    try_transmitter(device, "length 0", {.length = 0, .tail = 1});
    try_transmitter(device, "the greatest length", {.length = 0xF'FF80, .tail = 32});
    try_transmitter(device, "all bits of length", {.length = 0xFFFF'FFFF, .tail = 32});
    try_transmitter(device, "tail behind the end", {.length = 1024, .tail = 0x1000});
    try_transmitter(device, "tail 65535", {.length = 1024, .tail = 0xFFFF});
    try_transmitter(device, "head behind the end", {.length = 1024, .head = 0x1000, .tail = 8});
    try_transmitter(device, "head and tail behind the end",
                    {.length = 128, .head = 0xFFFF, .tail = 0xFFFE});
    try_transmitter(device, "all bits of head and tail",
                    {.length = 128, .head = 0xFFFF'FFFF, .tail = 0xFFFF'0001});
    try_transmitter(device, "base not aligned",
                    {.base = address_of(transmit_ring) + 7, .length = 896, .tail = 8});
    try_transmitter(device, "ring over the end of RAM",
                    {.base = end_of_ram().raw - 64, .length = 1024, .tail = 40});
    try_transmitter(device, "ring at the end of 64 bits",
                    {.base = ~std::uint64_t{63}, .length = 1024, .tail = 40});
    try_transmitter(device, "ring over the NIC's own registers",
                    {.base = device.memory().address, .length = 1024, .tail = 40});

    fill_ring({place, command{command::length(60), command::rs(true)}.raw});
    try_transmitter(device, "a packet that never ends", {.length = 1024, .tail = 63});
    fill_ring({place, command{command::eop(true), command::rs(true)}.raw});
    try_transmitter(device, "packets of length 0", {.length = 1024, .tail = 63});
    fill_ring({0, 0});
    try_transmitter(device, "descriptors of zeros", {.length = 1024, .tail = 63});
    fill_ring({~std::uint64_t{0}, ~std::uint64_t{0}});
    try_transmitter(device, "descriptors of ones", {.length = 1024, .tail = 63});
    fill_ring({~std::uint64_t{0} - 10, command{command::length(0xFFFF), command::rs(true)}.raw});
    try_transmitter(device, "pieces of 65535 bytes around the end of 64 bits",
                    {.length = 1024, .tail = 63});
    const std::uint64_t segmented =
        data{data::dtalen(0x0800), data::dtyp(type::data), data::tse(true),
             data::dext(true),     data::eop(true),        data::rs(true)}
            .raw;
    fill_ring({place, segmented});
    try_transmitter(device, "segmentation without a context", {.length = 1024, .tail = 8});
    const context wrong{context::paylen(0xF'FFFF), context::dtyp(type::context),
                        context::tcp(true),        context::ip(true),
                        context::tse(true),        context::dext(true),
                        context::hdrlen(0xFF),     context::mss(0)};
    transmit_ring[0] = {~std::uint64_t{0}, wrong.raw};
    try_transmitter(device, "segments of 0 bytes, headers of 255, offsets behind the end",
                    {.length = 1024, .tail = 4});
    transmit_ring[0] = {0, wrong.with(context::mss(1)).raw};
    try_transmitter(device, "segments of 1 byte", {.length = 1024, .tail = 2});
    transmit_ring[0] = {0, wrong.with(context::mss(0xFFFF)).raw};
    transmit_ring[1].high |= 0xF'FFFF;
    try_transmitter(device, "a packet of 1048575 bytes in segments of 65535",
                    {.length = 1024, .tail = 2});
    random_descriptors(device);

    try_receiver(device, "length 0", {.length = 0, .tail = 1});
    try_receiver(device, "the greatest length", {.length = 0xF'FF80, .tail = 32});
    try_receiver(device, "tail behind the end", {.length = 1024, .tail = 0xFFFF});
    try_receiver(device, "head behind the end", {.length = 1024, .head = 0x1000, .tail = 8});
    try_receiver(device, "head equal to tail, behind the end",
                 {.length = 128, .head = 0xFFFF, .tail = 0xFFFF});
    try_receiver(device, "ring at the end of 64 bits",
                 {.base = ~std::uint64_t{63}, .length = 1024, .tail = 40});
    if (is_bare()) {
        tell("bare: no receive ring over the NIC's own registers");
    } else {
        try_receiver(device, "ring over the NIC's own registers",
                     {.base = device.memory().address, .length = 1024, .tail = 40});
    }
    check(device.bring_up(), "it is reset");
}

} // namespace guest
