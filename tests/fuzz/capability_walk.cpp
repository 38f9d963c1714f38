// SPDX-License-Identifier: BSL-1.0
//
// Both capability lists, and the decoding of the BARs and of the capabilities, over an arbitrary
// 4-KiB configuration space: the walk ends, visits nothing twice, and follows the bytes as a reader
// of [pci] would by hand. Nothing that reads writes, leaves the space, or takes more than a bounded
// number of accesses, and what it yields is possible.
#include "pt/pci/access_control_services.hpp"
#include "pt/pci/address_translation_services.hpp"
#include "pt/pci/advanced_features.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/enhanced_allocation.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/pasid.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/resizable_bar.hpp"
#include "pt/pci/sr_iov.hpp"

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
    function_address address{0, 0x40, 0x1F, 7};
    std::uint8_t bytes[4096]{};
    unsigned reads = 0;

    [[nodiscard]] unsigned word(unsigned offset) const {
        return bytes[offset] + 256U * bytes[offset + 1];
    }
};

struct space_config {
    space* at;

    std::uint32_t read(function_address asked, std::uint16_t offset, width size) const {
        const unsigned count = static_cast<unsigned>(size);
        demand(offset % count == 0 && offset + count <= sizeof at->bytes);
        demand(asked == at->address);
        ++at->reads;
        std::uint32_t value = 0;
        for (unsigned i = 0; i < count; ++i) {
            value |= std::uint32_t{at->bytes[offset + i]} << 8 * i;
        }
        return value;
    }
    void write(function_address, std::uint16_t, width, std::uint32_t) const { demand(false); }
};

/// What one read of a decoded structure may cost: a walk of both lists, and its registers.
constexpr unsigned most_reads = (3 + 48) + (3 + 49 + 961) + 64;

/// Whether the result is there or says why it is not: absent, or malformed at a place in the space.
template <class T>
bool answered(space& real, const pt::result<T>& found) {
    demand(real.reads <= most_reads);
    real.reads = 0;
    if (!found) {
        const pt::error why = found.error();
        demand(why.code == pt::errc::absent ||
               (why.code == pt::errc::malformed && why.where >= 0x40 && why.where < 0x1000));
    }
    return found.has_value();
}

void capabilities_are_possible(space& real, space_config config) {
    using namespace pt::pci;
    const function_address f = real.address;
    real.reads = 0;
    if (const auto pm = read_power_management(config, f); answered(real, pm)) {
        demand(pm->at.offset <= 0xF8);
    }
    if (const auto af = read_advanced_features(config, f); answered(real, af)) {
        demand(af->at.offset <= 0xF8);
    }
    if (const auto express = read_pci_express(config, f); answered(real, express)) {
        demand(express->size() >= 0x0C && express->at.offset + express->size() <= 0x100);
        demand(is_defined(express->type()));
    }
    if (const auto msi = read_msi(config, f); answered(real, msi)) {
        demand(msi->vectors >= 1 && msi->vectors <= 32 && (msi->vectors & (msi->vectors - 1)) == 0);
        demand(msi->offset + msi->size() <= 0x100);
        demand(msi->data_offset() + 2 <= msi->offset + msi->size());
        demand(!msi->maskable || msi->pending_offset() + 4 == msi->offset + msi->size());
    }
    if (const auto msi_x = read_msi_x(config, f); answered(real, msi_x)) {
        const unsigned vectors = msi_x->vectors;
        demand(vectors >= 1 && vectors <= 2048);
        demand(msi_x->table.bar <= 5 && msi_x->table.size == 16 * vectors);
        demand(msi_x->pending_bits.bar <= 5 && msi_x->pending_bits.size >= (vectors + 7) / 8);
        demand(msi_x->table.offset % 8 == 0 && msi_x->pending_bits.offset % 8 == 0);
    }
    if (const auto acs = read_access_control_services(config, f); answered(real, acs)) {
        demand(acs->egress_vector_bits <= 256 && acs->at.offset + acs->size() <= 0x1000);
    }
    if (const auto ats = read_address_translation_services(config, f); answered(real, ats)) {
        demand(ats->invalidate_queue_depth() >= 1 && ats->invalidate_queue_depth() <= 32);
    }
    if (const auto found = read_pasid(config, f); answered(real, found)) {
        demand(found->capability[pasid_capability::max_pasid_width] <= 20);
    }
    if (const auto bars = read_resizable_bars(config, f); answered(real, bars)) {
        demand(bars->size() >= 1 && bars->size() <= 6);
        for (const auto& bar : *bars) {
            demand(bar.index <= 5 && (bar.sizes >> 44) == 0 && bar.size >= pt::MiB);
            demand((bar.size & (bar.size - 1)) == 0 && bar.at.offset + 12 <= 0x1000);
        }
    }
    if (const auto ea = read_enhanced_allocation(config, f); answered(real, ea)) {
        unsigned entries = 0;
        const auto list = fixed_ranges(config, f);
        for (const auto& range : list) {
            demand(++entries <= ea->entries && entries <= 63);
            if (range) {
                demand(range->offset >= ea->first_entry && range->offset + 12 <= 0x100);
                demand(range->size >= 4 && range->size % 4 == 0);
                demand(range->address <= ~std::uint64_t{0} - (range->size - 1));
            } else {
                demand(range.error().code == pt::errc::malformed);
            }
        }
        demand(real.reads <= 2 * (3 + 49) + 63 * 6);
        real.reads = 0;
    }
    if (const auto iov = read_sr_iov(config, f); answered(real, iov)) {
        demand(iov->num_vfs <= iov->total_vfs && iov->system_page_size >= 4096);
        unsigned count = 0;
        std::uint32_t last = f.source_id();
        for (const function_address vf : virtual_functions(f, *iov)) {
            demand(vf.valid() && vf.source_id() > last && ++count <= iov->num_vfs);
            last = vf.source_id();
        }
        for (const auto& bar : read_vf_bars(config, f, *iov)) {
            demand(bar ? bar->kind == bar_kind::mem32 || bar->kind == bar_kind::mem64
                       : bar.error().code == pt::errc::malformed);
        }
        demand(real.reads <= 6 * 3);
    }
}

