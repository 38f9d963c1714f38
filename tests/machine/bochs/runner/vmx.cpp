// SPDX-License-Identifier: BSL-1.0
//
// Which subjects of the kernel run on Bochs. Each boot runs one subject, with each kernel that was
// built; each of its checks is a section.
#include "../../kernel/runner/kernels.hpp"
#include "bochs.hpp"

#include <chrono>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#ifndef PT_KERNEL_DIRECTORY // only the build knows; who only reads the sources need not
#define PT_KERNEL_DIRECTORY "."
#endif

namespace {

using namespace std::chrono_literals;
using runner::compilers;
using runner::run;

/// A boot takes a second; on a busy host, more.
constexpr auto patience = 60s;

run boot(const std::string& compiler, const std::string& command_line,
         std::chrono::seconds limit = patience) {
    return runner::boot_bochs(PT_KERNEL_DIRECTORY "/boot_sector.bin",
                              runner::kernel_file(compiler, "bin"), command_line, limit);
}

/// Runs a subject with each kernel. `words` are for the subject.
void run_on_bochs(const std::string& subject, const std::string& words = "") {
    const std::vector<std::string> kernels = compilers();
    REQUIRE_FALSE(kernels.empty());
    const std::string told = words.empty() ? subject : subject + " " + words;
    for (const std::string& compiler : kernels) {
        std::string name = compiler;
        name.append(", ").append(told);
        runner::section_of_boot(name, [&] { return boot(compiler, "subject=" + told); });
    }
}

} // namespace

TEST_CASE("the kernel takes memory, time and interrupts from Bochs", "[bochs]") {
    run_on_bochs("itself", "word");
}

TEST_CASE("what goes wrong on Bochs is noticed", "[bochs]") {
    const auto failing = [](const std::string& how, std::chrono::seconds limit = patience) {
        return boot(compilers().front(), "subject=itself failing " + how, limit);
    };
    SECTION("nothing") { CHECK_FALSE(failing("not").defect); }
    SECTION("a check") {
        const run done = failing("check");
        CHECK_FALSE(done.defect);
        REQUIRE(done.checks.size() == 2);
        CHECK_FALSE(done.checks[1].holds);
    }
    SECTION("an exception") {
        CHECK(failing("exception").defect == "the kernel gave up: exception");
    }
    SECTION("a hang") { CHECK(failing("hang", 5s).defect == "the time of 5 s is over"); }
    SECTION("a reset") { CHECK(failing("reset").defect == "the kernel did not reach its end"); }
    SECTION("a subject that is not there") {
        CHECK(boot(compilers().front(), "subject=it").defect ==
              "the kernel gave up: there is no subject of that name");
    }
}

TEST_CASE("the guest runs in each mode, and its handlers are seen", "[bochs][vmx]") {
    run_on_bochs("guest");
}

TEST_CASE("under VMX the VMM's world takes guests through every mode, and keeps them apart",
          "[bochs][vmx]") {
    run_on_bochs("vmx_world");
}

TEST_CASE("under VMX the VMM gets its processor back, whatever the guest does", "[bochs][vmx]") {
    run_on_bochs("vmx_world_in_time");
}

TEST_CASE("an access to ports exits as the bitmap says", "[bochs][vmx][rule 22]") {
    run_on_bochs("io_bitmap");
}

TEST_CASE("an I/O exit says which instruction it was", "[bochs][vmx]") {
    run_on_bochs("io_instruction");
}

TEST_CASE("an access to an MSR exits as the bitmap says", "[bochs][vmx]") {
    run_on_bochs("msr_bitmap");
}

TEST_CASE("the x2APIC's MSRs that the bitmap opens are the local APIC's, not the host's",
          "[bochs][vmx][lapic][rule 28]") {
    run_on_bochs("x2apic_msrs");
}

TEST_CASE("an EPT violation says which access it was, and what the page allows",
          "[bochs][vmx][rule 8]") {
    run_on_bochs("ept_violation");
}

TEST_CASE("an EPT violation of the guest's own page walk is known for one",
          "[bochs][vmx][rule 11]") {
    run_on_bochs("ept_walk");
    run_on_bochs("ept_walk_with_flags");
}

TEST_CASE("an EPT entry is misconfigured exactly if the format says so", "[bochs][vmx][rule 8]") {
    run_on_bochs("ept_misconfiguration");
}

TEST_CASE("an injected event arrives as one of the processor's own", "[bochs][vmx]") {
    run_on_bochs("injection");
}

TEST_CASE("an event passes the processor's checks exactly if it passes pt's",
          "[bochs][vmx][rule 32]") {
    run_on_bochs("entry_checks");
}

TEST_CASE("an interrupt that cannot come in waits for the window and comes once",
          "[bochs][vmx][lapic][rule 32]") {
    run_on_bochs("interrupt_window");
}

TEST_CASE("an NMI that cannot come in waits for its own window and comes once",
          "[bochs][vmx][lapic][rule 32]") {
    run_on_bochs("nmi_window");
}

TEST_CASE("an event whose delivery an exit interrupts is neither lost nor doubled",
          "[bochs][vmx][lapic][rule 32]") {
    run_on_bochs("interrupted_delivery");
}

TEST_CASE("an IRET that exits lets no NMI in before it is done", "[bochs][vmx][rule 32]") {
    run_on_bochs("interrupted_iret");
}

TEST_CASE("an exception in the middle of a delivery loses no interrupt, or is a double fault",
          "[bochs][vmx][lapic][rule 32]") {
    run_on_bochs("exception_in_delivery");
}

TEST_CASE("interrupts of the host reach the guest's vectors in the order of priority",
          "[bochs][vmx][lapic][rule 26]") {
    run_on_bochs("host_interrupts");
}

TEST_CASE("the timer interrupts a guest in time, however it waits, and as often as it should",
          "[bochs][vmx][lapic][rule 29]") {
    run_on_bochs("virtual_timer");
}

TEST_CASE("the guest lowers TPR without an exit, and an interrupt comes in time",
          "[bochs][vmx][lapic][rule 26]") {
    run_on_bochs("tpr_shadow");
}

TEST_CASE("the processor reads and writes the register page as the local APIC would",
          "[bochs][vmx][lapic]") {
    run_on_bochs("apic_register_virtualization");
}

TEST_CASE("the processor delivers from the register page by itself", "[bochs][vmx][lapic]") {
    run_on_bochs("virtual_interrupt_delivery");
}
