// SPDX-License-Identifier: BSL-1.0
#include "world.hpp"

#include "pt/core/address.hpp"
#include "pt/core/width.hpp"
#include "pt/vcpu/guest_memory.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vcpu/processor_mode.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <stdexcept>

#include <csignal>
#include <ctime>
#include <sys/ioctl.h>

namespace vmm::kvm {
namespace {

using pt::vcpu::event_type;
using pt::vcpu::general_register;
using pt::vcpu::io_direction;

/// What an instruction without a length of its own is said to have.
constexpr std::uint8_t some_length = 1;

// -------------------------------------------------------------------------------------------- MSRs

/// These the processor uses itself, or KVM in its place: EFER, SYSCALL's, the bases of FS and GS,
/// TSC_AUX, SYSENTER's, and PAT.
constexpr std::initializer_list<pt::vcpu::msr_range> kept_msrs{
    {0xC000'0080, 0xC000'0084}, {0xC000'0100, 0xC000'0103}, {0x174, 0x176}, {0x277, 0x277}};

bool keeps(std::uint32_t number) {
    return std::any_of(kept_msrs.begin(), kept_msrs.end(),
                       [=](const pt::vcpu::msr_range& each) { return each.contains(number); });
}

// -------------------------------------------------------------------------------------- time limit

/// The virtual processor that runs. The signal handler makes it exit, also if it has not entered
/// yet.
kvm_run* volatile running = nullptr;

void time_is_over(int /*signal*/) {
    if (running != nullptr) {
        running->immediate_exit = 1;
    }
}

timespec time_of(std::uint64_t nanoseconds) {
    constexpr std::uint64_t second = 1'000'000'000;
    constexpr std::uint64_t longest = 3600; // seconds
    return {.tv_sec = static_cast<std::time_t>(std::min(nanoseconds / second, longest)),
            .tv_nsec = static_cast<long>(nanoseconds % second)};
}

/// One shot of SIGALRM for the whole process.
class alarm_clock {
public:
    alarm_clock() {
        struct sigaction action {};
        action.sa_handler = time_is_over; // without SA_RESTART: KVM_RUN comes back
        sigevent event{};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGALRM;
        if (::sigaction(SIGALRM, &action, nullptr) != 0 ||
            ::timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) {
            throw std::runtime_error{"no timer"};
        }
    }
    alarm_clock(const alarm_clock&) = delete;
    alarm_clock& operator=(const alarm_clock&) = delete;
    ~alarm_clock() { ::timer_delete(timer_); }

