// SPDX-License-Identifier: BSL-1.0
//
// pt-inspect plan: a NIC behind a root port, in a directory like sysfs, where everything is as it
// should be; then each thing that may be wrong, one at a time.
#include "../shared_data.hpp"
#include "tool.hpp"

#include <cstdint>
#include <functional>
#include <set>
#include <string>

namespace {

using tool::json;

/// A configuration space. Offsets and values are written as the specifications number them.
struct space {
    std::string bytes = std::string(4096, '\0');

    space& put(std::size_t offset, unsigned size, std::uint64_t value) {
        for (unsigned i = 0; i < size; ++i) {
            bytes[offset + i] = static_cast<char>(i < 8 ? value >> 8 * i : 0);
        }
        return *this;
    }
};

/// A machine of three functions; the numbers that tests change are members.
struct model {
    space host_bridge;
    space port;
    space nic;
    std::string nic_resource = "0xf0000000 0xf001ffff 0x140204\n" // BAR 0, 64 bits
                               "0x0 0x0 0x0\n"
                               "0xe000 0xe01f 0x40101\n"
                               "0xf0020000 0xf0023fff 0x40200\n";
    std::string nic_driver;
    bool iommu_group = true;
    std::string group_member;
    bool has_port = true;
    std::size_t nic_size = 4096;
    std::function<void(const tool::scratch&)> more = [](const tool::scratch&) {};

