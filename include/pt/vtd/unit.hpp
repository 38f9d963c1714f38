// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/mutex.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/core/wide_store.hpp"
#include "pt/paging/publication.hpp"
#include "pt/pci/bridge_bus_numbers.hpp"
#include "pt/vtd/attached_function.hpp"
#include "pt/vtd/dmar.hpp"
#include "pt/vtd/domain_ids.hpp"
#include "pt/vtd/event.hpp"
#include "pt/vtd/fault_log.hpp"
#include "pt/vtd/interrupt_message.hpp"
#include "pt/vtd/interrupt_remapping_table.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/invalidation_queue.hpp"
#include "pt/vtd/register_invalidation.hpp"
#include "pt/vtd/register_window.hpp"
#include "pt/vtd/registers.hpp"
#include "pt/vtd/root_table.hpp"
#include "pt/vtd/second_stage_limits.hpp"
#include "pt/vtd/translation.hpp"

#include <cstdint>
#include <utility>

namespace pt::vtd {

/// What a VMM brings for its remapping units, named once. Each member is a handle, as every policy
/// is.
template <mmio_io Registers, pt::clock Clock, table_memory Memory,
          publication Publication = paging::clflush_publication,
          wide_store WideStore = no_wide_store, mutex Mutex = no_mutex>
struct policies {
    using registers_type = Registers;
    using clock_type = Clock;
    using memory_type = Memory;
    using publication_type = Publication;
    using wide_store_type = WideStore;
    using mutex_type = Mutex;

    Clock clock;
    Memory memory;
    Publication publication{};
    WideStore wide_store{};
    Mutex mutex{}; ///< one for all units of the machine
};

/// What has all of these: policies<...>, or a type with the same members.
template <class P>
concept remapping_policies =
    policy<P> && mmio_io<typename P::registers_type> && pt::clock<typename P::clock_type> &&
    table_memory<typename P::memory_type> && publication<typename P::publication_type> &&
    wide_store<typename P::wide_store_type> && mutex<typename P::mutex_type>;

/// How a unit is told to forget.
enum class invalidation_interface : std::uint8_t {
    queue_where_possible,
    /// Legacy mode only, and no interrupt remapping: both need the queue.
    registers,
};

/// Memory for an interrupt remapping table of more than one frame's 256 entries; see
/// interrupt_remapping_table::over().
struct interrupt_table_memory {
    hpa base;
    std::uint64_t* entries = nullptr;
    std::uint32_t count = 0; ///< 0: one frame of the unit's own
};

/// What the VMM chooses about a unit when it takes it.
struct unit_options {
    table_mode mode = table_mode::legacy;
    invalidation_interface invalidation = invalidation_interface::queue_where_possible;
    apic_mode apics = apic_mode::xapic; ///< how the machine's local APICs are addressed
    interrupt_table_memory interrupts{};
};

/// One remapping unit (DRHD) with its root table, its invalidation queue and its interrupt
/// remapping table: taken over from firmware, switched on and off in the order that the manual
/// demands, and brought back after sleep.
///
/// A step that fails leaves the unit as it was, translating or blocking, or blocking more; never
/// more open. The same call may be made again. A unit is used by one processor at a time.
///
/// It is an invalidation_port: by its queue, or by its registers. Until it uses its tables, nothing
/// of them is cached, and the port has nothing to do.
template <remapping_policies Policies>
class unit {
public:
    using policies_type = Policies;
    using registers_type = typename Policies::registers_type;
    using clock_type = typename Policies::clock_type;
    using memory_type = typename Policies::memory_type;
    using publication_type = typename Policies::publication_type;
    using wide_store_type = typename Policies::wide_store_type;
    using window_type = register_window<registers_type, clock_type>;
    using queue_type = invalidation_queue<registers_type, clock_type, memory_type>;
    using root_table_type = root_table<memory_type, publication_type, wide_store_type>;
    using interrupt_table_type = interrupt_remapping_table<publication_type, wide_store_type>;
    using fault_log_type = fault_log<registers_type, clock_type>;

