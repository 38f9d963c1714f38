// SPDX-License-Identifier: BSL-1.0
#include "acpi.hpp"

#include "mmio.hpp"

namespace kernel {
namespace {

std::uint32_t dword_at(std::uint64_t place) {
    const auto* const raw = pointer_to<const std::uint8_t>(pt::hpa{place});
    return raw[0] | static_cast<std::uint32_t>(raw[1]) << 8 |
           static_cast<std::uint32_t>(raw[2]) << 16 | static_cast<std::uint32_t>(raw[3]) << 24;
}

bool is_there(std::uint64_t place, const char* signature) {
    const auto* at = pointer_to<const char>(pt::hpa{place});
    for (; *signature != '\0'; ++at, ++signature) {
        if (*at != *signature) {
            return false;
        }
    }
    return true;
}

} // namespace

bytes acpi_table(const char* signature) {
    // The root system description pointer lies on a 16-byte boundary of the BIOS area; the table
    // that it points to lists the others, by 32-bit addresses, after a header of 36 bytes [acpi].
    for (std::uint64_t root = 0xE'0000; root < 0x10'0000; root += 16) {
        if (!is_there(root, "RSD PTR ")) {
            continue;
        }
        const std::uint64_t list = dword_at(root + 16);
        for (std::uint64_t at = list + 36; at + 4 <= list + dword_at(list + 4); at += 4) {
            const std::uint64_t table = dword_at(at);
            if (is_there(table, signature)) {
                return {pointer_to<const std::byte>(pt::hpa{table}), dword_at(table + 4)};
            }
        }
    }
    return {};
}

} // namespace kernel
