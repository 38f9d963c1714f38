// SPDX-License-Identifier: BSL-1.0
//
// Which subjects of the kernel run on which machines. Each boot runs one subject, with each kernel
// that was built; each of its checks is a section. How to add one: kernel.hpp.
#include "boot.hpp"
#include "kernels.hpp"

#include <chrono>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

namespace {

using namespace std::chrono_literals;
using runner::compilers;
using runner::run;
using strings = std::vector<std::string>;

/// A machine by the options of its remapping unit, which the kernel is told as well, word by word.
struct machine {
    std::string name;
    strings unit; ///< none: no unit
};

const machine no_unit{"no unit", {}};
const machine legacy{"legacy", {"intremap=on", "aw-bits=48"}};
const machine legacy_caching{"legacy, caching mode",
                             {"intremap=on", "aw-bits=48", "caching-mode=on"}};
const machine scalable{"scalable", {"intremap=on", "aw-bits=48", "x-scalable-mode=on"}};
const machine scalable_caching{
    "scalable, caching mode",
    {"intremap=on", "aw-bits=48", "x-scalable-mode=on", "caching-mode=on"}};
const machine no_interrupt_remapping{"no interrupt remapping", {"intremap=off", "aw-bits=48"}};
const machine no_pass_through{"no pass-through", {"intremap=on", "aw-bits=48", "pt=off"}};

const std::vector<machine> every_unit{legacy, legacy_caching, scalable, scalable_caching,
                                      no_interrupt_remapping};
const std::vector<machine> every_machine{no_unit,  legacy,           legacy_caching,
                                         scalable, scalable_caching, no_interrupt_remapping};

/// Those whose every ability counts.
const std::vector<machine> remapping_units{legacy, legacy_caching, scalable, scalable_caching};
/// Those that can be driven by registers.
const std::vector<machine> legacy_units{legacy, legacy_caching};

/// A boot takes a fraction of a second; on a busy host, more.
constexpr auto patience = 60s;

run boot(const std::string& compiler, const machine& on, const std::string& command_line,
         std::chrono::seconds limit = patience) {
    std::string words = command_line;
    std::string unit = "intel-iommu";
    for (const std::string& option : on.unit) {
        words += " " + option;
        unit += "," + option;
    }
    if (on.unit.empty()) {
        words += " no-unit";
    }
    return runner::boot(runner::kernel_file(compiler, "elf"), words,
                        on.unit.empty() ? strings{} : strings{unit}, limit);
}

/// Runs a subject on each of the machines, with each kernel. `words` are for the subject.
void run_in_kernel(const std::string& subject, const std::vector<machine>& machines,
                   const std::string& words = "") {
    const std::string told = words.empty() ? subject : subject + " " + words;
    const strings kernels = compilers();
    REQUIRE_FALSE(kernels.empty());
    for (const std::string& compiler : kernels) {
        for (const machine& on : machines) {
            std::string name = compiler;
            name.append(", ").append(on.name).append(": ").append(told);
            runner::section_of_boot(name, [&] { return boot(compiler, on, "subject=" + told); });
        }
    }
}

} // namespace

TEST_CASE("the kernel takes memory, time and interrupts from its machine", "[kernel]") {
    run_in_kernel("itself", {no_unit}, "word");
}

