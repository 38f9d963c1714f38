// SPDX-License-Identifier: BSL-1.0
// Every state that a hardware walker can see, after each single store of the engine: old or new.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"
#include "../../paging_model/shadow.hpp"
#include "../../paging_model/store_watch.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include <cstdint>
#include <functional>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define PT_NO_STORE_WATCH
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PT_NO_STORE_WATCH // it holds signals back
#endif
#endif

#ifndef PT_NO_STORE_WATCH

namespace {

using namespace paging_model;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

constexpr std::uint64_t base = 64 * GiB; // inside the width of all formats, at a seam of level 3

enum class eviction { never, sometimes, at_once };

/// Tables under test, and what is looked at after each store.
template <class Kit>
class theatre {
public:
    using address = typename Kit::address;
    using table = pt::paging::table<typename Kit::format, frames_memory, shadow_publication>;

    theatre() : theatre{eviction::never} {}
    explicit theatre(eviction when) : when_{when} {}
    ~theatre() {
        memory.never_fail();
        auto owed = tables.retire();
        nobody hardware;
        (void)owed.redeem(hardware);
    }

    frames memory{29};
    shadow image{memory};
    table tables{frames_memory{&memory}, Kit{}.make(), shadow_publication{&image}};
    hpa root{*tables.root()};

    pt::range<address> at(std::uint64_t offset, std::uint64_t size) {
        return {address{base + offset}, size};
    }
    void given(std::uint64_t offset, std::uint64_t size, std::uint64_t output) {
        auto done = tables.map(at(offset, size), hpa{output}, Kit::choices[0]);
        REQUIRE(done);
    }

    struct probe {
        std::uint64_t input;
        outcome before;
        outcome after;
        bool arrived = false;        ///< the coherent walker found the new translation
        bool shadow_arrived = false; ///< so did the non-coherent one
    };
    /// An address to look at; `after` is what the operation shall make of it.
    void expect(std::uint64_t offset, const outcome& after) {
        probes_.push_back({base + offset, walk_live(base + offset), after});
    }
    void expect_unchanged(std::uint64_t offset) { expect(offset, walk_live(base + offset)); }

    /// Runs the operation; each store is followed by a look at every probe.
    template <class Operation>
    void watch(Operation&& operation) {
        image.forget_publications();
        written_.assign(memory.region_bytes() / 8, 0);
        before_.assign(memory.region(), memory.region() + memory.region_bytes() / 8);
        last_ = before_;
        was_used_.clear();
        for (std::size_t i = 0; i < memory.region_bytes() / 4096; ++i) {
            was_used_.push_back(memory.is_used(memory.frame_at(i)));
        }
        store_watch::run(memory.region(), memory.region_bytes(), &theatre::seen, this,
                         std::forward<Operation>(operation));
        CHECK(wrong_ == 0);
        CHECK(returned_ == 0);
        CHECK(joined_ == 0);
        CHECK(unpublished_lines() == 0);
        for (const probe& p : probes_) {
            INFO("input " << std::hex << p.input);
            CHECK(walk_live(p.input) == p.after);
            CHECK(walk_shadow(p.input) == p.after);
        }
    }
    [[nodiscard]] std::size_t stores() const { return stores_; }
    /// How often the busiest entry was written of those tables that did not exist before.
    [[nodiscard]] unsigned writes_of_new_entries() const {
        unsigned most = 0;
        for (std::size_t i = 0; i < written_.size(); ++i) {
            if (!was_used_[i / 512] && memory.is_used(memory.frame_at(i / 512))) {
                most = written_[i] > most ? written_[i] : most;
            }
        }
        return most;
    }
    /// Lines that were published although nothing in them changed that hardware looks at.
    [[nodiscard]] unsigned needless_publications() const {
        return lines([](bool changed, unsigned published) { return !changed && published != 0; });
    }
    /// Lines that changed and were not published.
    [[nodiscard]] unsigned unpublished_lines() const {
        return lines([](bool changed, unsigned published) { return changed && published == 0; });
    }
    /// How often lines of tables that existed before were published, all together.
    [[nodiscard]] unsigned flushes() const {
        unsigned sum = 0;
        for (std::size_t i = 0; i < before_.size(); i += shadow::entries_per_line) {
            sum += was_used_[i / 512] ? image.published(memory.region() + i) : 0;
        }
        return sum;
    }

private:
    static constexpr std::uint64_t looked_at = ~(std::uint64_t{0x1FF} << 52);

