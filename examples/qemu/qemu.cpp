// SPDX-License-Identifier: BSL-1.0
#include "qemu.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

namespace emulator {
namespace {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

// A loaded machine takes about a second to start QEMU; a reply takes microseconds. Whoever waits
// this long waits in vain.
constexpr auto patience = 10s;

// How often a wait looks whether QEMU still lives.
constexpr auto glance = 20ms;

// What lies in the private directory.
constexpr auto firmware_name = "halt.rom";
constexpr auto qtest_name = "qtest";
constexpr auto monitor_name = "qmp";
constexpr auto output_name = "printed";

// Bytes in one qtest block command; a line holds two characters for each.
constexpr std::size_t block_size = 16384;

[[noreturn]] void fail_with_errno(const std::string& attempted, int error = errno) {
    throw qemu_error{"cannot " + attempted + ": " + std::strerror(error)};
}

class file_descriptor {
public:
    file_descriptor() = default;
    explicit file_descriptor(int value) : value_{value} {}
    file_descriptor(file_descriptor&& other) noexcept : value_{std::exchange(other.value_, -1)} {}
    file_descriptor& operator=(file_descriptor&& other) noexcept {
        std::swap(value_, other.value_);
        return *this;
    }
    ~file_descriptor() {
        if (value_ >= 0) {
            ::close(value_);
        }
    }

    [[nodiscard]] int get() const { return value_; }

private:
    int value_ = -1;
};

/// Readable by this user alone, and gone at the end: whoever can open the sockets owns the machine.
class private_directory {
public:
    private_directory() {
        const char* const parent = std::getenv("TMPDIR");
        std::string pattern = parent != nullptr && *parent != '\0' ? parent : "/tmp";
        pattern += "/pt-qemu-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) {
            fail_with_errno("create a directory like " + pattern + " (TMPDIR chooses where)");
        }
        path_ = pattern;
    }
    private_directory(const private_directory&) = delete;
    private_directory& operator=(const private_directory&) = delete;
    ~private_directory() { remove(); }

