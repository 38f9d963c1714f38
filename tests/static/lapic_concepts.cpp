// SPDX-License-Identifier: BSL-1.0
// What may stand where a policy of the local APIC's neighbours is asked for: each concept with its least
// model, and a near miss for each member.

#include "pt/core/archetype.hpp"
#include "pt/core/mutex.hpp"
#include "pt/lapic/bus.hpp"
#include "pt/lapic/external_controller.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/lapic/injector.hpp"
#include "pt/lapic/interrupt_lines.hpp"
#include "pt/lapic/level_route.hpp"
#include "pt/lapic/local_apic.hpp"
#include "pt/lapic/vcpu_set.hpp"

#include <cstdint>
#include <type_traits>

namespace {

using namespace pt::lapic;
using u8 = std::uint8_t;
using u32 = std::uint32_t;

template <class Archetype>
struct not_copied : Archetype {
    not_copied() = default;
    not_copied(const not_copied&) = delete;
};

// vcpu_set
namespace of_vcpu_set {
using least = archetype::vcpu_set;
struct no_count : least {
    u32 count() = delete;
};
struct count_64 : least {
    std::uint64_t count();
};
struct no_inbox : least {
    pt::lapic::inbox& inbox(u32) = delete;
};
struct inbox_copied : least {
    pt::lapic::inbox inbox(u32);
};
struct inbox_const : least {
    const pt::lapic::inbox& inbox(u32);
};
struct no_notify : least {
    void notify(u32, notification) = delete;
};
struct notify_answers : least {
    bool notify(u32, notification);
};
static_assert(vcpu_set<least> && !vcpu_set<not_copied<least>> && !vcpu_set<int>);
static_assert(!vcpu_set<no_count> && !vcpu_set<count_64> && !vcpu_set<no_inbox> &&
              !vcpu_set<inbox_copied> && !vcpu_set<inbox_const> && !vcpu_set<no_notify> &&
              !vcpu_set<notify_answers>);
} // namespace of_vcpu_set

// external_controller
namespace of_external_controller {
using least = archetype::external_controller;
struct no_acknowledge : least {
    u8 acknowledge() = delete;
};
struct acknowledge_int : least {
    int acknowledge();
};
static_assert(external_controller<least> && external_controller<no_external_controller>);
static_assert(!external_controller<not_copied<least>> && !external_controller<no_acknowledge> &&
              !external_controller<acknowledge_int>);
} // namespace of_external_controller

// host_lines, guest_line
namespace of_lines {
using least_host = archetype::host_lines;
struct no_mask : least_host {
    void mask(u32) = delete;
};
struct no_unmask : least_host {
    void unmask(u32) = delete;
};
struct mask_answers : least_host {
    bool mask(u32);
};
struct unmask_of_nothing : least_host {
    void unmask();
};
static_assert(host_lines<least_host> && !host_lines<not_copied<least_host>>);
static_assert(!host_lines<no_mask> && !host_lines<no_unmask> && !host_lines<mask_answers> &&
              !host_lines<unmask_of_nothing>);

using least_guest = archetype::guest_line;
struct no_set : least_guest {
    void set(wire_level) = delete;
};
struct set_bool : least_guest {
    void set(bool); // which level is true?
};
struct set_answers : least_guest {
    bool set(wire_level);
};
static_assert(guest_line<least_guest> && !guest_line<not_copied<least_guest>>);
static_assert(!guest_line<no_set> && !guest_line<set_bool> && !guest_line<set_answers>);
} // namespace of_lines

// interrupt_controller: the local APIC, by reference; it need not be copied.
struct no_time {
    constexpr std::uint64_t ticks() { return 0; }
    constexpr std::uint64_t tsc() { return 0; }
};
using apic_type = local_apic<no_time>;

/// Exactly what the injector may use.
struct least_controller {
    least_controller() = default;
    least_controller(const least_controller&) = delete;
    void synchronize() {}
    u8 pending() const { return 0; }
    u8 acknowledge() { return 0; }
    bool nmi_pending() const { return false; }
    void take_nmi() {}
    bool extint_pending() const { return false; }
    void take_extint() {}
    bool signal_pending() const { return false; }
    bool waiting_for_start_up() const { return false; }
    bool has_only_vectors() const { return true; }
    u8 tpr_threshold() const { return 0; }
    const register_page& registers() const { return page; }
    register_page page{};
};
static_assert(interrupt_controller<apic_type> && interrupt_controller<least_controller>);

namespace of_interrupt_controller {
using least = least_controller;
struct no_synchronize : least {
    void synchronize() = delete;
};
struct no_pending : least {
    u8 pending() const = delete;
};
struct pending_changes : least {
    u8 pending();
};
struct no_acknowledge : least {
    u8 acknowledge() = delete;
};
struct no_nmi_pending : least {
    bool nmi_pending() const = delete;
};
struct no_take_nmi : least {
    void take_nmi() = delete;
};
struct no_extint_pending : least {
    bool extint_pending() const = delete;
};
struct no_take_extint : least {
    void take_extint() = delete;
};
struct no_signal_pending : least {
    bool signal_pending() const = delete;
};
struct no_waiting_for_start_up : least {
    bool waiting_for_start_up() const = delete;
};
struct no_has_only_vectors : least {
    bool has_only_vectors() const = delete;
};
struct no_tpr_threshold : least {
    u8 tpr_threshold() const = delete;
};
struct registers_copied : least {
    register_page registers() const;
};
static_assert(!interrupt_controller<no_synchronize> && !interrupt_controller<no_pending> &&
              !interrupt_controller<pending_changes> && !interrupt_controller<no_acknowledge> &&
              !interrupt_controller<no_nmi_pending> && !interrupt_controller<no_take_nmi> &&
              !interrupt_controller<no_extint_pending> && !interrupt_controller<no_take_extint> &&
              !interrupt_controller<no_signal_pending> &&
              !interrupt_controller<no_waiting_for_start_up> &&
              !interrupt_controller<no_has_only_vectors> &&
              !interrupt_controller<no_tpr_threshold> && !interrupt_controller<registers_copied>);
} // namespace of_interrupt_controller

template <class Vcpu, class Apic, class Pic = no_external_controller>
concept injectable = requires {
    typename injector<Vcpu, Apic, Pic>;
};
struct answers_int : pt::archetype::vcpu_state {
    int can_take_interrupt() { return 1; }
};
static_assert(injectable<pt::archetype::vcpu_state, apic_type>);
static_assert(!injectable<answers_int, apic_type> && !injectable<int, apic_type>);
static_assert(!injectable<pt::archetype::vcpu_state, int>);
static_assert(!injectable<pt::archetype::vcpu_state, apic_type, int>);

// Pending interrupts and the state of lines are in one place.
template <class T>
constexpr bool is_in_one_place =
    !std::is_copy_constructible_v<T> && !std::is_copy_assignable_v<T> &&
    !std::is_move_constructible_v<T> && !std::is_move_assignable_v<T>;
static_assert(is_in_one_place<apic_type> && is_in_one_place<bus<archetype::vcpu_set>> &&
              is_in_one_place<injector<pt::archetype::vcpu_state, apic_type>> &&
              is_in_one_place<level_route<archetype::host_lines, archetype::guest_line>> &&
              is_in_one_place<host_vector_routes>);

// An empty policy costs nothing.
static_assert(std::is_empty_v<archetype::vcpu_set> && std::is_empty_v<archetype::host_lines> &&
              std::is_empty_v<archetype::guest_line> && std::is_empty_v<no_external_controller>);
static_assert(sizeof(bus<archetype::vcpu_set>) == sizeof(u32));
static_assert(sizeof(level_route<archetype::host_lines, archetype::guest_line>) == 16);
static_assert(sizeof(host_vector_routes) == 2048);

} // namespace

// Each needs no more of its policies than their concepts say.
template class pt::lapic::bus<pt::lapic::archetype::vcpu_set>;
template class pt::lapic::level_route<pt::lapic::archetype::host_lines,
                                      pt::lapic::archetype::guest_line, pt::archetype::mutex>;
template class pt::lapic::injector<pt::archetype::vcpu_state, least_controller>;
template class pt::lapic::injector<pt::archetype::vcpu_state, least_controller,
                                   pt::lapic::archetype::external_controller>;
