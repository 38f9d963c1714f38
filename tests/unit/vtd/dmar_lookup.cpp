// SPDX-License-Identifier: BSL-1.0
//
// Which unit serves a function, which memory is reserved for it, whether it may use a device TLB:
// on a machine written out by hand, on bridges that lie, and on random machines against a model
// that knows who is whose parent and no bus numbers.
#include "../../vtd_model/dmar_builder.hpp"

#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/device_tlb_report.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/reserved_regions.hpp"
#include "pt/vtd/scope_resolution.hpp"
#include "pt/vtd/unit_lookup.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

using pt::errc;
using pt::error;
using pt::hpa;
using pt::pci::function_address;
using namespace pt::vtd;
using builder = vtd_model::dmar_builder;

namespace {

constexpr std::uint32_t numbers(unsigned primary, unsigned secondary, unsigned subordinate) {
    return subordinate << 16 | secondary << 8 | primary; // [pci-bridge] the dword at 0x18
}

/// In both segments:
///   00:02.0
///   00:1c.0 bridge --- 01:00.0 bridge -+- 02:00.0 bridge --- 03:00.0, 03:00.1
///                                      `- 02:01.0 bridge --- 04:00.0
///   00:1c.4 bridge --- 05:00.0
///   00:1d.0 bridge, secondary bus 0xFF above its subordinate
///   00:1e.0 bridge without buses
struct machine {
    constexpr pt::result<pt::pci::bus_numbers> read(function_address bridge) {
        std::uint32_t found = 0;
        switch (bridge.source_id()) {
        case 0x00E0: found = numbers(0, 1, 4); break;
        case 0x0100: found = numbers(1, 2, 4); break;
        case 0x0200: found = numbers(2, 3, 3); break;
        case 0x0208: found = numbers(2, 4, 4); break;
        case 0x00E4: found = numbers(0, 5, 5); break;
        case 0x00E8: found = numbers(0, 0xFF, 0xFE); break;
        case 0x00F0: found = numbers(0, 0, 0); break;
        default: return error{errc::absent, bridge.source_id()};
        }
        return pt::pci::bus_numbers{found};
    }
};

constexpr function_address at(unsigned source_id, unsigned segment = 0) {
    return function_address::from_source_id(static_cast<std::uint16_t>(source_id),
                                            static_cast<std::uint16_t>(segment));
}

/// The only scope of the only structure of a table.
struct one_scope {
    std::vector<std::uint8_t> bytes;

    constexpr one_scope(unsigned type, unsigned bus, const std::vector<unsigned>& path)
        : bytes{builder{}.drhd(0, 0, 0).scope(type, 0, bus, path).end().table()} {}