    /// What is open stays usable; only the names go. Doing it twice is harmless.
    void remove() const {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }

    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

/// Listens before QEMU starts, so that QEMU connects at once and nobody has to try repeatedly.
file_descriptor listen_at(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string& text = path.native();
    if (text.size() >= sizeof address.sun_path) {
        throw qemu_error{"the socket name " + text + " is longer than the system allows (" +
                         std::to_string(sizeof address.sun_path - 1) +
                         " characters); set TMPDIR to a directory with a shorter name"};
    }
    std::copy(text.begin(), text.end(), std::begin(address.sun_path));

    file_descriptor listener{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (listener.get() < 0 ||
        ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 1) != 0) {
        fail_with_errno("listen at " + text);
    }
    return listener;
}

/// Waits for one of the events on a descriptor; false when the time is over.
bool wait_for(int descriptor, short events, clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
        pollfd entry{descriptor, events, 0};
        const int ready = ::poll(&entry, 1, static_cast<int>(std::max(left, 0ms).count()));
        if (ready > 0) {
            return true;
        }
        if (ready == 0) {
            return false;
        }
        if (errno != EINTR) {
            fail_with_errno("wait for QEMU");
        }
    }
}

class child {
public:
    child(const std::vector<std::string>& command, const file_descriptor& output) {
        // All that allocates happens before the fork: afterwards only async-signal-safe calls may.
        std::vector<char*> arguments;
        arguments.reserve(command.size() + 1);
        for (const std::string& word : command) {
            arguments.push_back(const_cast<char*>(word.c_str()));
        }
        arguments.push_back(nullptr);

        const file_descriptor input{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
        std::array<int, 2> ends{};
        if (input.get() < 0 || output.get() < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0) {
            fail_with_errno("prepare to start QEMU");
        }
        const file_descriptor report{ends[0]};
        file_descriptor child_report{ends[1]};

        const pid_t parent = ::getpid();
        id_ = ::fork();
        if (id_ < 0) {
            fail_with_errno("start a process for QEMU");
        }
        if (id_ == 0) {
            // The parent may have ended before the request was made: then nobody would tell.
            if (::prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ::getppid() == parent &&
                ::dup2(input.get(), STDIN_FILENO) >= 0 &&
                ::dup2(output.get(), STDOUT_FILENO) >= 0 &&
                ::dup2(output.get(), STDERR_FILENO) >= 0) {
                ::execvp(arguments[0], arguments.data());
            }
            const int error = errno;
            [[maybe_unused]] const auto written = ::write(ends[1], &error, sizeof error);
            ::_exit(127);
        }

        // A successful exec closes the pipe without a word.
        child_report = file_descriptor{};
        int error = 0;
        ssize_t got = 0;
        do {
            got = ::read(report.get(), &error, sizeof error);
        } while (got < 0 && errno == EINTR);
        if (got == static_cast<ssize_t>(sizeof error)) {
            kill();
            if (error == ENOENT) {
                throw qemu_error{"there is no program " + command.front() +
                                 "; install it (on Debian: apt-get install qemu-system-x86)"};
            }
            fail_with_errno("run " + command.front(), error);
        }
    }
    child(const child&) = delete;
    child& operator=(const child&) = delete;
    ~child() { kill(); }

    /// Whether it ended; looks once, and remembers.
    bool ended() {
        if (!status_) {
            int status = 0;
            const pid_t got = ::waitpid(id_, &status, WNOHANG);
            if (got == id_) {
                status_ = status;
            } else if (got < 0 && errno == ECHILD) {
                status_ = 0; // somebody else collected it (SIGCHLD ignored): no status is known
            }
        }
        return status_.has_value();
    }

    bool ended_before(clock::time_point deadline) {
        while (!ended()) {
            if (clock::now() >= deadline) {
                return false;
            }
            std::this_thread::sleep_for(1ms);
        }
        return true;
    }

    void kill() {
        if (!ended()) {
            ::kill(id_, SIGKILL);
            ended_before(clock::now() + patience);
        }
    }

    [[nodiscard]] bool ended_in_order() const {
        return status_ && WIFEXITED(*status_) && WEXITSTATUS(*status_) == 0;
    }

    [[nodiscard]] std::string how_it_ended() const {
        if (!status_) {
            return "is still running";
        }
        if (WIFSIGNALED(*status_)) {
            return "was ended by signal " + std::to_string(WTERMSIG(*status_));
        }
        return "ended with status " + std::to_string(WEXITSTATUS(*status_));
    }

private:
    pid_t id_ = -1;
    std::optional<int> status_;
};

/// A stream socket that carries lines.
class line_socket {
public:
    enum class outcome { done, closed, timed_out };

    line_socket() = default;
    explicit line_socket(file_descriptor connection) : connection_{std::move(connection)} {}

    outcome send(std::string_view text, clock::time_point deadline) {
        while (!text.empty()) {
            const ssize_t sent = ::send(connection_.get(), text.data(), text.size(), MSG_NOSIGNAL);
            if (sent >= 0) {
                text.remove_prefix(static_cast<std::size_t>(sent));
            } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
                if (!wait_for(connection_.get(), POLLOUT, deadline)) {
                    return outcome::timed_out;
                }
            } else if (errno != EINTR) {
                return outcome::closed;
            }
        }
        return outcome::done;
    }

