// SPDX-License-Identifier: BSL-1.0
// Several processors map into one table at the same time, while others translate and hardware walks.
#include "../../paging_model/caches.hpp"
#include "../../paging_model/kit.hpp"
#include "../../paging_model/stands.hpp"
#include "../../paging_model/structure.hpp"
#include "pt/core/mutex.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

namespace {

using namespace paging_model;
using pt::errc;
using pt::GiB;
using pt::hpa;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

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

/// Table frames for several threads. A frame that is not in use is full of poison, and to ask for its
/// entries ends the test.
class common_frames {
public:
    static constexpr std::uint64_t base = 0x23'0000'0000;

    explicit common_frames(std::size_t count) : all_{count, 0}, used_(count) {
        for (std::size_t i = count; i != 0; --i) {
            spoil(i - 1);
            free_.push_back(i - 1);
        }
    }
    pt::result<hpa> allocate() {
        const std::lock_guard held{guard_};
        if (free_.empty() || free_.size() <= kept_back_) {
            return pt::error{errc::out_of_frames};
        }
        const std::size_t i = free_.back();
        free_.pop_back();
        used_[i].store(true);
        return hpa{base + i * 4096};
    }
    void release(hpa frame) {
        const std::lock_guard held{guard_};
        const std::size_t i = index(frame);
        if (!used_[i].exchange(false)) {
            std::abort(); // released twice
        }
        spoil(i);
        free_.push_back(i);
    }
    std::uint64_t* entries(hpa frame) {
        const std::size_t i = index(frame);
        if (!used_[i].load(std::memory_order_relaxed)) {
            std::abort(); // somebody looks into a frame that was given back
        }
        return at(i);
    }
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        return frame < base ? nullptr : all_.at(frame - base, i);
    }
    [[nodiscard]] std::size_t in_use() const { return used_.size() - free_.size(); }
    /// Leaves only `count` more frames to be had.
    void leave_only(std::size_t count) {
        kept_back_ = free_.size() > count ? free_.size() - count : 0;
    }
    void leave_all() { kept_back_ = 0; }

private:
    static std::size_t index(hpa frame) {
        return static_cast<std::size_t>((frame.raw - base) / 4096);
    }
    [[nodiscard]] std::uint64_t* at(std::size_t i) {
        return const_cast<std::uint64_t*>(all_.at(i * 4096, 0));
    }
    void spoil(std::size_t i) {
        for (unsigned k = 0; k < 512; ++k) {
            at(i)[k] = poison;
        }
    }

    region all_;
    std::vector<std::atomic<bool>> used_;
    std::vector<std::size_t> free_;
    std::size_t kept_back_ = 0;
    std::mutex guard_;
};

struct common_memory {
    common_frames* owner;

    pt::result<hpa> allocate(pt::frame_contents contents) {
        const auto frame = owner->allocate();
        if (frame && contents == pt::frame_contents::zeroed) {
            for (unsigned i = 0; i < 512; ++i) {
                owner->entries(*frame)[i] = 0;
            }
        }
        return frame;
    }
    void release(hpa frame) { owner->release(frame); }
    std::uint64_t* entries(hpa frame) { return owner->entries(frame); }
};
static_assert(pt::table_memory<common_memory>);

/// Where the i-th thread maps an address to: another place for each, with the same phase.
constexpr std::uint64_t place(unsigned thread, std::uint64_t input) {
    return input % (256 * GiB) + (thread + 1) * 512 * GiB;
}

struct attempt {
    std::uint64_t first;
    std::uint64_t size;
    page_size largest = page_size::size_1g;
    errc said = errc::busy; // nothing yet
    std::uint64_t where = 0;
};

template <class Kit>
struct stage {
    using address = typename Kit::address;
    using table = pt::paging::table<typename Kit::format, common_memory,
                                    pt::paging::coherent_publication, pt::no_shared_mutex>;
    common_frames memory;
    table tables{common_memory{&memory}, Kit{}.make()};

    explicit stage(std::size_t frames = 509) : memory{frames} {}
    ~stage() {
        memory.leave_all();
        auto owed = tables.retire();
        nobody hardware;
        CHECK(owed.redeem(hardware));
        CHECK(memory.in_use() == 0);
    }

