// SPDX-License-Identifier: BSL-1.0
#include "../../paging_model/contract.hpp"
#include "../../vtd_model/fake_unit.hpp"

#include "pt/vtd/invalidation_queue.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace {

using pt::errc;
using pt::error;
using pt::hpa;
using pt::iova;
using pt::result;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
namespace invalidate = pt::vtd::invalidate;
using pt::vtd::invalidation_descriptor;

// FSTS
constexpr u32 IQE = 1U << 4;
constexpr u32 ICE = 1U << 5;
constexpr u32 ITE = 1U << 6;
// GCMD and GSTS
constexpr u32 TES = 1U << 31;
constexpr u32 WBF = 1U << 27;
constexpr u32 QIE = 1U << 26;

constexpr u64 one_page = u64{1} << 39 | u64{18} << 48 | u64{3} << 54 | 2 << 8 | u64{0x22} << 24;
constexpr u64 queued = 0xF0 << 4 | 1 << 1;
constexpr u64 scalable = u64{1} << 43;
constexpr std::uint16_t slow_device = 0x0428;

/// The queue's side of a unit, from the manual's text alone ("Queued Invalidation Interface"), with
/// plain numbers. It works when somebody looks at a register or at the clock, and blames what the
/// manual forbids.
struct machine {
    static constexpr u64 base = 0x4000'0000;
    static constexpr std::size_t frames = 3;

    u64 memory[frames * 512]{};
    u64 shadow[512]{}; ///< the queue as it was when the unit was told of it
    bool used[frames]{};
    std::size_t limit = frames;

    u64 cap = one_page;
    u64 ecap = queued;
    u32 gsts = TES;
    u32 fsts = 0;
    u32 ics = 0;
    u64 iqh = 0;
    u64 iqt = 0;
    u64 iqa = 0;
    u64 iqercd = 0;
    u64 iotlb = 0;
    u32 pending_gcmd = 0;
    bool has_gcmd = false;

    u64 time = 0;
    u64 tick = 1'000'000;
    unsigned accesses = 0;
    unsigned vanish_at = 0;
    bool gone = false;
    bool deaf = false; ///< GCMD is not carried out

    bool paused = false;       ///< takes nothing from the queue
    bool holds_status = false; ///< status writes are under way for long
    unsigned fetched = 0;      ///< descriptors so far
    unsigned refuse_at = 0;    ///< the fetch, counted from 1, that is an IQE
    unsigned time_out_at = 0;  ///< the one at which there is an ITE; if a wait, it is dropped
    unsigned confuse_at = 0;   ///< the one at which there is an ICE
    bool refuses_waits = false;
    bool names_devices = true;
    u64 false_head = ~u64{0} - 1; ///< what IQH says instead

    struct status_write {
        u64 where;
        u32 data;
    };
    status_write held[512]{};
    std::size_t held_count = 0;

    std::size_t done_count = 0;
    u64 done[4096][2]{}; ///< descriptors that were carried out, waits apart
    unsigned waits = 0;
    unsigned wraps = 0; ///< how often the data of a wait was below the last one's
    u32 last_data = 0;
    unsigned tail_writes = 0;
    unsigned head_reads = 0;
    unsigned events = 0;
    bool context_open = false; ///< a context-cache invalidation may be under way
    unsigned flushes = 0;
    u64 stray_writes = 0;

    u32 journal[64]{}; ///< register writes: the offsets
    std::size_t journal_count = 0;

    const char* violation = nullptr;
    constexpr void blame(const char* what) {
        if (violation == nullptr) {
            violation = what;
        }
    }

    [[nodiscard]] constexpr bool on() const { return (gsts & QIE) != 0; }
    [[nodiscard]] constexpr u64 step() const { return (iqa >> 11 & 1) != 0 ? 32 : 16; }
    constexpr u64& at(u64 address) { return memory[(address - base) / 8]; }

