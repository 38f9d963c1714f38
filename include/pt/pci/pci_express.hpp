// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/capability.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/config_access.hpp"

#include <cstdint>

/// The PCI Express capability [pcie]. Its length depends on its version and on what the function is.
namespace pt::pci {

/// What the function is in the fabric.
enum class device_port_type : std::uint8_t {
    endpoint = 0,
    legacy_endpoint = 1,
    root_port = 4,
    upstream_port = 5,   ///< of a switch
    downstream_port = 6, ///< of a switch
    pci_express_to_pci_bridge = 7,
    pci_to_pci_express_bridge = 8,
    root_complex_integrated_endpoint = 9,
    root_complex_event_collector = 10,
};

/// PCI Express Capabilities Register.
struct pci_express_capabilities : reg<pci_express_capabilities, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x02;

    // clang-format off
    static constexpr bits<13,  9, std::uint8_t, access::read_only>          interrupt_message_number{};
    static constexpr bits< 8,  8, bool, access::read_only>                  slot_implemented{};
    static constexpr bits< 7,  4, pci::device_port_type, access::read_only> device_port_type{};
    /// 1; 2 and above have the registers named 2.
    static constexpr bits< 3,  0, std::uint8_t, access::read_only>          version{};
    // clang-format on
    static constexpr field_list fields{interrupt_message_number, slot_implemented, device_port_type,
                                       version};
};

/// Device Capabilities Register.
struct device_capabilities : reg<device_capabilities, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x04;

    // clang-format off
    static constexpr bits<28, 28, bool, access::read_only>         function_level_reset_capability{};
    static constexpr bits<27, 26, std::uint8_t, access::read_only> captured_slot_power_limit_scale{};
    static constexpr bits<25, 18, std::uint8_t, access::read_only> captured_slot_power_limit_value{};
    static constexpr bits<16, 16, bool, access::read_only>         err_cor_subclass_capable{};
    static constexpr bits<15, 15, bool, access::read_only>         role_based_error_reporting{};
    static constexpr bits<11,  9, std::uint8_t, access::read_only> endpoint_l1_acceptable_latency{};
    static constexpr bits< 8,  6, std::uint8_t, access::read_only> endpoint_l0s_acceptable_latency{};
    static constexpr bits< 5,  5, bool, access::read_only>         extended_tag_field_supported{};
    static constexpr bits< 4,  3, std::uint8_t, access::read_only> phantom_functions_supported{};
    /// 128 bytes << n.
    static constexpr bits< 2,  0, std::uint8_t, access::read_only> max_payload_size_supported{};
    // clang-format on
    static constexpr field_list fields{
        function_level_reset_capability, captured_slot_power_limit_scale,
        captured_slot_power_limit_value, err_cor_subclass_capable,
        role_based_error_reporting,      endpoint_l1_acceptable_latency,
        endpoint_l0s_acceptable_latency, extended_tag_field_supported,
        phantom_functions_supported,     max_payload_size_supported};
};

/// Device Control Register.
struct device_control : reg<device_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x08;

    // clang-format off
    /// Resets the function; reads 0. In a bridge to conventional PCI this is another bit, Bridge
    /// Configuration Retry Enable.
    static constexpr bits<15, 15, bool>         initiate_function_level_reset{};
    static constexpr bits<14, 12, std::uint8_t> max_read_request_size{}; ///< 128 bytes << n
    static constexpr bits<11, 11, bool>         enable_no_snoop{};
    static constexpr bits<10, 10, bool>         aux_power_pm_enable{};
    static constexpr bits< 9,  9, bool>         phantom_functions_enable{};
    static constexpr bits< 8,  8, bool>         extended_tag_field_enable{};
    static constexpr bits< 7,  5, std::uint8_t> max_payload_size{}; ///< 128 bytes << n
    static constexpr bits< 4,  4, bool>         enable_relaxed_ordering{};
    static constexpr bits< 3,  3, bool>         unsupported_request_reporting_enable{};
    static constexpr bits< 2,  2, bool>         fatal_error_reporting_enable{};
    static constexpr bits< 1,  1, bool>         non_fatal_error_reporting_enable{};
    static constexpr bits< 0,  0, bool>         correctable_error_reporting_enable{};
    // clang-format on
    static constexpr field_list fields{initiate_function_level_reset,
                                       max_read_request_size,
                                       enable_no_snoop,
                                       aux_power_pm_enable,
                                       phantom_functions_enable,
                                       extended_tag_field_enable,
                                       max_payload_size,
                                       enable_relaxed_ordering,
                                       unsupported_request_reporting_enable,
                                       fatal_error_reporting_enable,
                                       non_fatal_error_reporting_enable,
                                       correctable_error_reporting_enable};
};

