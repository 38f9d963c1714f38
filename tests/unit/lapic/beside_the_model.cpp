// SPDX-License-Identifier: BSL-1.0
// A million random operations of four virtual processors, the library's local APICs beside a slow
// model that was written from the manual without them: register reads, injected events, receivers
// of IPIs, windows, signals and deadlines are all equal.
#include "../../lapic_model/random_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr unsigned scale = 8;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr unsigned scale = 8;
#else
constexpr unsigned scale = 1;
#endif
#else
constexpr unsigned scale = 1;
#endif

TEST_CASE("a million random operations of four local APICs give what the manual's model gives",
          "[lapic][model][rule 26][rule 27][rule 28][rule 29][rule 30][rule 31][rule 32]") {
    using lapic_model::reached;
    using lapic_model::setting;
    constexpr std::uint32_t no_limit = 0xFFFF'FFFF;
    // x2APIC ids of one cluster and of several; limits that a guest meets, and none.
    const setting settings[] = {
        {.ids = {0, 1, 2, 3}, .limits = {0, no_limit}, .looks_in_time = false},
        {.ids = {0, 1, 2, 3}, .limits = {24, 2}, .offers_suppression = false},
        {.ids = {7, 0, 0x12, 0x1F}, .limits = {0, no_limit}, .looks_in_time = false},
        {.ids = {0x42, 0x51, 2, 0xFE}, .limits = {20'000, 1'000}},
    };
    reached sum;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        auto random = [engine = std::mt19937_64{seed}]() mutable -> std::uint64_t {
            return engine();
        };
        lapic_model::random_machine machine{random, settings[seed % 4]};
        for (unsigned step = 0; step != 125'000 / scale; ++step) {
            try {
                machine.step();
            } catch (const lapic_model::difference& found) {
                FAIL(found.what << ", seed " << seed << ", step " << step << '\n'
                                << machine.history());
            }
        }
        sum += machine.so_far;
    }
    // The mixture reaches what it is for.
    CHECK(sum.vectors > 20'000 / scale);
    CHECK(sum.nmis > 1'000 / scale);
    CHECK(sum.extints > 1'000 / scale);
    CHECK(sum.again > 1'000 / scale);
    CHECK(sum.windows > 1'000 / scale);
    CHECK(sum.nmi_windows > 1'000 / scale);
    CHECK(sum.held > 1'000 / scale);
    CHECK(sum.broadcasts > 1'000 / scale);
    CHECK(sum.ipis > 10'000 / scale);
    CHECK(sum.arbitrations > 400 / scale);
    CHECK(sum.messages > 10'000 / scale);
    CHECK(sum.faults > 1'000 / scale);
    CHECK(sum.ticks > 10'000 / scale);
    CHECK(sum.inits > 400 / scale);
    CHECK(sum.start_ups > 400 / scale);
    CHECK(sum.smis > 400 / scale);
    CHECK(sum.restores > 10'000 / scale);
    CHECK(sum.base_changes > 400 / scale);
    CHECK(sum.x2apic_accesses > 10'000 / scale);
    CHECK(sum.xapic_accesses > 10'000 / scale);
    CHECK(sum.errors_seen > 400 / scale);
    CHECK(sum.owed_ticks > 400 / scale);
}

} // namespace
