// SPDX-License-Identifier: BSL-1.0
#include "log.hpp"

#include "../../kernel/end.hpp"

namespace vmm {
namespace {

bool is_told = false;

} // namespace

void show(bytes_of size) {
    constexpr const char* units[] = {" bytes", " KiB", " MiB", " GiB"};
    unsigned unit = 0;
    while (unit != 3 && size.size != 0 && size.size % 1024 == 0) {
        size.size /= 1024;
        ++unit;
    }
    show(decimal{size.size});
    show(units[unit]);
}

void show(column text) {
    unsigned count = 0;
    for (const char* at = text.text; *at != '\0'; ++at) {
        ++count;
    }
    show(text.text);
    for (; count < text.width; ++count) {
        show(" ");
    }
}

void show(pt::pci::function_address function) {
    show(function.text().data() + (function.segment == 0 ? 5 : 0));
}

void show(const pt::error& error) {
    show(pt::name(error.code));
    show(" (");
    show(error.where);
    show(")");
}

void show_range(std::uint64_t first, std::uint64_t last) {
    show(first);
    show("..");
    show(last);
}

void start_log() {
    kernel::start(kernel::serial_port::com2);
    kernel::print_to(kernel::serial_port::com2);
}

void say_interrupt_for_nobody(std::uint8_t vector) {
    constexpr unsigned most_lines = 16;
    static unsigned lines = 0;
    if (lines == most_lines) {
        return;
    }
    say("an interrupt for nobody: vector ", std::uint64_t{vector},
        ++lines == most_lines ? ", and others that are not told any more" : "");
}

void tell_story() { is_told = true; }
bool is_story_told() { return is_told; }

void chapter(const char* title) {
    if (is_told) {
        say("\n", title);
    }
}

void give_up(const char* what, const pt::error& why) {
    say("end of run: ", what, ": ", why);
    kernel::end(kernel::run_failed);
}

void give_up(const char* what) {
    say("end of run: ", what);
    kernel::end(kernel::run_failed);
}

} // namespace vmm
