// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/vcpu/msr.hpp"

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include <linux/kvm.h>

namespace vmm::kvm {

/// There is no KVM here, or none that can run a guest of this VMM; what() says why.
class unavailable : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// An open file of Linux, closed with its object.
class file {
public:
    explicit file(int descriptor) : descriptor_{descriptor} {}
    file(const file&) = delete;
    file& operator=(const file&) = delete;
    ~file();

    /// Asks by ioctl. False, and errno says why: it failed.
    bool ask(unsigned long request, void* about) const;
    [[nodiscard]] int get() const { return descriptor_; }

private:
    int descriptor_;
};

/// Memory of this process that another one, or a guest, may see as well: zeros at first.
class shared_pages {
public:
    /// `descriptor`: of what is mapped; -1: of nothing but zeros.
    explicit shared_pages(std::size_t size, int descriptor = -1);
    shared_pages(const shared_pages&) = delete;
    shared_pages& operator=(const shared_pages&) = delete;
    ~shared_pages();

    [[nodiscard]] std::byte* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return size_; }

private:
    std::size_t size_;
    std::byte* data_;
};

/// What CPUID gives for a leaf.
struct cpuid_leaf {
    std::uint32_t number;
    std::uint32_t subleaf;
    bool has_subleaves; ///< false: `subleaf` does not count
    std::uint32_t eax, ebx, ecx, edx;
};

/// A virtual machine of KVM with one virtual processor, and nothing of a PC in it: the interrupt
/// controllers and the timers are the VMM's, and RDMSR and WRMSR of all but a few MSRs exit. Its
/// time-stamp counter is this machine's.
class virtual_machine {
public:
    /// Throws `unavailable` if /dev/kvm is not there, may not be opened, or lacks what this VMM
    /// needs.
    virtual_machine();

    /// Gives the guest memory there: of this process, from `from` on, for as long as it has it. In
    /// whole pages of 4 KiB. False, and errno says why: KVM refuses, e.g. where the guest has
    /// memory already.
    bool give_memory(pt::range<pt::gpa> at, std::byte* from);
    /// The guest has no memory there any more, whatever it was part of; an access exits. Throws
    /// std::runtime_error if KVM refuses.
    void take_memory(pt::range<pt::gpa> at);
    /// Where this process has the byte that the guest has there; nullptr: nowhere.
    [[nodiscard]] std::byte* memory_at(pt::gpa address) const;

    /// What the guest's CPUID says; a leaf that is not among them is zeros, or as KVM has it.
    void set_cpuid(const std::vector<cpuid_leaf>& leaves);
    /// What KVM could show to a guest on this processor.
    [[nodiscard]] std::vector<cpuid_leaf> supported_cpuid() const;

    /// How fast the time-stamp counter counts; 0: KVM does not say.
    [[nodiscard]] std::uint32_t tsc_kilohertz() const;

    /// From its first run on, the virtual processor handles these MSRs by itself, without an exit.
    void pass_msrs(std::initializer_list<pt::vcpu::msr_range> passed);
    /// An MSR of the virtual processor. False: it has none of that number, or not that value.
    bool read_msr(std::uint32_t number, std::uint64_t& value) const;
    bool write_msr(std::uint32_t number, std::uint64_t value);

    [[nodiscard]] const file& processor() const { return processor_; }
    /// What KVM and this program share about the virtual processor.
    [[nodiscard]] kvm_run& shared() const { return *reinterpret_cast<kvm_run*>(run_.data()); }

private:
    /// KVM knows it by its number, its place in slots_. Empty: nobody's.
    struct memory_slot {
        pt::range<pt::gpa> at{};
        std::byte* from = nullptr;
    };

    bool set_slot(std::size_t number, const memory_slot& to);
    [[nodiscard]] bool has(int capability) const;
    void share_time();

    file kvm_;
    file machine_;
    file processor_;
    shared_pages run_;
    std::vector<memory_slot> slots_{};
};

} // namespace vmm::kvm
