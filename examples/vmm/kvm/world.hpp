// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../world.hpp"
#include "virtual_machine.hpp"

#include "pt/core/result.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/vcpu/event.hpp"
#include "pt/vcpu/general_registers.hpp"
#include "pt/vcpu/instruction_bytes.hpp"

#include <cstdint>

namespace vmm::kvm {

/// A virtual processor of KVM. KVM decodes the guest's instructions itself and keeps what has not
/// arrived in the guest, so much of what other worlds tell does not come up here: no event is
/// interrupted but one whose entry was put off, no instruction has a length that counts, and a
/// string instruction comes as one IN or OUT after the other. general() is what the guest has,
/// except that an exit's operand is where a simple instruction would have it: in RAX, and with an
/// MSR's number in RCX and its upper half in RDX. Those come back into the guest with
/// finish_instruction() and not otherwise.
///
/// There is no host below this process whose interrupts it could see: a limit of time is all that
/// ends a run from outside. One thread uses all worlds.
class world {
public:
    /// The MSRs that the guest reaches without an exit are KVM's from here on.
    explicit world(virtual_machine& machine);

    vm_exit run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds);
    vm_exit halt(std::uint64_t nanoseconds);

    pt::vcpu::general_registers& general() { return general_; }
    [[nodiscard]] cpu_state state() const;
    void set_state(const cpu_state& state);
    [[nodiscard]] std::uint64_t rflags() const;
    void set_rflags(std::uint64_t value);
    void set_cr2(std::uint64_t value);
    /// KVM traps single steps itself: it never gives an event.
    pt::vcpu::event finish_instruction(std::uint8_t length);
    void finish_read(std::uint64_t value);
    [[nodiscard]] pt::vcpu::instruction_bytes code() const;

    [[nodiscard]] bool can_take_interrupt() const;
    /// Always: KVM keeps an NMI until the guest can take it.
    [[nodiscard]] bool can_take_nmi() const { return true; }

    [[nodiscard]] pt::result<std::uint64_t> read_msr(std::uint32_t number) const;
    pt::result<void> write_msr(std::uint32_t number, std::uint64_t value);
    void end_interrupt() {}

    /// What the guest reads from CR8, which is KVM's here: bits 7:4 of the local APIC's TPR. To be
    /// told before a run, if it has changed otherwise than by the guest's MOV to CR8.
    void set_cr8(std::uint8_t value);

private:
    /// What of KVM's last exit the loop has not seen yet, or has not finished.
    enum class waiting : std::uint8_t { nothing, cr8, io, msr, device };

    vm_exit show();
    vm_exit show_what_kvm_says();
    vm_exit show_io();
    vm_exit show_msr(exit_kind kind);
    vm_exit show_device() const;
    void take_registers();
    void give_registers();
    void deliver(const pt::vcpu::event& event);
    void refuse_msr(pt::vcpu::event& event);
    [[nodiscard]] std::uint8_t* io_data() const;
    [[nodiscard]] vm_exit exit_of(exit_kind kind) const;
    vm_exit failure(const char* why) const;

    virtual_machine* machine_;
    pt::vcpu::general_registers general_{}; ///< as the loop sees them
    pt::vcpu::general_registers guest_{};   ///< as KVM has them
    waiting waits_for_ = waiting::nothing;
    bool behind_cr8_ = false;   ///< another exit, which is to be shown once that of CR8 is done
    std::uint32_t io_done_ = 0; ///< elements of the string that are done
    std::uint8_t cr8_ = 0;
};

static_assert(decoding_world<world>);

} // namespace vmm::kvm