    /// With a deadline that is over, takes a line only if it is already there.
    outcome receive(std::string& line, clock::time_point deadline) {
        for (;;) {
            const std::size_t end = pending_.find('\n', searched_);
            if (end != std::string::npos) {
                line.assign(pending_, 0, end);
                if (line.ends_with('\r')) {
                    line.pop_back();
                }
                pending_.erase(0, end + 1);
                searched_ = 0;
                return outcome::done;
            }
            searched_ = pending_.size();
            if (!wait_for(connection_.get(), POLLIN, deadline)) {
                return outcome::timed_out;
            }
            std::array<char, 65536> chunk; // filled by recv up to the length it returns
            const ssize_t got = ::recv(connection_.get(), chunk.data(), chunk.size(), 0);
            if (got > 0) {
                pending_.append(chunk.data(), static_cast<std::size_t>(got));
            } else if (got == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
                return outcome::closed;
            }
        }
    }

private:
    file_descriptor connection_;
    std::string pending_;
    std::size_t searched_ = 0;
};

std::string hexadecimal(std::uint64_t value) {
    std::array<char, 18> text{'0', 'x'};
    const auto end = std::to_chars(text.data() + 2, text.data() + text.size(), value, 16).ptr;
    return {text.data(), end};
}

std::string access(std::string_view operation, std::uint64_t address) {
    return std::string{operation} + ' ' + hexadecimal(address);
}

std::string access(std::string_view operation, std::uint64_t address, std::uint64_t value) {
    return access(operation, address) + ' ' + hexadecimal(value);
}

/// Long lines are for QEMU, not for a person.
std::string shortened(std::string_view text) {
    constexpr std::size_t limit = 100;
    return text.size() <= limit ? std::string{text} : std::string{text.substr(0, limit)} + "...";
}

/// Drops the first word of a line and gives it.
std::string_view take_word(std::string_view& line) {
    const std::size_t start = std::min(line.find_first_not_of(' '), line.size());
    line.remove_prefix(start);
    const std::size_t end = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(end);
    return word;
}

/// Firmware that halts at the reset vector. With the CPU merely stopped (-S) the virtual clock
/// would stand still too, and with it the timers of the devices: e1000e throttles its interrupts by
/// such a timer even with ITR = 0, and would send one interrupt and then no other.
void write_halting_firmware(const std::filesystem::path& path) {
    constexpr std::size_t size = 0x10000; // QEMU takes multiples of 64 KiB; the last byte is 4G - 1
    constexpr std::size_t reset_vector = size - 16;
    constexpr std::string_view halt = "\xFA\xF4\xEB\xFD"; // cli; again: hlt; jmp again
    std::string image(size, '\xF4');
    image.replace(reset_vector, halt.size(), halt);
    std::ofstream file{path, std::ios::binary};
    file.write(image.data(), static_cast<std::streamsize>(image.size()));
    file.close();
    if (!file) {
        throw qemu_error{"cannot write " + path.string() + " (is the disk full?)"};
    }
}

std::vector<std::string> command_line(const qemu::options& wanted,
                                      const std::filesystem::path& directory) {
    // A comma inside a value of QEMU's options is written twice.
    const auto value = [](const std::string& text) {
        std::string doubled;
        for (const char character : text) {
            doubled.append(character == ',' ? 2U : 1U, character);
        }
        return doubled;
    };
    std::vector<std::string> command{wanted.binary};
    command.insert(command.end(), wanted.arguments.begin(), wanted.arguments.end());
    for (const std::string& word :
         {std::string{"-name"}, value(wanted.name), std::string{"-bios"},
          (directory / firmware_name).string(), std::string{"-qtest"},
          "unix:" + value(directory / qtest_name), std::string{"-qtest-log"}, std::string{"none"},
          std::string{"-qmp"}, "unix:" + value(directory / monitor_name)}) {
        command.push_back(word);
    }
    return command;
}

pci_bridge_window window_of(const nlohmann::json& range) {
    return {.base = range.at("base").get<std::uint64_t>(),
            .limit = range.at("limit").get<std::uint64_t>()};
}

void flatten(const nlohmann::json& devices, std::vector<pci_report>& reports) {
    for (const nlohmann::json& device : devices) {
        pci_report report;
        report.bus = device.at("bus").get<unsigned>();
        report.slot = device.at("slot").get<unsigned>();
        report.function = device.at("function").get<unsigned>();
        report.vendor = device.at("id").at("vendor").get<std::uint16_t>();
        report.device = device.at("id").at("device").get<std::uint16_t>();
        report.class_code = device.at("class_info").at("class").get<std::uint16_t>();
        report.interrupt_pin = device.at("irq_pin").get<unsigned>();
        report.id = device.value("qdev_id", std::string{});
        for (const nlohmann::json& region : device.at("regions")) {
            report.regions.push_back({.bar = region.at("bar").get<int>(),
                                      .type = region.at("type").get<std::string>(),
                                      .size = region.at("size").get<std::uint64_t>(),
                                      .address = region.at("address").get<std::int64_t>(),
                                      .prefetch = region.value("prefetch", false),
                                      .mem_type_64 = region.value("mem_type_64", false)});
        }
        if (device.contains("pci_bridge")) {
            const nlohmann::json& bus = device["pci_bridge"].at("bus");
            report.bridge = {.primary = bus.at("number").get<unsigned>(),
                             .secondary = bus.at("secondary").get<unsigned>(),
                             .subordinate = bus.at("subordinate").get<unsigned>(),
                             .io = window_of(bus.at("io_range")),
                             .memory = window_of(bus.at("memory_range")),
                             .prefetchable = window_of(bus.at("prefetchable_range"))};
        }
        reports.push_back(std::move(report));
        if (device.contains("pci_bridge") && device["pci_bridge"].contains("devices")) {
            flatten(device["pci_bridge"]["devices"], reports);
        }
    }
}

} // namespace

