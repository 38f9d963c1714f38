// SPDX-License-Identifier: BSL-1.0
//
// Where the registers of the capabilities lie, and what their bits mean, by the manuals' figures.
#include "pt/pci/access_control_services.hpp"
#include "pt/pci/address_translation_services.hpp"
#include "pt/pci/advanced_features.hpp"
#include "pt/pci/capability_register.hpp"
#include "pt/pci/enhanced_allocation.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/pasid.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/resizable_bar.hpp"
#include "pt/pci/sr_iov.hpp"

#include <cstdint>
#include <type_traits>

using namespace pt::pci;

namespace {

template <class R, unsigned Offset, unsigned Size>
inline constexpr bool
    stands = capability_register<R>&& R::offset_in_capability == Offset &&
             sizeof(R) == Size&& std::is_trivially_copyable_v<R>&& std::is_standard_layout_v<R>;

static_assert(stands<msi_message_control, 2, 2> && stands<msi_x_message_control, 2, 2>);
static_assert(stands<power_management_capabilities, 2, 2> &&
              stands<power_management_control_status, 4, 2> &&
              stands<power_management_bridge_support, 6, 1> && stands<power_management_data, 7, 1>);
static_assert(stands<advanced_features_length, 2, 1> &&
              stands<advanced_features_capabilities, 3, 1> &&
              stands<advanced_features_control, 4, 1> && stands<advanced_features_status, 5, 1>);
static_assert(stands<pci_express_capabilities, 0x02, 2> && stands<device_capabilities, 0x04, 4> &&
              stands<device_control, 0x08, 2> && stands<device_status, 0x0A, 2> &&
              stands<link_capabilities, 0x0C, 4> && stands<link_control, 0x10, 2> &&
              stands<link_status, 0x12, 2> && stands<slot_capabilities, 0x14, 4> &&
              stands<slot_control, 0x18, 2> && stands<slot_status, 0x1A, 2> &&
              stands<root_control, 0x1C, 2> && stands<root_capabilities, 0x1E, 2> &&
              stands<root_status, 0x20, 4> && stands<device_capabilities_2, 0x24, 4> &&
              stands<device_control_2, 0x28, 2> && stands<link_capabilities_2, 0x2C, 4> &&
              stands<link_control_2, 0x30, 2> && stands<link_status_2, 0x32, 2> &&
              stands<slot_capabilities_2, 0x34, 4>);
static_assert(stands<sr_iov_capabilities, 0x04, 4> && stands<sr_iov_control, 0x08, 2> &&
              stands<sr_iov_status, 0x0A, 2> && stands<sr_iov_initial_vfs, 0x0C, 2> &&
              stands<sr_iov_total_vfs, 0x0E, 2> && stands<sr_iov_num_vfs, 0x10, 2> &&
              stands<sr_iov_function_dependency_link, 0x12, 1> &&
              stands<sr_iov_first_vf_offset, 0x14, 2> && stands<sr_iov_vf_stride, 0x16, 2> &&
              stands<sr_iov_vf_device_id, 0x1A, 2> &&
              stands<sr_iov_supported_page_sizes, 0x1C, 4> &&
              stands<sr_iov_system_page_size, 0x20, 4> && sr_iov::bars_in_capability == 0x24);
static_assert(stands<acs_capability, 4, 2> && stands<acs_control, 6, 2> &&
              stands<ats_capability, 4, 2> && stands<ats_control, 6, 2> &&
              stands<pasid_capability, 4, 2> && stands<pasid_control, 6, 2>);
static_assert(stands<resizable_bar_capability, 4, 4> && stands<resizable_bar_control, 8, 4>);
static_assert(stands<enhanced_allocation_count, 2, 2> &&
              stands<enhanced_allocation_bus_numbers, 4, 4>);

// Which bits software can write, and which it clears by writing 1, by the manuals' tables of
// attributes; all others it cannot change.
template <class R, unsigned Written, unsigned Cleared = 0>
inline constexpr bool
    changes = R::fields.mask_of(pt::access::read_write) ==
              Written&& R::fields.mask_of(pt::access::write_1_to_clear) == Cleared;
static_assert(changes<msi_message_control, 0x0471> && changes<msi_x_message_control, 0xC000> &&
              changes<msi_x_location, 0>);
static_assert(changes<power_management_capabilities, 0> &&
              changes<power_management_control_status, 0x1F03, 0x8000> &&
              changes<power_management_bridge_support, 0> && changes<power_management_data, 0>);
static_assert(changes<advanced_features_length, 0> && changes<advanced_features_capabilities, 0> &&
              changes<advanced_features_control, 0x01> && changes<advanced_features_status, 0>);
static_assert(changes<pci_express_capabilities, 0> && changes<device_capabilities, 0> &&
              changes<device_control, 0xFFFF> && changes<device_status, 0, 0x004F> &&
              changes<link_capabilities, 0> && changes<link_control, 0xFFFB> &&
              changes<link_status, 0, 0xC000> && changes<slot_capabilities, 0> &&
              changes<slot_control, 0x7FFF> && changes<slot_status, 0, 0x011F> &&
              changes<root_control, 0x001F> && changes<root_capabilities, 0> &&
              changes<root_status, 0, 0x0001'0000> && changes<device_capabilities_2, 0> &&
              changes<device_control_2, 0xFFFF> && changes<link_capabilities_2, 0> &&
              changes<link_control_2, 0xFFBF> && changes<link_status_2, 0, 0x8020> &&
              changes<slot_capabilities_2, 0>);
static_assert(changes<sr_iov_capabilities, 0> && changes<sr_iov_control, 0x003F> &&
              changes<sr_iov_status, 0, 0x0001> && changes<sr_iov_initial_vfs, 0> &&
              changes<sr_iov_total_vfs, 0> && changes<sr_iov_num_vfs, 0xFFFF> &&
              changes<sr_iov_function_dependency_link, 0> && changes<sr_iov_first_vf_offset, 0> &&
              changes<sr_iov_vf_stride, 0> && changes<sr_iov_vf_device_id, 0> &&
              changes<sr_iov_supported_page_sizes, 0> &&
              changes<sr_iov_system_page_size, 0xFFFF'FFFF>);
static_assert(changes<acs_capability, 0> && changes<acs_control, 0x1FFF> &&
              changes<ats_capability, 0> && changes<ats_control, 0x801F> &&
              changes<pasid_capability, 0> && changes<pasid_control, 0x0007>);
static_assert(changes<resizable_bar_capability, 0> && changes<resizable_bar_control, 0x3F00> &&
              changes<enhanced_allocation_count, 0> &&
              changes<enhanced_allocation_bus_numbers, 0> &&
              changes<enhanced_allocation_entry_type, 0x8000'0000>);

// Device Control: a function level reset is bit 15; 512-byte requests and 256-byte payloads are the
// encodings 2 (14:12) and 1 (7:5).
static_assert(device_control{device_control::initiate_function_level_reset(true)}.raw == 0x8000);
static_assert(device_control{device_control::max_read_request_size(2),
                             device_control::max_payload_size(1),
                             device_control::enable_relaxed_ordering(true),
                             device_control::enable_no_snoop(true)}
                  .raw == 0x2830);
static_assert(device_control{device_control::extended_tag_field_enable(true),
                             device_control::phantom_functions_enable(true),
                             device_control::aux_power_pm_enable(true),
                             device_control::unsupported_request_reporting_enable(true),
                             device_control::fatal_error_reporting_enable(true),
                             device_control::non_fatal_error_reporting_enable(true),
                             device_control::correctable_error_reporting_enable(true)}
                  .raw == 0x070F);
static_assert(
    device_capabilities{0x1000'0000}[device_capabilities::function_level_reset_capability] &&
    device_capabilities{0x0000'8000}[device_capabilities::role_based_error_reporting] &&
    device_capabilities{0x0000'0020}[device_capabilities::extended_tag_field_supported] &&
    device_capabilities{0x0000'0018}[device_capabilities::phantom_functions_supported] == 3);

// What reports errors is cleared by 1, and only that: 0..3 and 6 of Device Status.
static_assert(device_status{0xFFFF}.write_back().raw == 0x0030);
static_assert(device_status{0x007F}.after_write(0xFFFF).raw == 0x0030);
static_assert(link_status{0xF000}.write_back().raw == 0x3000);
static_assert(slot_status{0x01FF}.write_back().raw == 0x00E0);
static_assert(slot_status{0x01FF}.after_write(0x0108).raw == 0x00F7);
static_assert(root_status{0x0003'0100}.after_write(0x0001'0000).raw == 0x0002'0100);
static_assert(sr_iov_status{std::uint16_t{0xFFFF}}.write_back().raw == 0);
static_assert(device_control_2{device_control_2::ari_forwarding_enable(true),
                               device_control_2::atomic_op_requester_enable(true),
                               device_control_2::ltr_mechanism_enable(true),
                               device_control_2::ten_bit_tag_requester_enable(true)}
                  .raw == 0x1460);
static_assert(device_capabilities_2{0x0000'0020}[device_capabilities_2::ari_forwarding_supported]);
static_assert(link_capabilities{0x0347'5C42}[link_capabilities::maximum_link_width] == 4 &&
              link_capabilities{0x0347'5C42}[link_capabilities::max_link_speed] == 2 &&
              link_capabilities{0x0347'5C42}[link_capabilities::aspm_support] == 3 &&
              link_capabilities{0x0347'5C42}[link_capabilities::port_number] == 3 &&
              link_capabilities{0x0347'5C42}[link_capabilities::clock_power_management]);

static_assert(sr_iov_control{sr_iov_control::vf_enable(true),
                             sr_iov_control::vf_memory_space_enable(true),
                             sr_iov_control::ari_capable_hierarchy(true)}
                  .raw == 0x0019);
static_assert(acs_control{acs_control::source_validation_enable(true),
                          acs_control::p2p_request_redirect_enable(true),
                          acs_control::p2p_completion_redirect_enable(true),
                          acs_control::upstream_forwarding_enable(true)}
                  .raw == 0x001D);
static_assert(ats_control{ats_control::enable(true), ats_control::smallest_translation_unit(1)}
                  .raw == 0x8001);
static_assert(pasid_control{pasid_control::enable(true),
                            pasid_control::execute_permission_enable(true)}
                  .raw == 0x0003);
static_assert(
    advanced_features_control{advanced_features_control::initiate_function_level_reset(true)}.raw ==
    0x01);
static_assert(resizable_bar_control{0x0000'2B20}[resizable_bar_control::bar_size] == 43 &&
              resizable_bar_control{0x0000'2B20}[resizable_bar_control::number_of_resizable_bars] ==
                  1);

// The extended ids that matter for passing a function through, as the PCI Code and ID Assignment
// Specification has them.
static_assert(extended_capability_id{0x0D} == extended_capability_id::access_control_services &&
              extended_capability_id{0x0F} ==
                  extended_capability_id::address_translation_services &&
              extended_capability_id{0x10} ==
                  extended_capability_id::single_root_io_virtualization &&
              extended_capability_id{0x15} == extended_capability_id::resizable_bar &&
              extended_capability_id{0x1B} == extended_capability_id::pasid &&
              extended_capability_id{0x1D} == extended_capability_id::downstream_port_containment &&
              extended_capability_id{0x24} == extended_capability_id::vf_resizable_bar &&
              extended_capability_id{0x2F} == extended_capability_id::device_3);

} // namespace
