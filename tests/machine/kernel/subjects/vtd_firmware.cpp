// SPDX-License-Identifier: BSL-1.0
//
// A unit that somebody had before: firmware, or another kernel. It translates, its queue is on, it
// remaps interrupts, a fault is pending. pt takes it over while a device works; switches it off and
// on; and brings it back after it lost its registers.
//
// What was before is done in plain numbers here, by the manual's "Register Descriptions" and its
// figures of the tables [vt-d].
//
// Where QEMU 7.2 is not the hardware: it forgets what it has cached when a root table is set, and
// reads interrupt entries anew for each request. That pt empties the caches is shown elsewhere, by
// the fake unit.
#include "../edu.hpp"
#include "../nic.hpp"
#include "../vtd.hpp"

#include "pt/vtd/event.hpp"
#include "pt/vtd/remappable_message.hpp"

namespace {

using kernel::attachment;
using kernel::check;
using kernel::check_blocked;
using kernel::check_equal;
using kernel::check_error;
using kernel::check_no_fault;
using kernel::check_without_entry;
using kernel::domain;
using kernel::edu;
using kernel::nic;
using kernel::remapping;
using kernel::remapping_unit;
using kernel::told;
using pt::hpa;
using pt::iova;
using request = pt::vtd::fault_record::request;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr std::uint64_t size = edu::largest_dma;
constexpr iova in_domain{0x11'1111'1000};
constexpr iova lost_ring{0x7000};

constexpr std::uint8_t old_vector = 0x35;
constexpr std::uint8_t old_fault_vector = 0x36;
constexpr std::uint8_t new_vector = 0x45;
constexpr std::uint8_t fault_vector = 0x46;
constexpr std::uint8_t completion_vector = 0x47;

// ------------------------------------------------------------------------------- in plain numbers

constexpr std::uint32_t TE = 1U << 31;
constexpr std::uint32_t SRTP = 1U << 30;
constexpr std::uint32_t QIE = 1U << 26;
constexpr std::uint32_t IRE = 1U << 25;
constexpr std::uint32_t SIRTP = 1U << 24;
constexpr std::uint32_t ECAP = 0x10;
constexpr std::uint32_t GCMD = 0x18;
constexpr std::uint32_t GSTS = 0x1C;
constexpr std::uint32_t RTADDR = 0x20;
constexpr std::uint32_t FECTL = 0x38;
constexpr std::uint32_t FEDATA = 0x3C;
constexpr std::uint32_t FEADDR = 0x40;
constexpr std::uint32_t IQH = 0x80;
constexpr std::uint32_t IQT = 0x88;
constexpr std::uint32_t IQA = 0x90;
constexpr std::uint32_t IECTL = 0xA0;
constexpr std::uint32_t IEDATA = 0xA4;
constexpr std::uint32_t IEADDR = 0xA8;
constexpr std::uint32_t IRTA = 0xB8;

/// Whoever had the unit before.
class former_owner {
public:
    /// Every function of bus 0 reaches all memory, but for the second NIC, which is blocked.
    void translate(bool scalable) {
        std::uint64_t* const bus_0 = kernel::pointer_to(root_);
        bus_0[0] = context_.raw | 1;
        if (scalable) {
            std::uint64_t* const directory = kernel::pointer_to(directory_);
            std::uint64_t* const pasids = kernel::pointer_to(pasids_);
            directory[0] = pasids_.raw | 1;
            pasids[0] = 4U << 6 | 2U << 2 | 1; // pass-through, 48 bits
            pasids[1] = old_domain;
            for (unsigned function = 0; function < 128; ++function) {
                entry(function, 4)[0] = directory_.raw | 1;
            }
        } else {
            for (unsigned function = 0; function < 256; ++function) {
                entry(function, 2)[0] = 2U << 2 | 1; // pass-through
                entry(function, 2)[1] = old_domain << 8 | 2;
            }
        }
        entry(nic::second.source_id(), scalable ? 4 : 2)[0] = 0;

        unit_.write64(RTADDR, root_.raw | (scalable ? 1U << 10 : 0));
        order(SRTP);
        wide_ = (unit_.read64(ECAP) >> 43 & 1) != 0; // SMTS
        unit_.write64(IQT, 0);
        unit_.write64(IQA, queue_.raw | (wide_ ? 1U << 11 : 0));
        order(QIE);
        put(1U << 4 | 1); // context cache, global
        if (scalable) {
            put(3U << 4 | 7); // PASID cache, global
        }
        put(1U << 4 | 2); // IOTLB, global
        finish();
        order(TE);
    }
    /// Entry 5 is edu's.
    void remap_interrupts() {
        std::uint64_t* const entry_5 = kernel::pointer_to(interrupts_) + 2 * 5;
        entry_5[1] = std::uint64_t{1} << 18 | edu::place.source_id();
        entry_5[0] = std::uint64_t{kernel::apic_id()} << 40 | old_vector << 16 | 1;
        unit_.write64(IRTA, interrupts_.raw | 7); // 256 entries
        order(SIRTP);
        put(4); // interrupt entries, global
        finish();
        order(IRE);
    }
    static pt::pci::msi_message message() { return {0xFEE0'0000 | 5U << 5 | 1U << 4, 0}; }
    void send_fault_events() {
        unit_.write32(FEDATA, old_fault_vector);
        unit_.write32(FEADDR, 0xFEE0'0000 | std::uint32_t{kernel::apic_id()} << 12);
        unit_.write32(FECTL, 0);
    }

    /// All that the unit knew of it, filled with what makes no sense.
    void spoil() {
        for (const hpa frame : {root_, context_, directory_, pasids_, queue_, interrupts_}) {
            kernel::fill(frame, page, 0x5A);
        }
    }
    /// Whether nobody wrote there since.
    bool is_left_alone() {
        for (const hpa frame : {root_, context_, directory_, pasids_, queue_, interrupts_}) {
            if (!kernel::is_filled(frame, page, 0x5A)) {
                return false;
            }
        }
        return true;
    }
    [[nodiscard]] hpa root() const { return root_; }
    [[nodiscard]] hpa queue() const { return queue_; }
    [[nodiscard]] hpa interrupts() const { return interrupts_; }

    kernel::mmio& registers() { return unit_; }

    /// Gives an order, with all that is on repeated, and waits for it.
    void order(std::uint32_t bit) {
        unit_.write32(GCMD, (unit_.read32(GSTS) & 0x96FF'FFFF) | bit);
        kernel::wait_until([&] { return (unit_.read32(GSTS) & bit) != 0; });
    }
    void switch_off(std::uint32_t bit) {
        unit_.write32(GCMD, unit_.read32(GSTS) & 0x96FF'FFFF & ~bit);
        kernel::wait_until([&] { return (unit_.read32(GSTS) & bit) == 0; });
    }

private:
    static constexpr std::uint64_t old_domain = 3;

    std::uint64_t* entry(unsigned function, unsigned words) {
        return kernel::pointer_to(context_) + std::size_t{words} * (function % (512 / words));
    }
    void put(std::uint64_t low, std::uint64_t high = 0) {
        std::uint64_t* const at = kernel::pointer_to(queue_) + tail_ / 8;
        at[0] = low;
        at[1] = high;
        tail_ += wide_ ? 32 : 16;
    }
    void finish() {
        // A wait that writes 1.
        put(std::uint64_t{1} << 32 | 1U << 5 | 5, (queue_ + page - 8).raw);
        unit_.write64(IQT, tail_);
        kernel::wait_until([&] { return unit_.read64(IQH) == tail_; });
    }

    kernel::mmio unit_{hpa{0xFED9'0000}};
    hpa root_ = kernel::take_frame();
    hpa context_ = kernel::take_frame();
    hpa directory_ = kernel::take_frame();
    hpa pasids_ = kernel::take_frame();
    hpa queue_ = kernel::take_frame();
    hpa interrupts_ = kernel::take_frame();
    std::uint32_t tail_ = 0;
    bool wide_ = false;
};

// ---------------------------------------------------------------------------------------- the test

struct rig {
    former_owner& before;
    edu& device;
    hpa here = kernel::take_frame();
    hpa there = kernel::take_frame();
};

/// Whether edu carries memory at these addresses.
bool carries(rig& on, iova from, iova to, std::uint8_t seed) {
    kernel::fill(on.here, size, seed);
    __builtin_memset(kernel::pointer_to<void>(on.there), 0, page);
    return on.device.load(from, size) && on.device.store(to, size) &&
           kernel::is_filled(on.there, size, seed);
}
bool carries_at_physical_addresses(rig& on, std::uint8_t seed) {
    return carries(on, iova{on.here.raw}, iova{on.there.raw}, seed);
}
bool carries_in_domain(rig& on, std::uint8_t seed) {
    return carries(on, in_domain, in_domain + page, seed);
}
bool interrupts_at(rig& on, std::uint8_t vector) {
    kernel::forget_interrupts();
    on.device.request_interrupt();
    on.device.acknowledge_interrupts();
    const bool came = kernel::arrives(vector);
    kernel::pause_for(kernel::long_enough);
    const bool alone = came && kernel::taken_in_all() == 1;
    kernel::forget_interrupts();
    return alone;
}
bool interrupts_nobody(rig& on) {
    kernel::forget_interrupts();
    on.device.request_interrupt();
    on.device.acknowledge_interrupts();
    return kernel::nothing_arrives();
}

/// The unit translates and remaps interrupts, its queue is on, and a fault of the second NIC, told
/// to old_fault_vector, is pending.
bool leave_it_on(rig& on, bool scalable) {
    on.before.send_fault_events();
    on.before.translate(scalable);
    on.before.remap_interrupts();
    const bool translates = check("edu reaches all memory", carries_at_physical_addresses(on, 1));
    check("edu's message goes through an entry",
          pt::pci::enable_msi(kernel::config(), edu::place, former_owner::message()));
    check("edu interrupts", interrupts_at(on, old_vector));
    auto blocked = nic::open(nic::second);
    if (!check("the second NIC answers", blocked)) {
        return false;
    }
    nic::transmit_ring ring = blocked->transmitter(kernel::take_frame(), lost_ring);
    check("the NIC starts", ring.start());
    check("it looks for a descriptor", ring.send({{lost_ring + page, 60}}, 1));
    check("which is blocked, and told", kernel::arrives(old_fault_vector));
    ring.abandon([](std::uint64_t) {});
    check("the NIC is silent", nic::open(nic::second));
    check_equal("all is on", on.before.registers().read32(GSTS) & (TE | QIE | IRE), TE | QIE | IRE);
    return translates;
}

/// What a unit does that is on, and has one function in a domain.
void check_dma(remapping& vtd, rig& on, std::uint8_t seed) {
    check("edu reaches its domain", carries_in_domain(on, seed));
    check_no_fault("where nothing is blocked", vtd);
    kernel::forget_interrupts();
    check("edu writes to a physical address", on.device.store(iova{on.there.raw}, size));
    check("a fault is told", kernel::arrives(fault_vector));
    check_blocked("the write is blocked", vtd, edu::place, request::write, iova{on.there.raw});
    kernel::forget_interrupts();
}
void check_events(remapping_unit& unit) {
    check("something is asked for", unit.submit(pt::vtd::invalidate::iotlb(unit.capabilities())));
    const auto posted = unit.queue().post_with_interrupt();
    check("its end is told", kernel::arrives(completion_vector));
    check("it is over", posted && unit.queue().done(*posted).value_or(false));
    check("the event was due", unit.queue().take_completion_event());
    kernel::forget_interrupts();
}
void check_everything(remapping& vtd, remapping_unit& unit, rig& on, std::uint8_t seed) {
    check_dma(vtd, on, seed);
    if (!told("registers")) {
        check("edu interrupts through pt's entry", interrupts_at(on, new_vector));
        check_events(unit);
    }
}

/// pt's own entry for edu in place of the one before.
void take_interrupts(remapping& vtd, remapping_unit& unit, rig& on) {
    auto& entries = unit.interrupts();
    const auto block = entries.allocate();
    if (!check("edu gets an entry", block) ||
        !check("it is set",
               entries.set((*block)[0],
                           pt::vtd::interrupt_target{.vector = new_vector,
                                                     .destination_id = kernel::apic_id()},
                           pt::vtd::interrupt_requester::exactly(edu::place.source_id()), unit))) {
        return;
    }
    check("until then, edu interrupts as before", interrupts_at(on, old_vector));
    check("interrupt remapping starts", vtd.start_interrupt_remapping());
    check("the old entry is gone", interrupts_nobody(on));
    const auto message = pt::vtd::remappable_message((*block)[0]);
    check("edu gets its message",
          pt::pci::enable_msi(kernel::config(), edu::place,
                              {message.address, static_cast<std::uint16_t>(message.data)}));
}

void take_over(remapping& vtd, remapping_unit& unit, rig& on) {
    const bool queued = !told("registers");
    const auto usable = vtd.limits(40);
    if (!check("there are tables", usable)) {
        return;
    }
    domain own{vtd, *usable};
    attachment there{edu::place};
    if (!check("a page to read", own.map({in_domain, page}, on.here, {.read = true})) ||
        !check("a page to write", own.map({in_domain + page, page}, on.there, {.write = true})) ||
        !check("edu is attached", own.attach(there))) {
        return;
    }
    check("nothing has changed yet", carries_at_physical_addresses(on, 2));
    if (!check("all units start", vtd.start())) {
        check("edu is let go", vtd.release(there));
        check("its domain goes", own.retire());
        return;
    }
    kernel::mmio& registers = on.before.registers();
    check("the root table is pt's",
          (registers.read64(RTADDR) & ~(page - 1)) != on.before.root().raw);
    check_equal("translation is on, and interrupt remapping still",
                registers.read32(GSTS) & (TE | IRE), TE | IRE);
    check_equal("the queue is on where it is used", registers.read32(GSTS) & QIE, queued ? QIE : 0);
    check("the queue is pt's",
          !queued || (registers.read64(IQA) & ~(page - 1)) != on.before.queue().raw);
    check_without_entry("the fault of before is still there", vtd, nic::second, request::read,
                        lost_ring);
    check("faults are told to pt",
          unit.send_events(pt::vtd::unit_event::fault, kernel::event_message(fault_vector)));
    if (queued) {
        check("completions are told to pt",
              unit.send_events(pt::vtd::unit_event::invalidation_completion,
                               kernel::event_message(completion_vector)));
        take_interrupts(vtd, unit, on);
        on.before.spoil();
        check("interrupt entries are pt's",
              (registers.read64(IRTA) & ~(page - 1)) != on.before.interrupts().raw);
    }
    check_everything(vtd, unit, on, 3);
    check("nobody wrote to the old tables", !queued || on.before.is_left_alone());

    // Off and on again. In between everything is open, as stop() says.
    kernel::begin_part("after a stop");
    check("the units stop", vtd.stop());
    check_equal("all is off", registers.read32(GSTS) & (TE | QIE | (queued ? IRE : 0)), 0);
    check("edu reaches all memory", carries_at_physical_addresses(on, 4));
    check("the units start", vtd.start());
    check("interrupt remapping starts", !queued || vtd.start_interrupt_remapping());
    check_everything(vtd, unit, on, 5);

    // Nothing was lost: resume() does no harm.
    kernel::begin_part("after no sleep");
    check("the units resume", vtd.resume());
    check_everything(vtd, unit, on, 6);

    // A unit that lost its registers. They are cleared by hand, as a reset leaves them: QEMU can only
    // reset the whole machine, and that would clear memory, too.
    kernel::begin_part("after a sleep");
    for (const std::uint32_t bit : {IRE, TE, QIE}) {
        on.before.switch_off(bit);
    }
    registers.write64(RTADDR, 0);
    on.before.order(SRTP);
    registers.write64(IRTA, 0);
    on.before.order(SIRTP);
    registers.write64(IQA, 0);
    registers.write64(IQT, 0);
    for (const std::uint32_t control : {FECTL, IECTL}) {
        registers.write32(control, 1U << 31);
    }
    for (const std::uint32_t place : {FEDATA, FEADDR, IEDATA, IEADDR}) {
        registers.write32(place, 0);
    }
    check_equal("nothing is on", registers.read32(GSTS) & (TE | QIE | IRE), 0);
    check("edu reaches all memory", carries_at_physical_addresses(on, 7));
    check("the units resume", vtd.resume());
    check_equal("what was on is on", registers.read32(GSTS) & (TE | QIE | IRE),
                queued ? TE | QIE | IRE : TE);
    check_everything(vtd, unit, on, 8);
    check("a domain changes", own.unmap({in_domain + page, page}));
    check("edu writes to where its page was", on.device.store(in_domain + page, size));
    check_blocked("that is blocked", vtd, edu::place, request::write, in_domain + page);

    kernel::begin_part("at the end");
    check("edu is let go", vtd.release(there));
    check("its domain goes", own.retire());
    check("edu's MSI is off", pt::pci::disable_msi(kernel::config(), edu::place));
}

/// The unit translates in the other mode than pt is to use. It can neither change that under way nor
/// protect all of memory meanwhile, so that nothing may change.
void refuse(remapping& vtd, rig& on) {
    kernel::mmio& registers = on.before.registers();
    const std::uint64_t root = registers.read64(RTADDR);
    check_error("the units do not start", vtd.start(), pt::errc::busy);
    check_equal("the root table is the old one", registers.read64(RTADDR), root);
    check_equal("translation is on", registers.read32(GSTS) & TE, TE);
    check("edu reaches all memory still", carries_at_physical_addresses(on, 2));
    check("edu interrupts still", interrupts_at(on, old_vector));
    check("the units stop before they started", vtd.stop());
    check_equal("which is nothing to those of before", registers.read32(GSTS) & (TE | IRE),
                TE | IRE);
}

void run() {
    auto device = edu::open();
    if (!check("edu answers", device)) {
        return;
    }
    former_owner before;
    rig on{before, *device};
    const bool scalable = kernel::options_told().mode == pt::vtd::table_mode::scalable;
    const bool other_mode = told("other-mode");
    kernel::begin_part("before");
    if (!leave_it_on(on, scalable != other_mode)) {
        return;
    }
    kernel::begin_part("after");
    kernel::with_remapping([&](remapping& vtd, remapping_unit& unit) {
        if (other_mode) {
            refuse(vtd, on);
        } else {
            take_over(vtd, unit, on);
        }
    });
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"vtd_firmware", run};

} // namespace
