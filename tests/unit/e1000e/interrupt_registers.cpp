// SPDX-License-Identifier: BSL-1.0
// The interrupt registers as a guest sees them, by numbers from the datasheet, and beside a second
// model that keeps each cause as an object of its own.
#include "pt/e1000e/interrupt_registers.hpp"

#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cstdint>
#include <random>

namespace {

using pt::e1000e::family;
using pt::e1000e::icr;
using pt::e1000e::interrupt_registers;

constexpr std::uint32_t CTRLEXT = 0x18;
constexpr std::uint32_t ICR = 0xC0;
constexpr std::uint32_t ICS = 0xC8;
constexpr std::uint32_t IMS = 0xD0;
constexpr std::uint32_t IMC = 0xD8;
constexpr std::uint32_t EIAC = 0xDC;
constexpr std::uint32_t IAM = 0xE0;
constexpr std::uint32_t IVAR = 0xE4;

constexpr std::uint32_t EIAME = 1U << 24;
constexpr std::uint32_t IAME = 1U << 27;
constexpr std::uint32_t TXDW = 1U << 0;
constexpr std::uint32_t LSC = 1U << 2;
constexpr std::uint32_t RXT0 = 1U << 7;
constexpr std::uint32_t RXQ0 = 1U << 20;
constexpr std::uint32_t TXQ0 = 1U << 22;
constexpr std::uint32_t OTHER = 1U << 24;
constexpr std::uint32_t ASSERTED = 1U << 31;

/// RXQ0: 0, TXQ0: 1, OTHER: 2, as drivers have it.
constexpr std::uint32_t three_vectors = 0x8 << 0 | 0x9 << 8 | 0xA << 16;

constexpr interrupt_registers pending(std::uint32_t causes, std::uint32_t enabled,
                                      std::uint32_t control = 0, std::uint32_t auto_mask = 0) {
    interrupt_registers registers;
    registers.write(CTRLEXT, control);
    registers.write(IAM, auto_mask);
    registers.write(IMS, enabled);
    registers.raise(icr{causes});
    return registers;
}

// ------------------------------------------------------------------------------- ICR, IMS, IMC

constexpr bool read_with_all_masked_clears() {
    interrupt_registers registers = pending(TXDW | RXT0, 0);
    return registers.read(ICR) == (TXDW | RXT0) && registers.read(ICR) == 0;
}
static_assert(read_with_all_masked_clears());

constexpr bool read_without_an_interrupt_keeps() {
    interrupt_registers registers = pending(TXDW, RXT0);
    return registers.read(ICR) == TXDW && registers.read(ICR) == TXDW && !registers.asserted();
}
static_assert(read_without_an_interrupt_keeps());

// The examples that the manual of the 8257x gives: IMS = 10101010b, ICR = 01010101b stays, and ICR
// = 01010111b (one enabled) is cleared wholly; here at bits that exist.
constexpr bool read_of_an_interrupt_clears_all() {
    interrupt_registers registers = pending(TXDW | RXT0, RXT0);
    return registers.asserted() && registers.read(ICR) == (ASSERTED | TXDW | RXT0) &&
           registers.read(ICR) == 0 && registers.read(IMS) == RXT0 && !registers.asserted();
}
static_assert(read_of_an_interrupt_clears_all());

constexpr bool auto_mask_on_read() {
    interrupt_registers registers = pending(TXDW, TXDW | RXT0 | LSC, IAME, TXDW | LSC);
    return registers.read(ICR) == (ASSERTED | TXDW) && registers.read(IMS) == RXT0 &&
           registers.read(ICR) == 0;
}
static_assert(auto_mask_on_read());

constexpr bool auto_mask_needs_an_interrupt() {
    interrupt_registers registers = pending(TXDW, RXT0 | LSC, IAME, RXT0);
    return registers.read(ICR) == TXDW && registers.read(IMS) == (RXT0 | LSC);
}
static_assert(auto_mask_needs_an_interrupt());

constexpr bool write_clears_what_is_one() {
    interrupt_registers registers = pending(TXDW | RXT0, RXT0, IAME, RXT0);
    registers.write(ICR, TXDW); // RXT0 stays, and is masked by IAM
    const bool masked = registers.read(IMS) == 0 && !registers.asserted();
    registers.write(ICS, LSC); // pending, with OTHER
    registers.write(ICR, LSC);
    return masked && registers.read(ICR) == (RXT0 | OTHER);
}
static_assert(write_clears_what_is_one());

constexpr bool set_and_clear_of_the_mask() {
    interrupt_registers registers;
    registers.write(IMS, TXDW | RXT0);
    registers.write(IMS, LSC);
    registers.write(IMC, RXT0);
    bool right = registers.read(IMS) == (TXDW | LSC) && registers.read(IMC) == 0;
    registers.write(IMS, ~0U);
    // 0 to 2, 4, 6, 7, 9, 15 to 18, 20 to 24
    right = right && registers.read(IMS) == 0x01F7'82D7;
    registers.write(IMC, ~0U);
    return right && registers.read(IMS) == 0;
}
static_assert(set_and_clear_of_the_mask());

constexpr bool ics_raises() {
    interrupt_registers registers;
    registers.write(IMS, TXDW);
    registers.write(ICS, ~0U);
    return registers.read(ICS) == (ASSERTED | 0x01F7'82D7) && registers.take_message() &&
           !registers.take_message() && registers.read(ICR) == (ASSERTED | 0x01F7'82D7);
}
static_assert(ics_raises());

TEST_CASE("ICR is cleared by a read when all is masked, or when the interrupt is asserted",
          "[e1000e][82574][interrupts]") {
    REQUIRE(read_with_all_masked_clears());
    REQUIRE(read_without_an_interrupt_keeps());
    REQUIRE(read_of_an_interrupt_clears_all());
}

TEST_CASE("with IAME an access to ICR masks by IAM, if the interrupt is asserted",
          "[e1000e][82574][interrupts]") {
    REQUIRE(auto_mask_on_read());
    REQUIRE(auto_mask_needs_an_interrupt());
    REQUIRE(write_clears_what_is_one());
}

TEST_CASE("IMS enables, IMC disables, ICS raises; reserved bits stay 0",
          "[e1000e][82574][interrupts]") {
    REQUIRE(set_and_clear_of_the_mask());
    REQUIRE(ics_raises());
}

TEST_CASE("a message (MSI) is sent for each cause that becomes pending and enabled",
          "[e1000e][82574][interrupts]") {
    interrupt_registers registers = pending(TXDW, TXDW | RXT0);
    CHECK(registers.take_message());
    CHECK_FALSE(registers.take_message());
    registers.raise(icr{TXDW}); // still pending: nothing new
    CHECK_FALSE(registers.take_message());
    registers.raise(icr{RXT0});
    CHECK(registers.take_message());
    registers.write(IMC, TXDW);
    CHECK_FALSE(registers.take_message());
    registers.write(IMS, TXDW); // pending and enabled again
    CHECK(registers.take_message());
    registers.write(IMS, TXDW); // it was enabled
    CHECK_FALSE(registers.take_message());
    (void)registers.read(ICR);
    registers.raise(icr{TXDW});
    CHECK(registers.take_message());
    registers.write(ICR, TXDW); // gone before the message
    registers.raise(icr{TXDW});
    registers.write(ICR, TXDW);
    CHECK_FALSE(registers.take_message());
}

// ------------------------------------------------------------------------------------- MSI-X

constexpr bool each_cause_has_its_vector() {
    for (unsigned cause = 0; cause < 5; ++cause) {
        for (unsigned allocated = 0; allocated < 16; ++allocated) {
            interrupt_registers registers;
            registers.write(IVAR, allocated << 4 * cause);
            registers.write(IMS, 0x1FU << 20);
            registers.raise(icr{1U << (20 + cause)});
            const bool there = allocated >= 8 && allocated - 8 < 5;
            const unsigned vectors = there ? 1U << (allocated - 8) : 0;
            if (registers.due_vectors() != vectors || registers.take_vectors() != vectors ||
                registers.due_vectors() != 0) {
                return false;
            }
        }
    }
    return true;
}
static_assert(each_cause_has_its_vector());

constexpr bool others_raise_other() {
    std::uint32_t other = 0;
    for (unsigned cause = 0; cause < 20; ++cause) {
        interrupt_registers registers = pending(1U << cause, OTHER);
        registers.write(IVAR, 0xA << 16);
        other |= registers.take_vectors() == 4 ? 1U << cause : 0;
        if (((registers.read(ICS) & OTHER) != 0) != ((other >> cause & 1) != 0)) {
            return false;
        }
    }
    return other == 0x0007'0244; // LSC, RXO, MDAC, SRPD, ACK, MNG
}
static_assert(others_raise_other());

TEST_CASE("IVAR allocates vectors to the queues and to OTHER", "[e1000e][82574][interrupts]") {
    REQUIRE(each_cause_has_its_vector());
    REQUIRE(others_raise_other());
}

TEST_CASE("EIAC clears what the message reported, EIAME masks what IAM names",
          "[e1000e][82574][interrupts]") {
    interrupt_registers registers;
    registers.write(IVAR, three_vectors);
    registers.write(IMS, RXQ0 | TXQ0 | OTHER | LSC);

    SECTION("without EIAC the cause stays, and a second one brings no message") {
        registers.raise(icr{TXQ0});
        CHECK(registers.take_vectors() == 2);
        CHECK(registers.read(ICS) == (ASSERTED | TXQ0));
        registers.raise(icr{TXQ0});
        CHECK(registers.take_vectors() == 0);
        registers.write(ICR, TXQ0);
        registers.raise(icr{TXQ0});
        CHECK(registers.take_vectors() == 2);
    }
    SECTION("with EIAC each one brings a message, and the mask stays") {
        registers.write(EIAC, ~0U);
        CHECK(registers.read(EIAC) == 0x1FU << 20);
        registers.raise(icr{TXQ0});
        registers.raise(icr{RXQ0});
        CHECK(registers.take_vectors() == 3);
        CHECK(registers.read(ICS) == 0);
        registers.raise(icr{TXQ0});
        CHECK(registers.take_vectors() == 2);
        CHECK(registers.read(IMS) == (RXQ0 | TXQ0 | OTHER | LSC));
    }
    SECTION("with EIAME and IAM the vector's causes are masked until IMS is written") {
        registers.write(EIAC, RXQ0 | TXQ0);
        registers.write(CTRLEXT, EIAME);
        registers.write(IAM, ~0U);
        registers.raise(icr{TXQ0 | RXQ0});
        CHECK(registers.take_vectors(2) == 2);
        CHECK(registers.read(IMS) == (RXQ0 | OTHER | LSC));
        registers.raise(icr{TXQ0});
        CHECK(registers.due_vectors() == 1); // RXQ0, which was held back
        registers.write(IMS, TXQ0);
        CHECK(registers.take_vectors() == 3);
        CHECK(registers.read(IMS) == (OTHER | LSC));
        CHECK(registers.read(IAM) == ~0U);
    }
    SECTION("EIAC of OTHER leaves the cause behind it, as silicon shows 0x80000004") {
        registers.write(EIAC, OTHER);
        registers.raise(icr{LSC});
        CHECK(registers.take_vectors() == 4);
        CHECK(registers.read(ICR) == (ASSERTED | LSC));
        CHECK(registers.read(ICR) == 0);
    }
    SECTION("another cause behind OTHER, masked or not, brings a message again") {
        registers.write(EIAC, OTHER);
        registers.raise(icr{LSC});
        CHECK(registers.take_vectors() == 4);
        registers.raise(icr{1U << 6}); // RXO
        CHECK(registers.take_vectors() == 4);
    }
    SECTION("a cause without a valid entry, or without a queue, has no message") {
        registers.write(IVAR, 0);
        registers.raise(icr{TXQ0 | RXQ0 | LSC});
        CHECK(registers.take_vectors() == 0);
        registers.write(IMS, ~0U);
        registers.write(IVAR, three_vectors);
        CHECK(registers.take_vectors() == 7); // they were waiting
        registers.raise(icr{TXDW | RXT0});
        CHECK(registers.take_vectors() == 0);
    }
}

// ------------------------------------------------------------------------------------- 8254x

TEST_CASE("on 8254x a read of ICR always clears it, and there is nothing of MSI-X",
          "[e1000e][8254x][interrupts]") {
    interrupt_registers registers{family::pci};
    for (const std::uint32_t offset : {EIAC, IAM, IVAR}) {
        CHECK_FALSE(registers.owns(offset));
        registers.write(offset, ~0U);
        CHECK(registers.read(offset) == 0);
    }
    registers.write(CTRLEXT, IAME | EIAME);
    registers.write(IMS, ~0U);
    CHECK(registers.read(IMS) == 0x1'F6DF); // bits 16:0 without the reserved 5, 8 and 11
    registers.write(IMC, ~TXDW);
    registers.raise(icr{~0U});
    CHECK(registers.asserted());
    CHECK(registers.take_message());
    CHECK(registers.due_vectors() == 0);
    CHECK(registers.read(ICR) == 0x1'F6DF);
    CHECK(registers.read(ICR) == 0);
    CHECK(registers.read(IMS) == TXDW);
    registers.raise(icr{LSC}); // not enabled
    CHECK_FALSE(registers.asserted());
    CHECK(registers.read(ICR) == LSC);
    CHECK(registers.read(ICR) == 0);
}

TEST_CASE("what is no interrupt register is neither read nor written", "[e1000e][interrupts]") {
    interrupt_registers registers = pending(~0U, ~0U, ~0U, ~0U);
    const interrupt_registers before = registers;
    unsigned owned = 0;
    for (std::uint32_t offset = 0; offset < 0x2'0000; ++offset) {
        if (registers.owns(offset)) {
            ++owned;
        } else {
            registers.write(offset, ~0U);
            REQUIRE(registers.read(offset) == 0);
        }
    }
    CHECK(registers == before);
    CHECK(owned == 8);
    CHECK(registers.read(CTRLEXT) == 0xFFFF'CFFF); // ASDCHK and EE_RST clear themselves
    registers.write(IVAR, ~0U);
    CHECK(registers.read(IVAR) == 0x800F'FFFF);
    registers.reset();
    CHECK(registers == interrupt_registers{});
    CHECK(registers.read(CTRLEXT) == 0);
}

// --------------------------------------------------------------------------- the second model

/// Cause by cause, as the datasheet tells it.
class slow_interrupts {
public:
    explicit slow_interrupts(bool express) : express_{express} {
        for (const unsigned bit : {0U, 1U, 2U, 4U, 6U, 7U, 9U, 15U, 16U}) {
            causes_[bit].there = true;
        }
        for (const unsigned bit : {17U, 18U, 20U, 21U, 22U, 23U, 24U}) {
            causes_[bit].there = express;
        }
        for (const unsigned bit : {3U, 10U, 12U, 13U, 14U}) {
            causes_[bit].there = !express;
        }
    }
    void happen(unsigned bit) {
        one(bit);
        const bool is_other =
            bit == 2 || bit == 6 || bit == 9 || bit == 16 || bit == 17 || bit == 18;
        if (express_ && is_other) {
            one(24);
        }
    }
    void enable(unsigned bit) {
        cause& c = causes_[bit];
        if (c.there && !c.enabled) {
            c.enabled = true;
            c.told = false;
        }
    }
    void disable(unsigned bit) { causes_[bit].enabled = false; }
    std::uint32_t read_icr() {
        std::uint32_t value = 0;
        bool any_enabled = false;
        for (unsigned bit = 0; bit < 31; ++bit) {
            value |= causes_[bit].pending ? 1U << bit : 0;
            any_enabled = any_enabled || causes_[bit].enabled;
        }
        const bool interrupt = asserted();
        value |= interrupt && express_ ? 1U << 31 : 0;
        touch_icr();
        if (!express_ || interrupt || !any_enabled) {
            for (cause& c : causes_) {
                c.pending = false;
            }
        }
        return value;
    }
    void clear(std::uint32_t bits) {
        touch_icr();
        for (unsigned bit = 0; bit < 31; ++bit) {
            causes_[bit].pending = causes_[bit].pending && (bits >> bit & 1) == 0;
        }
    }
    [[nodiscard]] bool asserted() const {
        for (const cause& c : causes_) {
            if (c.pending && c.enabled) {
                return true;
            }
        }
        return false;
    }
    bool message() {
        bool sent = false;
        for (cause& c : causes_) {
            if (c.pending && c.enabled && !c.told) {
                sent = c.told = true;
            }
        }
        return sent;
    }
    bool vector(unsigned v) {
        if (!express_ || !due(v)) {
            return false;
        }
        for (unsigned n = 0; n < 5; ++n) {
            if (vector_of(n) != v) {
                continue;
            }
            cause& c = causes_[20 + n];
            if (c.pending && c.enabled) {
                c.told = true;
                c.pending = (eiac >> (20 + n) & 1) == 0;
            }
            if (eiame && (iam >> (20 + n) & 1) != 0) {
                c.enabled = false;
            }
        }
        return true;
    }
    [[nodiscard]] bool due(unsigned v) const {
        for (unsigned n = 0; n < 5; ++n) {
            const cause& c = causes_[20 + n];
            if (vector_of(n) == v && c.pending && c.enabled && !c.told) {
                return true;
            }
        }
        return false;
    }
    [[nodiscard]] std::uint32_t mask() const {
        std::uint32_t value = 0;
        for (unsigned bit = 0; bit < 31; ++bit) {
            value |= causes_[bit].enabled ? 1U << bit : 0;
        }
        return value;
    }

    bool iame = false;
    bool eiame = false;
    std::uint32_t iam = 0;
    std::uint32_t eiac = 0;
    std::uint32_t ivar = 0;

private:
    struct cause {
        bool there = false;
        bool pending = false;
        bool enabled = false;
        bool told = false;
    };
    void one(unsigned bit) {
        cause& c = causes_[bit];
        if (c.there && !c.pending) {
            c.pending = true;
            c.told = false;
        }
    }
    void touch_icr() {
        if (express_ && iame && asserted()) {
            for (unsigned bit = 0; bit < 31; ++bit) {
                causes_[bit].enabled = causes_[bit].enabled && (iam >> bit & 1) == 0;
            }
        }
    }
    [[nodiscard]] unsigned vector_of(unsigned n) const {
        const unsigned entry = ivar >> 4 * n & 15;
        return entry >= 8 ? entry - 8 : 99;
    }

    bool express_;
    std::array<cause, 31> causes_{};
};

void beside_the_model(family members, std::uint32_t seed) {
    std::mt19937 numbers{seed};
    const auto random = [&] { return static_cast<std::uint32_t>(numbers()); };
    interrupt_registers registers{members};
    slow_interrupts slow{members == family::pci_express};
    const bool express = members == family::pci_express;
    unsigned messages = 0;
    for (unsigned i = 0; i < 20'000; ++i) {
        // Few bits, many bits, or the ones that matter most.
        const std::uint32_t bits = random() % 4 == 0 ? random() : 1U << random() % 32;
        switch (random() % 12) {
        case 0:
        case 1:
        case 2:
            if (random() % 2 == 0) {
                registers.raise(icr{bits});
            } else {
                registers.write(ICS, bits);
            }
            for (unsigned bit = 0; bit < 31; ++bit) {
                if ((bits >> bit & 1) != 0) {
                    slow.happen(bit);
                }
            }
            break;
        case 3:
            registers.write(IMS, bits);
            for (unsigned bit = 0; bit < 31; ++bit) {
                if ((bits >> bit & 1) != 0) {
                    slow.enable(bit);
                }
            }
            break;
        case 4: {
            const std::uint32_t masked = random() % 8 == 0 ? ~0U : bits;
            registers.write(IMC, masked);
            for (unsigned bit = 0; bit < 31; ++bit) {
                if ((masked >> bit & 1) != 0) {
                    slow.disable(bit);
                }
            }
            break;
        }
        case 5: REQUIRE(registers.read(ICR) == slow.read_icr()); break;
        case 6:
            registers.write(ICR, bits);
            slow.clear(bits);
            break;
        case 7:
            registers.write(CTRLEXT, bits);
            slow.iame = (bits >> 27 & 1) != 0;
            slow.eiame = (bits >> 24 & 1) != 0;
            break;
        case 8:
            registers.write(IAM, bits);
            slow.iam = bits;
            break;
        case 9:
            registers.write(EIAC, bits);
            slow.eiac = bits;
            if (random() % 2 == 0) {
                const std::uint32_t allocated = random() | 0x8'8888;
                registers.write(IVAR, allocated);
                slow.ivar = allocated;
            }
            break;
        case 10: {
            const bool sent = slow.message();
            messages += sent;
            REQUIRE(registers.take_message() == sent);
            break;
        }
        default: {
            const std::uint32_t allowed = random() & 0xFF;
            std::uint32_t due = 0;
            for (unsigned v = 0; v < 5; ++v) {
                due |= express && slow.due(v) ? 1U << v : 0;
            }
            REQUIRE(registers.due_vectors() == due);
            std::uint32_t sent = 0;
            for (unsigned v = 0; v < 5; ++v) {
                if ((allowed >> v & 1) != 0 && slow.vector(v)) {
                    sent |= 1U << v;
                    ++messages;
                }
            }
            REQUIRE(sent == (due & allowed));
            REQUIRE(registers.take_vectors(static_cast<std::uint8_t>(allowed)) == sent);
            break;
        }
        }
        REQUIRE(registers.asserted() == slow.asserted());
        REQUIRE(registers.read(IMS) == slow.mask());
    }
    REQUIRE(messages > 300);
}

TEST_CASE("any sequence of causes and accesses is as cause by cause",
          "[e1000e][82574][8254x][interrupts]") {
    for (std::uint32_t seed = 1; seed <= 8; ++seed) {
        beside_the_model(family::pci_express, seed);
        beside_the_model(family::pci, seed);
    }
}

} // namespace
