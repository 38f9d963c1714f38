// SPDX-License-Identifier: BSL-1.0
// Each operation holds the table's mutex once, on every path, and touches tables only meanwhile.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/frames.hpp"
#include "../../paging_model/kit.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstdlib>
#include <utility>

namespace {

using namespace paging_model;
using pt::errc;
using pt::GiB;
using pt::hpa;
using pt::KiB;

struct lock_state {
    unsigned locks = 0;
    unsigned unlocks = 0;
    bool wanted = true; ///< whether table memory may be touched with the mutex held only

    [[nodiscard]] bool held() const { return locks != unlocks; }
};

/// Aborts where a real lock would deadlock or be freed twice.
struct counting_mutex {
    lock_state* state;

    void lock() {
        if (state->held()) {
            std::abort();
        }
        ++state->locks;
    }
    void unlock() {
        if (!state->held()) {
            std::abort();
        }
        ++state->unlocks;
    }
};
static_assert(pt::mutex<counting_mutex>);

/// Aborts where tables are touched without the mutex.
struct guarded_memory {
    frames_memory memory;
    lock_state* state;

    pt::result<hpa> allocate(pt::frame_contents contents) { return look().allocate(contents); }
    void release(hpa frame) { look().release(frame); }
    std::uint64_t* entries(hpa frame) { return look().entries(frame); }

private:
    frames_memory& look() {
        if (state->wanted && !state->held()) {
            std::abort();
        }
        return memory;
    }
};
static_assert(pt::table_memory<guarded_memory>);

template <class Kit>
struct stage {
    using address = typename Kit::address;
    using table = pt::paging::table<typename Kit::format, guarded_memory,
                                    pt::paging::coherent_publication, counting_mutex>;

    frames memory{61};
    lock_state state;
    table tables{guarded_memory{{&memory}, &state}, Kit{}.make(), {}, counting_mutex{&state}};
    typename table::ticket owed = tables.empty_ticket();

    ~stage() {
        owed.merge(tables.retire());
        redeem();
    }
    /// A ticket touches retired tables, which nobody else does: it needs no lock, and takes none.
    void redeem() {
        state.wanted = false;
        nobody hardware;
        const unsigned before = state.locks;
        CHECK(owed.redeem(hardware));
        CHECK(state.locks == before);
        state.wanted = true;
    }
    /// Runs one operation; the mutex was taken and given back exactly once.
    template <class Operation>
    auto once(Operation&& operation) {
        struct look_afterwards {
            const lock_state& state;
            unsigned before = state.locks;
            ~look_afterwards() {
                CHECK(state.locks == before + 1);
                CHECK(!state.held());
            }
        } const look{state};
        return operation();
    }
    errc map(std::uint64_t first, std::uint64_t size, std::uint64_t output,
             typename Kit::attributes a = Kit::choices[0]) {
        auto done = once([&] { return tables.map({address{first}, size}, hpa{output}, a); });
        if (!done) {
            return done.error().code;
        }
        owed.merge(*std::move(done));
        return errc::none;
    }
    errc unmap(std::uint64_t first, std::uint64_t size) {
        auto done = once([&] { return tables.unmap({address{first}, size}); });
        if (!done) {
            return done.error().code;
        }
        state.wanted = false; // a merge chains retired tables, without the mutex
        owed.merge(*std::move(done));
        state.wanted = true;
        return errc::none;
    }
    errc translate(std::uint64_t input) {
        const auto found = once([&] { return tables.translate(address{input}); });
        return found ? errc::none : found.error().code;
    }
    /// The leaves that visit() shows; it holds the mutex while it shows them.
    unsigned visit() {
        return once([&] {
            unsigned leaves = 0;
            tables.visit([&](auto, const auto&) { leaves += state.held() ? 1 : 1000; });
            return leaves;
        });
    }
};

} // namespace

TEMPLATE_TEST_CASE("an operation takes the mutex once and gives it back, whatever comes of it",
                   "[paging]", ept_kit, second_stage_kit<4>, (second_stage_kit<3, true>)) {
    stage<TestType> s;
    constexpr std::uint64_t end = std::uint64_t{1} << TestType::input_width;

    // Without a root.
    CHECK(s.translate(0) == errc::not_mapped);
    CHECK(s.translate(end) == errc::out_of_range);
    CHECK(s.visit() == 0);
    CHECK(s.unmap(0, 1 * GiB) == errc::none);
    CHECK(s.once([&] { return s.tables.retire(); }).empty());
    CHECK(s.map(0x1000, 0, 0x1000) == errc::none);
    s.memory.fail_after(0);
    CHECK(!s.once([&] { return s.tables.root(); }));
    CHECK(s.map(0, 4 * KiB, 0) == errc::out_of_frames);
    s.memory.fail_after(1);
    CHECK(s.map(0, 4 * KiB, 0) == errc::out_of_frames);
    s.memory.never_fail();
    CHECK(s.memory.in_use() == 0);

    // Errors of the arguments.
    CHECK(s.map(1, 4 * KiB, 0) == errc::misaligned);
    CHECK(s.map(end, 4 * KiB, 0) == errc::out_of_range);
    CHECK(s.map(0, 4 * KiB, std::uint64_t{1} << 46) == errc::out_of_range);
    CHECK(s.map(0, 4 * KiB, 0, {}) == errc::not_supported);
    CHECK(s.unmap(1, 4 * KiB) == errc::misaligned);
    CHECK(s.unmap(end, 4 * KiB) == errc::out_of_range);

    // With one.
    CHECK(s.once([&] { return s.tables.root(); }));
    CHECK(s.map(1 * GiB, 1 * GiB, 1 * GiB) == errc::none);
    CHECK(s.map(1 * GiB, 4 * KiB, 0) == errc::already_mapped);
    CHECK(s.translate(1 * GiB) == errc::none);
    CHECK(s.translate(0) == errc::not_mapped);
    CHECK(s.visit() == 1);
    s.memory.fail_after(1); // of two that it needs
    CHECK(s.unmap(1 * GiB + 4 * KiB, 4 * KiB) == errc::out_of_frames);
    s.memory.never_fail();
    CHECK(s.unmap(1 * GiB + 4 * KiB, 4 * KiB) == errc::none);
    CHECK(s.visit() == 511 + 511);
    CHECK(s.unmap(1 * GiB, 0) == errc::none);
    CHECK(s.unmap(1 * GiB, 1 * GiB) == errc::none);

    // What is not one needs none.
    const unsigned before = s.state.locks;
    CHECK(s.tables.empty_ticket().empty());
    CHECK(s.tables.format().levels() == TestType::levels);
    CHECK(s.state.locks == before);
    s.redeem();
    CHECK(s.memory.in_use() == 1);
}
