// SPDX-License-Identifier: BSL-1.0
// The local APIC's scan, the way of one interrupt, and an IPI. A floor is what an expert writes by hand
// for the same answer, in the same run; sets are random and visited in an order that no branch predictor
// learns, because a guest's vectors are not the same each time either.
#include "../flavours/row.hpp"
#include "random.hpp"

#include "pt/core/atomic.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/register_page.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace bench {
namespace {

using pt::lapic::trigger_mode;

struct stopped_clock {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};

struct interruptible {
    bool can_take_interrupt() { return true; }
    bool can_take_nmi() { return true; }
};

using apic_type = pt::lapic::local_apic<stopped_clock>;

constexpr std::uint32_t svr_offset = 0xF0;
constexpr std::uint32_t icr_low_offset = 0x300;

struct one_apic {
    pt::lapic::register_page page;
    pt::lapic::inbox box;
    apic_type apic;

    explicit one_apic(std::uint32_t id)
        : page{}, box{}, apic{page, box, {id, pt::lapic::processor_role::bootstrap}, {}} {
        (void)apic.write(svr_offset, pt::mmio_width::dword, 0x1FF);
    }
};

constexpr std::uint64_t scans = 4096;

// Register pages are 4 KiB apart, so that no more than this many stay in an 8-way first-level cache.
constexpr std::size_t set_count = 8;

/// A random number of random legal vectors for each set, the same for floor and library.
template <class Insert>
void fill(Insert insert) {
    random_numbers random;
    for (std::size_t set = 0; set != set_count; ++set) {
        const std::uint64_t count = random.next() % 8;
        for (std::uint64_t i = 0; i != count; ++i) {
            insert(set, static_cast<std::uint8_t>(16 + random.next() % 240));
        }
    }
}

/// The best layout for a scan, which the hardware's is not: a summary word and eight words in a row.
struct summarized_set {
    std::uint32_t summary = 0;
    std::uint32_t words[8] = {};
    void insert(std::uint8_t vector) {
        words[vector / 32] |= std::uint32_t{1} << (vector % 32);
        summary |= std::uint32_t{1} << (vector / 32);
    }
    [[nodiscard]] std::uint32_t highest() const {
        const auto top = static_cast<std::uint32_t>(31 - std::countl_zero(summary | 1));
        return top * 32 + static_cast<std::uint32_t>(31 - std::countl_zero(words[top] | 1));
    }
};

class sets {
public:
    explicit sets(const region&) {
        fill([this](std::size_t set, std::uint8_t vector) { sets_[set].insert(vector); });
    }
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    summarized_set sets_[set_count];
};

class apics {
public:
    explicit apics(const region&) {
        fill([this](std::size_t set, std::uint8_t vector) {
            (void)all_[set].apic.accept(vector, trigger_mode::edge);
        });
    }
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }

protected:
    one_apic all_[set_count]{one_apic{0}, one_apic{1}, one_apic{2}, one_apic{3},
                             one_apic{4}, one_apic{5}, one_apic{6}, one_apic{7}};
};

class scan : public sets {
public:
    using sets::sets;
    bool run(unsigned) {
        random_numbers random;
        for (std::uint64_t i = 0; i != scans; ++i) {
            keep(sets_[random.next() % set_count].highest());
        }
        return true;
    }
};

class scan_chain : public sets {
public:
    using sets::sets;
    bool run(unsigned) {
        random_numbers random;
        std::uint64_t answer = 0;
        for (std::uint64_t i = 0; i != scans; ++i) {
            answer = sets_[random.next(answer << 32) % set_count].highest();
        }
        keep(answer);
        return true;
    }
};

class highest_pending : public apics {
public:
    using apics::apics;
    bool run(unsigned) {
        random_numbers random;
        for (std::uint64_t i = 0; i != scans; ++i) {
            keep(all_[random.next() % set_count].apic.pending());
        }
        return true;
    }
};

class highest_pending_chain : public apics {
public:
    using apics::apics;
    bool run(unsigned) {
        random_numbers random;
        std::uint64_t answer = 0;
        for (std::uint64_t i = 0; i != scans; ++i) {
            answer = all_[random.next(answer << 32) % set_count].apic.pending();
        }
        keep(answer);
        return true;
    }
};

/// What a processor with APIC virtualization costs at each exit: the page is looked at anew.
class after_hardware : public apics {
public:
    using apics::apics;
    bool run(unsigned) {
        random_numbers random;
        for (std::uint64_t i = 0; i != scans; ++i) {
            all_[random.next() % set_count].apic.after_hardware();
            keep(this);
        }
        return true;
    }
};

/// One vector from its arrival to its end, as an exit loop does it: again and again the one of a device,
/// or each time another, of which the processor then does not know the place in time.
enum class vectors { of_one_device, any };

