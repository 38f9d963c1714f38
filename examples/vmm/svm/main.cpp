// SPDX-License-Identifier: BSL-1.0
//
// vmm-svm: guests on a processor with SVM, on a machine with VT-d, each with a NIC of its own.
// machine/run.hpp says what the words of its command line mean; examples/vmm/run.py starts it.
#include "../../kernel/clock.hpp"
#include "../../kernel/end.hpp"
#include "../../kernel/interrupts.hpp"
#include "../../kernel/memory.hpp"
#include "../../kernel/start.hpp"
#include "../machine/auditor.hpp"
#include "../machine/boot_files.hpp"
#include "../machine/guest_nic.hpp"
#include "../machine/guest_pc.hpp"
#include "../machine/host.hpp"
#include "../machine/log.hpp"
#include "../machine/policies.hpp"
#include "../machine/run.hpp"
#include "../machine/static_vector.hpp"
#include "../machine/story.hpp"
#include "remapping.hpp"
#include "world.hpp"

#include "pt/assign/remapped_interrupts.hpp"
#include "pt/assign/vector_pool.hpp"
#include "pt/assign/wire_path.hpp"
#include "pt/vtd/attachment.hpp"

namespace vmm::svm {
namespace {

using interrupts = pt::assign::remapped_interrupts<remapping, pt::assign::vector_pool<>>;
using my_vmm = policies<world, pt::assign::remapped_dma<domain>, interrupts, pt::assign::no_wire>;
static_assert(pt::assign::vmm<my_vmm>);

constexpr std::size_t most_guests = 2;
constexpr std::size_t most_nics = 8;

// Vectors of the host: one for the remapping units, the others for guests.
constexpr std::uint8_t fault_vector = kernel::first_free_vector;
constexpr std::uint8_t first_guest_vector = 0x40;

/// What is the VMM's: its tables, whatever they are of, come from there.
constexpr std::uint64_t table_memory = 16 * pt::MiB;

/// Hears of faults, and writes them down; nobody else is told.
struct unit_events {
    remapping_units* units;
    static_vector<story::watch<my_vmm>, most_guests>* watches;

    void on_interrupt(std::uint8_t vector) {
        if (vector == fault_vector) {
            units->on_fault_event();
        } else {
            say_interrupt_for_nobody(vector);
        }
    }
    void after_exit(std::size_t guest) {
        units->look_again();
        if (guest < watches->count()) {
            (*watches)[guest].after_exit();
        }
    }
};

/// QEMU 7.2 lets messages in compatibility format pass that its unit says it blocks: so a guest's NIC can
/// raise any vector, and an NMI, by DMA to the interrupt range. On a machine that keeps to the manual it
/// gets a fault. Neither hurts: nobody here waits for an NMI.
bool ignore_nmi(kernel::interrupt_frame& frame) {
    constexpr std::uint8_t nmi = 2;
    if (frame.vector == nmi) {
        say_interrupt_for_nobody(nmi);
    }
    return frame.vector == nmi;
}

static_vector<remapping_units, 1> units_of_machine;
static_vector<guest_domain, most_guests> domains;
static_vector<guest_pc<my_vmm>, most_guests> pcs;
static_vector<guest_nic<my_vmm>, most_guests> nics;
static_vector<remapping::attachment_type, most_nics> idle;
static_vector<story::watch<my_vmm>, most_guests> watches;
static_vector<auditor<my_vmm, unit_audit, most_guests>, 1> auditors;
pt::assign::host_vectors vectors{first_guest_vector, kernel::last_free_vector};

/// The piece of `from` behind `first`, so large.
pt::range<pt::hpa> cut(pt::range<pt::hpa>& from, std::uint64_t size) {
    if (from.size() < size) {
        give_up("the machine has too little memory for its guests");
    }
    const pt::range<pt::hpa> piece{from.first(), size};
    from = {from.first() + size, from.size() - size};
    return piece;
}

/// Of NIC number i, whether guest i has got it. Those that nobody gets are in quarantine.
void give_nics(remapping_units& units, const host_function* found, std::size_t count,
               std::size_t guests) {
    const pt::assign::vector_pool<> pool{vectors, kernel::apic_id()};
    for (std::size_t i = 0; i != count; ++i) {
        if (i >= guests) {
            demand(units.all().quarantine(idle.make(found[i].at)),
                   "a NIC cannot be put into quarantine");
            continue;
        }
        guest_nic<my_vmm>& nic =
            nics.make(pcs[i], found[i], interrupts{units.all(), pool}, pt::assign::no_wire{});
        demand(nic.assign(), "a NIC cannot be assigned");
        watches.make(pcs[i], nic);
    }
}

/// Everything is given back. Null, or what was not.
const char* tear_down(remapping_units& units, std::uint64_t frames_before) {
    bool done = true;
    const auto all = [&](const pt::result<void>& step) { done = step.has_value() && done; };
    for (std::size_t i = 0; i != nics.count(); ++i) {
        all(nics[i].remove());
    }
    for (std::size_t i = 0; i != pcs.count(); ++i) {
        all(pcs[i].retire());
        all(domains[i].tables().retire());
    }
    for (std::size_t i = 0; i != idle.count(); ++i) {
        all(units.all().release(idle[i]));
    }
    all(units.retire());
    if (!done) {
        return "not all could be taken down";
    }
    if (kernel::frames_in_use() != frames_before) {
        return "frames were lost";
    }
    narrate("the NICs are reset and nobody's, and every frame of every table is back");
    return nullptr;
}

} // namespace
} // namespace vmm::svm

