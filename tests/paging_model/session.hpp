// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/table.hpp"

#include "caches.hpp"
#include "frames.hpp"
#include "kit.hpp"
#include "oracle.hpp"
#include "structure.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace paging_model {

/// Tables under test beside all that knows better: the oracle says what is mapped, the walker what
/// hardware finds, the cache what hardware may still remember. Each operation is predicted, done, and
/// compared; the first disagreement stays in `complaint`.
template <class Kit>
class session {
public:
    using address = typename Kit::address;
    using page_size = pt::paging::page_size;
    using table = pt::paging::table<typename Kit::format, frames_memory>;

    explicit session(Kit kit, std::size_t frame_count)
        : kit_{kit},
          memory_{frame_count},
          tables_{frames_memory{&memory_}, kit.make()},
          owed_{tables_.empty_ticket()} {}
    session(const session&) = delete;
    session& operator=(const session&) = delete;
    ~session() { finish(); }

    const char* complaint = nullptr;
    std::uint64_t where = 0; ///< the input address of the complaint
    std::size_t maps = 0;    ///< operations that were done, by kind
    std::size_t unmaps = 0;
    std::size_t refusals = 0;
    std::size_t shortages = 0;

    void map(std::uint64_t first, std::uint64_t size, std::uint64_t output, std::size_t choice,
             page_size largest) {
        const auto input = pt::range<address>::checked(address{first}, size);
        if (!input) {
            return;
        }
        const auto attributes = Kit::choices[choice % std::size(Kit::choices)];
        const pt::errc predicted = predict(first, size, output);
        const std::uint64_t taken =
            predicted == pt::errc::none ? oracle_.first_mapped(first, size) : 0;
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.map(*input, pt::hpa{output}, attributes, largest);
        if (!done) {
            const pt::error why = done.error();
            check(memory_.in_use() == in_use, "a failed map keeps frames", first);
            if (why.code == pt::errc::out_of_frames && predicted == pt::errc::none) {
                ++shortages;
                check(memory_.free_frames() < tables_needed(first, size),
                      "out of frames while there are enough", first);
            } else if (predicted == pt::errc::none) {
                ++refusals;
                check(why.code == pt::errc::already_mapped && why.where == taken &&
                          taken != nowhere,
                      "the error is not the first address that is mapped", first);
            } else {
                ++refusals;
                check(why.code == predicted, "not the error that was predicted", first);
            }
            return;
        }
        check(predicted == pt::errc::none && (size == 0 || taken == nowhere),
              "a map that had to fail did not", first);
        check(Kit::caches_not_mapped || done->empty(),
              "a map owes a flush where absence is not cached", first);
        owed_.merge(*std::move(done));
        if (size == 0 || complaint != nullptr) {
            return;
        }
        ++maps;
        oracle_.map(first, {size, output, attributes});
        for (const std::uint64_t probe :
             {first, first + size - 1, first + size / 2 / 4096 * 4096}) {
            check_page(probe, first, size, output, largest);
        }
    }

    void unmap(std::uint64_t first, std::uint64_t size) {
        const auto input = pt::range<address>::checked(address{first}, size);
        if (!input) {
            return;
        }
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.unmap(*input);
        if (!done) {
            const pt::errc code = done.error().code;
            check(memory_.in_use() == in_use, "a failed unmap keeps frames", first);
            if (first % 4096 != 0 || size % 4096 != 0) {
                ++refusals;
                check(code == pt::errc::misaligned, "misaligned, but another error", first);
            } else if (size != 0 && beyond_input(first, size)) {
                ++refusals;
                check(code == pt::errc::out_of_range, "out of range, but another error", first);
            } else {
                ++shortages;
                check(code == pt::errc::out_of_frames && memory_.free_frames() < 4,
                      "unmap failed without need", first);
            }
            return;
        }
        if (size != 0) {
            check(oracle_.first_mapped(first, size) != nowhere || done->stale().empty(),
                  "nothing was mapped, but a flush is owed", first);
            oracle_.unmap(first, size);
        }
        ++unmaps;
        owed_.merge(*std::move(done));
    }

    /// Redeems all that is owed, after `failures` invalidations that fail.
    void redeem(unsigned failures = 0) {
        cache_.failures = failures;
        while (cache_.failures != 0 && !owed_.empty()) {
            const std::size_t in_use = memory_.in_use();
            check(!owed_.redeem(cache_) && memory_.in_use() == in_use,
                  "a failed invalidation gave frames back", 0);
        }
        cache_.failures = 0;
        check(owed_.redeem(cache_).has_value() && owed_.empty(), "a redeemed ticket still owes", 0);
        for (const auto& cached : cache_.entries()) {
            outcome last = cached.translation;
            if (last.what == outcome::kind::translated) {
                last.output += cached.size - 1;
            }
            check(walk(cached.page) == cached.translation &&
                      walk(cached.page + cached.size - 1) == last,
                  "a stale translation is still cached", cached.page);
        }
    }

