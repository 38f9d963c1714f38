#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""`./run check`: every check, cheap ones first; a failed one does not keep the others from speaking."""
import argparse
import subprocess
import sys
import time

import tree

parser = argparse.ArgumentParser()
parser.add_argument("--jobs", type=int, default=1)
parallel = ["--jobs", str(parser.parse_args().jobs)]

CHECKS = [
    ("layers, includes and licence lines", ["includes.py"]),
    ("documentation", ["docs.py"]),
    ("formatting", ["style.py", "format", *parallel]),
    ("every header alone: g++ and clang++, hosted and freestanding, and its objects", ["headers.py", *parallel]),
    ("clang-tidy", ["style.py", "tidy", *parallel]),
]

failed = []
for name, (script, *arguments) in CHECKS:
    print(f"\n== check: {name}", flush=True)
    start = time.monotonic()
    if subprocess.run([sys.executable, tree.ROOT / "tests/check" / script, *arguments]).returncode:
        failed.append(name)
    print(f"({time.monotonic() - start:.0f} s)", flush=True)

if failed:
    sys.exit("\n== check: FAILED: " + "; ".join(failed))
print("\n== check: all passed")