    [[nodiscard]] constexpr device_scope scope() const {
        const auto table = dmar::read(bytes.data(), bytes.size());
        return *(*table->each<drhd>().begin()).scopes.begin();
    }
    [[nodiscard]] constexpr pt::result<function_address> resolve() const {
        return pt::vtd::resolve(scope(), 0, machine{});
    }
    [[nodiscard]] constexpr pt::result<bool> covers(unsigned source_id) const {
        return pt::vtd::covers(scope(), 0, at(source_id), machine{});
    }
};

constexpr pt::result<dmar> read(const std::vector<std::uint8_t>& bytes) {
    return dmar::read(bytes.data(), bytes.size());
}

/// Two units with scopes, one that includes all, and the same numbers in another segment.
constexpr std::vector<std::uint8_t> usual_table() {
    return builder{}
        .drhd(0, 0, 0xFED9'0000)
        .scope(1, 0, 0, {0x02, 0})
        .scope(1, 0, 0, {0x05, 0})
        .end()
        .drhd(0, 0, 0xFED9'1000)
        .scope(2, 0, 0, {0x1C, 0})
        .end()
        .drhd(0, 1, 0xFED9'2000)
        .scope(3, 8, 0xF0, {0x1F, 0})
        .scope(4, 0, 0xF0, {0x0F, 0})
        .scope(5, 1, 0, {0x15, 0})
        .end()
        .drhd(0, 0, 0xFED9'3000, 1)
        .scope(1, 0, 0, {0x1F, 3})
        .scope(3, 9, 0, {0x1C, 0, 0x1E, 7})
        .scope(3, 10, 0, {0x1E, 0, 0, 0})
        .end()
        .table();
}

/// The index of the unit; 99 for an error.
constexpr std::size_t unit_of(const dmar& table, requester who) {
    const auto unit = unit_for(table, who, machine{});
    return unit ? unit->index : 99;
}

} // namespace

TEST_CASE("a scope's path is followed through secondary buses", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        return one_scope{1, 0, {2, 0}}.resolve().value() == at(0x0010) &&
               one_scope{1, 0, {0x1C, 0, 0, 0, 0, 0, 0, 1}}.resolve().value() == at(0x0301) &&
               one_scope{1, 0, {0x1C, 0, 0, 0, 1, 0, 0, 0}}.resolve().value() == at(0x0400) &&
               one_scope{1, 2, {1, 0, 0, 0}}.resolve().value() == at(0x0400) &&
               one_scope{3, 0xF0, {31, 7}}.resolve().value() == at(0xF0FF) &&
               // Nobody asks whether the last one is there.
               one_scope{1, 0, {0x1C, 4, 9, 5}}.resolve().value() == at(0x054D);
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("a scope that cannot be followed says where", "[vtd][dmar][rule 20]") {
    CHECK(one_scope{1, 0, {32, 0}}.resolve().error() == error{errc::out_of_range, 0});
    CHECK(one_scope{1, 0, {0, 8}}.resolve().error() == error{errc::out_of_range, 0});
    CHECK(one_scope{1, 0, {0x1C, 0, 0xFF, 0xFF}}.resolve().error() == error{errc::out_of_range, 1});
    CHECK(one_scope{1, 0, {2, 0, 0, 0}}.resolve().error() == error{errc::absent, 0x0010});
    CHECK(one_scope{1, 0, {0x1C, 0, 0, 0, 2, 0, 0, 0}}.resolve().error() ==
          error{errc::absent, 0x0210});
    CHECK(one_scope{1, 0, {0x1E, 0, 0, 0}}.resolve().error() == error{errc::absent, 0x00F0});
    CHECK(one_scope{1, 0, {0x1D, 0, 0, 0}}.resolve().error() == error{errc::malformed, 0x00E8});
    // Bytes that changed after they were checked: no hop is left.
    CHECK(
        resolve(device_scope{device_scope_type::pci_endpoint, 0, 0, 0, {}}, 0, machine{}).error() ==
        error{errc::out_of_range, 0});
    CHECK(
        covers(device_scope{device_scope_type::pci_sub_hierarchy, 0, 0, 0, {}}, 0, at(0), machine{})
            .error() == error{errc::out_of_range, 0});
}

TEST_CASE("an endpoint scope covers one function", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const one_scope graphics{1, 0, {2, 0}};
        const one_scope nic{1, 0, {0x1C, 0, 0, 0, 0, 0, 0, 0}};
        const one_scope bridge{1, 0, {0x1C, 0}};
        const one_scope behind_none{1, 0, {0x1E, 0, 0, 0}};
        return *graphics.covers(0x0010) && !*graphics.covers(0x0011) && !*graphics.covers(0x0110) &&
               *nic.covers(0x0300) && !*nic.covers(0x0301) && !*nic.covers(0x0200) &&
               !*nic.covers(0x0400) && !*nic.covers(0x0000) && *bridge.covers(0x00E0) &&
               !*bridge.covers(0x0300) && !*behind_none.covers(0x0100);
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("a bridge scope covers the bridge and everything behind it", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const one_scope port{2, 0, {0x1C, 0}};
        const one_scope upstream{2, 0, {0x1C, 0, 0, 0}};
        const one_scope downstream{2, 0, {0x1C, 0, 0, 0, 1, 0}};
        const one_scope no_bridge{2, 0, {2, 0}};
        const one_scope no_buses{2, 0, {0x1E, 0}};
        return *port.covers(0x00E0) && *port.covers(0x0100) && *port.covers(0x0300) &&
               *port.covers(0x0401) && !*port.covers(0x0500) && !*port.covers(0x00E4) &&
               !*port.covers(0x0010) && *upstream.covers(0x0100) && *upstream.covers(0x0208) &&
               !*upstream.covers(0x0101) && !*upstream.covers(0x00E0) &&
               *downstream.covers(0x0208) && *downstream.covers(0x0400) &&
               !*downstream.covers(0x0300) && !*downstream.covers(0x0200) &&
               *no_bridge.covers(0x0010) && !*no_bridge.covers(0x0100) &&
               *no_buses.covers(0x00F0) && !*no_buses.covers(0x0100);
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("scopes of numbered devices cover no function", "[vtd][dmar]") {
    for (const unsigned type : {0U, 3U, 4U, 5U, 6U, 0xFFU}) {
        CAPTURE(type);
        CHECK_FALSE(one_scope(type, 0, {2, 0}).covers(0x0010).value());
    }
}

TEST_CASE("a scope covers functions of its own segment", "[vtd][dmar][rule 20]") {
    const one_scope graphics{1, 0, {2, 0}};
    const one_scope port{2, 0, {0x1C, 0}};
    for (const unsigned segment : {0U, 1U, 0xFFFFU}) {
        CAPTURE(segment);
        const auto own = static_cast<std::uint16_t>(segment);
        CHECK(covers(graphics.scope(), own, at(0x0010, segment), machine{}).value());
        CHECK(covers(port.scope(), own, at(0x0300, segment), machine{}).value());
        CHECK_FALSE(covers(graphics.scope(), own, at(0x0010, segment ^ 1), machine{}).value());
        CHECK_FALSE(covers(port.scope(), own, at(0x0300, segment ^ 1), machine{}).value());
    }
}

TEST_CASE("wrong bus numbers are an error where they matter", "[vtd][dmar][rule 20]") {
    const one_scope broken{2, 0, {0x1D, 0}};
    CHECK(broken.covers(0xFF00).error() == error{errc::malformed, 0x00E8});
    CHECK(broken.covers(0x0100).error() == error{errc::malformed, 0x00E8});
    CHECK(broken.covers(0x00E8).value());       // the bridge itself
    CHECK_FALSE(broken.covers(0x0010).value()); // nothing on its own bus is behind it
    CHECK(one_scope(2, 0, {0x1C, 0, 0, 9}).covers(0x0300).error() == error{errc::out_of_range, 1});
}

TEST_CASE("which unit: named before include-all, segments apart", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const auto bytes = usual_table();
        const dmar table = *read(bytes);
        return unit_of(table, at(0x0010)) == 0 && unit_of(table, at(0x00E0)) == 1 &&
               unit_of(table, at(0x0300)) == 1 && unit_of(table, at(0x0400)) == 1 &&
               unit_of(table, at(0x0500)) == 2 && unit_of(table, at(0xFFFF)) == 2 &&
               unit_of(table, at(0x00FB, 1)) == 3 && unit_of(table, at(0x0010, 1)) == 99 &&
               unit_for(table, at(0x0010, 1), machine{}).error() == error{errc::absent, 0x0010} &&
               unit_for(table, at(0x0300), machine{})->definition.register_base == hpa{0xFED9'1000};
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("which unit: include-all comes last wherever it stands", "[vtd][dmar][rule 20]") {
    const auto bytes = builder{}
                           .drhd(16, 1, 0xFED9'0000)
                           .drhd(16, 1, 0xFED9'1000)
                           .drhd(0, 0, 0xFED9'2000)
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .drhd(0, 0, 0xFED9'3000)
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .table();
    const dmar table = read(bytes).value();
    CHECK(unit_of(table, at(0x0010)) == 2); // the first of those that name it
    CHECK(unit_of(table, at(0x0018)) == 0); // the first of those that include all
}

TEST_CASE("which unit: a scope that an include-all unit has of its own", "[vtd][dmar]") {
    const auto bytes = builder{}
                           .drhd(0, 1, 0)
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .drhd(0, 0, 0x1000)
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .table();
    CHECK(unit_of(read(bytes).value(), at(0x0010)) == 0);
}

TEST_CASE("which unit: virtual and extended functions are where theirs is",
          "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const auto bytes = usual_table();
        const dmar table = *read(bytes);
        // 00:05.0 is named by unit 0; its virtual functions are on a bus that unit 2 would serve.
        const auto vf = requester::virtual_function(at(0x4000), at(0x0028));
        // 03:00.x with numbers above 7: as 03:00.0.
        const auto extended = requester::extended_function(at(0x034A));
        const auto vf_of_extended =
            requester::virtual_function(at(0x0512), requester::extended_function(at(0x0309)));
        return unit_of(table, at(0x4000)) == 2 && unit_of(table, vf) == 0 &&
               vf.function() == at(0x4000) && vf.named() == at(0x0028) &&
               extended.named() == at(0x0300) && vf_of_extended.named() == at(0x0300) &&
               unit_of(table, extended) == 1 && unit_of(table, at(0x0512)) == 2 &&
               unit_of(table, vf_of_extended) == 1 && requester{at(0x0010)}.named() == at(0x0010);
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("which unit: what might name it is not passed over", "[vtd][dmar][rule 20]") {
    const auto with = [](unsigned device, unsigned function, bool named) {
        builder made;
        made.drhd(0, 0, 0).scope(2, 0, 0, {device, function}).end();
        if (named) {
            made.drhd(0, 0, 0x1000).scope(1, 0, 0xFF, {0, 0}).end();
        }
        return made.drhd(16, 1, 0x2000).table();
    };
    const auto lookup = [](const std::vector<std::uint8_t>& bytes) {
        return unit_for(read(bytes).value(), at(0xFF00), machine{});
    };
    CHECK(lookup(with(0x1D, 0, false)).error() == error{errc::malformed, 48});
    CHECK(lookup(with(0x20, 0, false)).error() == error{errc::out_of_range, 48});
    CHECK(lookup(with(0x1D, 0, true))->index == 1);
    CHECK(lookup(with(0x20, 0, true))->index == 1);
    // A bridge that is not there has nothing behind it; tables name many of those.
    CHECK(lookup(with(0x13, 0, false))->index == 1);
    CHECK(lookup(with(0x1E, 0, false))->index == 1);
}

TEST_CASE("I/O APICs, HPETs and ACPI devices by their numbers", "[vtd][dmar][rule 19]") {
    constexpr auto holds = [] {
        using type = device_scope_type;
        const auto bytes = usual_table();
        const dmar table = *read(bytes);
        const auto find = [&](type what, std::uint8_t number) {
            return unit_for(table, what, number, machine{});
        };
        const auto io_apic = find(type::io_apic, 8);
        const auto hpet = find(type::msi_capable_hpet, 0);
        const auto device = find(type::acpi_namespace_device, 1);
        const auto far = find(type::io_apic, 9);
        return io_apic->unit.index == 2 && io_apic->source == at(0xF0F8) && hpet->unit.index == 2 &&
               hpet->source == at(0xF078) && device->unit.index == 2 &&
               device->source == at(0x00A8) && far->unit.index == 3 &&
               far->unit.definition.segment == 1 && far->source == at(0x01F7, 1) &&
               find(type::io_apic, 0).error() == error{errc::absent, 0} &&
               find(type::msi_capable_hpet, 8).error() == error{errc::absent, 8};
    };
    static_assert(holds());
    REQUIRE(holds());
    const auto bytes = usual_table();
    // The offset of the fourth DRHD: after 48 + (16 + 8 + 8) + (16 + 8) + (16 + 8 + 8 + 8).
    CHECK(unit_for(read(bytes).value(), device_scope_type::io_apic, 10, machine{}).error() ==
          error{errc::absent, 144});
}

TEST_CASE("reserved regions of a function", "[vtd][dmar][rule 20]") {
    constexpr auto holds = [] {
        const auto bytes = builder{}
                               .drhd(16, 1, 0xFED9'0000)
                               .rmrr(0, 0x7B80'0000, 0x7FFF'FFFF) // 64
                               .scope(1, 0, 0, {2, 0})
                               .end()
                               .rmrr(0, 0x1000, 0x1FFF) // 96
                               .scope(1, 0, 0, {3, 0})
                               .scope(2, 0, 0, {0x1C, 0})
                               .end()
                               .rmrr(0, 0x5000, 0x6FFF, 1) // 136
                               .scope(1, 0, 0, {2, 0})
                               .end()
                               .rmrr(0, 0x3000, 0x4FFF) // 168
                               .scope(1, 0, 0, {2, 0})
                               .end()
                               .table();
        const dmar table = *read(bytes);
        const auto of = [&](requester who) { return reserved_regions(table, who, machine{}); };
        const auto graphics = of(at(0x0010));
        auto region = graphics.begin();
        const bool first = (*region)->offset == 64 &&
                           (*region)->memory == pt::range<hpa>{hpa{0x7B80'0000}, 0x480'0000};
        auto before = region++;
        const bool second = before == graphics.begin() && region != before &&
                            (*region)->offset == 168 &&
                            (*region)->memory == pt::range<hpa>{hpa{0x3000}, 0x2000};
        ++region;
        const auto size = [](const auto& regions) {
            std::size_t n = 0;
            for (const auto each : regions) {
                n += each.has_value() ? 1 : 100;
            }
            return n;
        };
        return first && second && region == graphics.end() && size(of(at(0x0018))) == 1 &&
               size(of(at(0x0400))) == 1 && size(of(at(0x0500))) == 0 &&
               size(of(at(0x0010, 1))) == 1 &&
               size(of(requester::virtual_function(at(0x7777), at(0x0300)))) == 1;
    };
    static_assert(holds());
    REQUIRE(holds());
}

TEST_CASE("reserved regions that are wrong are errors, not gone", "[vtd][dmar][rule 20]") {
    const auto bytes = builder{}
                           .rmrr(0, 0x2000, 0x1FFF) // 48: the limit below the base
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .rmrr(0, 0x2000, 0x3000) // 80: its last page is not whole
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .rmrr(0, 0, ~0ULL) // 112: everything
                           .scope(1, 0, 0, {2, 0})
                           .end()
                           .rmrr(0, 0x9000, 0x9FFF) // 144: for whom?
                           .scope(2, 0, 0, {0x1D, 0})
                           .end()
                           .rmrr(0, 0xA000, 0xAFFF) // 176: for whom?
                           .scope(1, 0, 0, {0x1C, 9})
                           .end()
                           .rmrr(0, 0xB000, 0xBFFF) // 208: clear enough
                           .scope(2, 0, 0, {0x1D, 0})
                           .scope(1, 0, 5, {0, 0})
                           .end()
                           .table();
    const dmar table = read(bytes).value();
    const auto errors = [&](unsigned source_id) {
        std::vector<error> found;
        for (const auto region : reserved_regions(table, at(source_id), machine{})) {
            found.push_back(region ? error{errc::none, region->offset} : region.error());
        }
        return found;
    };
    CHECK(errors(0x0010) == std::vector<error>{{errc::malformed, 48},
                                               {errc::misaligned, 80},
                                               {errc::malformed, 112},
                                               {errc::out_of_range, 176}});
    CHECK(errors(0x0500) ==
          std::vector<error>{{errc::malformed, 144}, {errc::out_of_range, 176}, {errc::none, 208}});
    CHECK(errors(0x0018) == std::vector<error>{{errc::out_of_range, 176}});
}

TEST_CASE("whether a function may use a device TLB", "[vtd][dmar]") {
    constexpr auto holds = [] {
        const auto bytes = builder{}
                               .satc(0, 0)
                               .scope(1, 0, 0, {2, 0})
                               .scope(1, 0, 0, {3, 0})
                               .end()
                               .satc(0, 1)
                               .scope(1, 0, 0, {3, 0})
                               .end()
                               .atsr(0, 0)
                               .scope(2, 0, 0, {0x1C, 0})
                               .end()
                               .atsr(8, 1, 2)
                               .table();
        const dmar table = *read(bytes);
        const auto report = [&](requester who) {
            return *device_tlb_report_of(table, who, machine{});
        };
        using is = device_tlb_report;
        return report(at(0x0010)) == is::allowed && report(at(0x0018)) == is::required &&
               report(at(0x0300)) == is::allowed && report(at(0x0500)) == is::none &&
               report(at(0x0300, 1)) == is::none && report(at(0x1234, 2)) == is::allowed &&
               report(requester::virtual_function(at(0x4000), at(0x0018))) == is::required;
    };
    static_assert(holds());
    REQUIRE(holds());
    const auto bytes = builder{}
                           .atsr(0, 0)
                           .scope(2, 0, 0, {0x1D, 0})
                           .end()
                           .atsr(0, 0)
                           .scope(2, 0, 0, {0x1C, 4})
                           .end()
                           .table();
    const dmar table = read(bytes).value();
    CHECK(device_tlb_report_of(table, at(0x0500), machine{}).value() == device_tlb_report::allowed);
    CHECK(device_tlb_report_of(table, at(0xFF00), machine{}).error() == error{errc::malformed, 48});
    CHECK(device_tlb_report_of(table, at(0x0010), machine{}).value() == device_tlb_report::none);
}

// ---------------------------------------------------------------------------- hostile bridges

namespace {

constexpr std::uint32_t chain = ~std::uint32_t{0};

/// Answers as told, or as in a chain of bridges, and counts.
struct counted {
    std::uint32_t answer;
    std::size_t* asked;

    pt::result<pt::pci::bus_numbers> read(function_address bridge) {
        CHECK(bridge.valid());
        ++*asked;
        return pt::pci::bus_numbers{answer == chain ? numbers(0, bridge.bus + 1U, 0xFF) : answer};
    }
};

} // namespace

TEST_CASE("no bus numbers make a lookup long: one question for each hop", "[vtd][dmar][rule 20]") {
    std::vector<unsigned> deepest;
    for (unsigned hop = 0; hop < 124; ++hop) { // 6 + 2 * 124 = 254, the longest even length
        deepest.insert(deepest.end(), {1, 0});
    }
    const auto bytes = builder{}.drhd(0, 0, 0).scope(2, 0, 0, deepest).end().table();
    const dmar table = read(bytes).value();
    const auto scope = *(*table.each<drhd>().begin()).scopes.begin();
    std::size_t asked = 0;
    // A chain of bridges, each on the bus of the one before.
    CHECK(resolve(scope, 0, counted{chain, &asked}).value() == function_address{0, 123, 1, 0});
    CHECK(asked == 123);
    asked = 0;
    CHECK(unit_for(table, at(0xFF00), counted{chain, &asked})->index == 0);
    CHECK(asked == 124);
    // Bridges that lead to themselves, backwards, everywhere.
    for (const auto& [secondary, subordinate] :
         {std::pair{0U, 255U}, {1U, 255U}, {255U, 255U}, {255U, 0U}, {5U, 5U}, {0U, 0U}}) {
        for (unsigned function = 0; function < 0x1'0000; function += 0x55) {
            asked = 0;
            const auto found =
                unit_for(table, at(function), counted{numbers(0, secondary, subordinate), &asked});
            CHECK(asked <= 2);
            // Only bus 0 with a path of one hop could match, and this one is longer.
            CHECK_FALSE(found.has_value());
        }
    }
}

// ---------------------------------------------------------------------------- random machines

namespace {

/// A function of a random machine, and whose it is. The buses are numbered afterwards, depth first,
/// as firmware does; the model below never looks at them.
struct node {
    std::size_t parent = 0; // itself for those on the first bus
    bool bridge = false;
    function_address address;
    unsigned secondary = 0;
    unsigned subordinate = 0;
};

struct random_machine {
    std::vector<node> nodes;
    std::mt19937 random;

    explicit random_machine(unsigned seed) : random{seed} {
        for (const unsigned segment : {0U, 7U}) {
            unsigned next_bus = below(2) * 0x20;
            fill(segment, next_bus, nullptr, 0, next_bus);
        }
    }
    unsigned below(unsigned end) { return static_cast<unsigned>(random() % end); }

    /// The functions of a bus, and of those behind it.
    void fill(unsigned segment, unsigned bus, const std::size_t* parent, unsigned depth,
              unsigned& last_bus) {
        std::set<unsigned> places;
        for (unsigned i = 0; i < (depth == 0 ? 6U : 1 + below(3)); ++i) {
            places.insert(below(depth == 0 ? 256 : 24));
        }
        for (const unsigned place : places) {
            const std::size_t self = nodes.size();
            node made;
            made.parent = parent == nullptr ? self : *parent;
            made.address = at(bus << 8 | place, segment);
            made.bridge = depth < 5 && below(2) == 0 && last_bus < 0xE0;
            nodes.push_back(made);
            if (made.bridge) {
                nodes[self].secondary = ++last_bus;
                fill(segment, last_bus, &self, depth + 1, last_bus);
                nodes[self].subordinate = last_bus;
            }
        }
    }

    [[nodiscard]] bool is_behind(std::size_t n, std::size_t bridge) const {
        while (n != bridge && nodes[n].parent != n) {
            n = nodes[n].parent;
        }
        return n == bridge;
    }
};

struct bridges_of {
    const std::map<function_address, std::uint32_t>* known;

    pt::result<pt::pci::bus_numbers> read(function_address bridge) {
        const auto found = known->find(bridge);
        if (found == known->end()) {
            return error{errc::absent, bridge.source_id()};
        }
        return pt::pci::bus_numbers{found->second};
    }
};

/// What a structure's scopes mean, in terms of the machine.
struct meaning {
    unsigned segment = 0;
    bool all = false;
    std::vector<std::pair<std::size_t, bool>> named; // node, and whether all behind it

    [[nodiscard]] bool covers(const random_machine& of, std::size_t n) const {
        for (const auto& [who, behind] : named) {
            if (who == n || (behind && of.nodes[who].bridge && of.is_behind(n, who))) {
                return true;
            }
        }
        return false;
    }
};

void add_scopes(builder& table, random_machine& machine, meaning& means) {
    for (unsigned n = machine.below(4); n > 0; --n) {
        const std::size_t target = machine.below(static_cast<unsigned>(machine.nodes.size()));
        if (machine.nodes[target].address.segment != means.segment) {
            continue;
        }
        const bool behind =
            machine.nodes[target].bridge ? machine.below(4) != 0 : machine.below(8) == 0;
        means.named.emplace_back(target, behind);
        // From the first bus, or from any bridge on the way.
        std::vector<unsigned> path;
        std::size_t hop = target;
        for (;;) {
            const function_address address = machine.nodes[hop].address;
            path.insert(path.begin(), {address.device, address.function});
            if (machine.nodes[hop].parent == hop || machine.below(4) == 0) {
                break;
            }
            hop = machine.nodes[hop].parent;
        }
        table.scope(behind ? 2 : 1, 0, machine.nodes[hop].address.bus, path);
    }
    table.scope(3 + machine.below(3), machine.below(256), 0, {0, 0});
    table.end();
}

} // namespace

TEST_CASE("lookups on random machines are what parents say", "[vtd][dmar][rule 20]") {
    std::size_t named = 0;
    std::size_t included = 0;
    std::size_t none = 0;
    std::size_t regions = 0;
    std::size_t tlbs = 0;
    std::size_t deep = 0;
    for (unsigned seed = 0; seed < 150; ++seed) {
        CAPTURE(seed);
        random_machine machine{seed};
        std::map<function_address, std::uint32_t> known;
        for (const node& each : machine.nodes) {
            if (each.bridge) {
                known[each.address] = numbers(each.address.bus, each.secondary, each.subordinate);
            }
        }
        builder made;
        std::vector<meaning> units;
        std::vector<meaning> reserved;
        std::vector<std::pair<meaning, device_tlb_report>> reports;
        for (unsigned structures = 2 + machine.below(9); structures > 0; --structures) {
            meaning means{machine.below(2) * 7, false, {}};
            switch (machine.below(5)) {
            case 0:
            case 1:
                means.all = machine.below(3) == 0;
                made.drhd(0, means.all ? 1 : 0, 0x1000 * (units.size() + 1), means.segment);
                add_scopes(made, machine, means);
                units.push_back(means);
                break;
            case 2:
                made.rmrr(0, 0x1000 * (reserved.size() + 1), 0x1000 * (reserved.size() + 1) + 0xFFF,
                          means.segment);
                add_scopes(made, machine, means);
                reserved.push_back(means);
                break;
            case 3:
                means.all = machine.below(4) == 0;
                made.atsr(0, means.all ? 1 : 0, means.segment);
                add_scopes(made, machine, means);
                reports.emplace_back(means, device_tlb_report::allowed);
                break;
            default: {
                const bool required = machine.below(2) == 0;
                made.satc(0, required ? 1 : 0, means.segment);
                add_scopes(made, machine, means);
                reports.emplace_back(means, required ? device_tlb_report::required
                                                     : device_tlb_report::allowed);
            }
            }
        }
        const auto bytes = made.table();
        const dmar table = read(bytes).value();
        const bridges_of bridges{&known};

        for (std::size_t n = 0; n < machine.nodes.size(); ++n) {
            const function_address function = machine.nodes[n].address;
            CAPTURE(function.segment, function.source_id());
            deep += function.bus > 4 ? 1U : 0U;
            std::size_t expected = 99;
            for (std::size_t i = units.size(); i-- > 0;) {
                if (units[i].segment == function.segment && units[i].all) {
                    expected = i;
                }
            }
            const bool by_name = [&] {
                for (std::size_t i = 0; i < units.size(); ++i) {
                    if (units[i].segment == function.segment && units[i].covers(machine, n)) {
                        expected = i;
                        return true;
                    }
                }
                return false;
            }();
            // On its own, and as the physical function of a virtual one that is anywhere.
            for (const requester who :
                 {requester{function}, requester::virtual_function(at(0xF123, 7), function)}) {
                const auto unit = unit_for(table, who, bridges);
                CHECK((unit ? unit->index : 99) == expected);
                CHECK((!unit || unit->definition.register_base.raw == 0x1000 * (expected + 1)));
            }
            (expected == 99 ? none : by_name ? named : included) += 1;

            std::vector<std::uint64_t> bases;
            std::vector<std::uint64_t> expected_bases;
            for (const auto region : reserved_regions(table, function, bridges)) {
                bases.push_back(region.value().memory.first().raw);
            }
            for (std::size_t i = 0; i < reserved.size(); ++i) {
                if (reserved[i].segment == function.segment && reserved[i].covers(machine, n)) {
                    expected_bases.push_back(0x1000 * (i + 1));
                }
            }
            CHECK(bases == expected_bases);
            regions += bases.size();

            auto report = device_tlb_report::none;
            for (const auto& [means, what] : reports) {
                if (means.segment == function.segment && (means.all || means.covers(machine, n)) &&
                    report < what) {
                    report = what;
                }
            }
            CHECK(device_tlb_report_of(table, function, bridges).value() == report);
            tlbs += report == device_tlb_report::none ? 0U : 1U;
        }
    }
    CHECK(named > 500);
    CHECK(included > 500);
    CHECK(none > 500);
    CHECK(regions > 300);
    CHECK(tlbs > 500);
    CHECK(deep > 500);
}
