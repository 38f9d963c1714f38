// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/guest_memory.hpp"
#include "../../../examples/vmm/world.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace {

namespace pc = vmm::pc;
using pt::vcpu::exception_vector;
using pt::vcpu::guest_place;
using pt::vcpu::memory_access;
using pt::vcpu::segment_register;

struct processor {
    vmm::cpu_state registers{};
    vmm::cpu_state state() const { return registers; }
};
using guest_memory = pc::guest_memory<processor>;
static_assert(pt::vcpu::guest_memory<guest_memory>);

constexpr unsigned width = 36;
constexpr std::size_t memory_size = 16 * 4096;

struct machine {
    std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(memory_size);
    pc::ram_piece piece{{pt::gpa{0}, memory_size}, bytes.data()};
    processor cpu{};
    guest_memory memory{cpu, pc::guest_ram{&piece, 1}, width};

    std::uint64_t entry(std::uint64_t at, unsigned size) const {
        std::uint64_t value = 0;
        if (at + size <= memory_size) {
            std::memcpy(&value, bytes.data() + at, size);
        } else {
            std::memset(&value, 0xFF, size); // nobody answers
        }
        return value;
    }
    void put(std::uint64_t at, std::uint64_t value, unsigned size) {
        if (at + size <= memory_size) {
            std::memcpy(bytes.data() + at, &value, size);
        }
    }
};

/// Flat segments at that privilege level, 32-bit or 64-bit code.
void flat(machine& of, std::uint8_t level, bool long_mode) {
    of.cpu.registers = vmm::multiboot_state(0);
    of.cpu.registers.cpl = level;
    if (long_mode) {
        of.cpu.registers[segment_register::cs].rights = 0xA09B; // L, not D
        of.cpu.registers.efer |= 1U << 10;
    }
}

// A second walk, in the words of [sdm]: one function for each paging mode, no loop over levels.

struct walk_result {
    bool faults = false;
    std::uint32_t error = 0;
    std::uint64_t address = 0;
};
struct walk {
    machine* of;
    std::uint64_t linear;
    memory_access access;

    bool executable = true;
    bool reserved = false;
    bool missing = false;
    bool user = true;
    bool writable = true;
    std::uint64_t used[5]{};
    unsigned used_size = 0;
    unsigned used_count = 0;
    unsigned first_with_flags = 0; ///< PDPTEs of PAE paging have none

    bool nx() const { return (of->cpu.registers.efer >> 11 & 1) != 0; }
    std::uint64_t field(unsigned high, unsigned low) const {
        return linear >> low & ((std::uint64_t{1} << (high - low + 1)) - 1);
    }
    static bool any(std::uint64_t entry, unsigned high, unsigned low) {
        return high >= low && (entry << (63 - high) >> (63 - high) >> low) != 0;
    }
    /// Reads an entry and takes its P, R/W and U/S into account.
    std::uint64_t take(std::uint64_t at, unsigned size, bool has_rights = true) {
        const std::uint64_t entry = of->entry(at, size);
        used[used_count++] = at;
        used_size = size;
        missing = (entry & 1) == 0;
        if (!missing && has_rights) {
            writable = writable && (entry >> 1 & 1) != 0;
            user = user && (entry >> 2 & 1) != 0;
            executable = executable && entry >> 63 == 0;
        }
        return entry;
    }

    std::uint64_t two_levels() { // Table 4-3 to 4-6 of the manual's 32-bit paging
        const bool pse = (of->cpu.registers.cr4 >> 4 & 1) != 0;
        const std::uint64_t pde = take((of->cpu.registers.cr3 & 0xFFFFF000) + 4 * field(31, 22), 4);
        if (missing) {
            return 0;
        }
        if (pse && (pde >> 7 & 1) != 0) {
            reserved = any(pde, 21, 21) || any(pde, 20, 13 + (width - 32));
            return (pde >> 13 & 0xFF) << 32 | (pde & 0xFFC00000) | field(21, 0);
        }
        const std::uint64_t pte = take((pde & 0xFFFFF000) + 4 * field(21, 12), 4);
        return (pte & 0xFFFFF000) | field(11, 0);
    }

