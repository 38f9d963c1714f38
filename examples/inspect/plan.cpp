// SPDX-License-Identifier: BSL-1.0
//
// What a VMM needs to pass a function through, and what speaks against it. Each finding is made in
// a function of its own, named by what it looks at.
#include "plan.hpp"

#include "names.hpp"

#include "pt/pci/access_control_services.hpp"
#include "pt/pci/address_translation_services.hpp"
#include "pt/pci/advanced_features.hpp"
#include "pt/pci/bar_pieces.hpp"
#include "pt/pci/enhanced_allocation.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace inspect {

namespace pci = pt::pci;

namespace {

constexpr std::uint64_t page = 4096;

bool is_memory(const pci::bar& bar) {
    return bar.kind != pci::bar_kind::io && bar.kind != pci::bar_kind::rom;
}

std::string address_text(const function_facts& function) { return function.address.text().data(); }

/// "a, b and 3 more".
std::string list_text(const std::vector<std::string>& names) {
    constexpr std::size_t most = 4;
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < most; ++i) {
        text += (i == 0 ? "" : ", ") + names[i];
    }
    return names.size() > most ? fmt::format("{} and {} more", text, names.size() - most) : text;
}

std::string list_text(const std::vector<const function_facts*>& functions) {
    std::vector<std::string> names;
    names.reserve(functions.size());
    for (const auto* function : functions) {
        names.push_back(address_text(*function));
    }
    return list_text(names);
}

class planner {
public:
    planner(const machine& all, const function_facts& function)
        : all_{all}, function_{function}, config_{all.config()}, path_{all.path(function)} {
        plan_.function = &function;
        plan_.requesters.push_back(function.address);
        plan_.bars = function.bars;
    }

    plan make() {
        if (!is_endpoint()) {
            return std::move(plan_);
        }
        plan_.is_device = true;
        what_is_not_known();
        bridge_above();
        who_has_it();
        enhanced_allocation();
        bars();
        msi_x_structures();
        interrupts();
        reset();
        conventional_bridges();
        access_control();
        siblings();
        features_that_escape();
        legacy_ranges();
        return std::move(plan_);
    }

private:
    void find(severity how, std::string id, std::string text) {
        plan_.findings.push_back({how, std::move(id), std::move(text)});
    }

    bool is_endpoint() {
        if (!function_.id || !function_.header || !function_.class_code) {
            find(severity::unknown, "header",
                 "the dump ends before the header does: nothing can be said");
            return false;
        }
        if (!function_.id->present()) {
            find(severity::no, "absent", "nothing answers there: the vendor id is none");
            return false;
        }
        const auto layout = (*function_.header)[pci::header_type::layout];
        if (layout != pci::header_layout::device && !pci::has_buses_behind(layout)) {
            find(severity::no, "header",
                 fmt::format("its header type {} is none that pt knows",
                             static_cast<unsigned>(layout)));
            return false;
        }
        if (layout != pci::header_layout::device) {
            find(severity::no, "bridge",
                 fmt::format("a function of header type {} ({}) is no device: pass through what "
                             "is behind it",
                             static_cast<unsigned>(layout), name_of(layout)));
            return false;
        }
        const std::uint32_t both = function_.class_code->raw >> 16;
        if (both >> 8 == 0x06) {
            find(severity::no, "chipset",
                 fmt::format("a {} is a part of the chipset, and the host needs it",
                             function_.title()));
        }
        if (both == 0x0806) {
            find(severity::no, "chipset", "the IOMMU is what keeps guests apart");
        }
        return true;
    }

    void what_is_not_known() {
        const auto status = pci::read<pci::status>(config_, function_.address);
        if (status[pci::status::capabilities_list] && !holds(function_, 0x40, 0xC0)) {
            capabilities_known_ = false;
            find(severity::unknown, "capabilities",
                 "configuration space beyond the header is not known (lspci -xxx as root shows "
                 "it): no word about MSI, reset and PCI Express");
        } else if (function_.has(pci::capability_id::pci_express) && !holds(function_, 0x100, 4)) {
            find(severity::unknown, "extended_capabilities",
                 "extended configuration space is not known (lspci -xxxx as root shows it): no "
                 "word about ACS, ATS and SR-IOV of the function");
        }
    }

