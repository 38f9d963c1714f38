// SPDX-License-Identifier: BSL-1.0
// What a guest, its memory and a slow backend can do to the device's side of transmission.
#include "pt/e1000e/tx_engine.hpp"

#include "tx_engine_rig.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace {

using namespace tx_engine_test;
using pt::errc;
using pt::e1000e::tx_budget;
using pt::e1000e::tx_step;
using pt::e1000e::tx_stop;
using finished = stream::finished;

constexpr std::size_t small_capacity = 1600;

/// Posts packets of every kind, right and wrong ones; the first two bytes of each are its number.
void post_traffic(rig& guest, dice& random, unsigned packets) {
    guest.nic.write(CTRL, VME);
    for (unsigned number = 0; number != packets; ++number) {
        const auto mark = [&](bytes data) {
            data[0] = static_cast<byte>(number >> 8);
            data[1] = static_cast<byte>(number);
            return data;
        };
        const auto flags = [&] {
            return (random.one_in(2) ? RS : 0) | (random.one_in(3) ? IDE : 0) |
                   (random.one_in(3) ? VLE | special(random.below(65536)) : 0);
        };
        const std::uint64_t end = random.one_in(3) ? EOP : END;
        stream s = any_stream(random);
        s.tcp_options.resize(s.tcp_options.size() % 12);
        s.ip_options.resize(s.v4 ? s.ip_options.size() % 12 : 0);
        s.ethernet = mark(s.ethernet);
        const bytes payload = random.some(1 + random.below(900));
        switch (random.below(8)) {
        case 0:
            send_in_pieces(guest, random, mark(random.some(2 + random.below(1500))), 4, flags(),
                           static_cast<std::uint64_t>(random.below(256)) << 40,
                           end | IC | static_cast<std::uint64_t>(random.below(256)) << 16);
            break;
        case 1:
            guest.post(s.context_offsets(), context(s.context_flags() | (flags() & (RS | IDE))));
            send_in_pieces(guest, random, s.frame(payload, finished::none), 4, DATA | flags(),
                           s.options(), end);
            break;
        case 2: // PAYLEN does not always fit
            guest.post(s.context_offsets(),
                       context(s.context_flags() | TSE,
                               payload.size() + random.below(3) * 40 - (random.one_in(3) ? 1 : 0),
                               s.header_length(), 1 + random.below(300)));
            send_in_pieces(guest, random, s.frame(payload, finished::none, true), 4,
                           DATA | TSE | flags(), s.options(), end);
            break;
        case 3: // cannot be segmented
            guest.post(s.context_offsets(),
                       context(s.context_flags() | TSE, 100, random.one_in(2) ? 0 : 250, 100));
            send_in_pieces(guest, random, s.frame(payload, finished::none, true), 4,
                           DATA | TSE | flags(), 0, end);
            break;
        case 4: // too long
            send_in_pieces(guest, random, mark(random.some(1700)), 4, flags(), 0, end);
            break;
        case 5: // not all of it can be read
            guest.send(mark(random.some(100)), flags());
            guest.post(rig::memory_size - 10, flags() | 50);
            guest.post(~std::uint64_t{0} - 5, flags() | end | 50);
            break;
        case 6: guest.post(0, flags() | end | 100); break;
        default: guest.post(1, flags() | DEXT | std::uint64_t{7} << 20); break;
        }
    }
}

struct outcome {
    std::vector<bytes> frames;
    bytes memory;
    std::uint32_t descriptors, taken, dropped, malformed, causes;
    bool delayed;

    explicit outcome(const rig& guest)
        : frames{guest.frames},
          memory{guest.memory},
          descriptors{guest.total.descriptors},
          taken{guest.total.frames},
          dropped{guest.total.dropped},
          malformed{guest.total.malformed},
          causes{guest.total.causes.raw},
          delayed{guest.total.delayed_write_back} {}
    friend bool operator==(const outcome&, const outcome&) = default;
};

