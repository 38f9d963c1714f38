// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/requester.hpp"

#include <concepts>

namespace pt::assign {

/// How the devices of one guest reach its memory: a device puts the number of a guest-physical
/// address on the bus. (remapped_dma where there is an IOMMU, unprotected_dma where there is none.)
///
/// - map(memory, to): devices reach the host memory from `to` on at these addresses, for reading and
///   writing. With an error nothing is mapped.
/// - unmap(memory): what is mapped there is not any more. After a success no device of the guest
///   reaches it. When is_owed(error.code) it is not mapped either, but may be reached until settle()
///   succeeds; with any other error it is mapped as before.
///   What one map() has mapped can be unmapped as a whole: with such an error, or none.
/// - attach(function): the function reaches what is mapped, from now on. With an error it reaches
///   nothing, or what it did before. Once more is a success. errc::refused with the source id where
///   another attachment has it: requests of both look alike, so that they cannot be of two guests.
/// - block(function): the function reaches nothing. Once more is a success. On an error it may reach
///   still what it did; again.
/// - release(function): as block(), and the attachment may go away. Nothing to do is a success.
/// - settle(): makes the hardware forget what it is owed to forget. Only after an error is there
///   anything to do.
///
/// `isolates`: whether a function reaches nothing else.
template <class D>
concept dma_path = policy<D> &&
    std::constructible_from<typename D::attachment_type, vtd::requester> &&
    requires(D& dma, range<gpa> memory, hpa to, typename D::attachment_type& function) {
    { D::isolates } -> std::same_as<const bool&>;
    { dma.map(memory, to) } -> std::same_as<result<void>>;
    { dma.unmap(memory) } -> std::same_as<result<void>>;
    { dma.attach(function) } -> std::same_as<result<void>>;
    { dma.block(function) } -> std::same_as<result<void>>;
    { dma.release(function) } -> std::same_as<result<void>>;
    { dma.settle() } -> std::same_as<result<void>>;
};

/// Whether it is the error of hardware that did not do its part, so that a dma_path owes it
/// something: errc::time_out, errc::hardware_fault, and errc::absent, for hardware that is gone.
[[nodiscard]] constexpr bool is_owed(errc code) {
    return code == errc::time_out || code == errc::hardware_fault || code == errc::absent;
}

namespace archetype {

/// The least model: devices reach nothing.
struct dma_path {
    struct attachment_type {
        explicit constexpr attachment_type(vtd::requester) {}
    };
    static constexpr bool isolates = true;

    constexpr result<void> map(range<gpa> memory, hpa) {
        return error{errc::refused, memory.first().raw};
    }
    constexpr result<void> unmap(range<gpa>) { return {}; }
    constexpr result<void> attach(attachment_type&) { return {}; }
    constexpr result<void> block(attachment_type&) { return {}; }
    constexpr result<void> release(attachment_type&) { return {}; }
    constexpr result<void> settle() { return {}; }
};
static_assert(assign::dma_path<dma_path>);

} // namespace archetype

} // namespace pt::assign
