// SPDX-License-Identifier: BSL-1.0
//
// A DMAR table of arbitrary bytes: reading it and walking it ends, stays inside, and finds each
// byte of a sound table in exactly one structure. Most inputs get a sound header, so that more than
// the header is tried; the last part walks bytes that changed after they were checked. Lookups go
// through bridges that answer anything, and ask them no more often than the table has hops.
#include "pt/vtd/dmar.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/vtd/device_tlb_report.hpp"
#include "pt/vtd/requester.hpp"
#include "pt/vtd/reserved_regions.hpp"
#include "pt/vtd/scope_resolution.hpp"
#include "pt/vtd/unit_lookup.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace {

void require(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

/// Every scope of a sound table has a sound form.
void walk(const pt::vtd::device_scope_list& scopes, bool sound) {
    for (const auto scope : scopes) {
        const auto type = static_cast<unsigned>(scope.type);
        std::size_t hops = 0;
        for (const auto hop : scope.path) {
            require(hop == scope.path[hops]);
            ++hops;
        }
        require(hops == scope.path.size() && hops <= 125);
        require(!sound || type == 0 || type > 5 || hops >= 1);
    }
}

template <class S>
void walk_each(const pt::vtd::dmar& table, bool sound, std::size_t most) {
    std::size_t count = 0;
    for (const S structure : table.each<S>()) {
        ++count;
        if constexpr (requires { structure.scopes; }) {
            walk(structure.scopes, sound);
        }
    }
    require(count <= most / 4);
}

void walk(const pt::vtd::dmar& table, bool sound, std::size_t size) {
    std::size_t next = pt::vtd::dmar::header_size;
    std::size_t structures = 0;
    for (const auto structure : table.structures()) {
        require(structure.offset == next);
        require(structure.offset + structure.bytes.size() <= size);
        require(structure.bytes.size() >= 4);
        next += structure.bytes.size();
        ++structures;
    }
    require(structures <= size / 4);
    require(!sound || next == size);
    walk_each<pt::vtd::drhd>(table, sound, size);
    walk_each<pt::vtd::rmrr>(table, sound, size);
    walk_each<pt::vtd::atsr>(table, sound, size);
    walk_each<pt::vtd::rhsa>(table, sound, size);
    walk_each<pt::vtd::andd>(table, sound, size);
    walk_each<pt::vtd::satc>(table, sound, size);
    walk_each<pt::vtd::sidp>(table, sound, size);
    for (const auto region : table.each<pt::vtd::rmrr>()) {
        if (const auto memory = region.region()) {
            require(memory->first() == region.base && memory->last() == region.limit);
        } else {
            require(region.limit.raw < region.base.raw ||
                    region.limit.raw - region.base.raw == ~0ULL || region.base.raw % 4096 != 0 ||
                    region.limit.raw % 4096 != 4095);
        }
    }
}

/// Bridges with any bus numbers, the same ones each time they are asked.
struct lying_bridges {
    std::uint32_t seed;
    std::size_t* asked;

    pt::result<pt::pci::bus_numbers> read(pt::pci::function_address bridge) {
        require(bridge.valid());
        ++*asked;
        std::uint32_t answer = (seed ^ bridge.source_id()) * 0x9E37'79B1U;
        answer ^= answer >> 15;
        if ((answer & 7) == 0) {
            return pt::error{pt::errc::absent, bridge.source_id()};
        }
        // Mostly sound: behind it are the next bus and some more.
        if ((answer & 7) > 2) {
            const std::uint32_t next = bridge.bus == 0xFF ? 0xFF : bridge.bus + 1U;
            const std::uint32_t last = next + (answer >> 8) % (0x100 - next);
            answer = last << 16 | next << 8 | bridge.bus;
        }
        return pt::pci::bus_numbers{answer};
    }
};

/// Whether `offset` is where a structure of that type begins.
bool is_structure(const pt::vtd::dmar& table, std::uint64_t offset, unsigned type) {
    for (const auto structure : table.structures()) {
        if (structure.offset == offset) {
            return static_cast<unsigned>(structure.type) == type;
        }
    }
    return false;
}

/// The first unit that covers the function, one scope at a time; -1 for none.
int first_that_covers(const pt::vtd::dmar& table, const pt::vtd::requester& who,
                      lying_bridges bridges) {
    int index = 0;
    for (const auto unit : table.each<pt::vtd::drhd>()) {
        for (const auto scope : unit.scopes) {
            const auto covered = pt::vtd::covers(scope, unit.segment, who, bridges);
            const auto end = pt::vtd::resolve(scope, unit.segment, bridges);
            if (covered && *covered) {
                // A scope that covers leads somewhere: to the function, or above it.
                require(end.has_value());
                const bool endpoint = scope.type == pt::vtd::device_scope_type::pci_endpoint;
                require(*end == who.named() || (!endpoint && end->bus < who.named().bus));
                return index;
            }
            require(!covered || !end || !(*end == who.named()) ||
                    static_cast<unsigned>(scope.type) - 1 > 1 ||
                    unit.segment != who.named().segment);
        }
        ++index;
    }
    return -1;
}

void look_up(const pt::vtd::dmar& table, std::uint32_t seed, std::size_t size) {
    std::size_t asked = 0;
    const lying_bridges bridges{seed, &asked};
    const auto bounded = [&] {
        require(asked <= size / 2);
        asked = 0;
    };
    const auto function = pt::pci::function_address::from_source_id(
        static_cast<std::uint16_t>(seed), static_cast<std::uint16_t>(seed >> 16 & 1));
    for (const pt::vtd::requester who :
         {pt::vtd::requester{function}, pt::vtd::requester::extended_function(function)}) {
        const auto unit = pt::vtd::unit_for(table, who, bridges);
        bounded();
        const int expected = first_that_covers(table, who, bridges);
        asked = 0;
        if (unit) {
            require(unit->definition.segment == who.named().segment);
            require(expected >= 0 ? unit->index == static_cast<std::size_t>(expected)
                                  : unit->definition.include_pci_all);
        } else {
            require(expected < 0);
            require(unit.error().code == pt::errc::absent
                        ? unit.error().where == who.named().source_id()
                        : is_structure(table, unit.error().where, 0));
        }
        std::size_t regions = 0;
        for (const auto region : pt::vtd::reserved_regions(table, who, bridges)) {
            ++regions;
            require(is_structure(table, region ? region->offset : region.error().where, 1));
            require(!region || region->memory.size() % 4096 == 0);
        }
        require(regions <= size / 24);
        bounded();
        const auto tlb = pt::vtd::device_tlb_report_of(table, who, bridges);
        bounded();
        require(tlb || is_structure(table, tlb.error().where, 2) ||
                is_structure(table, tlb.error().where, 5));
    }
    for (const auto type :
         {pt::vtd::device_scope_type::io_apic, pt::vtd::device_scope_type::msi_capable_hpet,
          pt::vtd::device_scope_type::acpi_namespace_device}) {
        const auto number = static_cast<std::uint8_t>(seed >> 8);
        const auto device = pt::vtd::unit_for(table, type, number, bridges);
        bounded();
        require(device ? device->source.valid()
                       : device.error().where == number ||
                             is_structure(table, device.error().where, 0));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::uint8_t how = data[0];
    ++data;
    --size;
    // A copy of exactly this size: AddressSanitizer sees the first byte too far.
    const std::unique_ptr<std::uint8_t[]> bytes{new std::uint8_t[size]};
    for (std::size_t i = 0; i < size; ++i) {
        bytes[i] = data[i];
    }
    if (how != 0 && size >= 48) {
        const std::uint8_t head[]{'D',
                                  'M',
                                  'A',
                                  'R',
                                  static_cast<std::uint8_t>(size),
                                  static_cast<std::uint8_t>(size >> 8),
                                  static_cast<std::uint8_t>(size >> 16),
                                  static_cast<std::uint8_t>(size >> 24),
                                  1,
                                  0};
        for (std::size_t i = 0; i < sizeof head; ++i) {
            bytes[i] = head[i];
        }
        std::uint8_t sum = 0;
        for (std::size_t i = 0; i < size; ++i) {
            sum = static_cast<std::uint8_t>(sum + bytes[i]);
        }
        bytes[9] = static_cast<std::uint8_t>(0U - sum);
    }
    const auto table = pt::vtd::dmar::read(bytes.get(), size);
    if (!table) {
        require(table.error().where <= size);
        return 0;
    }
    const std::size_t length = bytes[4] | std::size_t{bytes[5]} << 8 | std::size_t{bytes[6]} << 16 |
                               std::size_t{bytes[7]} << 24;
    require(length <= size);
    walk(*table, true, length);
    // Which function is asked for, and how bridges answer: by the table's last bytes.
    std::uint32_t seed = how;
    for (std::size_t i = 1; i <= 3; ++i) {
        seed = seed << 8 | bytes[length - i];
    }
    look_up(*table, seed, length);
    for (std::size_t i = how; i < size; i += 13) {
        bytes[i] = static_cast<std::uint8_t>(bytes[i] ^ how);
    }
    walk(*table, false, length);
    look_up(*table, seed, length);
    return 0;
}
