// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/paging/stale_set.hpp"

#include <concepts>

namespace pt::assign {

/// The virtual processors of one guest, as far as its tables and bitmaps concern them.
///
/// - invalidate(stale): as paging::invalidator: no processor uses a translation of before any more
///   (INVEPT on each that has run the guest, or what AMD's do with an address space id).
/// - pause(): returns when every virtual processor but the caller's own is outside of the guest,
///   and none enters it before resume(). The processor consults the I/O bitmap at any IN or OUT, so
///   that it may change only then [sdm]. Both are empty with one virtual processor.
///
/// All are called with locks held. A processor that is in the VMM is outside of the guest, and may be
/// waiting for one of these: neither invalidate() nor pause() waits for it.
template <class P>
concept guest_processors = policy<P> && paging::invalidator<P, gpa> && requires(P& processors) {
    { processors.pause() } -> std::same_as<void>;
    { processors.resume() } -> std::same_as<void>;
};

namespace archetype {

/// The least model: processors that keep no translations, and of which none runs.
struct guest_processors {
    constexpr result<void> invalidate(const paging::stale_set<gpa>&) { return {}; }
    constexpr void pause() {}
    constexpr void resume() {}
};
static_assert(assign::guest_processors<guest_processors>);

} // namespace archetype

} // namespace pt::assign
