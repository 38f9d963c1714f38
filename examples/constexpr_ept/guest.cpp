// SPDX-License-Identifier: BSL-1.0
//
// A guest whose page tables the compiler builds, audits and translates: a wrong one is no program.
// What is left of it in the kernel is seven frames of read-only data and two numbers; no code runs
// to make them. The guest has 64 MiB of RAM and the registers of one device, and the device reaches
// that RAM.

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/range.hpp"
#include "pt/memory/arena.hpp"
#include "pt/memory/table_image.hpp"
#include "pt/paging/audit.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/frame_set.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/table_reader.hpp"
#include "pt/paging/translate.hpp"
#include "pt/paging/vtd_second_stage.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using namespace pt;

/// Where the boot loader puts the tables. kernel.ld has it from here; see place_tables().
constexpr hpa base{0x20'0000};
constexpr std::size_t tables = 7;

/// What every processor and remapping unit on which this kernel runs must have at least: a walk of
/// four levels in write-back memory and pages of 2 MiB; three levels and pages of 2 MiB. Addresses
/// of more than 36 bits are not used.
constexpr ept::capabilities required{std::uint64_t{1} << 6 | 1 << 14 | 1 << 16};
constexpr ept::format processor{required, 36};
constexpr vtd::second_stage::format unit{{.levels = 3,
                                          .input_width = 39,
                                          .output_width = 36,
                                          .largest_page = paging::page_size::size_2m}};

constexpr range<gpa> ram{gpa{0}, 64 * MiB};
constexpr hpa ram_at{0x1'0000'0000};
constexpr range<gpa> registers{gpa{0xFEB0'0000}, 16 * KiB};
constexpr hpa registers_at{0xDF20'0000};

struct guest {
    table_image<tables> image;
    hpa ept_root;
    hpa dma_root;
};

constexpr guest built() {
    arena<tables> frames{base};
    paging::table cpu{frames.memory(), processor};
    paging::table dma{frames.memory(), unit};

    expects(cpu.map(ram, ram_at, ept::ram).has_value(), "RAM");
    expects(cpu.map(registers, registers_at, ept::device_memory).has_value(), "registers");
    expects(dma.map({iova{ram.first().raw}, ram.size()}, ram_at, vtd::second_stage::read_write)
                .has_value(),
            "what the device reaches");

    const hpa ept_root = *cpu.detach();
    const hpa dma_root = *dma.detach();
    return {frames.image(), ept_root, dma_root};
}
constexpr guest small_guest = built();

constexpr table_image<tables> guest_tables [[gnu::used, gnu::section(".rodata.guest_tables")]] =
    small_guest.image;
constexpr ept::pointer eptp = *processor.eptp(small_guest.ept_root);
constexpr hpa dma_root = small_guest.dma_root;

// ------------------------------------------------------------------------------ where it all leads

constexpr range<hpa> own_frames{base, guest_tables.size};
constexpr paging::image_reader reader{own_frames, guest_tables.entries};

constexpr auto for_cpu(std::uint64_t address) {
    return translate(processor, reader, small_guest.ept_root, gpa{address});
}
constexpr auto for_device(std::uint64_t address) {
    return translate(unit, reader, dma_root, iova{address});
}
static_assert(for_cpu(0x12'3456)->output == ram_at + 0x12'3456);
static_assert(for_cpu(64 * MiB - 1)->attributes == ept::ram);
static_assert(for_cpu(64 * MiB).error().code == errc::not_mapped);
static_assert(for_cpu(0xFEB0'0018)->output == registers_at + 0x18);
static_assert(for_cpu(0xFEB0'0018)->attributes == ept::device_memory);
static_assert(for_device(0x12'3456)->output == for_cpu(0x12'3456)->output);
static_assert(for_device(0xFEB0'0018).error().code == errc::not_mapped);

/// No entry that hardware refuses; every table is used once; all frames are tables; and neither the
/// guest nor its device reaches one of them.
constexpr bool is_sound() {
    const auto silent = [](const paging::finding&) {};
    std::uint64_t seen[1]{};
    std::uint64_t again[1]{};
    const paging::frame_bitmap first{own_frames, seen};
    const paging::frame_bitmap second{own_frames, again};
    const auto cpu = audit(processor, reader, small_guest.ept_root, first, silent);
    const auto dma = audit(unit, reader, dma_root, first, silent);
    return cpu.clean() && cpu.mapped() == ram.size() + registers.size() && //
           dma.clean() && dma.mapped() == ram.size() &&                    //
           cpu.tables + dma.tables == tables &&
           audit_reach(processor, reader, small_guest.ept_root, second, first, silent).clean() &&
           audit_reach(unit, reader, dma_root, second, first, silent).clean();
}
static_assert(is_sound());

// ----------------------------------------------------------------------- what is left for run time

std::uint64_t read_msr(std::uint32_t index) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return std::uint64_t{high} << 32 | low;
}
bool vmwrite(std::uint64_t field, std::uint64_t value) {
    bool failed = false;
    asm volatile("vmwrite %1, %2" : "=@ccbe"(failed) : "r"(value), "r"(field));
    return !failed;
}

/// Tells the linker `base`, so that tables and linker script cannot differ. No instruction.
[[gnu::used]] void place_tables() {
    asm volatile(".globl guest_tables_base\n.set guest_tables_base, %c0" : : "i"(base.raw));
}

} // namespace

/// With the guest's VMCS current. False if this processor is not what the tables were made for.
extern "C" bool give_tables_to_guest() {
    constexpr std::uint32_t ia32_vmx_ept_vpid_cap = 0x48C;
    constexpr std::uint64_t ept_pointer = 0x201A;
    return (~read_msr(ia32_vmx_ept_vpid_cap) & required.raw) == 0 && vmwrite(ept_pointer, eptp.raw);
}

/// The second-stage pointer for the device's context entry.
extern "C" std::uint64_t device_tables() { return dma_root.raw; }
