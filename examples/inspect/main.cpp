// SPDX-License-Identifier: BSL-1.0
//
// pt-inspect: what pt sees in this machine's PCI functions, in an lspci dump, or in a DMAR table.
#include "dmar.hpp"
#include "machine.hpp"
#include "output.hpp"
#include "pci.hpp"
#include "plan.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace {

/// Where the functions come from, as options.
void add_source(CLI::App& command, inspect::source& from) {
    auto* const dump = command
                           .add_option("--dump", from.dump,
                                       "read a file that `lspci -x`, -xxx or -xxxx has written")
                           ->type_name("FILE");
    auto* const sysfs = command.add_flag_callback(
        "--sysfs", [] {}, "read this machine's functions (the default)");
    auto* const root = command
                           .add_option("--sysfs-root", from.sysfs_root,
                                       "where they are, e.g. a copy of another machine's")
                           ->type_name("DIR")
                           ->capture_default_str();
    dump->excludes(sysfs)->excludes(root);
}

/// What was wrong with the command line, and what would be right.
std::string usage_error(const CLI::App* app, const CLI::Error& wrong) {
    std::string what = wrong.what();
    const auto commands = app->get_subcommands();
    const auto rest = app->remaining();
    const auto is = [&](CLI::ExitCodes code) {
        return wrong.get_exit_code() == static_cast<int>(code);
    };
    if (commands.empty() && !rest.empty()) {
        what = fmt::format("\"{}\" is no command: pci, dmar and plan are", rest.front());
    } else if (commands.empty() && is(CLI::ExitCodes::RequiredError)) {
        what = "a command is missing: pci, dmar or plan";
    } else if (!commands.empty() && commands.front()->get_name() != "dmar" &&
               is(CLI::ExitCodes::ExtrasError) && what.find(": -") == std::string::npos) {
        what += " (a dump is given with --dump FILE)";
    }
    return fmt::format("pt-inspect: {}\nRun with --help for more information.\n", what);
}

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"Looks at PCI functions and at the DMAR table as a VMM that passes devices "
                 "through must."};
    app.require_subcommand(1);
    app.failure_message(usage_error);
    inspect::source from;
    bool as_json = false;
    std::string file;
    std::string address;

    auto* const pci = app.add_subcommand("pci", "what each PCI function is and has");
    add_source(*pci, from);
    pci->add_flag("--json", as_json, "print JSON, for programs");

    auto* const dmar = app.add_subcommand("dmar", "what firmware tells about DMA remapping");
    dmar->add_option("FILE", file, "the table, e.g. /sys/firmware/acpi/tables/DMAR")
        ->required()
        ->option_text(" ");
    dmar->add_flag("--json", as_json, "print JSON, for programs");

    auto* const plan =
        app.add_subcommand("plan", "what passing a function through needs, and what speaks "
                                   "against it");
    plan->add_option("ADDRESS", address, "the function, e.g. 0000:01:00.0 or 01:00.0")
        ->required()
        ->option_text(" ");
    add_source(*plan, from);
    plan->add_flag("--json", as_json, "print JSON, for programs");

    CLI11_PARSE(app, argc, argv);

    std::string out;
    try {
        const auto paint = inspect::painter::for_standard_output();
        if (pci->parsed()) {
            const inspect::machine all{from};
            out = as_json ? inspect::pci_json(all) : inspect::pci_text(all, paint);
        } else if (dmar->parsed()) {
            out = as_json ? inspect::dmar_json(file) : inspect::dmar_text(file, paint);
        } else {
            const inspect::machine all{from};
            const auto made = inspect::make_plan(all, address);
            out = as_json ? inspect::plan_json(made) : inspect::plan_text(made, paint);
        }
    } catch (const std::exception& why) {
        std::fprintf(stderr, "pt-inspect: %s\n", why.what());
        return EXIT_FAILURE;
    }
    errno = 0;
    if (std::fwrite(out.data(), 1, out.size(), stdout) != out.size() || std::fflush(stdout) != 0) {
        std::fprintf(stderr, "pt-inspect: the output was not written: %s\n", std::strerror(errno));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
