// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/contract.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/pci/advanced_features.hpp"
#include "pt/pci/bar.hpp"
#include "pt/pci/bar_memory.hpp"
#include "pt/pci/bit_permissions.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/function_address.hpp"
#include "pt/pci/function_config.hpp"
#include "pt/pci/function_events.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/interrupt_route.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/shown_capabilities.hpp"
#include "pt/pci/virtual_bars.hpp"
#include "pt/pci/virtual_msi.hpp"
#include "pt/pci/virtual_msi_x.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace pt::pci {

/// The header of type 00h as a guest has it; what is not named is constant. Decoding is the view's,
/// because the device's own stays on for the host's mappings. Parity and SERR# are the host's
/// errors, and a guest only believes to choose. Bus mastering is the device's: the IOMMU decides
/// where it leads.
inline constexpr register_permissions header_permissions[] = {
    {command::offset,
     {.own = mask_of(command::io_space, command::memory_space, command::parity_error_response,
                     command::serr_enable, command::interrupt_disable),
      .device = mask_of(command::bus_master, command::memory_write_and_invalidate)}},
    {status::offset,
     {.device_clear = mask_of(status::detected_parity_error, status::signaled_system_error,
                              status::received_master_abort, status::received_target_abort,
                              status::signaled_target_abort, status::master_data_parity_error),
      .device_read = mask_of(status::interrupt_status)}},
    {cache_line_size::offset, {.device = mask_of(cache_line_size::dwords)}},
    {latency_timer::offset, {.device = mask_of(latency_timer::clocks)}},
    {interrupt_line::offset, {.own = mask_of(interrupt_line::input)}},
};

/// The PCI Express capability. Payload size, error reports and the link belong to the host's fabric;
/// phantom functions would be other requesters than the IOMMU knows.
inline constexpr register_permissions pci_express_permissions[] = {
    {device_control::offset_in_capability,
     {.own = mask_of(device_control::correctable_error_reporting_enable,
                     device_control::non_fatal_error_reporting_enable,
                     device_control::fatal_error_reporting_enable,
                     device_control::unsupported_request_reporting_enable,
                     device_control::max_payload_size, device_control::extended_tag_field_enable),
      .device = mask_of(device_control::enable_relaxed_ordering, device_control::enable_no_snoop,
                        device_control::max_read_request_size)}},
    {device_status::offset_in_capability,
     {.device_clear = mask_of(
          device_status::correctable_error_detected, device_status::non_fatal_error_detected,
          device_status::fatal_error_detected, device_status::unsupported_request_detected,
          device_status::emergency_power_reduction_detected),

      .device_read =
          mask_of(device_status::transactions_pending, device_status::aux_power_detected)}},
    {link_control::offset_in_capability,
     {.own = mask_of(link_control::aspm_control, link_control::read_completion_boundary,
                     link_control::common_clock_configuration, link_control::extended_synch,
                     link_control::enable_clock_power_management)}},
    {link_status::offset_in_capability, {.device_read = 0xFFFF}},
};

/// How a function is shown.
struct view_options {
    /// Device and Vendor ID; the device's own if 0. A virtual function of SR-IOV needs them: its own
    /// header has none.
    identity shown_as{};
    shown_capabilities shown{};
    /// What the Header Type says of the guest's device, to which other functions may belong.
    bool multi_function = false;
    /// Whether Interrupt Pin tells of the device's wire. A VMM that has none to give shows none.
    bool has_wire = true;
    /// Whether PCI Express calls it an endpoint inside the root complex, without a link. A guest that
    /// finds an endpoint with a link on its root bus may miss the port above it.
    bool root_complex_integrated = false;
};

/// What a guest is shown of an assigned function: its configuration space, as a function_config to
/// be routed to, and the memory in which its MSI-X lies. The guest sees a function at its power-on
/// state and drives it by the hardware's rules; the device sees only what bit_permissions let
/// through, and never a BAR, an MSI or a power state of the guest.
///
///     virtual_function_view view{config, nic, events, route, memory};
///     msi_x_vector vectors[5];
///     view.open(size_bars(config, nic), vectors, 5);
///     routes.add(guest_address, view);
///
/// Until it is open, the function is absent. The device's own decoding and BARs are the host's
/// business: they stay as the VMM has set them.
template <config_access Config, function_events Events, interrupt_route Route, bar_memory Memory,
          mutex Mutex = no_mutex>
class virtual_function_view {
public:
    constexpr virtual_function_view(Config config, function_address host, Events events,
                                    Route route, Memory memory, Mutex guard = {})
        : config_{config},
          host_{host},
          events_{events},
          route_{route},
          memory_{memory},
          guard_{guard},
          bars_{events},
          msi_{route},
          msi_x_{route} {}