    /// Takes the unit that firmware describes as `place`, whose registers `registers` reaches, and
    /// the frames for its tables. Nothing is written to it. errc::absent when nothing answers
    /// there; errc::malformed as register_window::open(); errc::not_supported with the offset of
    /// ECAP when it lacks what `chosen` demands; errc::out_of_frames; for the memory of interrupts
    /// as interrupt_remapping_table::over().
    static constexpr result<unit> take(const Policies& given, registers_type registers,
                                       const drhd& place, unit_options chosen = {}) {
        Policies own = given;
        result<window_type> window =
            window_type::open(registers, place.register_set_size, own.clock);
        if (!window) {
            return window.error();
        }
        const extended_capability has = window->extended_capabilities();
        const bool queued = chosen.invalidation == invalidation_interface::queue_where_possible &&
                            has[extended_capability::queued_invalidation];
        const bool scalable = chosen.mode == table_mode::scalable;
        // Units from version 6 on have a queue and nothing else.
        const bool by_registers = window->template read<version>()[version::major] < 6;
        const bool remaps = queued && has[extended_capability::interrupt_remapping];
        const bool takes_apics = chosen.apics == apic_mode::x2apic
                                     ? has[extended_capability::extended_interrupt_mode]
                                     : !has[extended_capability::extended_interrupt_mode_required];
        if ((chosen.mode != table_mode::legacy && !scalable) || (!queued && !by_registers) ||
            (scalable && !(queued && has[extended_capability::scalable_mode])) ||
            (remaps && !takes_apics)) {
            return error{errc::not_supported, extended_capability::offset};
        }
        result<interrupt_table_type> interrupts = make_interrupts(own, remaps, chosen);
        if (!interrupts) {
            return interrupts.error();
        }
        const bool owns_interrupts = remaps && chosen.interrupts.count == 0;
        result<queue_type> queue = make_queue(own, queued, *window);
        if (!queue) {
            give_back(*interrupts, owns_interrupts, own.memory);
            return queue.error();
        }
        result<root_table_type> root = root_table_type::create(
            own.memory, chosen.mode, own.publication, own.wide_store, place.segment);
        if (!root) {
            give_back(*interrupts, owns_interrupts, own.memory);
            static_cast<void>(queue->retire()); // it never was on
            return root.error();
        }
        return unit{own,
                    *window,
                    place,
                    std::move(*root),
                    std::move(*queue),
                    std::move(*interrupts),
                    owns_interrupts};
    }

    /// Only before anything points to it.
    constexpr unit(unit&& other) noexcept = default;
    unit& operator=(unit&&) = delete;
    constexpr ~unit() = default; // its parts insist on retire() or leak()

    [[nodiscard]] constexpr capability capabilities() const { return window_.capabilities(); }
    [[nodiscard]] constexpr extended_capability extended_capabilities() const {
        return window_.extended_capabilities();
    }
    [[nodiscard]] constexpr std::uint16_t segment() const { return segment_; }
    /// Where its registers are, by which firmware names it.
    [[nodiscard]] constexpr hpa register_base() const { return register_base_; }
    [[nodiscard]] constexpr table_mode mode() const { return root_.mode(); }
    /// What second-stage tables with `levels` levels may use on this unit, for a host address width
    /// from the DMAR table; errors as for second_stage::limits_of().
    [[nodiscard]] constexpr result<second_stage::limits> limits(unsigned levels,
                                                                unsigned host_address_width) const {
        return second_stage::limits_of(capabilities(), extended_capabilities(), levels,
                                       host_address_width);
    }
    /// Its registers, for what is not here.
    [[nodiscard]] constexpr window_type& registers() { return window_; }
    [[nodiscard]] constexpr global_status status() { return window_.status(); }

    // ---- DMA remapping -------------------------------------------------------------------------

    /// Switches DMA remapping on with the unit's own tables, from whatever state firmware left,
    /// with no moment in which more is open than before:
    ///   a queue that is on is drained and stopped, and the unit's own is started; (of a queue that
    ///   firmware left without a wait at its end, the unit may not say that it is off:
    ///   errc::time_out)
    ///   where the unit translates in the other table mode, and that cannot change under way, all
    ///   of memory is protected and translation switched off first;
    ///   the root table pointer is set, then context cache, PASID cache and IOTLB are emptied;
    ///   translation is enabled; protected memory regions are switched off last.
    /// From here on each function without an entry is blocked. errc::busy with RTADDR's offset when
    /// the unit translates in the other mode, can neither change it under way (ESRTPS) nor protect
    /// all of memory, with nothing changed; errc::time_out, errc::absent and errc::hardware_fault
    /// with a register's offset.
    constexpr result<void> start() {
        const result<bool> closes = must_close_for_mode();
        if (!closes) {
            return closes.error();
        }
        if (const result<void> ready = start_invalidation(); !ready) {
            return ready;
        }
        if (*closes) {
            if (const result<void> closed = close_for_mode(); !closed) {
                return closed;
            }
        }
        if (const result<void> set = set_root_table(
                root_table_address{root_table_address::table(root_.root()),
                                   root_table_address::translation_table_mode(root_.mode())});
            !set) {
            return set;
        }
        if (const result<void> on = window_.order(global_command::translation_enable(true),
                                                  global_status::translation_enabled, true);
            !on) {
            return on;
        }
        translates_ = true;
        return protect_memory(false);
    }