    /// The buses above are numbered from 0 on, unless they are a tree of their own.
    void bridge_above() {
        const auto& topmost = path_.empty() ? function_ : *path_.back();
        if (topmost.sysfs == nullptr && topmost.address.bus != 0) {
            way_known_ = false;
            find(severity::unknown, "bridge_above",
                 fmt::format("no bridge to bus {:02x} is in the dump: no word about its reset, ACS "
                             "and source ids",
                             topmost.address.bus));
        }
    }

    void who_has_it() {
        using command = pci::command;
        if (function_.sysfs == nullptr) {
            find(severity::unknown, "host",
                 "a dump does not tell the driver, the IOMMU groups and the sizes of BARs");
        } else {
            if (function_.sysfs->driver && *function_.sysfs->driver != "vfio-pci" &&
                *function_.sysfs->driver != "pci-stub") {
                find(severity::condition, "driver",
                     fmt::format("the driver {} has it: unbind that first",
                                 printable(*function_.sysfs->driver)));
            }
            if (!function_.sysfs->iommu_group) {
                find(severity::unknown, "iommu",
                     "Linux has no IOMMU group for it: either Linux does not use the IOMMU "
                     "(intel_iommu=on), or there is none, and its DMA reaches all of the host");
            }
            std::vector<std::string> members;
            for (const auto& address : function_.sysfs->iommu_group_members) {
                const auto* const member = all_.find(address);
                if (address != function_.address && (member == nullptr || !member->bridge)) {
                    members.emplace_back(address.text().data());
                }
            }
            if (!members.empty()) {
                find(severity::condition, "iommu_group",
                     fmt::format("IOMMU group {} cannot be divided: {} must go to the same guest, "
                                 "or to nobody",
                                 *function_.sysfs->iommu_group, list_text(members)));
            }
            if (function_.sysfs->physical_function) {
                find(severity::condition, "virtual_function",
                     fmt::format("it is a virtual function of {}, which stays with the host and "
                                 "must not be reset or lose its VFs meanwhile",
                                 function_.sysfs->physical_function->text().data()));
            }
        }
        if (function_.command && (*function_.command)[command::bus_master]) {
            find(severity::condition, "bus_master",
                 "it is a bus master now: turn that off, and reset it, before its domain changes");
        }
    }

    void bars() {
        for (const std::uint16_t offset : function_.malformed_bars) {
            find(severity::no, "malformed_bar",
                 fmt::format("the Base Address register at {:#04x} has no valid form", offset));
        }
        const pci::msi_x_layout no_layout{};
        const auto& layout = function_.msi_x ? function_.msi_x->layout : no_layout;
        for (const pci::bar& bar : plan_.bars) {
            const auto what = bar.kind == pci::bar_kind::rom ? std::string{"the ROM"}
                                                             : fmt::format("BAR {}", bar.index);
            if (bar.size == 0) {
                find(
                    severity::unknown, "bar_size",
                    fmt::format("{}: the size is not known: only the function itself tells", what));
            }
            if (bar.address == 0 && bar.kind != pci::bar_kind::rom) {
                find(severity::condition, "bar_not_placed",
                     fmt::format("{} has no address: give it one first", what));
                continue;
            }
            if (bar.kind == pci::bar_kind::rom) {
                continue; // it is copied into the guest's memory
            }
            if (bar.size == 0) {
                msi_x_pages(bar, layout);
            } else if (bar.kind == pci::bar_kind::io) {
                ports(bar);
            } else {
                memory(bar, layout);
            }
        }
    }

    /// Ranges that the function has without asking [pcie]; their sizes are known even from a dump.
    void enhanced_allocation() {
        if (!function_.has(pci::capability_id::enhanced_allocation)) {
            return;
        }
        find(severity::condition, "enhanced_allocation",
             "it has ranges by Enhanced Allocation, which do not move: give them to the guest "
             "where they are, or hide the capability and show BARs instead");
        for (const auto& entry : pci::fixed_ranges(config_, function_.address)) {
            if (!entry) {
                find(severity::no, "malformed_bar",
                     fmt::format("the entry of Enhanced Allocation at {:#04x} is malformed",
                                 entry.error().where));
                continue;
            }
            const auto index = static_cast<std::uint8_t>(entry->equivalent);
            if (!entry->usable()) {
                continue;
            }
            if (entry->equivalent == pci::bar_equivalent::not_indicated) {
                find(severity::condition, "enhanced_allocation",
                     fmt::format("{:#x}-{:#x} belong to it and to none of its BARs", entry->address,
                                 entry->address + (entry->size - 1)));
            } else if (index <= 5 && find_bar(index) == nullptr) {
                plan_.bars.push_back({entry->is_io()    ? pci::bar_kind::io
                                      : entry->is_64bit ? pci::bar_kind::mem64
                                                        : pci::bar_kind::mem32,
                                      entry->prefetchable(), index, entry->offset, entry->address,
                                      entry->size});
            }
        }
        std::stable_sort(plan_.bars.begin(), plan_.bars.end(),
                         [](const auto& a, const auto& b) { return a.index < b.index; });
    }

