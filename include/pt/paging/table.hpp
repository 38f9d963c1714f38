// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/changed_lines.hpp"
#include "pt/paging/entry_access.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/flush_ticket.hpp"
#include "pt/paging/leaf_range.hpp"
#include "pt/paging/map_job.hpp"
#include "pt/paging/page_bitmap.hpp"
#include "pt/paging/spare_frames.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace pt::paging {

/// The flags that hardware sets in a leaf when the page is used.
enum class page_flag : std::uint8_t { accessed, dirty };

/// How a map holds the mutex: together with other maps, where that is possible.
template <mutex M>
struct map_lock {
    using type = scoped_lock<M>;
};
template <shared_mutex M>
struct map_lock<M> {
    using type = scoped_shared_lock<M>;
};

/// The translation tables of one guest or one domain, in the given format.
///
/// Every operation does all of what it is asked or, with an error, nothing; and at each moment in
/// between, hardware that walks the tables finds for each address the old or the new translation.
/// Frames come from `memory` as they are needed, the root with the first mapping; retire() gives
/// them all up again, and must be called (and its ticket redeemed) before the table goes away.
///
/// Errors that all operations on a range share: errc::misaligned unless first address and size are
/// multiples of 4 KiB; errc::out_of_range beyond the input width. An empty range is no error.
///
/// One writer at a time, which the mutex policy may ensure. Hardware, translate() and leaves() walk
/// at any time: whoever invalidates for a ticket waits until they are out of retired tables. With a
/// shared_mutex several processors may map at the same time; all else has the tables for itself.
template <entry_format Format, table_memory Memory,
          publication Publication = typename Format::default_publication, mutex Mutex = no_mutex>
class table {
public:
    using address = typename Format::address;
    using attributes = typename Format::attributes;
    using ticket = flush_ticket<Format, Memory>;
    class cursor_type;

    explicit constexpr table(Memory memory, Format format, Publication publisher = {},
                             Mutex guard = {})
        : memory_{memory},
          format_{format},
          publisher_{publisher},
          mutex_{guard},
          not_in_input_{~std::uint64_t{0} << format.input_width() | (4 * KiB - 1)},
          not_in_page_{not_in_input_ | ~std::uint64_t{0} << format.output_width()} {}
    table(const table&) = delete; // the frames have one owner
    table& operator=(const table&) = delete;
    constexpr ~table() { expects(!has_root(), "a table went away before retire()"); }

    [[nodiscard]] constexpr const Format& format() const { return format_; }

    /// An empty batch for tickets of this table.
    template <std::size_t Capacity = 8>
    [[nodiscard]] constexpr flush_batch<Format, Memory, Capacity> batch() const {
        return flush_batch<Format, Memory, Capacity>{memory_};
    }

    /// The root table, for EPTP or a context entry; allocated now if nothing was mapped yet.
    /// errc::out_of_frames.
    constexpr result<hpa> root() {
        const typename map_lock<Mutex>::type held{mutex_};
        return ensure_root();
    }

    /// Maps `input` to the host memory that starts at `output`, with the largest pages that both
    /// addresses, the hardware, the attributes and `largest` allow. Nothing may be mapped in `input`.
    ///
    /// errc::misaligned and errc::out_of_range for `output` too; errc::reserved_address or
    /// errc::not_supported where the format forbids the address or the attributes;
    /// errc::already_mapped with the first such input address; errc::out_of_frames.
    /// The ticket is empty unless the hardware caches that nothing is mapped, or holds new entries
    /// back in a write buffer (stale_when_mapped).
    [[gnu::always_inline]] constexpr result<ticket> map(range<address> input, hpa output,
                                                        const attributes& a,
                                                        page_size largest = page_size::size_1g) {
        const typename map_lock<Mutex>::type held{mutex_};
        // Inlined, because attributes are constants nearly always, and then so is all of this.
        const result<void> allowed = format_.check(a);
        const std::uint64_t page = format_.leaf(hpa{0}, a, 1);
        if (input.size() == 4 * KiB && allowed && map_page(input.first(), output, page))
            [[likely]] {
            return owed_for_map(input);
        }
        result<ticket> done = map_range(input, output, allowed, page, largest_level(a, largest));
        return handed_on(done);
    }

    /// Maps `input` to pages of `size` that lie anywhere: pages[i] is the i-th. As map(), and
    /// errc::misaligned unless `input` consists of whole pages of that size; an error of a page has
    /// the page's hpa.
    template <page_list Pages>
    constexpr result<ticket> map_pages(range<address> input, const Pages& pages,
                                       const attributes& a, page_size size = page_size::size_4k) {
        const typename map_lock<Mutex>::type held{mutex_};
        const scattered_pages<Pages> where{&pages, input.first().raw, static_cast<unsigned>(size)};
        if (const result<void> valid = check_pages(input, where, a); !valid) {
            return valid.error();
        }
        const std::uint64_t page = format_.leaf(hpa{0}, a, 1);
        return insert(input,
                      map_job<scattered_pages<Pages>>{where, leaves_like(page, where.level)});
    }

    /// As map(), but whatever `input` held is replaced, entry by entry: at each moment an address
    /// leads to its old place or to its new one. Accessed and dirty flags of what was there are gone.
    ///
    /// As map(), without errc::already_mapped. Stale is what was mapped before.
    constexpr result<ticket> remap(range<address> input, hpa output, const attributes& a,
                                   page_size largest = page_size::size_1g) {
        const scoped_lock held{mutex_};
        if (const result<void> valid = check(input, output, format_.check(a)); !valid) {
            return valid.error();
        }
        if (input.empty()) {
            return ticket{memory_};
        }
        const bool had_root = has_root();
        const result<hpa> top = had_root ? ensure_root() : new_root();
        if (!top) {
            return top.error();
        }
        const map_job<contiguous_pages> work =
            contiguous_job(input, output, format_.leaf(hpa{0}, a, 1), largest_level(a, largest));
        const std::uint64_t first = input.first().raw;
        const std::uint64_t last = input.last().raw;
        std::uint64_t* const entries = memory_.entries(*top);
        spare kept{memory_};
        if (const result<void> enough =
                reserve_to_replace(entries, format_.levels(), first, last, work, kept);
            !enough) {
            if (!had_root) {
                memory_.release(*top); // nobody has seen it
            }
            return enough.error();
        }
        if (!had_root) {
            show_root(*top);
        }
        ticket owed = owed_for_map(input);
        replace(entries, format_.levels(), first, last, work, kept, owed);
        publisher_.complete();
        return owed;
    }

    /// Removes whatever is mapped in `input`; pages that it cuts through are split first, and tables
    /// that become empty are retired. That nothing is mapped somewhere is no error. Stale is what was
    /// mapped, from the first such page to the last, where a table that goes as a whole counts as
    /// mapped, and all of a page that was split.
    ///
    /// errc::out_of_frames when a page had to be split and the at most four tables for that could
    /// not be had.
    [[gnu::always_inline]] constexpr result<ticket> unmap(range<address> input) {
        const scoped_lock held{mutex_};
        if (input.size() == 4 * KiB && unmap_page(input.first())) [[likely]] {
            ticket owed{memory_};
            owed.add(input.first().raw, input.last().raw);
            return owed;
        }
        result<ticket> done = unmap_range(input);
        return handed_on(done);
    }

    /// Gives what is mapped in `input` other attributes; pages that it cuts through are split first.
    /// Stale is what changed.
    ///
    /// errc::not_supported where the format forbids the attributes, or takes them in smaller pages
    /// only than there are (split() first); errc::out_of_frames as for unmap().
    constexpr result<ticket> protect(range<address> input, const attributes& a) {
        const scoped_lock held{mutex_};
        if (const result<void> allowed = format_.check(a); !allowed) {
            return allowed.error();
        }
        const unsigned largest = largest_level(a, page_size::size_1g);
        const leaf_bits bits = leaves_like(format_.leaf(hpa{0}, a, 1), largest);
        return change(input, largest, [&bits](std::uint64_t entry, unsigned level) {
            return bits.at[level] | frame_of<Format>(entry, level).raw |
                   (entry & (Format::accessed_mask | Format::dirty_mask));
        });
    }

