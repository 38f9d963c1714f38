// SPDX-License-Identifier: BSL-1.0
// What one processor does for a guest while another one is at work: at each moment in which no lock
// is held, that other one comes in between.
#include "simulated_vmm.hpp"

#include <catch2/catch_test_macros.hpp>

#include <memory>

namespace {

using namespace simulated;

struct scene {
    std::unique_ptr<host_machine> host = std::make_unique<host_machine>();
    std::unique_ptr<guest_machine> g = std::make_unique<guest_machine>(*host);
    std::unique_ptr<nic> n = std::make_unique<nic>(*g);

    scene() {
        n->assign().value();
        g->place(3, 0x9000'0000);
        g->decode(6);
    }
    scene(const scene&) = delete;
    scene& operator=(const scene&) = delete;

    /// The guest demands a reset, which fails; the function cannot be blocked either.
    void die() {
        g->select(express_at + 8, 3);
        host->faults.fail(1, 1000);
        g->guest.write_port(io_port{0xCFC}, width::word, 0x8000).value();
        host->faults.stop();
    }
    /// Once, when a lock becomes free for the `at`-th time.
    template <class F>
    void in_between(unsigned at, F what) {
        host->locks.meanwhile = [at, what, seen = 0U]() mutable {
            if (++seen == at) {
                what();
            }
        };
    }
};

TEST_CASE("settle() ends, however fast another processor of the guest moves its BARs",
          "[assign][guest][hostile]") {
    scene s;
    unsigned moves = 0;
    s.host->locks.meanwhile = [&] {
        if (++moves < 100'000) {
            s.g->decode(moves % 2 == 0 ? 2 : 0);
        }
    };
    static_cast<void>(s.g->guest.settle());
    s.host->locks.meanwhile = nullptr;
    CHECK(moves > 1);
    CHECK(moves < 100'000);
    CHECK_FALSE(s.g->guest.is_settled()); // and the next one goes on
    s.g->decode(2);
    CHECK(s.g->guest.settle());
    CHECK(s.g->guest.is_settled());
    CHECK(s.g->reach(0x9000'1000) == "e0001000");
    CHECK(s.g->audit().empty());
    CHECK(s.g->is_right());
}

TEST_CASE("a function that is taken away while another processor blocks it is nobody's",
          "[assign][remove][hostile]") {
    for (unsigned at = 1; at <= 48; ++at) {
        CAPTURE(at);
        scene s;
        s.die();
        bool is_removed = false;
        s.in_between(at, [&] { is_removed = s.n->device.remove().has_value(); });
        static_cast<void>(s.g->guest.settle());
        s.host->locks.meanwhile = nullptr;
        if (!is_removed) {
            REQUIRE(s.n->device.remove());
        }
        CHECK_FALSE(s.n->device.is_assigned());
        guest_machine other{*s.host, 1};
        nic same{other};
        CHECK(same.assign()); // no attachment of the first guest's has it still
        CHECK(s.g->is_right());
    }
}

TEST_CASE("an interrupt that comes while its function is taken away is for nobody",
          "[assign][remove][interrupts]") {
    for (unsigned at = 1; at <= 48; ++at) {
        CAPTURE(at);
        scene s;
        s.g->write(msi_at + 4, 4, 0xFEE0'0000);
        s.g->write(msi_at + 12, 2, 0x51);
        s.g->write(msi_at + 16, 4, 1); // masked by the guest, and not in the function
        s.g->write(msi_at + 2, 2, 1);
        const auto sent = s.host->raise(0, 0);
        REQUIRE(sent.delivered);
        s.in_between(at, [&] { REQUIRE(s.n->device.remove()); });
        const auto taken = s.g->guest.deliver(static_cast<std::uint8_t>(sent.vector));
        s.host->locks.meanwhile = nullptr;
        CHECK(taken);
        REQUIRE(s.n->device.remove());
        CHECK(s.g->guest.deliver(static_cast<std::uint8_t>(sent.vector)) ==
              error{errc::absent, sent.vector});
        CHECK(s.g->arrived().empty());
        CHECK(s.g->is_right());
    }
}

} // namespace
