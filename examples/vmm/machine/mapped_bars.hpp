// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/mmio.hpp"
#include "../../kernel/pci.hpp"

#include "pt/core/address.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/function_address.hpp"

#include <cstdint>

namespace vmm {

/// bar_memory: the BARs of one function where firmware has placed them, below 4 GiB.
class mapped_bars {
public:
    explicit mapped_bars(pt::pci::function_address function) {
        kernel::port_config config = kernel::config();
        for (const pt::result<pt::pci::bar>& each : pt::pci::read_bars(config, function)) {
            if (each && each->kind != pt::pci::bar_kind::io &&
                each->kind != pt::pci::bar_kind::rom && each->address < 4 * pt::GiB) {
                bars_[each->index] = pt::hpa{each->address};
            }
        }
    }

    /// The registers of BAR `bar`; errc::absent with its number.
    [[nodiscard]] pt::result<kernel::mmio> registers(std::uint8_t bar) const {
        return bars_[bar].raw != 0 ? pt::result<kernel::mmio>{kernel::mmio{bars_[bar]}}
                                   : pt::error{pt::errc::absent, bar};
    }

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size) {
        const auto at = registers(bar);
        if (!at) {
            return pt::all_ones(size); // the ROM, too: firmware has turned it off
        }
        kernel::mmio memory = *at;
        const auto place = static_cast<std::uint32_t>(offset);
        switch (size) {
        case pt::mmio_width::byte: return memory.read8(place);
        case pt::mmio_width::word: return memory.read16(place);
        case pt::mmio_width::dword: return memory.read32(place);
        case pt::mmio_width::qword: break;
        }
        return memory.read64(place);
    }
    void write(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size, std::uint64_t value) {
        const auto at = registers(bar);
        if (!at) {
            return;
        }
        kernel::mmio memory = *at;
        const auto place = static_cast<std::uint32_t>(offset);
        switch (size) {
        case pt::mmio_width::byte: memory.write8(place, static_cast<std::uint8_t>(value)); return;
        case pt::mmio_width::word: memory.write16(place, static_cast<std::uint16_t>(value)); return;
        case pt::mmio_width::dword:
            memory.write32(place, static_cast<std::uint32_t>(value));
            return;
        case pt::mmio_width::qword: memory.write64(place, value); return;
        }
    }

private:
    pt::hpa bars_[pt::pci::expansion_rom_index + 1]{};
};
static_assert(pt::pci::bar_memory<mapped_bars>);

} // namespace vmm
