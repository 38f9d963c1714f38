// SPDX-License-Identifier: BSL-1.0
#include "policies.hpp"

namespace vmm {
namespace {

const char* words_for(pt::assign::rejection::subject what) {
    using enum pt::assign::rejection::subject;
    switch (what) {
    case bar: return "BAR";
    case message: return "the message of vector";
    case interrupts: return "interrupts";
    case reset: return "reset";
    case block: return "block";
    case invalidation: return "invalidation";
    }
    return "something";
}

} // namespace

void guest_reports::rejected(const pt::assign::rejection& what) {
    using subject = pt::assign::rejection::subject;
    // A guest can have so many of these as it likes.
    constexpr std::uint64_t most_lines = 64;
    if (++of->rejections >= most_lines) {
        if (of->rejections == most_lines) {
            say("guest ", decimal{of->guest}, ": its further rejections are only counted");
        }
        return;
    }
    const bool is_numbered = what.what == subject::bar || what.what == subject::message;
    if (is_numbered) {
        say("guest ", decimal{of->guest}, ", ", what.function, ": ", words_for(what.what), " ",
            decimal{what.number}, " at ", what.where, " is rejected: ", what.why);
    } else if (what.what == subject::invalidation) {
        say("guest ", decimal{of->guest}, ": ", words_for(what.what), " failed: ", what.why);
    } else {
        say("guest ", decimal{of->guest}, ", ", what.function, ": ", words_for(what.what),
            " failed: ", what.why);
    }
}

} // namespace vmm
