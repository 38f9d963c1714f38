// SPDX-License-Identifier: BSL-1.0
//
// The receive ring on the 82540EM, with somebody to talk to: Bochs' virtual network, which is a host that
// answers ARP, ICMP echo and TFTP. It checks what it is sent, IPv4 header checksums that the NIC has
// inserted among it; what it answers is checked here. The file that it serves is the runner's, which
// makes it by the same rule (runner/e1000.cpp).
//
// Where Bochs 2.7 is not the hardware: with no buffer posted since the receiver was enabled, it takes
// the whole ring for posted; it has neither RXCSUM nor RDTR and RADV; and the CRC, where it is not
// stripped, is 4 bytes that it leaves as they are.
#include "../../../../examples/kernel/interrupts.hpp"
#include "../../kernel/kernel.hpp"
#include "../e1000.hpp"

#include "pt/e1000e/internet_checksum.hpp"
#include "pt/e1000e/registers.hpp"
#include "pt/e1000e/rx_ring.hpp"
#include "pt/e1000e/tx_offload.hpp"
#include "pt/e1000e/tx_ring.hpp"

namespace {

using kernel::check;
using kernel::check_equal;
using kernel::mmio;
using kernel::packet_writer;
using pt::hpa;
using pt::iova;
using namespace pt::e1000e;

constexpr std::uint32_t descriptors = 8; ///< the least
constinit tx_slot transmit_slots[descriptors]{};
constinit rx_slot receive_slots[descriptors]{};

/// Byte `i` of the file, and how large it is: the last block is not a whole one.
constexpr std::uint8_t byte_of_file(std::uint32_t i) {
    return static_cast<std::uint8_t>(13 * i + i / 251);
}
constexpr std::uint32_t size_of_file = 40'000;

// Who we are, and who the host is.
constexpr std::uint64_t own_address = 0x5254'0012'3456;
constexpr std::uint64_t host_address =
    0x5254'0012'3455; // vnet: ours, with the lowest two bits inverted
constexpr std::uint64_t everybody = 0xFFFF'FFFF'FFFF;
constexpr std::uint32_t own_ip = 0xC0A8'0A0F; // 192.168.10.15
constexpr std::uint32_t host_ip = 0xC0A8'0A01;
constexpr std::uint32_t tftp_port = 69;
constexpr std::uint32_t own_port = 0x1234;

struct place {
    mmio nic;
    hpa transmit_ring; ///< a frame each
    hpa receive_ring;
    hpa packet;
    hpa padding; ///< of zeros
    hpa buffers; ///< 2 MiB
};

/// A frame that has arrived, put together of its pieces.
struct frame {
    std::uint8_t bytes[2048] = {};
    std::uint32_t size = 0;

    [[nodiscard]] std::uint32_t word(std::uint32_t at) const {
        return static_cast<std::uint32_t>(bytes[at] << 8 | bytes[at + 1]);
    }
    [[nodiscard]] std::uint32_t dword(std::uint32_t at) const {
        return word(at) << 16 | word(at + 2);
    }
    [[nodiscard]] std::uint64_t address(std::uint32_t at) const {
        return std::uint64_t{word(at)} << 32 | dword(at + 2);
    }
};

/// One ring of each direction; all buffers but one are posted at any time.
class station {
public:
    station(const place& here, const rx_settings& settings)
        : here_{here},
          buffer_size_{settings.buffer_size},
          out_{here.nic,
               kernel::dma_memory{here.transmit_ring},
               kernel::barrier{},
               iova{here.transmit_ring.raw},
               transmit_slots,
               descriptors,
               {.members = family::pci, .padding = iova{here.padding.raw}}},
          in_{here.nic,          kernel::dma_memory{here.receive_ring},
              kernel::barrier{}, iova{here.receive_ring.raw},
              receive_slots,     descriptors,
              settings} {
        check("the transmit ring starts", out_.start());
        check("the receive ring starts", in_.start());
        for (std::uint64_t buffer = 0; buffer < descriptors - 1; ++buffer) {
            post(buffer);
        }
        in_.advance_tail();
    }
    ~station() {
        check("each cookie came back once and in order, and was posted again", wrong_ == 0);
        check("each packet's pieces came in order, without errors", torn_ == 0);
        check("the transmit ring stops", out_.stop());
        check("the receive ring pauses", in_.pause());
        check_equal("the buffers come back", in_.abandon([](std::uint64_t) {}), descriptors - 1);
        check("the receive ring stops", in_.stop());
    }
    station(const station&) = delete;
    station& operator=(const station&) = delete;