    /// Takes the right to write away from what is mapped in `input`, and nothing else: how dirty pages
    /// are found without flags. (split() first, where large pages are too coarse.) Stale and errors as
    /// for protect().
    constexpr result<ticket> write_protect(range<address> input) requires Format::write_needs_read {
        const scoped_lock held{mutex_};
        return change(input, 3, [this](std::uint64_t entry, unsigned) {
            return format_.write_protected(entry);
        });
    }

    /// Replaces larger pages in `input` by pages of size `to` that say the same; of a page that
    /// `input` cuts through, what lies outside stays as large as can be. Stale are the pages that were
    /// split. errc::out_of_frames.
    constexpr result<ticket> split(range<address> input, page_size to = page_size::size_4k) {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (const result<void> valid = check(input); !valid) {
            return valid.error();
        }
        if (input.empty() || !has_root()) {
            return owed;
        }
        spare kept{memory_};
        std::uint64_t* const entries = memory_.entries(hpa{root_});
        const std::uint64_t first = input.first().raw;
        const std::uint64_t last = input.last().raw;
        const auto limit = static_cast<unsigned>(to);
        if (const result<void> enough =
                reserve_to_split(entries, format_.levels(), first, last, limit, kept);
            !enough) {
            return enough.error();
        }
        split(entries, format_.levels(), first, last, limit, kept, owed);
        publisher_.complete();
        return owed;
    }

    /// Replaces tables that lie wholly in `input` by one page each, where their leaves are the pieces
    /// of such a page, up to size `largest`; the tables are retired. Stale are the pages that were
    /// joined. Where the hardware sets flags, a joined page counts as accessed, and as dirty if a piece
    /// is or if it may be written: hardware may still set the flags of the pieces.
    constexpr result<ticket> join(range<address> input, page_size largest = page_size::size_1g) {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (const result<void> valid = check(input); !valid) {
            return valid.error();
        }
        if (!input.empty() && has_root()) {
            join(memory_.entries(hpa{root_}), format_.levels(), input.first().raw, input.last().raw,
                 static_cast<unsigned>(largest), owed);
            publisher_.complete();
        }
        return owed;
    }

    /// Reports the pages of `input` in which the hardware has set `flag`, and clears it, so that it
    /// will be set again: bit i of `pages` is set if the i-th 4-KiB page of `input` lies in such a
    /// page; no bit is cleared. A page that is only partly in `input` is reported and stays flagged.
    /// Hardware that has a page cached need not set the flag again until the ticket is redeemed.
    ///
    /// errc::not_supported where hardware sets no flags; errc::out_of_range for a bitmap that is too
    /// small.
    constexpr result<ticket> harvest(range<address> input, page_flag flag, page_bitmap pages) {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (const result<void> valid = check(input); !valid) {
            return valid.error();
        }
        if (!format_.sets_flags()) {
            return error{errc::not_supported, input.first().raw};
        }
        if (pages.pages < input.size() / (4 * KiB)) {
            return error{errc::out_of_range, input.size()};
        }
        if (!input.empty() && has_root()) {
            const std::uint64_t mask =
                flag == page_flag::dirty ? Format::dirty_mask : Format::accessed_mask;
            harvest(memory_.entries(hpa{root_}), format_.levels(), input.first().raw,
                    input.last().raw, {pages, input.first().raw, mask}, owed);
            publisher_.complete();
        }
        return owed;
    }

    /// Where `input` leads. errc::not_mapped, errc::out_of_range. Takes no lock.
    [[gnu::always_inline]] [[nodiscard]] constexpr result<translation<Format>>
    translate(address input) const { // inline: what the caller does not look at is not computed
        if ((input.raw & not_in_input_ & ~(4 * KiB - 1)) != 0) [[unlikely]] {
            return error{errc::out_of_range, input.raw};
        }
        const std::uint64_t* const top = four_levels();
        return top != nullptr ? follow(top, 4, input) : translate_from_root(input);
    }

    /// All leaves, in ascending order. Takes no lock; the tables must not change meanwhile.
    [[nodiscard]] constexpr leaf_range<Format, Memory> leaves() const {
        return leaves_between(0, (std::uint64_t{1} << format_.input_width()) - 1);
    }
    /// The leaves that touch `input`.
    [[nodiscard]] constexpr leaf_range<Format, Memory> leaves(range<address> input) const {
        return input.empty() ? leaf_range<Format, Memory>{memory_, format_}
                             : leaves_between(input.first().raw, input.last().raw);
    }

    /// For many single pages in ascending order; see cursor_type.
    [[nodiscard]] constexpr cursor_type cursor() { return cursor_type{*this}; }

    /// Gives up all tables, the root included. The hardware must not use the root any more; what
    /// it still has cached is the ticket's affair.
    constexpr ticket retire() {
        const scoped_lock held{mutex_};
        ticket owed{memory_};
        if (has_root()) {
            owed.add(0, ~std::uint64_t{0});
            owed.retire({forget_root(), format_.levels()});
        }
        return owed;
    }

    /// Hands the tree to the caller, frames and all, and forgets it: for tables that are made at
    /// compile time, or that another program goes on with. errc::absent if there is no root.
    constexpr result<hpa> detach() {
        const scoped_lock held{mutex_};
        if (!has_root()) {
            return error{errc::absent};
        }
        return forget_root();
    }

private:
    using spare = spare_frames<Memory>;

    /// Whether several processors may map at the same time.
    static constexpr bool concurrent = shared_mutex<Mutex>;

    static constexpr std::uint64_t no_root = ~std::uint64_t{0};

    // An entry that is neither present nor empty belongs to a map that is under way. Hardware ignores
    // all of it but what `empty` has set.
    //
    // whole:   points to a subtree that is complete, and that the map will show or take away
    // open:    points to a table that several processors fill; its count holds it while they do
    // claimed: will become a leaf
    static constexpr std::uint64_t whole_mark = std::uint64_t{1} << 9;
    static constexpr std::uint64_t open_mark = std::uint64_t{1} << 11;
    static constexpr std::uint64_t claimed = Format::empty | Format::page_bit;
    static_assert(((Format::present_mask | Format::page_bit | Format::empty) &
                   (whole_mark | open_mark | frame_mask | live_count_mask)) == 0 &&
                      (Format::empty & (Format::present_mask | Format::page_bit)) == 0,
                  "the format has a meaning for bits that the engine uses");

    // ------------------------------------------------------------------------------------ entries

    /// The last of the addresses `first` to `last` under the entry at `level` that translates `first`.
    static constexpr std::uint64_t end_under(std::uint64_t first, std::uint64_t last,
                                             unsigned level) {
        const std::uint64_t end = first | (level_size(level) - 1);
        return end < last ? end : last;
    }
    static constexpr bool covers(std::uint64_t first, std::uint64_t last, unsigned level) {
        return last - first == level_size(level) - 1;
    }

    static constexpr unsigned live_count(std::uint64_t entry) {
        return static_cast<unsigned>((entry & live_count_mask) >> live_count_shift);
    }
    static constexpr std::uint64_t live(std::uint64_t count) { return count << live_count_shift; }
    /// The table that an entry points to, hidden or not.
    constexpr std::uint64_t* child(std::uint64_t entry) {
        return memory_.entries(hpa{entry & frame_mask});
    }
    /// The entry that shows hardware the table of a whole or open one.
    constexpr std::uint64_t shown(std::uint64_t hidden) const {
        return format_.table(hpa{hidden & frame_mask}) | (hidden & live_count_mask);
    }
    static constexpr std::uint64_t hidden(hpa frame, std::uint64_t mark, std::uint64_t count) {
        return Format::empty | frame.raw | mark | live(count);
    }

    // --------------------------------------------------------------------------------------- root

