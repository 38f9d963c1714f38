// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/vector_source.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/pci/interrupt_message.hpp"
#include "pt/vtd/requester.hpp"

#include <concepts>
#include <cstdint>

namespace pt::assign {

/// How the messages of one function (MSI, MSI-X) reach the host's processor. (remapped_interrupts
/// where VT-d remaps interrupts, compatibility_interrupts where nothing does.)
///
/// - block_type: what the function has for its vectors, one host vector each. Made without arguments
///   it is empty: vectors().count is 0. It is the caller's, who gives it back by close().
/// - open(who, count, block): `count` vectors for the function, from now until close(); 0 are a
///   success, and empty. What an earlier error has left in the block is closed first. With an error
///   the block is empty, unless hardware did not answer: then it keeps what that may still use, lets
///   nothing through, and is to be closed.
/// - close(who, block): none of them any more. The block is empty after a success, and was before, if
///   there was nothing to do. On an error, again.
/// - msi(block, vectors_log2): what an MSI capability is to be given that uses 2^vectors_log2 vectors
///   from the first on; there are so many. Vector i raises host vector i of the block.
/// - msi_x(block, vector): what an entry of the MSI-X table is to be given.
///
/// `isolates`: whether the function can raise no other vector of the host, and nobody else these.
template <class P>
concept interrupt_path = policy<P> && policy<typename P::block_type> &&
    std::default_initializable<typename P::block_type> &&
    requires(P& path, const vtd::requester& who, std::uint16_t count, typename P::block_type& block,
             const typename P::block_type& opened, unsigned n) {
    { P::isolates } -> std::same_as<const bool&>;
    { opened.vectors() } -> std::same_as<host_vector_block>;
    { path.open(who, count, block) } -> std::same_as<result<void>>;
    { path.close(who, block) } -> std::same_as<result<void>>;
    { path.msi(opened, n) } -> std::same_as<pci::interrupt_message>;
    { path.msi_x(opened, n) } -> std::same_as<pci::interrupt_message>;
};

namespace archetype {

/// The least model: no function has vectors.
struct interrupt_path {
    struct block_type {
        [[nodiscard]] constexpr host_vector_block vectors() const { return {}; }
    };
    static constexpr bool isolates = true;

    constexpr result<void> open(const vtd::requester&, std::uint16_t count, block_type&) {
        return count == 0 ? result<void>{} : error{errc::out_of_range, count};
    }
    constexpr result<void> close(const vtd::requester&, block_type&) { return {}; }
    constexpr pci::interrupt_message msi(const block_type&, unsigned) { return {}; }
    constexpr pci::interrupt_message msi_x(const block_type&, unsigned) { return {}; }
};
static_assert(assign::interrupt_path<interrupt_path>);

} // namespace archetype

} // namespace pt::assign
