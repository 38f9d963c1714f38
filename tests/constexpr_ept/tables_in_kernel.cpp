// SPDX-License-Identifier: BSL-1.0
// The file that the example becomes, read without pt: where the tables are, who may write them, and
// where hardware that finds them there would be led.
#include "../paging_model/walker.hpp"

#include <catch2/catch_test_macros.hpp>

#include <elf.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#ifndef PT_CONSTEXPR_EPT // only the build knows where it is; who only reads the sources need not
#define PT_CONSTEXPR_EPT "pt-constexpr-ept"
#endif

using paging_model::outcome;

namespace {

constexpr std::uint64_t KiB = 1024;
constexpr std::uint64_t MiB = 1024 * KiB;

/// The linked kernel.
class kernel {
public:
    kernel() {
        std::ifstream in{PT_CONSTEXPR_EPT, std::ios::binary};
        bytes_.assign(std::istreambuf_iterator<char>{in}, {});
        header = at<Elf64_Ehdr>(0);
        REQUIRE(std::memcmp(header.e_ident, ELFMAG, SELFMAG) == 0);
        REQUIRE(header.e_type == ET_EXEC);
        for (unsigned i = 0; i < header.e_phnum; ++i) {
            segments.push_back(at<Elf64_Phdr>(header.e_phoff + i * sizeof(Elf64_Phdr)));
        }
        for (unsigned i = 0; i < header.e_shnum; ++i) {
            sections.push_back(at<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr)));
        }
    }

    template <class T>
    [[nodiscard]] T at(std::uint64_t offset) const {
        REQUIRE(offset + sizeof(T) <= bytes_.size());
        T value;
        std::memcpy(&value, bytes_.data() + offset, sizeof(T));
        return value;
    }
    [[nodiscard]] std::string name(const Elf64_Shdr& section) const {
        return bytes_.c_str() + sections.at(header.e_shstrndx).sh_offset + section.sh_name;
    }
    [[nodiscard]] Elf64_Shdr section(const std::string& wanted) const {
        for (const Elf64_Shdr& one : sections) {
            if (name(one) == wanted) {
                return one;
            }
        }
        FAIL("no section " << wanted);
        return {};
    }
    /// The segment that the file has the section in.
    [[nodiscard]] Elf64_Phdr segment_of(const Elf64_Shdr& section) const {
        for (const Elf64_Phdr& one : segments) {
            if (one.p_type == PT_LOAD && section.sh_offset >= one.p_offset &&
                section.sh_offset + section.sh_size <= one.p_offset + one.p_filesz) {
                return one;
            }
        }
        FAIL("the section is not loaded");
        return {};
    }

    Elf64_Ehdr header{};
    std::vector<Elf64_Phdr> segments;
    std::vector<Elf64_Shdr> sections;

private:
    std::string bytes_;
};

/// Physical memory as the boot loader leaves it: the frames of the tables, and nothing else.
struct memory {
    std::uint64_t base;
    std::vector<std::uint64_t> words;

    explicit memory(const kernel& file) {
        const Elf64_Shdr tables = file.section(".guest_tables");
        const Elf64_Phdr segment = file.segment_of(tables);
        base = segment.p_paddr + (tables.sh_offset - segment.p_offset);
        for (std::uint64_t i = 0; i < tables.sh_size; i += 8) {
            words.push_back(file.at<std::uint64_t>(tables.sh_offset + i));
        }
    }
    /// For a walker.
    [[nodiscard]] auto read() const {
        return [this](std::uint64_t frame, unsigned i) -> const std::uint64_t* {
            const std::uint64_t offset = (frame - base) / 8;
            return frame >= base && offset < words.size() ? words.data() + offset + i : nullptr;
        };
    }
};

constexpr std::uint64_t ept_root = 0x20'0000;
constexpr std::uint64_t dma_root = 0x20'5000;
constexpr paging_model::ept_walker processor{.physical_width = 36, .pages_2m = true};
constexpr paging_model::second_stage_walker unit{.levels = 3, .host_width = 36, .pages_2m = true};

} // namespace

