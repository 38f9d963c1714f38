// SPDX-License-Identifier: BSL-1.0
//
// A QEMU machine's RAM that this process sees as well, so that tables, queues and status words in
// it are plain memory on both sides: the processor's view of a machine whose devices are QEMU's.
#pragma once

#include "qemu.hpp"

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace emulator {

/// RAM from address 0 on, all of it below the machine's first hole (2 GiB on q35). It is a file
/// without a name, which the children of this process inherit and which nothing outlives. A machine
/// that is reset finds in it what was there.
class shared_memory {
public:
    explicit shared_memory(std::uint64_t size)
        : size_{size}, file_{::memfd_create("machine", 0)} { // inherited: no close-on-exec
        if (file_ >= 0 && ::ftruncate(file_, static_cast<::off_t>(size)) == 0) {
            bytes_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
        }
        if (bytes_ == MAP_FAILED) {
            const std::string why = std::strerror(errno);
            if (file_ >= 0) {
                ::close(file_);
            }
            throw qemu_error{"cannot create memory to share with QEMU: " + why};
        }
    }
    shared_memory(const shared_memory&) = delete;
    shared_memory& operator=(const shared_memory&) = delete;
    ~shared_memory() {
        ::munmap(bytes_, size_);
        ::close(file_);
    }

    /// What makes it the machine's RAM. The machine option `memory-backend=ram` must be there too.
    [[nodiscard]] std::vector<std::string> arguments() const {
        const std::string bytes = std::to_string(size_);
        return {"-m", bytes + "B", "-object",
                "memory-backend-file,id=ram,share=on,size=" + bytes + ",mem-path=/proc/self/fd/" +
                    std::to_string(file_)};
    }

    /// Whether all of it is RAM.
    [[nodiscard]] bool contains(pt::hpa first, std::uint64_t size) const {
        return first.raw <= size_ && size <= size_ - first.raw;
    }
    /// The memory itself; std::out_of_range where there is none.
    [[nodiscard]] std::span<std::byte> bytes(pt::hpa first, std::uint64_t size) const {
        if (!contains(first, size)) {
            throw std::out_of_range{"no RAM there"};
        }
        return {static_cast<std::byte*>(bytes_) + first.raw, size};
    }
    /// Words at a multiple of their size.
    template <class Word>
    [[nodiscard]] Word* words(pt::hpa first, std::size_t count) const {
        static_assert(std::is_trivially_copyable_v<Word>);
        if (!first.is_aligned(alignof(Word))) {
            throw std::out_of_range{"a word is not at a multiple of its size"};
        }
        return reinterpret_cast<Word*>(bytes(first, count * sizeof(Word)).data());
    }
    /// One qword, read or written once: devices use the same memory.
    [[nodiscard]] std::uint64_t load(pt::hpa at) const {
        return __atomic_load_n(words<std::uint64_t>(at, 1), __ATOMIC_ACQUIRE);
    }
    void store(pt::hpa at, std::uint64_t value) const {
        __atomic_store_n(words<std::uint64_t>(at, 1), value, __ATOMIC_RELEASE);
    }

private:
    std::uint64_t size_;
    int file_;
    void* bytes_ = MAP_FAILED;
};

/// Frames of shared memory for translation tables. Each entry of one that is free leads to a decoy,
/// at every level and as an entry of every kind, so that whoever still walks it is seen.
class shared_frames {
public:
    shared_frames(shared_memory& memory, pt::hpa base, std::size_t count, pt::hpa decoy)
        : memory_{&memory}, base_{base}, astray_{decoy.raw | 3}, used_(count) {
        std::fill_n(memory.words<std::uint64_t>(decoy, pt::entries_per_table),
                    pt::entries_per_table, astray_);
        std::fill_n(memory.words<std::uint64_t>(base, count * pt::entries_per_table),
                    count * pt::entries_per_table, astray_);
    }

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        const auto free = std::find(used_.begin(), used_.end(), false);
        if (free == used_.end()) {
            return pt::error{pt::errc::out_of_frames, used_.size()};
        }
        *free = true;
        const pt::hpa frame =
            base_ + static_cast<std::uint64_t>(free - used_.begin()) * 4 * pt::KiB;
        if (contents == pt::frame_contents::zeroed) {
            std::fill_n(entries(frame), pt::entries_per_table, 0);
        }
        return frame;
    }
    void release(pt::hpa frame) {
        std::fill_n(entries(frame), pt::entries_per_table, astray_);
        used_[index(frame)] = false;
    }
    std::uint64_t* entries(pt::hpa frame) {
        static_cast<void>(index(frame));
        return memory_->words<std::uint64_t>(frame, pt::entries_per_table);
    }

    [[nodiscard]] std::size_t in_use() const {
        return static_cast<std::size_t>(std::count(used_.begin(), used_.end(), true));
    }

private:
    [[nodiscard]] std::size_t index(pt::hpa frame) const {
        const std::uint64_t i = (frame - base_) / (4 * pt::KiB);
        if (frame < base_ || i >= used_.size() || !used_[i]) {
            throw std::logic_error{"a frame that is not a table was asked for"};
        }
        return i;
    }

    shared_memory* memory_;
    pt::hpa base_;
    std::uint64_t astray_;
    std::vector<bool> used_;
};

/// table_memory: a handle on the frames.
class shared_tables {
public:
    explicit shared_tables(shared_frames& frames) : frames_{&frames} {}

    pt::result<pt::hpa> allocate(pt::frame_contents contents) {
        return frames_->allocate(contents);
    }
    void release(pt::hpa frame) { frames_->release(frame); }
    std::uint64_t* entries(pt::hpa frame) { return frames_->entries(frame); }

private:
    shared_frames* frames_;
};
static_assert(pt::table_memory<shared_tables>);

} // namespace emulator
