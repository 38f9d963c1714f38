// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/acpi.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

namespace pc = vmm::pc;

struct low_memory {
    std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(0x2'0000, 0xEE);
    pc::ram_piece piece{{pt::gpa{0xE'0000}, 0x2'0000}, bytes.data(), pc::memory_kind::reserved};
    pc::guest_ram ram{&piece, 1};

    const std::uint8_t* at(std::uint64_t address) const {
        return bytes.data() + (address - 0xE'0000);
    }
    std::uint32_t dword(std::uint64_t address) const {
        return static_cast<std::uint32_t>(at(address)[0] | at(address)[1] << 8 |
                                          at(address)[2] << 16) |
               static_cast<std::uint32_t>(at(address)[3]) << 24;
    }
};

unsigned sum(const std::uint8_t* bytes, std::uint32_t size) {
    unsigned total = 0;
    for (std::uint32_t i = 0; i != size; ++i) {
        total += bytes[i];
    }
    return total & 0xFF;
}

/// As a kernel looks for it: on multiples of 16 from 0xE0000 to 0xFFFFF.
std::uint64_t find_rsdp(const low_memory& memory) {
    for (std::uint64_t at = 0xE'0000; at != 0x10'0000; at += 16) {
        if (std::string(reinterpret_cast<const char*>(memory.at(at)), 8) == "RSD PTR " &&
            sum(memory.at(at), 20) == 0) {
            return at;
        }
    }
    return 0;
}

/// What ACPICA's disassembler says of the table.
std::string disassembled(const low_memory& memory, std::uint64_t at, const std::string& name) {
    const auto directory = std::filesystem::temp_directory_path() /
                           ("pt_acpi_" + std::to_string(std::hash<std::string>{}(name)) + "_" +
                            std::to_string(std::rand()));
    std::filesystem::create_directory(directory);
    const std::string table = (directory / (name + ".dat")).string();
    std::ofstream{table, std::ios::binary}.write(reinterpret_cast<const char*>(memory.at(at)),
                                                 memory.dword(at + 4));
    const std::string command = "iasl -d " + table + " > " + table + ".log 2>&1";
    const int status = std::system(command.c_str());
    std::stringstream text;
    text << std::ifstream{table + ".log"}.rdbuf()
         << std::ifstream{(directory / (name + ".dsl")).string()}.rdbuf();
    std::filesystem::remove_all(directory);
    return status == 0 ? text.str() : "iasl failed: " + text.str();
}

/// Without runs of spaces, so that columns do not matter.
bool says(const std::string& text, const std::string& what) {
    std::string squeezed;
    for (const char c : text) {
        if (c != ' ' || (!squeezed.empty() && squeezed.back() != ' ')) {
            squeezed += c;
        }
    }
    return squeezed.find(what) != std::string::npos;
}

} // namespace

TEST_CASE("a kernel finds the tables, and their sums are 0", "[vmm_pc][acpi]") {
    low_memory memory;
    REQUIRE(pc::write_acpi_tables(memory.ram, {}));
    const std::uint64_t rsdp = find_rsdp(memory);
    REQUIRE(rsdp != 0);
    CHECK(memory.at(rsdp)[15] == 2);
    CHECK(sum(memory.at(rsdp), 36) == 0);
    const std::uint64_t rsdt = memory.dword(rsdp + 16);
    const std::uint64_t xsdt = memory.dword(rsdp + 24);
    CHECK(sum(memory.at(rsdt), memory.dword(rsdt + 4)) == 0);
    CHECK(sum(memory.at(xsdt), memory.dword(xsdt + 4)) == 0);
    const unsigned count = (memory.dword(rsdt + 4) - 36) / 4;
    REQUIRE(count == (memory.dword(xsdt + 4) - 36) / 8);
    for (unsigned i = 0; i != count; ++i) {
        const std::uint64_t table = memory.dword(rsdt + 36 + 4 * i);
        CHECK(table == memory.dword(xsdt + 36 + 8 * i));
        CHECK(sum(memory.at(table), memory.dword(table + 4)) == 0);
    }
    CHECK(memory.at(0xE'0000)[0] == 0xEE); // and nothing else was touched
    CHECK(memory.at(0xF'1000)[0] == 0xEE);
}

TEST_CASE("ACPICA reads the tables as they were meant", "[vmm_pc][acpi]") {
    if (std::system("command -v iasl > /dev/null 2>&1") != 0) {
        SKIP("iasl is not installed (./run setup)");
    }
    low_memory memory;
    REQUIRE(pc::write_acpi_tables(memory.ram, {.local_apic_id = 0, .io_apic_id = 1}));
    const std::uint64_t rsdt = memory.dword(find_rsdp(memory) + 16);
    const std::uint64_t fadt = memory.dword(rsdt + 36);
    const std::uint64_t madt = memory.dword(rsdt + 40);

    const std::string apic = disassembled(memory, madt, "apic");
    INFO(apic);
    CHECK_FALSE(says(apic, "failed"));
    CHECK_FALSE(says(apic, "rror"));
    CHECK_FALSE(says(apic, "arning"));
    CHECK(says(apic, "Local Apic Address : FEE00000"));
    CHECK(says(apic, "PC-AT Compatibility : 1"));
    CHECK(says(apic, "[Processor Local APIC]"));
    CHECK(says(apic, "Processor Enabled : 1"));
    CHECK(says(apic, "[I/O APIC]"));
    CHECK(says(apic, "I/O Apic ID : 01"));
    CHECK(says(apic, "Address : FEC00000"));
    CHECK(says(apic, "Source : 00"));
    CHECK(says(apic, "Interrupt : 00000002"));
    CHECK(says(apic, "Interrupt : 0000000B"));
    CHECK(says(apic, "Trigger Mode : 3"));
    CHECK(says(apic, "[Local APIC NMI]"));
    CHECK(says(apic, "Interrupt Input LINT : 01"));

    const std::string facp = disassembled(memory, fadt, "facp");
    INFO(facp);
    CHECK_FALSE(says(facp, "failed"));
    CHECK_FALSE(says(facp, "rror"));
    CHECK_FALSE(says(facp, "arning"));
    CHECK(says(facp, "Table Length : 000000F4"));
    CHECK(says(facp, "SCI Interrupt : 0009"));
    CHECK(says(facp, "SMI Command Port : 00000000"));
    CHECK(says(facp, "PM1A Event Block Address : 00000600"));
    CHECK(says(facp, "PM1A Control Block Address : 00000604"));
    CHECK(says(facp, "PM Timer Block Address : 00000608"));
    CHECK(says(facp, "PM1 Event Block Length : 04"));
    CHECK(says(facp, "PM1 Control Block Length : 02"));
    CHECK(says(facp, "PM Timer Block Length : 04"));
    CHECK(says(facp, "RTC Century Index : 32"));
    CHECK(says(facp, "Reset Register Supported (V2) : 1"));
    CHECK(says(facp, "Address : 0000000000000CF9"));
    CHECK(says(facp, "Value to cause reset : 06"));
    CHECK(says(facp, "C2 Latency : 0FFF"));
    CHECK(says(facp, "Use Platform Timer (V4) : 0"));

    const std::uint64_t facs = memory.dword(fadt + 36);
    CHECK(std::string(reinterpret_cast<const char*>(memory.at(facs)), 4) == "FACS");
    CHECK(facs % 64 == 0);
    const std::string dsdt = disassembled(memory, memory.dword(fadt + 40), "dsdt");
    INFO(dsdt);
    CHECK_FALSE(says(dsdt, "failed"));
    CHECK_FALSE(says(dsdt, "rror"));
    CHECK(says(dsdt, "Name (_S5, Package (0x04)"));
    CHECK(says(dsdt, "0x05,"));
}

TEST_CASE("a guest without memory below 1 MiB gets no tables", "[vmm_pc][acpi]") {
    std::vector<std::uint8_t> bytes(0x1000);
    const pc::ram_piece piece{{pt::gpa{0xF'0800}, 0x1000}, bytes.data()};
    CHECK(pc::write_acpi_tables(pc::guest_ram{&piece, 1}, {}) ==
          pt::error{pt::errc::out_of_range, 0xF'0000});
}
