// SPDX-License-Identifier: BSL-1.0
//
// A guest in front of a virtual_function_view: arbitrary configuration accesses, trapped memory
// accesses, interrupt requests, refusals by the VMM, and a device whose registers change by
// themselves. Two kinds of device:
//
// - sound ones, whose capabilities come from the input. The oracle is a second model of plain bytes
//   and masks, one mask for each thing that a guest may do with a bit, worked out from the layout
//   while it is made. Every read, every write that the device sees, every access that is forwarded,
//   the map of the BARs and the set of open interrupts agree with it, and each interrupt is sent as
//   often as it should be.
// - broken ones: bytes are spoilt, or change from one read to the next. Then the invariants remain:
//   the device's BARs are never written, nothing is mapped while decoding is off, nothing outside a
//   BAR and nothing of the MSI-X table is ever forwarded.
#include "pt/pci/virtual_function_view.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace {

using pt::mmio_width;
using pt::width;
using pt::pci::bar;
using pt::pci::bar_kind;
using pt::pci::interrupt_kind;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

struct input {
    const std::uint8_t* at;
    std::size_t left;

    unsigned byte() {
        if (left == 0) {
            return 0;
        }
        --left;
        return *at++;
    }
    unsigned below(unsigned end) { return byte() % end; }
    bool flip() { return (byte() & 1) != 0; }
    std::uint32_t dword() {
        std::uint32_t value = byte();
        for (unsigned i = 1; i < 4; ++i) {
            value |= static_cast<std::uint32_t>(byte()) << 8 * i;
        }
        return value;
    }
    /// A value that guests like, or any.
    std::uint32_t value() {
        constexpr std::uint32_t liked[] = {
            0xFFFF'FFFF, 0xFFFF'F800, 0xFFFF'FFFE, 0,           1,           2,           3,
            4,           6,           7,           0x0407,      0xC000'0000, 0xFEE0'0000, 0x8000,
            0xC000,      0x0011'0011, 0xE000'0001, 0x0001'0000, 0x0000'FFFF, 0x8000'0000};
        const unsigned choice = byte();
        return choice < 160 ? liked[choice % 20] : dword();
    }
};

constexpr pt::pci::function_address host_address{0, 0x42, 7, 3};
constexpr std::uint64_t nowhere = ~std::uint64_t{0};
constexpr unsigned most_vectors = 80;

struct access {
    unsigned where; ///< the BAR, for memory
    std::uint64_t offset;
    unsigned size;
    std::uint64_t value;
    bool is_write;
    friend bool operator==(const access&, const access&) = default;
};

using source = std::pair<unsigned, unsigned>; // kind, vector
struct message {
    std::uint64_t address;
    std::uint32_t data;
    friend bool operator==(const message&, const message&) = default;
};

/// The device, and what the VMM hears.
struct host {
    std::uint8_t bytes[4096]{};
    std::uint8_t writable[4096]{};
    std::uint8_t write_1_to_clear[4096]{};
    input* noise = nullptr; ///< a device that answers anything

    std::vector<access> config_writes;
    std::vector<access> forwarded;
    unsigned forwarded_reads_answer = 0;

    bar bars[7]{}; ///< size 0 where there is none
    std::uint64_t places[7]{};
    bool refused[7]{};        ///< the BAR is not where it was last asked for
    unsigned refuse_next = 0; ///< two bits a call; see events
    std::vector<std::pair<std::uint64_t, std::uint64_t>> moves[7];
    bool mapped_in_this_step = false, unmapped_after_mapped = false;
    unsigned resets = 0;
    std::vector<std::pair<unsigned, unsigned>> power;

    std::map<source, message> open;
    std::map<source, unsigned> sent;
    unsigned used_kind = 0;
    unsigned used_vectors = 0;
    std::uint64_t held_back = 0;
};

struct config {
    host* at;

    static void check(pt::pci::function_address function, std::uint16_t offset, unsigned size) {
        demand(function == host_address);
        demand(size == 1 || size == 2 || size == 4);
        demand(offset % 4 + size <= 4 && offset + size <= 4096);
    }
    std::uint32_t read(pt::pci::function_address function, std::uint16_t offset, width size) {
        const auto count = static_cast<unsigned>(size);
        check(function, offset, count);
        std::uint32_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            unsigned byte = at->bytes[offset + i];
            if (at->noise != nullptr && offset >= 0x34 && at->noise->below(4) == 0) {
                byte = at->noise->byte();
            }
            value |= std::uint32_t{byte} << 8 * i;
        }
        return value;
    }
    void write(pt::pci::function_address function, std::uint16_t offset, width size,
               std::uint32_t value) {
        const auto count = static_cast<unsigned>(size);
        check(function, offset, count);
        demand((std::uint64_t{value} >> 8 * count) == 0);
        demand(offset < 0x10 || offset >= 0x34); // a BAR of the device
        at->config_writes.push_back({0, offset, count, value, true});
        for (unsigned i = 0; i < count; ++i) {
            const unsigned arriving = value >> 8 * i & 0xFF;
            const unsigned mask = at->writable[offset + i];
            unsigned now = at->bytes[offset + i];
            now &= ~(arriving & at->write_1_to_clear[offset + i]);
            at->bytes[offset + i] = static_cast<std::uint8_t>((now & ~mask) | (arriving & mask));
        }
    }
};

struct events {
    host* at;

