// SPDX-License-Identifier: BSL-1.0
#include "pt/pci/sr_iov.hpp"

#include "fake_lists.hpp"

#include <catch2/catch_test_macros.hpp>
#include <range/v3/range/concepts.hpp>

#include <initializer_list>

namespace {

using namespace pt::pci;
using pci_fake::listed;
using pt::errc;
using pt::error;

constexpr function_address pf = listed::address;

/// SR-IOV of an 82576 at 0x160 as a real machine has it: 8 VFs, 384 routing ids further, each second
/// one, VF device 10ca, and two VF BARs, both 64-bit: 16 KiB and 16 KiB.
struct nic : listed {
    constexpr nic(std::uint16_t control = 0x0000, std::uint16_t num_vfs = 8) {
        express(0xA0);
        extend(0x100, 0x0001);
        extend(0x160, 0x0010);
        put(0x168, 2, control);
        put(0x16C, 4, 0x0008'0008);
        put(0x170, 2, num_vfs);
        put(0x174, 4, 0x0002'0180);
        put(0x17A, 2, 0x10CA);
        put(0x17C, 4, 0x0000'0553);
        put(0x180, 4, 0x0000'0001);
        functions[0].bar(0x184, 0xFFFF'C000, 0xD284'0004);
        functions[0].bar(0x188, 0xFFFF'FFFF, 0x0000'0000);
        functions[0].bar(0x190, 0xFFFF'C000, 0xD286'0004);
        functions[0].bar(0x194, 0xFFFF'FFFF, 0x0000'0000);
        put(0x04, 2, 0x0006); // the PF decodes memory, and goes on doing so
    }
    constexpr auto read() { return read_sr_iov(config(), pf); }
    constexpr bool malformed() { return read().error() == error{errc::malformed, 0x160}; }
};

constexpr bool lists(virtual_function_list found,
                     std::initializer_list<function_address> expected) {
    auto next = expected.begin();
    for (const function_address vf : found) {
        if (next == expected.end() || vf != *next++) {
            return false;
        }
    }
    return next == expected.end() && found.size() == expected.size();
}

} // namespace

TEST_CASE("SR-IOV of an 82576", "[pci]") {
    constexpr auto holds = [] {
        nic d{0x0009, 1};
        const auto iov = d.read();
        return iov && iov->at.offset == 0x160 && iov->control[sr_iov_control::vf_enable] &&
               iov->control[sr_iov_control::vf_memory_space_enable] &&
               !iov->control[sr_iov_control::ari_capable_hierarchy] && iov->initial_vfs == 8 &&
               iov->total_vfs == 8 && iov->num_vfs == 1 && iov->first_vf_offset == 384 &&
               iov->vf_stride == 2 && iov->vf_device_id == 0x10CA &&
               iov->supported_page_sizes == 0x553 && iov->system_page_size == 4096 && d.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("SR-IOV counts that cannot be are malformed", "[pci]") {
    constexpr auto with = [](std::size_t offset, std::size_t size, std::uint64_t value) {
        nic d;
        d.put(offset, size, value);
        return d.malformed() && d.only_read();
    };
    constexpr auto holds = [=] {
        nic stride_of_one; // a single VF needs no stride
        stride_of_one.put(0x170, 2, 1);
        stride_of_one.put(0x176, 2, 0);
        nic none; // firmware that turned the VFs off
        none.put(0x16C, 8, 0);
        none.put(0x174, 4, 0);
        nic largest;
        largest.put(0x17C, 8, 0x8000'0000'8000'0000);
        return with(0x16C, 2, 9) && // InitialVFs above TotalVFs
               with(0x170, 2, 9) && // NumVFs above TotalVFs
               with(0x174, 2, 0) && // the first VF would be the PF
               with(0x176, 2, 0) && // all at one address
               with(0x180, 4, 0) && // no page size
               with(0x180, 4, 3) && // two of them
               with(0x180, 4, 4) && // 16 KiB is not supported
               stride_of_one.read() && none.read() && none.read()->total_vfs == 0 &&
               largest.read()->system_page_size == std::uint64_t{1} << 43;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("SR-IOV: absent, and past the end of the space", "[pci][rule 4]") {
    constexpr auto holds = [] {
        listed none;
        none.express();
        listed beyond;
        beyond.express();
        beyond.extend(0x100, 0x0001);
        beyond.extend(0xFC4, 0x0010);
        return read_sr_iov(none.config(), pf).error() == error{errc::absent, 0x10} &&
               read_sr_iov(beyond.config(), pf).error() == error{errc::malformed, 0xFC4} &&
               beyond.only_read();
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

// ---- where the VFs are ----

TEST_CASE("virtual functions are counted in routing ids, and reach other buses", "[pci]") {
    constexpr auto holds = [] {
        nic d{0, 8}; // 01:00.0 + 384 = 02:10.0
        const auto found = virtual_functions(d.config(), pf);
        return found && lists(*found, {{0, 2, 0x10, 0},
                                       {0, 2, 0x10, 2},
                                       {0, 2, 0x10, 4},
                                       {0, 2, 0x10, 6},
                                       {0, 2, 0x11, 0},
                                       {0, 2, 0x11, 2},
                                       {0, 2, 0x11, 4},
                                       {0, 2, 0x11, 6}});
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("virtual functions end with NumVFs, and with the last routing id", "[pci]") {
    constexpr auto holds = [] {
        using list = virtual_function_list;
        return lists(list{{3, 0xFF, 0x1F, 0}, 3, 2, 100},
                     {{3, 0xFF, 0x1F, 3}, {3, 0xFF, 0x1F, 5}, {3, 0xFF, 0x1F, 7}}) &&
               lists(list{{0, 0xFF, 0x1F, 0}, 8, 1, 100}, {}) &&
               lists(list{{0, 0xFF, 0x1F, 7}, 0xFFFF, 0xFFFF, 0xFFFF}, {}) &&
               lists(list{{0, 0, 0, 0}, 0xFFFF, 0xFFFF, 0xFFFF}, {{0, 0xFF, 0x1F, 7}}) &&
               lists(list{{0, 0, 0, 0}, 1, 0x8000, 3}, {{0, 0, 0, 1}, {0, 0x80, 0, 1}}) &&
               lists(list{{0, 0, 0, 0}, 1, 1, 0}, {}) &&
               lists(list{{0, 0, 0, 0}, 1, 0, 9}, {{0, 0, 0, 1}}) && lists(list{}, {}) &&
               list{{0, 0, 0, 0}, 1, 1, 0xFFFF}.size() == 0xFFFF;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
    STATIC_REQUIRE(ranges::forward_range<virtual_function_list>);
    nic none{0, 0};
    CHECK(virtual_functions(none.config(), pf)->size() == 0);
}

// ---- VF BARs ----

TEST_CASE("VF BARs are sized per VF while VF Enable is off, without touching Command or Control",
          "[pci][rule 6][rule 7]") {
    constexpr auto holds = [] {
        nic d;
        const auto iov = d.read();
        const auto bars = size_vf_bars(d.config(), pf, *iov);
        bool good = bars && bars->size() == 2 &&
                    *bars->find(0) == bar{bar_kind::mem64, false, 0, 0x184, 0xD284'0000, 0x4000} &&
                    *bars->find(3) == bar{bar_kind::mem64, false, 3, 0x190, 0xD286'0000, 0x4000};
        for (std::size_t n = 0; n < d.machine.writes(); ++n) {
            const auto write = d.machine.write(n);
            good &= write.offset >= 0x184 && write.offset < 0x19C && write.size == 4;
        }
        return good && d.get(0x184, 8) == 0xD284'0004 && d.get(0x190, 8) == 0xD286'0004 &&
               !d.machine.out_of_bounds;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("VF BARs of VFs that are on are not touched", "[pci][rule 6]") {
    constexpr auto holds = [] {
        nic d{0x0001};
        const auto iov = d.read();
        const auto sized = size_vf_bars(d.config(), pf, *iov);
        const auto moved =
            write_vf_bar(d.config(), pf, *iov, {bar_kind::mem64, false, 0, 0x184, 0, 0x4000}, 0);
        const bar_list read = read_vf_bars(d.config(), pf, *iov);
        return sized.error() == error{errc::busy, 0x160} &&
               moved.error() == error{errc::busy, 0x160} && d.only_read() && read.size() == 2 &&
               *read.find(0) == bar{bar_kind::mem64, false, 0, 0x184, 0xD284'0000, 0};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a VF BAR below the system page size is malformed: two VFs would share a page", "[pci]") {
    constexpr auto holds = [] {
        nic d;
        d.put(0x180, 4, 0x0000'0010); // 64 KiB pages; a sound device would show larger BARs now
        const auto iov = d.read();
        const auto bars = size_vf_bars(d.config(), pf, *iov);
        return bars && bars->size() == 2 &&
               bars->begin()[0].error() == error{errc::malformed, 0x184} &&
               bars->begin()[1].error() == error{errc::malformed, 0x190};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("VF BARs are memory, below or above 4 GiB; the upper half of the last one is missing",
          "[pci][rule 6]") {
    constexpr auto entry = [](std::size_t index, std::uint32_t mask, std::uint32_t value) {
        nic d;
        for (std::size_t n = 0; n < 6; ++n) {
            d.functions[0].bar(0x184 + 4 * n, 0, 0);
        }
        d.functions[0].bar(0x184 + 4 * index, mask, value);
        const auto bars = size_vf_bars(d.config(), pf, *d.read());
        return bars && bars->size() == 1 ? bars->begin()[0] : error{errc::absent};
    };
    constexpr auto holds = [=] {
        return *entry(2, 0xFFFF'0000, 0xF000'0008) ==
                   bar{bar_kind::mem32, true, 2, 0x18C, 0xF000'0000, 0x1'0000} &&
               *entry(5, 0xFFFF'0000, 0xF000'0000) ==
                   bar{bar_kind::mem32, false, 5, 0x198, 0xF000'0000, 0x1'0000} &&
               entry(0, 0xFFFF'FF00, 0x0000'C001).error() == error{errc::malformed, 0x184} &&
               entry(1, 0x000F'0000, 0x0000'0002).error() == error{errc::malformed, 0x188} &&
               entry(3, 0xFFFF'0000, 0x0000'0006).error() == error{errc::malformed, 0x190} &&
               entry(5, 0xFFFF'0000, 0xF000'0004).error() == error{errc::malformed, 0x198};
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("a VF BAR spans its size times the number of VFs, and each has its part",
          "[pci][rule 7]") {
    constexpr auto holds = [] {
        // VF BAR 0 of a ThunderX NIC: 2 MiB for each of 128, as its Enhanced Allocation has it.
        const bar first{bar_kind::mem64, false, 0, 0x1A4, 0x8430'A000'0000, 0x20'0000};
        const bar last_of_32{bar_kind::mem32, false, 1, 0x1A8, 0xFFFF'0000, 0x4000};
        const bar huge{bar_kind::mem64, false, 2, 0x1AC, 0, std::uint64_t{1} << 63};
        const bar upper{bar_kind::mem64,       false, 2, 0x1AC, std::uint64_t{1} << 63,
                        std::uint64_t{1} << 63};
        return *vf_bar_span(first, 128) == 0x1000'0000 && *vf_bar_span(first, 0) == 0 &&
               bar_of_vf(first, 0)->address == 0x8430'A000'0000 &&
               bar_of_vf(first, 127)->address == 0x8430'AFE0'0000 &&
               bar_of_vf(first, 127)->size == 0x20'0000 &&
               *vf_bar_span(last_of_32, 4) == 0x1'0000 &&
               bar_of_vf(last_of_32, 3)->address == 0xFFFF'C000 &&
               vf_bar_span(last_of_32, 5).error() == error{errc::out_of_range, 0xFFFF'0000} &&
               bar_of_vf(last_of_32, 4).error() == error{errc::out_of_range, 0xFFFF'0000} &&
               bar_of_vf(first, 0xFFFF).error() == error{errc::out_of_range, 0x8430'A000'0000} &&
               *vf_bar_span(huge, 1) == std::uint64_t{1} << 63 &&
               vf_bar_span(huge, 2).error() == error{errc::out_of_range, 0} && // 2^64
               bar_of_vf(upper, 0)->address == std::uint64_t{1} << 63 && !bar_of_vf(upper, 1);
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("VF BARs are placed so that all of TotalVFs fit, or nothing changes", "[pci][rule 6]") {
    constexpr auto holds = [] {
        nic d;
        const auto iov = d.read();
        const bar sized = *size_vf_bars(d.config(), pf, *iov)->find(3);
        d.machine.event_count = 0;
        const auto put = [&](std::uint64_t address) {
            return write_vf_bar(d.config(), pf, *iov, sized, address);
        };
        bool good = put(0x1000).error() == error{errc::misaligned, 0x1000} &&
                    // Eight times 16 KiB end 16 KiB too late.
                    put(0xFFFF'FFFF'FFFE'4000).error() ==
                        error{errc::out_of_range, 0xFFFF'FFFF'FFFE'4000} &&
                    d.machine.writes() == 0;
        const auto moved = put(0x12'0000'0000);
        good &= moved && moved->address == 0x12'0000'0000 && d.get(0x190, 8) == 0x12'0000'0004 &&
                d.machine.writes() == 2;
        d.allow(0x194, 4, 0xFF); // 40 address bits
        const auto high = put(0x100'0000'0000);
        return good && high.error() == error{errc::hardware_fault, 0x190} &&
               d.get(0x190, 8) == 0x12'0000'0004;
    };
    STATIC_REQUIRE(holds());
    REQUIRE(holds());
}

TEST_CASE("the example of docs/pci.md: VF BARs are placed, and the VFs turned on", "[pci]") {
    namespace pci = pt::pci;
    nic d{0, 0};
    d.allow(0x168, 2, 0x0009);
    d.allow(0x170, 2, 0xFFFF);
    auto config = d.config();
    std::uint64_t room = 0x20'0000'0000;
    const auto place_for = [&](const bar& sized) {
        const std::uint64_t here = room;
        room += 8 * sized.size;
        return here;
    };
    const auto enable = [&](function_address nic) -> pt::result<virtual_function_list> {
        const auto iov = pci::read_sr_iov(config, nic);
        if (!iov) {
            return iov.error();
        }
        const auto bars = pci::size_vf_bars(config, nic, *iov);
        if (!bars) {
            return bars.error();
        }
        for (const auto& bar : *bars) {
            if (!bar) {
                return bar.error();
            }
            const auto placed = pci::write_vf_bar(config, nic, *iov, *bar, place_for(*bar));
            if (!placed) {
                return placed.error();
            }
        }
        pci::write(config, nic, iov->at,
                   pci::sr_iov_num_vfs{pci::sr_iov_num_vfs::count(iov->total_vfs)});
        using control = pci::sr_iov_control;
        pci::write(
            config, nic, iov->at,
            iov->control.with(control::vf_enable(true), control::vf_memory_space_enable(true)));

        const auto vfs = pci::virtual_functions(config, nic);
        return vfs;
    };
    const auto vfs = enable(pf);
    REQUIRE(vfs);
    CHECK(vfs->size() == 8);
    CHECK(*vfs->begin() == function_address{0, 2, 0x10, 0});
    CHECK(d.get(0x184, 8) == 0x20'0000'0004);
    CHECK(d.get(0x190, 8) == 0x20'0002'0004);
    CHECK(d.get(0x168, 2) == 0x0009);
}
