// SPDX-License-Identifier: BSL-1.0
// The words of VM exits and entries against values put together by hand from the manual's tables.

#include "pt/vmx/apic_exit.hpp"
#include "pt/vmx/ept_exit.hpp"
#include "pt/vmx/exit.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"
#include "pt/vmx/io_exit.hpp"
#include "pt/vmx/nmi_unblocking.hpp"

#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::vmx;
using pt::vcpu::io_direction;

// Registers travel in registers: no larger than their word.
static_assert(sizeof(exit_reason_word) == 4 && std::is_trivially_copyable_v<exit_reason_word>);
static_assert(sizeof(io_instruction_qualification) == 8);
static_assert(sizeof(ept_violation_qualification) == 8);
static_assert(sizeof(entry_interruption_information) == 4);

// [sdm] Table "Basic Exit Reasons": some that are easily off by one, because 35, 38, 42, 71, 82 and 83 are unused.
static_assert(static_cast<unsigned>(exit_reason::external_interrupt) == 1);
static_assert(static_cast<unsigned>(exit_reason::interrupt_window) == 7);
static_assert(static_cast<unsigned>(exit_reason::cpuid) == 10);
static_assert(static_cast<unsigned>(exit_reason::vmxon) == 27);
static_assert(static_cast<unsigned>(exit_reason::io_instruction) == 30);
static_assert(static_cast<unsigned>(exit_reason::wrmsr) == 32);
static_assert(static_cast<unsigned>(exit_reason::mwait) == 36);
static_assert(static_cast<unsigned>(exit_reason::monitor) == 39);
static_assert(static_cast<unsigned>(exit_reason::tpr_below_threshold) == 43);
static_assert(static_cast<unsigned>(exit_reason::ept_violation) == 48);
static_assert(static_cast<unsigned>(exit_reason::ept_misconfiguration) == 49);
static_assert(static_cast<unsigned>(exit_reason::apic_write) == 56);
static_assert(static_cast<unsigned>(exit_reason::xrstors) == 64);
static_assert(static_cast<unsigned>(exit_reason::tpause) == 68);
static_assert(static_cast<unsigned>(exit_reason::enqcmd_pasid_translation_failure) == 72);
static_assert(static_cast<unsigned>(exit_reason::instruction_timeout) == 75);
static_assert(static_cast<unsigned>(exit_reason::wrmsrlist) == 79);
static_assert(static_cast<unsigned>(exit_reason::uwrmsr) == 81);
static_assert(static_cast<unsigned>(exit_reason::wrmsrns_immediate) == 85);