/// Makes the lists lead to each capability that is decoded, at places that the input chooses, so
/// that arbitrary contents are decoded and not only arbitrary lists. Those that overlap win.
void plant(space& real, const std::uint8_t* input, std::size_t size) {
    std::size_t used = 0;
    const auto next = [&] { return unsigned{input[used++ % size]}; };
    real.bytes[0x06] |= 0x10;
    real.bytes[0x0E] &= 0x01;
    unsigned link = 0x34;
    for (const unsigned id : {0x10U, 0x01U, 0x05U, 0x11U, 0x13U, 0x14U}) {
        const unsigned at = 0x40 + next() % 48 * 4;
        real.bytes[link] = static_cast<std::uint8_t>(at);
        real.bytes[at] = static_cast<std::uint8_t>(id);
        real.bytes[at + 1] = 0;
        link = at + 1;
    }
    unsigned at = 0x100;
    for (const unsigned id : {0x0DU, 0x0FU, 0x1BU, 0x15U, 0x10U}) {
        const unsigned to = 0x100 + (next() * 256 + next()) % 960 * 4;
        real.bytes[at] = static_cast<std::uint8_t>(id);
        real.bytes[at + 1] = 0;
        real.bytes[at + 2] = static_cast<std::uint8_t>(1 | (to & 0xF) << 4);
        real.bytes[at + 3] = static_cast<std::uint8_t>(to >> 4);
        at = to;
    }
    // A page size is one bit of 32, and no count is above another: chance does not find that.
    if (at != 0x100 && at + 0x40 <= 0x1000 && next() % 2 != 0) {
        real.bytes[at] = 0x10;
        real.bytes[at + 1] = 0;
        for (unsigned i = 0x20; i < 0x24; ++i) {
            real.bytes[at + i] = 0;
        }
        const unsigned page = next() % 32;
        real.bytes[at + 0x1C + page / 8] |= static_cast<std::uint8_t>(1U << page % 8);
        real.bytes[at + 0x20 + page / 8] = static_cast<std::uint8_t>(1U << page % 8);
        real.bytes[at + 0x0D] = 0;     // InitialVFs
        real.bytes[at + 0x0F] = 0xFF;  // TotalVFs
        real.bytes[at + 0x11] &= 0x7F; // NumVFs
    }
}

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
    const function_address function = real.address;

    unsigned expected = 0;
    const unsigned layout = real.bytes[0x0E] & 0x7F;
    if ((real.bytes[6] & 0x10) != 0 && layout <= 2) {
        expected = follow(real.bytes[layout == 2 ? 0x14 : 0x34], 0x40, 0xFF);
    }
    bool seen[4096 / 4]{};
    unsigned count = 0;
    bool express = false;
    for (const auto found : pt::pci::capabilities(config, function)) {
        express |= real.bytes[found.offset] == 0x10;
        demand(found.offset == expected && !seen[found.offset / 4]);
        demand(found.offset >= 0x40 && found.offset <= 0xFC && found.offset % 4 == 0);
        demand(static_cast<unsigned>(found.id) == real.bytes[found.offset]);
        demand(++count <= 48);
        seen[found.offset / 4] = true;
        expected = follow(real.bytes[found.offset + 1], 0x40, 0xFF);
    }
    // It ended where it had to: nowhere to go, been there, or no capability there.
    demand(expected == 0 || seen[expected / 4] || real.bytes[expected] == 0xFF);

    expected = express ? 0x100 : 0;
    count = 0;
    for (const auto found : pt::pci::extended_capabilities(config, function)) {
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
    demand(real.reads <= 2 * (3 + 49) + 961);

    capabilities_are_possible(real, config);
    space planted = real;
    plant(planted, input, size);
    capabilities_are_possible(planted, space_config{&planted});

    for (const auto& bar : pt::pci::read_bars(config, function)) {
        if (bar) {
            demand(bar->size == 0 && bar->offset >= 0x10 && bar->offset <= 0x38);
            demand(bar->index + bar->registers() <= 7);
        } else {
            demand(bar.error().code == pt::errc::malformed);
        }
    }
    return 0;
}
