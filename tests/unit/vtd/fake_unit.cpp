// SPDX-License-Identifier: BSL-1.0
// The judge is judged: software that follows the manual is not blamed, and each thing that the
// manual forbids is. Everything here is plain numbers, as in the fake unit itself.
#include "../../vtd_model/fake_unit.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

namespace {

using namespace vtd_model;

constexpr std::uint32_t IVA = 0xF0;
constexpr std::uint32_t IOTLB = 0xF8;
constexpr std::uint16_t nic = 0x28;
constexpr std::uint64_t elsewhere = 0x1'0000'0000; ///< memory that is no table

// Descriptors.
constexpr std::uint64_t context_global = 0x11;
constexpr std::uint64_t iotlb_global = 0xD2; // drains both
constexpr std::uint64_t pasid_global = 0x37;
constexpr std::uint64_t interrupts_global = 0x4;
constexpr std::uint64_t wait_with_status = 0x25;

template <std::size_t Frames = 16>
struct software {
    using machine_type = fake_unit<Frames>;
    machine_type m{};
    frames<machine_type> memory{&m};
    publisher<machine_type> out{&m};
    wide_store<machine_type> wide{&m};
    std::uint64_t queue = 0;
    std::uint64_t status = 0;
    std::uint64_t tail = 0;
    std::uint64_t root = 0;

