// SPDX-License-Identifier: BSL-1.0
//
// What the loop that all VMMs here share asks of the processor below it: VMX, SVM or KVM. A world
// is one virtual processor, from entry to exit, in the words of none of the three.
#pragma once

#include "pt/assign/finding.hpp"
#include "pt/assign/guest_processors.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/instruction_bytes.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/memory_violation.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include "cpu_state.hpp"

#include <concepts>
#include <cstdint>

namespace vmm {

// ------------------------------------------------------------------------------------- an exit

enum class exit_kind : std::uint8_t {
    handled,            ///< the world has done all there was; vm_exit::raise may want something yet
    io,                 ///< IN, OUT, INS or OUTS: vm_exit::io
    memory,             ///< an access that the second level does not allow: vm_exit::memory
    device_memory,      ///< KVM only, which decodes the instruction itself: vm_exit::device
    external_interrupt, ///< the host's, in service: vm_exit::vector, and end_interrupt() afterwards
    interrupt_window,   ///< the guest can take an interrupt now
    nmi_window,         ///< the guest can take an NMI now
    hlt,
    cpuid,
    read_msr,  ///< RDMSR of the MSR in ECX, which is none of the world's
    write_msr, ///< WRMSR likewise
    cr8,       ///< MOV to or from CR8: vm_exit::cr8
    shutdown,  ///< a triple fault
    hypercall, ///< VMCALL or VMMCALL
    preempted, ///< the time that run() was given is over
    failed,    ///< no entry; vm_exit::why, and the event of the decision was not delivered
    other,     ///< something that no guest here should do: vm_exit::why
};

/// For people.
[[nodiscard]] constexpr const char* name(exit_kind kind) {
    switch (kind) {
    case exit_kind::handled: return "handled";
    case exit_kind::io: return "I/O";
    case exit_kind::memory: return "memory";
    case exit_kind::device_memory: return "device memory";
    case exit_kind::external_interrupt: return "external interrupt";
    case exit_kind::interrupt_window: return "interrupt window";
    case exit_kind::nmi_window: return "NMI window";
    case exit_kind::hlt: return "HLT";
    case exit_kind::cpuid: return "CPUID";
    case exit_kind::read_msr: return "RDMSR";
    case exit_kind::write_msr: return "WRMSR";
    case exit_kind::cr8: return "CR8";
    case exit_kind::shutdown: return "shutdown";
    case exit_kind::hypercall: return "hypercall";
    case exit_kind::preempted: return "preempted";
    case exit_kind::failed: return "no entry";
    case exit_kind::other: break;
    }
    return "other";
}

/// MOV to or from CR8.
struct cr8_access {
    enum class direction : std::uint8_t { to_cr8, from_cr8 };
    direction way = direction::to_cr8;
    pt::vcpu::general_register with = pt::vcpu::general_register::rax;
};

/// One access of an instruction that somebody else has decoded. What a read gives goes to the world
/// by finish_read(value).
struct device_access {
    pt::gpa address{};
    pt::vcpu::memory_access way = pt::vcpu::memory_access::read;
    std::uint8_t size = 0;  ///< 1 to 8 bytes
    std::uint64_t data = 0; ///< of a write: its low bytes
};

/// Why the guest is not running any more.
struct vm_exit {
    exit_kind kind = exit_kind::other;
    /// Of the instruction that exited, in bytes; 0: it is not known, or none did.
    std::uint8_t length = 0;
    std::uint8_t vector = 0; ///< of external_interrupt
    cr8_access cr8{};
    pt::vcpu::io_instruction io{};
    pt::vcpu::memory_violation memory{};
    device_access device{};
    /// The event that was on its way into the guest, for injector::interrupted(), before all else. Of
    /// `failed` it is the decision's.
    pt::vcpu::event interrupted{};
    /// An exception that the guest has earned by what it tried: for injector::raise().
    pt::vcpu::event raise{};
    /// Where the guest is, and of `memory` the instruction's bytes if the processor gave them.
    pt::vcpu::instruction_bytes code{};
    const char* why = nullptr; ///< of `failed` and `other`, for people
    /// VMX: reason, qualification, guest-physical address, interruption information. SVM: EXITCODE,
    /// EXITINFO1, EXITINFO2, EXITINTINFO. For people, too.
    std::uint64_t words[4]{};
};

// -------------------------------------------------------------------------------- the agreement

/// One virtual processor. Of a turn of the loop:
///
///     exit = world.run(injector.before_entry(), nanoseconds);
///     injector.interrupted(exit.interrupted);
///     if (exit.raise.present) injector.raise(exit.raise);
///     ... what exit.kind says; an instruction that is done: finish_instruction(exit.length) ...
///
/// run(decision, nanoseconds): enters with the decision's event and windows, and comes back after
/// one exit, at the latest after about so many nanoseconds (`preempted`). The decision's `signal`
/// is false.
/// halt(nanoseconds): the same for a guest that halts: waits for an interrupt of the host's, so
/// long.
/// general(): the general registers, RSP included. state(), set_state(): all else. rflags(),
/// set_rflags(): a part of it, since handlers want it alone.
/// finish_instruction(length): the VMM has done the instruction that exited. RIP moves behind it,
/// RF and the shadow of STI and MOV SS end. Gives the single-step trap that is due then, for
/// injector::raise(), if any.
/// set_cr2(): before a page fault is raised. code(): the instruction bytes at RIP, as many as can
/// be read without a fault, for people.
/// read_msr(), write_msr(): of the MSRs that the world keeps. errc::absent: it is none of them;
/// errc::malformed: a value that the MSR does not take. RDMSR and WRMSR of these do not come out of
/// run().
/// end_interrupt(): of the host's interrupt that run() or halt() gave last. A level-triggered one
/// is masked before.
template <class W>
concept world = requires(W& w, const pt::lapic::entry_decision& decision, std::uint64_t value,
                         const cpu_state& state, std::uint8_t length, std::uint32_t number) {
    { w.run(decision, value) } -> std::same_as<vm_exit>;
    { w.halt(value) } -> std::same_as<vm_exit>;
    { w.general() } -> std::same_as<pt::vcpu::general_registers&>;
    { w.state() } -> std::same_as<cpu_state>;
    { w.set_state(state) } -> std::same_as<void>;
    { w.rflags() } -> std::same_as<std::uint64_t>;
    { w.set_rflags(value) } -> std::same_as<void>;
    { w.set_cr2(value) } -> std::same_as<void>;
    { w.finish_instruction(length) } -> std::same_as<pt::vcpu::event>;
    { w.code() } -> std::same_as<pt::vcpu::instruction_bytes>;
    { w.can_take_interrupt() } -> std::same_as<bool>;
    { w.can_take_nmi() } -> std::same_as<bool>;
    { w.read_msr(number) } -> std::same_as<pt::result<std::uint64_t>>;
    { w.write_msr(number, value) } -> std::same_as<pt::result<void>>;
    { w.end_interrupt() } -> std::same_as<void>;
};

/// A world that decodes instructions itself. finish_read(value): what a read of `device_memory`
/// gives; the instruction is done then, and finish_instruction() is not for it. set_cr8(value): what
/// the guest reads from CR8 without an exit, before each run().
template <class W>
concept decoding_world = world<W> && requires(W& w, std::uint64_t value, std::uint8_t cr8) {
    { w.finish_read(value) } -> std::same_as<void>;
    { w.set_cr8(cr8) } -> std::same_as<void>;
};

/// A world whose second level and I/O bitmaps are the VMM's: one under which a device can be passed
/// through.
/// second_level(): how this processor walks tables of type W::format. use_pages(format, root): the
/// guest sees memory by these from now on. ports(): the bitmap, all closed at first.
/// audit_ports(owner, report): assign::audit_ports() of it, in whatever form it has. processors():
/// for assign::guest_processors, by value: removes what the processor caches of these tables.
template <class W>
concept passthrough_world = world<W> && pt::assign::guest_processors<typename W::processors_type> &&
    requires(W& w, const typename W::format& format, pt::hpa root,
             const pt::assign::ownership& owner, void (*report)(const pt::assign::finding&)) {
    { W::second_level() } -> std::same_as<typename W::format>;
    { w.use_pages(format, root) } -> std::same_as<pt::result<void>>;
    { w.ports() } -> std::same_as<pt::vmx::io_bitmap>;
    { w.audit_ports(owner, report) } -> std::same_as<pt::assign::audit_summary>;
    { w.processors() } -> std::same_as<typename W::processors_type>;
};

/// vcpu_state of a world, by value, for the injector.
template <class W>
struct state_of {
    W* virtual_processor;

    bool can_take_interrupt() { return virtual_processor->can_take_interrupt(); }
    bool can_take_nmi() { return virtual_processor->can_take_nmi(); }
};

} // namespace vmm
