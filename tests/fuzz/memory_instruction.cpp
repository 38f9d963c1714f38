// SPDX-License-Identifier: BSL-1.0
//
// Whatever bytes a guest has behind its RIP: nothing beyond what is available is read, the answer is one
// of those that are documented, and what is executed touches its operands at most once each, and no
// register if the device refuses.
#include "pt/vcpu/memory_instruction.hpp"
#include "pt/vcpu/memory_access.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace pt::vcpu;
using pt::errc;
using pt::mmio_width;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

struct counted_device {
    std::uint64_t answer = 0;
    mmio_width size{};
    bool refuses_read = false;
    bool refuses_write = false;
    unsigned reads = 0;
    unsigned writes = 0;

    pt::result<std::uint64_t> read(mmio_width width) {
        demand(width == size && reads == 0 && writes == 0);
        if (refuses_read) {
            return pt::error{errc::absent, 0};
        }
        ++reads;
        return answer;
    }
    pt::result<void> write(mmio_width width, std::uint64_t value) {
        demand(width == size && writes == 0 && (value & ~all_ones(size)) == 0);
        if (refuses_write) {
            return pt::error{errc::absent, 0};
        }
        ++writes;
        return {};
    }
};

bool is_size(mmio_width size) {
    return size == mmio_width::byte || size == mmio_width::word || size == mmio_width::dword ||
           size == mmio_width::qword;
}

void execute_it(const memory_instruction& instruction, const std::uint8_t* input,
                std::size_t size) {
    std::uint64_t words[20]{};
    for (std::size_t i = 0; i != size && i != sizeof words; ++i) {
        words[i / 8] |= std::uint64_t{input[i]} << i % 8 * 8;
    }
    general_registers registers;
    for (unsigned i = 0; i != 16; ++i) {
        registers.raw[i] = words[i];
    }
    const general_registers before = registers;
    const std::uint64_t flags_before = words[16];
    std::uint64_t flags = flags_before;
    counted_device device{.answer = words[17],
                          .size = instruction.size,
                          .refuses_read = words[18] % 4 == 1,
                          .refuses_write = words[18] % 4 == 2};
    const auto at = instruction.memory.address(registers, words[19]);
    demand((at.offset & ~address_mask(instruction.memory.addresses)) == 0);
    demand(static_cast<unsigned>(at.segment) <= 5);
    const auto done = execute(instruction, registers, flags, device);
    demand(((flags ^ flags_before) & ~rflags_register::status) == 0);
    if (!done) {
        demand(registers == before && flags == flags_before);
        demand((device.refuses_read && instruction.reads()) ||
               (device.refuses_write && instruction.writes()));
        return;
    }
    const bool idle = instruction.rep && device.reads == 0 && device.writes == 0;
    demand(idle || (device.reads == (instruction.reads() ? 1U : 0U) &&
                    device.writes == (instruction.writes() ? 1U : 0U)));
    demand(!idle || registers == before);
    demand(instruction.rep || *done == instruction_state::finished);
    demand(registers[general_register::rsp] == before[general_register::rsp] ||
           instruction.other.name == general_register::rsp);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    for (const code_size code : {code_size::bits_16, code_size::bits_32, code_size::bits_64}) {
        const auto whole = memory_instruction_of(input, size, code);
        const std::size_t visible = size < longest_instruction ? size : longest_instruction;
        if (!whole) {
            const pt::error why = whole.error();
            demand((why.code == errc::out_of_range && size < 15 && why.where == size) ||
                   (why.code == errc::malformed && (why.where == 15 || why.where < visible)) ||
                   (why.code == errc::not_supported && why.where < visible));
        } else {
            demand(whole->length >= 1 && whole->length <= visible);
            demand(is_size(whole->size) && is_size(whole->register_size));
            demand(!(whole->has_immediate && whole->to_register));
            demand(instruction_length(input, size, code) == whole->length);
        }
        for (std::size_t there = 0; there <= visible; ++there) {
            // Memory of just that size, so that the sanitizer sees every byte too many.
            const std::vector<std::uint8_t> part(input, input + there);
            const auto found = memory_instruction_of(part.data(), there, code);
            if (whole) {
                demand(there >= whole->length ? found == whole
                                              : found == pt::error{errc::out_of_range, there});
            } else {
                demand(!found);
            }
        }
        if (whole) {
            execute_it(*whole, input + whole->length, size - whole->length);
        }
    }
    return 0;
}