    /// Hardware, engine and oracle agree about `input`.
    void check_address(std::uint64_t input) {
        if ((input >> Kit::input_width) != 0) {
            return;
        }
        std::uint64_t output = 0;
        const auto* const run = oracle_.find(input, output);
        const outcome expected =
            run != nullptr ? Kit::expected(run->attributes, output) : outcome{};
        const outcome found = walk(input);
        check(found == expected, "hardware walks to something else", input);
        const outcome said = translated<Kit>(tables_, input);
        check(said == expected && said.page == found.page, "translate() says something else",
              input);
        if (found.what == outcome::kind::translated || Kit::caches_not_mapped) {
            cache_.insert(input, found);
        }
    }

    /// Reads all tables: nothing is empty, hidden, miscounted, lost or mapped in excess.
    void audit() {
        redeem();
        const auto root = tables_.root();
        if (!root) {
            return;
        }
        const structure found = explore<Kit>(memory_, root->raw);
        check(found.empty_tables == 0, "an empty table was kept", 0);
        check(found.wrong_counts == 0, "a live count is wrong", 0);
        check(found.hidden == 0, "an entry is neither present nor empty", 0);
        check(found.page_bits == 0, "bit 7 in a page of 4 KiB", 0);
        check(found.mapped == oracle_.bytes(), "more or less is mapped than should be", 0);
        check(found.tables == memory_.in_use(), "frames are in use but in no tree", 0);
        std::uint64_t visited = 0;
        std::uint64_t end = 0;
        tables_.visit([&](pt::range<address> input, const auto& leaf) {
            check(input.first().raw >= end, "visit does not ascend", input.first().raw);
            end = input.last().raw;
            visited += input.size();
            check(input.size() == pt::paging::bytes(leaf.size), "visit: size", input.first().raw);
            std::uint64_t output = 0;
            const auto* const run = oracle_.find(input.first().raw, output);
            check(run != nullptr && output == leaf.output.raw && run->attributes == leaf.attributes,
                  "visit: translation", input.first().raw);
        });
        check(visited == oracle_.bytes(), "visit leaves something out", 0);
    }

    void finish() {
        owed_.merge(tables_.retire());
        redeem();
        check(memory_.in_use() == 0, "frames did not come home", 0);
    }

private:
    static constexpr std::uint64_t nowhere = oracle<typename Kit::attributes>::none;

    void check(bool holds, const char* otherwise, std::uint64_t at) {
        if (!holds && complaint == nullptr) {
            complaint = otherwise;
            where = at;
        }
    }
    static bool beyond_input(std::uint64_t first, std::uint64_t size) {
        return ((first + (size - 1)) >> Kit::input_width) != 0;
    }
    static pt::errc predict(std::uint64_t first, std::uint64_t size, std::uint64_t output) {
        if (first % 4096 != 0 || size % 4096 != 0 || output % 4096 != 0) {
            return pt::errc::misaligned;
        }
        if (size != 0 && beyond_input(first, size)) {
            return pt::errc::out_of_range;
        }
        const std::uint64_t reach = size == 0 ? 0 : size - 1;
        if ((output >> Kit::output_width) != 0 || reach >> Kit::output_width != 0 ||
            ((output + reach) >> Kit::output_width) != 0) {
            return pt::errc::out_of_range;
        }
        const bool device = std::is_same_v<address, pt::iova>;
        for (const std::uint64_t at : {first, output}) { // neither where interrupts come from
            if (device && size != 0 && at <= 0xFEEF'FFFF && at + (size - 1) >= 0xFEE0'0000) {
                return pt::errc::reserved_address;
            }
        }
        return pt::errc::none;
    }
    /// The most tables that a map can need: all entries above 4 KiB that the range touches, and the
    /// root.
    static std::uint64_t tables_needed(std::uint64_t first, std::uint64_t size) {
        std::uint64_t sum = 1;
        for (unsigned level = 2; level <= Kit::levels; ++level) {
            const unsigned shift = 12 + 9 * (level - 1);
            sum += ((first + (size - 1)) >> shift) - (first >> shift) + 1;
        }
        return sum;
    }
    /// The page at `probe` is the largest that both addresses, the hardware and the caller allow.
    void check_page(std::uint64_t probe, std::uint64_t first, std::uint64_t size,
                    std::uint64_t output, page_size largest) {
        check_address(probe);
        const page_size cap = largest < kit_.largest ? largest : kit_.largest;
        std::uint64_t expected = 4096;
        for (unsigned level = 2; level <= static_cast<unsigned>(cap); ++level) {
            const std::uint64_t page = std::uint64_t{1} << (12 + 9 * (level - 1));
            const std::uint64_t base = probe & ~(page - 1);
            if (base >= first && base + (page - 1) <= first + (size - 1) &&
                (output - first) % page == 0) {
                expected = page;
            }
        }
        check(walk(probe).page == expected, "not the largest page that was possible", probe);
    }
    outcome walk(std::uint64_t input) {
        const auto root = tables_.root();
        if (!root) {
            return {};
        }
        return kit_.hardware().walk(
            [this](std::uint64_t frame, unsigned i) { return memory_.read(frame, i); }, root->raw,
            input);
    }

    Kit kit_;
    frames memory_;
    table tables_;
    typename table::ticket owed_;
    oracle<typename Kit::attributes> oracle_;
    cache<address> cache_{64};
};

} // namespace paging_model
