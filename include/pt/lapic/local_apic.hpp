// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/atomic.hpp"
#include "pt/core/contract.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/lapic/apic_virtualization.hpp"
#include "pt/lapic/effect.hpp"
#include "pt/lapic/identity.hpp"
#include "pt/lapic/inbox.hpp"
#include "pt/lapic/local_wire.hpp"
#include "pt/lapic/message.hpp"
#include "pt/lapic/processor_signal.hpp"
#include "pt/lapic/register_page.hpp"
#include "pt/lapic/registers.hpp"
#include "pt/lapic/saved_state.hpp"
#include "pt/lapic/timer.hpp"
#include "pt/lapic/vector_set.hpp"

#include <bit>
#include <cstdint>

namespace pt::lapic {

/// What became of a fixed interrupt.
enum class acceptance : std::uint8_t {
    accepted,          ///< it is now in IRR
    already_pending,   ///< it was in IRR and has merged with the earlier one
    illegal_vector,    ///< 0..15: dropped, noted for ESR, and told by the error interrupt
    software_disabled, ///< dropped: the guest has disabled its local APIC, by SVR or IA32_APIC_BASE
};

/// Events inside the processor that have an entry in the local vector table and no wire.
enum class local_source : std::uint8_t { thermal_sensor, performance_counters, cmci };

/// The virtual local APIC of one virtual processor [sdm, Advanced Programmable Interrupt
/// Controller]. Its registers lie in the page, which can be a virtual-APIC page; what other CPUs
/// send lies in the inbox until synchronize() brings it in. Both are the VMM's memory and outlive
/// the object.
///
/// The calls for one local APIC are made by one CPU at a time, its owner: the one that runs the
/// virtual processor, between an exit and the next entry, or under the VMM's lock. Other CPUs use
/// the inbox.
///
/// Whatever the guest does is answered as the hardware answers it; no argument that comes from a
/// guest is demanded to be legal. Where [sdm] leaves something open, docs/lapic.md says what
/// happens here.
template <timer_clock Clock>
class local_apic {
public:
    /// Takes over page and inbox and does reset(). The VMM chooses identity and limits: broken ones
    /// are its own errors.
    constexpr local_apic(register_page& page, inbox& arriving, identity who, Clock clock,
                         timer_limits limits = {});

    // Interrupts that are pending are here once, not in copies.
    local_apic(const local_apic&) = delete;
    local_apic& operator=(const local_apic&) = delete;

    /// The state after power-up [sdm, Local APIC State After Power-Up or Reset]: xAPIC mode at
    /// 0xFEE00000, software-disabled, every LVT entry masked; nothing is pending or in service,
    /// what was sent before is gone; a processor that is not the bootstrap processor waits for a
    /// SIPI. The wires stay as they are.
    constexpr void reset();

    /// Brings in what others have sent and what time has done: INIT, then a start-up, NMI and the
    /// other signals, then fixed interrupts, then the timer. The owner calls it before each entry
    /// and before it asks has_work(); every guest access does it first. When nothing has come it costs
    /// a few loads.
    constexpr void synchronize() {
        if (has_arrivals()) [[unlikely]] {
            take_arrivals();
        }
    }

    // The guest's accesses. An access that comes after an INIT which the VMM has not yet taken by
    // next_signal() belongs to a program that is no more: its write does nothing.

    /// The guest reads its register page, xAPIC mode. `offset` is in bytes from base(), any value.
    /// Up to four bytes inside the first four of a multiple of 16 read their part of that register;
    /// whatever else reads 0. While the page is not there (other modes): all ones.
    constexpr std::uint64_t read(std::uint32_t offset, mmio_width size);
    /// The guest writes its register page, xAPIC mode. Only a dword at a multiple of 16 writes.
    constexpr effect write(std::uint32_t offset, mmio_width size, std::uint64_t value);

    /// Whether RDMSR and WRMSR of `number` are for the local APIC: IA32_APIC_BASE,
    /// IA32_TSC_DEADLINE and 800H..8FFH.
    [[nodiscard]] static constexpr bool handles_msr(std::uint32_t number) {
        return number == apic_base::msr || number == tsc_deadline_msr || (number & ~0xFFU) == 0x800;
    }
    /// RDMSR. The error is the #GP(0) that the processor raises: errc::absent for an MSR that is
    /// not there, in this mode or at all, or cannot be read; `where` is the number.
    constexpr result<std::uint64_t> read_msr(std::uint32_t number);
    /// WRMSR. The error is the #GP(0) that the processor raises: errc::absent for an MSR that is
    /// not there or cannot be written, errc::malformed for a value with reserved bits or an illegal
    /// transition; nothing has changed; `where` is the number.
    constexpr result<effect> write_msr(std::uint32_t number, std::uint64_t value);

    /// MOV from CR8: TPR 7:4.
    [[nodiscard]] constexpr std::uint64_t cr8() const {
        return page_->tpr[task_priority::priority_class];
    }
    /// MOV to CR8: TPR 7:4, and 0 to TPR 3:0. errc::malformed with the value where it is above 15,
    /// which raises #GP(0).
    constexpr result<void> set_cr8(std::uint64_t value);

    // By the VMM, for devices and wires that the owner's CPU sees itself.

    /// A fixed interrupt arrives. The owner's short way; everybody else posts to the inbox.
    constexpr acceptance accept(std::uint8_t vector, trigger_mode trigger);

    /// A message arrives on the CPU that is the owner, such as the interrupt of a device: without the
    /// detour of the inbox if it is for this local APIC alone, fixed, and edge-triggered. False: it is
    /// not, nothing has changed, and the message is for the bus.
    [[nodiscard]] constexpr bool accept(const message& sent) {
        const bool is_ours = sent.delivery == delivery_mode::fixed &&
                             sent.trigger == trigger_mode::edge && sent.to == shorthand::none &&
                             sent.mode == destination_mode::physical && !is_broadcast(sent) &&
                             inbox_->matches(sent);
        if (is_ours) {
            static_cast<void>(accept(sent.vector, trigger_mode::edge));
        }
        return is_ours;
    }

    /// An event inside the processor: what the entry of the local vector table says, unless it is
    /// masked. Performance counters mask their entry thereby.
    constexpr void raise(local_source source);

    /// The level of a pin from now on. Fixed and level-triggered: accepted while it is asserted,
    /// again after each EOI. ExtINT: pending as long as it is asserted. Others: when it becomes
    /// asserted.
    constexpr void set_wire(local_wire wire, wire_level level);

    /// The vector that the processor would take now if it takes interrupts at all: the highest in
    /// IRR, provided that its class is above the processor priority. 0: none.
    [[nodiscard]] constexpr std::uint8_t pending() const {
        return static_cast<std::uint8_t>(requesting_ > inhibited_ ? requesting_ : 0);
    }
    /// The processor takes pending(): it moves from IRR to ISR and is returned. 0: none was
    /// pending.
    constexpr std::uint8_t acknowledge();
    /// The highest vector in service is done, as by the guest's write of EOI.
    constexpr end_of_interrupt eoi();