    /// Switches off again what start() and start_interrupt_remapping() switched on, also where they
    /// failed. From then on every device reaches all of memory and may raise any interrupt: only
    /// right when no device can do DMA any more, e.g. before a reset. What firmware left on and
    /// start() did not replace stays on. On an error, call it again.
    constexpr result<void> stop() {
        if (interrupts_given_) {
            if (const result<void> off = stop_interrupt_remapping(); !off) {
                return off;
            }
        }
        if (root_given_) {
            if (const result<void> off = window_.order(global_command::translation_enable(false),
                                                       global_status::translation_enabled, false);
                !off) {
                return off;
            }
        }
        translates_ = root_given_ = false;
        if (const result<void> off = queue_.stop(); !off) {
            return off;
        }
        path_ = path::none;
        return {};
    }

    /// After sleep, in which the unit lost its registers while memory kept the tables: what was on
    /// is switched on again, in the order of start(), and its events are sent where they were. Call
    /// it before any device can do DMA; on an error, again.
    constexpr result<void> resume() {
        path_ = path::none; // what a unit that did not sleep still has is stopped by start()
        if (translates_) {
            if (const result<void> on = start(); !on) {
                return on;
            }
        }
        if (remaps_interrupts_) {
            if (const result<void> on = start_interrupt_remapping(); !on) {
                return on;
            }
        }
        for (const sent_event& sent : sent_) {
            if (sent.wanted) {
                if (const result<void> programmed = program_event(window_, sent.event, sent.to);
                    !programmed) {
                    return programmed;
                }
            }
        }
        return {};
    }

    /// Puts the function's requests through `what`, through something else, or blocks them; errors
    /// as of root_table::attach(), replace() and detach().
    constexpr result<void> attach(const attached_function& function, const translation& what) {
        return can_forget(what).and_then([&] { return root_.attach(function, what, *this); });
    }
    constexpr result<void> replace(const attached_function& function, const translation& what) {
        return can_forget(what).and_then([&] { return root_.replace(function, what, *this); });
    }
    constexpr result<void> detach(const attached_function& function) {
        return root_.detach(function, *this);
    }
    /// The table itself, for entries by PASID: functions().attach_pasid(..., unit).
    [[nodiscard]] constexpr root_table_type& functions() { return root_; }

    // ---- interrupt remapping -------------------------------------------------------------------

    /// The unit's entries, which may be filled before they are in use: interrupts().set(..., unit).
    /// Without interrupt remapping its size() is 0.
    [[nodiscard]] constexpr interrupt_table_type& interrupts() { return interrupts_; }

