// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/register_window.hpp"
#include "pt/vtd/registers.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace pt::vtd {

/// In an error of invalidation_queue: the lower 16 bits are a device's source id.
inline constexpr std::uint64_t names_device = std::uint64_t{1} << 32;

/// The device of which an error of invalidation_queue says that it did not answer in time, as bus,
/// device and function. errc::absent for every other error.
[[nodiscard]] constexpr result<std::uint16_t> device_in_time_out(error why) {
    if (why.code != errc::time_out || why.where >> 16 != names_device >> 16) {
        return error{errc::absent, why.where};
    }
    return static_cast<std::uint16_t>(why.where & 0xFFFF);
}

/// The invalidation queue of one unit [vt-d, "Queued Invalidation Interface"], an invalidation
/// port.
///
///     auto queue = invalidation_queue<Mmio, Clock, Memory>::create(window, memory);
///     queue->start();
///     queue->submit(invalidate::context_cache());
///     queue->submit(invalidate::iotlb(queue->capabilities()));
///     queue->complete();                             // both are done, in this order, or an error
///
/// submit() stores a descriptor and no more; the unit begins with start_pending(), which complete()
/// and post() include, or when the queue is full. So however many there are, they cost one register
/// write and one wait.
///
/// What tells the end is a number: descriptors are counted, and each wait makes the unit write how
/// many there were up to it. The dword that it is written to is never used for anything else and
/// stays allocated until the queue is off, so that a wait that comes late hits nothing.
///
/// No answer of a device stops the queue for good. When one does not come (ITE), when the unit does
/// not understand a descriptor (IQE) or a device answers what nobody asked (ICE), the error is
/// cleared and the queue goes on; after the first two, everything that was not over is reported as
/// failed. These three bits of FSTS belong to the queue: nobody else may clear them.
///
/// Errors of submit(), post(), complete(), stop() and done():
///  - errc::time_out with the offset of a register: the unit did not get there in time. It may yet.
///  - errc::time_out of which device_in_time_out() tells the device: ITE. Where an older unit does
///    not say which one, the offset of FSTS.
///  - errc::hardware_fault with the first word of a descriptor: the unit refused it (IQE). With the
///    offset of IQH: that register says what cannot be.
///  - errc::refused: the queue is not started.
///  - errc::absent: the unit is gone.
///
/// One processor at a time.
template <mmio_io Mmio, clock Clock, table_memory Memory>
class invalidation_queue {
public:
    using window = register_window<Mmio, Clock>;

    /// Names a wait that was posted.
    struct completion {
        std::uint64_t count = 0; ///< of descriptors, from the first to the wait

        friend constexpr bool operator==(completion, completion) = default;
    };

    /// Allocates a frame for the queue and one for the status; hardware is not touched. 256
    /// descriptors of 128 bits, or 128 of 256 bits where the unit has scalable mode, which wants
    /// those. errc::not_supported when the unit has no queue; errc::out_of_frames.
    static constexpr result<invalidation_queue> create(window registers, Memory memory) {
        if (!registers.extended_capabilities()[extended_capability::queued_invalidation]) {
            return error{errc::not_supported, extended_capability::offset};
        }
        const result<hpa> queue = memory.allocate(frame_contents::zeroed);
        if (!queue) {
            return queue.error();
        }
        const result<hpa> status = memory.allocate(frame_contents::zeroed);
        if (!status) {
            memory.release(*queue);
            return status.error();
        }
        return invalidation_queue{registers, memory, *queue, *status};
    }

    /// No queue, for a unit that is invalidated by registers: it cannot be started, and there is
    /// nothing to retire.
    static constexpr invalidation_queue none(window registers, Memory memory) {
        return invalidation_queue{registers, memory};
    }

    constexpr invalidation_queue(invalidation_queue&& other) noexcept
        // NOLINTNEXTLINE(performance-move-constructor-init): a private copy, and then emptied
        : invalidation_queue{std::as_const(other)} {
        other.leak();
    }
    invalidation_queue& operator=(invalidation_queue&&) = delete;
    constexpr ~invalidation_queue() {
        expects(!owns_, "an invalidation queue went away before retire()");
    }