TEST_CASE("what goes wrong in the kernel is noticed", "[kernel]") {
    const auto failing = [](const std::string& how, std::chrono::seconds limit = patience) {
        return boot(compilers().front(), no_unit, "subject=itself failing " + how, limit);
    };
    SECTION("nothing") { CHECK_FALSE(failing("not").defect); }
    SECTION("a check") {
        const run done = failing("check");
        CHECK_FALSE(done.defect);
        REQUIRE(done.checks.size() == 2);
        CHECK((done.checks[0].name == "this one holds" && done.checks[0].holds));
        CHECK((done.checks[1].name == "this one does not" && !done.checks[1].holds));
    }
    SECTION("an error, with its place") {
        const run done = failing("result");
        CHECK_FALSE(done.defect);
        REQUIRE(done.checks.size() == 2);
        CHECK_FALSE(done.checks[1].holds);
        CHECK(done.checks[1].why == "time_out at 0x28");
    }
    SECTION("a number") {
        const run done = failing("number");
        REQUIRE(done.checks.size() == 2);
        CHECK_FALSE(done.checks[1].holds);
        CHECK(done.checks[1].why == "0x1f where 0xffff000000000000 is expected");
    }
    SECTION("a name that is taken") {
        CHECK(failing("name").defect == "two checks have the name: this one holds");
    }
    SECTION("an exception") {
        CHECK(failing("exception").defect == "the kernel gave up: exception");
    }
    SECTION("a broken contract") {
        CHECK(failing("contract").defect == "the kernel gave up: a broken contract");
    }
    SECTION("a hang") { CHECK(failing("hang", 2s).defect == "the time of 2 s is over"); }
    SECTION("a check that was lost on the way") {
        CHECK(failing("lost").defect == "of 1 checks there are 2");
    }
    SECTION("another exit status than that of the checks") {
        CHECK(failing("status").defect == "QEMU ended with status 11");
    }
    SECTION("a reset") { CHECK(failing("reset").defect == "the kernel did not reach its end"); }
    SECTION("a subject that is not there") {
        CHECK(boot(compilers().front(), no_unit, "subject=it").defect ==
              "the kernel gave up: there is no subject of that name");
    }
}

TEST_CASE("the machine has the remapping unit that was asked for", "[kernel][vtd]") {
    run_in_kernel("unit", every_machine);
}

TEST_CASE("devices reach memory, each other and the processor while nothing is remapped",
          "[kernel][pci][e1000e]") {
    run_in_kernel("devices", every_machine);
}

TEST_CASE("devices in domains of their own reach their memory and nothing else",
          "[kernel][vtd][rule 17][rule 18]") {
    run_in_kernel("vtd_domains", remapping_units);
    run_in_kernel("vtd_domains", legacy_units, "registers");
}

TEST_CASE(
    "a NIC sends and another receives by pt's rings, each in its own domain and by its interrupts",
    "[kernel][e1000e][vtd][rule 23][rule 24]") {
    run_in_kernel("e1000e_rings", remapping_units);
    run_in_kernel("e1000e_rings", legacy_units, "registers");
}

TEST_CASE("a unit's events come once each, at the vector that they were given",
          "[kernel][vtd][rule 16][rule 21]") {
    run_in_kernel("vtd_events", remapping_units);
    run_in_kernel("vtd_events", {legacy}, "registers");
}

TEST_CASE("only interrupts with an entry arrive, where it says and from whom it names",
          "[kernel][vtd][rule 19]") {
    run_in_kernel("vtd_interrupts", remapping_units);
    run_in_kernel("vtd_interrupts", {no_interrupt_remapping});
    run_in_kernel("vtd_interrupts", {legacy}, "registers");
}

TEST_CASE("a function moves between guests under its DMA, and a guest ends with nothing left",
          "[kernel][vtd][rule 14][rule 15]") {
    run_in_kernel("vtd_moves", remapping_units);
    run_in_kernel("vtd_moves", legacy_units, "registers");
}

TEST_CASE("a unit that is on is taken over, stopped, started and brought back after sleep",
          "[kernel][vtd][rule 12][rule 13]") {
    run_in_kernel("vtd_firmware", remapping_units);
    run_in_kernel("vtd_firmware", legacy_units, "registers");
    run_in_kernel("vtd_firmware", {scalable}, "legacy-tables");
    run_in_kernel("vtd_firmware", {scalable}, "other-mode");
    run_in_kernel("vtd_firmware", {scalable}, "other-mode legacy-tables");
}

TEST_CASE("a device of the host passes through, while others are blocked",
          "[kernel][vtd][rule 17]") {
    run_in_kernel("vtd_pass_through", remapping_units);
    run_in_kernel("vtd_pass_through", legacy_units, "registers");
    run_in_kernel("vtd_pass_through", {no_pass_through});
}

// The same checks as those under VMX (../../bochs), as far as they apply to SVM.

TEST_CASE("a guest runs under SVM in each mode, on nested tables by pt", "[kernel][svm]") {
    run_in_kernel("svm_guest", {no_unit});
}

