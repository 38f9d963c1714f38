// SPDX-License-Identifier: BSL-1.0
//
// Two guests and five functions. The input gives memory, takes it, assigns, removes, moves functions
// from one guest to the other, acts as the guests do at their configuration ports, ports and trapped
// pages, raises interrupts, and makes policies, functions and the remapping unit fail. After each
// step two judges look at what hardware would do:
//
// - a model of its own, which knows what the VMM's calls have answered and what the guests read from
//   their registers. It walks EPT, second stage, context entries and interrupt entries by itself, and
//   keeps each translation that nobody has told the processors to forget;
// - the audit of pt.
//
// At the end all is given back, and nothing is left.
#include "assigned_world.hpp"

#include "pt/assign/audit.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

namespace {

using namespace assigned;
namespace assign = pt::assign;

// What the VMM has to give, and where it puts it.
struct chunk {
    std::uint64_t host;
    std::uint64_t size;
    enum class state : std::uint8_t { free, given, owed } now = state::free;
    unsigned guest = 0;
    std::uint64_t at = 0;
    bool for_devices = false;
};
constexpr std::uint64_t chunk_sizes[]{0x1000, 0x1000, 0x4000, 0x4000, 0x1'0000, 0x20'0000};
constexpr std::size_t chunk_count = 6;
constexpr std::uint64_t memory_places[]{0,           0x1'0000,    0x10'0000,     0x20'0000,
                                        0x40'0000,   0x8000'0000, 0x8000'1000,   0x9000'0000,
                                        0xFEE0'0000, 0xFED0'0000, 0x1'0000'0000, 0xFFFF'0000};
constexpr range<gpa> spare_pages[]{{gpa{0x8000'0000}, 0x1000}, {gpa{0x9000'0000}, 0x2000}};
constexpr range<io_port> spare_ports[]{{io_port{0xC010}, 4}, {io_port{0xC400}, 0x200}};
constexpr std::uint64_t bar_places[]{
    0,           0xD'0000,    0xF'F000,      0x1'0000,     0x20'0000,    0x40'0000,
    0x8000'0000, 0x8000'1000, 0x8000'2000,   0x8000'4000,  0x8000'0100,  0x8000'0200,
    0x8020'0000, 0x8040'0000, 0x9000'0000,   0x9000'4000,  0xFED0'0000,  0xFED0'0100,
    0xFEE0'0000, 0xFEE0'0200, 0xFEDF'C000,   0xE000'0000,  0xFFFF'C000,  0xFFFF'FE00,
    1ULL << 32,  3ULL << 32,  0x20ULL << 32, (1ULL << 46), (1ULL << 47), (1ULL << 48) - 0x4000,
    1ULL << 48,  1ULL << 63};
constexpr std::uint16_t port_places[]{0xC000, 0xC100, 0xC200, 0xC400, 0xC500, 0xC010,
                                      0xC0E0, 0xD000, 0x3F8,  0x3E0,  0xCF8,  0xCFC,
                                      0xCE0,  0xFF00, 0xFFFC, 0xFFE0};

/// Where a BAR is, or nowhere.
using place = std::optional<std::uint64_t>;

struct bar_somewhere {
    unsigned function;
    unsigned index;
    std::uint64_t at;
    std::uint64_t size;
};

class session {
public:
    explicit session(fuzz::reader from) : in_{from} {
        for (unsigned g = 0; g < guest_count; ++g) {
            guests_[g] = std::make_unique<guest_machine>(*w_, g);
        }
        for (std::size_t c = 0; c < chunk_count; ++c) {
            chunks_[c].size = chunk_sizes[c];
            chunks_[c].host = 0x1'0000'0000 + c * 0x40'0000;
        }
    }

    void run() {
        give(0, 4, 0, true);
        give(1, 2, 0, true);
        const auto start = static_cast<unsigned>(in_.number(2));
        for (unsigned f = 0; f < function_count; ++f) {
            const unsigned g = start >> 2 * f & 1;
            if ((start >> 2 * f & 2) != 0 && assign_function(g, f, 3 + f, true, false)) {
                bring_up(g, f, start >> 10);
            }
        }
        finish_step(0);
        for (unsigned steps = 0; in_.left != 0 && steps < 80; ++steps) {
            half_written_ = false;
            step();
            finish_step(in_.byte());
        }
        end();
    }

private:
    using device = assign::assigned_device<vmm>;
    enum class state : std::uint8_t { none, partial, complete };

    // ------------------------------------------------------------------------------- the steps

    void step() {
        if (in_.left == 0) {
            return;
        }
        const unsigned what = in_.byte();
        const unsigned g = in_.byte();
        const unsigned f = g / 2 % 8;
        switch (what % 26) {
        case 0:
        case 1:
        case 2:
        case 3: place_bar(g % 2, f); break;
        case 4: config_access(g % 2, f); break;
        case 5: command(g % 2, f, g >> 4); break;
        case 6:
        case 7: drive(g % 2, f); break;
        case 8: ports(g % 2); break;
        case 9: memory(g % 2); break;
        case 10: raise(f % function_count, g >> 4 & 7); break;
        case 11: give(g % 2, in_.byte() % chunk_count, in_.byte() % 12, (g & 0x80) == 0); break;
        case 12: take(g >> 1); break;
        case 13: reserve(g % 2, g >> 1 & 1, (g >> 2) % 2 != 0); break;
        case 14:
        case 15:
            static_cast<void>(assign_function(g % 2, f % function_count, 3 + (g >> 5),
                                              (g & 16) == 0, (g & 8) != 0));
            break;
        case 16: remove_function(g % 2, f % function_count); break;
        case 17: move_function(f % function_count); break;
        case 18:
        case 19: // what comes next meets it
            fail(in_.byte(), in_.byte());
            step();
            break;
        case 20:
            break_unit(in_.byte());
            step();
            break;
        case 21: pull_out(f % function_count, in_.byte()); break;
        case 22: repair(); break;
        case 23:
        case 24:
            if (const auto found = some_function(g % 2, f)) {
                bring_up(g % 2, *found, in_.byte());
            }
            break;
        default: w_->vtd.memory.limit = w_->vtd.memory.in_use + g % 4; break;
        }
    }

    void fail(unsigned what, unsigned when) {
        w_->faults.flavour = when >> 6;
        const unsigned kinds = static_cast<unsigned>(call::any) + 1;
        w_->faults.plans[what % kinds].fail(1 + when % 8, what >= 128 ? 4 : 1);
    }
    void break_unit(unsigned how) {
        auto& unit = w_->vtd.unit[1];
        const unsigned n = 1 + how / 4 % 8;
        switch (how % 4) {
        case 0: unit.stall_at = unit.orders + n; break;
        case 1: unit.refuse_at = unit.orders + n; break;
        case 2: unit.time_out_at = unit.orders + n; break;
        default: unit.vanish_at = unit.accesses + 4 * n; break;
        }
        unit_is_broken_ = true;
    }
    void pull_out(unsigned f, unsigned when) {
        w_->functions[f].was_away = true;
        if (when == 0) {
            w_->functions[f].gone = true;
        } else {
            w_->functions[f].accesses_left = when;
        }
    }
    void repair() {
        w_->faults.stop();
        w_->vtd.memory.limit = rig::frame_count;
        for (auto& unit : w_->vtd.unit) {
            vtd_domains::repair(unit);
        }
        unit_is_broken_ = false;
        for (hardware& each : w_->functions) {
            each.come_back();
        }
    }

    // -- what the VMM does

    void give(unsigned g, std::size_t c, std::size_t where, bool for_devices) {
        chunk& mine = chunks_[c];
        if (mine.now != chunk::state::free) {
            return;
        }
        const auto reach = for_devices ? assign::memory_reach::processors_and_devices
                                       : assign::memory_reach::processors_only;
        const std::uint64_t at = memory_places[where];
        const auto done =
            guests_[g]->guest.give_memory({gpa{at}, mine.size}, hpa{mine.host}, reach);
        if (done) {
            mine = {mine.host, mine.size, chunk::state::given, g, at, for_devices};
        } else if (assign::is_owed(done.error().code)) {
            mine = {mine.host, mine.size, chunk::state::owed, g, at, for_devices};
        }
    }
    void take(std::size_t c) {
        chunk& mine = chunks_[c % chunk_count];
        if (mine.now != chunk::state::given) {
            return;
        }
        const auto done = guests_[mine.guest]->guest.take_memory({gpa{mine.at}, mine.size});
        if (done) {
            mine.now = chunk::state::free;
        } else if (assign::is_owed(done.error().code)) {
            mine.now = chunk::state::owed;
        }
    }
    void reserve(unsigned g, unsigned which, bool of_ports) {
        auto& guest = guests_[g]->guest;
        bool& kept = (of_ports ? ports_reserved_ : pages_reserved_)[g][which];
        result<void> done{};
        if (of_ports) {
            done = kept ? guest.unreserve_ports(spare_ports[which])
                        : guest.reserve_ports(spare_ports[which]);
        } else {
            done = kept ? guest.unreserve(spare_pages[which])
                        : guest.reserve(spare_pages[which], assign::space_use::device);
        }
        demand(done || !kept); // giving back never fails
        kept = kept != done.has_value();
    }
    /// Whether somebody else has it.
    [[nodiscard]] bool is_elsewhere(unsigned g, unsigned f) const {
        return states_[1 - g][f] == state::complete;
    }
    bool assign_function(unsigned g, unsigned f, unsigned slot, bool with_msi_x, bool strictly) {
        auto& mine = devices_[g][f];
        if (!mine) {
            mine.emplace(guests_[g]->guest, pt::vtd::requester{host_address_of(f)}, parts_of(g, f));
        }
        const state before = states_[g][f];
        const bool had_other = is_elsewhere(g, f);
        w_->allowed = had_other ? 0U : 1U << f;
        assign::assign_options options{.at = {0, 0, static_cast<std::uint8_t>(slot), 0},
                                       .reset = strictly ? assign::reset_need::required
                                                         : assign::reset_need::where_possible};
        if (!with_msi_x) {
            options.view.shown = options.view.shown.without(pt::pci::capability_id::msi_x);
        }
        const unsigned fired = w_->faults.fired;
        const result<void> done = mine->assign(options);
        if (before == state::complete) {
            demand(done == error{errc::busy, host_address_of(f).source_id()});
            return false;
        }
        demand(!done || !had_other);
        demand(!done || w_->functions[f].what.reset != reset_shape::none || !strictly);
        states_[g][f] = done ? state::complete : mine->is_assigned() ? state::partial : state::none;
        if (done) {
            slots_[g][f] = slot;
            shows_msi_x_[g][f] = with_msi_x;
            w_->functions[f].was_away =
                w_->functions[f].gone || w_->functions[f].accesses_left != 0;
            w_->functions[f].wire_failed = false;
            w_->functions[f].dead = false;
        }
        // An error has a reason that a VMM can see.
        demand(states_[g][f] != state::partial || w_->faults.fired != fired || unit_is_broken_ ||
               w_->functions[f].gone || before == state::partial);
        return done.has_value();
    }
    void remove_function(unsigned g, unsigned f) {
        auto& mine = devices_[g][f];
        if (!mine) {
            return;
        }
        w_->allowed = is_elsewhere(g, f) ? 0U : 1U << f;
        const state before = states_[g][f];
        const result<void> done = mine->remove();
        demand(done.has_value() == !mine->is_assigned());
        states_[g][f] = done ? state::none : before == state::none ? state::none : state::partial;
        demand(done || before != state::none);
    }
    void move_function(unsigned f) {
        for (unsigned g = 0; g < guest_count; ++g) {
            if (states_[g][f] == state::complete) {
                remove_function(g, f);
                if (states_[g][f] == state::none) {
                    static_cast<void>(assign_function(1 - g, f, slots_[g][f], true, false));
                }
                return;
            }
        }
    }
    assign::device_parts<vmm> parts_of(unsigned g, unsigned f) {
        world* const w = w_.get();
        return {
            .config = {w},
            .registers = {w, f},
            .interrupts = {w,
                           interrupts::inner_type{
                               *w->vtd.vtd, vector_source{w, assign::vector_pool{w->vectors, 0}}}},
            .wire = {w, f},
            .reset = {w},
            .vectors = w->view_vectors[g][f],
            .vector_count = 8,
            .mutex = {&w->locks, simulated::view_rank}};
    }

    // -- what a guest does

    [[nodiscard]] unsigned functions_of(unsigned g) const {
        unsigned all = 0;
        for (unsigned f = 0; f < function_count; ++f) {
            all |= (states_[g][f] != state::none && !is_elsewhere(g, f) ? 1U : 0U) << f;
        }
        return all;
    }
    void enter(unsigned g) {
        w_->allowed = functions_of(g);
        w_->guest_acts = true;
        w_->memory_accesses.clear();
        w_->port_accesses.clear();
    }
    void leave(unsigned g) {
        w_->guest_acts = false;
        for (const device_access& each : w_->port_accesses) {
            demand(function_of_ports(g, each.at, each.size).has_value());
        }
    }
    /// Whose port of the host it is.
    [[nodiscard]] std::optional<std::pair<unsigned, unsigned>>
    function_of_ports(unsigned g, std::uint64_t at, std::uint64_t size) const {
        for (unsigned f = 0; f < function_count; ++f) {
            for (unsigned n = 0; n < 6; ++n) {
                const bar_shape& bar = shapes[f].bars[n];
                if (bar.type == bar_type::ports && at >= bar.host &&
                    at + size <= bar.host + bar.size && states_[g][f] != state::none) {
                    return {{f, n}};
                }
            }
        }
        return {};
    }
    result<void> out(unsigned g, unsigned port, unsigned size, std::uint32_t value) {
        return guests_[g]->guest.write_port(io_port{static_cast<std::uint16_t>(port)},
                                            static_cast<width>(size), value);
    }
    void select(unsigned g, unsigned f, unsigned offset) {
        demand(out(g, 0xCF8, 4, 0x8000'0000 | slots_[g][f] << 11 | (offset & 0xFC)).has_value());
    }
    void write(unsigned g, unsigned f, unsigned offset, unsigned size, std::uint32_t value) {
        enter(g);
        select(g, f, offset);
        demand(out(g, 0xCFC + (offset & 3), size, value).has_value());
        leave(g);
    }
    std::uint32_t read(unsigned g, unsigned f, unsigned offset, unsigned size) {
        enter(g);
        select(g, f, offset);
        const auto value = guests_[g]->guest.read_port(
            io_port{static_cast<std::uint16_t>(0xCFC + (offset & 3))}, static_cast<width>(size));
        demand(value.has_value());
        leave(g);
        return *value;
    }
    /// One of the guest's functions.
    [[nodiscard]] std::optional<unsigned> some_function(unsigned g, unsigned choice) const {
        for (unsigned i = 0; i < function_count; ++i) {
            if (const unsigned f = (choice + i) % function_count;
                states_[g][f] == state::complete) {
                return f;
            }
        }
        return {};
    }
    void place_bar(unsigned g, unsigned choice) {
        const unsigned how = in_.byte();
        const unsigned where = in_.byte();
        const auto f = some_function(g, choice);
        if (!f) {
            return;
        }
        unsigned n = how % 8;
        n = n == 7 ? 0 : n;
        for (unsigned i = 0; n < 6 && shapes[*f].bars[n].type == bar_type::none && i < 6; ++i) {
            n = (n + 1) % 6;
        }
        if (n == 6) {
            write(g, *f, 0x30, 4, static_cast<std::uint32_t>(bar_places[where % 32]) | (how >> 7));
            return;
        }
        const bar_shape& bar = shapes[*f].bars[n];
        std::uint64_t to =
            bar.type == bar_type::ports ? port_places[where % 16] : bar_places[where % 32];
        to += where >> 5 == 7 ? bar.size : 0;
        switch (how >> 3 & 15) {
        case 0: to = ~std::uint64_t{0}; break; // it is being sized
        case 1: to = bar.host; break;
        default: break;
        }
        half_written_ = true;
        write(g, *f, 0x10 + 4 * n, 4, static_cast<std::uint32_t>(to));
        if (bar.type == bar_type::memory_64 && how < 0x80 + 0x40) {
            write(g, *f, 0x14 + 4 * n, 4, static_cast<std::uint32_t>(to >> 32));
        }
    }
    void command(unsigned g, unsigned choice, unsigned value) {
        if (const auto f = some_function(g, choice)) {
            write(g, *f, 4, 2, (value & 7) | (value & 8) << 7);
        }
    }
    void config_access(unsigned g, unsigned choice) {
        const unsigned how = in_.byte();
        const unsigned offset = in_.byte();
        const auto value = static_cast<std::uint32_t>(in_.number(4));
        half_written_ = true;
        if (how >= 0x80) { // at any of the ports, as they come
            enter(g);
            const unsigned port = 0xCF5 + offset % 14;
            const unsigned size = 1U << how % 3;
            if (how % 2 != 0) {
                static_cast<void>(out(g, port, size, value));
            } else {
                static_cast<void>(guests_[g]->guest.read_port(
                    io_port{static_cast<std::uint16_t>(port)}, static_cast<width>(size)));
            }
            leave(g);
        } else if (const auto f = some_function(g, choice)) {
            const unsigned size = 1U << how % 3;
            const unsigned at = offset & ~(size - 1);
            if ((how & 8) != 0) {
                static_cast<void>(read(g, *f, at, size));
            } else {
                write(g, *f, at, size, size == 4 ? value : value & ((1U << 8 * size) - 1));
            }
        }
    }
    /// As firmware and a driver leave a function: BARs where nothing else is, and its interrupts.
    void bring_up(unsigned g, unsigned f, unsigned how) {
        const shape& s = shapes[f];
        for (unsigned n = 0; n < 6; ++n) {
            const bar_shape& bar = s.bars[n];
            if (bar.size == 0) {
                continue;
            }
            const std::uint64_t at = bar.type == bar_type::ports ? bar.host + (how & 1) * 0x800
                                     : bar.type == bar_type::memory_1m ? bar.host
                                     : bar.size < 0x1000 ? 0xA000'0000 + f * 0x1000 + n * 0x200
                                                         : 0xC000'0000 + (f * 6 + n) * 0x20'0000;
            write(g, f, 0x10 + 4 * n, 4, static_cast<std::uint32_t>(at));
            if (bar.type == bar_type::memory_64) {
                write(g, f, 0x14 + 4 * n, 4, 0);
            }
        }
        if (s.rom != 0) {
            write(g, f, 0x30, 4, 0xB000'0001 + (f << 20));
        }
        write(g, f, 4, 2, 7);
        check_bars(g, guests_[g]->cpus.tables()); // where they are now
        if (s.msi_x != 0 && (how & 2) != 0) {
            for (unsigned n = 0; n < s.msi_x; ++n) {
                program_vector(g, f, n, 0xFEE0'0000, 0x30 + n + 8 * f, how >> 2 & 1);
            }
            write(g, f, msi_x_at + 2, 2, 0x8000);
        } else if (s.msi != 0) {
            write(g, f, msi_at + 4, 4, 0xFEE0'0000);
            write(g, f, msi_at + (s.msi > 1 ? 12 : 8), 2, 0x40 + 8 * f);
            write(g, f, msi_at + 2, 2, 0x21);
        }
    }
    void program_vector(unsigned g, unsigned f, unsigned n, std::uint64_t address,
                        std::uint32_t data, std::uint32_t control) {
        if (const auto at = registers_of(g, f, shapes[f].table_bar)) {
            const std::uint64_t entry = *at + shapes[f].table + 16 * n;
            store(g, entry, 8, address);
            store(g, entry + 8, 4, data);
            store(g, entry + 12, 4, control);
        }
    }
    /// What drivers do.
    void drive(unsigned g, unsigned choice) {
        const unsigned how = in_.byte();
        const unsigned value = in_.byte();
        const auto found = some_function(g, choice);
        if (!found) {
            return;
        }
        const unsigned f = *found;
        const shape& s = shapes[f];
        switch (how % 8) {
        case 0: write(g, f, power_at + 4, 2, value % 4); break;
        case 1:
            if (value % 4 == 0 && s.reset == reset_shape::express) {
                write(g, f, reset_at + 8, 2, 0x8000);
            } else if (value % 4 == 0 && s.reset == reset_shape::advanced_features) {
                write(g, f, reset_at + 4, 1, 1);
            } else {
                write(g, f, power_at + 4, 2, 3);
                write(g, f, power_at + 4, 2, 0);
            }
            break;
        case 2: // MSI as a driver sets it up
        case 3:
            if (s.msi != 0) {
                write(g, f, msi_at + 4, 4, value >= 0xF0 ? value << 20 : 0xFEE0'0000);
                write(g, f, msi_at + (s.msi > 1 ? 12 : 8), 2, 0x20 | (value & 0x5C));
                write(g, f, msi_at + 2, 2, (value & 3) << 4 | (how >= 16 ? 1U : 0U));
            }
            break;
        case 4:
            if (s.msi > 1) {
                write(g, f, msi_at + 16, 4, value & 15);
            }
            break;
        case 5: write(g, f, msi_x_at + 2, 2, value << 14 & 0xC000); break;
        default:
            if (s.msi_x != 0) {
                program_vector(g, f, value % 8 % s.msi_x, value >= 0xF8 ? 0x8'0000 : 0xFEE0'0000,
                               0x20 + value % 64, how >> 7);
            }
        }
    }
    void store(unsigned g, std::uint64_t at, unsigned size, std::uint64_t value) {
        enter(g);
        static_cast<void>(
            guests_[g]->guest.write_memory(gpa{at}, static_cast<mmio_width>(size), value));
        leave(g);
    }
    void ports(unsigned g) {
        const unsigned how = in_.byte();
        const unsigned where = in_.byte();
        unsigned port = (port_places[how % 16] + where % 36) & 0xFFFF;
        const unsigned size = 1U << (how >> 4) % 3;
        if (const auto f = some_function(g, how);
            f && where >= 0x40) { // in an I/O BAR, or about it
            for (unsigned n = 0; n < 6; ++n) {
                const auto at = devices_[g][*f]->view().place(static_cast<std::uint8_t>(n));
                if (shapes[*f].bars[n].type == bar_type::ports && at) {
                    port = static_cast<unsigned>(at.address() + where % 36) & 0xFFFF;
                }
            }
        }
        enter(g);
        if (how >= 0x80) {
            static_cast<void>(out(g, port, size, static_cast<std::uint32_t>(in_.number(size))));
        } else {
            static_cast<void>(guests_[g]->guest.read_port(io_port{static_cast<std::uint16_t>(port)},
                                                          static_cast<width>(size)));
        }
        leave(g);
        half_written_ = true;
        // Each access of the host is one of the bytes that the guest accessed, translated.
        for (const device_access& each : w_->port_accesses) {
            const auto whose = function_of_ports(g, each.at, each.size);
            demand(whose && each.is_write == (how >= 0x80));
            auto& view = devices_[g][whose->first]->view();
            const auto at = view.place(static_cast<std::uint8_t>(whose->second));
            demand(static_cast<bool>(at));
            const std::uint64_t asked =
                each.at - shapes[whose->first].bars[whose->second].host + at.address();
            demand(asked >= port && asked + each.size <= port + size);
        }
    }
    void memory(unsigned g) {
        const unsigned how = in_.byte();
        std::uint64_t at = bar_places[how % 32];
        if (how >= 0x30 && !bars_[g].empty()) {
            const bar_somewhere& bar = bars_[g][how % bars_[g].size()];
            const std::uint64_t offset = in_.number(2);
            at =
                bar.at + (offset >= 0xC000 ? bar.size + offset % 16 : offset % (bar.size + 16)) - 8;
        } else {
            at += in_.byte();
        }
        const unsigned size = 1U << (how >> 5 & 3);
        const std::uint64_t value = in_.number(2) * 0x0001'0001'0001'0001;
        enter(g);
        result<void> done{};
        const bool is_write = (value & 1) != 0;
        if (is_write) {
            done = guests_[g]->guest.write_memory(gpa{at}, static_cast<mmio_width>(size), value);
        } else {
            const auto got = guests_[g]->guest.read_memory(gpa{at}, static_cast<mmio_width>(size));
            done = got ? result<void>{} : got.error();
        }
        leave(g);
        demand(done || w_->memory_accesses.empty() || done.error().code == errc::hardware_fault);
        for (const device_access& each : w_->memory_accesses) {
            const shape& s = shapes[each.function];
            demand(each.is_write == is_write);
            demand(each.bar == 6 || s.bars[each.bar].size != 0);
            // No guest writes the device's own MSI-X.
            const auto meets = [&](std::uint64_t first, std::uint64_t bytes) {
                return s.msi_x != 0 && each.bar == s.table_bar && each.at < first + bytes &&
                       first < each.at + each.size;
            };
            demand(!meets(s.table, std::uint64_t{16} * s.msi_x) && !meets(s.pending, 8));
            const auto where = registers_of(g, each.function, each.bar);
            demand(where && *where + each.at >= at && *where + each.at + each.size <= at + size);
        }
    }

    // -- what a function does

    void raise(unsigned f, unsigned vector) {
        const unsigned choice = in_.byte();
        vector %= choice % 2 == 0 ? 1 : 8;
        message sent = w_->message_of(f, vector);
        const bool is_own = sent.any && choice < 0xC0;
        if (is_own) {
            learned_.push_back(sent);
        } else if (!learned_.empty()) {
            sent = learned_[choice % learned_.size()]; // what it, or another one, once was told
        }
        if (!sent.any) {
            return;
        }
        const auto outcome =
            w_->vtd.unit[1].interrupt(host_address_of(f).source_id(), sent.address, sent.data);
        if (!outcome.delivered) {
            return;
        }
        demand(outcome.remapped && outcome.vector >= 0x40 && outcome.vector <= 0x57 &&
               outcome.destination == 0 && outcome.delivery_mode == 0 && !outcome.level);
        demand(states_[0][f] != state::none || states_[1][f] != state::none);
        for (unsigned g = 0; g < guest_count; ++g) {
            static_cast<void>(guests_[g]->inbox.harvest()); // what was pending, and is sent
            enter(g);
            const auto taken = guests_[g]->guest.deliver(static_cast<std::uint8_t>(outcome.vector));
            leave(g);
            const auto arrived = guests_[g]->inbox.harvest();
            if (states_[g][f] == state::none) {
                demand(taken == error{errc::absent, outcome.vector});
                demand(arrived.edge.empty() && arrived.level.empty());
            } else if (is_own && states_[g][f] == state::complete && !w_->functions[f].was_away &&
                       !w_->functions[f].dead) {
                demand(taken.has_value());
                if (const auto expected = expected_vector(g, f, vector)) {
                    for (unsigned v = 0; v < 256; ++v) {
                        demand(arrived.edge.contains(static_cast<std::uint8_t>(v)) ==
                               (v == *expected));
                    }
                }
            }
        }
    }
    /// What the guest's processor 0 gets when the function raises it, as the guest reads it in its
    /// own registers: 256 for nothing; no answer for messages of another kind.
    std::optional<unsigned> expected_vector(unsigned g, unsigned f, unsigned vector) {
        const shape& s = shapes[f];
        std::uint64_t address = 0;
        std::uint32_t data = 0;
        if (s.msi_x != 0 && shows_msi_x_[g][f] && (read(g, f, msi_x_at + 2, 2) & 0x8000) != 0) {
            auto& view = devices_[g][f]->view();
            const auto word = [&](unsigned at, mmio_width size) {
                return view.read_memory(static_cast<std::uint8_t>(s.table_bar),
                                        s.table + 16 * vector + at, size);
            };
            if ((read(g, f, msi_x_at + 2, 2) & 0x4000) != 0 ||
                (word(12, mmio_width::dword) & 1) != 0) {
                return 256;
            }
            address = word(0, mmio_width::qword);
            data = static_cast<std::uint32_t>(word(8, mmio_width::dword));
        } else {
            const bool wide = s.msi > 1;
            if (wide && (read(g, f, msi_at + 16, 4) >> vector & 1) != 0) {
                return 256;
            }
            const unsigned used = 1U << (read(g, f, msi_at + 2, 2) >> 4 & 7);
            address = read(g, f, msi_at + 4, 4) |
                      (wide ? std::uint64_t{read(g, f, msi_at + 8, 4)} << 32 : 0);
            data = (read(g, f, msi_at + (wide ? 12 : 8), 2) & ~(used - 1)) | vector;
        }
        if (address >> 20 != 0xFEE) {
            return 256; // it reaches no local APIC
        }
        if (address != 0xFEE0'0000 || data >> 8 != 0 || (data & 0xFF) < 16) {
            return {};
        }
        return data & 0xFF;
    }

    // -------------------------------------------------------------------------------- the judges

    void finish_step(unsigned how) {
        for (unsigned g = 0; g < guest_count; ++g) {
            quiet_[g] = false;
            if ((how >> g & 7) != 7) { // the guest is entered
                settle(g);
            }
        }
        w_->faults.suspended = true;
        check(!half_written_ || how < 0xA0);
        w_->faults.suspended = false;
    }
    void settle(unsigned g) {
        const unsigned before = w_->faults.fired;
        enter(g);
        const result<void> done = guests_[g]->guest.settle();
        if (done) {
            for (chunk& each : chunks_) {
                if (each.now == chunk::state::owed && each.guest == g) {
                    each.now = chunk::state::free;
                }
            }
        }
        quiet_[g] = done && w_->faults.fired == before && guests_[g]->guest.is_settled();
        if (quiet_[g]) {
            const unsigned told = guests_[g]->book.rejections;
            const unsigned changes = guests_[g]->book.changes;
            demand(guests_[g]->guest.settle().has_value());
            demand(told == guests_[g]->book.rejections && changes == guests_[g]->book.changes);
        }
        leave(g);
    }

    void check(bool registers_too) {
        demand(w_->vtd.right() && w_->locks.wrong == nullptr && w_->locks.held == 0);
        std::size_t domain_frames = 0;
        bool all_quiet = true;
        for (unsigned g = 0; g < guest_count; ++g) {
            auto& cpus = guests_[g]->cpus;
            const walked now = cpus.tables();
            cpus.keep(now);
            demand(cpus.bitmaps.is_seen() && cpus.bitmaps.paused == 0);
            check_memory(g, now);
            check_bars(g, now);
            check_kept(g);
            check_ports(g);
            const walked devices = tables_of_devices(g);
            check_dma(g, devices);
            domain_frames += devices.tables.size();
            const std::size_t used = table_frames - cpus.arena.free_frames();
            demand(quiet_[g] ? used == now.tables.size() : used >= now.tables.size());
            all_quiet = all_quiet && quiet_[g];
        }
        const std::size_t of_domains = w_->vtd.memory.in_use - w_->frames_of_host;
        demand(all_quiet ? of_domains == domain_frames : of_domains >= domain_frames);
        check_functions();
        check_entries();
        audit();
        for (unsigned g = 0; registers_too && g < guest_count; ++g) {
            check_registers(g);
        }
    }

    /// Memory that was given is there, all of it; and no other.
    [[clang::no_sanitize("coverage")]] void check_memory(unsigned g, const walked& now) {
        std::uint64_t expected = 0;
        for (const chunk& each : chunks_) {
            expected += each.now == chunk::state::given && each.guest == g ? each.size : 0;
        }
        std::uint64_t found = 0;
        for (const leaf& l : now.leaves) {
            demand(l.to < 0x4000'0000 || l.to >= 0x8000'0000); // no tables
            if (const chunk* const mine = chunk_of(l.to)) {
                demand(mine->now == chunk::state::given && mine->guest == g);
                demand(l.at - mine->at == l.to - mine->host);
                demand(l.to + l.size <= mine->host + mine->size);
                demand(l.bits == 7 && l.type == 6);
                found += l.size;
            }
        }
        demand(found == expected);
    }
    [[clang::no_sanitize("coverage")]] [[nodiscard]] const chunk*
    chunk_of(std::uint64_t host) const {
        for (const chunk& each : chunks_) {
            if (host >= each.host && host - each.host < each.size) {
                return &each;
            }
        }
        return nullptr;
    }
    struct bar_page {
        unsigned function;
        unsigned index;
        std::uint64_t offset;
    };
    [[clang::no_sanitize("coverage")]] [[nodiscard]] static std::optional<bar_page>
    bar_of(std::uint64_t host) {
        for (unsigned f = 0; f < function_count; ++f) {
            for (unsigned n = 0; n < 6; ++n) {
                const bar_shape& bar = shapes[f].bars[n];
                if (bar.type != bar_type::ports && bar.size != 0 &&
                    host >= (bar.host & ~0xFFFULL) && host < bar.host + bar.size) {
                    return {{f, n, host - bar.host}};
                }
            }
        }
        return {};
    }
    /// Each page that is no memory is one of a BAR of the guest's, which it may reach by itself; a
    /// BAR is at one place with all of its pages, and over nothing else.
    [[clang::no_sanitize("coverage")]] void check_bars(unsigned g, const walked& now) {
        std::uint64_t pages[function_count][6]{};
        place bases[function_count][6]{};
        for (const leaf& l : now.leaves) {
            if (chunk_of(l.to) != nullptr) {
                continue;
            }
            demand(l.bits == 3 && l.type == 0); // uncacheable, and no code
            for (std::uint64_t i = 0; i < l.size; i += 4096) {
                const auto page = bar_of(l.to + i);
                demand(page.has_value());
                const auto [f, n, offset] = *page;
                demand(states_[g][f] != state::none && !is_elsewhere(g, f));
                demand(shapes[f].is_mapped(n, offset));
                const std::uint64_t base = l.at + i - offset;
                demand(base % shapes[f].bars[n].size == 0);
                demand(!bases[f][n] || *bases[f][n] == base);
                bases[f][n] = base;
                ++pages[f][n];
            }
        }
        bars_[g].clear();
        for (unsigned f = 0; f < function_count; ++f) {
            for (unsigned n = 0; n <= 6; ++n) {
                const bar_shape& bar = shapes[f].bars[n % 6];
                if (n < 6 && (bar.type == bar_type::ports || bar.size == 0)) {
                    continue;
                }
                const std::uint64_t size = n == 6 ? shapes[f].rom : bar.size;
                std::uint64_t all = 0;
                for (std::uint64_t offset = 0; n < 6 && offset < size; offset += 4096) {
                    all += shapes[f].is_mapped(n, offset) ? 1 : 0;
                }
                place at = n < 6 ? bases[f][n] : place{};
                demand(n == 6 || pages[f][n] == (at ? all : 0));
                const auto told = devices_[g][f]
                                      ? devices_[g][f]->view().place(static_cast<std::uint8_t>(n))
                                      : pt::pci::bar_place{};
                if (all == 0) {
                    at = told ? place{told.address()} : place{}; // registers_of() checks it
                }
                demand(at.has_value() == static_cast<bool>(told) && (!at || *at == told.address()));
                if (at) {
                    bars_[g].push_back({f, n, *at, size});
                }
            }
        }
        for (std::size_t i = 0; i < bars_[g].size(); ++i) {
            const bar_somewhere& a = bars_[g][i];
            demand(!is_taken(g, a.at, a.size));
            for (std::size_t k = 0; k < i; ++k) {
                const bar_somewhere& b = bars_[g][k];
                demand(a.at + a.size <= b.at || b.at + b.size <= a.at);
            }
        }
    }
    /// Memory, or reserved; what is owed too.
    [[clang::no_sanitize("coverage")]] [[nodiscard]] bool is_taken(unsigned g, std::uint64_t at,
                                                                   std::uint64_t size) const {
        const range<gpa> wanted{gpa{at}, size};
        bool taken = wanted.overlaps(apic_page) || wanted.overlaps(played_page);
        for (const chunk& each : chunks_) {
            taken = taken || (each.now != chunk::state::free && each.guest == g &&
                              wanted.overlaps({gpa{each.at}, each.size}));
        }
        for (unsigned i = 0; i < 2; ++i) {
            taken = taken || (pages_reserved_[g][i] && wanted.overlaps(spare_pages[i]));
        }
        return taken;
    }
    [[nodiscard]] place registers_of(unsigned g, unsigned f, unsigned index) const {
        for (const bar_somewhere& each : bars_[g]) {
            if (each.function == f && each.index == index) {
                return each.at;
            }
        }
        return {};
    }
    /// What processors may still have in their caches is the guest's, and nobody else's.
    [[clang::no_sanitize("coverage")]] void check_kept(unsigned g) {
        for (const leaf& l : guests_[g]->cpus.kept) {
            if (const chunk* const mine = chunk_of(l.to)) {
                demand(mine->now != chunk::state::free && mine->guest == g);
            } else {
                const auto page = bar_of(l.to);
                demand(page && states_[g][page->function] != state::none &&
                       !is_elsewhere(g, page->function));
            }
        }
    }
    /// Open are the ports of I/O BARs that are where the host has them, and no others.
    [[clang::no_sanitize("coverage")]] void check_ports(unsigned g) {
        const auto& bitmaps = guests_[g]->cpus.bitmaps;
        std::uint64_t expected[1024];
        std::memset(expected, 0xFF, sizeof expected);
        for (unsigned f = 0; f < function_count; ++f) {
            for (unsigned n = 0; n < 6; ++n) {
                const bar_shape& bar = shapes[f].bars[n];
                if (bar.type != bar_type::ports || states_[g][f] == state::none) {
                    continue;
                }
                const auto at = devices_[g][f]->view().place(static_cast<std::uint8_t>(n));
                if (at && at.address() == bar.host && !is_played(g, bar.host, bar.size)) {
                    demand(!is_elsewhere(g, f));
                    for (std::uint64_t port = bar.host; port < bar.host + bar.size; ++port) {
                        expected[port / 64] &= ~(std::uint64_t{1} << port % 64);
                    }
                }
            }
        }
        demand(std::memcmp(expected, bitmaps.bitmap_a, 4096) == 0 &&
               std::memcmp(expected + 512, bitmaps.bitmap_b, 4096) == 0);
    }
    [[nodiscard]] bool is_played(unsigned g, std::uint64_t first, std::uint64_t size) const {
        const range<io_port> wanted{io_port{static_cast<std::uint16_t>(first)}, size};
        return wanted.overlaps(played_ports) ||
               (ports_reserved_[g][0] && wanted.overlaps(spare_ports[0])) ||
               (ports_reserved_[g][1] && wanted.overlaps(spare_ports[1]));
    }

    [[clang::no_sanitize("coverage")]] [[nodiscard]] walked tables_of_devices(unsigned g) const {
        walked now;
        const auto& memory = w_->vtd.memory;
        walk(
            now,
            [&](std::uint64_t table) {
                demand(memory.taken(table));
                return memory.published + rig::memory_type::word_of(table);
            },
            guests_[g]->domain_root, guests_[g]->domain.tables().format().levels(), 3);
        return now;
    }
    [[clang::no_sanitize("coverage")]] void check_dma(unsigned g, const walked& now) {
        std::uint64_t expected = 0;
        for (const chunk& each : chunks_) {
            expected += each.now == chunk::state::given && each.guest == g && each.for_devices
                            ? each.size
                            : 0;
        }
        std::uint64_t found = 0;
        for (const leaf& l : now.leaves) {
            const chunk* const mine = chunk_of(l.to);
            demand(mine != nullptr && mine->now == chunk::state::given && mine->guest == g);
            demand(mine->for_devices && l.at - mine->at == l.to - mine->host && l.bits == 3);
            found += l.size;
        }
        demand(found == expected);
    }
    /// What functions reach, by the unit's tables, and by what it has in its caches.
    [[clang::no_sanitize("coverage")]] void check_functions() {
        for (unsigned f = 0; f < function_count; ++f) {
            const auto entry = vtd_domains::entry_of(w_->vtd, 1, host_address_of(f));
            hardware& of = w_->functions[f];
            const bool is_nobodys = states_[0][f] == state::none && states_[1][f] == state::none;
            for (unsigned g = 0; g < guest_count; ++g) {
                const bool is_here = (entry.low & 1) != 0 && (entry.low >> 2 & 3) == 0 &&
                                     (entry.low & ~0xFFFULL) == guests_[g]->domain_root;
                demand(!is_here || (states_[g][f] != state::none && !is_elsewhere(g, f)));
                if (states_[g][f] == state::complete) {
                    // With a reset that failed, it is to be blocked.
                    demand(of.dead ? !(is_here && quiet_[g]) : is_here);
                }
            }
            for (const std::uint64_t at : memory_places) {
                const auto o = w_->vtd.unit[1].dma(host_address_of(f).source_id(), at + 8, true);
                if (!o.reached) {
                    continue;
                }
                const chunk* const mine = chunk_of(o.to);
                demand(o.translated && mine != nullptr && mine->now != chunk::state::free &&
                       mine->for_devices);
                demand(states_[mine->guest][f] != state::none && !is_elsewhere(mine->guest, f));
                demand(o.to - mine->host == at + 8 - mine->at);
            }
            if (is_nobodys) {
                demand((entry.low & 1) == 0 && !of.wire_is_open);
                demand(of.gone || (!of.msi_is_on() && !of.msi_x_is_on()));
            }
            if (!of.gone) {
                // As the host has it; Command without what lets it be a bus master.
                for (unsigned offset = 0x10; offset < 0x34; ++offset) {
                    demand(of.config.bytes[offset] == of.fresh[offset] || of.was_away);
                }
                demand(!is_nobodys || of.was_away || of.config.get(4, 2) == 3);
            }
        }
    }
    /// Interrupt entries that let anything through, by the unit's table.
    [[clang::no_sanitize("coverage")]] void check_entries() {
        const auto& unit = w_->vtd.unit[1];
        unsigned entries_of[function_count]{};
        bool leads[256]{};
        for (unsigned i = 0; i < unit.interrupt_entries; ++i) {
            const std::uint64_t low = w_->vtd.memory.published_at(unit.interrupt_table + 16 * i);
            const std::uint64_t high =
                w_->vtd.memory.published_at(unit.interrupt_table + 16 * i + 8);
            if ((low & 1) == 0) {
                continue;
            }
            const unsigned vector = low >> 16 & 0xFF;
            demand((low >> 32) == 0 && (low & 0x80FC) == 0 && vector >= 0x40 && vector <= 0x57);
            demand(!leads[vector] && w_->vectors.is_taken(static_cast<std::uint8_t>(vector)));
            leads[vector] = true;
            demand((high >> 16 & 0xF) == 4); // the whole source id is compared
            bool is_known = false;
            for (unsigned f = 0; f < function_count; ++f) {
                if ((high & 0xFFFF) == host_address_of(f).source_id()) {
                    is_known = true;
                    ++entries_of[f];
                }
            }
            demand(is_known);
        }
        unsigned taken = 0;
        for (unsigned v = 0; v < 256; ++v) {
            taken += w_->vectors.is_taken(static_cast<std::uint8_t>(v)) ? 1 : 0;
        }
        bool any_partial = false;
        for (unsigned f = 0; f < function_count; ++f) {
            const bool is_complete =
                states_[0][f] == state::complete || states_[1][f] == state::complete;
            const bool is_partial =
                states_[0][f] == state::partial || states_[1][f] == state::partial;
            any_partial = any_partial || is_partial;
            demand(entries_of[f] == 0 || is_complete || is_partial);
            if (is_complete) {
                const unsigned g = states_[0][f] == state::complete ? 0 : 1;
                const shape& s = shapes[f];
                demand(entries_of[f] == (shows_msi_x_[g][f] ? s.vectors() : s.msi) ||
                       w_->functions[f].was_away);
            }
            taken -= entries_of[f];
        }
        demand(taken == 0 || any_partial);
        for (unsigned v = 0; v < 256; ++v) {
            const auto vector = static_cast<std::uint8_t>(v);
            const bool first = guests_[0]->routes.find(vector).has_value();
            const bool second = guests_[1]->routes.find(vector).has_value();
            demand(!(first && second) && ((!first && !second) || leads[v] || any_partial));
        }
    }

    /// What the guest reads in its registers is what it has, once nothing waits for anything.
    void check_registers(unsigned g) {
        for (unsigned f = 0; f < function_count; ++f) {
            if (states_[g][f] != state::complete) {
                continue;
            }
            const hardware& of = w_->functions[f];
            const shape& s = shapes[f];
            const unsigned command = read(g, f, 4, 2);
            if (command == 0xFFFF) {
                demand(of.dead || of.gone); // hidden
                continue;
            }
            const bool awake = (read(g, f, power_at + 4, 2) & 3) == 0;
            if (quiet_[g] && !of.dead && !of.was_away) {
                for (unsigned n = 0; n <= 6; ++n) {
                    if (n == 6 ? s.rom != 0 : s.bars[n].size != 0) {
                        check_place(g, f, n, command, awake);
                    }
                }
            }
            if (of.was_away || of.wire_failed || of.dead) {
                continue;
            }
            const unsigned msi = s.msi != 0 ? read(g, f, msi_at + 2, 2) : 0;
            const unsigned x = s.msi_x != 0 && shows_msi_x_[g][f] ? read(g, f, msi_x_at + 2, 2) : 0;
            const bool x_on = (x & 0x8000) != 0 && awake;
            const bool msi_on = (msi & 1) != 0 && (x & 0x8000) == 0 && awake;
            demand(of.msi_x_is_on() == x_on && of.msi_is_on() == msi_on);
            demand(of.wire_is_open == (s.has_wire && awake && (msi & 1) == 0 && (x & 0x8000) == 0 &&
                                       (command & 0x400) == 0));
            demand((of.config.get(4, 2) & 3) == 3);
        }
    }
    void check_place(unsigned g, unsigned f, unsigned n, unsigned command, bool awake) {
        const bool is_rom = n == 6;
        const bar_type type = is_rom ? bar_type::memory_32 : shapes[f].bars[n].type;
        const std::uint64_t size = is_rom ? shapes[f].rom : shapes[f].bars[n].size;
        const unsigned offset = is_rom ? 0x30 : 0x10 + 4 * n;
        const std::uint32_t low = read(g, f, offset, 4);
        const std::uint32_t high = type == bar_type::memory_64 ? read(g, f, offset + 4, 4) : 0;
        const std::uint32_t flags = is_rom ? 0x7FF : type == bar_type::ports ? 3 : 15;
        const std::uint64_t address = std::uint64_t{high} << 32 | (low & ~flags);
        const auto told = devices_[g][f]->view().place(static_cast<std::uint8_t>(n));
        const bool decodes = awake && (command >> (type == bar_type::ports ? 0 : 1) & 1) != 0 &&
                             (!is_rom || (low & 1) != 0);
        const std::uint64_t end = type == bar_type::ports ? 0x1'0000 : 1ULL << 48;
        if (!decodes || address == 0) {
            demand(!told);
            return;
        }
        // What is being sized stays where it is; read back, it may be the last place there is.
        const std::uint64_t ones = ~(size - 1);
        if (static_cast<std::uint32_t>(address) ==
                (static_cast<std::uint32_t>(ones) & ~flags &
                 (type == bar_type::memory_1m ? 0xF'FFFF : ~0U)) ||
            high == 0xFFFF'FFFF || size > 0xFFFF'FFFF) {
            return;
        }
        if (told) {
            demand(told.address() == address);
            return;
        }
        bool in_the_way = address + size > end;
        if (type == bar_type::ports) {
            for (unsigned other = 0; other < function_count; ++other) {
                for (unsigned k = 0; k < 6; ++k) {
                    const bar_shape& bar = shapes[other].bars[k];
                    if (bar.type == bar_type::ports && devices_[g][other]) {
                        const auto at =
                            devices_[g][other]->view().place(static_cast<std::uint8_t>(k));
                        in_the_way = in_the_way || (at && at.address() < address + size &&
                                                    address < at.address() + bar.size);
                    }
                }
            }
        } else if (!in_the_way) {
            in_the_way = is_taken(g, address, size);
            for (const bar_somewhere& other : bars_[g]) {
                in_the_way =
                    in_the_way || (other.at < address + size && address < other.at + other.size);
            }
        }
        demand(in_the_way);
    }

    // ---- pt's own judge

    void audit() {
        assign::ownership_lists<96, 16, 8, 40> lists[guest_count];
        assign::ownership owners[guest_count];
        std::vector<assign::owned_domain> domains;
        domains.reserve(guest_count);
        const auto memory = [&](hpa frame) -> const std::uint64_t* {
            const auto& m = w_->vtd.memory;
            return m.taken(frame.raw) ? m.published + rig::memory_type::word_of(frame.raw)
                                      : nullptr;
        };
        struct unit_reader {
            decltype(memory)* of;
            const std::uint64_t* entries(hpa frame) const { return (*of)(frame); }
        };
        struct ept_reader {
            processors_of_guest* of;
            const std::uint64_t* entries(hpa frame) const {
                return of->arena.memory().entries(frame);
            }
        };
        const auto told = [&](const assign::finding& found) { judge(found); };
        std::uint64_t seen_by_unit[rig::frame_count / 64 + 1]{};
        const range<hpa> unit_memory{hpa{rig::memory_type::base}, rig::frame_count * 4 * KiB};
        const pt::paging::frame_bitmap unit_frames{unit_memory, seen_by_unit};
        for (unsigned g = 0; g < guest_count; ++g) {
            const auto mine =
                guests_[g]->guest.owned(lists[g].room(), static_cast<std::uint16_t>(g));
            demand(mine.has_value());
            owners[g] = *mine;
            std::uint16_t id = static_cast<std::uint16_t>(0xFFF0 + g);
            for (unsigned f = 0; f < function_count; ++f) {
                if (const auto entry = vtd_domains::entry_of(w_->vtd, 1, host_address_of(f));
                    (entry.low & 1) != 0 && (entry.low & ~0xFFFULL) == guests_[g]->domain_root) {
                    id = entry.domain_id();
                }
            }
            domains.push_back(
                {.unit = 0,
                 .through = pt::vtd::translation::second_stage(
                     hpa{guests_[g]->domain_root}, guests_[g]->domain.tables().format(), id)});
            owners[g].domains = {&domains[g], 1};
            std::uint64_t seen[table_frames / 64 + 1]{};
            auto& cpus = guests_[g]->cpus;
            const range<hpa> frames{hpa{arena_base(g)}, table_frames * 4 * KiB};
            const pt::paging::frame_bitmap own{frames, seen};
            assign::audit_pages(guests_[g]->ept.format(), ept_reader{&cpus}, hpa{cpus.root}, own,
                                owners[g], told);
            const auto& tables = guests_[g]->domain.tables();
            assign::audit_dma(tables.format(), unit_reader{&memory}, hpa{guests_[g]->domain_root},
                              unit_frames, owners[g], told);
            if (ports_are_news(g, owners[g])) {
                assign::audit_ports(cpus.bitmaps.bitmap_a, cpus.bitmaps.bitmap_b, owners[g], told);
            }
            assign::audit_vectors(
                {unit_reader{&memory}.entries(hpa{w_->vtd.unit[1].interrupt_table}),
                 static_cast<std::uint32_t>(w_->vtd.unit[1].interrupt_entries)},
                owners[g], told);
            assign::audit_confinement(owners[g], told);
            std::uint64_t seen_roots[rig::frame_count / 64 + 1]{};
            assign::audit_functions(
                {.address = pt::vtd::root_table_address{w_->vtd.unit[1].rtaddr}},
                unit_reader{&memory}, pt::paging::frame_bitmap{unit_memory, seen_roots}, owners[g],
                told);
            std::uint64_t seen_again[table_frames / 64 + 1]{};
            assign::audit_table_frames(guests_[g]->ept.format(), ept_reader{&cpus}, hpa{cpus.root},
                                       pt::paging::frame_bitmap{frames, seen_again}, own,
                                       static_cast<std::uint16_t>(g), told);
        }
        assign::claimed_numbers room[400];
        demand(assign::audit_sharing(owners, room, 400, told).has_value());
    }
    /// They are many, and change seldom.
    bool ports_are_news(unsigned g, const assign::ownership& owner) {
        const auto& bitmaps = guests_[g]->cpus.bitmaps;
        auto& before = audited_[g];
        std::vector<std::uint64_t> now;
        for (const assign::owned_ports& each : owner.ports) {
            now.insert(now.end(), {each.at.first().raw, each.at.size(), each.host.raw,
                                   static_cast<std::uint64_t>(each.way)});
        }
        now.insert(now.end(), bitmaps.bitmap_a, bitmaps.bitmap_a + 512);
        now.insert(now.end(), bitmaps.bitmap_b, bitmaps.bitmap_b + 512);
        const bool are_news = now != before;
        before = now;
        return are_news;
    }
    /// Of a function whose assignment is under way, or which is blocked, something may be missing;
    /// nothing else is ever found.
    void judge(const assign::finding& found) {
        using enum assign::finding_kind;
        const unsigned f = found.function.device - 5U;
        const bool is_blocked =
            found.kind == function_missing ||
            (found.kind == function_elsewhere && found.host != guests_[0]->domain_root &&
             found.host != guests_[1]->domain_root); // in the quarantine
        const bool is_missing = is_blocked || found.kind == vector_missing ||
                                found.kind == vector_malformed || found.kind == vector_elsewhere;
        if (!is_missing || f >= function_count ||
            (states_[found.guest][f] != state::partial && !w_->functions[f].dead)) {
            std::fprintf(stderr, "the audit: %s\n", assign::explain(found).c_str());
            demand(false);
        }
    }

    // ----------------------------------------------------------------------------------- the end

    void end() {
        repair();
        for (unsigned tries = 0; tries < 3; ++tries) {
            for (unsigned f = 0; f < function_count; ++f) {
                for (unsigned g = 0; g < guest_count; ++g) {
                    remove_function(g, f);
                }
            }
        }
        finish_step(0);
        for (unsigned g = 0; g < guest_count; ++g) {
            demand(quiet_[g] && functions_of(g) == 0);
            guests_[g]->cpus.root = 0; // no processor runs it any more
            demand(guests_[g]->guest.retire().has_value());
            demand(guests_[g]->domain.retire().has_value());
            demand(guests_[g]->cpus.arena.free_frames() == table_frames);
            for (unsigned port = 0; port < 1024; ++port) {
                const auto& bitmaps = guests_[g]->cpus.bitmaps;
                demand((port < 512 ? bitmaps.bitmap_a : bitmaps.bitmap_b)[port % 512] ==
                       ~std::uint64_t{0});
            }
        }
        for (unsigned v = 0; v < 256; ++v) {
            demand(!w_->vectors.is_taken(static_cast<std::uint8_t>(v)));
        }
        demand(w_->vtd.end());
        for (auto& row : devices_) {
            for (auto& each : row) {
                each.reset();
            }
        }
    }

    fuzz::reader in_;
    std::unique_ptr<world> w_ = std::make_unique<world>();
    std::unique_ptr<guest_machine> guests_[guest_count];
    std::optional<device> devices_[guest_count][function_count];
    state states_[guest_count][function_count]{};
    unsigned slots_[guest_count][function_count]{};
    bool shows_msi_x_[guest_count][function_count]{};
    chunk chunks_[chunk_count]{};
    bool pages_reserved_[guest_count][2]{};
    bool ports_reserved_[guest_count][2]{};
    std::vector<message> learned_;
    std::vector<bar_somewhere> bars_[guest_count];
    std::vector<std::uint64_t> audited_[guest_count];
    bool quiet_[guest_count]{};
    bool half_written_ = false; ///< a look into configuration space would say that it is whole
    bool unit_is_broken_ = false;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto one = std::make_unique<session>(fuzz::reader{data, size});
    one->run();
    return 0;
}
