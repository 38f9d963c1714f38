// SPDX-License-Identifier: BSL-1.0
//
// What a nested page fault says, by pt's words, of accesses that the test knows; and which entries
// the processor finds reserved bits in, where pt's format says that they are malformed.
#include "../svm.hpp"

#include "pt/paging/entry_format.hpp"
#include "pt/svm/nested_page_fault.hpp"
#include "pt/vcpu/memory_violation.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::check_error;
using kernel::guest;
using kernel::guest_mode;
using pt::gpa;
using pt::svm::exit_code;
using pt::vcpu::memory_violation;
using information = pt::svm::nested_page_fault_information;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr gpa place = guest::data + 0x128;
constexpr std::uint8_t hlt = 0xF4;

memory_violation violation_of_exit(const guest& machine) {
    return pt::svm::violation_of(information{machine.words().exit_info_1},
                                 gpa{machine.words().exit_info_2});
}

/// Checks the next exit.
bool check_violation(const char* name, guest& machine, const memory_violation& expected) {
    const bool exits = machine.exits_with(exit_code::nested_page_fault);
    const bool holds = check(name, exits && violation_of_exit(machine) == expected);
    if (exits && !holds) {
        machine.say_exit();
    }
    return holds;
}

// ---------------------------------------------------------------------------- the guest's accesses

/// The same bytes in 32-bit and in 64-bit mode, with the address in RBX; others in real mode, with
/// the address in SI.
///
/// QEMU 7.2 executes a read-modify-write as a read and a write, and so the read faults where both
/// would. A processor faults for the write [amd].
struct access {
    const char* name;
    std::uint8_t bytes[3];  ///< HLT behind it
    memory_violation what;  ///< on a page to read; but for address and mapped
    bool reads = what.read; ///< where nothing is mapped, it is a read that faults
};

constexpr access data_accesses[] = {
    {"a read", {0x8B, 0x03, hlt}, {.read = true}},                     // mov (%ebx), %eax
    {"a write", {0x89, 0x03, hlt}, {.write = true}},                   // mov %eax, (%ebx)
    {"a read-modify-write", {0xFF, 0x03, hlt}, {.write = true}, true}, // incl (%ebx)
    {"an exchange", {0x87, 0x03, hlt}, {.write = true}, true},         // xchg %eax, (%ebx)
};
constexpr access data_accesses_16[] = {
    {"a read", {0x8B, 0x04, hlt}, {.read = true}},                     // mov (%si), %ax
    {"a write", {0x89, 0x04, hlt}, {.write = true}},                   // mov %ax, (%si)
    {"a read-modify-write", {0xFF, 0x04, hlt}, {.write = true}, true}, // incw (%si)
    {"an exchange", {0x87, 0x04, hlt}, {.write = true}, true},         // xchg %ax, (%si)
};

void start_access(guest& machine, const access& each) {
    machine.general.rbx = machine.general.rsi = place.raw;
    machine.execute({each.bytes[0], each.bytes[1], each.bytes[2]});
}

template <std::size_t N>
void check_data(guest& machine, guest_mode mode, const access (&all)[N]) {
    const auto in_part = [&](const char* what, bool mapped, bool reads_pass) {
        kernel::begin_part(name(mode), what);
        for (const access& each : all) {
            start_access(machine, each);
            if (reads_pass && each.what.read) {
                check(each.name, machine.exits_with(exit_code::hlt));
                continue;
            }
            memory_violation expected = each.what;
            if (!mapped && each.reads) {
                expected = {.read = true};
            }
            expected.address = place;
            expected.mapped = mapped;
            const bool exits = machine.exits_with(exit_code::nested_page_fault);
            const memory_violation said = violation_of_exit(machine);
            // What the VMM gives, the guest's instruction then finds.
            machine.map(guest::data);
            const bool passes = machine.exits_with(exit_code::hlt);
            check(each.name, exits && said == expected && passes);
            if (mapped) {
                machine.protect(guest::data, {.execute = true});
            } else {
                machine.unmap(guest::data);
            }
        }
    };
    machine.start(mode);
    machine.unmap(guest::data);
    in_part("where nothing is mapped", false, false);
    machine.map(guest::data);
    machine.protect(guest::data, {.execute = true});
    in_part("of a page to read", true, true);
}

