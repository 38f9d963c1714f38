// SPDX-License-Identifier: BSL-1.0
// Each writer holds the table's mutex once, on every path, and touches tables only meanwhile; readers
// take none.
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
    unsigned locks = 0; ///< alone
    unsigned unlocks = 0;
    unsigned shared = 0; ///< with others
    unsigned unshared = 0;
    bool wanted = true; ///< whether table memory may be touched with the mutex held only

    [[nodiscard]] bool held() const { return locks != unlocks || shared != unshared; }
};

/// Aborts where a real lock would deadlock or be freed twice.
struct counting_mutex {
    lock_state* state;

    void lock() { take(state->locks); }
    void unlock() { give(state->unlocks, state->locks); }

protected:
    void take(unsigned& count) {
        if (state->held()) {
            std::abort();
        }
        ++count;
    }
    static void give(unsigned& count, unsigned taken) {
        if (count + 1 != taken) {
            std::abort();
        }
        ++count;
    }
};
static_assert(pt::mutex<counting_mutex> && !pt::shared_mutex<counting_mutex>);

struct counting_shared_mutex : counting_mutex {
    void lock_shared() { take(state->shared); }
    void unlock_shared() { give(state->unshared, state->shared); }
};
static_assert(pt::shared_mutex<counting_shared_mutex>);

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

template <class Kit, class Mutex>
struct stage {
    using address = typename Kit::address;
    using table = pt::paging::table<typename Kit::format, guarded_memory,
                                    pt::paging::coherent_publication, Mutex>;
    static constexpr bool shares = pt::shared_mutex<Mutex>;

    frames memory{61};
    lock_state state;
    table tables{guarded_memory{{&memory}, &state}, Kit{}.make(), {}, make_mutex()};

    Mutex make_mutex() {
        Mutex made{};
        made.state = &state;
        return made;
    }
    ~stage() {
        auto owed = tables.retire();
        redeem(owed);
    }
    /// A ticket touches retired tables, which nobody else does: it needs no lock, and takes none.
    void redeem(typename table::ticket& owed) {
        without_lock([&] {
            nobody hardware;
            CHECK(owed.redeem(hardware));
        });
    }
    template <class Operation>
    void without_lock(Operation&& operation) {
        state.wanted = false;
        const unsigned before = state.locks + state.shared;
        operation();
        CHECK(state.locks + state.shared == before);
        state.wanted = true;
    }
    /// Runs one operation; the mutex was taken and given back exactly once, alone or shared.
    template <class Operation>
    auto once(bool share, Operation&& operation) {
        struct look_afterwards {
            const lock_state& state;
            bool share;
            unsigned alone = state.locks;
            unsigned shared = state.shared;
            ~look_afterwards() {
                CHECK(state.locks == alone + (share ? 0 : 1));
                CHECK(state.shared == shared + (share ? 1 : 0));
                CHECK(!state.held());
            }
        } const look{state, share};
        return operation();
    }
    template <class Operation>
    errc does(bool share, Operation&& operation) {
        auto done = once(share, operation);
        if (!done) {
            return done.error().code;
        }
        redeem(*done);
        return errc::none;
    }
    static pt::range<address> at(std::uint64_t first, std::uint64_t size) {
        return {address{first}, size};
    }
    errc map(std::uint64_t first, std::uint64_t size, std::uint64_t output,
             typename Kit::attributes a = Kit::choices[0]) {
        return does(shares, [&] { return tables.map(at(first, size), hpa{output}, a); });
    }
    errc map_pages(std::uint64_t first, std::uint64_t size) {
        const hpa pages[4] = {hpa{0x1000}, hpa{0x9000}, hpa{0x5000}, hpa{0x7000}};
        return does(shares,
                    [&] { return tables.map_pages(at(first, size), pages, Kit::choices[0]); });
    }
    errc remap(std::uint64_t first, std::uint64_t size) {
        return does(false,
                    [&] { return tables.remap(at(first, size), hpa{0x5000}, Kit::choices[0]); });
    }
    errc unmap(std::uint64_t first, std::uint64_t size) {
        return does(false, [&] { return tables.unmap(at(first, size)); });
    }
    errc protect(std::uint64_t first, std::uint64_t size,
                 typename Kit::attributes a = Kit::choices[1]) {
        return does(false, [&] { return tables.protect(at(first, size), a); });
    }
    errc split(std::uint64_t first, std::uint64_t size) {
        return does(false, [&] { return tables.split(at(first, size)); });
    }
    errc join(std::uint64_t first, std::uint64_t size) {
        return does(false, [&] { return tables.join(at(first, size)); });
    }
    errc harvest(std::uint64_t first, std::uint64_t size) {
        std::uint64_t words[16] = {};
        return does(false, [&] {
            return tables.harvest(at(first, size), pt::paging::page_flag::dirty, {words, 1024});
        });
    }
    errc translate(std::uint64_t input) {
        errc said = errc::none;
        without_lock([&] {
            const auto found = tables.translate(address{input});
            said = found ? errc::none : found.error().code;
        });
        return said;
    }
    unsigned leaves() {
        unsigned count = 0;
        without_lock([&] {
            for (const auto& leaf : tables.leaves()) {
                count += leaf.input.empty() ? 0 : 1;
            }
        });
        return count;
    }
};

