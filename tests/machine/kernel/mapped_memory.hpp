// SPDX-License-Identifier: BSL-1.0
//
// The memory of a guest, which pt's tables map page by page: by EPT or by nested paging.
#pragma once

#include "guest_memory.hpp"
#include "kernel.hpp"

#include "pt/core/address.hpp"
#include "pt/paging/entry_format.hpp"
#include "pt/paging/stale_set.hpp"
#include "pt/paging/table.hpp"

#include <cstdint>

namespace kernel {

/// `Hardware` is the invalidator.
template <pt::paging::entry_format Format, class Hardware>
class mapped_memory : public guest_memory {
public:
    using tables_type = pt::paging::table<Format, memory_policy>;
    using attributes = typename Format::attributes;

    /// `ram`: all rights, and the memory type of RAM.
    mapped_memory(const Format& format, const attributes& ram, Hardware hardware)
        : frames_before_{frames_in_use()},
          tables_{memory(), format},
          ram_{ram},
          hardware_{hardware} {}

    [[nodiscard]] tables_type& tables() { return tables_; }
    [[nodiscard]] const Format& format() const { return tables_.format(); }
    [[nodiscard]] Hardware& hardware() { return hardware_; }

    /// Change what the guest may do with the page there.
    void protect(pt::gpa page, const attributes& rights) {
        redeem(tables_.protect({page, page_size}, rights), "a page is not protected");
    }
    void unmap(pt::gpa page) { redeem(tables_.unmap({page, page_size}), "a page is not unmapped"); }
    /// Back to its memory, with all rights.
    void map(pt::gpa page) {
        redeem(tables_.remap({page, page_size}, host_address(page), ram_), "a page is not mapped");
    }

    /// Writes the entry for that page, past pt, and removes what the processor caches.
    void write_entry(pt::gpa page, std::uint64_t entry, unsigned level = 1) {
        *static_cast<volatile std::uint64_t*>(entry_place(page, level)) = entry;
        if (!hardware_.invalidate(pt::paging::stale_set<pt::gpa>::all())) {
            give_up("nothing is invalidated");
        }
    }
    [[nodiscard]] std::uint64_t entry(pt::gpa page, unsigned level = 1) {
        return *entry_place(page, level);
    }

protected:
    /// All of the memory, in pages of 4 KiB.
    void map_all() {
        redeem(tables_.remap({pt::gpa{0}, size}, host_address(pt::gpa{0}), ram_,
                             pt::paging::page_size::size_4k),
               "the guest's memory is not mapped");
    }
    /// The end of the tables, while the processor can still invalidate what it caches of them.
    void retire() {
        check("the guest's tables are retired", tables_.retire().redeem(hardware_));
        check_equal("every frame of the tables is back", frames_in_use(), frames_before_);
    }

private:
    static constexpr std::uint64_t page_size = 4 * pt::KiB;

    template <class Ticket>
    void redeem(pt::result<Ticket> changed, const char* otherwise) {
        if (!changed || !changed->redeem(hardware_)) {
            give_up(otherwise);
        }
    }

    std::uint64_t* entry_place(pt::gpa page, unsigned level) {
        const auto root = tables_.root();
        if (!root) {
            give_up("there are no tables");
        }
        pt::hpa table = *root;
        for (unsigned at_level = format().levels();; --at_level) {
            std::uint64_t* const place =
                pointer_to(table) + (page.raw >> (12 + 9 * (at_level - 1)) & 0x1FF);
            if (at_level == level) {
                return place;
            }
            table = pt::paging::frame_of<Format>(*place, at_level);
        }
    }

    std::uint64_t frames_before_;
    tables_type tables_;
    attributes ram_;
    Hardware hardware_;
};

} // namespace kernel