void check_fetch(guest& machine, guest_mode mode) {
    kernel::begin_part(name(mode));
    machine.start(mode);
    machine.put({hlt}, place);
    machine.go_to(place);
    machine.unmap(guest::data);
    check_violation("a fetch where nothing is mapped", machine,
                    {.address = place, .execute = true});
    machine.map(guest::data);
    machine.protect(guest::data, {.write = true});
    check_violation("a fetch from a page without execute", machine,
                    {.address = place, .execute = true, .mapped = true});
    machine.map(guest::data);
    check("a fetch passes", machine.exits_with(exit_code::hlt));
    // An instruction that begins on one page and ends on the next: the second is fetched as well.
    const gpa last = guest::data + page - 1;
    machine.put({0x90, hlt}, last);
    machine.put({0xB0, 0x00, hlt}, last); // mov $0, %al
    machine.go_to(last);
    machine.unmap(guest::data + page);
    check_violation("a fetch across the end of the page", machine,
                    {.address = guest::data + page, .execute = true});
    machine.map(guest::data + page);
    check("then it passes", machine.exits_with(exit_code::hlt));
}

void accesses() {
    guest machine;
    check_data(machine, guest_mode::real, data_accesses_16);
    check_data(machine, guest_mode::protected_32, data_accesses);
    check_data(machine, guest_mode::long_64, data_accesses);
    for (const guest_mode mode : kernel::every_mode) {
        check_fetch(machine, mode);
    }
    kernel::begin_part(nullptr);

    // A memory type or rights that nested tables cannot have: pt does not write such an entry.
    check_error("pages for the supervisor only are refused",
                machine.tables().protect({guest::data, page}, {.write = true, .user = false}),
                pt::errc::not_supported);
    machine.start(guest_mode::long_64);
    const std::uint64_t entry = machine.entry(guest::data);
    machine.write_entry(guest::data, entry & ~pt::x86_64::leaf_entry::user.mask);
    start_access(machine, data_accesses[0]);
    check_violation("as the processor would: it reads as a user", machine,
                    {.address = place, .read = true, .mapped = true});
    check("and says so", information{machine.words().exit_info_1}[information::user]);
}

// ---------------------------------------------------------------------------- the walks on the way

void walks() {
    guest machine;
    const access& read = data_accesses[0];
    constexpr const char* names[] = {"level 4", "level 3", "level 2", "level 1"};
    for (unsigned i = 0; i < 4; ++i) {
        kernel::begin_part(names[i]);
        machine.start(guest_mode::long_64);
        const gpa table = guest::page_tables + i * page;
        const gpa entry = i == 3 ? table + 8 * (place.raw / page) : table;
        start_access(machine, read);
        machine.unmap(table);
        // The first walk is for the instruction itself.
        const gpa entry_of_code = i == 3 ? table + 8 * (guest::code.raw / page) : table;
        check("the walk finds nothing", machine.exits_with(exit_code::nested_page_fault));
        const memory_violation walk = violation_of_exit(machine);
        check_equal("at the entry", walk.address.raw, entry_of_code.raw);
        check("it is the walk that reads", walk.read && !walk.final_translation && !walk.mapped);
        check("and the fetch is not told as one of the page", !walk.execute);

        // Reads of the guest's tables count as writes [amd]: the walk may set accessed flags.
        machine.map(table);
        machine.protect(table, {.execute = true});
        *machine.at(entry_of_code) &= ~std::uint64_t{0x20};
        check("the walk may not write", machine.exits_with(exit_code::nested_page_fault));
        const memory_violation flags = violation_of_exit(machine);
        check_equal("at the same entry", flags.address.raw, entry_of_code.raw);
        check("it is the walk that writes",
              flags.write && flags.read && !flags.final_translation && flags.mapped);
        machine.map(table);
        check("then it passes", machine.exits_with(exit_code::hlt));
        check("and has set the flag",
              (*machine.at(entry) & 0x20) != 0 && (*machine.at(entry_of_code) & 0x20) != 0);
    }
    kernel::begin_part(nullptr);
}

// ----------------------------------------------------------------------------------- entries

struct tally {
    unsigned wrong = 0;
    unsigned reserved = 0;
    unsigned violations = 0;
    unsigned passed = 0;
};

