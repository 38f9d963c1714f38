// SPDX-License-Identifier: BSL-1.0
//
// edu is moved between two guests while it works: each of its DMAs arrives in one of them, whole,
// whenever it comes. Then quarantine, release, and the end of a guest.
#include "../edu.hpp"
#include "../vtd.hpp"

namespace {

using kernel::attachment;
using kernel::check;
using kernel::check_blocked;
using kernel::check_equal;
using kernel::check_error;
using kernel::check_no_fault;
using kernel::check_without_entry;
using kernel::domain;
using kernel::edu;
using kernel::read_write;
using kernel::remapping;
using pt::hpa;
using pt::iova;
using request = pt::vtd::fault_record::request;

constexpr std::uint64_t page = 4 * pt::KiB;
constexpr std::uint64_t size = edu::largest_dma;
constexpr iova source{0x30'0000'0000};
constexpr iova target{0x30'0000'1000};

/// A guest with the same addresses as the other one, and memory of its own.
struct guest {
    guest(remapping& vtd, const pt::vtd::second_stage::limits& usable) : memory{vtd, usable} {}

    pt::result<void> fill(std::uint8_t seed) {
        kernel::fill(from, size, seed);
        return memory.map({source, page}, from, read_write).and_then([this] {
            return memory.map({target, page}, to, read_write);
        });
    }
    /// Forgets what edu wrote.
    void clean() { __builtin_memset(kernel::pointer_to<void>(to), 0, page); }

    domain memory;
    hpa from = kernel::take_frame();
    hpa to = kernel::take_frame();
};

/// Whether a DMA arrived in one of the guests.
bool is_whole(guest& a, guest& b, std::uint64_t& moves) {
    const bool in_a = kernel::is_filled(a.to, size, 9) && kernel::is_zero(b.to, page);
    const bool in_b = kernel::is_filled(b.to, size, 9) && kernel::is_zero(a.to, page);
    if (!in_a && !in_b) {
        kernel::say("lost after ", moves, " moves");
    }
    return in_a != in_b;
}

/// DMAs of edu under moves without end. Each comes 100 ms after it began, give or take one, and each
/// time at another place of the operation.
void many_dmas(remapping& vtd, edu& device, attachment& there, guest& a, guest& b) {
    constexpr unsigned enough = 24;
    unsigned dmas = 0;
    unsigned whole = 0;
    unsigned in_a = 0;
    std::uint64_t moves = 0;
    bool moved = true;
    kernel::clock time;
    // As many as it takes to see both guests, within reason.
    for (; dmas < enough || (dmas < 4 * enough && (in_a == 0 || in_a == dmas)); ++dmas) {
        a.clean();
        b.clean();
        device.begin_store(target, size);
        kernel::pause_for(98'500'000 + 7'919 * std::uint64_t{dmas});
        const std::uint64_t start = time.now();
        while (device.is_busy() && time.now() - start < kernel::patience) {
            moved = (moves++ % 2 == 0 ? b.memory.attach(there) : a.memory.attach(there)) && moved;
        }
        whole += is_whole(a, b, moves) ? 1U : 0U;
        in_a += kernel::is_zero(b.to, page) ? 1U : 0U;
    }
    kernel::say("moves: ", moves, ", DMAs: ", std::uint64_t{dmas},
                ", of them into the first guest: ", std::uint64_t{in_a});
    check("every move succeeds", moved);
    check("there were many moves while a DMA came", moves > 10U * dmas);
    check_equal("every DMA arrived in one guest, and in no two", whole, dmas);
    check("they arrived now in the one, now in the other", in_a > 0 && in_a < dmas);
    check_no_fault("and none was blocked", vtd);
    check("edu ends in the first", moves % 2 == 0 || a.memory.attach(there));
}

void moves(remapping& vtd) {
    auto device = edu::open();
    const auto usable = vtd.limits(40);
    if (!check("edu answers", device) || !check("there are tables", usable)) {
        return;
    }
    attachment there{edu::place};
    check_error("there is no quarantine before the start", vtd.quarantine(there),
                pt::errc::refused);
    if (!check("all units start", vtd.start())) {
        return;
    }
    // The unit's own tables for edu come with its first translation and, but for those that it
    // shares with other functions of the bus, go with its last.
    check("edu is quarantined first", vtd.quarantine(there));
    const std::uint64_t quarantined = kernel::frames_in_use();
    check("and let go", vtd.release(there));
    const std::uint64_t released = kernel::frames_in_use();
    guest a{vtd, *usable};
    guest b{vtd, *usable};
    if (!check("the first guest has memory", a.fill(1)) ||
        !check("the second guest has memory", b.fill(2)) ||
        !check("edu is given to the first", a.memory.attach(there))) {
        return;
    }
    check("edu reads in the first", device->load(source, size));
    check("it writes in the first", device->store(target, size));
    check("what it read there", kernel::is_filled(a.to, size, 1));
    check("edu moves to the second", b.memory.attach(there));
    check("it writes in the second", device->store(target, size));
    check("what it read in the first", kernel::is_filled(b.to, size, 1));
    check_error("it is there already", b.memory.attach(there), pt::errc::already_mapped);
    check("it reads in the second", device->load(source, size));
    check("it writes again", device->store(target, size));
    check("what it read in the second", kernel::is_filled(b.to, size, 2));
    check("the first has seen nothing of it", kernel::is_filled(a.to, size, 1));
    check("edu moves back", a.memory.attach(there));
    check_no_fault("nothing was blocked so far", vtd);

    kernel::fill(a.from, size, 9);
    check("edu fetches what it will write", device->load(source, size));
    many_dmas(vtd, *device, there, a, b);

    check_error("a guest with a device does not go", a.memory.retire(), pt::errc::busy);
    check("the other one goes", b.memory.retire());
    a.clean();
    device->begin_store(target, size);
    check("edu is quarantined in the middle of a DMA", vtd.quarantine(there));
    check("its guest goes", a.memory.retire());
    check_equal("all frames of the guests are back", kernel::frames_in_use(), quarantined);
    check("the DMA ends", kernel::wait_until([&] { return !device->is_busy(); }));
    check_blocked("it was blocked", vtd, edu::place, request::write, target);
    check("the memory is somebody else's", kernel::is_zero(a.to, page));
    check("edu reads from the quarantine", device->load(source, size));
    check_blocked("in vain", vtd, edu::place, request::read, source);
    check_error("the quarantine does not go while edu is in it", vtd.retire(), pt::errc::busy);

    // The same object is a guest again, and edu comes out of the quarantine.
    check("a guest comes again", a.fill(3));
    check("edu comes out of the quarantine", a.memory.attach(there));
    check("and reads", device->load(source, size));
    check("and writes", device->store(target, size));
    check("what the new guest has", kernel::is_filled(a.to, size, 3));

    check("edu is released", vtd.release(there));
    check("a second release is nothing", vtd.release(there));
    a.clean();
    check("edu writes to nowhere", device->store(target, size));
    check_without_entry("it has no entry", vtd, edu::place, request::write, target);
    check("and changed nothing", kernel::is_zero(a.to, page));
    check("the last guest goes", a.memory.retire());
    check_equal("and all its frames are back", kernel::frames_in_use(), released);
}

void run() {
    kernel::with_remapping([](remapping& vtd, kernel::remapping_unit&) { moves(vtd); });
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"vtd_moves", run};

} // namespace
