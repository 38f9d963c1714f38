// SPDX-License-Identifier: BSL-1.0
#include "../../../examples/vmm/loop/verdict.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using vmm::pc::run_end;

struct ended_pc {
    run_end how = run_end::exit_port;
    std::uint32_t code = 0x31;

    [[nodiscard]] run_end end() const { return how; }
    [[nodiscard]] std::uint32_t exit_code() const { return code; }
};

struct outcome {
    std::size_t decides;
    std::string line;
};
outcome verdict_on(std::vector<ended_pc> guests) {
    std::string text;
    const ended_pc& decides = vmm::verdict(
        guests.size(), [&](std::size_t i) -> ended_pc& { return guests[i]; },
        [&](auto... parts) {
            const auto put = [&](auto part) {
                if constexpr (std::is_convertible_v<decltype(part), const char*>) {
                    text += part;
                } else {
                    text += std::to_string(part);
                }
            };
            (put(parts), ...);
        });
    return {static_cast<std::size_t>(&decides - guests.data()), text};
}

} // namespace

TEST_CASE("a run ends by the first guest that went wrong, or by the first", "[vmm_pc][loop]") {
    const struct {
        std::vector<ended_pc> guests;
        std::size_t decides;
        const char* line;
    } cases[] = {
        {{{}}, 0, "end of run: status 49"},
        {{{}, {}}, 0, "end of run: status 49"},
        {{{}, {.code = 1}, {.code = 2}}, 1, "end of run: status 1"},
        {{{}, {.how = run_end::time_limit}}, 1, "end of run: time limit"},
        {{{.how = run_end::shutdown}, {.how = run_end::time_limit}},
         0,
         "end of run: guest 0 shut down: a triple fault"},
        {{{}, {}, {.how = run_end::reset}}, 2, "end of run: guest 2 has reset its machine"},
    };
    for (const auto& each : cases) {
        const outcome is = verdict_on(each.guests);
        CHECK(is.decides == each.decides);
        CHECK(is.line == each.line);
    }
}