    /// Switches interrupt remapping on: the table pointer is set, the interrupt entry cache
    /// emptied, requests in compatibility format are blocked, remapping is enabled. From here on
    /// only what has an entry arrives, which goes for the host's own devices and I/O APICs too.
    /// errc::not_supported with the offset of ECAP without the hardware or the queue; errc::refused
    /// before start(); errc::busy with IRTA's offset where firmware left remapping on for local
    /// APICs of the other mode, which must not change under way: stop_interrupt_remapping() before.
    constexpr result<void> start_interrupt_remapping() {
        if (interrupts_.size() == 0) {
            return error{errc::not_supported, extended_capability::offset};
        }
        if (path_ != path::queue) {
            return error{errc::refused, global_status::offset};
        }
        const result<global_status> now = window_.present_status();
        if (!now) {
            return now.error();
        }
        using irta = interrupt_remapping_table_address;
        const auto found = window_.template read<irta>();
        if (found.raw == ~std::uint64_t{0}) {
            return error{errc::absent, irta::offset};
        }
        if ((*now)[global_status::interrupt_remapping_enabled] &&
            found[irta::extended_interrupt_mode_enable] !=
                interrupts_.address()[irta::extended_interrupt_mode_enable]) {
            return error{errc::busy, irta::offset};
        }
        if (const result<void> flushed = window_.flush_write_buffer(); !flushed) {
            return flushed;
        }
        window_.write(interrupts_.address());
        interrupts_given_ = true;
        return window_
            .order(global_command::set_interrupt_remap_table_pointer(true),
                   global_status::interrupt_remap_table_pointer, true)
            .and_then([&] { return submit(invalidate::interrupt_entries()); })
            .and_then([&] { return complete(); })
            .and_then([&] { return block_compatibility_format(); })
            .and_then([&] {
                return window_.order(global_command::interrupt_remapping_enable(true),
                                     global_status::interrupt_remapping_enabled, true);
            })
            .and_then([&] {
                remaps_interrupts_ = true;
                return result<void>{};
            });
    }
    /// Switches it off: whatever can write to memory can raise any interrupt.
    constexpr result<void> stop_interrupt_remapping() {
        return window_
            .order(global_command::interrupt_remapping_enable(false),
                   global_status::interrupt_remapping_enabled, false)
            .and_then([&] {
                remaps_interrupts_ = interrupts_given_ = false;
                return result<void>{};
            });
    }

    // ---- faults and events ---------------------------------------------------------------------

    [[nodiscard]] constexpr fault_log_type& faults() { return faults_; }

    /// Lets the unit interrupt with `to` for such events; resume() does it again. Errors as of
    /// program_event().
    constexpr result<void> send_events(unit_event event, interrupt_message to) {
        const result<void> programmed = program_event(window_, event, to);
        for (sent_event& sent : sent_) {
            if (programmed && sent.event == event) {
                sent.to = to;
                sent.wanted = true;
            }
        }
        return programmed;
    }

    /// To be called on the unit's fault event too: errors of the invalidation queue come by the
    /// same event, and hold back the next one until they are cleared. Whom they concern is told by
    /// complete().
    constexpr void check_invalidation_errors() {
        if (path_ == path::queue) {
            static_cast<void>(queue_.check_errors());
        }
    }

    /// Whether anything is pending that holds back the unit's next fault event: a fault, an
    /// overflow, or an error of the invalidation queue. Of a unit that is gone, nothing is.
    [[nodiscard]] constexpr bool has_pending_faults() {
        using f = fault_status;
        const f now = window_.template read<f>();
        return now.raw != window_type::gone &&
               (now[f::primary_pending_fault] || now[f::primary_fault_overflow] ||
                now[f::invalidation_queue] || now[f::invalidation_completion] ||
                now[f::invalidation_time_out]);
    }

    // ---- invalidation_port ---------------------------------------------------------------------

    /// Errors as of invalidation_queue or register_invalidation; errc::refused with GSTS's offset
    /// after a resume() that failed, because the unit may have kept what it had in its caches.
    constexpr result<void> submit(const invalidation_descriptor& request) {
        if (uses_no_tables()) {
            return {};
        }
        switch (path_) {
        case path::none: return error{errc::refused, global_status::offset};
        case path::registers: return registers_.submit(request);
        case path::queue: return queue_.submit(request);
        }
        return {};
    }
    constexpr result<void> complete() {
        if (uses_no_tables()) {
            return {};
        }
        switch (path_) {
        case path::none: return error{errc::refused, global_status::offset};
        case path::registers: return registers_.complete();
        case path::queue: return queue_.complete();
        }
        return {};
    }
    /// The queue itself, for waits that end in an interrupt. It is on between start() and stop(),
    /// where the unit has one.
    [[nodiscard]] constexpr queue_type& queue() { return queue_; }

    // ---- the end -------------------------------------------------------------------------------

    /// Gives all frames back, when the unit does not use them: errc::busy before stop(). Nothing
    /// but the destructor may follow.
    constexpr result<void> retire() {
        if (path_ != path::none || root_given_ || interrupts_given_) {
            return error{errc::busy, global_status::offset};
        }
        return root_.retire(*this).and_then([&] { return queue_.retire(); }).and_then([&] {
            give_back(interrupts_, owns_interrupts_, policies_.memory);
            return result<void>{};
        });
    }
    /// Gives them up for good, for a unit that never answers again: they are lost, and must not be
    /// used for anything else, since it may still walk them.
    constexpr void leak() {
        root_.leak();
        queue_.leak();
        interrupts_.leak();
    }

private:
    template <remapping_policies, pci::bridge_bus_numbers, std::size_t>
    friend class remapping;