    [[nodiscard]] const pci::bar* find_bar(std::uint8_t index) const {
        const auto found = std::find_if(plan_.bars.begin(), plan_.bars.end(),
                                        [&](const auto& bar) { return bar.index == index; });
        return found == plan_.bars.end() ? nullptr : &*found;
    }

    void ports(const pci::bar& bar) {
        const std::uint64_t last = bar.address + (bar.size - 1);
        if (last > 0xFFFF) {
            find(severity::no, "ports",
                 fmt::format("BAR {}: ports {:#x}-{:#x} do not exist on x86", bar.index,
                             bar.address, last));
            return;
        }
        plan_.ports.push_back({bar.index, bar.address, last});
        if (bar.address <= 0xCFF && last >= 0xCF8) {
            find(severity::no, "ports",
                 fmt::format("BAR {} covers the ports 0xcf8-0xcff of configuration space",
                             bar.index));
        }
    }

    void memory(const pci::bar& bar, const pci::msi_x_layout& layout) {
        const auto lies_in = [](const pci::bar_part& structure, const pci::bar_part& piece) {
            return structure.size != 0 && structure.bar == piece.bar &&
                   structure.offset < piece.offset + piece.size &&
                   piece.offset < structure.offset + structure.size;
        };
        if (bar.size >= page && (bar.address % page != 0 || bar.size % page != 0)) {
            // Only Enhanced Allocation can do this; a BAR is a power of two.
            plan_.memory.push_back({true, bar.index, 0, bar.address, bar.size, "not whole pages"});
            find(severity::condition, "small_bar",
                 fmt::format("BAR {} does not begin and end with a page: map none of it, or only "
                             "the whole pages inside",
                             bar.index));
            overlaps(bar);
            return;
        }
        for (const auto& piece : pci::bar_pieces::of(bar, layout)) {
            memory_piece out{piece.how == pci::reach::trapped, bar.index,       piece.part.offset,
                             bar.address + piece.part.offset,  piece.part.size, {}};
            if (out.trapped) {
                const bool table = lies_in(layout.table, piece.part);
                const bool pending = lies_in(layout.pending_bits, piece.part);
                out.why = table && pending ? "MSI-X table and pending bits"
                          : table          ? "MSI-X table"
                          : pending        ? "MSI-X pending bits"
                                           : "smaller than a page";
            }
            plan_.memory.push_back(out);
        }
        small(bar);
        overlaps(bar);
    }

    /// What must be trapped of a BAR of unknown size.
    void msi_x_pages(const pci::bar& bar, const pci::msi_x_layout& layout) {
        const auto trap = [&](const pci::bar_part& structure, const char* why) {
            if (is_memory(bar) && structure.size != 0 && structure.bar == bar.index) {
                const std::uint64_t first = structure.offset / page * page;
                const std::uint64_t size =
                    (structure.offset + structure.size - first + page - 1) / page * page;
                auto& all = plan_.memory;
                if (!all.empty() && all.back().bar == bar.index && all.back().offset == first &&
                    all.back().size == size) {
                    all.back().why = "MSI-X table and pending bits";
                } else {
                    all.push_back({true, bar.index, first, bar.address + first, size, why});
                }
            }
        };
        trap(layout.table, "MSI-X table");
        trap(layout.pending_bits, "MSI-X pending bits");
    }

    void small(const pci::bar& bar) {
        if (bar.size >= page) {
            return;
        }
        std::vector<std::string> neighbours;
        const std::uint64_t first = bar.address / page * page;
        for (const function_facts& other : all_.functions()) {
            for (const pci::bar& its : other.bars) {
                const bool same = &other == &function_ && its.index == bar.index;
                const std::uint64_t last = its.address + (its.size == 0 ? 0 : its.size - 1);
                if (!same && is_memory(its) && its.address != 0 &&
                    its.address <= first + page - 1 && last >= first) {
                    neighbours.push_back(
                        fmt::format("BAR {} of {}", its.index, address_text(other)));
                }
            }
        }
        find(
            severity::condition, "small_bar",
            fmt::format("BAR {} has {}, less than a page{}: do not map it, let each access leave "
                        "the guest",
                        bar.index, size_text(bar.size),
                        neighbours.empty() ? "" : ", and in its page is " + list_text(neighbours)));
    }

