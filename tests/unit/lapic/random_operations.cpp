// SPDX-License-Identifier: BSL-1.0
// A second local APIC, slow and plain, written from the manual's text, beside the library's under random
// operations. Where an emulator differs from the manual (Xen delivers nothing while the guest has
// software-disabled its local APIC; [sdm] says that what is pending is held and still to be handled),
// the manual wins.

#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/vmx/interruption.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <memory>
#include <random>
#include <set>

namespace {

struct manual_apic {
    std::set<int> irr;
    std::set<int> isr;
    bool level[256] = {}; // TMR
    int tpr = 0;
    bool enabled = false;
    bool suppress = false;
    bool error_seen = false;
    bool esr_illegal = false;

    static int class_of(int vector) { return vector >> 4; }

    // "Upon acceptance of an interrupt into the IRR, the corresponding TMR bit is cleared for
    // edge-triggered interrupts and set for level-triggered ones." 0: dropped, 1: new, 2: merged.
    int accept(int vector, bool is_level) {
        if (!enabled) {
            return 0;
        }
        if (vector <= 15) {
            error_seen = true;
            return 0;
        }
        level[vector] = is_level;
        return irr.insert(vector).second ? 1 : 2;
    }
    int in_service_class() const { return isr.empty() ? 0 : class_of(*isr.rbegin()); }
    int processor_class() const {
        const int task = class_of(tpr);
        return task > in_service_class() ? task : in_service_class();
    }
    // -1: open to the model of processor, when both classes are equal.
    int processor_sub_class() const {
        if (class_of(tpr) == in_service_class()) {
            return -1;
        }
        return class_of(tpr) > in_service_class() ? tpr & 15 : 0;
    }
    int deliverable() const {
        if (irr.empty()) {
            return 0;
        }
        const int vector = *irr.rbegin();
        return class_of(vector) > processor_class() ? vector : 0;
    }
    int take() {
        const int vector = deliverable();
        if (vector != 0) {
            irr.erase(vector);
            isr.insert(vector);
        }
        return vector;
    }
};

struct guest_state {
    const bool* interruptible;
    bool can_take_interrupt() { return *interruptible; }
};

TEST_CASE(
    "a million random operations give the same states, decisions and EOIs as the manual's model",
    "[lapic][rule 26][rule 27][rule 32]") {
    using namespace pt::lapic;
    using entry = pt::vmx::entry_interruption_information;
    const auto page = std::make_unique<register_page>();
    local_apic apic{*page};
    bool interruptible = false;
    injector injector{apic, guest_state{&interruptible}};
    manual_apic model;
    auto random = [engine = std::mt19937{27}]() mutable {
        return static_cast<std::uint32_t>(engine());
    };
    unsigned wrong = 0;
    unsigned injected = 0;
    unsigned windows = 0;
    unsigned broadcasts = 0;

    for (int step = 0; step != 1'000'000; ++step) {
        switch (random() % 16) {
        case 0:
        case 1:
        case 2:
        case 3: {
            // Vectors from everywhere and, more often, from a few neighbouring classes.
            const auto vector = static_cast<std::uint8_t>(random() % 4 == 0 ? random() % 256
                                                                            : 0x30 + random() % 64);
            const bool is_level = random() % 3 == 0;
            const int expected = model.accept(vector, is_level);
            const acceptance got =
                apic.accept(vector, is_level ? trigger_mode::level : trigger_mode::edge);
            wrong += (got == acceptance::accepted) != (expected == 1);
            wrong += (got == acceptance::already_pending) != (expected == 2);
            wrong += (got == acceptance::illegal_vector) != (model.enabled && vector < 16);
            break;
        }
        case 4:
        case 5:
        case 6:
        case 7: {
            interruptible = random() % 4 != 0;
            const bool interrupted = random() % 8 == 0;
            // Any event, with undefined bits set or not.
            const std::uint32_t idt = (random() & 0x7FFF'FFFF) | (interrupted ? 0x8000'0000 : 0);
            const entry_decision got =
                injector.before_entry(pt::vmx::reinject(pt::vmx::idt_vectoring_information{idt}));
            std::uint32_t event = 0;
            bool window = false;
            if (interrupted) {
                event = idt & 0x8000'0FFF;
                window = model.deliverable() != 0;
            } else if (interruptible) {
                const int vector = model.take();
                event = vector != 0 ? 0x8000'0000 + static_cast<std::uint32_t>(vector) : 0;
                injected += vector != 0;
            } else {
                window = model.deliverable() != 0;
            }
            wrong += got.event != entry{event};
            wrong += got.interrupt_window != window;
            windows += window;
            break;
        }
        case 8:
        case 9:
        case 10:
        case 11: {
            const end_of_interrupt got = apic.eoi();
            int vector = 0;
            bool broadcast = false;
            if (!model.isr.empty()) {
                vector = *model.isr.rbegin();
                model.isr.erase(vector);
                broadcast = model.level[vector] && !model.suppress;
            }
            wrong += got.vector != vector;
            wrong += got.broadcast != broadcast;
            broadcasts += broadcast;
            break;
        }
        case 12:
        case 13: {
            const std::uint32_t written = random() % 4 == 0 ? random() : random() % 0x50;
            apic.set_task_priority(written);
            model.tpr = static_cast<int>(written & 0xFF);
            break;
        }
        case 14: {
            // Mostly enabled.
            const std::uint32_t written = random() | (random() % 8 != 0 ? 0x100U : 0U);
            apic.set_spurious_interrupt_vector(written);
            model.enabled = (written & 0x100) != 0;
            model.suppress = (written & 0x1000) != 0;
            break;
        }
        case 15:
            apic.latch_error_status();
            model.esr_illegal = model.error_seen;
            model.error_seen = false;
            break;
        }
        wrong += apic.pending() != model.deliverable();
        wrong += page->tpr.raw != static_cast<std::uint32_t>(model.tpr);
        wrong += page->ppr.raw >> 4 != static_cast<std::uint32_t>(model.processor_class());
        const int sub_class = model.processor_sub_class();
        const int got_sub_class = static_cast<int>(page->ppr.raw & 15);
        wrong += sub_class >= 0 ? got_sub_class != sub_class
                                : got_sub_class != 0 && got_sub_class != (model.tpr & 15);
        wrong += page->esr.raw != (model.esr_illegal ? 0x40U : 0U);
        if (step % 64 == 0) {
            for (int vector = 0; vector != 256; ++vector) {
                const auto v = static_cast<std::uint8_t>(vector);
                wrong += page->irr.contains(v) != model.irr.contains(vector);
                wrong += page->isr.contains(v) != model.isr.contains(vector);
                wrong += page->tmr.contains(v) != model.level[vector];
            }
        }
        if (wrong != 0) {
            FAIL("first disagreement at step " << step);
        }
    }
    // The mixture reaches what it is for.
    CHECK(injected > 10'000);
    CHECK(windows > 1'000);
    CHECK(broadcasts > 1'000);
}

} // namespace
