// SPDX-License-Identifier: BSL-1.0
#pragma once

#include "pt/core/address.hpp"
#include "pt/core/result.hpp"

#include "guest_ram.hpp"
#include "little_endian.hpp"

#include <cstddef>
#include <cstdint>

namespace vmm::pc {

/// A file, or a part of one, somewhere in the VMM's memory.
struct file_bytes {
    const std::uint8_t* bytes = nullptr;
    std::uint64_t size = 0;

    /// Whether `count` bytes from `offset` on are inside.
    [[nodiscard]] constexpr bool has(std::uint64_t offset, std::uint64_t count) const {
        return offset <= size && count <= size - offset;
    }
};

/// A file that the guest gets beside its kernel, and the words that go with it.
struct multiboot_module {
    file_bytes file{};
    const char* words = ""; ///< zero-terminated
};

/// Why a file is not a kernel that can be started here.
enum class multiboot_error : std::uint8_t {
    none,
    no_header,      ///< there is none in the first 8 KiB
    unknown_flag,   ///< the kernel requires something that this loader does not know
    header_cut_off, ///< the header has no room for the fields that its flags announce
    bad_addresses,  ///< the address fields contradict each other or the file
    no_elf,         ///< no address fields, and no executable ELF for an x86 processor
    bad_elf,        ///< the ELF file's tables or segments lie outside of it
    outside_memory, ///< a part of the kernel lies where the guest has no free memory
    too_large,      ///< segments that together are larger than the guest's memory
    nothing_loaded, ///< the kernel has no byte
    bad_entry,      ///< the entry point is not in what was loaded
    no_room,        ///< no memory above the kernel for the modules and the information
};

/// One line for a person.
[[nodiscard]] constexpr const char* explain(multiboot_error why) {
    switch (why) {
    case multiboot_error::none: return "the kernel is loaded";
    case multiboot_error::no_header: return "there is no multiboot header in the first 8 KiB";
    case multiboot_error::unknown_flag:
        return "the multiboot header requires something that this loader does not know";
    case multiboot_error::header_cut_off: return "the multiboot header is cut off";
    case multiboot_error::bad_addresses:
        return "the address fields of the multiboot header contradict each other or the file";
    case multiboot_error::no_elf:
        return "it is no executable ELF file for i386 or x86-64, and the multiboot header has no "
               "address fields";
    case multiboot_error::bad_elf: return "a table or a segment of the ELF file lies outside of it";
    case multiboot_error::outside_memory:
        return "a part of the kernel lies where the guest has no free memory";
    case multiboot_error::too_large: return "the kernel's segments are larger than the memory";
    case multiboot_error::nothing_loaded: return "the kernel has nothing to load";
    case multiboot_error::bad_entry: return "the entry point is not in the kernel";
    case multiboot_error::no_room:
        return "there is no memory above the kernel for its modules and the boot information";
    }
    return "unknown";
}

/// A kernel that was loaded, or why not.
struct multiboot_kernel {
    multiboot_error error = multiboot_error::none;
    std::uint64_t where = 0; ///< of an error: the flags, the offset in the file or the address
    std::uint32_t entry = 0; ///< EIP
    std::uint32_t information = 0; ///< EBX: the multiboot information structure

    /// EAX.
    static constexpr std::uint32_t magic = 0x2BAD'B002;

    [[nodiscard]] constexpr explicit operator bool() const {
        return error == multiboot_error::none;
    }
};

/// Loads kernels as the Multiboot Specification 0.6.96 says: address fields in the header, or else
/// an ELF file, 32 or 64 bits, by its physical addresses. The file is a stranger's: nothing of it is
/// believed, and the work is bounded by the sizes of the file and of the guest's memory.
///
/// The kernel's parts must lie in memory of kind `available`. Above them, and above 1 MiB, follow the
/// information (memory sizes and map, command line, modules, the loader's name) and the modules, each on
/// a page of its own.
class multiboot_loader {
public:
    explicit constexpr multiboot_loader(guest_ram ram) : ram_{ram} {}

    [[nodiscard]] constexpr multiboot_kernel load(file_bytes file, const char* command_line,
                                                  const multiboot_module* modules,
                                                  std::uint32_t module_count) {
        loaded_ = {};
        const multiboot_kernel kernel = load_kernel(file);
        return kernel ? inform(kernel.entry, command_line, modules, module_count) : kernel;
    }

private:
    static constexpr std::uint32_t header_magic = 0x1BAD'B002;
    static constexpr std::uint32_t searched = 8192;
    static constexpr std::uint32_t page = 4096;

