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

/// When a cache line that was stored to reaches memory by itself. `old_tables`: at once if its table
/// existed before, so that a link is seen before the new table that it leads to.
enum class eviction { never, sometimes, at_once, old_tables };

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

    frames memory{61};
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

    [[nodiscard]] auto reader() const {
        return [this](std::uint64_t frame, unsigned i) { return memory.read(frame, i); };
    }
    /// Before each store, hardware that sets flags makes this access.
    void uses(std::uint64_t offset, access_kind kind) {
        accesses_.push_back({base + offset, kind});
    }
    /// Whether the page at `offset` has its dirty flag set.
    [[nodiscard]] bool is_dirty(std::uint64_t offset) const {
        return walk_live(base + offset).dirty;
    }
    [[nodiscard]] bool is_accessed(std::uint64_t offset) const {
        return walk_live(base + offset).accessed;
    }
    void write(std::uint64_t offset) {
        REQUIRE(
            permits(use(Kit{}.hardware(), reader(), root.raw, base + offset, access_kind::write),
                    access_kind::write));
    }

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
        store_watch::run(memory.region(), memory.region_bytes(), &theatre::about_to, &theatre::seen,
                         this, std::forward<Operation>(operation));
        CHECK(image.is_complete());
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
    static constexpr std::uint64_t looked_at = ~(std::uint64_t{0x3FF} << 52);

    /// Counts the lines of tables in use for which `condition` holds. In a table that existed before,
    /// a line changed where an entry did, but for bits 61:52, which all formats here ignore in entries
    /// that point to tables; a table that is new changed as a whole.
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
        return Kit{}.hardware().walk(reader(), root.raw, input);
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
    static void about_to(void* context, std::uint64_t*) {
        auto& self = *static_cast<theatre*>(context);
        for (const auto& [input, kind] : self.accesses_) {
            path used;
            (void)use(Kit{}.hardware(), self.reader(), self.root.raw, input, kind);
            (void)Kit{}.hardware().walk(self.reader(), self.root.raw, input, &used);
            for (unsigned i = 0; i < used.count; ++i) { // that was not the engine
                const auto at = static_cast<std::size_t>(used.at[i] - self.memory.region());
                constexpr std::uint64_t flags = decltype(Kit{}.hardware())::accessed_flag |
                                                decltype(Kit{}.hardware())::dirty_flag;
                self.before_[at] = (self.before_[at] & ~flags) | (used.entry[i] & flags);
                self.last_[at] = used.entry[i];
            }
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
            (self.when_ == eviction::old_tables && self.was_used_[at / 512]) ||
            (self.when_ == eviction::sometimes && self.chance_ >> 62 == 0)) {
            self.image.write_back(stored);
        }
        if (self.when_ == eviction::sometimes && (self.chance_ >> 60 & 1) != 0) {
            self.image.hurry(self.chance_ >> 32 & 0xFFF);
        }
        for (probe& p : self.probes_) {
            self.look(p, self.walk_live(p.input), p.arrived);
            self.look(p, self.walk_shadow(p.input), p.shadow_arrived);
        }
    }

    eviction when_;
    struct one_access {
        std::uint64_t input;
        access_kind kind;
    };
    std::vector<probe> probes_;
    std::vector<one_access> accesses_;
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