    auto& in() { return in_; }
    [[nodiscard]] std::uint64_t pieces() const { return pieces_; }
    [[nodiscard]] hpa packet() const { return here_.packet; }

    bool send(const packet_writer& packet, const tx_request& request = {}) {
        bool done = false;
        return out_.send({{iova{here_.packet.raw}, packet.size()}}, 1, request) &&
               kernel::wait_until([&] {
                   out_.reclaim([&](std::uint64_t) { done = true; });
                   return done;
               });
    }
    /// Waits for the next frame.
    bool receive(frame& to, std::uint64_t nanoseconds = kernel::patience) {
        to.size = 0;
        bool whole = false;
        return kernel::wait_until(
            [&] {
                in_.receive([&](const rx_piece& piece) { whole = take(to, piece) || whole; });
                in_.advance_tail();
                return whole;
            },
            nanoseconds);
    }

private:
    [[nodiscard]] hpa buffer(std::uint64_t number) const {
        return here_.buffers + number * 0x4000 + 0x11 * number; // anywhere at all
    }
    void post(std::uint64_t number) {
        wrong_ += in_.post(iova{buffer(number).raw}, number) ? 0 : 1;
    }
    /// Whether the frame is complete with it.
    bool take(frame& to, const rx_piece& piece) {
        wrong_ += piece.cookie == pieces_++ % (descriptors - 1) ? 0 : 1;
        const bool begins = piece.place == rx_place::only || piece.place == rx_place::first;
        const bool ends = piece.place == rx_place::only || piece.place == rx_place::last;
        if (piece.errors.any() || begins != (to.size == 0) ||
            (!ends && piece.length != buffer_size_) || to.size + piece.length > sizeof to.bytes) {
            ++torn_;
            return ends;
        }
        const auto* const from =
            kernel::pointer_to<const volatile std::uint8_t>(buffer(piece.cookie));
        for (std::uint32_t i = 0; i < piece.length; ++i) {
            to.bytes[to.size++] = from[i];
        }
        post(piece.cookie);
        return ends;
    }

