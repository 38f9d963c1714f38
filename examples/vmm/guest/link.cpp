// SPDX-License-Identifier: BSL-1.0
#include "link.hpp"

#include "interrupts.hpp"
#include "output.hpp"

namespace guest {
namespace {

link_memory memory{};

kernel::dma_memory ring_at(const std::uint64_t* ring) {
    return kernel::dma_memory{pt::hpa{reinterpret_cast<std::uintptr_t>(ring)}};
}

} // namespace

link_memory& memory_of_links() { return memory; }

link::link(nic& device)
    : transmitter_{device.registers(),
                   ring_at(memory.transmit_ring),
                   kernel::barrier{},
                   iova_of(memory.transmit_ring),
                   memory.transmit_slots,
                   descriptors,
                   {.members = device.members()}},
      receiver_{device.registers(),
                ring_at(memory.receive_ring),
                kernel::barrier{},
                iova_of(memory.receive_ring),
                memory.receive_slots,
                descriptors,
                {.members = device.members(),
                 .buffer_size = buffer_size,
                 .unicast_promiscuous = true,
                 .multicast_promiscuous = true}} {}

pt::result<void> link::start() {
    if (const auto started = transmitter_.start(); !started) {
        return started;
    }
    if (const auto started = receiver_.start(); !started) {
        return started;
    }
    for (std::uint32_t i = 0; receiver_.free_descriptors() != 0; ++i) {
        if (const auto posted = receiver_.post(iova_of(memory.receive_buffers[i]), i); !posted) {
            return posted;
        }
    }
    receiver_.advance_tail();
    return {};
}

void link::stop() {
    static_cast<void>(transmitter_.abandon([](std::uint64_t) {}));
    static_cast<void>(receiver_.abandon([](std::uint64_t) {}));
}

pt::result<void> link::send(const frame_header& header, std::uint32_t length,
                            std::uint32_t pieces) {
    std::uint8_t* const buffer = memory.transmit_buffers[next_buffer_ % descriptors];
    write_frame(buffer, length, header);
    pt::e1000e::fragment fragments[8];
    const std::uint32_t count = pieces > 8 ? 8 : pieces;
    std::uint32_t begun = 0;
    for (std::uint32_t i = 0; i != count; ++i) {
        const std::uint32_t end = length * (i + 1) / count;
        fragments[i] = {iova_of(buffer + begun), end - begun};
        begun = end;
    }
    const auto taken = transmitter_.send(fragments, count, next_buffer_);
    if (taken) {
        ++next_buffer_;
        ++queued_;
    }
    return taken;
}

std::uint32_t link::sent() {
    returned_ += transmitter_.reclaim([](std::uint64_t) {});
    return returned_;
}

bool link::wait_until_sent(std::uint64_t nanoseconds) {
    return wait_until([this] { return sent() == queued_; }, nanoseconds);
}

bool check_that_it_sends(nic& device, const char* text) {
    if (!check(device.bring_up(), "the NIC is reset")) {
        return false;
    }
    link rings{device};
    bool good = check(rings.start(), "its rings start");
    const interrupt_kind kind = device.best_kind();
    const auto vector = device.use(kind, nic_vector);
    good = check(vector, "its interrupts are on, by ", name(kind)) && good;
    forget_interrupts();
    if (good) {
        good = check(rings.send({everybody, device.address(), frame_kind::plain, 0, text}),
                     "it takes a frame") &&
               check(rings.wait_until_sent(), "and sends it: \"", text, "\"") && good;
        good = check(arrives(*vector), "and its interrupt arrives") && good;
    }
    rings.stop();
    return check(device.shut_down(), "it is shut down") && good;
}

} // namespace guest
