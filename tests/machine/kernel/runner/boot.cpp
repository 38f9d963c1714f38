// SPDX-License-Identifier: BSL-1.0
#include "boot.hpp"

#include "process.hpp"

#include <optional>

#include <sys/wait.h>

namespace runner {
namespace {

/// Whether the kernel ended the machine by itself, as isa-debug-exit shows it: 2 * code + 1.
std::optional<std::string> judge_end(int status, const run& done) {
    bool failed = false;
    for (const check& each : done.checks) {
        failed = failed || !each.holds;
    }
    if (!WIFEXITED(status)) {
        return "QEMU was ended by signal " + std::to_string(WTERMSIG(status));
    }
    if (WEXITSTATUS(status) != (failed ? 3 : 1)) {
        return "QEMU ended with status " + std::to_string(WEXITSTATUS(status));
    }
    return std::nullopt;
}

} // namespace

run boot(const std::string& kernel, const std::string& command_line,
         const std::vector<std::string>& devices, std::chrono::seconds limit) {
    // No ROM for the NICs: firmware would look for a network to boot from.
    std::vector<std::string> command{"qemu-system-x86_64",
                                     "-machine",
                                     "q35,kernel-irqchip=split",
                                     "-accel",
                                     "tcg",
                                     "-icount",
                                     "shift=4,sleep=off",
                                     "-cpu",
                                     "max",
                                     "-m",
                                     "256",
                                     "-nodefaults",
                                     "-no-user-config",
                                     "-display",
                                     "none",
                                     "-monitor",
                                     "none",
                                     "-no-reboot",
                                     "-serial",
                                     "stdio",
                                     "-device",
                                     "isa-debug-exit,iobase=0xf4,iosize=0x04"};
    for (const std::string& each : devices) {
        command.insert(command.end(), {"-device", each});
    }
    command.insert(command.end(),
                   {"-netdev", "hubport,id=n0,hubid=0",                                    //
                    "-device", "e1000e,netdev=n0,addr=3.0,mac=52:54:00:12:34:56,romfile=", //
                    "-netdev", "hubport,id=n1,hubid=0",                                    //
                    "-device", "e1000e,netdev=n1,addr=4.0,mac=52:54:00:12:34:57,romfile=", //
                    "-device", "edu,addr=5.0,dma_mask=0xffffffffffffffff",                 //
                    "-kernel", kernel, "-append", command_line});

    const execution machine = execute(command, limit);
    run done;
    done.log = machine.out;
    done.said = machine.err;
    done.defect = read_checks(done);
    if (!machine.in_time) {
        done.defect = "the time of " + std::to_string(limit.count()) + " s is over";
    } else if (WIFEXITED(machine.status) && WEXITSTATUS(machine.status) == 127) {
        done.defect = "there is no qemu-system-x86_64 (on Debian: apt-get install qemu-system-x86)";
    } else if (!done.defect) {
        done.defect = judge_end(machine.status, done);
    }
    return done;
}

} // namespace runner
