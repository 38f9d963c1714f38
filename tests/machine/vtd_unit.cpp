// SPDX-License-Identifier: BSL-1.0
//
// One unit as pt takes it over, drives it and lets it go, on QEMU's VT-d: from whatever state
// firmware left, through a reset of the machine, with errors in its queue; its own interrupts;
// interrupt remapping as far as it is seen without a processor: QEMU tells which requests are in
// the local APIC.
//
// Where QEMU 7.2 is not the hardware:
// - It shows no interrupt remapping fault, and lets requests in compatibility format pass.
// - edu's DMA engine and the I/O APIC say nothing of their source ids, so that their requests are
//   not checked against the entry's. MSI are.
// - It has no protected memory regions, no write buffer, and sets the root table pointer as if it
//   had ESRTPS, without saying so.
#include "vtd_machine.hpp"

#include "pt/pci/msi.hpp"
#include "pt/vtd/event.hpp"
#include "pt/vtd/interrupt_message.hpp"
#include "pt/vtd/remappable_message.hpp"

#include <chrono>
#include <cstdint>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

using namespace vtd_machine;
using pt::vtd::fault_reason;
using pt::vtd::interrupt_message;
using pt::vtd::interrupt_requester;
using pt::vtd::remappable_message;
using pt::vtd::unit_event;

namespace {

using rig = driven_machine<>;

constexpr iova small{small_at};

// Offsets and bits of registers, as the manual prints them: the other side of pt's.
constexpr std::uint32_t gcmd = 0x18;
constexpr std::uint32_t gsts = 0x1C;
constexpr std::uint32_t rtaddr = 0x20;
constexpr std::uint32_t fsts = 0x34;
constexpr std::uint32_t fectl = 0x38;
constexpr std::uint32_t iqh = 0x80;
constexpr std::uint32_t iqt = 0x88;
constexpr std::uint32_t iqa = 0x90;
constexpr std::uint32_t ics = 0x9C;
constexpr std::uint32_t iectl = 0xA0;
constexpr std::uint32_t irta = 0xB8;
constexpr std::uint32_t te = 0x8000'0000;
constexpr std::uint32_t srtp = 0x4000'0000;
constexpr std::uint32_t qie = 0x0400'0000;
constexpr std::uint32_t ire = 0x0200'0000;
constexpr std::uint32_t sirtp = 0x0100'0000;

std::uint32_t read32(machine& m, std::uint32_t offset) {
    return m.emulator.read32((unit_registers + offset).raw);
}
std::uint64_t read64(machine& m, std::uint32_t offset) {
    return m.emulator.read64((unit_registers + offset).raw);
}
void write32(machine& m, std::uint32_t offset, std::uint32_t value) {
    m.emulator.write32((unit_registers + offset).raw, value);
}
void write64(machine& m, std::uint32_t offset, std::uint64_t value) {
    m.emulator.write64((unit_registers + offset).raw, value);
}
/// TES, QIES and IRES.
std::uint32_t what_is_on(machine& m) { return read32(m, gsts) & (te | qie | ire); }

/// The vectors that wait in the local APIC.
std::set<unsigned> requested(machine& m) {
    const std::string dump =
        m.emulator.qmp("human-monitor-command", {{"command-line", "info lapic"}})
            .get<std::string>();
    std::set<unsigned> vectors;
    std::istringstream lines{dump};
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("IRR")) {
            std::istringstream words{line.substr(3)};
            for (unsigned vector = 0; words >> vector;) {
                vectors.insert(vector);
            }
        }
    }
    return vectors;
}
/// What comes in addition to what was there: each vector can be seen once.
class new_requests {
public:
    explicit new_requests(machine& m) : machine_{&m}, before_{requested(m)} {}
    std::set<unsigned> operator()() {
        std::set<unsigned> added;
        for (const unsigned vector : requested(*machine_)) {
            if (before_.insert(vector).second) {
                added.insert(vector);
            }
        }
        return added;
    }

private:
    machine* machine_;
    std::set<unsigned> before_;
};
using vectors = std::set<unsigned>;

// ------------------------------------------------------------------- what firmware may have left