    void set(std::uint64_t nanoseconds) {
        itimerspec when{};
        // 0 would turn it off.
        when.it_value = time_of(std::max<std::uint64_t>(nanoseconds, 1));
        ::timer_settime(timer_, 0, &when, nullptr);
    }

private:
    timer_t timer_{};
};

alarm_clock& the_alarm() {
    static alarm_clock one;
    return one;
}

// --------------------------------------------------------------------------------------- registers

/// The order in which instructions number them.
constexpr __u64 kvm_regs::*numbered[16] = {
    &kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx, &kvm_regs::rsp, &kvm_regs::rbp,
    &kvm_regs::rsi, &kvm_regs::rdi, &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
    &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};
constexpr kvm_segment kvm_sregs::*segments[6] = {&kvm_sregs::es, &kvm_sregs::cs, &kvm_sregs::ss,
                                                 &kvm_sregs::ds, &kvm_sregs::fs, &kvm_sregs::gs};

kvm_segment to_kvm(const segment_state& from) {
    const auto bits = [&](unsigned first, unsigned mask) {
        return static_cast<std::uint8_t>(from.rights >> first & mask);
    };
    kvm_segment to{};
    to.base = from.base;
    to.limit = from.limit;
    to.selector = from.selector;
    to.type = bits(0, 0xF);
    to.s = bits(4, 1);
    to.dpl = bits(5, 3);
    to.present = bits(7, 1);
    to.avl = bits(12, 1);
    to.l = bits(13, 1);
    to.db = bits(14, 1);
    to.g = bits(15, 1);
    to.unusable = bits(16, 1);
    return to;
}

segment_state from_kvm(const kvm_segment& from) {
    const std::uint32_t rights = from.type | std::uint32_t{from.s} << 4 |
                                 std::uint32_t{from.dpl} << 5 | std::uint32_t{from.present} << 7 |
                                 std::uint32_t{from.avl} << 12 | std::uint32_t{from.l} << 13 |
                                 std::uint32_t{from.db} << 14 | std::uint32_t{from.g} << 15 |
                                 std::uint32_t{from.unusable} << 16;
    return {.selector = from.selector, .rights = rights, .limit = from.limit, .base = from.base};
}

kvm_dtable to_kvm(const table_state& from) {
    kvm_dtable to{};
    to.base = from.base;
    to.limit = from.limit;
    return to;
}

table_state from_kvm(const kvm_dtable& from) { return {.base = from.base, .limit = from.limit}; }

} // namespace

world::world(virtual_machine& machine) : machine_{&machine} {
    machine.pass_msrs(kept_msrs);
    kvm_run& shared = machine.shared();
    if (!machine.processor().ask(KVM_GET_REGS, &shared.s.regs.regs) ||
        !machine.processor().ask(KVM_GET_SREGS, &shared.s.regs.sregs)) {
        throw unavailable{"KVM does not give the registers"};
    }
    shared.kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    take_registers();
    (void)the_alarm();
}

// ------------------------------------------------------------------------------------------- a run

vm_exit world::run(const pt::lapic::entry_decision& decision, std::uint64_t nanoseconds) {
    pt::vcpu::event event = decision.event;
    if (waits_for_ == waiting::msr) {
        refuse_msr(event);
    }
    if (waits_for_ == waiting::device) {
        waits_for_ = waiting::nothing; // a write, or a read that nobody has answered
    }
    if (waits_for_ != waiting::nothing || behind_cr8_) {
        vm_exit exit = show();
        exit.interrupted = event;
        return exit;
    }

    give_registers();
    deliver(event);
    kvm_run& shared = machine_->shared();
    shared.request_interrupt_window = decision.interrupt_window ? 1 : 0;
    shared.cr8 = cr8_;

    running = &shared;
    the_alarm().set(nanoseconds);
    const int status = ::ioctl(machine_->processor().get(), KVM_RUN, 0);
    const int error = errno;
    running = nullptr;
    shared.immediate_exit = 0;

    take_registers();
    io_done_ = 0;
    if (status < 0) {
        if (error == EINTR || error == EAGAIN) {
            shared.exit_reason = KVM_EXIT_INTR;
        } else {
            vm_exit exit = failure(std::strerror(error));
            exit.interrupted = event;
            return exit;
        }
    }
    if (const auto seen = static_cast<std::uint8_t>(shared.cr8 & 0xF); seen != cr8_) {
        cr8_ = seen;
        waits_for_ = waiting::cr8;
        behind_cr8_ = shared.exit_reason != KVM_EXIT_SET_TPR;
    }
    vm_exit exit = show();
    if (exit.kind == exit_kind::failed) {
        exit.interrupted = event;
    }
    return exit;
}

vm_exit world::halt(std::uint64_t nanoseconds) {
    const timespec time = time_of(nanoseconds);
    ::nanosleep(&time, nullptr);
    return exit_of(exit_kind::preempted);
}

/// An exception comes instead of an RDMSR or WRMSR that is not done: KVM raises it itself.
void world::refuse_msr(pt::vcpu::event& event) {
    machine_->shared().msr.error = 1;
    general_ = guest_;
    waits_for_ = waiting::nothing;
    if (event == pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0)) {
        event = {};
    }
}

void world::deliver(const pt::vcpu::event& event) {
    if (!event.present) {
        return;
    }
    const file& processor = machine_->processor();
    bool done = false;
    if (event.type == event_type::external_interrupt) {
        kvm_interrupt interrupt{.irq = event.vector};
        done = processor.ask(KVM_INTERRUPT, &interrupt);
    } else if (event.type == event_type::nmi) {
        done = processor.ask(KVM_NMI, nullptr);
    } else {
        const bool with_code = event.has_error_code && pt::vcpu::mode_of(state().cr0) ==
                                                           pt::vcpu::processor_mode::protected_mode;
        kvm_vcpu_events events{};
        done = processor.ask(KVM_GET_VCPU_EVENTS, &events);
        events.exception.injected = 1;
        events.exception.nr = event.vector;
        events.exception.has_error_code = with_code ? 1 : 0;
        events.exception.error_code = event.error_code;
        done = done && processor.ask(KVM_SET_VCPU_EVENTS, &events);
    }
    if (!done) {
        throw std::runtime_error{"KVM does not take an event: " +
                                 std::string{std::strerror(errno)}};
    }
}

// ------------------------------------------------------------------------------ what the loop sees

vm_exit world::exit_of(exit_kind kind) const {
    const kvm_run& shared = machine_->shared();
    vm_exit exit{.kind = kind};
    exit.code.rip = shared.s.regs.regs.rip;
    exit.code.code = state().code_size();
    exit.words[0] = shared.exit_reason;
    return exit;
}

vm_exit world::failure(const char* why) const {
    vm_exit exit = exit_of(exit_kind::failed);
    exit.why = why;
    return exit;
}

vm_exit world::show() {
    if (waits_for_ == waiting::cr8) {
        vm_exit exit = exit_of(exit_kind::cr8);
        exit.length = some_length;
        general_[general_register::rax] = cr8_;
        return exit;
    }
    behind_cr8_ = false;
    return show_what_kvm_says();
}

