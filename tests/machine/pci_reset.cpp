// SPDX-License-Identifier: BSL-1.0
//
// The reset of one function, on QEMU's models of three: its NVMe controller has function level reset,
// its e1000e (an 82574L) has power management alone, its edu device has neither. Judges are the
// device's own registers, QEMU's account of the BARs, and a record of what is written.
//
// Where QEMU 7.2 is not the hardware: e1000e says that it comes back from D3hot by a reset
// (No_Soft_Reset is 0), and comes back as it was. The real 82574L is reset. pt sees that nothing was
// reset, and does not call it one: such a NIC is reset by its own register (e1000e/reset.hpp).
#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"
#include "devices.hpp"

#include "pt/assign/standard_reset.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/function_reset.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/port_config_access.hpp"

#include <array>
#include <cstdint>
#include <vector>

#include <catch2/catch_test_macros.hpp>

namespace pci = pt::pci;
using emulator::qemu;
using emulator::qemu_ports;
using machine_test::steady_clock;
using pci::command;
using pci::function_address;
using pt::errc;
using pt::error;
using pt::width;

namespace {

constexpr function_address nvme{0, 0, 4, 0};
constexpr function_address nic{0, 0, 5, 0};
constexpr function_address edu{0, 0, 6, 0};

/// The machine's configuration space, and a count of what is written there.
class counted_config {
public:
    counted_config(qemu& machine, unsigned& writes)
        : config_{qemu_ports{machine}}, writes_{&writes} {}

    std::uint32_t read(function_address function, std::uint16_t offset, width size) {
        return config_.read(function, offset, size);
    }
    void write(function_address function, std::uint16_t offset, width size, std::uint32_t value) {
        ++*writes_;
        config_.write(function, offset, size, value);
    }

private:
    pci::port_config_access<qemu_ports> config_;
    unsigned* writes_;
};
static_assert(pci::config_access<counted_config>);

/// A machine whose functions firmware has placed and let decode.
struct placed_machine {
    qemu machine{{.arguments = {"-machine",    "q35",
                                "-accel",      "tcg",
                                "-nodefaults", "-no-user-config",
                                "-display",    "none",
                                "-m",          "64",
                                "-drive",      "driver=null-co,read-zeroes=on,if=none,id=d0",
                                "-device",     "nvme,drive=d0,serial=pt,addr=4",
                                "-netdev",     "hubport,id=n0,hubid=0",
                                "-device",     "e1000e,netdev=n0,addr=5",
                                "-device",     "edu,addr=6"},
                  .name = "reset"}};
    unsigned writes = 0;
    counted_config config{machine, writes};
    pt::assign::standard_reset<counted_config, steady_clock> reset{config, {}};

