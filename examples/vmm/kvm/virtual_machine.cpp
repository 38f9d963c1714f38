// SPDX-License-Identifier: BSL-1.0
#include "virtual_machine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace vmm::kvm {
namespace {

// <linux/kvm.h> of some versions gives structures with a flexible array another size to C++ than to
// C. So those are written down here, and with them the requests whose numbers contain that size.
struct cpuid_table {
    static constexpr std::uint32_t most = 256;

    std::uint32_t count = most;
    std::uint32_t padding = 0;
    kvm_cpuid_entry2 entries[most]{};
};
struct one_msr {
    std::uint32_t count = 1;
    std::uint32_t padding = 0;
    kvm_msr_entry entry{};
};
constexpr unsigned long get_supported_cpuid = _IOWR(KVMIO, 0x05, std::uint64_t);
constexpr unsigned long set_cpuid2 = _IOW(KVMIO, 0x90, std::uint64_t);
constexpr unsigned long get_msrs = _IOWR(KVMIO, 0x88, std::uint64_t);
constexpr unsigned long set_msrs = _IOW(KVMIO, 0x89, std::uint64_t);

std::string reason() { return std::strerror(errno); }

int open_kvm() {
    const int descriptor = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (descriptor < 0) {
        throw unavailable{"/dev/kvm cannot be opened: " + reason()};
    }
    return descriptor;
}

/// Asks for something that is a descriptor in turn, or a number.
int number_of(const file& whom, unsigned long request, const char* what) {
    const int got = ::ioctl(whom.get(), request, 0);
    if (got < 0) {
        throw unavailable{std::string{"KVM gives no "} + what + ": " + reason()};
    }
    return got;
}

/// What must be said before there is a virtual processor: where pages are that an Intel processor
/// needs for a guest in real mode. Behind what firmware would have.
const file& with_own_pages(const file& machine) {
    std::uint64_t identity_map = 0xFFFB'C000;
    if (!machine.ask(KVM_SET_IDENTITY_MAP_ADDR, &identity_map) ||
        ::ioctl(machine.get(), KVM_SET_TSS_ADDR, 0xFFFB'D000UL) < 0) {
        throw unavailable{"KVM refuses its own pages: " + reason()};
    }
    return machine;
}

} // namespace

file::~file() { ::close(descriptor_); }

bool file::ask(unsigned long request, void* about) const {
    return ::ioctl(descriptor_, request, about) >= 0;
}

shared_pages::shared_pages(std::size_t size, int descriptor) : size_{size} {
    void* const got =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
               descriptor < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED, descriptor, 0);
    if (got == MAP_FAILED) {
        throw std::runtime_error{"no memory: " + reason()};
    }
    data_ = static_cast<std::byte*>(got);
}

shared_pages::~shared_pages() { ::munmap(data_, size_); }

virtual_machine::virtual_machine()
    : kvm_{open_kvm()},
      machine_{number_of(kvm_, KVM_CREATE_VM, "virtual machine")},
      processor_{number_of(with_own_pages(machine_), KVM_CREATE_VCPU, "virtual processor")},
      run_{static_cast<std::size_t>(number_of(kvm_, KVM_GET_VCPU_MMAP_SIZE, "size")),
           processor_.get()} {
    constexpr int stable_interface = 12;
    if (number_of(kvm_, KVM_GET_API_VERSION, "version") != stable_interface) {
        throw unavailable{"KVM has another interface than the stable one"};
    }
    constexpr std::pair<int, std::string_view> needed[]{
        {KVM_CAP_USER_MEMORY, "memory of this process"},
        {KVM_CAP_EXT_CPUID, "CPUID with subleaves"},
        {KVM_CAP_USER_NMI, "NMIs"},
        {KVM_CAP_VCPU_EVENTS, "exceptions from outside"},
        {KVM_CAP_SYNC_REGS, "the registers in shared memory"},
        {KVM_CAP_IMMEDIATE_EXIT, "an exit on demand"},
        {KVM_CAP_X86_USER_SPACE_MSR, "exits for MSRs"},
        {KVM_CAP_X86_MSR_FILTER, "a choice of these MSRs"},
    };
    for (const auto& [capability, name] : needed) {
        if (!has(capability)) {
            throw unavailable{"this KVM lacks: " + std::string{name}};
        }
    }
    kvm_enable_cap msrs_exit{};
    msrs_exit.cap = KVM_CAP_X86_USER_SPACE_MSR;
    msrs_exit.args[0] =
        KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER;
    if (!machine_.ask(KVM_ENABLE_CAP, &msrs_exit)) {
        throw unavailable{"KVM keeps its MSRs: " + reason()};
    }
    share_time();
}

void virtual_machine::share_time() {
    // Without an offset the guest's counter is this processor's. An older KVM sets the counter
    // itself, a moment too late.
    std::uint64_t offset = 0;
    kvm_device_attr attribute{};
    attribute.group = KVM_VCPU_TSC_CTRL;
    attribute.attr = KVM_VCPU_TSC_OFFSET;
    attribute.addr = reinterpret_cast<std::uintptr_t>(&offset);
    constexpr std::uint32_t time_stamp_counter = 0x10;
    if (!processor_.ask(KVM_SET_DEVICE_ATTR, &attribute)) {
        write_msr(time_stamp_counter, __builtin_ia32_rdtsc());
    }
}

