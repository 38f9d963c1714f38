// SPDX-License-Identifier: BSL-1.0
// The root table in legacy mode, driven through the registers of a unit that watches every step.
#include "../../paging_model/contract.hpp"
#include "../../vtd_model/fake_unit.hpp"

#include "pt/core/wide_store.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/vtd/register_invalidation.hpp"
#include "pt/vtd/register_window.hpp"
#include "pt/vtd/root_table.hpp"
#include "pt/vtd/second_stage_limits.hpp"
#include "pt/vtd/translation.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>
#include <utility>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::pci::function_address;
using pt::vtd::translation;

using hardware = fake_unit<16>;
constexpr std::uint32_t IOTLB = 0xF8;

template <class Hardware>
using window_of = pt::vtd::register_window<registers<Hardware>, fake_clock<Hardware>>;
template <class Hardware>
using port_of = pt::vtd::register_invalidation<registers<Hardware>, fake_clock<Hardware>>;
template <class Hardware, class Wide = pt::no_wide_store>
using root_table_of = pt::vtd::root_table<frames<Hardware>, publisher<Hardware>, Wide>;
template <class Hardware>
using domain_of =
    pt::paging::table<pt::vtd::second_stage::format, frames<Hardware>, publisher<Hardware>>;
using root_table = root_table_of<hardware>;

template <class Hardware>
constexpr window_of<Hardware> window_over(Hardware& machine) {
    return window_of<Hardware>::open({&machine}, 4096, {&machine}).value();
}
template <class Hardware>
constexpr pt::vtd::second_stage::format format_of(Hardware& machine, unsigned levels = 4) {
    const auto window = window_over(machine);
    return pt::vtd::second_stage::format{
        pt::vtd::second_stage::limits_of(window.capabilities(), window.extended_capabilities(),
                                         levels, machine.host_address_width)
            .value()};
}

constexpr event store(std::uint64_t where, std::uint64_t value) {
    return {event::kind::publish, where, value};
}
constexpr event order64(std::uint64_t where, std::uint64_t value) {
    return {event::kind::write64, where, value};
}
/// Everything that happened since the journal was forgotten.
template <class Hardware, std::size_t N>
constexpr bool happened(const Hardware& machine, const event (&expected)[N]) {
    for (std::size_t i = 0; i < N; ++i) {
        if (i >= machine.events || !(machine.journal[i] == expected[i])) {
            return false;
        }
    }
    return machine.events == N;
}

/// All translations of a domain go, through the registers.
template <class Hardware>
struct invalidator_of {
    port_of<Hardware>* port;
    std::uint16_t domain_id;

    constexpr pt::result<void> invalidate(const pt::paging::stale_set<iova>&) {
        return port->submit(pt::vtd::invalidate::iotlb(port->capabilities(), domain_id))
            .and_then([&] { return port->complete(); });
    }
};

constexpr function_address nic{0, 1, 5, 2}; // source id 0x012A
constexpr std::uint16_t nic_id = 0x012A;

// What a context entry for a table at `root`, 4 levels (AW 2), domain 7 must look like.
constexpr std::uint64_t low_of(std::uint64_t root) { return root | 1; }
constexpr std::uint64_t high_7 = 0x702;

constexpr std::uint64_t context_device(std::uint16_t source_id, std::uint16_t domain_id) {
    return 0xE000'0000'0000'0000 | std::uint64_t{source_id} << 16 | domain_id;
}
constexpr std::uint64_t iotlb_domain(std::uint16_t domain_id) {
    return 0xA003'0000'0000'0000 | std::uint64_t{domain_id} << 32;
}

/// A unit that translates with an empty root table, and domains 7 and 8 where iova 0x1000 leads to
/// 0x10'0000 and to 0x20'0000.
template <class Hardware, class Wide = pt::no_wide_store>
struct scene {
    Hardware& machine;
    window_of<Hardware> window = window_over(machine);
    port_of<Hardware> port{window};
    root_table_of<Hardware, Wide> root;
    domain_of<Hardware> domain{{&machine}, format_of(machine), {&machine}};
    domain_of<Hardware> other{{&machine}, format_of(machine, 3), {&machine}};
    invalidator_of<Hardware> invalidator{&port, 7};
    invalidator_of<Hardware> other_invalidator{&port, 8};
    bool ready = false;