/// The order of the members is the order of the start, and backwards that of the end.
struct qemu::process {
    explicit process(const options& wanted)
        : name{wanted.name},
          output{::open((directory.path() / output_name).c_str(),
                        O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600)},
          qtest_listener{listen_at(directory.path() / qtest_name)},
          monitor_listener{listen_at(directory.path() / monitor_name)},
          program{started(wanted, directory.path(), output)},
          qtest{accept(qtest_listener)},
          monitor{accept(monitor_listener)} {}

    static child started(const options& wanted, const std::filesystem::path& directory,
                         const file_descriptor& output) {
        write_halting_firmware(directory / firmware_name);
        return child{command_line(wanted, directory), output};
    }

    [[nodiscard]] std::string printed() const {
        std::string text;
        std::array<char, 4096> block{};
        for (::ssize_t count = 1; count > 0;) {
            count = ::pread(output.get(), block.data(), block.size(),
                            static_cast<::off_t>(text.size()));
            text.append(block.data(), static_cast<std::size_t>(std::max<::ssize_t>(count, 0)));
        }
        return text;
    }

    /// What QEMU printed, as the end of an error message.
    [[nodiscard]] std::string quotation() const {
        const std::string text = printed();
        return text.empty() ? " (it printed nothing)" : ". It printed:\n" + text;
    }

    line_socket accept(const file_descriptor& listener) {
        const auto deadline = clock::now() + patience;
        for (;;) {
            if (wait_for(listener.get(), POLLIN, std::min(deadline, clock::now() + glance))) {
                file_descriptor connection{
                    ::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
                if (connection.get() >= 0) {
                    return line_socket{std::move(connection)};
                }
                if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
                    fail_with_errno("take QEMU's connection");
                }
            }
            if (program.ended()) {
                throw qemu_error{name + ": QEMU did not start: it " + program.how_it_ended() +
                                 quotation()};
            }
            if (clock::now() >= deadline) {
                throw qemu_error{name + ": QEMU started, but did not connect within " +
                                 std::to_string(patience.count()) + " seconds" + quotation()};
            }
        }
    }

    void demand(line_socket::outcome outcome, std::string_view attempted) {
        if (outcome == line_socket::outcome::done) {
            return;
        }
        const std::string where = name + ": at \"" + shortened(attempted) + "\": ";
        if (outcome == line_socket::outcome::timed_out) {
            throw qemu_error{where + "QEMU did not answer within " +
                             std::to_string(patience.count()) + " seconds" + quotation()};
        }
        program.ended_before(clock::now() + 1s);
        throw qemu_error{where + "QEMU closed the connection and " + program.how_it_ended() +
                         quotation()};
    }

    std::string name;
    private_directory directory;
    file_descriptor output;
    file_descriptor qtest_listener;
    file_descriptor monitor_listener;
    child program;
    line_socket qtest;
    line_socket monitor;
};

qemu::qemu(const options& wanted) : process_{std::make_unique<process>(wanted)} {
    std::string greeting;
    process_->demand(process_->monitor.receive(greeting, clock::now() + patience), "QMP greeting");
    qmp("qmp_capabilities");
    // QEMU has read its firmware and holds both sockets: whatever ends this program from here on,
    // it leaves nothing behind.
    process_->directory.remove();
}

