// SPDX-License-Identifier: BSL-1.0
#include "start.hpp"

#include "command_line.hpp"
#include "end.hpp"
#include "output.hpp"

#include "pt/core/contract.hpp"

namespace kernel {
namespace {

[[noreturn]] void contract_broken(const pt::contract_violation& broken) noexcept {
    print(broken.file);
    print(":");
    print_decimal(static_cast<unsigned>(broken.line));
    print("\n");
    give_up(broken.what);
}

} // namespace
} // namespace kernel

/// Where boot.S goes, with what a multiboot loader leaves in EAX and EBX.
extern "C" [[noreturn]] void kernel_main(std::uint32_t loader, std::uint32_t information) {
    using namespace kernel;
    start(serial_port::com1);
    pt::on_contract_violation = contract_broken;
    if (loader != multiboot_loader) {
        give_up("not started by a multiboot loader");
    }
    const auto& loaded = *pointer_to<const multiboot_information>(pt::hpa{information});
    if (loaded.has(multiboot_information::has_command_line)) {
        set_command_line(pointer_to<const char>(pt::hpa{loaded.command_line}));
    }
    run(loaded);
}