    virtual_function_view(const virtual_function_view&) = delete;
    virtual_function_view& operator=(const virtual_function_view&) = delete;

    /// Reads the function and shows it at its power-on state; its bus mastering is turned off.
    /// `sized` are its BARs (those of a virtual function come from its physical function's
    /// capability). `vectors` are the VMM's, and outlive the view; the guest gets no more MSI-X
    /// vectors than that, and no MSI-X at all if there are none.
    ///
    /// errc::absent: no function answers. errc::not_supported with the header type: not an endpoint.
    /// errc::malformed: a BAR or MSI-X contradicts itself, with the offset; errc::out_of_range: a
    /// BAR was not sized, with its offset, or MSI-X does not lie inside a memory BAR, with its offset
    /// there. With an error the view is not open.
    [[nodiscard]] constexpr result<void> open(const bar_list& sized, msi_x_vector* vectors,
                                              std::uint16_t vector_count,
                                              const view_options& options = {}) {
        scoped_lock<Mutex> lock{guard_};
        expects(!open_, "a view is closed before it is opened again");
        identity id = options.shown_as;
        if (!id.present()) {
            id = pci::read<identity>(config_, host_);
            if (!id.present()) {
                return error{errc::absent, 0};
            }
        }
        const auto layout = pci::read<header_type>(config_, host_)[header_type::layout];
        if (layout != header_layout::device) {
            return error{errc::not_supported, static_cast<std::uint64_t>(layout)};
        }
        const auto msi_x = read_msi_x(config_, host_);
        if (msi_x) {
            for (const bar_part& part : {msi_x->table, msi_x->pending_bits}) {
                if (!bar_of(part, sized)) {
                    return error{errc::out_of_range, part.offset};
                }
            }
        } else if (msi_x.error().code != errc::absent) {
            return msi_x.error();
        }
        if (auto taken = bars_.assign(sized); !taken) {
            return taken;
        }
        msi_x_layout_ = msi_x.value_or(msi_x_layout{});
        const std::uint16_t shown_vectors =
            vector_count < msi_x_layout_.vectors ? vector_count : msi_x_layout_.vectors;
        msi_x_.assign(vectors, shown_vectors);
        show_header(id, options);
        show_capabilities(options);
        show_extended_capabilities(options.shown);
        stop_device();
        open_ = true;
        program_interrupts();
        return {};
    }

    /// Takes the function away from the guest: all BARs are unmapped, all interrupts closed.
    constexpr void close() {
        scoped_lock<Mutex> lock{guard_};
        if (open_) {
            open_ = false;
            to_power_on_state();
        }
    }

    /// The guest reads its configuration space. What is no single configuration access, and what is
    /// beyond the device's space, reads all ones.
    [[nodiscard]] constexpr std::uint32_t read(std::uint16_t offset, width size) {
        scoped_lock<Mutex> lock{guard_};
        if (!is_one_config_access(offset, size) || !open_ || offset >= space_size_) {
            return all_ones(size);
        }
        const unsigned place = offset / 4U;
        if (bars_.half_written()) {
            settle_before(place);
        }
        const unsigned shift = 8 * (offset & 3U);
        const shadow& here = registers_[place];
        const std::uint32_t ones = all_ones(size);
        if ((here.from_device >> shift & ones) == 0) {
            return here.value >> shift & ones;
        }
        return read_device(offset, size);
    }

    /// The guest writes its configuration space. Bits of `value` above the width are of no effect.
    constexpr void write(std::uint16_t offset, width size, std::uint32_t value) {
        scoped_lock<Mutex> lock{guard_};
        if (!is_one_config_access(offset, size) || !open_ || offset >= space_size_) {
            return;
        }
        const unsigned place = offset / 4U;
        if (bars_.half_written()) {
            settle_before(place);
        }
        const unsigned shift = 8 * (offset & 3U);
        const std::uint32_t lanes = all_ones(size) << shift;
        const std::uint32_t arriving = value << shift;
        if (const unsigned n = bar_register(place); n != no_bar) {
            bars_.write(n, arriving, lanes);
            registers_[place].value = bars_.read(n);
            return;
        }
        shadow& here = registers_[place];
        const std::uint32_t before = here.value;
        const std::uint32_t own = here.writable & ~here.from_device & lanes;
        here.value = (here.value & ~own) | (arriving & own);
        if ((here.writable & here.from_device & lanes) != 0) {
            write_device(offset, size, arriving);
        }
        written(place, before, arriving, lanes);
    }

