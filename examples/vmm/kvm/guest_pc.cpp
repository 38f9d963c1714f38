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

/// Enough, if none of the memory is mapped by large pages: a table of 4 KiB for 2 MiB, and what is above.
constexpr std::uint64_t memory_of_tables(std::uint64_t memory) {
    return memory / 512 + memory / 512 / 512 + pt::MiB;
}

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
      memory_{memory},
      frames_memory_{memory_of_tables(memory) / (4 * pt::KiB) * (4 * pt::KiB)},
      frames_{{place_of(frames_memory_.data()), frames_memory_.size()}, pt::identity_map{}},
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
              .room = lists_.room(),
              .host_ports = {},
              .dma = {},
              .bus = board_.bus(),
              .platform = board_.platform(),
              .reports = {}}},
      pc_{world_,
          guest_,
          board_,
          memory_.ram(),
          shown_cpuid{&host_cpuid_},
          physical_address_width_} {
    try {
        furnish();
    } catch (...) { // no destructor runs, and a guest wants retire()
        (void)guest_.retire();
        throw;
    }
}

guest_pc::~guest_pc() { (void)guest_.retire(); }

void guest_pc::furnish() {
    for (pc::ram_piece& each : memory_.pieces) {
        std::byte* const bytes = ram_.data() + each.at.first().raw;
        each.bytes = reinterpret_cast<std::uint8_t*>(bytes);
        demand(
            guest_.give_memory(each.at, place_of(bytes), pt::assign::memory_reach::processors_only),
            "the guest gets no memory");
    }
    demand(pc_.reserve_devices(), "the guest's devices find no place");
    demand(pc::write_acpi_tables(memory_.ram(), {}), "the guest gets no ACPI tables");
    show_cpuid();
}

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
    const pc::multiboot_kernel loaded = pc::multiboot_loader{memory_.ram()}.load(
        bytes_of(kernel), kernel.words.c_str(), given.data(),
        static_cast<std::uint32_t>(given.size()));
    if (!loaded) {
        throw std::runtime_error{kernel.words + ": " + pc::explain(loaded.error)};
    }
    pc_.start(loaded);
}

} // namespace vmm::kvm
