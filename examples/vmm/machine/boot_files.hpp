// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "../../kernel/multiboot.hpp"
#include "../pc/multiboot.hpp"
#include "log.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm {

/// The files that the VMM was given: kernels of guests first, then modules that each guest gets. Each
/// with its words, of which the first is its name.
class boot_files {
public:
    static constexpr std::size_t most = 16;

    boot_files() = default;
    /// Those that a multiboot loader has left in memory.
    explicit boot_files(const kernel::multiboot_information& loaded) {
        if (!loaded.has(kernel::multiboot_information::has_modules)) {
            return;
        }
        for (std::uint32_t i = 0; i != loaded.module_count; ++i) {
            const kernel::multiboot_module& each = *loaded.module(i);
            add({{kernel::pointer_to<const std::uint8_t>(pt::hpa{each.start}),
                  std::uint64_t{each.end} - each.start},
                 kernel::pointer_to<const char>(pt::hpa{each.words})});
        }
    }
    void add(const pc::multiboot_module& file) {
        if (count_ == most) {
            give_up("the VMM was given too many files");
        }
        files_[count_++] = file;
    }

    [[nodiscard]] std::size_t count() const { return count_; }
    [[nodiscard]] const pc::multiboot_module& operator[](std::size_t i) const { return files_[i]; }

    /// Boots guest `number` of `guests` with its kernel and all modules.
    template <class Pc>
    void boot(Pc& guest, std::size_t number, std::size_t guests) const {
        if (count_ < guests) {
            give_up("there are fewer kernels than guests");
        }
        const pc::multiboot_module& kernel = files_[number];
        guest.boot(kernel.file, kernel.words, files_ + guests,
                   static_cast<std::uint32_t>(count_ - guests));
    }

private:
    pc::multiboot_module files_[most]{};
    std::size_t count_ = 0;
};

} // namespace vmm
