// SPDX-License-Identifier: BSL-1.0
#include "nic.hpp"

#include "interrupts.hpp"
#include "io_apics.hpp"
#include "local_apic.hpp"
#include "output.hpp"

#include "../../kernel/command_line.hpp"

#include "pt/core/reg.hpp"
#include "pt/e1000e/reset.hpp"
#include "pt/e1000e/time_limit.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/enumerate.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"

namespace guest {
namespace {

namespace pci = pt::pci;
namespace e1000e = pt::e1000e;
using pci::command;

/// MDI Control: one access to a register of the PHY [82574].
struct mdic : pt::reg<mdic, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0020;
    enum class operation : std::uint8_t { write = 1, read = 2 };
    static constexpr bits<30, 30, bool, pt::access::read_only> error{};
    static constexpr bits<28, 28, bool> ready{};
    static constexpr bits<27, 26, operation> op{};
    static constexpr bits<25, 21, std::uint8_t> phy{}; ///< 1: the internal one
    static constexpr bits<20, 16, std::uint8_t> number{};
    static constexpr bits<15, 0, std::uint16_t> data{};
    static constexpr pt::field_list fields{error, ready, op, phy, number, data};
};

/// EEPROM Read, as the 8254x family has it: one word of the EEPROM.
struct eerd : pt::reg<eerd, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint32_t offset = 0x0014;
    static constexpr bits<31, 16, std::uint16_t, pt::access::read_only> data{};
    static constexpr bits<15, 8, std::uint8_t> word_address{};
    static constexpr bits<4, 4, bool, pt::access::read_only> done{};
    static constexpr bits<0, 0, bool> start{};
    static constexpr pt::field_list fields{data, word_address, done, start};
};

/// The address is in the first three words of the EEPROM. Hardware loads it into the receive
/// address at a reset; Bochs' model does not.
void load_address(kernel::mmio mmio) {
    std::uint16_t words[3]{};
    for (std::uint8_t i = 0; i != 3; ++i) {
        pt::write(mmio, eerd{eerd::start(true), eerd::word_address(i)});
        clock time;
        if (!e1000e::becomes_true(time, 10 * millisecond,
                                  [&] { return pt::read<eerd>(mmio)[eerd::done]; })) {
            return;
        }
        words[i] = pt::read<eerd>(mmio)[eerd::data];
    }
    pt::write(mmio, e1000e::ral{words[0] | std::uint32_t{words[1]} << 16});
    pt::write(mmio, e1000e::rah{e1000e::rah::bytes(words[2]), e1000e::rah::av(true)});
}

struct known {
    std::uint16_t device;
    e1000e::family members;
};
constexpr std::uint16_t intel = 0x8086;
constexpr known known_ones[] = {
    {0x10D3, e1000e::family::pci_express}, // 82574L
    {0x10F6, e1000e::family::pci_express}, // 82574LA
    {0x150C, e1000e::family::pci_express}, // 82583V
    {0x100E, e1000e::family::pci},         // 82540EM
    {0x100F, e1000e::family::pci},         // 82545EM
    {0x1004, e1000e::family::pci},         // 82543GC
};

const known* find_known(pci::identity id) {
    for (const known& each : known_ones) {
        if (id[pci::identity::vendor_id] == intel && id[pci::identity::device_id] == each.device) {
            return &each;
        }
    }
    return nullptr;
}

/// For the handler, which knows no object.
kernel::mmio handled{pt::hpa{0}};
std::uint32_t causes_seen = 0;

/// Takes the causes away: a wire must be down before the end of the interrupt.
void handle() {
    const auto causes = e1000e::read<e1000e::icr>(handled);
    e1000e::write(handled, causes);
    causes_seen |= causes.raw;
}

void set_handler(std::uint8_t vector, kernel::mmio registers) {
    handled = registers;
    on_vector(vector, handle);
}

pci::msi_message message(std::uint8_t vector) {
    return {0xFEE0'0000 | std::uint64_t{local_apic::id()} << 12, vector};
}

} // namespace

