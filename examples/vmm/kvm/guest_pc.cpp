// SPDX-License-Identifier: BSL-1.0
#include "guest_pc.hpp"

#include "../pc/multiboot.hpp"

#include "pt/assign/memory_reach.hpp"
#include "pt/core/address.hpp"
#include "pt/core/range.hpp"

#include <cerrno>
#include <ctime>
#include <stdexcept>

#include <unistd.h>

namespace vmm::kvm {
namespace {

/// EPT with every size of page; no processor sees these tables [sdm, IA32_VMX_EPT_VPID_CAP].
constexpr pt::ept::capabilities all_page_sizes{1U << 6 | 1U << 14 | 1U << 16 | 1U << 17};
constexpr unsigned process_address_width = 48;
constexpr std::uint64_t memory_of_tables = 4 * pt::MiB;

pt::hpa place_of(const std::byte* at) { return pt::hpa{reinterpret_cast<std::uintptr_t>(at)}; }

const cpuid_leaf* find(const std::vector<cpuid_leaf>& leaves, std::uint32_t number,
                       std::uint32_t subleaf) {
    for (const cpuid_leaf& each : leaves) {
        if (each.number == number && (!each.has_subleaves || each.subleaf == subleaf)) {
            return &each;
        }
    }
    return nullptr;
}

/// MAXPHYADDR, if KVM says it; else what every processor with 64-bit mode has.
std::uint8_t address_width(const std::vector<cpuid_leaf>& leaves) {
    const cpuid_leaf* const sizes = find(leaves, 0x8000'0008, 0);
    const auto width = static_cast<std::uint8_t>(sizes == nullptr ? 0 : sizes->eax);
    return width >= 36 && width <= 52 ? width : std::uint8_t{36};
}

template <class Result>
void demand(const Result& done, const char* what) {
    if (!done) {
        throw std::runtime_error{std::string{what} + ": " + pt::name(done.error().code)};
    }
}

} // namespace

std::uint64_t host_time::now() const {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

void to_descriptor::operator()(std::uint8_t byte) const {
    while (::write(descriptor, &byte, 1) < 0 && errno == EINTR) {} // the alarm for the guest
}

pc::cpuid_registers shown_cpuid::operator()(std::uint32_t leaf, std::uint32_t subleaf) const {
    const cpuid_leaf* const found = find(*leaves, leaf, subleaf);
    return found == nullptr ? pc::cpuid_registers{}
                            : pc::cpuid_registers{found->eax, found->ebx, found->ecx, found->edx};
}

guest_pc::guest_pc(std::uint64_t memory, int com1, int label)
    : ram_{memory},
      host_cpuid_{machine_.supported_cpuid()},
      physical_address_width_{address_width(host_cpuid_)},
      guest_ram_{pieces_, 3},
      frames_memory_{memory_of_tables},
      frames_{{place_of(frames_memory_.data()), memory_of_tables}, pt::identity_map{}},
      table_{pt::identity_memory{frames_.source()},
             pt::ept::format{all_page_sizes, process_address_width}},
      console_{label < 0
                   ? console<to_descriptor>{to_descriptor{com1}}
                   : console<to_descriptor>{to_descriptor{com1}, static_cast<unsigned>(label)}},
      board_{host_time{machine_.tsc_kilohertz()}, to_console<to_descriptor>{&console_},
             static_cast<std::uint64_t>(std::time(nullptr)) - host_time{}.now() / 1'000'000'000,
             memory, physical_address_width_},
      guest_{{.pages = pages_,
              .memory = pt::ept::ram,
              .device_memory = pt::ept::device_memory,
              .processors = {},
              .ports = ports_,
              .space = space_,
              .port_space = port_space_,
              .host_ports = {},
              .dma = {},
              .bus = board_.bus(),
              .routes = routes_,
              .platform = board_.platform(),
              .reports = {}}},
      pc_{world_, guest_, board_, guest_ram_, shown_cpuid{&host_cpuid_}, physical_address_width_} {
    // Between the first two lies what a PC has for its display and its option ROMs.
    const auto piece = [&](std::uint64_t first, std::uint64_t end, pc::memory_kind kind) {
        return pc::ram_piece{{pt::gpa{first}, end - first},
                             reinterpret_cast<std::uint8_t*>(ram_.data()) + first,
                             kind};
    };
    pieces_[0] = piece(0, 0xA'0000, pc::memory_kind::available);
    pieces_[1] = piece(0xE'0000, 0x10'0000, pc::memory_kind::reserved);
    pieces_[2] = piece(0x10'0000, memory, pc::memory_kind::available);
    for (const pc::ram_piece& each : pieces_) {
        demand(guest_.give_memory(each.at, place_of(reinterpret_cast<std::byte*>(each.bytes)),
                                  pt::assign::memory_reach::processors_only),
               "the guest gets no memory");
    }
    demand(pc_.reserve_devices(), "the guest's devices find no place");
    demand(pc::write_acpi_tables(guest_ram_, {}), "the guest gets no ACPI tables");
    show_cpuid();
}

guest_pc::~guest_pc() { (void)guest_.retire(); }

void guest_pc::show_cpuid() {
    pc::virtual_cpuid shown{shown_cpuid{&host_cpuid_},
                            {.apic_id = board_.apic().apic_id(),
                             .physical_address_width = physical_address_width_,
                             .tsc_kilohertz = board_.time().clock.tsc_kilohertz(),
                             .apic_kilohertz = pc_board::time_type::kilohertz}};
    using local_apic_state = decltype(shown)::local_apic_state;
    std::vector<cpuid_leaf> leaves;
    const auto add = [&](std::uint32_t number, std::uint32_t subleaves) {
        for (std::uint32_t i = 0; i < subleaves; ++i) {
            const pc::cpuid_registers is = shown.answer(number, i, local_apic_state::enabled);
            leaves.push_back({number, i, subleaves > 1, is.eax, is.ebx, is.ecx, is.edx});
        }
    };
    constexpr std::uint32_t most_subleaves = 8;
    const auto add_all = [&](std::uint32_t first) {
        const std::uint32_t last = shown.answer(first, 0, local_apic_state::enabled).eax;
        for (std::uint32_t number = first; number <= last; ++number) {
            const bool has_subleaves = number == 0x4 || number == 0x7 || number == 0xB;
            add(number, has_subleaves ? most_subleaves : 1);
        }
    };
    add_all(0);
    add_all(0x4000'0000);
    add_all(0x8000'0000);
    machine_.set_cpuid(leaves);
}

void guest_pc::boot(const guest_file& kernel, const std::vector<guest_file>& modules) {
    const auto bytes_of = [](const guest_file& file) {
        return pc::file_bytes{reinterpret_cast<const std::uint8_t*>(file.contents.data()),
                              file.contents.size()};
    };
    std::vector<pc::multiboot_module> given;
    given.reserve(modules.size());
    for (const guest_file& each : modules) {
        given.push_back({bytes_of(each), each.words.c_str()});
    }
    const pc::multiboot_kernel loaded =
        pc::multiboot_loader{guest_ram_}.load(bytes_of(kernel), kernel.words.c_str(), given.data(),
                                              static_cast<std::uint32_t>(given.size()));
    if (!loaded) {
        throw std::runtime_error{kernel.words + ": " + pc::explain(loaded.error)};
    }
    pc_.start(loaded);
}

} // namespace vmm::kvm
