// SPDX-License-Identifier: BSL-1.0
// A unit is switched on from every state in which firmware, or another kernel, may have left it.
// What must be written is made up by a second model, from the manual's text [vt-d]: "Set Root Table
// Pointer Operation", "Queued Invalidation Interface", "Global Command Register", "Protected Memory
// Enable Register". A device that sends requests all the while reaches nothing that was closed
// before.
#include "../../vtd_model/rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace vtd_model;
using pt::errc;
using pt::error;
using pt::vtd::table_mode;
using hardware = fake_unit<16>;

constexpr std::uint32_t IOTLB = 0xF8;
constexpr std::uint16_t nic = 0x28;
constexpr std::uint64_t somewhere = 0x1234'5000; ///< memory that is no table, below 4 GiB

/// What firmware left.
struct left {
    enum class tables { off, legacy, scalable, aborting } translates = tables::off;
    enum class queue { none, idle, pending, hung, refused, timed_out } invalidates = queue::none;
    enum class regions { absent, off, some, low_only } protects = regions::absent;
    enum class interrupts { off, on, compatible } remaps = interrupts::off;
    bool faults = false;

    [[nodiscard]] std::string name() const {
        return "translation " + std::to_string(static_cast<int>(translates)) + ", queue " +
               std::to_string(static_cast<int>(invalidates)) + ", protection " +
               std::to_string(static_cast<int>(protects)) + ", interrupts " +
               std::to_string(static_cast<int>(remaps));
    }
};

/// How the unit is built, and how it is wanted.
struct wanted {
    bool scalable_unit = false;
    table_mode mode = table_mode::legacy;
    bool by_queue = true;
    bool sets_root_at_once = false; ///< ESRTPS
    bool write_buffer = false;
    bool caching_mode = false;

    [[nodiscard]] pt::vtd::unit_options options() const {
        return {.mode = mode,
                .invalidation = by_queue ? pt::vtd::invalidation_interface::queue_where_possible
                                         : pt::vtd::invalidation_interface::registers};
    }
};

/// The machine as firmware left it.
void leave(hardware& m, const left& by, const wanted& unit) {
    m.ecap = unit.scalable_unit ? scalable_ecap | ecap_adms : qemu_ecap;
    m.cap |= (unit.sets_root_at_once ? cap_esrtps : 0) | (unit.write_buffer ? cap_rwbf : 0) |
             (unit.caching_mode ? cap_cm : 0);
    switch (by.translates) {
    case left::tables::off: break;
    case left::tables::legacy: {
        const std::uint64_t root = foreign_frame(m);
        const std::uint64_t contexts = foreign_frame(m);
        m.write(root, contexts | 1);
        m.write(contexts + 16 * nic, 0x9); // passed through, 4 levels, domain 1
        m.write(contexts + 16 * nic + 8, 0x102);
        m.firmware_translation(root);
        break;
    }
    case left::tables::scalable: m.firmware_translation(foreign_frame(m), 1); break;
    case left::tables::aborting: m.firmware_translation(0, 3); break;
    }
    if (by.invalidates != left::queue::none) {
        const std::uint64_t queue = foreign_frame(m);
        const std::uint64_t step = unit.scalable_unit ? 32 : 16;
        const std::uint64_t wide = unit.scalable_unit ? 0x800 : 0;
        const std::uint64_t status = foreign_frame(m);
        const bool refused = by.invalidates == left::queue::refused;
        for (std::uint64_t i = 0; i < 6; ++i) {
            m.write(queue + i * step, refused ? 0xF : 0x25 | (i + 1) << 32);
            m.write(queue + i * step + 8, refused ? 0 : status + i * 4);
        }
        const std::uint64_t head = 2 * step;
        m.firmware_queue(queue | wide, head, by.invalidates == left::queue::idle ? head : 6 * step);
        if (by.invalidates == left::queue::hung) {
            m.stall_at = 1; // the first descriptor that it takes
        }
        if (refused) {
            m.fsts |= IQE;
        }
        if (by.invalidates == left::queue::timed_out) {
            m.fsts |= ITE | ICE;
        }
    }
    switch (by.protects) {
    case left::regions::absent: m.cap &= ~(cap_plmr | cap_phmr); break;
    case left::regions::off: m.cap |= cap_plmr | cap_phmr; break;
    case left::regions::some:
        m.firmware_protection(0x1000'0000, 0x1FFF'FFFF, 0x1'0000'0000, 0x1'FFFF'FFFF);
        break;
    case left::regions::low_only: // there is no other region
        m.firmware_protection(0x1000'0000, 0x1FFF'FFFF);
        m.cap &= ~cap_phmr;
        break;
    }
    if (by.remaps != left::interrupts::off) {
        m.firmware_interrupt_remapping(foreign_frame(m) | 7,
                                       by.remaps == left::interrupts::compatible);
    }
    if (by.faults) {
        m.record(0x5000, std::uint64_t{0x2} << 32 | nic);
    }
}

