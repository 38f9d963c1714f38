// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/pc/memory_layout.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace {

using vmm::pc::memory_kind;
using vmm::pc::memory_layout;

// As on PCs: 640 KiB of conventional memory, 128 KiB of the system's BIOS below 1 MiB, and the rest
// above [Multiboot Specification, mem_lower and mem_upper].
constexpr bool a_guest_finds_memory_where_a_pc_has_it() {
    const memory_layout memory{64 * pt::MiB};
    const vmm::pc::guest_ram ram = memory.ram();
    struct {
        std::uint64_t at;
        const vmm::pc::ram_piece* in;
    } const places[] = {{0, &memory.pieces[0]},
                        {0x9'FFFF, &memory.pieces[0]},
                        {0xA'0000, nullptr},
                        {0xD'FFFF, nullptr},
                        {0xE'0000, &memory.pieces[1]},
                        {0xF'FFFF, &memory.pieces[1]},
                        {0x10'0000, &memory.pieces[2]},
                        {0x3FF'FFFF, &memory.pieces[2]},
                        {0x400'0000, nullptr}};
    bool good = true;
    for (const auto& each : places) {
        good = good && ram.find(pt::gpa{each.at}) == each.in;
    }
    return good && memory.pieces[0].kind == memory_kind::available &&
           memory.pieces[1].kind == memory_kind::reserved &&
           memory.pieces[2].kind == memory_kind::available;
}
static_assert(a_guest_finds_memory_where_a_pc_has_it());

} // namespace

TEST_CASE("a guest finds memory where a PC has it", "[vmm_pc]") {
    CHECK(a_guest_finds_memory_where_a_pc_has_it());
}
