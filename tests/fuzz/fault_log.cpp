// SPDX-License-Identifier: BSL-1.0
//
// The fault log of a unit whose every register reads as it pleases, anew each time, and the limiter
// behind it. Whatever the unit says: no access outside its window, a bounded number of them, and no
// more reports than were allowed.
#include "pt/vtd/fault_log.hpp"
#include "pt/vtd/fault_limiter.hpp"

#include <cstddef>
#include <cstdint>

namespace {

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

struct hostile_unit {
    const std::uint8_t* data;
    std::size_t size;
    std::size_t accesses = 0;
    bool opened = false;
    std::uint64_t cap = 0;
    std::uint64_t time = 0;

    std::uint64_t next(unsigned bytes) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < bytes; ++i) {
            if (size != 0) {
                value |= std::uint64_t{*data++} << 8 * i;
                --size;
            }
        }
        return value;
    }
    void access(std::uint32_t at, unsigned bytes) {
        ++accesses;
        demand(at % bytes == 0 && at + bytes <= 0x2000);
        if (opened && at != 0x34) { // FSTS, or one of the fault recording registers
            const std::uint64_t first = (cap >> 24 & 0x3FF) * 16;
            demand(at >= first && at < first + ((cap >> 40 & 0xFF) + 1) * 16);
        }
    }
};

struct hostile_registers {
    hostile_unit* unit;

    std::uint32_t read32(std::uint32_t at) {
        unit->access(at, 4);
        return at == 0 ? 0x10 : static_cast<std::uint32_t>(unit->next(4));
    }
    std::uint64_t read64(std::uint32_t at) {
        unit->access(at, 8);
        if (at == 0x08) { // 1 to 256 records at 0x220
            return unit->cap = 0x00d2'008c'222f'0606 | unit->next(1) << 40;
        }
        return at == 0x10 ? 0xF00F4A : unit->next(8);
    }
    void write32(std::uint32_t at, std::uint32_t value) {
        unit->access(at, 4);
        demand(at == 0x34 ? value == 1 : value == 0x8000'0000 && at % 16 == 12);
    }
    void write64(std::uint32_t, std::uint64_t) { demand(false); }
};

struct fuzz_clock {
    hostile_unit* unit;
    std::uint64_t now() { return unit->time; }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    hostile_unit unit{data, size};
    const auto window = pt::vtd::register_window<hostile_registers, fuzz_clock>::open(
        hostile_registers{&unit}, 0x2000, fuzz_clock{&unit});
    demand(window.has_value());
    unit.opened = true;
    pt::vtd::fault_log log{*window, 3};
    pt::vtd::fault_limiter<fuzz_clock, 3> limiter{{&unit},
                                                  {.interval = 16, .burst = 2, .total = 5}};
    while (unit.size != 0) {
        const std::size_t before = unit.accesses;
        unsigned reported = 0;
        unsigned seen = 0;
        const unsigned taken = log.drain(7, [&](const pt::vtd::fault_record& fault) {
            ++seen;
            demand(fault.source.segment == 3 && fault.source.valid());
            demand(fault.has_pasid || (fault.pasid == 0 && !fault.execute && !fault.privileged));
            demand(fault.pasid < 1U << 20 && (fault.page.raw & 0xFFF) == 0);
            demand(pt::vtd::name(fault.reason)[0] != '\0');
            reported += limiter.admit(fault.source) == pt::vtd::fault_verdict::report;
        });
        demand(taken == seen && taken <= 7 && reported <= 5);
        demand(unit.accesses - before <= 8 * (256 + 4));
        (void)log.take_overflow();
        unit.time += 16 + unit.next(1);
    }
    return 0;
}
