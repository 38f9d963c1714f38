// SPDX-License-Identifier: BSL-1.0
#include "pci.hpp"

#include "names.hpp"

#include <iterator>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace inspect {

namespace pci = pt::pci;
using json = nlohmann::ordered_json;

namespace {

std::string hexadecimal(std::uint64_t number) { return fmt::format("0x{:x}", number); }

json to_json(const std::optional<pci::bridge_window>& window) {
    if (!window) {
        return nullptr;
    }
    return {{"base", hexadecimal(window->base)}, {"limit", hexadecimal(window->limit)}};
}

json to_json(const function_facts& function) {
    using header = pci::header_type;
    json out;
    out["address"] = function.address.text().data();
    out["vendor"] = nullptr;
    out["device"] = nullptr;
    if (function.id) {
        out["vendor"] = fmt::format("{:04x}", (*function.id)[pci::identity::vendor_id]);
        out["device"] = fmt::format("{:04x}", (*function.id)[pci::identity::device_id]);
    }
    out["class"] = nullptr;
    if (function.class_code) {
        out["class"] = fmt::format("{:06x}", function.class_code->raw >> 8);
    }
    out["header_type"] = nullptr;
    if (function.header) {
        out["header_type"] = static_cast<unsigned>((*function.header)[header::layout]);
    }
    out["bars"] = json::array();
    for (const pci::bar& bar : function.bars) {
        out["bars"].push_back({{"index", bar.index},
                               {"kind", name_of(bar.kind)},
                               {"prefetchable", bar.prefetchable},
                               {"address", hexadecimal(bar.address)}});
    }
    out["bridge"] = nullptr;
    if (function.bridge) {
        out["bridge"] = {{"primary", function.bridge->primary},
                         {"secondary", function.bridge->secondary},
                         {"subordinate", function.bridge->subordinate},
                         {"io", to_json(function.bridge->io)},
                         {"memory", to_json(function.bridge->memory)},
                         {"prefetchable", to_json(function.bridge->prefetchable)}};
    }
    out["capabilities"] = json::array();
    for (const auto& capability : function.capabilities) {
        out["capabilities"].push_back(
            {{"id", fmt::format("{:02x}", static_cast<unsigned>(capability.id))},
             {"offset", fmt::format("{:02x}", capability.offset)}});
    }
    out["extended_capabilities"] = json::array();
    for (const auto& capability : function.extended_capabilities) {
        out["extended_capabilities"].push_back(
            {{"id", fmt::format("{:04x}", static_cast<unsigned>(capability.id))},
             {"offset", fmt::format("{:03x}", capability.offset)}});
    }
    out["msi"] = nullptr;
    if (function.msi) {
        out["msi"] = {{"offset", fmt::format("{:02x}", function.msi->offset)},
                      {"vectors", function.msi->vectors},
                      {"is_64bit", function.msi->is_64bit},
                      {"maskable", function.msi->maskable}};
    }
    out["msix"] = nullptr;
    if (function.msi_x) {
        const auto& layout = function.msi_x->layout;
        out["msix"] = {{"offset", fmt::format("{:02x}", function.msi_x->offset)},
                       {"vectors", layout.vectors},
                       {"table_bar", layout.table.bar},
                       {"table_offset", hexadecimal(layout.table.offset)},
                       {"pba_bar", layout.pending_bits.bar},
                       {"pba_offset", hexadecimal(layout.pending_bits.offset)}};
    }
    return out;
}

std::string ids(const function_facts& function) {
    if (!function.id) {
        return "????:????";
    }
    return fmt::format("{:04x}:{:04x}", (*function.id)[pci::identity::vendor_id],
                       (*function.id)[pci::identity::device_id]);
}

/// One function's block.
class block {
public:
    block(std::string& out, const painter& paint) : out_{out}, paint_{paint} {}

