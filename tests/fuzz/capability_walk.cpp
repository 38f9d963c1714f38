// SPDX-License-Identifier: BSL-1.0
//
// Both capability lists, and the decoding of the BARs, over an arbitrary 4-KiB configuration space:
// the walk ends, visits nothing twice, stays in bounds, writes nothing, and follows the bytes as a
// reader of [pci] would by hand.
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/msi_x.hpp"

#include <cstddef>
#include <cstdint>

namespace {

using pt::width;
using pt::pci::function_address;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

struct space {
    std::uint8_t bytes[4096]{};
    unsigned reads = 0;

    [[nodiscard]] unsigned word(unsigned offset) const {
        return bytes[offset] + 256U * bytes[offset + 1];
    }
};

struct space_config {
    space* at;

    std::uint32_t read(function_address, std::uint16_t offset, width size) const {
        const unsigned count = static_cast<unsigned>(size);
        demand(offset % count == 0 && offset + count <= sizeof at->bytes);
        ++at->reads;
        std::uint32_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            value |= std::uint32_t{at->bytes[offset + i]} << 8 * i;
        }
        return value;
    }
    void write(function_address, std::uint16_t, width, std::uint32_t) const { demand(false); }
};

/// Where a reader would go next, 0 for nowhere.
unsigned follow(unsigned pointer, unsigned lowest, unsigned all_ones) {
    return pointer == all_ones || pointer < lowest ? 0 : pointer - pointer % 4;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
    // Bytes 0 to 63 of the input are the header; then come the first 64 bytes of the lists, each
    // repeated as far as it goes so that small inputs make long lists.
    if (size < 66) {
        return 0;
    }
    space real{};
    for (unsigned i = 0; i < 64; ++i) {
        real.bytes[i] = input[i];
    }
    for (unsigned i = 64; i < sizeof real.bytes; ++i) {
        real.bytes[i] = static_cast<std::uint8_t>(input[64 + (i - 64) % (size - 64)] +
                                                  (i - 64) / (size - 64) * 4 % 256);
    }
    const space_config config{&real};
    const function_address nobody{};

    unsigned expected = 0;
    const unsigned layout = real.bytes[0x0E] & 0x7F;
    if ((real.bytes[6] & 0x10) != 0 && layout <= 2) {
        expected = follow(real.bytes[layout == 2 ? 0x14 : 0x34], 0x40, 0xFF);
    }
    bool seen[4096 / 4]{};
    unsigned count = 0;
    for (const auto found : pt::pci::capabilities(config, nobody)) {
        demand(found.offset == expected && !seen[found.offset / 4]);
        demand(found.offset >= 0x40 && found.offset <= 0xFC && found.offset % 4 == 0);
        demand(static_cast<unsigned>(found.id) == real.bytes[found.offset]);
        demand(++count <= 48);
        seen[found.offset / 4] = true;
        expected = follow(real.bytes[found.offset + 1], 0x40, 0xFF);
    }
    // It ended where it had to: nowhere to go, been there, or no capability there.
    demand(expected == 0 || seen[expected / 4] || real.bytes[expected] == 0xFF);

    expected = 0x100;
    count = 0;
    for (const auto found : pt::pci::extended_capabilities(config, nobody)) {
        demand(found.offset == expected && !seen[found.offset / 4]);
        demand(found.offset >= 0x100 && found.offset <= 0xFFC && found.offset % 4 == 0);
        demand(static_cast<unsigned>(found.id) == real.word(found.offset));
        demand(found.version == (real.bytes[found.offset + 2] & 15));
        demand(++count <= 960);
        seen[found.offset / 4] = true;
        expected = follow(real.word(found.offset + 2) >> 4, 0x100, 0x1000);
    }
    if (expected != 0 && !seen[expected / 4]) {
        const unsigned low = real.word(expected);
        const unsigned high = real.word(expected + 2);
        demand((low == 0 && high == 0) || (low == 0xFFFF && high == 0xFFFF));
    }
    demand(real.reads <= 3 + 49 + 961);

    if (const auto msi_x = pt::pci::read_msi_x(config, nobody)) {
        const unsigned vectors = msi_x->vectors;
        demand(vectors >= 1 && vectors <= 2048);
        demand(msi_x->table.bar <= 5 && msi_x->table.size == 16 * vectors);
        demand(msi_x->pending_bits.bar <= 5 && msi_x->pending_bits.size >= (vectors + 7) / 8);
        demand(msi_x->table.offset % 8 == 0 && msi_x->pending_bits.offset % 8 == 0);
    } else {
        demand(msi_x.error().code == pt::errc::absent || msi_x.error().code == pt::errc::malformed);
    }

    for (const auto& bar : pt::pci::read_bars(config, nobody)) {
        if (bar) {
            demand(bar->size == 0 && bar->offset >= 0x10 && bar->offset <= 0x38);
            demand(bar->index + bar->registers() <= 7);
        } else {
            demand(bar.error().code == pt::errc::malformed);
        }
    }
    return 0;
}