TEST_CASE("tables made by the compiler lie in whole frames that nobody may write",
          "[paging][constexpr]") {
    const kernel file;
    const Elf64_Shdr tables = file.section(".guest_tables");
    CHECK(tables.sh_type == SHT_PROGBITS);
    CHECK(tables.sh_flags == SHF_ALLOC); // neither written nor executed
    CHECK(tables.sh_size == 7 * 4 * KiB);
    CHECK(tables.sh_addralign == 4 * KiB);

    const Elf64_Phdr segment = file.segment_of(tables);
    CHECK(segment.p_flags == PF_R);
    CHECK(memory{file}.base == 0x20'0000);
}

TEST_CASE("nothing has to run before tables made by the compiler are there",
          "[paging][constexpr]") {
    const kernel file;
    for (const Elf64_Shdr& section : file.sections) {
        CAPTURE(file.name(section));
        CHECK(section.sh_type != SHT_INIT_ARRAY);
        CHECK(section.sh_type != SHT_PREINIT_ARRAY);
        CHECK(section.sh_type != SHT_REL);
        CHECK(section.sh_type != SHT_RELA);
        CHECK(file.name(section).find("ctors") == std::string::npos);
        CHECK(((section.sh_flags & SHF_WRITE) == 0 || section.sh_size == 0));
    }
    for (const Elf64_Phdr& segment : file.segments) {
        CHECK(((segment.p_flags & PF_W) == 0 || segment.p_memsz == 0));
    }
}

TEST_CASE("hardware that walks the kernel's file finds the guest's memory and nothing else",
          "[paging][constexpr]") {
    const kernel file;
    const memory loaded{file};
    const auto cpu = [&](std::uint64_t input) {
        return processor.walk(loaded.read(), ept_root, input);
    };
    const auto device = [&](std::uint64_t input) {
        return unit.walk(loaded.read(), dma_root, input);
    };

    // All of 4 GiB, by pages: 64 MiB of RAM at 4 GiB, four pages of registers at 0xDF200000.
    std::uint64_t wrong = 0;
    for (std::uint64_t input = 0; input < 4096 * MiB; input += 4 * KiB) {
        const outcome by_cpu = cpu(input + 0x123);
        const outcome by_device = device(input + 0x123);
        outcome expected;
        if (input < 64 * MiB) {
            expected.what = outcome::kind::translated;
            expected.read = expected.write = true;
            expected.output = 4096 * MiB + input + 0x123;
        }
        wrong += by_device == expected ? 0U : 1U;
        if (input < 64 * MiB) {
            expected.execute = expected.user_execute = true;
            expected.type = 6;
        } else if (input >= 0xFEB0'0000 && input < 0xFEB0'4000) {
            expected.what = outcome::kind::translated;
            expected.read = expected.write = true;
            expected.output = 0xDF20'0000 + (input - 0xFEB0'0000) + 0x123;
        }
        if (expected.what == outcome::kind::translated) {
            expected.extra = std::uint64_t{1} << 63; // suppress #VE
        }
        wrong += by_cpu == expected ? 0U : 1U;
    }
    CHECK(wrong == 0);

    // Above, every 2 MiB up to 512 GiB; and 256 TiB for the processor.
    for (std::uint64_t input = 4096 * MiB; input < std::uint64_t{512} << 30; input += 2 * MiB) {
        wrong += cpu(input) == outcome{} && device(input) == outcome{} ? 0U : 1U;
    }
    for (std::uint64_t input = std::uint64_t{1} << 39; input >> 48 == 0;
         input += std::uint64_t{1} << 39) {
        wrong += cpu(input) == outcome{} ? 0U : 1U;
    }
    CHECK(wrong == 0);
    CHECK(cpu(0).page == 2 * MiB);
    CHECK(device(0).page == 2 * MiB);
}
