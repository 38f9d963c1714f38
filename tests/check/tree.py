# SPDX-License-Identifier: BSL-1.0
"""Where things are in the tree, and running commands on all cores; shared by the checks."""
import concurrent.futures
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "include"
BUILD = ROOT / "build" / "check"

# Messages in one language, so that they can be searched.
ENVIRONMENT = {**os.environ, "LC_ALL": "C"}

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
HOSTED = ["-std=c++20", f"-I{INCLUDE}"]
FREESTANDING = HOSTED + ["-ffreestanding", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-mno-red-zone",
                         "-mgeneral-regs-only",
                         # Some distributions turn it on by default; a kernel that has no canary turns it off.
                         "-fno-stack-protector"]


def files(*suffixes):
    """All files of the project with one of these suffixes (a name without a dot is a whole file name)."""
    found = []
    for directory, names, leaves in os.walk(ROOT):
        here = pathlib.Path(directory)
        # build/ and what tools leave behind are not ours; .ci is.
        names[:] = [n for n in names if n == ".ci" or not (n.startswith(".") or n in ("build", "__pycache__"))]
        found += [here / leaf for leaf in leaves if pathlib.Path(leaf).suffix in suffixes or leaf in suffixes]
    return sorted(found)


def headers():
    return sorted((INCLUDE / "pt").rglob("*.hpp"))


def is_hosted(header):
    return header.relative_to(INCLUDE / "pt").parts[0] == "hosted"


def in_parallel(function, items, jobs):
    """The results of function(item), in the items' order."""
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(function, items))


def run(command):
    """(exit status, everything that it printed)"""
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", env=ENVIRONMENT, cwd=ROOT)
    return done.returncode, done.stdout