    constexpr void write_status(u64 where, u32 data) {
        if (where < base || where >= base + sizeof memory || where % 4 != 0) {
            blame("a status write outside memory");
            return;
        }
        if (!used[(where - base) / 4096]) {
            blame("a status write to memory that was given back");
        }
        u64& word = at(where);
        const unsigned shift = where % 8 * 8;
        word = (word & ~(u64{0xFFFF'FFFF} << shift)) | u64{data} << shift;
        if (where % 4096 != 0) {
            ++stray_writes;
        }
    }
    constexpr void deliver() {
        for (std::size_t i = 0; i < held_count; ++i) {
            write_status(held[i].where, held[i].data);
        }
        held_count = 0;
    }

    /// One descriptor.
    constexpr void step_once() {
        if (!on() || paused || gone || (fsts & (IQE | ITE)) != 0 || iqh == iqt) {
            return;
        }
        const u64 from = (iqa & ~u64{0xFFF}) + iqh;
        u64 word[4] = {at(from), at(from + 8), 0, 0};
        for (u64 i = 0; i < step() / 8; ++i) {
            word[i] = at(from + 8 * i);
            if (word[i] != shadow[iqh / 8 + i]) {
                blame("a descriptor was changed under the unit");
            }
        }
        ++fetched;
        const bool is_wait = (word[0] & 0xE0F) == 5;
        if (fetched == refuse_at || (is_wait && refuses_waits) || !sound(word)) {
            fsts |= IQE;
            if (fetched != refuse_at && !refuses_waits) {
                blame("a descriptor that no unit takes");
            }
            return;
        }
        if (fetched == confuse_at) {
            fsts |= ICE;
        }
        if (fetched == time_out_at) {
            fsts |= ITE;
            iqercd = names_devices ? u64{slow_device} << 32 : 0;
        }
        iqh = (iqh + step()) % 4096;
        if (is_wait) {
            if (fetched != time_out_at) {
                wait(word[0], word[1]);
            }
            return;
        }
        const u64 type = word[0] & 0xF;
        if (context_open && type != 4) {
            blame("an invalidation that must not begin before that of the context cache is over");
        }
        if (type == 1 || type == 7) {
            context_open = true;
        }
        if (done_count < 4096) {
            done[done_count][0] = word[0];
            done[done_count++][1] = word[1];
        }
    }
    constexpr void wait(u64 low, u64 high) {
        ++waits;
        if ((low & 0x40) != 0) {
            context_open = false;
        }
        if ((low & 0x20) != 0) {
            const auto data = static_cast<u32>(low >> 32);
            if ((low & 0x10) != 0) {
                blame("status and interrupt in one: QEMU stops");
            }
            if (high % 4096 == 0) {
                wraps += data < last_data ? 1 : 0;
                last_data = data;
            }
            if (holds_status) {
                held[held_count++] = {high, data};
            } else {
                write_status(high, data);
            }
        } else if ((low & 0x10) != 0) {
            events += ics == 0 ? 1 : 0;
            ics |= 1;
        } else {
            blame("a wait for nothing: QEMU stops");
        }
    }
    /// No reserved bit is set: the masks are those of QEMU.
    constexpr bool sound(const u64 (&word)[4]) const {
        constexpr u64 reserved[9][2] = {
            {~u64{0}, ~u64{0}},
            {0xFFFC'0000'0000'F1C0, ~u64{0}},
            {0xFFFF'FFFF'0000'F100, 0xF80},
            {0x000F'0000'FFE0'01F0, 0xFFE},
            {0xFFFF'0000'07FF'F1E0, ~u64{0}},
            {0x0000'0000'FFFF'F180, 3},
            {0xFFF0'0000'0000'F1C0, 0xF80},
            {0xFFF0'0000'0000'F1C0, ~u64{0}},
            {0x0000'0000'0000'0000, 0x7FE},
        };
        const u64 type = (word[0] >> 5 & 0x70) | (word[0] & 0xF);
        if (type == 0 || type > 8 || word[2] != 0 || word[3] != 0) {
            return false;
        }
        return (word[0] & reserved[type][0]) == 0 && (word[1] & reserved[type][1]) == 0;
    }

    constexpr bool touch() {
        if (++accesses == vanish_at) {
            gone = true;
        }
        step_once();
        return !gone;
    }

    constexpr u32 read32(u32 offset) {
        if (!touch()) {
            return ~u32{0};
        }
        switch (offset) {
        case 0x00: return 0x10;
        case 0x1C:
            if (has_gcmd && !deaf) {
                carry_out();
            }
            return gsts;
        case 0x34: return fsts;
        case 0x9C: return ics;
        default: blame("a 32-bit read of no such register"); return 0;
        }
    }
    constexpr u64 read64(u32 offset) {
        if (!touch()) {
            return ~u64{0};
        }
        switch (offset) {
        case 0x08: return cap;
        case 0x10: return ecap;
        case 0x28: return 0;
        case 0x80: ++head_reads; return false_head != ~u64{0} - 1 ? false_head : iqh;
        case 0x88: return iqt;
        case 0x90: return iqa;
        case 0xB0: return iqercd;
        case 0xF8: iotlb >>= 1; return iotlb;
        default: blame("a 64-bit read of no such register"); return 0;
        }
    }
    constexpr void write32(u32 offset, u32 value) {
        if (!touch()) {
            return;
        }
        note(offset);
        switch (offset) {
        case 0x18:
            if (has_gcmd && !deaf) {
                blame("an order before the last one was carried out");
            }
            if ((value & TES) == 0) {
                blame("translation was turned off");
            }
            has_gcmd = true;
            pending_gcmd = value;
            gsts |= value & WBF;
            return;
        case 0x34:
            if ((value & ~(IQE | ICE | ITE)) != 0) {
                blame("faults of others were cleared");
            }
            if ((value & fsts & IQE) != 0) {
                for (std::size_t i = 0; i < 512; ++i) {
                    // What has not been fetched may be changed now.
                    const bool pending = (i * 8 - iqh) % 4096 < (iqt - iqh) % 4096;
                    shadow[i] = pending ? memory[((iqa & ~u64{0xFFF}) - base) / 8 + i] : shadow[i];
                }
            }
            if ((value & ITE) != 0) {
                iqercd = ~u64{0}; // undefined from here on
            }
            fsts &= ~value;
            return;
        case 0x9C: ics &= ~value; return;
        default: blame("a 32-bit write to no such register");
        }
    }
    constexpr void write64(u32 offset, u64 value) {
        if (!touch()) {
            return;
        }
        note(offset);
        switch (offset) {
        case 0x88:
            if (value >= 4096 || value % step() != 0) {
                blame("a tail outside the queue");
                return;
            }
            if (on()) {
                ++tail_writes;
                if (gsts & WBF) {
                    blame("the tail before the write buffer was empty");
                }
                tell(value);
            }
            iqt = value;
            return;
        case 0x90:
            if (on()) {
                blame("the queue was moved while it was on");
            }
            if ((value & 0x7F8) != 0 || ((value & 0x800) != 0) != ((ecap & scalable) != 0)) {
                blame("IQA");
            }
            iqa = value;
            iqh = iqt = 0;
            return;
        default: blame("a 64-bit write to no such register");
        }
    }
    /// The tail moves: what was there already must be as it was.
    constexpr void tell(u64 tail) {
        const u64 queue = (iqa & ~u64{0xFFF}) - base;
        for (u64 i = 0; i < 4096; i += 8) {
            if ((i - iqh) % 4096 < (iqt - iqh) % 4096 && shadow[i / 8] != memory[(queue + i) / 8]) {
                blame("a descriptor was overwritten before the unit took it");
            }
            if ((i - iqt) % 4096 < (tail - iqt) % 4096) {
                shadow[i / 8] = memory[(queue + i) / 8];
            }
        }
        if ((tail - iqh) % 4096 < (iqt - iqh) % 4096) {
            blame("the tail went past the head");
        }
    }
    constexpr void carry_out() {
        has_gcmd = false;
        if ((gsts & WBF) != 0) {
            gsts &= ~WBF;
            ++flushes;
        }
        const u32 before = gsts;
        gsts = (gsts & ~QIE) | (pending_gcmd & QIE);
        if ((before & QIE) == 0 && on() && (iqh != 0 || iqt != 0)) {
            blame("turned on with a tail");
        }
        if ((before & QIE) != 0 && !on()) {
            if (iqh != iqt || held_count != 0) {
                blame("turned off before it was empty");
            }
            iqh = 0;
        }
    }
    constexpr void note(u32 offset) {
        if (journal_count < 64) {
            journal[journal_count++] = offset;
        }
    }
    /// Everything the registers held is lost, as in a sleep; memory stays.
    constexpr void lose_power() {
        gsts = fsts = ics = 0;
        gsts = TES;
        iqh = iqt = iqa = 0;
        held_count = 0;
        context_open = false;
    }
};

struct registers {
    machine* m;
    constexpr u32 read32(u32 offset) { return m->read32(offset); }
    constexpr u64 read64(u32 offset) { return m->read64(offset); }
    constexpr void write32(u32 offset, u32 value) { m->write32(offset, value); }
    constexpr void write64(u32 offset, u64 value) { m->write64(offset, value); }
};
struct stopwatch {
    machine* m;
    constexpr u64 now() {
        m->step_once();
        return m->time += m->tick;
    }
};
struct frames {
    machine* m;
    constexpr result<hpa> allocate(pt::frame_contents) {
        std::size_t f = 0;
        while (f < m->limit && m->used[f]) {
            ++f;
        }
        if (f >= m->limit) {
            return error{errc::out_of_frames, 0};
        }
        m->used[f] = true;
        return hpa{machine::base + f * 4096};
    }
    constexpr void release(hpa frame) {
        const std::size_t f = (frame.raw - machine::base) / 4096;
        if (m->on()) {
            m->blame("memory of the queue was given back while it was on");
        }
        if (!m->used[f]) {
            m->blame("given back twice");
        }
        m->used[f] = false;
    }
    constexpr u64* entries(hpa frame) { return m->memory + (frame.raw - machine::base) / 8; }
};

using window = pt::vtd::register_window<registers, stopwatch>;
using queue = pt::vtd::invalidation_queue<registers, stopwatch, frames>;

constexpr window window_of(machine& m) { return window::open({&m}, 4096, {&m}).value(); }
constexpr result<queue> created(machine& m) { return queue::create(window_of(m), {&m}); }

/// A queue that is on, and that goes away whatever happened to it.
struct running {
    result<queue> made;
    bool on;
    explicit constexpr running(machine& m) : made{created(m)}, on{made->start().has_value()} {
        m.journal_count = m.tail_writes = m.head_reads = 0;
    }
    running(const running&) = delete;
    running& operator=(const running&) = delete;
    constexpr ~running() { made->leak(); }
    constexpr queue* operator->() { return &*made; }
};

constexpr invalidation_descriptor page(u64 number) {
    return invalidate::iotlb(pt::vtd::capability{one_page}, 7, {iova{number << 12}, 0},
                             pt::vtd::invalidation_hint::leaves_only);
}
/// Whether page `number` was the n-th thing that the unit forgot.
constexpr bool forgot(const machine& m, std::size_t n, u64 number) {
    return n < m.done_count && m.done[n][0] == 0x0007'00F2 && m.done[n][1] == (number << 12 | 0x40);
}
constexpr error by_clock{errc::time_out, 0x80};
constexpr error by_device{errc::time_out, pt::vtd::names_device | slow_device};

TEST_CASE("a queue needs two frames and a unit that has one", "[vtd][rule 21]") {
    constexpr auto works = [] {
        machine m;
        m.ecap &= ~u64{2};
        bool ok = created(m).error() == error{errc::not_supported, 0x10};
        m.ecap |= 2;
        m.limit = 1;
        ok = ok && created(m).error().code == errc::out_of_frames && !m.used[0];
        m.limit = 2;
        auto made = created(m);
        ok = ok && made && m.used[0] && m.used[1] && m.journal_count == 0;
        ok = ok && made->submit(page(1)) == error{errc::refused, 0x1C} &&
             made->submit(invalidate::context_cache()).error().code == errc::refused;
        return ok && made->retire() && !m.used[0] && !m.used[1] && made->retire() &&
               made->submit(page(1)).error().code == errc::refused && m.violation == nullptr;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("start: tail, address and width, then on, and registers are idle before",
          "[vtd][rule 21]") {
    constexpr auto works = [] {
        bool ok = true;
        for (const u64 wide : {u64{0}, scalable}) {
            machine m;
            m.ecap |= wide;
            m.iotlb = ~u64{0};        // over after one look; see read64
            m.fsts = IQE | ITE | ICE; // left by somebody
            auto made = created(m);
            ok = ok && made->start() && m.iotlb >> 63 == 0 && m.on() && m.fsts == 0 &&
                 m.iqa == (machine::base | (wide != 0 ? 0x800 : 0)) && m.journal[0] == 0x88 &&
                 m.journal[1] == 0x90 && m.journal[2] == 0x34 && m.journal[3] == 0x18 &&
                 m.journal_count == 4;
            ok = ok && made->start() == error{errc::busy, 0x1C} &&
                 made->retire() == error{errc::busy, 0x1C};
            ok = ok && made->stop() && !m.on() && made->stop() && made->retire() &&
                 m.violation == nullptr;
        }
        return ok;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("a batch is one tail write, one wait, in order", "[vtd][rule 21]") {
    constexpr auto works = [] {
        bool ok = true;
        for (const u64 wide : {u64{0}, scalable}) {
            machine m;
            m.ecap |= wide;
            running q{m};
            for (u64 n = 0; n < 40; ++n) {
                ok = ok && q->submit(page(n));
            }
            ok = ok && m.tail_writes == 0 && m.journal_count == 0 && m.fetched == 0;
            ok = ok && q->complete() && m.tail_writes == 1 && m.waits == 1 && m.done_count == 40;
            for (u64 n = 0; n < 40; ++n) {
                ok = ok && forgot(m, n, n);
            }
            ok = ok && q->complete() && m.tail_writes == 1; // nothing more to do
            ok = ok && m.head_reads == 0 && m.stray_writes == 0;
            ok = ok && q->stop() && q->retire() && m.violation == nullptr;
        }
        return ok;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("start_pending lets the unit begin without waiting for it", "[vtd][rule 21]") {
    machine m;
    running q{m};
    REQUIRE(q->start_pending());
    CHECK(m.tail_writes == 0); // there is nothing
    REQUIRE(q->submit(page(1)));
    REQUIRE(q->start_pending());
    REQUIRE(q->start_pending());
    CHECK(m.tail_writes == 1);
    m.step_once();
    CHECK(forgot(m, 0, 1));
    CHECK(m.waits == 0);
    CHECK(m.violation == nullptr);
}

TEST_CASE("ring and count wrap, and nothing is lost or done twice", "[vtd][rule 21]") {
    for (const u64 wide : {u64{0}, scalable}) {
        const auto m = std::make_unique<machine>();
        m->ecap |= wide;
        running q{*m};
        u64 n = 0;
        for (const u64 batch : {1U, 2U, 3U, 100U, 120U, 7U, 126U, 64U, 1U}) {
            for (unsigned again = 0; again < 6; ++again) {
                for (u64 i = 0; i < batch; ++i) {
                    REQUIRE(q->submit(page(n++)));
                }
                REQUIRE(q->complete());
                REQUIRE(m->done_count == n);
            }
        }
        for (u64 i = 0; i < n; ++i) {
            REQUIRE(forgot(*m, i, i));
        }
        CHECK(m->wraps == 1); // the 32-bit data went round
        CHECK(m->violation == nullptr);
        REQUIRE(q->stop());
        REQUIRE(q->retire());
    }
}

TEST_CASE("a full queue rings by itself and waits for room", "[vtd][rule 21]") {
    for (const u64 wide : {u64{0}, scalable}) {
        const u64 most = wide != 0 ? 127 : 255;
        const auto m = std::make_unique<machine>();
        m->ecap |= wide;
        running q{*m};
        m->paused = true;
        for (u64 n = 0; n < most; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        CHECK(m->tail_writes == 0);
        const u64 before = m->time;
        CHECK(q->submit(page(most)) == by_clock); // and not by overwriting the first
        CHECK(m->time - before < 3'000'000'000);
        CHECK(m->tail_writes == 1);
        CHECK(q->complete() == by_clock); // there is no room for a wait either
        CHECK(q->post().error() == by_clock);
        m->paused = false;
        for (u64 n = most; n < 3 * most; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        REQUIRE(q->complete());
        REQUIRE(m->done_count == 3 * most);
        for (u64 n = 0; n < 3 * most; ++n) {
            REQUIRE(forgot(*m, n, n));
        }
        CHECK(m->violation == nullptr);
        REQUIRE(q->stop());
        REQUIRE(q->retire());
    }
}

TEST_CASE("after a completion there is room without a look at the head", "[vtd]") {
    const auto m = std::make_unique<machine>();
    running q{*m};
    for (u64 n = 0; n < 1000; ++n) {
        REQUIRE(q->submit(page(n)));
        if (n % 100 == 99) {
            REQUIRE(q->complete());
        }
    }
    CHECK(m->head_reads == 0);
    CHECK(m->violation == nullptr);
}

TEST_CASE("what follows a context-cache or PASID-cache invalidation waits for it",
          "[vtd][rule 13]") {
    constexpr auto works = [] {
        machine m;
        m.ecap |= scalable;
        running q{m};
        const pt::vtd::capability cap{one_page};
        bool ok = q->submit(invalidate::context_cache()) && q->submit(invalidate::pasid_cache()) &&
                  q->submit(invalidate::iotlb(cap)) &&
                  q->submit(invalidate::context_cache(7, 0x28)) &&
                  q->submit(invalidate::iotlb(cap, 7)) &&
                  q->submit(invalidate::device_tlb({0x28, 0, 1})) &&
                  q->submit(invalidate::pasid_based_iotlb(7, 9)) &&
                  q->submit(invalidate::pasid_based_device_tlb({0x28, 0, 1}, 9)) &&
                  q->submit(invalidate::interrupt_entries()) && q->complete();
        return ok && m.violation == nullptr && m.done_count == 9 && m.tail_writes == 1 &&
               m.waits == 4 && q->stop() && q->retire();
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("older units let their write buffer through before each tail write", "[vtd]") {
    machine m;
    m.cap |= 1 << 4;
    running q{m};
    const unsigned before = m.flushes;
    REQUIRE(q->submit(page(1)));
    REQUIRE(q->complete());
    CHECK(m.flushes == before + 1);
    REQUIRE(q->complete());
    CHECK(m.flushes == before + 1);
    m.deaf = true;
    REQUIRE(q->submit(page(2)));
    CHECK(q->complete() == error{errc::time_out, 0x1C});
    CHECK(m.tail_writes == 1);
    CHECK(m.violation == nullptr);
}

TEST_CASE("a status that comes late is not taken for a later one", "[vtd][rule 21]") {
    machine m;
    running q{m};
    m.holds_status = true;
    REQUIRE(q->submit(page(1)));
    CHECK(q->complete() == by_clock);
    CHECK(m.held_count == 1);
    REQUIRE(q->submit(page(2)));
    const auto second = q->post();
    REQUIRE(second);
    m.deliver(); // the first one's; the unit has not come to the second
    CHECK_FALSE(q->done(*second).value());
    CHECK(q->complete() == by_clock);
    CHECK(q->retire() == error{errc::busy, 0x1C});
    CHECK(q->stop() == by_clock);
    CHECK(m.used[0]);
    CHECK(m.used[1]);
    m.deliver();
    CHECK(q->done(*second).value());
    m.holds_status = false;
    REQUIRE(q->complete());
    REQUIRE(q->stop());
    REQUIRE(q->retire());
    CHECK(m.violation == nullptr);
}

TEST_CASE("a unit that does not answer costs a time-out and no more", "[vtd][rule 21]") {
    constexpr auto works = [] {
        machine m;
        running q{m};
        m.paused = true;
        bool ok = q->submit(page(1)) && q->complete() == by_clock && q->submit(page(1)) &&
                  q->complete() == by_clock;
        m.paused = false;
        ok = ok && q->submit(page(1)) && q->complete() && m.done_count == 3;
        return ok && q->stop() && q->retire() && m.violation == nullptr;
    };
    static_assert(works());
    CHECK(works());
}

// Three batches of three pages, each with its wait: fetches 1 to 12; a wait is every fourth.
TEST_CASE("ITE drops what waits, names the device, and the queue goes on", "[vtd][rule 21]") {
    for (unsigned at = 1; at <= 12; ++at) {
        for (const bool names : {true, false}) {
            machine m;
            running q{m};
            m.names_devices = names;
            m.fsts = 1; // a fault overflow, which is not the queue's
            m.time_out_at = at;
            queue::completion posted[3];
            for (unsigned batch = 0; batch < 3; ++batch) {
                for (u64 n = 0; n < 3; ++n) {
                    REQUIRE(q->submit(page(3 * batch + n)));
                }
                const auto wait = q->post();
                REQUIRE(wait);
                posted[batch] = *wait;
            }
            for (unsigned i = 0; i < 20; ++i) {
                m.step_once();
            }
            CHECK(m.fetched == at); // it stands
            const unsigned over = (at - 1) / 4;
            const error why = names ? by_device : error{errc::time_out, 0x34};
            for (unsigned batch = 3; batch-- > 0;) { // the last one first
                const auto is = q->done(posted[batch]);
                if (batch < over) {
                    CHECK((is && *is));
                } else {
                    REQUIRE_FALSE(is);
                    CHECK(is.error() == why);
                }
            }
            CHECK(m.fsts == 1);
            // It goes on with what it had not taken, and that makes no failure a success.
            for (unsigned i = 0; i < 20; ++i) {
                m.step_once();
            }
            CHECK(m.fetched == 12);
            for (unsigned batch = 0; batch < 3; ++batch) {
                CHECK(q->done(posted[batch]).has_value() == (batch < over));
            }
            REQUIRE(q->submit(page(99)));
            REQUIRE(q->complete());
            CHECK(forgot(m, m.done_count - 1, 99));
            REQUIRE(q->stop());
            REQUIRE(q->retire());
            CHECK(m.violation == nullptr);
        }
    }
}

TEST_CASE("complete tells of an ITE and has settled the rest by then", "[vtd][rule 21]") {
    for (unsigned at = 1; at <= 4; ++at) {
        machine m;
        running q{m};
        m.time_out_at = at;
        for (u64 n = 0; n < 3; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        const u64 before = m.time;
        CHECK(q->complete() == by_device);
        CHECK(m.time - before < 500'000'000); // it waits for what is left, not for what was dropped
        CHECK(m.iqh == m.iqt);
        REQUIRE(q->complete()); // nobody is told twice
        REQUIRE(q->submit(page(3)));
        REQUIRE(q->complete());
        CHECK(m.done_count == 4);
        CHECK(m.violation == nullptr);
    }
}

TEST_CASE("an error between two looks at FSTS is seen before the time is up", "[vtd][rule 21]") {
    for (const u32 kind : {IQE, ITE}) {
        machine m;
        running q{m};
        m.tick = 40'000'000; // 25 looks
        (kind == IQE ? m.refuse_at : m.time_out_at) = 2;
        REQUIRE(q->submit(page(1)));
        const auto told = q->complete();
        CHECK(told.error() == (kind == ITE
                                   ? by_device
                                   : error{errc::hardware_fault, (u64{0xFFFF'FE02} << 32) | 0x65}));
        CHECK(m.fsts == 0);
    }
}

TEST_CASE("IQE: the descriptor is replaced, told of, and all others are done", "[vtd][rule 21]") {
    for (const u64 wide : {u64{0}, scalable}) {
        for (unsigned at = 1; at <= 4; ++at) {
            machine m;
            m.ecap |= wide;
            running q{m};
            m.fsts = 1; // a fault overflow, which is not the queue's
            m.refuse_at = at;
            const u64 status = m.memory[512];
            for (u64 n = 0; n < 3; ++n) {
                REQUIRE(q->submit(page(n)));
            }
            const auto told = q->complete();
            REQUIRE_FALSE(told);
            CHECK(told.error().code == errc::hardware_fault);
            CHECK(told.error().where == (at == 4 ? (status + 4) << 32 | 0x65 : 0x0007'00F2));
            CHECK(m.fsts == 1);
            CHECK(m.stray_writes == 1);
            CHECK(m.done_count == (at == 4 ? 3 : 2));
            std::size_t seen = 0;
            for (u64 n = 0; n < 3; ++n) {
                if (n + 1 != at) {
                    CHECK(forgot(m, seen++, n));
                }
            }
            REQUIRE(q->submit(page(3)));
            REQUIRE(q->complete());
            CHECK(q->stop());
            CHECK(q->retire());
            CHECK(m.violation == nullptr);
        }
    }
}

TEST_CASE("IQE for no descriptor of the queue changes none", "[vtd][rule 21]") {
    machine m;
    running q{m};
    REQUIRE(q->submit(page(1)));
    REQUIRE(q->complete());
    REQUIRE(q->submit(page(2))); // not told of yet: the unit cannot mean this one
    m.fsts |= IQE;
    CHECK(q->check_errors() == error{errc::hardware_fault, 0x80});
    CHECK(m.fsts == 0);
    CHECK(m.stray_writes == 0);
    CHECK_FALSE(q->complete()); // too careful, but told
    CHECK(forgot(m, 1, 2));
    CHECK(m.violation == nullptr);
}

TEST_CASE("ICE is anybody's, is counted, and fails nothing", "[vtd][rule 21]") {
    machine m;
    running q{m};
    for (unsigned at = 1; at <= 4; ++at) {
        m.confuse_at = m.fetched + at;
        m.paused = true;
        for (u64 n = 0; n < 3; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        const auto posted = q->post();
        REQUIRE(posted);
        m.paused = false;
        for (unsigned i = 0; i < at; ++i) {
            m.step_once();
        }
        m.paused = true;
        const auto is = q->done(*posted);
        REQUIRE(is);
        CHECK(*is == (at == 4));
        m.paused = false;
        REQUIRE(q->complete());
        REQUIRE(q->done(*posted).value());
        REQUIRE(q->check_errors()); // done() had no reason to look
        CHECK(m.fsts == 0);
        CHECK(q->completion_errors() == at);
    }
    CHECK(m.violation == nullptr);
}

TEST_CASE("a failure that done() meets fails what has no wait yet, too", "[vtd][rule 21]") {
    constexpr auto works = [] {
        machine m;
        running q{m};
        m.time_out_at = 2; // the wait
        bool ok = q->submit(page(1)).has_value();
        const auto first = q->post();
        ok = ok && first && q->submit(page(2)) && q->start_pending();
        m.step_once();
        m.step_once();
        ok = ok && q->done(*first).error() == by_device;
        ok = ok && q->complete() == by_device; // page 2 may have been dropped
        return ok && q->complete() && q->submit(page(2)) && q->complete() && m.violation == nullptr;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("who asks late is never told of a success that was none", "[vtd][rule 21]") {
    machine m;
    running q{m};
    const auto batch = [&](unsigned fails) {
        m.time_out_at = fails != 0 ? m.fetched + 1 : 0;
        (void)q->submit(page(1)).has_value();
        const auto posted = q->post();
        for (unsigned i = 0; i < 4; ++i) {
            m.step_once();
        }
        if (fails != 0) {
            (void)q->check_errors().has_value(); // on a fault event
        }
        return posted.value();
    };
    const auto good = batch(0);
    const auto bad = batch(1);
    const auto between = batch(0);
    const auto bad_again = batch(1);
    const auto last = batch(0);
    CHECK(q->done(good).value());
    CHECK_FALSE(q->done(bad));
    CHECK_FALSE(q->done(between)); // too careful; see done()
    CHECK_FALSE(q->done(bad_again));
    CHECK(q->done(last).value());
    CHECK(m.violation == nullptr);
}

TEST_CASE("a unit that refuses everything, or forever, ends in errors", "[vtd][rule 21][hostile]") {
    machine m;
    running q{m};
    m.refuses_waits = true; // also those that replace
    REQUIRE(q->submit(page(1)));
    const u64 before = m.time;
    CHECK(q->complete().error().code == errc::hardware_fault);
    CHECK(m.time - before < 3'000'000'000);
    CHECK_FALSE(q->stop());
    m.refuses_waits = false;
    // What was left is settled, and then it is as new.
    (void)q->complete().has_value();
    REQUIRE(q->submit(page(2)));
    REQUIRE(q->complete());
    CHECK(m.done[m.done_count - 1][1] == 0x2040);
    REQUIRE(q->stop());
    REQUIRE(q->retire());
    CHECK(m.violation == nullptr);
}

TEST_CASE("errors while the queue is full are told, and there is room again", "[vtd][rule 21]") {
    for (const u32 kind : {IQE, ITE}) {
        const auto m = std::make_unique<machine>();
        running q{*m};
        m->paused = true;
        for (u64 n = 0; n < 255; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        m->paused = false;
        (kind == IQE ? m->refuse_at : m->time_out_at) = 1;
        u64 failures = 0;
        for (u64 n = 255; n < 600; ++n) {
            failures += q->submit(page(n)) ? 0 : 1;
        }
        CHECK(failures <= 1);
        if (failures == 0) {
            CHECK_FALSE(q->complete());
        }
        REQUIRE(q->submit(page(1)));
        REQUIRE(q->complete());
        CHECK(m->violation == nullptr);
    }
}

TEST_CASE("an IQH that cannot be is an error and harms nothing", "[vtd][hostile]") {
    for (const u64 wide : {u64{0}, scalable}) {
        for (const u64 head : {u64{0x1000}, u64{0x7FFF0}, u64{8}, u64{0x10}, u64{0xFF0}, u64{0xFE0},
                               u64{1} << 63, ~u64{0} << 12}) {
            const auto m = std::make_unique<machine>();
            m->ecap |= wide;
            running q{*m};
            m->paused = true;
            const u64 most = wide != 0 ? 127 : 255;
            for (u64 n = 0; n < most - 1; ++n) {
                REQUIRE(q->submit(page(n)));
            }
            REQUIRE(q->post());
            m->false_head = head;
            // With the queue full, a head between is believable.
            const bool possible = head < 4096 && head % (wide != 0 ? 32 : 16) == 0;
            const auto asked = q->submit(page(most));
            if (!possible) {
                CHECK(asked == error{errc::hardware_fault, 0x80});
                m->fsts |= IQE; // where?
                CHECK(q->complete() == error{errc::hardware_fault, 0x80});
                m->false_head = ~u64{0} - 1;
                m->paused = false;
                (void)q->complete().has_value();
                REQUIRE(q->submit(page(1)));
                REQUIRE(q->complete());
                CHECK(m->violation == nullptr);
            }
        }
    }
}

TEST_CASE("a head behind what is over, or before what was asked, is no head", "[vtd][hostile]") {
    for (const u64 head : {2U, 200U, 210U, 255U}) { // 201 are over, and then 4 are pending
        machine m;
        running q{m};
        for (u64 n = 0; n < 200; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        REQUIRE(q->complete());
        m.paused = true;
        for (u64 n = 0; n < 3; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        const auto posted = q->post();
        REQUIRE(posted);
        REQUIRE(q->submit(page(3))); // it does not know of this one
        m.false_head = head * 16;
        m.fsts |= IQE;
        CHECK(q->done(*posted).error() == error{errc::hardware_fault, 0x80});
        m.false_head = ~u64{0} - 1;
        m.paused = false;
        CHECK_FALSE(q->complete());
        CHECK(m.stray_writes == 0); // none was replaced
        CHECK(m.done_count == 204);
        CHECK(m.violation == nullptr);
    }
}

TEST_CASE("a unit that goes away never fakes success", "[vtd][hostile]") {
    unsigned ends = 0;
    for (unsigned at = 1; at < 400; ++at) {
        const auto m = std::make_unique<machine>();
        running q{*m};
        m->vanish_at = m->accesses + at;
        u64 n = 0;
        for (unsigned i = 0; i < 30; ++i) {
            const std::size_t before = m->done_count;
            bool asked = true;
            for (unsigned k = 0; k < 20 && asked; ++k) {
                asked = q->submit(page(n++)).has_value();
            }
            const auto done = q->complete();
            if (done) {
                REQUIRE(m->done_count == before + 20);
            } else {
                REQUIRE(m->gone);
                REQUIRE((done.error().code == errc::absent || done.error().code == errc::time_out));
                REQUIRE_FALSE(q->stop());
                REQUIRE(q->retire().error().code == errc::busy);
                ++ends;
                break;
            }
        }
    }
    CHECK(ends > 10);
}

TEST_CASE("a unit that is gone is not waited for", "[vtd][hostile]") {
    machine m;
    running q{m};
    m.paused = true;
    for (u64 n = 0; n < 254; ++n) {
        REQUIRE(q->submit(page(n)));
    }
    const auto posted = q->post();
    REQUIRE(posted);
    m.gone = true;
    const u64 before = m.time;
    CHECK(q->submit(page(1)) == error{errc::absent, 0x80});
    CHECK(q->complete() == error{errc::absent, 0x34});
    CHECK(q->done(*posted).error() == error{errc::absent, 0x34});
    CHECK(q->check_errors() == error{errc::absent, 0x34});
    CHECK(q->stop() == error{errc::absent, 0x1C});
    CHECK(q->start() == error{errc::absent, 0x1C});
    CHECK(m.time - before < 200'000'000);
    CHECK(queue::take_over(window_of(*std::make_unique<machine>())));
}

TEST_CASE("a unit that did not answer for a while is told again what there is to do",
          "[vtd][hostile]") {
    machine m;
    running q{m};
    SECTION("with a few descriptors") {
        REQUIRE(q->submit(page(0)));
        m.gone = true;
        CHECK(q->complete() == error{errc::absent, 0x34});
        m.gone = false;
        CHECK(q->complete());
        CHECK(m.done_count == 1);
    }
    SECTION("with post() and done()") {
        REQUIRE(q->submit(page(0)));
        m.gone = true;
        const auto posted = q->post();
        REQUIRE(posted);
        CHECK(q->done(*posted).error() == error{errc::absent, 0x34});
        m.gone = false;
        CHECK_FALSE(q->done(*posted).value());
        REQUIRE(q->post() == posted);
        CHECK_FALSE(q->done(*posted).value()); // which looks, and so the unit goes on
        CHECK(q->done(*posted).value());
    }
    SECTION("with a full queue") {
        for (u64 n = 0; n < 255; ++n) {
            REQUIRE(q->submit(page(n)));
        }
        m.gone = true;
        CHECK(q->submit(page(255)) == error{errc::absent, 0x80});
        CHECK(q->complete() == error{errc::absent, 0x80});
        m.gone = false;
        CHECK(q->submit(page(255)));
        CHECK(q->complete());
        CHECK(m.done_count == 256);
    }
    CHECK(m.violation == nullptr);
}

TEST_CASE("a queue that is off refuses, whoever has its memory by then", "[vtd]") {
    constexpr auto works = [] {
        machine m;
        const error off{errc::refused, 0x1C};
        auto made = created(m);
        const auto refuses = [&] {
            return made->submit(page(1)) == off && made->complete() == off &&
                   made->post().error() == off && made->post_with_interrupt().error() == off &&
                   made->check_errors() == off && made->start_pending();
        };
        bool ok = refuses() && made->start() && made->submit(page(1));
        const auto posted = made->post();
        ok = ok && posted && made->stop() && refuses() && made->done(*posted).value();
        ok = ok && made->retire() && refuses() && made->done(*posted).error() == off;
        auto none = queue::none(window_of(m), {&m});
        ok = ok && none.submit(page(1)) == off && none.complete() == off && none.stop() &&
             none.retire() && none.done(*posted).error() == off;
        return ok && m.violation == nullptr;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("a queue of firmware's is emptied, turned off, and its errors with it",
          "[vtd][rule 21]") {
    const auto firmware = [](machine& m, std::size_t pending) {
        m.used[2] = true;
        m.iqa = machine::base + 0x2000;
        for (std::size_t i = 0; i < pending; ++i) {
            m.memory[1024 + 2 * i] = m.shadow[2 * i] = 0x12;
        }
        m.iqt = pending * 16;
        m.gsts |= QIE;
    };
    SECTION("at work") {
        machine m;
        firmware(m, 20);
        auto made = created(m);
        CHECK(made->start() == error{errc::busy, 0x1C});
        CHECK(made->stop()); // that queue is not this one
        CHECK(m.on());
        CHECK(m.fetched < 20);
        REQUIRE(queue::take_over(window_of(m)));
        CHECK(m.done_count == 20);
        CHECK_FALSE(m.on());
        REQUIRE(queue::take_over(window_of(m)));
        REQUIRE(made->start());
        REQUIRE(made->submit(page(1)));
        REQUIRE(made->complete());
        CHECK(forgot(m, 20, 1));
        REQUIRE(made->stop());
        REQUIRE(made->retire());
        CHECK(m.violation == nullptr);
    }
    SECTION("with an error that goes away") {
        machine m;
        firmware(m, 20);
        m.time_out_at = 5;
        m.fsts = ICE | ITE;
        REQUIRE(queue::take_over(window_of(m)));
        CHECK(m.done_count == 20);
        CHECK(m.fsts == 0);
        CHECK(m.violation == nullptr);
    }
    SECTION("that hangs") {
        machine m;
        firmware(m, 20);
        m.paused = true;
        REQUIRE(queue::take_over(window_of(m)));
        CHECK_FALSE(m.on());
        CHECK(m.time < 3'000'000'000);
    }
    SECTION("that is stuck on a descriptor") {
        machine m;
        firmware(m, 20);
        m.memory[1024 + 2] = m.shadow[2] = 0x0F;
        REQUIRE(queue::take_over(window_of(m)));
        CHECK_FALSE(m.on());
        CHECK(m.fsts == 0);
    }
    SECTION("of a unit that is deaf or gone") {
        machine m;
        firmware(m, 0);
        const window w = window_of(m);
        m.deaf = true;
        CHECK(queue::take_over(w) == error{errc::time_out, 0x1C});
        m.gone = true;
        CHECK(queue::take_over(w) == error{errc::absent, 0x1C});
    }
}

TEST_CASE("after a sleep the queue starts anew, and what was not over has failed", "[vtd]") {
    for (unsigned pages = 1; pages < 300; pages += 60) {
        const auto m = std::make_unique<machine>();
        running q{*m};
        REQUIRE(q->submit(page(0)));
        const auto first = q->post();
        REQUIRE(first);
        REQUIRE(q->complete());
        m->paused = true;
        for (unsigned i = 0; i < pages % 250; ++i) {
            REQUIRE(q->submit(page(i)));
        }
        const auto lost = q->post();
        REQUIRE(lost);
        m->lose_power();
        m->paused = false;
        REQUIRE(q->start());
        CHECK(m->iqt == 0);
        CHECK(q->done(*lost).error() == error{errc::time_out, 0x1C});
        CHECK(q->done(*first).value());
        REQUIRE(q->submit(page(7)));
        REQUIRE(q->complete());
        CHECK(m->iqt == 32); // a page and its wait from the start
        REQUIRE(q->stop());
        REQUIRE(q->start()); // and after a stop nothing has failed
        REQUIRE(q->complete());
        CHECK(q->done(*first).value());
        REQUIRE(q->submit(page(7)));
        REQUIRE(q->complete());
        REQUIRE(q->stop());
        REQUIRE(q->retire());
        CHECK(m->violation == nullptr);
    }
}

TEST_CASE("memory of a queue that may have been turned on is kept", "[vtd][rule 21]") {
    machine m;
    auto made = created(m);
    m.deaf = true;
    CHECK(made->start() == error{errc::time_out, 0x1C});
    CHECK(made->retire() == error{errc::busy, 0x1C});
    m.deaf = false; // it did come on, late
    CHECK(made->start() == error{errc::busy, 0x1C});
    REQUIRE(made->submit(page(1)));
    REQUIRE(made->complete());
    m.deaf = true;
    CHECK(made->stop() == error{errc::time_out, 0x1C});
    CHECK(made->retire() == error{errc::busy, 0x1C});
    m.deaf = false;
    CHECK(made->stop());
    CHECK(made->retire());
    CHECK(m.violation == nullptr);
}

TEST_CASE("completion by interrupt: the event comes when the status is there", "[vtd][rule 21]") {
    constexpr auto works = [] {
        machine m;
        running q{m};
        m.paused = true;
        bool ok = !q->take_completion_event() && q->submit(page(1));
        const auto posted = q->post_with_interrupt();
        ok = ok && posted && !*q->done(*posted) && !q->take_completion_event();
        m.paused = false;
        while (m.events == 0) {
            m.step_once();
        }
        ok = ok && q->take_completion_event() && !q->take_completion_event() && *q->done(*posted);
        // Also when there is nothing to do.
        const auto again = q->post_with_interrupt();
        ok = ok && again && q->complete() && q->take_completion_event() && *q->done(*again) &&
             m.events == 2;
        m.gone = true;
        return ok && !q->take_completion_event() && m.violation == nullptr;
    };
    static_assert(works());
    CHECK(works());
}

TEST_CASE("a queue moves, and is not dropped, nor used when it is another's", "[vtd][contract]") {
    using paging_model::breaks_contract;
    machine m;
    {
        running q{m};
        REQUIRE(q->submit(page(1)));
        queue moved = std::move(*q.made);
        CHECK(q->submit(page(2)).error().code == errc::refused);
        CHECK(q->retire()); // has nothing
        REQUIRE(moved.complete());
        CHECK(forgot(m, 0, 1));
        REQUIRE(moved.stop());
        REQUIRE(moved.retire());
    }
    CHECK(m.violation == nullptr);
    CHECK(breaks_contract([&] { auto made = created(m); }));
    m.used[0] = m.used[1] = false;
    CHECK_FALSE(breaks_contract([&] {
        auto made = created(m);
        (void)made->retire().has_value();
    }));
    CHECK_FALSE(breaks_contract([&] {
        auto made = created(m);
        made->leak();
    }));
    CHECK(breaks_contract([&] {
        auto made = created(m);
        made->leak();
        (void)made->start().has_value();
    }));
}

// The one rule under everything: a success means that all was done that was submitted since the
// last one; and with a sound unit, one more try is a success.
TEST_CASE("whatever goes wrong, success is never false and the queue never stays stuck",
          "[vtd][rule 21][hostile]") {
    u64 successes = 0;
    u64 failures = 0;
    u64 kept = 0; // promises
    for (unsigned seed = 0; seed < 3000; ++seed) {
        std::mt19937 random{seed};
        const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
        const auto m = std::make_unique<machine>();
        m->ecap |= below(2) != 0 ? scalable : 0;
        m->tick = below(2) != 0 ? 10'000'000 : 1'000'000; // the first is too slow for a full queue
        running q{*m};
        struct promise {
            queue::completion which;
            std::size_t first; ///< page that it is about
            std::size_t end;
        };
        std::vector<promise> promises;
        std::size_t known = 0; // the pages before are no longer for complete() to tell of
        std::size_t number = 0;
        const auto was_done = [&](u64 n) {
            for (std::size_t i = 0; i < m->done_count; ++i) {
                if (m->done[i][1] == (n << 12 | 0x40)) {
                    return true;
                }
            }
            return false;
        };
        const auto were_done = [&](std::size_t first, std::size_t end) {
            for (std::size_t n = first; n < end; ++n) {
                if (!was_done(n)) {
                    return false;
                }
            }
            return true;
        };
        for (unsigned steps = 0; steps < 60; ++steps) {
            switch (below(12)) {
            case 0: m->time_out_at = m->fetched + 1 + below(8); break;
            case 1: m->refuse_at = m->fetched + 1 + below(8); break;
            case 2: m->confuse_at = m->fetched + 1 + below(8); break;
            case 3: m->paused = below(3) == 0; break;
            case 4: m->holds_status = below(3) == 0; break;
            case 5: m->deliver(); break;
            case 6: {
                const auto done = q->complete();
                if (done) {
                    REQUIRE(were_done(known, number));
                }
                ++(done ? successes : failures);
                known = number;
                break;
            }
            case 7:
                if (const auto posted = q->post()) {
                    promises.push_back({*posted, known, number});
                }
                known = number; // done() tells of it, or the error did
                break;
            case 8:
                for (const promise& p : promises) {
                    const auto is = q->done(p.which);
                    if (is && *is) {
                        REQUIRE(were_done(p.first, p.end));
                        ++kept;
                    }
                }
                break;
            default:
                for (unsigned i = below(60); i > 0; --i) {
                    if (!q->submit(page(number++))) {
                        known = number;
                    }
                }
            }
        }
        m->time_out_at = m->refuse_at = 0;
        m->paused = m->holds_status = false;
        m->deliver();
        m->tick = 1'000'000;
        (void)q->complete().has_value(); // may tell of what was
        REQUIRE(q->submit(page(number)));
        REQUIRE(q->complete());
        REQUIRE(was_done(number));
        REQUIRE(q->stop());
        REQUIRE(q->retire());
        REQUIRE(m->violation == nullptr);
    }
    CHECK(successes > 500);
    CHECK(failures > 500);
    CHECK(kept > 500);
}

// The same by another model, whose devices take their time: a wait is pending when it is aborted.
using fake = vtd_model::fake_unit<4>;
using fake_window =
    pt::vtd::register_window<vtd_model::registers<fake>, vtd_model::fake_clock<fake>>;
using fake_queue =
    pt::vtd::invalidation_queue<vtd_model::registers<fake>, vtd_model::fake_clock<fake>,
                                vtd_model::frames<fake>>;

TEST_CASE("errors at every descriptor, by the model of the whole unit", "[vtd][rule 21]") {
    constexpr unsigned fake::*kinds[] = {&fake::error_at, &fake::time_out_at,
                                         &fake::completion_error_at, &fake::late_at,
                                         &fake::stall_at};
    for (const u64 wide : {u64{0}, scalable}) {
        for (unsigned fake::*const kind : kinds) {
            for (unsigned at = 0; at < 8; ++at) { // 0: nothing happens
                const auto m = std::make_unique<fake>();
                m->ecap |= wide | 1U << 2; // device TLBs
                const auto w = fake_window::open({m.get()}, 4096, {m.get()}).value();
                auto q = fake_queue::create(w, {m.get()});
                REQUIRE(q);
                REQUIRE(q->start());
                const auto cap = q->capabilities();
                const auto ask = [&] {
                    REQUIRE(q->submit(invalidate::context_cache(7, slow_device)));
                    REQUIRE(q->submit(invalidate::iotlb(cap, 7)));
                    REQUIRE(q->submit(invalidate::device_tlb({slow_device, 0, 4})));
                    REQUIRE(q->submit(invalidate::interrupt_entries(5)));
                    REQUIRE(q->submit(page(3)));
                    return q->complete(); // seven with both waits
                };
                (*m).*kind = at != 0 ? m->orders + at : 0;
                m->guilty = 0x0500;
                const auto told = ask();
                if (at == 0 || kind == &fake::completion_error_at) {
                    REQUIRE(told);
                    CHECK(q->check_errors());
                    CHECK(m->fsts == 0);
                    CHECK(q->completion_errors() == (at != 0 ? 1 : 0));
                    CHECK(m->descriptors == 7);
                } else if (kind == &fake::error_at) {
                    CHECK(told.error().code == errc::hardware_fault);
                } else if (kind == &fake::time_out_at) {
                    // The fake takes an ITE by any descriptor, as some device's.
                    CHECK(told == error{errc::time_out,
                                        pt::vtd::names_device | (at == 4 ? slow_device : 0x0500U)});
                } else if (kind == &fake::stall_at) {
                    CHECK(told == by_clock);
                    CHECK_FALSE(q->stop());
                } else if (at == 7) { // late: the last wait
                    CHECK(told == by_clock);
                } else {
                    CHECK(told);
                }
                m->recover();
                m->deliver_late();
                REQUIRE(ask());
                REQUIRE(q->stop());
                REQUIRE(q->retire());
                CHECK(m->in_use == 0);
                if (m->violation != nullptr) {
                    FAIL(m->violation << ", at " << at);
                }
            }
        }
    }
}

} // namespace
