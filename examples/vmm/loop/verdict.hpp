// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../pc/run_end.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// The guest by which the whole run ends: the first one that went wrong or has another exit code than
/// guest 0, or guest 0. Of that it prints the last line of the log, as run.py reads it. `pc_of`: a
/// callable that gives the virtual_pc of guest 0, 1, ... `count` - 1. `line`: as for virtual_pc::dump().
template <class PcOf, class Line>
auto& verdict(std::size_t count, PcOf&& pc_of, Line&& line) {
    std::size_t decides = 0;
    for (std::size_t i = count; i-- != 0;) {
        if (pc_of(i).end() != pc::run_end::exit_port ||
            pc_of(i).exit_code() != pc_of(0).exit_code()) {
            decides = i;
        }
    }
    auto& guest = pc_of(decides);
    if (guest.end() == pc::run_end::exit_port) {
        line("end of run: status ", std::uint64_t{guest.exit_code()});
    } else if (guest.end() == pc::run_end::time_limit) {
        line("end of run: time limit");
    } else {
        const char number[] = {static_cast<char>('0' + decides % 10),
                               '\0'}; // as its console has it
        line("end of run: guest ", &number[0], " ", pc::explain(guest.end()));
    }
    return guest;
}

} // namespace vmm
