// SPDX-License-Identifier: BSL-1.0
//
// What an EPT-violation exit says, by pt's words, of accesses that the test knows; and which
// entries the processor calls misconfigured, where pt's format says that they are malformed.
#include "../vmx.hpp"

#include "pt/paging/entry_format.hpp"
#include "pt/vcpu/memory_violation.hpp"
#include "pt/vmx/ept_exit.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::guest;
using kernel::guest_mode;
using kernel::vmcs_field;
using kernel::vmread;
using pt::gpa;
using pt::vcpu::memory_violation;
using pt::vmx::exit_reason;
using violation = pt::vmx::ept_violation_qualification;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr gpa place = guest::data + 0x128;

memory_violation violation_of_exit(const guest& machine) {
    return pt::vmx::violation_of(violation{machine.qualification()},
                                 gpa{vmread(vmcs_field::guest_physical_address)},
                                 vmread(vmcs_field::guest_linear_address));
}

/// Checks the next exit.
void check_violation(const char* name, guest& machine, const memory_violation& expected) {
    const bool exits = machine.exits_with(exit_reason::ept_violation);
    if (!check(name, exits && violation_of_exit(machine) == expected)) {
        kernel::say("qualification ", machine.qualification(), ", address ",
                    vmread(vmcs_field::guest_physical_address), ", linear ",
                    vmread(vmcs_field::guest_linear_address));
    }
}

/// Where the accesses go. As bytes they are the same in all modes, but the register is not.
void aim(guest& machine, std::uint64_t linear) {
    machine.general.rdi = linear; // in 16-bit mode it is BX for all of them
    machine.general.rbx = linear;
}
/// An access through RDI, and a VMCALL, to see that it took place.
void access(guest& machine, std::uint8_t opcode) {
    machine.execute({opcode, 0x07, 0x0F, 0x01, 0xC1});
}
void read(guest& machine) { access(machine, 0x8A); }          // mov (%rdi), %al
void read_wide(guest& machine) { access(machine, 0x8B); }     // mov (%rdi), %eax
void write(guest& machine) { access(machine, 0x88); }         // mov %al, (%rdi)
void modify(guest& machine) { access(machine, 0x00); }        // add %al, (%rdi)
void fetch(guest& machine) { machine.execute({0xFF, 0xE3}); } // jmp *%rbx

void start(guest& machine, guest_mode mode) {
    machine.start(mode);
    aim(machine, place.raw);
    const std::uint8_t vmcall[] = {0x0F, 0x01, 0xC1};
    __builtin_memcpy(machine.at<void>(place), vmcall, sizeof vmcall); // to jump to
}

// ------------------------------------------------------------------------------- accesses to data

/// What the guest may do with its page.
struct rights {
    const char* name;
    bool read;
    bool write;
    bool execute;
};
constexpr rights all_rights[] = {
    {"read", true, false, false},
    {"read and write", true, true, false},
    {"read and execute", true, false, true},
    {"everything", true, true, true},
    {"execute", false, false, true},
};

/// The violation that an access to `place` with too few rights causes.
constexpr memory_violation at_place(const rights& allowed) {
    return {.address = place,
            .mapped = allowed.read || allowed.write || allowed.execute,
            .has_linear_address = true,
            .linear_address = place.raw};
}

/// An access that is allowed, or exits with what the page allows.
void check_access(const char* name, guest& machine, const rights& has, bool allowed,
                  const memory_violation& expected) {
    if (allowed) {
        check(name, machine.exits_with(exit_reason::vmcall));
        return;
    }
    check_violation(name, machine, expected);
    const violation said{machine.qualification()};
    if (said[violation::readable] != has.read || said[violation::writable] != has.write ||
        said[violation::executable] != has.execute) {
        kernel::say(name, ": what the page allows is said as ", said.raw);
        kernel::give_up("the exit says another thing of the page's rights");
    }
}

