// SPDX-License-Identifier: BSL-1.0
#include "process.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <stdexcept>
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
            fail("wait for a process");
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

} // namespace

execution execute(const std::vector<std::string>& command, std::chrono::seconds limit) {
    execution done;
    pipe_ends out;
    pipe_ends err;
    process program{command, out.write.get(), err.write.get()};
    out.write.close();
    err.write.close();
    done.in_time =
        read_all(out.read.get(), done.out, err.read.get(), done.err, clock::now() + limit);
    if (!done.in_time) {
        program.kill();
    }
    done.status = program.wait();
    return done;
}

} // namespace runner