    /// The guest reads the memory of a BAR where it is trapped (bar_pieces): the MSI-X table and the
    /// pending bits are the view's, everything else is forwarded to the device. An access to the
    /// former that is not a dword or qword, aligned, reads all ones; so does one that is not inside
    /// the BAR. Whether the guest has that BAR anywhere now is for the caller to know: place().
    [[nodiscard]] constexpr std::uint64_t read_memory(std::uint8_t bar, std::uint64_t offset,
                                                      mmio_width size) {
        scoped_lock<Mutex> lock{guard_};
        switch (structure_at(bar, offset, size)) {
        case structure::table: return msi_x_.read_table(offset - msi_x_layout_.table.offset, size);
        case structure::pending_bits:
            return msi_x_.read_pending(offset - msi_x_layout_.pending_bits.offset, size);
        case structure::device: return memory_.read(bar, offset, size);
        case structure::none: break;
        }
        return all_ones(size);
    }

    /// The guest writes there. What is neither legal nor the device's vanishes, and so does a write to
    /// the expansion ROM.
    constexpr void write_memory(std::uint8_t bar, std::uint64_t offset, mmio_width size,
                                std::uint64_t value) {
        scoped_lock<Mutex> lock{guard_};
        switch (structure_at(bar, offset, size)) {
        case structure::table:
            msi_x_.write_table(offset - msi_x_layout_.table.offset, size, value);
            break;
        case structure::device:
            if (bar != expansion_rom_index) {
                memory_.write(bar, offset, size, value & all_ones(size));
            }
            break;
        case structure::pending_bits:
        case structure::none: break;
        }
    }

    /// The device requests an interrupt: the route sends it, or it stays pending until the guest
    /// unmasks it. errc::refused with the vector: the guest uses another kind, or none;
    /// errc::out_of_range with the vector: it has no such one.
    constexpr result<void> request(interrupt_source source) {
        scoped_lock<Mutex> lock{guard_};
        switch (source.kind) {
        case interrupt_kind::intx:
            if (source.vector != 0) {
                return error{errc::out_of_range, source.vector};
            }
            if (!intx_open_) {
                return error{errc::refused, 0};
            }
            route_.send(source, {});
            return {};
        case interrupt_kind::msi: return msi_.request(source.vector);
        case interrupt_kind::msi_x: return msi_x_.request(source.vector);
        }
        return error{errc::out_of_range, source.vector};
    }

    /// A mem64 of which the guest has written one half with decoding on moves when the other half
    /// is written, or by the guest's next other access to its configuration space, or now. For a VMM
    /// whose guest has just touched memory where nothing is mapped.
    constexpr void settle() {
        scoped_lock<Mutex> lock{guard_};
        bars_.settle();
    }

    /// Asks the VMM again for every place of a BAR that it has not given so far and that the guest still
    /// wants: something has changed, such as what was in the way.
    constexpr void retry_bars() {
        scoped_lock<Mutex> lock{guard_};
        bars_.retry();
    }

    /// Where the guest has the BAR that begins in register `index`, or the expansion ROM (6).
    [[nodiscard]] constexpr bar_place place(std::uint8_t index) {
        scoped_lock<Mutex> lock{guard_};
        return open_ && index < bars_.register_count ? bars_.place(index) : bar_place{};
    }

    /// Where the device keeps its MSI-X; bar_pieces tells which pages to trap. Zeros if it has none.
    [[nodiscard]] constexpr const msi_x_layout& msi_x() const { return msi_x_layout_; }

    /// What the guest may do with the dword that holds `offset` from now on, for registers of the
    /// device that pt does not know. Bits that are in none of the permissions are constant as they
    /// are now. errc::refused with the offset: the view itself answers for this one.
    [[nodiscard]] constexpr result<void> permit(std::uint16_t offset, bit_permissions bits) {
        scoped_lock<Mutex> lock{guard_};
        const std::uint16_t dword = offset & 0xFFCU;
        if (!open_ || offset >= space_size_ || answers_for(dword)) {
            return error{errc::refused, offset};
        }
        shadow& here = registers_[dword / 4U];
        const std::uint32_t there = config_.read(host_, dword, width::dword);
        here = {(here.value & ~here.from_device) | (there & here.from_device), 0, 0};
        apply({dword, bits});
        return {};
    }

    /// Power-on state, as after a conventional or function-level reset of the device: BARs are
    /// unmapped, interrupts closed, bus mastering is off. The device itself is the VMM's to reset.
    constexpr void reset() {
        scoped_lock<Mutex> lock{guard_};
        if (open_) {
            to_power_on_state();
        }
    }

private:
    /// A dword of configuration space: the bits that are the view's own or constant, and what the
    /// guest may do with each.
    struct shadow {
        std::uint32_t value = 0;
        std::uint32_t from_device = 0; ///< read there, and written there if writable
        std::uint32_t writable = 0;
    };