    /// An NMI waits: a message, or a pin or event whose entry says NMI. It waits as one, however
    /// many came.
    [[nodiscard]] constexpr bool nmi_pending() const { return latched_[inbox_signals::nmi]; }
    /// It is delivered.
    constexpr void take_nmi() { latched_ = latched_.with(inbox_signals::nmi(false)); }

    /// The external controller (8259) asks: its INTA cycle gives the vector.
    [[nodiscard]] constexpr bool extint_pending() const;
    /// It is delivered. A wire that is still asserted asks again.
    constexpr void take_extint() { latched_ = latched_.with(inbox_signals::extint(false)); }

    /// What the virtual processor has to do before its next entry, one thing at a time until none:
    /// INIT, then a start-up (only while it waits for one), then an SMI (not while it waits).
    constexpr processor_signal next_signal();
    /// Whether the virtual processor waits for a SIPI: it is not entered.
    [[nodiscard]] constexpr bool waiting_for_start_up() const { return waiting_; }

    /// When synchronize() has something to do for the timer: for the VMM's own.
    [[nodiscard]] constexpr deadline next_deadline() const {
        Clock clock = clock_;
        return timer_.next(clock, timer_stands());
    }

    /// Whether next_signal() has one: the virtual processor is not entered before it is taken.
    [[nodiscard]] constexpr bool signal_pending() const {
        return latched_[inbox_signals::init] ||
               (waiting_ ? latched_[inbox_signals::start_up] : latched_[inbox_signals::smi]);
    }

    /// Whether synchronize() has brought in anything for a virtual processor that could take it,
    /// blocked or not. injector::wakes() knows what it can take.
    [[nodiscard]] constexpr bool has_work() const;

    [[nodiscard]] constexpr apic_mode current_mode() const { return base_[apic_base::mode]; }
    /// Where the guest has its register page.
    [[nodiscard]] constexpr gpa base() const { return base_[apic_base::base]; }
    [[nodiscard]] constexpr std::uint32_t apic_id() const { return identity_.apic_id; }
    /// SVR bit 8: whether it accepts fixed interrupts. CPUID.01H:EDX[9] of the guest, on the other
    /// hand, is current_mode() != apic_mode::disabled.
    [[nodiscard]] constexpr bool is_software_enabled() const {
        return page_->svr[spurious_interrupt_vector::software_enabled];
    }
    /// The page as it is; the current count is not in it.
    [[nodiscard]] constexpr const register_page& registers() const { return *page_; }

    /// The whole state, with what is in the inbox, which is brought in.
    [[nodiscard]] constexpr saved_state save();
    /// The state of a local APIC with the same identity, from anywhere. errc::malformed with the
    /// offset of the register, or with ~0, where it could not be one: nothing has changed.
    constexpr result<void> restore(const saved_state& from);

    /// Whether the virtual processor runs and nothing but fixed vectors can be pending: no NMI, no
    /// ExtINT, nothing for next_signal(). One that is not pending may be suspected here.
    [[nodiscard]] constexpr bool has_only_vectors() const {
        return (latched_.raw | asserted_ | (waiting_ ? 1U : 0U)) == 0;
    }

    // With a processor that virtualizes the APIC itself [sdm, APIC Virtualization and Virtual
    // Interrupts]; see apic_virtualization.hpp.

    /// TPR threshold, bits 3:0, for "use TPR shadow" without virtual-interrupt delivery: the guest
    /// exits when it lowers TPR 7:4 below. 0, never, unless TPR alone holds the highest vector in
    /// IRR back.
    [[nodiscard]] constexpr std::uint8_t tpr_threshold() const {
        const std::uint32_t requested = requesting_ / 16;
        const bool by_service = requested <= servicing_ / 16;
        const bool by_task = requested <= page_->tpr[task_priority::priority_class];
        return by_task && !by_service ? static_cast<std::uint8_t>(requested) : std::uint8_t{0};
    }

    /// The vectors whose EOI has to exit: those that are level-triggered, a pin's in remote IRR, and the
    /// timer's while it owes ticks. For each entry; a VMM inserts what else it wants to hear of.
    [[nodiscard]] constexpr eoi_exit_bitmap eoi_exits() const {
        eoi_exit_bitmap exits = eoi_exit_bitmap::of(*page_);
        if (timer_.owed() != 0) {
            exits.insert(timer_entry_[local_vector_entry::vector]);
        }
        if ((remote_irr_ & 1) != 0) { // also of a vector that came as an edge since
            exits.insert(page_->lvt_lint0[local_vector_entry::vector]);
        }
        if ((remote_irr_ & 2) != 0) {
            exits.insert(page_->lvt_lint1[local_vector_entry::vector]);
        }
        return exits;
    }

    /// The processor may have changed TPR, PPR, IRR and ISR in the page: look at them anew.
    constexpr void after_hardware();
    /// APIC-write VM exit: the processor has stored the guest's value at `offset` of the page; the
    /// register takes it as after write().
    constexpr effect apic_write(std::uint32_t offset);
    /// EOI-induced VM exit: the processor has taken `vector` from ISR and updated PPR.
    constexpr effect virtualized_eoi(std::uint8_t vector);

private:
    static constexpr std::uint32_t tsc_deadline_msr = 0x6E0;
    /// The errors that a local APIC without a bus can have.
    static constexpr std::uint32_t reported_errors = error_status::illegal_register_address.mask |
                                                     error_status::receive_illegal_vector.mask |
                                                     error_status::send_illegal_vector.mask;

    // Summaries: bit i says that word i of a vector_set is not empty.
    [[nodiscard]] static constexpr std::uint8_t highest(const vector_set& set,
                                                        std::uint32_t words) {
        // Without a branch: a guest's vectors are anywhere. `| 1` lets an empty set, and nothing
        // else, come out as vector 0.
        const auto top = static_cast<std::uint32_t>(31 - std::countl_zero(words | 1));
        const std::uint32_t bits = set.words[top].bits | 1;
        return static_cast<std::uint8_t>(top * 32 +
                                         static_cast<std::uint32_t>(31 - std::countl_zero(bits)));
    }
    [[nodiscard]] static constexpr std::uint32_t words_in_use(const vector_set& set) {
        std::uint32_t words = 0;
        for (std::uint32_t i = 0; i != 8; ++i) {
            words |= (set.words[i].bits != 0 ? 1U : 0U) << i;
        }
        return words;
    }
    /// Takes out the vector, and returns the highest of what is left, or 0.
    static constexpr std::uint8_t remove(vector_set& set, std::uint32_t& words,
                                         std::uint8_t vector) {
        const std::uint32_t word = vector / 32;
        const std::uint32_t bits = set.words[word].bits & ~(1U << (vector % 32));
        set.words[word].bits = bits;
        const std::uint32_t left = words & ~((bits == 0 ? 1U : 0U) << word);
        if (left == 0) [[likely]] { // a branch, so that nothing later waits for the search
            words = 0;
            return 0;
        }
        words = left;
        return highest(set, left);
    }

