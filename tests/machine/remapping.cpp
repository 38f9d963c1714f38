// SPDX-License-Identifier: BSL-1.0
//
// pt::vtd::remapping and its domains on a unit that nobody here wrote: QEMU's VT-d, in legacy and
// in scalable mode, with and without caching mode, told to forget by its queue and by its
// registers. Two edu, whose DMA engines go where they are told, and a NIC, whose frames QEMU
// records, say what a device of a guest reaches. vtd_machine.hpp tells where QEMU is not the
// hardware; besides:
//
// - In scalable mode QEMU 7.2 gives most faults the numbers of legacy mode (vtd_faults.cpp).
// - A read that is blocked yields zeros; e1000e sends them.
// - What the cached rights forbid is blocked without a fault record.
#include "vtd_machine.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/generators/catch_generators_range.hpp>

using namespace vtd_machine;
using pt::vtd::fault_reason;
using pt::vtd::fault_verdict;

namespace {

using rig = driven_machine<>;
using frames_by_nic = std::vector<pt::e1000e::fragment>;

constexpr iova small{small_at};
constexpr iova last_small{small_at + small_size - 8};
/// The first and the last word of the large page, and of the small ones.
constexpr iova corners[]{iova{0}, iova{large_size - 8}, small, last_small};

std::string blocked_write(const char* who, iova at) {
    return rig::blocked(who, false, at, fault_reason::write_not_permitted);
}
std::string blocked_read(const char* who, iova at) {
    return rig::blocked(who, true, at, fault_reason::read_not_permitted);
}
std::string without_entry(const char* who, iova at) {
    return rig::blocked(who, false, at, fault_reason::context_entry_not_present);
}

/// What stands in memory at these places, one after the other.
template <class Machine>
bytes memory_of(Machine& m, const guest<Machine>& of, const frames_by_nic& pieces) {
    bytes all;
    for (const auto& piece : pieces) {
        for (std::uint32_t i = 0; i < piece.length; ++i) {
            const hpa at = of.host_of(piece.address + i);
            all.push_back(std::to_integer<std::uint8_t>(m.memory.bytes(at, 1).front()));
        }
    }
    return all;
}

/// Notes what was seen, without repetitions.
class sequence {
public:
    void add(const std::string& seen) {
        if (all_.empty() || all_.back() != seen) {
            all_.push_back(seen);
        }
    }
    [[nodiscard]] const std::vector<std::string>& all() const { return all_; }

private:
    std::vector<std::string> all_;
};

using steps = std::vector<std::string>;

} // namespace