    bool bad_pae(std::uint64_t entry) const {
        return any(entry, 62, width) || (!nx() && any(entry, 63, 63));
    }
    std::uint64_t three_levels() {
        first_with_flags = 1;
        const std::uint64_t pdpte =
            take((of->cpu.registers.cr3 & 0xFFFFFFE0) + 8 * field(31, 30), 8, false);
        if (missing) {
            return 0;
        }
        if (any(pdpte, 2, 1) || any(pdpte, 8, 5) || any(pdpte, 63, width)) {
            reserved = true;
            return 0;
        }
        constexpr std::uint64_t frame = 0x000FFFFFFFFFF000;
        const std::uint64_t pde = take((pdpte & frame) + 8 * field(29, 21), 8);
        if (missing) {
            return 0;
        }
        reserved = bad_pae(pde);
        if ((pde >> 7 & 1) != 0) {
            reserved = reserved || any(pde, 20, 13);
            return (pde & 0x000FFFFFFFE00000) | field(20, 0);
        }
        if (reserved) {
            return 0;
        }
        const std::uint64_t pte = take((pde & frame) + 8 * field(20, 12), 8);
        reserved = !missing && bad_pae(pte);
        return (pte & frame) | field(11, 0);
    }

    bool bad_long(std::uint64_t entry) const {
        return any(entry, 51, width) || (!nx() && any(entry, 63, 63));
    }
    std::uint64_t four_levels() {
        constexpr std::uint64_t frame = 0x000FFFFFFFFFF000;
        const std::uint64_t pml4e = take((of->cpu.registers.cr3 & frame) + 8 * field(47, 39), 8);
        if (missing) {
            return 0;
        }
        if (bad_long(pml4e) || any(pml4e, 7, 7)) {
            reserved = true;
            return 0;
        }
        const std::uint64_t pdpte = take((pml4e & frame) + 8 * field(38, 30), 8);
        if (missing) {
            return 0;
        }
        reserved = bad_long(pdpte);
        if ((pdpte >> 7 & 1) != 0) {
            reserved = reserved || any(pdpte, 29, 13);
            return (pdpte & 0x000FFFFFC0000000) | field(29, 0);
        }
        if (reserved) {
            return 0;
        }
        const std::uint64_t pde = take((pdpte & frame) + 8 * field(29, 21), 8);
        if (missing) {
            return 0;
        }
        reserved = bad_long(pde);
        if ((pde >> 7 & 1) != 0) {
            reserved = reserved || any(pde, 20, 13);
            return (pde & 0x000FFFFFFFE00000) | field(20, 0);
        }
        if (reserved) {
            return 0;
        }
        const std::uint64_t pte = take((pde & frame) + 8 * field(20, 12), 8);
        reserved = !missing && bad_long(pte);
        return (pte & frame) | field(11, 0);
    }

    walk_result done(std::uint64_t address) {
        const auto& cpu = of->cpu.registers;
        const bool is_user = cpu.cpl == 3;
        const bool smep = (cpu.cr4 >> 20 & 1) != 0;
        const bool writes = access == memory_access::write;
        const bool fetches = access == memory_access::execute;
        const bool has_nx = (cpu.cr4 >> 5 & 1) != 0 && nx();
        const std::uint32_t kind =
            (writes ? 2U : 0U) | (is_user ? 4U : 0U) | (fetches && (smep || has_nx) ? 16U : 0U);
        if (missing) {
            return {true, kind, 0};
        }
        if (reserved) {
            return {true, kind | 9U, 0};
        }
        bool allowed = true;
        if (fetches) { // XD that is reserved was found above
            allowed = executable && (is_user ? user : !(user && smep));
        } else if (is_user) {
            allowed = user && (!writes || writable);
        } else {
            const bool smap = (cpu.cr4 >> 21 & 1) != 0 && (cpu.rflags >> 18 & 1) == 0;
            allowed = !(user && smap) && (!writes || writable || (cpu.cr0 >> 16 & 1) == 0);
        }
        if (!allowed) {
            return {true, kind | 1U, 0};
        }
        for (unsigned i = first_with_flags; i != used_count; ++i) {
            const bool last = i + 1 == used_count;
            of->put(used[i], of->entry(used[i], used_size) | 0x20U | (last && writes ? 0x40U : 0U),
                    used_size);
        }
        return {false, 0, address};
    }
};