template <class Kit>
typename Kit::address address_of(std::uint64_t input) {
    return typename Kit::address{input};
}

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
            t.image.complete(); // of tables that nobody saw
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
            t.image.complete(); // of tables that nobody saw
        });
        CHECK(t.flushes() == 0);
    }
    SECTION("pages that lie anywhere, into a table that exists and a new one") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x10'0000);
        const hpa pages[] = {hpa{0x9000}, hpa{0x5000}, hpa{0x77'0000'0000}, hpa{0x5000}};
        t.expect_unchanged(0);
        for (std::uint64_t i = 0; i < 4; ++i) {
            t.expect(2 * MiB - 8 * KiB + i * 4 * KiB, mapped(pages[i].raw));
        }
        t.expect_unchanged(2 * MiB - 12 * KiB);
        t.expect_unchanged(2 * MiB + 8 * KiB);
        t.watch([&] {
            REQUIRE(t.tables.map_pages(t.at(2 * MiB - 8 * KiB, 16 * KiB), pages, Kit::choices[1]));
        });
        CHECK((t.writes_of_new_entries() == 1 || !writes_can_be_counted<Kit>));
        CHECK(t.image.publications() == 3); // a table, its link, the two leaves in the other table
        CHECK(t.flushes() == 2);
        CHECK(t.needless_publications() == 0);
    }
    SECTION("a cursor, page by page, from a new table into one that exists") {
        theatre<Kit> t{when};
        t.given(2 * MiB + 64 * KiB, 4 * KiB, 0x10'0000);
        const std::uint64_t first = 2 * MiB - 8 * KiB;
        for (std::uint64_t i = 0; i < 4; ++i) {
            t.expect(first + i * 4 * KiB, mapped(0x6000'0000 - i * 4 * KiB));
        }
        t.expect_unchanged(first - 4 * KiB);
        t.expect_unchanged(first + 16 * KiB);
        t.watch([&] {
            auto at = t.tables.cursor();
            for (std::uint64_t i = 0; i < 4; ++i) {
                REQUIRE(at.map(address_of<Kit>(base + first + i * 4 * KiB),
                               hpa{0x6000'0000 - i * 4 * KiB}, Kit::choices[1]));
            }
        });
        CHECK(t.needless_publications() == 0);
    }
}

template <class Kit>
void remaps(eviction when) {
    nobody hardware;
    const auto mapped = [](std::uint64_t output) { return Kit::expected(Kit::choices[1], output); };
    const auto remap = [&](theatre<Kit>& t, std::uint64_t offset, std::uint64_t size,
                           std::uint64_t output, page_size largest = page_size::size_1g) {
        auto owed = t.tables.batch();
        t.watch([&] {
            REQUIRE(owed.add(
                *t.tables.remap(t.at(offset, size), hpa{output}, Kit::choices[1], largest)));
        });
        REQUIRE(!owed.empty());
        REQUIRE(owed.redeem(hardware));
        CHECK(t.needless_publications() == 0);
    };
    SECTION("small pages in a page of 1 GiB: the rest keeps its translation") {
        theatre<Kit> t{when};
        t.given(0, 1 * GiB, 5 * GiB);
        const std::uint64_t first = 300 * MiB - 8 * KiB;
        for (const std::uint64_t at : {std::uint64_t{0}, 2 * MiB, first - 4 * KiB, first + 16 * KiB,
                                       302 * MiB, 1 * GiB - 4 * KiB, 1 * GiB}) {
            t.expect_unchanged(at);
        }
        for (std::uint64_t i = 0; i < 4; ++i) {
            t.expect(first + i * 4 * KiB, mapped(0x1000 + i * 4 * KiB));
        }
        remap(t, first, 16 * KiB, 0x1000);
    }
    SECTION("a large page in the place of a table, holes and all") {
        theatre<Kit> t{when};
        t.given(2 * MiB, 1 * MiB, 0x7000'1000);
        t.given(6 * MiB, 4 * KiB, 0x1000);
        for (const std::uint64_t at :
             {2 * MiB, 3 * MiB - 4 * KiB, 3 * MiB, 4 * MiB - 4 * KiB, 4 * MiB, 6 * MiB - 4 * KiB}) {
            t.expect(at, mapped(8 * GiB + at));
        }
        t.expect_unchanged(2 * MiB - 4 * KiB);
        t.expect_unchanged(6 * MiB);
        remap(t, 2 * MiB, 4 * MiB, 8 * GiB + 2 * MiB);
        CHECK(t.stores() == 2 + 1); // two leaves, one count
        CHECK(t.flushes() == 1);
    }
    SECTION("page by page in a table that exists, and in one that does not") {
        theatre<Kit> t{when};
        t.given(2 * MiB - 40 * KiB, 40 * KiB, 0x7000'1000);
        t.expect_unchanged(2 * MiB - 40 * KiB);
        for (const std::uint64_t at :
             {2 * MiB - 36 * KiB, 2 * MiB - 4 * KiB, 2 * MiB, 2 * MiB + 4 * KiB}) {
            t.expect(at, mapped(0x2'0000'0000 + at));
        }
        t.expect_unchanged(2 * MiB + 8 * KiB);
        remap(t, 2 * MiB - 36 * KiB, 44 * KiB, 0x2'0000'0000 + 2 * MiB - 36 * KiB);
        CHECK(t.flushes() == 2 + 1); // two lines of leaves, one link
    }
    SECTION("a page of 1 GiB in the place of whole subtrees") {
        theatre<Kit> t{when};
        t.given(1 * GiB + 4 * KiB, 4 * MiB, 0x7000'0000);
        t.given(1 * GiB + 8 * MiB, 2 * MiB, 0x20'0000);
        for (const std::uint64_t at : {1 * GiB, 1 * GiB + 4 * KiB, 1 * GiB + 3 * MiB,
                                       1 * GiB + 8 * MiB, 2 * GiB - 4 * KiB}) {
            t.expect(at, mapped(7 * GiB + at));
        }
        t.expect_unchanged(1 * GiB - 4 * KiB);
        t.expect_unchanged(2 * GiB);
        remap(t, 1 * GiB, 1 * GiB, 8 * GiB);
        CHECK(t.flushes() == 1);
    }
    SECTION("small, large and small pages over a mixture") {
        theatre<Kit> t{when};
        t.given(0, 8 * MiB, 2 * GiB);
        t.given(10 * MiB, 4 * KiB, 0x1000);
        const std::uint64_t first = 1 * MiB;
        const std::uint64_t end = 9 * MiB + 8 * KiB;
        t.expect_unchanged(0);
        t.expect_unchanged(first - 4 * KiB);
        for (const std::uint64_t at :
             {first, 2 * MiB - 4 * KiB, 2 * MiB, 7 * MiB, 8 * MiB, 9 * MiB, end - 4 * KiB}) {
            t.expect(at, mapped(4 * GiB + at));
        }
        t.expect_unchanged(end);
        t.expect_unchanged(10 * MiB);
        remap(t, first, end - first, 4 * GiB + first, page_size::size_2m);
    }
}

template <class Kit>
void changes(eviction when) {
    nobody hardware;
    const auto now = [](std::uint64_t output) { return Kit::expected(Kit::choices[2], output); };
    const auto watch = [&](theatre<Kit>& t, auto&& operation) {
        auto owed = t.tables.batch();
        t.watch([&] { REQUIRE(owed.add(*operation())); });
        REQUIRE(!owed.empty());
        REQUIRE(owed.redeem(hardware));
        CHECK(t.needless_publications() == 0);
    };
    // What of choices[2] is possible with large pages: all, for the kits here.
    SECTION("protect: a page of 1 GiB is cut at both ends") {
        theatre<Kit> t{when};
        t.given(0, 1 * GiB, 5 * GiB);
        const std::uint64_t first = 300 * MiB + 4 * KiB;
        const std::uint64_t end = 512 * MiB + 8 * KiB;
        for (const std::uint64_t at : {std::uint64_t{0}, first - 4 * KiB, end, 1 * GiB - 4 * KiB}) {
            t.expect_unchanged(at);
        }
        for (const std::uint64_t at : {first, 302 * MiB, 400 * MiB, 512 * MiB, end - 4 * KiB}) {
            t.expect(at, now(5 * GiB + at));
        }
        watch(t, [&] { return t.tables.protect(t.at(first, end - first), Kit::choices[2]); });
    }
    SECTION("protect: holes stay holes, and lines without a page are not flushed") {
        theatre<Kit> t{when};
        t.given(0, 4 * KiB, 0x1000);
        t.given(256 * KiB, 8 * KiB, 0x5000);
        t.given(1 * MiB, 4 * KiB, 0x9000);
        t.expect(0, now(0x1000));
        t.expect_unchanged(4 * KiB);
        t.expect(256 * KiB, now(0x5000));
        t.expect(260 * KiB, now(0x6000));
        t.expect_unchanged(1 * MiB);
        watch(t, [&] { return t.tables.protect(t.at(0, 1 * MiB), Kit::choices[2]); });
        CHECK(t.stores() == 3);
        CHECK(t.flushes() == 2);
    }
    if constexpr (Kit::format::write_needs_read) {
        const auto read_only = [](std::uint64_t output) {
            return Kit::expected(Kit::write_protected(Kit::choices[0]), output);
        };
        SECTION("write_protect: only the right to write goes") {
            theatre<Kit> t{when};
            t.given(0, 6 * MiB, 2 * GiB);
            const std::uint64_t first = 1 * MiB;
            const std::uint64_t end = 5 * MiB;
            t.expect_unchanged(0);
            t.expect_unchanged(first - 4 * KiB);
            for (const std::uint64_t at : {first, 2 * MiB, 3 * MiB, 4 * MiB, end - 4 * KiB}) {
                t.expect(at, read_only(2 * GiB + at));
            }
            t.expect_unchanged(end);
            watch(t, [&] { return t.tables.write_protect(t.at(first, end - first)); });
        }
    }
    SECTION("split: the same translations, from smaller pages") {
        theatre<Kit> t{when};
        t.given(0, 2 * GiB, 5 * GiB);
        for (const std::uint64_t at : {std::uint64_t{0}, 1 * GiB - 2 * MiB, 1 * GiB - 4 * KiB,
                                       1 * GiB, 1 * GiB + 2 * MiB, 2 * GiB - 4 * KiB}) {
            t.expect_unchanged(at);
        }
        watch(t, [&] { return t.tables.split(t.at(1 * GiB - 4 * KiB, 8 * KiB)); });
        CHECK(t.memory.in_use() == Kit::levels - 2 + 2 + 2);
    }
    SECTION("join: the same translations, from larger pages") {
        theatre<Kit> t{when};
        for (std::uint64_t at = 0; at < 1 * GiB; at += 2 * MiB) {
            t.given(at, 2 * MiB, 5 * GiB + at); // one at a time: pages of 2 MiB
        }
        nobody nothing_cached;
        for (const std::uint64_t at : {3 * MiB, 511 * MiB, 1 * GiB - 4 * KiB}) {
            auto cut = t.tables.split(t.at(at, 4 * KiB));
            REQUIRE(cut->redeem(nothing_cached));
        }
        for (const std::uint64_t at : {std::uint64_t{0}, 2 * MiB, 3 * MiB, 510 * MiB, 511 * MiB,
                                       1 * GiB - 4 * KiB, 1 * GiB}) {
            t.expect_unchanged(at);
        }
        watch(t, [&] { return t.tables.join(t.at(0, 1 * GiB)); });
        CHECK(t.memory.in_use() == Kit::levels - 2);
        CHECK(t.stores() <= 3 + 1 + 3 * 9); // four pages; the chain of four tables that go
    }
    SECTION("unmap: of scattered pages only the lines that have one are flushed") {
        theatre<Kit> t{when};
        const auto page = [](std::uint64_t index) { return index * 4 * KiB; };
        for (const std::uint64_t i : {0U, 9U, 10U, 100U, 255U, 256U, 400U, 511U}) {
            t.given(page(i), 4 * KiB, 0x10'0000 + page(2 * i));
        }
        t.expect_unchanged(0);
        for (const std::uint64_t i : {9U, 10U, 100U, 255U, 256U, 400U}) {
            t.expect(page(i), nothing);
        }
        t.expect_unchanged(page(11));
        t.expect_unchanged(page(511));
        watch(t, [&] { return t.tables.unmap(t.at(page(1), page(500))); });
        CHECK(t.stores() == 6 + 1); // and one count
        CHECK(t.flushes() == 5);    // 9 and 10 share a line
    }
}

/// Of hardware that sets flags between any load of the engine and its store.
template <class Kit>
void flags_survive() {
    nobody hardware;
    // Nothing is redeemed while hardware makes its accesses: it would make up for what was lost.
    const auto watch = [&](theatre<Kit>& t, auto&& operation) {
        auto owed = t.tables.batch();
        t.watch([&] { REQUIRE(owed.add(*operation())); });
        REQUIRE(owed.redeem(hardware));
    };
    SECTION("protect: written at the last moment, and still dirty") {
        theatre<Kit> t;
        t.given(0, 12 * KiB, 0x5000);
        for (const std::uint64_t at : {std::uint64_t{0}, 4 * KiB, 8 * KiB}) {
            t.expect(at, Kit::expected(Kit::choices[1], 0x5000 + at));
            t.uses(at, access_kind::write);
        }
        watch(t, [&] { return t.tables.protect(t.at(0, 12 * KiB), Kit::choices[1]); });
        CHECK(t.is_dirty(0));
        CHECK(t.is_dirty(4 * KiB));
        CHECK(t.is_dirty(8 * KiB));
    }
    SECTION("write_protect, likewise") {
        if constexpr (Kit::format::write_needs_read) {
            theatre<Kit> t;
            t.given(0, 4 * MiB, 2 * GiB);
            t.uses(3 * MiB, access_kind::write);
            t.expect(3 * MiB,
                     Kit::expected(Kit::write_protected(Kit::choices[0]), 2 * GiB + 3 * MiB));
            watch(t, [&] { return t.tables.write_protect(t.at(0, 4 * MiB)); });
            CHECK(t.is_dirty(3 * MiB));
            CHECK(!t.is_dirty(0));
        }
    }
    SECTION("split: what was written through the large page is dirty in the small ones") {
        theatre<Kit> t;
        t.given(0, 2 * MiB, 2 * GiB);
        t.uses(1 * MiB, access_kind::write);
        t.expect_unchanged(1 * MiB);
        watch(t, [&] { return t.tables.split(t.at(0, 2 * MiB)); });
        CHECK(t.is_dirty(1 * MiB));
        CHECK(t.is_dirty(0)); // it may have been this page
    }
    SECTION("unmap and remap: the rest of a page that is cut stays dirty") {
        const bool remaps = GENERATE(false, true);
        theatre<Kit> t;
        t.given(0, 2 * MiB, 2 * GiB);
        t.uses(1 * MiB, access_kind::write);
        t.expect_unchanged(1 * MiB);
        watch(t, [&] {
            return remaps ? t.tables.remap(t.at(0, 8 * KiB), hpa{0x5000}, Kit::choices[1])
                          : t.tables.unmap(t.at(0, 8 * KiB));
        });
        CHECK(t.is_dirty(1 * MiB));
        CHECK(!t.is_dirty(0));
    }
    SECTION("join: a page that may be written is dirty, written or not") {
        theatre<Kit> t;
        t.given(0, 1 * MiB, 2 * GiB);
        t.given(1 * MiB, 1 * MiB, 2 * GiB + 1 * MiB);
        t.uses(3 * 4 * KiB, access_kind::write);
        t.expect_unchanged(3 * 4 * KiB);
        watch(t, [&] { return t.tables.join(t.at(0, 2 * MiB)); });
        CHECK(t.memory.in_use() == Kit::levels - 1);
        CHECK(t.is_dirty(0));
    }
    SECTION("join: a page that was read right before the store is accessed, and not dirty") {
        if constexpr (Kit::format::write_needs_read) {
            theatre<Kit> t;
            t.given(0, 1 * MiB, 2 * GiB);
            t.given(1 * MiB, 1 * MiB, 2 * GiB + 1 * MiB);
            auto read_only = t.tables.write_protect(t.at(0, 2 * MiB));
            REQUIRE(read_only);
            nobody caches;
            REQUIRE(read_only->redeem(caches));
            t.uses(3 * 4 * KiB, access_kind::read);
            t.expect_unchanged(3 * 4 * KiB);
            watch(t, [&] { return t.tables.join(t.at(0, 2 * MiB)); });
            CHECK(t.memory.in_use() == Kit::levels - 1);
            CHECK(t.is_accessed(0));
            CHECK(!t.is_dirty(0));
        }
    }
    SECTION("harvest: each write is in the bitmap, or waits for the next harvest") {
        theatre<Kit> t;
        t.given(0, 40 * KiB, 0x5000);
        t.given(2 * MiB, 2 * MiB, 2 * GiB);
        t.write(4 * KiB);
        t.write(12 * KiB);
        t.write(36 * KiB);
        t.write(3 * MiB);
        for (const std::uint64_t at : {4 * KiB, 8 * KiB, 12 * KiB, 16 * KiB, 36 * KiB, 3 * MiB}) {
            t.expect_unchanged(at);
        }
        for (const std::uint64_t at : {4 * KiB, 8 * KiB, 32 * KiB}) {
            t.uses(at, access_kind::write); // of these, some were harvested already, some not
        }
        std::uint64_t words[1024 / 64] = {};
        watch(t, [&] {
            return t.tables.harvest(t.at(0, 4 * MiB), pt::paging::page_flag::dirty, {words, 1024});
        });
        const pt::paging::page_bitmap found{words, 1024};
        for (const std::uint64_t page : {1U, 2U, 3U, 8U, 9U, 512U, 1023U}) {
            INFO("page " << page);
            CHECK((found.test(page) || t.is_dirty(page * 4 * KiB)));
        }
        for (const std::uint64_t page : {0U, 4U, 7U, 10U, 511U}) {
            CHECK(!found.test(page));
        }
        CHECK(!t.is_dirty(12 * KiB)); // armed again
        CHECK(!t.is_dirty(36 * KiB));
        CHECK(!t.is_dirty(3 * MiB));
        CHECK(t.stores() == 6); // four flags that were set, and two that came in between
    }
    SECTION("harvest of one flag, and the other one comes right then") {
        theatre<Kit> t;
        t.given(0, 8 * KiB, 0x5000);
        REQUIRE(permits(use(Kit{}.hardware(), t.reader(), t.root.raw, base, access_kind::read),
                        access_kind::read));
        t.uses(0, access_kind::write);
        t.expect_unchanged(0);
        std::uint64_t word = 0;
        watch(t, [&] {
            return t.tables.harvest(t.at(0, 8 * KiB), pt::paging::page_flag::accessed, {&word, 2});
        });
        CHECK(word == 0b01);
        CHECK(t.is_dirty(0));
        CHECK(!t.is_dirty(4 * KiB));
    }
}

template <class Kit>
void unmaps(eviction when) {
    nobody hardware;
    const auto unmap = [&](theatre<Kit>& t, std::uint64_t offset, std::uint64_t size) {
        auto owed = t.tables.batch();
        t.watch([&] { REQUIRE(owed.add(*t.tables.unmap(t.at(offset, size)))); });
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
    SECTION("each line is flushed once, whatever becomes of its entries") {
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
        // The table that 31 is split into; its leaf; and all of 8 to 31, in three lines.
        CHECK(t.image.publications() == 3);
        CHECK(t.flushes() == 3);
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
                   "[paging][rule 8][rule 14]", ept_kit, ept5_kit, second_stage_kit<4>,
                   second_stage_kit<3>, nested_kit) {
    const auto when =
        GENERATE(eviction::never, eviction::sometimes, eviction::at_once, eviction::old_tables);
    maps<TestType>(when);
}

TEMPLATE_TEST_CASE("unmap: after every store hardware finds the old or the new translation",
                   "[paging][rule 9][rule 14]", ept_kit, ept_flags_kit, second_stage_kit<4>,
                   second_stage_kit<3>) {
    const auto when =
        GENERATE(eviction::never, eviction::sometimes, eviction::at_once, eviction::old_tables);
    unmaps<TestType>(when);
}

TEMPLATE_TEST_CASE("remap: after every store hardware finds the old or the new translation",
                   "[paging][rule 9][rule 14]", ept_kit, ept5_kit, second_stage_kit<4>,
                   (second_stage_kit<3, false, true>), nested_kit) {
    const auto when =
        GENERATE(eviction::never, eviction::sometimes, eviction::at_once, eviction::old_tables);
    remaps<TestType>(when);
}

TEMPLATE_TEST_CASE(
    "protect, split, join: after every store hardware finds the old or the new translation",
    "[paging][rule 9][rule 14]", ept_kit, ept_flags_kit, second_stage_kit<4>, second_stage_kit<3>,
    nested_kit) {
    const auto when =
        GENERATE(eviction::never, eviction::sometimes, eviction::at_once, eviction::old_tables);
    changes<TestType>(when);
}

TEMPLATE_TEST_CASE("a flag that hardware sets right before a store is not lost",
                   "[paging][rule 11]", ept_flags_kit, ept5_flags_kit,
                   (second_stage_kit<4, false, true>), nested_kit) {
    flags_survive<TestType>();
}

#endif
