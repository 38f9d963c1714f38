#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Proves that each of the two programs measures what its name promises: the rows of `general` touch no vector register,
those of `native` do, and no function of theirs is also in another object of the program, from where the linker might
have taken it.

flavours.py DIRECTORY-OF-THE-BUILT-BENCHMARKS
"""
import pathlib
import re
import subprocess
import sys

VECTOR = re.compile(r"%[xyz]mm\d")


def output_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def objects(target):
    found = sorted(pathlib.Path(sys.argv[1]).glob(f"CMakeFiles/{target}.dir/**/*.o"))
    if not found:
        sys.exit(f"no object of {target} in {sys.argv[1]}")
    return found


def functions(files):
    listing = output_of("nm", "--defined-only", "--extern-only", "--format=posix", *files)
    return {fields[0] for fields in map(str.split, listing.splitlines()) if len(fields) > 1 and fields[1] in "TW"}


for flavour in ("general", "native"):
    rows = objects(f"pt_bench_rows_{flavour}")
    vectors = len(VECTOR.findall(output_of("objdump", "--disassemble", "--no-show-raw-insn", *rows)))
    own = functions(rows)
    shared = own & functions(objects(f"pt_bench_{flavour}"))
    print(f"{flavour}: {len(own)} functions in {len(rows)} objects; vector registers named {vectors} times; "
          f"{len(shared)} functions elsewhere too")
    if not own or shared or (vectors == 0) != (flavour == "general"):
        sys.exit(f"{flavour} is not compiled as its name says" + "".join(f"\n{name}" for name in sorted(shared)))
