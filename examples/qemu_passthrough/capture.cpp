// SPDX-License-Identifier: BSL-1.0
#include "capture.hpp"

#include <array>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include <pcap/pcap.h>

namespace demo {

std::vector<std::vector<std::byte>> read_capture(const std::filesystem::path& file) {
    std::array<char, PCAP_ERRBUF_SIZE> reason{};
    const std::unique_ptr<pcap_t, decltype([](pcap_t* capture) { pcap_close(capture); })> capture{
        pcap_open_offline(file.c_str(), reason.data())};
    if (!capture) {
        // libpcap names the file only when the system refused to open it.
        std::string message{reason.data()};
        if (message.find(file.string()) == std::string::npos) {
            message = file.string() + ": " + message;
        }
        throw std::runtime_error{"cannot read the capture " + message};
    }
    if (pcap_datalink(capture.get()) != DLT_EN10MB) {
        throw std::runtime_error{"the capture " + file.string() + " is not one of Ethernet frames"};
    }

    std::vector<std::vector<std::byte>> frames;
    pcap_pkthdr* header = nullptr;
    const unsigned char* data = nullptr;
    // Any result but 1 is the end of what can be had: the end of the file, or a damaged tail.
    while (pcap_next_ex(capture.get(), &header, &data) == 1) {
        const auto bytes = std::as_bytes(std::span{data, header->caplen});
        frames.emplace_back(bytes.begin(), bytes.end());
    }
    return frames;
}

} // namespace demo