TEST_CASE("frames, write-backs and causes do not depend on the budgets, nor on a sink that refuses",
          "[e1000e]") {
    for (unsigned seed = 0; seed != 12; ++seed) {
        std::unique_ptr<outcome> expected;
        for (unsigned way = 0; way != 6; ++way) {
            dice random{100 + seed};
            const auto guest = std::make_unique<rig>(512, small_capacity);
            post_traffic(*guest, random, 80);
            guest->doorbell();
            dice timing{seed};
            const auto budget = [&]() -> tx_budget {
                switch (way) {
                case 0: return {1U << 20, 1U << 20};
                case 1: return {1, 1};
                case 2: return {1, 1U << 20};
                case 3: return {1U << 20, 1};
                default: return {timing.below(4), timing.below(4)};
                }
            };
            unsigned steps = 0;
            do {
                const tx_budget most = budget();
                const tx_step done =
                    guest->step(most, [&] { return way >= 4 && timing.one_in(way == 4 ? 3 : 2); });
                REQUIRE(done.descriptors <= most.descriptors);
                REQUIRE(done.frames <= most.frames);
                REQUIRE(done.why != tx_stop::memory_fault);
                REQUIRE(guest->nic.has_work() == (done.why != tx_stop::idle));
                REQUIRE(++steps < 100000);
            } while (guest->total.why != tx_stop::idle);
            REQUIRE(guest->nic.read(TDH) == guest->tail);
            if (way == 0) {
                expected = std::make_unique<outcome>(*guest);
                REQUIRE(expected->frames.size() > 20);
                REQUIRE(expected->dropped > 5);
                REQUIRE(expected->malformed > 0);
            } else {
                REQUIRE((outcome{*guest} == *expected));
            }
        }
    }
}

TEST_CASE("any access may fail once: a descriptor's is tried again, a buffer's costs its packet",
          "[e1000e]") {
    for (unsigned seed = 0; seed != 3; ++seed) {
        const auto make = [&] {
            dice random{200 + seed};
            auto guest = std::make_unique<rig>(256, small_capacity);
            post_traffic(*guest, random, 25);
            guest->doorbell();
            return guest;
        };
        const auto reference = make();
        reference->step();
        const outcome expected{*reference};
        unsigned retried = 0;
        unsigned lost = 0;
        for (std::uint64_t n = 0; n != reference->guest.accesses; ++n) {
            const auto guest = make();
            guest->guest.fail_at = n;
            const tx_step first = guest->step();
            if (first.why == tx_stop::memory_fault) {
                ++retried;
                REQUIRE(first.descriptors == guest->nic.read(TDH));
                if (first.dropped == 0) { // else `fault` is of the first packet that was dropped
                    // The descriptor at the head, or its status
                    const std::uint64_t at = guest->ring + 16ULL * guest->nic.read(TDH);
                    const std::uint64_t where = first.fault.where;
                    REQUIRE(first.fault.code == errc::not_mapped);
                    REQUIRE((where == at || where == at + 12));
                }
                REQUIRE(guest->step().why == tx_stop::idle);
                REQUIRE((outcome{*guest} == expected));
                REQUIRE(guest->guest.accesses == reference->guest.accesses + 1);
                continue;
            }
            REQUIRE(first.why == tx_stop::idle);
            REQUIRE(guest->memory == expected.memory);
            REQUIRE(guest->total.causes.raw == expected.causes);
            if (guest->frames == expected.frames) {
                continue; // it would have failed or been dropped anyhow
            }
            ++lost;
            REQUIRE(guest->total.dropped == expected.dropped + 1);
            std::size_t from = 0;
            while (from != guest->frames.size() && guest->frames[from] == expected.frames[from]) {
                ++from;
            }
            const std::size_t missing = expected.frames.size() - guest->frames.size();
            for (std::size_t i = from; i != guest->frames.size(); ++i) {
                REQUIRE(guest->frames[i] == expected.frames[i + missing]);
            }
            for (std::size_t i = from; i != from + missing; ++i) { // of one packet
                REQUIRE(part(expected.frames[i], 0, 2) == part(expected.frames[from], 0, 2));
            }
        }
        REQUIRE(retried > 50);
        REQUIRE(lost > 10);
    }
}