    outcome walk(std::uint64_t root, std::uint64_t input) const {
        return Kit{}.hardware().walk(
            [this](std::uint64_t frame, unsigned i) { return memory.read(frame, i); }, root, input);
    }
    void attempt_by(unsigned thread, attempt& one, bool scattered) {
        const pt::range<address> input{address{one.first}, one.size};
        const hpa output{place(thread, one.first)};
        const auto& a = Kit::choices[0];
        const auto note = [&one](const auto& done) {
            one.said = done ? errc::none : done.error().code;
            one.where = done ? 0 : done.error().where;
        };
        if (scattered && one.size <= 64 * 4 * KiB) {
            hpa pages[64];
            for (std::uint64_t i = 0; i < one.size / (4 * KiB); ++i) {
                pages[i] = output + i * 4 * KiB;
            }
            note(tables.map_pages(input, static_cast<const hpa*>(pages), a));
        } else {
            note(tables.map(input, output, a, one.largest));
        }
    }

    /// All attempts, each thread its own, while a translator and a walker look on.
    void run(std::vector<std::vector<attempt>>& attempts, bool scattered = false) {
        std::atomic<std::size_t> ready{0};
        const auto start = [&ready, all = attempts.size() + 1] {
            ++ready;
            while (ready != all) { // awake, so that they really begin together
                std::this_thread::yield();
            }
        };
        std::atomic<unsigned> left{static_cast<unsigned>(attempts.size())};
        std::atomic<unsigned> wrong{0};
        std::vector<std::thread> threads;
        for (unsigned t = 0; t < attempts.size(); ++t) {
            threads.emplace_back([&, t] {
                start();
                for (attempt& one : attempts[t]) {
                    attempt_by(t, one, scattered);
                }
                --left;
            });
        }
        threads.emplace_back([&] {
            std::minstd_rand random{1};
            start();
            // Hardware needs a root; with no frame for one, there is nothing to see.
            const auto root = tables.root();
            while (left != 0) {
                const auto& of = attempts[random() % attempts.size()];
                const attempt& one = of[random() % of.size()];
                const std::uint64_t input = one.first + random() % (one.size + 4 * KiB);
                const auto found = tables.translate(address{input});
                wrong += found ? !is_place(input, found->output.raw) : 0;
                wrong += !found && found.error().code != errc::not_mapped ? 1U : 0U;
                if (root) {
                    const outcome seen = walk(root->raw, input);
                    wrong += seen.what == outcome::kind::translated ? !is_place(input, seen.output)
                             : seen.what != outcome::kind::not_mapped ? 1U
                                                                      : 0U;
                }
            }
        });
        for (std::thread& thread : threads) {
            thread.join();
        }
        CHECK(wrong == 0);
        compare(attempts);
    }
    [[nodiscard]] static bool is_place(std::uint64_t input, std::uint64_t output) {
        const std::uint64_t thread = output / (512 * GiB) - 1;
        return thread < 8 && output == place(static_cast<unsigned>(thread), input);
    }

    /// The tree is the union of the attempts that succeeded, and nothing else is in it.
    void compare(const std::vector<std::vector<attempt>>& attempts) {
        const auto root = tables.root();
        if (!root) {
            CHECK(memory.in_use() == 0);
            return;
        }
        const structure found = explore<Kit>(memory, root->raw);
        CHECK(found.wrong_counts == 0);
        CHECK(found.empty_tables == 0);
        CHECK(found.hidden == 0);
        CHECK(found.tables == memory.in_use());
        std::uint64_t mapped = 0;
        unsigned wrong = 0;
        for (unsigned t = 0; t < attempts.size(); ++t) {
            for (const attempt& one : attempts[t]) {
                wrong += one.said == errc::busy ? 1 : 0;
                if (one.said == errc::already_mapped) {
                    wrong += one.where < one.first || one.where - one.first >= one.size ? 1 : 0;
                }
                if (one.said != errc::none) {
                    continue;
                }
                mapped += one.size;
                const std::uint64_t step = one.size > 16 * MiB ? 1 * MiB : 4 * KiB;
                for (std::uint64_t at = 0; at < one.size; at += step) {
                    const std::uint64_t input = one.first + at;
                    wrong +=
                        walk(root->raw, input) == Kit::expected(Kit::choices[0], place(t, input))
                            ? 0
                            : 1;
                }
            }
        }
        CHECK(wrong == 0);
        CHECK(found.mapped == mapped); // and so no two of them overlap
    }
    void clear() {
        auto owed = tables.retire();
        nobody hardware;
        REQUIRE(owed.redeem(hardware));
        REQUIRE(memory.in_use() == 0);
    }
};

constexpr bool overlap(const attempt& a, const attempt& b) {
    return a.first < b.first + b.size && b.first < a.first + a.size;
}

} // namespace

