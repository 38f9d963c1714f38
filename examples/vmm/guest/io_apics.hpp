// SPDX-License-Identifier: BSL-1.0
//
// The I/O APIC as firmware's MADT describes it [acpi]: where it is, and which of its inputs the old
// interrupt lines are.
#pragma once

#include "../../kernel/io_apic.hpp"

#include <cstdint>

namespace guest {

/// Polarity and trigger mode of an input, as the redirection entry has them.
struct input_signal {
    bool active_low = false;
    bool level = false;
};

class io_apic_inputs {
public:
    /// Reads the MADT. Without one the inputs are as on the first machines that had an I/O APIC:
    /// line n is input n.
    void look_at_firmware();
    [[nodiscard]] bool has_madt() const { return has_madt_; }

    /// The input of an old interrupt line, 0..15.
    [[nodiscard]] unsigned input_of_line(unsigned line) const { return inputs_[line & 15]; }
    [[nodiscard]] std::uint8_t vector_of(unsigned input) const;

    /// Opens an input for an old line: an edge, or as the MADT says.
    void open_edge(unsigned input, std::uint8_t vector);
    /// Opens it for the wire of a PCI function: level-triggered, active low unless the MADT says
    /// otherwise. The vector is vector_of(input).
    void open_level(unsigned input);
    void mask(unsigned input) { registers_.mask(input); }

    /// How many inputs it has.
    [[nodiscard]] unsigned count();
    [[nodiscard]] kernel::io_apic& registers() { return registers_; }

private:
    void open(unsigned input, std::uint8_t vector, input_signal signal);

    kernel::io_apic registers_{};
    bool has_madt_ = false;
    unsigned inputs_[16]{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    bool told_active_high_[24]{};
};

/// The one of the machine.
io_apic_inputs& io_apics();

} // namespace guest
