#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Draws docs/pictures/bar_write.svg: which blocks a guest's write to a BAR touches, and how it can end.

    docs/pictures/bar_write.py > docs/pictures/bar_write.svg
"""

WIDTH, TOP, STEP, HIGH = 980, 100, 92, 62
INK, SOFT = "#1b2733", "#42536b"
GOOD, BAD, WAIT = "#1f7a3d", "#b3261e", "#9a6700"
LEFT, BLOCK, RIGHT = (30, 190), (270, 330), (670, 280)  # x, width

# (what the guest, or the step, is about; the block; what it does; (how it can end here, colour))
ROWS = [
    ("OUT 0xCFC", "assign::processor, pci::config_ports", "the exit; which function, which register", None),
    ("what it means", "pci::virtual_function_view", "a probe? both halves? is decoding on?",
     ("a probe, or half an address:", "nothing moves", SOFT)),
    ("whose place it is", "assign::claims", "taken before anything is mapped",
     ("refused: memory, local APIC, a device, a BAR;", "the BAR answers nowhere, reported once", BAD)),
    ("the new place", "paging::table (EPT)", "map, without the pages that must exit",
     ("failed: no frame for a table;", "the BAR stays where it was, reported once", WAIT)),
    ("the old place", "paging::table (EPT)", "unmap; its claim is owed from here on", None),
    ("caches", "assign::guest_processors", "invalidate: the old place is forgotten",
     ("no answer: the old place stays owed;", "nobody else gets it before settle() succeeds", WAIT)),
    ("", "the claim of the old place goes", "others may have it",
     ("done", "", GOOD)),
]
PORTS = ("an I/O BAR", "vmx::shared_io_bitmap", "close, open: between pause() and resume()",
         ("other numbers than the host's, or a port", "that the VMM plays: forwarded, not opened", SOFT))


def text(x, y, words, size=14, anchor="middle", weight="normal", fill=INK, family="sans-serif"):
    return (f'<text x="{x}" y="{y}" font-family="{family}" font-size="{size}" font-weight="{weight}" '
            f'text-anchor="{anchor}" fill="{fill}">{words}</text>')


def box(x, y, width, height, fill, stroke="#9fb0c3"):
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" stroke="{stroke}"/>'


def arrow(x1, y1, x2, y2, colour, head):
    return (f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.7" '
            f'marker-end="url(#{head})"/>')


HEAD = {SOFT: "head", GOOD: "good", BAD: "bad", WAIT: "wait"}


def row(y, about, block, does, end):
    x, width = BLOCK
    out = [box(x, y, width, HIGH, "#ffffff"),
           text(x + width / 2, y + 26, block, 14, family="monospace" if "::" in block else "sans-serif"),
           text(x + width / 2, y + 47, does, 12, fill=SOFT),
           text(LEFT[0] + LEFT[1], y + 36, about, 14, "end")]
    if end:
        first, second, colour = end
        middle = y + HIGH / 2
        out.append(arrow(x + width + 2, middle, RIGHT[0] - 4, middle, colour, HEAD[colour]))
        out.append(text(RIGHT[0] + 4, middle + (5 if not second else -3), first, 13, "start",
                        "bold" if not second else "normal", colour))
        if second:
            out.append(text(RIGHT[0] + 4, middle + 15, second, 13, "start", fill=colour))
    return out


def main():
    ports_at = TOP + STEP * len(ROWS) + 26
    height = ports_at + HIGH + 64
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
           '<!-- SPDX-License-Identifier: BSL-1.0 -->',
           "<title>Which blocks a guest's write to a BAR touches</title>", '<defs>']
    for colour, name in HEAD.items():
        out.append(f'<marker id="{name}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
                   f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{colour}"/></marker>')
    out += ['</defs>', f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            box(BLOCK[0] - 16, 16, BLOCK[1] + 32, height - 32, "#eef8f0", "#d5dde6"),
            text(BLOCK[0] + BLOCK[1] / 2, 46, "VMM, with pt", 18, weight="bold"),
            text(LEFT[0] + LEFT[1], 46, "a memory BAR moves", 16, "end", "bold"),
            text(RIGHT[0] + 4, 46, "how it can end", 16, "start", "bold"),
            text(BLOCK[0] + BLOCK[1] / 2, 76, "under the locks of config space, view and guest", 12, fill=SOFT)]
    for i, (about, block, does, end) in enumerate(ROWS):
        y = TOP + i * STEP
        out += row(y, about, block, does, end)
        if i + 1 < len(ROWS):
            middle = BLOCK[0] + BLOCK[1] / 2
            out.append(arrow(middle, y + HIGH + 2, middle, y + STEP - 3, SOFT, "head"))
    out += row(ports_at, *PORTS)
    out.append(text(BLOCK[0] + BLOCK[1] / 2, height - 30,
                    "untouched: the device's own BARs, DMA, interrupts", 12, fill=SOFT))
    out.append("</svg>")
    print("\n".join(out))


if __name__ == "__main__":
    main()
