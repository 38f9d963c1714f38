// SPDX-License-Identifier: BSL-1.0
// Bytes become memory, and the auditor is let loose on it: it ends, reads each frame once and
// nothing besides (the memory is exactly as large as it says), and tells what the hardware would
// do (tests/paging_model/audit_model.hpp).
#include "../paging_model/audit_model.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace paging_model;

class bytes {
public:
    bytes(const std::uint8_t* data, std::size_t size) : at_{data}, end_{data + size} {}

    [[nodiscard]] bool empty() const { return at_ == end_; }
    std::uint64_t take(unsigned count) {
        std::uint64_t value = 0;
        for (; count != 0; --count) {
            value = value << 8 | (empty() ? 0 : *at_++);
        }
        return value;
    }

private:
    const std::uint8_t* at_;
    const std::uint8_t* end_;
};

constexpr unsigned indices[] = {0, 1, 5, 511};

template <class Subject>
void look(bytes input) {
    const abilities can{.output_width = 32 + static_cast<unsigned>(input.take(1) % 24),
                        .largest = 1 + static_cast<unsigned>(input.take(1) % 3),
                        .extra = input.take(1) % 2 == 0};
    image memory{1 + static_cast<std::size_t>(input.take(1) % 16)};
    const std::uint64_t root =
        input.take(1) % 16 == 0 ? input.take(8) : image::frame(input.take(1) % memory.frames());
    std::vector<std::uint64_t> inputs;
    while (!input.empty()) {
        const std::uint64_t what = input.take(1);
        std::uint64_t& slot =
            memory.at(static_cast<std::size_t>(input.take(1) % memory.frames()),
                      indices[what / 8 % 4] ^ (what >= 192 ? static_cast<unsigned>(what) : 0));
        switch (what % 8) {
        case 0:
        case 1: slot = image::frame(input.take(1) % memory.frames()) | Subject::to_table; break;
        case 2: slot = input.take(2) << 12 | Subject::to_page(1); break;
        case 3: slot = input.take(2) << 21 | Subject::to_page(2); break;
        case 4: slot = input.take(2) << 30 | Subject::to_page(3); break;
        case 5: slot ^= std::uint64_t{1} << input.take(1) % 64; break;
        case 6: slot = input.take(8); break;
        default: {
            std::uint64_t address = input.take(2) & 0xFFF;
            for (unsigned level = 1; level <= Subject::levels; ++level) {
                address |= std::uint64_t{indices[input.take(1) % 4]} << (12 + 9 * (level - 1));
            }
            inputs.push_back(address);
            break;
        }
        }
    }
    if (disagreement<Subject>(memory, root, can, inputs) != nullptr) {
        __builtin_trap();
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes input{data, size};
    switch (input.take(1) % 9) {
    case 0: look<ept_subject<4>>(input); break;
    case 1: look<ept_subject<5>>(input); break;
    case 2: look<second_stage_subject<3>>(input); break;
    case 3: look<second_stage_subject<4>>(input); break;
    case 4: look<second_stage_subject<5>>(input); break;
    case 5: look<x86_64_subject<pt::gpa, 4>>(input); break;
    case 6: look<x86_64_subject<pt::gpa, 5>>(input); break;
    case 7: look<x86_64_subject<pt::iova, 4>>(input); break;
    default: look<x86_64_subject<pt::iova, 5>>(input); break;
    }
    return 0;
}
