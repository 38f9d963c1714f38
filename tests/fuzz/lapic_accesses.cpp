// SPDX-License-Identifier: BSL-1.0
//
// A guest of two virtual processors that does to its local APICs whatever the bytes say: loads and
// stores of every size anywhere, MSRs, CR8, messages, pins, time. Nothing is written outside of the
// page (the sanitizer stands around page and inbox) or into its reserved parts, which a
// virtual-APIC page must not have; and what [sdm] says of every state holds in every state.
#include "reader.hpp"

#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/saved_state.hpp"
#include "pt/lapic/timer.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {

using namespace pt::lapic;

using fuzz::demand;
using fuzz::reader;

struct fake_time {
    std::uint64_t ticks = 0;
    std::uint64_t tsc = 0;
    unsigned asked = 0;
};
struct fake_clock {
    fake_time* now;
    std::uint64_t ticks() const {
        ++now->asked;
        return now->ticks;
    }
    std::uint64_t tsc() const {
        ++now->asked;
        return now->tsc;
    }
};

/// Each in an allocation of its own, for the sanitizer to guard.
struct processor {
    std::unique_ptr<register_page> page = std::make_unique<register_page>();
    std::unique_ptr<inbox> arriving = std::make_unique<inbox>();
    std::unique_ptr<local_apic<fake_clock>> apic;
    unsigned notified = 0;
};
struct both {
    processor* of;
    std::uint32_t count() const { return 2; }
    pt::lapic::inbox& inbox(std::uint32_t n) const { return *of[n].arriving; }
    void notify(std::uint32_t n, notification) const { ++of[n].notified; }
};

/// The registers by the manual's table; bit i: the dword at 16 * i.
constexpr std::uint64_t slots = 0x43FF'81FF'FFFF'FF0C;

/// `page` as raw dwords, against what holds always.
void check_page(const processor& one, bool software_enabled) {
    std::uint32_t words[1024];
    std::memcpy(words, one.page.get(), sizeof words);
    for (unsigned i = 0; i < 1024; ++i) {
        const bool is_register = i % 4 == 0 && i / 4 < 64 && (slots >> i / 4 & 1) != 0;
        const bool is_x2apic_destination = i == 0x304 / 4;
        demand(is_register || is_x2apic_destination || words[i] == 0);
    }
    unsigned highest_in_service = 0;
    for (unsigned vector = 0; vector < 256; ++vector) {
        const bool in_service = (words[0x100 / 4 + vector / 32 * 4] >> vector % 32 & 1) != 0;
        const bool requested = (words[0x200 / 4 + vector / 32 * 4] >> vector % 32 & 1) != 0;
        demand(vector >= 16 || (!in_service && !requested));
        highest_in_service = in_service ? vector : highest_in_service;
    }
    const std::uint32_t tpr = words[0x80 / 4];
    const std::uint32_t ppr = words[0xA0 / 4];
    const std::uint32_t task = tpr >> 4;
    const std::uint32_t service = highest_in_service >> 4;
    demand(tpr <= 0xFF && ppr >> 4 == (task > service ? task : service));
    demand(task != service || (ppr & 15) == 0 || (ppr & 15) == (tpr & 15));
    demand(task <= service || (ppr & 15) == (tpr & 15));
    demand(task >= service || (ppr & 15) == 0);
    demand(((words[0xF0 / 4] >> 8 & 1) != 0) == software_enabled);
    for (const unsigned entry : {0x2F0U, 0x320U, 0x330U, 0x340U, 0x350U, 0x360U, 0x370U}) {
        demand(software_enabled || (words[entry / 4] >> 16 & 1) != 0);
        demand((words[entry / 4] >> 12 & 1) == 0); // messages take no time
    }
}

void check(processor& one, const fake_time& time) {
    one.apic->synchronize();
    check_page(one, one.apic->is_software_enabled());
    const std::uint8_t pending = one.apic->pending();
    demand(pending == 0 || pending / 16 > one.page->ppr.raw / 16);
    demand(one.apic->cr8() == one.page->tpr.raw / 16);
    const deadline next = one.apic->next_deadline();
    demand(next.of != deadline::clock::ticks || next.at > time.ticks);
    demand(next.of != deadline::clock::tsc || next.at > time.tsc);
}

