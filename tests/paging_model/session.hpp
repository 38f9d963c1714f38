// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/paging/table.hpp"

#include "caches.hpp"
#include "kit.hpp"
#include "oracle.hpp"
#include "stands.hpp"
#include "structure.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <type_traits>
#include <utility>
#include <vector>

namespace paging_model {

/// Tables under test beside all that knows better: the oracle says what is mapped and by which pages,
/// the walker what hardware finds, the cache what hardware may still remember, the flags which pages
/// were used. Each operation is predicted, done, and compared; the first disagreement stays in
/// `complaint`. `Stand` is the memory that the tables live in.
template <class Kit, class Stand = poisoned_stand>
class session {
public:
    using address = typename Kit::address;
    using attributes = typename Kit::attributes;
    using page_size = pt::paging::page_size;
    using page_flag = pt::paging::page_flag;
    using memory = decltype(std::declval<Stand&>().handle());
    using table = pt::paging::table<typename Kit::format, memory>;
    using ticket = typename table::ticket;

    explicit session(Kit kit, std::size_t frame_count)
        : kit_{kit},
          memory_{frame_count},
          tables_{memory_.handle(), kit.make()},
          owed_{tables_.batch()} {}
    session(const session&) = delete;
    session& operator=(const session&) = delete;
    ~session() { finish(); }

    const char* complaint = nullptr;
    std::uint64_t where = 0; ///< the input address of the complaint
    pt::error got{};         ///< the last error
    /// Operations that were done and that changed something, by kind.
    struct {
        std::size_t map, map_pages, cursor, remap, unmap, protect, write_protect, split, join;
        std::size_t harvest, harvested, refused, shortage, full, remembered;
    } count{};

    void map(std::uint64_t first, std::uint64_t size, std::uint64_t output, std::size_t choice,
             page_size largest) {
        const auto input = range_of(first, size);
        if (!input) {
            return;
        }
        const attributes a = chosen(choice);
        const pt::errc predicted = predict(first, size, output);
        const std::uint64_t taken = taken_in(predicted, first, size);
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.map(*input, pt::hpa{output}, a, largest);
        const std::uint64_t page = page_for(a, largest);
        if (!done) {
            refused_map(done.error(), predicted, taken, in_use, first,
                        [&](auto& truth) { truth.map(first, size, output, a, page); });
            return;
        }
        check(predicted == pt::errc::none && (size == 0 || taken == nowhere),
              "a map that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            ++count.map;
            change_truth(in_use, first, [&](auto& truth) {
                truth.map(first, size, output, a, page);
                return change{};
            });
            mapped(*done, first, size);
        }
        owe(*std::move(done));
    }

    /// The frames are one after the other, but for a step that is no page after each `run` of them.
    void map_pages(std::uint64_t first, std::uint64_t pages, std::uint64_t output,
                   std::uint64_t run, std::size_t choice, page_size each) {
        const std::uint64_t page = pt::paging::bytes(each);
        const auto input = range_of(first, pages * page);
        if (!input || pages > 2048) {
            return;
        }
        const std::uint64_t size = input->size();
        const attributes a = chosen(choice);
        std::vector<pt::hpa> frames;
        for (std::uint64_t i = 0; i < pages; ++i) {
            frames.push_back(pt::hpa{output + (i + i / run) * page});
        }
        pt::errc predicted = predict(first, size);
        if (predicted == pt::errc::none && first % page != 0) {
            predicted = pt::errc::misaligned;
        }
        if (predicted == pt::errc::none && page > kit_.largest_page(a)) {
            predicted = pt::errc::not_supported;
        }
        for (std::uint64_t i = 0; i < pages && predicted == pt::errc::none; ++i) {
            predicted = frames[i].raw % page != 0 ? pt::errc::misaligned
                                                  : predict(first + i * page, page, frames[i].raw);
        }
        const std::uint64_t taken = taken_in(predicted, first, size);
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.map_pages(*input, frames, a, each);
        const auto tell = [&](auto& truth) {
            for (std::uint64_t i = 0; i < pages; ++i) {
                truth.map(first + i * page, page, frames[i].raw, a, page);
            }
        };
        if (!done) {
            refused_map(done.error(), predicted, taken, in_use, first, tell);
            return;
        }
        check(predicted == pt::errc::none && (size == 0 || taken == nowhere),
              "a map_pages that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            ++count.map_pages;
            change_truth(in_use, first, [&](auto& truth) {
                tell(truth);
                return change{};
            });
            mapped(*done, first, size);
        }
        owe(*std::move(done));
    }

