// SPDX-License-Identifier: BSL-1.0
//
// The world of a processor with SVM and nested paging.
#pragma once

#include "../../kernel/svm.hpp"
#include "../machine/extended_state.hpp"
#include "../world.hpp"

#include "pt/assign/audit_ports.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/paging/x86_64.hpp"
#include "pt/svm/interrupt_control.hpp"
#include "pt/svm/io_permission_map.hpp"
#include "pt/svm/msr_permission_map.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::svm {

/// A virtual processor. It lies where its address is the physical one, since the processor uses the
/// pages in it. Several take turns on one processor.
class alignas(4096) world {
public:
    using format = pt::x86_64::nested_paging;

    /// assign::guest_processors, by value.
    class processors_type {
    public:
        explicit processors_type(world& of) : world_{&of} {}
        /// All of it, at the next entry.
        pt::result<> invalidate(const pt::paging::stale_set<pt::gpa>&) {
            world_->vmcb_.tlb_control = flush_everything;
            return {};
        }
        // There is no other virtual processor of the guest.
        void pause() {}
        void resume() {}

    private:
        world* world_;
    };

    /// The processor is ready for guests from then on. Once.
    static void turn_on();
    /// turn_on() comes first.
    [[nodiscard]] static format second_level() { return kernel::nested_format(); }

    /// `never_open`: ports of the host that no guest reaches, e.g. of its interrupt controllers.
    /// They outlive the world.
    world(const pt::range<pt::io_port>* never_open, std::size_t count);
    world(const world&) = delete;
    world& operator=(const world&) = delete;
    ~world();

    pt::result<void> use_pages(const format& of, pt::hpa root);
    [[nodiscard]] pt::vmx::io_bitmap ports() { return ports_.ports(); }
    /// assign::audit_ports() of them.
    template <class Report>
    pt::assign::audit_summary audit_ports(const pt::assign::ownership& owner, Report& report) {
        return pt::assign::audit_ports(io_pages_, owner, report);
    }
    [[nodiscard]] processors_type processors() { return processors_type{*this}; }

    vm_exit run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds);
    vm_exit halt(std::uint64_t nanoseconds);

    [[nodiscard]] pt::vcpu::general_registers& general() { return general_; }
    [[nodiscard]] cpu_state state() const;
    void set_state(const cpu_state& state);
    [[nodiscard]] std::uint64_t rflags() const;
    void set_rflags(std::uint64_t value);
    void set_cr2(std::uint64_t value) { vmcb_.cr2 = value; }
    pt::vcpu::event finish_instruction(std::uint8_t length);
    [[nodiscard]] pt::vcpu::instruction_bytes code() const;

    [[nodiscard]] bool can_take_interrupt() const;
    [[nodiscard]] bool can_take_nmi() const;

    [[nodiscard]] pt::result<std::uint64_t> read_msr(std::uint32_t number) const;
    pt::result<void> write_msr(std::uint32_t number, std::uint64_t value);
    void end_interrupt();

private:
    static constexpr std::uint32_t flush_everything = 1;

    /// Why the guest executes one instruction with our trap flag: the processor has no NMI window. What
    /// pushes or pops the flags (PUSHF, POPF, INT n) has ours then; and MOV from DR6 finds no old cause.
    enum class stepping : std::uint8_t { no, over_iret, out_of_shadow };

    void prepare(const pt::lapic::entry_decision& decision);
    void deliver(const pt::vcpu::event& event);
    void step(stepping over);
    void stop_stepping();
    vm_exit explain();
    vm_exit& instruction(vm_exit& exit, exit_kind kind) const;
    void explain_io(vm_exit& exit) const;
    void explain_exception(vm_exit& exit, pt::vcpu::exception_vector which);
    pt::vcpu::event debug_exception(std::uint64_t cause);
    [[nodiscard]] pt::result<pt::vcpu::general_register> register_operand();
    void explain_control_register(vm_exit& exit);
    void explain_debug_register(vm_exit& exit, std::uint8_t number);
    void explain_msr(vm_exit& exit);

    alignas(4096) kernel::vmcb vmcb_{};
    alignas(4096) std::uint64_t io_pages_[pt::svm::io_permission_map::word_count];
    alignas(4096) std::uint64_t msr_pages_[pt::svm::msr_permission_map::word_count];
    pt::svm::io_permission_map ports_;
    pt::svm::msr_permission_map msrs_;
    pt::vcpu::general_registers general_{};
    extended_state extended_{};
    format format_;
    pt::hpa root_{};
    pt::svm::nmi_masking nmis_ = pt::svm::nmi_masking::unmasked;
    stepping stepping_ = stepping::no;
    bool trap_flag_ = false; ///< the guest's own, while we step
    std::uint64_t dr6_ = 0;  ///< what it held before we did
};

static_assert(passthrough_world<world>);

} // namespace vmm::svm
