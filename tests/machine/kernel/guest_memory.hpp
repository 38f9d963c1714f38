// SPDX-License-Identifier: BSL-1.0
//
// The memory of a small guest, whatever virtualizes its processor: in each mode its gates lead to
// handlers that are one call of the hypervisor each, so that whatever arrives there exits.
#pragma once

#include "kernel.hpp"

#include "pt/core/address.hpp"
#include "pt/vcpu/code_size.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace kernel {

/// The general registers by their numbers; RSP is elsewhere.
struct registers {
    std::uint64_t rax, rcx, rdx, rbx, not_rsp, rbp, rsi, rdi;
    std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;

    [[nodiscard]] std::uint64_t* by_number() { return &rax; }
};
static_assert(sizeof(registers) == 16 * sizeof(std::uint64_t));

/// Real mode; 32-bit protected mode without paging; 64-bit mode with pages of 4 KiB, one to one.
enum class guest_mode : std::uint8_t { real, protected_32, long_64 };
inline constexpr guest_mode every_mode[] = {guest_mode::real, guest_mode::protected_32,
                                            guest_mode::long_64};
const char* name(guest_mode mode);
pt::vcpu::code_size code_size_of(guest_mode mode);

/// An event that has arrived at the guest's handler, as the handler finds it on its stack.
struct handled_event {
    bool any = false;
    std::uint8_t vector = 0;
    std::uint64_t return_address = 0;
    std::uint64_t rflags = 0;
    bool has_error_code = false;
    std::uint64_t error_code = 0;
};

class guest_memory {
public:
    // Where things are.
    static constexpr pt::gpa gates_real{0x0000};
    static constexpr pt::gpa descriptors{0x1000};
    static constexpr pt::gpa gates{0x2000};
    static constexpr pt::gpa page_tables{0x3000}; ///< levels 4, 3, 2 and 1
    static constexpr pt::gpa handlers{0x8000};    ///< 8 bytes for each vector
    static constexpr pt::gpa stack_page{0x9000};
    static constexpr pt::gpa stack{0x9F00}; ///< the stack pointer at the start
    static constexpr pt::gpa code{0xA000};
    static constexpr pt::gpa data{0xC000}; ///< this page and the next are the tests'
    static constexpr std::uint64_t size = 2 * pt::MiB;

    static constexpr std::uint16_t code_selector = 0x08;
    static constexpr std::uint16_t data_selector = 0x10;
    static constexpr std::uint16_t task_selector = 0x18;
    static constexpr std::uint16_t descriptors_limit = 4 * 8 - 1;

    guest_memory() : memory_{take_large_frame()} {}
    guest_memory(const guest_memory&) = delete;
    guest_memory& operator=(const guest_memory&) = delete;

    /// Makes all of it anew for that mode. `call`: VMCALL or VMMCALL.
    void build(guest_mode mode, const std::uint8_t (&call)[3]);
    [[nodiscard]] guest_mode mode() const { return mode_; }
    /// Where that mode has its gates, and how many bytes they are.
    [[nodiscard]] pt::gpa gates_of_mode() const;
    [[nodiscard]] std::uint32_t gates_size() const;

    /// Puts instructions there.
    void put(std::initializer_list<std::uint8_t> instructions, pt::gpa place);

    /// What has arrived at the handler that is at `rip`, if it is one, with the stack as it is at
    /// its start.
    [[nodiscard]] handled_event handled_at(std::uint64_t rip, std::uint64_t rsp) const;
    /// How many bytes a word on the stack of a handler has.
    [[nodiscard]] std::uint64_t slot_size() const;

    /// Memory at a guest-physical address.
    template <class T = std::uint64_t>
    [[nodiscard]] T* at(pt::gpa place) {
        return pointer_to<T>(memory_ + place.raw);
    }
    template <class T = std::uint64_t>
    [[nodiscard]] const T* at(pt::gpa place) const {
        return pointer_to<const T>(memory_ + place.raw);
    }
    [[nodiscard]] pt::hpa host_address(pt::gpa place) const { return memory_ + place.raw; }

private:
    void build_gates(const std::uint8_t (&call)[3]);
    void build_page_tables();

    pt::hpa memory_;
    guest_mode mode_ = guest_mode::real;
};

} // namespace kernel