    /// Whether there is one: not none(), nor after retire().
    [[nodiscard]] constexpr bool exists() const { return owns_; }
    [[nodiscard]] constexpr capability capabilities() const { return window_.capabilities(); }
    [[nodiscard]] constexpr extended_capability extended_capabilities() const {
        return window_.extended_capabilities();
    }

    /// Turns the queue on, empty; also again, after the unit lost its state in a sleep. What was
    /// not over then has failed, with errc::time_out and the offset of GSTS. errc::busy when the
    /// unit's queue is on, by whomsoever: see take_over(); errc::time_out, errc::absent.
    constexpr result<void> start() {
        expects(owns_, "an invalidation queue is used after retire()");
        const result<global_status> now = window_.present_status();
        if (!now) {
            return now.error();
        }
        if ((*now)[global_status::queued_invalidation_enabled]) {
            return error{errc::busy, global_status::offset};
        }
        // Invalidation by register must be over before.
        if (const result<void> idle = window_.finish_invalidations(); !idle) {
            return idle;
        }
        begin_anew();
        using iqa = invalidation_queue_address;
        window_.write(invalidation_queue_tail{});
        window_.write(iqa{iqa::queue(queue_frame_),
                          iqa::descriptor_width(is_wide() ? iqa::width::descriptor_256
                                                          : iqa::width::descriptor_128)});
        clear_errors(window_);
        if (const result<void> flushed = window_.flush_write_buffer(); !flushed) {
            return flushed;
        }
        started_ = true; // from here on the unit may use the memory
        const result<void> on = window_.order(global_command::queued_invalidation_enable(true),
                                              global_status::queued_invalidation_enabled, true);
        if (!on) {
            return on;
        }
        limit_ = consumed_ + most();
        return {};
    }

    /// Turns the queue off after everything in it is over; so an error of complete() is told here,
    /// too, and the queue is on still: stop again. Nothing to do when it is not started.
    constexpr result<void> stop() {
        if (!started_) {
            return {};
        }
        const result<global_status> now = window_.present_status();
        if (!now) {
            return now.error();
        }
        if ((*now)[global_status::queued_invalidation_enabled]) {
            if (const result<void> over = complete(); !over) {
                return over;
            }
            if (const result<void> empty = drain(window_); !empty) {
                return empty;
            }
        }
        if (const result<void> stopped = turn_off(window_); !stopped) {
            return stopped;
        }
        started_ = false;
        limit_ = submitted_;
        return {};
    }

    /// Turns off a queue that firmware or another kernel left on, so that start() can follow: waits
    /// for it to be empty, but not forever, and clears what errors it left. errc::time_out,
    /// errc::absent.
    static constexpr result<void> take_over(window registers) {
        const result<global_status> now = registers.present_status();
        if (!now) {
            return now.error();
        }
        if (!(*now)[global_status::queued_invalidation_enabled]) {
            return {};
        }
        // Whose descriptors they are is unknown, and so is what to do about those that hang.
        static_cast<void>(drain(registers).has_value());
        if (const result<void> stopped = turn_off(registers); !stopped) {
            return stopped;
        }
        clear_errors(registers);
        return {};
    }

    /// Gives the frames back. errc::busy while the queue is on: stop() before.
    constexpr result<void> retire() {
        if (!owns_) {
            return {};
        }
        if (started_) {
            return error{errc::busy, global_status::offset};
        }
        memory_.release(queue_frame_);
        memory_.release(status_frame_);
        owns_ = false;
        return {};
    }
    /// Gives the frames up for good, for a unit that cannot be stopped: they are lost, and must not
    /// be used for anything else, since the unit may still read and write them.
    constexpr void leak() {
        owns_ = started_ = false;
        limit_ = submitted_;
    }

