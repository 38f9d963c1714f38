// SPDX-License-Identifier: BSL-1.0
// expect: (ignoring return).*(nodiscard)
// An exit loop that drops what a handler says would lose a fault, or execute an instruction twice.
#include "pt/assign/answer.hpp"

struct handlers {
    pt::assign::answer on_timer() { return pt::assign::resume_again(); }
};

bool turn(handlers cpu) {
#ifdef PT_FAIL
    cpu.on_timer();
    return true;
#else
    return cpu.on_timer().action == pt::assign::action::resume;
#endif
}
