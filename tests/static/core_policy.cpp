// SPDX-License-Identifier: BSL-1.0
// Each concept of core/policy.hpp: its archetype is a model, and for each member there is a near
// miss, once without it and once with a wrong type in it. A near miss derives from the archetype, so
// that it differs in that member and in nothing else.
#include "pt/core/policy.hpp"

#include "pt/core/archetype.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

using namespace pt;

namespace {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

// Derivation alone is not the reason why a near miss is none.
template <class Archetype>
struct derived : Archetype {};
// Nor is state; a policy may have any that can be copied.
template <class Archetype>
struct with_state : Archetype {
    void* state = nullptr;
};
// What cannot be copied cannot be kept by value.
template <class Archetype>
struct not_copied : Archetype {
    not_copied() = default;
    not_copied(const not_copied&) = delete;
};
// Moving alone is not enough either.
template <class Archetype>
struct only_moved : Archetype {
    only_moved() = default;
    only_moved(only_moved&&) = default;
};

// policy
static_assert(policy<derived<archetype::clock>> && policy<int*>);
static_assert(!policy<not_copied<archetype::clock>> && !policy<only_moved<archetype::clock>>);
static_assert(!policy<void>);

// table_memory
namespace of_table_memory {
using least = archetype::table_memory;
static_assert(table_memory<least> && table_memory<derived<least>> &&
              table_memory<with_state<least>>);
static_assert(!table_memory<not_copied<least>> && !table_memory<only_moved<least>>);
static_assert(!table_memory<archetype::frame_source> && !table_memory<int>);
static_assert(!table_memory<const least>, "its members change it");

struct no_allocate : least {
    result<hpa> allocate(frame_contents) = delete;
};
struct no_release : least {
    void release(hpa) = delete;
};
struct no_entries : least {
    u64* entries(hpa) = delete;
};
static_assert(!table_memory<no_allocate> && !table_memory<no_release> && !table_memory<no_entries>);

struct allocate_without_result : least {
    hpa allocate(frame_contents);
};
struct allocate_of_gpa : least {
    result<gpa> allocate(frame_contents);
};
struct allocate_without_contents : least {
    result<hpa> allocate();
};
struct allocate_with_bool : least {
    result<hpa> allocate(bool zeroed);
};
struct release_of_gpa : least {
    void release(gpa);
};
struct release_with_result : least {
    result<> release(hpa);
};
struct entries_of_gpa : least {
    u64* entries(gpa);
};
struct entries_const : least {
    const u64* entries(hpa);
};
struct entries_void : least {
    void* entries(hpa);
};
static_assert(!table_memory<allocate_without_result> && !table_memory<allocate_of_gpa> &&
              !table_memory<allocate_without_contents> && !table_memory<allocate_with_bool> &&
              !table_memory<release_of_gpa> && !table_memory<release_with_result> &&
              !table_memory<entries_of_gpa> && !table_memory<entries_const> &&
              !table_memory<entries_void>);
} // namespace of_table_memory

// frame_source
namespace of_frame_source {
using least = archetype::frame_source;
static_assert(frame_source<least> && frame_source<derived<least>> &&
              frame_source<with_state<least>>);
static_assert(!frame_source<not_copied<least>> && !frame_source<only_moved<least>>);
static_assert(!frame_source<archetype::table_memory> && !frame_source<const least>);

struct no_allocate : least {
    result<hpa> allocate() = delete;
};
struct no_release : least {
    void release(hpa) = delete;
};
struct allocate_without_result : least {
    hpa allocate();
};
struct allocate_of_contents : least {
    result<hpa> allocate(frame_contents);
};
struct release_of_gpa : least {
    void release(gpa);
};
struct release_with_result : least {
    result<> release(hpa);
};
static_assert(!frame_source<no_allocate> && !frame_source<no_release> &&
              !frame_source<allocate_without_result> && !frame_source<allocate_of_contents> &&
              !frame_source<release_of_gpa> && !frame_source<release_with_result>);
} // namespace of_frame_source

// publication
namespace of_publication {
using least = archetype::publication;
static_assert(publication<least> && publication<derived<least>> && publication<with_state<least>>);
static_assert(!publication<not_copied<least>> && !publication<only_moved<least>>);

struct no_publish : least {
    void publish(const u64*, std::size_t) = delete;
};
struct publish_of_mutable : least {
    void publish(u64*, std::size_t);
};
struct publish_of_one : least {
    void publish(const u64*);
};
struct publish_of_hpa : least {
    void publish(hpa, std::size_t);
};
struct publish_with_result : least {
    bool publish(const u64*, std::size_t);
};
struct no_complete : least {
    void complete() = delete;
};
struct complete_of_entries : least {
    void complete(const u64*, std::size_t);
};
struct complete_with_result : least {
    result<> complete();
};
static_assert(!publication<no_complete> && !publication<complete_of_entries> &&
              !publication<complete_with_result>);
static_assert(!publication<no_publish> && !publication<publish_of_mutable> &&
              !publication<publish_of_one> && !publication<publish_of_hpa> &&
              !publication<publish_with_result>);
} // namespace of_publication

// mutex
namespace of_mutex {
using least = archetype::mutex;
static_assert(mutex<least> && mutex<derived<least>> && mutex<with_state<least>>);
static_assert(!mutex<not_copied<least>> && !mutex<only_moved<least>>);

struct no_lock : least {
    void lock() = delete;
};
struct no_unlock : least {
    void unlock() = delete;
};
struct lock_tries : least {
    bool lock();
};
struct unlock_with_result : least {
    bool unlock();
};
static_assert(!mutex<no_lock> && !mutex<no_unlock> && !mutex<lock_tries> &&
              !mutex<unlock_with_result>);
} // namespace of_mutex

// port_io
namespace of_port_io {
using least = archetype::port_io;
static_assert(port_io<least> && port_io<derived<least>> && port_io<with_state<least>>);
static_assert(!port_io<not_copied<least>> && !port_io<only_moved<least>>);

struct no_in8 : least {
    u8 in8(io_port) = delete;
};
struct no_in16 : least {
    u16 in16(io_port) = delete;
};
struct no_in32 : least {
    u32 in32(io_port) = delete;
};
struct no_out8 : least {
    void out8(io_port, u8) = delete;
};
struct no_out16 : least {
    void out16(io_port, u16) = delete;
};
struct no_out32 : least {
    void out32(io_port, u32) = delete;
};
static_assert(!port_io<no_in8> && !port_io<no_in16> && !port_io<no_in32> && !port_io<no_out8> &&
              !port_io<no_out16> && !port_io<no_out32>);

struct in8_wide : least {
    u32 in8(io_port);
};
struct in16_wide : least {
    u32 in16(io_port);
};
struct in32_wide : least {
    u64 in32(io_port);
};
struct in8_of_number : least {
    u8 in8(u16);
};
struct in16_of_number : least {
    u16 in16(u16);
};
struct in32_of_number : least {
    u32 in32(u16);
};
struct out8_of_number : least {
    void out8(u16, u8);
};
struct out16_of_number : least {
    void out16(u16, u16);
};
struct out32_of_number : least {
    void out32(u16, u32);
};
struct out8_with_result : least {
    bool out8(io_port, u8);
};
struct out16_with_result : least {
    bool out16(io_port, u16);
};
struct out32_with_result : least {
    bool out32(io_port, u32);
};
static_assert(!port_io<in8_wide> && !port_io<in16_wide> && !port_io<in32_wide> &&
              !port_io<in8_of_number> && !port_io<in16_of_number> && !port_io<in32_of_number> &&
              !port_io<out8_of_number> && !port_io<out16_of_number> && !port_io<out32_of_number> &&
              !port_io<out8_with_result> && !port_io<out16_with_result> &&
              !port_io<out32_with_result>);
} // namespace of_port_io

// mmio_io
namespace of_mmio_io {
using least = archetype::mmio_io;
static_assert(mmio_io<least> && mmio_io<derived<least>> && mmio_io<with_state<least>>);
static_assert(!mmio_io<not_copied<least>> && !mmio_io<only_moved<least>>);
static_assert(!mmio_io<archetype::dma_memory>);

struct no_read32 : least {
    u32 read32(u32) = delete;
};
struct no_read64 : least {
    u64 read64(u32) = delete;
};
struct no_write32 : least {
    void write32(u32, u32) = delete;
};
struct no_write64 : least {
    void write64(u32, u64) = delete;
};
struct read32_wide : least {
    u64 read32(u32);
};
struct read64_narrow : least {
    u32 read64(u32);
};
struct read32_of_hpa : least {
    u32 read32(hpa);
};
struct write32_with_result : least {
    bool write32(u32, u32);
};
struct write64_with_result : least {
    bool write64(u32, u64);
};
static_assert(!mmio_io<no_read32> && !mmio_io<no_read64> && !mmio_io<no_write32> &&
              !mmio_io<no_write64> && !mmio_io<read32_wide> && !mmio_io<read64_narrow> &&
              !mmio_io<read32_of_hpa> && !mmio_io<write32_with_result> &&
              !mmio_io<write64_with_result>);
} // namespace of_mmio_io

// narrow_mmio_io
namespace of_narrow_mmio_io {
using least = archetype::narrow_mmio_io;
static_assert(narrow_mmio_io<least> && narrow_mmio_io<derived<least>> &&
              narrow_mmio_io<with_state<least>>);
static_assert(mmio_io<least>, "it can do what the other can");
static_assert(!narrow_mmio_io<not_copied<least>> && !narrow_mmio_io<only_moved<least>>);
static_assert(!narrow_mmio_io<archetype::mmio_io>);

struct no_read8 : least {
    u8 read8(u32) = delete;
};
struct no_read16 : least {
    u16 read16(u32) = delete;
};
struct no_write8 : least {
    void write8(u32, u8) = delete;
};
struct no_write16 : least {
    void write16(u32, u16) = delete;
};
struct no_read32 : least {
    u32 read32(u32) = delete;
};
struct no_write64 : least {
    void write64(u32, u64) = delete;
};
struct read8_wide : least {
    u32 read8(u32);
};
struct read16_wide : least {
    u32 read16(u32);
};
struct read8_of_gpa : least {
    u8 read8(gpa);
};
struct write8_with_result : least {
    bool write8(u32, u8);
};
struct write16_with_result : least {
    bool write16(u32, u16);
};
static_assert(!narrow_mmio_io<no_read8> && !narrow_mmio_io<no_read16> &&
              !narrow_mmio_io<no_write8> && !narrow_mmio_io<no_write16> &&
              !narrow_mmio_io<no_read32> && !narrow_mmio_io<no_write64> &&
              !narrow_mmio_io<read8_wide> && !narrow_mmio_io<read16_wide> &&
              !narrow_mmio_io<read8_of_gpa> && !narrow_mmio_io<write8_with_result> &&
              !narrow_mmio_io<write16_with_result>);
} // namespace of_narrow_mmio_io

// dma_memory
namespace of_dma_memory {
using least = archetype::dma_memory;
static_assert(dma_memory<least> && dma_memory<derived<least>> && dma_memory<with_state<least>>);
static_assert(!dma_memory<not_copied<least>> && !dma_memory<only_moved<least>>);

struct no_read64 : least {
    u64 read64(u32) = delete;
};
struct no_write64 : least {
    void write64(u32, u64) = delete;
};
struct read64_narrow : least {
    u32 read64(u32);
};
struct read64_of_iova : least {
    u64 read64(iova);
};
struct write64_with_result : least {
    bool write64(u32, u64);
};
static_assert(!dma_memory<no_read64> && !dma_memory<no_write64> && !dma_memory<read64_narrow> &&
              !dma_memory<read64_of_iova> && !dma_memory<write64_with_result>);
} // namespace of_dma_memory

// dma_translation
namespace of_dma_translation {
using least = archetype::dma_translation;
static_assert(dma_translation<least> && dma_translation<derived<least>> &&
              dma_translation<with_state<least>>);
static_assert(!dma_translation<not_copied<least>> && !dma_translation<only_moved<least>>);
static_assert(!dma_translation<archetype::bus_memory> && !dma_translation<int>);

struct no_translate : least {
    result<dma_piece> translate(iova, u64, dma_access) = delete;
};
struct translate_of_gpa : least {
    result<dma_piece> translate(gpa, u64, dma_access);
};
struct translate_of_hpa : least {
    result<dma_piece> translate(hpa, u64, dma_access);
};
struct translate_without_size : least {
    result<dma_piece> translate(iova, dma_access);
};
struct translate_without_access : least {
    result<dma_piece> translate(iova, u64);
};
struct translate_with_bool : least {
    result<dma_piece> translate(iova, u64, bool writes);
};
struct translate_without_result : least {
    dma_piece translate(iova, u64, dma_access);
};
struct translate_to_address : least {
    result<hpa> translate(iova, u64, dma_access);
};
static_assert(!dma_translation<no_translate> && !dma_translation<translate_of_gpa> &&
              !dma_translation<translate_of_hpa> && !dma_translation<translate_without_size> &&
              !dma_translation<translate_without_access> && !dma_translation<translate_with_bool> &&
              !dma_translation<translate_without_result> && !dma_translation<translate_to_address>);

// To ask changes nothing that the concept would know of.
struct translate_const {
    result<dma_piece> translate(iova, u64, dma_access) const;
};
static_assert(dma_translation<translate_const> && dma_translation<const translate_const>);
} // namespace of_dma_translation

// bus_memory
namespace of_bus_memory {
using least = archetype::bus_memory;
static_assert(bus_memory<least> && bus_memory<derived<least>> && bus_memory<with_state<least>>);
static_assert(!bus_memory<not_copied<least>> && !bus_memory<only_moved<least>>);
static_assert(!bus_memory<archetype::dma_memory> && !bus_memory<archetype::dma_translation>);
static_assert(!bus_memory<const least>, "its members change it");

struct no_read : least {
    result<> read(iova, u8*, std::size_t) = delete;
};
struct no_write : least {
    result<> write(iova, const u8*, std::size_t) = delete;
};
struct read_of_gpa : least {
    result<> read(gpa, u8*, std::size_t);
};
struct read_of_hpa : least {
    result<> read(hpa, u8*, std::size_t);
};
struct read_to_words : least {
    result<> read(iova, u64*, std::size_t);
};
struct read_of_one : least {
    result<> read(iova, u8*);
};
struct read_without_result : least {
    void read(iova, u8*, std::size_t);
};
struct read_answers_bool : least {
    bool read(iova, u8*, std::size_t);
};
struct read_counts : least {
    result<std::size_t> read(iova, u8*, std::size_t);
};
struct write_of_gpa : least {
    result<> write(gpa, const u8*, std::size_t);
};
struct write_from_mutable : least {
    result<> write(iova, u8*, std::size_t);
};
struct write_without_result : least {
    void write(iova, const u8*, std::size_t);
};
struct write_counts : least {
    result<std::size_t> write(iova, const u8*, std::size_t);
};
static_assert(!bus_memory<no_read> && !bus_memory<no_write> && !bus_memory<read_of_gpa> &&
              !bus_memory<read_of_hpa> && !bus_memory<read_to_words> && !bus_memory<read_of_one> &&
              !bus_memory<read_without_result> && !bus_memory<read_answers_bool> &&
              !bus_memory<read_counts> && !bus_memory<write_of_gpa> &&
              !bus_memory<write_from_mutable> && !bus_memory<write_without_result> &&
              !bus_memory<write_counts>);
} // namespace of_bus_memory

// barrier
namespace of_barrier {
using least = archetype::barrier;
static_assert(barrier<least> && barrier<derived<least>> && barrier<with_state<least>>);
static_assert(!barrier<not_copied<least>> && !barrier<only_moved<least>>);
static_assert(!barrier<archetype::mutex>);

struct no_release : least {
    void release() = delete;
};
struct no_acquire : least {
    void acquire() = delete;
};
struct release_with_result : least {
    bool release();
};
struct acquire_with_result : least {
    bool acquire();
};
static_assert(!barrier<no_release> && !barrier<no_acquire> && !barrier<release_with_result> &&
              !barrier<acquire_with_result>);
} // namespace of_barrier

// wide_store
namespace of_wide_store {
using least = archetype::wide_store;
static_assert(pt::wide_store<least> && pt::wide_store<derived<least>> &&
              pt::wide_store<with_state<least>>);
static_assert(!pt::wide_store<not_copied<least>> && !pt::wide_store<only_moved<least>>);

struct no_store : least {
    void store(u64*, u64, u64) = delete;
};
struct store_answers : least {
    constexpr bool store(u64*, u64, u64) { return true; }
};
struct store_halves : least {
    constexpr void store(u64*, u64) {}
};
struct without_atomic {
    constexpr void store(u64*, u64, u64) {}
};
struct atomic_changes {
    bool atomic = true; // known to the compiler, or of no use
    constexpr void store(u64*, u64, u64) {}
};
struct atomic_counts {
    static constexpr int atomic = 16;
    constexpr void store(u64*, u64, u64) {}
};
static_assert(!pt::wide_store<no_store> && !pt::wide_store<store_answers> &&
              !pt::wide_store<store_halves>);
static_assert(!pt::wide_store<without_atomic> && !pt::wide_store<atomic_changes> &&
              !pt::wide_store<atomic_counts>);
} // namespace of_wide_store

// clock
namespace of_clock {
using least = archetype::clock;
static_assert(pt::clock<least> && pt::clock<derived<least>> && pt::clock<with_state<least>>);
static_assert(!pt::clock<not_copied<least>> && !pt::clock<only_moved<least>>);

struct no_now : least {
    u64 now() = delete;
};
struct now_narrow : least {
    u32 now();
};
struct now_signed : least {
    std::int64_t now();
};
struct now_double : least {
    double now();
};
static_assert(!pt::clock<no_now> && !pt::clock<now_narrow> && !pt::clock<now_signed> &&
              !pt::clock<now_double>);
} // namespace of_clock

// interrupt_sink
namespace of_interrupt_sink {
using least = archetype::interrupt_sink;
static_assert(interrupt_sink<least> && interrupt_sink<derived<least>> &&
              interrupt_sink<with_state<least>>);
static_assert(!interrupt_sink<not_copied<least>> && !interrupt_sink<only_moved<least>>);

struct no_raise : least {
    void raise(u8) = delete;
};
struct raise_of_nothing : least {
    void raise();
};
struct raise_with_result : least {
    bool raise(u8);
};
static_assert(!interrupt_sink<no_raise> && !interrupt_sink<raise_of_nothing> &&
              !interrupt_sink<raise_with_result>);
} // namespace of_interrupt_sink

// vcpu_state
namespace of_vcpu_state {
using least = archetype::vcpu_state;
static_assert(vcpu_state<least> && vcpu_state<derived<least>> && vcpu_state<with_state<least>>);
static_assert(!vcpu_state<not_copied<least>> && !vcpu_state<only_moved<least>>);

struct no_interrupt : least {
    bool can_take_interrupt() = delete;
};
struct interrupt_int : least {
    int can_take_interrupt();
};
struct interrupt_void : least {
    void can_take_interrupt();
};
struct no_nmi : least {
    bool can_take_nmi() = delete;
};
struct nmi_int : least {
    int can_take_nmi();
};
struct nmi_void : least {
    void can_take_nmi();
};
static_assert(!vcpu_state<no_interrupt> && !vcpu_state<interrupt_int> &&
              !vcpu_state<interrupt_void> && !vcpu_state<no_nmi> && !vcpu_state<nmi_int> &&
              !vcpu_state<nmi_void>);
} // namespace of_vcpu_state

// An archetype is empty: as a [[no_unique_address]] member it costs nothing.
template <class... Archetypes>
constexpr bool are_empty = (std::is_empty_v<Archetypes> && ...);
static_assert(are_empty<archetype::table_memory, archetype::frame_source, archetype::publication,
                        archetype::mutex, archetype::port_io, archetype::mmio_io,
                        archetype::narrow_mmio_io, archetype::dma_memory,
                        archetype::dma_translation, archetype::bus_memory, archetype::barrier,
                        archetype::clock, archetype::interrupt_sink, archetype::vcpu_state>);

} // namespace