walk_result model(machine& of, std::uint64_t linear, memory_access access) {
    walk steps{.of = &of, .linear = linear, .access = access};
    const auto& cpu = of.cpu.registers;
    if ((cpu.cr0 >> 31 & 1) == 0) {
        return {false, 0, linear};
    }
    if ((cpu.cr4 >> 5 & 1) == 0) {
        return steps.done(steps.two_levels());
    }
    return steps.done((cpu.efer >> 10 & 1) == 0 ? steps.three_levels() : steps.four_levels());
}

/// Tables of which nearly every entry leads somewhere, with rights and now and then a bit that is
/// reserved.
void fill(machine& of, std::mt19937_64& random, unsigned entry_size) {
    for (std::uint64_t at = 0; at != memory_size; at += entry_size) {
        std::uint64_t entry = random() % 15 * 4096 | (random() % 20 != 0 ? 1U : 0U) |
                              (random() % 4 != 0 ? 2U : 0U) | (random() % 4 != 0 ? 4U : 0U) |
                              (random() % 2 != 0 ? 0x60U : 0U) | (random() % 8 == 0 ? 0x80U : 0U);
        if (random() % 8 == 0) {
            entry |= std::uint64_t{1} << random() % 64;
        }
        if ((entry & 0x80U) != 0 && random() % 2 == 0) {
            entry &= ~std::uint64_t{0x3F'F000};
        }
        if ((entry & 0x80U) != 0 && random() % 4 == 0) {
            entry |= std::uint64_t{1} << (13 + random() % 9);
        }
        of.put(at, entry, entry_size);
    }
}

void compare(unsigned levels, std::uint64_t seed) {
    std::mt19937_64 random{seed};
    unsigned faults[32] = {};
    unsigned reached = 0;
    for (unsigned round = 0; round != 400; ++round) {
        machine is;
        fill(is, random, levels == 2 ? 4 : 8);
        flat(is, random() % 2 == 0 ? 3 : 0, levels == 4);
        auto& cpu = is.cpu.registers;
        cpu.cr0 |= std::uint64_t{1} << 31 | (random() % 2 << 16);
        cpu.cr3 = random() % 15 * 4096 | (levels == 3 ? random() % 128 * 32 : random() % 4096);
        cpu.cr4 = (levels == 2 ? 0U : 1U << 5) | random() % 2 << 4 | random() % 2 << 20 |
                  random() % 2 << 21;
        cpu.efer |= random() % 2 << 11;
        cpu.rflags |= random() % 2 << 18;
        machine expected;
        expected.bytes = is.bytes;
        expected.cpu = is.cpu;
        for (unsigned i = 0; i != 50; ++i) {
            const unsigned bits = levels == 4 ? 48 : 32;
            std::uint64_t linear = random() >> (64 - bits);
            if (levels == 4 && (linear >> 47) != 0) {
                linear |= std::uint64_t{0xFFFF} << 48;
            }
            const auto access = static_cast<memory_access>(random() % 3);
            const bool fetches = access == memory_access::execute;
            const walk_result right = model(expected, linear, access);
            const guest_place place = is.memory.locate(
                {fetches ? segment_register::cs : segment_register::ds, linear}, 1, access);
            REQUIRE(place.fault.present == right.faults);
            if (right.faults) {
                REQUIRE(place.fault ==
                        pt::vcpu::exception(exception_vector::page_fault, right.error));
                REQUIRE(place.cr2 == linear);
                ++faults[right.error & 31];
            } else {
                REQUIRE(place.address.raw == right.address);
                REQUIRE(place.size == 1);
                ++reached;
            }
            REQUIRE(is.bytes == expected.bytes); // accessed and dirty flags, and nothing else
        }
    }
    CHECK(reached > 100);
    for (const unsigned error :
         {0U, 1U, 2U, 3U, 4U, 5U, 6U, 7U, 9U, 11U, 13U, 15U, 16U, 17U, 20U, 21U, 25U, 29U}) {
        INFO("error code " << error);
        CHECK(faults[error] > 0); // it can tell the difference
    }
}

guest_place locate(machine& of, segment_register segment, std::uint64_t offset, std::uint32_t size,
                   memory_access access = memory_access::read) {
    return of.memory.locate({segment, offset}, size, access);
}

bool is(const guest_place& place, exception_vector vector) {
    return place.fault == pt::vcpu::exception(vector, 0);
}

} // namespace

