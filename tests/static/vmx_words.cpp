// SPDX-License-Identifier: BSL-1.0
// The words of VM exits and entries against values put together by hand from the manual's tables.

#include "pt/vmx/exit.hpp"
#include "pt/vmx/interruptibility.hpp"
#include "pt/vmx/interruption.hpp"

#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::vmx;

// Registers travel in registers: no larger than their word.
static_assert(sizeof(exit_reason_word) == 4 && std::is_trivially_copyable_v<exit_reason_word>);
static_assert(sizeof(io_instruction_qualification) == 8);
static_assert(sizeof(ept_violation_qualification) == 8);
static_assert(sizeof(entry_interruption_information) == 4);

// [sdm] Table "Basic Exit Reasons": some that are easily off by one, because 35, 38, 42 and 71 are unused.
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
static_assert(static_cast<unsigned>(exit_reason::instruction_timeout) == 75);

// VM-entry failure due to invalid guest state, as VMMs' logs print it: 0x80000021.
static_assert(exit_reason_word{0x8000'0021}[exit_reason_word::entry_failure]);
static_assert(exit_reason_word{0x8000'0021}[exit_reason_word::basic] ==
              exit_reason::entry_failure_guest_state);
static_assert(exit_reason_word{0x0400'001E}[exit_reason_word::bus_lock]);
static_assert(exit_reason_word{0x0400'001E}[exit_reason_word::basic] ==
              exit_reason::io_instruction);

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

} // namespace
