// SPDX-License-Identifier: BSL-1.0
//
// What was on the wire, as QEMU captured it, and what tshark says about it.
#pragma once

#include "e1000e_frames.hpp"

#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace e1000e_machine {

/// Frames out of a capture file that QEMU still writes, in their order [pcap-savefile(5)].
class capture {
public:
    explicit capture(std::filesystem::path file)
        : path_{std::move(file)}, stream_{path_, std::ios::binary} {
        stream_.ignore(file_header_size);
        if (!stream_) {
            throw std::runtime_error{"no capture in " + path_.string()};
        }
    }

    /// The next frame that was on the wire; empty if there was none.
    bytes next() {
        std::array<std::uint32_t, 4> header{}; // time stamp, captured length, length
        stream_.clear();
        stream_.read(reinterpret_cast<char*>(header.data()), sizeof header);
        if (!stream_) {
            return {};
        }
        if (header[2] != header[3]) {
            throw std::runtime_error{"the capture has a part of a frame only"};
        }
        bytes frame(header[2]);
        stream_.read(reinterpret_cast<char*>(frame.data()),
                     static_cast<std::streamsize>(frame.size()));
        return frame;
    }
    std::vector<bytes> all() {
        std::vector<bytes> frames;
        for (bytes frame = next(); !frame.empty(); frame = next()) {
            frames.push_back(std::move(frame));
        }
        return frames;
    }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    static constexpr std::streamsize file_header_size = 24;

    std::filesystem::path path_;
    std::ifstream stream_;
};

/// A capture file of these frames, for tshark.
inline void write_capture(const std::filesystem::path& file, const std::vector<bytes>& frames) {
    std::ofstream to{file, std::ios::binary};
    const auto put = [&](const auto& words) {
        to.write(reinterpret_cast<const char*>(words.data()),
                 static_cast<std::streamsize>(words.size() * sizeof words[0]));
    };
    constexpr std::uint32_t longest = 262'144;
    constexpr std::uint32_t ethernet = 1;
    put(std::array<std::uint32_t, 6>{0xA1B2'C3D4, 2 | 4 << 16, 0, 0, longest, ethernet});
    for (const bytes& frame : frames) {
        const auto size = static_cast<std::uint32_t>(frame.size());
        put(std::array<std::uint32_t, 4>{0, 0, size, size});
        put(frame);
    }
}

/// How many checksums of a kind tshark found, and found good.
struct verdict {
    std::size_t good = 0;
    std::size_t bad = 0; ///< all that are not good: wrong, not there, not to be verified
};
struct checksum_verdicts {
    std::size_t frames = 0;
    verdict ip;
    verdict tcp;
    verdict udp;
    std::size_t malformed = 0;
    std::string first_bad{}; ///< in tshark's words: the frame's number, status of ip, tcp, udp

    [[nodiscard]] bool all_good() const { return ip.bad + tcp.bad + udp.bad + malformed == 0; }
};

/// Has tshark check every checksum of a capture file; a good one has status 1 [wireshark]. What
/// goes to port 9 is data, lest it sees protocols in random bytes.
inline checksum_verdicts ask_tshark(const std::filesystem::path& file) {
    std::string quoted;
    for (const char character : file.string()) {
        quoted += character == '\'' ? std::string{"'\\''"} : std::string{character};
    }
    std::string command = "tshark -n -r '" + quoted +
                          "' -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE"
                          " -o udp.check_checksum:TRUE -o tcp.analyze_sequence_numbers:FALSE"
                          " -o ip.defragment:TRUE -d tcp.port==9,data -d udp.port==9,data";
    command += " -T fields -E separator=, -E occurrence=a -E aggregator=+ -e frame.number"
               " -e ip.checksum.status -e tcp.checksum.status -e udp.checksum.status"
               " -e _ws.malformed 2>&1";
    std::FILE* const pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) {
        throw std::runtime_error{"cannot run tshark"};
    }
    std::string printed;
    std::array<char, 65536> chunk{};
    for (std::size_t got = 0; (got = std::fread(chunk.data(), 1, chunk.size(), pipe)) != 0;) {
        printed.append(chunk.data(), got);
    }
    if (::pclose(pipe) != 0) {
        throw std::runtime_error{"tshark (Debian's package tshark) does not read the capture: " +
                                 printed.substr(0, 1000)};
    }

    checksum_verdicts found;
    std::istringstream lines{printed};
    for (std::string line; std::getline(lines, line);) {
        std::array<std::string, 5> fields;
        std::istringstream parts{line};
        for (std::string& field : fields) {
            std::getline(parts, field, ',');
        }
        if (fields[0] != std::to_string(found.frames + 1)) {
            continue; // what it says about the user
        }
        ++found.frames;
        const auto count = [&](verdict& of, const std::string& status) {
            of.good += status == "1" ? 1U : 0U;
            of.bad += !status.empty() && status != "1" ? 1U : 0U;
        };
        const bool was_good = found.all_good();
        count(found.ip, fields[1]);
        count(found.tcp, fields[2]);
        count(found.udp, fields[3]);
        found.malformed += fields[4].empty() ? 0 : 1;
        if (was_good && !found.all_good()) {
            found.first_bad = line;
        }
    }
    return found;
}

} // namespace e1000e_machine