TEST_CASE("a refused frame comes again, and the head waits", "[e1000e]") {
    rig guest;
    guest.send(bytes(100, 7), END | RS);
    guest.send(bytes(100, 8), END | RS);
    guest.doorbell();
    for (unsigned i = 0; i != 3; ++i) {
        unsigned offered = 0;
        const auto done = guest.step({}, [&] { return ++offered != 0; });
        REQUIRE(done.why == tx_stop::refused);
        REQUIRE(offered == 1);
        REQUIRE(done.frames == 0);
        REQUIRE(guest.nic.read(TDH) == 0);
        REQUIRE(!guest.is_done(0));
    }
    REQUIRE(guest.guest.reads == 2);
    guest.nic.write(TDT, 0); // a tail that goes back does not take the frame away
    REQUIRE(guest.nic.has_work());
    guest.doorbell();
    guest.step();
    REQUIRE(guest.frames == std::vector<bytes>{bytes(100, 7), bytes(100, 8)});
}

TEST_CASE("a packet must fit in the buffer with a tag; one that does not is not read further",
          "[e1000e]") {
    for (const std::size_t capacity : {64U, 100U, 1522U}) {
        for (const bool fits : {true, false}) {
            for (const bool in_pieces : {true, false}) {
                rig guest{64, capacity};
                guest.nic.write(CTRL, VME);
                const std::size_t size = capacity - 4 + (fits ? 0 : 1);
                const bytes data(size, 9);
                if (in_pieces) {
                    guest.send(part(data, 0, size - 1), 0);
                    guest.send(part(data, size - 1, 1), END | VLE | special(0x1234));
                } else {
                    guest.send(data, END | VLE | special(0x1234));
                }
                guest.run();
                if (fits) {
                    REQUIRE(guest.frames == std::vector<bytes>{tagged(data, 0x8100, 0x1234)});
                    REQUIRE(guest.total.fault.code == errc::none);
                } else {
                    REQUIRE(guest.frames.empty());
                    REQUIRE(guest.total.dropped == 1);
                    REQUIRE(guest.total.fault ==
                            pt::error{errc::out_of_range, guest.ring + (in_pieces ? 16U : 0U)});
                    REQUIRE(guest.guest.read_bytes == (in_pieces ? 32 + size - 1 : 16));
                }
                REQUIRE(guest.nic.read(TDH) == guest.tail);
            }
        }
    }
}

