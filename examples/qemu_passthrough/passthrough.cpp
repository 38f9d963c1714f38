// SPDX-License-Identifier: BSL-1.0

#include "passthrough.hpp"

#include "../qemu/qemu.hpp"
#include "capture.hpp"
#include "policies.hpp"
#include "processor.hpp"
#include "story.hpp"

#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/tx_ring.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/paging/ept.hpp"
#include "pt/paging/table.hpp"
#include "pt/paging/vtd_second_stage.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_pieces.hpp"
#include "pt/pci/config_ports.hpp"
#include "pt/pci/config_router.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/port_config_access.hpp"
#include "pt/pci/virtual_function_view.hpp"
#include "pt/vmx/interruption.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vtd/domain_invalidator.hpp"
#include "pt/vtd/translation.hpp"
#include "pt/vtd/unit.hpp"

#include <array>
#include <deque>
#include <filesystem>
#include <sstream>

#include <range/v3/algorithm/any_of.hpp>
#include <range/v3/algorithm/count_if.hpp>
#include <range/v3/algorithm/find_if.hpp>
#include <range/v3/algorithm/search.hpp>
#include <range/v3/range/conversion.hpp>
#include <range/v3/view/iota.hpp>
#include <range/v3/view/transform.hpp>

namespace demo {

namespace {

using bytes = std::vector<std::byte>;

// The machine and what is where in it.
constexpr pt::hpa remapping_unit{0xFED9'0000}; // q35's only one
constexpr unsigned host_address_width = 48;    // aw-bits=48, as its DMAR table would say
constexpr pt::hpa tables_at{128 * pt::MiB};    // host memory for translation tables
constexpr std::size_t table_count = 64;
constexpr pt::gpa guest_memory_at{0};             // the guest believes its memory starts at 0
constexpr pt::hpa guest_really_at{256 * pt::MiB}; // and this is where it is
constexpr std::uint64_t guest_memory_size = 16 * pt::MiB;
constexpr pt::hpa secret_at{48 * pt::MiB}; // the host's, and not the guest's
constexpr std::uint16_t domain_id = 1;

// What the guest's driver uses of its memory.
constexpr pt::gpa ring_at{0x1'0000};
constexpr pt::gpa buffers_at{0x2'0000};
constexpr std::uint32_t ring_size = 8;

// IA32_VMX_EPT_VPID_CAP and MAXPHYADDR of a Skylake server; QEMU emulates no VMX to ask.
constexpr pt::ept::capabilities ept_capabilities{0xF01'0673'4141};
constexpr unsigned physical_width = 46;

constexpr const char* nic_mac = "52:54:00:12:34:56";

/// A path inside a QEMU option: there a comma is written twice.
std::string option_value(const std::filesystem::path& path) {
    std::string written;
    for (const char c : path.string()) {
        written += c == ',' ? ",," : std::string{c};
    }
    return written;
}

qemu::options machine_options(const passthrough_options& wanted) {
    return {.binary = wanted.qemu,
            .arguments = {"-machine", "q35", "-accel", "tcg", "-nodefaults", "-no-user-config",
                          "-display", "none", "-m", "512", "-device",
                          "intel-iommu,intremap=on,aw-bits=48", "-netdev", "hubport,id=n0,hubid=0",
                          "-device", fmt::format("e1000e,netdev=n0,id=nic,addr=5,mac={}", nic_mac),
                          "-object",
                          fmt::format("filter-dump,id=f0,netdev=n0,file={}",
                                      option_value(std::filesystem::absolute(wanted.capture)))},
            .name = "q35"};
}

std::string text(pt::pci::function_address function) {
    return std::string{function.text().data(), function.text().size()};
}

std::string text(const pt::error& why) {
    return fmt::format("{} at {:#x}", pt::name(why.code), why.where);
}

/// The value, or the end of the story.
template <class T>
T got(pt::result<T> answer, std::string_view attempted) {
    if (!answer) {
        throw broken(fmt::format("{}: {}", attempted, text(answer.error())));
    }
    if constexpr (!std::is_void_v<T>) {
        return *std::move(answer);
    }
}

/// Redeems what an operation owes. Where that fails the story ends, and the machine with it: the
/// ticket is given up, or its destructor would complain louder than the reason.
template <class Ticket, class Invalidator>
void redeem(Ticket owed, Invalidator& hardware, std::string_view attempted) {
    if (const pt::result<void> done = owed.redeem(hardware); !done) {
        owed.leak();
        got(done, attempted);
    }
}

const char* name(pt::pci::bar_kind kind) {
    switch (kind) {
    case pt::pci::bar_kind::io: return "io";
    case pt::pci::bar_kind::mem32: return "mem32";
    case pt::pci::bar_kind::mem1m: return "mem1m";
    case pt::pci::bar_kind::mem64: return "mem64";
    case pt::pci::bar_kind::rom: return "rom";
    }
    return "?";
}

std::uint64_t round_up(std::uint64_t value, std::uint64_t step) {
    return (value + step - 1) / step * step;
}

/// The guest's I/O instructions. What its bitmap leaves open goes to the real ports; the rest exits,
/// and this is the exit handler: pt's CF8/CFC machine takes all of it, or the story is broken.
class guest_ports {
public:
    using machine = pt::pci::config_ports<pt::pci::config_router>;

    guest_ports(qemu_ports real, machine& config, const pt::vmx::io_bitmap& bitmap, unsigned& exits)
        : real_{real}, config_{&config}, bitmap_{&bitmap}, exits_{&exits} {}

    std::uint8_t in8(pt::io_port port) {
        return opened(port, pt::width::byte)
                   ? real_.in8(port)
                   : static_cast<std::uint8_t>(read(port, pt::width::byte));
    }
    std::uint16_t in16(pt::io_port port) {
        return opened(port, pt::width::word)
                   ? real_.in16(port)
                   : static_cast<std::uint16_t>(read(port, pt::width::word));
    }
    std::uint32_t in32(pt::io_port port) {
        return opened(port, pt::width::dword) ? real_.in32(port) : read(port, pt::width::dword);
    }
    void out8(pt::io_port port, std::uint8_t value) {
        opened(port, pt::width::byte) ? real_.out8(port, value)
                                      : write(port, pt::width::byte, value);
    }
    void out16(pt::io_port port, std::uint16_t value) {
        opened(port, pt::width::word) ? real_.out16(port, value)
                                      : write(port, pt::width::word, value);
    }
    void out32(pt::io_port port, std::uint32_t value) {
        opened(port, pt::width::dword) ? real_.out32(port, value)
                                       : write(port, pt::width::dword, value);
    }

private:
    bool opened(pt::io_port port, pt::width size) {
        const bool open = !bitmap_->exits(port, size);
        *exits_ += open ? 0 : 1;
        return open;
    }
    std::uint32_t read(pt::io_port port, pt::width size) {
        const auto [claim, value] = config_->read(port, size);
        only_configuration(claim, port);
        return value;
    }
    void write(pt::io_port port, pt::width size, std::uint32_t value) {
        only_configuration(config_->write(port, size, value), port);
    }
    static void only_configuration(pt::pci::port_claim claim, pt::io_port port) {
        if (claim != pt::pci::port_claim::whole) {
            throw broken(fmt::format("an exit at port {:#x}, which nobody emulates", port.raw));
        }
    }

    qemu_ports real_;
    machine* config_;
    const pt::vmx::io_bitmap* bitmap_;
    unsigned* exits_;
};
static_assert(pt::port_io<guest_ports>);

/// An Ethernet frame of `size` bytes, recognisable by its number.
bytes make_frame(std::uint8_t number, std::size_t size) {
    constexpr std::array<int, 14> header{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x52,
                                         0x54, 0x00, 0x12, 0x34, 0x56, 0x88, 0xB5};
    bytes frame(size);
    for (std::size_t i = 0; i < size; ++i) {
        frame[i] = i < header.size() ? static_cast<std::byte>(header[i])
                                     : static_cast<std::byte>(number * std::size_t{31} + i * 7);
    }
    return frame;
}

/// Vectors in IRR of the host's local APIC, which stands in for the external-interrupt exit: the
/// machine's processor is halted, so what a device requests stays there to be seen.
std::vector<unsigned> host_requests(qemu& machine) {
    const auto printed = machine.qmp("human-monitor-command", {{"command-line", "info lapic"}});
    std::istringstream lines{printed.get<std::string>()};
    std::string line;
    while (std::getline(lines, line)) {
        std::istringstream words{line};
        std::string word;
        if (words >> word && word == "IRR") {
            std::vector<unsigned> vectors;
            for (unsigned vector = 0; words >> vector;) {
                vectors.push_back(vector);
            }
            return vectors;
        }
    }
    throw broken("QEMU's `info lapic` shows no IRR");
}

using ept_table = pt::paging::table<pt::ept::format, qemu_tables, qemu_publication>;
using dma_table = pt::paging::table<pt::vtd::second_stage::format, qemu_tables, qemu_publication>;
using remapping_policies =
    pt::vtd::policies<qemu_mmio, steady_clock, qemu_tables, qemu_publication>;
using remapping_driver = pt::vtd::unit<remapping_policies>;
using nic_ring =
    pt::e1000e::tx_ring<guest_mmio<ept_table>, guest_ring_memory<ept_table>, qemu_order>;

class passthrough;

/// What the guest does with its view of the NIC, as it concerns the guest's tables.
struct view_events {
    passthrough* story;
    pt::pci::bar_place bar_changed(const pt::pci::bar_change& change);
    void power_state_changed(pt::pci::power_state, pt::pci::power_state) {}
    void reset() {}
};

/// The guest's messages, which end at its own local APIC.
struct view_route {
    passthrough* story;
    void open(pt::pci::interrupt_source source, pt::pci::interrupt_message message);
    void close(pt::pci::interrupt_source) {}
    void send(pt::pci::interrupt_source source, pt::pci::interrupt_message message);
    void use(pt::pci::interrupt_kind, std::uint16_t) {}
    bool pending(pt::pci::interrupt_source) { return false; }
};

/// The NIC's BARs where the host has them, for registers that share a page with the MSI-X table.
struct view_memory {
    qemu* machine;
    const pt::pci::bar_list* sized;

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size) {
        qemu_mmio device{*machine, pt::hpa{sized->find(bar)->address}};
        const auto at = static_cast<std::uint32_t>(offset);
        switch (size) {
        case pt::mmio_width::byte: return device.read8(at);
        case pt::mmio_width::word: return device.read16(at);
        case pt::mmio_width::dword: return device.read32(at);
        case pt::mmio_width::qword: return device.read64(at);
        }
        return pt::all_ones(size);
    }
    void write(std::uint8_t bar, std::uint64_t offset, pt::mmio_width size, std::uint64_t value) {
        qemu_mmio device{*machine, pt::hpa{sized->find(bar)->address}};
        const auto at = static_cast<std::uint32_t>(offset);
        switch (size) {
        case pt::mmio_width::byte: device.write8(at, static_cast<std::uint8_t>(value)); break;
        case pt::mmio_width::word: device.write16(at, static_cast<std::uint16_t>(value)); break;
        case pt::mmio_width::dword: device.write32(at, static_cast<std::uint32_t>(value)); break;
        case pt::mmio_width::qword: device.write64(at, value); break;
        }
    }
};

using nic_view = pt::pci::virtual_function_view<pt::pci::port_config_access<qemu_ports>,
                                                view_events, view_route, view_memory>;

/// The steps, in order; each uses what those before it have made.
class passthrough {
public:
    explicit passthrough(const passthrough_options& options)
        : capture_{options.capture},
          machine_{machine_options(options)},
          frames_{machine_, tables_at, table_count},
          bitmap_{bitmap_a_.data(), bitmap_b_.data()},
          config_ports_{pt::pci::config_router{routes_}},
          ept_{qemu_tables{frames_}, pt::ept::format{ept_capabilities, physical_width},
               qemu_publication{frames_}} {}

    void run() {
        try {
            find_and_place();
            show_to_guest();
            check_what_opened();
            translate_dma();
            send_packets();
            attack();
            interrupt();
            give_back();
        } catch (...) {
            give_up();
            throw;
        }
        story_.tell("");
        story_.tell("{} checks held. The frames are in {}.", story_.checks(), capture_.string());
    }

private:
    /// Configuration space as the guest reaches it: its own IN and OUT at 0xCF8 and 0xCFC.
    auto guest_config() {
        return pt::pci::port_config_access{
            guest_ports{qemu_ports{machine_}, config_ports_, bitmap_, exits_},
            pt::pci::config_latch::ours}; // an operating system owns its ports
    }
    /// And as the host does.
    auto host_config() { return pt::pci::port_config_access{qemu_ports{machine_}}; }

    guest_mmio<ept_table> guest_registers() { return {{machine_, ept_}, bar(0)}; }
    pt::gpa bar(std::uint8_t index) { return pt::gpa{view_.front().place(index).address()}; }

    void find_and_place() {
        story_.step("The host finds the NIC, and gives its BARs a place");
        story_.tell(
            "QEMU is the chipset, VT-d and the NIC. It runs no VMX: this program applies I/O");
        story_.tell("bitmap, EPT and VM-entry words as a processor would.");
        auto config = host_config();
        const std::vector<pci_report> reports = machine_.query_pci();
        std::size_t known = 0;
        std::size_t found = 0;
        for (const pt::pci::found_function function : pt::pci::scan_bus(config, 0)) {
            const auto kind = pt::pci::read<pt::pci::class_code>(config, function.address);
            const auto vendor = function.id[pt::pci::identity::vendor_id];
            const auto device = function.id[pt::pci::identity::device_id];
            const bool wanted = vendor == 0x8086 && device == 0x10D3;
            story_.tell("{}  {:04x}:{:04x}  class {:02x}{:02x}{}", text(function.address), vendor,
                        device, static_cast<unsigned>(kind[pt::pci::class_code::base_class]),
                        kind[pt::pci::class_code::sub_class], wanted ? "  <- 82574L" : "");
            if (wanted) {
                nic_ = function.address;
            }
            ++found;
            known += ranges::any_of(reports, [&](const pci_report& r) {
                return r.bus == 0 && r.slot == function.address.device &&
                       r.function == function.address.function && r.vendor == vendor &&
                       r.device == device;
            });
        }
        story_.check(found == known && found == reports.size(),
                     "these {} functions are the ones that QEMU says it has", found);
        const auto report = ranges::find_if(
            reports, [](const pci_report& r) { return r.vendor == 0x8086 && r.device == 0x10D3; });
        story_.check(report != reports.end() && nic_.valid() && report->slot == nic_.device,
                     "the NIC is {}", text(nic_));

        const pt::pci::bar_list bars = pt::pci::size_bars(config, nic_);
        story_.check(bars.size() == report->regions.size(),
                     "it has {} base address registers, the expansion ROM's (index 6) among them",
                     bars.size());
        // No firmware ran: the host assigns addresses, aligned to the size of each.
        std::uint64_t memory = 0xF000'0000;
        std::uint64_t port = 0xC000;
        for (const auto& entry : bars) {
            const pt::pci::bar sized = got(entry, "sizing a BAR");
            const auto region = ranges::find_if(
                report->regions, [&](const pci_region& r) { return r.bar == sized.index; });
            story_.check(region != report->regions.end() && region->size == sized.size &&
                             region->mem_type_64 == (sized.kind == pt::pci::bar_kind::mem64) &&
                             region->prefetch == sized.prefetchable &&
                             (region->type == "io") == (sized.kind == pt::pci::bar_kind::io),
                         "BAR {} is {}, {:#x} bytes, and QEMU says so too", sized.index,
                         name(sized.kind), sized.size);
            std::uint64_t& next = sized.kind == pt::pci::bar_kind::io ? port : memory;
            next = round_up(next, sized.size);
            static_cast<void>(got(pt::pci::write_bar(config, nic_, sized, next), "moving a BAR"));
            next += sized.size;
        }
        using command = pt::pci::command;
        write(config, nic_,
              pt::pci::read<command>(config, nic_)
                  .write_back()
                  .with(command::io_space(true), command::memory_space(true)));
        sized_ = pt::pci::size_bars(config, nic_); // with sizes and addresses
        check_places("QEMU has BAR {} at {:#x}");
    }

    /// The device is where the host has put it, as QEMU sees it.
    void check_places(fmt::format_string<std::uint8_t&, std::uint64_t&> what) {
        const auto machine = machine_.query_pci();
        const auto nic = ranges::find_if(
            machine, [&](const pci_report& r) { return r.bus == 0 && r.slot == nic_.device; });
        for (const auto& entry : sized_) {
            pt::pci::bar sized = *entry;
            if (sized.kind != pt::pci::bar_kind::rom) { // whose decoding is a matter of its own
                const auto region = ranges::find_if(
                    nic->regions, [&](const pci_region& r) { return r.bar == sized.index; });
                story_.check(region->address == static_cast<std::int64_t>(sized.address), what,
                             sized.index, sized.address);
            }
        }
    }

    void show_to_guest() {
        story_.step("The guest looks at the bus, through 0xCF8 and 0xCFC");
        view_.emplace_back(host_config(), nic_, view_events{this}, view_route{this},
                           view_memory{&machine_, &sized_});
        got(view_.front().open(sized_, vectors_.data(),
                               static_cast<std::uint16_t>(vectors_.size())),
            "opening the view of the NIC");
        got(routes_.add(guest_nic, view_.front()), "routing to the view");

        auto config = guest_config();
        std::size_t found = 0;
        bool is_nic = true;
        for (const pt::pci::found_function function : pt::pci::scan_bus(config, 0)) {
            is_nic = is_nic && function.address == guest_nic &&
                     function.id == pt::pci::identity{0x10D3'8086};
            ++found;
        }
        story_.check(found == 1 && is_nic, "it finds one function, {}: the host's {}",
                     text(guest_nic), text(nic_));

        const pt::pci::bar_list bars = pt::pci::size_bars(config, guest_nic);
        bool same = bars.size() == sized_.size();
        for (const auto& entry : bars) {
            const pt::pci::bar seen = got(entry, "sizing a BAR of the view");
            const pt::pci::bar real = got(sized_.find(seen.index), "a BAR of the device");
            same = same && seen.kind == real.kind && seen.size == real.size;
        }
        story_.check(same && moves_ == 0, "it sizes {} base address registers, and nothing moves",
                     bars.size());
        // The guest has places of its own; its ports begin where those of the host do, by chance.
        std::uint64_t memory = 0xE000'0000;
        std::uint64_t port = 0xC000;
        unsigned placed = 0;
        for (const auto& entry : bars) {
            if (entry->kind == pt::pci::bar_kind::rom) {
                continue; // nobody needs the boot ROM here
            }
            std::uint64_t& next = entry->kind == pt::pci::bar_kind::io ? port : memory;
            next = round_up(next, entry->size);
            static_cast<void>(got(pt::pci::write_bar(config, guest_nic, *entry, next), "a BAR"));
            next += entry->size;
            ++placed;
        }
        story_.check(moves_ == 0, "it writes addresses into {} of them; decoding is still off",
                     placed);
        using command = pt::pci::command;
        write(config, guest_nic,
              pt::pci::read<command>(config, guest_nic)
                  .write_back()
                  .with(command::io_space(true), command::memory_space(true),
                        command::bus_master(true)));
        story_.check(moves_ == placed, "it turns decoding on, and each is reported once");
        check_places("the device has not noticed: its BAR {} is still at {:#x}");
        story_.tell("{} I/O instructions exited for that, all to configuration space", exits_);

        const pt::pci::bar_part& table = view_.front().msi_x().table;
        const qemu_mmio real{machine_, pt::hpa{got(sized_.find(table.bar), "its BAR").address}};
        const std::uint32_t before = read_at(real, table.offset);
        view_.front().write_memory(table.bar, table.offset, pt::mmio_width::dword, 0xFEE0'0000);
        story_.check(view_.front().read_memory(table.bar, table.offset, pt::mmio_width::dword) ==
                             0xFEE0'0000 &&
                         read_at(real, table.offset) == before,
                     "it writes to its MSI-X table, and the device's own does not change");
    }
    static std::uint32_t read_at(qemu_mmio device, std::uint64_t offset) {
        return device.read32(static_cast<std::uint32_t>(offset));
    }

public:
    /// The guest has moved a BAR: the rights that go with it move too.
    pt::pci::bar_place bar_changed(const pt::pci::bar_change& change) {
        ++moves_;
        const auto& [device, from, to] = change;
        if (device.kind == pt::pci::bar_kind::io) {
            return ports_changed(change);
        }
        no_processor invept;
        for (const auto& [part, how] : pt::pci::bar_pieces::of(device, view_.front().msi_x())) {
            if (how == pt::pci::reach::trapped) {
                if (to) {
                    story_.tell("gpa {:#x} of BAR {} holds MSI-X structures and is not mapped",
                                to.address() + part.offset, device.index);
                }
                continue;
            }
            if (from) {
                redeem(got(ept_.unmap({pt::gpa{from.address() + part.offset}, part.size}), "a BAR"),
                       invept, "unmapping a BAR");
                mapped_ -= part.size;
            }
            if (to) {
                redeem(got(ept_.map({pt::gpa{to.address() + part.offset}, part.size},
                                    pt::hpa{device.address + part.offset}, pt::ept::device_memory),
                           "a BAR"),
                       invept, "mapping a BAR");
                mapped_ += part.size;
            }
        }
        if (to) {
            story_.tell("BAR {}: gpa {:#x} to hpa {:#x}, {:#x} bytes, uncacheable", device.index,
                        to.address(), device.address, device.size);
        }
        return to;
    }
    pt::pci::bar_place ports_changed(const pt::pci::bar_change& change) {
        const auto& [device, from, to] = change;
        if (from) {
            (void)bitmap_.close(ports_);
        }
        if (!to) {
            return {};
        }
        // Ports that differ would be forwarded, exit by exit.
        if (to.address() != device.address) {
            return {};
        }
        ports_ = got(pt::range<pt::io_port>::checked(
                         pt::io_port{static_cast<std::uint16_t>(to.address())}, device.size),
                     "ports of the I/O BAR");
        return bitmap_.open(ports_) ? to : pt::pci::bar_place{};
    }
    void message_opened(pt::pci::interrupt_source source, pt::pci::interrupt_message message) {
        if (source.kind != pt::pci::interrupt_kind::intx) {
            story_.tell("the guest wants {:#x} at {:#x} for vector {} of its MSI", message.data,
                        message.address, source.vector);
        }
    }
    void message_sent(pt::pci::interrupt_message message) {
        // The guest may have aimed it at anything: only a message for its local APIC is an interrupt.
        if (const auto sent = pt::lapic::message_of_msi(message.address, message.data)) {
            bus_.deliver(*sent);
        }
    }

private:
    void check_what_opened() {
        story_.step("Its ports are opened in the I/O bitmap, its registers mapped by EPT");
        unsigned wrong = 0;
        for (const unsigned port : ranges::views::iota(0U, 0x1'0000U)) {
            for (const pt::width size : {pt::width::byte, pt::width::word, pt::width::dword}) {
                const bool inside =
                    port >= ports_.first().raw && port + pt::size_of(size) - 1 <= ports_.last().raw;
                const bool exits = processor_exits(bitmap_a_, bitmap_b_, port, pt::size_of(size));
                const bool pt_says =
                    bitmap_.exits(pt::io_port{static_cast<std::uint16_t>(port)}, size);
                wrong += exits == inside || pt_says != exits ? 1 : 0;
            }
        }
        story_.check(wrong == 0, "of all ports, {:#x}..{:#x} are open and no other",
                     ports_.first().raw, ports_.last().raw);
        // Through the window of that BAR the device's registers are reached by number: 8 is STATUS.
        const unsigned exits_before = exits_;
        guest_ports ports{qemu_ports{machine_}, config_ports_, bitmap_, exits_};
        ports.out32(ports_.first(), pt::e1000e::status::offset);
        const pt::e1000e::status status{ports.in32(ports_.first() + 4)};
        story_.check(exits_ == exits_before && status[pt::e1000e::status::lu],
                     "the guest reads STATUS {:#010x} through them without an exit: link up",
                     status.raw);

        map_guest(pt::range{guest_memory_at, guest_memory_size}, guest_really_at, pt::ept::ram,
                  "its memory");

        // No processor here walks the EPT, so this program does, as the manual says, from EPTP on.
        const auto eptp = got(ept_.format().eptp(got(ept_.root(), "EPT root")), "EPTP");
        bool only_those = true;
        std::uint64_t reachable = 0;
        for (const ept_leaf& leaf : walk_ept(machine_, eptp.raw)) {
            reachable += leaf.size;
            const pt::range input{pt::gpa{leaf.input}, leaf.size};
            const bool memory =
                pt::range{guest_memory_at, guest_memory_size}.contains(input) &&
                leaf.output == (guest_really_at + (input.first() - guest_memory_at)).raw &&
                leaf.rights == 7 && leaf.type == 6; // read, write, execute; write-back
            const bool registers = is_bar(input, leaf.output) && leaf.rights == 3 &&
                                   leaf.type == 0; // read, write; uncacheable
            const auto agreed = ept_.translate(input.first());
            only_those =
                only_those && (memory || registers) && agreed && agreed->output.raw == leaf.output;
        }
        story_.check(eptp.raw % 4096 == 0x1E && only_those && reachable == mapped_,
                     "of 2^48 addresses, {} KiB translate: the guest's memory (write-back) and "
                     "its BARs (uncacheable)",
                     mapped_ / pt::KiB);
        story_.tell("EPTP is {:#x}; gpa {:#x} leads to hpa {:#x}", eptp.raw, buffers_at.raw,
                    ept_.translate(buffers_at)->output.raw);
    }

    void translate_dma() {
        story_.step("VT-d translates its DMA by tables of pt");
        // The tables are copies that QEMU is sent (policies.hpp), which a queue cannot be.
        unit_.emplace_back(
            got(remapping_driver::take(
                    {{}, qemu_tables{frames_}, qemu_publication{frames_}},
                    qemu_mmio{machine_, remapping_unit},
                    {.register_base = remapping_unit, .register_set_size = 4 * pt::KiB},
                    {.invalidation = pt::vtd::invalidation_interface::registers}),
                "the remapping unit"));
        remapping_driver& unit = unit_.front();
        using capability = pt::vtd::capability;
        story_.tell("CAP {:#018x}, ECAP {:#018x}: {} domains, {} fault record(s), walks {}",
                    unit.capabilities().raw, unit.extended_capabilities().raw,
                    pt::vtd::domain_id_count(unit.capabilities()),
                    unit.capabilities()[capability::fault_recording_registers] + 1,
                    unit.extended_capabilities()[pt::vtd::extended_capability::page_walk_coherency]
                        ? "snoop caches"
                        : "do not snoop caches, so what is written must be published");

        const auto limits = got(unit.limits(4, host_address_width), "4-level second stage");
        dma_.emplace_back(qemu_tables{frames_}, pt::vtd::second_stage::format{limits},
                          qemu_publication{frames_});
        dma_table& dma = dma_.front();
        pt::vtd::domain_invalidator iotlb{unit, domain_id};
        redeem(got(dma.map({pt::iova{guest_memory_at.raw}, guest_memory_size}, guest_really_at,
                           pt::vtd::second_stage::read_write),
                   "mapping the guest's memory for DMA"),
               iotlb, "mapping the guest's memory for DMA");
        story_.check(dma.translate(pt::iova{ring_at.raw})->output == guest_really_at + ring_at.raw,
                     "iova {:#x}, where the guest has its ring, leads to hpa {:#x}", ring_at.raw,
                     dma.translate(pt::iova{ring_at.raw})->output.raw);
        const auto refused = dma.map({pt::iova{0xFEE0'0000}, 4 * pt::KiB}, guest_really_at,
                                     pt::vtd::second_stage::read_write);
        story_.check(!refused && refused.error().code == pt::errc::reserved_address,
                     "nothing can be mapped at iova 0xfee00000, where writes are interrupts");

        got(unit.attach(nic_, pt::vtd::translation::second_stage(
                                  got(dma.root(), "second-stage root"), dma.format(), domain_id)),
            "attaching the NIC");
        got(unit.start(), "switching translation on");
        story_.check(unit.status()[pt::vtd::global_status::translation_enabled],
                     "GSTS is {:#010x}: translation is on", unit.status().raw);
        story_.tell(
            "{} frames hold tables (EPT, second stage, root, context); {} entries were published",
            frames_.in_use(), frames_.published());
    }

    void send_packets() {
        story_.step("The guest's driver sends packets at guest-physical addresses");
        ring_.emplace_back(guest_registers(),
                           guest_ring_memory<ept_table>{{machine_, ept_}, ring_at}, qemu_order{},
                           pt::iova{ring_at.raw}, slots_.data(), ring_size);
        got(ring_.front().start(), "starting the ring");
        auto registers = guest_registers();
        story_.tell("TDBAL {:#x} TDLEN {:#x} TDH {} TDT {}", read32<pt::e1000e::tdbal>(registers),
                    read32<pt::e1000e::tdlen>(registers), read32<pt::e1000e::tdh>(registers),
                    read32<pt::e1000e::tdt>(registers));

        const std::array<std::size_t, 12> sizes{60,  61,   64,   100,  128,  256,
                                                512, 1000, 1024, 1280, 1513, 1514};
        for (const std::size_t size : sizes) {
            send(make_frame(static_cast<std::uint8_t>(sent_.size()), size), {size});
            // The same size in three pieces: the header, a few bytes, the rest.
            send(make_frame(static_cast<std::uint8_t>(sent_.size()), size), {14, 5, size - 19});
        }
        const std::uint32_t last = ring_.front().tail();
        send(make_frame(static_cast<std::uint8_t>(sent_.size()), 64), {64});
        show_descriptor(last);
        reclaim();
        story_.tell("{} packets, of 1 and of 3 fragments, over a ring of {} descriptors",
                    sent_.size(), ring_size);
        story_.tell("TDH {} TDT {}", read32<pt::e1000e::tdh>(registers),
                    read32<pt::e1000e::tdt>(registers));
        story_.check(reclaimed_ == sent_.size() && ring_.front().in_flight() == 0,
                     "each packet came back from the ring once, in order");
        const auto frames = read_capture(capture_);
        story_.check(frames == sent_, "{} frames are on the wire, byte for byte", frames.size());
        const auto fault = unit_.front().faults().take();
        story_.check(!fault && fault.error().code == pt::errc::absent, "and no DMA fault");
    }

    void show_descriptor(std::uint32_t index) {
        using command = pt::e1000e::legacy_tx_command;
        guest_ring_memory<ept_table> memory{{machine_, ept_}, ring_at};
        const std::uint32_t at = index * pt::e1000e::tx_descriptor_size;
        const std::uint64_t address = memory.read64(at);
        const command status{memory.read64(at + command::offset)};
        story_.tell("descriptor {}: gpa {:#x} (hpa {:#x}), {} bytes,{}{}{}{}", index, address,
                    ept_.translate(pt::gpa{address})->output.raw, status[command::length],
                    status[command::eop] ? " EOP" : "", status[command::ifcs] ? " IFCS" : "",
                    status[command::rs] ? " RS" : "", status[command::dd] ? ", DD: done" : "");
    }

    void attack() {
        story_.step("The device is aimed at memory that is not the guest's");
        bytes secret;
        for (const unsigned i : ranges::views::iota(0U, 256U)) {
            secret.push_back(static_cast<std::byte>("the host's own memory "[i % 22]));
        }
        machine_.write(secret_at.raw, secret);
        machine_.write((guest_really_at + 8 * pt::MiB).raw, secret);
        story_.tell("a secret of the host lies at hpa {:#x}", secret_at.raw);

        attack_at(pt::iova{secret_at.raw}, "the host-physical address of the secret");
        attack_at(pt::iova{(guest_really_at + 8 * pt::MiB).raw},
                  "the host-physical address of the guest's own memory");
        attack_at(pt::iova{guest_memory_at.raw + guest_memory_size},
                  "the first byte behind its memory");

        // And at memory that was the guest's until now: the unit has it cached.
        const pt::range<pt::iova> given_up{pt::iova{buffers_at.raw}, 4 * pt::KiB};
        pt::vtd::domain_invalidator iotlb{unit_.front(), domain_id};
        redeem(got(dma_.front().unmap(given_up), "unmapping a page"), iotlb, "unmapping a page");
        attack_at(given_up.first(), "a page that was unmapped under it");

        const auto frames = read_capture(capture_);
        const bool leaked = ranges::any_of(frames, [&](const bytes& frame) {
            return ranges::search(frame, bytes{secret.begin(), secret.begin() + 22}).begin() !=
                   frame.end();
        });
        story_.check(!leaked, "the secret is in no frame");
        const auto zeros = ranges::count_if(frames, [](const bytes& frame) {
            return !ranges::any_of(frame, [](std::byte b) { return b != std::byte{0}; });
        });
        story_.check(
            frames.size() == sent_.size() + static_cast<std::size_t>(zeros),
            "{} frames of zeros left instead: QEMU's NIC sends them where a real one stops", zeros);
    }

    void attack_at(pt::iova target, std::string_view what) {
        got(ring_.front().send({{target, 60}}, next_cookie_++), "sending from outside");
        const pt::vtd::fault_record fault = got(unit_.front().faults().take(), "the fault record");
        story_.check(fault.source == nic_ && fault.page == target &&
                         fault.type == pt::vtd::fault_record::request::read &&
                         fault.reason == pt::vtd::fault_reason::read_not_permitted,
                     "{}: blocked, {} {} iova {:#x}, reason {:#x} ({})", what, text(fault.source),
                     "reads", fault.page.raw, static_cast<unsigned>(fault.reason),
                     pt::vtd::name(fault.reason));
        reclaim(); // QEMU's NIC marks the descriptor done all the same
    }

    void interrupt() {
        story_.step("The device's interrupt reaches the guest's local APIC and is injected");
        constexpr std::uint8_t host_vector = 0x41;
        constexpr std::uint8_t guest_vector = 0x61;
        constexpr std::uint64_t host_apic = 0xFEE0'0000; // APIC id 0, fixed, edge

        constexpr std::uint32_t svr = pt::lapic::spurious_interrupt_vector::offset;
        constexpr std::uint32_t eoi =
            0x0B0; // the register that is written to end an interrupt [sdm]
        using pt::lapic::effect_kind;
        static_cast<void>(apic_.write(svr, pt::mmio_width::dword, 0x1FF)); // the guest enables it
        pt::lapic::injector injector{apic_, demo_vcpu{&interrupts_enabled_}};
        auto registers = guest_registers();

        got(pt::pci::enable_msi(host_config(), nic_, {host_apic, host_vector}), "MSI");
        write(registers, pt::e1000e::ims{pt::e1000e::ims::txdw(true)});
        story_.tell("the device requests vector {:#x} of the host", host_vector);
        got(pt::pci::enable_msi(guest_config(), guest_nic, {host_apic, guest_vector}),
            "the guest's MSI");

        next_interrupt(host_vector);
        story_.check(kicks_ == 1, "the message is in the inbox, and the virtual processor is told");
        apic_.synchronize();
        story_.check(apic_.registers().irr.highest() == guest_vector, "IRR has {:#x}",
                     guest_vector);

        interrupts_enabled_ = false;
        const auto closed = injector.before_entry();
        story_.check(closed.interrupt_window && !closed.event.present,
                     "RFLAGS.IF is 0: nothing is injected, the interrupt window is asked for");
        interrupts_enabled_ = true;
        constexpr auto mode = pt::vcpu::processor_mode::protected_mode;
        const auto first = pt::vmx::entry_of(injector.before_entry().event, mode).information;
        story_.check(first.raw == 0x8000'0061,
                     "RFLAGS.IF is 1: VM-entry interruption information is {:#010x}", first.raw);
        story_.tell("ISR has {:#x}, PPR is {:#x}", apic_.registers().isr.highest(),
                    apic_.registers().ppr.raw);

        const pt::e1000e::icr cause = read<pt::e1000e::icr>(registers);
        story_.check(cause[pt::e1000e::icr::txdw],
                     "the guest's handler reads ICR {:#010x}: descriptor written back", cause.raw);
        // QEMU's host processor is halted and keeps the first vector in IRR, so the second message
        // gets a number of its own.
        got(pt::pci::enable_msi(host_config(), nic_,
                                {host_apic, static_cast<std::uint16_t>(host_vector + 1)}),
            "MSI");
        next_interrupt(host_vector + 1);
        const auto nested = injector.before_entry();
        story_.check(nested == pt::lapic::entry_decision{},
                     "a second interrupt comes while the first is in service: it waits");
        const auto ended = apic_.write(eoi, pt::mmio_width::dword, 0);
        const auto second = pt::vmx::entry_of(injector.before_entry().event, mode).information;
        story_.check(
            ended.kind == effect_kind::end_of_interrupt && ended.ended.vector == guest_vector &&
                !ended.ended.broadcast && second.raw == 0x8000'0061,
            "EOI of {:#x}: the next one is injected, {:#010x}", ended.ended.vector, second.raw);
        static_cast<void>(apic_.write(eoi, pt::mmio_width::dword, 0));
        story_.check(injector.before_entry() == pt::lapic::entry_decision{},
                     "EOI of that: nothing is left");
    }

    /// Sends a packet and waits for the interrupt request that follows it.
    void next_interrupt(unsigned host_vector) {
        send(make_frame(static_cast<std::uint8_t>(sent_.size()), 60), {60});
        reclaim();
        const bool on_the_wire = read_capture(capture_).back() == sent_.back();
        // The NIC spaces interrupts by 128 microseconds of the machine's time.
        steady_clock time;
        const std::uint64_t start = time.now();
        bool requested = false;
        while (!requested && time.now() - start < 5'000'000'000) {
            requested = ranges::any_of(host_requests(machine_),
                                       [&](unsigned vector) { return vector == host_vector; });
        }
        story_.check(on_the_wire && requested,
                     "the packet is sent, and the host's local APIC has a request for {:#x}",
                     host_vector);
        got(view_.front().request({pt::pci::interrupt_kind::msi, 0}), "the device's request");
    }

    void give_back() {
        story_.step("The guest goes away and leaves nothing behind");
        remapping_driver& unit = unit_.front();
        got(ring_.front().stop(), "stopping the ring");
        got(unit.detach(nic_), "detaching the NIC");
        // Detached is blocked, not free: without an entry the unit refuses every request.
        nic_ring stray{guest_registers(), guest_ring_memory<ept_table>{{machine_, ept_}, ring_at},
                       qemu_order{},      pt::iova{ring_at.raw},
                       slots_.data(),     ring_size};
        got(stray.start(), "starting the ring");
        // From a page that the unit had cached a moment ago: forgotten means forgotten.
        got(stray.send({{pt::iova{ring_at.raw}, 60}}, 0), "sending");
        const auto fault = got(unit.faults().take(), "the fault record");
        story_.check(fault.source == nic_ &&
                         fault.reason == pt::vtd::fault_reason::context_entry_not_present,
                     "the detached NIC is blocked: {}", pt::vtd::name(fault.reason));
        stray.abandon([](std::uint64_t) {});
        got(routes_.remove(guest_nic), "taking the NIC out of the guest's bus");
        view_.front().close();
        // Without translation a device that can still do DMA would reach all memory.
        auto config = host_config();
        story_.check(!pt::pci::read<pt::pci::command>(config, nic_)[pt::pci::command::bus_master] &&
                         mapped_ == guest_memory_size &&
                         bitmap_.exits(ports_.first(), pt::width::byte),
                     "its view is closed: no port, no register, no bus mastering is left");

        pt::vtd::domain_invalidator iotlb{unit, domain_id};
        no_processor invept;
        redeem(got(dma_.front().unmap({pt::iova{guest_memory_at.raw}, guest_memory_size}),
                   "unmapping the guest's memory for DMA"),
               iotlb, "unmapping the guest's memory for DMA");
        redeem(dma_.front().retire(), iotlb, "giving the domain's tables back");
        redeem(ept_.retire(), invept, "giving the guest's EPT back");
        got(unit.stop(), "switching translation off");
        got(unit.retire(), "giving the context tables back");
        story_.check(frames_.in_use() == 0, "all {} table frames are free again", table_count);
        machine_.stop();
    }

    /// The story broke off, and the machine ends with it: nobody walks the tables any more. What is
    /// still owed is forgotten, so that the message about what broke is not lost in a contract.
    void give_up() {
        for (remapping_driver& unit : unit_) {
            unit.leak();
        }
        for (dma_table& dma : dma_) {
            dma.retire().leak();
        }
        ept_.retire().leak();
    }

    template <class Register>
    static std::uint32_t read32(guest_mmio<ept_table>& registers) {
        return pt::read<Register>(registers).raw;
    }

    void map_guest(pt::range<pt::gpa> input, pt::hpa output, pt::ept::attributes how,
                   std::string_view what) {
        no_processor invept;
        redeem(got(ept_.map(input, output, how), what), invept, what);
        mapped_ += input.size();
        story_.tell("{}: gpa {:#x} to hpa {:#x}, {:#x} bytes", what, input.first().raw, output.raw,
                    input.size());
    }
    /// Whether the guest has a memory BAR there, and the host has the same part of it at `output`.
    bool is_bar(pt::range<pt::gpa> input, std::uint64_t output) {
        return ranges::any_of(sized_, [&](const auto& entry) {
            return entry->kind == pt::pci::bar_kind::mem32 &&
                   pt::range{bar(entry->index), entry->size}.contains(input) &&
                   output - entry->address == input.first() - bar(entry->index);
        });
    }

    /// Sends the frame in pieces of these sizes, each in a place of its own in the guest's memory.
    void send(const bytes& frame, const std::vector<std::size_t>& pieces) {
        guest_memory<ept_table> memory{machine_, ept_};
        std::vector<pt::e1000e::fragment> fragments;
        std::size_t done = 0;
        for (const std::size_t size : pieces) {
            // The last bytes of a page first: fragments may cross into the next one.
            const pt::gpa at = buffers_at + (next_buffer_++ % 64) * 8 * pt::KiB + 4000;
            memory.store(at, std::span{frame}.subspan(done, size));
            fragments.push_back({pt::iova{at.raw}, static_cast<std::uint32_t>(size)});
            done += size;
        }
        auto put = ring_.front().send(fragments.data(), fragments.size(), next_cookie_);
        if (!put && put.error().code == pt::errc::busy) {
            reclaim();
            put = ring_.front().send(fragments.data(), fragments.size(), next_cookie_);
        }
        got(put, "sending a packet");
        ++next_cookie_;
        sent_.push_back(frame);
    }
    void reclaim() {
        ring_.front().reclaim([&](std::uint64_t cookie) {
            if (cookie != next_returned_++) {
                throw broken("a packet came back from the ring twice, or out of order");
            }
            ++reclaimed_;
        });
    }

    story story_;
    std::filesystem::path capture_;
    qemu machine_;
    table_frames frames_;
    alignas(4096) bitmap_page bitmap_a_{};
    alignas(4096) bitmap_page bitmap_b_{};
    pt::vmx::io_bitmap bitmap_;
    pt::pci::config_routes<8> routes_;
    guest_ports::machine config_ports_;
    ept_table ept_;
    unsigned exits_ = 0;

    static constexpr pt::pci::function_address guest_nic{0, 0, 3, 0};
    pt::pci::function_address nic_{0, 0, 32, 0}; // not valid until it is found
    pt::pci::bar_list sized_;                    // with the host's addresses
    unsigned moves_ = 0;
    pt::range<pt::io_port> ports_;
    std::uint64_t mapped_ = 0;

    // Made in their steps, and at most once: a deque leaves them where they are.
    std::deque<nic_view> view_;
    std::array<pt::pci::msi_x_vector, 5> vectors_{};
    std::deque<remapping_driver> unit_;
    std::deque<dma_table> dma_;
    std::deque<nic_ring> ring_;

    std::array<pt::e1000e::tx_slot, ring_size> slots_{};
    std::vector<bytes> sent_;
    std::uint64_t next_cookie_ = 0;
    std::uint64_t next_returned_ = 0;
    std::size_t reclaimed_ = 0;
    std::uint64_t next_buffer_ = 0;

    pt::lapic::register_page apic_page_{};
    pt::lapic::inbox inbox_{};
    pt::lapic::local_apic<demo_time> apic_{apic_page_, inbox_, {}, {}};
    unsigned kicks_ = 0;
    pt::lapic::bus<one_vcpu> bus_{one_vcpu{&inbox_, &kicks_}};
    bool interrupts_enabled_ = false;
};

pt::pci::bar_place view_events::bar_changed(const pt::pci::bar_change& change) {
    return story->bar_changed(change);
}
void view_route::open(pt::pci::interrupt_source source, pt::pci::interrupt_message message) {
    story->message_opened(source, message);
}
void view_route::send(pt::pci::interrupt_source, pt::pci::interrupt_message message) {
    story->message_sent(message);
}

} // namespace

void run_passthrough(const passthrough_options& options) {
    if (options.capture.has_parent_path()) {
        std::filesystem::create_directories(options.capture.parent_path());
    }
    if (std::filesystem::exists(options.capture) &&
        !std::filesystem::is_regular_file(options.capture)) {
        throw broken(options.capture.string() + " is there already and is not a file");
    }
    std::filesystem::remove(options.capture); // QEMU would write over it, and no shorter
    passthrough{options}.run();
}

} // namespace demo
