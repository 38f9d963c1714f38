// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/advanced_features.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_register.hpp"
#include "pt/pci/header.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/resizable_bar.hpp"

#include <bit>
#include <cstdint>

/// Resetting one function by its own configuration space, whatever else is on its bus.
namespace pt::pci {

/// By which of its capabilities a function can be reset.
enum class reset_method : std::uint8_t {
    function_level_reset, ///< FLR, of the PCI Express capability [pcie]
    advanced_features,    ///< the same of the Advanced Features capability, for conventional PCI
    power_management,     ///< from D3hot to D0, where that is not without a reset (No_Soft_Reset)
};

/// The first of these that the function has. errc::absent with the offset of Command: nobody
/// answers. errc::not_supported with the offset of Header Type for what is no header of type 00h,
/// since a bridge resets more than itself, and with that of the Capabilities Pointer where it has
/// none. Nothing is written.
template <config_access Config>
[[nodiscard]] constexpr result<reset_method> find_reset_method(Config config,
                                                               function_address function) {
    if (read<command>(config, function).raw == 0xFFFF) {
        return error{errc::absent, command::offset};
    }
    if (read<header_type>(config, function)[header_type::layout] != header_layout::device) {
        return error{errc::not_supported, header_type::offset};
    }
    const auto express = capabilities(config, function).find(capability_id::pci_express);
    if (express) {
        const auto what = read<pci_express_capabilities>(
            config, function, *express)[pci_express_capabilities::device_port_type];
        const bool is_endpoint = what == device_port_type::endpoint ||
                                 what == device_port_type::legacy_endpoint ||
                                 what == device_port_type::root_complex_integrated_endpoint;
        if (is_endpoint &&
            read<device_capabilities>(
                config, function, *express)[device_capabilities::function_level_reset_capability]) {
            return reset_method::function_level_reset;
        }
    }
    using af = advanced_features_capabilities;
    const auto advanced = read_advanced_features(config, function);
    if (advanced && advanced->capabilities[af::function_level_reset] &&
        advanced->capabilities[af::transactions_pending]) {
        return reset_method::advanced_features;
    }
    const auto power = read_power_management(config, function);
    if (power && !power->control_status[power_management_control_status::no_soft_reset]) {
        return reset_method::power_management;
    }
    return error{errc::not_supported, capabilities_pointer::offset};
}

/// What the host has programmed into a function, and a reset loses: the registers of a header of type
/// 00h, the sizes of BARs that can have several, and the sizes of packets and whatever else Device
/// Control and Device Control 2 have.
class programmed_registers {
public:
    /// As they are now.
    template <config_access Config>
    constexpr programmed_registers(Config config, function_address function)
        : command_{read<command>(config, function)} {
        for (unsigned i = 0; i < count; ++i) {
            values_[i] = config.read(function, places[i].offset, places[i].size);
        }
        const auto express = capabilities(config, function).find(capability_id::pci_express);
        if (express) {
            express_ = *express;
            has_second_control_ =
                read<pci_express_capabilities>(config, function,
                                               *express)[pci_express_capabilities::version] >= 2;
            control_ = read<device_control>(config, function, *express);
            if (has_second_control_) {
                control_2_ = read<device_control_2>(config, function, *express);
            }
            bar_sizes_ = read_resizable_bars(config, function).value_or(resizable_bar_list{});
        }
    }

    [[nodiscard]] constexpr command saved_command() const { return command_; }

    /// Brings them back, Command last, so that nothing is decoded at a place that is not the BAR's.
    /// What is there already is not written. errc::hardware_fault with the offset of the first one
    /// that does not hold its value; Command is as it was found then.
    template <config_access Config>
    [[nodiscard]] constexpr result<void> restore(Config config, function_address function) const {
        if (express_.offset != 0) {
            restore_register(config, function, control_);
            if (has_second_control_) {
                restore_register(config, function, control_2_);
            }
        }
        for (const resizable_bar& each : bar_sizes_) {
            if (const result<void> resized = restore_size(config, function, each); !resized) {
                return resized;
            }
        }
        for (unsigned i = 0; i < count; ++i) {
            const auto [offset, size] = places[i];
            if (config.read(function, offset, size) == values_[i]) {
                continue;
            }
            config.write(function, offset, size, values_[i]);
            if (config.read(function, offset, size) != values_[i]) {
                return error{errc::hardware_fault, offset};
            }
        }
        if (read<command>(config, function) != command_) {
            write(config, function, command_);
            if (read<command>(config, function) != command_) {
                return error{errc::hardware_fault, command::offset};
            }
        }
        return {};
    }

private:
    struct place {
        std::uint16_t offset;
        width size;
    };
    /// The read-only ones in between are left out; those that are not implemented read 0.
    static constexpr place places[]{
        {cache_line_size::offset, width::byte},
        {latency_timer::offset, width::byte},
        {0x10, width::dword},
        {0x14, width::dword},
        {0x18, width::dword},
        {0x1C, width::dword},
        {0x20, width::dword},
        {0x24, width::dword},
        {expansion_rom_base_address::offset, width::dword},
        {interrupt_line::offset, width::byte},
    };
    static constexpr unsigned count = sizeof(places) / sizeof(places[0]);

