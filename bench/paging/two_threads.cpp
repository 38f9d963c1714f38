// SPDX-License-Identifier: BSL-1.0
// Two processors map 512 MiB each at the same time, with frames of their own.
#include "../flavours/row.hpp"
#include "floors.hpp"
#include "tables.hpp"

#include "pt/core/mutex.hpp"

#include <cstdint>

namespace bench {
namespace {

/// Which processor this is; a kernel has such a variable already.
constinit thread_local unsigned processor = 0;

/// A pool for each processor. Frames go back to the one that they are from.
struct pool_of_each_memory {
    pool* owners;

    pt::result<hpa> allocate(pt::frame_contents contents) {
        return pool_memory{&owners[processor]}.allocate(contents);
    }
    void release(hpa frame) { owners[owners[0].is_before_end(frame) ? 0 : 1].release(frame); }
    std::uint64_t* entries(hpa frame) { return entries_of(frame.raw); }
};

/// What the machine gives to two plain loops.
class fill_with_two {
public:
    explicit fill_with_two(const region& all) : entries_{all.entries} {}
    [[nodiscard]] bool ready() const { return entries_ != nullptr; }
    bool run(unsigned thread) {
        constexpr std::size_t half = 256;
        for (std::size_t table = thread * half; table < (thread + 1) * half; ++table) {
            floors::fill_table<4 * KiB>(entries_ + table * pt::entries_per_table,
                                        unknown(table * (2 * MiB)) | floors::ram);
        }
        return true;
    }
    bool undo() { return true; }

private:
    std::uint64_t* entries_;
};

class map_with_two {
public:
    explicit map_with_two(const region& all)
        : frames_{{all, 0, all.frames / 2}, {all, all.frames / 2, all.frames / 2}},
          tables_{pool_of_each_memory{frames_}, ept_format} {
        ready_ = tables_.root().has_value();
        marks_[0] = frames_[0].mark();
        marks_[1] = frames_[1].mark();
    }
    ~map_with_two() {
        no_caches hardware;
        auto owed = tables_.retire();
        (void)owed.redeem(hardware);
    }

    [[nodiscard]] bool ready() const { return ready_; }
    bool run(unsigned thread) {
        processor = thread;
        const std::uint64_t half = unknown(first + thread * (512 * MiB));
        return redeemed(tables_.map({gpa{half}, unknown(512 * MiB)}, hpa{half}, pt::ept::ram,
                                    page_size::size_4k));
    }
    bool undo() {
        return redeemed(tables_.unmap({gpa{first}, GiB})) && frames_[0].rewind(marks_[0]) &&
               frames_[1].rewind(marks_[1]);
    }

private:
    static constexpr std::uint64_t first = 4 * GiB;

    pool frames_[2];
    alignas(128) pt::paging::table<pt::ept::format, pool_of_each_memory,
                                   pt::paging::coherent_publication, pt::no_shared_mutex> tables_;
    std::uint64_t marks_[2]{};
    bool ready_ = false;
};

} // namespace

void add_two_threads_rows(add_row add) {
    add(row_of<fill_with_two>::make("floor_fill_1GiB_2threads", 1, 100, 600, 2));
    add(row_of<map_with_two>::make("ept_map_4k_1GiB_2threads", 1, 100, 600, 2));
}

} // namespace bench
