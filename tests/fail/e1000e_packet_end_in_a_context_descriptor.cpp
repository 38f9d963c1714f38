// SPDX-License-Identifier: BSL-1.0
// expect-gcc: 'eop' is not a member of
// expect-clang: no member named 'eop' in
// A context descriptor has no buffer, so no packet ends in it.
#include "pt/e1000e/tx_descriptor.hpp"

#ifdef PT_FAIL
using command = pt::e1000e::context_tx_command;
#else
using command = pt::e1000e::data_tx_command;
#endif
constexpr command last{command::dext(true), command::eop(true)};
static_assert(last.raw != 0);