    constexpr std::uint64_t frame() {
        return memory.allocate(pt::frame_contents::zeroed).value().raw;
    }
    /// A frame that hardware sees as empty.
    constexpr std::uint64_t table() {
        const std::uint64_t at = frame();
        out.publish(slot(at), 512);
        out.complete();
        return at;
    }
    constexpr std::uint64_t* slot(std::uint64_t at) { return m.stored + m.word_of(at); }
    constexpr void set(std::uint64_t at, std::uint64_t word) {
        *slot(at) = word;
        out.publish(slot(at), 1);
        out.complete();
    }
    constexpr void set_at_once(std::uint64_t at, std::uint64_t low, std::uint64_t high) {
        wide.store(slot(at), low, high);
        out.publish(slot(at), 2);
        out.complete();
    }
    constexpr bool order(std::uint32_t value, std::uint32_t mask, std::uint32_t expected) {
        m.write32(GCMD, value);
        for (unsigned i = 0; i < 10; ++i) {
            if ((m.read32(GSTS) & mask) == expected) {
                return true;
            }
        }
        return false;
    }
    constexpr std::uint32_t on() { return m.gsts & persistent; }
    constexpr bool set_root(unsigned mode = 0) {
        root = table();
        m.write64(RTADDR, root | std::uint64_t{mode} << 10);
        return order(on() | SRTP, SRTP, SRTP);
    }
    constexpr void forget_by_register() {
        m.write64(CCMD, 0xA000'0000'0000'0000);
        while (m.read64(CCMD) >> 63 != 0) {}
        m.write64(IOTLB, 0x9003'0000'0000'0000);
        while (m.read64(IOTLB) >> 63 != 0) {}
    }
    constexpr bool translate() { return order(on() | TE, TE, TE); }

    [[nodiscard]] constexpr std::uint64_t step() const { return m.iqa >> 11 & 1 ? 32 : 16; }
    constexpr bool start_queue(bool wide_descriptors = false) {
        queue = frame();
        status = frame();
        m.write64(IQT, 0);
        m.write64(IQA, queue | (wide_descriptors ? 0x800 : 0));
        tail = 0;
        return order(on() | QIE, QIE, QIE);
    }
    constexpr void put(std::uint64_t low, std::uint64_t high = 0) {
        slot(queue + tail)[0] = low;
        slot(queue + tail)[1] = high;
        for (std::uint64_t i = 2; i < step() / 8; ++i) {
            slot(queue + tail)[i] = 0;
        }
        tail = (tail + step()) % 4096;
    }
    constexpr void ring() { m.write64(IQT, tail); }
    constexpr void put_wait(std::uint32_t data, std::uint64_t more = 0, std::uint64_t at = 0) {
        put(wait_with_status | more | std::uint64_t{data} << 32, status + at);
    }
    constexpr std::uint32_t said(std::uint64_t at = 0) {
        return static_cast<std::uint32_t>(*slot(status + (at & ~std::uint64_t{7})) >> (at & 4) * 8);
    }
    constexpr void pass(unsigned looks) {
        for (unsigned i = 0; i < looks; ++i) {
            m.look();
        }
    }
    constexpr bool waits_for(std::uint32_t data, unsigned looks = 50) {
        for (unsigned i = 0; i < looks && said() != data; ++i) {
            m.look();
        }
        return said() == data;
    }
    constexpr bool forget(std::initializer_list<std::uint64_t> what, std::uint32_t data) {
        for (const std::uint64_t low : what) {
            put(low);
        }
        put_wait(data);
        ring();
        return waits_for(data);
    }
    /// Blamed since the last time, and for what.
    std::string blamed() {
        std::string what = m.violation == nullptr ? "" : m.violation;
        m.forgive();
        return what;
    }
};

TEST_CASE("software that follows the manual is not blamed", "[vtd][fake unit]") {
    constexpr auto works = [] {
        software<> s;
        bool ok = s.set_root();
        s.forget_by_register();
        ok = ok && s.translate() && s.m.dma(nic, 0x1000, true).reason == 0x1;
        ok = ok && s.start_queue() && s.forget({context_global, iotlb_global}, 1);
        ok = ok && s.order(s.on() & ~QIE, QIE, 0);
        s.memory.release(pt::hpa{s.queue});
        s.memory.release(pt::hpa{s.status});
        return ok && s.m.violations == 0 && s.m.descriptors == 3;
    };
    static_assert(works());
    REQUIRE(works());
}

TEST_CASE("GCMD: one change at a time, on top of what is on, after the last one",
          "[vtd][fake unit][rule 12][rule 13]") {
    const auto s = std::make_unique<software<>>();
    SECTION("translation without a root table") {
        s->m.write32(GCMD, TE);
        CHECK(s->blamed() == "translation enabled before a root table was set");
    }
    SECTION("translation before the caches were emptied") {
        REQUIRE(s->set_root());
        SECTION("at all") {}
        SECTION("as a whole") {
            s->m.write64(CCMD, 0xA000'0000'0000'0000);
            while (s->m.read64(CCMD) >> 63 != 0) {}
            s->m.write64(IOTLB, 0xA003'0007'0000'0000); // one domain
            while (s->m.read64(IOTLB) >> 63 != 0) {}
        }
        SECTION("in the right order") {
            s->m.write64(IOTLB, 0x9003'0000'0000'0000);
            while (s->m.read64(IOTLB) >> 63 != 0) {}
            s->m.write64(CCMD, 0xA000'0000'0000'0000);
            while (s->m.read64(CCMD) >> 63 != 0) {}
        }
        CHECK(s->m.owes != 0);
        s->m.write32(GCMD, TE);
        CHECK(s->blamed() == "translation enabled before the caches were emptied after SRTP");
    }
    SECTION("ESRTPS empties them") {
        s->m.cap |= cap_esrtps;
        REQUIRE(s->set_root());
        REQUIRE(s->translate());
        CHECK(s->blamed().empty());
    }
    SECTION("a bit that is lost") {
        s->m.gsts = IRE | SIRTP;
        s->m.write64(RTADDR, 0x1000);
        s->m.write32(GCMD, SRTP);
        CHECK(s->blamed() == "more than one change in GCMD");
    }
    SECTION("two orders") {
        s->m.write32(GCMD, SRTP | SIRTP);
        CHECK(s->blamed() == "more than one change in GCMD");
    }
    SECTION("an order too early") {
        s->m.write64(RTADDR, s->table());
        s->m.write32(GCMD, SRTP);
        s->m.write32(GCMD, SIRTP);
        CHECK(s->blamed() == "an order before the last one was carried out");
    }
    SECTION("another mode under way") {
        s->m.ecap = scalable_ecap;
        s->m.firmware_translation(s->table());
        s->m.write64(RTADDR, s->table() | 1U << 10);
        CHECK(s->blamed() == "another table mode while translation is on");
    }
    SECTION("a mode that is not there") {
        s->m.write64(RTADDR, s->table() | 1U << 10);
        CHECK(s->blamed() == "a table mode that the unit does not have");
    }
}

TEST_CASE("the queue does what the descriptors say, in order and not at once",
          "[vtd][fake unit][rule 21]") {
    for (const bool wide : {false, true}) {
        const auto s = std::make_unique<software<>>();
        s->m.ecap = scalable_ecap;
        REQUIRE(s->start_queue(wide));
        s->put(context_global);
        s->put_wait(7);
        CHECK(s->m.read64(IQH) == 0); // nothing before the tail is written
        s->ring();
        CHECK(s->said() != 7);
        CHECK(s->waits_for(7));
        CHECK(s->m.read64(IQH) == 2 * s->step());
        // Around the end, many times.
        for (std::uint32_t n = 8; n < 300; ++n) {
            REQUIRE(s->forget({interrupts_global, iotlb_global, context_global}, n));
        }
        // Both halves of a word.
        s->put_wait(1, 0, 8);
        s->put_wait(2, 0, 12);
        s->put_wait(300);
        s->ring();
        REQUIRE(s->waits_for(300));
        CHECK((s->said(8) == 1 && s->said(12) == 2));
        CHECK(s->blamed().empty());
        CHECK(s->m.orders == 1 + 2 + 292 * 4 + 3);
    }
}

TEST_CASE("what must not be done to a queue is blamed", "[vtd][fake unit][rule 21]") {
    const auto s = std::make_unique<software<>>();
    SECTION("a tail that is not 0 at the start") {
        s->m.write64(IQT, 0x20);
        s->m.write64(IQA, s->frame());
        s->m.write32(GCMD, QIE);
        CHECK(s->blamed() == "the queue switched on with a tail that is not 0");
    }
    SECTION("no memory there") {
        s->m.write64(IQA, 0x7000'0000);
        s->m.write32(GCMD, QIE);
        CHECK(s->blamed() == "a queue where the machine has no memory for it");
    }
    SECTION("a unit without a queue") {
        s->m.ecap &= ~ecap_qi;
        s->m.write64(IQA, s->frame());
        s->m.write32(GCMD, QIE);
        CHECK(s->blamed() == "a queue on a unit that has none");
    }
    SECTION("wide descriptors without scalable mode") {
        s->m.write64(IQA, s->frame() | 0x800);
        CHECK(s->blamed() == "256-bit descriptors without scalable mode");
    }
    SECTION("while it is on") {
        REQUIRE(s->start_queue());
        SECTION("IQA") {
            s->m.write64(IQA, s->queue);
            CHECK(s->blamed() == "IQA written while the queue is on");
        }
        SECTION("an invalidation by register") {
            s->m.write64(CCMD, 0xA000'0000'0000'0000);
            CHECK(s->blamed() == "invalidation by register while the queue is on");
            s->m.write64(IVA, 0x1000);
            CHECK(s->blamed() == "invalidation by register while the queue is on");
        }
        SECTION("a tail beyond it") {
            s->m.write64(IQT, 4096);
            CHECK(s->blamed() == "a tail beyond the queue");
            CHECK((s->m.fsts & IQE) != 0);
            CHECK((s->m.read64(IQERCD) & 0xF) == 1);
            CHECK((s->m.write32(FSTS, IQE), s->m.fsts & IQE) != 0); // the tail is still wrong
            s->m.write64(IQT, 0);
            s->m.write32(FSTS, IQE);
            CHECK((s->m.fsts & IQE) == 0);
        }
        SECTION("an overrun") {
            for (unsigned n = 0; n < 200; ++n) {
                s->put(context_global);
            }
            s->ring();
            CHECK(s->blamed().empty());
            for (unsigned n = 0; n < 55; ++n) {
                s->put(context_global);
            }
            SECTION("one stays free") {
                s->ring();
                CHECK(s->blamed().empty());
            }
            SECTION("none stays free") {
                s->put(context_global);
                s->ring();
                CHECK(s->blamed() == "the queue was overrun");
            }
        }
        SECTION("a descriptor that changes after the tail was written") {
            s->put(context_global);
            s->put(iotlb_global);
            s->ring();
            *s->slot(s->queue + 16) = context_global;
            s->pass(10);
            CHECK(s->blamed() == "a descriptor changed between head and tail");
        }
        SECTION("off before it is empty") {
            s->put(context_global);
            s->ring();
            s->m.write32(GCMD, 0);
            CHECK(s->blamed() == "the queue switched off before it was empty");
        }
        SECTION("its frame is given back") {
            s->memory.release(pt::hpa{s->queue});
            CHECK(s->blamed() == "the queue's frame was given back while the queue is on");
        }
        SECTION("the status word's frame is given back") {
            s->put_wait(1);
            s->ring();
            SECTION("before the wait was taken") {}
            SECTION("while it stalls") {
                s->m.stall_at = s->m.orders + 1;
                s->pass(20);
                REQUIRE(s->m.queue_is_stalled());
            }
            SECTION("while its write is under way") {
                s->m.late_at = s->m.orders + 1;
                s->pass(20);
                REQUIRE(s->m.late_waits() == 1);
            }
            s->memory.release(pt::hpa{s->status});
            CHECK(s->blamed() == "a frame was given back into which a status will be written");
        }
        SECTION("the status word is given back when all is written") {
            REQUIRE(s->forget({}, 1));
            s->memory.release(pt::hpa{s->status});
            CHECK(s->blamed().empty());
        }
        SECTION("two waits that nobody can tell apart") {
            s->m.late_at = s->m.orders + 1;
            s->put_wait(5);
            s->ring();
            s->pass(10);
            s->put_wait(6);
            s->ring();
            CHECK(s->waits_for(6));
            CHECK(s->blamed().empty());
            s->put_wait(5);
            s->ring();
            s->pass(10);
            CHECK(s->blamed() == "two waits with one status word and the same data");
        }
        SECTION("an invalidation that does not drain") {
            s->put(0x12);
            s->ring();
            s->pass(10);
            CHECK(s->blamed() == "an invalidation that does not drain what the unit can drain");
        }
    }
}

TEST_CASE("in legacy mode a unit knows no descriptors of scalable mode",
          "[vtd][fake unit][rule 21]") {
    for (const std::uint64_t low : {0x6U, 0x7U, 0x8U}) {
        const auto s = std::make_unique<software<>>();
        s->m.ecap = scalable_ecap;
        REQUIRE(s->start_queue(true));
        s->put(low, 0);
        s->ring();
        s->pass(20);
        CHECK((s->m.read32(FSTS) & IQE) != 0);
        CHECK((s->m.read64(IQERCD) & 0xF) == 3);
    }
}

TEST_CASE("what is wrong with a descriptor stops the queue at it", "[vtd][fake unit][rule 21]") {
    struct {
        std::uint64_t low, high;
        unsigned why;
    } const bad[] = {
        {0x0, 0, 3},
        {0x9, 0, 3},
        {0xF, 0, 3},
        {0x201, 0, 3},
        {0x1, 0, 4},
        {0x51, 0, 4},
        {0x11, 1, 4},
        {0x0004'0000'0000'0011, 0, 4},
        {0xC2, 0, 4},
        {0x1'0000'00D2, 0, 4},
        {0x1D2, 0, 4},
        {0xD2, 0x80, 4},
        {0x14, 1, 4},
        {0x24, 0, 4},
        {0x1'0000'0000'0004, 0, 4},
        {0x125, 0, 4},
        {0xA5, 0, 4},
        {0x25, 1, 4},
        {0x6, 0, 4},
        {0x16, 0, 4},
        {0x66, 0, 4},
        {0x36, 0x800, 4},
        {0x27, 0, 4},
        {0x17, 1, 4},
        {0x0010'0000'0000'0007, 0, 4},
        {0x13, 0, 4},
        {0x3, 2, 4},
        {0x20'0003, 0, 4},
        {0x8, 2, 4},
    };
    for (const auto& one : bad) {
        INFO(std::hex << one.low << " " << one.high);
        const auto s = std::make_unique<software<>>();
        s->m.ecap = scalable_ecap;
        s->m.rtaddr = 1U << 10; // scalable mode, which has all types
        REQUIRE(s->start_queue(true));
        s->put(context_global);
        s->put(one.low, one.high);
        s->put_wait(1);
        s->ring();
        s->pass(20);
        CHECK((s->m.read32(FSTS) & IQE) != 0);
        CHECK((s->m.read64(IQERCD) & 0xF) == one.why);
        CHECK(s->m.read64(IQH) == 32);
        CHECK(s->said() != 1);
        // Another descriptor in its place, and the queue goes on.
        *s->slot(s->queue + 32) = iotlb_global;
        *s->slot(s->queue + 40) = 0;
        s->m.write32(FSTS, IQE);
        CHECK(s->waits_for(1));
        CHECK(s->blamed().empty());
    }
    SECTION("128 bits where scalable mode wants 256") {
        const auto s = std::make_unique<software<>>();
        s->m.ecap = scalable_ecap;
        REQUIRE(s->start_queue());
        s->m.has_root = true;
        s->m.rtaddr = 1U << 10;
        s->put(context_global);
        s->ring();
        s->pass(10);
        CHECK((s->m.read64(IQERCD) & 0xF) == 5);
    }
    SECTION("what the unit does not have") {
        for (const std::uint64_t type : {3U, 4U, 6U, 7U, 8U}) {
            const auto s = std::make_unique<software<>>();
            s->m.ecap = qemu_ecap & ~ecap_ir;
            REQUIRE(s->start_queue());
            s->put(type | (type == 6 ? 0x20U : 0U));
            s->ring();
            s->pass(10);
            CHECK((s->m.read64(IQERCD) & 0xF) == 3);
        }
    }
}

TEST_CASE("errors of the queue that are asked for", "[vtd][fake unit][rule 21]") {
    const auto s = std::make_unique<software<>>();
    s->m.ecap = scalable_ecap;
    REQUIRE(s->start_queue());
    const unsigned before = s->m.orders;
    SECTION("IQE at any descriptor") {
        s->m.error_at = before + 2;
        s->put(context_global);
        s->put(iotlb_global);
        s->put_wait(1);
        s->ring();
        s->pass(20);
        CHECK((s->m.fsts & IQE) != 0);
        CHECK(s->m.iqh == 16);
        s->m.write32(FSTS, IQE);
        CHECK(s->waits_for(1));
    }
    SECTION("a stall, and what comes late") {
        s->m.stall_at = before + 1;
        s->put_wait(1);
        s->ring();
        s->pass(100);
        CHECK(s->said() != 1);
        s->m.recover();
        CHECK(s->waits_for(1));
    }
    SECTION("a status that is written late") {
        s->m.late_at = before + 1;
        s->put_wait(1);
        s->ring();
        s->pass(100);
        CHECK((s->said() != 1 && s->m.iqh == s->m.iqt));
        CHECK(s->forget({context_global}, 2)); // overtakes it
        SECTION("at some time") { s->m.deliver_late(); }
        SECTION("before the queue is off at the latest") {
            REQUIRE(s->order(s->on() & ~QIE, QIE, 0));
        }
        CHECK(s->said() == 1);
    }
    SECTION("a device that does not confirm takes all waits that were taken with it") {
        constexpr std::uint64_t of_device = 0x0000'0028'0000'0003; // all of 00:05.0
        s->m.time_out_at = before + 1;
        s->put(of_device, 0x7FFF'FFFF'FFFF'F001);
        s->put_wait(1);
        s->ring();
        s->pass(4);
        CHECK(s->m.pending_waits() == 1);
        s->put_wait(2);
        s->ring();
        s->pass(20);
        CHECK((s->m.read32(FSTS) & ITE) != 0);
        CHECK((s->m.read64(IQERCD) >> 32 & 0xFFFF) == nic);
        CHECK(s->said() == 0);
        CHECK(s->m.pending_waits() == 0);
        s->put_wait(3);
        s->ring();
        s->pass(20);
        CHECK(s->said() == 0); // nothing is taken until the error is cleared
        s->m.write32(FSTS, ITE);
        CHECK(s->waits_for(3));
    }
    SECTION("a wait with a fence holds back what follows") {
        s->put(0x0000'0028'0000'0003, 0x7FFF'FFFF'FFFF'F001);
        s->put_wait(1, 0x40);
        s->put(context_global);
        s->ring();
        s->pass(3);
        CHECK((s->m.pending_waits() == 1 && s->m.iqh == 32));
        CHECK(s->waits_for(1));
        s->pass(3);
        CHECK(s->m.iqh == 48);
    }
    SECTION("ICE harms nothing") {
        s->m.completion_error_at = before + 1;
        s->m.guilty = 0x1234;
        CHECK(s->forget({context_global}, 1));
        CHECK((s->m.read32(FSTS) & ICE) != 0);
        CHECK(s->m.read64(IQERCD) >> 48 == 0x1234);
        s->m.write32(FSTS, ICE);
        CHECK((s->m.fsts & ICE) == 0);
    }
    CHECK(s->blamed().empty());
}

TEST_CASE("events: data and address first, reserved bits kept, once for many faults",
          "[vtd][fake unit][rule 16]") {
    const auto s = std::make_unique<software<>>();
    const auto program = [&](std::uint32_t control) {
        s->m.write32(control + 4, 0x31);
        s->m.write32(control + 8, 0xFEE0'1000);
        s->m.write32(control, s->m.read32(control) & ~IM);
    };
    SECTION("in order") {
        s->m.cap |= std::uint64_t{1} << 40; // two records
        program(FECTL);
        s->m.record(0x1000, 0x6'0000'0028);
        s->m.record(0x2000, 0x6'0000'0028);
        REQUIRE(s->m.sent_count == 1); // the second finds the first pending
        CHECK(s->m.sent[0] == message{message::kind::fault, 0xFEE0'1000, 0x31});
        s->m.record(0x3000, 0x6'0000'0028);
        CHECK(s->m.sent_count == 1); // an overflow finds a fault pending, too
        CHECK(s->blamed().empty());
    }
    SECTION("what comes while it is masked is sent when it is not") {
        s->m.record(0x1000, 0x6'0000'0028);
        CHECK((s->m.read32(FECTL) & IP) != 0);
        CHECK(s->m.sent_count == 0);
        SECTION("unless it was serviced") {
            s->m.write32(0x220 + 12, 1U << 31);
            CHECK((s->m.read32(FECTL) & IP) == 0);
            program(FECTL);
            CHECK(s->m.sent_count == 0);
        }
        SECTION("it is still there") {
            program(FECTL);
            CHECK(s->m.sent_count == 1);
        }
        CHECK(s->blamed().empty());
    }
    SECTION("unmasked without a message") {
        s->m.write32(FECTL, s->m.event_reserved);
        CHECK(s->blamed() == "an event unmasked before its data and address were written");
        program(IECTL);
        CHECK(s->blamed().empty());
    }
    SECTION("with extended interrupts, the upper address too") {
        s->m.ecap |= ecap_eim;
        program(FECTL);
        CHECK(s->blamed() == "an event unmasked before its data and address were written");
        s->m.write32(IEUADDR, 0x100);
        program(IECTL);
        CHECK(s->blamed().empty());
    }
    SECTION("a message that changes under way") {
        program(PECTL);
        s->m.write32(PEDATA, 0x32);
        CHECK(s->blamed() == "the message of an event written while the event is unmasked");
    }
    SECTION("reserved bits") {
        s->m.write32(FECTL, IM);
        CHECK(s->blamed() == "reserved bits of an event's control were not preserved");
        s->m.write32(FEDATA, 0x1'0031);
        CHECK(s->blamed() == "reserved bits of an event's data");
        s->m.write32(FEADDR, 0xFED0'0000);
        CHECK(s->blamed() == "an event's address that is no interrupt");
        s->m.write32(FEUADDR, 1);
        CHECK(s->blamed() == "reserved bits of an event's upper address");
    }
    SECTION("a wait with an interrupt") {
        program(IECTL);
        REQUIRE(s->start_queue());
        for (unsigned n = 0; n < 2; ++n) {
            s->put(0x15); // IF, no status
        }
        s->ring();
        s->pass(10);
        CHECK(s->m.read32(ICS) == 1);
        CHECK(s->m.sent_count == 1); // IWC was set already
        s->m.write32(ICS, 1);
        CHECK(s->m.read32(ICS) == 0);
        s->put(0x15);
        s->ring();
        s->pass(10);
        CHECK(s->m.sent_count == 2);
        CHECK(s->m.sent[1].what == message::kind::invalidation);
    }
    SECTION("errors of the queue are faults") {
        program(FECTL);
        REQUIRE(s->start_queue());
        s->put(0);
        s->ring();
        s->pass(10);
        CHECK(s->m.sent_count == 1);
    }
}

TEST_CASE("protected regions keep devices out while translation is off", "[vtd][fake unit]") {
    const auto s = std::make_unique<software<>>();
    s->m.cap |= cap_plmr | cap_phmr;
    s->m.write32(PLMBASE, 0x1000'0000);
    s->m.write32(PLMLIMIT, 0x1FE0'0000);
    s->m.write64(PHMBASE, 0x2'0000'0000);
    s->m.write64(PHMLIMIT, 0x2'FFE0'0000);
    CHECK(s->m.dma(nic, 0x1000'0000, true).reached);
    s->m.write32(PMEN, EPM);
    CHECK(s->m.dma(nic, 0x1000'0000, true).reached); // not yet
    while ((s->m.read32(PMEN) & PROTECTED) == 0) {}
    CHECK(s->m.dma(nic, 0x0FFF'FFFF, true).reached);
    CHECK(s->m.dma(nic, 0x1000'0000, true).protection);
    CHECK(s->m.dma(nic, 0x1FFF'FFFF, true).protection);
    CHECK(s->m.dma(nic, 0x2000'0000, true).reached);
    CHECK(s->m.dma(nic, 0x2'FFFF'FFFF, true).protection);
    CHECK(s->m.dma(nic, 0x3'0000'0000, true).reached);
    CHECK(s->m.records[0][1] == 0); // and no fault is recorded
    CHECK(s->blamed().empty());
    SECTION("a region changes under way") {
        s->m.write32(PLMBASE, 0);
        CHECK(s->blamed() == "a protected memory region changed while it is in force");
    }
    SECTION("off") {
        s->m.write32(PMEN, 0);
        CHECK(s->m.dma(nic, 0x1000'0000, true).reached);
        s->m.write32(PMEN, EPM);
        CHECK(s->blamed() == "PMEN written before PRS followed the last change");
    }
    SECTION("with translation on") {
        const std::uint64_t root = s->table();
        const std::uint64_t contexts = s->table();
        s->set(contexts + nic * 16 + 8, 0x702);
        s->set(contexts + nic * 16, 0x9); // pass-through
        s->set(root, contexts | 1);
        s->m.firmware_translation(root);
        CHECK(s->m.dma(nic, 0x1000'0000, true).protection);
        CHECK(s->m.dma(nic, 0x2000'0000, true).reached);
    }
    SECTION("never open: the guard sees every gap") {
        s->m.guard.runs = true;
        s->m.guard.address = 0x1000'0000;
        SECTION("from regions to translation") {
            REQUIRE(s->set_root());
            s->forget_by_register();
            REQUIRE(s->translate());
            s->m.write32(PMEN, 0);
            CHECK((s->m.guard.closed && !s->m.guard.opened));
        }
        SECTION("regions off too early") {
            REQUIRE(s->set_root());
            s->forget_by_register();
            s->m.write32(PMEN, 0);
            REQUIRE(s->translate());
            CHECK(s->m.guard.opened);
        }
        SECTION("translation off for a moment") {
            s->m.firmware_translation(s->table());
            s->m.pmen = 0;
            REQUIRE(s->order(s->on(), 0, 0));
            REQUIRE(s->order(s->on() & ~TE, TE, 0));
            REQUIRE(s->order(s->on() | TE, TE, TE));
            CHECK((s->m.guard.closed && s->m.guard.opened));
        }
    }
    SECTION("without such regions there is nothing to write") {
        s->m.power_loss();
        s->m.cap &= ~(cap_plmr | cap_phmr);
        s->m.write32(PMEN, EPM);
        CHECK(s->blamed() == "PMEN written on a unit without protected memory regions");
    }
}

/// An interrupt table of 512 entries over the first two frames of a machine.
struct interrupts : software<48> {
    std::uint64_t entries = table();

    interrupts() { (void)table(); }
    bool start(std::uint64_t mode = 0) {
        m.write64(IRTA, entries | mode | 8);
        return start_queue() && order(on() | SIRTP, SIRTP, SIRTP) &&
               forget({interrupts_global}, 1) && order(on() | IRE, IRE, IRE);
    }
    void entry(unsigned index, std::uint64_t low, std::uint64_t high) {
        set(entries + index * 16 + 8, high);
        set(entries + index * 16, low);
    }
    interrupt_outcome raise(unsigned index, std::uint16_t source_id = nic) {
        return m.interrupt(source_id, 0xFEE0'0010 | (index & 0x7FFF) << 5 | (index >> 15) << 2, 0);
    }
};

TEST_CASE("interrupts go through the table, or are blocked for a reason",
          "[vtd][fake unit][rule 19]") {
    const auto s = std::make_unique<interrupts>();
    const auto compatible = s->m.interrupt(nic, 0xFEE0'300C, 0x8131);
    CHECK((compatible.delivered && !compatible.remapped && compatible.destination == 3 &&
           compatible.vector == 0x31 && compatible.delivery_mode == 1 && compatible.logical &&
           compatible.redirection_hint && compatible.level));
    REQUIRE(s->start());
    constexpr std::uint64_t from_nic = 0x4'0028;
    s->entry(5, 0x0000'0300'0041'0001, from_nic);
    const auto o = s->raise(5);
    CHECK((o.delivered && o.remapped && o.vector == 0x41 && o.destination == 3 && !o.logical &&
           o.delivery_mode == 0 && o.index == 5));
    SECTION("the subhandle is added") {
        s->entry(7, 0x0000'0300'0042'0015, from_nic);
        const auto sub = s->m.interrupt(nic, 0xFEE0'0018 | 5 << 5, 2);
        CHECK((sub.vector == 0x42 && sub.index == 7 && sub.logical && sub.level));
        CHECK(s->m.interrupt(nic, 0xFEE0'0018 | 5 << 5, 0x1'0002).reason == 0x20);
    }
    SECTION("reasons, each in its record") {
        s->m.cap |= std::uint64_t{7} << 40;
        const auto blocked = [&](const interrupt_outcome& got, unsigned reason, unsigned index) {
            CHECK((!got.delivered && !got.posted && got.reason == reason));
            const unsigned last = (s->m.next_record + 7) % 8;
            CHECK(s->m.records[last][0] == std::uint64_t{index} << 48);
            CHECK(s->m.records[last][1] ==
                  (std::uint64_t{1} << 63 | std::uint64_t{reason} << 32 | nic));
        };
        blocked(s->raise(512), 0x21, 512);
        blocked(s->raise(511), 0x22, 511);
        s->entry(6, 0x0000'0300'0041'0101, from_nic);
        CHECK(s->raise(6).delivered); // AVAIL
        for (const std::uint64_t wrong :
             {std::uint64_t{0x1000}, std::uint64_t{0x4000}, std::uint64_t{0x0100'0000},
              std::uint64_t{1} << 32, std::uint64_t{1} << 48, std::uint64_t{0x60},
              std::uint64_t{0xC0}, std::uint64_t{0x8000}}) {
            s->m.power_loss();
            s->set(s->entries + 6 * 16, 0);
            REQUIRE(s->start());
            s->entry(6, 0x0000'0300'0041'0001 | wrong, from_nic);
            blocked(s->raise(6), 0x24, 6);
        }
        s->entry(8, 0x0000'0300'0041'0001, 0xC'0028);
        blocked(s->raise(8), 0x24, 8);
        s->entry(9, 0x0000'0300'0041'0001, 0x4'0029);
        blocked(s->raise(9), 0x26, 9);
        blocked(s->m.interrupt(nic, 0xFEE0'3000, 0x31), 0x25, 0);
        const unsigned before = s->m.next_record;
        s->entry(10, 0x0000'0300'0041'0003, 0x4'0029); // FPD
        CHECK(s->raise(10).reason == 0x26);
        CHECK(s->m.next_record == before);
    }
    SECTION("who may") {
        const auto may = [&](std::uint64_t high, std::uint16_t source_id) {
            s->m.power_loss();
            s->set(s->entries + 6 * 16, 0);
            REQUIRE(s->start());
            s->entry(6, 0x0000'0300'0041'0001, high);
            return s->raise(6, source_id).delivered;
        };
        CHECK(may(0x0'0000, 0x1234));
        CHECK_FALSE(may(0x4'0028, 0x2C));
        CHECK((may(0x5'0028, 0x2C) && !may(0x5'0028, 0x2A))); // bit 2 does not count
        CHECK((may(0x6'0028, 0x2E) && !may(0x6'0028, 0x29))); // bits 2:1
        CHECK((may(0x7'0028, 0x2F) && !may(0x7'0028, 0x30)));
        CHECK((may(0x8'0305, 0x0300) && may(0x8'0305, 0x05FF)));
        CHECK((!may(0x8'0305, 0x02FF) && !may(0x8'0305, 0x0600)));
    }
    SECTION("the cache keeps entries until it is told") {
        s->set(s->entries + 5 * 16, 0x0000'0300'0055'0001); // one half: allowed
        CHECK(s->raise(5).vector == 0x41);
        CHECK(s->forget({0x0000'0004'0000'0014}, 2)); // entry 4
        CHECK(s->raise(5).vector == 0x41);
        CHECK(s->forget({0x0000'0004'0800'0014}, 3)); // entries 4 and 5
        CHECK(s->raise(5).vector == 0x55);
        CHECK(s->blamed().empty());
        SECTION("a live entry in halves") {
            s->set(s->entries + 5 * 16, 0x0000'0300'0056'0001);
            s->set(s->entries + 5 * 16 + 8, 0x4'0029);
            CHECK(s->blamed() == "a live entry was changed in parts, and not invalidated between");
        }
        SECTION("a live entry at once") {
            s->set_at_once(s->entries + 5 * 16, 0x0000'0300'0056'0001, 0x4'0029);
            CHECK(s->blamed().empty());
        }
    }
    SECTION("posted") {
        s->m.cap |= cap_pi;
        s->entry(6, 0x1234'5640'0077'C001, 0x0000'0009'0004'0028);
        const auto posted = s->raise(6);
        CHECK((posted.posted && !posted.delivered && posted.descriptor == 0x9'1234'5640 &&
               posted.vector == 0x77 && posted.urgent));
    }
    SECTION("the format that is written on the wire") {
        REQUIRE(s->order(s->on() | CFI, CFI, CFI));
        CHECK(s->m.interrupt(nic, 0xFEE0'3000, 0x31).delivered);
    }
    SECTION("blamed: enabled too early") {
        s->m.power_loss();
        s->m.write32(GCMD, IRE);
        CHECK(s->blamed() == "interrupt remapping enabled before a table was set");
        s->m.power_loss();
        s->m.write64(IRTA, s->entries | 8);
        REQUIRE(s->order(SIRTP, SIRTP, SIRTP));
        s->m.write32(GCMD, IRE);
        CHECK(s->blamed() == "interrupt remapping enabled before the entry cache was emptied");
    }
    CHECK(s->blamed().empty());
}

TEST_CASE("x2APIC destinations have 32 bits, and then nothing passes as it was written",
          "[vtd][fake unit][rule 19]") {
    const auto s = std::make_unique<interrupts>();
    s->m.ecap |= ecap_eim;
    REQUIRE(s->start(0x800));
    s->entry(5, 0x1234'5678'0041'0001, 0);
    CHECK(s->raise(5).destination == 0x1234'5678);
    REQUIRE(s->order(s->on() | CFI, CFI, CFI));
    CHECK(s->m.interrupt(nic, 0xFEE0'3000, 0x31).reason == 0x25);
    CHECK(s->blamed().empty());
}

/// Scalable mode: 00:05.0 with a PASID directory of 128 entries and one PASID table.
struct scalable : software<32> {
    std::uint64_t contexts = 0;
    std::uint64_t directory = 0;
    std::uint64_t pasids = 0;
    std::uint64_t context_at = 0;

    scalable() { m.ecap = scalable_ecap; }
    bool start(std::uint64_t more = 0) {
        const bool ok = start_queue(true) && set_root(1) &&
                        forget({context_global, pasid_global, iotlb_global}, 1) && translate();
        contexts = table();
        directory = table();
        pasids = table();
        set(directory, pasids | 1);
        context_at = contexts + nic * 32;
        set(context_at + 8, 0); // RID_PASID 0
        set(context_at, directory | 0x8 | more | 1);
        set(root, contexts | 1);
        return ok;
    }
    std::uint64_t pasid_at(std::uint32_t pasid) { return pasids + pasid * 64; }
    void second(std::uint32_t pasid, std::uint64_t tables, std::uint16_t domain_id) {
        set(pasid_at(pasid) + 8, domain_id);
        set(pasid_at(pasid), tables | 0x2 << 6 | 0x2 << 2 | 1);
    }
    void first(std::uint32_t pasid, std::uint64_t tables, std::uint16_t domain_id) {
        set(pasid_at(pasid) + 16, tables);
        set(pasid_at(pasid) + 8, domain_id);
        set(pasid_at(pasid), 0x1 << 6 | 1);
    }
    /// Tables of 4 levels that lead from page 0x1000 to `to`; every entry has `rights`.
    /// `moved`: how far from where the tables lie the entries say they lie.
    std::uint64_t leading(std::uint64_t to, std::uint64_t rights, std::uint64_t moved = 0) {
        std::uint64_t below = to;
        for (unsigned level = 1; level <= 4; ++level) {
            const std::uint64_t at = table();
            set(at + (level == 1 ? 8 : 0), below | rights);
            below = at + moved;
        }
        return below;
    }
    unsigned reason(bool has_pasid = false, std::uint32_t pasid = 0,
                    std::uint64_t address = 0x1000) {
        const outcome o =
            m.dma(nic, address, {.write = true, .has_pasid = has_pasid, .pasid = pasid});
        return o.reached ? 0 : o.reason;
    }
};

TEST_CASE("scalable mode: both stages, nested, pass-through, with and without PASID",
          "[vtd][fake unit]") {
    const auto s = std::make_unique<scalable>();
    REQUIRE(s->start());
    s->second(0, s->leading(elsewhere, 3), 7);
    s->first(1, s->leading(elsewhere + 0x1000, 7), 8);
    s->set(s->pasid_at(2) + 8, 9);
    s->set(s->pasid_at(2), 0x4 << 6 | 0x2 << 2 | 1);
    CHECK(s->m.dma(nic, 0x1234, true).to == elsewhere + 0x234);
    CHECK(s->m.dma_with_pasid(nic, 1, 0x1234, true).to == elsewhere + 0x1234);
    CHECK(s->m.dma_with_pasid(nic, 2, 0x7777'1234, true).to == 0x7777'1234);
    CHECK(s->reason(true, 3) == 0x59);
    CHECK(s->reason(true, 64) == 0x51);
    CHECK(s->reason(true, 0x2000) == 0x46);
    CHECK(s->m.cached_pasids() == 3);
    SECTION("a record with a PASID") {
        s->m.cap |= std::uint64_t{7} << 40;
        s->m.write32(0x220 + 12, 1U << 31);
        s->m.write32(FSTS, PFO);
        (void)s->reason(true, 0x1'2345);
        const unsigned last = (s->m.next_record + 7) % 8;
        CHECK((s->m.records[last][1] & 0x0FFF'FFFF'FFFF'FFFF) ==
              (std::uint64_t{0x1'2345} << 40 | std::uint64_t{0x46} << 32 | 1U << 31 | nic));
    }
    SECTION("nested: the first stage's own tables go through the second") {
        // 0x10'0000 to elsewhere, and 1 GiB of tables to where the machine's frames are.
        const std::uint64_t low = s->table();
        s->set(low + 0x100 * 8, (elsewhere + 0x5000) | 3);
        const std::uint64_t middle = s->table();
        s->set(middle, low | 3);
        const std::uint64_t upper = s->table();
        s->set(upper, middle | 3);
        s->set(upper + 16, scalable::machine_type::base | 0x83);
        const std::uint64_t second = s->table();
        s->set(second, upper | 3);
        s->set(s->pasid_at(3) + 16, s->leading(0x10'0000, 7, 0x4000'0000));
        s->set(s->pasid_at(3) + 8, 10);
        s->set(s->pasid_at(3), second | 0x3 << 6 | 0x2 << 2 | 1);
        CHECK(s->m.dma_with_pasid(nic, 3, 0x1234, true).to == elsewhere + 0x5234);
        // A page-selective invalidation of the domain forgets what is nested as a whole.
        const std::size_t cached = s->m.cached_translations();
        s->put(0xF2 | std::uint64_t{10} << 16, 0x7000'0000);
        CHECK(s->forget({}, 2));
        CHECK(s->m.cached_translations() == cached - 1);
    }
    SECTION("each kind is forgotten by its own invalidation") {
        const auto forget = [&](std::uint64_t low, std::uint64_t high = 0) {
            static std::uint32_t n = 100;
            s->put(low, high);
            CHECK(s->forget({}, ++n));
            return s->m.cached_translations();
        };
        CHECK(s->m.cached_translations() == 2);
        CHECK(forget(0x26 | std::uint64_t{7} << 16) == 2); // PASID 0
        CHECK(forget(0x26 | std::uint64_t{8} << 16) == 2); // not PASID 1
        CHECK(forget(0x36 | std::uint64_t{8} << 16 | std::uint64_t{1} << 32, 0x2000) == 2);
        CHECK(forget(0xF2 | std::uint64_t{7} << 16, 0x2000) == 2);
        CHECK(forget(0xF2 | std::uint64_t{7} << 16, 0x1000) == 1);
        CHECK(forget(0x36 | std::uint64_t{8} << 16 | std::uint64_t{1} << 32, 0x1000) == 0);
        CHECK(forget(0x17 | std::uint64_t{8} << 16 | std::uint64_t{2} << 32) == 0);
        CHECK(s->m.cached_pasids() == 3);
        (void)forget(0x17 | std::uint64_t{8} << 16 | std::uint64_t{1} << 32);
        CHECK(s->m.cached_pasids() == 2);
        (void)forget(0x07 | std::uint64_t{9} << 16);
        CHECK(s->m.cached_pasids() == 1);
        (void)forget(pasid_global);
        CHECK(s->m.cached_pasids() == 0);
        CHECK(s->m.cached_contexts() == 1);
        (void)forget(0x31 | std::uint64_t{0x29} << 32);
        CHECK(s->m.cached_contexts() == 1);
        (void)forget(0x31 | std::uint64_t{nic} << 32);
        CHECK(s->m.cached_contexts() == 0);
    }
    SECTION("the caches of scalable mode come after SRTP in this order") {
        s->m.write64(RTADDR, s->root | 1U << 10);
        REQUIRE(s->order(s->on() | SRTP, SRTP, SRTP));
        CHECK(s->forget({pasid_global, context_global, iotlb_global}, 200));
        CHECK(s->m.owes == 2);
        CHECK(s->forget({pasid_global, iotlb_global}, 201));
        CHECK(s->m.owes == 0);
    }
    CHECK(s->blamed().empty());
    SECTION("an invalidation by register") {
        REQUIRE(s->order(s->on() & ~QIE, QIE, 0));
        s->m.write64(IOTLB, 0x9003'0000'0000'0000);
        CHECK(s->blamed() == "invalidation by register in scalable mode");
    }
}

TEST_CASE("the reasons of scalable mode, each provoked", "[vtd][fake unit]") {
    // Where, what is put there, and why the request is then blocked. `at`: 0 root, 1 context,
    // 2 directory, 3 PASID entry of the second stage, 4 its top table, 5 its leaf.
    struct {
        unsigned at;
        unsigned word;
        std::uint64_t set, clear;
        unsigned reason;
    } const all[] = {
        {0, 0, 0, 1, 0x39},
        {0, 0, 2, 0, 0x3A},
        {0, 0, 0x6000'0000, 0x4000'0000, 0x40},
        {1, 0, 0, 1, 0x41},
        {1, 0, 0x20, 0, 0x42},
        {1, 1, 1 << 21, 0, 0x42},
        {1, 2, 1, 0, 0x42},
        {1, 0, 0x10, 0, 0x43}, // page requests, which the unit does not have
        {1, 1, 0x2000, 0, 0x48},
        {1, 0, 0x6000'0000, 0x4000'0000, 0x50},
        {2, 0, 0, 1, 0x51},
        {2, 0, 4, 0, 0x52},
        {2, 0, 0x6000'0000, 0x4000'0000, 0x58},
        {3, 0, 0, 1, 0x59},
        {3, 0, 0x20, 0, 0x5A},
        {3, 1, 1 << 16, 0, 0x5A},
        {3, 7, 1, 0, 0x5A},
        {3, 0, 5 << 6, 2 << 6, 0x5B},
        {3, 0, 4 << 2, 2 << 2, 0x5B},
        {3, 0, 0x6000'0000, 0x4000'0000, 0x7B},
        {4, 0, 0x6000'0000, 0x4000'0000, 0x78},
        {4, 0, 0, 3, 0x79},
        {4, 0, std::uint64_t{1} << 45, 0, 0x7A},
        {5, 0, 0, 2, 0x85},
        {5, 0, 0xFEE0'0000, elsewhere, 0x87},
    };
    for (const auto& one : all) {
        INFO(one.at << " " << std::hex << one.reason);
        const auto s = std::make_unique<scalable>();
        REQUIRE(s->start());
        const std::uint64_t top = s->leading(elsewhere, 3);
        s->second(0, top, 7);
        std::uint64_t where = s->root;
        switch (one.at) {
        case 1: where = s->context_at; break;
        case 2: where = s->directory; break;
        case 3: where = s->pasid_at(0); break;
        case 4: where = top; break;
        case 5: where = top - 3 * 4096 + 8; break;
        default: break;
        }
        where += one.word * 8;
        const std::size_t i = s->m.word_of(where);
        s->m.published[i] = (s->m.published[i] & ~one.clear) | one.set; // somebody scribbles
        CHECK(s->reason() == one.reason);
        CHECK(s->m.records[0][1] ==
              (std::uint64_t{1} << 63 | std::uint64_t{one.reason} << 32 | nic));
        CHECK(s->blamed().empty());
    }
    SECTION("of the first stage") {
        struct {
            bool top;
            std::uint64_t set, clear;
            unsigned reason;
        } const first[] = {
            {true, 0, 1, 0x71},
            {true, 0x6000'0000, 0x4000'0000, 0x70},
            {true, 0x80, 0, 0x72},
            {true, std::uint64_t{1} << 63, 0, 0x72},
            {false, 0, 4, 0x81},
            {false, 0, 2, 0x85},
            {false, 0xFEE0'0000, elsewhere, 0x87},
        };
        for (const auto& one : first) {
            INFO(std::hex << one.reason);
            const auto s = std::make_unique<scalable>();
            REQUIRE(s->start());
            const std::uint64_t top = s->leading(elsewhere, 7);
            s->first(0, top, 7);
            const std::size_t i = s->m.word_of(one.top ? top : top - 3 * 4096 + 8);
            s->m.published[i] = (s->m.published[i] & ~one.clear) | one.set;
            CHECK(s->reason() == one.reason);
        }
    }
    SECTION("requests") {
        const auto s = std::make_unique<scalable>();
        REQUIRE(s->start());
        s->first(0, s->leading(elsewhere, 7), 7);
        CHECK(s->reason(false, 0, std::uint64_t{1} << 47) == 0x80);
        CHECK(s->m.dma(nic, 0x1000, {.has_pasid = true, .privileged = true}).reason == 0x5D);
        CHECK(s->m.dma(nic, 0x1000, {.has_pasid = true, .execute = true}).reason == 0x5C);
        s->m.dma(nic, 0x1000, true);
        const std::uint64_t leaf = s->m.stored[s->m.word_of(s->pasids + 4096 + 8)];
        CHECK((leaf & 0x60) == 0x60); // accessed and dirty
        s->second(1, s->leading(elsewhere, 3), 8);
        CHECK(s->reason(true, 1, std::uint64_t{1} << 48) == 0x84);
        const auto legacy = std::make_unique<software<>>();
        legacy->m.firmware_translation(legacy->table());
        CHECK(legacy->m.dma_with_pasid(nic, 1, 0x1000, true).reason == 0x31);
    }
    SECTION("abort mode blocks everything, without a record") {
        const auto s = std::make_unique<software<>>();
        s->m.ecap |= ecap_adms;
        REQUIRE(s->set_root(3));
        REQUIRE(s->translate());
        CHECK(s->m.dma(nic, 0x1000, false).aborted);
        CHECK(s->m.records[0][1] == 0);
        CHECK(s->blamed().empty());
    }
}

TEST_CASE("a live entry is changed in the right order, or somebody is blamed",
          "[vtd][fake unit][rule 14]") {
    const auto s = std::make_unique<software<>>();
    const std::uint64_t root = s->table();
    const std::uint64_t contexts = s->table();
    s->m.firmware_translation(root);
    s->set(root, contexts | 1);
    REQUIRE(s->start_queue());
    const std::uint64_t at = contexts + nic * 16;
    constexpr std::uint64_t of_nic = 0x31 | std::uint64_t{nic} << 32;
    SECTION("there and back") {
        s->set(at + 8, 0x702);
        s->set(at, 0x5000'0001);
        CHECK(s->forget({of_nic}, 1));
        s->set(at, 0x5000'0000);
        CHECK(s->forget({of_nic | 7 << 16}, 2));
        s->set(at, 0);
        s->set(at + 8, 0);
        CHECK(s->blamed().empty());
    }
    SECTION("present, and then the rest") {
        s->set(at, 0x5000'0001);
        s->set(at + 8, 0x702);
        s->set(at, 0x6000'0001);
        CHECK(s->blamed() == "a live entry was changed in parts, and not invalidated between");
    }
    SECTION("both at once in no particular order") {
        s->slot(at)[0] = 0x5000'0001;
        s->slot(at)[1] = 0x702;
        s->out.publish(s->slot(at), 2);
        s->out.complete();
        CHECK(s->blamed() == "an entry became present before the rest of it was there");
    }
    SECTION("both at once") {
        s->set_at_once(at, 0x5000'0001, 0x702);
        s->set_at_once(at, 0x6000'0001, 0x802);
        CHECK(s->blamed().empty());
        SECTION("in two stores") {
            CHECK(s->forget({context_global}, 1));
            s->slot(at)[0] = 0x5000'0001;
            s->slot(at)[1] = 0x702;
            s->out.publish(s->slot(at), 2);
            s->out.complete();
            CHECK(s->blamed() == "a live entry was changed in more than one store");
        }
        SECTION("gone with all that it had") {
            s->slot(at)[0] = s->slot(at)[1] = 0;
            s->out.publish(s->slot(at), 2);
            s->out.complete();
            CHECK(s->blamed() == "the rest of an entry went with its present bit");
        }
        SECTION("gone, and used again before it was forgotten") {
            s->set(at, 0);
            SECTION("at all") {}
            SECTION("as what it was") { CHECK(s->forget({of_nic | 7 << 16}, 1)); }
            s->set(at, 0x7000'0001);
            CHECK(s->blamed() == "an entry was used again before it was invalidated");
        }
        SECTION("gone, and the rest before it was forgotten") {
            s->set(at, 0x6000'0000);
            s->set(at + 8, 0);
            CHECK(s->blamed() == "the rest of an entry changed before it was invalidated");
        }
    }
    SECTION("with translation off nobody looks") {
        REQUIRE(s->order(s->on() & ~TE, TE, 0));
        s->set(at, 0x5000'0001);
        s->set(at + 8, 0x702);
        s->set(at, 0x6000'0001);
        s->set(at, 0);
        s->set(at, 0x6000'0001);
        CHECK(s->blamed().empty());
    }
    SECTION("what the host did not see stored") {
        s->m.trust_pairs = true;
        s->slot(at)[0] = 0x5000'0001;
        s->slot(at)[1] = 0x702;
        s->out.publish(s->slot(at), 2);
        s->out.complete();
        CHECK(s->blamed().empty());
    }
    SECTION("512 bits") {
        const auto t = std::make_unique<scalable>();
        REQUIRE(t->start());
        t->second(0, 0x5000'0000, 7);
        CHECK(t->blamed().empty());
        t->set(t->pasid_at(0), 0);
        SECTION("forgotten") {
            CHECK(t->forget({0x17 | 7 << 16}, 2));
            t->set(t->pasid_at(0) + 8, 8);
            CHECK(t->blamed().empty());
        }
        SECTION("forgotten as another one") {
            CHECK(t->forget({0x17 | 8 << 16, 0x17 | 7 << 16 | std::uint64_t{1} << 32}, 2));
            t->set(t->pasid_at(0) + 8, 8);
            CHECK(t->blamed() == "the rest of an entry changed before it was invalidated");
        }
    }
}

TEST_CASE("a device's own TLB keeps what it is not told to forget", "[vtd][fake unit]") {
    const auto s = std::make_unique<scalable>();
    REQUIRE(s->start(0x4));
    const std::uint64_t top = s->leading(elsewhere, 3);
    s->second(0, top, 7);
    CHECK(s->m.device_tlb_dma(nic, 0x1234, {.write = true}).to == elsewhere + 0x234);
    CHECK(s->m.device_translations() == 1);
    s->set(top - 3 * 4096 + 8, 0);
    CHECK(s->forget({iotlb_global}, 2));
    CHECK(s->m.dma(nic, 0x1234, true).reason == 0x79);
    CHECK(s->m.device_tlb_dma(nic, 0x1234, {.write = true}).reached);
    const auto forget = [&](std::uint64_t address) {
        static std::uint32_t n = 100;
        s->put(0x3 | std::uint64_t{nic} << 32, address);
        CHECK(s->forget({}, ++n));
        return s->m.device_translations();
    };
    CHECK(forget(0x2000) == 1);
    CHECK(forget(0x5001) == 1); // 16 KiB from 0x4000
    CHECK(forget(0x2001) == 1); // 8 KiB from 0x2000
    CHECK(forget(0x0001) == 0); // and from 0
    CHECK(s->m.device_tlb_dma(nic, 0x1234, {.write = true}).reason == 0x79);
    s->m.write32(0x220 + 12, 1U << 31);
    const auto without = std::make_unique<scalable>();
    REQUIRE(without->start());
    CHECK(without->m.device_tlb_dma(nic, 0x1234, {.write = true}).reason == 0x44);
    CHECK(s->blamed().empty());
}

TEST_CASE("power is lost, and several units look at one memory", "[vtd][fake unit]") {
    const auto s = std::make_unique<software<>>();
    REQUIRE(s->set_root());
    s->forget_by_register();
    REQUIRE(s->translate());
    REQUIRE(s->start_queue());
    s->m.power_loss();
    CHECK((s->m.read32(GSTS) == 0 && s->m.read64(RTADDR) == 0 && s->m.read64(IQA) == 0));
    CHECK(s->m.read32(FECTL) == (IM | s->m.event_reserved));
    CHECK(s->m.dma(nic, 0x1000, true).reached);
    CHECK(s->m.taken(s->queue));
    CHECK(s->blamed().empty());

    const auto machine = std::make_unique<host<8>>();
    remapping_unit first{*machine};
    remapping_unit second{*machine};
    frames<host<8>> memory{machine.get()};
    publisher<host<8>> out{machine.get()};
    const std::uint64_t root = memory.allocate(pt::frame_contents::zeroed).value().raw;
    out.publish(machine->stored, 512);
    out.complete();
    first.firmware_translation(root);
    CHECK(first.dma(nic, 0x1000, true).reason == 0x1);
    CHECK(second.dma(nic, 0x1000, true).reached);
    first.hammer.runs = second.hammer.runs = true;
    out.publish(machine->stored, 1);
    out.complete();
    CHECK((first.hammer.count == 1 && second.hammer.count == 1));
    machine->forget_journal();
    second.write64(RTADDR, root);
    CHECK(machine->journal[0] == event{event::kind::write64, RTADDR, root, 1});
    CHECK(machine->violation == nullptr);
}

TEST_CASE("firmware's queue, half done, is emptied and switched off", "[vtd][fake unit]") {
    const auto s = std::make_unique<software<>>();
    s->queue = s->frame();
    s->status = s->frame();
    s->put(context_global);
    s->put_wait(1);
    s->m.firmware_queue(s->queue, 0, s->tail);
    CHECK(s->m.read64(IQT) == 32);
    for (unsigned i = 0; i < 10 && s->m.read64(IQH) != s->m.read64(IQT); ++i) {}
    CHECK(s->said() == 1);
    REQUIRE(s->order(s->on() & ~QIE, QIE, 0));
    CHECK(s->m.read64(IQH) == 0);
    CHECK(s->blamed().empty());
}

} // namespace