    enum class structure : std::uint8_t { table, pending_bits, device, none };

    static constexpr unsigned no_bar = ~0U;
    static constexpr unsigned command_place = command::offset / 4;
    static constexpr unsigned no_place = 0; ///< the ids, at which nothing ever happens

    /// The link's registers in the PCI Express capability, without those named 2.
    static constexpr unsigned link_begin = link_capabilities::offset_in_capability;
    static constexpr unsigned link_end = link_status::offset_in_capability + 2;

    /// The BAR register in that dword, as virtual_bars counts them.
    static constexpr unsigned bar_register(unsigned place) {
        if (place - 0x10 / 4 < 6) {
            return place - 0x10 / 4;
        }
        return place == 0x30 / 4 ? expansion_rom_index : no_bar;
    }

    // ------------------------------------------------------------------------- what is shown

    constexpr void apply(const register_permissions& row) {
        shadow& here = registers_[row.offset / 4U];
        const unsigned shift = 8 * (row.offset & 3U);
        const std::uint32_t own = row.bits.own << shift;
        const std::uint32_t passed = (row.bits.device | row.bits.device_clear) << shift;
        here.from_device |= passed | row.bits.device_read << shift;
        here.writable |= own | passed;
        here.value &= ~own;
    }
    constexpr void apply_at(std::uint16_t capability, const register_permissions& row) {
        apply({static_cast<std::uint16_t>(capability + row.offset), row.bits});
    }

    /// The dword reads `value`, and writes vanish.
    constexpr void show_constant(unsigned offset, std::uint32_t value) {
        registers_[offset / 4U] = {value, 0, 0};
    }
    constexpr void show_constants(unsigned first, unsigned end) {
        for (unsigned offset = first; offset < end; offset += 4) {
            show_constant(offset,
                          config_.read(host_, static_cast<std::uint16_t>(offset), width::dword));
        }
    }
    constexpr void show_read_only(unsigned first, unsigned end) {
        for (unsigned offset = first; offset < end; offset += 4) {
            registers_[offset / 4U] = {0, ~std::uint32_t{0}, 0};
        }
    }
    constexpr void hide(unsigned first, unsigned end) {
        for (unsigned offset = first; offset < end; offset += 4) {
            show_constant(offset, 0);
        }
    }

    constexpr void show_header(identity id, const view_options& options) {
        for (shadow& each : registers_) {
            each = {};
        }
        show_constants(0x00, 0x40);
        show_constant(identity::offset, id.raw);
        const auto shown_status =
            status{static_cast<std::uint16_t>(registers_[command_place].value >> 16)};
        show_constant(command::offset, std::uint32_t{shown_status.raw} << 16 &
                                           ~(mask_of(status::capabilities_list) << 16));
        // Built-in self test is not offered: a device that tests itself answers nobody.
        std::uint32_t& types = registers_[header_type::offset / 4].value;
        types &= 0x0000'FFFF;
        types |= options.multi_function ? mask_of(header_type::multi_function) << 16 : 0;
        for (const register_permissions& row : header_permissions) {
            apply(row);
        }
        for (unsigned n = 0; n < 6; ++n) {
            show_constant(0x10 + 4 * n, bars_.read(n));
        }
        show_constant(0x30, bars_.read(expansion_rom_index));
        hide(0x34, 0x3C);
        show_read_only(0x40, conventional_config_space_size);
        std::uint32_t& pin = registers_[interrupt_pin::offset / 4].value;
        pin &= options.has_wire ? 0xFFFF'FFFF : ~(mask_of(interrupt_pin::pin) << 8);
        intx_wired_ = (pin >> 8 & mask_of(interrupt_pin::pin)) != 0;
    }

    constexpr void show_capabilities(const view_options& options) {
        msi_place_ = msi_x_place_ = power_place_ = flr_place_ = advanced_features_place_ = no_place;
        msi_end_ = pending_place_ = no_place;
        space_size_ = conventional_config_space_size;

        const auto list = capabilities(config_, host_);
        std::uint64_t begins = 0; // bit n: one begins in the dword at 4 * n
        for (const capability each : list) {
            begins |= std::uint64_t{1} << each.offset / 4U;
        }
        unsigned link = capabilities_pointer::offset; // the byte that points to the next one shown
        for (const capability each : list) {
            if ((begins >> each.offset / 4U & 1) == 0) {
                continue; // the device has changed its mind since
            }
            unsigned end = each.offset + 4U;
            while (end < conventional_config_space_size && (begins >> end / 4 & 1) == 0) {
                end += 4;
            }
            if (each.id == capability_id::pci_express) {
                space_size_ = config_space_size;
            }
            hide(each.offset, end);
            if (!options.shown.contains(each.id) || !show(each, end, options)) {
                continue;
            }
            shadow& header = registers_[each.offset / 4U];
            header.from_device &= ~std::uint32_t{0xFFFF};
            header.value =
                (header.value & ~std::uint32_t{0xFFFF}) | static_cast<std::uint32_t>(each.id);
            registers_[link / 4U].value |= std::uint32_t{each.offset} << 8 * (link & 3U);
            registers_[command_place].value |= mask_of(status::capabilities_list) << 16;
            link = each.offset + 1U;
        }
    }