    [[nodiscard]] constexpr bool has_root() const { return load_entry(&root_) != no_root; }

    /// A root table that nobody can see yet.
    constexpr result<hpa> new_root() {
        const result<hpa> frame = memory_.allocate(frame_contents::any);
        if (frame) {
            std::uint64_t* const entries = memory_.entries(*frame);
            fill_entries(entries, entries_per_table, Format::empty, 0);
            publisher_.publish(entries, entries_per_table);
            publisher_.complete();
        }
        return frame;
    }
    /// Makes a new root the root; or gives it back, where another processor was faster. The root.
    constexpr hpa show_root(hpa made) {
        std::uint64_t found = no_root;
        if (!replace_entry(&root_, found, made.raw)) {
            memory_.release(made);
            return hpa{found};
        }
        if (format_.levels() == 4) {
            set_four_levels(memory_.entries(made));
        }
        return made;
    }
    constexpr result<hpa> ensure_root() {
        if (const std::uint64_t top = load_entry(&root_); top != no_root) {
            return hpa{top};
        }
        const result<hpa> made = new_root();
        return made ? result<hpa>{show_root(*made)} : made;
    }
    constexpr hpa forget_root() {
        const hpa root{load_entry(&root_)};
        set_four_levels(nullptr);
        store_entry(&root_, no_root);
        return root;
    }
    /// The root table where the tree has four levels, as nearly all trees do; null elsewhere, and
    /// until there is a root.
    [[nodiscard]] constexpr std::uint64_t* four_levels() const {
        if (std::is_constant_evaluated()) {
            return four_levels_;
        }
        return __atomic_load_n(&four_levels_, __ATOMIC_ACQUIRE);
    }
    constexpr void set_four_levels(std::uint64_t* entries) {
        if (std::is_constant_evaluated()) {
            four_levels_ = entries;
        } else {
            __atomic_store_n(&four_levels_, entries, __ATOMIC_RELEASE);
        }
    }

    // ------------------------------------------------------------------------------------- checks

    constexpr result<void> check(range<address> input) const {
        if (!input.first().is_aligned(4 * KiB) || input.size() % (4 * KiB) != 0) {
            return error{errc::misaligned, input.first().raw};
        }
        if (!fits_input(input)) {
            return error{errc::out_of_range, input.first().raw};
        }
        return {};
    }
    constexpr bool fits_input(range<address> input) const {
        return input.empty() || (input.last().raw >> format_.input_width()) == 0;
    }
    constexpr bool fits_output(hpa first, std::uint64_t size) const {
        const unsigned width = format_.output_width();
        const std::uint64_t reach = size == 0 ? 0 : size - 1;
        return (first.raw >> width) == 0 && (reach >> width) == 0 &&
               ((first.raw + reach) >> width) == 0;
    }
    constexpr result<void> check(range<address> input, hpa output, result<void> allowed) const {
        if (!input.first().is_aligned(4 * KiB) || input.size() % (4 * KiB) != 0) {
            return error{errc::misaligned, input.first().raw};
        }
        if (!output.is_aligned(4 * KiB)) {
            return error{errc::misaligned, output.raw};
        }
        if (!fits_input(input)) {
            return error{errc::out_of_range, input.first().raw};
        }
        if (!fits_output(output, input.size())) {
            return error{errc::out_of_range, output.raw};
        }
        if (const result<void> fit = format_.check(input, output); !fit) {
            return fit;
        }
        return allowed;
    }
    [[gnu::always_inline]] constexpr unsigned largest_level(const attributes& a,
                                                            page_size largest) const {
        const page_size possible = format_.largest_page(a);
        return static_cast<unsigned>(largest < possible ? largest : possible);
    }

    // ---------------------------------------------------------------------------------- translate

    [[gnu::always_inline]] constexpr result<translation<Format>>
    follow(const std::uint64_t* entries, unsigned levels, address input) const {
        Memory memory = memory_;
        std::uint64_t entry = 0;
#pragma GCC unroll 4
        for (unsigned level = levels; level != 0; --level) {
            entry = load_entry(&entries[level_index(input.raw, level)]);
            if (!is_present<Format>(entry)) [[unlikely]] {
                break;
            }
            if (level <= 3 && is_leaf<Format>(entry, level)) {
                return translation<Format>{
                    frame_of<Format>(entry, level) + input.offset_in(level_size(level)),
                    static_cast<page_size>(level), format_.attributes_of(entry, level)};
            }
            entries = memory.entries(hpa{entry & frame_mask});
        }
        return error{errc::not_mapped, input.raw};
    }
    [[gnu::noinline]] constexpr result<translation<Format>>
    translate_from_root(address input) const {
        const std::uint64_t top = load_entry(&root_);
        if (top == no_root) {
            return error{errc::not_mapped, input.raw};
        }
        Memory memory = memory_;
        return follow(memory.entries(hpa{top}), format_.levels(), input);
    }

    // ------------------------------------------------------------------------------ what is mapped

    template <class Pages>
    constexpr result<void> check_pages(range<address> input, const scattered_pages<Pages>& where,
                                       const attributes& a) const {
        if (const result<void> valid = check(input); !valid) {
            return valid;
        }
        const std::uint64_t size = level_size(where.level);
        if (!input.first().is_aligned(size) || input.size() % size != 0) {
            return error{errc::misaligned, input.first().raw};
        }
        if (const result<void> allowed = format_.check(a); !allowed) {
            return allowed;
        }
        if (where.level > static_cast<unsigned>(format_.largest_page(a))) {
            return error{errc::not_supported, input.first().raw};
        }
        for (std::uint64_t at = 0; at < input.size(); at += size) {
            const range<address> page{input.first() + at, size};
            const hpa output = where.page(page.first().raw);
            if (!output.is_aligned(size)) {
                return error{errc::misaligned, output.raw};
            }
            if (!fits_output(output, size)) {
                return error{errc::out_of_range, output.raw};
            }
            if (const result<void> allowed = format_.check(page, output); !allowed) {
                return allowed;
            }
        }
        return {};
    }

    constexpr leaf_bits leaves_like(std::uint64_t page, unsigned largest) const {
        leaf_bits bits{{0, page, 0, 0}};
        for (unsigned level = 2; level <= largest; ++level) {
            bits.at[level] = format_.join(bits.at[level - 1], level);
        }
        return bits;
    }

    constexpr map_job<contiguous_pages> contiguous_job(range<address> input, hpa output,
                                                       std::uint64_t page, unsigned largest) const {
        return {{output.raw - input.first().raw, largest}, leaves_like(page, largest)};
    }

    // ---------------------------------------------------------------------------------- new tables

    /// What a new table says where the operation says nothing: nothing, or the pieces of the page that
    /// it replaces. The i-th entry is entry + i * step.
    struct background {
        std::uint64_t entry = Format::empty;
        std::uint64_t step = 0;
    };
    constexpr background background_of(std::uint64_t leaf, unsigned level) const {
        return {format_.split(leaf, level), level_size(level - 1)};
    }

    static constexpr void fill_behind(std::uint64_t* slot, std::size_t count, background behind) {
        if (behind.step == 0) {
            fill_entries(slot, count, Format::empty, 0);
        } else {
            fill_entries(slot, count, behind.entry, behind.step);
        }
    }

    constexpr result<hpa> take(spare* kept) {
        return kept != nullptr ? result<hpa>{kept->take()} : memory_.allocate(frame_contents::any);
    }

    /// A new table of 512 leaves at `Level`: what most of a large map consists of.
    template <unsigned Level, class Job>
    [[gnu::always_inline]] constexpr result<hpa> build_full(std::uint64_t first, const Job& work,
                                                            spare* kept) {
        const result<hpa> frame = take(kept);
        if (frame) {
            std::uint64_t* const entries = memory_.entries(*frame);
            work.write(entries, entries_per_table, first, Level);
            publisher_.publish(entries, entries_per_table);
        }
        return frame;
    }

