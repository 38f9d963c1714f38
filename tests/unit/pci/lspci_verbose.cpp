// SPDX-License-Identifier: BSL-1.0
//
// Configuration spaces of real machines: what pt decodes of their capabilities is written as
// `lspci -F FILE -vvv`, an independent decoder of the same bytes, prints it, and has to be there.
#include "../../shared_data.hpp"
#include "dump_config.hpp"

#include "pt/pci/access_control_services.hpp"
#include "pt/pci/address_translation_services.hpp"
#include "pt/pci/advanced_features.hpp"
#include "pt/pci/enhanced_allocation.hpp"
#include "pt/pci/msi.hpp"
#include "pt/pci/msi_x.hpp"
#include "pt/pci/pasid.hpp"
#include "pt/pci/pci_express.hpp"
#include "pt/pci/power_management.hpp"
#include "pt/pci/resizable_bar.hpp"
#include "pt/pci/sr_iov.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

using namespace pt::pci;
using pt::width;

namespace {

/// What lspci says of one capability. Lines are joined; a part like "DevCtl:" reaches to the next.
struct said {
    unsigned offset = 0;
    std::string title;
    std::map<std::string, std::string> parts; ///< the lines before the first part are in ""
};

struct dumped {
    std::vector<std::uint8_t> bytes;
    std::vector<said> capabilities;

    const said* find(const std::string& title) const {
        for (const said& one : capabilities) {
            if (one.title.rfind(title, 0) == 0) {
                return &one;
            }
        }
        return nullptr;
    }
};

using machine = std::map<function_address, dumped>;

using dump_config = dump_config_of<machine>;

const std::regex head{R"(^((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) .*)"};

function_address address_of(const std::string& text) {
    return function_address::parse(text.data(), text.size()).value();
}

machine read_dump(const std::filesystem::path& file) {
    static const std::regex row{R"(^[0-9a-f]{2,3}:((?: [0-9a-f]{2}){16})\s*$)"};
    machine functions;
    dumped* now = nullptr;
    std::ifstream in{file};
    std::smatch match;
    for (std::string line; std::getline(in, line);) {
        if (std::regex_match(line, match, head)) {
            now = &functions[address_of(match[1])];
        } else if (now != nullptr && std::regex_match(line, match, row)) {
            const std::string bytes = match[1];
            for (std::size_t i = 0; i < 16; ++i) {
                const auto byte = std::stoul(bytes.substr(3 * i + 1, 2), nullptr, 16);
                now->bytes.push_back(static_cast<std::uint8_t>(byte));
            }
        }
    }
    return functions;
}

/// Without the space around, and with single spaces inside.
std::string tidy(const std::string& line) {
    std::istringstream words{line};
    std::string text;
    for (std::string word; words >> word;) {
        text += (text.empty() ? "" : " ") + word;
    }
    return text;
}

/// Adds what lspci prints of the same file. False if there is no lspci.
bool add_lspci(const std::filesystem::path& file, machine& functions) {
    static const std::regex capability{R"(^\tCapabilities: \[([0-9a-f]+)[^\]]*\] (.*))"};
    static const std::regex part{R"(^((?:Dev|Lnk|Slt|Root|AtomicOps)[A-Za-z]*2?): ?(.*))"};
    FILE* const pipe = popen(("lspci -F '" + file.string() + "' -vvv 2>/dev/null").c_str(), "r");
    if (pipe == nullptr) {
        return false;
    }
    std::string output;
    char some[4096];
    while (const std::size_t count = std::fread(some, 1, sizeof some, pipe)) {
        output.append(some, count);
    }
    if (pclose(pipe) != 0) {
        return false;
    }
    std::istringstream lines{output};
    dumped* now = nullptr;
    said* in = nullptr;
    std::string label;
    std::smatch match;
    for (std::string line; std::getline(lines, line);) {
        if (std::regex_match(line, match, head)) {
            now = &functions[address_of(match[1])];
            in = nullptr;
        } else if (now != nullptr && std::regex_match(line, match, capability)) {
            const auto offset = static_cast<unsigned>(std::stoul(match[1], nullptr, 16));
            now->capabilities.push_back({offset, tidy(match[2]), {}});
            in = &now->capabilities.back();
            label.clear();
        } else if (in != nullptr && line.rfind("\t\t", 0) == 0) {
            line = tidy(line);
            if (std::regex_match(line, match, part)) {
                label = match[1];
                line = match[2];
            }
            in->parts[label] += " " + line;
        } else {
            in = nullptr;
        }
    }
    return true;
}

template <class... T>
std::string text(const char* format, T... values) {
    char buffer[256];
    std::snprintf(buffer, sizeof buffer, format, values...);
    return buffer;
}

char sign(bool value) { return value ? '+' : '-'; }

/// Whether each bit of a register stands in lspci's text as "Name+" or "Name-".
template <class Register>
struct flags_of {
    const said& in;
    const char* part;
    Register value;