    placed_machine() {
        std::uint64_t memory = 0xE000'0000;
        std::uint64_t ports = 0xC000;
        for (const function_address each : {nvme, nic, edu}) {
            for (const auto& bar : pci::size_bars(config, each)) {
                REQUIRE(bar);
                std::uint64_t& next = bar->kind == pci::bar_kind::io ? ports : memory;
                next = (next + bar->size - 1) / bar->size * bar->size;
                REQUIRE(pci::write_bar(config, each, *bar, next));
                next += bar->size;
            }
            pci::write(config, each,
                       command{command::io_space(true), command::memory_space(true),
                               command::bus_master(true), command::serr_enable(true)});
            config.write(each, pci::interrupt_line::offset, width::byte, 0x0B);
            config.write(each, pci::cache_line_size::offset, width::byte, 0x10);
        }
        writes = 0;
    }
    std::uint64_t bar_0(function_address function) {
        return pci::read_bar(config, function, 0).value().address;
    }
    /// What QEMU decodes: every BAR of every function.
    std::vector<std::int64_t> decoded() {
        std::vector<std::int64_t> all;
        for (const emulator::pci_report& each : machine.query_pci()) {
            for (const emulator::pci_region& region : each.regions) {
                all.push_back(region.address);
            }
        }
        return all;
    }
    std::array<std::uint32_t, 16> header(function_address function) {
        std::array<std::uint32_t, 16> dwords{};
        for (unsigned i = 0; i < 16; ++i) {
            dwords[i] = config.read(function, static_cast<std::uint16_t>(4 * i), width::dword);
        }
        return dwords;
    }
};

TEST_CASE("QEMU's NVMe controller: function level reset stops it and clears its registers",
          "[machine][pci][reset]") {
    placed_machine m;
    CHECK(pci::find_reset_method(m.config, nvme) ==
          pt::result<pci::reset_method>{pci::reset_method::function_level_reset});
    // A guest's driver starts it: admin queues of eight entries, then Controller Configuration
    // with 64- and 16-byte entries, and Enable [NVM Express].
    const std::uint64_t base = m.bar_0(nvme);
    constexpr std::uint64_t interrupt_mask_set = 0x0C;
    constexpr std::uint64_t configuration = 0x14;
    constexpr std::uint64_t status = 0x1C;
    m.machine.write32(base + interrupt_mask_set, 0x5);
    m.machine.write32(base + 0x24, 0x0007'0007);
    m.machine.write32(base + 0x28, 0x10'0000);
    m.machine.write32(base + 0x2C, 0);
    m.machine.write32(base + 0x30, 0x10'1000);
    m.machine.write32(base + 0x34, 0);
    m.machine.write32(base + configuration, 0x0046'0001);
    REQUIRE((m.machine.read32(base + status) & 1) == 1); // Ready
    REQUIRE(m.machine.read32(base + configuration) == 0x0046'0001);
    const pci::capability msi_x =
        pci::capabilities(m.config, nvme).find(pci::capability_id::msi_x).value();
    using control = pci::msi_x_message_control;
    pci::write(m.config, nvme, msi_x,
               pci::read<control>(m.config, nvme, msi_x).with(control::enable(true)));
    const auto header = m.header(nvme);
    const auto decoded = m.decoded();

    const std::uint64_t begun = steady_clock{}.now();
    REQUIRE(m.reset.reset(nvme));
    CHECK(steady_clock{}.now() - begun >= 100'000'000);

    CHECK(m.header(nvme) == header); // BARs, Command, Interrupt Line
    CHECK(m.decoded() == decoded);
    CHECK_FALSE(pci::read<control>(m.config, nvme, msi_x)[control::enable]);
    CHECK(m.machine.read32(base + configuration) == 0);
    CHECK((m.machine.read32(base + status) & 1) == 0);
    CHECK(m.machine.read32(base + interrupt_mask_set) == 0);
    // And it is one that can be started again.
    m.machine.write32(base + 0x24, 0x0007'0007);
    m.machine.write32(base + 0x28, 0x10'0000);
    m.machine.write32(base + 0x30, 0x10'1000);
    m.machine.write32(base + configuration, 0x0046'0001);
    CHECK((m.machine.read32(base + status) & 1) == 1);
}

TEST_CASE("QEMU's e1000e comes back from D3hot as it was, and that is no reset",
          "[machine][pci][reset]") {
    placed_machine m;
    CHECK(pci::find_reset_method(m.config, nic) ==
          pt::result<pci::reset_method>{pci::reset_method::power_management});
    const std::uint64_t tdba = m.bar_0(nic) + 0x3800; // TDBAL [82574]
    m.machine.write32(tdba, 0x1234'5680);
    REQUIRE(pci::enable_msi(m.config, nic, {0xFEE0'0000, 0x41}));
    const auto header = m.header(nic);
    const auto decoded = m.decoded();
    CHECK(m.reset.reset(nic) == error{errc::hardware_fault, command::offset});
    CHECK(m.machine.read32(tdba) == 0x1234'5680); // what the hardware would have cleared
    CHECK(m.header(nic) == header);
    CHECK(m.decoded() == decoded);
    // MSI is off all the same.
    const pci::capability msi =
        pci::capabilities(m.config, nic).find(pci::capability_id::msi).value();
    using control = pci::msi_message_control;
    CHECK_FALSE(pci::read<control>(m.config, nic, msi)[control::enable]);
}

TEST_CASE("QEMU's edu device cannot be reset, and is not touched", "[machine][pci][reset]") {
    placed_machine m;
    const auto header = m.header(edu);
    const auto done = m.reset.reset(edu);
    REQUIRE_FALSE(done);
    CHECK(done.error().code == errc::not_supported);
    CHECK(m.writes == 0);
    CHECK(m.header(edu) == header);
    CHECK(m.reset.reset({0, 0, 7, 0}).error().code == errc::absent);
    // Nor is the bridge to the rest of the machine.
    CHECK(m.reset.reset({0, 0, 0x1F, 0}).error().code == errc::not_supported);
    CHECK(m.writes == 0);
}

} // namespace
