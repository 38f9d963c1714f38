// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../vtd_model/dmar_builder.hpp"
#include "../../vtd_model/fake_unit.hpp"

#include "pt/core/mutex.hpp"
#include "pt/core/wide_store.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

/// A machine with three fake units behind one DMAR table, and pt's side of it:
///
///     unit 0   segment 0, what is named: 00:02.0, and all behind the bridge 00:1c.0 (buses 1 and
/// 2)
///     unit 1   segment 0, everything else
///     unit 2   segment 1, everything
namespace vtd_domains {

using namespace vtd_model;

/// Which locks are held, and whether anything was done without them or in the wrong order.
struct lock_book {
    bool armed = false;
    bool hardware = false;
    unsigned domains = 0;
    const char* wrong = nullptr;

    constexpr void blame(const char* what) { wrong = wrong == nullptr ? what : wrong; }
};
struct hardware_lock {
    lock_book* book;

    constexpr void lock() {
        if (book->hardware) {
            book->blame("the lock of the remapping was taken twice");
        }
        book->hardware = true;
    }
    constexpr void unlock() { book->hardware = false; }
};
/// Of one domain; the domain's comes before the hardware's.
struct domain_lock {
    lock_book* book;
    bool* held;

    constexpr void lock() {
        if (book->hardware) {
            book->blame("the lock of a domain was taken under that of the remapping");
        }
        if (*held) {
            book->blame("the lock of a domain was taken twice");
        }
        *held = true;
        ++book->domains;
    }
    constexpr void unlock() {
        *held = false;
        --book->domains;
    }
};

/// A unit's registers, which nobody may touch without the lock.
struct locked_registers {
    remapping_unit* unit;
    lock_book* book;

    constexpr void check() {
        if (book->armed && !book->hardware) {
            book->blame("a register was accessed without the lock");
        }
    }
    constexpr std::uint32_t read32(std::uint32_t at) {
        check();
        return unit->read32(at);
    }
    constexpr std::uint64_t read64(std::uint32_t at) {
        check();
        return unit->read64(at);
    }
    constexpr void write32(std::uint32_t at, std::uint32_t value) {
        check();
        unit->write32(at, value);
    }
    constexpr void write64(std::uint32_t at, std::uint64_t value) {
        check();
        unit->write64(at, value);
    }
};

struct hardware_side {
    static constexpr std::size_t frame_count = 96;
    using memory_type = host<frame_count>;

    memory_type memory{};
    remapping_unit unit[3]{remapping_unit{memory}, remapping_unit{memory}, remapping_unit{memory}};
    std::uint64_t time = 0;
    std::uint64_t tick = 10'000'000;
    lock_book locks{};
    unsigned bridge_reads = 0;
    unsigned bridge_broken_at = 0; ///< this read of the bridge, counted from 1, and the later ones
};

/// The bridge 00:1c.0 of segment 0, with buses 1 and 2 behind it; when it is broken, its numbers
/// are what cannot be.
struct one_bridge {
    hardware_side* machine;

    constexpr pt::result<pt::pci::bus_numbers> read(pt::pci::function_address bridge) {
        if (bridge.segment != 0 || bridge.source_id() != 0xE0) {
            return pt::error{pt::errc::absent, bridge.source_id()};
        }
        ++machine->bridge_reads;
        const bool broken =
            machine->bridge_broken_at != 0 && machine->bridge_reads >= machine->bridge_broken_at;
        return pt::pci::bus_numbers{broken ? 0x0001'0200U : 0x0002'0100U};
    }
};
static_assert(pt::pci::bridge_bus_numbers<one_bridge>);

/// A look at it is time in which all queues work.
struct machine_clock {
    hardware_side* machine;

