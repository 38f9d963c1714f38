// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "virtual_machine.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm::kvm {

/// assign::guest_processors of a process with one thread: no other one is in the guest, and what
/// the processor caches is KVM's to forget.
struct still_processors {
    pt::result<void> invalidate(const pt::paging::stale_set<pt::gpa>& /*stale*/) { return {}; }
    void pause() {}
    void resume() {}
};

/// assign::guest_pages of a virtual machine of KVM. What the guest reaches is written down twice:
/// in a paging::table that no processor walks, so that it is checked and audited as any other, and
/// in KVM's memory slots, which always say the same. hpa is an address of this process. The guest
/// is not running meanwhile.
template <class Table, class Machine = virtual_machine>
class slot_pages {
public:
    using attributes = typename Table::attributes;
    using ticket = typename Table::ticket;

    slot_pages(Table& table, Machine& machine) : table_{&table}, machine_{&machine} {}

    /// As paging::table; and errc::refused with the first address: KVM does not take it, and
    /// nothing is mapped.
    pt::result<ticket> map(pt::range<pt::gpa> input, pt::hpa output, const attributes& how) {
        auto mapped = table_->map(input, output, how);
        if (!mapped) {
            return mapped.error();
        }
        // NOLINTNEXTLINE(performance-no-int-to-ptr): the guest's memory is this process's
        auto* const from = reinterpret_cast<std::byte*>(static_cast<std::uintptr_t>(output.raw));
        if (!machine_->give_memory(input, from)) {
            still_processors nobody{};
            (void)mapped->redeem(nobody);
            if (auto undone = table_->unmap(input)) {
                (void)undone->redeem(nobody);
            }
            return pt::error{pt::errc::refused, input.first().raw};
        }
        return *std::move(mapped);
    }
    pt::result<ticket> unmap(pt::range<pt::gpa> input) {
        auto unmapped = table_->unmap(input);
        if (!unmapped) {
            return unmapped.error();
        }
        machine_->take_memory(input);
        return *std::move(unmapped);
    }
    ticket retire() {
        machine_->take_memory({pt::gpa{0}, ~std::uint64_t{0}});
        return table_->retire();
    }
    [[nodiscard]] decltype(auto) format() const { return table_->format(); }
    [[nodiscard]] auto batch() const { return table_->batch(); }

private:
    Table* table_;
    Machine* machine_;
};

} // namespace vmm::kvm
