// SPDX-License-Identifier: BSL-1.0
#include "kernel.hpp"

#include "interrupts.hpp"

#include "pt/core/contract.hpp"
#include "pt/pci/header.hpp"

extern "C" {
extern const kernel::subject subjects_start[];
extern const kernel::subject subjects_end[];
}

namespace kernel {
namespace {

// ----------------------------------------------------------------------------- output and end

constexpr pt::io_port serial{0x3F8};
constexpr pt::io_port serial_divisor_high{0x3F9};
constexpr pt::io_port serial_line_control{0x3FB};
constexpr pt::io_port serial_line_status{0x3FD};
constexpr pt::io_port debug_exit{0xF4};
constexpr pt::io_port bochs_shutdown{0x8900};

/// What QEMU makes of these: exit status 2 * code + 1. Bochs has no such thing.
enum class exit_code : std::uint32_t { passed = 0, failed = 1 };

unsigned checks = 0;
unsigned failures = 0;
const char* part[2] = {};

/// 115200 bits a second, 8 of them a character, no parity, one stop bit. QEMU does not mind; Bochs
/// would send 5 of them.
void start_output() {
    ports io;
    constexpr std::uint8_t divisor_access = 0x80;
    constexpr std::uint8_t eight_bits = 0x03;
    io.out8(serial_line_control, divisor_access);
    io.out8(serial, 1);
    io.out8(serial_divisor_high, 0);
    io.out8(serial_line_control, eight_bits);
}

void put(char character) {
    ports io;
    while ((io.in8(serial_line_status) & 0x20) == 0) { // transmitter holding register not empty
    }
    io.out8(serial, static_cast<std::uint8_t>(character));
}

void print_decimal(unsigned number) {
    if (number >= 10) {
        print_decimal(number / 10);
    }
    put(static_cast<char>('0' + number % 10));
}

[[noreturn]] void end(exit_code code) {
    ports io;
    while ((io.in8(serial_line_status) & 0x40) == 0) { // the transmitter still sends
    }
    io.out32(debug_exit, static_cast<std::uint32_t>(code)); // QEMU ends here
    for (const char* letter = "Shutdown"; *letter != '\0'; ++letter) {
        io.out8(bochs_shutdown, static_cast<std::uint8_t>(*letter));
    }
    for (;;) {
        asm volatile("cli; hlt");
    }
}

[[noreturn]] void contract_broken(const pt::contract_violation& broken) noexcept {
    print(broken.file);
    print(":");
    print_decimal(static_cast<unsigned>(broken.line));
    print("\n");
    give_up(broken.what);
}

// ------------------------------------------------------------------------------- command line

/// What a multiboot loader passes: of it all, the two fields that the kernel uses.
struct multiboot_information {
    std::uint32_t flags;
    std::uint32_t not_used[3];
    std::uint32_t command_line;
};
constexpr std::uint32_t multiboot_loader = 0x2BAD'B002;
constexpr std::uint32_t has_command_line = 1U << 2;

const char* command_line = "";

/// If `text` begins with `word`, what comes after it.
const char* after(const char* text, const char* word) {
    for (; *word != '\0'; ++text, ++word) {
        if (*text != *word) {
            return nullptr;
        }
    }
    return text;
}

bool ends_word(char character) { return character == ' ' || character == '\0'; }

/// What stands behind `start` in the word of the command line that begins with it.
const char* find_word(const char* start) {
    for (const char* at = command_line; *at != '\0'; ++at) {
        const char* const rest = after(at, start);
        if (rest != nullptr && (at == command_line || at[-1] == ' ')) {
            return rest;
        }
    }
    return nullptr;
}

void run_subject() {
    const char* const wanted = find_word("subject=");
    if (wanted == nullptr) {
        give_up("the command line has no subject=NAME");
    }
    for (const subject* each = subjects_start; each != subjects_end; ++each) {
        const char* const rest = after(wanted, each->name);
        if (rest != nullptr && ends_word(*rest)) {
            each->run();
            return;
        }
    }
    give_up("there is no subject of that name");
}

// ------------------------------------------------------------------------------------- memory

// The machine has 256 MiB. The kernel ends below 4 MiB (kernel.ld); SeaBIOS keeps its tables at the
// end of RAM.
constexpr pt::range<pt::hpa> small_frames_region{pt::hpa{4 * pt::MiB}, 60 * pt::MiB};
constinit frames small_frames{small_frames_region, {}};
std::uint64_t frames_for_good = 0;
pt::hpa next_large_frame{64 * pt::MiB};
constexpr pt::hpa last_large_frame{190 * pt::MiB};

constexpr std::uint8_t pattern(std::uint64_t index, std::uint8_t seed) {
    const auto mixed = static_cast<std::uint8_t>(index * 37 + (index >> 8) * 11 + seed);
    return mixed == 0 ? 0xA5 : mixed;
}

// ------------------------------------------------------------------------------ HPET and ACPI

constexpr pt::hpa hpet_base{0xFED0'0000};
constexpr std::uint32_t hpet_period = 0x04; ///< femtoseconds
constexpr std::uint32_t hpet_configuration = 0x10;
constexpr std::uint32_t hpet_counter = 0xF0;

std::uint32_t dword_at(std::uint64_t place) {
    const auto* const raw = pointer_to<const std::uint8_t>(pt::hpa{place});
    return raw[0] | static_cast<std::uint32_t>(raw[1]) << 8 |
           static_cast<std::uint32_t>(raw[2]) << 16 | static_cast<std::uint32_t>(raw[3]) << 24;
}

bool is_there(std::uint64_t place, const char* signature) {
    return after(pointer_to<const char>(pt::hpa{place}), signature) != nullptr;
}

} // namespace

void print(const char* text) {
    for (; *text != '\0'; ++text) {
        put(*text);
    }
}

void print(std::uint64_t number) {
    print("0x");
    int shift = 60;
    while (shift > 0 && number >> shift == 0) {
        shift -= 4;
    }
    for (; shift >= 0; shift -= 4) {
        put("0123456789abcdef"[number >> shift & 0xF]);
    }
}

void begin_part(const char* words, const char* more) {
    part[0] = words;
    part[1] = more;
}

bool report(const char* name, bool holds) {
    ++checks;
    if (!holds) {
        ++failures;
    }
    print(holds ? "ok " : "FAILED ");
    for (const char* const words : part) {
        if (words != nullptr) {
            print(words);
            print(", ");
        }
    }
    print(name);
    if (!holds) {
        print(": ");
    }
    return holds;
}

bool check_equal(const char* name, std::uint64_t got, std::uint64_t expected) {
    const bool holds = got == expected;
    if (!report(name, holds)) {
        print(got);
        print(" where ");
        print(expected);
        print(" is expected");
    }
    print("\n");
    return holds;
}

bool told(const char* word) {
    const char* const rest = find_word(word);
    return rest != nullptr && ends_word(*rest);
}

void give_up(const char* why) {
    print("gave up: ");
    print(why);
    print("\n");
    end(exit_code::failed);
}

std::uint64_t clock::now() {
    mmio hpet{hpet_base};
    static const std::uint64_t period = hpet.read32(hpet_period);
    for (;;) {
        // The counter has 64 bits, and QEMU takes dwords only.
        const std::uint64_t high = hpet.read32(hpet_counter + 4);
        const std::uint64_t low = hpet.read32(hpet_counter);
        if (hpet.read32(hpet_counter + 4) == high) {
            return (high << 32 | low) * period / 1'000'000;
        }
    }
}

frames& all_frames() { return small_frames; }

pt::hpa take_frame() {
    const pt::result<pt::hpa> frame = memory().allocate(pt::frame_contents::zeroed);
    if (!frame) {
        give_up("no frame is left");
    }
    ++frames_for_good;
    return *frame;
}

std::uint64_t frames_in_use() {
    return small_frames_region.size() / (4 * pt::KiB) - small_frames.free_frames() -
           frames_for_good;
}

pt::hpa take_large_frame() {
    if (next_large_frame > last_large_frame) {
        give_up("no large frame is left");
    }
    const pt::hpa frame = next_large_frame;
    next_large_frame += 2 * pt::MiB;
    __builtin_memset(pointer_to<void>(frame), 0, 2 * pt::MiB);
    return frame;
}

void fill(pt::hpa place, std::uint64_t size, std::uint8_t seed) {
    for (std::uint64_t i = 0; i < size; ++i) {
        *pointer_to<volatile std::uint8_t>(place + i) = pattern(i, seed);
    }
}

bool is_filled(pt::hpa place, std::uint64_t size, std::uint8_t seed) {
    for (std::uint64_t i = 0; i < size; ++i) {
        if (*pointer_to<volatile std::uint8_t>(place + i) != pattern(i, seed)) {
            return false;
        }
    }
    return true;
}

bool is_zero(pt::hpa place, std::uint64_t size) {
    for (std::uint64_t i = 0; i < size; ++i) {
        if (*pointer_to<volatile std::uint8_t>(place + i) != 0) {
            return false;
        }
    }
    return true;
}

bytes acpi_table(const char* signature) {
    // The root system description pointer lies on a 16-byte boundary of the BIOS area; the table
    // that it points to lists the others, by 32-bit addresses, after a header of 36 bytes [acpi].
    for (std::uint64_t root = 0xE'0000; root < 0x10'0000; root += 16) {
        if (!is_there(root, "RSD PTR ")) {
            continue;
        }
        const std::uint64_t list = dword_at(root + 16);
        for (std::uint64_t at = list + 36; at + 4 <= list + dword_at(list + 4); at += 4) {
            const std::uint64_t table = dword_at(at);
            if (is_there(table, signature)) {
                return {pointer_to<const std::byte>(pt::hpa{table}), dword_at(table + 4)};
            }
        }
    }
    return {};
}

ecam_config ecam() {
    // PCIEXBAR of q35's host bridge: the window has 256 buses, and bit 0 turns it on.
    port_config ports = config();
    const std::uint32_t base = ports.read({}, 0x60, pt::width::dword);
    if ((base & 1) == 0) {
        give_up("firmware has not turned the window of configuration space on");
    }
    return ecam_config{mmio{pt::hpa{base & 0xF000'0000U}}};
}

pt::result<mmio> open_function(pt::pci::function_address function) {
    namespace pci = pt::pci;
    using pci::command;
    port_config access = config();
    for (const pt::result<pci::bar>& held : pci::read_bars(access, function)) {
        if (held && held->index == 0 && held->kind != pci::bar_kind::io && held->address != 0) {
            pci::write(access, function,
                       pci::read<command>(access, function)
                           .with(command::memory_space(true), command::bus_master(true)));
            return mmio{pt::hpa{held->address}};
        }
    }
    return pt::error{pt::errc::absent, function.source_id()};
}

} // namespace kernel

extern "C" {

/// Where boot.S goes, with what a multiboot loader leaves in EAX and EBX.
[[noreturn]] void kernel_main(std::uint32_t loader, std::uint32_t information) {
    using namespace kernel;
    start_output();
    pt::on_contract_violation = contract_broken;
    mmio{hpet_base}.write32(hpet_configuration, 1); // the main counter runs
    start_interrupts();

    const auto* const passed = pointer_to<const multiboot_information>(pt::hpa{information});
    if (loader != multiboot_loader || (passed->flags & has_command_line) == 0) {
        give_up("not started by a multiboot loader with a command line");
    }
    command_line = pointer_to<const char>(pt::hpa{passed->command_line});
    run_subject();

    // The runner counts the checks too, so that none is lost on the way.
    print("end of ");
    print_decimal(checks);
    print(" checks\n");
    end(failures == 0 ? exit_code::passed : exit_code::failed);
}

// What compilers call on their own, even for freestanding code [gcc, "Standards"].

void* memcpy(void* to, const void* from, std::size_t size) {
    void* const start = to;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

void* memmove(void* to, const void* from, std::size_t size) {
    auto* const target = static_cast<std::uint8_t*>(to);
    const auto* const source = static_cast<const std::uint8_t*>(from);
    if (target <= source || target >= source + size) {
        return memcpy(to, from, size);
    }
    const void* last_from = source + size - 1;
    void* last_to = target + size - 1;
    asm volatile("std; rep movsb; cld" : "+D"(last_to), "+S"(last_from), "+c"(size) : : "memory");
    return to;
}

void* memset(void* to, int value, std::size_t size) {
    void* const start = to;
    asm volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

int memcmp(const void* a, const void* b, std::size_t size) {
    const auto* const first = static_cast<const volatile std::uint8_t*>(a);
    const auto* const second = static_cast<const volatile std::uint8_t*>(b);
    for (std::size_t i = 0; i < size; ++i) {
        if (first[i] != second[i]) {
            return first[i] < second[i] ? -1 : 1;
        }
    }
    return 0;
}

} // extern "C"
