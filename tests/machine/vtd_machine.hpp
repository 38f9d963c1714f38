// SPDX-License-Identifier: BSL-1.0
//
// A QEMU machine with a VT-d unit and four devices behind it, driven by pt from this process: what
// the tests of remapping, of the unit and of faults have in common. The machine's RAM is shared
// with the process, so tables, queue and status are plain memory on both sides; registers are
// messages.
//
// The machine never executes an instruction. Its DMAR table is the one that QEMU makes for
// firmware.
//
// Where QEMU 7.2 is not the hardware:
// - It carries out a command, and all of the queue, before the register write that orders it
//   returns.
// - Its IOTLB keeps an entry until it is invalidated (or 1024 are in it), so a stale translation is
//   certain. Context entries are cached likewise. Nothing that is absent is ever cached, with
//   caching mode neither; no entry above the leaves is cached, and no PASID entry: those
//   invalidations do nothing.
// - Each of its entries is read when it is needed, in pieces, but no other thing happens meanwhile.
#pragma once

#include "devices.hpp"

#include "../../examples/qemu/firmware_config.hpp"
#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"
#include "../../examples/qemu/shared_memory.hpp"

#include "pt/core/wide_store.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bridge.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/port_config_access.hpp"
#include "pt/vtd/attachment.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/domain.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/remapping.hpp"
#include "pt/vtd/unit.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>

