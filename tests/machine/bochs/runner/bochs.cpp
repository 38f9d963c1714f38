// SPDX-License-Identifier: BSL-1.0
#include "bochs.hpp"

#include "../../kernel/runner/process.hpp"
#include "../../scratch_directory.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <sys/wait.h>

namespace runner {
namespace {

using machine_test::scratch_directory;

constexpr std::size_t sector = 512;
/// As boot_sector.S has it: the sector with the multiboot information, and where it is loaded.
constexpr std::size_t information_at = 1 * sector;
constexpr std::uint32_t information_address = 0x7E00;
constexpr std::size_t kernel_at = 2 * sector;

// The disk's size is its geometry's.
constexpr std::size_t cylinders = 20;
constexpr std::size_t heads = 16;
constexpr std::size_t sectors_per_track = 63;
constexpr std::size_t disk_size = cylinders * heads * sectors_per_track * sector;

std::string read_file(const std::filesystem::path& path) {
    std::ifstream file{path, std::ios::binary};
    return {std::istreambuf_iterator<char>{file}, {}};
}

void write_file(const std::filesystem::path& path, std::string_view contents) {
    std::ofstream file{path, std::ios::binary};
    file << contents;
    if (!file.flush()) {
        throw std::runtime_error{"cannot write " + path.string()};
    }
}

void put(std::string& disk, std::size_t at, std::string_view what, std::size_t room) {
    if (what.empty() || what.size() > room) {
        throw std::runtime_error{"a part of the disk is missing, or too large for its place"};
    }
    disk.replace(at, what.size(), what);
}

std::string dword(std::size_t value) {
    std::string bytes;
    for (int i = 0; i < 4; ++i) {
        bytes.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
    }
    return bytes;
}

std::string disk_with(const std::string& boot_sector, const std::string& kernel,
                      const std::string& command_line) {
    constexpr std::uint32_t has_command_line = 1U << 2;
    constexpr std::size_t text_at = 64;
    std::string disk(disk_size, '\0');
    put(disk, 0, boot_sector, sector);
    put(disk, information_at,
        dword(has_command_line) + dword((kernel.size() + sector - 1) / sector) + dword(0) +
            dword(0) + dword(information_address + text_at),
        text_at);
    put(disk, information_at + text_at, command_line, sector - text_at - 1);
    put(disk, kernel_at, kernel, disk_size - kernel_at);
    return disk;
}

/// The lines for the network controller, on the chipset's first slot.
std::string network_configuration(const std::filesystem::path& directory,
                                  const network* connected_to) {
    if (connected_to == nullptr) {
        return "pci: enabled=1, chipset=i440fx\n";
    }
    // `ethdev` is vnet's directory of files.
    return "pci: enabled=1, chipset=i440fx, slot1=e1000\n"
           "e1000: enabled=1, mac=52:54:00:12:34:56, ethmod=" +
           std::string{connected_to->kind == network::module::null ? "null" : "vnet"} +
           ", ethdev=" + directory.string() + "\n";
}

/// Bochs' configuration. Nothing of the machine depends on real time (sync=none, and a fixed date).
std::string configuration(const std::filesystem::path& directory, const network* connected_to) {
    const std::string place = directory.string();
    return "config_interface: textconfig\n"
           "display_library: term\n"
           "cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0\n"
           "memory: guest=256, host=256\n"
           "romimage: file=/usr/share/bochs/BIOS-bochs-latest\n"
           "vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n"
           "boot: disk\n"
           "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n"
           "ata0-master: type=disk, mode=flat, path=" +
           place + "/disk.img, cylinders=" + std::to_string(cylinders) +
           ", heads=" + std::to_string(heads) + ", spt=" + std::to_string(sectors_per_track) +
           "\n"
           "clock: sync=none, time0=946681200\n"
           "com1: enabled=1, mode=file, dev=" +
           place + "/serial.txt\nlog: " + place +
           "/log.txt\n"
           "panic: action=fatal\n"
           "error: action=report\n"
           "info: action=ignore\n"
           "debug: action=ignore\n"
           "sound: waveoutdrv=dummy\n"
           "speaker: enabled=0\n" +
           network_configuration(directory, connected_to);
}

/// What the null network has logged: the bytes of all frames in one file, and, in another one for people
/// to read, how long each of them is.
std::vector<std::string> frames_logged(const std::filesystem::path& directory) {
    const std::string bytes = read_file(directory / "eth_null-tx.log");
    std::istringstream lines{read_file(directory / "eth_null-txdump.txt")};
    const std::string start = "a packet from guest to host, length ";
    std::vector<std::string> frames;
    std::size_t at = 0;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with(start)) {
            const std::size_t length = std::stoul(line.substr(start.size()));
            frames.push_back(bytes.substr(std::min(at, bytes.size()), length));
            at += length;
        }
    }
    if (at != bytes.size()) {
        throw std::runtime_error{"the null network's logs do not belong together"};
    }
    return frames;
}

/// What is worth reading of a log: the processor writes a line there for each EPT violation.
std::string last_of(const std::string& log) {
    constexpr std::size_t enough = 2000;
    return log.size() <= enough ? log : log.substr(log.size() - enough);
}

} // namespace

run boot_bochs(const std::string& boot_sector, const std::string& kernel,
               const std::string& command_line, std::chrono::seconds limit, network* connected_to) {
    const scratch_directory scratch;
    const std::filesystem::path& place = scratch.path();
    write_file(place / "disk.img",
               disk_with(read_file(boot_sector), read_file(kernel), command_line));
    write_file(place / "configuration", configuration(place, connected_to));
    if (connected_to != nullptr && connected_to->kind == network::module::vnet) {
        write_file(place / "served", connected_to->served);
    }
    // Debian's Bochs has its debugger built in, and waits for its first command.
    write_file(place / "commands", "continue\n");

    // A terminal's name is all that is needed of a terminal. The networks' logs are written where it
    // is started.
    const execution machine =
        execute({"env", "--chdir=" + place.string(), "TERM=xterm", "bochs", "-unlock", "-q", "-f",
                 place / "configuration", "-rc", place / "commands"},
                limit);

    // Bochs' exit status says nothing: it is 1 when a guest shuts the machine down.
    run done;
    done.log = read_file(place / "serial.txt");
    done.said = last_of(read_file(place / "log.txt"));
    done.defect = read_checks(done);
    if (connected_to != nullptr && connected_to->kind == network::module::null) {
        connected_to->sent = frames_logged(place);
    }
    if (!machine.in_time) {
        done.defect = "the time of " + std::to_string(limit.count()) + " s is over";
    } else if (WIFEXITED(machine.status) && WEXITSTATUS(machine.status) == 127) {
        done.defect =
            "there is no bochs (on Debian: apt-get install bochs bochs-term bochsbios vgabios)";
    } else if (!WIFEXITED(machine.status)) {
        done.defect = "Bochs was ended by signal " + std::to_string(WTERMSIG(machine.status));
    }
    return done;
}

} // namespace runner
