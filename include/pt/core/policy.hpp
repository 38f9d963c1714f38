// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>

/// The policies by which a VMM brings its own machine to pt. A policy is a small handle that is
/// passed by value and kept as a member: copying it must not copy what it stands for, and an empty
/// one costs nothing. docs/policies has a page for each with its shortest model.
namespace pt {

/// What every policy is: something that can be kept by value.
template <class P>
concept policy = std::copy_constructible<P>;

/// What a newly allocated table frame must hold. An engine that fills a table anyway asks for
/// `any`, and the zeroing is saved.
enum class frame_contents : std::uint8_t { zeroed, any };

/// Entries in a 4-KiB table.
inline constexpr std::size_t entries_per_table = 512;

/// Frames of 4 KiB for translation tables: where they come from, and how the VMM reaches them.
/// allocate fails with errc::out_of_frames. entries(frame) is defined for allocated frames only.
template <class M>
concept table_memory = policy<M> && requires(M& memory, hpa frame) {
    { memory.allocate(frame_contents::zeroed) } -> std::same_as<result<hpa>>;
    { memory.release(frame) } -> std::same_as<void>;
    { memory.entries(frame) } -> std::same_as<std::uint64_t*>;
};

/// 4-KiB frames of host memory without a view of their contents, below the ready table memories.
/// The contents of a frame are arbitrary.
template <class S>
concept frame_source = policy<S> && requires(S& source, hpa frame) {
    { source.allocate() } -> std::same_as<result<hpa>>;
    { source.release(frame) } -> std::same_as<void>;
};

/// Makes table entries visible to the hardware that walks them. publish(first, count) begins with
/// these entries; once complete() returned, a walker that sees any later store sees all of them.
/// Coherent: order the stores. Non-coherent: write the cache lines back, and wait.
template <class P>
concept publication = policy<P> &&
    requires(P& publisher, const std::uint64_t* first, std::size_t count) {
    { publisher.publish(first, count) } -> std::same_as<void>;
    { publisher.complete() } -> std::same_as<void>;
};

/// Stores both halves of a 128-bit table entry, at a slot that is aligned to 16 bytes: bits 63:0 and
/// bits 127:64. `atomic`: hardware that reads the entry sees both or neither. Where it is false, an
/// entry that is in use is taken away and written anew instead.
template <class W>
concept wide_store = policy<W> &&
    requires(W& wide, std::uint64_t* slot, std::uint64_t low, std::uint64_t high) {
    { W::atomic } -> std::same_as<const bool&>;
    { wide.store(slot, low, high) } -> std::same_as<void>;
};

/// Mutual exclusion around one operation.
template <class L>
concept mutex = policy<L> && requires(L& guard) {
    { guard.lock() } -> std::same_as<void>;
    { guard.unlock() } -> std::same_as<void>;
};

/// A mutex that several may hold at the same time as long as none of them holds it alone.
template <class L>
concept shared_mutex = mutex<L> && requires(L& guard) {
    { guard.lock_shared() } -> std::same_as<void>;
    { guard.unlock_shared() } -> std::same_as<void>;
};

/// The I/O instructions. Sizes are in the names, as in the instructions' operands.
template <class P>
concept port_io = policy<P> &&
    requires(P& ports, io_port port, std::uint8_t b, std::uint16_t w, std::uint32_t d) {
    { ports.in8(port) } -> std::same_as<std::uint8_t>;
    { ports.in16(port) } -> std::same_as<std::uint16_t>;
    { ports.in32(port) } -> std::same_as<std::uint32_t>;
    { ports.out8(port, b) } -> std::same_as<void>;
    { ports.out16(port, w) } -> std::same_as<void>;
    { ports.out32(port, d) } -> std::same_as<void>;
};

/// The register window of one device; offsets are bytes from its start, aligned to the access. Each
/// call is exactly one access of that size, in program order.
template <class M>
concept mmio_io = policy<M> &&
    requires(M& mmio, std::uint32_t offset, std::uint32_t d, std::uint64_t q) {
    { mmio.read32(offset) } -> std::same_as<std::uint32_t>;
    { mmio.read64(offset) } -> std::same_as<std::uint64_t>;
    { mmio.write32(offset, d) } -> std::same_as<void>;
    { mmio.write64(offset, q) } -> std::same_as<void>;
};

/// A register window that also takes bytes and words, as configuration space does and as a guest's
/// own instructions demand. A word may lie across the middle of a dword, which is one access to x86.
template <class M>
concept narrow_mmio_io = policy<M> && mmio_io<M> &&
    requires(M& mmio, std::uint32_t offset, std::uint8_t b, std::uint16_t w) {
    { mmio.read8(offset) } -> std::same_as<std::uint8_t>;
    { mmio.read16(offset) } -> std::same_as<std::uint16_t>;
    { mmio.write8(offset, b) } -> std::same_as<void>;
    { mmio.write16(offset, w) } -> std::same_as<void>;
};

/// A buffer that a device reads and writes by DMA, e.g. a descriptor ring: offsets are bytes from its
/// start, multiples of 8. Each call is one access that is not torn.
template <class M>
concept dma_memory = policy<M> && requires(M& memory, std::uint32_t offset, std::uint64_t q) {
    { memory.read64(offset) } -> std::same_as<std::uint64_t>;
    { memory.write64(offset, q) } -> std::same_as<void>;
};

/// What a device does to memory.
enum class dma_access : std::uint8_t { read, write };

/// Bytes of host memory that lie together, at least one.
struct dma_piece {
    hpa address{};
    std::uint64_t size = 0;

