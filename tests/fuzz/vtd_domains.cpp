// SPDX-License-Identifier: BSL-1.0
//
// Guests with functions behind three units, changed in an order that the input chooses, with units
// that fail where it says. Whatever happens: no function reaches memory of a guest that it is not
// in, nor a page that was taken away with success, nor anything untranslated; the units see no step
// that the manual forbids; and when they answer again everything can be given back.
#include "../unit/vtd/domain_rig.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>

namespace {

using namespace vtd_domains;

void demand(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

constexpr std::size_t guest_count = 2;
constexpr std::size_t page_slots = 6;
constexpr std::uint64_t page_at[page_slots] = {0,         0x1000,    0x2000,
                                               0x1F'F000, 0x20'0000, 0x4000'0000};

struct input {
    const std::uint8_t* data;
    std::size_t size;

    unsigned next() {
        if (size == 0) {
            return 0;
        }
        --size;
        return *data++;
    }
};

/// Which uses of a page a function may see: the present one, and those that a unit may not have
/// forgotten. A use is numbered, and its number is part of the host address.
struct page_uses {
    unsigned now = 0; ///< 0: none
    unsigned oldest = 1;

    [[nodiscard]] bool may_be(unsigned use) const { return use == now || use >= oldest; }
};

struct function {
    pt::pci::function_address address;
    std::size_t behind;
    unsigned perhaps_in = 0; ///< a bit for each guest
};

class session {
public:
    explicit session(input from, bool scalable) : from_{from} {
        for (auto& unit : m_->unit) {
            unit.ecap = scalable ? scalable_ecap : unit.ecap;
        }
        m_->unit[1].cap |= cap_cm;
        m_->start({.mode = scalable ? pt::vtd::table_mode::scalable : pt::vtd::table_mode::legacy});
        for (auto& one : guests_) {
            one = std::make_unique<rig::domain>(*m_->vtd, m_->vtd->limits(39).value());
        }
        for (std::size_t f = 0; f < 4; ++f) {
            nodes_[f] = std::make_unique<rig::attachment>(functions_[f].address);
        }
    }
    void run() {
        for (unsigned steps = 0; from_.size != 0 && steps < 100; ++steps) {
            step();
            check();
        }
        for (auto& unit : m_->unit) {
            repair(unit);
        }
        for (std::size_t f = 0; f < 4; ++f) {
            demand(m_->vtd->release(*nodes_[f]) || m_->vtd->release(*nodes_[f]));
            functions_[f].perhaps_in = 0;
        }
        check();
        for (auto& one : guests_) {
            demand(one->retire().has_value());
        }
        demand(m_->end());
    }

private:
    void step() {
        const unsigned what = from_.next();
        const unsigned which = from_.next();
        const std::size_t g = which % guest_count;
        const std::size_t f = which / 4 % 4;
        const std::size_t p = which / 16 % page_slots;
        rig::domain& guest = *guests_[g];
        const auto where = pages(page_at[p]);
        switch (what % 10) {
        case 0:
        case 1: {
            const unsigned use = ++uses_;
            const auto done =
                guest.map(where, pt::hpa{memory_of(static_cast<unsigned>(g), use * 0x1000)}, rw);
            if (guest.tables().translate(where.first()) && pages_[g][p].now == 0) {
                pages_[g][p].now = use;
            }
            settle(g, done);
            break;
        }
        case 2:
        case 3: {
            may_linger(pages_[g][p]);
            const auto done = guest.unmap(where);
            if (!guest.tables().translate(where.first())) {
                pages_[g][p].now = 0;
            }
            settle(g, done);
            break;
        }
        case 4:
        case 5: went(f, 1U << g, guest.attach(*nodes_[f])); break;
        case 6: went(f, 0, m_->vtd->quarantine(*nodes_[f])); break;
        case 7: went(f, 0, m_->vtd->release(*nodes_[f])); break;
        case 8: fail(m_->unit[which % 3], from_.next()); break;
        default:
            for (auto& unit : m_->unit) {
                repair(unit);
            }
            settle(g, guest.flush());
            break;
        }
    }
    /// After a success nothing of before is left anywhere; what is mapped now is allowed as such.
    void settle(std::size_t g, const pt::result<void>& done) {
        for (page_uses& page : pages_[g]) {
            page.oldest = done ? uses_ + 1 : page.oldest;
        }
    }
    /// From now on the present use may be seen for as long as a unit has not forgotten it.
    static void may_linger(page_uses& page) {
        if (page.now != 0 && page.now < page.oldest) {
            page.oldest = page.now;
        }
    }
    void went(std::size_t f, unsigned in, const pt::result<void>& done) {
        function& one = functions_[f];
        one.perhaps_in = done ? in : one.perhaps_in | in;
        if (!nodes_[f]->attached()) {
            one.perhaps_in = 0;
        }
    }
    static void fail(remapping_unit& unit, unsigned how) {
        const unsigned n = 1 + how / 4 % 16;
        switch (how % 4) {
        case 0: unit.stall_at = unit.orders + n; break;
        case 1: unit.refuse_at = unit.orders + n; break;
        case 2: unit.time_out_at = unit.orders + n; break;
        default: unit.vanish_at = unit.accesses + 2 * n; break;
        }
    }
    void check() {
        demand(m_->right());
        for (const function& f : functions_) {
            for (std::size_t p = 0; p < page_slots; ++p) {
                const outcome o = m_->dma(f.behind, f.address, page_at[p] + 8);
                if (!o.reached) {
                    continue;
                }
                demand(o.translated && o.to >= memory_of(0));
                const std::uint64_t g = (o.to - memory_of(0)) / (memory_of(1) - memory_of(0));
                const auto use =
                    static_cast<unsigned>((o.to - memory_of(static_cast<unsigned>(g))) >> 12);
                demand(g < guest_count && (f.perhaps_in >> g & 1) != 0);
                demand(pages_[g][p].may_be(use));
            }
        }
    }

    input from_;
    std::unique_ptr<rig> m_ = std::make_unique<rig>();
    std::unique_ptr<rig::domain> guests_[guest_count];
    std::unique_ptr<rig::attachment> nodes_[4];
    function functions_[4]{{card, 0}, {nic, 1}, {disk, 1}, {far, 2}};
    page_uses pages_[guest_count][page_slots]{};
    unsigned uses_ = 0;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    input from{data, size};
    const bool scalable = from.next() % 2 != 0;
    session{from, scalable}.run();
    return 0;
}