constexpr hpa firmware_at{0x0900'0000};
constexpr hpa firmware_frame{0x0910'0000}; ///< which its device reaches at firmware_iova
constexpr iova firmware_iova{0x5000};

struct left_on {
    bool translation = false;
    bool queue = false;
    bool interrupts = false;
    table_mode mode = table_mode::legacy; ///< of the tables
};
std::string text(left_on what) {
    return std::string{"firmware left on: "} +
           (what.translation ? what.mode == table_mode::scalable ? "translation in scalable mode, "
                                                                 : "translation, "
                             : "") +
           (what.queue ? "queue, " : "") + (what.interrupts ? "interrupts, " : "");
}

/// Frames of firmware's, in the order of their use.
constexpr hpa firmware_page(unsigned n) { return firmware_at + n * page; }

/// Tables of 4 levels by which edu_a reaches one page.
void write_firmware_tables(machine& m, table_mode mode) {
    const auto store = [&](unsigned frame, std::uint64_t index, std::uint64_t value) {
        m.memory.store(firmware_page(frame) + index * 8, value);
    };
    for (unsigned frame = 0; frame < 16; ++frame) {
        for (unsigned i = 0; i < 512; ++i) {
            store(frame, i, 0);
        }
    }
    const std::uint64_t second_stage = firmware_page(4).raw;
    store(4, 0, firmware_page(5).raw | 3);
    store(5, 0, firmware_page(6).raw | 3);
    store(6, 0, firmware_page(7).raw | 3);
    store(7, firmware_iova.raw >> 12, firmware_frame.raw | 3);
    store(0, 0, firmware_page(1).raw | 1);
    if (mode == table_mode::legacy) {
        store(1, 0x30 * 2, second_stage | 1); // 00:06.0, present
        store(1, 0x30 * 2 + 1, 7 << 8 | 2);   // domain 7, 4 levels
    } else {
        store(1, 0x30 * 4, firmware_page(2).raw | 1); // a directory for 2^7 PASIDs, RID_PASID 0
        store(2, 0, firmware_page(3).raw | 1);
        store(3, 0, second_stage | 2 << 2 | 2 << 6 | 1); // 4 levels, second stage only
        store(3, 1, 7);                                  // domain 7
    }
}

/// Brings the unit into such a state by plain register writes.
void leave(machine& m, left_on what) {
    std::uint32_t on = 0;
    write_firmware_tables(m, what.mode);
    m.stamp(firmware_frame, page);
    if (what.queue) {
        const bool wide = m.of.mode == table_mode::scalable; // the unit has it
        const unsigned stride = wide ? 4 : 2;
        const hpa queue = firmware_page(8);
        m.memory.store(queue, 0x11);                        // context cache, global
        m.memory.store(queue + stride * 8, 0x12);           // IOTLB, global
        m.memory.store(queue + stride * 16, 0x1'0000'0025); // wait, status 1
        m.memory.store(queue + stride * 16 + 8, firmware_page(9).raw);
        write64(m, iqt, 0);
        write64(m, iqa, queue.raw | (wide ? 0x800 : 0));
        write32(m, gcmd, on |= qie);
        write64(m, iqt, stride * 3 * 8);
        REQUIRE(m.memory.load(firmware_page(9)) == 1);
    }
    if (what.interrupts) {
        m.memory.store(firmware_page(10) + 16, 0x0030'0001); // entry 1: vector 0x30
        write64(m, irta, firmware_page(10).raw | 7);
        write32(m, gcmd, on | sirtp);
        write32(m, gcmd, on |= ire);
    }
    if (what.translation) {
        write64(m, rtaddr, firmware_at.raw | (what.mode == table_mode::scalable ? 0x400 : 0));
        write32(m, gcmd, on | srtp);
        write32(m, gcmd, on |= te);
    }
    REQUIRE(what_is_on(m) == on);
}

/// Notes what edu_a reaches, and what is on, without repetitions.
struct watcher {
    explicit watcher(rig& m) : machine{&m} {
        m.seen.look = [this] { look(); };
        look();
    }
    ~watcher() { machine->seen.look = nullptr; }
    watcher(const watcher&) = delete;
    watcher& operator=(const watcher&) = delete;

    void look() {
        add(firmware, machine->writes(machine->edu_a, firmware_iova));
        add(host, machine->writes(machine->edu_a, iova{host_memory.raw}));
        add(other_guest, machine->writes(machine->edu_a, iova{guest_b.raw}));
        const std::uint32_t on = what_is_on(*machine);
        add(translation, (on & te) != 0 ? "on" : "off");
        add(interrupts, (on & ire) != 0 ? "on" : "off");
    }
    using steps = std::vector<std::string>;
    rig* machine;
    steps firmware;
    steps host;
    steps other_guest;
    steps translation;
    steps interrupts;

private:
    static void add(steps& to, const std::string& seen) {
        if (to.empty() || to.back() != seen) {
            to.push_back(seen);
        }
    }
};
using steps = watcher::steps;

} // namespace

TEST_CASE("bring-up from any state that firmware left, with no moment in which more is open",
          "[vt-d][unit][rule 12][rule 13]") {
    const shape of = GENERATE(
        shape{}, shape{table_mode::legacy, true, invalidation_interface::queue_where_possible},
        shape{table_mode::legacy, false, invalidation_interface::registers},
        shape{table_mode::scalable, false, invalidation_interface::queue_where_possible});
    const bool translation = GENERATE(false, true);
    const bool queue = GENERATE(false, true);
    const bool interrupts = GENERATE(false, true);
    const left_on firmware{translation, queue, interrupts, of.mode};
    INFO(text(of) << "; " << text(firmware));
    rig m{of};
    leave(m, firmware);
    const bool queued = of.invalidation == invalidation_interface::queue_where_possible;
    {
        guest<rig> a{m, guest_a};
        a.map_memory();
        {
            watcher seen{m};
            got(m.vtd.start());
            seen.look();
            CHECK(seen.firmware ==
                  steps{translation ? place(firmware_frame) : hex(firmware_iova.raw), "nothing"});
            CHECK(seen.host ==
                  (translation ? steps{"nothing"} : steps{place(host_memory), "nothing"}));
            CHECK(seen.other_guest ==
                  (translation ? steps{"nothing"} : steps{place(guest_b), "nothing"}));
            CHECK(seen.translation == (translation ? steps{"on"} : steps{"off", "on"}));
            CHECK(seen.interrupts == steps{interrupts ? "on" : "off"});
        }
        m.faults();
        CHECK(what_is_on(m) == (te | (queued ? qie : 0) | (interrupts ? ire : 0)));
        got(m.vtd.start()); // once more changes nothing
        CHECK(what_is_on(m) == (te | (queued ? qie : 0) | (interrupts ? ire : 0)));

        got(a.dma.attach(m.edu_a_attachment));
        CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
        CHECK(m.writes(m.edu_a, firmware_iova) == "nothing"); // not stamped: the guest's own page
        CHECK(m.fault() == "none");

        if (queued) {
            watcher seen{m};
            got(m.vtd.start_interrupt_remapping());
            CHECK(seen.interrupts == (interrupts ? steps{"on"} : steps{"off", "on"}));
            CHECK(seen.translation == steps{"on"});
            CHECK(what_is_on(m) == (te | qie | ire));
            CHECK(read64(m, irta) == m.unit.interrupts().address().raw);
        } else {
            CHECK(m.vtd.start_interrupt_remapping().error() ==
                  pt::error{errc::not_supported, unit_registers.raw});
        }
        CHECK(m.untouched());
        got(m.vtd.release(m.edu_a_attachment));
        got(a.dma.retire());
    }
    // Off again, and everything is open: that is what off means.
    got(m.vtd.stop());
    CHECK(what_is_on(m) == (interrupts && !queued ? ire : 0));
    CHECK(m.writes(m.edu_a, iova{host_memory.raw}) == place(host_memory));
    got(m.vtd.start());
    CHECK(m.writes(m.edu_a, iova{host_memory.raw}) == "nothing");
    m.finish();
}

TEST_CASE("a unit that translates in the other table mode is not opened to change it",
          "[vt-d][unit]") {
    // QEMU's unit has neither ESRTPS nor protected memory regions nor abort-DMA mode.
    const table_mode wanted = GENERATE(table_mode::legacy, table_mode::scalable);
    const bool queue = GENERATE(false, true);
    // The unit must have both modes; pt's mode is that of the options.
    const shape of{table_mode::scalable, false, invalidation_interface::queue_where_possible};
    machine m{of};
    const table_mode other =
        wanted == table_mode::legacy ? table_mode::scalable : table_mode::legacy;
    leave(m, {.translation = true, .queue = queue, .interrupts = false, .mode = other});
    INFO((wanted == table_mode::legacy ? "to legacy mode" : "to scalable mode"));

    m.stamp(guest_b, page);
    watch nobody;
    emulator::shared_frames frames{m.memory, tables_at, table_count, decoy_at};
    auto unit =
        got(rig::unit_type::take({{}, emulator::shared_tables{frames}, {&nobody}},
                                 {qemu_mmio{m.emulator, unit_registers}, &nobody},
                                 *m.dmar().each<pt::vtd::drhd>().begin(), {.mode = wanted}));
    for (unsigned attempt = 0; attempt < 2; ++attempt) {
        CHECK(unit.start().error() == pt::error{errc::busy, rtaddr});
        CHECK((what_is_on(m) & te) != 0);
        CHECK(m.writes(m.edu_a, firmware_iova) == place(firmware_frame));
        CHECK(m.writes(m.edu_a, iova{host_memory.raw}) == "nothing");
        CHECK(m.writes(m.edu_b, iova{guest_b.raw}) == "nothing");
    }
    // What pt did not switch on it does not switch off either.
    got(unit.stop());
    CHECK((what_is_on(m) & te) != 0);
    CHECK(m.writes(m.edu_a, firmware_iova) == place(firmware_frame));
    CHECK(m.writes(m.edu_a, iova{host_memory.raw}) == "nothing");
    CHECK(m.writes(m.edu_b, iova{guest_b.raw}) == "nothing");
    got(unit.retire());
    CHECK(frames.in_use() == 0);
}

TEST_CASE("a queue that firmware left without a wait at its end", "[vt-d][unit][rule 21]") {
    // It is not quiesced [vt-d, "Queued Invalidation Interface"]: the last descriptor must be a
    // wait. QEMU insists, and pt, which cannot write to firmware's queue, does not get it. Linux's
    // driver does no more.
    rig m{{}};
    leave(m, {.translation = true, .queue = true});
    m.memory.store(firmware_page(8) + 3 * 16, 0x11);
    write64(m, iqt, 4 * 16);
    CHECK(m.vtd.start().error() == pt::error{errc::time_out, gsts});
    CHECK(what_is_on(m) == (te | qie));
    CHECK(m.writes(m.edu_a, firmware_iova) == place(firmware_frame));
    CHECK(m.writes(m.edu_a, iova{host_memory.raw}) == "nothing");
    // Whoever owns the queue ends it so that it can be taken over.
    m.memory.store(firmware_page(8) + 4 * 16, 0x2'0000'0025);
    m.memory.store(firmware_page(8) + 4 * 16 + 8, firmware_page(9).raw);
    write64(m, iqt, 5 * 16);
    got(m.vtd.start());
    CHECK(m.writes(m.edu_a, firmware_iova) == "nothing");
    m.finish();
}

TEST_CASE("after a reset of the machine everything is as before", "[vt-d][unit]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    const bool queued = of.invalidation == invalidation_interface::queue_where_possible;
    rig m{of};
    guest<rig> a{m, guest_a};
    guest<rig> b{m, guest_b};
    a.map_memory();
    b.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(b.dma.attach(m.edu_b_attachment));
    got(m.unit.send_events(unit_event::fault, interrupt_message::compatibility(0x41, 0)));
    if (queued) {
        got(m.vtd.start_interrupt_remapping());
        got(m.unit.send_events(unit_event::invalidation_completion,
                               interrupt_message::compatibility(0x42, 0)));
    }
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    const std::uint32_t on = what_is_on(m);
    const std::uint64_t root = read64(m, rtaddr);

    // The machine sleeps: the unit and the devices lose their state, memory does not.
    m.emulator.qmp("system_reset");
    for (unsigned i = 0; what_is_on(m) != 0; ++i) { // QEMU answers before it does it
        REQUIRE(i < 1000);
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    CHECK(read64(m, rtaddr) == 0);
    m.place_devices();
    m.memory.store(host_memory, mark);
    m.edu_a.load_mark(iova{host_memory.raw});
    m.edu_b.load_mark(iova{host_memory.raw});
    m.memory.store(host_memory, word(host_memory));
    CHECK(m.writes(m.edu_a, iova{host_memory.raw}) == place(host_memory)); // open, until resume()
    new_requests interrupts{m};
    {
        watcher seen{m};
        got(m.vtd.resume());
        CHECK(seen.host == steps{place(host_memory), "nothing"});
        CHECK(seen.other_guest == steps{place(guest_b), "nothing"});
        CHECK(seen.translation == steps{"off", "on"});
    }
    CHECK(interrupts() == vectors{0x41}); // of the faults that were recorded meanwhile
    m.faults();
    CHECK(what_is_on(m) == on);
    CHECK(read64(m, rtaddr) == root);
    for (const iova at : {iova{0}, small}) {
        CHECK(m.writes(m.edu_a, at) == place(a.host_of(at)));
        CHECK(m.writes(m.edu_b, at) == place(b.host_of(at)));
    }
    got(a.dma.unmap({small, page}));
    CHECK(m.writes(m.edu_a, small) == "nothing");
    CHECK(m.fault() == rig::blocked("edu_a", false, small, fault_reason::write_not_permitted));
    if (queued) {
        CHECK(read64(m, irta) == m.unit.interrupts().address().raw);
        got(m.unit.queue().post_with_interrupt());
        CHECK(interrupts() == vectors{0x42});
    }

    // A unit that did not sleep is brought to the same state.
    {
        watcher seen{m};
        got(m.vtd.resume());
        CHECK(seen.host == steps{"nothing"});
        CHECK(seen.translation == steps{"on"});
    }
    CHECK(what_is_on(m) == on);
    CHECK(m.writes(m.edu_b, small) == place(b.host_of(small)));
    CHECK(m.untouched());
}

// ------------------------------------------------------------------------------------- the queue

TEST_CASE("the queue goes round and round", "[vt-d][unit][rule 21]") {
    const shape of = GENERATE(
        shape{}, shape{table_mode::scalable, false, invalidation_interface::queue_where_possible});
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    a.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    auto& queue = m.unit.queue();
    for (unsigned i = 0; i < 700; ++i) {
        got(queue.submit(pt::vtd::invalidate::iotlb(queue.capabilities())));
        got(queue.complete());
    }
    for (const unsigned batch : {1U, 2U, 126U, 127U, 128U, 129U, 254U, 255U, 256U, 257U, 1000U}) {
        for (unsigned i = 0; i < batch; ++i) {
            got(queue.submit(pt::vtd::invalidate::iotlb(queue.capabilities())));
        }
        got(queue.complete());
        CHECK(read64(m, iqh) == read64(m, iqt));
    }
    for (unsigned i = 0; i < 300; ++i) { // what is invalidated is forgotten wherever the ring is
        const iova at = small + i % 16 * page;
        CHECK(m.writes(m.edu_a, at) == place(a.host_of(at)));
        got(a.dma.unmap({at, page}));
        CHECK(m.writes(m.edu_a, at) == "nothing");
        got(a.dma.map({at, page}, a.host_of(at), second_stage::read_write));
    }
    CHECK(m.untouched());
}

TEST_CASE("a descriptor that the unit refuses is told, and the queue goes on",
          "[vt-d][unit][rule 21]") {
    const shape of = GENERATE(
        shape{}, shape{table_mode::scalable, false, invalidation_interface::queue_where_possible});
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    a.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    auto& queue = m.unit.queue();
    // No such type; a context cache without granularity; IOTLB with a reserved bit; a wait for
    // nothing.
    for (const std::uint64_t refused : {0xFULL, 0x1ULL, 0x80'0000'0012ULL, 0x5ULL}) {
        INFO("descriptor " << hex(refused));
        const pt::error told{errc::hardware_fault, refused};
        got(queue.submit({{refused}}));
        CHECK(queue.complete().error() == told);
        CHECK(read32(m, fsts) == 0);
        got(queue.complete());

        // Between others, none of which is lost.
        CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
        guest<rig>::domain::batch batch{a.dma};
        got(batch.unmap({small, page}));
        got(queue.submit(pt::vtd::invalidate::context_cache()));
        got(queue.submit({{refused}}));
        CHECK(batch.flush().error() == told); // whose wait came after it
        got(batch.flush());
        CHECK(m.writes(m.edu_a, small) == "nothing");
        got(a.dma.map({small, page}, a.host_of(small), second_stage::read_write));
        CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
        m.faults();

        // As the last one in a ring that is full to the brim.
        for (unsigned i = 0; i < 253; ++i) {
            static_cast<void>(queue.submit(pt::vtd::invalidate::iotlb(queue.capabilities())));
        }
        static_cast<void>(queue.submit({{refused}}));
        CHECK(queue.complete().error() == told);
        got(queue.complete());
        CHECK(read64(m, iqh) == read64(m, iqt));
        CHECK(read32(m, fsts) == 0);
    }
    CHECK(m.untouched());
}

TEST_CASE("invalidation completion events", "[vt-d][unit][rule 16]") {
    const shape of = GENERATE(
        shape{}, shape{table_mode::scalable, true, invalidation_interface::queue_where_possible});
    INFO(text(of));
    rig m{of};
    got(m.vtd.start());
    auto& queue = m.unit.queue();
    new_requests interrupts{m};
    CHECK(!queue.take_completion_event());

    got(m.unit.send_events(unit_event::invalidation_completion,
                           interrupt_message::compatibility(0x51, 0)));
    CHECK(read32(m, iectl) == 0);
    CHECK(read32(m, iectl + 4) == 0x51);
    CHECK(read32(m, iectl + 8) == 0xFEE0'0000);
    got(queue.submit(pt::vtd::invalidate::iotlb(queue.capabilities())));
    const auto posted = got(queue.post_with_interrupt());
    CHECK(interrupts() == vectors{0x51});
    CHECK(read32(m, ics) == 1);
    CHECK(got(queue.done(posted)));
    CHECK(queue.take_completion_event());
    CHECK(!queue.take_completion_event());
    CHECK(read32(m, ics) == 0);

    // Held back while it is masked, and sent then.
    got(m.unit.send_events(unit_event::invalidation_completion,
                           interrupt_message::compatibility(0x52, 0)));
    got(pt::vtd::mask_event(m.unit.registers(), unit_event::invalidation_completion));
    got(queue.post_with_interrupt());
    CHECK(interrupts().empty());
    CHECK(got(is_event_pending(m.unit.registers(), unit_event::invalidation_completion)));
    got(pt::vtd::unmask_event(m.unit.registers(), unit_event::invalidation_completion));
    CHECK(interrupts() == vectors{0x52});
    CHECK(!got(is_event_pending(m.unit.registers(), unit_event::invalidation_completion)));
}

TEST_CASE("fault events", "[vt-d][unit][rule 16]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    got(m.vtd.start());
    new_requests interrupts{m};
    m.edu_a.store_mark(small);
    CHECK(interrupts().empty()); // the event is masked after a reset
    m.faults();

    got(m.unit.send_events(unit_event::fault, interrupt_message::compatibility(0x53, 0)));
    CHECK(read32(m, fectl) == 0);
    CHECK(read32(m, fectl + 4) == 0x53);
    CHECK(read32(m, fectl + 8) == 0xFEE0'0000);
    interrupts(); // QEMU kept the event of before
    got(m.unit.send_events(unit_event::fault, interrupt_message::compatibility(0x54, 0)));
    m.edu_a.store_mark(small);
    CHECK(interrupts() == vectors{0x54});
    CHECK((read32(m, fsts) & 0x2) != 0);
    CHECK(m.fault() == rig::blocked("edu_a", false, small, fault_reason::root_entry_not_present));

    // Held back while it is masked; after the fault was taken there is nothing to tell.
    got(m.unit.send_events(unit_event::fault, interrupt_message::compatibility(0x55, 0)));
    got(pt::vtd::mask_event(m.unit.registers(), unit_event::fault));
    m.edu_a.store_mark(small);
    CHECK(interrupts().empty());
    CHECK(got(is_event_pending(m.unit.registers(), unit_event::fault)));
    got(pt::vtd::unmask_event(m.unit.registers(), unit_event::fault));
    CHECK(interrupts() == vectors{0x55});
    m.faults();

    if (of.invalidation == invalidation_interface::queue_where_possible) {
        // An error of the queue sends a fault event too, and none comes after it until it is seen
        // to.
        got(m.unit.send_events(unit_event::fault, interrupt_message::compatibility(0x56, 0)));
        got(m.unit.submit({{0xF}}));
        const auto posted = got(m.unit.queue().post());
        CHECK(interrupts() == vectors{0x56});
        CHECK((read32(m, fsts) & 0x10) != 0);
        const auto pass = m.vtd.handle_faults(8, [](const auto&, auto) {});
        CHECK(pass.faults == 0);
        CHECK(!pass.more);
        CHECK(read32(m, fsts) == 0);
        CHECK(m.unit.queue().done(posted).error() == pt::error{errc::hardware_fault, 0xF});
        got(m.unit.send_events(unit_event::fault, interrupt_message::compatibility(0x57, 0)));
        m.edu_a.store_mark(small);
        CHECK(interrupts() == vectors{0x57});
    }
}

// ------------------------------------------------------------------------------------ interrupts

namespace {

/// The I/O APIC's redirection table, through its index and data registers.
void write_redirection(machine& m, unsigned input, pt::vtd::io_apic_remappable_entry entry) {
    const auto write = [&](unsigned index, std::uint64_t value) {
        m.emulator.write32(0xFEC0'0000, index);
        m.emulator.write32(0xFEC0'0010, static_cast<std::uint32_t>(value));
    };
    write(0x11 + 2 * input, entry.raw >> 32);
    write(0x10 + 2 * input, entry.raw);
}

/// Lets edu raise its interrupt.
void raise(machine& m, hpa registers) {
    m.emulator.write32((registers + 0x60).raw, 1);
    m.emulator.write32((registers + 0x64).raw, 1);
}

} // namespace

TEST_CASE("an interrupt goes where its entry says, and without one nowhere",
          "[vt-d][interrupts][rule 19]") {
    const shape of = GENERATE(
        shape{}, shape{table_mode::legacy, true, invalidation_interface::queue_where_possible},
        shape{table_mode::scalable, false, invalidation_interface::queue_where_possible},
        shape{table_mode::scalable, true, invalidation_interface::queue_where_possible});
    INFO(text(of));
    rig m{of};
    auto& table = m.unit.interrupts();
    CHECK(m.unit.start_interrupt_remapping().error() == pt::error{errc::refused, gsts});
    got(m.vtd.start());
    const auto block = got(table.allocate());
    const auto index = block.first;
    const auto from_a = interrupt_requester::exactly(edu_a_function.source_id());
    const auto from_b = interrupt_requester::exactly(edu_b_function.source_id());
    for (const function_address function : {edu_a_function, edu_b_function}) {
        const interrupt_message message = remappable_message(index);
        got(pt::pci::enable_msi(m.config(), function,
                                {message.address, static_cast<std::uint16_t>(message.data)}));
    }

    got(m.vtd.start_interrupt_remapping());
    CHECK((read32(m, gsts) & 0x0380'0000) == (ire | sirtp)); // and CFIS is clear
    new_requests interrupts{m};
    raise(m, edu_a_registers); // the entry is not present
    CHECK(interrupts().empty());

    got(table.set(index, pt::vtd::interrupt_target{.vector = 0x61}, from_a, m.unit));
    raise(m, edu_b_registers); // another source
    CHECK(interrupts().empty());
    raise(m, edu_a_registers);
    CHECK(interrupts() == vectors{0x61});

    got(table.change(index, pt::vtd::interrupt_target{.vector = 0x62}, from_a, m.unit));
    raise(m, edu_a_registers);
    CHECK(interrupts() == vectors{0x62});
    got(table.change(index, pt::vtd::interrupt_target{.vector = 0x63}, from_b, m.unit));
    raise(m, edu_a_registers);
    CHECK(interrupts().empty());
    raise(m, edu_b_registers);
    CHECK(interrupts() == vectors{0x63});

    got(table.clear(index, m.unit));
    raise(m, edu_b_registers);
    CHECK(interrupts().empty());
    got(table.set(index, pt::vtd::interrupt_target{.vector = 0x64}, from_b, m.unit));
    raise(m, edu_b_registers);
    CHECK(interrupts() == vectors{0x64});
    got(table.release(block, m.unit));
    raise(m, edu_b_registers);
    CHECK(interrupts().empty());

    // To no processor that is there: QEMU has one, with id 0.
    const auto other = got(table.allocate());
    CHECK(other.first == index);
    got(table.set(index, pt::vtd::interrupt_target{.vector = 0x65, .destination_id = 3}, from_b,
                  m.unit));
    raise(m, edu_b_registers);
    CHECK(interrupts().empty());

    got(m.unit.stop_interrupt_remapping());
    CHECK((read32(m, gsts) & ire) == 0);
    got(table.release(other, m.unit));
    CHECK(read32(m, fsts) == 0); // no descriptor was refused
    m.finish();
}

TEST_CASE("a device's DMA write to the interrupt range is an interrupt request, not memory",
          "[vt-d][interrupts][rule 19]") {
    const shape of = GENERATE(
        shape{}, shape{table_mode::scalable, false, invalidation_interface::queue_where_possible});
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    a.map_memory();
    CHECK(a.dma.map({iova{0xFEE0'0000}, page}, guest_a, second_stage::read_write).error() ==
          pt::error{errc::reserved_address, 0xFEE0'0000});
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(m.vtd.start_interrupt_remapping());
    auto& table = m.unit.interrupts();
    new_requests interrupts{m};

    // A dword of the guest's choice, which its device writes to any address of the range.
    const auto request = [&](std::uint64_t address, std::uint32_t data) {
        const hpa source = a.host_of(guest<rig>::window);
        const std::uint64_t before = m.memory.load(source);
        m.memory.store(source, data);
        m.edu_a.load(guest<rig>::window, 0, 8);
        m.memory.store(source, before);
        m.edu_a.store(0, iova{address}, 4);
    };
    // Four entries for a function with four vectors, of which one is not set.
    const auto four = got(table.allocate(4));
    CHECK(four.first.raw % 4 == 0);
    const interrupt_message message = remappable_message(four);
    for (const std::uint32_t i : {0U, 1U, 3U}) {
        got(table.set(four[i],
                      pt::vtd::interrupt_target{.vector = static_cast<std::uint8_t>(0x71 + i)},
                      interrupt_requester::exactly(edu_a_function.source_id()), m.unit));
    }
    for (std::uint32_t i = 0; i < 4; ++i) {
        request(message.address, i);
        CHECK(interrupts() == (i == 2 ? vectors{} : vectors{0x71 + i}));
    }
    request(message.address, 4); // the entry after the block
    request(remappable_message(pt::vtd::interrupt_index{0xFFFF}).address, 0); // beyond the table
    request(message.address, 0x1'0000); // reserved bits of the data
    CHECK(interrupts().empty());
    got(table.release(four, m.unit));
    for (std::uint32_t i = 0; i < 4; ++i) {
        request(message.address, i);
    }
    CHECK(interrupts().empty());
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    CHECK(m.untouched());
}

TEST_CASE("an I/O APIC's interrupt goes through its entry", "[vt-d][interrupts][rule 19]") {
    using entry = pt::vtd::io_apic_remappable_entry;
    rig m{{}};
    got(m.vtd.start());
    got(m.vtd.start_interrupt_remapping());
    // QEMU's one I/O APIC sends its requests from a bus that does not exist, as the table says.
    const auto source = got(m.vtd.with_unit_of(
        pt::vtd::device_scope_type::io_apic, 0,
        [&](rig::unit_type& serving, function_address named) -> pt::result<function_address> {
            CHECK(&serving == &m.unit);
            return named;
        }));
    CHECK(source == function_address{0, 0xFF, 0, 0});
    auto& table = m.unit.interrupts();
    const auto index = got(table.allocate(2))[1]; // not entry 0
    got(table.set(index, pt::vtd::interrupt_target{.vector = 0x57},
                  interrupt_requester::exactly(source.source_id()), m.unit));
    write_redirection(m, 10,
                      got(entry::of(index, 0x57, pt::vtd::interrupt_trigger::edge,
                                    pt::vtd::interrupt_polarity::active_high))
                          .with(entry::mask(false)));
    new_requests interrupts{m};
    const auto pulse = [&] {
        m.emulator.drive_interrupt("/machine/q35/ioapic", 10, true);
        m.emulator.drive_interrupt("/machine/q35/ioapic", 10, false);
    };
    pulse();
    CHECK(interrupts() == vectors{0x57});
    got(table.change(index, pt::vtd::interrupt_target{.vector = 0x58},
                     interrupt_requester::exactly(source.source_id()), m.unit));
    pulse();
    CHECK(interrupts() == vectors{0x58});
    got(table.clear(index, m.unit));
    pulse();
    CHECK(interrupts().empty());
}

TEST_CASE("a table of 65536 entries is reached to its end", "[vt-d][interrupts][rule 19]") {
    machine m{{}};
    watch nobody;
    emulator::shared_frames frames{m.memory, tables_at, table_count, decoy_at};
    constexpr std::uint32_t count = 65536;
    constexpr hpa table_at{0x0A00'0000};
    auto unit = got(rig::unit_type::take(
        {{}, emulator::shared_tables{frames}, {&nobody}},
        {qemu_mmio{m.emulator, unit_registers}, &nobody}, *m.dmar().each<pt::vtd::drhd>().begin(),
        {.interrupts = {table_at, m.memory.words<std::uint64_t>(table_at, 2 * count), count}}));
    got(unit.start());
    got(unit.start_interrupt_remapping());
    CHECK(read64(m, irta) == (table_at.raw | 15));
    auto& table = unit.interrupts();
    new_requests interrupts{m};
    unsigned vector = 0x80;
    for (unsigned half = 0; half < 2; ++half) {
        const auto block = got(table.allocate(count / 2));
        for (const std::uint32_t i : {0U, 1U, count / 2 - 1}) {
            ++vector;
            got(table.set(block[i],
                          pt::vtd::interrupt_target{.vector = static_cast<std::uint8_t>(vector)},
                          interrupt_requester::exactly(edu_a_function.source_id()), unit));
            const interrupt_message message = remappable_message(block[i]);
            got(pt::pci::enable_msi(m.config(), edu_a_function,
                                    {message.address, static_cast<std::uint16_t>(message.data)}));
            raise(m, edu_a_registers);
            CHECK(interrupts() == vectors{vector});
        }
    }
    unit.leak();
}
