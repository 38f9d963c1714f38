// SPDX-License-Identifier: BSL-1.0
#include "pt/hosted/sysfs.hpp"

#include "pt/core/width.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <variant>
#include <vector>

#include <unistd.h>

namespace fs = std::filesystem;
using pt::width;
using pt::hosted::sysfs;
using pt::hosted::sysfs_error;
using pt::pci::function_address;

namespace {

/// A directory like /sys/bus/pci/devices, gone at the end.
struct tree {
    fs::path root;

    tree() {
        std::string name = (fs::temp_directory_path() / "pt-sysfs-XXXXXX").string();
        REQUIRE(mkdtemp(name.data()) != nullptr);
        root = name;
    }
    tree(const tree&) = delete;
    tree& operator=(const tree&) = delete;
    ~tree() {
        std::error_code none;
        fs::remove_all(root, none);
    }

    void file(const fs::path& name, const std::string& text) const {
        fs::create_directories((root / name).parent_path());
        std::ofstream{root / name, std::ios::binary} << text;
    }
    void link(const fs::path& name, const fs::path& target) const {
        fs::create_directories((root / name).parent_path());
        fs::create_symlink(target, root / name);
    }
};

sysfs good(const fs::path& root) {
    auto read = sysfs::read(root);
    if (const auto* wrong = std::get_if<sysfs_error>(&read)) {
        FAIL(wrong->path.string() << ": " << wrong->what);
    }
    return std::get<sysfs>(std::move(read));
}

constexpr function_address nic{0, 1, 0, 0};
constexpr function_address virtual_nic{0, 1, 0x10, 0};

} // namespace

TEST_CASE("sysfs: configuration space is as long as its file, and functions are in order",
          "[hosted][sysfs]") {
    const tree machine;
    machine.file("0001:00:00.0/config", std::string(64, '\x12'));
    machine.file("0000:01:00.0/config", std::string(4096, '\x34'));
    machine.file("0000:00:02.0/config", std::string(256, '\x56'));
    machine.file("notes/config", "not a function");
    fs::create_directories(machine.root / "0000:03:00.0"); // just unplugged: no config any more
    const sysfs read = good(machine.root);
    const auto& functions = read.snapshot().functions();
    REQUIRE(functions.size() == 3);
    CHECK(functions[0].address == function_address{0, 0, 2, 0});
    CHECK(functions[0].bytes.size() == 256);
    CHECK(functions[1].address == nic);
    CHECK(functions[1].bytes.size() == 4096);
    CHECK(functions[2].address == function_address{1, 0, 0, 0});
    CHECK(functions[2].bytes.size() == 64);
    CHECK(read.snapshot().access().read(nic, 0xFFC, width::dword) == 0x3434'3434);
    CHECK(read.snapshot().access().read({1, 0, 0, 0}, 0x40, width::dword) == 0xFFFF'FFFF);
}

TEST_CASE("sysfs: what Linux tells beside configuration space", "[hosted][sysfs]") {
    const tree machine;
    machine.file("0000:01:00.0/config", std::string(64, '\0'));
    machine.file("0000:01:00.0/resource",
                 "0x00000000f7100000 0x00000000f711ffff 0x0000000000040200\n"
                 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                 "0x000000000000e000 0x000000000000e01f 0x0000000000040101\n"
                 "0x0000000000000000 0xffffffffffffffff 0x0000000000000200\n"
                 "0x0000004000000000 0x000000400007ffff 0x0000000000142204\n"
                 "rubbish\n");
    machine.file("0000:01:00.0/numa_node", "1\n");
    machine.link("0000:01:00.0/driver", "../../../bus/pci/drivers/e1000e");
    machine.link("0000:01:00.0/iommu_group", machine.root / "groups/7");
    machine.file("groups/7/devices/0000:01:00.1", "");
    machine.file("groups/7/devices/0000:01:00.0", "");
    machine.file("0000:02:00.0/config", std::string(64, '\0'));
    machine.file("0000:02:00.0/numa_node", "-1\n");

    const sysfs read = good(machine.root);
    const auto* const facts = read.find(nic);
    REQUIRE(facts != nullptr);
    REQUIRE(facts->resources.size() == 5);
    CHECK(facts->resources[0].first == 0xF710'0000);
    CHECK(facts->resources[0].size == 0x2'0000);
    CHECK_FALSE(facts->resources[0].is_io);
    CHECK(facts->resources[1].size == 0);
    CHECK(facts->resources[2].is_io);
    CHECK(facts->resources[2].size == 0x20);
    CHECK(facts->resources[3].size == 0); // a size that 64 bits cannot hold
    CHECK(facts->resources[4].is_64bit);
    CHECK(facts->resources[4].prefetchable);
    CHECK_FALSE(facts->resources[0].prefetchable);
    CHECK(facts->driver == "e1000e");
    CHECK(facts->iommu_group == 7U);
    CHECK(facts->iommu_group_members == std::vector<function_address>{{0, 1, 0, 0}, {0, 1, 0, 1}});
    CHECK(facts->numa_node == 1U);
    CHECK_FALSE(facts->physical_function);

    const auto* const bare = read.find({0, 2, 0, 0});
    REQUIRE(bare != nullptr);
    CHECK(bare->resources.empty());
    CHECK_FALSE(bare->driver);
    CHECK_FALSE(bare->iommu_group);
    CHECK_FALSE(bare->numa_node);
    CHECK(read.find({0, 3, 0, 0}) == nullptr);
}

TEST_CASE("sysfs: a virtual function gets the ids that its header lacks", "[hosted][sysfs]") {
    const tree machine;
    machine.file("0000:01:00.0/config", std::string("\x86\x80\xD3\x10") + std::string(60, '\0'));
    machine.file("0000:01:10.0/config", std::string(4, '\xFF') + std::string(60, '\0'));
    machine.file("0000:01:10.0/vendor", "0x8086\n");
    machine.file("0000:01:10.0/device", "0x10ca\n");
    machine.link("0000:01:10.0/physfn", "../0000:01:00.0");
    const sysfs read = good(machine.root);
    CHECK(read.snapshot().access().read(virtual_nic, 0, width::dword) == 0x10CA'8086);
    CHECK(read.find(virtual_nic)->physical_function == nic);
    CHECK(read.snapshot().access().read(nic, 0, width::dword) == 0x10D3'8086);
}

TEST_CASE("sysfs: a root that is not there is an error with its path", "[hosted][sysfs]") {
    const tree machine;
    const auto read = sysfs::read(machine.root / "nothing");
    const auto* const wrong = std::get_if<sysfs_error>(&read);
    REQUIRE(wrong != nullptr);
    CHECK(wrong->path == machine.root / "nothing");
    CHECK_FALSE(wrong->what.empty());
    CHECK(good(machine.root).snapshot().functions().empty());
}

TEST_CASE("sysfs: a configuration space that cannot be read is an error with its path",
          "[hosted][sysfs]") {
    const tree machine;
    fs::create_directories(machine.root / "0000:01:00.0/config"); // opens, but does not read
    const auto read = sysfs::read(machine.root);
    const auto* const wrong = std::get_if<sysfs_error>(&read);
    REQUIRE(wrong != nullptr);
    CHECK(wrong->path == machine.root / "0000:01:00.0/config");
}