    /// One page after the other through a cursor, in steps of `step` pages.
    void cursor(std::uint64_t first, std::uint64_t pages, std::uint64_t step, std::uint64_t output,
                std::size_t choice) {
        const attributes a = chosen(choice);
        auto at = tables_.cursor();
        for (std::uint64_t i = 0; i < pages && complaint == nullptr; ++i) {
            const std::uint64_t input = first + i * step * 4096;
            const std::uint64_t frame = output + i * 4096;
            const pt::errc predicted = predict(input, 4096, frame);
            const std::uint64_t taken = taken_in(predicted, input, 4096);
            const std::size_t in_use = memory_.in_use();
            auto done = at.map(address{input}, pt::hpa{frame}, a);
            const auto tell = [&](auto& truth) { truth.map(input, 4096, frame, a, 4096); };
            if (!done) {
                refused_map(done.error(), predicted, taken, in_use, input, tell);
                continue;
            }
            check(predicted == pt::errc::none && taken == nowhere,
                  "a page that a cursor had to refuse was mapped", input);
            if (complaint != nullptr) {
                done->leak();
                return;
            }
            ++count.cursor;
            change_truth(in_use, input, [&](auto& truth) {
                tell(truth);
                return change{};
            });
            mapped(*done, input, 4096);
            owe(*std::move(done));
        }
    }

    void remap(std::uint64_t first, std::uint64_t size, std::uint64_t output, std::size_t choice,
               page_size largest) {
        const auto input = range_of(first, size);
        if (!input) {
            return;
        }
        const attributes a = chosen(choice);
        const pt::errc predicted = predict(first, size, output);
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.remap(*input, pt::hpa{output}, a, largest);
        change what;
        oracle<attributes> after = truth_;
        if (predicted == pt::errc::none && size != 0) {
            what = after.unmap(first, size);
            after.map(first, size, output, a, page_for(a, largest));
        }
        const std::size_t needed = after.tables_beside(truth_, Kit::levels);
        if (!done) {
            refused(done.error(), predicted, in_use, first, needed + (rooted_ ? 0 : 1));
            return;
        }
        check(predicted == pt::errc::none, "a remap that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            ++count.remap;
            if (Kit::caches_not_mapped) {
                what.add(first, first + (size - 1));
            }
            check_ticket(*done, what, first, size);
            check(memory_.in_use() == in_use + needed + (rooted_ ? 0 : 1),
                  "a remap took more or fewer frames", first);
            rooted_ = true;
            truth_ = std::move(after);
            tables_known_ = truth_.tables(Kit::levels);
            forget_flags(first, size);
            check_address(first);
            check_address(first + size - 1);
        }
        owe(*std::move(done));
    }

    void unmap(std::uint64_t first, std::uint64_t size) {
        const auto input = range_of(first, size);
        if (!input) {
            return;
        }
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.unmap(*input);
        const auto tell = [&](auto& truth) { return truth.unmap(first, size); };
        if (!done) {
            refused_change(done.error(), in_use, first, size, tell);
            return;
        }
        check(predict(first, size) == pt::errc::none, "an unmap that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            const change what = truth_.unmap(first, size);
            tables_known_ = truth_.tables(Kit::levels);
            check(memory_.in_use() == in_use + what.splits, "an unmap took more or fewer frames",
                  first);
            check_ticket(*done, what, first, size);
            forget_flags(first, size);
            count.unmap += what.empty() ? 0 : 1;
        }
        owe(*std::move(done));
    }

