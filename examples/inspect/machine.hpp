// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/hosted/config_snapshot.hpp"
#include "pt/hosted/sysfs.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bridge_window.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace inspect {

/// What the tool cannot do, said to the user.
struct failure : std::runtime_error {
    using runtime_error::runtime_error;
};

/// What a PCI-to-PCI or CardBus bridge forwards; the windows of a CardBus bridge are not among it.
struct bridge_facts {
    std::uint8_t primary = 0;
    std::uint8_t secondary = 0;
    std::uint8_t subordinate = 0;
    std::optional<pt::pci::bridge_window> io;
    std::optional<pt::pci::bridge_window> memory;
    std::optional<pt::pci::bridge_window> prefetchable;
};

struct msi_x_facts {
    std::uint16_t offset = 0;
    pt::pci::msi_x_layout layout;
};

/// What pt reads in one configuration space. What the source does not hold is empty.
struct function_facts {
    pt::pci::function_address address;
    std::optional<pt::pci::identity> id;
    std::optional<pt::pci::class_code> class_code;
    std::optional<pt::pci::header_type> header;
    std::optional<pt::pci::command> command;
    std::optional<pt::pci::subsystem> subsystem;
    std::uint8_t interrupt_pin = 0;
    std::vector<pt::pci::bar> bars; ///< size 0 where nobody knows it
    std::vector<std::uint16_t> malformed_bars;
    std::optional<bridge_facts> bridge;
    std::vector<pt::pci::capability> capabilities;
    std::vector<pt::pci::extended_capability> extended_capabilities;
    std::optional<pt::pci::msi_layout> msi;
    std::optional<msi_x_facts> msi_x;
    const pt::hosted::sysfs_function* sysfs = nullptr;

    [[nodiscard]] bool has(pt::pci::capability_id id_asked) const;
    [[nodiscard]] bool has(pt::pci::extended_capability_id id_asked) const;
    /// "Ethernet controller", or what is known instead.
    [[nodiscard]] std::string title() const;
};

/// Where functions come from.
struct source {
    std::optional<std::string> dump; ///< an lspci dump; else sysfs
    std::string sysfs_root = pt::hosted::sysfs::default_root;
};

/// All functions of one source.
class machine {
public:
    /// Throws a failure that names the file, and the line of a dump.
    explicit machine(const source& from);
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    [[nodiscard]] const std::vector<function_facts>& functions() const { return functions_; }
    [[nodiscard]] const function_facts* find(pt::pci::function_address address) const;
    [[nodiscard]] bool from_sysfs() const { return sysfs_.has_value(); }
    [[nodiscard]] pt::hosted::config_snapshot::config config() const { return snapshot().access(); }
    /// Whether these bytes of the function are known.
    [[nodiscard]] bool holds(pt::pci::function_address address, std::size_t offset,
                             std::size_t size) const;

    /// The bridge right above the function, or null: it is on a root bus, or nobody knows.
    [[nodiscard]] const function_facts* parent(const function_facts& function) const;
    /// The bridges above the function, the nearest first. It ends even if they are a circle.
    [[nodiscard]] std::vector<const function_facts*> path(const function_facts& function) const;
    /// All functions behind the bridge, at any depth.
    [[nodiscard]] std::vector<const function_facts*> behind(const function_facts& bridge) const;

    struct branch {
        const function_facts* function = nullptr;
        std::size_t depth = 0; ///< bridges above it
    };
    /// Every function once, those behind a bridge right after it.
    [[nodiscard]] std::vector<branch> tree() const;

private:
    [[nodiscard]] const pt::hosted::config_snapshot& snapshot() const {
        return sysfs_ ? sysfs_->snapshot() : dump_;
    }
    void find_parents();
    [[nodiscard]] function_facts read(const pt::hosted::config_snapshot::function& function) const;

    pt::hosted::config_snapshot dump_;
    std::optional<pt::hosted::sysfs> sysfs_;
    std::vector<function_facts> functions_;
    std::vector<const function_facts*> parents_; ///< of each, in the same order
};

/// The whole file. Throws a failure.
std::string contents_of(const std::string& file);

} // namespace inspect
