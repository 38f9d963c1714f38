// SPDX-License-Identifier: BSL-1.0
#include "raw_rings.hpp"

#include "../interrupts.hpp"
#include "../link.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

namespace guest {
namespace {

using pt::e1000e::tx_descriptor;

struct target {
    const char* what;
    std::uint64_t address;
};

alignas(4096) tx_descriptor transmit_ring[8];
alignas(4096) tx_descriptor receive_ring[8];
alignas(64) std::uint8_t frame[64];

/// How many descriptors the NIC has taken in some time.
std::uint32_t head_after_a_while(kernel::mmio registers) {
    using pt::e1000e::tdh;
    static_cast<void>(
        wait_until([&] { return pt::read<tdh>(registers).raw == 1; }, 2 * millisecond));
    return pt::read<tdh>(registers).raw;
}

bool is_there(kernel::mmio registers) {
    return pt::read<pt::e1000e::status>(registers).raw != ~std::uint32_t{0};
}

/// The NIC reads the bytes of a frame there.
bool read_there(nic& device, std::uint64_t place) {
    kernel::mmio registers = device.registers();
    transmit_ring[0] = whole_frame_at(place, 64);
    start_raw_transmitter(registers, {.base = address_of(transmit_ring), .tail = 1});
    const std::uint32_t head = head_after_a_while(registers);
    tell("  frame from there: head ", head,
         is_done(transmit_ring[0]) ? ", descriptor done" : ", descriptor not done");
    return is_there(registers);
}

/// It fetches descriptors there, and writes them back.
bool fetch_there(nic& device, std::uint64_t place) {
    kernel::mmio registers = device.registers();
    start_raw_transmitter(registers, {.base = place, .tail = 1});
    tell("  ring there: head ", head_after_a_while(registers));
    return is_there(registers);
}

/// It writes a frame there that it sends to itself: buffers there, and then the ring.
bool write_there(nic& device, std::uint64_t buffer, std::uint64_t ring, const char* what) {
    kernel::mmio registers = device.registers();
    if (!device.loop_back()) {
        return false;
    }
    for (tx_descriptor& each : receive_ring) {
        each = {buffer, 0};
    }
    start_raw_receiver(registers, {.base = ring, .tail = 7});
    for (tx_descriptor& each : transmit_ring) {
        each = whole_frame_at(address_of(frame), 64);
    }
    start_raw_transmitter(registers, {.base = address_of(transmit_ring), .tail = 1});
    static_cast<void>(head_after_a_while(registers));
    // QEMU's 82540EM drops what arrives in the first second after its receiver was enabled.
    using pt::e1000e::rdh;
    clock time;
    const std::uint64_t begun = time.now();
    std::uint32_t tail = 1;
    while (device.members() == pt::e1000e::family::pci && pt::read<rdh>(registers).raw == 0 &&
           time.now() - begun < 1'200 * millisecond) {
        tail = (tail + 1) % 8;
        pt::write(registers, pt::e1000e::tdt{tail});
        pause_for(20 * millisecond);
    }
    tell("  ", what, ": head ", pt::read<rdh>(registers).raw);
    return is_there(registers);
}

/// Seven frames, to there and in steps of 16 MiB from there.
bool write_to_seven(nic& device, std::uint64_t first) {
    kernel::mmio registers = device.registers();
    if (!device.bring_up() || !device.loop_back()) {
        return false;
    }
    for (std::uint64_t i = 0; i != 8; ++i) {
        receive_ring[i] = {first + i * 16 * pt::MiB, 0};
        transmit_ring[i] = whole_frame_at(address_of(frame), 64);
    }
    start_raw_receiver(registers, {.base = address_of(receive_ring), .tail = 7});
    start_raw_transmitter(registers, {.base = address_of(transmit_ring), .tail = 7});
    using pt::e1000e::tdh;
    static_cast<void>(
        wait_until([&] { return pt::read<tdh>(registers).raw == 7; }, 5 * millisecond));
    return is_there(registers);
}

void attack_one(nic& device, const target& where) {
    tell(where.what, ", ", where.address);
    const bool own = is_ram(pt::gpa{where.address});
    const bool itself = where.address == device.memory().address;
    bool good = device.bring_up() && read_there(device, where.address);
    if (!own) {
        good = good && device.bring_up() && fetch_there(device, where.address);
    }
    if (itself && is_bare()) {
        tell("  bare: no frame into its own registers");
    } else {
        good = good && device.bring_up() &&
               write_there(device, where.address, address_of(receive_ring), "frame to there");
    }
    if (!own) {
        good = good && device.bring_up() &&
               write_there(device, where.address, where.address, "receive ring there");
    }
    check(good, "the NIC is there afterwards");
}

/// The bytes with which the frame begins are the data of a message when they are written to an
/// address of the interrupt range. All others are 0, which is no message that a processor takes: a
/// machine may take each dword for one.
void set_message(std::uint32_t data) {
    for (unsigned i = 0; i != 64; ++i) {
        frame[i] = static_cast<std::uint8_t>(i < 4 ? data >> 8 * i : 0);
    }
}

} // namespace

void attack_dma_outside(nic& device) {
    set_message(forged_vector);
    const std::uint64_t top = std::uint64_t{1} << physical_width();
    const target targets[] = {
        {"address 0", 0},
        {"the end of RAM", end_of_ram().raw},
        {"16 MiB behind", end_of_ram().raw + 16 * pt::MiB},
        {"3 GiB", 3 * pt::GiB},
        {"the I/O APIC", 0xFEC0'0000},
        {"where remapping hardware often is", 0xFED9'0000},
        {"the NIC's own registers", device.memory().address},
        {"the end of 32 bits", 0xFFFF'F000},
        {"4 GiB", 4 * pt::GiB},
        {"the end of the address space", top - 4096},
        {"beyond it", top},
        {"the end of 64 bits", ~std::uint64_t{4095}},
    };
    for (const target& each : targets) {
        attack_one(device, each);
    }

    tell("frames from everywhere below 4 GiB, in steps of 16 MiB");
    bool good = device.bring_up().has_value();
    unsigned done = 0;
    for (std::uint64_t at = end_of_ram().raw; good && at < 4 * pt::GiB; at += 16 * pt::MiB) {
        kernel::mmio registers = device.registers();
        transmit_ring[0] = whole_frame_at(at, 1514);
        using namespace pt::e1000e;
        write(registers, tctl{});
        start_raw_transmitter(registers, {.base = address_of(transmit_ring), .tail = 1});
        good = is_there(registers);
        done += is_done(transmit_ring[0]) ? 1 : 0;
    }
    tell("  descriptors done: ", decimal{done});
    check(good, "the NIC is there afterwards");

    if (is_bare()) {
        tell("bare: no frames to everywhere, since there the machine's own devices are");
    } else {
        tell("frames to everywhere below 4 GiB, in steps of 16 MiB");
        for (std::uint64_t at = end_of_ram().raw; good && at < 4 * pt::GiB;
             at += pt::MiB * 16 * 7) {
            good = write_to_seven(device, at);
        }
        check(good, "the NIC is there afterwards");
    }

    step("Forged interrupts: the NIC writes to the interrupt range");
    // What a virtual machine monitor must see to: none of these reaches another one's processor.
    // QEMU lets messages pass that its remapping unit says it blocks, so nothing is demanded of
    // them here.
    for (const std::uint32_t data : {std::uint32_t{forged_vector}, 0x0000'0400U, 0x0000'4020U}) {
        forget_interrupts();
        set_message(data);
        const bool there = device.bring_up() &&
                           write_there(device, 0xFEE0'0000, address_of(receive_ring), "message");
        pause_for(millisecond);
        tell("  message ", data, ": ", decimal{taken_in_all()}, " interrupts here, vector ",
             std::uint64_t{any_taken()});
        check(there, "the NIC is there afterwards");
    }
    check(device.bring_up(), "it is reset");
}

} // namespace guest
