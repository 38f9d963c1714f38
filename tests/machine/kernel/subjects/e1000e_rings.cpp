// SPDX-License-Identifier: BSL-1.0
//
// Both rings of pt as a hypervisor's own driver uses them: the first NIC sends, the second receives, each
// in a domain of its own, and all that comes back is taken in the handlers of their MSIs: at a
// write-back (TXDW), and when a frame has arrived (RXT0).
#include "../nic.hpp"
#include "../vtd.hpp"

#include "pt/pci/msi.hpp"

namespace {

using kernel::attachment;
using kernel::check;
using kernel::check_equal;
using kernel::check_no_fault;
using kernel::domain;
using kernel::nic;
using kernel::read_write;
using kernel::remapping;
using pt::hpa;
using pt::iova;
using namespace pt::e1000e;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr std::uint64_t large = 2 * pt::MiB;

// Where the NICs see what is theirs: above all memory that the machine has, and not the same twice.
constexpr iova sender_ring{0x20'0000'5000};
constexpr iova sender_data{0x20'4000'0000};
constexpr iova receiver_ring{0x30'0000'6000};
constexpr iova receiver_buffers{0x30'8000'0000};

constexpr std::uint8_t sent_vector = 0x61;
constexpr std::uint8_t received_vector = 0x62;

constexpr std::uint32_t buffer_size = 2048;
constexpr std::uint32_t buffers = 24;

/// How packets are made of their number, from 1 on: how long, of how many pieces, of what bytes.
constexpr std::uint32_t length_of(std::uint64_t number) {
    return 60 + static_cast<std::uint32_t>(number * 131 % 1455); // up to 1514
}
constexpr std::uint32_t pieces_of(std::uint64_t number) {
    return 1 + static_cast<std::uint32_t>(number % 5);
}
constexpr std::uint8_t seed_of(std::uint64_t number) {
    return static_cast<std::uint8_t>(number * 7);
}

/// Packets in preparation or on their way; each has its own place in the sender's memory.
constexpr std::uint64_t places = 16;
constexpr std::uint64_t place_of(std::uint64_t number) { return number % places * page; }

/// Both drivers. Their handlers run while the kernel waits.
struct drivers {
    nic& sender;
    nic& receiver;
    nic::transmit_ring& out;
    nic::receive_ring& in;
    hpa data;    ///< of the sender
    hpa arrived; ///< of the receiver

    std::uint64_t sent = 0;
    std::uint64_t reclaimed = 0;
    std::uint64_t received = 0;
    std::uint64_t wrong_cookies = 0; ///< not the next one, of either ring
    std::uint64_t wrong_packets = 0; ///< not what was sent
    std::uint64_t wrong_causes = 0;  ///< another cause than that of the vector
    std::uint64_t lost_buffers = 0;  ///< the ring does not take them back

    void on_sent() {
        wrong_causes += sender.take_causes()[icr::txdw] ? 0 : 1;
        out.reclaim(
            [this](std::uint64_t cookie) { wrong_cookies += cookie == ++reclaimed ? 0 : 1; });
    }
    void on_received() {
        wrong_causes += receiver.take_causes()[icr::rxt0] ? 0 : 1;
        in.receive([this](const rx_piece& piece) {
            const std::uint64_t next = received++;
            wrong_cookies += piece.cookie == next % buffers ? 0 : 1;
            if (piece.place != rx_place::only || piece.errors.any() ||
                piece.length != length_of(next + 1) ||
                !kernel::is_filled(arrived + piece.cookie * buffer_size, piece.length,
                                   seed_of(next + 1))) {
                ++wrong_packets;
            }
            lost_buffers += post(piece.cookie) ? 0 : 1;
        });
        in.advance_tail();
    }
    pt::result<> post(std::uint64_t buffer) {
        return in.post(receiver_buffers + buffer * buffer_size, buffer);
    }
};

drivers* running = nullptr;
void take_sent() { running->on_sent(); }
void take_received() { running->on_received(); }

/// Puts the next packet into the ring; the tail does not move yet.
bool enqueue(drivers& all, tx_interrupt interrupt) {
    const std::uint64_t number = all.sent + 1;
    const std::uint32_t length = length_of(number);
    kernel::fill(all.data + place_of(number), length, seed_of(number));
    fragment pieces[5];
    const std::uint32_t count = pieces_of(number);
    std::uint32_t at = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t piece = i + 1 == count ? length - at : length / count;
        pieces[i] = {sender_data + place_of(number) + at, piece};
        at += piece;
    }
    const bool taken = all.out.enqueue(pieces, count, number, {.interrupt = interrupt}).has_value();
    all.sent += taken ? 1 : 0;
    return taken;
}

/// Waits until all that was sent is handed back and received.
bool all_came_back(const drivers& all) {
    return kernel::wait_until(
        [&] { return all.reclaimed == all.sent && all.received == all.sent; });
}

/// Sends that many packets, up to eight for one write of the tail, and waits each time until all of them
/// are sent and received.
bool send(drivers& all, std::uint64_t count) {
    for (const std::uint64_t end = all.sent + count; all.sent != end;) {
        const std::uint64_t batch = 1 + all.sent % 8;
        for (std::uint64_t i = 0; i < batch && all.sent != end; ++i) {
            if (!enqueue(all, tx_interrupt::at_once)) {
                return false;
            }
        }
        all.out.advance_tail();
        if (!all_came_back(all)) {
            return false;
        }
    }
    return true;
}

void check_traffic(drivers& all) {
    check("no other causes came", all.wrong_causes == 0);
    check_equal("every cookie came back", all.reclaimed, all.sent);
    check_equal("every packet arrived", all.received, all.sent);
    check("each cookie once, and in order", all.wrong_cookies == 0);
    check("each packet byte by byte", all.wrong_packets == 0);
    check("every buffer is posted again", all.lost_buffers == 0 && all.in.in_flight() == buffers);
}