void with_rights(guest& machine, const rights& has) {
    memory_violation expected = at_place(has);
    expected.read = true;
    read(machine);
    check_access("a read", machine, has, has.read, expected);
    expected.read = false;
    expected.write = true;
    write(machine);
    check_access("a write", machine, has, has.write, expected);
    expected.write = false;
    expected.execute = true;
    fetch(machine);
    check_access("a fetch", machine, has, has.execute, expected);
}

void accesses() {
    guest machine;
    for (const guest_mode mode : kernel::every_mode) {
        start(machine, mode);
        machine.unmap(guest::data);
        kernel::begin_part(name(mode));
        with_rights(machine, {"nothing", false, false, false});

        // A read-modify-write says that it writes, and may say that it reads.
        modify(machine);
        const bool exits = machine.exits_with(exit_reason::ept_violation);
        const memory_violation said = violation_of_exit(machine);
        check("a read-modify-write writes",
              exits && said.write && !said.execute && !said.mapped && said.address == place);

        // Only what is missing of an access that lies on two pages.
        aim(machine, guest::data.raw - 1);
        read_wide(machine);
        check("a read across pages exits", machine.exits_with(exit_reason::ept_violation));
        check_equal("for the page that is not there",
                    gpa{vmread(vmcs_field::guest_physical_address)}.align_down(page).raw,
                    guest::data.raw);
    }

    start(machine, guest_mode::long_64);
    const pt::ept::capabilities reported = machine.capabilities();
    check("the processor knows pages for execution only",
          reported[pt::ept::capabilities::execute_only]);
    for (const rights& each : all_rights) {
        kernel::begin_part(each.name);
        aim(machine, place.raw);
        machine.protect(guest::data, {.read = each.read,
                                      .write = each.write,
                                      .execute = each.execute,
                                      .type = pt::ept::memory_type::write_back});
        with_rights(machine, each);
    }
    kernel::begin_part(nullptr);
}

// --------------------------------------------------------------------- walks of the guest's tables

// A linear address that is led to `place` by three tables of its own. They lie apart from those
// that lead to the code, so that nothing but the access goes through them.
constexpr std::uint64_t far_linear = 0xFFULL << 39 | 3ULL << 30 | 5ULL << 21 | 7ULL << 12 | 0x128;
constexpr gpa far_table(unsigned level) {
    return level == 4 ? guest::page_tables : gpa{0x13000 - level * page};
}
constexpr gpa far_entry(unsigned level) {
    return far_table(level) + 8 * (far_linear >> (12 + 9 * (level - 1)) & 0x1FF);
}
constexpr std::uint64_t guest_present_writable_user = 0x07;
constexpr std::uint64_t guest_accessed_dirty = 0x60;

void start_far(guest& machine) {
    start(machine, guest_mode::long_64);
    for (unsigned level = 4; level >= 1; --level) {
        const gpa next = level == 1 ? guest::data : far_table(level - 1);
        *machine.at<std::uint64_t>(far_entry(level)) =
            next.raw | guest_present_writable_user | guest_accessed_dirty;
    }
    aim(machine, far_linear);
}

/// The violation of a walk for far_linear.
constexpr memory_violation of_walk(unsigned level) {
    return {.address = far_entry(level),
            .read = true,
            .final_translation = false,
            .has_linear_address = true,
            .linear_address = far_linear};
}

constexpr pt::ept::attributes read_only{.read = true, .type = pt::ept::memory_type::write_back};
constexpr const char* level_names[] = {"", "level 1", "level 2", "level 3"};

