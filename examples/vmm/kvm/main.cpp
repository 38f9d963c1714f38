// SPDX-License-Identifier: BSL-1.0
//
// pt-vmm-kvm: the VMM as a process, on this machine's /dev/kvm. examples/vmm/run.py starts it.
#include "../loop/scheduler.hpp"
#include "../loop/verdict.hpp"
#include "../pc/run_end.hpp"
#include "guest_pc.hpp"
#include "probe.hpp"
#include "virtual_machine.hpp"

#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

namespace {

using vmm::kvm::guest_file;
using vmm::kvm::guest_pc;
using vmm::pc::run_end;
using turns = vmm::scheduler<guest_pc::pc_type, vmm::kvm::host_time>;

// Exit statuses, as run.py has them.
constexpr int wrong = 2;
constexpr int skipped = 77; ///< ctest and others take it so: there is nothing to try here
constexpr int time_is_over = 124;
constexpr int no_end = 126;

struct options {
    bool probe = false;
    std::vector<std::string> guests{};
    std::vector<std::string> words{};
    std::vector<std::string> modules{};
    std::uint64_t timeout = 60;
    std::uint64_t memory = 64;
    std::string com1{};
    std::string log{};
};

/// A negative status: go on.
int read(int count, char** words, options& asked) {
    CLI::App program{"Boots multiboot kernels on this machine's KVM, without any of its devices."};
    program.add_flag("--probe", asked.probe, "only says what this machine's KVM can do");
    program.add_option("--guest", asked.guests, "a multiboot-1 kernel; once for each guest")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    program.add_option("--append", asked.words, "its command line; once for each guest")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    program.add_option("--module", asked.modules, "FILE[=WORDS]: a module for each guest")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    program.add_option("--timeout", asked.timeout, "time limit in seconds")
        ->check(CLI::Range(1, 86400));
    program.add_option("--memory", asked.memory, "MiB of each guest")->check(CLI::Range(2, 2048));
    program.add_option("--com1", asked.com1, "where COM1 goes: a file; otherwise here");
    program.add_option("--log", asked.log, "what this program has to say; otherwise here");
    try {
        program.parse(count, words);
        if (!asked.probe && asked.guests.empty()) {
            throw CLI::RequiredError{"--guest"};
        }
        if (asked.guests.size() > turns::most_guests) {
            throw CLI::ValidationError{"--guest", "there are more guests than the loop takes"};
        }
        return -1;
    } catch (const CLI::ParseError& error) {
        return program.exit(error) == 0 ? 0 : wrong;
    }
}

guest_file read_file(const std::string& path, const std::string& words) {
    std::ifstream file{path, std::ios::binary};
    if (!file) {
        throw std::runtime_error{"cannot read " + path};
    }
    const std::string name = std::filesystem::path{path}.filename().string();
    return {{std::istreambuf_iterator<char>{file}, {}}, words.empty() ? name : name + " " + words};
}

/// What is meant as `FILE[=WORDS]`.
guest_file read_module(const std::string& given) {
    const std::size_t end = std::min(given.find('='), given.size());
    return read_file(given.substr(0, end), given.substr(std::min(end + 1, given.size())));
}

/// Where text goes that is not a guest's: unbuffered, so that what is written together stays so.
class log_file {
public:
    explicit log_file(const std::string& path)
        : file_{path.empty() ? stderr : std::fopen(path.c_str(), "w")} {
        if (file_ == nullptr) {
            throw std::runtime_error{"cannot write " + path};
        }
    }
    log_file(const log_file&) = delete;
    log_file& operator=(const log_file&) = delete;
    ~log_file() {
        if (file_ != stderr) {
            (void)std::fclose(file_);
        }
    }

    /// One line of texts and numbers.
    template <class... Parts>
    void operator()(Parts... parts) {
        std::string line;
        ((line += text(parts)), ...);
        fmt::print(file_, "{}\n", line);
        (void)std::fflush(file_);
    }

private:
    static std::string text(const char* words) { return words; }
    static std::string text(std::uint64_t number) { return fmt::format("{:#x}", number); }

    std::FILE* file_;
};

int open_com1(const std::string& path) {
    const int descriptor =
        path.empty() ? STDOUT_FILENO : ::open(path.c_str(), O_WRONLY | O_CREAT, 0666);
    if (descriptor < 0) {
        throw std::runtime_error{"cannot write " + path};
    }
    return descriptor;
}

/// Says how the guests' runs have ended, and gives the exit status.
int tell_end(const std::vector<std::unique_ptr<guest_pc>>& guests, log_file& log) {
    for (std::size_t i = 0; i != guests.size(); ++i) {
        guest_pc::pc_type& pc = guests[i]->pc();
        if (pc.end() != run_end::exit_port) {
            log("guest ", std::to_string(i).c_str(), " ", vmm::pc::explain(pc.end()));
            pc.dump([&](auto... parts) { log(parts...); });
        }
    }
    guest_pc::pc_type& pc = vmm::verdict(
        guests.size(), [&](std::size_t i) -> auto& { return guests[i]->pc(); }, log);
    switch (pc.end()) {
    case run_end::exit_port: return static_cast<int>((2 * pc.exit_code() + 1) & 0xFF);
    case run_end::time_limit: return time_is_over;
    default: return no_end;
    }
}

int boot(const options& asked) {
    log_file log{asked.log};
    const int com1 = open_com1(asked.com1);
    std::vector<guest_file> modules;
    for (const std::string& each : asked.modules) {
        modules.push_back(read_module(each));
    }
    std::vector<std::unique_ptr<guest_pc>> guests;
    std::vector<guest_pc::pc_type*> pcs;
    for (std::size_t i = 0; i < asked.guests.size(); ++i) {
        const std::string words = i < asked.words.size() ? asked.words[i] : "";
        const int label = asked.guests.size() == 1 ? -1 : static_cast<int>(i);
        guests.push_back(std::make_unique<guest_pc>(asked.memory * pt::MiB, com1, label));
        guests.back()->boot(read_file(asked.guests[i], words), modules);
        pcs.push_back(&guests.back()->pc());
    }
    turns all{pcs.data(), pcs.size(), vmm::kvm::host_time{}};
    constexpr std::uint64_t second = 1'000'000'000;
    all.run(asked.timeout * second);
    for (const auto& each : guests) {
        each->flush();
    }
    return tell_end(guests, log);
}

int run(const options& asked) {
    bool enough = true;
    for (const vmm::kvm::ability& each : vmm::kvm::try_abilities()) {
        if (asked.probe) {
            fmt::print("{:<45} {}\n", each.what, each.defect.empty() ? "works" : each.defect);
        }
        if (each.needed && !each.defect.empty()) {
            if (!asked.probe) {
                throw vmm::kvm::unavailable{"KVM here runs no kernel: " + each.what + ": " +
                                            each.defect};
            }
            enough = false;
        }
    }
    if (asked.probe) {
        fmt::print("{}\n", enough ? "enough for a kernel" : "not enough for any kernel");
        return enough ? 0 : skipped;
    }
    return boot(asked);
}

} // namespace

int main(int count, char** words) {
    options asked;
    if (const int status = read(count, words, asked); status >= 0) {
        return status;
    }
    try {
        return run(asked);
    } catch (const vmm::kvm::unavailable& why) {
        fmt::print(stderr, "vmm-kvm: skipped: {}\n", why.what());
        return skipped;
    } catch (const std::exception& error) {
        fmt::print(stderr, "vmm-kvm: {}\n", error.what());
        return wrong;
    }
}