/// Device Status Register.
struct device_status : reg<device_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x0A;

    // clang-format off
    static constexpr bits<15,  7, std::uint16_t, access::zero>    reserved_15_7{};
    static constexpr bits< 6,  6, bool, access::write_1_to_clear> emergency_power_reduction_detected{};
    static constexpr bits< 5,  5, bool, access::read_only>        transactions_pending{};
    static constexpr bits< 4,  4, bool, access::read_only>        aux_power_detected{};
    static constexpr bits< 3,  3, bool, access::write_1_to_clear> unsupported_request_detected{};
    static constexpr bits< 2,  2, bool, access::write_1_to_clear> fatal_error_detected{};
    static constexpr bits< 1,  1, bool, access::write_1_to_clear> non_fatal_error_detected{};
    static constexpr bits< 0,  0, bool, access::write_1_to_clear> correctable_error_detected{};
    // clang-format on
    static constexpr field_list fields{reserved_15_7,
                                       emergency_power_reduction_detected,
                                       transactions_pending,
                                       aux_power_detected,
                                       unsupported_request_detected,
                                       fatal_error_detected,
                                       non_fatal_error_detected,
                                       correctable_error_detected};
};

/// Link Capabilities Register.
struct link_capabilities : reg<link_capabilities, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x0C;

    // clang-format off
    static constexpr bits<31, 24, std::uint8_t, access::read_only> port_number{};
    static constexpr bits<22, 22, bool, access::read_only>         aspm_optionality_compliance{};
    static constexpr bits<21, 21, bool, access::read_only>         link_bandwidth_notification_capability{};
    static constexpr bits<20, 20, bool, access::read_only>         data_link_layer_link_active_reporting_capable{};
    static constexpr bits<19, 19, bool, access::read_only>         surprise_down_error_reporting_capable{};
    static constexpr bits<18, 18, bool, access::read_only>         clock_power_management{};
    static constexpr bits<17, 15, std::uint8_t, access::read_only> l1_exit_latency{};
    static constexpr bits<14, 12, std::uint8_t, access::read_only> l0s_exit_latency{};
    /// Bit 0: L0s, bit 1: L1.
    static constexpr bits<11, 10, std::uint8_t, access::read_only> aspm_support{};
    static constexpr bits< 9,  4, std::uint8_t, access::read_only> maximum_link_width{}; ///< lanes
    /// 1: 2.5 GT/s, 2: 5, 3: 8, 4: 16, 5: 32, 6: 64.
    static constexpr bits< 3,  0, std::uint8_t, access::read_only> max_link_speed{};
    // clang-format on
    static constexpr field_list fields{port_number,
                                       aspm_optionality_compliance,
                                       link_bandwidth_notification_capability,
                                       data_link_layer_link_active_reporting_capable,
                                       surprise_down_error_reporting_capable,
                                       clock_power_management,
                                       l1_exit_latency,
                                       l0s_exit_latency,
                                       aspm_support,
                                       maximum_link_width,
                                       max_link_speed};
};