void write_done(bus<both>& wires, unsigned n, const effect& did) {
    if (did.kind == effect_kind::send) {
        demand(did.command.delivery != delivery_mode{3} &&
               did.command.delivery != delivery_mode::extint);
        demand(wires.deliver(n, did.command).reached <= 2);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    reader input{bytes, size};
    const timer_limits limits{.minimum_period = input.byte() * 100U,
                              .most_owed_ticks = input.byte()};
    // Near the ends of the clocks too.
    fake_time time{input.number(8) >> 1, input.number(8) >> 1};
    processor processors[2];
    const auto make = [&](unsigned n, processor& in) {
        in.apic = std::make_unique<local_apic<fake_clock>>(
            *in.page, *in.arriving,
            identity{.apic_id = n == 0 ? 0U : 0x12U,
                     .role = n == 0 ? processor_role::bootstrap : processor_role::application,
                     .suppression = eoi_broadcast_suppression::offered,
                     .physical_address_width = 39},
            fake_clock{&time}, limits);
    };
    make(0, processors[0]);
    make(1, processors[1]);
    bus<both> wires{both{processors}};

    while (input.left != 0) {
        const std::uint8_t what = input.byte();
        const unsigned n = what & 1;
        processor& one = processors[n];
        local_apic<fake_clock>& apic = *one.apic;
        const auto width = static_cast<pt::mmio_width>(1U << (what >> 1 & 3));
        time.asked = 0;
        switch (what >> 3 & 15) {
        case 0: {
            const std::uint64_t value =
                apic.read(static_cast<std::uint32_t>(input.number(2)), width);
            demand((value & ~pt::all_ones(width)) == 0);
            break;
        }
        case 1:
            write_done(
                wires, n,
                apic.write(static_cast<std::uint32_t>(input.number(2)), width, input.number(8)));
            break;
        case 2: // any offset
            (void)apic.read(static_cast<std::uint32_t>(input.number(4)), width);
            write_done(
                wires, n,
                apic.write(static_cast<std::uint32_t>(input.number(4)), width, input.number(8)));
            break;
        case 3:
        case 4: // a register that is there, by the way that is there
        {
            const std::uint32_t slot = input.byte() & 63;
            const auto value = static_cast<std::uint32_t>(input.number(4));
            if (apic.current_mode() == apic_mode::x2apic) {
                if (const auto did = apic.write_msr(0x800 + slot, value); did) {
                    write_done(wires, n, *did);
                }
            } else {
                write_done(wires, n, apic.write(slot * 16, pt::mmio_width::dword, value));
            }
            break;
        }
        case 5: { // enabled, as it is most of the time
            const std::uint32_t value = 0x100U | input.byte() | (input.byte() & 1U) << 12;
            if (apic.current_mode() == apic_mode::x2apic) {
                demand(apic.write_msr(0x80F, value).has_value());
            } else {
                (void)apic.write(0xF0, pt::mmio_width::dword, value);
            }
            break;
        }
        case 6:
            if (const auto got = apic.read_msr(static_cast<std::uint32_t>(input.number(2))); !got) {
                demand(got.error().code == pt::errc::absent);
            }
            break;
        case 7: {
            const std::uint32_t msr = 0x800 + input.byte();
            const auto did = apic.write_msr(msr, input.number(8));
            if (did) {
                write_done(wires, n, *did);
            }
            break;
        }
        case 8: {
            const std::uint64_t value = input.number(3) << 8; // modes and addresses
            if (const auto did = apic.write_msr(0x1B, value); !did) {
                demand(did.error().code == pt::errc::malformed);
            }
            break;
        }
        case 9: {
            const std::uint64_t value = input.number(1 + (what >> 1 & 3));
            demand(apic.set_cr8(value).has_value() == (value < 16));
            break;
        }
        case 10:
            if (const auto sent = message_of_msi(0xFEE0'0000 + input.number(3) % 0x10'0000,
                                                 static_cast<std::uint32_t>(input.number(4)));
                sent) {
                demand(wires.deliver(*sent).reached <= 2);
            }
            break;
        case 11:
            apic.set_wire(static_cast<local_wire>(what >> 1 & 1),
                          static_cast<wire_level>(what >> 2 & 1));
            apic.raise(static_cast<local_source>(input.byte() % 3));
            break;
        case 12: {
            const unsigned shift = input.byte() & 31;
            const std::uint64_t by = input.number(2) << shift;
            time.ticks += by;
            time.tsc += by;
            (void)apic.write_msr(0x6E0, time.tsc + input.number(2));
            break;
        }
        case 13: {
            while (apic.next_signal().kind != signal_kind::none) {}
            apic.synchronize();
            const std::uint8_t pending = apic.pending();
            demand(apic.acknowledge() == pending);
            demand(pending == 0 || (one.page->ppr.raw & 0xFF) >= (pending & 0xF0));
            if (apic.nmi_pending()) {
                apic.take_nmi();
                demand(!apic.nmi_pending());
            }
            if (apic.extint_pending()) {
                apic.take_extint();
            }
            break;
        }
        case 14: (void)apic.eoi(); break;
        case 15: { // bytes of a state: refused and nothing changes, or taken
            const saved_state before = apic.save();
            saved_state state = before;
            auto* raw = reinterpret_cast<std::uint8_t*>(&state);
            for (unsigned changes = input.byte() % 4; changes != 0; --changes) {
                raw[input.number(2) % sizeof state] = input.byte();
            }
            if (!apic.restore(state)) {
                demand(apic.save() == before);
            } else {
                (void)apic.save();
            }
            break;
        }
        }
        demand(time.asked <= 32);
        check(processors[0], time);
        check(processors[1], time);
    }
    return 0;
}