    /// Two bits say 1: the BAR is nowhere; 2: what is to appear stays where it was; else it is done.
    pt::pci::bar_place bar_changed(const pt::pci::bar_change& change) {
        const unsigned n = change.device.index;
        demand(n < 7 && change.device == at->bars[n] && change.device.size != 0);
        const std::uint64_t from = change.from ? change.from.address() : nowhere;
        const std::uint64_t to = change.to ? change.to.address() : nowhere;
        demand(from == at->places[n] && to != from);
        if (to != nowhere) {
            demand(to != 0 && to % change.device.size == 0);
            const std::uint64_t last = to + (change.device.size - 1);
            demand(last >= to);
            demand(change.device.kind == bar_kind::mem64 ||
                   last <= (change.device.kind == bar_kind::io      ? 0xFFFF
                            : change.device.kind == bar_kind::mem1m ? 0xF'FFFF
                                                                    : 0xFFFF'FFFF));
        }
        at->moves[n].push_back({from, to});
        at->mapped_in_this_step |= to != nowhere;
        at->unmapped_after_mapped |= to == nowhere && at->mapped_in_this_step;
        const unsigned answer = to == nowhere ? 0 : at->refuse_next & 3;
        at->refuse_next >>= 2;
        at->places[n] = answer == 1 ? nowhere : answer == 2 ? from : to;
        at->refused[n] = at->places[n] != to;
        return answer == 1 ? pt::pci::bar_place{} : answer == 2 ? change.from : change.to;
    }
    void power_state_changed(pt::pci::power_state from, pt::pci::power_state to) {
        at->power.push_back({static_cast<unsigned>(from), static_cast<unsigned>(to)});
    }
    void reset() { ++at->resets; }
};

struct route {
    host* at;

    static source of(pt::pci::interrupt_source s) {
        return {static_cast<unsigned>(s.kind), s.vector};
    }
    void use(pt::pci::interrupt_kind kind, std::uint16_t vectors) {
        const unsigned number = static_cast<unsigned>(kind);
        demand(number != at->used_kind || vectors != at->used_vectors); // else it is no news
        for (const auto& [other, ignored] : at->open) {
            demand(other.first == number); // the other kind was to be closed before
        }
        at->used_kind = number;
        at->used_vectors = vectors;
    }
    void open(pt::pci::interrupt_source s, pt::pci::interrupt_message m) {
        const message said{m.address, m.data};
        const auto found = at->open.find(of(s));
        demand(found == at->open.end() || !(found->second == said)); // that is no news
        for (const auto& [other, ignored] : at->open) {
            demand(other.first == of(s).first); // the other kind was to be closed before
        }
        demand(of(s).first == at->used_kind && s.vector < at->used_vectors);
        at->open[of(s)] = said;
    }
    void close(pt::pci::interrupt_source s) { demand(at->open.erase(of(s)) == 1); }
    void send(pt::pci::interrupt_source s, pt::pci::interrupt_message m) {
        const auto found = at->open.find(of(s));
        demand(found != at->open.end() && found->second == message{m.address, m.data});
        ++at->sent[of(s)];
    }
    bool pending(pt::pci::interrupt_source s) {
        demand(at->open.count(of(s)) == 0);
        return s.vector < 64 && (at->held_back >> s.vector & 1) != 0;
    }
};

struct memory {
    host* at;

    std::uint64_t read(std::uint8_t bar, std::uint64_t offset, mmio_width size) {
        at->forwarded.push_back({bar, offset, static_cast<unsigned>(size), 0, false});
        return 0x0123'4567'89AB'CDEF & all_ones(size);
    }
    void write(std::uint8_t bar, std::uint64_t offset, mmio_width size, std::uint64_t value) {
        at->forwarded.push_back({bar, offset, static_cast<unsigned>(size), value, true});
    }
};

using view_type = pt::pci::virtual_function_view<config, events, route, memory>;

/// What the guest should see: per byte the value of what is not the device's, and what may be done
/// with each bit.
struct model {
    host& real;

    std::uint8_t value[4096]{};
    std::uint8_t own[4096]{};
    std::uint8_t device[4096]{};
    std::uint8_t clear[4096]{};
    std::uint8_t seen[4096]{}; ///< the device's, read-only
    unsigned space = 256;

    // Where things are; 0 for nowhere.
    unsigned pm = 0, msi = 0, msi_x = 0, express = 0, features = 0;
    bool d1 = false, d2 = false, keeps_state = false, express_flr = false, features_flr = false;
    bool wide = false, masks = false;
    unsigned msi_log2 = 0;
    bool pin = false;

    unsigned table_bar = 0, pba_bar = 0, vectors = 0, device_vectors = 0;
    std::uint64_t table_at = 0, pba_at = 0;
    std::uint32_t table[most_vectors][4]{};
    bool x_pending[most_vectors]{};
    std::uint32_t m_pending = 0;

    std::uint32_t registers[7]{}; ///< BARs
    std::uint32_t written[7]{};
    std::uint64_t places[7]{nowhere, nowhere, nowhere, nowhere, nowhere, nowhere, nowhere};
    int half = -1; ///< a mem64 that was written last

    explicit model(host& h) : real{h} {}

    void put(unsigned at, unsigned count, std::uint64_t v, std::uint8_t* where) {
        for (unsigned i = 0; i < count; ++i) {
            where[at + i] = static_cast<std::uint8_t>(v >> 8 * i);
        }
    }
    [[nodiscard]] std::uint32_t get(unsigned at, unsigned count) const {
        std::uint32_t v = 0;
        for (unsigned i = 0; i < count; ++i) {
            v |= std::uint32_t{value[at + i]} << 8 * i;
        }
        return v;
    }
    void zero(unsigned first, unsigned end) {
        for (unsigned i = first; i < end; ++i) {
            value[i] = own[i] = device[i] = clear[i] = seen[i] = 0;
        }
    }
    void constant(unsigned first, unsigned end) {
        for (unsigned i = first; i < end; ++i) {
            zero(i, i + 1);
            value[i] = real.bytes[i];
        }
    }
    void read_only(unsigned first, unsigned end) {
        for (unsigned i = first; i < end; ++i) {
            zero(i, i + 1);
            seen[i] = 0xFF;
        }
    }

    // ---- state

    [[nodiscard]] unsigned command() const { return get(4, 2); }
    [[nodiscard]] unsigned power() const { return pm != 0 ? value[pm + 4] & 3U : 0; }
    [[nodiscard]] bool awake() const { return power() == 0; }
    [[nodiscard]] bool x_on() const { return msi_x != 0 && (value[msi_x + 3] & 0x80) != 0; }
    [[nodiscard]] bool m_on() const { return msi != 0 && (value[msi + 2] & 1) != 0; }

    [[nodiscard]] std::uint32_t m_used() const {
        const unsigned log2 = msi == 0 ? 0 : value[msi + 2] >> 4 & 7U;
        return log2 == 5 ? 0xFFFF'FFFF : (std::uint32_t{1} << (1U << log2)) - 1;
    }
    [[nodiscard]] std::map<source, message> should_be_open() const {
        std::map<source, message> open;
        if (!awake()) {
            return open;
        }
        if (x_on()) {
            for (unsigned n = 0; n < vectors; ++n) {
                if ((value[msi_x + 3] & 0x40) == 0 && (table[n][3] & 1) == 0) {
                    open[{2, n}] = {std::uint64_t{table[n][1]} << 32 | table[n][0], table[n][2]};
                }
            }
        } else if (m_on()) {
            const unsigned log2 = value[msi + 2] >> 4 & 7U;
            const unsigned data = msi + (wide ? 12U : 8U);
            const std::uint64_t address =
                get(msi + 4, 4) | (wide ? std::uint64_t{get(msi + 8, 4)} << 32 : 0);
            for (unsigned n = 0; n < 1U << log2; ++n) {
                if (!masks || (get(data + 4, 4) >> n & 1) == 0) {
                    open[{1, n}] = {address, (get(data, 2) >> log2 << log2) + n};
                }
            }
        } else if (pin && (command() & 0x400) == 0) {
            open[{0, 0}] = {0, 0};
        }
        return open;
    }
    /// Which kind of interrupt, and how many vectors of it.
    [[nodiscard]] std::pair<unsigned, unsigned> should_be_used() const {
        if (awake() && x_on()) {
            return {2, vectors};
        }
        if (awake() && m_on()) {
            return {1, 1U << (value[msi + 2] >> 4 & 7U)};
        }
        return {0, awake() && pin && (command() & 0x400) == 0 ? 1 : 0};
    }
    [[nodiscard]] std::uint32_t m_pending_bits() const {
        std::uint32_t bits = m_pending & m_used();
        if (m_on() && awake() && !x_on()) {
            const auto open = should_be_open();
            for (unsigned n = 0; n < 32; ++n) {
                if ((m_used() >> n & 1) != 0 && open.count({1, n}) == 0 &&
                    (real.held_back >> n & 1) != 0) {
                    bits |= std::uint32_t{1} << n;
                }
            }
        }
        return bits;
    }

    // ---- BARs

    [[nodiscard]] int bar_of(unsigned at) const { // the register in that dword, or -1
        return at >= 0x10 && at < 0x28   ? static_cast<int>(at - 0x10) / 4
               : at >= 0x30 && at < 0x34 ? 6
                                         : -1;
    }
    [[nodiscard]] unsigned first_of(unsigned n) const {
        return n > 0 && n < 6 && real.bars[n - 1].size != 0 &&
                       real.bars[n - 1].kind == bar_kind::mem64
                   ? n - 1
                   : n;
    }
    [[nodiscard]] std::uint32_t bar_mask(unsigned n) const {
        const bar& one = real.bars[first_of(n)];
        if (one.size == 0) {
            return 0;
        }
        const std::uint64_t mask = ~(one.size - 1);
        if (first_of(n) != n) {
            return static_cast<std::uint32_t>(mask >> 32);
        }
        const auto low = static_cast<std::uint32_t>(mask);
        switch (one.kind) {
        case bar_kind::io: return low & 0xFFFF'FFFC;
        case bar_kind::mem1m: return low & 0x000F'FFF0;
        case bar_kind::rom: return (low & 0xFFFF'F800) | 1;
        default: return low & 0xFFFF'FFF0;
        }
    }
    [[nodiscard]] std::uint32_t bar_flags(unsigned n) const {
        const bar& one = real.bars[n];
        if (n == 6 || one.size == 0) {
            return 0;
        }
        const std::uint32_t type = one.kind == bar_kind::io      ? 1
                                   : one.kind == bar_kind::mem1m ? 2
                                   : one.kind == bar_kind::mem64 ? 4
                                                                 : 0;
        return type | (one.prefetchable ? 8 : 0);
    }
    /// Where the BAR in register n should be, with its registers as they are.
    [[nodiscard]] std::uint64_t wanted(unsigned n) const {
        const bar& one = real.bars[n];
        const bool io = one.kind == bar_kind::io;
        const bool decoded = one.size != 0 && awake() && (command() & (io ? 1U : 2U)) != 0 &&
                             (one.kind != bar_kind::rom || (registers[6] & 1) != 0);
        if (!decoded) {
            return nowhere;
        }
        const bool wide_bar = one.kind == bar_kind::mem64;
        const std::uint32_t low = io ? 0x3 : one.kind == bar_kind::rom ? 0x7FF : 0xF;
        // Where the low half has no address bit, it is the upper half alone that can be probed.
        const bool low_probed = bar_mask(n) != 0 && (written[n] | low) == 0xFFFF'FFFF;
        if (low_probed || (wide_bar && written[n + 1] == 0xFFFF'FFFF)) {
            return places[n];
        }
        const std::uint64_t at =
            (registers[n] & ~low) | (wide_bar ? std::uint64_t{registers[n + 1]} << 32 : 0);
        const std::uint64_t end = io                            ? 0xFFFF
                                  : one.kind == bar_kind::mem1m ? 0xF'FFFF
                                  : wide_bar                    ? ~std::uint64_t{0}
                                                                : 0xFFFF'FFFF;
        return at == 0 || at > end ? nowhere : at;
    }

    // ---- what happens

    std::vector<access> device_writes;

    void stop_device() {
        const unsigned now = real.bytes[4] | static_cast<unsigned>(real.bytes[5]) << 8;
        if ((now & 4) != 0 && now != 0xFFFF) { // all ones: nobody is there
            device_writes.push_back({0, 4, 2, now & ~4U, true});
        }
    }
    void reset() {
        for (unsigned i = 0; i < 4096; ++i) {
            value[i] = static_cast<std::uint8_t>(value[i] & ~own[i]);
        }
        for (unsigned n = 0; n < 7; ++n) {
            registers[n] = bar_flags(n);
            written[n] = 0;
        }
        for (unsigned n = 0; n < most_vectors; ++n) {
            table[n][0] = table[n][1] = table[n][2] = 0;
            table[n][3] = 1;
            x_pending[n] = false;
        }
        m_pending = 0;
        half = -1;
    }

    unsigned resets = 0;
    std::vector<std::pair<unsigned, unsigned>> power_changes;

    [[nodiscard]] std::uint32_t read(unsigned at, unsigned count) const {
        std::uint32_t v = 0;
        for (unsigned i = 0; i < count; ++i) {
            const unsigned byte = at + i;
            const unsigned theirs = device[byte] | clear[byte] | seen[byte];
            unsigned one = (value[byte] & ~theirs) | (real.bytes[byte] & theirs);
            if (const int n = bar_of(byte); n >= 0) {
                one = registers[n] >> 8 * (byte & 3) & 0xFF;
            }
            const unsigned pending = msi + (wide ? 20U : 16U);
            if (msi != 0 && masks && byte >= pending && byte < pending + 4) {
                one = m_pending_bits() >> 8 * (byte - pending) & 0xFF;
            }
            v |= std::uint32_t{one} << 8 * i;
        }
        return v;
    }

    void write(unsigned at, unsigned count, std::uint32_t v) {
        const unsigned power_before = power();
        const std::uint8_t* const before = value;
        const unsigned low_before = pm != 0 ? before[pm + 4] : 0U;
        bool passes = false;
        std::uint32_t to_device = 0;
        bool flr = false;
        for (unsigned i = 0; i < count; ++i) {
            const unsigned byte = at + i;
            const unsigned arriving = v >> 8 * i & 0xFF;
            if (const int n = bar_of(byte); n >= 0) {
                const unsigned shift = 8 * (byte & 3);
                const auto r = static_cast<unsigned>(n);
                written[r] = (written[r] & ~(0xFFU << shift)) | arriving << shift;
                if (real.bars[first_of(r)].size != 0) {
                    registers[r] =
                        (written[r] & bar_mask(r)) | (first_of(r) == r ? bar_flags(r) : 0);
                }
                continue;
            }
            value[byte] =
                static_cast<std::uint8_t>((value[byte] & ~own[byte]) | (arriving & own[byte]));
            const unsigned passed = device[byte] | clear[byte];
            passes |= passed != 0;
            to_device |= ((real.bytes[byte] & ~passed) | (arriving & passed)) << 8 * i;
            flr |= express != 0 && express_flr && byte == express + 9 && (arriving & 0x80) != 0;
            flr |= features != 0 && features_flr && byte == features + 4 && (arriving & 1) != 0;
        }
        if (passes) {
            device_writes.push_back({0, at, count, to_device, true});
        }
        if (msi != 0) {
            const unsigned asked = value[msi + 2] >> 4 & 7U;
            if (asked > msi_log2) {
                value[msi + 2] = static_cast<std::uint8_t>((value[msi + 2] & 0x8F) | msi_log2 << 4);
            }
        }
        if (power() != power_before) {
            if ((power() == 1 && !d1) || (power() == 2 && !d2)) {
                value[pm + 4] = static_cast<std::uint8_t>(low_before);
            } else {
                power_changes.push_back({power_before, power()});
                if (power_before == 3 && power() == 0 && !keeps_state) {
                    flr = true;
                }
            }
        }
        reset_wanted = flr;
    }
    bool reset_wanted = false;
};

/// The model's and the device's answer to one step of the script.
struct world {
    host real{};
    model expected{real};
    bool sound = true;
    std::unique_ptr<view_type> view;
    pt::pci::msi_x_vector vectors[most_vectors]{};

    // ---------------------------------------------------------------- after each step

    void begin() {
        real.config_writes.clear();
        real.forwarded.clear();
        for (auto& each : real.moves) {
            each.clear();
        }
        real.mapped_in_this_step = real.unmapped_after_mapped = false;
        real.resets = 0;
        real.power.clear();
        real.sent.clear();
        expected.device_writes.clear();
        expected.resets = 0;
        expected.power_changes.clear();
        expected.reset_wanted = false;
    }

    void settle_model() {
        // A step that was not refused leaves each BAR where its registers say.
        for (unsigned n = 0; n < 7; ++n) {
            if (real.bars[n].size == 0) {
                demand(real.moves[n].empty() && real.places[n] == nowhere);
                continue;
            }
            const std::uint64_t now = real.places[n];
            const std::uint64_t want = expected.wanted(n);
            const bool waits = expected.half == static_cast<int>(n);
            const bool stayed = now == expected.places[n];
            demand(now == want || (real.refused[n] && (now == nowhere || stayed)) ||
                   (waits && stayed));
            demand(real.moves[n].size() <= 2);
            expected.places[n] = now;
            const pt::pci::bar_place told = view->place(static_cast<std::uint8_t>(n));
            demand(told ? told.address() == now : now == nowhere);
        }
    }

    std::map<source, unsigned> expected_sends;

    void end() {
        if (!sound) {
            for (const access& one : real.forwarded) {
                demand(one.where < 7 && real.bars[one.where].size >= one.size &&
                       one.offset <= real.bars[one.where].size - one.size);
                for (const auto& part : {view->msi_x().table, view->msi_x().pending_bits}) {
                    demand(part.bar != one.where || part.size == 0 ||
                           one.offset + one.size <= part.offset ||
                           part.offset + part.size <= one.offset);
                }
            }
            return;
        }
        demand(real.config_writes == expected.device_writes);
        demand(real.resets == expected.resets && real.power == expected.power_changes);
        settle_model();
        const auto open = expected.should_be_open();
        demand(real.open == open);
        demand(std::pair(real.used_kind, real.used_vectors) == expected.should_be_used());
        // What was pending and is open is sent, once.
        for (const auto& [which, ignored] : open) {
            if (which.first == 2 && expected.x_pending[which.second]) {
                expected.x_pending[which.second] = false;
                ++expected_sends[which];
            }
            if (which.first == 1 && (expected.m_pending >> which.second & 1) != 0) {
                expected.m_pending &= ~(std::uint32_t{1} << which.second);
                ++expected_sends[which];
            }
        }
        demand(real.sent == expected_sends);
        expected_sends.clear();
    }

    /// Nothing is mapped while decoding is off, and no interrupt is open below D0: also of devices
    /// about which nothing else is known.
    void invariants() {
        const std::uint32_t command = view->read(4, width::word);
        for (unsigned n = 0; n < 7; ++n) {
            const unsigned bit = real.bars[n].kind == bar_kind::io ? 1 : 2;
            demand(real.places[n] == nowhere || (command & bit) != 0);
        }
        demand(real.open.count({0, 0}) == 0 || real.open.size() == 1);
    }

    // ---------------------------------------------------------------- the device

    void make_bars(input& in) {
        for (auto& place : real.places) {
            place = nowhere;
        }
        for (unsigned n = 0; n < 6; ++n) {
            const unsigned choice = in.byte();
            bar& one = real.bars[n];
            one.index = static_cast<std::uint8_t>(n);
            one.offset = static_cast<std::uint16_t>(0x10 + 4 * n);
            one.address = 0xE000'0000;
            one.prefetchable = (choice & 0x40) != 0;
            const unsigned log2 = choice >> 3 & 7;
            switch (choice & 7) {
            case 0: one.size = 0; break;
            case 1:
                one.kind = bar_kind::io;
                one.prefetchable = false;
                one.size = std::uint64_t{4} << log2 * 2 % 14;
                break;
            case 2:
                one.kind = bar_kind::mem1m;
                one.size = std::uint64_t{16} << 2 * log2;
                break;
            case 3:
            case 4:
                one.kind = bar_kind::mem32;
                one.size = std::uint64_t{16} << 3 * log2;
                break;
            default:
                if (n == 5) {
                    break;
                }
                one.kind = bar_kind::mem64;
                one.size = std::uint64_t{16} << 7 * log2;
                ++n;
            }
        }
        const unsigned choice = in.byte();
        if ((choice & 1) != 0) {
            real.bars[6] = {bar_kind::rom, false, 6, 0x30, 0, std::uint64_t{2048} << (choice >> 4)};
        }
    }
    [[nodiscard]] pt::pci::bar_list list() const {
        const auto get = [&](std::uint8_t n) -> pt::result<bar> {
            if (real.bars[n].size == 0) {
                return pt::error{pt::errc::absent, n};
            }
            return real.bars[n];
        };
        return pt::pci::bar_list::collect(pt::pci::header_layout::device, get, get);
    }

    void device_put(unsigned at, unsigned count, std::uint64_t v) {
        expected.put(at, count, v, real.bytes);
    }

    /// A memory BAR and a multiple of 8 in it with room for `size` bytes; false if there is none.
    bool room(input& in, std::uint64_t size, unsigned& bar_index, std::uint64_t& offset) {
        const unsigned start = in.below(6);
        for (unsigned i = 0; i < 6; ++i) {
            const unsigned n = (start + i) % 6;
            const bar& one = real.bars[n];
            if (one.size >= size && one.size != 0 && one.kind != bar_kind::io) {
                const std::uint64_t most = (one.size - size) / 8;
                const std::uint64_t limit = most < 0x1FF'FFFF ? most : 0x1FF'FFFF;
                const unsigned choice = in.byte();
                offset = 8 * (choice == 0 ? 0 : choice == 1 ? limit : in.dword() % (limit + 1));
                bar_index = n;
                return true;
            }
        }
        return false;
    }

    struct placed {
        unsigned id, at, end;
        bool shown;
    };

    bool open(input& in) {
        const unsigned mode = in.byte();
        sound = (mode & 3) != 0;
        make_bars(in);
        model& m = expected;

        // The header.
        for (unsigned i = 0; i < 0x40; ++i) {
            real.bytes[i] = static_cast<std::uint8_t>(0x35 * i + 1);
        }
        device_put(0, 4, 0x1234'8086);
        device_put(4, 2, in.byte() | 0x0400U);
        device_put(6, 2, in.byte() << 8 | 0x28);
        real.bytes[0x0E] = static_cast<std::uint8_t>(in.flip() ? 0x80 : 0);
        m.put(4, 2, 0x0547, real.writable);
        real.write_1_to_clear[7] = 0xF9;
        m.put(0x0C, 2, 0xFFFF, real.writable);
        real.bytes[0x3D] = static_cast<std::uint8_t>(in.below(5));
        m.pin = real.bytes[0x3D] != 0;
        for (unsigned i = 0x40; i < 4096; ++i) {
            real.bytes[i] = static_cast<std::uint8_t>(i * 7 + (i >> 8));
            real.writable[i] = static_cast<std::uint8_t>(0xA5 ^ i);
            real.write_1_to_clear[i] = static_cast<std::uint8_t>(~real.writable[i] & 0x1F);
        }
        device_put(0x100, 4, 0);

        // The capabilities, at growing offsets, linked in this or in the opposite order.
        pt::pci::view_options options;
        options.multi_function = in.flip();
        if ((mode & 0x10) != 0) {
            options.shown_as = pt::pci::identity{0xABCD'1AF4};
        }
        std::vector<placed> all;
        unsigned used = 0;
        bool has_express = false;
        unsigned msi_x_in_device = 0;
        const bool backwards = in.flip();
        const unsigned vmm_vectors = in.below(most_vectors);
        for (unsigned at = 0x40 + 4 * in.below(4); all.size() < 10;) {
            constexpr unsigned kinds[] = {0x01, 0x05, 0x11, 0x10, 0x13,
                                          0x09, 0x03, 0x12, 0x14, 0x0D};
            const unsigned choice = in.byte();
            if (choice >= 240 || in.left == 0) {
                break;
            }
            const unsigned id = kinds[choice % 10];
            const bool repeatable = id == 0x09 || id == 0x03;
            if (!repeatable && (used >> id & 1) != 0) {
                continue;
            }
            used |= 1U << id;
            const unsigned detail = in.byte();
            unsigned size = 8;
            if (id == 0x05) {
                m.wide = (detail & 1) != 0;
                m.masks = (detail & 2) != 0;
                m.msi_log2 = (detail >> 2) % 6;
                size = (m.wide ? 12U : 8U) + (m.masks ? 12U : 4U);
                device_put(at + 2, 2,
                           m.msi_log2 << 1 | (m.wide ? 0x80U : 0) | (m.masks ? 0x100U : 0) |
                               (detail & 0x40 ? 0x71U : 0));
                m.put(at + 2, 2, 0x0071, real.writable);
            } else if (id == 0x11) {
                size = 12;
                m.device_vectors = 1 + detail % most_vectors;
                std::uint64_t offset = 0;
                if (!room(in, m.device_vectors * 16U, m.table_bar, m.table_at) ||
                    !room(in, (m.device_vectors + 63) / 64 * 8, m.pba_bar, offset)) {
                    continue;
                }
                m.pba_at = offset;
                msi_x_in_device = at;
                device_put(at + 2, 2, (m.device_vectors - 1) | (detail & 0x80 ? 0x8000U : 0));
                device_put(at + 4, 4, m.table_at | m.table_bar);
                device_put(at + 8, 4, m.pba_at | m.pba_bar);
            } else if (id == 0x10) {
                has_express = true;
                const bool second = (detail & 1) != 0;
                const bool linked = (detail & 2) != 0;
                size = second ? (linked ? 0x34 : 0x2C) : (linked ? 0x14 : 0x0C);
                device_put(at + 2, 2, (second ? 2U : 1U) | (linked ? 0U : 0x90U));
                m.express_flr = (detail & 4) != 0;
                device_put(at + 4, 4, 0x0123'8FFDU | (m.express_flr ? 0x1000'0000U : 0));
                m.put(at + 8, 2, 0x7FFF, real.writable);
                m.put(at + 8, 2, 0, real.write_1_to_clear);
                real.bytes[at + 9] &= 0x7F;
                m.put(at + 10, 2, 0, real.writable);
                m.put(at + 10, 2, 0x004F, real.write_1_to_clear);
            } else if (id == 0x13) {
                m.features_flr = (detail & 2) != 0;
                device_put(at + 2, 1, 6);
                device_put(at + 3, 1, detail & 3);
            } else if (id == 0x01) {
                m.d1 = (detail & 1) != 0;
                m.d2 = (detail & 2) != 0;
                m.keeps_state = (detail & 4) != 0;
                device_put(at + 2, 2,
                           1 + (detail >> 4) % 3 | (m.d1 ? 0x200U : 0) | (m.d2 ? 0x400U : 0) |
                               0xF9F8U);
                device_put(at + 4, 2, 0x8103 | (m.keeps_state ? 8U : 0));
            }
            if (at + size > 256) {
                if (id == 0x11) {
                    msi_x_in_device = 0;
                    m.device_vectors = 0;
                }
                has_express = has_express && id != 0x10;
                break;
            }
            device_put(at, 2, id);
            bool shown = id == 0x01 || id == 0x05 || id == 0x09 || id == 0x10 || id == 0x11 ||
                         id == 0x12 || id == 0x13;
            if ((in.byte() & 7) == 0) {
                const auto which = static_cast<pt::pci::capability_id>(id);
                // By kind, for all of it.
                options.shown = shown ? options.shown.without(which) : options.shown.with(which);
                for (placed& each : all) {
                    each.shown = each.id == id ? options.shown.contains(which) : each.shown;
                }
            }
            shown = options.shown.contains(static_cast<pt::pci::capability_id>(id));
            all.push_back({id, at, 256, shown});
            if (all.size() > 1) {
                all[all.size() - 2].end = at;
            }
            at += size + 4 * in.below(3);
            if (at > 252) {
                break;
            }
        }
        if (!all.empty()) {
            real.bytes[6] = static_cast<std::uint8_t>(real.bytes[6] | 0x10);
        }
        std::vector<placed> linked = all;
        if (backwards) {
            linked.assign(all.rbegin(), all.rend());
        }
        unsigned link = 0x34;
        for (const placed& each : linked) {
            real.bytes[link] = static_cast<std::uint8_t>(each.at | in.below(4));
            link = each.at + 1;
        }
        real.bytes[link] = 0;

        // The extended ones.
        std::vector<placed> extended;
        if (has_express) {
            for (unsigned at = 0x100; at < 0xF00 && extended.size() < 6;) {
                constexpr unsigned kinds[] = {0x01, 0x03, 0x0B, 0x10, 0x1B, 0x0B};
                const unsigned choice = in.byte();
                if (choice >= 200 || in.left == 0) {
                    break;
                }
                const unsigned id = kinds[choice % 6];
                const bool shown = id == 0x03 || id == 0x0B;
                extended.push_back({id, at, 4096, shown});
                if (extended.size() > 1) {
                    extended[extended.size() - 2].end = at;
                }
                at += 4 + 4 * in.byte();
            }
            for (std::size_t i = 0; i < extended.size(); ++i) {
                const unsigned next = i + 1 < extended.size() ? extended[i + 1].at : 0;
                device_put(extended[i].at, 4, extended[i].id | 0x2'0000 | next << 20);
            }
        }

        // What the guest should see of it.
        m.constant(0, 0x40);
        if (options.shown_as.raw != 0) {
            m.put(0, 4, options.shown_as.raw, m.value);
        }
        m.put(4, 2, 0, m.value);
        m.value[6] = static_cast<std::uint8_t>(m.value[6] & ~0x10);
        m.put(4, 2, 0x0543, m.own);
        m.put(4, 2, 0x0014, m.device);
        m.put(6, 2, 0xF900, m.clear);
        m.put(6, 2, 0x0008, m.seen);
        m.put(0x0C, 2, 0xFFFF, m.device);
        m.put(0x0E, 2, options.multi_function ? 0x80 : 0, m.value);
        m.zero(0x34, 0x3C);
        m.own[0x3C] = 0xFF;
        m.value[0x3C] = 0;
        m.read_only(0x40, 0x100);
        m.space = has_express ? 4096 : 256;
        m.vectors = vmm_vectors < m.device_vectors ? vmm_vectors : m.device_vectors;
        link = 0x34;
        for (const placed& each : linked) {
            m.zero(each.at, each.end);
            if (!each.shown || (each.id == 0x11 && m.vectors == 0)) {
                continue;
            }
            const unsigned at = each.at;
            switch (each.id) {
            case 0x01:
                m.pm = at;
                m.put(at + 2, 2,
                      (real.bytes[at + 2] | static_cast<unsigned>(real.bytes[at + 3]) << 8) &
                          0x063F,
                      m.value);
                m.value[at + 4] = m.keeps_state ? 8 : 0;
                m.own[at + 4] = 3;
                break;
            case 0x05: {
                m.msi = at;
                m.put(at + 2, 2, m.msi_log2 << 1 | (m.wide ? 0x80U : 0) | (m.masks ? 0x100U : 0),
                      m.value);
                m.own[at + 2] = 0x71;
                m.put(at + 4, 4, 0xFFFF'FFFC, m.own);
                if (m.wide) {
                    m.put(at + 8, 4, 0xFFFF'FFFF, m.own);
                }
                const unsigned data = at + (m.wide ? 12U : 8U);
                m.put(data, 2, 0xFFFF, m.own);
                if (m.masks) {
                    m.put(data + 4, 4,
                          m.msi_log2 == 5 ? 0xFFFF'FFFF : (1ULL << (1U << m.msi_log2)) - 1, m.own);
                }
                break;
            }
            case 0x11:
                m.msi_x = at;
                m.put(at + 2, 2, m.vectors - 1, m.value);
                m.own[at + 3] = 0xC0;
                m.put(at + 4, 4, m.table_at | m.table_bar, m.value);
                m.put(at + 8, 4, m.pba_at | m.pba_bar, m.value);
                break;
            case 0x10: {
                m.express = at;
                const bool second = (real.bytes[at + 2] & 0xF) == 2;
                const bool has_link = (real.bytes[at + 2] & 0xF0) == 0;
                const unsigned size = second ? (has_link ? 0x34 : 0x2C) : (has_link ? 0x14 : 0x0C);
                m.constant(at, at + size);
                m.value[at + 4] = static_cast<std::uint8_t>(m.value[at + 4] & ~0x18);
                m.put(at + 8, 4, 0, m.value);
                m.put(at + 8, 2, 0x01EF, m.own);
                m.put(at + 8, 2, 0x7810, m.device);
                m.put(at + 10, 2, 0x004F, m.clear);
                m.put(at + 10, 2, 0x0030, m.seen);
                if (has_link) { // else its registers are constant
                    m.put(at + 0x10, 2, 0x01CB, m.own);
                    m.value[at + 0x10] = static_cast<std::uint8_t>(m.value[at + 0x10] & ~0xCB);
                    m.value[at + 0x11] = static_cast<std::uint8_t>(m.value[at + 0x11] & ~0x01);
                    m.put(at + 0x12, 2, 0xFFFF, m.seen);
                }
                break;
            }
            case 0x13:
                m.features = at;
                m.constant(at, at + 4);
                m.seen[at + 5] = 1;
                break;
            default: m.read_only(at, each.end);
            }
            m.zero(at, at + 2);
            m.value[at] = static_cast<std::uint8_t>(each.id);
            m.value[link] = static_cast<std::uint8_t>(at);
            m.value[6] = static_cast<std::uint8_t>(m.value[6] | 0x10);
            link = at + 1;
        }
        link = 0x100;
        for (const placed& each : extended) {
            if (!each.shown) {
                continue;
            }
            m.read_only(each.at, each.end);
            m.zero(each.at, each.at + 4);
            m.put(each.at, 4, each.id | 0x2'0000, m.value);
            if (each.at != 0x100) {
                m.put(link, 4, m.get(link, 4) | each.at << 20, m.value);
            }
            link = each.at;
        }
        if (msi_x_in_device == 0) {
            m.device_vectors = m.vectors = 0;
        }
        m.reset();

        if (!sound) {
            for (unsigned n = in.below(24); n != 0; --n) {
                real.bytes[0x34 + in.byte() % 0xCC] = static_cast<std::uint8_t>(in.byte());
            }
            for (unsigned n = in.below(8); n != 0; --n) {
                real.bytes[0x100 + in.dword() % 0x200] = static_cast<std::uint8_t>(in.byte());
            }
            if (in.flip()) {
                real.noise = &in;
            }
        }
        real.held_back = in.flip() ? in.dword() : 0;
        view = std::make_unique<view_type>(config{&real}, host_address, events{&real}, route{&real},
                                           memory{&real});
        begin();
        m.stop_device();
        const auto opened =
            view->open(list(), vectors, static_cast<std::uint16_t>(vmm_vectors), options);
        if (!opened) {
            demand(!sound);
            demand(real.config_writes.empty() && real.open.empty());
            return false;
        }
        end();
        return true;
    }

    // ---------------------------------------------------------------- the guest

    void touched(unsigned at, bool is_write) {
        const int n = expected.bar_of(at);
        if (n >= 0) {
            const unsigned first = expected.first_of(static_cast<unsigned>(n));
            if (!is_write) {
                if (expected.half != static_cast<int>(first)) {
                    expected.half = -1;
                }
                return;
            }
            expected.half = real.bars[first].size != 0 && real.bars[first].kind == bar_kind::mem64
                                ? static_cast<int>(first)
                                : -1;
            return;
        }
        expected.half = -1;
    }

    void config_access(input& in) {
        const unsigned choice = in.byte();
        const unsigned widths[] = {4, 4, 2, 1};
        const unsigned count = widths[choice >> 1 & 3];
        unsigned at = in.byte();
        if ((choice & 0x18) == 0x18) {
            at = at % 10 * 4 + 4; // the header's busiest
        } else if ((choice & 0x18) == 0x10) {
            const unsigned busy[] = {expected.pm + 4U,      expected.msi + 2U,
                                     expected.msi + 16U,    expected.msi_x + 2U,
                                     expected.express + 8U, expected.features + 4U};
            at = busy[at % 6] / count * count;
        } else if ((choice & 0x38) == 0x08) {
            at |= in.byte() << 8;
        }
        const bool is_write = (choice & 1) != 0;
        const std::uint32_t v = is_write ? in.value() : 0;
        real.refuse_next = choice >= 0xF0 ? in.byte() : 0;
        config_access(at, count, is_write, v);
        real.refuse_next = 0;
    }

    void config_access(unsigned at, unsigned count, bool is_write, std::uint32_t v) {
        const auto offset = static_cast<std::uint16_t>(at);
        const auto size = static_cast<width>(count);
        const bool reaches = (at & 3) + count <= 4 && at < expected.space;
        begin();
        if (!sound) {
            if (is_write) {
                view->write(offset, size, v);
            } else {
                (void)view->read(offset, size);
            }
            end();
            invariants();
            return;
        }
        if (!is_write) {
            if (reaches) {
                touched(at, false);
            }
            const std::uint32_t ones = count == 4 ? 0xFFFF'FFFF : (1U << 8 * count) - 1;
            const std::uint32_t read = view->read(offset, size);
            demand(read == (reaches ? expected.read(at, count) : ones));
            end();
            return;
        }
        const bool waited = expected.half >= 0;
        if (reaches) {
            // What waits is told with the registers as they were before.
            const std::uint32_t masked = count == 4 ? v : v & ((1U << 8 * count) - 1);
            touched(at, true);
            expected.write(at, count, masked);
        }
        view->write(offset, size, v);
        if (expected.reset_wanted) {
            // The device was told of its bits before, and stopped after.
            expected.reset();
            expected.resets = 1;
            if (real.config_writes.size() > expected.device_writes.size()) {
                const access& last = real.config_writes.back();
                demand(last.offset == 4 && last.size == 2 && (last.value & 4) == 0);
                expected.device_writes.push_back(last);
            }
            demand((real.bytes[4] & 4) == 0 || (real.bytes[4] & real.bytes[5]) == 0xFF);
        }
        if (!waited && at != 0x10) {
            demand(!real.unmapped_after_mapped);
        }
        end();
    }

    void memory_access(input& in) {
        const unsigned choice = in.byte();
        const unsigned sizes[] = {4, 8, 4, 8, 1, 2, 4, 8};
        const unsigned size = sizes[choice >> 1 & 7];
        const bool is_write = (choice & 1) != 0;
        model& m = expected;
        unsigned n = 0;
        std::uint64_t offset = 0;
        switch (choice >> 4 & 3) {
        case 0:
            n = m.table_bar;
            offset = m.table_at + in.dword() % (16 * (m.device_vectors + 1)) - (choice >> 6);
            break;
        case 1:
            n = m.table_bar;
            offset = m.table_at + in.dword() % (16 * (m.device_vectors + 1)) / size * size;
            break;
        case 2:
            n = m.pba_bar;
            offset = m.pba_at + in.byte() % 24 - (choice >> 6) * 2;
            break;
        default:
            n = in.byte() % 9;
            offset = in.dword() >> in.byte() % 32;
            if (n < 7 && in.flip()) {
                offset = real.bars[n].size - offset % 16;
            }
        }
        const std::uint64_t value = std::uint64_t{in.value()} << 32 | in.value();
        memory_access(n, offset, size, is_write, value);
    }

    void memory_access(unsigned n, std::uint64_t offset, unsigned size, bool is_write,
                       std::uint64_t value) {
        model& m = expected;
        const std::uint64_t ones =
            size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * size) - 1;
        begin();
        const auto bar_index = static_cast<std::uint8_t>(n);
        const auto width = static_cast<mmio_width>(size);
        std::uint64_t read = 0;
        if (is_write) {
            view->write_memory(bar_index, offset, width, value);
        } else {
            read = view->read_memory(bar_index, offset, width);
        }
        if (!sound) {
            end();
            return;
        }
        const bool is_bar = n < 7 && real.bars[n].size != 0 && real.bars[n].kind != bar_kind::io;
        const bool inside =
            is_bar && offset < real.bars[n].size && real.bars[n].size - offset >= size;
        // Byte for byte: which of them are the table's, which the pending bits'?
        unsigned in_table = 0;
        unsigned in_pba = 0;
        for (unsigned i = 0; inside && i < size; ++i) {
            const std::uint64_t at = offset + i;
            if (n == m.table_bar && at >= m.table_at && at - m.table_at < 16 * m.device_vectors) {
                ++in_table;
            } else if (n == m.pba_bar && at >= m.pba_at &&
                       at - m.pba_at < (m.device_vectors + 63) / 64 * 8) {
                ++in_pba;
            }
        }
        const bool legal = size >= 4 && offset % size == 0;
        std::uint64_t answer = ones;
        std::vector<access> forwarded;
        if (inside && in_table == 0 && in_pba == 0) {
            if (!is_write || n != 6) { // the ROM is only read
                forwarded.push_back({n, offset, size, is_write ? value & ones : 0, is_write});
            }
            answer = 0x0123'4567'89AB'CDEF & ones;
        } else if (in_table == size && legal) {
            for (unsigned i = 0; i < size; i += 4) {
                const std::uint64_t dword = (offset + i - m.table_at) / 4;
                if (dword / 4 >= m.vectors) {
                    break; // sizes do not cross an entry
                }
                std::uint32_t& cell = m.table[dword / 4][dword % 4];
                if (i == 0) {
                    answer = 0;
                }
                answer |= std::uint64_t{cell} << 8 * i;
                if (is_write) {
                    constexpr std::uint32_t masks[] = {0xFFFF'FFFC, 0xFFFF'FFFF, 0xFFFF'FFFF, 1};
                    cell = static_cast<std::uint32_t>(value >> 8 * i) & masks[dword % 4];
                }
            }
        } else if (in_pba == size && legal && offset - m.pba_at < (m.vectors + 63) / 64 * 8) {
            answer = 0;
            const auto open = m.should_be_open();
            for (unsigned i = 0; i < 8 * size; ++i) {
                const std::uint64_t vector = 8 * (offset - m.pba_at) + i;
                if (vector >= m.vectors) {
                    break;
                }
                const auto k = static_cast<unsigned>(vector);
                const bool held = m.x_on() && m.awake() && open.count({2, k}) == 0 && k < 64 &&
                                  (real.held_back >> k & 1) != 0;
                if (m.x_pending[k] || held) {
                    answer |= std::uint64_t{1} << i;
                }
            }
        }
        demand(is_write || read == answer);
        demand(real.forwarded == forwarded);
        end();
    }

    void request(input& in) {
        const unsigned kind = in.below(4);
        const unsigned choice = in.byte();
        const unsigned vector = choice >= 0xF0   ? in.dword() & 0xFFFF
                                : choice >= 0x60 ? choice % 4
                                                 : choice;
        begin();
        const auto asked =
            view->request({static_cast<interrupt_kind>(kind), static_cast<std::uint16_t>(vector)});
        if (!sound) {
            end();
            return;
        }
        model& m = expected;
        using pt::errc;
        errc answer = errc::none;
        const auto open = m.should_be_open();
        if (kind == 0) {
            answer = vector != 0               ? errc::out_of_range
                     : open.count({0, 0}) == 0 ? errc::refused
                                               : answer;
        } else if (kind == 1) {
            answer = !(m.m_on() && m.awake() && !m.x_on())             ? errc::refused
                     : vector >= 32 || (m.m_used() >> vector & 1) == 0 ? errc::out_of_range
                                                                       : answer;
        } else if (kind == 2) {
            answer = vector >= m.vectors        ? errc::out_of_range
                     : !(m.x_on() && m.awake()) ? errc::refused
                                                : answer;
        } else {
            answer = errc::out_of_range;
        }
        demand(asked ? answer == errc::none : asked.error() == pt::error{answer, vector});
        if (answer == errc::none) {
            if (open.count({kind, vector}) != 0) {
                ++expected_sends[{kind, vector}];
            } else if (kind == 1) {
                m.m_pending |= std::uint32_t{1} << vector;
            } else {
                m.x_pending[vector] = true;
            }
        }
        end();
    }

    void permit(input& in) {
        const unsigned at = in.byte() | (in.byte() & 1U) << 8;
        std::uint32_t left = 0xFFFF'FFFF;
        const auto some = [&] {
            const std::uint32_t taken = in.dword() & left;
            left &= ~taken;
            return taken;
        };
        const pt::pci::bit_permissions bits{some(), some(), some(), some()};
        model& m = expected;
        const unsigned dword = at & ~3U;
        const auto within = [&](unsigned first, unsigned size) {
            return first != 0 && dword >= first && dword < first + size;
        };
        const unsigned msi_size = (m.wide ? 12U : 8U) + (m.masks ? 12U : 2U);
        const bool refused = dword < 0x40 || at >= m.space || within(m.pm != 0 ? m.pm + 4 : 0, 4) ||
                             within(m.msi_x, 4) || within(m.msi, (msi_size + 3) & ~3U) ||
                             (m.features_flr && within(m.features != 0 ? m.features + 4 : 0, 4));
        begin();
        const auto permitted = view->permit(static_cast<std::uint16_t>(at), bits);
        if (sound) {
            demand(permitted.has_value() == !refused);
            if (!refused) {
                // Whatever the VMM permits, the reset bit of Device Control stays the view's.
                const bool resets =
                    m.express_flr && within(m.express, 12) && dword == m.express + 8;
                const std::uint32_t open = resets ? ~0x8000U : ~0U;
                const std::uint32_t now = m.read(dword, 4);
                m.put(dword, 4, now & ~(bits.own & open), m.value);
                m.put(dword, 4, bits.own & open, m.own);
                m.put(dword, 4, bits.device & open, m.device);
                m.put(dword, 4, bits.device_clear & open, m.clear);
                m.put(dword, 4, bits.device_read & open, m.seen);
            }
        }
        end();
    }

    /// What drivers do.
    void drive(input& in) {
        const model& m = expected;
        const unsigned choice = in.byte();
        const unsigned detail = in.byte();
        const unsigned n = detail % 8;
        switch (choice % 8) {
        case 0: config_access(4, 2, true, detail & 7); break;
        case 1: config_access(m.msi_x + 2, 2, true, (detail & 3U) << 14); break;
        case 2: memory_access(m.table_bar, m.table_at + 16 * n + 12, 4, true, detail >> 7); break;
        case 3: memory_access(m.table_bar, m.table_at + 16 * n + 8, 4, true, detail); break;
        case 4: config_access(m.msi + 2, 2, true, detail); break;
        case 5: config_access(m.msi + (m.wide ? 16 : 12), 4, true, detail); break;
        case 6: { // a BAR of 64 bits or less is sized, and placed
            const unsigned at = 0x10 + 4 * (n % 7 == 6 ? 8 : n % 7);
            for (const std::uint32_t v : {0xFFFF'FFFFU, detail * 0x0101'0000U}) {
                config_access(at, 4, true, v);
                config_access(at, 4, false, 0);
            }
            break;
        }
        default: config_access(m.pm + 4, 1, true, detail & 3); break;
        }
    }

    void step(input& in) {
        switch (in.byte() & 15) {
        case 0:
        case 1: memory_access(in); break;
        case 2: request(in); break;
        case 3: { // the device lives
            const unsigned at = in.byte() | (in.byte() & 15U) << 8;
            if (at >= 4 && (at < 0x0E || at >= 0x34)) {
                real.bytes[at] = static_cast<std::uint8_t>(in.byte());
            }
            break;
        }
        case 4:
            begin();
            if (in.flip()) {
                view->settle();
                expected.half = -1;
            } else {
                view->retry_bars();
                for (unsigned n = 0; n < 7; ++n) {
                    demand(!sound || real.bars[n].size == 0 ||
                           real.places[n] == expected.wanted(n) ||
                           expected.half == static_cast<int>(n));
                }
            }
            end();
            break;
        case 5:
            if (in.flip()) {
                permit(in);
            } else if (in.below(8) == 0) {
                begin();
                expected.stop_device();
                view->reset();
                expected.reset();
                end();
            }
            break;
        case 6:
        case 7:
        case 8: drive(in); break;
        default: config_access(in);
        }
    }

    void finish() {
        begin();
        expected.stop_device();
        view->close();
        demand(real.open.empty());
        for (const std::uint64_t place : real.places) {
            demand(place == nowhere);
        }
        demand(!sound || real.config_writes == expected.device_writes);
        demand(view->read(0, width::dword) == 0xFFFF'FFFF);
    }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    input in{data, size};
    const auto here = std::make_unique<world>();
    if (!here->open(in)) {
        return 0;
    }
    while (in.left != 0) {
        here->step(in);
    }
    here->finish();
    return 0;
}
