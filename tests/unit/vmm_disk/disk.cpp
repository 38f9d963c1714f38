// SPDX-License-Identifier: BSL-1.0
//
// The VMM's disk reader against a small model of an ATA device, and against what no good device
// does. The runner's tests read a whole disk on an emulator that nobody here wrote.
#include "../../../examples/vmm/vmx/disk.hpp"
#include "../../../examples/vmm/vmx/disk_files.hpp"

#include <array>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

namespace {

using pt::errc;

enum class behaviour { good, nobody, always_busy, never_ready, faulty };

/// The registers of the first device [ata], and what was asked of it.
struct ata {
    behaviour is = behaviour::good;
    std::map<std::uint32_t, std::string> sectors{};
    std::map<std::uint16_t, std::uint8_t> registers{};
    std::string data{};
    std::size_t taken = 0;
    unsigned busy_for = 0; ///< more reads of the status
    bool failed = false;
    unsigned commands = 0;

    std::uint8_t status() {
        switch (is) {
        case behaviour::nobody: return 0xFF;
        case behaviour::always_busy: return 0x80;
        case behaviour::never_ready: return 0x50;
        default: break;
        }
        if (busy_for != 0) {
            --busy_for;
            return 0xD1; // what stands beside BSY means nothing
        }
        return static_cast<std::uint8_t>(0x50 | (taken < data.size() ? 0x08 : 0) |
                                         (failed ? 0x01 : 0));
    }
    void command(std::uint8_t what) {
        ++commands;
        const std::uint32_t address = registers[0x1F3] | std::uint32_t{registers[0x1F4]} << 8 |
                                      std::uint32_t{registers[0x1F5]} << 16 |
                                      std::uint32_t{registers[0x1F6] & 0xFU} << 24;
        const bool reads_one =
            what == 0x20 && registers[0x1F2] == 1 && registers[0x1F6] >> 4 == 0xE;
        failed = is == behaviour::faulty || !reads_one || !sectors.contains(address);
        data.clear();
        if (is == behaviour::good && !failed) {
            data = sectors[address];
            data.resize(512);
        }
        taken = 0;
        busy_for = 7;
    }
};

struct ata_ports {
    ata* device;

    std::uint8_t in8(pt::io_port port) {
        return port.raw == 0x1F7 ? device->status() : std::uint8_t{0};
    }
    std::uint16_t in16(pt::io_port port) {
        if (port.raw != 0x1F0 || device->taken >= device->data.size()) {
            return 0xFFFF;
        }
        std::uint16_t word = 0;
        std::memcpy(&word, device->data.data() + device->taken, 2);
        device->taken += 2;
        return word;
    }
    std::uint32_t in32(pt::io_port) { return 0xFFFF'FFFF; }
    void out8(pt::io_port port, std::uint8_t value) {
        device->registers[port.raw] = value;
        if (port.raw == 0x1F7) {
            device->command(value);
        }
    }
    void out16(pt::io_port, std::uint16_t) {}
    void out32(pt::io_port, std::uint32_t) {}
};

/// A tenth of a second passes each time that somebody looks.
struct slow_clock {
    std::uint64_t* time;
    std::uint64_t now() { return *time += 100'000'000; }
};

struct machine {
    ata device{};
    std::uint64_t time = 0;
    vmm::disk<ata_ports, slow_clock> disk{ata_ports{&device}, slow_clock{&time}};
    vmm::disk_files files{};
    std::array<std::byte, 2048> room{};