void kernel::run(const multiboot_information& loaded) {
    using namespace vmm;
    using namespace vmm::svm;
    start_log();
    const run_options asked = options_told(most_guests);
    kernel::clock::start();
    kernel::start_interrupts();
    kernel::handle_exceptions(ignore_nmi);
    kernel::measure_timer();

    pt::range<pt::hpa> memory = free_memory(loaded);
    const pt::range<pt::hpa> tables = cut(memory, table_memory);
    kernel::start_memory(tables, {});
    const pt::range<pt::hpa> own{pt::hpa{0}, memory.first().raw};

    world::turn_on();
    host_function found[most_nics];
    const std::size_t nic_count = find_network_controllers(found, most_nics);
    story::tell_machine(own, memory, found, nic_count);

    const std::uint64_t frames_before = kernel::frames_in_use();
    remapping_units& units = units_of_machine.make(fault_vector);
    for (std::size_t i = 0; i != units.count(); ++i) {
        narrate("a remapping unit at ", units[i].register_base().raw,
                " is on: what no guest owns is blocked, DMA and interrupts");
    }
    guest_domain* guest_domains[most_guests]{};
    for (unsigned i = 0; i != asked.guests; ++i) {
        const pt::range<pt::hpa> its = cut(memory, asked.memory);
        guest_domains[i] = &domains.make(units);
        pcs.make(guest_number{i, static_cast<unsigned>(asked.guests)},
                 guest_storage{its, its.first() + pc::memory_layout::firmware.first().raw},
                 guest_domains[i]->path());
    }
    give_nics(units, found, nic_count, asked.guests);
    const boot_files files{loaded};
    for (std::size_t i = 0; i != asked.guests; ++i) {
        files.boot(pcs[i], i, asked.guests);
    }

    for (std::size_t i = 0; i != watches.count(); ++i) {
        watches[i].tell_guest();
        watches[i].tell_domain(domains[i].tables().tables(),
                               domains[i].owned()[0].through.domain_id());
    }
    chapter("The run");
    auto& audit = auditors.make(asked.audits, pcs, tables, own, unit_audit{units, guest_domains});
    bool isolated = audit.run();
    unit_events events{&units, &watches};
    if (isolated) {
        run_guests(pcs, asked.seconds, audit, events);
        isolated = audit.run() && isolated;
    }
    isolated = tell_audits(audit) && isolated;
    say("faults of the remapping units: ", decimal{units.faults()});
    chapter("The end");
    const char* const left = tear_down(units, frames_before);
    end_run(pcs, isolated ? left : "the audit has found what should not be");
}
