// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/policy.hpp"
#include "pt/core/result.hpp"

#include "disk_layout.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace vmm {

/// The first disk of a PC, at the ports that ATA has there, read by polling with 28-bit addresses
/// [ata]. It asks for no interrupt, and waits for no answer longer than time_limit.
template <pt::port_io Ports, pt::clock Clock>
class disk {
public:
    /// In ns. A disk that must spin up takes seconds.
    static constexpr std::uint64_t time_limit = 10'000'000'000;
    static constexpr std::uint32_t sectors = 1U << 28; ///< that an address of 28 bits can name

    disk(Ports ports, Clock time) : ports_{std::move(ports)}, time_{std::move(time)} {
        ports_.out8(device_control, no_interrupts);
    }

    /// Reads whole sectors, to `count` * 512 bytes. Errors, all with the number of the sector:
    /// errc::out_of_range beyond the last address; errc::absent: no disk is there; errc::time_out:
    /// it does not answer; errc::hardware_fault: it says that it cannot. What comes before that
    /// sector has been read then.
    pt::result<void> read(std::uint32_t first, std::uint32_t count, std::byte* to) {
        if (first > sectors || count > sectors - first) {
            return pt::error{pt::errc::out_of_range, first};
        }
        for (; count != 0; --count, ++first, to += disk_layout::sector_size) {
            if (const pt::result<void> done = read_sector(first, to); !done) {
                return done;
            }
        }
        return {};
    }

private:
    static constexpr pt::io_port data{0x1F0};
    static constexpr pt::io_port sector_count{0x1F2};
    static constexpr pt::io_port address_low{0x1F3};
    static constexpr pt::io_port address_middle{0x1F4};
    static constexpr pt::io_port address_high{0x1F5};
    static constexpr pt::io_port device{0x1F6};
    static constexpr pt::io_port command{0x1F7}; ///< read: the status
    static constexpr pt::io_port device_control{0x3F6};

    static constexpr std::uint8_t no_interrupts = 1 << 1; ///< nIEN
    static constexpr std::uint8_t first_device_by_address = 0xE0;
    static constexpr std::uint8_t read_sectors = 0x20;

    // The status.
    static constexpr std::uint8_t error = 1 << 0;
    static constexpr std::uint8_t data_request = 1 << 3;
    static constexpr std::uint8_t device_fault = 1 << 5;
    static constexpr std::uint8_t busy = 1 << 7;
    static constexpr std::uint8_t nobody = 0xFF; ///< what a port has that nobody answers at

    pt::result<void> read_sector(std::uint32_t number, std::byte* to) {
        if (const auto idle = wait(number, 0); !idle) {
            return idle;
        }
        ports_.out8(device, static_cast<std::uint8_t>(first_device_by_address | number >> 24));
        if (const auto selected = wait(number, 0); !selected) {
            return selected;
        }
        ports_.out8(sector_count, 1);
        ports_.out8(address_low, static_cast<std::uint8_t>(number));
        ports_.out8(address_middle, static_cast<std::uint8_t>(number >> 8));
        ports_.out8(address_high, static_cast<std::uint8_t>(number >> 16));
        ports_.out8(command, read_sectors);
        if (const auto ready = wait(number, data_request); !ready) {
            return ready;
        }
        for (std::uint32_t i = 0; i < disk_layout::sector_size; i += 2) {
            const std::uint16_t word = ports_.in16(data);
            to[i] = static_cast<std::byte>(word);
            to[i + 1] = static_cast<std::byte>(word >> 8);
        }
        return {};
    }

    /// Until the disk is not busy, and requests data or not.
    pt::result<void> wait(std::uint32_t sector, std::uint8_t request) {
        // The status is valid 400 ns after what was written; each read takes 100 ns or more [ata].
        for (int i = 0; i < 4; ++i) {
            (void)ports_.in8(device_control);
        }
        const std::uint64_t start = time_.now();
        for (;;) {
            const std::uint8_t status = ports_.in8(command);
            if (status == nobody) {
                return pt::error{pt::errc::absent, sector};
            }
            if ((status & busy) == 0) {
                // An error of the command before is no matter of the next one's.
                if (request != 0 && (status & (error | device_fault)) != 0) {
                    return pt::error{pt::errc::hardware_fault, sector};
                }
                if ((status & data_request) == request) {
                    return {};
                }
            }
            if (time_.now() - start > time_limit) {
                return pt::error{pt::errc::time_out, sector};
            }
        }
    }

    [[no_unique_address]] Ports ports_;
    [[no_unique_address]] Clock time_;
};

} // namespace vmm
