// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "processor.hpp"

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

namespace lapic_model {

/// Several processors, and the way of a message between them [sdm, Determining IPI Destination].
struct machine {
    std::vector<processor> processors;

    /// [sdm, Physical Destination Mode; Logical Destination Mode]
    [[nodiscard]] static bool matches(const processor& one, const sent& what) {
        const mode in = one.now_in();
        if (in == mode::disabled) {
            return false;
        }
        const std::uint32_t everybody = what.wide ? 0xFFFF'FFFF : 0xFF;
        if (what.destination == everybody) {
            return true;
        }
        if (!what.logical) { // the id register of xAPIC mode has 8 bits
            return what.destination == (in == mode::x2apic ? one.id : one.id & 0xFF);
        }
        if (in == mode::x2apic) { // cluster 31:16, one bit for each of its 16 members
            return what.destination >> 16 == one.ldr >> 16 &&
                   (what.destination & one.ldr & 0xFFFF) != 0;
        }
        if (what.destination > 0xFF) {
            return false; // from a sender in x2APIC mode: no such bit in LDR
        }
        const std::uint32_t logical_id = one.ldr >> 24;
        switch (one.dfr >> 28) {
        case 0xF: return (what.destination & logical_id) != 0;
        case 0x0:
            return what.destination >> 4 == logical_id >> 4 &&
                   (what.destination & logical_id & 15) != 0;
        default: return false;
        }
    }
    /// Whom a message is for; `from` is a processor or, for a device, -1.
    [[nodiscard]] std::set<int> addressed(int from, const sent& what) const {
        std::set<int> found;
        for (int n = 0; n != static_cast<int>(processors.size()); ++n) {
            const processor& one = processors[static_cast<std::size_t>(n)];
            bool meant = false;
            switch (what.shorthand) {
            case 0: meant = matches(one, what); break;
            case 1: meant = n == from; break;
            case 2: meant = true; break;
            default: meant = n != from; break;
            }
            if (meant && one.now_in() != mode::disabled) {
                found.insert(n);
            }
        }
        return found;
    }
    /// Those of them that do not drop it, software-disabled as they are.
    [[nodiscard]] std::set<int> takers(int from, const sent& what) const {
        std::set<int> found;
        for (const int n : addressed(from, what)) {
            if (processors[static_cast<std::size_t>(n)].software_enabled() ||
                (what.delivery != fixed && what.delivery != lowest && what.delivery != extint)) {
                found.insert(n);
            }
        }
        return found;
    }
    /// Those of them that may win the arbitration [sdm, Lowest Priority Delivery Mode].
    [[nodiscard]] std::set<int> candidates(int from, const sent& what) const {
        std::set<int> best;
        int lowest_priority = 256;
        for (const int n : addressed(from, what)) {
            const processor& one = processors[static_cast<std::size_t>(n)];
            if (!one.software_enabled() || one.ppr() > lowest_priority) {
                continue;
            }
            if (one.ppr() < lowest_priority) {
                best.clear();
                lowest_priority = one.ppr();
            }
            best.insert(n);
        }
        return best;
    }
    /// Delivers anything but lowest priority, for which somebody has to choose.
    void deliver(int from, const sent& what) {
        for (const int n : addressed(from, what)) {
            processors[static_cast<std::size_t>(n)].receive(what.delivery, what.vector, what.level);
        }
    }
    /// [sdm, Message Signalled Interrupts]: the message in a device's write; nothing: no interrupt.
    [[nodiscard]] static std::optional<sent> of_msi(std::uint64_t address, std::uint32_t data) {
        int delivery = static_cast<int>(data >> 8 & 7);
        const bool level = (data & 1U << 15) != 0;
        const bool asserts = (data & 1U << 14) != 0;
        if (address >> 20 != 0xFEE || delivery == 3 || delivery == start_up ||
            (level && !asserts)) {
            return {};
        }
        if (delivery == fixed && (address & 0xC) == 0xC) {
            delivery = lowest; // the redirection hint, with a logical destination
        }
        return sent{.delivery = delivery,
                    .vector = static_cast<int>(data & 0xFF),
                    .level = level,
                    .logical = (address & 4) != 0,
                    .destination = static_cast<std::uint32_t>(address >> 12 & 0xFF)};
    }
    void advance(std::uint64_t by) {
        for (processor& one : processors) {
            one.advance(by);
        }
    }
};

} // namespace lapic_model