TEMPLATE_TEST_CASE("maps that do not overlap all succeed, in one table, in many, from no root on",
                   "[paging][concurrent]", ept_kit, second_stage_kit<3>, nested_kit) {
    for (unsigned round = 0; round < 40 / scale + 2; ++round) {
        const unsigned threads = 2 + round % 3;
        stage<TestType> s;
        std::vector<std::vector<attempt>> attempts(threads);
        // Every page of 6 MiB, dealt out one by one or in handfuls; and larger neighbours.
        std::uint64_t at = 10 * GiB - 3 * MiB;
        for (unsigned i = 0; at < 10 * GiB + 3 * MiB; ++i) {
            const std::uint64_t size = round % 2 == 0 ? 4 * KiB : (1 + i % 7) * 4 * KiB;
            attempts[i % threads].push_back({at, size});
            at += size;
        }
        for (unsigned i = 0; i < 16; ++i) {
            attempts[i % threads].push_back({12 * GiB + i * 2 * MiB, 2 * MiB});
            attempts[i % threads].push_back({20 * GiB + i * 5 * MiB, 5 * MiB, page_size::size_4k});
        }
        s.run(attempts, round % 4 == 3);
        unsigned failed = 0;
        for (const auto& of : attempts) {
            for (const attempt& one : of) {
                failed += one.said != errc::none ? 1 : 0;
            }
        }
        CHECK(failed == 0);
    }
}

TEMPLATE_TEST_CASE("of two maps that overlap exactly one succeeds", "[paging][concurrent]", ept_kit,
                   second_stage_kit<3>) {
    std::mt19937_64 random{5};
    stage<TestType> s;
    for (unsigned round = 0; round < 1'000 / scale; ++round) {
        std::vector<std::vector<attempt>> attempts(2);
        const std::uint64_t seam = (5 + random() % 8) * GiB;
        do {
            for (auto& of : attempts) {
                const std::uint64_t unit = random() % 4 == 0 ? 2 * MiB : 4 * KiB;
                of = {{seam - random() % 30 * unit, (1 + random() % 40) * unit,
                       static_cast<page_size>(1 + random() % 3)}};
            }
        } while (!overlap(attempts[0][0], attempts[1][0]));
        s.run(attempts, round % 3 == 0);
        const errc first = attempts[0][0].said;
        const errc second = attempts[1][0].said;
        INFO("round " << round);
        REQUIRE((first == errc::none) != (second == errc::none));
        REQUIRE((first == errc::already_mapped || second == errc::already_mapped));
        s.clear();
    }
}

TEMPLATE_TEST_CASE("of many maps that overlap those that succeed do not", "[paging][concurrent]",
                   ept_kit, second_stage_kit<3>, nested_kit) {
    std::mt19937_64 random{6};
    stage<TestType> s;
    for (unsigned round = 0; round < 60 / scale + 2; ++round) {
        std::vector<std::vector<attempt>> attempts(2 + round % 3);
        for (auto& of : attempts) {
            for (unsigned i = 0; i < 100; ++i) {
                const std::uint64_t unit = random() % 8 == 0 ? 2 * MiB : 4 * KiB;
                const std::uint64_t first =
                    6 * GiB - 32 * MiB + random() % (64 * MiB) / unit * unit;
                of.push_back(
                    {first, (1 + random() % 60) * unit, static_cast<page_size>(1 + random() % 3)});
            }
        }
        s.run(attempts, round % 2 == 0);
        // Who failed has somebody in his way.
        for (std::size_t t = 0; t < attempts.size(); ++t) {
            for (const attempt& one : attempts[t]) {
                bool in_the_way = one.said == errc::none;
                for (std::size_t u = 0; u < attempts.size(); ++u) {
                    for (const attempt& other : attempts[u]) {
                        in_the_way = in_the_way || (&other != &one && overlap(one, other));
                    }
                }
                REQUIRE(in_the_way);
                REQUIRE((one.said == errc::none || one.said == errc::already_mapped));
            }
        }
        s.clear();
    }
}

TEMPLATE_TEST_CASE("a map that runs out of frames leaves nothing, whoever was helping",
                   "[paging][concurrent]", ept_kit, second_stage_kit<3>) {
    std::mt19937_64 random{7};
    stage<TestType> s;
    unsigned shortages = 0;
    unsigned successes = 0;
    for (unsigned round = 0; round < 400 / scale + 2; ++round) {
        s.memory.leave_only(round % 24);
        std::vector<std::vector<attempt>> attempts(2 + round % 3);
        for (auto& of : attempts) {
            for (unsigned i = 0; i < 12; ++i) {
                const std::uint64_t first = 6 * GiB - 4 * MiB + random() % (8 * MiB) / 4096 * 4096;
                of.push_back({first, (1 + random() % 600) * 4 * KiB, page_size::size_4k});
            }
        }
        s.run(attempts, false);
        for (const auto& of : attempts) {
            for (const attempt& one : of) {
                shortages += one.said == errc::out_of_frames ? 1 : 0;
                successes += one.said == errc::none ? 1 : 0;
            }
        }
        s.memory.leave_all();
        s.clear();
    }
    CHECK(shortages > 0);
    CHECK(successes > 0);
}

