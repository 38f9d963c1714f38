// SPDX-License-Identifier: BSL-1.0
// The bitmaps as handles: what they and what they stand for are, and maps that a compiler builds.

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/width.hpp"
#include "pt/svm/io_permission_map.hpp"
#include "pt/svm/msr_permission_map.hpp"
#include "pt/vcpu/bit_range.hpp"
#include "pt/vcpu/bitmap_change.hpp"
#include "pt/vcpu/msr.hpp"
#include "pt/vcpu/protected_msrs.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/msr_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace {

using pt::io_port;
using pt::vcpu::bit_range;
using pt::vcpu::msr_access;

// Sizes of the structures in memory: [sdm] 4 KiB each, [amd] 12 KiB and 8 KiB.
static_assert(pt::vmx::io_bitmap::words_per_page * 8 == 4096);
static_assert(pt::vmx::msr_bitmap::word_count * 8 == 4096);
static_assert(pt::svm::io_permission_map::word_count * 8 == 3 * 4096);
static_assert(pt::svm::msr_permission_map::word_count * 8 == 2 * 4096);

// Handles, to be copied; a shared bitmap is the one that knows its owners' list.
static_assert(std::is_trivially_copyable_v<pt::vmx::io_bitmap>);
static_assert(std::is_trivially_copyable_v<pt::vmx::msr_bitmap>);
static_assert(std::is_trivially_copyable_v<pt::svm::msr_permission_map>);
static_assert(!std::is_convertible_v<std::uint64_t*, pt::vmx::msr_bitmap>);
static_assert(!std::is_convertible_v<std::uint64_t*, pt::svm::msr_permission_map>);
static_assert(!std::is_convertible_v<std::uint64_t*, pt::svm::io_permission_map>);
static_assert(!std::is_default_constructible_v<pt::vmx::io_bitmap>);

// Bits of a range in each of its qwords.
static_assert(bit_range{0, 63}.mask(0) == ~std::uint64_t{0});
static_assert(bit_range{5, 5}.mask(0) == 0x20);
static_assert(bit_range{63, 64}.mask(0) == 0x8000'0000'0000'0000);
static_assert(bit_range{63, 64}.mask(1) == 1);
static_assert(bit_range{60, 200}.mask(1) == ~std::uint64_t{0});
static_assert(bit_range{60, 200}.mask(3) == 0x1FF);
static_assert(bit_range{60, 200}.first_word() == 0 && bit_range{60, 200}.last_word() == 3);

// RDMSR reads, WRMSR writes.
static_assert(reads(msr_access::read) && !writes(msr_access::read));
static_assert(!reads(msr_access::write) && writes(msr_access::write));
static_assert(reads(msr_access::read_write) && writes(msr_access::read_write));

// A change is the sum of its parts.
static_assert([] {
    pt::vcpu::bitmap_change change;
    change |= {.closed = true};
    change |= {.opened = true};
    change |= {};
    return change == pt::vcpu::bitmap_change{.opened = true, .closed = true};
}());

// The search for the first protected MSR wants them in order, and apart.
static_assert([] {
    std::uint32_t above = 0;
    for (const auto& never : pt::vcpu::never_open) {
        if (never.msrs.first < above || never.msrs.last < never.msrs.first) {
            return false;
        }
        above = never.msrs.last + 1;
    }
    return true;
}());

// A bitmap is built at compile time.
struct pages {
    std::uint64_t a[512]{};
    std::uint64_t b[512]{};
};
constexpr pages nic_only = [] {
    pages built;
    pt::vmx::io_bitmap bitmap{built.a, built.b};
    static_cast<void>(bitmap.open({io_port{0xC000}, 32}));
    return built;
}();
static_assert(nic_only.b[0x4000 / 64] == 0xFFFF'FFFF'0000'0000);
static_assert(nic_only.b[0x4000 / 64 + 1] == ~std::uint64_t{0});
static_assert(nic_only.a[0xC000 % 0x8000 / 64] == ~std::uint64_t{0});

// From BARs: 32 bits, of which x86 has ports for 16.
static_assert(pt::vmx::io_bitmap::ports_of_bar(0xFFE0, 32).has_value());
static_assert(!pt::vmx::io_bitmap::ports_of_bar(0xFFE1, 32).has_value());
static_assert(!pt::vmx::io_bitmap::ports_of_bar(0x1'0000, 1).has_value());
static_assert(!pt::vmx::io_bitmap::ports_of_bar(0xFFFF'FFFF'FFFF'FFFF, 0).has_value());
static_assert(!pt::vmx::io_bitmap::ports_of_bar(1, 0xFFFF'FFFF'FFFF'FFFF).has_value());
static_assert(*pt::vmx::io_bitmap::ports_of_bar(0, 0x1'0000) == pt::vmx::io_bitmap::all_ports);

} // namespace