    void protect(std::uint64_t first, std::uint64_t size, std::size_t choice) {
        const attributes to = chosen(choice);
        const auto input = range_of(first, size);
        if (!input) {
            return;
        }
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.protect(*input, to);
        if (!done && done.error().code == pt::errc::not_supported) {
            ++count.refused;
            check(predict(first, size) == pt::errc::none &&
                      larger_page(first, size, kit_.largest_page(to)) == done.error().where,
                  "attributes are refused for no reason", first);
            return;
        }
        protected_by(
            done, in_use, first, size, [&](attributes) { return to; }, count.protect);
    }
    void write_protect(std::uint64_t first, std::uint64_t size) {
        if constexpr (Kit::format::write_needs_read) {
            const auto input = range_of(first, size);
            if (!input) {
                return;
            }
            const std::size_t in_use = memory_.in_use();
            auto done = tables_.write_protect(*input);
            protected_by(
                done, in_use, first, size, [](attributes a) { return Kit::write_protected(a); },
                count.write_protect);
        }
    }

    void split(std::uint64_t first, std::uint64_t size, page_size to) {
        const auto input = range_of(first, size);
        if (!input) {
            return;
        }
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.split(*input, to);
        const auto tell = [&](auto& truth) {
            return truth.split(first, size, pt::paging::bytes(to));
        };
        if (!done) {
            refused_change(done.error(), in_use, first, size, tell);
            return;
        }
        check(predict(first, size) == pt::errc::none, "a split that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            const change what = tell(truth_);
            tables_known_ = truth_.tables(Kit::levels);
            check(memory_.in_use() == in_use + what.splits, "a split took more or fewer frames",
                  first);
            check_ticket(*done, what, first, size);
            count.split += what.splits;
            check_pages(first, size);
        }
        owe(*std::move(done));
    }

    void join(std::uint64_t first, std::uint64_t size, page_size largest) {
        const auto input = range_of(first, size);
        if (!input) {
            return;
        }
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.join(*input, largest);
        if (!done) {
            refused_change(done.error(), in_use, first, size, [](auto&) { return change{}; });
            return;
        }
        check(predict(first, size) == pt::errc::none, "a join that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            const change what =
                truth_.join(first, size, pt::paging::bytes(largest),
                            [&](const auto& run) { return kit_.largest_page(run.attributes); });
            tables_known_ = truth_.tables(Kit::levels);
            check(memory_.in_use() == in_use, "a join took or gave back frames", first);
            check_ticket(*done, what, first, size);
            count.join += what.joined.size();
            joined_flags(what);
            check_pages(first, size);
        }
        owe(*std::move(done));
    }

    void harvest(std::uint64_t first, std::uint64_t size, page_flag flag) {
        const auto input = range_of(first, size);
        if (!input || size > 4 * pt::GiB) {
            return;
        }
        const std::uint64_t pages = size / 4096;
        std::vector<std::uint64_t> words(static_cast<std::size_t>(pages / 64 + 1));
        constexpr std::uint64_t kept = 0x8000'0000'0001'0000; // bits that were there stay
        words[words.size() / 2] = kept;
        const std::size_t in_use = memory_.in_use();
        auto done = tables_.harvest(*input, flag, {words.data(), words.size() * 64});
        if (!Kit::sets_flags) {
            check(!done && (done.error().code == pt::errc::not_supported ||
                            predict(first, size) != pt::errc::none),
                  "flags that the hardware does not set were harvested", first);
            return;
        }
        if (!done) {
            refused_change(done.error(), in_use, first, size, [](auto&) { return change{}; });
            return;
        }
        check(predict(first, size) == pt::errc::none, "a harvest that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            ++count.harvest;
            check((words[words.size() / 2] & kept) == kept, "a harvest cleared bits", first);
            flags& known = flag == page_flag::dirty ? dirty_ : accessed_;
            compare_harvest(words, words.size() / 2, kept, known, first, size);
            rearm(*done, known, first, size);
        }
        owe(*std::move(done));
    }