    /// Stores one descriptor. An invalidation of the context cache or of the PASID cache is
    /// followed by a fence, because what comes after must not begin before it is over.
    constexpr result<void> submit(const invalidation_descriptor& request) {
        if (submitted_ == limit_) [[unlikely]] {
            if (const result<void> room = make_room(); !room) {
                return room;
            }
        }
        put(request);
        const descriptor::type type = type_of(request);
        if (type == descriptor::type::context_cache || type == descriptor::type::pasid_cache) {
            return submit_wait();
        }
        return {};
    }

    /// Lets the unit begin with what was submitted.
    constexpr result<void> start_pending() { return rung_ == submitted_ ? result<void>{} : ring(); }

    /// Waits until all that was submitted is done. What a post() let begin before is over by then
    /// as well, but whether it failed is for done() to say.
    constexpr result<void> complete() {
        const result<completion> last = post();
        if (!last) {
            return last.error();
        }
        return await(*last);
    }

    /// Lets the unit begin, and returns what to ask done() for.
    constexpr result<completion> post() {
        if (!started_) {
            return error{errc::refused, global_status::offset};
        }
        if (submitted_ != covered_ || has_failed(covered_)) {
            if (const result<void> put = submit_wait(); !put) {
                return put.error();
            }
        }
        if (!is_over(covered_)) {
            if (const result<void> begun = ring(); !begun) {
                return begun.error();
            }
        }
        return completion{covered_};
    }
    /// The same, and the unit sends its invalidation completion event when done() would say so. An
    /// error may keep that event from coming; it sends a fault event, upon which done() must be
    /// asked.
    constexpr result<completion> post_with_interrupt() {
        // Two descriptors: not every unit in the field takes status and interrupt in one (QEMU).
        if (const result<void> put = submit_wait(); !put) {
            return put.error();
        }
        if (const result<void> put = submit(invalidate::wait_with_interrupt()); !put) {
            return put.error();
        }
        const completion last{covered_};
        if (const result<void> begun = start_pending(); !begun) {
            return begun.error();
        }
        return last;
    }
    /// Whether all that was submitted before is done. An error says that some of it may not be;
    /// that may be too careful where one asks after a later failure for the first time. After
    /// errc::absent, when the unit answers again, post() tells it anew of what it may have missed.
    constexpr result<bool> done(completion which) {
        if (!owns_) {
            return error{errc::refused, global_status::offset};
        }
        if (!has_failed(which.count)) {
            if (is_over(which.count)) {
                return true;
            }
            const result<void> sound = check_errors();
            if (!sound && sound.error().code == errc::absent) {
                return sound.error();
            }
        }
        if (has_failed(which.count)) {
            return failure_;
        }
        return is_over(which.count);
    }
    /// Whether a completion event was due; asking makes room for the next. Ask this first, then
    /// done().
    constexpr bool take_completion_event() {
        using ics = invalidation_completion_status;
        const ics now = window_.template read<ics>();
        if (now.raw == window::gone || !now[ics::wait_completed]) {
            return false;
        }
        window_.write(ics{ics::wait_completed(true)});
        return true;
    }

    /// To be called on the unit's fault event: looks whether it was an error of the queue, and
    /// clears that, since the unit sends no other event before. Returns the error, unless it was
    /// ICE; whom it concerns is told by complete() and done().
    constexpr result<void> check_errors() {
        if (!started_) {
            return error{errc::refused, global_status::offset};
        }
        return recover(submitted_);
    }

    /// How many answers came from devices that nobody had asked (ICE). Any device can send them.
    [[nodiscard]] constexpr std::uint64_t completion_errors() const { return completion_errors_; }

private:
    /// Where counting begins: a little before the lower 32 bits, which are what the unit writes,
    /// wrap, so that it does not take a year until they do.
    static constexpr std::uint64_t first_count = 0x1'FFFF'FE00;
    static constexpr std::uint64_t never = ~std::uint64_t{0};
    /// How often the status is looked at before FSTS is, which takes a thousand times as long.
    static constexpr unsigned looks_for_each_status = 32;
    /// In the status frame: what the waits write; and, elsewhere, what a descriptor writes that
    /// takes the place of a refused one.
    static constexpr std::uint64_t nobody_reads = 64;

