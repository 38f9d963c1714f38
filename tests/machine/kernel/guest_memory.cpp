// SPDX-License-Identifier: BSL-1.0
#include "guest_memory.hpp"

namespace kernel {

const char* name(guest_mode mode) {
    switch (mode) {
    case guest_mode::real: return "real mode";
    case guest_mode::protected_32: return "protected mode";
    default: return "64-bit mode";
    }
}

pt::vcpu::code_size code_size_of(guest_mode mode) {
    switch (mode) {
    case guest_mode::real: return pt::vcpu::code_size::bits_16;
    case guest_mode::protected_32: return pt::vcpu::code_size::bits_32;
    default: return pt::vcpu::code_size::bits_64;
    }
}

void guest_memory::build(guest_mode mode, const std::uint8_t (&call)[3]) {
    mode_ = mode;
    __builtin_memset(at<void>(pt::gpa{0}), 0, 64 * pt::KiB);
    at(descriptors)[code_selector / 8] =
        mode == guest_mode::long_64 ? 0x00AF'9B00'0000'FFFF : 0x00CF'9B00'0000'FFFF;
    at(descriptors)[data_selector / 8] = 0x00CF'9300'0000'FFFF;
    build_gates(call);
    build_page_tables();
}

void guest_memory::build_gates(const std::uint8_t (&call)[3]) {
    for (unsigned vector = 0; vector < 256; ++vector) {
        const pt::gpa handler = handlers + 8 * vector;
        put({call[0], call[1], call[2]}, handler);
        if (mode_ == guest_mode::long_64) {
            put({0x48, 0xCF}, handler + sizeof call); // iretq
        } else {
            put({0xCF}, handler + sizeof call); // iret
        }
        // A gate for an interrupt, of ring 0.
        const std::uint64_t gate =
            handler.raw | std::uint64_t{code_selector} << 16 | std::uint64_t{0x8E00} << 32;
        switch (mode_) {
        case guest_mode::real:
            at<std::uint32_t>(gates_real)[vector] = static_cast<std::uint32_t>(handler.raw);
            break;
        case guest_mode::protected_32: at(gates)[vector] = gate; break;
        case guest_mode::long_64: at(gates)[2 * vector] = gate; break;
        }
    }
}

void guest_memory::build_page_tables() {
    constexpr std::uint64_t present_writable_user = 0x07;
    constexpr std::uint64_t accessed_dirty = 0x60;
    for (unsigned level = 0; level < 3; ++level) {
        const pt::gpa table = page_tables + level * 4 * pt::KiB;
        *at(table) = (table + 4 * pt::KiB).raw | present_writable_user | accessed_dirty;
    }
    for (unsigned page = 0; page < size / (4 * pt::KiB); ++page) {
        at(page_tables + 12 * pt::KiB)[page] =
            page * 4 * pt::KiB | present_writable_user | accessed_dirty;
    }
}

pt::gpa guest_memory::gates_of_mode() const {
    return mode_ == guest_mode::real ? gates_real : gates;
}

std::uint32_t guest_memory::gates_size() const {
    switch (mode_) {
    case guest_mode::real: return 256 * 4;
    case guest_mode::protected_32: return 256 * 8;
    default: return 256 * 16;
    }
}

void guest_memory::put(std::initializer_list<std::uint8_t> instructions, pt::gpa place) {
    auto* to = at<std::uint8_t>(place);
    for (const std::uint8_t byte : instructions) {
        *to++ = byte;
    }
}

std::uint64_t guest_memory::slot_size() const {
    switch (mode_) {
    case guest_mode::real: return 2;
    case guest_mode::protected_32: return 4;
    default: return 8;
    }
}

handled_event guest_memory::handled_at(std::uint64_t rip, std::uint64_t rsp) const {
    if (rip < handlers.raw || rip >= handlers.raw + 256 * 8 || rip % 8 != 0) {
        return {};
    }
    const auto slot = [&](std::uint64_t index) {
        const pt::gpa place{rsp + index * slot_size()};
        switch (mode_) {
        case guest_mode::real: return std::uint64_t{*at<std::uint16_t>(place)};
        case guest_mode::protected_32: return std::uint64_t{*at<std::uint32_t>(place)};
        default: return *at(place);
        }
    };
    // An error code lies before the return address. What follows the latter is the code segment,
    // whose selector no return address equals.
    const bool with_code = mode_ != guest_mode::real && slot(1) != code_selector;
    const std::uint64_t first = with_code ? 1 : 0;
    return {.any = true,
            .vector = static_cast<std::uint8_t>((rip - handlers.raw) / 8),
            .return_address = slot(first),
            .rflags = slot(first + 2),
            .has_error_code = with_code,
            .error_code = with_code ? slot(0) : 0};
}

} // namespace kernel