    /// The class of PPR is the higher class of TPR and the highest vector in service; for equal
    /// classes [sdm] leaves the sub-class open, and this is what APIC virtualization does.
    constexpr void update_processor_priority() {
        const std::uint32_t task = page_->tpr.raw & 0xFF;
        const std::uint32_t service = servicing_ & 0xF0U;
        set_processor_priority(task >= service ? task : service);
    }
    constexpr void set_processor_priority(std::uint32_t ppr) {
        // Others read it, to find the processor with the lowest.
        atomic::store_relaxed(&page_->ppr.raw, ppr);
        inhibited_ = ppr | 0xF;
    }

    [[nodiscard]] constexpr bool has_arrivals() const {
        return inbox_->may_hold_arrivals() ||
               (timer_deadline_.of != deadline::clock::none && is_past(timer_deadline_));
    }
    [[nodiscard]] constexpr bool is_past(const deadline& when) const {
        Clock clock = clock_;
        return when.of == deadline::clock::tsc ? clock.tsc() >= when.at
                                               : (clock.ticks() - when.at) >> 63 == 0;
    }
    [[gnu::cold]] constexpr void take_arrivals();
    constexpr void accept_all(const posted_vectors& vectors, trigger_mode trigger);
    constexpr void service_timer();
    [[nodiscard]] constexpr timer_interrupt timer_stands() const;
    [[gnu::cold]] constexpr void plan_timer() {
        timer_deadline_ = timer_.next(clock_, timer_stands());
    }

    constexpr void power_up_registers();
    constexpr void take_init();
    constexpr void identify();
    constexpr void publish();
    [[gnu::cold]] constexpr void note_error(std::uint32_t seen);

    [[nodiscard]] constexpr bool is_asserted(local_wire wire) const {
        return ((asserted_ >> static_cast<unsigned>(wire)) & 1) != 0;
    }
    [[nodiscard]] constexpr local_vector_entry& pin_entry(local_wire wire) {
        return wire == local_wire::lint0 ? page_->lvt_lint0 : page_->lvt_lint1;
    }
    constexpr void sense(local_wire wire);
    constexpr void set_remote_irr(local_wire wire, std::uint32_t to);
    constexpr end_of_interrupt ended(std::uint8_t vector);
    [[gnu::cold]] constexpr void end_level(std::uint8_t vector);
    constexpr void deliver_edge(local_vector_entry entry);
    [[nodiscard]] constexpr bool asks_extint(local_wire wire) const;

    [[nodiscard]] constexpr std::uint32_t svr_bits() const;
    [[nodiscard]] static constexpr std::uint32_t lvt_bits(std::uint32_t offset);
    [[nodiscard]] constexpr std::uint32_t read_register(std::uint32_t offset) const;
    constexpr effect write_register(std::uint32_t offset, std::uint32_t value);
    constexpr void write_entry(std::uint32_t offset, std::uint32_t value);
    constexpr effect command(interrupt_command icr, destination_format format);
    [[nodiscard]] constexpr bool is_x2apic_readable(std::uint32_t offset) const;
    [[nodiscard]] static constexpr bool is_x2apic_writable(std::uint32_t offset);
    [[nodiscard]] constexpr std::uint64_t x2apic_reserved(std::uint32_t offset) const;
    constexpr result<effect> write_base(std::uint64_t value);
    [[nodiscard]] constexpr std::uint32_t plausible_bits(apic_mode mode,
                                                         std::uint32_t offset) const;
    constexpr void write_task_priority(std::uint32_t value) {
        page_->tpr = task_priority{value & 0xFF};
        update_processor_priority();
    }