TEST_CASE("32-bit paging is walked as a second walk does", "[vmm_pc][guest_memory]") {
    compare(2, 32);
}
TEST_CASE("PAE paging is walked as a second walk does", "[vmm_pc][guest_memory]") {
    compare(3, 36);
}
TEST_CASE("4-level paging is walked as a second walk does", "[vmm_pc][guest_memory]") {
    compare(4, 64);
}

TEST_CASE("without paging a linear address is a physical one", "[vmm_pc][guest_memory]") {
    machine of;
    flat(of, 0, false);
    of.cpu.registers[segment_register::fs].base = 0xFFFF'F000;
    CHECK(locate(of, segment_register::ds, 0x1234, 4).address == pt::gpa{0x1234});
    CHECK(locate(of, segment_register::fs, 0x1234, 4).address == pt::gpa{0x234}); // 32 bits
    CHECK(locate(of, segment_register::ds, 0x1FFE, 4).size == 2); // the rest is in the next page
    CHECK(locate(of, segment_register::ds, 0x1'0000'0010, 4).address == pt::gpa{0x10});
}

TEST_CASE("limits, types and null segments are checked as the processor checks them",
          "[vmm_pc][guest_memory]") {
    machine of;
    flat(of, 0, false);
    auto& cpu = of.cpu.registers;
    const auto write = memory_access::write;

    cpu[segment_register::ds] = {.rights = 0xC093, .limit = 0xFFF};
    CHECK_FALSE(locate(of, segment_register::ds, 0xFFC, 4).fault.present);
    CHECK(is(locate(of, segment_register::ds, 0xFFD, 4), exception_vector::general_protection));
    CHECK(is(locate(of, segment_register::ds, 0xFFFF'FFFF, 4),
             exception_vector::general_protection)); // no wrap inside of an operand
    cpu[segment_register::ss] = {.rights = 0xC093, .limit = 0xFFF};
    CHECK(is(locate(of, segment_register::ss, 0x1000, 1), exception_vector::stack_segment_fault));

    cpu[segment_register::ds].rights = 0xC091; // read-only
    CHECK_FALSE(locate(of, segment_register::ds, 0, 4).fault.present);
    CHECK(is(locate(of, segment_register::ds, 0, 4, write), exception_vector::general_protection));
    cpu[segment_register::ds].rights = 0xC099; // execute-only code
    CHECK(is(locate(of, segment_register::ds, 0, 4), exception_vector::general_protection));
    cpu[segment_register::ds].rights = 0xC09B; // code that can be read
    CHECK_FALSE(locate(of, segment_register::ds, 0, 4).fault.present);
    CHECK(is(locate(of, segment_register::ds, 0, 4, write), exception_vector::general_protection));
    cpu[segment_register::ds].rights = vmm::segment_state::unusable;
    CHECK(is(locate(of, segment_register::ds, 0, 4), exception_vector::general_protection));
    cpu[segment_register::cs].rights = 0xC099; // an instruction's bytes are fetched, not read
    CHECK_FALSE(locate(of, segment_register::cs, 0, 1, memory_access::execute).fault.present);
    CHECK(is(locate(of, segment_register::cs, 0, 1), exception_vector::general_protection));

    cpu[segment_register::es] = {.rights = 0xC097, .limit = 0xFFF}; // expands down
    CHECK(is(locate(of, segment_register::es, 0xFFF, 1), exception_vector::general_protection));
    CHECK_FALSE(locate(of, segment_register::es, 0x1000, 4, write).fault.present);
    CHECK(
        is(locate(of, segment_register::es, 0xFFFF'FFFE, 4), exception_vector::general_protection));
    cpu[segment_register::es].rights = 0x0097; // not big: up to 64 KiB
    CHECK_FALSE(locate(of, segment_register::es, 0xFFFC, 4).fault.present);
    CHECK(is(locate(of, segment_register::es, 0xFFFD, 4), exception_vector::general_protection));
}

TEST_CASE("real mode has 64 KiB behind a base", "[vmm_pc][guest_memory]") {
    machine of;
    auto& cpu = of.cpu.registers;
    cpu = vmm::cpu_state{};
    for (auto& segment : cpu.segments) {
        segment = {.selector = 0x0100, .rights = 0x0093, .limit = 0xFFFF, .base = 0x1000};
    }
    CHECK(locate(of, segment_register::ds, 0x0010, 2).address == pt::gpa{0x1010});
    CHECK(is(locate(of, segment_register::ds, 0xFFFF, 2), exception_vector::general_protection));
}

TEST_CASE("64-bit code has no segments but FS and GS, and canonical addresses",
          "[vmm_pc][guest_memory]") {
    machine of;
    flat(of, 0, true);
    auto& cpu = of.cpu.registers;
    for (const auto each : {segment_register::ds, segment_register::es, segment_register::ss}) {
        cpu[each] = {.rights = vmm::segment_state::unusable, .limit = 0, .base = 0x5000};
        CHECK(locate(of, each, 0x1234, 8).address == pt::gpa{0x1234});
    }
    cpu[segment_register::gs].base = 0x2000;
    CHECK(locate(of, segment_register::gs, 0x10, 8).address == pt::gpa{0x2010});
    CHECK(is(locate(of, segment_register::ds, 0x8000'0000'0000, 1),
             exception_vector::general_protection));
    CHECK(is(locate(of, segment_register::ds, 0x7FFF'FFFF'FFFC, 8),
             exception_vector::general_protection));
    CHECK(is(locate(of, segment_register::ss, 0xFFFF'7FFF'FFFF'FFFF, 1),
             exception_vector::stack_segment_fault));
    CHECK_FALSE(locate(of, segment_register::ds, 0xFFFF'8000'0000'0000, 1).fault.present);
}

TEST_CASE("bytes that are no memory read all ones and are not written", "[vmm_pc][guest_memory]") {
    machine of;
    flat(of, 0, false);
    std::uint8_t bytes[4] = {1, 2, 3, 4};
    of.memory.write(pt::gpa{memory_size - 2}, bytes, 4);
    CHECK(of.bytes[memory_size - 2] == 1);
    CHECK(of.bytes[memory_size - 1] == 2);
    of.memory.read(pt::gpa{memory_size - 2}, bytes, 4);
    CHECK((bytes[0] == 1 && bytes[1] == 2 && bytes[2] == 0xFF && bytes[3] == 0xFF));
    of.memory.read(pt::gpa{~std::uint64_t{0} - 1}, bytes, 4); // and wraps around to memory at 0
    CHECK((bytes[0] == 0xFF && bytes[1] == 0xFF && bytes[2] == 0 && bytes[3] == 0));
}