    /// A new table at `Level`, complete and published, that nobody can reach yet: leaves and further
    /// tables for `first` to `last`, the background around them. Each entry is written once. Without
    /// kept frames it may fail: errc::out_of_frames, and nothing is left of it.
    template <unsigned Level, class Job>
    constexpr result<hpa> build_at(std::uint64_t first, std::uint64_t last, const Job& work,
                                   background behind, spare* kept) {
        const result<hpa> frame = take(kept);
        if (!frame) {
            return frame;
        }
        std::uint64_t* const entries = memory_.entries(*frame);
        const unsigned from = level_index(first, Level);
        const unsigned to = level_index(last, Level);
        fill_behind(entries, from, behind);
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            const unsigned i = level_index(at, Level);
            if (const unsigned count = Level == 1 ? to - from + 1 : work.run(at, last, Level);
                count != 0) {
                work.write(&entries[i], count, at, Level);
                end = at + count * level_size(Level) - 1;
            } else if constexpr (Level > 1) {
                end = end_under(at, last, Level);
                const bool empty = behind.step == 0;
                const bool full = work.run(at, end, Level - 1) == entries_per_table;
                const result<hpa> below =
                    full
                        ? build_full<Level - 1>(at, work, kept)
                        : build_at<Level - 1>(
                              at, end, work,
                              empty ? behind : background_of(behind.entry + i * behind.step, Level),
                              kept);
                if (!below) {
                    discard(*frame, Level, from, i);
                    return below;
                }
                entries[i] = format_.table(*below) |
                             live(empty ? used_by(at, end, Level - 1) : entries_per_table);
            }
        }
        const unsigned rest = to + 1;
        fill_behind(entries + rest, entries_per_table - rest,
                    {behind.entry + rest * behind.step, behind.step});
        publisher_.publish(entries, entries_per_table);
        return frame;
    }
    template <class Job>
    constexpr result<hpa> build(unsigned level, std::uint64_t first, std::uint64_t last,
                                const Job& work, background behind = {}, spare* kept = nullptr) {
        switch (level) {
        case 1: return build_at<1>(first, last, work, behind, kept);
        case 2: return build_at<2>(first, last, work, behind, kept);
        case 3: return build_at<3>(first, last, work, behind, kept);
        default: return build_at<4>(first, last, work, behind, kept);
        }
    }
    /// How many entries of a table that build() makes are in use.
    static constexpr unsigned used_by(std::uint64_t first, std::uint64_t last, unsigned level) {
        return level_index(last, level) - level_index(first, level) + 1;
    }

    /// Gives back a table that nobody else saw, and the tables under its entries [from, to).
    constexpr void discard(hpa frame, unsigned level, std::size_t from, std::size_t to,
                           spare* kept = nullptr) {
        if (level > 1) {
            const std::uint64_t* const entries = memory_.entries(frame);
            for (std::size_t i = from; i < to; ++i) {
                if (is_table<Format>(entries[i], level)) {
                    discard(hpa{entries[i] & frame_mask}, level - 1, 0, entries_per_table, kept);
                }
            }
        }
        if (kept != nullptr) {
            kept->put(frame);
        } else {
            memory_.release(frame);
        }
    }

    // ---------------------------------------------------------------------------------------- map

    /// The result of a function that is not inlined, moved into one that is: so the compiler keeps the
    /// latter in registers.
    [[gnu::always_inline]] static constexpr result<ticket> handed_on(result<ticket>& done) {
        if (!done) {
            return done.error();
        }
        return *std::move(done);
    }

    [[gnu::always_inline]] constexpr ticket owed_for_map(range<address> input) const {
        ticket owed{memory_};
        if (format_.stale_when_mapped() && !input.empty()) {
            owed.add(input.first().raw, input.last().raw);
            owed.tables_changed_ = true; // that there was no table may be cached as well
        }
        return owed;
    }

    /// The level 1 table that translates an address, and the entry that points to it.
    struct page_table {
        bool exists = false;
        std::uint64_t* entries = nullptr;
        std::uint64_t* link = nullptr;
        std::uint64_t link_entry = 0;
    };
    // Single pages are what page faults and dirty logs are made of, so there every instruction counts:
    // while a leaf comes from memory, a processor works on as many calls as fit into its window.
    [[gnu::always_inline]] constexpr page_table find_page_table(std::uint64_t input) {
        const found_table level_2 = find_level_2(input);
        if (!level_2.exists) [[unlikely]] {
            return {};
        }
        std::uint64_t* const link = &level_2.entries[level_index(input, 2)];
        const std::uint64_t link_entry = load_link(link);
        if (!is_table<Format>(link_entry, 2)) [[unlikely]] {
            return {};
        }
        return {true, child(link_entry), link, link_entry};
    }
    /// An entry on the way to a page. One that another processor has just stored may not have reached a
    /// walker that does not snoop; a page below it is mapped only when it has.
    [[gnu::always_inline]] constexpr std::uint64_t load_link(std::uint64_t* slot) {
        const std::uint64_t entry = load_entry(slot);
        if constexpr (concurrent) {
            publisher_.publish(slot, 1);
        }
        return entry;
    }
    /// (A table may lie at pointer 0, so that a null pointer would not say it.)
    struct found_table {
        bool exists = false;
        std::uint64_t* entries = nullptr;
    };
    /// The level 2 table that translates an address.
    [[gnu::always_inline]] constexpr found_table find_level_2(std::uint64_t input) {
        std::uint64_t* const entries = four_levels();
        if (entries == nullptr) [[unlikely]] {
            return find_level_2_from_root(input);
        }
        const std::uint64_t top = load_link(&entries[level_index(input, 4)]);
        if (!is_present<Format>(top)) [[unlikely]] {
            return {};
        }
        const std::uint64_t entry = load_link(&child(top)[level_index(input, 3)]);
        if (!is_table<Format>(entry, 3)) [[unlikely]] {
            return {};
        }
        return {true, child(entry)};
    }
    /// The same where the tree has not four levels.
    [[gnu::noinline]] constexpr found_table find_level_2_from_root(std::uint64_t input) {
        const std::uint64_t top = load_entry(&root_);
        if (top == no_root) {
            return {};
        }
        std::uint64_t* entries = memory_.entries(hpa{top});
        for (unsigned level = format_.levels(); level > 2; --level) {
            const std::uint64_t entry = load_link(&entries[level_index(input, level)]);
            if (!is_table<Format>(entry, level)) {
                return {};
            }
            entries = child(entry);
        }
        return {true, entries};
    }

    /// Whether nothing speaks against a page of 4 KiB, the attributes apart. (One mask for both: where an
    /// address is too wide for the other one, the long way decides.)
    [[gnu::always_inline]] constexpr bool is_plain(address input, hpa output) const {
        return ((input.raw | output.raw) & not_in_page_) == 0 &&
               format_.check({input, 4 * KiB}, output).has_value();
    }

    /// map() of one page of 4 KiB into a table that exists, as the leaf `page` for frame 0; false, and
    /// nothing has happened, where anything is not as usual. Then the long way finds out what.
    [[gnu::always_inline]] constexpr bool map_page(address input, hpa output, std::uint64_t page) {
        if (!is_plain(input, output)) [[unlikely]] {
            return false;
        }
        const page_table found = find_page_table(input.raw);
        if (!found.exists) [[unlikely]] {
            return false;
        }
        std::uint64_t* const slot = &found.entries[level_index(input.raw, 1)];
        if constexpr (concurrent) {
            std::uint64_t free = Format::empty;
            if (!replace_entry(slot, free, page | output.raw)) {
                return false;
            }
            add_to_entry(found.link, live_count_one);
        } else {
            if (is_present<Format>(*slot)) [[unlikely]] {
                return false;
            }
            store_entry(slot, page | output.raw);
            store_entry(found.link, found.link_entry + live_count_one);
        }
        publisher_.publish(slot, 1);
        publisher_.complete();
        return true;
    }

    [[gnu::noinline]] constexpr result<ticket> map_range(range<address> input, hpa output,
                                                         result<void> allowed, std::uint64_t page,
                                                         unsigned largest) {
        if (const result<void> valid = check(input, output, allowed); !valid) {
            return valid.error();
        }
        return insert(input, contiguous_job(input, output, page, largest));
    }

    /// For the cursor: map() of one page, and the table in which it is.
    [[gnu::noinline]] constexpr result<page_table>
    map_and_find(address page, hpa frame, result<void> allowed, std::uint64_t leaf) {
        if (!page.is_aligned(4 * KiB)) { // and so may not even be the start of a range
            return error{errc::misaligned, page.raw};
        }
        result<ticket> done = map_range({page, 4 * KiB}, frame, allowed, leaf, 1);
        if (!done) {
            return done.error();
        }
        done->leak(); // the cursor says what is owed
        return find_page_table(page.raw);
    }

    // A map goes over the tables that exist twice. prepare() makes sure that every entry is free, and
    // hangs complete new subtrees under the entries that need one, but hidden from hardware. commit()
    // then cannot fail: it shows the subtrees and writes the leaves that go into existing tables. Where
    // prepare() meets an error, abandon() takes the hidden subtrees away again.
    //
    // Where several processors map, an entry is taken by compare-and-swap: leaves are claimed, and a
    // table of which others may want a part is hung in open, for all of them to fill. Whoever is in
    // such a part holds the table by one in its count, and the last to leave an open table that
    // stayed empty takes it away. So nobody ever waits.

    template <class Job>
    constexpr result<ticket> insert(range<address> input, const Job& work) {
        if (input.empty()) {
            return ticket{memory_};
        }
        // A root of its own stays hidden until the map cannot fail; one that several processors use
        // is there to stay.
        const bool had_root = concurrent || has_root();
        const result<hpa> top = had_root ? ensure_root() : new_root();
        if (!top) {
            return top.error();
        }
        const std::uint64_t first = input.first().raw;
        const std::uint64_t last = input.last().raw;
        std::uint64_t* const entries = memory_.entries(*top);
        const unsigned level = format_.levels();
        if (const result<void> ready = prepare(entries, nullptr, level, first, last, work);
            !ready) {
            if (!had_root) {
                memory_.release(*top);
            }
            return ready.error();
        }
        publisher_.complete(); // the new tables, before anything points to them
        if (!had_root) {
            show_root(*top);
        }
        commit(entries, level, first, last, work);
        publisher_.complete();
        return owed_for_map(input);
    }

    /// The first address in use under an entry that is not empty and that begins at `input`.
    constexpr error in_use(std::uint64_t entry, unsigned level, std::uint64_t input) {
        while (is_table<Format>(entry, level)) {
            const std::uint64_t* const entries = child(entry);
            --level;
            unsigned i = 0;
            while (i < entries_per_table && load_entry(&entries[i]) == Format::empty) {
                ++i;
            }
            if (i == entries_per_table) {
                break; // another processor is about to use it
            }
            input += i * level_size(level);
            entry = load_entry(&entries[i]);
        }
        return {errc::already_mapped, input};
    }

    /// Makes sure that `count` entries are free, and stay so until commit() or unclaim().
    constexpr result<void> claim(std::uint64_t* slot, std::size_t count, std::uint64_t input,
                                 unsigned level) {
        if constexpr (concurrent) {
            for (std::size_t i = 0; i < count; ++i) {
                std::uint64_t found = Format::empty;
                if (!replace_entry(&slot[i], found, claimed)) {
                    unclaim(slot, i);
                    return in_use(found, level, input + i * level_size(level));
                }
            }
        } else {
#pragma GCC unroll 8
            for (std::size_t i = 0; i < count; ++i) {
                if (slot[i] != Format::empty) [[unlikely]] { // plain: nobody writes to it
                    return in_use(slot[i], level, input + i * level_size(level));
                }
            }
        }
        return {};
    }
    constexpr void unclaim(std::uint64_t* slot, std::size_t count) {
        if constexpr (concurrent) {
            for (std::size_t i = 0; i < count; ++i) {
                store_entry(&slot[i], Format::empty);
            }
        }
    }

    /// `link` points to `entries`; null for the root.
    template <class Job>
    constexpr result<void> prepare(std::uint64_t* entries, std::uint64_t* link, unsigned level,
                                   std::uint64_t first, std::uint64_t last, const Job& work) {
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            std::uint64_t* const slot = &entries[level_index(at, level)];
            result<void> done;
            if (const unsigned count = work.run(at, last, level); count != 0) {
                end = at + count * level_size(level) - 1;
                done = claim(slot, count, at, level);
            } else {
                end = end_under(at, last, level);
                done = prepare_entry(slot, link, level, at, end, work);
            }
            if (!done) {
                if (at != first) {
                    abandon(entries, link, level, first, at - 1, work);
                }
                return done;
            }
        }
        return {};
    }
    template <class Job>
    constexpr result<void> prepare_entry(std::uint64_t* slot, std::uint64_t* link, unsigned level,
                                         std::uint64_t first, std::uint64_t last, const Job& work) {
        const bool all = covers(first, last, level);
        std::uint64_t entry = load_entry(slot);
        for (;;) {
            if (entry == Format::empty) {
                if (!concurrent || all) {
                    const bool full = level == 2 && work.run(first, last, 1) == entries_per_table;
                    const result<hpa> made = full ? build_full<1>(first, work, nullptr)
                                                  : build(level - 1, first, last, work);
                    if (!made) {
                        return made.error();
                    }
                    const std::uint64_t mine =
                        hidden(*made, whole_mark, used_by(first, last, level - 1));
                    if constexpr (!concurrent) {
                        store_entry(slot, mine);
                        return {};
                    } else {
                        if (replace_entry(slot, entry, mine)) {
                            return {};
                        }
                        discard(*made, level - 1, 0, entries_per_table);
                    }
                } else {
                    if (const result<void> opened = open(slot, link, entry); !opened) {
                        return opened;
                    }
                    if (entry == Format::empty) {
                        return prepare_inside(slot, link, level, first, last, work);
                    }
                }
            } else if (all || !leads_to_table(entry, level)) {
                return in_use(entry, level, first);
            } else if (!concurrent) {
                return prepare(child(entry), slot, level - 1, first, last, work);
            } else if (replace_entry(slot, entry, entry + live_count_one)) {
                return prepare_inside(slot, link, level, first, last, work);
            }
        }
    }
    static constexpr bool leads_to_table(std::uint64_t entry, unsigned level) {
        return is_table<Format>(entry, level) ||
               (!is_present<Format>(entry) && (entry & open_mark) != 0);
    }

    /// Hangs in an empty open table, which the caller holds. `entry` stays empty then; otherwise
    /// another processor was faster, and it is what that one put there.
    constexpr result<void> open(std::uint64_t* slot, std::uint64_t* link, std::uint64_t& entry) {
        const result<hpa> made = memory_.allocate(frame_contents::any);
        if (!made) {
            return made.error();
        }
        std::uint64_t* const entries = memory_.entries(*made);
        fill_entries(entries, entries_per_table, Format::empty, 0);
        publisher_.publish(entries, entries_per_table);
        publisher_.complete();
        if (!replace_entry(slot, entry, hidden(*made, open_mark, 1))) {
            memory_.release(*made);
        } else if (link != nullptr) {
            add_to_entry(link, live_count_one); // for the entry itself
        }
        return {};
    }
    /// prepare() below an entry whose table the caller holds.
    template <class Job>
    constexpr result<void> prepare_inside(std::uint64_t* slot, std::uint64_t* link, unsigned level,
                                          std::uint64_t first, std::uint64_t last,
                                          const Job& work) {
        const result<void> done =
            prepare(child(load_entry(slot)), slot, level - 1, first, last, work);
        if (!done) {
            let_go(slot, link);
        }
        return done;
    }
    /// Holds the table of `slot` no longer; whoever finds an open one unused takes it away.
    constexpr void let_go(std::uint64_t* slot, std::uint64_t* link) {
        std::uint64_t entry = add_to_entry(slot, ~live_count_one + 1);
        if (live_count(entry) == 0 && !is_present<Format>(entry) &&
            replace_entry(slot, entry, Format::empty)) {
            memory_.release(hpa{entry & frame_mask});
            if (link != nullptr) {
                add_to_entry(link, ~live_count_one + 1);
            }
        }
    }

    /// Takes back what prepare() did for `first` to `last`.
    template <class Job>
    constexpr void abandon(std::uint64_t* entries, std::uint64_t* link, unsigned level,
                           std::uint64_t first, std::uint64_t last, const Job& work) {
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            std::uint64_t* const slot = &entries[level_index(at, level)];
            if (const unsigned count = work.run(at, last, level); count != 0) {
                end = at + count * level_size(level) - 1;
                unclaim(slot, count);
            } else {
                end = end_under(at, last, level);
                const std::uint64_t entry = load_entry(slot);
                if (!is_present<Format>(entry) && (entry & whole_mark) != 0) {
                    store_entry(slot, Format::empty);
                    discard(hpa{entry & frame_mask}, level - 1, 0, entries_per_table);
                } else {
                    abandon(child(entry), slot, level - 1, at, end, work);
                    if constexpr (concurrent) {
                        let_go(slot, link);
                    }
                }
            }
        }
    }

    /// Makes the prepared part real; returns how many entries of this table came into use.
    template <class Job>
    constexpr unsigned commit(std::uint64_t* entries, unsigned level, std::uint64_t first,
                              std::uint64_t last, const Job& work) {
        changed_lines changed{publisher_, entries};
        unsigned added = 0;
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            const unsigned i = level_index(at, level);
            std::uint64_t* const slot = &entries[i];
            if (const unsigned count = work.run(at, last, level); count != 0) {
                end = at + count * level_size(level) - 1;
                work.show(slot, count, at, level);
                changed.add(i, count);
                added += count;
            } else {
                end = end_under(at, last, level);
                std::uint64_t entry = load_entry(slot);
                if (!is_present<Format>(entry) && (entry & whole_mark) != 0) {
                    store_entry(slot, shown(entry));
                    changed.add(i);
                    ++added;
                } else {
                    const std::uint64_t below = commit(child(entry), level - 1, at, end, work);
                    if constexpr (concurrent) {
                        entry = add_to_entry(slot, live(below) - live_count_one);
                        publisher_.complete(); // the leaves, before the table is shown
                        while (!is_present<Format>(entry) &&
                               !replace_entry(slot, entry, shown(entry))) {}
                        changed.add(i); // also if another processor has shown it, just now
                    } else if (below != 0) {
                        store_entry(slot, entry + live(below));
                    }
                }
            }
        }
        return added;
    }

    // -------------------------------------------------------------------------------------- remap

    // The tables are taken while they are counted, so that what there is bounds the work.

    /// Takes the tables that build() will make for `first` to `last` below a new one at `level`.
    template <class Job>
    static constexpr result<void> reserve_below(unsigned level, std::uint64_t first,
                                                std::uint64_t last, const Job& work, spare& kept) {
        for (std::uint64_t at = first, end = 0; level > 1 && at <= last; at = end + 1) {
            if (const unsigned count = work.run(at, last, level); count != 0) {
                end = at + count * level_size(level) - 1;
            } else {
                end = end_under(at, last, level);
                result<void> taken = kept.reserve(1);
                if (taken) {
                    taken = reserve_below(level - 1, at, end, work, kept);
                }
                if (!taken) {
                    return taken;
                }
            }
        }
        return {};
    }
    template <class Job>
    constexpr result<void> reserve_to_replace(const std::uint64_t* entries, unsigned level,
                                              std::uint64_t first, std::uint64_t last,
                                              const Job& work, spare& kept) {
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            if (const unsigned count = work.run(at, last, level); count != 0) {
                end = at + count * level_size(level) - 1;
            } else {
                end = end_under(at, last, level);
                const std::uint64_t entry = load_entry(&entries[level_index(at, level)]);
                result<void> taken;
                if (is_table<Format>(entry, level)) {
                    taken = reserve_to_replace(child(entry), level - 1, at, end, work, kept);
                } else if (taken = kept.reserve(1); taken) {
                    taken = reserve_below(level - 1, at, end, work, kept);
                }
                if (!taken) {
                    return taken;
                }
            }
        }
        return {};
    }

    /// Writes the job over whatever is there; returns how many entries of this table came into use.
    template <class Job>
    constexpr unsigned replace(std::uint64_t* entries, unsigned level, std::uint64_t first,
                               std::uint64_t last, const Job& work, spare& kept, ticket& owed) {
        changed_lines changed{publisher_, entries};
        unsigned added = 0;
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            const unsigned i = level_index(at, level);
            const bool leaf = work.run(at, last, level) != 0;
            end = end_under(at, last, level);
            std::uint64_t* const slot = &entries[i];
            const std::uint64_t entry = load_entry(slot);
            const bool present = is_present<Format>(entry);
            if (leaf) {
                store_entry(slot, work.entry(at, level));
                changed.add(i);
                if (present) {
                    owed.add(at, end);
                }
                if (is_table<Format>(entry, level)) {
                    owed.retire({hpa{entry & frame_mask}, level - 1});
                }
            } else if (is_table<Format>(entry, level)) {
                const unsigned below = replace(child(entry), level - 1, at, end, work, kept, owed);
                if (below != 0) {
                    store_entry(slot, entry + live(below));
                }
            } else {
                put_table(slot, level, at, end, work, kept);
                changed.add(i);
                if (present) {
                    owe_page(at, level, owed);
                }
            }
            added += present ? 0U : 1U;
        }
        return added;
    }
    /// Replaces an empty entry or a page by a new table, in which the job is done and the rest says
    /// what the page said.
    template <class Job>
    constexpr void put_table(std::uint64_t* slot, unsigned level, std::uint64_t first,
                             std::uint64_t last, const Job& work, spare& kept) {
        std::uint64_t entry = load_entry(slot);
        for (;;) {
            const bool page = is_present<Format>(entry);
            const result<hpa> made =
                build(level - 1, first, last, work,
                      page ? background_of(entry, level) : background{}, &kept);
            publisher_.complete();
            const unsigned used = page ? entries_per_table : used_by(first, last, level - 1);
            if (exchange(slot, entry, format_.table(*made) | live(used))) {
                return;
            }
            discard(*made, level - 1, 0, entries_per_table, &kept); // with the flags of before
        }
    }

    // -------------------------------------------------------------------------- changes of entries

    /// Stores over `expected`; false, and `expected` is read anew, if hardware has set a flag in the
    /// entry meanwhile, which happens twice at most.
    constexpr bool exchange(std::uint64_t* slot, std::uint64_t& expected, std::uint64_t entry) {
        if (format_.sets_flags()) {
            return replace_entry(slot, expected, entry);
        }
        store_entry(slot, entry);
        return true;
    }

    /// All of the page that holds `input`: an invalidation has to cover it, or it may stay cached
    /// [vt-d, "Invalidate Address Register", address mask].
    static constexpr void owe_page(std::uint64_t input, unsigned level, ticket& owed) {
        const std::uint64_t inside = level_size(level) - 1;
        owed.add(input & ~inside, input | inside);
        owed.tables_changed_ = true;
    }

    /// The level of the leaf that maps `input`, 0 if there is none.
    constexpr unsigned leaf_level(std::uint64_t input) {
        const std::uint64_t* entries = memory_.entries(hpa{root_});
        for (unsigned level = format_.levels();; --level) {
            const std::uint64_t entry = load_entry(&entries[level_index(input, level)]);
            if (!is_present<Format>(entry)) {
                return 0;
            }
            if (is_leaf<Format>(entry, level)) {
                return level;
            }
            entries = child(entry);
        }
    }
    /// How many tables it takes to split the pages that `first` and `last` cut through.
    constexpr unsigned tables_to_cut(std::uint64_t first, std::uint64_t last) {
        const unsigned at_first = leaf_level(first);
        const unsigned at_last = leaf_level(last);
        unsigned sum = 0;
        for (unsigned level = 2; level <= 3; ++level) {
            const std::uint64_t inside = level_size(level) - 1;
            const bool cut_first = level <= at_first && (first & inside) != 0;
            const bool cut_last = level <= at_last && (last & inside) != inside;
            const bool same = (first & ~inside) == (last & ~inside);
            sum +=
                same ? unsigned{cut_first || cut_last} : unsigned{cut_first} + unsigned{cut_last};
        }
        return sum;
    }

    /// Replaces the page in `slot` by a table of 512 pages that say the same; the new entry.
    constexpr std::uint64_t split_page(std::uint64_t* slot, unsigned level, std::uint64_t input,
                                       spare& kept, ticket& owed) {
        const hpa frame = kept.take();
        std::uint64_t* const entries = memory_.entries(frame);
        const std::uint64_t made = format_.table(frame) | live(entries_per_table);
        std::uint64_t page = load_entry(slot);
        do {
            const background pieces = background_of(page, level);
            if (level == 2) { // the usual case, and then the step is a constant
                fill_entries(entries, entries_per_table, pieces.entry, 4 * KiB);
            } else {
                fill_entries(entries, entries_per_table, pieces.entry, pieces.step);
            }
            publisher_.publish(entries, entries_per_table);
            publisher_.complete();
        } while (!exchange(slot, page, made));
        owe_page(input, level, owed);
        return made;
    }

    /// Does f(entry, level) -> entry to every leaf in `input`.
    template <class Change>
    constexpr result<ticket> change(range<address> input, unsigned largest, const Change& f) {
        ticket owed{memory_};
        if (const result<void> valid = check(input); !valid) {
            return valid.error();
        }
        if (input.empty() || !has_root()) {
            return owed;
        }
        const std::uint64_t first = input.first().raw;
        const std::uint64_t last = input.last().raw;
        std::uint64_t* const entries = memory_.entries(hpa{root_});
        if (largest < static_cast<unsigned>(format_.largest_page({}))) {
            if (const result<void> fit =
                    check_size(entries, format_.levels(), first, last, largest);
                !fit) {
                return fit.error();
            }
        }
        spare kept{memory_};
        if (const result<void> enough = kept.reserve(tables_to_cut(first, last)); !enough) {
            return enough.error();
        }
        change(entries, format_.levels(), first, last, f, kept, owed);
        publisher_.complete();
        return owed;
    }
    template <class Change>
    constexpr void change(std::uint64_t* entries, unsigned level, std::uint64_t first,
                          std::uint64_t last, const Change& f, spare& kept, ticket& owed) {
        changed_lines changed{publisher_, entries};
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const unsigned i = level_index(at, level);
            std::uint64_t* const slot = &entries[i];
            std::uint64_t entry = load_entry(slot);
            if (is_present<Format>(entry)) {
                if (is_leaf<Format>(entry, level) && covers(at, end, level)) {
                    std::uint64_t wanted = f(entry, level);
                    const bool differs = wanted != entry;
                    while (differs && !exchange(slot, entry, wanted)) {
                        wanted = f(entry, level);
                    }
                    if (differs) {
                        changed.add(i);
                        owed.add(at, end);
                    }
                } else {
                    if (is_leaf<Format>(entry, level)) {
                        entry = split_page(slot, level, at, kept, owed);
                        changed.add(i);
                    }
                    change(child(entry), level - 1, at, end, f, kept, owed);
                }
            }
        }
    }
    /// errc::not_supported with the first address whose page is larger than `largest`.
    constexpr result<void> check_size(const std::uint64_t* entries, unsigned level,
                                      std::uint64_t first, std::uint64_t last, unsigned largest) {
        for (std::uint64_t at = first, end = 0; level > largest && at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const std::uint64_t entry = load_entry(&entries[level_index(at, level)]);
            if (is_present<Format>(entry)) {
                if (is_leaf<Format>(entry, level)) {
                    return error{errc::not_supported, at};
                }
                if (const result<void> fit = check_size(child(entry), level - 1, at, end, largest);
                    !fit) {
                    return fit;
                }
            }
        }
        return {};
    }

    // -------------------------------------------------------------------------------------- unmap

    /// unmap() of one page of 4 KiB that is not the last of its table; false, and nothing has
    /// happened, where it is not so.
    [[gnu::always_inline]] constexpr bool unmap_page(address input) {
        if ((input.raw & not_in_input_) != 0) [[unlikely]] {
            return false;
        }
        const page_table found = find_page_table(input.raw);
        if (!found.exists || found.link_entry < live(2)) [[unlikely]] { // no bits above the count
            return false;
        }
        std::uint64_t* const slot = &found.entries[level_index(input.raw, 1)];
        if (!is_present<Format>(*slot)) [[unlikely]] {
            return false;
        }
        store_entry(slot, Format::empty);
        store_entry(found.link, found.link_entry - live_count_one);
        publisher_.publish(slot, 1);
        publisher_.complete();
        return true;
    }

    [[gnu::noinline]] constexpr result<ticket> unmap_range(range<address> input) {
        ticket owed{memory_};
        if (const result<void> valid = check(input); !valid) {
            return valid.error();
        }
        if (input.empty() || !has_root()) {
            return owed;
        }
        const std::uint64_t first = input.first().raw;
        const std::uint64_t last = input.last().raw;
        spare kept{memory_};
        if (const result<void> enough = kept.reserve(tables_to_cut(first, last)); !enough) {
            return enough.error();
        }
        remove(memory_.entries(hpa{root_}), format_.levels(), first, last, kept, owed);
        publisher_.complete();
        return owed;
    }

    /// Returns how many entries of this table became empty.
    constexpr unsigned remove(std::uint64_t* entries, unsigned level, std::uint64_t first,
                              std::uint64_t last, spare& kept, ticket& owed) {
        changed_lines changed{publisher_, entries};
        unsigned gone = 0;
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const unsigned i = level_index(at, level);
            std::uint64_t* const slot = &entries[i];
            std::uint64_t entry = load_entry(slot);
            if (is_present<Format>(entry)) {
                const bool all = covers(at, end, level);
                bool empty = all;
                if (!all) {
                    if (is_leaf<Format>(entry, level)) {
                        entry = split_page(slot, level, at, kept, owed);
                        changed.add(i);
                    }
                    const unsigned below = remove(child(entry), level - 1, at, end, kept, owed);
                    empty = below == live_count(entry);
                    if (!empty && below != 0) {
                        store_entry(slot, entry - live(below));
                    }
                }
                if (empty) {
                    store_entry(slot, Format::empty);
                    changed.add(i);
                    ++gone;
                    if (all) {
                        owed.add(at, end);
                    }
                    if (is_table<Format>(entry, level)) {
                        owed.retire({hpa{entry & frame_mask}, level - 1});
                    }
                }
            }
        }
        return gone;
    }

    // ----------------------------------------------------------------------------- split and join

    /// How many tables it takes to split one page at `level` down to `limit` from `first` to `last`.
    static constexpr std::uint64_t tables_for_page(unsigned level, std::uint64_t first,
                                                   std::uint64_t last, unsigned limit) {
        if (level <= limit) {
            return 0;
        }
        const std::uint64_t pieces = used_by(first, last, level - 1);
        return 1 + (level - 1 > limit ? pieces : 0); // there are two large sizes
    }
    constexpr result<void> reserve_to_split(const std::uint64_t* entries, unsigned level,
                                            std::uint64_t first, std::uint64_t last, unsigned limit,
                                            spare& kept) {
        for (std::uint64_t at = first, end = 0; level > limit && at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const std::uint64_t entry = load_entry(&entries[level_index(at, level)]);
            if (is_present<Format>(entry)) {
                const result<void> taken =
                    is_table<Format>(entry, level)
                        ? reserve_to_split(child(entry), level - 1, at, end, limit, kept)
                        : kept.reserve(tables_for_page(level, at, end, limit));
                if (!taken) {
                    return taken;
                }
            }
        }
        return {};
    }
    constexpr void split(std::uint64_t* entries, unsigned level, std::uint64_t first,
                         std::uint64_t last, unsigned limit, spare& kept, ticket& owed) {
        changed_lines changed{publisher_, entries};
        for (std::uint64_t at = first, end = 0; level > limit && at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const unsigned i = level_index(at, level);
            std::uint64_t entry = load_entry(&entries[i]);
            if (is_present<Format>(entry)) {
                if (is_leaf<Format>(entry, level)) {
                    entry = split_page(&entries[i], level, at, kept, owed);
                    changed.add(i);
                }
                split(child(entry), level - 1, at, end, limit, kept, owed);
            }
        }
    }

    constexpr void join(std::uint64_t* entries, unsigned level, std::uint64_t first,
                        std::uint64_t last, unsigned largest, ticket& owed) {
        changed_lines changed{publisher_, entries};
        for (std::uint64_t at = first, end = 0; level > 1 && at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const unsigned i = level_index(at, level);
            const std::uint64_t entry = load_entry(&entries[i]);
            if (is_table<Format>(entry, level)) {
                if (level > 2) {
                    join(child(entry), level - 1, at, end, largest, owed);
                }
                const std::uint64_t page = level <= largest && covers(at, end, level) &&
                                                   live_count(entry) == entries_per_table
                                               ? joined(child(entry), level)
                                               : Format::empty;
                if (page != Format::empty) {
                    store_entry(&entries[i], page);
                    changed.add(i);
                    owe_page(at, level, owed);
                    owed.retire({hpa{entry & frame_mask}, level - 1});
                }
            }
        }
    }
    /// Whether a table holds piece, piece + step, piece + 2 step ... but for `flags`, which it collects.
    /// With vector registers it is faster to look at all entries than to stop at the first wrong one.
    [[gnu::always_inline]] static constexpr bool are_pieces(const std::uint64_t* entries,
                                                            std::uint64_t piece, std::uint64_t step,
                                                            std::uint64_t flags,
                                                            std::uint64_t& set) {
        std::uint64_t differs = 0;
#pragma GCC unroll 8
        for (std::size_t i = 0; i < entries_per_table; ++i) {
            const std::uint64_t differs_here = (entries[i] & ~flags) ^ (piece + i * step);
            set |= entries[i];
            if constexpr (has_vector_registers) {
                differs |= differs_here;
            } else if (differs_here != 0) {
                return false;
            }
        }
        return differs == 0;
    }
    /// The page at `level` whose pieces are the entries of a table, all of them in use; empty if they
    /// are not.
    constexpr std::uint64_t joined(const std::uint64_t* entries, unsigned level) const {
        const std::uint64_t flags =
            format_.sets_flags() ? Format::accessed_mask | Format::dirty_mask : 0;
        const std::uint64_t step = level_size(level - 1);
        const std::uint64_t piece = load_entry(entries) & ~flags;
        if (!is_leaf<Format>(piece, level - 1) ||
            (frame_of<Format>(piece, level - 1).raw & (level_size(level) - 1)) != 0 ||
            level > static_cast<unsigned>(
                        format_.largest_page(format_.attributes_of(piece, level - 1)))) {
            return Format::empty;
        }
        std::uint64_t set = 0;
        if (flags == 0) {
            const bool alike = level == 2 ? are_pieces(entries, piece, 4 * KiB, 0, set)
                                          : are_pieces(entries, piece, step, 0, set);
            return alike ? format_.join(piece, level) : Format::empty;
        }
        if (!are_pieces(entries, piece, step, flags, set)) {
            return Format::empty;
        }
        // Hardware that has a piece cached may yet use it, and flag the piece.
        const std::uint64_t page =
            format_.join(piece, level) | (set & flags) | (flags & Format::accessed_mask);
        return format_.write_protected(page) == page ? page : page | flags;
    }

    // ------------------------------------------------------------------------------------ harvest

    struct basket {
        page_bitmap pages;
        std::uint64_t first; ///< the input address of bit 0
        std::uint64_t mask;  ///< of the flag
    };
    constexpr void harvest(std::uint64_t* entries, unsigned level, std::uint64_t first,
                           std::uint64_t last, basket into, ticket& owed) {
        changed_lines changed{publisher_, entries};
        for (std::uint64_t at = first, end = 0; at <= last; at = end + 1) {
            end = end_under(at, last, level);
            const unsigned i = level_index(at, level);
            const std::uint64_t entry = load_entry(&entries[i]);
            if (is_table<Format>(entry, level)) {
                harvest(child(entry), level - 1, at, end, into, owed);
            } else if (is_present<Format>(entry) && (entry & into.mask) != 0) {
                into.pages.set((at - into.first) / (4 * KiB), (end - at + 1) / (4 * KiB));
                if (covers(at, end, level)) {
                    clear_in_entry(&entries[i], into.mask);
                    changed.add(i);
                    owed.add(at, end);
                }
            }
        }
    }

    constexpr leaf_range<Format, Memory> leaves_between(std::uint64_t first,
                                                        std::uint64_t last) const {
        const std::uint64_t end = (std::uint64_t{1} << format_.input_width()) - 1;
        const std::uint64_t top = load_entry(&root_);
        if (top == no_root || first > end) {
            return {memory_, format_};
        }
        return {memory_, format_, hpa{top}, first, last < end ? last : end};
    }

    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Format format_;
    [[no_unique_address]] Publication publisher_;
    [[no_unique_address]] mutable Mutex mutex_;
    std::uint64_t root_ = no_root;
    std::uint64_t* four_levels_ = nullptr;
    std::uint64_t not_in_input_; ///< bits that an input address of a 4-KiB page never has
    std::uint64_t not_in_page_;  ///< bits that either it or its output never has
};

