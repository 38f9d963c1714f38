// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace paging_model {

/// Runs code and calls back around every single store that it makes into a region of whole pages: right
/// before, with the entry as it was, and right after, before the next instruction; each time with the
/// (first) entry that is stored to. The region is write-protected; a store faults, the page is opened,
/// the processor's trap flag lets exactly this instruction pass, and the region is closed again. So
/// the code under test is the real one, with plain stores, and no store can hide.
class store_watch {
public:
    using callback = void (*)(void* context, std::uint64_t* stored);

    template <class Code>
    static void run(std::uint64_t* region, std::size_t bytes, callback before, callback after,
                    void* context, Code&& code) {
        watch = {region, bytes, before, after, context, nullptr};
        struct sigaction fault {
        }, step{}, old_fault{}, old_step{};
        fault.sa_sigaction = on_fault;
        fault.sa_flags = SA_SIGINFO | SA_NODEFER;
        step.sa_sigaction = on_step;
        step.sa_flags = SA_SIGINFO | SA_NODEFER;
        sigaction(SIGSEGV, &fault, &old_fault);
        sigaction(SIGTRAP, &step, &old_step);
        protect(PROT_READ);
        code();
        protect(PROT_READ | PROT_WRITE);
        sigaction(SIGSEGV, &old_fault, nullptr);
        sigaction(SIGTRAP, &old_step, nullptr);
    }

private:
    static constexpr long long trap_flag = 0x100; // EFLAGS.TF

    struct watched {
        std::uint64_t* region;
        std::size_t bytes;
        callback before;
        callback after;
        void* context;
        std::uint64_t* stored;
    };
    static inline watched watch{};

    static void protect(int access) { mprotect(watch.region, watch.bytes, access); }

    static void on_fault(int, siginfo_t* info, void* machine) {
        const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(info->si_addr) -
                                     reinterpret_cast<std::uintptr_t>(watch.region);
        if (offset >= watch.bytes) {
            signal(SIGSEGV, SIG_DFL); // somebody else's: let it happen again
            return;
        }
        watch.stored = watch.region + offset / 8;
        protect(PROT_READ | PROT_WRITE);
        watch.before(watch.context, watch.stored);
        static_cast<ucontext_t*>(machine)->uc_mcontext.gregs[REG_EFL] |= trap_flag;
    }
    static void on_step(int, siginfo_t*, void* machine) {
        static_cast<ucontext_t*>(machine)->uc_mcontext.gregs[REG_EFL] &= ~trap_flag;
        watch.after(watch.context, watch.stored);
        protect(PROT_READ);
    }
};

} // namespace paging_model