    [[nodiscard]] std::string all() const {
        const auto found = in.parts.find(part);
        return found == in.parts.end() ? std::string{} : found->second + " ";
    }
    void has(const std::string& fragment) const {
        INFO(part << ":" << all());
        INFO(fragment);
        CHECK(all().find(" " + fragment) != std::string::npos);
    }
    template <class Field>
    void has(const char* name, Field field) const {
        has(text("%s%c", name, sign(value[field])));
    }
    /// Where lspci prints it only for some functions.
    template <class Field>
    void may_have(const char* name, Field field) const {
        if (all().find(text(" %s+", name)) != std::string::npos ||
            all().find(text(" %s-", name)) != std::string::npos) {
            has(name, field);
        }
    }
};
template <class Register>
flags_of(const said&, const char*, Register) -> flags_of<Register>;

const char* speed(unsigned code) {
    static const char* const names[] = {"unknown", "2.5GT/s", "5GT/s", "8GT/s",
                                        "16GT/s",  "32GT/s",  "64GT/s"};
    return names[code < 7 ? code : 0];
}

// ---- one check for each capability ----

void check(const said& in, dump_config, function_address, const power_management& pm) {
    using pmc = power_management_capabilities;
    using pmcsr = power_management_control_status;
    static const unsigned milliamperes[] = {0, 55, 100, 160, 220, 270, 320, 375};
    const auto c = pm.capabilities;
    const auto s = pm.control_status;
    const unsigned pme = c[pmc::pme_support];
    CHECK(in.offset == pm.at.offset);
    CHECK(in.title == text("Power Management version %d", c[pmc::version]));
    const flags_of all{in, "", c};
    all.has(text("Flags: PMEClk%c DSI%c D1%c D2%c AuxCurrent=%umA PME(D0%c,D1%c,D2%c,D3hot%c,"
                 "D3cold%c)",
                 sign(c[pmc::pme_clock]), sign(c[pmc::device_specific_initialization]),
                 sign(c[pmc::d1_support]), sign(c[pmc::d2_support]),
                 milliamperes[c[pmc::aux_current]], sign((pme & 1) != 0), sign((pme & 2) != 0),
                 sign((pme & 4) != 0), sign((pme & 8) != 0), sign((pme & 16) != 0)));
    all.has(text("Status: D%d NoSoftRst%c PME-Enable%c DSel=%d DScale=%d PME%c",
                 static_cast<int>(s[pmcsr::power_state]), sign(s[pmcsr::no_soft_reset]),
                 sign(s[pmcsr::pme_enable]), s[pmcsr::data_select], s[pmcsr::data_scale],
                 sign(s[pmcsr::pme_status])));
}

void check(const said& in, dump_config config, function_address function, const msi_layout& msi) {
    using mc = msi_message_control;
    const auto control = read<mc>(config, function, capability{capability_id::msi, msi.offset});
    CHECK(in.offset == msi.offset);
    CHECK(in.title == text("MSI: Enable%c Count=%d/%d Maskable%c 64bit%c",
                           sign(control[mc::enable]), 1 << control[mc::enabled_vectors],
                           msi.vectors, sign(msi.maskable), sign(msi.is_64bit)));
    const auto dword = [&](std::uint16_t at) { return config.read(function, at, width::dword); };
    const auto data = config.read(function, msi.data_offset(), width::word);
    const flags_of all{in, "", control};
    if (msi.is_64bit) {
        all.has(text("Address: %08x%08x Data: %04x", dword(msi.upper_address_offset()),
                     dword(msi.address_offset()), data));
    } else {
        all.has(text("Address: %08x Data: %04x", dword(msi.address_offset()), data));
    }
    if (msi.maskable) {
        all.has(text("Masking: %08x Pending: %08x", dword(msi.mask_offset()),
                     dword(msi.pending_offset())));
    }
}

void check(const said& in, dump_config config, function_address function,
           const msi_x_layout& msi_x) {
    using mc = msi_x_message_control;
    const auto at = capabilities(config, function).find(capability_id::msi_x).value();
    const auto control = read<mc>(config, function, at);
    CHECK(in.title == text("MSI-X: Enable%c Count=%d Masked%c", sign(control[mc::enable]),
                           msi_x.vectors, sign(control[mc::function_mask])));
    const flags_of all{in, "", control};
    all.has(text("Vector table: BAR=%d offset=%08x", msi_x.table.bar,
                 static_cast<unsigned>(msi_x.table.offset)));
    all.has(text("PBA: BAR=%d offset=%08x", msi_x.pending_bits.bar,
                 static_cast<unsigned>(msi_x.pending_bits.offset)));
}

std::string name(const pci_express& express) {
    const char slot = sign(express.capabilities[pci_express_capabilities::slot_implemented]);
    switch (express.type()) {
    case device_port_type::endpoint: return "Endpoint";
    case device_port_type::legacy_endpoint: return "Legacy Endpoint";
    case device_port_type::root_port: return text("Root Port (Slot%c)", slot);
    case device_port_type::upstream_port: return "Upstream Port";
    case device_port_type::downstream_port: return text("Downstream Port (Slot%c)", slot);
    case device_port_type::pci_express_to_pci_bridge: return "PCI-Express to PCI/PCI-X Bridge";
    case device_port_type::pci_to_pci_express_bridge:
        return text("PCI/PCI-X to PCI-Express Bridge (Slot%c)", slot);
    case device_port_type::root_complex_integrated_endpoint:
        return "Root Complex Integrated Endpoint";
    case device_port_type::root_complex_event_collector: return "Root Complex Event Collector";
    }
    return "unknown";
}

void check_link(const said& in, dump_config config, function_address function,
                const pci_express& express) {
    using cap = link_capabilities;
    const flags_of c{in, "LnkCap", read<cap>(config, function, express.at)};
    c.has(text("Port #%d", c.value[cap::port_number]));
    c.has(text("Speed %s", speed(c.value[cap::max_link_speed])));
    c.has(text("Width x%d", c.value[cap::maximum_link_width]));
    c.has("ClockPM", cap::clock_power_management);
    c.has("Surprise", cap::surprise_down_error_reporting_capable);
    c.has("LLActRep", cap::data_link_layer_link_active_reporting_capable);
    c.has("BwNot", cap::link_bandwidth_notification_capability);
    c.has("ASPMOptComp", cap::aspm_optionality_compliance);
    static const char* const aspm[] = {"not supported", "L0s", "L1", "L0s L1"};
    c.has(text("ASPM %s", aspm[c.value[cap::aspm_support]]));

    using ctl = link_control;
    const flags_of t{in, "LnkCtl", read<ctl>(config, function, express.at)};
    static const char* const on[] = {"Disabled", "L0s Enabled", "L1 Enabled", "L0s L1 Enabled"};
    t.has(text("ASPM %s;", on[t.value[ctl::aspm_control]]));
    if (t.all().find("RCB ") != std::string::npos) {
        t.has(text("RCB %d bytes", t.value[ctl::read_completion_boundary] ? 128 : 64));
    }
    t.has("Disabled", ctl::link_disable);
    t.has("CommClk", ctl::common_clock_configuration);
    t.has("ExtSynch", ctl::extended_synch);
    t.has("ClockPM", ctl::enable_clock_power_management);
    t.has("AutWidDis", ctl::hardware_autonomous_width_disable);
    t.has("BWInt", ctl::link_bandwidth_management_interrupt_enable);
    t.has("AutBWInt", ctl::link_autonomous_bandwidth_interrupt_enable);

    using sta = link_status;
    const flags_of s{in, "LnkSta", read<sta>(config, function, express.at)};
    s.has(text("Speed %s", speed(s.value[sta::current_link_speed])));
    s.has(text("Width x%d", s.value[sta::negotiated_link_width]));
    s.has("Train", sta::link_training);
    s.has("SlotClk", sta::slot_clock_configuration);
    s.has("DLActive", sta::data_link_layer_link_active);
    s.has("BWMgmt", sta::link_bandwidth_management_status);
    s.has("ABWMgmt", sta::link_autonomous_bandwidth_status);
}

void check_slot(const said& in, dump_config config, function_address function,
                const pci_express& express) {
    using cap = slot_capabilities;
    const flags_of c{in, "SltCap", read<cap>(config, function, express.at)};
    c.has("AttnBtn", cap::attention_button_present);
    c.has("PwrCtrl", cap::power_controller_present);
    c.has("MRL", cap::mrl_sensor_present);
    c.has("AttnInd", cap::attention_indicator_present);
    c.has("PwrInd", cap::power_indicator_present);
    c.has("HotPlug", cap::hot_plug_capable);
    c.has("Surprise", cap::hot_plug_surprise);
    c.has(text("Slot #%d", c.value[cap::physical_slot_number]));
    c.has("Interlock", cap::electromechanical_interlock_present);
    c.has("NoCompl", cap::no_command_completed_support);

    using ctl = slot_control;
    const flags_of t{in, "SltCtl", read<ctl>(config, function, express.at)};
    const auto v = t.value;
    t.has(text(
        "Enable: AttnBtn%c PwrFlt%c MRL%c PresDet%c CmdCplt%c HPIrq%c LinkChg%c",
        sign(v[ctl::attention_button_pressed_enable]), sign(v[ctl::power_fault_detected_enable]),
        sign(v[ctl::mrl_sensor_changed_enable]), sign(v[ctl::presence_detect_changed_enable]),
        sign(v[ctl::command_completed_interrupt_enable]), sign(v[ctl::hot_plug_interrupt_enable]),
        sign(v[ctl::data_link_layer_state_changed_enable])));
    static const char* const light[] = {"Unknown", "On", "Blink", "Off"};
    t.has(text("Control: AttnInd %s, PwrInd %s, Power%c Interlock%c",
               light[v[ctl::attention_indicator_control]], light[v[ctl::power_indicator_control]],
               sign(v[ctl::power_controller_control]),
               sign(v[ctl::electromechanical_interlock_control])));

    using sta = slot_status;
    const flags_of s{in, "SltSta", read<sta>(config, function, express.at)};
    const auto w = s.value;
    s.has(text("Status: AttnBtn%c PowerFlt%c MRL%c CmdCplt%c PresDet%c Interlock%c",
               sign(w[sta::attention_button_pressed]), sign(w[sta::power_fault_detected]),
               sign(w[sta::mrl_sensor_state]), sign(w[sta::command_completed]),
               sign(w[sta::presence_detect_state]),
               sign(w[sta::electromechanical_interlock_status])));
    s.has(text("Changed: MRL%c PresDet%c LinkState%c", sign(w[sta::mrl_sensor_changed]),
               sign(w[sta::presence_detect_changed]), sign(w[sta::data_link_layer_state_changed])));
}

void check_root(const said& in, dump_config config, function_address function,
                const pci_express& express) {
    using cap = root_capabilities;
    const flags_of c{in, "RootCap", read<cap>(config, function, express.at)};
    c.has("CRSVisible", cap::crs_software_visibility);
    using ctl = root_control;
    const flags_of t{in, "RootCtl", read<ctl>(config, function, express.at)};
    t.has("ErrCorrectable", ctl::system_error_on_correctable_error_enable);
    t.has("ErrNon-Fatal", ctl::system_error_on_non_fatal_error_enable);
    t.has("ErrFatal", ctl::system_error_on_fatal_error_enable);
    t.has("PMEIntEna", ctl::pme_interrupt_enable);
    t.has("CRSVisible", ctl::crs_software_visibility_enable);
    using sta = root_status;
    const flags_of s{in, "RootSta", read<sta>(config, function, express.at)};
    s.has(text("PME ReqID %04x, PMEStatus%c PMEPending%c", s.value[sta::pme_requester_id],
               sign(s.value[sta::pme_status]), sign(s.value[sta::pme_pending])));
}

void check_second(const said& in, dump_config config, function_address function,
                  const pci_express& express) {
    using cap = device_capabilities_2;
    const flags_of c{in, "DevCap2", read<cap>(config, function, express.at)};
    c.has("TimeoutDis", cap::completion_timeout_disable_supported);
    c.has("NROPrPrP", cap::no_ro_enabled_pr_pr_passing);
    c.has("LTR", cap::ltr_mechanism_supported);
    c.has("10BitTagComp", cap::ten_bit_tag_completer_supported);
    c.has("10BitTagReq", cap::ten_bit_tag_requester_supported);
    c.has("ExtFmt", cap::extended_fmt_field_supported);
    c.has("EETLPPrefix", cap::end_end_tlp_prefix_supported);
    c.has("EmergencyPowerReductionInit", cap::emergency_power_reduction_initialization_required);
    c.has("FRS", cap::frs_supported);
    c.may_have("ARIFwd", cap::ari_forwarding_supported);
    const flags_of a{in, "AtomicOpsCap", c.value};
    a.may_have("Routing", cap::atomic_op_routing_supported);
    a.may_have("32bit", cap::atomic_op_completer_32_supported);
    a.may_have("64bit", cap::atomic_op_completer_64_supported);
    a.may_have("128bitCAS", cap::cas_completer_128_supported);

    using ctl = device_control_2;
    const flags_of t{in, "DevCtl2", read<ctl>(config, function, express.at)};
    t.has("TimeoutDis", ctl::completion_timeout_disable);
    t.has("LTR", ctl::ltr_mechanism_enable);
    t.has("10BitTagReq", ctl::ten_bit_tag_requester_enable);
    t.may_have("ARIFwd", ctl::ari_forwarding_enable);
    const flags_of b{in, "AtomicOpsCtl", t.value};
    b.may_have("ReqEn", ctl::atomic_op_requester_enable);
    b.may_have("EgressBlck", ctl::atomic_op_egress_blocking);

    if (!express.has_link()) {
        return;
    }
    using link_cap = link_capabilities_2;
    const flags_of l{in, "LnkCap2", read<link_cap>(config, function, express.at)};
    l.may_have("Crosslink", link_cap::crosslink_supported);
    l.may_have("Retimer", link_cap::retimer_presence_detect_supported);
    l.may_have("2Retimers", link_cap::two_retimers_presence_detect_supported);
    l.may_have("DRS", link_cap::drs_supported);
    if (l.value[link_cap::supported_link_speeds] == 7) {
        l.has("Supported Link Speeds: 2.5-8GT/s");
    }
    using link_ctl = link_control_2;
    const flags_of m{in, "LnkCtl2", read<link_ctl>(config, function, express.at)};
    if (in.parts.count("LnkCtl2") == 0) {
        return; // lspci has it, and Link Status 2, for the first function of an endpoint only
    }
    const unsigned target = m.value[link_ctl::target_link_speed];
    m.has(text("Target Link Speed: %s", speed(target == 0 ? 1 : target))); // 0 is 2.5GT/s to lspci
    m.has("EnterCompliance", link_ctl::enter_compliance);
    m.has("SpeedDis", link_ctl::hardware_autonomous_speed_disable);
    m.has("EnterModifiedCompliance", link_ctl::enter_modified_compliance);
    m.has("ComplianceSOS", link_ctl::compliance_sos);
    using link_sta = link_status_2;
    const flags_of n{in, "LnkSta2", read<link_sta>(config, function, express.at)};
    n.has(text("Current De-emphasis Level: %s",
               n.value[link_sta::current_de_emphasis_level] ? "-3.5dB" : "-6dB"));
    n.has("EqualizationComplete", link_sta::equalization_complete);
    n.has("EqualizationPhase1", link_sta::equalization_phase_1_successful);
    n.has("EqualizationPhase2", link_sta::equalization_phase_2_successful);
    n.has("EqualizationPhase3", link_sta::equalization_phase_3_successful);
    n.has("LinkEqualizationRequest", link_sta::link_equalization_request);
    n.has("Retimer", link_sta::retimer_presence_detected);
    n.has("2Retimers", link_sta::two_retimers_presence_detected);
}

void check(const said& in, dump_config config, function_address function,
           const pci_express& express) {
    using flags = pci_express_capabilities;
    CHECK(in.offset == express.at.offset);
    CHECK(in.title == text("Express (v%d) %s, MSI %02x", express.capabilities[flags::version],
                           name(express).c_str(),
                           express.capabilities[flags::interrupt_message_number]));
    using cap = device_capabilities;
    const flags_of c{in, "DevCap", express.device};
    c.has(text("MaxPayload %d bytes", 128 << c.value[cap::max_payload_size_supported]));
    c.has(text("PhantFunc %d", (1 << c.value[cap::phantom_functions_supported]) - 1));
    c.has("ExtTag", cap::extended_tag_field_supported);
    c.has("RBE", cap::role_based_error_reporting);
    c.may_have("FLReset", cap::function_level_reset_capability);

    using ctl = device_control;
    const flags_of t{in, "DevCtl", read<ctl>(config, function, express.at)};
    t.has("CorrErr", ctl::correctable_error_reporting_enable);
    t.has("NonFatalErr", ctl::non_fatal_error_reporting_enable);
    t.has("FatalErr", ctl::fatal_error_reporting_enable);
    t.has("UnsupReq", ctl::unsupported_request_reporting_enable);
    t.has("RlxdOrd", ctl::enable_relaxed_ordering);
    t.has("ExtTag", ctl::extended_tag_field_enable);
    t.has("PhantFunc", ctl::phantom_functions_enable);
    t.has("AuxPwr", ctl::aux_power_pm_enable);
    t.has("NoSnoop", ctl::enable_no_snoop);
    t.may_have("FLReset", ctl::initiate_function_level_reset);
    t.has(text("MaxPayload %d bytes, MaxReadReq %d bytes", 128 << t.value[ctl::max_payload_size],
               128 << t.value[ctl::max_read_request_size]));

    using sta = device_status;
    const flags_of s{in, "DevSta", read<sta>(config, function, express.at)};
    s.has("CorrErr", sta::correctable_error_detected);
    s.has("NonFatalErr", sta::non_fatal_error_detected);
    s.has("FatalErr", sta::fatal_error_detected);
    s.has("UnsupReq", sta::unsupported_request_detected);
    s.has("AuxPwr", sta::aux_power_detected);
    s.has("TransPend", sta::transactions_pending);

    CHECK(express.has_link() == (in.parts.count("LnkCap") != 0));
    CHECK(express.has_slot() == (in.parts.count("SltCap") != 0));
    CHECK(express.has_root() == (in.parts.count("RootCap") != 0));
    CHECK(express.has_second_registers() == (in.parts.count("DevCap2") != 0));
    if (express.has_link()) {
        check_link(in, config, function, express);
    }
    if (express.has_slot()) {
        check_slot(in, config, function, express);
    }
    if (express.has_root()) {
        check_root(in, config, function, express);
    }
    if (express.has_second_registers()) {
        check_second(in, config, function, express);
    }
}

void check(const said& in, dump_config, function_address, const advanced_features& af) {
    using cap = advanced_features_capabilities;
    CHECK(in.offset == af.at.offset);
    flags_of{in, "", af.capabilities}.has(text("AFCap: TP%c FLR%c",
                                               sign(af.capabilities[cap::transactions_pending]),
                                               sign(af.capabilities[cap::function_level_reset])));
}

void check(const said& in, dump_config, function_address, const access_control_services& acs) {
    using cap = acs_capability;
    using ctl = acs_control;
    const auto c = acs.capability;
    const auto t = acs.control;
    CHECK(in.offset == acs.at.offset);
    const flags_of all{in, "", c};
    const char* const form = "%s: SrcValid%c TransBlk%c ReqRedir%c CmpltRedir%c UpstreamFwd%c "
                             "EgressCtrl%c DirectTrans%c";
    all.has(text(form, "ACSCap", sign(c[cap::source_validation]),
                 sign(c[cap::translation_blocking]), sign(c[cap::p2p_request_redirect]),
                 sign(c[cap::p2p_completion_redirect]), sign(c[cap::upstream_forwarding]),
                 sign(c[cap::p2p_egress_control]), sign(c[cap::direct_translated_p2p])));
    all.has(
        text(form, "ACSCtl", sign(t[ctl::source_validation_enable]),
             sign(t[ctl::translation_blocking_enable]), sign(t[ctl::p2p_request_redirect_enable]),
             sign(t[ctl::p2p_completion_redirect_enable]), sign(t[ctl::upstream_forwarding_enable]),
             sign(t[ctl::p2p_egress_control_enable]), sign(t[ctl::direct_translated_p2p_enable])));
}

void check(const said& in, dump_config, function_address, const address_translation_services& ats) {
    CHECK(in.offset == ats.at.offset);
    const flags_of all{in, "", ats.capability};
    all.has(text("ATSCap: Invalidate Queue Depth: %02x",
                 ats.capability[ats_capability::invalidate_queue_depth]));
    all.has(text("ATSCtl: Enable%c, Smallest Translation Unit: %02x",
                 sign(ats.control[ats_control::enable]),
                 ats.control[ats_control::smallest_translation_unit]));
}

void check(const said& in, dump_config, function_address, const pasid& found) {
    using cap = pasid_capability;
    using ctl = pasid_control;
    CHECK(in.offset == found.at.offset);
    const flags_of all{in, "", found.capability};
    all.has(text("PASIDCap: Exec%c Priv%c, Max PASID Width: %02x",
                 sign(found.capability[cap::execute_permission_supported]),
                 sign(found.capability[cap::privileged_mode_supported]),
                 found.capability[cap::max_pasid_width]));
    all.has(text("PASIDCtl: Enable%c Exec%c Priv%c", sign(found.control[ctl::enable]),
                 sign(found.control[ctl::execute_permission_enable]),
                 sign(found.control[ctl::privileged_mode_enable])));
}

void check(const said& in, dump_config config, function_address function, const sr_iov& iov) {
    using cap = sr_iov_capabilities;
    using ctl = sr_iov_control;
    CHECK(in.offset == iov.at.offset);
    const flags_of all{in, "", iov.control};
    all.has(text("IOVCap: Migration%c 10BitTagReq%c Interrupt Message Number: %03x",
                 sign(iov.capabilities[cap::vf_migration_capable]),
                 sign(iov.capabilities[cap::vf_10_bit_tag_requester_supported]),
                 iov.capabilities[cap::vf_migration_interrupt_message_number]));
    all.has(text("IOVCtl: Enable%c Migration%c Interrupt%c MSE%c ARIHierarchy%c 10BitTagReq%c",
                 sign(iov.control[ctl::vf_enable]), sign(iov.control[ctl::vf_migration_enable]),
                 sign(iov.control[ctl::vf_migration_interrupt_enable]),
                 sign(iov.control[ctl::vf_memory_space_enable]),
                 sign(iov.control[ctl::ari_capable_hierarchy]),
                 sign(iov.control[ctl::vf_10_bit_tag_requester_enable])));
    all.has(text("Initial VFs: %d, Total VFs: %d, Number of VFs: %d, Function Dependency Link: "
                 "%02x",
                 iov.initial_vfs, iov.total_vfs, iov.num_vfs, iov.function_dependency_link));
    all.has(text("VF offset: %d, stride: %d, Device ID: %04x", iov.first_vf_offset, iov.vf_stride,
                 iov.vf_device_id));
    all.has(text("Supported Page Size: %08x, System Page Size: %08x", iov.supported_page_sizes,
                 static_cast<unsigned>(iov.system_page_size / 4096)));
    std::size_t regions = 0;
    const std::string everything = all.all();
    for (std::size_t at = 0; (at = everything.find(" Region ", at)) != std::string::npos; ++at) {
        ++regions;
    }
    const bar_list bars = read_vf_bars(config, function, iov);
    CHECK(bars.size() == regions);
    for (const auto& bar : bars) {
        REQUIRE(bar);
        const bool wide = bar->kind == bar_kind::mem64;
        all.has(text("Region %d: Memory at %0*llx (%d-bit, %sprefetchable)", bar->index,
                     wide ? 16 : 8, static_cast<unsigned long long>(bar->address), wide ? 64 : 32,
                     bar->prefetchable ? "" : "non-"));
    }
}

/// lspci's way to write a power of two of at least 1 MiB.
std::string megabytes(std::uint64_t size) {
    static const char* const units[] = {"MB", "GB", "TB", "PB", "EB"};
    std::uint64_t count = size >> 20;
    unsigned unit = 0;
    for (; count >= 1024; count /= 1024) {
        ++unit;
    }
    return text("%llu%s", static_cast<unsigned long long>(count), units[unit]);
}

void check(const said& in, dump_config, function_address, const resizable_bar_list& bars) {
    for (const resizable_bar& bar : bars) {
        std::string line =
            text("BAR %d: current size: %s, supported:", bar.index, megabytes(bar.size).c_str());
        for (unsigned bit = 0; bit < 44; ++bit) {
            if ((bar.sizes >> bit & 1) != 0) {
                line += " " + megabytes(std::uint64_t{1} << (20 + bit));
            }
        }
        flags_of{in, "", resizable_bar_control{}}.has(line + " ");
    }
}

void check(const said& in, dump_config config, function_address function,
           const enhanced_allocation& ea) {
    CHECK(in.offset == ea.at.offset);
    CHECK(in.title == text("Enhanced Allocation (EA): NumEntries=%d", ea.entries));
    static const char* const kinds[] = {
        "memory space, non-prefetchable", "memory space, prefetchable", "I/O space",
        "VF memory space, prefetchable", "VF memory space, non-prefetchable"};
    const flags_of all{in, "", resizable_bar_control{}};
    unsigned n = 0;
    const auto ranges = fixed_ranges(config, function);
    for (const auto& range : ranges) {
        REQUIRE(range);
        CAPTURE(n);
        all.has(text("Entry %u: Enable%c Writable%c ", n++, sign(range->enabled),
                     sign(range->writable)));
        const auto number = static_cast<unsigned>(range->equivalent);
        const std::string line =
            (number < 6 ? text("BAR %u", number) : text("VF-BAR %u", number - 9)) +
            text(" PrimaryProperties: %s", kinds[static_cast<unsigned>(range->properties)]);
        all.has(line);
        const auto at = all.all().find(line);
        const std::string rest = all.all().substr(at == std::string::npos ? 0 : at);
        const auto high = static_cast<unsigned>(range->address >> 32);
        const auto base = high == 0 && !range->is_64bit
                              ? text(" Base: %x ", static_cast<unsigned>(range->address))
                              : text(" Base: %x%08x ", high, static_cast<unsigned>(range->address));
        INFO(base);
        CHECK(rest.find(base) < rest.find(" MaxOffset: "));
        // A MaxOffset of 64 bits has its upper half before the lower one.
        const auto last = static_cast<unsigned>(range->size - 1);
        CHECK((rest.find(text(" MaxOffset: %08x ", last)) == rest.find(" MaxOffset: ") ||
               rest.find(text(" MaxOffset: 0%08x ", last)) == rest.find(" MaxOffset: ")));
    }
    CHECK(n == ea.entries);
}

/// What pt found and what lspci has under that title are the same: both nothing, or equal facts.
template <class T>
void compare(const dumped& function, const char* title, dump_config config,
             function_address address, const pt::result<T>& found,
             std::map<std::string, int>& seen) {
    INFO(title);
    const said* const in = function.find(title);
    if (in == nullptr || in->offset >= function.bytes.size()) {
        CHECK_FALSE(found);
        return;
    }
    if (!found) {
        FAIL_CHECK("pt says: " << pt::name(found.error().code));
        return;
    }
    check(*in, config, address, *found);
    ++seen[title];
}

} // namespace