    place here_;
    std::uint32_t buffer_size_;
    tx_ring<mmio, kernel::dma_memory, kernel::barrier> out_;
    rx_ring<mmio, kernel::dma_memory, kernel::barrier> in_;
    std::uint64_t pieces_ = 0;
    std::uint64_t wrong_ = 0;
    std::uint64_t torn_ = 0;
};

void write_addresses(packet_writer& to, std::uint64_t destination, std::uint32_t type) {
    for (const std::uint64_t each : {destination, own_address}) {
        to.word(static_cast<std::uint32_t>(each >> 32));
        to.dword(static_cast<std::uint32_t>(each));
    }
    to.word(type);
}

/// An IPv4 header whose checksum is left to the NIC.
void write_ip(packet_writer& to, std::uint32_t protocol, std::uint32_t length) {
    write_addresses(to, host_address, 0x0800);
    to.word(0x4500);
    to.word(20 + length);
    to.dword(0x0001'4000);
    to.byte(64);
    to.byte(protocol);
    to.word(0);
    to.dword(own_ip);
    to.dword(host_ip);
}

/// Whether it is an IPv4 packet from the host to us, with that much behind its header, whose checksum is
/// right.
bool is_answer(const frame& got, std::uint32_t protocol, std::uint32_t length, std::uint32_t crc) {
    return got.size >= 34 + length + crc && got.address(0) == own_address &&
           got.address(6) == host_address && got.word(12) == 0x0800 && got.bytes[14] == 0x45 &&
           got.word(16) == 20 + length && got.bytes[23] == protocol && got.dword(26) == host_ip &&
           got.dword(30) == own_ip && internet_checksum{}.add(got.bytes + 14, 20).sum() == 0xFFFF;
}

bool resolve(station& at) {
    packet_writer to{at.packet()};
    write_addresses(to, everybody, 0x0806);
    to.dword(0x0001'0800); // Ethernet, IPv4
    to.dword(0x0604'0001); // request
    to.word(static_cast<std::uint32_t>(own_address >> 32));
    to.dword(static_cast<std::uint32_t>(own_address));
    to.dword(own_ip);
    to.word(0);
    to.dword(0);
    to.dword(host_ip);
    frame got;
    return at.send(to) && at.receive(got) && got.address(0) == own_address &&
           got.address(6) == host_address && got.word(12) == 0x0806 && got.word(20) == 2 &&
           got.address(22) == host_address && got.dword(28) == host_ip &&
           got.address(32) == own_address && got.dword(38) == own_ip;
}

/// ICMP echo with that much data, at most 86 bytes: vnet answers no more. Its checksum is software's.
packet_writer write_echo(station& at, std::uint32_t size, std::uint32_t number) {
    packet_writer to{at.packet()};
    write_ip(to, 1, 8 + size);
    to.word(0x0800); // echo request
    to.word(0);
    to.word(0x7E57);
    to.word(number);
    for (std::uint32_t i = 0; i < size; ++i) {
        to.byte(number + 3 * i);
    }
    to.word_at(36, internet_checksum{}.add(to.start() + 34, 8 + size).checksum());
    return to;
}

/// With the IPv4 header's checksum by the NIC, which vnet checks.
bool send_echo(station& at, std::uint32_t size, std::uint32_t number) {
    const auto header_checksum = tx_offload::ip_checksum({.ip = 14, .transport_at = 34});
    return header_checksum && at.send(write_echo(at, size, number), {.offload = *header_checksum});
}
bool receive_echo(station& at, std::uint32_t size, std::uint32_t number, std::uint32_t crc) {
    frame got;
    if (!at.receive(got) || !is_answer(got, 1, 8 + size, crc) || got.word(34) != 0 ||
        got.dword(38) != (0x7E57'0000 | number) ||
        internet_checksum{}.add(got.bytes + 34, 8 + size).sum() != 0xFFFF) {
        return false;
    }
    for (std::uint32_t i = 0; i < size; ++i) {
        if (got.bytes[42 + i] != static_cast<std::uint8_t>(number + 3 * i)) {
            return false;
        }
    }
    return true;
}

/// TFTP [RFC 1350] over UDP, with all checksums by the NIC: what `write` writes behind its header.
template <class Write>
bool send_tftp(station& at, std::uint32_t length, Write write) {
    const auto checksums = tx_offload::checksums(
        {.ip = 14, .transport_at = 34, .version = ip_version::v4, .protocol = transport::udp});
    packet_writer to{at.packet()};
    write_ip(to, 17, 8 + length);
    to.word(own_port);
    to.word(tftp_port);
    to.word(8 + length);
    to.word(ipv4_pseudo_header(to.start() + 14, static_cast<std::uint16_t>(8 + length)).sum());
    write(to);
    return checksums && at.send(to, {.offload = *checksums});
}

/// What a read request says after its code, with the zeros that end the words. The second one asks for
/// blocks of another size than 512 bytes, and the host agrees before it sends the first [RFC 2348].
constexpr char plain_request[] = "served\0octet";
constexpr char request_for_large_blocks[] = "served\0octet\0blksize\0001024";

bool request_file(station& at, const char* request, std::uint32_t size) {
    return send_tftp(at, 2 + size, [&](packet_writer& to) {
        to.word(1);
        for (std::uint32_t i = 0; i < size; ++i) {
            to.byte(static_cast<std::uint8_t>(request[i]));
        }
    });
}
bool acknowledge(station& at, std::uint32_t block) {
    return send_tftp(at, 4, [&](packet_writer& to) { to.dword(0x0004'0000 | block); });
}

/// Reads the file by blocks of 512 or 1024 bytes; whether each came as it should.
bool read_file(station& at, std::uint32_t block_size, std::uint32_t crc) {
    bool asked = block_size == 512
                     ? request_file(at, plain_request, sizeof plain_request)
                     : request_file(at, request_for_large_blocks, sizeof request_for_large_blocks);
    if (block_size != 512) {
        frame agreed;
        asked = asked && at.receive(agreed) && is_answer(agreed, 17, 8 + 2 + 13, crc) &&
                agreed.word(42) == 6 && acknowledge(at, 0);
    }
    for (std::uint32_t block = 1;; ++block) {
        const std::uint32_t done = (block - 1) * block_size;
        const std::uint32_t size =
            size_of_file - done < block_size ? size_of_file - done : block_size;
        frame got;
        if (!asked || !at.receive(got) || !is_answer(got, 17, 8 + 4 + size, crc) ||
            got.word(36) != own_port || got.dword(42) != (0x0003'0000 | block)) { // data
            return false;
        }
        for (std::uint32_t i = 0; i < size; ++i) {
            if (got.bytes[46 + i] != byte_of_file(done + i)) {
                return false;
            }
        }
        asked = acknowledge(at, block);
        if (size < block_size) {
            return asked;
        }
    }
}
static_assert(size_of_file % 1024 != 0 && size_of_file % 512 != 0);

void converse(const place& here, const char* name, const rx_settings& settings) {
    kernel::begin_part(name);
    const std::uint32_t crc = settings.strip_crc ? 0 : 4;
    station at{here, settings};
    if (!check("the host answers ARP", resolve(at))) {
        return;
    }
    bool all = true;
    for (std::uint32_t size = 0; size <= 86 && all; ++size) {
        all = send_echo(at, size, 100 + size) && receive_echo(at, size, 100 + size, crc);
    }
    check("it answers each echo request, as it should", all);
    for (const std::uint32_t block_size : {512U, 1024U}) {
        const bool small = block_size == 512;
        const std::uint64_t before = at.pieces();
        check(small ? "the file arrives whole, byte by byte" : "and once more by larger blocks",
              read_file(at, block_size, crc));
        const auto buffers_for = [&](std::uint32_t bytes) {
            return (46 + bytes + crc + settings.buffer_size - 1) / settings.buffer_size;
        };
        const std::uint32_t expected = size_of_file / block_size * buffers_for(block_size) +
                                       buffers_for(size_of_file % block_size) + (small ? 0 : 1);
        check_equal(small ? "in as many buffers as it takes" : "in as many as it takes then",
                    at.pieces() - before, expected);
    }

    check("the receiver pauses", at.in().pause());
    check("and goes on", at.in().resume());
    check("the next request is answered", send_echo(at, 40, 7) && receive_echo(at, 40, 7, crc));
}

/// The last of all: where vnet finds no receiver for an answer, it never answers again.
void pause_for_good(const place& here) {
    kernel::begin_part("paused");
    station at{here, {.members = family::pci}};
    check("the receiver pauses for good", at.in().pause());
    check("a request goes out all the same", send_echo(at, 41, 8));
    frame got;
    check("nothing arrives", !at.receive(got, kernel::long_enough));
}

void run() {
    const pt::result<mmio> nic = kernel::bring_up_e1000();
    if (!nic) {
        return;
    }
    mmio registers = *nic;
    // Bytes of an address lie in the registers in the order of the wire, the first one lowest.
    pt::write(registers, ral{0x1200'5452});
    pt::write(registers, rah{rah::bytes(0x5634), rah::av(true)});
    const place here{*nic,
                     kernel::take_frame(),
                     kernel::take_frame(),
                     kernel::take_frame(),
                     kernel::take_frame(),
                     kernel::take_large_frame()};
    converse(here, "buffers of 2048 bytes", {.members = family::pci});
    converse(here, "buffers of 256 bytes", {.members = family::pci, .buffer_size = 256});
    converse(here, "with CRC", {.members = family::pci, .buffer_size = 512, .strip_crc = false});
    converse(here, "large buffers", {.members = family::pci, .buffer_size = 16'384});
    pause_for_good(here);
    kernel::begin_part(nullptr);
    check("its causes say that frames were received", pt::read<icr>(registers)[icr::rxt0]);
}

[[gnu::used, gnu::section(".subjects")]] constexpr kernel::subject here{"e1000_receive", run};

} // namespace