    void overlaps(const pci::bar& bar) {
        for (const function_facts& other : all_.functions()) {
            for (const pci::bar& its : other.bars) {
                const std::uint64_t last = its.address + (its.size == 0 ? 0 : its.size - 1);
                if (&other != &function_ && is_memory(its) && its.address != 0 &&
                    its.address <= bar.address + (bar.size - 1) && last >= bar.address) {
                    find(severity::no, "overlap",
                         fmt::format("BAR {} overlaps BAR {} of {}", bar.index, its.index,
                                     address_text(other)));
                }
            }
        }
    }

    void msi_x_structures() {
        if (!function_.msi_x) {
            if (capabilities_known_ && function_.has(pci::capability_id::msi_x)) {
                find(severity::no, "msi_x_malformed",
                     "MSI-X is malformed: its table or pending bits are in a reserved BAR");
            }
            return;
        }
        const auto check = [&](const pci::bar_part& part, const char* what) {
            const auto* const found = find_bar(part.bar);
            if (found != nullptr && found->size == 0 && is_memory(*found)) {
                return; // the unknown size is a finding of its own
            }
            const auto only = [&](std::uint8_t index) -> pt::result<pci::bar> {
                return found != nullptr && index == part.bar
                           ? pt::result<pci::bar>{*found}
                           : pt::result<pci::bar>{pt::error{pt::errc::absent, index}};
            };
            const auto inside =
                pci::bar_of(part, pci::bar_list::collect(pci::header_layout::device, only, only));
            if (!inside && inside.error().code == pt::errc::absent) {
                find(severity::no, "msi_x_outside",
                     fmt::format("the MSI-X {} is in BAR {}, which is no memory BAR", what,
                                 part.bar));
            } else if (!inside) {
                find(severity::no, "msi_x_outside",
                     fmt::format("the MSI-X {} at {:#x} runs past the end of BAR {}", what,
                                 part.offset, part.bar));
            }
        };
        check(function_.msi_x->layout.table, "table");
        check(function_.msi_x->layout.pending_bits, "pending bits");
        for (const auto& piece : plan_.memory) {
            const auto& table = function_.msi_x->layout.table;
            const auto* const bar = find_bar(piece.bar);
            if (bar != nullptr && bar->size != 0 && piece.trapped && piece.bar == table.bar &&
                piece.why == "MSI-X table" && table.size % page != 0 && piece.size >= page) {
                find(severity::condition, "shared_msi_x_page",
                     fmt::format("the trapped {} of BAR {} hold more than the MSI-X table: "
                                 "forward accesses to the registers around it",
                                 size_text(piece.size), piece.bar));
            }
        }
    }

    void interrupts() {
        if (!capabilities_known_ || function_.msi || function_.msi_x) {
            return;
        }
        if (function_.interrupt_pin >= 1 && function_.interrupt_pin <= 4) {
            find(severity::condition, "no_msi",
                 fmt::format("it has neither MSI nor MSI-X: INT{}# is a level-triggered line that "
                             "others may share; the host must mask it (Command, Interrupt "
                             "Disable) until the guest has served it",
                             static_cast<char>('A' + function_.interrupt_pin - 1)));
        }
    }