    /// Shows one capability, whose registers end at `end` at the latest. False if it cannot be, and
    /// then it stays hidden.
    constexpr bool show(const capability& each, unsigned end, const view_options& options) {
        const unsigned at = each.offset;
        const auto fits = [&](unsigned size) { return at + size <= end; };
        switch (each.id) {
        case capability_id::power_management: {
            const auto said = read_power_management(config_, host_);
            if (!said || said->at != each || !fits(said->size)) {
                return false;
            }
            // No power management events: they are messages to the host.
            using pmc = power_management_capabilities;
            using control = power_management_control_status;
            power_capabilities_ = said->capabilities;
            show_constant(
                at, (power_capabilities_.raw & ~mask_of(pmc::pme_support, pmc::aux_current)) << 16);
            show_constant(at + control::offset_in_capability,
                          said->control_status.raw & mask_of(control::no_soft_reset));
            apply_at(each.offset,
                     {control::offset_in_capability, {.own = mask_of(control::power_state)}});
            power_place_ = (at + control::offset_in_capability) / 4;
            return true;
        }
        case capability_id::msi: return show_msi(each.offset, end);
        case capability_id::msi_x: {
            // Should there be several, the first is the one that read_msi_x() found.
            if (!fits(12) || msi_x_place_ != no_place || msi_x_.size() == 0 ||
                capabilities(config_, host_).find(each.id).value_or(each) != each) {
                return false;
            }
            // From the layout too: where the guest looks is where the view answers.
            show_location(at + msi_x_location::table_in_capability, msi_x_layout_.table);
            show_location(at + msi_x_location::pba_in_capability, msi_x_layout_.pending_bits);
            show_constant(at, (msi_x_.size() - 1U) << 16);
            apply_at(each.offset, {2,
                                   {.own = mask_of(msi_x_message_control::enable,
                                                   msi_x_message_control::function_mask)}});
            msi_x_place_ = at / 4;
            return true;
        }
        case capability_id::pci_express: {
            const auto said = read_pci_express(config_, host_);
            if (!said || said->at != each || !fits(said->size())) {
                return false;
            }
            show_constants(at, at + said->size());
            registers_[(at + device_capabilities::offset_in_capability) / 4].value &=
                ~mask_of(device_capabilities::phantom_functions_supported);
            show_constant(at + device_control::offset_in_capability, 0);
            const bool has_link = said->has_link() && !options.root_complex_integrated;
            for (const register_permissions& row : pci_express_permissions) {
                if (row.offset < (has_link ? said->size() : link_begin)) {
                    apply_at(each.offset, row);
                }
            }
            if (options.root_complex_integrated) {
                show_inside_root_complex(at, said->size());
            }
            if (said->device[device_capabilities::function_level_reset_capability]) {
                flr_place_ = (at + device_control::offset_in_capability) / 4;
            }
            return true;
        }
        case capability_id::advanced_features: {
            using control = advanced_features_control;
            using transactions = advanced_features_status;
            const auto said = read_advanced_features(config_, host_);
            if (!said || said->at != each || !fits(8)) {
                return false;
            }
            show_constants(at, at + 4);
            show_constant(at + control::offset_in_capability, 0);
            apply_at(each.offset, {transactions::offset_in_capability,
                                   {.device_read = mask_of(transactions::transactions_pending)}});
            if (said->capabilities[advanced_features_capabilities::function_level_reset]) {
                advanced_features_place_ = (at + control::offset_in_capability) / 4;
            }
            return true;
        }
        default: show_read_only(at, end); return true;
        }
    }

    constexpr void show_location(unsigned offset, const bar_part& part) {
        show_constant(offset, static_cast<std::uint32_t>(part.offset) | part.bar);
    }

