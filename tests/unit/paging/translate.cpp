// SPDX-License-Identifier: BSL-1.0
// Translation of raw tables against the walkers, on tables that mean little or nothing.
#include "pt/paging/translate.hpp"

#include "pt/paging/table_reader.hpp"

#include "../../paging_model/audit_model.hpp"

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <random>

using namespace paging_model;
using pt::errc;

TEMPLATE_TEST_CASE("raw tables lead where hardware would be led, whatever they hold", "[paging]",
                   ept_subject<4>, ept_subject<5>, second_stage_subject<3>, second_stage_subject<5>,
                   (x86_64_subject<pt::gpa, 4>), (x86_64_subject<pt::iova, 5>)) {
    using address = typename TestType::format::address;
    constexpr std::size_t frames = 6;
    std::mt19937_64 random{1};
    const auto some = [&random](std::uint64_t count) { return random() % count; };
    std::size_t met[4]{}; // by kind of outcome
    for (unsigned round = 0; round < 200; ++round) {
        CAPTURE(round);
        const abilities can{.output_width = 46,
                            .largest = 2 + static_cast<unsigned>(some(2)),
                            .extra = some(2) == 0};
        image memory{frames};
        for (std::size_t i = 0; i < frames; ++i) {
            for (unsigned index = 0; index < 512; ++index) {
                const std::uint64_t frame = image::frame(static_cast<std::size_t>(
                    some(some(16) == 0 ? frames + 1 : frames))); // sometimes one that is not there
                std::uint64_t& entry = memory.at(i, index);
                switch (some(4)) {
                case 0: entry = 0; break;
                case 1: entry = image::base << 5 >> 30 << 30 | TestType::to_page(2); break;
                default: entry = frame | TestType::to_table; break;
                }
                if (some(16) == 0) {
                    entry ^= std::uint64_t{1} << some(64);
                }
            }
        }
        const auto format = TestType::make(can);
        const auto walker = TestType::hardware(can);
        const pt::paging::image_reader reader{memory.whole(), memory.words()};
        std::size_t wrong = 0;
        for (unsigned i = 0; i < 400; ++i) {
            const std::uint64_t input = some(std::uint64_t{1} << format.input_width());
            const std::uint64_t root = image::frame(static_cast<std::size_t>(some(frames)));
            const outcome found = walker.walk(
                [&memory](std::uint64_t frame, unsigned n) { return memory.read(frame, n); }, root,
                input);
            const auto said = translate(format, reader, pt::hpa{root}, address{input});
            ++met[static_cast<unsigned>(found.what)];
            switch (found.what) {
            case outcome::kind::translated:
                wrong += said && said->output.raw == found.output &&
                                 pt::paging::bytes(said->size) == found.page
                             ? 0U
                             : 1U;
                break;
            case outcome::kind::
                not_mapped: // or no right is left over, which translate does not look at
                wrong += said ? (TestType::combines_rights ? 0U : 1U)
                              : (said.error() == pt::error{errc::not_mapped, input} ? 0U : 1U);
                break;
            case outcome::kind::misconfigured:
                wrong += !said && said.error().code == errc::malformed ? 0U : 1U;
                break;
            case outcome::kind::lost:
                wrong += !said && said.error().code == errc::absent ? 0U : 1U;
                break;
            }
        }
        CHECK(wrong == 0);
    }
    for (const std::size_t times : met) {
        CHECK(times > 100); // so that it tells something
    }
}
