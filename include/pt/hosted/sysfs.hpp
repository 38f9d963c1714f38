// SPDX-License-Identifier: BSL-1.0
#pragma once

#if !__STDC_HOSTED__
#error "pt/hosted needs a hosted standard library: include the freestanding headers instead"
#endif

#include "pt/hosted/config_snapshot.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/function_address.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <ios>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

namespace pt::hosted {

/// Why this machine's functions could not be read: the file or directory, and what is wrong with it.
struct sysfs_error {
    std::filesystem::path path;
    std::string what;
};

/// A line of the file `resource`: where the kernel has put a window of the function, and its size.
struct sysfs_resource {
    std::uint64_t first = 0;
    std::uint64_t size = 0; ///< 0: not implemented
    bool is_io = false;     ///< ports, not memory
    bool is_64bit = false;
    bool prefetchable = false;
};

/// What Linux knows about a function beside its configuration space. What it does not tell is empty.
struct sysfs_function {
    /// 0 to 5 as the Base Address registers, 6 the expansion ROM; what the kernel keeps behind them
    /// differs.
    std::vector<sysfs_resource> resources;
    std::optional<std::string> driver; ///< whose it is now
    std::optional<unsigned> iommu_group;
    /// All functions of that group, this one too, in order.
    std::vector<pci::function_address> iommu_group_members;
    std::optional<unsigned> numa_node;
    /// Of a virtual function (SR-IOV): the physical function.
    std::optional<pci::function_address> physical_function;
};

/// This machine's PCI functions as Linux shows them under /sys/bus/pci/devices, all read at once.
/// Configuration space is as long as the user may see it: 64 bytes, or 256 or 4096 for root.
///
/// The header of a virtual function has neither vendor nor device id [pcie], so that nobody finds it
/// by chance; Linux knows them, and they are put in their places here.
class sysfs {
public:
    static constexpr const char* default_root = "/sys/bus/pci/devices";

    /// `root` is the directory with one entry for each function. Functions that vanish meanwhile are
    /// left out, and those of segments above FFFF, which Linux makes up for what is behind a VMD;
    /// everything else that cannot be read is an error.
    [[nodiscard]] static std::variant<sysfs, sysfs_error>
    read(const std::filesystem::path& root = default_root) {
        namespace fs = std::filesystem;
        std::error_code code;
        std::map<pci::function_address, fs::path> found;
        for (fs::directory_iterator at{root, code}, end; !code && at != end; at.increment(code)) {
            const std::string name = at->path().filename().string();
            if (const auto address = pci::function_address::parse(name.data(), name.size())) {
                found.emplace(*address, at->path());
            }
        }
        if (code) {
            return sysfs_error{root, code.message()};
        }
        sysfs machine;
        for (const auto& [address, directory] : found) {
            std::ifstream config{directory / "config", std::ios::binary};
            if (!config) {
                if (!fs::exists(directory / "config", code)) {
                    continue;
                }
                return sysfs_error{directory / "config", "cannot be opened"};
            }
            std::vector<std::uint8_t> bytes(pci::config_space_size);
            // A stream's iterator would throw where this sets badbit.
            config.read(reinterpret_cast<char*>(bytes.data()),
                        static_cast<std::streamsize>(bytes.size()));
            if (config.bad()) {
                return sysfs_error{directory / "config", "cannot be read"};
            }
            bytes.resize(static_cast<std::size_t>(config.gcount()));
            sysfs_function facts = read_facts(directory);
            if (facts.physical_function) {
                put_id(bytes, 0, directory / "vendor");
                put_id(bytes, 2, directory / "device");
            }
            machine.snapshot_.add(address, std::move(bytes));
            machine.facts_.emplace(address, std::move(facts));
        }
        return machine;
    }

    [[nodiscard]] const config_snapshot& snapshot() const { return snapshot_; }

    /// What else is known of that function; null if there is no such function.
    [[nodiscard]] const sysfs_function* find(pci::function_address address) const {
        const auto found = facts_.find(address);
        return found == facts_.end() ? nullptr : &found->second;
    }

private:
    static sysfs_function read_facts(const std::filesystem::path& directory) {
        namespace fs = std::filesystem;
        sysfs_function facts;
        std::ifstream resource{directory / "resource"};
        for (std::string line; std::getline(resource, line);) {
            std::istringstream numbers{line};
            std::uint64_t first = 0;
            std::uint64_t last = 0;
            std::uint64_t flags = 0;
            numbers >> std::hex >> std::ws;
            if (!(numbers >> first >> last >> flags)) {
                break;
            }
            const bool there = flags != 0 && last >= first && last - first != ~std::uint64_t{0};
            // The kernel's flags for resources, as every machine of it has them.
            facts.resources.push_back(
                there ? sysfs_resource{first, last - first + 1, (flags & 0x100) != 0,
                                       (flags & 0x10'0000) != 0, (flags & 0x2000) != 0}
                      : sysfs_resource{});
        }
        facts.driver = link_name(directory / "driver");
        if (const auto group = link_name(directory / "iommu_group")) {
            facts.iommu_group = number(*group);
            std::error_code code;
            for (fs::directory_iterator at{directory / "iommu_group" / "devices", code}, end;
                 !code && at != end; at.increment(code)) {
                if (const auto member = address_of(at->path().filename().string())) {
                    facts.iommu_group_members.push_back(*member);
                }
            }
            std::sort(facts.iommu_group_members.begin(), facts.iommu_group_members.end());
        }
        std::ifstream node{directory / "numa_node"};
        if (std::string text; node >> text) {
            facts.numa_node = number(text); // -1 where there is none
        }
        if (const auto physical = link_name(directory / "physfn")) {
            facts.physical_function = address_of(*physical);
        }
        return facts;
    }

    /// The last part of what a symbolic link points to.
    static std::optional<std::string> link_name(const std::filesystem::path& link) {
        std::error_code code;
        const auto target = std::filesystem::read_symlink(link, code);
        return code ? std::nullopt : std::optional{target.filename().string()};
    }

    static std::optional<pci::function_address> address_of(const std::string& name) {
        const auto address = pci::function_address::parse(name.data(), name.size());
        return address ? std::optional{*address} : std::nullopt;
    }

    static std::optional<unsigned> number(const std::string& digits) {
        if (digits.empty() || digits.size() > 9 ||
            digits.find_first_not_of("0123456789") != std::string::npos) {
            return {};
        }
        return static_cast<unsigned>(std::stoul(digits));
    }

    /// Two bytes of an id from a file that says "0x8086".
    static void put_id(std::vector<std::uint8_t>& bytes, std::size_t offset,
                       const std::filesystem::path& file) {
        std::ifstream in{file};
        unsigned id = 0;
        if (bytes.size() >= offset + 2 && in >> std::hex >> id) {
            bytes[offset] = static_cast<std::uint8_t>(id);
            bytes[offset + 1] = static_cast<std::uint8_t>(id >> 8);
        }
    }

    config_snapshot snapshot_;
    std::map<pci::function_address, sysfs_function> facts_;
};

} // namespace pt::hosted