    explicit constexpr scene(Hardware& hardware_model, Wide wide = {})
        : machine{hardware_model},
          root{std::move(*root_table_of<Hardware, Wide>::create(
              {&machine}, pt::vtd::table_mode::legacy, {&machine}, wide))} {
        auto ticket =
            domain.map({iova{0x1000}, 0x1000}, hpa{0x10'0000}, pt::vtd::second_stage::read_write);
        auto other_ticket =
            other.map({iova{0x1000}, 0x1000}, hpa{0x20'0000}, pt::vtd::second_stage::read_write);
        ready = ticket && ticket->redeem(invalidator) && other_ticket &&
                other_ticket->redeem(other_invalidator) && switch_on();
        machine.forget_journal();
    }
    constexpr bool switch_on() {
        using pt::vtd::global_command;
        using pt::vtd::global_status;
        window.write(pt::vtd::root_table_address{root.root().raw});
        return window.order(global_command::set_root_table_pointer(true),
                            global_status::root_table_pointer, true) &&
               port.submit(pt::vtd::invalidate::context_cache()) &&
               port.submit(pt::vtd::invalidate::iotlb(port.capabilities())) && port.complete() &&
               window.order(global_command::translation_enable(true),
                            global_status::translation_enabled, true);
    }
    constexpr bool switch_off() {
        return window
            .order(pt::vtd::global_command::translation_enable(false),
                   pt::vtd::global_status::translation_enabled, false)
            .has_value();
    }
    constexpr translation through() {
        return translation::second_stage(domain.root().value(), domain.format(), 7);
    }
    constexpr translation through_other() {
        return translation::second_stage(other.root().value(), other.format(), 8);
    }
    /// Everything goes home; whether that is all.
    constexpr bool leave() {
        machine.hammer.runs = false;
        bool ok = switch_off() && root.retire(port);
        auto owed = domain.retire();
        auto other_owed = other.retire();
        ok = owed.redeem(invalidator) && other_owed.redeem(other_invalidator) && ok;
        return ok && machine.in_use == 0 && machine.violations == 0;
    }
};

TEST_CASE("attach writes the half with the present bit last, then invalidates", "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        const std::uint64_t top = s.domain.root().value().raw;
        bool ok = s.ready && s.root.attach(nic, s.through(), s.port);
        const std::uint64_t root_slot = s.root.root().raw + 1 * 16;
        const std::uint64_t context =
            machine.stored[(root_slot - hardware::base) / 8] & ~std::uint64_t{1};
        const std::uint64_t slot = context + 0x2A * 16;
        const event expected[] = {{event::kind::table, context, 0},
                                  store(root_slot, context | 1),
                                  store(slot + 8, high_7),
                                  store(slot, low_of(top)),
                                  order64(CCMD, context_device(nic_id, 0)),
                                  order64(IOTLB, iotlb_domain(7))};
        ok = ok && happened(machine, expected);
        const outcome o = machine.dma(nic_id, 0x1234, true);
        ok = ok && o.reached && o.translated && o.to == 0x10'0234;
        ok = ok && machine.dma(0x0128, 0x1234, true).reason == 0x2;
        ok = ok && machine.dma(0x002A, 0x1234, true).reason == 0x1;
        ok = ok && s.root.translation_of(nic).value() == s.through() &&
             s.root.translation_of({0, 0, 0, 0}) == error{errc::not_mapped, 0};
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("detach clears present, invalidates, and only then the rest", "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        const std::uint64_t top = s.domain.root().value().raw;
        bool ok = s.ready && s.root.attach(nic, s.through(), s.port) &&
                  machine.dma(nic_id, 0x1000, false).reached;
        const std::uint64_t slot = machine.journal[3].where;
        machine.forget_journal();
        ok = ok && s.root.detach(nic, s.port);
        const event expected[] = {store(slot, top), order64(CCMD, context_device(nic_id, 7)),
                                  order64(IOTLB, iotlb_domain(7)), store(slot, 0),
                                  store(slot + 8, 0)};
        ok = ok && happened(machine, expected) && machine.dma(nic_id, 0x1000, false).reason == 0x2;
        ok = ok && s.root.detach(nic, s.port) == error{errc::not_mapped, nic_id};
        ok = ok && s.root.attach(nic, s.through(), s.port) &&
             machine.dma(nic_id, 0x1000, false).reached;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a device that never stops sees its domain or nothing, at every store",
          "[vtd][rule 14]") {
    for (const std::uint64_t variant : {std::uint64_t{0}, cap_cm, cap_rwbf, cap_cm | cap_rwbf}) {
        const auto machine = std::make_unique<hardware>();
        machine->cap |= variant;
        scene s{*machine};
        REQUIRE(s.ready);
        machine->hammer.source_id = nic_id;
        machine->hammer.address = 0x1008;
        machine->hammer.write = true;
        for (unsigned round = 0; round < 3; ++round) {
            machine->hammer.count = 0;
            machine->hammer.runs = true;
            REQUIRE(s.root.attach(nic, s.through(), s.port));
            CHECK(machine->dma(nic_id, 0x1008, true).to == 0x10'0008);
            REQUIRE(s.root.detach(nic, s.port));
            CHECK(machine->dma(nic_id, 0x1008, true).reason == 0x2);
            machine->hammer.runs = false;
            REQUIRE(machine->hammer.count >= 8);
            for (std::size_t i = 0; i < machine->hammer.count; ++i) {
                const outcome& o = machine->hammer.seen[i];
                if (o.reached) {
                    CHECK((o.translated && o.to == 0x10'0008));
                } else {
                    CHECK((o.reason == 0x1 ||
                           o.reason == 0x2)); // never reserved bits or half an entry
                }
            }
        }
        CHECK(s.leave());
    }
}

TEST_CASE("with caching mode, what was cached of an absent entry is forgotten", "[vtd][rule 15]") {
    constexpr auto works = [] {
        hardware machine;
        machine.cap |= cap_cm;
        scene s{machine};
        bool ok = s.ready && machine.dma(nic_id, 0x1000, false).reason == 0x1;
        ok = ok && machine.cached_contexts() == 1;
        ok = ok && s.root.attach(nic, s.through(), s.port) &&
             machine.dma(nic_id, 0x1000, false).reached;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("what cannot be attached changes nothing", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    scene s{*machine};
    REQUIRE(s.ready);
    CHECK(s.root.attach(function_address{0, 1, 32, 0}, s.through(), s.port) ==
          error{errc::out_of_range, 0x2000});
    CHECK(s.root.attach(function_address{0, 1, 0, 8}, s.through(), s.port) ==
          error{errc::out_of_range, 0x8});
    CHECK(s.root.detach(function_address{0, 1, 255, 255}, s.port) ==
          error{errc::out_of_range, 0xFFFF});
    CHECK(s.root.replace(function_address{0, 1, 0, 9}, s.through(), s.port) ==
          error{errc::out_of_range, 0x9});
    CHECK(s.root.translation_of({0, 1, 32, 0}) == error{errc::out_of_range, 0x2000});
    CHECK(s.root.replace(nic, s.through(), s.port) == error{errc::not_mapped, nic_id});
    CHECK(s.root.detach(nic, s.port) == error{errc::not_mapped, nic_id});
    machine->limit = machine->in_use;
    CHECK(s.root.attach(nic, s.through(), s.port).error().code == errc::out_of_frames);
    CHECK(machine->events == 0);
    machine->limit = 16;
    REQUIRE(s.root.attach(nic, s.through(), s.port));
    machine->forget_journal();
    CHECK(s.root.attach(nic, s.through_other(), s.port) == error{errc::already_mapped, nic_id});
    CHECK(s.root.attach_pasid(nic, 1, s.through_other(), s.port) == error{errc::not_supported, 1});
    CHECK(s.root.detach_pasid(nic, 1, s.port) == error{errc::not_supported, 1});
    CHECK(s.root.translation_of(nic, 1) == error{errc::not_supported, 1});
    CHECK(machine->events == 0);
    CHECK(s.root.translation_of(nic) == s.through());
    CHECK(s.leave());
}

TEST_CASE("a translation that the unit cannot do changes nothing and costs no frame",
          "[vtd][rule 15][rule 17]") {
    // Lacks 5 levels, pass-through and device TLBs, and has 256 domain ids.
    constexpr std::uint64_t cap = (qemu_cap & ~std::uint64_t{7}) | 2;
    constexpr std::uint64_t ecap = qemu_ecap & ~std::uint64_t{0x44};
    enum class kind { translated, device_tlb, through, through_device_tlb, pasids, snoop };
    constexpr auto attached = [](std::uint64_t more_cap, std::uint64_t more_ecap,
                                 function_address who, kind what, unsigned levels,
                                 std::uint16_t domain_id) {
        hardware machine;
        machine.cap = cap | more_cap;
        machine.ecap = ecap | more_ecap;
        scene s{machine};
        machine.forget_journal();
        const std::size_t held = machine.in_use;
        const pt::vtd::second_stage::format walked{{.levels = levels}};
        const auto tables = translation::second_stage(s.domain.root().value(), walked, domain_id);
        const auto none = translation::pass_through(domain_id);
        const auto done = s.root.attach(who,
                                        what == kind::through              ? none
                                        : what == kind::through_device_tlb ? none.with_device_tlb()
                                        : what == kind::device_tlb ? tables.with_device_tlb()
                                        : what == kind::pasids     ? tables.with_pasids()
                                        : what == kind::snoop      ? tables.with_page_snoop()
                                                                   : tables,
                                        s.port);
        const bool untouched = machine.events == 0 && machine.in_use == held;
        if (!s.leave() || untouched == done.has_value()) {
            return error{errc::none, 1}; // no error that anybody expects
        }
        return done ? error{} : done.error();
    };
    constexpr error good{};
    constexpr error lacks{errc::not_supported, ECAP};
    using enum kind;

    static_assert(attached(0, 0, nic, translated, 4, 7) == good);
    static_assert(attached(0, 0, nic, translated, 5, 7) == error{errc::not_supported, 5});
    CHECK(attached(0, 0, nic, translated, 4, 7) == good);
    // In another segment the unit has no say: a function with the same source id is not this one.
    CHECK(attached(0, 0, {1, 1, 5, 2}, translated, 4, 7) == error{errc::absent, 1});
    CHECK(attached(0, 0, {0xFFFF, 1, 5, 2}, translated, 4, 7) == error{errc::absent, 0xFFFF});
    CHECK(attached(0, 0, nic, translated, 4, 255) == good);
    CHECK(attached(0, 0, nic, translated, 4, 256) == error{errc::out_of_range, 256});
    CHECK(attached(0, 0, nic, translated, 4, 0xFFFF) == error{errc::out_of_range, 0xFFFF});
    CHECK(attached(0, 0, nic, translated, 4, 0) == good);
    CHECK(attached(cap_cm, 0, nic, translated, 4, 0) == error{errc::out_of_range, 0});
    CHECK(attached(cap_cm, 0, nic, translated, 4, 1) == good);
    CHECK(attached(0, 0, nic, translated, 3, 7) == good);
    CHECK(attached(0x0800, 0, nic, translated, 5, 7) == good); // SAGAW has bit 3
    CHECK(attached(0, 0, nic, device_tlb, 4, 7) == lacks);
    CHECK(attached(0, 0x04, nic, device_tlb, 4, 7) == good);
    CHECK(attached(0, 0, nic, through, 4, 7) == lacks);
    CHECK(attached(0, 0x40, nic, through, 4, 7) == good);
    CHECK(attached(0, 0x44, nic, through_device_tlb, 4, 7) == lacks); // no such type
    CHECK(attached(0, std::uint64_t{1} << 40, nic, pasids, 4, 7) == lacks);
    CHECK(attached(0, 0x80, nic, snoop, 4, 7) == lacks);
}

// What pt makes of a translation is what the hardware takes: present, of a type that it has, with
// levels that it walks.
TEST_CASE("a unit accepts what the hardware would take, and nothing else", "[vtd][rule 17]") {
    using machine_type = fake_unit<3>;
    constexpr std::uint64_t base = machine_type::base;
    const auto hardware_takes = [](machine_type& machine, port_of<machine_type>& port,
                                   std::uint64_t low, std::uint64_t high) {
        machine.published[512 + 2 * 0x28] = low;
        machine.published[512 + 2 * 0x28 + 1] = high;
        REQUIRE(port.submit(pt::vtd::invalidate::context_cache()));
        REQUIRE(port.submit(pt::vtd::invalidate::iotlb(port.capabilities())));
        machine.violation = nullptr;
        machine.violations = 0;
        return machine.dma(0x28, 0x1000, false).reason != 0x3 && machine.violations == 0;
    };
    unsigned taken = 0;
    unsigned refused = 0;
    for (std::uint64_t sagaw = 2; sagaw < 16; sagaw += 2) {
        for (const std::uint64_t nd : {0U, 2U, 6U, 7U}) {
            for (unsigned bits = 0; bits < 8; ++bits) {
                const auto machine = std::make_unique<machine_type>();
                machine->cap = (qemu_cap & ~std::uint64_t{0x1F07}) | sagaw << 8 | nd |
                               ((bits & 1) != 0 ? cap_cm : 0);
                machine->ecap = (qemu_ecap & ~std::uint64_t{0x44}) |
                                ((bits & 2) != 0 ? 0x40U : 0U) | ((bits & 4) != 0 ? 0x04U : 0U);
                // A root, a context table and an empty second-stage table, put there by hand.
                for (std::size_t i = 0; i < std::size_t{3} * 512; ++i) {
                    machine->published[i] = 0;
                }
                machine->published[0] = (base + 0x1000) | 1;
                machine->used[0] = machine->used[1] = machine->used[2] = true;
                auto window = window_over(*machine);
                port_of<machine_type> port{window};
                window.write(pt::vtd::root_table_address{base});
                REQUIRE(window.order(pt::vtd::global_command::set_root_table_pointer(true),
                                     pt::vtd::global_status::root_table_pointer, true));
                REQUIRE(port.submit(pt::vtd::invalidate::context_cache()));
                REQUIRE(port.submit(pt::vtd::invalidate::iotlb(port.capabilities())));
                REQUIRE(window.order(pt::vtd::global_command::translation_enable(true),
                                     pt::vtd::global_status::translation_enabled, true));
                for (unsigned type = 0; type < 3; ++type) {
                    for (unsigned levels = 3; levels <= 5; ++levels) {
                        for (const unsigned id : {0U, 1U, 15U, 16U, 255U, 256U, 0xFFFFU}) {
                            const auto domain_id = static_cast<std::uint16_t>(id);
                            const auto tables = translation::second_stage(
                                hpa{base + 0x2000},
                                pt::vtd::second_stage::format{{.levels = levels}}, domain_id);
                            const translation what = type == 0 ? tables
                                                     : type == 1
                                                         ? tables.with_device_tlb()
                                                         : translation::pass_through(domain_id);
                            const unsigned largest = (sagaw & 8) != 0   ? 3
                                                     : (sagaw & 4) != 0 ? 2
                                                                        : 1;
                            const std::uint64_t low =
                                (type == 2 ? 0 : base + 0x2000) | type << 2 | 1;
                            const std::uint64_t high =
                                std::uint64_t{id} << 8 | (type == 2 ? largest : levels - 2);
                            const auto entry = pt::vtd::context_entry_for(
                                port.capabilities(), port.extended_capabilities(), what);
                            if (entry.has_value() != hardware_takes(*machine, port, low, high)) {
                                FAIL("CAP " << machine->cap << ", ECAP " << machine->ecap
                                            << ", entry " << low << " " << high);
                            }
                            if (entry) {
                                CHECK(entry->low.raw == low);
                                CHECK(entry->high.raw == high);
                            }
                            ++(entry ? taken : refused);
                        }
                    }
                }
            }
        }
    }
    CHECK(taken > 1000);
    CHECK(refused > 1000);
}

/// docs/policies/invalidation_port.md: all units of a root table, which have the same capabilities.
template <class Port>
struct all_of {
    Port* first;
    std::size_t count;

    constexpr pt::result<void> submit(const pt::vtd::invalidation_descriptor& request) {
        return each([&](Port& port) { return port.submit(request); });
    }
    constexpr pt::result<void> complete() {
        return each([](Port& port) { return port.complete(); });
    }
    [[nodiscard]] constexpr pt::vtd::capability capabilities() const {
        return first->capabilities();
    }
    [[nodiscard]] constexpr pt::vtd::extended_capability extended_capabilities() const {
        return first->extended_capabilities();
    }

private:
    template <class F>
    constexpr pt::result<void> each(F f) {
        for (std::size_t i = 0; i < count; ++i) {
            if (const pt::result<void> done = f(first[i]); !done) {
                return done;
            }
        }
        return {};
    }
};

TEST_CASE("all units of a root table are told", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    const auto twin = std::make_unique<hardware>();
    port_of<hardware> ports[] = {port_of<hardware>{window_over(*machine)},
                                 port_of<hardware>{window_over(*twin)}};
    all_of<port_of<hardware>> both{ports, 2};
    static_assert(pt::vtd::invalidation_port<all_of<port_of<hardware>>>);
    auto root = root_table::create({machine.get()}, pt::vtd::table_mode::legacy, {machine.get()});
    REQUIRE(
        root->attach(nic, translation::second_stage(hpa{0x5000}, format_of(*machine), 7), both));
    CHECK((machine->orders == 2 && twin->orders == 2));
    REQUIRE(root->detach(nic, both));
    CHECK((machine->orders == 4 && twin->orders == 4));
    twin->stall_at = twin->orders + 1;
    CHECK(root->retire(both) == error{errc::time_out, CCMD});
    CHECK(machine->in_use == 2);
    twin->recover();
    CHECK(root->retire(both));
    CHECK(machine->in_use == 0);
    CHECK((machine->violation == nullptr && twin->violation == nullptr));
}

TEST_CASE("functions and domains do not see each other", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    scene s{*machine};
    REQUIRE(s.ready);
    domain_of<hardware> second{{machine.get()}, format_of(*machine, 3), {machine.get()}};
    invalidator_of<hardware> second_invalidator{&s.port, 9};
    auto ticket = second.map({iova{0x1000}, 0x1000}, hpa{0x20'0000},
                             {.read = true, .write = false, .snoop = false});
    REQUIRE(ticket->redeem(second_invalidator));
    REQUIRE(s.root.attach(function_address{0, 0, 0, 0}, s.through(), s.port));
    REQUIRE(s.root.attach(function_address{0, 255, 31, 7},
                          translation::second_stage(second.root().value(), second.format(), 9),
                          s.port));
    CHECK(machine->dma(0x0000, 0x1FFF, true).to == 0x10'0FFF);
    CHECK(machine->dma(0xFFFF, 0x1FFF, false).to == 0x20'0FFF);
    CHECK(machine->dma(0xFFFF, 0x1FFF, true).reason == 0x5);
    CHECK(machine->dma(0x00FF, 0x1FFF, true).reason == 0x2);
    // Detaching one leaves the other alone.
    REQUIRE(s.root.detach(function_address{0, 0, 0, 0}, s.port));
    CHECK(machine->dma(0x0000, 0x1000, false).reason == 0x2);
    CHECK(machine->dma(0xFFFF, 0x1000, false).to == 0x20'0000);
    REQUIRE(s.root.detach(function_address{0, 255, 31, 7}, s.port));
    auto owed = second.retire();
    CHECK(owed.redeem(second_invalidator));
    CHECK(s.leave());
}

// The invalidations of attach and detach are orders 1 and 2 after the journal was forgotten; with a
// write buffer, orders 1 to 4, of which 1 and 3 are the flushes.
TEST_CASE("an attach that fails leaves nothing open, and detach finishes it", "[vtd][rule 14]") {
    for (const bool refused : {false, true}) {
        for (const std::uint64_t variant : {std::uint64_t{0}, cap_cm, cap_rwbf}) {
            for (unsigned n = 1; n <= (variant == cap_rwbf ? 4U : 2U); ++n) {
                if (refused && variant == cap_rwbf && n % 2 == 1) {
                    continue; // a flush has no answer that could be a refusal
                }
                const auto machine = std::make_unique<hardware>();
                machine->cap |= variant;
                scene s{*machine};
                REQUIRE(s.ready);
                (refused ? machine->refuse_at : machine->stall_at) = machine->orders + n;
                // The device catches the entry while it is there.
                machine->hammer.source_id = nic_id;
                machine->hammer.address = 0x1000;
                machine->hammer.runs = true;
                const auto attached = s.root.attach(nic, s.through(), s.port);
                machine->hammer.runs = false;
                REQUIRE_FALSE(attached);
                CHECK(attached.error().code == (refused ? errc::hardware_fault : errc::time_out));
                CHECK(s.root.translation_of(nic) == error{errc::busy, 7});
                const outcome meanwhile = machine->dma(nic_id, 0x1000, false);
                CHECK((!meanwhile.reached || meanwhile.to == 0x10'0000)); // never open
                CHECK(s.root.attach(nic, s.through(), s.port) ==
                      error{errc::already_mapped, nic_id});

                machine->recover();
                REQUIRE(s.root.detach(nic, s.port));
                // With caching mode, that there was no context table may still be cached.
                const unsigned reason = machine->dma(nic_id, 0x1000, false).reason;
                CHECK((reason == 0x2 || (variant == cap_cm && reason == 0x1)));
                REQUIRE(s.root.attach(nic, s.through(), s.port));
                CHECK(machine->dma(nic_id, 0x1000, false).reached);
                CHECK(s.leave());
                CHECK(machine->violation == nullptr);
            }
        }
    }
}

TEST_CASE("a detach that fails is finished by the next one", "[vtd][rule 14]") {
    for (const bool refused : {false, true}) {
        for (unsigned n = 1; n <= 2; ++n) {
            const auto machine = std::make_unique<hardware>();
            scene s{*machine};
            REQUIRE(s.ready);
            REQUIRE(s.root.attach(nic, s.through(), s.port));
            REQUIRE(machine->dma(nic_id, 0x1000, true).reached);
            (refused ? machine->refuse_at : machine->stall_at) = machine->orders + n;
            const auto first = s.root.detach(nic, s.port);
            CHECK(first ==
                  error{refused ? errc::hardware_fault : errc::time_out, n == 1 ? CCMD : IOTLB});
            // Not present, and what has to be forgotten is still known.
            CHECK(s.root.translation_of(nic) == error{errc::busy, 7});
            if (!refused) {
                // Nothing is asked for while the last request is under way.
                const std::size_t before = machine->events;
                CHECK(s.root.detach(nic, s.port).error().code == errc::time_out);
                for (std::size_t i = before; i < machine->events; ++i) {
                    CHECK((machine->journal[i].what != event::kind::write64 ||
                           machine->journal[i].where != (n == 1 ? CCMD : IOTLB)));
                }
            }
            machine->recover();
            REQUIRE(s.root.detach(nic, s.port));
            CHECK(machine->dma(nic_id, 0x1000, true).reason == 0x2);
            CHECK(s.root.translation_of(nic) == error{errc::not_mapped, nic_id});
            CHECK(s.leave());
            CHECK(machine->violation == nullptr);
        }
    }
}

// ---- replace: from domain 7 to domain 8 while the device never stops
// -------------------------------

using one_word_at_a_time = pt::no_wide_store;
using both_words_at_once = wide_store<hardware>;

template <class Wide>
constexpr Wide wide_of(hardware& machine) {
    if constexpr (Wide::atomic) {
        return Wide{&machine};
    } else {
        return Wide{};
    }
}

/// What the device got while it hammered; reasons 1 and 2 are the only good ones.
struct seen {
    unsigned old_domain = 0;
    unsigned new_domain = 0;
    unsigned blocked = 0;
    unsigned other = 0;
};
template <class Hardware>
constexpr seen what_it_saw(const Hardware& machine) {
    seen all;
    for (std::size_t i = 0; i < machine.hammer.count; ++i) {
        const outcome& o = machine.hammer.seen[i];
        if (o.reached && o.translated && o.to == 0x10'0008) {
            ++all.old_domain;
        } else if (o.reached && o.translated && o.to == 0x20'0008) {
            ++all.new_domain;
        } else if (!o.reached && (o.reason == 0x1 || o.reason == 0x2)) {
            ++all.blocked;
        } else {
            ++all.other;
        }
    }
    return all;
}
template <class Hardware>
constexpr void hammer(Hardware& machine, bool runs = true) {
    machine.hammer.source_id = nic_id;
    machine.hammer.address = 0x1008;
    machine.hammer.write = true;
    machine.hammer.count = 0;
    machine.hammer.runs = runs;
}

template <class Wide>
constexpr bool moves_live(std::uint64_t variant, bool blocks_in_between) {
    hardware machine;
    machine.cap |= variant;
    scene<hardware, Wide> s{machine, wide_of<Wide>(machine)};
    bool ok = s.ready && s.root.attach(nic, s.through(), s.port) &&
              machine.dma(nic_id, 0x1008, true).to == 0x10'0008;
    hammer(machine);
    ok = ok && s.root.replace(nic, s.through_other(), s.port);
    machine.hammer.runs = false;
    const seen all = what_it_saw(machine);
    ok = ok && all.other == 0 && all.old_domain > 0 && (all.blocked > 0) == blocks_in_between;
    ok = ok && machine.dma(nic_id, 0x1008, true).to == 0x20'0008 &&
         s.root.translation_of(nic) == s.through_other();
    return s.leave() && ok;
}

TEST_CASE("a live function moves to another domain without a half entry", "[vtd][rule 14]") {
    static_assert(moves_live<one_word_at_a_time>(0, true));
    for (const std::uint64_t variant : {std::uint64_t{0}, cap_cm, cap_rwbf, cap_cm | cap_rwbf}) {
        CHECK(moves_live<one_word_at_a_time>(variant, true));
        CHECK(moves_live<both_words_at_once>(variant, false));
    }
}

TEST_CASE(
    "a move without a wide store clears present, forgets, writes the upper half, and present last",
    "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        bool ok = s.ready && s.root.attach(nic, s.through(), s.port);
        const std::uint64_t slot = machine.journal[3].where;
        const std::uint64_t from = s.domain.root().value().raw;
        const std::uint64_t to = s.other.root().value().raw;
        machine.forget_journal();
        ok = ok && s.root.replace(nic, s.through_other(), s.port);
        const event expected[] = {store(slot, from),
                                  order64(CCMD, context_device(nic_id, 7)),
                                  order64(IOTLB, iotlb_domain(7)),
                                  store(slot + 8, 0x801), // 3 levels, domain 8
                                  store(slot, to | 1),
                                  order64(CCMD, context_device(nic_id, 0)),
                                  order64(IOTLB, iotlb_domain(8))};
        ok = ok && happened(machine, expected);
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a wide store moves a function in one step, and the old domain is forgotten",
          "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene<hardware, both_words_at_once> s{machine, {&machine}};
        bool ok = s.ready && s.root.attach(nic, s.through(), s.port);
        const std::uint64_t slot = machine.journal[3].where;
        const std::uint64_t to = s.other.root().value().raw;
        machine.forget_journal();
        ok = ok && s.root.replace(nic, s.through_other(), s.port);
        const event expected[] = {store(slot, to | 1), order64(CCMD, context_device(nic_id, 7)),
                                  order64(IOTLB, iotlb_domain(7))};
        return happened(machine, expected) && s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("silencing a function is one store, and never blocks it", "[vtd][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        bool ok = s.ready && s.root.attach(nic, s.through(), s.port);
        const std::uint64_t slot = machine.journal[3].where;
        const std::uint64_t top = s.domain.root().value().raw;
        machine.forget_journal();
        hammer(machine);
        ok = ok && s.root.replace(nic, s.through().with_faults_disabled(), s.port);
        machine.hammer.runs = false;
        const event expected[] = {store(slot, top | 3), order64(CCMD, context_device(nic_id, 7)),
                                  order64(IOTLB, iotlb_domain(7))};
        const seen all = what_it_saw(machine);
        ok = ok && happened(machine, expected) && all.blocked == 0 && all.other == 0;
        // Blocked, and not a word of it.
        ok = ok && machine.dma(nic_id, 0x5000, true).reason == 0x5 && machine.read32(FSTS) % 4 == 0;
        ok = ok && s.root.replace(nic, s.through(), s.port) &&
             machine.dma(nic_id, 0x5000, true).reason == 0x5 && machine.read32(FSTS) % 4 == 2;
        return s.leave() && ok;
    };
    static_assert(works());
    REQUIRE(works());
}

// The invalidations of a move are orders 1 and 2 or, where the function is blocked in between, 1 to
// 4.
template <class Wide>
void a_move_that_fails(bool refused, std::uint64_t variant, unsigned n, bool repeated) {
    CAPTURE(Wide::atomic, refused, variant, n, repeated);
    const auto machine = std::make_unique<hardware>();
    machine->cap |= variant;
    scene<hardware, Wide> s{*machine, wide_of<Wide>(*machine)};
    REQUIRE(s.ready);
    REQUIRE(s.root.attach(nic, s.through(), s.port));
    (refused ? machine->refuse_at : machine->stall_at) = machine->orders + n;
    hammer(*machine);
    const auto moved = s.root.replace(nic, s.through_other(), s.port);
    machine->hammer.runs = false;
    REQUIRE_FALSE(moved);
    CHECK(moved.error().code == (refused ? errc::hardware_fault : errc::time_out));
    CHECK(what_it_saw(*machine).other == 0);
    const outcome meanwhile = machine->dma(nic_id, 0x1008, true);
    CHECK((!meanwhile.reached || meanwhile.to == 0x10'0008 || meanwhile.to == 0x20'0008));
    machine->recover();
    if (repeated) {
        REQUIRE(s.root.replace(nic, s.through_other(), s.port));
        CHECK(machine->dma(nic_id, 0x1008, true).to == 0x20'0008);
        CHECK(s.root.translation_of(nic) == s.through_other());
    } else {
        REQUIRE(s.root.detach(nic, s.port));
        const unsigned reason = machine->dma(nic_id, 0x1008, true).reason;
        CHECK(reason == 0x2);
        REQUIRE(s.root.attach(nic, s.through(), s.port));
        CHECK(machine->dma(nic_id, 0x1008, true).to == 0x10'0008);
    }
    CHECK(s.leave());
    CHECK(machine->violation == nullptr);
}

TEST_CASE("a move that fails leaves the old, the new or nothing, and can be repeated or undone",
          "[vtd][rule 14][hostile]") {
    for (const bool refused : {false, true}) {
        for (const bool repeated : {false, true}) {
            for (const std::uint64_t variant : {std::uint64_t{0}, cap_cm}) {
                for (unsigned n = 1; n <= 4; ++n) {
                    a_move_that_fails<one_word_at_a_time>(refused, variant, n, repeated);
                    if (n <= 2) {
                        a_move_that_fails<both_words_at_once>(refused, variant, n, repeated);
                    }
                }
            }
        }
    }
}

TEST_CASE("after a failed move in one step, whatever comes next begins with everything",
          "[vtd][rule 14][hostile]") {
    const auto machine = std::make_unique<hardware>();
    scene<hardware, both_words_at_once> s{*machine, {machine.get()}};
    REQUIRE(s.ready);
    REQUIRE(s.root.attach(nic, s.through(), s.port));
    REQUIRE(machine->dma(nic_id, 0x1008, true).to == 0x10'0008);
    machine->refuse_at = machine->orders + 1;
    REQUIRE_FALSE(s.root.replace(nic, s.through_other(), s.port));
    machine->recover();
    // The unit still has domain 7 for it, which no entry names any more.
    CHECK(machine->dma(nic_id, 0x1008, true).to == 0x10'0008);
    machine->forget_journal();
    const std::size_t held = machine->in_use;
    machine->refuse_at = machine->orders + 1;
    constexpr function_address another{0, 9, 0, 0};
    CHECK(s.root.attach(another, s.through(), s.port).error().code == errc::hardware_fault);
    CHECK((machine->in_use == held && machine->events == 1)); // nothing was changed
    machine->forget_journal();
    REQUIRE(s.root.attach(another, s.through(), s.port));
    CHECK(machine->journal[0] == order64(CCMD, 0xA000'0000'0000'0000));
    CHECK(machine->journal[1] == order64(IOTLB, 0x9003'0000'0000'0000));
    CHECK(machine->dma(nic_id, 0x1008, true).to == 0x20'0008);
    // And once is enough.
    machine->forget_journal();
    REQUIRE(s.root.detach(another, s.port));
    CHECK(machine->journal[0].what == event::kind::publish);
    CHECK(s.leave());
}

// ---- device TLBs, which only the queue reaches
// ------------------------------------------------------

/// Writes down what it is asked for.
struct recorder {
    static constexpr std::size_t room = 64;
    std::uint64_t asked[room][2]{};
    std::size_t count = 0;
    std::size_t fail_at = room; ///< the index of the request that fails

    constexpr pt::result<void> submit(const pt::vtd::invalidation_descriptor& request) {
        asked[count][0] = request.word[0];
        asked[count][1] = request.word[1];
        if (count++ == fail_at) {
            return error{errc::time_out, 0x80};
        }
        return {};
    }
    constexpr pt::result<void> complete() { return {}; }
    [[nodiscard]] constexpr pt::vtd::capability capabilities() const {
        return pt::vtd::capability{qemu_cap};
    }
    [[nodiscard]] constexpr pt::vtd::extended_capability extended_capabilities() const {
        return pt::vtd::extended_capability{qemu_ecap | 0x4 | std::uint64_t{1} << 41}; // DT, DIT
    }
    template <std::size_t N>
    constexpr bool was_asked(const std::uint64_t (&expected)[N]) {
        bool same = count == N;
        for (std::size_t i = 0; i < count && same; ++i) {
            same = asked[i][0] == expected[i];
            // A device TLB is always emptied as a whole.
            same = same && asked[i][1] == ((expected[i] & 15) == 3 ? 0x7FFF'FFFF'FFFF'F001 : 0);
        }
        count = 0;
        return same;
    }
};

// As the queue's descriptors have it: context cache of the function, IOTLB of the domain, device
// TLB.
constexpr std::uint64_t queued_context(std::uint16_t domain_id) {
    return std::uint64_t{nic_id} << 32 | std::uint64_t{domain_id} << 16 | 0x31;
}
constexpr std::uint64_t queued_iotlb(std::uint16_t domain_id) {
    return std::uint64_t{domain_id} << 16 | 0xE2;
}
// Of a virtual function whose physical function is 0x0107, with 5 invalidations pending at most.
constexpr std::uint64_t queued_device_tlb =
    std::uint64_t{0x010} << 52 | std::uint64_t{nic_id} << 32 | 5U << 16 | 7U << 12 | 3;
constexpr pt::vtd::attached_function virtual_nic{nic, 0x0107, 5};

TEST_CASE("a device TLB is emptied after the IOTLB, and before its function is said to have none",
          "[vtd][ats][rule 14]") {
    constexpr auto works = [] {
        hardware machine;
        recorder port;
        root_table_of<hardware, both_words_at_once> root{
            std::move(*root_table_of<hardware, both_words_at_once>::create(
                {&machine}, pt::vtd::table_mode::legacy, {&machine}, {&machine}))};
        const pt::vtd::second_stage::format walked{{.levels = 4}};
        const auto first = translation::second_stage(hpa{0x5000}, walked, 7).with_device_tlb();
        const auto second = translation::second_stage(hpa{0x6000}, walked, 8).with_device_tlb();
        const auto without = translation::second_stage(hpa{0x6000}, walked, 8);
        // ATS is not on yet when a function is attached: its device TLB would not answer.
        bool ok = root.attach(virtual_nic, first, port) &&
                  port.was_asked({queued_context(0), queued_iotlb(7)});
        // In one step, when it has one before and after.
        machine.forget_journal();
        ok = ok && root.replace(virtual_nic, second, port) && machine.events == 1 &&
             port.was_asked({queued_context(7), queued_iotlb(7), queued_device_tlb});
        // Not in one step, although it is one word. As long as it fails, it is asked for again.
        port.fail_at = 2;
        ok = ok && root.replace(virtual_nic, without, port) == error{errc::time_out, 0x80} &&
             port.was_asked({queued_context(8), queued_iotlb(8), queued_device_tlb});
        ok = ok && root.translation_of(nic) == error{errc::busy, 8};
        port.fail_at = recorder::room;
        ok = ok && root.replace(virtual_nic, without, port) &&
             port.was_asked({queued_context(8), queued_iotlb(8), queued_device_tlb,
                             queued_context(0), queued_iotlb(8)});
        ok = ok && root.replace(virtual_nic, first, port) &&
             port.was_asked({queued_context(8), queued_iotlb(8)});
        ok = ok && root.detach(virtual_nic, port) &&
             port.was_asked({queued_context(7), queued_iotlb(7), queued_device_tlb});
        return root.retire(port) && ok && machine.in_use == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("retire gives every frame back, but only after the caches are empty", "[vtd]") {
    for (unsigned n = 0; n <= 2; ++n) {
        const auto machine = std::make_unique<hardware>();
        scene s{*machine};
        REQUIRE(s.ready);
        for (const unsigned bus : {0U, 1U, 128U, 255U}) {
            REQUIRE(s.root.attach(function_address{0, static_cast<std::uint8_t>(bus), 3, 0},
                                  s.through(), s.port));
        }
        REQUIRE(machine->dma(0x8018, 0x1000, false).reached);
        const std::size_t held = machine->in_use;
        REQUIRE(s.switch_off());
        machine->forget_journal();
        if (n != 0) {
            machine->stall_at = machine->orders + n;
            CHECK(s.root.retire(s.port) == error{errc::time_out, n == 1 ? CCMD : IOTLB});
            CHECK(machine->in_use == held);
            CHECK(s.root.translation_of({0, 128, 3, 0}) == s.through());
            machine->recover();
            machine->forget_journal();
        }
        REQUIRE(s.root.retire(s.port));
        CHECK(machine->in_use == held - 5); // root and four context tables
        REQUIRE(machine->events == 7);
        CHECK(machine->journal[0] == order64(CCMD, 0xA000'0000'0000'0000));
        CHECK(machine->journal[1] == order64(IOTLB, 0x9003'0000'0000'0000));
        for (std::size_t i = 2; i < 7; ++i) {
            CHECK(machine->journal[i].what == event::kind::release);
        }
        CHECK(machine->cached_contexts() == 0);
        CHECK(machine->cached_translations() == 0);
        CHECK(s.root.retire(s.port)); // nothing more to give
        CHECK(machine->events == 7);
        CHECK(s.leave());
    }
}

TEST_CASE("a root table needs one frame, says so, and moves", "[vtd]") {
    const auto machine = std::make_unique<hardware>();
    machine->limit = 0;
    CHECK(root_table::create({machine.get()}, pt::vtd::table_mode::legacy, {machine.get()})
              .error()
              .code == errc::out_of_frames);
    machine->limit = 1;
    auto made = root_table::create({machine.get()}, pt::vtd::table_mode::legacy, {machine.get()});
    REQUIRE(made);
    const hpa top = made->root();
    root_table moved = std::move(*made);
    CHECK(moved.root() == top);
    port_of<hardware> port{window_over(*machine)};
    CHECK(moved.retire(port));
    CHECK(machine->in_use == 0);
    CHECK(machine->violation == nullptr);
}

TEST_CASE("a unit that never answers costs its tables, and nothing else", "[vtd][hostile]") {
    constexpr auto works = [] {
        hardware machine;
        scene s{machine};
        bool ok = s.ready && s.root.attach(nic, s.through(), s.port);
        const std::size_t held = machine.in_use;
        machine.gone = true;
        ok = ok && s.root.retire(s.port) == error{errc::absent, GSTS} && machine.in_use == held;
        s.root.leak();
        auto owed = s.domain.retire();
        ok = ok && owed.redeem(s.invalidator) == error{errc::absent, GSTS};
        owed.leak();
        auto other_owed = s.other.retire();
        other_owed.leak();
        // Hardware may walk them still: not one has come home, and root and domain may go away.
        return ok && machine.in_use == held && machine.violations == 0;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("a root table is not used after it was retired, leaked or moved, nor dropped before",
          "[vtd][contract]") {
    using paging_model::breaks_contract;
    const auto machine = std::make_unique<hardware>();
    port_of<hardware> port{window_over(*machine)};
    const auto through = translation::second_stage(hpa{0x5000}, format_of(*machine), 7);
    const auto with_table = [&](auto use) {
        return breaks_contract([&] {
            auto root =
                root_table::create({machine.get()}, pt::vtd::table_mode::legacy, {machine.get()});
            use(*root);
        });
    };
    const auto retired = [&](root_table& root) { return root.retire(port).has_value(); };
    const auto leaked = [](root_table& root) {
        root.leak();
        return true;
    };
    const auto moved = [&](root_table& root) {
        root_table other = std::move(root);
        return other.retire(port).has_value();
    };
    CHECK(with_table([](root_table&) {})); // dropped
    const auto check = [&](auto end) {
        CHECK_FALSE(with_table([&](root_table& root) { (void)end(root); }));
        CHECK_FALSE(with_table([&](root_table& root) {
            (void)end(root);
            (void)retired(root); // says so, and does nothing
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.root();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.attach(nic, through, port).has_value();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.detach(nic, port).has_value();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.replace(nic, through, port).has_value();
        }));
        CHECK(with_table([&](root_table& root) {
            (void)end(root);
            (void)root.translation_of(nic).has_value();
        }));
    };
    check(retired);
    check(leaked);
    check(moved);
}

} // namespace