    /// A root complex integrated endpoint has registers of a device and none of a link [pcie].
    constexpr void show_inside_root_complex(unsigned at, unsigned size) {
        using express = pci_express_capabilities;
        std::uint32_t& first = registers_[at / 4].value;
        first &= ~(mask_of(express::device_port_type) << 16);
        first |=
            std::uint32_t{express::reported(express::device_port_type(
                                                device_port_type::root_complex_integrated_endpoint))
                              .raw}
            << 16;
        const unsigned end = at + size;
        hide(at + link_begin, end < at + link_end ? end : at + link_end);
        hide(at + link_capabilities_2::offset_in_capability, end);
    }

    constexpr bool show_msi(std::uint16_t at, unsigned end) {
        using control = msi_message_control;
        const auto layout = read_msi(config_, host_);
        if (!layout || layout->offset != at || at + layout->size() > end) {
            return false;
        }
        // From the layout, not read again: a device that is pulled out just now reads all ones.
        const control said = control::reported(
            control::per_vector_masking(layout->maskable), control::address_64(layout->is_64bit),
            control::capable_vectors(static_cast<std::uint8_t>(std::countr_zero(layout->vectors))));
        show_constant(at, std::uint32_t{said.raw} << 16);
        apply({layout->control_offset(),
               {.own = mask_of(control::enable, control::enabled_vectors)}});
        apply({layout->address_offset(), {.own = 0xFFFF'FFFC}});
        if (layout->is_64bit) {
            apply({layout->upper_address_offset(), {.own = 0xFFFF'FFFF}});
        }
        apply({layout->data_offset(), {.own = 0xFFFF}});
        if (layout->maskable) {
            // The bits of vectors that the function does not have are reserved [pci].
            apply({layout->mask_offset(), {.own = ~std::uint32_t{0} >> (32U - layout->vectors)}});
            // Pending bits change by themselves; read_device() knows them.
            apply({layout->pending_offset(), {.device_read = 0xFFFF'FFFF}});
            pending_place_ = layout->pending_offset() / 4U;
        }
        msi_layout_ = *layout;
        msi_place_ = at / 4U;
        msi_end_ = (at + layout->size() + 3U) / 4;
        return true;
    }

    constexpr void show_extended_capabilities(const shown_capabilities& shown) {
        if (space_size_ != config_space_size) {
            return;
        }
        const auto list = extended_capabilities(config_, host_);
        std::uint64_t begins[config_space_size / 4 / 64]{};
        for (const extended_capability each : list) {
            begins[each.offset / 256U] |= std::uint64_t{1} << each.offset / 4U % 64;
        }
        // The list must start at 0x100, whether the first one is shown or not: an entry with the null
        // id and only a next pointer does nothing [pcie].
        unsigned link = 0x100;
        for (const extended_capability each : list) {
            unsigned end = each.offset + 4U;
            while (end < config_space_size && (begins[end / 256] >> end / 4 % 64 & 1) == 0) {
                end += 4;
            }
            if (!shown.contains(each.id)) {
                continue;
            }
            show_read_only(each.offset, end);
            show_constant(each.offset, static_cast<std::uint32_t>(each.id) |
                                           std::uint32_t{each.version} << 16 |
                                           (registers_[each.offset / 4U].value & 0xFFF0'0000));
            if (each.offset != 0x100) {
                registers_[link / 4U].value |= std::uint32_t{each.offset} << 20;
            }
            link = each.offset;
        }
    }

    /// Whether the view itself gives the register its meaning.
    [[nodiscard]] constexpr bool answers_for(std::uint16_t dword) const {
        const unsigned place = dword / 4U;
        return place < 0x40 / 4 || place == power_place_ || place == msi_x_place_ ||
               (msi_place_ != no_place && place >= msi_place_ && place < msi_end_) ||
               place == advanced_features_place_;
    }

    // --------------------------------------------------------------------------- the device

    constexpr std::uint32_t read_device(std::uint16_t offset, width size) {
        const unsigned place = offset / 4U;
        const unsigned shift = 8 * (offset & 3U);
        const shadow& here = registers_[place];
        const std::uint32_t there = place == pending_place_ && place != no_place
                                        ? msi_.pending()
                                        : config_.read(host_, offset, size) << shift;
        return ((here.value & ~here.from_device) | (there & here.from_device)) >> shift &
               all_ones(size);
    }

    /// Passes on those bits of a write that are the device's. The others are written as they are
    /// read, except what a 1 would clear.
    constexpr void write_device(std::uint16_t offset, width size, std::uint32_t arriving) {
        const unsigned shift = 8 * (offset & 3U);
        const shadow& here = registers_[offset / 4U];
        const std::uint32_t passed = here.writable & here.from_device;
        const std::uint32_t kept = config_.read(host_, offset, size) << shift & ~passed;
        config_.write(host_, offset, size, (kept | (arriving & passed)) >> shift & all_ones(size));
    }

    /// The device requests nothing of memory by itself until the guest allows it. All ones is no
    /// Command but what is read where nobody is: what is plugged in there next must not be given it.
    constexpr void stop_device() {
        const auto now = pci::read<command>(config_, host_);
        if (now.raw != 0xFFFF && now[command::bus_master]) {
            pci::write(config_, host_, now.with(command::bus_master(false)));
        }
    }

    // ------------------------------------------------------------------- what a write means

    constexpr void written(unsigned place, std::uint32_t before, std::uint32_t arriving,
                           std::uint32_t lanes) {
        if (place == command_place) {
            decode();
            program_interrupts();
        } else if (place == no_place) {
            return;
        } else if (place == msi_x_place_ || (place >= msi_place_ && place < msi_end_)) {
            limit_msi();
            program_interrupts();
        } else if (place == power_place_) {
            power_changed(before);
        } else if (place == flr_place_) {
            if ((arriving & lanes & mask_of(device_control::initiate_function_level_reset)) != 0) {
                reset_by_guest();
            }
        } else if (place == advanced_features_place_) {
            if ((arriving & lanes &
                 mask_of(advanced_features_control::initiate_function_level_reset)) != 0) {
                reset_by_guest();
            }
        }
    }

    [[nodiscard]] constexpr power_state power() const {
        return power_place_ == no_place
                   ? power_state::d0
                   : static_cast<power_state>(registers_[power_place_].value & 3);
    }

    /// Only in D0 does a function answer to more than configuration accesses, or request anything.
    [[nodiscard]] constexpr bool awake() const { return open_ && power() == power_state::d0; }

    constexpr void decode() {
        const command now{static_cast<std::uint16_t>(registers_[command_place].value)};
        bars_.decode(awake() && now[command::io_space], awake() && now[command::memory_space]);
    }

    constexpr void settle_before(unsigned place) {
        const unsigned n = bar_register(place);
        if (n == no_bar || !bars_.same_bar(n, bars_.written_half())) {
            bars_.settle();
        }
    }

    /// As many vectors as the function is capable of, if the guest asks for more.
    constexpr void limit_msi() {
        if (msi_place_ != no_place) {
            using control = msi_message_control;
            std::uint32_t& value = registers_[msi_place_].value;
            const control now{static_cast<std::uint16_t>(value >> 16)};
            if (now[control::enabled_vectors] > now[control::capable_vectors]) {
                value = (value & 0xFFFF) |
                        std::uint32_t{
                            now.with(control::enabled_vectors(now[control::capable_vectors])).raw}
                            << 16;
            }
        }
    }

    constexpr void power_changed(std::uint32_t before) {
        using capabilities = power_management_capabilities;
        using control = power_management_control_status;
        const auto from = static_cast<power_state>(before & 3);
        const power_state to = power();
        if ((to == power_state::d1 && !power_capabilities_[capabilities::d1_support]) ||
            (to == power_state::d2 && !power_capabilities_[capabilities::d2_support])) {
            registers_[power_place_].value = before; // such a write is discarded
            return;
        }
        if (to == from) {
            return;
        }
        if (from == power_state::d3_hot && to == power_state::d0 &&
            (before & mask_of(control::no_soft_reset)) == 0) {
            events_.power_state_changed(from, to);
            reset_by_guest();
            return;
        }
        decode();
        program_interrupts();
        events_.power_state_changed(from, to);
    }

    constexpr void to_power_on_state() {
        stop_device();
        for (shadow& each : registers_) {
            each.value &= ~(each.writable & ~each.from_device);
        }
        bars_.reset();
        for (unsigned n = 0; n < 6; ++n) {
            registers_[0x10 / 4 + n].value = bars_.read(n);
        }
        registers_[0x30 / 4].value = bars_.read(expansion_rom_index);
        program_interrupts();
        msi_.reset();
        msi_x_.reset();
    }
    constexpr void reset_by_guest() {
        to_power_on_state();
        events_.reset();
    }

    // --------------------------------------------------------------------------- interrupts

    /// Tells the route, by way of what knows each kind, how the guest wants to be interrupted now.
    /// What is turned off is closed before what is turned on is opened.
    constexpr void program_interrupts() {
        using x_control = msi_x_message_control;
        const x_control x{msi_x_place_ == no_place
                              ? std::uint16_t{0}
                              : static_cast<std::uint16_t>(registers_[msi_x_place_].value >> 16)};
        msi_state msi = msi_registers();
        // [pci] forbids both at once; then MSI-X it is.
        const bool wire =
            awake() && intx_wired_ && !x[x_control::enable] && !msi.enabled &&
            (registers_[command_place].value & mask_of(command::interrupt_disable)) == 0;
        const bool x_enabled = awake() && x[x_control::enable];
        msi.enabled = msi.enabled && awake() && !x[x_control::enable];
        if (intx_open_ && !wire) {
            intx_open_ = false;
            route_.close({interrupt_kind::intx, 0});
        }
        if (!x_enabled) {
            msi_x_.control(false, x[x_control::function_mask]);
        }
        if (!msi.enabled) {
            msi_.program(msi);
        }
        if (x_enabled) {
            use(interrupt_kind::msi_x, msi_x_.size());
            msi_x_.control(true, x[x_control::function_mask]);
        } else if (msi.enabled) {
            use(interrupt_kind::msi, static_cast<std::uint16_t>(1U << msi.vectors_log2));
            msi_.program(msi);
        } else {
            use(interrupt_kind::intx, wire ? 1 : 0);
        }
        if (wire && !intx_open_) {
            intx_open_ = true;
            route_.open({interrupt_kind::intx, 0}, {});
        }
    }

    constexpr void use(interrupt_kind kind, std::uint16_t vectors) {
        if (kind != used_kind_ || vectors != used_vectors_) {
            used_kind_ = kind;
            used_vectors_ = vectors;
            route_.use(kind, vectors);
        }
    }

    [[nodiscard]] constexpr msi_state msi_registers() const {
        if (msi_place_ == no_place) {
            return {};
        }
        using control = msi_message_control;
        const auto dword = [&](std::uint16_t offset) { return registers_[offset / 4U].value; };
        const control now{static_cast<std::uint16_t>(dword(msi_layout_.offset) >> 16)};
        const std::uint64_t upper =
            msi_layout_.is_64bit ? dword(msi_layout_.upper_address_offset()) : 0;
        return {now[control::enable], now[control::enabled_vectors],
                upper << 32 | dword(msi_layout_.address_offset()),
                static_cast<std::uint16_t>(dword(msi_layout_.data_offset())),
                msi_layout_.maskable ? dword(msi_layout_.mask_offset()) : 0};
    }

    /// What an access to a BAR's memory meets. Nothing, if it is part of two things, or illegal.
    [[nodiscard]] constexpr structure structure_at(std::uint8_t bar, std::uint64_t offset,
                                                   mmio_width size) const {
        if (!open_ || bar >= bars_.register_count || !bars_.is_memory(bar)) {
            return structure::none;
        }
        const std::uint64_t bytes = size_of(size);
        const std::uint64_t end = bars_.size(bar);
        if (bytes > end || offset > end - bytes) {
            return structure::none;
        }
        const auto touches = [&](const bar_part& part) {
            return part.bar == bar && offset < part.offset + part.size &&
                   part.offset < offset + bytes;
        };
        const auto holds = [&](const bar_part& part) {
            return offset >= part.offset && bytes <= part.size &&
                   offset - part.offset <= part.size - bytes;
        };
        if (touches(msi_x_layout_.table)) {
            return holds(msi_x_layout_.table) ? structure::table : structure::none;
        }
        if (touches(msi_x_layout_.pending_bits)) {
            return holds(msi_x_layout_.pending_bits) ? structure::pending_bits : structure::none;
        }
        return structure::device;
    }

    [[no_unique_address]] Config config_;
    function_address host_;
    [[no_unique_address]] Events events_;
    [[no_unique_address]] Route route_;
    [[no_unique_address]] Memory memory_;
    [[no_unique_address]] Mutex guard_;

    bool open_ = false;
    bool intx_wired_ = false; ///< Interrupt Pin is not 0
    bool intx_open_ = false;
    interrupt_kind used_kind_ = interrupt_kind::intx;
    std::uint16_t used_vectors_ = 0;
    std::uint16_t space_size_ = 0;
    power_management_capabilities power_capabilities_{};

    // The dwords, counted from 0, of what has a meaning to the view; no_place if it is not shown.
    unsigned power_place_ = no_place; ///< Control/Status
    unsigned msi_place_ = no_place;
    unsigned msi_end_ = no_place;
    unsigned pending_place_ = no_place; ///< MSI's Pending Bits
    unsigned msi_x_place_ = no_place;
    unsigned flr_place_ = no_place;               ///< Device Control, if the function has FLR
    unsigned advanced_features_place_ = no_place; ///< AF Control, likewise

    virtual_bars<Events> bars_;
    virtual_msi<Route> msi_;
    virtual_msi_x<Route> msi_x_;
    msi_layout msi_layout_{}; ///< if it is shown
    msi_x_layout msi_x_layout_{};
    shadow registers_[config_space_size / 4]{};
};

} // namespace pt::pci
