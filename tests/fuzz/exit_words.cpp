// SPDX-License-Identifier: BSL-1.0
// Arbitrary words of exits, as a hypervisor below might report them: decoding never traps, and what
// it makes of them is an error or something that an entry takes.

#include "pt/svm/event.hpp"
#include "pt/svm/io_exit.hpp"
#include "pt/svm/nested_page_fault.hpp"
#include "pt/vcpu/double_fault.hpp"
#include "pt/vmx/apic_exit.hpp"
#include "pt/vmx/entry_checks.hpp"
#include "pt/vmx/ept_exit.hpp"
#include "pt/vmx/interruption.hpp"
#include "pt/vmx/io_exit.hpp"
#include "pt/vmx/nmi_unblocking.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

void require(bool holds) {
    if (!holds) {
        __builtin_trap();
    }
}

void check(const pt::result<pt::vcpu::io_instruction>& io) {
    if (!io) {
        require(io.error().code == pt::errc::malformed);
        return;
    }
    const unsigned size = size_of(io->size);
    require(size == 1 || size == 2 || size == 4);
    require(io->length <= 15);
    require(io->segment <= pt::vcpu::segment_register::gs);
    require(io->string || !io->rep);
    const auto addresses = static_cast<unsigned>(io->addresses);
    require(addresses == 2 || addresses == 4 || addresses == 8);
}

/// An event out of an exit is one of the six types; VM entry takes its words in a guest that runs with
/// nothing blocked, unless the words themselves made no sense.
void check(const pt::vcpu::event& event) {
    if (!event.present) {
        return;
    }
    const auto type = static_cast<unsigned>(event.type);
    require(type <= 6 && type != 1 && event.instruction_length <= 15);

    using entry = pt::vmx::entry_interruption_information;
    const pt::vmx::entry_words words =
        pt::vmx::entry_of(event, pt::vcpu::processor_mode::protected_mode);
    require(words.information[entry::valid] && words.information[entry::reserved] == 0);
    require(words.error_code >> 16 == 0 && words.instruction_length <= 15);
    require(words.information[entry::vector] == event.vector);
    pt::vmx::injection_context guest{.rflags = 0x202};
    guest.any_error_code = true;
    guest.zero_instruction_length = true;
    const bool sensible =
        (event.type != pt::vcpu::event_type::nmi || event.vector == 2) &&
        (event.type == pt::vcpu::event_type::hardware_exception ? event.vector < 32
                                                                : !event.has_error_code);
    require((check_entry(words, guest) == pt::vmx::entry_check::accepted) == sensible);
    guest.cr0 = 0; // where whatever error code the event has is left out
    const bool sensible_there =
        (event.type != pt::vcpu::event_type::nmi || event.vector == 2) &&
        (event.type != pt::vcpu::event_type::hardware_exception || event.vector < 32);
    require((check_entry(pt::vmx::entry_of(event, pt::vcpu::mode_of(guest.cr0)), guest) ==
             pt::vmx::entry_check::accepted) == sensible_there);

    const pt::svm::injection_words injection =
        pt::svm::injection_of(event, pt::vcpu::processor_mode::protected_mode);
    require(injection_accepted(injection.injection) ==
            ((event.type != pt::vcpu::event_type::hardware_exception &&
              event.type != pt::vcpu::event_type::software_exception &&
              event.type != pt::vcpu::event_type::privileged_software_exception) ||
             (event.vector < 32 && event.vector != 2)));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::uint64_t words[4] = {};
    std::memcpy(words, data, size < sizeof words ? size : sizeof words);
    const auto low = static_cast<std::uint32_t>(words[1]);
    const auto high = static_cast<std::uint32_t>(words[1] >> 32);
    const auto third = static_cast<std::uint32_t>(words[2]);

    using namespace pt;
    check(vmx::io_instruction_of(vmx::io_instruction_qualification{words[0]},
                                 vmx::io_instruction_information{low}, high));
    check(svm::io_instruction_of(svm::ioio_exit_information{words[0]}, words[1]));
    const vcpu::event first =
        vmx::interrupted_event(vmx::idt_vectoring_information{low}, high, third);
    const vcpu::event second =
        vmx::exit_event(vmx::exit_interruption_information{third}, high, low);
    const vcpu::event third_event =
        svm::interrupted_event(svm::exit_interrupt_information{words[3]});
    const vcpu::event fourth = svm::exit_event(svm::exit_code{words[3]}, words[0], 3);
    for (const vcpu::event& event : {first, second, third_event, fourth}) {
        check(event);
        for (const vcpu::event& other : {first, third_event}) {
            const result<vcpu::event> both = vcpu::combined(event, other);
            require(both.has_value() || both.error().code == errc::hardware_fault);
            if (both) {
                require(both->present == (event.present || other.present));
            }
        }
    }

    const vcpu::memory_violation ept =
        vmx::violation_of(vmx::ept_violation_qualification{words[0]}, gpa{words[1]}, words[2]);
    require(ept.address == gpa{words[1]} && (ept.has_linear_address || ept.linear_address == 0));
    const vcpu::memory_violation npf =
        svm::violation_of(svm::nested_page_fault_information{words[0]}, gpa{words[1]});
    require(npf.read || npf.write || npf.execute);
    const auto offset = vmx::apic_access_qualification{words[0]}.offset();
    require(!offset || *offset < 0x1000);
    if (vmx::nmi_unblocked_by_iret(static_cast<vmx::exit_reason>(words[2] & 0xFF), words[0],
                                   vmx::exit_interruption_information{third},
                                   vmx::idt_vectoring_information{low})) {
        require((low & 0x8000'0000) == 0);
    }
    return 0;
}
