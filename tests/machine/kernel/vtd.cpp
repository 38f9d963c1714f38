// SPDX-License-Identifier: BSL-1.0
#include "vtd.hpp"

namespace kernel {
namespace {

using pt::vtd::fault_reason;
using pt::vtd::fault_record;

/// In scalable mode the manual has numbers of its own for the same causes: 85h and 86h, and 41h.
/// QEMU 7.2 tells those of legacy mode there.
bool lacks_rights(const fault_record& fault) {
    const bool scalable = options_told().mode == pt::vtd::table_mode::scalable;
    return fault.type == fault_record::request::write
               ? fault.reason == fault_reason::write_not_permitted ||
                     (scalable && fault.reason == fault_reason::scalable_write_not_permitted)
               : fault.reason == fault_reason::read_not_permitted ||
                     (scalable && fault.reason == fault_reason::scalable_read_not_permitted);
}
bool lacks_entry(const fault_record& fault) {
    const bool scalable = options_told().mode == pt::vtd::table_mode::scalable;
    return fault.reason == fault_reason::context_entry_not_present ||
           (scalable && fault.reason == fault_reason::scalable_context_entry_not_present);
}

template <class Reason>
bool check_faults(const char* name, remapping& vtd, pt::pci::function_address source,
                  fault_record::request type, pt::iova page, Reason is_expected) {
    unsigned right = 0;
    const pt::vtd::fault_pass pass =
        vtd.handle_faults(64, [&](const fault_record& fault, pt::vtd::fault_verdict) {
            if (fault.source == source && fault.type == type && fault.page == page &&
                is_expected(fault)) {
                ++right;
            } else {
                say("a fault of ", fault.source.source_id(), ", page ", fault.page.raw, ", ",
                    pt::vtd::name(fault.reason));
            }
        });
    return check(name, right != 0 && right == pass.faults && !pass.more);
}

} // namespace

pt::vtd::unit_options options_told() {
    using namespace pt::vtd;
    return {.mode = told("x-scalable-mode=on") && !told("legacy-tables") ? table_mode::scalable
                                                                         : table_mode::legacy,
            .invalidation = told("registers") ? invalidation_interface::registers
                                              : invalidation_interface::queue_where_possible};
}

pt::result<pt::vtd::dmar> dmar_table() {
    const bytes table = acpi_table("DMAR");
    return pt::vtd::dmar::read(reinterpret_cast<const std::uint8_t*>(table.data), table.size);
}

pt::vtd::drhd first_unit(const pt::vtd::dmar& table) {
    for (const pt::vtd::drhd place : table.each<pt::vtd::drhd>()) {
        return place;
    }
    give_up("the DMAR table has no unit");
}

pt::vtd::interrupt_message event_message(std::uint8_t vector) {
    return pt::vtd::interrupt_message::compatibility(vector, apic_id());
}

bool check_blocked(const char* name, remapping& vtd, pt::pci::function_address source,
                   fault_record::request type, pt::iova page) {
    return check_faults(name, vtd, source, type, page, lacks_rights);
}

bool check_without_entry(const char* name, remapping& vtd, pt::pci::function_address source,
                         fault_record::request type, pt::iova page) {
    return check_faults(name, vtd, source, type, page, lacks_entry);
}

bool check_no_fault(const char* name, remapping& vtd) {
    const pt::vtd::fault_pass pass =
        vtd.handle_faults(1, [](const fault_record& fault, pt::vtd::fault_verdict) {
            say("a fault of ", fault.source.source_id(), ", page ", fault.page.raw, ", ",
                pt::vtd::name(fault.reason));
        });
    return check(name, pass.faults == 0 && !pass.more);
}

} // namespace kernel
