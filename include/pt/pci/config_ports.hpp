// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/pci/config_access.hpp"
#include "pt/pci/config_address.hpp"

#include <cstdint>

namespace pt::pci {

/// How much of an I/O access is for CONFIG_ADDRESS and CONFIG_DATA.
enum class port_claim : std::uint8_t {
    none,  ///< not mine: ordinary I/O, such as a byte at 0xCF9, the reset register of PCs
    whole, ///< mine, and done
    part,  ///< mine in part, and nothing was done: offer each byte as an access of its own
};

/// What became of a guest's IN, and, if it was claimed as a whole, the value that it reads. A read
/// that nobody claims floats: `value` is all ones then.
struct port_answer {
    port_claim claim = port_claim::none;
    std::uint32_t value = 0;

    friend constexpr bool operator==(const port_answer&, const port_answer&) = default;
};

/// The ports 0xCF8 and 0xCFC as a guest sees them, configuration mechanism #1 [pci], in front of
/// whatever the guest's functions are. Which functions those are, and what of them, is the business
/// of the config_access, which is asked with the numbers that the guest used.
///
/// - Only a dword at 0xCF8 is CONFIG_ADDRESS. All else that begins at 0xCF8..0xCFB, or before, is
///   ordinary I/O.
/// - CONFIG_DATA is what falls inside the dword at 0xCFC. When CONFIG_ADDRESS is not enabled it is
///   ordinary I/O too; on a PC nothing answers there, so that it reads all ones and writes vanish.
///   It is claimed nevertheless: it must not reach the host's own CONFIG_DATA.
/// - The processor makes several bus accesses of one that crosses a dword boundary, in an order
///   that [sdm] leaves undefined. A dword at 0xCFE is two bytes of CONFIG_DATA and two of other
///   ports, a word at 0xCFB is a byte at 0xCFB and one of CONFIG_DATA: port_claim::part. Bytes are
///   never claimed in part, so offering them one by one comes to an end. Do not forward such an
///   access unsplit to the host's ports.
///
/// Form is what the guest's CONFIG_ADDRESS means. With extended_config_address the ports reach all
/// 4096 bytes: for a guest that finds, or is told of, an AMD processor with that extension turned
/// on. Others write 0 to the bits that it adds, and see no difference.
///
/// The latch is one for all of a guest's processors: the VMM keeps them apart, as it does in front
/// of the functions.
template <config_access Config, config_address_form Form = config_address>
class config_ports {
public:
    /// The ports cannot name a segment: all functions are asked for in this one.
    explicit constexpr config_ports(Config config, std::uint16_t segment = 0)
        : config_{config}, segment_{segment} {}

    /// What an access to these ports is, whatever CONFIG_ADDRESS holds.
    [[nodiscard]] static constexpr port_claim claim(io_port port, width size) {
        const unsigned first = port.raw;
        const unsigned last = first + size_of(size) - 1; // beyond 0xFFFF is no matter here
        if (last < config_data || first > config_data + 3) {
            return first == config_address_port && size == width::dword ? port_claim::whole
                                                                        : port_claim::none;
        }
        return first >= config_data && last <= config_data + 3 ? port_claim::whole
                                                               : port_claim::part;
    }

    /// The guest's IN.
    [[nodiscard]] constexpr port_answer read(io_port port, width size) {
        const port_claim mine = claim(port, size);
        if (mine != port_claim::whole) {
            return {mine, all_ones(size)};
        }
        if (port.raw == config_address_port) {
            return {mine, selected_.raw};
        }
        if (!selected_[Form::enable]) {
            return {mine, all_ones(size)};
        }
        return {mine, config_.read(selected_.target(segment_), offset(port), size)};
    }

    /// The guest's OUT. Bits of `value` above the width are of no effect.
    constexpr port_claim write(io_port port, width size, std::uint32_t value) {
        const port_claim mine = claim(port, size);
        if (mine != port_claim::whole) {
            return mine;
        }
        if (port.raw == config_address_port) {
            selected_ = selected_.after_write(value);
        } else if (selected_[Form::enable]) {
            config_.write(selected_.target(segment_), offset(port), size, value & all_ones(size));
        }
        return mine;
    }

    /// What CONFIG_ADDRESS holds, 0 after reset. It changes by a dword write to 0xCF8 only.
    [[nodiscard]] constexpr Form selected() const { return selected_; }

private:
    static constexpr unsigned config_address_port = 0xCF8;
    static constexpr unsigned config_data = 0xCFC;

    [[nodiscard]] constexpr std::uint16_t offset(io_port port) const {
        return static_cast<std::uint16_t>(selected_.offset() | (port.raw & 3U));
    }

    [[no_unique_address]] Config config_;
    std::uint16_t segment_;
    Form selected_{};
};

} // namespace pt::pci
