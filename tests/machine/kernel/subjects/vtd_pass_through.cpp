// SPDX-License-Identifier: BSL-1.0
//
// A device of the host reaches all memory at its own address, while nobody else reaches anything; and
// such a device is given to a guest and taken back.
#include "../edu.hpp"
#include "../nic.hpp"
#include "../vtd.hpp"

namespace {

using kernel::attachment;
using kernel::check;
using kernel::check_blocked;
using kernel::check_error;
using kernel::check_no_fault;
using kernel::check_without_entry;
using kernel::edu;
using kernel::nic;
using kernel::remapping;
using pt::hpa;
using pt::iova;
using request = pt::vtd::fault_record::request;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr std::uint64_t size = edu::largest_dma;
constexpr iova in_guest{0x20'0000'3000};

void pass_through(remapping& vtd, kernel::remapping_unit& unit) {
    auto device = edu::open();
    auto other = nic::open(nic::second);
    const auto usable = vtd.limits(39);
    if (!check("edu answers", device) || !check("the NIC answers", other) ||
        !check("there are tables", usable)) {
        return;
    }
    kernel::pass_through_domain host{vtd};
    kernel::domain guest{vtd, *usable};
    attachment there{edu::place};
    const hpa here = kernel::take_frame();
    const hpa away = kernel::take_frame();
    const hpa rings = kernel::take_frame();
    if (!unit.extended_capabilities()[pt::vtd::extended_capability::pass_through]) {
        check_error("the unit has no pass-through", host.attach(there), pt::errc::not_supported);
        check("nothing is attached", !there.attached());
        check("the host's domain goes", host.retire());
        return;
    }
    if (!check("the host's device is attached before the start", host.attach(there)) ||
        !check("all units start", vtd.start())) {
        return;
    }
    kernel::fill(here, size, 1);
    check("edu reads at a physical address", device->load(iova{here.raw}, size));
    check("it writes at a physical address", device->store(iova{away.raw}, size));
    check("it carried memory to other memory", kernel::is_filled(away, size, 1));
    check_no_fault("nothing of that was blocked", vtd);

    nic::transmit_ring ring = other->transmitter(rings, iova{rings.raw});
    check("another device starts", ring.start());
    check("it works at a physical address", ring.send({{iova{here.raw}, 60}}, 1));
    check_without_entry("it is not let through", vtd, nic::second, request::read, iova{rings.raw});
    ring.abandon([](std::uint64_t) {});
    check("it is reset", nic::open(nic::second));

    check("a guest has memory", guest.map({in_guest, page}, here, kernel::read_write));
    check("edu is given to it", guest.attach(there));
    kernel::fill(away, size, 2);
    check("edu writes to where it wrote before", device->store(iova{away.raw}, size));
    check_blocked("that is over", vtd, edu::place, request::write, iova{away.raw});
    check("the host's memory is as it was", kernel::is_filled(away, size, 2));
    check("edu reads in the guest", device->load(in_guest, size));
    check("what is there", kernel::is_filled(here, size, 1));

    check("edu is taken back", host.attach(there));
    check("it writes to the host again", device->store(iova{away.raw}, size));
    check("what it read in the guest", kernel::is_filled(away, size, 1));
    check_no_fault("nothing was blocked again", vtd);
    check("the guest goes", guest.retire());
    check_error("the host's domain does not go with a device", host.retire(), pt::errc::busy);
    check("edu is released", vtd.release(there));
    check("the host's domain goes", host.retire());
}

void run() { kernel::with_remapping(pass_through); }

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"vtd_pass_through", run};

} // namespace