/// Maps single pages of 4 KiB, and keeps the way to the table of the last one, so that the next one
/// in the same table is one store. It has the table's mutex for as long as it lives, and no other
/// operation may change the table meanwhile.
template <entry_format Format, table_memory Memory, publication Publication, mutex Mutex>
class table<Format, Memory, Publication, Mutex>::cursor_type {
public:
    cursor_type(const cursor_type&) = delete;
    cursor_type& operator=(const cursor_type&) = delete;

    /// As table::map() of one page.
    [[gnu::always_inline]] constexpr result<ticket> map(address page, hpa frame,
                                                        const attributes& a) {
        const result<void> allowed = table_->format_.check(a);
        const std::uint64_t leaf = table_->format_.leaf(hpa{0}, a, 1);
        if ((page.raw >> level_shift(2)) != region_ || !allowed || !put(page, frame, leaf))
            [[unlikely]] {
            const result<page_table> found = table_->map_and_find(page, frame, allowed, leaf);
            if (!found) {
                return found.error();
            }
            at_ = *found;
            region_ = page.raw >> level_shift(2);
        }
        return table_->owed_for_map({page, 4 * KiB});
    }

private:
    friend class table;

    explicit constexpr cursor_type(table& owner) : table_{&owner}, held_{owner.mutex_} {}

    /// False, and nothing has happened, where anything is not as usual.
    [[gnu::always_inline]] constexpr bool put(address page, hpa frame, std::uint64_t leaf) {
        if (!table_->is_plain(page, frame)) [[unlikely]] {
            return false;
        }
        std::uint64_t* const slot = &at_.entries[level_index(page.raw, 1)];
        if (is_present<Format>(*slot)) [[unlikely]] {
            return false;
        }
        at_.link_entry += live_count_one;
        store_entry(slot, leaf | frame.raw);
        store_entry(at_.link, at_.link_entry);
        table_->publisher_.publish(slot, 1);
        table_->publisher_.complete();
        return true;
    }

    table* table_;
    scoped_lock<Mutex> held_;
    std::uint64_t region_ = ~std::uint64_t{0};
    page_table at_{};
};

} // namespace pt::paging
