// SPDX-License-Identifier: BSL-1.0
//
// QEMU's firmware configuration device: files that QEMU made for the firmware, the ACPI tables
// among them. The interface is described in QEMU's docs/specs/fw_cfg.rst, the file
// "etc/table-loader" in the header bios-linker-loader.h.
#pragma once

#include "qemu.hpp"
#include "shared_memory.hpp"

#include "pt/core/address.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace emulator {

/// Reads the files through the device's DMA interface, with a buffer in the machine's memory.
class firmware_config {
public:
    using bytes = std::vector<std::uint8_t>;

    firmware_config(qemu& machine, shared_memory& memory, pt::hpa buffer)
        : machine_{&machine}, memory_{&memory}, buffer_{buffer} {}

    /// A whole file; qemu_error when there is none of that name.
    bytes file(std::string_view name) {
        constexpr std::uint16_t directory = 0x19;
        constexpr std::size_t entry_size = 64;
        bytes list = read(directory, 4);
        list = read(directory, 4 + big_endian(list, 0, 4) * entry_size);
        for (std::size_t at = 4; at < list.size(); at += entry_size) {
            const auto* const found = reinterpret_cast<const char*>(list.data() + at + 8);
            if (std::string_view{found, ::strnlen(found, entry_size - 8)} == name) {
                return read(static_cast<std::uint16_t>(big_endian(list, at + 4, 2)),
                            big_endian(list, at, 4));
            }
        }
        throw qemu_error{"QEMU has no firmware file " + std::string{name}};
    }

    /// The ACPI table with that signature. As QEMU leaves them the tables lack their checksums; the
    /// loader's commands of that kind are carried out here, as firmware does it. Those that put the
    /// addresses of tables into others are not, for the tables are nowhere.
    bytes acpi_table(std::string_view signature) {
        constexpr std::string_view tables_name = "etc/acpi/tables";
        constexpr std::size_t command_size = 128;
        constexpr std::uint32_t add_checksum = 3;
        bytes tables = file(tables_name);
        const bytes commands = file("etc/table-loader");
        for (std::size_t at = 0; at + command_size <= commands.size(); at += command_size) {
            const auto* const name = reinterpret_cast<const char*>(commands.data() + at + 4);
            if (little_endian(commands, at) != add_checksum ||
                std::string_view{name, ::strnlen(name, 56)} != tables_name) {
                continue;
            }
            const std::size_t checksum = little_endian(commands, at + 60);
            const std::size_t start = little_endian(commands, at + 64);
            const std::size_t length = little_endian(commands, at + 68);
            const std::span table = std::span{tables}.subspan(start, length);
            if (std::memcmp(table.data(), signature.data(), signature.size()) != 0) {
                continue;
            }
            std::uint8_t sum = 0;
            for (const std::uint8_t byte : table) {
                sum = static_cast<std::uint8_t>(sum + byte);
            }
            tables[checksum] = static_cast<std::uint8_t>(tables[checksum] - sum);
            return {table.begin(), table.end()};
        }
        throw qemu_error{"QEMU made no ACPI table " + std::string{signature}};
    }

private:
    static std::uint64_t big_endian(const bytes& from, std::size_t at, unsigned size) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < size; ++i) {
            value = value << 8 | from.at(at + i);
        }
        return value;
    }
    static std::uint32_t little_endian(const bytes& from, std::size_t at) {
        return __builtin_bswap32(static_cast<std::uint32_t>(big_endian(from, at, 4)));
    }

    /// The request: control, length and address, all big-endian; writing its own address starts it.
    bytes read(std::uint16_t item, std::uint64_t size) {
        constexpr std::uint32_t select_and_read = 1U << 3 | 1U << 1;
        const pt::hpa data = buffer_ + 16;
        auto* const request = memory_->words<std::uint32_t>(buffer_, 4);
        request[0] = __builtin_bswap32(std::uint32_t{item} << 16 | select_and_read);
        request[1] = __builtin_bswap32(static_cast<std::uint32_t>(size));
        request[2] = 0;
        request[3] = __builtin_bswap32(static_cast<std::uint32_t>(data.raw));
        machine_->out32(0x514, 0);
        machine_->out32(0x518, __builtin_bswap32(static_cast<std::uint32_t>(buffer_.raw)));
        if (request[0] != 0) {
            throw qemu_error{"QEMU's firmware configuration device refuses to read"};
        }
        const auto got = memory_->bytes(data, size);
        bytes content(size);
        std::memcpy(content.data(), got.data(), size);
        return content;
    }

    qemu* machine_;
    shared_memory* memory_;
    pt::hpa buffer_;
};

} // namespace emulator