    register_page* page_;
    inbox* inbox_;
    // What the page says, in a form that needs no search. (Words, since a byte may be a part of anything
    // to a compiler, which then loads the pointers again after each store.)
    std::uint32_t irr_words_ = 0; ///< bit i: word i of IRR is not empty
    std::uint32_t isr_words_ = 0;
    std::uint32_t requesting_ = 0;   ///< the highest vector in IRR, or 0
    std::uint32_t servicing_ = 0;    ///< the highest vector in ISR, or 0
    std::uint32_t inhibited_ = 0x0F; ///< the highest vector that PPR holds back
    std::uint8_t asserted_ = 0;      ///< bit i: local_wire i
    std::uint8_t remote_irr_ = 0;    ///< bit i: local_wire i; a virtual-APIC page does not keep it
    bool waiting_ = false;
    /// The timer's entry as the timer knows it: in a virtual-APIC page a guest may have stored another one
    /// a moment ago, and what is due is still the old one's.
    local_vector_entry timer_entry_{};
    std::uint32_t errors_ = 0;  ///< since the guest last wrote ESR
    deadline timer_deadline_{}; ///< when the timer was last looked at; it may lie later by now
    inbox_signals latched_{};   ///< what the virtual processor has yet to take
    apic_base base_{};
    identity identity_;
    timer timer_;
    [[no_unique_address]] Clock clock_;
};

template <timer_clock Clock>
constexpr local_apic<Clock>::local_apic(register_page& page, inbox& arriving, identity who,
                                        Clock clock, timer_limits limits)
    : page_{&page}, inbox_{&arriving}, identity_{who}, timer_{limits}, clock_{clock} {
    expects(who.apic_id != 0xFFFF'FFFF, "the id that means everybody is nobody's");
    expects(who.physical_address_width >= 32 && who.physical_address_width <= 52,
            "MAXPHYADDR is 32 to 52");
    arriving.page = &page;
    reset();
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::reset() {
    base_ = apic_base::reported(
        apic_base::base(apic_base::default_base), apic_base::mode(apic_mode::xapic),
        apic_base::bootstrap_processor(identity_.role == processor_role::bootstrap));
    waiting_ = identity_.role == processor_role::application;
    latched_ = {};
    power_up_registers();
    static_cast<void>(inbox_->harvest()); // what was sent before
}

/// [sdm, Local APIC State After Power-Up or Reset] in the present mode.
template <timer_clock Clock>
constexpr void local_apic<Clock>::power_up_registers() {
    for (std::uint32_t offset = 0; offset != 0x400; offset += 0x10) {
        if (std::uint32_t* const word = register_at(*page_, offset);
            word != nullptr && word != &page_->ppr.raw) {
            *word = lvt_bits(offset) != 0 ? local_vector_entry::masked.mask : 0;
        }
    }
    page_->version = local_apic_version::reported(
        local_apic_version::eoi_broadcast_suppression(identity_.suppression ==
                                                      eoi_broadcast_suppression::offered),
        local_apic_version::max_lvt_entry(6), local_apic_version::version(0x14));
    page_->destination_format = 0xFFFF'FFFF;
    page_->svr = spurious_interrupt_vector{spurious_interrupt_vector::vector(0xFF)};
    irr_words_ = 0;
    isr_words_ = 0;
    requesting_ = 0;
    servicing_ = 0;
    set_processor_priority(0);
    remote_irr_ = 0;
    errors_ = 0;
    timer_.reset();
    timer_entry_ = page_->lvt_timer;
    plan_timer();
    identify();
    publish();
}

/// The registers that the mode and the id determine.
template <timer_clock Clock>
constexpr void local_apic<Clock>::identify() {
    if (current_mode() == apic_mode::x2apic) {
        page_->id.raw = identity_.apic_id;
        page_->logical_destination = x2apic_logical_destination::of(identity_.apic_id).raw;
    } else {
        page_->id.raw = identity_.apic_id << 24;
    }
    page_->icr_destination = 0;
    page_->icr_high = 0;
}

/// Messages find the local APIC by what its registers say now.
template <timer_clock Clock>
constexpr void local_apic<Clock>::publish() {
    using word = inbox_addressing;
    const bool is_x2apic = current_mode() == apic_mode::x2apic;
    inbox_->publish(
        word{word::apic_id(is_x2apic ? identity_.apic_id : identity_.apic_id & 0xFF),
             word::logical_apic_id(static_cast<std::uint8_t>(page_->logical_destination >> 24)),
             word::destination_model(static_cast<std::uint8_t>(page_->destination_format >> 28)),
             word::software_enabled(is_software_enabled()), word::mode(current_mode())});
}

/// INIT: the registers are as after power-up, the id and the mode stay [sdm, Local APIC State After
/// It Receives an INIT-Deassert Message; x2APIC States]. What was latched for the processor is
/// gone, a start-up that was sent before included.
template <timer_clock Clock>
constexpr void local_apic<Clock>::take_init() {
    power_up_registers();
    latched_ = inbox_signals{inbox_signals::init(true)};
    waiting_ = identity_.role == processor_role::application;
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::take_arrivals() {
    if (inbox_->may_hold_arrivals()) {
        const arrivals arrived = inbox_->harvest();
        const inbox_signals signals = arrived.signals;
        if (signals[inbox_signals::init]) {
            take_init();
        }
        if (signals[inbox_signals::start_up] && waiting_ && !latched_[inbox_signals::start_up]) {
            latched_ = latched_.with(
                inbox_signals::start_up(true),
                inbox_signals::start_up_vector(signals[inbox_signals::start_up_vector]));
        }
        latched_.raw |= signals.raw & (inbox_signals::nmi.mask | inbox_signals::smi.mask |
                                       inbox_signals::extint.mask);
        if (is_software_enabled()) {
            if (signals[inbox_signals::receive_illegal_vector]) {
                note_error(error_status::receive_illegal_vector.mask);
            }
            accept_all(arrived.edge, trigger_mode::edge);
            accept_all(arrived.level, trigger_mode::level);
        }
    }
    service_timer();
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::accept_all(const posted_vectors& vectors, trigger_mode trigger) {
    for (std::uint32_t i = 0; i != 8; ++i) {
        const auto bits = static_cast<std::uint32_t>(vectors.words[i / 2] >> (i % 2 * 32));
        if (bits != 0) { // none of 0..15: the inbox tells of these as an error
            page_->irr.words[i].bits |= bits;
            std::uint32_t& levels = page_->tmr.words[i].bits;
            levels = trigger == trigger_mode::level ? levels | bits : levels & ~bits;
            irr_words_ |= 1U << i;
        }
    }
    requesting_ = highest(page_->irr, irr_words_);
}

template <timer_clock Clock>
constexpr acceptance local_apic<Clock>::accept(std::uint8_t vector, trigger_mode trigger) {
    if (!is_software_enabled()) [[unlikely]] {
        return acceptance::software_disabled;
    }
    if (vector < first_legal_vector) [[unlikely]] {
        note_error(error_status::receive_illegal_vector.mask);
        return acceptance::illegal_vector;
    }
    const std::uint32_t word = vector / 32;
    const std::uint32_t bit = 1U << (vector % 32);
    const bool is_level = trigger == trigger_mode::level;
    if (std::uint32_t& levels = page_->tmr.words[word].bits; ((levels & bit) != 0) != is_level) {
        levels ^= bit; // seldom: a vector keeps its kind
    }
    std::uint32_t& requests = page_->irr.words[word].bits;
    const bool was_pending = (requests & bit) != 0;
    requests |= bit;
    irr_words_ |= 1U << word;
    if (vector > requesting_) {
        requesting_ = vector;
    }
    return was_pending ? acceptance::already_pending : acceptance::accepted;
}

template <timer_clock Clock>
constexpr std::uint8_t local_apic<Clock>::acknowledge() {
    const std::uint8_t vector = pending();
    if (vector == 0) {
        return 0;
    }
    requesting_ = remove(page_->irr, irr_words_, vector);
    page_->isr.insert(vector);
    isr_words_ |= 1U << (vector / 32);
    servicing_ = vector;                    // the highest now, or it would be inhibited
    set_processor_priority(vector & 0xF0U); // its class is above that of TPR: it was not inhibited
    if (vector == (timer_entry_.raw & 0xFF)) [[unlikely]] {
        plan_timer(); // the next of the ticks that are owed can come
    }
    return vector;
}

template <timer_clock Clock>
constexpr end_of_interrupt local_apic<Clock>::eoi() {
    const auto vector = static_cast<std::uint8_t>(servicing_);
    if (vector == 0) {
        return {};
    }
    servicing_ = remove(page_->isr, isr_words_, vector);
    update_processor_priority();
    return ended(vector);
}

/// What the end of a vector, which is not in ISR any more, means to the pins and the I/O APICs.
template <timer_clock Clock>
constexpr end_of_interrupt local_apic<Clock>::ended(std::uint8_t vector) {
    const bool was_level = page_->tmr.contains(vector); // a pin that asks again sets TMR anew
    if (remote_irr_ != 0) [[unlikely]] {
        end_level(vector);
    }
    return {vector, was_level && !page_->svr[spurious_interrupt_vector::suppress_eoi_broadcast]};
}

// Errors.

/// The first error since the guest wrote ESR raises the error interrupt [sdm, Error Handling]. An
/// illegal vector in the error entry itself is then not the first any more, which ends it.
template <timer_clock Clock>
constexpr void local_apic<Clock>::note_error(std::uint32_t seen) {
    const bool is_first = errors_ == 0;
    errors_ |= seen;
    if (is_first && !page_->lvt_error[local_vector_entry::masked]) {
        accept(page_->lvt_error[local_vector_entry::vector], trigger_mode::edge);
    }
}

// The timer.

template <timer_clock Clock>
constexpr timer_interrupt local_apic<Clock>::timer_stands() const {
    const local_vector_entry entry = timer_entry_;
    if (entry[local_vector_entry::masked]) {
        return timer_interrupt::masked;
    }
    return page_->irr.contains(entry[local_vector_entry::vector]) ? timer_interrupt::requested
                                                                  : timer_interrupt::deliverable;
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::service_timer() {
    if (timer_.expired(clock_, timer_stands()) &&
        accept(timer_entry_[local_vector_entry::vector], trigger_mode::edge) ==
            acceptance::illegal_vector) {
        // The error is told; other ticks that are due by now would only tell it again.
        (void)timer_.expired(clock_, timer_interrupt::masked);
    }
    plan_timer();
}

// Pins and events inside the processor.

/// One edge of something that has an entry in the local vector table.
template <timer_clock Clock>
constexpr void local_apic<Clock>::deliver_edge(local_vector_entry entry) {
    switch (entry[local_vector_entry::delivery]) {
    case delivery_mode::fixed: accept(entry[local_vector_entry::vector], trigger_mode::edge); break;
    case delivery_mode::smi: latched_ = latched_.with(inbox_signals::smi(true)); break;
    case delivery_mode::nmi: latched_ = latched_.with(inbox_signals::nmi(true)); break;
    case delivery_mode::init: take_init(); break;
    default: break; // ExtINT is a level; the others are reserved
    }
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::raise(local_source source) {
    local_vector_entry& entry = source == local_source::thermal_sensor ? page_->lvt_thermal_sensor
                                : source == local_source::performance_counters
                                    ? page_->lvt_performance_counters
                                    : page_->lvt_cmci;
    const local_vector_entry said = entry;
    if (said[local_vector_entry::masked] ||
        said[local_vector_entry::delivery] == delivery_mode::init) { // not for these entries [sdm]
        return;
    }
    if (source == local_source::performance_counters) {
        entry = said.with(local_vector_entry::masked(true));
    }
    deliver_edge(said);
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::set_wire(local_wire wire, wire_level level) {
    const auto bit = static_cast<std::uint8_t>(1U << static_cast<unsigned>(wire));
    const bool was_asserted = is_asserted(wire);
    if (level == wire_level::deasserted) {
        asserted_ = static_cast<std::uint8_t>(asserted_ & ~bit);
        return;
    }
    asserted_ |= bit;
    if (current_mode() == apic_mode::disabled) {
        // LINT1 is the processor's NMI pin then.
        if (wire == local_wire::lint1 && !was_asserted) {
            latched_ = latched_.with(inbox_signals::nmi(true));
        }
        return;
    }
    const local_vector_entry entry = pin_entry(wire);
    const bool is_fixed = entry[local_vector_entry::delivery] == delivery_mode::fixed;
    if (is_fixed && entry[local_vector_entry::trigger] == trigger_mode::level) {
        sense(wire);
    } else if (!was_asserted && !entry[local_vector_entry::masked]) {
        deliver_edge(entry);
    }
}

/// A pin whose entry says fixed and level-triggered is accepted while it is asserted, once until
/// EOI.
template <timer_clock Clock>
constexpr void local_apic<Clock>::sense(local_wire wire) {
    const local_vector_entry entry = pin_entry(wire);
    if (!is_asserted(wire) || entry[local_vector_entry::masked] ||
        entry[local_vector_entry::remote_irr] ||
        entry[local_vector_entry::delivery] != delivery_mode::fixed ||
        entry[local_vector_entry::trigger] != trigger_mode::level) {
        return;
    }
    const acceptance became = accept(entry[local_vector_entry::vector], trigger_mode::level);
    if (became == acceptance::accepted || became == acceptance::already_pending) {
        set_remote_irr(wire, 1);
    }
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::set_remote_irr(local_wire wire, std::uint32_t to) {
    const auto n = static_cast<unsigned>(wire);
    remote_irr_ = static_cast<std::uint8_t>((remote_irr_ & ~(1U << n)) | (to << n));
    std::uint32_t& entry = pin_entry(wire).raw;
    entry =
        (entry & ~local_vector_entry::remote_irr.mask) | (to * local_vector_entry::remote_irr.mask);
}

/// EOI: the pins that sent the vector, level-triggered, send it again while they are asserted.
template <timer_clock Clock>
constexpr void local_apic<Clock>::end_level(std::uint8_t vector) {
    for (const local_wire wire : {local_wire::lint0, local_wire::lint1}) {
        const local_vector_entry entry = pin_entry(wire);
        if (entry[local_vector_entry::remote_irr] && entry[local_vector_entry::vector] == vector) {
            set_remote_irr(wire, 0);
            sense(wire);
        }
    }
}

template <timer_clock Clock>
constexpr bool local_apic<Clock>::asks_extint(local_wire wire) const {
    if (!is_asserted(wire)) {
        return false;
    }
    if (current_mode() == apic_mode::disabled) {
        return wire == local_wire::lint0; // the processor's INTR pin then
    }
    const local_vector_entry entry =
        wire == local_wire::lint0 ? page_->lvt_lint0 : page_->lvt_lint1;
    return !entry[local_vector_entry::masked] &&
           entry[local_vector_entry::delivery] == delivery_mode::extint;
}

template <timer_clock Clock>
constexpr bool local_apic<Clock>::extint_pending() const {
    return latched_[inbox_signals::extint] || asks_extint(local_wire::lint0) ||
           asks_extint(local_wire::lint1);
}

template <timer_clock Clock>
constexpr processor_signal local_apic<Clock>::next_signal() {
    if (latched_[inbox_signals::init]) {
        latched_ = latched_.with(inbox_signals::init(false));
        return {signal_kind::init, 0};
    }
    if (waiting_) {
        if (!latched_[inbox_signals::start_up]) {
            return {};
        }
        const std::uint8_t vector = latched_[inbox_signals::start_up_vector];
        latched_ = latched_.with(inbox_signals::start_up(false), inbox_signals::start_up_vector(0));
        waiting_ = false;
        return {signal_kind::start_up, vector};
    }
    if (latched_[inbox_signals::smi]) {
        latched_ = latched_.with(inbox_signals::smi(false));
        return {signal_kind::smi, 0};
    }
    return {};
}

template <timer_clock Clock>
constexpr bool local_apic<Clock>::has_work() const {
    return signal_pending() || (!waiting_ && (pending() != 0 || nmi_pending() || extint_pending()));
}

// The guest's accesses.

/// The bits that software can write in an entry of the local vector table; 0: the register is none.
template <timer_clock Clock>
constexpr std::uint32_t local_apic<Clock>::lvt_bits(std::uint32_t offset) {
    switch (offset) {
    case 0x320: return local_vector_entry::bits_of_timer;
    case 0x2F0:
    case 0x330:
    case 0x340: return local_vector_entry::bits_of_source;
    case 0x350:
    case 0x360: return local_vector_entry::bits_of_pin;
    case 0x370: return local_vector_entry::bits_of_error;
    default: return 0;
    }
}

template <timer_clock Clock>
constexpr std::uint32_t local_apic<Clock>::svr_bits() const {
    constexpr std::uint32_t all = spurious_interrupt_vector::fields.mask_of(access::read_write);
    return identity_.suppression == eoi_broadcast_suppression::offered
               ? all
               : all & ~spurious_interrupt_vector::suppress_eoi_broadcast.mask;
}

template <timer_clock Clock>
constexpr std::uint32_t local_apic<Clock>::read_register(std::uint32_t offset) const {
    if (offset == 0x390) {
        Clock clock = clock_;
        return timer_.current_count(clock);
    }
    return *register_at(*page_, offset);
}

template <timer_clock Clock>
constexpr std::uint64_t local_apic<Clock>::read(std::uint32_t offset, mmio_width size) {
    if (current_mode() != apic_mode::xapic) {
        return all_ones(size);
    }
    synchronize();
    const std::uint32_t first = offset % 16;
    if (offset >= sizeof(register_page) || first + size_of(size) > 4) {
        return 0;
    }
    const std::uint32_t at = offset - first;
    if (at == self_ipi::offset || register_at(*page_, at) == nullptr) {
        note_error(error_status::illegal_register_address.mask);
        return 0;
    }
    return (read_register(at) >> (8 * first)) & all_ones(size);
}

template <timer_clock Clock>
constexpr effect local_apic<Clock>::write(std::uint32_t offset, mmio_width size,
                                          std::uint64_t value) {
    if (current_mode() != apic_mode::xapic) {
        return {};
    }
    synchronize();
    if (latched_[inbox_signals::init] || offset % 16 != 0 || size != mmio_width::dword ||
        offset >= sizeof(register_page)) {
        return {};
    }
    if (offset == self_ipi::offset || register_at(*page_, offset) == nullptr) {
        note_error(error_status::illegal_register_address.mask);
        return {};
    }
    return write_register(offset, static_cast<std::uint32_t>(value));
}

/// What a write does in both modes. Reserved bits are dropped; registers that cannot be written,
/// stay.
template <timer_clock Clock>
constexpr effect local_apic<Clock>::write_register(std::uint32_t offset, std::uint32_t value) {
    switch (offset) {
    case 0x080: write_task_priority(value); break;
    case 0x0B0:
        if (const end_of_interrupt ended = eoi(); ended.vector != 0) {
            return {.kind = effect_kind::end_of_interrupt, .ended = ended};
        }
        break;
    case 0x0D0:
        page_->logical_destination = value & logical_destination::logical_apic_id.mask;
        publish();
        break;
    case 0x0E0:
        page_->destination_format = value | ~destination_format_register::model.mask;
        publish();
        break;
    case 0x0F0:
        page_->svr = spurious_interrupt_vector{value & svr_bits()};
        if (!is_software_enabled()) {
            for (std::uint32_t entry = 0x2F0; entry <= 0x370; entry += 0x10) {
                if (lvt_bits(entry) != 0) {
                    *register_at(*page_, entry) |= local_vector_entry::masked.mask;
                }
            }
            timer_entry_ = page_->lvt_timer;
            plan_timer();
        }
        publish();
        break;
    case 0x280:
        page_->esr = error_status{errors_};
        errors_ = 0;
        break;
    case 0x300:
        page_->icr_low = value & interrupt_command::writable_low;
        return command(
            interrupt_command{(std::uint64_t{page_->icr_high >> 24} << 32) | page_->icr_low},
            destination_format::xapic);
    case 0x310: page_->icr_high = value & 0xFF00'0000; break;
    case 0x2F0:
    case 0x320:
    case 0x330:
    case 0x340:
    case 0x350:
    case 0x360:
    case 0x370: write_entry(offset, value); break;
    case 0x380:
        timer_.set_initial_count(clock_, value);
        page_->initial_count = timer_.initial_count();
        plan_timer();
        break;
    case 0x3E0:
        page_->divide_configuration =
            value & divide_configuration::fields.mask_of(access::read_write);
        timer_.set_divide(clock_, divide_configuration{page_->divide_configuration});
        plan_timer();
        break;
    default: break;
    }
    return {};
}

template <timer_clock Clock>
constexpr void local_apic<Clock>::write_entry(std::uint32_t offset, std::uint32_t value) {
    if (offset == 0x320) {
        service_timer(); // what came due while masked is gone before the mask is
    }
    std::uint32_t& entry = *register_at(*page_, offset);
    entry = value & lvt_bits(offset);
    if (!is_software_enabled()) {
        entry |= local_vector_entry::masked.mask;
    }
    if (offset == 0x320) {
        timer_entry_ = local_vector_entry{entry};
        timer_.set_mode(clock_, timer_entry_[local_vector_entry::mode]);
        page_->initial_count = timer_.initial_count();
        plan_timer();
    } else if (offset == 0x350 || offset == 0x360) {
        const local_wire wire = offset == 0x350 ? local_wire::lint0 : local_wire::lint1;
        const local_vector_entry now{entry};
        const bool is_level = now[local_vector_entry::delivery] == delivery_mode::fixed &&
                              now[local_vector_entry::trigger] == trigger_mode::level;
        // An edge has no remote IRR: a guest that lost the EOI gets the pin back so.
        set_remote_irr(wire, is_level ? (remote_irr_ >> static_cast<unsigned>(wire)) & 1U : 0U);
        sense(wire);
    }
}

/// ICR was written: what is sent, if anything [sdm, Valid Combinations ... Interrupt Command
/// Register].
template <timer_clock Clock>
constexpr effect local_apic<Clock>::command(interrupt_command icr, destination_format format) {
    using field = interrupt_command;
    const delivery_mode delivery = icr[field::delivery];
    const shorthand to = icr[field::destination_shorthand];
    const bool is_vectored =
        delivery == delivery_mode::fixed || delivery == delivery_mode::lowest_priority;
    const bool is_init_deassert = delivery == delivery_mode::init &&
                                  icr[field::trigger] == trigger_mode::level &&
                                  !icr[field::level_assert];
    const bool is_to_self = to == shorthand::self || to == shorthand::all_including_self;
    if (delivery == delivery_mode{3} || delivery == delivery_mode::extint || is_init_deassert ||
        (is_to_self && delivery != delivery_mode::fixed)) {
        return {};
    }
    if (is_vectored && icr[field::vector] < first_legal_vector) {
        note_error(error_status::send_illegal_vector.mask);
        return {};
    }
    return {.kind = effect_kind::send,
            .command = {.delivery = delivery,
                        .vector = icr[field::vector],
                        .trigger = trigger_mode::edge, // whatever the trigger bit says
                        .to = to,
                        .mode = icr[field::mode],
                        .format = format,
                        .destination = icr[field::destination]}};
}

// x2APIC [sdm, x2APIC Register Address Space].

template <timer_clock Clock>
constexpr bool local_apic<Clock>::is_x2apic_readable(std::uint32_t offset) const {
    switch (offset) {
    case 0x090:                          // APR
    case 0x0B0:                          // EOI: write-only
    case 0x0C0:                          // remote read
    case 0x0E0:                          // DFR
    case 0x310:                          // a part of 0x300
    case self_ipi::offset: return false; // write-only
    default: return register_at(*page_, offset) != nullptr;
    }
}

template <timer_clock Clock>
constexpr bool local_apic<Clock>::is_x2apic_writable(std::uint32_t offset) {
    switch (offset) {
    case 0x080:
    case 0x0B0:
    case 0x0F0:
    case 0x280:
    case 0x300:
    case 0x380:
    case 0x3E0:
    case self_ipi::offset: return true;
    default: return lvt_bits(offset) != 0;
    }
}

/// The bits that must be 0 in a write of the MSR.
template <timer_clock Clock>
constexpr std::uint64_t local_apic<Clock>::x2apic_reserved(std::uint32_t offset) const {
    switch (offset) {
    case 0x080:
    case self_ipi::offset: return ~std::uint64_t{0xFF};
    case 0x0B0:
    case 0x280: return ~std::uint64_t{0};
    case 0x0F0: return ~std::uint64_t{svr_bits()};
    // The processors that have it do not demand 0 of the former delivery-status bit of ICR.
    case 0x300: return 0xFFF3'2000;
    case 0x380: return ~std::uint64_t{0xFFFF'FFFF};
    case 0x3E0: return ~std::uint64_t{divide_configuration::fields.mask_of(access::read_write)};
    default:
        return ~std::uint64_t{lvt_bits(offset) | local_vector_entry::delivery_status.mask |
                              (lvt_bits(offset) == local_vector_entry::bits_of_pin
                                   ? local_vector_entry::remote_irr.mask
                                   : 0)};
    }
}

template <timer_clock Clock>
constexpr result<std::uint64_t> local_apic<Clock>::read_msr(std::uint32_t number) {
    synchronize();
    if (number == apic_base::msr) {
        return base_.raw;
    }
    if (number == tsc_deadline_msr) {
        service_timer(); // masked too, it is 0 once it has passed
        return timer_.tsc_deadline();
    }
    const std::uint32_t offset = (number & 0xFF) * 16;
    if ((number & ~0xFFU) != 0x800 || current_mode() != apic_mode::x2apic ||
        !is_x2apic_readable(offset)) {
        return error{errc::absent, number};
    }
    if (offset == interrupt_command::offset) {
        return (std::uint64_t{page_->icr_destination} << 32) | page_->icr_low;
    }
    return std::uint64_t{read_register(offset)};
}

template <timer_clock Clock>
constexpr result<effect> local_apic<Clock>::write_msr(std::uint32_t number, std::uint64_t value) {
    synchronize();
    if (latched_[inbox_signals::init]) {
        return effect{};
    }
    if (number == apic_base::msr) {
        return write_base(value);
    }
    if (number == tsc_deadline_msr) {
        timer_.set_tsc_deadline(value);
        plan_timer();
        return effect{};
    }
    const std::uint32_t offset = (number & 0xFF) * 16;
    if ((number & ~0xFFU) != 0x800 || current_mode() != apic_mode::x2apic ||
        !is_x2apic_writable(offset)) {
        return error{errc::absent, number};
    }
    if ((value & x2apic_reserved(offset)) != 0) {
        return error{errc::malformed, number};
    }
    if (offset == interrupt_command::offset) {
        page_->icr_low = static_cast<std::uint32_t>(value) & interrupt_command::writable_low;
        page_->icr_destination = static_cast<std::uint32_t>(value >> 32);
        return command(interrupt_command{value}, destination_format::x2apic);
    }
    if (offset == self_ipi::offset) {
        return command(
            interrupt_command{interrupt_command::vector(static_cast<std::uint8_t>(value)),
                              interrupt_command::destination_shorthand(shorthand::self)},
            destination_format::x2apic);
    }
    return write_register(offset, static_cast<std::uint32_t>(value));
}

template <timer_clock Clock>
constexpr result<effect> local_apic<Clock>::write_base(std::uint64_t value) {
    const std::uint64_t reserved = apic_base::reserved(identity_.physical_address_width);
    const apic_mode from = current_mode();
    const apic_mode to = apic_base{value}[apic_base::mode];
    if ((value & reserved) != 0 || to == apic_mode{1} ||
        (from == apic_mode::disabled && to == apic_mode::x2apic) ||
        (from == apic_mode::x2apic && to == apic_mode::xapic)) {
        return error{errc::malformed, apic_base::msr};
    }
    const apic_base before = base_;
    base_ = base_.after_write(value);
    if (base_ == before) {
        return effect{};
    }
    if (to == apic_mode::disabled) {
        // "As after power-up" is also what an enabled one starts from.
        power_up_registers();
        latched_ = latched_.with(inbox_signals::extint(false)); // a message in it, as those in IRR
    } else if (from != to) {
        identify(); // to x2APIC mode: the registers stay, but for LDR and the upper half of ICR
        publish();
    }
    return effect{.kind = effect_kind::base_changed};
}

template <timer_clock Clock>
constexpr result<void> local_apic<Clock>::set_cr8(std::uint64_t value) {
    if (value > 0xF) {
        return error{errc::malformed, value};
    }
    synchronize();
    if (!latched_[inbox_signals::init]) {
        write_task_priority(static_cast<std::uint32_t>(value << 4));
    }
    return {};
}

// Save and restore.

template <timer_clock Clock>
constexpr saved_state local_apic<Clock>::save() {
    synchronize();
    saved_state to;
    to.errors = errors_;
    to.base = base_.raw;
    for (std::uint32_t i = 0; i != 64; ++i) {
        if (const std::uint32_t* const word = register_at(*page_, i * 16); word != nullptr) {
            to.registers[i] = *word;
        }
    }
    if (current_mode() == apic_mode::x2apic) {
        to.registers[interrupt_command::offset_high / 16] = page_->icr_destination;
    }
    to.timer = timer_.save(clock_);
    to.latches = latched_.raw;
    to.waiting = waiting_ ? 1 : 0;
    to.asserted = asserted_;
    return to;
}

/// The bits of the register that can be 1.
template <timer_clock Clock>
constexpr std::uint32_t local_apic<Clock>::plausible_bits(apic_mode mode,
                                                          std::uint32_t offset) const {
    if (offset >= 0x100 && offset < 0x280) {
        return offset % 0x80 == 0 ? 0xFFFF'0000 : 0xFFFF'FFFF; // vectors 0..15 are illegal
    }
    switch (offset) {
    case 0x080:
    case 0x0A0: return 0xFF;
    case 0x0F0: return svr_bits();
    case 0x280: return reported_errors;
    case 0x300: return interrupt_command::writable_low;
    case 0x310: return mode == apic_mode::x2apic ? 0xFFFF'FFFF : 0xFF00'0000;
    case 0x380: return 0xFFFF'FFFF;
    case 0x3E0: return divide_configuration::fields.mask_of(access::read_write);
    case 0x350:
    case 0x360: return local_vector_entry::bits_of_pin | local_vector_entry::remote_irr.mask;
    default: return lvt_bits(offset);
    }
}

template <timer_clock Clock>
constexpr result<void> local_apic<Clock>::restore(const saved_state& from) {
    using entry = local_vector_entry;
    const error nowhere{errc::malformed, ~std::uint64_t{0}};
    const apic_base base{from.base};
    const apic_mode mode = base[apic_base::mode];
    constexpr std::uint64_t latches = inbox_signals::nmi.mask | inbox_signals::smi.mask |
                                      inbox_signals::init.mask | inbox_signals::start_up.mask |
                                      inbox_signals::start_up_vector.mask |
                                      inbox_signals::extint.mask;
    if (from.version != saved_state::current_version || (from.errors & ~reported_errors) != 0 ||
        (from.latches & ~latches) != 0 || from.waiting > 1 ||
        (inbox_signals{from.latches}[inbox_signals::start_up] && from.waiting == 0) ||
        from.asserted > 3 ||
        (from.base & apic_base::reserved(identity_.physical_address_width)) != 0 ||
        mode == apic_mode{1} ||
        base[apic_base::bootstrap_processor] != base_[apic_base::bootstrap_processor]) {
        return nowhere;
    }
    const auto word = [&](std::uint32_t offset) { return from.registers[offset / 16]; };
    const bool is_x2apic = mode == apic_mode::x2apic;
    const bool is_enabled = (word(0x0F0) & spurious_interrupt_vector::software_enabled.mask) != 0;
    for (std::uint32_t offset = 0; offset != 0x400; offset += 0x10) {
        const std::uint32_t value = word(offset);
        bool is_good = (value & ~plausible_bits(mode, offset)) == 0;
        switch (offset) {
        case 0x020:
            is_good = value == (is_x2apic ? identity_.apic_id : identity_.apic_id << 24);
            break;
        case 0x030: is_good = value == page_->version.raw; break;
        case 0x0D0:
            is_good = is_x2apic ? value == x2apic_logical_destination::of(identity_.apic_id).raw
                                : (value & ~logical_destination::logical_apic_id.mask) == 0;
            break;
        case 0x0E0:
            is_good = (value | destination_format_register::model.mask) == 0xFFFF'FFFF;
            break;
        case 0x350:
        case 0x360:
            is_good = is_good && (!entry{value}[entry::remote_irr] ||
                                  (entry{value}[entry::delivery] == delivery_mode::fixed &&
                                   entry{value}[entry::trigger] == trigger_mode::level));
            break;
        default: break;
        }
        if (lvt_bits(offset) != 0 && !is_enabled && !entry{value}[entry::masked]) {
            is_good = false;
        }
        if (!is_good) {
            return error{errc::malformed, offset};
        }
    }
    timer restored = timer_;
    if (const result<void> taken = restored.restore(clock_, from.timer); !taken) {
        return nowhere;
    }
    timer told = restored; // what the registers say of it changes nothing
    told.set_mode(clock_, entry{word(0x320)}[entry::mode]);
    told.set_divide(clock_, divide_configuration{word(0x3E0)});
    if (told != restored || restored.initial_count() != word(0x380)) {
        return nowhere;
    }

    timer_ = restored;
    base_ = base;
    errors_ = from.errors;
    latched_ = inbox_signals{from.latches};
    waiting_ = from.waiting != 0;
    asserted_ = static_cast<std::uint8_t>(from.asserted);
    for (std::uint32_t offset = 0; offset != 0x400; offset += 0x10) {
        if (std::uint32_t* const to = register_at(*page_, offset);
            to != nullptr && to != &page_->ppr.raw) {
            *to = word(offset);
        }
    }
    page_->icr_destination = is_x2apic ? page_->icr_high : 0;
    page_->icr_high = is_x2apic ? 0 : page_->icr_high;
    remote_irr_ = static_cast<std::uint8_t>((page_->lvt_lint0[entry::remote_irr] ? 1U : 0U) |
                                            (page_->lvt_lint1[entry::remote_irr] ? 2U : 0U));
    timer_entry_ = page_->lvt_timer;
    after_hardware();
    publish();
    return {};
}

// With a processor that virtualizes the APIC itself.

template <timer_clock Clock>
constexpr void local_apic<Clock>::after_hardware() {
    const std::uint32_t illegal = page_->irr.words[0].bits & 0xFFFF;
    page_->irr.words[0].bits &= 0xFFFF'0000;
    irr_words_ = words_in_use(page_->irr);
    isr_words_ = words_in_use(page_->isr);
    requesting_ = highest(page_->irr, irr_words_);
    servicing_ = highest(page_->isr, isr_words_);
    page_->self_ipi = 0;            // the processor stores the guest's vector there
    page_->icr_high &= 0xFF00'0000; // the processor stores what the guest writes, and does not exit
    update_processor_priority();
    if (illegal != 0 && is_software_enabled()) {
        note_error(error_status::receive_illegal_vector.mask);
    }
    plan_timer();
}

template <timer_clock Clock>
constexpr effect local_apic<Clock>::apic_write(std::uint32_t offset) {
    // The write may be of one or two bytes anywhere in the register; the page has what it made of it.
    offset &= ~std::uint32_t{0xF};
    std::uint32_t* const word =
        offset >= sizeof(register_page) ? nullptr : register_at(*page_, offset);
    const std::uint32_t value = word == nullptr ? 0 : *word;
    after_hardware();
    if (word == nullptr) {
        return {};
    }
    switch (offset) { // what the register held has been overwritten
    case 0x020: page_->id.raw = identity_.apic_id << 24; break;
    case 0x0B0: page_->eoi = 0; break;
    default: break;
    }
    synchronize();
    if (latched_[inbox_signals::init]) {
        power_up_registers();
        return {};
    }
    if (offset == self_ipi::offset) {
        return command(
            interrupt_command{interrupt_command::vector(static_cast<std::uint8_t>(value)),
                              interrupt_command::destination_shorthand(shorthand::self)},
            destination_format::x2apic);
    }
    return write_register(offset, value);
}

template <timer_clock Clock>
constexpr effect local_apic<Clock>::virtualized_eoi(std::uint8_t vector) {
    after_hardware();
    return {.kind = effect_kind::end_of_interrupt, .ended = ended(vector)};
}

} // namespace pt::lapic
