// SPDX-License-Identifier: BSL-1.0
// The I/O bitmap, and the way from an exit's words to the handler of its port.
#include "../flavours/row.hpp"
#include "random.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/vcpu/io_instruction.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/io_exit.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bench {
namespace {

using pt::io_port;
using pt::range;

constexpr std::size_t words_per_page = 512;

class bitmap_pages {
public:
    explicit bitmap_pages(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    alignas(4096) std::uint64_t pages_[2 * words_per_page]{};
};

class bitmap : public bitmap_pages {
public:
    using bitmap_pages::bitmap_pages;

protected:
    pt::vmx::io_bitmap bitmap_{pages_, pages_ + words_per_page};
};

// ------------------------------------------------------------------------- all ports, and a BAR's

constexpr std::uint64_t times = 64;

class memset_8k : public bitmap_pages {
public:
    using bitmap_pages::bitmap_pages;
    bool run(unsigned) {
        for (std::uint64_t i = 0; i != times; ++i) {
            std::memset(pages_, 0xFF, sizeof pages_);
            keep(this);
            std::memset(pages_, 0, sizeof pages_);
            keep(this);
        }
        return true;
    }
};

/// Every port closed, then every one opened that can be.
class range_64k : public bitmap {
public:
    using bitmap::bitmap;
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i != times; ++i) {
            (void)bitmap_.close(pt::vmx::io_bitmap::all_ports);
            keep(this);
            good = bitmap_.open({io_port{0}, 0xCF8}).has_value() && good;
            good = bitmap_.open({io_port{0xD00}, 0x1'0000 - 0xD00}).has_value() && good;
            keep(this);
        }
        return good;
    }
};

constexpr std::uint64_t bars = 4096;

/// A BAR of 32 ports, as that of the 82574L, at a place that the guest chose: aligned to its size.
constexpr std::uint32_t bar_port(std::uint64_t random) {
    return static_cast<std::uint32_t>(0x1000 + (random * 32) % 0xF000);
}

class or_word : public bitmap_pages {
public:
    using bitmap_pages::bitmap_pages;
    bool run(unsigned) {
        random_numbers random;
        for (std::uint64_t i = 0; i != bars; ++i) {
            const std::uint32_t port = bar_port(random.next());
            pages_[port / 64] |= std::uint64_t{0xFFFF'FFFF} << (port % 64);
            keep(this);
        }
        return true;
    }
};

class range_32 : public bitmap {
public:
    using bitmap::bitmap;
    bool run(unsigned) {
        random_numbers random;
        bool good = true;
        for (std::uint64_t i = 0; i != bars; ++i) {
            const range<io_port> bar{io_port{static_cast<std::uint16_t>(bar_port(random.next()))},
                                     32};
            good = bitmap_.open(bar).has_value() && good;
            keep(this);
        }
        return good;
    }
    bool undo() {
        (void)bitmap_.close(pt::vmx::io_bitmap::all_ports);
        return true;
    }
};

// ---------------------------------------------------------------------- from the exit to a handler

constexpr std::uint64_t exits = 4096;

/// What the handler of a port sees of an access; the same function for all, so that the processor
/// predicts the call, and what comes before it is not hidden.
class calls {
public:
    explicit calls(const region&) {
        random_numbers random;
        for (std::uint64_t& qualification : qualifications_) {
            constexpr std::uint64_t sizes[]{0, 1, 3};
            const std::uint64_t bits = random.next();
            qualification = (bits & 0xFFFF'0000) | sizes[bits % 3] | (bits >> 40 & 0x48);
        }
    }
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    std::uint64_t qualifications_[exits]{};
    std::uint64_t seen_ = 0;
};

class indirect_call : public calls {
public:
    using calls::calls;
    bool run(unsigned) {
        for (std::uint64_t i = 0; i != exits; ++i) {
            auto* const handler = handler_;
            handler(seen_, qualifications_[i]);
        }
        return true;
    }

private:
    [[gnu::noinline]] static void handle(std::uint64_t& seen, std::uint64_t port) { seen += port; }
    void (*volatile handler_)(std::uint64_t&, std::uint64_t) = handle;
};

class io_dispatch : public calls {
public:
    using calls::calls;
    bool run(unsigned) {
        bool good = true;
        for (std::uint64_t i = 0; i != exits; ++i) {
            const auto access = pt::vmx::io_instruction_of(
                pt::vmx::io_instruction_qualification{qualifications_[i]}, {}, 1);
            good = good && access.has_value();
            if (access) {
                auto* const handler = handler_;
                handler(seen_, *access);
            }
        }
        return good;
    }

private:
    [[gnu::noinline]] static void handle(std::uint64_t& seen,
                                         const pt::vcpu::io_instruction& access) {
        seen += access.port.raw;
    }
    void (*volatile handler_)(std::uint64_t&, const pt::vcpu::io_instruction&) = handle;
};

} // namespace

void add_io_exit_rows(add_row add) {
    add(row_of<memset_8k>::make("floor_memset_8KiB", times, 32, 1));
    add(row_of<range_64k>::make("io_bitmap_range_64k", times, 32, 1));
    add(row_of<or_word>::make("floor_or_word", bars, 64, 1));
    add(row_of<range_32>::make("io_bitmap_range_32", bars, 64, 1));
    add(row_of<indirect_call>::make("floor_indirect_call", exits, 64, 1));
    add(row_of<io_dispatch>::make("exit_io_dispatch", exits, 64, 1));
}

} // namespace bench
