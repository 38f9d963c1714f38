#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The documentation: every relative link leads somewhere, every policy has its page in the index, every picture is what
its script draws, the C++ of a page that says `<!-- compiled in FILE -->` stands in that file, and what lies between
`<!-- printed by SCRIPT -->` and `<!-- end -->` is what the script prints."""
import re
import subprocess
import sys

import tree

LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
COMPILED = re.compile(r"^<!-- compiled in ([\w/., ]+) -->$", re.M)
BLOCK = re.compile(r"^```cpp\n(.*?)^```", re.M | re.S)
PRINTED = re.compile(r"^<!-- printed by ([\w/.]+) -->\n(.*?)^<!-- end -->$", re.M | re.S)
GAP = re.compile(r"^\s*// \.\.\.\s*$", re.M)
COMMENT = re.compile(r"//[^\n]*")
CONCEPT = re.compile(r"^concept (\w+) = (?:\w+::)*policy<", re.M)


def bare(code):
    """Without comments and spaces, which a page has its own way with."""
    return "".join(COMMENT.sub("", code).split())


def not_compiled(text):
    """How many pieces of C++ a page has (parted by `// ...`), and the first lines of those in none of its files."""
    names = ",".join(COMPILED.findall(text)).replace(" ", "").split(",")
    sources = [bare((tree.ROOT / name).read_text(encoding="utf-8")) for name in names if name]
    pieces = [piece for block in BLOCK.findall(text) for piece in GAP.split(block)] if sources else []
    return len(pieces), [piece.strip().splitlines()[0] for piece in pieces
                         if bare(piece) and not any(bare(piece) in source for source in sources)]


def main():
    errors = []
    pages = tree.files(".md")
    links = blocks = 0
    for page in pages:
        count, missing = not_compiled(page.read_text(encoding="utf-8"))
        blocks += count
        errors += [f"{page.relative_to(tree.ROOT)}: not in the file that compiles it: {line}" for line in missing]
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            links += 1
            if not (page.parent / target).exists():
                errors.append(f"{page.relative_to(tree.ROOT)}: {target} is not there")

        for script, shown in PRINTED.findall(page.read_text(encoding="utf-8")):
            done = subprocess.run([sys.executable, tree.ROOT / script], capture_output=True, text=True)
            if done.returncode or done.stdout != shown:
                errors.append(f"{page.relative_to(tree.ROOT)}: not what {script} prints: run it with --write"
                              + (f" ({done.stderr.strip()})" if done.returncode else ""))

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
    print(f"{len(pages)} pages, {links} links, {len(policies)} policies, {blocks} compiled pieces of code, "
          f"{len(scripts)} pictures, {len(errors)} errors")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main())
