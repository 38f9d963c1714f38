// SPDX-License-Identifier: BSL-1.0
#include "probe.hpp"

#include "virtual_machine.hpp"
#include "world.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/width.hpp"

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

// The guests. Each part begins at a multiple of 256 bytes from probe_guests, which lie at
// guest_base in the guest, and ends with HLT, or with OUT to port 0x12 where it may not. What it
// has seen it writes to port 0x10, in words of 32 bits.
asm(R"(
    .pushsection .rodata
    .set guest_base, 0x10000
    .macro part name
    .balign 256, 0xF4
    .globl probe_\name
probe_\name:
    .endm
    .macro tell_eax
    mov $0x10, %dx
    out %eax, %dx
    .endm

    .balign 256
    .globl probe_guests
probe_guests:
    .code16
    part real_mode
    mov $0x1000, %ax     # the segment that these guests are in
    mov %ax, %ds
    mov $0x12345678, %eax
    tell_eax
    smsw %ax
    and $1, %eax
    tell_eax
    hlt

    .code32
    part port_string
    mov $guest_base + probe_text - probe_guests, %esi
    mov $3, %ecx
    mov $0x10, %dx
    cld
    rep outsl
    mov $0x11, %dx
    mov $guest_base + 0x8000, %edi
    mov $3, %ecx
    rep insb
    mov guest_base + 0x8000, %eax
    tell_eax
    mov %ecx, %eax
    tell_eax
    hlt
probe_text:
    .long 11, 22, 33

    part device_memory
    mov $0xE0000000, %ebx
    movl $0x12345678, 8(%ebx)
    mov 4(%ebx), %eax
    tell_eax
    orb $0x80, 3(%ebx)
    movzbl 3(%ebx), %eax
    tell_eax
    hlt

    part memory
    mov $0x200000, %ebx
    movl $0x11, (%ebx)
    mov (%ebx), %eax
    tell_eax             # then the VMM takes this page away
    mov (%ebx), %eax
    tell_eax
    mov -4(%ebx), %eax   # the pages beside it stay
    tell_eax
    mov 0x1000(%ebx), %eax
    tell_eax             # it comes back
    mov (%ebx), %eax
    tell_eax
    hlt

    part long_mode
    mov %cr4, %eax
    or $0x20, %eax       # PAE
    mov %eax, %cr4
    mov $0x20000, %eax
    mov %eax, %cr3
    mov $0xC0000080, %ecx
    rdmsr
    or $0x100, %eax      # LME
    wrmsr
    mov %cr0, %eax
    or $0x80000001, %eax # PG, PE
    mov %eax, %cr0
    lgdt guest_base + probe_gdtr - probe_guests
    ljmp $0x08, $guest_base + 1f - probe_guests
    .balign 8
probe_gdt:
    .quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF
    .quad 0x00CFF3000000FFFF, 0x00AFFB000000FFFF # for the user
    .quad 0x0000890180000067, 0                  # a task's state, at 0x18000
probe_gdtr:
    .word . - probe_gdt - 1
    .long guest_base + probe_gdt - probe_guests
    .code64
1:  mov $0x10, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov $0x1F000, %esp
    lidt guest_base + probe_idtr - probe_guests
    mov $0x28, %eax
    ltr %ax
    mov $guest_base + probe_tests - probe_guests, %eax
    jmp *(%rax)
probe_idtr:
    .word 4095
    .quad 0x30000
    .balign 8
    .globl probe_tests
probe_tests:
    .quad 0              # of the parts below the one that is tried

    part long_mode_end
    movabs $0x123456789ABCDEF0, %rax
    shr $32, %rax
    tell_eax
    hlt

    # The handlers tell 0x100 + their vector; those of faults go on behind the instruction.
    part handler_6
    mov $0x106, %eax
    tell_eax
    addq $2, (%rsp)
    iretq
    part handler_14
    mov $0x10E, %eax
    tell_eax
    mov %cr2, %rax
    tell_eax
    pop %rax             # error code
    addq $2, (%rsp)
    iretq
    part handler_2
    mov $0x102, %eax
    tell_eax
    iretq
    part handler_13
    mov $0x10D, %eax
    tell_eax
    pop %rax
    addq $2, (%rsp)
    iretq
    part handler_interrupt
    mov $0x120, %eax
    tell_eax
    iretq
    part handler_software
    mov $0x180, %eax
    tell_eax
    hlt

    part exceptions
    ud2
    movabs $0x5000000000, %rbx
    movb %al, (%rbx)
    mov $1, %eax
    tell_eax
    hlt

    part interrupts
    mov $2, %eax         # nothing is delivered before STI
    tell_eax
    nop
    nop
    sti
    mov $0x10000, %ecx   # a while, since some variants look for a window only now and then
1:  loop 1b
    mov $3, %eax
    tell_eax
    cli
    hlt

    part software_interrupt
    int $0x21

    part halt
    sti
    hlt
    mov $4, %eax
    tell_eax
    cli
    hlt

    part task_priority
    mov $0xB, %eax
    mov %rax, %cr8
    mov $5, %eax
    tell_eax
    mov %cr8, %rax
    tell_eax
    xor %eax, %eax
    mov %rax, %cr8
    hlt

    part msrs
    mov $0x802, %ecx     # x2APIC: the local APIC's ID
    rdmsr
    tell_eax
    mov $0x1B, %ecx      # IA32_APIC_BASE
    mov $0xFEE00D00, %eax
    xor %edx, %edx
    wrmsr
    mov $0x7FF, %ecx     # nobody's
    rdmsr
    mov $0xC0000080, %ecx
    rdmsr
    tell_eax
    hlt

    part time
    rdtsc
    mov %edx, %ebx
    tell_eax
    mov %ebx, %eax
    tell_eax
    hlt

    part user
    pushq $0x1B
    pushq $0x1E000
    pushq $0x3002        # IOPL 3
    pushq $0x23
    pushq $guest_base + 1f - probe_guests
    iretq
1:  mov $6, %eax
    tell_eax
    rdmsr                # is not for the user
    mov $0x12, %dx
    out %al, %dx

    part system_call
    pushq $0x1B
    pushq $0x1E000
    pushq $0x3002
    pushq $0x23
    pushq $guest_base + 1f - probe_guests
    iretq
1:  int $0x80
    mov $7, %eax
    tell_eax
1:  jmp 1b

    .code32
    part endless
1:  jmp 1b
    .balign 256, 0xF4
    .globl probe_guests_end
probe_guests_end:
    .popsection
    .code64
)");