    std::string read(std::size_t size) const {
        return {reinterpret_cast<const char*>(room.data()), size};
    }
};

std::string numbers(std::initializer_list<std::uint64_t> values, std::size_t each) {
    std::string text;
    for (const std::uint64_t value : values) {
        for (std::size_t i = 0; i < each; ++i) {
            text.push_back(static_cast<char>(value >> 8 * i & 0xFF));
        }
    }
    return text;
}

void make_directory(ata& device, std::uint32_t files) {
    device.sectors[8192] = "pt files" + numbers({files}, 4);
}
void make_entry(ata& device, std::uint32_t number, std::uint32_t first, std::uint32_t size,
                const std::string& words) {
    device.sectors[8193 + number] = numbers({first, size}, 4) + words;
}

} // namespace

TEST_CASE("a disk's sectors are read by their 28-bit address, without an interrupt", "[vmm]") {
    machine m;
    CHECK((m.device.registers[0x3F6] & 2) == 2); // nIEN
    const std::string pattern(512, 'x');
    m.device.sectors[0x0ABC'DEF1] = pattern;
    m.device.sectors[0x0ABC'DEF2] = "second";
    REQUIRE(m.disk.read(0x0ABC'DEF1, 2, m.room.data()).has_value());
    CHECK(m.read(512 + 6) == pattern + "second");
    CHECK(m.device.commands == 2);
    CHECK(m.disk.read(0x0ABC'DEF1, 0, m.room.data()).has_value());
    CHECK(m.device.commands == 2);
}

TEST_CASE("what no address of 28 bits can name is not asked for", "[vmm]") {
    machine m;
    CHECK(m.disk.read(0x1000'0000, 1, m.room.data()).error().code == errc::out_of_range);
    CHECK(m.disk.read(0x0FFF'FFFF, 2, m.room.data()).error().code == errc::out_of_range);
    CHECK(m.disk.read(0xFFFF'FFFF, 0xFFFF'FFFF, m.room.data()).error().code == errc::out_of_range);
    CHECK(m.device.commands == 0);
}

TEST_CASE("a disk that does not answer as it should is an error, and never waited for without end",
          "[vmm]") {
    machine m;
    m.device.sectors[5] = "here";
    m.device.is = behaviour::nobody;
    CHECK(m.disk.read(5, 1, m.room.data()).error() == pt::error{errc::absent, 5});
    m.device.is = behaviour::always_busy;
    CHECK(m.disk.read(5, 1, m.room.data()).error() == pt::error{errc::time_out, 5});
    CHECK(m.time < 12'000'000'000);
    m.device.is = behaviour::never_ready;
    CHECK(m.disk.read(5, 1, m.room.data()).error() == pt::error{errc::time_out, 5});
    m.device.is = behaviour::faulty;
    CHECK(m.disk.read(5, 1, m.room.data()).error() == pt::error{errc::hardware_fault, 5});
    // The error before does not stand in the way of the next command.
    m.device.is = behaviour::good;
    CHECK(m.disk.read(5, 1, m.room.data()).has_value());
    CHECK(m.disk.read(5, 2, m.room.data()).error() == pt::error{errc::hardware_fault, 6});
}

TEST_CASE("the files of the directory are found and loaded in whole sectors", "[vmm]") {
    machine m;
    make_directory(m.device, 2);
    make_entry(m.device, 0, 9000, 600, "guest.elf role=sender");
    make_entry(m.device, 1, 9100, 0, "empty");
    m.device.sectors[9000] = std::string(512, 'a');
    m.device.sectors[9001] = std::string(88, 'b');
    REQUIRE(m.files.open(m.disk).has_value());
    REQUIRE(m.files.count() == 2);
    CHECK(std::string{m.files.words(0)} == "guest.elf role=sender");
    CHECK(m.files.size(0) == 600);
    CHECK(m.files.room(0) == 1024);
    REQUIRE(m.files.load(m.disk, 0, m.room.data()).has_value());
    CHECK(m.read(600) == std::string(512, 'a') + std::string(88, 'b'));
    CHECK(m.files.room(1) == 0);
    CHECK(m.files.load(m.disk, 1, m.room.data()).has_value());
}

TEST_CASE("a directory that is not in order is refused", "[vmm]") {
    machine m;
    m.device.sectors[8192] = "something else";
    CHECK(m.files.open(m.disk).error() == pt::error{errc::malformed, 8192});
    make_directory(m.device, 33);
    CHECK(m.files.open(m.disk).error() == pt::error{errc::malformed, 8192});
    make_directory(m.device, 1);
    make_entry(m.device, 0, 9000, 1, std::string(504, 'w')); // words without an end
    CHECK(m.files.open(m.disk).error() == pt::error{errc::malformed, 8193});
    make_directory(m.device, 2); // the second entry cannot be read
    make_entry(m.device, 0, 9000, 1, "w");
    CHECK(m.files.open(m.disk).error() == pt::error{errc::hardware_fault, 8194});
    CHECK(m.files.count() == 0);
    // A file of almost 4 GiB has a size that its sectors' number does not overflow.
    make_directory(m.device, 1);
    make_entry(m.device, 0, 9000, 0xFFFF'FFFF, "w");
    REQUIRE(m.files.open(m.disk).has_value());
    CHECK(m.files.room(0) == 0x1'0000'0000);
    CHECK(m.files.load(m.disk, 0, m.room.data()).error() == pt::error{errc::hardware_fault, 9000});
}