/// Link Control Register.
struct link_control : reg<link_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x10;

    // clang-format off
    static constexpr bits<15, 14, std::uint8_t>           drs_signaling_control{};
    static constexpr bits<13, 13, bool>                   flit_mode_disable{};
    static constexpr bits<12, 12, bool>                   sris_clocking{};
    static constexpr bits<11, 11, bool>                   link_autonomous_bandwidth_interrupt_enable{};
    static constexpr bits<10, 10, bool>                   link_bandwidth_management_interrupt_enable{};
    static constexpr bits< 9,  9, bool>                   hardware_autonomous_width_disable{};
    static constexpr bits< 8,  8, bool>                   enable_clock_power_management{};
    static constexpr bits< 7,  7, bool>                   extended_synch{};
    static constexpr bits< 6,  6, bool>                   common_clock_configuration{};
    static constexpr bits< 5,  5, bool>                   retrain_link{}; ///< reads 0
    static constexpr bits< 4,  4, bool>                   link_disable{};
    /// 0: 64 bytes, 1: 128.
    static constexpr bits< 3,  3, bool>                   read_completion_boundary{};
    static constexpr bits< 2,  2, bool, access::preserve> reserved_2{};
    static constexpr bits< 1,  0, std::uint8_t>           aspm_control{}; ///< bit 0: L0s, bit 1: L1
    // clang-format on
    static constexpr field_list fields{drs_signaling_control,
                                       flit_mode_disable,
                                       sris_clocking,
                                       link_autonomous_bandwidth_interrupt_enable,
                                       link_bandwidth_management_interrupt_enable,
                                       hardware_autonomous_width_disable,
                                       enable_clock_power_management,
                                       extended_synch,
                                       common_clock_configuration,
                                       retrain_link,
                                       link_disable,
                                       read_completion_boundary,
                                       reserved_2,
                                       aspm_control};
};

/// Link Status Register.
struct link_status : reg<link_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x12;

    // clang-format off
    static constexpr bits<15, 15, bool, access::write_1_to_clear>  link_autonomous_bandwidth_status{};
    static constexpr bits<14, 14, bool, access::write_1_to_clear>  link_bandwidth_management_status{};
    static constexpr bits<13, 13, bool, access::read_only>         data_link_layer_link_active{};
    static constexpr bits<12, 12, bool, access::read_only>         slot_clock_configuration{};
    static constexpr bits<11, 11, bool, access::read_only>         link_training{};
    /// Lanes.
    static constexpr bits< 9,  4, std::uint8_t, access::read_only> negotiated_link_width{};
    /// As in link_capabilities.
    static constexpr bits< 3,  0, std::uint8_t, access::read_only> current_link_speed{};
    // clang-format on
    static constexpr field_list fields{link_autonomous_bandwidth_status,
                                       link_bandwidth_management_status,
                                       data_link_layer_link_active,
                                       slot_clock_configuration,
                                       link_training,
                                       negotiated_link_width,
                                       current_link_speed};
};

/// Slot Capabilities Register.
struct slot_capabilities : reg<slot_capabilities, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x14;

    // clang-format off
    static constexpr bits<31, 19, std::uint16_t, access::read_only> physical_slot_number{};
    static constexpr bits<18, 18, bool, access::read_only>          no_command_completed_support{};
    static constexpr bits<17, 17, bool, access::read_only>          electromechanical_interlock_present{};
    static constexpr bits<16, 15, std::uint8_t, access::read_only>  slot_power_limit_scale{};
    static constexpr bits<14,  7, std::uint8_t, access::read_only>  slot_power_limit_value{};
    static constexpr bits< 6,  6, bool, access::read_only>          hot_plug_capable{};
    static constexpr bits< 5,  5, bool, access::read_only>          hot_plug_surprise{};
    static constexpr bits< 4,  4, bool, access::read_only>          power_indicator_present{};
    static constexpr bits< 3,  3, bool, access::read_only>          attention_indicator_present{};
    static constexpr bits< 2,  2, bool, access::read_only>          mrl_sensor_present{};
    static constexpr bits< 1,  1, bool, access::read_only>          power_controller_present{};
    static constexpr bits< 0,  0, bool, access::read_only>          attention_button_present{};
    // clang-format on
    static constexpr field_list fields{
        physical_slot_number,   no_command_completed_support, electromechanical_interlock_present,
        slot_power_limit_scale, slot_power_limit_value,       hot_plug_capable,
        hot_plug_surprise,      power_indicator_present,      attention_indicator_present,
        mrl_sensor_present,     power_controller_present,     attention_button_present};
};

