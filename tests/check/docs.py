#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The documentation: every relative link leads somewhere, every policy has its page in the index, and every picture is
what its script draws."""
import re
import subprocess
import sys

import tree

LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
CONCEPT = re.compile(r"^concept (\w+) = (?:\w+::)*policy<", re.M)


def main():
    errors = []
    pages = tree.files(".md")
    links = 0
    for page in pages:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            links += 1
            if not (page.parent / target).exists():
                errors.append(f"{page.relative_to(tree.ROOT)}: {target} is not there")

    index = (tree.ROOT / "docs/README.md").read_text(encoding="utf-8")
    policies = {name for header in tree.headers() for name in CONCEPT.findall(header.read_text(encoding="utf-8"))}
    policies.discard("entry_format")  # a format of the engine, explained in docs/paging.md: not brought by a VMM
    for policy in sorted(policies):
        if f"(policies/{policy}.md)" not in index:
            errors.append(f"docs/README.md: no page for the policy {policy}")

    scripts = sorted((tree.ROOT / "docs/pictures").glob("*.py"))
    for script in scripts:
        drawn = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
        picture = script.with_suffix(".svg")
        if not picture.is_file() or picture.read_text(encoding="utf-8") != drawn:
            errors.append(f"{picture.relative_to(tree.ROOT)} is not what {script.name} draws: run it again")

    for error in errors:
        print(error)
    print(f"{len(pages)} pages, {links} links, {len(policies)} policies, {len(scripts)} pictures, {len(errors)} errors")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