TEST_CASE("real functions: what pt decodes of their capabilities is what lspci prints",
          "[pci][data]") {
    const auto files = shared_data::files("lspci");
    if (files.empty()) {
        SKIP("no lspci dumps; set PT_SHARED_DATA to the directory that has lspci/");
    }
    std::map<std::string, int> seen;
    for (const auto& file : files) {
        INFO(file.filename().string());
        machine all = read_dump(file);
        if (!add_lspci(file, all)) {
            SKIP("no lspci (package pciutils), or it cannot read " << file.filename().string());
        }
        const dump_config config{&all};
        for (const auto& one : all) {
            const function_address address = one.first;
            const dumped& function = one.second;
            INFO(address.text().data());
            const auto both = [&](const char* title, const auto& found) {
                compare(function, title, config, address, found, seen);
            };
            both("Power Management", read_power_management(config, address));
            both("MSI:", read_msi(config, address));
            both("MSI-X:", read_msi_x(config, address));
            both("Express", read_pci_express(config, address));
            both("PCI Advanced Features", read_advanced_features(config, address));
            both("Enhanced Allocation", read_enhanced_allocation(config, address));
            both("Access Control Services", read_access_control_services(config, address));
            both("Address Translation", read_address_translation_services(config, address));
            both("Process Address Space ID", read_pasid(config, address));
            both("Single Root I/O", read_sr_iov(config, address));
            both("Physical Resizable BAR", read_resizable_bars(config, address));
        }
    }
    std::string counts;
    for (const auto& [title, count] : seen) {
        counts += text("%s %d, ", title.c_str(), count);
    }
    WARN(counts);
    CHECK(seen.size() == 11);
}