/// Slot Control Register.
struct slot_control : reg<slot_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x18;

    // clang-format off
    static constexpr bits<15, 15, bool, access::preserve> reserved_15{};
    static constexpr bits<14, 14, bool>                   in_band_presence_detect_disable{};
    static constexpr bits<13, 13, bool>                   auto_slot_power_limit_disable{};
    static constexpr bits<12, 12, bool>                   data_link_layer_state_changed_enable{};
    /// Toggles; reads 0.
    static constexpr bits<11, 11, bool>                   electromechanical_interlock_control{};
    static constexpr bits<10, 10, bool>                   power_controller_control{}; ///< 1: off
    static constexpr bits< 9,  8, std::uint8_t>           power_indicator_control{};
    static constexpr bits< 7,  6, std::uint8_t>           attention_indicator_control{};
    static constexpr bits< 5,  5, bool>                   hot_plug_interrupt_enable{};
    static constexpr bits< 4,  4, bool>                   command_completed_interrupt_enable{};
    static constexpr bits< 3,  3, bool>                   presence_detect_changed_enable{};
    static constexpr bits< 2,  2, bool>                   mrl_sensor_changed_enable{};
    static constexpr bits< 1,  1, bool>                   power_fault_detected_enable{};
    static constexpr bits< 0,  0, bool>                   attention_button_pressed_enable{};
    // clang-format on
    static constexpr field_list fields{reserved_15,
                                       in_band_presence_detect_disable,
                                       auto_slot_power_limit_disable,
                                       data_link_layer_state_changed_enable,
                                       electromechanical_interlock_control,
                                       power_controller_control,
                                       power_indicator_control,
                                       attention_indicator_control,
                                       hot_plug_interrupt_enable,
                                       command_completed_interrupt_enable,
                                       presence_detect_changed_enable,
                                       mrl_sensor_changed_enable,
                                       power_fault_detected_enable,
                                       attention_button_pressed_enable};
};

/// Slot Status Register.
struct slot_status : reg<slot_status, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x1A;

    // clang-format off
    static constexpr bits<15,  9, std::uint8_t, access::zero>     reserved_15_9{};
    static constexpr bits< 8,  8, bool, access::write_1_to_clear> data_link_layer_state_changed{};
    static constexpr bits< 7,  7, bool, access::read_only>        electromechanical_interlock_status{};
    static constexpr bits< 6,  6, bool, access::read_only>        presence_detect_state{};
    static constexpr bits< 5,  5, bool, access::read_only>        mrl_sensor_state{}; ///< 1: open
    static constexpr bits< 4,  4, bool, access::write_1_to_clear> command_completed{};
    static constexpr bits< 3,  3, bool, access::write_1_to_clear> presence_detect_changed{};
    static constexpr bits< 2,  2, bool, access::write_1_to_clear> mrl_sensor_changed{};
    static constexpr bits< 1,  1, bool, access::write_1_to_clear> power_fault_detected{};
    static constexpr bits< 0,  0, bool, access::write_1_to_clear> attention_button_pressed{};
    // clang-format on
    static constexpr field_list fields{reserved_15_9,
                                       data_link_layer_state_changed,
                                       electromechanical_interlock_status,
                                       presence_detect_state,
                                       mrl_sensor_state,
                                       command_completed,
                                       presence_detect_changed,
                                       mrl_sensor_changed,
                                       power_fault_detected,
                                       attention_button_pressed};
};

/// Root Control Register.
struct root_control : reg<root_control, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x1C;

    // clang-format off
    static constexpr bits<15,  5, std::uint16_t, access::preserve> reserved_15_5{};
    static constexpr bits< 4,  4, bool>                            crs_software_visibility_enable{};
    static constexpr bits< 3,  3, bool>                            pme_interrupt_enable{};
    static constexpr bits< 2,  2, bool>                            system_error_on_fatal_error_enable{};
    static constexpr bits< 1,  1, bool>                            system_error_on_non_fatal_error_enable{};
    static constexpr bits< 0,  0, bool>                            system_error_on_correctable_error_enable{};
    // clang-format on
    static constexpr field_list fields{reserved_15_5,
                                       crs_software_visibility_enable,
                                       pme_interrupt_enable,
                                       system_error_on_fatal_error_enable,
                                       system_error_on_non_fatal_error_enable,
                                       system_error_on_correctable_error_enable};
};

/// Root Capabilities Register.
struct root_capabilities : reg<root_capabilities, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x1E;

    // clang-format off
    static constexpr bits<0, 0, bool, access::read_only> crs_software_visibility{};
    // clang-format on
    static constexpr field_list fields{crs_software_visibility};
};

