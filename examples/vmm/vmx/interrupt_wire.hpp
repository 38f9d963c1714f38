// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/interrupts.hpp"
#include "../../kernel/io_apic.hpp"
#include "../pc/acpi.hpp"
#include "../pc/chipset.hpp"

#include "pt/assign/wire_path.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/level_route.hpp"

#include <cstdint>

namespace vmm::vmx {

/// INTx of a function, from an input of the host's I/O APIC to the line of a guest's board that is
/// for it: lapic::level_route, with what it needs at both ends. `Board` has line() and chipset(), as
/// vmm::board.
template <class Board>
class interrupt_wire {
public:
    /// wire_path: a handle.
    class path {
    public:
        static constexpr bool exists = true;

        explicit path(interrupt_wire& of) : of_{&of} {}
        pt::result<void> open() {
            of_->route_.open(the_line);
            return {};
        }
        void close() { of_->route_.close(the_line); }

    private:
        interrupt_wire* of_;
    };

    /// `input`: of the host's I/O APIC, from now on this one's, masked. `vector`: which one of the
    /// host's it raises. The board tells it when an interrupt has ended, so that both live as long.
    interrupt_wire(Board& to, std::uint8_t input, std::uint8_t vector)
        : vector_{vector}, route_{host_input{input}, to.line(pc::intx_line)} {
        // Active high, since the inputs of ISA's lines are, and firmware's router of PCI interrupts
        // leads to one of these [acpi, Interrupt Source Override].
        constexpr std::uint64_t masked_level = 1U << 16 | 1U << 15;
        kernel::io_apic{}.set_entry(input,
                                    std::uint64_t{kernel::apic_id()} << 56 | masked_level | vector);
        to.chipset().tell_end(pc::intx_line, {end, this});
    }
    interrupt_wire(const interrupt_wire&) = delete; // the board has its address
    interrupt_wire& operator=(const interrupt_wire&) = delete;

    [[nodiscard]] path way() { return path{*this}; }

    /// The host took an interrupt, and has not ended it. False: it is another one's.
    bool take(std::uint8_t vector) {
        if (vector != vector_) {
            return false;
        }
        route_.host_interrupt(the_line);
        return true;
    }

private:
    static constexpr std::uint32_t the_line = 0;

    /// host_lines, of which there is one.
    struct host_input {
        std::uint8_t input;
        void mask(std::uint32_t) { kernel::io_apic{}.hold(input); }
        void unmask(std::uint32_t) { kernel::io_apic{}.let_go(input); }
    };

    static void end(void* whom) { static_cast<interrupt_wire*>(whom)->route_.end_of_interrupt(); }

    std::uint8_t vector_;
    pt::lapic::level_route<host_input, typename Board::line_type> route_;
};

} // namespace vmm::vmx