    void reset() {
        if (!capabilities_known_) {
            return;
        }
        const auto express = pci::read_pci_express(config_, function_.address);
        if (express && express->device[pci::device_capabilities::function_level_reset_capability]) {
            plan_.reset = reset_method::function_level;
            return;
        }
        const auto features = pci::read_advanced_features(config_, function_.address);
        if (features &&
            features->capabilities[pci::advanced_features_capabilities::function_level_reset]) {
            plan_.reset = reset_method::advanced_features;
            return;
        }
        const auto power = pci::read_power_management(config_, function_.address);
        if (power && !power->control_status[pci::power_management_control_status::no_soft_reset]) {
            plan_.reset = reset_method::power_management;
            find(severity::condition, "no_flr",
                 "it has no function level reset: the way through D3hot resets what the device's "
                 "maker has chosen; check that registers and DMA are clean after it");
            return;
        }
        if (!path_.empty() &&
            (*path_.front()->header)[pci::header_type::layout] == pci::header_layout::bridge) {
            plan_.reset = reset_method::secondary_bus;
            auto others = all_.behind(*path_.front());
            others.erase(std::remove(others.begin(), others.end(), &function_), others.end());
            find(severity::condition, "no_flr",
                 fmt::format("it has no reset of its own: the secondary bus reset of {} is the "
                             "only one{}",
                             address_text(*path_.front()),
                             others.empty() ? ""
                                            : fmt::format(", and resets {} too: they must go to "
                                                          "the same guest, or to nobody",
                                                          list_text(others))));
            return;
        }
        if (!way_known_) {
            return;
        }
        plan_.reset = reset_method::none;
        find(severity::no, "no_reset",
             "it has no reset of its own: what one guest leaves in it, secrets or running DMA, the "
             "next owner gets");
    }

    /// Bridges to conventional PCI put their own id on the requests of all that is behind them.
    void conventional_bridges() {
        const function_facts* topmost = nullptr;
        for (const auto* bridge : path_) {
            const auto express = pci::read_pci_express(config_, bridge->address);
            if (!express && bridge->has(pci::capability_id::pci_express)) {
                find(severity::unknown, "bridge_above",
                     fmt::format("the PCI Express capability of {} is malformed or not known",
                                 address_text(*bridge)));
                continue;
            }
            if (!express && !holds(*bridge, 0x40, 0xC0)) {
                find(severity::unknown, "bridge_above",
                     fmt::format("whether {} is PCI Express is not known", address_text(*bridge)));
                continue;
            }
            if (!express) {
                plan_.requesters.push_back(bridge->address);
                topmost = bridge;
            } else if (express->type() == pci::device_port_type::pci_express_to_pci_bridge) {
                plan_.requesters.push_back(
                    {bridge->address.segment, bridge->bridge->secondary, 0, 0});
                topmost = bridge;
            }
        }
        if (topmost == nullptr) {
            return;
        }
        std::vector<const function_facts*> sharers;
        for (const auto* other : all_.behind(*topmost)) {
            if (other != &function_ && !other->bridge) {
                sharers.push_back(other);
            }
        }
        find(severity::condition, "shared_source_id",
             sharers.empty()
                 ? fmt::format("it is behind {}, a bridge to conventional PCI: the IOMMU sees the "
                               "bridge's id, and what is plugged in there later shares it",
                               address_text(*topmost))
                 : fmt::format("it is behind {}, a bridge to conventional PCI, and all functions "
                               "there share one source id: {} must go to the same guest, or to "
                               "nobody",
                               address_text(*topmost), list_text(sharers)));
    }

    /// Ports that may turn a request around before the IOMMU has seen it.
    void access_control() {
        for (const auto* bridge : path_) {
            const auto express = pci::read_pci_express(config_, bridge->address);
            if (!express || (express->type() != pci::device_port_type::root_port &&
                             express->type() != pci::device_port_type::downstream_port)) {
                continue;
            }
            const bool root = express->type() == pci::device_port_type::root_port;
            const std::string port =
                fmt::format("{} {}", root ? "root port" : "downstream port", address_text(*bridge));
            if (!holds(*bridge, 0x100, 4)) {
                find(severity::unknown, "acs",
                     fmt::format("whether {} has ACS is not known: its extended configuration "
                                 "space is missing",
                                 port));
                continue;
            }
            const auto acs = pci::read_access_control_services(config_, bridge->address);
            if (acs && redirects(*acs)) {
                continue;
            }
            find(severity::condition, "acs",
                 fmt::format("{} {}: DMA may reach the BARs of other functions without passing "
                             "the IOMMU; keep them in the same guest, and guest memory away from "
                             "their addresses{}",
                             port,
                             acs ? "has ACS, but source validation or the redirects are off"
                                 : "has no ACS",
                             peer_windows(*bridge)));
        }
    }

    static bool redirects(const pci::access_control_services& acs) {
        using cap = pci::acs_capability;
        using control = pci::acs_control;
        // A bit that is not in the capabilities says, in a root port, that such requests do not
        // happen; source validation must be there.
        const bool upstream = !acs.capability[cap::upstream_forwarding] ||
                              acs.control[control::upstream_forwarding_enable];
        return acs.control[control::source_validation_enable] &&
               acs.control[control::p2p_request_redirect_enable] &&
               acs.control[control::p2p_completion_redirect_enable] && upstream;
    }