    model() {
        host_bridge.put(0, 4, 0x3405'8086).put(8, 4, 0x0600'0000);
        port.put(0, 4, 0x3408'8086).put(4, 2, 0x0007).put(6, 2, 0x0010).put(8, 4, 0x0604'0000);
        port.put(0xE, 1, 1).put(0x18, 4, 0x0001'0100).put(0x34, 1, 0x40);
        port.put(0x40, 2, 0x0010).put(0x42, 2, 0x0042); // PCI Express 2, root port
        port.put(0x100, 4, 0x0001'000D);                // ACS
        port.put(0x104, 2, 0x001F).put(0x106, 2, 0x001D);
        nic.put(0, 4, 0x10D3'8086).put(4, 2, 0x0003).put(6, 2, 0x0010).put(8, 4, 0x0200'0000);
        nic.put(0x10, 4, 0xF000'0004).put(0x18, 4, 0xE001).put(0x1C, 4, 0xF002'0000);
        nic.put(0x34, 1, 0x50).put(0x3D, 1, 1);
        nic.put(0x50, 2, 0x6005).put(0x52, 2, 0x0080); // MSI, one vector, 64 bits
        nic.put(0x60, 2, 0xA010).put(0x62, 2, 0x0002); // PCI Express 2, endpoint
        nic.put(0x64, 4, 0x1000'0000);                 // function level reset
        nic.put(0xA0, 2, 0x0011).put(0xA2, 2, 255);    // MSI-X, 256 vectors: one page
        nic.put(0xA4, 4, 3).put(0xA8, 4, 0x2003);      // table at 0, PBA at 0x2000, BAR 3
    }

    tool::outcome run(bool as_json) const {
        const tool::scratch here;
        here.file("0000:00:00.0/config", host_bridge.bytes);
        if (has_port) {
            here.file("0000:00:1c.0/config", port.bytes);
        }
        here.file("0000:01:00.0/config", nic.bytes.substr(0, nic_size));
        here.file("0000:01:00.0/resource", nic_resource);
        if (!nic_driver.empty()) {
            here.link("0000:01:00.0/driver", "../../../drivers/" + nic_driver);
        }
        if (iommu_group) {
            here.link("0000:01:00.0/iommu_group", here.path / "groups/7");
            here.file("groups/7/devices/0000:01:00.0", "");
            if (!group_member.empty()) {
                here.file("groups/7/devices/" + group_member, "");
            }
        }
        more(here);
        std::initializer_list<std::string> words{"plan", "01:00.0", "--sysfs-root",
                                                 here.path.string()};
        if (!as_json) {
            return tool::inspect(words);
        }
        return tool::inspect({"plan", "01:00.0", "--sysfs-root", here.path.string(), "--json"});
    }
    json plan() const {
        const auto done = run(true);
        CAPTURE(done.err);
        REQUIRE(done.exit == 0);
        const auto text = run(false);
        CHECK(text.exit == 0);
        json found = json::parse(done.out);
        for (const auto& finding : found["findings"]) {
            CHECK(text.out.find(finding["text"].get<std::string>()) != std::string::npos);
        }
        return found;
    }
};

/// "severity id" of all findings.
std::set<std::string> findings(const json& plan) {
    std::set<std::string> all;
    for (const auto& finding : plan["findings"]) {
        all.insert(finding["severity"].get<std::string>() + " " + finding["id"].get<std::string>());
    }
    return all;
}
using ids = std::set<std::string>;

} // namespace

TEST_CASE("pt-inspect plan: a sound NIC needs this", "[inspect][plan]") {
    const json plan = model{}.plan();
    CHECK(plan["address"] == "0000:01:00.0");
    // All but the 8 qwords of the pending bits are other registers, but nothing shares the table's.
    CHECK(findings(plan).empty());
    CHECK(plan["verdict"] == "yes");
    CHECK(plan["source_ids"] == json::parse(R"(["0x0100"])"));
    CHECK(plan["bars"] == json::parse(R"([
        {"index":0,"kind":"mem64","prefetchable":false,"address":"0xf0000000","size":"0x20000"},
        {"index":2,"kind":"io","prefetchable":false,"address":"0xe000","size":"0x20"},
        {"index":3,"kind":"mem32","prefetchable":false,"address":"0xf0020000","size":"0x4000"}])"));
    CHECK(plan["ports"] == json::parse(R"([{"bar":2,"first":"0xe000","last":"0xe01f"}])"));
    CHECK(plan["memory"] == json::parse(R"([
        {"reach":"map","bar":0,"offset":"0x0","address":"0xf0000000","size":"0x20000","why":null},
        {"reach":"trap","bar":3,"offset":"0x0","address":"0xf0020000","size":"0x1000","why":"MSI-X table"},
        {"reach":"map","bar":3,"offset":"0x1000","address":"0xf0021000","size":"0x1000","why":null},
        {"reach":"trap","bar":3,"offset":"0x2000","address":"0xf0022000","size":"0x1000","why":"MSI-X pending bits"},
        {"reach":"map","bar":3,"offset":"0x3000","address":"0xf0023000","size":"0x1000","why":null}])"));
    CHECK(plan["vectors"] == json::parse(R"({"msi":1,"msix":256,"intx":true})"));
    CHECK(plan["reset"] == "flr");
}

TEST_CASE("pt-inspect plan: who has the function now", "[inspect][plan]") {
    model m;
    m.nic_driver = "e1000e";
    CHECK(findings(m.plan()) == ids{"condition driver"});
    m.nic_driver = "\x1b[31m\xff"; // a copied directory may hold anything
    CHECK(m.plan()["findings"][0]["text"] == "the driver ?[31m? has it: unbind that first");
    m.nic_driver = "vfio-pci";
    CHECK(findings(m.plan()).empty());
    m.group_member = "0000:00:00.0";
    CHECK(findings(m.plan()) == ids{"condition iommu_group"});
    m.group_member = "0000:05:00.0"; // one that the source does not show
    CHECK(findings(m.plan()) == ids{"condition iommu_group"});
    m.group_member = "0000:00:1c.0"; // a bridge is not passed through
    CHECK(findings(m.plan()).empty());
    m.iommu_group = false;
    const json plan = m.plan();
    CHECK(findings(plan) == ids{"unknown iommu"});
    CHECK(plan["verdict"] == "unknown");
    model master;
    master.nic.put(4, 2, 0x0007);
    CHECK(findings(master.plan()) == ids{"condition bus_master"});
}

TEST_CASE("pt-inspect plan: a BAR that is smaller than a page is not mapped", "[inspect][plan]") {
    model m;
    m.nic_resource = "0xf0000800 0xf0000fff 0x140204\n";
    m.nic.put(0x10, 4, 0xF000'0804).put(0x18, 8, 0).put(0x60, 2, 0x0010); // without MSI-X
    m.nic.put(0x1C, 4, 0);
    json plan = m.plan();
    CHECK(findings(plan) == ids{"condition small_bar"});
    CHECK(plan["memory"] == json::parse(R"([{"reach":"trap","bar":0,"offset":"0x0",
        "address":"0xf0000800","size":"0x800","why":"smaller than a page"}])"));
    // Somebody else's registers are in the same page.
    m.host_bridge.put(0x10, 4, 0xF000'0400);
    plan = m.plan();
    CHECK(plan["findings"][0]["text"].get<std::string>().find("0000:00:00.0") != std::string::npos);
}

TEST_CASE("pt-inspect plan: BARs that are not where or what they should be", "[inspect][plan]") {
    model overlapped;
    overlapped.host_bridge.put(0x10, 4, 0xF001'F000);
    CHECK(findings(overlapped.plan()) == ids{"no overlap"});
    model unplaced;
    unplaced.nic.put(0x10, 4, 0x0000'0004);
    CHECK(findings(unplaced.plan()) == ids{"condition bar_not_placed"});
    model malformed;
    malformed.nic.put(0x10, 4, 0xF000'0006);
    CHECK(findings(malformed.plan()) == ids{"no malformed_bar"});
    model config_ports;
    config_ports.nic.put(0x18, 4, 0x0CE1);
    CHECK(findings(config_ports.plan()) == ids{"no ports"});
    model far_ports;
    far_ports.nic.put(0x18, 4, 0x1'E001);
    CHECK(findings(far_ports.plan()) == ids{"no ports"});
    model unsized;
    unsized.nic_resource = "";
    CHECK(findings(unsized.plan()) == ids{"unknown bar_size"});
    CHECK(unsized.plan()["bars"][0]["size"].is_null());
    CHECK(unsized.plan()["memory"].size() == 2); // the table and the pending bits all the same
}

TEST_CASE("pt-inspect plan: MSI-X that is not in its BAR", "[inspect][plan]") {
    model outside;
    outside.nic.put(0xA4, 4, 0x3008 | 3); // the table's last 8 bytes are too far
    CHECK(findings(outside.plan()) == ids{"no msi_x_outside"});
    model in_ports;
    in_ports.nic.put(0xA4, 4, 2);
    CHECK(findings(in_ports.plan()) == ids{"no msi_x_outside"});
    model nowhere;
    nowhere.nic.put(0xA8, 4, 5);
    CHECK(findings(nowhere.plan()) == ids{"no msi_x_outside"});
    model reserved;
    reserved.nic.put(0xA8, 4, 7);
    CHECK(findings(reserved.plan()) == ids{"no msi_x_malformed"});
    model shared;
    shared.nic.put(0xA2, 2, 4); // 5 vectors, 80 bytes
    CHECK(findings(shared.plan()) == ids{"condition shared_msi_x_page"});
}

TEST_CASE("pt-inspect plan: ranges by Enhanced Allocation stand for BARs", "[inspect][plan]") {
    model m;
    m.nic.put(0x1C, 4, 0).put(0xA0, 2, 0xB011);           // BAR 3 is not in the header
    m.nic.put(0xB0, 2, 0x0014).put(0xB2, 2, 1);           // Enhanced Allocation, one entry
    m.nic.put(0xB4, 4, 0x80FF'0032);                      // enabled memory, BEI 3, 2 dwords
    m.nic.put(0xB8, 4, 0xF002'0000).put(0xBC, 4, 0x3FFC); // base, last offset
    json plan = m.plan();
    CHECK(findings(plan) == ids{"condition enhanced_allocation"});
    CHECK(plan["bars"][2] == json::parse(R"({"index":3,"kind":"mem32","prefetchable":false,
        "address":"0xf0020000","size":"0x4000"})"));
    CHECK(plan["memory"].size() == 5);
    m.nic.put(0xBC, 4, 0x2FFC + 8); // it ends in the middle of a page
    plan = m.plan();
    CHECK(findings(plan) == ids{"condition enhanced_allocation", "condition small_bar"});
    CHECK(plan["memory"].size() == 2);
    m.nic.put(0xB4, 4, 0x80FF'0072); // it stands for no BAR
    CHECK(findings(m.plan()) == ids{"condition enhanced_allocation", "no msi_x_outside"});
}

TEST_CASE("pt-inspect plan: only INTx", "[inspect][plan]") {
    model m;
    m.nic.put(0x34, 1, 0x60).put(0x60, 2, 0x0010);
    const json plan = m.plan();
    CHECK(findings(plan) == ids{"condition no_msi"});
    CHECK(plan["vectors"] == json::parse(R"({"msi":0,"msix":0,"intx":true})"));
}

TEST_CASE("pt-inspect plan: the reset, best first", "[inspect][plan]") {
    model m;
    m.nic.put(0x64, 4, 0);                           // no FLR
    m.nic.put(0xA0, 2, 0xB011);                      // one more capability
    m.nic.put(0xB0, 2, 0x0013).put(0xB2, 2, 0x0306); // advanced features: 6 bytes, FLR and TP
    CHECK(m.plan()["reset"] == "af_flr");
    CHECK(findings(m.plan()).empty());
    m.nic.put(0xB0, 2, 0x0001).put(0xB2, 2, 3).put(0xB4, 2, 0); // power management
    CHECK(m.plan()["reset"] == "pm");
    CHECK(findings(m.plan()) == ids{"condition no_flr"});
    m.nic.put(0xB4, 2, 8); // no soft reset
    CHECK(m.plan()["reset"] == "secondary_bus");
    m.more = [&](const tool::scratch& here) { here.file("0000:01:01.0/config", m.nic.bytes); };
    m.nic.put(0x10, 16, 0).put(0x60, 2, 0x0010); // so that the two do not overlap
    m.nic.put(0xB0, 2, 0);
    json plan = m.plan();
    CHECK(plan["reset"] == "secondary_bus");
    CHECK(plan["findings"][0]["id"] == "no_flr");
    CHECK(plan["findings"][0]["text"].get<std::string>().find("0000:01:01.0") != std::string::npos);
    m.has_port = false; // on a root bus there is nobody to do it
    plan = m.plan();
    CHECK(plan["reset"] == "none");
    CHECK(findings(plan) == ids{"no no_reset"});
}

TEST_CASE("pt-inspect plan: ports above that do not redirect", "[inspect][plan]") {
    model none;
    none.port.put(0x100, 4, 0x0001'0003);
    CHECK(findings(none.plan()) == ids{"condition acs"});
    // Each of source validation, the two redirects and upstream forwarding matters.
    for (const unsigned bit : {0U, 2U, 3U, 4U}) {
        CAPTURE(bit);
        model off;
        off.port.put(0x106, 2, 0x001DU & ~(1U << bit));
        CHECK(findings(off.plan()) == ids{"condition acs"});
    }
    model short_port;
    short_port.port.bytes.resize(256);
    CHECK(findings(short_port.plan()) == ids{"unknown acs"});
    CHECK(short_port.plan()["verdict"] == "unknown");
    // The windows of the ports next to it are named.
    model neighbour;
    neighbour.port.put(0x100, 4, 0x0001'0003);
    neighbour.more = [&](const tool::scratch& here) {
        space other = neighbour.port;
        other.put(0x18, 4, 0x0002'0200).put(0x20, 4, 0xE010'E000).put(0x24, 4, 0x0000'FFF0);
        here.file("0000:00:1d.0/config", other.bytes);
    };
    CHECK(neighbour.plan()["findings"][0]["text"].get<std::string>().find(
              "0xe0000000-0xe01fffff") != std::string::npos);
}

TEST_CASE("pt-inspect plan: behind conventional PCI all share a source id", "[inspect][plan]") {
    model express_to_pci;
    express_to_pci.port.put(0x42, 2, 0x0072);
    json plan = express_to_pci.plan();
    CHECK(findings(plan) == ids{"condition shared_source_id"});
    CHECK(plan["source_ids"] == json::parse(R"(["0x0100","0x0100"])"));

    model conventional;
    conventional.port.put(0x34, 1, 0).put(6, 2, 0);
    conventional.more = [&](const tool::scratch& here) {
        here.file("0000:01:02.0/config", conventional.host_bridge.bytes);
    };
    plan = conventional.plan();
    CHECK(findings(plan) == ids{"condition shared_source_id"});
    CHECK(plan["source_ids"] == json::parse(R"(["0x0100","0x00e0"])"));
    CHECK(plan["findings"][0]["text"].get<std::string>().find("0000:01:02.0") != std::string::npos);
}

TEST_CASE("pt-inspect plan: siblings, and features that escape", "[inspect][plan]") {
    model siblings;
    siblings.nic.put(0xE, 1, 0x80);
    CHECK(findings(siblings.plan()) == ids{"condition siblings"});
    siblings.nic.put(0x100, 4, 0x0001'000D).put(0x104, 2, 4).put(0x106, 2, 4); // ACS redirects
    CHECK(findings(siblings.plan()).empty());
    const auto with_extended = [](unsigned id) {
        model m;
        m.nic.put(0x100, 4, 0x0001'0000U | id);
        return findings(m.plan());
    };
    CHECK(with_extended(0x0F) == ids{"condition ats"});
    CHECK(with_extended(0x10) == ids{"condition sr_iov"});
    CHECK(with_extended(0x15) == ids{"condition resizable_bar"});
    model phantom;
    phantom.nic.put(0x68, 2, 0x0200);
    CHECK(findings(phantom.plan()) == ids{"condition phantom_functions"});
    model vga;
    vga.nic.put(8, 4, 0x0300'0000);
    CHECK(findings(vga.plan()) == ids{"condition vga"});
}

TEST_CASE("pt-inspect plan: a bridge is no device", "[inspect][plan]") {
    model m;
    m.nic.put(0xE, 1, 1).put(8, 4, 0x0604'0000);
    CHECK(findings(m.plan()) == ids{"no bridge"});
    model unknown;
    unknown.nic.put(0xE, 1, 3);
    CHECK(findings(unknown.plan()) == ids{"no header"});
    CHECK(unknown.run(false).out.find("EPT") ==
          std::string::npos); // nothing that looks like a plan
    model isa;
    isa.nic.put(8, 4, 0x0601'0000);
    CHECK(findings(isa.plan()) == ids{"no chipset"});
    model gone;
    gone.nic.put(0, 4, 0xFFFF'FFFF);
    CHECK(findings(gone.plan()) == ids{"no absent"});
}

TEST_CASE("pt-inspect plan: what the source does not tell is said", "[inspect][plan]") {
    model user; // without root
    user.nic_size = 64;
    json plan = user.plan();
    CHECK(findings(plan) == ids{"unknown capabilities"});
    CHECK(plan["reset"] == "unknown");
    model root; // through an old bridge, or by lspci -xxx
    root.nic_size = 256;
    CHECK(findings(root.plan()) == ids{"unknown extended_capabilities"});

    const tool::scratch here;
    const std::string dump =
        here.file("dump", "01:00.0 x\n00: 86 80 d3 10 00 00 00 00 00 00 00 02 00 00 00 00\n"
                          "10: 00 00 00 f0 00 00 00 00 00 00 00 00 00 00 00 00\n"
                          "20: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n"
                          "30: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n");
    plan = tool::inspect_json({"plan", "0000:01:00.0", "--dump", dump});
    // The bridge above could reset it, but the dump does not have it.
    CHECK(findings(plan) == ids{"unknown host", "unknown bridge_above", "unknown bar_size"});
    CHECK(plan["reset"] == "unknown");
    plan = tool::inspect_json(
        {"plan", "01:00.0", "--dump", here.file("short", "01:00.0 x\n00: 86 80 d3 10")});
    CHECK(findings(plan) == ids{"unknown header"});
}

TEST_CASE("pt-inspect plan: an address that is none, or nobody's", "[inspect][plan]") {
    const tool::scratch here;
    const std::string dump = here.file("dump", "01:00.0 x\n00: 86 80 d3 10");
    const auto refused = [&](const std::string& address, const std::string& message) {
        const auto done = tool::inspect({"plan", address, "--dump", dump, "--json"});
        CAPTURE(done.err);
        CHECK(done.exit == 1);
        CHECK(done.out.empty());
        CHECK(done.err.find(message) != std::string::npos);
    };
    refused("nic", "is no address");
    refused("", "is no address");
    refused("01:20.0", "is no address");
    refused("01:00.8", "is no address");
    refused("02:00.0", "there is no function 0000:02:00.0");
    refused("0001:01:00.0", "there is no function 0001:01:00.0");
}

TEST_CASE("pt-inspect plan: every function of every real dump has a plan",
          "[inspect][plan][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    std::size_t plans = 0;
    for (const auto& file : files) {
        for (const json& function : tool::inspect_json({"pci", "--dump", file.string()})) {
            INFO(file.filename().string() << " " << function["address"].get<std::string>());
            const json plan =
                tool::inspect_json({"plan", function["address"], "--dump", file.string()});
            // No size can be known, so nothing is certain; a bridge is refused.
            const bool device = function["header_type"] == 0;
            CHECK(plan["verdict"] != "yes");
            CHECK(plan["verdict"] != "conditions");
            CHECK(findings(plan).count("no bridge") == (device ? 0 : 1));
            ++plans;
        }
    }
    CHECK(plans > 90);
}
