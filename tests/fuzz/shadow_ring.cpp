// SPDX-License-Identifier: BSL-1.0
//
// A guest that writes to its registers, its ring and its buffers whatever the bytes say, also while
// the shadow reads them; its pages lie anywhere in the host's memory, and come and go. What reaches
// the NIC is judged here as the datasheet has it: every byte that a descriptor names is the guest's
// own (or one of the shadow's headers), packets are whole and legal, and a step does bounded work.
#include "reader.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/e1000e/shadow_ring.hpp"
#include "pt/e1000e/tx_ring.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

using namespace pt::e1000e;
using fuzz::demand;
using fuzz::reader;
using pt::iova;

constexpr std::uint64_t page = 1024;
constexpr std::uint32_t guest_pages = 32;
constexpr std::uint32_t host_frames = 48;
constexpr std::uint64_t host_base = 0x7'0000'0000;
constexpr std::uint64_t headers_base = 0x9'0000'0000;
constexpr std::uint64_t zeros_base = 0xA'0000'0000;
constexpr std::uint32_t header_count = 3;
constexpr std::uint32_t nowhere = ~0U;

struct host {
    reader* input;
    std::unique_ptr<std::uint8_t[]> bytes = std::make_unique<std::uint8_t[]>(page * host_frames);
    std::uint32_t frame_of[guest_pages]{};
    std::uint64_t used_page = 0; ///< of the buffer that was named last
    bool restless = false;
    std::uint64_t longest_piece = page;
    std::uint64_t translations = 0;
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;

    [[nodiscard]] bool is_guests(std::uint64_t frame) const {
        for (const std::uint32_t own : frame_of) {
            if (own == frame) {
                return true;
            }
        }
        return false;
    }
    /// Where the byte is; null if nowhere.
    std::uint8_t* at(std::uint64_t address) {
        const std::uint64_t n = address / page;
        return n < guest_pages && frame_of[n] != nowhere
                   ? &bytes[frame_of[n] * page + address % page]
                   : nullptr;
    }
    void put(std::uint64_t address, std::uint8_t byte) {
        if (std::uint8_t* const where = at(address)) {
            *where = byte;
        }
    }
    void put_quadword(std::uint64_t address, std::uint64_t value) {
        for (unsigned i = 0; i < 8; ++i) {
            put(address + i, static_cast<std::uint8_t>(value >> 8 * i));
        }
    }
};

struct guest_memory {
    host* of;
    pt::result<> read(iova at, std::uint8_t* to, std::size_t count) {
        ++of->reads;
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint8_t* const from = of->at(at.raw + i);
            if (from == nullptr) {
                return pt::error{pt::errc::not_mapped, at.raw + i};
            }
            to[i] = *from;
        }
        if (of->restless) {
            of->put(of->input->number(2) % (page * guest_pages), of->input->byte());
        }
        return {};
    }
    pt::result<> write(iova at, const std::uint8_t* from, std::size_t count) {
        ++of->writes;
        demand(count == 1 && at.raw % 16 == 12 && (*from & 1) != 0);
        std::uint8_t* const to = of->at(at.raw);
        if (to == nullptr) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        *to = *from;
        return {};
    }
};

struct translation {
    host* of;
    pt::result<pt::dma_piece> translate(iova at, std::uint64_t size, pt::dma_access how) {
        ++of->translations;
        demand(size != 0 && how == pt::dma_access::read);
        const std::uint8_t* const byte = of->at(at.raw);
        if (byte == nullptr) {
            return pt::error{pt::errc::not_mapped, at.raw};
        }
        std::uint64_t rest = page - at.raw % page;
        rest = rest < size ? rest : size;
        rest = rest < of->longest_piece ? rest : of->longest_piece;
        return pt::dma_piece{
            pt::hpa{host_base + static_cast<std::uint64_t>(byte - of->bytes.get())}, rest};
    }
};

/// The real NIC, which judges what it is given.
struct nic {
    host* guest;
    std::vector<std::uint64_t> ring;
    std::uint32_t fifo;      ///< KiB
    bool is_pci = false;     ///< 8254x
    bool interrupts = false; ///< a status was written back
    std::uint32_t tctl = 0;
    std::uint32_t txdctl = 0;
    std::uint32_t tarc = 0x403;
    std::uint32_t head = 0;
    std::uint32_t tail = 0;
    std::uint64_t context_low = 0; ///< the one that it knows
    std::uint64_t context_high = 0;

    nic(host* of, std::uint32_t count, std::uint32_t kib) : guest{of}, ring(2 * count), fifo{kib} {}