qemu::~qemu() {
    try {
        stop();
    } catch (...) {
        // QEMU has ended in any case, and a destructor has nobody to tell how.
    }
}

qemu::process& qemu::running(std::string_view attempted) {
    if (!process_) {
        throw qemu_error{"\"" + shortened(attempted) + "\" cannot be done: QEMU was stopped"};
    }
    return *process_;
}

/// Sends one line and gives the value in the answer, if it has one.
std::string qemu::command(const std::string& line) {
    process& target = running(line);
    const auto deadline = clock::now() + patience;
    target.demand(target.qtest.send(line + '\n', deadline), line);
    for (;;) {
        std::string reply;
        target.demand(target.qtest.receive(reply, deadline), line);
        std::string_view rest = reply;
        const std::string_view verdict = take_word(rest);
        if (verdict == "OK") {
            return std::string{take_word(rest)};
        }
        if (verdict != "IRQ") {
            throw qemu_error{target.name + ": QEMU refuses \"" + shortened(line) +
                             "\": " + shortened(reply)};
        }
        note_interrupt(rest);
    }
}

std::uint64_t qemu::value_of(const std::string& line) {
    const std::string text = command(line);
    const std::string_view digits = std::string_view{text}.substr(text.starts_with("0x") ? 2 : 0);
    std::uint64_t value = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.empty() || error != std::errc{} || end != digits.data() + digits.size()) {
        throw qemu_error{running(line).name + ": QEMU answers \"" + shortened(line) + "\" with \"" +
                         shortened(text) + "\", which is no number"};
    }
    return value;
}

/// The rest of an unasked-for line "IRQ raise NUMBER" or "IRQ lower NUMBER".
void qemu::note_interrupt(std::string_view report) {
    const std::string_view direction = take_word(report);
    const std::string_view number = take_word(report);
    unsigned line = 0;
    std::from_chars(number.data(), number.data() + number.size(), line);
    interrupt_levels_[line] = direction == "raise";
}

std::uint8_t qemu::in8(std::uint16_t port) {
    return static_cast<std::uint8_t>(value_of(access("inb", port)));
}
std::uint16_t qemu::in16(std::uint16_t port) {
    return static_cast<std::uint16_t>(value_of(access("inw", port)));
}
std::uint32_t qemu::in32(std::uint16_t port) {
    return static_cast<std::uint32_t>(value_of(access("inl", port)));
}
void qemu::out8(std::uint16_t port, std::uint8_t value) { command(access("outb", port, value)); }
void qemu::out16(std::uint16_t port, std::uint16_t value) { command(access("outw", port, value)); }
void qemu::out32(std::uint16_t port, std::uint32_t value) { command(access("outl", port, value)); }

std::uint8_t qemu::read8(std::uint64_t address) {
    return static_cast<std::uint8_t>(value_of(access("readb", address)));
}
std::uint16_t qemu::read16(std::uint64_t address) {
    return static_cast<std::uint16_t>(value_of(access("readw", address)));
}
std::uint32_t qemu::read32(std::uint64_t address) {
    return static_cast<std::uint32_t>(value_of(access("readl", address)));
}
std::uint64_t qemu::read64(std::uint64_t address) { return value_of(access("readq", address)); }
void qemu::write8(std::uint64_t address, std::uint8_t value) {
    command(access("writeb", address, value));
}
void qemu::write16(std::uint64_t address, std::uint16_t value) {
    command(access("writew", address, value));
}
void qemu::write32(std::uint64_t address, std::uint32_t value) {
    command(access("writel", address, value));
}
void qemu::write64(std::uint64_t address, std::uint64_t value) {
    command(access("writeq", address, value));
}