TEST_CASE("each device reaches its guest's memory, by large and small pages, and nothing else",
          "[vt-d][rule 13][rule 14]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    {
        guest<rig> a{m, guest_a};
        guest<rig> b{m, guest_b};
        a.map_memory();
        b.map_memory();
        CHECK(a.dma.tables().translate(iova{0})->size == pt::paging::page_size::size_2m);
        CHECK(a.dma.tables().translate(small)->size == pt::paging::page_size::size_4k);
        CHECK(m.writes(m.edu_a, iova{guest_b.raw}) == place(guest_b)); // nothing protects it yet

        got(m.vtd.start());
        CHECK(m.writes(m.edu_a, iova{guest_b.raw}) == "nothing");
        CHECK(m.fault() == rig::blocked("edu_a", false, iova{guest_b.raw},
                                        fault_reason::root_entry_not_present));
        got(a.dma.attach(m.edu_a_attachment));
        got(b.dma.attach(m.edu_b_attachment));
        got(b.dma.attach(m.nic_attachment));

        for (const iova at : corners) {
            INFO("iova " << hex(at.raw));
            CHECK(m.writes(m.edu_a, at) == place(a.host_of(at)));
            CHECK(m.writes(m.edu_b, at) == place(b.host_of(at)));
            CHECK(a.reads(m, m.edu_a, at) == place(a.host_of(at)));
            CHECK(b.reads(m, m.edu_b, at) == place(b.host_of(at)));
        }
        CHECK(m.fault() == "none");

        // The NIC, behind a bridge, reads descriptors from its guest's memory, and sends what lies
        // there.
        nic_driver<rig> driver{m, b.host_of(nic_driver<rig>::ring)};
        for (const frames_by_nic& frame :
             {frames_by_nic{{iova{1}, 64}},
              frames_by_nic{{iova{0x40}, 24}, {small + 0x123, 100}, {last_small, 8}},
              frames_by_nic{{iova{large_size - 96}, 96}, {small, 200}, {small + page, 16}}}) {
            CHECK(text(driver.send(frame)) == text(memory_of(m, b, frame)));
        }
        CHECK(m.fault() == "none");
        CHECK(text(driver.send({{iova{0x1000'0000}, 64}})) == text(bytes(64)));
        CHECK(m.fault() == blocked_read("nic", iova{0x1000'0000}));
        driver.stop();

        // Beside it there is nothing, wherever the other guest and the host have their memory.
        for (const iova at : {iova{small_at + small_size}, iova{guest_a.raw}, iova{guest_b.raw},
                              iova{host_memory.raw}, iova{tables_at.raw}}) {
            INFO("iova " << hex(at.raw));
            CHECK(m.writes(m.edu_a, at) == "nothing");
            CHECK(m.fault() == blocked_write("edu_a", at));
            CHECK(a.reads(m, m.edu_a, at) == "nothing");
            CHECK(m.fault() == blocked_read("edu_a", at));
            CHECK(m.writes(m.edu_b, at) == "nothing");
            CHECK(m.fault() == blocked_write("edu_b", at));
        }
        CHECK(m.untouched());

        got(m.vtd.release(m.edu_a_attachment));
        got(m.vtd.release(m.edu_b_attachment));
        got(m.vtd.release(m.nic_attachment));
        got(a.dma.retire());
        got(b.dma.retire());
    }
    m.finish();
}

TEST_CASE("what was unmapped is reached until the units have forgotten it", "[vt-d][rule 18]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    a.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    const auto reaches = [&](iova at, hpa to) {
        INFO("iova " << hex(at.raw));
        CHECK(m.writes(m.edu_a, at) == place(to));
    };
    const auto is_blocked = [&](iova at) {
        INFO("iova " << hex(at.raw));
        CHECK(m.writes(m.edu_a, at) == "nothing");
        CHECK(m.fault() == blocked_write("edu_a", at));
    };
    for (const iova at : corners) {
        reaches(at, a.host_of(at)); // all of them are cached now
    }

    { // a small page
        guest<rig>::domain::batch batch{a.dma};
        got(batch.unmap({small, page}));
        reaches(small, a.host_of(small));
        got(batch.flush());
        is_blocked(small);
        reaches(last_small, a.host_of(last_small));
    }
    { // rights
        guest<rig>::domain::batch batch{a.dma};
        got(batch.change([](auto& tables) {
            return tables.protect({small + 15 * page, page},
                                  second_stage::attributes{.read = true});
        }));
        reaches(last_small, a.host_of(last_small));
        got(batch.flush());
        is_blocked(last_small);
        CHECK(a.reads(m, m.edu_a, last_small) == place(a.host_of(last_small)));
    }
    { // a page that is mapped to another frame in one batch
        const iova at = small + 2 * page;
        reaches(at, a.host_of(at));
        guest<rig>::domain::batch batch{a.dma};
        got(batch.unmap({at, page}));
        got(batch.map({at, page}, a.host_of(at + page), second_stage::read_write));
        reaches(at, a.host_of(at));
        got(batch.flush());
        reaches(at, a.host_of(at + page));
    }
    { // the large page
        guest<rig>::domain::batch batch{a.dma};
        got(batch.unmap({iova{0}, large_size}));
        reaches(iova{0}, a.host_of(iova{0}));
        got(batch.flush());
        is_blocked(iova{0});
        is_blocked(iova{large_size - 8});
        reaches(small + page, a.host_of(small + page));
    }
    // Without a batch, at once.
    got(a.dma.unmap({small, small_size}));
    is_blocked(small + page);
    is_blocked(last_small);
    got(a.dma.map({small, page}, a.host_of(small), second_stage::read_write));
    reaches(small, a.host_of(small));
    CHECK(m.fault() == "none");
    CHECK(m.untouched());
}

TEST_CASE("an invalidation of some pages leaves the others cached", "[vt-d][rule 18]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    guest<rig> b{m, guest_b};
    a.map_memory();
    b.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(b.dma.attach(m.edu_b_attachment));
    for (std::uint64_t i = 0; i < 16; ++i) {
        const iova at = small + i * page;
        CHECK(m.writes(m.edu_a, at) == place(a.host_of(at)));
        CHECK(m.writes(m.edu_b, at) == place(b.host_of(at)));
    }
    // Behind pt's back all of their entries go, so that what still works is in the cache.
    const walk by_a{m, edu_a_function};
    const walk by_b{m, edu_b_function};
    for (std::uint64_t i = 0; i < 16; ++i) {
        const iova at = small + i * page;
        m.memory.store(by_b.entry(m, at, 1), 0);
        if (i < 4 || i >= 8) { // what is unmapped below must be there
            m.memory.store(by_a.entry(m, at, 1), 0);
        }
    }
    got(a.dma.unmap({small + 4 * page, 4 * page}));
    for (std::uint64_t i = 0; i < 16; ++i) {
        INFO("page " << i);
        const iova at = small + i * page;
        const bool unmapped = 4 <= i && i < 8;
        CHECK(m.writes(m.edu_a, at) == (unmapped ? "nothing" : place(a.host_of(at))));
        CHECK(m.fault() == (unmapped ? blocked_write("edu_a", at) : "none"));
        CHECK(m.writes(m.edu_b, at) == place(b.host_of(at)));
    }
    CHECK(m.fault() == "none");
}

TEST_CASE("a function that was taken back is blocked, in the quarantine and without an entry",
          "[vt-d]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    {
        guest<rig> a{m, guest_a};
        a.map_memory();
        got(m.vtd.start());
        for (auto [node, device, name] : {std::tuple{&m.edu_a_attachment, &m.edu_a, "edu_a"},
                                          std::tuple{&m.edu_b_attachment, &m.edu_b, "edu_b"}}) {
            got(a.dma.attach(*node));
            CHECK(m.writes(*device, small) == place(a.host_of(small)));
            CHECK(a.dma.attach(*node).error() ==
                  pt::error{errc::already_mapped, node->who().function().source_id()});
            CHECK(a.dma.retire().error().code == errc::busy);

            got(m.vtd.quarantine(*node));
            CHECK(m.writes(*device, small) == "nothing");
            CHECK(m.fault() == blocked_write(name, small));
            CHECK(m.writes(*device, iova{guest_a.raw}) == "nothing");
            CHECK(m.fault() == blocked_write(name, iova{guest_a.raw}));

            got(a.dma.attach(*node)); // and back
            CHECK(m.writes(*device, small) == place(a.host_of(small)));

            got(m.vtd.release(*node));
            CHECK(m.writes(*device, small) == "nothing");
            CHECK(m.fault() == without_entry(name, small));
            CHECK(!node->attached());
            got(m.vtd.release(*node)); // nothing to do

            got(m.vtd.quarantine(*node)); // from nowhere
            CHECK(m.writes(*device, small) == "nothing");
            CHECK(m.fault() == blocked_write(name, small));
        }
        CHECK(m.vtd.retire().error() == pt::error{errc::busy, edu_b_function.source_id()});
        got(m.vtd.release(m.edu_a_attachment));
        got(m.vtd.release(m.edu_b_attachment));
        got(a.dma.retire());
    }
    CHECK(m.untouched());
    m.finish();
}

TEMPLATE_TEST_CASE("a function moves to another guest while its DMA goes on", "[vt-d][rule 14]",
                   pt::cmpxchg16b_store, pt::no_wide_store) {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    using machine_type = driven_machine<TestType>;
    machine_type m{of};
    guest<machine_type> a{m, guest_a};
    guest<machine_type> b{m, guest_b};
    a.map_memory();
    b.map_memory();
    got(m.vtd.start());
    got(b.dma.attach(m.edu_b_attachment));

    sequence moved;
    sequence stayed;
    m.seen.look = [&] {
        moved.add(m.writes(m.edu_a, small));
        stayed.add(m.writes(m.edu_b, small));
    };
    const std::string in_a = place(guest_a + small_offset);
    const std::string in_b = place(guest_b + small_offset);
    const auto change = [&](auto operation, const steps& expected) {
        moved = {};
        m.seen();
        got(operation());
        m.seen();
        CHECK(moved.all() == expected);
    };
    // In one step where the store is one; else it is blocked in between.
    const bool one_step = TestType::atomic;

    change([&] { return a.dma.attach(m.edu_a_attachment); }, {"nothing", in_a});
    change([&] { return b.dma.attach(m.edu_a_attachment); },
           one_step ? steps{in_a, in_b} : steps{in_a, "nothing", in_b});
    change([&] { return a.dma.attach(m.edu_a_attachment); },
           one_step ? steps{in_b, in_a} : steps{in_b, "nothing", in_a});
    change([&] { return m.vtd.quarantine(m.edu_a_attachment); }, {in_a, "nothing"});
    change([&] { return b.dma.attach(m.edu_a_attachment); }, {"nothing", in_b});
    change([&] { return m.vtd.release(m.edu_a_attachment); }, {in_b, "nothing"});
    CHECK(stayed.all() == steps{in_b});
    CHECK(m.untouched());
}

TEST_CASE("at no step of a map or an unmap does a device reach what is not its guest's",
          "[vt-d][rule 14]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    sequence seen;
    m.seen.look = [&] { seen.add(m.writes(m.edu_a, small)); };
    const std::string old_frame = place(guest_a + small_offset);
    const std::string new_frame = place(guest_a + small_offset + page);

    m.seen();
    got(a.dma.map({small, page}, guest_a + small_offset, second_stage::read_write));
    got(a.dma.map({small + page, 15 * page}, guest_a + small_offset, second_stage::read_write));
    m.seen();
    CHECK(seen.all() == steps{"nothing", old_frame});
    got(a.dma.change([](auto& tables) {
        return tables.remap({small, page}, guest_a + small_offset + page, second_stage::read_write);
    }));
    m.seen();
    CHECK(seen.all() == steps{"nothing", old_frame, new_frame});
    got(a.dma.unmap({small, 16 * page}));
    m.seen();
    CHECK(seen.all() == steps{"nothing", old_frame, new_frame, "nothing"});
    CHECK(m.untouched());
}

TEST_CASE("a function that is passed through reaches all of memory, and no other does", "[vt-d]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    a.map_memory();
    {
        pt::vtd::pass_through_domain<rig::remapping> host{m.vtd};
        got(m.vtd.start());
        got(host.attach(m.edu_b_attachment));
        got(a.dma.attach(m.edu_a_attachment));
        for (const hpa at : {host_memory, guest_a, guest_b}) {
            CHECK(m.writes(m.edu_b, iova{at.raw}) == place(at));
            CHECK(m.writes(m.edu_a, iova{at.raw}) == "nothing");
        }
        m.faults();
        got(a.dma.attach(m.edu_b_attachment)); // and now it is a guest's
        CHECK(m.writes(m.edu_b, small) == place(a.host_of(small)));
        CHECK(m.writes(m.edu_b, iova{host_memory.raw}) == "nothing");
        CHECK(m.fault() == blocked_write("edu_b", iova{host_memory.raw}));
        got(host.attach(m.edu_b_attachment)); // and the host's again
        CHECK(m.writes(m.edu_b, iova{host_memory.raw}) == place(host_memory));
        got(m.vtd.release(m.edu_b_attachment));
        CHECK(m.writes(m.edu_b, iova{host_memory.raw}) == "nothing");
        CHECK(m.fault() == without_entry("edu_b", iova{host_memory.raw}));
        got(host.retire());
    }
    CHECK(m.untouched());
}

TEST_CASE("domain ids: 0 is nobody's with caching mode", "[vt-d][rule 15]") {
    // The context entry, or the PASID entry, as QEMU reads it; the quarantine took an id before.
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of};
    guest<rig> a{m, guest_a};
    a.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(m.vtd.quarantine(m.edu_b_attachment));
    const auto entry_of = [&](function_address function) {
        return got(m.unit.functions().translation_of(function));
    };
    CHECK(entry_of(edu_b_function).domain_id() == (of.caching_mode ? 1 : 0));
    CHECK(entry_of(edu_a_function).domain_id() == (of.caching_mode ? 2 : 1));
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    CHECK(m.unit.capabilities()[pt::vtd::capability::caching_mode] == of.caching_mode);
}

namespace {

/// How often a VMM heard what.
struct heard {
    unsigned reports = 0;
    unsigned silenced = 0;
    unsigned stopped = 0;
    unsigned recorded = 0; ///< of all, worth a look or not
    friend bool operator==(const heard&, const heard&) = default;
};

/// An interval as long as the test: what is counted does not depend on how fast the machine is.
constexpr pt::vtd::fault_limits slow{.interval = 1'000'000'000'000, .burst = 8, .total = 64};

/// Lets a device aim at so many addresses that it may not reach; `stop()` is what the VMM does when
/// it is told to.
template <class Stop>
heard flood(rig& m, edu_engine& device, unsigned times, Stop stop) {
    heard all;
    for (unsigned i = 0; i < times; ++i) {
        device.store_mark(iova{guest_b.raw + i * page});
        const auto pass = m.vtd.handle_faults(4, [&](const auto&, fault_verdict verdict) {
            all.reports += verdict == fault_verdict::report ? 1 : 0;
            all.silenced += verdict == fault_verdict::silence ? 1 : 0;
            if (verdict == fault_verdict::stop) {
                ++all.stopped;
                stop();
            }
        });
        CHECK(!pass.more);
        all.recorded += pass.faults;
    }
    return all;
}
heard flood(rig& m, edu_engine& device, unsigned times) {
    return flood(m, device, times, [] {});
}

} // namespace

TEST_CASE("a function that floods the fault records is silenced", "[vt-d][faults]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of, slow};
    guest<rig> a{m, guest_a};
    a.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(m.vtd.quarantine(m.edu_b_attachment));

    for (auto [device, node] :
         {std::pair{&m.edu_a, &m.edu_a_attachment}, std::pair{&m.edu_b, &m.edu_b_attachment}}) {
        const bool once = of.mode == table_mode::legacy && !of.caching_mode;
        const heard all = flood(m, *device, once ? 1000 : 100);
        CHECK(all.reports == 8);
        CHECK(all.silenced == 1);
        CHECK(all.stopped == 0);
        CHECK(all.recorded == 9); // the others the unit does not tell of
        CHECK(got(m.unit.functions().translation_of(node->who().function())).faults_disabled());
    }
    CHECK(m.fault() == "none");
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small))); // what is its guest's it reaches

    // Another function's faults are told nevertheless.
    got(a.dma.attach(m.nic_attachment));
    nic_driver<rig> driver{m, a.host_of(nic_driver<rig>::ring)};
    unsigned reports = 0;
    driver.send({{iova{guest_b.raw}, 64}});
    m.vtd.handle_faults(4, [&](const auto& fault, fault_verdict verdict) {
        CHECK(fault.source == nic_function);
        CHECK(verdict == fault_verdict::report);
        ++reports;
    });
    CHECK(reports == 1);

    // Forgiven, and attached anew, its faults are recorded again.
    got(m.vtd.report_faults_again(m.edu_a_attachment));
    CHECK(flood(m, m.edu_a, 3) == heard{.reports = 3, .recorded = 3});
    CHECK(flood(m, m.edu_a, 20) == heard{.reports = 5, .silenced = 1, .recorded = 6});
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    got(m.vtd.release(m.edu_a_attachment));
    got(a.dma.attach(m.edu_a_attachment));
    m.edu_a.store_mark(iova{guest_b.raw});
    CHECK(m.fault() == blocked_write("edu_a", iova{guest_b.raw}));
    CHECK(m.untouched());
}

TEST_CASE("a function that no entry can silence is to be stopped", "[vt-d][faults]") {
    const shape of = GENERATE(from_range(every_shape));
    INFO(text(of));
    rig m{of, slow};
    got(m.vtd.start());
    using pt::pci::command;
    auto config = m.config();
    const heard all = flood(m, m.edu_a, 60, [&] {
        pt::pci::write(
            config, edu_a_function,
            pt::pci::read<command>(config, edu_a_function).with(command::bus_master(false)));
    });
    CHECK(all.reports == 8);
    CHECK(all.silenced == 1);
    CHECK(all.stopped == 1);
    CHECK(all.recorded <= 2 * 8);
    CHECK(m.untouched());
}

TEST_CASE("guests with tables of 3 and of 4 levels behind one unit", "[vt-d][rule 17]") {
    const table_mode mode = GENERATE(table_mode::legacy, table_mode::scalable);
    rig m{{.mode = mode}};
    guest<rig> a{m, guest_a, 30}; // as few levels as reach 30 bits
    guest<rig> b{m, guest_b, 40};
    CHECK(a.dma.tables().format().levels() == 3);
    CHECK(b.dma.tables().format().levels() == 4);
    a.map_memory();
    b.map_memory();
    const iova high{0x40'0000'0000}; // the first address that takes 39 bits
    got(a.dma.map({high, page}, guest_a, second_stage::read_write));
    got(b.dma.map({iova{0x80'0000'0000}, page}, guest_b, second_stage::read_write));
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(b.dma.attach(m.edu_b_attachment));
    for (const iova at : corners) {
        CHECK(m.writes(m.edu_a, at) == place(a.host_of(at)));
        CHECK(m.writes(m.edu_b, at) == place(b.host_of(at)));
    }
    CHECK(m.writes(m.edu_a, high) == place(guest_a));
    CHECK(m.writes(m.edu_b, iova{0x80'0000'0000}) == place(guest_b));
    CHECK(m.writes(m.edu_a, iova{0x80'0000'0000}) == "nothing");
    CHECK(m.fault() ==
          rig::blocked("edu_a", false, iova{0x80'0000'0000}, fault_reason::address_beyond_width));
    got(b.dma.attach(m.edu_a_attachment)); // to tables of another depth
    CHECK(m.writes(m.edu_a, iova{0x80'0000'0000}) == place(guest_b));
    CHECK(m.writes(m.edu_a, small) == place(b.host_of(small)));
    CHECK(m.fault() == "none");
    CHECK(m.untouched());
}

TEST_CASE("a function with PASIDs keeps its requests without one", "[vt-d]") {
    // No device of QEMU 7.2 sends a PASID; so this shows that the unit takes the entries.
    const shape of{table_mode::scalable, false, invalidation_interface::queue_where_possible,
                   ",x-pasid-mode=on"};
    rig m{of};
    guest<rig> a{m, guest_a};
    guest<rig> b{m, guest_b};
    a.map_memory();
    b.map_memory();
    got(m.vtd.start());
    got(a.dma.attach(m.edu_a_attachment));
    got(b.dma.attach(m.edu_b_attachment));
    auto& table = m.unit.functions();
    const auto through_a = got(table.translation_of(edu_a_function));
    const auto through_b = got(table.translation_of(edu_b_function));
    got(m.unit.replace(edu_a_function, through_a.with_pasids()));
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    got(table.attach_pasid(edu_a_function, 1, through_b, m.unit));
    CHECK(got(table.translation_of(edu_a_function, 1)) == through_b);
    // QEMU's unit says that PASIDs have one bit (ECAP.PSS is 0).
    CHECK(table.attach_pasid(edu_a_function, 2, through_b, m.unit).error() ==
          pt::error{errc::out_of_range, 2});
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    got(table.detach_pasid(edu_a_function, 1, m.unit));
    got(table.attach_pasid(edu_a_function, 1, through_b, m.unit));
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    got(m.vtd.release(m.edu_a_attachment));
    CHECK(m.writes(m.edu_a, small) == "nothing");
    CHECK(m.fault() == without_entry("edu_a", small));
    CHECK(m.untouched());
}

TEST_CASE("a function with a device TLB: the unit takes its entry, and its invalidations",
          "[vt-d]") {
    // edu has none, and its capability is not looked at; so this is about what the unit is told.
    const table_mode mode = GENERATE(table_mode::legacy, table_mode::scalable);
    const shape of{mode, false, invalidation_interface::queue_where_possible, ",device-iotlb=on"};
    INFO(text(of));
    rig m{of};
    CHECK(m.unit.extended_capabilities()[pt::vtd::extended_capability::device_tlb]);
    rig::attachment with_tlb{edu_a_function, std::uint8_t{1}};
    guest<rig> a{m, guest_a};
    guest<rig> b{m, guest_b};
    a.map_memory();
    b.map_memory();
    got(m.vtd.start());

    // The types of the last descriptors in the queue: 2 the IOTLB's, 3 a device TLB's, 5 a wait.
    using types = std::vector<std::uint64_t>;
    const auto last_descriptors = [&](unsigned count) {
        const std::uint64_t iqa = m.emulator.read64((unit_registers + 0x90).raw);
        const std::uint64_t size = mode == table_mode::scalable ? 32 : 16;
        const std::uint64_t tail = m.emulator.read64((unit_registers + 0x88).raw);
        types found;
        for (unsigned i = count; i > 0; --i) {
            const std::uint64_t at = (tail - i * size) & (page - 1);
            const std::uint64_t low = m.memory.load(hpa{(iqa & ~(page - 1)) + at});
            found.push_back(low & 15);
            if (found.back() == 3) {
                CHECK((low >> 32 & 0xFFFF) == edu_a_function.source_id());
            }
        }
        return found;
    };

    got(a.dma.attach(with_tlb));
    CHECK(got(m.unit.functions().translation_of(edu_a_function)).device_tlb());
    CHECK(m.writes(m.edu_a, small) == place(a.host_of(small)));
    got(a.dma.unmap({small, page}));
    CHECK(last_descriptors(2) == types{2, 5}); // ATS is off
    got(m.vtd.turn_device_tlb_on(with_tlb, [] {}));
    got(a.dma.unmap({small + page, page}));
    CHECK(last_descriptors(3) == types{2, 3, 5});
    for (const iova at : {small, small + page}) {
        CHECK(m.writes(m.edu_a, at) == "nothing");
        CHECK(m.fault() == blocked_write("edu_a", at));
    }
    CHECK(m.writes(m.edu_a, last_small) == place(a.host_of(last_small)));
    got(b.dma.attach(with_tlb));
    CHECK(m.writes(m.edu_a, small) == place(b.host_of(small)));
    got(b.dma.unmap({iova{0}, large_size}));
    CHECK(last_descriptors(3) == types{2, 3, 5});
    m.vtd.turn_device_tlb_off(with_tlb, [] {});
    got(b.dma.unmap({small, page}));
    CHECK(last_descriptors(2) == types{2, 5});
    got(m.vtd.release(with_tlb));
    CHECK(m.writes(m.edu_a, small) == "nothing");
    CHECK(m.fault() == without_entry("edu_a", small));
    CHECK(m.untouched());
}