    constexpr invalidation_queue(window registers, Memory memory, hpa queue, hpa status)
        : window_{registers},
          memory_{memory},
          queue_frame_{queue},
          status_frame_{status},
          queue_{memory_.entries(queue)},
          status_{memory_.entries(status)},
          shift_{registers.extended_capabilities()[extended_capability::scalable_mode] ? 5U : 4U} {
        store_status();
    }
    constexpr invalidation_queue(window registers, Memory memory)
        : window_{registers}, memory_{memory}, owns_{false} {}
    constexpr invalidation_queue(const invalidation_queue&) = default; // for the move

    [[nodiscard]] constexpr bool is_wide() const { return shift_ == 5; }
    /// How many descriptors may be in the queue: all but one, since head equal to tail means empty.
    [[nodiscard]] constexpr std::uint64_t most() const { return (4 * KiB >> shift_) - 1; }
    /// Where the descriptor number `count` is, in bytes from the start.
    [[nodiscard]] constexpr std::uint64_t offset_of(std::uint64_t count) const {
        return count << shift_ & (4 * KiB - 1);
    }
    constexpr void put(const invalidation_descriptor& request) { put(request, submitted_++); }
    constexpr void put(const invalidation_descriptor& request, std::uint64_t count) {
        std::uint64_t* const slot = queue_ + offset_of(count) / 8;
        slot[0] = request.word[0];
        slot[1] = request.word[1];
        if (is_wide()) {
            slot[2] = request.word[2];
            slot[3] = request.word[3];
        }
    }
    /// Tells the unit of all that was put; also again, while it is not over: a unit that did not
    /// answer for a while has not heard of it.
    constexpr result<void> ring() {
        if (const result<void> flushed = window_.flush_write_buffer(); !flushed) {
            return flushed;
        }
        if (!std::is_constant_evaluated()) {
            __atomic_thread_fence(__ATOMIC_RELEASE);
        }
        window_.write(invalidation_queue_tail{offset_of(submitted_)});
        rung_ = submitted_;
        return {};
    }
    [[gnu::noinline]] constexpr result<void> submit_wait() {
        if (submitted_ == limit_) [[unlikely]] {
            if (const result<void> room = make_room(); !room) {
                return room;
            }
        }
        put(invalidate::wait(status_frame_, static_cast<std::uint32_t>(submitted_ + 1)));
        if (covered_ < failed_last_) {
            failed_last_ = submitted_; // some of what it waits for has failed already
        }
        covered_ = submitted_;
        return {};
    }

    /// How many descriptors are over, as the last wait has written it.
    [[nodiscard]] constexpr std::uint64_t over() const {
        std::uint64_t status = *status_;
        if (!std::is_constant_evaluated()) {
            status = __atomic_load_n(status_, __ATOMIC_ACQUIRE);
        }
        return covered_ - static_cast<std::uint32_t>(covered_ - status);
    }
    [[nodiscard]] constexpr bool is_over(std::uint64_t count) const { return over() >= count; }
    constexpr void store_status() {
        const std::uint64_t status = static_cast<std::uint32_t>(covered_);
        if (std::is_constant_evaluated()) {
            *status_ = status;
        } else {
            __atomic_store_n(status_, status, __ATOMIC_RELEASE);
        }
    }

    [[nodiscard]] constexpr bool has_failed(std::uint64_t count) const {
        return failed_first_ <= count && count <= failed_last_;
    }
    /// Everything up to `last` that is not over has failed. One range remembers it: what succeeded
    /// between two failures counts as failed to those who ask later.
    constexpr void fail(std::uint64_t last) {
        const std::uint64_t first = over() + 1;
        if (first > last) {
            return;
        }
        if (failed_first_ > first) {
            failed_first_ = first;
        }
        if (failed_last_ < last) {
            failed_last_ = last;
        }
    }