    /// An access by hardware, from what it cached if it can.
    void touch(std::uint64_t input, access_kind kind) {
        if ((input >> Kit::input_width) != 0) {
            return;
        }
        if (const auto* const cached = cache_.find(input);
            cached != nullptr && permits(cached->translation, kind) &&
            (kind != access_kind::write || cached->translation.dirty || !Kit::sets_flags)) {
            // No flag is set now: one was when this was cached. Either a harvest will still say so,
            // or the tables changed and nobody has invalidated the page yet.
            ++count.remembered;
            if (Kit::sets_flags && !owes(input)) {
                check(accessed_.must.contains(input & ~std::uint64_t{4095}) ||
                          accessed_.may.contains(input),
                      "an access that no harvest will show", input);
                check(kind != access_kind::write || dirty_.may.contains(input),
                      "a write that no harvest will show", input);
                used(input, kind, 4096);
            }
            return;
        }
        const outcome found = use(kit_.hardware(), reader(), root(), input, kind);
        if (permits(found, kind)) {
            cache_.insert(input, found);
            used(input, kind, found.page);
        }
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
        check(owed_.redeem(cache_).has_value() && owed_.empty(), "a redeemed batch still owes", 0);
        for (const auto& cached : cache_.entries()) {
            outcome last = cached.translation;
            if (last.what == outcome::kind::translated) {
                last.output += cached.size - 1;
            }
            check(walk(cached.page) == cached.translation &&
                      walk(cached.page + cached.size - 1) == last,
                  "a stale translation is still cached", cached.page);
        }
        for (const auto& cached : cache_.pointers()) {
            path used;
            (void)kit_.hardware().walk(reader(), root(), cached.first, &used);
            // The entry for this size of reach, if the walk comes so far.
            const unsigned i = depth_of(cached.size);
            check(i < used.count && (used.entry[i] & frame_bits) == cached.table,
                  "a pointer to a table that is gone is still cached", cached.first);
        }
    }

    /// Hardware, engine and oracle agree about `input`.
    void check_address(std::uint64_t input) {
        if ((input >> Kit::input_width) != 0) {
            return;
        }
        std::uint64_t output = 0;
        const auto* const run = truth_.find(input, output);
        const outcome expected =
            run != nullptr ? Kit::expected(run->attributes, output) : outcome{};
        path used;
        const outcome found = kit_.hardware().walk(reader(), root(), input, &used);
        check(found == expected, "hardware walks to something else", input);
        check(run == nullptr || found.page == run->page, "a page of another size", input);
        const outcome said = translated<Kit>(tables_, input);
        check(said == expected && said.page == found.page, "translate() says something else",
              input);
        cache_.insert(input, used, Kit::levels);
        if (found.what != outcome::kind::translated) {
            if (Kit::caches_not_mapped) {
                cache_.insert(input, found);
            }
        } else if (!Kit::sets_flags) {
            cache_.insert(input, found); // else only an access caches: it sets a flag
        }
    }

    /// leaves() of a range, beside what the oracle has there.
    void check_leaves(std::uint64_t first, std::uint64_t size) {
        if (size == 0 || ((first + (size - 1)) >> Kit::input_width) != 0 || first + size < first) {
            return;
        }
        compare_leaves(tables_.leaves({address{first}, size}), first, first + (size - 1));
    }

    /// Reads all tables: nothing is empty, hidden, miscounted, lost or mapped in excess.
    void audit() {
        redeem();
        const structure found = explore<Kit>(memory_, root());
        check(found.empty_tables == 0, "an empty table was kept", 0);
        check(found.wrong_counts == 0, "a live count is wrong", 0);
        check(found.hidden == 0, "an entry is neither present nor empty", 0);
        check(found.page_bits == 0, "bit 7 in a page of 4 KiB", 0);
        check(found.mapped == truth_.bytes(), "more or less is mapped than should be", 0);
        check(found.tables == memory_.in_use(), "frames are in use but in no tree", 0);
        check(found.tables == truth_.tables(Kit::levels) + 1, "more or fewer tables than needed",
              0);
        compare_leaves(tables_.leaves(), 0, ~std::uint64_t{0});
    }

