// SPDX-License-Identifier: BSL-1.0
#include "../interrupts.hpp"
#include "../link.hpp"
#include "../output.hpp"
#include "../steps.hpp"

#include "../../../kernel/command_line.hpp"

namespace guest {
namespace {

constexpr std::uint64_t until_asked_again = 20 * millisecond;
constexpr std::uint64_t until_alone = 60 * second; ///< the other one may start much later
constexpr std::uint64_t until_gone = 2 * second;

unsigned nibble(char digit) {
    return digit >= '0' && digit <= '9'   ? static_cast<unsigned>(digit - '0')
           : digit >= 'a' && digit <= 'f' ? static_cast<unsigned>(digit - 'a') + 10
           : digit >= 'A' && digit <= 'F' ? static_cast<unsigned>(digit - 'A') + 10
                                          : 16;
}

/// "52:54:00:12:34:57" of the word peer=; everybody, if there is none.
mac_address peer_told() {
    const char* text = kernel::told_after("peer=");
    mac_address peer = everybody;
    for (unsigned i = 0; text != nullptr && i != 6; ++i, text += 3) {
        const unsigned high = nibble(text[0]);
        const unsigned low = high < 16 ? nibble(text[1]) : 16;
        if (low > 15 || (i != 5 && text[2] != ':')) {
            tell("peer= is no address");
            return everybody;
        }
        peer.bytes[i] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return peer;
}

/// The length of frame n, both ways: from the shortest to the longest.
std::uint32_t length_of(std::uint32_t number) {
    return shortest_frame + number * 197 % (longest_frame - shortest_frame + 1);
}

struct exchange {
    link& rings;
    mac_address own;
    mac_address peer;
    std::uint32_t count;
};

void ask(const exchange& with) {
    std::uint32_t answered = 0;
    std::uint32_t asked_again = 0;
    bool all_right = true;
    for (std::uint32_t number = 0; number != with.count; ++number) {
        clock time;
        bool here = false;
        const auto look = [&] {
            with.rings.receive([&](const seen_frame& frame) {
                if (frame.kind == frame_kind::answer && frame.number == number &&
                    (with.peer == everybody || frame.source == with.peer)) {
                    here = true;
                    all_right = all_right && frame.is_right;
                }
            });
            static_cast<void>(with.rings.sent());
            return here;
        };
        const std::uint64_t begun = time.now();
        bool first = true;
        while (!here && time.now() - begun < until_alone) {
            asked_again += first ? 0 : 1;
            first = false;
            static_cast<void>(
                with.rings.send({with.peer, with.own, frame_kind::question, number, "question"},
                                length_of(number)));
            static_cast<void>(wait_until(look, until_asked_again));
        }
        if (!here) {
            break;
        }
        ++answered;
    }
    check_equal(answered, with.count, "each question got its answer");
    check(all_right, "and each answer was right, byte for byte");
    tell("asked again ", decimal{asked_again}, " times");
    for (unsigned i = 0; i != 3; ++i) {
        static_cast<void>(
            with.rings.send({with.peer, with.own, frame_kind::done, with.count, "done"}));
    }
    check(with.rings.wait_until_sent(), "and it said that it is done");
}

void answer(const exchange& with) {
    clock time;
    std::uint32_t answered = 0; ///< questions come in order
    bool all_right = true;
    bool done = false;
    std::uint64_t last_heard = time.now();
    const auto look = [&] {
        with.rings.receive([&](const seen_frame& frame) {
            if (with.peer != everybody && !(frame.source == with.peer)) {
                return;
            }
            last_heard = time.now();
            done = done || frame.kind == frame_kind::done;
            if (frame.kind == frame_kind::question) {
                all_right = all_right && frame.is_right;
                answered += frame.number == answered ? 1 : 0;
                static_cast<void>(with.rings.send(
                    {frame.source, with.own, frame_kind::answer, frame.number, "answer"},
                    length_of(frame.number)));
            }
        });
        static_cast<void>(with.rings.sent());
        return done;
    };
    while (!done) {
        const std::uint64_t silence = time.now() - last_heard;
        if (silence > (answered >= with.count ? until_gone : until_alone)) {
            break;
        }
        static_cast<void>(wait_until(look, 100 * millisecond));
    }
    check_equal(answered, with.count, "each question was asked, and answered");
    check(all_right, "and each was right, byte for byte");
    static_cast<void>(with.rings.wait_until_sent());
}

} // namespace

void exchange_frames(nic& device) {
    const bool asks = kernel::told("role=sender");
    step(asks ? "Frames with another machine: this one asks"
              : "Frames with another machine: this one answers");
    if (!check(device.bring_up(), "the NIC is reset, and its link set up")) {
        return;
    }
    const mac_address own = device.address();
    const mac_address peer = peer_told();
    tell("here is ", own, ", there is ", peer);
    link rings{device};
    if (!check(rings.start(), "its rings start") ||
        !check(device.use(device.best_kind(), nic_vector), "its interrupts are on, by ",
               name(device.best_kind()))) {
        return;
    }
    const exchange with{
        rings, own, peer,
        static_cast<std::uint32_t>(kernel::number_told("frames=").value_or(std::uint64_t{16}))};
    forget_interrupts();
    asks ? ask(with) : answer(with);
    check(taken_in_all() != 0, "the NIC's interrupts arrived");
    rings.stop();
    check(device.shut_down(), "it is shut down");
}

} // namespace guest
