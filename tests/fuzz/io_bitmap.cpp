// SPDX-License-Identifier: BSL-1.0
//
// Owners that open and close whatever ranges a guest's BARs name: a port is open exactly as long as
// somebody keeps it, a protected one never is, each report is true, and no word beside the pages
// changes. The second model counts keepers for each port.
#include "pt/vmx/shared_io_bitmap.hpp"

#include "pt/core/address.hpp"
#include "pt/core/range.hpp"
#include "pt/core/result.hpp"
#include "pt/core/width.hpp"
#include "pt/vmx/io_bitmap.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using pt::io_port;
using pt::range;

void require(bool condition) {
    if (!condition) {
        __builtin_trap();
    }
}

struct keep {
    std::uint32_t owner;
    std::uint32_t first;
    std::uint32_t size;
    friend bool operator==(const keep&, const keep&) = default;
};

class machine {
public:
    machine() { std::memset(keepers_, 0, sizeof keepers_); }

    void step(std::uint8_t action, std::uint64_t address, std::uint64_t size,
              std::uint64_t elsewhere) {
        const pt::vmx::port_owner owner{action / 8U % 4};
        const auto ports = pt::vmx::io_bitmap::ports_of_bar(address, size);
        require(ports.has_value() == (address < 0x1'0000 && size <= 0x1'0000 - address));
        if (action % 8 == 7) {
            close_all(owner);
        } else if (!ports) {
            return;
        } else if (action % 8 < 3) {
            open(owner, *ports, *ports);
        } else if (action % 8 == 3) {
            const auto host = pt::vmx::io_bitmap::ports_of_bar(elsewhere, size);
            open(owner, *ports, host ? *host : range<io_port>{});
        } else if (action % 8 == 4 && !kept_.empty()) {
            const keep one = kept_[elsewhere % kept_.size()];
            close(pt::vmx::port_owner{one.owner}, {port(one.first), one.size});
        } else {
            close(owner, *ports);
        }
        look_around(address);
        look_around(address + size);
    }

    /// All ports, and what lies around the pages.
    void check() const {
        for (std::uint32_t i = 0; i != 0x1'0000; ++i) {
            require(bitmap_.exits(port(i), pt::width::byte) == (keepers_[i] == 0));
        }
        for (std::uint32_t i = 0xCF8; i != 0xD00; ++i) {
            require(keepers_[i] == 0);
        }
        for (std::uint32_t i = 0; i != 8; ++i) {
            require(keepers_[0x20 + i / 4 * 0x80 + i % 2] == 0);
        }
        require(words_[0] == guard && words_[513] == guard && words_[1026] == guard);
    }

private:
    static constexpr std::uint64_t guard = 0x600D'600D'600D'600D;
    static constexpr range<io_port> pics[] = {{io_port{0xA0}, 2}, {io_port{0x20}, 2}};
    static constexpr std::size_t slot_count = 6;

    static io_port port(std::uint32_t number) {
        return io_port{static_cast<std::uint16_t>(number)};
    }
    static bool is_protected(std::uint32_t number) {
        return (number >= 0xCF8 && number < 0xD00) || number == 0x20 || number == 0x21 ||
               number == 0xA0 || number == 0xA1;
    }

    void open(pt::vmx::port_owner owner, range<io_port> guest, range<io_port> host) {
        const auto first = guest.first().raw;
        const auto size = static_cast<std::uint32_t>(guest.size());
        const auto foretold = bitmap_.opening(guest);
        const auto answer = bitmap_.open_identity(owner, guest, host);
        if (guest != host) {
            require(answer == pt::error{pt::errc::refused, first});
            return;
        }
        require(answer == foretold);
        if (size != 0 && kept_.size() == slot_count) {
            require(answer == pt::error{pt::errc::busy, first});
            return;
        }
        bool opened = false;
        for (std::uint32_t i = first; i != first + size; ++i) {
            if (is_protected(i)) {
                require(answer == pt::error{pt::errc::refused, i});
                return;
            }
            opened = opened || keepers_[i] == 0;
        }
        require(answer == pt::vcpu::bitmap_change{.opened = opened});
        if (size != 0) {
            kept_.push_back({static_cast<std::uint32_t>(owner), first, size});
            for (std::uint32_t i = first; i != first + size; ++i) {
                ++keepers_[i];
            }
        }
    }