    /// Everything goes, and a new tree begins.
    void retire() {
        owe(tables_.retire());
        truth_.clear();
        tables_known_ = 0;
        for (flags* known : {&accessed_, &dirty_}) {
            known->must.clear();
            known->may.clear();
        }
        redeem_all_but_root();
    }

    void finish() {
        owe(tables_.retire());
        cache_.failures = 0;
        check(owed_.redeem(cache_).has_value(), "the last redemption failed", 0);
        check(memory_.in_use() == 0, "frames did not come home", 0);
    }

private:
    static constexpr std::uint64_t nowhere = oracle<attributes>::none;
    static constexpr std::uint64_t frame_bits = 0x000F'FFFF'FFFF'F000;

    void check(bool holds, const char* otherwise, std::uint64_t at) {
        if (!holds && complaint == nullptr) {
            complaint = otherwise;
            where = at;
        }
    }
    static pt::result<pt::range<address>> range_of(std::uint64_t first, std::uint64_t size) {
        return pt::range<address>::checked(address{first}, size);
    }
    static const attributes& chosen(std::size_t choice) {
        return Kit::choices[choice % std::size(Kit::choices)];
    }
    [[nodiscard]] std::uint64_t page_for(const attributes& a, page_size largest) const {
        const std::uint64_t wanted = pt::paging::bytes(largest);
        const std::uint64_t possible = kit_.largest_page(a);
        return wanted < possible ? wanted : possible;
    }
    static bool beyond_input(std::uint64_t first, std::uint64_t size) {
        return ((first + (size - 1)) >> Kit::input_width) != 0;
    }
    static pt::errc predict(std::uint64_t first, std::uint64_t size) {
        if (first % 4096 != 0 || size % 4096 != 0) {
            return pt::errc::misaligned;
        }
        return size != 0 && beyond_input(first, size) ? pt::errc::out_of_range : pt::errc::none;
    }
    static pt::errc predict(std::uint64_t first, std::uint64_t size, std::uint64_t output) {
        if (first % 4096 != 0 || size % 4096 != 0 || output % 4096 != 0) {
            return pt::errc::misaligned;
        }
        if (size != 0 && beyond_input(first, size)) {
            return pt::errc::out_of_range;
        }
        const std::uint64_t last = size == 0 ? 0 : size - 1;
        if ((output >> Kit::output_width) != 0 || last >> Kit::output_width != 0 ||
            ((output + last) >> Kit::output_width) != 0) {
            return pt::errc::out_of_range;
        }
        const auto interrupts = [](std::uint64_t at, std::uint64_t bytes) {
            return std::is_same_v<address, pt::iova> && bytes != 0 && at <= 0xFEEF'FFFF &&
                   at + (bytes - 1) >= 0xFEE0'0000;
        };
        return interrupts(first, size) || interrupts(output, size) ? pt::errc::reserved_address
                                                                   : pt::errc::none;
    }
    std::uint64_t taken_in(pt::errc predicted, std::uint64_t first, std::uint64_t size) const {
        return predicted == pt::errc::none && size != 0 ? truth_.first_mapped(first, size)
                                                        : nowhere;
    }
    /// The first address in the range that lies in a larger page than that; `nowhere` if none does.
    std::uint64_t larger_page(std::uint64_t first, std::uint64_t size, std::uint64_t page) const {
        for (auto at = truth_.from(first);
             at != truth_.all().end() && at->first <= first + (size - 1); ++at) {
            if (at->second.page > page) {
                return at->first > first ? at->first : first;
            }
        }
        return nowhere;
    }
    void refused(pt::error why, pt::errc predicted, std::size_t in_use, std::uint64_t first,
                 std::uint64_t needed) {
        got = complaint == nullptr ? why : got;
        check(memory_.in_use() == in_use, "a failed operation keeps frames", first);
        if (predicted != pt::errc::none) {
            ++count.refused;
            check(why.code == predicted, "not the error that was predicted", first);
        } else {
            ++count.shortage;
            check(why.code == pt::errc::out_of_frames, "an error that was not predicted", first);
            check(memory_.free_frames() < needed, "out of frames while there are enough", first);
        }
    }
    template <class Tell>
    void refused_map(pt::error why, pt::errc predicted, std::uint64_t taken, std::size_t in_use,
                     std::uint64_t first, Tell&& tell) {
        if (why.code == pt::errc::already_mapped) {
            ++count.refused;
            check(memory_.in_use() == in_use, "a failed map keeps frames", first);
            check(predicted == pt::errc::none && taken != nowhere && why.where == taken,
                  "the error is not the first address that is mapped", first);
            return;
        }
        if (predicted != pt::errc::none || taken != nowhere) {
            refused(why, predicted, in_use, first, ~std::uint64_t{0});
            return;
        }
        oracle<attributes> after = truth_;
        tell(after);
        refused(why, predicted, in_use, first,
                after.tables(Kit::levels) - tables_known_ + (rooted_ ? 0 : 1));
    }
    template <class Tell>
    void refused_change(pt::error why, std::size_t in_use, std::uint64_t first, std::uint64_t size,
                        Tell&& tell) {
        oracle<attributes> after = truth_;
        const pt::errc predicted = predict(first, size);
        const std::size_t needed =
            predicted == pt::errc::none && size != 0 ? tell(after).splits : 0;
        refused(why, predicted, in_use, first, needed);
    }

