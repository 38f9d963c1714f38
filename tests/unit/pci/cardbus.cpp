// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/cardbus.hpp"

#include "pt/pci/bridge.hpp"

#include "fake_machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace cardbus = pt::pci::cardbus;

TEST_CASE("a CardBus bridge of a real notebook reads as lspci prints it", "[pci]") {
    // An O2 Micro bridge in a Fujitsu notebook; the figures below are lspci's text.
    constexpr auto holds = [] {
        constexpr std::uint32_t dwords[]{
            0x7136'1217, 0x0410'0087, 0x0607'0001, 0x0082'A800, 0xFC40'2000, 0x0200'00A0,
            0xB020'1D1C, 0xC000'0000, 0xC3FF'F000, 0xC800'0000, 0xCBFF'F000, 0x0000'3001,
            0x0000'30FD, 0x0000'3401, 0x0000'34FD, 0x0500'010B, 0x143D'10CF, 0x0000'0001};
        pci_fake::function one{{0, 0x1C, 3, 0}, 0};
        for (std::size_t i = 0; i < 18; ++i) {
            one.put(4 * i, 4, dwords[i]);
        }
        pci_fake::machine machine{&one, 1};
        pci_fake::config config{&machine};
        const pt::pci::function_address at = one.address;
        using pt::pci::read;

        // Region 0: Memory at fc402000; capabilities from a0 on
        bool good =
            read<cardbus::socket_base>(config, at)[cardbus::socket_base::address_31_12] == 0xF'C402;
        good &= read<cardbus::capabilities_pointer>(
                    config, at)[cardbus::capabilities_pointer::pointer] == 0xA0;
        // Bus: primary=1c, secondary=1d, subordinate=20, sec-latency=176
        const auto buses = read<pt::pci::bus_numbers>(config, at);
        good &= buses[pt::pci::bus_numbers::primary] == 0x1C &&
                buses[pt::pci::bus_numbers::secondary] == 0x1D &&
                buses[pt::pci::bus_numbers::subordinate] == 0x20 &&
                buses[pt::pci::bus_numbers::secondary_latency_timer] == 176;
        // Memory window 0: c0000000-c3ffffff (prefetchable), 1: c8000000-cbffffff
        using mb0 = cardbus::memory_base_0;
        using ml0 = cardbus::memory_limit_0;
        using mb1 = cardbus::memory_base_1;
        using ml1 = cardbus::memory_limit_1;
        good &= read<mb0>(config, at)[mb0::address_31_12] == 0xC'0000 &&
                read<ml0>(config, at)[ml0::address_31_12] == 0xC'3FFF &&
                read<mb1>(config, at)[mb1::address_31_12] == 0xC'8000 &&
                read<ml1>(config, at)[ml1::address_31_12] == 0xC'BFFF;
        // I/O window 0: 00003000-000030ff, 1: 00003400-000034ff
        using ib0 = cardbus::io_base_0;
        using il0 = cardbus::io_limit_0;
        using ib1 = cardbus::io_base_1;
        using il1 = cardbus::io_limit_1;
        good &= read<ib0>(config, at)[ib0::address_31_2] == 0x3000 / 4 &&
                read<il0>(config, at)[il0::address_31_2] == 0x30FC / 4 &&
                read<ib1>(config, at)[ib1::address_31_2] == 0x3400 / 4 &&
                read<il1>(config, at)[il1::address_31_2] == 0x34FC / 4 &&
                read<ib0>(config, at)[ib0::addressing] == cardbus::io_addressing::bits_32;
        // BridgeCtl: Parity- SERR- ISA- VGA- MAbort- >Reset- 16bInt- PostWrite+
        using bc = cardbus::bridge_control;
        const auto control = read<bc>(config, at);
        good &= !control[bc::parity_error_response] && !control[bc::serr_enable] &&
                !control[bc::isa_enable] && !control[bc::vga_enable] &&
                !control[bc::master_abort_mode] && !control[bc::cardbus_reset] &&
                !control[bc::ireq_int_enable] && control[bc::memory_0_prefetch_enable] &&
                !control[bc::memory_1_prefetch_enable] && control[bc::write_posting_enable];
        // Subsystem: 10cf:143d; 16-bit legacy interface ports at 0001
        using ss = cardbus::subsystem;
        good &= read<ss>(config, at)[ss::subsystem_vendor_id] == 0x10CF &&
                read<ss>(config, at)[ss::subsystem_id] == 0x143D;
        using legacy = cardbus::legacy_mode_base;
        good &= read<legacy>(config, at).raw == 1 && read<legacy>(config, at)[legacy::is_io];
        // Status of the card: DEVSEL medium, nothing else
        using sec = cardbus::secondary_status;
        good &=
            read<sec>(config, at)[sec::devsel_timing] == 1 && read<sec>(config, at).raw == 0x200;
        return good && !machine.out_of_bounds;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}
