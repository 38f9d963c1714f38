// SPDX-License-Identifier: BSL-1.0
#include "edu.hpp"

#include "pt/core/contract.hpp"

namespace kernel {
namespace {

// Offsets of its registers. The identification is 0xRRrr00ED, with the version in RRrr.
constexpr std::uint32_t identification = 0x00;
constexpr std::uint32_t interrupt_status = 0x24;
constexpr std::uint32_t interrupt_raise = 0x60;
constexpr std::uint32_t interrupt_acknowledge = 0x64;
constexpr std::uint32_t dma_source = 0x80;
constexpr std::uint32_t dma_destination = 0x88;
constexpr std::uint32_t dma_count = 0x90;
constexpr std::uint32_t dma_command = 0x98;

} // namespace

pt::result<edu> edu::open(pt::pci::function_address function) {
    pt::result<mmio> registers = open_function(function);
    if (!registers) {
        return registers.error();
    }
    if ((registers->read32(identification) & 0xFFFF) != 0x00ED) {
        return pt::error{pt::errc::absent, function.source_id()};
    }
    return edu{*registers};
}

void edu::request_interrupt() { registers_.write32(interrupt_raise, 1); }

void edu::acknowledge_interrupts() {
    registers_.write32(interrupt_acknowledge, registers_.read32(interrupt_status));
}

void edu::begin(std::uint64_t from, std::uint64_t to, std::uint64_t size, std::uint64_t command) {
    pt::expects(size <= largest_dma, "edu takes less at a time");
    registers_.write64(dma_source, from);
    registers_.write64(dma_destination, to);
    registers_.write64(dma_count, size);
    registers_.write64(dma_command, command);
}

bool edu::is_busy() { return (registers_.read64(dma_command) & start) != 0; }

} // namespace kernel
