// SPDX-License-Identifier: BSL-1.0
//
// pt-qemu-passthrough: the main job, told step by step. See passthrough.cpp.

#include "passthrough.hpp"

#include "pt/core/contract.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>

#include <CLI/CLI.hpp>

namespace {

/// Says which contract of pt was broken before it traps.
void report(const pt::contract_violation& broken) noexcept {
    std::fflush(stdout);
    std::fprintf(stderr, "\n%s:%d: contract broken: %s\n", broken.file, broken.line, broken.what);
}

} // namespace

int main(int argc, char** argv) {
    pt::on_contract_violation = report;
    demo::passthrough_options options;
    CLI::App app{"Passes an e1000e NIC behind VT-d, both QEMU's, through to one guest with pt."};
    app.add_option("--qemu", options.qemu, "the QEMU program to run")->capture_default_str();
    app.add_option("--capture", options.capture, "where the frames that the NIC sends are kept")
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);

    try {
        demo::run_passthrough(options);
    } catch (const std::exception& why) {
        std::fflush(stdout);
        std::fprintf(stderr, "\npt-qemu-passthrough: %s\n", why.what());
        return EXIT_FAILURE;
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        std::fprintf(stderr,
                     "pt-qemu-passthrough: all checks held, but the output was not written\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
