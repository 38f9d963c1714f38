// SPDX-License-Identifier: BSL-1.0
//
// A real QEMU as a machine that a hosted program drives: port and memory accesses go over the
// qtest socket, questions about the machine over QMP. No guest code runs; the program is the CPU.
//
// The protocols are described in QEMU's own sources: qtest in the comment that opens qtest.c (one
// command a line; "OK [value]" or "FAIL reason" comes back), QMP in docs/interop (JSON, one object
// a line).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

namespace emulator {

/// QEMU cannot be started, does not answer, or refuses a command. The message is for a person: it
/// says what was attempted, what QEMU printed, and, where it is known, what to do.
class qemu_error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// One base address register, as QEMU sees it.
struct pci_region {
    int bar = 0;               ///< 0 to 5; 6 is the expansion ROM, in its own register at 0x30
    std::string type;          ///< "memory" or "io"
    std::uint64_t size = 0;    ///< in bytes
    std::int64_t address = -1; ///< -1 while unassigned, or while decoding is off
    bool prefetch = false;     ///< memory only
    bool mem_type_64 = false;  ///< memory only
};

/// A window of a bridge, as QEMU sees it, both ends included; closed if the base is above the limit.
struct pci_bridge_window {
    std::uint64_t base = 0;
    std::uint64_t limit = 0;
};

/// What a PCI-to-PCI bridge has more than other functions, as QEMU sees it.
struct pci_bridge_report {
    unsigned primary = 0;
    unsigned secondary = 0;
    unsigned subordinate = 0;
    pci_bridge_window io;
    pci_bridge_window memory;
    pci_bridge_window prefetchable;
};

/// One function, as QEMU sees it.
struct pci_report {
    unsigned bus = 0;
    unsigned slot = 0;
    unsigned function = 0;
    std::uint16_t vendor = 0;
    std::uint16_t device = 0;
    std::uint16_t class_code = 0; ///< base class and subclass: 0x0200 is an Ethernet controller
    unsigned interrupt_pin = 0;   ///< 0 for none
    std::string id;               ///< what the command line calls the device; may be empty
    std::vector<pci_region> regions;
    std::optional<pci_bridge_report> bridge;
};

/// A QEMU process, started by the constructor and ended by stop() or the destructor. It also ends
/// when the thread that started it ends, so that a crash of the program leaves no process behind.
/// No member waits without a limit. Not for use from two threads at once.
///
/// The guest's CPU halts at its first instruction, and the virtual clock runs. Do not add -S: it
/// stops the clock as well, and then the devices' timers never end.
class qemu {
public:
    struct options {
        std::string binary = "qemu-system-x86_64";
        std::vector<std::string> arguments; ///< the machine; firmware and sockets are added
        std::string name = "qemu";          ///< for messages, and QEMU's -name
    };

    explicit qemu(const options& wanted);
    ~qemu();
    qemu(const qemu&) = delete;
    qemu& operator=(const qemu&) = delete;

    // I/O space.
    std::uint8_t in8(std::uint16_t port);
    std::uint16_t in16(std::uint16_t port);
    std::uint32_t in32(std::uint16_t port);
    void out8(std::uint16_t port, std::uint8_t value);
    void out16(std::uint16_t port, std::uint16_t value);
    void out32(std::uint16_t port, std::uint32_t value);

    // The system's physical address space, RAM and MMIO alike, as the CPU would access it (the
    // IOMMU is not involved). Reads where nothing answers yield what QEMU yields, usually zeros.
    std::uint8_t read8(std::uint64_t address);
    std::uint16_t read16(std::uint64_t address);
    std::uint32_t read32(std::uint64_t address);
    std::uint64_t read64(std::uint64_t address);
    void write8(std::uint64_t address, std::uint8_t value);
    void write16(std::uint64_t address, std::uint16_t value);
    void write32(std::uint64_t address, std::uint32_t value);
    void write64(std::uint64_t address, std::uint64_t value);

    // Blocks of RAM. Not for MMIO: the width of the single accesses is QEMU's choice.
    void read(std::uint64_t address, std::span<std::byte> destination);
    void write(std::uint64_t address, std::span<const std::byte> source);

    /// From now on the input lines of the device at this QOM path (q35 has "/machine/q35/ioapic")
    /// are reported here and no longer reach the device. QEMU allows one such path a run.
    void intercept_interrupts(std::string_view path);

    /// The level of an intercepted line. A line that was never reported is low.
    bool interrupt_level(unsigned line);

    /// Sets the level of an input line of the device at this QOM path, as the wire would.
    void drive_interrupt(std::string_view path, unsigned line, bool high);

    /// Runs the QMP command of that name and gives what it returns.
    nlohmann::json qmp(const std::string& name,
                       nlohmann::json arguments = nlohmann::json::object());

    /// Every function of every bus that has a number, in QEMU's order: what is behind a bridge
    /// follows it.
    std::vector<pci_report> query_pci();

    /// What QEMU printed so far on its standard output and standard error.
    [[nodiscard]] std::string printed() const;

    /// Ends QEMU by QMP's `quit`; kills it when that takes too long. Throws when QEMU did not end
    /// in order, but it has ended in any case. Doing it twice is harmless.
    void stop();

private:
    struct process;

    std::string command(const std::string& line);
    std::uint64_t value_of(const std::string& line);
    void note_interrupt(std::string_view report);
    process& running(std::string_view attempted);

    std::unique_ptr<process> process_;
    std::map<unsigned, bool> interrupt_levels_;
};

} // namespace emulator