    /// All counts go to a multiple of the queue's size, so that the queue begins at its start; what
    /// is skipped was never submitted.
    constexpr void begin_anew() {
        const std::uint64_t next = (submitted_ + most()) & ~most();
        if (submitted_ != covered_ || !is_over(covered_)) {
            fail(next);
            failure_ = error{errc::time_out, global_status::offset};
        }
        submitted_ = limit_ = rung_ = covered_ = consumed_ = next;
        store_status();
    }

    /// What is over was taken.
    constexpr void note_over() {
        if (const std::uint64_t known = over(); known > consumed_ && known <= rung_) {
            consumed_ = known;
            limit_ = consumed_ + most();
        }
    }
    /// Reads how far the unit has come. errc::absent; errc::hardware_fault where it cannot be.
    constexpr result<void> look_at_head() {
        note_over();
        const std::uint64_t head = window_.template read<invalidation_queue_head>().raw;
        if (head == ~std::uint64_t{0}) {
            return error{errc::absent, invalidation_queue_head::offset};
        }
        const std::uint64_t pending = (rung_ - (head >> shift_)) & most();
        if (head != offset_of(rung_ - pending) || pending > rung_ - consumed_) {
            return error{errc::hardware_fault, invalidation_queue_head::offset};
        }
        consumed_ = rung_ - pending;
        limit_ = consumed_ + most();
        return {};
    }
    /// Whether a descriptor can be put; the register is read only if the status does not say so.
    constexpr result<bool> has_room() {
        note_over();
        if (submitted_ == limit_) {
            if (const result<void> seen = look_at_head(); !seen) {
                return seen.error();
            }
        }
        return submitted_ != limit_;
    }
    [[gnu::cold, gnu::noinline]] constexpr result<void> make_room() {
        if (!started_) {
            return error{errc::refused, global_status::offset};
        }
        if (const result<void> begun = ring(); !begun) {
            return begun;
        }
        error failure{};
        const result<void> waited = window_.wait(invalidation_queue_head::offset, [&] {
            const result<bool> room = has_room();
            if (!room) {
                failure = room.error();
            } else if (!*room) {
                if (const result<void> sound = recover(covered_); !sound) {
                    failure = sound.error();
                }
            }
            return failure.code != errc::none || *room;
        });
        if (failure.code != errc::none) {
            return failure;
        }
        return waited;
    }

    /// Looks for errors of the queue, remembers what has failed by them, and lets the queue go on.
    /// What has failed goes up to `last`: the last wait, where the caller passes the error on to
    /// whom the rest belongs to; or all that was submitted, and then the next wait fails with it.
    constexpr result<void> recover(std::uint64_t last) {
        using fsts = fault_status;
        const fsts now = window_.template read<fsts>();
        if (now.raw == window::gone) {
            return error{errc::absent, fsts::offset};
        }
        if (now[fsts::invalidation_completion]) {
            ++completion_errors_;
            window_.write(fsts{fsts::invalidation_completion(true)});
        }
        if (!now[fsts::invalidation_queue] && !now[fsts::invalidation_time_out]) {
            return {};
        }
        fail(last); // before the unit goes on and a later wait counts what was dropped
        if (now[fsts::invalidation_queue]) {
            failure_ = replace_refused();
            window_.write(fsts{fsts::invalidation_queue(true)});
        }
        if (now[fsts::invalidation_time_out]) {
            using record = invalidation_queue_error_record;
            const std::uint16_t device =
                window_.template read<record>()[record::time_out_source_id];
            failure_ = error{errc::time_out, device != 0 ? names_device | device : fsts::offset};
            window_.write(fsts{fsts::invalidation_time_out(true)});
        }
        return failure_;
    }
    /// The unit does not go past the descriptor that it refused: a wait that nobody waits for,
    /// which every unit understands, takes its place.
    constexpr error replace_refused() {
        if (const result<void> seen = look_at_head(); !seen) {
            return seen.error();
        }
        if (consumed_ == rung_) { // it refused something else
            return error{errc::hardware_fault, invalidation_queue_head::offset};
        }
        const std::uint64_t refused = queue_[offset_of(consumed_) / 8];
        put(invalidate::wait(status_frame_ + nobody_reads, 0), consumed_);
        if (!std::is_constant_evaluated()) {
            __atomic_thread_fence(__ATOMIC_RELEASE);
        }
        return error{errc::hardware_fault, refused};
    }