/// Whether the unit translates in a mode that is not the wanted one.
bool in_other_mode(const left& by, const wanted& how) {
    return by.translates == left::tables::aborting ||
           (by.translates == left::tables::legacy && how.mode != table_mode::legacy) ||
           (by.translates == left::tables::scalable && how.mode != table_mode::scalable);
}

/// The writes that the manual asks for, but for those to FSTS; none: nothing can be done.
std::optional<std::vector<event>> writes_for(const hardware& m, const left& by, const wanted& unit,
                                             std::uint64_t queue, std::uint64_t root) {
    std::vector<event> out;
    std::uint32_t on = m.gsts & persistent;
    const auto order = [&](std::uint32_t once) { out.push_back(order32(GCMD, on | once)); };
    const auto flush = [&] {
        if (unit.write_buffer) {
            order(WBF);
        }
    };
    const bool other_mode = in_other_mode(by, unit);
    const bool closes = other_mode && !unit.sets_root_at_once;
    const bool has_both = by.protects == left::regions::off || by.protects == left::regions::some;
    const bool protected_before =
        by.protects == left::regions::some || by.protects == left::regions::low_only;
    if (closes && !has_both) {
        return std::nullopt;
    }
    if (by.invalidates != left::queue::none) {
        on &= ~QIE;
        order(0);
    }
    if (unit.by_queue) {
        out.push_back(order64(IQT, 0));
        out.push_back(order64(IQA, queue | (unit.scalable_unit ? 0x800U : 0U)));
        flush();
        on |= QIE;
        order(0);
    }
    if (closes) {
        if (protected_before) {
            out.push_back(order32(PMEN, 0));
        }
        out.push_back(order32(PLMBASE, 0));
        out.push_back(order32(PLMLIMIT, 0xFFFF'FFFF));
        out.push_back(order64(PHMBASE, 0x1'0000'0000));
        out.push_back(order64(PHMLIMIT, 0xFFFF'FFFF'FFFF'FFFF));
        out.push_back(order32(PMEN, EPM));
        on &= ~TE;
        order(0);
    }
    flush();
    out.push_back(order64(RTADDR, root | (unit.mode == table_mode::scalable ? 0x400U : 0U)));
    order(SRTP);
    flush();
    if (unit.by_queue) {
        // context cache, wait, (PASID cache, wait,) IOTLB, wait
        const std::uint64_t descriptors = unit.mode == table_mode::scalable ? 6 : 4;
        out.push_back(order64(IQT, descriptors * (unit.scalable_unit ? 32 : 16)));
    } else {
        out.push_back(order64(CCMD, 0xA000'0000'0000'0000));
        flush();
        out.push_back(order64(IOTLB, 0x9003'0000'0000'0000));
    }
    on |= TE;
    order(0);
    if (protected_before || closes) {
        out.push_back(order32(PMEN, 0));
    }
    return out;
}

std::vector<event> writes_of(const hardware& m) {
    std::vector<event> out;
    for (std::size_t i = 0; i < m.events; ++i) {
        event e = m.journal[i];
        if ((e.what == event::kind::write32 || e.what == event::kind::write64) && e.where != FSTS) {
            e.value &= e.where == PMEN ? EPM : ~std::uint64_t{0}; // PRS is read-only
            out.push_back(e);
        }
    }
    return out;
}

/// Whether the device that hammered reached nothing untranslated once that was closed.
bool stayed_closed(const hardware& m) {
    bool closed = false;
    for (std::size_t i = 0; i < m.hammer.count; ++i) {
        const outcome& o = m.hammer.seen[i];
        const bool open = o.reached && !o.translated;
        if (closed && open) {
            return false;
        }
        closed = closed || !open;
    }
    return !m.guard.opened && m.hammer.count != 0 && m.hammer.count < 256;
}

void check(const left& by, const wanted& how) {
    const auto machine = std::make_unique<hardware>();
    hardware& m = *machine;
    leave(m, by, how);
    const std::size_t of_firmware = m.in_use;
    auto unit = driver(m, how.options());
    const std::uint64_t root = unit.functions().root().raw;
    const std::uint64_t queue =
        hardware::base + (of_firmware + 1) * 4096; // after the interrupt table
    m.hammer.source_id = nic;
    m.hammer.address = m.guard.address = somewhere;
    m.hammer.write = true;
    m.hammer.runs = m.guard.runs = true;
    m.forget_journal();
    const std::uint32_t before = m.gsts;
    const std::uint32_t errors = m.fsts;
    const auto expected = writes_for(m, by, how, queue, root);

    const auto started = unit.start();
    if (!expected) {
        CHECK(started == error{errc::busy, RTADDR});
        CHECK(register_writes(m) == 0);
        CHECK(m.gsts == before);
        CHECK(m.fsts == errors);
        CHECK(unit.stop()); // which leaves what firmware switched on
        CHECK(m.gsts == before);
        m.hammer.runs = m.guard.runs = false;
    } else {
        REQUIRE(started);
        const std::vector<event> written = writes_of(m);
        CHECK((written == *expected));
        const std::uint32_t interrupts = before & (IRE | SIRTP | CFI);
        CHECK(m.gsts == (TE | SRTP | interrupts | (how.by_queue ? QIE : 0U)));
        CHECK(m.pmen == 0);
        CHECK((m.fsts & (IQE | ITE | ICE)) == 0);
        CHECK(stayed_closed(m));
        m.hammer.runs = m.guard.runs = false;
        CHECK(m.dma(nic, somewhere, true).reason == (how.mode == table_mode::legacy ? 0x1 : 0x39));
        if (by.faults) {
            const auto first = unit.faults().take();
            REQUIRE(first);
            CHECK(first->source.source_id() == nic);
        }
        CHECK(unit.stop());
    }
    CHECK(unit.retire());
    CHECK(m.in_use == of_firmware);
    CHECK(std::string{m.violation == nullptr ? "nothing" : m.violation} == "nothing");
}

/// Every state that `wants` to be checked; how many there were.
template <class Wants>
unsigned each_state(const wanted& how, Wants wants) {
    unsigned states = 0;
    for (int t = 0; t < (how.scalable_unit ? 4 : 2); ++t) {
        for (int q = 0; q < 6; ++q) {
            for (int p = 0; p < 4; ++p) {
                for (int r = 0; r < 3; ++r) {
                    left by{static_cast<left::tables>(t), static_cast<left::queue>(q),
                            static_cast<left::regions>(p), static_cast<left::interrupts>(r)};
                    by.faults = (t + q + p + r) % 2 == 0;
                    if (wants(by)) {
                        INFO(by.name());
                        check(by, how);
                        ++states;
                    }
                }
            }
        }
    }
    return states;
}

const wanted ways[] = {
    {},
    {.by_queue = false},
    {.caching_mode = true},
    {.write_buffer = true},
    {.by_queue = false, .write_buffer = true},
    {.sets_root_at_once = true},
    {.scalable_unit = true, .mode = table_mode::scalable},
    {.scalable_unit = true, .mode = table_mode::scalable, .sets_root_at_once = true},
    {.scalable_unit = true}, // in legacy mode all the same
    {.scalable_unit = true, .by_queue = false},
    {.scalable_unit = true, .sets_root_at_once = true},
};

TEST_CASE("a unit is taken over from whatever state, in the manual's order and never open",
          "[vtd][rule 12][rule 13][hostile]") {
    for (const wanted& how : ways) {
        const unsigned states = each_state(how, [&](const left& by) {
            return by.invalidates != left::queue::refused &&
                   !(how.sets_root_at_once && in_other_mode(by, how));
        });
        CHECK(states >= 2 * 5 * 4 * 3);
    }
}

TEST_CASE("a table mode changes under way where SRTP invalidates by itself",
          "[vtd][rule 12][rule 13]") {
    for (const wanted& how : ways) {
        if (how.sets_root_at_once && how.scalable_unit) {
            CHECK(each_state(how, [&](const left& by) {
                      return by.invalidates != left::queue::refused && in_other_mode(by, how);
                  }) == 2 * 5 * 4 * 3);
        }
    }
}

TEST_CASE("a queue that stands at a descriptor which the unit refused is taken over",
          "[vtd][rule 12][rule 21][hostile]") {
    for (const wanted& how : ways) {
        each_state(how, [&](const left& by) {
            return by.invalidates == left::queue::refused &&
                   !(how.sets_root_at_once && in_other_mode(by, how));
        });
    }
}

} // namespace
