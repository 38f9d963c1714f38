// SPDX-License-Identifier: BSL-1.0
#include "virtual_interrupts.hpp"

namespace kernel {

void show_apic_page(guest& machine) {
    constexpr std::uint64_t present_writable_user_used = 0x67;
    const pt::gpa last_level = guest::page_tables + 3 * 4 * pt::KiB;
    machine.at<std::uint64_t>(last_level)[apic_linear / (4 * pt::KiB)] =
        apic_page.raw | present_writable_user_used;
}

void use_apic_access_page(guest& machine) {
    const pt::hpa frame = take_frame();
    auto mapped = machine.tables().map({apic_page, 4 * pt::KiB}, frame, pt::ept::ram);
    if (!mapped || !mapped->redeem(machine.hardware())) {
        give_up("the APIC-access page is not mapped");
    }
    vmwrite(vmcs_field::apic_access_address, frame.raw);
    machine.turn_on(secondary::virtualize_apic_accesses);
}

void let_handlers_go_to(guest& machine, pt::gpa place) {
    constexpr std::uint8_t jump = 0xE9; // by 32 bits behind it
    for (unsigned vector = 0; vector < 256; ++vector) {
        const pt::gpa handler = guest::handlers + 8 * vector;
        auto* const code = machine.at<std::uint8_t>(handler);
        code[3] = jump;
        const auto distance = static_cast<std::uint32_t>(place - (handler + 8));
        __builtin_memcpy(code + 4, &distance, sizeof distance);
    }
}

} // namespace kernel
