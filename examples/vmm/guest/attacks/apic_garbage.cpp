// SPDX-License-Identifier: BSL-1.0
#include "random.hpp"

#include "../attempt.hpp"
#include "../interrupts.hpp"
#include "../local_apic.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

namespace guest {
namespace {

using namespace pt::lapic;

constexpr std::uint32_t page_size = 4096;

/// Registers by whose lower half an IPI is sent.
bool sends(std::uint32_t offset) { return offset / 16 == interrupt_command::offset / 16; }

/// Values with a vector of 32 or more in each dword, wherever in the page that is one: below,
/// interrupts would be taken for exceptions here.
constexpr std::uint64_t with_free_vector(std::uint64_t value) {
    return value | 0x0000'0020'0000'0020;
}

/// An interrupt command of any bits, but none that ends this processor's work: INIT, start-up and
/// SMI become fixed ones.
std::uint32_t harmless_command(std::uint32_t value) {
    const std::uint32_t mode = value >> 8 & 7;
    const bool resets = mode == 2 || mode == 5 || mode == 6;
    return static_cast<std::uint32_t>(
        with_free_vector(resets ? value & ~std::uint32_t{0x700} : value));
}

void garble_page() {
    kernel::mmio page = local_apic::page();
    const std::uint32_t id = page.read32(local_apic_id::offset);
    random_numbers random{17};
    std::uint32_t faults = faults_taken();
    for (std::uint32_t offset = 0; offset < page_size; ++offset) {
        attempt([&] { static_cast<void>(page.read8(offset)); });
        attempt([&] { static_cast<void>(page.read16(offset)); });
        attempt([&] { static_cast<void>(page.read32(offset)); });
        attempt([&] { static_cast<void>(page.read64(offset)); });
    }
    tell("every offset read in 1, 2, 4 and 8 bytes: ", decimal{faults_taken() - faults}, " faults");
    check(true, "the program goes on");
    restore_interrupts();

    faults = faults_taken();
    for (unsigned round = 0; round != 2; ++round) {
        for (std::uint32_t offset = 0; offset < page_size; offset += round == 0 ? 16 : 1) {
            // No access may reach a part of the command by accident.
            if (round != 0 && sends(offset + 7)) {
                continue;
            }
            const std::uint64_t value =
                sends(offset) ? harmless_command(random()) : with_free_vector(random.wide());
            attempt([&] {
                switch (round == 0 ? 4U : 1U << random.below(4)) {
                case 1: page.write8(offset, static_cast<std::uint8_t>(value)); break;
                case 2: page.write16(offset, static_cast<std::uint16_t>(value)); break;
                case 4: page.write32(offset, static_cast<std::uint32_t>(value)); break;
                default: page.write64(offset, value); break;
                }
            });
        }
        restore_interrupts();
    }
    let_in_briefly();
    tell("written: ", decimal{faults_taken() - faults}, " faults");
    page.write32(error_status::offset, 0);
    tell("ESR ", page.read32(error_status::offset));
    tell("the id is ", decimal{local_apic::id()}, " now");
    page.write32(local_apic_id::offset, id);
}

void garble_commands() {
    random_numbers random{19};
    for (unsigned i = 0; i != 2000; ++i) {
        const auto low = harmless_command(random());
        local_apic::write(interrupt_command::offset_high, random());
        local_apic::write(interrupt_command::offset, low);
        let_in_briefly();
    }
    check(true, "2000 interrupt commands of random bits: the program goes on");
    restore_interrupts();
    // What is still in service after illegal ones is ended.
    for (unsigned i = 0; i != 256 && !local_apic::has_no_vector(in_service_offset); ++i) {
        local_apic::end_of_interrupt();
    }
    check(local_apic::has_no_vector(in_service_offset), "nothing is in service");
}

/// A check of what [sdm] demands; QEMU 7.2's own processor has no x2APIC and does not do it.
template <class T>
void demand(bool is_demanded, const pt::result<T>& outcome, const char* what) {
    if (is_demanded) {
        check(is_protected(outcome), what, ": #GP");
    } else {
        tell(what, outcome ? ": done" : ": fault");
    }
}

void garble_base() {
    const apic_base before = local_apic::base();
    const bool strict = has_x2apic();
    for (const unsigned bit : {0U, 7U, 9U, 52U, 63U}) {
        demand(strict, try_write_msr(apic_base::msr, before.raw | std::uint64_t{1} << bit),
               "a reserved bit of IA32_APIC_BASE");
        static_cast<void>(try_write_msr(apic_base::msr, before.raw));
    }
    if (strict) { // else it is the end of the local APIC: QEMU 7.2 cannot turn it on again
        const auto not_a_mode = before.with(apic_base::mode(static_cast<apic_mode>(1)));
        demand(strict, try_write_msr(apic_base::msr, not_a_mode.raw),
               "x2APIC mode without the local APIC");
    }

    // Elsewhere in memory, and back: [sdm] has it so, and a VMM may refuse.
    const std::uint64_t other = 0xFEDF'0000;
    const auto moved =
        try_write_msr(apic_base::msr, before.with(apic_base::base(pt::gpa{other})).raw);
    tell("moving its page: ", moved ? "taken" : "refused");
    if (moved) {
        tell("  there reads ", kernel::mmio{pt::hpa{other}}.read32(local_apic_version::offset));
    }
    static_cast<void>(try_write_msr(apic_base::msr, before.raw));
    restore_interrupts();
    check_equal(local_apic::base().raw, before.raw, "IA32_APIC_BASE is as before");
}

void garble_msrs_in_xapic_mode() {
    std::uint32_t refused = 0;
    for (std::uint32_t number = 0x800; number != 0x900; ++number) {
        refused += try_read_msr(number) ? 0 : 1;
    }
    tell("in xAPIC mode ", decimal{refused},
         " of 256 MSRs of x2APIC mode fault when they are read");
    if (has_x2apic()) {
        check_equal(refused, 256, "that is all of them");
    }
}

struct register_rights {
    std::uint32_t number;
    bool readable;
    bool writable;
};

/// [sdm, Local APIC Register Address Map Supported by x2APIC].
register_rights rights_of(std::uint32_t number, unsigned local_vectors) {
    const auto within = [number](std::uint32_t first, std::uint32_t last) {
        return number >= first && number <= last;
    };
    if (within(0x802, 0x803) || number == 0x80A || number == 0x80D || within(0x810, 0x827) ||
        number == 0x839) {
        return {number, true, false};
    }
    if (number == 0x80B || number == 0x83F) {
        return {number, false, true};
    }
    if (number == 0x808 || number == 0x80F || number == 0x828 || number == 0x830 ||
        within(0x832, 0x838) || number == 0x83E) {
        return {number, true, true};
    }
    if (number == 0x82F) { // CMCI
        return {number, local_vectors > 6, local_vectors > 6};
    }
    return {number, false, false};
}

void garble_x2apic() {
    const apic_base before = local_apic::base();
    if (!has_x2apic()) {
        tell("this processor has no x2APIC mode");
        return;
    }
    write_msr(apic_base::msr, before.with(apic_base::mode(apic_mode::x2apic)).raw);
    local_apic::enable(spurious_vector);
    const unsigned vectors =
        local_apic::read<local_apic_version>()[local_apic_version::max_lvt_entry] + 1U;
    unsigned wrong_reads = 0;
    unsigned wrong_writes = 0;
    for (std::uint32_t number = 0x800; number != 0x900; ++number) {
        const register_rights rights = rights_of(number, vectors);
        const auto value = try_read_msr(number);
        if (value.has_value() != rights.readable) {
            ++wrong_reads;
            tell("  MSR ", std::uint64_t{number}, rights.readable ? " cannot" : " can", " be read");
        }
        if (rights.writable) {
            continue;
        }
        if (!is_protected(try_write_msr(number, 0))) {
            ++wrong_writes;
            tell("  MSR ", std::uint64_t{number}, " can be written");
        }
    }
    check_equal(wrong_reads, 0,
                "MSRs 800 to 8FF are read where [sdm] says so, and fault elsewhere");
    check_equal(wrong_writes, 0, "and those that cannot be written fault");
    const auto msr = [](std::uint32_t offset) { return local_apic::msr_of(offset); };
    check(is_protected(try_write_msr(msr(eoi_offset), 1)), "EOI takes 0 and nothing else");
    check(is_protected(try_write_msr(msr(error_status::offset), 1)),
          "ESR takes 0 and nothing else");
    check(is_protected(try_write_msr(msr(task_priority::offset), 0x100)), "TPR has 8 bits");
    check(is_protected(try_write_msr(msr(task_priority::offset), std::uint64_t{1} << 32)),
          "bits 63 to 32 of a register of 32 bits are reserved");
    check(is_protected(try_write_msr(msr(initial_count_offset), std::uint64_t{1} << 32)),
          "so they are of the initial count");
    check(is_protected(try_write_msr(msr(spurious_interrupt_vector::offset), 0x8'01FF)),
          "and reserved bits of SVR");
    check(is_protected(try_write_msr(msr(lvt_timer_offset), std::uint64_t{1} << 19)),
          "and of the timer's entry");
    check(is_protected(try_write_msr(msr(divide_configuration::offset), 0x10)), "and of DCR");
    check(is_protected(try_write_msr(msr(self_ipi::offset), 0x100)), "and of SELF IPI");
    check(is_protected(try_write_msr(msr(interrupt_command::offset), 1U << 20)), "and of ICR");
    write_msr(msr(initial_count_offset), 0);

    random_numbers random{23};
    std::uint32_t taken_up = 0;
    for (unsigned i = 0; i != 4000; ++i) {
        const std::uint32_t number = 0x800 + random.below(0x100);
        const std::uint32_t few_bits = random();
        std::uint64_t value =
            random.below(2) == 0 ? static_cast<std::uint32_t>(with_free_vector(few_bits & random()))
                                 : with_free_vector(random.wide());
        if (number == msr(interrupt_command::offset)) {
            value = (value & ~std::uint64_t{0xFFFF'FFFF}) |
                    harmless_command(static_cast<std::uint32_t>(value));
        }
        taken_up += try_write_msr(number, value) ? 1 : 0;
        if (i % 16 == 0) {
            let_in_briefly();
        }
    }
    tell("4000 random writes: ", decimal{taken_up}, " taken");
    local_apic::enable(spurious_vector);
    for (unsigned i = 0; i != 256 && !local_apic::has_no_vector(in_service_offset); ++i) {
        local_apic::end_of_interrupt();
    }
    check(local_apic::has_no_vector(in_service_offset), "nothing is in service");
    write_msr(apic_base::msr, before.with(apic_base::mode(apic_mode::disabled)).raw);
    write_msr(apic_base::msr, before.raw);
    restore_interrupts();
}

} // namespace

void attack_apic_garbage(nic&) {
    garble_page();
    garble_commands();
    garble_base();
    garble_msrs_in_xapic_mode();
    garble_x2apic();
    forget_interrupts();
    pause_for(millisecond);
    check(taken(timer_vector) != 0, "the local APIC's timer works");
}

} // namespace guest