TEST_CASE("under SVM the VMM's world takes guests through every mode, and keeps them apart",
          "[kernel][svm]") {
    run_in_kernel("svm_world", {no_unit});
}

TEST_CASE("under SVM the VMM gets its processor back, whatever the guest does", "[kernel][svm]") {
    run_in_kernel("svm_world_in_time", {no_unit});
}

TEST_CASE("IN and OUT exit where the I/O permissions map of pt says so, and nowhere else",
          "[kernel][svm][rule 22]") {
    run_in_kernel("svm_io_map", {no_unit});
}

TEST_CASE("an IOIO exit says which instruction it was, and pt how long it is", "[kernel][svm]") {
    run_in_kernel("svm_io_exit", {no_unit});
}

TEST_CASE("a guest cannot tell an IN, OUT, INS or OUTS by pt from the processor's",
          "[kernel][svm][vcpu]") {
    run_in_kernel("svm_io_completion", {no_unit});
}

TEST_CASE("an SVM guest's IN, OUT, INS and OUTS reach the device by pt", "[kernel][svm][vcpu]") {
    run_in_kernel("svm_io_device", {no_unit});
}

TEST_CASE("RDMSR and WRMSR exit where the MSR permissions map of pt says so, and nowhere else",
          "[kernel][svm][rule 28]") {
    run_in_kernel("svm_msr_map", {no_unit});
}

TEST_CASE("a nested page fault says what the guest did, and where", "[kernel][svm]") {
    run_in_kernel("svm_nested_faults", {no_unit});
}

TEST_CASE("a nested page fault tells a walk of the guest's tables from its accesses",
          "[kernel][svm]") {
    run_in_kernel("svm_walks", {no_unit});
}

TEST_CASE("pt's nested format knows which entries the processor calls malformed",
          "[kernel][svm][paging]") {
    run_in_kernel("svm_nested_entries", {no_unit});
}

TEST_CASE("events that pt injects into an SVM guest arrive at its handlers as they should",
          "[kernel][svm]") {
    run_in_kernel("svm_injection", {no_unit});
}

TEST_CASE("under SVM an interrupt waits for its window, and arrives there once",
          "[kernel][svm][lapic][rule 32]") {
    run_in_kernel("svm_interrupt_window", {no_unit});
}

TEST_CASE("under SVM an NMI waits until the last one's handler has ended, and arrives once",
          "[kernel][svm][lapic][rule 32]") {
    run_in_kernel("svm_nmi_window", {no_unit});
}

TEST_CASE("under SVM an event whose delivery was interrupted arrives once",
          "[kernel][svm][lapic][rule 32]") {
    run_in_kernel("svm_interrupted_delivery", {no_unit});
}

TEST_CASE("under SVM an IRET that is interrupted leaves NMIs masked",
          "[kernel][svm][lapic][rule 32]") {
    run_in_kernel("svm_interrupted_iret", {no_unit});
}

TEST_CASE("under SVM exceptions in a delivery combine, and no interrupt is lost by them",
          "[kernel][svm][lapic][rule 32]") {
    run_in_kernel("svm_exception_in_delivery", {no_unit});
}

TEST_CASE("interrupts of the host reach the SVM guest's vectors in order, and end by its EOI",
          "[kernel][svm][lapic]") {
    run_in_kernel("svm_xapic_interrupts", {no_unit});
}

TEST_CASE("interrupts of the host reach the SVM guest in x2APIC mode, too",
          "[kernel][svm][lapic]") {
    run_in_kernel("svm_x2apic_interrupts", {no_unit});
}

TEST_CASE(
    "a level-triggered line interrupts an SVM guest once for each end of interrupt until it is "
    "served",
    "[kernel][svm][lapic][rule 27]") {
    run_in_kernel("svm_level_route", {no_unit});
}

TEST_CASE("TPR holds an SVM guest's interrupts back", "[kernel][svm][lapic][rule 26]") {
    run_in_kernel("svm_task_priority", {no_unit});
}

TEST_CASE("an SVM guest's own messages arrive", "[kernel][svm][lapic][rule 28]") {
    run_in_kernel("svm_own_messages", {no_unit});
}