    /// Of a capability: what does not come back there is nothing that others could reach.
    template <config_access Config, class Register>
    constexpr void restore_register(Config& config, function_address function,
                                    Register value) const {
        if (read<Register>(config, function, express_) != value) {
            write(config, function, express_, value);
        }
    }

    /// Of a BAR: at its old address with another size, it would lie over somebody else's.
    template <config_access Config>
    static constexpr result<void> restore_size(Config config, function_address function,
                                               const resizable_bar& bar) {
        using control = resizable_bar_control;
        const auto log2 = static_cast<std::uint8_t>(std::countr_zero(bar.size / MiB));
        const auto now = read<control>(config, function, bar.at);
        if (now[control::bar_size] == log2) {
            return {};
        }
        write(config, function, bar.at, now.write_back().with(control::bar_size(log2)));
        return read<control>(config, function, bar.at)[control::bar_size] == log2
                   ? result<void>{}
                   : error{errc::hardware_fault,
                           bar.at.offset + std::uint64_t{control::offset_in_capability}};
    }

    command command_;
    std::uint32_t values_[count]{};
    capability express_{}; ///< at 0: none
    bool has_second_control_ = false;
    device_control control_{};
    device_control_2 control_2_{};
    resizable_bar_list bar_sizes_{};
};

/// The steps of one reset.
template <config_access Config, clock Clock>
class reset_sequence {
public:
    constexpr reset_sequence(Config config, function_address function, Clock time)
        : config_{config},
          function_{function},
          clock_{time},
          identity_{read<identity>(config, function)},
          saved_{config, function} {}

    /// By a method that find_reset_method() found; errors as of reset_function().
    [[nodiscard]] constexpr result<void> run(reset_method method) {
        const auto quiet = saved_.saved_command().with(
            command::io_space(false), command::memory_space(false), command::bus_master(false),
            command::interrupt_disable(true)); // or a wire that it asserts would be heard
        write(config_, function_, quiet);
        if (is_asleep()) {
            go_to(power_state::d0);
            write(config_, function_, quiet); // waking up may have been a reset already
        }
        // What does not end by itself, the reset ends.
        static_cast<void>(becomes_true(second, [&] { return !has_transactions_pending(); }));

        const std::uint64_t begun = clock_.now();
        initiate(method);
        const std::uint64_t passed = clock_.now() - begun;
        if (!becomes_true(passed < second ? second - passed : 0, [&] { return is_back(); })) {
            return error{errc::time_out, identity::offset};
        }
        // Whether there was a reset is seen by a bit that it clears; old functions lack it.
        const bool was_reset = !read<command>(config_, function_)[command::interrupt_disable];
        turn_messages_off();
        if (const auto restored = saved_.restore(config_, function_); !restored) {
            return restored;
        }
        return was_reset ? result<void>{} : error{errc::hardware_fault, command::offset};
    }

private:
    static constexpr std::uint64_t millisecond = 1'000'000;
    static constexpr std::uint64_t second = 1000 * millisecond;

    constexpr void initiate(reset_method method) {
        const auto list = capabilities(config_, function_);
        switch (method) {
        case reset_method::function_level_reset: {
            const auto express = list.find(capability_id::pci_express);
            if (express) {
                write(config_, function_, *express,
                      read<device_control>(config_, function_, *express)
                          .write_back()
                          .with(device_control::initiate_function_level_reset(true)));
            }
            let_pass(100 * millisecond); // [pcie, "Function Level Reset"]
            return;
        }
        case reset_method::advanced_features: {
            const auto advanced = list.find(capability_id::advanced_features);
            if (advanced) {
                using control = advanced_features_control;
                write(config_, function_, *advanced,
                      read<control>(config_, function_, *advanced)
                          .write_back()
                          .with(control::initiate_function_level_reset(true)));
            }
            let_pass(100 * millisecond);
            return;
        }
        case reset_method::power_management:
            go_to(power_state::d3_hot);
            go_to(power_state::d0);
            return;
        }
    }

