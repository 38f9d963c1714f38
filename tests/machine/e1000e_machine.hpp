// SPDX-License-Identifier: BSL-1.0
//
// A QEMU machine with two NICs on one wire, each behind VT-d in a domain of its own, from the scan
// of the bus to rings that may be started: what the tests of transmission and reception have in
// common. The machine's RAM is shared with this process, so descriptors and buffers are plain
// memory on both sides; registers are messages.
//
// A NIC's memory is nowhere near the addresses that it uses for it. A part of it lies together, and
// another in single pages with pages of secrets between them: an address that is translated wrong,
// or not at all, shows.
//
// Where QEMU 7.2 is not the hardware:
// - It sends all that is in a ring before the write of TDT (or of TCTL) returns, and has delivered
//   it to the other NICs by then.
// - After a read that VT-d blocked both NICs send zeros and set DD.
// - e1000e sends nothing of a packet if a piece runs over the seam of pages that lie apart.
#pragma once

#include "devices.hpp"
#include "e1000e_capture.hpp"
#include "e1000e_frames.hpp"
#include "vtd_machine.hpp"

#include "../../examples/qemu/firmware_config.hpp"
#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"
#include "../../examples/qemu/shared_memory.hpp"

#include "pt/core/address.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/paging/publication.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/port_config_access.hpp"
#include "pt/vtd/attachment.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace e1000e_machine {

using emulator::qemu;
using emulator::qemu_mmio;
using machine_test::qemu_order;
using machine_test::scratch_directory;
using machine_test::steady_clock;
using pt::errc;
using pt::hpa;
using pt::iova;
using pt::KiB;
using pt::MiB;
using pt::e1000e::family;
using pt::e1000e::fragment;
using pt::e1000e::queue;
using vtd_machine::got;
using vtd_machine::hex;

using remapping_policies = pt::vtd::policies<qemu_mmio, steady_clock, emulator::shared_tables,
                                             pt::paging::coherent_publication>;
using bridges = pt::pci::config_bus_numbers<pt::pci::port_config_access<emulator::qemu_ports>>;
using remapping = pt::vtd::remapping<remapping_policies, bridges>;
using domain = pt::vtd::domain<remapping>;

inline constexpr std::uint64_t page = 4 * KiB;

/// What a page holds that no device may see: itself, over and over.
inline constexpr std::uint64_t secret = 0x5EC2'E75E'C2E7'5EC2;

/// The memory that one NIC may use.
class device_memory {
public:
    static constexpr iova scattered{0x6543'2100'0000};
    static constexpr iova together{0x1'2340'0000};
    static constexpr std::uint64_t scattered_size = 8 * MiB;
    static constexpr std::uint64_t together_size = 16 * MiB;
    /// Bytes of the machine's RAM that it takes.
    static constexpr std::uint64_t taken = 2 * scattered_size + together_size;

    device_memory(emulator::shared_memory& memory, hpa base) : memory_{&memory}, base_{base} {
        std::fill_n(memory.words<std::uint64_t>(base, taken / 8), taken / 8, secret);
    }

    /// Opens it to whoever is in the domain.
    void map(domain& to) const {
        domain::batch batch{to};
        for (std::uint64_t i = 0; i < scattered_size / page; ++i) {
            const iova at = scattered + i * page;
            got(batch.map({at, page}, host_of(at), pt::vtd::second_stage::read_write));
        }
        got(batch.map({together, together_size}, host_of(together),
                      pt::vtd::second_stage::read_write));
        got(batch.flush());
    }

    /// Single pages: each second one, and none after its neighbour.
    [[nodiscard]] hpa host_of(iova at) const {
        if (at >= together && at - together < together_size) {
            return base_ + 2 * scattered_size + (at - together);
        }
        if (at < scattered || at - scattered >= scattered_size) {
            throw std::out_of_range{hex(at.raw) + " is not memory of this NIC"};
        }
        constexpr std::uint64_t count = scattered_size / page;
        const std::uint64_t number = (at - scattered) / page;
        return base_ + (number * 1031 + 17) % count * 2 * page + at.offset_in(page);
    }
    /// The secrets that lie after the page of `at`.
    [[nodiscard]] hpa secret_after(iova at) const { return host_of(at).align_down(page) + page; }

    void write(iova to, const std::uint8_t* from, std::size_t count) {
        pieces(to, count, [&](std::byte* at, std::size_t size) {
            std::memcpy(at, from, size);
            from += size;
        });
    }
    bytes read(iova from, std::size_t count) {
        bytes all;
        all.reserve(count);
        pieces(from, count, [&](const std::byte* at, std::size_t size) {
            const auto* const first = reinterpret_cast<const std::uint8_t*>(at);
            all.insert(all.end(), first, first + size);
        });
        return all;
    }
    void fill(iova to, std::size_t count, int value) {
        pieces(to, count, [&](std::byte* at, std::size_t size) { std::memset(at, value, size); });
    }

