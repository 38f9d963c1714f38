// SPDX-License-Identifier: BSL-1.0
//
// The devices as they are without a remapping unit, or with one that nobody has turned on: what the
// other subjects build on.
#include "../../../../examples/kernel/interrupts.hpp"
#include "../edu.hpp"
#include "../kernel.hpp"
#include "../nic.hpp"

#include "pt/pci/capability.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::edu;
using kernel::nic;
namespace pci = pt::pci;

void configuration_space() {
    kernel::port_config ports = kernel::config();
    kernel::ecam_config memory = kernel::ecam();
    constexpr std::uint32_t edu_identity = 0x11E8'1234;
    constexpr std::uint32_t nic_identity = 0x10D3'8086;
    check_equal("edu is found by ports", ports.read(edu::place, 0, pt::width::dword), edu_identity);
    check_equal("edu is found in memory", memory.read(edu::place, 0, pt::width::dword),
                edu_identity);
    check_equal("the second NIC is found by ports", ports.read(nic::second, 0, pt::width::dword),
                nic_identity);
    check_equal("a register at 0x100 is reached in memory",
                memory.read(nic::first, 0x100, pt::width::word), 0x0001); // AER
}

/// Each in compatibility format, to this processor.
template <class Device>
void interrupt(pci::function_address function, Device& device, std::uint8_t vector,
               const char* enabled, const char* arrived, const char* alone, const char* silent) {
    kernel::forget_interrupts();
    kernel::port_config config = kernel::config();
    if (!check(enabled, pci::enable_msi(config, function, kernel::compatibility_message(vector)))) {
        return;
    }
    device.request_interrupt();
    check(arrived, kernel::arrives(vector));
    device.acknowledge_interrupts();
    kernel::pause_for(kernel::long_enough);
    check_equal(alone, kernel::taken_in_all(), 1);

    static_cast<void>(pci::disable_msi(config, function));
    kernel::forget_interrupts();
    pci::write(
        config, function,
        pci::read<pci::command>(config, function).with(pci::command::interrupt_disable(true)));
    device.request_interrupt();
    check(silent, kernel::nothing_arrives());
    device.acknowledge_interrupts();
}

void memory_of_edu(edu& device) {
    const pt::hpa source = kernel::take_frame();
    const pt::hpa target = kernel::take_frame();
    constexpr std::uint64_t size = edu::largest_dma;
    kernel::fill(source, size, 1);
    check("edu's first DMA ends", device.load(pt::iova{source.raw}, size));
    check("nothing is written yet", kernel::is_zero(target, 4 * pt::KiB));
    check("edu's second DMA ends", device.store(pt::iova{target.raw}, size));
    check("edu carried memory to other memory", kernel::is_filled(target, size, 1));
    check("and wrote no further", kernel::is_zero(target + size, 4 * pt::KiB - size));
}

void frames_between_nics(nic& from, nic& to) {
    const pt::hpa rings = kernel::take_frame();
    const pt::hpa reception = kernel::take_frame();
    const pt::hpa sent = kernel::take_frame();
    const pt::hpa received = kernel::take_frame();
    constexpr std::uint32_t length = 300;
    kernel::fill(sent, length, 2);

    nic::receive_ring in = to.receiver(reception, pt::iova{reception.raw});
    nic::transmit_ring ring = from.transmitter(rings, pt::iova{rings.raw});
    if (!check("pt's receive ring starts", in.start()) ||
        !check("pt's receive ring takes a buffer", in.post(pt::iova{received.raw}, 9))) {
        return;
    }
    in.advance_tail();
    if (!check("pt's ring starts", ring.start()) ||
        !check("pt's ring takes a frame", ring.send({{pt::iova{sent.raw}, length}}, 7))) {
        return;
    }
    std::uint64_t cookie = 0;
    const auto is_sent = [&] {
        return ring.reclaim([&](std::uint64_t back) { cookie = back; }) == 1;
    };
    check("the frame is sent", kernel::wait_until(is_sent));
    check_equal("its cookie comes back", cookie, 7);
    pt::e1000e::rx_piece piece;
    const auto is_received = [&] {
        return in.receive([&](const pt::e1000e::rx_piece& back) { piece = back; }) == 1;
    };
    check("the other NIC receives", kernel::wait_until(is_received));
    check("into the buffer that was posted, all of the frame",
          piece.cookie == 9 && piece.place == pt::e1000e::rx_place::only && !piece.errors.any());
    check_equal("as many bytes", piece.length, length);
    check("the same bytes", kernel::is_filled(received, length, 2));
}

void run() {
    configuration_space();

    auto education = edu::open();
    auto sender = nic::open(nic::first);
    auto receiver = nic::open(nic::second);
    if (!check("edu answers", education) || !check("the first NIC answers", sender) ||
        !check("the second NIC answers", receiver)) {
        return;
    }
    interrupt(edu::place, *education, 0x41, "edu has MSI", "edu's vector arrives",
              "edu's vector arrives once and alone", "edu without MSI is silent");
    interrupt(nic::first, *sender, 0x52, "the NIC has MSI", "the NIC's vector arrives",
              "the NIC's vector arrives once and alone", "the NIC without MSI is silent");
    memory_of_edu(*education);
    frames_between_nics(*sender, *receiver);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"devices", run};

} // namespace