void walks() {
    guest machine;
    for (unsigned level = 1; level <= 3; ++level) {
        kernel::begin_part(level_names[level]);
        start_far(machine);
        read(machine);
        check("the address leads somewhere", machine.exits_with(exit_reason::vmcall));

        machine.unmap(far_table(level));
        read(machine);
        check_violation("a walk reads the table", machine, of_walk(level));
        write(machine);
        check_violation("for a write, too", machine, of_walk(level));
        fetch(machine);
        check_violation("and for a fetch", machine, of_walk(level));

        machine.map(far_table(level));
        machine.protect(far_table(level), read_only);
        read(machine);
        check("to read, the walk needs no other right", machine.exits_with(exit_reason::vmcall));
    }
    // A walk that sets a flag in an entry is a write, too, and exits here [sdm]. Bochs 2.7 does not
    // look at EPT again for it.

    kernel::begin_part("the walk for a fetch");
    start(machine, guest_mode::long_64);
    machine.unmap(guest::page_tables);
    read(machine);
    check_violation("says the address of the code", machine,
                    {.address = guest::page_tables,
                     .read = true,
                     .final_translation = false,
                     .has_linear_address = true,
                     .linear_address = guest::code.raw});

    // With PAE, MOV to CR0 loads four entries of the guest's tables, and walks for no address.
    kernel::begin_part("the load of PDPTEs");
    start(machine, guest_mode::protected_32);
    vmwrite(vmcs_field::guest_cr4, vmread(vmcs_field::guest_cr4) | 1U << 5);
    machine.general.rax = vmread(vmcs_field::guest_cr0) | 1U << 31;
    machine.unmap(guest::page_tables);
    machine.execute({0x0F, 0x22, 0xC0}); // mov %eax, %cr0
    check_violation("has no linear address", machine,
                    {.address = guest::page_tables, .read = true, .final_translation = true});
    kernel::begin_part(nullptr);
}

void walks_with_flags() {
    guest machine{{.accessed_dirty = true}};
    for (unsigned level = 1; level <= 3; ++level) {
        kernel::begin_part(level_names[level]);
        start_far(machine);
        machine.protect(far_table(level), read_only);
        read(machine);
        memory_violation expected = of_walk(level);
        expected.write = true; // where EPT has flags, each walk counts as a write
        expected.mapped = true;
        const bool exits = machine.exits_with(exit_reason::ept_violation);
        memory_violation said = violation_of_exit(machine);
        said.read = true; // by [sdm] the processor says so; Bochs 2.7 does not
        check("a walk counts as a write", exits && said == expected);
    }
    kernel::begin_part(nullptr);

    start(machine, guest_mode::long_64);
    write(machine);
    check("a write passes", machine.exits_with(exit_reason::vmcall));
    using leaf = pt::ept::leaf_entry;
    check("and is seen in the entry that pt made",
          leaf{machine.entry(guest::data)}[leaf::dirty] &&
              !leaf{machine.entry(guest::data + page)}[leaf::dirty]);
}

// ------------------------------------------------------------------------------ misconfiguration

/// Where the entry of that level that a test writes leads from: at each level an entry of its own,
/// and none of them on the way to the code.
constexpr gpa subject_of(unsigned level) {
    switch (level) {
    case 1: return guest::data;
    case 2: return gpa{4 * pt::MiB};
    case 3: return gpa{pt::GiB};
    default: return gpa{512 * pt::GiB};
    }
}

struct tally {
    unsigned misconfigured = 0;
    unsigned violations = 0;
    unsigned passed = 0;
    unsigned wrong = 0;
};

/// What a read and a VMCALL must exit with, by pt's format.
exit_reason exit_of_read(const pt::ept::format& format, unsigned level, std::uint64_t entry) {
    if (format.is_present(entry) && format.defect(entry, level) != pt::paging::entry_defect::none) {
        return exit_reason::ept_misconfiguration;
    }
    return pt::ept::leaf_entry{entry}[pt::ept::leaf_entry::read] ? exit_reason::vmcall
                                                                 : exit_reason::ept_violation;
}