    [[nodiscard]] std::uint64_t load(iova at) const { return memory_->load(host_of(at)); }
    void store(iova at, std::uint64_t value) { memory_->store(host_of(at), value); }

    /// Whether every secret is as it was.
    [[nodiscard]] bool secrets_are_whole() const {
        for (std::uint64_t i = 0; i < scattered_size / page; ++i) {
            const auto* const words =
                memory_->words<std::uint64_t>(secret_after(scattered + i * page), page / 8);
            if (!std::all_of(words, words + page / 8,
                             [](std::uint64_t w) { return w == secret; })) {
                return false;
            }
        }
        return true;
    }

private:
    template <class F>
    void pieces(iova at, std::size_t count, F&& each) {
        while (count != 0) {
            const std::size_t size =
                std::min<std::size_t>(count, static_cast<std::size_t>(page - at.offset_in(page)));
            each(memory_->bytes(host_of(at), size).data(), size);
            at += size;
            count -= size;
        }
    }

    emulator::shared_memory* memory_;
    hpa base_;
};

/// dma_memory: a ring of descriptors, which may lie in several pages.
struct ring_memory {
    device_memory* memory;
    iova base;
    std::uint64_t read64(std::uint32_t offset) { return memory->load(base + offset); }
    void write64(std::uint32_t offset, std::uint64_t value) { memory->store(base + offset, value); }
};
static_assert(pt::dma_memory<ring_memory>);

/// Where a NIC's memory has its rings; a ring of 1,024 descriptors takes 4 pages.
inline constexpr iova first_ring = device_memory::scattered;
inline constexpr iova second_ring = device_memory::scattered + 64 * KiB;
inline constexpr iova buffers = device_memory::scattered + 128 * KiB;
/// 32 zero bytes.
inline constexpr iova padding = device_memory::scattered + 120 * KiB;

/// Which NIC of QEMU's.
enum class model : std::uint8_t {
    e1000e, ///< 82574L, PCI Express
    e1000,  ///< 82540EM, conventional PCI
};
inline const char* text(model of) { return of == model::e1000e ? "e1000e" : "e1000"; }