/// Root Status Register.
struct root_status : reg<root_status, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x20;

    // clang-format off
    static constexpr bits<31, 18, std::uint16_t, access::zero>      reserved_31_18{};
    static constexpr bits<17, 17, bool, access::read_only>          pme_pending{};
    static constexpr bits<16, 16, bool, access::write_1_to_clear>   pme_status{};
    /// As function_address::source_id().
    static constexpr bits<15,  0, std::uint16_t, access::read_only> pme_requester_id{};
    // clang-format on
    static constexpr field_list fields{reserved_31_18, pme_pending, pme_status, pme_requester_id};
};

/// Device Capabilities 2 Register.
struct device_capabilities_2 : reg<device_capabilities_2, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x24;

    // clang-format off
    static constexpr bits<31, 31, bool, access::read_only>         frs_supported{};
    static constexpr bits<26, 26, bool, access::read_only>         emergency_power_reduction_initialization_required{};
    static constexpr bits<25, 24, std::uint8_t, access::read_only> emergency_power_reduction_supported{};
    /// 0: 4.
    static constexpr bits<23, 22, std::uint8_t, access::read_only> max_end_end_tlp_prefixes{};
    static constexpr bits<21, 21, bool, access::read_only>         end_end_tlp_prefix_supported{};
    static constexpr bits<20, 20, bool, access::read_only>         extended_fmt_field_supported{};
    static constexpr bits<19, 18, std::uint8_t, access::read_only> obff_supported{};
    static constexpr bits<17, 17, bool, access::read_only>         ten_bit_tag_requester_supported{};
    static constexpr bits<16, 16, bool, access::read_only>         ten_bit_tag_completer_supported{};
    static constexpr bits<15, 14, std::uint8_t, access::read_only> ln_system_cls{};
    static constexpr bits<13, 12, std::uint8_t, access::read_only> tph_completer_supported{};
    static constexpr bits<11, 11, bool, access::read_only>         ltr_mechanism_supported{};
    static constexpr bits<10, 10, bool, access::read_only>         no_ro_enabled_pr_pr_passing{};
    static constexpr bits< 9,  9, bool, access::read_only>         cas_completer_128_supported{};
    static constexpr bits< 8,  8, bool, access::read_only>         atomic_op_completer_64_supported{};
    static constexpr bits< 7,  7, bool, access::read_only>         atomic_op_completer_32_supported{};
    static constexpr bits< 6,  6, bool, access::read_only>         atomic_op_routing_supported{};
    static constexpr bits< 5,  5, bool, access::read_only>         ari_forwarding_supported{};
    static constexpr bits< 4,  4, bool, access::read_only>         completion_timeout_disable_supported{};
    static constexpr bits< 3,  0, std::uint8_t, access::read_only> completion_timeout_ranges_supported{};
    // clang-format on
    static constexpr field_list fields{frs_supported,
                                       emergency_power_reduction_initialization_required,
                                       emergency_power_reduction_supported,
                                       max_end_end_tlp_prefixes,
                                       end_end_tlp_prefix_supported,
                                       extended_fmt_field_supported,
                                       obff_supported,
                                       ten_bit_tag_requester_supported,
                                       ten_bit_tag_completer_supported,
                                       ln_system_cls,
                                       tph_completer_supported,
                                       ltr_mechanism_supported,
                                       no_ro_enabled_pr_pr_passing,
                                       cas_completer_128_supported,
                                       atomic_op_completer_64_supported,
                                       atomic_op_completer_32_supported,
                                       atomic_op_routing_supported,
                                       ari_forwarding_supported,
                                       completion_timeout_disable_supported,
                                       completion_timeout_ranges_supported};
};