TEST_CASE("a packet that never ends is consumed and costs nothing once it is too long",
          "[e1000e][rule 24]") {
    rig guest{64, 2000};
    std::uint64_t posted = 0;
    for (unsigned turn = 0; turn != 200; ++turn) {
        for (unsigned i = 0; i != 60; ++i, ++posted) {
            guest.post(0x20'0000, (turn % 2 == 0 ? DATA : 0) | RS | 60000);
        }
        REQUIRE(guest.run().why == tx_stop::idle);
    }
    REQUIRE(guest.frames.empty());
    REQUIRE(guest.total.dropped == 1);
    REQUIRE(guest.guest.reads == posted);
    REQUIRE(guest.guest.read_bytes == 16 * posted);
    REQUIRE(guest.total.descriptors == posted);
    guest.post(0x20'0000, END | 100); // its end
    guest.send(bytes(100, 3), END);
    guest.run();
    REQUIRE(guest.frames == std::vector<bytes>{bytes(100, 3)});
}

TEST_CASE("a ring that is none is not touched", "[e1000e][rule 24]") {
    struct ring {
        std::uint64_t base;
        std::uint32_t length, head, tail;
    };
    for (const ring& r :
         {ring{0x1000, 0, 0, 0}, ring{0x1000, 0, 0, 5}, ring{0x1000, 127, 0, 1},
          ring{0x1000, 128, 8, 0}, ring{0x1000, 128, 0, 8}, ring{0x1000, 128, 0xFFFF, 0xFFFF},
          ring{0xFFFF'FFFF'FFFF'FFF0, 128, 0, 1}}) {
        rig guest;
        guest.nic.write(TCTL, 0);
        guest.nic.write(TDBAL, static_cast<std::uint32_t>(r.base));
        guest.nic.write(TDBAH, static_cast<std::uint32_t>(r.base >> 32));
        guest.nic.write(TDLEN, r.length);
        guest.nic.write(TDH, r.head);
        guest.nic.write(TDT, r.tail);
        guest.nic.write(TCTL, EN);
        REQUIRE(guest.step().why == tx_stop::bad_ring);
        REQUIRE(guest.guest.accesses == 0);
        REQUIRE(!guest.nic.has_work());
        REQUIRE(guest.nic.read(TDH) == r.head);
    }
}

TEST_CASE("a ring and buffers at the very end of the address space; a buffer that runs past it",
          "[e1000e]") {
    bytes memory(4096);
    bytes buffer(256);
    constexpr std::uint64_t base = ~std::uint64_t{0} - 4095;
    space guest{memory.data(), base, 4096};
    engine nic{bus{&guest}, buffer.data(), buffer.size()};
    constexpr std::uint64_t ring = base + 4096 - 128;
    nic.write(TDBAL, static_cast<std::uint32_t>(ring));
    nic.write(TDBAH, static_cast<std::uint32_t>(ring >> 32));
    nic.write(TDLEN, 128);
    nic.write(TCTL, EN);
    nic.write(TDH, 0);
    byte* const at = memory.data() + 4096 - 128;
    put64(at, ~std::uint64_t{0} - 63); // the last 64 bytes: half of the ring itself
    put64(at + 8, END | RS | 64);
    put64(at + 16, ~std::uint64_t{0} - 63);
    put64(at + 24, END | RS | 65);
    put64(at + 32, offsets(0, 0, 0, 0, 0, 0));
    put64(at + 40, context(TSE, 40, 20, 20));
    put64(at + 48, ~std::uint64_t{0} - 59);
    put64(at + 56, DATA | TSE | END | RS | 60);
    put64(at + 64, ~std::uint64_t{0} - 59);
    put64(at + 72, DATA | TSE | END | RS | 61);
    nic.write(TDT, 5);
    std::vector<std::size_t> lengths;
    const auto done = nic.step({}, [&](const byte*, std::size_t length) {
        lengths.push_back(length);
        return true;
    });
    REQUIRE(done.why == tx_stop::idle);
    REQUIRE(lengths == std::vector<std::size_t>{64, 40, 40});
    REQUIRE(done.dropped == 2);
    REQUIRE(done.fault == pt::error{errc::malformed, ring + 16});
}

TEST_CASE("arbitrary registers and rings: bounded work, and nothing outside", "[e1000e]") {
    dice random{30};
    bytes memory(1 << 16);
    for (unsigned turn = 0; turn != 4000; ++turn) {
        const std::size_t capacity = 64 + random.below(2000);
        // Canaries on both sides of the engine's buffer
        bytes all(capacity + 32, 0xC5);
        const std::uint64_t base =
            random.one_in(4) ? ~std::uint64_t{0} - 0xFFFF : std::uint64_t{random.below(3)} << 31;
        space guest{memory.data(), base, memory.size()};
        engine nic{bus{&guest}, all.data() + 16, capacity};
        const std::uint64_t ring = base + random.below(1 << 16);
        nic.write(TDBAL, static_cast<std::uint32_t>(ring));
        nic.write(TDBAH, static_cast<std::uint32_t>(ring >> 32));
        const std::uint32_t count = 8 * (1 + random.below(random.one_in(20) ? 8191 : 8));
        nic.write(TDLEN, count * 16);
        nic.write(TDH, random.below(random.one_in(20) ? 65536 : count));
        nic.write(TDT, random.below(random.one_in(20) ? 65536 : count));
        nic.write(TCTL, EN | static_cast<std::uint32_t>(random.engine()));
        nic.write(CTRL, random.one_in(2) ? VME : 0);
        nic.write(TXDCTL, static_cast<std::uint32_t>(random.engine()));
        for (std::size_t at = 0; at + 16 <= memory.size(); at += 16) {
            if (random.one_in(8) || turn == 0) {
                const std::uint64_t address =
                    random.one_in(8)
                        ? (static_cast<std::uint64_t>(random.engine()) << 32 | random.engine())
                        : base + random.below(1 << 16);
                std::uint64_t high = static_cast<std::uint64_t>(random.engine()) << 32 |
                                     (random.engine() & 0xFF00'03FF);
                high |= static_cast<std::uint64_t>(random.below(3)) << 20;
                put64(&memory[at], address);
                put64(&memory[at + 8], high);
            }
        }
        std::uint64_t progress = 0;
        for (unsigned steps = 0; steps != 50; ++steps) {
            const tx_budget budget{random.below(6), random.below(6)};
            const std::uint64_t before = guest.read_bytes;
            const std::uint64_t accesses = guest.accesses;
            const auto done = nic.step(budget, [&](const byte* frame, std::size_t length) {
                REQUIRE(frame >= all.data() + 16);
                REQUIRE(frame + length <= all.data() + 16 + capacity);
                REQUIRE(length != 0);
                return !random.one_in(5);
            });
            const std::uint64_t units = budget.descriptors + budget.frames + 1;
            REQUIRE(done.descriptors <= budget.descriptors);
            REQUIRE(done.frames <= budget.frames);
            REQUIRE(guest.read_bytes - before <= 16 * units + units * (capacity + 240));
            REQUIRE(guest.accesses - accesses <= 4 * units);
            REQUIRE(guest.written_bytes == guest.writes);
            progress += done.descriptors;
            if (done.why == tx_stop::bad_ring || done.why == tx_stop::disabled ||
                done.why == tx_stop::idle) {
                break;
            }
        }
        REQUIRE(progress < 65536);
        for (std::size_t i = 0; i != 16; ++i) {
            REQUIRE(all[i] == 0xC5);
            REQUIRE(all[all.size() - 1 - i] == 0xC5);
        }
    }
}

/// Memory that another processor of the guest rewrites between any two accesses.
struct changing_bus {
    space* guest;
    dice* random;

    void scribble() {
        for (unsigned i = 0; i != 24; ++i) {
            guest->memory[random->below(guest->size)] = static_cast<byte>(random->below(256));
        }
    }
    pt::result<> read(pt::iova at, byte* to, std::size_t count) {
        scribble();
        return bus{guest}.read(at, to, count);
    }
    pt::result<> write(pt::iova at, const byte* from, std::size_t count) {
        scribble();
        return bus{guest}.write(at, from, count);
    }
};

TEST_CASE("a ring that changes between any two accesses: each descriptor is read once",
          "[e1000e]") {
    dice random{31};
    bytes memory = random.some(1 << 12);
    const std::size_t capacity = 700;
    bytes all(capacity + 32, 0xC5);
    space guest{memory.data(), 0, memory.size()};
    pt::e1000e::tx_engine<changing_bus> nic{changing_bus{&guest, &random}, all.data() + 16,
                                            capacity};
    nic.write(TDLEN, 8 * 16);
    nic.write(TCTL, EN | PSP);
    nic.write(CTRL, VME);
    std::uint64_t frames = 0;
    std::uint64_t done_descriptors = 0;
    for (unsigned turn = 0; turn != 100000; ++turn) {
        nic.write(TDT, random.below(8));
        // The kinds that arbitrary bytes seldom are
        byte* const next = memory.data() + nic.read(TDH) * 16;
        put64(next, random.below(1 << 12));
        next[8] = static_cast<byte>(random.below(256));
        next[9] = static_cast<byte>(random.below(4));
        next[10] = static_cast<byte>(random.below(2) << 4);
        next[11] = static_cast<byte>(random.below(256));
        const auto done = nic.step({4, 4}, [&](const byte* frame, std::size_t length) {
            REQUIRE((frame >= all.data() + 16 && frame + length <= all.data() + 16 + capacity));
            return !random.one_in(5);
        });
        REQUIRE(done.why != tx_stop::memory_fault);
        frames += done.frames;
        done_descriptors += done.descriptors;
        for (std::size_t i = 0; i != 16; ++i) {
            if (all[i] != 0xC5 || all[all.size() - 1 - i] != 0xC5) {
                FAIL("the engine wrote beside its buffer");
            }
        }
    }
    REQUIRE(frames > 1000);
    REQUIRE(done_descriptors > 100000);
}

TEST_CASE("a budget of nothing does nothing", "[e1000e]") {
    rig guest;
    guest.send(bytes(100, 1), END);
    guest.doorbell();
    REQUIRE(guest.step({0, 10}).why == tx_stop::budget);
    REQUIRE(guest.guest.accesses == 0);
    REQUIRE(guest.step({10, 0}).why == tx_stop::budget);
    REQUIRE(guest.frames.empty());
    REQUIRE(guest.step({1, 1}).frames == 1);
}

} // namespace
