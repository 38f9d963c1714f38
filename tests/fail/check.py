#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Checks one program that must not compile.

The program holds `#ifdef PT_FAIL` (the one wrong thing), `#else` (the same, right) and `#endif`, and says at its top
what a compiler has to answer:

    // expect: REGEX          both compilers
    // expect-gcc: REGEX      g++ only
    // expect-clang: REGEX    clang++ only

Without PT_FAIL it must compile, so that nothing but the wrong thing can be the reason of the failure. With PT_FAIL it
must fail, and every regex that applies must match somewhere in the messages.
"""
import argparse
import os
import re
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--compiler", required=True)
parser.add_argument("--include", required=True)
parser.add_argument("source")
args = parser.parse_args()

environment = {**os.environ, "LC_ALL": "C"}  # no translated messages, no typographic quotes
version = subprocess.run([args.compiler, "--version"], capture_output=True, text=True, env=environment, check=True)
is_clang = "clang" in version.stdout.lower()


def compile_it(*defines):
    # Without the quoted source lines: a regex must match what the compiler says, not what the program holds.
    quiet = "-fno-caret-diagnostics" if is_clang else "-fno-diagnostics-show-caret"
    # -Werror without -Wall: a dropped [[nodiscard]] counts, an unused parameter does not.
    command = [args.compiler, "-std=c++20", "-fsyntax-only", "-Werror", quiet,
               f"-I{args.include}", *defines, args.source]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    # Negative or above 2: the compiler crashed, which is no refusal.
    if done.returncode not in (0, 1):
        sys.exit(f"{args.compiler} ended with {done.returncode}\n{done.stderr}")
    return done.returncode == 0, done.stderr


with open(args.source, encoding="utf-8") as file:
    text = file.read()
if not re.search(r"^\s*#\s*ifdef\s+PT_FAIL\b", text, re.M) or not re.search(r"^\s*#\s*else\b", text, re.M):
    sys.exit("the program has no `#ifdef PT_FAIL` with an `#else`")
expectations = [regex for kind, regex in re.findall(r"^// expect(-gcc|-clang)?: *(\S.*?) *$", text, re.M)
                if kind in ("", "-clang" if is_clang else "-gcc")]
if not expectations:
    sys.exit(f"no `// expect...:` line is for {args.compiler}")

compiled, messages = compile_it()
if not compiled:
    sys.exit(f"without PT_FAIL it must compile, but does not:\n{messages}")

compiled, messages = compile_it("-DPT_FAIL")
if compiled:
    sys.exit("with PT_FAIL it must not compile, but does")
if re.search(r"fatal error: .*(No such file|file not found)", messages):
    sys.exit(f"an include is missing:\n{messages}")
for expected in expectations:
    if not re.search(expected, messages):
        sys.exit(f"it fails, as it must, but no message matches /{expected}/:\n{messages}")
print(f"{args.compiler} refuses it and says: " + "; ".join(f"/{e}/" for e in expectations))
