// SPDX-License-Identifier: BSL-1.0
#include "../interrupts.hpp"
#include "../io_apics.hpp"
#include "../link.hpp"
#include "../local_apic.hpp"
#include "../output.hpp"
#include "../steps.hpp"

#include "../../../kernel/command_line.hpp"

namespace guest {
namespace {

void check_kind(nic& device, interrupt_kind kind) {
    const auto vector = device.use(kind, nic_vector);
    if (!check(vector, "interrupts by ", name(kind), " are on")) {
        return;
    }
    if (kind == interrupt_kind::wire) {
        tell("its wire ends at input ", decimal{device.input()}, " of the I/O APIC");
    }
    const auto forget = [] {
        forget_interrupts();
        take_causes();
    };
    forget();
    device.request_interrupt();
    check(arrives(*vector), name(kind), ": it requests one, and it arrives");
    check(take_causes() != 0, "and the NIC says why");
    check(local_apic::has_no_vector(in_service_offset), "after its end nothing is in service");
    forget();
    device.request_interrupt();
    check(arrives(*vector), "and once more");

    forget();
    device.mask();
    device.request_interrupt();
    pause_for(long_enough);
    check_equal(taken(*vector), 0, "masked in the NIC, none arrives");
    device.unmask();
    check(arrives(*vector), "and it arrives when the mask is taken away");

    if (kind == interrupt_kind::msi_x) {
        pause_for(millisecond);
        forget();
        device.mask_message(true);
        device.request_interrupt();
        pause_for(long_enough);
        check_equal(taken(*vector), 0, "masked in the table, none arrives");
        check(device.is_message_pending(), "it is pending");
        device.mask_message(false);
        check(arrives(*vector), "and arrives when the mask is taken away");
        check(!device.is_message_pending(), "it is not pending any more");

        // Another vector for the same message: a driver that moves an interrupt.
        const auto moved = device.use(kind, second_nic_vector);
        forget();
        device.request_interrupt();
        check(moved && arrives(second_nic_vector) && taken(nic_vector) == 0,
              "with another vector in the table, that one arrives");
    }
    if (kind == interrupt_kind::wire) {
        // Level-triggered: it stays requested until the cause is gone, and comes again at the end.
        forget();
        io_apics().registers().hold(device.input());
        device.request_interrupt();
        pause_for(long_enough);
        check_equal(taken(*vector), 0, "masked in the I/O APIC, none arrives");
        io_apics().registers().let_go(device.input());
        check(arrives(*vector), "the wire is still up when the mask is taken away");
    }
    device.use_none();
    forget();
    device.request_interrupt();
    pause_for(long_enough);
    check_equal(taken_in_all(), 0, "off, none arrives");
}

} // namespace

void check_interrupts(nic& device) {
    step("The network controller's interrupts");
    if (!check(device.bring_up(), "the NIC is reset, and its link set up")) {
        return;
    }
    tell("its address is ", device.address());
    const bool chosen = kernel::told_after("interrupts=") != nullptr;
    bool any = false;
    for (const interrupt_kind kind : {interrupt_kind::msi_x, interrupt_kind::msi}) {
        if (chosen ? kind == device.best_kind() : device.has(kind)) {
            any = true;
            check_kind(device, kind);
        }
    }
    if (chosen ? device.best_kind() == interrupt_kind::wire : !any) {
        check_kind(device, interrupt_kind::wire);
    }
}

void check_traffic(nic& device) {
    step("Frames");
    if (!check(device.bring_up(), "the NIC is reset, and its link set up")) {
        return;
    }
    {
        link rings{device};
        if (!check(rings.start(), "its rings start")) {
            return;
        }
        const auto vector = device.use(device.best_kind(), nic_vector);
        if (!check(vector, "its interrupts are on, by ", name(device.best_kind()))) {
            return;
        }
        const mac_address own = device.address();
        struct shape {
            std::uint32_t length;
            std::uint32_t pieces;
        };
        std::uint32_t number = 0;
        for (const shape each : {shape{60, 1}, shape{61, 1}, shape{64, 2}, shape{127, 1},
                                 shape{590, 3}, shape{1024, 1}, shape{1513, 8}, shape{1514, 1}}) {
            forget_interrupts();
            take_causes();
            const auto taken_up = rings.send({everybody, own, frame_kind::plain, number, "plain"},
                                             each.length, each.pieces);
            const bool arrived = taken_up && arrives(*vector);
            check(arrived && rings.wait_until_sent(), "frame ", decimal{number}, ": ",
                  decimal{each.length}, " bytes in ", decimal{each.pieces},
                  each.pieces == 1 ? " piece" : " pieces", ", sent, and told by an interrupt");
            ++number;
        }
        bool all = true;
        for (std::uint32_t i = 0; i != 200; ++i) {
            pt::result<void> taken_up =
                rings.send({everybody, own, frame_kind::plain, number + i, "one of many"}, 200);
            if (!taken_up && taken_up.error().code == pt::errc::busy) {
                rings.wait_until_sent();
                taken_up =
                    rings.send({everybody, own, frame_kind::plain, number + i, "one of many"}, 200);
            }
            all = all && taken_up;
        }
        check(all && rings.wait_until_sent(), "two hundred more, three times around the ring");
        rings.stop();
    }
    if (kernel::told("no-loopback")) {
        tell("its PHY is said to have no loopback");
        check(device.shut_down(), "it is shut down");
        return;
    }
    if (!check(device.bring_up(), "it is reset once more") ||
        !check(device.loop_back(), "its PHY loops back")) {
        return;
    }
    link rings{device};
    const auto vector = device.use(device.best_kind(), nic_vector);
    if (!check(rings.start(), "its rings start") || !vector) {
        return;
    }
    const mac_address own = device.address();
    unsigned right = 0;
    unsigned told = 0;
    for (std::uint32_t number = 0; number != 3; ++number) {
        forget_interrupts();
        take_causes();
        bool seen = false;
        const auto look = [&] {
            rings.receive([&](const seen_frame& frame) {
                seen = seen || (frame.is_right && frame.number == number && frame.source == own);
            });
            return seen;
        };
        // QEMU's 82540EM drops what arrives in the first second after its receiver was enabled.
        for (unsigned again = 0; again != 30 && !seen; ++again) {
            static_cast<void>(
                rings.send({own, own, frame_kind::plain, number, "to myself"}, 60 + 700 * number));
            static_cast<void>(wait_until(look, 100 * millisecond));
            static_cast<void>(rings.sent());
        }
        told += arrives(*vector) && take_causes() != 0 ? 1 : 0;
        right += seen && rings.wait_until_sent() ? 1 : 0;
    }
    check_equal(right, 3, "three frames that it sends to itself are in memory, byte for byte");
    check_equal(told, 3, "and it told so");
    rings.stop();
    check(device.shut_down(), "it is shut down");
}

} // namespace guest
