// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/memory/arena.hpp"
#include "pt/memory/direct_map.hpp"
#include "pt/memory/frame_pool.hpp"

#include "frames.hpp"

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

// The memories of pt and the poisoned frames, alike for a test: a handle for the tables, what
// hardware reads, and how many frames are in use.
namespace paging_model {

struct poisoned_stand {
    frames all;

    explicit poisoned_stand(std::size_t count) : all{count} {}
    [[nodiscard]] frames_memory handle() { return {&all}; }
    [[nodiscard]] std::size_t in_use() const { return all.in_use(); }
    [[nodiscard]] std::size_t free_frames() const { return all.free_frames(); }
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        return all.read(frame, i);
    }
};

template <std::size_t Frames>
struct arena_stand {
    std::unique_ptr<pt::arena<Frames>> all = std::make_unique<pt::arena<Frames>>(base);

    static constexpr pt::hpa base{0x12'3400'0000};

    explicit arena_stand(std::size_t count) {
        if (count != Frames) {
            std::abort();
        }
    }
    [[nodiscard]] pt::arena_memory<Frames> handle() const { return all->memory(); }
    [[nodiscard]] std::size_t in_use() const { return Frames - all->free_frames(); }
    [[nodiscard]] std::size_t free_frames() const { return all->free_frames(); }
    /// A frame that is not allocated breaks the arena's contract.
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        if (frame < base.raw || (frame - base.raw) / 4096 >= Frames) {
            return nullptr;
        }
        return handle().entries(pt::hpa{frame}) + i;
    }
};

/// A region of whole pages, of which a pool makes frames.
class region {
public:
    region(std::size_t count, int flags) : bytes_{count * 4096} {
        void* const got = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
        if (got == MAP_FAILED) {
            std::abort();
        }
        first_ = static_cast<std::uint64_t*>(got);
    }
    region(const region&) = delete;
    region& operator=(const region&) = delete;
    ~region() { munmap(first_, bytes_); }

    [[nodiscard]] std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(first_); }
    [[nodiscard]] const std::uint64_t* at(std::uint64_t offset, unsigned i) const {
        return offset >= bytes_ ? nullptr : first_ + offset / 8 + i;
    }

private:
    std::uint64_t* first_ = nullptr;
    std::size_t bytes_;
};

/// identity_memory over a pool: host-physical is host-virtual, which must fit MAXPHYADDR then.
struct identity_stand {
    std::size_t count;
    region all;
    pt::frame_pool<pt::identity_map> pool;

    explicit identity_stand(std::size_t frames)
        : count{frames},
          all{frames, MAP_32BIT},
          pool{{pt::hpa{all.address()}, frames * 4096}, pt::identity_map{}} {}
    [[nodiscard]] auto handle() { return pt::identity_memory{pool.source()}; }
    [[nodiscard]] std::size_t in_use() const { return count - free_frames(); }
    [[nodiscard]] std::size_t free_frames() const {
        return static_cast<std::size_t>(pool.free_frames());
    }
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        return all.at(frame - all.address(), i);
    }
};

/// offset_memory over a pool whose map is an offset as well.
struct offset_stand {
    static constexpr std::uint64_t base = 0x5'6780'0000;

    std::size_t count;
    region all;
    pt::frame_pool<pt::offset_map> pool;

    explicit offset_stand(std::size_t frames)
        : count{frames},
          all{frames, 0},
          pool{{pt::hpa{base}, frames * 4096}, pt::offset_map{all.address() - base}} {}
    [[nodiscard]] auto handle() { return pt::offset_memory{pool.source(), all.address() - base}; }
    [[nodiscard]] std::size_t in_use() const { return count - free_frames(); }
    [[nodiscard]] std::size_t free_frames() const {
        return static_cast<std::size_t>(pool.free_frames());
    }
    [[nodiscard]] const std::uint64_t* read(std::uint64_t frame, unsigned i) const {
        return all.at(frame - base, i);
    }
};

} // namespace paging_model
