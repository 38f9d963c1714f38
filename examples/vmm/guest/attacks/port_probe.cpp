// SPDX-License-Identifier: BSL-1.0
#include "random.hpp"

#include "../attempt.hpp"
#include "../interrupts.hpp"
#include "../memory.hpp"
#include "../output.hpp"
#include "../variants.hpp"

#include "../../../kernel/output.hpp"
#include "../../../kernel/ports.hpp"

namespace guest {
namespace {

constexpr std::uint32_t all_ports = 0x1'0000;

/// Ports that a write must leave alone, because it is there that the guest itself ends, is reset,
/// or loses its voice: the exit port, the keyboard controller and the other two reset registers,
/// COM1, and configuration space, which has an attack of its own.
bool is_kept(std::uint32_t port) {
    const auto within = [port](std::uint32_t first, std::uint32_t last) {
        return port >= first && port <= last;
    };
    return within(0xF4, 0xF7) || port == 0x60 || port == 0x64 || port == 0x92 ||
           within(0x3F8, 0x3FF) || within(0xCF8, 0xCFF);
}
bool is_kept(std::uint32_t port, unsigned size) {
    for (unsigned i = 0; i != size; ++i) {
        if (is_kept((port + i) % all_ports)) {
            return true;
        }
    }
    return false;
}

pt::io_port at(std::uint32_t port) { return pt::io_port{static_cast<std::uint16_t>(port)}; }

void read_all() {
    kernel::ports io;
    std::uint32_t answered[3]{};
    for (std::uint32_t port = 0; port != all_ports; ++port) {
        answered[0] += io.in8(at(port)) != 0xFF ? 1 : 0;
        if (is_bare() && port > 0x3F4 && port < 0x400) {
            continue; // QEMU 7.2 ends itself when more than a byte is read from a part of COM1
        }
        answered[1] += io.in16(at(port)) != 0xFFFF ? 1 : 0;
        answered[2] += io.in32(at(port)) != 0xFFFF'FFFF ? 1 : 0;
    }
    tell("of 65536 ports read in 1, 2 and 4 bytes, ", decimal{answered[0]}, ", ",
         decimal{answered[1]}, " and ", decimal{answered[2]}, " did not float");
    check(true, "all of them were read");
}

void write_some() {
    kernel::ports io;
    random_numbers random{11};
    for (std::uint32_t port = 0; port != all_ports; ++port) {
        const unsigned size = 1U << port % 3;
        if (is_kept(port, size)) {
            continue;
        }
        // Not the bit by which a machine that has one goes to sleep [acpi].
        const std::uint32_t value = random() & ~0x2000'2000U;
        switch (size) {
        case 1: io.out8(at(port), static_cast<std::uint8_t>(value)); break;
        case 2: io.out16(at(port), static_cast<std::uint16_t>(value)); break;
        default: io.out32(at(port), value); break;
        }
    }
    kernel::start(kernel::serial_port::com1);
    restore_interrupts();
    check(true, "all of them but the kept ones were written");
}

alignas(4096) std::uint8_t buffer[3 * 4096];

struct string_io {
    std::uint8_t* memory;
    std::uint64_t count;
};

void in_bytes(std::uint16_t port, string_io& to) {
    asm volatile("rep insb" : "+D"(to.memory), "+c"(to.count) : "d"(port) : "memory");
}
void in_dwords(std::uint16_t port, string_io& to) {
    asm volatile("rep insl" : "+D"(to.memory), "+c"(to.count) : "d"(port) : "memory");
}
void out_bytes(std::uint16_t port, string_io& from) {
    asm volatile("rep outsb" : "+S"(from.memory), "+c"(from.count) : "d"(port) : "memory");
}
void out_words_backwards(std::uint16_t port, string_io& from) {
    asm volatile("std; rep outsw; cld"
                 : "+S"(from.memory), "+c"(from.count)
                 : "d"(port)
                 : "memory");
}

void check_strings() {
    constexpr std::uint16_t post = 0x80; // of the power-on self test: it takes everything
    constexpr std::uint32_t two_pages = 8192;
    string_io all{buffer + 100, two_pages};
    in_bytes(post, all);
    check(all.count == 0 && all.memory == buffer + 100 + two_pages,
          "8192 bytes by REP INS, across pages: counter and pointer are at the end");
    string_io none{buffer, 0};
    out_bytes(post, none);
    check(none.memory == buffer, "REP OUTS of nothing does nothing");
    string_io back{buffer + 8192, 4096};
    out_words_backwards(post, back);
    check(back.count == 0 && back.memory == buffer, "4096 words backwards end where they must");
    for (const std::uint32_t port : {0xFFFDU, 0xFFFEU, 0xFFFFU}) {
        kernel::ports io;
        static_cast<void>(io.in16(at(port)));
        static_cast<void>(io.in32(at(port)));
        string_io across{buffer, 16};
        in_dwords(static_cast<std::uint16_t>(port), across);
    }
    check(true, "accesses across port FFFF end");
    if (!is_bare()) {
        kernel::ports io;
        io.out32(at(0xFFFE), 0x1234'5678);
        io.out16(at(0xFFFF), 0x1234);
    }

    // The page behind the first one of these is not mapped: so many elements go, and the counter
    // says how many are left.
    std::uint8_t* const edge = unmapped_behind(buffer);
    string_io torn{edge - 16, 64};
    const bool survived = attempt([&] {
        asm volatile("rep insb" : "+D"(torn.memory), "+c"(torn.count) : "d"(post) : "memory");
    });
    check(!survived && last_fault().vector == page_fault &&
              last_fault().address == address_of(edge),
          "REP INS into an unmapped page faults there");
    string_io silent{edge - 7, 8};
    const bool sent = attempt([&] { out_bytes(post, silent); });
    check(!sent && last_fault().vector == page_fault && last_fault().address == address_of(edge),
          "REP OUTS from one, too");
}

} // namespace

void attack_port_probe(nic& device) {
    device.turn_off();
    read_all();
    check_strings();
    if (is_bare()) {
        tell("bare: nothing is written, since it would reach the machine's own devices");
    } else {
        write_some();
        read_all();
    }
    clock time;
    const std::uint64_t begun = time.now();
    pause_for(millisecond);
    check(time.now() > begun, "interrupts and time go on");
}

} // namespace guest