namespace {

struct reader_writer {
    std::shared_mutex* guard;

    void lock() { guard->lock(); }
    void unlock() { guard->unlock(); }
    void lock_shared() { guard->lock_shared(); }
    void unlock_shared() { guard->unlock_shared(); }
};
static_assert(pt::shared_mutex<reader_writer>);

} // namespace

TEMPLATE_TEST_CASE("with a shared mutex, maps and all other operations may meet",
                   "[paging][concurrent]", ept_kit, ept_flags_kit, second_stage_kit<3>) {
    using address = typename TestType::address;
    common_frames memory{4093};
    std::shared_mutex guard;
    pt::paging::table<typename TestType::format, common_memory, pt::paging::coherent_publication,
                      reader_writer>
        tables{common_memory{&memory}, TestType{}.make(), {}, reader_writer{&guard}};
    constexpr unsigned threads = 3;
    constexpr std::uint64_t pages = 1024;
    std::atomic<unsigned> wrong{0};
    std::vector<bool> mapped[threads];
    std::vector<std::thread> all;
    for (unsigned t = 0; t < threads; ++t) {
        all.emplace_back([&, t] {
            // Each has every third page of the same tables for itself.
            std::minstd_rand random{t + 1};
            std::vector<bool>& mine = mapped[t];
            mine.assign(pages, false);
            const auto input = [&](std::uint64_t page) {
                return pt::range{address{2 * GiB - 2 * MiB + (page * threads + t) * 4 * KiB},
                                 4 * KiB};
            };
            nobody hardware;
            for (unsigned i = 0; i < 6'000 / scale; ++i) {
                const std::uint64_t page = random() % pages;
                const pt::range<address> at = input(page);
                const hpa output{place(t, at.first().raw)};
                errc said = errc::none;
                const auto note = [&](auto&& done) {
                    said = done ? errc::none : done.error().code;
                    // Who translates without a lock is not there: frames may go at once.
                    wrong += done && !done->redeem(hardware) ? 1U : 0U;
                };
                switch (random() % 6) {
                case 0:
                case 1:
                    note(tables.map(at, output, TestType::choices[0]));
                    wrong += said != (mine[page] ? errc::already_mapped : errc::none) ? 1U : 0U;
                    mine[page] = true;
                    break;
                case 2:
                    note(tables.unmap(at));
                    wrong += said != errc::none ? 1U : 0U;
                    mine[page] = false;
                    break;
                case 3:
                    note(tables.remap(at, output, TestType::choices[0]));
                    wrong += said != errc::none ? 1U : 0U;
                    mine[page] = true;
                    break;
                case 4: {
                    auto cursor = tables.cursor();
                    note(cursor.map(at.first(), output, TestType::choices[0]));
                    wrong += said != (mine[page] ? errc::already_mapped : errc::none) ? 1U : 0U;
                    mine[page] = true;
                    break;
                }
                default: note(tables.join({address{2 * GiB}, 2 * MiB})); break;
                }
            }
        });
    }
    for (std::thread& thread : all) {
        thread.join();
    }
    CHECK(wrong == 0);
    std::uint64_t bytes = 0;
    for (unsigned t = 0; t < threads; ++t) {
        for (std::uint64_t page = 0; page < pages; ++page) {
            const std::uint64_t input = 2 * GiB - 2 * MiB + (page * threads + t) * 4 * KiB;
            const auto found = tables.translate(address{input});
            bytes += mapped[t][page] ? 4 * KiB : 0;
            wrong += found.has_value() != mapped[t][page] ? 1U : 0U;
            wrong += found && found->output != hpa{place(t, input)} ? 1U : 0U;
        }
    }
    CHECK(wrong == 0);
    const structure found = explore<TestType>(memory, tables.root()->raw);
    CHECK(found.wrong_counts == 0);
    CHECK(found.empty_tables == 0);
    CHECK(found.hidden == 0);
    CHECK(found.tables == memory.in_use());
    CHECK(found.mapped == bytes);
    auto owed = tables.retire();
    nobody hardware;
    CHECK(owed.redeem(hardware));
    CHECK(memory.in_use() == 0);
}