extern "C" {
// The parts, in this program.
extern const std::byte probe_guests[], probe_guests_end[], probe_tests[];
extern const std::byte probe_real_mode[], probe_port_string[], probe_device_memory[],
    probe_memory[], probe_long_mode[], probe_long_mode_end[], probe_exceptions[],
    probe_interrupts[], probe_halt[], probe_task_priority[], probe_msrs[], probe_time[],
    probe_user[], probe_system_call[], probe_software_interrupt[], probe_endless[],
    probe_handler_2[], probe_handler_6[], probe_handler_13[], probe_handler_14[],
    probe_handler_interrupt[], probe_handler_software[];
}

namespace vmm::kvm {
namespace {

using pt::vcpu::general_register;
using pt::vcpu::segment_register;

constexpr std::uint64_t memory_size = 4 * pt::MiB;
constexpr std::uint32_t guest_base = 0x1'0000;
constexpr std::uint64_t page_tables = 0x2'0000;
constexpr std::uint64_t interrupt_table = 0x3'0000;
constexpr std::uint64_t task_state = 0x1'8000;
constexpr std::uint8_t interrupt_vector = 0x20;
constexpr pt::io_port end_port{0x12};

std::uint32_t place_of(const std::byte* part) {
    return guest_base + static_cast<std::uint32_t>(part - probe_guests);
}

/// A guest that runs until it halts, or until an exit that nobody expects.
class trial {
public:
    trial() {
        memory_.write(guest_base, probe_guests,
                      static_cast<std::size_t>(probe_guests_end - probe_guests));
        // 4 GiB one to one, in pages of 2 MiB, also for the user.
        put(page_tables, page_tables + 0x1000 + 7);
        for (std::uint64_t i = 0; i < 4; ++i) {
            put(page_tables + 0x1000 + 8 * i, page_tables + 0x2000 + 0x1000 * i + 7);
        }
        for (std::uint64_t i = 0; i < 2048; ++i) {
            put(page_tables + 0x2000 + 8 * i, (i << 21) + 0x87);
        }
        set_handler(2, probe_handler_2);
        set_handler(6, probe_handler_6);
        set_handler(13, probe_handler_13);
        set_handler(14, probe_handler_14);
        set_handler(interrupt_vector, probe_handler_interrupt);
        set_handler(0x21, probe_handler_software);
        set_handler(0x80, probe_handler_software);
        put(task_state + 4, 0x1'F000); // the stack for the supervisor
        if (!machine_.give_memory({pt::gpa{0}, memory_size}, memory_.pages.data())) {
            throw unavailable{"KVM takes no memory for a guest"};
        }
        machine_.set_cpuid(machine_.supported_cpuid());
    }

    void start_real(const std::byte* part) {
        cpu_state state{.rip = place_of(part) - guest_base};
        for (segment_state& each : state.segments) {
            each = {.rights = 0x93, .limit = 0xFFFF};
        }
        state[segment_register::cs] = {
            .selector = guest_base >> 4, .rights = 0x9B, .limit = 0xFFFF, .base = guest_base};
        state.tr = {.rights = 0x8B, .limit = 0xFFFF};
        state.ldtr = {.rights = 0x82, .limit = 0xFFFF};
        state.gdtr.limit = 0xFFFF;
        state.idtr.limit = 0xFFFF;
        world_.set_state(state);
    }
    void start(const std::byte* part) { world_.set_state(multiboot_state(place_of(part))); }
    /// In 64-bit mode, into which the guest goes by itself.
    void start_long(const std::byte* part) {
        put(place_of(probe_tests), place_of(part));
        start(probe_long_mode);
    }

    /// What comes up before each entry.
    std::function<void(pt::lapic::entry_decision&)> before_entry = [](auto&) {};
    std::function<void(const vm_exit&)> on_exit = [](const auto&) {};

    /// Gives a defect, or nothing if the guest has told exactly this before it ended by HLT.
    std::string expect(std::initializer_list<std::uint64_t> words) {
        const std::string end = run_to_end();
        std::string told;
        std::string expected;
        for (const std::uint64_t each : told_) {
            told.append(" ").append(std::to_string(each));
        }
        for (const std::uint64_t each : words) {
            expected.append(" ").append(std::to_string(each));
        }
        return end.empty() && told == expected
                   ? ""
                   : end + (end.empty() ? "" : "; ") + "the guest said" + told + ", not" + expected;
    }

    world& cpu() { return world_; }
    virtual_machine& machine() { return machine_; }
    [[nodiscard]] std::byte* memory(pt::gpa at) const { return memory_.pages.data() + at.raw; }
    [[nodiscard]] const std::vector<std::uint64_t>& told() const { return told_; }

private:
    struct guest_memory {
        shared_pages pages{memory_size};
        void write(std::uint64_t at, const void* from, std::size_t size) const {
            std::memcpy(pages.data() + at, from, size);
        }
    };

    void put(std::uint64_t at, std::uint64_t value) { memory_.write(at, &value, sizeof value); }

    void set_handler(std::uint8_t vector, const std::byte* part) {
        constexpr std::uint64_t user_may_use_it = std::uint64_t{3} << 45;
        constexpr std::uint64_t interrupt_gate = std::uint64_t{0x8E} << 40;
        const std::uint64_t gate = interrupt_table + std::uint64_t{16} * vector;
        const std::uint64_t place = place_of(part);
        put(gate, (place & 0xFFFF) | 0x08U << 16 | interrupt_gate | user_may_use_it |
                      (place >> 16 & 0xFFFF) << 48);
        put(gate + 8, 0);
    }

    std::string run_to_end() {
        for (int exits = 0; exits < 200; ++exits) {
            pt::lapic::entry_decision decision{.event = put_off_};
            if (!put_off_.present) {
                before_entry(decision);
            }
            const vm_exit exit = world_.run(decision, 3'000'000'000);
            put_off_ = exit.interrupted;
            on_exit(exit);
            switch (exit.kind) {
            case exit_kind::io:
                do_io(exit);
                if (exit.io.port == end_port) {
                    return "";
                }
                break;
            case exit_kind::device_memory: do_device(exit); break;
            case exit_kind::hlt:
                if ((world_.rflags() & 1U << 9) == 0) {
                    return "";
                }
                (void)world_.finish_instruction(exit.length);
                break;
            case exit_kind::handled:
            case exit_kind::interrupt_window:
            case exit_kind::read_msr:
            case exit_kind::write_msr:
            case exit_kind::cr8: break;
            case exit_kind::preempted: return "it does not come to an end";
            default:
                return std::string{"ended by: "} + name(exit.kind) +
                       (exit.why == nullptr ? "" : std::string{", "} + exit.why);
            }
        }
        return "more exits than there can be";
    }

    void do_io(const vm_exit& exit) {
        std::uint64_t& rax = world_.general()[general_register::rax];
        if (exit.io.direction == pt::vcpu::io_direction::in) {
            rax = ++bytes_read_;
        } else if (exit.io.port != end_port) {
            told_.push_back(rax);
        }
        (void)world_.finish_instruction(exit.length);
    }
    void do_device(const vm_exit& exit) {
        constexpr pt::range<pt::gpa> device{pt::gpa{0xE000'0000}, sizeof device_};
        if (!device.contains({exit.device.address, exit.device.size})) {
            return;
        }
        std::uint8_t* const at = device_ + (exit.device.address - device.first());
        if (exit.device.way == pt::vcpu::memory_access::write) {
            std::memcpy(at, &exit.device.data, exit.device.size);
        } else {
            std::uint64_t value = 0;
            std::memcpy(&value, at, exit.device.size);
            world_.finish_read(value);
        }
    }

    std::uint8_t device_[16]{0, 0, 0, 1, 5, 6, 7, 8};
    guest_memory memory_{};
    virtual_machine machine_{};
    world world_{machine_};
    std::vector<std::uint64_t> told_{};
    std::uint64_t bytes_read_ = 0;
    pt::vcpu::event put_off_{};
};

/// An interrupt as soon as the guest has told `from`, and can take it.
void interrupt_after(trial& guest, std::uint64_t from) {
    guest.before_entry = [&guest, from, done = false](pt::lapic::entry_decision& decision) mutable {
        if (done || guest.told().empty() || guest.told().back() != from) {
            return;
        }
        if (guest.cpu().can_take_interrupt()) {
            decision.event = pt::vcpu::external_interrupt(interrupt_vector);
            done = true;
        } else {
            decision.interrupt_window = true;
        }
    };
}

std::string try_real_mode() {
    trial guest;
    guest.start_real(probe_real_mode);
    return guest.expect({0x1234'5678, 0});
}

std::string try_port_strings() {
    trial guest;
    guest.start(probe_port_string);
    return guest.expect({11, 22, 33, 0x03'0201, 0});
}

std::string try_device_memory() {
    trial guest;
    guest.start(probe_device_memory);
    return guest.expect({0x0807'0605, 0x81});
}

std::string try_changing_memory() {
    trial guest;
    guest.start(probe_memory);
    constexpr pt::range<pt::gpa> page{pt::gpa{0x20'0000}, 4 * pt::KiB};
    guest.before_entry = [&, seen = std::size_t{0}](pt::lapic::entry_decision&) mutable {
        if (seen == guest.told().size()) {
            return;
        }
        seen = guest.told().size();
        if (seen == 1) {
            guest.machine().take_memory(page);
        } else if (seen == 4) {
            guest.machine().give_memory(page, guest.memory(page.first()));
        }
    };
    return guest.expect({0x11, 0xFFFF'FFFF, 0, 0, 0x11});
}

std::string try_long_mode() {
    trial guest;
    guest.start_long(probe_long_mode_end);
    return guest.expect({0x1234'5678});
}

std::string try_exceptions() {
    trial guest;
    guest.start_long(probe_exceptions);
    return guest.expect({0x106, 0x10E, 0, 1});
}

std::string try_raised_exception() {
    trial guest;
    guest.before_entry = [&, done = false](pt::lapic::entry_decision& decision) mutable {
        if (!done && guest.told().size() == 1) { // before what stands behind the OUT
            decision.event = pt::vcpu::exception(pt::vcpu::exception_vector::general_protection, 0);
            done = true;
        }
    };
    guest.start_long(probe_interrupts);
    return guest.expect({2, 0x10D, 3});
}

std::string try_interrupts() {
    trial guest;
    interrupt_after(guest, 2);
    guest.start_long(probe_interrupts);
    return guest.expect({2, 0x120, 3});
}

std::string try_nmis() {
    trial guest;
    guest.before_entry = [&, done = false](pt::lapic::entry_decision& decision) mutable {
        if (!done && guest.told().size() == 1) {
            decision.event = pt::vcpu::nmi();
            done = true;
        }
    };
    guest.start_long(probe_interrupts);
    return guest.expect({2, 0x102, 3});
}

std::string try_halt() {
    trial guest;
    bool halted = false;
    guest.on_exit = [&](const vm_exit& exit) { halted = exit.kind == exit_kind::hlt; };
    guest.before_entry = [&](pt::lapic::entry_decision& decision) {
        if (halted && guest.cpu().can_take_interrupt()) {
            decision.event = pt::vcpu::external_interrupt(interrupt_vector);
        }
    };
    guest.start_long(probe_halt);
    return guest.expect({0x120, 4});
}

std::string try_task_priority() {
    trial guest;
    std::string seen;
    guest.on_exit = [&](const vm_exit& exit) {
        if (exit.kind == exit_kind::cr8) {
            seen += std::to_string(guest.cpu().general()[general_register::rax]) + " ";
            (void)guest.cpu().finish_instruction(exit.length);
        }
    };
    guest.start_long(probe_task_priority);
    const std::string defect = guest.expect({5, 0xB});
    return defect.empty() && seen != "11 0 " ? "CR8 was seen as " + seen : defect;
}

std::string try_msrs() {
    trial guest;
    std::string seen;
    guest.on_exit = [&](const vm_exit& exit) {
        pt::vcpu::general_registers& registers = guest.cpu().general();
        const auto number = registers[general_register::rcx];
        if (exit.kind == exit_kind::read_msr && number == 0x802) {
            seen += "802 ";
            registers[general_register::rax] = 0x55;
            (void)guest.cpu().finish_instruction(exit.length);
        } else if (exit.kind == exit_kind::write_msr && number == 0x1B) {
            seen += std::to_string(registers[general_register::rax]) + " ";
            (void)guest.cpu().finish_instruction(exit.length);
        } // and 0x7FF is refused
    };
    guest.start_long(probe_msrs);
    const std::string defect = guest.expect({0x55, 0x10D, 0x500});
    return defect.empty() && seen != "802 4276096256 " ? "the VMM has seen: " + seen : defect;
}

std::string try_time() {
    trial guest;
    guest.start_long(probe_time);
    const std::uint64_t before = __builtin_ia32_rdtsc();
    (void)guest.expect({});
    const std::uint64_t after = __builtin_ia32_rdtsc();
    if (guest.told().size() != 2) {
        return "the guest says nothing";
    }
    const std::uint64_t seen = guest.told()[1] << 32 | guest.told()[0];
    return before < seen && seen < after ? "" : "the guest's counter is not this machine's";
}

std::string try_user_mode() {
    trial guest;
    guest.start_long(probe_user);
    return guest.expect({6, 0x10D});
}

std::string try_software_interrupt() {
    trial guest;
    guest.start_long(probe_software_interrupt);
    return guest.expect({0x180});
}

std::string try_system_call() {
    trial guest;
    guest.start_long(probe_system_call);
    return guest.expect({0x180});
}

std::string try_time_limit() {
    trial guest;
    guest.start(probe_endless);
    pt::lapic::entry_decision nothing{};
    const vm_exit exit = guest.cpu().run(nothing, 10'000'000);
    return exit.kind == exit_kind::preempted ? "" : name(exit.kind);
}

} // namespace

std::vector<ability> try_abilities() {
    enum class need : std::uint8_t { kernels_need_it, some_kernels_need_it };
    struct question {
        const char* what;
        need needed;
        std::string (*ask)();
    };
    constexpr question questions[]{
        {"real mode", need::some_kernels_need_it, try_real_mode},
        {"protected mode; strings of ports", need::kernels_need_it, try_port_strings},
        {"a device's memory", need::kernels_need_it, try_device_memory},
        {"memory that the VMM takes and gives", need::kernels_need_it, try_changing_memory},
        {"64-bit mode, from protected mode", need::kernels_need_it, try_long_mode},
        {"exceptions of the guest's own", need::kernels_need_it, try_exceptions},
        {"exceptions of the VMM's", need::kernels_need_it, try_raised_exception},
        {"interrupts, at their window", need::kernels_need_it, try_interrupts},
        {"NMIs", need::some_kernels_need_it, try_nmis},
        {"an interrupt ends HLT", need::kernels_need_it, try_halt},
        {"CR8", need::some_kernels_need_it, try_task_priority},
        {"MSRs of the VMM's, among them x2APIC's", need::kernels_need_it, try_msrs},
        {"the time-stamp counter", need::some_kernels_need_it, try_time},
        {"user mode", need::some_kernels_need_it, try_user_mode},
        {"INT n", need::some_kernels_need_it, try_software_interrupt},
        {"INT 80H in user mode", need::some_kernels_need_it, try_system_call},
        {"an endless loop ends by the time limit", need::kernels_need_it, try_time_limit},
    };
    std::vector<ability> all;
    for (const question& each : questions) {
        std::string defect;
        try {
            defect = each.ask();
        } catch (const unavailable&) {
            throw;
        } catch (const std::runtime_error& error) {
            defect = error.what();
        }
        all.push_back({each.what, defect, each.needed == need::kernels_need_it});
    }
    return all;
}

} // namespace vmm::kvm