    /// Counts the lines of tables in use for which `condition` holds. In a table that existed before,
    /// a line changed where an entry did, but for bits 60:52, which all formats here ignore; a table
    /// that is new changed as a whole.
    template <class Condition>
    unsigned lines(Condition&& condition) const {
        unsigned sum = 0;
        for (std::size_t i = 0; i < before_.size(); i += shadow::entries_per_line) {
            if (!memory.is_used(memory.frame_at(i / 512))) {
                continue; // given up again, and never seen
            }
            bool changed = !was_used_[i / 512];
            for (std::size_t k = i; k < i + shadow::entries_per_line; ++k) {
                changed = changed || ((before_[k] ^ memory.region()[k]) & looked_at) != 0;
            }
            sum += condition(changed, image.published(memory.region() + i)) ? 1U : 0U;
        }
        return sum;
    }
    /// In a table that hardware may see, one store changes one entry, or bits that it ignores.
    void compare_table(std::size_t frame) {
        unsigned changed = 0;
        for (std::size_t k = frame * 512; k < (frame + 1) * 512; ++k) {
            changed += ((last_[k] ^ memory.region()[k]) & looked_at) != 0 ? 1U : 0U;
            last_[k] = memory.region()[k];
        }
        joined_ += was_used_[frame] && changed > 1 ? 1U : 0U;
    }
    outcome walk_live(std::uint64_t input) const {
        return Kit{}.hardware().walk(
            [this](std::uint64_t frame, unsigned i) { return memory.read(frame, i); }, root.raw,
            input);
    }
    outcome walk_shadow(std::uint64_t input) const {
        return Kit{}.hardware().walk(
            [this](std::uint64_t frame, unsigned i) { return image.read(frame, i); }, root.raw,
            input);
    }
    void look(const probe& p, const outcome& found, bool& arrived) {
        wrong_ += !(found == p.before) && !(found == p.after) ? 1 : 0;
        if (!(p.before == p.after)) {
            returned_ += arrived && found == p.before ? 1 : 0;
            arrived = arrived || found == p.after;
        }
    }
    static void seen(void* context, std::uint64_t* stored) {
        auto& self = *static_cast<theatre*>(context);
        ++self.stores_;
        const auto at = static_cast<std::size_t>(stored - self.memory.region());
        ++self.written_[at];
        self.compare_table(at / 512);
        self.chance_ = self.chance_ * 6364136223846793005 + 1442695040888963407;
        if (self.when_ == eviction::at_once ||
            (self.when_ == eviction::sometimes && self.chance_ >> 62 == 0)) {
            self.image.write_back(stored);
        }
        for (probe& p : self.probes_) {
            self.look(p, self.walk_live(p.input), p.arrived);
            self.look(p, self.walk_shadow(p.input), p.shadow_arrived);
        }
    }