    /// Tells the oracle of a map, and compares the frames that it took.
    template <class Tell>
    void change_truth(std::size_t in_use, std::uint64_t first, Tell&& tell) {
        (void)tell(truth_);
        const std::size_t tables = truth_.tables(Kit::levels);
        check(memory_.in_use() - in_use == tables - tables_known_ + (rooted_ ? 0 : 1),
              "a map took more or fewer frames than it needs", first);
        tables_known_ = tables;
        rooted_ = true;
    }
    /// After a map of what was free.
    void mapped(const ticket& done, std::uint64_t first, std::uint64_t size) {
        if (Kit::caches_not_mapped) {
            change all;
            all.add(first, first + (size - 1));
            check_ticket(done, all, first, size);
        } else {
            check(done.empty(), "a map owes a flush where absence is not cached", first);
        }
        for (const std::uint64_t probe :
             {first, first + size - 1, first + size / 2 / 4096 * 4096}) {
            check_address(probe);
        }
    }
    template <class Done, class F>
    void protected_by(Done& done, std::size_t in_use, std::uint64_t first, std::uint64_t size,
                      F&& change_to, std::size_t& counter) {
        const auto tell = [&](auto& truth) { return truth.protect(first, size, change_to); };
        if (!done) {
            refused_change(done.error(), in_use, first, size, tell);
            return;
        }
        check(predict(first, size) == pt::errc::none, "a protect that had to fail did not", first);
        if (complaint == nullptr && size != 0) {
            const change what = tell(truth_);
            tables_known_ = truth_.tables(Kit::levels);
            check(memory_.in_use() == in_use + what.splits, "a protect took more or fewer frames",
                  first);
            check_ticket(*done, what, first, size);
            counter += what.empty() ? 0 : 1;
            check_pages(first, size);
        }
        owe(*std::move(done));
    }
    void check_pages(std::uint64_t first, std::uint64_t size) {
        for (const std::uint64_t probe :
             {first - 1, first, first + size / 2, first + size - 1, first + size}) {
            check_address(probe);
        }
    }

