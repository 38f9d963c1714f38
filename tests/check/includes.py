#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The rules that are about text: layers, allowed standard headers, #pragma once, and the licence line of each file."""
import re
import sys

import tree

# What a freestanding header may include of the standard library (docs/design.md). Not <limits>, <span> and <array>: with
# the library of gcc 12, clang++ 14 refuses them under -mgeneral-regs-only, for their long double functions.
STANDARD = {"cstdint", "cstddef", "compare", "concepts", "type_traits", "bit", "utility", "initializer_list", "new"}

# Layer -> the layers that it may include besides itself. Arrows point down only.
FREESTANDING_LAYERS = {"core", "memory", "pci", "paging", "vtd", "vcpu", "vmx", "svm", "lapic", "e1000e", "assign"}
BELOW = {
    "core": set(),
    "memory": {"core"},
    "pci": {"core", "memory"},
    "paging": {"core", "memory"},
    "vtd": {"core", "memory", "pci", "paging"},
    "vcpu": {"core"},
    "vmx": {"core", "vcpu"},
    "svm": {"core", "vcpu", "vmx"},
    "lapic": {"core", "vcpu"},
    "e1000e": {"core"},
    "assign": FREESTANDING_LAYERS,
    "hosted": FREESTANDING_LAYERS,
}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
LICENCE = "SPDX-License-Identifier: BSL-1.0"


def layer_of(name):
    """The layer of `pt/...`; a header directly in pt/ is a layer of its own, named after itself."""
    return name.split("/")[1]


def allowed(header, kind, name):
    """None, or why `header` must not include `name`."""
    here = layer_of(header)
    if name.startswith("pt/"):
        if kind != '"':
            return f'<{name}>: pt includes its own headers as "{name}"'
        if not (tree.INCLUDE / name).is_file():
            return f"<{name}> does not exist"
        there = layer_of(name)
        if here == "version.hpp":
            return "version.hpp includes nothing"
        if there == "version.hpp":
            return None
        if here == "pt.hpp":
            return "<%s> is hosted" % name if there == "hosted" else None
        if there == "pt.hpp":
            return None if here == "hosted" else "only hosted/ may include <pt/pt.hpp>"
        if there != here and there not in BELOW[here]:
            return f"<{name}> is not in a layer below {here}/"
        return None
    if here == "hosted":
        return None
    if kind != "<" or name not in STANDARD:
        return f"{name} is not among the headers that freestanding code may include"
    return None


def main():
    errors = []
    for path in tree.headers():
        header = path.relative_to(tree.INCLUDE).as_posix()
        text = path.read_text(encoding="utf-8")
        layer = layer_of(header)
        if layer not in BELOW and layer not in ("pt.hpp", "version.hpp"):
            errors.append(f"include/{header}: {layer} is not a layer; tests/check/includes.py lists them")
            continue
        if not re.search(r"^#pragma once$", text, re.M):
            errors.append(f"include/{header}: no `#pragma once`")
        for match in INCLUDE.finditer(text):
            reason = allowed(header, match[1], match[2])
            if reason:
                line = text.count("\n", 0, match.start()) + 1
                errors.append(f"include/{header}:{line}: {reason}")

    # pt.hpp is everything that is freestanding: a header that it does not reach was forgotten.
    everything = tree.INCLUDE / "pt/pt.hpp"
    if everything.is_file():
        reached, queue = set(), ["pt/pt.hpp"]
        while queue:
            name = queue.pop()
            if name not in reached and (tree.INCLUDE / name).is_file():
                reached.add(name)
                queue += [m[2] for m in INCLUDE.finditer((tree.INCLUDE / name).read_text(encoding="utf-8"))]
        for path in tree.headers():
            name = path.relative_to(tree.INCLUDE).as_posix()
            if not tree.is_hosted(path) and name not in reached:
                errors.append(f"include/{name}: pt/pt.hpp does not include it")
    else:
        errors.append("include/pt/pt.hpp does not exist")

    licensed = tree.files(".hpp", ".cpp", ".h", ".S", ".asm", ".ld", ".py", ".sh", ".cmake", ".in", ".md", ".svg",
                          "CMakeLists.txt",
                          "run", ".clang-format", ".clang-tidy", ".gitignore", ".gitattributes")
    for path in licensed:
        with open(path, encoding="utf-8", errors="replace") as file:
            # At the top: after a `#!` line at most.
            if not any(LICENCE in line for line in file.readlines()[:2]):
                errors.append(f"{path.relative_to(tree.ROOT)}: no `{LICENCE}` at the top")

    for error in errors:
        print(error)
    print(f"{len(tree.headers())} headers, {len(licensed)} files with a licence line, {len(errors)} errors")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
