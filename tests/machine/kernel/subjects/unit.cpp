// SPDX-License-Identifier: BSL-1.0
//
// Firmware's DMAR table, and the registers of the unit that it names: the machine is the one that
// the runner has asked for.
#include "../kernel.hpp"

#include "pt/vtd/register_window.hpp"
#include "pt/vtd/registers.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::told;
using pt::vtd::capability;
using pt::vtd::extended_capability;
using window = pt::vtd::register_window<kernel::mmio, kernel::clock>;

constexpr std::uint64_t window_size = 4 * pt::KiB;
constexpr pt::hpa place{0xFED9'0000}; // QEMU's choice

void run() {
    const kernel::bytes dmar = kernel::acpi_table("DMAR");
    auto unit = window::open(kernel::mmio{place}, window_size, kernel::clock{});
    if (told("no-unit")) {
        check("without a unit there is no DMAR table", dmar.data == nullptr);
        check_error("nor are there registers", unit, pt::errc::absent);
        return;
    }
    // 48 bytes of header; then QEMU's first structure, the DRHD, with the base 8 bytes into it.
    if (!check("there is a DMAR table", dmar.data != nullptr && dmar.size >= 64)) {
        return;
    }
    std::uint64_t base = 0;
    __builtin_memcpy(&base, dmar.data + 48 + 8, sizeof base);
    check_equal("the table names the unit's place", base, place.raw);
    if (!check("the unit answers", unit)) {
        return;
    }
    const capability cap = unit->capabilities();
    const extended_capability ecap = unit->extended_capabilities();
    check_equal("CAP.CM is what was asked for", cap[capability::caching_mode],
                told("caching-mode=on"));
    check_equal("ECAP.SMTS is what was asked for", ecap[extended_capability::scalable_mode],
                told("x-scalable-mode=on"));
    check_equal("ECAP.IR is what was asked for", ecap[extended_capability::interrupt_remapping],
                told("intremap=on"));
    check("SAGAW has four levels", (cap[capability::supported_address_widths] & 4) != 0);
    check_equal("nothing is on", unit->status().raw, 0);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"unit", run};

} // namespace