    enum class path : std::uint8_t { none, registers, queue };

    struct sent_event {
        unit_event event;
        interrupt_message to{};
        bool wanted = false;
    };

    /// A port to hardware that holds nothing.
    struct nothing_cached {
        extended_capability has;
        constexpr result<void> submit(const invalidation_descriptor&) { return {}; }
        constexpr result<void> complete() { return {}; }
        [[nodiscard]] constexpr capability capabilities() const { return {}; }
        [[nodiscard]] constexpr extended_capability extended_capabilities() const { return has; }
    };

    constexpr unit(const Policies& given, const window_type& window, const drhd& place,
                   root_table_type&& root, queue_type&& queue, interrupt_table_type&& interrupts,
                   bool owns_interrupts)
        : policies_{given},
          window_{window},
          registers_{window},
          faults_{window, place.segment},
          root_{std::move(root)},
          queue_{std::move(queue)},
          interrupts_{std::move(interrupts)},
          register_base_{place.register_base},
          segment_{place.segment},
          owns_interrupts_{owns_interrupts} {}

    static constexpr result<interrupt_table_type> make_interrupts(Policies& own, bool remaps,
                                                                  const unit_options& chosen) {
        if (!remaps) {
            return interrupt_table_type::none(chosen.apics, own.publication, own.wide_store);
        }
        if (chosen.interrupts.count == 0) {
            return interrupt_table_type::create(own.memory, chosen.apics, own.publication,
                                                own.wide_store);
        }
        return interrupt_table_type::over(chosen.interrupts.base, chosen.interrupts.entries,
                                          chosen.interrupts.count, chosen.apics, own.publication,
                                          own.wide_store);
    }
    static constexpr result<queue_type> make_queue(Policies& own, bool queued,
                                                   const window_type& window) {
        if (!queued) {
            return queue_type::none(window, own.memory);
        }
        return queue_type::create(window, own.memory);
    }
    static constexpr void give_back(interrupt_table_type& interrupts, bool owned,
                                    memory_type& memory) {
        nothing_cached idle{};
        const hpa frame = interrupts.base();
        static_cast<void>(interrupts.retire(idle));
        if (owned) {
            memory.release(frame);
        }
    }

    /// Gets firmware's queue out of the way, and the unit's own way of invalidation ready.
    constexpr result<void> start_invalidation() {
        if (path_ != path::none) {
            return {};
        }
        if (const result<void> stopped = queue_type::take_over(window_); !stopped) {
            return stopped;
        }
        if (!queue_.exists()) {
            path_ = path::registers;
            return {};
        }
        const result<void> on = queue_.start();
        if (on) {
            path_ = path::queue;
        }
        return on;
    }

    /// Whether the unit was given none of the tables, so that it has nothing of them to forget.
    /// (After a resume() that failed it may have kept what it had.)
    [[nodiscard]] constexpr bool uses_no_tables() const {
        return !root_given_ && !interrupts_given_;
    }
    /// Registers cannot reach device TLBs.
    [[nodiscard]] constexpr result<void> can_forget(const translation& what) const {
        return what.device_tlb() && !queue_.exists()
                   ? error{errc::not_supported, extended_capability::offset}
                   : result<void>{};
    }

    /// Whether the unit translates in another table mode, or with SSIRWE, which is never set here;
    /// that must not change under way unless it has ESRTPS [vt-d, "Set Root Table Pointer
    /// Operation"]. errc::busy where nothing can be done about it.
    constexpr result<bool> must_close_for_mode() {
        const result<global_status> now = window_.present_status();
        if (!now) {
            return now.error();
        }
        const auto found = window_.template read<root_table_address>();
        if (found.raw == ~std::uint64_t{0}) {
            return error{errc::absent, root_table_address::offset};
        }
        const capability has = capabilities();
        if (!(*now)[global_status::translation_enabled] ||
            (found[root_table_address::translation_table_mode] == root_.mode() &&
             !found[root_table_address::second_stage_io_read_write_enable]) ||
            has[capability::enhanced_set_root_table_pointer]) {
            return false;
        }
        if (!has[capability::protected_low_memory] || !has[capability::protected_high_memory]) {
            return error{errc::busy, root_table_address::offset};
        }
        return true;
    }
    /// Protects all of memory, and switches translation off meanwhile. The regions also cover what
    /// is no memory, where the manual does not want them: devices are blocked from each other's
    /// registers as well, for this moment.
    constexpr result<void> close_for_mode() {
        return protect_memory(true).and_then([&] {
            return window_.order(global_command::translation_enable(false),
                                 global_status::translation_enabled, false);
        });
    }