// VM-entry failure due to invalid guest state, as VMMs' logs print it: 0x80000021.
static_assert(exit_reason_word{0x8000'0021}[exit_reason_word::entry_failure]);
static_assert(exit_reason_word{0x8000'0021}[exit_reason_word::basic] ==
              exit_reason::entry_failure_guest_state);
static_assert(exit_reason_word{0x0400'001E}[exit_reason_word::bus_lock]);
static_assert(exit_reason_word{0x0400'001E}[exit_reason_word::basic] ==
              exit_reason::io_instruction);

static_assert(exit_reason_word{0x0200'0030}[exit_reason_word::shadow_stack_prematurely_busy]);
static_assert(exit_reason_word{0x0800'0000}[exit_reason_word::enclave_mode]);
static_assert(exit_reason_word{0x1000'0000}[exit_reason_word::pending_mtf]);
static_assert(exit_reason_word{0x2000'0000}[exit_reason_word::from_root_operation]);
static_assert(!exit_reason_word{0xC1FF'0030}[exit_reason_word::shadow_stack_prematurely_busy]);

// IN AL, DX with DX = 0x3F8: size 0 (one byte), direction 1 (IN), operand 0 (DX).
constexpr io_instruction_qualification in_al{0x03F8'0008};
static_assert(in_al.port() == pt::io_port{0x3F8});
static_assert(in_al.size() == pt::width::byte);
static_assert(in_al[io_instruction_qualification::direction] == io_direction::in);
static_assert(in_al[io_instruction_qualification::operand] == io_operand::dx);
static_assert(!in_al[io_instruction_qualification::string] &&
              !in_al[io_instruction_qualification::rep_prefixed]);

// OUT 0x80, AX: size 1 (two bytes), direction 0, operand 1 (immediate).
constexpr io_instruction_qualification out_imm{0x0080'0041};
static_assert(out_imm.port() == pt::io_port{0x80});
static_assert(out_imm.size() == pt::width::word);
static_assert(out_imm[io_instruction_qualification::direction] == io_direction::out);
static_assert(out_imm[io_instruction_qualification::operand] == io_operand::immediate);

// REP OUTSD with DX = 0xFFFC: size 3 (four bytes), string, REP.
constexpr io_instruction_qualification rep_outsd{0xFFFC'0033};
static_assert(rep_outsd.port() == pt::io_port{0xFFFC});
static_assert(rep_outsd.size() == pt::width::dword);
static_assert(rep_outsd[io_instruction_qualification::string]);
static_assert(rep_outsd[io_instruction_qualification::rep_prefixed]);
static_assert(rep_outsd[io_instruction_qualification::direction] == io_direction::out);

// Sizes other than 0, 1 and 3 are "not used".
static_assert(io_instruction_qualification{0x0CF8'0002}.size() ==
              pt::error{pt::errc::malformed, 2});
static_assert(io_instruction_qualification{0x0CF8'0004}.size() ==
              pt::error{pt::errc::malformed, 4});
static_assert(io_instruction_qualification{0x0CF8'0007}.size() ==
              pt::error{pt::errc::malformed, 7});

// A read of a page that the EPT does not map: bits 0, 7 and 8.
using violation = ept_violation_qualification;
constexpr violation absent_read{0x181};
static_assert(absent_read[violation::data_read] && !absent_read[violation::data_write]);
static_assert(!absent_read[violation::readable] && !absent_read[violation::writable]);
static_assert(absent_read[violation::guest_linear_address_valid]);
static_assert(absent_read.has_advanced_information());

// A write to a page that is mapped for reading and executing only: bits 1, 3, 5, 7, 8.
constexpr violation write_protected{0x1AA};
static_assert(write_protected[violation::data_write] && write_protected[violation::readable]);
static_assert(!write_protected[violation::writable] && write_protected[violation::executable]);

// A fetch by the guest's user mode from a page without execute right, advanced information present:
// bits 2, 3, 4, 7, 8, 9 (user-mode address).
constexpr violation fetch{0x39C};
static_assert(fetch[violation::instruction_fetch] && !fetch[violation::executable]);
static_assert(fetch[violation::linear_user_mode] && !fetch[violation::linear_execute_disable]);

// The walk of the guest's tables with accessed and dirty flags: read and write, and bit 8 is clear, so
// that bits 11..9 say nothing.
constexpr violation walk{0x083};
static_assert(walk[violation::data_read] && walk[violation::data_write]);
static_assert(!walk[violation::access_to_translation] && !walk.has_advanced_information());

static_assert(violation{0x1000}[violation::nmi_unblocking_due_to_iret]);
static_assert(violation{0x1'0000}[violation::asynchronous]);
static_assert(violation{0x8000}[violation::guest_paging_verification]);
static_assert(violation{0x4000}[violation::supervisor_shadow_stack]);
static_assert(violation{0x2000}[violation::shadow_stack_access]);
static_assert(violation{0x40}[violation::user_executable]);

// The same, as a handler of either loop sees them.
constexpr pt::gpa page{0xFEE0'0300};
static_assert(violation_of(absent_read, page, 0xFFFF'8000'0000'0300) ==
              pt::vcpu::memory_violation{.address = page,
                                         .read = true,
                                         .has_linear_address = true,
                                         .linear_address = 0xFFFF'8000'0000'0300});
static_assert(violation_of(write_protected, page, 0x300) ==
              pt::vcpu::memory_violation{.address = page,
                                         .write = true,
                                         .mapped = true,
                                         .has_linear_address = true,
                                         .linear_address = 0x300});
static_assert(violation_of(fetch, page, 0).execute && violation_of(fetch, page, 0).mapped);
static_assert(violation_of(walk, page, 0x1234) ==
              pt::vcpu::memory_violation{.address = page,
                                         .read = true,
                                         .write = true,
                                         .final_translation = false,
                                         .has_linear_address = true,
                                         .linear_address = 0x1234});
// Readable, executable or writable alone is mapped. Bit 6 may be anything.
static_assert(violation_of(violation{0x18A}, page, 0).mapped);
static_assert(violation_of(violation{0x1A1}, page, 0).mapped);
static_assert(violation_of(violation{0x191}, page, 0).mapped);
static_assert(!violation_of(violation{0x1C1}, page, 0).mapped);
// Without a valid linear address (bit 7) bit 8 and the field are undefined: a load of the PDPTEs by MOV
// to CR3, or trace output, which is asynchronous.
static_assert(violation_of(violation{0x001}, page, 0xDEAD) ==
              pt::vcpu::memory_violation{.address = page, .read = true});
static_assert(violation_of(violation{0x1'0102}, page, 0xDEAD) ==
              pt::vcpu::memory_violation{.address = page, .write = true, .asynchronous = true});

// APIC access: a read at 0x020 by an instruction, a write at 0x0B0, a fetch through the guest's tables.
constexpr apic_access_qualification apic_read{0x0020};
static_assert(apic_read[apic_access_qualification::type] == apic_access_type::linear_read);
static_assert(apic_read.offset() == std::uint16_t{0x020});
constexpr apic_access_qualification apic_eoi{0x10B0};
static_assert(apic_eoi[apic_access_qualification::type] == apic_access_type::linear_write);
static_assert(apic_eoi.offset() == std::uint16_t{0x0B0});
static_assert(apic_access_qualification{0x3FFF}.offset() == std::uint16_t{0xFFF});
static_assert(apic_access_qualification{0x4300}.offset() == std::uint16_t{0x300});
static_assert(apic_access_qualification{0x5300}.offset() == pt::error{pt::errc::absent, 5});
static_assert(apic_access_qualification{0xA300}.offset() == pt::error{pt::errc::absent, 10});
static_assert(apic_access_qualification{0xB300}.offset() == pt::error{pt::errc::absent, 11});
static_assert(apic_access_qualification{0xF300}.offset() == pt::error{pt::errc::absent, 15});
static_assert(apic_access_qualification{0x1'F000}[apic_access_qualification::asynchronous]);
static_assert(apic_write_qualification{0x0300}[apic_write_qualification::page_offset] == 0x300);
static_assert(virtualized_eoi_qualification{0x0041}[virtualized_eoi_qualification::vector] == 0x41);

// NMI unblocking due to IRET: bit 12, in one word or the other.
constexpr bool unblocked(exit_reason reason, std::uint64_t qualification, std::uint32_t exited,
                         std::uint32_t interrupted = 0) {
    return nmi_unblocked_by_iret(reason, qualification, exit_interruption_information{exited},
                                 idt_vectoring_information{interrupted});
}
static_assert(unblocked(exit_reason::exception_or_nmi, 0, 0x8000'1B0D));  // #GP
static_assert(!unblocked(exit_reason::exception_or_nmi, 0, 0x8000'0B0D)); // the bit is clear
static_assert(!unblocked(exit_reason::exception_or_nmi, 0x1000, 0x8000'0B0D));
static_assert(!unblocked(exit_reason::exception_or_nmi, 0, 0x8000'1B08)); // double fault: undefined
static_assert(!unblocked(exit_reason::exception_or_nmi, 0, 0x0000'1B0D)); // not valid
static_assert(!unblocked(exit_reason::exception_or_nmi, 0, 0x8000'1B0D, 0x8000'0B0E));
static_assert(unblocked(exit_reason::exception_or_nmi, 0, 0x8000'1B0D, 0x7FFF'FFFF));
static_assert(unblocked(exit_reason::ept_violation, 0x1181, 0));
static_assert(!unblocked(exit_reason::ept_violation, 0x0181, 0x8000'1B0D));
static_assert(!unblocked(exit_reason::ept_violation, 0x1181, 0, 0x8000'0031));
static_assert(unblocked(exit_reason::page_modification_log_full, 0x1000, 0));
static_assert(unblocked(exit_reason::spp_related_event, 0x1000, 0));
static_assert(!unblocked(exit_reason::ept_misconfiguration, 0x1000, 0x8000'1B0D));
static_assert(!unblocked(exit_reason::io_instruction, 0x1000'0000'1000, 0));

// Interruptibility: IF is bit 9 of RFLAGS, bit 1 of RFLAGS is always 1.
constexpr interruptibility_state free_of_blocking{0};
static_assert(can_take_external_interrupt(0x202, free_of_blocking, activity_state::active));
static_assert(can_take_external_interrupt(0x202, free_of_blocking, activity_state::hlt));
static_assert(!can_take_external_interrupt(0x002, free_of_blocking, activity_state::active));
static_assert(!can_take_external_interrupt(0x202, interruptibility_state{1},
                                           activity_state::active)); // STI
static_assert(!can_take_external_interrupt(0x202, interruptibility_state{2},
                                           activity_state::active)); // MOV SS
static_assert(can_take_external_interrupt(0x202, interruptibility_state{8},
                                          activity_state::active)); // NMI
static_assert(!can_take_external_interrupt(0x202, free_of_blocking, activity_state::shutdown));
static_assert(!can_take_external_interrupt(0x202, free_of_blocking, activity_state::wait_for_sipi));

// NMI: [sdm] Checks on Guest Non-Register State. Bits 0, 1 and 3 block; SMI (2) does not. Shutdown
// takes NMIs, waiting for a SIPI does not.
static_assert(can_take_nmi(free_of_blocking, activity_state::active));
static_assert(can_take_nmi(free_of_blocking, activity_state::hlt));
static_assert(can_take_nmi(free_of_blocking, activity_state::shutdown));
static_assert(!can_take_nmi(free_of_blocking, activity_state::wait_for_sipi));
static_assert(!can_take_nmi(interruptibility_state{1}, activity_state::active));
static_assert(!can_take_nmi(interruptibility_state{2}, activity_state::active));
static_assert(can_take_nmi(interruptibility_state{4}, activity_state::active));
static_assert(!can_take_nmi(interruptibility_state{8}, activity_state::active));

// One instruction on, neither STI nor MOV SS blocks; the rest stays.
static_assert(interruptibility_state{0x1F}.after_instruction() == interruptibility_state{0x1C});

} // namespace
