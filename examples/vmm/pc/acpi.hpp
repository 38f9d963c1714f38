// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"

#include "guest_ram.hpp"
#include "little_endian.hpp"
#include "power_management.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::pc {

/// Where the guest finds the tables: the RSDP is searched for from 0xE0000 to 0xFFFFF [acpi].
inline constexpr pt::gpa acpi_tables_at{0xF'0000};
inline constexpr std::uint32_t acpi_tables_size = 0x1000;

/// The ISA interrupt that INTx of an assigned device is wired to: level-triggered, and the pin of the
/// I/O APIC has the same number.
inline constexpr unsigned intx_line = 11;

/// What the tables say of the machine.
struct acpi_machine {
    std::uint32_t local_apic_at = 0xFEE0'0000;
    std::uint32_t io_apic_at = 0xFEC0'0000;
    std::uint8_t local_apic_id = 0;
    std::uint8_t io_apic_id = 0;
};

/// One table while it is written: a header, then fields in their order [acpi, System Description Table
/// Header].
class acpi_table {
public:
    constexpr acpi_table(std::uint8_t* bytes, const char* signature, std::uint8_t revision)
        : bytes_{bytes} {
        text(signature, 4);
        put(std::uint32_t{0}); // the length, see finish()
        put(revision);
        put(std::uint8_t{0}); // the checksum
        text("PT    ", 6);
        text("PTVMM   ", 8);
        put(std::uint32_t{1});
        text("PT  ", 4);
        put(std::uint32_t{1});
    }

    template <class Word>
    constexpr void put(Word value) {
        put_word(bytes_ + size_, value);
        size_ += static_cast<std::uint32_t>(sizeof(Word));
    }
    constexpr void text(const char* letters, std::uint32_t count) {
        for (std::uint32_t i = 0; i != count; ++i) {
            put(static_cast<std::uint8_t>(letters[i]));
        }
    }
    constexpr void zeros(std::uint32_t count) {
        for (std::uint32_t i = 0; i != count; ++i) {
            put(std::uint8_t{0});
        }
    }
    /// A generic address of I/O ports, or one that is empty.
    constexpr void ports(std::uint16_t first, std::uint8_t bits, std::uint8_t access_size) {
        put(std::uint8_t{1}); // I/O space
        put(bits);
        put(std::uint8_t{0});
        put(access_size);
        put(std::uint64_t{first});
    }

    /// Length and checksum: the sum of all bytes is 0.
    constexpr void finish() {
        put_word(bytes_ + 4, size_);
        seal(bytes_, size_, 9);
    }

    static constexpr void seal(std::uint8_t* bytes, std::uint32_t size, std::uint32_t checksum) {
        std::uint8_t sum = 0;
        bytes[checksum] = 0;
        for (std::uint32_t i = 0; i != size; ++i) {
            sum = static_cast<std::uint8_t>(sum + bytes[i]);
        }
        bytes[checksum] = static_cast<std::uint8_t>(0U - sum);
    }

private:
    std::uint8_t* bytes_;
    std::uint32_t size_ = 0;
};

/// Writes RSDP, RSDT, XSDT, MADT, FADT, FACS and DSDT to `acpi_tables_at`. errc::out_of_range with
/// that address: the guest has no memory there.
[[nodiscard]] constexpr pt::result<void> write_acpi_tables(const guest_ram& ram,
                                                           const acpi_machine& machine) {
    const auto area = ram.bytes(acpi_tables_at, acpi_tables_size);
    if (!area) {
        return area.error();
    }
    std::uint8_t* const bytes = *area;
    for (std::uint32_t i = 0; i != acpi_tables_size; ++i) {
        bytes[i] = 0;
    }
    constexpr std::uint32_t rsdt_at = 0x040;
    constexpr std::uint32_t xsdt_at = 0x080;
    constexpr std::uint32_t madt_at = 0x100;
    constexpr std::uint32_t fadt_at = 0x200;
    constexpr std::uint32_t facs_at = 0x400; // aligned to 64
    constexpr std::uint32_t dsdt_at = 0x500;
    const auto address = [](std::uint32_t offset) {
        return static_cast<std::uint32_t>(acpi_tables_at.raw) + offset;
    };
    using ports = power_management_ports;

    acpi_table rsdt{bytes + rsdt_at, "RSDT", 1};
    rsdt.put(address(fadt_at));
    rsdt.put(address(madt_at));
    rsdt.finish();

    acpi_table xsdt{bytes + xsdt_at, "XSDT", 1};
    xsdt.put(std::uint64_t{address(fadt_at)});
    xsdt.put(std::uint64_t{address(madt_at)});
    xsdt.finish();

    constexpr std::uint8_t override_of_isa = 2;
    constexpr std::uint16_t as_the_bus = 0;
    constexpr std::uint16_t level_active_high = 0xD;
    acpi_table madt{bytes + madt_at, "APIC", 3};
    const auto isa = [&](std::uint8_t source, std::uint32_t pin, std::uint16_t flags) {
        madt.put(override_of_isa);
        madt.put(std::uint8_t{10});
        madt.put(std::uint8_t{0}); // the ISA bus
        madt.put(source);
        madt.put(pin);
        madt.put(flags);
    };
    madt.put(machine.local_apic_at);
    madt.put(std::uint32_t{1}); // there are 8259s too
    madt.put(std::uint8_t{0});  // a processor's local APIC
    madt.put(std::uint8_t{8});
    madt.put(std::uint8_t{0});
    madt.put(machine.local_apic_id);
    madt.put(std::uint32_t{1}); // enabled
    madt.put(std::uint8_t{1});  // an I/O APIC
    madt.put(std::uint8_t{12});
    madt.put(machine.io_apic_id);
    madt.put(std::uint8_t{0});
    madt.put(machine.io_apic_at);
    madt.put(std::uint32_t{0}); // from global interrupt 0 on
    isa(0, 2, as_the_bus);
    isa(9, 9, level_active_high); // SCI
    isa(intx_line, intx_line, level_active_high);
    madt.put(std::uint8_t{4}); // NMI of all processors: LINT1
    madt.put(std::uint8_t{6});
    madt.put(std::uint8_t{0xFF});
    madt.put(std::uint16_t{0});
    madt.put(std::uint8_t{1});
    madt.finish();

    acpi_table fadt{bytes + fadt_at, "FACP", 3};
    fadt.put(address(facs_at));
    fadt.put(address(dsdt_at));
    fadt.zeros(2);              // reserved; no preferred profile
    fadt.put(std::uint16_t{9}); // SCI
    fadt.zeros(4);              // no SMI command port: the machine is in ACPI mode
    fadt.zeros(4);              // and so nothing to write there
    fadt.put(std::uint32_t{ports::event_block});
    fadt.zeros(4);
    fadt.put(std::uint32_t{ports::control_block});
    fadt.zeros(8);
    fadt.put(std::uint32_t{ports::timer_block});
    fadt.zeros(8); // no general-purpose events
    fadt.put(std::uint8_t{4});
    fadt.put(std::uint8_t{2});
    fadt.zeros(1);
    fadt.put(std::uint8_t{4});
    fadt.zeros(4);
    fadt.put(std::uint16_t{0xFFF}); // C2 and C3 take longer than allowed: there are none
    fadt.put(std::uint16_t{0xFFF});
    fadt.zeros(8);
    fadt.put(std::uint8_t{0x32});  // the century in CMOS memory
    fadt.put(std::uint16_t{0x05}); // legacy devices; no VGA, no 8042
    fadt.zeros(1);
    // WBINVD works, every processor has C1, power and sleep button are none of the fixed hardware,
    // there is a reset register.
    fadt.put(std::uint32_t{1U << 0 | 1U << 2 | 1U << 4 | 1U << 5 | 1U << 10});
    fadt.ports(0xCF9, 8, 1);
    fadt.put(std::uint8_t{0x06}); // what resets
    fadt.zeros(3);
    fadt.put(std::uint64_t{address(facs_at)});
    fadt.put(std::uint64_t{address(dsdt_at)});
    fadt.ports(ports::event_block, 32, 2);
    fadt.zeros(12);
    fadt.ports(ports::control_block, 16, 2);
    fadt.zeros(12);
    fadt.zeros(12);
    fadt.ports(ports::timer_block, 32, 3);
    fadt.zeros(12);
    fadt.zeros(12);
    fadt.finish();

    // FACS has a header of its own, and no checksum.
    std::uint8_t* const facs = bytes + facs_at;
    constexpr char facs_signature[] = "FACS";
    for (std::uint32_t i = 0; i != 4; ++i) {
        facs[i] = static_cast<std::uint8_t>(facs_signature[i]);
    }
    put_word(facs + 4, std::uint32_t{64});
    facs[32] = 1; // its version

    // Name (\_S5, Package { SLP_TYP of PM1a, of PM1b, 0, 0 })
    acpi_table dsdt{bytes + dsdt_at, "DSDT", 2};
    dsdt.put(std::uint8_t{0x08});
    dsdt.text("_S5_", 4);
    dsdt.put(std::uint8_t{0x12});
    dsdt.put(std::uint8_t{7}); // bytes of the package, this one included
    dsdt.put(std::uint8_t{4});
    dsdt.put(std::uint8_t{0x0A});
    dsdt.put(std::uint8_t{ports::sleep_type});
    dsdt.zeros(3);
    dsdt.finish();

    constexpr char rsdp_text[] = "RSD PTR ";
    for (std::uint32_t i = 0; i != 8; ++i) {
        bytes[i] = static_cast<std::uint8_t>(rsdp_text[i]);
    }
    constexpr char rsdp_maker[] = "PT    ";
    for (std::uint32_t i = 0; i != 6; ++i) {
        bytes[9 + i] = static_cast<std::uint8_t>(rsdp_maker[i]);
    }
    bytes[15] = 2; // the revision of ACPI 2.0 and later
    put_word(bytes + 16, address(rsdt_at));
    put_word(bytes + 20, std::uint32_t{36});
    put_word(bytes + 24, std::uint64_t{address(xsdt_at)});
    acpi_table::seal(bytes, 20, 8);  // as ACPI 1.0 knows it
    acpi_table::seal(bytes, 36, 32); // all of it
    return {};
}

} // namespace vmm::pc