    // Header flags: what is required is in bits 15:0.
    static constexpr std::uint32_t required = 0xFFFF;
    static constexpr std::uint32_t wants_pages = 1U << 0;  // modules are on pages anyway
    static constexpr std::uint32_t wants_memory = 1U << 1; // and the memory is always told
    static constexpr std::uint32_t has_addresses = 1U << 16;

    static constexpr multiboot_kernel failed(multiboot_error why, std::uint64_t where) {
        return {.error = why, .where = where};
    }

    /// From the kernel's first byte in memory to its last, and how much of it there is.
    struct extent {
        std::uint64_t first = ~std::uint64_t{0};
        std::uint64_t last = 0;
        std::uint64_t bytes = 0;
    };

    constexpr std::uint64_t memory_size() const {
        std::uint64_t size = 0;
        for (const ram_piece& piece : ram_) {
            size += piece.at.size();
        }
        return size;
    }

    /// Copies `from` to `to` and clears what is left of `size`.
    constexpr multiboot_kernel place(file_bytes from, std::uint64_t to, std::uint64_t size) {
        const ram_piece* const piece = ram_.find(pt::gpa{to});
        const auto bytes = ram_.bytes(pt::gpa{to}, size);
        if (!bytes || piece->kind != memory_kind::available || to + size > 0x1'0000'0000) {
            return failed(multiboot_error::outside_memory, to);
        }
        if (size > memory_size() - loaded_.bytes) { // segments that lie on each other
            return failed(multiboot_error::too_large, to);
        }
        for (std::uint64_t i = 0; i != from.size; ++i) {
            (*bytes)[i] = from.bytes[i];
        }
        for (std::uint64_t i = from.size; i != size; ++i) {
            (*bytes)[i] = 0;
        }
        loaded_.bytes += size;
        loaded_.first = to < loaded_.first ? to : loaded_.first;
        loaded_.last = to + (size - 1) > loaded_.last ? to + (size - 1) : loaded_.last;
        return {};
    }

    constexpr multiboot_kernel load_kernel(file_bytes file) {
        for (std::uint64_t at = 0; at + 12 <= searched && file.has(at, 12); at += 4) {
            if (word_at<std::uint32_t>(file.bytes + at) != header_magic) {
                continue;
            }
            const auto flags = word_at<std::uint32_t>(file.bytes + at + 4);
            const auto checksum = word_at<std::uint32_t>(file.bytes + at + 8);
            if (static_cast<std::uint32_t>(header_magic + flags + checksum) != 0) {
                continue; // something else with the same number
            }
            if ((flags & required & ~(wants_pages | wants_memory)) != 0) {
                return failed(multiboot_error::unknown_flag, flags);
            }
            return (flags & has_addresses) != 0 ? load_by_addresses(file, at) : load_elf(file);
        }
        return failed(multiboot_error::no_header, 0);
    }

    constexpr multiboot_kernel load_by_addresses(file_bytes file, std::uint64_t header) {
        if (!file.has(header, 32) || header + 32 > searched) {
            return failed(multiboot_error::header_cut_off, header);
        }
        const auto field = [&](unsigned offset) {
            return std::uint64_t{word_at<std::uint32_t>(file.bytes + header + offset)};
        };
        const std::uint64_t header_address = field(12);
        const std::uint64_t load_address = field(16);
        const std::uint64_t load_end = field(20); // 0: the end of the file
        const std::uint64_t bss_end = field(24);  // 0: there is none
        const std::uint64_t entry = field(28);

        if (load_address > header_address || header_address - load_address > header) {
            return failed(multiboot_error::bad_addresses, header);
        }
        const std::uint64_t offset = header - (header_address - load_address);
        const std::uint64_t size = load_end == 0 ? file.size - offset : load_end - load_address;
        if (!file.has(offset, size)) { // an end before the beginning makes it more than there is
            return failed(multiboot_error::bad_addresses, header);
        }
        const std::uint64_t end = load_address + size;
        if (bss_end != 0 && bss_end < end) {
            return failed(multiboot_error::bad_addresses, header);
        }
        const std::uint64_t in_memory = bss_end == 0 ? size : bss_end - load_address;
        if (in_memory == 0) {
            return failed(multiboot_error::nothing_loaded, header);
        }
        const multiboot_kernel placed = place({file.bytes + offset, size}, load_address, in_memory);
        return placed ? entered(entry) : placed;
    }

    constexpr multiboot_kernel entered(std::uint64_t entry) const {
        if (loaded_.bytes == 0) {
            return failed(multiboot_error::nothing_loaded, 0);
        }
        if (entry < loaded_.first || entry > loaded_.last) {
            return failed(multiboot_error::bad_entry, entry);
        }
        return {.entry = static_cast<std::uint32_t>(entry)};
    }