    bool forget(std::size_t index) {
        const keep one = kept_[index];
        kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(index));
        bool closed = false;
        for (std::uint32_t i = one.first; i != one.first + one.size; ++i) {
            --keepers_[i];
            closed = closed || keepers_[i] == 0;
        }
        return closed;
    }
    void close(pt::vmx::port_owner owner, range<io_port> ports) {
        const keep wanted{static_cast<std::uint32_t>(owner), ports.first().raw,
                          static_cast<std::uint32_t>(ports.size())};
        const auto foretold = bitmap_.closing(owner, ports);
        const auto answer = bitmap_.close(owner, ports);
        require(answer == foretold);
        if (wanted.size == 0) {
            require(answer == pt::vcpu::bitmap_change{});
            return;
        }
        for (std::size_t i = 0; i != kept_.size(); ++i) {
            if (kept_[i] == wanted) {
                require(answer == pt::vcpu::bitmap_change{.closed = forget(i)});
                return;
            }
        }
        require(answer == pt::error{pt::errc::absent, wanted.first});
    }
    void close_all(pt::vmx::port_owner owner) {
        bool closed = false;
        for (std::size_t i = 0; i != kept_.size();) {
            if (kept_[i].owner == static_cast<std::uint32_t>(owner)) {
                closed = forget(i) || closed;
            } else {
                ++i;
            }
        }
        require(bitmap_.close_all(owner) == pt::vcpu::bitmap_change{.closed = closed});
    }

    void look_around(std::uint64_t place) const {
        for (std::uint64_t near = place + 0x1'0000 - 4; near != place + 0x1'0000 + 4; ++near) {
            const std::uint32_t at = near % 0x1'0000;
            for (const pt::width size : {pt::width::byte, pt::width::word, pt::width::dword}) {
                bool exits = false;
                for (std::uint32_t i = at; i != at + pt::size_of(size); ++i) {
                    exits = exits || i > 0xFFFF || keepers_[i] == 0;
                }
                require(bitmap_.exits(port(at), size) == exits);
            }
        }
    }

    std::vector<std::uint64_t> words_ = std::vector<std::uint64_t>(1027, guard);
    pt::vmx::kept_ports slots_[slot_count];
    pt::vmx::shared_io_bitmap bitmap_{
        pt::vmx::io_bitmap{words_.data() + 514, words_.data() + 1, pics, 2}, slots_, slot_count};
    std::vector<keep> kept_;
    std::uint8_t keepers_[0x1'0000];
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // action and owner, form, address, size, elsewhere
    static constexpr std::size_t step_size = 5;
    machine tried;
    for (std::size_t at = 0; at + step_size <= size && at != 64 * step_size; at += step_size) {
        const std::uint8_t form = data[at + 1];
        std::uint64_t address = data[at + 2];
        std::uint64_t ports = data[at + 3];
        std::uint64_t elsewhere = data[at + 4];
        if (form % 8 != 0) {
            // Close together, so that ranges overlap and touch, at a seam.
            static constexpr std::uint32_t seams[] = {0x18, 0x9C, 0xCF0, 0x7FF8, 0xFFF0, 0xC000};
            address = seams[form / 8 % 6] + address % 16;
            ports = ports % 12;
            elsewhere = form % 2 == 0 ? address : elsewhere;
        } else {
            // Anything that 32 bits can hold.
            address = (address << form / 8) + elsewhere;
            ports <<= form / 16;
        }
        tried.step(data[at], address, ports, elsewhere);
    }
    tried.check();
    return 0;
}