    /// What is stale: all that changed, and nothing else than the range and pages that were split.
    void check_ticket(const ticket& done, const change& what, std::uint64_t first,
                      std::uint64_t size) {
        check(done.empty() == what.empty(), "a ticket that owes nothing, or too much", first);
        if (what.empty() || done.empty() || done.everything()) {
            check(!done.everything(), "a ticket owes everything", first);
            return;
        }
        const std::uint64_t low = done.stale().first().raw;
        const std::uint64_t high = done.stale().last().raw;
        check(low <= what.first && what.last <= high, "a page that changed is not stale", first);
        const std::uint64_t lowest = what.first < first ? what.first : first;
        const std::uint64_t highest =
            what.last > first + (size - 1) ? what.last : first + (size - 1);
        check(lowest <= low && high <= highest, "a page outside of the range is stale", first);
    }
    void owe(ticket&& more) {
        const bool nothing = more.empty();
        const pt::range<address> stale = more.stale();
        const auto before = owed_ranges();
        if (const auto added = owed_.add(more); !added) {
            ++count.full;
            check(added.error() == pt::error{pt::errc::busy, stale.first().raw} && !nothing,
                  "a batch refuses for no reason", stale.first().raw);
            check(owed_ranges() == before && !more.empty() && more.stale() == stale,
                  "a full batch or its ticket changed", stale.first().raw);
            check(owed_.redeem(cache_).has_value(), "a full batch is not redeemed", 0);
            check(owed_.add(more).has_value(), "an empty batch is full", 0);
        }
        check(more.empty(), "a ticket in a batch still owes", 0);
        check(nothing || owed_.stale().everything() || stale.empty() ||
                  (owes(stale.first().raw) && owes(stale.last().raw)),
              "a batch lost a range", 0);
    }
    std::vector<pt::range<address>> owed_ranges() const {
        const auto stale = owed_.stale();
        return {stale.begin(), stale.end()};
    }
    [[nodiscard]] bool owes(std::uint64_t input) const {
        const auto stale = owed_.stale();
        bool found = stale.everything();
        for (const pt::range<address>& part : stale) {
            found = found || part.contains(address{input});
        }
        return found;
    }

    void used(std::uint64_t input, access_kind kind, std::uint64_t page) {
        for (flags* known : {&accessed_, kind == access_kind::write ? &dirty_ : nullptr}) {
            if (known != nullptr && Kit::sets_flags) {
                known->must.add(input & ~std::uint64_t{4095}, 4096);
                known->may.add(input & ~(page - 1), page);
            }
        }
    }
    void forget_flags(std::uint64_t first, std::uint64_t size) {
        accessed_.clear(first, size);
        dirty_.clear(first, size);
    }
    /// A joined page counts as accessed; as dirty if a part of it is, or if it may be written.
    void joined_flags(const change& what) {
        if (!Kit::sets_flags) {
            return;
        }
        for (const auto& [page, size] : what.joined) {
            std::uint64_t output = 0;
            const attributes a = truth_.find(page, output)->attributes;
            accessed_.may.add(page, size);
            if (!(Kit::write_protected(a) == a) || dirty_.may.touches(page, size)) {
                dirty_.may.add(page, size);
            }
        }
    }
    void compare_harvest(const std::vector<std::uint64_t>& words, std::size_t kept_word,
                         std::uint64_t kept, const flags& known, std::uint64_t first,
                         std::uint64_t size) {
        const auto bitmap = [&](const interval_set& pages) {
            std::vector<std::uint64_t> made(words.size());
            pages.each(first, size, [&](std::uint64_t low, std::uint64_t end) {
                for (std::uint64_t page = (low - first) / 4096; page < (end - first) / 4096;
                     ++page) {
                    made[static_cast<std::size_t>(page / 64)] |= std::uint64_t{1} << page % 64;
                }
            });
            return made;
        };
        const auto must = bitmap(known.must);
        const auto may = bitmap(known.may);
        for (std::size_t i = 0; i < words.size(); ++i) {
            check((must[i] & ~words[i]) == 0, "a page that was used is not in the harvest",
                  first + i * 64 * 4096);
            check((words[i] & ~(may[i] | (i == kept_word ? kept : 0))) == 0,
                  "a page that was not used is in the harvest", first + i * 64 * 4096);
            count.harvested += words[i] != 0 ? 1 : 0;
        }
    }
    /// What a harvest took away is stale; a large page that is only partly in the range keeps its
    /// flag.
    void rearm(const ticket& done, flags& known, std::uint64_t first, std::uint64_t size) {
        std::uint64_t low = first;
        std::uint64_t last = first + (size - 1);
        std::uint64_t output = 0;
        std::uint64_t page = 0;
        if (truth_.find(first, output) != nullptr) {
            const std::uint64_t begin = truth_.page_at(first, page);
            low = begin < first ? begin + page : low;
        }
        if (truth_.find(last, output) != nullptr) {
            const std::uint64_t begin = truth_.page_at(last, page);
            last = begin + (page - 1) > last ? begin - 1 : last;
        }
        if (low > last) { // all of it inside one large page
            check(done.empty(), "flags outside of the range were cleared", first);
            return;
        }
        change certain;
        known.must.each(low, last - low + 1,
                        [&](std::uint64_t from, std::uint64_t end) { certain.add(from, end - 1); });
        if (!certain.empty()) {
            check_ticket(done, certain, first, size);
        } else if (!done.empty()) {
            check(!done.everything() && done.stale().first().raw >= low &&
                      done.stale().last().raw <= last,
                  "a harvest owes pages outside of its range", first);
        }
        known.clear(low, last - low + 1);
    }