    [[nodiscard]] std::uint32_t count() const {
        return static_cast<std::uint32_t>(ring.size() / 2);
    }
    [[nodiscard]] std::uint32_t least() const { return is_pci ? 60 : 17; }
    void is_readable(std::uint64_t at, std::uint64_t size) const {
        demand(at != 0 && size != 0);
        if (at == zeros_base) {
            demand(size < least());
            return;
        }
        if (at - headers_base < sizeof(shadow_header) * header_count) {
            demand((at - headers_base) % sizeof(shadow_header) + size <= sizeof(shadow_header));
            return;
        }
        demand(at >= host_base && at - host_base < page * host_frames &&
               size <= page * host_frames - (at - host_base));
        for (std::uint64_t frame = (at - host_base) / page;
             frame <= (at - host_base + size - 1) / page; ++frame) {
            demand(guest->is_guests(frame));
        }
    }
    /// Judges the descriptors from the tail on up to `end`, where a packet ends.
    void judge(std::uint32_t end) {
        std::uint64_t first = 0;
        std::uint64_t length = 0;
        std::uint32_t pieces = 0;
        std::uint64_t first_length = 0;
        for (std::uint32_t at = tail; at != end; at = at + 1 == count() ? 0 : at + 1) {
            const std::uint64_t low = ring[2 * at];
            const std::uint64_t high = ring[2 * at + 1];
            demand((high >> 32 & 0xFF) == 0 && (high & 0xF000'0000 & ~0x6000'0000ULL) == 0);
            const bool extended = (high >> 29 & 1) != 0;
            if (extended && (high >> 20 & 0xF) == 0) {
                demand(pieces == 0); // a context is never in the middle of a packet
                context_low = low;
                context_high = high;
                continue;
            }
            demand(!extended || (high >> 20 & 0xF) == 1);
            const std::uint64_t size = extended ? high & 0xF'FFFF : high & 0xFFFF;
            is_readable(low, size);
            demand(size <= 16'288);
            if (pieces++ == 0) {
                first = high;
                first_length = size;
            }
            demand(((first ^ high) >> 29 & 1) == 0);
            demand(!extended || ((first ^ high) >> 26 & 1) == 0);
            length += size;
            if ((high >> 24 & 1) == 0) {
                continue;
            }
            const std::uint64_t most = fifo * 1024 - 80 < 16'288 ? fifo * 1024 - 80 : 16'288;
            if (extended && (first >> 26 & 1) != 0) { // TSE
                demand((context_high >> 26 & 1) != 0);
                const std::uint64_t header = context_high >> 40 & 0xFF;
                const std::uint64_t segment = context_high >> 48;
                demand(length == header + (context_high & 0xF'FFFF) && header <= 240);
                demand(segment > 16 && header + segment <= most && first_length >= header);
                demand(first_length >= header + (length - header < 4 ? length - header : 4));
                demand(first_length != 0 && header >= 34 && !is_pci);
            } else {
                demand(length >= least() && length <= most);
                const bool sums = extended && (first >> 40 & 3) != 0;
                demand(!sums || (context_high >> 26 & 1) == 0);
            }
            pieces = 0;
            length = 0;
        }
        demand(pieces == 0);
        tail = end;
    }
    void work(std::uint32_t descriptors) {
        for (; descriptors != 0 && head != tail && (tctl & 2) != 0; --descriptors) {
            std::uint64_t& high = ring[2 * head + 1];
            const bool is_context = (high >> 29 & 1) != 0 && (high >> 20 & 0xF) == 0;
            if (!is_context) { // its memory is read now
                is_readable(ring[2 * head],
                            (high >> 29 & 1) != 0 ? high & 0xF'FFFF : high & 0xFFFF);
            }
            high |= (high >> 27 & 1) << 32;
            interrupts = interrupts || (high >> 27 & 1) != 0;
            head = head + 1 == count() ? 0 : head + 1;
        }
    }
};
struct nic_registers {
    nic* of;
    std::uint32_t read32(std::uint32_t offset) {
        switch (offset) {
        case 0x0400: return of->tctl;
        case 0x1000: return of->fifo << 16;
        case 0x3828: return of->txdctl;
        case 0x3840: return of->tarc;
        default: return 0;
        }
    }
    std::uint64_t read64(std::uint32_t) { return 0; }
    void write32(std::uint32_t offset, std::uint32_t value) {
        switch (offset) {
        case 0x0400: of->tctl = value; break;
        case 0x3828: of->txdctl = value; break;
        case 0x3840: of->tarc = value; break;
        case 0x3810: of->head = value; break;
        case 0x3818:
            demand(value < of->count());
            if ((of->tctl & 2) != 0) {
                of->judge(value);
            } else {
                of->tail = value;
            }
            break;
        default: break;
        }
    }
    void write64(std::uint32_t, std::uint64_t) {}
};
struct nic_ring {
    nic* of;
    std::uint64_t read64(std::uint32_t offset) { return of->ring.at(offset / 8); }
    void write64(std::uint32_t offset, std::uint64_t value) { of->ring.at(offset / 8) = value; }
};
struct order {
    void release() {}
    void acquire() {}
};

/// A descriptor that is more likely to mean something than 16 bytes of anything.
void put_descriptor(reader& input, host& memory, std::uint64_t at) {
    const std::uint8_t kind = input.byte();
    std::uint64_t low = input.number(2) % (page * guest_pages);
    std::uint64_t high = std::uint64_t{input.byte()} << 24; // the command
    constexpr std::uint64_t extended = 1U << 29;
    switch (kind & 3) {
    case 0: // legacy
        high = (high & ~extended) | input.number(2) % 8192 | std::uint64_t{input.byte()} << 16 |
               std::uint64_t{input.byte()} << 40 | input.number(2) << 48;
        break;
    case 1: // data
        high |= extended | 1U << 20 | input.number(2) % 8192 | std::uint64_t{input.byte()} << 40 |
                input.number(2) << 48;
        break;
    case 2: // context, such as a driver makes
        low = 14 | 24 << 8 | 33 << 16 | std::uint64_t{34} << 32 | std::uint64_t{50} << 40;
        high = extended | (kind & 16U) << 22 | 3U << 24 | input.number(2) % 4096 |
               std::uint64_t{54} << 40 | std::uint64_t{17 + input.byte() * 4U} << 48;
        if ((kind & 32) != 0) {
            low ^= std::uint64_t{input.byte()} << (kind >> 6) * 8;
            high ^= std::uint64_t{input.byte()} << 40;
        }
        break;
    default:
        low = input.number(8);
        high = input.number(8);
        break;
    }
    memory.used_page = low / page % guest_pages;
    memory.put_quadword(at, low);
    memory.put_quadword(at + 8, high);
}
/// A packet to be segmented, with its context, whose lengths fit.
void put_segmented(reader& input, host& memory, std::uint64_t at) {
    const std::uint64_t pieces = 1 + input.byte() % 4;
    std::uint64_t left = 54 + 1 + input.number(2) % 3'000;
    const std::uint64_t segment = 17 + input.number(1);
    memory.put_quadword(at, 14 | 24 << 8 | 33 << 16 | std::uint64_t{34} << 32 |
                                std::uint64_t{50} << 40);
    memory.put_quadword(at + 8,
                        0x2700'0000 | (left - 54) | std::uint64_t{54} << 40 | segment << 48);
    for (std::uint64_t i = 1; i <= pieces; ++i) {
        const std::uint64_t size = i == pieces ? left : input.byte() % left;
        left -= size;
        const std::uint64_t buffer = input.number(2) % (page * guest_pages);
        memory.used_page = buffer / page;
        memory.put_quadword(at + 16 * i, buffer);
        memory.put_quadword(at + 16 * i + 8, 0x2E10'0000 | size | std::uint64_t{3} << 40 |
                                                 (i == pieces ? 1U << 24 : 0));
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    reader input{bytes, size};
    host memory{&input};
    const std::uint8_t how = input.byte();
    memory.restless = (how & 1) != 0;
    const std::uint64_t stride = 1 + 2 * (how >> 1 & 7U);
    for (std::uint64_t n = 0; n < guest_pages; ++n) { // odd strides, so that no two coincide
        memory.frame_of[n] = static_cast<std::uint32_t>(n * stride % 32 + (how >> 4));
    }
    if ((how & 0x80) != 0) {
        memory.longest_piece = 1 + input.byte() * 4U;
    }

    nic real{&memory, 8U * (1 + input.byte() % 8), (how & 0x40) != 0 ? 4U : 20U};
    std::vector<tx_slot> tx_slots(real.count());
    tx_settings settings;
    const std::uint8_t report = input.byte();
    settings.report = report < 100   ? tx_report::each_packet()
                      : report < 180 ? tx_report::every(report)
                                     : tx_report::while_idle();
    settings.members = report % 4 == 3 ? family::pci : family::pci_express;
    settings.padding = report % 3 == 0 ? iova{} : iova{zeros_base};
    real.is_pci = settings.members == family::pci;
    tx_ring ring{nic_registers{&real}, nic_ring{&real}, order{}, iova{0x1000},
                 tx_slots.data(),      real.count(),    settings};
    demand(ring.start().has_value());

    // Storage of any size, each in an allocation of its own.
    const std::size_t piece_count = 1 + input.byte() % 24;
    const std::size_t slot_count = 1 + input.byte() % 24;
    const auto pieces = std::make_unique<tx_descriptor[]>(piece_count);
    const auto slots = std::make_unique<shadow_slot[]>(slot_count);
    const auto headers = std::make_unique<shadow_header[]>(header_count);
    shadow_ring shadow{guest_memory{&memory}, translation{&memory}, ring,
                       shadow_storage{.pieces = pieces.get(),
                                      .piece_count = static_cast<std::uint32_t>(piece_count),
                                      .slots = slots.get(),
                                      .slot_count = static_cast<std::uint32_t>(slot_count),
                                      .headers = headers.get(),
                                      .header_count = report % 2 != 0 ? header_count : 0,
                                      .headers_at = iova{headers_base}}};

    shadow.write(0x3808, 128U * (1 + input.byte() % 16));
    shadow.write(0x0000, 1U << 30);
    shadow.write(0x0400, 0xA);

    while (input.left != 0) {
        const std::uint8_t what = input.byte();
        switch (what & 15) {
        case 0: { // a register
            constexpr std::uint32_t offsets[]{0x0000, 0x0038, 0x0400, 0x3800, 0x3804, 0x3808,
                                              0x3810, 0x3818, 0x3820, 0x3828, 0x382C, 0x3840};
            shadow.write(offsets[(what >> 4) % 12], static_cast<std::uint32_t>(input.number(4)));
            break;
        }
        case 1:
        case 2:
        case 3: // descriptors from the start of the memory on
            put_descriptor(input, memory, std::uint64_t{16} * (input.byte() % 128));
            break;
        case 4:
        case 5: put_segmented(input, memory, std::uint64_t{16} * (input.byte() % 120)); break;
        case 6: memory.put(input.number(2) % (page * guest_pages), input.byte()); break;
        case 7:
        case 8: shadow.write(0x3818, input.byte()); break;
        case 9:
        case 10: real.work(input.byte()); break;
        case 11: { // the VMM takes a page away, and gives another one
            const bool is_free = shadow.revoke() == 0;
            if (!is_free) {
                real.work(~0U);
                for (unsigned i = 0; i < 4 && shadow.in_flight() != 0; ++i) {
                    shadow.reclaim();
                    real.work(~0U); // a report that was asked for
                }
                demand(shadow.in_flight() == 0);
            }
            const std::uint32_t frame = input.byte();
            const std::uint64_t n = (what & 16) != 0 ? memory.used_page : what >> 4;
            memory.frame_of[n] = frame < host_frames ? frame : nowhere;
            break;
        }
        case 12:
            if ((what & 0xF0) == 0) { // the NIC hangs, and is reset
                real.tctl = 0;
                shadow.abandon();
                demand(shadow.in_flight() == 0 && ring.start().has_value());
                break;
            }
            [[fallthrough]];
        default: {
            const std::uint32_t budget = input.byte();
            memory.translations = memory.reads = memory.writes = 0;
            real.interrupts = false;
            const std::uint32_t head = shadow.registers().head();
            const std::uint32_t count = shadow.registers().count();
            const shadow_step done = shadow.step(budget);
            demand(memory.translations <= budget && memory.writes <= budget);
            demand(memory.reads <= 2 * std::uint64_t{budget});
            demand(done.taken + done.sent + done.done <= budget);
            demand(done.dropped <= budget);
            demand(done.why != shadow_stop::memory_fault || done.fault.code != pt::errc::none);
            if (done.why == shadow_stop::disabled || done.why == shadow_stop::bad_ring) {
                demand(memory.reads == 0 && memory.writes == 0 && done.done == 0);
            } else {
                demand(shadow.registers().valid());
                demand(shadow.registers().head() == (head + done.done) % count);
            }
            break;
        }
        }
    }
    // When the VMM steps for no reason but an interrupt, all comes back that the NIC has.
    for (real.work(~0U); real.interrupts; real.work(~0U)) {
        real.interrupts = false;
        shadow.step();
    }
    demand(shadow.in_flight() == 0);
    return 0;
}
