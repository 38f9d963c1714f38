// SPDX-License-Identifier: BSL-1.0
// Bytes become a sequence of operations on tables; an oracle, a walker and a cache that forgets
// nothing watch every step (tests/paging_model/session.hpp).
#include "../paging_model/session.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using paging_model::ept_kit;
using paging_model::second_stage_kit;
using paging_model::session;
using pt::GiB;
using pt::KiB;
using pt::MiB;
using pt::paging::page_size;

class bytes {
public:
    bytes(const std::uint8_t* data, std::size_t size) : at_{data}, end_{data + size} {}

    [[nodiscard]] bool empty() const { return at_ == end_; }
    std::uint64_t take(unsigned count) {
        std::uint64_t value = 0;
        for (; count != 0; --count) {
            value = value << 8 | (empty() ? 0 : *at_++);
        }
        return value;
    }
    /// Addresses and sizes near the seams of tables, or any number at all.
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

private:
    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

template <class Kit>
void play(bytes input) {
    session<Kit> game{Kit{static_cast<page_size>(1 + input.take(1) % 3)}, 37};
    while (!input.empty()) {
        const auto operation = input.take(1);
        switch (operation % 4) {
        case 0:
        case 1: {
            const std::uint64_t first = input.number();
            const std::uint64_t size = input.number();
            const std::uint64_t output =
                operation % 8 < 4 ? first + input.take(1) * GiB : input.number();
            const auto choice = static_cast<std::size_t>(input.take(1));
            game.map(first, size, output, choice, static_cast<page_size>(1 + choice / 8 % 3));
            game.check_address(first);
            game.check_address(first - 1);
            game.check_address(first + size - 1);
            game.check_address(first + size);
            break;
        }
        case 2: {
            const std::uint64_t first = input.number();
            const std::uint64_t size = input.number();
            game.unmap(first, size);
            game.check_address(first);
            game.check_address(first - 1);
            game.check_address(first + size - 1);
            game.check_address(first + size);
            break;
        }
        default: game.redeem(operation % 3); break;
        }
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
    switch (input.take(1) % 4) {
    case 0: play<ept_kit>(input); break;
    case 1: play<second_stage_kit<4>>(input); break;
    case 2: play<second_stage_kit<3>>(input); break;
    default: play<second_stage_kit<4, true>>(input); break;
    }
    return 0;
}
