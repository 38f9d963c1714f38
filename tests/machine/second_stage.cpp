// SPDX-License-Identifier: BSL-1.0
//
// Second-stage tables that pt builds, walked by hardware that nobody here wrote: QEMU's VT-d, with
// 3 and with 4 levels, on behalf of two devices. e1000e reads descriptors and buffers, and what it
// puts on the wire is recorded by QEMU; edu copies by its own DMA engine. Each word of the memory
// that they may reach says where it lies, so that what a device reads is where the unit took it.
//
// Nothing but pt programs the unit. The tables' memory is the strictest there is: QEMU sees an
// entry when its publication is complete, and a table that was given back leads astray at once.
//
// Where QEMU 7.2 is not the hardware:
// - Its IOTLB keeps an entry until it is invalidated (or until 1024 are in it). So a stale
//   translation is certain here, where hardware may have forgotten it by itself.
// - It caches no table entries above the leaves, and never that nothing is mapped, not in caching
//   mode either: a map whose ticket is not redeemed works here, and need not on hardware.
// - What the cached rights forbid is blocked without a fault record.
// - A read that is blocked yields zeros; e1000e sends them.

#include "devices.hpp"

#include "../../examples/qemu/qemu.hpp"
#include "../../examples/qemu/qemu_policies.hpp"

#include "pt/e1000e/tx_ring.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/port_config_access.hpp"
#include "pt/vtd/domain_invalidator.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/second_stage_limits.hpp"
#include "pt/vtd/translation.hpp"
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
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

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
using pt::paging::page_size;
using second_stage::read_write;
using pages = pt::range<iova>;

