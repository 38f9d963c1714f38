// SPDX-License-Identifier: BSL-1.0
// expect-gcc: ignoring returned value of type 'pt::result<.*nodiscard.*-Werror=unused-result
// expect-clang: ignoring return value of function declared with 'nodiscard'.*-Werror,-Wunused-result
// A result that nobody looks at is a warning, by [[nodiscard]]; here, as in pt's own builds, with
// -Werror.
#include "pt/core/result.hpp"

pt::result<> map();

bool pass_through() {
#ifdef PT_FAIL
    map();
    return true;
#else
    return map().has_value();
#endif
}
