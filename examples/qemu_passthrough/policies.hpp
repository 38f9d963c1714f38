// SPDX-License-Identifier: BSL-1.0
//
// pt's policies over a QEMU machine, beyond its ports and registers (qemu_policies.hpp). This is
// what a VMM brings; in a kernel each of them is a line or two around a pointer or an instruction
// (docs/policies), here each is a message to QEMU.
#pragma once

#include "../qemu/qemu.hpp"
#include "../qemu/qemu_policies.hpp"

#include "pt/core/policy.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/lapic/vcpu_set.hpp"
#include "pt/paging/table.hpp"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace demo {

using emulator::pci_region;
using emulator::pci_report;
using emulator::qemu;
using emulator::qemu_mmio;
using emulator::qemu_ports;

/// Frames of the machine's memory for translation tables, with a copy of each in this process. The
/// engine writes the copies; the machine sees of them what is published, and nothing else. So this
/// is hardware that does not snoop, at its strictest: a table that the library forgets to publish
/// is a table that QEMU's VT-d never sees.
class table_frames {
public:
    table_frames(qemu& machine, pt::hpa base, std::size_t count)
        : machine_{&machine}, base_{base}, copies_(count * pt::entries_per_table), used_(count) {}

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        for (std::size_t i = 0; i < used_.size(); ++i) {
            if (!used_[i]) {
                used_[i] = true;
                // A frame that may hold anything holds garbage: it must not matter.
                const bool zero = contents == pt::frame_contents::zeroed;
                for (std::uint64_t& entry : copy(i)) {
                    entry = zero ? 0 : 0xDEAD'BEEF'DEAD'BEEF;
                }
                return base_ + i * 4 * pt::KiB;
            }
        }
        return pt::error{pt::errc::out_of_frames, used_.size()};
    }
    void release(pt::hpa frame) {
        if (!used_[index(frame)]) {
            throw std::logic_error("a frame was given back twice");
        }
        used_[index(frame)] = false;
    }
    std::uint64_t* entries(pt::hpa frame) { return copy(index(frame)).data(); }

    void publish(const std::uint64_t* first, std::size_t count) {
        const auto entry = static_cast<std::size_t>(first - copies_.data());
        machine_->write((base_ + entry * 8).raw, std::as_bytes(std::span{first, count}));
        published_ += count;
    }

    [[nodiscard]] std::size_t in_use() const {
        std::size_t count = 0;
        for (const bool used : used_) {
            count += used ? 1 : 0;
        }
        return count;
    }
    [[nodiscard]] std::uint64_t published() const { return published_; }

private:
    std::size_t index(pt::hpa frame) const {
        const std::uint64_t offset = frame - base_;
        if (frame < base_ || offset / (4 * pt::KiB) >= used_.size()) {
            throw std::logic_error("a frame that is not a table was asked for");
        }
        return offset / (4 * pt::KiB);
    }
    std::span<std::uint64_t> copy(std::size_t i) {
        return std::span{copies_}.subspan(i * pt::entries_per_table, pt::entries_per_table);
    }

    qemu* machine_;
    pt::hpa base_;
    std::vector<std::uint64_t> copies_;
    std::vector<bool> used_;
    std::uint64_t published_ = 0;
};

/// table_memory: a handle on the frames.
class qemu_tables {
public:
    explicit qemu_tables(table_frames& frames) : frames_{&frames} {}

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        return frames_->allocate(contents);
    }
    void release(pt::hpa frame) { frames_->release(frame); }
    std::uint64_t* entries(pt::hpa frame) { return frames_->entries(frame); }

private:
    table_frames* frames_;
};
static_assert(pt::table_memory<qemu_tables>);

/// publication: sends what was written to the machine.
class qemu_publication {
public:
    explicit qemu_publication(table_frames& frames) : frames_{&frames} {}

    void publish(const std::uint64_t* first, std::size_t count) { frames_->publish(first, count); }
    void complete() {} // each write was answered before publish() returned

private:
    table_frames* frames_;
};
static_assert(pt::publication<qemu_publication>);

/// clock: the host's.
struct steady_clock {
    std::uint64_t now() {
        const auto since = std::chrono::steady_clock::now().time_since_epoch();
        return static_cast<std::uint64_t>(
            std::chrono::duration_cast<std::chrono::nanoseconds>(since).count());
    }
};
static_assert(pt::clock<steady_clock>);

