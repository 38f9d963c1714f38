#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Every public header alone, included twice, by g++ and clang++, hosted and freestanding.

The freestanding objects are then looked into. Those of g++ hold every inline function of the header, called or not, so
that an undefined symbol cannot hide behind `nobody called it`. Templates are emitted only where something instantiates
them: tests/freestanding/*.cpp are there for that, and are treated alike.
"""
import argparse
import re
import sys

import tree

# The compiler may emit calls of these four for plain assignments, freestanding or not.
LIBRARY = {"memcpy", "memset", "memmove", "memcmp"}
INITIALISERS = re.compile(r"\.(init_array|preinit_array|fini_array|ctors|dtors|tdata|tbss)\b")
# clang++ has no such switch that -mgeneral-regs-only goes with.
EMIT_UNUSED = {"g++": ["-fkeep-inline-functions", "-fno-asynchronous-unwind-tables"], "clang++": []}
STANDARD_LIBRARY = re.compile(r"_ZN?V?K?(St|Sa|Ss|9__gnu_cxx)|_Z(nw|na|dl|da)")


def undefined_symbols(thing):
    """What the object needs from elsewhere, leaving aside functions of the standard library that nothing calls."""
    status, defined = tree.run(["nm", "--defined-only", "--format=posix", thing])
    roots = [line.split()[0] for line in defined.splitlines() if not STANDARD_LIBRARY.match(line)]
    if status or not roots:
        return defined if status else ""
    pruned = thing.with_suffix(".pruned.o")
    arguments = thing.with_suffix(".roots")
    arguments.write_text("".join(f"--undefined={root}\n" for root in roots), encoding="utf-8")
    for command in (["ld", "-r", "--gc-sections", f"@{arguments}", thing, "-o", pruned],
                    ["strip", "--strip-unneeded", pruned]):
        status, messages = tree.run(command)
        if status:
            return messages
    missing = {line.split()[0] for line in tree.run(["nm", "--undefined-only", "--format=posix", pruned])[1].splitlines()}
    return ", ".join(tree.run(["c++filt", *sorted(missing - LIBRARY)])[1].splitlines()) if missing - LIBRARY else ""


def inspect(thing):
    """Errors in a freestanding object."""
    errors = []
    missing = undefined_symbols(thing)
    if missing:
        errors.append(f"undefined symbols: {missing}")
    status, sections = tree.run(["readelf", "--section-headers", "--wide", thing])
    found = sorted(set(INITIALISERS.findall(sections)))
    if status or found:
        errors.append("static initialisers or thread-local storage: " + ", ".join(found))
    return errors


def attempt(job):
    compiler, mode, source, name = job
    what = f"{name} ({compiler}, {mode})"
    if mode == "hosted":
        status, messages = tree.run([compiler, *tree.HOSTED, *tree.WARNINGS, "-fsyntax-only", source])
        return [f"{what}:\n{messages}"] if status else []
    if mode == "guard":
        status, messages = tree.run([compiler, *tree.FREESTANDING, "-fsyntax-only", source])
        # Both compilers show the line of the #error.
        return [] if status and re.search(r"#\s*error", messages) else [
            f"{name} ({compiler}): a freestanding build must meet an #error and does not:\n{messages}"]
    thing = source.with_name(f"{source.stem}.{compiler}{mode}.o")
    status, messages = tree.run([compiler, *tree.FREESTANDING, *tree.WARNINGS, *EMIT_UNUSED[compiler], mode,
                                 "-c", source, "-o", thing])
    if status:
        return [f"{what}, freestanding:\n{messages}"]
    return [f"{what}, freestanding: {error}" for error in inspect(thing)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1)
    jobs = parser.parse_args().jobs

    sources = tree.BUILD / "headers"
    sources.mkdir(parents=True, exist_ok=True)
    work = []
    for header in tree.headers():
        name = header.relative_to(tree.INCLUDE).as_posix()
        source = sources / (name.replace("/", ".") + ".cpp")
        source.write_text(f"#include <{name}>\n#include <{name}>\n", encoding="utf-8")
        modes = ["hosted", "guard"] if tree.is_hosted(header) else ["hosted", "-O0", "-O2"]
        work += [(compiler, mode, source, name) for compiler in EMIT_UNUSED for mode in modes]
    for program in sorted((tree.ROOT / "tests/freestanding").glob("*.cpp")):
        source = sources / ("freestanding." + program.name)
        source.write_text(f'#include "{program}"\n', encoding="utf-8")
        name = program.relative_to(tree.ROOT).as_posix()
        work += [(compiler, mode, source, name) for compiler in EMIT_UNUSED for mode in ("-O0", "-O2")]

    errors = [error for errors in tree.in_parallel(attempt, work, jobs) for error in errors]
    for error in errors:
        print(error)
    print(f"{len(tree.headers())} headers, {len(work)} compilations, {len(errors)} errors")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