void traffic(drivers& all) {
    kernel::forget_interrupts();
    constexpr std::uint64_t packets = 400;
    static_assert(packets > 2 * nic::descriptors, "the rings wrap");
    check("packets are sent", send(all, packets));
    check_traffic(all);
    check("both vectors came",
          kernel::taken(sent_vector) != 0 && kernel::taken(received_vector) != 0 &&
              kernel::taken(sent_vector) <= packets && kernel::taken(received_vector) <= packets);

    // With IDE one interrupt stands for many packets: TIDV after the last write-back. QEMU 7.2 means to
    // wait, but does not; it raises it once for what one write of the tail has sent.
    kernel::begin_part("delayed");
    kernel::forget_interrupts();
    bool taken = true;
    for (unsigned i = 0; i < 8; ++i) {
        taken = enqueue(all, tx_interrupt::delayed) && taken;
    }
    all.out.advance_tail();
    check("packets are sent with delayed interrupts", taken && all_came_back(all));
    check_equal("for all of them the vector came once", kernel::taken(sent_vector), 1);
    check_traffic(all);

    // One packet, one interrupt on either side; without packets there is none.
    kernel::begin_part("one");
    kernel::forget_interrupts();
    check("a packet is sent", send(all, 1));
    kernel::pause_for(kernel::long_enough);
    check_equal("there is one interrupt of its sending", kernel::taken(sent_vector), 1);
    check_equal("and one of its arrival", kernel::taken(received_vector), 1);
    check_equal("and no other", kernel::taken_in_all(), 2);
    check_traffic(all);

    // A ring takes packets while the transmitter pauses.
    kernel::begin_part("paused");
    kernel::forget_interrupts();
    check("the sender pauses", all.out.pause());
    check("a packet is taken", enqueue(all, tx_interrupt::at_once));
    all.out.advance_tail();
    check("nothing happens", kernel::nothing_arrives());
    check("the sender goes on", all.out.resume());
    check("then it is sent and received", all_came_back(all));
    check_traffic(all);
    kernel::begin_part(nullptr);
}

void in_their_domains(remapping& vtd) {
    auto sender = nic::open(nic::first);
    auto receiver = nic::open(nic::second);
    const auto usable = vtd.limits(39);
    if (!check("the first NIC answers", sender) || !check("the second NIC answers", receiver) ||
        !check("there are tables", usable)) {
        return;
    }
    const hpa out_ring = kernel::take_frame();
    const hpa in_ring = kernel::take_frame();
    const hpa data = kernel::take_large_frame();
    const hpa arrived = kernel::take_large_frame();
    domain of_sender{vtd, *usable};
    domain of_receiver{vtd, *usable};
    attachment sender_there{nic::first};
    attachment receiver_there{nic::second};
    if (!check("the sender's ring", of_sender.map({sender_ring, page}, out_ring, read_write)) ||
        !check("the sender's data", of_sender.map({sender_data, large}, data, {.read = true})) ||
        !check("the receiver's ring",
               of_receiver.map({receiver_ring, page}, in_ring, read_write)) ||
        !check("the receiver's buffers",
               of_receiver.map({receiver_buffers, large}, arrived, {.write = true})) ||
        !check("the first NIC is attached", of_sender.attach(sender_there)) ||
        !check("the second NIC is attached", of_receiver.attach(receiver_there)) ||
        !check("all units start", vtd.start())) {
        return;
    }

    nic::transmit_ring out = sender->transmitter(out_ring, sender_ring, {.interrupt_delay = 100});
    nic::receive_ring in = receiver->receiver(in_ring, receiver_ring);
    drivers all{*sender, *receiver, out, in, data, arrived};
    running = &all;
    kernel::call_at(sent_vector, take_sent);
    kernel::call_at(received_vector, take_received);
    kernel::port_config config = kernel::config();
    bool posted = check("the transmit ring starts", out.start()) &&
                  check("the receive ring starts", in.start());
    for (std::uint64_t buffer = 0; buffer < buffers && posted; ++buffer) {
        posted = all.post(buffer).has_value();
    }
    in.advance_tail();
    if (check("buffers are posted", posted) &&
        check(
            "the sender has MSI",
            pt::pci::enable_msi(config, nic::first, kernel::compatibility_message(sent_vector))) &&
        check("the receiver has MSI",
              pt::pci::enable_msi(config, nic::second,
                                  kernel::compatibility_message(received_vector)))) {
        sender->enable_interrupts(ims{ims::txdw(true)});
        receiver->enable_interrupts(ims{ims::rxt0(true)});
        traffic(all);
        check_no_fault("nobody was blocked", vtd);
        check("the transmit ring stops", out.stop());
        check("the receive ring pauses", in.pause());
        check_equal("its buffers come back", in.abandon([](std::uint64_t) {}), buffers);
        check("the sender's MSI is off", pt::pci::disable_msi(config, nic::first));
        check("the receiver's MSI is off", pt::pci::disable_msi(config, nic::second));
    }
    kernel::call_at(sent_vector, nullptr);
    kernel::call_at(received_vector, nullptr);
    running = nullptr;

    check("the first NIC is silent", nic::open(nic::first));
    check("the second NIC is silent", nic::open(nic::second));
    check("the first NIC is released", vtd.release(sender_there));
    check("the second NIC is released", vtd.release(receiver_there));
    check("the sender's domain goes", of_sender.retire());
    check("the receiver's domain goes", of_receiver.retire());
}

void run() {
    kernel::with_remapping([](remapping& vtd, kernel::remapping_unit&) { in_their_domains(vtd); });
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"e1000e_rings", run};

} // namespace
