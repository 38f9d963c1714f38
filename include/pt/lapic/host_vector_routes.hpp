// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/atomic.hpp"
#include "pt/core/reg.hpp"
#include "pt/core/result.hpp"
#include "pt/lapic/message.hpp"

#include <cstdint>

namespace pt::lapic {

/// Which message of a guest stands for a vector of the host: the way of an edge-triggered interrupt (MSI,
/// MSI-X) of an assigned device. The device writes the host's vector, the CPU that it interrupts takes an
/// external-interrupt exit, finds the message here, and gives it to the guest's bus. 2 KiB.
///
/// Any CPU may find while another binds: each route is one word, so that it is the old message or the new
/// one and never parts of both. A change of the table itself is made by one CPU at a time for each vector.
class host_vector_routes {
public:
    /// Vectors below belong to the exceptions of the host's processors.
    static constexpr std::uint8_t first_vector = 32;

    // A device of the guest refers to this table; a copy would not follow it.
    constexpr host_vector_routes() = default;
    host_vector_routes(const host_vector_routes&) = delete;
    host_vector_routes& operator=(const host_vector_routes&) = delete;

    /// From now on `host_vector` is `to` for the guest. errc::out_of_range with the vector: it is below
    /// first_vector. errc::busy: it is bound already. errc::malformed: `to` has a shorthand, which only an
    /// IPI can have.
    constexpr result<void> bind(std::uint8_t host_vector, const message& to) {
        if (host_vector < first_vector) {
            return error{errc::out_of_range, host_vector};
        }
        if (is_bound(host_vector)) {
            return error{errc::busy, host_vector};
        }
        return store(host_vector, to);
    }

    /// The guest has changed the message. errc::absent with the vector: it is not bound. errc::malformed
    /// as above.
    constexpr result<void> rebind(std::uint8_t host_vector, const message& to) {
        if (!is_bound(host_vector)) {
            return error{errc::absent, host_vector};
        }
        return store(host_vector, to);
    }

    /// The vector is not the guest's any more. errc::absent with the vector: it is not bound. A CPU that
    /// has found the message just before may still deliver it.
    constexpr result<void> unbind(std::uint8_t host_vector) {
        if (!is_bound(host_vector)) {
            return error{errc::absent, host_vector};
        }
        atomic::store(&routes_[host_vector], std::uint64_t{0});
        return {};
    }

    /// What `host_vector` is for the guest. errc::absent with the vector: nothing; the interrupt is the
    /// host's own, or came after unbind().
    [[nodiscard]] constexpr result<message> find(std::uint8_t host_vector) const {
        const route found{atomic::load(&routes_[host_vector])};
        if (!found[route::bound]) {
            return error{errc::absent, host_vector};
        }
        return message{
            .delivery = found[route::delivery],
            .vector = found[route::vector],
            .trigger = found[route::trigger],
            .mode = found[route::mode],
            .format = found[route::format],
            .destination = found[route::destination],
        };
    }

private:
    /// A message without its shorthand, in one word.
    struct route : reg<route, std::uint64_t> {
        using reg::reg;
        // clang-format off
        static constexpr bits<63, 32, std::uint32_t>      destination{};
        static constexpr bits<31, 31, bool>               bound{};
        static constexpr bits<13, 13, destination_format> format{};
        static constexpr bits<12, 12, destination_mode>   mode{};
        static constexpr bits<11, 11, trigger_mode>       trigger{};
        static constexpr bits<10,  8, delivery_mode>      delivery{};
        static constexpr bits< 7,  0, std::uint8_t>       vector{};
        // clang-format on
        static constexpr field_list fields{destination, bound,    format, mode,
                                           trigger,     delivery, vector};
    };

    [[nodiscard]] constexpr bool is_bound(std::uint8_t host_vector) const {
        return route{atomic::load_relaxed(&routes_[host_vector])}[route::bound];
    }

    constexpr result<void> store(std::uint8_t host_vector, const message& to) {
        if (to.to != shorthand::none) {
            return error{errc::malformed, host_vector};
        }
        const route word{route::destination(to.destination),
                         route::bound(true),
                         route::format(to.format),
                         route::mode(to.mode),
                         route::trigger(to.trigger),
                         route::delivery(to.delivery),
                         route::vector(to.vector)};
        atomic::store(&routes_[host_vector], word.raw);
        return {};
    }

    std::uint64_t routes_[256]{};
};

} // namespace pt::lapic
