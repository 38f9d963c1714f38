// SPDX-License-Identifier: BSL-1.0
//
// Which RDMSR and WRMSR exit, as pt's map says it and as the processor decides it.
#include "../svm.hpp"

#include "pt/vcpu/msr.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::check_error;
using kernel::guest;
using kernel::guest_mode;
using pt::svm::exit_code;
using pt::vcpu::msr_access;
using pt::vcpu::msr_range;

constexpr pt::gpa reader = guest::code;
constexpr pt::gpa writer = guest::code + 8;

struct tally {
    unsigned exits = 0;
    unsigned passes = 0;
    unsigned wrong_decisions = 0;
    unsigned wrong_exits = 0; ///< EXITINFO1 says the other direction, or the length is wrong
};

/// QEMU has no MSR with one of these numbers, reads 0 from it and ignores what is written.
void try_access(guest& machine, std::uint32_t number, msr_access access, tally& all) {
    machine.general.rcx = number;
    machine.general.rax = machine.general.rdx = 0;
    machine.go_to(access == msr_access::read ? reader : writer);
    const bool entered = machine.enter();
    const bool exits = entered && machine.reason() == exit_code::msr;
    const bool passes = entered && machine.reason() == exit_code::vmmcall;
    all.exits += exits ? 1 : 0;
    all.passes += passes ? 1 : 0;
    if (exits && (machine.words().exit_info_1 != (access == msr_access::write ? 1U : 0U) ||
                  machine.instruction_length() != 2)) {
        ++all.wrong_exits;
    }
    if (!(exits || passes) || exits != machine.msrs().exits(number, access)) {
        if (++all.wrong_decisions == 1) {
            kernel::say("MSR ", std::uint64_t{number});
            machine.say_exit();
        }
    }
}

void try_all(guest& machine, msr_range numbers, std::uint32_t step, tally& all) {
    for (std::uint64_t number = numbers.first; number <= numbers.last; number += step) {
        try_access(machine, static_cast<std::uint32_t>(number), msr_access::read, all);
        try_access(machine, static_cast<std::uint32_t>(number), msr_access::write, all);
    }
}

void check_tally(const tally& all) {
    check_equal("every decision is the processor's", all.wrong_decisions, 0);
    check_equal("every exit says what was executed", all.wrong_exits, 0);
}

/// Around both ends of the vectors, on both sides of which nothing opens.
constexpr msr_range ends[] = {{0x1FC0, 0x203F},           {0xBFFF'FFF0, 0xC000'0010},
                              {0xC000'1FC0, 0xC000'203F}, {0xC000'FFF0, 0xC001'000F},
                              {0xC001'1FC0, 0xC001'203F}, {0xFFFF'FFF0, 0xFFFF'FFFF}};
/// Inside of the vectors, 64 MSRs that the machine does not have.
constexpr msr_range inside[] = {
    {0x1FC0, 0x1FFF}, {0xC000'1FC0, 0xC000'1FFF}, {0xC001'1FC0, 0xC001'1FFF}};
constexpr const char* names[] = {"the first vector", "the second vector", "the third vector"};

void run() {
    guest machine;
    machine.start(guest_mode::long_64);
    machine.put({0x0F, 0x32, 0x0F, 0x01, 0xD9}, reader); // rdmsr; vmmcall
    machine.put({0x0F, 0x30, 0x0F, 0x01, 0xD9}, writer); // wrmsr; vmmcall

    kernel::begin_part("all closed");
    tally all;
    try_all(machine, {0, 0x3000}, 13, all);
    for (const msr_range& each : ends) {
        try_all(machine, each, 1, all);
    }
    check_tally(all);
    check("nothing passes", all.passes == 0 && all.exits > 1000);

    for (unsigned i = 0; i < 3; ++i) {
        kernel::begin_part(names[i]);
        auto& map = machine.msrs();
        check("reads open", map.open(inside[i], msr_access::read));
        tally reads;
        for (const msr_range& each : ends) {
            try_all(machine, each, 1, reads);
        }
        check_equal("and nothing else passes", reads.passes, 64);
        check("writes of some open",
              map.open(inside[i].first + 8, msr_access::write) &&
                  map.open({inside[i].first + 31, inside[i].first + 33}, msr_access::write));
        check("reads of others close",
              map.close({inside[i].last - 3, inside[i].last}, msr_access::read_write).closed);
        for (const msr_range& each : ends) {
            try_all(machine, each, 1, reads);
        }
        check_equal("and nothing else passes then", reads.passes, 64 + 60 + 4);
        check_tally(reads);
        static_cast<void>(map.close(inside[i], msr_access::read_write));
    }

    kernel::begin_part("the x2APIC's");
    check_error("they do not open", machine.msrs().open(0x830, msr_access::write),
                pt::errc::refused);
    tally apic;
    try_all(machine, {0x7F0, 0x90F}, 1, apic);
    check_tally(apic);
    check_equal("all of it exits", apic.passes, 0);
    kernel::begin_part(nullptr);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"svm_msr_map", run};

} // namespace
