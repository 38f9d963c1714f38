// SPDX-License-Identifier: BSL-1.0
//
// A world of examples/vmm, VMX or SVM, by itself: a guest goes by itself through the modes of a
// processor, and what it is told, is interrupted by and sees is what a processor would have done.
// Two guests take turns, and each keeps what is its own.
#pragma once

#include "../../../../examples/kernel/interrupts.hpp"
#include "../../../../examples/vmm/world.hpp"
#include "../kernel.hpp"
#include "host.hpp"

#include "pt/core/address.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/paging/table.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>

extern "C" {
extern const std::uint8_t world_guest[]; // in world_guest.S
extern const std::uint8_t world_guest_end[];
extern const std::uint8_t world_guest_number[];
}

namespace guest_tests {

/// timer_clock: no time passes.
struct standing_clock {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};

/// One guest with 2 MiB of memory, and the loop around it.
template <vmm::passthrough_world World>
class guest_of_world {
public:
    using format = typename World::format;
    using attributes = typename format::attributes;

    guest_of_world(std::uint32_t own_number, const attributes& ram)
        : memory_{kernel::take_large_frame()},
          world_{*new (kernel::pointer_to<void>(kernel::take_large_frame())) World{nullptr, 0}},
          tables_{kernel::memory(), World::second_level()},
          apic_{*new (kernel::pointer_to<void>(kernel::take_frame())) pt::lapic::register_page{},
                inbox_,
                {},
                standing_clock{}},
          injector_{apic_, vmm::state_of<World>{&world_}} {
        constexpr std::uint32_t spurious_vector_register = 0x0F0;
        static_cast<void>(apic_.write(spurious_vector_register, pt::mmio_width::dword, 0x1FF));
        build(own_number);
        auto mapped = tables_.map({pt::gpa{0}, 2 * pt::MiB}, memory_, ram);
        const auto root = tables_.root();
        auto processors = world_.processors();
        if (!mapped || !mapped->redeem(processors) || !root ||
            !world_.use_pages(tables_.format(), *root)) {
            kernel::give_up("the guest has no memory");
        }
        world_.set_state(vmm::multiboot_state(start));
    }
    ~guest_of_world() {
        auto processors = world_.processors();
        static_cast<void>(tables_.retire().redeem(processors));
        world_.~World();
    }
    guest_of_world(const guest_of_world&) = delete;
    guest_of_world& operator=(const guest_of_world&) = delete;

    /// Up to that letter, or to the end.
    void run_to(char letter) {
        while (!ended_) {
            if (turn() && letter_ == letter) {
                return;
            }
        }
    }

    /// Where it is now, and back there, from whatever mode it has ended in.
    void mark() {
        marked_ = world_.state();
        marked_general_ = world_.general();
    }
    void go_back() {
        world_.set_state(marked_);
        world_.general() = marked_general_;
        ended_ = false;
    }

    /// From its start it executes these instructions instead.
    void execute(std::initializer_list<std::uint8_t> instructions) {
        auto* to = kernel::pointer_to<std::uint8_t>(memory_ + start);
        for (const std::uint8_t byte : instructions) {
            *to++ = byte;
        }
    }

    [[nodiscard]] const char* letters() const { return letters_; }
    [[nodiscard]] const std::uint32_t* values() const { return values_; }
    [[nodiscard]] std::size_t value_count() const { return value_count_; }
    [[nodiscard]] vmm::exit_kind last() const { return last_; }
    [[nodiscard]] World& world() { return world_; }

private:
    static constexpr std::uint32_t start = 0x8000;
    static constexpr std::uint8_t vector = 0x41;
    static constexpr std::uint64_t slice = 5'000'000;

    /// The program, and tables that lead 2 MiB to themselves, for long mode and for PAE.
    void build(std::uint32_t own_number) {
        const auto size = static_cast<std::size_t>(world_guest_end - world_guest);
        auto* const bytes = kernel::pointer_to<std::uint8_t>(memory_);
        __builtin_memcpy(bytes + start, world_guest, size);
        const auto place = static_cast<std::size_t>(world_guest_number - world_guest);
        __builtin_memcpy(bytes + start + place, &own_number, sizeof own_number);
        auto* const words = kernel::pointer_to<std::uint64_t>(memory_);
        words[0x1000 / 8] = 0x2003;
        words[0x2000 / 8] = 0x3003;
        words[0x3000 / 8] = 0x0083; // large
        words[0x4000 / 8] = 0x3001; // of PAE
    }