const char* name(interrupt_kind kind) {
    switch (kind) {
    case interrupt_kind::msi_x: return "MSI-X";
    case interrupt_kind::msi: return "MSI";
    case interrupt_kind::wire: break;
    }
    return "INTx";
}

void show(const mac_address& address) {
    for (unsigned i = 0; i != 6; ++i) {
        show(i == 0 ? "" : ":");
        show(digits{address.bytes[i], 2});
    }
}

std::uint32_t take_causes() {
    const std::uint32_t seen = causes_seen;
    causes_seen = 0;
    return seen;
}

pt::result<nic> nic::find() {
    kernel::port_config config = kernel::config();
    pci::function_address wanted{0, 0, 32, 0};
    if (const char* const told = kernel::told_after("nic=")) {
        if (const auto named = pci::function_address::parse(told, 7)) {
            wanted = *named;
        }
    }
    const auto functions = pci::scan_tree(config, 0);
    for (const pci::tree_function& each : functions) {
        const known* const found = find_known(each.id);
        if (found == nullptr || (wanted.valid() && wanted != each.address)) {
            continue;
        }
        nic one{each.address, found->members};
        one.bars_ = pci::size_bars(config, each.address);
        const auto memory = one.bars_.find(0);
        if (!memory) {
            return memory.error();
        }
        one.memory_ = *memory;
        return one;
    }
    return pt::error{pt::errc::absent, 0};
}

pt::result<pci::bar> nic::ports() const {
    for (const pt::result<pci::bar>& each : bars_) {
        if (each && each->kind == pci::bar_kind::io) {
            return each;
        }
    }
    return pt::error{pt::errc::absent, 0};
}

void nic::look_again() {
    kernel::port_config config = kernel::config();
    bars_ = pci::size_bars(config, function_);
    if (const auto memory = bars_.find(0)) {
        memory_ = *memory;
    }
}

pt::result<void> nic::move_memory(std::uint64_t address) {
    kernel::port_config config = kernel::config();
    const auto moved = pci::write_bar(config, function_, memory_, address);
    if (!moved) {
        return moved.error();
    }
    memory_ = *moved;
    return {};
}

void nic::turn_on() const {
    kernel::port_config config = kernel::config();
    pci::write(config, function_,
               pci::read<command>(config, function_)
                   .with(command::io_space(true), command::memory_space(true),
                         command::bus_master(true), command::interrupt_disable(false)));
}

void nic::turn_off() const {
    kernel::port_config config = kernel::config();
    pci::write(config, function_,
               pci::read<command>(config, function_)
                   .with(command::io_space(false), command::memory_space(false),
                         command::bus_master(false), command::interrupt_disable(true)));
}

pt::result<void> nic::bring_up() {
    turn_on();
    use_none();
    const auto done = e1000e::reset(registers(), clock{}, members_);
    if (!done) {
        return done.error();
    }
    if (loops_back_) { // the PHY keeps its state
        constexpr std::uint16_t negotiated_1000_full = 0x1140;
        if (const auto out = write_phy_control(negotiated_1000_full); !out) {
            return out;
        }
        loops_back_ = false;
    }
    kernel::mmio mmio = registers();
    if (members_ == e1000e::family::pci && e1000e::read<e1000e::ral>(mmio).raw == 0) {
        load_address(mmio);
    }
    return e1000e::set_link_up(mmio);
}

pt::result<void> nic::shut_down() {
    use_none();
    const auto done = e1000e::reset(registers(), clock{}, members_);
    turn_off();
    if (!done) {
        return done.error();
    }
    return {};
}

pt::result<void> nic::loop_back() {
    constexpr std::uint16_t loopback_1000_full = 0x4140;
    loops_back_ = true;
    return write_phy_control(loopback_1000_full);
}