/// Device Control 2 Register.
struct device_control_2 : reg<device_control_2, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x28;

    // clang-format off
    static constexpr bits<15, 15, bool>         end_end_tlp_prefix_blocking{};
    static constexpr bits<14, 13, std::uint8_t> obff_enable{};
    static constexpr bits<12, 12, bool>         ten_bit_tag_requester_enable{};
    static constexpr bits<11, 11, bool>         emergency_power_reduction_request{};
    static constexpr bits<10, 10, bool>         ltr_mechanism_enable{};
    static constexpr bits< 9,  9, bool>         ido_completion_enable{};
    static constexpr bits< 8,  8, bool>         ido_request_enable{};
    static constexpr bits< 7,  7, bool>         atomic_op_egress_blocking{};
    static constexpr bits< 6,  6, bool>         atomic_op_requester_enable{};
    static constexpr bits< 5,  5, bool>         ari_forwarding_enable{};
    static constexpr bits< 4,  4, bool>         completion_timeout_disable{};
    static constexpr bits< 3,  0, std::uint8_t> completion_timeout_value{};
    // clang-format on
    static constexpr field_list fields{
        end_end_tlp_prefix_blocking,  obff_enable,
        ten_bit_tag_requester_enable, emergency_power_reduction_request,
        ltr_mechanism_enable,         ido_completion_enable,
        ido_request_enable,           atomic_op_egress_blocking,
        atomic_op_requester_enable,   ari_forwarding_enable,
        completion_timeout_disable,   completion_timeout_value};
};

/// Link Capabilities 2 Register.
struct link_capabilities_2 : reg<link_capabilities_2, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x2C;

    // clang-format off
    static constexpr bits<31, 31, bool, access::read_only>         drs_supported{};
    static constexpr bits<24, 24, bool, access::read_only>         two_retimers_presence_detect_supported{};
    static constexpr bits<23, 23, bool, access::read_only>         retimer_presence_detect_supported{};
    static constexpr bits<22, 16, std::uint8_t, access::read_only> lower_skp_os_reception_supported_speeds{};
    static constexpr bits<15,  9, std::uint8_t, access::read_only> lower_skp_os_generation_supported_speeds{};
    static constexpr bits< 8,  8, bool, access::read_only>         crosslink_supported{};
    /// Bit 0: 2.5 GT/s, bit 1: 5, and so on.
    static constexpr bits< 7,  1, std::uint8_t, access::read_only> supported_link_speeds{};
    // clang-format on
    static constexpr field_list fields{drs_supported,
                                       two_retimers_presence_detect_supported,
                                       retimer_presence_detect_supported,
                                       lower_skp_os_reception_supported_speeds,
                                       lower_skp_os_generation_supported_speeds,
                                       crosslink_supported,
                                       supported_link_speeds};
};

/// Link Control 2 Register.
struct link_control_2 : reg<link_control_2, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x30;

    // clang-format off
    static constexpr bits<15, 12, std::uint8_t>            compliance_preset{};
    static constexpr bits<11, 11, bool>                    compliance_sos{};
    static constexpr bits<10, 10, bool>                    enter_modified_compliance{};
    static constexpr bits< 9,  7, std::uint8_t>            transmit_margin{};
    static constexpr bits< 6,  6, bool, access::read_only> selectable_de_emphasis{};
    static constexpr bits< 5,  5, bool>                    hardware_autonomous_speed_disable{};
    static constexpr bits< 4,  4, bool>                    enter_compliance{};
    /// As in link_capabilities.
    static constexpr bits< 3,  0, std::uint8_t>            target_link_speed{};
    // clang-format on
    static constexpr field_list fields{compliance_preset,         compliance_sos,
                                       enter_modified_compliance, transmit_margin,
                                       selectable_de_emphasis,    hardware_autonomous_speed_disable,
                                       enter_compliance,          target_link_speed};
};

/// Link Status 2 Register.
struct link_status_2 : reg<link_status_2, std::uint16_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x32;

    // clang-format off
    static constexpr bits<15, 15, bool, access::write_1_to_clear>  drs_message_received{};
    static constexpr bits<14, 12, std::uint8_t, access::read_only> downstream_component_presence{};
    static constexpr bits< 9,  8, std::uint8_t, access::read_only> crosslink_resolution{};
    static constexpr bits< 7,  7, bool, access::read_only>         two_retimers_presence_detected{};
    static constexpr bits< 6,  6, bool, access::read_only>         retimer_presence_detected{};
    static constexpr bits< 5,  5, bool, access::write_1_to_clear>  link_equalization_request{};
    static constexpr bits< 4,  4, bool, access::read_only>         equalization_phase_3_successful{};
    static constexpr bits< 3,  3, bool, access::read_only>         equalization_phase_2_successful{};
    static constexpr bits< 2,  2, bool, access::read_only>         equalization_phase_1_successful{};
    static constexpr bits< 1,  1, bool, access::read_only>         equalization_complete{};
    /// 0: -6 dB, 1: -3.5 dB.
    static constexpr bits< 0,  0, bool, access::read_only>         current_de_emphasis_level{};
    // clang-format on
    static constexpr field_list fields{drs_message_received,
                                       downstream_component_presence,
                                       crosslink_resolution,
                                       two_retimers_presence_detected,
                                       retimer_presence_detected,
                                       link_equalization_request,
                                       equalization_phase_3_successful,
                                       equalization_phase_2_successful,
                                       equalization_phase_1_successful,
                                       equalization_complete,
                                       current_de_emphasis_level};
};