    friend constexpr bool operator==(const dma_piece&, const dma_piece&) = default;
};

/// Where the memory lies that a device reaches: the first of the `size` bytes (at least one) from
/// `at` on that lie together, at most that many, or why the device may not do it (error.where: `at`).
/// What it gave stays the device's until the VMM has taken it away from the device.
template <class T>
concept dma_translation = policy<T> &&
    requires(T& translation, iova at, std::uint64_t size, dma_access how) {
    { translation.translate(at, size, how) } -> std::same_as<result<dma_piece>>;
};

/// The memory that a device reaches by DMA, at the addresses that the device puts on the bus, for
/// whoever plays the device. Addresses are anything at all. error.where is the first address that
/// cannot be reached; what lies before it may have been read or written then.
template <class M>
concept bus_memory = policy<M> &&
    requires(M& memory, iova at, std::uint8_t* to, const std::uint8_t* from, std::size_t count) {
    { memory.read(at, to, count) } -> std::same_as<result<>>;
    { memory.write(at, from, count) } -> std::same_as<result<>>;
};

/// Order between memory that a device reads or writes and the registers that tell of it.
/// release(): what was stored before is seen by the device before any later register write.
/// acquire(): what is loaded after is not older than the status that was loaded before.
template <class B>
concept barrier = policy<B> && requires(B& order) {
    { order.release() } -> std::same_as<void>;
    { order.acquire() } -> std::same_as<void>;
};

/// Monotonic time in nanoseconds, for time limits on hardware.
template <class C>
concept clock = policy<C> && requires(C& time) {
    { time.now() } -> std::same_as<std::uint64_t>;
};

/// Takes interrupts on behalf of a guest: raise(vector) makes an edge of that vector pending.
template <class S>
concept interrupt_sink = policy<S> && requires(S& sink, std::uint8_t vector) {
    { sink.raise(vector) } -> std::same_as<void>;
};

/// What decides whether the virtual processor can take an event at the next VM entry.
/// can_take_interrupt(): an external interrupt: RFLAGS.IF is set and nothing blocks. can_take_nmi():
/// an NMI: no other is being handled and nothing blocks [sdm] [amd].
template <class V>
concept vcpu_state = policy<V> && requires(V& vcpu) {
    { vcpu.can_take_interrupt() } -> std::same_as<bool>;
    { vcpu.can_take_nmi() } -> std::same_as<bool>;
};

} // namespace pt