template <class Kit, class Mutex>
void plays() {
    using stage = ::stage<Kit, Mutex>;
    stage s;
    constexpr bool shares = stage::shares;
    constexpr std::uint64_t end = std::uint64_t{1} << Kit::input_width;
    constexpr errc no_flags = Kit::sets_flags ? errc::none : errc::not_supported;

    // Without a root.
    CHECK(s.translate(0) == errc::not_mapped);
    CHECK(s.translate(end) == errc::out_of_range);
    CHECK(s.leaves() == 0);
    CHECK(s.unmap(0, 1 * GiB) == errc::none);
    CHECK(s.unmap(0, 4 * KiB) == errc::none);
    CHECK(s.protect(0, 4 * KiB) == errc::none);
    CHECK(s.split(0, 1 * GiB) == errc::none);
    CHECK(s.join(0, 1 * GiB) == errc::none);
    CHECK(s.harvest(0, 4 * KiB) == no_flags);
    CHECK(!s.once(false, [&] { return s.tables.detach(); }));
    CHECK(s.once(false, [&] { return s.tables.retire(); }).empty());
    CHECK(s.map(0x1000, 0, 0x1000) == errc::none);
    CHECK(s.map_pages(0x1000, 0) == errc::none);
    CHECK(s.remap(0x1000, 0) == errc::none);
    s.memory.fail_after(0);
    CHECK(!s.once(shares, [&] { return s.tables.root(); }));
    CHECK(s.map(0, 4 * KiB, 0) == errc::out_of_frames);
    CHECK(s.map_pages(0, 4 * KiB) == errc::out_of_frames);
    CHECK(s.remap(0, 4 * KiB) == errc::out_of_frames);
    s.memory.never_fail();
    CHECK(s.memory.in_use() == 0);

    // Errors of the arguments.
    CHECK(s.map(1, 4 * KiB, 0) == errc::misaligned);
    CHECK(s.map(end, 4 * KiB, 0) == errc::out_of_range);
    CHECK(s.map(0, 4 * KiB, std::uint64_t{1} << Kit::output_width) == errc::out_of_range);
    CHECK(s.map_pages(1, 4 * KiB) == errc::misaligned);
    for (const auto& [first, why] :
         {std::pair{std::uint64_t{1}, errc::misaligned}, std::pair{end, errc::out_of_range}}) {
        CHECK(s.remap(first, 4 * KiB) == why);
        CHECK(s.unmap(first, 4 * KiB) == why);
        CHECK(s.protect(first, 4 * KiB) == why);
        CHECK(s.split(first, 4 * KiB) == why);
        CHECK(s.join(first, 4 * KiB) == why);
        CHECK(s.harvest(first, 4 * KiB) == why);
    }

    // With one.
    CHECK(s.once(shares, [&] { return s.tables.root(); }));
    CHECK(s.map(1 * GiB, 1 * GiB, 1 * GiB) == errc::none);
    CHECK(s.map(1 * GiB, 4 * KiB, 0) == errc::already_mapped);
    CHECK(s.map_pages(1 * GiB, 4 * KiB) == errc::already_mapped);
    CHECK(s.translate(1 * GiB) == errc::none);
    CHECK(s.translate(0) == errc::not_mapped);
    CHECK(s.leaves() == 1);
    CHECK(s.harvest(1 * GiB, 4 * KiB) == no_flags);
    s.memory.fail_after(1); // of two that they need
    CHECK(s.unmap(1 * GiB + 4 * KiB, 4 * KiB) == errc::out_of_frames);
    CHECK(s.remap(1 * GiB + 4 * KiB, 4 * KiB) == errc::out_of_frames);
    CHECK(s.protect(1 * GiB + 4 * KiB, 4 * KiB) == errc::out_of_frames);
    CHECK(s.split(1 * GiB + 4 * KiB, 4 * KiB) == errc::out_of_frames);
    s.memory.never_fail();
    CHECK(s.unmap(1 * GiB + 4 * KiB, 4 * KiB) == errc::none);
    CHECK(s.leaves() == 511 + 511);
    CHECK(s.remap(1 * GiB + 4 * KiB, 4 * KiB) == errc::none);
    CHECK(s.unmap(1 * GiB + 4 * KiB, 4 * KiB) == errc::none);
    CHECK(s.map_pages(3 * GiB - 8 * KiB, 16 * KiB) == errc::none);
    CHECK(s.map(4 * GiB, 4 * KiB, 0) == errc::none);
    CHECK(s.map(4 * GiB + 4 * KiB, 4 * KiB, 0) == errc::none); // a table that is there
    CHECK(s.unmap(4 * GiB, 4 * KiB) == errc::none);
    CHECK(s.protect(1 * GiB, 1 * GiB) == errc::none);
    CHECK(s.join(0, 8 * GiB) == errc::none);
    CHECK(s.split(0, 4 * GiB) == errc::out_of_frames);
    if constexpr (Kit::format::write_needs_read) {
        CHECK(s.does(false, [&] { return s.tables.write_protect(s.at(1 * GiB, 1 * GiB)); }) ==
              errc::none);
    }
    CHECK(s.unmap(1 * GiB, 0) == errc::none);
    CHECK(s.unmap(0, 8 * GiB) == errc::none);

    // A cursor has the mutex for as long as it lives.
    {
        const unsigned before = s.state.locks;
        auto at = s.tables.cursor();
        CHECK(s.state.locks == before + 1);
        CHECK(s.state.held());
        for (std::uint64_t i = 0; i < 3; ++i) {
            auto done = at.map(typename Kit::address{2 * pt::MiB - 4 * KiB + i * 4 * KiB},
                               hpa{0x1000}, Kit::choices[0]);
            REQUIRE(done);
            s.state.wanted = false;
            nobody hardware;
            CHECK(done->redeem(hardware));
            s.state.wanted = true;
        }
        CHECK(s.state.locks == before + 1);
        CHECK(s.state.held());
    }
    CHECK(!s.state.held());
    CHECK(s.leaves() == 3);

    // What is no operation needs none.
    s.without_lock([&] {
        CHECK(s.tables.batch().empty());
        CHECK(s.tables.format().levels() == Kit::levels);
    });
    const auto root = s.once(false, [&] { return s.tables.detach(); });
    REQUIRE(root);
    CHECK(s.leaves() == 0);
}

} // namespace

TEMPLATE_TEST_CASE("an operation takes the mutex once and gives it back, whatever comes of it",
                   "[paging]", ept_kit, ept5_flags_kit, second_stage_kit<4>,
                   (second_stage_kit<3, true>)) {
    plays<TestType, counting_mutex>();
}

TEMPLATE_TEST_CASE("maps share a mutex that can be shared, and nothing else does", "[paging]",
                   ept_kit, second_stage_kit<4>, (second_stage_kit<3, true>)) {
    plays<TestType, counting_shared_mutex>();
}
