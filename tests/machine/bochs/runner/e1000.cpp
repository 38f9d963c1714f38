// SPDX-License-Identifier: BSL-1.0
//
// Which subjects run on Bochs with a network controller, and what went over the wire.
#include "../../kernel/runner/kernels.hpp"
#include "bochs.hpp"
#include "meant_frames.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include <catch2/catch_test_macros.hpp>

#ifndef PT_KERNEL_DIRECTORY // only the build knows; who only reads the sources need not
#define PT_KERNEL_DIRECTORY "."
#endif

namespace {

using namespace std::chrono_literals;
using runner::compilers;
using runner::meant_frame;
using runner::network;
using runner::run;

run boot(const std::string& compiler, const std::string& subject, network& connected_to) {
    return runner::boot_bochs(PT_KERNEL_DIRECTORY "/boot_sector.bin",
                              runner::kernel_file(compiler, "bin"), "subject=" + subject, 120s,
                              &connected_to);
}

/// The first place where two frames differ, for who reads it.
std::string difference(const std::string& sent, const std::string& meant) {
    const auto [a, b] = std::mismatch(sent.begin(), sent.end(), meant.begin(), meant.end());
    const auto shown = [](auto at, auto end) {
        return at == end ? std::string{"the end"}
                         : std::to_string(static_cast<unsigned>(static_cast<unsigned char>(*at)));
    };
    return "at byte " + std::to_string(a - sent.begin()) + " there is " + shown(a, sent.end()) +
           " where " + shown(b, meant.end()) + " is meant; lengths are " +
           std::to_string(sent.size()) + " and " + std::to_string(meant.size());
}

/// Adds what went over the wire to the checks that the kernel has made.
void compare(run& done, const std::vector<std::string>& sent) {
    const std::vector<meant_frame> meant = runner::meant_frames();
    std::string why;
    for (std::size_t i = 0; i < std::min(sent.size(), meant.size()) && why.empty(); ++i) {
        if (sent[i] != meant[i].bytes) {
            why = "frame " + std::to_string(i) + ", " + meant[i].what + ": " +
                  difference(sent[i], meant[i].bytes);
        }
    }
    done.checks.push_back({"every frame on the wire is the one that was meant", why.empty(), why});
    done.checks.push_back({"there are as many as were meant", sent.size() == meant.size(),
                           std::to_string(sent.size()) + " of " + std::to_string(meant.size())});
}

/// As the subject e1000_receive expects it.
std::string file_to_serve() {
    std::string bytes;
    for (unsigned i = 0; i < 40'000; ++i) {
        bytes.push_back(static_cast<char>((13 * i + i / 251) % 256));
    }
    return bytes;
}

} // namespace

TEST_CASE(
    "an 82540EM sends what was meant, byte for byte: every size, fragments, wraps, checksums, "
    "segments, tags",
    "[bochs][e1000e][rule 23][rule 24][rule 25]") {
    const std::vector<std::string> kernels = compilers();
    REQUIRE_FALSE(kernels.empty());
    for (const std::string& compiler : kernels) {
        runner::section_of_boot(compiler + ", e1000_transmit", [&] {
            network null{.kind = network::module::null};
            run done = boot(compiler, "e1000_transmit", null);
            compare(done, null.sent);
            return done;
        });
    }
}

TEST_CASE("an 82540EM receives what a host on its network answers, into buffers of every kind",
          "[bochs][e1000e][rule 23]") {
    const std::vector<std::string> kernels = compilers();
    REQUIRE_FALSE(kernels.empty());
    for (const std::string& compiler : kernels) {
        runner::section_of_boot(compiler + ", e1000_receive", [&] {
            network vnet{.kind = network::module::vnet, .served = file_to_serve()};
            return boot(compiler, "e1000_receive", vnet);
        });
    }
}