void qemu::read(std::uint64_t address, std::span<std::byte> destination) {
    while (!destination.empty()) {
        const std::span block = destination.first(std::min(block_size, destination.size()));
        const std::string line = access("read", address, block.size());
        const std::string text = command(line);
        if (text.size() != 2 + 2 * block.size()) {
            throw qemu_error{running(line).name + ": QEMU answers \"" + line + "\" with " +
                             std::to_string(text.size()) + " characters"};
        }
        const char* digits = text.data() + 2;
        for (std::byte& byte : block) {
            unsigned value = 0;
            std::from_chars(digits, digits + 2, value, 16);
            byte = static_cast<std::byte>(value);
            digits += 2;
        }
        address += block.size();
        destination = destination.subspan(block.size());
    }
}

void qemu::write(std::uint64_t address, std::span<const std::byte> source) {
    constexpr std::string_view digits = "0123456789abcdef";
    while (!source.empty()) {
        const std::span block = source.first(std::min(block_size, source.size()));
        std::string line = access("write", address, block.size()) + " 0x";
        line.reserve(line.size() + 2 * block.size());
        for (const std::byte byte : block) {
            line += digits[std::to_integer<std::size_t>(byte >> 4)];
            line += digits[std::to_integer<std::size_t>(byte & std::byte{0x0F})];
        }
        command(line);
        address += block.size();
        source = source.subspan(block.size());
    }
}

void qemu::intercept_interrupts(std::string_view path) {
    command("irq_intercept_in " + std::string{path});
}

void qemu::drive_interrupt(std::string_view path, unsigned line, bool high) {
    command("set_irq_in " + std::string{path} + " unnamed-gpio-in " + std::to_string(line) +
            (high ? " 1" : " 0"));
}

bool qemu::interrupt_level(unsigned line) {
    process& target = running("interrupt_level");
    // QEMU reports a change when it happens, also between two commands.
    std::string report;
    while (target.qtest.receive(report, clock::now()) == line_socket::outcome::done) {
        std::string_view rest = report;
        take_word(rest);
        note_interrupt(rest);
    }
    const auto level = interrupt_levels_.find(line);
    return level != interrupt_levels_.end() && level->second;
}

nlohmann::json qemu::qmp(const std::string& name, nlohmann::json arguments) {
    process& target = running(name);
    nlohmann::json request{{"execute", name}};
    if (!arguments.empty()) {
        request["arguments"] = std::move(arguments);
    }
    const auto deadline = clock::now() + patience;
    target.demand(target.monitor.send(request.dump() + '\n', deadline), name);
    for (;;) {
        std::string reply;
        target.demand(target.monitor.receive(reply, deadline), name);
        const nlohmann::json message = nlohmann::json::parse(reply, nullptr, false);
        if (message.contains("return")) {
            return message["return"];
        }
        if (message.contains("error")) {
            throw qemu_error{target.name + ": QEMU refuses the QMP command \"" + name +
                             "\": " + message["error"].value("desc", message["error"].dump())};
        }
        // Else it is an event, which nobody here waits for.
        if (message.is_discarded()) {
            throw qemu_error{target.name + ": QEMU answers the QMP command \"" + name +
                             "\" with \"" + shortened(reply) + "\", which is not JSON"};
        }
    }
}

std::vector<pci_report> qemu::query_pci() {
    std::vector<pci_report> reports;
    const nlohmann::json buses = qmp("query-pci");
    try {
        for (const nlohmann::json& bus : buses) {
            flatten(bus.at("devices"), reports);
        }
    } catch (const nlohmann::json::exception& error) {
        throw qemu_error{running("query-pci").name +
                         ": QEMU's answer to query-pci is not as expected: " + error.what()};
    }
    return reports;
}

std::string qemu::printed() const { return process_ ? process_->printed() : std::string{}; }

void qemu::stop() {
    if (!process_) {
        return;
    }
    // Leaving this function, by whichever way, ends the process.
    const std::unique_ptr<process> ending = std::move(process_);
    const auto deadline = clock::now() + patience;
    ending->monitor.send("{\"execute\": \"quit\"}\n", deadline);
    const bool by_itself = ending->program.ended_before(deadline);
    ending->program.kill();
    if (!by_itself || !ending->program.ended_in_order()) {
        throw qemu_error{ending->name + ": QEMU did not end in order: it " +
                         ending->program.how_it_ended() + ending->quotation()};
    }
}

} // namespace emulator
