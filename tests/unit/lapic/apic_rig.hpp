// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/width.hpp"
#include "pt/lapic/effect.hpp"
#include "pt/lapic/identity.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"

#include <cstdint>

/// One local APIC with the time that a test gives it, and the guest's accesses as short calls. Usable at
/// compile time. Offsets and values are the manual's numbers, not the library's names.
namespace lapic_test {

struct test_clock {
    const std::uint64_t* now;
    constexpr std::uint64_t ticks() const { return *now; }
    constexpr std::uint64_t tsc() const { return *now; }
};
using local_apic = pt::lapic::local_apic<test_clock>;

inline constexpr pt::lapic::identity bootstrap{.apic_id = 5};
inline constexpr pt::lapic::identity application{.apic_id = 0x123,
                                                 .role = pt::lapic::processor_role::application};
/// With EOI-broadcast suppression.
inline constexpr pt::lapic::identity suppressing{
    .apic_id = 5, .suppression = pt::lapic::eoi_broadcast_suppression::offered};

struct rig {
    pt::lapic::register_page page{};
    pt::lapic::inbox inbox{};
    std::uint64_t now = 1000;
    local_apic apic;

    explicit constexpr rig(pt::lapic::identity who = bootstrap,
                           pt::lapic::timer_limits limits = {.minimum_period = 0})
        : apic{page, inbox, who, test_clock{&now}, limits} {}

    /// xAPIC mode.
    constexpr std::uint64_t read(std::uint32_t offset) {
        return apic.read(offset, pt::mmio_width::dword);
    }
    constexpr void write(std::uint32_t offset, std::uint64_t value) {
        static_cast<void>(effect_of(offset, value));
    }
    constexpr pt::lapic::effect effect_of(std::uint32_t offset, std::uint64_t value) {
        return apic.write(offset, pt::mmio_width::dword, value);
    }
    /// SVR: software enable, spurious vector 0xFF.
    constexpr void enable() { write(0x0F0, 0x1FF); }
    constexpr void to_x2apic() {
        const std::uint64_t base = apic.read_msr(0x1B).value();
        static_cast<void>(apic.write_msr(0x1B, base | 0x400));
    }
    /// RDMSR, where a #GP is ~0 (no register here reads all ones in 64 bits).
    constexpr std::uint64_t rdmsr(std::uint32_t number) {
        return apic.read_msr(number).value_or(~std::uint64_t{0});
    }
    /// WRMSR: whether it does not raise #GP.
    constexpr bool wrmsr(std::uint32_t number, std::uint64_t value) {
        return apic.write_msr(number, value).has_value();
    }
    constexpr std::uint64_t errors() { // ESR as a guest reads it
        write(0x280, 0);
        return read(0x280);
    }
    constexpr bool edge(std::uint8_t vector) {
        return apic.accept(vector, pt::lapic::trigger_mode::edge) ==
               pt::lapic::acceptance::accepted;
    }
    constexpr bool level(std::uint8_t vector) {
        return apic.accept(vector, pt::lapic::trigger_mode::level) ==
               pt::lapic::acceptance::accepted;
    }
};

} // namespace lapic_test