    /// One turn. True if the guest has told a letter.
    bool turn() {
        const vmm::vm_exit exit = halted_ && !injector_.wakes()
                                      ? world_.halt(slice)
                                      : world_.run(injector_.before_entry(), slice);
        injector_.interrupted(exit.interrupted);
        raise(exit.raise);
        last_ = exit.kind;
        using enum pt::vcpu::general_register;
        auto& general = world_.general();
        switch (exit.kind) {
        case vmm::exit_kind::handled:
        case vmm::exit_kind::interrupt_window:
        case vmm::exit_kind::nmi_window: return false;
        case vmm::exit_kind::preempted:
            if (++idle_ == 1000) {
                kernel::say("the guest does not go on");
                end(exit);
            }
            return false;
        case vmm::exit_kind::external_interrupt: world_.end_interrupt(); return false;
        case vmm::exit_kind::hlt:
            finish(exit.length);
            apic_.accept(vector, pt::lapic::trigger_mode::edge);
            halted_ = true;
            return false;
        case vmm::exit_kind::cpuid:
            general[rbx] = 0x50'7470; // "pt"
            finish(exit.length);
            return false;
        case vmm::exit_kind::cr8:
            if (exit.cr8.way == vmm::cr8_access::direction::to_cr8) {
                static_cast<void>(apic_.set_cr8(general[exit.cr8.with]));
            } else {
                general[exit.cr8.with] = apic_.cr8();
            }
            finish(exit.length);
            return false;
        case vmm::exit_kind::io: return io(exit);
        default: end(exit); return false;
        }
    }

    bool io(const vmm::vm_exit& exit) {
        using enum pt::vcpu::general_register;
        idle_ = 0;
        halted_ = false;
        const auto value = static_cast<std::uint32_t>(world_.general()[rax]);
        finish(exit.length);
        if (exit.io.port == pt::io_port{0x10} && value_count_ != most_values) {
            values_[value_count_++] = value;
            return false;
        }
        letter_ = static_cast<char>(value);
        if (letter_count_ + 1 != most_letters) {
            letters_[letter_count_++] = letter_;
        }
        switch (letter_) {
        case 'I':
        case 'i': static_cast<void>(apic_.eoi()); break;
        case 'w': apic_.accept(vector, pt::lapic::trigger_mode::edge); break;
        case 'n': send_nmi(); break;
        case 'N': // one that comes inside of the handler waits for its end
            if (++nmis_ == 1) {
                send_nmi();
            }
            break;
        default: break;
        }
        return true;
    }

    void send_nmi() {
        static_cast<void>(inbox_.post(
            {.delivery = pt::lapic::delivery_mode::nmi, .destination = apic_.apic_id()}));
    }
    void raise(const pt::vcpu::event& event) {
        if (event.present && !injector_.raise(event)) {
            kernel::say("a triple fault");
            ended_ = true;
        }
    }
    void finish(std::uint8_t length) {
        raise(world_.finish_instruction(length));
        halted_ = false;
    }
    void end(const vmm::vm_exit& exit) {
        ended_ = true;
        if (exit.kind != vmm::exit_kind::shutdown) {
            kernel::say("exit: ", vmm::name(exit.kind), ", ", exit.why == nullptr ? "" : exit.why,
                        ", ", exit.words[0], " ", exit.words[1], " ", exit.words[2], ", RIP ",
                        world_.state().rip, ", letters ", letters());
        }
    }

    static constexpr std::size_t most_letters = 64;
    static constexpr std::size_t most_values = 32;

