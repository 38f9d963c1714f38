// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/range.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstddef>
#include <cstdint>

namespace pt::svm {

/// The I/O permissions map [amd, IOIO Intercepts]: 12 KiB of contiguous memory, one bit for each
/// port, 1 for intercepted, and behind them the bits of the ports past 0xFFFF that an access at
/// 0xFFFF would touch. The first two pages are what VMX calls the I/O bitmaps A and B, and so they
/// are one: all that there is for ports, owners included, works on ports(). The third page is all
/// ones, so that an access which runs past port 0xFFFF is intercepted, as it exits under VMX.
///
///     svm::io_permission_map map{pages};                          // closed
///     vmx::shared_io_bitmap ports{map.ports(), slots, 16};
///
/// The VMM puts the hpa of the pages into IOPM_BASE_PA and sets the intercept IOIO_PROT.
class io_permission_map {
public:
    /// Qwords in the three 4-KiB pages.
    static constexpr std::size_t word_count = 3 * std::size_t{512};

    /// Takes over the pages and closes every port, whatever they held.
    explicit constexpr io_permission_map(std::uint64_t* pages)
        : io_permission_map{pages, nullptr, 0} {}

    /// The same with `count` further ranges of ports that never open, as vmx::io_bitmap has them.
    constexpr io_permission_map(std::uint64_t* pages, const range<io_port>* also_protected,
                                std::size_t count)
        : ports_{pages, pages + vmx::io_bitmap::words_per_page, also_protected, count} {
        for (std::size_t i = 2 * vmx::io_bitmap::words_per_page; i != word_count; ++i) {
            atomic::store_relaxed(pages + i, ~std::uint64_t{0});
        }
    }

    /// The bits of ports 0..0xFFFF. A handle: it stays valid as long as the pages do.
    [[nodiscard]] constexpr vmx::io_bitmap ports() const { return ports_; }

private:
    vmx::io_bitmap ports_;
};

} // namespace pt::svm
