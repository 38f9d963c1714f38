// SPDX-License-Identifier: BSL-1.0
#pragma once

namespace pt {

/// An error of the programmer who calls pt: what was demanded, and where the call stands.
/// Nothing that a guest, a device or firmware sends ever becomes one of these.
struct contract_violation {
    const char* what;
    const char* file;
    int line;
};

using contract_hook = void (*)(const contract_violation&) noexcept;

/// Called when a contract is broken. A VMM sets its own at start-up, to print and to stop; null, or
/// a hook that returns, ends in a trap. It is data and not a symbol of the linker, so that headers
/// alone suffice; set it once, before other processors run.
inline constinit contract_hook on_contract_violation = nullptr;

[[noreturn, gnu::cold, gnu::noinline]] inline void contract_failed(const char* what,
                                                                   const char* file, int line) {
    if (on_contract_violation != nullptr) {
        on_contract_violation({what, file, line});
    }
    __builtin_trap();
}

/// Demands `condition` of the caller. In a constant expression a broken contract does not compile.
constexpr void expects(bool condition, const char* what, const char* file = __builtin_FILE(),
                       int line = __builtin_LINE()) {
    if (!condition) [[unlikely]] {
        contract_failed(what, file, line);
    }
}

} // namespace pt
