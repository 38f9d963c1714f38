// SPDX-License-Identifier: BSL-1.0
#include "../../vtd_model/fake_unit.hpp"
#include "pt/vtd/fault.hpp"
#include "pt/vtd/fault_log.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace {

using pt::errc;
using pt::error;
using pt::iova;
using pt::vtd::fault_reason;
using pt::vtd::fault_record;

constexpr std::uint32_t FSTS = 0x34;

/// The fake unit with tables that are written by hand: 00:05.0 in domain 7 with 4 levels, 0x1000 only
/// for reading, 0x2000 only for writing, 0x3000 for both.
struct provoker {
    using hardware = vtd_model::fake_unit<16>;
    using window =
        pt::vtd::register_window<vtd_model::registers<hardware>, vtd_model::fake_clock<hardware>>;
    std::unique_ptr<hardware> machine = std::make_unique<hardware>();
    std::uint64_t root = table();
    std::uint64_t contexts = table();
    std::uint64_t levels[4] = {table(), table(), table(), table()}; ///< 1 to 4

    provoker() {
        at(root) = contexts | 1;
        at(context()) = levels[3] | 1;
        at(context() + 8) = 0x702;
        for (unsigned level = 3; level > 0; --level) {
            at(levels[level]) = levels[level - 1] | 3;
        }
        at(levels[0] + 8) = 0x10'0001;
        at(levels[0] + 16) = 0x20'0002;
        at(levels[0] + 24) = 0x40'0003;
        set_root(root);
        order(vtd_model::TE, vtd_model::TE);
    }
    std::uint64_t table() {
        const std::uint64_t frame = vtd_model::frames<hardware>{machine.get()}
                                        .allocate(pt::frame_contents::zeroed)
                                        .value()
                                        .raw;
        for (std::uint64_t entry = 0; entry < 4096; entry += 8) {
            at(frame + entry) = 0;
        }
        return frame;
    }
    std::uint64_t context() const { return contexts + 0x28 * 16; }
    std::uint64_t& at(std::uint64_t where) {
        return machine->published[(where - hardware::base) / 8];
    }
    void order(std::uint32_t command, std::uint32_t status) {
        machine->write32(0x18, (machine->read32(0x1C) & 0x96FF'FFFF) | command);
        while ((machine->read32(0x1C) & status) == 0) {}
    }
    void forget() {
        machine->write64(0x28, 0xA000'0000'0000'0000);
        while (machine->read64(0x28) >> 63 != 0) {}
        machine->write64(0xF8, 0x9003'0000'0000'0000);
        while (machine->read64(0xF8) >> 63 != 0) {}
    }
    void set_root(std::uint64_t where) {
        machine->write64(0x20, where);
        order(vtd_model::SRTP, vtd_model::SRTP);
        forget();
    }
};

TEST_CASE("the manual's reasons of legacy mode, each provoked", "[vtd]") {
    provoker p;
    pt::vtd::fault_log log{
        provoker::window::open({p.machine.get()}, 4096, {p.machine.get()}).value()};

    const auto expect = [&](std::uint16_t source_id, std::uint64_t address, bool write,
                            fault_reason reason) {
        REQUIRE_FALSE(p.machine->dma(source_id, address, write).reached);
        const auto fault = log.take();
        REQUIRE(fault);
        CHECK(*fault == fault_record{.source = pt::pci::function_address::from_source_id(source_id),
                                     .page = iova{address & ~std::uint64_t{0xFFF}},
                                     .type = write ? fault_record::request::write
                                                   : fault_record::request::read,
                                     .reason = reason});
        CHECK(log.take() == error{errc::absent, FSTS});
    };
    /// What somebody scribbles over one entry, and how the device fares with it.
    const auto with = [&](std::uint64_t where, std::uint64_t value, std::uint64_t address,
                          fault_reason reason) {
        const std::uint64_t before = p.at(where);
        p.at(where) = value;
        p.forget();
        expect(0x28, address, false, reason);
        p.at(where) = before;
        p.forget();
    };

    using enum fault_reason;
    CHECK(p.machine->dma(0x28, 0x1008, false).to == 0x10'0008);
    expect(0x0100, 0x1000, false, root_entry_not_present);
    expect(0x0029, 0x1234, true, context_entry_not_present);
    with(p.context() + 8, 0x703, 0x1000, context_entry_invalid); // 5 levels: not in SAGAW
    with(p.context(), p.at(p.context()) | 0xC, 0x1000, context_entry_invalid); // type
    expect(0x28, std::uint64_t{1} << 48, false, address_beyond_width);
    expect(0x28, ~std::uint64_t{0}, true, address_beyond_width);
    expect(0x28, 0x1FFF, true, write_not_permitted);
    expect(0x28, 0x5000, true, write_not_permitted);
    expect(0x28, 0x2FFF, false, read_not_permitted);
    expect(0x28, 0x7F'FFFF'F000, false, read_not_permitted);
    with(p.levels[3], 0x7000'0003, 0x1000, next_table_access_error);
    with(p.root, 0x7000'0001, 0x1000, context_table_access_error);
    with(p.root, p.at(p.root) | 2, 0x1000, root_entry_reserved_bits);
    with(p.root + 8, 1, 0x1000, root_entry_reserved_bits);
    with(p.context() + 8, 0x782, 0x1000, context_entry_reserved_bits);
    with(p.levels[0] + 8, 0x10'0001 | std::uint64_t{1} << 45, 0x1000, table_entry_reserved_bits);
    with(p.levels[1], p.at(p.levels[1]) | 0x80, 0x1000, table_entry_reserved_bits);
    with(p.levels[0] + 24, 0xFEE0'1003, 0x3000, output_in_interrupt_range);
    p.set_root(0x1000);
    expect(0x28, 0x1000, false, root_table_access_error);
    CHECK(p.machine->violation == nullptr);
}

} // namespace
