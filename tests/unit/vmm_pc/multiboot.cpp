// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/multiboot.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace {

namespace pc = vmm::pc;
using pc::multiboot_error;
using bytes = std::vector<std::uint8_t>;

constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;

/// A guest with 640 KiB, a reserved piece for tables, and 3 MiB from 1 MiB on; around each piece there
/// are bytes that nobody may touch.
struct guest {
    static constexpr std::size_t guard = 4096;
    bytes low = bytes(640 * kib + 2 * guard, 0xA5);
    bytes tables = bytes(128 * kib + 2 * guard, 0xA5);
    bytes high = bytes(3 * mib + 2 * guard, 0xA5);
    pc::ram_piece pieces[3] = {
        {{pt::gpa{0}, 640 * kib}, low.data() + guard, pc::memory_kind::available},
        {{pt::gpa{0xE'0000}, 128 * kib}, tables.data() + guard, pc::memory_kind::reserved},
        {{pt::gpa{mib}, 3 * mib}, high.data() + guard, pc::memory_kind::available},
    };
    pc::guest_ram ram{pieces, 3};

    std::uint8_t at(std::uint64_t address) const {
        std::uint8_t byte = 0;
        ram.read(pt::gpa{address}, &byte, 1);
        return byte;
    }
    std::uint32_t dword(std::uint64_t address) const {
        return at(address) | static_cast<std::uint32_t>(at(address + 1)) << 8 |
               static_cast<std::uint32_t>(at(address + 2)) << 16 |
               static_cast<std::uint32_t>(at(address + 3)) << 24;
    }
    std::string text(std::uint64_t address) const {
        std::string found;
        for (; at(address) != 0; ++address) {
            found += static_cast<char>(at(address));
        }
        return found;
    }
    bool is_unharmed_outside() const {
        for (const bytes* memory : {&low, &tables, &high}) {
            for (std::size_t i = 0; i != guard; ++i) {
                if ((*memory)[i] != 0xA5 || (*memory)[memory->size() - 1 - i] != 0xA5) {
                    return false;
                }
            }
        }
        return std::all_of(tables.begin(), tables.end(), [](auto byte) { return byte == 0xA5; });
    }

    pc::multiboot_kernel load(const bytes& file, const char* words = "",
                              const std::vector<pc::multiboot_module>& modules = {}) {
        return pc::multiboot_loader{ram}.load({file.data(), file.size()}, words, modules.data(),
                                              static_cast<std::uint32_t>(modules.size()));
    }
};

void put(bytes& file, std::size_t at, std::uint64_t value, unsigned size) {
    file.resize(std::max(file.size(), at + size));
    for (unsigned i = 0; i != size; ++i) {
        file[at + i] = static_cast<std::uint8_t>(value >> 8 * i);
    }
}
void put_header(bytes& file, std::size_t at, std::uint32_t flags) {
    put(file, at, 0x1BADB002, 4);
    put(file, at + 4, flags, 4);
    put(file, at + 8, 0U - 0x1BADB002U - flags, 4);
}

struct program_header {
    std::uint64_t offset, virtual_address, physical_address, file_size, memory_size;
    std::uint32_t type = 1;
};

/// An executable ELF file by the ELF specification, with a multiboot header at 0x800.
bytes elf(unsigned bits, std::uint64_t entry, const std::vector<program_header>& headers,
          std::uint32_t flags = 3, std::size_t size = 0x3000) {
    bytes file(size);
    for (std::size_t i = 0; i != size; ++i) {
        file[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
    }
    const bool wide = bits == 64;
    const unsigned word = wide ? 8 : 4;
    const bytes identification{0x7F, 'E', 'L', 'F', static_cast<std::uint8_t>(wide ? 2 : 1), 1, 1};
    std::fill_n(file.begin(), 0x800, std::uint8_t{0});
    std::copy(identification.begin(), identification.end(), file.begin());
    put(file, 16, 2, 2);
    put(file, 18, wide ? 62 : 3, 2);
    put(file, 20, 1, 4);
    put(file, 24, entry, word);
    put(file, 24 + word, 0x40, word);
    const std::size_t sizes = 24 + 3 * word + 4;
    put(file, sizes, wide ? 64 : 52, 2);
    put(file, sizes + 2, wide ? 56 : 32, 2);
    put(file, sizes + 4, headers.size(), 2);
    std::size_t at = 0x40;
    for (const program_header& each : headers) {
        put(file, at, each.type, 4);
        const std::size_t first = at + (wide ? 8 : 4);
        const std::uint64_t fields[] = {each.offset, each.virtual_address, each.physical_address,
                                        each.file_size, each.memory_size};
        for (unsigned i = 0; i != 5; ++i) {
            put(file, first + i * word, fields[i], word);
        }
        at += wide ? 56 : 32;
    }
    put_header(file, 0x800, flags);
    return file;
}

} // namespace

TEST_CASE("ELF segments lie at their physical addresses, and what they have not in the file is 0",
          "[vmm_pc][multiboot]") {
    for (const unsigned bits : {32U, 64U}) {
        guest to;
        const bytes file =
            elf(bits, 0xC010'0010,
                {{0x0800, 0xC010'0000, 0x10'0000, 0x300, 0x300},
                 {0x1000, 0xC010'2000, 0x10'2000, 0x800, 0x1800},
                 {0x1000, 0xC020'0000, 0x20'0000, 0x800, 0x800, 6 /* PT_PHDR: not loaded */}});
        const auto kernel = to.load(file);
        INFO(pc::explain(kernel.error) << " at " << kernel.where);
        REQUIRE(kernel);
        CHECK(kernel.entry == 0x10'0010); // by the segment that it lies in
        for (std::uint64_t i = 0; i != 0x300; ++i) {
            REQUIRE(to.at(0x10'0000 + i) == file[0x800 + i]);
        }
        for (std::uint64_t i = 0; i != 0x1800; ++i) {
            REQUIRE(to.at(0x10'2000 + i) == (i < 0x800 ? file[0x1000 + i] : 0));
        }
        CHECK(to.at(0x20'0000) == 0xA5);
        CHECK(to.is_unharmed_outside());
    }
}

TEST_CASE("address fields say where the file lies", "[vmm_pc][multiboot]") {
    guest to;
    bytes file(0x2000);
    for (std::size_t i = 0; i != file.size(); ++i) {
        file[i] = static_cast<std::uint8_t>(i ^ i >> 8);
    }
    put_header(file, 0x104, 1U << 16);
    put(file, 0x104 + 12, 0x10'0004, 4); // the header's address
    put(file, 0x104 + 16, 0x10'0000, 4); // so loading begins 4 bytes before the header
    put(file, 0x104 + 20, 0x10'0800, 4);
    put(file, 0x104 + 24, 0x10'1800, 4);
    put(file, 0x104 + 28, 0x10'0040, 4);
    const auto kernel = to.load(file);
    REQUIRE(kernel);
    CHECK(kernel.entry == 0x10'0040);
    for (std::uint64_t i = 0; i != 0x1800; ++i) {
        REQUIRE(to.at(0x10'0000 + i) == (i < 0x800 ? file[0x100 + i] : 0));
    }
    put(file, 0x104 + 20, 0, 4); // to the end of the file, and no BSS
    put(file, 0x104 + 24, 0, 4);
    REQUIRE(to.load(file));
    CHECK(to.at(0x10'0000 + file.size() - 0x100 - 1) == file.back());
}

TEST_CASE("the information is what the specification says", "[vmm_pc][multiboot]") {
    guest to;
    const bytes first(5000, 0x11);
    const bytes second(1, 0x22);
    const auto kernel =
        to.load(elf(32, 0x10'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x5123}}), "kernel a=b",
                {{{first.data(), first.size()}, "one 1"}, {{second.data(), second.size()}, ""}});
    REQUIRE(kernel);
    const std::uint32_t info = kernel.information;
    CHECK(info >= 0x10'5123);
    CHECK((to.dword(info) & 0x24D) == 0x24D);
    CHECK(to.dword(info + 4) == 640);
    CHECK(to.dword(info + 8) == 3 * 1024);
    CHECK(to.text(to.dword(info + 16)) == "kernel a=b");
    CHECK(to.text(to.dword(info + 64)) == "pt");
    REQUIRE(to.dword(info + 20) == 2);
    const std::uint32_t modules = to.dword(info + 24);
    const std::uint32_t one = to.dword(modules);
    CHECK(one % 4096 == 0);
    CHECK(to.dword(modules + 4) - one == 5000);
    CHECK(to.at(one) == 0x11);
    CHECK(to.at(one + 4999) == 0x11);
    CHECK(to.text(to.dword(modules + 8)) == "one 1");
    const std::uint32_t two = to.dword(modules + 16);
    CHECK(two % 4096 == 0);
    CHECK(two >= one + 5000);
    CHECK(to.at(two) == 0x22);
    CHECK(to.dword(modules + 20) - two == 1);

    const std::uint32_t map = to.dword(info + 48);
    REQUIRE(to.dword(info + 44) == 3 * 24);
    const std::uint64_t expected[3][3] = {
        {0, 640 * kib, 1}, {0xE'0000, 128 * kib, 2}, {mib, 3 * mib, 1}};
    for (unsigned i = 0; i != 3; ++i) {
        CHECK(to.dword(map + 24 * i) == 20);
        CHECK(to.dword(map + 24 * i + 4) == expected[i][0]);
        CHECK(to.dword(map + 24 * i + 8) == 0);
        CHECK(to.dword(map + 24 * i + 12) == expected[i][1]);
        CHECK(to.dword(map + 24 * i + 16) == 0);
        CHECK(to.dword(map + 24 * i + 20) == expected[i][2]);
    }
    CHECK(to.is_unharmed_outside());
}

TEST_CASE("a kernel in low memory finds its information above 1 MiB", "[vmm_pc][multiboot]") {
    guest to;
    const auto kernel =
        to.load(elf(32, 0x1000, {{0x800, 0x1000, 0x1000, 0x400, 0x9'F000 - 0x1000}}), "low");
    REQUIRE(kernel);
    CHECK(kernel.information == 0x10'0000);
    CHECK(to.text(to.dword(kernel.information + 16)) == "low");
}

TEST_CASE("what is no kernel is refused with its reason", "[vmm_pc][multiboot]") {
    const auto good = elf(32, 0x10'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x400}});
    const auto why = [](const bytes& file, const std::vector<pc::multiboot_module>& modules = {}) {
        guest to;
        const auto kernel = to.load(file, "", modules);
        CHECK(to.is_unharmed_outside());
        return kernel.error;
    };
    REQUIRE(why(good) == multiboot_error::none);
    CHECK(why({}) == multiboot_error::no_header);
    CHECK(why(bytes(100'000)) == multiboot_error::no_header);

    auto file = good;
    put(file, 0x808, 0, 4); // the checksum
    CHECK(why(file) == multiboot_error::no_header);
    file = good;
    put_header(file, 0x800, 7); // a video mode is required
    CHECK(why(file) == multiboot_error::unknown_flag);
    put_header(file, 0x800, 1U << 15);
    CHECK(why(file) == multiboot_error::unknown_flag);
    put_header(file, 0x800, 1U << 17); // optional, as all above bit 15
    CHECK(why(file) == multiboot_error::none);
    file = bytes(0x4000);
    put_header(file, 8192 - 8, 3); // its end is beyond 8 KiB
    CHECK(why(file) == multiboot_error::no_header);
    file = bytes(0x20);
    put_header(file, 0x10, 1U << 16);
    CHECK(why(file) == multiboot_error::header_cut_off);

    file = good;
    put(file, 18, 40, 2); // for another processor
    CHECK(why(file) == multiboot_error::no_elf);
    file = good;
    put(file, 16, 3, 2); // not an executable
    CHECK(why(file) == multiboot_error::no_elf);
    file = good;
    put(file, 28, 0xFFFF'FFF0, 4); // the program headers are outside
    CHECK(why(file) == multiboot_error::bad_elf);
    file = good;
    put(file, 44, 0xFFFF, 2);
    CHECK(why(file) == multiboot_error::bad_elf);
    CHECK(why(elf(32, 0x10'0000, {{0x2F00, 0x10'0000, 0x10'0000, 0x400, 0x400}})) ==
          multiboot_error::bad_elf);
    CHECK(why(elf(64, 0x10'0000, {{~std::uint64_t{0}, 0x10'0000, 0x10'0000, 2, 2}})) ==
          multiboot_error::bad_elf);
    CHECK(why(elf(32, 0x10'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x3FF}})) ==
          multiboot_error::bad_elf);

    for (const std::uint64_t to :
         {0xA'0000U, 0x9'FFF0U, 0xE'0000U, 0xF'FFF0U, 0x40'0000U, 0x3F'FFF0U}) {
        CHECK(why(elf(32, to, {{0x800, to, to, 0x400, 0x400}})) == multiboot_error::outside_memory);
    }
    CHECK(why(elf(64, 0x10'0000, {{0x800, 0, ~std::uint64_t{0} - 8, 0x400, 0x400}})) ==
          multiboot_error::outside_memory);
    CHECK(why(elf(64, 0x10'0000, {{0x800, 0, 0x10'0000, 0x400, ~std::uint64_t{0}}})) ==
          multiboot_error::outside_memory);
    CHECK(why(elf(32, 0x10'0000, {})) == multiboot_error::nothing_loaded);
    CHECK(why(elf(32, 0x20'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x400}})) ==
          multiboot_error::bad_entry);
    CHECK(why(elf(32, 0x10'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 3 * mib}})) ==
          multiboot_error::no_room);
    const bytes large(3 * mib);
    CHECK(why(good, {{{large.data(), large.size()}, ""}}) == multiboot_error::no_room);

    // Each fits, but there is no end to them.
    std::vector<program_header> many(40, {0x800, 0x10'0000, 0x10'0000, 0x100, 2 * mib});
    CHECK(why(elf(32, 0x10'0000, many)) == multiboot_error::too_large);

    for (unsigned error = 0; error <= static_cast<unsigned>(multiboot_error::no_room); ++error) {
        CHECK(std::string(pc::explain(static_cast<multiboot_error>(error))) != "unknown");
    }
}

TEST_CASE("address fields that contradict each other are refused", "[vmm_pc][multiboot]") {
    struct {
        std::uint32_t header, load, load_end, bss_end, entry;
        multiboot_error expected;
    } const cases[] = {
        {0x10'0000, 0x10'0000, 0x10'0100, 0x10'0200, 0x10'0010, multiboot_error::none},
        {0x10'0000, 0x10'0004, 0x10'0100, 0, 0x10'0010, multiboot_error::bad_addresses},
        {0x10'0014, 0x10'0000, 0x10'0100, 0, 0x10'0010, multiboot_error::bad_addresses},
        {0x10'0000, 0x10'0000, 0x0F'FFFF, 0, 0x10'0010, multiboot_error::bad_addresses},
        {0x10'0000, 0x10'0000, 0x10'2000, 0, 0x10'0010, multiboot_error::bad_addresses},
        {0x10'0000, 0x10'0000, 0x10'0100, 0x10'00FF, 0x10'0010, multiboot_error::bad_addresses},
        {0x10'0000, 0x10'0000, 0x10'0100, 0xFFFF'FFFF, 0x10'0010, multiboot_error::outside_memory},
        {0x10'0000, 0x10'0000, 0x10'0100, 0, 0x10'0100, multiboot_error::bad_entry},
        {0x10'0000, 0x10'0000, 0x10'0000, 0, 0x10'0000, multiboot_error::nothing_loaded},
        {0xFFFF'FFF0, 0xFFFF'FFF0, 0, 0, 0xFFFF'FFF0, multiboot_error::outside_memory},
    };
    for (const auto& each : cases) {
        guest to;
        bytes file(0x1000);
        put_header(file, 0x10, 1U << 16);
        const std::uint32_t fields[] = {each.header, each.load, each.load_end, each.bss_end,
                                        each.entry};
        for (unsigned i = 0; i != 5; ++i) {
            put(file, 0x10 + 12 + 4 * i, fields[i], 4);
        }
        const auto kernel = to.load(file);
        CHECK(kernel.error == each.expected);
        CHECK(to.is_unharmed_outside());
    }
}

TEST_CASE("no file, however broken, reaches beyond the guest's free memory",
          "[vmm_pc][multiboot]") {
    std::mt19937 random{1};
    const auto any = [&](std::uint32_t below) {
        return static_cast<std::uint32_t>(random() % below);
    };
    const bytes from[] = {
        elf(32, 0x10'0000,
            {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x400},
             {0x1000, 0x20'0000, 0x20'0000, 0x800, 0x1800}}),
        elf(64, 0x10'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x400}}),
        elf(32, 0x10'0000, {{0x800, 0x10'0000, 0x10'0000, 0x400, 0x400}}, 1U << 16),
    };
    guest to;
    unsigned loaded = 0;
    for (unsigned round = 0; round != 3000; ++round) {
        bytes file = from[round % 3];
        if (any(8) == 0) {
            file.resize(any(0x1000));
        }
        for (unsigned changes = any(4); changes != 0 && !file.empty(); --changes) {
            const std::uint32_t header = any(2) == 0 ? any(0xC0) : 0x80C + any(20);
            if (header < file.size()) {
                file[header] = static_cast<std::uint8_t>(any(3) == 0 ? 0xFF : random());
            }
        }
        loaded += to.load(file) ? 1 : 0;
    }
    CHECK(loaded > 100);
    CHECK(loaded < 2900);
    CHECK(to.is_unharmed_outside());
}