template <vectors which>
class accept_inject_eoi {
public:
    explicit accept_inject_eoi(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }
    bool run(unsigned) {
        bool good = true;
        std::uint64_t number = random_.next();
        for (std::uint64_t i = 0; i != scans; ++i) {
            if (which == vectors::any) {
                number = random_.next();
            }
            const auto vector = static_cast<std::uint8_t>(16 + unknown(number) % 240);
            (void)one_.apic.accept(vector, trigger_mode::edge);
            good = injector_.before_entry().event.vector == vector && good;
            good = one_.apic.eoi().vector == vector && good;
            keep(this);
        }
        return good;
    }

private:
    random_numbers random_;
    one_apic one_{0};
    pt::lapic::injector<interruptible, apic_type> injector_{one_.apic, interruptible{}};
};

// ------------------------------------------------------------------------------------- IPIs

constexpr std::size_t vcpu_count = 2;

struct two_vcpus {
    one_apic* first;
    std::uint64_t* kicks;
    [[nodiscard]] std::uint32_t count() const { return vcpu_count; }
    [[nodiscard]] pt::lapic::inbox& inbox(std::uint32_t n) const { return first[n].box; }
    void notify(std::uint32_t, pt::lapic::notification) const { ++*kicks; }
};

class atomic_or {
public:
    explicit atomic_or(const region&) {}
    [[nodiscard]] bool ready() const { return true; }
    bool undo() { return true; }
    bool run(unsigned) {
        random_numbers random;
        for (std::uint64_t i = 0; i != scans; ++i) {
            const std::uint64_t vector = 16 + random.next() % 240;
            pt::atomic::fetch_or(&words_[vector / 64], std::uint64_t{1} << vector % 64);
        }
        return true;
    }

private:
    alignas(64) std::uint64_t words_[4]{};
};

/// A guest's write of ICR until the request is where the other virtual processor finds it.
class ipi_fixed {
public:
    explicit ipi_fixed(const region&) {
        (void)all_[0].apic.write(icr_low_offset + 0x10, pt::mmio_width::dword, 1U << 24);
    }
    [[nodiscard]] bool ready() const { return true; }
    bool run(unsigned) {
        random_numbers random;
        bool good = true;
        for (std::uint64_t i = 0; i != scans; ++i) {
            const std::uint64_t vector = 16 + random.next() % 240;
            const auto effect = all_[0].apic.write(icr_low_offset, pt::mmio_width::dword, vector);
            good = bus_.deliver(0, effect.command).reached == 1 && good;
        }
        return good;
    }
    bool undo() {
        all_[1].apic.synchronize();
        return all_[1].apic.pending() != 0;
    }

protected:
    one_apic all_[vcpu_count]{one_apic{0}, one_apic{1}};
    std::uint64_t kicks_ = 0;
    pt::lapic::bus<two_vcpus> bus_{two_vcpus{all_, &kicks_}};
};

/// The same, and the other one takes each at once: every IPI is the first, and notifies.
class ipi_fixed_taken : public ipi_fixed {
public:
    using ipi_fixed::ipi_fixed;
    bool run(unsigned) {
        random_numbers random;
        for (std::uint64_t i = 0; i != scans; ++i) {
            const std::uint64_t vector = 16 + random.next() % 240;
            const auto effect = all_[0].apic.write(icr_low_offset, pt::mmio_width::dword, vector);
            bus_.deliver(0, effect.command);
            all_[1].apic.synchronize();
        }
        return kicks_ >= scans;
    }
};

} // namespace

void add_local_apic_rows(add_row add) {
    add(row_of<scan>::make("floor_lapic_scan", scans, 64, 1));
    add(row_of<highest_pending>::make("lapic_highest_pending", scans, 64, 1));
    add(row_of<scan_chain>::make("floor_lapic_scan_chain", scans, 64, 1));
    add(row_of<highest_pending_chain>::make("lapic_highest_pending_chain", scans, 64, 1));
    add(row_of<accept_inject_eoi<vectors::of_one_device>>::make("lapic_accept_inject_eoi", scans,
                                                                64, 1));
    add(row_of<accept_inject_eoi<vectors::any>>::make("lapic_accept_inject_eoi_any", scans, 64, 1));
    add(row_of<atomic_or>::make("floor_atomic_or", scans, 64, 1));
    add(row_of<ipi_fixed>::make("lapic_ipi_fixed", scans, 64, 1));
    add(row_of<ipi_fixed_taken>::make("lapic_ipi_fixed_taken", scans, 64, 1));
    add(row_of<after_hardware>::make("lapic_after_hardware", scans, 64, 1));
}

} // namespace bench