namespace vtd_machine {

namespace second_stage = pt::vtd::second_stage;
using emulator::qemu;
using emulator::qemu_mmio;
using machine_test::edu_engine;
using machine_test::qemu_order;
using machine_test::scratch_directory;
using machine_test::steady_clock;
using pt::errc;
using pt::hpa;
using pt::iova;
using pt::pci::function_address;
using pt::vtd::invalidation_interface;
using pt::vtd::table_mode;
using pages = pt::range<iova>;

inline constexpr std::uint64_t KiB = pt::KiB;
inline constexpr std::uint64_t MiB = pt::MiB;
inline constexpr std::uint64_t page = 4 * KiB;

inline std::string hex(std::uint64_t value) {
    char text[20];
    std::snprintf(text, sizeof text, "%#llx", static_cast<unsigned long long>(value));
    return text;
}
inline std::string text(pt::error why) {
    return std::string{pt::name(why.code)} + " at " + hex(why.where);
}
/// What became of an operation, for people.
template <class T>
std::string text(const pt::result<T>& answer) {
    return answer ? "done" : text(answer.error());
}

/// The value of an operation that must succeed.
template <class T>
T got(pt::result<T>&& answer) {
    if (!answer) {
        throw std::runtime_error{"pt: " + text(answer.error())};
    }
    if constexpr (!std::is_void_v<T>) {
        return *std::move(answer);
    }
}

// ------------------------------------------------------------------------------- the machine

/// How the unit is built, and how pt drives it.
struct shape {
    table_mode mode = table_mode::legacy;
    bool caching_mode = false;
    invalidation_interface invalidation = invalidation_interface::queue_where_possible;
    const char* more = ""; ///< options of QEMU's unit
};
inline std::string text(shape of) {
    return std::string{of.mode == table_mode::scalable ? "scalable mode" : "legacy mode"} +
           (of.caching_mode ? ", caching mode" : "") +
           (of.invalidation == invalidation_interface::registers ? ", by registers"
                                                                 : ", by queue") +
           (*of.more != '\0' ? std::string{", "} + of.more : "");
}
/// All that there is.
inline constexpr shape every_shape[]{
    {table_mode::legacy, false, invalidation_interface::queue_where_possible},
    {table_mode::legacy, true, invalidation_interface::queue_where_possible},
    {table_mode::legacy, false, invalidation_interface::registers},
    {table_mode::legacy, true, invalidation_interface::registers},
    {table_mode::scalable, false, invalidation_interface::queue_where_possible},
    {table_mode::scalable, true, invalidation_interface::queue_where_possible},
};

// The first bus has an edu below device 16 and one above, which scalable mode keeps in two tables.
// The NIC is behind a bridge, and so on another bus.
inline constexpr function_address bridge_function{0, 0, 5, 0};
inline constexpr function_address nic_function{0, 1, 0, 0};
inline constexpr function_address edu_a_function{0, 0, 6, 0};
inline constexpr function_address edu_b_function{0, 0, 0x12, 0};
inline constexpr hpa unit_registers{0xFED9'0000}; // q35's only one
inline constexpr hpa nic_registers{0xC000'0000};
inline constexpr hpa edu_a_registers{0xC010'0000};
inline constexpr hpa edu_b_registers{0xC020'0000};

inline constexpr std::uint64_t ram_size = 512 * MiB;
inline constexpr hpa tables_at{16 * MiB};
inline constexpr std::size_t table_count = 512;
/// Memory of nobody but the host.
inline constexpr hpa host_memory{0x0800'0000};
inline constexpr hpa decoy_at{0x0F00'0000};
/// Two guests' memory. Of each, the first 2 MiB lie together, and 16 pages at a distance.
inline constexpr hpa guest_a{0x1000'0000};
inline constexpr hpa guest_b{0x1400'0000};
inline constexpr std::uint64_t large_size = 2 * MiB;
inline constexpr std::uint64_t small_at = 2 * MiB; ///< where the 16 pages are for the guest
inline constexpr std::uint64_t small_size = 64 * KiB;
inline constexpr std::uint64_t small_offset = 3 * MiB + 3 * page; ///< and for the host

/// What a word of memory holds, so that whoever reads it knows where it lies.
inline std::uint64_t word(hpa at) { return 0x5700'0000'0000'0000 | at.raw; }
/// What a device reads where it is blocked.
inline constexpr std::uint64_t nothing = 0;
/// What edu writes to see where it goes.
inline constexpr std::uint64_t mark = 0xA11A'A11A'A11A'A11A;

/// A word that was read, for people.
inline std::string place(std::uint64_t read) {
    const hpa at{read & 0x00FF'FFFF'FFFF'FFFF};
    return read == word(at) ? hex(at.raw) : read == nothing ? "nothing" : "garbage " + hex(read);
}
inline std::string place(hpa at) { return hex(at.raw); }

/// Called whenever the unit may see something new: after each write to its registers and after each
/// store to its tables. What the look itself does is not looked at.
struct watch {
    std::function<void()> look{};
    bool looking = false;

    void operator()() {
        if (look && !looking) {
            looking = true;
            look();
            looking = false;
        }
    }
};

/// mmio_io: the unit's registers.
struct watched_registers {
    qemu_mmio registers;
    watch* seen;

    std::uint32_t read32(std::uint32_t offset) { return registers.read32(offset); }
    std::uint64_t read64(std::uint32_t offset) { return registers.read64(offset); }
    void write32(std::uint32_t offset, std::uint32_t value) {
        registers.write32(offset, value);
        (*seen)();
    }
    void write64(std::uint32_t offset, std::uint64_t value) {
        registers.write64(offset, value);
        (*seen)();
    }
};
/// publication: QEMU's unit sees a store when it is made.
struct watched_publication {
    watch* seen;

    void publish(const std::uint64_t*, std::size_t) {}
    void complete() { (*seen)(); }
};

/// With instruction counting and without sleep, virtual time jumps to the next timer, for no
/// instruction is ever executed; and without the PIT that is mostly the one of edu's engine, whose
/// 100 ms for a copy are over at once.
inline qemu::options options(shape of, const emulator::shared_memory& memory,
                             const std::filesystem::path& capture) {
    std::string capture_option; // a comma inside a value is written twice
    for (const char character : capture.string()) {
        capture_option.append(character == ',' ? 2U : 1U, character);
    }
    const auto on_off = [](bool on) { return on ? "on" : "off"; };
    qemu::options wanted{
        .arguments = {"-machine",
                      "q35,pit=off,memory-backend=ram",
                      "-accel",
                      "tcg",
                      "-icount",
                      "shift=0,sleep=off",
                      "-nodefaults",
                      "-no-user-config",
                      "-display",
                      "none",
                      "-device",
                      std::string{"intel-iommu,intremap=on,aw-bits=48,caching-mode="} +
                          on_off(of.caching_mode) +
                          ",x-scalable-mode=" + on_off(of.mode == table_mode::scalable) + of.more,
                      "-netdev",
                      "hubport,id=n0,hubid=0",
                      "-device",
                      "pcie-root-port,id=root,addr=5,chassis=1",
                      "-device",
                      "e1000e,netdev=n0,bus=root,mac=52:54:00:12:34:05",
                      "-object",
                      "filter-dump,id=f0,netdev=n0,file=" + capture_option,
                      "-device",
                      "edu,addr=6,dma_mask=0xffffffffffffffff",
                      "-device",
                      "edu,addr=0x12,dma_mask=0xffffffffffffffff"},
        .name = "vtd"};
    const std::vector<std::string> memory_arguments = memory.arguments();
    wanted.arguments.insert(wanted.arguments.end(), memory_arguments.begin(),
                            memory_arguments.end());
    return wanted;
}

using bytes = std::vector<std::uint8_t>;
/// As hexadecimal digits.
inline std::string text(const bytes& all) {
    std::string digits;
    for (const std::uint8_t byte : all) {
        digits += "0123456789abcdef"[byte >> 4];
        digits += "0123456789abcdef"[byte & 15];
    }
    return digits;
}

/// The machine as it comes up: no unit is on, and devices reach everything.
class machine {
    scratch_directory scratch_; // before QEMU, which writes to it

public:
    explicit machine(shape wanted, const bytes& other_table = {})
        : of{wanted},
          emulator{options(wanted, memory, scratch_.path() / "sent.pcap")},
          edu_a{emulator, edu_a_registers},
          edu_b{emulator, edu_b_registers},
          capture_{scratch_.path() / "sent.pcap", std::ios::binary} {
        scratch_.remove();   // whatever ends this program, it leaves nothing behind
        capture_.ignore(24); // the file's header
        dmar_bytes_ = other_table;
        if (dmar_bytes_.empty()) {
            emulator::firmware_config firmware{emulator, memory, host_memory};
            dmar_bytes_ = firmware.acpi_table("DMAR");
        }
        place_devices();
        memory.store(host_memory, mark);
        edu_a.load_mark(iova{host_memory.raw});
        edu_b.load_mark(iova{host_memory.raw});
        stamp(host_memory, page);
    }
    machine(const machine&) = delete;
    machine& operator=(const machine&) = delete;

    const shape of;
    emulator::shared_memory memory{ram_size};
    qemu emulator;
    edu_engine edu_a;
    edu_engine edu_b;

    /// Gives the devices their registers, as firmware does after a reset.
    void place_devices() {
        namespace pci = pt::pci;
        auto ports = config();
        pci::write(
            ports, bridge_function,
            pci::bus_numbers{pci::bus_numbers::secondary(1), pci::bus_numbers::subordinate(1)});
        // Both ends of the window in one register, in units of 1 MiB.
        ports.write(bridge_function, pci::memory_base::offset, pt::width::dword,
                    static_cast<std::uint32_t>(nic_registers.raw >> 16 | nic_registers.raw));
        place_registers(bridge_function, {});
        place_registers(nic_function, nic_registers);
        place_registers(edu_a_function, edu_a_registers);
        place_registers(edu_b_function, edu_b_registers);
    }
    pt::pci::port_config_access<emulator::qemu_ports> config() {
        return pt::pci::port_config_access{emulator::qemu_ports{emulator},
                                           pt::pci::config_latch::ours};
    }

    [[nodiscard]] const bytes& dmar_bytes() const { return dmar_bytes_; }
    [[nodiscard]] pt::vtd::dmar dmar() const {
        return got(pt::vtd::dmar::read(dmar_bytes_.data(), dmar_bytes_.size()));
    }

    /// Each word of `size` bytes, whole pages, says where it lies.
    void stamp(hpa first, std::uint64_t size) {
        for (std::uint64_t offset = 0; offset < size; offset += 8) {
            memory.store(first + offset, word(first + offset));
        }
        for (std::uint64_t offset = 0; offset < size; offset += page) {
            stamped_.push_back(first + offset);
        }
    }
    /// Whether every stamped word is as it was.
    [[nodiscard]] bool untouched() const {
        return std::all_of(stamped_.begin(), stamped_.end(), [this](hpa frame) {
            for (std::uint64_t offset = 0; offset < page; offset += 8) {
                if (memory.load(frame + offset) != word(frame + offset)) {
                    return false;
                }
            }
            return true;
        });
    }

    /// Where a device's write to `at` goes: the words of stamped memory that it changed, which are
    /// then as they were.
    std::string writes(edu_engine& device, iova at) {
        device.store_mark(at);
        std::string found;
        const auto look = [&](hpa to) {
            if (memory.contains(to, 8) && memory.load(to) == mark) {
                found += (found.empty() ? "" : " and ") + place(to);
                memory.store(to, word(to));
            }
        };
        for (const hpa frame : stamped_) {
            look(frame + at.offset_in(page));
        }
        look(hpa{at.raw});
        return found.empty() ? "nothing" : found;
    }
    /// What a device reads at `at`, if it may write `window`, which leads to `seen`.
    std::string reads(edu_engine& device, iova at, iova window, hpa seen) {
        const std::uint64_t before = memory.load(seen);
        memory.store(seen, ~std::uint64_t{0});
        device.load(at, 0);
        device.store(0, window);
        const std::uint64_t word = memory.load(seen);
        memory.store(seen, before);
        return word == ~std::uint64_t{0} ? "nothing, and the window is closed" : place(word);
    }

    /// One frame that the NIC put on the wire [pcap-savefile(5)]; none: an empty one.
    bytes captured() {
        std::array<std::uint32_t, 4> header{}; // time stamp, captured length, length
        capture_.clear();
        capture_.read(reinterpret_cast<char*>(header.data()), sizeof header);
        if (!capture_) {
            return {};
        }
        bytes frame(header[2]);
        capture_.read(reinterpret_cast<char*>(frame.data()),
                      static_cast<std::streamsize>(frame.size()));
        return frame;
    }

private:
    void place_registers(function_address function, std::optional<hpa> at) {
        using pt::pci::command;
        auto ports = config();
        if (at) {
            const pt::pci::bar sized = got(pt::pci::size_bar(ports, function, 0));
            got(pt::pci::write_bar(ports, function, sized, at->raw));
        }
        pt::pci::write(ports, function,
                       pt::pci::read<command>(ports, function)
                           .with(command::memory_space(true), command::bus_master(true)));
    }

    std::ifstream capture_;
    bytes dmar_bytes_;
    std::vector<hpa> stamped_;
};

/// Where the entries are that the unit goes by for a function, found from RTADDR on as [vt-d] has
/// it, not through pt. What is not there is at 0; in legacy mode the PASID's are not.
struct walk {
    hpa root_entry{};
    hpa context_entry{};
    hpa pasid_directory_entry{};
    hpa pasid_entry{};
    hpa second_stage{}; ///< the table that is walked first

    walk(machine& m, function_address of) {
        const std::uint64_t root = m.emulator.read64((unit_registers + 0x20).raw);
        const bool scalable = (root & 0xC00) != 0;
        const unsigned devfn = of.source_id() & 0xFFU;
        const std::uint64_t half = scalable && devfn >= 0x80 ? 8 : 0;
        root_entry = frame(root) + of.bus * 16U + half;
        context_entry = follow(m, root_entry, scalable ? (devfn & 0x7F) * 32U : devfn * 16U);
        if (scalable) {
            pasid_directory_entry = follow(m, context_entry, 0);
            pasid_entry = follow(m, pasid_directory_entry, 0);
            second_stage = follow(m, pasid_entry, 0);
        } else {
            second_stage = follow(m, context_entry, 0);
        }
    }
    /// The entry for `at` in the table of that level, in tables of 4 levels.
    [[nodiscard]] hpa entry(machine& m, iova at, unsigned level) const {
        hpa found = second_stage + index(at, 4) * 8;
        for (unsigned l = 3; l >= level; --l) {
            found = follow(m, found, index(at, l) * 8);
        }
        return found;
    }

private:
    static std::uint64_t index(iova at, unsigned level) { return at.raw >> (3 + 9 * level) & 511; }
    static hpa frame(std::uint64_t entry) { return hpa{entry & 0x000F'FFFF'FFFF'F000}; }
    static hpa follow(machine& m, hpa entry, std::uint64_t offset) {
        return entry == hpa{} || (m.memory.load(entry) & 3) == 0
                   ? hpa{}
                   : frame(m.memory.load(entry)) + offset;
    }
};

/// The machine with its unit in pt's hands, which start() switches on.
template <class WideStore = pt::cmpxchg16b_store>
class driven_machine : public machine {
public:
    using policies = pt::vtd::policies<watched_registers, steady_clock, emulator::shared_tables,
                                       watched_publication, WideStore>;
    using bridges = pt::pci::config_bus_numbers<pt::pci::port_config_access<emulator::qemu_ports>>;
    using remapping = pt::vtd::remapping<policies, bridges>;
    using unit_type = typename remapping::unit_type;
    using attachment = typename remapping::attachment_type;

    /// Another table than QEMU's must describe the same unit.
    explicit driven_machine(shape wanted, pt::vtd::fault_limits limits = {},
                            const bytes& other_table = {})
        : machine{wanted, other_table},
          vtd{{{}, emulator::shared_tables{frames}, {&seen}}, dmar(), bridges{config()}, limits},
          unit{got(unit_type::take({{}, emulator::shared_tables{frames}, {&seen}},
                                   {qemu_mmio{emulator, unit_registers}, &seen},
                                   *dmar().template each<pt::vtd::drhd>().begin(),
                                   {.mode = wanted.mode, .invalidation = wanted.invalidation}))} {
        got(vtd.add(unit));
        stamp(guest_a, page);
        stamp(guest_b, page);
        for (const hpa guest : {guest_a, guest_b}) {
            stamp(guest + large_size - page, page);
            stamp(guest + small_offset, small_size);
        }
    }
    /// QEMU ends with this: nobody needs to give anything back, but finish() may have.
    ~driven_machine() {
        seen.look = nullptr;
        vtd.leak();
        unit.leak();
    }

    watch seen;
    emulator::shared_frames frames{memory, tables_at, table_count, decoy_at};
    remapping vtd;
    unit_type unit;
    attachment nic_attachment{nic_function};
    attachment edu_a_attachment{edu_a_function};
    attachment edu_b_attachment{edu_b_function};

    /// The faults since it was last asked. QEMU may record one blocked access twice.
    std::vector<std::string> faults() {
        std::vector<std::string> all;
        for (unsigned i = 0; i < 1000; ++i) {
            const auto fault = unit.faults().take();
            if (!fault) {
                break;
            }
            const std::string said = text(*fault);
            if (all.empty() || all.back() != said) {
                all.push_back(said);
            }
        }
        unit.faults().take_overflow();
        return all;
    }
    /// The only one, or what is wrong with it.
    std::string fault() {
        const std::vector<std::string> all = faults();
        if (all.empty()) {
            return "none";
        }
        std::string said = all.front();
        for (std::size_t i = 1; i < all.size(); ++i) {
            said += "; " + all[i];
        }
        return said;
    }
    static std::string text(const pt::vtd::fault_record& fault) {
        using request = pt::vtd::fault_record::request;
        const char* const who = fault.source == edu_a_function   ? "edu_a"
                                : fault.source == edu_b_function ? "edu_b"
                                : fault.source == nic_function   ? "nic"
                                                                 : "another device";
        return blocked(who, fault.type == request::read, fault.page, fault.reason);
    }
    static std::string blocked(const char* who, bool read, iova at, pt::vtd::fault_reason why) {
        return std::string{who} + (read ? " reads " : " writes ") + hex(at.align_down(page).raw) +
               ": " + pt::vtd::name(why);
    }

    /// Everything is given back: the unit is off, and no frame is in use.
    void finish() {
        got(vtd.stop());
        got(vtd.retire());
        got(unit.retire());
        CHECK(frames.in_use() == 0);
    }
};

/// The memory of one guest for its devices, with attachments that do not outlive a failed test.
template <class Machine>
class guest {
public:
    using domain = pt::vtd::domain<typename Machine::remapping>;

    guest(Machine& machine, hpa memory, unsigned input_width = 48)
        : dma{machine.vtd, got(machine.vtd.limits(input_width))},
          machine_{&machine},
          memory_{memory} {}
    guest(const guest&) = delete;
    guest& operator=(const guest&) = delete;
    ~guest() {
        machine_->seen.look = nullptr; // what it would write to is gone
        dma.leak();
    }

    domain dma;

    /// Its memory: a page of 2 MiB, and small ones.
    void map_memory() {
        got(dma.map({iova{0}, large_size}, memory_, second_stage::read_write));
        got(dma.map({iova{small_at}, small_size}, memory_ + small_offset,
                    second_stage::read_write));
    }
    [[nodiscard]] hpa host_of(iova at) const {
        return at.raw < small_at ? memory_ + at.raw : memory_ + small_offset + (at.raw - small_at);
    }

    /// Where devices put what they read, in the large page.
    static constexpr iova window{0x8000};
    std::string reads(Machine& machine, edu_engine& device, iova at) {
        return machine.reads(device, at, window, host_of(window));
    }

private:
    Machine* machine_;
    hpa memory_;
};

/// The NIC's driver in a guest, whose descriptors lie in the guest's memory.
template <class Machine>
class nic_driver {
public:
    static constexpr iova ring{0x1'0000};
    static constexpr std::uint32_t ring_size = 64;

    nic_driver(Machine& machine, hpa ring_at)
        : machine_{&machine},
          ring_{qemu_mmio{machine.emulator, nic_registers},
                {&machine.memory, ring_at},
                {},
                ring,
                slots_.data(),
                ring_size} {
        got(ring_.start());
    }

    /// What is on the wire when the NIC sends these pieces as one frame. QEMU sends nothing of a
    /// frame when a piece runs over the seam of pages that lie apart.
    bytes send(const std::vector<pt::e1000e::fragment>& pieces) {
        got(ring_.send(pieces.data(), pieces.size(), 0));
        ring_.reclaim([](std::uint64_t) {});
        return machine_->captured();
    }
    void stop() {
        ring_.abandon([](std::uint64_t) {});
    }

private:
    struct ring_memory {
        emulator::shared_memory* memory;
        hpa base;
        std::uint64_t read64(std::uint32_t offset) { return memory->load(base + offset); }
        void write64(std::uint32_t offset, std::uint64_t value) {
            memory->store(base + offset, value);
        }
    };

    Machine* machine_;
    std::array<pt::e1000e::tx_slot, ring_size> slots_{};
    pt::e1000e::tx_ring<qemu_mmio, ring_memory, qemu_order> ring_;
};

} // namespace vtd_machine