    template <class Leaves>
    void compare_leaves(Leaves&& leaves, std::uint64_t first, std::uint64_t last) {
        auto run = truth_.from(first);
        std::uint64_t at = 0; // the next page of the run
        const auto begin_run = [&] {
            at = run == truth_.all().end() ? 0
                 : first > run->first      ? first & ~(run->second.page - 1)
                                           : run->first;
        };
        begin_run();
        for (const auto& leaf : leaves) {
            const std::uint64_t input = leaf.input.first().raw;
            if (run == truth_.all().end() || at > last) {
                check(false, "leaves() has more than there is", input);
                return;
            }
            const auto& what = run->second;
            check(input == at && leaf.input.size() == what.page &&
                      pt::paging::bytes(leaf.to.size) == what.page &&
                      leaf.to.output.raw == what.output + (at - run->first) &&
                      leaf.to.attributes == what.attributes,
                  "leaves() has another leaf", input);
            at += what.page;
            if (at == run->first + what.size) {
                ++run;
                begin_run();
            }
        }
        check(run == truth_.all().end() || at > last, "leaves() leaves something out", at);
    }

    [[nodiscard]] auto reader() const {
        return [this](std::uint64_t frame, unsigned i) { return memory_.read(frame, i); };
    }
    /// The root, allocated now if there is none; with no frame left, a place that no walk can read.
    std::uint64_t root() {
        const auto top = tables_.root();
        rooted_ = rooted_ || top.has_value();
        return top ? top->raw : ~std::uint64_t{0};
    }
    void redeem_all_but_root() {
        check(owed_.redeem(cache_).has_value() && memory_.in_use() == 0,
              "a retired tree did not come home", 0);
        rooted_ = false;
        (void)root();
    }
    outcome walk(std::uint64_t input) { return kit_.hardware().walk(reader(), root(), input); }
    /// Which entry of a path points to a table that reaches `size` bytes.
    static unsigned depth_of(std::uint64_t size) {
        unsigned i = 0;
        while (size_at(Kit::levels - i) != size) {
            ++i;
        }
        return i;
    }

    Kit kit_;
    Stand memory_;
    table tables_;
    decltype(std::declval<table&>().batch()) owed_;
    oracle<attributes> truth_;
    std::size_t tables_known_ = 0; ///< that the oracle's pages need, without the root
    bool rooted_ = false;
    flags accessed_;
    flags dirty_;
    cache<address> cache_{64};
};

} // namespace paging_model
