// SPDX-License-Identifier: BSL-1.0
#include "pt/vmx/entry_checks.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using namespace pt::vmx;

constexpr entry_words word(std::uint32_t raw, std::uint32_t error_code = 0,
                           std::uint32_t length = 0) {
    return {entry_interruption_information{raw}, error_code, length, false};
}

constexpr injection_context protected_mode{.cr0 = 0x8000'0011, .rflags = 0x202};

constexpr bool accepts(const entry_words& words, const injection_context& guest = protected_mode) {
    return check_entry(words, guest) == entry_check::accepted;
}
constexpr bool bad_field(const entry_words& words,
                         const injection_context& guest = protected_mode) {
    return check_entry(words, guest) == entry_check::invalid_control_field;
}
constexpr bool bad_state(const entry_words& words, const injection_context& guest) {
    return check_entry(words, guest) == entry_check::invalid_guest_state;
}

// [sdm, VM-Entry Control Fields], point by point.
TEST_CASE("entry refuses reserved types and bits", "[vmx]") {
    constexpr auto check = [] {
        bool good = accepts(word(0x8000'0031)) && bad_field(word(0x8000'0131));
        for (unsigned bit = 12; bit != 31; ++bit) {
            good = good && bad_field(word(0x8000'0031 | 1U << bit));
        }
        // Without bit 31 nothing is looked at.
        good = good && accepts(word(0x7FFF'FFFF, 0xFFFF'FFFF, 99));
        // Type 7 is for a pending MTF exit, vector 0, where there is a monitor trap flag.
        injection_context trap_flag = protected_mode;
        trap_flag.monitor_trap_flag_supported = true;
        good = good && bad_field(word(0x8000'0700)) && accepts(word(0x8000'0700), trap_flag);
        return good && bad_field(word(0x8000'0701), trap_flag);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("entry wants a vector that fits the type", "[vmx]") {
    constexpr auto check = [] {
        bool good = accepts(word(0x8000'0202)) && bad_field(word(0x8000'0203));
        good = good && accepts(word(0x8000'031F)) && bad_field(word(0x8000'0320));
        return good && accepts(word(0x8000'04FF, 0, 2)) && accepts(word(0x8000'0000));
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("entry wants an error code exactly where the exception has one", "[vmx]") {
    constexpr auto check = [] {
        bool good = true;
        for (std::uint32_t vector = 0; vector != 32; ++vector) {
            // [sdm] #DF 8, #TS 10, #NP 11, #SS 12, #GP 13, #PF 14, #AC 17.
            const bool has_code = vector == 8 || vector == 10 || vector == 11 || vector == 12 ||
                                  vector == 13 || vector == 14 || vector == 17;
            good = good && accepts(word(0x8000'0B00 | vector)) == has_code;
            good = good && accepts(word(0x8000'0300 | vector)) == !has_code;
            // Real-address mode: never.
            injection_context real = protected_mode;
            real.cr0 = 0x10;
            good = good && bad_field(word(0x8000'0B00 | vector), real) &&
                   accepts(word(0x8000'0300 | vector), real);
            // IA32_VMX_BASIC bit 56: as the VMM likes.
            injection_context any = protected_mode;
            any.any_error_code = true;
            good = good && accepts(word(0x8000'0B00 | vector), any) &&
                   accepts(word(0x8000'0300 | vector), any);
            any.cr0 = 0x10;
            good = good && bad_field(word(0x8000'0B00 | vector), any);
        }
        // Only hardware exceptions have one, and it has 16 bits.
        good = good && bad_field(word(0x8000'0830)) && bad_field(word(0x8000'0A02)) &&
               bad_field(word(0x8000'0C0E, 0, 2)) && bad_field(word(0x8000'0E03, 0, 1));
        good = good && accepts(word(0x8000'0B0E, 0xFFFF)) && bad_field(word(0x8000'0B0E, 0x1'0000));
        return good && accepts(word(0x8000'0306, 0x1'0000)); // not delivered, not looked at
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("entry wants the length of a software event's instruction", "[vmx]") {
    constexpr auto check = [] {
        bool good = true;
        injection_context zero = protected_mode;
        zero.zero_instruction_length = true;
        for (const std::uint32_t raw : {0x8000'0480U, 0x8000'0501U, 0x8000'0603U}) {
            good = good && accepts(word(raw, 0, 1)) && accepts(word(raw, 0, 15));
            good = good && bad_field(word(raw, 0, 16)) && bad_field(word(raw, 0, 0));
            good = good && accepts(word(raw, 0, 0), zero) && bad_field(word(raw, 0, 16), zero);
        }
        return good && accepts(word(0x8000'0031, 0, 16)) && accepts(word(0x8000'0B0D, 0, 0));
    };
    static_assert(check());
    REQUIRE(check());
}

// [sdm, Checks on Guest Non-Register State], point by point.
constexpr injection_context guest(std::uint32_t blocking,
                                  activity_state activity = activity_state::active,
                                  std::uint64_t rflags = 0x202) {
    return {.cr0 = 0x8000'0011,
            .rflags = rflags,
            .blocking = interruptibility_state{blocking},
            .activity = activity};
}

TEST_CASE("entry delivers an interrupt only with IF and without blocking", "[vmx][rule 32]") {
    constexpr auto check = [] {
        const entry_words interrupt = word(0x8000'0031);
        bool good = accepts(interrupt, guest(0)) && accepts(interrupt, guest(8));
        good = good && bad_state(interrupt, guest(0, activity_state::active, 0x002));
        return good && bad_state(interrupt, guest(1)) && bad_state(interrupt, guest(2));
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("entry and blocking of NMIs", "[vmx][rule 32]") {
    constexpr auto check = [] {
        const entry_words nmi = word(0x8000'0202);
        bool good = accepts(nmi, guest(0, activity_state::active, 0x002));
        good = good && bad_state(nmi, guest(2)) && bad_state(nmi, guest(1));
        injection_context lenient = guest(1);
        lenient.nmi_while_sti_blocks = true;
        good = good && accepts(nmi, lenient);
        // Blocking by NMI is looked at with virtual NMIs only.
        injection_context virtual_nmis = guest(8);
        good = good && accepts(nmi, virtual_nmis);
        virtual_nmis.virtual_nmis = true;
        return good && bad_state(nmi, virtual_nmis) && accepts(word(0x8000'0031), virtual_nmis);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("entry refuses interruptibility states that cannot be", "[vmx]") {
    constexpr auto check = [] {
        const entry_words none = word(0);
        bool good = accepts(none, guest(1)) && accepts(none, guest(2)) && bad_state(none, guest(3));
        good = good && bad_state(none, guest(1, activity_state::active, 0x002)); // STI sets IF
        good = good && accepts(none, guest(2, activity_state::active, 0x002));
        good = good && bad_state(none, guest(4));  // outside of SMM
        for (unsigned bit = 4; bit != 32; ++bit) { // bit 4: without enclaves
            good = good && bad_state(none, guest(1U << bit));
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("enclave interruption is a state of processors with enclaves", "[vmx]") {
    constexpr auto check = [] {
        injection_context with_enclaves = guest(0x10);
        with_enclaves.enclaves_supported = true;
        const bool good = accepts(word(0), with_enclaves);
        with_enclaves.blocking = interruptibility_state{0x12}; // and MOV SS
        return good && bad_state(word(0), with_enclaves);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("an NMI waits for the interrupt window while STI blocks", "[vmx][rule 32]") {
    constexpr auto check = [] {
        // The exit of the NMI window may come while STI blocks, and the NMI could not be taken then.
        bool good = nmi_waits_for_interrupt_window(interruptibility_state{0x1}) &&
                    !can_take_nmi(interruptibility_state{0x1}, activity_state::active);
        for (const std::uint32_t others : {0x0U, 0x2U, 0x8U, 0xAU}) {
            good = good && !nmi_waits_for_interrupt_window(interruptibility_state{others});
        }
        return good;
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE("what wakes each activity state", "[vmx]") {
    struct row {
        entry_words words;
        bool halted;
        bool shut_down;
    };
    constexpr row rows[] = {
        {word(0x8000'0031), true, false},        // external interrupt
        {word(0x8000'0202), true, true},         // NMI
        {word(0x8000'0301), true, false},        // #DB
        {word(0x8000'0312), true, true},         // #MC
        {word(0x8000'0306), false, false},       // #UD
        {word(0x8000'0B0E), false, false},       // #PF
        {word(0x8000'0480, 0, 2), false, false}, // INT 0x80
        {word(0x8000'0501, 0, 1), false, false}, // INT1 has vector 1 and is no #DB
        {word(0x8000'0603, 0, 1), false, false}, // INT3
    };
    constexpr auto check = [=] {
        bool good = true;
        for (const row& event : rows) {
            good = good && accepts(event.words, guest(0));
            good = good && accepts(event.words, guest(0, activity_state::hlt)) == event.halted;
            good =
                good && accepts(event.words, guest(0, activity_state::shutdown)) == event.shut_down;
            good = good && bad_state(event.words, guest(0, activity_state::wait_for_sipi));
        }
        for (const activity_state state :
             {activity_state::hlt, activity_state::shutdown, activity_state::wait_for_sipi}) {
            good = good && accepts(word(0), guest(0, state));
            good =
                good && bad_state(word(0), guest(1, state)) && bad_state(word(0), guest(2, state));
        }
        good = good && bad_state(word(0), guest(0, activity_state{4}));
        injection_context user = guest(0, activity_state::hlt);
        user.ss_privilege_level = 3;
        return good && bad_state(word(0), user);
    };
    static_assert(check());
    REQUIRE(check());
}

TEST_CASE(
    "what can_take_external_interrupt and can_take_nmi promise, entry takes; and nothing else",
    "[vmx][rule 32]") {
    const auto disagreements = [] {
        unsigned count = 0;
        for (std::uint32_t blocking = 0; blocking != 32; ++blocking) {
            for (std::uint32_t activity = 0; activity != 4; ++activity) {
                for (const std::uint64_t rflags : {0x002U, 0x202U}) {
                    injection_context state = guest(blocking, activity_state{activity}, rflags);
                    state.virtual_nmis = true;
                    if (!accepts(word(0), state)) {
                        continue; // no guest is in such a state
                    }
                    const bool interrupt =
                        can_take_external_interrupt(rflags, state.blocking, state.activity);
                    const bool nmi = can_take_nmi(state.blocking, state.activity);
                    count += interrupt != accepts(word(0x8000'0031), state);
                    count += nmi != accepts(word(0x8000'0202), state);
                }
            }
        }
        return count;
    };
    static_assert(disagreements() == 0);
    REQUIRE(disagreements() == 0);
}

TEST_CASE("an NMI whose delivery was interrupted goes in once its blocking is cleared",
          "[vmx][rule 32]") {
    constexpr auto check = [] {
        injection_context state = guest(8);
        state.virtual_nmis = true;
        const entry_words again =
            entry_of(interrupted_event(idt_vectoring_information{0x8000'1202}, 0, 0),
                     pt::vcpu::mode_of(state.cr0));
        bool good = bad_state(again, state) && again.clear_blocking_by_nmi;
        using blocking = interruptibility_state;
        state.blocking = state.blocking.with(blocking::blocking_by_nmi(false));
        return good && accepts(again, state);
    };
    static_assert(check());
    REQUIRE(check());
}

} // namespace
