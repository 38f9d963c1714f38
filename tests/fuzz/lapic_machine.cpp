// SPDX-License-Identifier: BSL-1.0
//
// Four local APICs beside the model that was written from the manual without them, as in
// tests/unit/lapic/beside_the_model.cpp, but the fuzzer chooses the operations.
#include "../lapic_model/random_machine.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace {

/// Bytes of the input as numbers, small ones from few bytes; zeros at the end.
struct chosen {
    const std::uint8_t** at;
    const std::uint8_t* end;

    std::uint64_t operator()() const {
        std::uint64_t value = 0;
        const unsigned bytes = left() != 0 && **at < 0xF0 ? 1 : 9;
        for (unsigned i = 0; i < bytes && left() != 0; ++i) {
            value |= std::uint64_t{*(*at)++} << 8 * (i % 8);
        }
        return value;
    }
    [[nodiscard]] std::size_t left() const { return static_cast<std::size_t>(end - *at); }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    if (size < 2) {
        return 0;
    }
    const lapic_model::setting settings[] = {
        {.ids = {0, 1, 2, 3}, .limits = {0, 0xFFFF'FFFF}, .looks_in_time = false},
        {.ids = {0x42, 0x51, 2, 0xFE}, .limits = {24, 3}, .offers_suppression = false},
    };
    const std::uint8_t* at = input + 1;
    const chosen choice{&at, input + size};
    lapic_model::random_machine machine{choice, settings[input[0] % 2]};
    try {
        while (choice.left() != 0) {
            machine.step();
        }
        machine.compare_all();
    } catch (const lapic_model::difference& found) {
        std::fprintf(stderr, "%s\n%s", found.what.c_str(), machine.history().c_str());
        __builtin_trap();
    }
    return 0;
}
