// SPDX-License-Identifier: BSL-1.0
// Bytes become a sequence of operations on tables; an oracle, a walker, and a cache that forgets
// nothing watch every step (tests/paging_model/session.hpp).
#include "../paging_model/script.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using namespace paging_model;
using pt::GiB;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

class bytes {
public:
    bytes(const std::uint8_t* data, std::size_t size) : at_{data}, end_{data + size} {}

    [[nodiscard]] bool empty() const { return at_ == end_; }
    /// 0 is 2^64.
    std::uint64_t below(std::uint64_t bound) {
        return bound == 0 ? take(8) : take(bound <= 256 ? 1 : 8) % bound;
    }
    std::uint64_t address() { return number(); }
    std::uint64_t size() { return number(); }
    std::uint64_t output(std::uint64_t first) {
        return take(1) % 4 != 0 ? first % (64 * GiB) + take(1) % 16 * GiB : number();
    }

private:
    std::uint64_t take(unsigned count) {
        std::uint64_t value = 0;
        for (; count != 0; --count) {
            value = value << 8 | (empty() ? 0 : *at_++);
        }
        return value;
    }
    /// Near the seams of tables, or any number at all.
    std::uint64_t number() {
        switch (take(1) % 8) {
        case 0: return take(8);
        case 1: return take(1) * GiB;
        case 2: return take(1) * GiB - take(1) * 4 * KiB;
        case 3: return take(2) * 2 * MiB;
        case 4: return take(2) * 2 * MiB + take(1) * 4 * KiB;
        case 5: return (std::uint64_t{1} << take(1) % 64) - take(1) * 4 * KiB;
        default: return take(2) * 4 * KiB;
        }
    }

    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

template <class Kit>
void play(bytes input) {
    session<Kit> game{Kit{static_cast<page_size>(1 + input.below(3))}, 37};
    for (unsigned step = 0; step < 200 && !input.empty(); ++step) {
        play_step(game, input);
        if (game.complaint != nullptr) {
            __builtin_trap();
        }
    }
    game.audit();
    game.finish();
    if (game.complaint != nullptr) {
        __builtin_trap();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes input{data, size};
    switch (input.below(8)) {
    case 0: play<ept_kit>(input); break;
    case 1: play<second_stage_kit<4>>(input); break;
    case 2: play<second_stage_kit<3>>(input); break;
    case 3: play<second_stage_kit<4, true>>(input); break;
    case 4: play<ept_flags_kit>(input); break;
    case 5: play<ept5_flags_kit>(input); break;
    case 6: play<nested_kit>(input); break;
    default: play<second_stage_kit<5, false, true>>(input); break;
    }
    return 0;
}