/// A function that the scan found, its registers, and where its DMA goes.
struct nic {
    nic(emulator::shared_memory& ram, remapping& vtd, pt::pci::found_function found, hpa at,
        qemu& machine, hpa memory_at)
        : function{found.address},
          members{found.id.raw == 0x100E'8086 ? family::pci : family::pci_express},
          registers{machine, at},
          memory{ram, memory_at},
          dma{vtd, got(vtd.limits(48))},
          attachment{found.address} {}

    pt::pci::function_address function;
    family members;
    qemu_mmio registers;
    device_memory memory;
    domain dma;
    remapping::attachment_type attachment;
};

/// The machine, and what it has been brought to: two NICs with registers and domains, after a reset
/// and with their links up.
class machine {
    scratch_directory scratch_; // before QEMU, which writes to it

public:
    /// The first NIC is of that model, the second an e1000e.
    explicit machine(model first)
        : ram_{ram_size},
          emulator{options(first, ram_, scratch_.path())},
          wire{scratch_.path() / "wire.pcap"},
          frames_{ram_, tables_at, table_count, hpa{decoy_at}} {
        emulator::firmware_config firmware{emulator, ram_, hpa{MiB}};
        dmar_bytes_ = firmware.acpi_table("DMAR");
        const pt::vtd::dmar dmar = got(pt::vtd::dmar::read(dmar_bytes_.data(), dmar_bytes_.size()));
        const remapping_policies policies{{}, emulator::shared_tables{frames_}, {}};
        const pt::vtd::drhd unit = *dmar.each<pt::vtd::drhd>().begin();
        vtd_.emplace_back(policies, dmar, bridges{config()});
        unit_.emplace_back(
            got(remapping::unit_type::take(policies, {emulator, unit.register_base}, unit)));
        got(vtd().add(unit_.front()));
        find_nics();
        got(vtd().start());
        for (nic& each : nics_) {
            each.memory.map(each.dma);
            got(each.dma.attach(each.attachment));
            got(pt::e1000e::reset(each.registers, steady_clock{}, each.members));
            got(pt::e1000e::set_link_up(each.registers));
            wait_for_link(each);
        }
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;
    /// QEMU ends with this: nobody needs to give anything back, but finish() may have.
    ~machine() {
        for (nic& each : nics_) {
            each.dma.leak();
        }
        vtd().leak();
        unit_.front().leak();
    }

private:
    emulator::shared_memory ram_;

public:
    qemu emulator;
    capture wire;

    nic& first() { return nics_[0]; }
    nic& second() { return nics_[1]; }
    remapping& vtd() { return vtd_.front(); }
    [[nodiscard]] const std::filesystem::path& scratch() const { return scratch_.path(); }
    emulator::shared_memory& ram() { return ram_; }

    /// The faults since it was last asked, without repetitions: "first reads 0x...: reason".
    std::vector<std::string> faults() {
        std::vector<std::string> all;
        unit_.front().faults().drain(1000, [&](const pt::vtd::fault_record& fault) {
            const bool reads = fault.type == pt::vtd::fault_record::request::read;
            const char* const who = fault.source == first().function    ? "first"
                                    : fault.source == second().function ? "second"
                                                                        : "nobody known";
            const std::string said = std::string{who} + (reads ? " reads " : " writes ") +
                                     hex(fault.page.raw) + ": " + pt::vtd::name(fault.reason);
            if (std::find(all.begin(), all.end(), said) == all.end()) {
                all.push_back(said);
            }
        });
        static_cast<void>(unit_.front().faults().take_overflow());
        return all;
    }

    /// Some time after a reset, in QEMU soon.
    static void wait_for_link(nic& of) {
        steady_clock time;
        const std::uint64_t begin = time.now();
        while (!pt::read<pt::e1000e::status>(of.registers)[pt::e1000e::status::lu]) {
            if (time.now() - begin > 10'000'000'000) {
                throw std::runtime_error{"the link of a NIC stays down"};
            }
        }
    }

    /// Everything is given back: the NICs reach nothing, the unit is off, and no frame is in use.
    void finish() {
        CHECK(faults().empty());
        for (nic& each : nics_) {
            CHECK(each.memory.secrets_are_whole());
            got(vtd().release(each.attachment));
            got(each.dma.retire());
        }
        got(vtd().stop());
        got(vtd().retire());
        got(unit_.front().retire());
        CHECK(frames_.in_use() == 0);
        emulator.stop();
    }

private:
    static constexpr std::uint64_t ram_size = 256 * MiB;
    static constexpr hpa tables_at{16 * MiB};
    static constexpr std::size_t table_count = 512;
    static constexpr std::uint64_t decoy_at = 24 * MiB;
    static constexpr std::uint64_t memories_at = 64 * MiB;

    static qemu::options options(model first, const emulator::shared_memory& ram,
                                 const std::filesystem::path& scratch) {
        std::string file; // a comma inside a value is written twice
        for (const char character : (scratch / "wire.pcap").string()) {
            file.append(character == ',' ? 2U : 1U, character);
        }
        qemu::options wanted{
            .arguments = {"-machine",
                          "q35,memory-backend=ram",
                          "-accel",
                          "tcg",
                          "-nodefaults",
                          "-no-user-config",
                          "-display",
                          "none",
                          "-device",
                          "intel-iommu,intremap=on,aw-bits=48",
                          "-netdev",
                          "hubport,id=n0,hubid=0",
                          "-netdev",
                          "hubport,id=n1,hubid=0",
                          "-device",
                          std::string{text(first)} + ",netdev=n0,addr=3,mac=52:54:00:12:34:05",
                          "-device",
                          "e1000e,netdev=n1,addr=4,mac=52:54:00:12:34:06",
                          "-object",
                          "filter-dump,id=f0,netdev=n0,maxlen=262144,file=" + file},
            .name = "e1000e"};
        const std::vector<std::string> memory_arguments = ram.arguments();
        wanted.arguments.insert(wanted.arguments.end(), memory_arguments.begin(),
                                memory_arguments.end());
        return wanted;
    }

    pt::pci::port_config_access<emulator::qemu_ports> config() {
        return pt::pci::port_config_access{emulator::qemu_ports{emulator},
                                           pt::pci::config_latch::ours};
    }

    /// Intel's Ethernet controllers on bus 0, with their memory BARs placed and decoding on.
    void find_nics() {
        namespace pci = pt::pci;
        auto ports = config();
        std::uint64_t next = 0xC000'0000;
        const auto scan = pci::scan_bus(ports, 0);
        for (const pci::found_function found : scan) {
            if (found.id.raw != 0x10D3'8086 && found.id.raw != 0x100E'8086) {
                continue;
            }
            std::uint64_t registers = 0;
            for (const auto& entry : pci::size_bars(ports, found.address)) {
                const pci::bar sized = got(pt::result<pci::bar>{entry});
                if (sized.kind == pci::bar_kind::mem32 || sized.kind == pci::bar_kind::mem64) {
                    next = (next + sized.size - 1) / sized.size * sized.size;
                    got(pci::write_bar(ports, found.address, sized, next));
                    registers = sized.index == 0 ? next : registers;
                    next += sized.size;
                }
            }
            using command = pci::command;
            pci::write(ports, found.address,
                       pci::read<command>(ports, found.address)
                           .write_back()
                           .with(command::memory_space(true), command::bus_master(true)));
            const hpa memory{memories_at + nics_.size() * device_memory::taken};
            nics_.emplace_back(ram_, vtd(), found, hpa{registers}, emulator, memory);
        }
        if (nics_.size() != 2) {
            throw std::runtime_error{"the scan does not find two NICs"};
        }
    }

    emulator::shared_frames frames_;
    bytes dmar_bytes_;
    std::deque<remapping> vtd_;
    std::deque<remapping::unit_type> unit_;
    std::deque<nic> nics_;
};

} // namespace e1000e_machine
