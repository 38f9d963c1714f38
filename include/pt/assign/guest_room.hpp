// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/assign/claims.hpp"
#include "pt/core/address.hpp"
#include "pt/lapic/host_vector_routes.hpp"
#include "pt/vmx/io_bitmap.hpp"
#include "pt/vmx/shared_io_bitmap.hpp"

#include <cstddef>

namespace pt::assign {

/// Where a guest keeps who has which part of its space, which ports are open, and which host
/// vectors bring its interrupts: references to what is the VMM's and this guest's alone.
struct guest_room {
    claims<gpa>& space;
    claims<io_port>& port_space; ///< the ports that the VMM plays
    vmx::shared_io_bitmap& ports;
    lapic::host_vector_routes& routes;
};

/// Such a room, for so many parts of the space (memory, played devices, BARs), so many ranges of
/// ports that the VMM plays, and so many I/O BARs that are open at the same time.
///
///     pt::assign::guest_lists<32, 32, 16> lists{bitmap};
///     pt::assign::guest<my_vmm> guest{{..., .room = lists.room(), ...}};
template <std::size_t Places, std::size_t PlayedPorts, std::size_t OpenPorts>
class guest_lists {
public:
    /// All ports of the bitmap exit, but for those that the guest's I/O BARs will open.
    explicit constexpr guest_lists(vmx::io_bitmap bitmap) : ports_{bitmap, open_, OpenPorts} {}
    guest_lists(const guest_lists&) = delete; // all of it points to each other
    guest_lists& operator=(const guest_lists&) = delete;

    [[nodiscard]] constexpr guest_room room() { return {space_, port_space_, ports_, routes_}; }

private:
    claim<gpa> places_[Places]{};
    claim<io_port> played_[PlayedPorts]{};
    vmx::kept_ports open_[OpenPorts]{};
    claims<gpa> space_{places_};
    claims<io_port> port_space_{played_};
    vmx::shared_io_bitmap ports_;
    lapic::host_vector_routes routes_{};
};

} // namespace pt::assign
