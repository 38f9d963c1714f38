// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/vcpu/event.hpp"

#include <cstdint>

namespace pt::assign {

/// What an exit loop does after a handler has seen an exit.
enum class action : std::uint8_t {
    resume,   ///< the exit is done
    inject,   ///< the guest gets an exception instead of its instruction
    not_mine, ///< nothing has changed, and nobody whom pt knows is meant: the VMM decides
};

/// A handler's answer, in the words of neither VMX nor SVM.
struct [[nodiscard]] answer {
    assign::action action = assign::action::resume;
    /// Of `resume`: so many bytes the instruction pointer moves on (vcpu::rip_after), and all that ends
    /// with an instruction ends. 0: it stays, and the guest executes the instruction again, or the rest
    /// of it.
    std::uint8_t advance = 0;
    vcpu::event event{};   ///< of `inject`: for the injector's raise()
    std::uint64_t cr2 = 0; ///< of `inject`: what CR2 must hold, if the event is a page fault

    friend constexpr bool operator==(const answer&, const answer&) = default;
};

[[nodiscard]] constexpr answer resume_behind(std::uint8_t instruction_length) {
    return {.action = action::resume, .advance = instruction_length};
}
[[nodiscard]] constexpr answer resume_again() { return {.action = action::resume}; }
[[nodiscard]] constexpr answer inject(const vcpu::event& event, std::uint64_t cr2 = 0) {
    return {.action = action::inject, .event = event, .cr2 = cr2};
}
[[nodiscard]] constexpr answer not_mine() { return {.action = action::not_mine}; }

} // namespace pt::assign
