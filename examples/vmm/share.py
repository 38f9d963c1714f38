#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""How much of their code the VMMs have in common: a table for docs/vmm.md, in lines without comments and blanks.

    examples/vmm/share.py            prints it
    examples/vmm/share.py --write    puts it into the page

What a VMM is made of is what the files in its directory include, from file to file, with the source file beside each
header; and on a bare machine the runtime of examples/kernel. What only one VMM has is its own, wherever it lies. pt
itself, tests and the guest's program are not counted.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent
PAGE = EXAMPLES.parent / "docs/vmm.md"
VMMS = ("vmx", "svm", "kvm")
BEGIN, END = "<!-- printed by examples/vmm/share.py -->\n", "<!-- end -->\n"

SOURCES = (".hpp", ".cpp", ".S")
INCLUDE = re.compile(r'^#include "([^"]+)"', re.M)
COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/', re.S)
# In common, by where it lies; the last one that fits.
PLACES = {
    "vmm/loop": "the loop: exits, timers, guests in turn (`loop`)",
    "vmm/pc": "the PC that a guest finds (`pc`)",
    "vmm": "what the loop asks of a processor (`world.hpp`, `cpu_state.hpp`)",
    "vmm/machine": "the host's side: a guest, its NIC, the audits (`machine`)",
    "kernel": "a kernel's runtime (`examples/kernel`)",
}
WORLD = "the processor: entry, exit, and their words (`world`)"
MACHINE = "the machine: how it starts, and where files come from"
PROBE = "what this machine's KVM can do (`kvm/probe`)"


def runtime():
    """What every kernel has, by kernel.cmake."""
    text = (EXAMPLES / "kernel/kernel.cmake").read_text(encoding="utf-8")
    names = re.search(r"set\(PT_KERNEL_RUNTIME ([^)]*)\)", text).group(1).split()
    return [EXAMPLES / "kernel" / name for name in names]


def beside(file):
    """The files of which one is not used without the others: x.hpp, x.cpp, x_entry.S."""
    return [other for other in file.parent.iterdir()
            if other.suffix in SOURCES and other.stem in (file.stem, file.stem + "_entry")]


def files_of(vmm):
    found, left = set(), [file for file in (HERE / vmm).rglob("*") if file.suffix in SOURCES]
    if vmm != "kvm":
        left += runtime()
    if vmm == "vmx":
        left.append(EXAMPLES / "kernel/boot_sector.S")
    while left:
        file = left.pop()
        if file in found:
            continue
        found.add(file)
        included = [(file.parent / name).resolve()
                    for name in INCLUDE.findall(file.read_text(encoding="utf-8"))]
        for each in included:
            if each.is_file() and EXAMPLES in each.parents:
                left += beside(each)
    return found


def lines(file):
    """Of code."""
    text = COMMENT.sub(lambda found: found.group(1) or "", file.read_text(encoding="utf-8"))
    if file.suffix == ".S":
        text = re.sub(r"^\s*#(?!\s*(include|define|if|else|endif)).*$", "", text, flags=re.M)
    return sum(1 for line in text.splitlines() if line.strip())


def place(file):
    where = file.relative_to(EXAMPLES).as_posix()
    known = [name for name in PLACES if where.startswith(name + "/")]
    return PLACES[max(known, key=len)] if known else f"`{where.rsplit('/', 1)[0]}`"


def own_place(file):
    if file.stem == "world" or file.parent.name == "kernel" and file.stem != "boot_sector":
        return WORLD
    return PROBE if file.stem == "probe" else MACHINE


def table():
    files = {vmm: files_of(vmm) for vmm in VMMS}
    for vmm, parts in files.items():
        if HERE / "loop/virtual_pc.hpp" not in parts:
            sys.exit(f"share.py: nothing in examples/vmm/{vmm} includes the loop yet")

    common, own = {}, {name: dict.fromkeys(VMMS, 0) for name in (WORLD, MACHINE, PROBE)}
    for vmm, parts in files.items():
        for file in parts:
            if sum(file in others for others in files.values()) > 1:
                row = common.setdefault(place(file), dict.fromkeys(VMMS, 0))
            else:
                row = own[own_place(file)]
            row[vmm] += lines(file)

    def total(rows, vmm):
        return sum(row[vmm] for row in rows.values())

    order = list(PLACES.values())
    shown = sorted(common.items(), key=lambda row: order.index(row[0]) if row[0] in order else len(order))
    out = ["| Lines of code | `vmm-vmx` | `vmm-svm` | `vmm-kvm` |", "| --- | ---: | ---: | ---: |"]
    for name, row in shown:
        out.append(f"| {name} | " + " | ".join(str(row[vmm] or "") for vmm in VMMS) + " |")
    out.append("| **shared with another VMM** | " + " | ".join(f"**{total(common, vmm)}**" for vmm in VMMS) + " |")
    for name, row in own.items():
        out.append(f"| {name} | " + " | ".join(str(row[vmm] or "") for vmm in VMMS) + " |")
    out.append("| **its own** | " + " | ".join(f"**{total(own, vmm)}**" for vmm in VMMS) + " |")
    shares = [100 * total(common, vmm) / (total(common, vmm) + total(own, vmm)) for vmm in VMMS]
    out.append("| share that is shared | " + " | ".join(f"{share:.0f} %" for share in shares) + " |")
    return "\n".join(out) + "\n"


def main():
    if sys.argv[1:] not in ([], ["--write"]):
        sys.exit(__doc__)
    printed = table()
    if not sys.argv[1:]:
        print(printed, end="")
        return
    text = PAGE.read_text(encoding="utf-8")
    begin = text.index(BEGIN) + len(BEGIN)
    PAGE.write_text(text[:begin] + printed + text[text.index(END, begin):], encoding="utf-8")


if __name__ == "__main__":
    main()
