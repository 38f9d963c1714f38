// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"

#include "session.hpp"

#include <cstdint>

namespace paging_model {

/// One operation of a session, chosen by numbers: from a random source, or from a fuzzer's bytes.
/// `numbers` has below(bound); address(), where trees have their seams; size(); and output(first).
template <class Session, class Numbers>
void play_step(Session& game, Numbers& numbers) {
    using pt::GiB;
    using pt::paging::page_size;
    using flag = typename Session::page_flag;
    const std::uint64_t first = numbers.address();
    const std::uint64_t size = numbers.size();
    const auto largest = static_cast<page_size>(1 + numbers.below(3));
    const auto choice = static_cast<std::size_t>(numbers.below(8));
    switch (numbers.below(32)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
    case 7: game.map(first, size, numbers.output(first), choice, largest); break;
    case 8:
    case 9:
        game.map_pages(first, 1 + numbers.below(40), numbers.output(first), 1 + numbers.below(9),
                       choice, largest);
        break;
    case 10:
        game.cursor(first, 1 + numbers.below(40), 1 + numbers.below(3), numbers.output(first),
                    choice);
        break;
    case 11:
    case 12:
    case 13: game.remap(first, size, numbers.output(first), choice, largest); break;
    case 14:
    case 15:
    case 16: game.unmap(first, size); break;
    case 17: game.unmap(first / GiB * GiB, (1 + numbers.below(8)) * GiB); break;
    case 18: game.protect(first, size, choice); break;
    case 19: game.protect(first / GiB * GiB, (1 + numbers.below(8)) * GiB, choice); break;
    case 20:
    case 21: game.write_protect(first, size); break;
    case 22: game.split(first, size, largest); break;
    case 23: game.join(first, size, largest); break;
    case 24: game.join(first / GiB * GiB, (1 + numbers.below(8)) * GiB, largest); break;
    case 25: game.harvest(first, size, numbers.below(3) == 0 ? flag::accessed : flag::dirty); break;
    case 26: game.redeem(static_cast<unsigned>(numbers.below(3))); break;
    case 27:
    case 28: game.check_leaves(first, size); break;
    case 29:
        if (numbers.below(64) == 0) {
            game.retire();
        } else {
            game.map(first, 4096, numbers.output(first), choice, largest);
            game.unmap(first, 4096);
        }
        break;
    default: {
        for (std::uint64_t i = 0; i < 8; ++i) {
            game.touch(first + numbers.below(64) * 4096,
                       static_cast<access_kind>(numbers.below(3)));
            game.touch(first + numbers.below(size + 1), access_kind::write);
        }
        break;
    }
    }
    for (const std::uint64_t probe :
         {first, first - 1, first + size - 1, first + size, first + numbers.below(size + 1)}) {
        game.check_address(probe);
    }
    game.touch(first, static_cast<access_kind>(numbers.below(3)));
}

} // namespace paging_model