    eviction when_;
    std::vector<probe> probes_;
    std::vector<unsigned> written_;
    std::vector<std::uint64_t> before_; ///< all entries before the operation
    std::vector<std::uint64_t> last_;   ///< and before the last store
    std::vector<bool> was_used_;
    std::size_t stores_ = 0;
    unsigned wrong_ = 0;    ///< neither old nor new
    unsigned returned_ = 0; ///< old again after new
    unsigned joined_ = 0;   ///< stores that changed more than one entry of a table in use
    std::uint64_t chance_ = 1;
};

constexpr outcome nothing{};

/// Where empty entries are zeros the compiler makes a memset of them, which may go byte by byte: in a
/// table that nobody sees yet, so it does not matter.
template <class Kit>
constexpr bool writes_can_be_counted = Kit::nothing != 0;

template <class Kit>
void maps(eviction when) {
    const auto mapped = [](std::uint64_t output) { return Kit::expected(Kit::choices[1], output); };
    SECTION("the first page of an empty tree") {
        theatre<Kit> t{when};
        t.expect_unchanged(0);
        t.expect(4 * KiB, mapped(0x5000));
        t.expect_unchanged(8 * KiB);
        t.watch(
            [&] { REQUIRE(t.tables.map(t.at(4 * KiB, 4 * KiB), hpa{0x5000}, Kit::choices[1])); });
        CHECK(t.needless_publications() == 0);
        if (writes_can_be_counted<Kit>) {
            CHECK(t.writes_of_new_entries() == 1);
            // The tables' entries; the link, hidden and then shown. A store may write several entries.
            CHECK(t.stores() <= (Kit::levels - 1) * 512 + 2);
        }
    }
    SECTION("pages around the seam of two tables that exist") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x10'0000);
        t.given(2 * MiB + 64 * KiB, 4 * KiB, 0x20'0000);
        t.expect_unchanged(0);
        t.expect_unchanged(2 * MiB - 12 * KiB);
        for (std::uint64_t i = 0; i < 5; ++i) {
            t.expect(2 * MiB - 8 * KiB + i * 4 * KiB, mapped(0x70'0000'0000 + i * 4 * KiB));
        }
        t.expect_unchanged(2 * MiB + 12 * KiB);
        t.expect_unchanged(2 * MiB + 64 * KiB);
        t.watch([&] {
            REQUIRE(t.tables.map(t.at(2 * MiB - 8 * KiB, 20 * KiB), hpa{0x70'0000'0000},
                                 Kit::choices[1]));
        });
        CHECK(t.needless_publications() == 0);
        CHECK(t.stores() == 5 + 2); // five leaves, two counts of live entries
        CHECK(t.image.publications() == 2);
        CHECK(t.flushes() == 2);
    }
    SECTION(
        "each of many pages in a table that exists is one store; their lines are flushed once") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x10'0000);
        t.expect_unchanged(0);
        t.expect_unchanged(92 * KiB);
        for (const std::uint64_t at : {std::uint64_t{24}, std::uint64_t{31}, std::uint64_t{32},
                                       std::uint64_t{100}, std::uint64_t{323}}) {
            t.expect(at * 4 * KiB, mapped(0x3000'1000 + (at - 24) * 4 * KiB));
        }
        t.expect_unchanged(324 * 4 * KiB);
        t.watch([&] {
            REQUIRE(
                t.tables.map(t.at(24 * 4 * KiB, 300 * 4 * KiB), hpa{0x3000'1000}, Kit::choices[1]));
        });
        CHECK(t.stores() == 300 + 1);       // and a count
        CHECK(t.image.publications() == 1); // entries 24 to 323
        CHECK(t.flushes() == 323 / 8 - 2);  // of the lines 3 to 40
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a run of large pages, and a new table at either end of it, are one publication") {
        theatre<Kit> t{when};
        t.given(10 * 2 * MiB, 2 * MiB, 0x4000'0000);
        t.given(42 * 2 * MiB, 2 * MiB, 0x4000'0000);
        const std::uint64_t first = 12 * 2 * MiB - 4 * KiB; // in entry 11
        const std::uint64_t end = 41 * 2 * MiB + 4 * KiB;   // in entry 41
        t.expect_unchanged(10 * 2 * MiB);
        t.expect_unchanged(11 * 2 * MiB);
        t.expect_unchanged(first - 4 * KiB);
        for (const std::uint64_t at :
             {first, 12 * 2 * MiB, 31 * 2 * MiB, 40 * 2 * MiB + 4 * KiB, 41 * 2 * MiB}) {
            t.expect(at, mapped(8 * GiB + at));
        }
        t.expect_unchanged(end);
        t.expect_unchanged(42 * 2 * MiB);
        t.watch([&] {
            REQUIRE(t.tables.map(t.at(first, end - first), hpa{8 * GiB + first}, Kit::choices[1]));
        });
        CHECK(t.image.publications() == 2 + 1); // the new tables; entries 11 to 41
        CHECK(t.flushes() == 41 / 8);           // of the lines 1 to 5
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a run of large pages between two tables that exist") {
        theatre<Kit> t{when};
        t.given(11 * 2 * MiB, 4 * KiB, 0x10'0000);
        t.given(42 * 2 * MiB - 4 * KiB, 4 * KiB, 0x20'0000);
        const std::uint64_t first = 12 * 2 * MiB - 8 * KiB; // in entry 11
        const std::uint64_t end = 41 * 2 * MiB + 4 * KiB;   // in entry 41
        t.expect_unchanged(11 * 2 * MiB);
        for (const std::uint64_t at : {first, 12 * 2 * MiB, 40 * 2 * MiB, 41 * 2 * MiB}) {
            t.expect(at, mapped(8 * GiB + at));
        }
        t.expect_unchanged(end);
        t.expect_unchanged(42 * 2 * MiB - 4 * KiB);
        t.watch([&] {
            REQUIRE(t.tables.map(t.at(first, end - first), hpa{8 * GiB + first}, Kit::choices[1]));
        });
        CHECK(t.stores() == 2 + 29 + 1 + 3); // leaves, and the counts of three tables
        CHECK(t.image.publications() == 3);
        CHECK(t.flushes() == 1 + 5 + 1); // entries 12 to 40 lie in the lines 1 to 5
        CHECK(t.needless_publications() == 0);
    }
    SECTION("small, large and small pages in one map, beside what exists") {
        theatre<Kit> t{when};
        t.given(1 * GiB - 2 * MiB, 4 * KiB, 0x10'0000);
        t.given(1 * GiB + 8 * MiB, 2 * MiB, 0x40'0000);
        const std::uint64_t first = 1 * GiB - 8 * KiB;
        const std::uint64_t size = 8 * KiB + 4 * MiB + 4 * KiB;
        t.expect_unchanged(1 * GiB - 2 * MiB);
        t.expect_unchanged(first - 4 * KiB);
        for (const std::uint64_t at : {std::uint64_t{0}, 4 * KiB, 8 * KiB, 12 * KiB,
                                       8 * KiB + 2 * MiB, 4 * KiB + 4 * MiB, 8 * KiB + 4 * MiB}) {
            t.expect(first + at, mapped(first + at));
        }
        t.expect_unchanged(first + size);
        t.expect_unchanged(1 * GiB + 8 * MiB);
        t.watch([&] { REQUIRE(t.tables.map(t.at(first, size), hpa{first}, Kit::choices[1])); });
        CHECK((t.writes_of_new_entries() == 1 || !writes_can_be_counted<Kit>));
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a map that meets a page at its very end changes nothing on its way") {
        theatre<Kit> t{when};
        t.given(6 * MiB, 4 * KiB, 0x10'0000);
        for (const std::uint64_t at :
             {std::uint64_t{0}, 2 * MiB, 4 * MiB, 6 * MiB - 4 * KiB, 6 * MiB}) {
            t.expect_unchanged(at);
        }
        t.watch([&] {
            const auto done = t.tables.map(t.at(4 * KiB, 6 * MiB), hpa{0x1000}, Kit::choices[1],
                                           page_size::size_4k);
            REQUIRE(!done);
            REQUIRE(done.error() == pt::error{pt::errc::already_mapped, base + 6 * MiB});
        });
        CHECK(t.flushes() == 0);
    }
    SECTION("a map that runs out of frames changes nothing on its way") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x10'0000);
        for (const std::uint64_t at : {std::uint64_t{0}, 4 * KiB, 2 * MiB, 4 * MiB, 6 * MiB}) {
            t.expect_unchanged(at);
        }
        t.memory.fail_after(2);
        t.watch([&] {
            const auto done = t.tables.map(t.at(4 * KiB, 8 * MiB), hpa{0x1000}, Kit::choices[1],
                                           page_size::size_4k);
            REQUIRE(!done);
            REQUIRE(done.error().code == pt::errc::out_of_frames);
        });
        CHECK(t.flushes() == 0);
    }
}

template <class Kit>
void unmaps(eviction when) {
    nobody hardware;
    const auto unmap = [&](theatre<Kit>& t, std::uint64_t offset, std::uint64_t size) {
        auto owed = t.tables.empty_ticket();
        t.watch([&] { owed.merge(*t.tables.unmap(t.at(offset, size))); });
        REQUIRE(!owed.empty());
        REQUIRE(owed.redeem(hardware));
    };
    SECTION("one page out of a page of 1 GiB") {
        theatre<Kit> t{when};
        t.given(0, 1 * GiB, 5 * GiB);
        const std::uint64_t hole = 300 * MiB + 36 * KiB;
        for (const std::uint64_t at : {std::uint64_t{0}, 2 * MiB, hole - 4 * KiB, hole + 4 * KiB,
                                       302 * MiB, 1 * GiB - 4 * KiB, 1 * GiB}) {
            t.expect_unchanged(at);
        }
        t.expect(hole, nothing);
        unmap(t, hole, 4 * KiB);
        CHECK(t.writes_of_new_entries() <= 3); // filled; then split again; then its count of 511
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a range that cuts two pages of 2 MiB and covers one") {
        theatre<Kit> t{when};
        t.given(0, 8 * MiB, 2 * GiB);
        const std::uint64_t first = 1 * MiB;
        const std::uint64_t end = 5 * MiB + 4 * KiB;
        t.expect_unchanged(0);
        t.expect_unchanged(first - 4 * KiB);
        for (const std::uint64_t at :
             {first, 2 * MiB - 4 * KiB, 2 * MiB, 3 * MiB, 4 * MiB, end - 4 * KiB}) {
            t.expect(at, nothing);
        }
        t.expect_unchanged(end);
        t.expect_unchanged(6 * MiB);
        unmap(t, first, end - first);
        CHECK(t.needless_publications() == 0);
    }
    SECTION("runs of large pages are published once each, whatever lies between them") {
        theatre<Kit> t{when};
        const auto slot = [](std::uint64_t index) { return index * 2 * MiB; };
        t.given(slot(8), slot(8), 2 * GiB);            // entries 8 to 15, and 16 is empty
        t.given(slot(17), slot(7), 2 * GiB);           // 17 to 23
        t.given(slot(24), 4 * KiB, 0x1000);            // 24 points to a table
        t.given(slot(25), slot(8), 3 * GiB + slot(1)); // 25 to 32, of which 31 is cut
        for (const std::uint64_t at :
             {slot(8), slot(15), slot(17), slot(23), slot(24), slot(25), slot(30), slot(31)}) {
            t.expect(at, nothing);
        }
        t.expect_unchanged(slot(16));
        t.expect_unchanged(slot(31) + 4 * KiB);
        t.expect_unchanged(slot(32));
        unmap(t, slot(8), slot(31) + 4 * KiB - slot(8));
        // 8 to 15; 17 to 23; 24; 25 to 30; the table that 31 is split into, its link, its leaf.
        CHECK(t.image.publications() == 7);
        CHECK(t.flushes() == 1 + 1 + 1 + 1 + 1);
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a long run of large pages flushes each of its lines once") {
        theatre<Kit> t{when};
        t.given(0, 1 * GiB - 2 * MiB, 2 * GiB); // entries 0 to 510
        t.expect_unchanged(8 * MiB);
        t.expect(10 * MiB, nothing); // entry 5
        t.expect(1 * GiB - 6 * MiB, nothing);
        t.expect_unchanged(1 * GiB - 4 * MiB);  // entry 510
        unmap(t, 10 * MiB, 1 * GiB - 14 * MiB); // entries 5 to 509
        CHECK(t.stores() == 505 + 1);
        CHECK(t.image.publications() == 1);
        CHECK(t.flushes() == 64);
        CHECK(t.needless_publications() == 0);
    }
    SECTION("the last page of all tables below the root") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x1000);
        t.expect(0, nothing);
        t.expect_unchanged(4 * KiB);
        unmap(t, 0, 4 * KiB);
        CHECK(t.memory.in_use() == 1);
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a table without a page in the range is neither written nor published") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x1000);
        t.given(2 * MiB, 8 * KiB, 0x5000);
        t.expect_unchanged(0);
        t.expect(2 * MiB, nothing);
        t.expect_unchanged(2 * MiB + 4 * KiB);
        unmap(t, 4 * KiB, 2 * MiB);
        CHECK(t.stores() == 2); // the leaf, and the count of its table
        CHECK(t.needless_publications() == 0);
    }
    SECTION("whole tables between two that stay") {
        theatre<Kit> t{when};
        // Unlike phases, so that all of it is 4-KiB pages.
        t.given(4 * KiB, 8 * MiB, 0x8000'0000);
        const std::uint64_t first = 2 * MiB - 4 * KiB;
        const std::uint64_t end = 6 * MiB + 4 * KiB;
        t.expect_unchanged(first - 4 * KiB);
        for (const std::uint64_t at : {first, 2 * MiB, 4 * MiB - 4 * KiB, 4 * MiB, end - 4 * KiB}) {
            t.expect(at, nothing);
        }
        t.expect_unchanged(end);
        unmap(t, first, end - first);
        // One leaf, two links to tables, one leaf; the counts of three tables that stay; the chain
        // from one retired table to the next. Not one of the 1024 leaves in between.
        CHECK(t.stores() <= 4 + 3 + 2 * 9);
        CHECK(t.needless_publications() == 0);
    }
}

} // namespace

TEMPLATE_TEST_CASE("map: after every store hardware finds the old or the new translation",
                   "[paging][rule 8][rule 14]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    const auto when = GENERATE(eviction::never, eviction::sometimes, eviction::at_once);
    maps<TestType>(when);
}

TEMPLATE_TEST_CASE("unmap: after every store hardware finds the old or the new translation",
                   "[paging][rule 9][rule 14]", ept_kit, second_stage_kit<4>, second_stage_kit<3>) {
    const auto when = GENERATE(eviction::never, eviction::sometimes, eviction::at_once);
    unmaps<TestType>(when);
}

#endif
