// SPDX-License-Identifier: BSL-1.0
#include "nic.hpp"

#include "pt/core/mmio.hpp"
#include "pt/core/reg.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/msi_x.hpp"

namespace kernel {
namespace {

using pt::e1000e::ctrl;

// Receive registers of queue 0; pt has none.
struct rctl : pt::reg<rctl, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0100;
    static constexpr bits<1, 1, bool> en{};              ///< receive enable
    static constexpr bits<3, 3, bool> upe{};             ///< unicast promiscuous
    static constexpr bits<4, 4, bool> mpe{};             ///< multicast promiscuous
    static constexpr bits<15, 15, bool> bam{};           ///< broadcast accept
    static constexpr bits<17, 16, std::uint8_t> bsize{}; ///< 0: buffers of 2048 bytes
    static constexpr bits<26, 26, bool> secrc{};         ///< strip the Ethernet CRC
    static constexpr pt::field_list fields{en, upe, mpe, bam, bsize, secrc};
};
constexpr std::uint32_t rdbal = 0x2800;
constexpr std::uint32_t rdbah = 0x2804;
constexpr std::uint32_t rdlen = 0x2808;
constexpr std::uint32_t rdh = 0x2810;
constexpr std::uint32_t rdt = 0x2818;

/// Interrupt Vector Allocation: which vector of MSI-X a cause has.
struct ivar : pt::reg<ivar, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x00E4;
    static constexpr bits<11, 11, bool> txq0_valid{};
    static constexpr bits<10, 8, std::uint8_t> txq0{};
    static constexpr bits<3, 3, bool> rxq0_valid{};
    static constexpr bits<2, 0, std::uint8_t> rxq0{};
    static constexpr pt::field_list fields{txq0_valid, txq0, rxq0_valid, rxq0};
};
// The causes of the queues in ICS and IMS.
constexpr std::uint32_t rxq0_cause = 1U << 20;
constexpr std::uint32_t txq0_cause = 1U << 22;

constexpr std::uint32_t receive_descriptors = 8; ///< the least ring; one descriptor is in use

/// The second quadword of a legacy receive descriptor; the first is the buffer's address.
struct receive_status : pt::reg<receive_status, std::uint64_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 8; ///< in the descriptor
    static constexpr bits<32, 32, bool, pt::access::read_only> dd{};
    static constexpr bits<15, 0, std::uint16_t, pt::access::read_only> length{};
    static constexpr pt::field_list fields{dd, length};
};

} // namespace

constinit pt::e1000e::tx_slot nic::slots[descriptors]{};

pt::result<nic> nic::open(pt::pci::function_address function) {
    pt::result<mmio> registers = open_function(function);
    if (!registers) {
        return registers.error();
    }
    pt::write(*registers, pt::read<ctrl>(*registers).with(ctrl::rst(true)));
    const auto is_reset = [&] { return !pt::read<ctrl>(*registers)[ctrl::rst]; };
    if (!wait_until(is_reset)) {
        return pt::error{pt::errc::time_out, ctrl::offset};
    }
    pt::write(*registers, pt::read<ctrl>(*registers).with(ctrl::slu(true), ctrl::fd(true)));
    return nic{*registers, function};
}

void nic::request_interrupt() {
    using namespace pt::e1000e;
    pt::write(registers_, ims{ims::rxdmt0(true)});
    pt::write(registers_, ics{ics::rxdmt0(true)});
}

void nic::acknowledge_interrupts() {
    using namespace pt::e1000e;
    pt::write(registers_, imc{~std::uint32_t{0}});
    pt::write(registers_, icr{~std::uint32_t{0}});
}

pt::result<void> nic::enable_msi_x(std::uint8_t reception, std::uint8_t transmission) {
    namespace pci = pt::pci;
    port_config access = config();
    const auto found = pci::capabilities(access, function_).find(pci::capability_id::msi_x, 12);
    if (!found) {
        return found.error();
    }
    using control = pci::msi_x_message_control;
    pci::write(access, function_, *found,
               pci::read<control>(access, function_, *found)
                   .with(control::enable(true), control::function_mask(false)));
    pt::write(registers_, ivar{ivar::txq0_valid(true), ivar::txq0(transmission),
                               ivar::rxq0_valid(true), ivar::rxq0(reception)});
    pt::write(registers_, pt::e1000e::ims{rxq0_cause | txq0_cause});
    return {};
}

void nic::request_reception_interrupt() { pt::write(registers_, pt::e1000e::ics{rxq0_cause}); }
void nic::request_transmission_interrupt() { pt::write(registers_, pt::e1000e::ics{txq0_cause}); }

pt::result<void> nic::set_msi_x_message(std::uint8_t vector, pt::pci::msi_message message) {
    namespace pci = pt::pci;
    port_config access = config();
    const auto layout = pci::read_msi_x(access, function_);
    if (!layout) {
        return layout.error();
    }
    for (const pt::result<pci::bar>& held : pci::read_bars(access, function_)) {
        if (held && held->index == layout->table.bar && held->kind != pci::bar_kind::io &&
            held->address != 0 && vector < layout->vectors) {
            mmio table{pt::hpa{held->address + layout->table.offset + 16U * vector}};
            table.write32(0, static_cast<std::uint32_t>(message.address));
            table.write32(4, static_cast<std::uint32_t>(message.address >> 32));
            table.write32(8, message.data);
            table.write32(12, 0); // not masked
            return {};
        }
    }
    return pt::error{pt::errc::absent, vector};
}

void nic::disable_msi_x() {
    namespace pci = pt::pci;
    port_config access = config();
    acknowledge_interrupts();
    if (const auto found =
            pci::capabilities(access, function_).find(pci::capability_id::msi_x, 12)) {
        using control = pci::msi_x_message_control;
        pci::write(access, function_, *found,
                   pci::read<control>(access, function_, *found).with(control::enable(false)));
    }
}

void nic::receive(pt::hpa frame, pt::iova ring_seen_at, pt::iova buffer_seen_at) {
    reception_ = dma_memory{frame};
    pt::write(registers_, rctl{});
    reception_.write64(0, buffer_seen_at.raw);
    reception_.write64(receive_status::offset, 0);
    barrier{}.release();
    registers_.write32(rdbal, static_cast<std::uint32_t>(ring_seen_at.raw));
    registers_.write32(rdbah, static_cast<std::uint32_t>(ring_seen_at.raw >> 32));
    registers_.write32(rdlen, 16 * receive_descriptors);
    registers_.write32(rdh, 0);
    pt::write(registers_, rctl{rctl::en(true), rctl::upe(true), rctl::mpe(true), rctl::bam(true),
                               rctl::bsize(0), rctl::secrc(true)});
    registers_.write32(rdt, 1); // the tail is one past the last descriptor that has a buffer
}

std::uint16_t nic::received() {
    const receive_status status{reception_.read64(receive_status::offset)};
    barrier{}.acquire();
    return status[receive_status::dd] ? status[receive_status::length] : std::uint16_t{0};
}

} // namespace kernel
