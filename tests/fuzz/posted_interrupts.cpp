// SPDX-License-Identifier: BSL-1.0
//
// A posted-interrupt descriptor and an inbox whose bytes may be anything (hardware, another agent
// or a broken one has written them), under arbitrary posts, harvests, suppressions and moves. The
// oracle is one set of bits and two flags: no vector is lost, invented or taken twice, a
// notification is asked for when [vt-d] says so, and bits that are not the call's stay as they are.
#include "reader.hpp"

#include "pt/lapic/inbox.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/posted_interrupt_descriptor.hpp"

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {

using namespace pt::lapic;

using fuzz::demand;
using fuzz::reader;

std::bitset<256> bits_of(const std::uint64_t* words) {
    std::bitset<256> bits;
    for (unsigned i = 0; i < 256; ++i) {
        bits[i] = (words[i / 64] >> i % 64 & 1) != 0;
    }
    return bits;
}

/// The control word by the figure in [vt-d]: ON is bit 256 of the descriptor, SN bit 257, NV
/// 279:272, NDST 319:288.
constexpr std::uint64_t on = 1;
constexpr std::uint64_t sn = 2;

void descriptor_alone(reader& input) {
    const auto descriptor = std::make_unique<posted_interrupt_descriptor>();
    std::uint8_t raw[64];
    for (std::uint8_t& one : raw) {
        one = input.byte();
    }
    std::memcpy(descriptor.get(), raw, sizeof raw);
    std::uint64_t words[8];
    std::memcpy(words, raw, sizeof raw);
    std::bitset<256> waiting = bits_of(words);
    std::uint64_t control = words[4];

    while (input.left != 0) {
        switch (input.byte() % 8) {
        case 0:
        case 1: {
            const std::uint8_t vector = input.byte();
            const bool tells = (control & (on | sn)) == 0;
            waiting.set(vector);
            control |= tells ? on : 0;
            demand((descriptor->post(vector) == notification::by_vector) == tells);
            break;
        }
        case 2: {
            const bool tells = (control & (on | sn)) == 0;
            control |= tells ? on : 0;
            demand((descriptor->notify() == notification::by_vector) == tells);
            break;
        }
        case 3: {
            const posted_vectors taken = descriptor->harvest();
            demand(bits_of(taken.words) == waiting && taken.empty() == waiting.none());
            waiting.reset();
            control &= ~on;
            break;
        }
        case 4:
            descriptor->suppress();
            control |= sn;
            break;
        case 5: {
            control &= ~sn;
            const bool must_look = waiting.any() || (control & on) != 0;
            control |= waiting.any() ? on : 0;
            demand(descriptor->unsuppress() == must_look);
            break;
        }
        case 6: {
            const std::uint8_t vector = input.byte();
            const auto destination = static_cast<std::uint32_t>(input.number(4));
            demand(descriptor->retarget({vector, destination}) == ((control & on) != 0));
            control = (control & 0xFF00'FFFF) | std::uint64_t{vector} << 16 |
                      std::uint64_t{destination} << 32;
            demand(descriptor->target() == notification_target{vector, destination});
            break;
        }
        case 7: { // hardware, or whoever: one bit of the first 320
            const unsigned bit = static_cast<unsigned>(input.number(2)) % 320;
            (bit < 256 ? descriptor->requests[bit / 64] : descriptor->control_word) ^=
                std::uint64_t{1} << bit % 64;
            if (bit < 256) {
                waiting.flip(bit);
            } else {
                control ^= std::uint64_t{1} << bit % 64;
            }
            break;
        }
        }
        demand(descriptor->control_word == control);
        demand(bits_of(descriptor->requests) == waiting);
        demand(descriptor->may_hold_vectors() == ((control & (on | sn)) != 0));
        demand(std::memcmp(descriptor->reserved_320, raw + 40, 24) == 0);
    }
}

/// Whatever the words of an inbox are, a harvest takes them all, at once, and yields what can be.
void inbox_of_bytes(reader& input) {
    const auto box = std::make_unique<inbox>();
    for (std::uint64_t& word : box->posted.requests) {
        word = input.number(8);
    }
    box->posted.control_word = input.number(8);
    for (std::uint64_t& word : box->level) {
        word = input.number(8);
    }
    box->signals = input.number(8);
    box->addressing = input.number(8);
    const auto page = std::make_unique<register_page>();
    page->ppr.raw = static_cast<std::uint32_t>(input.number(4));
    box->page = page.get();

    for (unsigned turn = 0; turn < 4; ++turn) {
        const std::uint64_t addressing = box->addressing;
        message sent{.delivery = static_cast<delivery_mode>(input.byte() & 7),
                     .vector = input.byte(),
                     .trigger = static_cast<trigger_mode>(input.byte() & 1),
                     .to = static_cast<shorthand>(input.byte() & 3),
                     .mode = static_cast<destination_mode>(input.byte() & 1),
                     .format = static_cast<destination_format>(input.byte() & 1),
                     .destination = static_cast<std::uint32_t>(input.number(4))};
        const std::bitset<256> edge_before = bits_of(box->posted.requests);
        const std::bitset<256> level_before = bits_of(box->level);
        (void)box->matches(sent);
        demand(box->priority() == (page->ppr.raw & 0xFF));
        (void)box->post(sent);
        // At most the one bit of one set.
        const std::bitset<256> edge = bits_of(box->posted.requests) ^ edge_before;
        const std::bitset<256> level = bits_of(box->level) ^ level_before;
        demand(edge.count() + level.count() <= 1);
        demand((edge | level).none() || ((edge | level)[sent.vector] && sent.vector >= 16 &&
                                         (sent.delivery == delivery_mode::fixed ||
                                          sent.delivery == delivery_mode::lowest_priority) &&
                                         level.any() == (sent.trigger == trigger_mode::level)));
        demand(box->addressing == addressing);
    }
    const std::bitset<256> legal = ~std::bitset<256>{0xFFFF};
    const std::bitset<256> edge = bits_of(box->posted.requests);
    const arrivals found = box->harvest();
    demand((bits_of(found.edge.words) & legal) == (edge & legal));
    demand(bits_of(box->posted.requests).none());
    demand((box->posted.control_word & on) == 0);
    const arrivals again = box->harvest();
    demand(again.edge.empty() && again.level.empty());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    reader input{bytes, size};
    if (input.byte() % 4 != 0) {
        descriptor_alone(input);
    } else {
        inbox_of_bytes(input);
    }
    return 0;
}
