// SPDX-License-Identifier: BSL-1.0
//
// What compilers call on their own, even for freestanding code [gcc, "Standards"].
#include <cstddef>
#include <cstdint>

extern "C" {

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
