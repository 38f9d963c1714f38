// SPDX-License-Identifier: BSL-1.0
//
// Three devices in three domains: each reaches its own memory, at addresses that have nothing to do
// with where the memory is, and nothing else.
#include "../edu.hpp"
#include "../nic.hpp"
#include "../vtd.hpp"

namespace {

using kernel::attachment;
using kernel::check;
using kernel::check_blocked;
using kernel::check_equal;
using kernel::check_no_fault;
using kernel::check_without_entry;
using kernel::domain;
using kernel::edu;
using kernel::nic;
using kernel::read_write;
using kernel::remapping;
using pt::hpa;
using pt::iova;
using request = pt::vtd::fault_record::request;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr std::uint64_t large = 2 * pt::MiB;
constexpr std::uint64_t size = edu::largest_dma;

/// Beyond 39 bits: four levels of tables.
constexpr iova edu_page{0x5A'1234'5000};
constexpr iova edu_large{0x7F'C040'0000};
/// Three levels.
constexpr iova sender_ring{0x7F'0000'1000};
constexpr iova sender_large{0x40'0020'0000};
constexpr iova receiver_ring{0x0000'2000};
constexpr iova receiver_page{0x7'0000'F000};

bool is_mapped_by(const domain& in, iova input, pt::paging::page_size expected) {
    const auto found = in.tables().translate(input);
    return found && found->size == expected;
}

void edu_in_its_domain(remapping& vtd, edu& device, domain& own, hpa small, hpa big) {
    constexpr std::uint64_t inside = 0x12'3000;
    kernel::fill(big + inside, size, 1);
    check("edu reads from a page of 2 MiB", device.load(edu_large + inside, size));
    check("edu writes to a page of 4 KiB", device.store(edu_page, size));
    check_no_fault("none of that is a fault", vtd);
    check("what it read is what it wrote", kernel::is_filled(small, size, 1));
    check("and no more", kernel::is_zero(small + size, page - size));

    // The page behind its own, and its own page by the physical address.
    check("edu writes behind its page", device.store(edu_page + page, size));
    check_blocked("that is blocked", vtd, edu::place, request::write, edu_page + page);
    check("edu writes to a physical address", device.store(iova{small.raw}, size));
    check_blocked("that is blocked, too", vtd, edu::place, request::write, iova{small.raw});
    check("edu reads from a physical address", device.load(iova{big.raw}, size));
    check_blocked("as is reading", vtd, edu::place, request::read, iova{big.raw});

    check("a page becomes read-only", own.change([](auto& tables) {
        return tables.protect({edu_page, page}, {.read = true});
    }));
    kernel::fill(small, size, 2);
    check("edu writes to it", device.store(edu_page, size));
    check_blocked("which it may not", vtd, edu::place, request::write, edu_page);
    check("edu reads it", device.load(edu_page, size));
    check_no_fault("which it may", vtd);
    // QEMU 7.2 blocks a write where reading is cached, and does not record it.
    check("edu changes its buffer", device.load(edu_large + inside, size));
    check("edu writes to it again", device.store(edu_page, size));
    check("the page is as it was", kernel::is_filled(small, size, 2));
    static_cast<void>(vtd.handle_faults(64, [](const auto&, auto) {}));
    check("edu reads the page once more", device.load(edu_page, size));

    check("edu writes into the page of 2 MiB", device.store(edu_large, size));
    check("where it finds what it read", kernel::is_filled(big, size, 2));
    check("the page of 2 MiB is unmapped", own.unmap({edu_large, large}));
    kernel::fill(big, size, 3);
    check("edu writes to where it was", device.store(edu_large, size));
    check_blocked("and is blocked", vtd, edu::place, request::write, edu_large);
    check("the memory is somebody else's", kernel::is_filled(big, size, 3));
}

struct network {
    nic& sender;
    nic& receiver;
    hpa rings;   ///< of the sender
    hpa sent;    ///< 2 MiB
    hpa ring;    ///< of the receiver
    hpa arrived; ///< a page
};

constexpr std::uint32_t length = 700;

/// Sends what is at `from`, and waits until the descriptor is done.
bool send(nic::transmit_ring& ring, iova from) {
    unsigned done = 0;
    return ring.send({{from, length}}, 1) && kernel::wait_until([&] {
               done += ring.reclaim([](std::uint64_t) {});
               return done == 1;
           });
}

/// The receive ring's only buffer.
pt::result<> post(nic::receive_ring& ring, iova buffer) {
    const pt::result<> posted = ring.post(buffer, 1);
    ring.advance_tail();
    return posted;
}

void nics_in_their_domains(remapping& vtd, network net) {
    constexpr std::uint64_t inside = 0x1F'F000;
    kernel::fill(net.sent + inside, length, 4);
    nic::transmit_ring ring = net.sender.transmitter(net.rings, sender_ring);
    nic::receive_ring in = net.receiver.receiver(net.ring, receiver_ring);
    if (!check("pt's ring starts in its domain", ring.start()) ||
        !check("the receive ring starts in its own", in.start()) ||
        !check("a buffer is posted", post(in, receiver_page))) {
        return;
    }
    check("a frame is sent", send(ring, sender_large + inside));
    std::uint32_t arrived = 0;
    const auto has_arrived = [&] {
        return in.receive([&](const pt::e1000e::rx_piece& piece) { arrived = piece.length; }) == 1;
    };
    check("the other NIC receives it", kernel::wait_until(has_arrived));
    check_equal("as many bytes", arrived, length);
    check("byte by byte", kernel::is_filled(net.arrived, length, 4));
    check_no_fault("nobody was blocked", vtd);

    // What the sender may not read does not get out: QEMU's e1000e sends zeros then, and says that
    // it is done. A real one may hang instead, and is waited for in vain.
    __builtin_memset(kernel::pointer_to<void>(net.arrived), 0, page);
    check("a second buffer is posted", post(in, receiver_page));
    static_cast<void>(send(ring, iova{net.sent.raw + inside}));
    check_blocked("the sender cannot send what lies elsewhere", vtd, nic::first, request::read,
                  iova{net.sent.raw + inside});
    kernel::pause_for(kernel::long_enough);
    check("and did not", kernel::is_zero(net.arrived, page));

    // What comes in does not get to where the receiver may not write: not at the address of the
    // sender's memory either, which is no address in this domain.
    kernel::fill(net.sent, length, 5);
    static_cast<void>(in.abandon([](std::uint64_t) {}));
    check("the receive ring starts anew", in.start());
    check("with a buffer that is none", post(in, sender_large));
    static_cast<void>(send(ring, sender_large + inside));
    kernel::pause_for(kernel::long_enough);
    check_blocked("the receiver cannot write elsewhere", vtd, nic::second, request::write,
                  sender_large);
    check("and did not write", kernel::is_filled(net.sent, length, 5));
}

void in_three_domains(remapping& vtd) {
    auto education = edu::open();
    auto sender = nic::open(nic::first);
    auto receiver = nic::open(nic::second);
    const auto wide = vtd.limits(40);
    const auto narrow = vtd.limits(39);
    if (!check("edu answers", education) || !check("the first NIC answers", sender) ||
        !check("the second NIC answers", receiver) || !check("there are wide tables", wide) ||
        !check("there are narrow tables", narrow)) {
        return;
    }
    check_equal("the wide ones have four levels", wide->levels, 4);
    check_equal("the narrow ones have three", narrow->levels, 3);

    network net{*sender,
                *receiver,
                kernel::take_frame(),
                kernel::take_large_frame(),
                kernel::take_frame(),
                kernel::take_frame()};
    const hpa small = kernel::take_frame();
    const hpa big = kernel::take_large_frame();
    domain of_edu{vtd, *wide};
    domain of_sender{vtd, *narrow};
    domain of_receiver{vtd, *narrow};
    const bool mapped =
        check("edu's page", of_edu.map({edu_page, page}, small, read_write)) &&
        check("edu's large page", of_edu.map({edu_large, large}, big, read_write)) &&
        check("the sender's ring", of_sender.map({sender_ring, page}, net.rings, read_write)) &&
        check("the sender's large page",
              of_sender.map({sender_large, large}, net.sent, {.read = true})) &&
        check("the receiver's ring",
              of_receiver.map({receiver_ring, page}, net.ring, read_write)) &&
        check("the receiver's page",
              of_receiver.map({receiver_page, page}, net.arrived, {.write = true}));
    check("what can be is mapped by a large page",
          is_mapped_by(of_edu, edu_large, pt::paging::page_size::size_2m) &&
              is_mapped_by(of_sender, sender_large, pt::paging::page_size::size_2m));
    check("and the rest by small ones",
          is_mapped_by(of_edu, edu_page, pt::paging::page_size::size_4k));

    attachment edu_there{edu::place};
    attachment sender_there{nic::first};
    attachment receiver_there{nic::second};
    if (!mapped || !check("edu is attached", of_edu.attach(edu_there)) ||
        !check("all units start", vtd.start())) {
        return;
    }
    edu_in_its_domain(vtd, *education, of_edu, small, big);

    // Nobody has given the sender a domain yet: it cannot even fetch a descriptor.
    {
        nic::transmit_ring ring = net.sender.transmitter(net.rings, sender_ring);
        check("a NIC starts without a domain", ring.start());
        check("it is told to send", ring.send({{sender_large, length}}, 1));
        check_without_entry("it cannot reach its ring", vtd, nic::first, request::read,
                            sender_ring);
        ring.abandon([](std::uint64_t) {});
    }
    check("the first NIC is reset", nic::open(nic::first));
    if (check("the first NIC is attached", of_sender.attach(sender_there)) &&
        check("the second NIC is attached", of_receiver.attach(receiver_there))) {
        nics_in_their_domains(vtd, net);
    }
    check("the first NIC is silent", nic::open(nic::first));
    check("the second NIC is silent", nic::open(nic::second));

    check("edu is released", vtd.release(edu_there));
    check("edu writes without a domain", education->store(edu_page, size));
    check_without_entry("it has no entry", vtd, edu::place, request::write, edu_page);
    check("the first NIC is released", vtd.release(sender_there));
    check("the second NIC is released", vtd.release(receiver_there));
    check("edu's domain goes", of_edu.retire());
    check("the sender's domain goes", of_sender.retire());
    check("the receiver's domain goes", of_receiver.retire());
}

void run() {
    kernel::with_remapping([](remapping& vtd, kernel::remapping_unit&) { in_three_domains(vtd); });
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"vtd_domains", run};

} // namespace
