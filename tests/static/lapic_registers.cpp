// SPDX-License-Identifier: BSL-1.0
// The local APIC's registers, bit by bit as [sdm] prints them, and what is kept of them elsewhere.
#include "pt/lapic/apic_virtualization.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/saved_state.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::lapic;

// IA32_APIC_BASE.
static_assert(apic_base{0xFEE0'0D00}[apic_base::mode] == apic_mode::x2apic);
static_assert(apic_base{0xFEE0'0900}[apic_base::mode] == apic_mode::xapic);
static_assert(apic_base{0xFEE0'0900}[apic_base::base] == pt::gpa{0xFEE0'0000});
static_assert(apic_base{0xFEE0'0900}[apic_base::bootstrap_processor]);
static_assert(apic_base::reserved(36) == 0xFFFF'FFF0'0000'02FF);
static_assert(apic_base::reserved(52) == 0xFFF0'0000'0000'02FF);

static_assert(x2apic_logical_destination::of(0x0000'0005).raw == 0x0000'0020);
static_assert(x2apic_logical_destination::of(0x0000'003A).raw == 0x0003'0400);
static_assert(x2apic_logical_destination::of(0xFFFF'FFFE).raw == 0xFFFF'4000);

// Figure Interrupt Command Register.
using icr = interrupt_command;
static_assert(icr{icr::destination(0x8765'4321), icr::destination_shorthand(shorthand::self),
                  icr::trigger(trigger_mode::level), icr::level_assert(true),
                  icr::mode(destination_mode::logical), icr::delivery(delivery_mode::nmi),
                  icr::vector(0x51)}
                  .raw == 0x8765'4321'0004'CC51);
static_assert(icr::writable_low == 0x000C'CFFF && icr{0x1000}[icr::delivery_status]);

// Figure Local Vector Table.
using entry = local_vector_entry;
static_assert(entry::bits_of_timer == 0x0007'00FF && entry::bits_of_error == 0x0001'00FF);
static_assert(entry::bits_of_source == 0x0001'07FF && entry::bits_of_pin == 0x0001'A7FF);
static_assert(entry{0x0004'0031}[entry::mode] == timer_mode::tsc_deadline);
static_assert(entry{0x0000'4000}[entry::remote_irr] && entry{0x0000'1000}[entry::delivery_status]);
static_assert(entry{0x0000'2000}[entry::active_low]);
static_assert(entry{0x0000'8700}[entry::trigger] == trigger_mode::level &&
              entry{0x0000'8700}[entry::delivery] == delivery_mode::extint);

static_assert(divide_configuration{0xB}[divide_configuration::divide_value_high] == 1 &&
              divide_configuration{0xB}[divide_configuration::divide_value_low] == 3);

// Guest interrupt status [sdm, Guest Interrupt Status]: RVI below, SVI above.
using status = guest_interrupt_status;
static_assert(status{status::servicing_virtual_interrupt(0x51),
                     status::requesting_virtual_interrupt(0x93)}
                  .raw == 0x5193);

// Every register is found, and nothing else.
constexpr bool finds_each() {
    register_page page;
    unsigned found = 0;
    for (std::uint32_t offset = 0; offset != 0x2000; ++offset) {
        found += register_at(page, offset) != nullptr ? 1 : 0;
    }
    *register_at(page, 0x1F0) = 7;
    const register_page& seen = page;
    return found == 24 + 24 && register_at(seen, 0x080) == &seen.tpr.raw &&
           register_at(seen, 0x3F0) == &seen.self_ipi && page.tmr.words[7].bits == 7 &&
           register_at(seen, 0x270) == &seen.irr.words[7].bits &&
           register_at(page, 0xFFFF'FFF0) == nullptr;
}
static_assert(finds_each());
static_assert(offsetof(register_page, icr_destination) == 0x304);

static_assert(std::is_trivially_copyable_v<saved_state> && sizeof(saved_state) < 512);

} // namespace
