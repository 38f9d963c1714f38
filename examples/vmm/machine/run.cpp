// SPDX-License-Identifier: BSL-1.0
#include "run.hpp"

namespace vmm {
namespace {

std::uint64_t number_or(const char* start, std::uint64_t otherwise) {
    if (kernel::told_after(start) == nullptr) {
        return otherwise;
    }
    const auto told = kernel::number_told(start);
    if (!told || *told == 0) {
        say("on the VMM's command line: ", start, " wants a number above 0");
        give_up("the VMM's command line makes no sense");
    }
    return *told;
}

} // namespace

run_options options_told(std::size_t most_guests) {
    if (const char* const from =
            kernel::unknown_word({"timeout=", "guests=", "memory=", "audit=", "story"})) {
        say("on the VMM's command line is a word that it does not know: ", from);
        give_up("the VMM's command line makes no sense");
    }
    run_options asked{};
    asked.seconds = number_or("timeout=", asked.seconds);
    asked.guests = number_or("guests=", asked.guests);
    asked.memory = number_or("memory=", asked.memory / pt::MiB) * pt::MiB;
    if (asked.guests > most_guests) {
        give_up("the VMM has no room for so many guests");
    }
    constexpr std::uint64_t least = 4 * pt::MiB;
    constexpr std::uint64_t most = 2 * pt::GiB;
    if (asked.memory < least || asked.memory > most || asked.memory % (2 * pt::MiB) != 0) {
        give_up("memory= wants an even number of MiB, from 4 on");
    }
    if (const char* const when = kernel::told_after("audit="); when != nullptr) {
        if (kernel::is_word(when, "never")) {
            asked.audits = audit_time::never;
        } else if (!kernel::is_word(when, "each-step")) {
            give_up("audit= wants each-step or never");
        }
    }
    if (kernel::told("story")) {
        tell_story();
    }
    return asked;
}

} // namespace vmm