    /// Waits for `last`. After an error it waits for the rest as well, so that the next to ask is
    /// not told of what was not his.
    constexpr result<void> await(completion last) {
        error failure = has_failed(last.count) ? failure_ : error{};
        std::uint64_t awaited = last.count;
        bool aborted = false;
        unsigned looks = 0;
        const result<void> waited = window_.wait(invalidation_queue_head::offset, [&] {
            if (is_over(awaited)) {
                return true;
            }
            if (++looks % looks_for_each_status != 0) {
                return false;
            }
            if (const result<void> sound = recover(covered_); !sound) {
                if (failure.code == errc::none) {
                    failure = sound.error();
                }
                if (sound.error().code == errc::absent) {
                    failure = sound.error();
                    return true;
                }
                aborted = true;
            }
            if (aborted) { // what was dropped never comes: one more wait, after what is left
                if (const result<bool> room = has_room(); room && *room && submit_wait()) {
                    awaited = covered_;
                    aborted = !start_pending();
                }
            }
            return false;
        });
        if (!waited) { // perhaps it happened since the last look
            if (const result<void> sound = recover(covered_);
                !sound && failure.code == errc::none) {
                failure = sound.error();
            }
        }
        if (failure.code != errc::none) {
            return failure;
        }
        return waited;
    }

    static constexpr fault_status clear_errors(window& registers, std::uint32_t which) {
        const auto now = registers.template read<fault_status>();
        if (now.raw != window::gone && (now.raw & which) != 0) {
            registers.write(fault_status{now.raw & which});
        }
        return now;
    }
    static constexpr void clear_errors(window& registers) {
        using fsts = fault_status;
        clear_errors(registers, fsts::invalidation_time_out.mask |
                                    fsts::invalidation_completion.mask |
                                    fsts::invalidation_queue.mask);
    }
    /// Waits until the unit has taken everything from its queue, or does not go on by itself: a
    /// descriptor that it refused (IQE) stays where it is.
    static constexpr result<void> drain(window& registers) {
        return registers.wait(invalidation_queue_head::offset, [&] {
            using fsts = fault_status;
            const fsts now = clear_errors(registers, fsts::invalidation_time_out.mask |
                                                         fsts::invalidation_completion.mask);
            using iqh = invalidation_queue_head;
            using iqt = invalidation_queue_tail;
            return now[fsts::invalidation_queue] || registers.template read<iqh>()[iqh::head] ==
                                                        registers.template read<iqt>()[iqt::tail];
        });
    }
    static constexpr result<void> turn_off(window& registers) {
        return registers.order(global_command::queued_invalidation_enable(false),
                               global_status::queued_invalidation_enabled, false);
    }

    window window_;
    [[no_unique_address]] Memory memory_;
    hpa queue_frame_{};
    hpa status_frame_{};
    std::uint64_t* queue_ = nullptr;
    std::uint64_t* status_ = nullptr;
    // Descriptors are counted from `first_count` on; the place in the queue is the count's lower
    // bits.
    std::uint64_t submitted_ = first_count; ///< that were put
    std::uint64_t limit_ = first_count;     ///< that may be put without looking
    std::uint64_t rung_ = first_count;      ///< that the unit was told of
    std::uint64_t covered_ = first_count;   ///< up to the last wait
    std::uint64_t consumed_ = first_count;  ///< that the unit has surely taken
    std::uint64_t failed_first_ = never;
    std::uint64_t failed_last_ = 0;
    error failure_{}; ///< the last one
    std::uint64_t completion_errors_ = 0;
    unsigned shift_ = 1; ///< bytes of a descriptor, as a power of two
    bool started_ = false;
    bool owns_ = true;
};

} // namespace pt::vtd