    /// A segment of a program header, from a file of either class.
    struct segment {
        std::uint32_t type = 0;
        std::uint64_t offset = 0;
        std::uint64_t virtual_address = 0;
        std::uint64_t physical_address = 0;
        std::uint64_t file_size = 0;
        std::uint64_t memory_size = 0;

        static constexpr segment of(const std::uint8_t* at, unsigned word) {
            if (word == 4) {
                return {word_at<std::uint32_t>(at),      word_at<std::uint32_t>(at + 4),
                        word_at<std::uint32_t>(at + 8),  word_at<std::uint32_t>(at + 12),
                        word_at<std::uint32_t>(at + 16), word_at<std::uint32_t>(at + 20)};
            }
            return {word_at<std::uint32_t>(at),      word_at<std::uint64_t>(at + 8),
                    word_at<std::uint64_t>(at + 16), word_at<std::uint64_t>(at + 24),
                    word_at<std::uint64_t>(at + 32), word_at<std::uint64_t>(at + 40)};
        }
    };

    constexpr multiboot_kernel load_elf(file_bytes file) {
        constexpr std::uint8_t identification[4] = {0x7F, 'E', 'L', 'F'};
        for (unsigned i = 0; i != 4; ++i) {
            if (!file.has(i, 1) || file.bytes[i] != identification[i]) {
                return failed(multiboot_error::no_elf, 0);
            }
        }
        if (!file.has(0, 64)) { // a 32-bit file with less has no segment either
            return failed(multiboot_error::bad_elf, 0);
        }
        const std::uint8_t file_class = file.bytes[4];
        const auto type = word_at<std::uint16_t>(file.bytes + 16);
        const auto processor = word_at<std::uint16_t>(file.bytes + 18);
        const bool is_32 = file_class == 1 && processor == 3;
        const bool is_64 = file_class == 2 && processor == 62;
        if ((!is_32 && !is_64) || file.bytes[5] != 1 || type != 2) {
            return failed(multiboot_error::no_elf, 0);
        }
        const unsigned word = is_32 ? 4 : 8;
        const std::uint64_t entry = is_32 ? std::uint64_t{word_at<std::uint32_t>(file.bytes + 24)}
                                          : word_at<std::uint64_t>(file.bytes + 24);
        const std::uint64_t table = is_32 ? std::uint64_t{word_at<std::uint32_t>(file.bytes + 28)}
                                          : word_at<std::uint64_t>(file.bytes + 32);
        const std::uint8_t* const sizes = file.bytes + (is_32 ? 42 : 54);
        const auto entry_size = word_at<std::uint16_t>(sizes);
        const auto count = word_at<std::uint16_t>(sizes + 2);
        if (entry_size < (is_32 ? 32 : 56) || !file.has(table, std::uint64_t{entry_size} * count)) {
            return failed(multiboot_error::bad_elf, table);
        }
        std::uint64_t physical_entry = entry;
        for (std::uint32_t i = 0; i != count; ++i) {
            const std::uint64_t at = table + std::uint64_t{entry_size} * i;
            const segment part = segment::of(file.bytes + at, word);
            if (part.type != 1 || part.memory_size == 0) {
                continue;
            }
            if (!file.has(part.offset, part.file_size) || part.file_size > part.memory_size) {
                return failed(multiboot_error::bad_elf, at);
            }
            const multiboot_kernel placed = place({file.bytes + part.offset, part.file_size},
                                                  part.physical_address, part.memory_size);
            if (!placed) {
                return placed;
            }
            // The entry point is an address of the linked program, which need not be where it lies.
            if (entry - part.virtual_address < part.memory_size) {
                physical_entry = entry - part.virtual_address + part.physical_address;
            }
        }
        return entered(physical_entry);
    }

    /// The memory that follows the kernel, from below upwards.
    class free_memory {
    public:
        constexpr free_memory(const guest_ram& ram, std::uint64_t first)
            : ram_{&ram}, next_{first} {}

        /// `size` bytes, aligned. errc::out_of_range with the address: there is no room.
        constexpr pt::result<std::uint8_t*> take(std::uint64_t size, std::uint64_t alignment) {
            next_ = (next_ + alignment - 1) & ~(alignment - 1);
            const ram_piece* const piece = ram_->find(pt::gpa{next_});
            const auto bytes = ram_->bytes(pt::gpa{next_}, size);
            if (!bytes || piece->kind != memory_kind::available || next_ + size > 0x1'0000'0000) {
                return pt::error{pt::errc::out_of_range, next_};
            }
            taken_ = next_;
            next_ += size;
            return bytes;
        }
        /// Where the bytes lie that take() gave last.
        constexpr std::uint32_t taken() const { return static_cast<std::uint32_t>(taken_); }