/// What the guest reaches by load and store: its memory and the BARs that it was given, through its
/// EPT, as the processor would translate. Anything else is an EPT violation, here an exception.
template <class Ept>
class guest_memory {
public:
    guest_memory(qemu& machine, const Ept& ept) : machine_{&machine}, ept_{&ept} {}

    std::uint32_t load32(pt::gpa at) { return machine_->read32(translated(at, 4, false).raw); }
    std::uint64_t load64(pt::gpa at) { return machine_->read64(translated(at, 8, false).raw); }
    void store32(pt::gpa at, std::uint32_t value) {
        machine_->write32(translated(at, 4, true).raw, value);
    }
    void store64(pt::gpa at, std::uint64_t value) {
        machine_->write64(translated(at, 8, true).raw, value);
    }
    /// Any number of bytes, page by page.
    void store(pt::gpa at, std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const std::uint64_t left_in_page = 4 * pt::KiB - at.offset_in(4 * pt::KiB);
            const std::size_t count = bytes.size() < left_in_page ? bytes.size() : left_in_page;
            machine_->write(translated(at, count, true).raw, bytes.first(count));
            at += count;
            bytes = bytes.subspan(count);
        }
    }

private:
    pt::hpa translated(pt::gpa at, std::uint64_t size, bool write) const {
        const auto found = ept_->translate(at);
        const bool allowed = found && (write ? found->attributes.write : found->attributes.read) &&
                             at.offset_in(4 * pt::KiB) + size <= 4 * pt::KiB;
        if (!allowed) {
            throw std::runtime_error("EPT violation at guest-physical " + std::to_string(at.raw));
        }
        return found->output;
    }

    qemu* machine_;
    const Ept* ept_;
};

/// mmio_io of the guest's driver: a BAR at the guest-physical address where the guest put it.
template <class Ept>
class guest_mmio {
public:
    guest_mmio(guest_memory<Ept> memory, pt::gpa bar) : memory_{memory}, bar_{bar} {}

    std::uint32_t read32(std::uint32_t offset) { return memory_.load32(bar_ + offset); }
    std::uint64_t read64(std::uint32_t offset) { return memory_.load64(bar_ + offset); }
    void write32(std::uint32_t offset, std::uint32_t value) {
        memory_.store32(bar_ + offset, value);
    }
    void write64(std::uint32_t offset, std::uint64_t value) {
        memory_.store64(bar_ + offset, value);
    }

private:
    guest_memory<Ept> memory_;
    pt::gpa bar_;
};

/// dma_memory of the guest's driver: its descriptor ring in its own memory.
template <class Ept>
class guest_ring_memory {
public:
    guest_ring_memory(guest_memory<Ept> memory, pt::gpa ring) : memory_{memory}, ring_{ring} {}

    std::uint64_t read64(std::uint32_t offset) { return memory_.load64(ring_ + offset); }
    void write64(std::uint32_t offset, std::uint64_t value) {
        memory_.store64(ring_ + offset, value);
    }

private:
    guest_memory<Ept> memory_;
    pt::gpa ring_;
};

/// barrier: every access is a message that QEMU has carried out before the next one is sent.
struct qemu_order {
    void release() {}
    void acquire() {}
};
static_assert(pt::barrier<qemu_order>);

/// vcpu_state of a virtual processor that exists in this program only.
struct demo_vcpu {
    const bool* interrupts_enabled;
    bool can_take_interrupt() const { return *interrupts_enabled; }
    bool can_take_nmi() const { return true; }
};
static_assert(pt::vcpu_state<demo_vcpu>);

/// timer_clock of a guest that does not use its timer.
struct demo_time {
    std::uint64_t ticks() { return 0; }
    std::uint64_t tsc() { return 0; }
};
static_assert(pt::lapic::timer_clock<demo_time>);

/// vcpu_set: the one virtual processor. A VMM would send it an IPI, or wake it.
struct one_vcpu {
    pt::lapic::inbox* arriving;
    unsigned* kicks;
    std::uint32_t count() const { return 1; }
    pt::lapic::inbox& inbox(std::uint32_t) const { return *arriving; }
    void notify(std::uint32_t, pt::lapic::notification) const { ++*kicks; }
};
static_assert(pt::lapic::vcpu_set<one_vcpu>);

} // namespace demo
