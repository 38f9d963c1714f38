// SPDX-License-Identifier: BSL-1.0
//
// Stands where a VMM stands, to test what is around it: the runner, the disk that it makes, and the
// code that reads that. It tells on COM1 what it has been given, and ends as its words say.
#include "../../../../examples/kernel/clock.hpp"
#include "../../../../examples/kernel/command_line.hpp"
#include "../../../../examples/kernel/end.hpp"
#include "../../../../examples/kernel/output.hpp"
#include "../../../../examples/kernel/ports.hpp"
#include "../../../../examples/kernel/start.hpp"
#include "../../../../examples/vmm/vmx/disk.hpp"
#include "../../../../examples/vmm/vmx/disk_files.hpp"

namespace {

using disk = vmm::disk<kernel::ports, kernel::clock>;

void say(const char* text) { kernel::print(text); }

/// A line about a file. FNV-1a of 32 bits is what the test computes, too.
void tell(const char* words, const std::byte* first, std::uint32_t size) {
    std::uint32_t sum = 0x811C'9DC5;
    for (std::uint32_t i = 0; i < size; ++i) {
        sum = (sum ^ static_cast<std::uint32_t>(first[i])) * 0x0100'0193;
    }
    say("file [");
    say(words);
    say("] of ");
    kernel::print_decimal(size);
    say(" bytes, sum ");
    kernel::print_decimal(sum);
    say("\n");
}

void tell_of_modules(const kernel::multiboot_information& loaded) {
    for (std::uint32_t i = 0; i < loaded.module_count; ++i) {
        const kernel::multiboot_module& each = *loaded.module(i);
        tell(kernel::pointer_to<const char>(pt::hpa{each.words}),
             kernel::pointer_to<const std::byte>(pt::hpa{each.start}), each.end - each.start);
    }
}

pt::result<void> tell_of_disk() {
    static vmm::disk_files files;
    disk first{kernel::ports{}, kernel::clock{}};
    if (const auto opened = files.open(first); !opened) {
        return opened;
    }
    auto* const room = kernel::pointer_to<std::byte>(pt::hpa{0x0200'0000});
    for (std::uint32_t i = 0; i < files.count(); ++i) {
        if (const auto loaded = files.load(first, i, room); !loaded) {
            return loaded;
        }
        tell(files.words(i), room, files.size(i));
    }
    // Beyond the disk's end it says so, and nobody waits for ever.
    const auto beyond = first.read(disk::sectors - 1, 1, room);
    say("the last sector that an address can name: ");
    say(pt::name(beyond ? pt::errc::none : beyond.error().code));
    const auto no_address = first.read(disk::sectors, 1, room);
    say("\nthe one behind it: ");
    say(pt::name(no_address ? pt::errc::none : no_address.error().code));
    say("\n");
    return {};
}

[[noreturn]] void hang() {
    for (;;) {
        asm volatile("pause");
    }
}

} // namespace

void kernel::run(const multiboot_information& loaded) {
    clock::start();
    start(serial_port::com2);
    print_to(serial_port::com2);
    say("words [");
    say(command_line());
    say("]\n");

    print_to(serial_port::com1);
    if (loaded.has(multiboot_information::has_modules)) {
        tell_of_modules(loaded);
    } else if (const auto told = tell_of_disk(); !told) {
        say(pt::name(told.error().code));
        print(" at sector ");
        print_decimal(told.error().where);
        say("\n");
    }
    drain(serial_port::com1);

    print_to(serial_port::com2);
    if (told("hang")) {
        hang();
    }
    if (told("silent")) {
        end(0);
    }
    if (const char* words = told_after("end="); words != nullptr) { // with _ for blanks
        say("end of run: ");
        for (; *words != '\0' && *words != ' '; ++words) {
            put(serial_port::com2, *words == '_' ? ' ' : *words);
        }
        say("\n");
        drain(serial_port::com2);
        end(0);
    }
    const auto code = number_told("code=");
    say("end of run: status ");
    print_decimal(code ? *code : 1);
    say("\n");
    drain(serial_port::com2);
    end(code ? static_cast<std::uint32_t>(*code) : 1);
}