vm_exit world::show_what_kvm_says() {
    const kvm_run& shared = machine_->shared();
    switch (shared.exit_reason) {
    case KVM_EXIT_IO: return show_io();
    case KVM_EXIT_MMIO: waits_for_ = waiting::device; return show_device();
    case KVM_EXIT_X86_RDMSR: return show_msr(exit_kind::read_msr);
    case KVM_EXIT_X86_WRMSR: return show_msr(exit_kind::write_msr);
    case KVM_EXIT_IRQ_WINDOW_OPEN: return exit_of(exit_kind::interrupt_window);
    case KVM_EXIT_INTR: return exit_of(exit_kind::preempted);
    case KVM_EXIT_SET_TPR: return exit_of(exit_kind::handled);
    case KVM_EXIT_SHUTDOWN: return exit_of(exit_kind::shutdown);
    case KVM_EXIT_HLT: {
        vm_exit exit = exit_of(exit_kind::hlt);
        exit.length = some_length;
        return exit;
    }
    case KVM_EXIT_INTERNAL_ERROR: {
        vm_exit exit = failure(shared.internal.suberror == KVM_INTERNAL_ERROR_EMULATION
                                   ? "KVM cannot emulate the instruction"
                                   : "an error inside of KVM");
        exit.words[1] = shared.internal.suberror;
        return exit;
    }
    case KVM_EXIT_FAIL_ENTRY: {
        vm_exit exit = failure("the processor refuses the guest's state");
        exit.words[1] = shared.fail_entry.hardware_entry_failure_reason;
        return exit;
    }
    default: {
        vm_exit exit = exit_of(exit_kind::other);
        exit.why = "an exit of KVM that this VMM did not ask for";
        return exit;
    }
    }
}

std::uint8_t* world::io_data() const {
    kvm_run& shared = machine_->shared();
    return reinterpret_cast<std::uint8_t*>(&shared) + shared.io.data_offset +
           std::size_t{io_done_} * shared.io.size;
}

vm_exit world::show_io() {
    const kvm_run& shared = machine_->shared();
    vm_exit exit = exit_of(exit_kind::io);
    exit.length = some_length;
    exit.io = {.port = pt::io_port{shared.io.port},
               .size = static_cast<pt::width>(shared.io.size),
               .direction =
                   shared.io.direction == KVM_EXIT_IO_IN ? io_direction::in : io_direction::out,
               .length = some_length};
    general_ = guest_;
    if (exit.io.direction == io_direction::out) {
        std::uint64_t value = 0;
        std::memcpy(&value, io_data(), shared.io.size);
        general_[general_register::rax] = value;
    }
    waits_for_ = waiting::io;
    return exit;
}

vm_exit world::show_msr(exit_kind kind) {
    const kvm_run& shared = machine_->shared();
    vm_exit exit = exit_of(kind);
    exit.length = some_length;
    general_ = guest_;
    general_[general_register::rcx] = shared.msr.index;
    if (kind == exit_kind::write_msr) {
        general_[general_register::rax] = shared.msr.data & 0xFFFF'FFFF;
        general_[general_register::rdx] = shared.msr.data >> 32;
    }
    waits_for_ = waiting::msr;
    return exit;
}

vm_exit world::show_device() const {
    kvm_run& shared = machine_->shared();
    vm_exit exit = exit_of(exit_kind::device_memory);
    exit.device.address = pt::gpa{shared.mmio.phys_addr};
    exit.device.size = static_cast<std::uint8_t>(shared.mmio.len);
    if (shared.mmio.is_write != 0) {
        exit.device.way = pt::vcpu::memory_access::write;
        std::memcpy(&exit.device.data, shared.mmio.data, shared.mmio.len);
    } else {
        std::memset(shared.mmio.data, 0xFF, sizeof shared.mmio.data); // unless somebody answers
    }
    return exit;
}

// -------------------------------------------------------------------------- what the loop has done

