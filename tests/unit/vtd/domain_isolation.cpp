// SPDX-License-Identifier: BSL-1.0
// Three guests, three units, six functions, and thousands of changes in random order: after each of
// them every function is asked for every address, through caches that forget nothing by themselves,
// and gets what a model of a few lines says. With and without units that fail in the middle.
#include "domain_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <random>
#include <set>

namespace {

using namespace vtd_domains;
using pt::errc;
using pt::error;
using pt::hpa;

/// A page, or a large one, that a guest may have.
struct slot {
    std::uint64_t address;
    std::uint64_t size;
};
constexpr std::uint64_t small = 0x1000;
constexpr std::uint64_t large = 0x20'0000;
constexpr slot slots[] = {
    {0, small},           {0x1000, small},      {0x2000, small},      {0x3000, small},
    {0x20'0000, large},   {0x40'0000, large},   {0x60'0000, small},   {0x60'1000, small},
    {0x7FFF'F000, small}, {0x8000'0000, small}, {0x8000'1000, small},
};
constexpr std::size_t slot_count = sizeof slots / sizeof slots[0];

constexpr int nowhere = -1;
constexpr int quarantined = 3;

/// What a guest has: where each slot leads, and where else it may lead because a unit did not
/// forget.
struct guest_model {
    std::array<std::uint64_t, slot_count> to{};
    std::array<std::set<std::uint64_t>, slot_count> perhaps{};

    void forgotten() {
        for (auto& one : perhaps) {
            one.clear();
        }
    }
};
/// Where a function is: one place, or several after an error.
struct function_model {
    pt::pci::function_address address;
    std::size_t behind;
    std::set<int> in{nowhere};
};

template <class Rig>
class machine_run {
    using base = rig_of<decltype(Rig::chosen.wide_store)>;
    using domain = typename base::domain;

public:
    machine_run(unsigned seed, bool failures, pt::vtd::unit_options with = {})
        : random_{seed}, failures_{failures}, m_{std::make_unique<Rig>()} {
        m_->unit[1].cap |= cap_cm;
        m_->unit[2].cap |= cap_rwbf;
        if (with.mode == pt::vtd::table_mode::scalable) {
            for (auto& one : m_->unit) {
                one.ecap = scalable_ecap;
            }
        } else if (seed % 2 != 0) {
            m_->unit[0].ecap &= ~(ecap_qi | ecap_ir);
        }
        m_->start(with);
        for (auto& one : guests_) {
            one = std::make_unique<domain>(*m_->vtd, m_->vtd->limits(39).value());
        }
        for (const auto& f : functions_) {
            nodes_.push_back(std::make_unique<typename base::attachment>(f.address));
        }
    }

    void run(unsigned steps) {
        for (unsigned i = 0; i < steps; ++i) {
            if (failures_ && random_() % 3 == 0) {
                break_something();
            }
            m_->memory.limit =
                random_() % 8 == 0 ? m_->memory.in_use + random_() % 4 : hardware_side::frame_count;
            const auto what = static_cast<unsigned>(random_() % 16);
            if (what < 4) {
                map();
            } else if (what < 7) {
                unmap();
            } else if (what < 8) {
                batch();
            } else if (what < 12) {
                attach();
            } else if (what < 13) {
                quarantine();
            } else if (what < 14) {
                release();
            } else if (what < 15) {
                flush();
                // Floods are silenced, by an entry that says the same otherwise.
                handled += m_->vtd->handle_faults(3, [](auto&&...) {}).faults;
            } else {
                retire();
            }
            m_->memory.limit = hardware_side::frame_count;
            CAPTURE(i, what);
            REQUIRE(agrees());
            if (failures_ && random_() % 4 == 0) {
                repair_all();
            }
        }
    }
    void end() {
        repair_all();
        for (int g = 0; g < 3; ++g) {
            REQUIRE((guests_[at(g)]->flush() || guests_[at(g)]->flush()));
            model_[at(g)].forgotten();
        }
        REQUIRE(agrees());
        for (std::size_t f = 0; f < 6; ++f) {
            REQUIRE((m_->vtd->release(*nodes_[f]) || m_->vtd->release(*nodes_[f])));
            functions_[f].in = {nowhere};
        }
        REQUIRE(agrees());
        for (auto& one : guests_) {
            REQUIRE(one->retire());
        }
        REQUIRE(m_->end());
    }

    unsigned succeeded = 0;
    unsigned failed = 0;
    unsigned no_frames = 0;
    unsigned handled = 0; ///< faults

private:
    static std::size_t at(int g) { return static_cast<std::size_t>(g); }
    int some_guest() { return static_cast<int>(random_() % 3); }

    void break_something() {
        remapping_unit& unit = m_->unit[random_() % 3];
        const unsigned n = 1 + static_cast<unsigned>(random_() % 6);
        switch (random_() % 4) {
        case 0: unit.stall_at = unit.orders + n; break;
        case 1: unit.refuse_at = unit.orders + n; break;
        case 2:
            unit.time_out_at = unit.orders + n;
            unit.guilty = 0x28;
            break;
        default: unit.vanish_at = unit.accesses + 3 * n; break;
        }
    }
    void repair_all() {
        for (auto& one : m_->unit) {
            repair(one);
        }
    }
    /// Whether the error says that a unit did not do its part; with no failures there is none.
    bool is_in_doubt(error why) {
        const bool doubt = why.code == errc::time_out || why.code == errc::absent ||
                           why.code == errc::hardware_fault;
        if (doubt) {
            REQUIRE(failures_);
            ++failed;
        } else {
            REQUIRE((why.code == errc::out_of_frames || why.code == errc::already_mapped ||
                     why.code == errc::busy));
            no_frames += why.code == errc::out_of_frames ? 1 : 0;
        }
        return doubt;
    }

    /// Slots next to each other, with no hole between.
    std::pair<std::size_t, std::size_t> some_slots() {
        const std::size_t first = random_() % slot_count;
        std::size_t last = first;
        while (last + 1 < slot_count && random_() % 2 == 0 &&
               slots[last].address + slots[last].size == slots[last + 1].address) {
            ++last;
        }
        return {first, last};
    }
    static pt::range<pt::iova> input_of(std::size_t first, std::size_t last) {
        return {pt::iova{slots[first].address},
                slots[last].address + slots[last].size - slots[first].address};
    }
    void stale(guest_model& g, std::size_t s, std::uint64_t value) { g.perhaps[s].insert(value); }

    void map() {
        const int which = some_guest();
        guest_model& g = model_[at(which)];
        const auto [first, last] = some_slots();
        // A page of the host is never used twice, so that what is old is seen.
        const std::uint64_t output =
            memory_of(static_cast<unsigned>(which)) + (++maps_ % 2000) * 4 * large;
        bool taken = false;
        for (std::size_t s = first; s <= last; ++s) {
            taken = taken || g.to[s] != 0;
        }
        // Large where it is large in input and output.
        const std::uint64_t shift = slots[first].address % large;
        const auto done = guests_[at(which)]->map(input_of(first, last), hpa{output + shift}, rw);
        if (taken) { // it may have asked for frames before it saw that
            REQUIRE((done.error().code == errc::already_mapped ||
                     done.error().code == errc::out_of_frames));
            return;
        }
        if (!done && !is_in_doubt(done.error())) {
            return; // out of frames
        }
        for (std::size_t s = first; s <= last; ++s) {
            g.to[s] = output + shift + (slots[s].address - slots[first].address);
            if (!done) {
                stale(g, s, 0);
            }
        }
        settle(g, done);
    }
    void unmap() {
        const int which = some_guest();
        guest_model& g = model_[at(which)];
        const auto [first, last] = some_slots();
        const auto done = guests_[at(which)]->unmap(input_of(first, last));
        if (!done && !is_in_doubt(done.error())) {
            return;
        }
        gone(g, first, last, done.has_value());
        settle(g, done);
    }
    void gone(guest_model& g, std::size_t first, std::size_t last, bool forgotten) {
        for (std::size_t s = first; s <= last; ++s) {
            if (!forgotten && g.to[s] != 0) {
                stale(g, s, g.to[s]);
            }
            g.to[s] = 0;
        }
    }
    void settle(guest_model& g, const pt::result<void>& done) {
        if (done) {
            ++succeeded;
            g.forgotten();
        }
    }
    void batch() {
        const int which = some_guest();
        guest_model& g = model_[at(which)];
        typename domain::batch changes{*guests_[at(which)]};
        for (std::uint64_t n = 1 + random_() % 12; n != 0; --n) {
            const auto [first, last] = some_slots();
            const auto done = changes.unmap(input_of(first, last));
            if (done) {
                gone(g, first, last, false);
            } else {
                REQUIRE(done.error().code == errc::out_of_frames);
            }
        }
        REQUIRE(agrees()); // before the flush, old or new
        const auto done = changes.flush();
        if (!done) {
            REQUIRE(is_in_doubt(done.error()));
            changes.leave();
        }
        settle(g, done);
    }
    void flush() {
        const int which = some_guest();
        const auto done = guests_[at(which)]->flush();
        if (!done) {
            REQUIRE(is_in_doubt(done.error()));
        }
        settle(model_[at(which)], done);
    }
    void attach() {
        const int which = some_guest();
        const std::size_t f = random_() % 6;
        const bool here = functions_[f].in == std::set<int>{which};
        const auto done = guests_[at(which)]->attach(*nodes_[f]);
        REQUIRE((!here || done.error().code == errc::already_mapped ||
                 done.error().code == errc::out_of_frames));
        went(f, which, done);
    }
    void quarantine() {
        const std::size_t f = random_() % 6;
        went(f, quarantined, m_->vtd->quarantine(*nodes_[f]));
    }
    void release() {
        const std::size_t f = random_() % 6;
        went(f, nowhere, m_->vtd->release(*nodes_[f]));
    }
    void went(std::size_t f, int where, const pt::result<void>& done) {
        if (done) {
            ++succeeded;
            functions_[f].in = {where};
        } else if (is_in_doubt(done.error())) {
            functions_[f].in.insert({where, nowhere});
        } else if (!nodes_[f]->attached()) {
            functions_[f].in = {nowhere};
        }
    }
    void retire() {
        const int which = some_guest();
        bool used = false;
        for (std::size_t f = 0; f < 6; ++f) {
            used = used || functions_[f].in.contains(which);
        }
        const auto done = guests_[at(which)]->retire();
        if (done) {
            ++succeeded;
            model_[at(which)] = {};
            for (auto& f : functions_) {
                // Then it was in none of the others either that are possible still.
                f.in.erase(which);
            }
        } else {
            REQUIRE(used);
            REQUIRE(done.error().code == errc::busy);
        }
        REQUIRE((used || done));
    }

    [[nodiscard]] bool agrees() {
        bool all = m_->right();
        for (const function_model& f : functions_) {
            for (std::size_t s = 0; s < slot_count; ++s) {
                const std::uint64_t inside = random_() % slots[s].size;
                const bool write = random_() % 2 == 0;
                const outcome o =
                    m_->unit[f.behind].dma(f.address.source_id(), slots[s].address + inside, write);
                std::set<std::uint64_t> allowed;
                for (const int where : f.in) {
                    if (where == nowhere || where == quarantined) {
                        allowed.insert(0);
                        continue;
                    }
                    const guest_model& g = model_[at(where)];
                    allowed.insert(g.to[s]);
                    allowed.insert(g.perhaps[s].begin(), g.perhaps[s].end());
                }
                const std::uint64_t seen = o.reached ? o.to - inside : 0;
                if (!allowed.contains(seen)) {
                    UNSCOPED_INFO("function " << f.address.source_id() << " of " << f.behind
                                              << " at slot " << s << " gets " << seen
                                              << " instead of " << *allowed.begin() << ", reason "
                                              << o.reason);
                    all = false;
                }
            }
        }
        if (!m_->right()) {
            UNSCOPED_INFO((m_->memory.violation != nullptr ? m_->memory.violation : "")
                          << (m_->locks.wrong != nullptr ? m_->locks.wrong : ""));
        }
        return all;
    }

    std::mt19937 random_;
    bool failures_;
    std::uint64_t maps_ = 0;
    std::unique_ptr<Rig> m_;
    std::unique_ptr<domain> guests_[3];
    guest_model model_[3]{};
    function_model functions_[6]{{graphics, 0}, {card, 0}, {second_card, 0},
                                 {nic, 1},      {disk, 1}, {far, 2}};
    std::vector<std::unique_ptr<typename base::attachment>> nodes_;
};

template <class Rig>
void runs(bool failures, pt::vtd::unit_options with = {}) {
    for (unsigned seed = 1; seed <= 6; ++seed) {
        CAPTURE(seed);
        machine_run<Rig> machine{seed, failures, with};
        machine.run(5000);
        machine.end();
        CHECK(machine.handled > 100);
        CHECK(machine.succeeded > 1500);
        CHECK(machine.no_frames > 0);
        CHECK((machine.failed > 150) == failures);
    }
}

TEST_CASE("guests share nothing, whatever is done", "[vtd][domain][isolation]") {
    runs<rig>(false);
}
TEST_CASE("guests share nothing while entries change at once", "[vtd][domain][isolation]") {
    runs<wide_rig>(false);
}
TEST_CASE("guests share nothing in scalable mode", "[vtd][domain][isolation][scalable]") {
    runs<rig>(false, {.mode = pt::vtd::table_mode::scalable});
}
TEST_CASE("guests share nothing while units fail, and nothing is lost",
          "[vtd][domain][isolation][errors]") {
    runs<rig>(true);
}
TEST_CASE("guests share nothing while units fail and entries change at once",
          "[vtd][domain][isolation][errors]") {
    runs<wide_rig>(true);
}
TEST_CASE("guests share nothing while units in scalable mode fail",
          "[vtd][domain][isolation][errors][scalable]") {
    runs<rig>(true, {.mode = pt::vtd::table_mode::scalable});
}

} // namespace
