// SPDX-License-Identifier: BSL-1.0
//
// The world of a processor with VMX, EPT and unrestricted guests.
#pragma once

#include "../../kernel/vmx.hpp"
#include "../machine/extended_state.hpp"
#include "../world.hpp"

#include "pt/assign/audit_ports.hpp"
#include "pt/assign/finding.hpp"
#include "pt/assign/ownership.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/vmx/exit.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/msr_bitmap.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::vmx {

/// A virtual processor. It lies where its address is the physical one, since the processor uses the
/// pages in it. Several take turns on one processor.
class alignas(4096) world {
public:
    using format = pt::ept::format;

    /// assign::guest_processors, by value.
    class processors_type {
    public:
        /// INVEPT, of all there is.
        pt::result<> invalidate(const pt::paging::stale_set<pt::gpa>& stale) {
            return kernel::invept{}.invalidate(stale);
        }
        // There is no other virtual processor of the guest.
        void pause() {}
        void resume() {}
    };

    /// The processor is ready for guests from then on. Once. The clock must run.
    static void turn_on();
    [[nodiscard]] static format second_level();

    /// `never_open`: ports of the host that no guest reaches, e.g. of its interrupt controllers.
    /// They outlive the world.
    world(const pt::range<pt::io_port>* never_open, std::size_t count);
    world(const world&) = delete;
    world& operator=(const world&) = delete;
    ~world();

    pt::result<void> use_pages(const format& of, pt::hpa root);
    [[nodiscard]] pt::vmx::io_bitmap ports() { return ports_; }
    /// assign::audit_ports() of them.
    template <class Report>
    pt::assign::audit_summary audit_ports(const pt::assign::ownership& owner, Report& report) {
        return pt::assign::audit_ports(bitmap_a_, bitmap_b_, owner, report);
    }
    [[nodiscard]] processors_type processors() { return {}; }

    vm_exit run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds);
    vm_exit halt(std::uint64_t nanoseconds);

    [[nodiscard]] pt::vcpu::general_registers& general() { return general_; }
    [[nodiscard]] cpu_state state();
    void set_state(const cpu_state& state);
    [[nodiscard]] std::uint64_t rflags();
    void set_rflags(std::uint64_t value);
    void set_cr2(std::uint64_t value);
    pt::vcpu::event finish_instruction(std::uint8_t length);
    [[nodiscard]] pt::vcpu::instruction_bytes code();

    [[nodiscard]] bool can_take_interrupt();
    [[nodiscard]] bool can_take_nmi();

    [[nodiscard]] pt::result<std::uint64_t> read_msr(std::uint32_t number);
    pt::result<void> write_msr(std::uint32_t number, std::uint64_t value);
    void end_interrupt();

private:
    /// Of open_msrs, those that VMX does not exchange.
    static constexpr std::uint32_t left_in_the_processor[] = {0xC000'0081, 0xC000'0082, 0xC000'0083,
                                                              0xC000'0084, 0xC000'0102};
    static constexpr std::size_t left_count = sizeof left_in_the_processor / sizeof(std::uint32_t);

    void write_controls();
    void make_current();
    void save();
    void restore();
    void prepare(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds);
    vm_exit explain();
    void explain_reason(vm_exit& exit, pt::vmx::exit_reason reason);
    void explain_interrupt(vm_exit& exit);
    void explain_exception(vm_exit& exit);
    pt::vcpu::event debug_exception(std::uint64_t causes);
    void explain_io(vm_exit& exit);
    void explain_control_register(vm_exit& exit);

    alignas(4096) std::uint8_t vmcs_[4096]{};
    alignas(4096) std::uint64_t bitmap_a_[pt::vmx::io_bitmap::words_per_page];
    alignas(4096) std::uint64_t bitmap_b_[pt::vmx::io_bitmap::words_per_page];
    alignas(4096) std::uint64_t msr_page_[pt::vmx::msr_bitmap::word_count];
    pt::vmx::io_bitmap ports_;
    pt::vmx::msr_bitmap msrs_;
    pt::vcpu::general_registers general_{};
    extended_state extended_{};
    std::uint64_t msrs_left_[left_count]{};
    std::uint64_t cr2_ = 0; ///< while another world is in the processor
    std::uint64_t dr6_ = 0xFFFF'0FF0;
    format format_;
    pt::hpa root_{};
    bool launched_ = false;
};

static_assert(passthrough_world<world>);

} // namespace vmm::vmx
