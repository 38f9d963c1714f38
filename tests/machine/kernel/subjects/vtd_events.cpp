// SPDX-License-Identifier: BSL-1.0
//
// What the unit itself interrupts for: faults, the end of invalidations, errors of its queue. Each
// comes once, at the vector that it was given.
#include "../edu.hpp"
#include "../nic.hpp"
#include "../vtd.hpp"

#include "pt/vtd/event.hpp"
#include "pt/vtd/invalidation.hpp"

namespace {

using kernel::check;
using kernel::check_blocked;
using kernel::check_equal;
using kernel::check_error;
using kernel::domain;
using kernel::edu;
using kernel::nic;
using kernel::remapping;
using kernel::remapping_unit;
using pt::iova;
using pt::vtd::fault_verdict;
using pt::vtd::unit_event;
using request = pt::vtd::fault_record::request;

constexpr std::uint8_t fault_vector = 0x61;
constexpr std::uint8_t completion_vector = 0x72;
constexpr std::uint64_t size = edu::largest_dma;
constexpr iova nowhere{0x1'0000'0000};

/// Whether that vector came, once, and no other, since the last time.
bool came_once(std::uint8_t vector) {
    const bool came = kernel::arrives(vector);
    kernel::pause_for(kernel::long_enough);
    const bool once = came && kernel::taken_in_all() == 1;
    if (!once) {
        kernel::say("interrupts of this vector: ", std::uint64_t{kernel::taken(vector)},
                    ", in all: ", std::uint64_t{kernel::taken_in_all()});
    }
    kernel::forget_interrupts();
    return once;
}

void faults(remapping& vtd, remapping_unit& unit, kernel::attachment& there, edu& device) {
    check("nothing has come yet", kernel::nothing_arrives());
    check("edu's first request is blocked", device.store(nowhere, size));
    check("the fault event comes", came_once(fault_vector));

    // While the first fault is pending, the unit sends no other event, whoever causes one [vt-d].
    // QEMU has one fault recording register: what does not fit overflows.
    auto other = nic::open(nic::first);
    if (!check("a NIC answers", other)) {
        return;
    }
    nic::transmit_ring ring = other->transmitter(kernel::take_frame(), nowhere + 0x1000);
    check("the NIC starts", ring.start());
    check("it looks for a descriptor", ring.send({{nowhere, 60}}, 1));
    check("which is no second event", kernel::nothing_arrives());
    check_equal("though there was an overflow",
                unit.registers()
                    .read<pt::vtd::fault_status>()[pt::vtd::fault_status::primary_fault_overflow],
                1);
    ring.abandon([](std::uint64_t) {});
    check("the NIC is reset", nic::open(nic::first));

    check_blocked("the ring has edu's fault", vtd, edu::place, request::write, nowhere);
    check_equal("and is empty, overflow and all",
                unit.registers().read<pt::vtd::fault_status>().raw & 0xFF, 0);
    check("edu's second request is blocked", device.load(nowhere, size));
    check("the event comes again", came_once(fault_vector));
    check_blocked("with its fault", vtd, edu::place, request::read, nowhere);

    check("the event is masked", pt::vtd::mask_event(unit.registers(), unit_event::fault));
    check("edu's third request is blocked", device.store(nowhere, size));
    check("no event comes", kernel::nothing_arrives());
    check("it is pending", is_event_pending(unit.registers(), unit_event::fault).value_or(false));
    check("the event is unmasked", pt::vtd::unmask_event(unit.registers(), unit_event::fault));
    check("it comes at last", came_once(fault_vector));
    check("it is pending no more",
          !is_event_pending(unit.registers(), unit_event::fault).value_or(true));
    check_blocked("the third fault is there", vtd, edu::place, request::write, nowhere);

    check("the event moves to another vector",
          unit.send_events(unit_event::fault, kernel::event_message(fault_vector + 1)));
    check("edu's fourth request is blocked", device.store(nowhere, size));
    check("the event comes there", came_once(fault_vector + 1));
    check_blocked("the fourth fault is there", vtd, edu::place, request::write, nowhere);
    check("the event moves back",
          unit.send_events(unit_event::fault, kernel::event_message(fault_vector)));

    // That was four faults; the limits of this run allow so many.
    check("edu's fifth request is blocked", device.store(nowhere, size));
    unsigned silenced = 0;
    vtd.handle_faults(64, [&](const pt::vtd::fault_record& fault, fault_verdict verdict) {
        silenced += verdict == fault_verdict::silence && fault.source == edu::place ? 1U : 0U;
    });
    check_equal("edu floods, and is silenced", silenced, 1);
    kernel::forget_interrupts();
    check("edu's sixth request is blocked", device.store(nowhere, size));
    check("nobody hears of it", kernel::nothing_arrives());
    kernel::check_no_fault("nor is it recorded", vtd);
    check("edu is listened to again", vtd.report_faults_again(there));
    check("edu's seventh request is blocked", device.store(nowhere, size));
    check("and is told of again", came_once(fault_vector));
    check_blocked("the seventh fault is there", vtd, edu::place, request::write, nowhere);
}

void completions(remapping_unit& unit) {
    auto& queue = unit.queue();
    check("without a wait there is no event", !queue.take_completion_event());
    check("something is asked for", queue.submit(pt::vtd::invalidate::iotlb(unit.capabilities())));
    const auto first = queue.post_with_interrupt();
    if (!check("the wait is posted", first)) {
        return;
    }
    check("the completion event comes", came_once(completion_vector));
    check("all is done", queue.done(*first).value_or(false));
    check("an event was due", queue.take_completion_event());
    check("which is told once", !queue.take_completion_event());

    // IWC stays set until it is taken: so long, there is no other event [vt-d].
    const auto second = queue.post_with_interrupt();
    check("the second event comes", came_once(completion_vector));
    const auto third = queue.post_with_interrupt();
    check("not yet a third one", kernel::nothing_arrives());
    check("though all is done again", second && third && queue.done(*third).value_or(false) &&
                                          queue.done(*second).value_or(false));
    check("the second event was due", queue.take_completion_event());
    check("the fourth wait is posted", queue.post_with_interrupt());
    check("its event comes", came_once(completion_vector));
    check("it was due", queue.take_completion_event());

    // An error of the queue is a fault event. The first word of the descriptor names it.
    constexpr std::uint64_t no_such_type = 0xE;
    check("a descriptor that cannot be", queue.submit({{no_such_type}}));
    check("the unit begins", queue.start_pending());
    check("the fault event comes for it", came_once(fault_vector));
    check_error("the queue says what it is", queue.check_errors(), pt::errc::hardware_fault);
    check("one error is told once", queue.check_errors());
    static_cast<void>(queue.complete());
    check("the queue goes on", queue.submit(pt::vtd::invalidate::iotlb(unit.capabilities())));
    check("to the end", queue.complete());
    const auto last = queue.post_with_interrupt();
    check("the last event comes", came_once(completion_vector));
    check("and all is over", last && queue.done(*last).value_or(false));
    check("the last event was due", queue.take_completion_event());
}

void events(remapping& vtd, remapping_unit& unit) {
    auto device = edu::open();
    const auto tables = vtd.limits(39);
    if (!check("edu answers", device) || !check("there are tables", tables)) {
        return;
    }
    check("the fault event gets its vector",
          unit.send_events(unit_event::fault, kernel::event_message(fault_vector)));
    if (!check("all units start", vtd.start())) {
        return;
    }
    domain empty{vtd, *tables};
    kernel::attachment there{edu::place};
    if (!check("edu is attached", empty.attach(there))) {
        return;
    }
    faults(vtd, unit, there, *device);
    check("edu is released", vtd.release(there));
    check("the domain goes", empty.retire());

    if (kernel::told("registers")) {
        check_error("without a queue there is nothing to wait for",
                    unit.queue().post_with_interrupt(), pt::errc::refused);
        return;
    }
    check("the completion event gets its vector",
          unit.send_events(unit_event::invalidation_completion,
                           kernel::event_message(completion_vector)));
    completions(unit);
}

void run() {
    // Long enough that no level falls while the subject runs.
    kernel::with_remapping(events, {.interval = 1'000'000'000'000, .burst = 4});
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"vtd_events", run};

} // namespace