    constexpr std::uint64_t now() {
        for (remapping_unit& unit : machine->unit) {
            unit.look();
        }
        return machine->time += machine->tick;
    }
};

inline constexpr std::uint64_t unit_base[] = {0xFED9'0000, 0xFED9'1000, 0xFED9'2000};

/// The DMAR table of the machine; what comes after it, such as RMRRs, is appended.
inline dmar_builder machine_table(unsigned host_address_width = 39) {
    dmar_builder table;
    table.bytes[36] = static_cast<std::uint8_t>(host_address_width - 1);
    table.drhd(0, 0, unit_base[0]).scope(1, 0, 0, {2, 0}).scope(2, 0, 0, {0x1C, 0}).end();
    table.drhd(0, 1, unit_base[1]).end();
    table.drhd(0, 1, unit_base[2], 1).end();
    return table;
}

template <class Wide = pt::no_wide_store>
struct rig_of : hardware_side {
    using policies = pt::vtd::policies<locked_registers, machine_clock, frames<memory_type>,
                                       publisher<memory_type>, Wide, hardware_lock>;
    using unit_type = pt::vtd::unit<policies>;
    using remapping = pt::vtd::remapping<policies, one_bridge>;
    using attachment = pt::vtd::attachment<remapping>;
    using domain = pt::vtd::domain<remapping>;
    using locked_domain = pt::vtd::domain<remapping, domain_lock>;

    std::vector<std::uint8_t> bytes;
    policies chosen;
    std::optional<unit_type> driver[3];
    std::optional<remapping> vtd;

    explicit rig_of(const dmar_builder& table = machine_table(), Wide wide = {})
        : bytes{table.table()},
          chosen{{this}, {&this->memory}, {&this->memory}, wide, {&this->locks}} {}

    /// pt's side of the units, added but not started.
    void take(pt::vtd::unit_options with = {}, std::size_t units = 3) {
        locks.armed = false;
        vtd.emplace(chosen, pt::vtd::dmar::read(bytes.data(), bytes.size()).value(),
                    one_bridge{this});
        std::size_t i = 0;
        for (const pt::vtd::drhd& place : vtd->table().template each<pt::vtd::drhd>()) {
            if (i == units) {
                break;
            }
            auto taken = unit_type::take(chosen, {&unit[i], &locks}, place, with);
            driver[i].emplace(std::move(*taken));
            vtd->add(*driver[i]).value();
            ++i;
        }
        locks.armed = true;
    }
    void start(pt::vtd::unit_options with = {}) {
        take(with);
        vtd->start().value();
    }

    /// Everything is switched off and given back; whether all was well, and nothing was lost.
    [[nodiscard]] bool end() {
        bool well = true;
        if (vtd) {
            well = vtd->stop().has_value() && vtd->retire().has_value();
            locks.armed = false;
            for (auto& one : driver) {
                if (one) {
                    well = one->retire().has_value() && well;
                }
            }
        }
        return well && memory.in_use == 0 && right();
    }
    [[nodiscard]] bool right() const {
        return memory.violation == nullptr && locks.wrong == nullptr && !locks.hardware &&
               locks.domains == 0;
    }

    /// A request of a function, whose unit the test knows.
    outcome dma(std::size_t behind, pt::pci::function_address function, std::uint64_t address,
                bool write = true) {
        return unit[behind].dma(function.source_id(), address, write);
    }
};

using rig = rig_of<>;
/// With a wide store, by which a live entry changes at once.
struct wide_rig : rig_of<wide_store<hardware_side::memory_type>> {
    explicit wide_rig(const dmar_builder& table = machine_table())
        : rig_of{table, wide_store<hardware_side::memory_type>{&this->memory}} {}
};

inline constexpr pt::pci::function_address graphics{0, 0, 2, 0}; // unit 0, by name
inline constexpr pt::pci::function_address card{0, 1, 0, 0};     // unit 0, behind the bridge
inline constexpr pt::pci::function_address second_card{0, 2, 3, 1};
inline constexpr pt::pci::function_address nic{0, 0, 5, 0}; // unit 1
inline constexpr pt::pci::function_address disk{0, 0, 0x1F, 2};
inline constexpr pt::pci::function_address far{1, 0, 5, 0}; // unit 2

/// Where host memory begins that a test gives to guest `n`; a page of one is never of another.
constexpr std::uint64_t memory_of(unsigned guest, std::uint64_t address = 0) {
    return 0x10'0000'0000 + guest * 0x4'0000'0000 + address;
}

constexpr pt::range<pt::iova> pages(std::uint64_t first, std::uint64_t count = 1) {
    return {pt::iova{first}, count * 4096};
}

/// A unit that failed works again, and has ended what it was about when it went away.
inline void repair(remapping_unit& unit) {
    unit.recover();
    for (int n = 0; n < 4; ++n) {
        static_cast<void>(unit.read32(GSTS));
    }
}

inline constexpr auto rw = pt::vtd::second_stage::read_write;

/// What the entry of a function in legacy mode says, read where the unit reads it.
struct context_words {
    std::uint64_t low = 0;
    std::uint64_t high = 0;

    [[nodiscard]] std::uint16_t domain_id() const { return static_cast<std::uint16_t>(high >> 8); }
};
inline context_words entry_of(const hardware_side& m, std::size_t behind,
                              pt::pci::function_address function) {
    const std::uint64_t root_entry = m.unit[behind].root + std::uint64_t{function.bus} * 16;
    const std::uint64_t table = m.memory.published_at(root_entry) & ~std::uint64_t{0xFFF};
    const std::uint64_t at = table + function.source_id() % 256U * 16;
    return {m.memory.published_at(at), m.memory.published_at(at + 8)};
}

/// A function that asks for an address after each store and each register write, while this lives.
class hammering {
public:
    hammering(remapping_unit& unit, pt::pci::function_address function, std::uint64_t address)
        : unit_{unit} {
        unit.hammer.source_id = function.source_id();
        unit.hammer.address = address;
        unit.hammer.write = true;
        begin();
    }
    hammering(const hammering&) = delete;
    hammering& operator=(const hammering&) = delete;
    ~hammering() { unit_.hammer.runs = false; }

    /// Where the requests led (0: blocked), one after the other without repetitions, from when this
    /// was asked the last time up to now.
    [[nodiscard]] std::vector<std::uint64_t> stretches() {
        unit_.step();
        std::vector<std::uint64_t> seen;
        for (std::size_t i = 0; i < unit_.hammer.count; ++i) {
            const outcome& o = unit_.hammer.seen[i];
            const std::uint64_t to = o.reached ? o.to : 0;
            if (seen.empty() || seen.back() != to) {
                seen.push_back(to);
            }
        }
        begin();
        return seen;
    }

private:
    void begin() {
        unit_.hammer.runs = true;
        unit_.hammer.count = 0;
        unit_.step();
    }

    remapping_unit& unit_;
};

} // namespace vtd_domains