bool virtual_machine::has(int capability) const {
    return ::ioctl(machine_.get(), KVM_CHECK_EXTENSION, capability) > 0 ||
           ::ioctl(kvm_.get(), KVM_CHECK_EXTENSION, capability) > 0;
}

bool virtual_machine::set_slot(std::size_t number, const memory_slot& to) {
    kvm_userspace_memory_region region{};
    region.slot = static_cast<std::uint32_t>(number);
    region.guest_phys_addr = to.at.first().raw;
    region.memory_size = to.at.size(); // 0: the slot goes away
    region.userspace_addr = reinterpret_cast<std::uintptr_t>(to.from);
    if (!machine_.ask(KVM_SET_USER_MEMORY_REGION, &region)) {
        return false;
    }
    slots_[number] = to;
    return true;
}

bool virtual_machine::give_memory(pt::range<pt::gpa> at, std::byte* from) {
    if (at.empty()) {
        return true;
    }
    const auto unused = std::find_if(slots_.begin(), slots_.end(),
                                     [](const memory_slot& each) { return each.at.empty(); });
    const auto number = static_cast<std::size_t>(unused - slots_.begin());
    if (unused == slots_.end()) {
        slots_.emplace_back();
    }
    return set_slot(number, {at, from});
}

void virtual_machine::take_memory(pt::range<pt::gpa> at) {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        const memory_slot whole = slots_[i];
        const pt::range<pt::gpa> taken = whole.at.intersection(at);
        if (taken.empty()) {
            continue;
        }
        // KVM changes no slot's size: what is left of it on both sides comes anew.
        const std::uint64_t before = taken.first() - whole.at.first();
        const std::uint64_t until = before + taken.size();
        if (!set_slot(i, {}) || !give_memory({whole.at.first(), before}, whole.from) ||
            (until != whole.at.size() &&
             !give_memory({whole.at.first() + until, whole.at.size() - until},
                          whole.from + until))) {
            throw std::runtime_error{"KVM does not take memory back: " + reason()};
        }
    }
}

std::byte* virtual_machine::memory_at(pt::gpa address) const {
    for (const memory_slot& each : slots_) {
        if (each.at.contains(address)) {
            return each.from + (address - each.at.first());
        }
    }
    return nullptr;
}

void virtual_machine::set_cpuid(const std::vector<cpuid_leaf>& leaves) {
    cpuid_table table;
    table.count = static_cast<std::uint32_t>(std::min<std::size_t>(leaves.size(), table.most));
    for (std::uint32_t i = 0; i < table.count; ++i) {
        const cpuid_leaf& from = leaves[i];
        kvm_cpuid_entry2& to = table.entries[i];
        to.function = from.number;
        to.index = from.subleaf;
        to.flags = from.has_subleaves ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0U;
        to.eax = from.eax;
        to.ebx = from.ebx;
        to.ecx = from.ecx;
        to.edx = from.edx;
    }
    if (leaves.size() > table.most || !processor_.ask(set_cpuid2, &table)) {
        throw std::runtime_error{"KVM refuses the guest's CPUID: " + reason()};
    }
}

std::vector<cpuid_leaf> virtual_machine::supported_cpuid() const {
    cpuid_table table;
    if (!kvm_.ask(get_supported_cpuid, &table)) {
        throw unavailable{"KVM does not say what CPUID it has: " + reason()};
    }
    std::vector<cpuid_leaf> leaves;
    for (std::uint32_t i = 0; i < std::min(table.count, table.most); ++i) {
        const kvm_cpuid_entry2& each = table.entries[i];
        leaves.push_back({.number = each.function,
                          .subleaf = each.index,
                          .has_subleaves = (each.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                          .eax = each.eax,
                          .ebx = each.ebx,
                          .ecx = each.ecx,
                          .edx = each.edx});
    }
    return leaves;
}

std::uint32_t virtual_machine::tsc_kilohertz() const {
    const int kilohertz = ::ioctl(processor_.get(), KVM_GET_TSC_KHZ, 0);
    return kilohertz < 0 ? 0 : static_cast<std::uint32_t>(kilohertz);
}

void virtual_machine::pass_msrs(std::initializer_list<pt::vcpu::msr_range> passed) {
    kvm_msr_filter filter{};
    filter.flags = KVM_MSR_FILTER_DEFAULT_DENY;
    // Of each, a set bit lets pass.
    std::vector<std::vector<std::uint8_t>> bitmaps;
    bitmaps.reserve(passed.size());
    for (const pt::vcpu::msr_range& each : passed) {
        kvm_msr_filter_range& range = filter.ranges[bitmaps.size()];
        range.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
        range.base = each.first;
        range.nmsrs = each.last - each.first + 1;
        bitmaps.emplace_back((range.nmsrs + 63) / 64 * 8, std::uint8_t{0xFF});
        range.bitmap = bitmaps.back().data();
    }
    if (!machine_.ask(KVM_X86_SET_MSR_FILTER, &filter)) {
        throw unavailable{"KVM keeps its MSRs: " + reason()};
    }
}

bool virtual_machine::read_msr(std::uint32_t number, std::uint64_t& value) const {
    one_msr one;
    one.entry.index = number;
    const bool done = ::ioctl(processor_.get(), get_msrs, &one) == 1;
    value = one.entry.data;
    return done;
}

bool virtual_machine::write_msr(std::uint32_t number, std::uint64_t value) {
    one_msr one;
    one.entry.index = number;
    one.entry.data = value;
    return ::ioctl(processor_.get(), set_msrs, &one) == 1;
}

} // namespace vmm::kvm