pt::vcpu::event world::finish_instruction(std::uint8_t /*length*/) {
    kvm_run& shared = machine_->shared();
    switch (waits_for_) {
    case waiting::io:
        if (shared.io.direction == KVM_EXIT_IO_IN) {
            std::memcpy(io_data(), &general_[general_register::rax], shared.io.size);
        }
        ++io_done_;
        waits_for_ = io_done_ == shared.io.count ? waiting::nothing : waiting::io;
        break;
    case waiting::msr:
        if (shared.exit_reason == KVM_EXIT_X86_RDMSR) {
            shared.msr.data = general_[general_register::rdx] << 32 |
                              (general_[general_register::rax] & 0xFFFF'FFFF);
        }
        shared.msr.error = 0;
        waits_for_ = waiting::nothing;
        break;
    case waiting::cr8:
    case waiting::device: waits_for_ = waiting::nothing; break;
    case waiting::nothing: return {}; // HLT, which KVM has stepped over
    }
    general_ = guest_;
    return {};
}

void world::finish_read(std::uint64_t value) {
    std::memcpy(machine_->shared().mmio.data, &value, sizeof value);
    waits_for_ = waiting::nothing;
}

// ------------------------------------------------------------------------------------------- state

void world::take_registers() {
    const kvm_regs& from = machine_->shared().s.regs.regs;
    for (unsigned i = 0; i < 16; ++i) {
        guest_.raw[i] = from.*numbered[i];
    }
    general_ = guest_;
}

/// If the loop has changed any of its own accord.
void world::give_registers() {
    if (general_ == guest_) {
        return;
    }
    kvm_run& shared = machine_->shared();
    for (unsigned i = 0; i < 16; ++i) {
        shared.s.regs.regs.*numbered[i] = general_.raw[i];
    }
    shared.kvm_dirty_regs |= KVM_SYNC_X86_REGS;
    guest_ = general_;
}

cpu_state world::state() const {
    const kvm_regs& regs = machine_->shared().s.regs.regs;
    const kvm_sregs& special = machine_->shared().s.regs.sregs;
    cpu_state state{.rip = regs.rip,
                    .rflags = regs.rflags,
                    .cr0 = special.cr0,
                    .cr2 = special.cr2,
                    .cr3 = special.cr3,
                    .cr4 = special.cr4,
                    .efer = special.efer,
                    .cpl = special.ss.dpl,
                    .ldtr = from_kvm(special.ldt),
                    .tr = from_kvm(special.tr),
                    .gdtr = from_kvm(special.gdt),
                    .idtr = from_kvm(special.idt)};
    for (unsigned i = 0; i < 6; ++i) {
        state.segments[i] = from_kvm(special.*segments[i]);
    }
    return state;
}

void world::set_state(const cpu_state& state) {
    kvm_run& shared = machine_->shared();
    kvm_sregs& special = shared.s.regs.sregs;
    shared.s.regs.regs.rip = state.rip;
    shared.s.regs.regs.rflags = state.rflags;
    special.cr0 = state.cr0;
    special.cr2 = state.cr2;
    special.cr3 = state.cr3;
    special.cr4 = state.cr4;
    special.efer = state.efer;
    special.ldt = to_kvm(state.ldtr);
    special.tr = to_kvm(state.tr);
    special.gdt = to_kvm(state.gdtr);
    special.idt = to_kvm(state.idtr);
    for (unsigned i = 0; i < 6; ++i) {
        special.*segments[i] = to_kvm(state.segments[i]);
    }
    shared.kvm_dirty_regs |= KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
}

std::uint64_t world::rflags() const { return machine_->shared().s.regs.regs.rflags; }

void world::set_rflags(std::uint64_t value) {
    machine_->shared().s.regs.regs.rflags = value;
    machine_->shared().kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

void world::set_cr2(std::uint64_t value) {
    machine_->shared().s.regs.sregs.cr2 = value;
    machine_->shared().kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

void world::set_cr8(std::uint8_t value) {
    if (waits_for_ != waiting::cr8) { // the guest's own word comes first
        cr8_ = value & 0xF;
    }
}

bool world::can_take_interrupt() const {
    const kvm_run& shared = machine_->shared();
    return shared.ready_for_interrupt_injection != 0 && shared.if_flag != 0;
}

pt::vcpu::instruction_bytes world::code() const {
    pt::vcpu::instruction_bytes code{.rip = machine_->shared().s.regs.regs.rip,
                                     .code = state().code_size()};
    const std::uint64_t first = machine_->shared().s.regs.sregs.cs.base + code.rip;
    for (; code.count < pt::vcpu::longest_instruction; ++code.count) {
        kvm_translation place{};
        place.linear_address = first + code.count;
        if (!machine_->processor().ask(KVM_TRANSLATE, &place) || place.valid == 0) {
            break;
        }
        const std::byte* const byte = machine_->memory_at(pt::gpa{place.physical_address});
        if (byte == nullptr) {
            break;
        }
        code.bytes[code.count] = static_cast<std::uint8_t>(*byte);
    }
    return code;
}

pt::result<std::uint64_t> world::read_msr(std::uint32_t number) const {
    std::uint64_t value = 0;
    if (!keeps(number) || !machine_->read_msr(number, value)) {
        return pt::error{pt::errc::absent, number};
    }
    return value;
}

pt::result<void> world::write_msr(std::uint32_t number, std::uint64_t value) {
    if (!keeps(number)) {
        return pt::error{pt::errc::absent, number};
    }
    if (!machine_->write_msr(number, value)) {
        return pt::error{pt::errc::malformed, number};
    }
    return {};
}

} // namespace vmm::kvm
