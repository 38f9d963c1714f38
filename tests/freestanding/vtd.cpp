// SPDX-License-Identifier: BSL-1.0
//
// Every class of the VT-d layer with all of its members, as a kernel's compiler makes them.

#include "pt/pt.hpp"

namespace kernel {

struct registers {
    volatile unsigned char* base;

    std::uint32_t read32(std::uint32_t at) {
        return *reinterpret_cast<volatile std::uint32_t*>(base + at);
    }
    std::uint64_t read64(std::uint32_t at) {
        return *reinterpret_cast<volatile std::uint64_t*>(base + at);
    }
    void write32(std::uint32_t at, std::uint32_t v) {
        *reinterpret_cast<volatile std::uint32_t*>(base + at) = v;
    }
    void write64(std::uint32_t at, std::uint64_t v) {
        *reinterpret_cast<volatile std::uint64_t*>(base + at) = v;
    }
};

struct ticks {
    std::uint64_t now() { return __builtin_ia32_rdtsc(); }
};

/// Frames one after the other, reached where they lie.
struct frames {
    std::uint64_t* next;

    pt::result<pt::hpa> allocate(pt::frame_contents) { return pt::hpa{*next += 4096}; }
    void release(pt::hpa) {}
    std::uint64_t* entries(pt::hpa frame) {
        return reinterpret_cast<std::uint64_t*>(frame.raw); // NOLINT(performance-no-int-to-ptr)
    }
};

using policies = pt::vtd::policies<registers, ticks, frames, pt::paging::clflush_publication,
                                   pt::cmpxchg16b_store>;
using remapping = pt::vtd::remapping<policies, pt::pci::archetype::bridge_bus_numbers>;
using unit = remapping::unit_type;
using domain = pt::vtd::domain<remapping>;
using attachment = remapping::attachment_type;

} // namespace kernel

namespace pt::vtd {

template class unit<kernel::policies>;
template class remapping<kernel::policies, pci::archetype::bridge_bus_numbers>;
template class domain<kernel::remapping>;
template class pass_through_domain<kernel::remapping>;
template class attachment<kernel::remapping>;
template class register_invalidation<kernel::registers, kernel::ticks>;
template class invalidation_queue<kernel::registers, kernel::ticks, kernel::frames>;
template class root_table<kernel::frames, paging::clflush_publication, cmpxchg16b_store>;
template class interrupt_remapping_table<paging::clflush_publication, cmpxchg16b_store>;
template class fault_log<kernel::registers, kernel::ticks>;
template class domain_invalidator<kernel::unit>;

} // namespace pt::vtd

namespace kernel {

// The members that are templates themselves.

pt::result<void> with_pasid(unit& u, pt::pci::function_address function,
                            const pt::vtd::translation& through) {
    return u.attach(function, through.with_pasids())
        .and_then([&] { return u.functions().attach_pasid(function, 3, through, u); })
        .and_then([&] { return u.functions().detach_pasid(function, 3, u); })
        .and_then([&] { return u.replace(function, through); });
}

pt::result<void> with_device_tlb(remapping& vtd, domain& guest, attachment& node) {
    return guest.map_reserved_regions(node.who())
        .and_then([&] { return guest.attach(node); })
        .and_then([&] { return vtd.turn_device_tlb_on(node, [] {}); })
        .and_then([&] { return vtd.report_faults_again(node); })
        .and_then([&] {
            vtd.turn_device_tlb_off(node, [] {});
            return vtd.release(node);
        });
}

pt::result<void> many_changes(domain& guest, pt::range<pt::iova> pages) {
    domain::batch changes{guest};
    const auto unmapped = changes.unmap(pages);
    const auto flushed = changes.flush();
    return unmapped ? flushed : unmapped;
}

pt::result<bool> completion(unit& u) {
    const auto posted = u.queue().post_with_interrupt();
    if (!posted) {
        return posted.error();
    }
    return u.queue().take_completion_event() ? u.queue().done(*posted) : false;
}

pt::result<void> interrupts(remapping& vtd, std::uint8_t io_apic) {
    return vtd.with_unit_of(
        pt::vtd::device_scope_type::io_apic, io_apic,
        [](unit& u, pt::pci::function_address source) -> pt::result<void> {
            const auto block = u.interrupts().allocate(2);
            if (!block) {
                return block.error();
            }
            const auto from = pt::vtd::interrupt_requester::exactly(source.source_id());
            return u.interrupts()
                .set(block->first, pt::vtd::interrupt_target{.vector = 0x41}, from, u)
                .and_then([&] {
                    return u.interrupts().change(
                        block->first,
                        pt::vtd::posted_target{.descriptor = pt::hpa{0x1000}, .vector = 0x31}, from,
                        u);
                })
                .and_then([&] { return u.interrupts().release(*block, u); });
        });
}

} // namespace kernel
