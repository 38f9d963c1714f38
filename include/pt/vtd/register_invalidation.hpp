// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"
#include "pt/vtd/invalidation.hpp"
#include "pt/vtd/register_window.hpp"
#include "pt/vtd/registers.hpp"

#include <cstdint>

namespace pt::vtd {

/// Invalidation by register [vt-d, "Register-based Invalidation Interface"]: an invalidation port
/// for the context cache and the IOTLB, which is all that legacy mode without interrupt remapping
/// needs. submit() carries the request out and waits for its end. Units of architecture version 6
/// and later have nothing but the queue.
///
/// The registers are one request long and belong to the unit: one processor at a time.
template <mmio_io Mmio, clock Clock>
class register_invalidation {
public:
    explicit constexpr register_invalidation(register_window<Mmio, Clock> window)
        : window_{window} {}

    [[nodiscard]] constexpr capability capabilities() const { return window_.capabilities(); }
    [[nodiscard]] constexpr extended_capability extended_capabilities() const {
        return window_.extended_capabilities();
    }

    /// errc::not_supported with the descriptor's first word when only the queue can do this, or
    /// with the offset of VER when only the queue can do anything; errc::busy while the queue is
    /// on, because the unit then ignores the registers; errc::time_out with the register that did
    /// not answer; errc::hardware_fault with the one that did less than it was asked for, where
    /// CCMD or IOTLB; errc::absent when the unit is gone.
    constexpr result<void> submit(const invalidation_descriptor& request) {
        switch (type_of(request)) {
        case descriptor::type::context_cache:
            return invalidate_context(descriptor::context_cache{request.word[0]});
        case descriptor::type::iotlb:
            return invalidate_iotlb(descriptor::iotlb_low{request.word[0]},
                                    descriptor::iotlb_high{request.word[1]});
        default: return error{errc::not_supported, request.word[0]};
        }
    }
    /// Nothing is left to wait for.
    constexpr result<void> complete() { return {}; }

private:
    /// From this version on, the registers are gone.
    static constexpr std::uint8_t queue_only = 6;

    constexpr result<void> ready() {
        const version implemented = window_.template read<version>();
        const result<global_status> now = window_.present_status(); // if so, VER was true
        if (!now) {
            return now.error();
        }
        if ((*now)[global_status::queued_invalidation_enabled]) {
            return error{errc::busy, global_status::offset};
        }
        if (implemented[version::major] >= queue_only) {
            return error{errc::not_supported, version::offset};
        }
        // A request that timed out may be under way still. No register may change before it is
        // over, and its end must not be taken for the end of this one.
        if (const result<void> over = window_.finish_invalidations(); !over) {
            return over;
        }
        return window_.flush_write_buffer();
    }

    constexpr result<void> invalidate_context(descriptor::context_cache asked) {
        using d = descriptor::context_cache;
        if (asked[d::granularity] == context_granularity::none) {
            return error{errc::not_supported, asked.raw};
        }
        if (const result<void> is_ready = ready(); !is_ready) {
            return is_ready;
        }
        window_.write(context_command{context_command::invalidate(true),
                                      context_command::requested(asked[d::granularity]),
                                      context_command::function_mask(asked[d::function_mask]),
                                      context_command::source_id(asked[d::source_id]),
                                      context_command::domain_id(asked[d::domain_id])});
        const result<context_command> answer = context_answer();
        if (!answer) {
            return answer.error();
        }
        if (!reaches((*answer)[context_command::done], asked[d::granularity])) {
            return error{errc::hardware_fault, context_command::offset};
        }
        return {};
    }

    constexpr result<void> invalidate_iotlb(descriptor::iotlb_low asked,
                                            descriptor::iotlb_high pages) {
        using d = descriptor::iotlb_low;
        using h = descriptor::iotlb_high;
        if (asked[d::granularity] == iotlb_granularity::none) {
            return error{errc::not_supported, asked.raw};
        }
        if (const result<void> is_ready = ready(); !is_ready) {
            return is_ready;
        }
        if (asked[d::granularity] == iotlb_granularity::page) {
            window_.write_at(window_.invalidate_address_offset(),
                             invalidate_address{
                                 invalidate_address::address(pages[h::address]),
                                 invalidate_address::invalidation_hint(pages[h::invalidation_hint]),
                                 invalidate_address::address_mask(pages[h::address_mask])});
        }
        window_.write_at(window_.iotlb_invalidate_offset(),
                         iotlb_invalidate{iotlb_invalidate::invalidate(true),
                                          iotlb_invalidate::requested(asked[d::granularity]),
                                          iotlb_invalidate::drain_reads(asked[d::drain_reads]),
                                          iotlb_invalidate::drain_writes(asked[d::drain_writes]),
                                          iotlb_invalidate::domain_id(asked[d::domain_id])});
        const result<iotlb_invalidate> answer = iotlb_answer();
        if (!answer) {
            return answer.error();
        }
        if (!reaches((*answer)[iotlb_invalidate::done], asked[d::granularity])) {
            return error{errc::hardware_fault, window_.iotlb_invalidate_offset()};
        }
        return {};
    }

    /// The register once no request is under way.
    constexpr result<context_command> context_answer() {
        context_command answer;
        const result<void> over = window_.wait(context_command::offset, [&] {
            answer = window_.template read<context_command>();
            return !answer[context_command::invalidate];
        });
        if (!over) {
            return over.error();
        }
        return answer;
    }
    constexpr result<iotlb_invalidate> iotlb_answer() {
        const std::uint32_t at = window_.iotlb_invalidate_offset();
        iotlb_invalidate answer;
        const result<void> over = window_.wait(at, [&] {
            answer = window_.template read_at<iotlb_invalidate>(at);
            return !answer[iotlb_invalidate::invalidate];
        });
        if (!over) {
            return over.error();
        }
        return answer;
    }

    /// Whether the unit did as much as it was asked for; it may do more. None: it refused.
    template <class Granularity>
    static constexpr bool reaches(Granularity done, Granularity asked) {
        return done != Granularity::none && done <= asked;
    }

    register_window<Mmio, Clock> window_;
};

} // namespace pt::vtd