/// Slot Capabilities 2 Register.
struct slot_capabilities_2 : reg<slot_capabilities_2, std::uint32_t> {
    using reg::reg;
    static constexpr std::uint16_t offset_in_capability = 0x34;

    // clang-format off
    static constexpr bits<0, 0, bool, access::read_only> in_band_presence_detect_disable_supported{};
    // clang-format on
    static constexpr field_list fields{in_band_presence_detect_disable_supported};
};

/// Whether the manual has such a type.
[[nodiscard]] constexpr bool is_defined(device_port_type type) {
    const auto number = static_cast<std::uint8_t>(type);
    return number <= 1 || (number >= 4 && number <= 10);
}

/// What a function's PCI Express capability says of it. The registers named 2 exist from version 2
/// on; link, slot and root ones where the function has such a thing.
struct pci_express {
    capability at{};
    pci_express_capabilities capabilities{};
    device_capabilities device{};

    [[nodiscard]] constexpr device_port_type type() const {
        return capabilities[pci_express_capabilities::device_port_type];
    }
    /// Whether device_capabilities_2 and device_control_2 exist.
    [[nodiscard]] constexpr bool has_second_registers() const {
        return capabilities[pci_express_capabilities::version] >= 2;
    }
    /// Whether a link leads to it: not inside the root complex.
    [[nodiscard]] constexpr bool has_link() const {
        return type() != device_port_type::root_complex_integrated_endpoint &&
               type() != device_port_type::root_complex_event_collector;
    }
    /// Whether a slot is below it.
    [[nodiscard]] constexpr bool has_slot() const {
        return capabilities[pci_express_capabilities::slot_implemented] &&
               (type() == device_port_type::root_port ||
                type() == device_port_type::downstream_port ||
                type() == device_port_type::pci_to_pci_express_bridge);
    }
    /// Whether it has the root registers.
    [[nodiscard]] constexpr bool has_root() const {
        return type() == device_port_type::root_port ||
               type() == device_port_type::root_complex_event_collector;
    }

    /// Bytes, header included, up to the last register that means something for such a function.
    /// From version 2 on the manual has 0x3C for all of them, the others reading 0; but what is of
    /// no use is missing in real functions whose capability lies at the end of the space.
    [[nodiscard]] constexpr unsigned size() const {
        if (has_second_registers()) {
            return has_slot() ? 0x3C : has_link() ? 0x34 : 0x2C;
        }
        return has_root() ? 0x24 : has_slot() ? 0x1C : has_link() ? 0x14 : 0x0C;
    }

    friend constexpr bool operator==(const pci_express&, const pci_express&) = default;
};

/// errc::absent when the function has none; errc::malformed with its offset when it runs past the
/// first 256 bytes, has version 0, or is of a reserved type. Versions above 2 are read as 2: they
/// are compatible with it [pcie].
template <config_access Config>
[[nodiscard]] constexpr result<pci_express> read_pci_express(Config config,
                                                             function_address function) {
    const auto at = capabilities(config, function).find(capability_id::pci_express, 0x0C);
    if (!at) {
        return at.error();
    }
    const pci_express found{*at, read<pci_express_capabilities>(config, function, *at),
                            read<device_capabilities>(config, function, *at)};
    if (found.capabilities[pci_express_capabilities::version] == 0 || !is_defined(found.type()) ||
        !at->has_room(found.size())) {
        return error{errc::malformed, at->offset};
    }
    return found;
}

} // namespace pt::pci
