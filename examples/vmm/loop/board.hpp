// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/platform.hpp"
#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/external_controller.hpp"
#include "pt/lapic/identity.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/local_wire.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/vcpu_set.hpp"

#include "../pc/acpi.hpp"
#include "../pc/chipset.hpp"
#include "../pc/host_bridge.hpp"
#include "host_clock.hpp"

#include <cstdint>
#include <utility>

namespace vmm {

/// The one virtual processor of a guest, as the guest's bus knows it. It is always outside of the guest
/// when somebody posts to it here, since one CPU does everything: so there is nothing to notify.
struct one_processor {
    pt::lapic::inbox* arriving;

    constexpr std::uint32_t count() { return 1; }
    constexpr pt::lapic::inbox& inbox(std::uint32_t) { return *arriving; }
    constexpr void notify(std::uint32_t, pt::lapic::notification) {}
};
static_assert(pt::lapic::vcpu_set<one_processor>);

/// What answers where nobody does: nothing, as on a bus of a PC. Reads give all ones, writes are lost.
/// A handle around another assign::platform.
template <pt::assign::platform Devices>
struct open_bus {
    Devices devices;

    constexpr pt::result<std::uint32_t> read_port(pt::io_port port, pt::width size) {
        const auto value = devices.read_port(port, size);
        return value ? value : pt::result<std::uint32_t>{pt::all_ones(size)};
    }
    constexpr pt::result<void> write_port(pt::io_port port, pt::width size, std::uint32_t value) {
        static_cast<void>(devices.write_port(port, size, value));
        return {};
    }
    constexpr pt::result<std::uint64_t> read_memory(pt::gpa at, pt::mmio_width size) {
        const auto value = devices.read_memory(at, size);
        return value ? value : pt::result<std::uint64_t>{pt::all_ones(size)};
    }
    constexpr pt::result<void> write_memory(pt::gpa at, pt::mmio_width size, std::uint64_t value) {
        static_cast<void>(devices.write_memory(at, size, value));
        return {};
    }
    constexpr void end_of_interrupt(std::uint8_t vector) { devices.end_of_interrupt(vector); }
};

/// The PC of one guest without its processor: local APIC, bus and chipset, as they are wired. `Output`
/// takes what the guest writes to COM1.
template <host_clock Clock, class Output>
class board {
public:
    using time_type = guest_time<Clock>;
    using apic_type = pt::lapic::local_apic<time_type>;
    using vcpus_type = one_processor;
    using bus_type = pt::lapic::bus<vcpus_type>;

    /// The I/O APIC's way to the local APIC: a handle.
    struct to_bus {
        bus_type* bus;
        constexpr pt::lapic::delivery operator()(const pt::lapic::message& sent) const {
            return bus->deliver(sent);
        }
    };
    using chipset_type = pc::chipset<Clock, Output, to_bus>;
    using platform_type = open_bus<pc::platform_of<chipset_type>>;
    using line_type = pc::isa_line<chipset_type>;

    /// The 8259s behind ExtINT: a handle. After INTA the wire follows at once, so that nothing waits that
    /// has been served.
    struct interrupt_acknowledge {
        board* of;
        constexpr std::uint8_t acknowledge() const {
            const std::uint8_t vector = of->chipset_.acknowledge();
            of->set_wire();
            return vector;
        }
    };

    /// `seconds`: since the beginning of 1970, when the clock shows 0. `memory`: bytes of the guest's RAM
    /// below 4 GiB.
    constexpr board(Clock clock, Output com1, std::uint64_t seconds, std::uint64_t memory,
                    std::uint8_t physical_address_width)
        : time_{clock},
          bus_{vcpus_type{&inbox_}},
          apic_{page_, inbox_, {.physical_address_width = physical_address_width}, time_},
          chipset_{clock, std::move(com1), to_bus{&bus_}, seconds, memory} {}

    board(const board&) = delete; // everything here points to each other
    board& operator=(const board&) = delete;

    [[nodiscard]] constexpr bus_type& bus() { return bus_; }
    [[nodiscard]] constexpr apic_type& apic() { return apic_; }
    [[nodiscard]] constexpr chipset_type& chipset() { return chipset_; }
    [[nodiscard]] constexpr pc::host_bridge& host_bridge() { return host_bridge_; }
    [[nodiscard]] constexpr time_type& time() { return time_; }
    [[nodiscard]] constexpr platform_type platform() { return {{&chipset_}}; }
    [[nodiscard]] constexpr interrupt_acknowledge acknowledge() { return {this}; }
    /// Where INTx of an assigned function arrives: a lapic::guest_line.
    [[nodiscard]] constexpr line_type line(unsigned irq) { return {&chipset_, irq}; }

    /// As firmware leaves it: the local APIC enabled, the 8259s by LINT0, NMI by LINT1, since kernels that
    /// know of no local APIC need it so; and the line for INTx level-triggered (ELCR), as the MADT says.
    constexpr void start() {
        using namespace pt::lapic;
        const auto write = [&](std::uint32_t offset, std::uint32_t value) {
            static_cast<void>(apic_.write(offset, pt::mmio_width::dword, value));
        };
        write(spurious_interrupt_vector::offset,
              spurious_interrupt_vector{spurious_interrupt_vector::software_enabled(true),
                                        spurious_interrupt_vector::vector(0xFF)}
                  .raw);
        write(lint0_offset,
              local_vector_entry{local_vector_entry::delivery(delivery_mode::extint)}.raw);
        write(lint1_offset,
              local_vector_entry{local_vector_entry::delivery(delivery_mode::nmi)}.raw);
        static_assert(pc::intx_line >= 8);
        static_cast<void>(
            chipset_.write_port(second_level_control, pt::width::byte, 1U << (pc::intx_line - 8)));
    }

    /// Lines and wires follow the time. Before each entry.
    constexpr void update() {
        chipset_.update_lines();
        set_wire();
    }

    /// Whether an NMI can come from the chipset. (There is nobody at LINT1.)
    [[nodiscard]] constexpr bool can_send_nmi() const {
        using namespace pt::lapic;
        const local_vector_entry lint0 = page_.lvt_lint0;
        return chipset_.can_send_nmi() ||
               (!lint0[local_vector_entry::masked] &&
                lint0[local_vector_entry::delivery] == delivery_mode::nmi);
    }

    /// When update(), or the local APIC, has something to do: in nanoseconds of the clock, or pc::never.
    [[nodiscard]] constexpr std::uint64_t next_deadline() {
        const std::uint64_t device = chipset_.next_deadline();
        const std::uint64_t timer = time_.nanoseconds(apic_.next_deadline());
        return device < timer ? device : timer;
    }

private:
    static constexpr std::uint32_t lint0_offset = 0x350;
    static constexpr std::uint32_t lint1_offset = 0x360;
    static constexpr pt::io_port second_level_control{0x4D1}; ///< of the second 8259

    constexpr void set_wire() {
        const bool asserted = chipset_.interrupts();
        if (asserted != lint0_) {
            lint0_ = asserted;
            apic_.set_wire(pt::lapic::local_wire::lint0, asserted
                                                             ? pt::lapic::wire_level::asserted
                                                             : pt::lapic::wire_level::deasserted);
        }
    }

    [[no_unique_address]] time_type time_;
    alignas(4096) pt::lapic::register_page page_{};
    pt::lapic::inbox inbox_{};
    bus_type bus_;
    apic_type apic_;
    chipset_type chipset_;
    pc::host_bridge host_bridge_;
    bool lint0_ = false; ///< as the local APIC knows it
};

} // namespace vmm
