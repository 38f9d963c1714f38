// SPDX-License-Identifier: BSL-1.0
#include "machine.hpp"

#include "names.hpp"

#include "pt/hosted/lspci_dump.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/cardbus.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <sys/stat.h>
#include <utility>
#include <variant>

#include <fmt/format.h>

namespace inspect {

namespace pci = pt::pci;

bool function_facts::has(pci::capability_id asked) const {
    return std::any_of(capabilities.begin(), capabilities.end(),
                       [&](const auto& found) { return found.id == asked; });
}

bool function_facts::has(pci::extended_capability_id asked) const {
    return std::any_of(extended_capabilities.begin(), extended_capabilities.end(),
                       [&](const auto& found) { return found.id == asked; });
}

std::string function_facts::title() const {
    return class_code ? class_name(*class_code) : std::string{"function of unknown class"};
}

std::string contents_of(const std::string& file) {
    struct stat about {};
    if (::stat(file.c_str(), &about) == 0 && S_ISDIR(about.st_mode)) {
        throw failure{file + ": is a directory"};
    }
    errno = 0;
    std::ifstream in{file, std::ios::binary};
    if (!in) {
        throw failure{fmt::format("{}: {}", file, std::strerror(errno))};
    }
    std::string text;
    char some[16384];
    // A stream's iterator would throw where this sets badbit.
    while (in.read(some, sizeof some) || in.gcount() > 0) {
        text.append(some, static_cast<std::size_t>(in.gcount()));
    }
    if (in.bad()) {
        throw failure{fmt::format("{}: cannot be read", file)};
    }
    return text;
}

machine::machine(const source& from) {
    if (from.dump) {
        auto read = pt::hosted::lspci_dump::read(contents_of(*from.dump));
        if (const auto* const wrong = std::get_if<pt::hosted::dump_error>(&read)) {
            throw failure{wrong->line == 0
                              ? fmt::format("{}: {}", *from.dump, wrong->what)
                              : fmt::format("{}:{}: {}", *from.dump, wrong->line, wrong->what)};
        }
        dump_ = std::get<pt::hosted::config_snapshot>(std::move(read));
    } else {
        auto read = pt::hosted::sysfs::read(from.sysfs_root);
        if (const auto* const wrong = std::get_if<pt::hosted::sysfs_error>(&read)) {
            throw failure{fmt::format("{}: {}; to look at another machine, give its lspci dump "
                                      "with --dump FILE",
                                      wrong->path.string(), wrong->what)};
        }
        sysfs_ = std::get<pt::hosted::sysfs>(std::move(read));
    }
    for (const auto& function : snapshot().functions()) {
        functions_.push_back(read(function));
    }
    find_parents();
}

function_facts machine::read(const pt::hosted::config_snapshot::function& function) const {
    auto config = this->config();
    const auto at = function.address;
    const auto holds = [&](std::size_t offset, std::size_t size) {
        return function.holds(offset, size);
    };
    function_facts facts;
    facts.address = at;
    facts.sysfs = sysfs_ ? sysfs_->find(at) : nullptr;
    const auto take = [&]<class Register>(std::optional<Register>& out) {
        if (holds(Register::offset, sizeof(typename Register::word))) {
            out = pci::read<Register>(config, at);
        }
    };
    take(facts.id);
    take(facts.class_code);
    take(facts.header);
    take(facts.command);
    if (!facts.header) {
        return facts;
    }
    const auto layout = (*facts.header)[pci::header_type::layout];
    if (layout == pci::header_layout::device) {
        take(facts.subsystem);
    }
    if (holds(pci::interrupt_pin::offset, 1)) {
        facts.interrupt_pin = pci::read<pci::interrupt_pin>(config, at)[pci::interrupt_pin::pin];
    }

    for (const auto& bar : pci::read_bars(config, at)) {
        if (!bar) {
            if (holds(bar.error().where, 4)) {
                facts.malformed_bars.push_back(static_cast<std::uint16_t>(bar.error().where));
            }
        } else if (holds(bar->offset, std::size_t{4} * bar->registers())) {
            facts.bars.push_back(*bar);
        }
    }
    if (layout == pci::header_layout::cardbus_bridge && facts.bars.empty() &&
        holds(pci::cardbus::socket_base::offset, 4)) {
        const auto socket = pci::read<pci::cardbus::socket_base>(config, at);
        if (socket.raw != 0) {
            pci::bar bar;
            bar.offset = pci::cardbus::socket_base::offset;
            bar.address = socket.raw & ~std::uint64_t{0xFFF};
            facts.bars.push_back(bar);
        }
    }
    if (facts.sysfs != nullptr && facts.sysfs->physical_function && facts.bars.empty()) {
        // [pcie] the registers of a virtual function hold 0: its memory is told elsewhere.
        for (std::uint8_t index = 0; index < 6 && index < facts.sysfs->resources.size(); ++index) {
            const auto& told = facts.sysfs->resources[index];
            if (told.size != 0) {
                facts.bars.push_back(
                    {told.is_64bit ? pci::bar_kind::mem64 : pci::bar_kind::mem32, told.prefetchable,
                     index, static_cast<std::uint16_t>(0x10 + 4 * index), told.first, told.size});
            }
        }
    }
    if (facts.sysfs != nullptr) {
        for (pci::bar& bar : facts.bars) {
            if (bar.index < facts.sysfs->resources.size()) {
                bar.size = facts.sysfs->resources[bar.index].size;
            }
        }
    }

    const bool is_bridge = layout == pci::header_layout::bridge;
    if ((is_bridge || layout == pci::header_layout::cardbus_bridge) &&
        holds(pci::bus_numbers::offset, 4)) {
        const auto buses = pci::read<pci::bus_numbers>(config, at);
        bridge_facts& bridge = facts.bridge.emplace();
        bridge.primary = buses[pci::bus_numbers::primary];
        bridge.secondary = buses[pci::bus_numbers::secondary];
        bridge.subordinate = buses[pci::bus_numbers::subordinate];
        const auto window = [&](pci::window_kind kind, std::size_t offset, std::size_t size,
                                std::optional<pci::bridge_window>& out) {
            const auto found = pci::read_window(config, at, kind);
            if (is_bridge && holds(offset, size) && found) {
                out = *found;
            }
        };
        window(pci::window_kind::io, 0x1C, 0x34 - 0x1C, bridge.io);
        window(pci::window_kind::memory, 0x20, 4, bridge.memory);
        window(pci::window_kind::prefetchable, 0x24, 12, bridge.prefetchable);
    }

    for (const auto capability : pci::capabilities(config, at)) {
        if (holds(capability.offset, 2)) {
            facts.capabilities.push_back(capability);
        }
    }
    for (const auto capability : pci::extended_capabilities(config, at)) {
        if (holds(capability.offset, 4)) {
            facts.extended_capabilities.push_back(capability);
        }
    }
    if (const auto msi = pci::read_msi(config, at); msi && holds(msi->offset, 4)) {
        facts.msi = *msi;
    }
    const auto msi_x = pci::capabilities(config, at).find(pci::capability_id::msi_x);
    if (msi_x && holds(msi_x->offset, 12)) {
        if (const auto structures = pci::read_msi_x(config, at)) {
            facts.msi_x = msi_x_facts{msi_x->offset, *structures};
        }
    }
    return facts;
}

const function_facts* machine::find(pci::function_address address) const {
    const auto found =
        std::find_if(functions_.begin(), functions_.end(),
                     [&](const auto& function) { return function.address == address; });
    return found == functions_.end() ? nullptr : &*found;
}

bool machine::holds(pci::function_address address, std::size_t offset, std::size_t size) const {
    const auto* const found = snapshot().find(address);
    return found != nullptr && found->holds(offset, size);
}

const function_facts* machine::parent(const function_facts& function) const {
    return parents_[static_cast<std::size_t>(&function - functions_.data())];
}

void machine::find_parents() {
    using bus = std::pair<std::uint16_t, std::uint8_t>; // segment and number
    std::map<bus, std::vector<const function_facts*>> bridges;
    for (const function_facts& function : functions_) {
        if (function.bridge && function.bridge->secondary != 0) {
            bridges[{function.address.segment, function.bridge->secondary}].push_back(&function);
        }
    }
    const auto above = [&](const pci::function_address& address) -> const function_facts* {
        for (const auto* bridge : bridges[{address.segment, address.bus}]) {
            if (bridge->address.bus != address.bus) { // not behind itself
                return bridge;
            }
        }
        return nullptr;
    };
    for (const function_facts& function : functions_) {
        const auto* found = above(function.address);
        // The buses of virtual functions may lie above the one that the bridge leads to.
        if (found == nullptr && function.sysfs != nullptr && function.sysfs->physical_function) {
            found = above(*function.sysfs->physical_function);
        }
        parents_.push_back(found);
    }
}

std::vector<const function_facts*> machine::path(const function_facts& function) const {
    std::vector<const function_facts*> above;
    for (const auto* at = parent(function);
         at != nullptr && std::find(above.begin(), above.end(), at) == above.end();
         at = parent(*at)) {
        above.push_back(at);
    }
    return above;
}

std::vector<const function_facts*> machine::behind(const function_facts& bridge) const {
    std::vector<const function_facts*> found;
    for (const function_facts& function : functions_) {
        const auto above = path(function);
        if (&function != &bridge && std::find(above.begin(), above.end(), &bridge) != above.end()) {
            found.push_back(&function);
        }
    }
    return found;
}

std::vector<machine::branch> machine::tree() const {
    std::vector<branch> all;
    std::set<const function_facts*> visited;
    std::map<const function_facts*, std::vector<const function_facts*>> behind;
    for (const function_facts& function : functions_) {
        behind[parent(function)].push_back(&function);
    }
    const auto visit = [&](const auto& self, const function_facts& function,
                           std::size_t depth) -> void {
        if (!visited.insert(&function).second) {
            return;
        }
        all.push_back({&function, depth});
        for (const auto* child : behind[&function]) {
            self(self, *child, depth + 1);
        }
    };
    for (const auto* root : behind[nullptr]) {
        visit(visit, *root, 0);
    }
    for (const function_facts& function : functions_) {
        visit(visit, function, 0); // bridges in a circle, and what is behind them
    }
    return all;
}

} // namespace inspect
