// SPDX-License-Identifier: BSL-1.0
#include "boot.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace runner {
namespace {

using clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string& attempted) {
    throw std::runtime_error{"cannot " + attempted + ": " + std::strerror(errno)};
}

class file_descriptor {
public:
    explicit file_descriptor(int value) : value_{value} {}
    file_descriptor(const file_descriptor&) = delete;
    file_descriptor& operator=(const file_descriptor&) = delete;
    ~file_descriptor() { close(); }

    void close() {
        if (value_ >= 0) {
            ::close(std::exchange(value_, -1));
        }
    }
    [[nodiscard]] int get() const { return value_; }

private:
    int value_;
};

struct pipe_ends {
    pipe_ends() : pipe_ends{make()} {}

    file_descriptor read;
    file_descriptor write;

private:
    explicit pipe_ends(std::array<int, 2> ends) : read{ends[0]}, write{ends[1]} {}
    static std::array<int, 2> make() {
        std::array<int, 2> ends{};
        if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
            fail("make a pipe");
        }
        return ends;
    }
};

/// A process that ends when its object does, or when this program does.
class process {
public:
    process(const std::vector<std::string>& command, int out, int err) {
        std::vector<char*> arguments;
        arguments.reserve(command.size() + 1);
        for (const std::string& word : command) {
            arguments.push_back(const_cast<char*>(word.c_str()));
        }
        arguments.push_back(nullptr);
        const file_descriptor in{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
        const pid_t parent = ::getpid();
        id_ = ::fork();
        if (id_ < 0) {
            fail("start a process");
        }
        if (id_ == 0) {
            if (::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent &&
                ::dup2(in.get(), STDIN_FILENO) >= 0 && ::dup2(out, STDOUT_FILENO) >= 0 &&
                ::dup2(err, STDERR_FILENO) >= 0) {
                ::execvp(arguments[0], arguments.data());
            }
            ::_exit(127);
        }
    }
    process(const process&) = delete;
    process& operator=(const process&) = delete;
    ~process() {
        if (id_ > 0) {
            ::kill(id_, SIGKILL);
            wait();
        }
    }

    void kill() const { ::kill(id_, SIGKILL); }

    /// As waitpid reports it.
    int wait() {
        int status = 0;
        while (::waitpid(id_, &status, 0) < 0 && errno == EINTR) {}
        id_ = -1;
        return status;
    }

private:
    pid_t id_ = -1;
};

/// Reads both pipes until both are closed. False when that takes longer than the limit.
bool read_all(int first, std::string& first_text, int second, std::string& second_text,
              clock::time_point deadline) {
    std::array<pollfd, 2> sources{{{first, POLLIN, 0}, {second, POLLIN, 0}}};
    const std::array<std::string*, 2> texts{&first_text, &second_text};
    for (unsigned open = 2; open != 0;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
        if (left.count() <= 0) {
            return false;
        }
        if (::poll(sources.data(), sources.size(), static_cast<int>(left.count())) < 0 &&
            errno != EINTR) {
            fail("wait for QEMU");
        }
        for (std::size_t i = 0; i < sources.size(); ++i) {
            if (sources[i].fd < 0 || sources[i].revents == 0) {
                continue;
            }
            std::array<char, 4096> chunk{};
            const ssize_t got = ::read(sources[i].fd, chunk.data(), chunk.size());
            if (got > 0) {
                texts[i]->append(chunk.data(), static_cast<std::size_t>(got));
            } else if (got == 0 || errno != EINTR) {
                sources[i].fd = -1; // poll passes it over
                --open;
            }
        }
    }
    return true;
}

/// Takes what follows `start` if the line begins with it.
bool take(std::string_view& line, std::string_view start) {
    const bool is = line.starts_with(start);
    if (is) {
        line.remove_prefix(start.size());
    }
    return is;
}

/// Reads the checks out of the log, and says what is wrong with it.
std::optional<std::string> parse(run& done) {
    std::optional<std::string> announced;
    std::optional<std::string> gave_up;
    std::set<std::string> names;
    std::optional<std::string> twice;
    std::string_view rest = done.log;
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        if (take(line, "ok ")) {
            done.checks.push_back({std::string{line}, true, {}});
        } else if (take(line, "FAILED ")) {
            const std::size_t colon = line.find(": ");
            const std::size_t why = colon == std::string_view::npos ? line.size() : colon + 2;
            done.checks.push_back(
                {std::string{line.substr(0, colon)}, false, std::string{line.substr(why)}});
        } else if (take(line, "end of ")) {
            announced = std::string{line};
            continue;
        } else {
            if (take(line, "gave up: ")) {
                gave_up = "the kernel gave up: " + std::string{line};
            }
            continue;
        }
        if (!names.insert(done.checks.back().name).second) {
            twice = "two checks have the name: " + done.checks.back().name;
        }
    }
    if (gave_up || twice) {
        return gave_up ? gave_up : twice;
    }
    if (!announced) {
        return "the kernel did not reach its end";
    }
    if (*announced != std::to_string(done.checks.size()) + " checks") {
        return "of " + *announced + " there are " + std::to_string(done.checks.size());
    }
    if (done.checks.empty()) {
        return "nothing was checked";
    }
    return std::nullopt;
}

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

    run done;
    pipe_ends out;
    pipe_ends err;
    process machine{command, out.write.get(), err.write.get()};
    out.write.close();
    err.write.close();
    const bool in_time =
        read_all(out.read.get(), done.log, err.read.get(), done.said, clock::now() + limit);
    if (!in_time) {
        machine.kill();
    }
    const int status = machine.wait();
    done.defect = parse(done);
    if (!in_time) {
        done.defect = "the time of " + std::to_string(limit.count()) + " s is over";
    } else if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        done.defect = "there is no qemu-system-x86_64 (on Debian: apt-get install qemu-system-x86)";
    } else if (!done.defect) {
        done.defect = judge_end(status, done);
    }
    return done;
}

} // namespace runner
