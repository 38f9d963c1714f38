// SPDX-License-Identifier: BSL-1.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

/// What stands between the code under measurement and the program that measures it.
///
/// The rows (flavour.cpp, and the folders that bench/CMakeLists.txt names) are compiled twice, into two
/// programs: `general`, as a kernel is built, and `native`, with all vector registers of the machine.
/// main.cpp is compiled as any program is, and includes nothing but this header, so that no inline function of
/// pt is in a program twice, compiled in two ways (bench/flavours.py looks).
namespace bench {

/// Memory for tables, every page of it touched before. Each row begins at its first frame.
struct region {
    std::uint64_t* entries;  ///< of `frames` frames
    std::uint64_t* returned; ///< room for the address of each of them
    std::size_t frames;
};

/// "general" or "native".
extern const char* const flavour;

/// One row of the results: the time that one of `pieces` takes, where run() does them all.
struct row {
    const char* name;
    std::uint64_t pieces;
    unsigned runs;      ///< measured runs in a repetition
    unsigned threads;   ///< that run at the same time, 1 or 2
    std::size_t frames; ///< that a region must have for it

    // Each says whether all went as it should.
    bool (*set_up)(const region&);
    bool (*run)(unsigned thread); ///< the one that is measured
    bool (*undo)();               ///< so that it can run again
    void (*tear_down)();
};

using add_row = void (*)(const row&);

void add_fill_rows(add_row add);
void add_size_rows(add_row add);
void add_single_rows(add_row add);
void add_translate_rows(add_row add);
void add_split_join_rows(add_row add);
void add_two_threads_rows(add_row add);
void add_local_apic_rows(add_row add);
void add_io_exit_rows(add_row add);
void add_e1000e_transmit_rows(add_row add);
void add_e1000e_engine_rows(add_row add);
void add_assign_exit_rows(add_row add);
void add_assign_change_rows(add_row add);

/// The compiler has to assume that somebody looks at the value and at all memory.
template <class T>
inline void keep(const T& value) {
    asm volatile("" : : "r"(value) : "memory");
}

/// The value, of which the compiler no longer knows anything, as if a guest had chosen it.
inline std::uint64_t unknown(std::uint64_t value) {
    asm("" : "+r"(value));
    return value;
}

/// A row from a class, whose constructor takes the region and sets up, and whose destructor tears
/// down. Objects lie where the compiler cannot know what they hold.
template <class Work>
struct row_of {
    static constexpr row make(const char* name, std::uint64_t pieces, unsigned runs,
                              std::size_t frames, unsigned threads = 1) {
        return {.name = name,
                .pieces = pieces,
                .runs = runs,
                .threads = threads,
                .frames = frames,
                .set_up = [](const region& all) { return (new (room) Work{all})->ready(); },
                .run = [](unsigned thread) { return it().run(thread); },
                .undo = [] { return it().undo(); },
                .tear_down = [] { it().~Work(); }};
    }

private:
    static Work& it() {
        Work* work = std::launder(reinterpret_cast<Work*>(room));
        asm("" : "+r"(work));
        return *work;
    }
    alignas(alignof(Work) > 128 ? alignof(Work)
                                : 128) inline static unsigned char room[sizeof(Work)]{};
};

} // namespace bench