pt::result<void> nic::write_phy_control(std::uint16_t value) {
    constexpr std::uint8_t control = 0; // IEEE 802.3, clause 22
    kernel::mmio mmio = registers();
    pt::write(mmio, mdic{mdic::op(mdic::operation::write), mdic::phy(1), mdic::number(control),
                         mdic::data(value)});
    clock time;
    const bool done = e1000e::becomes_true(time, 100 * millisecond,
                                           [&] { return pt::read<mdic>(mmio)[mdic::ready]; });
    if (!done || pt::read<mdic>(mmio)[mdic::error]) {
        return pt::error{pt::errc::time_out, mdic::offset};
    }
    return {};
}

mac_address nic::address() const {
    kernel::mmio mmio = registers();
    const std::uint32_t low = e1000e::read<e1000e::ral>(mmio).raw;
    const std::uint32_t high = e1000e::read<e1000e::rah>(mmio).raw;
    mac_address held;
    for (unsigned i = 0; i != 6; ++i) {
        held.bytes[i] = static_cast<std::uint8_t>(i < 4 ? low >> 8 * i : high >> 8 * (i - 4));
    }
    return held;
}

// ----------------------------------------------------------------------------------- interrupts

bool nic::has(interrupt_kind kind) const {
    kernel::port_config config = kernel::config();
    switch (kind) {
    case interrupt_kind::msi_x: return msi_x_table().has_value();
    case interrupt_kind::msi: return pci::read_msi(config, function_).has_value();
    case interrupt_kind::wire: break;
    }
    return pci::read<pci::interrupt_pin>(config, function_).raw != 0;
}

interrupt_kind nic::best_kind() const {
    if (kernel::told("interrupts=msi-x")) {
        return interrupt_kind::msi_x;
    }
    if (kernel::told("interrupts=msi")) {
        return interrupt_kind::msi;
    }
    if (kernel::told("interrupts=wire")) {
        return interrupt_kind::wire;
    }
    return has(interrupt_kind::msi_x) ? interrupt_kind::msi_x
           : has(interrupt_kind::msi) ? interrupt_kind::msi
                                      : interrupt_kind::wire;
}

std::uint32_t nic::enabled_causes() const {
    using e1000e::ims;
    return kind_ == interrupt_kind::msi_x
               ? ims{ims::rxq0(true), ims::txq0(true), ims::other(true)}.raw
               : ims{ims::txdw(true), ims::rxt0(true), ims::rxdmt0(true)}.raw;
}

void nic::use_none() {
    kernel::port_config config = kernel::config();
    if (e1000e::status{registers().read32(e1000e::status::offset)}.raw != ~std::uint32_t{0}) {
        mask();
    }
    static_cast<void>(pci::disable_msi(config, function_));
    if (const auto found =
            pci::capabilities(config, function_).find(pci::capability_id::msi_x, 12)) {
        using control = pci::msi_x_message_control;
        const auto before = pci::read<control>(config, function_, *found);
        if (before[control::enable]) {
            // QEMU 7.2 ends itself when MSI-X is turned off before the interval of EITR is over.
            pause_for(millisecond);
            pci::write(config, function_, *found, before.with(control::enable(false)));
        }
    }
    if (input_ != 0) {
        io_apics().mask(input_);
    }
}

pt::result<std::uint8_t> nic::use(interrupt_kind kind, std::uint8_t vector) {
    kernel::port_config config = kernel::config();
    use_none();
    kind_ = kind;
    kernel::mmio mmio = registers();
    static_cast<void>(e1000e::read<e1000e::icr>(mmio));
    set_handler(vector, mmio);
    if (kind == interrupt_kind::msi) {
        if (const auto enabled = pci::enable_msi(config, function_, message(vector)); !enabled) {
            return enabled.error();
        }
    } else if (kind == interrupt_kind::msi_x) {
        const auto table = msi_x_table();
        const auto found = pci::capabilities(config, function_).find(pci::capability_id::msi_x, 12);
        if (!table || !found) {
            return pt::error{pt::errc::absent, function_.source_id()};
        }
        const pci::msi_message sent = message(vector);
        kernel::mmio entry = *table;
        entry.write32(12, 1); // masked while it changes
        entry.write32(0, static_cast<std::uint32_t>(sent.address));
        entry.write32(4, static_cast<std::uint32_t>(sent.address >> 32));
        entry.write32(8, sent.data);
        entry.write32(12, 0);
        using control = pci::msi_x_message_control;
        pci::write(config, function_, *found,
                   pci::read<control>(config, function_, *found)
                       .with(control::enable(true), control::function_mask(false)));
        using e1000e::ivar;
        pt::write(mmio, ivar{ivar::rxq0_valid(true), ivar::txq0_valid(true),
                             ivar::other_valid(true)}); // all of them vector 0
    } else {
        if (input_ == 0) {
            const auto found = find_input();
            if (!found) {
                return found;
            }
        }
        vector = io_apics().vector_of(input_);
        set_handler(vector, mmio);
        io_apics().open_level(input_);
    }
    unmask();
    return vector;
}