    /// What the other ports next to `port` forward.
    std::string peer_windows(const function_facts& port) const {
        std::vector<std::string> windows;
        for (const function_facts& other : all_.functions()) {
            if (&other == &port || !other.bridge || other.address.segment != port.address.segment ||
                other.address.bus != port.address.bus) {
                continue;
            }
            for (const auto& window : {other.bridge->memory, other.bridge->prefetchable}) {
                if (window) {
                    windows.push_back(fmt::format("{:#x}-{:#x}", window->base, window->limit));
                }
            }
        }
        return windows.empty() ? "" : fmt::format(" ({})", fmt::join(windows, ", "));
    }

    void siblings() {
        std::vector<const function_facts*> others;
        for (const function_facts& other : all_.functions()) {
            const bool virtual_one = other.sysfs != nullptr && other.sysfs->physical_function;
            if (&other != &function_ && !virtual_one &&
                other.address.segment == function_.address.segment &&
                other.address.bus == function_.address.bus &&
                other.address.device == function_.address.device) {
                others.push_back(&other);
            }
        }
        const bool multi = (*function_.header)[pci::header_type::multi_function];
        if (others.empty() && !multi) {
            return;
        }
        const auto acs = pci::read_access_control_services(config_, function_.address);
        if (acs && acs->control[pci::acs_control::p2p_request_redirect_enable]) {
            return;
        }
        find(severity::condition, "siblings",
             fmt::format("it is one function of several of a device{}, and nothing shows that "
                         "they cannot reach each other inside it: they belong to the same guest",
                         others.empty() ? "" : fmt::format(" (with {})", list_text(others))));
    }

    /// What a guest could use to act outside of its domain.
    void features_that_escape() {
        if (function_.has(pci::extended_capability_id::address_translation_services)) {
            const auto ats = pci::read_address_translation_services(config_, function_.address);
            find(severity::condition, "ats",
                 fmt::format("it has ATS{}: requests that it calls translated pass the IOMMU "
                             "unchecked; hide the capability and keep it off unless the device "
                             "is trusted",
                             ats && ats->control[pci::ats_control::enable] ? ", which is on" : ""));
        }
        if (function_.has(pci::extended_capability_id::single_root_io_virtualization)) {
            find(severity::condition, "sr_iov",
                 "it can make virtual functions with source ids of their own (SR-IOV): hide the "
                 "capability");
        }
        if (function_.has(pci::extended_capability_id::resizable_bar)) {
            find(severity::condition, "resizable_bar",
                 "its BARs can change their size: hide the capability");
        }
        const auto express = pci::read_pci_express(config_, function_.address);
        if (express && holds(function_, express->at.offset + 8U, 2) &&
            pci::read<pci::device_control>(
                config_, function_.address,
                express->at)[pci::device_control::phantom_functions_enable]) {
            find(severity::condition, "phantom_functions",
                 "it may use the ids of functions that do not exist (phantom functions): turn "
                 "that off");
        }
    }

    void legacy_ranges() {
        const std::uint32_t both = function_.class_code->raw >> 16;
        if (both == 0x0300 || both == 0x0001) {
            find(severity::condition, "vga",
                 "VGA also answers at 0xa0000-0xbffff and ports 0x3b0-0x3bb and 0x3c0-0x3df, "
                 "which no BAR shows: the guest needs them emulated, or a driver that does "
                 "without");
        }
        if (both == 0x0101 && (function_.class_code->raw >> 8 & 0x05U) != 0x05U) {
            find(severity::condition, "ide",
                 "an IDE channel in compatibility mode answers at ports 0x1f0-0x1f7, 0x3f6 or "
                 "0x170-0x177, 0x376, which no BAR shows");
        }
    }

    [[nodiscard]] bool holds(const function_facts& function, std::size_t offset,
                             std::size_t size) const {
        return all_.holds(function.address, offset, size);
    }

    const machine& all_;
    const function_facts& function_;
    pt::hosted::config_snapshot::config config_;
    std::vector<const function_facts*> path_;
    bool capabilities_known_ = true;
    bool way_known_ = true;
    plan plan_;
};