    /// Sets the root table pointer and empties the caches, in the order of the manual [vt-d, "Set
    /// Root Table Pointer Operation"]. On units with ESRTPS the second part is done already, and
    /// harmless.
    constexpr result<void> set_root_table(root_table_address table) {
        if (const result<void> flushed = window_.flush_write_buffer(); !flushed) {
            return flushed;
        }
        window_.write(table);
        root_given_ = true;
        return window_
            .order(global_command::set_root_table_pointer(true), global_status::root_table_pointer,
                   true)
            .and_then([&] { return submit(invalidate::context_cache()); })
            .and_then([&] { // in legacy mode such a descriptor is an error
                return root_.mode() == table_mode::scalable ? submit(invalidate::pasid_cache())
                                                            : result<void>{};
            })
            .and_then([&] { return submit(invalidate::iotlb(capabilities())); })
            .and_then([&] { return complete(); });
    }

    /// Blocks the DMA of all devices to all of memory by both protected memory regions, or switches
    /// the regions off, whatever they cover.
    constexpr result<void> protect_memory(bool all) {
        if (!capabilities()[capability::protected_low_memory] &&
            !capabilities()[capability::protected_high_memory]) {
            return {};
        }
        // The regions must not change while they are on; translation is on meanwhile.
        if (const result<void> off = switch_protection(false); !off || !all) {
            return off;
        }
        using low_limit = protected_low_memory_limit;
        using high_base = protected_high_memory_base;
        using high_limit = protected_high_memory_limit;
        window_.write(protected_low_memory_base{0});
        window_.write(low_limit{~std::uint32_t{0}});
        window_.write(high_base{std::uint64_t{1} << 32});
        window_.write(high_limit{~std::uint64_t{0}});
        return switch_protection(true);
    }
    constexpr result<void> switch_protection(bool on) {
        using pmen = protected_memory_enable;
        // A change that timed out may be under way still, and must be over before the next.
        const result<pmen> now = settled_protection();
        if (!now) {
            return now.error();
        }
        if ((*now)[pmen::enable] == on) {
            return {};
        }
        window_.write(now->write_back().with(pmen::enable(on)));
        const result<pmen> then = settled_protection();
        if (!then) {
            return then.error();
        }
        return (*then)[pmen::enable] == on ? result<void>{}
                                           : error{errc::hardware_fault, pmen::offset};
    }
    /// PMEN when it is in force as it was written.
    constexpr result<protected_memory_enable> settled_protection() {
        using pmen = protected_memory_enable;
        pmen now;
        const result<void> settled = window_.wait(pmen::offset, [&] {
            now = window_.template read<pmen>();
            return now.raw == window_type::gone || now[pmen::enabled] == now[pmen::enable];
        });
        if (!settled) {
            return settled.error();
        }
        if (now.raw == window_type::gone) {
            return error{errc::absent, pmen::offset};
        }
        return now;
    }

    constexpr result<void> block_compatibility_format() {
        const result<global_status> now = window_.present_status();
        if (!now) {
            return now.error();
        }
        if (!(*now)[global_status::compatibility_format_interrupt]) {
            return {};
        }
        return window_.order(global_command::compatibility_format_interrupt(false),
                             global_status::compatibility_format_interrupt, false);
    }

    Policies policies_;
    window_type window_;
    register_invalidation<registers_type, clock_type> registers_;
    fault_log_type faults_;
    root_table_type root_;
    queue_type queue_;
    interrupt_table_type interrupts_;
    hpa register_base_;
    sent_event sent_[3]{
        {unit_event::fault}, {unit_event::invalidation_completion}, {unit_event::page_request}};
    unit* next_ = nullptr; ///< of the machine's
    std::uint16_t segment_;
    path path_ = path::none;
    bool owns_interrupts_;
    bool translates_ = false;
    bool remaps_interrupts_ = false;
    bool root_given_ = false;       ///< the unit was told of the root table, and may walk it
    bool interrupts_given_ = false; ///< and of the interrupt remapping table
};

} // namespace pt::vtd