/// No table that a program can read by itself tells where a wire ends: firmware's says it in a
/// language of its own [acpi]. So it is pulled, and the inputs are watched, the likely ones first.
pt::result<std::uint8_t> nic::find_input() {
    kernel::port_config config = kernel::config();
    const std::uint8_t line = pci::read<pci::interrupt_line>(config, function_).raw;
    if (line != 0 && line < 24 && line >= 16 && arrives_at(line)) {
        return line;
    }
    for (unsigned input = 16; input != 24; ++input) {
        if (arrives_at(input)) {
            return static_cast<std::uint8_t>(input);
        }
    }
    if (line > 2 && line < 16 && arrives_at(line)) {
        return line;
    }
    for (const unsigned input : {5U, 9U, 10U, 11U}) {
        if (arrives_at(input)) {
            return static_cast<std::uint8_t>(input);
        }
    }
    return pt::error{pt::errc::absent, line};
}

bool nic::arrives_at(unsigned input) {
    const std::uint8_t vector = io_apics().vector_of(input);
    set_handler(vector, registers());
    forget_interrupts();
    io_apics().open_level(input);
    unmask();
    request_interrupt();
    const bool came = wait_until([vector] { return taken(vector) != 0; }, 5 * millisecond);
    mask();
    io_apics().mask(input);
    kernel::mmio mmio = registers();
    static_cast<void>(e1000e::read<e1000e::icr>(mmio));
    on_vector(vector, nullptr);
    if (came) {
        input_ = input;
    }
    return came;
}

void nic::request_interrupt() {
    using e1000e::ics;
    kernel::mmio mmio = registers();
    pt::write(mmio, kind_ == interrupt_kind::msi_x ? ics{ics::txq0(true)} : ics{ics::rxdmt0(true)});
}

void nic::mask() {
    kernel::mmio mmio = registers();
    pt::write(mmio, e1000e::imc{~std::uint32_t{0}});
}

void nic::unmask() {
    kernel::mmio mmio = registers();
    pt::write(mmio, e1000e::ims{enabled_causes()});
}

void nic::mask_message(bool masked) {
    if (const auto table = msi_x_table()) {
        kernel::mmio entry = *table;
        entry.write32(12, masked ? 1 : 0);
    }
}

bool nic::is_message_pending() const {
    const auto pending = msi_x_pending_bits();
    if (!pending) {
        return false;
    }
    kernel::mmio bits = *pending;
    return (bits.read32(0) & 1) != 0;
}

pt::result<pci::msi_x_layout> nic::msi_x() const {
    kernel::port_config config = kernel::config();
    return pci::read_msi_x(config, function_);
}

pt::result<kernel::mmio> nic::part(const pci::bar_part& where) const {
    const auto bar = pci::bar_of(where, bars_);
    if (!bar) {
        return bar.error();
    }
    return kernel::mmio{pt::hpa{bar->address + where.offset}};
}

pt::result<kernel::mmio> nic::msi_x_table() const {
    const auto layout = msi_x();
    if (!layout) {
        return layout.error();
    }
    return part(layout->table);
}

pt::result<kernel::mmio> nic::msi_x_pending_bits() const {
    const auto layout = msi_x();
    if (!layout) {
        return layout.error();
    }
    return part(layout->pending_bits);
}

} // namespace guest
