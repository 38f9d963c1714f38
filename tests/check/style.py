#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""clang-format over all sources, or clang-tidy over all headers and over what is built from them."""
import argparse
import re
import sys

import tree

# The formatter's answer changes from version to version; this is the one (Debian 12) that decides.
FORMAT_VERSION = 14


def check_format(jobs):
    status, version = tree.run(["clang-format", "--version"])
    major = re.search(r"version (\d+)", version)
    if status or not major:
        print(f"clang-format does not run: {version}")
        return True
    sources = tree.files(".hpp", ".cpp")

    def attempt(source):
        return tree.run(["clang-format", "--dry-run", "-Werror", source])

    failed = [output for status, output in tree.in_parallel(attempt, sources, jobs) if status]
    for output in failed:
        print(output, end="")
    print(f"{len(sources)} files, {len(failed)} not as .clang-format has them")
    if failed and int(major[1]) != FORMAT_VERSION:
        print(f"not counted: this is clang-format {major[1]}, and only version {FORMAT_VERSION} decides")
        return False
    return bool(failed)


def check_tidy(jobs):
    tree.BUILD.mkdir(parents=True, exist_ok=True)
    everything = tree.BUILD / "all_headers.cpp"
    everything.write_text("".join(f"#include <{h.relative_to(tree.INCLUDE).as_posix()}>\n" for h in tree.headers()),
                          encoding="utf-8")
    # The programs under tests/fail are wrong on purpose; the consumer needs definitions that only its project has.
    apart = {tree.ROOT / "tests/fail", tree.ROOT / "tests/consumer"}
    sources = [everything] + [s for s in tree.files(".cpp") if not apart & set(s.parents)]

    def attempt(source):
        # The nearest .clang-tidy above each source counts; for the one in build/ that is the top one.
        return tree.run(["clang-tidy", "--quiet", source, "--", *tree.HOSTED, f'-DPT_SOURCE_DIR="{tree.ROOT}"'])

    failed = [output for status, output in tree.in_parallel(attempt, sources, jobs) if status]
    for output in failed:
        # Not the counts of what was suppressed in system headers.
        print(re.sub(r"^\d+ warnings? (and \d+ errors? )?generated\.\n|^Suppressed .*\n", "", output, flags=re.M), end="")
    print(f"{len(sources)} translation units, {len(failed)} with findings")
    return bool(failed)


parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["format", "tidy"])
parser.add_argument("--jobs", type=int, default=1)
args = parser.parse_args()
sys.exit({"format": check_format, "tidy": check_tidy}[args.what](args.jobs))
