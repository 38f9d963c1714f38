// SPDX-License-Identifier: BSL-1.0
// Translations in a guest of 64 GiB in 4-KiB pages: 128 MiB of tables, far more than the caches hold.
#include "../flavours/row.hpp"
#include "floors.hpp"
#include "tables.hpp"

#include <cstdint>

namespace bench {
namespace {

constexpr std::uint64_t guest = 64 * GiB;
constexpr std::uint64_t translations = 16'384;

/// An order of all pages that no prefetcher guesses.
constexpr std::uint64_t next(std::uint64_t at) {
    return (at * 0x5DEE'CE66'D + 0xB000) & (guest - 1) & ~(4 * KiB - 1);
}

/// Each page leads to itself.
class large_guest : protected tree<> {
public:
    explicit large_guest(const region& all) : tree<>{all, ept_format} {
        require(map(0, guest, 0, pt::ept::ram, page_size::size_4k));
    }
    using tree<>::ready;
    bool undo() { return true; }

protected:
    std::uint64_t at_ = 0; ///< where the last run ended
};

class chase : public large_guest {
public:
    explicit chase(const region& all) : large_guest{all}, root_{entries_of(tables.root()->raw)} {}

protected:
    const std::uint64_t* root_;
};

/// Where one step leads is where the next one begins.
class chase_dependent : public chase {
public:
    using chase::chase;
    bool run(unsigned) {
        std::uint64_t at = at_;
        for (std::uint64_t i = 0; i < translations; ++i) {
            at = next(floors::chase(root_, at));
        }
        at_ = at;
        return true;
    }
};

class chase_independent : public chase {
public:
    using chase::chase;
    bool run(unsigned) {
        std::uint64_t at = at_;
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < translations; ++i) {
            sum += floors::chase(root_, at);
            at = next(at);
        }
        keep(sum);
        at_ = at;
        return true;
    }
};

class translate_dependent : public large_guest {
public:
    using large_guest::large_guest;
    bool run(unsigned) {
        std::uint64_t at = at_;
        for (std::uint64_t i = 0; i < translations; ++i) {
            const auto found = tables.translate(gpa{at});
            if (!found) {
                return false;
            }
            at = next(found->output.raw);
        }
        at_ = at;
        return true;
    }
};

class translate_independent : public large_guest {
public:
    using large_guest::large_guest;
    bool run(unsigned) {
        std::uint64_t at = at_;
        std::uint64_t sum = 0;
        for (std::uint64_t i = 0; i < translations; ++i) {
            const auto found = tables.translate(gpa{at});
            if (!found) {
                return false;
            }
            sum += found->output.raw;
            at = next(at);
        }
        keep(sum);
        at_ = at;
        return true;
    }
};

} // namespace

void add_translate_rows(add_row add) {
    constexpr std::size_t frames = 64 * 513 + 8;
    add(row_of<chase_dependent>::make("floor_chase_dependent", translations, 4, frames));
    add(row_of<translate_dependent>::make("ept_translate_dependent", translations, 4, frames));
    add(row_of<chase_independent>::make("floor_chase_independent", translations, 16, frames));
    add(row_of<translate_independent>::make("ept_translate_independent", translations, 16, frames));
}

} // namespace bench