    void line(std::string_view label, std::string_view text) {
        out_ += fmt::format("    {} {}\n", paint_.faint(fmt::format("{:<12}", label)), text);
    }

private:
    std::string& out_;
    const painter& paint_;
};

std::string window_text(const std::optional<pci::bridge_window>& window) {
    if (!window) {
        return "closed";
    }
    const std::uint64_t size = window->limit - window->base + 1;
    return fmt::format("{:#x}-{:#x}  {}", window->base, window->limit,
                       window->kind == pci::window_kind::io ? fmt::format("{} ports", size)
                                                            : size_text(size));
}

std::string bar_text(const pci::bar& bar) {
    std::string text = fmt::format("{:<5}  {:#018x}", name_of(bar.kind), bar.address);
    if (bar.size != 0) {
        text += bar.kind == pci::bar_kind::io ? fmt::format("  {} ports", bar.size)
                                              : "  " + size_text(bar.size);
    }
    if (bar.prefetchable) {
        text += "  prefetchable";
    }
    return text + (bar.address == 0 ? "  not placed" : "");
}

void write_block(std::string& out, const function_facts& function, const painter& paint) {
    using header = pci::header_type;
    using command = pci::command;
    out += fmt::format("{}  {}  {}", paint.strong(function.address.text().data()), ids(function),
                       paint.strong(function.title()));
    block lines{out, paint};
    out += '\n';
    if (function.class_code) {
        lines.line("class", fmt::format("{:06x}, revision {:02x}", function.class_code->raw >> 8,
                                        (*function.class_code)[pci::class_code::revision_id]));
    }
    if (function.subsystem && function.subsystem->raw != 0) {
        lines.line("subsystem",
                   fmt::format("{:04x}:{:04x}",
                               (*function.subsystem)[pci::subsystem::subsystem_vendor_id],
                               (*function.subsystem)[pci::subsystem::subsystem_id]));
    }
    if (function.header) {
        lines.line(
            "header type",
            fmt::format("{}, {}{}", static_cast<unsigned>((*function.header)[header::layout]),
                        name_of((*function.header)[header::layout]),
                        (*function.header)[header::multi_function] ? ", multi-function" : ""));
    }
    if (function.command) {
        lines.line("decodes",
                   fmt::format("ports {}, memory {}; bus master {}; INTx {}",
                               (*function.command)[command::io_space] ? "yes" : "no",
                               (*function.command)[command::memory_space] ? "yes" : "no",
                               (*function.command)[command::bus_master] ? "yes" : "no",
                               function.interrupt_pin == 0 || function.interrupt_pin > 4 ? "none"
                               : (*function.command)[command::interrupt_disable] ? "disabled"
                                                                                 : "enabled"));
    }
    if (function.sysfs != nullptr) {
        if (function.sysfs->driver) {
            lines.line("driver", printable(*function.sysfs->driver));
        }
        if (function.sysfs->iommu_group) {
            lines.line("IOMMU group", fmt::format("{}", *function.sysfs->iommu_group));
        }
        if (function.sysfs->numa_node) {
            lines.line("NUMA node", fmt::format("{}", *function.sysfs->numa_node));
        }
        if (function.sysfs->physical_function) {
            lines.line("virtual of", function.sysfs->physical_function->text().data());
        }
    }
    for (const pci::bar& bar : function.bars) {
        lines.line(bar.kind == pci::bar_kind::rom ? "ROM" : fmt::format("BAR {}", bar.index),
                   bar_text(bar));
    }
    for (const std::uint16_t offset : function.malformed_bars) {
        lines.line(fmt::format("BAR at {:02x}", offset), paint.bad("malformed"));
    }
    if (function.bridge) {
        lines.line("buses", fmt::format("primary {:02x}, secondary {:02x}, subordinate {:02x}",
                                        function.bridge->primary, function.bridge->secondary,
                                        function.bridge->subordinate));
        if ((*function.header)[header::layout] == pci::header_layout::bridge) {
            lines.line("ports", window_text(function.bridge->io));
            lines.line("memory", window_text(function.bridge->memory));
            lines.line("prefetchable", window_text(function.bridge->prefetchable));
        }
    }
    for (const auto& capability : function.capabilities) {
        std::string text =
            fmt::format("{:02x}  {}", static_cast<unsigned>(capability.id), name_of(capability.id));
        if (function.msi && capability.offset == function.msi->offset) {
            text += fmt::format(": {} vector{}{}{}", function.msi->vectors,
                                function.msi->vectors == 1 ? "" : "s",
                                function.msi->is_64bit ? ", 64-bit address" : ", 32-bit address",
                                function.msi->maskable ? ", maskable" : "");
        }
        if (function.msi_x && capability.offset == function.msi_x->offset) {
            const auto& layout = function.msi_x->layout;
            text += fmt::format(": {} vector{}, table in BAR {} at {:#x}, PBA in BAR {} at {:#x}",
                                layout.vectors, layout.vectors == 1 ? "" : "s", layout.table.bar,
                                layout.table.offset, layout.pending_bits.bar,
                                layout.pending_bits.offset);
        }
        lines.line(fmt::format("at {:02x}", capability.offset), text);
    }
    for (const auto& capability : function.extended_capabilities) {
        lines.line(fmt::format("at {:03x}", capability.offset),
                   fmt::format("{:04x}  {}, version {}", static_cast<unsigned>(capability.id),
                               name_of(capability.id), capability.version));
    }
}

} // namespace

std::string pci_json(const machine& all) {
    json out = json::array();
    for (const function_facts& function : all.functions()) {
        out.push_back(to_json(function));
    }
    return out.dump(2) + "\n";
}

std::string pci_text(const machine& all, const painter& paint) {
    std::string out;
    const auto tree = all.tree();
    if (tree.empty()) {
        return "no PCI functions\n";
    }
    if (tree.size() > 1) {
        for (const auto& [function, depth] : tree) {
            out += fmt::format("{:{}}{}  {}  {}", "", 2 * depth,
                               paint.strong(function->address.text().data()), ids(*function),
                               function->title());
            if (function->bridge) {
                out +=
                    paint.faint(fmt::format("  to buses {:02x}-{:02x}", function->bridge->secondary,
                                            function->bridge->subordinate));
            }
            out += '\n';
        }
        out += '\n';
    }
    bool first = true;
    for (const auto& [function, depth] : tree) {
        out += first ? "" : "\n";
        first = false;
        write_block(out, *function, paint);
    }
    return out;
}

} // namespace inspect
