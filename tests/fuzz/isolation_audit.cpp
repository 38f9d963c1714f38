// SPDX-License-Identifier: BSL-1.0
// Bytes become tables and a list of what a guest owns; what the isolation audit says of them is what a
// model says that asks a walker about one address after the other (tests/assign_model/pages.hpp).
#include "../assign_model/pages.hpp"

#include "reader.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using namespace audit_model;
using fuzz::reader;

constexpr unsigned indices[] = {0, 1, 5, 511};

/// An address near those of `indices`, at a multiple of 256 bytes.
template <class Subject>
std::uint64_t address_from(reader& input) {
    std::uint64_t address = input.number(1) << 8 & 0xF00;
    for (unsigned level = 1; level <= Subject::levels; ++level) {
        const std::uint8_t choice = input.byte();
        const std::uint64_t index = choice < 192 ? indices[choice % 4] : choice;
        address |= index << (12 + 9 * (level - 1));
    }
    return address;
}

template <class Subject>
std::vector<owned_pages> pages_from(reader& input) {
    std::vector<owned_pages> pages;
    for (std::uint8_t n = input.byte() % 8; n != 0; --n) {
        owned_pages next;
        const std::uint64_t at = address_from<Subject>(input);
        const std::uint64_t size = input.number(2) << (input.byte() % 4 * 6 + 4);
        const std::uint8_t how = input.byte();
        if (size == 0 || (!pages.empty() && at <= pages.back().at.last().raw)) {
            continue;
        }
        next.at = {pt::gpa{at}, size};
        next.host = pt::hpa{input.number(2) << (input.byte() % 3 * 9 + 12)};
        next.rights = {(how & 1) != 0, (how & 2) != 0, (how & 4) != 0};
        next.reach = static_cast<memory_reach>(how >> 3 & 1);
        next.use = static_cast<page_use>((how >> 4) % 6);
        pages.push_back(next);
    }
    return pages;
}

template <class Subject>
void look(reader input) {
    const abilities can{.output_width = 38 + input.byte() % 14U,
                        .largest = 1 + input.byte() % 3U,
                        .extra = input.byte() % 2 == 0};
    image memory{std::size_t{1} + input.byte() % 12};
    const std::vector<owned_pages> pages = pages_from<Subject>(input);
    while (input.left != 0) {
        const std::uint8_t what = input.byte();
        const std::uint8_t choice = input.byte();
        std::uint64_t& slot = memory.at(
            static_cast<std::size_t>(what / 8 % memory.frames()),
            choice < 128 ? indices[choice % 4] : static_cast<unsigned>(choice) * 2 + what % 2);
        const auto any_frame = [&] { return image::frame(input.byte() % memory.frames()); };
        switch (what % 8) {
        case 0:
        case 1: slot = any_frame() | Subject::to_table; break;
        case 2: slot = input.number(2) << 12 | Subject::to_page(1); break;
        case 3: slot = input.number(2) << 21 | Subject::to_page(2); break;
        case 4: slot = input.number(1) << 30 | Subject::to_page(3); break;
        case 5: slot ^= std::uint64_t{1} << input.byte() % 64; break;
        case 6: slot = input.number(8); break;
        default: slot = (slot + 0x1000) ^ (input.byte() & 7); break;
        }
    }
    const ownership owner{.guest = 1, .pages = {pages.data(), pages.size()}};
    fuzz::demand(disagreement<Subject>(memory, can, owner).empty());
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    reader input{data, size};
    using namespace paging_model;
    switch (input.byte() % 8) {
    case 0: look<ept_subject<4>>(input); break;
    case 1: look<ept_subject<5>>(input); break;
    case 2: look<second_stage_subject<3>>(input); break;
    case 3: look<second_stage_subject<4>>(input); break;
    case 4: look<second_stage_subject<5>>(input); break;
    case 5: look<x86_64_subject<pt::gpa, 4>>(input); break;
    case 6: look<x86_64_subject<pt::iova, 4>>(input); break;
    default: look<x86_64_subject<pt::iova, 5>>(input); break;
    }
    return 0;
}