    private:
        const guest_ram* ram_;
        std::uint64_t next_;
        std::uint64_t taken_ = 0;
    };

    static constexpr std::uint64_t length(const char* text) {
        std::uint64_t size = 0;
        while (text[size] != 0) {
            ++size;
        }
        return size;
    }

    static constexpr pt::result<std::uint32_t> put_text(free_memory& memory, const char* text) {
        const std::uint64_t size = length(text) + 1;
        const auto to = memory.take(size, 1);
        if (!to) {
            return to.error();
        }
        for (std::uint64_t i = 0; i != size; ++i) {
            (*to)[i] = static_cast<std::uint8_t>(text[i]);
        }
        return memory.taken();
    }

    constexpr multiboot_kernel inform(std::uint32_t entry, const char* command_line,
                                      const multiboot_module* modules, std::uint32_t module_count) {
        // Also of a kernel below 1 MiB, where there is little room.
        constexpr std::uint64_t high_memory = 0x10'0000;
        free_memory memory{ram_, loaded_.last < high_memory ? high_memory : loaded_.last + 1};
        const auto no_room = [&](std::uint64_t where) {
            return failed(multiboot_error::no_room, where);
        };

        constexpr std::uint32_t information_size = 120;
        constexpr std::uint32_t module_size = 16;
        constexpr std::uint32_t map_entry_size = 24;
        const auto information = memory.take(information_size, page);
        if (!information) {
            return no_room(information.error().where);
        }
        const std::uint32_t information_at = memory.taken();
        const auto list = memory.take(std::uint64_t{module_size} * module_count, 4);
        const std::uint32_t list_at = memory.taken();
        const auto pieces = static_cast<std::uint32_t>(ram_.end() - ram_.begin());
        const auto map = memory.take(std::uint64_t{map_entry_size} * pieces, 4);
        const std::uint32_t map_at = memory.taken();
        const auto words = put_text(memory, command_line);
        const auto name = put_text(memory, "pt");
        if ((module_count != 0 && !list) || !map || !words || !name) {
            return no_room(information_at);
        }
        for (std::uint32_t i = 0; i != module_count; ++i) {
            const multiboot_module& module = modules[i];
            const auto text = put_text(memory, module.words);
            const auto to = memory.take(module.file.size, page);
            if (!text || !to) {
                return no_room(information_at);
            }
            for (std::uint64_t byte = 0; byte != module.file.size; ++byte) {
                (*to)[byte] = module.file.bytes[byte];
            }
            std::uint8_t* const description = *list + std::size_t{module_size} * i;
            put_word(description, memory.taken());
            put_word(description + 4,
                     static_cast<std::uint32_t>(memory.taken() + module.file.size));
            put_word(description + 8, *text);
            put_word(description + 12, std::uint32_t{0});
        }
        std::uint8_t* line = *map;
        for (const ram_piece& piece : ram_) {
            put_word(line, map_entry_size - 4);
            put_word(line + 4, piece.at.first().raw);
            put_word(line + 12, piece.at.size());
            put_word(line + 20, static_cast<std::uint32_t>(piece.kind));
            line += map_entry_size;
        }

        std::uint8_t* const out = *information;
        for (std::uint32_t i = 0; i != information_size; ++i) {
            out[i] = 0;
        }
        constexpr std::uint32_t told = 1U << 0 | 1U << 2 | 1U << 3 | 1U << 6 | 1U << 9;
        put_word(out, told);
        put_word(out + 4, kibibytes_from(pt::gpa{0}));
        put_word(out + 8, kibibytes_from(pt::gpa{0x10'0000}));
        put_word(out + 16, *words);
        put_word(out + 20, module_count);
        put_word(out + 24, list_at);
        put_word(out + 44, map_entry_size * pieces);
        put_word(out + 48, map_at);
        put_word(out + 64, *name);
        return {.entry = entry, .information = information_at};
    }

    /// Of available memory from there on, up to the first hole; as low memory not above 640.
    constexpr std::uint32_t kibibytes_from(pt::gpa at) const {
        const ram_piece* const piece = ram_.find(at);
        if (piece == nullptr || piece->kind != memory_kind::available) {
            return 0;
        }
        const std::uint64_t size = (piece->at.size() - (at - piece->at.first())) / 1024;
        const std::uint64_t most = at.raw == 0 ? 640 : 0xFFFF'FFFF;
        return static_cast<std::uint32_t>(size < most ? size : most);
    }

    guest_ram ram_;
    extent loaded_{};
};

} // namespace vmm::pc
