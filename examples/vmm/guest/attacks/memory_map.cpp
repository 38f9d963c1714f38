// SPDX-License-Identifier: BSL-1.0
#include "../attempt.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

namespace guest {
namespace {

/// What is at a physical address: a device, or nothing.
struct seen_there {
    bool answers = false; ///< other than all zeros or all ones
    bool faulted = false;
};

template <class Word>
bool is_float(Word value) {
    return value == 0 || value == static_cast<Word>(~Word{0});
}

seen_there read_there(std::uint64_t physical) {
    volatile std::uint8_t* const place = static_cast<volatile std::uint8_t*>(window_to(physical));
    seen_there seen;
    seen.faulted = !attempt([&] {
        const std::uint8_t byte = *place;
        const std::uint16_t word = *reinterpret_cast<volatile std::uint16_t*>(place + 2);
        const std::uint32_t dword = *reinterpret_cast<volatile std::uint32_t*>(place + 4);
        const std::uint64_t qword = *reinterpret_cast<volatile std::uint64_t*>(place + 8);
        const std::uint32_t odd = *reinterpret_cast<volatile std::uint32_t*>(place + 17);
        seen.answers = !is_float(byte) || !is_float(word) || !is_float(dword) || !is_float(qword) ||
                       !is_float(odd);
    });
    return seen;
}

bool write_there(std::uint64_t physical) {
    volatile std::uint8_t* const place = static_cast<volatile std::uint8_t*>(window_to(physical));
    return attempt([&] {
        *place = 0xA5;
        *reinterpret_cast<volatile std::uint16_t*>(place + 2) = 0x5AA5;
        *reinterpret_cast<volatile std::uint32_t*>(place + 4) = 0xFFFF'FFFF;
        *reinterpret_cast<volatile std::uint64_t*>(place + 8) = ~std::uint64_t{0};
        *reinterpret_cast<volatile std::uint32_t*>(place + 17) = 0;
    });
}

/// Where a platform's devices, firmware and configuration space are: nothing is written there on a
/// bare machine.
bool is_platform(std::uint64_t physical) {
    return (physical >= 0xFEC0'0000 && physical < 4 * pt::GiB) ||
           (physical >= 0xB000'0000 && physical < 0xC000'0000) || physical < pt::MiB;
}

struct totals {
    std::uint32_t places = 0;
    std::uint32_t answers = 0;
    std::uint32_t faults = 0;
    std::uint32_t written = 0;
};

void try_there(std::uint64_t physical, totals& all) {
    if (is_ram(pt::gpa{physical}) || is_ram(pt::gpa{physical + 32})) {
        return;
    }
    const seen_there seen = read_there(physical);
    ++all.places;
    all.answers += seen.answers ? 1 : 0;
    all.faults += seen.faulted ? 1 : 0;
    const bool may_write = !is_bare() || (!seen.answers && !is_platform(physical));
    // The interrupt controllers have attacks of their own.
    if (may_write && !seen.faulted && physical / pt::MiB != 0xFEE && physical / pt::MiB != 0xFEC) {
        all.written += write_there(physical) ? 1 : 0;
    }
}

void say(const char* where, const totals& all) {
    tell(where, ": ", decimal{all.places}, " places, ", decimal{all.answers}, " answer, ",
         decimal{all.written}, " were written, ", decimal{all.faults}, " fault");
}

} // namespace

void attack_memory_map(nic& device) {
    device.turn_off();
    totals low;
    for (std::uint64_t at = 0xA'0000; at < pt::MiB; at += 4 * pt::KiB) {
        try_there(at, low);
    }
    say("below 1 MiB", low);

    totals middle;
    for (std::uint64_t at = end_of_ram().raw; at < 4 * pt::GiB - 64; at += 2 * pt::MiB) {
        try_there(at, middle);
        try_there(at + 2 * pt::MiB - 8, middle); // across the end of a large page
    }
    for (std::uint64_t at = 0xFE00'0000; at < 0xFF00'0000; at += 4 * pt::KiB) {
        try_there(at, middle);
    }
    say("from the end of RAM to 4 GiB", middle);

    const unsigned width = physical_width();
    totals high;
    for (unsigned bit = 32; bit != width; ++bit) {
        const std::uint64_t at = std::uint64_t{1} << bit;
        try_there(at, high);
        try_there(at - 64, high);
        try_there(at + at / 2 + 0x1000, high);
        try_there(at | 0xFEE0'0000, high); // what a table that forgets bits takes for the APIC
    }
    try_there((std::uint64_t{1} << width) - 64, high);
    say("from 4 GiB to the end of physical addresses", high);

    totals beyond;
    for (unsigned bit = width; bit < 52; ++bit) {
        try_there(std::uint64_t{1} << bit, beyond);
    }
    say("beyond them", beyond);
    if (beyond.places != 0) {
        check(beyond.faults == beyond.places &&
                  (beyond.places == 0 || (last_fault().error_code & 8) != 0),
              "beyond MAXPHYADDR each is a page fault for a reserved bit");
    }
    check(middle.faults == 0 && low.faults == 0, "no hole below 4 GiB faults");
    check(memory_is_intact(), "and none of them is the guest's memory");
}

} // namespace guest