    pt::hpa memory_;
    World& world_;
    pt::paging::table<format, kernel::memory_policy> tables_;
    pt::lapic::inbox inbox_{};
    pt::lapic::local_apic<standing_clock> apic_;
    pt::lapic::injector<vmm::state_of<World>, pt::lapic::local_apic<standing_clock>> injector_;
    vmm::cpu_state marked_{};
    pt::vcpu::general_registers marked_general_{};
    char letters_[most_letters]{};
    std::size_t letter_count_ = 0;
    std::uint32_t values_[most_values]{};
    std::size_t value_count_ = 0;
    char letter_ = 0;
    unsigned nmis_ = 0;
    unsigned idle_ = 0;
    bool halted_ = false;
    bool ended_ = false;
    vmm::exit_kind last_ = vmm::exit_kind::handled;
};

/// What the guest tells, in order.
inline constexpr char every_letter[] = "APpLGGGIhwvIVnNoNomDxCRirCRir";

template <class Guest>
void check_told(Guest& guest, std::uint32_t own_number) {
    using kernel::check;
    using kernel::check_equal;
    check("it ends by a triple fault", guest.last() == vmm::exit_kind::shutdown);
    if (!check("the guest comes through all modes, and every event arrives once",
               kernel::is_word(guest.letters(), every_letter))) {
        kernel::say(guest.letters());
    }
    struct expectation {
        const char* name;
        std::uint32_t value;
    };
    const expectation expected[] = {
        {"CR0 as a multiboot loader leaves it", 0x11},
        {"CR0 with CD, NW and NE", 0x6000'0031},
        {"CR0 without caching off", 0x31},
        {"CR4", 0},
        {"EFER", 0},
        {"CPUID is the VMM's", 0x50'7470},
        {"CR0 with PG and CD at once", 0xC000'0031},
        {"EFER in long mode", 0x500},
        {"CR8", 5},
        {"KERNEL_GS_BASE", own_number},
        {"EFER after what it refuses", 0x500},
        {"CR4 after what it refuses", 0x20},
        {"what is told before the trap", 'm'},
        {"how many instructions before the trap", 0},
        {"XMM7 after the other's turn", own_number},
        {"DR1 after the other's turn", own_number},
        {"KERNEL_GS_BASE after the other's turn", own_number},
        {"EFER in protected mode again", 0x100},
        {"XMM7 in long mode again", own_number},
        {"DR1 in long mode again", own_number},
        {"KERNEL_GS_BASE in long mode again", own_number},
        {"EFER in protected mode at last", 0x100},
    };
    check_equal("how much it tells", guest.value_count(), sizeof expected / sizeof expected[0]);
    for (std::size_t i = 0; i != sizeof expected / sizeof expected[0]; ++i) {
        // Of the value before the trap, AL alone is known.
        const bool letter = i == 12;
        check_equal(expected[i].name, letter ? guest.values()[i] & 0xFF : guest.values()[i],
                    expected[i].value);
    }
}

template <vmm::passthrough_world World>
void check_world(const typename World::format::attributes& ram) {
    World::turn_on();
    guest_of_world<World> first{0xA1B2'C3D4, ram};
    guest_of_world<World> second{0x1122'3344, ram};
    for (guest_of_world<World>* each : {&first, &second}) {
        each->run_to('x');
        each->mark();
    }
    for (guest_of_world<World>* each : {&first, &second}) {
        each->run_to('\0');
        each->go_back();
        each->run_to('\0');
    }
    kernel::begin_part("first");
    check_told(first, 0xA1B2'C3D4);
    kernel::begin_part("second");
    check_told(second, 0x1122'3344);
    kernel::begin_part(nullptr);
}

/// Looks at the host's clock as well: the world's times are about right.
template <vmm::passthrough_world World>
void check_world_in_time(const typename World::format::attributes& ram) {
    using kernel::check;
    using kernel::check_equal;
    using vmm::exit_kind;
    constexpr std::uint64_t millisecond = 1'000'000;
    constexpr std::uint8_t vector = 0x51;
    kernel::clock time;
    kernel::measure_timer();
    World::turn_on();
    guest_of_world<World> guest{0, ram};
    World& world = guest.world();
    const auto enter = [&](std::uint64_t nanoseconds) { return world.run({}, nanoseconds); };
    const auto about = [](std::uint64_t passed, std::uint64_t wanted) {
        const bool holds = passed > wanted / 2 && passed < 4 * wanted;
        if (!holds) {
            kernel::say("nanoseconds: ", passed);
        }
        return holds;
    };

    kernel::begin_part("interrupts off and an endless loop");
    guest.execute({0xFA, 0xEB, 0xFE}); // cli; jmp itself
    std::uint64_t start = time.now();
    check("the time is over", enter(2 * millisecond).kind == exit_kind::preempted);
    check("when it should be", about(time.now() - start, 2 * millisecond));
    interrupt_host(vector);
    vmm::vm_exit exit = enter(20 * millisecond);
    check("an interrupt of the host's comes through",
          exit.kind == exit_kind::external_interrupt && exit.vector == vector);
    world.end_interrupt();

    kernel::begin_part("two interrupts of the host's");
    interrupt_host(vector);
    interrupt_host(vector + 0x10);
    exit = enter(20 * millisecond);
    check("the one with the higher priority first",
          exit.kind == exit_kind::external_interrupt && exit.vector == vector + 0x10);
    world.end_interrupt();
    exit = enter(20 * millisecond);
    check("then the other one",
          exit.kind == exit_kind::external_interrupt && exit.vector == vector);
    world.end_interrupt();

    kernel::begin_part("a guest that halts");
    start = time.now();
    check("nothing comes in time", world.halt(2 * millisecond).kind == exit_kind::preempted);
    check("when the time is over", about(time.now() - start, 2 * millisecond));
    interrupt_host(vector);
    exit = world.halt(1000 * millisecond);
    check("an interrupt of the host's comes through, too",
          exit.kind == exit_kind::external_interrupt && exit.vector == vector);
    world.end_interrupt();
    check_equal("nothing was counted as the kernel's own", kernel::taken_in_all(), 0);
    kernel::begin_part(nullptr);
}

} // namespace guest_tests