    [[nodiscard]] constexpr bool is_asleep() {
        using control = power_management_control_status;
        const auto power = read_power_management(config_, function_);
        return power && power->control_status[control::power_state] != power_state::d0;
    }
    constexpr void go_to(power_state state) {
        using control = power_management_control_status;
        const auto at = capabilities(config_, function_).find(capability_id::power_management);
        if (at) {
            write(config_, function_, *at,
                  read<control>(config_, function_, *at)
                      .write_back()
                      .with(control::power_state(state)));
        }
        let_pass(10 * millisecond); // to D3hot and from it [pci, "PCI Power Management"]
    }

    [[nodiscard]] constexpr bool has_transactions_pending() {
        const auto express = capabilities(config_, function_).find(capability_id::pci_express);
        if (express) {
            return read<device_status>(config_, function_,
                                       *express)[device_status::transactions_pending];
        }
        using af_status = advanced_features_status;
        const auto advanced = read_advanced_features(config_, function_);
        return advanced &&
               advanced->capabilities[advanced_features_capabilities::transactions_pending] &&
               read<af_status>(config_, function_, advanced->at)[af_status::transactions_pending];
    }

    /// A function that is not ready yet reads all ones, or has vendor id 0001h [pcie,
    /// "Configuration Request Retry Status"]. A virtual function has no identity of its own, and
    /// shows that it is there by Command, which has bits that are always 0.
    [[nodiscard]] constexpr bool is_back() {
        return read<identity>(config_, function_) == identity_ &&
               read<command>(config_, function_).raw != 0xFFFF;
    }

    constexpr void turn_messages_off() {
        const auto list = capabilities(config_, function_);
        if (const auto at = list.find(capability_id::msi); at) {
            using control = msi_message_control;
            const auto now = read<control>(config_, function_, *at);
            if (now[control::enable]) {
                write(config_, function_, *at, now.write_back().with(control::enable(false)));
            }
        }
        if (const auto at = list.find(capability_id::msi_x); at) {
            using control = msi_x_message_control;
            const auto now = read<control>(config_, function_, *at);
            if (now[control::enable]) {
                write(config_, function_, *at, now.write_back().with(control::enable(false)));
            }
        }
    }

    constexpr void let_pass(std::uint64_t nanoseconds) {
        const std::uint64_t start = clock_.now();
        while (clock_.now() - start < nanoseconds) {}
    }
    /// Whether it became true in time. It is asked once more after that, since perhaps it was this
    /// processor that slept and not the function.
    template <class Done>
    [[nodiscard]] constexpr bool becomes_true(std::uint64_t nanoseconds, Done done) {
        const std::uint64_t start = clock_.now();
        while (!done()) {
            if (clock_.now() - start >= nanoseconds) {
                return done();
            }
        }
        return true;
    }

    [[no_unique_address]] Config config_;
    function_address function_;
    [[no_unique_address]] Clock clock_;
    identity identity_;
    programmed_registers saved_;
};

/// Resets a function by the first method that it has, as [pcie] and [pci] say. It stops being a bus
/// master and decoding; what it has asked for is waited for, at most a second; it is reset, and left
/// alone for 100 ms (10 ms and 10 ms by power management); then it has until a second has passed to
/// answer. Its MSI and MSI-X are off then, and what the host had programmed is back. No interrupt is
/// needed; the clock goes on meanwhile.
///
/// Errors as of find_reset_method(), with nothing written, and
///   errc::time_out        with the offset of Vendor ID: it did not come back
///   errc::hardware_fault  with the offset of a register: what was programmed there did not come
///                         back; with that of Command: it kept what a reset clears, and so was not
///                         reset, but is as it was programmed (QEMU's e1000e, by power management)
template <config_access Config, clock Clock>
constexpr result<void> reset_function(Config config, function_address function, Clock time) {
    const result<reset_method> method = find_reset_method(config, function);
    if (!method) {
        return method.error();
    }
    return reset_sequence{config, function, time}.run(*method);
}

} // namespace pt::pci
