// SPDX-License-Identifier: BSL-1.0
//
// A message and an entry of arbitrary bits: what pt says of them is what a second model of the
// hardware makes of them, and what was decoded makes the same entry again.
#include "../unit/vtd/interrupt_remapping_model.hpp"

#include "pt/vtd/interrupt_entry.hpp"
#include "pt/vtd/remappable_message.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace {

using interrupt_model::outcome;
using pt::errc;
using namespace pt::vtd;

void require(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

struct input {
    std::uint64_t entry[2];
    std::uint64_t address;
    std::uint32_t data;
    std::uint16_t source;
    std::uint8_t mode;
    std::uint8_t near;
};

void message(const input& in, std::uint64_t address, const interrupt_model::setting& unit) {
    std::uint32_t index = 0;
    const outcome real =
        interrupt_model::remap(address, in.data, in.source, unit, [&](std::uint32_t i) {
            index = i;
            return in.entry;
        });
    const auto request = interrupt_request::of({address, in.data});
    if (real.what == outcome::kind::memory) {
        require(request.error().code == errc::absent);
    } else if (real.reason == 0x20) {
        require(request.error().code == errc::malformed);
    } else if (request->kind == interrupt_request::format::compatibility) {
        require(real.reason == 0x25);
    } else {
        require(request->index == index);
    }
}

void entry(const input& in, const interrupt_model::setting& unit) {
    const outcome real = interrupt_model::through(in.entry[0], in.entry[1], in.source, unit);
    const interrupt_entry read{in.entry[0], in.entry[1]};
    const apic_mode mode = unit.extended ? apic_mode::x2apic : apic_mode::xapic;
    const auto to = read.remapped(mode);
    const auto post = read.posted();
    if (real.reason == 0x22 || real.reason == 0x24) {
        require(!to && !post && read.present() == (real.reason == 0x24));
        return;
    }
    require(read.requester().serves(in.source) == (real.reason != 0x26));
    require(to.has_value() != read.is_posted() && post.has_value() == read.is_posted());
    const auto again = post ? interrupt_entry::posted(*post, read.requester())
                            : interrupt_entry::remapped(*to, read.requester(), mode);
    if (again) {
        require(again->low == (read.low & ~std::uint64_t{0xF00}) && again->high == read.high);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    input in{};
    std::memcpy(&in, bytes, size < sizeof(in) ? size : sizeof(in));
    const interrupt_model::setting unit{.entries = 0x2'0000, .extended = (in.mode & 1) != 0};
    // Most are near the interrupt range, and most entries near a sound one.
    message(in, (in.near & 1) != 0 ? in.address : 0xFEE0'0000 | (in.address & 0xF'FFFF), unit);
    if ((in.near & 2) == 0) {
        in.entry[0] |= 1;
        in.entry[0] &= (in.entry[0] & 0x8000) != 0 ? 0xFFFF'FFC0'00FF'CF03
                       : unit.extended             ? 0xFFFF'FFFF'00FF'8FFF
                                                   : 0x0000'FF00'00FF'8FFF;
        in.entry[1] &= (in.entry[0] & 0x8000) != 0 ? 0xFFFF'FFFF'000F'FFFF : 0x000F'FFFF;
    }
    entry(in, unit);
    return 0;
}
