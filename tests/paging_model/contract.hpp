// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"

#include <sys/wait.h>
#include <unistd.h>

namespace paging_model {

/// Whether `code` breaks a contract; it runs in a process of its own, which the hook ends.
template <class Code>
bool breaks_contract(Code&& code) {
    constexpr int broken = 77;
    const pid_t child = fork();
    if (child == 0) {
        pt::on_contract_violation = [](const pt::contract_violation&) noexcept { _exit(broken); };
        code();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == broken;
}

} // namespace paging_model