const char* name_of(severity how) {
    switch (how) {
    case severity::condition: return "condition";
    case severity::unknown: return "unknown";
    case severity::no: return "no";
    }
    return "";
}

const char* name_of(reset_method method) {
    switch (method) {
    case reset_method::function_level: return "flr";
    case reset_method::advanced_features: return "af_flr";
    case reset_method::power_management: return "pm";
    case reset_method::secondary_bus: return "secondary_bus";
    case reset_method::none: return "none";
    case reset_method::unknown: break;
    }
    return "unknown";
}

const char* text_of(reset_method method) {
    switch (method) {
    case reset_method::function_level: return "function level reset (PCI Express)";
    case reset_method::advanced_features: return "function level reset (advanced features)";
    case reset_method::power_management: return "D3hot and back to D0 (power management)";
    case reset_method::secondary_bus: return "secondary bus reset of the bridge above";
    case reset_method::none: return "none";
    case reset_method::unknown: break;
    }
    return "not known";
}

} // namespace

const char* plan::verdict() const {
    const auto any = [&](severity how) {
        return std::any_of(findings.begin(), findings.end(),
                           [&](const finding& f) { return f.how == how; });
    };
    return any(severity::no)          ? "no"
           : any(severity::unknown)   ? "unknown"
           : any(severity::condition) ? "conditions"
                                      : "yes";
}

plan make_plan(const machine& all, const std::string& address) {
    const auto wanted = pci::function_address::parse(address.data(), address.size());
    if (!wanted) {
        throw failure{fmt::format("\"{}\" is no address of a function: write it as 0000:01:00.0 "
                                  "or 01:00.0 (device up to 1f, function up to 7)",
                                  address)};
    }
    const auto* const function = all.find(*wanted);
    if (function == nullptr) {
        throw failure{fmt::format("there is no function {}; `pt-inspect pci` lists those that are "
                                  "there",
                                  wanted->text().data())};
    }
    return planner{all, *function}.make();
}

namespace {

std::string needs_text(const plan& made, const painter& paint) {
    const function_facts& function = *made.function;
    std::string out;
    const auto section = [&](const char* title) {
        out += fmt::format("\n{}\n", paint.strong(title));
    };

    section("BARs");
    if (made.bars.empty()) {
        out += "    none\n";
    }
    for (const pci::bar& bar : made.bars) {
        out += fmt::format("    {:<3}  {:<5}  {:#018x}  {}{}\n",
                           bar.kind == pci::bar_kind::rom ? "ROM" : fmt::format("{}", bar.index),
                           inspect::name_of(bar.kind), bar.address,
                           bar.size == 0                   ? std::string{"size not known"}
                           : bar.kind == pci::bar_kind::io ? fmt::format("{} ports", bar.size)
                                                           : size_text(bar.size),
                           bar.prefetchable ? ", prefetchable" : "");
    }

    const auto nothing = [&](const char* what, auto is_meant) {
        const bool unknown =
            std::any_of(made.bars.begin(), made.bars.end(),
                        [&](const pci::bar& bar) { return is_meant(bar) && bar.size == 0; });
        return fmt::format("    {}\n", unknown ? "not known without the sizes" : what);
    };
    section("I/O bitmap");
    if (made.ports.empty()) {
        out += nothing("nothing to open",
                       [](const pci::bar& bar) { return bar.kind == pci::bar_kind::io; });
    }
    for (const port_piece& piece : made.ports) {
        out += fmt::format("    open  {:#06x}-{:#06x}  BAR {}, if the guest has it at the same "
                           "ports; else forward each access\n",
                           piece.first, piece.last, piece.bar);
    }

    section("EPT");
    if (made.memory.empty()) {
        out += nothing("nothing to map", is_memory);
    }
    for (const memory_piece& piece : made.memory) {
        const std::uint64_t pages = (piece.size + page - 1) / page;
        out +=
            fmt::format("    {}  {:#x}-{:#x}  {} page{}  BAR {} from {:#x}{}\n",
                        piece.trapped ? paint.careful("trap") : paint.good("map "), piece.address,
                        piece.address + (piece.size - 1), pages, pages == 1 ? "" : "s", piece.bar,
                        piece.offset, piece.trapped ? ": " + piece.why : "");
    }

    section("Interrupts");
    if (function.msi_x) {
        out += fmt::format("    MSI-X  {} vector{}\n", function.msi_x->layout.vectors,
                           function.msi_x->layout.vectors == 1 ? "" : "s");
    }
    if (function.msi) {
        out += fmt::format("    MSI    {} vector{}, {}-bit address{}\n", function.msi->vectors,
                           function.msi->vectors == 1 ? "" : "s", function.msi->is_64bit ? 64 : 32,
                           function.msi->maskable ? ", maskable" : "");
    }
    if (function.interrupt_pin >= 1 && function.interrupt_pin <= 4) {
        out += fmt::format("    INT{}#\n", static_cast<char>('A' + function.interrupt_pin - 1));
    }
    if (!function.msi && !function.msi_x &&
        (function.interrupt_pin == 0 || function.interrupt_pin > 4)) {
        out += "    none known\n";
    }

    section("IOMMU");
    for (const auto& requester : made.requesters) {
        out += fmt::format("    a domain for source id {:#06x} ({})\n", requester.source_id(),
                           requester.text().data());
    }
    out += "    interrupt remapping: without it DMA to 0xfee00000-0xfeefffff is any interrupt\n";
    out += "    reserved memory regions of the function: see `pt-inspect dmar`\n";

    section("Reset");
    out += fmt::format("    {}\n", text_of(made.reset));
    return out;
}

} // namespace