/// Puts the entry in place, and has the guest read through it.
void try_entry(guest& machine, gpa target, unsigned level, std::uint64_t entry, tally& all) {
    machine.write_entry(target, entry, level);
    start_access(machine, data_accesses[0]);
    machine.put({hlt}, guest::code + 2);
    const bool entered = machine.enter();
    const bool passes = entered && machine.reason() == exit_code::hlt;
    const bool faults = entered && machine.reason() == exit_code::nested_page_fault;
    const bool reserved =
        faults && information{machine.words().exit_info_1}[information::reserved_bit];
    all.passed += passes ? 1 : 0;
    all.reserved += reserved ? 1 : 0;
    all.violations += faults && !reserved ? 1 : 0;

    using pt::paging::entry_defect;
    using e = pt::x86_64::leaf_entry;
    const auto& format = machine.format();
    const bool present = format.is_present(entry);
    const bool malformed = present && format.defect(entry, level) != entry_defect::none;
    const bool allowed = present && !malformed && (entry & e::user.mask) != 0;
    if (reserved != malformed || passes != allowed || !(passes || faults)) {
        if (++all.wrong == 1) {
            kernel::say("level ", std::uint64_t{level}, ", entry ", entry);
            machine.say_exit();
        }
    }
}

void entries() {
    constexpr const char* names[] = {"", "level 1", "level 2", "level 3", "level 4"};
    guest machine;
    const unsigned width = machine.format().output_width();
    machine.start(guest_mode::long_64);

    // For entries that point to tables: tables by which the first page leads to the data.
    std::uint64_t tables[5] = {};
    std::uint64_t below =
        machine.format().leaf(machine.host_address(guest::data), pt::x86_64::ram, 1);
    for (unsigned level = 1; level <= 3; ++level) {
        const pt::hpa table = kernel::take_frame();
        *kernel::pointer_to(table) = below;
        tables[level + 1] = table.raw;
        below = machine.format().table(table);
    }

    for (unsigned level = 1; level <= 4; ++level) {
        kernel::begin_part(names[level]);
        // The page of the guest's data, or the first of the second entry of that level, through
        // which nothing else is reached. pt makes the tables above.
        const gpa target =
            level == 1 ? guest::data : gpa{std::uint64_t{1} << (12 + 9 * (level - 1))};
        if (level > 1) {
            auto mapped = machine.tables().map({target, page}, machine.host_address(guest::data),
                                               pt::x86_64::ram);
            check("there is a way to the entry", mapped && mapped->redeem(machine.hardware()));
        }
        *machine.at(guest::page_tables + 3 * page + 8 * (place.raw / page)) = target.raw | 0x67;

        const std::uint64_t before = machine.entry(target, level);
        const std::uint64_t leaf = level == 1   ? machine.host_address(guest::data).raw
                                   : level == 2 ? machine.host_address(gpa{0}).raw
                                                : 0;
        tally all;
        // Up to the global bit; in level 4 it is reserved [amd], which QEMU 7.2 does not look at.
        for (std::uint64_t low = 0; low < (level == 4 ? 256 : 512); ++low) {
            const bool is_leaf = level == 1 || (low & 0x80) != 0;
            const std::uint64_t entry = low | (is_leaf ? leaf : tables[level]);
            try_entry(machine, target, level, entry, all);
            try_entry(machine, target, level, entry | std::uint64_t{1} << 63, all); // no-execute
            try_entry(machine, target, level, entry | std::uint64_t{0x3FF} << 52, all);
            if (width < 52) {
                try_entry(machine, target, level, entry | std::uint64_t{1} << width, all);
                try_entry(machine, target, level, entry | std::uint64_t{1} << 51, all);
            }
            if (is_leaf && level > 1) {
                try_entry(machine, target, level, entry | 2 * page, all);
                try_entry(machine, target, level, entry | pt::paging::level_size(level) / 2, all);
            }
        }
        machine.write_entry(target, before, level);
        check_equal("pt knows what the processor does of each entry", all.wrong, 0);
        check("all of it happens", all.reserved > 100 && all.violations > 100 && all.passed > 10);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"svm_nested_faults",
                                                                         accesses};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"svm_walks", walks};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"svm_nested_entries",
                                                                         entries};

} // namespace