namespace {

constexpr std::uint64_t KiB = pt::KiB;
constexpr std::uint64_t MiB = pt::MiB;
constexpr std::uint64_t GiB = pt::GiB;
constexpr std::uint64_t page = 4 * KiB;

constexpr second_stage::attributes read_only{.read = true};
constexpr second_stage::attributes write_only{.write = true};

std::string text(const char* form, auto... values) {
    char line[160];
    std::snprintf(line, sizeof line, form, values...);
    return line;
}

std::string hex(std::uint64_t value) {
    return text("%#llx", static_cast<unsigned long long>(value));
}
std::string text(pages input) { return hex(input.size()) + " bytes at " + hex(input.first().raw); }

/// The value of an operation that must succeed.
template <class T>
T got(pt::result<T>&& answer) {
    if (!answer) {
        throw std::runtime_error{std::string{"pt: "} + pt::name(answer.error().code) + " at " +
                                 hex(answer.error().where)};
    }
    if constexpr (!std::is_void_v<T>) {
        return *std::move(answer);
    }
}

// ------------------------------------------------------------------------------- the machine

/// How the unit is built, and how many levels its tables have. (QEMU 7.2 has no unit that walks 5.)
struct shape {
    unsigned aw_bits;
    unsigned levels;
    const char* caching_mode = "off";
};

std::string text(shape of) {
    return text("aw-bits=%u, %u levels, caching-mode=%s", of.aw_bits, of.levels, of.caching_mode);
}

constexpr pt::pci::function_address nic_function{0, 0, 5, 0};
constexpr pt::pci::function_address edu_function{0, 0, 6, 0};
constexpr hpa remapping_unit{0xFED9'0000}; // q35's only one
constexpr hpa nic_registers{0xC000'0000};
constexpr hpa edu_registers{0xC010'0000};
constexpr std::uint16_t domain_id = 5;

// RAM ends at 2 GiB and goes on from 4 to 6 GiB.
constexpr hpa tables_at{16 * MiB};
constexpr std::size_t table_count = 1024;
constexpr hpa decoy_at{0x1F00'0000};
constexpr hpa window_at{0x2000'0000};
constexpr hpa ring_at[2]{hpa{0x2001'0000}, hpa{0x2000'8000}}; // its two pages, not in order
constexpr std::uint32_t ring_size = 512;

/// Where the devices find what the test needs for itself, in a table of its own.
constexpr iova window_iova{0x7000};
constexpr iova ring_iova{0x8000};

/// With instruction counting and without sleep, virtual time jumps to the next timer, for no
/// instruction is ever executed; and without the PIT that is mostly the one of edu's engine, whose
/// 100 ms for a copy are over at once.
qemu::options options(shape of, const std::filesystem::path& capture) {
    std::string capture_option; // a comma inside a value is written twice
    for (const char character : capture.string()) {
        capture_option.append(character == ',' ? 2U : 1U, character);
    }
    return {.arguments = {"-machine",
                          "q35,pit=off",
                          "-accel",
                          "tcg",
                          "-icount",
                          "shift=0,sleep=off",
                          "-nodefaults",
                          "-no-user-config",
                          "-display",
                          "none",
                          "-m",
                          "4096",
                          "-device",
                          text("intel-iommu,intremap=off,aw-bits=%u,caching-mode=%s", of.aw_bits,
                               of.caching_mode),
                          "-netdev",
                          "hubport,id=n0,hubid=0",
                          "-device",
                          "e1000e,netdev=n0,id=nic,addr=5,mac=52:54:00:12:34:05",
                          "-object",
                          "filter-dump,id=f0,netdev=n0,file=" + capture_option,
                          "-device",
                          "edu,id=edu,addr=6,dma_mask=0xffffffffffffffff"},
            .name = "second-stage"};
}

/// Frames of the machine's memory for tables, with a copy of each in this process, which pt writes.
class table_frames {
public:
    explicit table_frames(qemu& machine)
        : machine_{&machine}, copies_(table_count * pt::entries_per_table), used_(table_count) {
        const std::vector<std::uint64_t> decoy(pt::entries_per_table, astray);
        machine.write(decoy_at.raw, std::as_bytes(std::span{decoy}));
    }

    pt::result<hpa> allocate(pt::frame_contents contents) {
        const auto free = std::find(used_.begin(), used_.end(), false);
        if (free == used_.end()) {
            return pt::error{errc::out_of_frames, table_count};
        }
        *free = true;
        const hpa frame = tables_at + static_cast<std::uint64_t>(free - used_.begin()) * page;
        const bool zero = contents == pt::frame_contents::zeroed;
        std::fill_n(entries(frame), pt::entries_per_table, zero ? 0 : astray);
        return frame;
    }
    /// Whoever still walks the table is led to the decoy. What was to be published of it, by a map
    /// that failed, nobody will see.
    void release(hpa frame) {
        std::erase_if(pending_, [own = entries(frame)](const auto& part) {
            return part.first >= own && part.first < own + pt::entries_per_table;
        });
        std::fill_n(entries(frame), pt::entries_per_table, astray);
        send(entries(frame), pt::entries_per_table);
        used_[index(frame)] = false;
    }
    std::uint64_t* entries(hpa frame) {
        return copies_.data() + index(frame) * pt::entries_per_table;
    }

    void publish(const std::uint64_t* first, std::size_t count) {
        pending_.emplace_back(first, count);
    }
    void complete() {
        for (const auto& [first, count] : pending_) {
            send(first, count);
        }
        pending_.clear();
    }

    [[nodiscard]] bool all_published() const { return pending_.empty(); }
    [[nodiscard]] auto in_use() const { return std::count(used_.begin(), used_.end(), true); }

private:
    /// A leaf at level 1, and at the levels above a table of such entries.
    static constexpr std::uint64_t astray = decoy_at.raw | 3;

    [[nodiscard]] std::size_t index(hpa frame) const {
        const std::size_t i = (frame - tables_at) / page;
        if (frame < tables_at || i >= table_count || !used_[i]) {
            throw std::logic_error{hex(frame.raw) + " is not a table"};
        }
        return i;
    }
    void send(const std::uint64_t* first, std::size_t count) {
        const auto entry = static_cast<std::size_t>(first - copies_.data());
        machine_->write((tables_at + entry * 8).raw, std::as_bytes(std::span{first, count}));
    }

    qemu* machine_;
    std::vector<std::uint64_t> copies_;
    std::vector<bool> used_;
    std::vector<std::pair<const std::uint64_t*, std::size_t>> pending_;
};

/// table_memory and publication: handles on the frames.
struct qemu_tables {
    table_frames* frames;
    pt::result<hpa> allocate(pt::frame_contents contents) { return frames->allocate(contents); }
    void release(hpa frame) { frames->release(frame); }
    std::uint64_t* entries(hpa frame) { return frames->entries(frame); }
};
struct qemu_publication {
    table_frames* frames;
    void publish(const std::uint64_t* first, std::size_t count) { frames->publish(first, count); }
    void complete() { frames->complete(); }
};

/// dma_memory: the NIC's ring.
struct ring_memory {
    qemu* machine;
    static std::uint64_t place(std::uint32_t offset) {
        return (ring_at[offset / page] + offset % page).raw;
    }
    std::uint64_t read64(std::uint32_t offset) { return machine->read64(place(offset)); }
    void write64(std::uint32_t offset, std::uint64_t value) {
        machine->write64(place(offset), value);
    }
};

/// What a word of memory holds, so that whoever reads it knows where it lies.
constexpr std::uint64_t word(hpa at) { return 0x5700'0000'0000'0000 | at.raw; }
/// What a device reads where it is blocked.
constexpr std::uint64_t nothing = 0;

/// A word that was read, for people.
std::string place(std::uint64_t read) {
    const hpa at{read & 0x00FF'FFFF'FFFF'FFFF};
    return read == word(at) ? "hpa " + hex(at.raw) : read == nothing ? "nothing" : hex(read);
}
std::string place(hpa at) { return place(word(at)); }

using bytes = std::vector<std::uint8_t>;

void append(bytes& to, std::uint64_t value) {
    for (unsigned shift = 0; shift < 64; shift += 8) {
        to.push_back(static_cast<std::uint8_t>(value >> shift));
    }
}

/// A fault record, for people: an access that the tables do not allow.
std::string blocked(const char* device, const char* does, iova at, const char* why) {
    return text("%s %s ", device, does) + hex(at.align_down(page).raw) + ": " + why;
}
std::string blocked_read(iova at) { return blocked("edu", "reads", at, "read not permitted"); }
std::string blocked_write(iova at) { return blocked("edu", "writes", at, "write not permitted"); }

using dma_table = pt::paging::table<second_stage::format, qemu_tables, qemu_publication>;
using ticket = dma_table::ticket;
using remapping =
    pt::vtd::unit<pt::vtd::policies<qemu_mmio, steady_clock, qemu_tables, qemu_publication>>;

/// What an operation owes. A test that fails meanwhile gives it up.
class owed {
public:
    explicit owed(pt::result<ticket>&& done) : ticket_{got(std::move(done))} {}
    owed(const owed&) = delete;
    owed& operator=(const owed&) = delete;
    ~owed() { ticket_.leak(); }

    ticket* operator->() { return &ticket_; }
    ticket&& take() { return std::move(ticket_); }

private:
    ticket ticket_;
};

/// The machine, with both devices in one domain.
class stand {
public:
    explicit stand(shape of)
        : machine_{options(of, scratch_.path() / "sent.pcap")},
          capture_{scratch_.path() / "sent.pcap", std::ios::binary},
          frames_{machine_},
          unit_{
              got(remapping::take({{}, {&frames_}, {&frames_}}, qemu_mmio{machine_, remapping_unit},
                                  {.register_base = remapping_unit, .register_set_size = 4 * KiB},
                                  {.invalidation = pt::vtd::invalidation_interface::registers}))},
          tables{{&frames_},
                 second_stage::format{got(second_stage::limits_of(
                     unit_.capabilities(), unit_.extended_capabilities(), of.levels, of.aw_bits))},
                 {&frames_}},
          edu_{machine_, edu_registers},
          ring_{qemu_mmio{machine_, nic_registers},
                {&machine_},
                {},
                ring_iova,
                slots_.data(),
                ring_size} {
        try {
            bring_up();
        } catch (...) {
            give_up();
            throw;
        }
    }
    stand(const stand&) = delete;
    stand& operator=(const stand&) = delete;
    ~stand() { give_up(); }

    [[nodiscard]] std::uint64_t reach() const {
        return std::uint64_t{1} << tables.format().input_width();
    }
    [[nodiscard]] auto tables_in_use() const { return frames_.in_use(); }
    remapping& unit() { return unit_; }
    pt::vtd::domain_invalidator<remapping> iotlb() {
        return pt::vtd::domain_invalidator{unit_, domain_id};
    }

    template <class Owed>
    void redeem_with_unit(Owed& owed) {
        CHECK(frames_.all_published()); // else the unit would cache what was there before
        auto hardware = iotlb();
        const pt::result<void> done = owed.redeem(hardware);
        REQUIRE(done);
    }
    void redeem(owed& what) { redeem_with_unit(*what.operator->()); }
    void redeem(pt::result<ticket>&& done) {
        owed what{std::move(done)};
        redeem(what);
    }

    // The processor's memory.

    /// Each word of `size` bytes says where it lies.
    void stamp(hpa first, std::uint64_t size) {
        std::vector<std::uint64_t> words(size / 8);
        for (std::size_t i = 0; i < words.size(); ++i) {
            words[i] = word(first + i * 8);
        }
        machine_.write(first.raw, std::as_bytes(std::span{words}));
    }
    std::uint64_t memory(hpa at) { return machine_.read64(at.raw); }
    bytes memory(hpa first, std::uint64_t size) {
        bytes content(size);
        machine_.read(first.raw, std::as_writable_bytes(std::span{content}));
        return content;
    }

    // edu.

    /// What the device reads at each of the addresses, at most 256 of them.
    std::vector<std::uint64_t> loads(std::span<const iova> at) {
        const std::uint64_t size = at.size() * 8;
        std::vector<std::uint64_t> words(at.size(), 0xBAD0'0000'0000'0BAD);
        machine_.write(window_at.raw, std::as_bytes(std::span{words}));
        edu_.load(window_iova, 0, size); // nothing of earlier copies is left
        for (std::size_t i = 0; i < at.size(); ++i) {
            edu_.load(at[i], 8 * i, 8);
        }
        edu_.store(0, window_iova, size);
        machine_.read(window_at.raw, std::as_writable_bytes(std::span{words}));
        return words;
    }
    std::string edu_reads(iova at) { return place(loads(std::span{&at, 1}).front()); }
    /// `count` bytes at once, less than 4 KiB: the last byte of the buffer is out of QEMU's bounds.
    bytes edu_copies(iova from, std::uint64_t count) {
        edu_.load(from, 0, count);
        edu_.store(0, window_iova, count);
        bytes copied(count);
        machine_.read(window_at.raw, std::as_writable_bytes(std::span{copied}));
        return copied;
    }
    void store(iova at, std::uint64_t value) {
        machine_.write64(window_at.raw, value);
        edu_.load(window_iova, 0, 8);
        edu_.store(0, at, 8);
    }
    void store(iova at, const bytes& values) {
        machine_.write(window_at.raw, std::as_bytes(std::span{values}));
        edu_.load(window_iova, 0, values.size());
        edu_.store(0, at, values.size());
    }

    // e1000e.

    /// What is on the wire when the NIC sends these pieces as one frame.
    bytes send(const std::vector<pt::e1000e::fragment>& pieces) {
        got(ring_.send(pieces.data(), pieces.size(), 0));
        REQUIRE(ring_.reclaim([](std::uint64_t) {}) == 1);
        // One record of the capture: time stamp, captured length, length, frame [pcap-savefile(5)].
        std::array<std::uint32_t, 4> header{};
        bytes frame;
        capture_.read(reinterpret_cast<char*>(header.data()), sizeof header);
        REQUIRE(capture_);
        frame.resize(header[2]);
        capture_.read(reinterpret_cast<char*>(frame.data()), header[2]);
        REQUIRE(capture_);
        return frame;
    }

    /// What the NIC reads at an address that is a multiple of 64.
    std::string nic_reads(iova at) {
        const bytes frame = send({{at, 64}});
        std::uint64_t first = 0;
        std::memcpy(&first, frame.data(), sizeof first);
        return place(first);
    }

    // Faults.

    /// The oldest fault since it was last asked, or "none"; those after it are forgotten, for QEMU
    /// may record one blocked access twice.
    std::string fault() {
        std::string oldest = "none";
        for (unsigned i = 0; i < 16; ++i) {
            const auto fault = unit_.faults().take();
            if (!fault) {
                break;
            }
            if (i == 0) {
                using request = pt::vtd::fault_record::request;
                oldest = blocked(fault->source == edu_function   ? "edu"
                                 : fault->source == nic_function ? "nic"
                                                                 : "another device",
                                 fault->type == request::read    ? "reads"
                                 : fault->type == request::write ? "writes"
                                                                 : "does something else at",
                                 fault->page, pt::vtd::name(fault->reason));
            }
        }
        unit_.faults().take_overflow();
        return oldest;
    }

    void detach_edu() { got(unit_.detach(edu_function)); }
    void detach_nic() {
        got(ring_.stop());
        got(unit_.detach(nic_function));
    }

private:
    void bring_up() {
        scratch_.remove();   // whatever ends this program, it leaves nothing behind
        capture_.ignore(24); // the file's header
        place_registers(nic_function, nic_registers);
        place_registers(edu_function, edu_registers);
        redeem(tables.map({window_iova, page}, window_at, read_write));
        redeem(tables.map_pages({ring_iova, 2 * page}, ring_at, read_write));
        const auto through =
            pt::vtd::translation::second_stage(got(tables.root()), tables.format(), domain_id);
        got(unit_.attach(nic_function, through));
        got(unit_.attach(edu_function, through));
        got(unit_.start());
        got(ring_.start());
    }
    /// QEMU and its memory end with this.
    void give_up() {
        tables.retire().leak();
        unit_.leak();
    }

    void place_registers(pt::pci::function_address function, hpa at) {
        using pt::pci::command;
        pt::pci::port_config_access config{emulator::qemu_ports{machine_},
                                           pt::pci::config_latch::ours};
        const pt::pci::bar sized = got(pt::pci::size_bar(config, function, 0));
        got(pt::pci::write_bar(config, function, sized, at.raw));
        pt::pci::write(config, function,
                       pt::pci::read<command>(config, function)
                           .with(command::memory_space(true), command::bus_master(true)));
    }

    scratch_directory scratch_;
    qemu machine_;
    std::ifstream capture_;
    table_frames frames_;
    remapping unit_;

public:
    dma_table tables;

private:
    edu_engine edu_;
    std::array<pt::e1000e::tx_slot, ring_size> slots_{};
    pt::e1000e::tx_ring<qemu_mmio, ring_memory, qemu_order> ring_;
};

struct dice {
    std::mt19937 engine;
    std::uint32_t below(std::uint32_t sides) {
        return static_cast<std::uint32_t>(engine() % sides);
    }
};

/// Memory that both devices are to reach at `at`.
struct piece {
    iova at;
    hpa to;
    std::uint64_t size;
};

bool covered(const std::vector<piece>& pieces, iova at) {
    return std::any_of(pieces.begin(), pieces.end(), [at](const piece& each) {
        return at >= each.at && at - each.at < each.size;
    });
}

bytes stamped(hpa first, std::uint64_t size) {
    bytes content;
    for (std::uint64_t offset = 0; offset < size; offset += 8) {
        append(content, word(first + offset));
    }
    return content;
}

/// Maps all kinds of things; what the devices are then to find.
std::vector<piece> map_everything(stand& machine) {
    dma_table& tables = machine.tables;
    const iova end{machine.reach()};
    std::vector<piece> pieces;
    const auto redeem = [&machine](pt::result<ticket>&& done) {
        owed what{std::move(done)};
        CHECK(what->empty()); // nobody has cached that there was nothing
        machine.redeem(what);
    };
    const auto map = [&](iova at, hpa to, std::uint64_t size, page_size largest) {
        INFO("iova " << hex(at.raw));
        redeem(tables.map({at, size}, to, read_write, largest));
        pieces.push_back({at, to, size});
    };
    using enum page_size;

    map(iova{0x3A'1234'5000}, hpa{0x3000'3000}, page, size_1g);
    map(iova{0x21'4000'0000}, hpa{0x1'2340'0000}, 2 * MiB, size_2m);
    map(iova{0x24'C000'0000}, hpa{0x1'4000'0000}, 1 * GiB, size_1g);
    map(iova{0x25'8000'0000}, hpa{0x1'2380'0000}, 2 * MiB, size_4k);
    // A page of 2 MiB between two of 4 KiB.
    map(iova{0x22'001F'F000}, hpa{0x1'201F'F000}, 2 * MiB + 2 * page, size_1g);
    // Both sides of the seam of two tables at level 1, 2, 3, and of the middle.
    map(iova{0x21'4060'0000 - 2 * page}, hpa{0x3001'0000}, 4 * page, size_1g);
    map(iova{0x28'0000'0000 - 2 * page}, hpa{0x3002'1000}, 4 * page, size_1g);
    if (tables.format().levels() > 3) {
        map(iova{0x80'0000'0000 - 2 * page}, hpa{0x3003'0000}, 4 * page, size_1g);
    }
    map(iova{end.raw / 2 - 2 * MiB}, hpa{0x1'2500'0000}, 4 * MiB, size_1g);
    // The end of the address space, in a large page, and in small ones.
    map(end - 4 * MiB, hpa{0x1'3000'0000}, 2 * MiB, size_1g);
    map(end - 2 * MiB, hpa{0x1'3030'1000}, 2 * MiB, size_1g);

    const auto scattered = [&](iova at, const std::vector<hpa>& to, page_size size) {
        redeem(tables.map_pages({at, to.size() * pt::paging::bytes(size)}, to, read_write, size));
        for (std::size_t i = 0; i < to.size(); ++i) {
            pieces.push_back({at + i * pt::paging::bytes(size), to[i], pt::paging::bytes(size)});
        }
    };
    std::vector<hpa> frames;
    for (std::uint64_t i = 16; i-- > 0;) {
        frames.push_back(hpa{0x3010'0000 + i * 3 * page});
    }
    scattered(iova{0x33'3333'3000}, frames, size_4k);
    scattered(iova{0x34'0000'0000}, {hpa{0x1'1080'0000}, hpa{0x1'1000'0000}, hpa{0x1'1040'0000}},
              size_2m);

    auto cursor = tables.cursor();
    for (std::uint64_t i = 0; i < 4; ++i) { // the last two in another table
        const piece next{iova{0x35'001F'E000 + i * page}, hpa{0x3020'0000 + (i ^ 3) * page}, page};
        redeem(cursor.map(next.at, next.to, read_write));
        pieces.push_back(next);
    }
    return pieces;
}

} // namespace

TEST_CASE("devices reach what the tables say, and nothing beside it", "[vt-d][paging]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4}, shape{48, 3});
    INFO(text(of));
    stand machine{of};
    const std::vector<piece> pieces = map_everything(machine);

    struct point {
        iova at;
        hpa to;
    };
    std::vector<point> points;
    for (const piece& each : pieces) {
        for (const std::uint64_t offset : {std::uint64_t{0}, each.size / 2, each.size - 16}) {
            points.push_back({each.at + offset, each.to + offset});
            machine.stamp(points.back().to, 16);
        }
    }
    REQUIRE(points.size() < 128); // loads() takes 256 addresses
    CHECK(machine.tables.translate(iova{0x21'4000'0000})->size == page_size::size_2m);
    CHECK(machine.tables.translate(iova{0x24'C000'0000})->size == page_size::size_1g);
    CHECK(machine.tables.translate(iova{0x25'8000'0000})->size == page_size::size_4k);

    SECTION("edu reads") {
        std::vector<iova> at;
        for (const point& each : points) {
            at.push_back(each.at);
            at.push_back(each.at + 8);
        }
        const std::vector<std::uint64_t> read = machine.loads(at);
        for (std::size_t i = 0; i < at.size(); ++i) {
            INFO("iova " << hex(at[i].raw));
            CHECK(place(read[i]) == place(points[i / 2].to + i % 2 * 8));
        }
        CHECK(machine.fault() == "none");
    }
    SECTION("edu writes") {
        for (const point& each : points) {
            INFO("iova " << hex(each.at.raw));
            machine.store(each.at + 8, 0x1234'5678'9ABC'DEF0);
            CHECK(machine.memory(each.to + 8) == 0x1234'5678'9ABC'DEF0);
            CHECK(place(machine.memory(each.to)) == place(each.to));
            machine.stamp(each.to + 8, 8);
        }
        CHECK(machine.fault() == "none");
    }
    SECTION("edu's copies run over the seam of pages that lie apart") {
        const iova at{0x33'3333'3800};
        const hpa first{0x3010'0000 + 15 * 3 * page};
        const hpa second{0x3010'0000 + 14 * 3 * page};
        machine.stamp(first, page);
        machine.stamp(second, page);
        bytes expected = stamped(first + 0x800, 0x800);
        const bytes rest = stamped(second, 0x700);
        expected.insert(expected.end(), rest.begin(), rest.end());
        CHECK(machine.edu_copies(at, 0xF00) == expected);

        const bytes written = stamped(hpa{0x4711'0000}, 0xF00);
        machine.store(at, written);
        CHECK(machine.memory(first + 0x800, 0x800) ==
              bytes(written.begin(), written.begin() + 0x800));
        CHECK(machine.memory(second, 0x700) == bytes(written.begin() + 0x800, written.end()));
        CHECK(machine.memory(first, 0x800) == stamped(first, 0x800));
        CHECK(machine.memory(second + 0x700, 0x900) == stamped(second + 0x700, 0x900));
    }
    SECTION("e1000e sends what lies there, by descriptors in both pages of its ring") {
        dice random{std::mt19937{4}};
        for (unsigned frame = 0; frame < 30; ++frame) { // 1200 descriptors
            std::vector<pt::e1000e::fragment> pieces_of_frame;
            bytes expected;
            for (unsigned i = 0; i < 40; ++i) {
                const point& each = points[random.below(static_cast<std::uint32_t>(points.size()))];
                const bytes content = stamped(each.to, 16);
                // The first piece is whole: QEMU drops what claims to be IP in bytes 12 and 13.
                const std::uint32_t skipped = i == 0 ? 0 : random.below(9);
                const std::uint32_t length = i == 0 ? 16 : 8 + random.below(9 - skipped);
                pieces_of_frame.push_back({each.at + skipped, length});
                expected.insert(expected.end(), content.begin() + skipped,
                                content.begin() + skipped + length);
            }
            CHECK(machine.send(pieces_of_frame) == expected);
        }
        CHECK(machine.fault() == "none");
    }
    SECTION("beside it there is nothing") {
        const auto refused = [&](iova at) {
            const bool beyond = at.raw >= machine.reach();
            CHECK(machine.edu_reads(at) == "nothing");
            CHECK(machine.fault() ==
                  blocked("edu", "reads", at,
                          beyond ? "address beyond the width" : "read not permitted"));
            machine.store(at, 0x1234);
            CHECK(machine.fault() ==
                  blocked("edu", "writes", at,
                          beyond ? "address beyond the width" : "write not permitted"));
        };
        for (const piece& each : pieces) {
            for (const iova at : {each.at - 8, each.at + each.size}) {
                if (!covered(pieces, at)) {
                    refused(at);
                }
            }
        }
        refused(iova{window_at.raw}); // a host-physical address is no iova
        refused(iova{0});
        for (const point& each : points) {
            CHECK(place(machine.memory(each.to)) == place(each.to));
        }
    }
}

TEST_CASE("what the rights forbid is blocked, recorded, and leaves no trace", "[vt-d][paging]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    const piece small{iova{0x11'2233'4000}, hpa{0x3000'5000}, page};
    const piece large{iova{0x12'0020'0000}, hpa{0x1'0040'0000}, 2 * MiB};
    for (const piece& each : {small, large}) {
        const iova at = each.at + each.size - page;
        const hpa to = each.to + each.size - page;
        INFO("iova " << hex(at.raw));
        machine.stamp(to, page);

        machine.redeem(machine.tables.map({each.at, each.size}, each.to, read_only));
        machine.store(at, 1);
        CHECK(machine.fault() == blocked_write(at));
        CHECK(machine.edu_reads(at) == place(to));
        machine.store(at, 2); // by what is cached of the page
        CHECK(machine.fault() == "none");
        CHECK(machine.nic_reads(at) == place(to));
        CHECK(place(machine.memory(to)) == place(to));
        CHECK(machine.fault() == "none");
        machine.redeem(machine.tables.unmap({each.at, each.size}));

        machine.redeem(machine.tables.map({each.at, each.size}, each.to, write_only));
        CHECK(machine.edu_reads(at) == "nothing");
        CHECK(machine.fault() == blocked_read(at));
        CHECK(machine.nic_reads(at) == "nothing");
        CHECK(machine.fault() == blocked("nic", "reads", at, "read not permitted"));
        machine.store(at, 3);
        CHECK(machine.memory(to) == 3);
        CHECK(machine.fault() == "none");
        CHECK(machine.edu_reads(at) == "nothing"); // by what is cached of the page
        machine.stamp(to, page);
        machine.redeem(machine.tables.unmap({each.at, each.size}));

        CHECK(machine.edu_reads(at) == "nothing");
        CHECK(machine.fault() == blocked_read(at));
        machine.store(at, 4);
        CHECK(machine.fault() == blocked_write(at));
        CHECK(machine.nic_reads(at) == "nothing");
        CHECK(machine.fault() == blocked("nic", "reads", at, "read not permitted"));
        CHECK(machine.memory(to, page) == stamped(to, page));
    }
}

// What the unit has cached is used until the ticket is redeemed. Each test below reads an address,
// changes the tables, reads again, redeems, reads again.

namespace {

/// Both devices.
void check_reads(stand& machine, iova at, hpa from) {
    INFO("iova " << hex(at.raw));
    CHECK(machine.edu_reads(at) == place(from));
    CHECK(machine.nic_reads(at) == place(from));
}
void check_blocked(stand& machine, iova at) {
    INFO("iova " << hex(at.raw));
    CHECK(machine.edu_reads(at) == "nothing");
    CHECK(machine.fault() == blocked_read(at));
    CHECK(machine.nic_reads(at) == "nothing");
    CHECK(machine.fault() == blocked("nic", "reads", at, "read not permitted"));
}

/// Two places of 2 MiB, and the words of them that are read.
constexpr hpa old_place{0x1'0000'0000};
constexpr hpa new_place{0x1'0060'0000};
constexpr std::uint64_t read_offsets[]{0, page, 0x5000, 0x1F'F000};

void stamp_places(stand& machine) {
    for (const std::uint64_t offset : read_offsets) {
        machine.stamp(old_place + offset, 64);
        machine.stamp(new_place + offset, 64);
    }
}

} // namespace

TEST_CASE("a page that is remapped leads to its old frame until the ticket is redeemed",
          "[vt-d][paging][rule 18]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const iova at{0x23'4567'8000};
    machine.redeem(machine.tables.map({at, page}, old_place, read_write));
    check_reads(machine, at, old_place);

    owed change{machine.tables.remap({at, page}, new_place, read_write)};
    CHECK(text(change->stale()) == text(pages{at, page}));
    check_reads(machine, at, old_place);
    machine.redeem(change);
    check_reads(machine, at, new_place);

    // By unmap and map it is the same, and two tickets cost one invalidation.
    machine.redeem(machine.tables.map({at + page, page}, old_place, read_write));
    check_reads(machine, at + page, old_place);
    auto batch = machine.tables.batch();
    REQUIRE(batch.add(owed{machine.tables.unmap({at, page})}.take()));
    REQUIRE(batch.add(owed{machine.tables.map({at, page}, old_place + page, read_write)}.take()));
    check_reads(machine, at, new_place);
    machine.redeem_with_unit(batch);
    check_reads(machine, at, old_place + page);
    CHECK(machine.fault() == "none");
    machine.redeem(machine.tables.unmap({at, page}));
    check_blocked(machine, at);
    check_reads(machine, at + page, old_place);
}

TEST_CASE("a page of 2 MiB is cached and remapped as one", "[vt-d][paging][rule 18]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const iova at{0x23'4560'0000};
    machine.redeem(machine.tables.map({at, 2 * MiB}, old_place, read_write));
    check_reads(machine, at, old_place); // here only

    owed change{machine.tables.remap({at, 2 * MiB}, new_place, read_write)};
    CHECK(text(change->stale()) == text(pages{at, 2 * MiB}));
    for (const std::uint64_t offset : read_offsets) {
        check_reads(machine, at + offset, old_place + offset);
    }
    machine.redeem(change);
    for (const std::uint64_t offset : read_offsets) {
        check_reads(machine, at + offset, new_place + offset);
    }
    CHECK(machine.fault() == "none");
}

TEST_CASE("a small page in a large one changes when the split is redeemed",
          "[vt-d][paging][rule 9]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const iova at{0x23'4560'0000};
    const pages one{at + page, page};
    const auto all_but_one_are_old = [&] {
        for (const std::uint64_t offset : read_offsets) {
            if (offset != page) {
                check_reads(machine, at + offset, old_place + offset);
            }
        }
    };
    machine.redeem(machine.tables.map({at, 2 * MiB}, old_place, read_write));
    check_reads(machine, at + page, old_place + page);

    SECTION("split and remap are two tickets") {
        auto batch = machine.tables.batch();
        REQUIRE(batch.add(owed{machine.tables.split(one)}.take()));
        check_reads(machine, at + page, old_place + page);
        REQUIRE(batch.add(owed{machine.tables.remap(one, new_place, read_write)}.take()));
        check_reads(machine, at + page, old_place + page);
        all_but_one_are_old();
        machine.redeem_with_unit(batch);
        check_reads(machine, at + page, new_place);
    }
    SECTION("a remap cuts the page itself") {
        owed change{machine.tables.remap(one, new_place, read_write)};
        CHECK(text(change->stale()) == text(pages{at, 2 * MiB}));
        check_reads(machine, at + page, old_place + page);
        machine.redeem(change);
        check_reads(machine, at + page, new_place);
    }
    SECTION("so does an unmap") {
        owed change{machine.tables.unmap(one)};
        CHECK(text(change->stale()) == text(pages{at, 2 * MiB}));
        check_reads(machine, at + page, old_place + page);
        machine.redeem(change);
        check_blocked(machine, at + page);
    }
    SECTION("so does a protect") {
        owed change{machine.tables.protect(one, write_only)};
        CHECK(text(change->stale()) == text(pages{at, 2 * MiB}));
        check_reads(machine, at + page, old_place + page);
        machine.redeem(change);
        check_blocked(machine, at + page);
    }
    all_but_one_are_old();
    CHECK(machine.fault() == "none");
}

TEST_CASE("pages that were joined stay cached as small ones until the ticket is redeemed",
          "[vt-d][paging][rule 18]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const pages all{iova{0x23'4560'0000}, 2 * MiB};
    const iova at = all.first();
    machine.redeem(machine.tables.map(all, old_place, read_write, page_size::size_4k));
    check_reads(machine, at + page, old_place + page);
    const auto before = machine.tables_in_use();

    auto batch = machine.tables.batch();
    owed join{machine.tables.join(all)};
    CHECK(text(join->stale()) == text(all));
    CHECK(machine.tables_in_use() == before);
    REQUIRE(batch.add(join.take()));
    for (const std::uint64_t offset : read_offsets) {
        check_reads(machine, at + offset, old_place + offset);
    }
    // It is one page now: another place shows which translations are still cached.
    REQUIRE(batch.add(owed{machine.tables.remap(all, new_place, read_write)}.take()));
    CHECK(machine.tables.translate(at)->size == page_size::size_2m);
    check_reads(machine, at + page, old_place + page);
    machine.redeem_with_unit(batch);
    CHECK(machine.tables_in_use() == before - 1);
    for (const std::uint64_t offset : read_offsets) {
        check_reads(machine, at + offset, new_place + offset);
    }
    CHECK(machine.fault() == "none");
}

TEST_CASE("pages that are not the pieces of one stay apart", "[vt-d][paging]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const pages all{iova{0x23'4560'0000}, 2 * MiB};
    const iova odd = all.first() + page;
    machine.redeem(machine.tables.map(all, old_place, read_write, page_size::size_4k));
    SECTION("one lies elsewhere") {
        machine.redeem(machine.tables.remap({odd, page}, new_place, read_write));
        machine.redeem(machine.tables.join(all));
        check_reads(machine, odd, new_place);
    }
    SECTION("one has other rights") {
        machine.redeem(machine.tables.protect({odd, page}, write_only));
        machine.redeem(machine.tables.join(all));
        check_blocked(machine, odd);
    }
    SECTION("one is missing") {
        machine.redeem(machine.tables.unmap({odd, page}));
        machine.redeem(machine.tables.join(all));
        check_blocked(machine, odd);
    }
    check_reads(machine, all.first(), old_place);
    check_reads(machine, all.first() + 0x5000, old_place + 0x5000);
    CHECK(machine.fault() == "none");
}

TEST_CASE("rights that were taken away are used until the ticket is redeemed",
          "[vt-d][paging][rule 18]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    for (const std::uint64_t size : {page, 2 * MiB}) {
        const pages all{iova{0x23'4560'0000 + size * 512}, size};
        const iova at = all.first();
        const hpa to = old_place;
        machine.redeem(machine.tables.map(all, to, read_write));
        CHECK(machine.edu_reads(at) == place(to));

        owed no_write{machine.tables.protect(all, read_only)};
        CHECK(text(no_write->stale()) == text(all));
        machine.store(at, 0x1111);
        CHECK(machine.memory(to) == 0x1111);
        machine.redeem(no_write);
        machine.store(at, 0x2222);
        CHECK(machine.memory(to) == 0x1111);
        CHECK(machine.fault() == blocked_write(at));
        machine.stamp(to, 8);
        check_reads(machine, at, to);

        owed no_read{machine.tables.protect(all, write_only)};
        check_reads(machine, at, to);
        machine.redeem(no_read);
        check_blocked(machine, at);

        // Rights that are given are not there before either.
        machine.store(at, 0x3333);
        CHECK(machine.memory(to) == 0x3333);
        machine.stamp(to, 8);
        owed both{machine.tables.protect(all, read_write)};
        CHECK(machine.edu_reads(at) == "nothing");
        machine.redeem(both);
        check_reads(machine, at, to);
        CHECK(machine.fault() == "none");
        machine.redeem(machine.tables.unmap(all));
    }
}

TEST_CASE("what was unmapped is reached until the ticket is redeemed, and its tables stay",
          "[vt-d][paging][rule 18]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const auto before = machine.tables_in_use();
    const iova at{0x23'4560'0000};
    machine.redeem(machine.tables.map({at - page, page}, new_place, read_write));
    machine.redeem(machine.tables.map({at, 2 * MiB}, old_place, read_write, page_size::size_4k));
    machine.redeem(machine.tables.map({at + 2 * MiB, 2 * MiB}, new_place, read_write));
    check_reads(machine, at - page, new_place);
    check_reads(machine, at + page, old_place + page);
    check_reads(machine, at + 2 * MiB, new_place);
    // One table for the page below, one for the small pages, and those above them.
    const auto mapped = machine.tables_in_use();
    CHECK(mapped - before == 3);

    owed small{machine.tables.unmap({at, 2 * MiB})};
    CHECK(text(small->stale()) == text(pages{at, 2 * MiB}));
    CHECK(machine.tables_in_use() == mapped);
    check_reads(machine, at + page, old_place + page);
    machine.redeem(small);
    CHECK(machine.tables_in_use() == mapped - 1);
    check_blocked(machine, at + page);
    check_reads(machine, at - page, new_place);
    check_reads(machine, at + 2 * MiB, new_place);

    owed rest{machine.tables.unmap({at - 2 * MiB, 6 * MiB})};
    CHECK(rest->stale().contains({at - page, 4 * MiB + page}));
    CHECK(machine.tables_in_use() == mapped - 1);
    check_reads(machine, at - page, new_place);
    check_reads(machine, at + 2 * MiB, new_place);
    machine.redeem(rest);
    CHECK(machine.tables_in_use() == before);
    check_blocked(machine, at - page);
    check_blocked(machine, at + 2 * MiB);
}

TEST_CASE("a ticket makes the unit forget what it names and nothing else",
          "[vt-d][paging][rule 18]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    constexpr std::size_t count = 16;
    const iova at{0x23'4560'0000};
    machine.stamp(old_place, count * page);
    machine.stamp(new_place, count * page);
    machine.redeem(machine.tables.map({at, count * page}, old_place, read_write));
    std::vector<iova> each;
    std::vector<std::unique_ptr<owed>> tickets;
    for (std::size_t i = 0; i < count; ++i) {
        each.push_back(at + i * page);
    }
    CHECK(place(machine.loads(each).back()) == place(old_place + (count - 1) * page));
    for (std::size_t i = 0; i < count; ++i) {
        tickets.push_back(std::make_unique<owed>(
            machine.tables.remap({each[i], page}, new_place + i * page, read_write)));
    }
    /// One character a page: which of the two frames it leads to.
    const auto places = [&] {
        const std::vector<std::uint64_t> read = machine.loads(each);
        std::string line;
        for (std::size_t i = 0; i < count; ++i) {
            line += read[i] == word(old_place + i * page)   ? 'o'
                    : read[i] == word(new_place + i * page) ? 'N'
                                                            : '?';
        }
        return line;
    };
    const auto redeem = [&](std::initializer_list<std::size_t> chosen) {
        auto batch = machine.tables.batch();
        for (const std::size_t i : chosen) {
            REQUIRE(batch.add(tickets[i]->take()));
        }
        machine.redeem_with_unit(batch);
    };
    CHECK(places() == "oooooooooooooooo");
    redeem({3});
    CHECK(places() == "oooNoooooooooooo");
    redeem({5, 0, 4}); // 4 and 5 are an aligned pair
    CHECK(places() == "NooNNNoooooooooo");
    redeem({15, 8, 9, 11, 10}); // an aligned block of four, and the last
    CHECK(places() == "NooNNNooNNNNoooN");
    // What is not an aligned power of two is covered by the next that is: 0 to 3.
    redeem({1, 2});
    CHECK(places() == "NNNNNNooNNNNoooN");
    redeem({7, 12, 6, 14, 13});
    CHECK(places() == "NNNNNNNNNNNNNNNN");
}

TEST_CASE("tables that are given up stay until everything was invalidated", "[vt-d][paging]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    const iova at{0x23'4567'8000};
    machine.redeem(machine.tables.map({at, page}, old_place, read_write));
    check_reads(machine, at, old_place);
    machine.detach_edu();
    CHECK(machine.edu_reads(at) != place(old_place));
    CHECK(machine.fault() == blocked("edu", "reads", window_iova, "context entry not present"));
    CHECK(machine.nic_reads(at) == place(old_place));
    machine.detach_nic();

    const auto before = machine.tables_in_use();
    owed all{machine.tables.retire()};
    CHECK(all->everything());
    CHECK(machine.tables_in_use() == before);
    machine.redeem(all);
    CHECK(machine.tables_in_use() == 2); // the root table and one context table
}

// -------------------------------------------------------------------------------- caching mode

namespace {

/// The unit's invalidator, and what it was told.
struct heard {
    pt::vtd::domain_invalidator<remapping> hardware;
    std::vector<pages> told{};

    pt::result<void> invalidate(const pt::paging::stale_set<iova>& stale) {
        told.insert(told.end(), stale.begin(), stale.end());
        return hardware.invalidate(stale);
    }
};

} // namespace

// QEMU does not cache that nothing is mapped, so that this shows no more than that the tickets ask
// for what the manual demands, and that it does no harm.
TEST_CASE("in caching mode a new mapping has to be redeemed", "[vt-d][paging][rule 15]") {
    const shape of = GENERATE(shape{39, 3, "on"}, shape{48, 4, "on"});
    INFO(text(of));
    stand machine{of};
    stamp_places(machine);
    REQUIRE(machine.unit().capabilities()[pt::vtd::capability::caching_mode]);
    const iova at{0x23'4560'0000};
    check_blocked(machine, at);

    const auto redeemed = [&](pt::result<ticket>&& done) {
        owed what{std::move(done)};
        CHECK_FALSE(what->empty());
        CHECK(what->tables_changed());
        heard hardware{machine.iotlb()};
        REQUIRE(what->redeem(hardware));
        REQUIRE(hardware.told.size() == 1);
        return text(hardware.told.front());
    };
    CHECK(redeemed(machine.tables.map({at, page}, old_place, read_write)) == text(pages{at, page}));
    check_reads(machine, at, old_place);
    CHECK(redeemed(machine.tables.map({at + 2 * MiB, 2 * MiB}, new_place, read_write)) ==
          text(pages{at + 2 * MiB, 2 * MiB}));
    check_reads(machine, at + 2 * MiB + page, new_place + page);
    const hpa apart[]{new_place, old_place};
    CHECK(redeemed(machine.tables.map_pages({at + page, 2 * page}, apart, read_write)) ==
          text(pages{at + page, 2 * page}));
    check_reads(machine, at + 2 * page, old_place);
    {
        auto cursor = machine.tables.cursor();
        CHECK(redeemed(cursor.map(at + 3 * page, new_place, read_write)) ==
              text(pages{at + 3 * page, page}));
    }
    check_reads(machine, at + 3 * page, new_place);
    CHECK(redeemed(machine.tables.remap({at + page, 4 * page}, new_place, read_write)) ==
          text(pages{at + page, 4 * page}));
    check_reads(machine, at + 2 * page, new_place + page);
    CHECK(machine.fault() == "none");
}

// -------------------------------------------------------------------------- random operations

namespace {

/// 8 MiB of addresses around the seam in the middle of the address space, and as much memory; a map
/// of pages says what leads where.
class random_session {
public:
    random_session(stand& machine, unsigned seed)
        : machine_{machine}, first_{machine.reach() / 2 - size / 2}, random_{std::mt19937{seed}} {
        machine_.stamp(memory_at, size);
        tables_before_ = machine_.tables_in_use();
    }
    random_session(const random_session&) = delete;
    random_session& operator=(const random_session&) = delete;
    ~random_session() { batch_.leak(); }

    /// One operation; what it owes is redeemed now or later. Until then each address leads to where
    /// it led at some time since the last invalidation, and afterwards to where the map says.
    void step() {
        const pages input = some_pages();
        operate(input);
        check_loads(input);
        if (random_.below(3) != 0) {
            redeem();
            check_loads(input);
            check_store(input);
            check_frame();
        }
    }

    /// Page by page, so that each table has to be found empty.
    void finish() {
        while (!map_.empty()) {
            const iova at = page_at(map_.begin()->first);
            add(machine_.tables.unmap({at, page}));
            set(at, {});
        }
        redeem();
        CHECK(machine_.tables_in_use() == tables_before_);
        // Nobody wrote anywhere else.
        CHECK(machine_.memory(memory_at, size) == stamped(memory_at, size));
    }

private:
    struct leaf {
        hpa frame;
        second_stage::attributes attributes;
    };
    using maybe_leaf = std::optional<leaf>;

    static constexpr std::uint64_t size = 8 * MiB;
    static constexpr std::uint32_t page_count = size / page;
    static constexpr std::uint32_t large = 2 * MiB / page; ///< pages in a large one
    static constexpr hpa memory_at{0x1'0000'0000};

    iova page_at(std::uint32_t i) const { return first_ + i * page; }
    std::uint32_t index(iova at) const { return static_cast<std::uint32_t>((at - first_) / page); }

    /// Mostly few pages, and some that are as large as can be.
    pages some_pages() {
        std::uint32_t from = random_.below(page_count);
        std::uint32_t count = random_.below(2) == 0 ? 1 : 2 + random_.below(15);
        switch (random_.below(4)) {
        case 0: count = 1 + random_.below(1024); break;
        case 1:
            from = from / large * large;
            count = large * (1 + random_.below(2));
            break;
        default: break;
        }
        return {page_at(from), std::min(count, page_count - from) * page};
    }
    /// As many pages of memory, and half of the time such that large pages are possible.
    hpa some_memory(pages input) {
        const auto count = static_cast<std::uint32_t>(input.size() / page);
        std::uint32_t from = random_.below(page_count - count + 1);
        if (random_.below(2) == 0) {
            const std::uint32_t in_large = index(input.first()) % large;
            from = from / large * large + in_large;
            from -= from + count > page_count && from >= large ? large : 0;
        }
        return memory_at + std::min(from, page_count - count) * page;
    }
    second_stage::attributes some_attributes() {
        constexpr second_stage::attributes all[]{read_write, read_write, read_only, write_only};
        return all[random_.below(4)];
    }

    maybe_leaf now(iova at) const {
        const auto found = map_.find(index(at));
        return found == map_.end() ? maybe_leaf{} : maybe_leaf{found->second};
    }
    void set(iova at, maybe_leaf to) {
        past_[index(at)].push_back(now(at));
        if (to) {
            map_.insert_or_assign(index(at), *to);
        } else {
            map_.erase(index(at));
        }
    }
    template <class F>
    static void for_pages(pages input, F f) {
        for (std::uint64_t i = 0; i < input.size() / page; ++i) {
            f(input.first() + i * page, i);
        }
    }

    void operate(pages input) {
        dma_table& tables = machine_.tables;
        const hpa to = some_memory(input);
        const second_stage::attributes attributes = some_attributes();
        const page_size largest = random_.below(3) == 0 ? page_size::size_4k : page_size::size_1g;
        switch (random_.below(12)) {
        case 0:
        case 1:
        case 2:
            if (fresh(input, tables.map(input, to, attributes, largest))) {
                for_pages(input, [&](iova at, std::uint64_t i) {
                    set(at, leaf{to + i * page, attributes});
                });
            }
            break;
        case 3: {
            std::vector<hpa> frames;
            for_pages(input, [&](iova, std::uint64_t) {
                frames.push_back(memory_at + random_.below(page_count) * page);
            });
            if (fresh(input, tables.map_pages(input, frames, attributes))) {
                for_pages(input, [&](iova at, std::uint64_t i) {
                    set(at, leaf{frames[i], attributes});
                });
            }
            break;
        }
        case 4:
            add(tables.remap(input, to, attributes, largest));
            for_pages(input, [&](iova at, std::uint64_t i) {
                set(at, leaf{to + i * page, attributes});
            });
            break;
        case 5:
        case 6:
        case 7:
        case 8:
            add(tables.unmap(input));
            for_pages(input, [&](iova at, std::uint64_t) { set(at, {}); });
            break;
        case 9:
            add(tables.protect(input, attributes));
            for_pages(input, [&](iova at, std::uint64_t) {
                if (const maybe_leaf old = now(at)) {
                    set(at, leaf{old->frame, attributes});
                }
            });
            break;
        case 10: add(tables.split(input)); break;
        default: add(tables.join(input)); break;
        }
    }
    /// Whether a map succeeded, which it must unless something is mapped there.
    bool fresh(pages input, pt::result<ticket>&& done) {
        const auto used = map_.lower_bound(index(input.first()));
        if (used == map_.end() || page_at(used->first) > input.last()) {
            add(std::move(done));
            return true;
        }
        if (done) {
            done->leak();
        }
        REQUIRE(!done);
        CHECK(done.error() == pt::error{errc::already_mapped, page_at(used->first).raw});
        return false;
    }
    void add(pt::result<ticket>&& done) {
        owed what{std::move(done)};
        if (const pt::result<void> added = batch_.add(what.take()); !added) {
            REQUIRE(added.error().code == errc::busy);
            redeem();
            REQUIRE(batch_.add(what.take()));
        }
    }
    void redeem() {
        machine_.redeem_with_unit(batch_);
        past_.clear();
    }

    /// The ends of the input and what is next to them, some pages inside, and some anywhere.
    std::vector<iova> some_words(pages input) {
        std::vector<iova> at{input.first(), input.last()};
        if (input.first() > first_) {
            at.push_back(input.first() - 1);
        }
        if (index(input.last()) + 1 < page_count) {
            at.push_back(input.last() + 1);
        }
        const auto count = static_cast<std::uint32_t>(input.size() / page);
        for (unsigned i = 0; i < 6; ++i) {
            at.push_back(i < 3 ? input.first() + random_.below(count) * page
                               : page_at(random_.below(page_count)));
        }
        for (iova& each : at) {
            each = each.align_down(page) + random_.below(page / 8) * 8;
        }
        return at;
    }

    static std::uint64_t read_of(iova at, const maybe_leaf& to) {
        return to && to->attributes.read ? word(to->frame + at.offset_in(page)) : nothing;
    }
    void check_loads(pages input) {
        const std::vector<iova> at = some_words(input);
        const std::vector<std::uint64_t> read = machine_.loads(at);
        for (std::size_t i = 0; i < at.size(); ++i) {
            INFO("iova " << hex(at[i].raw));
            const std::uint64_t expected = read_of(at[i], now(at[i]));
            const auto past = past_.find(index(at[i]));
            const bool was =
                past != past_.end() &&
                std::any_of(past->second.begin(), past->second.end(),
                            [&](const maybe_leaf& old) { return read[i] == read_of(at[i], old); });
            if (!was) {
                CHECK(place(read[i]) == place(expected));
            }
        }
        machine_.fault();
    }
    void check_store(pages input) {
        const iova at = some_words(input)[random_.below(6)];
        const maybe_leaf to = now(at);
        machine_.store(at, 0x1234'5678);
        if (to) {
            INFO("iova " << hex(at.raw));
            const hpa reached = to->frame + at.offset_in(page);
            CHECK(place(machine_.memory(reached)) ==
                  (to->attributes.write ? "0x12345678" : place(reached)));
            machine_.stamp(reached, 8);
        }
        machine_.fault();
    }
    void check_frame() {
        std::vector<pt::e1000e::fragment> pieces;
        bytes expected;
        for (unsigned i = 0; i < 64; ++i) {
            const std::uint32_t in_page = random_.below(page / 16) * 16;
            const iova at = page_at(random_.below(page_count)) + in_page;
            if (const maybe_leaf to = now(at); to && to->attributes.read) {
                const bytes content = stamped(to->frame + at.offset_in(page), 16);
                pieces.push_back({at, 16});
                expected.insert(expected.end(), content.begin(), content.end());
            }
        }
        if (pieces.size() >= 4) { // no shorter than an Ethernet frame
            CHECK(machine_.send(pieces) == expected);
            CHECK(machine_.fault() == "none");
        }
    }

    stand& machine_;
    iova first_;
    dice random_;
    std::map<std::uint32_t, leaf> map_;                     ///< by page
    std::map<std::uint32_t, std::vector<maybe_leaf>> past_; ///< since the last invalidation
    pt::paging::flush_batch<second_stage::format, qemu_tables> batch_ = machine_.tables.batch();
    std::ptrdiff_t tables_before_ = 0;
};

} // namespace

TEST_CASE("the devices follow any sequence of operations", "[vt-d][paging]") {
    const shape of = GENERATE(shape{39, 3}, shape{48, 4}, shape{48, 4, "on"});
    INFO(text(of));
    stand machine{of};
    random_session session{machine, of.aw_bits + of.levels};
    for (unsigned i = 0; i < 400; ++i) {
        INFO("step " << i);
        session.step();
    }
    session.finish();
}