void try_entry(guest& machine, unsigned level, std::uint64_t entry, tally& all) {
    machine.write_entry(subject_of(level), entry, level);
    read(machine);
    const bool entered = machine.enter();
    const exit_reason got = machine.reason();

    const exit_reason expected = exit_of_read(machine.format(), level, entry);
    all.misconfigured += expected == exit_reason::ept_misconfiguration ? 1 : 0;
    all.violations += expected == exit_reason::ept_violation ? 1 : 0;
    all.passed += expected == exit_reason::vmcall ? 1 : 0;
    const bool right_address =
        expected == exit_reason::vmcall ||
        gpa{vmread(vmcs_field::guest_physical_address)}.align_down(page) == subject_of(level);
    if (!entered || got != expected || !right_address) {
        if (++all.wrong <= 4) {
            kernel::say("level ", std::uint64_t{level}, ", entry ", entry, ": reason ",
                        static_cast<std::uint64_t>(got), " where pt expects ",
                        static_cast<std::uint64_t>(expected));
        }
    }
}

/// Entries of that level with each combination of what can be wrong in one.
tally try_entries(guest& machine, unsigned level, std::uint64_t leaf, std::uint64_t table) {
    using e = pt::ept::leaf_entry;
    constexpr std::uint64_t ignored = 0xFFF0'0000'0000'0E00 & ~e::suppress_ve.mask;
    tally all;
    const unsigned width = machine.format().output_width();
    for (std::uint64_t low = 0; low < 256; ++low) { // rights, memory type, ignore PAT, page
        const bool is_leaf = level == 1 || (low & e::page.mask) != 0;
        const std::uint64_t entry = low | (is_leaf ? leaf : table);
        try_entry(machine, level, entry, all);
        try_entry(machine, level, entry | ignored, all);
        try_entry(machine, level, entry | e::suppress_ve.mask, all);
        try_entry(machine, level, entry | std::uint64_t{1} << width, all);
        try_entry(machine, level, entry | std::uint64_t{1} << 51, all);
        if (is_leaf && level > 1) {
            // Bit 12, which is reserved as well, Bochs 2.7 does not look at: in other tables it
            // belongs to the PAT.
            try_entry(machine, level, entry | 2 * page, all);
            try_entry(machine, level, entry | pt::paging::level_size(level) / 2, all);
        }
    }
    return all;
}

void misconfigurations() {
    constexpr const char* names[] = {"", "level 1", "level 2", "level 3", "level 4"};
    guest machine;
    start(machine, guest_mode::long_64);

    // For entries that point to tables: tables by which the first page leads to the data.
    std::uint64_t tables[5] = {};
    std::uint64_t below = machine.format().leaf(machine.host_address(guest::data), pt::ept::ram, 1);
    for (unsigned level = 1; level <= 3; ++level) {
        const pt::hpa table = kernel::take_frame();
        *kernel::pointer_to(table) = below;
        tables[level + 1] = table.raw;
        below = machine.format().table(table);
    }

    for (unsigned level = 1; level <= 4; ++level) {
        kernel::begin_part(names[level]);
        // pt makes the tables above.
        const gpa subject = subject_of(level);
        if (level > 1) {
            auto mapped = machine.tables().map({subject, page}, machine.host_address(guest::data),
                                               pt::ept::ram);
            check("there is a way to the entry", mapped && mapped->redeem(machine.hardware()));
        }
        *machine.at<std::uint64_t>(guest::page_tables + 3 * page + 8 * (place.raw / page)) =
            subject.raw | guest_present_writable_user | guest_accessed_dirty;

        const std::uint64_t before = machine.entry(subject, level);
        // The data lies at the beginning of the memory that a large leaf leads to; of 1 GiB, all
        // begins at 0.
        const std::uint64_t leaf = level == 1   ? machine.host_address(guest::data).raw
                                   : level == 2 ? machine.host_address(gpa{0}).raw
                                                : 0;
        const tally all = try_entries(machine, level, leaf, tables[level]);
        machine.write_entry(subject, before, level);
        check_equal("pt knows what the processor does of each entry", all.wrong, 0);
        check("all of it happens",
              all.misconfigured > 100 && all.violations > 100 && all.passed > 10);
    }
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject first{"ept_violation", accesses};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject second{"ept_walk", walks};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject third{"ept_walk_with_flags",
                                                                         walks_with_flags};
[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject fourth{"ept_misconfiguration",
                                                                          misconfigurations};

} // namespace