std::string plan_text(const plan& made, const painter& paint) {
    const function_facts& function = *made.function;
    std::string out = fmt::format("{}  {}\n", paint.strong(address_text(function)),
                                  paint.strong(function.title()));
    if (made.is_device) {
        out += needs_text(made, paint);
    }

    const std::string verdict = made.verdict();
    const auto findings = [&](severity how, const char* title, auto colour) {
        bool any = false;
        for (const finding& found : made.findings) {
            if (found.how == how) {
                if (!any) {
                    out += fmt::format("\n{}\n", (paint.*colour)(title));
                }
                any = true;
                out += fmt::format("    - {}\n", found.text);
            }
        }
    };
    findings(severity::no, "Not safely, because", &painter::bad);
    findings(severity::unknown, "Not known", &painter::careful);
    findings(severity::condition, "Safe only if the VMM sees to this", &painter::careful);
    if (verdict == "yes") {
        out += fmt::format("\n{}\n", paint.good("Nothing of what was looked at speaks against it"));
    }
    return out;
}

std::string plan_json(const plan& made) {
    using json = nlohmann::ordered_json;
    const auto hexadecimal = [](std::uint64_t number) { return fmt::format("0x{:x}", number); };
    const function_facts& function = *made.function;
    json out;
    out["address"] = address_text(function);
    out["verdict"] = made.verdict();
    out["source_ids"] = json::array();
    for (const auto& requester : made.requesters) {
        out["source_ids"].push_back(fmt::format("0x{:04x}", requester.source_id()));
    }
    out["bars"] = json::array();
    for (const pci::bar& bar : made.bars) {
        out["bars"].push_back(
            {{"index", bar.index},
             {"kind", inspect::name_of(bar.kind)},
             {"prefetchable", bar.prefetchable},
             {"address", hexadecimal(bar.address)},
             {"size", bar.size == 0 ? json(nullptr) : json(hexadecimal(bar.size))}});
    }
    out["ports"] = json::array();
    for (const port_piece& piece : made.ports) {
        out["ports"].push_back({{"bar", piece.bar},
                                {"first", hexadecimal(piece.first)},
                                {"last", hexadecimal(piece.last)}});
    }
    out["memory"] = json::array();
    for (const memory_piece& piece : made.memory) {
        out["memory"].push_back({{"reach", piece.trapped ? "trap" : "map"},
                                 {"bar", piece.bar},
                                 {"offset", hexadecimal(piece.offset)},
                                 {"address", hexadecimal(piece.address)},
                                 {"size", hexadecimal(piece.size)},
                                 {"why", piece.trapped ? json(piece.why) : json(nullptr)}});
    }
    out["vectors"] = {{"msi", function.msi ? function.msi->vectors : 0},
                      {"msix", function.msi_x ? function.msi_x->layout.vectors : 0},
                      {"intx", function.interrupt_pin >= 1 && function.interrupt_pin <= 4}};
    out["reset"] = name_of(made.reset);
    out["findings"] = json::array();
    for (const finding& found : made.findings) {
        out["findings"].push_back(
            {{"severity", name_of(found.how)}, {"id", found.id}, {"text", found.text}});
    }
    return out.dump(2) + "\n";
}

} // namespace inspect
